"""A trace changes nothing: the same attack on two stacks, one of them watched, and they stay the same to the byte.

What is told of it is fit to be told: every journey ends once, and goes through JSON and back.
"""

from __future__ import annotations

import msgspec
import pytest

from tests.test_fuzz import Target
from ustack.io.trace import JourneyInfo, journey_info
from ustack.trace.journey import DELIVERED, DROPPED, ON_ITS_WAY, SENT, STOLEN, Journey, Journeys, TraceWatcher

SEEDS = 6
BATCHES = 40
OUTCOMES = {DELIVERED, DROPPED, ON_ITS_WAY, SENT, STOLEN}


class Reader(TraceWatcher):
    """Reads every journey to the end."""

    def __init__(self, link_layer: bool) -> None:
        super().__init__(link_layer)
        self.idents: list[int] = []

    def matches(self, frame: bytes, length: int) -> bool:
        return True

    def journey(self, journey: Journey) -> None:
        info = journey_info(journey)
        assert info.outcome in OUTCOMES
        assert bool(info.reason) == (info.outcome == DROPPED)
        assert info.began <= info.ended
        assert all(step.point for step in info.steps)
        assert msgspec.json.decode(msgspec.json.encode(info), type=JourneyInfo) == info
        self.idents.append(info.ident)


class Traced(Target):
    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.journeys = Journeys()
        self.journeys.join(self.stack.net, "target")
        self.reader = Reader(link_layer=seed % 2 == 1)
        self.journeys.watch(self.reader)


def attack(target: Target) -> list[bytes]:
    """Everything that the target sends, and every socket's owner does."""
    frames = []
    for number in range(BATCHES):
        if number % 10 == 0:
            target.connect()
        for _ in range(50):
            target.inject(target.frames.frame())
        target.poll(target.random.choice((0, 0, 1_000_000, 40_000_000, 1_000_000_000)))
        frames += target.drain()
        if number % 3 == 0:
            target.use()
    return frames


@pytest.mark.parametrize("seed", range(SEEDS))
def test_a_watched_stack_does_what_the_other_does(seed: int) -> None:
    plain, traced = Target(seed), Traced(seed)
    assert attack(traced) == attack(plain)
    assert traced.stack.net.mib.snapshot() == plain.stack.net.mib.snapshot()
    assert traced.stack.net.drops == plain.stack.net.drops
    traced.journeys.end_all()
    idents = traced.reader.idents
    assert len(idents) > BATCHES * 40
    assert len(set(idents)) == len(idents), "one end each"
    # none is open, and nothing is left armed but what the other has armed too
    traced.journeys.unwatch(traced.reader)
    assert traced.stack.net.tracer is None
    assert traced.stack.net.timers.armed == plain.stack.net.timers.armed
