"""A segment for a half-open connection (RFC 9293 section 3.10.7.4 for SYN-RECEIVED; Linux tcp_check_req)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ustack.drop import Reason
from ustack.tcp.accept import tcp_v4_syn_recv_sock
from ustack.tcp.finish import tcp_reset
from ustack.tcp.mini import tcp_in_window, tcp_paws_reject
from ustack.tcp.reply import tcp_v4_send_reset
from ustack.tcp.request import RequestSock, reqsk_fastopen_remove
from ustack.tcp.seq import after, between
from ustack.trace.points import Point
from ustack.wire import tcp as wire
from ustack.wire.tcp import TCPHDR_ACK, TCPHDR_FIN, TCPHDR_RST, TCPHDR_SYN, TcpHeader

if TYPE_CHECKING:
    from ustack.packet import Packet
    from ustack.tcp.control import TcpControl
    from ustack.trace.journey import Facts


def tcp_check_req(req: RequestSock, packet: Packet, th: TcpHeader) -> TcpControl | None:
    """The socket that the segment makes of ``req``, and has yet to see; None: the segment has been dealt with."""
    net = req.tables.net
    if packet.journey is not None:
        facts: Facts = {"rcv_nxt": int(req.rcv_nxt), "iss": int(req.iss), "retransmits": int(req.retransmits)}
        packet.journey.step(Point.TCP_CHECK_REQ, "half open", facts)
    if request_syn_again(req, packet, th, None):
        return None
    if th.flags & TCPHDR_ACK and th.ack_seq != (req.iss + 1) & 0xFFFF_FFFF:
        # RFC 9293 3.5.2: "If the connection is in any non-synchronized state (LISTEN, SYN-SENT, SYN-RECEIVED), and the
        # incoming segment acknowledges something not yet sent [...] a reset is sent", before the sequence is looked at
        tcp_v4_send_reset(req.tables, packet, th, Reason.TCP_INVALID_ACK_SEQUENCE, req.listener.mark)
        net.drop(packet, Reason.TCP_INVALID_ACK_SEQUENCE)
        return None
    if not request_segment_acceptable(req, packet, th, False):
        return None
    if th.flags & (TCPHDR_RST | TCPHDR_SYN):
        # "If this connection was initiated with a passive OPEN, then return this connection to the LISTEN state"
        if not th.flags & TCPHDR_RST:
            tcp_v4_send_reset(req.tables, packet, th, Reason.TCP_RESET, req.listener.mark)
        net.mib.tcp.AttemptFails += 1
        net.mib.tcpext.EmbryonicRsts += 1
        req.remove()
        net.drop(packet, Reason.TCP_RESET)
        return None
    if not th.flags & TCPHDR_ACK:
        net.drop(packet, Reason.TCP_FLAGS)
        return None
    if req.timeouts < req.listener.defer_accept and th.end == th.payload and not th.flags & TCPHDR_FIN:
        # TCP_DEFER_ACCEPT: the owner wants to hear of it when there is something to read
        req.acked = True
        net.drop(packet, Reason.TCP_DEFER_ACCEPT)
        return None
    return tcp_v4_syn_recv_sock(req, packet, th)


def tcp_check_fastopen_req(child: TcpControl, packet: Packet, th: TcpHeader) -> bool:
    """The same for a socket that Fast Open has made already; False: the segment has been dealt with.

    Whether its ACK is good is the socket's to say: data may have been sent.
    """
    req = child.fastopen_rsk
    if req is None:
        return True
    net = child.net
    if request_syn_again(req, packet, th, child) or not request_segment_acceptable(req, packet, th, True):
        return False
    if th.flags & TCPHDR_RST:
        net.mib.tcp.AttemptFails += 1
        reqsk_fastopen_remove(child, True)
        net.drop(packet, Reason.TCP_RESET)
        tcp_reset(child)
        return False
    if th.flags & TCPHDR_SYN:
        # data has been taken from the peer: it is not reset for what anybody may have sent
        tcp_v4_send_reset(req.tables, packet, th, Reason.TCP_INVALID_SYN, req.listener.mark)
        net.drop(packet, Reason.TCP_INVALID_SYN)
        return False
    if not th.flags & TCPHDR_ACK:
        net.drop(packet, Reason.TCP_FLAGS)
        return False
    return True


def request_syn_again(req: RequestSock, packet: Packet, th: TcpHeader, child: TcpControl | None) -> bool:
    """True if the segment is the SYN once more: our SYN-ACK was lost, and goes again."""
    if th.flags & (TCPHDR_SYN | TCPHDR_ACK | TCPHDR_RST) != TCPHDR_SYN or th.seq != req.irs:
        return False
    if not req.oow_rate_limited(th):
        req.send_synack_again()
        if child is not None:
            child.total_retrans += 1
        else:
            req.arm()
    req.tables.net.drop(packet, Reason.TCP_OLD_DATA)
    return True


def request_segment_acceptable(req: RequestSock, packet: Packet, th: TcpHeader, fastopen: bool) -> bool:
    """PAWS and the sequence number, before an ACK may finish the handshake. False: the segment has been dealt with."""
    options = wire.parse_options(packet.buf, th.options, th.payload)
    net = req.tables.net
    reason = unacceptable(req, th, options, fastopen)
    if reason is not None:
        # RFC 9293, first: "If an incoming segment is not acceptable, an acknowledgment should be sent in reply (unless
        # the RST bit is set [...])"
        if not th.flags & TCPHDR_RST:
            req.send_ack(th)
        net.drop(packet, reason)
        return False
    if th.flags & TCPHDR_RST and th.seq != req.rcv_nxt:
        # RFC 5961 3.2: in the window but not exactly next: "TCP endpoints MUST send an acknowledgment"
        req.send_ack(th)
        net.drop(packet, Reason.TCP_INVALID_SEQUENCE)
        return False
    if req.tstamp_ok and options.saw_tstamp and not after(th.seq, req.rcv_nxt):
        req.ts_recent = options.tsval
    return True


def unacceptable(req: RequestSock, th: TcpHeader, options: wire.TcpOptions, fastopen: bool) -> Reason | None:
    """Why the segment is none of this handshake, None if it may be."""
    if req.tstamp_ok and options.saw_tstamp:
        if tcp_paws_reject(req, options, th.flags & TCPHDR_RST != 0):
            return Reason.TCP_RFC7323_PAWS
        # RFC 7323 4.2: only an echo of what a SYN-ACK of ours has said shows that the peer has seen one
        if options.tsecr and not fastopen and not between(options.tsecr, req.tsval_first, req.tsval_last):
            return Reason.TCP_RFC7323_TSECR
    # a SYN with the number of the first one counts as what comes after it (RFC 9293: "trim the segment")
    if not tcp_in_window(th.seq, th.end_seq(), req.rcv_nxt, (req.rcv_nxt + req.window.wnd) & 0xFFFF_FFFF):
        return Reason.TCP_INVALID_SEQUENCE
    return None
