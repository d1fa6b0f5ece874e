"""What `ip link set` changes, and who is told in which order (net/core/dev.c, net/core/rtnetlink.c)."""

from __future__ import annotations

import errno

import pytest

from tests.device.support import BROADCAST, OURS, THEIRS, Bench, Wire, frame
from ustack.device.core import (
    NETDEV_CHANGE,
    NETDEV_CHANGE_TX_QUEUE_LEN,
    NETDEV_CHANGEADDR,
    NETDEV_CHANGEMTU,
    NETDEV_CHANGENAME,
    NETDEV_DOWN,
    NETDEV_GOING_DOWN,
    NETDEV_REGISTER,
    NETDEV_UNREGISTER,
    NETDEV_UP,
    NetdevNotifier,
)
from ustack.device.loopback import Loopback
from ustack.device.net_device import (
    IFF_ALLMULTI,
    IFF_BROADCAST,
    IFF_MULTICAST,
    IFF_NOARP,
    IFF_PROMISC,
    IFF_RUNNING,
    IFF_UP,
    NetDevice,
    dev_valid_name,
)
from ustack.drop import Reason
from ustack.net import RTM_DELLINK, RTM_NEWLINK, Net, RtnlWatcher


class Diary(NetdevNotifier):
    """Events in the order they come; flags and carrier as they are then."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.events: list[tuple[str, int, int]] = []

    def netdev_event(self, event: int, dev: NetDevice) -> None:
        self.events.append(("netdev", int(event), int(self.bench.devices.flags_changed)))

    def take(self) -> list[tuple[str, int, int]]:
        events, self.events = self.events, []
        return events


class Listener(RtnlWatcher):
    def __init__(self, diary: Diary) -> None:
        self.diary = diary

    def changed(self, event: int, what: object) -> None:
        assert isinstance(what, NetDevice)
        self.diary.events.append(("rtnl", int(event), int(what.flags & (IFF_UP | IFF_RUNNING))))


class Watched(Bench):
    """The bench, and everybody who listens to it."""

    def __init__(self) -> None:
        super().__init__()
        self.diary = Diary(self)
        self.devices.register_netdevice_notifier(self.diary)
        self.net.rtnl_watchers.append(Listener(self.diary))


LINK_UP = ("rtnl", RTM_NEWLINK, IFF_UP | IFF_RUNNING)
LINK_DOWN = ("rtnl", RTM_NEWLINK, 0)


@pytest.fixture
def bench() -> Watched:
    return Watched()


def netdev(event: int, flags: int = 0) -> tuple[str, int, int]:
    return ("netdev", event, flags)


def refused(call: object, *arguments: object) -> tuple[int | None, str | None]:
    assert callable(call)
    with pytest.raises(OSError) as raised:
        call(*arguments)
    return raised.value.errno, raised.value.strerror


# -- MTU


@pytest.mark.parametrize("mtu", [68, 1400, 65_535])
def test_a_new_mtu(bench: Watched, mtu: int) -> None:
    bench.devices.dev_set_mtu(bench.dev, mtu)
    assert bench.dev.mtu == mtu
    assert bench.diary.take() == [LINK_UP, netdev(NETDEV_CHANGEMTU)]


@pytest.mark.parametrize(
    ("mtu", "text"),
    [
        (67, "mtu less than device minimum"),
        (0, "mtu less than device minimum"),
        (-1, "mtu less than device minimum"),
        (65_536, "mtu greater than device maximum"),
    ],
)
def test_an_mtu_that_the_device_cannot(bench: Watched, mtu: int, text: str) -> None:
    """dev_validate_mtu's words."""
    before = bench.dev.mtu
    assert refused(bench.devices.dev_set_mtu, bench.dev, mtu) == (errno.EINVAL, text)
    assert bench.dev.mtu == before and bench.diary.take() == []


def test_the_same_mtu_is_no_news(bench: Watched) -> None:
    bench.devices.dev_set_mtu(bench.dev, bench.dev.mtu)
    assert bench.diary.take() == []


def test_loopback_takes_any_mtu(bench: Watched) -> None:
    lo = bench.add(Loopback(bench.devices))
    for mtu in (10, 100_000):
        bench.devices.dev_set_mtu(lo, mtu)
        assert lo.mtu == mtu


def test_a_smaller_mtu_is_for_received_frames_too(bench: Watched) -> None:
    bench.devices.dev_set_mtu(bench.dev, 100)
    bench.receive(frame(bytes(104)), frame(bytes(105)))
    assert len(bench.sink.frames()) == 1 and bench.drops.reasons == [Reason.DEV_MALFORMED]


# -- hardware address


def test_a_new_hardware_address(bench: Watched) -> None:
    bench.devices.dev_set_mac_address(bench.dev, THEIRS)
    assert bench.dev.mac == THEIRS
    assert bench.diary.take() == [LINK_UP, netdev(NETDEV_CHANGEADDR)]


@pytest.mark.parametrize("mac", [0, BROADCAST, 0x0100_5E00_0001])
def test_an_address_that_is_no_station_s(bench: Watched, mac: int) -> None:
    """eth_mac_addr."""
    assert refused(bench.devices.dev_set_mac_address, bench.dev, mac)[0] == errno.EADDRNOTAVAIL
    assert bench.dev.mac == OURS and bench.diary.take() == []


# -- name


def test_a_new_name_also_while_it_is_up(bench: Watched) -> None:
    bench.devices.dev_change_name(bench.dev, "wan0")
    assert bench.devices.by_name("wan0") is bench.dev and bench.devices.by_name("eth0") is None
    assert bench.diary.take() == [LINK_UP, netdev(NETDEV_CHANGENAME)]
    bench.devices.dev_change_name(bench.dev, "wan0")
    assert bench.diary.take() == []


def test_a_name_that_another_has(bench: Watched) -> None:
    bench.add(Wire("wire0"))
    bench.diary.take()
    assert refused(bench.devices.dev_change_name, bench.dev, "wire0") == (errno.EEXIST, "File exists")
    assert bench.dev.name == "eth0" and bench.diary.take() == []


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a b", "a:b", "a\tb", "x" * 16, "é" * 8])
def test_what_is_no_name(bench: Watched, name: str) -> None:
    """dev_valid_name: 15 bytes at most."""
    assert not dev_valid_name(name)
    assert refused(bench.devices.dev_change_name, bench.dev, name)[0] == errno.EINVAL


@pytest.mark.parametrize("name", ["a", "x" * 15, "eth0.5", "é" * 7, "..."])
def test_what_is_a_name(name: str) -> None:
    assert dev_valid_name(name)


# -- queue


def test_the_length_of_the_queue(bench: Watched) -> None:
    bench.devices.dev_change_tx_queue_len(bench.dev, 17)
    assert bench.dev.tx_queue_len == 17
    assert bench.diary.take() == [LINK_UP, netdev(NETDEV_CHANGE_TX_QUEUE_LEN)]
    bench.devices.dev_change_tx_queue_len(bench.dev, 17)
    assert bench.diary.take() == []
    for length in (-1, 1 << 32):
        assert refused(bench.devices.dev_change_tx_queue_len, bench.dev, length)[0] == errno.ERANGE


# -- flags


def test_down_and_up(bench: Watched) -> None:
    """__dev_notify_flags: rtnetlink first, then the others."""
    flags = bench.dev.flags
    bench.devices.dev_change_flags(bench.dev, flags & ~IFF_UP)
    assert bench.diary.take() == [netdev(NETDEV_GOING_DOWN), LINK_DOWN, netdev(NETDEV_DOWN)]
    assert not bench.nic.enabled
    bench.devices.dev_change_flags(bench.dev, flags)
    assert bench.diary.take() == [LINK_UP, netdev(NETDEV_UP)]
    assert bench.nic.enabled and bench.dev.flags == flags


def test_dev_open_and_close_are_the_same(bench: Watched) -> None:
    bench.devices.dev_close(bench.dev)
    bench.devices.dev_close(bench.dev)
    bench.devices.dev_open(bench.dev)
    bench.devices.dev_open(bench.dev)
    assert [event[:2] for event in bench.diary.take()] == [
        ("netdev", NETDEV_GOING_DOWN),
        ("rtnl", RTM_NEWLINK),
        ("netdev", NETDEV_DOWN),
        ("rtnl", RTM_NEWLINK),
        ("netdev", NETDEV_UP),
    ]


@pytest.mark.parametrize(
    ("flag", "told"), [(IFF_NOARP, True), (IFF_MULTICAST, True), (IFF_PROMISC, False), (IFF_ALLMULTI, False)]
)
def test_other_flags(bench: Watched, flag: int, told: bool) -> None:
    """NETDEV_CHANGE says which; PROMISC and ALLMULTI are rtnetlink's alone."""
    bench.devices.dev_change_flags(bench.dev, bench.dev.flags ^ flag)
    assert bench.diary.take() == [LINK_UP, *([netdev(NETDEV_CHANGE, flag)] if told else [])]
    assert bench.devices.flags_changed == 0


def test_flags_that_are_not_the_user_s_stay(bench: Watched) -> None:
    before = bench.dev.flags
    bench.devices.dev_change_flags(bench.dev, before ^ (IFF_BROADCAST | IFF_RUNNING | 0x8))
    assert bench.dev.flags == before and bench.diary.take() == []


def test_a_device_that_is_down_changes_without_the_notifiers(bench: Watched) -> None:
    bench.devices.dev_close(bench.dev)
    bench.diary.take()
    bench.devices.dev_change_flags(bench.dev, bench.dev.flags | IFF_NOARP)
    assert bench.diary.take() == [LINK_DOWN] and bench.dev.flags & IFF_NOARP


# -- carrier


def test_the_carrier_comes_and_goes_with_the_link(bench: Watched) -> None:
    """linkwatch_do_dev: NETDEV_CHANGE, then rtnetlink; operstate and IFF_RUNNING follow (rfc2863_policy)."""
    bench.nic.set_link(False)
    assert (bench.dev.carrier, bench.dev.operstate) == (False, "DOWN")
    assert bench.dev.flags & (IFF_UP | IFF_RUNNING) == IFF_UP
    assert bench.diary.take() == [netdev(NETDEV_CHANGE), ("rtnl", RTM_NEWLINK, IFF_UP)]
    assert not bench.send(frame(b"x")) and bench.drops.reasons == [Reason.DEV_DOWN]
    bench.nic.set_link(True)
    assert (bench.dev.carrier, bench.dev.operstate) == (True, "UP") and bench.dev.flags & IFF_RUNNING
    assert bench.diary.take() == [netdev(NETDEV_CHANGE), LINK_UP]
    assert bench.send(frame(b"x"))


def test_the_same_carrier_again_is_no_news(bench: Watched) -> None:
    bench.devices.netif_carrier_on(bench.dev)
    assert bench.diary.take() == []


def test_a_carrier_found_at_opening_is_told_with_it(bench: Watched) -> None:
    bench.devices.dev_close(bench.dev)
    bench.nic.link_up = False
    bench.diary.take()
    bench.devices.dev_open(bench.dev)
    assert bench.diary.take() == [("rtnl", RTM_NEWLINK, IFF_UP), netdev(NETDEV_UP)]
    assert not bench.dev.carrier and bench.dev.operstate == "DOWN"


def test_a_carrier_of_a_device_that_is_down_is_nobody_s_business(bench: Watched) -> None:
    bench.devices.dev_close(bench.dev)
    bench.diary.take()
    bench.devices.netif_carrier_off(bench.dev)
    assert bench.diary.take() == [] and not bench.dev.carrier


def test_loopback_knows_no_link(bench: Watched) -> None:
    """ip link: "state UNKNOWN"."""
    lo = bench.add(Loopback(bench.devices))
    assert (lo.operstate, lo.carrier) == ("UNKNOWN", True) and lo.flags & IFF_RUNNING


# -- coming and going


def test_registering_and_unregistering(bench: Watched) -> None:
    wire = Wire("wire0")
    bench.devices.register_netdevice(wire)
    assert bench.diary.take() == [netdev(NETDEV_REGISTER), LINK_DOWN]
    bench.devices.dev_open(wire)
    bench.diary.take()
    bench.devices.unregister_netdevice(wire)
    assert bench.diary.take() == [
        netdev(NETDEV_GOING_DOWN),
        LINK_DOWN,
        netdev(NETDEV_DOWN),
        netdev(NETDEV_UNREGISTER),
        ("rtnl", RTM_DELLINK, 0),
    ]
    assert bench.devices.by_name("wire0") is None


def test_nobody_needs_to_listen() -> None:
    bench = Bench()
    assert isinstance(bench.net, Net) and bench.net.rtnl_watchers == []
    bench.devices.dev_set_mtu(bench.dev, 1400)
    bench.devices.dev_set_mac_address(bench.dev, THEIRS)
