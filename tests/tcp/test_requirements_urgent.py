"""RFC 9293 section 3.8.5, the urgent mechanism, and RFC 6093, by which the pointer is read as RFC 9293 says.

Linux: one urgent byte, the last of those announced, read by MSG_OOB or in line; more of them push the older one aside.
"""

from __future__ import annotations

import errno

from tests.tcp.peer import Peer, established
from ustack.inet.options import SO_OOBINLINE, SO_RCVBUF, SOL_SOCKET
from ustack.sock import MSG_OOB, POLLIN, POLLPRI, SIOCATMARK

MSS = 1460


def test_the_pointer_is_one_past_the_last_urgent_byte() -> None:
    """MUST-62: "the sequence number of the octet following the urgent data"; the last byte before it is the one that
    MSG_OOB reads (MUST-30)."""
    with established() as c:
        c.inject("PAU", b"abc", urg=3)
        c.out.clear()
        assert c.app_recv(100, MSG_OOB) == b"c"
        assert c.app_recv() == b"ab"
        assert c.app_fails(lambda: c.sock.recv(1, MSG_OOB)) == errno.EINVAL


def test_urgent_data_is_sent_with_the_pointer_behind_it() -> None:
    """MUST-30, MUST-62; what lies behind it is not held by Nagle while urgent data is in flight (tcp_nagle_test)."""
    with established() as c:
        c.app_send(b"abc", MSG_OOB)
        assert c.expect("PAU", seq=1, data=b"abc").urg_ptr == 3
        c.app_send(b"plain")
        assert c.expect("PA", seq=4, data=b"plain").urg_ptr == 0
        c.inject("A")
        c.app_send(b"more")
        assert c.expect("PA", data=b"more").urg_ptr == 0


def test_urgent_data_may_be_of_any_length() -> None:
    """MUST-31: "a sequence of urgent data of any length": every segment points at its end."""
    with established() as c:
        c.app_send(bytes(3000), MSG_OOB)
        assert len(c.out) == 3
        for s in c.out:
            assert s.flags & 32 and (s.seq - c.irs + s.urg_ptr) & 0xFFFF_FFFF == 3001
        c.out.clear()


def test_the_application_is_told_at_once_that_urgent_data_is_coming() -> None:
    """MUST-32: "MUST inform the application layer asynchronously whenever it receives an urgent pointer and there was
    previously no pending urgent data": even before the byte itself is there."""
    with established() as c:
        assert not c.sock.poll() & POLLPRI
        c.inject("AU", b"ab", urg=3)
        c.out.clear()
        assert c.events.seen
        assert c.app_fails(lambda: c.sock.recv(1, MSG_OOB)) == errno.EAGAIN
        c.inject("A", b"c")
        assert c.sock.poll() & POLLPRI
        c.out.clear()


def test_the_application_can_learn_how_much_is_left_to_the_mark() -> None:
    """MUST-33: "a way for the application to learn how much urgent data remains to be read, or at least to determine
    whether more urgent data remains": a read stops at the mark, and SIOCATMARK says that it is there."""
    with established() as c:
        c.inject("PAU", b"abcde", urg=3)
        c.out.clear()
        assert not at_mark(c)
        assert c.app_recv() == b"ab"
        assert at_mark(c)
        assert c.app_recv() == b"de"


def test_in_line_the_mark_is_in_the_stream() -> None:
    """SO_OOBINLINE: nothing is taken out, reads stop at the mark."""
    with established() as c:
        c.app_setsockopt(SOL_SOCKET, SO_OOBINLINE, 1)
        c.inject("PAU", b"abcde", urg=3)
        c.out.clear()
        assert c.app_recv() == b"ab"
        assert at_mark(c)
        assert c.app_recv() == b"cde"


def test_urgent_data_is_heard_of_while_the_window_is_closed() -> None:
    """MUST-66: "MUST process the RST and URG fields of all incoming segments, even when the receive window is zero"."""
    c = Peer()
    c.app_setsockopt(SOL_SOCKET, SO_RCVBUF, 6000)
    with established(peer=c):
        while c.tp.tcp_receive_window():
            c.inject("A", bytes(min(MSS, int(c.tp.tcp_receive_window()))))
        c.out.clear()
        c.events.seen.clear()
        c.inject("AU", urg=10)
        c.out.clear()
        assert c.tp.urg_data and c.events.seen
        assert c.sock.poll() & POLLIN


def at_mark(c: Peer) -> bool:
    return bool(c.sock.ioctl(SIOCATMARK))
