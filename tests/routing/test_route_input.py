"""ip_route_input_noref: what becomes of a received packet, in the kernel's order of decisions."""

from __future__ import annotations

import pytest

from tests.routing.links import (
    ALL_HOSTS,
    BROADCAST,
    FAR,
    LOCALHOST,
    OURS,
    OURS_1,
    PEER,
    PEER_1,
    Links,
    a,
    moved,
    received,
)
from ustack.drop import Reason
from ustack.dst import (
    RTN_BLACKHOLE,
    RTN_BROADCAST,
    RTN_LOCAL,
    RTN_MULTICAST,
    RTN_PROHIBIT,
    RTN_UNICAST,
    RTN_UNREACHABLE,
)
from ustack.packet import Packet
from ustack.routing import route as route_module
from ustack.wire.ipv4 import IPPROTO_IGMP

DIRECTED = a("192.0.2.255")
GROUP = a("239.1.2.3")
ELSEWHERE = a("203.0.113.77")

SLOW = "in_slow_tot"
SRC, DST = "in_martian_src", "in_martian_dst"

#: (why, saddr, daddr) -> delivered as that type, or dropped for that reason; and the one rt_cache counter
HOST = [
    ("ours", PEER, OURS, RTN_LOCAL, SLOW),
    ("ours, from far away", FAR, OURS, RTN_LOCAL, SLOW),
    ("our other address: weak host model, RFC 1122 3.3.4.2", PEER, OURS_1, RTN_LOCAL, SLOW),
    ("class E is unicast since Linux 2.6.25", a("240.0.0.9"), OURS, RTN_LOCAL, SLOW),
    ("directed broadcast", PEER, DIRECTED, RTN_BROADCAST, "in_brd"),
    ("limited broadcast", PEER, BROADCAST, RTN_BROADCAST, "in_brd"),
    ("DHCP: no address yet, to all", 0, BROADCAST, RTN_BROADCAST, "in_brd"),
    ("0.0.0.0 to 0.0.0.0, the ancient broadcast", 0, 0, RTN_BROADCAST, "in_brd"),
    ("all hosts, RFC 1112", PEER, ALL_HOSTS, RTN_MULTICAST, "in_slow_mc"),
    ("all hosts, from who has no address yet", 0, ALL_HOSTS, RTN_MULTICAST, "in_slow_mc"),
    ("a group nobody joined", PEER, GROUP, Reason.IP_INVALID_DEST, ""),
    ("a group's address as source", GROUP, OURS, Reason.IP_INVALID_SOURCE, SRC),
    ("a group's address as source, to a group", GROUP, ALL_HOSTS, Reason.IP_INVALID_SOURCE, SRC),
    ("the broadcast address as source", BROADCAST, OURS, Reason.IP_INVALID_SOURCE, SRC),
    ("the broadcast address as source, to a group", BROADCAST, ALL_HOSTS, Reason.IP_INVALID_SOURCE, SRC),
    ("a link's broadcast address as source", DIRECTED, OURS, Reason.IP_INVALID_SOURCE, SRC),
    ("a link's broadcast address as source, to all", DIRECTED, BROADCAST, Reason.IP_INVALID_SOURCE, SRC),
    ("0/8 as source", a("0.0.0.5"), OURS, Reason.IP_INVALID_SOURCE, SRC),
    ("0.0.0.0 as source, to us alone", 0, OURS, Reason.IP_INVALID_SOURCE, SRC),
    ("0/8 as destination", PEER, a("0.0.0.5"), Reason.IP_INVALID_DEST, DST),
    ("0.0.0.0 as destination", PEER, 0, Reason.IP_INVALID_DEST, DST),
    ("CVE-2020-8558: to 127/8 from a wire", PEER, LOCALHOST, Reason.IP_LOCALNET, DST),
    ("from 127/8 on a wire", LOCALHOST, OURS, Reason.IP_LOCALNET, SRC),
    ("from 127/8 to all on a wire", a("127.3.3.3"), ALL_HOSTS, Reason.IP_LOCALNET, SRC),
    ("our own address as source: LAND, CVE-1999-0016", OURS, OURS, Reason.IP_LOCAL_SOURCE, SRC),
    ("our other address as source", OURS_1, OURS, Reason.IP_LOCAL_SOURCE, SRC),
    ("our own address as source, to all", OURS, BROADCAST, Reason.IP_LOCAL_SOURCE, SRC),
    ("our own address as source, to a group", OURS, ALL_HOSTS, Reason.IP_LOCAL_SOURCE, SRC),
]


@pytest.mark.parametrize(("why", "saddr", "daddr", "outcome", "counter"), HOST, ids=[row[0] for row in HOST])
def test_a_host_decides(why: str, saddr: int, daddr: int, outcome: int | Reason, counter: str) -> None:
    links = Links()
    before = links.net.mib.snapshot()
    packet = received(links.eth0, saddr, daddr)
    reason = links.routing.ip_route_input(packet)
    if isinstance(outcome, Reason):
        assert reason is outcome and packet.dst is None
        assert moved(before, links.net) == ({f"RtCache.{counter}": 1} if counter else {})
        return
    assert reason is None and packet.dst is not None
    assert (packet.dst.rt_type, packet.dst.input, packet.dst.local) == (outcome, links.local, True)
    assert moved(before, links.net) == {"RtCache.in_slow_tot": 1, f"RtCache.{counter}": 1}


@pytest.mark.parametrize("daddr", [FAR, PEER_1, a("192.0.2.77")])
def test_a_host_forwards_nothing(daddr: int) -> None:
    """RFC 1122 3.3.4.2 / ip_route_input_slow: EHOSTUNREACH unless IN_DEV_FORWARD, told to nobody."""
    links = Links()
    links.route("0.0.0.0/0", "192.0.2.1")
    before = links.net.mib.snapshot()
    packet = received(links.eth0, PEER, daddr)
    assert links.routing.ip_route_input(packet) is Reason.IP_FORWARDING_OFF
    assert moved(before, links.net) == {"RtCache.in_no_route": 1, "RtCache.in_slow_tot": 1}


def router() -> Links:
    links = Links()
    links.net.conf.inet_forward_change(1)
    links.route("203.0.113.0/24", "198.51.100.1")
    return links


@pytest.mark.parametrize(
    ("saddr", "daddr", "dev", "nexthop", "redirect"),
    [
        (PEER, PEER_1, "eth1", PEER_1, False),
        (PEER, FAR, "eth1", PEER_1, False),
        (FAR, PEER_1, "eth1", PEER_1, False),
        (PEER, a("192.0.2.77"), "eth0", a("192.0.2.77"), True),  # out where it came in, source on that link
        (FAR, a("192.0.2.77"), "eth0", a("192.0.2.77"), False),  # source not on the link: no redirect
    ],
)
def test_a_router_forwards(saddr: int, daddr: int, dev: str, nexthop: int, redirect: bool) -> None:
    """__mkroute_input; RFC 1812 5.2.7.2 says when to redirect."""
    links = router()
    for _ in range(2):  # from the tables, then from the cache
        packet = received(links.eth0, saddr, daddr)
        assert links.routing.ip_route_input(packet) is None
        dst = packet.dst
        assert dst is not None and (dst.rt_type, dst.dev.name, dst.nexthop) == (RTN_UNICAST, dev, nexthop)
        assert (dst.input, dst.output, dst.local) == (links.forward, links.output, False)
        assert (dst.doredirect, packet.redirected) == (redirect, redirect)


@pytest.mark.parametrize(
    ("rt_type", "reason"),
    [
        (0, Reason.IP_INNOROUTES),
        (RTN_BLACKHOLE, Reason.IP_BLACKHOLE),
        (RTN_UNREACHABLE, Reason.IP_HOSTUNREACH),
        (RTN_PROHIBIT, Reason.IP_PROHIBITED),
    ],
)
def test_a_router_without_a_way(rt_type: int, reason: Reason) -> None:
    """ip_error: network unreachable, silence, host unreachable, filtered."""
    links = router()
    if rt_type:
        links.routing.add_route(a("10.0.0.0"), 8, rt_type=rt_type)
    before = links.net.mib.snapshot()
    assert links.routing.ip_route_input(received(links.eth0, PEER, a("10.0.0.1"))) is reason
    assert moved(before, links.net) == {"RtCache.in_no_route": 1, "RtCache.in_slow_tot": 1}


@pytest.mark.parametrize(("saddr", "reason"), [(OURS, Reason.IP_LOCAL_SOURCE), (DIRECTED, Reason.IP_INVALID_SOURCE)])
def test_a_router_checks_the_source_of_what_it_forwards(saddr: int, reason: Reason) -> None:
    """RFC 1812 5.3.7: martian sources are not forwarded."""
    links = router()
    assert links.routing.ip_route_input(received(links.eth0, saddr, FAR)) is reason


@pytest.mark.parametrize(
    ("mode", "saddr", "reason"),
    [
        (0, PEER_1, None),
        (0, ELSEWHERE, None),
        (1, PEER, None),
        (1, PEER_1, Reason.IP_RPFILTER),  # eth1's neighbour, from eth0
        (1, ELSEWHERE, Reason.IP_RPFILTER),  # the way back is eth1
        (1, a("10.0.0.1"), Reason.IP_RPFILTER),  # no way back at all
        (2, PEER_1, None),
        (2, ELSEWHERE, None),
        (2, a("10.0.0.1"), Reason.IP_RPFILTER),
    ],
)
def test_rp_filter(mode: int, saddr: int, reason: Reason | None) -> None:
    """RFC 3704: strict (1) wants the way back out of the same device, loose (2) any way back."""
    links = router()
    links.net.conf.all.rp_filter = mode
    assert links.routing.ip_route_input(received(links.eth0, saddr, OURS)) is reason


def test_rp_filter_lets_those_speak_who_have_no_address_yet() -> None:
    """ip_route_input_slow, brd_input: a source of 0.0.0.0 is not validated, or DHCP would not work."""
    links = Links()
    links.net.conf.all.rp_filter = 1
    assert links.routing.ip_route_input(received(links.eth0, 0, BROADCAST)) is None


def test_accept_local_lets_our_own_address_in() -> None:
    links = Links()
    links.net.conf.all.accept_local = 1
    assert links.routing.ip_route_input(received(links.eth0, OURS_1, OURS)) is None


def test_route_localnet_lets_127_in() -> None:
    links = Links()
    links.net.conf.all.route_localnet = 1
    assert links.routing.ip_route_input(received(links.eth0, PEER, LOCALHOST)) is None


def test_what_comes_through_lo_without_a_route_is_no_martian() -> None:
    """__fib_validate_source: "dev_match || (res.type == RTN_LOCAL && dev == net->loopback_dev)"."""
    links = Links()
    for saddr, daddr in ((LOCALHOST, LOCALHOST), (OURS, OURS), (OURS, BROADCAST)):
        assert links.routing.ip_route_input(received(links.lo, saddr, daddr)) is None


def test_igmp_from_nobody_to_a_link_group_is_heard() -> None:
    """ip_mc_validate_source; RFC 3376 4.2.13: a report may come from 0.0.0.0."""
    links = Links()
    assert links.routing.ip_route_input(received(links.eth0, 0, ALL_HOSTS, IPPROTO_IGMP)) is None


def test_a_packet_without_header_or_device_is_refused() -> None:
    links = Links()
    assert links.routing.ip_route_input(Packet(b"", links.eth0)) is Reason.NOT_SPECIFIED
    packet = received(links.eth0, PEER, OURS)
    packet.dev = None
    assert links.routing.ip_route_input(packet) is Reason.NOT_SPECIFIED


# -- the cache


@pytest.mark.parametrize("daddr", [OURS, DIRECTED, BROADCAST, ALL_HOSTS])
def test_the_second_packet_hits(daddr: int) -> None:
    """/proc/net/stat/rt_cache: in_hit."""
    links = Links()
    first, second = received(links.eth0, PEER, daddr), received(links.eth0, PEER, daddr)
    assert links.routing.ip_route_input(first) is None
    before = links.net.mib.snapshot()
    assert links.routing.ip_route_input(second) is None
    assert second.dst is first.dst and moved(before, links.net) == {"RtCache.in_hit": 1}


def test_the_question_is_device_source_and_destination() -> None:
    links = Links()
    links.net.conf.all.rp_filter = 1
    assert links.routing.ip_route_input(received(links.eth0, PEER, OURS)) is None
    for packet in (received(links.eth1, PEER, OURS), received(links.eth0, PEER_1, OURS)):
        assert links.routing.ip_route_input(packet) is Reason.IP_RPFILTER


def test_refusals_are_not_kept() -> None:
    """A martian costs the slow way each time, and no place in the cache."""
    links = Links()
    before = links.net.mib.snapshot()
    for _ in range(3):
        assert links.routing.ip_route_input(received(links.eth0, OURS, OURS)) is Reason.IP_LOCAL_SOURCE
    assert moved(before, links.net) == {"RtCache.in_martian_src": 3}


def test_a_change_of_generation_empties_it() -> None:
    links = Links()
    assert links.routing.ip_route_input(received(links.eth0, PEER, OURS_1)) is None
    links.routing.del_address(links.eth1, OURS_1, 24)
    assert links.routing.ip_route_input(received(links.eth0, PEER, OURS_1)) is Reason.IP_FORWARDING_OFF


def test_a_flood_of_sources_cannot_grow_it() -> None:
    """CVE-2003-0244, CVE-2023-1206: chosen sources; the established flow pays one slow lookup per emptying."""
    links = Links()
    before = links.net.mib.snapshot()
    many = 2 * route_module.RT_CACHE_SIZE + 5
    for host in range(many):
        assert links.routing.ip_route_input(received(links.eth0, a("10.0.0.0") + host, OURS)) is None
    assert moved(before, links.net) == {"RtCache.in_slow_tot": many, "RtCache.gc_dst_overflow": 2}
