"""Frames across real e1000 cards, driven by the kernel's own driver: bridged to the stack's TAP.

test's namespace, 192.0.2.1 e1000 ── one wire ── e1000 ── br0 in ``middle`` ── us0 ── the stack, 192.0.2.2

USTACK_WIRE names the two cards, which must have nothing else to do: the machine of vagrant/ has them. Emulated ones are
real enough to put checksums into frames and to cut segments, by the driver that ustack/device/e1000.py is like.
"""

from __future__ import annotations

import os
import select
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from tests.netns.daemon import HOST, PATIENCE, SERVICES, RunningDaemon
from tests.netns.programs import need, output, status_of
from tests.netns.test_offload import datagrams, nothing_was_wrong, transfer
from tests.netns.test_ping import answered, ping
from ustack.io.host import Host, Namespace, write_sysctl

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.vm

BULK: Final = 400_000
FEATURES: Final = ("rx", "tx", "sg", "tso", "gso", "gro")


def cards() -> list[str]:
    names = os.environ.get("USTACK_WIRE", "").split()
    if len(names) != 2:
        pytest.skip("USTACK_WIRE does not name the two e1000 at the ends of a wire")
    for name in names:
        driver = Path(f"/sys/class/net/{name}/device/driver")
        if driver.resolve().name != "e1000":
            pytest.skip(f"{name} is no e1000")
    return names


class Wire:
    """The near card is in the test's namespace, the far one in the middle, under a bridge."""

    def __init__(self, near: str, far: str, namespace: Namespace) -> None:
        self.near, self.far = near, far
        self.namespace = namespace
        self.machine = Namespace(os.open("/proc/1/ns/net", os.O_RDONLY | os.O_CLOEXEC))
        self.middle = Namespace.create()

    def lay(self) -> None:
        with self.machine, Host() as host:
            host.move_link(self.near, self.namespace)
            host.move_link(self.far, self.middle)
        with Host() as host:
            host.add_address(self.near, f"{HOST}/24")
        with self.middle, Host() as host:
            for where in ("all", "default"):
                write_sysctl(f"net.ipv6.conf.{where}.disable_ipv6", "1")
            output("ip", "link", "add", "br0", "type", "bridge")
            output("ip", "link", "set", self.far, "master", "br0")
            host.set_link("br0", up=True)

    def take_back(self) -> None:
        for name, place in ((self.near, self.namespace), (self.far, self.middle)):
            with place, Host() as host:
                if host.has_link(name):
                    output("ethtool", "-K", name, "rx", "on", "tx", "on", "sg", "on", "tso", "on", "gso", "on")
                    host.move_link(name, self.machine)
        self.middle.close()
        self.machine.close()

    def set_features(self, on: bool) -> None:
        """Checksums and segmentation, by both cards or by neither; then the wire is up again."""
        words = [word for feature in FEATURES for word in (feature, "on" if on else "off")]
        for name, place in ((self.near, self.namespace), (self.far, self.middle)):
            with place, Host() as host:
                output("ethtool", "-K", name, *words)
                host.set_link(name, up=True)
        self.await_carrier()

    def await_carrier(self) -> None:
        until = time.monotonic() + PATIENCE
        for name, place in ((self.near, self.namespace), (self.far, self.middle)):
            with place, Host() as host:
                while host.link(name)["operstate"] != "UP":
                    assert time.monotonic() < until, f"{name} has no carrier"
                    select.select([], [], [], 0.05)

    def daemon(self, directory: Path, *options: str) -> RunningDaemon:
        """Its TAP's host side has an address, which a port of a bridge has no use for."""
        with self.middle:
            daemon = RunningDaemon(directory, "--serve", SERVICES, *options, host_addr="203.0.113.1/24")
        return daemon

    def bridge(self) -> None:
        with self.middle:
            output("ip", "link", "set", "us0", "master", "br0")

    def frames(self) -> tuple[int, int]:
        """(sent, received) by the near card."""
        with Host() as host:
            stats = host.link(self.near)["stats"]
        assert (stats["rx_errors"], stats["tx_errors"]) == (0, 0), stats
        return stats["tx_packets"], stats["rx_packets"]


@pytest.fixture
def wire(namespace: Namespace) -> Iterator[Wire]:
    need("ethtool")
    near, far = cards()
    wire = Wire(near, far, namespace)
    try:
        wire.lay()
        yield wire
    finally:
        wire.take_back()


@pytest.mark.parametrize("options", [(), ("--no-offload",)], ids=["offload", "plain"])
@pytest.mark.parametrize("features", [True, False], ids=["card-sums", "kernel-sums"])
def test_everything_crosses_the_cards(wire: Wire, tmp_path: Path, features: bool, options: tuple[str, ...]) -> None:
    """Whoever computes checksums and cuts segments, at either end of the wire."""
    wire.set_features(features)
    with wire.daemon(tmp_path, *options) as daemon:
        wire.bridge()
        before = wire.frames()
        assert answered(ping("-c", "5", "-s", "1472", "-M", "do")) == (5, 5)
        assert answered(ping("-c", "3", "-s", "4000")) == (3, 3)
        datagrams()
        transfer(BULK)
        after = wire.frames()
        nothing_was_wrong(daemon)
        status = status_of(daemon)
    assert status["counters"]["Icmp.InEchos"] == 8
    assert status["counters"]["Udp.InDatagrams"] == 8
    # each way BULK bytes in segments of 1,460 at most: the card counts those that it cuts itself (e1000_clean_tx_irq)
    least = BULK // 1460
    assert min(new - old for new, old in zip(after, before, strict=True)) >= least
