"""Segments and ICMP errors that no honest peer sends, in every state, between some that it would.

Theme: flags, sequence and acknowledgement numbers at every edge, timestamps, malformed options, urgent pointers,
windows, checksums, ICMP errors; what the stack says to that, and how often (RFC 5961). Left out: the rows of
differences.md that name this file.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from tests.oracle.tcp.opened import opened, terms
from tests.oracle.tcp.script import EDGE, ISS, NXT, OUT, RCV, UNA, Call, Icmp, Pause, Script, Segment
from ustack.wire.tcp import timestamp_option

if TYPE_CHECKING:
    from random import Random

    from tests.oracle.tcp.script import Ref, Step, Terms

#: (level, name, value): SO_OOBINLINE, IP_RECVERR, IP_MTU_DISCOVER, IP_MINTTL, TCP_NODELAY, TCP_KEEPIDLE, SO_KEEPALIVE,
#: TCP_USER_TIMEOUT, TCP_WINDOW_CLAMP, TCP_QUICKACK, SO_LINGER
OPTIONS: Final[tuple[tuple[int, int, int | bytes], ...]] = (
    (1, 10, 1), (0, 11, 1), (0, 11, 1), (0, 10, 0), (0, 10, 1), (0, 10, 2), (0, 10, 3), (0, 21, 60), (0, 21, 61),
    (0, 21, 65), (6, 1, 1), (6, 4, 1), (1, 9, 1), (6, 18, 5000), (6, 10, 1000), (6, 12, 0), (6, 12, 1),
    (1, 13, b"\1\0\0\0\0\0\0\0"),
)  # fmt: skip
SYSCTLS: Final = (
    ("tcp_ecn", ("0", "1", "2")),
    ("tcp_challenge_ack_limit", ("1", "2147483647", "0")),
    ("tcp_invalid_ratelimit", ("0", "0", "20", "60000")),
    ("ip_no_pmtu_disc", ("1", "2", "3")),
    ("tcp_mtu_probing", ("1", "2")),
    ("tcp_timestamps", ("0", "2")),
    ("tcp_sack", ("0",)),
    ("tcp_dsack", ("0",)),
    ("tcp_stdurg", ("1",)),
    ("tcp_rfc1337", ("1",)),
    ("tcp_reflect_tos", ("1",)),
    ("tcp_min_snd_mss", ("200",)),
    ("tcp_syncookies", ("0", "2")),
    ("tcp_abort_on_overflow", ("1",)),
    ("tcp_recovery", ("0",)),
    ("tcp_early_retrans", ("0",)),
    ("tcp_frto", ("0",)),
)
FLAGS: Final = "FSRPAUEC"
#: Any byte but two kinds of options: of SACK, whose numbers count from our ISN, which nobody knows here, and of TCP-AO,
#: which the kernel may have been built with or without.
BYTES: Final = bytes.maketrans(b"\x05\x1d", b"\x06\x1c")
#: Bytes before and after which a sequence number is at an edge.
NEAR: Final = (-1400, -100, -2, -1, 0, 1, 2, 100, 1400)
FAR: Final = (-0x8000_0000, -0x7FFF_FFFF, -0x4000_0000, -100_000, -65_536, 65_536, 100_000, 0x4000_0000, 0x7FFF_FFFF)
LENGTHS: Final = (0, 0, 0, 1, 1, 2, 100, 536, 1400)
MTUS: Final = (0, 1, 67, 68, 69, 296, 551, 552, 576, 577, 1000, 1006, 1280, 1492, 1499, 1500, 1501, 9000, 65_535)


def script(random: Random) -> Script:
    what = replace(terms(random), sysctls=sysctls(random))
    what = replace(what, iss=random.choice((what.iss, 0xFFFF_FFFF, 0xFFFF_FFF0, 0xFFFF_0000, 0x7FFF_FFFF)))
    what, begin, calling = state(random, what)
    if calling:
        what = replace(what, sysctls=tuple(each for each in what.sysctls if each[0] != "net.ipv4.tcp_ecn"))
    theme = random.choice((flags, edges, stamps, malformed, errors, windows, urgent, anything, anything))
    steps: list[Step] = []
    for _ in range(random.randrange(10, 40)):
        steps += theme(random) if random.random() < 0.6 else ordinary(random)
    if random.random() < 0.06:
        steps += patience(random)
    return Script(what, (*begin, *tamed(begin, steps, calling)))


def patience(random: Random) -> list[Step]:
    """Keepalives of ours at the end, answered by one who may tell nonsense, or not at all; TCP_USER_TIMEOUT."""
    timeout = Call("setsockopt", (6, 18, random.choice((0, 0, 1500))))
    begin = [Call("setsockopt", each) for each in ((1, 9, 1), (6, 4, 1), (6, 5, 1), (6, 6, 1))]
    answer = Segment("A", 0, (RCV, random.choice((0, 0, -1, 1))), random.choice(((OUT, 0), (OUT, 1), (UNA, -1))))
    return [timeout, *begin, Pause(1300), *random.choice(([], [answer])), Pause(1100), Call("poll")]


def tamed(begin: list[Step], steps: list[Step], calling: bool) -> list[Step]:
    """Without what is known to differ (differences.md), and without what depends on when exactly it happens."""
    done: list[Step] = []
    texts = any(isinstance(step, Segment) and step.length for step in begin)
    for step in steps:
        if not isinstance(step, Segment):
            done.append(step)
            continue
        if step.seq[0] == EDGE and texts:
            step = replace(step, seq=(RCV, step.seq[1] + 30_000))  # where it ends depends on what text costs: truesize
        texts = texts or step.length > 0
        if step.length and not set(step.flags) - set("AP") and old(step.ack):
            step = replace(step, ack=(UNA, 0))  # too-old-ack
        if calling:
            # crossed-unacked; and our SYN goes again two ticks after a wrong ACK
            step = replace(step, sacks=(), ack=(OUT, max(step.ack[1], 0)))
            done += [step, *([Pause(70)] if step.ack != (OUT, 0) else [])]
        else:
            done.append(step)
    return done


def old(ack: Ref) -> bool:
    """Whether it may be before any window that the peer has had."""
    return ack[0] == ISS or ack[1] < 0 or ack[1] >= 0x4000_0000


def sysctls(random: Random) -> tuple[tuple[str, str], ...]:
    """Few: most others than Linux sets them are not where attacks are met."""
    chosen = random.sample(SYSCTLS, random.choice((0, 1, 1, 2, 3)))
    # held back for a twentieth of a round trip, which here is the machine's
    uncompressed = ("net.ipv4.tcp_comp_sack_nr", "0")
    return (uncompressed, *((f"net.ipv4.{name}", random.choice(values)) for name, values in sorted(chosen)))


# -- where it begins


def state(random: Random, what: Terms) -> tuple[Terms, list[Step], bool]:
    """Terms and steps that lead to any state, most often ESTABLISHED; whether our SYN is not acknowledged yet."""
    chosen = random.random()
    if chosen < 0.08:
        return replace(what, active=True), [Call("connect")], True
    if chosen < 0.12:
        return replace(what, active=True), [Call("connect"), Segment("S"), Pause(2)], True
    if chosen < 0.15:
        return replace(what, active=False), [Call("listen", (3,))], False
    if chosen < 0.22:
        return replace(what, active=False), [Call("listen", (3,)), Segment("S"), Pause(4)], False
    # SO_SNDBUF: how much is taken depends on what text costs
    begin = [*opened(what), Call("setsockopt", (1, 7, 200_000)), *options(random), *sent(random)]
    if chosen > 0.6:
        begin += closing(random)
    return what, begin, False


def options(random: Random) -> list[Step]:
    """Some that change what is made of errors, and of segments."""
    count = random.choice((0, 0, 1, 2, 3))
    chosen: list[Step] = [Call("setsockopt", each) for each in random.sample(OPTIONS, count)]
    if Call("setsockopt", (6, 4, 1)) in chosen:
        chosen += [Call("setsockopt", (6, 5, 1)), Call("setsockopt", (1, 9, 1))]
    return chosen


def sent(random: Random) -> list[Step]:
    """Text in both directions before, or not."""
    steps: list[Step] = []
    if random.random() < 0.5:
        steps.append(Segment("PA", random.choice((1, 100, 1000))))
    if random.random() < 0.5:
        steps += [Call("send", (random.choice((1, 100, 1000)),)), *([] if random.random() < 0.4 else [Segment()])]
    return steps


def closing(random: Random) -> list[Step]:
    """From ESTABLISHED on: who closes first, how far, and whether its socket stays."""
    close: Step = random.choice((Call("shutdown", (1,)), Call("shutdown", (2,)), Call("close")))
    ways: tuple[list[Step], ...] = (
        [Call("shutdown", (0,))],
        [close],
        [close, Segment()],
        [close, Segment(), Segment("FA")],
        [close, Segment("FA", ack=(UNA, 0))],
        [close, Segment("FA", ack=(UNA, 0)), Segment()],
        [Segment("FA")],
        [Segment("FA"), close],
        [Segment("FA"), close, Segment()],
    )
    return random.choice(ways)


# -- what an honest peer might do as well


def ordinary(random: Random) -> list[Step]:
    """So that there is something to be wrong about."""
    chosen = random.random()
    if chosen < 0.2:
        return [Segment(random.choice(("A", "PA")), random.choice((1, 100, 536, 1000)))]
    if chosen < 0.3:
        return [Segment()]
    if chosen < 0.36:
        return [Segment("A", random.choice((1, 100, 1000)), seq=(RCV, random.choice((0, 0, 0, 100, 1000))))]
    if chosen < 0.5:
        return [Call("send", (random.choice((1, 100, 1000, 5000)),))]
    if chosen < 0.6:
        return [Call("recv", (random.choice((1, 100, 100_000)), random.choice((0, 0, 0, 1, 2))))]
    if chosen < 0.68:
        return [Call("poll")]
    if chosen < 0.74:
        return [Call("getsockopt", (1, 4))]
    if chosen < 0.76:
        return [Call("ioctl", (random.choice((0x541B, 0x8905, 0x5411)),))]
    if chosen < 0.78:
        return closing(random)[:1]
    if chosen < 0.85:
        return [Call("accept")]
    return [Pause(random.choice((70, 70, 70, 70, 350)))]


# -- what it would not


def anything(random: Random) -> list[Step]:
    return random.choice((flags, edges, stamps, malformed, errors, windows, urgent))(random)


def where(random: Random) -> Ref:
    """A sequence number of the peer's."""
    base = random.choice((NXT, RCV, RCV, RCV, EDGE, EDGE, ISS))
    offset = random.choice(FAR) if random.random() < 0.15 else random.choice(NEAR)
    return base, random.choice((0, offset, offset))


def acked(random: Random) -> Ref:
    """A number of ours that it says it has seen."""
    base = random.choice((OUT, OUT, OUT, UNA, UNA, ISS))
    offset = random.choice(FAR) if random.random() < 0.15 else random.choice(NEAR)
    return base, random.choice((0, 0, offset))


def flags(random: Random) -> list[Step]:
    """Every combination, where it would be acceptable and where not."""
    weights = (0.15, 0.2, 0.2, 0.2, 0.75, 0.1, 0.1, 0.1)
    said = "".join(each for each, weight in zip(FLAGS, weights, strict=True) if random.random() < weight)
    seq = random.choice(((RCV, 0), (RCV, 0), (NXT, 0), where(random)))
    ack = random.choice(((OUT, 0), (OUT, 0), acked(random)))
    return [Segment(said, random.choice(LENGTHS), seq, ack, tos=random.choice((0, 0, 1, 2, 3, 0x48)), flip=ae(random))]


def ae(random: Random) -> tuple[tuple[int, int], ...]:
    """AE and the reserved bits beside it."""
    return ((12, random.choice((1, 2, 8, 15))),) if random.random() < 0.1 else ()


def edges(random: Random) -> list[Step]:
    """At, before and beyond what is expected: text, FIN, RST, SYN, and ACKs of what was never sent."""
    said = random.choice(("A", "A", "A", "PA", "FA", "FA", "R", "R", "RA", "S", "SA", "F", ""))
    length = random.choice(LENGTHS)
    chosen = Segment(said, length, where(random), random.choice(((OUT, 0), (UNA, 0), acked(random))))
    return [chosen] * random.choice((1, 1, 1, 2, 3))


def stamps(random: Random) -> list[Step]:
    """Timestamps older, much newer, zero, absent; echoes of what was never sent."""
    said = random.choice(("A", "A", "A", "PA", "FA", "R", "S"))
    base = random.choice(((NXT, 0), (RCV, 0), (RCV, 0), (RCV, -1), where(random)))
    chosen = Segment(said, random.choice(LENGTHS), base, random.choice(((OUT, 0), acked(random))))
    kind = random.random()
    if kind < 0.2:
        return [replace(chosen, stamped=False)]
    if kind < 0.3:
        return [replace(chosen, options=timestamp_option(random.choice((0, 0, 1, 0xFFFF_FFFF, 0x8000_0000)), 0))]
    if kind < 0.6:
        return [
            replace(chosen, tsval=random.choice((-1, -2, -3, -50, -250, -2000, -100_000, -0x7FFF_FFFF, 0x8000_0000)))
        ]
    if kind < 0.7:
        return [replace(chosen, tsval=random.choice((1, 10, 1000)))]
    return [replace(chosen, tsecr=random.choice((-1, 1, -100, 100, -1000, 1000, 100_000, 0x7FFF_FFFF, -0x7FFF_FFFF)))]


def malformed(random: Random) -> list[Step]:
    """Headers that are too short or too long, options that lie, checksums that are wrong."""
    chosen = Segment(random.choice(("A", "A", "PA", "FA", "S", "R")), random.choice(LENGTHS), (RCV, 0))
    kind = random.random()
    if kind < 0.15:
        return [replace(chosen, flip=((12, random.choice((0x10, 0x20, 0x30, 0x40, 0x50, 0x70, 0x80, 0xF0))),))]
    if kind < 0.25:
        return [replace(chosen, corrupt=random.choice((1, 0x8000, 0xFFFF)))]
    if kind < 0.4:
        blocks = tuple((acked(random), acked(random)) for _ in range(random.randrange(1, 4)))
        return [replace(chosen, sacks=blocks, flags="A")]
    return [replace(chosen, options=option_bytes(random))]


def option_bytes(random: Random) -> bytes:
    """Kinds known and not, with lengths of all kinds; sometimes just any bytes."""
    if random.random() < 0.2:
        return random.randbytes(random.choice((4, 12, 20, 40))).translate(BYTES)
    out = b""
    while len(out) < 40 and random.random() < 0.75:
        kind = random.choice((0, 1, 1, 2, 3, 4, 5, 5, 8, 8, 19, 30, 34, 69, 172, 254))
        right = {2: 4, 3: 3, 4: 2, 8: 10, 19: 18, 34: 10}.get(kind, 4)
        size = right if random.random() < 0.7 else random.choice((0, 1, 2, 3, 9, 11, 34, 40, 255))
        body = random.choice((bytes(40), random.randbytes(40)))
        out += bytes([kind]) if kind < 2 else bytes([kind, size]) + body[: max(min(size, 40) - 2, 0)]
    return out[:40].translate(BYTES)


def errors(random: Random) -> list[Step]:
    """ICMP errors of each kind about what is in flight, what was and what never was."""
    place = random.choice(((UNA, 0), (UNA, 0), (OUT, 0), (OUT, -1), (ISS, 0), acked(random)))
    kind = random.random()
    if kind < 0.4:
        return [Icmp(3, 4, random.choice(MTUS), place)]
    if kind < 0.75:
        return [Icmp(3, random.choice((0, 0, 1, 1, 2, 3, 5, 6, 9, 13, 15, 16, 255)), 0, place)]
    return [
        Icmp(random.choice((11, 11, 12, 12, 17)), random.choice((0, 0, 1, 2)), random.choice((0, 0x1400_0000)), place)
    ]


def windows(random: Random) -> list[Step]:
    """Windows that shrink, vanish and come back; probes of ours, keepalives."""
    kind = random.random()
    if kind < 0.45:
        window = random.choice((0, 0, 0, 1, 2, 7, 8, 100, 536, 65_535))
        return [Segment("A", random.choice((0, 0, 0, 1)), (RCV, random.choice((0, 0, 0, -1, 1))), (UNA, 0), window)]
    if kind < 0.7:
        return [Segment("A", random.choice((0, 1)), (RCV, -1))]
    if kind < 0.85:
        return [Segment("A", random.choice((1, 2, 100)), (EDGE, random.choice((-1, 0, 0, 1))))]
    return [Call("send", (random.choice((1, 2000, 20_000)),)), Segment("A", window=random.choice((0, 1)))]


def urgent(random: Random) -> list[Step]:
    """Urgent pointers before, in, at the end of and far beyond the segment; and urgent text of ours."""
    kind = random.random()
    if kind < 0.2:
        return [Call("send", (random.choice((1, 10, 100)), 1))]
    if kind < 0.35:
        return [Call("recv", (1, random.choice((1, 3))))]
    pointer = random.choice((0, 0, 1, 1, 2, 50, 99, 100, 101, 1000, 32_768, 65_535))
    said = random.choice(("UA", "UA", "UPA", "U", "UFA", "URA", "USA", "A"))
    base = random.choice(((NXT, 0), (NXT, 0), (RCV, 0), (RCV, -1), (RCV, 1), where(random)))
    return [Segment(said, random.choice((0, 1, 2, 100, 1000)), base, urg=pointer)]
