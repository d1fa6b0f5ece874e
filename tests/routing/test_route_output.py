"""ip_route_output_key_hash_rcu, __mkroute_output, and what next hops keep of their answers."""

from __future__ import annotations

import errno

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
    shown,
)
from ustack.device.net_device import IFF_UP
from ustack.dst import (
    RTN_BLACKHOLE,
    RTN_BROADCAST,
    RTN_LOCAL,
    RTN_MULTICAST,
    RTN_PROHIBIT,
    RTN_UNICAST,
    RTN_UNREACHABLE,
    Dst,
    ip4_dst_hoplimit,
    rt_nexthop,
)
from ustack.routing.fib_types import FibConfig
from ustack.routing.flow import RT_SCOPE_LINK, Flow
from ustack.routing.uapi import NLM_F_CREATE, RTAX_ADVMSS, RTAX_HOPLIMIT, RTAX_INITCWND, RTAX_LOCK, RTAX_MTU
from ustack.wire.ipv4 import IPPROTO_IGMP

DIRECTED = a("192.0.2.255")
GROUP = a("239.1.2.3")
LINK_GROUP = a("224.0.0.5")


def named(links: Links, name: str) -> int:
    dev = links.devices.by_name(name)
    return 0 if dev is None else int(dev.ifindex)


#: (daddr, saddr, oif) -> (type, device, next hop, source, comes in by, goes out by)
WAYS = [
    # connected, gateway
    (PEER, 0, "", RTN_UNICAST, "eth0", PEER, OURS, "", "output"),
    (PEER_1, 0, "", RTN_UNICAST, "eth1", PEER_1, OURS_1, "", "output"),
    (FAR, 0, "", RTN_UNICAST, "eth0", PEER, OURS, "", "output"),
    (FAR, OURS_1, "", RTN_UNICAST, "eth0", PEER, OURS_1, "", "output"),  # weak host model: any address of ours
    # bound to a device: its routes, else "Assume, that the destination is on link"
    (FAR, 0, "eth1", RTN_UNICAST, "eth1", FAR, OURS_1, "", "output"),
    (PEER, 0, "eth1", RTN_UNICAST, "eth1", PEER, OURS_1, "", "output"),
    # ourselves, by every name
    (OURS, 0, "", RTN_LOCAL, "lo", OURS, OURS, "local", "output"),
    (OURS_1, OURS, "", RTN_LOCAL, "lo", OURS_1, OURS, "local", "output"),
    (OURS, 0, "eth0", RTN_LOCAL, "lo", OURS, OURS, "local", "output"),
    (LOCALHOST, 0, "", RTN_LOCAL, "lo", LOCALHOST, LOCALHOST, "local", "output"),
    (a("127.9.9.9"), 0, "", RTN_LOCAL, "lo", a("127.9.9.9"), LOCALHOST, "local", "output"),
    (0, 0, "", RTN_LOCAL, "lo", LOCALHOST, LOCALHOST, "local", "output"),
    (0, OURS, "", RTN_LOCAL, "lo", OURS, OURS, "local", "output"),
    (0, 0, "eth1", RTN_LOCAL, "lo", OURS_1, OURS_1, "local", "output"),
    # broadcast: the copy for ourselves is ip_mc_output's
    (DIRECTED, 0, "", RTN_BROADCAST, "eth0", DIRECTED, OURS, "local", "mc_output"),
    (BROADCAST, 0, "eth1", RTN_BROADCAST, "eth1", BROADCAST, OURS_1, "local", "mc_output"),
    (BROADCAST, OURS_1, "", RTN_BROADCAST, "eth1", BROADCAST, OURS_1, "local", "mc_output"),
    (BROADCAST, 0, "", RTN_BROADCAST, "eth0", BROADCAST, OURS, "local", "mc_output"),
    # multicast: by device, by source, by the default route; looped back where we listen
    (GROUP, 0, "eth1", RTN_MULTICAST, "eth1", GROUP, OURS_1, "", "output"),
    (GROUP, OURS_1, "", RTN_MULTICAST, "eth1", GROUP, OURS_1, "", "output"),
    (GROUP, 0, "", RTN_MULTICAST, "eth0", GROUP, OURS, "", "output"),
    (LINK_GROUP, 0, "eth1", RTN_MULTICAST, "eth1", LINK_GROUP, OURS_1, "", "output"),
    (ALL_HOSTS, 0, "eth1", RTN_MULTICAST, "eth1", ALL_HOSTS, OURS_1, "local", "mc_output"),
]


@pytest.mark.parametrize(("daddr", "saddr", "oif", "rt_type", "dev", "nexthop", "source", "goes_in", "out"), WAYS)
def test_the_way_out(
    daddr: int,
    saddr: int,
    oif: str,
    rt_type: int,
    dev: str,
    nexthop: int,
    source: int,
    goes_in: str,
    out: str,
) -> None:
    """The same answer at first and when it is asked again; the flow is filled in both times."""
    links = Links()
    links.route("0.0.0.0/0", "192.0.2.1")
    for _ in range(2):
        flow = Flow(daddr, saddr, named(links, oif))
        dst = links.routing.ip_route_output(flow)
        assert (dst.rt_type, dst.dev.name, shown(rt_nexthop(dst, flow.daddr))) == (rt_type, dev, shown(nexthop))
        assert shown(flow.saddr) == shown(source)
        assert flow.oif == dst.dev.ifindex and flow.daddr == (daddr or nexthop)
        assert dst.uses_gateway is (nexthop != daddr and rt_type == RTN_UNICAST)
        assert dst.input is (links.local if goes_in else None) and dst.local is bool(goes_in)
        assert dst.output is (links.mc_output if out == "mc_output" else links.output)
        assert dst.mtu == (65_535 if dev == "lo" else 1500) and links.routing.dst_valid(dst)
        assert not dst.is_input and flow.iif == links.lo.ifindex  # rules may ask for "iif lo"


#: (daddr, saddr, oif) -> whether the next hop keeps the answer
KEPT = [
    (PEER, 0, "", True),
    (FAR, 0, "", True),
    (FAR, OURS_1, "", True),
    (DIRECTED, 0, "", True),
    (LOCALHOST, 0, "", True),
    (OURS, 0, "", False),  # "For local routes that require a particular output interface we do not want to cache"
    (FAR, 0, "eth1", False),  # there is no route, so no next hop
    (BROADCAST, 0, "eth1", False),
    (GROUP, 0, "", False),  # the default route's gateway is not for groups: "do not gateway in this case"
    (GROUP, 0, "eth1", False),
    (0, 0, "", False),
]


@pytest.mark.parametrize(("daddr", "saddr", "oif", "kept"), KEPT)
def test_what_the_next_hop_keeps(daddr: int, saddr: int, oif: str, kept: bool) -> None:
    """rt_cache_route: the second time it is the very same Dst, and counted as a hit."""
    links = Links()
    links.route("0.0.0.0/0", "192.0.2.1")
    first = links.routing.ip_route_output(Flow(daddr, saddr, named(links, oif)))
    before = links.net.mib.snapshot()
    second = links.routing.ip_route_output(Flow(daddr, saddr, named(links, oif)))
    assert (second is first) is kept
    counted = {name: by for name, by in moved(before, links.net).items() if name != "RtCache.out_slow_mc"}
    assert counted == ({"RtCache.out_hit": 1} if kept else {"RtCache.out_slow_tot": 1})


def test_everybody_behind_a_next_hop_shares_its_answer() -> None:
    """No table of destinations: what a scan of the Internet leaves behind is one Dst (attack 23)."""
    links = Links()
    links.route("0.0.0.0/0", "192.0.2.1")
    shared = {id(links.routing.ip_route_output(Flow(a("203.0.0.0") + host))) for host in range(5000)}
    assert len(shared) == 1
    neighbours = [links.routing.ip_route_output(Flow(a("192.0.2.10") + host)) for host in range(3)]
    assert neighbours[0] is neighbours[1] is neighbours[2]
    assert [rt_nexthop(dst, a("192.0.2.10") + host) for host, dst in enumerate(neighbours)] == [
        a("192.0.2.10"),
        a("192.0.2.11"),
        a("192.0.2.12"),
    ]


def test_who_needs_the_destination_itself_as_next_hop_shares_nothing() -> None:
    """FLOWI_FLAG_KNOWN_NH (headers that the user has written): rt_gw4 is the address that was asked for."""
    links = Links()
    flows = [Flow(PEER), Flow(PEER)]
    for flow in flows:
        flow.known_nh = True
    first, second = [links.routing.ip_route_output(flow) for flow in flows]
    assert first is not second and first.gateway == PEER and not first.uses_gateway
    links.route("0.0.0.0/0", "192.0.2.1")
    behind = Flow(FAR)
    behind.known_nh = True
    dst = links.routing.ip_route_output(behind)
    assert dst is links.routing.ip_route_output(Flow(FAR)) and dst.uses_gateway


@pytest.mark.parametrize(
    ("flow", "code"),
    [
        (Flow(PEER, saddr=ALL_HOSTS), errno.EINVAL),  # RFC 1122 3.2.1.3: never a source: group, broadcast
        (Flow(PEER, saddr=BROADCAST), errno.EINVAL),
        (Flow(PEER, saddr=a("0.0.0.7")), errno.ENETUNREACH),  # 0/8 but for 0.0.0.0 is as good as any, and not ours
        (Flow(PEER, saddr=FAR), errno.ENETUNREACH),
        (Flow(GROUP, saddr=FAR), errno.ENETUNREACH),
        (Flow(BROADCAST, saddr=FAR), errno.ENETUNREACH),
        (Flow(PEER, saddr=LOCALHOST), errno.EINVAL),  # RFC 1122 3.2.1.3 (g): 127/8 must not leave
        (Flow(a("0.0.0.9")), errno.ENETUNREACH),
        (Flow(PEER, oif=77), errno.ENODEV),
        (Flow(FAR), errno.ENETUNREACH),  # no default route here
        (Flow(BROADCAST), errno.ENETUNREACH),
        (Flow(GROUP), errno.ENETUNREACH),
    ],
)
def test_what_cannot_be_sent(flow: Flow, code: int) -> None:
    """And nothing of it is kept: asked again, it is refused again."""
    links = Links()
    for _ in range(2):
        again = Flow(flow.daddr, flow.saddr, flow.oif)
        before = links.net.mib.snapshot()
        with pytest.raises(OSError) as failure:
            links.routing.ip_route_output(again)
        assert failure.value.errno == code and moved(before, links.net) == {}


@pytest.mark.parametrize(
    ("rt_type", "code"),
    [(RTN_BLACKHOLE, errno.EINVAL), (RTN_UNREACHABLE, errno.EHOSTUNREACH), (RTN_PROHIBIT, errno.EACCES)],
)
def test_routes_that_lead_nowhere(rt_type: int, code: int) -> None:
    """fib_props[].error; a flow bound to a device goes out of it all the same, as in Linux."""
    links = Links()
    links.routing.add_route(a("203.0.113.0"), 24, rt_type=rt_type)
    with pytest.raises(OSError) as failure:
        links.routing.ip_route_output(Flow(FAR))
    assert failure.value.errno == code
    assert links.routing.ip_route_output(Flow(FAR, oif=links.eth1.ifindex)).dev is links.eth1


def test_a_device_that_is_down_is_enetunreach() -> None:
    links = Links()
    links.eth1.flags &= ~IFF_UP
    with pytest.raises(OSError) as failure:
        links.routing.ip_route_output(Flow(PEER_1, oif=links.eth1.ifindex))
    assert failure.value.errno == errno.ENETUNREACH


def test_without_a_loopback_device_we_cannot_reach_ourselves() -> None:
    links = Links(loopback=False)
    with pytest.raises(OSError) as failure:
        links.routing.ip_route_output(Flow(OURS))
    assert failure.value.errno == errno.ENETUNREACH


def test_dontroute_stays_on_the_link() -> None:
    """SO_DONTROUTE: flowi4_scope is RT_SCOPE_LINK, so a gateway's route does not serve."""
    links = Links()
    links.route("0.0.0.0/0", "192.0.2.1")
    assert links.routing.ip_route_output(Flow(PEER, scope=RT_SCOPE_LINK)).dev is links.eth0
    assert links.routing.ip_route_output(Flow(FAR)).gateway == PEER
    with pytest.raises(OSError) as failure:
        links.routing.ip_route_output(Flow(FAR, scope=RT_SCOPE_LINK))
    assert failure.value.errno == errno.ENETUNREACH


def test_anysrc_may_use_any_source() -> None:
    """FLOWI_FLAG_ANYSRC: transparent and header-including sockets; impossible sources stay impossible."""
    links = Links()
    flow = Flow(PEER, FAR, anysrc=True)
    assert links.routing.ip_route_output(flow).dev is links.eth0 and flow.saddr == FAR
    with pytest.raises(OSError):
        links.routing.ip_route_output(Flow(PEER, ALL_HOSTS, anysrc=True))
    with pytest.raises(OSError):  # and was not remembered for those who may not
        links.routing.ip_route_output(Flow(PEER, FAR))


def test_igmp_leaves_by_its_device() -> None:
    """ip_route_output_key_hash_rcu: IPPROTO_IGMP needs no route."""
    links = Links()
    flow = Flow(GROUP, oif=links.eth1.ifindex, proto=IPPROTO_IGMP)
    assert links.routing.ip_route_output(flow).dev is links.eth1 and flow.saddr == OURS_1


def metric_route(links: Links, metrics: dict[int, int]) -> Dst:
    cfg = FibConfig(a("203.0.113.0"), 24)
    cfg.gateway = PEER
    cfg.prefsrc = OURS_1
    cfg.metrics = metrics
    cfg.nlflags = NLM_F_CREATE
    links.routing.fib.rtm_newroute(cfg)
    return links.routing.ip_route_output(Flow(FAR))


def test_a_routes_own_source_and_metrics() -> None:
    """RTA_PREFSRC, and RTA_METRICS as far as IP itself goes by them."""
    links = Links()
    dst = metric_route(links, {RTAX_MTU: 1280, RTAX_ADVMSS: 1000, RTAX_HOPLIMIT: 9, RTAX_INITCWND: 4})
    flow = Flow(FAR)
    assert links.routing.ip_route_output(flow) is dst and flow.saddr == OURS_1
    assert (dst.mtu, dst.mtu_forward, dst.advmss, dst.hoplimit, dst.mtu_locked) == (1280, 1280, 1000, 9, False)
    assert dst.metric(RTAX_INITCWND) == 4 and ip4_dst_hoplimit(dst, 64) == 9
    plain = links.routing.ip_route_output(Flow(PEER))
    assert (plain.metric(RTAX_INITCWND), ip4_dst_hoplimit(plain, 64)) == (0, 64)


def test_a_locked_mtu_is_the_routes_whatever_the_path_says() -> None:
    """``mtu lock``: ip_mtu_locked."""
    links = Links()
    dst = metric_route(links, {RTAX_MTU: 1280, RTAX_LOCK: 1 << RTAX_MTU})
    assert (dst.mtu, dst.mtu_locked) == (1280, True)
    links.routing.update_pmtu(Flow(FAR), 1000)
    assert links.routing.ip_route_output(Flow(FAR)) is dst and dst.mtu == 1280


def test_route_localnet_lets_127_out() -> None:
    links = Links()
    links.net.conf.all.route_localnet = 1
    assert links.routing.ip_route_output(Flow(PEER, LOCALHOST)).dev is links.eth0


# -- generations


def test_every_change_makes_kept_answers_invalid() -> None:
    """rt_cache_valid: rt_genid moves with addresses and routes; ipv4_dst_check refuses what is older."""
    links = Links()
    changes = [
        lambda: links.routing.add_address(links.eth0, address("192.0.2.9/24")),
        lambda: links.routing.del_address(links.eth0, a("192.0.2.9"), 24),
        lambda: links.route("0.0.0.0/0", "192.0.2.1"),
        lambda: links.routing.del_route(0, 0),
        links.routing.rt_cache_flush,
    ]
    for change in changes:
        dst = links.routing.ip_route_output(Flow(PEER))
        assert links.routing.ip_route_output(Flow(PEER)) is dst and links.routing.dst_valid(dst)
        change()
        assert not links.routing.dst_valid(dst)
        assert links.routing.ip_route_output(Flow(PEER)) is not dst


def test_a_better_route_is_used_at_once() -> None:
    links = Links()
    links.route("0.0.0.0/0", "192.0.2.1")
    assert links.routing.ip_route_output(Flow(FAR)).gateway == PEER
    links.route("203.0.113.0/24", "198.51.100.1")
    assert links.routing.ip_route_output(Flow(FAR)).gateway == PEER_1
    links.routing.del_route(a("203.0.113.0"), 24)
    assert links.routing.ip_route_output(Flow(FAR)).gateway == PEER


def test_a_device_with_another_ifindex_is_another_question() -> None:
    links = Links()
    bare = links.add(FakeDevice("eth2", 9), "203.0.113.1/24")
    group = [links.routing.ip_route_output(Flow(GROUP, oif=dev.ifindex)) for dev in (links.eth0, links.eth1, bare)]
    assert [dst.dev.name for dst in group] == ["eth0", "eth1", "eth2"]
