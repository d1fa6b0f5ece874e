"""tools/bench fib: routing tables of the Internet's size, ours and others' in one run."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from benchlib import environments, forward, report
from benchlib.curve import Line, chart
from benchlib.lab import Unavailable, last_line
from benchlib.prefixes import FULL_FEED
from benchlib.targets import SAFE_PATH, TOOLS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

USTACK, PYTRICIA = "ustack", "pytricia"
NAMES: Final = (USTACK, PYTRICIA, "py-radix")
CURVE: Final = (10, 100, 1_000, 10_000, 100_000, 1_000_000)
LOOKUPS: Final = 500_000
#: Seconds for one table.
PATIENCE: Final = 600.0

Figures = dict[str, float]


@dataclass(frozen=True)
class Column:
    figure: str
    head: str
    scale: float = 1
    digits: int = 0


COLUMNS: Final = (
    Column("load_s", "load s", digits=2),
    Column("insert_s", "one by one s", digits=2),
    Column("mib", "MiB", digits=1),
    Column("calls_s", "lookups/s called, k", 1e-3),
    Column("core_s", "in core, M", 1e-6, 2),
    Column("ahead_s", "64 together, M", 1e-6, 2),
    Column("updates_s", "updates/s with lookups, k", 1e-3),
)


@dataclass
class Tables:
    """What was measured of each table: every figure of every round; nanoseconds a lookup by size."""

    routes: int = FULL_FEED
    figures: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    curve: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def median(self, name: str, figure: str) -> float | None:
        values = self.figures.get(name, {}).get(figure)
        return statistics.median(values) if values else None


class Fib:
    """``pythons``: who runs which table."""

    def __init__(self, pythons: dict[str, str], tell: Callable[[str], None]) -> None:
        self.pythons = pythons
        self.tell = tell

    def measure(self, routes: int, rounds: int) -> Tables:
        """The whole of it, once for each table in each round, so that what disturbs meets all."""
        tables = Tables(routes)
        for number in range(1, rounds + 1):
            digests: dict[str, float] = {}
            for name in self.pythons:
                self.tell(f"round {number} of {rounds}: {name}, {routes:,} routes")
                figures = self.worker(name, routes, full=True)
                digests[name] = figures.pop("digest")
                for figure, value in figures.items():
                    tables.figures.setdefault(name, {}).setdefault(figure, []).append(value)
            if len(set(digests.values())) > 1:
                tables.notes.append(f"the tables do not agree on where addresses belong: {digests}")
        return tables

    def draw(self, tables: Tables) -> str:
        """The cost of a lookup by the size of the table, as SVG."""
        for size in CURVE:
            for name in self.pythons:
                self.tell(f"{name}, {size:,} routes")
                figures = self.worker(name, size)
                tables.curve.setdefault(name, []).append((size, 1e9 / figures["calls_s"]))
                if "core_s" in figures:
                    tables.curve.setdefault(f"{name}, in core", []).append((size, 1e9 / figures["core_s"]))
                    tables.curve.setdefault(f"{name}, 64 together", []).append((size, 1e9 / figures["ahead_s"]))
        lines = [Line(name, points) for name, points in tables.curve.items()]
        return chart("A lookup, by the size of the table", "routes", "ns", lines)

    def worker(self, name: str, routes: int, full: bool = False) -> Figures:
        """In a process of its own: what it takes is the table's. Raises Unavailable."""
        command = [self.pythons[name], SAFE_PATH, "-m", "benchlib.fib_worker", name, str(routes), str(LOOKUPS)]
        run = subprocess.run(
            [*command, *(["full"] if full else [])],
            env={"PYTHONPATH": str(TOOLS), "PATH": "/usr/bin:/bin"},
            capture_output=True, text=True, check=False, timeout=PATIENCE,
        )  # fmt: skip
        if run.returncode != 0:
            raise Unavailable(f"{name}: {last_line(run.stderr) or '?'}")
        figures: Figures = json.loads(run.stdout)
        return figures


def pythons(ustack: str | None) -> tuple[dict[str, str], list[str]]:
    """Who runs what, and why something is missing."""
    found, missing = {USTACK: ustack or environments.compiled_python()}, []
    try:
        peers = environments.fib_python()
        found.update(dict.fromkeys(NAMES[1:], peers))
    except Unavailable as reason:
        missing.append(f"the others are not measured: {reason}")
    return found, missing


# -- telling


def text_of(tables: Tables) -> str:
    facts = report.machine()
    head = (
        f"{report.where(facts)}, load average {facts['load1']}\n"
        f"{tables.routes:,} prefixes, lookups of addresses anywhere; seconds of the processor, medians"
    )
    parts = [head, figures_table(tables), floors_table(tables), *tables.notes]
    return "\n\n".join(part for part in parts if part)


def figures_table(tables: Tables) -> str:
    rows = [
        [name, *(cell(tables.median(name, column.figure), column) for column in COLUMNS)] for name in tables.figures
    ]
    return report.layout([["", *(column.head for column in COLUMNS)], *rows])


def cell(value: float | None, column: Column) -> str:
    return "-" if value is None else report.number(value * column.scale, column.digits)


def floors_table(tables: Tables) -> str:
    """What a table in the compiled stack owes, the most of it against pytricia in the same run."""
    lines = [["floor", "wanted", "reached", ""]]
    for what, figure, wanted, at_most in floors(tables):
        reached = tables.median(USTACK, figure)
        if reached is None or wanted is None:
            continue
        met = reached <= wanted if at_most else reached >= wanted
        digits = 2 if wanted < 100 else 0
        sign = "≤ " if at_most else "≥ "
        lines.append(
            [what, sign + report.number(wanted, digits), report.number(reached, digits), "met" if met else "MISSED"]
        )
    return report.layout(lines) if len(lines) > 1 else ""


def floors(tables: Tables) -> Sequence[tuple[str, str, float | None, bool]]:
    """What, which figure, how much, and whether that is the most or the least."""
    load, memory, calls = (tables.median(PYTRICIA, figure) for figure in ("load_s", "mib", "calls_s"))
    return (
        ("load, seconds, as pytricia", "load_s", load, True),
        ("memory, MiB, as pytricia", "mib", memory, True),
        ("lookups/s called from Python, 3 times pytricia's", "calls_s", None if calls is None else 3 * calls, False),
        ("lookups/s in the core, many at a time", "ahead_s", 5e6, False),
        ("updates/s among lookups", "updates_s", 10_000, False),
    )


def run(
    python: str | None,
    routes: int,
    rounds: int,
    secs: float,
    svg: Path,
    json_file: Path | None,
    tell: Callable[[str], None],
) -> None:
    """Raises Unavailable."""
    found, missing = pythons(python)
    fib = Fib(found, tell)
    tables = fib.measure(routes, rounds)
    tables.notes += missing
    print(text_of(tables), flush=True)
    rows = forwarding(found[USTACK], routes, rounds, secs, tell)
    print(f"\n{forward.text_of(rows)}", flush=True)
    svg.write_text(fib.draw(tables))
    print(f"\nThe cost of a lookup by the size of the table is drawn in {svg}")
    if json_file is not None:
        told = {"machine": report.machine(), **vars(tables), "forwarding": [vars(row) for row in rows]}
        json_file.write_text(json.dumps(told, indent=1) + "\n")


def forwarding(python: str, routes: int, rounds: int, secs: float, tell: Callable[[str], None]) -> list[forward.Row]:
    """Between two links, with one route and with ``routes``: ours, and the kernel's."""
    form = "interpreted" if python == sys.executable else "compiled"
    ours = [forward.UstackRouter(python, form, offload) for offload in (True, False)]
    with tempfile.TemporaryDirectory(prefix="ustack-bench-") as directory:
        tables = forward.tables(Path(directory), routes)
        return forward.measure([*ours, forward.KernelRouter()], tables, rounds, secs, tell)
