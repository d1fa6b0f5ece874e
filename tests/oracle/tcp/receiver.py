"""Text in and out of order, twice, urgent and old, a FIN anywhere, and an application that reads in every way."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from tests.oracle.tcp.opened import opened, terms
from tests.oracle.tcp.script import ISS, OUT, RCV, UNA, Burst, Call, Pause, Script, Segment
from ustack.inet.options import SO_OOBINLINE, SO_RCVBUF, SO_RCVLOWAT, SOL_SOCKET
from ustack.sock import MSG_DONTWAIT, MSG_OOB, MSG_PEEK, MSG_TRUNC, MSG_WAITALL, SIOCATMARK, SIOCINQ, SIOCOUTQ
from ustack.tcp.options import TCP_INQ, TCP_QUICKACK
from ustack.wire.ipv4 import IPPROTO_TCP

if TYPE_CHECKING:
    from random import Random

    from tests.oracle.tcp.script import Step, Terms

#: Longest text that a packet of 1500 bytes holds beside timestamps.
LONGEST: Final = 1448
#: A stream is not longer: the first window holds it all.
STREAM: Final = 45_000
SYSCTLS: Final = (
    ("net.ipv4.tcp_dsack", "0"),
    ("net.ipv4.tcp_stdurg", "1"),
    ("net.ipv4.tcp_pingpong_thresh", "2"),
    ("net.ipv4.tcp_moderate_rcvbuf", "0"),
)


def script(random: Random) -> Script:
    chosen = random.random()
    if chosen < 0.1:
        return compressed(random)
    if chosen < 0.2:
        return tight(random)
    stream = Stream(random)
    what = offered(random)
    steps = [*begun(what), *(step for _ in range(random.randrange(2)) for step in option(random))]
    for _ in range(random.randrange(8, 32)):
        steps += stream.step()
    return Script(what, tuple(steps))


SHARED: Final = (("net.ipv4.tcp_comp_sack_delay_ns", "4000000"),)
#: Of the path in milliseconds: a twentieth of it is longer than that.
ROUND_TRIP: Final = 100


def compressed(random: Random) -> Script:
    """Bursts beyond holes on a path so long that their ACKs wait for each other (tcp_comp_sack_*)."""
    what = replace(offered(random), timestamps=True, sack=random.random() < 0.9, sysctls=SHARED)
    stream, steps = Stream(random), []
    steps += [Pause(ROUND_TRIP) if isinstance(step, Pause) else step for step in begun(what)]
    steps.append(replace(stream.text(1, LONGEST), tsecr=-ROUND_TRIP))
    for _ in range(random.randrange(1, 5)):
        pieces = [stream.piece() for _ in range(random.randrange(3, 14))]
        if random.random() < 0.8:
            steps.append(Call("setsockopt", (IPPROTO_TCP, TCP_QUICKACK, 0)))  # what is answered quickly does not wait
        # an echo of so long ago: the path is as long as that
        steps += [Burst(tuple(replace(piece, tsecr=-ROUND_TRIP) for piece in pieces)), Pause(random.choice((20, 70)))]
        steps += stream.read_all()
    return Script(what, tuple(steps))


def tight(random: Random) -> Script:
    """A buffer that one full segment fills, whatever that costs, and a reader who lets it wait."""
    what = replace(offered(random), timestamps=random.random() < 0.5, sysctls=())
    full, buffer = LONGEST if what.timestamps else LONGEST + 12, (SOL_SOCKET, SO_RCVBUF, random.randrange(1470, 1700))
    steps = opened(what)
    if what.active:
        steps[:0] = [Call("socket"), Call("setsockopt", buffer)]
    else:
        steps[1:1] = [Call("set_listener", buffer)]
    for _ in range(random.randrange(1, 6)):
        steps.append(Segment(random.choice(("A", "PA", "A", "PA", "FA")), full, (RCV, 0)))
        steps += [shut(random, full) for _ in range(random.randrange(8))]
        steps += [Call("recv", (random.choice((100_000, 100_000, 100_000, 100)),)), Call("poll")]
    return Script(what, tuple(steps))


def shut(random: Random, full: int) -> Step:
    """What may come or be asked while the window is shut."""
    step: Step = random.choice((
        Segment("A", random.choice((0, 1, 100, full)), (RCV, random.choice((0, 0, 0, -1, 1, -100, -full)))),
        Segment("FA", 0, (RCV, random.choice((0, 0, -1, 1)))),
        Segment("UA", 1, (RCV, random.choice((0, 0, -1, 1))), urg=1),
        Call("recv", (random.choice((1, 100, 1000)), random.choice((0, MSG_PEEK)))),
        Call("poll"),
        Call("send", (1,)),
        Segment(),
        Pause(random.choice((5, 70))),
    ))  # fmt: skip
    return step


def begun(terms: Terms) -> list[Step]:
    """A connection whose buffer is far larger than its window, so that it does not follow what segments cost."""
    return [*opened(terms), Call("setsockopt", (SOL_SOCKET, SO_RCVBUF, 1_000_000))]


def offered(random: Random) -> Terms:
    """A peer that takes what is sent to it, mostly; ACKs are not held back by a timer shorter than a step."""
    sysctls = [("net.ipv4.tcp_comp_sack_nr", "0")]
    if random.random() < 0.3:
        sysctls.append(random.choice(SYSCTLS))
    what = terms(random)
    # a small MSS makes windows follow what small segments cost; one that is not scaled ends with its field in ours only
    mss, wscale = max(what.mss or 536, 536), 0 if what.wscale is None else what.wscale
    return replace(what, mss=mss, wscale=wscale, window=random.choice((65_535, 65_535, 5000)), sysctls=tuple(sysctls))


class Stream:
    """What the peer has sent, by places in its stream (the SYN is 0): in order up to ``at``, and pieces beyond."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.at = 1
        self.ahead: list[tuple[int, int]] = []
        self.marks: list[int] = []
        self.fins: list[int] = []
        self.usual = random.choice((100, 536, 1000, LONGEST))
        self.weights = [random.choice((0, 1, 3)) for _ in KINDS]
        self.weights[0] += 1  # no stream without text

    def step(self) -> list[Step]:
        kind = self.random.choices(KINDS, self.weights)[0]
        steps: list[Step] = getattr(self, kind)()
        return [step for step in steps if not self.odd(step)]

    def odd(self, step: Step) -> bool:
        """Where Linux's buffers shine through: what it joins to a FIN beyond a hole is acknowledged with that. And what
        comes behind the urgent byte, beyond a hole and by less than a header, has that byte in its header (tcp_urg)."""
        if not isinstance(step, Segment) or step.seq[0] != ISS:
            return False
        start = step.seq[1]
        if "F" in step.flags:
            self.fins.append(start + step.length + 1)
        elif step.length and start in self.fins:
            return True
        if "U" in step.flags:
            self.marks += [start + step.urg - 1, start + step.urg]
        return (start > self.at or self.fins != []) and any(0 < start - mark <= 60 for mark in self.marks)

    def sent(self, start: int, end: int) -> None:
        """[start, end) is on its way."""
        self.ahead.append((start, end))
        for low, high in sorted(self.ahead):
            if low <= self.at < high:
                self.at = high
        self.ahead = [piece for piece in self.ahead if piece[1] > self.at]

    def text(self, start: int, length: int, flags: str = "", urg: int = 0) -> Segment:
        self.sent(start, start + length + ("F" in flags))
        push = self.random.choice(("", "", "P"))
        return Segment(f"{flags}{push}A", length, (ISS, start), urg=urg, other=self.random.choice((0, 0, 0xFF)))

    # -- kinds of steps

    def in_order(self) -> list[Step]:
        """The next text: full segments, and small ones."""
        if self.at > STREAM:
            return [Pause(2)]
        length = self.random.choice((self.usual, self.usual, self.usual, 1, 7, 127, 128, self.usual - 1))
        return [self.text(self.at, length)]

    def edges(self) -> list[Step]:
        """From about one edge of what was sent to about another, or some way beyond."""
        pick = self.random.choice
        places = [self.at, self.at, *(place for piece in self.ahead for place in piece)]
        if pick((False, True)):
            places.append(max(places) + pick((1, 100, 1000, 3000)))
        start = max(pick(places) + pick((0, 0, 0, -1, 1, -100, 100, 1000)), 1)
        end = pick(places) + pick((0, 0, 0, -1, 1, -100, 100, 1000))
        if not 0 < end - start <= LONGEST:
            end = start + pick((1, 100, self.usual))
        return [self.text(start, end - start)] if end < STREAM + 5000 else [Pause(2)]

    def piece(self) -> Segment:
        """A full segment beyond a hole: mostly the one that follows the last, seldom what fills it."""
        places = [place for piece in self.ahead for place in piece]
        last = max(places, default=self.at + self.usual)
        start = self.random.choice((last, last, last, last + self.usual, min(places, default=last), self.at))
        return self.text(start, LONGEST)

    def fill(self) -> list[Step]:
        """All of the first hole, or up to what lies beyond it."""
        end = min((low for low, _ in self.ahead), default=self.at + 1)
        return [self.text(self.at, min(end - self.at, LONGEST))] if end > self.at else []

    def old(self) -> list[Step]:
        """What was sent before, and empty segments of then."""
        back = self.random.choice((1, 100, self.usual, 3000))
        start = max(self.at - back, 0)
        return [Segment("A", self.random.choice((0, 1, min(self.at - start, LONGEST), 500)), (ISS, start))]

    def outside(self) -> list[Step]:
        """Far beyond the window, or so old that it wraps around."""
        beyond = self.random.choice((1_000_000, -100_000, 2_000_000_000, -2_000_000_000))
        return [Segment("A", self.random.choice((0, 1, 1000)), (ISS, self.at + beyond))]

    def fin(self) -> list[Step]:
        """Here, or beyond a hole; seldom, as not much comes after it."""
        if self.random.random() < 0.7:
            return []
        start = self.at + self.random.choice((0, 0, 0, 1, 500, -1))
        # the ACK of one that comes before any text is due with the next tick, of either machine
        return [self.text(max(start, 1), self.random.choice((0, 0, 1, 100)), "F"), Pause(5)]

    def urgent(self) -> list[Step]:
        """A pointer before, into, at the end of and beyond the text."""
        length = self.random.choice((0, 1, 2, 100, self.usual))
        pointer = self.random.choice((0, 1, 2, length - 1, length, length + 1, length + 100, 50, 0xFFFF))
        start = self.at + self.random.choice((0, 0, 0, 0, -1, 10))
        return [self.text(max(start, 1), length, "U", urg=max(pointer, 0))]

    def stale(self) -> list[Step]:
        """With a timestamp of the past, or none at all."""
        length = self.random.choice((0, 1, 100))
        offset = self.random.choice((0, 0, -1, 50))
        if self.random.random() < 0.3:
            return [Segment("A", length, (ISS, self.at + offset), stamped=False)]
        return [Segment("A", length, (ISS, self.at + offset), tsval=self.random.choice((-1, -2, -3, -50, -100_000)))]

    def acknowledge(self) -> list[Step]:
        return [Segment("A", 0, (ISS, self.at), ack=self.random.choice(((OUT, 0), (UNA, 0))))]

    def read(self) -> list[Step]:
        flags = self.random.choice((0, 0, 0, MSG_PEEK, MSG_TRUNC, MSG_WAITALL, MSG_DONTWAIT, MSG_PEEK | MSG_TRUNC))
        return [Call("recv", (self.random.choice((1, 99, self.usual, 4000, 100_000)), flags))]

    def read_all(self) -> list[Step]:
        return [Call("recv", (100_000,))]

    def read_urgent(self) -> list[Step]:
        verb, flags = self.random.choice(("recv", "receive")), self.random.choice((0, MSG_PEEK, MSG_TRUNC))
        return [Call(verb, (self.random.choice((1, 1, 5)), MSG_OOB | flags))]

    def look(self) -> list[Step]:
        request = self.random.choice((SIOCINQ, SIOCATMARK, SIOCOUTQ))
        return [Call("poll"), Call("ioctl", (request,))]

    def inq(self) -> list[Step]:
        return [Call("receive", (self.random.choice((1, 100, 5000)), self.random.choice((0, MSG_PEEK, MSG_TRUNC))))]

    def write(self) -> list[Step]:
        """An answer, acknowledged before any timer can go off."""
        waits = self.random.choice(((), (Pause(2),)))
        return [Call("send", (self.random.choice((1, 50)),)), *waits, *self.acknowledge()]

    def shut(self) -> list[Step]:
        """One direction or both; seldom, as no more can be read, or said."""
        return [Call("shutdown", (self.random.choice((0, 1, 1, 2)),))] if self.random.random() < 0.2 else []

    def pause(self) -> list[Step]:
        return [Pause(self.random.choice((1, 5, 70, 70)))]

    def options(self) -> list[Step]:
        return option(self.random)


KINDS: Final = (
    "in_order", "edges", "fill", "old", "outside", "fin", "urgent", "stale", "acknowledge", "read", "read_all",
    "read_urgent", "look", "inq", "write", "shut", "pause", "options",
)  # fmt: skip


def option(random: Random) -> list[Step]:
    """One that changes what a reader is told, or when the peer is."""
    chosen: tuple[tuple[int, int, int], ...] = (
        (SOL_SOCKET, SO_OOBINLINE, random.randrange(2)),
        (SOL_SOCKET, SO_RCVLOWAT, random.choice((1, 100, 2000, 10_000))),
        (IPPROTO_TCP, TCP_QUICKACK, random.choice((0, 1, 2))),
        (IPPROTO_TCP, TCP_INQ, random.randrange(2)),
    )
    return [Call("setsockopt", random.choice(chosen))]
