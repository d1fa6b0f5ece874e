"""Links: what `ip link` shows, changes, and is refused (net/core/rtnetlink.c, net/core/dev.c)."""

from __future__ import annotations

import errno

import pytest

from tests.rtnl.place import ETH0, LO, MAC0, Place, taken
from ustack.device.net_device import IFF_BROADCAST, IFF_LOWER_UP, IFF_MULTICAST, IFF_RUNNING, IFF_UP
from ustack.routing.uapi import NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE
from ustack.rtnl.link import combine_flags
from ustack.rtnl.messages import Link, Objects

ETHER_UP = IFF_UP | IFF_BROADCAST | IFF_MULTICAST | IFF_RUNNING | IFF_LOWER_UP


def link(place: Place, ifindex: int = ETH0) -> Link:
    (shown,) = place.objects("get", Link(ifindex=ifindex))
    return shown


# -- showing


def test_a_dump_shows_every_device_in_the_order_of_ifindex(place: Place) -> None:
    assert [shown.name for shown in place.objects("dump", Link())] == ["lo", "eth0", "eth1"]


def test_a_link_is_shown_with_all_there_is_to_know(place: Place) -> None:
    place.eth0.stats.rx_packets = 7
    shown = link(place)
    assert shown.flags == ETHER_UP
    assert (shown.mtu, shown.txqlen, shown.mac, shown.operstate, shown.qdisc) == (1500, 1000, MAC0, "UP", "pfifo")
    assert (shown.min_mtu, shown.max_mtu, shown.group, shown.carrier) == (68, 65535, 0, True)
    assert shown.stats["rx_packets"] == 7
    assert "tx_dropped" in shown.stats


def test_lo_has_no_queue_and_an_unknown_state(place: Place) -> None:
    shown = link(place, LO)
    assert (shown.qdisc, shown.operstate, shown.mac, shown.txqlen) == ("noqueue", "UNKNOWN", 0, 1000)


def test_a_link_can_be_found_by_its_name(place: Place) -> None:
    assert [shown.ifindex for shown in place.objects("get", Link(name="eth0"))] == [ETH0]


@pytest.mark.parametrize("wanted", [Link(ifindex=99), Link(name="nosuch")])
def test_one_that_is_not_there_is_enodev(place: Place, wanted: Link) -> None:
    assert place.refusal("get", wanted) == (errno.ENODEV, "")
    assert place.refusal("new", wanted) == (errno.ENODEV, "")
    assert place.refusal("del", wanted) == (errno.ENODEV, "")


def test_a_question_that_names_nothing_is_einval(place: Place) -> None:
    assert place.refusal("get", Link()) == (errno.EINVAL, "")


@pytest.mark.parametrize(
    ("wanted", "names"),
    [
        (Link(name="eth1"), ["eth1"]),
        (Link(ifindex=LO), ["lo"]),
        (Link(flags=IFF_BROADCAST, change=IFF_BROADCAST), ["eth0", "eth1"]),
        (Link(flags=0, change=IFF_UP), []),
        (Link(group=0), ["lo", "eth0", "eth1"]),
        (Link(group=5), []),
        (Link(kind="veth"), []),
    ],
)
def test_a_dump_filters(place: Place, wanted: Link, names: list[str]) -> None:
    assert [shown.name for shown in place.objects("dump", wanted)] == names


# -- changing


def test_everything_can_be_set_in_one_message(place: Place) -> None:
    place.do("new", Link(ifindex=ETH0, name="wan", mac=0x02AABBCCDDEE, mtu=1400, txqlen=50, group=7))
    shown = link(place)
    assert (shown.name, shown.mac, shown.mtu, shown.txqlen, shown.group) == ("wan", 0x02AABBCCDDEE, 1400, 50, 7)


def test_down_and_up_again(place: Place) -> None:
    place.do("new", Link(ifindex=ETH0, flags=0, change=IFF_UP))
    assert (link(place).flags, link(place).operstate) == (IFF_BROADCAST | IFF_MULTICAST, "DOWN")
    place.do("new", Link(name="eth0", flags=IFF_UP, change=IFF_UP))
    assert link(place).flags == ETHER_UP


def test_a_link_without_carrier_is_up_but_not_running(place: Place) -> None:
    place.do("new", Link(ifindex=ETH0, carrier=False))
    assert (link(place).flags, link(place).operstate) == (IFF_UP | IFF_BROADCAST | IFF_MULTICAST, "DOWN")
    place.do("new", Link(ifindex=ETH0, carrier=True))
    assert (link(place).flags, link(place).operstate) == (ETHER_UP, "UP")


def test_what_is_not_in_the_message_stays(place: Place) -> None:
    before = link(place)
    place.do("new", Link(ifindex=ETH0))
    assert link(place) == before


def test_flags_without_a_mask_are_all_of_them() -> None:
    assert combine_flags(0b1100, 0b0011, 0) == 0b0011
    assert combine_flags(0b1100, 0b0011, 0b0101) == 0b1001


@pytest.mark.parametrize(
    ("change", "refusal"),
    [
        (Link(ifindex=ETH0, mtu=67), (errno.EINVAL, "mtu less than device minimum")),
        (Link(ifindex=ETH0, mtu=65_536), (errno.EINVAL, "mtu greater than device maximum")),
        (Link(ifindex=ETH0, mtu=(1 << 31) - 1), (errno.EINVAL, "mtu greater than device maximum")),
        (Link(ifindex=ETH0, mtu=1 << 31), (errno.EINVAL, "mtu less than device minimum")),
        (Link(ifindex=ETH0, mtu=-5 & 0xFFFF_FFFF), (errno.EINVAL, "mtu less than device minimum")),
        (Link(ifindex=LO, mtu=-5 & 0xFFFF_FFFF), (errno.EINVAL, "mtu less than device minimum")),
        (Link(ifindex=ETH0, mac=0x010000000000), (errno.EADDRNOTAVAIL, "")),
        (Link(ifindex=ETH0, mac=0), (errno.EADDRNOTAVAIL, "")),
        (Link(ifindex=ETH0, name="eth1"), (errno.EEXIST, "")),
        (Link(ifindex=ETH0, name="a/b"), (errno.EINVAL, "")),
        (Link(ifindex=ETH0, name="x" * 16), (errno.EINVAL, "")),
        (Link(ifindex=LO, carrier=False), (errno.EOPNOTSUPP, "")),
        (Link(ifindex=ETH0, mtu=1 << 32), (errno.ERANGE, "integer out of range")),
        (Link(ifindex=-1), (errno.ERANGE, "integer out of range")),
        (Link(ifindex=ETH0, mac=1 << 48), (errno.ERANGE, "integer out of range")),
    ],
)
def test_what_cannot_be_is_refused_with_the_kernels_words(place: Place, change: Link, refusal: tuple[int, str]) -> None:
    before = place.objects("dump", Link())
    assert place.refusal("new", change) == refusal
    assert place.objects("dump", Link()) == before


def test_devices_are_neither_made_nor_taken_away_here(place: Place) -> None:
    new = Link(name="d0", kind="dummy")
    assert place.refusal("new", new, NLM_F_CREATE | NLM_F_EXCL) == (errno.EOPNOTSUPP, "Unknown device type")
    assert place.refusal("new", Link(name="eth0"), NLM_F_CREATE | NLM_F_EXCL) == (errno.EEXIST, "")
    assert place.refusal("new", Link(name="eth0"), NLM_F_CREATE | NLM_F_REPLACE) == (errno.EOPNOTSUPP, "")
    assert place.refusal("del", Link(name="eth0")) == (errno.EOPNOTSUPP, "")
    assert place.refusal("flush", Link()) == (errno.EOPNOTSUPP, "")


# -- events


def test_every_change_is_told_with_the_device_as_it_is_now(place: Place) -> None:
    watch = place.watch("link")
    place.do("new", Link(ifindex=ETH0, mtu=1400))
    place.do("new", Link(ifindex=ETH0, name="wan"))
    place.do("new", Link(ifindex=ETH0, carrier=False))
    place.do("new", Link(ifindex=ETH0, flags=0, change=IFF_UP))
    told = [event.object for event in taken(watch)]
    assert [(shown.name, shown.mtu, shown.operstate) for shown in told if isinstance(shown, Link)] == [
        ("eth0", 1400, "UP"), ("wan", 1400, "UP"), ("wan", 1400, "DOWN"), ("wan", 1400, "DOWN"),
    ]  # fmt: skip


def test_a_device_that_goes_is_told(place: Place) -> None:
    watch = place.watch("link")
    place.stack.remove_device(place.eth1)
    last = taken(watch)[-1]
    assert last.deleted
    assert isinstance(last.object, Link)
    assert last.object.name == "eth1"
    assert place.ask("dump", Link(name="eth1")) == Objects([])
