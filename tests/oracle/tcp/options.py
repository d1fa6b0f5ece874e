"""The interface of a socket: its options in every state, its calls in every order, and what both do to segments.

What is not asked for: what is not there (README), and the rows of differences.md that name this file.
"""

from __future__ import annotations

from dataclasses import replace
from struct import pack
from typing import TYPE_CHECKING, Final, TypeAlias

from tests.oracle.tcp.opened import opened, terms
from tests.oracle.tcp.script import Call, Pause, Script, Segment
from tests.tcp import host
from ustack.sock import MSG_FASTOPEN
from ustack.wire.ipv4 import str_to_addr

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from tests.oracle.tcp.script import Step, Terms

#: Level, name, values.
Values: TypeAlias = tuple[int, int, tuple[int | bytes, ...]]

SOCKET: Final = 1
IP: Final = 0
TCP: Final = 6

#: The send buffer does not follow what segments cost.
SYSCTLS: Final = (("net.ipv4.tcp_wmem", "4096 131072 4194304"),)

INTS: Final = (0, 1, 2, 3, 7, 64, 88, 100, 127, 128, 255, 256, 536, 1000, 1152, 1460, 4096, 32_767, 32_768, 65_535)
HUGE: Final = (65_536, 120_000, 200_000, 1 << 20, 0x7FFF_FFFF, -1, -2, -0x8000_0000)
BYTES: Final = (
    b"",
    b"\1",
    b"\2\0",
    b"\1\0\0",
    pack("=i", 1),
    b"\1\0\0\0\0",
    pack("=ii", 1, 1),
    pack("=ii", 0, 3),
    bytes(4) + b"\xff" * 4,
    pack("=qq", 1, 8000),
    b"lo",
    b"reno\0",
    b"cubic",
    b"none",
    b"\7\7\4\0\0\0\0",
    b"\x44\x0c\5\0" + bytes(8),
    b"\x83\7\4\xc0\0\2\1",
)
ROOMS: Final = (0, 1, 2, 3, 4, 5, 8, 12, 16, 300)

# what there is at each level, but for what is not there, the other stack's or its build's (SO_SNDBUF once it is set)
AT_SOCKET: Final = (
    2,
    3,
    4,
    5,
    6,
    9,
    10,
    11,
    12,
    13,
    15,
    18,
    19,
    20,
    21,
    30,
    36,
    37,
    38,
    39,
    42,
    42,
    47,
    55,
    57,
    60,
    72,
)
AT_IP: Final = (1, 2, 3, 4, 8, 10, 11, 14, 15, 19, 21, 22, 24, 32, 33, 34)
AT_TCP: Final = (*range(1, 10), 11, 12, 13, 16, 17, 18, 23, 25, 26, 27, 28, 30, 31, 33, 34, 36, 43, 44, 45, 46)
LEVELS: Final = ((SOCKET, AT_SOCKET), (IP, AT_IP), (TCP, AT_TCP))
#: Options that are one number in a range, with values around its ends.
RANGES: Final[tuple[Values, ...]] = (
    (TCP, 2, (0, 87, 88, 500, 1459, 1460, 32_767, 32_768)),
    (TCP, 4, (0, 1, 32_767, 32_768)),
    (TCP, 5, (0, 1, 32_767, 32_768)),
    (TCP, 6, (0, 1, 127, 128)),
    (TCP, 7, (0, 1, 127, 128)),
    (TCP, 8, (-1, 0, 60, 120, 121)),
    (TCP, 9, (-1, 0, 1, 2, 3, 4, 7, 8, 1000)),
    (TCP, 10, (0, 1, 1151, 1152, 1153, 5000, 65_535)),
    (TCP, 12, (0, 1, 2, 3)),
    (TCP, 16, (0, 1, 2)),
    (TCP, 18, (-1, 0, 1, 60_000, 0x7FFF_FFFF)),
    (TCP, 23, (-1, 0, 1, 5, 4096, 5000)),
    (TCP, 25, (-1, 0, 1, 1000, 100_000)),
    (TCP, 27, (-1, 0, 1, 2, 3)),
    (TCP, 30, (0, 1, 2)),
    (TCP, 34, (0, 1, 2)),
    (TCP, 36, (0, 1, 2)),
    (TCP, 44, (999, 1000, 2000, 120_000, 120_001)),
    (TCP, 45, (0, 8000, 100_000, 200_000, 200_001)),
    (TCP, 46, (0, 8000, 40_000, 200_000, 200_001)),
    (IP, 1, (0, 1, 2, 3, 0x10, 0x1C, 0xFF, 0x100, 0x1FF, -1)),
    (IP, 2, (-2, -1, 0, 1, 64, 255, 256)),
    (IP, 10, (-1, 0, 1, 2, 3, 4, 5, 6)),
    (IP, 21, (-1, 0, 1, 64, 65, 255, 256)),
    (SOCKET, 8, (200_000, 0x7FFF_FFFF)),
    (SOCKET, 9, (0, 1)),
    (SOCKET, 10, (0, 1)),
    (SOCKET, 18, (-1, 0, 1, 100, 3000, 100_000, 0x7FFF_FFFF)),
    (SOCKET, 37, (0, 1 << 7, 1 << 8, 1 << 9, 1 << 11, 1 << 12, 0x1892, 1 << 16, 1 << 19)),
    (SOCKET, 42, (-2, -1, 0, 0, 1, 5, 100)),
    (SOCKET, 42, (0, 3)),
    (SOCKET, 72, (0, 1, 2, 3, 4)),
)
#: The switches that change what is sent, and when.
WIRE: Final[tuple[Values, ...]] = (
    (TCP, 1, (0, 1)),
    (TCP, 3, (0, 1)),
    (TCP, 12, (0, 1)),
    (IP, 1, (0, 0x10, 0xB8)),
    (IP, 2, (-1, 1, 7, 255)),
    (IP, 10, (0, 1, 2, 3)),
    (IP, 4, (b"", b"\1\1\1\1", b"\7\7\4\0\0\0\0")),
    (TCP, 2, (0, 100, 536, 1000)),
    (SOCKET, 5, (0, 1)),
)

STACK: Final = str_to_addr(host.STACK)
ADDRS: Final = (STACK, 0, 0x7F00_0001, 0xC633_6407, 0xE000_0001, 0xFFFF_FFFF, 0xC000_02FF)
PORTS: Final = (0, 80, 81, 1023, 40_000)
PEER: Final = str_to_addr(host.PEER)
WHERE: Final = (
    (PEER, host.PEER_PORT),
    (PEER, host.PEER_PORT),
    (PEER, 0),
    (0, 9),
    (STACK, 9),
    (0x7F00_0001, 9),
    (0xC633_6407, 9),
    (0xE000_0001, 9),
    (0xFFFF_FFFF, 9),
)
#: MSG_*: OOB, PEEK, DONTROUTE, CTRUNC, PROBE, TRUNC, DONTWAIT, EOR, WAITALL, FIN, SYN, CONFIRM, RST, ERRQUEUE,
#: NOSIGNAL, MORE, and of the others ZEROCOPY.
FLAGS: Final = (0, 0, *(1 << n for n in range(16)), 0x400_0000)
IOCTLS: Final = (0x541B, 0x5411, 0x894B, 0x8905, 0x1234)
SIZES: Final = (0, 1, 2, 10, 100, 536, 1000, 1460, 2000)


def script(random: Random) -> Script:
    what = replace(terms(random), sysctls=SYSCTLS)
    what = replace(what, mss=None if what.mss is None else max(what.mss, 536))
    steps = random.choice(BEGINNINGS)(random, what)
    kinds = random.choice((MIXED, MIXED, OPTIONS, CALLS, DATA))
    while len(steps) < 40:
        steps += random.choice(kinds)(random)
        if random.random() < 0.02:
            break
    return Script(what, tuple(steps))


# -- where a script begins


def fresh(random: Random, what: Terms) -> list[Step]:
    return [Call("socket")]


def prepared(random: Random, what: Terms) -> list[Step]:
    """A connection whose socket, or whose listener, was told something before."""
    before = [step for _ in range(random.randrange(6)) for step in setting(random)]
    first, *rest = opened(what)
    if what.active:
        return [Call("socket"), *before, first, *rest]
    return [first, Call("take_listener"), *before, *rest]


def connected(random: Random, what: Terms) -> list[Step]:
    return list(opened(what))


def half_closed(random: Random, what: Terms) -> list[Step]:
    """In CLOSE_WAIT, FIN_WAIT2 or shut down for reading."""
    ends: list[list[Step]] = [
        [Segment("FA"), Pause(70)],
        [Call("shutdown", (1,)), Segment("A")],
        [Call("shutdown", (0,))],
    ]
    return [*opened(what), *random.choice(ends)]


def broken(random: Random, what: Terms) -> list[Step]:
    """Closed, by the peer or by both."""
    ends: list[list[Step]] = [
        [Segment("RA")],
        [Segment("PA", 100), Segment("RA")],
        [Segment("FA"), Pause(20), Call("shutdown", (1,)), Segment("A")],
        [Segment("FA"), Segment("RA")],
    ]
    return [*opened(what), *random.choice(ends)]


def calling(random: Random, what: Terms) -> list[Step]:
    """In SYN_SENT."""
    return [Call("socket"), *setting(random), Call("connect")]


def listening(random: Random, what: Terms) -> list[Step]:
    return [Call("listen", (random.choice((0, 1, 5)),)), Call("take_listener")]


BEGINNINGS: Final = (fresh, prepared, prepared, prepared, connected, half_closed, broken, calling, listening)


# -- what comes then


def option(random: Random) -> tuple[int, int]:
    level, names = random.choice(LEVELS)
    return level, random.choice(names)


def setting(random: Random) -> list[Step]:
    """An option with a value that it might have, one for another, or one of no use."""
    chosen = random.random()
    if chosen < 0.6:
        level, name, values = random.choice((*RANGES, *WIRE))
        value: int | bytes = random.choice(values)
    else:
        level, name = option(random)
        value = random.choice((*INTS, *HUGE)) if chosen < 0.85 else random.choice(BYTES)
        if (
            (level, name) == (SOCKET, 37)
            or name in (44, 45, 46)
            or (name == 13 and isinstance(value, int) and value < 0)
        ):
            return []  # times that no clock of 250 Hz knows, and messages that are not there
    step = Call("setsockopt", (level, name, value))
    return [step, Call("read_option", (level, name, 300))] if random.random() < 0.6 else [step]


def reading(random: Random) -> list[Step]:
    return [Call("read_option", (*option(random), random.choice(ROOMS)))]


def switching(random: Random) -> list[Step]:
    """What is sent is another thing from here on."""
    level, name, values = random.choice(WIRE)
    return [Call("setsockopt", (level, name, random.choice(values)))]


def naming(random: Random) -> list[Step]:
    chosen = random.random()
    if chosen < 0.4:
        return [Call("bind", (random.choice(ADDRS), random.choice(PORTS)))]
    return [Call("name"), Call("peer")]


def rivalling(random: Random) -> list[Step]:
    """Another socket, that wants what one may have already."""
    shared: list[Step] = [Call("setsockopt", (SOCKET, name, random.randrange(2))) for name in (2, 15)]
    steps = [Call("socket"), *shared, Call("bind", (random.choice(ADDRS[:3]), random.choice((80, 81))))]
    if random.random() < 0.2:
        # bound to a device for so long only: who goes on talks to himself by it (row "own-device")
        steps = [*steps[:3], Call("setsockopt", (SOCKET, 62, 2)), steps[3], Call("setsockopt", (SOCKET, 62, 0))]
    if random.random() < 0.5:
        steps.append(Call("listen_on", (1,)))
    if random.random() < 0.2:
        steps += [Call("setsockopt", (SOCKET, random.choice((2, 15)), random.randrange(2))), Call("listen_on", (1,))]
    return steps


def joining(random: Random) -> list[Step]:
    """connect, listen, accept, shutdown, in whatever order."""
    chosen = random.random()
    if chosen < 0.35:
        return [Call("connect_to", random.choice(WHERE))]
    if chosen < 0.5:
        return [Call("disconnect")]
    if chosen < 0.65:
        return [Call("listen_on", (random.choice((0, 1, 5)),))]
    if chosen < 0.75:
        return [Call("accept_on")]
    if chosen < 0.9:
        return [Call("shutdown", (random.choice((0, 1, 2, 3)),))]
    return [Call("socket")]


def asking(random: Random) -> list[Step]:
    chosen = random.random()
    if chosen < 0.5:
        return [Call("poll")]
    return [Call("ioctl", (random.choice(IOCTLS),))]


def sending(random: Random) -> list[Step]:
    """Something is sent, and mostly acknowledged before it would be sent again."""
    length, flags = random.choice(SIZES), random.choice(FLAGS)
    chosen = random.random()
    if chosen < 0.1:
        step = Call("send_to", (*random.choice(WHERE), length, flags | random.choice((0, MSG_FASTOPEN))))
    else:
        step = Call("send", (length, flags))
    return [step, Segment("A")] if random.random() < 0.8 else [step]


def reading_text(random: Random) -> list[Step]:
    flags = random.choice(FLAGS) | random.choice((0, 0, 0x2, 0x20, 0x100))
    if random.random() < 0.5:
        return [Call("recv", (random.choice((1, 10, 1000, 5000)), flags))]
    return [Call("receive", (random.choice((0, 1, 10, 1000)), flags))]


def peer(random: Random) -> list[Step]:
    chosen = random.random()
    if chosen < 0.6:
        return [Segment(random.choice(("A", "PA")), random.choice((1, 10, 100, 1000)))]
    if chosen < 0.7:
        return [Segment("PAU", random.choice((1, 100)), urg=random.choice((1, 50, 100)))]
    if chosen < 0.9:
        return [Segment("A")]
    return [Segment(random.choice(("FA", "RA", "S", "SA"))), Pause(20)]


def waiting(random: Random) -> list[Step]:
    return [Pause(random.choice((1, 4, 70, 70)))]


Kind: TypeAlias = "Callable[[Random], list[Step]]"
MIXED: Final[tuple[Kind, ...]] = (
    *(setting, setting, setting, reading, reading, switching, naming, joining, asking),
    *(sending, sending, reading_text, peer, peer, waiting),
)
OPTIONS: Final[tuple[Kind, ...]] = (setting, setting, setting, reading, reading, switching)
CALLS: Final[tuple[Kind, ...]] = (naming, joining, joining, rivalling, asking, sending, reading_text, peer)
DATA: Final[tuple[Kind, ...]] = (switching, sending, sending, sending, reading_text, peer, asking, waiting)
