"""What an administrator may ask of neighbours (Linux net/core/neighbour.c: neigh_add, neigh_delete, neigh_get).

Errors are the kernel's, with its words where it has any. Unlike there, a request that is refused leaves nothing behind.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

from mypy_extensions import i64

from ustack.device.net_device import IFF_LOOPBACK
from ustack.neighbour.states import NUD_PERMANENT, NUD_VALID
from ustack.neighbour.table import NO_LLADDR, NTF_EXT_LEARNED, NTF_PROXY, NTF_ROUTER, NTF_USE, check_state
from ustack.sock import error

if TYPE_CHECKING:
    from ustack.device.net_device import NetDevice
    from ustack.neighbour.pneigh import PneighEntry
    from ustack.neighbour.table import Neighbour, NeighbourTable

# nlmsg_flags (include/uapi/linux/netlink.h)
NLM_F_REPLACE: Final = 0x100
NLM_F_EXCL: Final = 0x200
NLM_F_CREATE: Final = 0x400


class NeighConfig:
    """An entry that is asked for (struct ndmsg and its attributes)."""

    def __init__(
        self,
        addr: i64,
        dev: NetDevice | None,
        lladdr: i64 = NO_LLADDR,
        state: i64 = NUD_PERMANENT,
        flags: i64 = 0,
        protocol: i64 = 0,
    ) -> None:
        self.addr: i64 = addr
        self.dev: NetDevice | None = dev  #: None only for a proxy entry: on every device
        self.lladdr: i64 = lladdr  #: 48 bits, or NO_LLADDR
        self.state: i64 = state  #: NUD_*
        self.flags: i64 = flags  #: NTF_*
        self.protocol: i64 = protocol


def neigh_add(table: NeighbourTable, cfg: NeighConfig, nlflags: i64) -> None:
    """RTM_NEWNEIGH. ENOENT without NLM_F_CREATE, EEXIST with NLM_F_EXCL; ENOBUFS; EINVAL."""
    dev = cfg.dev
    if cfg.flags & NTF_PROXY != 0:
        table.proxies.pneigh_create(cfg.addr, dev, cfg.flags, cfg.protocol, cfg.state & NUD_PERMANENT != 0)
        return
    if dev is None:
        raise OSError(errno.EINVAL, "Device not specified")
    neighbour = table.neigh_lookup(_key(cfg.addr, dev), dev)
    override = True
    if neighbour is None:
        if nlflags & NLM_F_CREATE == 0:
            raise error(errno.ENOENT)
        neighbour = _create(table, cfg, dev)
    elif nlflags & NLM_F_EXCL != 0:
        raise error(errno.EEXIST)
    else:
        override = nlflags & NLM_F_REPLACE != 0
    _update(table, neighbour, cfg, override)


def _create(table: NeighbourTable, cfg: NeighConfig, dev: NetDevice) -> Neighbour:
    """___neigh_create, once it is known that the update will not be refused."""
    if cfg.flags & NTF_USE == 0 and cfg.state & NUD_VALID != 0 and cfg.lladdr == NO_LLADDR:
        raise OSError(errno.EINVAL, "No link layer address given")
    check_state(cfg.state)
    exempt = cfg.state & NUD_PERMANENT != 0 or cfg.flags & NTF_EXT_LEARNED != 0
    neighbour = table.neigh_alloc(_key(cfg.addr, dev), dev, exempt)
    table.set_flags(neighbour, cfg.flags & NTF_EXT_LEARNED)
    return neighbour


def _update(table: NeighbourTable, neighbour: Neighbour, cfg: NeighConfig, override: bool) -> None:
    """The flags, then either the state or, with NTF_USE, a question as if a packet wanted to go there."""
    if cfg.protocol != 0:
        neighbour.protocol = cfg.protocol
    kept = neighbour.flags & NTF_ROUTER if not override else cfg.flags & NTF_ROUTER
    if cfg.flags & NTF_USE != 0:
        table.set_flags(neighbour, cfg.flags & NTF_EXT_LEARNED | neighbour.flags & NTF_ROUTER)
        if neighbour.nud_state == NUD_PERMANENT:
            table.neigh_set(neighbour, NO_LLADDR, 0)
        table.neigh_event_send(neighbour, None)
        return
    table.set_flags(neighbour, cfg.flags & NTF_EXT_LEARNED | kept)
    table.neigh_set(neighbour, cfg.lladdr, cfg.state, override)


def neigh_delete(table: NeighbourTable, addr: i64, dev: NetDevice | None, flags: i64 = 0) -> None:
    """RTM_DELNEIGH: what waits for it fails. ENOENT; EINVAL for no device where it is no proxy entry."""
    if flags & NTF_PROXY != 0:
        table.proxies.pneigh_delete(addr, dev)
        return
    if dev is None:
        raise error(errno.EINVAL)
    if not table.neigh_delete(_key(addr, dev), dev):
        raise error(errno.ENOENT)


def neigh_get(table: NeighbourTable, addr: i64, dev: NetDevice | None) -> Neighbour:
    """RTM_GETNEIGH of one. ENOENT, EINVAL."""
    if dev is None:
        raise OSError(errno.EINVAL, "No device specified")
    neighbour = table.neigh_lookup(_key(addr, dev), dev)
    if neighbour is None:
        raise OSError(errno.ENOENT, "Neighbour entry not found")
    return neighbour


def pneigh_get(table: NeighbourTable, addr: i64, dev: NetDevice | None) -> PneighEntry:
    """RTM_GETNEIGH of a proxy entry. ENOENT."""
    entry = table.proxies.pneigh_lookup(addr, dev)
    if entry is None:
        raise OSError(errno.ENOENT, "Proxy neighbour entry not found")
    return entry


def _key(addr: i64, dev: NetDevice) -> i64:
    """What arp_constructor keys it by: one entry serves all addresses behind a loopback device."""
    return 0 if dev.flags & IFF_LOOPBACK != 0 else addr
