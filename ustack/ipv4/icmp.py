"""ICMP: what arrives, and the replies to it (Linux net/ipv4/icmp.c; RFC 792, RFC 1122 section 3.2.2).

Errors that we send are in icmp_send.py, their rate limits in icmp_ratelimit.py.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

from librt.strings import BytesWriter
from mypy_extensions import i64

from ustack.drop import Reason
from ustack.dst import RTN_BROADCAST, Dst, to_many
from ustack.ipv4.facts import quoted_facts
from ustack.ipv4.icmp_ratelimit import REFUSED
from ustack.ipv4.icmp_send import INADDR_DUMMY, IcmpErrors
from ustack.ipv4.options import NO_PROBLEM, ip_options_echo
from ustack.ipv4.protocol import NetProtocol, Protocols
from ustack.packet import CHECKSUM_NONE, Packet
from ustack.routing.flow import Flow
from ustack.timer import NSEC_PER_MSEC
from ustack.trace.points import Point
from ustack.wire import icmp, ipv4
from ustack.wire.checksum import VALID, csum_fold, csum_partial, csum_replace2
from ustack.wire.icmp import (
    ICMP_DEST_UNREACH,
    ICMP_ECHO,
    ICMP_ECHOREPLY,
    ICMP_EXC_FRAGTIME,
    ICMP_FRAG_NEEDED,
    ICMP_HLEN,
    ICMP_PARAMETERPROB,
    ICMP_REDIRECT,
    ICMP_SOURCE_QUENCH,
    ICMP_TIME_EXCEEDED,
    ICMP_TIMESTAMP,
    ICMP_TIMESTAMPREPLY,
    NR_ICMP_TYPES,
    NR_ICMP_UNREACH,
    IcmpHeader,
    type_and_code,
)
from ustack.wire.ipv4 import IPPROTO_ICMP, IPPROTO_TCP, Ipv4Header, protocol_name
from ustack.wire.octets import put_u32, u16

if TYPE_CHECKING:
    from ustack.ipv4.output import Ipv4Output
    from ustack.net import Net
    from ustack.routing.route import Routing

#: Bytes after the IP header that an error must quote (RFC 792: "the first 64 bits of the original datagram's data").
QUOTED_MIN: Final = 8
#: Bytes of one of the three times of a timestamp message.
_TIMESTAMP_LEN: Final = 4
#: RFC 792: a time that is not milliseconds since midnight UT has the high bit set. The stack's clock has no midnight.
_NON_STANDARD_TIME: Final[i64] = 0x8000_0000

# ip_no_pmtu_disc: what to do with ICMP_FRAG_NEEDED
_PMTU_IGNORE_MTU: Final = 1
_PMTU_IGNORE: Final = 2
_PMTU_STRICT: Final = 3


class IcmpErrno:
    """What a code of ICMP_DEST_UNREACH means to a socket; ``fatal``: a hard error (struct icmp_err)."""

    def __init__(self, code: int, fatal: bool) -> None:
        self.errno: i64 = code
        self.fatal: bool = fatal


#: By code (icmp_err_convert); RFC 1122 4.2.3.9 names the soft ones.
ICMP_ERR_CONVERT: Final = (
    IcmpErrno(errno.ENETUNREACH, False),  # ICMP_NET_UNREACH
    IcmpErrno(errno.EHOSTUNREACH, False),  # ICMP_HOST_UNREACH
    IcmpErrno(errno.ENOPROTOOPT, True),  # ICMP_PROT_UNREACH
    IcmpErrno(errno.ECONNREFUSED, True),  # ICMP_PORT_UNREACH
    IcmpErrno(errno.EMSGSIZE, False),  # ICMP_FRAG_NEEDED
    IcmpErrno(errno.EOPNOTSUPP, False),  # ICMP_SR_FAILED
    IcmpErrno(errno.ENETUNREACH, True),  # ICMP_NET_UNKNOWN
    IcmpErrno(errno.EHOSTDOWN, True),  # ICMP_HOST_UNKNOWN
    IcmpErrno(errno.ENONET, True),  # ICMP_HOST_ISOLATED
    IcmpErrno(errno.ENETUNREACH, True),  # ICMP_NET_ANO
    IcmpErrno(errno.EHOSTUNREACH, True),  # ICMP_HOST_ANO
    IcmpErrno(errno.ENETUNREACH, False),  # ICMP_NET_UNR_TOS
    IcmpErrno(errno.EHOSTUNREACH, False),  # ICMP_HOST_UNR_TOS
    IcmpErrno(errno.EHOSTUNREACH, True),  # ICMP_PKT_FILTERED
    IcmpErrno(errno.EHOSTUNREACH, True),  # ICMP_PREC_VIOLATION
    IcmpErrno(errno.EHOSTUNREACH, True),  # ICMP_PREC_CUTOFF
)


class EchoReceiver:
    """What the ping room offers; the default has no sockets."""

    def ping_rcv(self, packet: Packet) -> Reason | None:
        """Give an echo reply to the socket that asked; why not, if that failed. The packet stays the caller's."""
        return Reason.NO_SOCKET

    def ping_err(self, packet: Packet, icmp_type: i64, code: i64, info: i64) -> None:
        """Tell the socket whose echo request an error quotes; ``packet`` as for NetProtocol.err_handler."""


class Icmp(NetProtocol):
    """Protocol 1, the one every host speaks. ``errors`` is its IcmpSender, put into ``net.icmp`` here."""

    def __init__(self, net: Net, routing: Routing, output: Ipv4Output, protocols: Protocols) -> None:
        self.net: Net = net
        self.routing: Routing = routing
        self.protocols: Protocols = protocols
        self.errors = IcmpErrors(net, routing, output)
        self.ping: EchoReceiver = EchoReceiver()
        net.icmp = self.errors
        # the last reply's route: whoever pings, pings again
        self._reply_dst: Dst | None = None
        self._reply_daddr: i64 = 0
        self._reply_saddr: i64 = 0
        self._reply_tos: i64 = 0
        self._reply_mark: i64 = 0
        self._reply_source: i64 = 0

    # -- arrival

    def handler(self, packet: Packet) -> None:
        """icmp_rcv: checksum, then length, then the type's own function."""
        mib = self.net.mib.icmp
        mib.InMsgs += 1
        if packet.frags is not None:
            packet.linearize()
        start, end = packet.data, packet.end
        if packet.ip_summed == CHECKSUM_NONE and csum_partial(packet.buf, start, end) != VALID:
            return self.net.drop(packet, Reason.ICMP_CSUM)
        if end - start < ICMP_HLEN:
            return self.net.drop(packet, Reason.ICMP_MALFORMED)
        icmp_type: i64 = packet.buf[start]
        if packet.journey is not None:
            packet.journey.step(Point.ICMP_RCV, type_and_code(icmp_type, i64(packet.buf[start + 1])))
        self._count_in(icmp_type)
        # "18 is the highest 'known' ICMP type. Anything else is a mystery." RFC 1122 3.2.2: unknown types MUST be
        # silently discarded
        if icmp_type > NR_ICMP_TYPES or (came_to_many(packet) and not self._welcome_by_broadcast(icmp_type)):
            return self.net.drop(packet, Reason.ICMP_UNKNOWN)
        if icmp_type == ICMP_ECHO:
            self._echo(packet)
        elif icmp_type == ICMP_ECHOREPLY:
            self._echo_reply(packet)
        elif icmp_type == ICMP_TIMESTAMP:
            self._timestamp(packet)
        else:
            self._rare(packet, icmp_type)

    def err_handler(self, packet: Packet, icmp_type: i64, code: i64, info: i64) -> None:
        """icmp_err: an error about an ICMP message of ours: of a ping socket unless it was a reply of the stack's."""
        iph = packet.iph
        if iph is None:
            return
        if packet.buf[packet.transport_header] != ICMP_ECHOREPLY:
            self.ping.ping_err(packet, icmp_type, code, info)
        elif icmp_type == ICMP_DEST_UNREACH and code == ICMP_FRAG_NEEDED:
            self.routing.update_pmtu(quoted_flow(iph), info)
        elif icmp_type == ICMP_REDIRECT:
            self.routing.ipv4_redirect(quoted_flow(iph), packet, code, info)

    def _count_in(self, icmp_type: i64) -> None:
        """ICMPMSGIN_INC_STATS, as /proc/net/snmp shows it."""
        mib = self.net.mib.icmp
        if icmp_type == ICMP_ECHO:
            mib.InEchos += 1
        elif icmp_type == ICMP_ECHOREPLY:
            mib.InEchoReps += 1
        elif icmp_type == ICMP_DEST_UNREACH:
            mib.InDestUnreachs += 1
        elif icmp_type == ICMP_TIME_EXCEEDED:
            mib.InTimeExcds += 1
        elif icmp_type == ICMP_PARAMETERPROB:
            mib.InParmProbs += 1
        elif icmp_type == ICMP_SOURCE_QUENCH:
            mib.InSrcQuenchs += 1
        elif icmp_type == ICMP_REDIRECT:
            mib.InRedirects += 1
        elif icmp_type == ICMP_TIMESTAMP:
            mib.InTimestamps += 1
        elif icmp_type == ICMP_TIMESTAMPREPLY:
            mib.InTimestampReps += 1

    def _welcome_by_broadcast(self, icmp_type: i64) -> bool:
        """Whether a message to many may be heard at all.

        RFC 1122 3.2.2.6: "An ICMP Echo Request destined to an IP broadcast or IP multicast address MAY be silently
        discarded", 3.2.2.8 says the same of timestamps: the smurf attack made it the default.
        """
        if icmp_type != ICMP_ECHO and icmp_type != ICMP_TIMESTAMP:
            return False
        return self.net.sysctl.icmp_echo_ignore_broadcasts == 0

    def _rare(self, packet: Packet, icmp_type: i64) -> None:
        """What does not ask: errors about what we sent, and what nobody answers any more."""
        if icmp_type == ICMP_DEST_UNREACH or icmp_type == ICMP_TIME_EXCEEDED or icmp_type == ICMP_PARAMETERPROB:
            self._unreach(packet)
        elif icmp_type == ICMP_REDIRECT:
            self._redirect(packet)
        else:
            # RFC 6633 deprecates source quench: hosts ignore it. Information and address mask requests are answered by
            # nobody (RFC 6918).
            self.net.drop(packet, Reason.ICMP_IGNORED)

    # -- echo and timestamp

    def _echo(self, packet: Packet) -> None:
        """RFC 792: "The data received in the echo message must be returned in the echo reply message." (icmp_echo)"""
        if self.net.sysctl.icmp_echo_ignore_all:
            return self.net.drop(packet, Reason.ICMP_IGNORED)
        buf, start = packet.buf, packet.data
        code: i64 = buf[start + 1]
        if packet.ip_summed == CHECKSUM_NONE:
            # verified just now, so what changes is all that must be summed: type 8 becomes type 0
            check = csum_replace2(u16(buf, start + 2), ICMP_ECHO << 8 | code, code) or VALID
        else:
            check = csum_fold(csum_partial(buf, start + 4, packet.end, code))
        out = BytesWriter()
        put_u32(out, code << 16 | check)
        out.write(buf[start + 4 : packet.end])
        self._reply(packet, out.getvalue())

    def _timestamp(self, packet: Packet) -> None:
        """icmp_timestamp: the originate time comes back with the times of arrival and answer, which are one."""
        header = icmp.parse(packet.buf, packet.data, packet.end)
        if header is None or packet.end - header.payload < _TIMESTAMP_LEN:
            return self.net.drop(packet, Reason.ICMP_MALFORMED)
        now = (self.net.now // NSEC_PER_MSEC) & 0x7FFF_FFFF | _NON_STANDARD_TIME
        out = BytesWriter()
        out.write(packet.buf[header.payload : header.payload + _TIMESTAMP_LEN])
        put_u32(out, now)
        put_u32(out, now)
        self._reply(packet, icmp.emit(ICMP_TIMESTAMPREPLY, 0, header.rest, out.getvalue()))

    def _reply(self, packet: Packet, message: bytes) -> None:
        """Send ``message`` back to where ``packet`` came from, which ends here (icmp_reply)."""
        iph = packet.iph
        if iph is not None:
            verdict = self.errors.limits.global_allow(message[0], 0, packet.in_dev)
            answered = verdict != REFUSED and self._send_reply(packet, iph, message, verdict)
            if packet.journey is not None:
                packet.journey.step(Point.ICMP_REPLY, "answered" if answered else "not answered")
        self.net.deliver(packet)

    def _send_reply(self, packet: Packet, iph: Ipv4Header, message: bytes, verdict: i64) -> bool:
        # RFC 1122 3.2.2.6: the reply's source MUST be the specific-destination address
        saddr = self.routing.fib_compute_spec_dst(packet)
        mark = self.net.ip4_reply_mark(packet.mark)
        dst = self._reply_route(iph, saddr, mark)
        if dst is None or not self.errors.limits.xrlim_allow(verdict, iph.saddr, dst.dev):
            return False
        opt = None if packet.opt is None else ip_options_echo(packet.opt, self.routing)
        if opt is not None and opt.pp_ptr != NO_PROBLEM:
            return False
        self.errors.send(message, dst, self._reply_source, iph.saddr, iph.tos, mark, opt)
        return True

    def _reply_route(self, iph: Ipv4Header, saddr: i64, mark: i64) -> Dst | None:
        dst = self._reply_dst
        if (
            dst is not None
            and iph.saddr == self._reply_daddr
            and saddr == self._reply_saddr
            and iph.tos == self._reply_tos
            and mark == self._reply_mark
            and self.routing.dst_valid(dst)
        ):
            return dst
        flow = Flow(iph.saddr, saddr, 0, iph.tos, IPPROTO_ICMP, mark=mark)
        dst = self.errors.route(flow)
        self._reply_dst = dst
        self._reply_source = flow.saddr or INADDR_DUMMY
        self._reply_daddr, self._reply_saddr, self._reply_tos, self._reply_mark = iph.saddr, saddr, iph.tos, mark
        return dst

    def _echo_reply(self, packet: Packet) -> None:
        """An answer to a ping socket; raw sockets have had theirs (ping_rcv)."""
        reason = self.ping.ping_rcv(packet)
        if packet.journey is not None:
            packet.journey.step(Point.PING_RCV, "to the socket that asked" if reason is None else "not delivered")
        if reason is None:
            self.net.deliver(packet)
        else:
            self.net.drop(packet, reason)

    # -- errors in

    def _unreach(self, packet: Packet) -> None:
        """icmp_unreach: an error about something we sent, if what it quotes can be believed."""
        header = icmp.parse(packet.buf, packet.data, packet.end)
        quoted = None if header is None else quoted_header(packet, header)
        if header is None or quoted is None:
            return self.net.drop(packet, Reason.ICMP_MALFORMED)
        # a quoted fragment that is not the first has no ports, only bytes that look like them
        if quoted.fragment_offset != 0 or not self._concerns_us(header, quoted):
            return self.net.drop(packet, Reason.ICMP_IGNORED)
        self._socket_deliver(packet, header, quoted)

    def _redirect(self, packet: Packet) -> None:
        """icmp_redirect: somebody knows a better gateway; whose packet it is about asks the routing room to believe it.

        RFC 1122 3.2.2.2: "Every host SHOULD accept Redirects and update its routing information accordingly".
        """
        header = icmp.parse(packet.buf, packet.data, packet.end)
        quoted = None if header is None else quoted_header(packet, header)
        if header is None or quoted is None:
            return self.net.drop(packet, Reason.ICMP_MALFORMED)
        self._socket_deliver(packet, header, quoted)

    def _concerns_us(self, header: IcmpHeader, quoted: Ipv4Header) -> bool:
        """What icmp_unreach passes over in silence."""
        if header.icmp_type == ICMP_TIME_EXCEEDED:
            return header.code != ICMP_EXC_FRAGTIME
        if header.icmp_type == ICMP_DEST_UNREACH and header.code == ICMP_FRAG_NEEDED:
            return self._believes_mtu(quoted)
        if header.icmp_type == ICMP_DEST_UNREACH and header.code > NR_ICMP_UNREACH:
            return False
        # "Check the other end isn't violating RFC 1122. Some routers send bogus responses to broadcast frames."
        if self.net.sysctl.icmp_ignore_bogus_error_responses:
            return True
        return self.routing.inet_addr_type(quoted.daddr) != RTN_BROADCAST

    def _believes_mtu(self, quoted: Ipv4Header) -> bool:
        """ip_no_pmtu_disc: 2 discards, 3 takes it for protocols that can tell a forgery only (icmp_tag_validation)."""
        mode = self.net.sysctl.ip_no_pmtu_disc
        if mode == _PMTU_STRICT:
            # an unregistered protocol has no handler to ask (CVE-2026-23398)
            return quoted.protocol == IPPROTO_TCP and self.protocols.inet_protos[IPPROTO_TCP] is not None
        return mode != _PMTU_IGNORE

    def _socket_deliver(self, packet: Packet, header: IcmpHeader, quoted: Ipv4Header) -> None:
        """icmp_socket_deliver; RFC 1122 3.2.2: "MUST extract the protocol ID from the passed header"."""
        info = self._info(header)
        icmp_type, code, protocol = header.icmp_type, header.code, quoted.protocol
        if packet.journey is not None:
            packet.journey.step(
                Point.ICMP_SOCKET_DELIVER, f"to {protocol_name(protocol)}'s err_handler", quoted_facts(quoted, info)
            )
        if packet.iph is not None:
            packet.icmp_saddr = packet.iph.saddr
        packet.iph = quoted
        packet.network_header = packet.data = quoted.start
        packet.transport_header = quoted.start + quoted.header_len
        self.protocols.raw.raw_icmp_error(packet, protocol, icmp_type, code, info)
        ipprot = self.protocols.inet_protos[protocol]
        if ipprot is not None:
            ipprot.err_handler(packet, icmp_type, code, info)
        self.net.deliver(packet)

    def _info(self, header: IcmpHeader) -> i64:
        if header.icmp_type == ICMP_PARAMETERPROB:
            return header.pointer
        if header.icmp_type == ICMP_REDIRECT:
            return header.rest
        if header.icmp_type != ICMP_DEST_UNREACH or header.code != ICMP_FRAG_NEEDED:
            return 0
        return 0 if self.net.sysctl.ip_no_pmtu_disc == _PMTU_IGNORE_MTU else header.mtu


def came_to_many(packet: Packet) -> bool:
    """Whether it came to an IP broadcast or multicast address (RTCF_BROADCAST, RTCF_MULTICAST)."""
    dst = packet.dst
    return dst is not None and to_many(dst)


def quoted_header(packet: Packet, header: IcmpHeader) -> Ipv4Header | None:
    """The header that an error quotes; None if too little is quoted to know whom it concerns."""
    quoted = ipv4.parse(packet.buf, header.payload, packet.end)
    if quoted is None or quoted.start + quoted.header_len + QUOTED_MIN > packet.end:
        return None
    return quoted


def quoted_flow(iph: Ipv4Header) -> Flow:
    """The way of a packet that an error quotes and no socket has sent (__build_flow_key)."""
    return Flow(iph.daddr, iph.saddr, 0, iph.tos, IPPROTO_ICMP)
