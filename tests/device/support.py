"""One stack's worth of devices without the floors above, and the doubles that stand in for those."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ustack.device.core import Devices, Flusher, PacketTap
from ustack.device.e1000 import E1000, E1000_FEATURES
from ustack.device.net_device import NetDevice
from ustack.device.ring import RING_SIZE, NicRegisters
from ustack.net import DropWatcher, Net
from ustack.packet import CHECKSUM_PARTIAL, SKB_GSO_TCPV4, Buffer, Packet, PacketHandler
from ustack.wire.ethernet import ETH_P_ARP, ETH_P_IP, header

if TYPE_CHECKING:
    from ustack.drop import Reason

SEED = b"tests of devices"
OURS = 0x0200_0000_0001
THEIRS = 0x0200_0000_0002
BROADCAST = 0xFFFF_FFFF_FFFF
MTU = 1500


class Sink(PacketHandler):
    """A protocol that keeps what it is handed."""

    def __init__(self, net: Net) -> None:
        self.net = net
        self.packets: list[Packet] = []

    def handle(self, packet: Packet) -> None:
        self.packets.append(packet)
        self.net.deliver(packet)

    def frames(self) -> list[bytes]:
        return [packet.buf for packet in self.packets]


class Router(PacketHandler):
    """A protocol that sends what it receives out of another device, unchanged."""

    def __init__(self, devices: Devices, out: NetDevice) -> None:
        self.devices = devices
        self.out = out

    def handle(self, packet: Packet) -> None:
        packet.dev = self.out
        packet.data = 0
        self.devices.dev_queue_xmit(packet)


class Recorder(PacketTap):
    def __init__(self) -> None:
        self.seen: list[tuple[bytes, bool]] = []

    def frame(self, packet: Packet, outgoing: bool) -> None:
        self.seen.append((whole(packet), outgoing))


class Drops(DropWatcher):
    def __init__(self) -> None:
        self.reasons: list[Reason] = []

    def dropped(self, packet: Packet, reason: Reason) -> None:
        self.reasons.append(reason)


class FlushSends(Flusher):
    """What TCP does at the end of a batch: one more frame."""

    def __init__(self, devices: Devices, dev: NetDevice) -> None:
        self.devices = devices
        self.dev = dev
        self.flushes = 0

    def flush(self) -> None:
        self.flushes += 1
        self.devices.dev_queue_xmit(Packet(frame(b"flushed"), self.dev))


class Wire(NetDevice):
    """A device that takes ``room`` frames and keeps them; ``flushed`` is what its doorbell announced."""

    def __init__(self, name: str = "wire0", features: int = 0, room: int = 1_000_000) -> None:
        super().__init__(name, OURS, MTU)
        self.features = features
        self.room = room
        self.sent: list[Packet] = []
        self.doorbells: list[int] = []

    def start_xmit(self, packet: Packet) -> bool:
        if self.room == 0:
            return False
        self.room -= 1
        self.sent.append(packet)
        return True

    def xmit_flush(self) -> None:
        self.doorbells.append(len(self.sent))

    def frames(self) -> list[bytes]:
        return [whole(packet) for packet in self.sent]


class Bench:
    """Net, devices, an IPv4 sink, and one e1000 that is up."""

    def __init__(self, features: int = E1000_FEATURES, size: int = RING_SIZE, mac: int = OURS) -> None:
        self.net = Net(SEED)
        self.drops = Drops()
        self.net.drop_watchers.append(self.drops)
        self.devices = Devices(self.net)
        self.sink = Sink(self.net)
        self.devices.dev_add_pack(ETH_P_IP, self.sink)
        self.nic = NicRegisters(size)
        self.dev = E1000(self.devices, "eth0", mac, self.nic, MTU, features)
        self.devices.register_netdevice(self.dev)
        self.devices.dev_open(self.dev)

    def add(self, dev: NetDevice) -> NetDevice:
        self.devices.register_netdevice(dev)
        self.devices.dev_open(dev)
        return dev

    def receive(self, *frames: bytes) -> None:
        """Frames from the hardware, polled until all is quiet."""
        for each in frames:
            self.nic.receive_frame(each)
        self.nic.rx_interrupt()
        self.run()

    def run(self) -> None:
        while self.devices.net_rx_action():
            pass

    def send(self, data: bytes) -> bool:
        return self.devices.dev_queue_xmit(Packet(data, self.dev))

    def transmitted(self, limit: int = 1_000_000) -> list[bytes]:
        """What the hardware finds in the ring, up to ``limit`` frames, each one sent."""
        frames: list[bytes] = []
        while len(frames) < limit:
            tx = self.nic.next_tx()
            if tx is None:
                break
            frames.append(b"".join(tx.pieces))
            self.nic.tx_done()
        return frames

    def conserved(self, queued: int = 0) -> bool:
        """received = delivered + forwarded + dropped + queued."""
        path = self.net.mib.path
        return path.received == path.delivered + path.forwarded + path.dropped + queued


def frame(payload: bytes, dst: int = OURS, src: int = THEIRS, ethertype: int = ETH_P_IP) -> bytes:
    return header(dst, src, ethertype) + payload


def arp_frame() -> bytes:
    return frame(bytes(28), BROADCAST, THEIRS, ETH_P_ARP)


def numbered(count: int, start: int = 0) -> list[bytes]:
    """Frames that can be told apart."""
    return [frame(n.to_bytes(4, "big")) for n in range(start, start + count)]


def whole(packet: Packet) -> bytes:
    """The frame, joined."""
    return b"".join([packet.buf[: packet.end], *(packet.frags or [])])


def pieces(data: bytes, *cuts: int) -> list[Buffer]:
    """``data`` cut at the offsets given, as views."""
    edges = [0, *sorted(cuts), len(data)]
    return [memoryview(data)[a:b] for a, b in zip(edges, edges[1:], strict=False) if b > a]


def super_segment(headers: bytes, frags: list[Buffer], gso_size: int, dev: NetDevice | None = None) -> Packet:
    """An IPv4 TCP packet as TCP hands it down: headers linear, payload in pieces, checksum left to the device."""
    transport = 14 + (headers[14] & 0xF) * 4
    packet = Packet(headers, dev)
    packet.network_header = 14
    packet.transport_header = transport
    packet.frags = frags
    packet.frags_len = sum(len(piece) for piece in frags)
    packet.ip_summed = CHECKSUM_PARTIAL
    packet.csum_start = transport
    packet.csum_offset = 16
    packet.gso_size = gso_size
    packet.gso_type = SKB_GSO_TCPV4
    return packet


def changes(before: dict[str, int], after: dict[str, int]) -> dict[str, int]:
    """The counters that moved, and by how much."""
    return {name: after[name] - before[name] for name in after if after[name] != before[name]}


STAT_NAMES = (
    "rx_packets tx_packets rx_bytes tx_bytes rx_errors tx_errors rx_dropped tx_dropped multicast "
    "rx_missed_errors rx_length_errors tx_fifo_errors"
).split()


def stats(dev: NetDevice) -> dict[str, int]:
    """The device's counters that are not 0."""
    values = {name: int(getattr(dev.stats, name)) for name in STAT_NAMES}
    return {name: value for name, value in values.items() if value != 0}
