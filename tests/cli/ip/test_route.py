"""ip route: which route is asked for, and which are shown and flushed."""

from __future__ import annotations

import errno
import os

import pytest

from tests.cli.ip.recorder import Recorder, ip, mistake, request
from ustack.routing.uapi import NLM_F_APPEND, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE
from ustack.rtnl.messages import Hop, Nack, Route, Rtm, SetSysctl

ADD = NLM_F_CREATE | NLM_F_EXCL
NET = ip("10.1.0.0")
GATEWAY = ip("192.0.2.1")
LINK, HOST, NOWHERE = 253, 254, 255


def made(**attributes: object) -> Route:
    """A unicast route to 10.1.0.0/16 in main, by boot, but for what is given."""
    fields: dict[str, object] = {"dst": NET, "dst_len": 16, "table": 254, "protocol": 3, "rtype": 1, "scope": 0}
    return Route(**(fields | attributes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("line", "route"),
    [
        ("10.1.0.0/16 via 192.0.2.1", made(gateway=GATEWAY)),
        ("10.1.0.0/16 via inet 192.0.2.1", made(gateway=GATEWAY)),
        ("to 10.1/16 dev us0", made(ifindex=2, scope=LINK)),
        ("10.1.0.0/16 oif us0 scope host", made(ifindex=2, scope=HOST)),
        ("10.1.0.0/16 dev us0 scope global", made(ifindex=2)),
        ("10.1.0.0/16 dev us1 dev us0", made(ifindex=2, scope=LINK)),
        ("default via 192.0.2.1 onlink dev us0", made(dst=0, dst_len=0, gateway=GATEWAY, ifindex=2, flags=4)),
        ("10.1.0.0/16 dev us0 table 100 proto static metric 5 tos 0x10 src 192.0.2.2",
         made(ifindex=2, scope=LINK, table=100, protocol=4, priority=5, tos=16, prefsrc=ip("192.0.2.2"))),
        ("blackhole 10.1.0.0/16", made(rtype=6)),
        ("unreachable 10.1.0.0/16 priority 0", made(rtype=7, priority=0)),
        ("throw 10.1.0.0/16 preference 7", made(rtype=9, priority=7)),
        ("local 10.1.0.1 dev us0", made(dst=ip("10.1.0.1"), dst_len=32, rtype=2, ifindex=2, table=255, scope=HOST)),
        ("broadcast 10.1.0.0 dev us0", made(dst_len=32, rtype=3, ifindex=2, table=255, scope=LINK)),
        ("anycast 10.1.0.0 dev us0 table 7", made(dst_len=32, rtype=4, ifindex=2, table=7, scope=LINK)),
        ("multicast 10.1.0.0/16 dev us0", made(rtype=5, ifindex=2, scope=LINK)),
        ("10.1.0.0/16 nhid 5", made(nhid=5)),
        ("10.1.0.0/16 dev us0 mtu 1400 advmss lock 1300 window 9 hoplimit 3 initcwnd 1 initrwnd 2",
         made(ifindex=2, scope=LINK, metrics={1: 1 << 8, 2: 1400, 3: 9, 8: 1300, 10: 3, 11: 1, 14: 2})),
        ("10.1.0.0/16 dev us0 rtt 100ms rttvar 50 rto_min 250ms reordering 3 cwnd 4 ssthresh lock 5",
         made(ifindex=2, scope=LINK, metrics={1: 1 << 13 | 1 << 6, 4: 800, 5: 50, 13: 250, 9: 3, 7: 4, 6: 5})),
        ("10.1.0.0/16 dev us0 quickack 1 features ecn fastopen_no_cookie 0 congctl lock reno",
         made(ifindex=2, scope=LINK, metrics={1: 1 << 16, 15: 1, 12: 1, 17: 0}, congctl="reno")),
        ("10.1.0.0/16 nexthop via 192.0.2.1 dev us0 weight 3 nexthop via 192.0.2.1 onlink dev us1 nexthop dev us1",
         made(hops=[Hop(ifindex=2, gateway=GATEWAY, weight=3), Hop(ifindex=3, gateway=GATEWAY, flags=4),
                    Hop(ifindex=3)])),
        ("10.1.0.0/16 nexthop via 192.0.2.1 via 192.0.2.9", made(hops=[Hop(gateway=GATEWAY)])),
        ("10.1.0.0/16 dev us0 expires 5 pref high ttl-propagate enabled", made(ifindex=2, scope=LINK)),
        ("10.1.0.0/16 from 192.0.2.1/32 dev us0", made(ifindex=2, scope=LINK, src=GATEWAY, src_len=32)),
        ("10.1.0.0/16 dev us0 t 7 m 5 p 6", made(ifindex=2, scope=LINK, table=7, priority=6)),
    ],
)  # fmt: skip
def test_adding(line: str, route: Route) -> None:
    assert request(f"route add {line}") == Rtm("new", route, ADD)


@pytest.mark.parametrize(
    ("verb", "flags"),
    [
        ("add", ADD), ("a", ADD), ("change", NLM_F_REPLACE), ("chg", NLM_F_REPLACE),
        ("replace", NLM_F_CREATE | NLM_F_REPLACE), ("r", NLM_F_CREATE | NLM_F_REPLACE), ("prepend", NLM_F_CREATE),
        ("append", NLM_F_CREATE | NLM_F_APPEND), ("ap", NLM_F_CREATE | NLM_F_APPEND), ("test", NLM_F_EXCL),
    ],
)  # fmt: skip
def test_ways_of_adding(verb: str, flags: int) -> None:
    assert request(f"route {verb} 10.1.0.0/16 via 192.0.2.1") == Rtm("new", made(gateway=GATEWAY), flags)


@pytest.mark.parametrize(
    ("line", "route"),
    [
        ("del 10.1.0.0/16", made(rtype=0, protocol=0, scope=NOWHERE)),
        ("d 10.1.0.0/16 via 192.0.2.1 metric 5", made(rtype=0, protocol=0, scope=NOWHERE, gateway=GATEWAY, priority=5)),
        ("del unicast 10.1.0.0/16", made(protocol=0, scope=NOWHERE)),
        ("del local 10.1.0.0/16", made(rtype=2, protocol=0, scope=HOST, table=255)),
        ("del 10.1.0.0/16 scope link proto static", made(rtype=0, protocol=4, scope=LINK)),
    ],
)
def test_deleting_leaves_open_what_is_not_said(line: str, route: Route) -> None:
    assert request(f"route {line}") == Rtm("del", route)


@pytest.mark.parametrize(
    ("line", "status", "err"),
    [
        ("", 255, "Usage: ip route"),
        ("dev us0", 255, "Usage: ip route"),
        ("10.1.0.0/16 via", 255, "Command line is not complete"),
        ("10.1.0.0/16 dev us9", 1, 'Cannot find device "us9"\n'),
        ("10.1.0.0/33", 1, 'Error: any valid prefix is expected rather than "10.1.0.0/33".\n'),
        ("10.1.0.0/16 via x", 1, 'Error: inet address is expected rather than "x".\n'),
        ("10.1.0.0/16 foo", 255, 'Error: either "to" is duplicate, or "foo" is a garbage.\n'),
        ("10.1.0.0/16 via 192.0.2.1 via 192.0.2.2", 255, "use nexthop syntax to specify multiple via"),
        ("10.1.0.0/16 metric x", 255, '"metric" value is invalid'),
        ("10.1.0.0/16 advmss x", 255, '"mss" value is invalid'),
        ("10.1.0.0/16 hoplimit 256", 255, '"hoplimit" value is invalid'),
        ("10.1.0.0/16 quickack 2", 255, '"quickack" value should be 0 or 1'),
        ("10.1.0.0/16 features x", 255, '"features" value not valid'),
        ("10.1.0.0/16 rto_min lock 5", 255, '"rto_min" value is invalid'),
        ("10.1.0.0/16 scope x", 255, 'invalid "scope" value'),
        ("10.1.0.0/16 proto x", 255, '"protocol" value is invalid'),
        ("10.1.0.0/16 table x", 255, '"table" value is invalid'),
        ("10.1.0.0/16 tos x", 255, '"tos" value is invalid'),
        ("10.1.0.0/16 nhid x", 255, '"id" value is invalid'),
        ("10.1.0.0/16 nexthop", 255, 'Error: unexpected end of line after "nexthop"\n'),
        ("10.1.0.0/16 nexthop foo", 255, 'Error: "nexthop" or end of line is expected instead of "foo"\n'),
        ("10.1.0.0/16 nexthop dev us9", 255, 'Cannot find device "us9"\nError: cannot parse nexthop\n'),
        ("10.1.0.0/16 nexthop weight 0", 255, '"weight" is invalid'),
        ("10.1.0.0/16 nexthop weight 257", 255, '"weight" is invalid'),
        ("10.1.0.0/16 realms 5", 2, "RTNETLINK answers: Operation not supported\n"),
        ("10.1.0.0/16 encap ip id 1", 2, "RTNETLINK answers: Operation not supported\n"),
        ("10.1.0.0/16 via inet6 fe80::1", 2, "RTNETLINK answers: Address family not supported by protocol\n"),
        ("10.1.0.0/16 nexthop realms 3", 2, "RTNETLINK answers: Operation not supported\n"),
    ],
)
def test_mistakes(line: str, status: int, err: str) -> None:
    found, said = mistake(f"route add {line}")
    assert found == status and err in said


# -- show


@pytest.mark.parametrize(
    ("line", "route"),
    [
        ("", Route(table=254)),
        ("table all", Route()),
        ("t 100", Route(table=100)),
        ("dev us0", Route(table=254, ifindex=2)),
        ("proto static type blackhole scope link", Route(table=254, protocol=4, rtype=6, scope=LINK)),
        ("proto all scope all", Route(table=254)),
        ("tos 0x10 metric 5", Route(table=254, tos=16, priority=5)),
        ("via 192.0.2.1 src 192.0.2.2", Route(table=254, gateway=GATEWAY, prefsrc=ip("192.0.2.2"))),
        ("via 192.0.2.0/24", Route(table=254)),
        ("10.1.0.0/16", Route(table=254, root=(NET, 16), match=(NET, 16))),
        ("exact 10.1.0.0/16", Route(table=254, root=(NET, 16), match=(NET, 16))),
        ("to root 10.1.0.0/16", Route(table=254, root=(NET, 16))),
        ("match 10.1.0.0", Route(table=254, match=(NET, 32))),
        ("default", Route(table=254, root=(0, 0), match=(0, 0))),
        ("any", Route(table=254)),
        ("cache", Route(table=254, cached=True)),
    ],
)
def test_what_the_stack_is_asked_for(line: str, route: Route) -> None:
    assert request(f"route show {line}") == Rtm("dump", route)


ROUTES = [
    made(dst=0, dst_len=0, gateway=GATEWAY, ifindex=2),
    made(ifindex=2, scope=LINK, protocol=2, prefsrc=ip("192.0.2.2")),
    made(dst=ip("10.1.2.0"), dst_len=24, gateway=ip("198.51.100.1"), ifindex=3, priority=7, tos=16),
    made(dst=ip("10.2.0.0"), rtype=6, mark=5),
    made(dst=ip("10.3.0.0"), hops=[Hop(ifindex=2), Hop(ifindex=3)], src=NET, src_len=16),
]


@pytest.mark.parametrize(
    ("line", "places"),
    [
        ("", [0, 1, 2, 3, 4]), ("dev us0", [0, 1]), ("dev us1", [2]), ("proto kernel", [1]), ("type blackhole", [3]),
        ("scope global", [0, 2, 3, 4]), ("via 192.0.2.0/24", [0]), ("via 192.0.2.1", [0]), ("src 192.0.2.2", [1]),
        ("root 10.1.0.0/16", [1, 2]), ("match 10.1.2.9", [0, 1, 2]), ("exact 10.1.0.0/16", [1]), ("default", [0]),
        ("metric 7", [2]), ("metric 0", [0, 1, 3, 4]), ("tos 0x10", [2]), ("tos 0", [0, 1, 3, 4]), ("mark 5", [3]),
        ("from root 10.0.0.0/8", [4]), ("from match 10.1.0.0/24", [0, 1, 2, 3, 4]), ("from 10.1.0.0/16", [4]),
        ("iif us0", []), ("any", [0, 1, 2, 3, 4]), ("root 10.1.0.0/16 scope link", [1]), ("type unicast", [0, 1, 2, 4]),
    ],
)  # fmt: skip
def test_choosing(line: str, places: list[int]) -> None:
    """Whatever the stack answers with is looked at again."""
    shown = Recorder(*ROUTES).shows(f"-o route show {line}").splitlines()
    starts = ["default", "10.1.0.0/16", "10.1.2.0/24", "blackhole 10.2.0.0/16", "10.3.0.0/16"]
    assert [row for row, start in zip(shown, [starts[place] for place in places], strict=True)
            if not row.startswith(start)] == []  # fmt: skip


@pytest.mark.parametrize(
    ("line", "status", "err"),
    [
        ("table x", 255, "table id value is invalid"), ("proto x", 255, 'invalid "protocol"'),
        ("scope x", 255, 'invalid "scope"'), ("type foo", 255, "node type value is invalid"),
        ("tos x", 255, "TOS value is invalid"), ("metric x", 255, '"metric" value is invalid'),
        ("dev us9", 1, 'Cannot find device "us9"'), ("iif us9", 1, 'Cannot find device "us9"'),
        ("foo", 1, "any valid prefix is expected"), ("vrf x", 255, "Invalid VRF"), ("root", 255, "not complete"),
    ],
)  # fmt: skip
def test_mistakes_in_filters(line: str, status: int, err: str) -> None:
    found, said = mistake(f"route show {line}")
    assert found == status and err in said


# -- flush


def test_flushing_all_at_once() -> None:
    """What the stack can choose by itself is one request."""
    recorder = Recorder(*ROUTES)
    assert recorder.shows("-s route flush table all proto boot") == (
        "\n*** Round 1, deleting 5 entries ***\n*** Flush is complete after 1 round ***\n"
    )
    assert recorder.asked == [Rtm("flush", Route(protocol=3))]


def test_flushing_one_by_one() -> None:
    """A set of next hops that has one on the device is not meant, so the stack is not left to choose."""
    recorder = Recorder(*ROUTES)
    assert recorder.shows("-s -s route flush dev us0").splitlines() == [
        "default via 192.0.2.1 ", "10.1.0.0/16 proto kernel scope link src 192.0.2.2 ", "",
        "*** Round 1, deleting 2 entries ***", "*** Flush is complete after 1 round ***",
    ]  # fmt: skip
    assert recorder.asked[1:] == [Rtm("del", ROUTES[0]), Rtm("del", ROUTES[1])]


def test_nothing_to_flush() -> None:
    assert Recorder().shows("-s route flush 10.0.0.0/8") == "Nothing to flush.\n"
    assert Recorder().shows("route flush 10.0.0.0/8") == ""
    assert mistake("route flush") == (1, '"ip route flush" requires arguments.\n')


def test_flushing_the_cache_is_a_setting() -> None:
    recorder = Recorder()
    assert recorder.shows("route flush cache") == ""
    assert recorder.asked == [SetSysctl("net.ipv4.route.flush", "-1")]


# -- get


@pytest.mark.parametrize(
    ("line", "route"),
    [
        ("10.1.0.0", Route(dst=NET, dst_len=32)),
        ("to 10.1.0.0 oif us0", Route(dst=NET, dst_len=32, ifindex=2)),
        ("10.1.0.0 dev us1 mark 0x5 tos 0x10", Route(dst=NET, dst_len=32, ifindex=3, mark=5, tos=16)),
        ("10.1.0.0 ipproto tcp sport 1 dport 2 uid 7",
         Route(dst=NET, dst_len=32, ipproto=6, sport=1, dport=2, uid=7)),
        ("fibmatch 10.1.0.0", Route(dst=NET, dst_len=32, fibmatch=True)),
        ("10.1.0.0 from 192.0.2.1 iif us0", Route(dst=NET, dst_len=32, src=GATEWAY, src_len=32, iif=2)),
        ("default", Route()),
    ],
)  # fmt: skip
def test_asking(line: str, route: Route) -> None:
    """Who asks is who sends, unless a packet comes in."""
    if route.uid is None and not route.iif:
        route.uid = os.getuid()
    assert request(f"route get {line}") == Rtm("get", route)


@pytest.mark.parametrize(
    ("line", "status", "err"),
    [
        ("", 1, "need at least a destination address\n"), ("x", 1, "any valid prefix is expected"),
        ("10.1.0.0 x", 1, "inet prefix is expected"), ("10.1.0.0 mark x", 255, "invalid mark value"),
        ("10.1.0.0 sport x", 255, "invalid sport"), ("10.1.0.0 dport 65536", 255, "invalid dport"),
        ("10.1.0.0 uid x", 255, "invalid UID"), ("10.1.0.0 ipproto x", 255, 'Invalid "ipproto" value'),
        ("10.1.0.0 tos x", 255, "TOS value is invalid"), ("10.1.0.0 oif us9", 1, 'Cannot find device "us9"'),
        ("10.1.0.0 iif us9", 1, 'Cannot find device "us9"'), ("10.1.0.0 vrf x", 255, "Invalid VRF"),
    ],
)  # fmt: skip
def test_mistakes_in_questions(line: str, status: int, err: str) -> None:
    found, said = mistake(f"route get {line}")
    assert found == status and err in said


def test_a_prefix_is_asked_for_with_a_warning() -> None:
    status, _, err = Recorder().run("route get 10.1.0.0/16")
    assert (status, err) == (0, "Warning: /16 as prefix is invalid, only /32 (or none) is supported.\n")


def test_no_answer() -> None:
    assert Recorder(refuse=Nack(errno.ENETUNREACH)).run("-j route get 10.1.0.0") == (
        2, "", "RTNETLINK answers: Network is unreachable\n",
    )  # fmt: skip
