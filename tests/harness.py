"""Stacks joined by cables in virtual time: what the tests of whole protocols stand on.

    with Pair() as pair:
        server = pair.b.socket(AF_INET, SOCK_DGRAM)
        server.bind(("192.0.2.2", 7))
        client = pair.a.socket(AF_INET, SOCK_DGRAM)
        client.sendto(b"muffin", ("192.0.2.2", 7))
        pair.run_until(lambda: readable(server))

Leaving the block checks the books of every stack and every cable. Nothing here waits for a real clock.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Self

from ustack.device.cable import Cable, Impairments
from ustack.device.core import PacketTap
from ustack.device.e1000 import E1000, E1000_FEATURES
from ustack.device.ring import RING_SIZE, NicRegisters
from ustack.inet.family import SOCK_DGRAM, SOCK_STREAM
from ustack.inet.options import SO_REUSEADDR, SOL_SOCKET
from ustack.inet.sockaddr import AF_INET
from ustack.lab import Lab
from ustack.net import DropWatcher
from ustack.netfilter.hooks import QueueEntry, QueueHandler
from ustack.sock import POLLIN, Observer, Sock
from ustack.stack import Stack
from ustack.timer import NSEC_PER_MSEC, NSEC_PER_SEC
from ustack.wire.dump import describe
from ustack.wire.ethernet import ETH_P_ARP

if TYPE_CHECKING:
    from collections.abc import Callable

    from ustack.device.net_device import NetDevice
    from ustack.drop import Reason
    from ustack.inet.socket import Socket
    from ustack.packet import Packet

MSEC = NSEC_PER_MSEC
SEC = NSEC_PER_SEC
A = "192.0.2.1"
B = "192.0.2.2"
#: How long run_until waits unless told otherwise: longer than ARP takes to give up, shorter than two SYNs.
PATIENCE = 60 * SEC


class Network:
    """Any number of stacks on one clock."""

    def __init__(self, seed: int = 1) -> None:
        self.seed = seed
        self.lab = Lab()
        self.stacks: list[Stack] = []
        self.cables: list[Cable] = []
        self._ports: dict[int, int] = {}  # id of a stack: how many devices it has

    def stack(self) -> Stack:
        """Another stack, with nothing but its loopback device; different from the others only by its seed."""
        number = len(self.stacks)
        stack = Stack(f"{self.seed}/{number}".encode().ljust(16, b"."), self.lab.now)
        self.stacks.append(stack)
        self.lab.add(stack)
        return stack

    def join(
        self,
        one: Stack,
        one_address: str,
        other: Stack,
        other_address: str,
        there: Impairments | None = None,
        back: Impairments | None = None,
        features: int = E1000_FEATURES,
        mtu: int = 1500,
        ring: int = RING_SIZE,
        super_segments: bool = True,
        flow_control: bool = True,
    ) -> Cable:
        """A cable between a new device of each, which gets its address ("" for none). ``there``: from one to other."""
        devices = [self._device(stack, features, mtu, ring) for stack in (one, other)]
        seed = self.seed * 1000 + len(self.cables)
        cable = Cable(devices[0].nic, devices[1].nic, seed, there, back, flow_control, super_segments)
        self.cables.append(cable)
        self.lab.add(cable)
        for stack, dev, address in zip((one, other), devices, (one_address, other_address), strict=True):
            stack.add_device(dev)
            if address:
                stack.add_address(address, dev)
        return cable

    def _device(self, stack: Stack, features: int, mtu: int, ring: int) -> E1000:
        port = self._ports.get(id(stack), 0)
        self._ports[id(stack)] = port + 1
        mac = 0x0200_0000_0000 | self.stacks.index(stack) << 8 | port
        return E1000(stack.devices, f"eth{port}", mac, NicRegisters(ring), mtu, features)

    # -- time

    @property
    def now(self) -> int:
        return int(self.lab.now)

    def run(self, duration: int) -> None:
        """Let ``duration`` ns pass."""
        self.lab.run_until(self.lab.now + duration)

    def run_until(self, condition: Callable[[], bool], limit: int = PATIENCE, what: str = "") -> None:
        """Go on until ``condition`` holds; AssertionError if it does not within ``limit`` ns."""
        began = self.now
        if not self.lab.run_until_true(condition, limit):
            raise AssertionError(f"{what or 'the condition'} did not come true in {(self.now - began) / SEC:g} s")

    def settle(self) -> None:
        """Do what is due now or on its way over a cable, but wait for no timer longer than 10 ms."""
        while self.lab.next_deadline() <= self.lab.now + 10 * MSEC:
            self.lab.step()

    # -- the books

    def check(self) -> None:
        """Nothing is unaccounted for, in no stack and on no cable."""
        for number, stack in enumerate(self.stacks):
            assert stack.unaccounted() == 0, f"stack {number} leaks {stack.unaccounted()} packets: {stack.net.drops}"
        for cable in self.cables:
            for lane in (cable.there, cable.back):
                stats = lane.stats
                ended = stats.delivered + stats.lost + stats.overlimits + stats.missed + lane.in_flight
                assert stats.sent + stats.duplicated == ended

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *rest: object) -> None:
        if kind is None:
            self.check()


class Pair(Network):
    """``a`` at 192.0.2.1 and ``b`` at 192.0.2.2, one cable between them; keywords as for Network.join."""

    def __init__(
        self,
        seed: int = 1,
        there: Impairments | None = None,
        back: Impairments | None = None,
        features: int = E1000_FEATURES,
        mtu: int = 1500,
        ring: int = RING_SIZE,
        super_segments: bool = True,
        flow_control: bool = True,
        resolved: bool = False,
    ) -> None:
        """``resolved``: both know the other's hardware address, and no ARP is seen."""
        super().__init__(seed)
        self.a = self.stack()
        self.b = self.stack()
        self.cable = self.join(
            self.a, f"{A}/24", self.b, f"{B}/24", there, back, features, mtu, ring, super_segments, flow_control
        )
        self.dev_a = self.a.device("eth0")
        self.dev_b = self.b.device("eth0")
        if resolved:
            self.resolve()

    def resolve(self) -> None:
        """Make the neighbours permanent, and let the announcements of the addresses be over."""
        for stack, dev, peer, address in (
            (self.a, self.dev_a, self.dev_b, self.dev_b.addresses[0].local),
            (self.b, self.dev_b, self.dev_a, self.dev_a.addresses[0].local),
        ):
            stack.neighbours.neigh_add(address, dev, peer.mac)
        self.run(3 * SEC)


class Events(Observer):
    """Writes down what a socket tells: data, space, state, error."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def data_ready(self, sk: Sock) -> None:
        self.seen.append("data")

    def write_space(self, sk: Sock) -> None:
        self.seen.append("space")

    def state_change(self, sk: Sock) -> None:
        self.seen.append("state")

    def error_report(self, sk: Sock) -> None:
        self.seen.append("error")


class Sniffer(PacketTap):
    """Every frame of a stack in one line each, as tcpdump would tell it, sent (``>``) or received (``<``)."""

    def __init__(self, stack: Stack, dev: NetDevice | None = None, arp: bool = False) -> None:
        """Of ``dev`` only, if given; ARP only if asked for."""
        self.stack = stack
        self.dev = dev
        self.arp = arp
        self.frames: list[tuple[bool, bytes]] = []  #: (sent, bytes)
        stack.devices.add_tap(self)

    def frame(self, packet: Packet, outgoing: bool) -> None:
        if self.dev is not None and packet.dev is not self.dev:
            return
        if packet.protocol == ETH_P_ARP and not self.arp:
            return
        linear = packet.buf[: packet.end]
        data = linear if packet.frags is None else b"".join([linear, *packet.frags])
        if data[12:14] == b"\x08\x06" and not self.arp:
            return
        self.frames.append((outgoing, data))

    def lines(self) -> list[str]:
        """``> IP 192.0.2.1.33000 > 192.0.2.2.80: Flags [S], …``, since the last call."""
        lines = [f"{'>' if sent else '<'} {describe(data)}" for sent, data in self.frames]
        self.frames.clear()
        return lines

    def close(self) -> None:
        self.stack.devices.remove_tap(self)


class Drops(DropWatcher):
    """The reasons for which a stack loses packets from now on, in order."""

    def __init__(self, stack: Stack) -> None:
        self.reasons: list[Reason] = []
        stack.net.drop_watchers.append(self)

    def dropped(self, packet: Packet, reason: Reason) -> None:
        self.reasons.append(reason)


class Moved:
    """Which counters have moved since it was made: ``moved() == {"Udp.InDatagrams": 1}``."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.before = stack.net.mib.snapshot()

    def __call__(self, *groups: str) -> dict[str, int]:
        """The differences, of ``groups`` ("Udp", "Icmp") only if some are named."""
        after = self.stack.net.mib.snapshot()
        return {
            name: after[name] - before
            for name, before in self.before.items()
            if after[name] != before and (not groups or name.partition(".")[0] in groups)
        }


def readable(sock: Socket) -> bool:
    """Whether a recv or an accept would answer at once."""
    return bool(sock.poll() & POLLIN)


class Verdicts(QueueHandler):
    """A listener that keeps what is queued for a verdict."""

    def __init__(self) -> None:
        self.entries: list[QueueEntry] = []

    def enqueue(self, packet: Packet, entry: QueueEntry) -> bool:
        self.entries.append(entry)
        return True


def connection(pair: Pair, port: int = 80, limit: int = PATIENCE) -> tuple[Socket, Socket]:
    """A stream from a to ``port`` of b: both ends, the listener closed. AssertionError if none in ``limit`` ns."""
    listener = pair.b.socket(AF_INET, SOCK_STREAM)
    listener.setsockopt(SOL_SOCKET, SO_REUSEADDR, 1)
    listener.bind(("", port))
    listener.listen(8)
    client = pair.a.socket(AF_INET, SOCK_STREAM)
    assert code_of(lambda: client.connect((B, port))) == errno.EINPROGRESS
    pair.run_until(lambda: readable(listener), limit, "the connection")
    server = listener.accept()
    listener.close()
    return client, server


def udp(stack: Stack, address: str = "", port: int = 0) -> Socket:
    """A bound UDP socket; any address and a free port unless told otherwise."""
    sock = stack.socket(AF_INET, SOCK_DGRAM)
    sock.bind((address, port))
    return sock


def code_of(call: Callable[[], object]) -> int:
    """The errno of a call that must fail."""
    try:
        call()
    except OSError as problem:
        assert problem.errno is not None
        return problem.errno
    raise AssertionError("the call did not fail")
