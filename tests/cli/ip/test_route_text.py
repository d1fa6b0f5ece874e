"""How routes are printed: the words of ip route, and its keys."""

from __future__ import annotations

import json

import pytest

from tests.cli.ip.recorder import Recorder, ip
from tests.cli.ip.test_route import GATEWAY, made
from ustack.rtnl.messages import Hop, Nexthop, Route

PRINTED = [
    (made(dst=0, dst_len=0, gateway=GATEWAY, ifindex=2), "default via 192.0.2.1 dev us0 \n"),
    (made(ifindex=2, scope=253, protocol=2, prefsrc=ip("192.0.2.2"), flags=16),
     "10.1.0.0/16 dev us0 proto kernel scope link src 192.0.2.2 linkdown \n"),
    (made(dst_len=32, rtype=2, ifindex=1, table=255, scope=254),
     "local 10.1.0.0 dev lo table local scope host \n"),
    (made(dst=0, dst_len=32), "0.0.0.0 \n"),
    (made(rtype=6, priority=5), "blackhole 10.1.0.0/16 metric 5 \n"),
    (made(tos=16, gateway=GATEWAY, ifindex=9, flags=1 | 4 | 16 | 32, protocol=77, table=1000),
     "10.1.0.0/16 tos 0x10 via 192.0.2.1 dev if9 table 1000 proto 77 dead onlink linkdown unresolved \n"),
    (made(nhid=5, gateway=GATEWAY, ifindex=2), "10.1.0.0/16 nhid 5 via 192.0.2.1 dev us0 \n"),
    (made(ifindex=2, metrics={1: 1 << 2 | 1 << 13 | 1 << 16, 2: 1400, 4: 800, 5: 50, 13: 2500}, congctl="reno"),
     "10.1.0.0/16 dev us0 mtu lock 1400 rtt 100ms rttvar 12ms rto_min lock 2.5s congctl lock reno \n"),
    (made(ifindex=2, metrics={12: 1, 10: 3, 17: 1}),
     "10.1.0.0/16 dev us0 hoplimit 3 features ecn fastopen_no_cookie 1 \n"),
    (made(ifindex=2, metrics={12: 3}), "10.1.0.0/16 dev us0 features ecn 0x2 \n"),
    (made(ifindex=2, metrics={1: 4}), "10.1.0.0/16 dev us0 \n"),
    (made(hops=[Hop(ifindex=2, gateway=GATEWAY, weight=3), Hop(ifindex=3, flags=16)]),
     "10.1.0.0/16 \n\tnexthop via 192.0.2.1 dev us0 weight 3 \n\tnexthop dev us1 weight 1 linkdown \n"),
]  # fmt: skip


@pytest.mark.parametrize(("route", "text"), PRINTED, ids=[text.strip() for _, text in PRINTED])
def test_lines(route: Route, text: str) -> None:
    recorder = Recorder(route)
    assert recorder.shows("route show table all") == text
    assert recorder.shows("-o route show table all") == text[:-1].replace("\n", "\\") + "\n"


@pytest.mark.parametrize(("route", "text"), PRINTED, ids=[text.strip() for _, text in PRINTED])
def test_json_says_as_much(route: Route, text: str) -> None:
    (found,) = json.loads(Recorder(route).shows("-j route show table all"))
    assert found["flags"] == [word for word in ("dead", "onlink", "linkdown", "unresolved")
                              if word in text.split("nexthop")[0].split()]  # fmt: skip
    assert found["dst"] in text and found.get("gateway", "") in text and found.get("dev", "") in text


def test_json_in_full() -> None:
    route = made(tos=16, gateway=GATEWAY, ifindex=2, protocol=4, prefsrc=ip("192.0.2.2"), priority=5, flags=4,
                 metrics={2: 1400, 13: 250, 12: 1}, congctl="reno")  # fmt: skip
    assert Recorder(route).shows("-j route") == (
        '[{"dst":"10.1.0.0/16","tos":"0x10","gateway":"192.0.2.1","dev":"us0","protocol":"static",'
        '"prefsrc":"192.0.2.2","metric":5,"flags":["onlink"],'
        '"metrics":[{"mtu":1400,"ecn":null,"rto_min":250,"congestion":"reno"}]}]\n'
    )
    hops = made(hops=[Hop(ifindex=2, gateway=GATEWAY, weight=3), Hop(ifindex=3, flags=16)])
    assert Recorder(hops).shows("-j route") == (
        '[{"dst":"10.1.0.0/16","flags":[],"nexthops":[{"gateway":"192.0.2.1","dev":"us0","weight":3,"flags":[]},'
        '{"dev":"us1","weight":1,"flags":["linkdown"]}]}]\n'
    )


def test_details() -> None:
    route = made(ifindex=2, nhid=5)
    nexthop = Nexthop(id=5, ifindex=2, scope=254)
    assert Recorder(route, nexthop).shows("-d route show table all") == (
        "unicast 10.1.0.0/16 nhid 5 dev us0 table main proto boot scope global \n"
        "\tnh_info id 5 dev us0 scope host proto unspec \n"
    )
    (found,) = json.loads(Recorder(route, nexthop).shows("-d -j route"))
    assert found["nh_info"] == {"id": 5, "dev": "us0", "scope": "host", "protocol": "unspec", "flags": []}


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("dev us0", "10.1.0.0/16 via 192.0.2.1 proto static scope site src 192.0.2.2 metric 5 \n"),
        ("via 192.0.2.1", "10.1.0.0/16 dev us0 proto static scope site src 192.0.2.2 metric 5 \n"),
        ("via 192.0.2.0/24", "10.1.0.0/16 via 192.0.2.1 dev us0 proto static scope site src 192.0.2.2 metric 5 \n"),
        ("src 192.0.2.2", "10.1.0.0/16 via 192.0.2.1 dev us0 proto static scope site metric 5 \n"),
        ("proto static scope site", "10.1.0.0/16 via 192.0.2.1 dev us0 src 192.0.2.2 metric 5 \n"),
        ("metric 5", "10.1.0.0/16 via 192.0.2.1 dev us0 proto static scope site src 192.0.2.2 \n"),
        ("table 100", "10.1.0.0/16 via 192.0.2.1 dev us0 proto static scope site src 192.0.2.2 metric 5 \n"),
        ("table all",
         "10.1.0.0/16 via 192.0.2.1 dev us0 table 100 proto static scope site src 192.0.2.2 metric 5 \n"),
    ],
)  # fmt: skip
def test_what_was_asked_for_is_not_said(line: str, text: str) -> None:
    route = made(gateway=GATEWAY, ifindex=2, protocol=4, scope=200, prefsrc=ip("192.0.2.2"), priority=5, table=100)
    assert Recorder(route).shows(f"route show {line}") == text


LOOKED_UP = [
    (Route(dst=GATEWAY, dst_len=32, table=254, rtype=1, ifindex=2, prefsrc=ip("192.0.2.2"), uid=0, cached=True),
     "192.0.2.1 dev us0 src 192.0.2.2 uid 0 \n    cache \n",
     {"dst": "192.0.2.1", "dev": "us0", "prefsrc": "192.0.2.2", "flags": [], "uid": 0, "cache": []}),
    (Route(dst=GATEWAY, dst_len=32, table=255, rtype=2, ifindex=1, flags=0x8000_0200, cached=True, iif=2, src=5,
           src_len=32),
     "local 192.0.2.1 from 0.0.0.5 dev lo table local \n    cache <local> iif us0 \n",
     {"type": "local", "dst": "192.0.2.1", "from": "0.0.0.5", "dev": "lo", "table": "local", "flags": [],
      "cache": ["local"], "iif": "us0"}),
    (Route(dst=GATEWAY, dst_len=32, table=254, rtype=3, ifindex=2, flags=0x9000_0200, cached=True, mark=5),
     "broadcast 192.0.2.1 dev us0 mark 5 \n    cache <local,brd> \n",
     {"type": "broadcast", "dst": "192.0.2.1", "dev": "us0", "flags": [], "mark": 5, "cache": ["local", "brd"]}),
    (Route(dst=GATEWAY, dst_len=32, table=254, rtype=1, ifindex=2, cached=True, mark=32, expires=590,
           metrics={2: 1400}),
     "192.0.2.1 dev us0 mark 0x20 \n    cache expires 590sec mtu 1400 \n",
     {"dst": "192.0.2.1", "dev": "us0", "flags": [], "mark": 32, "cache": [], "expires": 590,
      "metrics": [{"mtu": 1400}]}),
]  # fmt: skip


@pytest.mark.parametrize(("route", "text", "document"), LOOKED_UP)
def test_answers(route: Route, text: str, document: object) -> None:
    """Protocol and scope are those of the route, not of the answer."""
    assert Recorder(route).shows("route get 192.0.2.1") == text
    assert json.loads(Recorder(route).shows("-j route get 192.0.2.1")) == [document]
    assert Recorder(route).shows("-o route get 192.0.2.1") == text.replace("\n", "\\", 1)
