"""The window we advertise (RFC 9293 section 3.8.6; Linux tcp_select_window, tcp_select_initial_window)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mypy_extensions import i64

from ustack.routing.uapi import RTAX_INITRWND, RTAX_WINDOW
from ustack.sysctl_names import SOCK_MIN_RCVBUF
from ustack.tcp.control import (
    ICSK_ACK_NOMEM,
    TCP_INIT_CWND,
    TCP_MIN_MSS,
    TCP_MSS_DEFAULT,
    TIMESTAMP_LEN,
    TcpControl,
)
from ustack.tcp.memory import tcp_sndbuf_expand, tcp_under_memory_pressure
from ustack.tcp.seq import before
from ustack.wire.tcp import TCP_MAX_WSCALE

if TYPE_CHECKING:
    from ustack.dst import Dst

#: Most that the field says without a scale (bytes).
U16_MAX: Final[i64] = 65_535
#: ... to a peer that takes it for a signed number (tcp_workaround_signed_windows).
MAX_TCP_WINDOW: Final[i64] = 32_767
#: No window clamp is below this (bytes).
WINDOW_CLAMP_MIN: Final[i64] = SOCK_MIN_RCVBUF // 2


class InitialWindow:
    """What a SYN or SYN-ACK promises: ``wnd`` and ``clamp`` in bytes, ``wscale`` 0 to 14.

    ``limit``: what the link holds, 0 for no limit.
    """

    def __init__(self, wnd: i64, clamp: i64, wscale: i64, advmss: i64, limit: i64) -> None:
        self.wnd: i64 = wnd
        self.clamp: i64 = clamp
        self.wscale: i64 = wscale
        self.advmss: i64 = advmss
        self.limit: i64 = limit

    def apply(self, tp: TcpControl) -> None:
        """Make it ``tp``'s."""
        tp.advmss = self.advmss
        tp.window_clamp = self.clamp
        tp.window_limit = self.limit
        tp.rcv_wnd = self.wnd
        tp.rcv_wscale = self.wscale
        tp.rcv_ssthresh = self.wnd


def tcp_select_initial_window(
    tp: TcpControl, advmss: i64, link_window: i64, scaling: bool, dst: Dst, tstamp_ok: bool = False
) -> InitialWindow:
    """Choose the first window, its clamp and its scale for a connection with ``tp``'s buffer and limits.

    ``dst``: the way to the peer, whose RTAX_WINDOW clamps unless the socket does, and whose RTAX_INITRWND limits the
    first window, in segments. ``tstamp_ok``: the peer's segments carry timestamps.

    ``link_window``: what the link's own queue holds (bytes), 0 for no limit. A TAP drops when its queue is full and
    never pushes back, so no window is larger than what the queue can take.
    """
    sysctl = tp.net.sysctl
    full_space = tp.tcp_full_space()
    clamp = tp.window_clamp or dst.metric(RTAX_WINDOW)
    if tp.rcvbuf_locked and (clamp == 0 or clamp > full_space):
        clamp = full_space
    if clamp == 0:
        clamp = U16_MAX << TCP_MAX_WSCALE
    limit = max(link_window, 4 * advmss) if link_window else 0
    if limit:
        clamp = min(clamp, limit)
    space = min(clamp, full_space)
    wscale = window_scale(min(max(max(space, sysctl.tcp_rmem_max), sysctl.rmem_max), clamp)) if scaling else 0
    clamp = min(clamp, U16_MAX << wscale)
    wnd = whole_segments(space, advmss - (TIMESTAMP_LEN if tstamp_ok else 0))
    if sysctl.tcp_workaround_signed_windows:
        wnd = min(wnd, MAX_TCP_WINDOW)
    initrwnd = dst.metric(RTAX_INITRWND)
    if initrwnd:
        wnd = min(wnd, initrwnd * advmss)
    return InitialWindow(min(wnd, U16_MAX << wscale), clamp, wscale, advmss, limit)


def whole_segments(space: i64, mss: i64) -> i64:
    """``space`` without what is no whole segment, unless there is not even one."""
    return space // mss * mss if space > mss else space


def window_scale(space: i64) -> i64:
    """Smallest shift that lets 16 bits say ``space``, at most 14 (RFC 7323 section 2.3)."""
    shift: i64 = 0
    while space >> shift > U16_MAX and shift < TCP_MAX_WSCALE:
        shift += 1
    return shift


def tcp_settle_window_scale(tp: TcpControl) -> None:
    """Our call is answered: without a scale of the peer's there is none of ours (RFC 7323 section 2.2)."""
    if not tp.wscale_ok:
        tp.rcv_wscale = 0
        tp.window_clamp = min(tp.window_clamp, 65_535)


def tcp_reserve_timestamps(tp: TcpControl) -> None:
    """The handshake is done: what timestamps take of each segment is not text (the MSS option counted it in)."""
    if tp.tstamp_ok:
        tp.advmss -= TIMESTAMP_LEN


def tcp_init_receive(tp: TcpControl) -> None:
    """The handshake is done: the buffers and what is measured of the peer begin (tcp_init_buffer_space)."""
    if not tp.sndbuf_locked:
        tcp_sndbuf_expand(tp)
    most = U16_MAX << tp.rcv_wscale
    tp.rcv_wnd = min(tp.rcv_wnd, most)
    tp.window_limit = min(tp.window_limit, most) if tp.window_limit else most
    tcp_initialize_rcv_mss(tp)
    tp.rcvq_time = tp.net.now
    tp.rcvq_seq = tp.copied_seq
    full = tp.tcp_full_space()
    clamp = min(tp.window_clamp, full)
    if clamp > 2 * tp.advmss and clamp + tp.advmss > full:
        clamp = max(2 * tp.advmss, full - tp.advmss)  # a segment is on its way when the window closes
    tp.window_clamp = clamp
    tp.rcv_ssthresh = min(tp.rcv_ssthresh, clamp)
    tp.rcvq_space = min(min(tp.rcv_ssthresh, tp.rcv_wnd), TCP_INIT_CWND * tp.advmss)


def tcp_initialize_rcv_mss(tp: TcpControl) -> None:
    """Guess the size of the peer's segments before there are any: small, so that the first ones are acknowledged."""
    tp.rcv_mss = max(min(min(tp.advmss, tp.mss_cache), min(tp.rcv_wnd >> 1, TCP_MSS_DEFAULT)), TCP_MIN_MSS)


def tcp_select_window(tp: TcpControl) -> i64:
    """The window field of the segment being sent; remembers what was promised."""
    mib = tp.net.mib.tcpext
    was = tp.rcv_wnd
    shift = tp.rcv_wscale
    if tp.ack_pending & ICSK_ACK_NOMEM:
        # RFC 9293 3.8.6 lets a receiver shrink its window; a segment inside it had to be refused
        window: i64 = 0
    else:
        promised = tp.tcp_receive_window()
        window = usable_window(tp)
        if window < promised and not may_shrink(tp):
            # RFC 9293 3.8.6 (SHLD-14): "A TCP receiver SHOULD NOT shrink the window"
            if window == 0:
                mib.TCPWantZeroWindowAdv += 1
            window = round_up(promised, i64(1) << shift)
    tcp_note_retraction(tp, (tp.rcv_nxt + window) & 0xFFFF_FFFF)
    tp.rcv_wnd = window
    tp.rcv_wup = tp.rcv_nxt
    field = min(window, U16_MAX << shift) >> shift
    if shift == 0 and field > MAX_TCP_WINDOW and tp.net.sysctl.tcp_workaround_signed_windows:
        field = MAX_TCP_WINDOW
    if field == 0:
        if was:
            mib.TCPToZeroWindowAdv += 1
    elif was == 0:
        mib.TCPFromZeroWindowAdv += 1
    return field


def tcp_note_retraction(tp: TcpControl, edge: i64) -> None:
    """The window will end at ``edge``: remember where a larger one did, until this one reaches as far.

    RFC 7323 section 2.4: "The receiver MUST honor, as in window, any segment that would have been in window for any
    <ACK> sent by the receiver." Two ends that have both taken one back could not hear each other's ACKs otherwise.
    """
    if tp.rcv_retracted:
        tp.rcv_retracted = before(edge, tp.rcv_mwnd_seq)
        return
    promised: i64 = (tp.rcv_wup + tp.rcv_wnd) & 0xFFFF_FFFF
    if before(edge, promised):
        tp.rcv_retracted = True
        tp.rcv_mwnd_seq = promised


def may_shrink(tp: TcpControl) -> bool:
    """tcp_shrink_window: memory goes before promises, where the scale makes windows large."""
    return tp.rcv_wscale != 0 and tp.net.sysctl.tcp_shrink_window != 0


def usable_window(tp: TcpControl) -> i64:
    """What we could advertise now without a silly window (RFC 9293 MUST-39; __tcp_select_window)."""
    allowed = tp.tcp_full_space()
    full_space = min(tp.window_clamp, allowed)
    mss = min(tp.rcv_mss, full_space)
    if mss <= 0:
        return 0
    free_space = tp.tcp_space()
    step = i64(1) << tp.rcv_wscale
    shrink = may_shrink(tp)
    if shrink:
        free_space &= ~(step - 1)
    if free_space < full_space >> 1:
        tp.ack_quick = 0
        if tcp_under_memory_pressure(tp):
            tcp_adjust_rcv_ssthresh(tp)
        free_space &= ~(step - 1)
        if free_space < allowed >> 4 or free_space < mss or (shrink and free_space < step):
            return 0
    if tp.rcv_wscale:
        return round_up(min(free_space, tp.rcv_ssthresh), step)
    return unscaled_window(tp, min(free_space, tp.rcv_ssthresh), mss, full_space)


def unscaled_window(tp: TcpControl, free_space: i64, mss: i64, full_space: i64) -> i64:
    """A window that moves by whole segments: it stays as it is while less than one has become free."""
    window = tp.rcv_wnd
    if window <= free_space - mss or window > free_space:
        return free_space // mss * mss
    if mss == full_space and free_space > window + (full_space >> 1):
        return free_space
    return window


def round_up(value: i64, step: i64) -> i64:
    return (value + step - 1) & ~(step - 1)


def tcp_adjust_rcv_ssthresh(tp: TcpControl) -> None:
    """Under memory pressure: dare to advertise four segments."""
    tp.rcv_ssthresh = min(tp.rcv_ssthresh, 4 * tp.advmss)


def tcp_grow_window(tp: TcpControl, length: i64, truesize: i64) -> None:
    """Text came: dare to advertise more of the buffer, up to the clamp, if it is worth what it costs to keep.

    Many small segments cost more than the window they take: as much is believed of them as the buffer could grow.
    """
    room = min(tp.window_clamp, tp.tcp_space()) - tp.rcv_ssthresh
    if room <= 0:
        return
    if tcp_under_memory_pressure(tp):
        tcp_adjust_rcv_ssthresh(tp)
        return
    grow = 2 * tp.advmss
    if truesize * tp.scaling_ratio >> 8 > length:
        grow = window_growth(tp, length, truesize)
    if grow:
        tp.rcv_ssthresh += min(room, max(grow, 2 * length))
        tp.ack_quick |= 1


def window_growth(tp: TcpControl, length: i64, truesize: i64) -> i64:
    """Step for a costly segment, 0 for none: the costlier, the nearer to the beginning (__tcp_grow_window)."""
    cost = truesize * tp.scaling_ratio >> 9
    window = tp.net.sysctl.tcp_rmem_max * tp.scaling_ratio >> 9
    while tp.rcv_ssthresh <= window and window:
        if cost <= length:
            return 2 * tp.rcv_mss
        cost >>= 1
        window >>= 1
    return 0


def limit_clamp(tp: TcpControl, clamp: i64) -> i64:
    """A window clamp that the field can say, the link can take, and the user has not forbidden (TCP_WINDOW_CLAMP)."""
    if tp.window_limit:
        clamp = min(clamp, tp.window_limit)
    return min(clamp, tp.user_clamp) if tp.user_clamp else clamp


def tcp_follow_clamp(tp: TcpControl, value: i64) -> None:
    """The buffer's size, or what it is worth, has changed: so does the window clamp, as far as it may."""
    tcp_move_clamp(tp, max(limit_clamp(tp, value), WINDOW_CLAMP_MIN))


def tcp_move_clamp(tp: TcpControl, clamp: i64) -> None:
    """What has been offered stays offered (tcp_set_window_clamp)."""
    old = tp.window_clamp
    tp.window_clamp = clamp
    if clamp < old:
        tp.rcv_ssthresh = min(tp.rcv_ssthresh, clamp)
    elif clamp > old:
        tp.rcv_ssthresh = max(min(tp.rcv_wnd, clamp), tp.rcv_ssthresh)
