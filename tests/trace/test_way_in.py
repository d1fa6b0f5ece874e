"""The way in as the texts on the network layer tell it, up to the reader; what is forwarded, and what nobody wants."""

from __future__ import annotations

from typing import Final

import pytest

from tests.harness import A, B, Pair, readable, udp
from tests.test_router import routed
from tests.trace.watch import Watch, decision, functions, in_order, step
from ustack.device.e1000 import NO_OFFLOAD
from ustack.netfilter.hooks import NF_ACCEPT, NF_INET_LOCAL_IN, NF_INET_PRE_ROUTING
from ustack.trace.journey import DELIVERED, DROPPED
from ustack.trace.points import Point
from ustack.wire.ipv4 import IPPROTO_ICMP

PORT: Final = 4747
MUFFIN: Final = "UDP, length 6"

#: The rows of the way in: the kernel's function, and our point, or why there is none.
TABLE: Final[tuple[tuple[str, Point | str], ...]] = (
    ("e1000_clean_rx_irq", Point.E1000_CLEAN_RX_IRQ),
    ("netif_receive_skb", Point.NETIF_RECEIVE_SKB),
    ("ip_rcv", Point.IP_RCV),
    ("ip_rcv_core", Point.IP_RCV_CORE),
    ("NF_HOOK(NF_INET_PRE_ROUTING)", "no function is registered; see test_hooks_on_the_way_in"),
    ("ip_rcv_finish_core", "one function with ip_rcv_finish"),
    ("ip_route_input_noref", "nothing but the call of ip_route_input_rcu"),
    ("ip_route_input_rcu", "for other than multicasts nothing but the call of ip_route_input_slow"),
    ("fib_lookup", Point.FIB_LOOKUP_IN),
    ("fib_validate_source", Point.FIB_VALIDATE_SOURCE),
    ("ip_route_input_slow", Point.IP_ROUTE_INPUT),
    ("ip_rcv_finish", Point.IP_RCV_FINISH),
    ("dst_input", "nothing but the call through dst->input"),
    ("ip_local_deliver", Point.IP_LOCAL_DELIVER),
    ("ip_defrag", "the muffin is no fragment"),
    ("NF_HOOK(NF_INET_LOCAL_IN)", "no function is registered; see test_hooks_on_the_way_in"),
    ("ip_local_deliver_finish", Point.IP_LOCAL_DELIVER_FINISH),
    ("ip_protocol_deliver_rcu", Point.IP_PROTOCOL_DELIVER),
    ("raw_local_deliver", "no raw socket listens"),
    ("udp_rcv", Point.UDP_RCV),
    ("__udp4_lib_lookup", Point.UDP4_LIB_LOOKUP),
    ("udp_queue_rcv_skb", Point.UDP_QUEUE_RCV_SKB),
    ("sock_def_readable", Point.SOCK_DEF_READABLE),
    ("sock_recvmsg", Point.SOCK_RECVMSG),
    ("security_socket_recvmsg", Point.SECURITY_SOCKET_RECVMSG),
    ("inet_recvmsg", Point.INET_RECVMSG),
    ("udp_recvmsg", Point.UDP_RECVMSG),
    ("__skb_recv_datagram", Point.SKB_RECV_DATAGRAM),
)


@pytest.fixture
def pair() -> Pair:
    return Pair(resolved=True)


def send(pair: Pair) -> None:
    udp(pair.a).sendto(b"muffin", (B, PORT))
    pair.settle()


def test_row_for_row(pair: Pair) -> None:
    receiver = udp(pair.b, B, PORT)
    with Watch(a=pair.a, b=pair.b) as watch:
        send(pair)
        assert watch.all(MUFFIN) == []  # it waits for its reader
        assert receiver.recv(100) == b"muffin"
        assert len(watch.all(MUFFIN)) == 1  # and has arrived with him
    journey = watch.one(MUFFIN)
    passed = [point for _, point in TABLE if isinstance(point, Point)]
    assert [point.linux for point in passed] == [name for name, point in TABLE if isinstance(point, Point)]
    assert [each.point for each in journey.steps if each.host == "b"] == passed
    assert journey.outcome == DELIVERED


def test_what_was_decided(pair: Pair) -> None:
    receiver = udp(pair.b, B, PORT)
    with Watch(a=pair.a, b=pair.b) as watch:
        send(pair)
        receiver.recv(100)
    journey = watch.one(MUFFIN)
    assert decision(journey, Point.UDP_RCV) == "checksum vouched for by the device"
    assert decision(journey, Point.UDP4_LIB_LOOKUP) == f"udp {B}:{PORT}"
    assert step(journey, Point.UDP4_LIB_LOOKUP).facts == {"score": 4, "connected": False}
    assert step(journey, Point.UDP_QUEUE_RCV_SKB).facts == {"rmem": 0, "rcvbuf": 212_992}
    assert step(journey, Point.SOCK_DEF_READABLE).facts["queued"] == 1
    assert decision(journey, Point.SKB_RECV_DATAGRAM) == "6 bytes"


@pytest.mark.parametrize(("no_check", "words"), [(False, "checked here"), (True, "not sent")])
def test_who_checks_the_sum(no_check: bool, words: str) -> None:
    """Where no device vouches for it; and a sender may do without."""
    pair = Pair(resolved=True, features=NO_OFFLOAD, super_segments=False)
    receiver, sender = udp(pair.b, B, PORT), udp(pair.a)
    sender.sk.no_check_tx = no_check
    with Watch(b=pair.b) as watch:
        sender.sendto(b"muffin", (B, PORT))
        pair.settle()
        receiver.recv(100)
    assert decision(watch.one(MUFFIN), Point.UDP_RCV) == f"checksum {words}"


def test_what_waits_for_its_reader_is_under_way(pair: Pair) -> None:
    """However long that takes; and a socket that is closed takes what it has not read with it."""
    receiver = udp(pair.b, B, PORT)
    with Watch(b=pair.b) as watch:
        send(pair)
        pair.run(100_000_000_000)
        assert watch.all(MUFFIN) == []
        receiver.close()
        journey = watch.one(MUFFIN)
    assert (journey.outcome, journey.reason) == (DROPPED, "SOCKET_CLOSE")
    assert functions(journey)[-1] == "__skb_queue_purge"


def test_hooks_on_the_way_in(pair: Pair) -> None:
    """The text's NF_HOOK at PRE_ROUTING and LOCAL_IN."""
    for point in (NF_INET_PRE_ROUTING, NF_INET_LOCAL_IN):
        pair.b.hooks.nf_register_hook(point, lambda state: NF_ACCEPT)
    receiver = udp(pair.b, B, PORT)
    with Watch(b=pair.b) as watch:
        send(pair)
        receiver.recv(100)
    names = functions(watch.one(MUFFIN))
    assert in_order(["ip_rcv_core", "nf_hook_slow", "ip_rcv_finish", "ip_local_deliver", "nf_hook_slow"], names)


def test_a_connected_socket_is_found_early(pair: Pair) -> None:
    """udp_v4_early_demux: its second datagram is not routed."""
    receiver, sender = udp(pair.b, B, PORT), udp(pair.a, A, 5000)
    receiver.connect((A, 5000))
    sender.sendto(b"first", (B, PORT))
    pair.settle()
    with Watch(b=pair.b) as watch:
        sender.sendto(b"muffin", (B, PORT))
        pair.settle()
        receiver.recv(100)
        receiver.recv(100)
    journey = watch.one(MUFFIN)
    assert decision(journey, Point.UDP_V4_EARLY_DEMUX) == f"udp {B}:{PORT} > {A}:5000"
    assert step(journey, Point.UDP4_LIB_LOOKUP).facts["connected"] is True
    assert "ip_route_input_slow" not in functions(journey)


def test_a_full_receive_buffer(pair: Pair) -> None:
    receiver = udp(pair.b, B, PORT)
    receiver.sk.rcvbuf = 1
    send(pair)
    with Watch(b=pair.b) as watch:
        send(pair)
    journey = watch.one(MUFFIN)
    assert decision(journey, Point.UDP_QUEUE_RCV_SKB) == "full"
    assert (journey.outcome, journey.reason) == (DROPPED, "SOCKET_RCVBUFF")


def test_a_refused_port(pair: Pair) -> None:
    """Nobody listens: the datagram is lost, and causes the ICMP error, which its sender's socket hears of."""
    sender = udp(pair.a)
    sender.connect((B, PORT))
    with Watch(a=pair.a, b=pair.b) as watch:
        sender.send(b"muffin")
        pair.settle()
    lost = watch.one(MUFFIN)
    assert decision(lost, Point.UDP4_LIB_LOOKUP) == "none"
    assert (lost.outcome, lost.reason) == (DROPPED, "NO_SOCKET")
    error = watch.one("ICMP")
    assert error.cause == lost.ident
    assert decision(error, Point.UDP4_LIB_ERR).startswith("udp 192.0.2.1:")
    assert error.outcome == DELIVERED


def test_everybody_hears_a_broadcast(pair: Pair) -> None:
    """__udp4_lib_mcast_deliver: each socket gets a copy, whose way ends with its own reader."""
    one, other = udp(pair.b, "", PORT), pair.b.socket(2, 2)
    for sock in (one, other):
        sock.sk.reuseaddr = True
    other.bind(("", PORT))
    sender = udp(pair.a)
    sender.sk.broadcast = True
    with Watch(b=pair.b) as watch:
        sender.sendto(b"muffin", ("192.0.2.255", PORT))
        pair.settle()
        assert one.recv(100) == b"muffin"
        assert len(watch.all(MUFFIN)) == 1
        assert other.recv(100) == b"muffin"
    first, second = watch.all(MUFFIN)
    assert decision(first, Point.UDP4_LIB_MCAST_DELIVER) == "to 2 sockets"
    assert second.parent == first.ident
    assert [first.outcome, second.outcome] == [DELIVERED, DELIVERED]


def test_a_forwarded_muffin() -> None:
    """Three hosts, one journey: what the router decided is between what the sender and the receiver did."""
    net, a, r, b = routed()
    with net:
        receiver = udp(b, "", PORT)
        with Watch(a=a, r=r, b=b) as watch:
            udp(a).sendto(b"muffin", ("198.51.100.1", PORT))
            net.run_until(lambda: readable(receiver))
            receiver.recv(100)
        journey = watch.one(MUFFIN)
        hosts = [each.host for each in journey.steps]
        assert hosts == sorted(hosts, key="arb".index)
        wanted = ["ip_rcv", "ip_route_input_slow", "ip_forward", "ip_forward_finish", "ip_output", "e1000_xmit_frame"]
        assert in_order(wanted, functions(journey, "r"))
        assert journey.outcome == DELIVERED
        assert not any(name.startswith("udp") for name in functions(journey, "r"))


def test_raw_sockets_get_a_copy_each(pair: Pair) -> None:
    """raw_v4_input: the packet goes on to its protocol, the copy to the raw socket."""
    listener, full = (pair.b.socket(2, 3, IPPROTO_ICMP) for _ in range(2))
    full.sk.rcvbuf = 1
    full.sk.rmem_alloc = 1
    sender = pair.a.socket(2, 2, IPPROTO_ICMP)
    with Watch(a=pair.a, b=pair.b) as watch:
        sender.sendto(b"\x08\x00\x00\x00\x00\x00\x00\x01muffin", (B, 0))
        pair.settle()
        assert listener.recv(100)[20] == 8
        assert sender.recv(100)[0] == 0
        requests, reply = watch.all("echo request"), watch.one("echo reply")
    request, copy, lost = requests
    assert decision(request, Point.RAW_V4_INPUT) == "2 sockets"
    assert copy.parent == lost.parent == request.ident
    assert in_order(["raw_rcv", "sock_def_readable", "inet_recvmsg", "raw_recvmsg"], functions(copy))
    assert (lost.outcome, lost.reason) == (DROPPED, "RAW_RCVBUFF")
    assert reply.cause == request.ident
    assert in_order(["ping_lookup", "sock_def_readable", "sock_recvmsg", "ping_recvmsg"], functions(reply, "a"))
    assert in_order(["sock_sendmsg", "inet_sendmsg", "inet_autobind", "ping_v4_sendmsg"], functions(request, "a"))


def test_a_datagram_with_a_header_of_ones_own(pair: Pair) -> None:
    """raw_sendmsg, and raw_send_hdrinc with IP_HDRINCL."""
    sock = pair.a.socket(2, 3, 253)
    with Watch(a=pair.a, b=pair.b) as watch:
        sock.sendto(b"muffin", (B, 0))
        sock.sk.hdrincl = True
        header = bytes.fromhex("45000000000000004011000000000000c0000202")
        sock.sendto(header + b"muffin", (B, 0))
        pair.settle()
    first = watch.by(Point.RAW_SENDMSG)
    second = watch.by(Point.RAW_SEND_HDRINC)
    assert in_order(["sock_sendmsg", "inet_sendmsg", "raw_sendmsg", "ip_local_out"], functions(first))
    assert step(second, Point.RAW_SEND_HDRINC).facts == {"length": 26, "ident": "ours"}


def test_errors_reach_raw_and_ping_sockets() -> None:
    """raw_err and ping_err: the error's way ends where it was told."""
    net, a, _, _ = routed()
    with net:
        raw, ping = a.socket(2, 3, IPPROTO_ICMP), a.socket(2, 2, IPPROTO_ICMP)
        with Watch(a=a) as watch:
            ping.sendto(b"\x08\x00\x00\x00\x00\x00\x00\x01muffin", ("203.0.113.1", 0))
            net.settle()
        raw.close()
        error = watch.by(Point.PING_ERR)
        assert decision(error, Point.PING_ERR).startswith("icmp ")
        assert decision(error, Point.RAW_ERR).startswith("icmp ")


def test_a_corked_datagram_begins_with_its_last_piece(pair: Pair) -> None:
    """One datagram of two sends: its way begins with the system call that lets it go."""
    sender, receiver = udp(pair.a), udp(pair.b, B, PORT)
    with Watch(a=pair.a) as watch:
        sender.sendto(b"muf", (B, PORT), 0x8000)
        sender.sendto(b"fin", (B, PORT))
        pair.settle()
        sender.setsockopt(17, 1, 1)
        sender.sendto(b"muffin", (B, PORT))
        sender.setsockopt(17, 1, 0)
        pair.settle()
        receiver.recv(100)
    first, second = watch.all(MUFFIN)
    wanted = ["sock_sendmsg", "udp_sendmsg", "ip_append_data", "udp_push_pending_frames", "udp_send_skb"]
    assert in_order(wanted, functions(first))
    assert step(first, Point.UDP_PUSH_PENDING_FRAMES).facts == {"pieces": 2}
    assert functions(second)[:2] == ["__sys_setsockopt", "udp_push_pending_frames"]
