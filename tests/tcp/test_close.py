"""The end of a connection: RFC 9293 sections 3.6, 3.10.4 (CLOSE) and 3.10.5 (ABORT), with Linux's orphans."""

from __future__ import annotations

import errno
from struct import pack

import pytest

from tests.tcp.peer import (
    M32,
    MSEC,
    SEC,
    Peer,
    close_wait,
    closing,
    established,
    fin_wait1,
    fin_wait2,
    last_ack,
    listening,
    time_wait,
)
from ustack.drop import Reason
from ustack.inet.options import SO_LINGER, SOL_SOCKET
from ustack.sock import POLLHUP, POLLIN, POLLOUT, POLLRDHUP
from ustack.tcp.control import TCP_URG_VALID
from ustack.tcp.delack import TICK
from ustack.tcp.options import IPPROTO_TCP, TCP_LINGER2
from ustack.tcp.states import State

NO_LINGER = pack("=ii", 1, 0)
FIN_TIMEOUT = 60 * SEC


# -- we close first


@pytest.mark.parametrize("orphan", [False, True])
def test_orderly_close_from_our_side(orphan: bool) -> None:
    """Figure 12: FIN-WAIT-1, FIN-WAIT-2, TIME-WAIT, and after 2 MSL nothing is left."""
    with established() as c:
        if orphan:
            c.app_close()
        else:
            c.app_shutdown(1)
        c.expect("FA", seq=1, ack=1)
        assert c.in_state(State.FIN_WAIT1)
        c.inject("A", ack=2)
        assert c.in_state(State.FIN_WAIT2)
        c.inject("FA", ack=2)
        c.expect("A", seq=2, ack=2)
        assert c.in_state(State.TIME_WAIT) and c.tp.state == State.CLOSE
        c.silent(until=60 * SEC - 1)
        assert c.in_state(State.TIME_WAIT)
        c.silent(until=60 * SEC)
        assert c.in_state(State.CLOSE)
        c.counted(CurrEstab=-1, TCPOrigDataSent=1, TCPDelivered=1, TW=1, TCPPureAcks=1)


@pytest.mark.parametrize("orphan", [False, True])
def test_the_fin_that_acknowledges_ours_is_answered_at_once(orphan: bool) -> None:
    """3.10.7.4, fifth and eighth step of one segment: FIN-WAIT-1 becomes FIN-WAIT-2 and then TIME-WAIT."""
    with fin_wait1(orphan) as c:
        c.inject("FA", ack=2)
        c.expect("A", seq=2, ack=2)
        assert c.in_state(State.TIME_WAIT)
        c.silent(until=100 * SEC)
        c.counted(TCPDelivered=1, TW=1)


@pytest.mark.parametrize("orphan", [False, True])
def test_simultaneous_close(orphan: bool) -> None:
    """Figure 13: FIN-WAIT-1, CLOSING, TIME-WAIT."""
    with fin_wait1(orphan) as c:
        c.inject("FA", ack=1)
        c.expect("A", seq=2, ack=2)
        assert c.in_state(State.CLOSING)
        c.inject("A", ack=2)
        c.silent()
        assert c.in_state(State.TIME_WAIT)
        c.silent(until=70 * SEC)
        assert c.in_state(State.CLOSE)
        c.counted(TCPDelivered=1, TW=1, TCPPureAcks=1)


def test_the_owner_is_told_of_each_step_and_sees_them_in_poll() -> None:
    with fin_wait1() as c:
        assert c.sock.poll() & (POLLOUT | POLLIN | POLLHUP) == POLLOUT
        assert c.app_fails(lambda: c.sock.send(b"x")) == errno.EPIPE
        c.inject("A", ack=2)
        assert c.events.seen == ["state"]
        c.inject("FPA", b"rest", ack=2)
        c.expect("A", seq=2, ack=6)
        assert c.events.seen[1:].count("data") >= 1 and "state" in c.events.seen[1:]
        assert c.sock.poll() & (POLLIN | POLLRDHUP | POLLHUP) == POLLIN | POLLRDHUP | POLLHUP
        assert c.app_recv() == b"rest" and c.app_recv() == b""


def test_half_close_the_other_direction_stays_open() -> None:
    """3.6, case 1: "The user who CLOSEs may continue to RECEIVE until the TCP receiver is told that the remote peer has
    CLOSED also"."""
    with fin_wait2() as c:
        for n in range(3):
            c.inject("PA", b"data%d" % n, ack=2)
            assert c.app_recv() == b"data%d" % n
        c.run(3600 * SEC)  # an owner may wait as long as it likes
        assert c.in_state(State.FIN_WAIT2)
        c.inject("FA", ack=2)
        c.out.clear()
        assert c.app_recv() == b"" and c.in_state(State.TIME_WAIT)


def test_data_before_the_fin_goes_first_and_the_fin_rides_on_it() -> None:
    """3.10.4: "Queue this until all preceding SENDs have been segmentized, then form a FIN segment"."""
    with established(mss=100, window=100) as c:
        c.app_send(bytes(150))
        c.expect("PA", seq=1, data=bytes(100))
        c.app_close()
        c.silent()
        c.inject("A", ack=101)
        c.expect("FPA", seq=101, ack=1, data=bytes(50))
        c.inject("A", ack=152)
        assert c.in_state(State.FIN_WAIT2)


def test_the_fin_is_retransmitted_until_it_is_acknowledged() -> None:
    with fin_wait1() as c:
        first = c.expect("FA", seq=1, ack=1, at=c.tp.rto)
        assert first.time > c.zero
        c.inject("A", ack=2)
        c.silent(until=20 * SEC)
        assert c.in_state(State.FIN_WAIT2)


# -- the peer closes first


def test_orderly_close_from_the_peers_side() -> None:
    """CLOSE-WAIT, LAST-ACK, CLOSED."""
    with established() as c:
        c.inject("FA")
        c.expect("A", seq=1, ack=2, at=TICK)
        assert c.in_state(State.CLOSE_WAIT) and c.events.seen == ["state"]
        assert c.sock.poll() & (POLLIN | POLLRDHUP | POLLOUT | POLLHUP) == POLLIN | POLLRDHUP | POLLOUT
        assert c.app_recv() == b""
        c.app_close()
        c.expect("FA", seq=1, ack=2)
        assert c.in_state(State.LAST_ACK)
        c.inject("A", ack=2)
        assert c.in_state(State.CLOSE)
        c.silent(until=200 * SEC)
        c.counted(CurrEstab=-1, TCPOrigDataSent=1, TCPDelivered=1, TCPPureAcks=1, DelayedACKs=1)


def test_the_ack_of_a_fin_goes_with_the_fin_of_who_closes_at_once() -> None:
    """tcp_fin enters pingpong mode: one segment instead of two, on every connection whose peer closes first."""
    with established() as c:
        c.inject("FA")
        c.silent()
        c.app_close()
        c.expect("FA", seq=1, ack=2)
        c.inject("A", ack=2)
        assert c.in_state(State.CLOSE)
        c.silent(until=200 * SEC)


def test_after_text_the_ack_of_a_fin_waits_as_long_as_any_other() -> None:
    """For the answer to what was asked: TCP_ATO_MIN, the first segments' quick ACKs notwithstanding."""
    with established() as c:
        c.inject("PA", b"question")
        c.expect("A", ack=9)
        c.mark()
        c.inject("FA")
        c.silent(until=40 * MSEC - 1)
        c.expect("A", seq=1, ack=10, at=40 * MSEC)
        c.counted(DelayedACKs=1)


def test_in_close_wait_we_may_still_send() -> None:
    """3.6, case 2."""
    with close_wait() as c:
        c.app_send(b"still here")
        c.expect("PA", seq=1, ack=2, data=b"still here")
        c.inject("A", ack=11)
        c.app_shutdown(1)
        c.expect("FA", seq=11, ack=2)
        c.inject("A", ack=12)
        assert c.in_state(State.CLOSE)


@pytest.mark.parametrize("constructor", [close_wait, closing, last_ack])
def test_a_fin_sent_again_is_acknowledged_again(constructor: object) -> None:
    """3.10.7.4, eighth: "CLOSE-WAIT: Remain in the CLOSE-WAIT state", and so on: our ACK was lost."""
    assert callable(constructor)
    with constructor() as c:
        state = c.state
        for _ in range(3):
            c.inject("FA", seq=1, ack=1)
            c.expect("A", seq=c.acked, ack=2)
        assert c.in_state(state)
        c.counted(*[Reason.TCP_OLD_DATA] * 3, DelayedACKLost=3)


@pytest.mark.parametrize("constructor", [close_wait, closing, last_ack])
def test_text_beyond_the_peers_fin_is_ignored(constructor: object) -> None:
    """3.10.7.4, seventh: "This should not occur since a FIN has been received from the remote side. Ignore the segment
    text."."""
    assert callable(constructor)
    with constructor() as c:
        state = c.state
        c.inject("PA", b"ghost", seq=2, ack=1)
        assert c.in_state(state) and not c.tp.receive_queue and c.tp.ofo is None
        c.silent()
        c.counted()


@pytest.mark.parametrize("constructor", [close_wait, closing, last_ack])
def test_text_across_the_peers_fin_resets(constructor: object) -> None:
    """It begins before the FIN and goes on behind it: like text for a reader who is gone (tcp_rcv_state_process)."""
    assert callable(constructor)
    with constructor() as c:
        estab = int(c.in_state(State.CLOSE_WAIT))
        c.inject("PA", b"XYghost", seq=0, ack=1)
        c.expect("R", seq=1)
        assert c.in_state(State.CLOSE)
        c.counted(Reason.TCP_ABORT_ON_DATA, OutRsts=1, TCPAbortOnData=1, EstabResets=estab, CurrEstab=-estab)


@pytest.mark.parametrize("constructor", [close_wait, closing, last_ack])
def test_a_second_fin_further_on_is_one_more_number_and_no_more(constructor: object) -> None:
    """Its text ends where the first FIN did, so that none of it lies beyond."""
    assert callable(constructor)
    with constructor() as c:
        state = c.state
        c.inject("FA", b"x", seq=1, ack=1)
        assert c.in_state(state) and not c.tp.receive_queue
        c.run(100 * MSEC)
        c.expect("A", ack=3)


@pytest.mark.parametrize("constructor", [close_wait, closing, last_ack])
def test_an_urgent_pointer_beyond_the_peers_fin_is_taken(constructor: object) -> None:
    """Sixth step: Linux looks at it before it looks at the state."""
    assert callable(constructor)
    with constructor() as c:
        c.inject("UA", b"ghost", seq=2, ack=1, urg=2)
        assert c.tp.urg_data == TCP_URG_VALID | ord("h") and not c.tp.receive_queue
        c.silent()


def test_what_came_out_of_order_beyond_a_fin_is_forgotten() -> None:
    with established() as c:
        c.inject("PA", b"beyond", seq=10)
        c.expect("A", ack=1)
        c.inject("FA", b"12345678", seq=1)
        c.expect("A", ack=10, at=40 * MSEC)
        assert c.in_state(State.CLOSE_WAIT) and c.tp.ofo is None
        assert c.app_recv() == b"12345678" and c.app_recv() == b"" and c.tp.rmem_alloc == 0


def test_a_fin_out_of_order_waits_for_what_is_before_it() -> None:
    with established() as c:
        c.inject("FA", b"5678", seq=5)
        c.expect("A", ack=1)
        assert c.in_state(State.ESTABLISHED)
        c.inject("PA", b"1234", seq=1)
        c.expect("A", ack=10)
        assert c.in_state(State.CLOSE_WAIT) and c.app_recv() == b"12345678" and c.app_recv() == b""


# -- abort


def test_close_with_unread_data_resets() -> None:
    """SHLD-3, RFC 2525 2.17: "a host [...] SHOULD send a RST to show that data was lost"."""
    with established() as c:
        c.inject("PA", b"unread")
        c.expect("A", ack=7)
        c.mark()
        c.app_close()
        c.expect("RA", seq=1, ack=7)
        assert c.in_state(State.CLOSE) and c.tp.rmem_alloc == 0
        c.silent(until=200 * SEC)
        c.counted(OutRsts=1, EstabResets=1, CurrEstab=-1, TCPAbortOnClose=1)


def test_close_with_only_a_fin_unread_does_not_reset() -> None:
    with close_wait() as c:
        c.app_close()
        c.expect("FA", seq=1, ack=2)


@pytest.mark.parametrize("constructor", [established, close_wait, fin_wait1, fin_wait2])
def test_so_linger_zero_resets(constructor: object) -> None:
    """ABORT, 3.10.5: "<SEQ=SND.NXT><CTL=RST>"; SO_LINGER with a time of zero asks for it."""
    assert callable(constructor)
    with constructor() as c:
        open_before = c.state in (State.ESTABLISHED, State.CLOSE_WAIT)
        c.app_setsockopt(SOL_SOCKET, SO_LINGER, NO_LINGER)
        c.app_close()
        c.expect("RA", seq=c.acked, ack=c.nxt)
        assert c.in_state(State.CLOSE)
        c.silent(until=200 * SEC)
        c.counted(OutRsts=1, TCPAbortOnData=1, EstabResets=int(open_before), CurrEstab=-int(open_before))


def test_an_abort_leaves_nothing_queued_behind() -> None:
    with established(window=100) as c:
        c.app_send(bytes(5000))
        c.out.clear()
        c.app_setsockopt(SOL_SOCKET, SO_LINGER, NO_LINGER)
        c.app_close()
        assert c.expect("RA").seq == c.tp.snd_nxt
        assert not c.tp.write_queue and not c.tp.rtx_queue and c.tp.wmem_queued == 0
        c.silent(until=200 * SEC)


def test_so_linger_with_a_time_closes_in_order() -> None:
    with established() as c:
        c.app_setsockopt(SOL_SOCKET, SO_LINGER, pack("=ii", 1, 5))
        c.app_close()
        c.expect("FA", seq=1)


# -- text beyond a hole


@pytest.mark.parametrize("half", [False, True])
def test_our_fin_and_the_ack_of_theirs_still_report_what_came_out_of_order(half: bool) -> None:
    """tcp_fin sends the ACK before it drops the out-of-order queue; closing does not touch that queue at all."""
    with established(peer=Peer(sack=True)) as c:
        c.inject("A", b"late", seq=101)
        assert c.expect("A", seq=1, ack=1).sacks == [((c.iss + 101) & M32, (c.iss + 105) & M32)]
        if half:
            c.app_shutdown()
        else:
            c.app_close()
        assert len(c.expect("FA", seq=1, ack=1).sacks) == 1
        c.inject("A", ack=2, seq=1)
        c.inject("FA", ack=2, seq=1)
        assert len(c.expect("A", seq=2, ack=2).sacks) == int(half)  # of an orphan's only a TIME_WAIT socket is left
        assert c.in_state(State.TIME_WAIT)


def test_a_crossing_fin_is_acknowledged_before_data_goes_on() -> None:
    with established(mss=500, window=1001) as c:
        c.app_send(b"x" * 1500)
        c.app_shutdown()
        c.out.clear()
        c.inject("FA", ack=501)
        c.expect("A", seq=1001, ack=2)
        c.expect("FPA", seq=1001, ack=2, data=b"x" * 500)
        assert c.in_state(State.CLOSING)
        c.inject("R", seq=2)


def test_a_reset_of_ours_tells_the_window_too() -> None:
    with established() as c:
        c.inject("PA", b"unread")
        c.run(SEC)
        c.out.clear()
        c.app_close()
        assert c.expect("RA", seq=1, ack=7).window > 60_000


# -- data for nobody


@pytest.mark.parametrize("state", [State.FIN_WAIT1, State.FIN_WAIT2])
def test_data_after_close_is_answered_with_rst(state: State) -> None:
    """RFC 1122 4.2.2.13: "If such a host issues a CLOSE call while received data
    is still pending [...] or if new data is received after CLOSE is called, its TCP SHOULD send a RST"."""
    with fin_wait1(orphan=True) if state is State.FIN_WAIT1 else fin_wait2(orphan=True) as c:
        c.inject("PA", b"anyone?", ack=2)
        c.expect("R", seq=2)
        assert c.in_state(State.CLOSE)
        c.silent(until=100 * SEC)
        if state is State.FIN_WAIT1:
            c.counted(Reason.TCP_ABORT_ON_DATA, OutRsts=1, TCPAbortOnData=1, TCPDelivered=1)
        else:
            c.counted(Reason.TCP_ABORT_ON_DATA, OutRsts=1)  # a TIME_WAIT socket answers: tcp_timewait_state_process


def test_data_after_shutdown_of_both_directions_is_answered_with_rst() -> None:
    """tcp_rcv_state_process: RCV_SHUTDOWN is enough, the owner need not have closed."""
    with established() as c:
        c.app_shutdown(2)
        c.expect("FA", seq=1)
        c.inject("PA", b"anyone?", ack=2)
        c.expect("R", seq=2)
        assert c.in_state(State.CLOSE) and c.tp.state == State.CLOSE


def test_data_with_a_fin_after_close_is_answered_with_rst() -> None:
    with fin_wait1(orphan=True) as c:
        c.inject("FPA", b"x", ack=2)
        c.expect("R", seq=2)
        assert c.in_state(State.CLOSE)


def test_old_data_sent_again_after_close_is_not() -> None:
    with established() as c:
        c.inject("PA", b"read")
        c.expect("A", ack=5)
        c.app_recv()
        c.app_close()
        c.expect("FA", seq=1, ack=5)
        c.inject("PA", b"read", seq=1, ack=1)
        c.expect("A", seq=2, ack=5)
        assert c.in_state(State.FIN_WAIT1)


# -- orphans


def test_an_orphan_waits_for_the_peers_fin_for_a_minute() -> None:
    """tcp_fin_timeout: RFC 9293 lets FIN-WAIT-2 last for ever, which no host can afford (3.6, 3.10.4)."""
    with fin_wait2(orphan=True) as c:
        assert c.tp.state == State.CLOSE and c.stack.tcp.tables.orphans == set()
        c.silent(until=FIN_TIMEOUT - 2 * MSEC)
        assert c.in_state(State.FIN_WAIT2)
        c.silent(until=FIN_TIMEOUT)
        assert c.in_state(State.CLOSE)
        c.inject("FA", ack=2)
        c.expect("R", seq=2)


def test_an_orphan_in_fin_wait2_that_is_closed_late_waits_from_then() -> None:
    with fin_wait2() as c:
        c.run(500 * SEC)
        c.app_close()
        c.silent()
        c.mark()
        assert c.in_state(State.FIN_WAIT2)
        c.silent(until=FIN_TIMEOUT)
        assert c.in_state(State.CLOSE)


@pytest.mark.parametrize("seconds", [5, 30])
def test_tcp_linger2_is_the_sockets_own_fin_timeout(seconds: int) -> None:
    with established() as c:
        c.app_setsockopt(IPPROTO_TCP, TCP_LINGER2, seconds)
        c.app_close()
        c.expect("FA", seq=1)
        c.inject("A", ack=2)
        c.mark()
        c.silent(until=seconds * SEC - 2 * MSEC)
        assert c.in_state(State.FIN_WAIT2)
        c.silent(until=seconds * SEC)
        assert c.in_state(State.CLOSE)


@pytest.mark.parametrize("late", [False, True])
def test_a_negative_tcp_linger2_does_without_fin_wait2(late: bool) -> None:
    """snmp_counter: TCPAbortOnLinger: "instead of waiting for the fin packet from the other side, kernel could send a
    RST and delete the socket immediately"."""
    with fin_wait2() if late else established() as c:
        c.app_setsockopt(IPPROTO_TCP, TCP_LINGER2, -1)
        c.app_close()
        if late:
            c.expect("RA", seq=2, ack=1)
            c.counted(TCPAbortOnLinger=1, OutRsts=1)
        else:
            c.expect("FA", seq=1)
            c.inject("A", ack=2)
            c.expect("R", seq=2)  # as for data: tcp_rcv_state_process has tcp_v4_do_rcv answer the ACK
            c.counted(
                Reason.TCP_ABORT_ON_DATA,
                OutRsts=1,
                TCPAbortOnData=1,
                TCPDelivered=1,
                TCPOrigDataSent=1,
                TCPPureAcks=1,
                CurrEstab=-1,
            )
        assert c.in_state(State.CLOSE)
        c.silent(until=100 * SEC)


def test_beyond_a_minute_fin_wait2_lasts_in_the_socket() -> None:
    """tcp_fin_time() - TCP_TIMEWAIT_LEN passes by the keepalive timer, and as much again in a TIME_WAIT socket."""
    with established() as c:
        c.app_setsockopt(IPPROTO_TCP, TCP_LINGER2, 90)
        c.app_close()
        c.expect("FA", seq=1)
        c.inject("A", ack=2)
        c.mark()
        c.silent(until=29 * SEC)
        assert c.in_state(State.FIN_WAIT2) and len(c.stack.tcp.tables.timewait) == 0
        c.counted()
        c.silent(until=31 * SEC)
        assert c.in_state(State.FIN_WAIT2) and len(c.stack.tcp.tables.timewait) == 1
        c.counted(TW=1)
        c.silent(until=59 * SEC)
        assert c.in_state(State.FIN_WAIT2)
        c.silent(until=61 * SEC)
        assert c.in_state(State.CLOSE)


def test_a_fin_that_is_not_next_leaves_the_orphan_a_timer() -> None:
    """ "Bad case. We could lose such FIN otherwise": the ACK of ours comes with an old FIN, and no other ever."""
    with fin_wait1(orphan=True) as c:
        c.inject("FA", seq=0, ack=2)
        c.expect("A", seq=2, ack=1)
        c.mark()
        assert c.in_state(State.FIN_WAIT2) and len(c.stack.tcp.tables.timewait) == 0
        c.expect("RA", seq=2, ack=1, at=60 * SEC)
        assert c.in_state(State.CLOSE)
        c.counted(OutRsts=1)


@pytest.mark.parametrize("flags", ["A", "PA", "FA", "SFA", "R", "RA"])
def test_in_fin_wait2_an_orphan_answers_even_a_rst_that_is_out_of_the_window(flags: str) -> None:
    """tcp_timewait_state_process, "Out of window, send ACK": the flags do not matter."""
    with fin_wait2(orphan=True) as c:
        c.inject(flags, seq=100_000, ack=2)
        c.expect("A", seq=2, ack=1)
        assert c.in_state(State.FIN_WAIT2)
        c.counted(Reason.TCP_INVALID_SEQUENCE)


def test_a_syn_and_a_fin_have_a_number_each() -> None:
    """Both at once reach across the edge of what was received: that is data that nobody will read."""
    with fin_wait2(orphan=True) as c:
        c.inject("SFA", b"ab", seq=-1, ack=2)
        c.expect("R", seq=2)
        assert c.in_state(State.CLOSE)


def test_in_fin_wait2_an_orphan_answers_what_is_out_of_the_window() -> None:
    with fin_wait2(orphan=True) as c:
        for _ in range(3):
            c.inject("A", seq=100_000, ack=2)
        c.expect("A", seq=2, ack=1)
        c.silent()
        c.counted(*[Reason.TCP_INVALID_SEQUENCE] * 3, TCPACKSkippedFinWait2=2)
        c.inject("R", seq=100_000)
        c.silent()
        assert c.in_state(State.FIN_WAIT2)


@pytest.mark.parametrize(("flags", "answer"), [("R", ""), ("S", "RA"), ("A", None), ("", None)])
def test_in_fin_wait2_an_orphan_ends_by_rst_or_syn_and_ignores_duplicates(flags: str, answer: str | None) -> None:
    with fin_wait2(orphan=True) as c:
        c.inject(flags, seq=1, ack=2 if "A" in flags else None)
        if answer:
            c.expect(answer)
        c.silent()
        assert c.in_state(State.FIN_WAIT2 if answer is None else State.CLOSE)


def test_too_many_orphans_are_reset() -> None:
    """tcp_max_orphans: each may hold a buffer full of data for minutes (CVE-2013-0075's class)."""
    with listening() as c:
        c.net.sysctl.tcp_max_orphans = 2
        for n in range(3):
            c.pport, c.nxt = 50_000 + n, 0
            c.accepted()
            c.mark()
            c.app_close()
            c.expect("FA", seq=1)
            if n == 2:
                c.expect("RA", seq=2, ack=1)
                c.counted(OutRsts=1, TCPAbortOnMemory=1, CurrEstab=-1, TCPOrigDataSent=1)
        assert len(c.stack.tcp.tables.orphans) == 2


@pytest.mark.parametrize("constructor", [fin_wait1, closing, last_ack])
def test_an_orphan_whose_peer_is_silent_is_given_up_within_minutes(constructor: object) -> None:
    """tcp_orphan_retries: CVE-2013-0075, CVE-2015-5358: FIN_WAIT1, CLOSING and LAST_ACK must end."""
    assert callable(constructor)
    with constructor(orphan=True) as c:
        c.run(210 * SEC)
        assert c.in_state(State.CLOSE) and c.stack.tcp.tables.orphans == set()
        assert 5 <= len(c.out) <= 10 and all(s.flags & 1 for s in c.out)
        c.out.clear()
        c.silent(until=2000 * SEC)


# -- nothing is left


@pytest.mark.parametrize("constructor", [established, close_wait, fin_wait1, closing, last_ack, time_wait])
def test_after_the_end_no_timer_table_or_port_remembers_the_connection(constructor: object) -> None:
    """CVE-2022-1678: a timer of a freed socket."""
    assert callable(constructor)
    with constructor() as c:
        c.inject("R", seq=c.nxt)
        c.app_close()
        assert c.server is not None
        c.server.close()
        tables = c.stack.tcp.tables
        assert not (tables.ehash or tables.requests or tables.timewait or tables.listeners or tables.orphans)
        assert not tables.acks and not tables.wakeups and tables.ports.buckets == {}
        c.silent(until=10_000 * SEC)


def test_timers_do_not_pile_up_over_many_connections() -> None:
    with listening() as c:
        before = -1
        for n in range(200):
            c.pport, c.nxt = 2000 + n, 0
            c.accepted()
            c.inject("PA", b"x")
            c.expect("A")
            c.app_recv()
            c.app_send(b"y")
            c.expect("PA", data=b"y")
            c.inject("R")
            c.app_close()
            if before < 0:
                before = int(c.net.timers.armed)  # of the neighbour and its table
        assert int(c.net.timers.armed) == before


def test_the_listeners_end_resets_what_nobody_accepted() -> None:
    """inet_csk_listen_stop."""
    with listening() as c:
        c.peer_syn()
        c.expect("SA")
        c.inject("A")
        c.mark()
        c.app_close()
        c.expect("RA", seq=1, ack=1)
        assert c.in_state(State.CLOSE) and not c.stack.tcp.tables.ehash
        c.counted(OutRsts=1, CurrEstab=-1, EstabResets=1)


def test_shutdown_of_a_listener_for_reading_stops_it() -> None:
    with listening() as c:
        c.app_shutdown(0)
        c.inject("S", seq=0)
        c.expect("RA", ack=1)


def test_a_socket_that_was_never_used_closes_quietly() -> None:
    with Peer() as c:
        c.app_close()
        c.silent(until=SEC)
        assert c.app_fails(lambda: c.sock.send(b"")) == errno.EBADF
