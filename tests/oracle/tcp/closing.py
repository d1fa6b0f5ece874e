"""How connections end: shutdown, close and abort on one side, FIN, RST and silence on the other, and what comes later.

A script opens a connection, says a little, ends it in one of some ways, and goes on sending segments to what is left:
an orphan, a TIME_WAIT, a listener, nobody. Single steps of every kind come in between.
"""

from __future__ import annotations

import socket
import struct
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from tests.oracle.tcp.opened import opened, terms
from tests.oracle.tcp.script import NXT, OUT, RCV, UNA, Call, Icmp, Pause, Script, Segment
from tests.tcp.host import PEER, PEER_PORT
from ustack.inet.socket import SHUT_RD, SHUT_RDWR, SHUT_WR
from ustack.wire.ipv4 import str_to_addr

if TYPE_CHECKING:
    from random import Random

    from tests.oracle.tcp.script import Ref, Step, Terms

TCP_LINGER2: Final = socket.TCP_LINGER2

#: Settings of the theme, each now and then.
SYSCTLS: Final = (
    ("net.ipv4.tcp_rfc1337", ("1",)),
    ("net.ipv4.tcp_tw_reuse", ("0", "1")),
    ("net.ipv4.tcp_tw_reuse_delay", ("1", "100")),
    ("net.ipv4.tcp_invalid_ratelimit", ("0", "5000")),
    ("net.ipv4.tcp_fin_timeout", ("1", "30", "100")),
    ("net.ipv4.tcp_max_tw_buckets", ("0",)),
    ("net.ipv4.tcp_orphan_retries", ("1", "2")),
    ("net.ipv4.tcp_abort_on_overflow", ("1",)),
    ("net.ipv4.tcp_timestamps", ("0", "2")),
)
#: Where a segment may lie: rather where it belongs.
SEQ: Final[tuple[Ref, ...]] = (
    *((NXT, 0),) * 6,
    (RCV, 0), (RCV, 0), (RCV, 0), (RCV, -1), (RCV, 1), (RCV, 100), (RCV, -100), (RCV, 2000), (RCV, 200_000),
    (RCV, -200_000), (NXT, -1), (NXT, 1),
)  # fmt: skip
ACK: Final[tuple[Ref, ...]] = (*((OUT, 0),) * 6, (OUT, -1), (OUT, 1), (OUT, -100), (UNA, 0), (UNA, -1), (OUT, 100_000))
#: Text with an old acknowledgement is taken by the kernel's header prediction, and by nobody else.
ACK_OF_TEXT: Final[tuple[Ref, ...]] = (*((OUT, 0),) * 6, (OUT, 1), (UNA, 0), (OUT, 100_000))
LINGER: Final = tuple(struct.pack("ii", *each) for each in ((1, 0), (0, 0), (0, 5)))
LINGER_1: Final = struct.pack("ii", 1, 1)


def script(random: Random) -> Script:
    what = settings(random, terms(random))
    steps = random.choice(BEGINNINGS)(random, what)
    for _ in range(random.randrange(1, 4)):
        steps += random.choice(ENDINGS)(random)
        steps += [later(random) for _ in range(random.randrange(0, 8))]
    if random.random() < 0.3:
        steps += reopening(random)
    return Script(what, tuple(steps[:60]))


def settings(random: Random, what: Terms) -> Terms:
    """Loss probes mostly off: they would come within the steps."""
    chosen = [(name, random.choice(values)) for name, values in SYSCTLS if random.random() < 0.12]
    if random.random() < 0.8:
        chosen.append(("net.ipv4.tcp_early_retrans", "0"))
    return replace(what, sysctls=tuple(chosen))


# -- beginnings


def start(random: Random, what: Terms) -> list[Step]:
    """A connection, some options, a little data."""
    steps = opened(what)
    for _ in range(random.randrange(0, 3)):
        steps.append(option(random))
    for _ in range(random.randrange(0, 4)):
        steps += random.choice(TALK)
    return steps


def unaccepted(random: Random, what: Terms) -> list[Step]:
    """One that waits in the listener's queue, and is accepted late or never."""
    steps: list[Step] = [Call("listen", (random.choice((0, 5)),)), Segment("S"), Pause(4), Segment("A")]
    if random.random() < 0.5:
        steps += [Segment("PA", 100), Pause(70)]
    if random.random() < 0.3:
        steps.append(segment(random))
    if random.random() < 0.5:
        steps.append(Call("close_listener"))
        steps.append(segment(random))
    elif random.random() < 0.5:
        steps.append(Call("accept"))
    return steps


def crowd(random: Random, what: Terms) -> list[Step]:
    """A listener with connections in all states of being opened, that closes."""
    steps: list[Step] = [Call("listen", (random.choice((0, 1, 1, 5)),))]
    for port in range(random.randrange(1, 4)):
        steps += [Segment("S", port=port), Pause(2)]
        steps += maybe(random, Segment("A", port=port), Pause(2))
        steps += maybe(random, Segment(random.choice(("PA", "FA", "R")), port=port), Pause(70))
    steps += maybe(random, Call("accept"))
    steps.append(random.choice((Call("close_listener"), Call("close_listener"), Call("shutdown_listener", (2,)))))
    steps += [replace(segment(random), port=random.randrange(3)) for _ in range(3)]
    return steps


def half_open(random: Random, what: Terms) -> list[Step]:
    """A SYN whose answer is not answered, or ours."""
    if what.active:
        steps: list[Step] = [Call("connect"), Pause(4)]
    else:
        steps = [Call("listen", (5,)), Segment("S"), Pause(4)]
    for _ in range(random.randrange(1, 4)):
        steps += [random.choice((segment, segment, answer_of_syn, ask, end))(random), Pause(20)]
    if random.random() < 0.5:
        steps.append(Call("close_listener"))
    return [*steps, Segment("A"), Call("accept")]


def answer_of_syn(random: Random) -> Step:
    return Segment(
        random.choice(("SA", "S", "RA", "R", "FA", "SFA")),
        seq=random.choice(((NXT, 0), (NXT, 0), (RCV, 0), (NXT, 1))),
        ack=random.choice(((OUT, 0), (OUT, 0), (OUT, 1), (OUT, -1))),
    )


#: A little data, in one of some ways.
TALK: Final[tuple[tuple[Step, ...], ...]] = (
    (Segment("PA", 100), Pause(70)),
    (Segment("A", 1000), Call("recv", (100_000,))),
    (Segment("PA", 100),),
    (Call("send", (100,)), Pause(4), Segment("A")),
    (Call("send", (3000,)), Pause(4), Segment("A")),
    (Call("send", (200,)),),
    (Segment("A", 100, seq=(NXT, 100)),),
)


BEGINNINGS: Final = ((start,) * 8) + (unaccepted, unaccepted, half_open, half_open, crowd)

# -- ends: each leaves something behind


def orderly(random: Random) -> list[Step]:
    """Ours first."""
    return [
        goodbye(random),
        Pause(4),
        *maybe(random, Segment("A"), Pause(2)),
        *maybe(random, later(random)),
        Segment(random.choice(("FA", "FA", "FPA")), random.choice((0, 0, 0, 1, 100))),
        *maybe(random, Pause(70)),
        *maybe(random, Segment("FA", seq=(NXT, -1)), Pause(3)),
    ]


def passive(random: Random) -> list[Step]:
    """The peer's first."""
    return [
        Segment(random.choice(("FA", "FA", "FPA")), random.choice((0, 0, 1, 100))),
        Pause(random.choice((20, 70))),  # the first delay of an ACK is a tick
        *maybe(random, ask(random), ask(random)),
        *maybe(random, Call("send", (100,))),
        *maybe(random, later(random)),
        goodbye(random),
        Pause(4),
        Segment("A"),
        *maybe(random, Segment("A")),
    ]


def crossing(random: Random) -> list[Step]:
    """Both at once."""
    return [
        goodbye(random),
        Segment("FA", random.choice((0, 0, 100)), ack=(UNA, 0)),
        *maybe(random, later(random)),
        Pause(4),
        Segment("A"),
    ]


def reset(random: Random) -> list[Step]:
    """By the peer, at a good place or a bad one."""
    where = random.choice((*((RCV, 0),) * 4, (RCV, 1), (RCV, -1), (RCV, 500), (RCV, 1 << 20), (NXT, 0)))
    one = Segment(random.choice(("R", "RA")), seq=where, ack=random.choice(ACK))
    return [*maybe(random, goodbye(random)), one, ask(random), ask(random)]


def alone(random: Random) -> list[Step]:
    """The orphan's peer is silent, or has more to say."""
    return [
        Call("setsockopt", (socket.IPPROTO_TCP, TCP_LINGER2, random.choice((-1, 0, 1, 2, 70, 200)))),
        *maybe(random, Call("shutdown", (SHUT_WR,)), Pause(3)),
        Call("close"),
        Pause(3),
        Segment("A", random.choice((0, 0, 0, 10))),
        later(random),
        random.choice((Pause(70), Pause(1500), Segment("FA"), Segment("PA", 10), Segment("FA", 10))),
        Segment(random.choice(("FA", "A", "R"))),
    ]


def unread(random: Random) -> list[Step]:
    return [Segment("PA", random.choice((1, 100, 1000))), *maybe(random, Segment("FA")), goodbye(random), later(random)]


def unsent(random: Random) -> list[Step]:
    """What the window does not let out."""
    return [
        Segment("A", window=random.choice((0, 0, 1))),
        Call("send", (random.choice((100, 5000)),)),
        goodbye(random),
        *maybe(random, Pause(350)),
        later(random),
        Segment("A", window=60_000),
        *maybe(random, Segment("FA")),
        Segment("A"),
    ]


def aborted(random: Random) -> list[Step]:
    return [
        Call("setsockopt", (socket.SOL_SOCKET, socket.SO_LINGER, LINGER[0])),
        *maybe(random, random.choice(TALK)[0]),
        *maybe(random, Segment("FA")),
        goodbye(random),
        *maybe(random, Call("close")),
        later(random),
    ]


def half_read(random: Random) -> list[Step]:
    """Data after shutdown(SHUT_RD)."""
    return [
        Call("shutdown", (random.choice((SHUT_RD, SHUT_RD, SHUT_RDWR)),)),
        *maybe(random, Segment("A")),
        *maybe(random, Segment("PA", 100)),
        ask(random),
        *maybe(random, Segment("PA", 100), Pause(70)),
        ask(random),
        *maybe(random, Segment("FA")),
    ]


def silence(random: Random) -> list[Step]:
    """The FIN is sent again and again."""
    return [goodbye(random), Pause(350), *maybe(random, later(random)), *maybe(random, Pause(520)), Segment("A")]


def abandoned(random: Random) -> list[Step]:
    """Nobody answers, until it gives up."""
    return [
        *maybe(random, Call("setsockopt", (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, random.choice((300, 700))))),
        *maybe(random, Segment("FA")),
        *maybe(random, Call("send", (100,))),
        goodbye(random),
        Pause(350),
        *maybe(random, ask(random)),
        Pause(520),
        *maybe(random, ask(random), Icmp(3, 1)),
        Pause(750),
        ask(random),
        later(random),
    ]


def lingering(random: Random) -> list[Step]:
    """A close that waits for a second. What it sends is read late: there must not be text to be sent again."""
    return [
        Segment("A"),
        *maybe(random, Segment("FA")),
        Call("setsockopt", (socket.SOL_SOCKET, socket.SO_LINGER, LINGER_1)),
        *maybe(random, Call("shutdown", (SHUT_WR,)), Segment("A")),
        Call("close"),
        Segment(random.choice(("A", "FA", "R", "FA")), random.choice((0, 0, 1))),
    ]


ENDINGS: Final = (
    orderly, orderly, orderly, passive, passive, crossing, reset, alone, alone, unread, unsent, aborted, half_read,
    silence, silence, lingering, abandoned,
)  # fmt: skip


def reopening(random: Random) -> list[Step]:
    """The same two ends once more, from outside or from inside."""
    if random.random() < 0.7:
        number = random.choice(((RCV, 0), (RCV, 1), (RCV, 70_000), (RCV, -1), (RCV, -70_000)))
        syn = Segment("S", seq=number, tsval=random.choice((0, 0, -5000, 5000)))
        return [
            *maybe(random, Pause(random.choice((350, 1100)))),
            Call("listen", (5,)),
            syn,
            *maybe(random, later(random)),
            Segment("A", seq=(RCV, 0)),
            Call("accept"),
            *orderly(random),
        ]
    return [
        *maybe(random, Pause(1100)),
        Call("close_listener"),
        Call("bind_again", (random.randrange(2),)),
        Call("connect"),
        Pause(4),
        later(random),
        Pause(20),  # a bad answer has our SYN sent again after two ticks
        Segment("SA", seq=(RCV, 70_000)),
        Call("connect"),
        ask(random),
    ]


# -- single steps


def later(random: Random) -> Step:
    """Anything, at any time."""
    chosen = random.random()
    if chosen < 0.03:
        return Icmp(*random.choice(((3, 1), (3, 3), (3, 2), (11, 0), (12, 0))), seq=(UNA, random.choice((0, 0, -1, 1))))
    if chosen < 0.55:
        return segment(random)
    if chosen < 0.75:
        return ask(random)
    if chosen < 0.82:
        return end(random)
    if chosen < 0.87:
        return option(random)
    return Pause(random.choice((20, 20, 70, 70, 350)))


def segment(random: Random) -> Segment:
    flags = random.choice(
        ("A", "A", "A", "PA", "PA", "FA", "FA", "FPA", "R", "R", "RA", "S", "SA", "F", "", "FRA", "SFA", "UA", "SR")
    )
    length = random.choice((0, 0, 0, 0, 1, 10, 100, 1000))
    return Segment(
        flags,
        length,
        random.choice(SEQ),
        random.choice(ACK if length == 0 else ACK_OF_TEXT),
        window=random.choice((None, None, None, None, 0, 1000)),
        urg=1 if "U" in flags else 0,
        tsval=random.choice((0, 0, 0, 0, -50, -5000, 5000)),
        stamped=random.random() < 0.9,
    )


def ask(random: Random) -> Step:
    return random.choice(
        (
            Call("poll"),
            Call("poll"),
            Call("recv", (100_000,)),
            Call("recv", (100_000,)),
            Call("recv", (10, socket.MSG_PEEK)),
            Call("send", (100,)),
            Call("send", (100,)),
            Call("getsockopt", (socket.SOL_SOCKET, socket.SO_ERROR)),
            Call("ioctl", (0x541B,)),  # SIOCINQ
            Call("ioctl", (0x5411,)),  # SIOCOUTQ
            Call("connect_to", (str_to_addr(PEER), PEER_PORT)),
            Call("peer"),
            Call("poll_listener"),
        )
    )


def goodbye(random: Random) -> Step:
    return random.choice((Call("close"), Call("close"), Call("shutdown", (SHUT_WR,)), Call("shutdown", (SHUT_RDWR,))))


def end(random: Random) -> Step:
    return random.choice(
        (
            Call("close"),
            Call("shutdown", (SHUT_RD,)),
            Call("shutdown", (SHUT_WR,)),
            Call("shutdown", (SHUT_RDWR,)),
            Call("shutdown", (3,)),
            Call("close_listener"),
            Call("shutdown_listener", (random.randrange(3),)),
            Call("accept"),
            Call("disconnect"),
        )
    )


def option(random: Random) -> Step:
    tcp = socket.IPPROTO_TCP
    return random.choice(
        (
            Call("setsockopt", (tcp, TCP_LINGER2, random.choice((-1, -5, 0, 1, 30, 70, 121)))),
            Call("getsockopt", (tcp, TCP_LINGER2)),
            Call("setsockopt", (socket.SOL_SOCKET, socket.SO_LINGER, random.choice(LINGER))),
            Call("setsockopt", (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)),
            Call("setsockopt", (tcp, socket.TCP_KEEPIDLE, 1)),
            Call("setsockopt", (tcp, socket.TCP_NODELAY, 1)),
            Call("setsockopt", (tcp, 3, random.randrange(2))),  # TCP_CORK
            Call("setsockopt", (tcp, socket.TCP_QUICKACK, random.randrange(2))),
            Call("setsockopt", (tcp, socket.TCP_USER_TIMEOUT, 300)),
            Call("setsockopt", (socket.SOL_IP, socket.IP_TOS, 0x20)),
            Call("setsockopt", (socket.SOL_IP, socket.IP_TTL, 33)),
        )
    )


def maybe(random: Random, *steps: Step) -> tuple[Step, ...]:
    return steps if random.random() < 0.4 else ()
