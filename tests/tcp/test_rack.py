"""RACK: loss by time, the reordering window and how it adapts (RFC 8985 section 6)."""

from __future__ import annotations

from tests.tcp.flight import RTT, ack, connected, flight, numbers
from tests.tcp.peer import MSEC, SEC, Peer
from ustack.tcp.control import (
    ICSK_TIME_LOSS_PROBE,
    ICSK_TIME_REO_TIMEOUT,
    ICSK_TIME_RETRANS,
    TCP_CA_DISORDER,
    TCP_CA_LOSS,
    TCP_CA_OPEN,
    TCP_CA_RECOVERY,
)

#: min_rtt / 4, and TCP_TIMEOUT_MIN
WINDOW = RTT // 4 + 2 * MSEC


def reordered(c: Peer) -> None:
    """Segments 0 to 3 have arrived, 3 first: the network has been seen to reorder."""
    c.run(RTT)
    ack(c, 0, (3, 4))
    ack(c, 0, (1, 2), (3, 4))
    ack(c, 4)
    assert c.tp.reord_seen == 2
    c.out.clear()
    c.mark()


def test_one_sacked_segment_waits_a_quarter_of_the_round_trip() -> None:
    """RFC 8985 6.2 step 4 and 5: "RACK.reo_wnd [...] min_RTT / 4"; then everything sent before it is lost."""
    with flight() as c:
        c.run(RTT)
        c.mark()
        ack(c, 0, (7, 8))
        assert (c.tp.ca_state, c.tp.icsk_pending) == (TCP_CA_DISORDER, ICSK_TIME_REO_TIMEOUT)
        c.silent(until=WINDOW - 1)
        c.run_to(c.zero + WINDOW)
        assert numbers(c) == [0]
        assert (c.tp.ca_state, c.tp.lost_out, c.tp.icsk_pending) == (TCP_CA_RECOVERY, 7, ICSK_TIME_RETRANS)
        moved = c.moved()
        assert (moved["TcpExt.TCPSackRecovery"], moved["TcpExt.TCPFastRetrans"]) == (1, 1)


def test_what_comes_within_the_window_was_only_overtaken() -> None:
    with flight() as c:
        c.run(RTT)
        ack(c, 0, (1, 2))
        c.run(20 * MSEC)
        ack(c, 2)
        assert (c.tp.ca_state, c.tp.sacked_out, c.tp.icsk_pending) == (TCP_CA_OPEN, 0, ICSK_TIME_LOSS_PROBE)
        assert c.tp.reord_seen == 1
        c.silent()


def test_three_sacked_segments_need_no_window() -> None:
    """6.2 step 4: "If [...] no reordering has been observed [...] and the number of segments SACKed >= DupThresh":
    RACK.reo_wnd = 0: as fast as counting duplicate ACKs was."""
    with flight() as c:
        c.run(RTT)
        ack(c, 0, (1, 4))
        assert numbers(c) == [0]


def test_tcp_recovery_4_keeps_the_window_nevertheless() -> None:
    with flight() as c:
        c.net.sysctl.tcp_recovery = 1 | 4
        c.run(RTT)
        ack(c, 0, (1, 4))
        c.silent()
        c.run(WINDOW)
        assert numbers(c) == [0]


def test_once_reordering_was_seen_even_three_wait() -> None:
    with flight(20) as c:
        reordered(c)
        ack(c, 4, (5, 9))
        c.silent()
        assert c.tp.icsk_pending == ICSK_TIME_REO_TIMEOUT
        c.run(WINDOW)
        assert numbers(c) == [4]


def test_a_lost_retransmission_is_found_without_a_timeout() -> None:
    """6.2: "RACK uses the notion of time, instead of packet or sequence counts": what was sent after the retransmission
    and has arrived shows that the retransmission has not."""
    with flight(10, queued=10) as c:
        c.run(RTT)
        ack(c, 0, (1, 4))
        assert numbers(c)[:1] == [0]
        c.run(MSEC)
        ack(c, 0, (1, 10))
        sent = numbers(c)
        assert sent and min(sent) > 10  # new data, sent after the retransmission
        c.run(RTT)
        ack(c, 0, (1, 10), (min(sent), min(sent) + 1))
        assert numbers(c)[:1] == [0]
        assert c.moved()["TcpExt.TCPLostRetransmit"] == 1
        assert c.moved().get("TcpExt.TCPTimeouts", 0) == 0


def test_within_one_instant_the_order_of_sending_counts() -> None:
    """A batch of ACKs is one instant: new data that went out before the retransmission tells nothing of it, although
    its sequence numbers are higher (RFC 8985 6.2 breaks ties by them, which is right for one burst only)."""
    with flight(10, queued=10) as c:
        c.run(RTT)
        ack(c, 0, (1, 2))
        ack(c, 0, (1, 3))
        ack(c, 0, (1, 4))
        sent = numbers(c)
        assert sent[0] == 10 and sent[-1] == 0
        c.run(RTT)
        ack(c, 0, (1, 4), (10, 11))
        assert "TcpExt.TCPLostRetransmit" not in c.moved()
        assert 0 not in numbers(c)
        ack(c, 11)
        c.out.clear()
        c.run(10 * SEC)
        c.out.clear()


def test_a_d_sack_widens_the_window_once_a_round_trip() -> None:
    """6.2 step 4: "RACK.reo_wnd_mult" grows for a round trip in which "DSACKs" showed that recovery was needless, and
    goes back after 16 recoveries without."""
    with flight(30, queued=40) as c:
        reordered(c)
        ack(c, 4, (5, 9))
        c.run(WINDOW)
        assert 4 in numbers(c)
        ack(c, 9, dup=(4, 5))
        assert (c.tp.rack_reo_wnd_steps, c.tp.rack_reo_wnd_persist) == (2, 16)
        c.out.clear()
        c.run(RTT)
        ack(c, 30)
        c.out.clear()
        c.run(RTT)
        c.mark()
        ack(c, 30, (31, 35))
        c.out.clear()
        wide = int(c.tp.min_rtt) // 4 * 2 + 2 * MSEC
        c.run_to(c.zero + wide - 1)
        assert 30 not in numbers(c)
        c.run(1)
        assert 30 in numbers(c)


def test_tcp_recovery_2_fixes_the_window() -> None:
    with flight(20) as c:
        c.net.sysctl.tcp_recovery = 1 | 2
        reordered(c)
        ack(c, 4, (5, 9))
        c.run(WINDOW)
        ack(c, 9, dup=(4, 5))
        assert c.tp.rack_reo_wnd_steps == 1
        c.out.clear()


def test_a_timeout_leaves_alone_what_was_sent_just_now() -> None:
    """6.3: "upon RTO expiration [...] mark as lost" only what has had "RACK.rtt + RACK.reo_wnd": the rest has hardly
    left."""
    with connected() as c:
        c.net.sysctl.tcp_early_retrans = 0
        c.app_send(bytes(5000))
        c.out.clear()
        c.run(RTT)
        ack(c, 1)
        rto = int(c.tp.rto)
        c.run(rto - 50 * MSEC)
        c.app_send(bytes(3000))
        assert numbers(c) == [5, 6, 7]
        c.run(50 * MSEC)
        assert numbers(c) == [1]
        assert (c.tp.ca_state, c.tp.lost_out, c.tp.packets_out) == (TCP_CA_LOSS, 4, 7)
        assert c.tp.snd_cwnd == 4  # three are in flight, one goes
        c.run(SEC)
        c.out.clear()


def test_a_retransmission_that_is_answered_too_soon_measures_nothing() -> None:
    """6.2 step 2: an ACK of a retransmitted segment within min_RTT is of the original: RACK does not advance."""
    with flight() as c:
        c.run(RTT)
        ack(c, 0, (1, 4))
        assert numbers(c) == [0]
        order, rtt = int(c.tp.rack_order), int(c.tp.rack_rtt)
        c.run(MSEC)
        ack(c, 4)
        assert (c.tp.rack_order, c.tp.rack_rtt) == (order, rtt)


def test_no_timer_is_left_when_all_is_acknowledged() -> None:
    with flight() as c:
        c.run(RTT)
        ack(c, 0, (5, 6))
        assert c.tp.icsk_pending == ICSK_TIME_REO_TIMEOUT
        ack(c, 10)
        assert c.tp.icsk_pending == 0 and c.timers_pending() == 0
        c.silent(until=100 * SEC)
