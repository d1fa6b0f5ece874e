"""Neighbours (Linux net/core/neighbour.c: neigh_dump_info, neigh_fill_info, pneigh_fill_info).

What is done to them stands in neighbour/netlink.py.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

from ustack.neighbour.netlink import NeighConfig, neigh_add, neigh_delete, neigh_get, pneigh_get
from ustack.neighbour.states import NUD_NOARP, NUD_PERMANENT, NUD_VALID
from ustack.neighbour.table import NO_LLADDR, NTF_PROXY
from ustack.rtnl.handler import Handler, find_device, in_prefix
from ustack.rtnl.messages import Neigh
from ustack.timer import NSEC_PER_SEC

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ustack.device.net_device import NetDevice
    from ustack.neighbour.pneigh import PneighEntry
    from ustack.neighbour.table import Neighbour, NeighbourTable
    from ustack.rtnl.messages import Object
    from ustack.stack import Stack

#: What a flush takes unless it is told otherwise: what was not set by hand.
NUD_FLUSHED: Final = 0xFF & ~(NUD_PERMANENT | NUD_NOARP)
#: In a filter, NUD_NONE, which has no bit (iproute2 has it so).
NUD_NONE_BIT: Final = 0x100


class NeighHandler(Handler[Neigh]):
    def __init__(self, stack: Stack) -> None:
        self.stack: Stack = stack
        self.table: NeighbourTable = stack.neighbours

    def new(self, message: Neigh, flags: int) -> None:
        """ENODEV, and what neigh_add raises."""
        cfg = NeighConfig(
            message.dst,
            self._device(message),
            NO_LLADDR if message.mac is None else message.mac,
            message.state,
            message.flags | (NTF_PROXY if message.proxy else 0),
            message.protocol,
        )
        neigh_add(self.table, cfg, flags)

    def delete(self, message: Neigh) -> None:
        """ENODEV, ENOENT, EINVAL without a device."""
        neigh_delete(self.table, message.dst, self._device(message), NTF_PROXY if message.proxy else 0)

    def get(self, message: Neigh) -> list[Object]:
        """ENODEV, ENOENT, EINVAL without a device."""
        dev = self._device(message)
        if message.proxy:
            return [fill_proxy(pneigh_get(self.table, message.dst, dev))]
        return [self.fill(neigh_get(self.table, message.dst, dev))]

    def dump(self, message: Neigh) -> Iterator[Object | None]:
        for neigh in self._shown(message.proxy):
            yield neigh if agrees(neigh, message) else None

    def flush(self, message: Neigh) -> Iterator[Object | None]:
        """Those in one of the states ``state``; without, all that was not set by hand."""
        if not message.proxy and message.state == 0:
            message.state = NUD_FLUSHED
        for neigh in list(self.dump(message)):
            if isinstance(neigh, Neigh):
                self._forget(neigh)
            yield neigh

    def _shown(self, proxy: bool) -> list[Neigh]:
        if proxy:
            return [fill_proxy(entry) for entry in self.table.proxies.pneigh_dump()]
        return [self.fill(neighbour) for neighbour in self.table.entries()]

    def _forget(self, neigh: Neigh) -> None:
        """One that is gone already does not matter."""
        try:
            self.delete(neigh)
        except OSError as reason:
            if reason.errno not in (errno.ENOENT, errno.ENODEV):
                raise

    def fill(self, neighbour: Neighbour) -> Neigh:
        """neigh_fill_info."""
        now = self.stack.net.now
        return Neigh(
            ifindex=int(neighbour.dev.ifindex),
            dst=int(neighbour.addr),
            mac=int(neighbour.lladdr) if neighbour.nud_state & NUD_VALID else None,
            state=int(neighbour.nud_state),
            flags=int(neighbour.flags),
            protocol=int(neighbour.protocol),
            probes=int(neighbour.probes),
            used=int(now - neighbour.used) // NSEC_PER_SEC,
            confirmed=int(now - neighbour.confirmed) // NSEC_PER_SEC,
            updated=int(now - neighbour.updated) // NSEC_PER_SEC,
        )

    def _device(self, message: Neigh) -> NetDevice | None:
        """The device, if one is named. ENODEV."""
        return find_device(self.stack.devices, message.ifindex) if message.ifindex else None


def fill_proxy(entry: PneighEntry) -> Neigh:
    """pneigh_fill_info."""
    return Neigh(
        ifindex=0 if entry.dev is None else int(entry.dev.ifindex),
        dst=int(entry.addr),
        proxy=True,
        flags=int(entry.flags) & ~NTF_PROXY,
        protocol=int(entry.protocol),
    )


def agrees(neigh: Neigh, wanted: Neigh) -> bool:
    """Whether a dump that asks for ``wanted`` shows ``neigh`` (print_neigh of iproute2's ipneigh.c)."""
    if wanted.ifindex not in (0, neigh.ifindex):
        return False
    if wanted.dst and not in_prefix(neigh.dst, (wanted.dst, wanted.dst_len)):
        return False
    return wanted.proxy or wanted.state == 0 or (neigh.state or NUD_NONE_BIT) & wanted.state != 0
