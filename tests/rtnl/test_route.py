"""Routes: what `ip route` adds, shows, flushes, asks for and is refused (net/ipv4/fib_frontend.c, fib_semantics.c)."""

from __future__ import annotations

import errno

import pytest

from tests.rtnl.place import ADD, ETH0, ETH1, FAR, GW, LO, OTHER, Place, ip, linked, prefix, taken
from ustack.dst import (
    RTN_BLACKHOLE,
    RTN_BROADCAST,
    RTN_LOCAL,
    RTN_PROHIBIT,
    RTN_THROW,
    RTN_UNICAST,
    RTN_UNREACHABLE,
)
from ustack.routing.flow import RT_SCOPE_HOST, RT_SCOPE_LINK, RT_SCOPE_UNIVERSE, Flow
from ustack.routing.uapi import (
    NLM_F_APPEND,
    NLM_F_CREATE,
    NLM_F_EXCL,
    NLM_F_REPLACE,
    RT_TABLE_LOCAL,
    RT_TABLE_MAIN,
    RTAX_ADVMSS,
    RTAX_FEATURES,
    RTAX_LOCK,
    RTAX_MTU,
    RTM_F_CLONED,
    RTM_F_FIB_MATCH,
    RTNH_F_DEAD,
    RTNH_F_LINKDOWN,
    RTNH_F_ONLINK,
    RTPROT_KERNEL,
)
from ustack.rtnl.dump import PIECE, follow
from ustack.rtnl.messages import BATCH_MAX, Hop, Link, Loaded, Nack, Route, RouteBatch, Rtm
from ustack.rtnl.route import WALK
from ustack.timer import NSEC_PER_SEC

NET = "203.0.113.0/24"
SPARE = prefix(NET)


@pytest.fixture
def place(place: Place) -> Place:
    return linked(place)


def route(text: str = NET, gateway: int = GW, **more: int) -> Route:
    dst, dst_len = prefix(text)
    made = Route(dst=dst, dst_len=dst_len, gateway=gateway)
    for name, value in more.items():
        setattr(made, name, value)
    return made


def spare(place: Place, **more: int) -> list[Route]:
    """The routes below NET."""
    wanted = Route(root=SPARE)
    for name, value in more.items():
        setattr(wanted, name, value)
    return place.objects("dump", wanted)


# -- adding and showing


def test_a_route_by_a_gateway_is_shown_with_its_device(place: Place) -> None:
    place.add(route(protocol=4, priority=10, prefsrc=ip("192.0.2.1")))
    assert spare(place) == [
        Route(
            dst=SPARE[0],
            dst_len=24,
            table=RT_TABLE_MAIN,
            protocol=4,
            scope=RT_SCOPE_UNIVERSE,
            rtype=RTN_UNICAST,
            priority=10,
            gateway=GW,
            ifindex=ETH0,
            prefsrc=ip("192.0.2.1"),
        )
    ]


@pytest.mark.parametrize(
    ("rtype", "scope"),
    [(RTN_UNICAST, RT_SCOPE_LINK), (RTN_LOCAL, RT_SCOPE_HOST), (RTN_BROADCAST, RT_SCOPE_LINK)],
)
def test_a_scope_that_is_not_given_is_chosen_as_iproute2_does(place: Place, rtype: int, scope: int) -> None:
    place.add(route(gateway=0, ifindex=ETH0, rtype=rtype, table=9))
    (shown,) = spare(place)
    assert (shown.rtype, shown.scope, shown.table) == (rtype, scope, 9)


@pytest.mark.parametrize("rtype", [RTN_BLACKHOLE, RTN_UNREACHABLE, RTN_PROHIBIT, RTN_THROW])
def test_a_route_that_leads_nowhere_shows_no_device(place: Place, rtype: int) -> None:
    place.add(route(gateway=0, rtype=rtype))
    (shown,) = spare(place)
    assert (shown.rtype, shown.scope, shown.ifindex, shown.gateway) == (rtype, RT_SCOPE_UNIVERSE, 0, 0)


def test_metrics_are_shown_as_they_were_given(place: Place) -> None:
    asked = route()
    asked.metrics = {RTAX_MTU: 1400, RTAX_LOCK: 1 << RTAX_MTU, RTAX_ADVMSS: 1000, RTAX_FEATURES: 1}
    asked.congctl = "reno"
    place.add(asked)
    (shown,) = spare(place)
    assert (shown.metrics, shown.congctl) == (asked.metrics, "reno")


def test_several_hops_are_a_list(place: Place) -> None:
    asked = Route(dst=SPARE[0], dst_len=24)
    asked.hops = [Hop(gateway=GW, weight=3), Hop(gateway=FAR, ifindex=ETH1, flags=RTNH_F_ONLINK), Hop(ifindex=ETH1)]
    place.add(asked)
    (shown,) = spare(place)
    assert (shown.gateway, shown.ifindex) == (0, 0)
    assert shown.hops == [
        Hop(ifindex=ETH0, gateway=GW, weight=3),
        Hop(ifindex=ETH1, gateway=FAR, flags=RTNH_F_ONLINK),
        Hop(ifindex=ETH1),
    ]


def test_a_link_without_carrier_shows_in_the_routes(place: Place) -> None:
    place.add(route())
    place.do("new", Link(ifindex=ETH0, carrier=False))
    assert spare(place)[0].flags == RTNH_F_LINKDOWN
    place.eth0.in_dev.cnf.ignore_routes_with_linkdown = 1
    assert spare(place)[0].flags == RTNH_F_LINKDOWN | RTNH_F_DEAD


def test_tables_stand_in_the_kernels_order_and_routes_by_their_key(place: Place) -> None:
    for table in (9, 300):
        place.add(route(table=table))
    shown = place.objects("dump", Route())
    tables = [item.table for item in shown]
    # by the last eight bits of the number
    assert sorted(set(tables), key=tables.index) == [9, 300, RT_TABLE_MAIN, RT_TABLE_LOCAL]
    main = [item.dst for item in shown if item.table == RT_TABLE_MAIN]
    assert main == sorted(main)


def test_a_table_that_is_not_there_is_told_in_words(place: Place) -> None:
    absent = "FIB table does not exist"
    assert place.refusal("dump", Route(table=77)) == (errno.ENOENT, f"ipv4: {absent}")
    assert place.refusal("flush", Route(table=77)) == (errno.ENOENT, f"ipv4: {absent}")
    assert place.refusal("del", route(table=77)) == (errno.ESRCH, absent)


@pytest.mark.parametrize(
    ("wrong", "refusal"),
    [
        (route("203.0.113.0/33"), (errno.EINVAL, "Invalid prefix length")),
        (route("203.0.113.1/24"), (errno.EINVAL, "Invalid prefix for given prefix length")),
        (route(tos=1), (errno.EINVAL, "Invalid dsfield (tos): ECN bits must be 0")),
        (route(rtype=12), (errno.EINVAL, "Invalid route type")),
        (route(nhid=5, gateway=0), (errno.EINVAL, "Nexthop id does not exist")),
        (route(nhid=5), (errno.EINVAL, "Nexthop specification and nexthop id are mutually exclusive")),
        (route(gateway=ip("203.0.113.9")), (errno.ENETUNREACH, "Nexthop has invalid gateway")),
        (route(prefsrc=ip("203.0.113.9")), (errno.EINVAL, "Invalid prefsrc address")),
        (route(ifindex=99), (errno.ENETUNREACH, "Nexthop has invalid gateway")),
        (route(ifindex=99, gateway=0), (errno.ENODEV, "")),
        (route(gateway=0), (errno.ENODEV, "")),
        (Route(dst=SPARE[0], dst_len=24, gateway=GW, congctl="nosuch"),
         (errno.EINVAL, "Unknown tcp congestion algorithm")),
        (Route(dst=SPARE[0], dst_len=24, hops=[Hop(gateway=GW, weight=0)]), (errno.EINVAL, "")),
        (Route(dst=SPARE[0], dst_len=24, hops=[Hop(gateway=GW, weight=257)]), (errno.ERANGE, "integer out of range")),
        (Route(dst=SPARE[0], dst_len=24, metrics={-1: 1}), (errno.ERANGE, "integer out of range")),
        (route(priority=1 << 32), (errno.ERANGE, "integer out of range")),
        (route(table=-1), (errno.ERANGE, "integer out of range")),
        (route(protocol=256), (errno.ERANGE, "integer out of range")),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_with_the_kernels_words(place: Place, wrong: Route, refusal: tuple[int, str]) -> None:
    before = place.objects("dump", Route())
    assert place.refusal("new", wrong, ADD) == refusal
    assert place.objects("dump", Route()) == before


def test_absurd_metrics_are_refused(place: Place) -> None:
    assert place.refusal("new", Route(dst=SPARE[0], dst_len=24, gateway=GW, metrics={99: 1}), ADD)[0] == errno.EINVAL
    assert spare(place) == []


# -- add, change, replace, append, prepend


def test_add_change_replace_and_append_as_their_flags_say(place: Place) -> None:
    assert place.refusal("new", route(), NLM_F_REPLACE) == (errno.ENOENT, "")
    place.add(route())
    assert place.refusal("new", route(gateway=OTHER), ADD) == (errno.EEXIST, "")
    place.do("new", route(gateway=OTHER), NLM_F_REPLACE)
    assert [shown.gateway for shown in spare(place)] == [OTHER]
    place.do("new", route(), NLM_F_CREATE | NLM_F_APPEND)
    assert [shown.gateway for shown in spare(place)] == [OTHER, GW]
    place.do("new", route(gateway=ip("192.0.2.252")), NLM_F_CREATE)
    assert [shown.gateway & 0xFF for shown in spare(place)] == [252, 253, 254]
    assert place.refusal("new", route(), NLM_F_CREATE | NLM_F_APPEND) == (errno.EEXIST, "")


# -- deleting


def test_a_deletion_takes_the_first_that_agrees(place: Place) -> None:
    place.add(route(priority=1))
    place.add(route(gateway=OTHER, priority=2))
    place.do("del", Route(dst=SPARE[0], dst_len=24, gateway=OTHER))
    assert [shown.gateway for shown in spare(place)] == [GW]
    place.do("del", Route(dst=SPARE[0], dst_len=24))
    assert place.refusal("del", Route(dst=SPARE[0], dst_len=24)) == (errno.ESRCH, "")


def test_a_deletion_of_a_type_takes_no_other(place: Place) -> None:
    place.add(route(gateway=0, rtype=RTN_BLACKHOLE))
    assert place.refusal("del", Route(dst=SPARE[0], dst_len=24, rtype=RTN_PROHIBIT)) == (errno.ESRCH, "")
    place.do("del", Route(dst=SPARE[0], dst_len=24, rtype=RTN_BLACKHOLE))
    assert spare(place) == []


# -- dump and flush


@pytest.fixture
def full(place: Place) -> Place:
    place.add(route("203.0.113.0/25", priority=5, protocol=4))
    place.add(route("203.0.113.0/26", gateway=0, ifindex=ETH1, prefsrc=ip("198.51.100.1")))
    place.add(route("203.0.113.64/26", gateway=0, rtype=RTN_PROHIBIT, tos=8))
    place.add(route("203.0.113.128/25", gateway=OTHER, table=9))
    return place


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (Route(), {25: 2, 26: 2}),
        (Route(table=RT_TABLE_MAIN), {25: 1, 26: 2}),
        (Route(table=9), {25: 1}),
        (Route(protocol=4), {25: 1}),
        (Route(rtype=RTN_PROHIBIT), {26: 1}),
        (Route(scope=RT_SCOPE_LINK), {26: 1}),
        (Route(tos=8), {26: 1}),
        (Route(priority=5), {25: 1}),
        (Route(gateway=OTHER), {25: 1}),
        (Route(ifindex=ETH1), {26: 1}),
        (Route(prefsrc=ip("198.51.100.1")), {26: 1}),
        (Route(match=prefix("203.0.113.64/26")), {25: 1, 26: 1}),
        (Route(match=prefix("203.0.113.0/25")), {25: 1}),
        (Route(nhid=1), {}),
    ],
)
def test_a_dump_filters(full: Place, wanted: Route, found: dict[int, int]) -> None:
    wanted.root = SPARE
    lengths = [shown.dst_len for shown in full.objects("dump", wanted)]
    assert {length: lengths.count(length) for length in lengths} == found


def test_an_exact_prefix_is_root_and_match(full: Place) -> None:
    exact = prefix("203.0.113.0/25")
    assert [shown.dst_len for shown in full.objects("dump", Route(root=exact, match=exact))] == [25]
    assert full.objects("dump", Route(root=(0, 0), match=(0, 0))) == []


def test_a_flush_takes_what_a_dump_would_show(full: Place) -> None:
    before = full.objects("dump", Route())
    wanted = Route(root=SPARE, table=RT_TABLE_MAIN)
    expected = full.objects("dump", wanted)
    assert full.objects("flush", wanted) == expected
    assert full.objects("dump", Route()) == [item for item in before if item not in expected]
    assert full.objects("flush", wanted) == []


def test_a_flush_deletes_routes_of_every_shape(place: Place) -> None:
    for priority in range(3):
        for gateway in (GW, OTHER):
            place.do("new", route(gateway=gateway, priority=priority), NLM_F_CREATE | NLM_F_APPEND)
    several = Route(dst=SPARE[0], dst_len=26, hops=[Hop(gateway=GW), Hop(gateway=OTHER, weight=9)])
    several.metrics = {RTAX_MTU: 1400, RTAX_LOCK: 1 << RTAX_MTU}
    several.congctl = "reno"
    place.add(several)
    assert len(place.objects("flush", Route(root=SPARE))) == 7
    assert spare(place) == []


# -- get


def lookup(place: Place, question: Route) -> Route:
    (answer,) = place.objects("get", question)
    return answer


def test_a_lookup_answers_with_the_way(place: Place) -> None:
    place.add(route())
    answer = lookup(place, Route(dst=ip("203.0.113.7"), dst_len=32))
    assert (answer.dst, answer.dst_len, answer.rtype, answer.table) == (ip("203.0.113.7"), 32, RTN_UNICAST, 254)
    assert (answer.gateway, answer.ifindex, answer.prefsrc, answer.uid) == (GW, ETH0, ip("192.0.2.1"), 0)
    assert (answer.cached, answer.expires, answer.iif) == (True, None, 0)


def test_one_of_our_own_is_local(place: Place) -> None:
    answer = lookup(place, Route(dst=ip("192.0.2.1")))
    assert (answer.rtype, answer.ifindex) == (RTN_LOCAL, LO)


@pytest.mark.parametrize("flags", [0, RTM_F_FIB_MATCH])
def test_fibmatch_answers_with_the_route(place: Place, flags: int) -> None:
    place.add(route(priority=4))
    answer = lookup(place, Route(dst=ip("203.0.113.7"), fibmatch=flags == 0, flags=flags))
    assert answer == spare(place)[0]


@pytest.mark.parametrize(
    ("question", "refusal"),
    [
        (Route(dst=ip("203.0.113.7")), (errno.ENETUNREACH, "")),
        (Route(dst=ip("192.0.2.7"), dst_len=24),
         (errno.EINVAL, "ipv4: Invalid values in header for route get request")),
        (Route(dst=ip("192.0.2.7"), table=254),
         (errno.EINVAL, "ipv4: Invalid values in header for route get request")),
        (Route(dst=ip("192.0.2.7"), flags=1), (errno.EINVAL, "ipv4: Unsupported rtm_flags for route get request")),
        (Route(dst=ip("192.0.2.7"), ipproto=99), (errno.EOPNOTSUPP, "Unsupported ip proto")),
        (Route(dst=ip("192.0.2.7"), iif=99), (errno.ENODEV, "")),
        (Route(dst=ip("192.0.2.7"), ifindex=99), (errno.ENODEV, "")),
        (Route(dst=ip("192.0.2.7"), sport=1 << 16), (errno.ERANGE, "integer out of range")),
    ],
)  # fmt: skip
def test_lookups_are_refused_with_the_kernels_words(place: Place, question: Route, refusal: tuple[int, str]) -> None:
    assert place.refusal("get", question) == refusal


@pytest.mark.parametrize(
    ("rtype", "code"),
    [(RTN_BLACKHOLE, errno.EINVAL), (RTN_UNREACHABLE, errno.EHOSTUNREACH), (RTN_PROHIBIT, errno.EACCES)],
)
def test_a_route_that_leads_nowhere_answers_with_its_error(place: Place, rtype: int, code: int) -> None:
    place.add(route(gateway=0, rtype=rtype))
    assert place.refusal("get", Route(dst=ip("203.0.113.7"))) == (code, "")


# -- many at once


def packed(*texts: str) -> bytes:
    found = [prefix(text) for text in texts]
    return b"".join(address.to_bytes(4, "big") + bytes([length]) for address, length in found)


def test_a_batch_inserts_all_that_can_be(place: Place) -> None:
    prefixes = packed("203.0.113.0/25", "203.0.113.1/24", "203.0.113.128/25", "203.0.113.0/33", "203.0.113.0/25")
    answer = place.rtnetlink.request(RouteBatch(route("9.9.9.9/32", protocol=4), prefixes, ADD))
    assert answer == Loaded(2, {1: errno.EINVAL, 3: errno.EINVAL, 4: errno.EEXIST})
    assert [(shown.dst_len, shown.gateway, shown.protocol) for shown in spare(place)] == [(25, GW, 4)] * 2


def test_a_batch_whose_route_cannot_be_changes_nothing(place: Place) -> None:
    batch = RouteBatch(route(gateway=FAR), packed(NET), ADD)
    assert place.rtnetlink.request(batch) == Nack(errno.ENETUNREACH, "Nexthop has invalid gateway")
    batch = RouteBatch(route(tos=3), packed(NET), ADD)
    assert place.rtnetlink.request(batch) == Nack(errno.EINVAL, "Invalid dsfield (tos): ECN bits must be 0")
    assert place.rtnetlink.request(RouteBatch(route(), packed(NET), 1 << 16)).__class__ is Nack
    assert spare(place) == []


def test_a_batch_has_a_size(place: Place) -> None:
    assert place.rtnetlink.request(RouteBatch(route(), b"1234", ADD)) == Nack(errno.EINVAL)
    assert place.rtnetlink.request(RouteBatch(route(), bytes(5 * BATCH_MAX + 5), ADD)) == Nack(errno.EMSGSIZE)


def many(place: Place, count: int, first: int = 0x0A000000) -> None:
    prefixes = b"".join((first + (at << 8)).to_bytes(4, "big") + b"\x18" for at in range(count))
    assert place.rtnetlink.request(RouteBatch(route(), prefixes, ADD)) == Loaded(count)


def test_a_long_table_comes_in_pieces_however_it_changes_meanwhile(place: Place) -> None:
    many(place, 3 * WALK)
    server = place.rtnetlink
    pieces = list(follow(server.request_piece, Rtm("dump", Route(table=RT_TABLE_MAIN))))
    assert [len(piece) for piece in pieces] == [PIECE, 3 * WALK + 2 - PIECE]
    steps = server.handlers["route"].dump(Route(table=RT_TABLE_MAIN, root=(0x0A000000, 8)))
    for _ in range(WALK):
        assert next(steps) is not None
    assert len(place.objects("flush", Route(root=(0x0A000000, 8)))) == 3 * WALK
    assert [step for step in steps if step is not None] == []


# -- events


def test_changes_are_told(place: Place) -> None:
    watch = place.watch("route")
    place.add(route())
    place.do("new", route(gateway=OTHER), NLM_F_REPLACE)
    place.do("del", Route(dst=SPARE[0], dst_len=24))
    told = [(event.deleted, event.object.gateway) for event in taken(watch) if isinstance(event.object, Route)]
    assert told == [(False, GW), (False, OTHER), (True, OTHER)]


def test_routes_of_the_kernel_say_so(place: Place) -> None:
    kernel = place.objects("dump", Route(protocol=RTPROT_KERNEL, table=RT_TABLE_MAIN))
    assert [(shown.scope, shown.prefsrc & 0xFF) for shown in kernel] == [(RT_SCOPE_LINK, 1)] * 2
    assert NLM_F_EXCL & ADD


# -- what was learned of single destinations


def learn(place: Place, mtu: int) -> None:
    place.stack.routing.update_pmtu(Flow(ip("203.0.113.7")), mtu)
    lookup(place, Route(dst=ip("203.0.113.7")))  # an exception shows once a route has been made of it


def test_a_path_mtu_shows_in_the_lookup_and_in_the_cache(place: Place) -> None:
    place.add(route())
    assert place.objects("dump", Route(cached=True)) == []
    learn(place, 1400)
    expected = Route(
        dst=ip("203.0.113.7"),
        dst_len=32,
        table=RT_TABLE_MAIN,
        scope=RT_SCOPE_UNIVERSE,
        rtype=RTN_UNICAST,
        flags=RTM_F_CLONED,
        gateway=GW,
        ifindex=ETH0,
        metrics={RTAX_MTU: 1400},
        expires=600,
        cached=True,
    )
    assert place.objects("dump", Route(cached=True, table=RT_TABLE_MAIN)) == [expected]
    assert place.objects("dump", Route(cached=True, root=prefix("192.0.2.0/24"))) == []
    answer = lookup(place, Route(dst=ip("203.0.113.7")))
    assert (answer.metrics, answer.expires) == ({RTAX_MTU: 1400}, 600)


def test_a_flush_of_the_cache_forgets_it_and_leaves_the_routes(place: Place) -> None:
    place.add(route())
    learn(place, 1400)
    assert place.objects("flush", Route(cached=True)) == []
    assert place.objects("dump", Route(cached=True)) == []
    assert lookup(place, Route(dst=ip("203.0.113.7"))).metrics == {}
    assert len(spare(place)) == 1


def test_what_has_expired_is_not_shown(place: Place) -> None:
    place.add(route())
    learn(place, 1400)
    place.stack.net.now += 601 * NSEC_PER_SEC
    assert place.objects("dump", Route(cached=True)) == []


def test_a_walk_past_the_routes_of_another_table_rests_as_well(place: Place) -> None:
    """While local shares main's trie, its dump looks at main's keys; a piece looks at a limited number of them."""
    many(place, BATCH_MAX)
    many(place, BATCH_MAX, 0x0B000000)
    steps = list(place.rtnetlink.handlers["route"].dump(Route(table=RT_TABLE_LOCAL)))
    assert len(steps) >= WALK
    assert steps[-1] is not None
