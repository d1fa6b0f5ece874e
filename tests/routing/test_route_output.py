"""ip_route_output_key_hash_rcu, __mkroute_output and the cache in front of them."""

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
)
from ustack.routing import route as route_module
from ustack.routing.flow import RT_SCOPE_LINK, Flow
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
    """The same answer at first and from the cache; the flow is filled in both times."""
    links = Links()
    links.route("0.0.0.0/0", "192.0.2.1")
    for hits in (0, 1):
        flow = Flow(daddr, saddr, named(links, oif))
        before = links.net.mib.snapshot()
        dst = links.routing.ip_route_output(flow)
        assert (dst.rt_type, dst.dev.name, shown(dst.nexthop)) == (rt_type, dev, shown(nexthop))
        assert (shown(flow.saddr), shown(dst.prefsrc)) == (shown(source), shown(source))
        assert flow.oif == dst.dev.ifindex and flow.daddr == (daddr or nexthop)
        assert dst.gateway == (PEER if nexthop != daddr and rt_type == RTN_UNICAST else 0)
        assert dst.input is (links.local if goes_in else None) and dst.local is bool(goes_in)
        assert dst.output is (links.mc_output if out == "mc_output" else links.output)
        assert dst.mtu == (65_535 if dev == "lo" else 1500) and links.routing.dst_valid(dst)
        expected = {"RtCache.out_hit": 1} if hits else {"RtCache.out_slow_tot": 1}
        assert moved(before, links.net) == expected


@pytest.mark.parametrize(
    ("flow", "code"),
    [
        (Flow(PEER, saddr=ALL_HOSTS), errno.EINVAL),  # RFC 1122 3.2.1.3: never a source: group, broadcast, 0/8
        (Flow(PEER, saddr=BROADCAST), errno.EINVAL),
        (Flow(PEER, saddr=a("0.0.0.7")), errno.EINVAL),
        (Flow(PEER, saddr=FAR), errno.EINVAL),  # not ours
        (Flow(GROUP, saddr=FAR), errno.EINVAL),
        (Flow(BROADCAST, saddr=FAR), errno.EINVAL),
        (Flow(PEER, saddr=LOCALHOST), errno.EINVAL),  # RFC 1122 3.2.1.3 (g): 127/8 must not leave
        (Flow(a("0.0.0.9"), oif=2), errno.EINVAL),
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
        assert failure.value.errno == code
        assert moved(before, links.net) == {"RtCache.out_slow_tot": 1}


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
    assert links.routing.ip_route_output(Flow(PEER, FAR, anysrc=True)).prefsrc == FAR
    with pytest.raises(OSError):
        links.routing.ip_route_output(Flow(PEER, ALL_HOSTS, anysrc=True))
    with pytest.raises(OSError):  # and was not remembered for those who may not
        links.routing.ip_route_output(Flow(PEER, FAR))


def test_igmp_leaves_by_its_device() -> None:
    """ip_route_output_key_hash_rcu: IPPROTO_IGMP needs no route."""
    links = Links()
    flow = Flow(GROUP, oif=links.eth1.ifindex, proto=IPPROTO_IGMP)
    assert links.routing.ip_route_output(flow).dev is links.eth1 and flow.saddr == OURS_1


def test_a_routes_own_source_and_mtu() -> None:
    """RTA_PREFSRC and RTAX_MTU."""
    links = Links()
    links.routing.add_address(links.eth0, address("192.0.2.9/24"))
    links.routing.add_route(a("203.0.113.0"), 24, PEER, prefsrc=a("192.0.2.9"), mtu=1280)
    dst = links.routing.ip_route_output(Flow(FAR))
    assert (shown(dst.prefsrc), dst.mtu) == ("192.0.2.9", 1280)


def test_route_localnet_lets_127_out() -> None:
    links = Links()
    links.net.conf.all.route_localnet = 1
    assert links.routing.ip_route_output(Flow(PEER, LOCALHOST)).dev is links.eth0


# -- the cache


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


def test_the_cache_is_bounded() -> None:
    """A scan of many destinations empties it now and then; it counts that and never grows beyond its size."""
    links = Links()
    links.route("0.0.0.0/0", "192.0.2.1")
    before = links.net.mib.snapshot()
    many = route_module.RT_CACHE_SIZE + 10
    for host in range(many):
        links.routing.ip_route_output(Flow(a("203.0.0.0") + host))
    assert moved(before, links.net) == {"RtCache.out_slow_tot": many, "RtCache.gc_dst_overflow": 1}


def test_a_device_with_another_ifindex_is_another_question() -> None:
    links = Links()
    bare = links.add(FakeDevice("eth2", 9), "203.0.113.1/24")
    group = [links.routing.ip_route_output(Flow(GROUP, oif=dev.ifindex)) for dev in (links.eth0, links.eth1, bare)]
    assert [dst.dev.name for dst in group] == ["eth0", "eth1", "eth2"]
