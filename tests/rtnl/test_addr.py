"""Addresses: what `ip address` adds, shows, flushes and is refused (net/ipv4/devinet.c)."""

from __future__ import annotations

import errno

import pytest

from tests.rtnl.place import ADD, ETH0, ETH1, LO, Place, ip, prefix, taken
from ustack.routing.flow import RT_SCOPE_HOST, RT_SCOPE_LINK, RT_SCOPE_UNIVERSE
from ustack.routing.uapi import IFA_F_PERMANENT, IFA_F_SECONDARY, NLM_F_CREATE, NLM_F_REPLACE, RT_TABLE_LOCAL
from ustack.rtnl.messages import Addr, Link, Neigh, Route

REPLACE = NLM_F_CREATE | NLM_F_REPLACE


def addr(text: str, ifindex: int = ETH0) -> Addr:
    local, length = prefix(text)
    return Addr(ifindex=ifindex, local=local, prefixlen=length)


def shown(place: Place, wanted: Addr | None = None) -> list[int]:
    """The last bytes of the addresses that a dump shows."""
    return [item.local & 0xFF for item in place.objects("dump", wanted or Addr(ifindex=ETH0))]


# -- adding


def test_an_address_is_shown_with_all_there_is_to_know(place: Place) -> None:
    place.add(addr("192.0.2.1/24"))
    assert place.objects("dump", Addr(ifindex=ETH0)) == [
        Addr(
            ifindex=ETH0,
            local=ip("192.0.2.1"),
            prefixlen=24,
            label="eth0",
            scope=RT_SCOPE_UNIVERSE,
            flags=IFA_F_PERMANENT,
        )
    ]


def test_what_was_asked_for_is_shown(place: Place) -> None:
    asked = Addr(
        ifindex=ETH0,
        local=ip("192.0.2.1"),
        peer=ip("192.0.2.9"),
        prefixlen=32,
        broadcast=ip("192.0.2.255"),
        label="eth0:x",
        scope=RT_SCOPE_LINK,
        metric=7,
    )
    place.add(asked)
    (item,) = place.objects("dump", Addr(ifindex=ETH0))
    assert item.flags == IFA_F_PERMANENT
    item.flags = 0
    assert item == asked


def test_lo_has_its_address(place: Place) -> None:
    (item,) = place.objects("dump", Addr(ifindex=LO))
    assert (item.local, item.prefixlen, item.scope, item.label) == (ip("127.0.0.1"), 8, RT_SCOPE_HOST, "lo")


def test_a_second_one_of_the_subnet_is_secondary_and_stands_behind_the_primaries(place: Place) -> None:
    for text in ("192.0.2.1/24", "192.0.2.2/24", "198.51.100.3/24"):
        place.add(addr(text))
    assert shown(place) == [1, 3, 2]
    assert shown(place, Addr(flags=IFA_F_SECONDARY, flags_mask=IFA_F_SECONDARY)) == [2]


def test_twice_the_same_is_eexist_unless_it_may_be_replaced(place: Place) -> None:
    place.add(addr("192.0.2.1/24"))
    assert place.refusal("new", addr("192.0.2.1/24"), ADD) == (errno.EEXIST, "ipv4: Address already assigned")
    assert place.refusal("new", addr("192.0.2.1/24"), NLM_F_CREATE) == (errno.EEXIST, "ipv4: Address already assigned")
    again = addr("192.0.2.1/24")
    again.metric = 50
    place.do("new", again, REPLACE)
    (item,) = place.objects("dump", Addr(ifindex=ETH0))
    assert item.metric == 50
    assert [route.priority for route in place.objects("dump", Route(table=254))] == [50]


def test_the_address_zero_is_taken_and_forgotten(place: Place) -> None:
    place.add(addr("0.0.0.0/24"))
    assert shown(place) == []


@pytest.mark.parametrize(
    ("message", "refusal"),
    [
        (Addr(ifindex=ETH0, local=1, prefixlen=33), (errno.EINVAL, "ipv4: Invalid prefix length")),
        (Addr(ifindex=99, local=1), (errno.ENODEV, "ipv4: Device not found")),
        (Addr(local=1), (errno.ENODEV, "ipv4: Device not found")),
        (Addr(ifindex=ETH0, local=ip("192.0.2.7"), prefixlen=24, scope=RT_SCOPE_LINK),
         (errno.EINVAL, "ipv4: Invalid scope value")),
        (Addr(ifindex=ETH0, local=1 << 32), (errno.ERANGE, "integer out of range")),
        (Addr(ifindex=ETH0, local=-1), (errno.ERANGE, "integer out of range")),
        (Addr(ifindex=ETH0, local=1, prefixlen=256), (errno.ERANGE, "integer out of range")),
        (Addr(ifindex=ETH0, local=1, scope=256), (errno.ERANGE, "integer out of range")),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_with_the_kernels_words(
    place: Place, message: Addr, refusal: tuple[int, str]
) -> None:
    place.add(addr("192.0.2.1/24"))
    before = place.objects("dump", Addr()), place.objects("dump", Route())
    assert place.refusal("new", message, ADD) == refusal
    assert (place.objects("dump", Addr()), place.objects("dump", Route())) == before


def test_one_address_cannot_be_asked_for(place: Place) -> None:
    assert place.refusal("get", Addr(ifindex=ETH0)) == (errno.EOPNOTSUPP, "")


# -- deleting


def test_a_deletion_takes_the_routes_along(place: Place) -> None:
    before = place.objects("dump", Route())
    place.add(addr("192.0.2.1/24"))
    assert len(place.objects("dump", Route())) == len(before) + 3
    place.do("del", addr("192.0.2.1/24"))
    assert shown(place) == []
    assert place.objects("dump", Route()) == before


@pytest.mark.parametrize("text", ["192.0.2.9/24", "192.0.2.1/25", "198.51.100.1/24"])
def test_one_that_is_not_there_is_eaddrnotavail(place: Place, text: str) -> None:
    place.add(addr("192.0.2.1/24"))
    assert place.refusal("del", addr(text)) == (errno.EADDRNOTAVAIL, "ipv4: Address not found")
    assert place.refusal("del", addr("192.0.2.1/24", ETH1)) == (errno.EADDRNOTAVAIL, "ipv4: Address not found")
    assert place.refusal("del", addr("192.0.2.1/24", 99)) == (errno.ENODEV, "ipv4: Device not found")
    assert shown(place) == [1]


def test_a_wildcard_deletion_does_not_look_at_the_prefix_length(place: Place) -> None:
    place.add(addr("192.0.2.1/24"))
    wildcard = addr("192.0.2.1/32")
    assert place.refusal("del", wildcard) == (errno.EADDRNOTAVAIL, "ipv4: Address not found")
    wildcard.wildcard = True
    place.do("del", wildcard)
    assert shown(place) == []


def test_a_deletion_by_label(place: Place) -> None:
    for last, label in ((1, "eth0:a"), (2, "eth0:b")):
        place.add(Addr(ifindex=ETH0, local=ip("192.0.2.0") + last, prefixlen=24, label=label))
    place.do("del", Addr(ifindex=ETH0, label="eth0:b", wildcard=True))
    assert shown(place) == [1]


# -- dump and flush


@pytest.fixture
def full(place: Place) -> Place:
    for text in ("192.0.2.1/24", "192.0.2.2/24", "198.51.100.3/24"):
        place.add(addr(text))
    place.add(addr("203.0.113.4/24", ETH1))
    place.add(Addr(ifindex=ETH1, local=ip("203.0.113.5"), prefixlen=32, scope=RT_SCOPE_LINK, label="eth1:z"))
    return place


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (Addr(), [1, 1, 3, 2, 5, 4]),
        (Addr(ifindex=ETH1), [5, 4]),
        (Addr(scope=RT_SCOPE_LINK), [5]),
        (Addr(scope=RT_SCOPE_UNIVERSE, ifindex=ETH1), [4]),
        (Addr(label="eth1:*"), [5]),
        (Addr(label="eth?"), [1, 3, 2, 4]),
        (Addr(to=prefix("192.0.2.0/24")), [1, 2]),
        (Addr(to=prefix("198.51.100.3")), [3]),
        (Addr(to=(0, 0)), [1, 1, 3, 2, 5, 4]),
        (Addr(flags=0, flags_mask=IFA_F_SECONDARY, ifindex=ETH0), [1, 3]),
    ],
)
def test_a_dump_filters(full: Place, wanted: Addr, found: list[int]) -> None:
    assert shown(full, wanted) == found


def test_a_dump_of_no_device_is_enodev(place: Place) -> None:
    assert place.refusal("dump", Addr(ifindex=99)) == (errno.ENODEV, "")


def test_a_flush_answers_with_what_it_has_removed(full: Place) -> None:
    """The secondary one goes with its primary, so it is not deleted by itself."""
    assert [item.local & 0xFF for item in full.objects("flush", Addr(ifindex=ETH0))] == [1, 3]
    assert shown(full, Addr()) == [1, 5, 4]
    assert [item.local & 0xFF for item in full.objects("flush", Addr(ifindex=ETH0))] == []


def test_a_flush_gets_those_that_take_over(full: Place) -> None:
    full.eth0.in_dev.cnf.promote_secondaries = 1
    assert [item.local & 0xFF for item in full.objects("flush", Addr(ifindex=ETH0))] == [1, 3, 2]
    assert shown(full) == []


def test_a_flush_filters(full: Place) -> None:
    assert [item.local & 0xFF for item in full.objects("flush", Addr(scope=RT_SCOPE_LINK))] == [5]
    assert shown(full, Addr(ifindex=ETH1)) == [4]


# -- events


def lines(place: Place, *kinds: str) -> list[str]:
    """What a monitor hears while an address is added, and deleted again."""
    watch = place.watch(*kinds)
    place.add(addr("192.0.2.1/24"))
    place.do("del", addr("192.0.2.1/24"))
    told = []
    for event in taken(watch):
        sign, what = "-" if event.deleted else "+", event.object
        if isinstance(what, Addr):
            told.append(f"{sign}addr .{what.local & 0xFF}")
        elif isinstance(what, Route):
            told.append(f"{sign}route .{what.dst & 0xFF}/{what.dst_len} {what.table}")
        else:
            assert isinstance(what, Link | Neigh)
    return told


def test_an_address_and_its_routes_are_told_of_in_linuxs_order(place: Place) -> None:
    """As `ip monitor` shows it."""
    assert lines(place, "addr", "route") == [
        "+addr .1", "+route .1/32 255", "+route .0/24 254", "+route .255/32 255",
        "-addr .1", "-route .0/24 254", "-route .255/32 255", "-route .1/32 255",
    ]  # fmt: skip


def test_who_asked_for_addresses_hears_of_no_routes(place: Place) -> None:
    assert lines(place, "addr") == ["+addr .1", "-addr .1"]
    assert RT_TABLE_LOCAL == 255
