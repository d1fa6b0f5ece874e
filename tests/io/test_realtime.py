"""A laboratory on a clock that somebody else keeps, with a port to the outside. A socket that keeps boundaries stands
for the TAP, and a clock that is moved by hand for the wall's."""

from __future__ import annotations

import errno
import os
import signal
import socket
from typing import TYPE_CHECKING

import pytest

from tests.harness import MSEC, SEC, Network, readable, udp
from ustack.device.cable import Impairments
from ustack.device.e1000 import E1000, NO_OFFLOAD
from ustack.device.ring import NicRegisters
from ustack.io.loop import EPOLLERR, EPOLLIN, MAX_WAIT
from ustack.io.realtime import RealTime, WallClock
from ustack.io.tap import FramePort, TapNic
from ustack.sock import Observer
from ustack.wire import arp, ethernet, icmp, ipv4

if TYPE_CHECKING:
    import select
    from collections.abc import Iterator

    from ustack.sock import Sock

US = 0x0200_0000_FFFF  #: the hardware address of who is outside
OUTSIDE, ROUTER, HOST = 0xC0000201, 0xC00002FE, 0xC6336402  # 192.0.2.1, 192.0.2.254, 198.51.100.2
STARTED = 77 * SEC  #: what the wall's clock says when all begins


class HandClock(WallClock):
    """Waiting moves it; ``waits`` says how long, ``late`` how much longer than asked for."""

    def __init__(self) -> None:
        self.time = STARTED
        self.waits: list[int] = []
        self.late = 0

    def now(self) -> int:
        return self.time

    def wait(self, epoll: select.epoll, duration: int) -> list[tuple[int, int]]:
        events = epoll.poll(0)
        if not events:
            self.waits.append(duration)
            self.time += duration + self.late
            events = epoll.poll(0)
        return events


class World(Network):
    """outside ── [us0] router ── 5 ms ── host, where somebody counts on echo."""

    def __init__(self) -> None:
        super().__init__()
        self.router, self.host = self.stack(), self.stack()
        self.router.net.conf.inet_forward_change(1)
        near, self.far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        near.setblocking(False)
        self.far.setblocking(False)
        self.near = near
        nic = NicRegisters(64)
        self.dev = E1000(self.router.devices, "us0", 0x0200_0000_FE00, nic, 1500, NO_OFFLOAD)
        self.router.add_device(self.dev)
        self.router.add_address("192.0.2.254/24", self.dev)
        self.join(self.router, "198.51.100.1/24", self.host, "198.51.100.2/24", Impairments(delay=5 * MSEC))
        self.host.add_gateway("198.51.100.1")
        self.clock = HandClock()
        self.real = RealTime(self.lab, self.clock)
        self.hardware = TapNic(FramePort(near.fileno(), 0, 1518), nic, self.dev.stats)
        self.real.add(self.hardware, nic)

    def close(self) -> None:
        self.real.close()
        self.near.close()
        self.far.close()

    def frames(self) -> list[bytes]:
        """What has come out since the last call."""
        frames = []
        while True:
            try:
                frames.append(self.far.recv(2000))
            except BlockingIOError:
                return frames

    def ask_for_router(self) -> None:
        frame = ethernet.header((1 << 48) - 1, US, 0x0806) + arp.emit(arp.ARPOP_REQUEST, US, OUTSIDE, 0, ROUTER)
        self.far.send(frame)

    def ping_host(self) -> None:
        """From outside, by way of the router."""
        out = bytearray(icmp.emit(icmp.ICMP_ECHO, 0, 0x12340001, b"muffin"))
        head = bytes([0x45, 0]) + (20 + len(out)).to_bytes(2, "big") + bytes([0, 1, 0, 0, 64, 1, 0, 0])
        head += OUTSIDE.to_bytes(4, "big") + HOST.to_bytes(4, "big")
        total = sum(int.from_bytes(head[at : at + 2], "big") for at in range(0, 20, 2))
        total = (total & 0xFFFF) + (total >> 16)
        head = head[:10] + (0xFFFF - total).to_bytes(2, "big") + head[12:]
        self.far.send(ethernet.header(int(self.dev.mac), US, 0x0800) + head + out)


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    yield world
    world.close()


def test_time_inside_is_that_of_the_wall(world: World) -> None:
    began = int(world.lab.now)
    world.real.run(began + 3 * SEC)
    assert world.lab.now == began + 3 * SEC
    assert world.clock.time == STARTED + 3 * SEC
    assert sum(world.clock.waits) == 3 * SEC
    assert max(world.clock.waits) <= MAX_WAIT


def test_who_is_outside_is_answered_at_once(world: World) -> None:
    world.real.run(5 * SEC)
    world.frames()
    world.ask_for_router()
    world.real.run(5 * SEC + 1)
    (reply,) = world.frames()
    header = arp.parse(reply, 14, len(reply))
    assert header is not None
    assert (header.op, header.sha, header.spa) == (arp.ARPOP_REPLY, world.dev.mac, ROUTER)


def test_a_way_through_the_laboratory_takes_its_time(world: World) -> None:
    world.real.run(5 * SEC)
    world.ask_for_router()
    world.router.neighbours.neigh_add(HOST, world.router.device("eth0"), 0x0200_0000_0100)
    world.host.neighbours.neigh_add(0xC6336401, world.host.device("eth0"), 0x0200_0000_0000)
    world.router.neighbours.neigh_add(OUTSIDE, world.dev, US)
    world.real.run(5 * SEC + 1)
    world.frames()
    world.ping_host()
    world.real.run(5 * SEC + 10 * MSEC)
    assert world.frames() == []
    world.real.run(5 * SEC + 10 * MSEC + 1)
    (reply,) = world.frames()
    header = ipv4.parse(reply, 14, len(reply))
    assert header is not None
    assert (header.saddr, header.daddr, header.ttl, reply[-6:]) == (HOST, OUTSIDE, 63, b"muffin")
    world.check()


def test_who_does_not_wait_long_enough_is_late(world: World) -> None:
    world.clock.late = 3 * MSEC
    world.real.run(2 * SEC)
    assert world.lab.now == 2 * SEC
    assert 3 * MSEC <= world.real.late < 4 * MSEC


def test_a_full_descriptor_is_waited_for(world: World) -> None:
    """Frames stay in the ring, and leave when there is room."""
    world.near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    world.router.neighbours.neigh_add(OUTSIDE, world.dev, US)
    world.real.run(5 * SEC)
    world.frames()
    client = udp(world.router)
    for number in range(20):
        client.sendto(bytes([number]) * 1000, ("192.0.2.1", 9))
    world.real.run(5 * SEC + 1)
    assert world.hardware.blocked
    received: list[bytes] = []
    for step in range(2, 40):
        received += world.frames()
        world.real.run(5 * SEC + step)
    assert [frame[-1] for frame in received] == list(range(20))
    assert not world.hardware.blocked


def test_who_is_inside_may_end_it(world: World) -> None:
    server, client = udp(world.host, "198.51.100.2", 7), udp(world.router)

    class Ender(Observer):
        def data_ready(self, sk: Sock) -> None:
            world.lab.stop()

    server.observe(Ender())
    client.sendto(b"muffin", ("198.51.100.2", 7))
    world.real.run(1000 * SEC)
    assert readable(server)
    assert 5 * MSEC <= world.lab.now < SEC
    assert not world.real.stopped


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_it(world: World, number: signal.Signals) -> None:
    class Interrupting(HandClock):
        def wait(self, epoll: select.epoll, duration: int) -> list[tuple[int, int]]:
            os.kill(os.getpid(), number)
            return super().wait(epoll, duration)

    before = signal.getsignal(number)
    world.real.clock = Interrupting()
    world.real.catch()
    world.real.run(1000 * SEC)
    assert world.real.stopped
    assert world.lab.now < 1000 * SEC
    world.real.close()
    assert signal.getsignal(number) == before
    world.real = RealTime(world.lab, world.clock)


def test_the_last_tap_is_taken_away(world: World) -> None:
    class Gone(HandClock):
        def wait(self, epoll: select.epoll, duration: int) -> list[tuple[int, int]]:
            return [(world.near.fileno(), EPOLLIN | EPOLLERR)]

    world.real.clock = Gone()
    with pytest.raises(OSError) as seen:
        world.real.run(10 * SEC)
    assert seen.value.errno == errno.ENODEV
