"""Where ICMP and routing meet: redirects that sockets hear of, and which address errors come from."""

from __future__ import annotations

import pytest
from librt.strings import BytesWriter

from tests.harness import A, B, Pair, code_of
from tests.ipv4.station import FAR, OURS, PEER, Station, Wire, echo, ip_packet, udp_packet
from ustack.inet.family import SOCK_STREAM
from ustack.inet.sockaddr import AF_INET
from ustack.packet import Packet
from ustack.routing.fib_types import FibConfig
from ustack.routing.flow import Flow
from ustack.routing.uapi import NLM_F_CREATE, RTAX_HOPLIMIT
from ustack.wire import ethernet, icmp
from ustack.wire.ethernet import ETH_P_IP
from ustack.wire.icmp import ICMP_DEST_UNREACH, ICMP_REDIR_HOST, ICMP_REDIRECT, ICMP_TIME_EXCEEDED
from ustack.wire.ipv4 import IPPROTO_ICMP, IPPROTO_TCP, IPPROTO_UDP, str_to_addr
from ustack.wire.octets import put_u16, put_u32

BETTER = str_to_addr("192.0.2.77")
BETTER_MAC = 0x02_00_00_00_00_77
SOMEBODY = str_to_addr("192.0.2.66")
OTHER_LINK = str_to_addr("198.51.100.2")
OTHER_GATEWAY = str_to_addr("198.51.100.1")
ASYMMETRIC = str_to_addr("203.0.113.200")


def gateway_of(station: Station) -> int:
    return int(station.routing.ip_route_output(Flow(FAR)).gateway)


def redirect(station: Station, quoted: bytes, sender: int = PEER, gateway: int = BETTER) -> None:
    station.receive(icmp.emit(ICMP_REDIRECT, ICMP_REDIR_HOST, gateway, quoted), IPPROTO_ICMP, src=sender)


QUOTES = [
    ("UDP", ip_packet(udp_packet(b"", 5000, 7, OURS, FAR), IPPROTO_UDP, OURS, FAR)),
    ("an echo request of a ping socket", ip_packet(echo(ident=77), IPPROTO_ICMP, OURS, FAR)),
    ("an echo reply, which is nobody's", ip_packet(echo(kind=0), IPPROTO_ICMP, OURS, FAR)),
    ("a raw socket's packet", ip_packet(bytes(8), 99, OURS, FAR)),
]


@pytest.mark.parametrize(("what", "quoted"), QUOTES, ids=[row[0] for row in QUOTES])
@pytest.mark.parametrize(("sender", "believed"), [(PEER, True), (SOMEBODY, False)])
def test_a_redirect_about_what_we_sent(what: str, quoted: bytes, sender: int, believed: bool) -> None:
    """ipv4_sk_redirect, ipv4_redirect: whatever protocol, the gateway in use is believed, nobody else."""
    station = Station()
    station.udp_sock(5000)
    ping = station.ping.new_sock()
    ping.get_port(77)
    station.raw.new_sock(99)
    redirect(station, quoted, sender)
    assert gateway_of(station) == (BETTER if believed else PEER)
    assert station.moved("Icmp") == {"Icmp.InMsgs": 1, "Icmp.InRedirects": 1}


def test_a_redirect_about_nothing_of_ours_changes_nothing() -> None:
    """No socket has that port: counted as an error, as Linux does."""
    station = Station()
    redirect(station, QUOTES[0][1])
    assert gateway_of(station) == PEER and station.moved("Icmp")["Icmp.InErrors"] == 1


def test_the_next_datagram_goes_the_better_way_and_the_socket_hears_nothing() -> None:
    station = Station()
    station.neighbours.neigh_add(BETTER, station.eth0, BETTER_MAC)
    sk = station.udp_sock(5000)
    sk.connect(FAR, 7)
    sk.sendmsg(b"one", 0, 0, -1)
    redirect(station, QUOTES[0][1])
    sk.sendmsg(b"two", 0, 0, -1)
    macs = [int.from_bytes(packet.buf[:6], "big") for packet in station.eth0.sent]
    assert macs[1] == BETTER_MAC != macs[0] and sk.err == 0


def segment(pair: Pair, seq: int, sport: int, daddr: int) -> bytes:
    """The first bytes of a segment of a's, as a router quotes them."""
    out = BytesWriter()
    put_u16(out, sport)
    put_u16(out, 80)
    put_u32(out, seq)
    return ip_packet(out.getvalue(), IPPROTO_TCP, str_to_addr(A), daddr)


@pytest.mark.parametrize(("offset", "believed"), [(0, True), (5000, False)])
def test_a_connection_is_redirected_if_the_quote_is_of_its_window(offset: int, believed: bool) -> None:
    """tcp_v4_err, do_redirect: RFC 5927's check, then the route it goes by is to be looked up again."""
    with Pair(resolved=True) as pair:
        pair.a.add_gateway(B)
        pair.a.neighbours.neigh_add(BETTER, pair.dev_a, BETTER_MAC)
        sock = pair.a.socket(AF_INET, SOCK_STREAM)
        code_of(lambda: sock.connect(("203.0.113.5", 80)))
        sk = sock.sk
        kept = sk.dst_cache
        iss = pair.a.tcp.tables.lookup_established(FAR, 80, str_to_addr(A), sk.num)
        assert kept is not None and iss is not None
        quoted = segment(pair, int(iss.iss) + offset & 0xFFFF_FFFF, int(sk.num), FAR)
        message = icmp.emit(ICMP_REDIRECT, ICMP_REDIR_HOST, BETTER, quoted)
        frame = ethernet.header(pair.dev_a.mac, pair.dev_b.mac, ETH_P_IP)
        packet = Packet(frame + ip_packet(message, IPPROTO_ICMP, str_to_addr(B), str_to_addr(A)), pair.dev_a)
        pair.a.devices.netif_receive_skb(packet)
        assert pair.a.routing.dst_valid(kept) is not believed
        assert pair.a.routing.ip_route_output(Flow(FAR)).gateway == (BETTER if believed else str_to_addr(B))
        sock.close()


def test_a_gateway_that_nobody_knows_is_asked_for_first() -> None:
    """The whole way: the first redirect starts ARP, the second is believed."""
    with Pair(resolved=True) as pair:
        pair.a.add_gateway("192.0.2.9")
        pair.a.neighbours.neigh_add(str_to_addr("192.0.2.9"), pair.dev_a, 0x02_00_00_00_00_09)
        sock = pair.a.socket(AF_INET, SOCK_STREAM)
        code_of(lambda: sock.connect(("203.0.113.5", 80)))
        tp = pair.a.tcp.tables.lookup_established(FAR, 80, str_to_addr(A), sock.sk.num)
        assert tp is not None
        pair.a.neighbours.neigh_delete(str_to_addr(B), pair.dev_a)
        message = icmp.emit(
            ICMP_REDIRECT, ICMP_REDIR_HOST, str_to_addr(B), segment(pair, int(tp.iss), int(sock.sk.num), FAR)
        )
        frame = ethernet.header(pair.dev_a.mac, pair.dev_b.mac, ETH_P_IP)
        told = frame + ip_packet(message, IPPROTO_ICMP, str_to_addr("192.0.2.9"), str_to_addr(A))
        for gateway in ("192.0.2.9", B):
            pair.a.devices.netif_receive_skb(Packet(told, pair.dev_a))
            assert pair.a.routing.ip_route_output(Flow(FAR)).gateway == str_to_addr(gateway)
            pair.settle()
        sock.close()


# -- who speaks


def two_links() -> Station:
    """A router to which packets from 203.0.113.200 come by eth0, and go by eth1."""
    station = Station()
    eth1 = Wire("eth1", 0x02_00_00_00_01_02)
    station.add(eth1, OTHER_LINK, 24)
    station.neighbours.neigh_add(OTHER_GATEWAY, eth1, 0x02_00_00_00_01_01)
    station.routing.add_route(ASYMMETRIC, 32, OTHER_GATEWAY, eth1)
    station.net.conf.inet_forward_change(1)
    return station


def sources(station: Station) -> list[int]:
    eth1 = station.devices.by_name("eth1")
    assert isinstance(eth1, Wire)
    return [int.from_bytes(packet.buf[26:30], "big") for packet in eth1.sent]


@pytest.mark.parametrize(("inbound", "source"), [(0, OTHER_LINK), (1, OURS)])
@pytest.mark.parametrize("ttl", [1, 64])
def test_icmp_errors_use_inbound_ifaddr(inbound: int, source: int, ttl: int) -> None:
    """Else RFC 1812 4.3.2.4: "one of the IP addresses associated with the physical interface over which the ICMP
    message is transmitted"; about what is routed, and about what has no route."""
    station = two_links()
    station.net.sysctl.icmp_errors_use_inbound_ifaddr = inbound
    if ttl != 1:
        station.routing.del_route(0, 0)
    station.receive(bytes(8), IPPROTO_UDP, src=ASYMMETRIC, dst=FAR, ttl=ttl)
    eth1 = station.devices.by_name("eth1")
    assert isinstance(eth1, Wire) and sources(station) == [source]
    assert eth1.sent[0].buf[34] == (ICMP_TIME_EXCEEDED if ttl == 1 else ICMP_DEST_UNREACH)


def test_who_was_asked_answers() -> None:
    """An error about a packet to ourselves comes from the address it was sent to, wherever it leaves."""
    station = two_links()
    station.net.sysctl.icmp_errors_use_inbound_ifaddr = 1
    station.receive(udp_packet(b"x", 7, 9, ASYMMETRIC, OTHER_LINK), IPPROTO_UDP, src=ASYMMETRIC, dst=OTHER_LINK)
    assert sources(station) == [OTHER_LINK]


def test_a_routes_hop_limit_is_the_ttl_of_who_has_none() -> None:
    """RTAX_HOPLIMIT: ip4_dst_hoplimit, for sockets and for ICMP."""
    station = Station()
    cfg = FibConfig(FAR, 32)
    cfg.gateway, cfg.metrics, cfg.nlflags = PEER, {RTAX_HOPLIMIT: 9}, NLM_F_CREATE
    station.routing.fib.rtm_newroute(cfg)
    sk = station.udp_sock(5000)
    for addr in (FAR, PEER):
        sk.sendmsg(b"x", 0, addr, 7)
    sk.uc_ttl = 33
    sk.sendmsg(b"x", 0, FAR, 7)
    station.receive(echo(), IPPROTO_ICMP, src=FAR)
    assert [int(sent.ip.ttl) for sent in station.take()] == [9, 64, 33, 9]
