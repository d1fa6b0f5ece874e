"""Explicit congestion notification on the wire (RFC 3168 section 6.1)."""

from __future__ import annotations

import pytest

from tests.tcp.peer import MSEC, PEER, SEC, Peer, Segment, established, tcp_sock
from tests.tcp.test_route_metrics import give
from ustack.device.e1000 import E1000_FEATURES
from ustack.routing.metrics import RTAX_FEATURE_ECN
from ustack.routing.uapi import RTAX_FEATURES
from ustack.tcp.congestion.reno import Reno
from ustack.tcp.control import (
    TCP_CA_CWR,
    TCP_CA_OPEN,
    TCP_ECN_OK,
    TCP_ECN_QUEUE_CWR,
    TcpControl,
)

MSS = 1460
NOT_ECT, ECT1, ECT0, CE = 0, 1, 2, 3
ECE, CWR = 0x40, 0x80


class Scalable(Reno):
    """An algorithm that needs ECN, as DCTCP does; it writes down what it is told of marks."""

    def __init__(self) -> None:
        super().__init__()
        self.name = "scalable"
        self.needs_ecn = True
        self.events: list[int] = []

    def cwnd_event(self, tp: TcpControl, event: int) -> None:
        if event >= 4:
            self.events.append(event)


def peer(tcp_ecn: int, fallback: int = 1, **more: int) -> Peer:
    c = Peer(features=more.get("features", 0))
    c.net.sysctl.tcp_ecn = tcp_ecn
    c.net.sysctl.tcp_ecn_fallback = fallback
    return c


def ecn(c: Peer) -> bool:
    return c.tp.ecn_flags & TCP_ECN_OK != 0


def active(c: Peer, answer: str = "SAE") -> Peer:
    """The stack calls, the peer answers with these flags."""
    c.app_connect()
    c.next_segment()
    c.inject(answer, options=c.syn_options())
    c.expect("A", seq=1, ack=1)
    c.mark()
    return c


def passive(c: Peer, syn: str = "SEC", tos: int = NOT_ECT) -> Segment:
    """The peer calls with these flags; the SYN-ACK."""
    c.app_listen()
    c.nxt = 0
    c.inject(syn, options=c.syn_options(), tos=tos)
    return c.next_segment()


def with_ecn(features: int = 0, cwnd: int = 10) -> Peer:
    """Established from outside, ECN agreed."""
    c = peer(2, features=features)
    passive(c)
    c.inject("A")
    c.app_accept()
    c.tp.snd_cwnd = cwnd
    c.mark()
    assert ecn(c)
    return c


# -- handshakes


@pytest.mark.parametrize(("tcp_ecn", "flags"), [(0, "S"), (1, "SEC"), (2, "S")])
def test_who_asks_for_it(tcp_ecn: int, flags: str) -> None:
    """tcp_ecn 1 asks and accepts, 2 only accepts. RFC 3168 6.1.1: ECT is not set on a SYN."""
    with peer(tcp_ecn) as c:
        c.app_connect()
        assert c.expect(flags, seq=0).tos & 3 == NOT_ECT


@pytest.mark.parametrize(("answer", "agreed"), [("SAE", True), ("SA", False), ("SAEC", False), ("SAC", False)])
def test_what_answer_is_a_yes(answer: str, agreed: bool) -> None:
    """RFC 3168 6.1.1: "an ECN-setup SYN-ACK packet" has ECE and not CWR; some hosts reflect both."""
    with peer(1) as c:
        active(c, answer)
        assert ecn(c) is agreed
        c.app_send(b"x")
        assert c.expect("PA", data=b"x").tos & 3 == (ECT0 if agreed else NOT_ECT)


def test_an_answer_nobody_asked_for() -> None:
    with peer(2) as c:
        active(c, "SAE")
        assert not ecn(c)


@pytest.mark.parametrize("tcp_ecn", [0, 1, 2])
@pytest.mark.parametrize("syn", ["S", "SE", "SC", "SEC"])
@pytest.mark.parametrize("tos", [NOT_ECT, ECT0, CE])
def test_who_accepts_it(tcp_ecn: int, syn: str, tos: int) -> None:
    """Both bits, and no ECT on the SYN itself: that is an experiment, or broken (RFC 8311)."""
    with peer(tcp_ecn) as c:
        synack = passive(c, syn, tos)
        agreed = tcp_ecn != 0 and syn == "SEC" and tos == NOT_ECT
        assert synack.flags & (ECE | CWR) == (ECE if agreed else 0)
        assert synack.tos & 3 == NOT_ECT
        c.inject("A")
        c.app_accept()
        assert ecn(c) is agreed


@pytest.mark.parametrize("fallback", [0, 1])
def test_a_syn_that_is_lost_goes_again_without_it(fallback: int) -> None:
    """RFC 3168 6.1.1.1: "sending a non-ECN-setup SYN"; a late answer to the first one still counts."""
    with peer(1, fallback) as c:
        c.app_connect()
        c.expect("SEC", seq=0)
        c.run(SEC)
        c.expect("S" if fallback else "SEC", seq=0)
        c.inject("SAE", options=c.syn_options())
        c.expect("A", seq=1, ack=1)
        assert ecn(c)


def test_after_the_fallback_a_plain_answer_means_no() -> None:
    with peer(1) as c:
        c.app_connect()
        c.out.clear()
        c.run(SEC)
        c.expect("S", seq=0)
        c.inject("SA", options=c.syn_options())
        c.expect("A", seq=1, ack=1)
        assert not ecn(c)


@pytest.mark.parametrize(("syn", "agreed"), [("SEC", True), ("S", False)])
def test_a_simultaneous_open(syn: str, agreed: bool) -> None:
    with peer(1) as c:
        c.app_connect()
        c.expect("SEC", seq=0)
        c.inject(syn, options=c.syn_options())
        c.expect("SAE" if agreed else "SA", seq=0, ack=1)
        assert ecn(c) is agreed


def test_a_route_may_want_it() -> None:
    """RTAX_FEATURES: ``features ecn`` on the route, whatever the sysctl says."""
    for tcp_ecn in (0, 2):
        with peer(tcp_ecn) as c:
            give(c.stack, PEER, {RTAX_FEATURES: RTAX_FEATURE_ECN})
            c.app_connect()
            c.expect("SEC", seq=0)
        with peer(tcp_ecn) as c:
            give(c.stack, PEER, {RTAX_FEATURES: RTAX_FEATURE_ECN})
            assert passive(c).flags & ECE


# -- what is sent


def test_new_data_is_ect_and_nothing_else() -> None:
    """RFC 3168 6.1.4 and 6.1.5: no ECT on pure ACKs, nor on anything that is sent again."""
    with with_ecn() as c:
        c.app_send(b"abc")
        assert c.expect("PA", seq=1, data=b"abc").tos & 3 == ECT0
        c.run(SEC)
        while c.out:
            assert c.next_segment().tos & 3 == NOT_ECT  # the retransmissions
        c.inject("A", b"hello")
        c.run(SEC)
        assert c.expect("A", ack=6).tos & 3 == NOT_ECT
        c.app_send(b"def")
        assert c.expect("PAC", seq=4, data=b"def").tos & 3 == ECT0  # the window was reduced


def test_the_rest_of_the_tos_is_the_user_s() -> None:
    with with_ecn() as c:
        c.tp.tos |= 0xB8
        c.app_send(b"abc")
        assert c.expect("PA", data=b"abc").tos == 0xB8 | ECT0


def test_without_ecn_nothing_is_ect() -> None:
    with established() as c:
        c.app_send(b"abc")
        assert c.expect("PA", data=b"abc").tos == 0
        c.inject("AE")
        assert c.tp.ca_state == TCP_CA_OPEN


# -- being told of congestion


def test_ce_is_echoed_until_cwr() -> None:
    """RFC 3168 6.1.3: "the TCP receiver [...] sets the ECN-Echo flag in the TCP header of the subsequent ACK packet"
    and continues "until it receives a CWR packet"."""
    with with_ecn() as c:
        c.inject("A", b"1", tos=ECT0)
        c.expect("A", ack=2)
        c.inject("A", b"2", tos=CE)
        c.expect("AE", ack=3)
        c.inject("A", b"3", tos=ECT0)
        c.expect("AE", ack=4)
        c.app_send(b"x")
        c.expect("PAE", ack=4, data=b"x")
        c.inject("AC", b"4", tos=ECT0)
        c.expect("A", ack=5)  # at once: the peer's window may be one segment
        c.inject("AC", b"5", tos=CE)  # both: CWR is for the last one, CE is new
        c.expect("AE", ack=6)


def test_what_is_not_ect_among_what_is_was_probably_sent_again() -> None:
    with with_ecn() as c:
        c.run(SEC)
        c.inject("A", b"1", tos=ECT0)
        c.run(SEC)
        c.out.clear()
        c.tp.ack_quick = 0
        c.tp.ack_pingpong = True
        c.inject("A", b"2", tos=NOT_ECT)
        c.expect("A", ack=3)


def test_a_mark_without_ecn_means_nothing() -> None:
    with established() as c:
        c.inject("A", b"1", tos=CE)
        c.expect("A", ack=2)


# -- telling of a reduction


def flight(c: Peer, count: int) -> None:
    c.app_send(bytes(count * MSS))
    c.out.clear()


def test_an_echo_halves_the_window_once_a_round_trip() -> None:
    """RFC 3168 6.1.2: "TCP SHOULD react to congestion at most once every window of data"."""
    with with_ecn() as c:
        flight(c, 10)
        c.run(2 * MSEC)
        c.inject("AE", ack=1 + MSS)
        assert (c.tp.ca_state, c.tp.snd_ssthresh) == (TCP_CA_CWR, 5)
        for acked in range(2, 10):
            c.inject("AE", ack=1 + acked * MSS)
            assert (c.tp.ca_state, c.tp.snd_ssthresh) == (TCP_CA_CWR, 5)
        assert c.net.mib.tcp.RetransSegs == 0


def test_new_data_says_cwr_once() -> None:
    """6.1.2: "sets the CWR flag in the TCP header of the first new data packet sent after the window reduction"."""
    with with_ecn() as c:
        flight(c, 10)
        c.run(2 * MSEC)
        c.inject("AE", ack=1 + 6 * MSS)
        assert c.tp.ecn_flags & TCP_ECN_QUEUE_CWR
        c.app_send(bytes(2 * MSS))
        segments = c.out[:]
        c.out.clear()
        assert [s.flags & CWR != 0 for s in segments] == [True] + [False] * (len(segments) - 1)
        assert not c.tp.ecn_flags & TCP_ECN_QUEUE_CWR


def test_cwr_of_a_super_segment_is_the_first_piece_s() -> None:
    """SKB_GSO_TCP_ECN: the device must not repeat it."""
    with with_ecn(E1000_FEATURES, cwnd=40) as c:
        c.tp.ecn_flags |= TCP_ECN_QUEUE_CWR
        c.tp.sndbuf = 1 << 20
        c.app_send(bytes(8 * MSS))
        first = c.next_segment()
        assert first.gso_size == MSS and first.flags & CWR
        c.out.clear()
    with with_ecn(cwnd=40) as c:
        c.tp.ecn_flags |= TCP_ECN_QUEUE_CWR
        c.app_send(bytes(4 * MSS))
        assert [s.flags & CWR for s in c.out] == [CWR, 0, 0, 0]
        assert all(s.tos & 3 == ECT0 for s in c.out)
        c.out.clear()


def test_retransmissions_do_not_take_the_cwr_along() -> None:
    with with_ecn() as c:
        flight(c, 10)
        c.tp.ecn_flags |= TCP_ECN_QUEUE_CWR
        c.run(SEC)
        again = c.next_segment()
        assert again.seq == (c.irs + 1 + 9 * MSS) & 0xFFFF_FFFF or again.seq == (c.irs + 1) & 0xFFFF_FFFF
        assert not again.flags & CWR and again.tos & 3 == NOT_ECT
        assert c.tp.ecn_flags & TCP_ECN_QUEUE_CWR
        c.out.clear()


# -- algorithms that need ECN


def test_an_algorithm_that_needs_it() -> None:
    """TCP_CONG_NEEDS_ECN: all that is sent is ECT, SYNs too, and it is told of every segment's mark."""
    with peer(0) as c:
        scalable = Scalable()
        c.stack.tcp.tables.congestion.register(scalable)
        c.stack.sysctl.set("net.ipv4.tcp_congestion_control", "scalable")
        c.sock = c.stack.socket(2, 1)
        c.tp = tcp_sock(c.sock)
        c.app_connect()
        assert c.expect("SEC", seq=0).tos & 3 == ECT0
        c.inject("SAE", options=c.syn_options())
        assert c.expect("A", seq=1).tos & 3 == ECT0
        c.inject("A", b"1", tos=ECT0)
        c.inject("A", b"2", tos=CE)
        c.out.clear()
        assert scalable.events == [4, 5]
