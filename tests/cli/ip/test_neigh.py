"""ip neigh and ip nexthop: what is asked for, and how it is printed."""

from __future__ import annotations

import errno
import json

import pytest

from tests.cli.ip.recorder import Recorder, ip, mistake, request
from ustack.routing.uapi import NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE
from ustack.rtnl.messages import Nack, Neigh, Nexthop, Rtm

ADD = NLM_F_CREATE | NLM_F_EXCL
ADDR = ip("192.0.2.9")
MAC = 0x020000000099
PERMANENT, NOARP, STALE, FAILED, PROBE = 0x80, 0x40, 0x04, 0x20, 0x10


@pytest.mark.parametrize(
    ("line", "neigh"),
    [
        ("192.0.2.9 lladdr 02:00:00:00:00:99 dev us0", Neigh(ifindex=2, dst=ADDR, mac=MAC, state=PERMANENT)),
        ("to 192.0.2.9 dev us0", Neigh(ifindex=2, dst=ADDR, state=PERMANENT)),
        ("192.0.2.9 lladdr 2:0:0:0:0:99 dev us0 nud stale router",
         Neigh(ifindex=2, dst=ADDR, mac=MAC, state=STALE, flags=0x80)),
        ("192.0.2.9 dev us0 nud none extern_learn protocol static",
         Neigh(ifindex=2, dst=ADDR, flags=0x10, protocol=4)),
        ("192.0.2.9 dev us0 nud 0x10", Neigh(ifindex=2, dst=ADDR, state=PROBE)),
        ("192.0.2.9 dev us0 nud perm", Neigh(ifindex=2, dst=ADDR, state=PERMANENT)),
        ("proxy 192.0.2.9 dev us0", Neigh(ifindex=2, dst=ADDR, proxy=True)),
        ("proxy 192.0.2.9", Neigh(dst=ADDR, proxy=True)),
    ],
)  # fmt: skip
def test_adding(line: str, neigh: Neigh) -> None:
    assert request(f"neigh add {line}") == Rtm("new", neigh, ADD)
    assert request(f"n change {line}") == Rtm("new", neigh, NLM_F_REPLACE)
    assert request(f"neighbour replace {line}") == Rtm("new", neigh, NLM_F_CREATE | NLM_F_REPLACE)
    assert request(f"neighbor del {line}") == Rtm("del", neigh)


def test_asking() -> None:
    assert request("neigh get 192.0.2.9 dev us0") == Rtm("get", Neigh(ifindex=2, dst=ADDR))
    assert request("neigh get proxy 192.0.2.9 dev us0") == Rtm("get", Neigh(ifindex=2, dst=ADDR, proxy=True))


@pytest.mark.parametrize(
    ("line", "status", "err"),
    [
        ("add", 255, "Device and destination are required arguments.\n"),
        ("add 192.0.2.9", 255, "Device and destination are required arguments.\n"),
        ("del dev us0", 255, "Device and destination are required arguments.\n"),
        ("add 192.0.2.9 dev us9", 1, 'Cannot find device "us9"\n'),
        ("add x dev us0", 1, "any valid address is expected"),
        ("add 192.0.2.9 192.0.2.8 dev us0", 255, 'either "to" is duplicate'),
        ("add 192.0.2.9 dev us0 nud x", 255, "nud state is bad"),
        ("add 192.0.2.9 dev us0 protocol x", 255, '"protocol" value is invalid'),
        ("add 192.0.2.9 dev us0 lladdr 02:00", 2, "Error: Invalid link address.\n"),
        ("add 192.0.2.9 dev us0 lladdr zz", 1, '"zz" is invalid lladdr.\n'),
        ("get 192.0.2.9", 1, "Device and address are required arguments.\n"),
        ("get 192.0.2.9 dev us0 nud stale", 255, 'either "to" is duplicate'),
        ("flush", 1, "Flush requires arguments.\n"),
        ("show dev us9", 1, 'Cannot find device "us9"\n'),
        ("show nud x", 255, "nud state is bad"),
        ("show master us9", 255, "Device does not exist"),
        ("show vrf x", 255, "Not a valid VRF name"),
        ("show x", 1, "any valid prefix is expected"),
    ],
)
def test_mistakes(line: str, status: int, err: str) -> None:
    found, said = mistake(f"neigh {line}")
    assert found == status and err in said


NEIGHS = [
    Neigh(ifindex=2, dst=ADDR, mac=MAC, state=PERMANENT),
    Neigh(
        ifindex=3, dst=ADDR + 1, mac=MAC, state=STALE, flags=0x80, refcnt=2, used=5, confirmed=6, updated=7, probes=1
    ),
    Neigh(ifindex=2, dst=ADDR + 2, state=FAILED, flags=0x10),
    Neigh(ifindex=2, dst=ADDR + 3, mac=MAC, state=NOARP),
    Neigh(ifindex=2, dst=ADDR + 4),
    Neigh(ifindex=2, dst=ADDR + 5, mac=MAC, state=PROBE, protocol=4),
    Neigh(ifindex=2, dst=ADDR + 6, proxy=True),
    Neigh(dst=ADDR + 7, proxy=True),
]
LINES = [
    "192.0.2.9 dev us0 lladdr 02:00:00:00:00:99 PERMANENT \n",
    "192.0.2.10 dev us1 lladdr 02:00:00:00:00:99 router STALE \n",
    "192.0.2.11 dev us0 extern_learn FAILED \n",
    "192.0.2.12 dev us0 lladdr 02:00:00:00:00:99 NOARP \n",
    "192.0.2.13 dev us0 \n",
    "192.0.2.14 dev us0 lladdr 02:00:00:00:00:99 PROBE proto static \n",
    "192.0.2.15 dev us0 proxy \n",
    "192.0.2.16 proxy \n",
]


@pytest.mark.parametrize(
    ("line", "places"),
    [
        ("", [0, 1, 2, 5]), ("nud all", [0, 1, 2, 3, 4, 5]), ("nud noarp", [2, 3]), ("nud permanent", [0, 2]),
        ("nud none", [2, 4]), ("nud stale nud probe", [1, 2, 5]), ("192.0.2.8/31", [0]), ("to 192.0.2.10", [1]),
        ("proxy", [6, 7]), ("unused", [0, 2, 5]), ("protocol static", [5]), ("nomaster", [0, 1, 2, 5]),
        ("192.0.2.9 192.0.2.10", [1]), ("any", [0, 1, 2, 5]),
    ],
)  # fmt: skip
def test_choosing(line: str, places: list[int]) -> None:
    assert Recorder(*NEIGHS).shows(f"neigh show {line}") == "".join(LINES[place] for place in places)


def test_a_device_that_was_asked_for_is_not_said() -> None:
    recorder = Recorder(*NEIGHS)
    assert recorder.shows("neigh show dev us1") == LINES[1].replace("dev us1 ", "")
    assert recorder.asked == [Rtm("dump", Neigh(ifindex=3, state=0x1FF, dst_len=0))]


def test_statistics() -> None:
    assert Recorder(NEIGHS[1]).shows("-s neigh") == (
        "192.0.2.10 dev us1 lladdr 02:00:00:00:00:99 router  ref 2 used 5/6/7probes 1 STALE \n"
    )
    assert Recorder(NEIGHS[0]).shows("-s neigh") == (
        "192.0.2.9 dev us0 lladdr 02:00:00:00:00:99  used 0/0/0probes 0 PERMANENT \n"
    )
    assert Recorder(NEIGHS[1]).shows("-s -j neigh") == (
        '[{"dst":"192.0.2.10","dev":"us1","lladdr":"02:00:00:00:00:99","router":null,"refcnt":2,"used":5,'
        '"confirmed":6,"updated":7,"probes":1,"state":["STALE"]}]\n'
    )


def test_in_columns() -> None:
    assert Recorder(NEIGHS[0]).shows("-br neigh") == f"{'192.0.2.9':<39} {'us0':<16} 02:00:00:00:00:99\n"
    assert Recorder(NEIGHS[0]).shows("-br -j neigh") == (
        '[{"dst":"192.0.2.9","dev":"us0","lladdr":"02:00:00:00:00:99"}]\n'
    )


def test_flushing_spares_what_was_set_by_hand() -> None:
    recorder = Recorder(*NEIGHS)
    assert recorder.shows("-s neigh flush dev us0") == (
        "\n*** Round 1, deleting 3 entries ***\n*** Flush is complete after 1 round ***\n"
    )
    assert recorder.asked[1:] == [Rtm("del", NEIGHS[place]) for place in (2, 4, 5)]
    assert Recorder().shows("-s neigh flush all") == "Nothing to flush.\n"


# -- next-hop objects


@pytest.mark.parametrize(
    ("line", "nexthop"),
    [
        ("id 1 via 192.0.2.9 dev us0", Nexthop(id=1, gateway=ADDR, ifindex=2)),
        ("id 1 via inet 192.0.2.9 dev us0 onlink", Nexthop(id=1, gateway=ADDR, ifindex=2, flags=4)),
        ("id 2 blackhole protocol static", Nexthop(id=2, blackhole=True, protocol=4)),
        ("id 3 group 1/2", Nexthop(id=3, group=[(1, 1), (2, 1)])),
        ("id 3 group 1,5/2,256 type mpath", Nexthop(id=3, group=[(1, 5), (2, 256)])),
        ("dev us1", Nexthop(ifindex=3)),
    ],
)
def test_adding_next_hops(line: str, nexthop: Nexthop) -> None:
    assert request(f"nexthop add {line}") == Rtm("new", nexthop, ADD)
    assert request(f"nexthop replace {line}") == Rtm("new", nexthop, NLM_F_CREATE | NLM_F_REPLACE)


@pytest.mark.parametrize(
    ("line", "status", "err"),
    [
        ("add id x", 255, "invalid id value"), ("add id 1 dev us9", 255, "Device does not exist"),
        ("add id 1 via x", 1, "any valid address is expected"), ("add id 1 foo", 255, 'argument "foo" is wrong: \n'),
        ("add id 1 group x", 255, '"group" value is invalid'), ("add id 1 group 1,0", 255, '"weight" is invalid'),
        ("add id 1 group 1,257", 255, 'argument "257" is wrong: "weight" is invalid'),
        ("add id 1 group 1 type x", 255, '"type" value is invalid'),
        ("add id 1 group 1 type resilient", 2, "Operation not supported"),
        ("add id 1 fdb", 2, "Operation not supported"), ("add id 1 protocol x", 255, '"protocol" value is invalid'),
        ("get", 255, "Usage"), ("get foo", 255, "Usage"), ("get id 1 foo", 255, "Usage"),
        ("show dev us9", 255, "Device does not exist"), ("show protocol static", 255, "invalid protocol value"),
        ("show foo", 255, 'argument "foo" is wrong: \n'), ("show vrf x", 255, "Invalid VRF"),
    ],
)  # fmt: skip
def test_mistakes_with_next_hops(line: str, status: int, err: str) -> None:
    found, said = mistake(f"nexthop {line}")
    assert found == status and err in said


NEXTHOPS = [
    Nexthop(id=1, gateway=ADDR, ifindex=2, scope=253, protocol=4, flags=4),
    Nexthop(id=2, ifindex=3, scope=254, flags=1 | 16),
    Nexthop(id=3, blackhole=True),
    Nexthop(id=4, group=[(1, 1), (2, 10)]),
]


def test_showing_next_hops() -> None:
    recorder = Recorder(*NEXTHOPS)
    assert recorder.shows("nexthop").splitlines() == [
        "id 1 via 192.0.2.9 dev us0 scope link proto static onlink ",
        "id 2 dev us1 scope host dead linkdown ",
        "id 3 blackhole ",
        "id 4 group 1/2,10 ",
    ]
    assert recorder.shows("-d nexthop show protocol 4") == (
        "id 1 via 192.0.2.9 dev us0 scope link proto static onlink \n"
    )
    assert recorder.shows("nexthop show groups") == "id 4 group 1/2,10 \n"
    assert recorder.shows("nexthop show dev us1") == "id 2 dev us1 scope host dead linkdown \n"
    assert recorder.shows("-d nexthop show groups") == "id 4 group 1/2,10 scope global proto unspec \n"
    assert json.loads(recorder.shows("-j nexthop")) == [
        {"id": 1, "gateway": "192.0.2.9", "dev": "us0", "scope": "link", "protocol": "static", "flags": ["onlink"]},
        {"id": 2, "dev": "us1", "scope": "host", "flags": ["dead", "linkdown"]},
        {"id": 3, "blackhole": None, "flags": []},
        {"id": 4, "group": [{"id": 1}, {"id": 2, "weight": 10}], "flags": []},
    ]


def test_an_id_is_asked_for_directly() -> None:
    assert request("nexthop show id 5 dev us0") == Rtm("get", Nexthop(id=5))
    assert request("nexthop get id 5") == Rtm("get", Nexthop(id=5))
    assert Recorder(refuse=Nack(errno.ENOENT)).run("nexthop get id 5")[2] == (
        "RTNETLINK answers: No such file or directory\n"
    )


def test_flushing_next_hops() -> None:
    recorder = Recorder(*NEXTHOPS)
    assert recorder.shows("nexthop flush") == "Flushed 4 nexthops\n"
    assert recorder.asked[1:] == [Rtm("del", Nexthop(id=number)) for number in (1, 2, 3, 4)]
    assert Recorder().shows("nexthop flush") == "Nothing to flush\n"
    assert request("nexthop flush id 7") == Rtm("del", Nexthop(id=7))
