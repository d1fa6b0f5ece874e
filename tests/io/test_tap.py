"""TapNic: frames between a descriptor and the rings. A socket that keeps boundaries stands for the TAP here."""

from __future__ import annotations

import errno
import os
import socket
from typing import TYPE_CHECKING

import pytest

from tests.io.rings import interrupted, open_nic, queue, received
from ustack.device.net_device import DeviceStats
from ustack.device.ring import NicRegisters
from ustack.io.tap import PAUSE, FramePort, TapNic
from ustack.packet import CHECKSUM_NONE, CHECKSUM_PARTIAL, SKB_GSO_TCPV4, Buffer

if TYPE_CHECKING:
    from collections.abc import Iterator

MTU = 1500
MAX_FRAME = MTU + 14 + 4
FRAME = bytes(range(60))
CSUM = bytes.fromhex("0100 0000 0000 2200 1000")  # NEEDS_CSUM, csum_start 34, csum_offset 16
TSO = bytes.fromhex("0101 4200 a805 2200 1000")  # and TCPV4, hdr_len 66, gso_size 1448
GARBAGE = bytes.fromhex("0104 4200 a805 2200 1000")  # TCPV6 was never offered


class Bench:
    """A NIC with its driver's side at hand, and the far end of the wire."""

    def __init__(
        self, vnet_hdr_len: int, max_frame: int = MAX_FRAME, rx_frames: int = 64, rx_bytes: int = 1 << 18
    ) -> None:
        near, self.far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        near.setblocking(False)
        self.far.setblocking(False)
        self.near = near
        self.nic = NicRegisters(64)
        open_nic(self.nic)
        self.stats = DeviceStats()
        self.port = FramePort(near.fileno(), vnet_hdr_len, max_frame)
        self.hardware = TapNic(self.port, self.nic, self.stats, rx_frames, rx_bytes)

    def received(self) -> list[bytes]:
        return received(self.nic)

    def queue(self, *pieces: Buffer, context: bool = False, gso_size: int = 0) -> None:
        queue(self.nic, *pieces, context=context, gso_size=gso_size)

    def sent(self) -> list[bytes]:
        """What has arrived at the far end."""
        frames = []
        while True:
            try:
                frames.append(self.far.recv(70_000))
            except BlockingIOError:
                return frames

    def counted(self) -> dict[str, int]:
        """The statistics that have moved."""
        names = ("rx_errors", "rx_dropped", "rx_length_errors", "rx_missed_errors", "tx_errors", "tx_dropped")
        return {name: getattr(self.stats, name) for name in names if getattr(self.stats, name)}


@pytest.fixture
def plain() -> Iterator[Bench]:
    """Without offload: bare frames."""
    bench = Bench(0)
    yield bench
    bench.near.close()
    bench.far.close()


@pytest.fixture
def vnet() -> Iterator[Bench]:
    """With offload: a virtio_net_hdr in front of every frame."""
    bench = Bench(10, 65_535 + 14 + 4)
    yield bench
    bench.near.close()
    bench.far.close()


# -- receive


def test_a_quiet_wire_brings_nothing_and_does_not_interrupt(plain: Bench) -> None:
    assert not plain.hardware.receive()
    assert (plain.received(), interrupted(plain.nic), plain.counted()) == ([], False, {})


def test_a_batch_is_received_in_order_and_announced(plain: Bench) -> None:
    frames = [bytes([n]) * 60 for n in range(10)]
    for frame in frames:
        plain.far.send(frame)
    assert not plain.hardware.receive(), "drained: the descriptor said EAGAIN"
    assert (plain.received(), interrupted(plain.nic), plain.counted()) == (frames, True, {})


def test_the_frame_budget_ends_a_batch_and_says_that_there_may_be_more() -> None:
    bench = Bench(0, rx_frames=3)
    for n in range(4):
        bench.far.send(bytes([n]) * 60)
    assert bench.hardware.receive() and len(bench.received()) == 3
    assert not bench.hardware.receive() and len(bench.received()) == 4
    bench.near.close()
    bench.far.close()


def test_the_byte_budget_ends_a_batch_of_long_frames() -> None:
    bench = Bench(10, 65_553, rx_bytes=100_000)
    for _ in range(3):
        bench.far.send(TSO + bytes(60_000))
    assert bench.hardware.receive() and len(bench.received()) == 2
    assert not bench.hardware.receive() and len(bench.received()) == 3
    bench.near.close()
    bench.far.close()


def test_a_full_ring_leaves_frames_where_they_are(plain: Bench) -> None:
    """A TAP holds a thousand frames of its own: what waits there is not lost, and nothing is missed."""
    plain.nic.rx.tail = 2
    for n in range(3):
        plain.far.send(bytes([n]) * 60)
    assert plain.hardware.receive() and len(plain.received()) == 2 and interrupted(plain.nic)
    assert plain.hardware.receive() and len(plain.received()) == 2 and not interrupted(plain.nic)
    assert (plain.nic.read_mpc(), plain.counted()) == (0, {})
    plain.nic.rx.tail = 64
    assert not plain.hardware.receive() and len(plain.received()) == 3


def test_a_closed_device_loses_what_comes_and_is_quiet_afterwards(plain: Bench) -> None:
    plain.nic.enabled = False
    plain.nic.rx.tail = 0
    plain.far.send(FRAME)
    assert not plain.hardware.receive()
    assert plain.counted() == {"rx_dropped": 1}
    assert plain.received() == []


def test_a_vnet_header_becomes_the_descriptor(vnet: Bench) -> None:
    vnet.far.send(TSO + FRAME)
    vnet.hardware.receive()
    descriptor = vnet.nic.rx.descriptors[0]
    assert (descriptor.buffer, descriptor.start) == (TSO + FRAME, len(TSO))  # the header is not cut off, it is skipped
    assert (descriptor.ip_summed, descriptor.csum_start, descriptor.csum_offset) == (CHECKSUM_PARTIAL, 34, 16)
    assert (descriptor.gso_size, descriptor.gso_type) == (1448, SKB_GSO_TCPV4)


def test_a_frame_without_offload_promises_nothing(plain: Bench) -> None:
    plain.far.send(FRAME)
    plain.hardware.receive()
    assert plain.nic.rx.descriptors[0].ip_summed == CHECKSUM_NONE


@pytest.mark.parametrize("raw", [b"\x01", bytes(9), GARBAGE + bytes(3000), CSUM + bytes(51)])
def test_a_header_that_cannot_be_believed_is_counted_and_the_next_frame_is_fine(vnet: Bench, raw: bytes) -> None:
    vnet.far.send(raw)
    vnet.far.send(bytes(10) + FRAME)
    assert not vnet.hardware.receive()
    assert (vnet.received(), vnet.counted()) == ([FRAME], {"rx_errors": 1})


@pytest.mark.parametrize("length", [MAX_FRAME + 1, MAX_FRAME + 2, 9000])
def test_a_frame_longer_than_the_mtu_allows_is_counted_not_truncated(plain: Bench, length: int) -> None:
    """A read cuts what does not fit, without a word: a frame that fills the whole read may be cut."""
    plain.far.send(bytes(length))
    plain.far.send(bytes(MAX_FRAME))
    assert not plain.hardware.receive()
    assert plain.received() == [bytes(MAX_FRAME)]
    assert plain.counted() == {"rx_errors": 1, "rx_length_errors": 1}


def test_the_longest_super_segment_fits(vnet: Bench) -> None:
    vnet.far.send(TSO + bytes(65_535 + 14))
    vnet.hardware.receive()
    assert [len(frame) for frame in vnet.received()] == [65_549]


# -- transmit


def test_an_empty_ring_sends_nothing(plain: Bench) -> None:
    assert plain.hardware.transmit()
    assert plain.sent() == []


def test_pieces_leave_as_one_frame_in_order(plain: Bench) -> None:
    plain.queue(b"head" * 4, memoryview(b"middle" * 5), b"tail" * 4)
    plain.queue(FRAME)
    assert plain.hardware.transmit()
    assert plain.sent() == [b"head" * 4 + b"middle" * 5 + b"tail" * 4, FRAME]
    assert plain.nic.tx.head == plain.nic.tx.tail and not plain.nic.doorbell


def test_every_frame_gets_its_header(vnet: Bench) -> None:
    vnet.queue(FRAME)
    vnet.queue(FRAME, b"payload", context=True)
    vnet.queue(FRAME, memoryview(bytes(60_000)), context=True, gso_size=1448)
    vnet.queue(FRAME)
    assert vnet.hardware.transmit()
    expected = [bytes(10) + FRAME, CSUM + FRAME + b"payload", TSO + FRAME + bytes(60_000), bytes(10) + FRAME]
    assert vnet.sent() == expected


def test_buffers_are_let_go_once_sent(vnet: Bench) -> None:
    """Or a sent payload would stay in memory until the ring comes round."""
    vnet.queue(FRAME, bytes(1000))
    vnet.hardware.transmit()
    assert all(descriptor.buffer == b"" for descriptor in vnet.nic.tx.descriptors)


def test_what_the_descriptor_does_not_take_waits_and_is_sent_once(plain: Bench) -> None:
    plain.near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4608)
    frames = [bytes([n]) * 1000 for n in range(20)]
    for frame in frames:
        plain.queue(frame)
    assert not plain.hardware.transmit()
    arrived = plain.sent()
    assert 0 < len(arrived) < 20 and plain.nic.tx.head == len(arrived)
    while not plain.hardware.transmit():
        arrived += plain.sent()
    assert arrived + plain.sent() == frames
    assert plain.counted() == {}


class BrokenPort(FramePort):
    """A descriptor that answers every call with one error."""

    def __init__(self, code: int) -> None:
        super().__init__(-1, 10, 65_553)
        self.code = code
        self.calls = 0

    def read(self) -> bytes | None:
        self.calls += 1
        raise OSError(self.code, os.strerror(self.code))

    def write(self, pieces: list[Buffer]) -> int:
        self.calls += 1
        return self.code


@pytest.mark.parametrize("code", [errno.EIO, errno.EINVAL, errno.ENOBUFS, errno.ENOMEM])
def test_a_frame_the_kernel_refuses_is_counted_and_the_next_one_tried(vnet: Bench, code: int) -> None:
    port = BrokenPort(code)
    hardware = TapNic(port, vnet.nic, vnet.stats)
    vnet.queue(FRAME)
    vnet.queue(FRAME)
    assert hardware.transmit()
    assert (port.calls, vnet.counted(), hardware.gone, vnet.nic.link_up) == (2, {"tx_errors": 2}, False, True)
    assert vnet.nic.next_tx() is None


def test_a_device_that_was_deleted_is_a_link_that_is_down(vnet: Bench) -> None:
    """tun_chr_read_iter and tun_chr_write_iter answer EBADFD once the interface has gone."""
    hardware = TapNic(BrokenPort(errno.EBADFD), vnet.nic, vnet.stats)
    assert not hardware.receive()
    assert (hardware.gone, vnet.nic.link_up, vnet.counted()) == (True, False, {"rx_errors": 1})


def test_a_closed_descriptor_reports_its_errno(vnet: Bench) -> None:
    assert FramePort(-1, 0, MAX_FRAME).write([FRAME]) == errno.EBADF


def test_the_hardware_is_watched_by_its_descriptor(plain: Bench) -> None:
    assert plain.hardware.fileno() == plain.near.fileno()


def test_a_frame_after_a_pause_is_answered_before_anybody_looks_for_more(plain: Bench) -> None:
    """What else waits is not lost: the descriptor stays readable, and in a run of frames all are taken together."""
    for n in range(3):
        plain.far.send(bytes([n]) * 60)
    start = 10 * PAUSE
    assert not plain.hardware.receive(start) and len(plain.received()) == 1
    assert plain.port.readable()
    assert not plain.hardware.receive(start + PAUSE) and len(plain.received()) == 3
    assert not plain.port.readable()
