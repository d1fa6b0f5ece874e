"""Close, shutdown and disconnect in the states where they are anything but plain (Linux __tcp_close, tcp_disconnect,
inet_shutdown), and SO_LINGER for whoever can wait."""

from __future__ import annotations

import errno
from struct import pack

import pytest

from tests.tcp.host import SEC
from tests.tcp.peer import (
    MSEC,
    PEER,
    SERVER_PORT,
    STACK,
    Peer,
    close_wait,
    closing,
    established,
    fin_wait1,
    fin_wait2,
    last_ack,
    listening,
    simultaneous,
    syn_recv,
    syn_sent,
)
from ustack.drop import Reason
from ustack.inet.options import SO_LINGER, SO_REUSEADDR, SOL_SOCKET
from ustack.inet.sockaddr import AF_UNSPEC, SockaddrIn
from ustack.sock import POLLERR, POLLHUP, POLLIN, POLLOUT, POLLRDHUP, SIOCOUTQ
from ustack.tcp.close import sk_stream_closing
from ustack.tcp.options import IPPROTO_TCP, TCP_CORK, TCP_LINGER2, TCP_NODELAY, TCP_USER_TIMEOUT
from ustack.tcp.states import State
from ustack.wire.tcp import TCPHDR_ACK, TCPHDR_RST

NO_LINGER = pack("=ii", 1, 0)
UNSPEC = SockaddrIn(0, 0, AF_UNSPEC)


# -- shutdown


def test_shutdown_of_a_socket_that_is_not_connected() -> None:
    """ENOTCONN, but whoever polls it sees the hang-up all the same (inet_shutdown)."""
    with Peer() as c:
        assert c.app_fails(lambda: c.sock.shutdown(2)) == errno.ENOTCONN
        assert c.sock.poll() & (POLLHUP | POLLRDHUP) == POLLHUP | POLLRDHUP
        assert c.app_fails(lambda: c.sock.shutdown(-1)) == errno.EINVAL
        assert c.app_fails(lambda: c.sock.shutdown(3)) == errno.EINVAL


def test_a_fin_that_waited_for_the_handshake_echoes_its_last_timestamp() -> None:
    """tcp_rcv_state_process: tcp_ack has taken the timestamp before tcp_shutdown sends."""
    with simultaneous(peer=Peer(timestamps=True)) as c:
        c.app_shutdown(1)
        c.silent()
        c.run(50 * MSEC)
        stamp = c.tsval()
        c.inject("A", ack=1)
        assert c.expect("FA", seq=1, ack=1).tsecr == stamp
        c.inject("R", seq=1)


def test_shutdown_of_writing_leaves_a_listener_alone() -> None:
    """inet_shutdown: only SHUT_RD ends listening."""
    with listening() as c:
        c.app_shutdown(1)
        assert c.in_state(State.LISTEN)
        c.peer_syn()
        c.expect("SA")
        c.app_shutdown(0)
        c.inject("A")
        c.expect("R", seq=1)
        assert c.in_state(State.CLOSE)


def test_shutdown_of_reading_says_nothing_on_the_wire() -> None:
    """Data that comes is taken and acknowledged: "this case is too obscure to slow down the fast path"."""
    with established() as c:
        c.app_shutdown(0)
        assert c.sock.recv(10) == b""
        assert c.sock.poll() & (POLLIN | POLLRDHUP | POLLHUP) == POLLIN | POLLRDHUP
        c.silent()
        c.inject("PA", b"hello")
        c.expect("A", ack=6)
        assert c.app_recv() == b"hello"
        c.app_send(b"still")
        c.expect("PA", data=b"still")
        c.inject("A")


@pytest.mark.parametrize("how", [0, 1, 2])
def test_shutdown_of_a_call_under_way_ends_it(how: int) -> None:
    with syn_sent() as c:
        c.app_shutdown(how)
        assert c.in_state(State.CLOSE)
        c.silent(until=10 * SEC)


def test_shutdown_in_syn_recv_waits_for_the_handshake() -> None:
    """tcp_shutdown leaves SYN_RECV out: the FIN goes once there is a connection to end."""
    with simultaneous() as c:
        c.app_shutdown(1)
        c.silent()
        c.inject("A", ack=1)
        c.expect("FA", seq=1, ack=1)
        assert c.in_state(State.FIN_WAIT1)
        c.inject("RA", ack=2)


@pytest.mark.parametrize("constructor", [fin_wait1, fin_wait2, closing])
def test_a_second_shutdown_changes_nothing(constructor: object) -> None:
    assert callable(constructor)
    with constructor() as c:
        was = c.state
        c.app_shutdown(1)
        c.silent()
        assert c.in_state(was)
        c.inject("RA", ack=2)


def test_after_both_directions_are_shut_everything_is_ready() -> None:
    with established() as c:
        c.app_shutdown(2)
        c.expect("FA")
        wanted = POLLIN | POLLOUT | POLLHUP | POLLRDHUP
        assert c.sock.poll() == wanted
        assert c.sock.recv(1) == b""
        assert c.app_fails(lambda: c.sock.send(b"x")) == errno.EPIPE
        c.inject("RA", ack=2)


# -- SO_LINGER


@pytest.mark.parametrize(("constructor", "reset"), [(syn_sent, False), (simultaneous, True)])
def test_linger_zero_before_the_handshake_is_done(constructor: object, reset: bool) -> None:
    """tcp_disconnect: a SYN that nobody has answered needs no RST (tcp_need_reset); it counts as aborted data."""
    assert callable(constructor)
    with constructor() as c:
        c.app_setsockopt(SOL_SOCKET, SO_LINGER, NO_LINGER)
        c.app_close()
        if reset:
            c.expect("RA", seq=1)
        c.silent(until=10 * SEC)
        c.counted(TCPAbortOnData=1, OutRsts=int(reset))  # the owner has taken it back: nothing has failed


@pytest.mark.parametrize("constructor", [last_ack, closing])
def test_linger_zero_when_our_fin_is_out_needs_no_reset(constructor: object) -> None:
    """ "The last check adjusts for discrepancy of Linux wrt. RFC states": a RST only if data did not get out."""
    assert callable(constructor)
    with constructor(orphan=False) as c:
        c.app_setsockopt(SOL_SOCKET, SO_LINGER, NO_LINGER)
        c.app_close()
        c.silent(until=10 * SEC)
        c.counted(TCPAbortOnData=1)


def test_linger_zero_with_data_before_the_fin_resets() -> None:
    with close_wait() as c:
        c.inject("A", window=0)
        c.app_send(b"never")
        c.app_shutdown(1)
        c.out.clear()
        assert c.in_state(State.LAST_ACK)
        c.app_setsockopt(SOL_SOCKET, SO_LINGER, NO_LINGER)
        c.app_close()
        c.expect("RA", seq=1)
        c.silent(until=10 * SEC)


def test_linger_with_a_time_is_for_who_can_wait() -> None:
    """sk_stream_closing: until the FIN is acknowledged; the stack itself goes on in any case."""
    with established() as c:
        c.app_setsockopt(SOL_SOCKET, SO_LINGER, pack("=ii", 1, 5))
        assert not sk_stream_closing(c.tp)
        c.app_send(b"last words")
        c.app_close()
        c.out.clear()
        assert sk_stream_closing(c.tp)
        c.inject("A")
        assert not sk_stream_closing(c.tp) and c.in_state(State.FIN_WAIT2)
        c.inject("FA")
        c.out.clear()


def test_linger_can_be_switched_off_again() -> None:
    with established() as c:
        c.app_setsockopt(SOL_SOCKET, SO_LINGER, NO_LINGER)
        c.app_setsockopt(SOL_SOCKET, SO_LINGER, pack("=ii", 0, 0))
        c.app_close()
        c.expect("FA", seq=1)
        c.inject("RA", ack=2)


# -- close with data unread


@pytest.mark.parametrize("constructor", [last_ack, closing])
def test_unread_data_resets_in_every_state(constructor: object) -> None:
    """__tcp_close: whatever was agreed on about ending, data was lost (RFC 9293 SHLD-3)."""
    assert callable(constructor)
    with established() as c:
        c.inject("PA", b"unread")
        c.out.clear()
        if constructor is last_ack:
            c.inject("FA")
            c.app_shutdown(1)
        else:
            c.app_shutdown(1)
            c.inject("FA", ack=1)
        c.run(SEC // 10)
        c.out.clear()
        c.mark()
        c.app_close()
        c.expect("RA", seq=2)
        c.silent(until=10 * SEC)
        c.counted(TCPAbortOnClose=1, OutRsts=1)


# -- orphans


def test_too_many_orphans_are_reset() -> None:
    """tcp_too_many_orphans: one more than tcp_max_orphans."""
    with established() as c:
        c.net.sysctl.tcp_max_orphans = 0
        c.app_close()
        c.expect("FA", seq=1)
        c.expect("RA", seq=2)
        c.counted(TCPAbortOnMemory=1, OutRsts=1, CurrEstab=-1, TCPOrigDataSent=1)
        assert not c.stack.tcp.tables.orphans


def test_a_listener_takes_those_with_it_that_were_not_accepted() -> None:
    """inet_csk_listen_stop: the accept queue's connections are reset, the half-open ones wait for their timer."""
    with listening() as c:
        c.peer_syn()
        c.expect("SA")
        c.inject("A")
        c.pport += 1
        c.inject("S", seq=0, sport=c.pport)
        c.out.clear()
        c.app_close()
        assert [(s.flags, s.dport) for s in c.out] == [(TCPHDR_RST | TCPHDR_ACK, c.pport - 1)]
        c.out.clear()
        tables = c.stack.tcp.tables
        assert not tables.listeners and len(tables.requests) == 1 and not tables.ehash and not tables.orphans
        c.silent(until=2 * SEC)
        assert len(tables.requests) == 0


def test_a_half_open_connection_outlives_its_listener_and_keeps_its_four_tuple() -> None:
    """tcp_v4_rcv drops a request whose listener is gone and looks again; until then inet_hash_connect finds it."""
    with listening() as c:
        c.peer_syn()
        c.expect("SA")
        c.mark()
        c.app_close()
        c.counted()
        caller = c.stack.socket()
        caller.setsockopt(SOL_SOCKET, SO_REUSEADDR, 1)
        caller.bind((STACK, SERVER_PORT))
        assert c.app_fails(lambda: caller.connect((PEER, c.pport))) == errno.EADDRNOTAVAIL
        c.inject("A", ack=1)
        c.expect("R", seq=1)
        c.counted(Reason.NO_SOCKET, OutRsts=1)
        assert c.app_fails(lambda: caller.connect((PEER, c.pport))) == errno.EINPROGRESS
        c.expect("S")
        caller.close()


def test_a_listener_that_listens_again_finishes_what_was_half_open() -> None:
    with listening() as c:
        c.peer_syn()
        c.expect("SA")
        c.app_shutdown(0)
        c.sock.listen(5)
        c.inject("A", ack=1)
        assert c.in_state(State.ESTABLISHED)


def test_the_time_in_fin_wait2_is_the_sockets_own() -> None:
    with fin_wait2() as c:
        c.app_setsockopt(IPPROTO_TCP, TCP_LINGER2, 3)
        c.app_close()
        c.run(2900 * MSEC)
        assert c.in_state(State.FIN_WAIT2)
        c.run(200 * MSEC)
        assert c.in_state(State.CLOSE)


# -- disconnect


@pytest.mark.parametrize("constructor", [established, close_wait, fin_wait1, fin_wait2])
def test_connect_to_af_unspec_resets_and_frees_the_socket(constructor: object) -> None:
    """tcp_disconnect: it can call again, and nothing of the first connection is left in it."""
    assert callable(constructor)
    with constructor() as c:
        c.sock.connect(UNSPEC)
        c.poll()
        c.expect("RA", seq=c.acked)
        assert c.app_error() == errno.ECONNRESET
        assert c.tp.state == State.CLOSE and c.tp.bytes_sent == 0 and c.tp.srtt == 0 and c.tp.segs_out == 0
        c.pport, c.nxt, c.server = 81, 0, None
        c.app_connect(81)
        c.expect("S", seq=0, dport=81)
        c.inject("SA", options=c.syn_options())
        c.expect("A", seq=1, dport=81)
        c.app_send(b"again")
        c.expect("PA", seq=1, data=b"again", dport=81)
        c.inject("RA")


def test_disconnect_keeps_what_was_set() -> None:
    with established() as c:
        for name, value in ((TCP_NODELAY, 1), (TCP_CORK, 1), (TCP_USER_TIMEOUT, 5000)):
            c.app_setsockopt(IPPROTO_TCP, name, value)
        c.sock.connect(UNSPEC)
        c.poll()
        c.out.clear()
        for name, value in ((TCP_NODELAY, 1), (TCP_CORK, 1), (TCP_USER_TIMEOUT, 5000)):
            assert c.sock.getsockopt(IPPROTO_TCP, name) == value


def test_what_a_listener_was_forbidden_its_connections_may_not_do_either() -> None:
    """The bits that a shutdown leaves on an unconnected socket outlast listen, and go over to each child (sk_clone)."""
    with Peer() as c:
        assert c.app_fails(lambda: c.sock.shutdown(1)) == errno.ENOTCONN
        c.app_listen()
        c.peer_syn()
        c.expect("SA", seq=0, ack=1)
        c.inject("A", ack=1)
        c.expect("FA", seq=1, ack=1)
        c.app_accept()
        assert c.in_state(State.FIN_WAIT1)
        c.inject("R", seq=1)


def test_disconnect_of_a_listener_and_of_nothing() -> None:
    with syn_recv() as c:
        assert c.server is not None
        c.server.connect(UNSPEC)
        assert c.server.sk.state == State.CLOSE
        c.server.connect(UNSPEC)
        c.silent(until=10 * SEC)


def test_disconnect_of_a_call_under_way_needs_no_reset() -> None:
    with syn_sent() as c:
        c.sock.connect(UNSPEC)
        c.poll()
        c.silent(until=10 * SEC)
        assert c.app_error() == errno.ECONNRESET
        assert c.sock.ioctl(SIOCOUTQ) == 3  # write_seq + max_window + 2: beyond what the last peer would take
        c.counted()
        isn = c.irs
        c.app_connect()
        c.expect("S")
        assert c.irs == (isn + 3) & 0xFFFF_FFFF  # the next connection's numbers go on from there


def test_a_reset_ends_the_back_off_but_not_the_memory_of_what_was_lost() -> None:
    """tcp_done_with_error purges the queues (tcp_write_queue_purge): what tcp_info tells of them stays as it was."""
    with established() as c:
        c.app_send(b"x")
        c.run(2 * SEC)
        c.out.clear()
        assert c.tp.backoff > 0 and c.tp.lost_out == 1 and c.tp.retrans_out == 1
        c.inject("R", seq=1)
        assert (c.tp.backoff, c.tp.packets_out, c.tp.lost_out, c.tp.retrans_out) == (0, 0, 1, 1)
        c.sock.connect(UNSPEC)
        assert (c.tp.lost_out, c.tp.retrans_out) == (0, 0)


def test_an_error_is_seen_by_poll_and_told_once() -> None:
    with established() as c:
        c.inject("RA")
        assert c.sock.poll() & (POLLERR | POLLHUP | POLLIN) == POLLERR | POLLHUP | POLLIN
        assert c.app_error() == errno.ECONNRESET and c.app_error() == 0
        assert not c.sock.poll() & POLLERR


@pytest.mark.parametrize("orphan", [True, False])
def test_a_fin_beyond_what_nobody_will_read_is_answered_with_rst(orphan: bool) -> None:
    """tcp_rcv_state_process: there is data before such a FIN, and it will be lost."""
    with fin_wait2(orphan=True) if orphan else established() as c:
        if not orphan:
            c.app_shutdown(2)
            c.expect("FA", seq=1)
        c.inject("FA", seq=101, ack=2)
        c.expect("R", seq=2)
        assert c.in_state(State.CLOSE)
        assert orphan or c.app_error() == errno.ECONNRESET


def test_the_owner_who_has_only_shut_down_learns_of_the_reset() -> None:
    with established() as c:
        c.app_shutdown(2)
        c.expect("FA", seq=1)
        c.inject("PA", b"anyone?", ack=2)
        c.expect("R", seq=2)
        assert c.app_error() == errno.ECONNRESET


@pytest.mark.parametrize(("seconds", "counter"), [(3, "TcpExt.TWKilled"), (30, "TcpExt.TW")])
def test_a_short_wait_for_the_peers_fin_is_counted_apart(seconds: int, counter: str) -> None:
    """__inet_twsk_schedule: up to four seconds it is TWKilled."""
    with established() as c:
        c.app_setsockopt(IPPROTO_TCP, TCP_LINGER2, seconds)
        c.app_close()
        c.expect("FA", seq=1)
        before = c.net.mib.snapshot()
        c.inject("A", ack=2)
        after = c.net.mib.snapshot()
        assert {name for name in ("TcpExt.TW", "TcpExt.TWKilled") if after[name] != before[name]} == {counter}
        c.run(60 * SEC)
