"""What becomes of a received packet, in the kernel's order of decisions (Linux ip_route_input_noref and _slow).

RFC 1122 3.2.1.3, RFC 1812 5.2 and 5.3. One lookup for the destination; the source costs another only where rp_filter,
redirects or rules ask for it. The answer is kept by the next hop it goes to, so that nothing is made anew for a packet
to which nothing is new.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

from mypy_extensions import i64, mypyc_attr

from ustack.drop import Reason
from ustack.dst import RTN_BROADCAST, RTN_LOCAL, RTN_MULTICAST, RTN_UNICAST, Dst
from ustack.routing.devinet import (
    INADDR_BROADCAST,
    ip_check_mc,
    ipv4_is_loopback,
    ipv4_is_multicast,
)
from ustack.routing.facts import DstGiven, LookupGiven, hop_facts, lookup_name
from ustack.routing.fib_types import FibResult
from ustack.routing.flow import INET_DSCP_MASK, Flow
from ustack.routing.multipath import FlowKeys, MultipathHash, fib4_rules_early_flow_dissect
from ustack.routing.validate import REASONS, SourceValidation
from ustack.timer import NSEC_PER_SEC
from ustack.trace.points import Point
from ustack.wire.ethernet import ETH_P_IP

if TYPE_CHECKING:
    from ustack.device.net_device import NetDevice
    from ustack.net import Net
    from ustack.packet import Packet
    from ustack.routing.devinet import InetDevices
    from ustack.routing.fib_frontend import Fib
    from ustack.routing.fib_types import FibInfo, FibNh
    from ustack.routing.rtable import Rtable

#: What a router does with a packet whose route leads nowhere (ip_error, by dst.error).
_ERROR_REASONS: Final[dict[int, Reason]] = {
    errno.EINVAL: Reason.IP_BLACKHOLE,
    errno.ENETUNREACH: Reason.IP_INNOROUTES,
    errno.EHOSTUNREACH: Reason.IP_HOSTUNREACH,
    errno.EACCES: Reason.IP_PROHIBITED,
}
#: A stack tells of no more martians than this (net_ratelimit: ten in five seconds).
MARTIAN_BURST: Final[i64] = 10
MARTIAN_INTERVAL: Final[i64] = 5 * NSEC_PER_SEC


@mypyc_attr(allow_interpreted_subclasses=True)
class MartianWatcher:
    """Told of addresses that cannot be, as the kernel's log is where log_martians is on (RFC 1812 5.3.8)."""

    def martian(self, packet: Packet, dev: NetDevice, saddr: i64, daddr: i64, source: bool) -> None:
        """``packet`` came in from ``dev``; ``source``: it is its source that cannot be, else its destination."""
        raise NotImplementedError

    def suppressed(self, count: i64) -> None:
        """So many more were not told of since the last one; said before the next."""


class RouteInput:
    """The way in of one stack."""

    def __init__(self, net: Net, fib: Fib, inet: InetDevices, rtable: Rtable, multipath: MultipathHash) -> None:
        self.net: Net = net
        self.fib: Fib = fib
        self.inet: InetDevices = inet
        self.rtable: Rtable = rtable
        self.multipath: MultipathHash = multipath
        self.validation = SourceValidation(fib, inet)
        self.martian_watchers: list[MartianWatcher] = []
        self.no_route_errno: i64 = 0  #: of the last answer that was "nowhere", what it is called (dst.error)
        self._flow = Flow(0)
        self._res = FibResult()
        self._keys = FlowKeys()
        self._martians_since: i64 = 0
        self._martians_told: i64 = 0
        self._martians_missed: i64 = 0

    def ip_route_input(self, packet: Packet) -> Reason | None:
        """Decide what becomes of ``packet`` by its header and device.

        None: ``packet.dst`` is set and its input takes the packet on. A reason: the packet is to be dropped for it.
        """
        iph = packet.iph
        dev = packet.dev
        if iph is None or dev is None:
            return Reason.NOT_SPECIFIED
        return self.ip_route_input_rcu(packet, iph.daddr, iph.saddr, iph.tos & INET_DSCP_MASK, dev, self._res)

    def ip_route_input_noref(self, packet: Packet, daddr: i64, saddr: i64, tos: i64, dev: NetDevice) -> Reason | None:
        """The same for addresses that are in no header: ARP asks so, with ``packet.protocol`` ETH_P_ARP."""
        return self.ip_route_input_rcu(packet, daddr, saddr, tos, dev, self._res)

    def ip_route_input_rcu(
        self, packet: Packet, daddr: i64, saddr: i64, tos: i64, dev: NetDevice, res: FibResult
    ) -> Reason | None:
        """The same, telling in ``res`` by which route."""
        if packet.journey is None:
            return self._decide(packet, daddr, saddr, tos, dev, res)
        hits = self.net.mib.rt_cache.in_hit
        reason = self._decide(packet, daddr, saddr, tos, dev, res)
        dst = packet.dst
        if reason is None and dst is not None:
            cached = self.net.mib.rt_cache.in_hit != hits
            way = "to ip_local_deliver" if dst.input is self.rtable.local_deliver else "to ip_forward"
            packet.journey.step(Point.IP_ROUTE_INPUT, way, DstGiven(dst, cached))
        return reason

    def _decide(
        self, packet: Packet, daddr: i64, saddr: i64, tos: i64, dev: NetDevice, res: FibResult
    ) -> Reason | None:
        self.no_route_errno = 0
        if ipv4_is_multicast(daddr):
            res.reset()
            return self._ip_route_input_mc(packet, daddr, saddr, tos, dev)
        return self._ip_route_input_slow(packet, daddr, saddr, tos, dev, res)

    # -- to a group

    def _ip_route_input_mc(self, packet: Packet, daddr: i64, saddr: i64, tos: i64, dev: NetDevice) -> Reason | None:
        """ip_route_input_mc: only groups that ``dev`` listens to."""
        if not ip_check_mc(dev, daddr):
            return Reason.IP_INVALID_DEST
        iph = packet.iph
        protocol: i64 = 0 if iph is None else iph.protocol
        reason = self.validation.ip_mc_validate_source(packet, daddr, saddr, protocol, tos, dev)
        if reason is not None:
            return reason
        self.net.mib.rt_cache.in_slow_mc += 1
        packet.dst = self._input_dst(RTN_MULTICAST, self._loopback(dev))
        return None

    # -- to one, or to all

    def _ip_route_input_slow(
        self, packet: Packet, daddr: i64, saddr: i64, tos: i64, dev: NetDevice, res: FibResult
    ) -> Reason | None:
        """Impossible addresses, broadcast, the tables; each only after the one before it."""
        if ipv4_is_multicast(saddr) or saddr == INADDR_BROADCAST:
            return self._martian_source(packet, daddr, saddr, dev, Reason.IP_INVALID_SOURCE)
        if daddr == INADDR_BROADCAST or (saddr == 0 and daddr == 0):
            res.reset()
            return self._brd_input(packet, daddr, saddr, tos, dev, res, False)
        # "Accept zero addresses only to limited broadcast"
        if saddr == 0:
            return self._martian_source(packet, daddr, saddr, dev, Reason.IP_INVALID_SOURCE)
        if daddr == 0:
            return self._martian_destination(packet, daddr, saddr, dev, Reason.IP_INVALID_DEST)
        # RFC 1122 3.2.1.3 (g): "Addresses of this form MUST NOT appear outside a host."
        if ipv4_is_loopback(daddr):
            if not dev.in_dev.route_localnet():
                return self._martian_destination(packet, daddr, saddr, dev, Reason.IP_LOCALNET)
        elif ipv4_is_loopback(saddr) and not dev.in_dev.route_localnet():
            return self._martian_source(packet, daddr, saddr, dev, Reason.IP_LOCALNET)
        err = self._lookup(packet, daddr, saddr, tos, dev, res)
        if err != 0:
            return self._no_route(dev, res, err)
        return self._by_route(packet, daddr, saddr, tos, dev, res)

    def _lookup(self, packet: Packet, daddr: i64, saddr: i64, tos: i64, dev: NetDevice, res: FibResult) -> i64:
        """ "Now we are ready to route packet." """
        flow = self._flow
        flow.iif = dev.ifindex
        flow.mark = packet.mark
        flow.tos = tos
        flow.daddr = daddr
        flow.saddr = saddr
        if self.fib.rules.has_custom:
            self._early_flow_dissect(packet, flow)
        err = self.fib.fib_lookup(flow, res)
        if packet.journey is not None:
            facts = LookupGiven(self.fib, flow, res, err)
            packet.journey.step(Point.FIB_LOOKUP_IN, lookup_name(self.fib, res, err), facts, dev.name)
        return err

    def _early_flow_dissect(self, packet: Packet, flow: Flow) -> None:
        """For rules that ask for protocol and ports."""
        keys = self._keys
        fib4_rules_early_flow_dissect(packet, keys)
        flow.proto, flow.sport, flow.dport = keys.proto, keys.sport, keys.dport

    def _by_route(
        self, packet: Packet, daddr: i64, saddr: i64, tos: i64, dev: NetDevice, res: FibResult
    ) -> Reason | None:
        """There is a route: to us, to all of a link, or on."""
        rt_type = res.rt_type
        in_dev = dev.in_dev
        if rt_type == RTN_LOCAL:
            verdict = self.validation.fib_validate_source(packet, saddr, daddr, tos, 0, dev)
            if verdict < 0:
                return self._martian_source(packet, daddr, saddr, dev, REASONS[-verdict])
            self._local_input(packet, dev, res, True)
            return None
        if rt_type == RTN_BROADCAST:
            if not in_dev.bc_forward():
                # "not do cache if bc_forwarding is enabled": the next hop keeps the one that forwards
                return self._brd_input(packet, daddr, saddr, tos, dev, res, in_dev.all.bc_forwarding == 0)
        elif not in_dev.forward():
            return self._no_route(dev, res, errno.EHOSTUNREACH)
        elif rt_type != RTN_UNICAST:
            return self._martian_destination(packet, daddr, saddr, dev, Reason.IP_INVALID_DEST)
        return self._ip_mkroute_input(packet, daddr, saddr, tos, dev, res)

    def _brd_input(
        self, packet: Packet, daddr: i64, saddr: i64, tos: i64, dev: NetDevice, res: FibResult, do_cache: bool
    ) -> Reason | None:
        if packet.protocol != ETH_P_IP:
            return Reason.INVALID_PROTO
        if saddr != 0:
            verdict = self.validation.fib_validate_source(packet, saddr, 0, tos, 0, dev)
            if verdict < 0:
                return self._martian_source(packet, daddr, saddr, dev, REASONS[-verdict])
        res.rt_type = RTN_BROADCAST
        self.net.mib.rt_cache.in_brd += 1
        self._local_input(packet, dev, res, do_cache)
        return None

    def _local_input(self, packet: Packet, dev: NetDevice, res: FibResult, do_cache: bool) -> None:
        """It is for us."""
        nhc = res.nhc if res.fi is not None and do_cache else None
        if nhc is not None:
            kept = nhc.rth_input
            if kept is not None and kept.genid == self.fib.genid:
                self.net.mib.rt_cache.in_hit += 1
                packet.dst = kept
                return
        self.net.mib.rt_cache.in_slow_tot += 1
        dst = self._input_dst(res.rt_type, self._loopback(dev))
        if nhc is not None:
            self.rtable.rt_cache_route(nhc, dst)
        packet.dst = dst

    def _ip_mkroute_input(
        self, packet: Packet, daddr: i64, saddr: i64, tos: i64, dev: NetDevice, res: FibResult
    ) -> Reason | None:
        """Choose among several next hops, then __mkroute_input."""
        fi = res.fi
        if fi is not None and len(fi.nhs()) > 1:
            mp_hash = self.multipath.fib_multipath_hash(None, packet)
            self.fib.semantics.fib_select_multipath(res, mp_hash)
            if packet.journey is not None:
                packet.journey.step(Point.FIB_SELECT_MULTIPATH, "by hash", hop_facts(res, mp_hash))
        nhc = res.nhc
        if fi is None or nhc is None or nhc.dev is None:
            return Reason.NOT_SPECIFIED
        out = nhc.dev
        verdict = self.validation.fib_validate_source(packet, saddr, daddr, tos, out.ifindex, dev)
        if verdict < 0:
            return self._martian_source(packet, daddr, saddr, dev, REASONS[-verdict])
        if out is dev:
            if packet.protocol != ETH_P_IP:
                # "Do not create route, if it is invalid for proxy arp", but for private VLANs
                if not dev.in_dev.proxy_arp_pvlan():
                    return Reason.ARP_PVLAN_DISABLE
            elif verdict != 0:
                self._doredirect(packet, saddr, dev, nhc)
        self._mkroute_input(packet, daddr, res, nhc, out, fi)
        return None

    def _doredirect(self, packet: Packet, saddr: i64, dev: NetDevice, nhc: FibNh) -> None:
        """Out where it came in, and its sender is on that link: it could have gone straight (RFC 1812 5.2.7.2)."""
        in_dev = dev.in_dev
        if in_dev.tx_redirects() and (in_dev.shared_media() or self.inet.inet_addr_onlink(dev, saddr, nhc.gateway)):
            packet.redirected = True

    def _mkroute_input(
        self, packet: Packet, daddr: i64, res: FibResult, nhc: FibNh, out: NetDevice, fi: FibInfo
    ) -> None:
        """A packet for somebody else, and we are a router."""
        rtable = self.rtable
        fnhe = None
        kept = nhc.rth_input
        if nhc.exceptions is not None:
            fnhe = rtable.exceptions.find_exception(nhc, daddr)
            if fnhe is not None:
                kept = fnhe.rth_input
        if kept is not None and kept.genid == self.fib.genid:
            self.net.mib.rt_cache.in_hit += 1
            packet.dst = kept
            return
        self.net.mib.rt_cache.in_slow_tot += 1
        dst = rtable.rt_dst_alloc(res.rt_type, out, False)
        dst.is_input = True
        dst.input = rtable.forward
        rtable.rt_set_nexthop(dst, daddr, nhc, fi, fnhe, True)
        packet.dst = dst

    # -- nowhere

    def _no_route(self, dev: NetDevice, res: FibResult, err: i64) -> Reason:
        """Not ours, and no way on (ip_error): a router says so, a host does not tell strangers what it lacks."""
        self.net.mib.rt_cache.in_no_route += 1
        self.net.mib.rt_cache.in_slow_tot += 1
        res.reset()
        if not dev.in_dev.forward():
            self.no_route_errno = errno.EHOSTUNREACH
            return Reason.IP_FORWARDING_OFF
        self.no_route_errno = err
        return _ERROR_REASONS.get(int(err), Reason.IP_BLACKHOLE)

    def _martian_source(self, packet: Packet, daddr: i64, saddr: i64, dev: NetDevice, reason: Reason) -> Reason:
        """ip_handle_martian_source."""
        self.net.mib.rt_cache.in_martian_src += 1
        if self.martian_watchers and dev.in_dev.log_martians():
            self._tell(packet, dev, saddr, daddr, True)
        return reason

    def _martian_destination(self, packet: Packet, daddr: i64, saddr: i64, dev: NetDevice, reason: Reason) -> Reason:
        """ "Do not cache martian addresses: they should be logged (RFC1812)" """
        self.net.mib.rt_cache.in_martian_dst += 1
        if self.martian_watchers and dev.in_dev.log_martians():
            self._tell(packet, dev, saddr, daddr, False)
        return reason

    def _tell(self, packet: Packet, dev: NetDevice, saddr: i64, daddr: i64, source: bool) -> None:
        """As often as ___ratelimit lets: whoever floods us with martians is not to flood a log."""
        now = self.net.now
        if now - self._martians_since > MARTIAN_INTERVAL:
            self._martians_since = now
            self._martians_told = 0
            if self._martians_missed != 0:
                for watcher in self.martian_watchers:
                    watcher.suppressed(self._martians_missed)
                self._martians_missed = 0
        if self._martians_told >= MARTIAN_BURST:
            self._martians_missed += 1
            return
        self._martians_told += 1
        for watcher in self.martian_watchers:
            watcher.martian(packet, dev, saddr, daddr, source)

    # -- making

    def _input_dst(self, rt_type: i64, dev: NetDevice) -> Dst:
        dst = self.rtable.rt_dst_alloc(rt_type, dev, True)
        dst.output = None  # ip_rt_bug
        dst.is_input = True
        return dst

    def _loopback(self, dev: NetDevice) -> NetDevice:
        """ip_rt_get_dev: what is delivered here has the loopback device for its way, and so no link's MTU."""
        lo = self.inet.loopback_dev
        return dev if lo is None else lo
