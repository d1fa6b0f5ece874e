"""The window a SYN or SYN-ACK promises, and where it goes from there (Linux tcp_select_initial_window)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.tcp.block import control_block
from tests.tcp.peer import Peer, established, listening
from ustack.tcp.options import IPPROTO_TCP, TCP_WINDOW_CLAMP
from ustack.tcp.window import (
    InitialWindow,
    tcp_follow_clamp,
    tcp_grow_window,
    tcp_select_initial_window,
    tcp_select_window,
    usable_window,
    window_scale,
)

if TYPE_CHECKING:
    from ustack.dst import Dst
    from ustack.tcp.control import TcpControl

MSS = 1460


def first(tp: TcpControl, scaling: bool = True, link: int = 0, tstamp_ok: bool = False) -> InitialWindow:
    return tcp_select_initial_window(tp, MSS, link, scaling, any_route(Peer()), tstamp_ok)


def any_route(c: Peer) -> Dst:
    with listening(peer=c):
        c.peer_syn()
        c.expect("SA")
        (req,) = c.stack.tcp.tables.requests.all()
        dst: Dst = req.dst
        c.inject("R", seq=1)
        return dst


@pytest.mark.parametrize(
    ("default", "limit", "wnd", "wscale"),
    [
        (131_072, 6_291_456, 64_240, 7),
        (540_000, 15_728_640, 268_640, 8),
        (131_072, 67_108_864, 64_240, 11),
        (4096, 4096, 1460, 7),  # net.core.rmem_max is 4 MiB
    ],
)
def test_half_of_the_buffer_in_whole_segments_and_a_scale_for_all_it_may_become(
    default: int, limit: int, wnd: int, wscale: int
) -> None:
    tp = control_block()
    tp.rcvbuf = default
    tp.net.sysctl.tcp_rmem_max = limit
    window = first(tp)
    assert (window.wnd, window.wscale, window.clamp) == (wnd, wscale, 65_535 << wscale)


def test_the_field_of_a_syn_ack_says_no_more_than_65535() -> None:
    """RFC 7323 2.2: "The window field in a segment where the SYN bit is set [...] MUST NOT be scaled"."""
    c = Peer(wscale=7, mss=1000)
    c.net.sysctl.tcp_rmem_default = 540_000
    c.sock = c.stack.socket(2, 1)
    c.app_listen()
    c.peer_syn()
    assert c.expect("SA").window == 65_535
    c.inject("A")
    c.app_accept()
    assert c.tp.rcv_wnd == 268_640
    c.check()


def test_segments_with_timestamps_are_shorter() -> None:
    assert first(control_block(), tstamp_ok=True).wnd == 45 * 1448


def test_without_scaling_it_is_what_sixteen_bits_say() -> None:
    tp = control_block()
    tp.rcvbuf = 1_000_000
    window = first(tp, scaling=False)
    assert (window.wnd, window.clamp, window.wscale) == (65_535, 65_535, 0)
    tp.net.sysctl.tcp_workaround_signed_windows = 1
    assert first(tp, scaling=False).wnd == 32_767


def test_a_link_that_drops_limits_it_for_good() -> None:
    tp = control_block()
    window = first(tp, link=20_000)
    assert window.clamp == 20_000 and window.wnd == 13 * MSS
    window.apply(tp)
    tcp_follow_clamp(tp, 1_000_000)
    assert tp.window_clamp == 20_000


def test_a_buffer_of_the_users_size_limits_the_scale_too() -> None:
    tp = control_block()
    tp.rcvbuf = 40_000
    tp.rcvbuf_locked = True
    window = first(tp)
    assert (window.clamp, window.wscale) == (20_000, 0)


@pytest.mark.parametrize(("space", "shift"), [(65_535, 0), (65_536, 1), (6_291_456, 7), (15_728_640, 8), (1 << 40, 14)])
def test_the_scale(space: int, shift: int) -> None:
    """RFC 7323 2.3: at most 14."""
    assert window_scale(space) == shift


def test_the_window_after_the_handshake_keeps_a_segment_back() -> None:
    """tcp_init_buffer_space: what is on its way when the window closes."""
    with established(wscale=7) as c:
        assert c.tp.window_clamp == 65_536 - MSS == c.tp.rcv_ssthresh
        c.inject("A", bytes(10))
        assert c.expect("A").window == 502  # not less than was promised: 64,230 in units of 128


def test_the_clamp_of_the_user_stays() -> None:
    """TCP_WINDOW_CLAMP: also when what segments cost is measured."""
    c = Peer(wscale=7)
    c.app_setsockopt(IPPROTO_TCP, TCP_WINDOW_CLAMP, 10_000)
    with established(peer=c):
        for _ in range(20):
            c.inject("A", bytes(MSS))
            c.app_recv()
            while c.out:
                assert c.out.pop(0).window << c.tp.rcv_wscale <= 10_000 + 127


# -- growing


def test_costly_segments_open_the_window_less() -> None:
    """__tcp_grow_window: small ones would fill the buffer before the window."""
    tp = control_block()
    tp.window_clamp = 1 << 20
    tp.rcvbuf = 1 << 22
    tp.rcv_ssthresh = 10_000
    tcp_grow_window(tp, MSS, 2 * MSS)
    assert tp.rcv_ssthresh == 10_000 + 2 * tp.advmss and tp.ack_quick == 1
    tp.rcv_ssthresh = 10_000
    tcp_grow_window(tp, 200, 800)
    assert tp.rcv_ssthresh == 10_000 + 2 * tp.rcv_mss
    tp.rcv_ssthresh = 1 << 20
    tp.window_clamp = 1 << 21
    tcp_grow_window(tp, 10, 1000)
    assert tp.rcv_ssthresh == 1 << 20


def test_nothing_grows_beyond_the_clamp_or_the_free_space() -> None:
    tp = control_block()
    tp.window_clamp = 11_000
    tp.rcv_ssthresh = 10_000
    tcp_grow_window(tp, MSS, MSS)
    assert tp.rcv_ssthresh == 11_000
    tp.rmem_alloc = tp.rcvbuf
    tp.window_clamp = 20_000
    tcp_grow_window(tp, MSS, MSS)
    assert tp.rcv_ssthresh == 11_000


def test_the_window_is_scaled_by_what_segments_cost() -> None:
    """tcp_measure_rcv_mss: scaling_ratio, of 256."""
    with established(wscale=7) as c:
        c.inject("A", bytes(MSS))
        c.expect("A")
        assert c.tp.scaling_ratio == (MSS << 8) // (MSS + 256)
        assert c.tp.tcp_full_space() == c.tp.rcvbuf * c.tp.scaling_ratio >> 8


# -- shrinking


def full(shrink: int, wscale: int) -> TcpControl:
    tp = control_block()
    tp.net.sysctl.tcp_shrink_window = shrink
    tp.rcv_wscale = wscale
    tp.rcvbuf = 100_000
    tp.window_clamp = tp.rcv_ssthresh = 50_000
    tp.rcv_wnd = 40_000
    tp.rmem_alloc = 60_000  # 20,000 of window left
    return tp


def test_a_promise_is_kept_unless_tcp_shrink_window_says_otherwise() -> None:
    """RFC 9293 3.8.6 (SHLD-14): "A TCP receiver SHOULD NOT shrink the window"; RFC 7323 2.4 tells how it is done."""
    assert tcp_select_window(full(0, 7)) == 40_064 >> 7
    assert tcp_select_window(full(1, 7)) == 20_000 >> 7
    assert tcp_select_window(full(1, 0)) == 40_000
    tp = full(1, 7)
    tp.rmem_alloc = 99_900
    assert tcp_select_window(tp) == 0
    assert tp.rcv_wnd == 0 and tp.net.mib.tcpext.TCPToZeroWindowAdv == 1


def test_little_free_space_is_a_closed_window() -> None:
    """RFC 9293 MUST-39: not less than a segment, nor than a sixteenth of the buffer; and no quick ACKs then."""
    tp = full(0, 7)
    tp.ack_quick = 5
    tp.rmem_alloc = 94_000
    assert usable_window(tp) == 0 and tp.ack_quick == 0
    tp.rmem_alloc = 93_000
    assert usable_window(tp) == 3456
