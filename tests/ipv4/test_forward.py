"""ip_forward (RFC 1812 section 5.3; RFC 1122 3.3.4.2: off unless switched on)."""

from __future__ import annotations

import pytest

from tests.ipv4.host import Host, datagram, head
from tests.routing.links import BROADCAST, FAR, OURS, PEER, PEER_1, a, address
from ustack.device.net_device import NETIF_F_HW_CSUM, NETIF_F_SG, NETIF_F_TSO
from ustack.drop import Reason
from ustack.dst import RTN_BLACKHOLE, RTN_PROHIBIT, RTN_UNREACHABLE
from ustack.ipv4 import forward as forward_module
from ustack.netfilter.hooks import NF_ACCEPT, NF_DROP, NF_INET_FORWARD, NF_INET_POST_ROUTING, HookState
from ustack.packet import CHECKSUM_PARTIAL, CHECKSUM_UNNECESSARY, SKB_GSO_TCPV4, Packet
from ustack.routing.flow import Flow
from ustack.timer import NSEC_PER_MSEC
from ustack.wire.checksum import csum_partial, csum_tcpudp_nofold, fold
from ustack.wire.ethernet import ETH_P_IP, header
from ustack.wire.ipv4 import IP_DF, IPPROTO_TCP

NEIGHBOUR = a("192.0.2.77")
BROADCAST_MAC = 0xFFFF_FFFF_FFFF
FORWARDED = {"Ip.InReceives": 1, "Ip.ForwDatagrams": 1, "Ip.OutTransmits": 1}
REDIRECT = (5, 1, NEIGHBOUR)


def router() -> Host:
    host = Host()
    host.net.conf.inet_forward_change(1)
    host.route("203.0.113.0/24", "198.51.100.1")
    host.start()
    return host


@pytest.mark.parametrize("length", [0, 1, 100, 512, 513, 1480])
def test_it_leaves_one_hop_older_and_otherwise_untouched(length: int) -> None:
    """RFC 1812 5.3.1, and 4.2.2.5: the checksum is adjusted, not computed anew."""
    host = router()
    payload = bytes(i * 3 & 0xFF for i in range(length))
    packet = datagram(PEER, FAR, payload, ttl=64, tos=0x2E, frag_off=IP_DF, ident=99)
    host.rx(packet)
    (sent,) = host.eth1.take()
    iph = head(sent)
    assert iph.ttl == 63 and (sent[:8], sent[9:10], sent[12:]) == (packet[:8], packet[9:10], packet[12:])
    assert host.moved() == FORWARDED and host.drops.reasons == [] and host.icmp.sent == []
    assert host.balanced() and host.net.mib.path.forwarded == 1


@pytest.mark.parametrize(
    ("tos", "priority"), [(0, 0), (0x02, 0), (0x08, 2), (0x10, 6), (0x18, 4), (0x2E, 2), (0xB8, 4), (0xE0, 0)]
)
def test_it_gets_the_priority_of_its_tos(tos: int, priority: int) -> None:
    """ip_forward_update_priority (rt_tos2priority): the queue on the way out is told what the sender asked for."""
    host = router()
    seen: list[int] = []

    def note(state: HookState) -> int:
        seen.append(int(state.packet.priority))
        return NF_ACCEPT

    host.hooks.nf_register_hook(NF_INET_FORWARD, note)
    host.rx(datagram(PEER, FAR, tos=tos))
    host.net.sysctl.ip_forward_update_priority = 0
    host.rx(datagram(PEER, FAR, tos=tos))
    assert seen == [priority, 0]


def test_off_by_default() -> None:
    """RFC 1122 3.3.1.1: a host "MUST NOT" forward unless configured to."""
    host = Host()
    host.route("203.0.113.0/24", "198.51.100.1")
    host.start()
    host.rx(datagram(PEER, FAR))
    assert host.drops.reasons == [Reason.IP_FORWARDING_OFF] and host.eth1.take() == []
    assert host.moved() == {"Ip.InReceives": 1, "Ip.InAddrErrors": 1} and host.icmp.sent == []


@pytest.mark.parametrize(
    ("what", "packet", "mac", "reason", "icmp", "counters"),
    [
        ("TTL 1", datagram(PEER, FAR, ttl=1), None, Reason.TTL_EXPIRED, [(11, 0, 0)], {"Ip.InHdrErrors": 1}),
        ("TTL 0", datagram(PEER, FAR, ttl=0), None, Reason.TTL_EXPIRED, [(11, 0, 0)], {"Ip.InHdrErrors": 1}),
        ("no route", datagram(PEER, a("10.0.0.1")), None, Reason.IP_INNOROUTES, [(3, 0, 0)], {"Ip.InNoRoutes": 1}),
        ("unreachable", datagram(PEER, a("10.1.0.1")), None, Reason.IP_HOSTUNREACH, [(3, 1, 0)], {}),
        ("prohibited", datagram(PEER, a("10.2.0.1")), None, Reason.IP_PROHIBITED, [(3, 13, 0)], {}),
        ("blackhole", datagram(PEER, a("10.3.0.1")), None, Reason.IP_BLACKHOLE, [], {}),
        ("in a broadcast frame", datagram(PEER, FAR), BROADCAST_MAC, Reason.OTHERHOST, [], {}),
        ("our own source", datagram(OURS, FAR), None, Reason.IP_LOCAL_SOURCE, [], {}),
        ("from a broadcast address", datagram(BROADCAST, FAR), None, Reason.IP_INVALID_SOURCE, [], {}),
        ("to another link's 127", datagram(PEER, a("127.0.0.5")), None, Reason.IP_LOCALNET, [], {}),
    ],
)
def test_what_a_router_refuses(
    what: str,
    packet: bytes,
    mac: int | None,
    reason: Reason,
    icmp: list[tuple[int, int, int]],
    counters: dict[str, int],
) -> None:
    host = router()
    for network, rt_type in (("10.1.0.0", RTN_UNREACHABLE), ("10.2.0.0", RTN_PROHIBIT), ("10.3.0.0", RTN_BLACKHOLE)):
        host.routing.add_route(a(network), 16, rt_type=rt_type)
    host.rx(packet, dst_mac=mac)
    assert (host.drops.reasons, host.icmp.sent) == ([reason], icmp)
    assert host.moved() == {"Ip.InReceives": 1} | counters
    assert host.eth0.take() == host.eth1.take() == [] and host.balanced()


@pytest.mark.parametrize(
    ("length", "df", "mtu", "sent"),
    [(980, True, 1000, 1), (981, True, 1000, 0), (981, False, 1000, 2), (1480, True, 1500, 1)],
)
def test_ip_exceeds_mtu(length: int, df: bool, mtu: int, sent: int) -> None:
    """RFC 1812 5.3.6, RFC 1191: too large and DF set."""
    host = router()
    host.eth1.mtu = mtu
    host.routing.rt_cache_flush()
    host.rx(datagram(PEER, FAR, bytes(length), frag_off=IP_DF if df else 0))
    assert len(host.eth1.take()) == sent and host.balanced()
    assert host.icmp.sent == ([] if sent else [(3, 4, mtu)])
    assert host.drops.reasons == ([] if sent else [Reason.PKT_TOO_BIG])


@pytest.mark.parametrize(("gso_size", "sent"), [(1460, 1), (1461, 0)])
def test_a_super_segment_is_measured_by_its_segments(gso_size: int, sent: int) -> None:
    """ip_exceeds_mtu: skb_gso_validate_network_len; it leaves whole, its checksum still the device's to complete."""
    host = router()
    host.eth1.features |= NETIF_F_TSO | NETIF_F_HW_CSUM | NETIF_F_SG
    tcp = b"\0" * 12 + b"\x50" + b"\0" * 7
    packet = datagram(PEER, FAR, tcp + bytes(9000), protocol=IPPROTO_TCP, frag_off=IP_DF)
    frame = Packet(header(host.eth0.mac, 1, ETH_P_IP) + packet, host.eth0)
    frame.gso_size, frame.gso_type = gso_size, 1
    frame.ip_summed, frame.csum_start, frame.csum_offset = CHECKSUM_PARTIAL, 34, 16
    host.devices.netif_receive_skb(frame)
    assert host.icmp.sent == ([] if sent else [(3, 4, 1500)]) and host.balanced()
    for out in host.eth1.packets:
        assert (out.gso_size, out.ip_summed, out.csum_start, out.transport_header) == (
            gso_size,
            CHECKSUM_PARTIAL,
            34,
            34,
        )
    assert [len(whole) for whole in host.eth1.take()] == [9040] * sent


def test_a_super_segment_that_may_be_cut_is_cut_and_accounted_for() -> None:
    """ip_finish_output_gso without DF: what was received as one leaves as many, and is forwarded once."""
    host = router()
    tcp = b"\0" * 12 + b"\x50" + b"\0" * 7
    packet = datagram(PEER, FAR, tcp + bytes(range(200)) * 20, protocol=IPPROTO_TCP)
    frame = Packet(header(host.eth0.mac, 1, ETH_P_IP) + packet, host.eth0)
    frame.gso_size, frame.gso_type = 2000, 1
    frame.ip_summed, frame.csum_start, frame.csum_offset = CHECKSUM_PARTIAL, 34, 16
    host.devices.netif_receive_skb(frame)
    sent = host.eth1.take()
    assert all(len(piece) <= 1500 for piece in sent) and sum(len(piece) - 20 for piece in sent) == 2 * 20 + 4000
    assert host.balanced() and host.net.mib.path.forwarded == 1 and host.drops.reasons == []


@pytest.mark.parametrize("tso", [True, False])
@pytest.mark.parametrize("length", [3000, 60_000])
def test_a_super_segment_whose_sums_are_verified_passes_uncut(length: int, tso: bool) -> None:
    """tcp4_gro_complete: what a device has verified (virtio's DATA_VALID) gets the pseudo-header's sum, and the next
    device cuts it, or we do if it cannot; the receiver finds every checksum right."""
    host = router()
    if tso:
        host.eth1.features |= NETIF_F_TSO | NETIF_F_HW_CSUM | NETIF_F_SG
    payload = bytes(i * 7 & 0xFF for i in range(length))
    tcp = bytes((0, 80, 4, 0)) + bytes(8) + b"\x50\x10" + b"\x12\x34" + b"\xbe\xef" + bytes(2)
    packet = datagram(PEER, FAR, tcp + payload, protocol=IPPROTO_TCP, frag_off=IP_DF)
    frame = Packet(header(host.eth0.mac, 1, ETH_P_IP) + packet, host.eth0)
    frame.gso_size, frame.gso_type, frame.ip_summed = 1400, SKB_GSO_TCPV4, CHECKSUM_UNNECESSARY
    host.devices.netif_receive_skb(frame)
    states = [(out.gso_size, out.ip_summed) for out in host.eth1.packets]
    sent = host.eth1.take()
    if tso:
        assert states == [(1400, CHECKSUM_PARTIAL)] and sent[0][40:] == payload
        check = int(fold(csum_tcpudp_nofold(PEER, FAR, 20 + length, IPPROTO_TCP)))
        assert sent[0][36:38] == check.to_bytes(2, "big")
    else:
        assert len(sent) == -(-length // 1400) and b"".join(piece[40:] for piece in sent) == payload
        for piece in sent:
            pseudo = csum_tcpudp_nofold(PEER, FAR, len(piece) - 20, IPPROTO_TCP)
            assert csum_partial(piece, 20, len(piece), pseudo) == 0xFFFF
    assert host.balanced() and host.icmp.sent == [] and host.net.mib.path.forwarded == 1


def test_what_is_no_tcp_is_no_super_segment_of_it() -> None:
    """Metadata that lies is dropped when it has to be cut, and nothing is written into the packet before."""
    host = router()
    frame = Packet(header(host.eth0.mac, 1, ETH_P_IP) + datagram(PEER, FAR, bytes(3000)), host.eth0)
    frame.gso_size, frame.gso_type, frame.ip_summed = 1400, SKB_GSO_TCPV4, CHECKSUM_UNNECESSARY
    host.devices.netif_receive_skb(frame)
    assert host.drops.reasons == [Reason.GSO_SEG] and host.balanced()


@pytest.mark.parametrize(
    ("eth0", "eth1", "daddr", "dev"),
    [(1, 0, FAR, "eth0"), (1, 1, FAR, "eth0"), (0, 1, FAR, ""), (1, 0, PEER, ""), (0, 1, PEER, "eth1")],
)
def test_each_device_has_its_own_switch(eth0: int, eth1: int, daddr: int, dev: str) -> None:
    """IN_DEV_FORWARD of the device it came in by; RFC 1812 2.2.8.2 calls the whole an embedded router."""
    host = router()
    host.net.conf.inet_forward_change(0)
    host.eth0.in_dev.cnf.forwarding, host.eth1.in_dev.cnf.forwarding = eth0, eth1
    if daddr == FAR:
        host.rx(datagram(PEER, FAR))
    else:
        host.rx(datagram(PEER_1, PEER), host.eth1)
    forwarded = dev != ""
    assert len(host.eth1.take()) + len(host.eth0.take()) == forwarded
    assert host.drops.reasons == ([] if forwarded else [Reason.IP_FORWARDING_OFF])


@pytest.mark.parametrize(("use_pmtu", "mtu"), [(0, 1500), (1, 1000)])
@pytest.mark.parametrize("df", [True, False])
def test_a_routers_packets_fit_its_links(use_pmtu: int, mtu: int, df: bool) -> None:
    """ip_forward_use_pmtu, read for every packet: what ICMP has told counts for forwarding only if it is on."""
    host = router()
    host.routing.update_pmtu(Flow(FAR), 1000)
    host.net.sysctl.ip_forward_use_pmtu = use_pmtu
    host.rx(datagram(PEER, FAR, bytes(1400), frag_off=IP_DF if df else 0))
    sent = host.eth1.take()
    if mtu == 1500:
        assert [len(piece) for piece in sent] == [1420] and host.icmp.sent == []
    elif df:
        assert sent == [] and host.icmp.sent == [(3, 4, 1000)]
    else:
        assert len(sent) == 2 and all(len(piece) <= 1000 for piece in sent)


def test_a_route_may_lower_the_mtu_for_what_is_forwarded() -> None:
    """ "'forwarding = true' case should always honour route mtu"."""
    host = router()
    host.routing.add_route(a("10.0.0.0"), 8, PEER_1, mtu=1200)
    host.rx(datagram(PEER, a("10.0.0.1"), bytes(1300), frag_off=IP_DF))
    assert host.icmp.sent == [(3, 4, 1200)] and host.eth1.take() == []


def test_many_packets_leave_one_answer_behind() -> None:
    """What is forwarded is kept by next hops alone: nothing grows with sources and destinations (attack 23)."""
    host = router()
    for number in range(300):
        host.rx(datagram(a("192.0.2.10") + number % 90, a("203.0.113.1") + number % 200))
    assert len({id(packet.dst) for packet in host.eth1.packets}) == 1 and len(host.eth1.take()) == 300
    assert host.net.mib.rt_cache.in_hit == 299


@pytest.mark.parametrize("bc_forwarding", [0, 1])
def test_directed_broadcasts_go_on_if_asked_to(bc_forwarding: int) -> None:
    """RFC 2644; forwarded, it is a broadcast on the last link."""
    host = router()
    host.net.conf.all.bc_forwarding = host.eth0.in_dev.cnf.bc_forwarding = bc_forwarding
    host.rx(datagram(PEER, a("198.51.100.255")))
    assert len(host.eth1.take()) == bc_forwarding and len(host.udp.got) == 1 - bc_forwarding
    assert host.balanced() and host.drops.reasons == []


def test_two_routers_that_point_at_each_other() -> None:
    """RFC 1812 5.3.1: the TTL ends a routing loop (attack 24)."""
    one, two = router(), router()
    for host in (one, two):
        host.route("10.0.0.0/8", "198.51.100.1")
    one.rx(datagram(PEER, a("10.0.0.1"), ttl=5))
    hops = 0
    here, there = one, two
    while frames := here.eth1.take():
        hops += 1
        there.rx(frames[0], there.eth1)
        here, there = there, here
    assert hops == 4 and [host.icmp.sent for host in (one, two)] == [[(11, 0, 0)], []]
    assert one.balanced() and two.balanced()


def test_dead_ends_are_noticed_after_a_change() -> None:
    """What was forwarded from the cache is asked anew when the route is gone."""
    host = router()
    host.rx(datagram(PEER, FAR))
    host.routing.del_route(a("203.0.113.0"), 24)
    host.rx(datagram(PEER, FAR))
    assert len(host.eth1.take()) == 1 and host.drops.reasons == [Reason.IP_INNOROUTES]


# -- hooks


@pytest.mark.parametrize("verdict", [NF_ACCEPT, NF_DROP])
@pytest.mark.parametrize("point", [NF_INET_FORWARD, NF_INET_POST_ROUTING])
def test_hooks_of_what_passes_through(point: int, verdict: int) -> None:
    """NF_INET_FORWARD sees it after the TTL went down, with both devices; POST_ROUTING too."""
    host = router()
    seen: list[tuple[str, str, int, int]] = []

    def look(state: HookState) -> int:
        iph = state.packet.iph
        assert iph is not None and state.in_dev is not None and state.out_dev is not None
        seen.append((state.in_dev.name, state.out_dev.name, int(iph.ttl), int(iph.start)))
        return verdict

    host.hooks.nf_register_hook(point, look)
    host.rx(datagram(PEER, FAR))
    assert seen == [("eth0", "eth1", 63, 0)] and host.balanced()
    assert len(host.eth1.take()) == (verdict == NF_ACCEPT)
    assert host.drops.reasons == ([] if verdict == NF_ACCEPT else [Reason.NETFILTER_DROP])


# -- redirects


def test_out_where_it_came_in_is_told_to_the_sender() -> None:
    """RFC 1812 5.2.7.2: and the packet is forwarded all the same; the gateway named is the next hop."""
    host = router()
    host.rx(datagram(PEER, NEIGHBOUR))
    assert host.icmp.sent == [REDIRECT] and len(host.eth0.take()) == 1 and host.moved() == FORWARDED


@pytest.mark.parametrize(
    ("saddr", "daddr", "everywhere", "here", "told"),
    [
        (PEER, FAR, 1, 1, False),  # another way out
        (FAR, NEIGHBOUR, 1, 1, False),  # a sender that is not on the link
        (PEER, NEIGHBOUR, 0, 0, False),
        (PEER, NEIGHBOUR, 0, 1, True),  # either switch is enough
        (PEER, NEIGHBOUR, 1, 0, True),
    ],
)
def test_who_is_told(saddr: int, daddr: int, everywhere: int, here: int, told: bool) -> None:
    """send_redirects of ``all`` or of the device: IN_DEV_TX_REDIRECTS."""
    host = router()
    host.net.conf.all.send_redirects, host.eth0.in_dev.cnf.send_redirects = everywhere, here
    host.rx(datagram(saddr, daddr))
    assert host.icmp.sent == ([REDIRECT] if told else []) and host.drops.reasons == []


def test_the_gateway_is_told_of_where_there_is_one() -> None:
    """rt_nexthop."""
    host = router()
    host.route("10.0.0.0/8", "192.0.2.88")
    host.rx(datagram(PEER, a("10.0.0.1")))
    assert host.icmp.sent == [(5, 1, a("192.0.2.88"))]


@pytest.mark.parametrize(
    ("shared_media", "gateway", "told"),
    [(1, "192.0.2.88", True), (0, "192.0.2.88", True), (0, "10.5.0.1", False), (1, "10.5.0.1", True)],
)
def test_without_shared_media_only_within_a_subnet(shared_media: int, gateway: str, told: bool) -> None:
    """inet_addr_onlink: sender and gateway in one subnet, or who knows whether they can reach each other."""
    host = router()
    host.routing.add_address(host.eth0, address("10.5.0.2/24"))
    host.net.conf.all.shared_media = host.eth0.in_dev.cnf.shared_media = shared_media
    host.route("10.0.0.0/16", gateway)
    host.start()
    host.rx(datagram(PEER, a("10.0.0.1")))
    assert host.icmp.sent == ([(5, 1, a(gateway))] if told else []) and host.drops.reasons == []


def test_redirects_become_rare_stop_and_start_again() -> None:
    """ip_rt_send_redirect: after 20 ms, 40, 80 ..., at most nine, then silence for 20.48 s of unheeded packets."""
    host = router()
    when: list[int] = []
    for ms in range(0, 12_000, 10):
        host.net.now = ms * NSEC_PER_MSEC
        host.rx(datagram(PEER, NEIGHBOUR))
        if host.icmp.sent:
            when.append(ms)
            host.icmp.sent.clear()
    gaps = [later - earlier for earlier, later in zip(when, when[1:], strict=False)]
    assert len(when) == 9 and all(gap > 20 << (i + 1) for i, gap in enumerate(gaps))
    host.net.now += 20_480 * NSEC_PER_MSEC
    host.rx(datagram(PEER, NEIGHBOUR))
    assert host.icmp.sent == []  # exactly the silence is not yet beyond it
    host.net.now += 20_481 * NSEC_PER_MSEC
    host.rx(datagram(PEER, NEIGHBOUR))
    assert host.icmp.sent == [REDIRECT]


def test_redirected_hosts_are_counted_in_a_bounded_table() -> None:
    host = router()
    host.routing.add_route(a("10.0.0.0"), 8, dev=host.eth0)
    many = forward_module.REDIRECT_PEERS + 5
    for number in range(many):
        host.rx(datagram(a("10.0.0.1") + number, NEIGHBOUR))
    assert host.icmp.sent == [REDIRECT] * many
    assert host.net.mib.icmp.RedirectPeersEvicted == forward_module.REDIRECT_PEERS
    host.icmp.sent.clear()
    host.rx(datagram(a("10.0.0.1") + many - 1, NEIGHBOUR))
    assert host.icmp.sent == []
    host.rx(datagram(a("10.0.0.1"), NEIGHBOUR))
    assert host.icmp.sent == [REDIRECT], "the first were forgotten when it was full"


# -- options on the way


def test_a_router_records_the_address_it_sends_from() -> None:
    """ip_forward_options; RFC 791 record route: "the outgoing internet address of this module"."""
    host = router()
    host.rx(datagram(PEER, FAR, options=b"\x07\x0b\x04" + bytes(8) + b"\0"))
    (sent,) = host.eth1.take()
    assert sent[20:32] == b"\x07\x0b\x08" + a("198.51.100.2").to_bytes(4, "big") + bytes(4) + b"\0"
    assert (head(sent).ttl, sent[32:]) == (63, b"muffin") and host.moved() == FORWARDED


def test_source_routes_are_refused_by_default() -> None:
    """accept_source_route is off; RFC 7126 4.3.5 and 4.4.5."""
    for kind in (0x83, 0x89):
        host = router()
        host.rx(datagram(PEER, OURS, options=bytes([kind]) + b"\x07\x04" + FAR.to_bytes(4, "big") + b"\0"))
        assert host.drops.reasons == [Reason.IP_SOURCE_ROUTED] and host.icmp.sent == []
        assert host.moved() == {"Ip.InReceives": 1, "Ip.InHdrErrors": 1} and host.balanced()


def test_a_source_route_goes_on_from_here_if_accepted() -> None:
    """ip_options_rcv_srr, ip_forward_options: the next hop becomes the destination, our address takes its place."""
    host = router()
    host.net.conf.all.accept_source_route = 1
    host.rx(datagram(PEER, OURS, options=b"\x83\x0b\x04" + FAR.to_bytes(4, "big") + PEER_1.to_bytes(4, "big") + b"\0"))
    (sent,) = host.eth1.take()
    assert head(sent).daddr == FAR
    assert sent[20:32] == b"\x83\x0b\x08" + a("198.51.100.2").to_bytes(4, "big") + PEER_1.to_bytes(4, "big") + b"\0"


def test_until_it_leaves_a_source_routed_packet_is_still_to_us() -> None:
    """The next hop becomes the destination in ip_forward_options, after FORWARD has seen what came."""
    host = router()
    host.net.conf.all.accept_source_route = 1
    seen: list[int] = []

    def look(state: HookState) -> int:
        assert state.packet.iph is not None
        seen.append(int(state.packet.iph.daddr))
        return NF_ACCEPT

    host.hooks.nf_register_hook(NF_INET_FORWARD, look)
    record = b"\x07\x07\x04" + bytes(4)
    host.rx(datagram(PEER, OURS, options=record + b"\x83\x07\x04" + FAR.to_bytes(4, "big") + b"\0\0"))
    (sent,) = host.eth1.take()
    us = a("198.51.100.2").to_bytes(4, "big")
    assert seen == [OURS] and head(sent).daddr == FAR
    assert sent[20:36] == b"\x07\x07\x08" + us + b"\x83\x07\x08" + us + b"\0\0"


@pytest.mark.parametrize(
    ("options", "daddr", "reason", "icmp"),
    [
        # strict, and the next hop is behind a gateway: source route failed
        (b"\x89\x07\x04" + FAR.to_bytes(4, "big"), OURS, Reason.IP_SR_FAILED, [(3, 5, 0)]),
        # strict, and it was never for us: the route was not followed, the pointer is at the destination address
        (b"\x89\x07\x04" + FAR.to_bytes(4, "big"), PEER_1, Reason.IP_SOURCE_ROUTED, [(12, 0, 16)]),
        # the pointer leaves no room for an address
        (b"\x83\x07\x06" + FAR.to_bytes(4, "big"), OURS, Reason.IP_SOURCE_ROUTED, [(12, 0, 22)]),
        # to a group, to a broadcast, to where no route is
        (b"\x83\x07\x04" + a("239.1.2.3").to_bytes(4, "big"), OURS, Reason.IP_SOURCE_ROUTED, []),
        (b"\x83\x07\x04" + BROADCAST.to_bytes(4, "big"), OURS, Reason.IP_SOURCE_ROUTED, []),
        (b"\x83\x07\x04" + a("10.0.0.1").to_bytes(4, "big"), OURS, Reason.IP_SOURCE_ROUTED, []),
    ],
)
def test_accepted_source_routes_that_fail(
    options: bytes, daddr: int, reason: Reason, icmp: list[tuple[int, int, int]]
) -> None:
    host = router()
    host.net.conf.all.accept_source_route = 1
    host.rx(datagram(PEER, daddr, options=options + b"\0"))
    assert (host.drops.reasons, host.icmp.sent) == ([reason], icmp)
    assert host.eth1.take() == [] and host.balanced()


def test_a_source_route_that_has_come_to_its_end_is_delivered() -> None:
    host = router()
    host.net.conf.all.accept_source_route = 1
    host.rx(datagram(PEER, OURS, options=b"\x83\x07\x08" + FAR.to_bytes(4, "big") + b"\0"))
    assert host.udp.payloads == [b"muffin"] and host.balanced()
