"""Tables for people: medians with their spread, ratios, and the floors beside what was reached."""

from __future__ import annotations

import os
import platform
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from benchlib.measure import Effort, Figures, Row


@dataclass(frozen=True)
class Column:
    figure: str
    head: str
    digits: int = 0
    #: Smaller is better: a ratio above 1 is then still "better than".
    less: bool = False


COLUMNS: Final = (
    Column("ping_us", "ping µs", less=True),
    Column("send_cubic", "in cubic Gbit/s", 2),
    Column("send_bbr", "in bbr Gbit/s", 2),
    Column("send_reno", "in reno Gbit/s", 2),
    Column("recv_gbit_s", "out Gbit/s", 2),
    Column("udp1_s", "UDP echo/s, 1"),
    Column("udp32_s", "UDP echo/s, 32"),
    Column("conn_s", "connections/s"),
    Column("kib_per_conn", "KiB idle", 2, less=True),
)


@dataclass(frozen=True)
class Floor:
    """What the compiled stack owes on a machine with two cores, MTU 1500.

    BBR paces: with offload that measures the host's timers, so only cubic has a floor there.
    """

    figure: str
    wanted: float
    offload: bool = True


FLOORS: Final = (
    Floor("send_cubic", 20),
    Floor("recv_gbit_s", 20),
    Floor("send_cubic", 1.5, offload=False),
    Floor("send_bbr", 1.5, offload=False),
    Floor("recv_gbit_s", 1.5, offload=False),
    Floor("ping_us", 130),
    Floor("udp1_s", 12_000),
    Floor("udp32_s", 100_000),
    Floor("conn_s", 5_000),
    Floor("kib_per_conn", 8),
)


def column(figure: str) -> Column:
    return next(found for found in COLUMNS if found.figure == figure)


def used_columns(rows: Sequence[Row]) -> list[Column]:
    return [found for found in COLUMNS if any(row.figures.get(found.figure) for row in rows)]


def number(value: float, digits: int) -> str:
    return f"{value:,.{digits}f}"


# -- the tables


def figures_table(rows: Sequence[Row]) -> str:
    """Medians, and below each the smallest and the largest."""
    columns = used_columns(rows)
    lines = [["", *(found.head for found in columns)]]
    for row in rows:
        lines.append([row.title, *(middle(row, found) for found in columns)])
        if any(len(values) > 1 for values in row.figures.values()):
            lines.append(["", *(spread(row, found) for found in columns)])
    return layout(lines)


def middle(row: Figures, of: Column) -> str:
    value = row.median(of.figure)
    return "-" if value is None else number(value, of.digits)


def spread(row: Figures, of: Column) -> str:
    values = row.figures.get(of.figure)
    return f"{number(min(values), of.digits)}…{number(max(values), of.digits)}" if values else ""


def summed_up(values: Sequence[float], digits: int) -> str:
    """The median, and the smallest and the largest if there are several."""
    if not values:
        return "-"
    text = number(statistics.median(values), digits)
    if len(values) == 1:
        return text
    return f"{text} ({number(min(values), digits)}…{number(max(values), digits)})"


def ratio_table(rows: Sequence[Row], base: str) -> str:
    """How many times as good as the row ``base`` (pinned against pinned, no offload against no offload)."""
    columns = used_columns(rows)
    lines = [["", *(found.head for found in columns)]]
    for row in rows:
        against = counterpart(rows, row, base)
        if against is None or against is row:
            continue
        ratios = [ratio(row, against, found) for found in columns]
        if any(cell != "-" for cell in ratios):
            lines.append([row.title, *ratios])
    return layout(lines) if len(lines) > 1 else ""


def counterpart(rows: Sequence[Row], row: Row, base: str) -> Row | None:
    name = base + (", no offload" if "no offload" in row.name else "")
    return next((found for found in rows if found.name == name and found.pinned == row.pinned), None)


def ratio(row: Row, against: Row, of: Column) -> str:
    ours, theirs = row.median(of.figure), against.median(of.figure)
    if not ours or not theirs:
        return "-"
    return f"{theirs / ours if of.less else ours / theirs:.2f}"


def floors_table(rows: Sequence[Row]) -> str:
    lines = [["floor, compiled", "wanted", "reached", "", "×"]]
    for floor in FLOORS:
        name = "ustack compiled" + ("" if floor.offload else ", no offload")
        row = next((found for found in rows if found.name == name and not found.pinned), None)
        value = row.median(floor.figure) if row else None
        lines.append(floor_line(floor, value))
    return layout(lines)


def floor_line(floor: Floor, value: float | None) -> list[str]:
    of = column(floor.figure)
    wanted = ("≤ " if of.less else "≥ ") + number(floor.wanted, 1 if floor.wanted % 1 else 0)
    head = of.head + ("" if floor.offload else ", no offload")
    if value is None:
        return [head, wanted, "-", "not measured", ""]
    times = floor.wanted / value if of.less else value / floor.wanted
    return [head, wanted, number(value, of.digits), "met" if times >= 1 else "MISSED", f"{times:.2f}"]


def layout(lines: Sequence[Sequence[str]]) -> str:
    """First column to the left, the others to the right, as wide as they need."""
    widths = [max(len(line[at]) for line in lines) for at in range(len(lines[0]))]
    return "\n".join("  ".join(padded(line, widths)) for line in lines)


def padded(line: Sequence[str], widths: Sequence[int]) -> list[str]:
    return [line[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True))]


# -- notes


def machine() -> dict[str, str | int | float]:
    """What the figures depend on besides the code."""
    model = [line.partition(":")[2].strip() for line in cpuinfo() if line.startswith("model name")]
    return {
        "cpu": model[0] if model else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load1": round(os.getloadavg()[0], 2),
    }


def cpuinfo() -> list[str]:
    return Path("/proc/cpuinfo").read_text().splitlines()


def where(facts: dict[str, str | int | float]) -> str:
    return f"{facts['cores']} cores of {facts['cpu']}, Linux {facts['kernel']}, Python {facts['python']}"


def preface(effort: Effort, rows: Sequence[Row], facts: dict[str, str | int | float]) -> str:
    below = ", below them the smallest and the largest" if effort.rounds > 1 else ""
    return (
        f"{where(facts)}; {effort.rounds} round(s) of {effort.secs:g} s, MTU 1500, load average {load_average(rows)}\n"
        f"Medians{below}; in: host to stack, by the host's congestion control; out: stack to host"
    )


def load_average(rows: Sequence[Row]) -> str:
    loads = [float(sample["load1"]) for row in rows for sample in row.samples if "load1" in sample]
    return f"{min(loads):.2f}…{max(loads):.2f}" if loads else "-"


def notes(rows: Iterable[Row]) -> list[str]:
    """What went wrong, and what the TAP has dropped."""
    lines = [f"{row.title}: {error}" for row in rows for error in row.errors]
    for row in rows:
        lost: dict[str, int] = {}
        for sample in row.samples:
            dropped = int(sample.get("tap_dropped", 0))
            if dropped:
                name = str(sample["figure"])
                lost[name] = lost.get(name, 0) + dropped
        if lost:
            lines.append(f"{row.title}: the link dropped {', '.join(f'{n:,} ({name})' for name, n in lost.items())}")
    return lines
