"""A chart with logarithmic axes, as SVG written by hand."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from xml.sax.saxutils import escape

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

WIDTH, HEIGHT = 760, 440
LEFT, RIGHT, TOP, BOTTOM = 70, 190, 56, 52
COLOURS: Final = ("#2a6496", "#c0504d", "#7a8b3c", "#8064a2", "#d08a2e")
INK, PALE, PAPER = "#1d2731", "#d9d8d0", "#fbfbf8"
FONT: Final = "DejaVu Sans,Verdana,Arial,sans-serif"
#: Two names beside the lines' ends must lie so far apart.
LEADING: Final = 16.0


@dataclass(frozen=True)
class Line:
    name: str
    points: Sequence[tuple[float, float]]


class Axis:
    """Whole decades, from ``low`` pixels to ``high``."""

    def __init__(self, values: Sequence[float], low: float, high: float) -> None:
        self.first = math.floor(math.log10(min(values)))
        self.last = max(math.ceil(math.log10(max(values))), self.first + 1)
        self.low, self.high = low, high

    def at(self, value: float) -> float:
        part = (math.log10(value) - self.first) / (self.last - self.first)
        return self.low + part * (self.high - self.low)

    def decades(self) -> list[int]:
        return [10**power for power in range(self.first, self.last + 1)] if self.first >= 0 else []


def chart(title: str, x_title: str, y_title: str, lines: Sequence[Line]) -> str:
    """The whole file."""
    x = Axis([point[0] for line in lines for point in line.points], LEFT, WIDTH - RIGHT)
    y = Axis([point[1] for line in lines for point in line.points], HEIGHT - BOTTOM, TOP)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="{FONT}" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="{PAPER}"/>',
        text(LEFT, 26, title, size=15),
        *grid(x, y),
        text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 12, x_title, "middle"),
        text(LEFT - 8, TOP - 12, y_title, "middle"),
        *drawn(lines, x, y),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def grid(x: Axis, y: Axis) -> Iterator[str]:
    for value in x.decades():
        yield rule(x.at(value), y.low, x.at(value), y.high)
        yield text(x.at(value), y.low + 18, short(value), "middle")
    for value in y.decades():
        yield rule(x.low, y.at(value), x.high, y.at(value))
        yield text(x.low - 8, y.at(value) + 4, short(value), "end")


def drawn(lines: Sequence[Line], x: Axis, y: Axis) -> Iterator[str]:
    names = spread([y.at(line.points[-1][1]) for line in lines])
    for line, colour, name_y in zip(lines, COLOURS, names, strict=False):
        places = [(x.at(value), y.at(cost)) for value, cost in line.points]
        way = " ".join(f"{across:.1f},{down:.1f}" for across, down in places)
        yield f'<polyline points="{way}" fill="none" stroke="{colour}" stroke-width="2"/>'
        for across, down in places:
            yield f'<circle cx="{across:.1f}" cy="{down:.1f}" r="3" fill="{colour}"/>'
        yield text(x.high + 12, name_y + 4, line.name, colour=colour)


def spread(wanted: Sequence[float]) -> list[float]:
    """Heights near those wanted, none too near to another."""
    placed: dict[int, float] = {}
    above = -math.inf
    for at in sorted(range(len(wanted)), key=lambda place: wanted[place]):
        above = placed[at] = max(wanted[at], above + LEADING)
    return [placed[at] for at in range(len(wanted))]


def rule(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{PALE}"/>'


def text(x: float, y: float, words: str, anchor: str = "start", size: int = 12, colour: str = INK) -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" fill="{colour}"'
    return f"<text {place}>{escape(words)}</text>"


def short(value: int) -> str:
    if value >= 1_000_000:
        return f"{value // 1_000_000} M"
    return f"{value // 1000} k" if value >= 1000 else str(value)
