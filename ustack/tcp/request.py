"""Passive opens: connections that are not yet sockets (Linux struct tcp_request_sock, net/ipv4/inet_connection_sock.c).

A SYN costs a small object until its handshake is done. It is its own timer: the SYN-ACK goes again, a few times.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mypy_extensions import i64

from ustack.device.net_device import IPV4_MIN_MTU
from ustack.dst import dst_metric_advmss
from ustack.ipv4.options import NO_PROBLEM, ip_options_echo
from ustack.ipv4.output import first_hop, ip_dont_fragment, ip_select_ttl
from ustack.routing.flow import Flow
from ustack.sock import TCP_LISTEN
from ustack.tcp.control import TCP_MSS_DEFAULT, TCP_RTO_MAX, TCP_TIMEOUT_INIT, TcpControl
from ustack.tcp.ecn import INET_ECN_MASK, tcp_ecn_make_synack
from ustack.tcp.mini import MiniSock
from ustack.tcp.reply import bare_segment
from ustack.tcp.trace import flags_word
from ustack.tcp.window import InitialWindow, tcp_select_initial_window
from ustack.timer import NSEC_PER_SEC
from ustack.trace.points import Point
from ustack.trace.words import endpoint
from ustack.wire import tcp as wire
from ustack.wire.ipv4 import IPPROTO_TCP
from ustack.wire.tcp import TCPHDR_ACK, TCPHDR_SYN, TcpHeader

if TYPE_CHECKING:
    from ustack.dst import Dst
    from ustack.ipv4.options import IpOptions
    from ustack.packet import Packet
    from ustack.trace.journey import Facts
    from ustack.wire.ipv4 import Ipv4Header

#: How long a Fast Open connection that was reset before it was accepted counts in its listener's queue.
FASTOPEN_RST_HOLD: Final[i64] = 60 * NSEC_PER_SEC
#: A backlog smaller than this is not pruned.
PRUNE_MIN: Final[i64] = 8
#: SYN-ACKs that even a connection in a crowded queue is granted.
PRUNE_RETRIES: Final[i64] = 2

#: The window of who has not been asked for options yet.
UNDECIDED: Final = InitialWindow(0, 0, 0, 0, 0)


class RequestSock(MiniSock):
    """One half-open connection; as a timer it is its own SYN-ACK retransmission."""

    def __init__(self, listener: TcpControl, packet: Packet, th: TcpHeader, dst: Dst, irs: i64, iss: i64) -> None:
        """What the peer offers is told by ``take_options``."""
        iph = packet.iph
        assert iph is not None
        mark = inet_request_mark(listener, packet)
        super().__init__(listener.tables, iph.daddr, th.dport, iph.saddr, th.sport, mark)
        self.bound_dev_if = listener.bound_dev_if
        self.listener: TcpControl = listener
        self.dst: Dst = dst
        self.irs: i64 = irs
        self.rcv_nxt: i64 = (irs + 1) & 0xFFFF_FFFF  #: what the SYN-ACK acknowledges: more, where data was taken
        self.iss: i64 = iss
        self.syn_tos: i64 = iph.tos
        self.opt: IpOptions | None = tcp_v4_save_options(listener, packet)
        self.retransmits: i64 = 0  #: SYN-ACKs sent again, for whatever reason (num_retrans)
        self.timeouts: i64 = 0  #: those of them that nobody asked for (num_timeout)
        self.sent_at: i64 = listener.net.now
        self.tsval_first: i64 = 0  #: what our SYN-ACKs said, for who echoes it
        self.tsval_last: i64 = 0
        self.acked: bool = False  #: the handshake is done, but the accept queue was full, or data is waited for
        self.ecn_ok: bool = False
        self.saved_syn: bytes = b""
        self.hashed: bool = False
        self.accepted: bool = False  #: of Fast Open: its socket has an owner already
        self.fastopen_option: bytes = b""  #: the cookie for the SYN-ACK
        self.mss: i64 = TCP_MSS_DEFAULT
        self.sack_ok: bool = False
        self.wscale_ok: bool = False
        self.snd_wscale: i64 = 0
        self.tsoffset = self.tables.secure_tcp_ts_off(self.laddr, self.raddr)
        self.window: InitialWindow = UNDECIDED

    def take_options(self, options: wire.TcpOptions) -> None:
        """What the peer offers, of what we have too."""
        sysctl = self.tables.net.sysctl
        self.mss = min(options.mss, self.listener.user_mss or 65_535) if options.mss else TCP_MSS_DEFAULT
        self.sack_ok = options.sack_ok and sysctl.tcp_sack != 0
        self.tstamp_ok = options.saw_tstamp
        self.ts_recent = options.tsval
        self.ts_recent_stamp = self.tables.net.now
        self.wscale_ok = options.wscale >= 0 and sysctl.tcp_window_scaling != 0
        self.snd_wscale = options.wscale if self.wscale_ok else 0
        self.window = self.initial_window()

    def initial_window(self) -> InitialWindow:
        """tcp_openreq_init_rwin."""
        advmss = advertised_mss(self.dst, self.listener.user_mss)
        return tcp_select_initial_window(
            self.listener, advmss, link_window(self.dst, advmss), self.wscale_ok, self.dst, self.tstamp_ok
        )

    # -- the tables

    def insert(self) -> None:
        """inet_csk_reqsk_queue_hash_add."""
        self.tables.requests.insert(self)
        self.hashed = True
        self.listener.syn_queue_len += 1
        self.listener.syn_queue_young += 1

    def remove(self) -> None:
        """Forget it: established, reset, or given up."""
        if self.hashed:
            self.hashed = False
            self.tables.net.timers.del_timer(self)
            self.tables.requests.remove(self)
            self.listener.syn_queue_len -= 1
            if self.timeouts == 0:
                self.listener.syn_queue_young -= 1

    # -- the SYN-ACK

    def send_synack(self, clock: i64 = -1) -> None:
        """<SEQ=ISS><ACK=RCV.NXT><CTL=SYN,ACK> (RFC 9293 section 3.10.7.2; tcp_make_synack).

        ``clock``: what its timestamp shall say instead of the time (ms, without the offset), if not negative.
        """
        net = self.tables.net
        if clock >= 0:
            self.tsval_last = (clock + self.tsoffset) & 0xFFFF_FFFF
        else:
            self.tsval_last = self.mstamp()
        if self.retransmits == 0:
            self.tsval_first = self.tsval_last
        flags: i64 = TCPHDR_SYN | TCPHDR_ACK | tcp_ecn_make_synack(self.ecn_ok)
        window, options = self.synack_window(), self.synack_options()
        laddr, raddr, lport, rport = self.laddr, self.raddr, self.lport, self.rport
        packet = bare_segment(laddr, raddr, lport, rport, self.iss, self.rcv_nxt, flags, window, options)
        packet.mark = self.mark
        if net.tracer is not None:
            facts: Facts = {
                "flags": flags_word(flags),
                "seq": int(self.iss),
                "ack": int(self.rcv_nxt),
                "win": int(window),
            }
            facts["options"] = wire.options_to_str(options, 0, len(options))
            net.tracer.note(Point.TCP_V4_SEND_SYNACK, "again" if self.retransmits else "", facts)
        net.mib.tcp.OutSegs += 1
        dst, ttl = self.dst, ip_select_ttl(self.listener, self.dst)
        length = 40 + len(options) + (0 if self.opt is None else len(self.opt.data))
        # what every link takes whole will not be cut, and needs no identification
        df = length <= IPV4_MIN_MTU or ip_dont_fragment(self.listener.pmtudisc, dst)
        self.tables.ipv4.ip_build_and_send_pkt(
            packet, dst, laddr, raddr, IPPROTO_TCP, self.synack_tos(), ttl, df, None, self.opt
        )

    def synack_options(self) -> bytes:
        """Only what the SYN had (tcp_synack_options); a cookie on the first one only."""
        wscale = self.window.wscale if self.wscale_ok else -1
        advmss = self.window.advmss
        options = wire.syn_options(advmss, wscale, self.sack_ok, self.tstamp_ok, self.tsval_last, self.ts_recent)
        if len(options) + len(self.fastopen_option) <= wire.TCP_MAX_OPTIONS:
            options += self.fastopen_option
        self.fastopen_option = b""
        return options

    def synack_tos(self) -> i64:
        """The listener's, or with tcp_reflect_tos that of the SYN."""
        tos = self.listener.tos
        if self.tables.net.sysctl.tcp_reflect_tos:
            return (self.syn_tos & ~INET_ECN_MASK) | (tos & INET_ECN_MASK)
        return tos

    def send_synack_again(self) -> None:
        """The same once more (tcp_rtx_synack)."""
        mib = self.tables.net.mib
        self.retransmits += 1
        mib.tcp.RetransSegs += 1
        mib.tcpext.TCPSynRetrans += 1
        self.send_synack()

    def send_ack(self, packet: Packet, snd_nxt: i64) -> None:
        """<SEQ=SND.NXT><ACK=RCV.NXT><CTL=ACK> for what is not acceptable (tcp_v4_reqsk_send_ack)."""
        iph = packet.iph
        tos: i64 = 0 if iph is None else iph.tos & ~INET_ECN_MASK
        window = self.synack_window() >> (self.window.wscale if self.wscale_ok else 0)
        self.tcp_v4_send_ack(snd_nxt, self.rcv_nxt, window, tos, self.listener.bound_dev_if)

    def challenge(self, packet: Packet, snd_nxt: i64) -> None:
        """The same for a RST that is not at RCV.NXT (RFC 5961 section 3.2), whose answers have their own counters."""
        if self.rate_limited():
            self.tables.net.mib.tcpext.TCPACKSkippedChallenge += 1
            return
        self.tables.net.mib.tcpext.TCPChallengeACK += 1
        self.send_ack(packet, snd_nxt)

    def synack_window(self) -> i64:
        """What the SYN-ACK has promised (bytes): its field is not scaled."""
        return min(self.window.wnd, 65_535)

    def oow_rate_limited(self, th: TcpHeader) -> bool:
        limited = super().oow_rate_limited(th)
        if limited:
            self.tables.net.mib.tcpext.TCPACKSkippedSynRecv += 1
        return limited

    # -- the timer

    def timeout(self) -> i64:
        """How long the ACK may take: twice as long after every SYN-ACK (RFC 6298 (5.5); tcp_reqsk_timeout)."""
        return min(TCP_TIMEOUT_INIT << min(self.timeouts, 10), TCP_RTO_MAX)

    def arm(self) -> None:
        """Wait for the ACK."""
        self.tables.net.timers.mod_timer(self, self.tables.net.now + self.timeout())

    def fire(self) -> None:
        """reqsk_timer_handler: bounded, since the SYN's source may be forged (VU of SYN-ACK reflection, RFC 4987)."""
        net = self.tables.net
        listener = self.listener
        if net.tracer is not None:
            facts: Facts = {"from": endpoint(self.raddr, self.rport), "timeouts": int(self.timeouts)}
            net.tracer.call(Point.REQSK_TIMER_HANDLER, "half open", facts)
        if listener.state != TCP_LISTEN:
            return self.remove()
        limit = self.retries()
        defer = listener.defer_accept
        expired = self.timeouts >= limit and (not defer or not self.acked or self.timeouts >= defer)
        # who waits for data does not ask for it, but near the end: a last chance for data or ACK (syn_ack_recalc)
        resend = not defer or not self.acked or self.timeouts >= defer - 1
        net.mib.tcpext.TCPTimeouts += 1
        if expired:
            return self.remove()
        if resend:
            self.send_synack_again()
        if self.timeouts == 0:
            listener.syn_queue_young -= 1
        self.timeouts += 1
        self.arm()

    def retries(self) -> i64:
        """How often the SYN-ACK may go again; fewer, the more of the queue is taken by others as old.

        Half of the room is for the young: one that was not answered within a second was lost, or nobody means to.
        """
        listener = self.listener
        limit = listener.syn_retries or listener.net.sysctl.tcp_synack_retries
        count = listener.syn_queue_len
        if count << 1 > max(PRUNE_MIN, listener.max_ack_backlog):
            young = listener.syn_queue_young << 1
            while limit > PRUNE_RETRIES and count >= young:
                limit -= 1
                young <<= 1
        return limit


def reqsk_fastopen_remove(child: TcpControl, reset: bool) -> None:
    """The handshake of a Fast Open connection is done, or will never be.

    ``reset``: by its peer, whose address was forged perhaps, and who knows of no SYN. What waits to be accepted still
    counts in the accept queue; what was accepted counts here for a minute more, so that nobody makes the server work
    for forged SYNs as often as he likes (RFC 7413 section 5.1).
    """
    req = child.fastopen_rsk
    if req is None:
        return
    child.fastopen_rsk = None
    listener = req.listener
    listener.fastopen_qlen -= 1
    if req.accepted and reset and listener.state == TCP_LISTEN:
        if listener.fastopen_rst is None:
            listener.fastopen_rst = []
        listener.fastopen_rst.append(int(listener.net.now + FASTOPEN_RST_HOLD))
        listener.fastopen_qlen += 1


def advertised_mss(dst: Dst, user_mss: i64) -> i64:
    """What we tell the peer to send at most; ``user_mss``: TCP_MAXSEG, 0 for none (tcp_mss_clamp)."""
    mss = dst_metric_advmss(dst)
    return min(mss, user_mss) if user_mss else mss


def link_window(dst: Dst, mss: i64) -> i64:
    """Half of what the queue between us and the peer holds, 0 if it is no matter (see NetDevice.rx_queue_frames)."""
    return dst.dev.rx_queue_frames * mss // 2


def tcp_v4_save_options(listener: TcpControl, packet: Packet) -> IpOptions | None:
    """The IP options that the connection will have: the answer to those of its SYN (RFC 9293 MUST-51)."""
    if packet.opt is None:
        return None
    opt = ip_options_echo(packet.opt, listener.tables.routing)
    return opt if opt.pp_ptr == NO_PROBLEM and len(opt.data) else None


def inet_request_mark(listener: TcpControl, packet: Packet) -> i64:
    """The mark of a connection to be: its listener's, or with tcp_fwmark_accept that of its SYN."""
    if listener.mark == 0 and listener.net.sysctl.tcp_fwmark_accept != 0:
        return packet.mark
    return listener.mark


def inet_csk_route_req(listener: TcpControl, packet: Packet, iph: Ipv4Header, th: TcpHeader) -> Dst | None:
    """The way back to who sends a SYN, None if there is none."""
    mark = inet_request_mark(listener, packet)
    dev, tos, uid = listener.bound_dev_if, listener.tos, listener.uid
    addr = first_hop(tcp_v4_save_options(listener, packet), iph.saddr)
    flow = Flow(addr, iph.daddr, dev, tos, IPPROTO_TCP, th.dport, th.sport, mark, uid=uid)
    try:
        return listener.tables.routing.ip_route_output(flow)
    except OSError:
        return None
