"""A segment for a half-open connection (RFC 9293 section 3.10.7.4 for SYN-RECEIVED; Linux tcp_check_req)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mypy_extensions import i64

from ustack.drop import Reason
from ustack.tcp.accept import tcp_accept_queue_add, tcp_v4_syn_recv_sock
from ustack.tcp.finish import tcp_reset
from ustack.tcp.mini import tcp_in_window, tcp_parse_handshake, tcp_paws_reject
from ustack.tcp.reply import tcp_v4_send_reset
from ustack.tcp.request import RequestSock, reqsk_fastopen_remove
from ustack.tcp.seq import after, between
from ustack.tcp.syncookies import cookie_v4_check
from ustack.trace.points import Point
from ustack.wire.tcp import TCPHDR_ACK, TCPHDR_RST, TCPHDR_SYN, TcpHeader

if TYPE_CHECKING:
    from ustack.packet import Packet
    from ustack.tcp.control import TcpControl
    from ustack.trace.journey import Facts
    from ustack.wire import tcp as wire


def tcp_check_req(req: RequestSock, packet: Packet, th: TcpHeader) -> TcpControl | None:
    """The socket that the segment makes of ``req``, and has yet to see; None: the segment has been dealt with."""
    net = req.tables.net
    if packet.journey is not None:
        facts: Facts = {"rcv_nxt": int(req.rcv_nxt), "iss": int(req.iss), "retransmits": int(req.retransmits)}
        packet.journey.step(Point.TCP_CHECK_REQ, "half open", facts)
    options = tcp_parse_handshake(net, packet, th)
    if request_syn_again(req, packet, th, options, None):
        return None
    snd_nxt: i64 = (req.iss + 1) & 0xFFFF_FFFF
    if th.flags & (TCPHDR_ACK | TCPHDR_RST) == TCPHDR_ACK and th.ack_seq != snd_nxt:
        # RFC 9293 3.5.2: "If the connection is in any non-synchronized state (LISTEN, SYN-SENT, SYN-RECEIVED), and the
        # incoming segment acknowledges something not yet sent [...] a reset is sent", before the sequence is looked at.
        # Not of a RST: that ends the opening if it is where the next segment is.
        # It might be the listener's cookie that it echoes; but this request has the four-tuple
        if cookie_v4_check(req.listener, packet, th) is None:
            tcp_v4_send_reset(req.tables, packet, th, Reason.TCP_INVALID_ACK_SEQUENCE, req.listener.mark)
        net.drop(packet, Reason.TCP_INVALID_ACK_SEQUENCE)
        return None
    if not request_segment_acceptable(req, packet, th, options, None):
        return None
    if resets(req, th):
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
    if req.timeouts < req.listener.defer_accept and th.end_seq() == req.rcv_nxt:
        # TCP_DEFER_ACCEPT: the owner wants to hear of it when there is something to read
        req.acked = True
        net.drop(packet, Reason.TCP_DEFER_ACCEPT)
        return None
    child = tcp_v4_syn_recv_sock(req, packet, th)
    if child is not None:
        if options.saw_tstamp and not after(th.seq, req.rcv_nxt):
            child.ts_recent = options.tsval
        tcp_accept_queue_add(child)
    return child


def resets(req: RequestSock, th: TcpHeader) -> bool:
    """True for a RST, and for a SYN but the first once more: that one counts as what comes after it."""
    return th.flags & TCPHDR_RST != 0 or (th.flags & TCPHDR_SYN != 0 and th.seq != req.irs)


def tcp_check_fastopen_req(child: TcpControl, packet: Packet, th: TcpHeader) -> bool:
    """The same for a socket that Fast Open has made already; False: the segment has been dealt with.

    Whether its ACK is good is the socket's to say: data may have been sent.
    """
    req = child.fastopen_rsk
    if req is None:
        return True
    net = child.net
    options = tcp_parse_handshake(net, packet, th)
    if request_syn_again(req, packet, th, options, child):
        return False
    if not request_segment_acceptable(req, packet, th, options, child):
        return False
    if th.flags & TCPHDR_RST:
        net.mib.tcp.AttemptFails += 1
        reqsk_fastopen_remove(child, True)
        net.drop(packet, Reason.TCP_RESET)
        tcp_reset(child)
        return False
    if resets(req, th):
        # data has been taken from the peer: it is not reset for what anybody may have sent
        tcp_v4_send_reset(req.tables, packet, th, Reason.TCP_INVALID_SYN, req.listener.mark)
        net.drop(packet, Reason.TCP_INVALID_SYN)
        return False
    if not th.flags & TCPHDR_ACK:
        net.drop(packet, Reason.TCP_FLAGS)
        return False
    return True


def request_syn_again(
    req: RequestSock, packet: Packet, th: TcpHeader, options: wire.TcpOptions, child: TcpControl | None
) -> bool:
    """True if the segment is the SYN once more, and no older one: our SYN-ACK was lost, and goes again."""
    if th.flags & (TCPHDR_SYN | TCPHDR_ACK | TCPHDR_RST) != TCPHDR_SYN or th.seq != req.irs:
        return False
    if req.tstamp_ok and options.saw_tstamp and tcp_paws_reject(req, options, False):
        return False
    if not req.oow_rate_limited(th):
        req.send_synack_again()
        if child is not None:
            child.total_retrans += 1
        else:
            req.arm()
    req.tables.net.drop(packet, Reason.TCP_OLD_DATA)
    return True


def request_segment_acceptable(
    req: RequestSock, packet: Packet, th: TcpHeader, options: wire.TcpOptions, child: TcpControl | None
) -> bool:
    """PAWS and the sequence number, before an ACK may finish the handshake. False: the segment has been dealt with.

    ``child``: the socket that Fast Open has made already.
    """
    net = req.tables.net
    snd_nxt: i64 = (req.iss + 1) & 0xFFFF_FFFF if child is None else child.snd_nxt
    reason = unacceptable(req, th, options, child is not None)
    if reason is not None:
        # RFC 9293, first: "If an incoming segment is not acceptable, an acknowledgment should be sent in reply (unless
        # the RST bit is set [...])"
        if not th.flags & TCPHDR_RST and not req.oow_rate_limited(th):
            req.send_ack(packet, snd_nxt)
        net.drop(packet, reason)
        return False
    if th.flags & TCPHDR_RST and th.seq != req.rcv_nxt:
        # RFC 5961 3.2: in the window but not exactly next: "TCP endpoints MUST send an acknowledgment"
        req.challenge(packet, snd_nxt)
        net.drop(packet, Reason.TCP_INVALID_SEQUENCE)
        return False
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
    if not tcp_in_window(th.seq, th.end_seq(), req.rcv_nxt, (req.rcv_nxt + req.synack_window()) & 0xFFFF_FFFF):
        return Reason.TCP_INVALID_SEQUENCE
    return None
