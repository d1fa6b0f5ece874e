"""The way in of IPv4 (Linux net/ipv4/ip_input.c; RFC 1122 section 3.2.1, RFC 1812 section 5.2.2).

ip_rcv ─ ip_rcv_core ─ [PRE_ROUTING] ─ ip_rcv_finish ─ dst.input: ip_local_deliver ─ [LOCAL_IN] ─ protocols
                                      (route, options)            ip_forward
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mypy_extensions import i64

from ustack.drop import Reason
from ustack.dst import RTN_BROADCAST, RTN_LOCAL, RTN_MULTICAST, Dst
from ustack.ipv4.facts import ip_facts, options_facts
from ustack.ipv4.options import NO_PROBLEM, ip_options_compile, ip_options_rcv_srr
from ustack.netfilter.hooks import NF_INET_LOCAL_IN, NF_INET_PRE_ROUTING, Hooks
from ustack.packet import PACKET_BROADCAST, PACKET_HOST, PACKET_MULTICAST, PACKET_OTHERHOST, Packet, PacketHandler
from ustack.trace.points import Point
from ustack.wire import ipv4
from ustack.wire.icmp import ICMP_PARAMETERPROB
from ustack.wire.ipv4 import IP_HLEN, IP_MF, IP_OFFSET, Ipv4Header

if TYPE_CHECKING:
    from ustack.ipv4.defrag import Defrag
    from ustack.ipv4.protocol import Protocols
    from ustack.net import Net
    from ustack.routing.route import Routing


class Ipv4Input(PacketHandler):
    """ip_rcv: the packet type's handler, to be registered for ETH_P_IP."""

    def __init__(self, net: Net, routing: Routing, hooks: Hooks, protocols: Protocols) -> None:
        """``protocols``: asked early whose a packet is (ip_early_demux)."""
        self.net: Net = net
        self.routing: Routing = routing
        self.hooks: Hooks = hooks
        self.protocols: Protocols = protocols
        self._finish = _RcvFinish(self)

    def handle(self, packet: Packet) -> None:
        """A frame with an IPv4 packet from ``packet.data`` on."""
        if packet.journey is not None:
            packet.journey.step(Point.IP_RCV)
        if not self.ip_rcv_core(packet):
            return
        if self.hooks.active(NF_INET_PRE_ROUTING):
            self.hooks.nf_hook(NF_INET_PRE_ROUTING, packet, packet.dev, None, self._finish)
        else:
            self.ip_rcv_finish(packet)

    def ip_rcv_core(self, packet: Packet) -> bool:
        """RFC 1122 3.2.1: version, header length, checksum, total length. True: ``packet.iph`` is set; else dropped."""
        if packet.pkt_type == PACKET_OTHERHOST:
            # a promiscuous device shows it to captures; it is none of ours to judge
            self.net.drop(packet, Reason.OTHERHOST)
            return False
        self.net.mib.ip.InReceives += 1
        start = packet.data
        iph = ipv4.parse(packet.buf, start, packet.end)
        if iph is None:
            self.net.drop(packet, Reason.IP_INHDR)
            return False
        # RFC 1122 3.2.1.2: "A host MUST verify the IP header checksum on every received datagram and silently discard
        # every datagram that has a bad checksum."
        if not ipv4.checksum_ok(packet.buf, iph):
            self.net.drop(packet, Reason.IP_CSUM)
            return False
        total_len = iph.total_len
        length = packet.end - start + packet.frags_len
        if total_len != length and not self._trim(packet, iph, length):
            return False
        packet.iph = iph
        packet.network_header = start
        packet.transport_header = start + iph.header_len
        if packet.journey is not None:
            packet.journey.step(Point.IP_RCV_CORE, "accepted", ip_facts(iph))
        return True

    def _trim(self, packet: Packet, iph: Ipv4Header, length: i64) -> bool:
        """The header's word on the length counts: less is padding (Ethernet's 46 bytes, Etherleak), more is a lie."""
        if length < iph.total_len:
            self.net.drop(packet, Reason.PKT_TOO_SMALL)
            return False
        if iph.total_len < iph.header_len:
            self.net.drop(packet, Reason.IP_INHDR)
            return False
        packet.linearize()
        packet.trim(iph.total_len)
        return True

    def ip_rcv_finish(self, packet: Packet) -> None:
        """Find out where it goes, unless it came through lo and knows; then the options; then on."""
        iph = packet.iph
        if iph is None:
            return self.net.drop(packet, Reason.IP_INHDR)
        dst = packet.dst
        if dst is None or dst.input is None:
            if dst is None and packet.sk is None and iph.frag_off & (IP_MF | IP_OFFSET) == 0:
                self._early_demux(packet, iph)
            if packet.dst is None or packet.dst.input is None:
                reason = self.routing.ip_route_input(packet)
                if reason is not None:
                    return self._no_way(packet, iph, reason)
        if iph.header_len > IP_HLEN and not self.ip_rcv_options(packet, iph):
            return
        dst = packet.dst
        if dst is None or dst.input is None:
            return self.net.drop(packet, Reason.NOT_SPECIFIED)
        if (dst.rt_type != RTN_LOCAL or packet.pkt_type != 0) and not self._to_many(packet, dst):
            return
        if packet.journey is not None:
            found = "early demux has found its socket" if packet.sk is not None else ""
            packet.journey.step(Point.IP_RCV_FINISH, found)
        dst.input.handle(packet)

    def _early_demux(self, packet: Packet, iph: Ipv4Header) -> None:
        """A connection's packet needs no look at the tables: its socket knows where the last one went."""
        if self.net.sysctl.ip_early_demux != 0 and packet.pkt_type == PACKET_HOST:
            ipprot = self.protocols.inet_protos[iph.protocol]
            if ipprot is not None:
                ipprot.early_demux(packet, iph)

    def _to_many(self, packet: Packet, dst: Dst) -> bool:
        """Count what is for many; False if it pretends to be for one and was sent to all (dropped)."""
        mib = self.net.mib.ip
        if dst.rt_type == RTN_MULTICAST:
            mib.InMcastPkts += 1
        elif dst.rt_type == RTN_BROADCAST:
            mib.InBcastPkts += 1
        elif packet.pkt_type == PACKET_BROADCAST or packet.pkt_type == PACKET_MULTICAST:
            # RFC 1122 3.3.6: "a host SHOULD silently discard a datagram that is received via a link-layer broadcast
            # [...] but does not specify an IP multicast or broadcast destination address"
            if packet.dev is not None and packet.dev.in_dev.drop_unicast_in_l2_multicast():
                self.net.drop(packet, Reason.UNICAST_IN_L2_MULTICAST)
                return False
        return True

    def ip_rcv_options(self, packet: Packet, iph: Ipv4Header) -> bool:
        """Check the options and do what they ask of us; False if the packet was dropped."""
        packet.linearize()
        data = packet.buf[iph.start + IP_HLEN : iph.start + iph.header_len]
        opt = ip_options_compile(data, self.routing, self.routing.fib_compute_spec_dst(packet), self.net.now)
        packet.opt = opt
        if packet.journey is not None:
            words = "understood" if opt.pp_ptr == NO_PROBLEM else "malformed"
            packet.journey.step(Point.IP_RCV_OPTIONS, words, options_facts(opt))
        if opt.is_changed:
            # in place: whoever forwards it sums anew, and an ICMP error quotes what came, checksum and all
            packet.buf = b"".join(
                (packet.buf[: iph.start + IP_HLEN], bytes(opt.data), packet.buf[iph.start + iph.header_len :])
            )
        if opt.pp_ptr != NO_PROBLEM:
            self.net.drop(packet, Reason.IP_OPTIONS, opt.pp_ptr)
            return False
        if opt.srr:
            # RFC 7126 4.3.5: routers and hosts should not act on source routes unless told to
            if packet.dev is None or not packet.dev.in_dev.source_route():
                self.net.drop(packet, Reason.IP_SOURCE_ROUTED)
                return False
            fault = ip_options_rcv_srr(packet, iph, opt, self.routing)
            if fault != 0:
                if fault > 0 and self.net.icmp is not None:
                    self.net.icmp.icmp_send(packet, ICMP_PARAMETERPROB, 0, fault)
                self.net.drop(packet, Reason.IP_SOURCE_ROUTED)
                return False
        return True

    def _no_way(self, packet: Packet, iph: Ipv4Header, reason: Reason) -> None:
        """Drop what has no route; an error route (ip_error) comes after the options, as every route does."""
        is_error_route = self.routing.input_route.no_route_errno != 0
        if is_error_route and iph.header_len > IP_HLEN and not self.ip_rcv_options(packet, iph):
            return
        self.net.drop(packet, reason)


class _RcvFinish(PacketHandler):
    """Where PRE_ROUTING goes on."""

    def __init__(self, ipv4_input: Ipv4Input) -> None:
        self.input: Ipv4Input = ipv4_input

    def handle(self, packet: Packet) -> None:
        self.input.ip_rcv_finish(packet)


class LocalDeliver(PacketHandler):
    """ip_local_deliver: the input of routes that end here; what ``Routing.local_deliver`` is to be set to."""

    def __init__(self, net: Net, hooks: Hooks, protocols: Protocols, defrag: Defrag) -> None:
        self.net: Net = net
        self.hooks: Hooks = hooks
        self.protocols: Protocols = protocols
        self.defrag: Defrag = defrag
        self._finish = _DeliverFinish(self)

    def handle(self, packet: Packet) -> None:
        """Put fragments together, ask LOCAL_IN, hand to the protocol."""
        iph = packet.iph
        assert iph is not None
        is_fragment = iph.frag_off & (IP_MF | IP_OFFSET) != 0
        if packet.journey is not None:
            packet.journey.step(Point.IP_LOCAL_DELIVER, "a fragment: to ip_defrag" if is_fragment else "whole")
        if is_fragment:
            whole = self.defrag.ip_defrag(packet)
            if whole is None:
                return
            packet = whole
        if self.hooks.active(NF_INET_LOCAL_IN):
            self.hooks.nf_hook(NF_INET_LOCAL_IN, packet, packet.dev, None, self._finish)
        else:
            self.ip_local_deliver_finish(packet)

    def ip_local_deliver_finish(self, packet: Packet) -> None:
        """Take the IP header off."""
        iph = packet.iph
        assert iph is not None
        packet.data = packet.transport_header
        if packet.journey is not None:
            packet.journey.step(Point.IP_LOCAL_DELIVER_FINISH, "", {"header": iph.header_len})
        self.protocols.ip_protocol_deliver(packet, iph.protocol)


class _DeliverFinish(PacketHandler):
    """Where LOCAL_IN goes on."""

    def __init__(self, deliver: LocalDeliver) -> None:
        self.deliver: LocalDeliver = deliver

    def handle(self, packet: Packet) -> None:
        self.deliver.ip_local_deliver_finish(packet)
