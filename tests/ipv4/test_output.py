"""ip_queue_xmit, ip_build_and_send_pkt, ip_send_datagram, ip_output, ip_mc_output, ip_finish_output."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import pytest

from tests.ipv4.host import Host, head
from tests.routing.links import ALL_HOSTS, BROADCAST, FAR, LOCALHOST, OURS, OURS_1, PEER, FakeDevice, a, address
from ustack.device.net_device import IFF_UP, NETIF_F_HW_CSUM, NETIF_F_SG, NETIF_F_TSO
from ustack.drop import Reason
from ustack.ipv4.options import ip_options_get
from ustack.netfilter.hooks import (
    NF_ACCEPT,
    NF_DROP,
    NF_INET_LOCAL_OUT,
    NF_INET_POST_ROUTING,
    HookState,
    nf_drop_err,
)
from ustack.packet import CHECKSUM_PARTIAL, SKB_GSO_TCPV4, Packet
from ustack.routing.flow import Flow
from ustack.sock import (
    IP_PMTUDISC_DO,
    IP_PMTUDISC_DONT,
    IP_PMTUDISC_PROBE,
    IP_PMTUDISC_WANT,
    Sock,
)
from ustack.wire.ipv4 import IP_DF, IPPROTO_ICMP, IPPROTO_TCP, IPPROTO_UDP

if TYPE_CHECKING:
    from ustack.dst import Dst

SENT = {"Ip.OutRequests": 1, "Ip.OutTransmits": 1}
TCP_HEADER = b"\0" * 12 + b"\x50" + b"\0" * 7


def segment(payload: bytes = b"", gso_size: int = 0) -> Packet:
    """As TCP hands it over: header and payload, the checksum to be completed by the device."""
    packet = Packet(TCP_HEADER + payload[:100])
    if len(payload) > 100:
        packet.frags = [memoryview(payload)[100:]]
        packet.frags_len = len(payload) - 100
    packet.ip_summed = CHECKSUM_PARTIAL
    packet.csum_offset = 16
    packet.gso_size = gso_size
    packet.gso_type = SKB_GSO_TCPV4 if gso_size else 0
    return packet


def tcp_sock(host: Host, daddr: int = PEER, saddr: int = OURS) -> Sock:
    return host.sock(daddr, saddr, IPPROTO_TCP)


def to(host: Host, daddr: int, oif: int = 0) -> Dst:
    return host.routing.ip_route_output(Flow(daddr, oif=oif))


def source(host: Host, daddr: int) -> int:
    """What the route prefers as source."""
    flow = Flow(daddr)
    host.routing.ip_route_output(flow)
    return int(flow.saddr)


# -- ip_queue_xmit


def test_a_segment_leaves_with_what_its_socket_says() -> None:
    host = Host()
    sk = tcp_sock(host)
    sk.tos, sk.uc_ttl, sk.inet_id, sk.mark, sk.priority = 0x28, 33, 0xFFFF, 5, 6
    host.start()
    packet = segment(b"muffin")
    assert host.ip_output.ip_queue_xmit(sk, packet) == 0
    assert (packet.sk, packet.mark, packet.priority, packet.dst) == (sk, 5, 6, sk.dst_cache)
    (sent,) = host.eth0.take()
    iph = head(sent)
    assert (iph.saddr, iph.daddr, iph.tos, iph.ttl, iph.protocol) == (OURS, PEER, 0x28, 33, IPPROTO_TCP)
    assert (iph.ident, iph.frag_off, iph.total_len, len(sent)) == (0xFFFF, IP_DF, 46, 46)
    assert sent[40:] == b"muffin" and sk.inet_id == 0
    assert host.moved() == SENT and host.drops.reasons == []


def test_the_checksum_offsets_move_with_the_header() -> None:
    """csum_start counts from the packet's first byte, wherever that is."""
    host = Host()
    host.eth0.features |= NETIF_F_HW_CSUM
    host.ip_output.ip_queue_xmit(tcp_sock(host), segment(b"muffin"))
    (packet,) = host.eth0.packets
    assert (packet.network_header, packet.transport_header) == (14, 34)
    assert (packet.ip_summed, packet.csum_start, packet.csum_offset) == (CHECKSUM_PARTIAL, 34, 16)


@pytest.mark.parametrize(
    ("pmtudisc", "locked", "df"),
    [
        (IP_PMTUDISC_DONT, False, False),
        (IP_PMTUDISC_WANT, False, True),
        (IP_PMTUDISC_WANT, True, False),
        (IP_PMTUDISC_DO, False, True),
        (IP_PMTUDISC_DO, True, True),
        (IP_PMTUDISC_PROBE, False, False),
    ],
)
def test_ip_dont_fragment(pmtudisc: int, locked: bool, df: bool) -> None:
    """ip_dont_fragment: DO always, WANT unless the path's MTU is locked (it said less than min_pmtu)."""
    host = Host()
    sk = tcp_sock(host)
    sk.pmtudisc = pmtudisc
    dst = to(host, PEER)
    dst.mtu_locked = locked
    sk.dst_cache = dst
    host.ip_output.ip_queue_xmit(sk, segment())
    assert head(host.eth0.take()[0]).dont_fragment is df


def test_the_route_is_kept_until_the_generation_moves() -> None:
    """__sk_dst_check."""
    host = Host()
    sk = tcp_sock(host, FAR)
    host.route("0.0.0.0/0", "192.0.2.1")
    host.ip_output.ip_queue_xmit(sk, segment())
    dst = sk.dst_cache
    host.start()
    before = host.net.mib.snapshot()
    host.ip_output.ip_queue_xmit(sk, segment())
    after = host.net.mib.snapshot()
    assert sk.dst_cache is dst and all(after[n] == before[n] for n in before if n.startswith("RtCache."))
    host.route("203.0.113.0/24", "198.51.100.1")
    host.ip_output.ip_queue_xmit(sk, segment())
    assert sk.dst_cache is not dst and (len(host.eth0.take()), len(host.eth1.take())) == (2, 1)


def test_without_a_route_it_is_ehostunreach() -> None:
    """ip_queue_xmit: no_route: IPSTATS_MIB_OUTNOROUTES, -EHOSTUNREACH."""
    host = Host()
    sk = tcp_sock(host, FAR)
    host.start()
    assert host.ip_output.ip_queue_xmit(sk, segment()) == errno.EHOSTUNREACH
    assert host.drops.reasons == [Reason.IP_OUTNOROUTES] and host.moved() == {"Ip.OutNoRoutes": 1}
    assert sk.dst_cache is None and host.icmp.sent == []


def test_so_dontroute_and_bound_devices_are_obeyed() -> None:
    host = Host()
    host.route("0.0.0.0/0", "192.0.2.1")
    near = tcp_sock(host, FAR)
    near.dontroute = True
    assert host.ip_output.ip_queue_xmit(near, segment()) == errno.EHOSTUNREACH
    bound = tcp_sock(host, FAR, OURS_1)
    bound.bound_dev_if = host.eth1.ifindex
    assert host.ip_output.ip_queue_xmit(bound, segment()) == 0
    assert (len(host.eth0.take()), len(host.eth1.take())) == (0, 1)


def test_a_transparent_socket_may_have_any_source() -> None:
    """IP_TRANSPARENT: FLOWI_FLAG_ANYSRC; anybody else's source must be ours."""
    host = Host()
    for transparent, answer in ((False, errno.EHOSTUNREACH), (True, 0)):
        sk = tcp_sock(host, PEER, FAR)
        sk.transparent = transparent
        assert host.ip_output.ip_queue_xmit(sk, segment()) == answer
    assert [head(sent).saddr for sent in host.eth0.take()] == [FAR]


def test_a_super_segment_passes_whole_and_uses_an_id_for_each_segment() -> None:
    """ip_finish_output_gso: skb_gso_validate_network_len; the device counts the IDs up."""
    host = Host()
    host.eth0.features |= NETIF_F_TSO | NETIF_F_HW_CSUM | NETIF_F_SG
    sk = tcp_sock(host)
    sk.inet_id = 100
    host.start()
    assert host.ip_output.ip_queue_xmit(sk, segment(bytes(14_600), gso_size=1460)) == 0
    (packet,) = host.eth0.packets
    assert (packet.gso_size, packet.csum_start) == (1460, 34)
    (sent,) = host.eth0.take()
    assert (head(sent).total_len, head(sent).ident, len(sent)) == (14_640, 100, 14_640)
    assert sk.inet_id >= 110 and host.moved() == SENT


@pytest.mark.parametrize(("gso_size", "sent"), [(1460, True), (1461, False)])
def test_a_super_segment_whose_segments_are_too_large(gso_size: int, sent: bool) -> None:
    """With DF the whole of it is refused, and TCP hears of the MTU as from any router."""
    host = Host()
    host.eth0.features |= NETIF_F_TSO | NETIF_F_HW_CSUM | NETIF_F_SG
    host.ip_output.ip_queue_xmit(tcp_sock(host), segment(bytes(3 * gso_size), gso_size))
    assert (len(host.eth0.take()), host.icmp.sent) == ((1, []) if sent else (0, [(3, 4, 1500)]))


def test_a_super_segment_without_df_is_cut_twice() -> None:
    """ip_finish_output_gso: segments first, then each is fragmented."""
    host = Host()
    host.eth0.features |= NETIF_F_TSO | NETIF_F_HW_CSUM | NETIF_F_SG
    sk = tcp_sock(host)
    sk.pmtudisc = IP_PMTUDISC_DONT
    payload = bytes(range(250)) * 16
    host.start()
    host.ip_output.ip_queue_xmit(sk, segment(payload, 2000))
    assert host.moved() == {"Ip.OutRequests": 1, "Ip.OutTransmits": 4, "Ip.FragCreates": 4, "Ip.FragOKs": 2}
    pieces = [(head(sent).ident, head(sent).fragment_offset, sent[20:]) for sent in host.eth0.take()]
    first = pieces[0][2] + pieces[1][2]
    second = pieces[2][2] + pieces[3][2]
    assert first[20:] + second[20:] == payload and pieces[2][0] == (pieces[0][0] + 1) & 0xFFFF


# -- ip_build_and_send_pkt


@pytest.mark.parametrize(
    ("protocol", "df", "frag_off", "fixed_ident"),
    [(IPPROTO_TCP, True, IP_DF, True), (IPPROTO_TCP, False, 0, False), (IPPROTO_ICMP, False, 0, False)],
)
def test_a_packet_of_nobody(protocol: int, df: bool, frag_off: int, fixed_ident: bool) -> None:
    """RFC 6864 4.1: an atomic datagram's ID means nothing, and 0 tells nothing."""
    host = Host()
    idents = []
    for _ in range(3):
        host.start()
        host.ip_output.ip_build_and_send_pkt(Packet(b"reply"), to(host, PEER), OURS, PEER, protocol, 4, 64, df)
        (sent,) = host.eth0.take()
        iph = head(sent)
        assert (iph.protocol, iph.tos, iph.ttl, iph.frag_off, sent[20:]) == (protocol, 4, 64, frag_off, b"reply")
        assert host.moved() == SENT
        idents.append(int(iph.ident))
    assert (idents == [0, 0, 0]) is fixed_ident


def test_df_is_the_senders_to_choose_where_the_path_mtu_is_locked() -> None:
    """What TCP sends without a socket has it always: "Please enforce IP_DF and IPID==0" (tcp_v4_init)."""
    host = Host()
    host.routing.update_pmtu(Flow(PEER), 68)
    dst = to(host, PEER)
    host.ip_output.ip_build_and_send_pkt(Packet(b"reply"), dst, OURS, PEER, IPPROTO_TCP, 0, 64, True)
    assert (dst.mtu, head(host.eth0.take()[0]).frag_off) == (552, IP_DF)


def test_a_large_reply_is_fragmented() -> None:
    """RFC 1122 3.2.2.6: an echo reply as large as the request, fragmented if need be."""
    host = Host()
    host.start()
    host.ip_output.ip_build_and_send_pkt(Packet(bytes(3000)), to(host, PEER), OURS, PEER, IPPROTO_ICMP, 0, 64, False)
    assert [len(sent) for sent in host.eth0.take()] == [1500, 1500, 60]
    assert host.moved() == {"Ip.OutRequests": 1, "Ip.OutTransmits": 3, "Ip.FragCreates": 3, "Ip.FragOKs": 1}


# -- ip_send_datagram


def send(host: Host, sk: Sock, length: int, daddr: int = PEER, ttl: int = 0) -> list[bytes]:
    dst = to(host, daddr)
    assert host.ip_output.ip_send_datagram(sk, dst, source(host, daddr), daddr, IPPROTO_UDP, bytes(length), 0, ttl) == 0
    return host.eth0.take()


@pytest.mark.parametrize(
    ("pmtudisc", "length", "frames", "df"),
    [
        (IP_PMTUDISC_DONT, 1480, 1, False),
        (IP_PMTUDISC_DONT, 1481, 2, False),
        (IP_PMTUDISC_WANT, 1480, 1, True),
        (IP_PMTUDISC_WANT, 1481, 2, False),  # __ip_make_skb: DF only on what fits
        (IP_PMTUDISC_WANT, 65_515, 45, False),
        (IP_PMTUDISC_DO, 1480, 1, True),
        (IP_PMTUDISC_DO, 1481, 0, True),
        (IP_PMTUDISC_PROBE, 1480, 1, True),
        (IP_PMTUDISC_PROBE, 1481, 0, True),
        (IP_PMTUDISC_DONT, 65_516, 0, False),  # no header could say it
    ],
)
def test_larger_than_the_mtu(pmtudisc: int, length: int, frames: int, df: bool) -> None:
    """__ip_append_data: maxnonfragsize; EMSGSIZE for DO and PROBE."""
    host = Host()
    sk = host.sock()
    sk.pmtudisc = pmtudisc
    host.start()
    if frames == 0:
        with pytest.raises(OSError) as failure:
            send(host, sk, length)
        assert failure.value.errno == errno.EMSGSIZE
        assert host.moved() == {} and host.eth0.take() == []
        return
    sent = send(host, sk, length)
    assert len(sent) == frames and all(len(frame) <= 1500 for frame in sent)
    assert all(head(frame).dont_fragment is df for frame in sent)
    fragmented = {"Ip.FragCreates": frames, "Ip.FragOKs": 1} if frames > 1 else {}
    assert host.moved() == {"Ip.OutRequests": 1, "Ip.OutTransmits": frames} | fragmented


def test_the_path_mtu_counts_unless_the_socket_probes() -> None:
    """ip_sk_use_pmtu: IP_PMTUDISC_PROBE goes by the device's MTU."""
    host = Host()
    host.routing.update_pmtu(Flow(PEER), 1400)
    sk = host.sock()
    assert len(send(host, sk, 1381)) == 2
    sk.pmtudisc = IP_PMTUDISC_DO
    with pytest.raises(OSError):
        send(host, sk, 1381)
    sk.pmtudisc = IP_PMTUDISC_PROBE
    assert [len(frame) for frame in send(host, sk, 1480)] == [1500]


@pytest.mark.parametrize(
    ("daddr", "ttl", "expected"),
    [(PEER, 0, 33), (PEER, 9, 9), (a("239.1.2.3"), 0, 1), (a("239.1.2.3"), 5, 5), (BROADCAST, 0, 33)],
)
def test_ttl_by_kind_of_destination(daddr: int, ttl: int, expected: int) -> None:
    """RFC 1112 6.1: a group's datagrams go out with TTL 1 unless asked otherwise (ip_select_ttl, mc_ttl)."""
    host = Host()
    host.route("0.0.0.0/0", "192.0.2.1")
    sk = host.sock()
    sk.uc_ttl = 33
    assert head(send(host, sk, 8, daddr, ttl)[0]).ttl == expected
    sk.uc_ttl = -1
    host.net.sysctl.ip_default_ttl = 77
    assert daddr != PEER or ttl or head(send(host, sk, 8, daddr)[0]).ttl == 77


def test_the_checksum_is_the_devices_unless_fragments_make_it_ours() -> None:
    """A partial sum over a datagram cannot be completed by who sees a part of it."""
    for length, offloaded in ((100, True), (3000, False)):
        host = Host()
        host.eth0.features |= NETIF_F_HW_CSUM
        dst = to(host, PEER)
        l4 = b"\0" * 6 + b"\x12\x34" + bytes(length)
        host.ip_output.ip_send_datagram(host.sock(), dst, OURS, PEER, IPPROTO_UDP, l4, 0, 0, csum_offset=6)
        assert (host.eth0.packets[0].ip_summed == CHECKSUM_PARTIAL) is offloaded
        field = host.eth0.take()[0][26:28]
        assert field == (b"\x12\x34" if offloaded else b"\xed\xcb")


@pytest.mark.parametrize(
    ("connected", "pmtudisc", "steps"),
    [(True, IP_PMTUDISC_WANT, 1), (True, IP_PMTUDISC_DONT, 1), (False, IP_PMTUDISC_WANT, 0)],
)
def test_ident_of_datagrams(connected: bool, pmtudisc: int, steps: int) -> None:
    """ip_select_ident_segs: a connected socket counts for itself; unconnected with DF it is 0."""
    host = Host()
    sk = host.sock(PEER if connected else 0)
    sk.pmtudisc = pmtudisc
    idents = [int(head(send(host, sk, 8)[0]).ident) for _ in range(4)]
    assert [(b - a) & 0xFFFF for a, b in zip(idents, idents[1:], strict=False)] == [steps] * 3
    assert connected or idents[0] == 0


# -- ourselves, and everybody


@pytest.mark.parametrize("daddr", [OURS, OURS_1, LOCALHOST, a("127.7.7.7")])
def test_to_ourselves_by_the_loopback_device(daddr: int) -> None:
    """RTN_LOCAL leaves by lo and keeps its route, so that 127/8 is no martian on the way in."""
    host = Host()
    dst = to(host, daddr)
    host.start()
    host.ip_output.ip_send_datagram(host.sock(), dst, source(host, daddr), daddr, IPPROTO_UDP, b"12345678muffin", 0, 0)
    assert host.udp.got == []
    host.poll()
    assert host.udp.payloads == [b"12345678muffin"] and host.balanced()
    assert host.moved() == SENT | {"Ip.InReceives": 1, "Ip.InDelivers": 1} and host.eth0.take() == []


def test_to_ourselves_larger_than_anything() -> None:
    """lo's MTU is 65536, the largest datagram there is goes whole."""
    host = Host()
    dst = to(host, LOCALHOST)
    sk = host.sock()
    sk.pmtudisc = IP_PMTUDISC_DO
    host.ip_output.ip_send_datagram(sk, dst, LOCALHOST, LOCALHOST, IPPROTO_UDP, bytes(65_515), 0, 0)
    host.poll()
    assert [len(payload) for payload in host.udp.payloads] == [65_515]


@pytest.mark.parametrize(
    ("daddr", "loop", "on_wire", "comes_back", "out", "received"),
    [
        (BROADCAST, True, 1, 1, "Ip.OutBcastPkts", "Ip.InBcastPkts"),
        (BROADCAST, False, 1, 1, "Ip.OutBcastPkts", "Ip.InBcastPkts"),
        (a("192.0.2.255"), True, 1, 1, "Ip.OutBcastPkts", "Ip.InBcastPkts"),
        (ALL_HOSTS, True, 1, 1, "Ip.OutMcastPkts", "Ip.InMcastPkts"),
        (ALL_HOSTS, False, 1, 0, "Ip.OutMcastPkts", ""),  # IP_MULTICAST_LOOP 0
        (a("239.1.2.3"), True, 1, 0, "Ip.OutMcastPkts", ""),  # we do not listen there
    ],
)
def test_ip_mc_output(daddr: int, loop: bool, on_wire: int, comes_back: int, out: str, received: str) -> None:
    """RFC 1122 3.3.6: a broadcast is for this host's sockets as well; a group if it was joined."""
    host = Host()
    sk = host.sock()
    sk.mc_loop = loop
    dst = to(host, daddr, host.eth0.ifindex)
    host.start()
    host.ip_output.ip_send_datagram(sk, dst, OURS, daddr, IPPROTO_UDP, b"12345678", 0, 0)
    host.poll()
    assert (len(host.eth0.take()), len(host.udp.got)) == (on_wire, comes_back) and host.balanced()
    expected = SENT | {out: 1}
    if comes_back:
        expected |= {"Ip.InReceives": 1, "Ip.InDelivers": 1, received: 1}
    assert host.moved() == expected and host.drops.reasons == []


def test_a_group_with_ttl_0_stays_on_this_host() -> None:
    """RFC 1112 6.1."""
    host = Host()
    sk = host.sock()
    sk.mc_ttl = 0
    dst = to(host, ALL_HOSTS, host.eth0.ifindex)
    host.ip_output.ip_send_datagram(sk, dst, OURS, ALL_HOSTS, IPPROTO_UDP, b"12345678", 0, 0)
    host.poll()
    assert host.eth0.take() == [] and len(host.udp.got) == 1 and host.drops.reasons == []


def test_without_lo_a_broadcast_still_leaves() -> None:
    host = Host()
    host.devices.dev_close(host.real_lo)
    dst = to(host, BROADCAST, host.eth0.ifindex)
    host.ip_output.ip_send_datagram(host.sock(), dst, OURS, BROADCAST, IPPROTO_UDP, b"12345678", 0, 0)
    host.poll()
    assert len(host.eth0.take()) == 1 and host.udp.got == []


# -- hooks, neighbours


@pytest.mark.parametrize(
    ("point", "verdict", "answer", "counters"),
    [
        (NF_INET_LOCAL_OUT, NF_ACCEPT, 0, SENT),
        (NF_INET_LOCAL_OUT, NF_DROP, errno.EPERM, {"Ip.OutRequests": 1}),
        (NF_INET_LOCAL_OUT, nf_drop_err(errno.ECONNREFUSED), errno.ECONNREFUSED, {"Ip.OutRequests": 1}),
        (NF_INET_POST_ROUTING, NF_ACCEPT, 0, SENT),
        (NF_INET_POST_ROUTING, NF_DROP, 0, {"Ip.OutRequests": 1}),
    ],
)
def test_hooks_on_the_way_out(point: int, verdict: int, answer: int, counters: dict[str, int]) -> None:
    """nf_hook in __ip_local_out and ip_output; a refusal at LOCAL_OUT is the sender's error."""
    host = Host()
    seen: list[tuple[int, str]] = []

    def look(state: HookState) -> int:
        assert state.packet.iph is not None and state.out_dev is not None and state.in_dev is None
        seen.append((int(state.packet.iph.daddr), state.out_dev.name))
        return verdict

    host.hooks.nf_register_hook(point, look)
    host.start()
    assert host.ip_output.ip_queue_xmit(tcp_sock(host), segment()) == answer
    assert seen == [(PEER, "eth0")] and host.moved() == counters
    assert host.drops.reasons == ([] if verdict == NF_ACCEPT else [Reason.NETFILTER_DROP])


def test_post_routing_sees_the_whole_datagram_before_it_is_cut() -> None:
    host = Host()
    lengths: list[int] = []

    def look(state: HookState) -> int:
        lengths.append(int(state.packet.len))
        return NF_ACCEPT

    host.hooks.nf_register_hook(NF_INET_POST_ROUTING, look)
    assert len(send(host, host.sock(), 3000)) == 3 and lengths == [3020]


def test_the_neighbour_is_kept_in_the_route_until_it_dies() -> None:
    host = Host()
    arp = host.add(FakeDevice("eth2", 8), "203.0.113.1/24")
    arp.flags &= ~0x80  # IFF_NOARP: this one resolves
    host.neighbours.neigh_add(FAR, arp, 0x02_00_00_00_00_33)
    sk = tcp_sock(host, FAR, a("203.0.113.1"))
    host.ip_output.ip_queue_xmit(sk, segment())
    dst = sk.dst_cache
    assert dst is not None and dst.neigh is not None
    first = dst.neigh
    host.neighbours.neigh_delete(FAR, arp)
    host.neighbours.neigh_add(FAR, arp, 0x02_00_00_00_00_44)
    host.ip_output.ip_queue_xmit(sk, segment())
    assert first.dead and dst.neigh is not first
    assert [frame[:6].hex() for frame in arp.frames] == ["020000000033", "020000000044"]


def test_a_neighbour_that_cannot_be_made_is_the_tables_loss() -> None:
    """The device went down and the route does not know yet."""
    host = Host()
    dst = to(host, PEER)
    host.eth0.flags &= ~IFF_UP
    host.start()
    host.ip_output.ip_send_datagram(host.sock(), dst, OURS, PEER, IPPROTO_UDP, b"12345678", 0, 0)
    assert host.drops.reasons == [Reason.NEIGH_DEAD] and host.eth0.take() == []


# -- IP_OPTIONS


def test_a_source_routed_socket_goes_by_its_first_hop() -> None:
    """ip_queue_xmit with inet_opt.srr: route and header are the first hop's, the list ends with the destination."""
    host = Host()
    host.routing.add_address(host.eth1, address("10.0.0.2/24"))
    sk = tcp_sock(host, FAR, a("10.0.0.2"))
    sk.inet_opt = ip_options_get(b"\x83\x07\x04" + (a("10.0.0.1")).to_bytes(4, "big"))
    host.start()
    assert host.ip_output.ip_queue_xmit(sk, segment(b"x")) == 0
    (sent,) = host.eth1.take()
    iph = head(sent)
    assert (iph.header_len, iph.daddr, iph.total_len) == (28, a("10.0.0.1"), 49)
    assert sent[20:28] == b"\x83\x07\x04" + FAR.to_bytes(4, "big") + b"\0"


@pytest.mark.parametrize(("strict", "answer"), [(False, 0), (True, errno.EHOSTUNREACH)])
def test_a_strict_first_hop_must_be_on_the_link(strict: bool, answer: int) -> None:
    """ip_queue_xmit: "if (inet_opt && inet_opt->opt.is_strictroute && rt->rt_uses_gateway) goto no_route"."""
    host = Host()
    host.route("0.0.0.0/0", "192.0.2.1")
    sk = tcp_sock(host, PEER)
    sk.inet_opt = ip_options_get((b"\x89" if strict else b"\x83") + b"\x07\x04" + FAR.to_bytes(4, "big"))
    assert host.ip_output.ip_queue_xmit(sk, segment()) == answer


def test_options_count_against_the_mtu() -> None:
    host = Host()
    sk = host.sock()
    sk.pmtudisc = IP_PMTUDISC_DO
    sk.inet_opt = ip_options_get(b"\x07\x07\x04\0\0\0\0")
    (sent,) = send(host, sk, 1472)
    assert (len(sent), head(sent).header_len) == (1500, 28)
    with pytest.raises(OSError):
        send(host, sk, 1473)


def test_what_is_sent_can_be_received() -> None:
    """The two ways meet: what one host sends another takes."""
    sender, receiver = Host(), Host()
    sender.routing.del_address(sender.eth0, OURS, 24)
    sender.routing.add_address(sender.eth0, address("192.0.2.1/24"))
    sk = sender.sock(OURS, PEER)
    dst = to(sender, OURS)
    for length in (0, 1, 7, 1479, 1480, 1481, 9000):
        payload = bytes(i & 0xFF for i in range(length))
        sender.ip_output.ip_send_datagram(sk, dst, PEER, OURS, IPPROTO_UDP, payload, 0, 0)
        for frame in sender.eth0.take():
            receiver.rx(frame)
        assert receiver.udp.got.pop().payload() == payload
    assert receiver.balanced() and receiver.drops.reasons == []
