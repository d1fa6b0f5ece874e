"""The tables: lookups without rules, address types, what addresses and devices bring and take away, events.

The routes and their order are what Linux 6.18 showed in a namespace after the same commands.
"""

from __future__ import annotations

import errno

import pytest

from tests.routing.links import SEED, a
from tests.routing.tables import Ether, Tables, address, shown_route
from ustack.device.core import Devices
from ustack.dst import (
    RTN_BLACKHOLE,
    RTN_BROADCAST,
    RTN_LOCAL,
    RTN_MULTICAST,
    RTN_PROHIBIT,
    RTN_THROW,
    RTN_UNICAST,
    RTN_UNREACHABLE,
)
from ustack.net import Net
from ustack.routing import fib_frontend
from ustack.routing.fib_frontend import Fib
from ustack.routing.fib_rules import FibRuleConfig
from ustack.routing.fib_types import FibConfig
from ustack.routing.flow import RT_SCOPE_NOWHERE
from ustack.routing.uapi import (
    FR_ACT_TO_TBL,
    IFA_F_NOPREFIXROUTE,
    NLM_F_CREATE,
    NLM_F_EXCL,
    NLM_F_REPLACE,
    RT_TABLE_DEFAULT,
    RT_TABLE_LOCAL,
    RT_TABLE_MAIN,
)


def ours(addr: str, src: str = "") -> str:
    return f"local {addr} proto kernel scope host src {src or addr}"


def brd(addr: str, src: str) -> str:
    return f"broadcast {addr} proto kernel scope link src {src}"


def subnet(prefix: str, src: str, metric: str = "") -> str:
    return f"unicast {prefix} proto kernel scope link src {src}{metric}"


# -- what an address brings, and what remains without it


@pytest.mark.parametrize(
    ("cidr", "peer", "brd_given", "local", "main"),
    [
        ("192.0.2.1/24", "", "", [ours("192.0.2.1"), brd("192.0.2.255", "192.0.2.1")],
         [subnet("192.0.2.0/24", "192.0.2.1")]),
        ("192.0.2.1/24", "", "192.0.2.255", [ours("192.0.2.1"), brd("192.0.2.255", "192.0.2.1")],
         [subnet("192.0.2.0/24", "192.0.2.1")]),
        ("192.0.2.1/32", "", "", [ours("192.0.2.1")], []),
        # RFC 3021: a link of two addresses has no broadcast address
        ("192.0.2.0/31", "", "", [ours("192.0.2.0")], [subnet("192.0.2.0/31", "192.0.2.0")]),
        # an odd broadcast address comes beside the subnet's
        ("192.0.2.1/30", "", "192.0.2.99",
         [ours("192.0.2.1"), brd("192.0.2.3", "192.0.2.1"), brd("192.0.2.99", "192.0.2.1")],
         [subnet("192.0.2.0/30", "192.0.2.1")]),
        ("192.0.2.1/32", "", "192.0.2.255", [ours("192.0.2.1"), brd("192.0.2.255", "192.0.2.1")], []),
        ("192.0.2.1/24", "", "255.255.255.255", [ours("192.0.2.1"), brd("192.0.2.255", "192.0.2.1")],
         [subnet("192.0.2.0/24", "192.0.2.1")]),
        # the subnet is the peer's
        ("192.0.2.1", "198.51.100.1/32", "", [ours("192.0.2.1")], [subnet("198.51.100.1", "192.0.2.1")]),
        ("192.0.2.1", "198.51.100.1/24", "", [ours("192.0.2.1"), brd("198.51.100.255", "192.0.2.1")],
         [subnet("198.51.100.0/24", "192.0.2.1")]),
        ("127.0.0.5/24", "", "", [ours("127.0.0.5"), brd("127.0.0.255", "127.0.0.5")],
         [subnet("127.0.0.0/24", "127.0.0.5")]),
        # "if (!ipv4_is_zeronet(prefix)": half the Internet is nobody's link
        ("100.0.0.1/1", "", "", [ours("100.0.0.1")], []),
    ],
)  # fmt: skip
def test_the_routes_an_address_brings_and_takes(
    cidr: str, peer: str, brd_given: str, local: list[str], main: list[str]
) -> None:
    host = Tables()
    ifa = host.add(cidr, peer=peer, brd=brd_given)
    assert (host.local(), host.main()) == (local, main)
    host.inet.inet_del_ifa(host.a0, ifa)
    assert (host.local(), host.main()) == ([], [])


def test_all_of_127_is_local_on_the_loopback_device() -> None:
    """fib_add_ifaddr: a subnet on a loopback device is RTN_LOCAL; RFC 1122 3.2.1.3 (g)."""
    host = Tables()
    table = host.fib.fib_get_table(RT_TABLE_LOCAL)
    assert table is not None
    assert [shown_route(alias) for alias in table.fib_table_dump()] == [
        "local 127.0.0.0/8 proto kernel scope host src 127.0.0.1",
        "local 127.0.0.1 proto kernel scope host src 127.0.0.1",
        "broadcast 127.255.255.255 proto kernel scope link src 127.0.0.1",
    ]


def test_noprefixroute_leaves_the_subnet_to_somebody_else() -> None:
    host = Tables()
    ifa = address("192.0.2.1/24", flags=0x80 | IFA_F_NOPREFIXROUTE)
    host.inet.inet_rtm_newaddr(host.a0, ifa)
    assert (host.local(), host.main()) == ([ours("192.0.2.1"), brd("192.0.2.255", "192.0.2.1")], [])
    host.route("192.0.2.0/24", dev=host.a0)
    host.add("198.51.100.1/32")
    host.delete("192.0.2.1/24")
    assert host.main() == ["unicast 192.0.2.0/24 proto boot scope link"]


def test_the_metric_of_an_address_is_its_subnets_and_can_change() -> None:
    """fib_modify_prefix_metric."""
    host = Tables()
    host.inet.inet_rtm_newaddr(host.a0, address("192.0.2.1/24", metric=500))
    assert host.main() == [subnet("192.0.2.0/24", "192.0.2.1", " metric 500")]
    host.events.take()
    host.inet.inet_rtm_newaddr(host.a0, address("192.0.2.1/24", metric=600), NLM_F_REPLACE)
    assert host.main() == [subnet("192.0.2.0/24", "192.0.2.1", " metric 600")]
    assert host.events.take() == [
        f"newroute {subnet('192.0.2.0/24', '192.0.2.1', ' metric 600')}",
        f"delroute {subnet('192.0.2.0/24', '192.0.2.1', ' metric 500')}",
        "newaddr 192.0.2.1/24 metric 600 scope global",
    ]
    host.delete("192.0.2.1/24")
    assert host.main() == []


def test_an_address_takes_the_first_route_that_looks_like_its_own() -> None:
    """The kernel asks for no metric when it deletes (fib_del_ifaddr), so the wrong one goes."""
    host = Tables()
    host.inet.inet_rtm_newaddr(host.a0, address("192.0.2.1/24", metric=500))
    host.add("192.0.2.1/25")
    host.route("192.0.2.0/24", dev=host.a0, protocol=2, prefsrc=a("192.0.2.1"), priority=7)
    host.delete("192.0.2.1/24")
    assert host.main() == [subnet("192.0.2.0/25", "192.0.2.1"), subnet("192.0.2.0/24", "192.0.2.1", " metric 500")]
    assert host.local() == [ours("192.0.2.1"), brd("192.0.2.127", "192.0.2.1")]


def test_secondary_addresses_name_the_primary_as_their_source() -> None:
    host = Tables()
    host.add("192.0.2.1/24")
    alone = (host.local(), host.main())
    host.add("192.0.2.2/24")
    assert host.local() == [ours("192.0.2.1"), ours("192.0.2.2", "192.0.2.1"), brd("192.0.2.255", "192.0.2.1")]
    assert host.main() == [subnet("192.0.2.0/24", "192.0.2.1")]
    host.delete("192.0.2.2/24")
    assert (host.local(), host.main()) == alone


def test_a_primary_address_takes_its_secondaries_along() -> None:
    host = Tables()
    host.add("192.0.2.1/24")
    host.add("192.0.2.2/24")
    host.add("198.51.100.1/24")
    host.delete("192.0.2.1/24")
    assert host.local() == [ours("198.51.100.1"), brd("198.51.100.255", "198.51.100.1")]
    assert host.main() == [subnet("198.51.100.0/24", "198.51.100.1")]


def test_promotion_changes_the_source_of_what_is_left() -> None:
    host = Tables()
    host.a0.in_dev.cnf.promote_secondaries = 1
    for cidr in ("192.0.2.1/24", "192.0.2.2/24", "192.0.2.3/24", "198.51.100.1/24", "192.0.2.4/24"):
        host.add(cidr)
    host.delete("192.0.2.1/24")
    assert host.local() == [
        ours("192.0.2.2"),
        ours("192.0.2.3", "192.0.2.2"),
        ours("192.0.2.4", "192.0.2.2"),
        brd("192.0.2.255", "192.0.2.2"),
        ours("198.51.100.1"),
        brd("198.51.100.255", "198.51.100.1"),
    ]
    assert host.main() == [subnet("192.0.2.0/24", "192.0.2.2"), subnet("198.51.100.0/24", "198.51.100.1")]


def test_the_same_address_with_two_lengths() -> None:
    host = Tables()
    host.add("192.0.2.1/24")
    host.add("192.0.2.1/25")
    assert host.local() == [ours("192.0.2.1"), brd("192.0.2.127", "192.0.2.1"), brd("192.0.2.255", "192.0.2.1")]
    assert host.main() == [subnet("192.0.2.0/25", "192.0.2.1"), subnet("192.0.2.0/24", "192.0.2.1")]
    host.delete("192.0.2.1/24")
    assert host.local() == [ours("192.0.2.1"), brd("192.0.2.127", "192.0.2.1")]
    assert host.main() == [subnet("192.0.2.0/25", "192.0.2.1")]
    host.delete("192.0.2.1/25")
    assert (host.local(), host.main()) == ([], [])


def test_a_broadcast_address_of_two_subnets() -> None:
    host = Tables()
    host.add("192.0.2.1/24")
    first = host.local()
    host.add("192.0.2.129/25")
    assert host.local() == [
        ours("192.0.2.1"),
        ours("192.0.2.129"),
        brd("192.0.2.255", "192.0.2.1"),
        brd("192.0.2.255", "192.0.2.129"),
    ]
    host.delete("192.0.2.129/25")
    assert host.local() == first
    host.add("192.0.2.129/25")
    host.delete("192.0.2.1/24")
    assert host.local() == [ours("192.0.2.129"), brd("192.0.2.255", "192.0.2.129")]
    assert host.main() == [subnet("192.0.2.128/25", "192.0.2.129")]


def test_an_address_on_two_devices_is_ours_until_both_are_gone() -> None:
    host = Tables()
    host.add("192.0.2.1/32")
    host.add("192.0.2.1/32", host.a1)
    host.route("203.0.113.0/24", dev=host.a1, prefsrc=a("192.0.2.1"))
    assert host.local() == [ours("192.0.2.1"), ours("192.0.2.1")]
    host.delete("192.0.2.1/32")
    assert host.local(host.a1) == [ours("192.0.2.1")] == host.local()
    assert len(host.main()) == 1 and host.fib.inet_addr_type(a("192.0.2.1")) == RTN_LOCAL
    host.delete("192.0.2.1/32", host.a1)
    assert (host.local(), host.main()) == ([], [])


def test_the_last_address_takes_every_route_of_its_device_along() -> None:
    """inet_del_ifa: fib_disable_ip; and fib_sync_down_addr, for who preferred it on another device."""
    host = Tables()
    host.add("192.0.2.1/24")
    host.route("203.0.113.0/24", "192.0.2.9")
    host.route("203.0.113.128/25", dev=host.a0)
    host.add("198.51.100.1/24", host.a1)
    host.route("203.0.113.64/26", dev=host.a1, prefsrc=a("192.0.2.1"))
    assert host.main() == [
        subnet("192.0.2.0/24", "192.0.2.1"),
        subnet("198.51.100.0/24", "198.51.100.1"),
        "unicast 203.0.113.0/24 via 192.0.2.9 proto boot scope global",
        "unicast 203.0.113.64/26 proto boot scope link src 192.0.2.1",
        "unicast 203.0.113.128/25 proto boot scope link",
    ]
    host.delete("192.0.2.1/24")
    assert host.main() == [subnet("198.51.100.0/24", "198.51.100.1")]
    assert host.local() == [ours("198.51.100.1"), brd("198.51.100.255", "198.51.100.1")]


def test_a_route_that_prefers_a_lost_address_goes_with_it() -> None:
    host = Tables()
    host.add("192.0.2.1/24")
    host.add("192.0.2.2/24")
    host.route("203.0.113.0/24", "192.0.2.9", prefsrc=a("192.0.2.2"))
    host.delete("192.0.2.2/24")
    assert host.main() == [subnet("192.0.2.0/24", "192.0.2.1")]


# -- devices


def test_a_device_that_goes_down_keeps_only_what_is_ours() -> None:
    """NETDEV_DOWN: fib_disable_ip spares the routes of scope host; NETDEV_UP brings the addresses' routes again, no
    others."""
    host = Tables()
    host.add("192.0.2.1/24", brd="192.0.2.255")
    host.add("192.0.2.2/24")
    up = (host.local(), host.main())
    host.route("203.0.113.0/24", "192.0.2.9")
    genid = host.fib.genid
    host.devices.dev_close(host.a0)
    assert host.local() == [ours("192.0.2.1"), ours("192.0.2.2", "192.0.2.1")]
    assert host.main() == [] and host.fib.genid > genid
    assert host.fib.inet_addr_type(a("192.0.2.1")) == RTN_LOCAL
    genid = host.fib.genid
    host.devices.dev_open(host.a0)
    assert (host.local(), host.main()) == up and host.fib.genid > genid


def test_an_address_given_while_the_device_is_down_is_ours_at_once() -> None:
    host = Tables()
    host.devices.dev_close(host.a0)
    host.add("192.0.2.1/24", brd="192.0.2.255")
    host.add("192.0.2.2/24")
    assert host.local() == [ours("192.0.2.1"), ours("192.0.2.2", "192.0.2.1")]
    assert host.main() == []
    host.devices.dev_open(host.a0)
    assert host.local()[-1] == brd("192.0.2.255", "192.0.2.1")
    assert host.main() == [subnet("192.0.2.0/24", "192.0.2.1")]


def test_a_device_that_goes_leaves_nothing() -> None:
    host = Tables()
    host.add("192.0.2.1/24")
    host.add("192.0.2.2/24")
    host.add("198.51.100.1/24", host.a1)
    other = (host.local(host.a1), host.main(host.a1))
    host.route("203.0.113.0/24", "192.0.2.9")
    host.devices.unregister_netdevice(host.a0)
    assert (host.local(), host.main()) == other
    assert host.a0.addresses == []


def test_a_lost_carrier_marks_routes_and_keeps_them() -> None:
    """NETDEV_CHANGE: RTNH_F_LINKDOWN; they serve unless ignore_routes_with_linkdown says otherwise."""
    host = Tables()
    host.add("192.0.2.1/24")
    before = (host.local(), host.main())
    genid = host.fib.genid
    host.devices.netif_carrier_off(host.a0)
    assert (host.local(), host.main()) == before and host.fib.genid > genid
    assert host.lookup("192.0.2.9")[0] == 0
    host.a0.in_dev.cnf.ignore_routes_with_linkdown = 1
    assert host.lookup("192.0.2.9")[0] == errno.ENETUNREACH
    genid = host.fib.genid
    host.devices.netif_carrier_on(host.a0)
    assert host.lookup("192.0.2.9")[0] == 0 and host.fib.genid > genid


def test_a_new_mtu_makes_cached_routes_worthless() -> None:
    """NETDEV_CHANGEMTU."""
    host = Tables()
    genid = host.fib.genid
    host.devices.dev_set_mtu(host.a0, 1400)
    assert host.fib.genid > genid


def test_one_device_is_flushed_and_no_other() -> None:
    host = Tables()
    for host_part in range(1, 20):
        host.add(f"192.0.2.{host_part}/32")
        host.add(f"198.51.100.{host_part}/32", host.a1)
        host.route(f"203.0.113.{host_part}", dev=host.a0, table=100)
        host.route(f"203.0.113.{host_part}", dev=host.a1, table=101)
    other = host.local(host.a1)
    host.devices.dev_close(host.a0)
    assert host.show(100) == [] and len(host.show(101)) == 19
    host.devices.unregister_netdevice(host.a0)
    assert host.local() == other and len(other) == 19


# -- lookups without rules


def test_main_then_default_and_local_in_main() -> None:
    host = Tables()
    host.add("192.0.2.1/24")
    assert host.lookup("203.0.113.5")[0] == errno.ENETUNREACH
    host.route("0.0.0.0/0", "192.0.2.9", table=RT_TABLE_DEFAULT)
    err, res = host.lookup("203.0.113.5")
    assert err == 0 and res.table is not None and res.table.tb_id == RT_TABLE_DEFAULT
    host.route("203.0.113.0/24", "192.0.2.10")
    err, res = host.lookup("203.0.113.5")
    assert err == 0 and res.nhc is not None and res.nhc.gateway == a("192.0.2.10")
    assert host.lookup("192.0.2.1")[1].rt_type == RTN_LOCAL
    assert host.lookup("192.0.2.255")[1].rt_type == RTN_BROADCAST
    assert not host.fib.rules.has_custom


@pytest.mark.parametrize(
    ("rt_type", "code"),
    [
        (RTN_BLACKHOLE, errno.EINVAL),
        (RTN_UNREACHABLE, errno.EHOSTUNREACH),
        (RTN_PROHIBIT, errno.EACCES),
        (RTN_THROW, 0),
    ],
)
def test_a_route_that_leads_nowhere(rt_type: int, code: int) -> None:
    """It decides, and default is not asked; throw means: as if main had no route."""
    host = Tables()
    host.add("192.0.2.1/24")
    host.route("203.0.113.0/24", rt_type=rt_type)
    assert host.lookup("203.0.113.5")[0] == (code or errno.ENETUNREACH)
    host.route("0.0.0.0/0", "192.0.2.9", table=RT_TABLE_DEFAULT)
    assert host.lookup("203.0.113.5")[0] == code


def test_an_empty_stack_reaches_nothing() -> None:
    host = Tables()
    host.devices.unregister_netdevice(host.lo)
    assert host.lookup("127.0.0.1")[0] == errno.ENETUNREACH


# -- address types


@pytest.mark.parametrize(
    ("addr", "expected"),
    [
        ("192.0.2.2", RTN_LOCAL),
        ("127.0.0.1", RTN_LOCAL),
        ("127.200.0.1", RTN_LOCAL),
        ("192.0.2.1", RTN_UNICAST),
        ("203.0.113.5", RTN_UNICAST),
        ("192.0.2.255", RTN_BROADCAST),
        ("192.0.2.0", RTN_UNICAST),  # since Linux 5.14 the lowest address is an ordinary one
        ("255.255.255.255", RTN_BROADCAST),
        ("0.0.0.0", RTN_BROADCAST),
        ("0.1.2.3", RTN_UNICAST),
        ("224.0.0.1", RTN_MULTICAST),
        ("239.255.255.255", RTN_MULTICAST),
        ("240.0.0.1", RTN_UNICAST),
    ],
)
@pytest.mark.parametrize("apart", [False, True])
def test_inet_addr_type(addr: str, expected: int, apart: bool) -> None:
    host = Tables()
    host.add("192.0.2.2/24")
    if apart:
        host.fib.fib_unmerge()
    assert host.fib.inet_addr_type(a(addr)) == expected == host.inet.inet_addr_type(a(addr))
    assert host.fib.inet_addr_type_dev_table(host.a1, a(addr)) == expected


def test_types_by_table_and_by_device() -> None:
    host = Tables()
    host.add("192.0.2.2/24")
    host.route("203.0.113.0/24", dev=host.a0, rt_type=RTN_LOCAL, table=100, scope=254)
    assert host.fib.inet_addr_type_table(a("203.0.113.5"), 100) == RTN_LOCAL
    assert host.fib.inet_addr_type_table(a("203.0.113.5"), RT_TABLE_LOCAL) == RTN_UNICAST
    assert host.fib.inet_addr_type_table(a("203.0.113.5"), 101) == RTN_BROADCAST  # no such table
    assert host.fib.inet_dev_addr_type(host.a0, a("192.0.2.2")) == RTN_LOCAL
    assert host.fib.inet_dev_addr_type(host.a1, a("192.0.2.2")) == RTN_UNICAST
    assert host.fib.inet_dev_addr_type(None, a("192.0.2.2")) == RTN_LOCAL


def test_a_local_route_of_somebodys_own_is_remembered() -> None:
    """fib_has_custom_local_routes: the quick check of a source is not enough then."""
    host = Tables()
    host.add("192.0.2.2/24")
    assert not host.fib.has_custom_local_routes
    host.route("203.0.113.0/24", dev=host.lo, rt_type=RTN_LOCAL, table=RT_TABLE_LOCAL, scope=254)
    assert host.fib.has_custom_local_routes
    assert host.inet.ip_dev_find(a("203.0.113.77")) is host.lo


# -- tables


def test_tables_are_made_when_something_is_put_in() -> None:
    host = Tables()
    assert host.fib.fib_get_table(4_000_000_000) is None
    host.route("203.0.113.0/24", dev=host.a0, table=4_000_000_000)
    assert host.show(4_000_000_000) == ["unicast 203.0.113.0/24 proto boot scope link"]
    assert host.fib.fib_new_table(0) is host.fib.fib_get_table(RT_TABLE_MAIN) is host.fib.fib_get_table(0)


def test_tables_in_the_order_of_a_dump() -> None:
    """inet_dump_fib: 256 buckets by the last bits of the id, in each the newest first."""
    host = Tables()
    for tb_id in (256 + 3, 2, 3, 512 + 3, 300, 253, 1):
        host.fib.fib_new_table(tb_id)
    assert [t.tb_id for t in host.fib.tables_in_order()] == [1, 2, 515, 3, 259, 300, 253, 254, 255]
    host.fib.fib_unmerge()
    assert [t.tb_id for t in host.fib.tables_in_order()][-2:] == [254, 255]


def test_there_is_an_end_to_tables() -> None:
    host = Tables()
    for tb_id in range(1000, 1000 + fib_frontend.FIB_MAX_TABLES - len(host.fib.tables_in_order())):
        host.fib.fib_new_table(tb_id)
    for change in (
        lambda: host.route("203.0.113.0/24", dev=host.a0, table=1),
        lambda: host.fib.rules.fib_nl_newrule(FibRuleConfig(FR_ACT_TO_TBL, 0, 5)),
    ):
        with pytest.raises(OSError) as failure:
            change()
        assert failure.value.errno == errno.ENOBUFS
    assert len(host.fib.rules.rules) == 3 and host.lookup("127.0.0.1")[0] == 0
    host.route("203.0.113.0/24", dev=host.a0, table=1000)


def test_unmerging_happens_once() -> None:
    """fib_unmerge: nothing without a local table, nothing the second time."""
    bare = Devices(Net(SEED))
    fib = Fib(bare.net, bare)
    fib.fib_unmerge()
    assert fib.tables_in_order() == []
    host = Tables()
    host.fib.fib_unmerge()
    alone = host.fib.fib_get_table(RT_TABLE_LOCAL)
    host.fib.fib_unmerge()
    assert host.fib.fib_get_table(RT_TABLE_LOCAL) is alone


# -- routes by rtnetlink


def test_many_routes_at_once() -> None:
    """rtm_newroutes: one that is refused does not stop the others; one that nobody can have stops all."""
    host = Tables()
    host.add("192.0.2.1/24")
    cfg = FibConfig(0, 0)
    cfg.gateway, cfg.nlflags, cfg.protocol, cfg.table = a("192.0.2.9"), NLM_F_CREATE | NLM_F_EXCL, 3, 100
    prefixes = [("203.0.113.0", 24), ("203.0.113.128", 25), ("203.0.113.0", 24), ("203.0.113.1", 24)]
    refused = host.fib.rtm_newroutes(cfg, b"".join(a(p).to_bytes(4, "big") + bytes([n]) for p, n in prefixes))
    assert refused == {2: errno.EEXIST, 3: errno.EINVAL}
    assert len(host.show(100)) == 2 and not host.fib.has_custom_local_routes
    cfg.gateway = a("198.51.100.9")
    with pytest.raises(OSError) as failure:
        host.fib.rtm_newroutes(cfg, bytes(5))
    assert failure.value.errno == errno.ENETUNREACH and len(host.show(100)) == 2


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"tos": 0x11}, "Invalid dsfield (tos): ECN bits must be 0"),
        ({"rt_type": 12}, "Invalid route type"),
        ({"dst_len": 33}, "Invalid prefix length"),
        ({"dst": a("203.0.113.1")}, "Invalid prefix for given prefix length"),
        ({"nh_id": 7}, "Nexthop specification and nexthop id are mutually exclusive"),
    ],
)
def test_routes_that_are_refused(fields: dict[str, int], text: str) -> None:
    """rtm_to_fib_config; the tables stay as they were."""
    host = Tables()
    for delete in (False, True):
        cfg = FibConfig(a("203.0.113.0"), 24)
        cfg.oif, cfg.nlflags = host.a0.ifindex, NLM_F_CREATE
        for name, value in fields.items():
            setattr(cfg, name, value)
        with pytest.raises(OSError) as failure:
            (host.fib.rtm_delroute if delete else host.fib.rtm_newroute)(cfg)
        assert (failure.value.errno, failure.value.strerror) == (errno.EINVAL, text)
    assert host.main() == []


def test_deleting_what_is_not_there_is_esrch() -> None:
    host = Tables()
    cfg = FibConfig(a("203.0.113.0"), 24)
    cfg.rt_type, cfg.scope = 0, RT_SCOPE_NOWHERE
    host.add("192.0.2.1/24")
    with pytest.raises(OSError) as failure:
        host.fib.rtm_delroute(cfg)
    assert (failure.value.errno, failure.value.strerror) == (errno.ESRCH, "No such process")
    cfg.table = 77
    with pytest.raises(OSError) as failure:
        host.fib.rtm_delroute(cfg)
    assert (failure.value.errno, failure.value.strerror) == (errno.ESRCH, "FIB table does not exist")
    assert host.fib.fib_get_table(77) is None
    cfg.nh_id = 5
    with pytest.raises(OSError) as failure:
        host.fib.rtm_delroute(cfg)
    assert (failure.value.errno, failure.value.strerror) == (errno.EINVAL, "Nexthop id does not exist")


def test_a_route_comes_and_goes_in_its_own_table() -> None:
    host = Tables()
    host.add("192.0.2.1/24")
    before = host.main()
    host.route("203.0.113.0/24", "192.0.2.9", table=100)
    assert host.main() == before and len(host.show(100)) == 1
    cfg = FibConfig(a("203.0.113.0"), 24)
    cfg.rt_type, cfg.scope, cfg.table = 0, RT_SCOPE_NOWHERE, 100
    host.fib.rtm_delroute(cfg)
    assert host.show(100) == []


# -- events


def test_events_of_an_address() -> None:
    """The message about the address comes before those about its routes, as it comes and as it goes."""
    host = Tables()
    host.add("192.0.2.1/24")
    assert host.events.take() == [
        "newaddr 192.0.2.1/24 scope global",
        f"newroute {ours('192.0.2.1')}",
        f"newroute {subnet('192.0.2.0/24', '192.0.2.1')}",
        f"newroute {brd('192.0.2.255', '192.0.2.1')}",
    ]
    host.delete("192.0.2.1/24")
    assert host.events.take() == [
        "deladdr 192.0.2.1/24 scope global",
        f"delroute {subnet('192.0.2.0/24', '192.0.2.1')}",
        f"delroute {brd('192.0.2.255', '192.0.2.1')}",
        f"delroute {ours('192.0.2.1')}",
    ]


def test_addresses_move_both_generations() -> None:
    host = Tables()
    before = (host.fib.genid, host.fib.dev_addr_genid)
    host.add("192.0.2.1/32")
    middle = (host.fib.genid, host.fib.dev_addr_genid)
    host.delete("192.0.2.1/32")
    assert before[0] < middle[0] < host.fib.genid
    assert before[1] < middle[1] < host.fib.dev_addr_genid


def test_many_devices_and_addresses_come_and_go() -> None:
    """What is left after everybody has gone is nothing."""
    host = Tables()
    devs = [host.add_device(Ether(f"b{n}")) for n in range(8)]
    for turn in range(3):
        for n, dev in enumerate(devs):
            dev.in_dev.cnf.promote_secondaries = turn & 1
            for low in range(1, 6):
                host.add(f"198.51.100.{low + 8 * n}/{24 + (low + turn) % 9}", dev)
        for n, dev in enumerate(devs):
            for low in range(1, 6):
                cidr = f"198.51.100.{low + 8 * n}/{24 + (low + turn) % 9}"
                if any(f"{cidr} " in f"{line} " for line in host.addresses(dev)):
                    host.delete(cidr, dev)
        assert (host.local(), host.main()) == ([], [])
