"""Journeys: what a packet went through, and why (what pwru and dropwatch show of the kernel).

``Packet.journey`` is None for every packet that nobody asked about, and so each point of the path costs one look:

    if packet.journey is not None:
        packet.journey.step(Point.IP_RCV, "accepted", {"ttl": iph.ttl})

What comes before there is a packet (a system call, the choice of a route for it) is noted with the tracer, if there is
one, and becomes the beginning of the journey of the packet that follows:

    if net.tracer is not None:
        net.tracer.note(Point.UDP_SENDMSG, "", {"length": length})

A journey that crosses a cable goes on in the next stack, whose tracer belongs to the same Journeys.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mypy_extensions import i64, mypyc_attr

if TYPE_CHECKING:
    from ustack.net import Net
    from ustack.packet import Packet
    from ustack.trace.points import Point

Facts = dict[str, str | int | bool]

#: Journeys that are not over; one more ends the oldest, unfinished.
JOURNEYS_MAX: Final = 1024
#: Steps of one journey; what comes after is counted and not kept.
STEPS_MAX: Final = 256
#: Notes that wait for a packet; the oldest goes.
NOTES_MAX: Final = 64

# How a journey ends
DELIVERED: Final = "delivered"
SENT: Final = "sent"
DROPPED: Final = "dropped"
STOLEN: Final = "stolen"
ON_ITS_WAY: Final = "on its way"  #: nothing happened to it for long, or too many others began


class Step:
    """One point passed: when (ns), where, what was decided and why."""

    def __init__(self, point: Point, now: i64, host: str, dev: str, decision: str, facts: Facts) -> None:
        self.point: Point = point
        self.now: i64 = now
        self.host: str = host
        self.dev: str = dev
        self.decision: str = decision
        self.facts: Facts = facts


class Journey:
    """One packet's way. A fragment, a segment or a copy has a journey of its own, with ``parent`` set."""

    def __init__(self, ident: int, tracer: Tracer, watchers: list[TraceWatcher]) -> None:
        self.ident: int = ident
        self.tracer: Tracer = tracer  #: of the stack where it is now
        self.watchers: list[TraceWatcher] = watchers
        self.parent: int = 0  #: the journey it was cut or copied from, 0 for none
        self.cause: int = 0  #: the journey whose packet made the stack send this one, 0 for none
        self.steps: list[Step] = []
        self.lost: int = 0  #: steps beyond STEPS_MAX
        self.frame: bytes = b""  #: the packet as it was seen last with a link-layer header
        self.outcome: str = ""  #: how it ended, "" before
        self.reason: str = ""  #: why it was dropped

    def step(self, point: Point, decision: str = "", facts: Facts | None = None, dev: str = "") -> None:
        """``decision``: a word or a few; ``facts``: what it was decided by, or what was written."""
        if self.outcome:
            return
        if len(self.steps) >= STEPS_MAX:
            self.lost += 1
            return
        self.steps.append(self.tracer.new_step(point, decision, facts, dev))
        self.tracer.journeys.moved(self)

    def fork(self) -> Journey:
        """For a part or a copy of this packet: a journey that begins here."""
        child = self.tracer.journeys.begin(self.tracer, self.watchers)
        child.parent = self.ident
        child.frame = self.frame
        return child

    def enter(self, tracer: Tracer | None) -> bool:
        """The packet has come into another stack; False if nobody traces there, which ends it."""
        if tracer is None or tracer.journeys is not self.tracer.journeys:
            self.finish(SENT)
            return False
        self.tracer = tracer
        return True

    def finish(self, outcome: str, reason: str = "") -> None:
        """It is over; those who asked are told. A second end is none."""
        if not self.outcome:
            self.outcome = outcome
            self.reason = reason
            self.tracer.journeys.over(self)


@mypyc_attr(allow_interpreted_subclasses=True)
class TraceWatcher:
    """Who asks to see journeys."""

    def matches(self, frame: bytes) -> bool:
        """Whether this packet is one of those; ``frame`` begins with an Ethernet header, of zeros but for the type if
        it has none yet."""
        return True

    def journey(self, journey: Journey) -> None:
        """One is over. Do little: a packet is on its way."""
        raise NotImplementedError


class Journeys:
    """All that are not over, of one stack or of all in a laboratory."""

    def __init__(self) -> None:
        self.watchers: list[TraceWatcher] = []
        self.unfinished: int = 0  #: journeys that were ended because too many began
        self._open: dict[int, Journey] = {}  # the one that moved longest ago first
        self._last: int = 0

    def asked(self, frame: bytes) -> list[TraceWatcher]:
        """Who wants to see the journey of ``frame``."""
        return [watcher for watcher in self.watchers if watcher.matches(frame)]

    def begin(self, tracer: Tracer, watchers: list[TraceWatcher]) -> Journey:
        if len(self._open) >= JOURNEYS_MAX:
            self.unfinished += 1
            next(iter(self._open.values())).finish(ON_ITS_WAY)
        self._last += 1
        journey = Journey(self._last, tracer, watchers)
        self._open[journey.ident] = journey
        return journey

    def moved(self, journey: Journey) -> None:
        """It is the last that moved now."""
        if self._open.pop(journey.ident, None) is not None:
            self._open[journey.ident] = journey

    def over(self, journey: Journey) -> None:
        self._open.pop(journey.ident, None)
        for watcher in journey.watchers:
            watcher.journey(journey)

    def end_all(self) -> None:
        """Nobody looks any more, or the run is over: end what is not."""
        for journey in list(self._open.values()):
            journey.finish(ON_ITS_WAY)


class Tracer:
    """One stack's part: ``Net.tracer`` while anybody watches."""

    def __init__(self, net: Net, journeys: Journeys, host: str = "") -> None:
        """``host``: the stack's name where there are several."""
        self.net: Net = net
        self.journeys: Journeys = journeys
        self.host: str = host
        self.current: Journey | None = None  #: of the packet that is being received
        self._notes: list[Step] = []

    def new_step(self, point: Point, decision: str, facts: Facts | None, dev: str) -> Step:
        return Step(point, self.net.now, self.host, dev, decision, {} if facts is None else facts)

    def call(self, point: Point, decision: str = "", facts: Facts | None = None) -> None:
        """A system call, or a timer, begins: what was noted before belongs to no packet."""
        self.current = None
        self._notes.clear()
        self.note(point, decision, facts)

    def note(self, point: Point, decision: str = "", facts: Facts | None = None) -> None:
        """A step of a packet that is still to be made."""
        if len(self._notes) >= NOTES_MAX:
            self._notes.pop(0)
        self._notes.append(self.new_step(point, decision, facts, ""))

    def received(self, packet: Packet) -> None:
        """A frame has come in: follow it if somebody asks for it. ``packet.buf`` has its Ethernet header."""
        self._notes.clear()
        if packet.journey is None:
            self._follow(packet, packet.buf[packet.mac_header : packet.end], False)
        self.current = packet.journey

    def built(self, packet: Packet, frame: bytes) -> None:
        """A packet of our own has its headers: follow it if somebody asks for it, from the notes on."""
        if packet.journey is None:
            self._follow(packet, frame, True)

    def _follow(self, packet: Packet, frame: bytes, noted: bool) -> None:
        watchers = self.journeys.asked(frame)
        if not watchers:
            return
        journey = self.journeys.begin(self, watchers)
        journey.frame = frame
        if noted:
            journey.steps += self._notes
            self._notes.clear()
            journey.cause = 0 if self.current is None else self.current.ident
        packet.journey = journey
