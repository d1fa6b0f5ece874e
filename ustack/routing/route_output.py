"""The way out for packets of our own, in the kernel's order of decisions (Linux ip_route_output_key_hash_rcu)."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from mypy_extensions import i64

from ustack.device.net_device import IFF_LOOPBACK, IFF_UP
from ustack.dst import RTN_BROADCAST, RTN_LOCAL, RTN_MULTICAST, RTN_UNICAST, Dst, to_many
from ustack.routing.devinet import (
    INADDR_BROADCAST,
    INADDR_LOOPBACK,
    ip_check_mc,
    ipv4_is_local_multicast,
    ipv4_is_loopback,
    ipv4_is_multicast,
)
from ustack.routing.facts import LookupGiven, hop_facts, lookup_name
from ustack.routing.flow import RT_SCOPE_HOST, RT_SCOPE_LINK
from ustack.sock import error
from ustack.trace.points import Point
from ustack.wire.ipv4 import IPPROTO_IGMP

if TYPE_CHECKING:
    from ustack.device.core import Devices
    from ustack.device.net_device import NetDevice
    from ustack.net import Net
    from ustack.packet import Packet
    from ustack.routing.devinet import InetDevices
    from ustack.routing.exceptions import FibNhException
    from ustack.routing.fib_frontend import Fib
    from ustack.routing.fib_types import FibInfo, FibNh, FibResult
    from ustack.routing.flow import Flow
    from ustack.routing.multipath import MultipathHash
    from ustack.routing.rtable import Rtable


class RouteOutput:
    """The way out of one stack."""

    def __init__(
        self,
        net: Net,
        devices: Devices,
        fib: Fib,
        inet: InetDevices,
        rtable: Rtable,
        multipath: MultipathHash,
    ) -> None:
        self.net: Net = net
        self.devices: Devices = devices
        self.fib: Fib = fib
        self.inet: InetDevices = inet
        self.rtable: Rtable = rtable
        self.multipath: MultipathHash = multipath

    def ip_route_output_key_hash_rcu(self, flow: Flow, res: FibResult, packet: Packet | None) -> Dst:
        """The way to ``flow.daddr``; writes the choice into flow.saddr, daddr and oif, and the route into ``res``.

        ``packet``: what an ICMP error is about, which then takes a multipath route as that packet does. Raises EINVAL
        (impossible source, blackhole), ENODEV, ENETUNREACH, EHOSTUNREACH, EACCES (prohibit).
        """
        res.reset()
        lo = self.inet.loopback_dev
        if lo is not None:
            flow.iif = lo.ifindex
        orig_oif = flow.oif
        by_source = self._check_source(flow)
        if by_source is not None:
            flow.oif = by_source.ifindex
            return self._mkroute_output(flow, res, orig_oif, by_source)
        dev_out: NetDevice | None = None
        if flow.oif != 0:
            dev_out = self._check_oif(flow)
            if self._settled_by_device(flow, dev_out):
                return self._mkroute_output(flow, res, orig_oif, dev_out)
        if flow.daddr == 0:
            # "no destination" means this host
            if flow.saddr == 0:
                flow.saddr = INADDR_LOOPBACK
            flow.daddr = flow.saddr
            return self._to_ourselves(flow, res, orig_oif)
        err = self.fib.fib_lookup(flow, res)
        if self.net.tracer is not None:
            facts = LookupGiven(self.fib, flow, res, err)
            self.net.tracer.note(Point.FIB_LOOKUP_OUT, lookup_name(self.fib, res, err), facts)
        if err != 0:
            return self._no_route(flow, res, dev_out, err)
        return self._by_route(flow, res, orig_oif, packet)

    def _check_source(self, flow: Flow) -> NetDevice | None:
        """The source must be possible and ours; a group's or the limited broadcast's datagram leaves by its device."""
        saddr = flow.saddr
        if saddr == 0:
            return None
        if ipv4_is_multicast(saddr) or saddr == INADDR_BROADCAST:
            raise error(errno.EINVAL)
        daddr = flow.daddr
        if flow.oif == 0 and (ipv4_is_multicast(daddr) or daddr == INADDR_BROADCAST):
            dev = self.inet.ip_dev_find(saddr)
            if dev is None:
                raise error(errno.ENETUNREACH)
            return dev
        if not flow.anysrc and self.inet.ip_dev_find(saddr) is None:
            raise error(errno.ENETUNREACH)
        return None

    def _check_oif(self, flow: Flow) -> NetDevice:
        dev = self.devices.by_index(flow.oif)
        if dev is None:
            raise error(errno.ENODEV)
        if dev.flags & IFF_UP == 0:
            raise error(errno.ENETUNREACH)
        return dev

    def _settled_by_device(self, flow: Flow, dev: NetDevice) -> bool:
        """What never crosses a router needs no route, only the device; picks the source for groups on the way."""
        daddr = flow.daddr
        if ipv4_is_local_multicast(daddr) or daddr == INADDR_BROADCAST or flow.proto == IPPROTO_IGMP:
            if flow.saddr == 0:
                flow.saddr = self.inet.inet_select_addr(dev, 0, RT_SCOPE_LINK)
            return True
        if flow.saddr == 0 and ipv4_is_multicast(daddr):
            flow.saddr = self.inet.inet_select_addr(dev, 0, flow.scope)
        elif flow.saddr == 0 and daddr == 0:
            flow.saddr = self.inet.inet_select_addr(dev, 0, RT_SCOPE_HOST)
        return False

    def _no_route(self, flow: Flow, res: FibResult, dev_out: NetDevice | None, err: i64) -> Dst:
        """Without a route, a named device is believed.

        "Apparently, routing tables are wrong. Assume, that the destination is on link."
        """
        res.fi = None
        res.nhc = None
        res.table = None
        if dev_out is None:
            raise error(int(err))
        if flow.saddr == 0:
            flow.saddr = self.inet.inet_select_addr(dev_out, 0, RT_SCOPE_LINK)
        res.rt_type = RTN_UNICAST
        return self._mkroute_output(flow, res, flow.oif, dev_out)

    def _by_route(self, flow: Flow, res: FibResult, orig_oif: i64, packet: Packet | None) -> Dst:
        fi = res.fi
        nhc = res.nhc
        if res.rt_type == RTN_LOCAL:
            if flow.saddr == 0:
                flow.saddr = fi.prefsrc if fi is not None and fi.prefsrc != 0 else flow.daddr
            return self._to_ourselves(flow, res, orig_oif if nhc is None else nhc.oif)
        mp_hash: i64 = 0
        if flow.oif == 0 and fi is not None and len(fi.nhs()) > 1:
            mp_hash = self.multipath.fib_multipath_hash(flow, packet)
        self.fib.semantics.fib_select_path(flow, res, mp_hash)
        if self.net.tracer is not None and fi is not None and (len(fi.nhs()) > 1 or res.fi is not fi):
            by = "by hash" if flow.oif == 0 else "by the device asked for"
            if res.fi is not fi:
                by = "another default route, whose gateway answers"
            self.net.tracer.note(Point.FIB_SELECT_PATH, by, hop_facts(res, mp_hash))
        nhc = res.nhc
        if nhc is None or nhc.dev is None:
            raise error(errno.ENETUNREACH)
        return self._mkroute_output(flow, res, orig_oif, nhc.dev)

    def _to_ourselves(self, flow: Flow, res: FibResult, orig_oif: i64) -> Dst:
        """The packet goes out of lo and comes in there, its Dst with it."""
        lo = self.inet.loopback_dev
        if lo is None or lo.flags & IFF_UP == 0:
            raise error(errno.ENETUNREACH)
        flow.oif = lo.ifindex
        res.rt_type = RTN_LOCAL
        return self._mkroute_output(flow, res, orig_oif, lo)

    # -- __mkroute_output

    def _mkroute_output(self, flow: Flow, res: FibResult, orig_oif: i64, dev: NetDevice) -> Dst:
        """A Dst out of ``dev``: the next hop's, if it has one that serves, else a new one."""
        flow.oif = dev.ifindex
        on_loopback = dev.flags & IFF_LOOPBACK != 0
        if ipv4_is_loopback(flow.saddr) and not on_loopback and not dev.in_dev.route_localnet():
            raise error(errno.EINVAL)  # RFC 1122 3.2.1.3 (g): 127/8 "MUST NOT appear outside a host"
        daddr = flow.daddr
        rt_type = res.rt_type
        fi = res.fi
        if daddr == INADDR_BROADCAST:
            rt_type = RTN_BROADCAST
            fi = None  # "reset fi to prevent gateway resolution"
        elif ipv4_is_multicast(daddr):
            rt_type = RTN_MULTICAST
        elif daddr == 0:
            raise error(errno.EINVAL)
        local = on_loopback or rt_type == RTN_BROADCAST
        do_cache = True
        if rt_type == RTN_MULTICAST:
            local = ip_check_mc(dev, daddr)
            do_cache = not local
            if fi is not None and res.prefixlen < 4:
                fi = None  # "If multicast route do not exist use default one, but do not gateway in this case."
        elif rt_type == RTN_LOCAL and orig_oif not in (0, dev.ifindex):
            # the next hop is a device's, and its Dst would say so to those who asked for lo
            do_cache = False
        nhc = res.nhc
        if fi is None or nhc is None:
            return self._rt_dst_alloc(rt_type, dev, local)
        return self._through(flow, nhc, fi, do_cache, rt_type, dev, local)

    def _through(
        self, flow: Flow, nhc: FibNh, fi: FibInfo, do_cache: bool, rt_type: i64, dev: NetDevice, local: bool
    ) -> Dst:
        """By next hop ``nhc``, which may have one already."""
        rtable = self.rtable
        daddr = flow.daddr
        fnhe: FibNhException | None = None
        if nhc.exceptions is not None:
            fnhe = rtable.exceptions.find_exception(nhc, daddr)
        if do_cache:
            kept: Dst | None = None
            if fnhe is not None:
                kept = fnhe.rth_output
            elif flow.known_nh and not (nhc.gateway != 0 and nhc.scope == RT_SCOPE_LINK):
                do_cache = False  # the hop that is asked for is the destination itself, nobody else's
            else:
                kept = nhc.rth_output
            if kept is not None and kept.genid == self.fib.genid:
                self.net.mib.rt_cache.out_hit += 1
                return kept
        dst = self._rt_dst_alloc(rt_type, dev, local)
        rtable.rt_set_nexthop(dst, daddr, nhc, fi, fnhe, do_cache)
        return dst

    def _rt_dst_alloc(self, rt_type: i64, dev: NetDevice, local: bool) -> Dst:
        """A new one. What goes to many, ourselves among them, goes out by ip_mc_output."""
        mib = self.net.mib.rt_cache
        mib.out_slow_tot += 1
        dst = self.rtable.rt_dst_alloc(rt_type, dev, local)
        if local and to_many(dst) and dev.flags & IFF_LOOPBACK == 0:
            dst.output = self.rtable.mc_output
            mib.out_slow_mc += 1
        return dst
