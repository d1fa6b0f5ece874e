"""ip address and ip link: what is asked for, and how it is printed."""

from __future__ import annotations

import errno
import json

import pytest

from tests.cli.ip.recorder import US0, Recorder, ip, mistake, request
from ustack.routing.uapi import NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE
from ustack.rtnl.messages import Addr, Link, Nack, Rtm

ADD = NLM_F_CREATE | NLM_F_EXCL
LOCAL = ip("192.0.2.2")
PERMANENT, SECONDARY, NOPREFIXROUTE = 0x80, 0x01, 0x200


@pytest.mark.parametrize(
    ("line", "addr"),
    [
        ("192.0.2.2/24 dev us0", Addr(ifindex=2, local=LOCAL, prefixlen=24, scope=0)),
        ("192.0.2.2 dev us0", Addr(ifindex=2, local=LOCAL, scope=0)),
        ("local 192.0.2.2/24 brd + dev us0 label us0:1",
         Addr(ifindex=2, local=LOCAL, prefixlen=24, scope=0, broadcast=ip("192.0.2.255"), label="us0:1")),
        ("192.0.2.2/24 broadcast - dev us0",
         Addr(ifindex=2, local=LOCAL, prefixlen=24, scope=0, broadcast=ip("192.0.2.0"))),
        ("192.0.2.2/31 brd + dev us0", Addr(ifindex=2, local=LOCAL, prefixlen=31, scope=0)),
        ("192.0.2.2/24 b 192.0.2.9 dev us0",
         Addr(ifindex=2, local=LOCAL, prefixlen=24, scope=0, broadcast=ip("192.0.2.9"))),
        ("192.0.2.2 peer 198.51.100.9/30 brd + dev us0",
         Addr(ifindex=2, local=LOCAL, peer=ip("198.51.100.9"), prefixlen=30, scope=0, broadcast=ip("198.51.100.11"))),
        ("192.0.2.2/24 dev us0 scope link metric 50 noprefixroute",
         Addr(ifindex=2, local=LOCAL, prefixlen=24, scope=253, metric=50, flags=NOPREFIXROUTE)),
        ("127.0.0.2/8 dev lo", Addr(ifindex=1, local=ip("127.0.0.2"), prefixlen=8, scope=254)),
        ("192.0.2.2/24 dev us0 valid_lft forever preferred_lft forever",
         Addr(ifindex=2, local=LOCAL, prefixlen=24, scope=0)),
        ("0.0.0.0/0 dev us0", Addr(ifindex=2, local=0, prefixlen=0, scope=0)),
    ],
)  # fmt: skip
def test_adding(line: str, addr: Addr) -> None:
    assert request(f"addr add {line}") == Rtm("new", addr, ADD)
    assert request(f"a change {line}") == Rtm("new", addr, NLM_F_REPLACE)
    assert request(f"address replace {line}") == Rtm("new", addr, NLM_F_CREATE | NLM_F_REPLACE)


def test_deleting() -> None:
    assert request("addr del 192.0.2.2/24 dev us0") == Rtm("del", Addr(ifindex=2, local=LOCAL, prefixlen=24))
    assert request("addr del 192.0.2.2 peer 192.0.2.3 dev us0") == Rtm(
        "del", Addr(ifindex=2, local=LOCAL, peer=ip("192.0.2.3"))
    )


def test_deleting_without_a_length_warns() -> None:
    recorder = Recorder()
    status, out, err = recorder.run("addr del 192.0.2.2 dev us0")
    assert (status, out, err.count("\n")) == (0, "", 4)
    assert err.startswith("Warning: Executing wildcard deletion") and "(192.0.2.2/32)" in err
    assert recorder.asked == [Rtm("del", Addr(ifindex=2, local=LOCAL, wildcard=True))]


@pytest.mark.parametrize(
    ("line", "status", "err"),
    [
        ("192.0.2.2/24", 1, 'Not enough information: "dev" argument is required.\n'),
        ("192.0.2.2/24 dev us9", 1, 'Cannot find device "us9"\n'),
        ("192.0.2.2/33 dev us0", 1, "any valid prefix is expected"),
        ("192.0.2.2/24 192.0.2.3/24 dev us0", 255, 'either "local" is duplicate'),
        ("192.0.2.2/24 dev us0 scope x", 255, "invalid scope value."),
        ("192.0.2.2/24 dev us0 metric x", 255, '"metric" value is invalid'),
        ("192.0.2.2/24 dev us0 brd x", 1, "inet address is expected"),
        ("192.0.2.2/24 dev us0 brd + brd -", 255, 'duplicate "broadcast"'),
        ("192.0.2.2/24 peer 192.0.2.3 peer 192.0.2.4 dev us0", 255, 'duplicate "peer"'),
        ("192.0.2.2/24 dev us0 valid_lft 0", 1, "valid_lft is zero\n"),
        ("192.0.2.2/24 dev us0 valid_lft x", 255, "valid_lft value"),
        ("192.0.2.2/24 dev us0 valid_lft 5 preferred_lft 6", 1, "preferred_lft is greater than valid_lft\n"),
        ("192.0.2.2/24 dev us0 valid_lft 6 preferred_lft 5", 2, "Operation not supported"),
        ("dev us0", 2, "Operation not supported"),
        ("default dev us0", 2, "Operation not supported"),
    ],
)
def test_mistakes(line: str, status: int, err: str) -> None:
    found, said = mistake(f"addr add {line}")
    assert found == status and err in said


def test_what_is_for_ipv6_only_warns() -> None:
    status, _, err = Recorder().run("addr add 192.0.2.2/24 dev us0 nodad tentative")
    assert status == 0 and err == (
        "Warning: nodad option can be set only for IPv6 addresses\n"
        "Warning: tentative option is not mutable from userspace\n"
    )


ADDRS = [
    Addr(ifindex=1, local=ip("127.0.0.1"), prefixlen=8, scope=254, label="lo", flags=PERMANENT),
    Addr(ifindex=2, local=LOCAL, prefixlen=24, broadcast=ip("192.0.2.255"), scope=0, label="us0", flags=PERMANENT),
    Addr(ifindex=2, local=ip("192.0.2.3"), prefixlen=24, scope=0, label="us0:1", flags=PERMANENT | SECONDARY),
    Addr(ifindex=2, local=ip("203.0.113.1"), peer=ip("203.0.113.2"), prefixlen=32, scope=253, label="us0",
         flags=PERMANENT | NOPREFIXROUTE, metric=50),
]  # fmt: skip
HEAD = "2: us0: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1500 qdisc pfifo state UP group default qlen 1000\n"
MAC = "    link/ether 02:00:00:00:00:01 brd ff:ff:ff:ff:ff:ff\n"
LIFE = "       valid_lft forever preferred_lft forever\n"


def test_showing() -> None:
    recorder = Recorder(*ADDRS)
    assert recorder.shows("addr show us0") == (
        f"{HEAD}{MAC}    inet 192.0.2.2/24 brd 192.0.2.255 scope global us0\n{LIFE}"
        f"    inet 192.0.2.3/24 scope global secondary us0:1\n{LIFE}"
        f"    inet 203.0.113.1 peer 203.0.113.2/32 metric 50 scope link noprefixroute us0\n{LIFE}"
    )
    assert recorder.shows("a s us0 to 203.0.113.0/24") == (
        f"{HEAD}    inet 203.0.113.1 peer 203.0.113.2/32 metric 50 scope link noprefixroute us0\n{LIFE}"
    )
    assert recorder.shows("-o addr show us0 secondary") == (
        "2: us0    inet 192.0.2.3/24 scope global secondary us0:1\\" + LIFE
    )
    assert recorder.shows("addr show label us0:*") == f"    inet 192.0.2.3/24 scope global secondary us0:1\n{LIFE}"
    assert recorder.shows("-br addr") == (
        "lo               UNKNOWN        127.0.0.1/8 \n"
        "us0              UP             192.0.2.2/24 192.0.2.3/24 203.0.113.1 peer 203.0.113.2/32 metric 50 \n"
        "us1              DOWN           \n"
    )
    assert recorder.shows("-4 -br addr show up").count("\n") == 2
    assert recorder.shows("-6 addr") == ""


def test_addresses_with_a_lifetime_would_be_dynamic() -> None:
    assert "scope global dynamic us0" in Recorder(Addr(ifindex=2, local=LOCAL, label="us0")).shows("addr show us0")


def test_showing_in_json() -> None:
    found = json.loads(Recorder(*ADDRS).shows("-j addr"))
    assert [link["ifname"] for link in found] == ["lo", "us0", "us1"]
    assert found[2]["addr_info"] == []
    assert found[1]["addr_info"][2] == {
        "family": "inet", "local": "203.0.113.1", "address": "203.0.113.2", "prefixlen": 32, "metric": 50,
        "scope": "link", "noprefixroute": True, "label": "us0", "valid_life_time": 4294967295,
        "preferred_life_time": 4294967295,
    }  # fmt: skip
    assert json.loads(Recorder(*ADDRS).shows("-br -j addr show us0"))[0]["addr_info"][0] == {
        "local": "192.0.2.2", "prefixlen": 24,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("line", "count"),
    [
        ("scope global", 2), ("scope host", 1), ("scope all", 4), ("primary", 3), ("secondary", 1), ("-secondary", 3),
        ("permanent", 4), ("dynamic", 0), ("noprefixroute", 1), ("label nothing", 0), ("to 127.0.0.0/8", 1), ("up", 4),
        ("type tun", 3), ("type dummy", 0), ("nomaster", 4), ("group default", 4), ("master us1", 0),
    ],
)  # fmt: skip
def test_choosing(line: str, count: int) -> None:
    assert Recorder(*ADDRS).shows(f"addr show {line}").count(" inet ") == count


def test_flushing() -> None:
    recorder = Recorder(*ADDRS)
    assert recorder.shows("-s -s addr flush dev us0 scope link") == (
        f"2: us0    inet 203.0.113.1 peer 203.0.113.2/32 metric 50 scope link noprefixroute us0\n{LIFE}"
        "\n*** Round 1, deleting 1 addresses ***\n*** Flush is complete after 1 round ***\n"
    )
    assert recorder.asked[1:] == [Rtm("del", ADDRS[3])]
    assert recorder.shows("-s addr flush label none") == "Nothing to flush.\n"
    assert mistake("addr flush") == (1, "Flush requires arguments.\n")
    assert mistake("addr flush dev us9") == (1, 'Device "us9" does not exist.\n')


# -- links


@pytest.mark.parametrize(
    ("line", "link"),
    [
        ("us0 up", Link(ifindex=2, flags=1, change=1)),
        ("dev us0 down mtu 1400", Link(ifindex=2, flags=0, change=1, mtu=1400)),
        ("us0 address 02:00:00:00:00:09", Link(ifindex=2, flags=0, mac=0x020000000009)),
        ("us0 name eth7 txqueuelen 5", Link(ifindex=2, flags=0, name="eth7", txqlen=5)),
        ("us0 qlen 5", Link(ifindex=2, flags=0, txqlen=5)),
        ("us0 qlen -5", Link(ifindex=2, flags=0, txqlen=(1 << 32) - 5)),
        ("us0 mtu -2147483648", Link(ifindex=2, flags=0, mtu=1 << 31)),
        ("us0 promisc on arp off multicast off allmulticast on trailers on",
         Link(ifindex=2, flags=0x100 | 0x80 | 0x200, change=0x100 | 0x80 | 0x1000 | 0x200 | 0x20)),
        ("us0 up down", Link(ifindex=2, flags=0, change=1)),
        ("us0", Link(ifindex=2, flags=0)),
        ("us0 master us1", Link(ifindex=2, flags=0, master=3)),
        ("us0 nomaster up", Link(ifindex=2, flags=1, change=1, master=0)),
    ],
)  # fmt: skip
def test_setting(line: str, link: Link) -> None:
    assert request(f"link set {line}") == Rtm("new", link)


@pytest.mark.parametrize(
    ("line", "status", "err"),
    [
        ("set", 255, 'Not enough information: "dev" argument is required.\n'),
        ("set up", 255, '"dev" argument is required'),
        ("set us9 up", 1, 'Cannot find device "us9"\n'),
        ("set us0 mtu x", 255, 'Invalid "mtu" value'),
        ("set us0 mtu 1 mtu 2", 255, 'duplicate "mtu": "2" is the second value.'),
        ("set us0 txqueuelen x", 255, 'Invalid "txqueuelen" value'),
        ("set us0 address 02:00", 1, "Invalid address length 2 - must be 6 bytes\n"),
        ("set us0 name x/y", 255, '"name" not a valid ifname'),
        ("set us0 name fifteen-letters", 0, ""),
        ("set us0 name a-name-of-16-chr", 255, '"name" not a valid ifname'),
        ("set us0 arp maybe", 1, 'argument of "arp" must be "on" or "off", not "maybe"'),
        ("set us0 us1", 255, 'either "dev" is duplicate, or "us1" is a garbage'),
        ("set us0 master us9", 255, 'argument "us9" is wrong: Device does not exist'),
        ("set us0 type bridge", 2, "Operation not supported"),
        ("add br0 type bridge stp_state 1", 2, "Operation not supported"),
        ("add a/b type bridge", 255, '"dev" not a valid ifname'),
        ("add foo", 1, 'Not enough information: "type" argument is required\n'),
        ("add foo type dummy", 2, "Operation not supported"),
        ("show us9", 1, 'Device "us9" does not exist.\n'),
        ("show us0 us1", 255, 'either "dev" is duplicate'),
        ("show master us9", 255, "Device does not exist"),
        ("show vrf x", 255, "Not a valid VRF name"),
        ("show group x", 255, 'Invalid "group" value'),
    ],
)
def test_mistakes_with_links(line: str, status: int, err: str) -> None:
    found, out, said = Recorder().run(f"link {line}")
    assert (found, out) == (status, "") and err in said


def test_links() -> None:
    assert Recorder().shows("link") == (
        "1: lo: <LOOPBACK,UP,LOWER_UP> mtu 65536 qdisc noqueue state UNKNOWN mode DEFAULT group default qlen 1000\n"
        "    link/loopback 00:00:00:00:00:00 brd 00:00:00:00:00:00\n"
        + HEAD.replace("group", "mode DEFAULT group") + MAC
        + "3: us1: <NO-CARRIER,BROADCAST,MULTICAST,UP> mtu 1500 qdisc pfifo state DOWN mode DEFAULT group default"
        " qlen 1000\n" + MAC.replace(":01 ", ":02 ")
    )  # fmt: skip
    assert Recorder().shows("-br link show up") == (
        "lo               UNKNOWN        00:00:00:00:00:00 <LOOPBACK,UP,LOWER_UP> \n"
        "us0              UP             02:00:00:00:00:01 <BROADCAST,MULTICAST,UP,LOWER_UP> \n"
        "us1              DOWN           02:00:00:00:00:02 <NO-CARRIER,BROADCAST,MULTICAST,UP> \n"
    )
    assert Recorder().shows("-j link show type dummy") == "[{},{},{}]\n"
    assert json.loads(Recorder().shows("-j -d link show us0"))[0]["linkinfo"] == {"info_kind": "tun"}
    assert " promiscuity 0  allmulti 0 minmtu 0 maxmtu 0 \n    tun \n" in Recorder().shows("-d link show us0")


def test_counters_widen_their_columns() -> None:
    stats = {"rx_bytes": 123_456_789_012, "rx_packets": 7, "tx_packets": 12_345_678, "rx_missed_errors": 3}
    link = Link(ifindex=9, name="big", flags=0, mtu=1500, mac=1, stats=stats, operstate="DOWN")
    assert Recorder(link).shows("-s link show if9").splitlines()[2:] == [
        "    RX:    bytes  packets errors dropped  missed   mcast           ",
        "    123456789012        7      0       0       3       0 ",
        "    TX:    bytes  packets errors dropped carrier collsns           ",
        "               0 12345678      0       0       0       0 ",
    ]
    assert Recorder(link).shows("-s -s link show if9").splitlines()[4:6] == [
        "    RX errors:     length    crc   frame    fifo overrun",
        "                        0      0       0       0       0 ",
    ]
    document = json.loads(Recorder(link).shows("-s -j link show if9"))[0]["stats64"]
    assert document["rx"]["bytes"] == 123_456_789_012 and document["tx"]["carrier_errors"] == 0


def test_a_refusal_in_the_middle_of_a_flush() -> None:
    class Stubborn(Recorder):
        def ask(self, request: object) -> object:  # type: ignore[override]
            if isinstance(request, Rtm) and request.verb == "del":
                return Nack(errno.EADDRNOTAVAIL)
            return super().ask(request)  # type: ignore[arg-type]

    assert Stubborn(*ADDRS).shows("-s addr flush dev us0").startswith("\n*** Round 1, deleting 3 addresses")


def test_a_device_by_its_number() -> None:
    assert US0.ifindex == 2
    assert request("addr add 192.0.2.2/24 dev if2").object == Addr(ifindex=2, local=LOCAL, prefixlen=24, scope=0)
