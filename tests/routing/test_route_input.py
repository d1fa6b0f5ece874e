"""ip_route_input_noref: what becomes of a received packet, in the kernel's order of decisions."""

from __future__ import annotations

from typing import TYPE_CHECKING

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
    shown,
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
    rt_nexthop,
)
from ustack.packet import Packet
from ustack.routing.route_input import MartianWatcher
from ustack.timer import NSEC_PER_SEC
from ustack.wire.ethernet import ETH_P_ARP
from ustack.wire.ipv4 import IPPROTO_IGMP

if TYPE_CHECKING:
    from ustack.device.net_device import NetDevice

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
    ("a link's broadcast address as source: nobody asks the tables", DIRECTED, OURS, RTN_LOCAL, SLOW),
    ("0/8 is unicast since Linux 5.3", a("0.0.0.5"), OURS, RTN_LOCAL, SLOW),
    ("a group nobody joined", PEER, GROUP, Reason.IP_INVALID_DEST, ""),
    ("a group's address as source", GROUP, OURS, Reason.IP_INVALID_SOURCE, SRC),
    ("a group's address as source, to a group", GROUP, ALL_HOSTS, Reason.IP_INVALID_SOURCE, ""),
    ("the broadcast address as source", BROADCAST, OURS, Reason.IP_INVALID_SOURCE, SRC),
    ("the broadcast address as source, to a group", BROADCAST, ALL_HOSTS, Reason.IP_INVALID_SOURCE, ""),
    ("0.0.0.0 as source, to us alone", 0, OURS, Reason.IP_INVALID_SOURCE, SRC),
    ("0.0.0.0 as destination", PEER, 0, Reason.IP_INVALID_DEST, DST),
    ("CVE-2020-8558: to 127/8 from a wire", PEER, LOCALHOST, Reason.IP_LOCALNET, DST),
    ("from 127/8 on a wire", LOCALHOST, OURS, Reason.IP_LOCALNET, SRC),
    ("from 127/8 to all on a wire", a("127.3.3.3"), ALL_HOSTS, Reason.IP_LOCALNET, ""),
    ("our own address as source: LAND, CVE-1999-0016", OURS, OURS, Reason.IP_LOCAL_SOURCE, SRC),
    ("our other address as source", OURS_1, OURS, Reason.IP_LOCAL_SOURCE, SRC),
    ("our own address as source, to all", OURS, BROADCAST, Reason.IP_LOCAL_SOURCE, SRC),
    ("our own address as source, to a group", OURS, ALL_HOSTS, Reason.IP_LOCAL_SOURCE, ""),
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
    assert packet.dst.dev is links.lo and packet.dst.is_input and packet.dst.output is None
    expected = {f"RtCache.{counter}": 1} | ({} if outcome == RTN_MULTICAST else {"RtCache.in_slow_tot": 1})
    assert moved(before, links.net) == expected


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
    kept = None
    for _ in range(2):  # made, then the next hop's
        packet = received(links.eth0, saddr, daddr)
        assert links.routing.ip_route_input(packet) is None
        dst = packet.dst
        assert dst is not None and (dst.rt_type, dst.dev.name) == (RTN_UNICAST, dev)
        assert rt_nexthop(dst, daddr) == nexthop and dst.uses_gateway is (nexthop != daddr)
        assert (dst.input, dst.output, dst.local, dst.is_input) == (links.forward, links.output, False, True)
        assert packet.redirected is redirect
        assert kept in (None, dst)
        kept = dst


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


@pytest.mark.parametrize(
    ("saddr", "daddr", "reason"),
    [
        (OURS, FAR, Reason.IP_LOCAL_SOURCE),
        (DIRECTED, FAR, None),  # as Linux: with rp_filter off only our own addresses are looked for
        (DIRECTED, a("192.0.2.77"), Reason.IP_INVALID_SOURCE),  # out where it came in: the tables were asked
    ],
)
def test_a_router_checks_the_source_of_what_it_forwards(saddr: int, daddr: int, reason: Reason | None) -> None:
    """RFC 1812 5.3.7: martian sources are not forwarded."""
    links = router()
    assert links.routing.ip_route_input(received(links.eth0, saddr, daddr)) is reason


def test_route_localnet_lets_127_in() -> None:
    links = Links()
    links.net.conf.all.route_localnet = 1
    assert links.routing.ip_route_input(received(links.eth0, PEER, LOCALHOST)) is None


def test_what_comes_through_lo_has_its_route_or_is_a_martian() -> None:
    """ "loopback packets retain skb_dst so normally they would not even hit this slow path": ``route get iif lo``."""
    links = Links()
    for saddr, daddr, reason in (
        (LOCALHOST, LOCALHOST, Reason.IP_LOCALNET),
        (OURS, OURS, Reason.IP_LOCAL_SOURCE),
        (PEER, OURS, None),
    ):
        assert links.routing.ip_route_input(received(links.lo, saddr, daddr)) is reason


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


# -- broadcasts


@pytest.mark.parametrize(
    ("everywhere", "here", "forwarded"), [(0, 0, False), (1, 0, False), (0, 1, False), (1, 1, True)]
)
def test_directed_broadcasts_are_forwarded_if_asked_for(everywhere: int, here: int, forwarded: bool) -> None:
    """bc_forwarding of ``all`` and of the device it came in by (RFC 2644: not by default); never the limited one."""
    links = router()
    links.net.conf.all.bc_forwarding = everywhere
    links.eth0.in_dev.cnf.bc_forwarding = here
    packet = received(links.eth0, PEER, a("198.51.100.255"))
    assert links.routing.ip_route_input(packet) is None and packet.dst is not None
    assert packet.dst.input is (links.forward if forwarded else links.local)
    assert packet.dst.rt_type == RTN_BROADCAST and (packet.dst.dev is links.eth1) is forwarded
    limited = received(links.eth0, PEER, BROADCAST)
    assert links.routing.ip_route_input(limited) is None and limited.dst is not None
    assert limited.dst.input is links.local


def test_a_broadcast_that_may_be_forwarded_is_not_kept_as_one_that_may_not() -> None:
    """ "not do cache if bc_forwarding is enabled": the next hop's place is for what is forwarded."""
    links = router()
    links.net.conf.all.bc_forwarding = links.eth1.in_dev.cnf.bc_forwarding = 1
    directed = a("198.51.100.255")
    mine = [received(links.eth0, PEER, directed) for _ in range(2)]
    through = received(links.eth1, PEER_1, a("192.0.2.255"))
    for packet in (*mine, through):
        assert links.routing.ip_route_input(packet) is None
    assert mine[0].dst is not mine[1].dst and mine[0].dst is not None and mine[0].dst.input is links.local
    assert through.dst is not None and through.dst.input is links.forward


# -- ARP


@pytest.mark.parametrize(
    ("daddr", "pvlan", "outcome"),
    [
        (OURS, 0, RTN_LOCAL),
        (PEER_1, 0, RTN_UNICAST),
        (a("192.0.2.77"), 0, Reason.ARP_PVLAN_DISABLE),  # out where it came in: he can ask him himself
        (a("192.0.2.77"), 1, RTN_UNICAST),
        (BROADCAST, 0, Reason.INVALID_PROTO),
        (ALL_HOSTS, 0, Reason.INVALID_PROTO),
    ],
)
def test_arp_asks_for_a_way_too(daddr: int, pvlan: int, outcome: int | Reason) -> None:
    """__mkroute_input: "Not IP (i.e. ARP). Do not create route, if it is invalid for proxy arp." """
    links = router()
    links.eth0.in_dev.cnf.proxy_arp_pvlan = pvlan
    packet = Packet(b"", links.eth0)
    packet.protocol = ETH_P_ARP
    reason = links.routing.input_route.ip_route_input_noref(packet, daddr, PEER, 0, links.eth0)
    assert (reason if packet.dst is None else packet.dst.rt_type) == outcome and not packet.redirected


# -- martians


class Log(MartianWatcher):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[tuple[str, str, bool]] = []
        self.missed: list[int] = []

    def martian(self, packet: Packet, dev: NetDevice, saddr: int, daddr: int, source: bool) -> None:
        self.lines.append((shown(saddr), shown(daddr), source))

    def suppressed(self, count: int) -> None:
        self.missed.append(int(count))


def test_martians_are_told_of_where_log_martians_is_on() -> None:
    """RFC 1812 5.3.8, by the device's switch or that of ``all``; and no faster than net_ratelimit."""
    links, log = Links(), Log()
    links.routing.input_route.martian_watchers.append(log)
    impossible = [(OURS, OURS), (PEER, LOCALHOST), (GROUP, OURS)]
    for saddr, daddr in impossible:
        links.routing.ip_route_input(received(links.eth0, saddr, daddr))
    assert log.lines == []
    links.eth0.in_dev.cnf.log_martians = 1
    for saddr, daddr in impossible:
        links.routing.ip_route_input(received(links.eth0, saddr, daddr))
        links.routing.ip_route_input(received(links.eth1, saddr, daddr))
    assert log.lines == [
        ("192.0.2.2", "192.0.2.2", True),
        ("192.0.2.1", "127.0.0.1", False),
        ("239.1.2.3", "192.0.2.2", True),
    ]
    for _ in range(100):
        links.routing.ip_route_input(received(links.eth0, OURS, OURS))
    assert (len(log.lines), log.missed) == (10, [])
    links.net.now += 6 * NSEC_PER_SEC
    for _ in range(2):
        links.routing.ip_route_input(received(links.eth0, OURS, OURS))
    assert (len(log.lines), log.missed) == (12, [93])
    links.net.now += 6 * NSEC_PER_SEC
    links.routing.ip_route_input(received(links.eth0, OURS, OURS))
    assert (len(log.lines), log.missed) == (13, [93])


# -- what is kept


@pytest.mark.parametrize(("daddr", "kept"), [(OURS, True), (DIRECTED, True), (BROADCAST, False), (ALL_HOSTS, False)])
def test_the_second_packet_hits(daddr: int, kept: bool) -> None:
    """The next hop keeps the answer where the tables gave it; limited broadcast and groups are decided without."""
    links = Links()
    first, second = received(links.eth0, PEER, daddr), received(links.eth0, PEER, daddr)
    assert links.routing.ip_route_input(first) is None
    before = links.net.mib.snapshot()
    assert links.routing.ip_route_input(second) is None
    assert (second.dst is first.dst) is kept
    assert moved(before, links.net).get("RtCache.in_hit", 0) == kept


def test_refusals_are_not_kept() -> None:
    """A martian costs the slow way each time, and no memory."""
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


def test_a_flood_of_sources_makes_nothing() -> None:
    """CVE-2003-0244, CVE-2023-1206: there is no table that chosen sources could fill or make slow."""
    links = router()
    before = links.net.mib.snapshot()
    for host in range(3000):
        assert links.routing.ip_route_input(received(links.eth0, a("10.0.0.0") + host, OURS)) is None
        assert links.routing.ip_route_input(received(links.eth0, a("10.0.0.0") + host, FAR)) is None
    assert moved(before, links.net) == {"RtCache.in_slow_tot": 2, "RtCache.in_hit": 5998}
