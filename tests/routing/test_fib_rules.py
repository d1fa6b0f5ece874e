"""Policy rules: order, selectors, actions, jumps, suppression, errors, devices, events.

The orders, texts and flags are what Linux 6.18 answered to `ip rule` in a namespace; where a test says "the kernel",
it was asked.
"""

from __future__ import annotations

import errno
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.routing.links import a
from tests.routing.tables import Ether, Tables
from ustack.dst import RTN_BLACKHOLE, RTN_LOCAL, RTN_PROHIBIT, RTN_THROW, RTN_UNICAST, RTN_UNREACHABLE
from ustack.routing.fib_rules import FIB_MAX_RULES, FibRule, FibRuleConfig
from ustack.routing.fib_types import prefix_mask
from ustack.routing.flow import Flow
from ustack.routing.uapi import (
    FIB_RULE_IIF_DETACHED,
    FIB_RULE_INVERT,
    FIB_RULE_OIF_DETACHED,
    FIB_RULE_PERMANENT,
    FIB_RULE_UNRESOLVED,
    FR_ACT_BLACKHOLE,
    FR_ACT_GOTO,
    FR_ACT_NOP,
    FR_ACT_PROHIBIT,
    FR_ACT_TO_TBL,
    FR_ACT_UNREACHABLE,
    FR_ACT_UNSPEC,
    NLM_F_CREATE,
    NLM_F_EXCL,
    RT_TABLE_DEFAULT,
    RT_TABLE_LOCAL,
    RT_TABLE_MAIN,
    RTPROT_BOOT,
    RTPROT_KERNEL,
    RTPROT_STATIC,
)

FAR = "203.0.113.5"
#: What a packet of no particular kind is asked with.
ROUTER = "192.0.2.1"


def cfg(pref: int = -1, table: int = 0, action: int = FR_ACT_TO_TBL, **fields: Any) -> FibRuleConfig:
    """As `ip rule` asks: protocol boot, create and excl. ``src`` and ``dst`` in the form of prefixes."""
    config = FibRuleConfig(action, table, pref)
    config.nlflags, config.proto = NLM_F_CREATE | NLM_F_EXCL, RTPROT_BOOT
    for name, value in fields.items():
        if name in ("src", "dst"):
            network, _, length = str(value).partition("/")
            setattr(config, name, a(network))
            setattr(config, f"{name}_len", int(length or 32))
        else:
            setattr(config, name, value)
    return config


class Ruled(Tables):
    """a0 is 192.0.2.2/24; table 100 leads everything to 192.0.2.1."""

    def __init__(self) -> None:
        super().__init__()
        self.add("192.0.2.2/24")
        self.route("0.0.0.0/0", ROUTER, table=100)
        self.events.take()

    def rule(self, pref: int = -1, table: int = 0, action: int = FR_ACT_TO_TBL, **fields: Any) -> FibRule:
        return self.fib.rules.fib_nl_newrule(cfg(pref, table, action, **fields))

    def unrule(self, pref: int = -1, table: int = 0, action: int = FR_ACT_TO_TBL, **fields: Any) -> FibRule:
        config = cfg(pref, table, action, **fields)
        config.nlflags = 0
        if "proto" not in fields:
            config.proto = 0
        return self.fib.rules.fib_nl_delrule(config)

    def listed(self) -> list[tuple[int, int]]:
        return [(int(rule.pref), int(rule.table)) for rule in self.fib.rules.rules]

    def reaches(self, **fields: int) -> bool:
        """Whether a rule led that flow to table 100."""
        err, _ = self.lookup(FAR, **fields)
        assert err in (0, errno.ENETUNREACH)
        return err == 0


DEFAULTS = [(0, RT_TABLE_LOCAL), (32766, RT_TABLE_MAIN), (32767, RT_TABLE_DEFAULT)]


# -- the list


def test_the_three_rules_every_stack_begins_with() -> None:
    """fib_default_rules_init."""
    rules = Ruled().fib.rules
    assert [(r.pref, r.table) for r in rules.rules] == DEFAULTS
    assert all(r.proto == RTPROT_KERNEL and r.shown_flags() == 0 for r in rules.rules)
    assert not rules.has_custom


def test_rules_stand_by_preference_and_then_by_age() -> None:
    host = Ruled()
    host.rule(500, 1)
    host.rule(10, 2)
    host.rule(500, 3)
    host.rule(500, 2)
    host.rule(0, 4)
    host.rule(40000, 5)
    assert host.listed() == [
        (0, 255), (0, 4), (10, 2), (500, 1), (500, 3), (500, 2), (32766, 254), (32767, 253), (40000, 5),
    ]  # fmt: skip


def test_without_a_preference_a_rule_goes_right_before_the_second() -> None:
    """fib_default_rule_pref; the kernel's numbers, also after rule 0 is gone."""
    host = Ruled()
    assert [host.rule(table=t).pref for t in (101, 102, 103)] == [32765, 32764, 32763]
    host.unrule(0, RT_TABLE_LOCAL)
    assert host.listed()[0] == (32763, 103)
    assert host.rule(table=104).pref == 32763
    assert host.listed()[:3] == [(32763, 103), (32763, 104), (32764, 102)]


def test_the_lowest_preference_is_shared_when_there_is_no_lower_one() -> None:
    host = Ruled()
    host.rule(1, 9)
    assert [host.rule(table=t).pref for t in (10, 11)] == [0, 0]
    assert host.listed()[:4] == [(0, 255), (0, 10), (0, 11), (1, 9)]


def test_even_the_local_rule_can_be_deleted_and_put_elsewhere() -> None:
    """The kernel: `ip rule del pref 0` works; nothing is ours then, until the table is asked elsewhere."""
    host = Ruled()
    host.unrule(0)
    err, res = host.lookup("192.0.2.2")
    assert (err, res.rt_type) == (0, RTN_UNICAST)
    host.rule(100, RT_TABLE_LOCAL)
    err, res = host.lookup("192.0.2.2")
    assert (err, res.rt_type) == (0, RTN_LOCAL)


def test_a_stack_without_rules_reaches_nothing() -> None:
    host = Ruled()
    for pref, _ in DEFAULTS:
        host.unrule(pref)
    assert host.listed() == []
    assert host.lookup("192.0.2.2")[0] == errno.ENETUNREACH
    assert host.fib.rules.fib_default_rule_pref() == 0
    host.rule(table=100)
    assert host.listed() == [(0, 100)] and host.reaches()


def test_table_0_asks_for_an_empty_table() -> None:
    """fib_empty_table: the lowest number without a table."""
    host = Ruled()
    assert host.rule(701).table == 1
    assert host.rule(702).table == 2
    assert host.rule(703, action=FR_ACT_NOP).table == 0
    assert host.fib.fib_get_table(1) is not None


def test_there_is_an_end_to_rules() -> None:
    """The kernel ends with its memory: ENOMEM; the tables stay as they were."""
    host = Ruled()
    rules = host.fib.rules
    for table in range(len(rules.rules), FIB_MAX_RULES):
        rules.fib_nl_newrule(FibRuleConfig(FR_ACT_TO_TBL, table + 1000, 100))
    with pytest.raises(OSError) as failure:
        host.rule(5, 1)
    assert failure.value.errno == errno.ENOMEM and len(rules.rules) == FIB_MAX_RULES
    host.unrule(100, 1003)
    host.rule(5, 100)
    assert host.reaches()


# -- what a rule selects by: each once with what it takes, once with what it leaves


@pytest.mark.parametrize(
    ("fields", "taken", "left"),
    [
        ({"src": "198.51.100.0/24"}, {"saddr": a("198.51.100.7")}, {"saddr": a("198.51.101.7")}),
        ({"src": "198.51.100.7"}, {"saddr": a("198.51.100.7")}, {"saddr": a("198.51.100.6")}),
        ({"src": "198.51.100.7"}, {"saddr": a("198.51.100.7")}, {}),
        ({"dst": "203.0.113.0/29"}, {"daddr": a("203.0.113.7")}, {"daddr": a("203.0.113.8")}),
        ({"iifname": "a1"}, {"iif": 3}, {"iif": 2}),
        ({"iifname": "lo"}, {"iif": 1}, {"iif": 2}),
        ({"oifname": "a0"}, {"oif": 2}, {"oif": 0}),
        ({"mark": 7}, {"mark": 7}, {"mark": 6}),
        ({"mark": 7}, {"mark": 7}, {"mark": 0x107}),
        ({"mark": 7, "mask": 0xF}, {"mark": 0x107}, {"mark": 8}),
        ({"mark": 0, "mask": 0xF}, {"mark": 0x10}, {"mark": 1}),
        ({"tos": 0x10}, {"tos": 0x10}, {"tos": 8}),
        ({"tos": 0x10}, {"tos": 0xF3}, {}),  # the old selector sees three bits of six
        ({"dscp": 4}, {"tos": 0x10}, {"tos": 0xF0}),
        ({"dscp": 0}, {"tos": 3}, {"tos": 4}),
        ({"dscp": 46}, {"tos": 0xB8}, {"tos": 0x18}),
        ({"ip_proto": 17}, {"proto": 17}, {"proto": 6}),
        ({"ip_proto": 17}, {"proto": 17}, {}),
        ({"sport": (1000, 2000)}, {"sport": 2000}, {"sport": 2001}),
        ({"sport": (1000, 2000)}, {"sport": 1000}, {"sport": 0}),
        ({"dport": (53, 53)}, {"dport": 53}, {"dport": 54}),
        ({"uid_range": (5, 10)}, {"uid": 10}, {"uid": 11}),
        ({"uid_range": (5, 10)}, {"uid": 5}, {"uid": 0}),
        ({"uid_range": (0, 0)}, {}, {"uid": 1}),
    ],
)  # fmt: skip
def test_selectors(fields: dict[str, Any], taken: dict[str, int], left: dict[str, int]) -> None:
    host = Ruled()
    host.rule(100, 100, **fields)
    assert host.reaches(**taken)
    assert not host.reaches(**left)
    host.unrule(100)
    # "not" turns the answer round, of the whole rule
    host.rule(100, 100, flags=FIB_RULE_INVERT, **fields)
    assert not host.reaches(**taken)
    assert host.reaches(**left)


def test_every_selector_of_a_rule_must_hold() -> None:
    host = Ruled()
    host.rule(100, 100, src="198.51.100.0/24", dst="203.0.113.0/24", mark=1, ip_proto=6, dport=(80, 81), tos=8)
    fits = {"saddr": a("198.51.100.1"), "mark": 1, "proto": 6, "dport": 80, "tos": 8}
    assert host.reaches(**fits)
    for name in fits:
        assert not host.reaches(**{**fits, name: 2})


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 32), st.integers(0, 0xFFFF_FFFF), st.integers(0, 0xFFFF_FFFF), st.booleans())
def test_a_prefix_selects_what_shares_its_bits(length: int, prefix: int, addr: int, near: bool) -> None:
    """fib4_rule_match; bits of ``from`` beyond its length are kept, and do not count."""
    addr = (prefix & prefix_mask(length)) | (addr & ~prefix_mask(length)) if near else addr
    config = FibRuleConfig(FR_ACT_TO_TBL, 5, 100)
    config.src, config.src_len = prefix, length
    rule = Ruled().fib.rules.fib_nl_newrule(config)
    assert rule.matches(Flow(1, addr)) == (addr & prefix_mask(length) == prefix & prefix_mask(length))
    assert rule.src == (prefix if length else 0)


# -- what a rule does


@pytest.mark.parametrize(
    ("action", "code"),
    [
        (FR_ACT_UNREACHABLE, errno.ENETUNREACH),
        (FR_ACT_PROHIBIT, errno.EACCES),
        (FR_ACT_BLACKHOLE, errno.EINVAL),
        (4, errno.EINVAL),  # FR_ACT_RES3: whatever the kernel does not know
    ],
)
def test_actions_that_end_the_search(action: int, code: int) -> None:
    host = Ruled()
    host.rule(5, action=action, dst="203.0.113.0/24")
    host.rule(6, 100)
    assert host.lookup(FAR)[0] == code
    assert host.lookup("198.51.100.1")[0] == 0


def test_nop_does_nothing() -> None:
    host = Ruled()
    host.rule(5, action=FR_ACT_NOP)
    host.rule(6, 100)
    assert host.reaches()


@pytest.mark.parametrize("rule_table", [100, 77])
def test_a_table_without_an_answer_leaves_it_to_the_next_rule(rule_table: int) -> None:
    """fib4_rule_action: -EAGAIN, for a table that does not exist as well."""
    host = Ruled()
    host.route("203.0.113.0/24", rt_type=RTN_THROW, table=100)
    host.rule(5, rule_table, dst="203.0.113.0/24")
    host.route("203.0.113.0/24", ROUTER, table=200)
    assert not host.reaches()
    host.rule(6, 200)
    assert host.reaches()


@pytest.mark.parametrize(
    ("rt_type", "code"),
    [(RTN_BLACKHOLE, errno.EINVAL), (RTN_UNREACHABLE, errno.EHOSTUNREACH), (RTN_PROHIBIT, errno.EACCES)],
)
def test_a_route_that_leads_nowhere_ends_the_search(rt_type: int, code: int) -> None:
    host = Ruled()
    host.route("203.0.113.0/24", rt_type=rt_type, table=50)
    host.rule(5, 50)
    host.rule(6, 100)
    err, res = host.lookup(FAR)
    assert (err, res.rt_type) == (code, rt_type)


def test_local_comes_before_everything_and_a_rule_may_come_before_main() -> None:
    host = Ruled()
    host.rule(5, 100)
    assert host.lookup("192.0.2.2")[1].rt_type == RTN_LOCAL
    found = host.lookup("192.0.2.9")[1]
    assert found.prefixlen == 0 and found.table is not None and found.table.tb_id == 100


# -- jumps


def test_goto_skips_what_lies_between() -> None:
    host = Ruled()
    host.rule(10, action=FR_ACT_GOTO, target=30, dst="203.0.113.0/24")
    host.rule(20, action=FR_ACT_PROHIBIT)
    host.rule(30, 100)
    assert host.lookup(FAR)[0] == 0
    assert host.lookup("198.51.100.1")[0] == errno.EACCES


def test_jumps_follow_each_other() -> None:
    host = Ruled()
    for pref in range(10, 100, 10):
        host.rule(pref, action=FR_ACT_GOTO, target=pref + 10)
        host.rule(pref + 5, action=FR_ACT_PROHIBIT)
    host.rule(100, 100)
    assert host.reaches()


def test_an_unresolved_goto_is_flagged_and_passed_over() -> None:
    """The kernel: "goto 500 [unresolved]", until there is a rule of preference 500."""
    host = Ruled()
    jump = host.rule(400, action=FR_ACT_GOTO, target=500)
    host.rule(450, 100)
    assert jump.shown_flags() == FIB_RULE_UNRESOLVED and jump.flags == 0
    assert host.reaches()
    host.rule(500, action=FR_ACT_PROHIBIT)
    assert jump.shown_flags() == 0
    assert host.lookup(FAR)[0] == errno.EACCES


def test_the_next_of_the_same_preference_inherits_a_jump() -> None:
    host = Ruled()
    jump = host.rule(400, action=FR_ACT_GOTO, target=500)
    host.rule(500, action=FR_ACT_NOP)
    second = host.rule(500, 7, iifname="a0")
    host.unrule(500, action=FR_ACT_NOP)
    assert jump.ctarget is second and jump.shown_flags() == 0
    host.unrule(500)
    assert jump.ctarget is None and jump.shown_flags() == FIB_RULE_UNRESOLVED
    third = host.rule(500, 8)
    assert jump.ctarget is third
    host.unrule(400, action=FR_ACT_GOTO, target=500)
    host.unrule(500)
    assert host.listed() == DEFAULTS


def test_a_jump_goes_to_the_first_of_its_preference() -> None:
    host = Ruled()
    first = host.rule(500, 1)
    host.rule(500, 2)
    assert host.rule(400, action=FR_ACT_GOTO, target=500).ctarget is first


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"pref": 10, "action": FR_ACT_GOTO, "target": 5}, "Backward goto not supported"),
        ({"pref": 10, "action": FR_ACT_GOTO, "target": 10}, "Backward goto not supported"),
        ({"action": FR_ACT_GOTO, "target": 32765}, "Backward goto not supported"),
        ({"pref": 10, "action": FR_ACT_GOTO}, "Missing goto target for action goto"),
        ({"pref": 10, "target": 20}, "Unexpected goto"),
        ({"pref": 10, "tos": 0x80}, "Invalid tos"),
        ({"pref": 10, "tos": 0x13}, "Invalid dsfield (tos): ECN bits must be 0"),
        ({"pref": 10, "tos": 0x10, "dscp": 4}, "Cannot specify both TOS and DSCP"),
        ({"pref": 10, "sport": (65535, 65535)}, "Invalid sport range"),
        ({"pref": 10, "sport": (1, 65535)}, "Invalid sport range"),
        ({"pref": 10, "sport": (10, 5)}, "Invalid sport range"),
        ({"pref": 10, "sport": (0, 0)}, "Invalid sport range"),
        ({"pref": 10, "dport": (0, 5)}, "Invalid dport range"),
        ({"pref": 10, "uid_range": (10, 5)}, "Invalid uid range"),
        ({"pref": 10, "uid_range": (5, 0xFFFF_FFFF)}, "Invalid uid range"),
        ({"pref": 10, "src": "0.0.0.0/33"}, "Invalid source address"),
        ({"pref": 10, "dst": "0.0.0.0/33"}, "Invalid dst address"),
    ],
)  # fmt: skip
def test_rules_that_are_refused(fields: dict[str, Any], text: str) -> None:
    """The kernel's words. Nothing has happened then: local and main still share a trie."""
    host = Ruled()
    with pytest.raises(OSError) as failure:
        host.rule(**fields)
    assert (failure.value.errno, failure.value.strerror) == (errno.EINVAL, text)
    assert host.listed() == DEFAULTS and not host.fib.rules.has_custom
    assert host.events.take() == []


def test_a_dscp_of_more_than_six_bits_is_out_of_range() -> None:
    with pytest.raises(OSError) as failure:
        Ruled().rule(10, dscp=64)
    assert failure.value.errno == errno.ERANGE


# -- suppression


def test_suppress_prefixlength_ignores_short_prefixes() -> None:
    """fib4_rule_suppress: "lookup main suppress_prefixlength 0" uses everything but a default route."""
    host = Ruled()
    host.route("0.0.0.0/0", "192.0.2.77")
    host.route("203.0.113.0/24", "192.0.2.77")
    host.rule(5, RT_TABLE_MAIN, suppress_prefixlen=0)
    host.rule(6, 100)
    hop = host.lookup(FAR)[1].nhc
    assert hop is not None and hop.gateway == a("192.0.2.77")
    hop = host.lookup("198.51.100.1")[1].nhc
    assert hop is not None and hop.gateway == a(ROUTER)


@pytest.mark.parametrize(("length", "suppressed"), [(23, False), (24, True), (32, True)])
def test_the_suppressed_length_is_included(length: int, suppressed: bool) -> None:
    host = Ruled()
    host.route("203.0.113.0/24", ROUTER, table=50)
    host.rule(5, 50, suppress_prefixlen=length)
    assert host.reaches() != suppressed


def test_an_error_is_not_suppressed() -> None:
    """Only what was found is: fib_rules_lookup asks ``if (!err && ops->suppress && ...)``."""
    host = Ruled()
    host.route("203.0.113.0/24", rt_type=RTN_PROHIBIT, table=50)
    host.rule(5, 50, suppress_prefixlen=32)
    assert host.lookup(FAR)[0] == errno.EACCES


def test_suppress_ifgroup_ignores_routes_out_of_devices_of_that_group() -> None:
    host = Ruled()
    host.rule(5, 100, suppress_ifgroup=7)
    assert host.reaches()
    host.a0.group = 7
    assert not host.reaches()


# -- duplicates and deletion


def test_the_same_rule_twice_is_eexist_only_with_excl() -> None:
    host = Ruled()
    host.rule(10, 100, src="192.0.2.0/24")
    with pytest.raises(OSError) as failure:
        host.rule(10, 100, src="192.0.2.0/24")
    assert failure.value.errno == errno.EEXIST and len(host.listed()) == 4
    host.rule(10, 100, src="192.0.2.0/24", nlflags=NLM_F_CREATE)
    assert len(host.listed()) == 5


def test_a_rule_that_is_narrower_in_addresses_counts_as_the_same() -> None:
    """The kernel: after "from 192.0.2.0/24", the same without "from" is EEXIST, with another "to" it is not."""
    host = Ruled()
    host.rule(10, 100, src="192.0.2.0/24")
    with pytest.raises(OSError) as failure:
        host.rule(10, 100)
    assert failure.value.errno == errno.EEXIST
    host.rule(10, 100, dst="192.0.2.0/24")
    assert host.listed()[1:3] == [(10, 100), (10, 100)]


@pytest.mark.parametrize(
    "fields",
    [
        {"pref": 11}, {"table": 101}, {"action": FR_ACT_PROHIBIT}, {"iifname": "a1"}, {"oifname": "a1"}, {"mark": 2},
        {"mask": 3}, {"suppress_prefixlen": 1}, {"suppress_ifgroup": 1}, {"uid_range": (1, 2)}, {"ip_proto": 17},
        {"proto": RTPROT_STATIC}, {"sport": (1, 2)}, {"dport": (1, 2)}, {"src": "192.0.2.0/25"},
        {"dst": "192.0.3.0/24"}, {"tos": 8},
    ],
)  # fmt: skip
def test_every_other_difference_makes_another_rule(fields: dict[str, Any]) -> None:
    """rule_exists, and rule_find for the way back."""
    base: dict[str, Any] = {
        "pref": 10, "table": 100, "iifname": "a0", "oifname": "a0", "mark": 1, "mask": 1, "suppress_prefixlen": 0,
        "suppress_ifgroup": 0, "uid_range": (1, 1), "ip_proto": 6, "sport": (1, 1), "dport": (1, 1),
        "src": "192.0.2.0/24", "dst": "192.0.2.0/24", "tos": 0x10,
    }  # fmt: skip
    host = Ruled()
    first = host.rule(**base)
    second = host.rule(**{**base, **fields})
    assert host.unrule(**{**base, **fields}) is second
    with pytest.raises(OSError) as failure:
        host.unrule(**{**base, **fields, "pref": 12})
    assert failure.value.errno == errno.ENOENT
    assert host.fib.rules.rules[1] is first and len(host.fib.rules.rules) == 4


def test_deletion_takes_the_first_that_has_what_is_given() -> None:
    host = Ruled()
    host.rule(10, 9, src="192.0.2.0/24")
    host.rule(20, 9, mark=1)
    host.rule(30, 8, dscp=4)
    assert host.unrule(table=9).pref == 10
    assert host.unrule(mark=1).pref == 20
    with pytest.raises(OSError) as failure:
        host.unrule(tos=0x10)
    assert failure.value.errno == errno.ENOENT
    assert host.unrule(dscp=4).pref == 30
    assert host.unrule(action=FR_ACT_UNSPEC).pref == 0


def test_what_is_not_there_is_enoent() -> None:
    host = Ruled()
    with pytest.raises(OSError) as failure:
        host.unrule(9999)
    assert failure.value.errno == errno.ENOENT
    assert not host.fib.rules.has_custom


def test_a_permanent_rule_stays() -> None:
    host = Ruled()
    host.rule(10, 100, flags=FIB_RULE_PERMANENT)
    with pytest.raises(OSError) as failure:
        host.unrule(10)
    assert failure.value.errno == errno.EPERM and len(host.listed()) == 4


# -- devices


def test_a_rule_waits_for_its_device() -> None:
    """fib_rules_event; the kernel: "iif nodev [detached]"."""
    host = Ruled()
    rule = host.rule(601, 100, iifname="b0", oifname="b1")
    assert rule.shown_flags() == FIB_RULE_IIF_DETACHED | FIB_RULE_OIF_DETACHED
    b0, b1 = host.add_device(Ether("b0")), host.add_device(Ether("b1"))
    assert rule.shown_flags() == 0
    assert (rule.iifindex, rule.oifindex) == (b0.ifindex, b1.ifindex)
    host.devices.unregister_netdevice(b0)
    assert rule.shown_flags() == FIB_RULE_IIF_DETACHED
    assert not rule.matches(Flow(a(FAR), iif=b0.ifindex, oif=b1.ifindex))


def test_a_rule_follows_the_name_not_the_device() -> None:
    host = Ruled()
    rule = host.rule(601, 100, iifname="a1")
    host.devices.dev_change_name(host.a1, "other")
    assert rule.shown_flags() == FIB_RULE_IIF_DETACHED and rule.iifname == "a1"
    host.devices.dev_change_name(host.a0, "a1")
    assert rule.iifindex == host.a0.ifindex


def test_a_detached_rule_matches_nothing() -> None:
    host = Ruled()
    host.rule(601, 100, iifname="gone")
    assert not host.reaches() and not host.reaches(iif=2)


# -- what a change brings


def test_a_rule_of_somebodys_own_parts_local_from_main_for_good() -> None:
    """fib_unmerge; deleting a rule does it as well, and nothing brings them together again."""
    for first in ("add", "delete"):
        host = Ruled()
        local, main = host.fib.fib_get_table(RT_TABLE_LOCAL), host.fib.fib_get_table(RT_TABLE_MAIN)
        assert local is not None and main is not None and local.trie is main.trie
        before = (host.local(), host.main())
        if first == "add":
            host.rule(10, 100)
            host.unrule(10)
        else:
            host.unrule(32767)
        alone = host.fib.fib_get_table(RT_TABLE_LOCAL)
        assert alone is not None and alone.trie is not main.trie and host.fib.rules.has_custom
        assert (host.local(), host.main()) == before
        assert host.lookup("192.0.2.2")[1].rt_type == RTN_LOCAL
        assert host.lookup("192.0.2.9")[1].rt_type == RTN_UNICAST
        host.add("198.51.100.2/24", host.a1)
        assert len(host.local(host.a1)) == 2 and len(host.main(host.a1)) == 1


def test_a_change_is_told_and_invalidates_cached_routes() -> None:
    """RTM_NEWRULE, RTM_DELRULE; fib4_rule_flush_cache."""
    host = Ruled()
    genid = host.fib.genid
    host.rule(10, 100)
    assert host.events.take() == ["newrule 10 100"] and host.fib.genid > genid
    genid = host.fib.genid
    host.unrule(10)
    assert host.events.take() == ["delrule 10 100"] and host.fib.genid > genid


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 8), st.integers(0, 8)), max_size=30))
def test_jumps_end_whatever_happens_to_the_list(steps: list[tuple[bool, int, int]]) -> None:
    """Only forward, also after deletions: every lookup ends, and every goto knows whether its target exists."""
    host = Ruled()
    rules = host.fib.rules
    for add, pref, far in steps:
        jump = far > pref
        action, target = (FR_ACT_GOTO, far) if jump else (FR_ACT_NOP, -1)
        config = cfg(pref, action=action, target=target, nlflags=0)
        if add:
            rules.fib_nl_newrule(config)
        elif any((r.pref, r.action) == (pref, action) for r in rules.rules):
            config.proto = 0
            rules.fib_nl_delrule(config)
        assert [r.pref for r in rules.rules] == sorted(r.pref for r in rules.rules)
        for rule in rules.rules:
            if rule.action == FR_ACT_GOTO:
                there = [r for r in rules.rules if r.pref == rule.target]
                assert rule.ctarget in there if there else rule.ctarget is None
    assert host.lookup("192.0.2.9")[0] == 0
