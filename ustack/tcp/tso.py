"""How much goes out at once, and what is worth waiting for: Nagle, super-segments (Linux tcp_tso_should_defer ...)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mypy_extensions import i64

from ustack.tcp.control import TCP_CA_RECOVERY, TCP_NAGLE_CORK, TCP_NAGLE_PUSH, TcpControl
from ustack.tcp.mss import sk_gso_max_size
from ustack.tcp.seq import after, distance
from ustack.timer import NSEC_PER_MSEC, NSEC_PER_USEC
from ustack.wire.tcp import TCPHDR_FIN

if TYPE_CHECKING:
    from ustack.tcp.segment import TcpSkb

# why nothing of an skb goes now (answers of tcp_tso_should_defer, and of sendable_length with the sign changed)
SEND_NOW: Final[i64] = 0
HELD: Final[i64] = 1  #: by the application, or Nagle
HELD_BY_CWND: Final[i64] = 2
HELD_BY_RWND: Final[i64] = 3

#: Not worth a pause longer than this after the last burst, nor for an ACK that is further away (ns).
TSO_DEFER_MAX: Final[i64] = NSEC_PER_MSEC
#: Without tcp_tso_win_divisor, more segments than an ACK is likely to let go are sent (tcp_max_tso_deferred_mss).
TSO_DEFERRED_MSS: Final[i64] = 3
#: A min_rtt that is so many times tcp_tso_rtt_log's unit long makes bursts no larger.
_GSO_BITS: Final[i64] = 32


def tcp_tso_segs(tp: TcpControl, mss: i64) -> i64:
    """Segments in one burst: what takes about a millisecond at the pacing rate (tcp_tso_autosize).

    Near peers get more: the shorter the round trip, the less a burst hurts. On any fast path it is all that fits.
    """
    least = tp.congestion.min_tso_segs(tp) or tp.net.sysctl.tcp_min_tso_segs
    gso_max = sk_gso_max_size(tp)
    size = tp.pacing_rate >> tp.pacing_shift
    if size < gso_max:
        doublings = tp.min_rtt // NSEC_PER_USEC >> min(tp.net.sysctl.tcp_tso_rtt_log, 63)
        if doublings < _GSO_BITS:
            size += gso_max >> doublings
    return min(max(min(size, gso_max) // mss, least), max(gso_max // mss, 1))


def tcp_snd_room(tp: TcpControl, skb: TcpSkb) -> i64:
    """Bytes from the beginning of ``skb`` that the peer's window takes."""
    room = distance(skb.seq, tp.tcp_wnd_end())
    return 0 if room > 0x7FFF_FFFF else room


def tcp_snd_wnd_test(tp: TcpControl, skb: TcpSkb, mss: i64) -> bool:
    """True if the window takes at least the first segment of ``skb``, whole."""
    need = mss if skb.len > mss else distance(skb.seq, skb.end_seq)
    return need <= tcp_snd_room(tp, skb)


def tcp_nagle_test(tp: TcpControl, skb: TcpSkb, mss: i64, nonagle: i64) -> bool:
    """True if Nagle lets ``skb``, at most one segment, go (RFC 9293 SHLD-7)."""
    if nonagle & TCP_NAGLE_PUSH or tp.urg_mode or skb.flags & TCPHDR_FIN:
        return True
    return not tcp_nagle_check(tp, skb.len < mss, nonagle)


def tcp_nagle_check(tp: TcpControl, partial: bool, nonagle: i64) -> bool:
    """True if a segment has to wait, being ``partial``: corked, or while another small one is in flight (Minshall)."""
    if not partial:
        return False
    if nonagle & TCP_NAGLE_CORK:
        return True
    return nonagle == 0 and tp.packets_out != 0 and tcp_minshall_check(tp)


def tcp_minshall_check(tp: TcpControl) -> bool:
    """True if the last small segment sent has not been acknowledged."""
    return after(tp.snd_sml, tp.snd_una) and not after(tp.snd_sml, tp.snd_nxt)


def tcp_mss_split_point(tp: TcpControl, skb: TcpSkb, mss: i64, max_segs: i64, nonagle: i64, last: bool) -> i64:
    """How many bytes of an skb of several segments to send: whole ones, and a small one behind if it may go."""
    window = tcp_snd_room(tp, skb)
    max_len = mss * max_segs
    if max_len <= window and not last:
        return min(max_len, skb.len)
    needed = min(skb.len, window)
    if max_len <= needed:
        return max_len
    partial = needed % mss
    if tcp_nagle_check(tp, partial != 0, nonagle):
        return needed - partial
    return needed


def tcp_tso_should_defer(tp: TcpControl, skb: TcpSkb, max_segs: i64, last: bool) -> i64:
    """SEND_NOW, or what an skb of several segments waits for: an ACK that is near and lets a larger burst go."""
    now = tp.net.now
    if tp.ca_state >= TCP_CA_RECOVERY or now - tp.tcp_wstamp > TSO_DEFER_MAX:
        return SEND_NOW
    send_win = tcp_snd_room(tp, skb)
    cong_win = (tp.snd_cwnd - tp.tcp_packets_in_flight()) * tp.mss_cache
    limit = min(send_win, cong_win)
    if limit >= max_segs * tp.mss_cache or (not last and limit >= skb.len):
        return SEND_NOW  # a full burst, or it will not get more data
    divisor = tp.net.sysctl.tcp_tso_win_divisor
    if divisor:
        if limit >= min(tp.snd_wnd, tp.snd_cwnd * tp.mss_cache) // divisor:
            return SEND_NOW
    elif limit > TSO_DEFERRED_MSS * tp.mss_cache:
        return SEND_NOW
    if ack_is_far(tp, now):
        return SEND_NOW
    if cong_win < send_win:
        if cong_win <= skb.len:
            return HELD_BY_CWND
    elif send_win <= skb.len:
        return HELD_BY_RWND
    return SEND_NOW if skb.flags & TCPHDR_FIN or skb.eor else HELD


def ack_is_far(tp: TcpControl, now: i64) -> bool:
    """True if no ACK is due within half a round trip, or a millisecond if that is less."""
    head = tp.rtx_head()
    if head is None:
        return True
    return head.sent_at + tp.srtt - now > min(tp.srtt >> 1, TSO_DEFER_MAX)


def held_by(tp: TcpControl, held: i64) -> str:
    """What keeps the first of the write queue: the answer of tcp_write_xmit's tests, or of those that left it early."""
    if held == HELD_BY_RWND:
        return "held by the receive window"
    if held == HELD_BY_CWND:
        return "held by cwnd"
    if held == HELD:
        skb = tp.send_head()
        if skb is not None and skb.pcount > 1:
            return "held: a larger burst is near (TSO)"
        return "held by TCP_CORK" if tp.nonagle & TCP_NAGLE_CORK else "held by Nagle"
    if tp.tcp_packets_in_flight() >= tp.snd_cwnd:
        return "held by cwnd"
    if tp.tsq_throttled:
        return "held: the device's queue is busy (TSQ)"
    return "held by pacing" if tp.tcp_wstamp > tp.net.now else "not sent"
