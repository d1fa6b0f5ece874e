"""Tables and lookups (fib_table_lookup, fib_lookup; RFC 1812 section 5.2.4.3, longest match)."""

from __future__ import annotations

import errno

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.routing.links import FAR, OURS, PEER, FakeDevice, Links, a
from ustack.device.net_device import IFF_UP
from ustack.dst import (
    RTN_BLACKHOLE,
    RTN_BROADCAST,
    RTN_LOCAL,
    RTN_PROHIBIT,
    RTN_THROW,
    RTN_UNICAST,
    RTN_UNREACHABLE,
)
from ustack.routing.fib import FibResult, FibTable, prefix_mask
from ustack.routing.flow import RT_SCOPE_HOST, RT_SCOPE_LINK, RT_SCOPE_UNIVERSE, Flow


def up(name: str = "eth0", ifindex: int = 1) -> FakeDevice:
    dev = FakeDevice(name, 2)
    dev.ifindex = ifindex
    dev.flags |= IFF_UP
    return dev


def table_of(*prefixes: str, dev: FakeDevice | None = None) -> FibTable:
    table = FibTable()
    dev = up() if dev is None else dev
    for prefix in prefixes:
        network, _, prefixlen = prefix.partition("/")
        table.fib_table_insert(FibResult(a(network), int(prefixlen), RTN_UNICAST, dev))
    return table


def found(table: FibTable, daddr: str) -> str | None:
    route = table.fib_table_lookup(Flow(a(daddr)))
    return None if route is None else f"{route.network >> 24}/{route.prefixlen}"


@pytest.mark.parametrize(
    ("daddr", "expected"),
    [
        ("10.1.2.3", "10/32"),
        ("10.1.2.4", "10/24"),
        ("10.1.3.4", "10/16"),
        ("10.2.0.1", "10/8"),
        ("11.0.0.1", "0/0"),
    ],
)
def test_longest_match(daddr: str, expected: str) -> None:
    """RFC 1812 5.2.4.3 (2): "the routes whose length is the longest are kept, the others are discarded"."""
    table = table_of("0.0.0.0/0", "10.1.0.0/16", "10.1.2.0/24", "10.0.0.0/8", "10.1.2.3/32")
    assert found(table, daddr) == expected


def test_an_empty_table_finds_nothing() -> None:
    assert found(FibTable(), "10.0.0.1") is None


@settings(max_examples=60)
@given(
    st.lists(st.tuples(st.integers(0, 0xFFFF_FFFF), st.integers(0, 32)), max_size=40),
    st.lists(st.integers(0, 0xFFFF_FFFF), min_size=1, max_size=20),
)
def test_a_lookup_is_the_longest_of_all_matches(prefixes: list[tuple[int, int]], addrs: list[int]) -> None:
    """The dictionaries by length answer what trying every route would, before and after half of them are gone."""
    table, routes = FibTable(), {}
    for addr, length in prefixes:
        network = int(addr & prefix_mask(length))
        if (network, length) not in routes:
            routes[network, length] = FibResult(network, length, RTN_UNICAST, up())
            table.fib_table_insert(routes[network, length])
    for _ in range(2):
        assert table.count == len(routes) == len(table.entries())
        for addr in addrs + [network for network, _ in routes]:
            matching = [key for key in routes if addr & prefix_mask(key[1]) == key[0]]
            best = max(matching, key=lambda key: key[1], default=None)
            assert table.fib_table_lookup(Flow(addr)) is (None if best is None else routes[best])
        for key in list(routes)[::2]:
            table.fib_table_delete(routes.pop(key))


def test_the_smallest_metric_wins_and_the_others_wait() -> None:
    """fib_insert_alias keeps aliases of one prefix sorted by priority."""
    table, dev = FibTable(), up()
    routes = {metric: FibResult(0, 0, RTN_UNICAST, dev, priority=metric) for metric in (20, 10, 30)}
    for route in routes.values():
        table.fib_table_insert(route)
    for metric in (10, 20, 30):
        assert table.fib_table_lookup(Flow(FAR)) is routes[metric]
        table.fib_table_delete(routes[metric])
    assert table.fib_table_lookup(Flow(FAR)) is None


def test_the_same_prefix_and_metric_is_refused_unless_appended() -> None:
    """NLM_F_EXCL answers EEXIST; the kernel's own routes use NLM_F_APPEND and come after."""
    table = table_of("10.0.0.0/8")
    again = FibResult(a("10.0.0.0"), 8, RTN_UNICAST, up())
    with pytest.raises(FileExistsError):
        table.fib_table_insert(again)
    assert table.count == 1
    first = table.fib_table_lookup(Flow(a("10.0.0.1")))
    table.fib_table_insert(again, append=True)
    assert table.fib_table_lookup(Flow(a("10.0.0.1"))) is first and table.count == 2


def test_deleting_what_is_not_there_is_esrch() -> None:
    table = table_of("10.0.0.0/8")
    with pytest.raises(OSError) as failure:
        table.fib_table_delete(FibResult(a("10.0.0.0"), 8, RTN_UNICAST, up()))
    assert failure.value.errno == errno.ESRCH and table.count == 1


def test_a_dead_link_is_passed_over_for_a_shorter_prefix() -> None:
    """fib_table_lookup skips next hops with RTNH_F_DEAD and backtracks."""
    dead, alive = up("eth0", 1), up("eth1", 2)
    table = table_of("0.0.0.0/0", dev=alive)
    table.fib_table_insert(FibResult(a("10.0.0.0"), 8, RTN_UNICAST, dead))
    assert found(table, "10.0.0.1") == "10/8"
    dead.flags &= ~IFF_UP
    assert found(table, "10.0.0.1") == "0/0"


def test_a_flow_bound_to_a_device_uses_its_routes_only() -> None:
    """fib_lookup_good_nhc: flowi4_oif must be the next hop's device."""
    one, two = up("eth0", 1), up("eth1", 2)
    table = table_of("0.0.0.0/0", dev=two)
    table.fib_table_insert(FibResult(a("10.0.0.0"), 8, RTN_UNICAST, one))
    route = table.fib_table_lookup(Flow(a("10.0.0.1"), oif=2))
    assert route is not None and route.dev is two
    assert table.fib_table_lookup(Flow(a("10.0.0.1"), oif=3)) is None


@pytest.mark.parametrize(
    ("scope", "wanted", "serves"),
    [
        (RT_SCOPE_UNIVERSE, RT_SCOPE_UNIVERSE, True),
        (RT_SCOPE_UNIVERSE, RT_SCOPE_LINK, False),
        (RT_SCOPE_LINK, RT_SCOPE_LINK, True),
        (RT_SCOPE_LINK, RT_SCOPE_UNIVERSE, True),
        (RT_SCOPE_HOST, RT_SCOPE_LINK, True),
    ],
)
def test_a_route_must_be_at_least_as_near_as_the_flow_wants(scope: int, wanted: int, serves: bool) -> None:
    """fib_table_lookup: "if (fa->fa_info->fib_scope < flp->flowi4_scope) continue": SO_DONTROUTE stays on the link."""
    table = FibTable()
    table.fib_table_insert(FibResult(0, 0, RTN_UNICAST, up(), scope=scope))
    assert (table.fib_table_lookup(Flow(FAR, scope=wanted)) is not None) is serves


@pytest.mark.parametrize(
    ("rt_type", "code"),
    [
        (RTN_BLACKHOLE, errno.EINVAL),
        (RTN_UNREACHABLE, errno.EHOSTUNREACH),
        (RTN_PROHIBIT, errno.EACCES),
        (RTN_THROW, errno.EAGAIN),
        (RTN_UNICAST, 0),
        (RTN_LOCAL, 0),
    ],
)
def test_route_types_have_their_errors(rt_type: int, code: int) -> None:
    """fib_props[]."""
    assert FibResult(0, 0, rt_type).error == code


def test_local_before_main_and_throw_is_no_route() -> None:
    """fib_lookup without custom rules: the local table's default rule has preference 0, main's 32766."""
    links = Links()
    fib = links.routing.fib
    local = fib.fib_lookup(Flow(OURS))
    assert local is not None and local.rt_type == RTN_LOCAL
    peer = fib.fib_lookup(Flow(PEER))
    assert peer is not None and (peer.rt_type, peer.prefixlen, peer.dev) == (RTN_UNICAST, 24, links.eth0)
    broadcast = fib.fib_lookup(Flow(a("192.0.2.255")))
    assert broadcast is not None and broadcast.rt_type == RTN_BROADCAST
    assert fib.fib_lookup(Flow(FAR)) is None
    links.routing.add_route(0, 0, rt_type=RTN_THROW)
    assert fib.fib_lookup(Flow(FAR)) is None


# -- ip route add and del


@pytest.mark.parametrize(
    ("cidr", "gateway", "device", "code"),
    [
        ("203.0.113.0/24", "192.0.2.1", None, 0),
        ("203.0.113.0/24", "0.0.0.0", "eth0", 0),
        ("203.0.113.0/24", "192.0.2.1", "eth0", 0),
        ("0.0.0.0/0", "198.51.100.1", None, 0),
        ("203.0.113.1/24", "192.0.2.1", None, errno.EINVAL),  # bits beyond the prefix
        ("203.0.113.0/33", "192.0.2.1", None, errno.EINVAL),
        ("203.0.113.0/24", "192.0.2.2", None, errno.EINVAL),  # our own address is no gateway
        ("203.0.113.0/24", "192.0.2.255", None, errno.EINVAL),  # nor a broadcast
        ("203.0.113.0/24", "224.0.0.5", None, errno.EINVAL),  # nor a group
        ("203.0.113.0/24", "203.0.113.9", None, errno.ENETUNREACH),  # on no link of ours
        ("203.0.113.0/24", "192.0.2.1", "eth1", errno.ENETUNREACH),  # on another link
        ("203.0.113.0/24", "0.0.0.0", None, errno.ENODEV),
        ("203.0.113.0/24", "0.0.0.0", "down", errno.ENETDOWN),
        ("192.0.2.0/24", "0.0.0.0", "eth1", errno.EEXIST),  # the connected route has this prefix and metric
    ],
)
def test_add_route_checks_what_fib_create_info_checks(cidr: str, gateway: str, device: str | None, code: int) -> None:
    links = Links()
    down = FakeDevice("down", 9)
    links.devices.register_netdevice(down)
    dev = None if device is None else links.devices.by_name(device)
    genid, count = links.routing.genid, links.routing.fib.main.count
    if code == 0:
        links.route(cidr, gateway, dev)
        assert links.routing.genid > genid and links.routing.fib.main.count == count + 1
        route = links.routing.fib.main.at_prefix(a(cidr.split("/")[0]), int(cidr.split("/")[1]))[-1]
        assert route.scope == (RT_SCOPE_LINK if gateway == "0.0.0.0" else RT_SCOPE_UNIVERSE)
    else:
        with pytest.raises(OSError) as failure:
            links.route(cidr, gateway, dev)
        assert failure.value.errno == code and links.routing.fib.main.count == count


def test_a_gateway_behind_a_gateway_is_refused() -> None:
    """RFC 1122 3.3.1.1: the gateway must be on a connected network."""
    links = Links()
    links.route("203.0.113.0/24", "192.0.2.1")
    with pytest.raises(OSError) as failure:
        links.route("10.0.0.0/8", "203.0.113.1")
    assert failure.value.errno == errno.ENETUNREACH


def test_a_foreign_prefsrc_and_a_kernel_type_are_refused() -> None:
    links = Links()
    for prefsrc, rt_type in ((FAR, RTN_UNICAST), (0, RTN_LOCAL)):
        with pytest.raises(OSError) as failure:
            links.routing.add_route(0, 0, PEER, prefsrc=prefsrc, rt_type=rt_type)
        assert failure.value.errno == errno.EINVAL


def test_del_route_takes_the_best_that_fits() -> None:
    links = Links()
    links.route("0.0.0.0/0", "192.0.2.1", metric=10)
    links.route("0.0.0.0/0", "198.51.100.1", metric=20)
    links.routing.del_route(0, 0, metric=20)
    assert [route.priority for route in links.routing.fib.main.at_prefix(0, 0)] == [10]
    with pytest.raises(OSError) as failure:
        links.routing.del_route(0, 0, gateway=a("198.51.100.1"))
    assert failure.value.errno == errno.ESRCH
    links.routing.del_route(0, 0)
    assert links.routing.fib.main.at_prefix(0, 0) == []
