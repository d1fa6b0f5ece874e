"""tools/bench lab: a thousand hosts, their routers and switches in one process, in virtual time, in both forms."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from typing import TYPE_CHECKING, Any, Final

from benchlib import report
from benchlib.lab import Unavailable, last_line
from benchlib.targets import SAFE_PATH, TOOLS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

HOSTS: Final = 1000
#: Seconds for one round.
PATIENCE: Final = 1800.0

Figures = dict[str, float]


def figures_of(told: dict[str, Any]) -> Figures:
    """An event is a frame that a cable has delivered."""
    figures: Figures = {"built": told["built"], "kib": told["kib"]}
    for load in ("udp", "tcp"):
        figures[f"{load}_events"] = told[load]["frames"] / told[load]["seconds"]
        figures[f"{load}_ratio"] = told[load]["virtual"] / told[load]["seconds"]
    figures["idle_ratio"] = told["idle"]["virtual"] / told["idle"]["seconds"]
    return figures


#: Figure: what stands above its column, and digits after the point.
COLUMNS: Final = {
    "kib": ("KiB a host", 1),
    "built": ("built in s", 2),
    "udp_events": ("events/s, UDP", 0),
    "udp_ratio": ("virtual/real time", 3),
    "tcp_events": ("events/s, TCP", 0),
    "tcp_ratio": ("virtual/real time", 3),
    "idle_ratio": ("idle: virtual/real time", 0),
}


def worker(python: str, hosts: int) -> Figures:
    """In a process of its own: what it takes is the laboratory's. Raises Unavailable."""
    # the sources lie beside us; the compiled form must not find them
    path = f"{TOOLS.parent}:{TOOLS}" if python == sys.executable else str(TOOLS)
    run = subprocess.run(
        [python, SAFE_PATH, "-m", "benchlib.laboratory_worker", str(hosts)],
        env={"PYTHONPATH": path, "PATH": "/usr/bin:/bin"},
        capture_output=True, text=True, check=False, timeout=PATIENCE,
    )  # fmt: skip
    if run.returncode != 0:
        raise Unavailable(f"laboratory: {last_line(run.stderr) or '?'}")
    return figures_of(json.loads(run.stdout))


def run(pythons: dict[str, str], hosts: int, rounds: int, file: Path | None, tell: Callable[[str], None]) -> None:
    """``pythons``: by the name of the form. Raises Unavailable."""
    samples: dict[str, list[Figures]] = {form: [] for form in pythons}
    for number in range(1, rounds + 1):
        for form, python in pythons.items():
            tell(f"round {number} of {rounds}: {form}, {hosts:,} hosts")
            samples[form].append(worker(python, hosts))
    machine = report.machine()
    print(f"{report.where(machine)}, load average {machine['load1']}\n{text_of(samples, hosts)}")
    if file is not None:
        file.write_text(json.dumps({"machine": machine, "hosts": hosts, "samples": samples}, indent=1) + "\n")


def text_of(samples: dict[str, list[Figures]], hosts: int) -> str:
    head = (
        f"{hosts:,} hosts behind routers and switches; an event is a frame delivered by a cable; seconds of the "
        "processor, medians"
    )
    lines = [["", *(title for title, _ in COLUMNS.values())]]
    for form, rounds in samples.items():
        cells = [
            report.number(statistics.median(figures[name] for figures in rounds), digits)
            for name, (_, digits) in COLUMNS.items()
        ]
        lines.append([form, *cells])
    return f"{head}\n\n{report.layout(lines)}"
