"""All FibInfos of one stack, and what devices and addresses do to them (Linux net/ipv4/fib_semantics.c: fib_sync_*).

    event              force   flags
    NETDEV_CHANGE      no      LINKDOWN          the carrier is gone; not for scope host
    NETDEV_DOWN        no      LINKDOWN, DEAD    the device is down; not for scope host
    NETDEV_DOWN        yes     LINKDOWN, DEAD    its last address is gone
    NETDEV_UNREGISTER  yes     LINKDOWN, DEAD    it is gone

What uses a device, or prefers a source address, is found without asking the others; how many routes share it plays no
part.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final, TypeVar

from mypy_extensions import i64

from ustack.device.core import NETDEV_CHANGE, NETDEV_UNREGISTER
from ustack.device.net_device import IFF_UP
from ustack.routing.fib_select import FibSelect
from ustack.routing.flow import RT_SCOPE_NOWHERE
from ustack.routing.uapi import RT_TABLE_MAIN, RTNH_COMPARE_MASK, RTNH_F_DEAD, RTNH_F_LINKDOWN
from ustack.sock import error

if TYPE_CHECKING:
    from ustack.device.net_device import NetDevice
    from ustack.net import Net
    from ustack.routing.fib_types import FibInfo, FibNh, Reachability

#: Next hops of all FibInfos together, where Linux has only its memory as a limit (ENOBUFS). A full Internet feed shares
#: a few hundred.
FIB_MAX_NHS: Final = 1 << 18

K = TypeVar("K")
V = TypeVar("V")


class FibSync(FibSelect):
    """The FibInfos by their place, by what they say, by device and by preferred source."""

    def __init__(self, net: Net, reachability: Reachability) -> None:
        super().__init__(net, reachability)
        self.infos: list[FibInfo | None] = []  #: by FibInfo.index; None: free
        self.nhs_count: i64 = 0  #: next hops, of FIB_MAX_NHS
        self._free: list[int] = []
        self._hash: dict[tuple[int, ...], FibInfo] = {}  # fib_info_hash
        self._nh_hash: dict[tuple[int, ...], dict[int, FibInfo]] = {}  # with next-hop objects, whatever their metrics
        self._devhash: dict[int, dict[int, FibInfo]] = {}  # fib_info_devhash: ifindex, index
        self._laddrhash: dict[int, dict[int, FibInfo]] = {}  # fib_info_laddrhash: prefsrc, index

    # -- the FibInfos

    def fib_find_info(self, fi: FibInfo) -> FibInfo | None:
        """The one that says the same as ``fi``."""
        return self._hash.get(info_key(fi))

    def fib_find_info_nh(self, like: FibInfo) -> FibInfo | None:
        """The newest one with the next-hop object of ``like`` that says the same but for metrics.

        So a route without metrics takes over those of such a one: the kernel does not look at them here.
        """
        same = self._nh_hash.get(nh_key(like))
        return None if same is None else next(reversed(same.values()))

    def link(self, fi: FibInfo) -> None:
        """Give ``fi`` its place. ENOBUFS beyond FIB_MAX_NHS."""
        count: i64 = max(len(fi.nh), 1)
        if self.nhs_count + count > FIB_MAX_NHS:
            raise error(errno.ENOBUFS)
        self.nhs_count += count
        if self._free:
            fi.index = self._free.pop()
            self.infos[fi.index] = fi
        else:
            fi.index = len(self.infos)
            self.infos.append(fi)
        self._hash[info_key(fi)] = fi
        if fi.prefsrc != 0:
            put(self._laddrhash, int(fi.prefsrc), fi.index, fi)
        nexthop = fi.nexthop
        if nexthop is not None:
            nexthop.fi_list[fi.index] = fi
            put(self._nh_hash, nh_key(fi), fi.index, fi)
        for nh in fi.nh:
            if nh.dev is not None:
                put(self._devhash, int(nh.dev.ifindex), fi.index, fi)

    def unlink(self, fi: FibInfo) -> None:
        """Its place is free again; it is dead for whoever still has it."""
        fi.dead = True
        self.nhs_count -= max(len(fi.nh), 1)
        self.infos[fi.index] = None
        self._free.append(int(fi.index))
        key = info_key(fi)
        if self._hash.get(key) is fi:
            del self._hash[key]
        if fi.prefsrc != 0:
            take(self._laddrhash, int(fi.prefsrc), fi.index)
        nexthop = fi.nexthop
        if nexthop is not None:
            nexthop.fi_list.pop(int(fi.index), None)
            take(self._nh_hash, nh_key(fi), fi.index)
        for nh in fi.nh:
            if nh.dev is not None:
                take(self._devhash, int(nh.dev.ifindex), fi.index)

    def infos_of(self, dev: NetDevice) -> list[FibInfo]:
        """Those with a hop of their own through ``dev``."""
        users = self._devhash.get(dev.ifindex)
        return [] if users is None else list(users.values())

    # -- what happens to addresses and devices

    def fib_sync_down_addr(self, dev: NetDevice, local: i64) -> i64:
        """``local`` is ours no more: routes of the main table that prefer it die. How many FibInfos did."""
        users = self._laddrhash.get(local)
        if users is None or local == 0:
            return 0
        died: i64 = 0
        for fi in users.values():
            if fi.tb_id == RT_TABLE_MAIN:
                fi.flags |= RTNH_F_DEAD
                fi.pfsrc_removed = True
                died += 1
        return died

    def fib_sync_down_dev(self, dev: NetDevice, event: i64, force: bool) -> i64:
        """Hops through ``dev`` get the flags of the table above. How many FibInfos have no hop left: a flush is due.

        A device that is gone takes even a route with other hops along: nothing could ever mend it.
        """
        spared: i64 = -1 if force else RT_SCOPE_NOWHERE
        flags: i64 = RTNH_F_LINKDOWN if event == NETDEV_CHANGE else RTNH_F_LINKDOWN | RTNH_F_DEAD
        died: i64 = 0
        for fi in self.infos_of(dev):
            if event == NETDEV_UNREGISTER:
                _hops_down(fi, dev, flags, spared)
                gone = True
            else:
                gone = _hops_down(fi, dev, flags, spared)
            if gone:
                fi.flags |= flags
                died += 1
            self.fib_rebalance(fi)
        return died

    def fib_sync_up(self, dev: NetDevice, nh_flags: i64) -> i64:
        """``dev`` is up (RTNH_F_DEAD) or has its carrier (RTNH_F_LINKDOWN): its hops live again. How many FibInfos."""
        if dev.flags & IFF_UP == 0:
            return 0
        if nh_flags & RTNH_F_DEAD != 0 and dev.carrier:
            nh_flags |= RTNH_F_LINKDOWN
        alive: i64 = 0
        for fi in self.infos_of(dev):
            if _hops_up(fi, dev, nh_flags):
                fi.flags &= ~nh_flags
                alive += 1
            self.fib_rebalance(fi)
        return alive

    def fib_sync_mtu(self, dev: NetDevice, old_mtu: i64) -> None:
        """The MTU of ``dev`` was ``old_mtu``: what is known of the paths behind it may not hold any more."""
        for fi in self.infos_of(dev):
            for nh in fi.nh:
                if nh.dev is dev:
                    fib_nhc_update_mtu(nh, dev.mtu, old_mtu)


def fib_nhc_update_mtu(nh: FibNh, new: i64, orig: i64) -> None:
    """Its exceptions are held against the first hop's MTU, which was ``orig`` and is ``new``."""
    if nh.exceptions is not None:
        nh.exceptions.update_mtu(new, orig)


def _hops_down(fi: FibInfo, dev: NetDevice, flags: i64, spared: i64) -> bool:
    """Give ``flags`` to the hops through ``dev`` whose scope is not ``spared``; whether none is left."""
    dead: i64 = 0
    for nh in fi.nh:
        if nh.flags & RTNH_F_DEAD != 0:
            dead += 1
        elif nh.dev is dev and nh.scope != spared:
            nh.flags |= flags
            dead += 1
    return dead == i64(len(fi.nh))


def _hops_up(fi: FibInfo, dev: NetDevice, flags: i64) -> bool:
    """Take ``flags`` from the hops through ``dev``; whether there is one without any of them now."""
    alive = False
    for nh in fi.nh:
        if nh.flags & flags == 0:
            alive = True
        elif nh.dev is dev and not dev.in_dev.dead:
            nh.flags &= ~flags
            alive = True
    return alive


def info_key(fi: FibInfo) -> tuple[int, ...]:
    """All that makes two FibInfos the same route to different prefixes (fib_find_info, nh_comp)."""
    key = _common(fi)
    key.append(len(fi.metrics))
    for which in sorted(fi.metrics):
        key.append(which)
        key.append(fi.metrics[which])
    key.append(int.from_bytes(fi.cc_algo.encode(), "big"))
    for nh in fi.nh:
        key.append(nh.oif)
        key.append(nh.gateway)
        key.append(nh.scope)
        key.append(nh.weight)
        key.append(nh.flags & ~RTNH_COMPARE_MASK)
    return tuple(key)


def nh_key(fi: FibInfo) -> tuple[int, ...]:
    """The same without the metrics, for one with a next-hop object."""
    return tuple(_common(fi))


def _common(fi: FibInfo) -> list[int]:
    nexthop: i64 = 0 if fi.nexthop is None else fi.nexthop.serial
    flags = fi.flags & ~RTNH_COMPARE_MASK
    return [nexthop, fi.protocol, fi.scope, fi.prefsrc, fi.priority, fi.tb_id, fi.rt_type, flags]


def put(index: dict[K, dict[int, V]], key: K, number: i64, user: V) -> None:
    """Note ``user``, which has that number, as the newest under ``key``."""
    index.setdefault(key, {})[int(number)] = user


def take(index: dict[K, dict[int, V]], key: K, number: i64) -> None:
    """Forget it again. Does nothing the second time, for a route with two hops through one device."""
    users = index.get(key)
    if users is not None and users.pop(int(number), None) is not None and not users:
        del index[key]
