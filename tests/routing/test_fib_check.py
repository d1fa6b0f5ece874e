"""What a hop and a preferred source must be (fib_check_nh, fib_valid_prefsrc).

Errors and words as the kernel has them: each was asked there.
"""

from __future__ import annotations

import pytest

from tests.routing.hosts import NO_TEXT, Host, fields, hop
from tests.routing.links import a, shown
from ustack.dst import (
    RTN_BLACKHOLE,
    RTN_LOCAL,
    RTN_PROHIBIT,
    RTN_THROW,
    RTN_UNREACHABLE,
)
from ustack.routing.flow import RT_SCOPE_HOST, RT_SCOPE_LINK, RT_SCOPE_UNIVERSE
from ustack.routing.uapi import RT_TABLE_LOCAL, RTNH_F_LINKDOWN, RTNH_F_ONLINK, RTNH_F_PERVASIVE


@pytest.fixture
def host() -> Host:
    return Host()


# -- fib_check_nh


def test_fib_check_nh_nongw(host: Host) -> None:
    assert host.refused(host.config(dev=host.a2)) == ("ENETDOWN", "Device for nexthop is not up")
    assert host.refused(host.config(oif=99)) == ("ENODEV", NO_TEXT)
    assert host.refused(host.config()) == ("ENODEV", NO_TEXT)
    words = "Invalid flags for nexthop - PERVASIVE and ONLINK can not be set"
    for flags in (RTNH_F_ONLINK, RTNH_F_PERVASIVE):
        assert host.refused(host.config(dev=host.a2, flags=flags)) == ("EINVAL", words)


@pytest.mark.parametrize(
    ("via", "code"),
    [
        ("203.0.113.1", "ENETUNREACH"),  # no route at all
        ("192.0.2.255", "EINVAL"),  # a broadcast address
        ("224.0.0.5", "ENETUNREACH"),
        ("255.255.255.255", "ENETUNREACH"),
    ],
)
def test_fib_check_nh_v4_gw_must_be_reachable(host: Host, via: str, code: str) -> None:
    assert host.refused(host.config(via)) == (code, "Nexthop has invalid gateway")


def test_fib_check_nh_v4_gw_must_be_on_the_device_named(host: Host) -> None:
    assert host.refused(host.config("192.0.2.2", host.a1)) == ("ENETUNREACH", "Nexthop has invalid gateway")
    assert host.refused(host.config("192.0.2.2", host.a2)) == ("ENETUNREACH", "Nexthop has invalid gateway")
    assert host.refused(host.config("192.0.2.2", oif=99)) == ("ENETUNREACH", "Nexthop has invalid gateway")
    assert host.create(host.config("192.0.2.2", host.a0)).nh[0].dev is host.a0


def test_fib_check_nh_v4_gw_must_be_nearer_than_the_route(host: Host) -> None:
    """A route of scope link has its gateway at scope host: our own address, for one."""
    cfg = host.config("192.0.2.2", scope=RT_SCOPE_LINK)
    assert host.refused(cfg) == ("ENETUNREACH", "Nexthop has invalid gateway")
    assert host.create(host.config("192.0.2.1", scope=RT_SCOPE_LINK)).nh[0].scope == RT_SCOPE_HOST


def test_fib_check_nh_v4_gw_may_be_our_own_address(host: Host) -> None:
    assert host.create(host.config("192.0.2.1")).nh[0].scope == RT_SCOPE_HOST
    assert host.create(host.config("127.0.0.1")).nh[0].dev is host.lo


@pytest.mark.parametrize(
    ("rt_type", "code"),
    [
        (RTN_UNREACHABLE, "EHOSTUNREACH"),
        (RTN_PROHIBIT, "EACCES"),
        (RTN_BLACKHOLE, "EINVAL"),
        (RTN_THROW, "ENETUNREACH"),  # "as if no route had been found in this table", and none comes after it
    ],
)
def test_fib_check_nh_v4_gw_tells_what_its_lookup_ended_with(host: Host, rt_type: int, code: str) -> None:
    """Only routes at least as near as the link are looked at."""
    for scope in (RT_SCOPE_UNIVERSE, RT_SCOPE_LINK):
        assert host.create(host.config("192.0.2.130")).nh[0].dev is host.a0
        cfg = host.config(dst=a("192.0.2.128"), dst_len=25, rt_type=rt_type, scope=scope)
        host.fib.rtm_newroute(cfg)
    assert host.refused(host.config("192.0.2.130")) == (code, "Nexthop has invalid gateway")


def test_fib_check_nh_v4_gw_device_down(host: Host) -> None:
    """A route of scope host may lie on a device that is down; as a gateway it is of no use."""
    host.route("203.0.113.0/24", dev=host.a2, rt_type=RTN_LOCAL, scope=RT_SCOPE_HOST, table=RT_TABLE_LOCAL)
    assert host.refused(host.config("203.0.113.1")) == ("ENETDOWN", NO_TEXT)


def test_fib_check_nh_v4_gw_by_its_own_table_first(host: Host) -> None:
    host.route("203.0.113.0/25", dev=host.a1, table=100)
    assert host.create(host.config("203.0.113.1", table=100)).nh[0].dev is host.a1
    assert host.refused(host.config("203.0.113.1")) == ("ENETUNREACH", "Nexthop has invalid gateway")
    host.route("192.0.2.128/25", dev=host.a1, table=100)
    assert host.create(host.config("192.0.2.130", table=100)).nh[0].dev is host.a1
    assert host.create(host.config("192.0.2.130")).nh[0].dev is host.a0
    assert host.create(host.config("192.0.2.3", table=100)).nh[0].dev is host.a0, "then by all"
    assert host.create(host.config("192.0.2.3", table=4711)).nh[0].dev is host.a0, "a table that does not exist"


def test_fib_check_nh_onlink(host: Host) -> None:
    flags = RTNH_F_ONLINK
    cfg = host.config("192.0.2.2", host.a2, flags=flags, scope=RT_SCOPE_LINK)
    assert host.refused(cfg) == ("EINVAL", "Nexthop has invalid scope")
    assert host.refused(host.config("192.0.2.2", flags=flags)) == ("ENODEV", "Nexthop device required for onlink")
    cfg = host.config("192.0.2.2", oif=99, flags=flags)
    assert host.refused(cfg) == ("ENODEV", "Nexthop device required for onlink")
    cfg = host.config("224.0.0.1", host.a2, flags=flags)
    assert host.refused(cfg) == ("ENETDOWN", "Nexthop device is not up")
    for via in ("192.0.2.1", "192.0.2.255", "224.0.0.1", "198.51.100.1", "255.255.255.255"):
        cfg = host.config(via, host.a0, flags=flags)
        assert host.refused(cfg) == ("EINVAL", "Nexthop has invalid gateway"), via


def test_fib_check_nh_onlink_needs_no_route(host: Host) -> None:
    (nh,) = host.create(host.config("203.0.113.1", host.a1, flags=RTNH_F_ONLINK)).nh
    assert (nh.dev, nh.scope, nh.flags, shown(nh.saddr)) == (host.a1, RT_SCOPE_LINK, RTNH_F_ONLINK, "198.51.100.1")


def test_fib_check_nh_without_carrier_is_linkdown(host: Host) -> None:
    host.devices.netif_carrier_off(host.a0)
    for cfg in (
        host.config(dev=host.a0),
        host.config("192.0.2.2"),
        host.config("203.0.113.1", host.a0, flags=RTNH_F_ONLINK),
    ):
        fi = host.create(cfg)
        assert fi.nh[0].flags & RTNH_F_LINKDOWN and fi.flags & RTNH_F_LINKDOWN
    mixed = host.create(host.several(hop("192.0.2.2"), hop("198.51.100.2")))
    assert mixed.nh[0].flags == RTNH_F_LINKDOWN and mixed.nh[1].flags == 0 and mixed.flags == 0
    assert host.create(host.config(dev=host.a0, scope=RT_SCOPE_HOST)).nh[0].flags == 0


# -- fib_valid_prefsrc


def test_fib_valid_prefsrc(host: Host) -> None:
    words = ("EINVAL", "Invalid prefsrc address")
    for not_ours in ("192.0.2.3", "192.0.2.255", "224.0.0.1", "203.0.113.1"):
        assert host.refused(host.config("192.0.2.2", prefsrc=a(not_ours))) == words
    for ours in ("192.0.2.1", "198.51.100.1", "127.0.0.1"):
        assert host.create(host.config("192.0.2.2", prefsrc=a(ours))).prefsrc == a(ours)


def test_fib_valid_prefsrc_comes_after_the_hops(host: Host) -> None:
    cfg = host.config("203.0.114.1", prefsrc=a("192.0.2.3"))
    assert host.refused(cfg) == ("ENETUNREACH", "Nexthop has invalid gateway")


def test_fib_valid_prefsrc_is_the_local_route_itself(host: Host) -> None:
    cfg = host.config(dev=host.a1, rt_type=RTN_LOCAL, scope=RT_SCOPE_HOST, table=RT_TABLE_LOCAL)
    fields(cfg, {"dst": a("203.0.113.9"), "dst_len": 32, "prefsrc": a("203.0.113.8")})
    assert host.refused(cfg) == ("EINVAL", "Invalid prefsrc address")
    cfg.prefsrc = cfg.dst
    assert host.create(cfg).prefsrc == a("203.0.113.9")


def test_fib_valid_prefsrc_by_the_routes_own_table(host: Host) -> None:
    host.route("203.0.113.7", dev=host.a1, rt_type=RTN_LOCAL, scope=RT_SCOPE_HOST, table=101)
    assert host.create(host.config(dev=host.a1, prefsrc=a("203.0.113.7"), table=101)).prefsrc
    words = ("EINVAL", "Invalid prefsrc address")
    assert host.refused(host.config(dev=host.a1, prefsrc=a("203.0.113.7"))) == words
    assert host.create(host.config(dev=host.a1, prefsrc=a("192.0.2.1"), table=101)).prefsrc
