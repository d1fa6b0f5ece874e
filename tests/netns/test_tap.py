"""A real TAP device: our frames against the kernel's own sockets, with and without offload."""

from __future__ import annotations

import errno
import select
import socket
import struct
from typing import TYPE_CHECKING

import pytest

from tests.io.rings import open_nic, queue, received
from ustack.device.net_device import (
    NETIF_F_HW_CSUM,
    NETIF_F_RXCSUM,
    NETIF_F_SG,
    NETIF_F_TSO,
    NETIF_F_TSO_ECN,
    DeviceStats,
)
from ustack.device.ring import NicRegisters, RxDescriptor
from ustack.io.tap import Tap, TapNic
from ustack.packet import CHECKSUM_NONE, CHECKSUM_PARTIAL, SKB_GSO_TCPV4

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ustack.io.host import Host

HOST, STACK = "192.0.2.1", "192.0.2.2"
HOST_MAC, STACK_MAC = "02:00:00:00:00:01", "02:00:00:00:00:02"
ETH_P_EXPERIMENT = 0x88B5  # IEEE 802: local experimental EtherType 1
MSS = 1460
TCP_CSUM, UDP_CSUM = 50, 40  # where the checksum field lies in a frame
FIN, SYN, PSH, ACK = 1, 2, 8, 16
ALL_FEATURES = NETIF_F_SG | NETIF_F_HW_CSUM | NETIF_F_RXCSUM | NETIF_F_TSO | NETIF_F_TSO_ECN


class Wire:
    """A TAP, its NIC with an open driver, and the kernel on the other side at 192.0.2.1."""

    def __init__(self, host: Host, offload: bool = True, vnet_hdr_len: int = 10) -> None:
        self.tap = Tap("tap0", offload, vnet_hdr_len=vnet_hdr_len)
        self.nic = NicRegisters(256)
        self.stats = DeviceStats()
        self.hardware = TapNic(self.tap, self.nic, self.stats)
        self.seen = 0
        open_nic(self.nic)
        host.set_link("tap0", mac=HOST_MAC, up=True)
        host.add_address("tap0", f"{HOST}/24")
        host.add_neighbour("tap0", STACK, STACK_MAC)

    def receive(self, protocol: int) -> tuple[bytes, RxDescriptor]:
        """The next IPv4 frame of that protocol (0: of the experimental EtherType), and its descriptor."""
        while True:
            for at in range(self.seen, self.nic.rx.head):
                self.seen = at + 1
                frame = received(self.nic)[at]
                ethertype = int.from_bytes(frame[12:14], "big")
                if ethertype == ETH_P_EXPERIMENT or (ethertype == 0x0800 and frame[23] == protocol):
                    return frame, self.nic.rx.descriptors[at]
            assert select.select([self.tap.fd], [], [], 5)[0], "nothing came"
            assert not self.hardware.receive()

    def send(self, *pieces: bytes, checksum_at: int = 0, gso_size: int = 0) -> None:
        queue(self.nic, *pieces, context=checksum_at != 0, checksum_at=checksum_at, gso_size=gso_size, hdr_len=54)
        assert self.hardware.transmit()


@pytest.fixture(params=[10, 12], ids=["vnet10", "vnet12"])
def offload(request: pytest.FixtureRequest, host: Host) -> Iterator[Wire]:
    wire = Wire(host, True, request.param)
    yield wire
    wire.tap.close()


@pytest.fixture
def plain(host: Host) -> Iterator[Wire]:
    wire = Wire(host, False)
    yield wire
    wire.tap.close()


def mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


def ones_complement(data: bytes) -> int:
    """The Internet checksum, written by another hand than the wire room's (RFC 1071)."""
    padded = data + bytes(len(data) % 2)
    total: int = sum(struct.unpack(f"!{len(padded) // 2}H", padded))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def pseudo_header(frame: bytes, length: int) -> bytes:
    return frame[26:34] + struct.pack("!HH", frame[23], length)


def transport_checksum_ok(frame: bytes) -> bool:
    """Of what stands behind an IPv4 header without options."""
    end = 14 + int.from_bytes(frame[16:18], "big")
    return ones_complement(pseudo_header(frame, end - 34) + frame[34:end]) == 0xFFFF


def ip_frame(protocol: int, length: int) -> bytes:
    """Ethernet and IPv4 headers of a frame from the stack to the host; ``length`` of what follows."""
    addresses = socket.inet_aton(STACK) + socket.inet_aton(HOST)
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + length, 1, 0x4000, 64, protocol, 0) + addresses
    head = head[:10] + (0xFFFF - ones_complement(head)).to_bytes(2, "big") + head[12:]
    return mac(HOST_MAC) + mac(STACK_MAC) + b"\x08\x00" + head


def with_checksum(frame: bytes, at: int, partial_length: int = -1) -> bytes:
    """The frame with its transport checksum, or, given the length of it all, with the pseudo-header's sum only."""
    if partial_length >= 0:
        value = ones_complement(pseudo_header(frame, partial_length))
    else:
        value = 0xFFFF - ones_complement(pseudo_header(frame, len(frame) - 34) + frame[34:])
    return frame[:at] + value.to_bytes(2, "big") + frame[at + 2 :]


def udp_frame(data: bytes, dport: int) -> bytes:
    return ip_frame(17, 8 + len(data)) + struct.pack("!HHHH", 4747, dport, 8 + len(data), 0) + data


def udp_socket() -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind((HOST, 0))
    sock.settimeout(5)
    return sock


def packet_socket() -> socket.socket:
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_EXPERIMENT))
    sock.bind(("tap0", ETH_P_EXPERIMENT))
    sock.settimeout(5)
    return sock


# -- any frame, either way


def raw_frames_cross_both_ways(wire: Wire) -> None:
    experiment = ETH_P_EXPERIMENT.to_bytes(2, "big")
    with packet_socket() as kernel:
        to_us = mac(STACK_MAC) + mac(HOST_MAC) + experiment + bytes(range(100))
        kernel.send(to_us)
        frame, descriptor = wire.receive(0)
        assert (frame, descriptor.ip_summed, descriptor.gso_size) == (to_us, CHECKSUM_NONE, 0)
        to_kernel = mac(HOST_MAC) + mac(STACK_MAC) + experiment
        wire.send(to_kernel, b"in ", b"three ", b"pieces")
        assert kernel.recv(2000) == to_kernel + b"in three pieces"
    assert (wire.stats.rx_errors, wire.stats.tx_errors) == (0, 0)


@pytest.mark.vm
def test_raw_frames_cross_with_offload(offload: Wire) -> None:
    raw_frames_cross_both_ways(offload)


@pytest.mark.vm
def test_raw_frames_cross_without_offload(plain: Wire) -> None:
    raw_frames_cross_both_ways(plain)


@pytest.mark.vm
def test_a_full_sized_frame_crosses_without_offload(plain: Wire) -> None:
    with udp_socket() as kernel:
        kernel.sendto(bytes(1472), (STACK, 4747))
        assert len(plain.receive(17)[0]) == 1514
        plain.send(with_checksum(udp_frame(bytes(1472), kernel.getsockname()[1]), UDP_CSUM))
        assert len(kernel.recv(2000)) == 1472


# -- checksums


@pytest.mark.vm
def test_with_offload_the_kernel_leaves_the_checksum_to_us(offload: Wire) -> None:
    with udp_socket() as kernel:
        kernel.sendto(b"muffin", (STACK, 4747))
    frame, descriptor = offload.receive(17)
    assert (descriptor.ip_summed, descriptor.csum_start, descriptor.csum_offset) == (CHECKSUM_PARTIAL, 34, 6)
    assert not transport_checksum_ok(frame)
    assert int.from_bytes(frame[40:42], "big") == ones_complement(pseudo_header(frame, 14))


def test_without_offload_the_kernel_sums_itself(plain: Wire) -> None:
    with udp_socket() as kernel:
        kernel.sendto(b"muffin", (STACK, 4747))
    frame, descriptor = plain.receive(17)
    assert descriptor.ip_summed == CHECKSUM_NONE and transport_checksum_ok(frame)


@pytest.mark.vm
def test_offload_is_switched_off_on_an_open_device(offload: Wire) -> None:
    assert offload.tap.features == ALL_FEATURES
    offload.tap.set_offload(0)
    assert offload.tap.features == NETIF_F_SG | NETIF_F_HW_CSUM, "what the kernel takes from us is not affected"
    with udp_socket() as kernel:
        kernel.sendto(b"muffin", (STACK, 4747))
    frame, descriptor = offload.receive(17)
    assert descriptor.ip_summed == CHECKSUM_NONE and transport_checksum_ok(frame)


@pytest.mark.vm
def test_the_kernel_completes_a_checksum_we_leave_to_it(offload: Wire) -> None:
    with udp_socket() as kernel:
        frame = udp_frame(b"muffin", kernel.getsockname()[1])
        offload.send(with_checksum(frame, UDP_CSUM, 14), checksum_at=UDP_CSUM)
        assert kernel.recv(100) == b"muffin"


@pytest.mark.vm
def test_a_checksum_we_vouch_for_must_be_right(plain: Wire) -> None:
    """Without NEEDS_CSUM the kernel verifies: the wrong one is dropped, the right one after it arrives."""
    with udp_socket() as kernel:
        port = kernel.getsockname()[1]
        wrong = udp_frame(b"wrong!", port)
        plain.send(wrong[:UDP_CSUM] + b"\x12\x34" + wrong[UDP_CSUM + 2 :])
        plain.send(with_checksum(udp_frame(b"right!", port), UDP_CSUM))
        assert kernel.recv(100) == b"right!"


# -- super-segments


class Peer:
    """As much TCP as it takes to be connected to by the kernel."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.kernel = socket.socket()
        self.kernel.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, b"reno")  # BBR would pace
        self.kernel.setblocking(False)
        self.kernel.connect_ex((STACK, 80))
        syn, _ = wire.receive(6)
        self.port, _, sequence = struct.unpack("!HHI", syn[34:42])
        self.ack = sequence + 1 & 0xFFFF_FFFF
        self.seq = 1000
        self.send(SYN | ACK, options=bytes.fromhex("020405b4"))
        self.kernel.settimeout(5)
        select.select([], [self.kernel], [], 5)

    def send(self, flags: int, data: bytes = b"", options: bytes = b"", gso_size: int = 0) -> None:
        offset = 20 + len(options) << 2
        head = struct.pack("!HHIIBBHHH", 80, self.port, self.seq, self.ack, offset, flags, 65_535, 0, 0) + options
        length = len(head) + len(data)
        if self.wire.tap.vnet_hdr_len == 0:
            self.wire.send(with_checksum(ip_frame(6, length) + head + data, TCP_CSUM))
        else:
            frame = with_checksum(ip_frame(6, length) + head, TCP_CSUM, length)
            self.wire.send(*([frame, data] if data else [frame]), checksum_at=TCP_CSUM, gso_size=gso_size)
        self.seq += len(data) + (flags & SYN != 0)


def test_super_segments_from_the_kernel_are_single_frames(offload: Wire) -> None:
    """TCP's initial window is ten segments (RFC 6928): they come in fewer frames, unsummed and in order."""
    peer = Peer(offload)
    with peer.kernel:
        data = bytes(range(256)) * 100
        peer.kernel.send(data)
        arrived = b""
        while len(arrived) < 10 * MSS:
            frame, descriptor = offload.receive(6)
            if len(frame) > 54:
                assert len(frame) > 54 + MSS
                assert (descriptor.gso_size, descriptor.gso_type) == (MSS, SKB_GSO_TCPV4)
                assert (descriptor.ip_summed, descriptor.csum_start, descriptor.csum_offset) == (
                    CHECKSUM_PARTIAL,
                    34,
                    16,
                )
                arrived += frame[54:]
        assert arrived == data[: 10 * MSS]


def test_without_offload_the_kernel_cuts_segments_itself(plain: Wire) -> None:
    peer = Peer(plain)
    with peer.kernel:
        data = bytes(range(256)) * 100
        peer.kernel.send(data)
        arrived = b""
        while len(arrived) < 10 * MSS:
            frame, descriptor = plain.receive(6)
            assert transport_checksum_ok(frame) and descriptor.gso_size == 0 and len(frame) <= 1514
            arrived += frame[54:]
        assert arrived == data[: 10 * MSS]


def test_a_super_segment_to_the_kernel_arrives_whole(offload: Wire) -> None:
    peer = Peer(offload)
    with peer.kernel:
        data = bytes(range(256)) * 200
        peer.send(PSH | ACK, data, gso_size=MSS)
        arrived = b""
        while len(arrived) < len(data):
            arrived += peer.kernel.recv(100_000)
        assert arrived == data and offload.stats.tx_errors == 0


# -- the device itself


@pytest.mark.vm
def test_a_device_that_is_down_refuses_frames_and_counts_them(host: Host, offload: Wire) -> None:
    host.set_link("tap0", up=False)
    offload.send(udp_frame(b"muffin", 9))
    assert (offload.stats.tx_errors, offload.hardware.gone) == (1, False)
    host.set_link("tap0", up=True)
    offload.send(udp_frame(b"muffin", 9))
    assert offload.stats.tx_errors == 1


def test_a_frame_the_kernel_cannot_believe_is_refused_and_counted(offload: Wire) -> None:
    """virtio_net_hdr_to_skb: the checksum field must lie in the frame."""
    offload.send(udp_frame(b"muffin", 9)[:36], checksum_at=60_000)
    offload.send(b"short")
    assert offload.stats.tx_errors == 2


@pytest.mark.vm
def test_a_device_deleted_under_us_is_gone(host: Host, offload: Wire) -> None:
    host.delete_link("tap0")
    assert not offload.hardware.receive()
    assert (offload.hardware.gone, offload.nic.link_up, offload.stats.rx_errors) == (True, False, 1)
    offload.send(udp_frame(b"muffin", 9))
    assert offload.stats.tx_errors == 1


@pytest.mark.vm
def test_a_device_is_gone_when_closed(host: Host) -> None:
    tap = Tap("tap%d")
    assert (tap.name, tap.persistent, host.has_link("tap0")) == ("tap0", False, True)
    tap.close()
    tap.close()
    assert not host.has_link("tap0")


@pytest.mark.vm
@pytest.mark.parametrize("offload_before", [True, False])
@pytest.mark.parametrize("offload_after", [True, False])
def test_a_persistent_device_is_attached_to(host: Host, offload_before: bool, offload_after: bool) -> None:
    first = Tap("tap0", offload_before)
    first.persist(True)
    first.close()
    index = host.link("tap0")["index"]
    second = Tap("tap0", offload_after)
    assert second.persistent and host.link("tap0")["index"] == index
    assert second.vnet_hdr_len == (10 if offload_after else 0)
    second.persist(False)
    second.close()
    assert not host.has_link("tap0")


@pytest.mark.parametrize(
    ("name", "code"), [("tap0", errno.EBUSY), ("lo", errno.EINVAL), ("a" * 20, errno.EINVAL), ("a/b", errno.EINVAL)]
)
def test_a_device_that_cannot_be_had_says_why(host: Host, name: str, code: int) -> None:
    held = Tap("tap0")
    with pytest.raises(OSError) as caught:
        Tap(name)
    assert (caught.value.errno, caught.value.filename) == (code, name)
    held.close()


def test_segmentation_without_checksums_makes_no_sense(offload: Wire) -> None:
    with pytest.raises(OSError, match="Invalid argument"):
        offload.tap.set_offload(1 << 20)
    assert offload.tap.features == ALL_FEATURES
