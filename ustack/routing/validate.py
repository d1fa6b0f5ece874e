"""May a packet with this source come in here? (Linux fib_validate_source, ip_mc_validate_source; RFC 3704.)"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mypy_extensions import i64

from ustack.drop import Reason
from ustack.dst import RTN_LOCAL, RTN_UNICAST
from ustack.routing.devinet import INADDR_BROADCAST, ipv4_is_local_multicast, ipv4_is_loopback, ipv4_is_multicast
from ustack.routing.facts import source_verdict
from ustack.routing.fib_types import FibResult
from ustack.routing.flow import RT_SCOPE_HOST, Flow
from ustack.routing.multipath import FlowKeys, fib4_rules_early_flow_dissect
from ustack.routing.uapi import FIB_LOOKUP_IGNORE_LINKSTATE
from ustack.trace.points import Point
from ustack.wire.ethernet import ETH_P_IP
from ustack.wire.ipv4 import IPPROTO_IGMP, addr_to_str

if TYPE_CHECKING:
    from ustack.device.net_device import NetDevice
    from ustack.packet import Packet
    from ustack.routing.devinet import InetDevices
    from ustack.routing.fib_frontend import Fib
    from ustack.routing.fib_types import FibInfo
    from ustack.trace.journey import Facts

#: By number, for verdicts: to make a member of an enum from its value costs more than a lookup.
REASONS: Final = tuple(Reason)
_UNDECIDED: Final = 2


class SourceValidation:
    """What one stack lets in."""

    def __init__(self, fib: Fib, inet: InetDevices) -> None:
        self.fib: Fib = fib
        self.inet: InetDevices = inet
        self._flow = Flow(0)
        self._res = FibResult()
        self._keys = FlowKeys()

    def fib_validate_source(self, packet: Packet, src: i64, dst: i64, tos: i64, oif: i64, dev: NetDevice) -> i64:
        """1 if ``src`` may come in and is on the link, 0 if it may, or minus the Reason why it may not.

        ``oif``: where the packet will leave, 0 if it stays. While nobody has asked for more (rp_filter, redirects,
        rules or local routes of their own) all that matters is that the address is none of ours.
        """
        in_dev = dev.in_dev
        rpf = in_dev.rp_filter()
        verdict: i64 = _UNDECIDED
        if rpf == 0 and (dev.ifindex != oif or not in_dev.tx_redirects()):
            fib = self.fib
            if in_dev.accept_local():
                verdict = 0
            elif not fib.has_custom_local_routes and not fib.rules.has_custom:
                verdict = 0 if self.inet.inet_lookup_ifaddr(src) is None else -int(Reason.IP_LOCAL_SOURCE)
        if verdict == _UNDECIDED:
            verdict = self._full_check(packet, src, dst, tos, oif, dev, rpf)
        if packet.journey is not None:
            facts: Facts = {"source": addr_to_str(src), "rp_filter": rpf}
            packet.journey.step(Point.FIB_VALIDATE_SOURCE, source_verdict(verdict), facts, dev.name)
        return verdict

    def _full_check(self, packet: Packet, src: i64, dst: i64, tos: i64, oif: i64, dev: NetDevice, rpf: i64) -> i64:
        """__fib_validate_source: look the way back up."""
        in_dev = dev.in_dev
        flow, res = self._flow, self._res
        flow.oif = 0
        lo = self.inet.loopback_dev
        flow.iif = oif if oif != 0 or lo is None else lo.ifindex
        flow.daddr = src
        flow.saddr = dst
        flow.tos = tos
        flow.mark = packet.mark if in_dev.src_vmark() else 0
        self._dissect(packet, flow)
        if self.fib.fib_lookup(flow, res) != 0:
            return -int(Reason.IP_RPFILTER) if rpf != 0 else 0
        if res.rt_type != RTN_UNICAST:
            if res.rt_type != RTN_LOCAL:
                return -int(Reason.IP_INVALID_SOURCE)
            if not in_dev.accept_local():
                # attacks 21 and 47: our own address from outside
                return -int(Reason.IP_LOCAL_SOURCE)
        nhc = res.nhc
        if fib_info_nh_uses_dev(res.fi, dev) or (res.rt_type == RTN_LOCAL and dev is lo):
            return 1 if nhc is not None and nhc.scope >= RT_SCOPE_HOST else 0
        if not dev.addresses:
            return -int(Reason.IP_RPFILTER) if rpf != 0 else 0
        if rpf == 1:
            return -int(Reason.IP_RPFILTER)
        return self._by_this_device(flow, dev)

    def _by_this_device(self, flow: Flow, dev: NetDevice) -> i64:
        """The best way back is another device's; is there one by this, too?"""
        flow.oif = dev.ifindex
        res = self._res
        if self.fib.fib_lookup(flow, res, FIB_LOOKUP_IGNORE_LINKSTATE) == 0 and res.rt_type == RTN_UNICAST:
            nhc = res.nhc
            return 1 if nhc is not None and nhc.scope >= RT_SCOPE_HOST else 0
        return 0

    def _dissect(self, packet: Packet, flow: Flow) -> None:
        """For rules that ask for protocol and ports: those of the answer."""
        if not self.fib.rules.has_custom:
            return
        keys = self._keys
        fib4_rules_early_flow_dissect(packet, keys)
        flow.proto, flow.sport, flow.dport = keys.proto, keys.dport, keys.sport

    def ip_mc_validate_source(
        self, packet: Packet, daddr: i64, saddr: i64, protocol: i64, tos: i64, dev: NetDevice
    ) -> Reason | None:
        """The same for what is sent to a group; None if it may come in.

        A host that has no address yet may speak to its link (RFC 1122 3.2.1.3 (a)) and report its groups
        (RFC 3376 4.2.13), but to no farther group.
        """
        if ipv4_is_multicast(saddr) or saddr == INADDR_BROADCAST:
            return Reason.IP_INVALID_SOURCE
        if packet.protocol != ETH_P_IP:
            return Reason.INVALID_PROTO
        if ipv4_is_loopback(saddr) and not dev.in_dev.route_localnet():
            return Reason.IP_LOCALNET
        if saddr == 0:
            if not ipv4_is_local_multicast(daddr) and protocol != IPPROTO_IGMP:
                return Reason.IP_INVALID_SOURCE
            return None
        verdict = self.fib_validate_source(packet, saddr, 0, tos, 0, dev)
        return REASONS[-verdict] if verdict < 0 else None


def fib_info_nh_uses_dev(fi: FibInfo | None, dev: NetDevice) -> bool:
    """Whether one of its hops leaves by ``dev``."""
    if fi is not None:
        for nhc in fi.nhs():
            if nhc.dev is dev:
                return True
    return False
