"""What a handshake that went badly leaves behind for the connection: its first timeout, its window, its totals."""

from __future__ import annotations

import pytest

from tests.tcp.peer import MSEC, SEC, Peer, established, listening, syn_recv, syn_sent
from ustack.sock import TCP_CLOSE
from ustack.tcp.control import TCP_INIT_CWND
from ustack.tcp.info import unpack_info
from ustack.tcp.options import IPPROTO_TCP, TCP_INFO, TCP_RTO_MIN_US


def info(c: Peer) -> dict[str, int]:
    raw = c.sock.getsockopt(IPPROTO_TCP, TCP_INFO)
    assert isinstance(raw, bytes)
    return unpack_info(raw)


# -- RFC 6298 (5.7): "If the timer expires awaiting the ACK of a SYN segment [...] the RTO MUST be re-initialized to 3
# seconds when data transmission begins"; Linux: wherever the handshake has measured nothing


def expect_three_seconds(c: Peer) -> None:
    """The first text is sent again after three seconds."""
    c.mark()
    c.app_send(b"x")
    c.expect("PA", seq=1, data=b"x")
    c.expect("PA", seq=1, data=b"x", at=3 * SEC)
    c.inject("A", ack=2)


def test_the_first_timeout_is_three_seconds_after_a_syn_was_lost() -> None:
    with syn_sent() as c:
        c.expect("S", seq=0, at=SEC)
        c.inject("SA", options=c.syn_options())
        c.expect("A", seq=1)
        expect_three_seconds(c)


def test_the_first_timeout_is_three_seconds_after_a_syn_ack_was_lost() -> None:
    with syn_recv() as c:
        c.expect("SA", seq=0, at=SEC)
        c.inject("A", seq=1, ack=1)
        c.app_accept()
        expect_three_seconds(c)


def test_the_first_timeout_is_three_seconds_after_a_cookie_without_timestamps() -> None:
    """Nothing is remembered of when the SYN-ACK went."""
    c = Peer()
    c.stack.sysctl.set("net.ipv4.tcp_syncookies", "2")
    with listening(peer=c):
        c.peer_syn()
        c.expect("SA", seq=0, ack=1)
        c.inject("A", seq=1, ack=1)
        c.app_accept()
        expect_three_seconds(c)


def test_timestamps_measure_in_spite_of_the_loss() -> None:
    with syn_sent(Peer(timestamps=True)) as c:
        s = c.expect("S", seq=0, at=SEC)
        c.tsecr = s.tsval
        c.run(10 * MSEC)
        c.inject("SA", options=c.syn_options())
        c.expect("A", seq=1)
        assert info(c)["rto"] == 10_000 + 200_000


# -- the initial window: one segment after two losses (RFC 5681 section 3.1), unless they were none


@pytest.mark.parametrize("spurious", [True, False])
def test_an_answer_to_the_first_syn_means_that_none_was_lost(spurious: bool) -> None:
    """tcp_try_undo_spurious_syn: the timestamp echoed says which of them is answered."""
    with Peer(timestamps=True) as c:
        c.app_connect()
        first = c.expect("S", seq=0)
        c.mark()
        c.expect("S", seq=0, at=SEC)
        last = c.expect("S", seq=0, at=2 * SEC)
        c.tsecr = first.tsval if spurious else last.tsval
        c.inject("SA", options=c.syn_options())
        c.expect("A", seq=1)
        assert c.tp.snd_cwnd == (TCP_INIT_CWND if spurious else 1)


@pytest.mark.parametrize("spurious", [True, False])
def test_an_answer_to_the_first_syn_ack_means_that_none_was_lost(spurious: bool) -> None:
    with Peer(timestamps=True) as c:
        c.app_listen()
        c.peer_syn()
        first = c.expect("SA", seq=0)
        c.mark()
        c.expect("SA", seq=0, at=SEC)
        last = c.expect("SA", seq=0, at=3 * SEC)
        c.tsecr = first.tsval if spurious else last.tsval
        c.ts_ok = True
        c.inject("A", seq=1, ack=1)
        c.app_accept()
        assert c.tp.snd_cwnd == (TCP_INIT_CWND if spurious else 1)


# -- totals


def test_the_syn_is_the_first_segment_of_a_passive_open() -> None:
    """tcpi_segs_in (RFC 4898 tcpEStatsPerfSegsIn): the SYN and the handshake's ACK."""
    with established() as c:
        fields = info(c)
        assert fields["segs_in"] == 2 and fields["data_segs_in"] == 0


def test_timeouts_of_the_syn_ack_count_in_the_connections_totals() -> None:
    with syn_recv() as c:
        c.expect("SA", seq=0, at=SEC)
        c.expect("SA", seq=0, at=3 * SEC)
        c.run(500 * MSEC)
        c.inject("A", seq=1, ack=1)
        c.app_accept()
        fields = info(c)
        assert (fields["total_retrans"], fields["total_rto"], fields["total_rto_recoveries"]) == (2, 2, 1)
        assert fields["total_rto_time"] == 3500


# -- a socket that is used again


def test_nothing_of_the_former_connections_window_counts_for_the_next() -> None:
    """A window that was taken back is remembered by its end, which means nothing in other sequence numbers."""
    with established(active=True) as c:
        c.tp.rcv_retracted = True
        c.tp.rcv_mwnd_seq = (c.tp.rcv_nxt + 0x4000_0000) & 0xFFFF_FFFF
        c.tp.rcv_rtt_time = c.now
        c.app_setsockopt(IPPROTO_TCP, TCP_RTO_MIN_US, 100_000)
        c.tp.disconnect()
        c.out.clear()
        assert c.tp.state == TCP_CLOSE
        assert c.sock.getsockopt(IPPROTO_TCP, TCP_RTO_MIN_US) == 200_000  # as the kernel does
        assert not c.tp.rcv_retracted and c.tp.rcv_rtt_time == 0
