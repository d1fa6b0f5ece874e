"""Watching stacks in tests: the journeys of all packets, and which points any of them has passed.

with Pair(resolved=True) as pair, Watch(a=pair.a, b=pair.b) as watch:
    client.sendto(b"muffin", (B, 4747))
    pair.settle()
    journey = watch.one("UDP, length 6")
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Self

from ustack.trace.journey import Journeys, TraceWatcher
from ustack.wire.dump import describe

if TYPE_CHECKING:
    from ustack.stack import Stack
    from ustack.trace.journey import Journey, Step
    from ustack.trace.points import Point

#: Every point that a packet of these tests has passed so far; test_zz_points.py looks whether one is missing.
PASSED: Final[set[Point]] = set()


class Watch(TraceWatcher):
    """Follows every packet of the stacks it is given, by their names. Leaving the block ends what is not over."""

    def __init__(self, **stacks: Stack) -> None:
        super().__init__()
        self.journeys = Journeys()
        self.done: list[Journey] = []
        for host, stack in stacks.items():
            self.journeys.join(stack.net, host)
        self.journeys.watch(self)

    def journey(self, journey: Journey) -> None:
        self.done.append(journey)
        PASSED.update(step.point for step in journey.steps)

    def end(self) -> None:
        """End what is not over."""
        self.journeys.end_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.journeys.end_all()
        self.journeys.unwatch(self)

    def forget(self) -> None:
        """What comes next is the test's; what is under way now is not."""
        self.journeys.end_all()
        self.done.clear()

    # -- what was seen

    def all(self, text: str = "") -> list[Journey]:
        """The journeys that are over, whose frame in tcpdump's words has ``text``, in the order in which they began."""
        found = [journey for journey in self.done if text in describe(journey.frame)]
        return sorted(found, key=lambda journey: int(journey.ident))

    def one(self, text: str = "") -> Journey:
        """The only one."""
        found = self.all(text)
        assert len(found) == 1, [describe(journey.frame) for journey in self.done]
        return found[0]

    def by(self, point: Point) -> Journey:
        """The first whose packet passed ``point``."""
        found = [journey for journey in self.all() if any(step.point is point for step in journey.steps)]
        assert found, f"nothing passed {point.name}"
        return found[0]


def functions(journey: Journey, host: str | None = None) -> list[str]:
    """Linux's names of what it passed, on ``host`` alone if that is given."""
    return [step.point.linux for step in journey.steps if host is None or step.host == host]


def step(journey: Journey, point: Point) -> Step:
    """The only time that it passed ``point``."""
    steps = [each for each in journey.steps if each.point is point]
    assert len(steps) == 1, (point.name, [each.point.name for each in journey.steps])
    return steps[0]


def decision(journey: Journey, point: Point) -> str:
    return str(step(journey, point).decision)


def in_order(wanted: list[str], found: list[str]) -> bool:
    """Whether all that is wanted is there, in this order."""
    rest = iter(found)
    return all(name in rest for name in wanted)
