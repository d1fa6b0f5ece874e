"""RFC 9293 section 3.9.2, 3.8.3: what TCP asks of IP: addresses, TTL, options, another route."""

from __future__ import annotations

import errno

import pytest

from tests.tcp.peer import SEC, STACK, STACK_MAC, Peer, Segment, code_of, established, listening
from ustack.inet.ip_sockglue import IP_OPTIONS, IP_TTL
from ustack.inet.options import SOL_IP
from ustack.neighbour.states import NUD_FAILED, NUD_PERMANENT
from ustack.routing.fib_types import FibConfig
from ustack.routing.uapi import NLM_F_APPEND, NLM_F_CREATE
from ustack.wire.ipv4 import IPOPT_LSRR, str_to_addr

# record route with room for two, a timestamp with room for one, an option nobody knows, the list's end
RECORD_ROUTE = bytes((7, 11, 4)) + bytes(8) + b"\x00"
TIMESTAMP = bytes((68, 8, 5, 0)) + bytes(4)
UNKNOWN = bytes((0x9E, 4, 0xAB, 0xCD))


def address(text: str) -> bytes:
    return int(str_to_addr(text)).to_bytes(4, "big")


def source_route(kind: int, *hops: str) -> bytes:
    route = b"".join(address(hop) for hop in hops)
    return b"\x01" + bytes((kind, 3 + len(route), 4)) + route


# -- addresses


def test_ip_is_asked_for_the_source_address_of_a_syn() -> None:
    """MUST-44: "When a connection is opened [...] without a local IP address specified, TCP MUST ask IP for it"."""
    with Peer() as c:
        c.app_connect()
        s = c.expect("S")
        assert s.src == STACK and c.sock.getsockname().addr == str_to_addr(STACK)


def test_a_connection_keeps_the_address_it_began_with() -> None:
    """MUST-45: "At all other times, a previous segment has either been sent or received on this connection, and TCP
    implementations MUST use the same local address that was used in those previous segments"."""
    with established(active=True) as c:
        c.stack.add_address("192.0.2.77/24", c.dev)
        c.app_send(b"x")
        assert c.expect("PA", data=b"x").src == STACK


def test_an_answer_comes_from_the_address_that_was_called() -> None:
    """MUST-45, for a host with several."""
    with Peer() as c:
        c.stack.add_address("192.0.2.3/24", c.dev)
        c.app_listen()
        c.out.clear()
        c.inject("S", seq=0, dst="192.0.2.3")
        s = c.expect("SA", seq=0, ack=1)
        assert s.src == "192.0.2.3"
        c.inject("A", seq=1, dst="192.0.2.3", ack=1)
        c.app_accept()
        c.app_send(b"hello")
        assert c.expect("PA", data=b"hello").src == "192.0.2.3"


# -- TTL and identification


def test_the_ttl_is_the_applications_to_choose() -> None:
    """MUST-49: "The TTL value used to send TCP segments MUST be configurable"; by default 64, as RFC 1700 has it."""
    with established() as c:
        c.app_send(b"x")
        assert c.expect("PA", data=b"x").ttl == 64
        c.app_setsockopt(SOL_IP, IP_TTL, 9)
        c.inject("A")
        c.app_send(b"y")
        assert c.expect("PA", data=b"y").ttl == 9
        c.inject("A")
        c.app_setsockopt(SOL_IP, IP_TTL, -1)
        c.net.sysctl.ip_default_ttl = 77
        c.app_send(b"z")
        assert c.expect("PA", data=b"z").ttl == 77


def test_a_retransmission_is_another_datagram() -> None:
    """MAY-4: the same identification "MAY" be used again; as in Linux it is not: only DF makes that safe (RFC 6864)."""
    with established() as c:
        c.app_send(b"x")
        first = c.expect("PA", data=b"x")
        c.run(SEC)
        again = c.out[0]
        assert again.data == first.data and again.seq == first.seq
        assert again.dont_fragment and again.frame[18:20] != first.frame[18:20]
        c.out.clear()


# -- options


@pytest.mark.parametrize("options", [UNKNOWN, RECORD_ROUTE, TIMESTAMP, UNKNOWN + RECORD_ROUTE])
def test_ip_options_do_not_trouble_tcp(options: bytes) -> None:
    """MUST-50: "When received options are passed up to TCP from the IP layer, a TCP implementation MUST ignore options
    that it does not understand"."""
    with listening() as c:
        c.inject("S", options=c.syn_options(), ip_options=options)
        c.expect("SA", seq=0, ack=1)
        c.inject("A", ip_options=options)
        c.app_accept()
        c.inject("PA", b"text", ip_options=options)
        c.expect("A", ack=5)
        assert c.app_recv() == b"text"


@pytest.mark.parametrize("options", [RECORD_ROUTE, TIMESTAMP])
def test_an_application_may_ask_for_record_route_and_timestamps(options: bytes) -> None:
    """MAY-10, MAY-11: on every segment, with our own address or time filled in."""
    with Peer() as c:
        c.app_setsockopt(SOL_IP, IP_OPTIONS, options)
        c.app_connect()
        s = c.expect("S")
        assert len(s.ip_options) == len(options) and s.ip_options[0] == options[0]
        c.inject("SA", options=c.syn_options())
        assert c.expect("A").ip_options[0] == options[0]
        c.app_send(b"x")
        assert c.expect("PA", data=b"x").ip_options[0] == options[0]


HOP = "192.0.2.9"
FAR = "203.0.113.1"


def call_by_a_hop(c: Peer) -> Segment:
    """Call a host that no route leads to but that by HOP; the SYN."""
    c.app_setsockopt(SOL_IP, IP_OPTIONS, source_route(IPOPT_LSRR, HOP))
    c.pport = 80
    assert code_of(lambda: c.sock.connect((FAR, 80))) == errno.EINPROGRESS
    c.poll()
    return c.expect("S", dst=HOP)


def test_an_application_may_name_a_source_route_for_its_call() -> None:
    """MUST-51: "An application MUST be able to specify a source route when it actively opens a TCP connection"; the
    first hop is where the segment goes, the peer is the last of the list."""
    with Peer() as c:
        s = call_by_a_hop(c)
        assert s.ip_options == b"\x01" + bytes((IPOPT_LSRR, 7, 4)) + address(FAR)
        assert s.mss == 1460


def test_a_source_route_takes_its_room_from_the_segments() -> None:
    """MUST-16: "Eff.snd.MSS = min(SendMSS+20, MMS_S) - TCPhdrsize - IPoptionsize"."""
    with Peer() as c:
        call_by_a_hop(c)
        c.inject("SA", options=c.syn_options(), seq=0, src=FAR)
        c.expect("A", dst=HOP)
        c.app_send(bytes(3000))
        assert [len(s.data) for s in c.out] == [1452, 1452, 96] and all(s.dst == HOP for s in c.out)
        c.out.clear()


def test_a_named_source_route_is_not_changed_by_one_that_comes() -> None:
    """MUST-52: it "MUST take precedence over a source route received in a datagram": such datagrams are not even
    taken (accept_source_route is off), and what is recorded in others changes nothing."""
    with Peer() as c:
        first = call_by_a_hop(c)
        c.inject("SA", options=c.syn_options(), seq=0, src=FAR, ip_options=source_route(IPOPT_LSRR, "192.0.2.10"))
        c.silent()
        c.inject("SA", options=c.syn_options(), seq=0, src=FAR, ip_options=RECORD_ROUTE)
        assert c.expect("A", dst=HOP).ip_options == first.ip_options


def test_a_segment_with_a_source_route_is_refused() -> None:
    """MUST-53 would have us answer by the reverse of it; like any Linux host we take none (accept_source_route 0)."""
    with listening() as c:
        c.inject(
            "S", options=c.syn_options(), ip_options=source_route(IPOPT_LSRR, "192.0.2.10"), dst=STACK, mac=STACK_MAC
        )
        c.silent(until=SEC)
        assert not c.stack.tcp.tables.requests and len(c.drops.reasons) == 1


# -- advice


ONE, OTHER = "192.0.2.9", "192.0.2.10"
ONE_MAC, OTHER_MAC = 0x0200_0000_0009, 0x0200_0000_000A


class Deaf(Peer):
    """Nobody answers ARP any more."""

    def _answer_arp(self, frame: bytes) -> bool:
        return False


def test_after_r1_another_route_is_looked_for() -> None:
    """MUST-20 (a): "When the number of transmissions of the same segment reaches or exceeds threshold R1, pass
    negative advice to the IP layer": with SHLD-10's three, and then a dead gateway makes way for a living one."""
    with Deaf() as c:
        for gateway in (ONE, OTHER):
            cfg = FibConfig()
            cfg.gateway, cfg.nlflags = str_to_addr(gateway), NLM_F_CREATE | NLM_F_APPEND
            c.stack.routing.fib.rtm_newroute(cfg)
        for gateway, mac in ((ONE, ONE_MAC), (OTHER, OTHER_MAC)):
            c.stack.neighbours.neigh_add(str_to_addr(gateway), c.dev, mac, NUD_PERMANENT)
        c.pport = 80
        assert code_of(lambda: c.sock.connect((FAR, 80))) == errno.EINPROGRESS
        c.poll()
        c.expect("S", seq=0, dst=FAR)
        c.inject("SA", options=c.syn_options(), seq=0, src=FAR)
        assert by(c.expect("A", dst=FAR)) == ONE_MAC
        c.stack.neighbours.neigh_add(str_to_addr(ONE), c.dev, ONE_MAC, NUD_FAILED)
        c.app_send(b"x")
        asked = c.now
        c.run(20 * SEC)
        assert c.tp.retransmits > c.net.sysctl.tcp_retries1 == 3
        assert c.out and {by(s) for s in c.out} == {OTHER_MAC}
        assert c.out[0].time - asked >= 3 * SEC  # 200 ms doubled three times, and all of it waited for
        c.out.clear()


def by(segment: Segment) -> int:
    """The hardware address that it was sent to."""
    return int.from_bytes(segment.frame[:6], "big")
