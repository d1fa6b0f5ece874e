"""tools/bench: figures and ratios of the stack and its peers, in one run, by one load.

    tools/bench                     everything: minutes for each round
    tools/bench quick               a short look: one round, the compiled stack, the kernel and the ceiling
    tools/bench profile MODE        where the time goes: ping tcp-send tcp-recv udp-echo udp-echo-32 connrate
    tools/bench fib                 routing tables of the Internet's size, beside pytricia and py-radix
    tools/bench tcp                 one stream and eight, and over a line that loses frames, beside the kernel
    tools/bench lab                 a thousand hosts in one process, in virtual time

Needs the right to make network namespaces and TAP devices (root). It judges nothing: the floors stand beside the
figures, the status is 0 whatever they are.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from benchlib import environments, fib, laboratory, report, tcp
from benchlib.lab import Unavailable
from benchlib.measure import LOAD, Bench, Effort, Row
from benchlib.prefixes import FULL_FEED
from benchlib.profile import profile
from benchlib.targets import EVERYTHING, Ceiling, Kernel, Pytcp, Slirp, Target, Ustack

if TYPE_CHECKING:
    from types import FrameType
    from typing import NoReturn

STACKS: Final = ("compiled", "interpreted", "ceiling", "kernel", "slirp4netns", "pmd-pytcp")
QUICK: Final = ("compiled", "ceiling", "kernel")


class Options(argparse.Namespace):
    """The command line, typed."""

    command: str
    mode: str
    rounds: int | None
    secs: float | None
    only: str | None
    modes: str | None
    pin: str
    cc: str | None
    load: str
    ceiling: str | None
    python: str | None
    json: Path | None
    routes: int
    svg: Path
    interpreted: bool
    no_offload: bool
    losses: str
    loss_secs: float
    rtt: float
    rate: float
    hosts: int

    @property
    def quick(self) -> bool:
        return self.command == "quick"


def parse() -> Options:
    parser = argparse.ArgumentParser(
        prog="tools/bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("command", nargs="?", choices=["all", "quick", "profile", "fib", "tcp", "lab"], default="all")
    add("mode", nargs="?", default="", help="what profile looks at")
    add("--rounds", type=int, help="how often everything is measured; medians are shown  [3, quick: 1]")
    add("--secs", type=float, help="seconds of each bulk and echo measurement  [4, quick: 2]")
    add("--only", metavar="LIST", help=f"of {','.join(STACKS)}")
    add("--modes", metavar="LIST", help=f"of {','.join(EVERYTHING)}; tcp: of {','.join(tcp.PARTS)}")
    add("--pin", choices=["both", "no", "only"], default="both", help="load and stack together on one core  [both]")
    add("--cc", metavar="LIST", help="congestion control of the host's bulk  [cubic,bbr; tcp: cubic,reno,bbr]")
    add("--load", default=LOAD, metavar="PATH", help="another load generator with the same modes and output")
    add("--ceiling", metavar="PATH", help="a program that speaks just enough TCP: PROGRAM TAP ADDRESS gso|plain")
    add("--python", metavar="PATH", help="a Python that has the compiled form; else the wheel is built and installed")
    add("--json", type=Path, metavar="FILE", help="write every sample there")
    add("--routes", type=int, default=FULL_FEED, metavar="N", help=f"fib: in the large table  [{FULL_FEED}]")
    add("--svg", type=Path, default=Path("lookups.svg"), metavar="FILE", help="fib: the drawing  [lookups.svg]")
    add("--interpreted", action="store_true", help="profile: the sources, by cProfile; fib, tcp: the sources")
    add("--hosts", type=int, default=laboratory.HOSTS, metavar="N", help=f"lab: in one process  [{laboratory.HOSTS}]")
    add("--losses", default="0.001,0.01,0.03", metavar="LIST", help="tcp: of each frame  [0.001,0.01,0.03]")
    add("--loss-secs", type=float, default=10.0, metavar="S", help="tcp: of each transfer with loss  [10]")
    add("--rtt", type=float, default=20.0, metavar="MS", help="tcp: of the line that loses  [20]")
    add("--rate", type=float, default=100.0, metavar="MBIT", help="tcp: of its bottleneck  [100]")
    add("--no-offload", action="store_true", help="profile: a TAP without offload")
    return parser.parse_args(namespace=Options())


def effort_of(options: Options) -> Effort:
    effort = Effort(cc=(options.cc or "cubic,bbr").split(","), load=str(Path(options.load).resolve()))
    if options.quick:
        effort.rounds, effort.secs, effort.pings, effort.connections, effort.idle = 1, 2.0, 100, 1000, 500
    effort.rounds = options.rounds or effort.rounds
    effort.secs = options.secs or effort.secs
    return effort


def targets_of(options: Options) -> tuple[list[Target], list[str]]:
    """What can be measured, and why the rest cannot."""
    wanted = (options.only or ",".join(QUICK if options.quick else STACKS)).split(",")
    targets: list[Target] = []
    missing: list[str] = []
    for name in STACKS:
        if name in wanted:
            try:
                targets += make(name, options)
            except Unavailable as reason:
                missing.append(f"{name} is not measured: {reason}")
    missing += [f"there is no {name}: of {', '.join(STACKS)}" for name in wanted if name not in STACKS]
    return targets, missing


def make(name: str, options: Options) -> list[Target]:
    """Raises Unavailable."""
    if name == "compiled":
        python = options.python or environments.compiled_python()
        return [Ustack(name, python), Ustack(name, python, offload=False)]
    if name == "interpreted":
        return [Ustack(name, sys.executable), Ustack(name, sys.executable, offload=False)]
    if name == "ceiling":
        if options.ceiling is None:
            raise Unavailable("--ceiling PATH names its program")
        return [Ceiling(options.ceiling), Ceiling(options.ceiling, offload=False)]
    if name == "kernel":
        return [Kernel(), Kernel(offload=False)]
    return [Slirp()] if name == "slirp4netns" else [Pytcp(environments.pytcp_python())]


def plan_of(targets: list[Target], options: Options) -> list[tuple[Target, Row]]:
    pins = {"both": (False, True), "no": (False,), "only": (True,)}[options.pin]
    return [(target, Row(target.name, pinned)) for pinned in pins for target in targets]


def run(options: Options) -> None:
    effort = effort_of(options)
    targets, missing = targets_of(options)
    plan = plan_of(targets, options)
    rows = [row for _, row in plan]
    wanted = (options.modes or ",".join(EVERYTHING)).split(",")
    modes = [mode for mode in EVERYTHING if mode in wanted]
    started = time.strftime("%Y-%m-%d %H:%M:%S")
    machine = report.machine()
    try:
        Bench(effort, max(os.sched_getaffinity(0)), say).measure(plan, modes)
    finally:  # also what was measured until Ctrl-C
        print(text_of(rows, missing, effort, machine))
        if options.json is not None:
            options.json.write_text(json_of(rows, missing, effort, machine, started))


def text_of(rows: list[Row], missing: list[str], effort: Effort, machine: dict[str, str | int | float]) -> str:
    rows = [row for row in rows if row.figures or row.errors]
    parts = [report.preface(effort, rows, machine), report.figures_table(rows)]
    for base in ("kernel, veth", "ceiling"):
        table = report.ratio_table(rows, base)
        if table:
            parts.append(f"Times as good as {base} (the same pinning and offload):\n{table}")
    if any(row.name.startswith("ustack compiled") for row in rows):
        parts.append(report.floors_table(rows))
    parts.append("\n".join([*missing, *report.notes(rows)]))
    return "\n\n".join(part for part in parts if part)


def json_of(
    rows: list[Row], missing: list[str], effort: Effort, machine: dict[str, str | int | float], started: str
) -> str:
    measured = [
        {"stack": row.name, "pinned": row.pinned, "figures": row.figures, "samples": row.samples, "errors": row.errors}
        for row in rows
    ]
    floors = [vars(floor) for floor in report.FLOORS]
    told = {"started": started, "machine": machine, "effort": vars(effort), "missing": missing}
    return json.dumps({**told, "rows": measured, "floors": floors}, indent=1) + "\n"


def run_profile(options: Options) -> None:
    form = "interpreted" if options.interpreted else "compiled"
    python = sys.executable if options.interpreted else options.python or environments.compiled_python()
    cpus = {max(os.sched_getaffinity(0))} if options.pin == "only" else None
    print(profile(options.mode, python, form, not options.no_offload, cpus, effort_of(options)))


def run_tcp(options: Options) -> None:
    python = options.python or (sys.executable if options.interpreted else environments.compiled_python())
    line = tcp.Line(
        [float(loss) for loss in options.losses.split(",")],
        (options.cc or "cubic,reno,bbr").split(","),
        options.rtt,
        options.rate,
    )
    form = "interpreted" if options.interpreted else "compiled"
    parts = (options.modes or ",".join(tcp.PARTS)).split(",")
    effort = options.rounds or 3, options.secs or 4.0, options.loss_secs
    tcp.run(python, form, parts, line, *effort, options.json, say)


def forms_of(options: Options) -> dict[str, str]:
    """The Pythons that have the stack in its two forms, or in those of them that ``--only`` names."""
    wanted = (options.only or "compiled,interpreted").split(",")
    forms = {"interpreted": sys.executable} if "interpreted" in wanted else {}
    if "compiled" in wanted:
        forms = {"compiled": options.python or environments.compiled_python(), **forms}
    return forms


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def interrupted(number: int, frame: FrameType | None) -> NoReturn:
    """Every end is Ctrl-C's: everything is taken down, and what was measured is printed."""
    raise KeyboardInterrupt


def main() -> int:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # also where a shell has SIGINT ignored for us
        signal.signal(number, interrupted)
    options = parse()
    try:
        if options.command == "profile":
            run_profile(options)
        elif options.command == "tcp":
            run_tcp(options)
        elif options.command == "lab":
            laboratory.run(forms_of(options), options.hosts, options.rounds or 3, options.json, say)
        elif options.command == "fib":
            python = sys.executable if options.interpreted else options.python
            fib.run(python, options.routes, options.rounds or 3, options.secs or 3.0, options.svg, options.json, say)
        else:
            run(options)
    except (Unavailable, OSError, ValueError) as reason:
        say(f"tools/bench: {reason}")
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
