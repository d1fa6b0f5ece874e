"""What a route may be, and what routes share (fib_create_info, fib_find_info, fib_nh_match).

Errors and words as the kernel has them: each was asked there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.routing.hosts import NO_TEXT, Host, fields, hop
from tests.routing.links import a, shown
from ustack.dst import (
    RTN_ANYCAST,
    RTN_BLACKHOLE,
    RTN_BROADCAST,
    RTN_LOCAL,
    RTN_MULTICAST,
    RTN_NAT,
    RTN_PROHIBIT,
    RTN_THROW,
    RTN_UNICAST,
    RTN_UNREACHABLE,
    RTN_UNSPEC,
    RTN_XRESOLVE,
)
from ustack.routing.fib_semantics import FIB_MAX_HOPS
from ustack.routing.fib_sync import FIB_MAX_NHS
from ustack.routing.flow import RT_SCOPE_HOST, RT_SCOPE_LINK, RT_SCOPE_NOWHERE, RT_SCOPE_SITE, RT_SCOPE_UNIVERSE
from ustack.routing.metrics import TcpCaNames
from ustack.routing.uapi import (
    RT_TABLE_MAIN,
    RTAX_MTU,
    RTNH_F_DEAD,
    RTNH_F_LINKDOWN,
    RTNH_F_ONLINK,
    RTPROT_STATIC,
)

if TYPE_CHECKING:
    from ustack.routing.fib_types import FibInfo


class Another(TcpCaNames):
    """A TCP with one more algorithm."""

    def known(self, name: str) -> bool:
        return name == "another" or super().known(name)


@pytest.fixture
def host() -> Host:
    return Host()


# -- fib_create_info: type, scope, flags


@pytest.mark.parametrize(
    ("rt_type", "scope"),
    [
        (RTN_UNSPEC, RT_SCOPE_UNIVERSE),
        (RTN_UNSPEC, RT_SCOPE_HOST),
        (RTN_LOCAL, RT_SCOPE_LINK),
        (RTN_BROADCAST, RT_SCOPE_UNIVERSE),
        (RTN_ANYCAST, RT_SCOPE_SITE),
        (RTN_NAT, RT_SCOPE_HOST),
        (RTN_XRESOLVE, RT_SCOPE_UNIVERSE),
        (RTN_UNICAST, RT_SCOPE_NOWHERE),
        (RTN_LOCAL, RT_SCOPE_NOWHERE),
    ],
)
def test_fib_create_info_invalid_scope(host: Host, rt_type: int, scope: int) -> None:
    cfg = host.config(dev=host.a0, rt_type=rt_type, scope=scope)
    assert host.refused(cfg) == ("EINVAL", "Invalid scope")


@pytest.mark.parametrize(
    ("rt_type", "scope"),
    [
        (RTN_UNICAST, RT_SCOPE_UNIVERSE),
        (RTN_UNICAST, RT_SCOPE_SITE),
        (RTN_UNICAST, RT_SCOPE_LINK),
        (RTN_UNICAST, RT_SCOPE_HOST),
        (RTN_LOCAL, RT_SCOPE_HOST),
        (RTN_BROADCAST, RT_SCOPE_LINK),
        (RTN_ANYCAST, RT_SCOPE_LINK),
        (RTN_MULTICAST, RT_SCOPE_UNIVERSE),
    ],
)
def test_fib_create_info_scopes_that_are_near_enough(host: Host, rt_type: int, scope: int) -> None:
    fi = host.create(host.config(dev=host.a0, rt_type=rt_type, scope=scope))
    assert (fi.rt_type, fi.scope) == (rt_type, scope)
    assert fi.nh[0].scope == (RT_SCOPE_NOWHERE if scope == RT_SCOPE_HOST else RT_SCOPE_HOST)


def test_fib_create_info_types_that_there_are_not(host: Host) -> None:
    for rt_type in (12, 255, -1):
        assert host.refused(host.config(dev=host.a0, rt_type=rt_type)) == ("EINVAL", NO_TEXT)
    cfg = host.config(dev=host.a0, rt_type=RTN_UNSPEC, scope=RT_SCOPE_NOWHERE)
    assert host.refused(cfg) == ("EINVAL", "Invalid route type")


@pytest.mark.parametrize("flags", [RTNH_F_DEAD, RTNH_F_LINKDOWN, RTNH_F_DEAD | RTNH_F_ONLINK])
def test_fib_create_info_flags_that_are_ours_to_set(host: Host, flags: int) -> None:
    cfg = host.config(dev=host.a0, flags=flags, nh_id=7)
    assert host.refused(cfg) == ("EINVAL", "Invalid rtm_flags - can not contain DEAD or LINKDOWN")


def test_fib_create_info_flags_come_after_the_scope(host: Host) -> None:
    cfg = host.config(dev=host.a0, flags=RTNH_F_DEAD, rt_type=RTN_LOCAL)
    assert host.refused(cfg) == ("EINVAL", "Invalid scope")


def test_fib_create_info_unknown_nexthop_comes_before_metrics(host: Host) -> None:
    cfg = host.config(nh_id=9, scope=0)
    cfg.metrics = {18: 1}
    assert host.refused(cfg) == ("EINVAL", "Nexthop id does not exist")
    cfg = host.config(nh_id=9, scope=0, rt_type=RTN_UNREACHABLE)
    assert host.refused(cfg) == ("EINVAL", "Nexthop id does not exist")


def test_fib_create_info_metrics_come_before_hops(host: Host) -> None:
    cfg = host.config(via="203.0.113.1")
    cfg.metrics = {18: 1}
    assert host.refused(cfg) == ("EINVAL", "Invalid metric type")
    cfg.metrics = {}
    cfg.cc_algo = "nope"
    assert host.refused(cfg) == ("EINVAL", "Unknown tcp congestion algorithm")


def test_fib_create_info_has_what_was_asked_for(host: Host) -> None:
    cfg = host.config("192.0.2.2", priority=100, protocol=RTPROT_STATIC, prefsrc=a("198.51.100.1"))
    cfg.metrics = {RTAX_MTU: 70_000}
    cfg.cc_algo = "reno"
    fi = host.create(cfg)
    assert (fi.priority, fi.protocol, fi.tb_id, fi.rt_type) == (100, RTPROT_STATIC, RT_TABLE_MAIN, RTN_UNICAST)
    assert (shown(fi.prefsrc), fi.metric(RTAX_MTU), fi.cc_algo) == ("198.51.100.1", 65_520, "reno")
    (nh,) = fi.nhs()
    assert (shown(nh.gateway), nh.dev, nh.oif, nh.scope) == ("192.0.2.2", host.a0, host.a0.ifindex, RT_SCOPE_LINK)
    assert (nh.parent, nh.weight, nh.flags, shown(nh.saddr)) == (fi, 1, 0, "192.0.2.1")


def test_fib_create_info_table_0_is_main(host: Host) -> None:
    assert host.create(host.config("192.0.2.2", table=0)).tb_id == RT_TABLE_MAIN


# -- fib_create_info: types that lead nowhere


@pytest.mark.parametrize("rt_type", [RTN_BLACKHOLE, RTN_UNREACHABLE, RTN_PROHIBIT, RTN_THROW])
def test_fib_create_info_leading_nowhere(host: Host, rt_type: int) -> None:
    fi = host.create(host.config(rt_type=rt_type, scope=0))
    (nh,) = fi.nhs()
    assert (nh.dev, nh.oif, nh.gateway) == (None, 0, 0)
    words = "Gateway, device and multipath can not be specified for this route type"
    for cfg in (
        host.config(rt_type=rt_type, scope=0, dev=host.a0),
        host.config("192.0.2.2", rt_type=rt_type),
        host.several(hop(dev=host.a0), rt_type=rt_type),
    ):
        assert host.refused(cfg) == ("EINVAL", words)


def test_fib_create_info_leading_nowhere_checks_no_source(host: Host) -> None:
    fi = host.create(host.config(rt_type=RTN_BLACKHOLE, scope=0, prefsrc=a("192.0.2.77")))
    assert shown(fi.prefsrc) == "192.0.2.77"


def test_fib_create_info_nat_was_given_up_but_its_number_works(host: Host) -> None:
    assert host.create(host.config(rt_type=RTN_NAT, scope=RT_SCOPE_NOWHERE)).rt_type == RTN_NAT


def test_fib_create_info_host_scope(host: Host) -> None:
    scope = RT_SCOPE_HOST
    cfg = host.config("192.0.2.2", scope=scope)
    assert host.refused(cfg) == ("EINVAL", "Route with host scope can not have a gateway")
    cfg = host.several(hop(dev=host.a0), hop(dev=host.a1))
    cfg.scope = scope
    assert host.refused(cfg) == ("EINVAL", "Route with host scope can not have multiple nexthops")
    assert host.refused(host.config(oif=99, scope=scope)) == ("ENODEV", NO_TEXT)
    assert host.create(host.config(dev=host.a2, scope=scope)).nh[0].dev is host.a2, "it may be down"


# -- fib_get_nhs


def test_fib_get_nhs(host: Host) -> None:
    fi = host.create(host.several(hop("192.0.2.2"), hop("198.51.100.2", weight=3), hop(dev=host.a1, weight=256)))
    assert [(nh.dev, nh.weight) for nh in fi.nhs()] == [(host.a0, 1), (host.a1, 3), (host.a1, 256)]


def test_fib_get_nhs_refusals(host: Host) -> None:
    two = (hop("192.0.2.2"), hop("198.51.100.2"))
    cfg = host.several(*two, oif=host.a1.ifindex)
    assert host.refused(cfg) == ("EINVAL", "Nexthop device index does not match RTA_OIF")
    cfg = host.several(*two, gateway=a("192.0.2.7"))
    assert host.refused(cfg) == ("EINVAL", "Nexthop gateway does not match RTA_GATEWAY or RTA_VIA")
    words = "Invalid flags for nexthop - can not contain DEAD or LINKDOWN"
    for flags in (RTNH_F_DEAD, RTNH_F_LINKDOWN):
        assert host.refused(host.several(two[0], hop(dev=host.a0, flags=flags))) == ("EINVAL", words)
    assert host.refused(host.several()) == ("EINVAL", NO_TEXT)
    cfg = host.several(two[0], hop("203.0.114.1"))
    assert host.refused(cfg) == ("ENETUNREACH", "Nexthop has invalid gateway")
    cfg = host.several(two[0], hop(dev=host.a2))
    assert host.refused(cfg) == ("ENETDOWN", "Device for nexthop is not up")
    words = "Invalid flags for nexthop - PERVASIVE and ONLINK can not be set"
    assert host.refused(host.several(two[0], hop(dev=host.a0, flags=RTNH_F_ONLINK))) == ("EINVAL", words)


def test_fib_get_nhs_the_first_hop_may_be_named_twice(host: Host) -> None:
    cfg = host.several(hop("192.0.2.2", host.a0), hop("198.51.100.2"), oif=host.a0.ifindex, gateway=a("192.0.2.2"))
    assert len(host.create(cfg).nhs()) == 2


# -- fib_find_info: what is shared


def test_fib_find_info_equal_ones_are_one(host: Host) -> None:
    first = host.create(host.config("192.0.2.2"))
    second = host.create(host.config("192.0.2.2", host.a0, dst=a("203.0.114.0")))
    assert first is second and first.treeref == 2
    assert host.semantics.infos[first.index] is first


@pytest.mark.parametrize(
    "given",
    [
        {"priority": 1},
        {"protocol": RTPROT_STATIC},
        {"scope": RT_SCOPE_SITE},
        {"prefsrc": 0xC000_0201},
        {"table": 100},
        {"gateway": 0xC000_0203},
        {"flags": RTNH_F_ONLINK},
        {"rt_type": RTN_MULTICAST},
    ],
    ids=lambda given: next(iter(given)),
)
def test_fib_find_info_everything_counts(host: Host, given: dict[str, int]) -> None:
    first = host.create(host.config("192.0.2.2", host.a0))
    second = host.create(fields(host.config("192.0.2.2", host.a0), given))
    assert first is not second and (first.treeref, second.treeref) == (1, 1)


def test_fib_find_info_metrics_count(host: Host) -> None:
    def with_metrics(metrics: dict[int, int], cc_algo: str = "") -> FibInfo:
        cfg = host.config("192.0.2.2")
        cfg.metrics, cfg.cc_algo = metrics, cc_algo
        return host.create(cfg)

    plain = with_metrics({})
    assert with_metrics({RTAX_MTU: 0}) is plain
    assert with_metrics({RTAX_MTU: 1400}) is not plain
    assert with_metrics({RTAX_MTU: 1400}) is with_metrics({RTAX_MTU: 1400})
    assert with_metrics({RTAX_MTU: 70_000}) is with_metrics({RTAX_MTU: 65_520})
    reno = with_metrics({}, "reno")
    host.semantics.tcp_ca = Another()
    assert reno is not plain and with_metrics({}, "reno") is reno and with_metrics({}, "another") is not reno


def test_fib_find_info_hops_count_in_their_order(host: Host) -> None:
    one, two = hop("192.0.2.2"), hop("198.51.100.2")
    first = host.create(host.several(one, two))
    assert host.create(host.several(one, two)) is first
    assert host.create(host.several(two, one)) is not first
    assert host.create(host.several(one, hop("198.51.100.2", weight=2))) is not first
    assert host.create(host.several(one)) is host.create(host.config("192.0.2.2"))


def test_fib_find_info_what_a_device_did_to_it_does_not_count(host: Host) -> None:
    first = host.create(host.several(hop("192.0.2.2"), hop("198.51.100.2")))
    host.devices.netif_carrier_off(host.a0)
    assert first.nh[0].flags == RTNH_F_LINKDOWN
    assert host.create(host.several(hop("192.0.2.2"), hop("198.51.100.2"))) is first


def test_fib_find_info_nh_does_not_look_at_metrics(host: Host) -> None:
    """A route without metrics takes over those of the newest one with the same next-hop object, as in the kernel."""
    host.nexthop(5, "192.0.2.2")

    def with_mtu(mtu: int, priority: int = 0) -> FibInfo:
        cfg = host.config(nh_id=5, scope=RT_SCOPE_UNIVERSE, priority=priority)
        cfg.metrics = {RTAX_MTU: mtu} if mtu else {}
        return host.create(cfg)

    first = with_mtu(1400)
    assert with_mtu(0) is first
    second = with_mtu(1300)
    assert second is not first and with_mtu(0) is second
    assert with_mtu(1400) is first
    assert with_mtu(0, priority=7).metrics == {}
    for _ in range(2):
        host.semantics.fib_release_info(second)
    assert second.dead and with_mtu(0) is first


# -- fib_release_info


def test_fib_release_info(host: Host) -> None:
    before = host.semantics.nhs_count
    fi = host.create(host.several(hop("192.0.2.2"), hop("192.0.2.3"), hop("198.51.100.2")))
    host.create(host.several(hop("192.0.2.2"), hop("192.0.2.3"), hop("198.51.100.2")))
    assert host.semantics.nhs_count == before + 3
    host.semantics.fib_release_info(fi)
    assert not fi.dead and fi in host.known()
    host.semantics.fib_release_info(fi)
    assert fi.dead and fi not in host.known() and host.semantics.nhs_count == before
    assert fi not in host.semantics.infos_of(host.a0)


def test_fib_release_info_gives_its_place_to_the_next(host: Host) -> None:
    fi = host.create(host.config("192.0.2.2"))
    place = fi.index
    host.semantics.fib_release_info(fi)
    other = host.create(host.config("192.0.2.3"))
    assert other.index == place and host.semantics.infos[place] is other and not other.dead


def test_fib_create_info_has_a_limit_where_linux_has_its_memory(host: Host) -> None:
    cfg = host.several(*[hop(dev=host.a0)] * FIB_MAX_HOPS)
    shared = host.create(cfg)
    assert len(shared.nhs()) == FIB_MAX_HOPS
    host.semantics.fib_release_info(shared)
    cfg = host.several(*[hop(dev=host.a0)] * (FIB_MAX_HOPS + 1))
    assert host.refused(cfg) == ("ENOBUFS", NO_TEXT)
    known = host.create(host.config("192.0.2.2"))
    host.semantics.nhs_count = FIB_MAX_NHS
    assert host.refused(host.config("192.0.2.3")) == ("ENOBUFS", NO_TEXT)
    assert host.create(host.config("192.0.2.2")) is known, "what is shared costs nothing"


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 3), st.integers(2, 4), st.booleans()), max_size=40))
def test_fib_info_any_order_of_making_and_releasing(steps: list[tuple[bool, int, int, bool]]) -> None:
    """A FibInfo for each different route, held as often as it was asked for; nothing is left in the end."""
    host = Host()
    before = (len(host.known()), host.semantics.nhs_count)
    held: list[FibInfo] = []
    for make, priority, gateway, several in steps:
        if make:
            one = hop(f"192.0.2.{gateway}")
            cfg = host.several(one, hop("198.51.100.2")) if several else host.config(f"192.0.2.{gateway}")
            held.append(host.create(fields(cfg, {"priority": priority})))
        elif held:
            host.semantics.fib_release_info(held.pop(priority % len(held)))
        different = {(fi.priority, fi.nh[0].gateway, len(fi.nh)) for fi in held}
        assert len({id(fi) for fi in held}) == len(different) == len(host.known()) - before[0]
        assert all(fi.treeref == held.count(fi) and host.semantics.infos[fi.index] is fi for fi in held)
    for fi in held:
        host.semantics.fib_release_info(fi)
    assert (len(host.known()), host.semantics.nhs_count) == before


# -- fib_nh_match


def test_fib_nh_match_one_hop(host: Host) -> None:
    fi = host.create(host.config("192.0.2.2", priority=5))
    match = host.semantics.fib_nh_match
    assert match(host.config(), fi), "nothing given, nothing asked for"
    assert match(host.config(dev=host.a0), fi) and match(host.config("192.0.2.2"), fi)
    assert match(host.config("192.0.2.2", host.a0, priority=5), fi)
    for wrong in (
        host.config(dev=host.a1),
        host.config("192.0.2.3"),
        host.config("192.0.2.2", host.a1),
        host.config(priority=4),
        host.config(nh_id=1),
    ):
        assert not match(wrong, fi)


def test_fib_nh_match_several_hops(host: Host) -> None:
    """A gateway or device alone names the first hop; hops are compared one by one, those too many are not looked at."""
    fi = host.create(host.several(hop("192.0.2.2"), hop("198.51.100.2", weight=3)))
    match = host.semantics.fib_nh_match
    assert match(host.config("192.0.2.2"), fi) and match(host.config(dev=host.a0), fi)
    assert not match(host.config("198.51.100.2"), fi) and not match(host.config(dev=host.a1), fi)
    one, two = hop("192.0.2.2"), hop("198.51.100.2")
    assert match(host.several(one, two), fi), "weights are not compared"
    assert match(host.several(hop(dev=host.a0), hop(dev=host.a1)), fi)
    assert match(host.several(one, two, hop("198.51.100.3")), fi)
    assert not match(host.several(one), fi)
    assert not match(host.several(two, one), fi)
    assert not match(host.several(one, hop("198.51.100.2", host.a0)), fi)


def test_fib_nh_match_leading_nowhere(host: Host) -> None:
    fi = host.create(host.config(rt_type=RTN_BLACKHOLE, scope=0))
    assert host.semantics.fib_nh_match(host.config(), fi)
    assert not host.semantics.fib_nh_match(host.config(dev=host.a0), fi)


def test_fib_nh_match_nexthop_object(host: Host) -> None:
    host.nexthop(5, "192.0.2.2")
    fi = host.create(host.config(nh_id=5, scope=0))
    match = host.semantics.fib_nh_match
    assert match(host.config(nh_id=5), fi) and match(host.config(), fi)
    assert not match(host.config(nh_id=6), fi)
    assert not match(host.config("192.0.2.2"), fi) and not match(host.config(dev=host.a0), fi)
    assert not match(host.several(hop("192.0.2.2")), fi)
