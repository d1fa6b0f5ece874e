"""Bridges over rtnetlink: made, given ports, shown, taken away (br_netlink.c, do_set_master, br_fdb_dump)."""

from __future__ import annotations

import errno
import io

import pytest

from tests.rtnl.place import ADD, ETH0, ETH1, LO, MAC0, MAC1, Place, taken
from ustack.cli.ip.run import run
from ustack.cli.ip.transport import DirectTransport
from ustack.device.bridge import Bridge
from ustack.device.net_device import IFF_UP
from ustack.neighbour.states import NUD_PERMANENT, NUD_REACHABLE, NUD_STALE
from ustack.packet import Packet
from ustack.rtnl.messages import Fdb, Link
from ustack.wire.ethernet import header

BR0 = 4
STATION = 0x0200_0000_0099


def bridged(place: Place) -> Bridge:
    """br0, up, with eth0 and eth1."""
    place.do("new", Link(name="br0", kind="bridge", flags=IFF_UP, change=IFF_UP), ADD)
    for ifindex in (ETH0, ETH1):
        place.do("new", Link(ifindex=ifindex, master=BR0))
    (bridge,) = [dev for dev in place.stack.devices.all() if isinstance(dev, Bridge)]
    return bridge


def link(place: Place, ifindex: int) -> Link:
    (shown,) = place.objects("get", Link(ifindex=ifindex))
    return shown


def test_a_bridge_is_made_with_what_it_is_told(place: Place) -> None:
    place.do("new", Link(name="br7", kind="bridge", mac=STATION, mtu=1400), ADD)
    shown = link(place, BR0)
    assert (shown.name, shown.kind, shown.mac, shown.mtu, shown.operstate, shown.qdisc) == (
        "br7", "bridge", STATION, 1400, "DOWN", "noqueue",
    )  # fmt: skip
    assert shown.flags is not None and shown.flags & IFF_UP == 0
    place.do("new", Link(ifindex=ETH0, master=BR0))
    assert (link(place, BR0).mac, link(place, BR0).mtu) == (STATION, 1400)


def test_ports_show_their_master_and_that_they_hear_everything(place: Place) -> None:
    bridged(place)
    assert [(shown.name, shown.master, shown.promiscuity) for shown in place.objects("dump", Link())] == [
        ("lo", None, 0), ("eth0", BR0, 1), ("eth1", BR0, 1), ("br0", None, 0),
    ]  # fmt: skip
    assert link(place, BR0).mac == MAC0
    assert [shown.name for shown in place.objects("dump", Link(master=BR0))] == ["eth0", "eth1"]
    place.do("new", Link(ifindex=ETH0, master=0))
    assert (link(place, ETH0).master, link(place, ETH0).promiscuity, link(place, BR0).mac) == (None, 0, MAC1)


@pytest.mark.parametrize(
    ("change", "refusal"),
    [
        (Link(ifindex=ETH0, master=99), (errno.EINVAL, "")),
        (Link(ifindex=ETH0, master=ETH1), (errno.EOPNOTSUPP, "")),
        (Link(ifindex=LO, master=BR0), (errno.EINVAL, "")),
        (Link(ifindex=BR0, master=BR0), (errno.ELOOP, "Can not enslave a bridge to a bridge")),
    ],
)
def test_what_cannot_be_a_port(place: Place, change: Link, refusal: tuple[int, str]) -> None:
    place.do("new", Link(name="br0", kind="bridge"), ADD)
    assert place.refusal("new", change) == refusal


@pytest.mark.parametrize(
    ("new", "refusal"),
    [
        (Link(name="eth0", kind="bridge"), (errno.EEXIST, "")),
        (Link(name="", kind="bridge"), (errno.EINVAL, "")),
        (Link(name="a/b", kind="bridge"), (errno.EINVAL, "")),
        (Link(name="br0", kind="bridge", mac=1 << 40), (errno.EADDRNOTAVAIL, "")),
        (Link(name="br0", kind="bridge", mtu=20), (errno.EINVAL, "mtu less than device minimum")),
        (Link(name="br0", kind="bond"), (errno.EOPNOTSUPP, "Unknown device type")),
    ],
)
def test_what_cannot_be_made_leaves_nothing(place: Place, new: Link, refusal: tuple[int, str]) -> None:
    before = [shown.name for shown in place.objects("dump", Link())]
    assert place.refusal("new", new, ADD) == refusal
    assert [shown.name for shown in place.objects("dump", Link())] == before


def test_a_bridge_is_taken_away_and_leaves_its_ports(place: Place) -> None:
    bridged(place)
    place.do("del", Link(ifindex=BR0))
    assert [(shown.name, shown.master) for shown in place.objects("dump", Link())] == [
        ("lo", None), ("eth0", None), ("eth1", None),
    ]  # fmt: skip


def test_a_new_master_is_told(place: Place) -> None:
    watch = place.watch("link")
    bridged(place)
    told = [(event.object.name, event.object.master) for event in taken(watch) if isinstance(event.object, Link)]
    assert ("eth0", BR0) in told and ("eth1", BR0) in told and told[0] == ("br0", None)


def learned(place: Place) -> None:
    """STATION has been heard at eth1."""
    packet = Packet(header(0x0200_0000_0077, STATION, 0x0800) + bytes(46), place.eth1)
    place.stack.devices.netif_receive_skb(packet)


def test_the_stations_that_are_known(place: Place) -> None:
    bridge = bridged(place)
    learned(place)
    place.stack.net.now += 10 * 10**9
    assert [(e.mac, e.ifindex, e.state, e.updated) for e in place.objects("dump", Fdb())] == [
        (MAC0, ETH0, NUD_PERMANENT, 10),
        (MAC1, ETH1, NUD_PERMANENT, 10),
        (STATION, ETH1, NUD_REACHABLE, 10),
    ]
    place.stack.net.now += 300 * 10**9
    assert [e.state for e in place.objects("dump", Fdb(ifindex=ETH1))] == [NUD_PERMANENT, NUD_STALE]
    assert place.objects("dump", Fdb(master=ETH0)) == []
    assert place.refusal("get", Fdb()) == (errno.EOPNOTSUPP, "")
    assert bridge.fdb.n_learned == 1


def test_all_of_it_in_the_words_of_ip(place: Place) -> None:
    def ip(line: str) -> tuple[int, str, str]:
        out, err = io.StringIO(), io.StringIO()
        status = run(line.split(), DirectTransport(place.rtnetlink), out, err)
        return status, out.getvalue(), err.getvalue()

    for line in ("link add br0 type bridge", "link set eth0 master br0", "link set eth1 master br0 up",
                 "link set br0 up"):  # fmt: skip
        assert ip(line) == (0, "", "")
    status, shown, _ = ip("-o link show master br0")
    assert status == 0
    assert [line.split()[1] for line in shown.splitlines()] == ["eth0:", "eth1:"]
    assert " qdisc pfifo master br0 state UP " in shown
    assert ip("link add br0 type bridge") == (2, "", "RTNETLINK answers: File exists\n")
    assert ip("link set eth0 nomaster") == (0, "", "")
    assert [line.split()[1] for line in ip("-o link show nomaster")[1].splitlines()] == ["lo:", "eth0:", "br0:"]
    assert " promiscuity 1 " in ip("-d link show eth1")[1]
    assert ip("link del br0") == (0, "", "")
    assert ip("link del eth0") == (2, "", "RTNETLINK answers: Operation not supported\n")
