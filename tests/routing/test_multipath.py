"""fib_multipath_hash: which of several next hops a flow takes."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from librt.strings import BytesWriter

from tests.routing.links import FAR, OURS, PEER, PEER_1, FakeDevice, Links, a
from ustack.packet import Packet
from ustack.routing.fib_types import FibConfig, NexthopConfig
from ustack.routing.flow import Flow
from ustack.routing.multipath import mix
from ustack.routing.uapi import NLM_F_CREATE
from ustack.wire import icmp, ipv4
from ustack.wire.ethernet import ETH_P_IP
from ustack.wire.icmp import ICMP_DEST_UNREACH, ICMP_ECHO
from ustack.wire.ipv4 import IP_MF, IPPROTO_ICMP, IPPROTO_TCP, IPPROTO_UDP

THERE = a("203.0.113.9")
#: Policies of net.ipv4.fib_multipath_hash_policy.
L3, L4, INNER, CUSTOM = 0, 1, 2, 3
IPIP = 4


def datagram(
    saddr: int,
    daddr: int,
    sport: int = 1,
    dport: int = 2,
    protocol: int = IPPROTO_UDP,
    payload: bytes = b"",
    frag_off: int = 0,
) -> bytes:
    """A packet; ``payload`` instead of ports if it is given."""
    out = BytesWriter()
    l4 = payload or sport.to_bytes(2, "big") + dport.to_bytes(2, "big") + bytes(16)
    ipv4.emit(out, 0, 20 + len(l4), 1, frag_off, 64, protocol, saddr, daddr)
    out.write(l4)
    return out.getvalue()


def received(whole: bytes, dev: FakeDevice | None = None) -> Packet:
    packet = Packet(whole, dev)
    packet.iph = ipv4.parse(whole, 0, len(whole))
    packet.protocol = ETH_P_IP
    return packet


def hashed(links: Links, whole: bytes) -> int:
    return int(links.routing.multipath.fib_multipath_hash(None, received(whole)))


def both_ways(weights: tuple[int, int] = (1, 1)) -> Links:
    """203.0.113.0/24 by eth0 and by eth1."""
    links = Links()
    links.net.conf.inet_forward_change(1)
    cfg = FibConfig(a("203.0.113.0"), 24)
    cfg.nlflags = NLM_F_CREATE
    cfg.multipath = [
        NexthopConfig(links.eth0.ifindex, PEER, weights[0]),
        NexthopConfig(links.eth1.ifindex, PEER_1, weights[1]),
    ]
    links.routing.fib.rtm_newroute(cfg)
    return links


# -- the hash


@given(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1))
@settings(max_examples=50)
def test_mix_is_32_bits_and_depends_on_both(seed: int, value: int) -> None:
    assert 0 <= mix(seed, value) < 1 << 32 and mix(seed, value) != mix(seed, value ^ 1)


def test_mix_spreads() -> None:
    buckets = Counter(int(mix(99, value)) >> 28 for value in range(16_000))
    assert len(buckets) == 16 and max(buckets.values()) < 1200


@pytest.mark.parametrize("policy", [L3, L4, INNER, CUSTOM])
def test_it_has_31_bits_and_is_the_same_both_ways(policy: int) -> None:
    """__flow_hash_consistentify: the answer takes the way of the question."""
    links = Links()
    links.net.sysctl.fib_multipath_hash_policy = policy
    links.net.sysctl.fib_multipath_hash_fields = 0x37
    forth, back = datagram(OURS, FAR, 5, 9), datagram(FAR, OURS, 9, 5)
    assert hashed(links, forth) == hashed(links, back) < 1 << 31


def test_another_stack_another_choice() -> None:
    """The secret is the stack's own: nobody outside can aim at a path."""
    ours = Links()
    other = Links()
    other.routing.multipath = type(other.routing.multipath)(other.net)
    whole = datagram(OURS, FAR)
    assert hashed(ours, whole) != hashed(other, whole)


@pytest.mark.parametrize(
    ("policy", "addresses", "ports", "protocol"),
    [(L3, True, False, False), (L4, True, True, True), (INNER, True, False, False), (CUSTOM, True, False, True)],
)
def test_what_counts(policy: int, addresses: bool, ports: bool, protocol: bool) -> None:
    """Documentation/networking/ip-sysctl.rst; the fields of policy 3 are addresses and protocol by default."""
    links = Links()
    links.net.sysctl.fib_multipath_hash_policy = policy
    base = hashed(links, datagram(OURS, FAR, 5, 9))
    assert (hashed(links, datagram(OURS, THERE, 5, 9)) != base) is addresses
    assert (hashed(links, datagram(OURS, FAR, 6, 9)) != base) is ports
    assert (hashed(links, datagram(OURS, FAR, 5, 9, IPPROTO_TCP)) != base) is protocol


@pytest.mark.parametrize("policy", [L3, L4, INNER, CUSTOM])
def test_our_own_packets_go_as_they_would_be_forwarded(policy: int) -> None:
    """A flow and a packet of it hash the same."""
    links = Links()
    links.net.sysctl.fib_multipath_hash_policy = policy
    flow = Flow(FAR, OURS, proto=IPPROTO_UDP, sport=5, dport=9)
    own = int(links.routing.multipath.fib_multipath_hash(flow, None))
    assert own == hashed(links, datagram(OURS, FAR, 5, 9))
    flow.multipath_hash = 77
    assert links.routing.multipath.fib_multipath_hash(flow, None) != own


def test_fragments_of_one_datagram_go_one_way() -> None:
    """A fragment has no ports, not even the first."""
    links = Links()
    links.net.sysctl.fib_multipath_hash_policy = L4
    pieces = [datagram(OURS, FAR, 5, 9, frag_off=IP_MF), datagram(OURS, FAR, 77, 99, frag_off=5)]
    assert hashed(links, pieces[0]) == hashed(links, pieces[1])


@pytest.mark.parametrize("cut", [0, 1, 8, 20, 27, 28, 40])
def test_icmp_errors_go_the_way_of_what_they_are_about(cut: int) -> None:
    """ip_multipath_l3_keys: so that a server behind an anycast router hears of its own packet."""
    links = Links()
    about = datagram(FAR, THERE)
    message = icmp.emit(ICMP_DEST_UNREACH, 4, 1400, about)[: 8 + 40 - cut]
    error = datagram(a("192.0.2.77"), FAR, protocol=IPPROTO_ICMP, payload=message)
    plain = hashed(links, datagram(a("192.0.2.77"), FAR))
    assert hashed(links, error) == (hashed(links, about) if cut <= 20 else plain)


def test_other_icmp_is_like_anything_else() -> None:
    links = Links()
    echo = datagram(OURS, FAR, protocol=IPPROTO_ICMP, payload=icmp.emit(ICMP_ECHO, 0, 1, datagram(FAR, THERE)))
    fragment = datagram(OURS, FAR, protocol=IPPROTO_ICMP, payload=icmp.emit(3, 1, 0, datagram(FAR, THERE)), frag_off=4)
    plain = hashed(links, datagram(OURS, FAR))
    assert hashed(links, echo) == hashed(links, fragment) == plain


def test_a_tunnels_inner_packet() -> None:
    """Policy 2: the innermost addresses, whatever is around them."""
    links = Links()
    inner = datagram(OURS, THERE, 5, 9)
    tunnel = datagram(PEER, PEER_1, protocol=IPIP, payload=inner)
    nested = datagram(PEER_1, FAR, protocol=IPIP, payload=tunnel)
    broken = datagram(PEER, PEER_1, protocol=IPIP, payload=b"E")
    plain, outer = hashed(links, inner), hashed(links, datagram(PEER, PEER_1))
    assert hashed(links, tunnel) == outer
    links.net.sysctl.fib_multipath_hash_policy = INNER
    assert hashed(links, tunnel) == hashed(links, nested) == plain and hashed(links, broken) == outer


@pytest.mark.parametrize(
    ("fields", "inner_counts", "ports_count"), [(0x7, False, False), (0x40, True, False), (0x400, False, True)]
)
def test_custom_fields_of_tunnels(fields: int, inner_counts: bool, ports_count: bool) -> None:
    """FIB_MULTIPATH_HASH_FIELD_INNER_*."""
    links = Links()
    links.net.sysctl.fib_multipath_hash_policy = CUSTOM
    links.net.sysctl.fib_multipath_hash_fields = fields
    wrapped = [
        hashed(links, datagram(PEER, PEER_1, protocol=IPIP, payload=inner))
        for inner in (datagram(OURS, FAR, 5, 9), datagram(THERE, FAR, 5, 9), datagram(OURS, FAR, 6, 9))
    ]
    assert (wrapped[0] != wrapped[1]) is inner_counts and (wrapped[0] != wrapped[2]) is ports_count


@given(
    st.binary(max_size=80), st.sampled_from([L3, L4, INNER, CUSTOM]), st.sampled_from([IPIP, IPPROTO_ICMP, 6, 17, 200])
)
@settings(max_examples=150)
def test_no_packet_raises(noise: bytes, policy: int, protocol: int) -> None:
    links = Links()
    links.net.sysctl.fib_multipath_hash_policy = policy
    links.net.sysctl.fib_multipath_hash_fields = 0xFFF
    assert hashed(links, datagram(OURS, FAR, protocol=protocol, payload=noise or b"x")) < 1 << 31
    assert links.routing.multipath.fib_multipath_hash(None, Packet(noise)) < 1 << 31


# -- the choice


@pytest.mark.parametrize("weights", [(1, 1), (3, 1), (1, 9)])
def test_flows_are_shared_out_by_weight(weights: tuple[int, int]) -> None:
    links = both_ways(weights)
    links.net.sysctl.fib_multipath_hash_policy = L4
    chosen: Counter[str] = Counter()
    for sport in range(2000):
        chosen[links.routing.ip_route_output(Flow(FAR, proto=IPPROTO_UDP, sport=sport, dport=9)).dev.name] += 1
    share = weights[0] / sum(weights)
    assert abs(chosen["eth0"] / 2000 - share) < 0.04


def test_a_flow_stays_on_its_way_in_and_out() -> None:
    """Each way has its own answer, kept by its own hop."""
    links = both_ways()
    third = links.add(FakeDevice("eth2", 0x02_00_00_00_02_02), "10.0.0.1/24")
    for host in range(1, 60):
        daddr = a("203.0.113.0") + host
        ways = []
        for _ in range(3):
            packet = received(datagram(a("10.0.0.9"), daddr), third)
            assert links.routing.ip_route_input(packet) is None and packet.dst is not None
            ways.append(packet.dst)
        assert ways[0] is ways[1] is ways[2] and ways[0].gateway in (PEER, PEER_1)
    hops = [nhc for fi in links.routing.fib.semantics.infos if fi is not None and len(fi.nh) == 2 for nhc in fi.nh]
    assert len(hops) == 2 and all(nhc.rth_input is not None for nhc in hops)


def test_who_names_a_device_has_chosen() -> None:
    """fib_select_path: "if (fl4->flowi4_oif) goto check_saddr"."""
    links = both_ways()
    for host in range(1, 30):
        assert links.routing.ip_route_output(Flow(a("203.0.113.0") + host, oif=links.eth1.ifindex)).gateway == PEER_1


def test_a_source_of_one_hops_device_prefers_that_hop() -> None:
    """fib_select_multipath since 6.16: a hop whose own source is the one asked for scores higher than the hash."""
    links = both_ways()
    for host in range(1, 30):
        for saddr, gateway in ((OURS, PEER), (a("198.51.100.2"), PEER_1)):
            assert links.routing.ip_route_output(Flow(a("203.0.113.0") + host, saddr)).gateway == gateway
