"""What a route means, whatever its prefix (Linux net/ipv4/fib_semantics.c).

Routes to different prefixes that say the same share one FibInfo: a full Internet table has as many as it has different
next hops and metrics. Here they are checked and made; fib_check.py has the checks of a hop, fib_sync.py the FibInfos
and what devices do to them, fib_select.py the choice among hops.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

from mypy_extensions import i64

from ustack.dst import RTN_MAX, RTN_UNSPEC
from ustack.routing.fib_check import FibCheck
from ustack.routing.fib_sync import FibSync
from ustack.routing.fib_types import FibInfo, FibNh, fib_error
from ustack.routing.flow import RT_SCOPE_HOST, RT_SCOPE_LINK, RT_SCOPE_NOWHERE, RT_SCOPE_UNIVERSE
from ustack.routing.metrics import TcpCaNames, fib_metrics_match, ip_metrics_convert
from ustack.routing.nexthop import NexthopTable, fib_check_nexthop
from ustack.routing.uapi import RT_TABLE_MAIN, RT_TABLE_UNSPEC, RTNH_F_DEAD, RTNH_F_LINKDOWN
from ustack.sock import error

if TYPE_CHECKING:
    from ustack.device.core import Devices
    from ustack.device.net_device import NetDevice
    from ustack.net import Net
    from ustack.routing.fib_types import FibConfig, FibLookup, NexthopConfig, Reachability
    from ustack.routing.nexthop import Nexthop

#: Hops of one route: more than one netlink message could ask for. ENOBUFS.
FIB_MAX_HOPS: Final = 4095

#: fib_props[].scope: a route of that type is at least so near.
_LEAST_SCOPE: Final[list[int]] = [
    RT_SCOPE_NOWHERE,  # unspec
    RT_SCOPE_UNIVERSE,  # unicast
    RT_SCOPE_HOST,  # local
    RT_SCOPE_LINK,  # broadcast
    RT_SCOPE_LINK,  # anycast
    RT_SCOPE_UNIVERSE,  # multicast
    RT_SCOPE_UNIVERSE,  # blackhole
    RT_SCOPE_UNIVERSE,  # unreachable
    RT_SCOPE_UNIVERSE,  # prohibit
    RT_SCOPE_UNIVERSE,  # throw
    RT_SCOPE_NOWHERE,  # nat
    RT_SCOPE_NOWHERE,  # xresolve
]


class FibSemantics(FibSync):
    """The FibInfos and next-hop objects of one stack."""

    def __init__(self, net: Net, devices: Devices, lookup: FibLookup, reachability: Reachability) -> None:
        """``lookup``: all tables, to look gateways up in and to be told what has died.

        Next-hop objects hear of devices from here on, and so before the routes do.
        """
        super().__init__(net, reachability)
        self.check = FibCheck(devices, lookup)
        self.tcp_ca = TcpCaNames()  #: whoever has the algorithms puts his own here
        self.nexthops = NexthopTable(net, devices, lookup, self.check, self)
        devices.register_netdevice_notifier(self.nexthops)

    # -- making and sharing

    def fib_create_info(self, cfg: FibConfig) -> FibInfo:
        """The FibInfo of the route ``cfg`` asks for, held once more for whoever asks (fib_release_info gives it back).

        Everything is checked before anything is kept; OSError with the kernel's words where it has any: EINVAL, ENODEV,
        ENETDOWN, ENOBUFS, or what the lookup of a gateway ended with.
        """
        _check_type(cfg)
        fi = _from_config(cfg)
        if cfg.nh_id != 0:
            fi.nexthop = self._nexthop_of(cfg)
            if not cfg.metrics and not cfg.cc_algo:
                known = self.fib_find_info_nh(fi)
                if known is not None:
                    known.treeref += 1
                    return known
        fi.metrics = ip_metrics_convert(cfg.metrics, cfg.cc_algo, self.tcp_ca)
        if fi.nexthop is None:
            self._fib_get_nhs(cfg, fi)
        if fib_error(cfg.rt_type) != 0:
            if cfg.gateway != 0 or cfg.oif != 0 or cfg.multipath is not None:
                raise OSError(errno.EINVAL, "Gateway, device and multipath can not be specified for this route type")
        else:
            self._fib_check_hops(cfg, fi)
        return self._share(fi)

    def _nexthop_of(self, cfg: FibConfig) -> Nexthop:
        nexthop = self.nexthops.get(cfg.nh_id)
        if nexthop is None:
            raise OSError(errno.EINVAL, "Nexthop id does not exist")
        return nexthop

    def _fib_get_nhs(self, cfg: FibConfig, fi: FibInfo) -> None:
        """The hops as they were asked for; a route that leads nowhere has one as well, without a device."""
        if cfg.multipath is None:
            fi.nh.append(_fib_nh_init(fi, cfg.oif, cfg.gateway, cfg.flags, 1))
            return
        if not cfg.multipath:
            raise error(errno.EINVAL)
        if len(cfg.multipath) > FIB_MAX_HOPS:
            raise error(errno.ENOBUFS)
        for hop in cfg.multipath:
            if hop.flags & (RTNH_F_DEAD | RTNH_F_LINKDOWN) != 0:
                raise OSError(errno.EINVAL, "Invalid flags for nexthop - can not contain DEAD or LINKDOWN")
            flags = (cfg.flags & ~0xFF) | hop.flags
            fi.nh.append(_fib_nh_init(fi, hop.oif, hop.gateway, flags, hop.weight))
        first = fi.nh[0]
        if cfg.oif != 0 and first.oif != cfg.oif:
            raise OSError(errno.EINVAL, "Nexthop device index does not match RTA_OIF")
        if cfg.gateway != 0 and first.gateway != cfg.gateway:
            raise OSError(errno.EINVAL, "Nexthop gateway does not match RTA_GATEWAY or RTA_VIA")

    def _fib_check_hops(self, cfg: FibConfig, fi: FibInfo) -> None:
        """The part of fib_create_info that is for routes which lead somewhere."""
        if cfg.rt_type == RTN_UNSPEC:
            raise OSError(errno.EINVAL, "Invalid route type")
        if cfg.scope > RT_SCOPE_HOST:
            raise OSError(errno.EINVAL, "Invalid scope")
        if fi.nexthop is not None:
            fib_check_nexthop(fi.nexthop, cfg.scope)
        elif cfg.scope == RT_SCOPE_HOST:
            self._check_host_hop(fi)
        else:
            self._check_hops(cfg, fi)
        if fi.prefsrc != 0 and not self.check.fib_valid_prefsrc(cfg):
            raise OSError(errno.EINVAL, "Invalid prefsrc address")
        for nh in fi.nh:
            self.fib_info_update_nhc_saddr(nh, fi.scope)
        self.fib_rebalance(fi)

    def _check_host_hop(self, fi: FibInfo) -> None:
        """A route of scope host ends here: its device may be down, and it survives when it goes down."""
        nh = fi.nh[0]
        if len(fi.nh) != 1:
            raise OSError(errno.EINVAL, "Route with host scope can not have multiple nexthops")
        if nh.gateway != 0:
            raise OSError(errno.EINVAL, "Route with host scope can not have a gateway")
        nh.scope = RT_SCOPE_NOWHERE
        nh.dev = self.check.devices.by_index(nh.oif)
        if nh.dev is None:
            raise error(errno.ENODEV)

    def _check_hops(self, cfg: FibConfig, fi: FibInfo) -> None:
        linkdown: i64 = 0
        for nh in fi.nh:
            self.check.fib_check_nh(nh, cfg.table, cfg.scope)
            if nh.flags & RTNH_F_LINKDOWN != 0:
                linkdown += 1
        if linkdown == i64(len(fi.nh)):
            fi.flags |= RTNH_F_LINKDOWN

    def _share(self, fi: FibInfo) -> FibInfo:
        known = self.fib_find_info(fi)
        if known is None:
            self.link(fi)
            known = fi
        known.treeref += 1
        return known

    def fib_release_info(self, fi: FibInfo) -> None:
        """One route less uses ``fi``; without any it is gone."""
        fi.treeref -= 1
        if fi.treeref == 0:
            self.unlink(fi)

    # -- comparing

    def fib_nh_match(self, cfg: FibConfig, fi: FibInfo) -> bool:
        """Whether ``fi`` is what a deletion means: what ``cfg`` does not give is not asked for.

        Of several hops one device or gateway alone names the first.
        """
        if cfg.priority != 0 and cfg.priority != fi.priority:
            return False
        if cfg.nh_id != 0:
            return fi.nexthop is not None and fi.nexthop.id == cfg.nh_id
        if fi.nexthop is not None:
            return cfg.oif == 0 and cfg.gateway == 0 and cfg.multipath is None
        if cfg.oif != 0 or cfg.gateway != 0:
            return _hop_matches(cfg.oif, cfg.gateway, fi.nh[0])
        return cfg.multipath is None or _hops_match(cfg.multipath, fi.nh)

    def fib_metrics_match(self, cfg: FibConfig, fi: FibInfo) -> bool:
        """Whether ``fi`` has the metrics that ``cfg`` gives."""
        return fib_metrics_match(cfg, fi)

    # -- devices

    def fib_sync_mtu(self, dev: NetDevice, old_mtu: i64) -> None:
        """The MTU of ``dev`` was ``old_mtu``: for the hops of routes, and for next-hop objects (nexthop_sync_mtu)."""
        super().fib_sync_mtu(dev, old_mtu)
        self.nexthops.nexthop_sync_mtu(dev, old_mtu)


def _check_type(cfg: FibConfig) -> None:
    """ "Fast check to catch the most weird cases"."""
    if not 0 <= cfg.rt_type <= RTN_MAX:
        raise error(errno.EINVAL)
    if cfg.scope < _LEAST_SCOPE[cfg.rt_type]:
        raise OSError(errno.EINVAL, "Invalid scope")
    if cfg.flags & (RTNH_F_DEAD | RTNH_F_LINKDOWN) != 0:
        raise OSError(errno.EINVAL, "Invalid rtm_flags - can not contain DEAD or LINKDOWN")


def _from_config(cfg: FibConfig) -> FibInfo:
    fi = FibInfo()
    fi.protocol = cfg.protocol
    fi.scope = cfg.scope
    fi.flags = cfg.flags
    fi.priority = cfg.priority
    fi.prefsrc = cfg.prefsrc
    fi.rt_type = cfg.rt_type
    fi.tb_id = RT_TABLE_MAIN if cfg.table == RT_TABLE_UNSPEC else cfg.table
    fi.cc_algo = cfg.cc_algo
    return fi


def _fib_nh_init(fi: FibInfo, oif: i64, gateway: i64, flags: i64, weight: i64) -> FibNh:
    nh = FibNh(None, gateway)
    nh.parent = fi
    nh.oif = oif
    nh.flags = flags
    nh.weight = weight
    return nh


def _hop_matches(oif: i64, gateway: i64, nh: FibNh) -> bool:
    return (oif == 0 or oif == nh.oif) and (gateway == 0 or gateway == nh.gateway)


def _hops_match(asked: list[NexthopConfig], hops: list[FibNh]) -> bool:
    """Every hop there is has been asked for, in that order; more may have been."""
    if len(asked) < len(hops):
        return False
    at: i64 = 0
    for nh in hops:
        if not _hop_matches(asked[at].oif, asked[at].gateway, nh):
            return False
        at += 1
    return True
