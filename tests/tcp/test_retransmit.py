"""What exactly is sent again: cut, joined, trimmed, in which order (tcp_retransmit_skb, tcp_xmit_retransmit_queue)."""

from __future__ import annotations

import pytest

from tests.tcp.flight import MSS, RTT, ack, connected, flight, numbers, seq
from tests.tcp.invariants import check
from tests.tcp.peer import MSEC, SEC, Peer
from ustack.device.e1000 import E1000_FEATURES
from ustack.tcp.control import TCP_CA_LOSS, TCP_CA_RECOVERY
from ustack.tcp.options import IPPROTO_TCP, TCP_NODELAY
from ustack.tcp.retransmit import tcp_simple_retransmit
from ustack.tcp.scoreboard import tcp_init_recovery


def small(count: int, length: int = 100) -> Peer:
    """``count`` segments of ``length`` bytes in flight."""
    c = connected()
    c.net.sysctl.tcp_early_retrans = 0
    c.app_setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)
    for number in range(count):
        c.app_send(bytes([number]) * length)
    assert [len(s.data) for s in c.out] == [length] * count
    c.out.clear()
    return c


def test_small_segments_are_joined_when_they_are_sent_again() -> None:
    """RFC 9293 3.8.1: the sender may repackage what it retransmits; one segment of one MSS carries them."""
    with small(8) as c:
        c.run(int(c.tp.rto))
        s = c.expect("PA", seq=1, data=b"".join(bytes([number]) * 100 for number in range(8)))
        assert len(s.data) == 800
        assert (len(c.tp.in_flight()), c.tp.packets_out, c.tp.lost_out, c.tp.retrans_out) == (1, 1, 1, 1)
        check(c.tp)
        c.inject("A")
        assert c.tp.packets_out == c.tp.wmem_queued == 0


def test_no_more_are_joined_than_fill_a_segment() -> None:
    with small(8, 300) as c:
        c.run(int(c.tp.rto))
        assert len(c.next_segment().data) == 900
        check(c.tp)
        c.run(10 * SEC)
        c.out.clear()


def test_what_is_sacked_is_not_joined() -> None:
    with small(6) as c:
        c.run(RTT)
        c.inject("A", ack=1, options=c.sack_option((201, 301)))
        c.run(3 * RTT)
        assert len(c.next_segment().data) == 200
        check(c.tp)
        c.run(10 * SEC)
        c.out.clear()


def test_tcp_retrans_collapse_0_joins_nothing() -> None:
    with small(3) as c:
        c.net.sysctl.tcp_retrans_collapse = 0
        c.run(int(c.tp.rto))
        c.expect("PA", seq=1, data=bytes(100))
        c.run(10 * SEC)
        c.out.clear()


def test_what_a_partial_ack_covers_is_not_sent_again() -> None:
    """A single segment stays whole in the queue until it is sent again; then only the rest of it goes."""
    with connected() as c:
        c.net.sysctl.tcp_early_retrans = 0
        c.app_send(bytes(MSS))
        c.out.clear()
        c.inject("A", ack=1 + 400)
        check(c.tp)
        assert (c.tp.packets_out, c.tp.in_flight()[0].len) == (1, MSS)
        c.run(2 * int(c.tp.rto))
        s = c.next_segment()
        assert ((s.seq - c.irs) & 0xFFFF_FFFF, len(s.data)) == (401, 600)
        check(c.tp)
        c.run(10 * SEC)
        c.out.clear()


def test_only_as_much_of_a_super_segment_as_cwnd_allows() -> None:
    """RFC 5681 3.1: one segment after a timeout, however large the skb."""
    with flight(10, features=E1000_FEATURES) as c:
        c.net.sysctl.tcp_early_retrans = 0
        ack(c, 1)
        c.out.clear()
        c.run(int(c.tp.rto))
        assert numbers(c) == [1]
        ack(c, 2)
        assert numbers(c) == [2, 3]
        check(c.tp)
        ack(c, 10)


def test_beyond_a_shrunk_window_nothing_is_sent_again_but_the_first_segment() -> None:
    """RFC 9293 3.8.6 (SHLD-15, MUST-34): the peer "shrinks the window": what lies beyond it waits."""
    with flight(10) as c:
        c.run(RTT)
        c.inject("A", b"x", ack=1)
        c.out.clear()
        c.inject("A", ack=1, window=2 * MSS, options=c.sack_option((seq(5), seq(10))))
        assert c.tp.ca_state == TCP_CA_RECOVERY and c.tp.snd_wnd <= 2 * MSS
        sent = numbers(c)
        assert sent and max(sent) < 5
        c.run(100 * MSEC)
        c.out.clear()
        c.run(20 * SEC)
        assert all(n < 2 for n in numbers(c))


@pytest.mark.parametrize("sack", [True, False])
def test_what_was_too_long_for_the_path_goes_again_without_a_smaller_window(sack: bool) -> None:
    """RFC 1191 6.5: "a retransmission caused by a Path MTU Discovery should not change the congestion window"."""
    with flight(4, sack=sack) as c:
        cwnd = int(c.tp.snd_cwnd)
        c.tp.pmtu = 540
        c.tp.mss_cache = 500
        dst = c.tp.dst_cache
        assert dst is not None
        c.tp.mss_clamp = 500
        tcp_simple_retransmit(c.tp)
        c.poll()
        assert (c.tp.ca_state, c.tp.snd_cwnd, c.tp.undo_marker) == (TCP_CA_LOSS, cwnd, 0)
        assert {len(s.data) for s in c.out} == {500}
        check(c.tp)
        c.out.clear()
        c.run(10 * SEC)
        c.out.clear()


def test_everything_sent_twice_is_counted() -> None:
    with flight(10) as c:
        acked = int(c.tp.bytes_acked)
        c.run(RTT)
        ack(c, 0, (1, 8))
        ack(c, 0, (1, 9))
        assert numbers(c) == [0]
        assert (c.tp.total_retrans, c.tp.bytes_retrans, c.tp.retrans_out) == (1, 1000, 1)
        assert c.tp.retrans_stamp == c.now
        c.run(RTT)
        ack(c, 10)
        assert (c.tp.bytes_acked - acked, c.tp.retrans_out, c.tp.retrans_stamp) == (10_000, 0, 0)


def test_a_long_queue_is_not_walked_from_its_head_for_every_ack() -> None:
    """retransmit_skb_hint: the search goes on where it ended."""
    with flight(200) as c:
        c.run(RTT)
        ack(c, 0, (100, 200))
        sent = numbers(c)
        for upto in range(1, 90):
            ack(c, 0, (100 - upto, 200))
            new = numbers(c)
            assert (
                c.tp.retransmit_skb_hint is None
                or not new
                or (((int(c.tp.retransmit_skb_hint.seq) - c.irs) & 0xFFFF_FFFF) >= seq(max(new)))
            )
            sent += new
        assert sent == sorted(sent)
        c.run(RTT)
        ack(c, 200)


def test_a_second_connection_knows_nothing_of_the_first_ones_losses() -> None:
    """tcp_disconnect: scoreboard, RACK, undo and the smallest RTT belong to a path; and nothing points into a queue
    that is gone."""
    with flight(10) as c:
        c.run(RTT)
        ack(c, 0, (3, 4))
        ack(c, 0, (1, 2), (3, 4))
        c.run(RTT)
        c.out.clear()
        assert c.tp.reord_seen and c.tp.undo_marker and c.tp.rack_order and c.tp.highest_sack is not None
        c.inject("RA")
        tp = c.tp
        assert (tp.retransmit_skb_hint, tp.highest_sack, tp.recv_sack_cache) == (None, None, [])
        tcp_init_recovery(tp)
        fresh = c.stack.tcp.new_sock()
        for name in (
            "ca_state reordering reord_seen dsack_dups rack_rtt rack_order rack_reo_wnd_steps undo_marker "
            "undo_retrans tlp_high_seq frto high_seq retrans_stamp prior_ssthresh prior_cwnd prr_delivered prr_out "
            "min_rtt rtt_min"
        ).split():
            assert getattr(tp, name) == getattr(fresh, name), name
