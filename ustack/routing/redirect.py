"""Believing an ICMP redirect: who may tell a host of a better gateway (Linux __ip_do_redirect; RFC 1122 3.2.2.2).

Only the gateway in use, only on its own link, only of a gateway that answers ARP; and what it says counts for the one
destination alone, and for a while.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mypy_extensions import i64, mypyc_attr

from ustack.dst import DST_OBSOLETE_KILL, RTN_UNICAST
from ustack.routing.devinet import INADDR_BROADCAST, ipv4_is_multicast
from ustack.routing.fib_types import FibResult
from ustack.routing.uapi import RTNH_F_DEAD
from ustack.timer import NSEC_PER_SEC
from ustack.trace.points import Point
from ustack.wire.icmp import ICMP_REDIR_HOSTTOS
from ustack.wire.ipv4 import addr_to_str

if TYPE_CHECKING:
    from ustack.device.net_device import NetDevice
    from ustack.dst import Dst
    from ustack.net import Net
    from ustack.packet import Packet
    from ustack.routing.devinet import InetDevices
    from ustack.routing.exceptions import Exceptions
    from ustack.routing.fib_frontend import Fib
    from ustack.routing.flow import Flow
    from ustack.routing.multipath import MultipathHash
    from ustack.trace.journey import Facts


@mypyc_attr(allow_interpreted_subclasses=True)
class GatewayProbe:
    """Whether somebody lives at an address of a link; the neighbour table lies beside this room, not below it."""

    def resolved(self, addr: i64, dev: NetDevice) -> bool:
        """True if its link-layer address is known; else it is asked for, and a later redirect may be believed."""
        return True


class Redirects:
    """Redirects that come in, of one stack."""

    def __init__(self, net: Net, fib: Fib, inet: InetDevices, exceptions: Exceptions, multipath: MultipathHash) -> None:
        self.net: Net = net
        self.fib: Fib = fib
        self.inet: InetDevices = inet
        self.exceptions: Exceptions = exceptions
        self.multipath: MultipathHash = multipath
        self.probe: GatewayProbe = GatewayProbe()
        self._res = FibResult()

    def ip_do_redirect(
        self, dst: Dst, flow: Flow, packet: Packet, code: i64, old_gw: i64, new_gw: i64, kill_route: bool
    ) -> None:
        """``packet``'s sender, ``old_gw``, says that ``new_gw`` is a better first hop to ``flow.daddr`` than itself.

        ``dst`` is how we go there now; with ``kill_route`` who keeps it must look again.
        """
        refused = self._refused(dst, packet, code, old_gw, new_gw)
        if self.net.tracer is not None:
            facts: Facts = {"path": addr_to_str(flow.daddr), "gateway": addr_to_str(new_gw)}
            self.net.tracer.here(Point.IP_DO_REDIRECT, refused or "believed", facts)
        if refused:
            return
        res = self._res
        if self.fib.fib_lookup(flow, res) == 0:
            fi = res.fi
            several = fi is not None and len(fi.nhs()) > 1
            mp_hash = self.multipath.fib_multipath_hash(flow, None) if several else 0
            self.fib.semantics.fib_select_path(flow, res, mp_hash)
            if res.nhc is not None:
                expires = self.net.now + self.net.sysctl.route_gc_timeout * NSEC_PER_SEC
                self.exceptions.update_or_create_fnhe(res.nhc, flow.daddr, new_gw, 0, False, expires)
        if kill_route:
            dst.genid = DST_OBSOLETE_KILL

    def _refused(self, dst: Dst, packet: Packet, code: i64, old_gw: i64, new_gw: i64) -> str:
        """Why it is not believed, "" if it is."""
        if code > ICMP_REDIR_HOSTTOS:
            return "no such code"
        if dst.gateway == 0 or dst.gateway != old_gw:
            return "not from the gateway in use"
        dev = packet.in_dev
        if dev is None or not self._acceptable(dev, old_gw, new_gw):
            return "no such gateway is accepted"
        return "" if self.probe.resolved(new_gw, dst.dev) else "that gateway is not known yet"

    def _acceptable(self, dev: NetDevice, old_gw: i64, new_gw: i64) -> bool:
        """RFC 1122 3.2.2.2: "A Redirect message SHOULD be silently discarded if the new gateway address it specifies is
        not on the same connected (sub-) net through which the Redirect arrived"; on shared media that is not asked."""
        in_dev = dev.in_dev
        if new_gw == old_gw or not in_dev.rx_redirects():
            return False
        if ipv4_is_multicast(new_gw) or new_gw == INADDR_BROADCAST or new_gw == 0:
            return False
        if in_dev.shared_media():
            return self.inet.inet_addr_type(new_gw) == RTN_UNICAST
        if not self.inet.inet_addr_onlink(dev, new_gw, old_gw):
            return False
        return not in_dev.sec_redirects() or self.ip_fib_check_default(new_gw, dev)

    def ip_fib_check_default(self, gateway: i64, dev: NetDevice) -> bool:
        """secure_redirects: only to a gateway that some route of ours names itself; next-hop objects do not count."""
        for fi in self.fib.semantics.infos_of(dev):
            for nhc in fi.nhs():
                if nhc.dev is dev and nhc.gateway == gateway and nhc.flags & RTNH_F_DEAD == 0:
                    return True
        return False
