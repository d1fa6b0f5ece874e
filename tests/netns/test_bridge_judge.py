"""Our bridge and the kernel's get the same frames: the same ports send them on, and the same stations are known."""

from __future__ import annotations

import contextlib
import json
import os
import random
import socket
from typing import TYPE_CHECKING, Final

import pytest

from tests.device.support import frame
from tests.device.test_bridge import PORT, Switch
from tests.netns.programs import output

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ustack.io.host import Namespace

PORTS: Final = 3
FRAMES: Final = 400
#: For experiments (IEEE 802): nobody in the kernel speaks it, and what else is on the wire is told apart by it.
ETHERTYPE: Final = 0x88B5
PACKET_OUTGOING: Final = 4
STATIONS: Final = [0x0200_0000_00A0 + n for n in range(6)]
OTHERS: Final = [
    0xFFFF_FFFF_FFFF, 0x0100_5E00_0005, 0x0300_0000_0001, PORT, PORT + 1, PORT + 2,
    0x0180_C200_0000, 0x0180_C200_0001, 0x0180_C200_0002, 0x0180_C200_000E, 0x0180_C200_000F, 0x0180_C200_0010,
]  # fmt: skip
BAD_SOURCES: Final = [0, 0xFFFF_FFFF_FFFF, 0x0100_5E00_0005, PORT, PORT + 1]


class KernelBridge:
    """br0 of the namespace with three veth pairs; we hold the far ends."""

    def __init__(self) -> None:
        output("ip", "link", "add", "br0", "type", "bridge", "mcast_snooping", "0")
        self.sockets: list[socket.socket] = []
        for number in range(PORTS):
            near = f"{PORT + number:012x}"
            mac = ":".join(near[at : at + 2] for at in range(0, 12, 2))
            output("ip", "link", "add", f"eth{number}", "address", mac, "type", "veth", "peer", "name", f"far{number}")
            output("ip", "link", "set", f"eth{number}", "master", "br0", "up")
            output("ip", "link", "set", f"far{number}", "up")
            raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETHERTYPE))
            raw.bind((f"far{number}", ETHERTYPE))
            raw.setblocking(False)
            self.sockets.append(raw)
        output("ip", "link", "set", "br0", "up")

    def send(self, port: int, data: bytes) -> list[bool]:
        """Which ports send ``data`` on when it comes in at ``port``: veth and bridge work before send returns."""
        self.sockets[port].send(data)
        return [self._got(raw, data) for raw in self.sockets]

    def _got(self, raw: socket.socket, data: bytes) -> bool:
        while True:
            try:
                found, where = raw.recvfrom(2048)
            except BlockingIOError:
                return False
            if found == data and where[2] != PACKET_OUTGOING:
                return True

    def where(self) -> dict[int, str]:
        """The stations that it knows, and their ports."""
        entries = json.loads(output("bridge", "-j", "fdb", "show", "br", "br0"))
        return {
            int(entry["mac"].replace(":", ""), 16): entry["ifname"]
            for entry in entries
            if entry.get("state") != "permanent" and entry.get("master") == "br0"
        }

    def close(self) -> None:
        for raw in self.sockets:
            raw.close()


@pytest.fixture
def kernel(namespace: Namespace) -> Iterator[KernelBridge]:
    """On one processor, so that what was sent has arrived."""
    processors = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(processors)})
    try:
        with contextlib.closing(KernelBridge()) as bridge:
            yield bridge
    except AssertionError as reason:
        if "Unknown device type" in str(reason) or "not supported" in str(reason):
            pytest.skip("this kernel has no bridges")
        raise
    finally:
        os.sched_setaffinity(0, processors)


@pytest.mark.parametrize("seed", range(3))
def test_the_same_frames_leave_by_the_same_ports(kernel: KernelBridge, seed: int) -> None:
    chance = random.Random(seed)
    ours = Switch(PORTS)
    for number in range(FRAMES):
        port = chance.randrange(PORTS)
        source = chance.choice(STATIONS if chance.random() < 0.9 else BAD_SOURCES)
        target = chance.choice(STATIONS if chance.random() < 0.6 else OTHERS)
        data = frame(number.to_bytes(4, "big").ljust(46, b"."), target, source, ETHERTYPE)
        ours.receive(port, data)
        left = [sent == [data] for sent in ours.sent()]
        assert kernel.send(port, data) == left, f"frame {number} from {source:012x} to {target:012x} at port {port}"
    assert kernel.where() == ours.where()


def test_a_port_that_goes_down_and_one_that_leaves(kernel: KernelBridge) -> None:
    ours = Switch(PORTS)
    for number, station in enumerate(STATIONS):
        data = frame(bytes(46), 0xFFFF_FFFF_FFFF, station, ETHERTYPE)
        kernel.send(number % PORTS, data)
        ours.receive(number % PORTS, data)
    assert kernel.where() == ours.where()
    output("ip", "link", "set", "eth0", "down")
    ours.devices.dev_close(ours.wires[0])
    assert kernel.where() == ours.where()
    output("ip", "link", "set", "eth1", "nomaster")
    ours.bridges.set_master(ours.wires[1], None)
    assert kernel.where() == ours.where() == {STATIONS[2]: "eth2", STATIONS[5]: "eth2"}
