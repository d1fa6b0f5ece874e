"""Early demux: a connection's packets are found before they are routed, and go the way of the last one.

tcp_v4_early_demux, udp_v4_early_demux, ip_rcv_finish_core; net.ipv4.{ip,tcp,udp}_early_demux.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.harness import MSEC, A, B, Drops, Moved, Pair, connection, readable, udp
from tests.ipv4.station import LOCALHOST, OURS, PEER, Station, ip_packet, udp_packet
from ustack.drop import Reason
from ustack.netfilter.hooks import NF_ACCEPT, NF_INET_LOCAL_IN, HookState
from ustack.packet import Packet
from ustack.wire import ethernet
from ustack.wire.ethernet import ETH_P_IP
from ustack.wire.ipv4 import IP_MF, IPPROTO_UDP, str_to_addr

if TYPE_CHECKING:
    from ustack.inet.socket import Socket


def stream(pair: Pair) -> tuple[Socket, Socket]:
    """A connection from a to b, quiet."""
    ends = connection(pair)
    pair.run(500 * MSEC)
    return ends


def send(pair: Pair, client: Socket, server: Socket, data: bytes) -> None:
    client.send(data)
    pair.run_until(lambda: readable(server))
    assert server.recv(65_536) == data


def test_a_connections_segments_are_not_looked_up() -> None:
    """Once a packet has come the ordinary way, the tables are asked no more, in neither direction."""
    with Pair() as pair:
        client, server = stream(pair)
        send(pair, client, server, b"one")
        counted = Moved(pair.b)
        for number in range(5):
            send(pair, client, server, b"%d" % number)
        assert counted("RtCache") == {} and counted("Tcp")["Tcp.InSegs"] == 5
        assert server.sk.rx_dst is not None and server.sk.rx_dst.input is pair.b.routing.rtable.local_deliver


@pytest.mark.parametrize(
    ("name", "early"), [("ip_early_demux", False), ("tcp_early_demux", False), ("udp_early_demux", True)]
)
def test_it_can_be_switched_off(name: str, early: bool) -> None:
    with Pair() as pair:
        client, server = stream(pair)
        send(pair, client, server, b"one")
        setattr(pair.b.net.sysctl, name, 0)
        counted = Moved(pair.b)
        send(pair, client, server, b"two")
        assert (counted("RtCache") == {}) is early


def test_a_change_of_the_tables_is_noticed() -> None:
    """dst_check: the way in is looked up anew, and what is no longer ours is not delivered."""
    with Pair() as pair:
        client, server = stream(pair)
        send(pair, client, server, b"one")
        kept = server.sk.rx_dst
        pair.b.routing.rt_cache_flush()
        send(pair, client, server, b"two")
        assert server.sk.rx_dst is not kept
        drops = Drops(pair.b)
        pair.b.routing.del_address(pair.dev_b, str_to_addr(B), 24)
        client.send(b"three")
        pair.run(10 * MSEC)
        assert drops.reasons == [Reason.IP_FORWARDING_OFF] and not readable(server)


def test_who_is_found_early_is_not_believed_to_be_alive() -> None:
    """Between the two looks a hook may have closed the connection: TCP then looks for itself."""
    with Pair() as pair:
        client, server = stream(pair)
        send(pair, client, server, b"one")
        server.sk.linger = 0
        closed: list[bool] = []

        def close(state: HookState) -> int:
            if not closed and state.packet.iph is not None and state.packet.iph.protocol == 6:
                closed.append(True)
                server.close()
            return NF_ACCEPT

        pair.b.hooks.nf_register_hook(NF_INET_LOCAL_IN, close)
        drops = Drops(pair.b)
        client.send(b"two")
        pair.run(10 * MSEC)
        assert closed and drops.reasons == [Reason.NO_SOCKET]


def test_a_segment_that_is_too_short_for_its_header_is_left_to_tcp() -> None:
    with Pair(resolved=True) as pair:
        client, server = stream(pair)
        send(pair, client, server, b"one")
        drops = Drops(pair.b)
        for l4 in (b"", b"\0\0\0\x50", bytes(19)):
            frame = ethernet.header(pair.dev_b.mac, pair.dev_a.mac, ETH_P_IP)
            packet = Packet(frame + ip_packet(l4, 6, str_to_addr(A), str_to_addr(B)), pair.dev_b)
            pair.b.devices.netif_receive_skb(packet)
        assert drops.reasons == [Reason.TCP_TRUNCATED] * 3


def test_the_loopback_device_needs_none() -> None:
    """What comes through lo brings its route along."""
    with Pair() as pair:
        server, client = udp(pair.a, "", 7), udp(pair.a)
        client.connect(("127.0.0.1", 7))
        client.send(b"one")
        pair.run_until(lambda: readable(server))
        data, peer = server.recvfrom(10)
        server.sendto(data, peer)
        pair.run_until(lambda: readable(client))
        counted = Moved(pair.a)
        server.sendto(b"two", peer)
        pair.run_until(lambda: readable(client))
        assert counted("RtCache").get("RtCache.in_hit", 0) == counted("RtCache").get("RtCache.in_slow_tot", 0) == 0
        assert peer.addr == LOCALHOST


# -- UDP


def test_connected_udp_sockets_keep_their_way_too() -> None:
    station = Station()
    sk = station.udp_sock(5000)
    sk.connect(PEER, 7)
    station.receive_udp(b"one", 7, 5000)
    assert sk.rx_dst is not None and sk.rx_dst_ifindex == station.eth0.ifindex
    before = station.net.mib.snapshot()
    station.receive_udp(b"two", 7, 5000)
    after = station.net.mib.snapshot()
    assert all(after[name] == before[name] for name in after if name.startswith("RtCache."))
    assert [sk.recvmsg(10, 0).data for _ in range(2)] == [b"one", b"two"]
    station.net.sysctl.udp_early_demux = 0
    station.receive_udp(b"three", 7, 5000)
    assert station.net.mib.rt_cache.in_hit == before["RtCache.in_hit"] + 1


def test_sockets_without_a_peer_do_not() -> None:
    """udp_v4_early_demux: only exact matches."""
    station = Station()
    sk = station.udp_sock(5000)
    for _ in range(2):
        station.receive_udp(b"x", 7, 5000)
    assert sk.rx_dst is None and station.net.mib.rt_cache.in_hit == 1


def test_a_stranger_does_not_come_the_peers_way() -> None:
    station = Station()
    open_one, connected = station.udp_sock(5000), station.udp_sock(5001)
    connected.connect(PEER, 7)
    station.receive_udp(b"one", 7, 5001)
    station.receive_udp(b"two", 8, 5001)
    station.receive_udp(b"three", 7, 5000)
    assert connected.recvmsg(10, 0).data == b"one" and connected.try_recv() is None
    assert open_one.recvmsg(10, 0).data == b"three" and station.net.mib.udp.NoPorts == 1


def test_from_another_device_it_is_looked_up() -> None:
    """rx_dst_ifindex: the other device may have other rules, rp_filter for one."""
    station = Station()
    sk = station.udp_sock(5000)
    sk.connect(PEER, 7)
    station.receive_udp(b"one", 7, 5000)
    kept = sk.rx_dst
    station.lo.in_dev.cnf.rp_filter = 1
    frame = ethernet.header(0, 0, ETH_P_IP) + ip_packet(udp_packet(b"two", 7, 5000), IPPROTO_UDP, PEER, OURS)
    station.devices.netif_receive_skb(Packet(frame, station.lo))
    assert station.net.drops == {Reason.IP_RPFILTER: 1} and sk.rx_dst is kept


def test_fragments_are_not_looked_into() -> None:
    """ip_is_fragment: their first bytes are no ports."""
    station = Station()
    sk = station.udp_sock(5000)
    sk.connect(PEER, 7)
    whole = udp_packet(bytes(range(40)), 7, 5000)
    for l4, frag_off in ((whole[:24], IP_MF), (whole[24:], 3)):
        station.receive(l4, IPPROTO_UDP, frag_off=frag_off, ident=9)
    assert sk.recvmsg(100, 0).data == bytes(range(40)) and sk.rx_dst is None
