"""ip rule: what is asked for, and how it is printed."""

from __future__ import annotations

import errno

import pytest

from tests.cli.ip.recorder import Recorder, ip, mistake, request
from ustack.routing.uapi import NLM_F_CREATE, NLM_F_EXCL
from ustack.rtnl.messages import Rtm, Rule

ADD = NLM_F_CREATE | NLM_F_EXCL
NET = ip("192.0.2.0")


@pytest.mark.parametrize(
    ("line", "rule"),
    [
        ("from 192.0.2.0/24 table 100", Rule(src=NET, src_len=24, table=100)),
        ("to 192.0.2.0/24 lookup main pref 5", Rule(dst=NET, dst_len=24, table=254, priority=5)),
        ("from all order 7", Rule(table=254, priority=7)),
        ("not iif us0 oif us9 priority 1", Rule(flags=2, iif="us0", oif="us9", table=254, priority=1)),
        ("fwmark 5", Rule(mark=5, table=254)),
        ("fwmark 0x5/0xff", Rule(mark=5, mask=255, table=254)),
        ("tos 0x10 ipproto tcp sport 80 dport 1-9",
         Rule(tos=16, ipproto=6, sport=(80, 80), dport=(1, 9), table=254)),
        ("uidrange 0-100", Rule(uidrange=(0, 100), table=254)),
        ("suppress_prefixlength 0 sup_group 3", Rule(suppress_prefixlength=0, suppress_ifgroup=3, table=254)),
        ("goto 100", Rule(action=2, goto=100)),
        ("nop", Rule(action=3)),
        ("blackhole", Rule(action=6)),
        ("type unreachable", Rule(action=7)),
        ("prohibit protocol static", Rule(action=8, protocol=4)),
        ("dev us0 dsf 8 sup_pl 1 lookup default", Rule(iif="us0", tos=8, suppress_prefixlength=1, table=253)),
    ],
)  # fmt: skip
def test_adding(line: str, rule: Rule) -> None:
    assert request(f"rule add {line}") == Rtm("new", rule, ADD)


def test_deleting_leaves_open_what_is_not_said() -> None:
    assert request("rule del pref 5") == Rtm("del", Rule(action=0, priority=5))
    assert request("rule d table 7") == Rtm("del", Rule(action=0, table=7))


@pytest.mark.parametrize(
    ("line", "status", "err"),
    [
        ("add", 1, '"ip rule add" requires arguments.'),
        ("del", 1, '"ip rule del" requires arguments.'),
        ("add foo", 255, "Failed to parse rule type"),
        ("add from", 255, "Command line is not complete"),
        ("add from x", 1, 'any valid prefix is expected rather than "x"'),
        ("add pref x", 255, "preference value is invalid"),
        ("add table x", 255, "invalid table ID"),
        ("add tos x", 255, "TOS value is invalid"),
        ("add fwmark x", 255, "fwmark value is invalid"),
        ("add ipproto x", 255, 'Invalid "ipproto" value'),
        ("add protocol x", 255, '"protocol" value is invalid'),
        ("add sport x", 255, "invalid port range"),
        ("add uidrange 5", 255, "invalid UID range"),
        ("add goto x", 255, "invalid target"),
        ("add suppress_prefixlength x", 255, "suppress_prefixlength value is invalid"),
        ("add realms 5", 2, "RTNETLINK answers: Operation not supported"),
        ("show table x", 255, "table id value is invalid"),
        ("show foo", 1, 'inet prefix is expected rather than "foo"'),
    ],
)
def test_mistakes(line: str, status: int, err: str) -> None:
    found, said = mistake(f"rule {line}")
    assert found == status and err in said


RULES = [
    (Rule(priority=0, table=255, protocol=2), "0:\tfrom all lookup local\n"),
    (Rule(priority=1, src=NET, src_len=24, table=100), "1:\tfrom 192.0.2.0/24 lookup 100\n"),
    (Rule(priority=2, src=NET, src_len=32, dst=ip("10.0.0.0"), dst_len=8, flags=2, table=254),
     "2:\tnot from 192.0.2.0 to 10.0.0.0/8 lookup main\n"),
    (Rule(priority=3, mark=5, mask=0xFFFF_FFFF, iif="us0", oif="us1", table=254),
     "3:\tfrom all fwmark 0x5 iif us0 oif us1 lookup main\n"),
    (Rule(priority=4, mask=1, iif="a", oif="b", flags=8 | 16, table=1),
     "4:\tfrom all fwmark 0/0x1 iif a [detached] oif b [detached] lookup 1\n"),
    (Rule(priority=5, tos=16, uidrange=(0, 9), ipproto=17, sport=(1, 1), dport=(2, 3), table=254),
     "5:\tfrom all tos 0x10 uidrange 0-9 ipproto udp sport 1 dport 2-3 lookup main\n"),
    (Rule(priority=6, action=2, goto=9, flags=4), "6:\tfrom all goto 9 [unresolved]\n"),
    (Rule(priority=7, action=3), "7:\tfrom all nop\n"),
    (Rule(priority=8, action=6), "8:\tfrom all blackhole\n"),
    (Rule(priority=9, table=254, suppress_prefixlength=0, suppress_ifgroup=5, protocol=4),
     "9:\tfrom all lookup main suppress_prefixlength 0 suppress_ifgroup 5 proto static\n"),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "text"), RULES, ids=[text.strip() for _, text in RULES])
def test_printing(rule: Rule, text: str) -> None:
    assert Recorder(rule).shows("rule") == text


def test_json() -> None:
    out = Recorder(*(rule for rule, _ in RULES[2:7])).shows("-j rule")
    assert out == (
        '[{"priority":2,"not":null,"src":"192.0.2.0","dst":"10.0.0.0","dstlen":8,"table":"main"},'
        '{"priority":3,"src":"all","fwmark":"0x5","iif":"us0","oif":"us1","table":"main"},'
        '{"priority":4,"src":"all","fwmark":"0","fwmask":"0x1","iif":"a","iif_detached":null,"oif":"b",'
        '"oif_detached":null,"table":"1"},'
        '{"priority":5,"src":"all","tos":"0x10","uid_start":0,"uid_end":9,"ipproto":"udp","sport":1,"dport_start":2,'
        '"dport_end":3,"table":"main"},'
        '{"priority":6,"src":"all","goto":9,"unresolved":null}]\n'
    )


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("pref 5", [5]), ("table main", [2, 3, 5, 9]), ("lookup 100", [1]), ("from 192.0.2.0/24", [1, 2]),
        ("from 192.0.2.0/25", [2]), ("to 10.0.0.0/8", [2]), ("10.0.0.0/8", [2]), ("iif us0", [3]), ("oif us1", [3]),
        ("fwmark 5", [3]), ("fwmark 0/1", [4]), ("not", [2]), ("tos 0x10", [5]), ("ipproto udp", [5]),
        ("sport 1", [5]), ("dport 2-3", [5]), ("uidrange 0-9", [5]), ("pref 77", []),
        ("protocol static", list(range(10))),  # as iproute2 6.1 has it
    ],
)  # fmt: skip
def test_choosing(line: str, found: list[int]) -> None:
    shown = Recorder(*(rule for rule, _ in RULES)).shows(f"rule show {line}")
    assert [int(row.split(":")[0]) for row in shown.splitlines()] == found


def test_flushing_spares_preference_0() -> None:
    recorder = Recorder(*(rule for rule, _ in RULES))
    recorder.shows("rule flush")
    assert recorder.asked[1:] == [Rtm("del", rule) for rule, _ in RULES[1:]]


@pytest.mark.parametrize(
    ("line", "gone"), [("protocol static", [9]), ("proto 2 from 192.0.2.0/25", []), ("protocol boot", [])]
)
def test_flushing_by_protocol(line: str, gone: list[int]) -> None:
    """iproute2 6.1 looks at the protocol here, though not when it shows."""
    recorder = Recorder(*(rule for rule, _ in RULES))
    recorder.shows(f"rule flush {line}")
    assert recorder.asked[1:] == [Rtm("del", rule) for rule, _ in RULES if rule.priority in gone]


def test_what_ustack_lacks_is_said() -> None:
    for words in ("l3mdev", "tun_id 5", "nat 192.0.2.1"):
        assert mistake(f"rule add {words}")[0] == 2
    assert errno.EOPNOTSUPP
