"""The forwarding information base: prefixes and where they lead (Linux net/ipv4/fib_semantics.c, fib_rules.c).

Two tables, ``local`` before ``main``, as Linux's default rules ask them. Each finds the longest prefix with one
dictionary per prefix length in use: a lookup costs as many probes as there are lengths. ``fib_lookup`` is the whole
interface to the rest of the stack.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

from mypy_extensions import i64

from ustack.device.net_device import IFF_LOOPBACK, IFF_UP
from ustack.dst import (
    RTN_BLACKHOLE,
    RTN_BROADCAST,
    RTN_LOCAL,
    RTN_PROHIBIT,
    RTN_THROW,
    RTN_UNICAST,
    RTN_UNREACHABLE,
)
from ustack.routing.flow import RT_SCOPE_HOST, RT_SCOPE_LINK, RT_SCOPE_UNIVERSE
from ustack.sock import error

if TYPE_CHECKING:
    from ustack.device.net_device import NetDevice
    from ustack.routing.flow import Flow

# who made a route (include/uapi/linux/rtnetlink.h)
RTPROT_KERNEL: Final = 2
RTPROT_BOOT: Final = 3
RTPROT_STATIC: Final = 4

#: Twice the Internet's table of 2026: a route bomb through the control interface stops here (ENOBUFS).
FIB_MAX_ROUTES: Final = 1 << 21

#: The errno of a route type that leads nowhere (fib_props[].error); throw means: ask the next table.
FIB_ERRORS: Final[dict[int, int]] = {
    RTN_BLACKHOLE: errno.EINVAL,
    RTN_UNREACHABLE: errno.EHOSTUNREACH,
    RTN_PROHIBIT: errno.EACCES,
    RTN_THROW: errno.EAGAIN,
}


def prefix_mask(prefixlen: i64) -> i64:
    """The netmask of ``prefixlen`` bits, 0 to 32 (inet_make_mask)."""
    return (0xFFFF_FFFF << (32 - prefixlen)) & 0xFFFF_FFFF


class FibResult:
    """One route, and so what a lookup finds (struct fib_result, with what it needs of fib_info and fib_nh).

    Immutable. ``dev`` is None only where ``error`` is not 0.
    """

    def __init__(
        self,
        network: i64,
        prefixlen: i64,
        rt_type: i64 = RTN_UNICAST,
        dev: NetDevice | None = None,
        gateway: i64 = 0,
        prefsrc: i64 = 0,
        scope: i64 = RT_SCOPE_UNIVERSE,
        priority: i64 = 0,
        mtu: i64 = 0,
        protocol: i64 = RTPROT_BOOT,
    ) -> None:
        self.network: i64 = network
        self.prefixlen: i64 = prefixlen
        self.rt_type: i64 = rt_type
        self.dev: NetDevice | None = dev
        self.gateway: i64 = gateway  #: 0: the destination is on the link
        self.prefsrc: i64 = prefsrc  #: 0: chosen by inet_select_addr
        self.scope: i64 = scope
        self.priority: i64 = priority  #: the metric; the smallest wins
        self.mtu: i64 = mtu  #: RTAX_MTU, 0: the device's
        self.protocol: i64 = protocol
        self.error: i64 = FIB_ERRORS.get(int(rt_type), 0)

    def serves(self, flow: Flow) -> bool:
        """Whether this route may carry ``flow``, whose destination it matches (the loop in fib_table_lookup)."""
        if self.scope < flow.scope:
            return False
        dev = self.dev
        if self.error or dev is None:
            return True
        return dev.flags & IFF_UP != 0 and (flow.oif == 0 or flow.oif == dev.ifindex)


class _Level:
    """All prefixes of one length: network to its routes, best priority first."""

    def __init__(self, prefixlen: i64) -> None:
        self.prefixlen: i64 = prefixlen
        self.mask: i64 = prefix_mask(prefixlen)
        self.routes: dict[int, list[FibResult]] = {}


class FibTable:
    """One routing table (struct fib_table)."""

    def __init__(self) -> None:
        self.count: i64 = 0
        self._levels: list[_Level] = []  # longest prefix first; none is empty

    def fib_table_lookup(self, flow: Flow) -> FibResult | None:
        """The route with the longest prefix that serves ``flow``, of those the one with the smallest priority."""
        for level in self._levels:
            routes = level.routes.get(flow.daddr & level.mask)
            if routes is not None:
                for route in routes:
                    if route.serves(flow):
                        return route
        return None

    def fib_table_insert(self, route: FibResult, append: bool = False) -> None:
        """Add ``route``. EEXIST for the same prefix and priority again, unless ``append``; ENOBUFS when full."""
        if self.count >= FIB_MAX_ROUTES:
            raise error(errno.ENOBUFS)
        level = self._level(route.prefixlen)
        routes = level.routes.setdefault(int(route.network), [])
        if not append and any(other.priority == route.priority for other in routes):
            raise error(errno.EEXIST)
        at = sum(other.priority <= route.priority for other in routes)
        routes.insert(at, route)
        self.count += 1

    def fib_table_delete(self, route: FibResult) -> None:
        """Take out ``route`` itself. Raises ESRCH if it is not here."""
        for level in self._levels:
            routes = level.routes.get(int(route.network))
            if level.prefixlen != route.prefixlen or routes is None or route not in routes:
                continue
            routes.remove(route)
            self.count -= 1
            if not routes:
                del level.routes[int(route.network)]
            if not level.routes:
                self._levels.remove(level)
            return
        raise error(errno.ESRCH)

    def at_prefix(self, network: i64, prefixlen: i64) -> list[FibResult]:
        """The routes of exactly this prefix, best first (fib_find_alias)."""
        for level in self._levels:
            if level.prefixlen == prefixlen:
                return list(level.routes.get(int(network), []))
        return []

    def entries(self) -> list[FibResult]:
        """Every route, longest prefixes first (fib_table_dump)."""
        return [route for level in self._levels for routes in level.routes.values() for route in routes]

    def _level(self, prefixlen: i64) -> _Level:
        for level in self._levels:
            if level.prefixlen == prefixlen:
                return level
        level = _Level(prefixlen)
        self._levels.insert(sum(other.prefixlen > prefixlen for other in self._levels), level)
        return level


class Fib:
    """The tables of one stack (struct netns_ipv4: fib_local, fib_main)."""

    def __init__(self) -> None:
        self.local = FibTable()  #: RT_TABLE_LOCAL, kept by the stack itself
        self.main = FibTable()  #: RT_TABLE_MAIN

    def fib_lookup(self, flow: Flow) -> FibResult | None:
        """Where ``flow.daddr`` leads, None for nowhere (ENETUNREACH). Look at ``error`` before using the result."""
        found = self.local.fib_table_lookup(flow)
        if found is None:
            found = self.main.fib_table_lookup(flow)
        if found is not None and found.rt_type == RTN_THROW:
            return None  # "as if no route had been found in this table", and main is the last one
        return found

    def add_ifaddr(self, dev: NetDevice, local: i64, network: i64, prefixlen: i64, broadcast: i64, link: bool) -> None:
        """The routes an address brings (fib_add_ifaddr): itself, its subnet unless not ``link``, the broadcast.

        Since Linux 5.14 the lowest address of a subnet is an ordinary one, not a second broadcast address.
        """
        _magic(self.local, RTN_LOCAL, local, 32, dev, local)
        if link and prefixlen < 32 and network >> 24 != 0:
            on_loopback = dev.flags & IFF_LOOPBACK != 0
            table = self.local if on_loopback else self.main
            _magic(table, RTN_LOCAL if on_loopback else RTN_UNICAST, network, prefixlen, dev, local)
        if broadcast:
            _magic(self.local, RTN_BROADCAST, broadcast, 32, dev, local)

    def flush_dev(self, dev: NetDevice, protocol: i64 = 0) -> None:
        """Remove the routes through ``dev``; with ``protocol`` only those made by it (fib_sync_down_dev)."""
        for table in (self.local, self.main):
            for route in table.entries():
                if route.dev is dev and (protocol == 0 or route.protocol == protocol):
                    table.fib_table_delete(route)


def _magic(table: FibTable, rt_type: i64, network: i64, prefixlen: i64, dev: NetDevice, prefsrc: i64) -> None:
    """Add a route the kernel makes itself (fib_magic)."""
    scope = RT_SCOPE_HOST if rt_type == RTN_LOCAL else RT_SCOPE_LINK
    table.fib_table_insert(
        FibResult(network, prefixlen, rt_type, dev, 0, prefsrc, scope, 0, 0, RTPROT_KERNEL), append=True
    )
