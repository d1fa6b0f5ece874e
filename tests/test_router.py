"""A stack between two others: forwarding, its errors, and the books of a router at every moment."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.harness import MSEC, SEC, Drops, Moved, Network, Verdicts, code_of, readable, udp
from ustack.device.cable import Impairments
from ustack.drop import Reason
from ustack.inet.family import SOCK_RAW, SOCK_STREAM
from ustack.inet.ip_sockglue import IP_TTL
from ustack.inet.options import SOL_IP
from ustack.inet.protosw import IPPROTO_ICMP
from ustack.inet.sockaddr import AF_INET
from ustack.netfilter.hooks import NF_INET_LOCAL_IN, NF_QUEUE
from ustack.wire.icmp import ICMP_DEST_UNREACH, ICMP_TIME_EXCEEDED
from ustack.wire.ipv4 import str_to_addr

if TYPE_CHECKING:
    from ustack.stack import Stack


def routed() -> tuple[Network, Stack, Stack, Stack]:
    """a (192.0.2.1) ─ router (192.0.2.254, 198.51.100.254) ─ b (198.51.100.1)."""
    network = Network()
    a, router, b = network.stack(), network.stack(), network.stack()
    network.join(a, "192.0.2.1/24", router, "192.0.2.254/24")
    network.join(router, "198.51.100.254/24", b, "198.51.100.1/24")
    a.add_gateway("192.0.2.254")
    b.add_route("192.0.2.0/24", "198.51.100.254")
    router.net.conf.inet_forward_change(1)
    network.run(5 * SEC)
    return network, a, router, b


def test_forwarding() -> None:
    network, a, router, b = routed()
    with network:
        server, client = udp(b, "", 7), udp(a)
        counted, drops = Moved(router), Drops(router)
        client.sendto(b"muffin", ("198.51.100.1", 7))
        network.run_until(lambda: readable(server))
        data, peer = server.recvfrom(100)
        assert (data, peer.addr) == (b"muffin", str_to_addr("192.0.2.1"))
        server.sendto(data, peer)
        network.run_until(lambda: readable(client))
        moved = counted("Ip", "Path")
        assert moved["Ip.ForwDatagrams"] == 2 and moved["Path.forwarded"] == 2
        assert drops.reasons == []


def test_a_stream_through_a_router() -> None:
    network, a, _, b = routed()
    with network:
        listener = b.socket(AF_INET, SOCK_STREAM)
        listener.bind(("", 80))
        listener.listen(1)
        client = a.socket(AF_INET, SOCK_STREAM)
        code_of(lambda: client.connect(("198.51.100.1", 80)))
        network.run_until(lambda: readable(listener))
        server = listener.accept()
        client.send(b"x" * 5000)
        client.shutdown(1)
        received = b""
        while True:
            network.run_until(lambda: readable(server))
            piece = server.recv(65_536)
            if not piece:
                break
            received += piece
        assert received == b"x" * 5000
        for sock in (client, server, listener):
            sock.close()
        network.run(130 * SEC)


def test_a_packet_dies_of_old_age_at_the_router() -> None:
    """RFC 1812 5.3.1: "the router MUST send an ICMP Time Exceeded message"; traceroute lives on it."""
    network, a, router, _ = routed()
    with network:
        sock, raw, drops = udp(a), a.socket(AF_INET, SOCK_RAW, IPPROTO_ICMP), Drops(router)
        sock.setsockopt(SOL_IP, IP_TTL, 1)
        sock.sendto(b"x", ("198.51.100.1", 33_434))
        network.run_until(lambda: readable(raw))
        answer, peer = raw.recvfrom(1000)
        assert answer[20] == ICMP_TIME_EXCEEDED and peer.addr == str_to_addr("192.0.2.254")
        assert drops.reasons == [Reason.TTL_EXPIRED]


def test_forwarding_that_is_off() -> None:
    network, a, router, _ = routed()
    with network:
        router.net.conf.inet_forward_change(0)
        router.routing.rt_cache_flush()
        counted, drops = Moved(router), Drops(router)
        udp(a).sendto(b"x", ("198.51.100.1", 7))
        network.run(SEC)
        assert counted("Ip").get("Ip.ForwDatagrams", 0) == 0
        assert drops.reasons == [Reason.IP_FORWARDING_OFF]


def test_a_router_without_the_way_on() -> None:
    network, a, router, _ = routed()
    with network:
        raw, drops = a.socket(AF_INET, SOCK_RAW, IPPROTO_ICMP), Drops(router)
        udp(a).sendto(b"x", ("203.0.113.1", 7))
        network.run_until(lambda: readable(raw))
        answer = raw.recv(1000)
        assert answer[20] == ICMP_DEST_UNREACH
        assert drops.reasons == [Reason.IP_INNOROUTES]


def test_what_waits_for_a_neighbour_of_the_router_is_queued_then_dropped() -> None:
    """received = delivered + forwarded + dropped + queued, at every moment."""
    network, a, router, _ = routed()
    with network:
        raw, drops = a.socket(AF_INET, SOCK_RAW, IPPROTO_ICMP), Drops(router)
        for _ in range(3):
            udp(a).sendto(b"x", ("198.51.100.99", 7))
        network.run(SEC)
        assert router.queued() == 3 and router.unaccounted() == 0
        network.run(5 * SEC)
        assert router.queued() == 0 and drops.reasons == [Reason.NEIGH_FAILED] * 3
        assert raw.recv(1000)[20:22] == bytes((ICMP_DEST_UNREACH, 1))


def test_two_default_routes_that_point_at_each_other() -> None:
    """A loop ends with the TTL, and the one error about it is the only answer."""
    network, a, router, b = routed()
    with network:
        router.add_gateway("198.51.100.1")
        b.add_gateway("198.51.100.254")
        b.net.conf.inet_forward_change(1)
        raw, drops = a.socket(AF_INET, SOCK_RAW, IPPROTO_ICMP), [Drops(router), Drops(b)]
        counted = [Moved(router), Moved(b)]
        udp(a).sendto(b"round and round", ("203.0.113.1", 7))
        network.run(SEC)
        expired = [drop.reasons.count(Reason.TTL_EXPIRED) for drop in drops]
        assert expired in ([1, 0], [0, 1])
        # 64 hops less the last, and b's error is forwarded by the router
        assert sum(moved()["Ip.ForwDatagrams"] for moved in counted) == 63 + expired[1]
        heard = []
        while readable(raw):
            heard.append(raw.recv(1000)[20])
        assert heard.count(ICMP_TIME_EXCEEDED) == 1


def test_closing_in_the_middle_of_everything_leaves_nothing() -> None:
    """Fragments without an end, packets for a silent neighbour, packets for a verdict: all dropped and counted."""
    network, a, router, _ = routed()
    router.hooks.nf_register_queue_handler(Verdicts())
    router.hooks.nf_register_hook(NF_INET_LOCAL_IN, lambda state: NF_QUEUE)
    udp(a).sendto(b"x", ("198.51.100.99", 7))
    udp(a).sendto(b"x", ("192.0.2.254", 7))
    network.settle()
    network.cables[0].there.impairments = Impairments(loss=0.5)
    for _ in range(10):
        udp(a).sendto(bytes(5000), ("192.0.2.254", 7))
    network.run(100 * MSEC)
    assert router.queued() > 2 and router.unaccounted() == 0
    router.close()
    assert router.queued() == 0 and router.unaccounted() == 0
    network.run(60 * SEC)
    network.check()
