"""What the algorithms make of buffers, losses and delays, as tables of integers that are the same at each run.

``throughput.txt`` has one flow in every cell, ``fairness.txt`` 1 to 32 flows that share a bottleneck; both lie beside
this file and are recomputed by test_tables.py. The larger tables of ``tools/sim large`` are not recorded.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.sim.bottleneck import FRAME, Outcome, Scenario, jain, run
from ustack.tcp.congestion.registry import Registry
from ustack.timer import NSEC_PER_MSEC, NSEC_PER_SEC

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

HERE: Final = Path(__file__).parent
#: Jain's index that flows with equal delays reach at least.
FAIR: Final = 0.9
FLOWS: Final = (1, 2, 4, 8, 16, 32)

#: Bits a second, in every cell of both.
RATE: Final = 10_000_000
#: Milliseconds, bandwidth-delay products, probabilities.
RTTS: Final = (10, 40, 160)
BUFFERS: Final = (0.25, 2)
LOSSES: Final = (0.0, 0.01, 0.03)


def algorithms() -> list[str]:
    """All that a stack has."""
    return list(Registry().algorithms)


@dataclass(frozen=True)
class Table:
    """``row`` writes a scenario and what came out of it under ``head``, in columns that are as wide as they need."""

    name: str
    head: Sequence[str]
    scenarios: Callable[[str], Iterator[Scenario]]  #: of one algorithm
    row: Callable[[Scenario, Outcome], list[str]]
    part: Callable[[Scenario], int]  #: what rows that are computed together have in common

    @property
    def path(self) -> Path:
        return HERE / f"{self.name}.txt"

    def parts(self, congestion: str) -> dict[int, list[int]]:
        """The numbers of an algorithm's rows, by part."""
        found: dict[int, list[int]] = {}
        for number, scenario in enumerate(self.scenarios(congestion)):
            found.setdefault(self.part(scenario), []).append(number)
        return found

    def compute(self, congestion: str, numbers: Sequence[int]) -> list[list[str]]:
        scenarios = list(self.scenarios(congestion))
        return [self.row(scenarios[number], run(scenarios[number])) for number in numbers]

    def recorded(self) -> list[list[str]]:
        """The rows of the file, without heads."""
        lines = self.path.read_text().splitlines()
        return [line.split() for line in lines if line and not line.startswith(("#", self.head[0]))]

    def text(self, rows: Sequence[Sequence[str]]) -> str:
        """The whole file."""
        about = (f"# {line}" for line in ABOUT[self.name])
        return "\n".join([*about, *aligned([self.head, *rows])]) + "\n"

    def record(self, rows: Sequence[Sequence[str]]) -> None:
        self.path.write_text(self.text(rows))


def aligned(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    for row in rows:
        cells = [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        yield "  ".join([row[0].ljust(widths[0]), *cells])


# -- one flow


def throughput_scenarios(congestion: str) -> Iterator[Scenario]:
    for rtt in RTTS:
        like = Scenario(congestion, rate=RATE, rtt=rtt * NSEC_PER_MSEC, duration=3 * NSEC_PER_SEC)
        for buffer in BUFFERS:
            size = max(int(like.product * buffer), 2 * FRAME)
            for loss in LOSSES:
                yield replace(like, buffer=size, loss=loss)


def throughput_row(scenario: Scenario, outcome: Outcome) -> list[str]:
    (delivered,) = outcome.delivered
    numbers = (scenario.rtt // NSEC_PER_MSEC, scenario.buffer)
    return [scenario.congestion, *map(str, numbers), f"{scenario.loss:.1%}", str(delivered), *counts(outcome)]


def counts(outcome: Outcome) -> list[str]:
    return [str(count) for count in (outcome.retransmitted, outcome.timeouts, outcome.overlimits, outcome.lost)]


# -- many


def fairness_scenarios(congestion: str) -> Iterator[Scenario]:
    """Four packets on the way for each of 32, and room for the queue that BBR keeps at twice that."""
    like = Scenario(congestion, rate=RATE, rtt=160 * NSEC_PER_MSEC)
    for flows in FLOWS:
        yield replace(
            like,
            flows=flows,
            buffer=4 * like.product,
            warm_up=2 * NSEC_PER_SEC,
            duration=5 * NSEC_PER_SEC,
        )


def fairness_row(scenario: Scenario, outcome: Outcome) -> list[str]:
    shares = outcome.delivered
    numbers = (scenario.flows, sum(shares), min(shares), max(shares))
    return [scenario.congestion, *map(str, numbers), f"{jain(shares):.3f}", *counts(outcome)]


ENDS: Final = ("retransmitted", "timeouts", "overlimits", "lost")
THROUGHPUT: Final = Table(
    "throughput",
    ("congestion", "rtt_ms", "buffer", "loss", "delivered", *ENDS),
    throughput_scenarios,
    throughput_row,
    lambda scenario: scenario.rtt // NSEC_PER_MSEC,
)
FAIRNESS: Final = Table(
    "fairness",
    ("congestion", "flows", "delivered", "least", "most", "jain", *ENDS),
    fairness_scenarios,
    fairness_row,
    lambda scenario: scenario.flows,
)
TABLES: Final = (THROUGHPUT, FAIRNESS)

ABOUT: Final = {
    "throughput": (
        "One flow through 10 Mbit/s in virtual time, from seed 1: bytes delivered in three seconds from the SYN on.",
        "buffer: bytes of the queue before the bottleneck, a quarter of a bandwidth-delay product and two.",
        "tools/sim record writes this file anew, after a change that was meant to change it.",
    ),
    "fairness": (
        "Flows through 10 Mbit/s, 160 ms and a queue of four bandwidth-delay products, in virtual time from seed 1:",
        "bytes of five seconds after the first two; least and most: of one flow; jain: Jain's index.",
        "tools/sim record writes this file anew, after a change that was meant to change it.",
    ),
}
