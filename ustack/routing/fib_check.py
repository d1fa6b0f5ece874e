"""What a next hop must be before a route may use it (Linux net/ipv4/fib_semantics.c: fib_check_nh, fib_valid_prefsrc).

"Every prefix refers to a set of nexthops, where gw must have narrower scope": a gateway is looked up like any other
destination, and must be on the link, or our own.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

from mypy_extensions import i64

from ustack.device.net_device import IFF_UP
from ustack.dst import RTN_LOCAL, RTN_UNICAST
from ustack.routing.fib_types import FibResult
from ustack.routing.flow import RT_SCOPE_HOST, RT_SCOPE_LINK, Flow
from ustack.routing.uapi import (
    FIB_LOOKUP_IGNORE_LINKSTATE,
    RT_TABLE_LOCAL,
    RT_TABLE_MAIN,
    RT_TABLE_UNSPEC,
    RTNH_F_LINKDOWN,
    RTNH_F_ONLINK,
    RTNH_F_PERVASIVE,
)
from ustack.sock import error

if TYPE_CHECKING:
    from ustack.device.core import Devices
    from ustack.device.net_device import NetDevice
    from ustack.routing.fib_types import FibConfig, FibLookup, FibNh

#: Packets of our own come "from" the loopback device, which is the first one of every stack.
LOOPBACK_IFINDEX: Final = 1


class FibCheck:
    """The checks, against the devices and tables of one stack."""

    def __init__(self, devices: Devices, lookup: FibLookup) -> None:
        self.devices: Devices = devices
        self.lookup: FibLookup = lookup

    def fib_check_nh(self, nh: FibNh, table: i64, scope: i64) -> None:
        """Whether a route of ``table`` and ``scope`` may lead through ``nh``; gives it its device, scope and LINKDOWN.

        OSError with the kernel's words: EINVAL, ENODEV, ENETDOWN, or what the lookup of the gateway ended with.
        """
        if nh.gateway == 0:
            self._fib_check_nh_nongw(nh)
        elif nh.flags & RTNH_F_ONLINK != 0:
            self._fib_check_nh_onlink(nh, scope)
        else:
            self._fib_check_nh_v4_gw(nh, table, scope)

    def _fib_check_nh_nongw(self, nh: FibNh) -> None:
        """The destination itself is on the link of a device."""
        if nh.flags & (RTNH_F_PERVASIVE | RTNH_F_ONLINK) != 0:
            raise OSError(errno.EINVAL, "Invalid flags for nexthop - PERVASIVE and ONLINK can not be set")
        dev = self.devices.by_index(nh.oif)
        if dev is None or dev.in_dev.dead:
            raise error(errno.ENODEV)
        if dev.flags & IFF_UP == 0:
            raise OSError(errno.ENETDOWN, "Device for nexthop is not up")
        nh.scope = RT_SCOPE_HOST
        _assign(nh, dev)

    def _fib_check_nh_onlink(self, nh: FibNh, scope: i64) -> None:
        """The gateway is on that link because the user says so: no lookup, but it must be somebody else's."""
        if scope >= RT_SCOPE_LINK:
            raise OSError(errno.EINVAL, "Nexthop has invalid scope")
        dev = self.devices.by_index(nh.oif)
        if dev is None:
            raise OSError(errno.ENODEV, "Nexthop device required for onlink")
        if dev.flags & IFF_UP == 0:
            raise OSError(errno.ENETDOWN, "Nexthop device is not up")
        if self.lookup.inet_addr_type_dev_table(dev, nh.gateway) != RTN_UNICAST:
            raise OSError(errno.EINVAL, "Nexthop has invalid gateway")
        nh.scope = RT_SCOPE_LINK
        _assign(nh, dev)

    def _fib_check_nh_v4_gw(self, nh: FibNh, table: i64, scope: i64) -> None:
        """The gateway must be nearer than what it leads to."""
        flow = Flow(nh.gateway, oif=nh.oif, iif=LOOPBACK_IFINDEX, scope=max(scope + 1, RT_SCOPE_LINK))
        res = FibResult()
        err = self._lookup_gateway(flow, res, table)
        if err != 0:
            raise OSError(int(err), "Nexthop has invalid gateway")
        if res.rt_type != RTN_UNICAST and res.rt_type != RTN_LOCAL:
            raise OSError(errno.EINVAL, "Nexthop has invalid gateway")
        dev = None if res.nhc is None else res.nhc.dev
        if dev is None:
            raise OSError(errno.EINVAL, "No egress device for nexthop gateway")
        if dev.flags & IFF_UP == 0:
            raise error(errno.ENETDOWN)
        nh.scope = res.scope
        nh.oif = dev.ifindex
        _assign(nh, dev)

    def _lookup_gateway(self, flow: Flow, res: FibResult, table: i64) -> i64:
        """By the route's own table first; "on error or if no table given do full lookup"."""
        own = None if table == RT_TABLE_UNSPEC or table == RT_TABLE_MAIN else self.lookup.fib_get_table(table)
        if own is not None and own.fib_table_lookup(flow, res, FIB_LOOKUP_IGNORE_LINKSTATE) == 0:
            return 0
        return self.lookup.fib_lookup(flow, res, FIB_LOOKUP_IGNORE_LINKSTATE)

    def fib_valid_prefsrc(self, cfg: FibConfig) -> bool:
        """Whether ``cfg.prefsrc`` is ours, or becomes ours by this very route."""
        prefsrc = cfg.prefsrc
        if cfg.rt_type == RTN_LOCAL and prefsrc == cfg.dst:
            return True
        table = cfg.table
        if table == RT_TABLE_MAIN or table == RT_TABLE_UNSPEC:
            table = RT_TABLE_LOCAL
        if self.lookup.inet_addr_type_table(prefsrc, table) == RTN_LOCAL:
            return True
        return table != RT_TABLE_LOCAL and self.lookup.inet_addr_type_table(prefsrc, RT_TABLE_LOCAL) == RTN_LOCAL


def _assign(nh: FibNh, dev: NetDevice) -> None:
    nh.dev = dev
    if not dev.carrier:
        nh.flags |= RTNH_F_LINKDOWN
