"""Captures: every frame of a stack's devices in a pcapng file, and what became of those that were lost.

A frame that the stack drops carries the reason as its comment. To know it, frames wait until the batch they came in
has been worked off, which is before the same poll returns. What is lost later (after it waited for a neighbour or for
a fragment), or what was ours and never reached a device, is written when it is lost, as a packet of an interface of
its own called "dropped", from the IP header on.

    device ─ tap ─┐                      ┌─ frames in order, one write a batch
                  ├─ waiting for its end ─┤
    net.drop ─────┘                      └─ "dropped"

Checksums that a device was to compute are not in the frames yet, as in any capture above a driver.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, BinaryIO, Final

from ustack.device.core import Flusher, PacketTap
from ustack.device.net_device import BROADCAST_MAC, IFF_LOOPBACK
from ustack.io import pcapng
from ustack.net import DropWatcher
from ustack.packet import PACKET_BROADCAST, PACKET_HOST, PACKET_MULTICAST
from ustack.wire.ethernet import ETH_HLEN

if TYPE_CHECKING:
    from ustack.device.core import Devices
    from ustack.device.net_device import NetDevice
    from ustack.drop import Reason
    from ustack.net import Net
    from ustack.packet import Packet

log: Final = logging.getLogger("ustack.capture")

#: Bytes kept of a frame: more than any super-segment.
SNAPLEN: Final = 262_144
#: Frames that wait at most; beyond it they are written although their end is not known.
MAX_WAITING: Final = 4096
_DROPPED: Final = "dropped"
_IPV4: Final = 4
_RECEPTION: Final = {
    PACKET_HOST: pcapng.FLAG_UNICAST,
    PACKET_BROADCAST: pcapng.FLAG_BROADCAST,
    PACKET_MULTICAST: pcapng.FLAG_MULTICAST,
}


class _Frame:
    """One frame that waits to be written; ``packet`` only while its end is of interest."""

    def __init__(self, packet: Packet | None, index: int, time: int, data: bytes, length: int, flags: int) -> None:
        self.packet = packet
        self.index = index
        self.time = time
        self.data = data
        self.length = length
        self.flags = flags
        self.note = ""


class _Tap(PacketTap):
    def __init__(self, capture: Capture) -> None:
        self.capture = capture

    def frame(self, packet: Packet, outgoing: bool) -> None:
        self.capture.frame(packet, outgoing)


class _Watcher(DropWatcher):
    def __init__(self, capture: Capture) -> None:
        self.capture = capture

    def dropped(self, packet: Packet, reason: Reason) -> None:
        self.capture.dropped(packet, reason)


class _Flusher(Flusher):
    def __init__(self, capture: Capture) -> None:
        self.capture = capture

    def flush(self) -> None:
        self.capture.batch_over()


class Capture:
    """A running capture; begins when it is made and ends with ``close``."""

    def __init__(
        self,
        file: BinaryIO,
        net: Net,
        devices: Devices,
        epoch: int = 0,
        only: list[NetDevice] | None = None,
        snaplen: int = SNAPLEN,
    ) -> None:
        """Write to ``file``, which stays the caller's to close; ``epoch`` is what makes ``net.now`` ns since 1970.

        ``only`` these devices, if given; the first ``snaplen`` bytes of every frame. Should the file fail, the capture
        ends itself, says so in ``error`` and in the log, and the stack goes on.
        """
        self.frames = 0  #: written, or waiting to be
        self.error: OSError | None = None
        self._file = file
        self._net = net
        self._devices = devices
        self._epoch = epoch
        self._only = only
        self._snaplen = snaplen
        self._running = True
        self._registered = True
        self._interfaces: dict[str, int] = {}
        self._waiting: list[_Frame] = []
        self._of_packet: dict[int, _Frame] = {}  # id of a packet that _waiting keeps alive
        self._out: list[bytes] = [pcapng.section_header("ustack")]
        for dev in only if only is not None else devices.all():
            self._interface(dev)
        self._tap = _Tap(self)
        self._watcher = _Watcher(self)
        devices.add_tap(self._tap)
        net.drop_watchers.append(self._watcher)
        devices.at_softirq_end(_Flusher(self))
        self.flush()

    def close(self) -> None:
        """Write what waits and the devices' own counts, and stop; closing again does nothing."""
        if self._running:
            self.flush()
            self._count()
            self._write()
            self._running = False
        self._unregister()

    # -- what the stack tells us

    def frame(self, packet: Packet, outgoing: bool) -> None:
        """A frame on its way in or out of a device."""
        dev = packet.dev
        if dev is None or not self._running or (self._only is not None and dev not in self._only):
            return
        if outgoing and dev.flags & IFF_LOOPBACK:
            return  # it comes in at once, and is shown then
        data = _bytes_of(packet, int(packet.mac_header))
        flags = pcapng.FLAG_OUTBOUND if outgoing else pcapng.FLAG_INBOUND
        flags |= _kind_sent(data) if outgoing else _RECEPTION.get(int(packet.pkt_type), pcapng.FLAG_PROMISCUOUS)
        index = self._interface(dev)
        waits = None if outgoing else packet
        frame = _Frame(waits, index, self._time(), data[: self._snaplen], len(data), flags)
        self._wait(frame)

    def dropped(self, packet: Packet, reason: Reason) -> None:
        """``packet`` is lost: a comment to its frame if that has not been written yet, else a packet of "dropped"."""
        if not self._running:
            return
        frame = self._of_packet.get(id(packet))
        if frame is not None:
            frame.note = f"dropped: {reason.name}"
            return
        if self._only is not None and packet.dev not in self._only:
            return
        at = int(packet.network_header)
        data = _bytes_of(packet, at)
        if not data or data[0] >> 4 != _IPV4:
            return  # nothing a reader of IP packets could show
        index = self._raw_interface()
        frame = _Frame(None, index, self._time(), data[: self._snaplen], len(data), 0)
        frame.note = f"dropped: {reason.name}"
        self._wait(frame)

    def batch_over(self) -> None:
        """What had to happen to the frames of this batch has happened."""
        if self._running:
            self.flush()
        else:
            self._unregister()

    def flush(self) -> None:
        """Write what waits."""
        if self._waiting:
            self._out.extend(
                pcapng.packet(frame.index, frame.time, frame.data, frame.length, frame.flags, frame.note)
                for frame in self._waiting
            )
            self._waiting.clear()
            self._of_packet.clear()
        if self._out:
            self._write()

    # -- inside

    def _wait(self, frame: _Frame) -> None:
        self.frames += 1
        self._waiting.append(frame)
        if frame.packet is not None:
            self._of_packet[id(frame.packet)] = frame
        if len(self._waiting) >= MAX_WAITING:
            self.flush()

    def _time(self) -> int:
        return self._epoch + int(self._net.now)

    def _interface(self, dev: NetDevice) -> int:
        """The number of a device, described when it is first seen."""
        return self._describe(dev.name, pcapng.LINKTYPE_ETHERNET, int(dev.mac), "")

    def _raw_interface(self) -> int:
        return self._describe(_DROPPED, pcapng.LINKTYPE_RAW, None, "packets lost inside the stack")

    def _describe(self, name: str, linktype: int, mac: int | None, description: str) -> int:
        index = self._interfaces.get(name)
        if index is None:
            index = self._interfaces[name] = len(self._interfaces)
            self._out.append(pcapng.interface(linktype, self._snaplen, name, mac, description))
        return index

    def _count(self) -> None:
        """Every device's own counts."""
        for dev in self._devices.all():
            index = self._interfaces.get(dev.name)
            if index is not None:
                lost = int(dev.stats.rx_dropped + dev.stats.rx_missed_errors)
                self._out.append(pcapng.statistics(index, self._time(), int(dev.stats.rx_packets), lost))

    def _write(self) -> None:
        """One write for all of it; a file that fails ends the capture, not the stack."""
        data = b"".join(self._out)
        self._out.clear()
        try:
            self._file.write(data)
        except OSError as problem:
            self.error = problem
            log.error("capture ends: %s", problem)
            self._running = False

    def _unregister(self) -> None:
        """Not from inside a tap or a watcher: their lists are being walked then."""
        if self._registered:
            self._registered = False
            self._devices.remove_tap(self._tap)
            self._net.drop_watchers.remove(self._watcher)
            self._waiting.clear()
            self._of_packet.clear()


def _bytes_of(packet: Packet, start: int) -> bytes:
    """A copy from ``start`` on, pieces joined."""
    linear = packet.buf[start : packet.end]
    return linear if packet.frags is None else b"".join([linear, *packet.frags])


def _kind_sent(data: bytes) -> int:
    """Unicast, multicast or broadcast by the destination of an Ethernet frame."""
    if len(data) < ETH_HLEN:
        return 0
    destination = int.from_bytes(data[:6], "big")
    if destination == BROADCAST_MAC:
        return pcapng.FLAG_BROADCAST
    return pcapng.FLAG_MULTICAST if data[0] & 1 else pcapng.FLAG_UNICAST
