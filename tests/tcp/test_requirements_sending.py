"""RFC 9293 on sending and receiving text: PUSH (3.9.1), windows that close and shrink (3.8.6), ports (3.9.1.1)."""

from __future__ import annotations

import errno

import pytest

from tests.tcp.peer import MSEC, PEER, SEC, SERVER_PORT, STACK, Peer, code_of, established, tcp_sock
from ustack.inet.options import SO_RCVBUF, SO_REUSEADDR, SOL_SOCKET
from ustack.sock import MSG_MORE, POLLIN, TCP_CLOSE, TCP_LISTEN
from ustack.tcp.states import State

MSS = 1460


# -- PUSH


def test_writes_that_wait_together_go_with_one_push() -> None:
    """SHLD-27: "the sender SHOULD collapse successive bits when it packetizes data, to send the largest possible
    segment"."""
    with established() as c:
        c.inject("A", window=0)
        for text in (b"one", b"two", b"three"):
            c.app_send(text)
        c.inject("A", window=65_535)
        c.expect("PA", seq=1, data=b"onetwothree")


def test_a_writer_may_say_that_more_follows() -> None:
    """MAY-15, MAY-16: without PUSH (MSG_MORE) data "MAY be aggregated [...] until the PUSH" comes."""
    with established() as c:
        c.app_send(b"head ", MSG_MORE)
        c.silent()
        c.app_send(b"tail")
        c.expect("PA", seq=1, data=b"head tail")


def test_what_nobody_pushes_is_not_kept_for_ever() -> None:
    """MUST-60: "MUST NOT buffer data indefinitely"; MUST-61: "MUST set the PSH bit in the last buffered segment"."""
    with established() as c:
        c.app_send(b"forgotten", MSG_MORE)
        c.run(SEC)
        assert c.out and c.out[0].data == b"forgotten"
        c.out.clear()


def test_text_is_told_of_whether_it_was_pushed_or_not() -> None:
    """MAY-17 is left alone, as by every sockets interface: a reader is woken by text, and sees no PSH."""
    for flags in ("A", "PA"):
        with established() as c:
            c.inject(flags, b"text")
            assert c.events.seen == ["data"] and c.sock.poll() & POLLIN
            c.out.clear()


# -- windows


def three_of_five() -> Peer:
    """Five segments written, three of them sent: all that the peer's window takes. ACKs move by one at a time."""
    c = established(window=3 * MSS)
    c.app_send(bytes(5 * MSS))
    assert [len(s.data) for s in c.out] == [MSS] * 3
    c.out.clear()
    c.mark()
    return c


def test_nothing_new_is_sent_into_a_window_that_shrinks() -> None:
    """SHLD-15: "the sender SHOULD NOT send new data"; MUST-34: robust against it."""
    with three_of_five() as c:
        c.inject("A", ack=1 + MSS, window=MSS)
        c.silent(until=100 * MSEC)
        c.inject("A", ack=1 + 2 * MSS, window=2 * MSS)
        assert c.next_segment().seq == (c.irs + 1 + 3 * MSS) & 0xFFFF_FFFF
        c.silent()


def test_what_is_in_the_window_that_is_left_is_retransmitted() -> None:
    """SHLD-16: "but SHOULD retransmit normally the old unacknowledged data between SND.UNA and SND.UNA+SND.WND"."""
    with three_of_five() as c:
        c.inject("A", ack=1 + MSS, window=MSS)
        c.run(5 * SEC)
        assert c.out
        for s in c.out:
            assert (s.seq - c.irs, len(s.data)) == (1 + MSS, MSS)
        c.out.clear()


def test_a_window_that_shrinks_does_not_end_the_connection() -> None:
    """SHLD-17: "the sender SHOULD NOT time out the connection if data beyond the right window edge is not
    acknowledged"; MUST-35: one shrunk to nothing is probed "in the standard way"; MAY-7: with old data beyond it."""
    with three_of_five() as c:
        for _ in range(20):
            c.inject("A", ack=1 + MSS, window=0)
            c.run(100 * SEC)
        assert c.in_state(State.ESTABLISHED)
        assert c.out and all(s.end - c.irs <= 1 + 2 * MSS for s in c.out)
        c.out.clear()
        c.inject("A", ack=1 + MSS, window=3 * MSS)
        c.run(121 * SEC)
        assert any(s.seq - c.irs == 1 + MSS for s in c.out)
        c.out.clear()


def test_a_reset_is_heard_while_the_window_is_closed() -> None:
    """MUST-66: "A TCP receiver MUST process the RST and URG fields of all incoming segments, even when the receive
    window is zero"."""
    with closed() as c:
        c.inject("R")
        c.silent()
        assert c.tp.state == TCP_CLOSE and c.app_error() == errno.ECONNRESET


def test_an_ack_is_heard_while_the_window_is_closed() -> None:
    """RFC 9293 3.10.7.4: "special allowance should be made to accept valid ACKs, URGs, and RSTs"."""
    with closed() as c:
        c.app_send(b"x")
        c.expect("PA", data=b"x")
        c.inject("A")
        assert c.tp.packets_out == 0


def test_our_own_window_may_stay_closed_for_as_long_as_the_reader_likes() -> None:
    """MAY-8: "a TCP receiver MAY keep its offered receive window closed indefinitely", and answers every probe."""
    with closed() as c:
        for _ in range(50):
            c.run(120 * SEC)
            c.inject("A", seq=c.nxt - 1)
            s = c.next_segment()
            assert s.window == 0 and (s.ack - c.iss) & 0xFFFF_FFFF == c.nxt
        assert c.in_state(State.ESTABLISHED)


def closed() -> Peer:
    """Our receive window is closed: nobody reads."""
    c = Peer()
    c.app_setsockopt(SOL_SOCKET, SO_RCVBUF, 6000)
    c = established(peer=c)
    while c.tp.tcp_receive_window():
        c.inject("A", bytes(min(MSS, int(c.tp.tcp_receive_window()))))
    c.run(SEC)
    c.out.clear()
    c.mark()
    return c


# -- one port, several uses


@pytest.mark.parametrize("calling", [False, True])
def test_one_may_listen_on_a_port_from_which_another_calls(calling: bool) -> None:
    """MUST-42: to "LISTEN on a port while a connection block with the same local port is in SYN-SENT or SYN-RECEIVED
    state"; MUST-41: and it does not disturb them."""
    with Peer() as c:
        if calling:
            c.app_setsockopt(SOL_SOCKET, SO_REUSEADDR, 1)
            c.sock.bind((STACK, SERVER_PORT))
            c.app_connect(1234)
            c.expect("S", sport=SERVER_PORT, dport=1234)
        else:
            c.app_setsockopt(SOL_SOCKET, SO_REUSEADDR, 1)
            c.app_listen()
            c.peer_syn()
            c.expect("SA", seq=0)
            c.sock.close()
            c.out.clear()
        other = c.stack.socket()
        other.setsockopt(SOL_SOCKET, SO_REUSEADDR, 1)
        other.bind((STACK, SERVER_PORT))
        other.listen(5)
        assert tcp_sock(other).state == TCP_LISTEN
        if calling:
            c.inject("SA", seq=0, options=c.syn_options())
            c.expect("A", seq=1, sport=SERVER_PORT)
            c.sock.connect((PEER, 1234))
        c.out.clear()


def test_calls_and_listeners_of_other_ports_do_not_meet() -> None:
    """MUST-41: a passive OPEN leaves alone the connections that there are, and they it."""
    with established() as c:
        other = c.stack.socket()
        assert code_of(lambda: other.bind((STACK, SERVER_PORT))) == errno.EADDRINUSE
        other.bind((STACK, SERVER_PORT + 1))
        other.listen(1)
        c.app_send(b"x")
        c.expect("PA", data=b"x")
        c.inject("PA", b"y")
        assert c.app_recv() == b"y"
        c.out.clear()


def test_half_a_window_without_a_push_is_enough_for_who_has_called_too() -> None:
    """forced_push: what was pushed last is counted from the first byte, not from the SYN."""
    for active in (False, True):
        with established(active=active, window=1000) as c:
            c.app_send(bytes(1000))
            c.expect("A", seq=1, data=bytes(500))
            c.expect("PA", seq=501, data=bytes(500))
            c.inject("A")
