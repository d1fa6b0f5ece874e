"""An application that writes, and a peer that acknowledges, well and badly."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from tests.oracle.tcp.opened import opened, terms
from tests.oracle.tcp.script import ISS, NXT, OUT, UNA, Call, Icmp, Pause, Script, Segment
from ustack.inet.options import SO_SNDBUF, SOL_SOCKET
from ustack.sock import MSG_EOR, MSG_MORE, SIOCOUTQ, SIOCOUTQNSD
from ustack.tcp.options import IPPROTO_TCP, TCP_CONGESTION, TCP_CORK, TCP_NODELAY, TCP_NOTSENT_LOWAT
from ustack.wire.icmp import ICMP_DEST_UNREACH, ICMP_FRAG_NEEDED

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from tests.oracle.tcp.script import Ref, Step, Terms


#: Each as often as it stands here.
SYSCTLS: Final = (
    ("net.ipv4.tcp_recovery", "0"),
    ("net.ipv4.tcp_recovery", "3"),
    ("net.ipv4.tcp_early_retrans", "0"),
    ("net.ipv4.tcp_frto", "0"),
    ("net.ipv4.tcp_dsack", "0"),
    ("net.ipv4.tcp_reordering", "1"),
    ("net.ipv4.tcp_reordering", "10"),
    ("net.ipv4.tcp_max_reordering", "5"),
    ("net.ipv4.tcp_slow_start_after_idle", "0"),
    ("net.ipv4.tcp_thin_linear_timeouts", "1"),
    ("net.ipv4.tcp_retrans_collapse", "0"),
    ("net.ipv4.tcp_notsent_lowat", "2000"),
    ("net.ipv4.tcp_min_tso_segs", "1"),
    ("net.ipv4.tcp_tso_win_divisor", "1"),
    ("net.ipv4.tcp_autocorking", "0"),
    ("net.ipv4.tcp_workaround_signed_windows", "1"),
    ("net.ipv4.tcp_shrink_window", "1"),
)


class Writer:
    """Makes steps that fit a connection with segments of ``mss`` bytes."""

    def __init__(self, random: Random, terms: Terms) -> None:
        self.random = random
        self.terms = terms
        offered = min(terms.mss or 536, 1460)
        self.mss = offered - (12 if terms.timestamps else 0)
        self.steps: list[Step] = []

    def add(self, *steps: Step) -> None:
        self.steps += steps

    def bytes(self, most: int = 12) -> int:
        """As much as the application gives at once."""
        mss = self.mss
        return self.random.choice(
            (1, 10, mss - 1, mss, mss + 1, 2 * mss, *(n * mss for n in range(1, most + 1)), 5 * mss + 7)
        )

    def place(self, most: int = 12) -> Ref:
        """Somewhere in flight, mostly where a segment begins."""
        odd = self.random.choice((0, 0, 0, 0, 0, 1, -1, self.mss // 2))
        return UNA, self.random.randrange(most) * self.mss + odd

    def block(self) -> tuple[Ref, Ref]:
        """One that may be true."""
        start = self.random.randrange(1, 10)
        end = start + self.random.choice((1, 1, 1, 2, 3, 5))
        odd = self.random.choice((0, 0, 0, 0, 0, 0, 0, 1, -1, self.mss // 2))
        return (UNA, start * self.mss + odd), (UNA, end * self.mss + (odd if self.random.random() < 0.5 else 0))

    def strange_block(self) -> tuple[Ref, Ref]:
        """One that is old, false, or absurd."""
        mss = self.mss
        return self.random.choice(
            (
                ((UNA, -mss), (UNA, 0)),
                ((UNA, -2 * mss), (UNA, -mss)),
                ((UNA, -mss), (UNA, mss)),
                ((UNA, 0), (UNA, mss)),
                ((OUT, 0), (OUT, mss)),
                ((OUT, -mss), (OUT, 0)),
                ((OUT, -mss), (OUT, 1)),
                ((OUT, -1), (OUT, 0)),
                ((ISS, 0), (ISS, mss)),
                ((ISS, 1), (ISS, mss + 1)),
                ((UNA, 2 * mss), (UNA, mss)),
                ((UNA, mss), (UNA, mss)),
                ((UNA, -100_000), (UNA, -90_000)),
                ((UNA, 1_000_000), (UNA, 2_000_000)),
                ((UNA, 1), (OUT, 0)),
            )
        )

    def blocks(self) -> tuple[tuple[Ref, Ref], ...]:
        if not self.terms.sack and self.random.random() < 0.9:
            return ()
        chosen = [self.block() for _ in range(self.random.choice((0, 1, 1, 1, 2, 3)))]
        if self.random.random() < 0.2:
            chosen.insert(0, self.strange_block())
        return tuple(chosen[:3])

    def ack(self, **more: object) -> Segment:
        """Of something, with blocks or without."""
        random = self.random
        where = random.choice(
            (
                (OUT, 0),
                (OUT, 0),
                (UNA, 0),
                (UNA, 0),
                (UNA, self.mss),
                (UNA, 2 * self.mss),
                (UNA, 3 * self.mss),
                self.place(),
                (OUT, -self.mss),
                (UNA, 1),
            )
        )
        chosen = Segment("A", ack=where, sacks=self.blocks() if where != (OUT, 0) else ())
        if random.random() < 0.1:
            chosen = replace(chosen, window=random.choice((0, 1, 10, 50, 500, 1000, 3000, 20_000)))
        if random.random() < 0.05:
            chosen = replace(chosen, flags="AE")
        if random.random() < 0.05:
            chosen = replace(chosen, length=random.choice((1, 100)))
        if random.random() < 0.05:
            chosen = replace(chosen, tsecr=random.choice((-1, -3, -300, 1, 1000)))
        if random.random() < 0.02:
            chosen = replace(chosen, stamped=False)
        return chosen

    # -- episodes

    def round_trip(self) -> None:
        """Written, under way for some milliseconds, acknowledged at once or bit by bit."""
        random = self.random
        size = self.bytes(20)
        self.add(Call("send", (size,)), Pause(random.choice((4, 5, 6, 8))))
        for _ in range(random.choice((0, 0, 1, 2, 4))):
            self.add(Segment("A", ack=(UNA, random.choice((1, 2, 2)) * self.mss)))
        self.add(Segment("A"))

    def warm(self) -> None:
        """The window has grown by some round trips."""
        for _ in range(self.random.choice((0, 1, 1, 2, 3))):
            self.add(Call("send", (self.random.choice((5, 10, 20)) * self.mss,)), Pause(5), Segment("A"))

    def loss(self) -> None:
        """The first of what was sent is missing, the rest arrives; then it is repaired, or not."""
        random, mss = self.random, self.mss
        count = random.choice((3, 4, 5, 8, 10, 15))
        first = random.choice((1, 1, 1, 2, 3))
        self.add(Call("send", (count * mss,)), Pause(random.choice((4, 5, 8))))
        for end in range(first + 1, count + 1):
            skip = random.random() < 0.2
            if skip:
                continue
            sacks = (((UNA, first * mss), (UNA, end * mss)),) if self.terms.sack else ()
            self.add(Segment("A", ack=(UNA, 0), sacks=sacks))
            if random.random() < 0.1:
                self.add(Pause(random.choice((1, 2, 40))))
            if random.random() < 0.1:
                self.add(Call("send", (self.bytes(3),)))
        self.add(Pause(random.choice((1, 2, 5, 5, 5, 70))))
        self.repair()

    def repair(self) -> None:
        """What may come after retransmissions."""
        random, mss = self.random, self.mss
        for _ in range(random.choice((0, 0, 1, 2, 3))):
            self.add(Segment("A", ack=(UNA, random.choice((1, 1, 2, 3)) * mss), sacks=self.blocks()))
            if random.random() < 0.3:
                self.add(Pause(random.choice((2, 4, 5))))
        ending = random.random()
        if ending < 0.5:
            self.add(Segment("A"))
        elif ending < 0.7 and self.terms.sack:
            self.add(Segment("A", sacks=(((UNA, -mss * random.choice((0, 1, 2))), (UNA, mss)),)))
        elif ending < 0.8:
            self.add(Segment("A", tsecr=random.choice((-3, -8, -300))))
        if random.random() < 0.3:
            self.dsack()
        if random.random() < 0.5:
            self.add(Call("send", (self.bytes(),)), Pause(random.choice((2, 5))))

    def dsack(self) -> None:
        """Word of something that came twice."""
        mss, random = self.mss, self.random
        start = random.choice((1, 1, 2, 3, 5))
        for n in range(random.choice((1, 1, 2, 3))):
            block = ((UNA, (n - start) * mss), (UNA, (n + 1 - start) * mss))
            self.add(Segment("A", ack=(UNA, 0), sacks=(block, *self.blocks()[:1])))

    def reordered(self) -> None:
        """Later ones are reported first, and then those before, none of which was lost."""
        mss, random = self.mss, self.random
        self.add(Call("send", (random.choice((5, 8, 12)) * mss,)), Pause(random.choice((4, 8))))
        for _ in range(random.choice((1, 2, 3))):
            self.add(Segment("A", ack=(UNA, 0), sacks=(self.block(),) if self.terms.sack else ()))
        self.add(Segment("A", ack=(UNA, random.choice((2, 3, 5)) * mss)))
        if random.random() < 0.5:
            self.add(Pause(random.choice((1, 5, 40))))
        self.add(Segment("A"))

    def timed_out(self) -> None:
        """Nothing comes back for a time, and then something."""
        random, mss = self.random, self.mss
        self.add(Call("send", (random.choice((1, mss, 2 * mss, 4 * mss, 10 * mss)),)))
        self.add(Pause(random.choice((350, 350, 350, 1000))))
        if random.random() < 0.2:
            self.add(Call("send", (self.bytes(),)))
        for _ in range(random.randrange(4)):
            self.add(self.ack())
            if random.random() < 0.5:
                self.add(Pause(random.choice((1, 4, 5))))
        self.repair()

    def probed(self) -> None:
        """The end of what was sent is not acknowledged until a probe has gone."""
        random, mss = self.random, self.mss
        self.add(Call("send", (random.choice((2, 3, 4, 10)) * mss + random.choice((0, 0, 100)),)))
        if random.random() < 0.5:
            self.add(Pause(4), Segment("A", ack=(OUT, -random.choice((1, 2)) * mss)))
        self.add(Pause(70))
        if random.random() < 0.3:
            self.dsack()
        for _ in range(random.randrange(3)):
            self.add(self.ack())
        if random.random() < 0.3:
            self.dsack()
        self.add(Segment("A"))

    def small_window(self) -> None:
        """The peer closes its window, and opens it again, a little or wide."""
        random, mss = self.random, self.mss
        shut = random.choice((0, 0, 0, 1, 100, mss - 1, mss, 2 * mss + 10)) >> (self.terms.wscale or 0)
        self.add(Call("send", (self.bytes(),)), Pause(4), Segment("A", window=shut))
        for _ in range(random.choice((1, 2))):
            self.add(Call("send", (self.bytes(),)))
        if random.random() < 0.7:
            self.add(Pause(random.choice((70, 350, 350, 1000))))
        if random.random() < 0.4:
            self.add(
                Segment("A", ack=random.choice(((OUT, 0), (UNA, 0))), window=random.choice((shut, 0, 10, 200, 1500)))
            )
            self.add(Pause(random.choice((1, 5, 350))))
        self.add(Segment("A"), Pause(4), Segment("A"))

    def little_writes(self) -> None:
        """Nagle, Minshall, corks."""
        random, mss = self.random, self.mss
        for _ in range(random.choice((3, 5, 8))):
            chosen = random.random()
            if chosen < 0.5:
                self.add(
                    Call(
                        "send",
                        (
                            random.choice((1, 10, 100, mss - 1, mss, mss + 1, 2 * mss - 1)),
                            random.choice((0, 0, 0, MSG_MORE, MSG_EOR)),
                        ),
                    )
                )
            elif chosen < 0.65:
                self.add(Call("setsockopt", (IPPROTO_TCP, TCP_NODELAY, random.randrange(2))))
            elif chosen < 0.8:
                self.add(Call("setsockopt", (IPPROTO_TCP, TCP_CORK, random.randrange(2))))
            elif chosen < 0.9:
                self.add(
                    Pause(random.choice((1, 4, 5))), Segment("A", ack=random.choice(((OUT, 0), (UNA, mss), (UNA, 10))))
                )
            else:
                self.add(Pause(random.choice((70, 350))))
        self.add(Call("setsockopt", (IPPROTO_TCP, TCP_CORK, 0)), Pause(4), Segment("A"))

    def narrowed(self) -> None:
        """The path turns out to be narrower while something is in flight.

        At once, and with long round trips beside that: what an ICMP error makes the kernel send has the time of what
        happened to the socket before.
        """
        random = self.random
        self.add(Call("send", (self.bytes(),)))
        mtu = random.choice((1499, 1400, 1000, 1000, 600, 576, 552, 500, 68, 0))
        seq = random.choice(((UNA, 0), (UNA, 0), (UNA, self.mss), (OUT, 0), (UNA, -1), (OUT, -1)))
        self.add(Icmp(ICMP_DEST_UNREACH, ICMP_FRAG_NEEDED, mtu, seq))
        for _ in range(random.randrange(3)):
            self.add(Pause(4), Segment("A", ack=(UNA, random.choice((0, 1, 500, 1000, self.mss, 2 * self.mss)))))
        self.add(Pause(4), Segment("A"), Call("send", (self.bytes(),)), Pause(5), Segment("A"))

    def noise(self) -> None:
        """Anything."""
        for _ in range(self.random.choice((3, 6, 10))):
            self.add(self.anything())

    def anything(self) -> Step:
        random = self.random
        chosen = random.random()
        if chosen < 0.3:
            return Call("send", (self.bytes(),))
        if chosen < 0.75:
            return self.ack()
        if chosen < 0.78:
            return Segment("PA", random.choice((1, 100, 1000)), seq=random.choice(((NXT, 0), (NXT, 100))), ack=(UNA, 0))
        if chosen < 0.82:
            return Call("setsockopt", (IPPROTO_TCP, TCP_NOTSENT_LOWAT, random.choice((0, 1, 1000, 5000))))
        if chosen < 0.86:
            return Call("ioctl", (random.choice((SIOCOUTQ, SIOCOUTQNSD)),))
        if chosen < 0.88:
            return Call("poll")
        return Pause(random.choice((1, 2, 4, 5, 40, 70, 350)))


#: Episodes, each as often as it stands here.
EPISODES: Final[tuple[Callable[[Writer], None], ...]] = (
    Writer.round_trip,
    Writer.round_trip,
    Writer.loss,
    Writer.loss,
    Writer.loss,
    Writer.reordered,
    Writer.reordered,
    Writer.timed_out,
    Writer.timed_out,
    Writer.probed,
    Writer.small_window,
    Writer.little_writes,
    Writer.narrowed,
    Writer.noise,
    Writer.noise,
)


def script(random: Random) -> Script:
    what = settled(random, terms(random))
    writer = Writer(random, what)
    writer.add(*connected(random, what))
    writer.warm()
    for _ in range(random.choice((1, 2, 2, 3))):
        random.choice(EPISODES)(writer)
    narrowed = any(isinstance(step, Icmp) for step in writer.steps)
    return Script(what, tuple(timed(writer.steps, LONG if narrowed else random.choice(RTT))))


#: When no timer fires: milliseconds since what armed them, for round trips of RTT. The kernel's fire some ticks of 4 ms
#: later than ours: probes and RACK after a round trip or two, the RTO after 200 ms and one, then after twice that...
QUIET: Final = (120, 365, 560, 1100, 1330)
#: Not a time after which something happens: the kernel's CUBIC looks again after 28 ms, ours after 31; ACKs wait 36.
LONG: Final = 34
RTT: Final = (5, LONG)


def timed(steps: list[Step], rtt: int) -> list[Step]:
    """The same with pauses that end when no timer is about to fire; one of 5 ms becomes a round trip."""
    done: list[Step] = []
    since = idle = 0  # when the timers were armed, and something was sent
    written = una = 0
    waiting = False  # for what is missing: RACK's timer may be armed
    for step in steps:
        if isinstance(step, Pause):
            pause = rtt if step.ms in (4, 5, 6, 8) else step.ms
            if waiting and 1 < pause < LONG:
                pause = LONG
            if since + pause > (rtt + 2 if not waiting else 1 if rtt < LONG else LONG):
                waits = [when - since for when in QUIET if when >= since + pause]
                waits = [wait for wait in waits if quiet(wait) and not 170 < idle + wait < 330]
                pause = waits[0] if waits else min(pause, rtt)
            since += pause
            idle += pause
            step = Pause(pause)
        elif isinstance(step, Segment):
            base, offset = step.ack
            acked = {OUT: written, UNA: una, ISS: 0}[base] + offset
            if una < acked <= written:
                una = acked
                since = 0
            waiting = una < written
        elif isinstance(step, Call) and step.verb == "send":
            if una == written:
                since = 0
            written += int(step.args[0])
            idle = 0
        done.append(step)
    return done


def quiet(ms: int) -> bool:
    """True if no timer fires so long after what has armed it, be it an event that ``timed`` knows nothing of."""
    return 110 < ms < 140 or 330 < ms < 450 or 510 < ms < 660 or ms > 960


def settled(random: Random, what: Terms) -> Terms:
    """With ECN, and now and then something else that is as rare."""
    sysctls: list[tuple[str, str]] = []
    if random.random() < 0.25:
        sysctls.append(random.choice(SYSCTLS))
    if random.random() < 0.1:
        sysctls.append(("net.ipv4.tcp_ecn", "1"))
    return replace(what, sysctls=tuple(sysctls))


def connected(random: Random, what: Terms) -> list[Step]:
    """A connection with options that the sender hangs on: its congestion control, whether it waits for more."""
    steps = [*opened(what), Call("setsockopt", (SOL_SOCKET, SO_SNDBUF, 200_000))]
    if random.random() < 0.4:
        steps.append(Call("setsockopt", (IPPROTO_TCP, TCP_CONGESTION, b"cubic")))
    if random.random() < 0.2:
        steps.append(Call("setsockopt", (IPPROTO_TCP, TCP_NODELAY, 1)))
    return steps
