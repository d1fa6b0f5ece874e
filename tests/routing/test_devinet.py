"""Addresses and what they bring (inet_insert_ifa, inet_del_ifa, fib_add_ifaddr, inet_select_addr, inet_addr_type)."""

from __future__ import annotations

import errno

import pytest

from tests.routing.links import BROADCAST, FAR, LOCALHOST, OURS, OURS_1, PEER, FakeDevice, Links, a, address, shown
from ustack.device.net_device import IFF_UP, NetDevice
from ustack.dst import RTN_BROADCAST, RTN_LOCAL, RTN_MULTICAST, RTN_UNICAST
from ustack.routing import devinet
from ustack.routing.devinet import AddressWatcher, is_secondary
from ustack.routing.flow import RT_SCOPE_HOST, RT_SCOPE_LINK, RT_SCOPE_UNIVERSE


class Watcher(AddressWatcher):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, str, str]] = []

    def address_added(self, dev: NetDevice, addr: int) -> None:
        self.seen.append(("add", dev.name, shown(addr)))

    def address_removed(self, dev: NetDevice, addr: int) -> None:
        self.seen.append(("del", dev.name, shown(addr)))


def routes(links: Links, dev: FakeDevice) -> tuple[set[str], set[str]]:
    """What the local and the main table have of ``dev``."""
    kinds = {RTN_LOCAL: "local", RTN_BROADCAST: "broadcast", RTN_UNICAST: "unicast"}
    local, main = [
        {f"{kinds[int(r.rt_type)]} {shown(r.network)}/{r.prefixlen}" for r in table.entries() if r.dev is dev}
        for table in (links.routing.fib.local, links.routing.fib.main)
    ]
    return local, main


@pytest.mark.parametrize(
    ("cidr", "local", "main"),
    [
        (
            "203.0.113.9/24",
            {"local 203.0.113.9/32", "broadcast 203.0.113.255/32"},
            {"unicast 203.0.113.0/24"},
        ),
        ("203.0.113.9/32", {"local 203.0.113.9/32"}, set()),
        # RFC 3021: a point-to-point link of two addresses has no broadcast address
        ("203.0.113.8/31", {"local 203.0.113.8/32"}, {"unicast 203.0.113.8/31"}),
        (
            "203.0.113.9/30",
            {"local 203.0.113.9/32", "broadcast 203.0.113.11/32"},
            {"unicast 203.0.113.8/30"},
        ),
    ],
)
def test_the_routes_an_address_brings(cidr: str, local: set[str], main: set[str]) -> None:
    """fib_add_ifaddr; since Linux 5.14 the lowest address of a subnet is no broadcast address."""
    links = Links()
    dev = links.add(FakeDevice("eth2", 7), cidr)
    assert routes(links, dev) == (local, main)


def test_all_of_127_is_local_on_the_loopback_device() -> None:
    """fib_add_ifaddr: a subnet on a loopback device is RTN_LOCAL; RFC 1122 3.2.1.3 (g)."""
    links = Links()
    assert routes(links, links.lo) == (
        {"local 127.0.0.0/8", "local 127.0.0.1/32", "broadcast 127.255.255.255/32"},
        set(),
    )
    assert links.routing.inet.ip_dev_find(a("127.9.9.9")) is links.lo


@pytest.mark.parametrize(
    ("cidr", "code"),
    [
        ("224.0.0.1/24", errno.EINVAL),
        ("0.1.2.3/8", errno.EINVAL),
        ("255.255.255.255/32", errno.EINVAL),
        ("192.0.2.2/24", errno.EEXIST),
    ],
)
def test_addresses_that_are_refused(cidr: str, code: int) -> None:
    links = Links()
    before = routes(links, links.eth0)
    with pytest.raises(OSError) as failure:
        links.routing.add_address(links.eth0, address(cidr))
    assert failure.value.errno == code
    assert routes(links, links.eth0) == before and len(links.eth0.addresses) == 1


def test_a_device_has_a_bounded_number_of_addresses() -> None:
    links = Links()
    dev = links.add(FakeDevice("eth2", 7))
    for host in range(devinet.MAX_ADDRESSES):
        links.routing.add_address(dev, address(f"10.0.{host >> 8}.{host & 255}/32"))
    with pytest.raises(OSError) as failure:
        links.routing.add_address(dev, address("10.1.0.0/32"))
    assert failure.value.errno == errno.ENOBUFS


def test_a_secondary_address_brings_no_second_subnet_and_inherits_it() -> None:
    """IFA_F_SECONDARY; with promote_secondaries the next one takes the subnet over."""
    links = Links()
    links.routing.add_address(links.eth0, address("192.0.2.3/24"))
    first, second = links.eth0.addresses
    assert (is_secondary(links.eth0, first), is_secondary(links.eth0, second)) == (False, True)
    assert len(links.routing.fib.main.at_prefix(a("192.0.2.0"), 24)) == 1
    links.routing.del_address(links.eth0, OURS, 24)
    assert not is_secondary(links.eth0, second)
    (route,) = links.routing.fib.main.at_prefix(a("192.0.2.0"), 24)
    assert route.prefsrc == a("192.0.2.3")
    assert links.routing.inet_addr_type(OURS) == RTN_UNICAST


def test_the_last_address_takes_every_route_of_its_device_along() -> None:
    """inet_del_ifa calls fib_disable_ip when ifa_list is empty."""
    links = Links()
    links.route("0.0.0.0/0", "192.0.2.1")
    links.route("203.0.113.0/24", dev=links.eth0)
    other = routes(links, links.eth1)
    links.routing.del_address(links.eth0, OURS, 24)
    assert routes(links, links.eth0) == (set(), set())
    assert routes(links, links.eth1) == other


def test_a_route_that_prefers_a_lost_address_goes_with_it() -> None:
    """fib_sync_down_addr."""
    links = Links()
    links.routing.add_address(links.eth0, address("192.0.2.3/24"))
    links.routing.add_route(a("203.0.113.0"), 24, PEER, prefsrc=a("192.0.2.3"))
    links.routing.del_address(links.eth0, a("192.0.2.3"), 24)
    assert links.routing.fib.main.at_prefix(a("203.0.113.0"), 24) == []
    assert len(links.routing.fib.main.at_prefix(a("192.0.2.0"), 24)) == 1


def test_an_address_that_is_ours_twice_is_ours_until_both_are_gone() -> None:
    links = Links()
    links.routing.add_address(links.eth1, address("192.0.2.2/32"))
    links.routing.add_route(a("203.0.113.0"), 24, dev=links.eth1, prefsrc=OURS)
    links.routing.del_address(links.eth0, OURS, 24)
    assert links.routing.inet_addr_type(OURS) == RTN_LOCAL
    assert len(links.routing.fib.main.at_prefix(a("203.0.113.0"), 24)) == 1
    links.routing.del_address(links.eth1, OURS, 32)
    assert links.routing.inet_addr_type(OURS) == RTN_UNICAST
    assert links.routing.fib.main.at_prefix(a("203.0.113.0"), 24) == []


def test_a_subnet_in_0_8_brings_no_route() -> None:
    """fib_add_ifaddr: "if (!ipv4_is_zeronet(prefix)": half the Internet is nobody's link."""
    links = Links()
    links.routing.add_address(links.eth0, address("100.0.0.1/1"))
    assert links.routing.fib.main.at_prefix(0, 1) == []


def test_deleting_a_foreign_address_is_eaddrnotavail() -> None:
    links = Links()
    with pytest.raises(OSError) as failure:
        links.routing.del_address(links.eth0, OURS, 25)
    assert failure.value.errno == errno.EADDRNOTAVAIL


def test_watchers_hear_of_every_change() -> None:
    """inetaddr_chain: NETDEV_UP and NETDEV_DOWN."""
    links = Links()
    watcher = Watcher()
    links.routing.inet.watchers.append(watcher)
    links.routing.add_address(links.eth0, address("192.0.2.3/24"))
    links.routing.del_address(links.eth0, OURS, 24)
    links.routing.forget_device(links.eth1)
    assert watcher.seen == [
        ("add", "eth0", "192.0.2.3"),
        ("del", "eth0", "192.0.2.2"),
        ("del", "eth1", "198.51.100.2"),
    ]
    assert routes(links, links.eth1) == (set(), set()) and links.eth1.addresses == []


@pytest.mark.parametrize(
    ("addr", "expected"),
    [
        (OURS, RTN_LOCAL),
        (OURS_1, RTN_LOCAL),
        (LOCALHOST, RTN_LOCAL),
        (a("127.200.0.1"), RTN_LOCAL),
        (PEER, RTN_UNICAST),
        (FAR, RTN_UNICAST),
        (a("192.0.2.255"), RTN_BROADCAST),
        (a("192.0.2.0"), RTN_UNICAST),
        (BROADCAST, RTN_BROADCAST),
        (0, RTN_BROADCAST),
        (a("0.1.2.3"), RTN_BROADCAST),
        (a("224.0.0.1"), RTN_MULTICAST),
        (a("239.255.255.255"), RTN_MULTICAST),
        (a("240.0.0.1"), RTN_UNICAST),
    ],
)
def test_inet_addr_type(addr: int, expected: int) -> None:
    assert Links().routing.inet_addr_type(addr) == expected


@pytest.mark.parametrize(
    ("dev", "dst", "scope", "expected"),
    [
        ("eth0", 0, RT_SCOPE_UNIVERSE, "192.0.2.2"),
        ("eth0", FAR, RT_SCOPE_UNIVERSE, "192.0.2.2"),  # no subnet has it: the first primary
        ("eth0", a("203.0.113.7"), RT_SCOPE_LINK, "192.0.2.2"),
        ("eth0", a("10.0.0.9"), RT_SCOPE_UNIVERSE, "10.0.0.1"),  # the subnet that has it
        ("eth0", a("192.0.2.77"), RT_SCOPE_UNIVERSE, "192.0.2.2"),  # never the secondary
        ("eth1", a("192.0.2.77"), RT_SCOPE_UNIVERSE, "198.51.100.2"),
        ("lo", 0, RT_SCOPE_HOST, "127.0.0.1"),
        ("lo", 0, RT_SCOPE_UNIVERSE, "192.0.2.2"),  # 127.0.0.1 is known to this host only
        ("bare", 0, RT_SCOPE_LINK, "192.0.2.2"),  # RFC 1122 3.3.4.3: another of our addresses
    ],
)
def test_inet_select_addr(dev: str, dst: int, scope: int, expected: str) -> None:
    links = Links()
    links.routing.add_address(links.eth0, address("192.0.2.3/24"))
    links.routing.add_address(links.eth0, address("10.0.0.1/8"))
    links.add(FakeDevice("bare", 9))
    device = links.devices.by_name(dev)
    assert device is not None
    assert shown(links.routing.inet_select_addr(device, dst, scope)) == expected


def test_a_host_without_addresses_selects_none() -> None:
    links = Links()
    for dev in links.devices.all():
        links.routing.forget_device(dev)
    assert links.routing.inet_select_addr(links.eth0) == 0


def test_addresses_of_a_device_that_is_down_are_not_ours() -> None:
    """NETDEV_DOWN: fib_disable_ip; here the routes stay and do not serve, so that coming up again restores them."""
    links = Links()
    links.eth0.flags &= ~IFF_UP
    assert links.routing.inet_addr_type(OURS) == RTN_UNICAST
    links.eth0.flags |= IFF_UP
    assert links.routing.inet_addr_type(OURS) == RTN_LOCAL
