"""Next-hop objects: what `ip nexthop` adds, shows, flushes and is refused (net/ipv4/nexthop.c)."""

from __future__ import annotations

import errno

import pytest

from tests.rtnl.place import ADD, ETH0, ETH1, FAR, GW, OTHER, Place, ip, linked, taken
from ustack.dst import RTN_BLACKHOLE, RTN_UNICAST
from ustack.routing.flow import RT_SCOPE_HOST, RT_SCOPE_LINK
from ustack.routing.uapi import NLM_F_CREATE, NLM_F_REPLACE, RTNH_F_ONLINK
from ustack.rtnl.messages import Nexthop, Route

REPLACE = NLM_F_CREATE | NLM_F_REPLACE


@pytest.fixture
def place(place: Place) -> Place:
    return linked(place)


def ids(place: Place, wanted: Nexthop | None = None) -> list[int]:
    return [nexthop.id for nexthop in place.objects("dump", wanted or Nexthop())]


@pytest.mark.parametrize(
    ("asked", "shown"),
    [
        (Nexthop(id=1, gateway=GW, ifindex=ETH0, protocol=4),
         Nexthop(id=1, gateway=GW, ifindex=ETH0, protocol=4, scope=RT_SCOPE_LINK)),
        (Nexthop(id=1, ifindex=ETH0), Nexthop(id=1, ifindex=ETH0, scope=RT_SCOPE_HOST)),
        (Nexthop(id=1, gateway=FAR, ifindex=ETH0, flags=RTNH_F_ONLINK),
         Nexthop(id=1, gateway=FAR, ifindex=ETH0, scope=RT_SCOPE_LINK, flags=RTNH_F_ONLINK)),
        (Nexthop(gateway=GW, ifindex=ETH0), Nexthop(id=1, gateway=GW, ifindex=ETH0, scope=RT_SCOPE_LINK)),
    ],
)  # fmt: skip
def test_one_is_shown_as_the_kernel_shows_it(place: Place, asked: Nexthop, shown: Nexthop) -> None:
    place.add(asked)
    assert place.objects("dump", Nexthop()) == place.objects("get", Nexthop(id=1)) == [shown]


def test_a_blackhole_shows_no_device(place: Place) -> None:
    place.add(Nexthop(id=4, blackhole=True))
    (shown,) = place.objects("get", Nexthop(id=4))
    assert (shown.blackhole, shown.ifindex, shown.gateway, shown.scope) == (True, 0, 0, 0)


def test_a_group_shows_its_members(place: Place) -> None:
    place.add(Nexthop(id=1, gateway=GW, ifindex=ETH0))
    place.add(Nexthop(id=2, gateway=OTHER, ifindex=ETH0))
    place.add(Nexthop(id=9, group=[(2, 1), (1, 3)]))
    assert place.objects("get", Nexthop(id=9)) == [Nexthop(id=9, group=[(2, 1), (1, 3)])]


@pytest.mark.parametrize(
    ("nexthop", "refusal"),
    [
        (Nexthop(id=1, gateway=GW, ifindex=ETH0), (errno.EEXIST, "")),
        (Nexthop(id=3, gateway=ip("203.0.113.1"), ifindex=ETH0), (errno.ENETUNREACH, "Nexthop has invalid gateway")),
        (Nexthop(id=3, gateway=GW, ifindex=99), (errno.EINVAL, "Invalid device index")),
        (Nexthop(id=3, gateway=GW, ifindex=ETH0, scope=1), (errno.EINVAL, "Invalid values in ancillary header")),
        (Nexthop(id=3, group=[(9, 1)]), (errno.EINVAL, "Invalid nexthop id")),
        (Nexthop(id=3, group=[(1, 1), (1, 1)]), (errno.EINVAL, "Nexthop id can not be used twice in a group")),
        (Nexthop(id=3, group=[(1, 1 << 32)]), (errno.ERANGE, "integer out of range")),
        (Nexthop(id=3, group=[(1, 1)], gateway=GW), (errno.EINVAL, "Invalid family for group")),
        (Nexthop(id=3, group=[(1, 1)], ifindex=ETH0), (errno.EINVAL, "Invalid family for group")),
        (Nexthop(id=3, group=[(9, 1)], blackhole=True), (errno.EINVAL, "Invalid family for group")),
        (Nexthop(id=1 << 32, ifindex=ETH0), (errno.ERANGE, "integer out of range")),
    ],
)
def test_what_cannot_be_is_refused_with_the_kernels_words(
    place: Place, nexthop: Nexthop, refusal: tuple[int, str]
) -> None:
    place.add(Nexthop(id=1, gateway=GW, ifindex=ETH0))
    assert place.refusal("new", nexthop, ADD) == refusal
    assert ids(place) == [1]


def test_questions_say_nothing_but_a_number(place: Place) -> None:
    assert place.refusal("get", Nexthop(id=99)) == (errno.ENOENT, "")
    assert place.refusal("del", Nexthop(id=99)) == (errno.ENOENT, "")
    assert place.refusal("del", Nexthop()) == (errno.EINVAL, "Nexthop id is missing")
    assert place.refusal("get", Nexthop(id=1, protocol=3)) == (errno.EINVAL, "Invalid values in header")
    assert place.refusal("del", Nexthop(id=1, flags=RTNH_F_ONLINK)) == (errno.EINVAL, "Invalid values in header")
    for more in (Nexthop(id=1, gateway=GW), Nexthop(ifindex=ETH0), Nexthop(id=1, blackhole=True, protocol=4),
                 Nexthop(id=1, group=[(1, 1)])):  # fmt: skip
        assert place.refusal("del", more) == (errno.EINVAL, "Unknown attribute type")


# -- routes through them


def test_a_route_shows_the_number_and_what_it_stands_for(place: Place) -> None:
    place.add(Nexthop(id=1, gateway=GW, ifindex=ETH0))
    place.add(Nexthop(id=2, gateway=ip("198.51.100.9"), ifindex=ETH1))
    place.add(Nexthop(id=3, group=[(1, 1), (2, 2)]))
    place.add(Nexthop(id=4, blackhole=True))
    for last, nhid in ((0, 1), (64, 3), (128, 4)):
        place.add(Route(dst=ip("203.0.113.0") + last, dst_len=26, nhid=nhid))
    single, group, blackhole = place.objects("dump", Route(table=254, root=(ip("203.0.113.0"), 24)))
    assert (single.nhid, single.gateway, single.ifindex, single.rtype) == (1, GW, ETH0, RTN_UNICAST)
    assert (group.nhid, [(hop.ifindex, hop.weight) for hop in group.hops]) == (3, [(ETH0, 1), (ETH1, 2)])
    assert (blackhole.nhid, blackhole.rtype) == (4, RTN_BLACKHOLE)


def test_a_nexthop_that_goes_takes_its_routes_along(place: Place) -> None:
    place.add(Nexthop(id=1, gateway=GW, ifindex=ETH0))
    place.add(Route(dst=ip("203.0.113.0"), dst_len=24, nhid=1))
    place.do("new", Nexthop(id=1, gateway=OTHER, ifindex=ETH0), REPLACE)
    assert place.objects("dump", Route(nhid=1))[0].gateway == OTHER
    place.do("del", Nexthop(id=1))
    assert place.objects("dump", Route(nhid=1)) == []


def test_routes_of_a_nexthop_can_be_flushed(place: Place) -> None:
    place.add(Nexthop(id=1, gateway=GW, ifindex=ETH0))
    place.add(Nexthop(id=4, blackhole=True))
    for last, nhid in ((0, 1), (128, 4)):
        place.add(Route(dst=ip("203.0.113.0") + last, dst_len=25, nhid=nhid))
    assert [route.nhid for route in place.objects("flush", Route(root=(ip("203.0.113.0"), 24)))] == [1, 4]
    assert place.objects("dump", Route(root=(ip("203.0.113.0"), 24))) == []
    assert ids(place) == [1, 4]


# -- dump and flush


@pytest.fixture
def full(place: Place) -> Place:
    place.add(Nexthop(id=1, gateway=GW, ifindex=ETH0, protocol=4))
    place.add(Nexthop(id=2, gateway=ip("198.51.100.9"), ifindex=ETH1))
    place.add(Nexthop(id=3, group=[(1, 1), (2, 2)]))
    place.add(Nexthop(id=5, group=[(2, 1)], protocol=4))
    return place


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (Nexthop(), [1, 2, 3, 5]),
        (Nexthop(ifindex=ETH0), [1]),
        (Nexthop(groups=True), [3, 5]),
        (Nexthop(protocol=4), [1, 5]),
        (Nexthop(id=2), [2]),
    ],
)
def test_a_dump_filters(full: Place, wanted: Nexthop, found: list[int]) -> None:
    assert ids(full, wanted) == found


def test_a_flush_does_not_tell_of_groups_that_went_with_their_last_member(full: Place) -> None:
    assert [nexthop.id for nexthop in full.objects("flush", Nexthop())] == [1, 2]
    assert ids(full) == []


def test_a_flush_filters(full: Place) -> None:
    assert [nexthop.id for nexthop in full.objects("flush", Nexthop(groups=True))] == [3, 5]
    assert ids(full) == [1, 2]


def test_changes_are_told(place: Place) -> None:
    watch = place.watch("nexthop")
    place.add(Nexthop(id=1, ifindex=ETH0))
    place.do("del", Nexthop(id=1))
    assert [(event.deleted, event.object) for event in taken(watch)] == [
        (False, Nexthop(id=1, ifindex=ETH0, scope=RT_SCOPE_HOST)),
        (True, Nexthop(id=1, ifindex=ETH0, scope=RT_SCOPE_HOST)),
    ]
