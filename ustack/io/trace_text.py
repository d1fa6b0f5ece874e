"""Journeys as text: a head, a line a step, the end.

    #3  13:14:05.123456  IP 192.0.2.1.33000 > 192.0.2.2.4747: UDP, length 6
      0  eth0  device    netif_receive_skb     0800                       device/core.py:188
               ipv4        ip_rcv              accept: ttl 64             ipv4/input.py:66
      ...
      0  delivered

Time, host and device, and the floor stand where they change. Functions are indented by how high their floor lies, so a
way in goes to the right and a way out comes back to the left. In narrow columns what is long stands below its function.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from ustack.io.trace_words import HEIGHTS, began, clock, duration, ending, fact_words, kinship
from ustack.trace.journey import DELIVERED, DROPPED, SENT
from ustack.trace.points import Point

if TYPE_CHECKING:
    from ustack.io.trace import JourneyInfo, StepInfo
    from ustack.io.trace_source import Place, Sources

#: Columns of a text that is not for a terminal.
WIDTH: Final = 120
WIDTH_MIN: Final = 60
#: How far a floor is to the right of the one below it; each with the columns that must be left for what was decided. It
#: stands below its function if there are less.
INDENTS: Final = ((2, 54), (1, 46))
_BELOW: Final = 2
_GAP: Final = "  "

# SGR of ECMA-48
_RESET: Final = "\x1b[0m"
_BOLD: Final = "1"
_DIM: Final = "2"
_BAD: Final = "1;31"
_GOOD: Final = "1;32"
#: Of the 256 colours, some that can be read on black and on white.
_FLOORS: Final = {
    "wire": "38;5;244", "device": "38;5;33", "neighbour": "38;5;37", "routing": "38;5;136", "netfilter": "38;5;166",
    "ipv4": "38;5;64", "icmp": "38;5;168", "udp": "38;5;133", "tcp": "38;5;133", "raw": "38;5;133", "socket": "1",
}  # fmt: skip
KFREE_SKB: Final = Point.KFREE_SKB.name
_ENDS: Final = {DELIVERED: _GOOD, SENT: _GOOD, DROPPED: _BAD}


class Span(NamedTuple):
    """Some text of one colour, "" for the terminal's own; ``glue`` goes before it unless it begins a line."""

    text: str
    style: str = ""
    glue: str = ""


class Row(NamedTuple):
    """A step, cell by cell; what is "" is as in the row above."""

    host: str
    since: str
    dev: str
    floor: str
    height: int
    function: str
    source: str
    words: list[Span]
    style: str


class Columns(NamedTuple):
    """How wide each is; what was decided stands at column ``beside``, or below the function if that is 0."""

    since: int
    dev: int
    floor: int
    indent: int
    function: int  #: where it begins
    beside: int


class TraceText:
    """Journeys in ``width`` columns, for a terminal with ``color``."""

    def __init__(self, sources: Sources, width: int = WIDTH, color: bool = False) -> None:
        self._sources: Sources = sources
        self._width: int = max(width, WIDTH_MIN)
        self._color: bool = color

    def render(self, journey: JourneyInfo) -> str:
        """All of its lines, each with its newline."""
        rows = self._rows(journey)
        columns = layout(rows, self._width)
        lines = self._head(journey)
        for row in rows:
            lines += self._row(row, columns)
        if journey.lost:
            lines.append(f"{' ' * columns.since}{_GAP}{journey.lost} more steps were not kept")
        lines.append(self._end(journey, columns))
        return "".join(f"{line.rstrip()}\n" for line in lines)

    def _head(self, journey: JourneyInfo) -> list[str]:
        spans = [Span(f"#{journey.ident}", _BOLD), Span(clock(began(journey)), _DIM, _GAP)]
        if journey.host:
            spans.append(Span(journey.host, _BOLD, _GAP))
        spans.append(Span(journey.packet, _BOLD, _GAP))
        spans += [Span(word, "", _GAP) for word in kinship(journey)]
        lines = fill(spans, self._width, self._width - 4)
        return [("    " if at else "") + self._join(line) for at, line in enumerate(lines)]

    def _rows(self, journey: JourneyInfo) -> list[Row]:
        """The cells, without what is as it was; hosts only where there are several."""
        rows = []
        several = len({step.host for step in journey.steps}) > 1
        time, host, dev, floor = -1, "", "", ""
        for step in journey.steps:
            place = self._sources.place(step.point)
            if step.point == KFREE_SKB:
                place = place._replace(floor=floor or place.floor)  # it is lost on the floor where it is
            moved = step.host != host
            new_dev = step.dev if moved or step.dev != dev else ""
            new_floor = place.floor if moved or new_dev or place.floor != floor else ""
            new_host = step.host if several and moved else ""
            since = duration(step.time - began(journey)) if step.time != time or new_host else ""
            rows.append(row_of(step, place, new_host, since, new_dev, new_floor))
            dev = step.dev or ("" if moved else dev)
            time, host, floor = step.time, step.host, place.floor
        return rows

    def _row(self, row: Row, columns: Columns) -> list[str]:
        since = row.since.rjust(columns.since)
        chapter = []
        if row.host:
            chapter.append(since + _GAP + self._paint(row.host, _BOLD))
            since = " " * columns.since
        line = since + _GAP
        if columns.dev:
            line += self._paint(row.dev, _BOLD, columns.dev) + _GAP
        line += self._paint(row.floor, _FLOORS.get(row.floor, ""), columns.floor) + _GAP
        indent = columns.indent * row.height
        line += " " * indent + self._paint(row.function, row.style)
        at = columns.function + indent + len(row.function)  # where the line has come to
        write = self._beside if columns.beside else self._below
        return chapter + write(row, columns, line, at)

    def _beside(self, row: Row, columns: Columns, line: str, at: int) -> list[str]:
        """What was decided in a column of its own, which goes on under the source."""
        most = self._width - columns.beside
        words = fill(row.words, most - len(row.source) - len(_GAP), most) or [[]]
        line += " " * (columns.beside - at) + self._join(words[0])
        first = self._with_source(line, columns.beside + length(words[0]), row.source)
        return first + [" " * columns.beside + self._join(text) for text in words[1:]]

    def _below(self, row: Row, columns: Columns, line: str, at: int) -> list[str]:
        """The same in narrow columns: in the line if it is short, else in lines of its own."""
        there = at + len(_GAP) + length(row.words)
        if row.words and there + 2 * len(_GAP) + len(row.source) <= self._width:
            return self._with_source(line + _GAP + self._join(row.words), there, row.source)
        below = columns.function + columns.indent * row.height + _BELOW
        words = fill(row.words, self._width - below, self._width - below)
        return self._with_source(line, at, row.source) + [" " * below + self._join(text) for text in words]

    def _with_source(self, line: str, at: int, source: str) -> list[str]:
        """``line``, which has come to column ``at``, with ``source`` at the right end of it, or of one of its own."""
        room = self._width - at - len(source)
        painted = self._paint(source, _DIM)
        if not source or room >= len(_GAP):
            return [line + " " * room + painted]
        return [line, " " * (self._width - len(source)) + painted]

    def _end(self, journey: JourneyInfo, columns: Columns) -> str:
        since = duration(journey.ended - began(journey)) if journey.ended >= began(journey) else ""
        return since.rjust(columns.since) + _GAP + self._paint(ending(journey), _ENDS.get(journey.outcome, ""))

    def _join(self, spans: list[Span]) -> str:
        return "".join((span.glue if at else "") + self._paint(span.text, span.style) for at, span in enumerate(spans))

    def _paint(self, text: str, style: str, width: int = 0) -> str:
        padding = " " * (width - len(text))
        return f"\x1b[{style}m{text}{_RESET}{padding}" if self._color and style and text else text + padding


def row_of(step: StepInfo, place: Place, host: str, since: str, dev: str, floor: str) -> Row:
    bad = step.point == KFREE_SKB
    words = [Span(step.decision, _BAD if bad else _BOLD)] if step.decision else []
    for at, fact in enumerate(fact_words(step.facts)):
        words.append(Span(fact, "", ": " if at == 0 and step.decision else ", "))
    style = _BAD if bad else _FLOORS.get(place.floor, "")
    return Row(host, since, dev, floor, HEIGHTS.get(place.floor, 0), place.linux, place.where(), words, style)


def layout(rows: list[Row], width: int) -> Columns:
    """As wide as the journey's own words need it; what was decided gets the rest."""
    since = max([3, *(len(row.since) for row in rows)])
    dev = max([0, *(len(row.dev) for row in rows)])
    floor = max([0, *(len(row.floor) for row in rows)])
    function = since + floor + 2 * len(_GAP) + (dev + len(_GAP) if dev else 0)
    for indent, words in INDENTS:
        beside = function + max([0, *(indent * row.height + len(row.function) for row in rows)]) + len(_GAP)
        if width - beside >= words:
            return Columns(since, dev, floor, indent, function, beside)
    return Columns(since, dev, floor, INDENTS[-1][0], function, 0)


def length(spans: list[Span]) -> int:
    return sum(len(span.text) + (len(span.glue) if at else 0) for at, span in enumerate(spans))


def fill(spans: list[Span], first: int, rest: int) -> list[list[Span]]:
    """Lines, the first of at most ``first`` columns, the others of ``rest``: broken between spans if that will do."""
    lines: list[list[Span]] = []
    room = -1
    for span in spans:
        for piece in pieces(span, rest):
            needed = len(piece.glue) + len(piece.text)
            if needed <= room:
                lines[-1].append(piece)
                room -= needed
                continue
            if lines:  # what separates two is not lost at the end of a line
                last = lines[-1][-1]
                lines[-1][-1] = last._replace(text=last.text + piece.glue.rstrip())
            elif len(piece.text) > first:
                lines.append([])
            lines.append([piece])
            room = (first if len(lines) == 1 else rest) - len(piece.text) - 1
    return lines


def pieces(span: Span, width: int) -> list[Span]:
    """``span`` itself, or its words where it is too long for a line; a word that is too long stays as it is."""
    if len(span.text) <= width:
        return [span]
    first, *rest = span.text.split(" ")
    return [span._replace(text=first), *(span._replace(text=word, glue=" ") for word in rest)]
