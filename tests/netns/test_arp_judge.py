"""Whom ARP answers: the same settings and the same questions for the kernel and for ustack, and the same answers.

k0 192.0.2.1/24 ─ p0, where the questions come from        k1 198.51.100.1/24 ─ p1
203.0.113.0/24 by way of 198.51.100.9
"""

from __future__ import annotations

import itertools
import socket
import subprocess
from typing import TYPE_CHECKING, Final

import pytest

from tests.neighbour.lan import FakeDevice
from ustack.packet import Packet
from ustack.stack import Stack
from ustack.wire import arp
from ustack.wire.arp import ARPOP_REPLY, ARPOP_REQUEST
from ustack.wire.ethernet import ETH_BROADCAST, ETH_P_ARP, header
from ustack.wire.ipv4 import addr_to_str, str_to_addr

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ustack.io.host import Namespace

K0_MAC: Final = 0x02_00_00_00_00_10
K1_MAC: Final = 0x02_00_00_00_00_11
ASKER_MAC: Final = 0x02_00_00_00_00_99
#: How long the kernel may be silent before it has said everything, seconds.
QUIET: Final = 0.15

SENDERS: Final = ("192.0.2.9", "198.51.100.77", "203.0.113.5", "0.0.0.0", "127.0.0.9", "192.0.2.255", "224.0.0.5")
TARGETS: Final = (
    "192.0.2.1", "198.51.100.1", "127.0.0.1", "192.0.2.50", "203.0.113.9", "192.0.2.255", "224.0.0.1", "192.0.2.9",
)  # fmt: skip

#: What is set, in this order; every device's proxy_delay is 0.
SETTINGS: Final = (
    "",
    "conf.all.arp_ignore=1",
    "conf.k0.arp_ignore=2",
    "conf.all.arp_ignore=3",
    "conf.all.arp_ignore=5",
    "conf.k0.arp_ignore=8",
    "conf.k0.arp_filter=1",
    "conf.all.rp_filter=1",
    "conf.k0.rp_filter=2",
    "conf.k0.route_localnet=1",
    "conf.k0.drop_gratuitous_arp=1",
    "ip_forward=1",
    "ip_forward=1 conf.k0.proxy_arp=1",
    "ip_forward=1 conf.all.proxy_arp=1 conf.k0.forwarding=0",
    "conf.k0.proxy_arp=1",
    "ip_forward=1 conf.k0.proxy_arp_pvlan=1",
    "ip_forward=1 conf.k0.proxy_arp=1 conf.k0.medium_id=3 conf.k1.medium_id=3",
    "ip_forward=1 conf.k0.proxy_arp=1 conf.k0.medium_id=3 conf.k1.medium_id=4",
    "ip_forward=1 conf.k0.proxy_arp=1 conf.k0.medium_id=-1",
    "ip_forward=1 conf.k0.proxy_arp=1 conf.all.rp_filter=1",
    "ip_forward=1 conf.k0.proxy_arp=1 conf.k0.arp_ignore=8",
)


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, timeout=10, capture_output=True)


@pytest.fixture
def wire(namespace: Namespace) -> Iterator[socket.socket]:
    """p0, with the kernel behind it."""
    for number, mac in ((0, "10"), (1, "11")):
        ip(
            "link",
            "add",
            f"k{number}",
            "address",
            f"02:00:00:00:00:{mac}",
            "type",
            "veth",
            "peer",
            "name",
            f"p{number}",
        )
        for name in (f"k{number}", f"p{number}"):
            ip("link", "set", name, "up")
    ip("address", "add", "192.0.2.1/24", "dev", "k0")
    ip("address", "add", "198.51.100.1/24", "dev", "k1")
    ip("route", "add", "203.0.113.0/24", "via", "198.51.100.9")
    ip("link", "set", "p0", "arp", "off")
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ARP)) as port:
        port.bind(("p0", ETH_P_ARP))
        port.settimeout(QUIET)
        yield port


def settings_of(text: str) -> list[tuple[str, str]]:
    pairs = [part.split("=") for part in text.split()]
    return [("neigh.k0.proxy_delay", "0"), *[(name, value) for name, value in pairs]]


def frames() -> list[bytes]:
    """Every question there is, by broadcast."""
    asked = []
    for sender, target in itertools.product(SENDERS, TARGETS):
        body = arp.emit(ARPOP_REQUEST, ASKER_MAC, str_to_addr(sender), 0, str_to_addr(target))
        asked.append(header(ETH_BROADCAST, ASKER_MAC, ETH_P_ARP) + body)
    return asked


def answers(received: list[bytes]) -> list[str]:
    """The replies among them: who says that what is where, sorted."""
    told = []
    for frame in received:
        said = arp.parse(frame, 14, len(frame))
        assert said is not None
        if said.op == ARPOP_REPLY and said.sha != ASKER_MAC:
            told.append(f"{addr_to_str(said.spa)} is at {said.sha:012x}, told {addr_to_str(said.tpa)}")
    return sorted(told)


def the_kernel(port: socket.socket, text: str) -> list[str]:
    for name, value in settings_of(text):
        with open(f"/proc/sys/net/ipv4/{name.replace('.', '/')}", "w") as file:
            file.write(value)
    for frame in frames():
        port.send(frame)
    received = []
    try:
        while True:
            received.append(port.recv(2000))
    except TimeoutError:
        return answers(received)


def ustack(text: str) -> list[str]:
    stack = Stack(bytes(32))
    k0, k1 = FakeDevice("k0", K0_MAC), FakeDevice("k1", K1_MAC)
    for dev, cidr in ((k0, "192.0.2.1/24"), (k1, "198.51.100.1/24")):
        stack.add_device(dev)
        stack.add_address(cidr, dev)
    stack.add_route("203.0.113.0/24", "198.51.100.9")
    for name, value in settings_of(text):
        stack.sysctl.set(f"net.ipv4.{name}", value)
    k0.frames.clear()
    for frame in frames():
        stack.devices.netif_receive_skb(Packet(frame, k0))
    assert stack.unaccounted() == 0
    return answers(k0.frames)


@pytest.mark.parametrize("text", SETTINGS)
def test_the_same_answers(wire: socket.socket, text: str) -> None:
    theirs = the_kernel(wire, text)
    assert ustack(text) == theirs
    assert theirs or "arp_ignore" in text or "drop" in text
