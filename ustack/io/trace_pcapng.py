"""Journeys as a pcapng file: every packet once, on the device where it was, and its steps as its comments.

A packet that came in belongs to the device that it came from, one of our own to that on which it went out; one that
never had a device (lost before, or on no device yet) to an interface called "none". Wireshark shows the comments above
the packet's layers, a line each, and finds what was lost by ``frame.comment contains "dropped"``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO, Final

from ustack.io import pcapng
from ustack.io.trace_words import HEIGHTS, began, duration, ending, kinship, step_words
from ustack.trace.points import Point

if TYPE_CHECKING:
    from ustack.io.trace import JourneyInfo, StepInfo
    from ustack.io.trace_source import Sources

SNAPLEN: Final = 262_144
NO_DEVICE: Final = "none"
#: Journeys begin above it on their way out.
_HIGHEST_IN: Final = HEIGHTS["device"]
#: Columns of a comment's beginning: Wireshark shows some 240 characters, so what may be long stands last.
_SINCE: Final = 7
_FLOOR: Final = 9
_FUNCTION: Final = 30


class TracePcapng:
    """Writes to ``file``, which stays the caller's to close; each journey is in the file when ``write`` returns."""

    def __init__(self, file: BinaryIO, sources: Sources) -> None:
        self._file: BinaryIO = file
        self._sources: Sources = sources
        self._interfaces: dict[str, int] = {}
        self._put(pcapng.section_header("ustack"))

    def write(self, journey: JourneyInfo) -> None:
        inwards = self._inwards(journey)
        name = device(journey, inwards)
        blocks = b""
        if name not in self._interfaces:
            self._interfaces[name] = len(self._interfaces)
            blocks = pcapng.interface(pcapng.LINKTYPE_ETHERNET, SNAPLEN, name)
        flags = pcapng.FLAG_INBOUND if inwards else pcapng.FLAG_OUTBOUND
        length = max(journey.length, len(journey.frame))
        notes = comments(journey, self._sources)
        index = self._interfaces[name]
        self._put(blocks + pcapng.packet(index, began(journey), journey.frame, length, flags, *notes))

    def _inwards(self, journey: JourneyInfo) -> bool:
        floor = self._sources.place(journey.steps[0].point).floor if journey.steps else ""
        return HEIGHTS.get(floor, 0) <= _HIGHEST_IN

    def _put(self, data: bytes) -> None:
        self._file.write(data)
        self._file.flush()


def device(journey: JourneyInfo, inwards: bool) -> str:
    """``HOST:DEVICE`` of the host where it began, without HOST where there is only one: on the way in the first device
    there, on the way out the last."""
    first = [step for step in journey.steps if step.dev and step.host == journey.steps[0].host]
    names = [where(step) for step in first]
    return (names[0] if inwards else names[-1]) if names else NO_DEVICE


def where(step: StepInfo) -> str:
    return ":".join(filter(None, (step.host, step.dev)))


def ways(journey: JourneyInfo) -> list[str]:
    """Where each step was; a device stays the one where it is until another is told."""
    told: list[str] = []
    host = dev = ""
    for step in journey.steps:
        dev = step.dev or (dev if step.host == host else "")
        host = step.host
        told.append(":".join(filter(None, (host, dev))))
    return told


def comments(journey: JourneyInfo, sources: Sources) -> list[str]:
    """Its number and its end, and a line for each step."""
    lines = ["  ".join([f"#{journey.ident}", ending(journey), *kinship(journey)])]
    places = ways(journey)
    most = max(map(len, places), default=0)
    floor = ""
    for step, told in zip(journey.steps, places, strict=True):
        place = sources.place(step.point)
        if step.point != Point.KFREE_SKB.name or not floor:  # it is lost on the floor where it is
            floor = place.floor
        function = " " * HEIGHTS.get(floor, 0) + place.linux
        since = duration(step.time - began(journey)).rjust(_SINCE)
        cells = [since, told.ljust(most), floor.ljust(_FLOOR), function.ljust(_FUNCTION), place.where()]
        lines.append("  ".join([*cells, step_words(step)]).rstrip())
    if journey.lost:
        lines.append(f"{journey.lost} more steps were not kept")
    return lines
