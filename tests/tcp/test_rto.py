"""The retransmission timer: its value, its back-off, what it sends and when it gives up (RFC 6298, RFC 9293 3.8.3)."""

from __future__ import annotations

import errno

import pytest

from tests.tcp.flight import connected
from tests.tcp.peer import MSEC, SEC, Peer, established
from ustack.inet.options import SO_KEEPALIVE, SOL_SOCKET
from ustack.sock import TCP_ESTABLISHED
from ustack.tcp.control import TCP_CA_LOSS, TCP_CA_OPEN
from ustack.tcp.options import IPPROTO_TCP, TCP_KEEPCNT, TCP_KEEPIDLE, TCP_KEEPINTVL, TCP_USER_TIMEOUT
from ustack.tcp.rtt import inet_csk_rto_backoff
from ustack.tcp.states import State

MSS = 1460


def data(length: int) -> bytes:
    return bytes(length)


def measured(rtt: int, timestamps: bool = False) -> Peer:
    """Established; one segment has been acknowledged ``rtt`` ns after it was sent, so the RTO is the path's."""
    c = Peer(timestamps=timestamps)
    c.app_listen()
    c.peer_syn()
    c.expect("SA")
    c.run(rtt)
    c.inject("A")
    c.app_accept()
    c.mark()
    return c


@pytest.mark.parametrize(("rtt", "rto"), [(0, 200), (20, 220), (100, 300), (400, 1200), (700, 2100)])
def test_the_first_sample_sets_the_timeout(rtt: int, rto: int) -> None:
    """RFC 6298 (2.2): SRTT R, RTTVAR R/2, RTO SRTT + 4 RTTVAR; Linux's variance is at least 50 ms, not the RTO 1 s."""
    with measured(rtt * MSEC) as c:
        assert c.tp.rto == rto * MSEC
        c.app_send(b"x")
        c.expect("PA", data=b"x")
        c.silent(until=rto * MSEC - 1)
        c.expect("PA", seq=1, data=b"x", at=rto * MSEC)
        c.counted(TCPOrigDataSent=1, RetransSegs=1, TCPTimeouts=1, TCPSlowStartRetrans=0)
        c.out.clear()


def test_the_timeout_doubles_with_every_retransmission_up_to_two_minutes() -> None:
    """RFC 6298 (5.5): "RTO <- RTO * 2"; (2.5): a maximum, here TCP_RTO_MAX."""
    with measured(0) as c:
        c.app_send(b"x")
        c.expect("PA", data=b"x")
        at, delay = 0, 200 * MSEC
        for _ in range(13):
            at += delay
            c.expect("PA", seq=1, data=b"x", at=at)
            delay = min(2 * delay, 120 * SEC)
        c.counted(TCPOrigDataSent=1, RetransSegs=13, TCPTimeouts=13, TCPLostRetransmit=12)


def test_an_acknowledgment_restarts_the_timer_and_the_last_one_stops_it() -> None:
    """RFC 6298 (5.2) and (5.3)."""
    with measured(0) as c:
        c.app_send(data(3 * MSS))
        c.out.clear()
        c.run(150 * MSEC)
        c.inject("A", ack=1 + MSS)
        rto = int(c.tp.rto)
        c.mark()
        c.silent(until=rto - 1)
        c.inject("A", ack=1 + 3 * MSS)
        c.silent(until=100 * SEC)
        assert c.timers_pending() == 0


def test_a_new_segment_does_not_restart_a_running_timer() -> None:
    """RFC 6298 (5.1): "if the timer is not running, start it"."""
    with measured(0) as c:
        c.app_send(data(MSS))
        c.expect("PA", data=data(MSS))
        c.run(150 * MSEC)
        c.app_send(data(MSS))
        c.expect("PA", data=data(MSS))
        c.expect("PA", seq=1, data=data(MSS), at=200 * MSEC)


def test_karn_a_retransmitted_segment_measures_nothing_and_keeps_the_backoff() -> None:
    """RFC 6298 section 3: "RTT samples MUST NOT be made using segments that were retransmitted"."""
    with measured(0) as c:
        c.app_send(b"a")
        c.expect("PA", data=b"a")
        for at in (200, 600, 1400):
            c.expect("PA", data=b"a", at=at * MSEC)
        srtt = int(c.tp.srtt)
        c.inject("A", ack=2)
        assert c.tp.srtt == srtt
        assert c.tp.backoff == 3
        c.app_send(b"b")
        c.mark()
        c.expect("PA", data=b"b")
        c.expect("PA", data=b"b", at=1600 * MSEC)  # still backed off
        c.inject("A", ack=3)
        c.app_send(b"c")
        c.expect("PA", data=b"c")
        c.inject("A", ack=4)  # measured again
        assert c.tp.backoff == 0


def test_timestamps_tell_which_transmission_is_acknowledged() -> None:
    """RFC 6298 section 3: "unless" the timestamp option removes the ambiguity; the back-off ends."""
    with measured(0, timestamps=True) as c:
        c.app_send(b"a")
        c.expect("PA", data=b"a")
        c.next_segment(at=SEC)
        c.next_segment(at=SEC)
        c.run(30 * MSEC)
        c.inject("A", ack=2)  # echoes the second retransmission
        assert c.tp.backoff == 0
        assert 0 < c.tp.srtt <= 30 * MSEC


def test_after_a_timeout_one_segment_goes_then_as_slow_start_allows() -> None:
    """RFC 5681 3.1: "cwnd MUST be set to no more than the loss window, LW, which equals 1 full-sized segment"."""
    with measured(0) as c:
        c.app_send(data(8 * MSS))
        assert [(s.seq - c.irs, len(s.data)) for s in c.out] == [(1 + number * MSS, MSS) for number in range(8)]
        c.out.clear()
        c.expect("A", seq=1, data=data(MSS), at=200 * MSEC)
        c.silent()
        assert (c.tp.ca_state, c.tp.snd_cwnd, c.tp.snd_ssthresh, c.tp.lost_out) == (TCP_CA_LOSS, 1, 5, 8)
        c.inject("A", ack=1 + MSS)
        c.expect("A", seq=1 + MSS, data=data(MSS))
        assert c.next_segment().end == (c.irs + 1 + 3 * MSS)
        c.silent()
        c.inject("A", ack=1 + 2 * MSS)
        c.expect("A", seq=1 + 3 * MSS, data=data(MSS))
        assert c.next_segment().end == (c.irs + 1 + 5 * MSS)
        c.inject("A", ack=1 + 8 * MSS)  # the rest had arrived
        c.silent(until=10 * SEC)
        assert c.tp.packets_out == c.tp.lost_out == c.tp.retrans_out == 0
        c.counted(TCPOrigDataSent=8, RetransSegs=5, TCPTimeouts=1, TCPSlowStartRetrans=4, TCPDelivered=8, TCPHPAcks=3)


def test_the_loss_state_ends_with_the_first_ack_beyond_it() -> None:
    """RFC 6582 3.2: until then duplicate ACKs, which retransmissions for nothing cause, start no recovery."""
    with measured(0) as c:
        c.app_send(data(4 * MSS))
        c.out.clear()
        c.run(200 * MSEC)
        c.inject("A", ack=1 + 4 * MSS)
        c.out.clear()
        assert c.tp.ca_state == TCP_CA_LOSS
        c.app_send(data(2 * MSS))
        c.out.clear()
        for _ in range(5):
            c.inject("A", ack=1 + 4 * MSS)
            c.silent()
        c.inject("A", ack=1 + 6 * MSS)
        assert c.tp.ca_state == TCP_CA_OPEN
        assert c.moved().get("TcpExt.TCPRenoRecovery", 0) == 0


def test_ssthresh_is_halved_once_for_a_segment_however_often_it_is_sent() -> None:
    """RFC 5681 3.1: when "the given segment has already been retransmitted by way of the retransmission timer at least
    once, the value of ssthresh is held constant"."""
    with measured(0) as c:
        c.tp.snd_cwnd = 40
        c.tp.snd_cwnd_stamp = c.now
        c.app_send(data(8 * MSS))
        c.out.clear()
        c.run(200 * MSEC)
        assert c.tp.snd_ssthresh == 20
        c.run(10 * SEC)
        assert c.tp.snd_ssthresh == 20
        c.out.clear()


# -- what moves its value


def test_the_least_variance_is_a_sysctl_a_socket_option_or_the_route() -> None:
    """tcp_rto_min_us; RFC 6298 (2.4) says a second, which "SHOULD" be less where clocks are fine."""
    with established() as c:
        assert c.tp.rto_min() == 200 * MSEC
        c.net.sysctl.tcp_rto_min_us = 50_000
        assert c.tp.rto_min() == 50 * MSEC
        c.tp.rto_min_ns = 5 * MSEC
        assert c.tp.rto_min() == 5 * MSEC


def test_a_small_one_doubles_as_far_as_any_other() -> None:
    """RFC 6298 (5.5): from a millisecond on (tcp_rto_min_us) it takes seventeen doublings to two minutes, not ten."""
    with established() as c:
        c.tp.rto = MSEC
        for backoff, rto in ((0, 1), (10, 1024), (16, 65_536), (17, 120_000), (255, 120_000)):
            c.tp.backoff = backoff
            assert inet_csk_rto_backoff(c.tp) == rto * MSEC


def test_a_thin_stream_s_timeout_has_the_maximum_too() -> None:
    """Linux: clamp(__tcp_set_rto(tp), tcp_rto_min(sk), tcp_rto_max(sk)), and the route's rto_min knows no bound."""
    with measured(0) as c:
        c.net.sysctl.tcp_thin_linear_timeouts = 1
        c.tp.snd_ssthresh = 10
        c.app_send(b"x")
        c.expect("PA", data=b"x")
        c.tp.rto_min_ns = 1000 * SEC
        c.expect("PA", seq=1, data=b"x", at=200 * MSEC)
        assert c.tp.rto == 120 * SEC


@pytest.mark.parametrize("option", [False, True])
def test_the_longest_timeout_is_a_sysctl_or_a_socket_option(option: bool) -> None:
    """RFC 6298 (2.5): "A maximum value MAY be placed on RTO"; tcp_rto_max_ms, TCP_RTO_MAX_MS."""
    with measured(0) as c:
        if option:
            c.tp.rto_max_ns = 1 * SEC
        else:
            c.net.sysctl.tcp_rto_max_ms = 1000
        c.app_send(b"x")
        c.expect("PA", data=b"x")
        for at in (200, 600, 1400, 2400, 3400, 4400):
            c.expect("PA", seq=1, data=b"x", at=at * MSEC)


def test_a_thin_stream_does_not_back_off_at_first() -> None:
    """tcp_thin_linear_timeouts: with less than four segments in flight, six times, once it has left slow start."""
    with measured(0) as c:
        c.net.sysctl.tcp_thin_linear_timeouts = 1
        c.tp.snd_ssthresh = 10
        c.app_send(b"x")
        c.expect("PA", data=b"x")
        for number in range(1, 8):
            c.expect("PA", seq=1, data=b"x", at=200 * number * MSEC)
        c.expect("PA", seq=1, data=b"x", at=(1400 + 400) * MSEC)


def test_timeouts_are_told_to_tcp_info() -> None:
    """tcpi_total_rto, _recoveries, _time: runs of them, and how long each took."""
    with connected() as c:
        c.net.sysctl.tcp_early_retrans = 0
        c.app_send(b"x")
        c.expect("PA", data=b"x")
        c.expect("PA", data=b"x", at=300 * MSEC)
        c.expect("PA", data=b"x", at=900 * MSEC)
        assert (c.tp.total_rto, c.tp.total_rto_recoveries, c.tp.total_rto_time) == (2, 1, 0)
        c.run(100 * MSEC)
        c.inject("A")
        assert c.tp.total_rto_time == 700 * MSEC
        c.app_send(b"y")
        c.out.clear()
        c.run(int(c.tp.rto))
        assert (c.tp.total_rto, c.tp.total_rto_recoveries) == (3, 2)
        c.inject("A")
        c.out.clear()


def test_an_ack_of_late_data_does_not_put_the_timeout_off_for_ever() -> None:
    """RFC 6298 (5.3) restarts the timer for new data that is acknowledged; SACKs of what was sent later do not."""
    c = Peer(sack=True)
    c.app_listen()
    c.peer_syn()
    c.expect("SA")
    c.inject("A")
    c.app_accept()
    c.net.sysctl.tcp_early_retrans = 0
    with c:
        c.tp.reordering = 300
        c.tp.reord_seen = 1
        c.mark()
        c.app_send(data(MSS))
        c.out.clear()
        for number in range(1, 4):
            c.run(50 * MSEC)
            c.app_send(data(MSS))
            c.out.clear()
            c.inject("A", ack=1, options=c.sack_option((1 + MSS, 1 + (number + 1) * MSS)))
            c.out.clear()
        assert c.tp.icsk_pending != 0
        c.run_to(c.zero + SEC)
        assert c.out and c.out[0].time - c.zero <= 250 * MSEC
        c.out.clear()


# -- giving up


def test_patience_begins_anew_with_every_segment_that_got_through() -> None:
    """RFC 9293 3.8.3: R2 counts "the same segment": a loss of long ago does not shorten it."""
    with measured(0, timestamps=True) as c:
        for _ in range(3):
            c.app_send(b"x")
            c.expect("PA", data=b"x")
            c.expect("PA", data=b"x", at=c.now - c.zero + int(c.tp.rto))
            c.inject("A")
            c.run(2000 * SEC)
        c.app_send(b"x")
        c.run(500 * SEC)
        assert c.tp.state == TCP_ESTABLISHED
        c.out.clear()


def test_a_connection_that_nobody_answers_ends_after_924_6_seconds() -> None:
    """ip-sysctl: tcp_retries2 = 15 "corresponds to a hypothetical timeout of 924.6 seconds and is a lower bound"."""
    with measured(0) as c:
        c.app_send(b"x")
        c.expect("PA", data=b"x")
        at = delay = 200 * MSEC
        first = at
        count = 0
        while at - first < 924_600 * MSEC:
            c.expect("PA", data=b"x", at=at)
            count += 1
            delay = min(2 * delay, 120 * SEC)
            at += delay
        c.silent(until=at - 1)
        assert c.tp.state == TCP_ESTABLISHED
        c.silent(until=at)
        assert c.state == State.CLOSE
        assert c.events.seen == ["error", "state"]
        assert c.app_error() == errno.ETIMEDOUT
        assert (count, at) == (16, 1_044_600 * MSEC)
        c.counted(
            TCPOrigDataSent=1,
            RetransSegs=count,
            TCPTimeouts=count + 1,
            TCPLostRetransmit=count - 1,
            TCPAbortOnTimeout=1,
            CurrEstab=-1,
            EstabResets=1,
        )


def test_retries2_shortens_it() -> None:
    with measured(0) as c:
        c.net.sysctl.tcp_retries2 = 3
        c.app_send(b"x")
        c.out.clear()
        c.run(10 * SEC)
        # a model of three doublings from 200 ms: 3 s after the first retransmission, at the timer that follows
        assert [round((s.time - c.zero) / MSEC) for s in c.out] == [200, 600, 1400, 3000]
        c.out.clear()
        assert c.app_error() == errno.ETIMEDOUT


def test_user_timeout_is_exact() -> None:
    """RFC 5482: counted from the first retransmission; the timer is drawn in to end with it."""
    with measured(0) as c:
        c.app_setsockopt(IPPROTO_TCP, TCP_USER_TIMEOUT, 1000)
        c.app_send(b"x")
        c.expect("PA", data=b"x")
        c.expect("PA", data=b"x", at=200 * MSEC)
        c.expect("PA", data=b"x", at=600 * MSEC)
        c.silent(until=1200 * MSEC - 1)
        assert c.tp.state == TCP_ESTABLISHED
        c.silent(until=1200 * MSEC)
        assert c.state == State.CLOSE
        assert c.app_error() == errno.ETIMEDOUT


def test_an_orphan_gives_up_sooner() -> None:
    """tcp_orphan_retries: eight, then nobody remembers it."""
    with measured(0) as c:
        c.app_send(b"x")
        c.out.clear()
        c.app_close()
        c.run(250 * SEC)
        c.out.clear()
        assert c.state == State.CLOSE
        assert c.stack.tcp.tables.orphans == set() and c.stack.tcp.tables.ehash == {}
        c.silent(until=1000 * SEC)


def test_a_live_peer_that_shrinks_its_window_to_nothing_is_asked_for_ever() -> None:
    """RFC 9293 MUST-37: retransmissions are the probes then; only silence ends the connection."""
    with measured(0) as c:
        c.app_send(data(3 * MSS))
        c.out.clear()
        c.inject("A", ack=1 + MSS, window=0)
        for _ in range(25):
            s = c.next_segment(at=c.now - c.zero + 121 * SEC)
            assert s.data == data(MSS)
            c.inject("A", ack=1 + MSS, window=0)
        assert c.tp.state == TCP_ESTABLISHED
        assert c.moved().get("TcpExt.TCPTimeouts", 0) == 0
        assert c.moved().get("TcpExt.TCPRenoRecovery", 0) == 0
        c.run(1000 * SEC)
        c.out.clear()
        assert c.state == State.CLOSE
        assert c.app_error() == errno.ETIMEDOUT


# -- keepalive


def kept(idle: int = 60, interval: int = 10, count: int = 3) -> Peer:
    c = established()
    c.app_setsockopt(IPPROTO_TCP, TCP_KEEPIDLE, idle)
    c.app_setsockopt(IPPROTO_TCP, TCP_KEEPINTVL, interval)
    c.app_setsockopt(IPPROTO_TCP, TCP_KEEPCNT, count)
    c.app_setsockopt(SOL_SOCKET, SO_KEEPALIVE, 1)
    return c


def test_keepalive_is_off_unless_asked_for() -> None:
    """RFC 9293 MUST-25: keep-alives "MUST default to off"."""
    with established() as c:
        c.silent(until=20_000 * SEC)
        assert c.timers_pending() == 0


def test_a_silent_peer_is_probed_and_an_answer_is_enough() -> None:
    """RFC 9293 MUST-26, 3.8.4: after the idle time, a segment one byte early that the peer must answer."""
    with kept() as c:
        c.expect("A", seq=0, ack=1, at=60 * SEC)
        c.inject("A")
        c.expect("A", seq=0, ack=1, at=120 * SEC)
        c.inject("A")
        c.counted(TCPKeepAlive=2, TCPPureAcks=2)


def test_keepalive_gives_up_after_its_probes() -> None:
    with kept() as c:
        for at in (60, 70, 80):
            c.expect("A", seq=0, ack=1, at=at * SEC)
        c.silent(until=90 * SEC - 1)
        c.expect("RA", seq=1, ack=1, at=90 * SEC)
        assert c.state == State.CLOSE
        assert c.app_error() == errno.ETIMEDOUT
        c.counted(TCPKeepAlive=3, TCPAbortOnTimeout=1, OutRsts=1, CurrEstab=-1, EstabResets=1)


def test_the_default_is_two_hours_and_nine_probes() -> None:
    """RFC 9293 MUST-28: the interval "MUST default to no less than two hours"."""
    with established() as c:
        c.app_setsockopt(SOL_SOCKET, SO_KEEPALIVE, 1)
        for number in range(9):
            c.expect("A", seq=0, at=(7200 + 75 * number) * SEC)
        c.expect("RA", seq=1, at=(7200 + 75 * 9) * SEC)


def test_data_and_acks_put_keepalive_off() -> None:
    with kept() as c:
        c.run(50 * SEC)
        c.inject("A", b"x")
        c.expect("A", ack=2)
        c.expect("A", seq=0, ack=2, at=110 * SEC)
        c.inject("A")


def test_what_nobody_can_have_sent_does_not_count_as_life() -> None:
    """Only an acceptable ACK or data moves the clock: a stranger's segments keep no dead connection alive."""
    with kept() as c:
        c.run(50 * SEC)
        c.inject("A", seq=0x4000_0000)
        c.expect("A", seq=1, ack=1)
        c.expect("A", seq=0, ack=1, at=60 * SEC)
        c.inject("A")


def test_keepalive_can_be_turned_off_again() -> None:
    with kept() as c:
        c.expect("A", seq=0, at=60 * SEC)
        c.app_setsockopt(SOL_SOCKET, SO_KEEPALIVE, 0)
        c.silent(until=1000 * SEC)
        assert c.timers_pending() == 0


def test_user_timeout_overrides_the_number_of_probes() -> None:
    with kept(count=100) as c:
        c.app_setsockopt(IPPROTO_TCP, TCP_USER_TIMEOUT, 75_000)
        c.expect("A", seq=0, at=60 * SEC)
        c.expect("A", seq=0, at=70 * SEC)
        c.expect("RA", seq=1, at=80 * SEC)
        assert c.app_error() == errno.ETIMEDOUT


def test_what_goes_again_is_not_counted_as_sent() -> None:
    """RFC 4022 tcpOutSegs: "excluding those containing only retransmitted octets"; the segments of one connection do
    count (tcpi_segs_out)."""
    with measured(0) as c:
        c.app_send(b"x")
        c.expect("PA", data=b"x")
        before, segs_out = c.net.mib.snapshot()["Tcp.OutSegs"], c.tp.segs_out
        c.expect("PA", seq=1, data=b"x", at=200 * MSEC)
        assert c.net.mib.snapshot()["Tcp.OutSegs"] == before
        assert c.tp.segs_out == segs_out + 1
        c.inject("A")


def test_window_probes_go_on_from_where_the_timer_has_backed_off() -> None:
    """Linux has one icsk_backoff for both, and icsk_rto has doubled already: until the path is measured anew."""
    with measured(0) as c:
        c.app_send(b"x")
        c.expect("PA", data=b"x")
        c.expect("PA", seq=1, data=b"x", at=200 * MSEC)
        c.inject("A", window=0)  # Karn: no sample
        assert (c.tp.backoff, c.tp.rto) == (1, 400 * MSEC)
        c.mark()
        c.app_send(b"y")
        c.expect("A", seq=1, at=800 * MSEC)
        c.inject("A", window=1000)
        c.expect("PA", seq=2, data=b"y")
        assert (c.tp.backoff, c.tp.rto) == (0, 400 * MSEC)
        c.mark()
        c.expect("PA", seq=2, data=b"y", at=400 * MSEC)
        c.inject("A")


def test_an_idle_time_is_compared_with_the_timeout_as_it_is_backed_off() -> None:
    """tcp_slow_start_after_idle_check goes by icsk_rto."""
    for idle, cwnd in ((390, 40), (410, 20)):
        with measured(0) as c:
            c.app_send(b"x")
            c.expect("PA", data=b"x")
            c.expect("PA", seq=1, data=b"x", at=200 * MSEC)
            c.inject("A")
            c.tp.snd_cwnd = 40
            c.run(idle * MSEC)
            c.app_send(b"y")
            c.expect("PA", seq=2, data=b"y")
            assert c.tp.snd_cwnd == cwnd
            c.inject("A")
