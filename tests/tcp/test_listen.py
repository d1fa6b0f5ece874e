"""Segments for nobody and for a listener: RFC 9293 sections 3.10.7.1 (CLOSED) and 3.10.7.2 (LISTEN)."""

from __future__ import annotations

import errno

import pytest

from tests.tcp.peer import PEER, PEER_PORT, SEC, STACK_MAC, Peer, code_of, listening
from ustack.drop import Reason
from ustack.sock import POLLIN
from ustack.tcp.states import State
from ustack.wire.ethernet import ETH_BROADCAST

ETH_MULTICAST = 0x0100_5E00_0001


# -- CLOSED


def test_closed_a_segment_without_ack_gets_rst_with_sequence_zero_that_acknowledges_it() -> None:
    """3.10.7.1: "If the ACK bit is off, sequence number zero is used, <SEQ=0><ACK=SEG.SEQ+SEG.LEN><CTL=RST,ACK>"."""
    with Peer() as c:
        c.inject("S", b"data", seq=0)
        assert c.expect("RA", ack=5).seq == 0
        c.inject("F", b"x", seq=7)
        assert c.expect("RA", ack=9).seq == 0
        c.counted(Reason.NO_SOCKET, Reason.NO_SOCKET, OutRsts=2)


def test_closed_a_segment_with_ack_gets_rst_at_its_own_acknowledgement_number() -> None:
    """3.10.7.1: "If the ACK bit is on, <SEQ=SEG.ACK><CTL=RST>"."""
    with Peer() as c:
        for flags in ("A", "SA", "FA", "PA"):
            c.inject(flags, seq=5, ack=77)
            answer = c.expect("R", seq=77)
            assert answer.ack == 0 and answer.window == 0 and answer.raw_options == b""
        c.counted(*[Reason.NO_SOCKET] * 4, OutRsts=4)


@pytest.mark.parametrize("flags", ["R", "RA", "SR", "RF", "SRA"])
def test_closed_a_rst_is_never_answered(flags: str) -> None:
    """3.10.7.1: "An incoming segment containing a RST is discarded"."""
    with Peer() as c:
        c.inject(flags, ack=1)
        c.silent(until=10 * SEC)
        c.counted(Reason.NO_SOCKET)


@pytest.mark.parametrize("flags", ["", "U", "P"])
def test_closed_even_a_segment_without_control_bits_is_answered(flags: str) -> None:
    with Peer() as c:
        c.inject(flags, b"abc", seq=10)
        c.expect("RA", ack=13)
        c.counted(Reason.NO_SOCKET, OutRsts=1)


def test_closed_a_segment_with_a_wrong_checksum_is_not_answered() -> None:
    """RFC 9293 MUST-3: "The receiver MUST check" the checksum; nothing in such a segment can be believed."""
    with Peer() as c:
        c.inject("S", corrupt=True)
        c.silent(until=SEC)
        c.counted(Reason.TCP_CSUM, InCsumErrors=1, InErrs=1)


def counted_as_malformed(c: Peer, doff: int) -> None:
    """tcp_v4_rcv: an offset that no segment can have is an error of the peer's, one beyond the segment just its end."""
    if doff < 5:
        c.counted(Reason.TCP_MALFORMED, InErrs=1)
    else:
        c.counted(Reason.TCP_TRUNCATED)


@pytest.mark.parametrize("doff", [0, 4, 15])
def test_closed_a_data_offset_that_lies_is_not_answered(doff: int) -> None:
    with Peer() as c:
        c.inject("S", doff=doff)
        c.silent(until=SEC)
        counted_as_malformed(c, doff)


@pytest.mark.parametrize(
    ("dst", "mac"),
    [("192.0.2.2", ETH_BROADCAST), ("192.0.2.255", ETH_BROADCAST), ("255.255.255.255", ETH_BROADCAST)],
)
def test_closed_what_came_by_broadcast_is_not_answered(dst: str, mac: int) -> None:
    """RFC 9293 MUST-57: a TCP "MUST silently discard an incoming SYN segment that is addressed to a broadcast or
    multicast address"; tcp_v4_rcv ignores whatever is not for this host alone."""
    with Peer() as c:
        c.inject("S", dst=dst, mac=mac)
        c.inject("A", dst=dst, mac=mac, ack=1)
        c.silent(until=SEC)
        assert c.moved().get("Tcp.OutRsts", 0) == 0


@pytest.mark.parametrize("dst", ["192.0.2.255", "255.255.255.255"])
def test_closed_a_broadcast_address_in_a_unicast_frame_is_not_answered(dst: str) -> None:
    """tcp_v4_send_reset: only what was routed to a local unicast address gets a RST."""
    with Peer() as c:
        c.inject("A", dst=dst, mac=STACK_MAC, ack=1)
        c.silent(until=SEC)
        assert "Tcp.OutRsts" not in c.moved()


# -- LISTEN


def test_listen_first_a_rst_is_ignored() -> None:
    """3.10.7.2, first: "An incoming RST segment could not be valid [...] should be ignored. Return."."""
    with listening() as c:
        c.inject("R", seq=0)
        c.inject("RA", seq=0, ack=1)
        c.silent(until=SEC)
        c.counted(Reason.TCP_FLAGS, Reason.TCP_FLAGS)
        assert c.in_state(State.LISTEN)


def test_listen_second_any_acknowledgement_is_answered_with_rst() -> None:
    """3.10.7.2, second: "Any acknowledgment is bad if it arrives on a connection still in the LISTEN state"."""
    with listening() as c:
        for flags in ("A", "SA", "FA", "SFA"):
            c.inject(flags, seq=9, ack=1000)
            c.expect("R", seq=1000)
        c.counted(*[Reason.TCP_FLAGS] * 4, OutRsts=4)
        assert c.in_state(State.LISTEN)


def test_listen_third_a_syn_is_answered_with_syn_ack() -> None:
    """3.10.7.2, third: "<SEQ=ISS><ACK=RCV.NXT><CTL=SYN,ACK>", SND.NXT = ISS + 1, SYN-RECEIVED; nobody is told yet."""
    with listening() as c:
        c.peer_syn()
        s = c.expect("SA", seq=0, ack=1)
        assert s.mss == 1460 and s.dont_fragment and s.ttl == 64
        assert c.in_state(State.SYN_RECV)
        assert not c.sock.poll() & POLLIN and c.app_fails(c.sock.accept) == errno.EAGAIN
        c.counted()
        c.inject("R", seq=1)
        c.counted(Reason.TCP_RESET, AttemptFails=1, EmbryonicRsts=1)


def test_listen_text_in_a_syn_is_not_acknowledged() -> None:
    """3.10.7.2: text "should be queued for processing later" or, as Linux without Fast Open does, sent again."""
    with listening() as c:
        c.inject("S", b"early", seq=0, options=c.syn_options())
        c.expect("SA", seq=0, ack=1)
        c.inject("PA", b"early", seq=1, ack=1)
        c.expect("A", seq=1, ack=6)
        c.app_accept()
        assert c.app_recv() == b"early"


@pytest.mark.parametrize("flags", ["", "F", "P", "U", "FPU", "SF", "SFPU", "FU"])
def test_listen_fourth_anything_else_is_dropped_in_silence(flags: str) -> None:
    """3.10.7.2, fourth: "drop the segment, and return"; SYN with FIN means nothing and costs nothing (Linux)."""
    with listening() as c:
        c.inject(flags, b"x", seq=0)
        c.silent(until=5 * SEC)
        c.counted(Reason.TCP_FLAGS)
        assert c.in_state(State.LISTEN) and not c.stack.tcp.tables.requests


@pytest.mark.parametrize(
    ("dst", "mac"),
    [
        ("192.0.2.2", ETH_BROADCAST),
        ("192.0.2.2", ETH_MULTICAST),
        ("192.0.2.255", ETH_BROADCAST),
        ("192.0.2.255", STACK_MAC),
        ("255.255.255.255", STACK_MAC),
        ("224.0.0.1", ETH_MULTICAST),
        ("224.0.0.1", STACK_MAC),
    ],
)
def test_listen_a_syn_to_more_than_one_host_is_dropped_in_silence(dst: str, mac: int) -> None:
    """RFC 9293 MUST-57."""
    with listening() as c:
        c.inject("S", dst=dst, mac=mac)
        c.silent(until=SEC)
        assert not c.stack.tcp.tables.requests and c.moved().get("Tcp.OutRsts", 0) == 0


@pytest.mark.parametrize("src", ["0.0.0.0", "192.0.2.255", "224.0.0.1", "255.255.255.255", "127.0.0.1"])
def test_listen_a_syn_from_no_single_host_is_dropped_in_silence(src: str) -> None:
    """RFC 9293 MUST-63: "an incoming SYN with an invalid source address [...] MUST be ignored"."""
    with listening() as c:
        c.inject("S", src=src)
        c.silent(until=SEC)
        assert not c.stack.tcp.tables.requests


# -- who gets it


def test_the_listener_bound_to_the_address_is_preferred_to_the_one_bound_to_any() -> None:
    """compute_score; both need SO_REUSEPORT of nobody: they are on different addresses."""
    with Peer() as c:
        bound = c.stack.socket()
        c.stack.add_address("192.0.2.3/24", c.dev)
        bound.bind(("192.0.2.3", 80))
        bound.listen(4)
        other = c.stack.socket()
        other.bind(("192.0.2.2", 80))
        other.listen(4)
        c.inject("S", dst="192.0.2.3")
        c.next_segment()
        c.inject("A", seq=1, ack=1, dst="192.0.2.3")
        assert bound.poll() & POLLIN and not other.poll() & POLLIN


def test_a_listener_bound_to_another_address_does_not_hear_of_it() -> None:
    with Peer() as c:
        c.stack.add_address("192.0.2.3/24", c.dev)
        c.sock.bind(("192.0.2.3", 80))
        c.sock.listen(4)
        c.inject("S", seq=0)
        c.expect("RA", ack=1)
        c.counted(Reason.NO_SOCKET, OutRsts=1)


def test_a_listener_hides_from_distant_senders_with_ip_minttl() -> None:
    """RFC 5082 (GTSM): what has travelled too far is dropped, before anything is answered."""
    with listening() as c:
        c.tp.min_ttl = 255
        c.inject("S", ttl=254)
        c.silent(until=SEC)
        c.counted(Reason.TCP_MINTTL, TCPMinTTLDrop=1)
        c.inject("S", ttl=255, seq=0)
        c.expect("SA", seq=0)


def test_only_a_listener_can_accept_and_only_a_closed_socket_can_listen() -> None:
    with Peer() as c:
        assert code_of(c.sock.accept) == errno.EINVAL
        c.app_listen(3)
        assert code_of(lambda: c.sock.connect((PEER, PEER_PORT))) == errno.EISCONN
        c.sock.listen(5)
        assert c.tp.max_ack_backlog == 5
