"""What addresses and devices do to routes when they go, and when they come back.

fib_sync_down_addr, fib_sync_down_dev, fib_sync_up.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import pytest

from tests.routing.hosts import Host, hop
from tests.routing.links import a
from tests.routing.tables import Ether
from ustack.dst import RTN_LOCAL
from ustack.routing.flow import RT_SCOPE_HOST
from ustack.routing.uapi import RT_TABLE_MAIN, RTNH_F_DEAD, RTNH_F_LINKDOWN

if TYPE_CHECKING:
    from ustack.routing.fib_types import FibInfo


@pytest.fixture
def host() -> Host:
    return Host()


# -- fib_sync_down_addr


def test_fib_sync_down_addr_only_the_main_table(host: Host) -> None:
    cfgs = [host.config("192.0.2.2", prefsrc=a("192.0.2.1"), table=table) for table in (RT_TABLE_MAIN, 100)]
    main, other = (host.create(cfg) for cfg in cfgs)
    third = host.create(host.config("192.0.2.2", prefsrc=a("198.51.100.1")))
    assert host.semantics.fib_sync_down_addr(host.a0, 0) == 0
    assert host.semantics.fib_sync_down_addr(host.a0, a("192.0.2.99")) == 0
    assert host.semantics.fib_sync_down_addr(host.a0, a("192.0.2.1")) == 2, "the subnet's own route as well"
    assert main.flags & RTNH_F_DEAD and main.pfsrc_removed
    assert other.flags == third.flags == 0 and not other.pfsrc_removed


# -- fib_sync_down_dev, fib_sync_up


def flags(fi: FibInfo) -> list[int]:
    """Of the whole and of each hop."""
    return [int(fi.flags)] + [int(nh.flags) for nh in fi.nh]


DOWN = RTNH_F_DEAD | RTNH_F_LINKDOWN


class Several(Host):
    """One route out of a0 alone, one out of both, one of scope host; held beside the tables."""

    def __init__(self) -> None:
        super().__init__()
        self.one = self.create(self.config("192.0.2.2"))
        self.both = self.create(self.several(hop("192.0.2.2"), hop("198.51.100.2", weight=3)))
        self.mine = self.create(self.config(dev=self.a0, scope=RT_SCOPE_HOST, rt_type=RTN_LOCAL))

    def all(self) -> list[list[int]]:
        return [flags(self.one), flags(self.both), flags(self.mine)]


@pytest.fixture
def routes() -> Several:
    return Several()


def test_fib_sync_down_dev_and_up(routes: Several) -> None:
    routes.devices.dev_close(routes.a0)
    assert routes.all() == [[DOWN, DOWN], [0, DOWN, 0], [0, 0]]
    routes.devices.dev_open(routes.a0)
    assert routes.all() == [[0, 0], [0, 0, 0], [0, 0]]


def test_fib_sync_down_dev_all_hops_one_after_the_other(routes: Several) -> None:
    routes.devices.dev_close(routes.a0)
    routes.devices.dev_close(routes.a1)
    assert flags(routes.both) == [DOWN, DOWN, DOWN]
    routes.devices.dev_open(routes.a1)
    assert flags(routes.both) == [0, DOWN, 0], "one hop that lives is enough"


def test_fib_sync_carrier(routes: Several) -> None:
    routes.devices.netif_carrier_off(routes.a0)
    assert routes.all() == [[RTNH_F_LINKDOWN] * 2, [0, RTNH_F_LINKDOWN, 0], [0, 0]]
    routes.devices.netif_carrier_on(routes.a0)
    assert routes.all() == [[0, 0], [0, 0, 0], [0, 0]]


def test_fib_sync_up_without_carrier_stays_linkdown(routes: Several) -> None:
    routes.devices.dev_close(routes.a0)
    routes.devices.netif_carrier_off(routes.a0)
    routes.devices.dev_open(routes.a0)
    assert routes.all()[:2] == [[RTNH_F_LINKDOWN] * 2, [0, RTNH_F_LINKDOWN, 0]]
    routes.devices.netif_carrier_on(routes.a0)
    assert routes.all()[:2] == [[0, 0], [0, 0, 0]]


def test_fib_sync_up_nothing_while_it_is_down(routes: Several) -> None:
    routes.devices.dev_close(routes.a0)
    assert routes.semantics.fib_sync_up(routes.a0, RTNH_F_DEAD) == 0
    assert flags(routes.one) == [DOWN, DOWN]


def test_fib_sync_down_dev_force_takes_scope_host_as_well(routes: Several) -> None:
    """Its last address is gone."""
    routes.delete("192.0.2.1/24", routes.a0)
    assert routes.all() == [[DOWN, DOWN], [0, DOWN, 0], [DOWN, DOWN]]


def test_fib_sync_down_dev_unregister_takes_all(routes: Several) -> None:
    routes.devices.unregister_netdevice(routes.a0)
    assert [fi.flags for fi in (routes.one, routes.both, routes.mine)] == [DOWN, DOWN, DOWN]
    assert flags(routes.both) == [DOWN, DOWN, 0]


def test_fib_sync_down_dev_flushes_the_tables() -> None:
    host = Host()
    host.route("203.0.113.0/24", "192.0.2.2")
    host.route("203.0.114.0/24", "198.51.100.2")
    fi = host.lookup("203.0.113.1")[1].fi
    assert fi is not None and fi.treeref == 1
    host.devices.dev_close(host.a0)
    assert host.lookup("203.0.113.1")[0] == errno.ENETUNREACH and host.lookup("203.0.114.1")[0] == 0
    assert fi.dead and fi not in host.known()


def test_fib_sync_down_dev_asks_only_those_it_is_about(host: Host) -> None:
    fi = host.create(host.config("192.0.2.2"))
    assert fi in host.semantics.infos_of(host.a0) and fi not in host.semantics.infos_of(host.a1)
    assert host.semantics.infos_of(host.a2) == []


def test_a_device_with_the_number_of_one_that_is_gone_has_none_of_its_routes(routes: Several) -> None:
    routes.devices.unregister_netdevice(routes.a0)
    again = routes.add_device(Ether("a0"))
    assert again.ifindex != routes.a0.ifindex
    assert routes.semantics.fib_sync_up(again, RTNH_F_DEAD) == 0
    assert routes.one.flags == DOWN
