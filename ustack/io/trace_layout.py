"""Where everything lies in the picture of a journey: floors as bands, a lane for every way up or down, stations.

A lane is a part of the way that goes up through the floors of a host, or down. Its stations stand in the bands of
their floors, in the order of the way as far as that goes up or down; a step aside (a route is looked up before the
transport makes its packet) is joined by a curve on the lane's left. What was decided stands on the right of a station.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ustack.io.trace_text import Span, fill
from ustack.io.trace_words import HEIGHTS, began, duration, ending, fact_words
from ustack.trace.points import Point

if TYPE_CHECKING:
    from ustack.io.trace import JourneyInfo, StepInfo
    from ustack.io.trace_source import Sources

#: Width of a character, in ems, of every fixed-width font that the picture names (DejaVu Sans Mono's; none is wider).
EM: Final = 0.6022
NAME_SIZE: Final = 12.5
NOTE_SIZE: Final = 11.0
NOTE_LINE: Final = 14.0
#: Columns of what stands beside a station.
NOTE_COLUMNS: Final = 38

BOX_HEIGHT: Final = 38.0
BOX_MIN: Final = 150.0
END_INSET: Final = 4.0  #: the end is a flatter box
BOX_PADDING: Final = 26.0  #: left of the text, where the number is
ROW_GAP: Final = 16.0
TRACK: Final = 11.0  #: between two curves side by side
CURVE_SHIFT: Final = 8.0  #: from the middle of a box
CHANNEL: Final = 20.0  #: above and below the rows of a band, where the way turns
EMPTY_BAND: Final = 34.0
BAND_GAP: Final = 6.0
LABELS: Final = 118.0  #: what the floors' names need on the left
LANE_GAP: Final = 26.0
MARGIN: Final = 16.0
HOST_LINE: Final = 34.0

WIRE: Final = 0
DEVICES: Final = 1
IP: Final = 3
SOCKETS: Final = 5
#: So far back, and it is no step aside but a way of its own.
_TURN: Final = 3

Point2 = tuple[float, float]


class Station:
    """A step, or the end, as a box with notes beside it."""

    def __init__(self, number: int, title: str, under: str, level: int, kind: str) -> None:
        self.number: int = number  #: in the order of the way, from 1; 0 for the end
        self.title: str = title
        self.under: str = under
        self.level: int = level
        self.dev: str = ""  #: where it is, as far as that is known
        self.kind: str = kind  #: a floor, "drop", or how the journey ended
        self.notes: list[tuple[str, str]] = []  #: lines: text and class
        self.row: int = 0  #: in its lane, in the lane's direction
        self.x: float = 0.0
        self.y: float = 0.0
        self.width: float = 0.0

    @property
    def top(self) -> float:
        return self.y + (0.0 if self.number else END_INSET)

    @property
    def bottom(self) -> float:
        return self.y + BOX_HEIGHT - (0.0 if self.number else END_INSET)

    @property
    def row_height(self) -> float:
        return max(BOX_HEIGHT, NOTE_LINE * len(self.notes)) + ROW_GAP

    @property
    def middle(self) -> float:
        return self.x + self.width / 2

    @property
    def note_x(self) -> float:
        return self.x + self.width + 10

    def note_y(self, line: int) -> float:
        """The base line of a note."""
        first = self.y + BOX_HEIGHT / 2 - NOTE_LINE * len(self.notes) / 2
        return first + NOTE_LINE * line + NOTE_LINE - 3.5


class Lane:
    def __init__(self, host: str, rising: bool, stations: list[Station]) -> None:
        self.host: str = host
        self.rising: bool = rising
        self.stations: list[Station] = stations
        self.x: float = 0.0
        self.width: float = 0.0
        self.curves: list[tuple[Station, Station, int]] = []  #: steps aside, and the track of each
        side = 1 if rising else -1
        for row, station in enumerate(sorted(stations, key=lambda station: side * station.level)):
            station.row = row
        self._find_tracks()

    def _find_tracks(self) -> None:
        """Curves that pass the same rows get tracks side by side, the shortest nearest to the boxes."""
        jumps = [pair for pair in zip(self.stations, self.stations[1:], strict=False) if pair[1].row != pair[0].row + 1]
        taken: list[tuple[int, int, int]] = []
        for one, two in sorted(jumps, key=lambda pair: abs(pair[0].row - pair[1].row)):
            low, high = sorted((one.row, two.row))
            track = 0
            while any(at == track and low <= end and start <= high for at, start, end in taken):
                track += 1
            taken.append((track, low, high))
            self.curves.append((one, two, track))

    @property
    def tracks(self) -> int:
        return max((track + 1 for _, _, track in self.curves), default=0)

    def place(self, x: float) -> None:
        """Lay it out from ``x`` to the right."""
        self.x = x
        box = max(BOX_MIN, *(box_width(station) for station in self.stations))
        notes = max(len(text) for station in self.stations for text, _ in [*station.notes, ("", "")])
        left = 14 + TRACK * self.tracks
        for station in self.stations:
            station.x = x + left
            station.width = box
        self.width = left + box + 10 + notes * NOTE_SIZE * EM + 10

    def fill_band(self, level: int, top: float, bottom: float) -> None:
        """Give the stations of a band their height: from above on a way down, from below on a way up."""
        mine = sorted((station for station in self.stations if station.level == level), key=lambda each: each.row)
        at = bottom if self.rising else top
        for station in mine:
            at -= station.row_height if self.rising else 0
            station.y = at + (station.row_height - BOX_HEIGHT) / 2
            at += 0 if self.rising else station.row_height


class Band:
    def __init__(self, level: int, top: float, bottom: float) -> None:
        self.level: int = level
        self.top: float = top
        self.bottom: float = bottom

    def channel(self, above: bool) -> float:
        return self.top + CHANNEL / 2 if above else self.bottom - CHANNEL / 2


class Link:
    """A part of the way: a line through ``points``."""

    def __init__(self, points: list[Point2], rising: bool, kind: str) -> None:
        self.points: list[Point2] = points
        self.rising: bool = rising
        self.kind: str = kind  #: of the station that it leads to


class Picture:
    """Everything with its place; ``top``: room for a head."""

    def __init__(self, journey: JourneyInfo, sources: Sources, top: float) -> None:
        self.lanes: list[Lane] = lanes_of(journey, sources)
        self.named: bool = any(lane.host for lane in self.lanes)
        x = MARGIN + LABELS
        for lane in self.lanes:
            lane.place(x)
            x += lane.width + LANE_GAP
        self.width: float = x - LANE_GAP + MARGIN
        self.bands: list[Band] = []
        y = self._stack_bands(top + (HOST_LINE if self.named else 0.0))
        self.height: float = y + MARGIN
        self.links: list[Link] = [link for lane in self.lanes for link in links_within(lane)]
        for one, two in zip(self.lanes, self.lanes[1:], strict=False):
            self.links.append(self._link_between(one, two))

    def _stack_bands(self, y: float) -> float:
        """Sockets first; each as high as its fullest lane."""
        for level in range(SOCKETS, WIRE - 1, -1):
            rows = max(
                (sum(each.row_height for each in lane.stations if each.level == level) for lane in self.lanes),
                default=0.0,
            )
            height = rows + 2 * CHANNEL if rows else EMPTY_BAND
            self.bands.insert(0, Band(level, y, y + height))
            for lane in self.lanes:
                lane.fill_band(level, y + CHANNEL, y + height - CHANNEL)
            y += height + BAND_GAP
        return y - BAND_GAP

    def _link_between(self, one: Lane, two: Lane) -> Link:
        """From the end of a lane to the beginning of the next, through the bands' free edges."""
        last, first = one.stations[-1], two.stations[0]
        leave = self.bands[last.level].channel(one.rising)
        enter = self.bands[first.level].channel(not two.rising)
        points = [(last.middle, last.top if one.rising else last.bottom), (last.middle, leave)]
        if leave != enter:
            gap = two.x - LANE_GAP / 2
            points += [(gap, leave), (gap, enter)]
        points += [(first.middle, enter), (first.middle, first.bottom if two.rising else first.top)]
        return Link(points, two.rising, first.kind)

    def hosts(self) -> list[tuple[str, float, float]]:
        """Every stay at a host, with its left and right end."""
        stays: list[tuple[str, float, float]] = []
        for lane in self.lanes:
            if stays and stays[-1][0] == lane.host:
                stays[-1] = (lane.host, stays[-1][1], lane.x + lane.width)
            else:
                stays.append((lane.host, lane.x, lane.x + lane.width))
        return stays


def box_width(station: Station) -> float:
    """Name and what stands under it, the number left of them."""
    text = max(len(station.title) * NAME_SIZE, len(station.under) * NOTE_SIZE) * EM
    return text + BOX_PADDING + 12


def links_within(lane: Lane) -> list[Link]:
    links = []
    for one, two in zip(lane.stations, lane.stations[1:], strict=False):
        if two.row == one.row + 1:
            ends = (one.top, two.bottom) if lane.rising else (one.bottom, two.top)
            links.append(Link([(one.middle, ends[0]), (two.middle, ends[1])], lane.rising, two.kind))
    # A curve enters a box on the side that it comes from, and leaves on the other: so it crosses no curve that entered.
    entered = {two: CURVE_SHIFT if one.y > two.y else -CURVE_SHIFT for one, two, _ in lane.curves}
    for one, two, track in lane.curves:
        x = one.x - 10 - TRACK * track
        shift = -entered[one] if one in entered else -entered[two]
        start, end = one.y + BOX_HEIGHT / 2 + shift, two.y + BOX_HEIGHT / 2 + entered[two]
        links.append(Link([(one.x, start), (x, start), (x, end), (two.x, end)], lane.rising, two.kind))
    return links


def lanes_of(journey: JourneyInfo, sources: Sources) -> list[Lane]:
    """The way, cut where it changes the host or turns."""
    stations = stations_of(journey, sources)
    hosts = [step.host for step in journey.steps] + [journey.steps[-1].host if journey.steps else ""]
    lanes = []
    start = 0
    while start < len(stations):
        end = start + 1
        while end < len(stations) and hosts[end] == hosts[start]:
            end += 1
        stay = stations[start:end]
        parts = through_a_switch(stay) or turns(stay)
        cuts = [leaves_at(stay, low, high) if rising else high for low, high, rising in parts]
        for low, high, (_, _, rising) in zip([0, *cuts], cuts, parts, strict=False):
            lanes.append(Lane(hosts[start], rising, stay[low:high]))
        start = end
    return lanes


def through_a_switch(stations: list[Station]) -> list[tuple[int, int, bool]]:
    """Up and down for what begins on the devices' floor, changes its device there and goes on below; else nothing."""
    levels = [station.level for station in stations]
    end = next((at for at, level in enumerate(levels) if level != DEVICES), len(levels))
    if end in (0, len(levels)) or max(levels[end:]) >= DEVICES:
        return []
    cut = end
    while cut > 0 and stations[cut - 1].dev == stations[end - 1].dev:
        cut -= 1
    return [(0, cut, True), (cut, len(stations), False)] if cut else []


def leaves_at(stations: list[Station], low: int, turn: int) -> int:
    """Where a packet that goes up, and down from ``turn`` on, has got the device that it goes out on: there it turns.

    A step aside to a higher floor may have looked like the turn, and what follows on the same floor like its way out.
    """
    if turn == len(stations):
        return turn
    before, cut = stations[turn - 1], turn
    if stations[turn].level == IP and stations[turn].dev == before.dev:
        while cut < len(stations) - 1 and stations[cut].level == IP and stations[cut].dev == before.dev:
            cut += 1
        return cut if stations[cut].level == IP and stations[cut].dev != before.dev else turn
    while cut > low + 1 and stations[cut - 1].level == before.level and stations[cut - 1].dev == stations[turn].dev:
        cut -= 1
    return cut if stations[cut - 1].level == before.level else turn


def turns(stations: list[Station]) -> list[tuple[int, int, bool]]:
    """(from, to, whether it goes up) of every part that goes one way; a step aside and back is no turn."""
    levels = [station.level for station in stations]
    found = []
    start = 0
    while start < len(levels):
        rising = goes_up(levels[start:])
        side = 1 if rising else -1
        end = start
        for at in range(start + 1, len(levels)):
            if side * (levels[at] - levels[end]) >= 0:
                end = at
            elif is_turn(levels[start:], end - start, at - start, side):
                break
        else:
            end = len(levels) - 1
        found.append((start, end + 1, rising))
        start = end + 1
    return found


def goes_up(levels: list[int]) -> bool:
    """By the first real change, else by the first of all."""
    changes = [level - levels[0] for level in levels if level != levels[0]]
    return next((change for change in changes if abs(change) > 1), changes[0] if changes else 0) > 0


def is_turn(levels: list[int], end: int, at: int, side: int) -> bool:
    """Whether what goes back at ``at`` from the extreme at ``end`` goes another way from there."""
    if abs(levels[at] - levels[end]) >= _TURN:
        return True
    rest = levels[end + 1 :]
    if any(side * (level - levels[end]) >= 0 for level in rest):
        return False
    if min(side * (level - levels[end]) for level in rest) <= -2:
        return True
    if side < 0:
        return False
    return min(rest) == WIRE or (levels[end] >= IP > min(rest) and min(rest) not in levels[:end])  # on its way out


def stations_of(journey: JourneyInfo, sources: Sources) -> list[Station]:
    """Every step, and the end."""
    stations: list[Station] = []
    level, dev, host, time = IP, "", "", began(journey)
    for number, step in enumerate(journey.steps, 1):
        place = sources.place(step.point)
        lost = step.point == Point.KFREE_SKB.name
        if not lost or not stations:
            level = HEIGHTS.get(place.floor, level)
        under = place.where() or place.function
        if step.dev and (step.dev, step.host) != (dev, host):
            under = f"{step.dev} · {under}" if under else step.dev
            dev, host = step.dev, step.host
        station = Station(number, place.linux, under, level, "drop" if lost else place.floor)
        station.dev = dev
        station.notes = notes(step, step.time - began(journey) if step.time != time else 0)
        stations.append(station)
        time = step.time
    end = Station(0, ending(journey), "", level, journey.outcome)
    end.dev = dev
    if journey.lost:
        end.notes = [(f"{journey.lost} more steps were not kept", "time")]
    return [*stations, end]


def notes(step: StepInfo, since: int) -> list[tuple[str, str]]:
    """When, if that is another time than the step before; what was decided; what by."""
    lines = [(f"at {duration(since)}", "time")] if since else []
    spans = [Span(step.decision, "decision")] if step.decision else []
    lines += [(join(line), "decision") for line in fill(spans, NOTE_COLUMNS, NOTE_COLUMNS)]
    facts = [Span(fact, "note", ", ") for fact in fact_words(step.facts)]
    return lines + [(join(line), "note") for line in fill(facts, NOTE_COLUMNS, NOTE_COLUMNS)]


def join(spans: list[Span]) -> str:
    return "".join((span.glue if at else "") + span.text for at, span in enumerate(spans))
