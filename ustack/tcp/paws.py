"""Protection against wrapped sequence numbers on a connection (RFC 7323 section 5; Linux tcp_paws_discard,
tcp_disordered_ack_check)."""

from __future__ import annotations

from typing import Final

from mypy_extensions import i64

from ustack.drop import Reason
from ustack.tcp.ack import tcp_may_update_window
from ustack.tcp.control import TCP_PAWS_24DAYS, TCP_PAWS_WINDOW, TcpControl
from ustack.tcp.seq import before, distance, signed_distance
from ustack.timer import NSEC_PER_SEC
from ustack.wire.tcp import TCPHDR_ACK, TCPHDR_FIN, TCPHDR_SYN, TcpHeader

#: The fastest timestamp clock there is (Hz): RFC 7323 says at most 1000, but old Linux had 1200.
TSVAL_HZ: Final[i64] = 1200


def tcp_paws_discard(tp: TcpControl, th: TcpHeader) -> Reason | None:
    """RFC 7323 section 5.3 R1: an older timestamp means an older segment, unless ours is too old to be believed.

    Why it is refused, None if not. As in Linux one tick is forgiven, and a TS.Recent of 0 means nothing: there are
    hosts whose SYN says so.
    """
    if not tp.saw_tstamp or tcp_paws_check(tp, TCP_PAWS_WINDOW):
        return None
    return tcp_disordered_ack_check(tp, th)


def tcp_paws_check(tp: TcpControl, forgiven: i64) -> bool:
    """False for a timestamp that is more than ``forgiven`` ticks older than a TS.Recent that means something."""
    if signed_distance(tp.rcv_tsval, tp.ts_recent) <= forgiven:
        return True
    return tp.ts_recent == 0 or tp.net.now - tp.ts_recent_stamp >= TCP_PAWS_24DAYS


def tcp_disordered_ack_check(tp: TcpControl, th: TcpHeader) -> Reason | None:
    """Pure ACKs are often overtaken. One that says nothing new is harmless, if it is not older than an RTO; one of
    before what has been received since is old, and known to be: it needs no answer."""
    if th.end != th.payload or th.flags & (TCPHDR_SYN | TCPHDR_FIN) or not th.flags & TCPHDR_ACK:
        return Reason.TCP_RFC7323_PAWS
    if th.seq != tp.rcv_nxt:
        return Reason.TCP_RFC7323_PAWS_ACK if before(th.seq, tp.rcv_nxt) else Reason.TCP_RFC7323_PAWS
    if th.ack_seq != tp.snd_una or tcp_may_update_window(tp, th, th.window << tp.snd_wscale):
        return Reason.TCP_RFC7323_PAWS
    replay = tp.rto * TSVAL_HZ // NSEC_PER_SEC
    return Reason.TCP_RFC7323_PAWS if distance(tp.rcv_tsval, tp.ts_recent) > replay else None
