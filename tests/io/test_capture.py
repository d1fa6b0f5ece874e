"""Captures of a running stack's devices, read back by scapy."""

from __future__ import annotations

import sys
from io import BytesIO
from typing import TYPE_CHECKING

import pytest

from tests.io.test_pcapng import blocks, read
from ustack.device.core import Devices, Flusher
from ustack.device.loopback import Loopback
from ustack.device.net_device import NetDevice
from ustack.drop import Reason
from ustack.io.capture import MAX_WAITING, Capture
from ustack.net import Net
from ustack.packet import Packet, PacketHandler

if TYPE_CHECKING:
    from scapy.utils import RawPcapNgReader

EPOCH = 1_700_000_000_000_000_000
ARP = 0x0806
OUR_MAC = 0x02_00_00_00_00_01


def frame(destination: int = OUR_MAC, ethertype: int = ARP, payload: bytes = b"payload") -> bytes:
    return destination.to_bytes(6, "big") + bytes(6) + ethertype.to_bytes(2, "big") + payload


class Wire(NetDevice):
    """Takes whatever is sent, and gives what is put into ``arriving``."""

    def __init__(self, devices: Devices, name: str) -> None:
        super().__init__(name, OUR_MAC)
        self.devices = devices
        self.arriving: list[Packet] = []

    def start_xmit(self, packet: Packet) -> bool:
        return True

    def poll(self, budget: int) -> int:
        for packet in self.arriving:
            self.devices.netif_receive_skb(packet)
        self.arriving.clear()
        self.devices.napi_complete(self)
        return 0

    def receive(self, *frames: bytes) -> list[Packet]:
        packets = [Packet(each, self) for each in frames]
        self.arriving.extend(packets)
        self.devices.napi_schedule(self)
        return packets


class Keep(PacketHandler):
    """Delivers, drops or holds, by the first byte of the payload."""

    def __init__(self, net: Net) -> None:
        self.net = net
        self.held: list[Packet] = []

    def handle(self, packet: Packet) -> None:
        what = packet.buf[packet.data]
        if what == ord("d"):
            self.net.drop(packet, Reason.ARP_INVALID)
        elif what == ord("h"):
            self.held.append(packet)
        else:
            self.net.deliver(packet)


class Full:
    """A file on a disk that fills up after ``room`` writes."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.written = 0

    def write(self, data: bytes) -> int:
        if self.written == self.room:
            raise OSError(28, "No space left on device")
        self.written += 1
        return len(data)


class World:
    def __init__(self) -> None:
        self.net = Net(bytes(16))
        self.devices = Devices(self.net)
        self.eth0 = Wire(self.devices, "eth0")
        self.eth1 = Wire(self.devices, "eth1")
        self.handler = Keep(self.net)
        for dev in (self.eth0, self.eth1):
            self.devices.register_netdevice(dev)
            self.devices.dev_open(dev)
        self.devices.dev_add_pack(ARP, self.handler)
        self.file = BytesIO()

    def capture(self, only: list[NetDevice] | None = None, snaplen: int = 262_144) -> Capture:
        return Capture(self.file, self.net, self.devices, EPOCH, only, snaplen)

    def send(self, dev: NetDevice, data: bytes) -> None:
        packet = Packet(data, dev)
        packet.data = 0
        self.devices.dev_queue_xmit(packet)

    def packets(self) -> list[tuple[bytes, RawPcapNgReader.PacketMetadata]]:
        return read(self.file.getvalue())


@pytest.fixture
def world() -> World:
    return World()


def test_frames_of_every_device_with_time_direction_and_order(world: World) -> None:
    capture = world.capture()
    world.eth0.receive(frame(payload=b"one"))
    world.eth1.receive(frame(payload=b"two"))
    world.net.now = 1
    world.devices.net_rx_action()
    world.net.now = 2
    world.send(world.eth1, frame(payload=b"three"))
    capture.close()
    shown = [
        (data[14:], about.ifname, about.direction, about.tshigh << 32 | about.tslow) for data, about in world.packets()
    ]
    assert shown == [
        (b"one", b"eth0", 1, EPOCH + 1),
        (b"two", b"eth1", 1, EPOCH + 1),
        (b"three", b"eth1", 2, EPOCH + 2),
    ]
    assert capture.frames == 3


def test_the_reason_of_a_drop_is_the_comment_of_its_frame(world: World) -> None:
    world.capture()
    world.eth0.receive(frame(payload=b"keep"), frame(payload=b"drop"), frame(ethertype=0x1234))
    world.devices.net_rx_action()
    comments = [about.comments for _, about in world.packets()]
    assert comments == [None, [b"dropped: ARP_INVALID"], [b"dropped: UNHANDLED_PROTO"]]


def test_frames_are_in_the_file_when_the_batch_is_over(world: World) -> None:
    """So that a capture can be watched while it runs."""
    world.capture()
    world.send(world.eth0, frame())
    assert world.packets() == [], "sent outside of a batch: it waits for the next"
    world.devices.net_rx_action()
    assert len(world.packets()) == 1


def test_what_is_lost_later_is_shown_when_it_is_lost(world: World) -> None:
    """A packet that waited for its neighbour is no frame any more: it is shown from the IP header on."""
    capture = world.capture()
    (packet,) = world.eth0.receive(frame(payload=b"held"))
    world.devices.net_rx_action()
    packet.buf, packet.network_header, packet.end = bytes(14) + b"\x45ip", 14, 17
    world.net.now = 5
    world.net.drop(packet, Reason.NEIGH_FAILED)
    capture.close()
    (_, held), (data, lost) = world.packets()
    assert held.comments is None
    assert (data, lost.ifname, lost.linktype) == (b"\x45ip", b"dropped", 101)
    assert lost.comments == [b"dropped: NEIGH_FAILED"] and lost.tslow == (EPOCH + 5) & 0xFFFF_FFFF


def test_what_was_ours_and_never_got_out_is_shown_too(world: World) -> None:
    capture = world.capture()
    packet = Packet(b"\x45 an ip packet ")
    packet.frags = [b"in ", memoryview(b"pieces")]
    packet.frags_len = 9
    world.net.drop(packet, Reason.NETFILTER_DROP)
    world.net.drop(Packet(b""), Reason.NETFILTER_DROP)  # nothing to show
    world.net.drop(Packet(b"\x60ipv6"), Reason.NETFILTER_DROP)
    capture.close()
    ((data, about),) = world.packets()
    assert data == b"\x45 an ip packet in pieces" and about.comments == [b"dropped: NETFILTER_DROP"]


def test_only_some_devices(world: World) -> None:
    capture = world.capture(only=[world.eth1])
    world.eth0.receive(frame(payload=b"drop"))
    world.eth1.receive(frame(payload=b"two"))
    world.devices.net_rx_action()
    world.net.drop(Packet(b"\x45"), Reason.NETFILTER_DROP)
    capture.close()
    assert [about.ifname for _, about in world.packets()] == [b"eth1"]


def test_a_snap_length_keeps_the_true_length(world: World) -> None:
    capture = world.capture(snaplen=20)
    world.eth0.receive(frame(payload=bytes(100)))
    world.devices.net_rx_action()
    capture.close()
    ((data, about),) = world.packets()
    assert len(data) == 20 and about.wirelen == 114


def test_pieces_are_joined(world: World) -> None:
    capture = world.capture()
    packet = Packet(frame(payload=b""), world.eth0)
    packet.frags, packet.frags_len = [b"muf", memoryview(b"fin")], 6
    world.eth0.features = 0x10  # NETIF_F_SG
    world.devices.dev_queue_xmit(packet)
    capture.close()
    assert world.packets()[0][0][14:] == b"muffin"


@pytest.mark.parametrize(
    ("destination", "kind"),
    [(OUR_MAC, 0b100), (0xFFFF_FFFF_FFFF, 0b1100), (0x0100_5E00_0001, 0b1000), (OUR_MAC + 1, 0b10000)],
)
def test_kind_of_reception(world: World, destination: int, kind: int) -> None:
    """epb_flags, bits 2 to 4: unicast, multicast, broadcast, promiscuous."""
    capture = world.capture()
    world.eth0.receive(frame(destination))
    world.devices.net_rx_action()
    capture.close()
    body = next(body for kind, body in blocks(world.file.getvalue()) if kind == 6)
    assert int.from_bytes(body[-8:-4], sys.byteorder) == kind | 1


def test_loopback_frames_are_shown_once(world: World) -> None:
    lo = Loopback(world.devices)
    world.devices.register_netdevice(lo)
    world.devices.dev_open(lo)
    capture = world.capture()
    world.send(lo, frame(0, payload=b"keep"))
    world.devices.net_rx_action()
    capture.close()
    ((_, about),) = world.packets()
    assert (about.ifname, about.direction) == (b"lo", 1)


def test_a_device_that_comes_later_is_described_later(world: World) -> None:
    world.capture()
    eth2 = Wire(world.devices, "eth2")
    world.devices.register_netdevice(eth2)
    world.devices.dev_open(eth2)
    eth2.receive(frame())
    world.devices.net_rx_action()
    assert [about.ifname for _, about in world.packets()] == [b"eth2"]


def test_close_writes_the_counts_and_stops(world: World) -> None:
    capture = world.capture()
    world.eth0.stats.rx_packets, world.eth0.stats.rx_missed_errors = 7, 2
    capture.close()
    capture.close()
    statistics = [body for kind, body in blocks(world.file.getvalue()) if kind == 5]
    assert len(statistics) == 2 and (7).to_bytes(8, sys.byteorder) in statistics[0]
    length = len(world.file.getvalue())
    world.eth0.receive(frame(payload=b"drop"))
    world.devices.net_rx_action()
    assert len(world.file.getvalue()) == length and world.net.drop_watchers == []


@pytest.mark.parametrize("room", [0, 1, 2])
def test_a_full_disk_ends_the_capture_and_nothing_else(world: World, room: int) -> None:
    full = Full(room)
    capture = Capture(full, world.net, world.devices)  # type: ignore[arg-type]
    for _ in range(4):
        world.eth0.receive(frame(payload=b"drop"))
        world.devices.net_rx_action()
    assert capture.error is not None and capture.error.errno == 28
    assert world.net.drop_watchers == [] and full.written == room
    assert world.net.drops[Reason.ARP_INVALID] == 4
    capture.close()


def test_waiting_frames_are_bounded(world: World) -> None:
    world.capture()
    for _ in range(MAX_WAITING):
        world.send(world.eth0, frame())
    assert len(world.packets()) == MAX_WAITING


class Late(Flusher):
    def __init__(self, world: World) -> None:
        self.world = world

    def flush(self) -> None:
        self.world.send(self.world.eth0, frame(payload=b"ack"))


def test_what_other_flushers_send_is_not_lost(world: World) -> None:
    capture = world.capture()
    world.devices.at_softirq_end(Late(world))
    world.devices.net_rx_action()
    capture.close()
    assert len(world.packets()) == 1


def test_two_captures_at_once(world: World) -> None:
    other = BytesIO()
    captures = [world.capture(), Capture(other, world.net, world.devices, EPOCH)]
    world.eth0.receive(frame(payload=b"drop"))
    world.devices.net_rx_action()
    for capture in captures:
        capture.close()
    assert world.file.getvalue() == other.getvalue()
