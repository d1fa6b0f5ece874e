"""Every step of every packet of a stack under fire: nothing raises, nothing changes, everything can be told as JSON."""

from __future__ import annotations

import json
from typing import Final

import pytest

from tests.test_fuzz import Target
from tests.trace.watch import Watch
from ustack.trace.journey import DELIVERED, DROPPED, ON_ITS_WAY, SENT, STOLEN, Journey

BATCHES: Final = 24
ENDS: Final = {DELIVERED, DROPPED, SENT, STOLEN, ON_ITS_WAY}


class Heard(Target):
    """Keeps what it sends."""

    def __init__(self, seed: int) -> None:
        self.heard: list[bytes] = []
        super().__init__(seed)

    def drain(self) -> list[bytes]:
        frames = super().drain()
        self.heard += frames
        return frames


class Told(Watch):
    """Looks at a journey when it ends, and forgets it."""

    def __init__(self, target: Target) -> None:
        super().__init__(t=target.stack)
        self.outcomes: set[str] = set()
        self.count = 0

    def journey(self, journey: Journey) -> None:
        self.count += 1
        self.outcomes.add(journey.outcome)
        assert bool(journey.reason) == (journey.outcome == DROPPED)
        for step in journey.steps:
            json.dumps([step.decision, step.facts])
            assert all(type(value) in (str, int, bool) for value in step.facts.values()), step.facts
            assert type(step.decision) is str


def run(seed: int, watched: bool) -> tuple[list[bytes], dict[str, int], dict[str, int], Told | None]:
    """What a target sent, counted and lost, watched or not."""
    target = Heard(seed)
    told = Told(target) if watched else None
    for number in range(BATCHES):
        if number % 4 == 0:
            target.connect()
        target.batch()
        if number % 3 == 0:
            target.use()
    if told is not None:
        told.end()
    drops = {reason.name: count for reason, count in target.stack.net.drops.items()}
    assert len(target.heard) > 100
    return target.heard, dict(target.stack.net.mib.snapshot()), drops, told


@pytest.mark.parametrize("seed", range(3))
def test_whatever_arrives_a_trace_neither_raises_nor_changes_anything(seed: int) -> None:
    *without, _ = run(seed, False)
    *with_trace, told = run(seed, True)
    assert with_trace == without
    assert told is not None
    assert told.count > 1000
    assert {DELIVERED, DROPPED} <= told.outcomes <= ENDS
