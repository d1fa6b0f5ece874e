"""The tables of one stack, and what addresses and devices do to them (Linux net/ipv4/fib_frontend.c).

An address brings routes: itself and its broadcast addresses in the local table, its subnet in the main one. While
nobody has touched the rules one lookup in the trie that local and main share answers for both.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

from mypy_extensions import i64

from ustack.device.core import (
    NETDEV_CHANGE,
    NETDEV_CHANGEMTU,
    NETDEV_DOWN,
    NETDEV_REGISTER,
    NETDEV_UNREGISTER,
    NETDEV_UP,
    NetdevNotifier,
)
from ustack.device.net_device import IFF_LOOPBACK, IFF_UP
from ustack.dst import RTN_BROADCAST, RTN_LOCAL, RTN_MAX, RTN_MULTICAST, RTN_UNICAST
from ustack.net import RTM_NEWROUTE
from ustack.routing.devinet import INADDR_BROADCAST, ipv4_is_multicast, ipv4_is_zeronet, is_secondary, same_subnet
from ustack.routing.fib_rules import FibRules
from ustack.routing.fib_semantics import FibSemantics
from ustack.routing.fib_trie import FibTable, check_prefix
from ustack.routing.fib_types import EAGAIN, ENETUNREACH, FibConfig, FibLookup, FibResult, Reachability
from ustack.routing.flow import RT_SCOPE_HOST, RT_SCOPE_LINK, Flow
from ustack.routing.uapi import (
    IFA_F_NOPREFIXROUTE,
    NLM_F_APPEND,
    NLM_F_CREATE,
    RT_TABLE_DEFAULT,
    RT_TABLE_LOCAL,
    RT_TABLE_MAIN,
    RT_TABLE_UNSPEC,
    RTNH_F_DEAD,
    RTNH_F_LINKDOWN,
    RTPROT_KERNEL,
)
from ustack.sock import error

if TYPE_CHECKING:
    from ustack.device.core import Devices
    from ustack.device.net_device import Address, NetDevice
    from ustack.net import Net

#: Linux has only its memory as a limit, and says ENOBUFS when that is used up; so does this number.
FIB_MAX_TABLES: Final = 1 << 14
FIB_TABLE_HASHSZ: Final[i64] = 256


class Fib(FibLookup):
    """Every table, the rules and the next hops of one stack (struct netns_ipv4's part of it)."""

    def __init__(self, net: Net, devices: Devices, reachability: Reachability | None = None) -> None:
        """``reachability``: what the neighbour table knows, for the choice among default gateways."""
        self.net: Net = net
        self.devices: Devices = devices
        self.genid: i64 = 0  #: rt_genid: routes kept from before it moved are worth nothing
        self.dev_addr_genid: i64 = 0  #: moves with every address that comes or goes
        self.has_custom_local_routes: bool = False  #: somebody has added a route of type local
        self._tables: dict[int, FibTable] = {}  # the newest last
        self._main: FibTable | None = None  # fib_main and fib_default: what is asked without rules
        self._default: FibTable | None = None
        self._flow = Flow(0)  # questions of our own: lookups do not keep them
        self._res = FibResult()
        self.semantics = FibSemantics(net, devices, self, Reachability() if reachability is None else reachability)
        self.rules = FibRules(net, devices, self)
        self.netdev_notifier = FibNetdevNotifier(self)  #: to be registered behind the addresses' (ip_rt_init)

    def rt_cache_flush(self) -> None:
        """Routes that packets and sockets keep must be looked up anew (rt_genid_bump_ipv4)."""
        self.genid += 1

    # -- lookup

    def fib_lookup(self, flow: Flow, res: FibResult, fib_flags: i64 = 0) -> i64:
        """Where ``flow`` leads: 0 and ``res`` filled, or the errno; ENETUNREACH for no route at all.

        Without rules of somebody's own, main (with local in it) and then default are asked.
        """
        if self.rules.has_custom:
            return self.rules.fib_rules_lookup(flow, res, fib_flags)
        err: i64 = EAGAIN
        if self._main is not None:
            err = self._main.fib_table_lookup(flow, res, fib_flags)
        if err == EAGAIN and self._default is not None:
            err = self._default.fib_table_lookup(flow, res, fib_flags)
        return ENETUNREACH if err == EAGAIN else err

    def inet_addr_type(self, addr: i64) -> i64:
        """RTN_LOCAL, RTN_BROADCAST, RTN_MULTICAST, or RTN_UNICAST for all that is somebody else's."""
        return self._addr_type(None, addr, RT_TABLE_LOCAL)

    def inet_addr_type_table(self, addr: i64, tb_id: i64) -> i64:
        """The same, as table ``tb_id`` has it."""
        return self._addr_type(None, addr, tb_id)

    def inet_dev_addr_type(self, dev: NetDevice | None, addr: i64) -> i64:
        """The same, as if ``dev`` were the only device."""
        return self._addr_type(dev, addr, RT_TABLE_LOCAL)

    def inet_addr_type_dev_table(self, dev: NetDevice | None, addr: i64) -> i64:
        """The same by the table of ``dev``'s routing domain, which is local: there are no others."""
        return self._addr_type(None, addr, RT_TABLE_LOCAL)

    def _addr_type(self, dev: NetDevice | None, addr: i64, tb_id: i64) -> i64:
        """__inet_dev_addr_type."""
        if ipv4_is_zeronet(addr) or addr == INADDR_BROADCAST:
            return RTN_BROADCAST
        if ipv4_is_multicast(addr):
            return RTN_MULTICAST
        table = self.fib_get_table(tb_id)
        if table is None:
            return RTN_BROADCAST
        self._flow.daddr = addr
        res = self._res
        if table.fib_table_lookup(self._flow, res) != 0:
            return RTN_UNICAST
        if dev is not None:
            hops = res.fi.nhs() if res.fi is not None else []
            if not hops or hops[0].dev is not dev:
                return RTN_UNICAST
        return res.rt_type

    def local_dev(self, addr: i64) -> NetDevice | None:
        """The device whose subnet in the local table has ``addr``: all of 127/8 is the loopback device's."""
        table = self.fib_get_table(RT_TABLE_LOCAL)
        self._flow.daddr = addr
        res = self._res
        if table is None or table.fib_table_lookup(self._flow, res) != 0 or res.rt_type != RTN_LOCAL:
            return None
        return None if res.nhc is None else res.nhc.dev

    # -- tables

    def fib_get_table(self, tb_id: i64) -> FibTable | None:
        """The table, None if nothing was ever in it; 0 is main."""
        return self._tables.get(tb_id if tb_id != RT_TABLE_UNSPEC else RT_TABLE_MAIN)

    def fib_new_table(self, tb_id: i64) -> FibTable:
        """The table, made if there is none; 0 is main. ENOBUFS beyond FIB_MAX_TABLES.

        Local begins as a part of main's trie, until there are rules of somebody's own (fib_unmerge).
        """
        if tb_id == RT_TABLE_UNSPEC:
            tb_id = RT_TABLE_MAIN
        table = self._tables.get(tb_id)
        if table is not None:
            return table
        if len(self._tables) >= FIB_MAX_TABLES:
            raise error(errno.ENOBUFS)
        shared = self.fib_new_table(RT_TABLE_MAIN) if tb_id == RT_TABLE_LOCAL and not self.rules.has_custom else None
        table = FibTable(tb_id, self.semantics, shared)
        if tb_id == RT_TABLE_MAIN:
            self._main = table
        elif tb_id == RT_TABLE_DEFAULT:
            self._default = table
        self._tables[tb_id] = table
        return table

    def fib_empty_table(self) -> FibTable:
        """A new table with the lowest number that is free. ENOBUFS as for fib_new_table."""
        tb_id: i64 = 1
        while tb_id in self._tables:
            tb_id += 1
        return self.fib_new_table(tb_id)

    def tables_in_order(self) -> list[FibTable]:
        """Every table as a dump goes through them: by the last eight bits of the id, among those the newest first."""
        tables = list(self._tables.values())
        tables.reverse()
        tables.sort(key=_bucket)
        return tables

    def fib_unmerge(self) -> None:
        """Give local a trie of its own, for good: a rule may come between it and main."""
        old = self._tables.get(RT_TABLE_LOCAL)
        if old is None:
            return
        new = old.fib_trie_unmerge()
        if new is not old:
            self._tables[RT_TABLE_LOCAL] = new

    def fib_flush(self) -> None:
        """Take out of every table what is dead."""
        flushed = 0
        for table in self.tables_in_order():
            flushed += table.fib_table_flush()
        if flushed:
            self.rt_cache_flush()

    def fib_info_notify_update(self) -> None:
        """Their next-hop object was replaced: tell of every route that leads elsewhere now."""
        for table in self.tables_in_order():
            for alias in table.fib_table_dump():
                if alias.fi.nh_updated:
                    self.net.rtnl_notify(RTM_NEWROUTE, alias)

    # -- routes

    def rtm_newroute(self, cfg: FibConfig) -> None:
        """Add, replace or change a route as ``cfg.nlflags`` say (inet_rtm_newroute)."""
        self._check_config(cfg)
        self.fib_new_table(cfg.table).fib_table_insert(cfg)
        self.rt_cache_flush()
        if cfg.rt_type == RTN_LOCAL:
            self.has_custom_local_routes = True

    def rtm_newroutes(self, cfg: FibConfig, prefixes: bytes) -> dict[int, int]:
        """Add a route like ``cfg`` to each of ``prefixes``: five bytes, the address in network order and the length.

        The errno of each that was refused, by its place. Raises what is wrong with all of them.
        """
        self._check_config(cfg)
        refused = self.fib_new_table(cfg.table).insert_many(cfg, prefixes)
        self.rt_cache_flush()
        if cfg.rt_type == RTN_LOCAL:
            self.has_custom_local_routes = True
        return refused

    def rtm_delroute(self, cfg: FibConfig) -> None:
        """Delete the first route that has what ``cfg`` gives. ESRCH (inet_rtm_delroute)."""
        self._check_config(cfg)
        if cfg.nh_id != 0 and self.semantics.nexthops.get(cfg.nh_id) is None:
            raise OSError(errno.EINVAL, "Nexthop id does not exist")
        table = self.fib_get_table(cfg.table)
        if table is None:
            raise OSError(errno.ESRCH, "FIB table does not exist")
        table.fib_table_delete(cfg)
        self.rt_cache_flush()

    def _check_config(self, cfg: FibConfig) -> None:
        """What no route can be (rtm_to_fib_config)."""
        if cfg.tos & 3 != 0:
            raise OSError(errno.EINVAL, "Invalid dsfield (tos): ECN bits must be 0")
        if cfg.rt_type > RTN_MAX:
            raise OSError(errno.EINVAL, "Invalid route type")
        check_prefix(cfg.dst, cfg.dst_len)
        if cfg.nh_id != 0 and (cfg.oif != 0 or cfg.gateway != 0 or cfg.multipath is not None):
            raise OSError(errno.EINVAL, "Nexthop specification and nexthop id are mutually exclusive")
        if cfg.table == RT_TABLE_UNSPEC:
            cfg.table = RT_TABLE_MAIN

    def _fib_magic(self, add: bool, rt_type: i64, dst: i64, dst_len: i64, ifa: Address, priority: i64 = 0) -> None:
        """Add or delete a route the stack makes itself. What cannot be done is not done: it is there, or gone."""
        dev = ifa.dev
        if dev is None:
            return
        cfg = FibConfig(dst, dst_len)
        cfg.protocol = RTPROT_KERNEL
        cfg.rt_type = rt_type
        cfg.priority = priority
        cfg.prefsrc = ifa.local
        cfg.oif = dev.ifindex
        cfg.nlflags = NLM_F_CREATE | NLM_F_APPEND
        cfg.table = RT_TABLE_MAIN if rt_type == RTN_UNICAST else RT_TABLE_LOCAL
        cfg.scope = RT_SCOPE_HOST if rt_type == RTN_LOCAL else RT_SCOPE_LINK
        try:
            table = self.fib_new_table(cfg.table)
            if add:
                table.fib_table_insert(cfg)
            else:
                table.fib_table_delete(cfg)
            self.rt_cache_flush()
        except OSError:
            pass

    # -- addresses

    def fib_add_ifaddr(self, ifa: Address) -> None:
        """The routes ``ifa`` brings; on a device that is down only the address itself.

        A secondary address is preferred nowhere: its routes name the primary one of its subnet as source.
        """
        dev = ifa.dev
        if dev is None:
            return
        secondary = is_secondary(ifa)
        prim = inet_ifa_byprefix(dev, ifa.network, ifa.mask) if secondary else ifa
        if prim is None:
            return
        self._fib_magic(True, RTN_LOCAL, ifa.local, 32, prim)
        if dev.flags & IFF_UP == 0:
            return
        if ifa.broadcast != 0 and ifa.broadcast != INADDR_BROADCAST:
            self._fib_magic(True, RTN_BROADCAST, ifa.broadcast, 32, prim)
        if secondary or not _has_subnet(ifa):
            return
        if ifa.flags & IFA_F_NOPREFIXROUTE == 0:
            self._fib_magic(True, _subnet_type(dev), ifa.network, ifa.prefixlen, prim, ifa.priority)
        if ifa.prefixlen < 31:
            self._fib_magic(True, RTN_BROADCAST, ifa.subnet_broadcast(), 32, prim)

    def fib_modify_prefix_metric(self, ifa: Address, new_metric: i64) -> None:
        """Its subnet's route gets another metric, the new one before the old one goes."""
        dev = ifa.dev
        if dev is None or dev.flags & IFF_UP == 0 or not _has_subnet(ifa):
            return
        if is_secondary(ifa) or ifa.flags & IFA_F_NOPREFIXROUTE != 0:
            return
        self._fib_magic(True, _subnet_type(dev), ifa.network, ifa.prefixlen, ifa, new_metric)
        self._fib_magic(False, _subnet_type(dev), ifa.network, ifa.prefixlen, ifa, ifa.priority)

    def fib_del_ifaddr(self, ifa: Address, iprim: Address | None = None) -> None:
        """Take away what ``ifa`` brought, except what another address of its device still stands for.

        ``iprim``: a primary address that is about to go; those of its subnet count as gone already (promotion).
        """
        dev = ifa.dev
        if dev is None:
            return
        prim = ifa
        subnet = False
        if is_secondary(ifa):
            found = inet_ifa_byprefix(dev, ifa.network, ifa.mask)
            if found is None or (iprim is not None and iprim is not found):
                return
            prim = found
        elif _has_subnet(ifa):
            subnet = True
            if ifa.flags & IFA_F_NOPREFIXROUTE == 0:
                self._fib_magic(False, _subnet_type(dev), ifa.network, ifa.prefixlen, ifa)
        kept = _Kept(ifa, prim)
        if not dev.in_dev.dead:
            kept.scan(dev, iprim)
        self._delete_unkept(dev, ifa, prim, kept, subnet)

    def _delete_unkept(self, dev: NetDevice, ifa: Address, prim: Address, kept: _Kept, subnet: bool) -> None:
        """The second half of fib_del_ifaddr: broadcast addresses, the address, and who preferred it as source."""
        if not kept.brd_ok:
            self._fib_magic(False, RTN_BROADCAST, ifa.broadcast, 32, prim)
        if subnet and ifa.prefixlen < 31:
            if not kept.brd1_ok:
                self._fib_magic(False, RTN_BROADCAST, kept.brd, 32, prim)
            if not kept.brd0_ok:
                self._fib_magic(False, RTN_BROADCAST, ifa.network, 32, prim)
        if kept.local_ok:
            return
        self._fib_magic(False, RTN_LOCAL, ifa.local, 32, prim)
        if kept.gone and self.inet_addr_type_dev_table(dev, ifa.local) != RTN_LOCAL:
            if self.semantics.fib_sync_down_addr(dev, ifa.local):
                self.fib_flush()

    def fib_inetaddr_event(self, event: i64, ifa: Address) -> None:
        """NETDEV_UP: ``ifa`` has come; NETDEV_DOWN: it has gone. The last one takes every route of its device along."""
        dev = ifa.dev
        if dev is None:
            return
        self.dev_addr_genid += 1
        if event == NETDEV_UP:
            self.fib_add_ifaddr(ifa)
            self.semantics.fib_sync_up(dev, RTNH_F_DEAD)
            self.rt_cache_flush()
        else:
            self.fib_del_ifaddr(ifa)
            if dev.addresses:
                self.rt_cache_flush()
            else:
                self.fib_disable_ip(dev, event, True)

    # -- devices

    def fib_disable_ip(self, dev: NetDevice, event: i64, force: bool) -> None:
        """Nothing leaves through ``dev`` any more; with ``force`` not even routes of scope host survive."""
        if self.semantics.fib_sync_down_dev(dev, event, force):
            self.fib_flush()
        else:
            self.rt_cache_flush()

    def fib_netdev_event(self, event: i64, dev: NetDevice, old_mtu: i64) -> None:
        """What happens to a device happens to its routes."""
        if event == NETDEV_UNREGISTER:
            self.fib_disable_ip(dev, event, True)
        elif event == NETDEV_UP:
            for ifa in dev.addresses:
                self.fib_add_ifaddr(ifa)
            self.semantics.fib_sync_up(dev, RTNH_F_DEAD)
            self.dev_addr_genid += 1
            self.rt_cache_flush()
        elif event == NETDEV_DOWN:
            self.fib_disable_ip(dev, event, False)
        elif event == NETDEV_CHANGE:
            if dev.flags & IFF_UP != 0 and dev.carrier:
                self.semantics.fib_sync_up(dev, RTNH_F_LINKDOWN)
            else:
                self.semantics.fib_sync_down_dev(dev, event, False)
            self.rt_cache_flush()
        elif event == NETDEV_CHANGEMTU:
            self.semantics.fib_sync_mtu(dev, old_mtu)
            self.rt_cache_flush()


class FibNetdevNotifier(NetdevNotifier):
    """fib_netdev_notifier. Remembers MTUs: the event comes when the old one is gone already."""

    def __init__(self, fib: Fib) -> None:
        self.fib: Fib = fib
        self._mtu: dict[int, int] = {}

    def netdev_event(self, event: i64, dev: NetDevice) -> None:
        old_mtu: i64 = self._mtu.get(dev.ifindex, dev.mtu)
        if event == NETDEV_UNREGISTER:
            self._mtu.pop(dev.ifindex, None)
        elif event == NETDEV_REGISTER or event == NETDEV_UP or event == NETDEV_CHANGEMTU:
            self._mtu[dev.ifindex] = dev.mtu
        self.fib.fib_netdev_event(event, dev, old_mtu)


class _Kept:
    """Which routes of an address that goes are still others' as well: the survey in fib_del_ifaddr."""

    def __init__(self, ifa: Address, prim: Address) -> None:
        self.ifa: Address = ifa
        self.prim: Address = prim
        self.brd: i64 = ifa.subnet_broadcast()
        self.local_ok: bool = False
        self.brd_ok: bool = False  #: the broadcast address that was given
        self.brd1_ok: bool = False  #: the subnet's, all ones
        self.brd0_ok: bool = False  #: all zeros
        self.gone: bool = True
        self._prim1: Address | None = None
        self._same_prefsrc: bool = False  # another primary address with the same number

    def scan(self, dev: NetDevice, iprim: Address | None) -> None:
        """Go through the addresses that are left."""
        for other in dev.addresses:
            if other is self.ifa:
                self.gone = False  # promotion: the address stays, its routes change their source
            elif iprim is not None and same_subnet(iprim, other):
                continue
            elif self._same_source(dev, other):
                self._note(other)

    def _same_source(self, dev: NetDevice, other: Address) -> bool:
        """Whether the routes of ``other`` name the same source address, and so may be the same routes."""
        prim = self.prim
        if not is_secondary(other):
            if prim.local != other.local:
                return False
            self._prim1 = other
            if prim is not other:
                self._same_prefsrc = True
            return True
        if same_subnet(prim, other):
            self._prim1 = prim
            return True
        if not self._same_prefsrc:
            return False  # primaries come first: there is none to share
        prim1 = self._prim1
        if prim1 is None or not same_subnet(prim1, other):
            prim1 = self._prim1 = inet_ifa_byprefix(dev, other.address, other.mask)
        return prim1 is not None and prim1.local == prim.local

    def _note(self, other: Address) -> None:
        ifa = self.ifa
        self._note_broadcast(other.broadcast)
        if ifa.local == other.local:
            self.local_ok = True
        if self._prim1 is other and other.prefixlen < 31 and not ipv4_is_zeronet(other.network):
            self._note_broadcast(other.subnet_broadcast())
            self._note_broadcast(other.network)

    def _note_broadcast(self, addr: i64) -> None:
        self.brd_ok = self.brd_ok or self.ifa.broadcast == addr
        self.brd1_ok = self.brd1_ok or self.brd == addr
        self.brd0_ok = self.brd0_ok or self.ifa.network == addr


def _bucket(table: FibTable) -> i64:
    """fib_table_hash."""
    return table.tb_id & (FIB_TABLE_HASHSZ - 1)


def inet_ifa_byprefix(dev: NetDevice, prefix: i64, mask: i64) -> Address | None:
    """The first address of ``dev`` in that subnet, which is the primary one."""
    for ifa in dev.addresses:
        if ifa.mask == mask and ifa.matches(prefix):
            return ifa
    return None


def _has_subnet(ifa: Address) -> bool:
    """Whether more than the address itself can be reached: not with 32 bits, unless they are a peer's."""
    return not ipv4_is_zeronet(ifa.network) and (ifa.network != ifa.local or ifa.prefixlen < 32)


def _subnet_type(dev: NetDevice) -> i64:
    """On a loopback device the whole subnet is ours."""
    return RTN_LOCAL if dev.flags & IFF_LOOPBACK != 0 else RTN_UNICAST
