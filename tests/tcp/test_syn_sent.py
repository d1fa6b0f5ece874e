"""Active opens: RFC 9293 sections 3.10.1 (OPEN) and 3.10.7.3 (SYN-SENT), with Linux's timing and errors."""

from __future__ import annotations

import errno

import pytest

from tests.tcp.peer import MSEC, PEER, SEC, STACK, Peer, code_of, syn_sent
from ustack.drop import Reason
from ustack.inet.sockaddr import AF_UNSPEC, SockaddrIn
from ustack.sock import POLLERR, POLLHUP, POLLIN, POLLOUT, POLLRDHUP
from ustack.tcp.options import IPPROTO_TCP, TCP_SYNCNT
from ustack.tcp.states import State


def test_open_sends_a_syn_and_nothing_is_promised_to_the_caller() -> None:
    """3.10.1: "A SYN segment of the form <SEQ=ISS><CTL=SYN> is sent. [...] enter SYN-SENT state"."""
    with Peer() as c:
        c.app_connect(4000)
        s = c.expect("S", seq=0, dport=4000)
        assert s.ack == 0 and s.mss == 1460 and s.wscale >= 0 and s.saw_tstamp and s.tsecr == 0
        assert s.dont_fragment and s.ttl == 64
        assert c.in_state(State.SYN_SENT) and c.sock.poll() == 0
        assert c.app_fails(lambda: c.sock.connect((PEER, 4000))) == errno.EALREADY
        assert c.app_fails(lambda: c.sock.send(b"x")) == errno.EAGAIN
        assert c.app_fails(lambda: c.sock.recv(1)) == errno.EAGAIN
        assert c.app_fails(c.sock.getpeername) == errno.ENOTCONN
        c.counted(ActiveOpens=1)


def test_syn_ack_establishes_at_once() -> None:
    """3.10.7.3, fourth: "If SND.UNA > ISS [...] change the connection state to ESTABLISHED, form an ACK segment
    <SEQ=SND.NXT><ACK=RCV.NXT><CTL=ACK>"."""
    with syn_sent() as c:
        c.inject("SA", options=c.syn_options())
        c.expect("A", seq=1, ack=1)
        assert c.in_state(State.ESTABLISHED) and c.sock.poll() == POLLOUT
        assert c.events.seen == ["state", "space"]
        c.counted(CurrEstab=1, TCPDelivered=1)
        c.sock.connect((PEER, 80))  # answers now: connected
        assert code_of(lambda: c.sock.connect((PEER, 80))) == errno.EISCONN
        assert c.timers_pending() == 0
        c.silent(until=300 * SEC)


# -- first: the ACK


@pytest.mark.parametrize("ack", [0, 2, 1000, 0x8000_0000, -1 & 0xFFFF_FFFF])
@pytest.mark.parametrize("flags", ["SA", "A", "FA"])
def test_first_an_unacceptable_ack_is_answered_with_rst_and_the_open_goes_on(flags: str, ack: int) -> None:
    """3.10.7.3, first: "If SEG.ACK =< ISS or SEG.ACK > SND.NXT, send a reset [...] <SEQ=SEG.ACK><CTL=RST>"."""
    with syn_sent() as c:
        c.inject(flags, ack=ack)
        c.expect("R", seq=ack)
        assert c.in_state(State.SYN_SENT)
        c.counted(Reason.TCP_INVALID_ACK_SEQUENCE, OutRsts=1)


def test_first_a_rst_with_an_unacceptable_ack_is_dropped_in_silence() -> None:
    """3.10.7.3, first: "unless the RST bit is set, if so drop the segment and return"."""
    with syn_sent() as c:
        for ack in (0, 2, 0x7FFF_FFFF):
            c.inject("RA", seq=0, ack=ack)
        c.silent()
        assert c.in_state(State.SYN_SENT)
        c.counted(*[Reason.TCP_INVALID_ACK_SEQUENCE] * 3)


def test_first_after_a_wrong_ack_the_syn_goes_again_at_once() -> None:
    """Figure 9, recovery from half-open connections: the peer had an old one in mind, our RST ends it, and our SYN is
    welcome then (tcp_rcv_synsent_state_process: TCP_TIMEOUT_MIN, if it has not been sent again yet)."""
    with syn_sent() as c:
        c.inject("A", seq=300, ack=100)
        c.expect("R", seq=100)
        c.expect("S", seq=0, at=2 * MSEC)
        c.inject("A", seq=300, ack=100)
        c.expect("R", seq=100)
        c.silent(until=SEC)
        assert c.moved()["TcpExt.TCPSynRetrans"] == 1


# -- second: the RST


def test_second_a_rst_with_an_acceptable_ack_means_connection_refused() -> None:
    """3.10.7.3, second: "If the ACK was acceptable, then signal to the user "error: connection reset"", which Linux
    calls ECONNREFUSED here."""
    with syn_sent() as c:
        c.inject("RA", seq=0, ack=1)
        assert c.in_state(State.CLOSE)
        assert c.events.seen == ["error", "state"]
        assert c.sock.poll() & (POLLERR | POLLHUP) == POLLERR | POLLHUP
        assert c.app_fails(lambda: c.sock.connect((PEER, 80))) == errno.ECONNREFUSED
        c.silent(until=300 * SEC)
        c.counted(Reason.TCP_RESET, AttemptFails=1)


def test_second_a_rst_without_ack_proves_nothing() -> None:
    with syn_sent() as c:
        c.inject("R", seq=0)
        assert c.in_state(State.SYN_SENT)
        c.counted(Reason.TCP_RESET)


# -- fourth: the SYN; fifth: neither


@pytest.mark.parametrize("flags", ["", "A", "F", "P", "FA", "U"])
def test_fifth_without_syn_or_rst_the_segment_is_dropped(flags: str) -> None:
    """3.10.7.3, fifth: "if neither of the SYN or RST bits is set, then drop the segment and return"."""
    with syn_sent() as c:
        c.inject(flags, b"x", seq=0, ack=1)
        assert c.in_state(State.SYN_SENT)
        c.silent(until=900 * MSEC)
        c.counted(Reason.TCP_FLAGS)


def test_text_and_fin_on_a_syn_ack_are_left_to_be_sent_again() -> None:
    """MAY in 3.10.7.3; Linux without Fast Open takes only the SYN."""
    with syn_sent() as c:
        c.inject("SA", b"early", seq=0, ack=1, options=c.syn_options())
        c.expect("A", seq=1, ack=1)
        c.inject("PA", b"early", seq=1, ack=1)
        c.expect("A", seq=1, ack=6)
        assert c.app_recv() == b"early"


def test_a_timestamp_echo_of_the_future_is_not_our_syns_echo() -> None:
    """tcp_rcv_synsent_state_process: TSecr must lie between the first SYN and now, else PAWSActive and a reset."""
    with syn_sent(Peer(timestamps=True)) as c:
        syn_tsval = c.tsecr
        c.run(300 * MSEC)
        for tsecr in (syn_tsval - 1, syn_tsval + 301):
            c.tsecr = tsecr
            c.inject("SA", seq=0, ack=1, options=c.syn_options())
            c.expect("R", seq=1)
            assert c.in_state(State.SYN_SENT)
        c.counted(Reason.TCP_OLD_SEQUENCE, Reason.TCP_OLD_SEQUENCE, OutRsts=2, PAWSActive=2)
        c.tsecr = syn_tsval
        c.inject("SA", seq=0, ack=1, options=c.syn_options())
        c.expect("A", seq=1, ack=1)


# -- time


def test_the_syn_is_sent_again_every_second_then_after_2_4_seconds_and_given_up_after_131() -> None:
    """RFC 6298 (2.1) and (5.5) with tcp_syn_linear_timeouts 4 and tcp_syn_retries 6: ETIMEDOUT after 1 + 1 + 1 + 1 +
    1 + 2 + ... + 64 s. MUST-23 wants R2 to be at
    least three minutes for a SYN; like Linux this is a default that tcp_syn_retries can raise."""
    with syn_sent() as c:
        for at in (1, 2, 3, 4, 5, 7, 11, 19, 35, 67):
            c.expect("S", seq=0, at=at * SEC)
        c.silent(until=131 * SEC - 1)
        assert c.in_state(State.SYN_SENT) and c.events.seen == []
        c.silent(until=131 * SEC)
        assert c.in_state(State.CLOSE) and c.events.seen == ["error", "state"]
        assert c.app_fails(lambda: c.sock.connect((PEER, 80))) == errno.ETIMEDOUT
        c.silent(until=1000 * SEC)
        c.counted(
            AttemptFails=1,
            RetransSegs=10,
            TCPSynRetrans=10,
            TCPTimeouts=11,
            TCPLostRetransmit=9,
            TCPAbortOnTimeout=1,
        )


def test_tcp_syncnt_is_the_sockets_own_limit() -> None:
    with Peer() as c:
        c.app_setsockopt(IPPROTO_TCP, TCP_SYNCNT, 2)
        c.app_connect()
        c.expect("S", seq=0)
        c.mark()
        for at in (1, 2, 3, 4, 5):  # and tcp_syn_linear_timeouts, but no longer than 1 + 2 + 4 s in all
            c.expect("S", seq=0, at=at * SEC)
        c.silent(until=7 * SEC)
        assert c.app_error() == errno.ETIMEDOUT


def test_all_syns_together_take_no_longer_than_doubling_would() -> None:
    """tcp_model_timeout: with one retry 1 + 2 s, whatever tcp_syn_linear_timeouts adds."""
    with Peer() as c:
        c.app_setsockopt(IPPROTO_TCP, TCP_SYNCNT, 1)
        c.app_connect()
        c.expect("S", seq=0)
        c.mark()
        c.expect("S", seq=0, at=SEC)
        c.expect("S", seq=0, at=2 * SEC)
        c.silent(until=3 * SEC - 1)
        assert c.app_error() == 0
        c.silent(until=3 * SEC)
        assert c.app_error() == errno.ETIMEDOUT


def test_a_retransmitted_syn_has_the_same_sequence_number_and_options_but_a_new_timestamp() -> None:
    with Peer() as c:
        c.app_connect()
        first = c.expect("S", seq=0)
        c.mark()
        second = c.expect("S", seq=0, at=SEC)
        assert (second.seq, second.mss, second.wscale, second.window) == (
            first.seq,
            first.mss,
            first.wscale,
            first.window,
        )
        assert (second.tsval - first.tsval) & 0xFFFF_FFFF == 1000


def test_a_syn_ack_after_the_second_syn_is_as_good() -> None:
    with syn_sent() as c:
        c.expect("S", seq=0, at=SEC)
        c.inject("SA", options=c.syn_options())
        c.expect("A", seq=1, ack=1)
        assert c.in_state(State.ESTABLISHED)
        c.silent(until=100 * SEC)


# -- the caller lets go


def test_close_deletes_the_connection_in_silence() -> None:
    """3.10.4 CLOSE in SYN-SENT: "Delete the TCB and return "error: closing" responses"; a late SYN-ACK finds nobody."""
    with syn_sent() as c:
        c.app_close()
        assert c.in_state(State.CLOSE)
        c.silent(until=10 * SEC)
        c.inject("SA", seq=0, ack=1)
        c.expect("R", seq=1)
        c.counted(Reason.NO_SOCKET, OutRsts=1)


def test_shutdown_ends_the_attempt_too() -> None:
    with syn_sent() as c:
        c.app_shutdown(1)
        assert c.in_state(State.CLOSE)
        c.silent(until=10 * SEC)


def test_connect_to_af_unspec_ends_the_attempt_and_the_socket_can_connect_again() -> None:
    with syn_sent(Peer(timestamps=True, mss=900)) as c:
        c.inject("SA", options=c.syn_options())
        c.expect("A", seq=1)
        c.sock.connect((PEER, 80))
        c.sock.connect(SockaddrIn(0, 0, AF_UNSPEC))
        c.poll()
        c.expect("RA", seq=1, ack=1)
        assert c.in_state(State.CLOSE)
        c.timestamps, c.mss = False, None
        c.nxt = 0
        c.app_connect(81)
        s = c.expect("S", seq=0)
        assert s.tsecr == 0 and s.saw_tstamp and s.mss == 1460
        c.inject("SA", options=c.syn_options())
        s = c.expect("A", seq=1, ack=1)
        assert not s.saw_tstamp
        assert c.app_error() == 0 and c.tp.mss_cache == 536
        assert c.app_send(b"again") == 5
        c.expect("PA", seq=1, ack=1, data=b"again")


def test_after_a_refusal_the_same_socket_may_try_again() -> None:
    with syn_sent() as c:
        c.inject("RA", seq=0, ack=1)
        assert c.app_fails(lambda: c.sock.connect((PEER, 80))) == errno.ECONNREFUSED
        c.nxt = 0
        c.app_connect(80)
        c.expect("S", seq=0)
        c.inject("SA", options=c.syn_options())
        c.expect("A", seq=1, ack=1)
        c.sock.connect((PEER, 80))


# -- what cannot be connected to


@pytest.mark.parametrize("address", ["255.255.255.255", "192.0.2.255", "224.0.0.1"])
def test_groups_cannot_be_connected_to(address: str) -> None:
    """RFC 9293 MUST-46: a TCP "MUST reject as an error a local OPEN call for an invalid remote IP address"."""
    with Peer() as c:
        assert c.app_fails(lambda: c.sock.connect((address, 80))) == errno.ENETUNREACH
        c.silent(until=SEC)
        c.counted()


def test_without_a_route_connect_fails_at_once_and_leaves_no_port_behind() -> None:
    with Peer() as c:
        assert c.app_fails(lambda: c.sock.connect(("198.51.100.1", 80))) == errno.ENETUNREACH
        assert c.stack.tcp.tables.ports.buckets == {} and c.sock.getsockname().port == 0


# -- calling oneself


def test_a_socket_connected_to_itself_opens_simultaneously_and_echoes() -> None:
    """Linux permits it: SYN_SENT meets its own SYN (RFC 9293 figure 8), and what is sent is what is read."""
    with Peer() as c:
        c.sock.bind((STACK, 5000))
        assert code_of(lambda: c.sock.connect((STACK, 5000))) == errno.EINPROGRESS
        c.run(100 * MSEC)
        assert c.tp.state == State.ESTABLISHED
        c.sock.connect((STACK, 5000))
        c.app_send(b"hello")
        c.run(100 * MSEC)
        assert c.app_recv() == b"hello"
        c.app_close()
        c.run(SEC)
        assert c.tp.state in (State.CLOSE, State.TIME_WAIT)


def test_poll_of_a_socket_that_was_never_connected_says_hang_up() -> None:
    """tcp_poll: a new socket is both closed and writable to nobody."""
    with Peer() as c:
        assert c.sock.poll() & (POLLHUP | POLLOUT) == POLLHUP | POLLOUT
        assert not c.sock.poll() & (POLLIN | POLLRDHUP)
        assert c.app_fails(lambda: c.sock.send(b"x")) == errno.EPIPE
        assert c.app_fails(lambda: c.sock.recv(1)) == errno.ENOTCONN
        assert c.app_fails(lambda: c.sock.shutdown(1)) == errno.ENOTCONN
