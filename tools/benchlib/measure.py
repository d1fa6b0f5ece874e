"""One load against one stack: rounds, figures and what went wrong."""

from __future__ import annotations

import json
import statistics
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from benchlib.lab import Lab, Unavailable, last_line
from benchlib.targets import CONNRATE, IDLE, LINK, PING, RECV, SEND, STACK, UDP, Running, Target
from ustack.io.host import Host

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ustack.io.host import Namespace

Sample = dict[str, float | int | str]

ADDRESS: Final = STACK.partition("/")[0]
LOAD: Final = str(Path(__file__).with_name("load.py"))
#: Seconds on top of what a mode takes by itself, before it is given up.
GRACE: Final = 60.0
STARTING: Final = 20.0


@dataclass
class Effort:
    """How long and how often."""

    rounds: int = 3
    secs: float = 4.0
    pings: int = 200
    connections: int = 2000
    idle: int = 1000
    cc: Sequence[str] = ("cubic", "bbr")
    load: str = LOAD

    def arguments(self, mode: str) -> Iterator[tuple[str, list[str]]]:
        """Each run of a mode: what its figure is called (its key is enough where "" stands), and the arguments."""
        secs = ["--secs", str(self.secs)]
        if mode == PING:
            yield "", ["--n", str(self.pings)]
        elif mode == SEND:
            for cc in self.cc:
                yield f"send_{cc}", [*secs, "--cc", cc]
        elif mode == RECV:
            yield "", [*secs, "--cc", self.cc[0]]
        elif mode == UDP:
            for outstanding in ("1", "32"):
                yield "", [*secs, "--outstanding", outstanding]
        elif mode == CONNRATE:
            yield "", ["--n", str(self.connections)]
        elif mode == IDLE:
            yield "", ["--n", str(self.idle), "--cc", self.cc[0]]


@dataclass
class Figures:
    """Every value of each figure, and what went wrong."""

    figures: dict[str, list[float]] = field(default_factory=dict, kw_only=True)
    errors: list[str] = field(default_factory=list, kw_only=True)

    def note(self, figure: str, value: float) -> None:
        self.figures.setdefault(figure, []).append(value)

    def median(self, figure: str) -> float | None:
        values = self.figures.get(figure)
        return statistics.median(values) if values else None

    def fail(self, text: str) -> None:
        if text not in self.errors:
            self.errors.append(text)


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """Round by round: what one round's machine was like was so for both."""
    return [our / their for our, their in zip(ours, theirs, strict=False) if their]


@dataclass
class Row(Figures):
    """Everything measured of one target, pinned or not."""

    name: str
    pinned: bool
    samples: list[Sample] = field(default_factory=list)

    @property
    def title(self) -> str:
        return self.name + (", one core" if self.pinned else "")


class Bench:
    """Rounds over all rows, so that what changes on the machine meanwhile meets all of them."""

    def __init__(self, effort: Effort, core: int, tell: Callable[[str], None]) -> None:
        """``core``: the one for rows that are pinned."""
        self.effort = effort
        self.core = core
        self.tell = tell

    def measure(self, plan: Sequence[tuple[Target, Row]], modes: Sequence[str]) -> None:
        for number in range(1, self.effort.rounds + 1):
            for target, row in plan:
                self.tell(f"round {number} of {self.effort.rounds}: {row.title}")
                with Lab({self.core} if row.pinned else None) as lab:
                    try:
                        self.measure_once(lab, target, row, [mode for mode in modes if mode in target.modes])
                    except (Unavailable, OSError) as reason:
                        row.fail(str(reason))

    def measure_once(self, lab: Lab, target: Target, row: Row, modes: Sequence[str]) -> None:
        running = target.start(lab)
        await_stack(lab, running)
        for mode in modes:
            if mode == IDLE and not running.pids:
                continue
            for figure, arguments in self.effort.arguments(mode):
                watch = LinkWatch(running.namespace)
                sample = self.sample(lab, running, mode, arguments)
                note(row, figure, mode, sample | watch.report())

    def sample(self, lab: Lab, running: Running, mode: str, arguments: list[str]) -> Sample:
        """What the load says. An error is one of its keys."""
        command = [sys.executable, self.effort.load, mode, ADDRESS, *arguments]
        if running.pids:
            command += ["--pid", ",".join(map(str, running.pids))]
        for process in running.processes:
            if not process.alive():
                raise Unavailable(f"it ended before {mode}: {process.last_words()}")
        return run_load(lab, running, command, self.effort.secs + GRACE)


def run_load(lab: Lab, running: Running, command: list[str], timeout: float) -> Sample:
    try:
        output = lab.run(running.namespace, command, timeout)
    except Unavailable as reason:
        return {"error": str(reason)}
    try:
        sample: Sample = json.loads(output.strip().splitlines()[-1])
    except (IndexError, ValueError):
        return {"error": last_line(output) or "it said nothing"}
    return sample


def await_stack(lab: Lab, running: Running) -> None:
    """Raises Unavailable if it does not answer."""
    command = [sys.executable, LOAD, "wait", ADDRESS, "--secs", str(STARTING)]
    answer = run_load(lab, running, command, STARTING + GRACE)
    if "error" in answer:
        dead = [process.last_words() for process in running.processes if not process.alive()]
        raise Unavailable(f"it does not answer: {dead[0] if dead else answer['error']}")


def note(row: Row, figure: str, mode: str, sample: Sample) -> None:
    row.samples.append({"figure": figure or mode, **sample})
    if "error" in sample:
        row.fail(f"{figure or mode}: {sample['error']}")
        return
    for key, value in sample.items():
        if key in FIGURES and not isinstance(value, str):
            row.note(figure or key, value)


#: What of a sample is a figure for the tables.
FIGURES: Final = ("ping_us", "send_gbit_s", "recv_gbit_s", "udp1_s", "udp32_s", "conn_s", "kib_per_conn")


class LinkWatch:
    """What crosses the host's side of the link during one sample."""

    def __init__(self, namespace: Namespace) -> None:
        self.namespace = namespace
        self.before = self.counters()

    def counters(self) -> dict[str, int]:
        with self.namespace, Host() as host:
            stats: dict[str, int] = host.link(LINK)["stats"]
            return stats

    def report(self) -> Sample:
        """Frames lost on the way in (a TAP that is full drops), and the mean size of a frame each way, bytes."""
        after = self.counters()
        change = {name: after[name] - value for name, value in self.before.items() if name in after}
        return {
            "tap_dropped": change["tx_dropped"],
            "bytes_per_frame_in": round(change["tx_bytes"] / max(change["tx_packets"], 1)),
            "bytes_per_frame_out": round(change["rx_bytes"] / max(change["rx_packets"], 1)),
        }
