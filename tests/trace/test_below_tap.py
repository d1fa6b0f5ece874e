"""The first step of a packet and its last: read from the TAP's descriptor, written to it."""

from __future__ import annotations

import errno
import socket
from typing import TYPE_CHECKING

import pytest

from tests.trace.below import OUR_MAC, PEER, PEER_MAC, echo, ip, names
from tests.trace.watch import Watch, step
from ustack.device.e1000 import E1000
from ustack.device.net_device import ETH_DATA_LEN
from ustack.device.ring import NicRegisters
from ustack.io.tap import FramePort, TapNic
from ustack.stack import Stack
from ustack.trace.journey import DELIVERED, DROPPED, SENT
from ustack.trace.points import Point
from ustack.wire.ipv4 import str_to_addr

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ustack.packet import Buffer

VNET_HDR = bytes(10)


class Port(FramePort):
    """One that can be made to fail."""

    def __init__(self, fd: int, vnet_hdr_len: int) -> None:
        super().__init__(fd, vnet_hdr_len, 65_600)
        self.failure = 0

    def write(self, pieces: list[Buffer]) -> int:
        return self.failure or super().write(pieces)


class Bench:
    """A stack behind a descriptor; a socket that keeps boundaries stands for the TAP."""

    def __init__(self, vnet_hdr_len: int, mtu: int = ETH_DATA_LEN) -> None:
        self.near, self.far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.near.setblocking(False)
        self.stack = Stack(bytes(16))
        nic = NicRegisters(64)
        self.dev = E1000(self.stack.devices, "us0", OUR_MAC, nic, mtu)
        self.stack.add_device(self.dev)
        self.stack.add_address("192.0.2.1/24", self.dev)
        self.stack.neighbours.neigh_add(str_to_addr(PEER), self.dev, PEER_MAC)
        self.port = Port(self.near.fileno(), vnet_hdr_len)
        self.hardware = TapNic(self.port, nic, self.dev.stats, net=self.stack.net)
        self.hardware.transmit()  # the announcement

    def cross(self, frame: bytes) -> None:
        self.far.send(frame)
        self.hardware.receive()
        while self.stack.poll(0):
            pass
        self.hardware.transmit()

    def close(self) -> None:
        self.near.close()
        self.far.close()


@pytest.fixture(params=[0, 10])
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    made = Bench(request.param)
    yield made
    made.close()


def test_in_and_out(bench: Bench) -> None:
    header = bytes(int(bench.port.vnet_hdr_len))
    with Watch(a=bench.stack) as watch:
        bench.cross(header + ip(1, echo()))
        watch.end()
        request, reply = watch.one("echo request"), watch.one("echo reply")
        assert names(request)[:3] == ["TAP_READ", "E1000_CLEAN_RX_IRQ", "NETIF_RECEIVE_SKB"]
        read = step(request, Point.TAP_READ)
        assert read.decision == "read" and read.facts["length"] == 48
        assert read.facts.get("virtio_net_hdr") == (header.hex() if header else None)
        assert request.outcome == DELIVERED and reply.cause == request.ident
        assert names(reply)[-2:] == ["E1000_XMIT_FRAME", "TAP_WRITE"]
        written = step(reply, Point.TAP_WRITE)
        assert (written.decision, written.facts["length"], reply.outcome) == ("written", 48, SENT)


def test_what_the_kernel_does_not_take(bench: Bench) -> None:
    header = bytes(int(bench.port.vnet_hdr_len))
    with Watch(a=bench.stack) as watch:
        bench.port.failure = errno.EAGAIN
        bench.cross(header + ip(1, echo()))
        assert watch.all("echo reply") == []
        bench.port.failure = errno.EIO
        bench.hardware.transmit()
        reply = watch.one("echo reply")
        assert (reply.outcome, reply.reason) == (DROPPED, "TX_ERROR")
        assert step(reply, Point.TAP_WRITE).decision == "EIO"


def test_a_header_that_makes_no_sense() -> None:
    bench = Bench(10)
    try:
        with Watch(a=bench.stack) as watch:
            bench.cross(bytes.fromhex("0104 4200 a805 2200 1000") + ip(1, echo()))
            assert (watch.one().outcome, watch.one().reason) == (DROPPED, "VIRTIO_NET_HDR")
            assert names(watch.one()) == ["TAP_READ"]
    finally:
        bench.close()


def test_nobody_watches(bench: Bench) -> None:
    bench.cross(bytes(int(bench.port.vnet_hdr_len)) + ip(1, echo()))
    assert bench.stack.net.mib.icmp.OutEchoReps == 1 and bench.stack.net.tracer is None
