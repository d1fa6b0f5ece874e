"""Addresses we answer ARP questions for though they are not ours, and questions that must wait for their answer
(Linux net/core/neighbour.c: pneigh_*, neigh_proxy_process).

RFC 1027 calls it "a lie"; a proxy that answers later than the host itself loses against it, hence proxy_delay.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

from mypy_extensions import i64, trait

from ustack.device.net_device import IFF_UP
from ustack.drop import Reason
from ustack.sock import error
from ustack.timer import NSEC_PER_MSEC, Timer
from ustack.trace.journey import PATIENCE
from ustack.trace.points import Point

if TYPE_CHECKING:
    from ustack.device.net_device import NetDevice
    from ustack.in_device import NeighParms
    from ustack.net import Net
    from ustack.packet import Packet
    from ustack.trace.journey import Facts

#: A limit where Linux has only memory.
MAX_PROXIES: Final = 65_536
_NSEC_PER_CENTISEC: Final[i64] = 10 * NSEC_PER_MSEC


class PneighEntry:
    """struct pneigh_entry: an address that is answered for on ``dev``, on every device if that is None."""

    def __init__(self, addr: i64, dev: NetDevice | None) -> None:
        self.addr: i64 = addr
        self.dev: NetDevice | None = dev
        self.flags: i64 = 0  #: NTF_*
        self.protocol: i64 = 0  #: RTPROT_*
        self.permanent: bool = False  #: stays when the link loses its carrier


@trait
class ProxyRedo:
    """Who looks at a question again once it has waited (neigh_table.proxy_redo)."""

    def proxy_redo(self, packet: Packet) -> None:
        raise NotImplementedError


class _Waiting:
    def __init__(self, packet: Packet, dev: NetDevice, parms: NeighParms, due: i64) -> None:
        self.packet: Packet = packet
        self.dev: NetDevice = dev
        self.parms: NeighParms = parms
        self.due: i64 = due


class ProxyTable(Timer):
    """The proxy entries and the proxy queue of one neighbour table."""

    def __init__(self, net: Net) -> None:
        super().__init__()
        self.net: Net = net
        self.redo: ProxyRedo | None = None
        self._entries: dict[int, list[PneighEntry]] = {}
        self._count: i64 = 0
        self._queue: list[_Waiting] = []

    # -- entries

    def pneigh_lookup(self, addr: i64, dev: NetDevice | None) -> PneighEntry | None:
        """The entry for ``addr`` on ``dev``, or on any device."""
        for entry in self._entries.get(int(addr), []):
            if entry.dev is dev or entry.dev is None:
                return entry
        return None

    def pneigh_create(
        self, addr: i64, dev: NetDevice | None, flags: i64 = 0, protocol: i64 = 0, permanent: bool = False
    ) -> PneighEntry:
        """A new entry, or the one that serves already, changed. ENOBUFS."""
        entry = self.pneigh_lookup(addr, dev)
        if entry is None:
            if self._count >= MAX_PROXIES:
                raise error(errno.ENOBUFS)
            entry = PneighEntry(addr, dev)
            self._entries.setdefault(int(addr), []).insert(0, entry)
            self._count += 1
        entry.flags = flags
        entry.protocol = protocol
        entry.permanent = permanent
        return entry

    def pneigh_delete(self, addr: i64, dev: NetDevice | None) -> None:
        """Forget the entry of exactly this device. ENOENT."""
        for entry in self._entries.get(int(addr), []):
            if entry.dev is dev:
                self._forget(entry)
                return
        raise error(errno.ENOENT)

    def pneigh_dump(self) -> list[PneighEntry]:
        """All entries, those of one address newest first."""
        return [entry for entries in self._entries.values() for entry in entries]

    def pneigh_ifdown(self, dev: NetDevice, skip_perm: bool = False) -> None:
        """``dev`` is gone, or has only lost its carrier (``skip_perm``): so are its entries, and what waits on it."""
        for entry in self.pneigh_dump():
            if entry.dev is dev and not (skip_perm and entry.permanent):
                self._forget(entry)
        queue, self._queue = self._queue, []
        for waiting in queue:
            if waiting.dev is dev:
                self._lose(waiting)
            else:
                self._queue.append(waiting)
        self._arm()

    def _forget(self, entry: PneighEntry) -> None:
        entries = self._entries[int(entry.addr)]
        entries.remove(entry)
        self._count -= 1
        if not entries:
            del self._entries[int(entry.addr)]

    # -- the queue

    def waiting(self) -> list[Packet]:
        """The questions that wait."""
        return [waiting.packet for waiting in self._queue]

    def pneigh_enqueue(self, packet: Packet, dev: NetDevice) -> bool:
        """Keep ``packet`` for a random time up to proxy_delay; False, and dropped, if proxy_qlen are waiting."""
        parms = dev.in_dev.arp_parms
        if parms.qlen > parms.proxy_qlen:
            self.net.drop(packet, Reason.NEIGH_QUEUEFULL)
            return False
        delay = self.net.entropy.below(parms.proxy_delay_cs * _NSEC_PER_CENTISEC)
        if packet.journey is not None:
            facts: Facts = {"delay_us": delay // 1000, "waiting": parms.qlen, "limit": parms.proxy_qlen}
            packet.journey.step(Point.PNEIGH_ENQUEUE, "answered for another, later", facts, dev.name)
            packet.journey.patience = delay + PATIENCE
        parms.qlen += 1
        self._queue.append(_Waiting(packet, dev, parms, self.net.now + delay))
        self._arm()
        return True

    def fire(self) -> None:
        """neigh_proxy_process: look again at what has waited long enough."""
        due = [waiting for waiting in self._queue if waiting.due <= self.net.now]
        self._queue = [waiting for waiting in self._queue if waiting.due > self.net.now]
        for waiting in due:
            if self.redo is None or waiting.dev.flags & IFF_UP == 0:
                self._lose(waiting)
            else:
                waiting.parms.qlen -= 1
                self.redo.proxy_redo(waiting.packet)
        self._arm()

    def _lose(self, waiting: _Waiting) -> None:
        waiting.parms.qlen -= 1
        self.net.drop(waiting.packet, Reason.NEIGH_DEAD)

    def _arm(self) -> None:
        if self._queue:
            self.net.timers.mod_timer(self, min([waiting.due for waiting in self._queue]))
        else:
            self.net.timers.del_timer(self)
