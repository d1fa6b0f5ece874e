"""A flight of full segments on a path of known delay, and SACKs in numbers of segments: for the tests of recovery."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tests.tcp.invariants import check
from tests.tcp.peer import MSEC, Peer
from ustack.device.e1000 import NO_OFFLOAD

if TYPE_CHECKING:
    from tests.tcp.host import Segment

MSS: Final = 1000
RTT: Final = 100 * MSEC


def connected(
    rtt: int = RTT, sack: bool = True, timestamps: bool = False, features: int = NO_OFFLOAD, mss: int = MSS
) -> Peer:
    """Established; the handshake took ``rtt`` ns. Nothing is limited by windows or buffers."""
    c = Peer(mss=mss + 12 * timestamps, wscale=7, timestamps=timestamps, window=400_000, features=features, sack=sack)
    c.app_listen()
    c.peer_syn()
    c.expect("SA")
    c.run(rtt)
    c.inject("A", window=400_000)
    c.app_accept()
    c.tp.sndbuf = 1 << 22
    c.mark()
    return c


def flight(
    count: int = 10,
    queued: int = 0,
    rtt: int = RTT,
    sack: bool = True,
    timestamps: bool = False,
    features: int = NO_OFFLOAD,
) -> Peer:
    """``count`` segments in flight, all of cwnd, sent just now; ``queued`` more wait."""
    c = connected(rtt, sack, timestamps, features)
    c.tp.snd_cwnd = count
    c.tp.snd_cwnd_stamp = c.now
    c.app_send(bytes((count + queued) * MSS))
    assert sum(len(s.data) for s in c.out) == count * MSS
    c.out.clear()
    c.mark()
    return c


def seq(number: int) -> int:
    """Relative sequence number of the first byte of segment ``number``."""
    return 1 + number * MSS


def ack(c: Peer, upto: int, *blocks: tuple[int, int], dup: tuple[int, int] | None = None) -> None:
    """All before segment ``upto`` is acknowledged, [start, end) of each of ``blocks`` is sacked, ``dup`` came twice."""
    said = [(seq(start), seq(end)) for start, end in (([dup] if dup else []) + list(blocks))]
    c.inject("A", ack=seq(upto), options=c.sack_option(*said) if said else None)
    check(c.tp)


def numbers(c: Peer) -> list[int]:
    """Which segments the stack has sent since they were last asked for."""
    sent: list[int] = []
    for s in c.out:
        start, left = divmod(relative(c, s) - 1, MSS)
        assert left == 0
        sent.extend(range(start, start + (len(s.data) + MSS - 1) // MSS))
    c.out.clear()
    return sent


def relative(c: Peer, s: Segment) -> int:
    return (s.seq - c.irs) & 0xFFFF_FFFF
