"""How long a segment may be: path MTU, the peer's MSS and window, options (Linux tcp_sync_mss, tcp_current_mss)."""

from __future__ import annotations

from typing import Final

from mypy_extensions import i64

from ustack.device.net_device import GSO_MAX_SIZE
from ustack.tcp.control import TCP_MSS_DEFAULT, TcpControl
from ustack.tcp.transmit import sack_option_len

#: IPv4's header without options (bytes).
IP_HEADER: Final[i64] = 20
#: IPv4's header and TCP's, without options (bytes).
HEADERS: Final[i64] = IP_HEADER + 20
#: No window makes segments smaller than this, TCP's header included (bytes).
MIN_HALF_WINDOW: Final[i64] = 68
#: Longest run of headers before the payload of a super-segment: IPv4 20 and TCP 60 (bytes).
HEADERS_MAX: Final[i64] = 80


def tcp_mtu_to_mss(tp: TcpControl, pmtu: i64) -> i64:
    """Bytes of text in a datagram of ``pmtu`` bytes, our usual options on it, never more than the peer takes."""
    mss = min(pmtu - HEADERS, tp.mss_clamp)
    if tp.inet_opt is not None:
        mss -= len(tp.inet_opt.data)
    return max(mss, tp.net.sysctl.tcp_min_snd_mss) - (tp.tcp_header_len - 20)


def tcp_mss_to_mtu(tp: TcpControl, mss: i64) -> i64:
    """The datagram that a segment with ``mss`` bytes of text needs."""
    if tp.inet_opt is not None:
        mss += len(tp.inet_opt.data)
    return mss + IP_HEADER + tp.tcp_header_len


def tcp_bound_to_half_wnd(tp: TcpControl, length: i64) -> i64:
    """At most half of the largest window seen, or all of a tiny one.

    RFC 9293 3.8.6.2.1 (MUST-38): the sender avoids the silly window; a window that is never larger than this must not
    wait for one that is.
    """
    cutoff = tp.max_window >> 1 if tp.max_window > TCP_MSS_DEFAULT else tp.max_window
    if cutoff and length > cutoff:
        return max(cutoff, MIN_HALF_WINDOW - tp.tcp_header_len)
    return length


def tcp_mtup_init(tp: TcpControl) -> None:
    """Path MTU probing starts anew: what the peer takes is what to find, tcp_base_mss what is known to get through."""
    sysctl = tp.net.sysctl
    tp.mtup_enabled = sysctl.tcp_mtu_probing > 1
    tp.mtup_search_high = tp.mss_clamp + HEADERS
    tp.mtup_search_low = tcp_mss_to_mtu(tp, sysctl.tcp_base_mss)
    tp.mtup_probe_size = 0
    if tp.mtup_enabled:
        tp.mtup_probe_timestamp = tp.net.now


def tcp_sync_mss(tp: TcpControl, pmtu: i64) -> i64:
    """Recompute the segment size: the path MTU, the peer's MSS, the options or the largest window have changed."""
    if tp.mtup_search_high > pmtu:
        tp.mtup_search_high = pmtu
    mss = tcp_bound_to_half_wnd(tp, tcp_mtu_to_mss(tp, pmtu))
    tp.pmtu = pmtu
    if tp.mtup_enabled:
        mss = min(mss, tcp_mtu_to_mss(tp, tp.mtup_search_low))
    tp.mss_cache = mss
    return mss


def tcp_current_mss(tp: TcpControl) -> i64:
    """The size of the next segment: what it reports out of order (SACK) is not in mss_cache."""
    dst = tp.dst_cache
    if dst is not None and dst.mtu != tp.pmtu:
        tcp_sync_mss(tp, dst.mtu)
    if tp.selective_acks or tp.duplicate_sack is not None:
        return tp.mss_cache - sack_option_len(tp)
    return tp.mss_cache


def sk_gso_max_size(tp: TcpControl) -> i64:
    """Most bytes of text that the way out takes in one super-segment; of a way to be found, the most that any takes."""
    dst = tp.dst_cache
    return (GSO_MAX_SIZE if dst is None else dst.dev.gso_max_size) - 1 - HEADERS_MAX


def tcp_size_goal(tp: TcpControl) -> i64:
    """Bytes one skb should carry: as many full segments as the device cuts, at most half the largest window."""
    mss = tcp_current_mss(tp)
    return max(tcp_bound_to_half_wnd(tp, sk_gso_max_size(tp)) // mss * mss, mss)
