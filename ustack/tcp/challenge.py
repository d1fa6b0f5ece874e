"""Challenge ACKs and their limits (RFC 5961; Linux tcp_send_challenge_ack, tcp_oow_rate_limited)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mypy_extensions import i64

from ustack.tcp.transmit import tcp_send_ack
from ustack.timer import NSEC_PER_MSEC, NSEC_PER_SEC

if TYPE_CHECKING:
    from ustack.tcp.control import TcpControl


def tcp_send_challenge_ack(tp: TcpControl) -> None:
    """Answer a blind segment with the truth: a peer that really sent it will know what to do.

    RFC 5961 section 7: "an ACK throttling mechanism". One ACK per connection and tcp_invalid_ratelimit, and a global
    allowance whose size is drawn anew every second, so that it tells nothing about other connections (CVE-2016-5696).
    """
    if tcp_oow_rate_limited(tp):
        tp.net.mib.tcpext.TCPACKSkippedChallenge += 1
        return
    tables = tp.tables
    second = tp.net.now // NSEC_PER_SEC
    if second != tables.challenge_second:
        half = (tp.net.sysctl.tcp_challenge_ack_limit + 1) >> 1
        tables.challenge_second = second
        tables.challenge_left = half + tp.net.entropy.below(tp.net.sysctl.tcp_challenge_ack_limit or 1)
    if tables.challenge_left > 0:
        tables.challenge_left -= 1
        tp.net.mib.tcpext.TCPChallengeACK += 1
        tcp_send_ack(tp)


def tcp_oow_rate_limited(tp: TcpControl) -> bool:
    """True if this connection answered an out-of-window segment less than tcp_invalid_ratelimit ago."""
    elapsed: i64 = tp.net.now - tp.last_oow_ack_time
    if tp.last_oow_ack_time and 0 <= elapsed < tp.net.sysctl.tcp_invalid_ratelimit * NSEC_PER_MSEC:
        return True
    tp.last_oow_ack_time = max(tp.net.now, 1)
    return False
