"""A journey as a picture: one packet's way through the floors, hosts side by side, the wire at the bottom."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from xml.sax.saxutils import escape

from ustack.io.trace_layout import (
    BOX_HEIGHT,
    BOX_PADDING,
    EM,
    HOST_LINE,
    MARGIN,
    Picture,
    join,
)
from ustack.io.trace_text import Span, fill
from ustack.io.trace_words import CALENDAR, began, clock, duration, ending, kinship
from ustack.trace.journey import DROPPED

if TYPE_CHECKING:
    from ustack.io.trace import JourneyInfo
    from ustack.io.trace_layout import Band, Link, Point2, Station
    from ustack.io.trace_source import Sources

#: The floors' names, from the wire up, and the rooms on each.
FLOORS: Final = (
    ("wire", ("io/ device/",)),
    ("devices", ("device/",)),
    ("neighbours", ("neighbour/",)),
    ("IPv4", ("ipv4/", "routing/", "netfilter/")),
    ("transports", ("udp/ tcp/", "raw/ ping/")),
    ("sockets", ("inet/",)),
)
_HEAD_SIZE: Final = 16.0
_HEAD_LINE: Final = 22.0
_ROUND: Final = 7.0
_STYLE: Final = """
    text { font-family: "DejaVu Sans Mono", Menlo, Consolas, monospace; fill: #1d2731; }
    .head { font-size: 16px; font-weight: bold; }
    .sub, .floorname, .host { font-family: "DejaVu Sans", Verdana, Helvetica, Arial, sans-serif; }
    .sub { font-size: 12px; fill: #3c4752; }
    .floorname { font-size: 14px; font-weight: bold; }
    .host { font-size: 15px; font-weight: bold; text-anchor: middle; }
    .room { font-size: 11px; fill: #55616d; }
    .fn { font-size: 12.5px; font-weight: bold; }
    .file { font-size: 11px; fill: #55616d; }
    .number { font-size: 10px; fill: #7b8794; text-anchor: middle; }
    .decision { font-size: 11px; font-weight: bold; }
    .note { font-size: 11px; fill: #3c4752; }
    .time { font-size: 11px; fill: #2a6496; }
    .page { fill: #fbfbf8; }
    .floor { fill: #eef1f2; }
    .stay { fill: none; stroke: #8a949e; stroke-width: 1.2; stroke-dasharray: 5 4; }
    .up rect { fill: #ffffff; stroke: #2a6496; stroke-width: 1.5; }
    .down rect { fill: #ffffff; stroke: #2d7d46; stroke-width: 1.5; }
    .netfilter rect { fill: #ffe9c4; stroke: #b8740a; }
    .delivered rect { fill: #2a6496; stroke: #2a6496; }
    .sent rect { fill: #2d7d46; stroke: #2d7d46; }
    .stolen rect, .onitsway rect { fill: #7b8794; stroke: #7b8794; }
    .dropped rect { fill: #a33a2c; stroke: #a33a2c; }
    .end .fn { fill: #ffffff; text-anchor: middle; }
    .drop rect { fill: #fbe5e1; stroke: #a33a2c; }
    .wayup, .waydown, .wayout { fill: none; stroke-width: 2; }
    .wayup { stroke: #2a6496; marker-end: url(#up); }
    .waydown { stroke: #2d7d46; marker-end: url(#down); }
    .wayout { stroke: #a33a2c; stroke-dasharray: 5 3; marker-end: url(#out); }
    .cross { fill: none; stroke: #ffffff; stroke-width: 2.5; }
"""
_MARKER: Final = (
    '    <marker id="{}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" '
    'markerUnits="userSpaceOnUse" orient="auto"><path d="M0 0L8 4L0 8Z" fill="{}"/></marker>'
)
_MARKERS: Final = (("up", "#2a6496"), ("down", "#2d7d46"), ("out", "#a33a2c"))


def journey_svg(journey: JourneyInfo, sources: Sources) -> str:
    """A document of its own."""
    width = Picture(journey, sources, 0).width
    head = [join(line) for line in title_lines(journey, width)]
    top = MARGIN + _HEAD_LINE * len(head) + 34
    picture = Picture(journey, sources, top)
    size = f'width="{picture.width:.0f}" height="{picture.height:.0f}"'
    box = f'viewBox="0 0 {picture.width:.0f} {picture.height:.0f}"'
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {box} {size} role="img" aria-labelledby="title desc">',
        f'  <title id="title">{escape(journey.packet)}</title>',
        f'  <desc id="desc">{escape(described(journey, sources))}</desc>',
        f"  <style>{_STYLE}  </style>",
        "  <defs>",
        *(_MARKER.format(*marker) for marker in _MARKERS),
        "  </defs>",
        f'  <rect class="page" {size} rx="10"/>',
        *(text("head", MARGIN * 2, MARGIN + _HEAD_LINE * (at + 0.8), line) for at, line in enumerate(head)),
        text("sub", MARGIN * 2, top - 16, subtitle(journey)),
    ]
    for band in picture.bands:
        lines += draw_band(band, picture.width)
    lines += draw_hosts(picture)
    lines += [draw_link(link) for link in picture.links]
    for lane in picture.lanes:
        for station in lane.stations:
            lines += draw_station(station, "up" if lane.rising else "down")
    return "\n".join([*lines, "</svg>", ""])


def title_lines(journey: JourneyInfo, width: float) -> list[list[Span]]:
    columns = max(int((width - 4 * MARGIN) / (_HEAD_SIZE * EM)), 20)
    words = [Span(word, "", " ") for word in f"#{journey.ident} {journey.packet}".split(" ")]
    return fill(words, columns, columns)


def subtitle(journey: JourneyInfo) -> str:
    start = began(journey)
    unit = " s" if start < CALENDAR else ""
    steps = f"{len(journey.steps)} steps" + (f" in {duration(journey.ended - start)}" if journey.ended > start else "")
    return " · ".join([f"{clock(start)}{unit}", steps, ending(journey), *kinship(journey)])


def described(journey: JourneyInfo, sources: Sources) -> str:
    """For those who do not see it."""
    names = ", ".join(sources.place(step.point).linux for step in journey.steps)
    return (
        f"One packet's way through the floors of the stack, the wire below, sockets above: {names}; {ending(journey)}."
    )


def draw_band(band: Band, width: float) -> list[str]:
    name, rooms = FLOORS[band.level]
    high = band.bottom - band.top
    lines = [rect(MARGIN, band.top, width - 2 * MARGIN, high, 8, "floor")]
    lines.append(text("floorname", MARGIN + 14, band.top + 22, name))
    if high > 40 + 15 * len(rooms):
        lines += [text("room", MARGIN + 14, band.top + 40 + 15 * at, room) for at, room in enumerate(rooms)]
    return lines


def draw_hosts(picture: Picture) -> list[str]:
    lines = []
    top, bottom = picture.bands[-1].top - HOST_LINE + 4, picture.bands[0].bottom + 4
    for host, left, right in picture.hosts() if picture.named else []:
        lines.append(rect(left, top, right - left, bottom - top, 8, "stay"))
        lines.append(text("host", (left + right) / 2, top + 20, host))
    return lines


def draw_link(link: Link) -> str:
    kind = "wayout" if link.kind in ("drop", DROPPED) else "wayup" if link.rising else "waydown"
    return f'  <path class="{kind}" d="{path(link.points)}"/>'


def path(points: list[Point2]) -> str:
    """A line with round corners, which ends a little before the last point, where the arrow's tip is."""
    x, y = points[0]
    told = [f"M{x:.1f} {y:.1f}"]
    for at, (x, y) in enumerate(points[1:-1], 1):
        before, after = points[at - 1], points[at + 1]
        told.append(f"L{near(x, y, before)}Q{x:.1f} {y:.1f} {near(x, y, after)}")
    x, y = points[-1]
    last_x, last_y = points[-2]
    x -= 2 * sign(x - last_x)
    y -= 2 * sign(y - last_y)
    return "".join([*told, f"L{x:.1f} {y:.1f}"])


def near(x: float, y: float, other: Point2) -> str:
    """The point on the way from a corner to ``other`` where its rounding begins."""
    length = max(abs(other[0] - x), abs(other[1] - y))
    back = min(_ROUND, length / 2)
    return f"{x + back * sign(other[0] - x):.1f} {y + back * sign(other[1] - y):.1f}"


def sign(number: float) -> int:
    return (number > 0) - (number < 0)


def draw_station(station: Station, way: str) -> list[str]:
    kind = station.kind.replace(" ", "")
    if station.number == 0:
        return draw_end(station, f"end {way} {kind}")
    radius = 14 if kind == "netfilter" else 6
    inside = [
        rect(station.x, station.y, station.width, BOX_HEIGHT, radius),
        text("number", station.x + BOX_PADDING / 2 + 1, station.y + 16, str(station.number)),
        text("fn", station.x + BOX_PADDING, station.y + 16, station.title),
        text("file", station.x + BOX_PADDING, station.y + 31, station.under),
    ]
    inside += draw_notes(station)
    return [f'  <g class="station {way} {kind}">', *(f"  {line}" for line in inside if line), "  </g>"]


def draw_end(station: Station, classes: str) -> list[str]:
    inside = [
        rect(station.x, station.top, station.width, station.bottom - station.top, 15),
        text("fn", station.middle, station.y + 23.5, station.title),
    ]
    return [f'  <g class="station {classes}">', *(f"  {line}" for line in [*inside, *draw_notes(station)]), "  </g>"]


def draw_notes(station: Station) -> list[str]:
    return [text(kind, station.note_x, station.note_y(at), line) for at, (line, kind) in enumerate(station.notes)]


def rect(x: float, y: float, width: float, height: float, radius: float, kind: str = "") -> str:
    named = f'class="{kind}" ' if kind else ""
    return f'  <rect {named}x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" rx="{radius:.0f}"/>'


def text(kind: str, x: float, y: float, words: str) -> str:
    return f'  <text class="{kind}" x="{x:.1f}" y="{y:.1f}">{escape(words)}</text>' if words else ""
