"""InetDatagramSock: what UDP, raw and ping sockets share above IPv4 (Linux net/ipv4/datagram.c and ip_output.c's part).

Routes of sockets, connect and disconnect, and what ICMP errors do to a socket.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

from mypy_extensions import i64

from ustack.datagram import DatagramSock
from ustack.dst import RTN_BROADCAST, Dst, rt_nexthop
from ustack.ipv4.facts import WayGiven
from ustack.ipv4.icmp import ICMP_ERR_CONVERT
from ustack.routing.flow import RT_SCOPE_LINK, RT_SCOPE_UNIVERSE, Flow
from ustack.sock import (
    IP_PMTUDISC_DONT,
    MSG_CONFIRM,
    MSG_DONTROUTE,
    MSG_OOB,
    TCP_CLOSE,
    TCP_ESTABLISHED,
    error,
)
from ustack.trace.points import Point
from ustack.wire.icmp import (
    ICMP_DEST_UNREACH,
    ICMP_FRAG_NEEDED,
    ICMP_PARAMETERPROB,
    ICMP_REDIRECT,
    ICMP_SOURCE_QUENCH,
    NR_ICMP_UNREACH,
)
from ustack.wire.ipv4 import IP_MAX_LEN

if TYPE_CHECKING:
    from ustack.ipv4.output import Ipv4Output
    from ustack.neighbour.table import NeighbourTable
    from ustack.net import Net
    from ustack.packet import Packet
    from ustack.routing.route import Routing
    from ustack.wire.ipv4 import Ipv4Header

_CLASS_D_TOP: Final = 0xE  # the four bits that begin a multicast address


class Ip4Datagram:
    """The floors that datagram sockets stand on; one a stack."""

    def __init__(self, net: Net, routing: Routing, output: Ipv4Output, neighbours: NeighbourTable) -> None:
        self.net: Net = net
        self.routing: Routing = routing
        self.output: Ipv4Output = output
        self.neighbours: NeighbourTable = neighbours


class InetDatagramSock(DatagramSock):
    """A datagram socket that knows its way: ``dst_cache`` is the last destination's, ``route_*`` say for what."""

    def __init__(self, ip: Ip4Datagram, sock_type: i64, protocol: i64) -> None:
        super().__init__(ip.net, sock_type, protocol)
        self.ip: Ip4Datagram = ip
        self.route_daddr: i64 = 0
        self.route_dport: i64 = 0
        self.route_saddr: i64 = 0
        self.route_oif: i64 = 0
        self.route_mark: i64 = 0
        self.route_tos: i64 = 0
        self.source: i64 = 0  #: what the route chose to send from ...
        self.target: i64 = 0  #: ... and to: 0.0.0.0 means this host

    # -- the way out

    def route(self, daddr: i64, dport: i64, flags: i64) -> Dst:
        """The way to ``daddr``; fills ``source`` and ``target`` (the route look-up of udp_sendmsg).

        Kept from one send to the next while nothing it depends on has changed. Raises the route's errno; EACCES for a
        broadcast without SO_BROADCAST.
        """
        oif, saddr = self.bound_dev_if, self.saddr
        if daddr >> 28 == _CLASS_D_TOP:
            oif = oif or self.mc_index
            saddr = saddr or self.mc_addr
        dst = self.dst_cache
        kept = dst
        if (
            dst is None
            or daddr != self.route_daddr
            or dport != self.route_dport
            or saddr != self.route_saddr
            or oif != self.route_oif
            or self.mark != self.route_mark
            or self.tos != self.route_tos
            or flags & MSG_DONTROUTE
            or self.inet_opt is not None
            or not self.ip.routing.dst_valid(dst)
        ):
            dst = self._look_up(daddr, dport, saddr, oif, flags)
        if self.net.tracer is not None:
            self.net.tracer.note(Point.SK_DST_CHECK, "kept" if dst is kept else "looked up", WayGiven(dst, self.source))
        if dst.rt_type == RTN_BROADCAST and not self.broadcast:
            raise error(errno.EACCES)
        return dst

    def _look_up(self, daddr: i64, dport: i64, saddr: i64, oif: i64, flags: i64) -> Dst:
        opt = self.inet_opt
        source_routed = opt is not None and opt.srr != 0
        first_hop = opt.faddr if opt is not None and source_routed else daddr
        link_only = self.dontroute or flags & MSG_DONTROUTE != 0 or (opt is not None and opt.is_strictroute)
        scope = RT_SCOPE_LINK if link_only else RT_SCOPE_UNIVERSE
        anysrc = self.transparent or self.hdrincl
        flow = Flow(first_hop, saddr, oif, self.tos, self.protocol, self.num, dport, self.mark, 0, scope, anysrc)
        flow.uid = self.uid
        flow.known_nh = self.hdrincl
        self.dst_cache = None
        try:
            dst = self.ip.routing.ip_route_output(flow)
        except OSError as failure:
            if failure.errno == errno.ENETUNREACH:
                self.net.mib.ip.OutNoRoutes += 1
            raise
        self.source = flow.saddr
        self.target = daddr if source_routed else flow.daddr
        if not link_only and opt is None:
            self.dst_cache = dst
            self.route_daddr, self.route_dport, self.route_saddr = daddr, dport, saddr
            self.route_oif, self.route_mark, self.route_tos = oif, self.mark, self.tos
        return dst

    def destination(self, addr: i64, port: i64) -> i64:
        """Where a send goes: ``addr``, or the peer where ``port`` is -1. Raises EDESTADDRREQ if there is no peer."""
        if port >= 0:
            return addr
        if self.state != TCP_ESTABLISHED:
            raise error(errno.EDESTADDRREQ)
        return self.daddr

    def check_flags(self, length: i64, flags: i64) -> None:
        """EMSGSIZE beyond 65,535 bytes, EOPNOTSUPP for MSG_OOB: "Mirror BSD error message compatibility"."""
        if length > IP_MAX_LEN:
            raise error(errno.EMSGSIZE)
        if flags & MSG_OOB:
            raise error(errno.EOPNOTSUPP)

    def confirm(self, dst: Dst, flags: i64) -> None:
        """MSG_CONFIRM: the application had an answer from there, so the neighbour is alive (dst_confirm_neigh)."""
        if flags & MSG_CONFIRM:
            self.ip.neighbours.confirm(rt_nexthop(dst, self.target), dst.dev)

    def ip_send(self, dst: Dst, daddr: i64, l4: bytes, csum_offset: i64) -> None:
        """Send a transport packet from ``source`` under the socket's options (ip_make_skb, ip_send_skb).

        ``csum_offset`` as for Ipv4Output.ip_send_datagram. Raises EMSGSIZE where it does not fit and may not be
        fragmented, and what LOCAL_OUT says (EPERM).
        """
        code = self.ip.output.ip_send_datagram(
            self, dst, self.source, daddr, self.protocol, l4, self.tos, 0, csum_offset
        )
        if code != 0:
            raise error(int(code))

    # -- connect

    def connect(self, addr: i64, port: i64) -> None:
        """Fix the peer, and with it the source address (__ip4_datagram_connect)."""
        dst = self.route(addr, port, 0)
        self.unhash()
        if self.saddr == 0:
            self.saddr = self.source
        if self.rcv_saddr == 0:
            self.rcv_saddr = self.source
        self.daddr = self.target
        self.dport = port
        self.state = TCP_ESTABLISHED
        self.inet_id = self.net.entropy.u32() & 0xFFFF
        self.dst_cache = dst
        self.route_daddr, self.route_saddr = self.daddr, self.saddr
        self.hash()

    def disconnect(self) -> None:
        """Back to no peer; an address or port that was not bound on purpose goes too (__udp_disconnect)."""
        self.unhash()
        self.state = TCP_CLOSE
        self.daddr = 0
        self.dport = 0
        self.bound_dev_if = 0
        self.dst_cache = None
        if not self.bound_addr:
            self.saddr = self.rcv_saddr = 0
        self.hash()
        if not self.bound_port:
            self.put_port()

    def hash(self) -> None:
        """Let packets find it, under its addresses of now (sk_prot->hash, rehash)."""

    def unhash(self) -> None:
        """No longer let them."""

    def close(self) -> None:
        self.dead = True
        self.put_port()
        self.purge()
        self.dst_cache = None

    # -- errors

    def route_error(self, packet: Packet, icmp_type: i64, code: i64, info: i64) -> None:
        """What an ICMP error says of the way (ipv4_sk_update_pmtu, ipv4_sk_redirect); ``packet`` as for err_handler."""
        iph = packet.iph
        if iph is None:
            return
        if icmp_type == ICMP_DEST_UNREACH and code == ICMP_FRAG_NEEDED:
            self.ip.routing.update_pmtu(self._quoted_flow(iph), info)
        elif icmp_type == ICMP_REDIRECT:
            self.ip.routing.ipv4_redirect(self._quoted_flow(iph), packet, code, info)

    def _quoted_flow(self, iph: Ipv4Header) -> Flow:
        """The way of a packet that this socket sent and somebody quotes (__build_flow_key)."""
        flow = Flow(iph.daddr, iph.saddr, self.bound_dev_if, self.tos, self.protocol, mark=self.mark, uid=self.uid)
        flow.scope = RT_SCOPE_LINK if self.dontroute else RT_SCOPE_UNIVERSE
        flow.anysrc = self.transparent or self.hdrincl
        return flow

    def icmp_error(self, icmp_type: i64, code: i64) -> None:
        """An ICMP error that quotes what this socket sent (the end of __udp4_lib_err, raw_err and ping_err).

        RFC 1122 4.1.3.3: "UDP MUST pass to the application layer all ICMP error messages that it receives from the IP
        layer". Linux passes to connected sockets the hard ones, and all of them to whoever set IP_RECVERR.
        """
        failure, hard = errno.EHOSTUNREACH, False
        if icmp_type == ICMP_SOURCE_QUENCH or icmp_type == ICMP_REDIRECT:
            return
        if icmp_type == ICMP_PARAMETERPROB:
            failure, hard = errno.EPROTO, True
        elif icmp_type == ICMP_DEST_UNREACH and code == ICMP_FRAG_NEEDED:
            if self.pmtudisc == IP_PMTUDISC_DONT:
                return
            failure, hard = errno.EMSGSIZE, True
        elif icmp_type == ICMP_DEST_UNREACH and code <= NR_ICMP_UNREACH:
            meaning = ICMP_ERR_CONVERT[code]
            failure, hard = int(meaning.errno), meaning.fatal
        if self.recverr or (hard and self.state == TCP_ESTABLISHED):
            self.report(failure)
