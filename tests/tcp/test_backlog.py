"""The two queues of a listener: half-open and finished connections (listen(2), RFC 4987; Linux
inet_connection_sock.c)."""

from __future__ import annotations

import errno

import pytest

from tests.tcp.peer import SEC, Peer, listening
from ustack.drop import Reason
from ustack.sock import POLLIN
from ustack.tcp.states import State


def syn(c: Peer, port: int) -> None:
    """The peer calls from ``port``."""
    c.pport, c.nxt = port, 0
    c.peer_syn()


def finish(c: Peer, port: int) -> None:
    syn(c, port)
    c.expect("SA", seq=0, ack=1)
    c.inject("A", ack=1)


def test_the_accept_queue_holds_one_more_than_the_backlog() -> None:
    """sk_acceptq_is_full() compares with ">"."""
    with listening(backlog=2) as c:
        for n in range(3):
            finish(c, 1000 + n)
        assert c.tp.accept_queue is not None and len(c.tp.accept_queue) == 3
        c.mark()
        syn(c, 2000)
        c.silent()
        c.counted(Reason.TCP_LISTEN_OVERFLOW, ListenOverflows=1, ListenDrops=1)
        for n in range(3):
            assert c.sock.accept().getpeername().port == 1000 + n  # in the order they came
        assert c.app_fails(c.sock.accept) == errno.EAGAIN
        syn(c, 2000)
        c.expect("SA", seq=0)


def test_a_handshake_that_ends_while_the_accept_queue_is_full_waits() -> None:
    """tcp_v4_syn_recv_sock: the ACK is ignored; data or the repeated SYN-ACK's ACK may find room."""
    with listening(backlog=0) as c:
        syn(c, 1000)
        c.expect("SA", seq=0)
        first = c.irs
        finish(c, 1001)
        c.mark()
        c.pport, c.irs = 1000, first
        c.inject("PA", b"early", seq=1, ack=1)
        c.silent()
        assert c.in_state(State.SYN_RECV)
        c.counted(Reason.TCP_LISTEN_OVERFLOW, ListenOverflows=1, ListenDrops=1)
        c.sock.accept()
        c.inject("PA", b"early", seq=1, ack=1)
        c.expect("A", ack=6)
        assert c.in_state(State.ESTABLISHED) and c.sock.accept().recv(10) == b"early"


def test_tcp_abort_on_overflow_answers_with_rst_instead() -> None:
    with listening(backlog=0) as c:
        c.net.sysctl.tcp_abort_on_overflow = 1
        syn(c, 1000)
        c.expect("SA", seq=0)
        first = c.irs
        finish(c, 1001)
        c.mark()
        c.pport, c.irs = 1000, first
        c.inject("A", seq=1, ack=1)
        c.expect("R", seq=1)
        assert c.tp.syn_queue_len == 0
        c.counted(Reason.TCP_LISTEN_OVERFLOW, ListenOverflows=1, ListenDrops=1, OutRsts=1, EmbryonicRsts=1)


@pytest.mark.parametrize("backlog", [0, 3, 20])
def test_half_open_connections_are_bounded_by_the_backlog(backlog: int) -> None:
    """inet_csk_reqsk_queue_is_full() compares with ">", like the accept queue's (Linux 6.18); without cookies what
    comes then is dropped (TCPReqQFullDrop)."""
    with listening(backlog) as c:
        c.net.sysctl.tcp_syncookies = 0
        for n in range(backlog + 1):
            syn(c, 1000 + n)
            c.expect("SA", seq=0)
        c.mark()
        for n in range(5):
            syn(c, 5000 + n)
        c.silent()
        c.counted(*[Reason.TCP_REQQ_FULL] * 5, TCPReqQFullDrop=5, ListenDrops=5)
        c.mark()
        c.run(64 * SEC)  # the SYN-ACKs are given up, and there is room
        c.out.clear()
        assert c.tp.syn_queue_len == 0 and c.tp.syn_queue_young == 0 and not c.stack.tcp.tables.requests
        syn(c, 6000)
        c.expect("SA", seq=0)


def test_without_cookies_the_last_quarter_is_for_peers_that_are_known() -> None:
    """tcp_conn_request: the "last quarter of backlog is filled with destinations, proven to be alive"."""
    with listening(100) as c:
        c.net.sysctl.tcp_syncookies = 0
        c.net.sysctl.tcp_max_syn_backlog = 8
        finish(c, 999)
        for n in range(7):
            c.inject("S", seq=0, src="192.0.2.9", sport=1000 + n)
            c.expect("SA", dst="192.0.2.9", dport=1000 + n)
        c.mark()
        c.inject("S", seq=0, src="192.0.2.9", sport=2000)
        c.silent()
        c.counted(Reason.TCP_LISTEN_UNPROVEN, ListenDrops=1)
        syn(c, 2001)  # has finished a handshake before
        c.expect("SA", seq=0)


def test_old_requests_make_room_for_young_ones() -> None:
    """reqsk_timer_handler: half of the room is for the young; the others are given up sooner than after five times."""
    with listening(20) as c:
        for n in range(15):
            syn(c, 1000 + n)
        c.run(8 * SEC)  # 1, 3, 7: nobody is young any more
        assert c.tp.syn_queue_young == 0 and c.tp.syn_queue_len == 10
        c.run(24 * SEC)  # who is not in the way has all the time there is
        assert c.tp.syn_queue_len == 10
        c.out.clear()


def test_other_listeners_and_connections_do_not_suffer_from_a_full_queue() -> None:
    with listening(backlog=0) as c:
        other = c.stack.socket()
        other.bind(("", 81))
        other.listen(8)
        for n in range(30):
            syn(c, 1000 + n)
        c.out.clear()
        c.inject("S", seq=0, dport=81)
        s = c.next_segment()
        assert s.sport == 81 and s.flags == 0x12


def test_the_backlog_can_be_changed_while_listening() -> None:
    with listening(backlog=0) as c:
        finish(c, 1000)
        syn(c, 1001)
        c.silent()
        c.sock.listen(5)
        syn(c, 1001)
        c.expect("SA", seq=0)


def test_somaxconn_caps_the_backlog() -> None:
    with Peer() as c:
        c.net.sysctl.somaxconn = 3
        c.app_listen(100)
        assert c.tp.max_ack_backlog == 3


@pytest.mark.parametrize("flags", ["R", "FA"])
def test_a_connection_that_ends_before_accept_is_still_accepted(flags: str) -> None:
    """CVE-1999-0396: accept() after a RST; Linux hands the dead socket out and the owner finds out by reading."""
    with listening() as c:
        finish(c, 1000)
        c.inject(flags)
        c.out.clear()
        assert c.sock.poll() & POLLIN
        c.app_accept()
        if flags == "R":
            assert c.app_fails(lambda: c.sock.recv(1)) == errno.ECONNRESET
        assert c.app_recv() == b""
        c.app_close()
        c.out.clear()


def test_a_child_has_what_its_listener_had() -> None:
    """inet_csk_clone_lock."""
    with Peer() as c:
        tp = c.tp
        tp.tos, tp.uc_ttl, tp.mark, tp.keepopen, tp.nonagle = 0x10, 33, 7, True, 1
        c.app_listen()
        c.peer_syn()
        s = c.expect("SA")
        assert s.ttl == 33 and s.tos == 0x10
        c.inject("A")
        c.app_accept()
        child = c.tp
        assert (child.tos, child.uc_ttl, child.mark, child.keepopen, child.nonagle) == (0x10, 33, 7, True, 1)
        c.app_send(b"x")
        s = c.expect("PA", data=b"x")
        assert s.ttl == 33 and s.tos == 0x10


def test_many_connections_whose_tuples_share_a_key_are_told_apart() -> None:
    """The tables' key leaves the highest bit of the foreign address out: such connections are chained and compared."""
    with listening() as c:
        pairs = ["192.0.2.1", "64.0.2.1"]  # they differ in that bit only
        c.stack.add_gateway("192.0.2.1")
        isns = {}
        for src in pairs:
            c.inject("S", src=src, seq=0)
            c.expect("SA", dst=src)
            isns[src] = c.irs
        tables = c.stack.tcp.tables
        assert c.tp.syn_queue_len == len(tables.requests) == 2 and len(tables.requests.heads) == 1
        for src in pairs:
            c.irs = isns[src]
            c.inject("PA", src.encode(), src=src, seq=1, ack=1)
            c.expect("A", ack=1 + len(src), dst=src)
        assert c.tp.syn_queue_len == 0 and not tables.requests and len(tables.ehash) == 1
        for src in pairs:
            sock = c.sock.accept()
            assert sock.getpeername().pair()[0] == src and sock.recv(20) == src.encode()
        for src in pairs:
            c.irs = isns[src]
            c.inject("R", src=src, seq=1 + len(src))
        assert not tables.ehash
