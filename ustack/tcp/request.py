"""Passive opens: connections that are not yet sockets (Linux struct tcp_request_sock, tcp_conn_request, tcp_check_req).

A SYN costs a small object until its handshake is done. Both queues are bounded: half-open connections by the
backlog (SYN flood, RFC 4987), finished ones by the accept queue.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mypy_extensions import i64

from ustack.drop import Reason
from ustack.dst import Dst, to_many
from ustack.ipv4.output import ip_select_ttl
from ustack.routing.flow import Flow
from ustack.sock import TCP_LISTEN
from ustack.tcp.control import TCP_MSS_DEFAULT, TCP_RTO_MAX, TCP_TIMEOUT_INIT, TcpControl
from ustack.tcp.mini import MiniSock
from ustack.tcp.reply import bare_segment, send_bare
from ustack.tcp.seq import after, before, between
from ustack.tcp.tables import NO_ISN
from ustack.tcp.window import InitialWindow, tcp_select_initial_window
from ustack.wire import tcp as wire
from ustack.wire.ipv4 import IPPROTO_TCP
from ustack.wire.tcp import TCPHDR_ACK, TCPHDR_SYN, TcpHeader

if TYPE_CHECKING:
    from ustack.packet import Packet
    from ustack.wire.ipv4 import Ipv4Header


class RequestSock(MiniSock):
    """One half-open connection; as a timer it is its own SYN-ACK retransmission."""

    def __init__(self, listener: TcpControl, packet: Packet, th: TcpHeader, dst: Dst, iss: i64) -> None:
        iph = packet.iph
        assert iph is not None
        mark = inet_request_mark(listener, packet)
        super().__init__(listener.tables, iph.daddr, th.dport, iph.saddr, th.sport, mark)
        self.listener: TcpControl = listener
        self.dst: Dst = dst
        self.irs: i64 = th.seq
        self.iss: i64 = iss
        self.retransmits: i64 = 0  #: SYN-ACKs sent again, for whatever reason (num_retrans)
        self.timeouts: i64 = 0  #: those of them that nobody asked for (num_timeout)
        self.sent_at: i64 = listener.net.now
        self.acked: bool = False  #: the handshake is done, but the accept queue was full
        self._take_options(listener, packet, th)
        advmss = advertised_mss(dst, listener.user_mss)
        self.wscale_ok: bool = self.snd_wscale >= 0
        self.window: InitialWindow = tcp_select_initial_window(
            listener, advmss, link_window(dst, advmss), self.wscale_ok, dst
        )

    def _take_options(self, listener: TcpControl, packet: Packet, th: TcpHeader) -> None:
        options = wire.parse_options(packet.buf, th.options, th.payload)
        sysctl = listener.net.sysctl
        self.mss: i64 = options.mss if options.mss else TCP_MSS_DEFAULT
        self.tstamp_ok = options.saw_tstamp and sysctl.tcp_timestamps != 0
        self.ts_recent = options.tsval
        self.snd_wscale: i64 = options.wscale if sysctl.tcp_window_scaling else -1
        self.snd_wnd: i64 = th.window
        self.tsoffset = listener.tables.secure_tcp_ts_off(self.laddr, self.raddr)

    # -- the tables

    def insert(self) -> None:
        self.tables.requests.insert(self)
        self.listener.syn_queue_len += 1

    def remove(self) -> None:
        """Forget it: established, reset, or given up."""
        self.tables.net.timers.del_timer(self)
        self.tables.requests.remove(self)
        self.listener.syn_queue_len -= 1

    # -- the SYN-ACK

    def send_synack(self) -> None:
        """<SEQ=ISS><ACK=RCV.NXT><CTL=SYN,ACK> (RFC 9293 section 3.10.7.2; tcp_make_synack)."""
        net = self.tables.net
        wscale = self.window.wscale if self.wscale_ok else -1
        options = wire.syn_options(self.window.advmss, wscale, False, self.tstamp_ok, self.mstamp(), self.ts_recent)
        seq, ack = self.iss, (self.irs + 1) & 0xFFFF_FFFF
        flags: i64 = TCPHDR_SYN | TCPHDR_ACK
        packet = bare_segment(self.laddr, self.raddr, self.lport, self.rport, seq, ack, flags, self.window.wnd, options)
        packet.mark = self.mark
        net.mib.tcp.OutSegs += 1
        dst, tos, ttl = self.dst, self.listener.tos, ip_select_ttl(self.listener, self.dst)
        self.tables.ipv4.ip_build_and_send_pkt(packet, dst, self.laddr, self.raddr, IPPROTO_TCP, tos, ttl, True)

    def send_synack_again(self) -> None:
        """The same once more (tcp_rtx_synack)."""
        mib = self.tables.net.mib
        self.retransmits += 1
        mib.tcp.RetransSegs += 1
        mib.tcpext.TCPSynRetrans += 1
        self.send_synack()

    def send_ack(self) -> None:
        """<SEQ=SND.NXT><ACK=RCV.NXT><CTL=ACK> for what is not acceptable, once in tcp_invalid_ratelimit
        (tcp_v4_reqsk_send_ack)."""
        if self.oow_rate_limited():
            return
        options = self.ack_options()
        window = self.window.wnd >> (self.window.wscale if self.wscale_ok else 0)
        seq, ack = (self.iss + 1) & 0xFFFF_FFFF, (self.irs + 1) & 0xFFFF_FFFF
        laddr, raddr, lport, rport = self.laddr, self.raddr, self.lport, self.rport
        send_bare(self.tables, laddr, raddr, lport, rport, seq, ack, TCPHDR_ACK, window, options, mark=self.mark)

    def oow_rate_limited(self) -> bool:
        limited = super().oow_rate_limited()
        if limited:
            self.tables.net.mib.tcpext.TCPACKSkippedSynRecv += 1
        return limited

    def arm(self) -> None:
        """Wait for the ACK, twice as long after every SYN-ACK (RFC 6298 (5.5))."""
        delay = min(TCP_TIMEOUT_INIT << min(self.timeouts, 10), TCP_RTO_MAX)
        self.tables.net.timers.mod_timer(self, self.tables.net.now + delay)

    def fire(self) -> None:
        """reqsk_timer_handler: bounded, since the SYN's source may be forged (VU of SYN-ACK reflection, RFC 4987)."""
        net = self.tables.net
        limit = self.listener.syn_retries or net.sysctl.tcp_synack_retries
        if self.listener.state != TCP_LISTEN or self.timeouts >= limit:
            net.mib.tcp.AttemptFails += 1
            self.remove()
            return
        self.timeouts += 1
        self.send_synack_again()
        self.arm()


def advertised_mss(dst: Dst, user_mss: i64) -> i64:
    """What we tell the peer to send at most (RFC 9293 MUST-16, RFC 6691; dst_metric_advmss)."""
    mss = dst.advmss if dst.advmss else max(dst.mtu - 40, 256)
    mss = min(mss, 65_495)
    return min(mss, user_mss) if user_mss else mss


def link_window(dst: Dst, mss: i64) -> i64:
    """Half of what the queue between us and the peer holds, 0 if it is no matter (see NetDevice.rx_queue_frames)."""
    return dst.dev.rx_queue_frames * mss // 2


def inet_request_mark(listener: TcpControl, packet: Packet) -> i64:
    """The mark of a connection to be: its listener's, or with tcp_fwmark_accept that of its SYN."""
    if listener.mark == 0 and listener.net.sysctl.tcp_fwmark_accept != 0:
        return packet.mark
    return listener.mark


def inet_csk_route_req(listener: TcpControl, packet: Packet, iph: Ipv4Header, th: TcpHeader) -> Dst | None:
    """The way back to who sends a SYN, None if there is none."""
    mark = inet_request_mark(listener, packet)
    dev, tos, uid = listener.bound_dev_if, listener.tos, listener.uid
    flow = Flow(iph.saddr, iph.daddr, dev, tos, IPPROTO_TCP, th.dport, th.sport, mark, uid=uid)
    try:
        return listener.tables.routing.ip_route_output(flow)
    except OSError:
        return None


def tcp_conn_request(listener: TcpControl, packet: Packet, th: TcpHeader, isn: i64) -> None:
    """A SYN for a listener (RFC 9293 section 3.10.7.2, third step); ``isn`` to begin with, NO_ISN to choose one."""
    net = listener.net
    tables = listener.tables
    iph = packet.iph
    assert iph is not None
    if listener.accept_queue is not None and len(listener.accept_queue) > listener.max_ack_backlog:
        return net.drop(packet, Reason.TCP_LISTEN_OVERFLOW)
    if listener.syn_queue_len >= min(max(listener.max_ack_backlog, 8), net.sysctl.tcp_max_syn_backlog):
        return net.drop(packet, Reason.TCP_REQQ_FULL)
    dst = inet_csk_route_req(listener, packet, iph, th)
    if dst is None:
        return net.drop(packet, Reason.IP_OUTNOROUTES)
    if to_many(dst):
        # RFC 9293 MUST-63: "an incoming SYN with an invalid source address [...] MUST be ignored"; the way in lets a
        # link's broadcast address through, as Linux does
        return net.drop(packet, Reason.IP_INVALID_SOURCE)
    if isn == NO_ISN:
        isn = tables.secure_tcp_seq(iph.daddr, iph.saddr, th.dport, th.sport)
    req = RequestSock(listener, packet, th, dst, isn)
    req.insert()
    req.send_synack()
    req.arm()
    net.deliver(packet)


def request_syn_again(req: RequestSock, packet: Packet, th: TcpHeader) -> bool:
    """True if the segment is the SYN once more: our SYN-ACK was lost, and goes again."""
    if th.flags & (TCPHDR_SYN | TCPHDR_ACK | wire.TCPHDR_RST) != TCPHDR_SYN or th.seq != req.irs:
        return False
    if not req.oow_rate_limited():
        req.send_synack_again()
    req.tables.net.drop(packet, Reason.TCP_OLD_DATA)
    return True


def request_segment_acceptable(req: RequestSock, packet: Packet, th: TcpHeader) -> bool:
    """PAWS and the sequence number, before an ACK may finish the handshake. False: the segment has been dealt with."""
    options = wire.parse_options(packet.buf, th.options, th.payload)
    paws = req.tstamp_ok and options.saw_tstamp and before(options.tsval, req.ts_recent)
    rcv_nxt = (req.irs + 1) & 0xFFFF_FFFF
    end = (th.seq + (th.end - th.payload)) & 0xFFFF_FFFF
    limit = (rcv_nxt + req.window.wnd) & 0xFFFF_FFFF
    if paws or before(end, rcv_nxt) or not between(th.seq, (rcv_nxt - 1) & 0xFFFF_FFFF, limit):
        # RFC 9293, first: "If an incoming segment is not acceptable, an acknowledgment should be sent in reply (unless
        # the RST bit is set [...])"
        if not th.flags & wire.TCPHDR_RST:
            req.send_ack()
        req.tables.net.drop(packet, Reason.TCP_RFC7323_PAWS if paws else Reason.TCP_INVALID_SEQUENCE)
        return False
    if options.saw_tstamp and not after(th.seq, rcv_nxt):
        req.ts_recent = options.tsval
    return True
