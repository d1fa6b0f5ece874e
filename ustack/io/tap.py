"""The hardware behind a NIC's rings: a TAP device, its file descriptor on one side, NicRegisters on the other.

Read first: Documentation/networking/tuntap.rst, drivers/net/tun.c (tun_get_user, tun_put_user, set_offload).

With offload the TAP is opened with IFF_VNET_HDR: a TCP super-segment of up to 64 KiB crosses as one frame in each
direction, and neither side sums its payload. A TAP does not push back. It drops what it is too full to hold (its
txqueuelen frames), so whoever drives this reads in batches, and again until ``receive`` says that nothing is left.
"""

from __future__ import annotations

import errno
import os
import select
from fcntl import ioctl
from struct import pack, unpack_from
from typing import TYPE_CHECKING, Final

from mypy_extensions import i64, mypyc_attr
from pytun import IFF_NO_PI, IFF_TAP, TunTapDevice

from ustack.device.net_device import (
    ETH_DATA_LEN,
    ETH_HLEN,
    NETIF_F_HW_CSUM,
    NETIF_F_RXCSUM,
    NETIF_F_SG,
    NETIF_F_TSO,
    NETIF_F_TSO_ECN,
    DeviceStats,
)
from ustack.io.loop import Hardware
from ustack.io.virtio_net import VIRTIO_NET_HDR_LEN, RxOffload, encode
from ustack.packet import Packet
from ustack.trace.journey import DROPPED, SENT
from ustack.trace.points import Point

if TYPE_CHECKING:
    from ustack.device.ring import NicRegisters, TxFrame
    from ustack.net import Net
    from ustack.packet import Buffer
    from ustack.trace.journey import Facts, Journey, Tracer

# include/uapi/linux/if_tun.h
IFF_PERSIST: Final = 0x0800
IFF_VNET_HDR: Final = 0x4000
TUNSETOFFLOAD: Final = 0x400454D0
TUNGETIFF: Final = 0x800454D2
TUNSETVNETHDRSZ: Final = 0x400454D8
TUNSETVNETLE: Final = 0x400454DC
TUN_F_CSUM: Final = 0x01
TUN_F_TSO4: Final = 0x02
TUN_F_TSO_ECN: Final = 0x08

#: Looked up once: the names of a module are a dictionary.
_read: Final = os.read
_writev: Final = os.writev

VLAN_HLEN: Final = 4
IP_MAX_LEN: Final = 65_535  #: bytes of an IPv4 packet, and so of a super-segment's

#: One wake-up takes in this much before the stack has its turn, whichever comes first.
RX_FRAMES: Final = 64
RX_BYTES: Final = 256 * 1024
#: Frames further apart than this do not come in runs (ns).
PAUSE: Final[i64] = 200_000


@mypyc_attr(allow_interpreted_subclasses=True)
class FramePort:
    """A non-blocking file descriptor that carries one frame for each read and write.

    ``vnet_hdr_len``: bytes of virtio_net_hdr in front of every frame, 0 for none; ``max_frame``: bytes of the longest
    frame. A TAP is one; so is a socket that keeps message boundaries.
    """

    def __init__(self, fd: int, vnet_hdr_len: i64, max_frame: i64) -> None:
        self.fd: int = fd
        self.vnet_hdr_len: i64 = vnet_hdr_len
        # One byte more than can be right: the kernel cuts what does not fit and does not tell.
        self.read_size: i64 = vnet_hdr_len + max_frame + 1
        self._waiting = select.poll()
        if fd >= 0:
            self._waiting.register(fd, select.POLLIN)

    def readable(self) -> bool:
        """Whether another frame waits, or news that the device is gone; cheaper to ask than a read that finds none."""
        return len(self._waiting.poll(0)) != 0

    def read(self) -> bytes | None:
        """The next frame with its header, None when there is none now. Raises OSError (EBADFD: the device is gone)."""
        try:
            return _read(self.fd, self.read_size)
        except BlockingIOError:
            return None

    def write(self, pieces: list[Buffer]) -> int:
        """Send one frame, its pieces not joined; 0 or the errno (EAGAIN: try again when the descriptor is writable)."""
        try:
            _writev(self.fd, pieces)
        except OSError as failure:
            return failure.errno or errno.EIO
        return 0


class Tap(FramePort):
    """A TAP device: made here and gone when closed, or, if one of that name persists, attached to."""

    def __init__(
        self, name: str, offload: bool = True, mtu: i64 = ETH_DATA_LEN, vnet_hdr_len: i64 = VIRTIO_NET_HDR_LEN
    ) -> None:
        """``name`` as an interface name or a pattern ("tap%d"); ``vnet_hdr_len`` is 10 or 12, used with offload only.

        ``mtu``: bytes, what frames are limited to without offload. Raises OSError: EPERM without the right, EBUSY if
        somebody else holds it, EINVAL if there is another kind of interface of that name, or the name is too long.
        """
        flags = IFF_TAP | IFF_NO_PI | (IFF_VNET_HDR if offload else 0)
        self.device: TunTapDevice = open_device(name, flags)
        fd: int = self.device.fileno()
        super().__init__(fd, vnet_hdr_len if offload else 0, (IP_MAX_LEN if offload else mtu) + ETH_HLEN + VLAN_HLEN)
        self.name: str = self.device.name
        self.features: i64 = 0  #: NETIF_F_*: what a driver may ask of it, and be handed by it
        os.set_blocking(fd, False)
        if offload:
            ioctl(fd, TUNSETVNETHDRSZ, pack("i", vnet_hdr_len))
            ioctl(fd, TUNSETVNETLE, pack("i", 1))
            self.set_offload(TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO_ECN)

    def set_offload(self, flags: i64) -> None:
        """Tell the kernel which TUN_F_* frames it may hand us; what it takes from us does not depend on it.

        Raises OSError EINVAL for a set that makes no sense (segmentation without TUN_F_CSUM).
        """
        ioctl(self.fd, TUNSETOFFLOAD, flags)
        self.features = NETIF_F_SG | NETIF_F_HW_CSUM
        if flags & TUN_F_CSUM != 0:
            self.features |= NETIF_F_RXCSUM
        if flags & TUN_F_TSO4 != 0:
            self.features |= NETIF_F_TSO
        if flags & TUN_F_TSO_ECN != 0:
            self.features |= NETIF_F_TSO_ECN

    @property
    def persistent(self) -> bool:
        """True if it stays when closed: it was there before, or ``persist`` was called (TUNGETIFF)."""
        reply = ioctl(self.fd, TUNGETIFF, bytes(40))
        flags: int = unpack_from("16xH", reply)[0]
        return flags & IFF_PERSIST != 0

    def persist(self, on: bool) -> None:
        """Keep the device when it is closed, or not (TUNSETPERSIST)."""
        self.device.persist(on)

    def close(self) -> None:
        """Give it back; closing twice does nothing."""
        if self.fd >= 0:
            self.fd = -1
            self.device.close()


def open_device(name: str, flags: int) -> TunTapDevice:
    """pytun's device object; its failures as OSError with Linux's errno and the interface's name."""
    try:
        return TunTapDevice(name=name, flags=flags)
    except OSError as failure:
        # pytun's own complaint, an interface name that is too long, comes without an errno
        code = failure.errno or errno.EINVAL
        raise OSError(code, os.strerror(code), name) from failure


class TapNic(Hardware):
    """Moves frames between a FramePort and the rings; ``stats`` are those of the device whose driver has the rings.

    The driving loop calls ``receive`` when the descriptor is readable, lets the stack poll, and calls ``transmit``.
    """

    def __init__(
        self,
        port: FramePort,
        nic: NicRegisters,
        stats: DeviceStats,
        rx_frames: i64 = RX_FRAMES,
        rx_bytes: i64 = RX_BYTES,
        net: Net | None = None,
    ) -> None:
        """``rx_frames`` and ``rx_bytes``: how much one ``receive`` takes in before the stack has its turn.

        ``net``: the stack's, so that a trace begins where a frame is read.
        """
        self.port: FramePort = port
        self.nic: NicRegisters = nic
        self.stats: DeviceStats = stats
        self.rx_frames: i64 = rx_frames
        self.rx_bytes: i64 = rx_bytes
        self.net: Net | None = net
        self.gone: bool = False  #: the device was deleted under us: its descriptor is good for nothing but closing
        self._offload = RxOffload()
        self._received_at: i64 = 0  # when frames were last looked for, ns

    def fileno(self) -> int:
        return self.port.fd

    def receive(self, now: i64 = 0) -> bool:
        """Take in a batch and interrupt once; True if more may be waiting: the budget is used up, or the ring full.

        A full ring leaves frames where they are, in the TAP's own queue. A device that is not open takes them and
        loses them, as hardware with its receiver off does, or a readable descriptor would never be quiet.
        """
        pause = now - self._received_at
        self._received_at = now
        budget = self.rx_frames
        if self.nic.enabled:
            budget = min(budget, self.nic.rx_room())
        frames: i64 = 0
        octets: i64 = 0
        drained = False
        while not drained and frames < budget and octets < self.rx_bytes:
            buf = self._read()
            if buf is None:
                drained = True
            else:
                self._receive_frame(buf)
                frames += 1
                octets += len(buf)
                # A frame after a pause seldom has company, and its answer is waited for: epoll tells if it has. In a
                # run of frames it costs less to ask, and where there are two, there are more.
                drained = frames == 1 and (pause > PAUSE or not self.port.readable())
        if frames != 0:
            self.nic.rx_interrupt()
        return not drained

    def transmit(self) -> bool:
        """Send what the transmit ring holds; False if the descriptor takes no more now, and the rest waits."""
        frame = self.nic.next_tx()
        while frame is not None:
            hdr_size = self.port.vnet_hdr_len
            pieces = [encode(frame, hdr_size), *frame.pieces] if hdr_size != 0 else frame.pieces
            code = self.port.write(pieces)
            if code != 0:
                if code == errno.EAGAIN:
                    return False
                self._lost(code)
            if frame.journey is not None:
                self._written(frame.journey, frame, code)
            self.nic.tx_done()
            frame = self.nic.next_tx()
        return True

    def _receive_frame(self, buf: bytes) -> None:
        if len(buf) >= self.port.read_size:
            self.stats.rx_length_errors += 1
            self.stats.rx_errors += 1
            return
        hdr_size = self.port.vnet_hdr_len
        journey = None
        if self.net is not None and self.net.tracer is not None:
            journey = self._begin(self.net.tracer, buf, hdr_size)
        if hdr_size == 0:
            taken = self.nic.receive_frame(buf, journey=journey)
        else:
            offload = self._offload
            if not offload.decode(buf, hdr_size):
                self.stats.rx_errors += 1
                if journey is not None:
                    journey.finish(DROPPED, "VIRTIO_NET_HDR")
                return
            taken = self.nic.receive_frame(
                buf,
                offload.ip_summed,
                offload.csum_start,
                offload.csum_offset,
                offload.gso_size,
                offload.gso_type,
                hdr_size,
                journey,
            )
        if not taken:
            self.stats.rx_dropped += 1

    def _begin(self, tracer: Tracer, buf: bytes, hdr_size: i64) -> Journey | None:
        """The journey of a frame that somebody asks for."""
        packet = Packet(buf)
        packet.mac_header = hdr_size
        tracer.received(packet)
        journey = packet.journey
        if journey is not None:
            facts: Facts = {"fd": self.port.fd, "length": len(buf) - hdr_size}
            if hdr_size != 0:
                facts["virtio_net_hdr"] = buf[:hdr_size].hex()
            journey.step(Point.TAP_READ, "read", facts)
        return journey

    def _written(self, journey: Journey, frame: TxFrame, code: int) -> None:
        """It is the kernel's now, or lost."""
        facts: Facts = {"fd": self.port.fd, "length": sum([len(piece) for piece in frame.pieces])}
        if frame.needs_csum:
            facts["checksum"] = "left to the kernel"
        if frame.gso_size != 0:
            facts["gso_size"] = frame.gso_size
        journey.step(Point.TAP_WRITE, "written" if code == 0 else errno.errorcode.get(code, str(code)), facts)
        if code == 0:
            journey.finish(SENT)
        else:
            journey.finish(DROPPED, "TX_ERROR")

    def _read(self) -> bytes | None:
        try:
            return self.port.read()
        except OSError as failure:
            self.stats.rx_errors += 1
            self._broken(failure.errno or 0)
            return None

    def _lost(self, code: int) -> None:
        """A frame that the kernel would not take: EIO while the interface is down, EINVAL if it makes no sense."""
        self.stats.tx_errors += 1
        self._broken(code)

    def _broken(self, code: int) -> None:
        if code == errno.EBADFD or code == errno.EBADF:
            self.gone = True
            self.nic.set_link(False)
