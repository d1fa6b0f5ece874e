"""Handshakes: those that succeed, and all that can happen to them meanwhile. The stack calls, is called, or both.

Left out: the rows of differences.md that name this file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tests.oracle.tcp.script import ISS, NXT, OUT, RCV, Call, Icmp, Pause, Script, Segment, Terms
from tests.tcp.host import PEER, PEER_PORT, STACK
from ustack.inet.options import SO_ERROR, SOL_SOCKET
from ustack.sock import MSG_ERRQUEUE, MSG_FASTOPEN
from ustack.tcp.fastopen import key_from_text, tcp_fastopen_cookie
from ustack.tcp.options import TCP_DEFER_ACCEPT, TCP_FASTOPEN, TCP_FASTOPEN_CONNECT, TCP_FASTOPEN_NO_COOKIE, TCP_MAXSEG
from ustack.wire.ipv4 import IPPROTO_TCP, str_to_addr

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from tests.oracle.tcp.script import Ref, Step


KEY: Final = "01020304-05060708-090a0b0c-0d0e0f10"
COOKIE: Final = tcp_fastopen_cookie(key_from_text(KEY) or b"", str_to_addr(PEER), str_to_addr(STACK))
#: A cookie of somebody else's.
OTHER: Final = b"cookies!"

SYSCTLS: Final = {
    "tcp_ecn": (0, 1, 1, 2),
    "tcp_ecn_fallback": (0, 1),
    "tcp_syncookies": (0, 1, 2, 2),
    "tcp_abort_on_overflow": (0, 1),
    "tcp_timestamps": (0, 1, 2),
    "tcp_sack": (0, 1),
    "tcp_window_scaling": (0, 1),
    "tcp_synack_retries": (0, 1, 2),
    "tcp_syn_retries": (1, 2),
    "tcp_syn_linear_timeouts": (0, 1),
    "tcp_reflect_tos": (0, 1),
    "tcp_max_syn_backlog": (1, 2, 4, 8),
    "tcp_min_snd_mss": (48, 48, 100, 536),
    "tcp_mtu_probing": (1, 2),
    "tcp_workaround_signed_windows": (0, 1),
    "tcp_rmem": ("4096 65536 65536", "4096 131072 33554432"),
}


def script(random: Random) -> Script:
    kinds = (passive, passive, passive, active, active, active, crossed, crowded, crowded, fast_server, fast_client)
    kind = random.choice(kinds)
    steps = kind(random)
    what = terms(random, kind)
    return Script(what, tuple(each for step in steps for each in settled(step)))


def settled(step: Step) -> list[Step]:
    """What is not the same time on both sides is given time: no two segments come in one tick of the timestamps' clock,
    a FIN is acknowledged a jiffy or 40 ms later, and after a wrong ACK a SYN goes again within two jiffies."""
    if not isinstance(step, Segment):
        return [step]
    after = 60 if "F" in step.flags else 20 if "A" in step.flags and step.ack != (OUT, 0) else 0
    return [Pause(2), step, Pause(after)] if after else [Pause(2), step]


def terms(random: Random, kind: object) -> Terms:
    """Offers that any peer makes, and some that none does."""
    sysctls = {f"net.ipv4.{name}": f"{random.choice(SYSCTLS[name])}" for name in random.sample([*SYSCTLS], 2)}
    if kind is crowded:
        sysctls |= {f"net.ipv4.{name}": f"{random.choice(SYSCTLS[name])}" for name in CROWDED}
    if kind is fast_server or kind is fast_client:
        sysctls |= {"net.ipv4.tcp_fastopen": f"{random.choice(FASTOPEN)}", "net.ipv4.tcp_fastopen_key": KEY}
    return Terms(
        active=kind in (active, crossed, fast_client),
        mss=random.choice((1460, 1460, 1460, 536, 1000, None, 1, 48, 88, 65_535)),
        wscale=random.choice((7, 7, 0, 14, 15, 255, None)),
        timestamps=random.random() < 0.6,
        sack=random.random() < 0.75,
        window=random.choice((65_535, 65_535, 4096, 1000, 0, 1)),
        iss=random.choice((0x5000_0000, 0xFFFF_FFFF, 0x7FFF_FFF0, 0)),
        sysctls=tuple(sysctls.items()),
    )


CROWDED: Final = ("tcp_syncookies", "tcp_abort_on_overflow", "tcp_max_syn_backlog")
FASTOPEN: Final = (0, 1, 2, 3, 3, 3, 0x203, 0x603, 0x7, 0x5)


# -- the kinds


def passive(random: Random) -> list[Step]:
    steps: list[Step] = [Call("listen", (random.choice((0, 1, 5)),))]
    if random.random() < 0.2:
        steps.append(Call("set_listener", (IPPROTO_TCP, TCP_DEFER_ACCEPT, random.choice((1, 3, 10)))))
    if random.random() < 0.1:
        steps.append(Call("set_listener", (IPPROTO_TCP, TCP_MAXSEG, random.choice((88, 536, 1200, 4000)))))
    steps += some(random, 2, odd)
    steps += [syn(random), *some(random, 4, half_open)]
    steps += [last_ack(random), *some(random, 3, half_open)]
    return [*steps, Call("accept"), *some(random, 8, open_)]


def active(random: Random) -> list[Step]:
    steps: list[Step] = []
    if random.random() < 0.1:
        steps += [Call("socket"), Call("setsockopt", (IPPROTO_TCP, TCP_MAXSEG, random.choice((88, 536, 1200, 4000))))]
    steps += [Call("connect"), *some(random, 5, calling)]
    steps += [answer(random), *some(random, 2, calling), Call("connect")]
    return [*steps, *some(random, 8, open_)]


def crossed(random: Random) -> list[Step]:
    """Both call."""
    steps: list[Step] = [Call("connect"), *some(random, 2, calling)]
    steps += [syn(random), *some(random, 5, meeting)]
    steps += [last_ack(random), *some(random, 2, calling), Call("connect")]
    return [*steps, *some(random, 6, open_)]


def crowded(random: Random) -> list[Step]:
    """More who call than there is room for."""
    steps: list[Step] = [Call("listen", (random.choice((0, 0, 1, 2)),))]
    ports = range(random.choice((3, 4, 6)))
    for _ in range(random.randrange(10, 30)):
        port = random.choice(ports)
        chosen = random.random()
        if chosen < 0.4:
            steps.append(Segment(random.choice(("S", "S", "S", "SEC")), seq=(ISS, 0), port=port))
        elif chosen < 0.75:
            length = random.choice((0, 0, 0, 10))
            steps.append(Segment("A", length, seq=(ISS, 1), ack=(OUT, random.choice((0, 0, 0, 1))), port=port))
        elif chosen < 0.8:
            steps.append(Segment(random.choice(("R", "FA", "RA")), seq=(ISS, 1), port=port))
        elif chosen < 0.9:
            steps.append(Call(random.choice(("accept", "accept", "poll_listener"))))
        else:
            steps.append(Pause(random.choice((0, 2, 4, 70))))
    return steps


def fast_server(random: Random) -> list[Step]:
    """Data comes with the SYN (RFC 7413)."""
    room = random.choice((0, 1, 5))
    steps: list[Step] = [Call("listen", (5,)), Call("set_listener", (IPPROTO_TCP, TCP_FASTOPEN, room))]
    for number in range(random.choice((1, 1, 2, 3))):
        options = fast_options(random, random.choice((b"", COOKIE, COOKIE, COOKIE, OTHER, None)))
        length = random.choice((0, 1, 100, 536, 1000, 1400))
        flags = random.choice(("S", "S", "S", "SF", "SP", "SEC"))
        steps += [Pause(40), Segment(flags, length, options=options, port=number), *some(random, 2, pause)]
        steps += [Call("accept")] if random.random() < 0.7 else []
        steps += some(random, 6, served, number, length)
    return steps


def fast_client(random: Random) -> list[Step]:
    """Data goes with the SYN, if there is a cookie."""
    steps: list[Step] = []
    for _ in range(random.choice((1, 2, 2, 3))):
        steps += [Call("socket")]
        if random.random() < 0.2:
            steps.append(Call("setsockopt", (IPPROTO_TCP, TCP_FASTOPEN_NO_COOKIE, 1)))
        length = random.choice((1, 100, 1000, 1420, 3000))
        if random.random() < 0.5:
            steps.append(Call("setsockopt", (IPPROTO_TCP, TCP_FASTOPEN_CONNECT, 1)))
            steps += [Call("connect"), Call("poll"), Call("send", (length,))]
        else:
            steps.append(Call("send_to", (str_to_addr(PEER), PEER_PORT, length, MSG_FASTOPEN)))
        steps += some(random, 2, waiting)
        cookie = random.choice((OTHER, OTHER, COOKIE, b"", None))
        ack = random.choice(((OUT, 0), (OUT, 0), (ISS, 1), (ISS, 1 + length // 2), (ISS, 0)))
        options = fast_options(random, cookie)
        steps.append(Segment("SA", random.choice((0, 0, 10)), seq=(ISS, 0), ack=ack, options=options))
        steps += some(random, 4, served, 0, 0)
        steps += [Call("close"), Segment("R", seq=(RCV, 0))]
    return steps


# -- what can happen


def some(random: Random, most: int, make: Callable[..., Step | list[Step]], *args: int) -> list[Step]:
    made = [make(random, *args) for _ in range(random.randrange(most + 1))]
    return [step for each in made for step in (each if isinstance(each, list) else [each])]


def pause(random: Random) -> Step:
    return Pause(random.choice((0, 2, 4, 4, 5, 70, 1100) if random.random() < 0.5 else (0, 2, 4)))


def waiting(random: Random) -> Step:
    return random.choice((Call("poll"), Call("connect"), pause(random)))


def syn(random: Random) -> Step:
    """The one that is meant."""
    options = options_of_a_syn(random) if random.random() < 0.4 else None
    length = random.choice((0, 0, 0, 0, 1, 100, 1000))
    flags = random.choice(("S", "S", "S", "S", "SEC", "SEC", "SE", "SC", "SU", "SP", "SF"))
    tos = random.choice((0, 0, 0, 1, 2, 3, 0x10, 0xB8))
    return Segment(flags, length, options=options, tos=tos, urg=random.choice((0, 0, 5)))


def answer(random: Random) -> Step:
    """A SYN-ACK for the stack's SYN."""
    options = options_of_a_syn(random) if random.random() < 0.4 else None
    length = random.choice((0, 0, 0, 0, 1, 100, 1000))
    flags = random.choice(("SA", "SA", "SA", "SA", "SAE", "SAE", "SAF", "SAP"))  # CWR: accecn
    return Segment(flags, length, options=options, tos=random.choice((0, 0, 1, 2, 3)))


def last_ack(random: Random) -> Step:
    """What ends the handshake, unless it does not."""
    flags = random.choice(("A", "A", "A", "PA", "FA", "AE"))
    return Segment(
        flags,
        random.choice((0, 0, 0, 1, 100, 1000)),
        window=random.choice((None, None, None, 0, 1, 65_535)),
        tsecr=random.choice((0, 0, 0, 0, -1000, 1000, 100_000)),
        tsval=random.choice((0, 0, 0, -50)),
        stamped=random.random() < 0.9,
        tos=random.choice((0, 0, 2, 3)),
    )


def odd(random: Random) -> Step:
    """A segment for who knows of no connection."""
    flags = random.choice(("A", "R", "RA", "SA", "F", "FA", "", "SR", "SRA", "SFA", "SFR", "U", "P"))
    seq, ack = (ISS, random.choice((0, 0, 1, 5))), (ISS, random.choice((0, 1)))
    return Segment(flags, random.choice((0, 0, 10)), seq=seq, ack=ack)


def meeting(random: Random) -> Step:
    """For a connection in SYN_RECV that has called itself; not an ACK of nothing (crossed-unacked)."""
    made = half_open(random) if random.random() < 0.7 else calling(random)
    return pause(random) if isinstance(made, Segment) and "A" in made.flags and made.ack == (ISS, 0) else made


def half_open(random: Random) -> Step:
    """For a connection in SYN_RECV."""
    chosen = random.random()
    if chosen < 0.15:
        options = options_of_a_syn(random) if random.random() < 0.3 else None
        flags = random.choice(("S", "S", "S", "SEC", "SF"))
        return Segment(flags, random.choice((0, 0, 10)), seq=(ISS, 0), options=options)
    if chosen < 0.25:
        return Segment("S", seq=(ISS, random.choice((-1, 1, 2, 1000, 70_000, -70_000))))
    if chosen < 0.45:
        return Segment(
            random.choice(("A", "A", "PA", "FA", "SA", "SFA")),
            random.choice((0, 0, 10)),
            seq=place(random),
            ack=(ISS, random.choice((0, 0, 1, 2, -5, 1000, 100_000))),
        )
    if chosen < 0.55:
        tsval = random.choice((0, -200, 1000))
        return Segment("A", random.choice((0, 1, 10)), seq=place(random), tsval=tsval, tsecr=skew(random))
    if chosen < 0.65:
        return Segment(random.choice(("R", "R", "RA", "SR", "SRA")), seq=place(random))
    if chosen < 0.72:
        return Segment(random.choice(("", "F", "P", "U", "PU", "E")), random.choice((0, 10)), seq=place(random))
    if chosen < 0.78:
        return icmp(random)
    return random.choice((pause(random), pause(random), Call("poll_listener"), Call("accept"), Call("poll")))


def place(random: Random) -> Ref:
    return random.choice(((NXT, 0), (RCV, 0), *((ISS, offset) for offset in (0, 1, 1, 2, 100, 70_000, -1))))


def skew(random: Random) -> int:
    return random.choice((0, 0, 0, -1000, 1000, 5000))


def calling(random: Random) -> Step:
    """For a connection in SYN_SENT."""
    chosen = random.random()
    if chosen < 0.3:
        flags = random.choice(("SA", "A", "FA", "RA", "RA", "SRA", "SFA", "PA"))
        ack = (ISS, random.choice((0, 0, 2, 2, 1, -1, 1000, 100_000)))
        seq = (ISS, random.choice((0, 0, 1)))
        return Segment(flags, random.choice((0, 0, 10)), seq=seq, ack=ack, tsecr=skew(random))
    if chosen < 0.4:
        return Segment(random.choice(("R", "", "F", "P", "SR", "SFR")), seq=(ISS, random.choice((0, 0, 1))))
    if chosen < 0.45:
        return Segment("SA", seq=(ISS, 0), tsecr=random.choice((1000, -100_000)))
    if chosen < 0.55:
        return icmp(random)
    if chosen < 0.7:
        return pause(random)
    return Call("send", (100,)) if chosen < 0.73 else asked(random)


def asked(random: Random) -> Step:
    """What an application may want to know, or do, too early or too late."""
    return random.choice(
        (
            Call("connect"),
            Call("poll"),
            Call("getsockopt", (SOL_SOCKET, SO_ERROR)),
            Call("getsockopt", (IPPROTO_TCP, TCP_MAXSEG)),
            Call("peer"),
            Call("recv", (100,)),
            Call("receive", (100, MSG_ERRQUEUE)),
            Call("shutdown", (random.choice((0, 1, 2)),)),
            Call("setsockopt", (IPPROTO_TCP, 2, 700)),
        )
    )


def icmp(random: Random) -> Step:
    unreachable = ((3, code) for code in (0, 1, 2, 3, 4, 9, 10, 13))
    kind, code = random.choice((*unreachable, (11, 0), (12, 0)))
    mtu = random.choice((0, 576, 1400)) if code == 4 else 0
    return Icmp(kind, code, mtu, seq=(ISS, random.choice((0, 0, 0, 1, -1))))


def open_(random: Random) -> Step | list[Step]:
    """For a connection that may be established."""
    chosen = random.random()
    if chosen < 0.35:
        return Segment(random.choice(("A", "PA")), random.choice((0, 1, 100, 1000)))
    if chosen < 0.5:
        seq, ack = (ISS, random.choice((0, 0, 1))), (ISS, random.choice((0, 1, 1)))
        return Segment(random.choice(("S", "SA", "SA", "A")), seq=seq, ack=ack)
    if chosen < 0.6:
        return [Call("send", (random.choice((1, 100, 1000)),)), Segment("A")]  # before a probe goes
    if chosen < 0.7:
        return Call("recv", (10_000,))
    if chosen < 0.8:
        return asked(random)
    return Pause(random.choice((0, 2, 4)))


def served(random: Random, port: int, length: int) -> Step | list[Step]:
    """For a connection of Fast Open, whose handshake may not be done."""
    chosen = random.random()
    if chosen < 0.3:
        return Segment("A", random.choice((0, 0, 10)), seq=(ISS, 1 + length), port=port)
    if chosen < 0.4:
        return Segment("A", random.choice((0, 10)), seq=(ISS, 1), ack=(ISS, 1), port=port)
    if chosen < 0.5:
        seq = (ISS, random.choice((0, 1, 1 + length)))
        return Segment(random.choice(("S", "R", "RA", "FA", "SA", "F")), seq=seq, port=port)
    if chosen < 0.6:
        return pause(random)
    if chosen < 0.68:
        return [Call("send", (100,)), Segment("A", seq=(ISS, 1 + length), port=port)]
    return random.choice((Call("recv", (10_000,)), Call("poll"), Call("poll_listener"), asked(random)))


# -- options


def fast_options(random: Random, cookie: bytes | None) -> bytes:
    """Those of a SYN with a Fast Open cookie, b"" to ask for one, None for neither."""
    options = b"\x02\x04\x05\xb4"
    if random.random() < 0.5:
        options += b"\x04\x02\x08\x0a\0\0\0\x65\0\0\0\0"
    if cookie is not None and random.random() < 0.15:
        options += bytes((254, 4 + len(cookie))) + b"\xf9\x89" + cookie
    elif cookie is not None:
        options += bytes((34, 2 + len(cookie))) + cookie
    return padded(options)


def options_of_a_syn(random: Random) -> bytes:
    """Some, in any order, now and then with a length that is wrong."""
    chosen = [option(random) for _ in range(random.randrange(7))]
    while len(b"".join(chosen)) > 40:
        chosen.pop()
    return padded(b"".join(chosen))


def padded(options: bytes) -> bytes:
    return options + bytes(-len(options) % 4)


def option(random: Random) -> bytes:
    kind = random.choice((0, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 8, 8, 8, 5, 34, 254, 77))
    value = {
        0: b"",
        2: random.choice((0, 1, 47, 48, 88, 536, 1000, 1460, 9000, 65_535)).to_bytes(2, "big"),
        3: bytes((random.choice((0, 1, 7, 14, 15, 255)),)),
        4: b"",
        8: random.choice((0, 1, 101, 0xFFFF_FFFF)).to_bytes(4, "big") + random.choice((0, 0, 77)).to_bytes(4, "big"),
        5: b"\0\0\0\1\0\0\0\2",
        34: random.choice((b"", COOKIE, b"odd")),
        254: random.choice((b"\xf9\x89", b"\xf9\x89" + OTHER, b"\x12\x34")),
    }.get(kind, b"??")
    if kind < 2:
        return bytes((kind,))
    size = 2 + len(value)
    if random.random() < 0.1:
        size = random.choice((0, 1, size - 1, size + 1, 40, 255))
    return bytes((kind, size)) + value
