"""TCP as IPv4 sees it: segments and errors in, and the end of a batch (Linux net/ipv4/tcp_ipv4.c)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mypy_extensions import i64

from ustack.device.core import Devices, Flusher
from ustack.drop import Reason
from ustack.dst import to_many
from ustack.ipv4.protocol import NetProtocol, inet_sk_rx_dst_set, sk_edemux
from ustack.packet import CHECKSUM_NONE, PACKET_HOST, Packet
from ustack.sock import TCP_LISTEN
from ustack.tcp.accept import tcp_accept_queue_add, tcp_v4_syn_recv_sock
from ustack.tcp.check_req import tcp_check_req
from ustack.tcp.conn_request import tcp_conn_request
from ustack.tcp.control import TcpControl
from ustack.tcp.error import tcp_v4_err
from ustack.tcp.input import tcp_segs_in, tcp_v4_do_rcv
from ustack.tcp.mini import inet_iif
from ustack.tcp.notify import tell
from ustack.tcp.output import tcp_tsq_handler
from ustack.tcp.ports import BindTable
from ustack.tcp.reply import tcp_v4_send_reset
from ustack.tcp.sock import TcpSock
from ustack.tcp.syncookies import cookie_v4_check
from ustack.tcp.tables import NO_ISN, TcpTables
from ustack.tcp.timers import tcp_new_timer
from ustack.tcp.timewait import tcp_timewait_state_process
from ustack.tcp.trace import checksum_words, lookup_words, segment_facts
from ustack.tcp.transmit import tcp_send_ack
from ustack.trace.points import Point
from ustack.trace.words import SocketGiven
from ustack.wire import tcp as wire
from ustack.wire.checksum import csum_partial, csum_tcpudp_nofold
from ustack.wire.ipv4 import IPPROTO_TCP, Ipv4Header
from ustack.wire.octets import u16
from ustack.wire.tcp import TCP_HLEN, TCPHDR_ACK, TCPHDR_FIN, TCPHDR_RST, TCPHDR_SYN, TcpHeader

if TYPE_CHECKING:
    from ustack.ipv4.output import Ipv4Output
    from ustack.neighbour.table import NeighbourTable
    from ustack.net import Net
    from ustack.routing.route import Routing
    from ustack.tcp.control import TcpTimer

_DOFF_MIN: Final = 5 << 4  # the least a header can say of its own length, where it says it
#: What is longer is verified only once it is known whose it is (bytes; CHECKSUM_BREAK).
CHECKSUM_BREAK: Final[i64] = 76


class Tables(TcpTables):
    """The room's tables, able to make the room's sockets."""

    def __init__(
        self, net: Net, ipv4: Ipv4Output, routing: Routing, neighbours: NeighbourTable, devices: Devices
    ) -> None:
        super().__init__(net, ipv4, routing, neighbours, devices, BindTable(net))

    def new_sock(self) -> TcpSock:
        return TcpSock(self.net, self, self.congestion.default())

    def new_timer(self, tp: TcpControl, kind: i64) -> TcpTimer:
        return tcp_new_timer(tp, kind)


class BatchEnd(Flusher):
    """What waits for the end of a batch of received frames: owners are told, devices fed, then ACKs are sent."""

    def __init__(self, tables: TcpTables) -> None:
        self.tables: TcpTables = tables

    def acknowledge(self, tp: TcpControl) -> None:
        """One ACK for all that the batch has brought."""
        tracer = self.tables.net.tracer
        if tracer is not None:
            tracer.call(Point.TCP_BATCH_END, "the end of a batch", SocketGiven(tp))
            tracer.resume(tp.journey)
        tcp_send_ack(tp)

    def flush(self) -> None:
        tables = self.tables
        while tables.wakeups:
            woken, tables.wakeups = tables.wakeups, []
            for tp in woken:
                tell(tp)
        tables.batching = False
        if tables.throttled:
            waiting, tables.throttled = tables.throttled, []
            for tp in waiting:
                tcp_tsq_handler(tp)
        if tables.acks:
            owing, tables.acks = tables.acks, []
            for tp in owing:
                tp.ack_queued = False
                if tp.ack_pending:
                    self.acknowledge(tp)


class Tcp(NetProtocol):
    """The protocol of one stack."""

    def __init__(
        self, net: Net, ipv4: Ipv4Output, routing: Routing, neighbours: NeighbourTable, devices: Devices
    ) -> None:
        self.net: Net = net
        self.tables: Tables = Tables(net, ipv4, routing, neighbours, devices)
        devices.at_softirq_end(BatchEnd(self.tables))

    def new_sock(self) -> TcpSock:
        """An unbound, unconnected socket."""
        return self.tables.new_sock()

    def pending(self) -> bool:
        """Whether somebody waits for the end of a batch though none is being received: a poll will tell them."""
        return len(self.tables.wakeups) != 0

    def handler(self, packet: Packet) -> None:
        """tcp_v4_rcv: parse, verify, find the connection, hand over."""
        net = self.net
        iph = packet.iph
        assert iph is not None
        if packet.pkt_type != PACKET_HOST or not to_one_host(packet):
            # RFC 9293 MUST-57: "MUST silently discard an incoming SYN segment that is addressed to a broadcast or
            # multicast address"; Linux discards every other segment too
            return net.drop(packet, Reason.TCP_NOT_UNICAST)
        net.mib.tcp.InSegs += 1
        th = wire.parse(packet.buf, packet.data, packet.end)
        if th is None:
            return net.drop(packet, malformed(packet))
        journey = packet.journey
        if journey is not None:
            journey.step(Point.TCP_V4_RCV, checksum_words(packet), segment_facts(packet, iph, th))
        if packet.ip_summed == CHECKSUM_NONE and not checksum_ok(packet, iph):
            return self.bad_checksum(packet, iph, th)
        tables = self.tables
        tables.batching = True
        early = packet.sk
        if isinstance(early, TcpControl) and early.ehash_key >= 0:
            tp: TcpControl | None = early
            inet_sk_rx_dst_set(early, packet)
        else:
            tp = tables.lookup_established(iph.saddr, th.sport, iph.daddr, th.dport, inet_iif(packet))
        if journey is not None:
            journey.step(Point.INET_LOOKUP_ESTABLISHED, lookup_words(tp, early is not None))
        if tp is not None:
            if journey is not None:
                tp.journey = journey
            if iph.ttl < tp.min_ttl:
                return net.drop(packet, Reason.TCP_MINTTL)
            if th.payload > th.options and not th.only_timestamps:
                reason = tcp_inbound_hash(packet, th)
                if reason is not None:
                    return net.drop(packet, reason)
            return tcp_v4_do_rcv(tp, packet, th)
        self.not_established(packet, iph, th)

    def bad_checksum(self, packet: Packet, iph: Ipv4Header, th: TcpHeader) -> None:
        """Drop it. A connection has counted what is long, which Linux verifies after it has found one."""
        if packet.end - packet.data > CHECKSUM_BREAK:
            tp = self.tables.lookup_established(iph.saddr, th.sport, iph.daddr, th.dport, inet_iif(packet))
            if tp is not None and iph.ttl < tp.min_ttl:
                return self.net.drop(packet, Reason.TCP_MINTTL)
            if tp is not None:
                tcp_segs_in(tp, packet, th)
        self.net.drop(packet, Reason.TCP_CSUM)

    def not_established(self, packet: Packet, iph: Ipv4Header, th: TcpHeader) -> None:
        """Being opened, just closed, for a listener, or for nobody."""
        tables = self.tables
        ifindex = inet_iif(packet)
        if tables.requests:
            req = tables.requests.lookup(iph.saddr, th.sport, iph.daddr, th.dport, ifindex)
            if req is not None and req.listener.state != TCP_LISTEN:
                req.remove()  # its listener is gone: there may be another
            elif req is not None:
                if iph.ttl < req.listener.min_ttl:
                    return self.net.drop(packet, Reason.TCP_MINTTL)
                reason = tcp_inbound_hash(packet, th)
                if reason is not None:
                    return self.net.drop(packet, reason)
                child = tcp_check_req(req, packet, th)
                return None if child is None else tcp_v4_do_rcv(child, packet, th)
        listener = tables.lookup_listener(iph.daddr, th.dport, ifindex, iph.saddr, th.sport)
        isn: i64 = NO_ISN
        if tables.timewait:
            tw = tables.timewait.lookup(iph.saddr, th.sport, iph.daddr, th.dport, ifindex)
            if tw is not None:
                isn = tcp_timewait_state_process(tw, packet, th, listener is not None)
                if isn == NO_ISN:
                    return None
        return self.to_listener(listener, packet, iph, th, isn)

    def to_listener(
        self, listener: TcpControl | None, packet: Packet, iph: Ipv4Header, th: TcpHeader, isn: i64
    ) -> None:
        """RFC 9293 section 3.10.7.2 (LISTEN), and 3.10.7.1 (CLOSED) where nobody listens."""
        if packet.journey is not None:
            packet.journey.step(Point.INET_LOOKUP_LISTENER, lookup_words(listener, False))
        if listener is None:
            tcp_v4_send_reset(self.tables, packet, th, Reason.NO_SOCKET)
            return self.net.drop(packet, Reason.NO_SOCKET)
        if iph.ttl < listener.min_ttl:
            return self.net.drop(packet, Reason.TCP_MINTTL)
        reason = tcp_inbound_hash(packet, th)
        if reason is not None:
            return self.net.drop(packet, reason)
        if th.flags & TCPHDR_RST:
            # "first, check for a RST: An incoming RST segment could not be valid [...] should be ignored"
            return self.net.drop(packet, Reason.TCP_FLAGS)
        if th.flags & TCPHDR_ACK:
            # "second, check for an ACK: Any acknowledgment is bad if it arrives on a connection still in LISTEN", but
            # for the end of a handshake that a SYN cookie began
            req = cookie_v4_check(listener, packet, th)
            if req is not None:
                child = tcp_v4_syn_recv_sock(req, packet, th)
                if child is not None:
                    tcp_accept_queue_add(child)
                    tcp_v4_do_rcv(child, packet, th)
                return None
            tcp_v4_send_reset(self.tables, packet, th, Reason.TCP_FLAGS)
            return self.net.drop(packet, Reason.TCP_FLAGS)
        if not th.flags & TCPHDR_SYN or th.flags & TCPHDR_FIN:
            return self.net.drop(packet, Reason.TCP_FLAGS)
        return tcp_conn_request(listener, packet, th, isn)

    def early_demux(self, packet: Packet, iph: Ipv4Header) -> None:
        """tcp_v4_early_demux: find the connection now instead of later, and the way its packets come with it."""
        at = packet.transport_header
        buf = packet.buf
        tables = self.tables
        if self.net.sysctl.tcp_early_demux == 0 or at + TCP_HLEN > packet.end or buf[at + 12] < _DOFF_MIN:
            return
        tp = tables.lookup_established(iph.saddr, u16(buf, at), iph.daddr, u16(buf, at + 2), inet_iif(packet))
        if packet.journey is not None:
            packet.journey.step(Point.TCP_V4_EARLY_DEMUX, lookup_words(tp, False))
        if tp is not None:
            sk_edemux(packet, tp, tables.routing.fib.genid)

    def err_handler(self, packet: Packet, icmp_type: i64, code: i64, info: i64) -> None:
        tcp_v4_err(self.tables, packet, icmp_type, code, info)


def to_one_host(packet: Packet) -> bool:
    """False if the packet was routed to a group of hosts, whatever its frame says."""
    dst = packet.dst
    return dst is None or not to_many(dst)


def malformed(packet: Packet) -> Reason:
    """Why there is no header in it: a data offset that no segment can have counts as an error of the peer's."""
    short = packet.end - packet.data < TCP_HLEN
    return Reason.TCP_TRUNCATED if short or packet.buf[packet.data + 12] >= _DOFF_MIN else Reason.TCP_MALFORMED


def tcp_inbound_hash(packet: Packet, th: TcpHeader) -> Reason | None:
    """Why a signed segment is refused, None if it is not signed: no connection of ours has a key (RFC 2385, RFC 5925).

    Who signs expects signed answers and would wait for them in vain; what was signed for another connection, or made
    up, is not taken for a segment of this one. Nor is what has options that cannot be read.
    """
    found = wire.find_signature(packet.buf, th.options, th.payload)
    if found == wire.NO_SIGNATURE:
        return None
    if found == wire.SIGNATURE_MD5:
        return Reason.TCP_MD5UNEXPECTED
    return Reason.TCP_AOUNEXPECTED if found == wire.SIGNATURE_AO else Reason.TCP_AUTH_HDR


def checksum_ok(packet: Packet, iph: Ipv4Header) -> bool:
    """Verify what no device has verified (tcp_checksum_complete)."""
    pseudo = csum_tcpudp_nofold(iph.saddr, iph.daddr, packet.end - packet.data, IPPROTO_TCP)
    return csum_partial(packet.buf, packet.data, packet.end, pseudo) == 0xFFFF
