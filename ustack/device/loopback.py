"""The loopback device: what goes out comes in (Linux drivers/net/loopback.c)."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from mypy_extensions import i64

from ustack.device.net_device import (
    IFF_LOOPBACK,
    NETIF_F_HW_CSUM,
    NETIF_F_RXCSUM,
    NETIF_F_SG,
    NETIF_F_TSO,
    NETIF_F_TSO_ECN,
    NetDevice,
)
from ustack.drop import Reason
from ustack.packet import Packet
from ustack.trace.points import Point

if TYPE_CHECKING:
    from ustack.device.core import Devices

LOOPBACK_MTU: Final = 65_536


class Loopback(NetDevice):
    """``lo``. Packets cross with their offloads undone: nobody sums what never leaves memory."""

    def __init__(self, devices: Devices, name: str = "lo") -> None:
        super().__init__(name, 0, LOOPBACK_MTU)
        self.flags = IFF_LOOPBACK
        self.min_mtu = self.max_mtu = 0  # whatever one likes
        self.features = NETIF_F_HW_CSUM | NETIF_F_RXCSUM | NETIF_F_SG | NETIF_F_TSO | NETIF_F_TSO_ECN
        self.no_queue = True
        self._devices: Devices = devices
        self._backlog: deque[Packet] = deque()
        self._backlog_len: i64 = 0

    def stop(self) -> None:
        while self._backlog_len != 0:
            self.stats.rx_dropped += 1
            self._devices.net.drop(self._take(), Reason.DEV_DOWN)

    def start_xmit(self, packet: Packet) -> bool:
        """Queue ``packet`` for the next poll (loopback_xmit, netif_rx); one too many is dropped, as netif_rx does."""
        net = self._devices.net
        looped = received(packet, self)
        if looped.journey is not None:
            full = self._backlog_len >= net.sysctl.netdev_max_backlog
            looped.journey.step(
                Point.LOOPBACK_XMIT,
                "the backlog is full" if full else "to netif_rx",
                {"backlog": self._backlog_len, "limit": net.sysctl.netdev_max_backlog},
                self.name,
            )
        if self._backlog_len >= net.sysctl.netdev_max_backlog:
            self.stats.rx_dropped += 1
            net.drop(looped, Reason.CPU_BACKLOG)
            return True
        length = looped.end
        self.stats.tx_packets += 1
        self.stats.tx_bytes += length
        self.stats.rx_packets += 1
        self.stats.rx_bytes += length
        self._backlog.append(looped)
        self._backlog_len += 1
        self._devices.napi_schedule(self)
        return True

    def poll(self, budget: i64) -> i64:
        """Receive what was sent (process_backlog)."""
        work: i64 = 0
        while work < budget and self._backlog_len != 0:
            work += 1
            packet = self._take()
            if packet.journey is not None:
                packet.journey.step(Point.PROCESS_BACKLOG, "its turn", {"backlog": self._backlog_len}, self.name)
            self._devices.netif_receive_skb(packet)
        if work < budget:
            self._devices.napi_complete(self)
        return work

    def _take(self) -> Packet:
        self._backlog_len -= 1
        return self._backlog.popleft()


def received(packet: Packet, dev: NetDevice) -> Packet:
    """``packet`` as ``dev`` receives it: one run of bytes, without its sender, its offload state kept.

    A route that knows the way in goes along (skb_dst_force): looking up 127.0.0.1 on the way in would find a martian.
    """
    buf = packet.buf if packet.end == len(packet.buf) else packet.buf[: packet.end]
    if packet.frags is not None:
        buf = b"".join([buf, *packet.frags])
    looped = Packet(buf, dev)
    looped.journey = packet.journey
    looped.mark = packet.mark
    looped.priority = packet.priority
    looped.ip_summed = packet.ip_summed
    looped.csum_start = packet.csum_start
    looped.csum_offset = packet.csum_offset
    looped.gso_size = packet.gso_size
    looped.gso_type = packet.gso_type
    if packet.dst is not None and packet.dst.input is not None:
        looped.dst = packet.dst
    return looped
