"""Urgent data in (RFC 9293 section 3.8.5, RFC 6093; Linux tcp_check_urg, tcp_urg, tcp_recv_urg, tcp_recvmsg)."""

from __future__ import annotations

import errno

import pytest

from tests.tcp.peer import Peer, established, syn_sent
from ustack.sock import MSG_OOB, MSG_PEEK, MSG_TRUNC
from ustack.tcp.control import TCP_URG_NOTYET, TCP_URG_READ, TCP_URG_VALID
from ustack.tcp.receive import tcp_inq, tcp_stream_is_readable
from ustack.tcp.urgent import at_mark


def oob(c: Peer, flags: int = 0) -> bytes:
    return c.app_recv(1, MSG_OOB | flags)


def oob_fails(c: Peer) -> int:
    return c.app_fails(lambda: c.sock.recv(1, MSG_OOB))


def urgent(c: Peer, data: bytes, pointer: int) -> None:
    c.inject("PAU", data, urg=pointer)
    c.out.clear()


def test_the_byte_is_read_out_of_line_and_the_stream_has_a_mark_where_it_was() -> None:
    """RFC 9293 MUST-31: "A TCP implementation MUST inform the application layer asynchronously whenever it receives an
    urgent pointer"; MUST-32: a way to learn "how much urgent data remains to be read"."""
    with established() as c:
        urgent(c, b"abcdef", 4)
        assert c.events.seen == ["data"]
        assert c.tp.urg_data == TCP_URG_VALID | ord("d")
        assert tcp_inq(c.tp) == 3 and not at_mark(c.tp)
        assert oob(c, MSG_PEEK) == b"d"
        assert oob(c) == b"d"
        assert c.tp.urg_data == TCP_URG_READ
        assert oob_fails(c) == errno.EINVAL
        assert c.app_recv() == b"abc"  # reading stops at the mark
        assert at_mark(c.tp)
        assert c.app_recv() == b"ef"
        assert c.tp.urg_data == 0 and not at_mark(c.tp)


def test_in_line_it_stays_where_it_is_and_reading_still_stops_before_it() -> None:
    """SO_OOBINLINE: RFC 6093 section 5 recommends it for new programs."""
    with established() as c:
        c.tp.oobinline = True
        urgent(c, b"abcdef", 4)
        assert oob_fails(c) == errno.EINVAL
        assert tcp_inq(c.tp) == 6
        assert c.app_recv() == b"abc"
        assert at_mark(c.tp)
        assert c.app_recv() == b"def"
        assert c.tp.urg_data == 0


def test_peeking_stops_at_the_mark_and_passes_over_the_byte_too() -> None:
    with established() as c:
        urgent(c, b"abcdef", 4)
        assert c.app_recv(100, MSG_PEEK) == b"abc"
        assert c.app_recv(3) == b"abc"
        assert c.app_recv(100, MSG_PEEK) == b"ef"
        assert at_mark(c.tp)  # peeking moves nothing
        assert oob(c) == b"d"
        assert c.app_recv() == b"ef"


def test_the_urgent_byte_alone_is_nothing_to_read() -> None:
    with established() as c:
        urgent(c, b"!", 1)
        assert not tcp_stream_is_readable(c.tp, 1)
        assert oob(c) == b"!"
        assert c.app_fails(lambda: c.sock.recv(10)) == errno.EAGAIN
        assert c.tp.urg_data == 0 and c.tp.rmem_alloc == 0
        urgent(c, b"xy", 1)
        assert tcp_stream_is_readable(c.tp, 1)
        assert c.app_recv() == b"y"
        assert oob_fails(c) == errno.EINVAL  # passed unread: it is gone


def test_the_pointer_may_come_before_the_byte() -> None:
    """tcp_recv_urg: EAGAIN while it is announced and not here."""
    with established() as c:
        c.inject("AU", b"ab", urg=5)
        c.out.clear()
        assert c.tp.urg_data == TCP_URG_NOTYET
        assert oob_fails(c) == errno.EAGAIN
        assert c.app_recv() == b"ab"
        c.inject("A", b"cdef")
        c.out.clear()
        assert oob(c) == b"e"
        assert c.app_recv() == b"cd"
        assert c.app_recv() == b"f"


def test_there_is_none_without_urg() -> None:
    with established() as c:
        c.inject("A", b"abc", urg=2)
        c.out.clear()
        assert oob_fails(c) == errno.EINVAL
        assert c.app_recv() == b"abc"


@pytest.mark.parametrize(("stdurg", "byte", "head"), [(0, b"b", b"a"), (1, b"c", b"ab")])
def test_where_the_pointer_points(stdurg: int, byte: bytes, head: bytes) -> None:
    """RFC 9293 MUST-62: "the last octet [...] in the sequence of urgent data"; what everybody does, and Linux unless
    tcp_stdurg, is one past it (RFC 6093 section 2.1)."""
    with established() as c:
        c.net.sysctl.tcp_stdurg = stdurg
        urgent(c, b"abcd", 2)
        assert oob(c) == byte
        assert c.app_recv() == head


def test_a_newer_pointer_moves_the_mark_and_an_older_does_not() -> None:
    """RFC 9293: "RCV.UP <- max(RCV.UP,SEG.UP)"."""
    with established() as c:
        urgent(c, b"ab", 2)
        urgent(c, b"cd", 2)
        assert oob(c) == b"d"
        c.inject("AU", b"ef", urg=1)
        c.out.clear()
        assert oob(c) == b"e"
        c.inject("AU", seq=1, urg=3)  # of an old segment
        c.out.clear()
        assert oob_fails(c) == errno.EINVAL
        assert c.app_recv() == b"abcd"


def test_the_second_byte_while_the_reader_stands_at_the_first() -> None:
    """tcp_check_urg: the first one is passed then, or it would be read as ordinary text."""
    with established() as c:
        urgent(c, b"a!", 2)
        assert c.app_recv() == b"a"
        assert oob(c) == b"!"
        urgent(c, b"b?", 2)
        assert oob(c) == b"?"
        assert c.app_recv() == b"b"
        assert c.tp.rmem_alloc > 0
        assert c.app_fails(lambda: c.sock.recv(1)) == errno.EAGAIN
        assert c.tp.rmem_alloc == 0


def test_a_pointer_into_what_was_received_already_says_nothing() -> None:
    """Do not replay the pointer: tcp_check_urg."""
    with established() as c:
        c.inject("A", b"abcd")
        c.inject("AU", b"", seq=5, urg=0)
        c.out.clear()
        c.inject("AU", b"d", seq=4, urg=1)
        c.out.clear()
        assert c.app_recv() == b"abcd"


def test_out_of_band_of_no_length_and_truncated() -> None:
    with established() as c:
        urgent(c, b"a!", 2)
        assert c.app_recv(0, MSG_OOB | MSG_PEEK) == b""
        assert c.app_recv(1, MSG_OOB | MSG_TRUNC) == b"\0"
        assert oob_fails(c) == errno.EINVAL
        assert c.app_recv() == b"a"


def test_after_the_end_nothing_urgent_will_come() -> None:
    with established() as c:
        c.inject("AU", b"ab", urg=9)
        c.inject("FA")
        c.out.clear()
        assert oob(c) == b""
        assert c.app_recv() == b"ab"


def test_header_prediction_stands_aside_while_a_mark_is_ahead() -> None:
    """pred_flags = 0: RFC 9293's sixth step must see every segment until the reader has passed the mark."""
    with established() as c:
        urgent(c, b"abc", 2)
        c.mark()
        c.inject("A", b"def")
        c.out.clear()
        assert c.moved().get("TcpExt.TCPHPHits", 0) == 0
        assert c.app_recv() == b"a"
        assert c.app_recv() == b"cdef"
        c.inject("A", b"ghi")
        c.out.clear()
        assert c.moved()["TcpExt.TCPHPHits"] == 1
        assert c.app_recv() == b"ghi"


def test_the_mark_survives_the_wrap_of_sequence_numbers() -> None:
    with established(iss=0xFFFF_FFFD) as c:
        urgent(c, b"abcdef", 5)
        assert oob(c) == b"e"
        assert c.app_recv() == b"abcd"
        assert c.app_recv() == b"f"


def test_of_the_text_of_a_syn_ack_the_urgent_byte_is_taken() -> None:
    """tcp_rcv_state_process, SYN_SENT: "Do step6 onward by hand": tcp_urg, though the text has been dropped."""
    with syn_sent() as c:
        c.inject("SAU", b"abc", seq=0, ack=1, urg=3, options=c.syn_options())
        c.expect("A", seq=1, ack=1)
        assert oob(c) == b"b" and c.tp.rcv_nxt == (c.tp.irs + 1) & 0xFFFF_FFFF
