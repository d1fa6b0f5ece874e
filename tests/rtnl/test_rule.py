"""Rules: what `ip rule` adds, shows, flushes and is refused (net/core/fib_rules.c)."""

from __future__ import annotations

import errno

import pytest

from tests.rtnl.place import ADD, Place, ip, taken
from ustack.routing.uapi import (
    FIB_RULE_IIF_DETACHED,
    FIB_RULE_INVERT,
    FIB_RULE_UNRESOLVED,
    FR_ACT_GOTO,
    FR_ACT_PROHIBIT,
    RTPROT_KERNEL,
)
from ustack.rtnl.messages import Rule


def prefs(place: Place, wanted: Rule | None = None) -> list[int | None]:
    return [rule.priority for rule in place.objects("dump", wanted or Rule())]


def test_there_are_three_rules_to_begin_with(place: Place) -> None:
    assert place.objects("dump", Rule()) == [
        Rule(priority=0, table=255, protocol=RTPROT_KERNEL),
        Rule(priority=32766, table=254, protocol=RTPROT_KERNEL),
        Rule(priority=32767, table=253, protocol=RTPROT_KERNEL),
    ]


EVERYTHING = Rule(
    priority=9,
    table=5,
    src=ip("192.0.2.0"),
    src_len=24,
    dst=ip("198.51.100.0"),
    dst_len=25,
    tos=0x10,
    iif="eth0",
    oif="eth1",
    mark=1,
    mask=3,
    ipproto=6,
    sport=(5, 6),
    dport=(7, 7),
    uidrange=(5, 6),
    suppress_prefixlength=8,
    suppress_ifgroup=3,
    protocol=4,
    flags=FIB_RULE_INVERT,
)


@pytest.mark.parametrize(
    "rule",
    [
        EVERYTHING,
        Rule(priority=1, table=5),
        Rule(priority=1, table=5, dscp=10),
        Rule(priority=1, action=FR_ACT_PROHIBIT),
        Rule(priority=1, table=100_000, mark=0, mask=0xFF),
    ],
)
def test_a_rule_is_shown_as_it_was_asked_for(place: Place, rule: Rule) -> None:
    place.add(rule)
    assert [shown for shown in place.objects("dump", Rule()) if shown.priority == rule.priority] == [rule]


def test_a_mark_alone_has_a_full_mask(place: Place) -> None:
    place.add(Rule(priority=1, table=5, mark=7))
    assert place.objects("dump", Rule(priority=1))[0].mask == 0xFFFF_FFFF


def test_a_rule_without_a_preference_stands_before_main(place: Place) -> None:
    place.add(Rule(table=5))
    place.add(Rule(table=6))
    assert prefs(place) == [0, 32764, 32765, 32766, 32767]


def test_flags_tell_what_is_missing(place: Place) -> None:
    place.add(Rule(priority=1, action=FR_ACT_GOTO, goto=2))
    place.add(Rule(priority=3, table=5, iif="nosuch"))
    flags = {rule.priority: rule.flags for rule in place.objects("dump", Rule())}
    assert (flags[1], flags[3]) == (FIB_RULE_UNRESOLVED, FIB_RULE_IIF_DETACHED)


@pytest.mark.parametrize(
    ("rule", "refusal"),
    [
        (Rule(priority=5, action=FR_ACT_GOTO, goto=5), (errno.EINVAL, "Backward goto not supported")),
        (Rule(priority=5, action=FR_ACT_GOTO), (errno.EINVAL, "Missing goto target for action goto")),
        (Rule(priority=5, table=5, sport=(9, 3)), (errno.EINVAL, "Invalid sport range")),
        (Rule(priority=5, table=5, tos=3), (errno.EINVAL, "Invalid dsfield (tos): ECN bits must be 0")),
        (Rule(priority=5, table=5, src_len=33), (errno.EINVAL, "Invalid source address")),
        (Rule(priority=1 << 32, table=5), (errno.ERANGE, "integer out of range")),
        (Rule(priority=5, table=5, sport=(1, 1 << 16)), (errno.ERANGE, "integer out of range")),
        (Rule(priority=5, table=5, uidrange=(-1, 4)), (errno.ERANGE, "integer out of range")),
        (Rule(priority=0, table=255, protocol=RTPROT_KERNEL), (errno.EEXIST, "")),
    ],
)
def test_what_cannot_be_is_refused_with_the_kernels_words(place: Place, rule: Rule, refusal: tuple[int, str]) -> None:
    assert place.refusal("new", rule, ADD) == refusal
    assert prefs(place) == [0, 32766, 32767]


def test_one_rule_cannot_be_asked_for(place: Place) -> None:
    assert place.refusal("get", Rule(priority=0)) == (errno.EOPNOTSUPP, "")


# -- deleting


def test_a_deletion_needs_only_what_tells_it_from_others(place: Place) -> None:
    place.add(Rule(priority=5, table=5))
    place.add(Rule(priority=5, table=6))
    place.do("del", Rule(action=0, table=6))
    assert [rule.table for rule in place.objects("dump", Rule(priority=5))] == [5]
    place.do("del", Rule(action=0, priority=5))
    assert prefs(place) == [0, 32766, 32767]
    assert place.refusal("del", Rule(action=0, priority=5)) == (errno.ENOENT, "")


def test_the_default_rules_can_go(place: Place) -> None:
    place.do("del", Rule(action=0, priority=0))
    assert prefs(place) == [32766, 32767]


# -- dump and flush


@pytest.fixture
def full(place: Place) -> Place:
    place.add(Rule(priority=1, table=5, src=ip("192.0.2.0"), src_len=24, protocol=3))
    place.add(Rule(priority=2, table=6, src=ip("192.0.2.128"), src_len=25, iif="eth0"))
    place.add(Rule(priority=3, table=5, dst=ip("192.0.2.1"), dst_len=32, mark=4, ipproto=17, tos=8, oif="eth1"))
    return place


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (Rule(priority=2), [2]),
        (Rule(table=5), [1, 3]),
        (Rule(src=ip("192.0.2.0"), src_len=24), [1, 2]),
        (Rule(src=ip("192.0.2.128"), src_len=25), [2]),
        (Rule(dst=ip("192.0.0.0"), dst_len=16), [3]),
        (Rule(iif="eth0"), [2]),
        (Rule(oif="eth1"), [3]),
        (Rule(mark=4), [3]),
        (Rule(mark=4, mask=1), []),
        (Rule(ipproto=17), [3]),
        (Rule(tos=8), [3]),
        (Rule(protocol=3), [1]),
        (Rule(protocol=RTPROT_KERNEL), [0, 32766, 32767]),
    ],
)
def test_a_dump_filters(full: Place, wanted: Rule, found: list[int]) -> None:
    assert prefs(full, wanted) == found


def test_a_flush_leaves_preference_0(full: Place) -> None:
    assert [rule.priority for rule in full.objects("flush", Rule())] == [1, 2, 3, 32766, 32767]
    assert prefs(full) == [0]


def test_a_flush_filters(full: Place) -> None:
    assert [rule.priority for rule in full.objects("flush", Rule(protocol=3))] == [1]
    assert prefs(full) == [0, 2, 3, 32766, 32767]


def test_changes_are_told(place: Place) -> None:
    watch = place.watch("rule")
    place.add(Rule(priority=5, table=5))
    place.do("del", Rule(action=0, priority=5))
    told = [(event.deleted, event.object) for event in taken(watch)]
    assert told == [(False, Rule(priority=5, table=5)), (True, Rule(priority=5, table=5))]
