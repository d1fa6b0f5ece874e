"""Journeys: what a packet went through, and why (what pwru and dropwatch show of the kernel).

``Packet.journey`` is None for every packet that nobody asked about, and so each point of the path costs one look:

    if packet.journey is not None:
        packet.journey.step(Point.IP_RCV, "accepted", {"ttl": iph.ttl})

What comes before there is a packet (a system call, the choice of a route for it) is noted with the tracer, if there is
one, and becomes the beginning of the journey of the packet that follows:

    if net.tracer is not None:
        net.tracer.note(Point.UDP_SEND_SKB, "", Numbers("length", length))

Most of that is for packets that nobody wants, so it is kept as it is given (``Given``): words are made of it when a
journey takes it.

Those who watch are asked about a packet when it comes in, when it has its network header, and when it has its
link-layer header; the first who wants it makes it one that is followed. A journey that crosses a cable goes on in the
next stack, whose tracer belongs to the same Journeys.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

from mypy_extensions import i64, mypyc_attr

from ustack.sock import error
from ustack.timer import NSEC_PER_SEC, Timer
from ustack.trace.bpf import NO_ETHERNET
from ustack.trace.given import Given
from ustack.wire.ethernet import ETH_HLEN

if TYPE_CHECKING:
    from ustack.net import Net
    from ustack.packet import Buffer, Packet
    from ustack.trace.bpf import Filter
    from ustack.trace.points import Point

Facts = dict[str, str | int | bool]
#: What a step is told: facts, or the values from which they are made once somebody wants them.
Told = Facts | Given | None

#: Journeys that are not over; one more ends the one that began first.
JOURNEYS_MAX: Final = 1024
#: Steps of one journey; what comes after is counted and not kept.
STEPS_MAX: Final = 256
#: Notes that wait for a packet; the oldest goes.
NOTES_MAX: Final = 64
WATCHERS_MAX: Final = 16
#: Bytes of a frame that a journey keeps: all that an ordinary one has, the beginning of a super-segment.
FRAME_MAX: Final = 4096
#: A journey that has stood still for so long (ns) is over, unless who keeps the packet is known to have more patience.
PATIENCE: Final[i64] = NSEC_PER_SEC

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


class Note:
    """A step that may become some journey's."""

    def __init__(self, point: Point, now: i64, decision: str, told: Told) -> None:
        self.point: Point = point
        self.now: i64 = now
        self.decision: str = decision
        self.told: Told = told

    def step(self, host: str) -> Step:
        return Step(self.point, self.now, host, "", self.decision, in_words(self.told))


class Journey:
    """One packet's way. A fragment, a segment or a copy has a journey of its own, with ``parent`` set."""

    def __init__(self, ident: int, tracer: Tracer, watchers: list[TraceWatcher]) -> None:
        self.ident: int = ident
        self.tracer: Tracer = tracer  #: of the stack where it is now
        self.watchers: list[TraceWatcher] = watchers  #: who will be told; nobody, before one can tell who wants it
        self.parent: int = 0  #: the journey it was cut or copied from, 0 for none
        self.cause: int = 0  #: the journey whose packet made the stack send this one, 0 for none
        self.host: str = tracer.host  #: where it began
        self.began: i64 = tracer.net.now
        self.moved: i64 = self.began  #: when it did anything last
        self.ended: i64 = 0
        self.patience: i64 = PATIENCE  #: how long (ns) it may stand still
        self.steps: list[Step] = []
        self.lost: int = 0  #: steps beyond STEPS_MAX
        self.frame: bytes = b""  #: the packet as it was seen last, FRAME_MAX bytes of it
        self.length: i64 = 0  #: of the whole frame
        self.outcome: str = ""  #: how it ended, "" before
        self.reason: str = ""  #: why it was dropped

    def step(self, point: Point, decision: str = "", facts: Told = None, dev: str = "", now: i64 = -1) -> None:
        """``decision``: a word or a few; ``facts``: what it was decided by, or what was written.

        ``now``: where another clock counts than the stack's (on a cable).
        """
        if self.outcome:
            return
        tracer = self.tracer
        self.moved = tracer.net.now if now < 0 else now
        if len(self.steps) < STEPS_MAX:
            self.steps.append(Step(point, self.moved, tracer.host, dev, decision, in_words(facts)))
        else:
            self.lost += 1

    def add(self, steps: list[Step]) -> None:
        """Steps that were noted before it was known that they are its own."""
        if not self.outcome:
            self.moved = self.tracer.net.now
            room = STEPS_MAX - len(self.steps)
            self.steps += steps[:room]
            self.lost += max(len(steps) - room, 0)

    def fork(self) -> Journey:
        """For a part or a copy of this packet: a journey that begins here."""
        if self.outcome:
            child = Journey(0, self.tracer, [])
            child.outcome = self.outcome
            return child
        child = self.tracer.journeys.begin(self.tracer, self.watchers[:])
        child.parent = self.ident
        child.frame = self.frame
        child.length = self.length
        return child

    def enter(self, tracer: Tracer | None) -> bool:
        """The packet has come into another stack; False if nobody traces there, which ends it."""
        if tracer is None or tracer.journeys is not self.tracer.journeys:
            self.finish(SENT)
            return False
        if not self.outcome:
            self.tracer.left(self)
            self.tracer = tracer
            self.moved = tracer.net.now
            tracer.arrived(self)
        return True

    def finish(self, outcome: str, reason: str = "") -> None:
        """It is over; those who asked are told. A second end is none."""
        if self.outcome:
            return
        self.outcome = outcome
        self.reason = reason
        self.ended = max(self.tracer.net.now, self.moved)
        self.tracer.left(self)
        self.tracer.journeys.over(self)


@mypyc_attr(allow_interpreted_subclasses=True)
class TraceWatcher:
    """Who asks to see journeys. ``link_layer``: it looks at more of the Ethernet header than the type."""

    def __init__(self, link_layer: bool = False, program: Filter | None = None) -> None:
        self.link_layer: bool = link_layer
        self.filter: Filter | None = program  #: decides instead of ``matches``, without a copy of each frame

    def matches(self, frame: bytes, length: i64) -> bool:
        """Whether this packet is one of those.

        ``frame``: its beginning, of ``length`` bytes in all; with an Ethernet header, which is zero but for the type
        if it has none yet. With ``link_layer`` it always has one.
        """
        return True

    def journey(self, journey: Journey) -> None:
        """One is over. Do little: a packet is on its way."""
        raise NotImplementedError


class Journeys:
    """All that are not over, of one stack or of all in a laboratory."""

    def __init__(self) -> None:
        self.watchers: list[TraceWatcher] = []
        self.tracers: list[Tracer] = []
        self.link_layer: bool = False  #: somebody looks at Ethernet headers
        self.unfinished: int = 0  #: journeys that were ended because too many began
        self._open: dict[int, Journey] = {}
        self._last: int = 0

    # -- who takes part

    def join(self, net: Net, host: str = "") -> Tracer:
        """The stack of ``net`` can be watched from now on, as ``host`` where there are several."""
        tracer = Tracer(net, self, host)
        self.tracers.append(tracer)
        if self.watchers:
            net.tracer = tracer
        return tracer

    def watch(self, watcher: TraceWatcher) -> None:
        """Tell ``watcher`` of what begins from now on. ENOBUFS for one too many."""
        if len(self.watchers) >= WATCHERS_MAX:
            raise error(errno.ENOBUFS)
        self.watchers.append(watcher)
        self.link_layer = self.link_layer or watcher.link_layer
        for tracer in self.tracers:
            tracer.start()

    def unwatch(self, watcher: TraceWatcher) -> None:
        """It hears no more; what only it wanted is followed no more. Not an error if it does not watch."""
        if watcher not in self.watchers:
            return
        for tracer in self.tracers:
            tracer.forget()
        self.watchers.remove(watcher)
        self.link_layer = any(other.link_layer for other in self.watchers)
        for journey in list(self._open.values()):
            if watcher in journey.watchers:
                journey.watchers.remove(watcher)
            if not journey.watchers and not self.link_layer:
                journey.finish(ON_ITS_WAY)
        if not self.watchers:
            for tracer in self.tracers:
                tracer.stop()

    # -- journeys

    def begin(self, tracer: Tracer, watchers: list[TraceWatcher]) -> Journey:
        if len(self._open) >= JOURNEYS_MAX:
            self.unfinished += 1
            next(iter(self._open.values())).finish(ON_ITS_WAY)
        self._last += 1
        journey = Journey(self._last, tracer, watchers)
        self._open[journey.ident] = journey
        tracer.arrived(journey)
        return journey

    def over(self, journey: Journey) -> None:
        self._open.pop(journey.ident, None)
        for watcher in journey.watchers:
            watcher.journey(journey)

    def end_all(self) -> None:
        """The run is over: end what is not."""
        for tracer in self.tracers:
            tracer.forget()
        for journey in list(self._open.values()):
            journey.finish(ON_ITS_WAY)


class Idle(Timer):
    """Ends what stands still."""

    def __init__(self, tracer: Tracer) -> None:
        super().__init__()
        self.tracer: Tracer = tracer

    def fire(self) -> None:
        self.tracer.end_idle()


class Tracer:
    """One stack's part: ``Net.tracer`` while anybody watches."""

    def __init__(self, net: Net, journeys: Journeys, host: str = "") -> None:
        """``host``: the stack's name where there are several."""
        self.net: Net = net
        self.journeys: Journeys = journeys
        self.host: str = host
        self.current: Journey | None = None  #: of the packet that is being received
        self._notes: list[Note] = []  # used again and again: most are for packets that nobody wants
        self._noted: i64 = 0  # how many of them hold something
        self._kept: i64 = 0  # 1: the first is a system call, with which all that it makes begins
        self._seen: Packet | None = None  # the packet that came in last
        self._unwanted: Packet | None = None  # the packet that nobody wanted last, if it is still the same
        self._delivered: list[Journey] = []  # over as soon as the stack turns to something else
        self._here: dict[int, Journey] = {}  # the journeys that are in this stack now
        self._idle: Idle = Idle(self)

    def start(self) -> None:
        """Somebody watches, or somebody more."""
        self._unwanted = None
        self.net.tracer = self

    def stop(self) -> None:
        """Nobody watches any more."""
        self.forget()
        self._notes.clear()
        self.net.tracer = None

    # -- steps without a packet at hand

    def call(self, point: Point, decision: str = "", facts: Told = None) -> None:
        """A system call, or a timer, begins; every packet that it makes begins with this."""
        self.forget()
        self.note(point, decision, facts)
        self._kept = 1

    def note(self, point: Point, decision: str = "", facts: Told = None) -> None:
        """A step of a packet that is still to be made: the next."""
        at = self._noted
        if at - self._kept >= NOTES_MAX:
            at -= 1
            self._notes.insert(at, self._notes.pop(self._kept))
        elif at == len(self._notes):
            self._notes.append(Note(point, 0, "", None))
        note = self._notes[at]
        note.point = point
        note.now = self.net.now
        note.decision = decision
        note.told = facts
        self._noted = at + 1

    def here(self, point: Point, decision: str = "", facts: Told = None) -> None:
        """A step of the packet that is being received, if that is followed."""
        if self.current is not None:
            self.current.step(point, decision, facts)

    def mark(self, point: Point, decision: str = "", facts: Told = None) -> None:
        """A step of the packet that is being received, or of the next to be made if none is."""
        if self.current is not None:
            self.current.step(point, decision, facts)
        else:
            self.note(point, decision, facts)

    def taken(self, journey: Journey) -> None:
        """What was noted since the system call began belongs to a packet that it takes out of a queue."""
        journey.add(self._steps())
        self._kept = self._noted = 0

    def _steps(self) -> list[Step]:
        return [note.step(self.host) for note in self._notes[: self._noted]]

    def forget(self) -> None:
        """What comes has nothing to do with the last system call, or the packet that was received last."""
        self.resume(None)
        self._seen = None
        self._kept = self._noted = 0

    def resume(self, journey: Journey | None) -> None:
        """The stack turns to what ``journey`` has caused, or to nothing that is known."""
        self.current = journey
        if self._delivered:
            delivered = self._delivered
            self._delivered = []
            for each in delivered:
                each.finish(DELIVERED)

    def delivered(self, journey: Journey) -> None:
        """It is where it was to go; over once the stack turns to something else, which may be much later in a function
        that gave the packet away early."""
        if not journey.outcome:
            self._delivered.append(journey)

    # -- which packets are followed

    def received(self, packet: Packet) -> None:
        """A frame has come in: follow it if somebody asks for it. ``packet.buf`` has its Ethernet header.

        Drivers may say so before their device does; the second time is none.
        """
        if packet is self._seen:
            return
        self.forget()
        self._seen = packet
        self._unwanted = None
        if packet.journey is None or packet.journey.outcome:
            packet.journey = None
            start = packet.mac_header
            watchers = self._wanting(packet, packet.buf, start, packet.end, True)
            if watchers is not None:
                self._begin(packet, packet.buf, start, packet.end, watchers)
        self.current = packet.journey

    def built(self, packet: Packet, frame: bytes | None = None) -> None:
        """A packet of our own has its headers: follow it if somebody asks for it, from the notes on.

        ``frame``: its linear part behind an Ethernet header; without one it is the IPv4 packet in ``packet.buf``. Who
        looks at that header is asked when it is the true one; until then the packet is followed for nobody.
        """
        if packet.journey is None:
            buf = packet.buf if frame is None else frame
            start: i64 = packet.network_header - ETH_HLEN if frame is None else 0
            end: i64 = packet.end if frame is None else len(frame)
            watchers = self._wanting(packet, buf, start, end, False)
            if watchers is not None:
                self._begin_noted(packet, buf, start, end, watchers)
            elif self.journeys.link_layer:
                self._begin_noted(packet, buf, start, end, [])
            else:
                self._unwanted = packet
        self._noted = self._kept

    def changed(self, packet: Packet) -> None:
        """Somebody may have written into it: who did not want it is to be asked again."""
        if packet is self._unwanted:
            self._unwanted = None

    def framed(self, packet: Packet) -> None:
        """It leaves with its link-layer header: who has not wanted it yet is asked again, if that can matter."""
        journey = packet.journey
        if journey is not None:
            self._ask_again(packet, journey)
            return
        start = packet.mac_header
        if packet is not self._unwanted or self.journeys.link_layer:
            watchers = self._wanting(packet, packet.buf, start, packet.end, True)
            if watchers is not None and packet.in_dev is None:
                self._begin_noted(packet, packet.buf, start, packet.end, watchers)
            elif watchers is not None:
                self._begin(packet, packet.buf, start, packet.end, watchers)
        self._noted = self._kept

    def _ask_again(self, packet: Packet, journey: Journey) -> None:
        if journey.outcome:
            return
        journey.frame, journey.length = seen(packet)
        for watcher in self.journeys.watchers:
            if watcher not in journey.watchers and wants(watcher, journey.frame, 0, len(journey.frame), journey.length):
                journey.watchers.append(watcher)
        if not journey.watchers:
            journey.finish(ON_ITS_WAY)
            packet.journey = None

    def _wanting(self, packet: Packet, buf: bytes, start: i64, end: i64, link_layer: bool) -> list[TraceWatcher] | None:
        """Who wants a packet whose linear part is in ``buf``; see ``beginning``. None: nobody.

        ``link_layer``: it has its Ethernet header, so they may be asked who look at that.
        """
        length = end - start + packet.frags_len
        if packet.frags is not None:
            buf = with_pieces(packet, beginning(buf, start, end))
            start = 0
            end = len(buf)
        watchers: list[TraceWatcher] | None = None
        for watcher in self.journeys.watchers:
            if (link_layer or not watcher.link_layer) and wants(watcher, buf, start, end, length):
                if watchers is None:
                    watchers = []
                watchers.append(watcher)
        return watchers

    def _begin(self, packet: Packet, buf: bytes, start: i64, end: i64, watchers: list[TraceWatcher]) -> Journey:
        journey = self.journeys.begin(self, watchers)
        journey.frame = with_pieces(packet, beginning(buf, start, end))
        journey.length = end - start + packet.frags_len
        packet.journey = journey
        return journey

    def _begin_noted(self, packet: Packet, buf: bytes, start: i64, end: i64, watchers: list[TraceWatcher]) -> None:
        """A packet of our own: what led to it is part of its way."""
        journey = self._begin(packet, buf, start, end, watchers)
        journey.steps = self._steps()
        if journey.steps:
            journey.began = journey.steps[0].now
        if self.current is not None:
            journey.cause = self.current.ident

    # -- which are over

    def arrived(self, journey: Journey) -> None:
        """It is in this stack now."""
        self._here[journey.ident] = journey
        if not self._idle.pending:
            self.net.timers.mod_timer(self._idle, self.net.now + PATIENCE)

    def left(self, journey: Journey) -> None:
        """It is over, or in another."""
        self._here.pop(journey.ident, None)
        if not self._here:
            self.net.timers.del_timer(self._idle)

    def end_idle(self) -> None:
        """End what has stood still for too long, and look again when the next will have."""
        self.forget()
        for journey in list(self._here.values()):
            if journey.moved + journey.patience <= self.net.now:
                journey.finish(ON_ITS_WAY)
        if self._here:
            when = min([journey.moved + journey.patience for journey in self._here.values()])
            self.net.timers.mod_timer(self._idle, when)


def in_words(told: Told) -> Facts:
    """The facts of a step."""
    if isinstance(told, Given):
        return told.facts()
    return {} if told is None else told


def wants(watcher: TraceWatcher, buf: bytes, start: i64, end: i64, length: i64) -> bool:
    """Whether ``watcher`` wants a packet of ``length`` bytes that begins in ``buf``; see ``beginning``."""
    program = watcher.filter
    if program is not None:
        return program.run(buf, length, start, min(end, start + FRAME_MAX)) != 0
    return watcher.matches(beginning(buf, start, end), length)


def seen(packet: Packet) -> tuple[bytes, i64]:
    """(the beginning, the length) of a packet that has its link-layer header."""
    frame = with_pieces(packet, beginning(packet.buf, packet.mac_header, packet.end))
    return frame, packet.end - packet.mac_header + packet.frags_len


def beginning(buf: bytes, start: i64, end: i64) -> bytes:
    """The linear part of a frame, FRAME_MAX bytes of it, from ``buf``.

    ``start``: where its Ethernet header begins; -ETH_HLEN if it has none yet, which shows as zero but for the type.
    """
    if start < 0:
        return NO_ETHERNET + buf[: min(end, start + FRAME_MAX)]
    return buf[start : min(end, start + FRAME_MAX)]


def with_pieces(packet: Packet, linear: bytes) -> bytes:
    """The same with what is not in the linear part."""
    if packet.frags is None:
        return linear
    pieces: list[Buffer] = [linear]
    room = FRAME_MAX - len(linear)
    for piece in packet.frags:
        if room <= 0:
            break
        pieces.append(piece[:room])
        room -= len(piece)
    return b"".join(pieces)
