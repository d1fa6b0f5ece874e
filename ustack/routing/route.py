"""Routing: addresses, tables, rules and lookups of one stack, for the other floors (Linux net/ipv4/route.c).

The answer to a lookup is a Dst. It is kept by the next hop it goes through (or by the exception that some destination
is), and by sockets, until the tables' ``genid`` moves, which every change of an address, a route or a rule does.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from mypy_extensions import i64

from ustack.dst import RTN_UNICAST, Dst, rt_nexthop, to_many
from ustack.in_device import RouteCache
from ustack.routing.devinet import InetDevices
from ustack.routing.facts import DstGiven
from ustack.routing.fib_frontend import Fib
from ustack.routing.fib_types import FibConfig, FibResult, Reachability, fib_error
from ustack.routing.flow import RT_SCOPE_LINK, RT_SCOPE_NOWHERE, RT_SCOPE_UNIVERSE, Flow
from ustack.routing.getroute import RouteAnswer, RouteQuestion, inet_rtm_getroute
from ustack.routing.multipath import MultipathHash
from ustack.routing.redirect import Redirects
from ustack.routing.route_input import RouteInput
from ustack.routing.route_output import RouteOutput
from ustack.routing.rtable import Rtable
from ustack.routing.uapi import NLM_F_CREATE, NLM_F_EXCL, RT_TABLE_MAIN, RTAX_MTU, RTPROT_BOOT
from ustack.sock import error
from ustack.timer import NSEC_PER_SEC
from ustack.trace.points import Point
from ustack.wire.ipv4 import addr_to_str

if TYPE_CHECKING:
    from ustack.device.core import Devices
    from ustack.device.net_device import Address, NetDevice
    from ustack.drop import Reason
    from ustack.net import Net
    from ustack.packet import Packet


class Routing(RouteCache):
    """The routing room of one stack."""

    def __init__(self, net: Net, devices: Devices, reachability: Reachability | None = None) -> None:
        """``reachability``: what the neighbour table knows of gateways, for the choice among default ones."""
        self.net: Net = net
        self.devices: Devices = devices
        self.fib = Fib(net, devices, reachability)
        self.inet = InetDevices(net, devices, self.fib)
        self.rtable = Rtable(net, self.fib)  #: to be told what a Dst's input and output are
        self.exceptions = self.rtable.exceptions
        self.multipath = MultipathHash(net)
        self.input_route = RouteInput(net, self.fib, self.inet, self.rtable, self.multipath)
        self.output_route = RouteOutput(net, devices, self.fib, self.inet, self.rtable, self.multipath)
        self.redirects = Redirects(net, self.fib, self.inet, self.exceptions, self.multipath)
        self._res = FibResult()

    # -- the administrator, in short; rtnetlink goes by ``inet`` and ``fib``

    def add_address(self, dev: NetDevice, address: Address) -> None:
        """Raises EEXIST, EINVAL, ENOBUFS (InetDevices.inet_insert_ifa)."""
        self.inet.inet_insert_ifa(dev, address)

    def del_address(self, dev: NetDevice, local: i64, prefixlen: i64) -> None:
        """Raises EADDRNOTAVAIL."""
        for ifa in dev.addresses:
            if ifa.local == local and ifa.prefixlen == prefixlen:
                return self.inet.inet_del_ifa(dev, ifa)
        raise error(errno.EADDRNOTAVAIL)

    def add_route(
        self,
        network: i64,
        prefixlen: i64,
        gateway: i64 = 0,
        dev: NetDevice | None = None,
        metric: i64 = 0,
        rt_type: i64 = RTN_UNICAST,
        prefsrc: i64 = 0,
        mtu: i64 = 0,
    ) -> None:
        """Add to the main table (``ip route add``). Raises what Fib.rtm_newroute does."""
        cfg = FibConfig(network, prefixlen)
        cfg.table = RT_TABLE_MAIN
        cfg.protocol = RTPROT_BOOT
        cfg.rt_type = rt_type
        nowhere = fib_error(rt_type) != 0
        cfg.scope = RT_SCOPE_UNIVERSE if gateway != 0 or nowhere else RT_SCOPE_LINK
        cfg.gateway = gateway
        cfg.oif = 0 if dev is None else dev.ifindex
        cfg.priority = metric
        cfg.prefsrc = prefsrc
        if mtu != 0:
            cfg.metrics[RTAX_MTU] = int(mtu)
        cfg.nlflags = NLM_F_CREATE | NLM_F_EXCL
        self.fib.rtm_newroute(cfg)

    def del_route(
        self, network: i64, prefixlen: i64, gateway: i64 = 0, dev: NetDevice | None = None, metric: i64 = 0
    ) -> None:
        """Remove the first route of the main table that fits what is given (``ip route del``). Raises ESRCH."""
        cfg = FibConfig(network, prefixlen)
        cfg.table = RT_TABLE_MAIN
        cfg.rt_type = 0
        cfg.scope = RT_SCOPE_NOWHERE
        cfg.gateway = gateway
        cfg.oif = 0 if dev is None else dev.ifindex
        cfg.priority = metric
        self.fib.rtm_delroute(cfg)

    def rt_cache_flush(self) -> None:
        """No answer given so far holds any longer."""
        self.fib.rt_cache_flush()

    def flush(self) -> None:
        """Forget what next hops have told as well (net.ipv4.route.flush, ``ip route flush cache``)."""
        self.fib.rt_cache_flush()
        self.exceptions.flush()

    # -- addresses, as the floors above ask for them

    def inet_addr_type(self, addr: i64) -> i64:
        """RTN_LOCAL, RTN_BROADCAST, RTN_MULTICAST or RTN_UNICAST."""
        return self.fib.inet_addr_type(addr)

    def inet_select_addr(self, dev: NetDevice, dst: i64 = 0, scope: i64 = RT_SCOPE_UNIVERSE) -> i64:
        """A source address for ``dst`` out of ``dev``, 0 if there is none."""
        return self.inet.inet_select_addr(dev, dst, scope)

    def fib_compute_spec_dst(self, packet: Packet) -> i64:
        """RFC 1122 3.2.1.3's specific-destination address: the one of ours that ``packet`` was sent to, or means."""
        iph, dev, dst = packet.iph, packet.in_dev, packet.dst
        if iph is None:
            return 0
        if dev is None or (dst is not None and dst.local and not to_many(dst)):
            return iph.daddr
        return self.inet.fib_compute_spec_dst(dev, iph.saddr, iph.tos, packet.mark)

    # -- lookups

    def dst_valid(self, dst: Dst) -> bool:
        """Whether a kept answer still holds (ipv4_dst_check)."""
        return dst.genid == self.fib.genid

    def ip_route_output(self, flow: Flow, packet: Packet | None = None) -> Dst:
        """The way to ``flow.daddr``; writes the choice into flow.saddr, daddr and oif (ip_route_output_key_hash).

        ``packet``: what an ICMP error is about. Raises EINVAL (impossible source, blackhole), ENODEV, ENETUNREACH,
        EHOSTUNREACH, EACCES (prohibit).
        """
        tracer = self.net.tracer
        if tracer is None:
            return self.output_route.ip_route_output_key_hash_rcu(flow, self._res, packet)
        hits = self.net.mib.rt_cache.out_hit
        dst = self.output_route.ip_route_output_key_hash_rcu(flow, self._res, packet)
        facts = DstGiven(dst, self.net.mib.rt_cache.out_hit != hits, flow.saddr)
        tracer.note(Point.IP_ROUTE_OUTPUT, f"to {addr_to_str(flow.daddr)}", facts)
        return dst

    def ip_route_input(self, packet: Packet) -> Reason | None:
        """Decide what becomes of a received packet: None, and ``packet.dst`` is set; or why it is to be dropped."""
        return self.input_route.ip_route_input(packet)

    def rtm_getroute(self, ask: RouteQuestion) -> RouteAnswer:
        """``ip route get``. Raises the lookup's errno."""
        return inet_rtm_getroute(self, ask)

    # -- what ICMP tells

    def update_pmtu(self, flow: Flow, mtu: i64) -> None:
        """A believable "fragmentation needed": ``mtu`` bytes fit on ``flow``'s way (ipv4_update_pmtu)."""
        try:
            dst = self.ip_route_output(flow)
        except OSError:
            return
        self.ip_rt_update_pmtu(dst, flow, mtu)

    def ip_rt_update_pmtu(self, dst: Dst, flow: Flow, mtu: i64) -> None:
        """The same where ``dst`` is known to be the way (__ip_rt_update_pmtu).

        RFC 1191 section 3: "A host MUST never raise its estimate of the Path MTU in response to a Datagram Too Big
        message". Below route_min_pmtu the estimate stays there and the path's packets go without DF. All next hops of
        a multipath route hear of it, since nobody knows which one it was.
        """
        net = self.net
        sysctl = net.sysctl
        old_mtu = dst.mtu
        if net.tracer is not None:
            believed = "locked" if dst.mtu_locked else "no smaller than ours" if mtu >= old_mtu else "believed"
            net.tracer.here(
                Point.IP_RT_UPDATE_PMTU, believed, {"path": addr_to_str(flow.daddr), "mtu": mtu, "was": old_mtu}
            )
        if dst.mtu_locked or old_mtu < mtu or mtu < 0:
            return
        locked = mtu < sysctl.route_min_pmtu
        if locked:
            mtu = min(old_mtu, sysctl.route_min_pmtu)
        lasting = sysctl.route_mtu_expires * NSEC_PER_SEC
        if dst.pmtu == mtu and not locked and net.now < dst.expires - lasting // 2:
            return
        res = self._res
        if self.fib.fib_lookup(flow, res) == 0 and res.fi is not None:
            hops = res.fi.nhs()
            if len(hops) == 1:
                self.fib.semantics.fib_select_path(flow, res, 0)
                if res.nhc is not None:
                    hops = [res.nhc]
            for nhc in hops:
                self.exceptions.update_or_create_fnhe(nhc, flow.daddr, 0, mtu, locked, net.now + lasting)

    def ip_rt_get_source(self, packet: Packet, dst: Dst) -> i64:
        """The address of ours that options of ``packet``, which is sent on by ``dst``, are to name."""
        iph, dev = packet.iph, packet.in_dev
        if iph is None or dev is None:
            return 0
        flow = Flow(iph.daddr, iph.saddr, dst.dev.ifindex, iph.tos, iif=dev.ifindex, mark=packet.mark)
        res = self._res
        if self.fib.fib_lookup(flow, res) == 0:
            return self.fib.semantics.fib_result_prefsrc(res)
        return self.inet.inet_select_addr(dst.dev, rt_nexthop(dst, iph.daddr))

    def ipv4_redirect(self, flow: Flow, packet: Packet, code: i64, gateway: i64) -> None:
        """An ICMP redirect about ``flow``; ``packet`` as NetProtocol.err_handler has it (ipv4_sk_redirect)."""
        try:
            dst = self.ip_route_output(flow)
        except OSError:
            return
        self.redirects.ip_do_redirect(dst, flow, packet, code, packet.icmp_saddr, gateway, False)

    def ip_do_redirect(self, dst: Dst, flow: Flow, packet: Packet, code: i64, gateway: i64) -> None:
        """The same about a connection whose way is ``dst``, which is to look again."""
        self.redirects.ip_do_redirect(dst, flow, packet, code, packet.icmp_saddr, gateway, True)
