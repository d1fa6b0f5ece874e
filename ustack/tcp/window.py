"""The window we advertise (RFC 9293 section 3.8.6; Linux tcp_select_window, tcp_grow_window, tcp_rcv_space_adjust)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mypy_extensions import i64

from ustack.routing.uapi import RTAX_INITRWND, RTAX_WINDOW
from ustack.tcp.control import TCP_MAX_WSCALE, TcpControl
from ustack.timer import NSEC_PER_MSEC

if TYPE_CHECKING:
    from ustack.dst import Dst

#: Shortest time over which the reader's speed is measured: a tick of the timestamp option.
RCV_SPACE_INTERVAL: Final[i64] = NSEC_PER_MSEC


class InitialWindow:
    """What a SYN or SYN-ACK promises: ``wnd`` and ``clamp`` in bytes, ``wscale`` 0 to 14."""

    def __init__(self, wnd: i64, clamp: i64, wscale: i64, advmss: i64) -> None:
        self.wnd: i64 = wnd
        self.clamp: i64 = clamp
        self.wscale: i64 = wscale
        self.advmss: i64 = advmss

    def apply(self, tp: TcpControl) -> None:
        """Make it ``tp``'s."""
        tp.advmss = self.advmss
        tp.window_clamp = self.clamp
        tp.rcv_wnd = self.wnd
        tp.rcv_wscale = self.wscale
        tp.rcv_ssthresh = self.wnd


def tcp_select_initial_window(tp: TcpControl, advmss: i64, link_window: i64, scaling: bool, dst: Dst) -> InitialWindow:
    """Choose the first window, its clamp and its scale for a connection with ``tp``'s buffer and limits.

    ``dst``: the way to the peer, whose RTAX_WINDOW clamps unless the socket does, and whose RTAX_INITRWND limits the
    first window, in segments.

    ``link_window``: what the link's own queue holds (bytes), 0 for no limit. A TAP drops when its queue is full and
    never pushes back, so no window is larger than what the queue can take.
    """
    limit = max(tp.net.sysctl.tcp_rmem_max, tp.rcvbuf) >> 1
    clamp = tp.window_clamp or dst.metric(RTAX_WINDOW)
    clamp = min(clamp, limit) if clamp else limit
    if link_window:
        clamp = min(clamp, max(link_window, 4 * advmss))
    if not scaling:
        clamp = min(clamp, 65_535)
    window = min(min(tp.tcp_full_space(), clamp), 65_535)
    if window > advmss:
        window = window // advmss * advmss
    initrwnd = dst.metric(RTAX_INITRWND)
    if initrwnd:
        window = min(window, initrwnd * advmss)
    return InitialWindow(window, clamp, window_scale(clamp) if scaling else 0, advmss)


def window_scale(space: i64) -> i64:
    """Smallest shift that lets 16 bits say ``space``, at most 14 (RFC 7323 section 2.3)."""
    shift: i64 = 0
    while space >> shift > 65_535 and shift < TCP_MAX_WSCALE:
        shift += 1
    return shift


def tcp_select_window(tp: TcpControl) -> i64:
    """The window field of the segment being sent; remembers what was promised."""
    mib = tp.net.mib.tcpext
    promised = tp.tcp_receive_window()
    window = usable_window(tp)
    if window < promised:
        # RFC 9293 3.8.6 (SHLD-14): "A TCP receiver SHOULD NOT shrink the window"
        if window == 0:
            mib.TCPWantZeroWindowAdv += 1
        window = round_up(promised, i64(1) << tp.rcv_wscale)
    was = tp.rcv_wnd
    tp.rcv_wnd = window
    tp.rcv_wup = tp.rcv_nxt
    field = min(window >> tp.rcv_wscale, 65_535)
    if field == 0:
        if was:
            mib.TCPToZeroWindowAdv += 1
    elif was == 0:
        mib.TCPFromZeroWindowAdv += 1
    return field


def usable_window(tp: TcpControl) -> i64:
    """What we could advertise now without a silly window (RFC 9293 MUST-39; __tcp_select_window)."""
    full_space = min(tp.window_clamp, tp.tcp_full_space())
    mss = min(tp.rcv_mss, full_space)
    free_space = tp.tcp_space()
    if free_space < full_space >> 1 and (free_space < full_space >> 4 or free_space < mss):
        return 0
    free_space = min(free_space, tp.rcv_ssthresh)
    if tp.rcv_wscale:
        return round_up(free_space, i64(1) << tp.rcv_wscale)
    window = tp.rcv_wnd
    if window <= free_space - mss or window > free_space:
        return free_space // mss * mss
    if mss == full_space and free_space > window + (full_space >> 1):
        return free_space
    return window


def round_up(value: i64, step: i64) -> i64:
    return (value + step - 1) & ~(step - 1)


def tcp_grow_window(tp: TcpControl, length: i64) -> None:
    """In-order data came: dare to advertise more of the buffer, up to the clamp."""
    room = min(tp.window_clamp, tp.tcp_space()) - tp.rcv_ssthresh
    if room > 0:
        tp.rcv_ssthresh += min(room, max(2 * tp.advmss, 2 * length))


def tcp_rcv_space_adjust(tp: TcpControl) -> None:
    """The user has read: let the buffer follow twice what one round trip brings (dynamic right-sizing)."""
    interval = max(tp.srtt, RCV_SPACE_INTERVAL)
    elapsed = tp.net.now - tp.rcvq_time
    if elapsed < interval:
        return
    copied: i64 = (tp.copied_seq - tp.rcvq_seq) & 0xFFFF_FFFF
    copied = copied * interval // elapsed
    if copied > tp.rcvq_space:
        tp.rcvq_space = copied
        wanted = min((2 * copied + 16 * tp.advmss) << 1, tp.net.sysctl.tcp_rmem_max)
        if not tp.rcvbuf_locked and wanted > tp.rcvbuf:
            tp.rcvbuf = wanted
    tp.rcvq_seq = tp.copied_seq
    tp.rcvq_time = tp.net.now
