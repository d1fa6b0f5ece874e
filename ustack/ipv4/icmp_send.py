"""ICMP errors that we send (Linux __icmp_send; RFC 1122 section 3.2.2, RFC 1812 section 4.3.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mypy_extensions import i64

from ustack.dst import RTCF_BROADCAST, RTCF_MULTICAST, RTN_BROADCAST, RTN_MULTICAST, Dst, ip4_dst_hoplimit, to_many
from ustack.ipv4.facts import WayGiven
from ustack.ipv4.icmp_ratelimit import REFUSED, IcmpLimits
from ustack.ipv4.options import NO_PROBLEM, ip_options_echo
from ustack.net import IcmpSender, Net
from ustack.packet import PACKET_HOST, PACKET_OUTGOING, Packet
from ustack.routing.flow import RT_SCOPE_LINK, Flow
from ustack.trace.points import Point
from ustack.wire import icmp, ipv4
from ustack.wire.icmp import (
    ICMP_DEST_UNREACH,
    ICMP_ECHO,
    ICMP_ECHOREPLY,
    ICMP_FRAG_NEEDED,
    ICMP_HLEN,
    ICMP_PARAMETERPROB,
    ICMP_REDIRECT,
    ICMP_TIME_EXCEEDED,
    ICMP_TIMESTAMPREPLY,
    NR_ICMP_TYPES,
    type_and_code,
)
from ustack.wire.ipv4 import IP_HLEN, IP_OFFSET, IPPROTO_ICMP, Ipv4Header

if TYPE_CHECKING:
    from ustack.ipv4.options import IpOptions
    from ustack.ipv4.output import Ipv4Output
    from ustack.routing.route import Routing

#: RFC 1812 4.3.2.3: "SHOULD contain as much of the original datagram as possible without the length of the ICMP
#: datagram exceeding 576 bytes".
MAX_ERROR_LEN: Final = 576
_IPTOS_TOS_MASK: Final = 0x1E
#: RFC 1812 4.3.2.5: errors go out with precedence 6 (INTERNETWORK CONTROL) or 7.
_IPTOS_PREC_INTERNETCONTROL: Final = 0xC0
_POINTER_SHIFT: Final = 24
_CLASS_D: Final[i64] = 0xE000_0000
#: RFC 7600: who has no address of its own answers from 192.0.0.8.
INADDR_DUMMY: Final[i64] = 0xC000_0008


class IcmpErrors(IcmpSender):
    """Net's way to answer with an ICMP error, and the counting of what goes out."""

    def __init__(self, net: Net, routing: Routing, output: Ipv4Output) -> None:
        self.net: Net = net
        self.routing: Routing = routing
        self.output: Ipv4Output = output
        self.limits = IcmpLimits(net)

    def icmp_send(self, packet: Packet, icmp_type: i64, code: i64, info: i64) -> None:
        """Tell the sender of ``packet`` what became of it, unless a rule forbids it.

        ``packet`` need not have come from a device: an error about our own packet travels by loopback to the socket
        that sent it. ``info``: the MTU of ICMP_FRAG_NEEDED, the pointer (offset in bytes) of ICMP_PARAMETERPROB, the
        gateway of ICMP_REDIRECT. Only the header at ``network_header`` is believed, it is parsed anew.
        """
        tracer = self.net.tracer
        if tracer is None:
            self._icmp_send(packet, icmp_type, code, info)
            return
        current = tracer.current
        tracer.current = packet.journey  # the cause of what is sent now
        outcome = self._icmp_send(packet, icmp_type, code, info)
        tracer.current = current
        if packet.journey is not None:
            packet.journey.step(Point.ICMP_SEND, outcome, {"icmp": type_and_code(icmp_type, code)})

    def _icmp_send(self, packet: Packet, icmp_type: i64, code: i64, info: i64) -> str:
        """What has become of it, in words."""
        iph = ipv4.parse(packet.buf, packet.network_header, packet.end)
        if iph is None or not self._may_answer(packet, iph):
            return "not sent: never about such a packet"
        verdict = self.limits.global_allow(icmp_type, code, packet.in_dev)
        if verdict == REFUSED:
            return "not sent: icmp_msgs_per_sec"
        mark = self.net.ip4_reply_mark(packet.mark)
        flow = Flow(iph.saddr, self._source(packet, iph), 0, error_tos(iph.tos), IPPROTO_ICMP, mark=mark)
        # skb_in: the error takes the way of what it is about, among several
        packet.iph = iph
        dst = self.route(flow, packet)
        if dst is None:
            return "not sent: no way back to its sender"
        if not self.limits.xrlim_allow(verdict, iph.saddr, dst.dev):
            return "not sent: icmp_ratelimit"
        return self._emit(packet, iph, flow, dst, icmp_type, code, info)

    def _emit(self, packet: Packet, iph: Ipv4Header, flow: Flow, dst: Dst, icmp_type: i64, code: i64, info: i64) -> str:
        opt = None if packet.opt is None else ip_options_echo(packet.opt, self.routing)
        if opt is not None and opt.pp_ptr != NO_PROBLEM:
            return "not sent: its options have no room for ours"
        room = min(dst.mtu, MAX_ERROR_LEN) - IP_HLEN - ICMP_HLEN - (0 if opt is None else len(opt.data))
        message = icmp.emit(icmp_type, code, second_word(icmp_type, code, info), quote(packet, iph.start, room))
        self.send(message, dst, flow.saddr or INADDR_DUMMY, iph.saddr, flow.tos, flow.mark, opt)
        return "sent"

    def send(
        self, message: bytes, dst: Dst, saddr: i64, daddr: i64, tos: i64, mark: i64, opt: IpOptions | None = None
    ) -> None:
        """Send a finished ICMP message and count it (icmp_push_reply)."""
        self.count_out(message[0])
        if self.net.tracer is not None:
            self.net.tracer.note(Point.ICMP_PUSH_REPLY, type_and_code(message[0], message[1]), WayGiven(dst))
        ttl = ip4_dst_hoplimit(dst, self.net.sysctl.ip_default_ttl)
        packet = Packet(message)
        packet.mark = mark
        self.output.ip_build_and_send_pkt(packet, dst, saddr, daddr, IPPROTO_ICMP, tos, ttl, False, None, opt)

    def route(self, flow: Flow, packet: Packet | None = None) -> Dst | None:
        """The way back to a sender; None if there is none, or if it is one that nobody may be answered by.

        RFC 1122 3.2.2: never "a datagram whose source address does not define a single host -- e.g., a zero address, a
        loopback address, a broadcast address, a multicast address, or a Class E address".
        """
        if flow.daddr == 0 or flow.daddr >= _CLASS_D:
            return None
        try:
            dst = self.routing.ip_route_output(flow, packet)
        except OSError:
            return None
        return None if to_many(dst) else dst

    def count_out(self, icmp_type: i64) -> None:
        """icmp_out_count: whoever sends the message, a raw or a ping socket too."""
        mib = self.net.mib.icmp
        mib.OutMsgs += 1
        if icmp_type == ICMP_ECHOREPLY:
            mib.OutEchoReps += 1
        elif icmp_type == ICMP_DEST_UNREACH:
            mib.OutDestUnreachs += 1
        elif icmp_type == ICMP_TIME_EXCEEDED:
            mib.OutTimeExcds += 1
        elif icmp_type == ICMP_ECHO:
            mib.OutEchos += 1
        elif icmp_type == ICMP_PARAMETERPROB:
            mib.OutParmProbs += 1
        elif icmp_type == ICMP_REDIRECT:
            mib.OutRedirects += 1
        elif icmp_type == ICMP_TIMESTAMPREPLY:
            mib.OutTimestampReps += 1

    def _may_answer(self, packet: Packet, iph: Ipv4Header) -> bool:
        """RFC 1122 3.2.2: "An ICMP error message MUST NOT be sent as the result of receiving": five cases."""
        # "a datagram sent as a link-layer broadcast"
        if packet.pkt_type != PACKET_HOST and packet.pkt_type != PACKET_OUTGOING:
            return False
        # "a datagram destined to an IP broadcast or IP multicast address"
        dst = packet.dst
        if dst is not None:
            # one that is forwarded as a whole (bc_forwarding) is no broadcast here
            if dst.flags() & (RTCF_BROADCAST | RTCF_MULTICAST) != 0:
                return False
        else:
            rt_type = self.routing.inet_addr_type(iph.daddr)
            if rt_type == RTN_BROADCAST or rt_type == RTN_MULTICAST:
                return False
        # "a non-initial fragment"
        if iph.frag_off & IP_OFFSET:
            return False
        # "an ICMP error message"
        return iph.protocol != IPPROTO_ICMP or is_answerable_icmp(packet, iph)

    def _source(self, packet: Packet, iph: Ipv4Header) -> i64:
        """Who speaks: the address that was asked if it is ours, else the route back decides (0).

        icmp_errors_use_inbound_ifaddr: "the primary address of the interface that received the packet", as RFC 1812
        4.3.2.4 does not say it, but who traces a route likes it.
        """
        dst = packet.dst
        if dst is not None and dst.local:
            return iph.daddr
        dev = packet.in_dev
        received = dst is None or dst.is_input
        if received and dev is not None and self.net.sysctl.icmp_errors_use_inbound_ifaddr != 0:
            return self.routing.inet_select_addr(dev, iph.saddr, RT_SCOPE_LINK)
        return 0


def is_answerable_icmp(packet: Packet, iph: Ipv4Header) -> bool:
    """Whether a quoted ICMP message is neither an error nor of a type nobody knows."""
    inner = quote(packet, iph.start + iph.header_len, 1)
    return len(inner) == 1 and inner[0] <= NR_ICMP_TYPES and not icmp.is_error(inner[0])


def quote(packet: Packet, start: i64, room: i64) -> bytes:
    """The first ``room`` bytes of ``packet`` from ``start`` on, pieces included."""
    taken = packet.buf[start : min(packet.end, start + room)]
    if packet.frags is None:
        return taken
    for piece in packet.frags:
        missing = room - len(taken)
        if missing <= 0:
            break
        taken += bytes(piece[:missing])
    return taken


def second_word(icmp_type: i64, code: i64, info: i64) -> i64:
    """The header's second word as RFC 792 and RFC 1191 lay it out."""
    if icmp_type == ICMP_PARAMETERPROB:
        return (info & 0xFF) << _POINTER_SHIFT
    if icmp_type == ICMP_DEST_UNREACH:
        return info & 0xFFFF if code == ICMP_FRAG_NEEDED else 0
    return info


def error_tos(tos: i64) -> i64:
    """RFC 1812 4.3.2.5: the TOS of what is answered, with the precedence of network control."""
    return (tos & _IPTOS_TOS_MASK) | _IPTOS_PREC_INTERNETCONTROL
