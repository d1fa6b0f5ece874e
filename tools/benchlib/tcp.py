"""TCP in bulk, in and out: one stream and eight on a good link, and one over a line that loses frames.

The kernel beside ustack in the same rounds. Over the line both meet the same losses at the same places:

    load ─ kernel ─ TAP ─ relay ─ TAP ─ a kernel that forwards ─ TAP or veth ─ ustack or another kernel
"""

from __future__ import annotations

import json
import statistics
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from benchlib.lab import Lab, Process, Unavailable, wait_until
from benchlib.measure import ADDRESS, GRACE, LOAD, Figures, Sample, await_stack, ratios, run_load
from benchlib.report import Column, layout, machine, middle, spread, summed_up, where
from benchlib.targets import HOST, LINK, NETWORK, SAFE_PATH, STACK, Kernel, Running, Target, Ustack, serve
from ustack.io.host import Host, Namespace, write_sysctl
from ustack.io.tap import Tap
from ustack.tcp.congestion.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

RELAY: Final = str(Path(__file__).with_name("relay.py"))
LINE: Final = "line"
NEAR, MIDDLE = "198.51.100.1/24", "198.51.100.2/24"
NEAR_NETWORK: Final = "198.51.100.0/24"
#: Frames that a TAP holds while the relay is elsewhere.
TXQUEUELEN: Final = 10_000
STREAMS: Final = (1, 8)
BULK, LOSS = "bulk", "loss"
PARTS: Final = (BULK, LOSS)
KERNEL: Final = "kernel"
USTACK: Final = "ustack"
#: How much of the kernel's throughput over the same line is wanted.
WANTED: Final = 0.8


@dataclass(frozen=True)
class Line:
    """``rtt`` in ms, ``rate`` of the bottleneck in Mbit/s with a queue of ``queue`` bandwidth-delay products."""

    losses: Sequence[float]
    congestion: Sequence[str]
    rtt: float
    rate: float
    queue: float = 2.0

    def arguments(self, loss: float, seed: int) -> list[str]:
        limit = int(self.rate * 1000 / 8 * self.rtt * self.queue)
        words = {"delay": self.rtt / 2, "loss": loss, "rate": self.rate, "limit": limit, "seed": seed}
        return [word for name, value in words.items() for word in (f"--{name}", str(value))]


@dataclass
class Row(Figures):
    """One stack on a link of its own; figures in_N and out_N, Gbit/s."""

    name: str


@dataclass
class LossRow(Figures):
    """One congestion control at one loss: figures in_ustack, in_kernel, out_ustack, out_kernel, Mbit/s."""

    congestion: str
    loss: float
    samples: list[Sample] = field(default_factory=list)

    def note_sample(self, direction: str, stack: str, sample: Sample) -> None:
        self.samples.append({"way": direction, "stack": stack, **sample})
        if "error" in sample:
            self.fail(f"{direction}, {stack}: {sample['error']}")
        else:
            self.note(f"{direction}_{stack}", float(sample[RESULTS[direction]]) * 1000)

    def ratios(self, direction: str) -> list[float]:
        """Round by round: the same seed, the same minutes."""
        return ratios(*(self.figures.get(f"{direction}_{stack}", []) for stack in (USTACK, KERNEL)))


#: Which way, the load's mode, and what it calls its result.
MODES: Final = {"in": "tcp-send", "out": "tcp-recv"}
RESULTS: Final = {"in": "send_gbit_s", "out": "recv_gbit_s"}
COLUMNS: Final = tuple(
    Column(f"{direction}_{streams}", f"{direction}, {streams}", 2) for direction in MODES for streams in STREAMS
)


# -- a good link


def measure_bulk(targets: Sequence[Target], rounds: int, secs: float, tell: Callable[[str], None]) -> list[Row]:
    rows = {target.name: Row(target.name) for target in targets}
    for count in range(1, rounds + 1):
        for target in targets:
            tell(f"round {count} of {rounds}: TCP in bulk, {target.name}")
            with Lab() as lab:
                try:
                    running = target.start(lab)
                    await_stack(lab, running)
                    for streams in STREAMS:
                        bulk_once(lab, running, rows[target.name], streams, secs)
                except (Unavailable, OSError) as reason:
                    rows[target.name].fail(str(reason))
    return list(rows.values())


def bulk_once(lab: Lab, running: Running, row: Row, streams: int, secs: float) -> None:
    for direction in MODES:
        sample = transfer(lab, running, direction, secs, "--streams", str(streams))
        if "error" in sample:
            row.fail(f"{direction}, {streams}: {sample['error']}")
        else:
            row.note(f"{direction}_{streams}", float(sample[RESULTS[direction]]))


def transfer(lab: Lab, running: Running, direction: str, secs: float, *options: str) -> Sample:
    command = [sys.executable, LOAD, MODES[direction], ADDRESS, "--secs", str(secs), *options]
    return run_load(lab, running, command, secs + GRACE)


def bulk_text(rows: Sequence[Row]) -> str:
    """Medians with smallest and largest, and how many times the kernel's over veth that is."""
    lines = [["TCP in bulk, Gbit/s", *(column.head for column in COLUMNS)]]
    for row in rows:
        lines.append([row.name, *(middle(row, column) for column in COLUMNS)])
        if any(len(values) > 1 for values in row.figures.values()):
            lines.append(["", *(spread(row, column) for column in COLUMNS)])
        kernel = next((other for other in rows if other.name == counterpart(row.name)), row)
        if kernel is not row:
            lines.append(["  × the kernel over veth", *(times(row, kernel, column.figure) for column in COLUMNS)])
    errors = [f"{row.name}: {error}" for row in rows for error in row.errors]
    return "\n".join([layout(lines), *errors])


def counterpart(name: str) -> str:
    return "kernel, veth" + (", no offload" if name.endswith(", no offload") else "")


def times(row: Figures, base: Figures, figure: str) -> str:
    """Of the same rounds."""
    return summed_up(ratios(row.figures.get(figure, []), base.figures.get(figure, [])), 2)


# -- a bad line


class Far:
    """What lies behind the line, at STACK, and sends with a congestion control of one's choice."""

    def start(self, lab: Lab, middle: Namespace, congestion: str) -> list[Process]:
        """Raises Unavailable."""
        raise NotImplementedError


class UstackFar(Far):
    def __init__(self, ustack: Ustack) -> None:
        self.ustack = ustack

    def start(self, lab: Lab, middle: Namespace, congestion: str) -> list[Process]:
        self.ustack.check_form()
        options = ["--gateway", HOST.partition("/")[0]]
        if congestion != Registry().default().name:
            options += ["--sysctl", f"net.ipv4.tcp_congestion_control={congestion}"]
        return [self.ustack.launch(lab, middle, *options)]


class KernelFar(Far):
    def start(self, lab: Lab, middle: Namespace, congestion: str) -> list[Process]:
        far = lab.namespace()
        lab.join(middle, far, LINK, (HOST, STACK))
        with far, Host() as host:
            host.add_route(NEAR_NETWORK, gateway=HOST.partition("/")[0])
            write_sysctl("net.ipv4.tcp_no_metrics_save", "1")
        serve(lab, far, congestion)
        return []


def lay_line(lab: Lab, arguments: Sequence[str]) -> tuple[Namespace, Namespace, Process]:
    """Two namespaces with a relay between them; the second forwards. Raises Unavailable."""
    near, middle = lab.namespace(), lab.namespace()
    taps = [plug(near, NEAR), plug(middle, MIDDLE)]
    with near, Host() as host:
        host.add_route(NETWORK, gateway=MIDDLE.partition("/")[0])
        # what one connection has learnt of the path is not the next one's to begin with
        write_sysctl("net.ipv4.tcp_no_metrics_save", "1")
    with middle:
        write_sysctl("net.ipv4.ip_forward", "1")
    fds = tuple(tap.fd for tap in taps)
    relay = lab.start(near, [sys.executable, SAFE_PATH, RELAY, *map(str, fds), *arguments], fds=fds)
    try:
        wait_until(lambda: "ready" in relay.output(), relay, "did not start")
    finally:
        for tap in taps:  # the relay has them
            tap.close()
    return near, middle, relay


def plug(namespace: Namespace, cidr: str) -> Tap:
    with namespace, Host() as host:
        tap = Tap(LINE, offload=False)
        host.set_link(LINE, up=True, txqueuelen=TXQUEUELEN)
        host.add_address(LINE, cidr)
    return tap


def measure_losses(ustack: Ustack, line: Line, rounds: int, secs: float, tell: Callable[[str], None]) -> list[LossRow]:
    """The seed is the round's number: each has its own losses, the same for both stacks and every direction."""
    rows = [LossRow(congestion, loss) for congestion in line.congestion for loss in line.losses]
    fars: dict[str, Far] = {KERNEL: KernelFar(), USTACK: UstackFar(ustack)}
    for count in range(1, rounds + 1):
        for row in rows:
            tell(f"round {count} of {rounds}: {row.congestion}, {row.loss:.1%} lost")
            for direction in MODES:
                for name, far in fars.items():
                    try:
                        sample = cross_once(far, line, row, count, direction, secs)
                    except (Unavailable, OSError) as reason:
                        sample = {"error": str(reason)}
                    row.note_sample(direction, name, sample)
    return rows


def cross_once(far: Far, line: Line, row: LossRow, seed: int, direction: str, secs: float) -> Sample:
    """One transfer over a fresh line. Raises Unavailable, also if the line itself has failed."""
    with Lab() as lab:
        near, middle, relay = lay_line(lab, line.arguments(row.loss, seed))
        running = Running(near, far.start(lab, middle, row.congestion))
        await_stack(lab, running)
        sample = transfer(lab, running, direction, secs, "--cc", row.congestion)
        relay.end()
        return sample | judge(relay)


def judge(relay: Process) -> Sample:
    """What became of its frames, both ways together. Raises Unavailable if a TAP has missed some."""
    try:
        lanes = json.loads(relay.output().splitlines()[-1])
    except (IndexError, ValueError):
        raise Unavailable(f"the relay ended: {relay.last_words()}") from None
    if missed := sum(lane["missed"] for lane in lanes):
        raise Unavailable(f"the relay could not deliver {missed} frames")
    told: Sample = {name: sum(lane[name] for lane in lanes) for name in ("sent", "lost", "overlimits")}
    return {**told, "latest_ms": max(lane["latest_ms"] for lane in lanes)}


def loss_text(rows: Sequence[LossRow], line: Line) -> str:
    heads = [f"{direction}, {stack}" for direction in MODES for stack in (KERNEL, USTACK, "×")]
    lines = [[f"{line.rate:g} Mbit/s, {line.rtt:g} ms, Mbit/s", "lost", *heads]]
    for row in rows:
        cells = [cell for direction in MODES for cell in loss_cells(row, direction)]
        lines.append([row.congestion, f"{row.loss:.1%}", *cells])
    errors = [f"{row.congestion}, {row.loss:.1%}: {error}" for row in rows for error in row.errors]
    reached = [statistics.median(found) >= WANTED for row in rows for way in MODES if (found := row.ratios(way))]
    wanted = f"× of the kernel's wanted: {WANTED} at least; {sum(reached)} of {len(reached)} medians are"
    return "\n".join([layout(lines), wanted, *errors])


def loss_cells(row: LossRow, direction: str) -> list[str]:
    found = [summed_up(row.figures.get(f"{direction}_{stack}", []), 1) for stack in (KERNEL, USTACK)]
    return [*found, summed_up(row.ratios(direction), 2)]


# -- all of it


def run(
    python: str,
    form: str,
    parts: Sequence[str],
    line: Line,
    rounds: int,
    secs: float,
    loss_secs: float,
    file: Path | None,
    tell: Callable[[str], None],
) -> None:
    """Prints; every sample of it to ``file``. Raises Unavailable."""
    facts = machine()
    bulk: list[Row] = []
    losses: list[LossRow] = []
    texts = [f"{where(facts)}; {rounds} round(s), medians (smallest…largest)"]
    if BULK in parts:
        stacks: list[Target] = [Ustack(form, python), Kernel()]
        stacks += [Ustack(form, python, offload=False), Kernel(offload=False)]
        bulk = measure_bulk(stacks, rounds, secs, tell)
        texts.append(bulk_text(bulk))
    if LOSS in parts:
        losses = measure_losses(Ustack(form, python), line, rounds, loss_secs, tell)
        texts.append(loss_text(losses, line))
    print("\n\n".join(texts))
    if file is not None:
        told = {"machine": facts, "rounds": rounds, "secs": secs, "loss_secs": loss_secs, "line": asdict(line)}
        rows = {BULK: [asdict(row) for row in bulk], LOSS: [asdict(row) for row in losses]}
        file.write_text(json.dumps({**told, **rows}, indent=1) + "\n")
