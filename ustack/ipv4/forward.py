"""ip_forward: a packet for somebody else (Linux net/ipv4/ip_forward.c; RFC 1812 section 5.3)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mypy_extensions import i64

from ustack.device.gso import tcp4_gro_complete
from ustack.drop import Reason
from ustack.dst import rt_nexthop
from ustack.ipv4.options import ip_forward_options
from ustack.ipv4.output import ip_dst_mtu_maybe_forward, reparse, skb_gso_validate_network_len
from ustack.netfilter.hooks import NF_INET_FORWARD, Hooks
from ustack.packet import CHECKSUM_UNNECESSARY, PACKET_HOST, Packet, PacketHandler
from ustack.routing.flow import rt_tos2priority
from ustack.timer import NSEC_PER_MSEC
from ustack.trace.points import Point
from ustack.wire import ipv4
from ustack.wire.icmp import ICMP_REDIR_HOST, ICMP_REDIRECT
from ustack.wire.ipv4 import addr_to_str

if TYPE_CHECKING:
    from ustack.dst import Dst
    from ustack.net import Net
    from ustack.routing.route import Routing
    from ustack.trace.journey import Facts
    from ustack.wire.ipv4 import Ipv4Header

#: Hosts whose redirects are counted; a full table is emptied, which at worst repeats some.
REDIRECT_PEERS: Final = 1024


class _Redirected:
    """How often a host was told of a better way (struct inet_peer)."""

    def __init__(self) -> None:
        self.n_redirects: i64 = 0
        self.rate_last: i64 = 0  # ns


class IpForward(PacketHandler):
    """The input of routes that lead on; what ``Routing.forward`` is to be set to."""

    def __init__(self, net: Net, routing: Routing, hooks: Hooks) -> None:
        self.net: Net = net
        self.routing: Routing = routing
        self.hooks: Hooks = hooks
        self._finish = _ForwardFinish(self)
        self._peers: dict[int, _Redirected] = {}

    def handle(self, packet: Packet) -> None:
        """Send a routed packet on, one hop older; each way out is a drop with its reason, or the FORWARD hook."""
        iph = packet.iph
        dst = packet.dst
        assert iph is not None and dst is not None
        if packet.journey is not None:
            packet.journey.step(Point.IP_FORWARD, "", {"ttl": iph.ttl})
        if packet.pkt_type != PACKET_HOST or packet.sk is not None:
            # RFC 1812 5.3.4: a link-layer broadcast "MUST NOT" be forwarded
            return self.net.drop(packet, Reason.OTHERHOST)
        # RFC 1812 5.3.1: "if the TTL is reduced to zero (or less), the packet MUST be discarded, and [...] the router
        # MUST send an ICMP Time Exceeded message". The TTL still counts this hop, hence <= 1.
        if iph.ttl <= 1:
            return self.net.drop(packet, Reason.TTL_EXPIRED)
        opt = packet.opt
        if opt is not None and opt.is_strictroute and dst.uses_gateway:
            return self.net.drop(packet, Reason.IP_SR_FAILED)
        self.net.mib.ip.ForwDatagrams += 1
        packet.forwarded = True
        mtu = ip_dst_mtu_maybe_forward(self.net, dst, True)
        if ip_exceeds_mtu(packet, iph, mtu):
            return self.net.drop(packet, Reason.PKT_TOO_BIG, mtu)
        self._grow_older(packet, iph)
        if packet.redirected and (opt is None or not opt.srr):
            self.ip_rt_send_redirect(packet, iph, dst)
        if self.net.sysctl.ip_forward_update_priority != 0:
            packet.priority = rt_tos2priority(iph.tos)
        if self.hooks.active(NF_INET_FORWARD):
            self.hooks.nf_hook(NF_INET_FORWARD, packet, packet.in_dev, dst.dev, self._finish)
        else:
            self.ip_forward_finish(packet)

    def _grow_older(self, packet: Packet, iph: Ipv4Header) -> None:
        """ip_decrease_ttl on a header of its own (skb_cow)."""
        start = packet.network_header
        header = ipv4.decrease_ttl(packet.buf[start : start + iph.header_len])
        packet.replace_network_header(header, iph.header_len)
        reparse(packet)
        if packet.journey is not None:
            packet.journey.step(Point.IP_DECREASE_TTL, "", {"ttl": iph.ttl - 1})
        if packet.gso_size != 0 and packet.ip_summed == CHECKSUM_UNNECESSARY:
            tcp4_gro_complete(packet, iph)

    def ip_forward_finish(self, packet: Packet) -> None:
        """Options, then the route's output."""
        opt = packet.opt
        iph = packet.iph
        if packet.journey is not None:
            packet.journey.step(Point.IP_FORWARD_FINISH)
        if opt is not None and iph is not None:
            ip_forward_options(packet, iph, opt, self.routing, self.net)
        dst = packet.dst
        assert dst is not None and dst.output is not None
        dst.output.handle(packet)

    def ip_rt_send_redirect(self, packet: Packet, iph: Ipv4Header, dst: Dst) -> None:
        """RFC 1812 5.2.7.2: tell the sender of the better first hop, ever more rarely, for it may not listen."""
        icmp = self.net.icmp
        sysctl = self.net.sysctl
        if icmp is None or not dst.dev.in_dev.tx_redirects():
            return
        now = self.net.now
        peer = self._peer(iph.saddr)
        if packet.journey is not None:
            gateway = addr_to_str(rt_nexthop(dst, iph.daddr))
            facts: Facts = {"sender": addr_to_str(iph.saddr), "gateway": gateway, "told": peer.n_redirects}
            packet.journey.step(Point.IP_RT_SEND_REDIRECT, "out where it came in", facts)
        if now > peer.rate_last + sysctl.route_redirect_silence_ms * NSEC_PER_MSEC:
            peer.n_redirects = 0
        if peer.n_redirects >= sysctl.route_redirect_number:
            peer.rate_last = now
            return
        wait = (sysctl.route_redirect_load_ms * NSEC_PER_MSEC) << peer.n_redirects
        if peer.n_redirects == 0 or now > peer.rate_last + wait:
            icmp.icmp_send(packet, ICMP_REDIRECT, ICMP_REDIR_HOST, rt_nexthop(dst, iph.daddr))
            peer.rate_last = now
            peer.n_redirects += 1

    def _peer(self, addr: i64) -> _Redirected:
        peer = self._peers.get(int(addr))
        if peer is None:
            if len(self._peers) >= REDIRECT_PEERS:
                self.net.mib.icmp.RedirectPeersEvicted += len(self._peers)
                self._peers.clear()
            peer = _Redirected()
            self._peers[int(addr)] = peer
        return peer


class _ForwardFinish(PacketHandler):
    """Where FORWARD goes on."""

    def __init__(self, forward: IpForward) -> None:
        self.forward: IpForward = forward

    def handle(self, packet: Packet) -> None:
        self.forward.ip_forward_finish(packet)


def ip_exceeds_mtu(packet: Packet, iph: Ipv4Header, mtu: i64) -> bool:
    """Whether it may neither pass nor be cut up: too large, DF set, and not a super-segment whose segments fit."""
    if iph.total_len <= mtu or not iph.dont_fragment:
        return False
    return packet.gso_size == 0 or not skb_gso_validate_network_len(packet, mtu)
