"""What a send may say beside its bytes, and how it fails: MSG_OOB, MSG_EOR, PSH, autocorking (tcp_sendmsg_locked)."""

from __future__ import annotations

import errno

from tests.tcp.peer import Peer, established
from ustack.sock import MSG_EOR, MSG_MORE, MSG_OOB, POLLOUT
from ustack.tcp.options import IPPROTO_TCP, TCP_CORK, TCP_NODELAY

# -- urgent


def test_urgent_data_has_its_pointer_until_it_is_acknowledged() -> None:
    """RFC 9293 MUST-30, MUST-62: "the sequence number of the octet following the urgent data" (tcp_mark_urg)."""
    with established() as c:
        c.app_send(b"abc", MSG_OOB)
        s = c.expect("PAU", seq=1, data=b"abc")
        assert s.urg_ptr == 3
        c.inject("A")
        c.app_send(b"later")
        assert c.expect("PA", seq=4, data=b"later").urg_ptr == 0
        c.inject("A")


# -- records


def test_nothing_is_appended_to_the_end_of_a_record() -> None:
    """MSG_EOR: a segment ends where the record does, however full; what comes after begins another (eor)."""
    with established() as c:
        c.app_setsockopt(IPPROTO_TCP, TCP_CORK, 1)
        c.app_send(b"one", MSG_EOR)
        c.silent()
        c.app_send(b"two")
        c.expect("PA", seq=1, data=b"one")  # it will not grow any more: no cork holds it
        c.inject("A")
        c.app_send(b"three")
        c.silent()
        c.app_setsockopt(IPPROTO_TCP, TCP_CORK, 0)
        c.expect("PA", seq=4, data=b"twothree")
        c.inject("A")


def test_more_to_come_holds_a_record_back_all_the_same() -> None:
    with established() as c:
        c.app_send(b"x", MSG_EOR | MSG_MORE)
        c.silent()
        c.app_send(b"y")
        c.expect("A", seq=1, data=b"x")
        c.inject("A")
        c.expect("PA", seq=2, data=b"y")
        c.inject("A")


# -- when it fails


def test_a_send_tells_the_pending_error_first() -> None:
    """sk_stream_error: EPIPE only if there is no other; the error is told once."""
    with established() as c:
        c.app_shutdown(1)
        c.out.clear()
        c.tp.err = errno.EHOSTUNREACH
        assert c.app_fails(lambda: c.sock.send(b"x")) == errno.EHOSTUNREACH
        assert c.app_fails(lambda: c.sock.send(b"x")) == errno.EPIPE
        assert c.app_fails(lambda: c.sock.send(b"")) == errno.EPIPE, "even of nothing"
        c.inject("RA")


def test_before_a_connection_there_is_nobody_to_send_to() -> None:
    """sk_stream_wait_connect: EPIPE for a socket that has not called, EAGAIN while it does."""
    with Peer() as c:
        assert c.app_fails(lambda: c.sock.send(b"x")) == errno.EPIPE
        c.app_connect()
        c.expect("S")
        assert c.app_fails(lambda: c.sock.send(b"x")) == errno.EAGAIN
        assert not c.sock.poll() & POLLOUT
        c.inject("RA", seq=0, ack=1)
        assert c.app_fails(lambda: c.sock.send(b"x")) == errno.ECONNREFUSED


def test_sending_nothing_does_nothing() -> None:
    with established() as c:
        assert c.app_send(b"") == 0
        assert c.app_send(b"", MSG_EOR) == 0
        c.silent()
        c.counted()


def test_small_writes_gather_while_the_device_is_busy() -> None:
    """tcp_should_autocork: earlier segments wait for the device, so these may as well wait for them."""
    with established() as c:
        c.app_setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)
        c.sock.send(b"first")
        assert not c.out
        c.dev.queue.qlen += 1  # something waits
        c.sock.send(b"second")
        c.sock.send(b"third")
        c.dev.queue.qlen -= 1
        c.poll()
        c.expect("PA", seq=1, data=b"first")
        c.expect("PA", seq=6, data=b"secondthird")
        c.counted(TCPAutoCorking=1, TCPOrigDataSent=2)
        c.inject("A")
