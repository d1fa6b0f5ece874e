"""Next-hop objects: hops with a number of their own, which routes name instead (Linux net/ipv4/nexthop.c, ``nhid``).

A single one is a hop, or a blackhole; a group is several of them with weights (hash-threshold). Replacing one changes
every route that uses it at once, removing one removes them. Resilient groups, encapsulation and forwarding-database
entries do not exist here, nor IPv6 gateways.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

from mypy_extensions import i64

from ustack.device.core import NETDEV_CHANGE, NETDEV_DOWN, NETDEV_UNREGISTER, NetdevNotifier
from ustack.device.net_device import IFF_LOOPBACK, IFF_UP
from ustack.net import RTM_DELNEXTHOP, RTM_NEWNEXTHOP
from ustack.routing.fib_select import upper_bound
from ustack.routing.fib_sync import fib_nhc_update_mtu, put, take
from ustack.routing.fib_types import FibNh
from ustack.routing.flow import RT_SCOPE_HOST, RT_SCOPE_LINK
from ustack.routing.uapi import NLM_F_CREATE, NLM_F_REPLACE, RT_TABLE_MAIN, RTNH_F_DEAD, RTNH_F_ONLINK
from ustack.sock import error

if TYPE_CHECKING:
    from ustack.device.core import Devices
    from ustack.device.net_device import NetDevice
    from ustack.net import Net
    from ustack.routing.fib_check import FibCheck
    from ustack.routing.fib_select import FibSelect
    from ustack.routing.fib_types import FibInfo, FibLookup

#: Limits where Linux has only its memory (ENOMEM): objects, members of all groups together, and members of one, which
#: are as many as an attribute can hold.
NEXTHOP_MAX: Final = 1 << 16
NH_GRP_ENTRIES_MAX: Final = 1 << 18
NH_GRP_SIZE_MAX: Final = 8191
NH_WEIGHT_MAX: Final = 65_535


class NexthopObjConfig:
    """A next-hop object to be made (struct nh_config). What is 0 was not given."""

    def __init__(self, id: i64 = 0, gateway: i64 = 0, ifindex: i64 = 0) -> None:
        self.id: i64 = id  #: 0: the next one that is free
        self.gateway: i64 = gateway
        self.ifindex: i64 = ifindex
        self.blackhole: bool = False
        self.group: list[tuple[int, int]] | None = None  #: (id, weight) of each member
        self.protocol: i64 = 0  #: RTPROT_*
        self.flags: i64 = 0  #: RTNH_F_ONLINK
        self.nlflags: i64 = 0  #: NLM_F_CREATE, REPLACE


class NhGrpEntry:
    """One member of a group (struct nh_grp_entry)."""

    def __init__(self, nexthop: Nexthop, weight: i64) -> None:
        self.nexthop: Nexthop = nexthop
        self.weight: i64 = weight
        self.upper_bound: i64 = -1  #: this member takes hashes up to here (31 bits)


class Nexthop:
    """One next-hop object (struct nexthop with nh_info, or with nh_group)."""

    def __init__(self, id: i64, serial: i64) -> None:
        self.id: i64 = id
        self.serial: i64 = serial  #: never used twice, as numbers may be
        self.protocol: i64 = 0
        self.flags: i64 = 0  #: nh_flags: RTNH_F_ONLINK
        self.blackhole: bool = False  #: reject_nh; of a group: of its only member
        self.nh: FibNh | None = None  #: a single one's hop; a blackhole's is through the loopback device
        self.group: list[NhGrpEntry] = []
        self.fi_list: dict[int, FibInfo] = {}  #: the FibInfos that use it, by their index
        self.grp_list: dict[int, Nexthop] = {}  #: the groups that have it, by their id, the newest last
        self._hops: list[FibNh] = []

    def hops(self) -> list[FibNh]:
        """Its own hop, or those of its members in their order."""
        return self._hops

    def is_group(self) -> bool:
        return self.nh is None

    def set_single(self, nh: FibNh, blackhole: bool) -> None:
        """What it is from now on; groups that have it must be told (refresh)."""
        self.nh = nh
        self.blackhole = blackhole
        self._hops = [nh]

    def set_group(self, group: list[NhGrpEntry]) -> None:
        """Its members from now on, the hashes shared out among them (nh_hthr_group_rebalance)."""
        self.group = group
        total: i64 = 0
        for entry in group:
            total += entry.weight
        weights: i64 = 0
        for entry in group:
            weights += entry.weight
            entry.upper_bound = upper_bound(weights, total)
        self.refresh()

    def refresh(self) -> None:
        """A member of the group has changed."""
        hops: list[FibNh] = []
        for entry in self.group:
            nh = entry.nexthop.nh
            if nh is not None:
                hops.append(nh)
        self._hops = hops
        self.blackhole = len(self.group) == 1 and self.group[0].nexthop.blackhole


def fib_check_nexthop(nexthop: Nexthop, scope: i64) -> None:
    """Whether a route of ``scope`` may use ``nexthop``. EINVAL. All members of a group count as the first."""
    if nexthop.is_group() and scope == RT_SCOPE_HOST:
        raise OSError(errno.EINVAL, "Route with host scope can not have multiple nexthops")
    nh = nexthop.hops()[0]
    if scope == RT_SCOPE_HOST and nh.gateway != 0:
        raise OSError(errno.EINVAL, "Route with host scope can not have a gateway")
    if nh.flags & RTNH_F_ONLINK != 0 and scope >= RT_SCOPE_LINK:
        raise OSError(errno.EINVAL, "Scope mismatch with nexthop")


def fib_check_nh_list(old: Nexthop, new: Nexthop) -> None:
    """Whether all routes that use ``old`` could use ``new``."""
    for fi in old.fi_list.values():
        fib_check_nexthop(new, fi.scope)


class NexthopTable(NetdevNotifier):
    """The next-hop objects of one stack (struct netns_nexthop)."""

    def __init__(self, net: Net, devices: Devices, lookup: FibLookup, check: FibCheck, select: FibSelect) -> None:
        self.net: Net = net
        self.devices: Devices = devices
        self.lookup: FibLookup = lookup
        self.check: FibCheck = check
        self.select: FibSelect = select
        self.entries_count: i64 = 0  #: members of all groups, of NH_GRP_ENTRIES_MAX
        self._by_id: dict[int, Nexthop] = {}
        self._devhash: dict[int, dict[int, Nexthop]] = {}  # ifindex, id; the newest last
        self._last_id_allocated: i64 = 0
        self._serial: i64 = 0

    def get(self, id: i64) -> Nexthop | None:
        """The object with that number (nexthop_find_by_id)."""
        return self._by_id.get(int(id))

    def dump(self) -> list[Nexthop]:
        """All, by number."""
        return [self._by_id[id] for id in sorted(self._by_id)]

    # -- new ones, and others in their place

    def rtm_newnexthop(self, cfg: NexthopObjConfig) -> Nexthop:
        """Make what ``cfg`` says, or with NLM_F_REPLACE have the one with its number say so; which one that is.

        OSError with the kernel's words where it has any: EINVAL, EEXIST, ENOENT, ENETDOWN, ENODEV, ENOMEM, or what the
        lookup of the gateway ended with. What fails changes nothing.
        """
        _rtm_to_nh_config(cfg)
        if cfg.nlflags & NLM_F_REPLACE != 0 and cfg.id == 0:
            raise OSError(errno.EINVAL, "Replace requires nexthop id")
        if cfg.group is not None:
            self._nh_check_group(cfg.group)
        elif not cfg.blackhole:
            self._check_device(cfg.ifindex)
        new = self._nexthop_create(cfg)
        old = self._by_id.get(int(new.id))
        if old is None:
            self._insert_nexthop(new, cfg.nlflags)
            self.net.rtnl_notify(RTM_NEWNEXTHOP, new)
            return new
        if cfg.nlflags & NLM_F_REPLACE == 0:
            raise error(errno.EEXIST)
        self._replace_nexthop(old, new)
        self.lookup.rt_cache_flush()
        self.net.rtnl_notify(RTM_NEWNEXTHOP, old)
        if self.net.sysctl.nexthop_compat_mode != 0:
            self._nexthop_replace_notify(old)
        return old

    def _nh_check_group(self, group: list[tuple[int, int]]) -> None:
        """The part of nh_check_attr_group that needs the table."""
        for id, _ in group:
            nexthop = self._by_id.get(id)
            if nexthop is None:
                raise OSError(errno.EINVAL, "Invalid nexthop id")
            if nexthop.is_group():
                raise OSError(errno.EINVAL, "Hash-threshold group can not be a nexthop within a group")
            if nexthop.blackhole and len(group) > 1:
                raise OSError(errno.EINVAL, "Blackhole nexthop can not be used in a group with more than 1 path")

    def _check_device(self, ifindex: i64) -> None:
        dev = self.devices.by_index(ifindex)
        if dev is None:
            raise OSError(errno.EINVAL, "Invalid device index")
        if dev.flags & IFF_UP == 0:
            raise OSError(errno.ENETDOWN, "Nexthop device is not up")
        if not dev.carrier:
            raise OSError(errno.ENETDOWN, "Carrier for nexthop device is down")

    def _nexthop_create(self, cfg: NexthopObjConfig) -> Nexthop:
        """The object alone, not yet in the table."""
        self._serial += 1
        new = Nexthop(cfg.id if cfg.id != 0 else self._nh_find_unused_id(), self._serial)
        new.protocol = cfg.protocol
        if cfg.group is not None:
            entries = [NhGrpEntry(self._by_id[id], weight) for id, weight in cfg.group]
            new.set_group(entries)
            return new
        nh = FibNh(None, cfg.gateway)
        nh.oif = self._loopback() if cfg.blackhole else cfg.ifindex
        nh.flags = cfg.flags
        self.check.fib_check_nh(nh, RT_TABLE_MAIN, 0)
        new.flags = nh.flags
        self.select.fib_info_update_nhc_saddr(nh, 0 if nh.scope == 0 else nh.scope - 1)
        new.set_single(nh, cfg.blackhole)
        return new

    def _loopback(self) -> i64:
        for dev in self.devices.all():
            if dev.flags & IFF_LOOPBACK != 0:
                return dev.ifindex
        return 0

    def _nh_find_unused_id(self) -> i64:
        """Numbers are given in turn; NEXTHOP_MAX sees to it that one is free soon."""
        while True:
            self._last_id_allocated = self._last_id_allocated % 0xFFFF_FFFF + 1
            if int(self._last_id_allocated) not in self._by_id:
                return self._last_id_allocated

    def _insert_nexthop(self, new: Nexthop, nlflags: i64) -> None:
        if nlflags & NLM_F_REPLACE != 0 and nlflags & NLM_F_CREATE == 0:
            raise OSError(errno.ENOENT, "Replace specified without create and no entry exists")
        if len(self._by_id) >= NEXTHOP_MAX:
            raise error(errno.ENOMEM)
        self._check_room(new, 0)
        self._join(new)
        self._by_id[int(new.id)] = new
        self._devhash_add(new)

    def _check_room(self, group: Nexthop, before: i64) -> None:
        """ENOMEM if there are too many members now that ``group`` has other ones than the ``before`` it had."""
        size: i64 = len(group.group)
        if size > NH_GRP_SIZE_MAX or self.entries_count - before + size > NH_GRP_ENTRIES_MAX:
            raise error(errno.ENOMEM)

    def _join(self, group: Nexthop) -> None:
        """Have the members know that they are in ``group``, as their newest."""
        self.entries_count += len(group.group)
        for entry in group.group:
            entry.nexthop.grp_list[int(group.id)] = group

    def _leave(self, group: Nexthop) -> None:
        self.entries_count -= len(group.group)
        for entry in group.group:
            entry.nexthop.grp_list.pop(int(group.id), None)

    def _replace_nexthop(self, old: Nexthop, new: Nexthop) -> None:
        """Put what ``new`` says into ``old``, which routes and groups go on using. EINVAL, ENOMEM."""
        fib_check_nh_list(old, new)
        for group in _newest_first(old.grp_list):
            if new.blackhole and not new.is_group() and len(group.group) > 1:
                raise OSError(errno.EINVAL, "Blackhole nexthop can not be a member of a group with more than one path")
            fib_check_nh_list(group, new)
        if old.is_group():
            self._replace_nexthop_grp(old, new)
        else:
            self._replace_nexthop_single(old, new)

    def _replace_nexthop_grp(self, old: Nexthop, new: Nexthop) -> None:
        if not new.is_group():
            raise OSError(errno.EINVAL, "Can not replace a nexthop group with a nexthop")
        self._check_room(new, len(old.group))
        self._leave(old)
        old.set_group(new.group)
        self._join(old)

    def _replace_nexthop_single(self, old: Nexthop, new: Nexthop) -> None:
        nh = new.nh
        if nh is None:
            raise OSError(errno.EINVAL, "Can not replace a nexthop with a nexthop group")
        self._devhash_del(old)
        old.protocol = new.protocol
        old.flags = new.flags
        old.set_single(nh, new.blackhole)
        self._devhash_add(old)
        for group in old.grp_list.values():
            group.refresh()

    def _nexthop_replace_notify(self, nexthop: Nexthop) -> None:
        """Tell of all routes that lead elsewhere now, its own before those of its groups (nexthop_compat_mode)."""
        self._notify_routes(nexthop)
        for group in _newest_first(nexthop.grp_list):
            self._notify_routes(group)

    def _notify_routes(self, nexthop: Nexthop) -> None:
        if not nexthop.fi_list:
            return
        for fi in nexthop.fi_list.values():
            fi.nh_updated = True
        self.lookup.fib_info_notify_update()
        for fi in nexthop.fi_list.values():
            fi.nh_updated = False

    # -- removal

    def rtm_delnexthop(self, id: i64) -> None:
        """Remove it with the routes that use it, and from its groups. EINVAL for 0, ENOENT."""
        if id == 0:
            raise OSError(errno.EINVAL, "Invalid nexthop id")
        nexthop = self._by_id.get(int(id))
        if nexthop is None:
            raise error(errno.ENOENT)
        if self._remove_nexthop(nexthop, True):
            self.lookup.fib_flush()
        self.lookup.rt_cache_flush()

    def _remove_nexthop(self, nexthop: Nexthop, notify: bool) -> bool:
        """Whether routes died of it, so that a flush is due."""
        del self._by_id[int(nexthop.id)]
        if notify:
            self.net.rtnl_notify(RTM_DELNEXTHOP, nexthop)
        flush = False
        for fi in nexthop.fi_list.values():
            fi.flags |= RTNH_F_DEAD
            flush = True
        if nexthop.is_group():
            self._leave(nexthop)
            return flush
        self._devhash_del(nexthop)
        for group in _newest_first(nexthop.grp_list):
            if self._remove_nh_grp_entry(group, nexthop, notify):
                flush = True
        return flush

    def _remove_nh_grp_entry(self, group: Nexthop, member: Nexthop, notify: bool) -> bool:
        """A group that loses its last member goes with it, and still has it when that is told."""
        if len(group.group) == 1:
            return self._remove_nexthop(group, notify)
        self._leave(group)
        group.set_group([entry for entry in group.group if entry.nexthop is not member])
        self._join(group)
        if notify:
            self.net.rtnl_notify(RTM_NEWNEXTHOP, group)
        return False

    # -- devices

    def netdev_event(self, event: i64, dev: NetDevice) -> None:
        """Without their device, or its carrier, hops are no more; rtnetlink is told of the device only."""
        if event == NETDEV_DOWN or event == NETDEV_UNREGISTER:
            self.nexthop_flush_dev(dev, event)
        elif event == NETDEV_CHANGE and (dev.flags & IFF_UP == 0 or not dev.carrier):
            self.nexthop_flush_dev(dev, event)

    def nexthop_flush_dev(self, dev: NetDevice, event: i64) -> None:
        """Remove those through ``dev``; a blackhole only if it is gone for good."""
        users = self._devhash.get(dev.ifindex)
        if users is None:
            return
        flush = False
        for nexthop in _newest_first(users):
            if (not nexthop.blackhole or event == NETDEV_UNREGISTER) and self._remove_nexthop(nexthop, False):
                flush = True
        if flush:
            self.lookup.fib_flush()
        self.lookup.rt_cache_flush()

    def nexthop_sync_mtu(self, dev: NetDevice, old_mtu: i64) -> None:
        """The MTU of ``dev`` was ``old_mtu``."""
        for nexthop in self._devhash.get(dev.ifindex, {}).values():
            if nexthop.nh is not None:
                fib_nhc_update_mtu(nexthop.nh, dev.mtu, old_mtu)

    def _devhash_add(self, nexthop: Nexthop) -> None:
        if nexthop.nh is not None:
            put(self._devhash, int(nexthop.nh.oif), nexthop.id, nexthop)

    def _devhash_del(self, nexthop: Nexthop) -> None:
        if nexthop.nh is not None:
            take(self._devhash, int(nexthop.nh.oif), nexthop.id)


def _newest_first(nexthops: dict[int, Nexthop]) -> list[Nexthop]:
    return list(reversed(nexthops.values()))


def _rtm_to_nh_config(cfg: NexthopObjConfig) -> None:
    """What can be said of ``cfg`` without looking anywhere."""
    if not 0 <= cfg.id <= 0xFFFF_FFFF:
        raise error(errno.ERANGE)
    if cfg.flags & ~RTNH_F_ONLINK != 0:
        raise OSError(errno.EINVAL, "Invalid nexthop flags in ancillary header")
    if cfg.group is not None:
        _check_group_attr(cfg, cfg.group)
    elif cfg.blackhole:
        if cfg.gateway != 0 or cfg.ifindex != 0:
            raise OSError(errno.EINVAL, "Blackhole attribute can not be used with gateway, oif, encap or fdb")
    elif cfg.ifindex == 0:
        if cfg.gateway == 0:
            raise OSError(errno.EINVAL, "Invalid address family")
        raise OSError(errno.EINVAL, "Device attribute required for non-blackhole and non-fdb nexthops")
    elif cfg.gateway == 0 and cfg.flags & RTNH_F_ONLINK != 0:
        raise OSError(errno.EINVAL, "ONLINK flag can not be set for nexthop without a gateway")


def _check_group_attr(cfg: NexthopObjConfig, group: list[tuple[int, int]]) -> None:
    if not group:
        raise OSError(errno.EINVAL, "Invalid length for nexthop group attribute")
    counted: dict[int, int] = {}
    for id, _ in group:
        counted[id] = counted.get(id, 0) + 1
    for id, weight in group:
        if not 0 < weight <= NH_WEIGHT_MAX:
            raise OSError(errno.EINVAL, "Invalid value for weight")
        if counted[id] > 1:
            raise OSError(errno.EINVAL, "Nexthop id can not be used twice in a group")
    if cfg.gateway != 0 or cfg.ifindex != 0 or cfg.blackhole:
        raise OSError(errno.EINVAL, "No other attributes can be set in nexthop groups")
