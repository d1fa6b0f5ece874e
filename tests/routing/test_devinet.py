"""Addresses of devices: their order, what goes with what, labels, source selection, the hash of our own, events.

Orders, flags, labels and texts are what Linux 6.18 showed in a namespace after the same commands.
"""

from __future__ import annotations

import errno

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.routing.links import a, shown
from tests.routing.tables import Ether, Tables, address, shown_address
from ustack.device.net_device import IFF_UP, Address, NetDevice
from ustack.dst import RTN_LOCAL, RTN_UNICAST
from ustack.routing import devinet
from ustack.routing.devinet import AddressWatcher, is_secondary
from ustack.routing.flow import RT_SCOPE_HOST, RT_SCOPE_LINK, RT_SCOPE_UNIVERSE
from ustack.routing.uapi import IFA_F_NODAD, IFA_F_SECONDARY, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE


class Watcher(AddressWatcher):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, str, str]] = []

    def address_added(self, dev: NetDevice, addr: int) -> None:
        self.seen.append(("add", dev.name, shown(addr)))

    def address_removed(self, dev: NetDevice, addr: int) -> None:
        self.seen.append(("del", dev.name, shown(addr)))


# -- the list


def test_secondaries_stand_behind_all_primaries() -> None:
    host = Tables()
    for cidr in ("192.0.2.1/24", "192.0.2.2/24", "198.51.100.1/24", "192.0.2.3/24", "192.0.2.1/25"):
        host.add(cidr)
    assert host.addresses() == [
        "192.0.2.1/24 scope global",
        "198.51.100.1/24 scope global",
        "192.0.2.1/25 scope global",
        "192.0.2.2/24 scope global secondary",
        "192.0.2.3/24 scope global secondary",
    ]


def test_primaries_known_farther_stand_behind_those_known_nearer() -> None:
    """__inet_insert_ifa: last_primary."""
    host = Tables()
    for cidr, scope in (
        ("192.0.2.1/24", RT_SCOPE_LINK),
        ("198.51.100.1/24", RT_SCOPE_UNIVERSE),
        ("203.0.113.1/24", RT_SCOPE_HOST),
        ("203.0.113.129/32", RT_SCOPE_LINK),
        ("192.0.2.9/32", RT_SCOPE_UNIVERSE),
    ):
        host.inet.inet_insert_ifa(host.a0, address(cidr, scope=scope))
    assert host.addresses() == [
        "203.0.113.1/24 scope host",
        "192.0.2.1/24 scope link",
        "203.0.113.129/32 scope link",
        "198.51.100.1/24 scope global",
        "192.0.2.9/32 scope global",
    ]


def test_what_an_address_starts_with() -> None:
    """As `ip address add` asks without more: scope host for 127/8, no broadcast address, the device's name."""
    host = Tables()
    ifa = host.add("192.0.2.1/24")
    assert (ifa.scope, ifa.broadcast, ifa.label, ifa.dev) == (RT_SCOPE_UNIVERSE, 0, "a0", host.a0)
    assert (ifa.address, ifa.network, ifa.subnet_broadcast()) == (ifa.local, a("192.0.2.0"), a("192.0.2.255"))
    assert host.add("127.0.0.5/24").scope == RT_SCOPE_HOST
    assert Address(a("192.0.2.0"), 31).subnet_broadcast() == 0
    peer = host.add("192.0.2.1", peer="198.51.100.1/24")
    assert shown_address(peer) == "192.0.2.1 peer 198.51.100.1/24 scope global"
    assert peer.network == a("198.51.100.0") and peer.matches(a("198.51.100.77"))


def test_flags_that_are_ipv6s_or_the_stacks_are_not_taken() -> None:
    host = Tables()
    ifa = address("192.0.2.1/24", flags=0x80 | IFA_F_SECONDARY | IFA_F_NODAD)
    host.inet.inet_insert_ifa(host.a0, ifa)
    assert ifa.flags == 0x80


@pytest.mark.parametrize(
    ("cidr", "scope", "code", "text"),
    [
        ("192.0.2.1/24", 0, errno.EEXIST, "ipv4: Address already assigned"),
        ("192.0.2.2/24", RT_SCOPE_LINK, errno.EINVAL, "ipv4: Invalid scope value"),
    ],
)
def test_addresses_that_are_refused(cidr: str, scope: int, code: int, text: str) -> None:
    host = Tables()
    host.add("192.0.2.1/24")
    before = (host.local(), host.main(), host.addresses())
    host.events.take()
    with pytest.raises(OSError) as failure:
        host.inet.inet_rtm_newaddr(host.a0, address(cidr, scope=scope), NLM_F_CREATE | NLM_F_EXCL)
    assert (failure.value.errno, failure.value.strerror) == (code, text)
    assert (host.local(), host.main(), host.addresses()) == before and host.events.take() == []


def test_a_prefix_of_more_than_32_bits_is_refused() -> None:
    ifa = address("192.0.2.1/32")
    ifa.prefixlen = 33
    with pytest.raises(OSError) as failure:
        Tables().inet.inet_rtm_newaddr(Ether("x"), ifa)
    assert (failure.value.errno, failure.value.strerror) == (errno.EINVAL, "ipv4: Invalid prefix length")


def test_the_address_zero_is_taken_and_forgotten() -> None:
    """inet_rtm_newaddr: "if (!nla_get_in_addr(tb[IFA_LOCAL])) return 0;"."""
    host = Tables()
    host.inet.inet_rtm_newaddr(host.a0, Address(0, 24))
    assert host.addresses() == [] and host.local() == []


def test_without_replace_an_address_that_is_there_is_eexist() -> None:
    host = Tables()
    host.add("192.0.2.1/24")
    for flags in (0, NLM_F_CREATE, NLM_F_EXCL | NLM_F_REPLACE):
        with pytest.raises(OSError) as failure:
            host.inet.inet_rtm_newaddr(host.a0, address("192.0.2.1/24", metric=5), flags)
        assert failure.value.errno == errno.EEXIST
    host.events.take()
    host.inet.inet_rtm_newaddr(host.a0, address("192.0.2.1/24"), NLM_F_REPLACE)
    assert host.events.take() == ["newaddr 192.0.2.1/24 scope global"]
    with pytest.raises(OSError) as failure:
        host.inet.inet_insert_ifa(host.a0, address("192.0.2.1/24"))
    assert failure.value.errno == errno.EEXIST


def test_a_device_has_a_bounded_number_of_addresses() -> None:
    host = Tables()
    for number in range(devinet.MAX_ADDRESSES):
        host.add(f"10.0.{number >> 8}.{number & 255}/32")
    with pytest.raises(OSError) as failure:
        host.add("10.1.0.0/32")
    assert failure.value.errno == errno.ENOBUFS
    assert len(host.a0.addresses) == devinet.MAX_ADDRESSES == len(host.local())
    assert host.inet.inet_lookup_ifaddr(a("10.1.0.0")) is None


# -- deletion


@pytest.mark.parametrize("cidr", ["192.0.2.7/24", "192.0.2.1/25", "198.51.100.1/24"])
def test_deleting_a_foreign_address_is_eaddrnotavail(cidr: str) -> None:
    host = Tables()
    host.add("192.0.2.1/24")
    with pytest.raises(OSError) as failure:
        host.delete(cidr)
    assert (failure.value.errno, failure.value.strerror) == (errno.EADDRNOTAVAIL, "ipv4: Address not found")
    assert len(host.a0.addresses) == 1


def test_deletion_takes_the_first_that_has_what_is_given() -> None:
    """inet_rtm_deladdr: local, label, and the prefix, each only where given."""
    host = Tables()
    for cidr in ("192.0.2.1/24", "192.0.2.1/25", "198.51.100.1/24"):
        host.add(cidr)
    host.inet.inet_insert_ifa(host.a0, Address(a("203.0.113.1"), 24, label="a0:x"))
    host.inet.inet_rtm_deladdr(host.a0, local=a("192.0.2.1"))
    host.inet.inet_rtm_deladdr(host.a0, label="a0:x")
    assert host.addresses() == ["192.0.2.1/25 scope global", "198.51.100.1/24 scope global"]
    host.inet.inet_rtm_deladdr(host.a0, address=a("198.51.100.99"), prefixlen=24)
    host.inet.inet_rtm_deladdr(host.a0)
    assert host.addresses() == []


def test_secondaries_go_with_their_primary() -> None:
    """promote_secondaries is 0 by default; they go first, the last one before the primary."""
    host = Tables()
    for cidr in ("192.0.2.1/24", "192.0.2.2/24", "198.51.100.1/24", "192.0.2.3/24"):
        host.add(cidr)
    host.events.take()
    host.delete("192.0.2.1/24")
    assert host.addresses() == ["198.51.100.1/24 scope global"]
    assert [event for event in host.events.take() if "addr" in event] == [
        "deladdr 192.0.2.2/24 scope global secondary",
        "deladdr 192.0.2.3/24 scope global secondary",
        "deladdr 192.0.2.1/24 scope global",
    ]


@pytest.mark.parametrize("everywhere", [False, True])
def test_the_first_secondary_is_promoted(everywhere: bool) -> None:
    """In the place a new primary would get: behind the primaries that are left."""
    host = Tables()
    conf = host.net.conf.all if everywhere else host.a0.in_dev.cnf
    conf.promote_secondaries = 1
    for cidr in ("192.0.2.1/24", "192.0.2.2/24", "192.0.2.3/24", "198.51.100.1/24", "192.0.2.4/24"):
        host.add(cidr)
    host.events.take()
    host.delete("192.0.2.1/24")
    assert host.addresses() == [
        "198.51.100.1/24 scope global",
        "192.0.2.2/24 scope global",
        "192.0.2.3/24 scope global secondary",
        "192.0.2.4/24 scope global secondary",
    ]
    assert [event for event in host.events.take() if "addr" in event] == [
        "deladdr 192.0.2.1/24 scope global",
        "newaddr 192.0.2.2/24 scope global",
    ]


def test_deleting_a_secondary_promotes_nobody() -> None:
    host = Tables()
    host.a0.in_dev.cnf.promote_secondaries = 1
    for cidr in ("192.0.2.1/24", "192.0.2.2/24", "192.0.2.3/24"):
        host.add(cidr)
    host.delete("192.0.2.2/24")
    assert host.addresses() == ["192.0.2.1/24 scope global", "192.0.2.3/24 scope global secondary"]


# -- questions


def test_our_own_addresses_are_found_by_hash() -> None:
    """inet_lookup_ifaddr_rcu: the newest of several with the same number."""
    host = Tables()
    first = host.add("192.0.2.1/24")
    second = host.add("192.0.2.1/24", host.a1)
    assert host.inet.inet_lookup_ifaddr(a("192.0.2.1")) is second
    assert host.inet.ip_dev_find(a("192.0.2.1")) is host.a1
    host.delete("192.0.2.1/24", host.a1)
    assert host.inet.inet_lookup_ifaddr(a("192.0.2.1")) is first
    host.delete("192.0.2.1/24")
    assert host.inet.inet_lookup_ifaddr(a("192.0.2.1")) is None
    assert host.inet.ip_dev_find(a("192.0.2.1")) is None


def test_all_of_127_is_the_loopback_devices() -> None:
    host = Tables()
    assert host.inet.ip_dev_find(a("127.9.9.9")) is host.lo
    assert host.inet.inet_lookup_ifaddr(a("127.9.9.9")) is None
    assert host.inet.loopback() is host.lo


def test_addresses_of_a_device_that_is_down_are_still_ours() -> None:
    host = Tables()
    host.add("192.0.2.1/24")
    host.devices.dev_close(host.a0)
    assert host.a0.flags & IFF_UP == 0
    assert host.inet.ip_dev_find(a("192.0.2.1")) is host.a0
    assert host.inet.inet_addr_type(a("192.0.2.1")) == RTN_LOCAL


@pytest.mark.parametrize(
    ("dev", "dst", "scope", "expected"),
    [
        ("a0", "0.0.0.0", RT_SCOPE_UNIVERSE, "192.0.2.2"),
        ("a0", "203.0.113.5", RT_SCOPE_UNIVERSE, "192.0.2.2"),  # no subnet has it: the first primary
        ("a0", "203.0.113.7", RT_SCOPE_LINK, "192.0.2.2"),
        ("a0", "10.0.0.9", RT_SCOPE_UNIVERSE, "10.0.0.1"),  # the subnet that has it
        ("a0", "192.0.2.77", RT_SCOPE_UNIVERSE, "192.0.2.2"),  # never the secondary
        ("a0", "203.0.113.130", RT_SCOPE_UNIVERSE, "192.0.2.2"),  # known to the link only
        ("a0", "203.0.113.130", RT_SCOPE_LINK, "203.0.113.129"),
        ("a1", "192.0.2.77", RT_SCOPE_UNIVERSE, "198.51.100.2"),
        ("lo", "0.0.0.0", RT_SCOPE_HOST, "127.0.0.1"),
        ("lo", "0.0.0.0", RT_SCOPE_UNIVERSE, "192.0.2.2"),  # 127.0.0.1 is known to this host only
        ("bare", "0.0.0.0", RT_SCOPE_LINK, "192.0.2.2"),  # RFC 1122 3.3.4.3: another of our addresses
        ("bare", "0.0.0.0", RT_SCOPE_HOST, "127.0.0.1"),
    ],
)
def test_inet_select_addr(dev: str, dst: str, scope: int, expected: str) -> None:
    host = Tables()
    host.add("192.0.2.2/24")
    host.add("192.0.2.3/24")
    host.add("10.0.0.1/8")
    host.inet.inet_insert_ifa(host.a0, address("203.0.113.129/25", scope=RT_SCOPE_LINK))
    host.add("198.51.100.2/24", host.a1)
    host.add_device(Ether("bare"))
    device = host.devices.by_name(dev)
    assert device is not None
    if scope == RT_SCOPE_LINK and dst != "203.0.113.130" and dev == "a0":
        expected = "203.0.113.129"  # those known nearer stand first
    assert shown(host.inet.inet_select_addr(device, a(dst), scope)) == expected


def test_with_route_localnet_addresses_of_scope_host_are_seen_on_the_link() -> None:
    host = Tables()
    host.add("127.0.0.5/24")
    assert host.inet.inet_select_addr(host.a0, 0, RT_SCOPE_LINK) == 0
    host.a0.in_dev.cnf.route_localnet = 1
    assert shown(host.inet.inet_select_addr(host.a0, 0, RT_SCOPE_LINK)) == "127.0.0.5"


def test_the_fallback_asks_devices_that_are_down_too_and_none_of_scope_link() -> None:
    host = Tables()
    host.inet.inet_insert_ifa(host.a0, address("192.0.2.1/24", scope=RT_SCOPE_LINK))
    assert host.inet.inet_select_addr(host.a1, 0, RT_SCOPE_LINK) == 0
    host.add("198.51.100.1/24")
    host.devices.dev_close(host.a0)
    assert shown(host.inet.inet_select_addr(host.a1, 0, RT_SCOPE_LINK)) == "198.51.100.1"


def test_a_host_without_addresses_selects_none() -> None:
    host = Tables()
    for dev in host.devices.all():
        host.devices.unregister_netdevice(dev)
    assert host.inet.inet_select_addr(host.a0) == 0 and host.inet.loopback() is None


@pytest.mark.parametrize(
    ("dev", "dst", "local", "scope", "expected"),
    [
        ("a0", "0.0.0.0", "192.0.2.2", RT_SCOPE_HOST, "192.0.2.2"),
        ("a0", "0.0.0.0", "192.0.2.3", RT_SCOPE_HOST, "192.0.2.3"),  # secondary ones are as good
        ("a0", "192.0.2.9", "192.0.2.3", RT_SCOPE_HOST, "192.0.2.3"),
        ("a0", "198.51.100.9", "192.0.2.3", RT_SCOPE_HOST, ""),  # not in a subnet of that device
        ("a0", "0.0.0.0", "198.51.100.2", RT_SCOPE_HOST, ""),
        ("", "0.0.0.0", "198.51.100.2", RT_SCOPE_HOST, "198.51.100.2"),
        ("a0", "203.0.113.130", "0.0.0.0", RT_SCOPE_LINK, "203.0.113.129"),
        # a subnet that has it, and an address that may be used: not of the same subnet, if need be
        ("a0", "203.0.113.130", "0.0.0.0", RT_SCOPE_UNIVERSE, "192.0.2.2"),
        ("a0", "198.51.100.9", "0.0.0.0", RT_SCOPE_UNIVERSE, ""),
        ("a0", "203.0.113.130", "192.0.2.2", RT_SCOPE_LINK, ""),
        ("a0", "0.0.0.0", "0.0.0.0", RT_SCOPE_UNIVERSE, "192.0.2.2"),
        ("a1", "192.0.2.9", "0.0.0.0", RT_SCOPE_LINK, ""),
        ("", "192.0.2.9", "0.0.0.0", RT_SCOPE_LINK, "192.0.2.2"),
        ("lo", "127.0.0.9", "0.0.0.0", RT_SCOPE_HOST, "127.0.0.1"),
        ("lo", "127.0.0.9", "0.0.0.0", RT_SCOPE_LINK, ""),
    ],
)
def test_inet_confirm_addr(dev: str, dst: str, local: str, scope: int, expected: str) -> None:
    host = Tables()
    host.inet.inet_insert_ifa(host.a0, address("203.0.113.129/25", scope=RT_SCOPE_LINK))
    host.add("192.0.2.2/24")
    host.add("192.0.2.3/24")
    host.add("198.51.100.2/24", host.a1)
    device = host.devices.by_name(dev) if dev else None
    found = host.inet.inet_confirm_addr(device, a(dst), a(local), scope)
    assert (shown(found) if found else "") == expected


def test_inet_addr_onlink() -> None:
    host = Tables()
    host.add("192.0.2.1/24")
    host.add("198.51.100.1/24")
    onlink = host.inet.inet_addr_onlink
    assert onlink(host.a0, a("192.0.2.9")) and onlink(host.a0, a("192.0.2.9"), a("192.0.2.10"))
    assert not onlink(host.a0, a("192.0.2.9"), a("198.51.100.9"))
    assert not onlink(host.a0, a("203.0.113.1")) and not onlink(host.a1, a("192.0.2.9"))


@pytest.mark.parametrize(
    ("saddr", "expected"),
    [
        ("192.0.2.9", "192.0.2.2"),
        ("198.51.100.9", "198.51.100.2"),  # the way back leads out of another device
        ("203.0.113.9", "192.0.2.2"),  # no way back: what the device has
        ("0.0.0.0", "192.0.2.2"),  # a host without an address yet
    ],
)
def test_the_specific_destination_is_the_address_we_would_answer_from(saddr: str, expected: str) -> None:
    """fib_compute_spec_dst, RFC 1122 3.2.1.3."""
    host = Tables()
    host.add("192.0.2.2/24")
    host.add("198.51.100.2/24", host.a1)
    assert shown(host.inet.fib_compute_spec_dst(host.a0, a(saddr))) == expected


# -- who watches


def test_watchers_hear_of_every_change_after_the_routes() -> None:
    """inetaddr_chain: NETDEV_UP and NETDEV_DOWN."""

    class Asking(Watcher):
        def address_added(self, dev: NetDevice, addr: int) -> None:
            super().address_added(dev, addr)
            assert host.inet.inet_addr_type(addr) == RTN_LOCAL

        def address_removed(self, dev: NetDevice, addr: int) -> None:
            super().address_removed(dev, addr)
            assert host.inet.inet_addr_type(addr) == RTN_UNICAST

    host = Tables()
    watcher = Asking()
    host.inet.watchers.append(watcher)
    host.a0.in_dev.cnf.promote_secondaries = 1
    for cidr in ("192.0.2.1/24", "192.0.2.2/24", "192.0.2.3/24"):
        host.add(cidr)
    host.delete("192.0.2.1/24")
    host.a0.in_dev.cnf.promote_secondaries = 0
    host.delete("192.0.2.2/24")
    assert watcher.seen == [
        ("add", "a0", "192.0.2.1"),
        ("add", "a0", "192.0.2.2"),
        ("add", "a0", "192.0.2.3"),
        ("del", "a0", "192.0.2.1"),
        ("add", "a0", "192.0.2.2"),
        ("del", "a0", "192.0.2.3"),
        ("del", "a0", "192.0.2.2"),
    ]


def test_a_device_that_goes_takes_its_addresses_along() -> None:
    host = Tables()
    watcher = Watcher()
    host.inet.watchers.append(watcher)
    host.add("192.0.2.1/24")
    host.add("192.0.2.2/24")
    host.devices.unregister_netdevice(host.a0)
    assert watcher.seen[2:] == [("del", "a0", "192.0.2.1"), ("del", "a0", "192.0.2.2")]
    assert host.a0.addresses == [] and host.local() == []
    assert host.inet.ip_dev_find(a("192.0.2.2")) is None


def test_a_loopback_device_that_comes_up_gets_its_address() -> None:
    """inetdev_event, NETDEV_UP; again each time it has lost it."""
    host = Tables()
    held = host.addresses(host.lo)
    assert held == ["127.0.0.1/8 scope host"]
    host.devices.dev_close(host.lo)
    assert host.addresses(host.lo) == held
    host.devices.dev_open(host.lo)
    assert host.addresses(host.lo) == held
    host.delete("127.0.0.1/8", host.lo)
    assert host.inet.ip_dev_find(a("127.0.0.1")) is None
    host.devices.dev_close(host.lo)
    host.devices.dev_open(host.lo)
    assert host.addresses(host.lo) == held and host.inet.ip_dev_find(a("127.9.9.9")) is host.lo
    assert host.addresses() == []


def test_labels_follow_their_device() -> None:
    """inetdev_changename; the kernel's labels: the first is the name, others keep or get what follows a colon."""
    host = Tables()
    host.inet.inet_insert_ifa(host.a0, Address(a("192.0.2.1"), 24, label="a0:x"))
    host.add("192.0.2.2/24")
    host.add("198.51.100.1/24")
    host.events.take()
    host.devices.dev_change_name(host.a0, "zz")
    assert [(shown(ifa.local), ifa.label) for ifa in host.a0.addresses] == [
        ("192.0.2.1", "zz"),
        ("198.51.100.1", "zz:2"),
        ("192.0.2.2", "zz:3"),
    ]
    assert [event.split()[0] for event in host.events.take()] == ["newaddr"] * 3
    host.devices.dev_change_name(host.a0, "a123456789abcde")
    assert [ifa.label for ifa in host.a0.addresses] == ["a123456789abcde", "a123456789abc:2", "a123456789abc:3"]


def test_devices_that_were_there_before_are_known() -> None:
    host = Tables()
    again = devinet.InetDevices(host.net, host.devices, host.fib)
    assert again.loopback() is host.lo


@settings(max_examples=40, deadline=None)
@given(
    st.booleans(),
    st.lists(st.tuples(st.booleans(), st.integers(0, 15), st.integers(26, 32), st.sampled_from([0, 253])), max_size=25),
)
def test_whatever_happens_the_list_is_in_order(promote: bool, steps: list[tuple[bool, int, int, int]]) -> None:
    """Primaries first, by scope; every secondary has its primary; the local table has what the list has."""
    host = Tables()
    host.a0.in_dev.cnf.promote_secondaries = int(promote)
    for add, low, prefixlen, scope in steps:
        cidr = f"192.0.2.{low * 4 + 1}/{prefixlen}"
        try:
            if add:
                host.inet.inet_rtm_newaddr(host.a0, address(cidr, scope=scope))
            else:
                host.delete(cidr)
        except OSError as failure:
            assert failure.errno in (errno.EEXIST, errno.EINVAL, errno.EADDRNOTAVAIL)
        held = host.a0.addresses
        primaries = [ifa for ifa in held if not is_secondary(ifa)]
        assert held[: len(primaries)] == primaries
        assert [ifa.scope for ifa in primaries] == sorted((ifa.scope for ifa in primaries), reverse=True)
        for ifa in held:
            if is_secondary(ifa):
                assert any(p.mask == ifa.mask and p.matches(ifa.address) for p in primaries)
        ours = {line.split()[1] for line in host.local() if line.startswith("local ")}
        assert ours == {shown(ifa.local) for ifa in held}
