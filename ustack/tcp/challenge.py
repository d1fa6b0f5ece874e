"""Challenge ACKs and their limits (RFC 5961; Linux tcp_send_challenge_ack, tcp_oow_rate_limited)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mypy_extensions import i64

from ustack.sock import TCP_CLOSE_WAIT, TCP_CLOSING, TCP_LAST_ACK
from ustack.tcp.seq import after
from ustack.tcp.states import in_set
from ustack.tcp.transmit import tcp_send_ack
from ustack.timer import NSEC_PER_MSEC, NSEC_PER_SEC
from ustack.trace.points import Point

if TYPE_CHECKING:
    from ustack.tcp.control import TcpControl
    from ustack.trace.journey import Facts
    from ustack.wire.tcp import TcpHeader

INT_MAX: Final[i64] = 0x7FFF_FFFF
#: States in which the peer's FIN has been seen.
FIN_SEEN: Final[i64] = (1 << TCP_CLOSE_WAIT) | (1 << TCP_LAST_ACK) | (1 << TCP_CLOSING)


def tcp_send_challenge_ack(tp: TcpControl) -> None:
    """Answer a blind segment with the truth: a peer that really sent it will know what to do.

    RFC 5961 section 7: "an ACK throttling mechanism". One ACK per connection and tcp_invalid_ratelimit, and a global
    allowance whose size is drawn anew every second, so that it tells nothing about other connections (CVE-2016-5696).
    """
    limited = tcp_oow_rate_limited(tp)
    if tp.net.tracer is not None:
        facts: Facts = {"rcv_nxt": int(tp.rcv_nxt), "snd_nxt": int(tp.snd_nxt)}
        tp.net.tracer.note(Point.TCP_SEND_CHALLENGE_ACK, "one was sent just now" if limited else "", facts)
    if limited:
        tp.net.mib.tcpext.TCPACKSkippedChallenge += 1
        return
    tables = tp.tables
    limit = tp.net.sysctl.tcp_challenge_ack_limit
    if limit == INT_MAX:  # Linux's default: no global allowance
        tp.net.mib.tcpext.TCPChallengeACK += 1
        return tcp_send_ack(tp)
    second = tp.net.now // NSEC_PER_SEC
    if second != tables.challenge_second:
        half = (limit + 1) >> 1
        tables.challenge_second = second
        # get_random_u32_inclusive(half, half + limit - 1): between two ends the wrong way round lies every number
        tables.challenge_left = half + (tp.net.entropy.below(limit) if limit > 0 else tp.net.entropy.u32())
    if tables.challenge_left > 0:
        tables.challenge_left -= 1
        tp.net.mib.tcpext.TCPChallengeACK += 1
        tcp_send_ack(tp)


def tcp_reset_acceptable(tp: TcpControl, th: TcpHeader) -> bool:
    """Whether a RST, which lies in the window, resets (RFC 5961 section 3.2; tcp_validate_incoming).

    Exactly at RCV.NXT; one before it once the peer's FIN has come, for the peer may not count that; or at the end of
    the highest block that we have selectively acknowledged: there the peer is, if what we miss was its last.
    """
    if th.seq == tp.rcv_nxt:
        return True
    if th.seq == (tp.rcv_nxt - 1) & 0xFFFF_FFFF:
        return in_set(tp.state, FIN_SEEN)
    blocks = tp.selective_acks
    if not blocks:
        return False
    highest = blocks[0][1]
    for _, end in blocks:
        if after(end, highest):
            highest = end
    return th.seq == highest


def tcp_oow_rate_limited(tp: TcpControl) -> bool:
    """True if this connection answered an out-of-window segment less than tcp_invalid_ratelimit ago."""
    elapsed: i64 = tp.net.now - tp.last_oow_ack_time
    if tp.last_oow_ack_time and 0 <= elapsed < tp.net.sysctl.tcp_invalid_ratelimit * NSEC_PER_MSEC:
        return True
    tp.last_oow_ack_time = max(tp.net.now, 1)
    return False
