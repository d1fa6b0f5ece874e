"""Route lookups in and out, in Linux's order of decisions (net/ipv4/route.c; RFC 1122 3.3.1, RFC 1812 5.2).

The answer is a Dst. Answers are kept by (interface, source, destination) until ``genid`` moves, which every change of
an address, a route or a path MTU does; sockets keep theirs and ask ``dst_valid``.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

from mypy_extensions import i64

from ustack.device.net_device import IFF_LOOPBACK, IFF_UP, Address
from ustack.drop import Reason
from ustack.dst import (
    RTN_BLACKHOLE,
    RTN_BROADCAST,
    RTN_LOCAL,
    RTN_MULTICAST,
    RTN_PROHIBIT,
    RTN_UNICAST,
    RTN_UNREACHABLE,
    Dst,
)
from ustack.routing.devinet import (
    INADDR_ALLHOSTS_GROUP,
    INADDR_BROADCAST,
    INADDR_LOOPBACK,
    InetDevices,
    ipv4_is_local_multicast,
    ipv4_is_loopback,
    ipv4_is_multicast,
    ipv4_is_zeronet,
)
from ustack.routing.exceptions import PmtuExceptions
from ustack.routing.fib import FIB_ERRORS, RTPROT_BOOT, Fib, FibResult, prefix_mask
from ustack.routing.flow import RT_SCOPE_HOST, RT_SCOPE_LINK, RT_SCOPE_UNIVERSE, Flow
from ustack.sock import error
from ustack.wire.ipv4 import IPPROTO_IGMP

if TYPE_CHECKING:
    from ustack.device.core import Devices
    from ustack.device.net_device import NetDevice
    from ustack.net import Net
    from ustack.packet import Packet, PacketHandler

#: Answers kept in each direction; a full cache is emptied at once, so a flood of addresses buys nothing but that.
RT_CACHE_SIZE: Final = 4096
#: What a router does with a packet whose route leads nowhere (ip_error, by dst.error).
_FIB_REASONS: Final[dict[int, Reason]] = {
    RTN_BLACKHOLE: Reason.IP_BLACKHOLE,
    RTN_UNREACHABLE: Reason.IP_HOSTUNREACH,
    RTN_PROHIBIT: Reason.IP_PROHIBITED,
}
#: The header has 16 bits for the length (include/net/ip.h).
IP_MAX_MTU: Final[i64] = 0xFFFF


class _Cached:
    """An answer with its question: the cache's key is a hash, so the question is compared."""

    def __init__(self, saddr: i64, daddr: i64, ifindex: i64, dst: Dst) -> None:
        self.saddr: i64 = saddr
        self.daddr: i64 = daddr
        self.ifindex: i64 = ifindex
        self.dst: Dst = dst


class Routing:
    """Addresses, routes and lookups of one stack."""

    def __init__(self, net: Net, devices: Devices) -> None:
        self.net: Net = net
        self.devices: Devices = devices
        self.fib = Fib()
        self.inet = InetDevices(devices, self.fib)
        self.exceptions = PmtuExceptions(net, self)
        self.genid: i64 = 0  #: rt_genid
        # what a Dst's input and output will be; set by whoever wires the floors, before the first lookup
        self.local_deliver: PacketHandler | None = None
        self.forward: PacketHandler | None = None
        self.output: PacketHandler | None = None
        self.mc_output: PacketHandler | None = None
        self._in: dict[int, _Cached] = {}
        self._out: dict[int, _Cached] = {}
        # Two odd secrets make the caches' hash, or chosen sources could make lookups collide (CVE-2003-0244).
        self._secret_s: i64 = (net.entropy.u32() >> 2) | 1
        self._secret_d: i64 = (net.entropy.u32() >> 2) | 1

    # -- the administrator

    def add_address(self, dev: NetDevice, address: Address) -> None:
        """Raises EEXIST, EINVAL, ENOBUFS (InetDevices.inet_insert_ifa)."""
        self.rt_cache_flush()
        self.inet.inet_insert_ifa(dev, address)

    def del_address(self, dev: NetDevice, local: i64, prefixlen: i64) -> None:
        """Raises EADDRNOTAVAIL (InetDevices.inet_del_ifa)."""
        self.rt_cache_flush()
        self.inet.inet_del_ifa(dev, local, prefixlen)

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
        """Add to the main table (ip route add; fib_create_info).

        Raises EINVAL (bits beyond the prefix, foreign prefsrc, gateway that is no neighbour's), ENETUNREACH (gateway
        on no link of ours), ENODEV (neither gateway nor device), ENETDOWN, EEXIST, ENOBUFS.
        """
        if not 0 <= prefixlen <= 32 or network & prefix_mask(prefixlen) != network:
            raise error(errno.EINVAL)
        if prefsrc != 0 and self.inet.inet_addr_type(prefsrc) != RTN_LOCAL:
            raise error(errno.EINVAL)
        if FIB_ERRORS.get(int(rt_type), 0):
            route = FibResult(network, prefixlen, rt_type, scope=RT_SCOPE_UNIVERSE, priority=metric)
        elif rt_type != RTN_UNICAST:
            raise error(errno.EINVAL)
        else:
            out, scope = self._fib_check_nh(gateway, dev)
            route = FibResult(network, prefixlen, rt_type, out, gateway, prefsrc, scope, metric, mtu, RTPROT_BOOT)
        self.fib.main.fib_table_insert(route)
        self.rt_cache_flush()

    def del_route(
        self, network: i64, prefixlen: i64, gateway: i64 = 0, dev: NetDevice | None = None, metric: i64 = -1
    ) -> None:
        """Remove the first route of the main table that fits what is given (ip route del). Raises ESRCH."""
        for route in self.fib.main.at_prefix(network, prefixlen):
            fits = (dev is None or route.dev is dev) and (metric < 0 or route.priority == metric)
            if fits and (gateway == 0 or route.gateway == gateway):
                self.fib.main.fib_table_delete(route)
                self.rt_cache_flush()
                return
        raise error(errno.ESRCH)

    def rt_cache_flush(self) -> None:
        """Addresses, routes or a device's state or MTU have changed: no answer given so far holds any longer."""
        self.exceptions.flush()
        self.new_genid()

    def new_genid(self) -> None:
        self.genid += 1
        self._in.clear()
        self._out.clear()

    def forget_device(self, dev: NetDevice) -> None:
        """``dev`` goes away: its addresses and its routes with it (inetdev_destroy, fib_disable_ip)."""
        for address in dev.addresses[:]:
            self.inet.inet_del_ifa(dev, address.local, address.prefixlen)
        self.fib.flush_dev(dev)
        self.rt_cache_flush()

    def _fib_check_nh(self, gateway: i64, dev: NetDevice | None) -> tuple[NetDevice, i64]:
        """The device and the scope of a new route (fib_check_nh): a gateway must be on a link of ours that is up."""
        scope: i64 = RT_SCOPE_LINK
        if gateway != 0:
            if self.inet.inet_addr_type(gateway) != RTN_UNICAST:
                raise error(errno.EINVAL)
            link = Flow(gateway, oif=0 if dev is None else dev.ifindex, scope=RT_SCOPE_LINK)
            found = self.fib.fib_lookup(link)
            if found is None or found.rt_type != RTN_UNICAST or found.gateway != 0:
                raise error(errno.ENETUNREACH)
            dev = found.dev
            scope = RT_SCOPE_UNIVERSE
        if dev is None:
            raise error(errno.ENODEV)
        if dev.flags & IFF_UP == 0:
            raise error(errno.ENETDOWN)
        return dev, scope

    # -- addresses, as the floors above ask for them

    def inet_addr_type(self, addr: i64) -> i64:
        """RTN_LOCAL, RTN_BROADCAST, RTN_MULTICAST or RTN_UNICAST."""
        return self.inet.inet_addr_type(addr)

    def inet_select_addr(self, dev: NetDevice, dst: i64 = 0, scope: i64 = RT_SCOPE_UNIVERSE) -> i64:
        """A source address for ``dst`` out of ``dev``, 0 if there is none."""
        return self.inet.inet_select_addr(dev, dst, scope)

    def ip_check_mc(self, dev: NetDevice, group: i64) -> bool:
        """Whether ``dev`` listens to ``group`` (ip_check_mc_rcu); RFC 1112 section 4: all hosts, always."""
        return group == INADDR_ALLHOSTS_GROUP

    # -- out

    def dst_valid(self, dst: Dst) -> bool:
        """Whether a kept answer still holds (ipv4_dst_check)."""
        return dst.genid == self.genid

    def ip_route_output(self, flow: Flow) -> Dst:
        """The way to ``flow.daddr``; writes the choice into flow.saddr, daddr and oif (ip_route_output_key_hash_rcu).

        Raises EINVAL (impossible source, blackhole), ENODEV, ENETUNREACH, EHOSTUNREACH, EACCES (prohibit).
        """
        cacheable = flow.scope == RT_SCOPE_UNIVERSE and not flow.anysrc and flow.proto != IPPROTO_IGMP
        if not cacheable:
            return self._route_output_slow(flow)
        saddr, daddr, oif = flow.saddr, flow.daddr, flow.oif
        key = self._hash(saddr, daddr) ^ oif
        hit = self._out.get(key)
        if hit is not None and hit.saddr == saddr and hit.daddr == daddr and hit.ifindex == oif:
            self.net.mib.rt_cache.out_hit += 1
            flow.saddr = hit.dst.prefsrc
            flow.oif = hit.dst.dev.ifindex
            if daddr == 0:
                flow.daddr = hit.dst.nexthop
            return hit.dst
        dst = self._route_output_slow(flow)
        self._keep(self._out, key, _Cached(saddr, daddr, oif, dst))
        return dst

    def update_pmtu(self, daddr: i64, mtu: i64) -> None:
        """A believable "fragmentation needed": ``mtu`` bytes fit on the way to ``daddr`` (ipv4_update_pmtu)."""
        try:
            dst = self.ip_route_output(Flow(daddr))
        except OSError:
            return
        if not dst.local:
            self.exceptions.update(daddr, mtu, dst.mtu)

    def _route_output_slow(self, flow: Flow) -> Dst:
        """The decisions, in the kernel's order. A device named by ``oif`` settles what the tables cannot."""
        self.net.mib.rt_cache.out_slow_tot += 1
        by_source = self._check_source(flow)
        if by_source is not None:
            flow.oif = by_source.ifindex
            return self._mkroute_output(flow, None, by_source)
        dev_out: NetDevice | None = None
        if flow.oif != 0:
            dev_out = self._check_oif(flow)
            if self._settled_by_device(flow, dev_out):
                return self._mkroute_output(flow, None, dev_out)
        if flow.daddr == 0:
            # "no destination" means this host
            if flow.saddr == 0:
                flow.saddr = INADDR_LOOPBACK
            flow.daddr = flow.saddr
            return self._to_loopback(flow)
        found = self.fib.fib_lookup(flow)
        if found is None or found.error:
            return self._no_route_out(flow, found, dev_out)
        if found.rt_type == RTN_LOCAL:
            if flow.saddr == 0:
                flow.saddr = found.prefsrc or flow.daddr
            return self._to_loopback(flow)
        return self._by_table(flow, found)

    def _check_source(self, flow: Flow) -> NetDevice | None:
        """The source must be possible and ours; a group's or the limited broadcast's datagram leaves by its device."""
        saddr = flow.saddr
        if saddr == 0:
            return None
        if ipv4_is_multicast(saddr) or saddr == INADDR_BROADCAST or ipv4_is_zeronet(saddr):
            raise error(errno.EINVAL)
        to_many = ipv4_is_multicast(flow.daddr) or flow.daddr == INADDR_BROADCAST
        if flow.oif == 0 and to_many:
            dev = self.inet.ip_dev_find(saddr)
            if dev is None:
                raise error(errno.EINVAL)
            return dev
        if not flow.anysrc and self.inet.ip_dev_find(saddr) is None:
            raise error(errno.EINVAL)
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

    def _no_route_out(self, flow: Flow, found: FibResult | None, dev_out: NetDevice | None) -> Dst:
        """Without a route, a named device is believed: "Assume, that the destination is on link"."""
        if dev_out is None:
            raise error(errno.ENETUNREACH if found is None else int(found.error))
        if flow.saddr == 0:
            flow.saddr = self.inet.inet_select_addr(dev_out, 0, RT_SCOPE_LINK)
        return self._mkroute_output(flow, None, dev_out)

    def _to_loopback(self, flow: Flow) -> Dst:
        """To ourselves: the packet goes out of lo and comes in there, this Dst with it (RTCF_LOCAL)."""
        dev = self.inet.loopback()
        if dev is None or dev.flags & IFF_UP == 0:
            raise error(errno.ENETUNREACH)
        flow.oif = dev.ifindex
        dst = Dst(RTN_LOCAL, dev, flow.daddr, flow.saddr, min(dev.mtu, IP_MAX_MTU), self.genid)
        dst.local = True
        dst.input = self.local_deliver
        dst.output = self.output
        return dst

    def _by_table(self, flow: Flow, found: FibResult) -> Dst:
        dev = found.dev
        if dev is None:
            raise error(errno.ENETUNREACH)
        if flow.saddr == 0:
            flow.saddr = found.prefsrc or self.inet.inet_select_addr(dev, found.gateway, found.scope)
        flow.oif = dev.ifindex
        return self._mkroute_output(flow, found, dev)

    def _mkroute_output(self, flow: Flow, found: FibResult | None, dev: NetDevice) -> Dst:
        """A Dst out of ``dev`` (__mkroute_output). A broadcast, and a group we listen to, comes back to us as well."""
        daddr = flow.daddr
        on_loopback = dev.flags & IFF_LOOPBACK != 0
        if ipv4_is_loopback(flow.saddr) and not on_loopback and not dev.in_dev.route_localnet():
            raise error(errno.EINVAL)  # RFC 1122 3.2.1.3 (g): 127/8 "MUST NOT appear outside a host"
        rt_type = RTN_UNICAST if found is None else found.rt_type
        if daddr == INADDR_BROADCAST:
            rt_type = RTN_BROADCAST
        elif ipv4_is_multicast(daddr):
            rt_type = RTN_MULTICAST
        elif ipv4_is_zeronet(daddr):
            raise error(errno.EINVAL)
        gateway = found.gateway if found is not None and rt_type == RTN_UNICAST else 0
        dst = Dst(rt_type, dev, gateway or daddr, flow.saddr, self._mtu(found, dev), self.genid)
        dst.gateway = gateway
        dst.local = (
            on_loopback or rt_type == RTN_BROADCAST or (rt_type == RTN_MULTICAST and self.ip_check_mc(dev, daddr))
        )
        if dst.local:
            dst.input = self.local_deliver
        loops = dst.local and not on_loopback and rt_type != RTN_UNICAST
        dst.output = self.mc_output if loops else self.output
        if rt_type == RTN_UNICAST:
            self._apply_exception(dst, daddr)
        return dst

    def _mtu(self, found: FibResult | None, dev: NetDevice) -> i64:
        if found is not None and found.mtu != 0:
            return min(found.mtu, IP_MAX_MTU)
        return min(dev.mtu, IP_MAX_MTU)

    def _apply_exception(self, dst: Dst, daddr: i64) -> None:
        known = self.exceptions.find(daddr)
        if known is not None and known.pmtu < dst.mtu:
            dst.mtu = known.pmtu
            dst.mtu_locked = known.locked

    # -- in

    def ip_route_input(self, packet: Packet) -> Reason | None:
        """Decide what becomes of a received packet (ip_route_input_noref).

        None: ``packet.dst`` is set and its input takes the packet on. A reason: the packet is to be dropped for it.
        """
        iph = packet.iph
        dev = packet.dev
        if iph is None or dev is None:
            return Reason.NOT_SPECIFIED
        saddr, daddr, iif = iph.saddr, iph.daddr, dev.ifindex
        hit = self._in.get(self._hash(saddr, daddr) ^ iif)
        if hit is not None and hit.saddr == saddr and hit.daddr == daddr and hit.ifindex == iif:
            self.net.mib.rt_cache.in_hit += 1
            packet.dst = hit.dst
            packet.redirected = hit.dst.doredirect
            return None
        if ipv4_is_multicast(daddr):
            return self._route_input_mc(packet, dev, saddr, daddr)
        return self._route_input_slow(packet, dev, saddr, daddr)

    def _route_input_mc(self, packet: Packet, dev: NetDevice, saddr: i64, daddr: i64) -> Reason | None:
        """ip_route_input_mc: only groups that ``dev`` listens to; RFC 1122 3.2.1.3: never from a group's address."""
        if not self.ip_check_mc(dev, daddr):
            return Reason.IP_INVALID_DEST
        if ipv4_is_multicast(saddr) or saddr == INADDR_BROADCAST:
            return self._martian_source(Reason.IP_INVALID_SOURCE)
        if ipv4_is_loopback(saddr) and not self._localnet_allowed(dev):
            return self._martian_source(Reason.IP_LOCALNET)
        if ipv4_is_zeronet(saddr):
            # a host that has no address yet may speak to its link (RFC 1122 3.2.1.3 (a)), to no farther group
            if not ipv4_is_local_multicast(daddr):
                return self._martian_source(Reason.IP_INVALID_SOURCE)
        else:
            reason = self._validate_source(dev, saddr, 0)
            if reason is not None:
                return self._martian_source(reason)
        self.net.mib.rt_cache.in_slow_mc += 1
        self._deliver_here(packet, dev, saddr, daddr, RTN_MULTICAST)
        return None

    def _route_input_slow(self, packet: Packet, dev: NetDevice, saddr: i64, daddr: i64) -> Reason | None:
        """ip_route_input_slow: impossible addresses, broadcast, the tables; each only after the one before it."""
        if ipv4_is_multicast(saddr) or saddr == INADDR_BROADCAST:
            return self._martian_source(Reason.IP_INVALID_SOURCE)
        if daddr == INADDR_BROADCAST or (saddr == 0 and daddr == 0):
            return self._route_input_brd(packet, dev, saddr, daddr)
        # "Accept zero addresses only to limited broadcast"
        if ipv4_is_zeronet(saddr):
            return self._martian_source(Reason.IP_INVALID_SOURCE)
        if ipv4_is_zeronet(daddr):
            return self._martian_dest(Reason.IP_INVALID_DEST)
        # RFC 1122 3.2.1.3 (g): "Addresses of this form MUST NOT appear outside a host."
        if ipv4_is_loopback(daddr) and not self._localnet_allowed(dev):
            return self._martian_dest(Reason.IP_LOCALNET)
        if ipv4_is_loopback(saddr) and not self._localnet_allowed(dev):
            return self._martian_source(Reason.IP_LOCALNET)
        found = self.fib.fib_lookup(Flow(daddr, saddr, iif=dev.ifindex))
        if found is None or found.error:
            return self._no_route_in(dev, found)
        if found.rt_type == RTN_BROADCAST:
            return self._route_input_brd(packet, dev, saddr, daddr)
        if found.rt_type == RTN_LOCAL:
            reason = self._validate_source(dev, saddr, daddr)
            if reason is not None:
                return self._martian_source(reason)
            self._deliver_here(packet, dev, saddr, daddr, RTN_LOCAL)
            return None
        if not dev.in_dev.forward():
            return self._no_route_in(dev, found)
        return self._mkroute_input(packet, dev, saddr, daddr, found)

    def _route_input_brd(self, packet: Packet, dev: NetDevice, saddr: i64, daddr: i64) -> Reason | None:
        if not ipv4_is_zeronet(saddr):
            reason = self._validate_source(dev, saddr, 0)
            if reason is not None:
                return self._martian_source(reason)
        self.net.mib.rt_cache.in_brd += 1
        self._deliver_here(packet, dev, saddr, daddr, RTN_BROADCAST)
        return None

    def _mkroute_input(self, packet: Packet, dev: NetDevice, saddr: i64, daddr: i64, found: FibResult) -> Reason | None:
        """A packet for somebody else, and we are a router (__mkroute_input)."""
        out = found.dev
        if found.rt_type != RTN_UNICAST or out is None:
            return self._martian_dest(Reason.IP_INVALID_DEST)
        reason = self._validate_source(dev, saddr, daddr)
        if reason is not None:
            return self._martian_source(reason)
        dst = Dst(RTN_UNICAST, out, found.gateway or daddr, 0, self._mtu(found, out), self.genid)
        dst.gateway = found.gateway
        dst.input = self.forward
        dst.output = self.output
        dst.doredirect = out is dev and self._on_link(dev, saddr)
        if self.net.sysctl.ip_forward_use_pmtu:
            self._apply_exception(dst, daddr)
        self._decided(packet, dev, saddr, daddr, dst)
        return None

    def _no_route_in(self, dev: NetDevice, found: FibResult | None) -> Reason:
        """Not ours, and no way on (ip_error): a router says so, a host does not tell strangers what it lacks."""
        self.net.mib.rt_cache.in_no_route += 1
        self.net.mib.rt_cache.in_slow_tot += 1
        if not dev.in_dev.forward():
            return Reason.IP_FORWARDING_OFF
        return Reason.IP_INNOROUTES if found is None else _FIB_REASONS[int(found.rt_type)]

    def _deliver_here(self, packet: Packet, dev: NetDevice, saddr: i64, daddr: i64, rt_type: i64) -> None:
        dst = Dst(rt_type, dev, daddr, 0, min(dev.mtu, IP_MAX_MTU), self.genid)
        dst.local = True
        dst.input = self.local_deliver
        self._decided(packet, dev, saddr, daddr, dst)

    def _decided(self, packet: Packet, dev: NetDevice, saddr: i64, daddr: i64, dst: Dst) -> None:
        self.net.mib.rt_cache.in_slow_tot += 1
        packet.dst = dst
        packet.redirected = dst.doredirect
        key = self._hash(saddr, daddr) ^ dev.ifindex
        self._keep(self._in, key, _Cached(saddr, daddr, dev.ifindex, dst))

    def _validate_source(self, dev: NetDevice, saddr: i64, daddr: i64) -> Reason | None:
        """Whether ``saddr`` may come in from ``dev`` (__fib_validate_source; RFC 1812 5.3.8, RFC 3704)."""
        found = self.fib.fib_lookup(Flow(saddr, daddr))
        rp_filter = dev.in_dev.rp_filter()
        if found is None or found.error:
            return Reason.IP_RPFILTER if rp_filter else None
        if found.rt_type == RTN_LOCAL:
            # attacks 21 and 47: our own address from outside; packets through lo keep their Dst and do not come here
            ours = dev.flags & IFF_LOOPBACK != 0 or dev.in_dev.accept_local()
            return None if ours else Reason.IP_LOCAL_SOURCE
        if found.rt_type != RTN_UNICAST:
            return Reason.IP_INVALID_SOURCE
        if rp_filter == 1 and found.dev is not dev:
            return Reason.IP_RPFILTER
        return None

    def _on_link(self, dev: NetDevice, addr: i64) -> bool:
        found = self.fib.fib_lookup(Flow(addr, oif=dev.ifindex))
        return found is not None and found.rt_type == RTN_UNICAST and found.gateway == 0 and found.dev is dev

    def _localnet_allowed(self, dev: NetDevice) -> bool:
        return dev.flags & IFF_LOOPBACK != 0 or dev.in_dev.route_localnet()

    def _martian_source(self, reason: Reason) -> Reason:
        self.net.mib.rt_cache.in_martian_src += 1
        return reason

    def _martian_dest(self, reason: Reason) -> Reason:
        self.net.mib.rt_cache.in_martian_dst += 1
        return reason

    # -- the caches

    def _hash(self, saddr: i64, daddr: i64) -> i64:
        return ((saddr * self._secret_s) >> 16) ^ ((daddr * self._secret_d) >> 17)

    def _keep(self, cache: dict[int, _Cached], key: i64, answer: _Cached) -> None:
        if len(cache) >= RT_CACHE_SIZE:
            self.net.mib.rt_cache.gc_dst_overflow += 1
            cache.clear()
        cache[key] = answer
