"""A device's queue discipline: first in, first out, bounded (Linux net/sched/sch_fifo.c, pfifo)."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from mypy_extensions import i64

if TYPE_CHECKING:
    from ustack.packet import Packet


class Pfifo:
    """Packets that wait for their device. ``qlen`` in packets, ``backlog`` in bytes."""

    def __init__(self) -> None:
        self.qlen: i64 = 0
        self.backlog: i64 = 0
        self.drops: i64 = 0
        self.requeues: i64 = 0
        self._packets: deque[Packet] = deque()

    def enqueue(self, packet: Packet, limit: i64) -> bool:
        """Take ``packet`` unless ``limit`` packets already wait (pfifo_enqueue); False counts a drop."""
        if self.qlen >= limit:
            self.drops += 1
            return False
        self._packets.append(packet)
        self._add(packet)
        return True

    def dequeue(self) -> Packet:
        """The packet that has waited longest; only while ``qlen`` is not 0."""
        packet = self._packets.popleft()
        self.qlen -= 1
        self.backlog -= packet.len
        return packet

    def requeue(self, packet: Packet) -> None:
        """Put back what the device would not take, in front, whatever the limit (dev_requeue_skb)."""
        self._packets.appendleft(packet)
        self.requeues += 1
        self._add(packet)

    def _add(self, packet: Packet) -> None:
        self.qlen += 1
        self.backlog += packet.len
