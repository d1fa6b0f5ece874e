"""How much goes at once: the sizes of bursts, deferral, the split point, filling up, MSG_EOR (tcp_output.c)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.tcp.block import control_block
from tests.tcp.peer import MSEC, SEC, Peer, established
from ustack.device.e1000 import E1000_FEATURES
from ustack.tcp.control import (
    PACING_UNLIMITED,
    RTT_UNKNOWN,
    TCP_CA_RECOVERY,
    TCP_NAGLE_CORK,
    TCP_NAGLE_OFF,
    TCP_NAGLE_PUSH,
)
from ustack.tcp.output import tcp_cwnd_test, tcp_grow_skb
from ustack.tcp.segment import TcpSkb
from ustack.tcp.tso import (
    HELD,
    HELD_BY_CWND,
    HELD_BY_RWND,
    SEND_NOW,
    tcp_mss_split_point,
    tcp_nagle_test,
    tcp_snd_wnd_test,
    tcp_tso_segs,
    tcp_tso_should_defer,
)
from ustack.wire.tcp import TCPHDR_ACK, TCPHDR_FIN, TCPHDR_PSH

if TYPE_CHECKING:
    from ustack.tcp.sock import TcpSock

MSS = 1000
#: A gigabit Ethernet's longest super-segment, less headers: of 1460 bytes each there are 44.
FULL = 44


def skb_of(length: int, seq: int = 1, flags: int = TCPHDR_ACK) -> TcpSkb:
    skb = TcpSkb(seq, flags)
    skb.append(bytes(length), length)
    skb.set_pcount(MSS)
    return skb


def sender(cwnd: int = 10, snd_wnd: int = 1 << 20) -> TcpSock:
    tp = control_block()
    tp.net.now = 1000 * SEC
    tp.mss_cache = MSS
    tp.snd_cwnd = cwnd
    tp.snd_una = tp.snd_nxt = tp.snd_sml = 1
    tp.snd_wnd = snd_wnd
    tp.srtt = 10 * MSEC
    tp.tcp_wstamp = tp.net.now
    return tp


# -- the size of a burst (tcp_tso_autosize)


def autosize(rate: int, min_rtt: int = RTT_UNKNOWN) -> int:
    with established(features=E1000_FEATURES) as c:
        c.tp.pacing_rate = rate
        c.tp.min_rtt = min_rtt
        return int(tcp_tso_segs(c.tp, 1460))


@pytest.mark.parametrize(
    ("rate", "segs"),
    [
        (1000, 2),
        (2 * 1460 * 1024, 2),
        (3 * 1460 * 1024, 3),
        (30_000_000, 20),
        (1 << 30, FULL),
        (PACING_UNLIMITED, FULL),
    ],
)
def test_about_a_millisecond_at_the_pacing_rate(rate: int, segs: int) -> None:
    """At least tcp_min_tso_segs, at most what the device takes: fast paths get all of it."""
    assert autosize(rate) == segs


@pytest.mark.parametrize(("min_rtt_us", "segs"), [(100, FULL), (511, FULL), (512, 22), (1024, 11), (5000, 2)])
def test_near_peers_get_more(min_rtt_us: int, segs: int) -> None:
    """tcp_tso_rtt_log: a full burst below 512 µs, half of one below 1024 µs, and so on."""
    assert autosize(1000, min_rtt_us * 1000) == segs


def test_a_burst_is_never_more_than_the_device_takes() -> None:
    """tcp_min_tso_segs of a large MSS, as over lo: 2 * 32768 would not fit a datagram."""
    with established(features=E1000_FEATURES) as c:
        c.tp.pacing_rate = 1
        assert tcp_tso_segs(c.tp, 32_768) == 1
        c.net.sysctl.tcp_min_tso_segs = 60
        assert tcp_tso_segs(c.tp, 1460) == FULL


# -- what cwnd and the peer's window let go


@pytest.mark.parametrize(
    ("cwnd", "out", "quota"), [(10, 0, 5), (10, 4, 5), (10, 6, 4), (10, 10, 0), (10, 12, 0), (1, 0, 1), (3, 0, 1)]
)
def test_half_of_cwnd_at_once(cwnd: int, out: int, quota: int) -> None:
    """So that two bursts are in flight, and the ACK of one finds the other on its way."""
    tp = sender(cwnd)
    tp.packets_out = out
    assert tcp_cwnd_test(tp) == quota


def test_the_window_must_take_the_first_segment_whole() -> None:
    tp = sender(snd_wnd=MSS)
    assert tcp_snd_wnd_test(tp, skb_of(5 * MSS), MSS)
    assert not tcp_snd_wnd_test(tp, skb_of(5 * MSS, seq=2), MSS)
    assert tcp_snd_wnd_test(tp, skb_of(MSS - 1, seq=2), MSS)
    assert not tcp_snd_wnd_test(tp, skb_of(MSS, flags=TCPHDR_ACK | TCPHDR_FIN), MSS)
    tp.snd_wnd = 0
    assert not tcp_snd_wnd_test(tp, skb_of(1), MSS)


@pytest.mark.parametrize(
    ("length", "window", "max_segs", "last", "small_out", "split"),
    [
        (5000, 1 << 20, 3, False, False, 3000),
        (5000, 1 << 20, 3, True, False, 3000),
        (5500, 1 << 20, 10, False, True, 5500),  # what is followed by more is whole
        (5500, 1 << 20, 10, True, False, 5500),  # nothing small in flight: the tail goes along
        (5500, 1 << 20, 10, True, True, 5000),  # Nagle keeps it
        (5500, 2300, 10, True, True, 2000),
        (5500, 2300, 10, True, False, 2300),
    ],
)
def test_where_an_skb_is_cut(length: int, window: int, max_segs: int, last: bool, small_out: bool, split: int) -> None:
    tp = sender(snd_wnd=window)
    if small_out:
        tp.packets_out = 1
        tp.snd_nxt = tp.snd_sml = 500
        tp.snd_wnd = window + 500
        assert tcp_mss_split_point(tp, skb_of(length, seq=501), MSS, max_segs, 0, last) == split
    else:
        assert tcp_mss_split_point(tp, skb_of(length), MSS, max_segs, 0, last) == split


# -- Nagle


def test_nagle_with_minshall_s_change() -> None:
    """RFC 9293 SHLD-7; a small segment waits only while another small one is in flight."""
    tp = sender()
    small, full = skb_of(10), skb_of(MSS)
    assert tcp_nagle_test(tp, small, MSS, 0)
    tp.packets_out = 1
    assert tcp_nagle_test(tp, small, MSS, 0), "what is in flight was full"
    tp.snd_nxt = tp.snd_sml = 50
    assert not tcp_nagle_test(tp, small, MSS, 0)
    assert tcp_nagle_test(tp, full, MSS, 0)
    for nonagle, goes in ((TCP_NAGLE_OFF, True), (TCP_NAGLE_PUSH, True), (TCP_NAGLE_CORK, False)):
        assert tcp_nagle_test(tp, small, MSS, nonagle) is goes
    assert tcp_nagle_test(tp, skb_of(10, flags=TCPHDR_ACK | TCPHDR_FIN), MSS, 0)
    tp.urg_mode = True
    assert tcp_nagle_test(tp, small, MSS, TCP_NAGLE_CORK)


# -- deferral


def deferring(length: int = 20 * MSS) -> tuple[TcpSock, TcpSkb]:
    """An ACK is due now, two of twelve segments are free, and the last burst was just sent."""
    tp = sender(cwnd=12)
    head = skb_of(MSS)
    head.sent_at = tp.net.now - 10 * MSEC
    tp.in_flight().append(head)
    tp.packets_out = 10
    return tp, skb_of(length)


def test_a_small_burst_waits_for_an_ack_that_is_near() -> None:
    tp, skb = deferring()
    assert tcp_tso_should_defer(tp, skb, 10, True) == HELD_BY_CWND
    tp.snd_cwnd = 100
    tp.snd_wnd = 2 * MSS
    tp.max_window = 1 << 20
    tp.net.sysctl.tcp_tso_win_divisor = 0
    assert tcp_tso_should_defer(tp, skb, 10, True) == HELD_BY_RWND
    tp, skb = deferring(2 * MSS)
    tp.snd_cwnd = 13
    assert tcp_tso_should_defer(tp, skb, 10, True) == HELD, "the application may have more"


@pytest.mark.parametrize(
    "why", ["recovery", "pause", "full", "middle", "divisor", "far", "nothing out", "fin", "eor", "three"]
)
def test_what_does_not_wait(why: str) -> None:
    tp, skb = deferring()
    last, max_segs = True, 10
    if why == "recovery":
        tp.ca_state = TCP_CA_RECOVERY
    elif why == "pause":
        tp.tcp_wstamp -= MSEC + 1  # the last burst is more than a millisecond ago
    elif why == "full":
        max_segs = 2
    elif why == "middle":
        last, skb = False, skb_of(2 * MSS)
    elif why == "divisor":
        tp.packets_out = 8  # a third of the window is free
    elif why == "far":
        tp.in_flight()[0].sent_at = tp.net.now - 8 * MSEC
    elif why == "nothing out":
        tp.in_flight().remove(tp.in_flight()[0])
    elif why == "three":
        tp.net.sysctl.tcp_tso_win_divisor = 0
        tp.packets_out = 8
    else:
        tp.snd_cwnd = 13
        skb = skb_of(2 * MSS, flags=TCPHDR_ACK | (TCPHDR_FIN if why == "fin" else 0))
        skb.eor = why == "eor"
    assert tcp_tso_should_defer(tp, skb, max_segs, last) == SEND_NOW


# -- filling up


def test_the_first_skb_is_filled_up_from_the_next() -> None:
    tp = sender()
    first, second = skb_of(500), skb_of(2000, seq=501, flags=TCPHDR_ACK | TCPHDR_PSH)
    tp.writes().extend([first, second])
    was = tp.wmem_queued
    tcp_grow_skb(tp, first, 700)
    assert (first.len, first.end_seq, second.seq, second.len) == (1200, 1201, 1201, 1300)
    assert not first.flags & TCPHDR_PSH and tp.wmem_queued == was
    tcp_grow_skb(tp, first, 5000)
    assert len(tp.writes()) == 1 and (first.len, first.end_seq) == (2500, 2501)
    assert first.flags & TCPHDR_PSH and tp.wmem_queued < was
    assert sum(len(piece) for piece in first.pieces) == 2500


def test_nothing_is_joined_over_an_end_of_record_nor_to_a_bare_fin() -> None:
    tp = sender()
    first, second = skb_of(500), skb_of(500, seq=501)
    first.eor = True
    tp.writes().extend([first, second])
    tcp_grow_skb(tp, first, 5000)
    assert len(tp.writes()) == 2
    tp = sender()
    tp.writes().extend([skb_of(500), TcpSkb(501, TCPHDR_ACK | TCPHDR_FIN)])
    tcp_grow_skb(tp, tp.writes()[0], 5000)
    assert len(tp.writes()) == 2


# -- on the wire


def test_an_unpaced_fast_path_sends_full_super_segments() -> None:
    """F1: reno and cubic on a fast link: 64 KiB at a time, whatever the pacing rate is for."""
    for congestion in ("reno", "cubic"):
        c = Peer(wscale=8, window=4_000_000, features=E1000_FEATURES, congestion=congestion)
        with established(peer=c):
            c.inject("A", window=4_000_000)
            c.tp.snd_cwnd = 440
            c.tp.sndbuf = 1 << 22
            c.app_send(bytes(440 * 1460))
            assert [len(s.data) for s in c.out] == [FULL * 1460] * 10
            c.out.clear()


def test_counts_of_what_was_sent() -> None:
    """tcpi_segs_out, data_segs_out, bytes_sent."""
    with established(features=E1000_FEATURES) as c:
        segs, data_segs = int(c.tp.segs_out), int(c.tp.data_segs_out)
        c.app_send(bytes(5 * 1460))
        c.expect("PA", data=bytes(5 * 1460))
        c.inject("A", b"x")
        c.run(SEC)
        c.out.clear()
        assert (c.tp.data_segs_out - data_segs, c.tp.bytes_sent) == (5, 5 * 1460)
        assert c.tp.segs_out - segs == 6
