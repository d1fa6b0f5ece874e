"""The way out of IPv4 (Linux net/ipv4/ip_output.c).

    ip_queue_xmit ─────────┐
    ip_build_and_send_pkt ─┼─ ip_local_out ─ [LOCAL_OUT] ─ dst.output: ip_output ─ [POST_ROUTING] ─ ip_finish_output
    ip_send_datagram ──────┘                                   ip_mc_output ┘     (fragment, GSO) ─ ip_finish_output2
                                                                                                    ─ neighbour

Packets come as a transport header with its payload (``transport_header`` 0) and get their IP header here.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

from librt.strings import BytesWriter
from mypy_extensions import i64

from ustack.device.gso import skb_gso_segment
from ustack.device.net_device import IFF_UP
from ustack.drop import Reason
from ustack.dst import RTN_BROADCAST, RTN_MULTICAST, Dst, ip4_dst_hoplimit
from ustack.ipv4.facts import IdentGiven, WayGiven, fit_facts, header_facts
from ustack.ipv4.fragment import ip_do_fragment
from ustack.ipv4.ident import IpIdents
from ustack.ipv4.options import IpOptions, ip_options_build
from ustack.netfilter.hooks import NF_INET_LOCAL_OUT, NF_INET_POST_ROUTING, Hooks
from ustack.packet import CHECKSUM_PARTIAL, NET_XMIT_DROP, Packet, PacketHandler
from ustack.routing.flow import RT_SCOPE_LINK, RT_SCOPE_UNIVERSE, Flow
from ustack.sock import IP_PMTUDISC_DO, IP_PMTUDISC_PROBE, IP_PMTUDISC_WANT, Sock, error
from ustack.trace.journey import DROPPED
from ustack.trace.points import Point
from ustack.wire import ipv4
from ustack.wire.ethernet import ETH_P_IP
from ustack.wire.ipv4 import IP_DF, IP_HLEN, IP_MAX_LEN, IPPROTO_TCP, Ipv4Header, addr_to_str
from ustack.wire.octets import u32

if TYPE_CHECKING:
    from ustack.neighbour.table import NeighbourTable
    from ustack.net import Net
    from ustack.routing.route import Routing

_DADDR: Final = 16  # where a header names the destination


class Ipv4Output(PacketHandler):
    """Output of one stack; as a handler it is ip_output, what ``Routing.output`` is to be set to."""

    def __init__(self, net: Net, routing: Routing, hooks: Hooks, neighbours: NeighbourTable) -> None:
        self.net: Net = net
        self.routing: Routing = routing
        self.hooks: Hooks = hooks
        self.neighbours: NeighbourTable = neighbours
        self.idents = IpIdents(net)
        self.mc_output = McOutput(self)  #: what ``Routing.mc_output`` is to be set to
        self._dst_output = _DstOutput()
        self._finish = _FinishOutput(self)

    # -- from the transports

    def ip_queue_xmit(self, sk: Sock, packet: Packet) -> i64:
        """Send a segment of connected ``sk`` with its route, options, TOS and TTL; 0, an errno or NET_XMIT_DROP.

        ``packet``: see the module; checksum offsets count from its own beginning. EHOSTUNREACH without a route, EPERM
        or what a hook says if LOCAL_OUT refuses. Whatever the answer, the packet is gone.
        """
        dst = sk.dst_cache
        if dst is None or dst.genid != self.routing.fib.genid:
            dst = self.sk_route(sk)
            if dst is None:
                self.net.drop(packet, Reason.IP_OUTNOROUTES)
                return errno.EHOSTUNREACH
        elif self.net.tracer is not None:
            self.net.tracer.note(Point.IP_QUEUE_XMIT_DST, "the socket's route holds", WayGiven(dst))
        frag_off: i64 = IP_DF if ip_dont_fragment(sk.pmtudisc, dst) else 0
        segs: i64 = 1
        if packet.gso_size != 0:
            segs = (packet.end + packet.frags_len) // packet.gso_size + 1
        ident = sk.inet_id
        sk.inet_id = (ident + segs) & 0xFFFF
        opt = sk.inet_opt
        options = b"" if opt is None else ip_options_build(opt, sk.daddr, sk.saddr, self.net.now)
        if self.net.tracer is not None:
            self.net.tracer.note(Point.IP_QUEUE_XMIT, "", IdentGiven(ident, frag_off != 0))
        packet.sk = sk
        packet.dst = dst
        packet.mark = sk.mark
        packet.priority = sk.priority
        ttl, daddr = ip_select_ttl(sk, dst), first_hop(opt, sk.daddr)
        push_header(packet, sk.tos, ident, frag_off, ttl, sk.protocol, sk.saddr, daddr, options)
        code = self.ip_local_out(packet)
        return NET_XMIT_DROP if packet.congested else code

    def sk_route(self, sk: Sock) -> Dst | None:
        """A new route for ``sk.dst_cache`` (__sk_dst_check, ip_route_output_ports); None if there is none.

        A strict source route needs its first hop on the link.
        """
        sk.dst_cache = None
        try:
            dst = self.routing.ip_route_output(sk_flow(sk))
        except OSError:
            return None
        opt = sk.inet_opt
        if opt is not None and opt.is_strictroute and dst.uses_gateway:
            return None
        sk.dst_cache = dst
        return dst

    def ip_build_and_send_pkt(
        self,
        packet: Packet,
        dst: Dst,
        saddr: i64,
        daddr: i64,
        protocol: i64,
        tos: i64,
        ttl: i64,
        df: bool,
        sk: Sock | None = None,
        opt: IpOptions | None = None,
    ) -> None:
        """Send what belongs to no socket, or to one that is not connected yet: a SYN-ACK, a RST, ICMP.

        Without ``df`` it is fragmented if need be. ``opt``: options of the answer (ip_options_echo, ip_options_get).
        """
        frag_off: i64 = IP_DF if df else 0
        if frag_off != 0:
            ident: i64 = 0
        elif protocol == IPPROTO_TCP:
            ident = self.net.entropy.u32() & 0xFFFF
        else:
            ident = self.idents.ip_idents_reserve(saddr, daddr, protocol, 1)
        options = b"" if opt is None else ip_options_build(opt, daddr, saddr, self.net.now)
        if self.net.tracer is not None:
            self.net.tracer.note(Point.IP_BUILD_AND_SEND_PKT, "", IdentGiven(ident, frag_off != 0))
        packet.sk = sk
        packet.dst = dst
        push_header(packet, tos, ident, frag_off, ttl, protocol, saddr, daddr, options)
        self.ip_local_out(packet)

    def ip_send_datagram(
        self,
        sk: Sock,
        dst: Dst,
        saddr: i64,
        daddr: i64,
        protocol: i64,
        l4: bytes,
        tos: i64,
        ttl: i64,
        csum_offset: i64 = -1,
    ) -> i64:
        """Send one datagram whose transport header and payload are ``l4`` (ip_make_skb, ip_send_skb); 0 or an errno.

        ``ttl``: below 1 for the socket's own (multicast or unicast). ``csum_offset``: where in ``l4`` the pseudo-header
        sum stands that the device is to complete; -1 if the checksum is final. A datagram larger than the path's MTU is
        fragmented; raises EMSGSIZE if the socket forbids that (IP_MTU_DISCOVER) or no header could say its length.
        """
        opt = sk.inet_opt
        options = b"" if opt is None else ip_options_build(opt, daddr, saddr, self.net.now)
        df = datagram_df(sk, dst, IP_HLEN + len(options) + len(l4))
        if ttl < 1:
            ttl = sk.mc_ttl if dst.rt_type == RTN_MULTICAST else ip_select_ttl(sk, dst)
        packet = Packet(l4)
        if csum_offset >= 0:
            packet.ip_summed = CHECKSUM_PARTIAL
            packet.csum_offset = csum_offset
        packet.sk = sk
        packet.dst = dst
        packet.mark = sk.mark
        packet.priority = sk.priority
        ident = self.idents.ip_select_ident_segs(sk, df, saddr, daddr, protocol, 1)
        if self.net.tracer is not None:
            self.net.tracer.note(Point.IP_SEND_SKB, "", IdentGiven(ident, df))
        push_header(packet, tos, ident, IP_DF if df else 0, ttl, protocol, saddr, first_hop(opt, daddr), options)
        return self.ip_local_out(packet)

    # -- on the way

    def ip_local_out(self, packet: Packet) -> i64:
        """A finished packet of our own, ``network_header`` 0 and ``dst`` set, starts out; 0 or an errno."""
        self.net.mib.ip.OutRequests += 1
        dst = packet.dst
        assert dst is not None
        if self.net.tracer is not None:
            self.net.tracer.built(packet)
            if packet.journey is not None:
                packet.journey.step(Point.IP_LOCAL_OUT, "", header_facts(packet))
        if self.hooks.active(NF_INET_LOCAL_OUT):
            reparse(packet)
            return self.hooks.nf_hook(NF_INET_LOCAL_OUT, packet, None, dst.dev, self._dst_output)
        output = dst.output
        assert output is not None
        output.handle(packet)
        return 0

    def handle(self, packet: Packet) -> None:
        """ip_output."""
        dst = packet.dst
        assert dst is not None
        packet.dev = dst.dev
        if packet.journey is not None:
            packet.journey.step(Point.IP_OUTPUT, "", None, dst.dev.name)
        if self.hooks.active(NF_INET_POST_ROUTING):
            reparse(packet)
            self.hooks.nf_hook(NF_INET_POST_ROUTING, packet, packet.in_dev, dst.dev, self._finish)
        else:
            self.ip_finish_output(packet)

    def ip_finish_output(self, packet: Packet) -> None:
        """Make it fit the path's MTU. A super-segment is measured by the segments it stands for."""
        dst = packet.dst
        assert dst is not None
        sk = packet.sk
        if sk is not None:
            mtu = sk_mtu(sk.pmtudisc, dst)
        else:
            mtu = ip_dst_mtu_maybe_forward(self.net, dst, packet.forwarded)
        if packet.gso_size != 0:
            fits = skb_gso_validate_network_len(packet, mtu)
        else:
            fits = packet.end - packet.network_header + packet.frags_len <= mtu
        if packet.journey is not None:
            packet.journey.step(Point.IP_FINISH_OUTPUT, "fits" if fits else "too large", fit_facts(packet, mtu))
        if fits:
            self.ip_finish_output2(packet, dst)
        else:
            self.ip_fragment(packet, dst, mtu)

    def ip_fragment(self, packet: Packet, dst: Dst, mtu: i64) -> None:
        """Too large: cut it up, or say so if its sender forbids that (RFC 1191: fragmentation needed and DF set)."""
        iph = reparse(packet)
        mib = self.net.mib.ip
        if iph is None or iph.dont_fragment:
            return self.net.drop(packet, Reason.PKT_TOO_BIG, mtu)
        if packet.gso_size != 0:
            return self._segment(packet, dst, mtu)
        fragments = ip_do_fragment(packet, iph, mtu)
        if not fragments:
            return self.net.drop(packet, Reason.PKT_TOO_BIG, mtu)
        for fragment in fragments:
            mib.FragCreates += 1
            self.ip_finish_output2(fragment, dst)
        mib.FragOKs += 1
        self.net.forward(packet)  # as its fragments

    def _segment(self, packet: Packet, dst: Dst, mtu: i64) -> None:
        """A super-segment whose segments do not fit either (ip_finish_output_gso): cut it, then cut those."""
        segments = skb_gso_segment(packet)
        if not segments:
            return self.net.drop(packet, Reason.GSO_SEG)
        for segment in segments:
            segment.dst = dst
            if segment.end <= mtu:
                self.ip_finish_output2(segment, dst)
            else:
                self.ip_fragment(segment, dst, mtu)
        self.net.forward(packet)  # as its segments

    def ip_finish_output2(self, packet: Packet, dst: Dst) -> None:
        """To the neighbour: the gateway, or the destination itself, which the header names."""
        mib = self.net.mib.ip
        mib.OutTransmits += 1
        if dst.rt_type == RTN_MULTICAST:
            mib.OutMcastPkts += 1
        elif dst.rt_type == RTN_BROADCAST:
            mib.OutBcastPkts += 1
        nexthop = dst.gateway
        if nexthop == 0:
            nexthop = header_daddr(packet)
        if packet.journey is not None:
            whom = "to the gateway" if dst.uses_gateway else "to the destination itself"
            packet.journey.step(Point.IP_FINISH_OUTPUT2, whom, {"nexthop": addr_to_str(nexthop)})
        neigh = dst.neigh
        # one without an address serves them all: its device asks nobody
        if neigh is None or neigh.dead or (neigh.addr != nexthop and neigh.addr != 0):
            neigh = self.neighbours.ip_neigh_gw4(dst.dev, nexthop)
            dst.neigh = neigh
            if neigh is None:
                # the table knows why, and says so as it drops
                return self.neighbours.output(nexthop, dst.dev, packet)
        neigh.output(packet)


class McOutput(PacketHandler):
    """ip_mc_output: to many, and ourselves among them."""

    def __init__(self, output: Ipv4Output) -> None:
        self.output: Ipv4Output = output

    def handle(self, packet: Packet) -> None:
        dst = packet.dst
        assert dst is not None
        sk = packet.sk
        looped = dst.rt_type != RTN_MULTICAST or sk is None or sk.mc_loop
        # RFC 1112 6.1: a datagram with TTL 0 stays on this host
        iph = reparse(packet) if dst.rt_type == RTN_MULTICAST else None
        stays = iph is not None and iph.ttl == 0
        if packet.journey is not None:
            way = "stays here: its TTL is 0" if stays else "to the link"
            copy = ", and a copy for us" if looped else ""
            packet.journey.step(Point.IP_MC_OUTPUT, way + copy, None, dst.dev.name)
        if looped:
            self._loop_back(packet)
        if not stays:
            self.output.handle(packet)
        elif packet.journey is not None:
            packet.journey.finish(DROPPED, "TTL_ZERO")

    def _loop_back(self, packet: Packet) -> None:
        """A copy for our own sockets, through the loopback device's queue (ip_dev_loopback_xmit)."""
        lo = self.output.routing.inet.loopback()
        if lo is None or lo.flags & IFF_UP == 0:
            return
        copy = packet.clone()
        if packet.journey is not None:
            copy.journey = packet.journey.fork()
        self.output.neighbours.output(header_daddr(packet), lo, copy)


class _DstOutput(PacketHandler):
    """dst_output: where LOCAL_OUT goes on, with the route the packet has then."""

    def handle(self, packet: Packet) -> None:
        dst = packet.dst
        if dst is not None and dst.output is not None:
            dst.output.handle(packet)


class _FinishOutput(PacketHandler):
    """Where POST_ROUTING goes on."""

    def __init__(self, output: Ipv4Output) -> None:
        self.output: Ipv4Output = output

    def handle(self, packet: Packet) -> None:
        self.output.ip_finish_output(packet)


def push_header(
    packet: Packet,
    tos: i64,
    ident: i64,
    frag_off: i64,
    ttl: i64,
    protocol: i64,
    saddr: i64,
    daddr: i64,
    options: bytes = b"",
) -> None:
    """Put an IP header before a transport header: one new ``buf``, every offset moved."""
    header_len: i64 = IP_HLEN + len(options)
    out = BytesWriter()
    total_len = header_len + packet.end + packet.frags_len
    ipv4.emit(out, tos, total_len, ident, frag_off, ttl, protocol, saddr, daddr, options)
    out.write(packet.buf)
    packet.buf = out.getvalue()
    packet.end += header_len
    packet.csum_start += header_len
    packet.transport_header = header_len
    packet.network_header = 0
    packet.data = 0
    packet.protocol = ETH_P_IP


def reparse(packet: Packet) -> Ipv4Header | None:
    """``packet.iph`` as the header stands now: for hooks, and for what they may have changed."""
    packet.iph = ipv4.parse(packet.buf, packet.network_header, packet.end)
    return packet.iph


def header_daddr(packet: Packet) -> i64:
    """Where the header of ``packet`` says that it goes."""
    return u32(packet.buf, packet.network_header + _DADDR)


def first_hop(opt: IpOptions | None, daddr: i64) -> i64:
    """Where a packet to ``daddr`` goes first: a source route says so."""
    return opt.faddr if opt is not None and opt.srr else daddr


def sk_flow(sk: Sock) -> Flow:
    """The way of a connection's packets (build_sk_flow_key)."""
    return Flow(
        first_hop(sk.inet_opt, sk.daddr),
        sk.saddr,
        sk.bound_dev_if,
        sk.tos,
        sk.protocol,
        sk.num,
        sk.dport,
        sk.mark,
        scope=RT_SCOPE_LINK if sk.dontroute else RT_SCOPE_UNIVERSE,
        anysrc=sk.transparent,
        uid=sk.uid,
    )


def ip_select_ttl(sk: Sock, dst: Dst) -> i64:
    """The TTL of what a socket sends to one host: its own, else the route's or the system's."""
    return sk.uc_ttl if sk.uc_ttl > 0 else ip4_dst_hoplimit(dst, sk.net.sysctl.ip_default_ttl)


def datagram_df(sk: Sock, dst: Dst, length: i64) -> bool:
    """Whether a datagram of ``length`` bytes, header and all, has DF; EMSGSIZE if it cannot be sent so."""
    whole = sk.pmtudisc == IP_PMTUDISC_DO or sk.pmtudisc == IP_PMTUDISC_PROBE
    if length > IP_MAX_LEN or (whole and length > sk_mtu(sk.pmtudisc, dst)):
        raise error(errno.EMSGSIZE)
    return whole or (length <= dst.mtu and ip_dont_fragment(sk.pmtudisc, dst))


def ip_dont_fragment(pmtudisc: i64, dst: Dst) -> bool:
    """Whether a socket with this IP_MTU_DISCOVER sets DF towards ``dst``."""
    return pmtudisc == IP_PMTUDISC_DO or (pmtudisc == IP_PMTUDISC_WANT and not dst.mtu_locked)


def sk_mtu(pmtudisc: i64, dst: Dst) -> i64:
    """The MTU a socket goes by (ip_skb_dst_mtu): who probes does not believe what paths say."""
    return min(dst.dev.mtu, IP_MAX_LEN) if pmtudisc >= IP_PMTUDISC_PROBE else dst.mtu


def ip_dst_mtu_maybe_forward(net: Net, dst: Dst, forwarding: bool) -> i64:
    """The MTU for what no socket sends.

    A forged ICMP error must not shrink what a router forwards, unless it is told to believe them.
    """
    return dst.mtu_forward if forwarding and net.sysctl.ip_forward_use_pmtu == 0 else dst.mtu


def skb_gso_validate_network_len(packet: Packet, mtu: i64) -> bool:
    """Whether each segment of a super-segment fits ``mtu``; a packet whose headers lie does not."""
    at = packet.transport_header
    if at + 13 > packet.end:
        return False
    header_len: i64 = (packet.buf[at + 12] >> 4) * 4
    return at - packet.network_header + header_len + packet.gso_size <= mtu
