"""fib_validate_source: who may come in by which device (RFC 3704, RFC 1812 5.3.7 and 5.3.8)."""

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
    FakeDevice,
    Links,
    a,
    address,
    moved,
    received,
)
from ustack.drop import Reason
from ustack.dst import RTN_LOCAL
from ustack.routing.fib_rules import FibRuleConfig
from ustack.routing.fib_types import FibConfig, NexthopConfig
from ustack.routing.flow import RT_SCOPE_HOST
from ustack.routing.uapi import NLM_F_CREATE, RT_TABLE_LOCAL
from ustack.wire.ipv4 import IPPROTO_IGMP, IPPROTO_UDP

NOWHERE = a("10.0.0.1")
ELSEWHERE = a("203.0.113.77")
DIRECTED = a("192.0.2.255")


def router() -> Links:
    """ELSEWHERE and FAR are behind eth1."""
    links = Links()
    links.net.conf.inet_forward_change(1)
    links.route("203.0.113.0/24", "198.51.100.1")
    return links


def hop(gateway: int, dev: FakeDevice) -> NexthopConfig:
    return NexthopConfig(dev.ifindex, gateway)


def verdict(links: Links, saddr: int, daddr: int = OURS, dev: FakeDevice | None = None, mark: int = 0) -> Reason | None:
    packet = received(links.eth0 if dev is None else dev, saddr, daddr)
    packet.mark = mark
    return links.routing.ip_route_input(packet)


MODES = [
    (0, PEER_1, None),
    (0, ELSEWHERE, None),
    (0, NOWHERE, None),
    (0, DIRECTED, None),
    (1, PEER, None),
    (1, PEER_1, Reason.IP_RPFILTER),  # eth1's neighbour, from eth0
    (1, ELSEWHERE, Reason.IP_RPFILTER),  # the way back is eth1
    (1, NOWHERE, Reason.IP_RPFILTER),  # no way back at all
    (1, DIRECTED, Reason.IP_INVALID_SOURCE),
    (1, OURS, Reason.IP_LOCAL_SOURCE),
    (2, PEER_1, None),
    (2, ELSEWHERE, None),
    (2, NOWHERE, Reason.IP_RPFILTER),
    (2, DIRECTED, Reason.IP_INVALID_SOURCE),
]


@pytest.mark.parametrize("where", ["all", "device"])
@pytest.mark.parametrize(("mode", "saddr", "reason"), MODES)
def test_rp_filter(where: str, mode: int, saddr: int, reason: Reason | None) -> None:
    """Strict (1) wants the way back out of the same device, loose (2) any way back, off (0) that it is none of ours."""
    links = router()
    if where == "all":
        links.net.conf.all.rp_filter = mode
    else:
        links.eth0.in_dev.cnf.rp_filter = mode
    before = links.net.mib.snapshot()
    assert verdict(links, saddr) is reason
    assert moved(before, links.net) == ({"RtCache.in_martian_src": 1} if reason else {"RtCache.in_slow_tot": 1})


@pytest.mark.parametrize(("everywhere", "own", "counts"), [(1, 2, 2), (2, 1, 2), (1, 0, 1), (0, 1, 1), (0, 0, 0)])
def test_the_larger_of_both_counts(everywhere: int, own: int, counts: int) -> None:
    """IN_DEV_RPFILTER is IN_DEV_MAXCONF."""
    links = router()
    links.net.conf.all.rp_filter = everywhere
    links.eth0.in_dev.cnf.rp_filter = own
    assert (verdict(links, ELSEWHERE) is None) == (counts != 1)
    assert (verdict(links, NOWHERE) is None) == (counts == 0)


def test_another_devices_setting_does_not_count() -> None:
    links = router()
    links.eth1.in_dev.cnf.rp_filter = 1
    assert verdict(links, ELSEWHERE) is None
    assert verdict(links, PEER, OURS_1, links.eth1) is Reason.IP_RPFILTER


def test_a_multipath_route_back_by_the_device_is_enough() -> None:
    """fib_info_nh_uses_dev: one of its hops leaves there."""
    links = router()
    cfg = FibConfig(a("10.0.0.0"), 8)
    cfg.nlflags = NLM_F_CREATE
    cfg.multipath = [hop(PEER, links.eth0), hop(PEER_1, links.eth1)]
    links.routing.fib.rtm_newroute(cfg)
    links.net.conf.all.rp_filter = 1
    assert verdict(links, NOWHERE) is None and verdict(links, NOWHERE, OURS_1, links.eth1) is None


def test_a_device_without_an_address_believes_everybody_or_nobody() -> None:
    """no_addr: nothing can be said of the way back (the last resort), so a filter refuses."""
    links = router()
    bare = links.add(FakeDevice("eth2", 0x02_00_00_00_02_02))
    assert verdict(links, PEER, OURS, bare) is None
    for mode in (1, 2):
        bare.in_dev.cnf.rp_filter = mode
        assert verdict(links, PEER, OURS, bare) is Reason.IP_RPFILTER


def test_rp_filter_lets_those_speak_who_have_no_address_yet() -> None:
    """brd_input: a source of 0.0.0.0 is not validated, or DHCP would not work."""
    links = router()
    links.net.conf.all.rp_filter = 1
    assert verdict(links, 0, BROADCAST) is None and verdict(links, 0, OURS) is Reason.IP_INVALID_SOURCE


def test_what_is_forwarded_is_filtered_as_well() -> None:
    links = router()
    links.net.conf.all.rp_filter = 1
    assert verdict(links, PEER, FAR) is None and verdict(links, PEER_1, FAR) is Reason.IP_RPFILTER


# -- our own addresses


@pytest.mark.parametrize("rp_filter", [0, 1, 2])
@pytest.mark.parametrize("saddr", [OURS, OURS_1])
def test_our_own_address_from_outside(saddr: int, rp_filter: int) -> None:
    """Attacks 21 and 47 (LAND); accept_local lets it in, as far as rp_filter does."""
    links = router()
    links.net.conf.all.rp_filter = rp_filter
    assert verdict(links, saddr) is Reason.IP_LOCAL_SOURCE
    links.eth0.in_dev.cnf.accept_local = 1
    fits = rp_filter != 1 or saddr == OURS
    assert verdict(links, saddr) is (None if fits else Reason.IP_RPFILTER)
    assert verdict(links, OURS, OURS_1, links.eth1) is Reason.IP_LOCAL_SOURCE  # the other device's is off


def test_a_local_route_of_somebodys_own_makes_an_address_ours() -> None:
    """fib_has_custom_local_routes: then the addresses alone do not tell whose it is."""
    links = router()
    assert verdict(links, NOWHERE) is None
    cfg = FibConfig(a("10.0.0.0"), 8)
    cfg.rt_type, cfg.table, cfg.scope = RTN_LOCAL, RT_TABLE_LOCAL, RT_SCOPE_HOST
    cfg.oif, cfg.nlflags = links.lo.ifindex, NLM_F_CREATE
    links.routing.fib.rtm_newroute(cfg)
    assert verdict(links, NOWHERE) is Reason.IP_LOCAL_SOURCE


@pytest.mark.parametrize("daddr", [OURS, BROADCAST, DIRECTED, ALL_HOSTS])
def test_whoever_it_is_for(daddr: int) -> None:
    links = router()
    assert verdict(links, OURS, daddr) is Reason.IP_LOCAL_SOURCE


def test_an_address_that_is_gone_is_nobodys() -> None:
    links = router()
    links.routing.add_address(links.eth0, address("203.0.113.200/32"))
    assert verdict(links, a("203.0.113.200")) is Reason.IP_LOCAL_SOURCE
    links.routing.del_address(links.eth0, a("203.0.113.200"), 32)
    assert verdict(links, a("203.0.113.200")) is None


# -- 127/8


@pytest.mark.parametrize(("saddr", "daddr"), [(PEER, LOCALHOST), (LOCALHOST, OURS), (a("127.3.3.3"), ALL_HOSTS)])
def test_route_localnet(saddr: int, daddr: int) -> None:
    """CVE-2020-8558; the switch is for those who translate addresses."""
    links = router()
    assert verdict(links, saddr, daddr) is Reason.IP_LOCALNET
    links.eth0.in_dev.cnf.route_localnet = 1
    # 127.0.0.1 is ours, the rest of its subnet is not an address of anybody's
    expected = Reason.IP_LOCAL_SOURCE if saddr == LOCALHOST else None
    assert verdict(links, saddr, daddr) is expected
    assert verdict(links, saddr, daddr, links.eth1) is Reason.IP_LOCALNET


# -- rules and marks


def blackhole_of(links: Links, mark: int = 0, proto: int = 0, sport: int = 0, dport: int = 0) -> None:
    """A rule that makes every way back of that kind a dead end."""
    rule = FibRuleConfig(action=6)
    rule.priority = 5
    rule.dst, rule.dst_len = PEER, 32
    if mark:
        rule.mark = mark
    rule.ip_proto = proto
    rule.sport = (sport, sport) if sport else None
    rule.dport = (dport, dport) if dport else None
    links.routing.fib.rules.fib_nl_newrule(rule)


def test_rules_decide_about_the_way_back() -> None:
    """With rules of somebody's own the tables are asked; a lookup that fails is refused by a filter alone."""
    links = router()
    blackhole_of(links)
    assert verdict(links, PEER) is None
    links.net.conf.all.rp_filter = 2
    assert verdict(links, PEER) is Reason.IP_RPFILTER and verdict(links, a("192.0.2.9")) is None


@pytest.mark.parametrize(("src_valid_mark", "reason"), [(0, None), (1, Reason.IP_RPFILTER)])
def test_the_mark_counts_for_the_way_back_on_request(src_valid_mark: int, reason: Reason | None) -> None:
    """src_valid_mark: else a packet's mark says nothing of packets to its sender."""
    links = router()
    blackhole_of(links, mark=7)
    links.net.conf.all.rp_filter = 2
    links.eth0.in_dev.cnf.src_valid_mark = src_valid_mark
    assert verdict(links, PEER, mark=7) is reason and verdict(links, PEER, mark=8) is None


def test_ports_are_those_of_the_answer() -> None:
    """fib4_rules_early_flow_dissect, swapped."""
    for sport, dport, reason in ((7, 9, None), (9, 7, Reason.IP_RPFILTER)):
        links = router()
        links.net.conf.all.rp_filter = 2
        blackhole_of(links, proto=IPPROTO_UDP, sport=sport, dport=dport)
        packet = received(links.eth0, PEER, OURS)
        packet.buf = bytes(20) + bytes((0, 7, 0, 9, 0, 8, 0, 0))
        packet.end = len(packet.buf)
        assert links.routing.ip_route_input(packet) is reason


# -- groups


@pytest.mark.parametrize(
    ("saddr", "protocol", "reason"),
    [
        (PEER, IPPROTO_UDP, None),
        (0, IPPROTO_UDP, None),  # to the link's own groups
        (0, IPPROTO_IGMP, None),  # RFC 3376 4.2.13
        (ALL_HOSTS, IPPROTO_UDP, Reason.IP_INVALID_SOURCE),
        (BROADCAST, IPPROTO_UDP, Reason.IP_INVALID_SOURCE),
        (OURS, IPPROTO_UDP, Reason.IP_LOCAL_SOURCE),
        (PEER_1, IPPROTO_UDP, Reason.IP_RPFILTER),
    ],
)
def test_ip_mc_validate_source(saddr: int, protocol: int, reason: Reason | None) -> None:
    links = router()
    links.net.conf.all.rp_filter = 1
    before = links.net.mib.snapshot()
    assert links.routing.ip_route_input(received(links.eth0, saddr, ALL_HOSTS, protocol)) is reason
    assert moved(before, links.net) == ({} if reason else {"RtCache.in_slow_mc": 1})


def test_no_address_is_no_address_for_far_groups() -> None:
    links = router()
    validation = links.routing.input_route.validation
    packet = received(links.eth0, 0, a("239.1.2.3"))
    for protocol, reason in ((IPPROTO_UDP, Reason.IP_INVALID_SOURCE), (IPPROTO_IGMP, None)):
        assert validation.ip_mc_validate_source(packet, a("239.1.2.3"), 0, protocol, 0, links.eth0) is reason


# -- what redirects need to know


@pytest.mark.parametrize(
    ("saddr", "out", "on_link"),
    [(PEER, "eth0", 1), (FAR, "eth0", 0), (PEER_1, "eth1", 0), (ELSEWHERE, "eth1", 0)],
)
def test_whether_the_sender_is_on_the_link(saddr: int, out: str, on_link: int) -> None:
    """Asked where the packet leaves by the device it came in by, and redirects are sent."""
    links = router()
    dev = links.devices.by_name(out)
    assert dev is not None
    packet = received(links.eth0, saddr, FAR)
    validation = links.routing.input_route.validation
    assert validation.fib_validate_source(packet, saddr, FAR, 0, dev.ifindex, links.eth0) == on_link
    links.net.conf.all.send_redirects = links.eth0.in_dev.cnf.send_redirects = 0
    assert validation.fib_validate_source(packet, saddr, FAR, 0, dev.ifindex, links.eth0) == 0
