"""Explicit congestion notification for TCP (RFC 3168 section 6.1; Linux include/net/tcp_ecn.h).

Both ends agree in the handshake (ECE and CWR on the SYN, ECE alone on the SYN-ACK). From then on new data is sent as
ECT(0); a packet that comes in with CE is echoed as ECE on every ACK until the sender says CWR. ``tp.tos`` carries the
codepoint of what is sent next (INET_ECN_xmit), ``ecn_flags`` the rest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mypy_extensions import i64

from ustack.routing.metrics import DST_FEATURE_ECN_CA, RTAX_FEATURE_ECN
from ustack.routing.uapi import RTAX_FEATURES
from ustack.tcp.congestion.base import CA_EVENT_ECN_IS_CE, CA_EVENT_ECN_NO_CE
from ustack.tcp.control import (
    ICSK_ACK_NOW,
    TCP_ECN_DEMAND_CWR,
    TCP_ECN_OK,
    TCP_ECN_QUEUE_CWR,
    TCP_ECN_SEEN,
    TcpControl,
)
from ustack.tcp.seq import before
from ustack.wire.tcp import TCPHDR_CWR, TCPHDR_ECE, TCPHDR_SYN, TcpHeader

if TYPE_CHECKING:
    from ustack.dst import Dst
    from ustack.packet import Packet
    from ustack.tcp.segment import TcpSkb

# codepoints in the two low bits of the TOS (RFC 3168 section 5)
INET_ECN_NOT_ECT: Final[i64] = 0
INET_ECN_ECT_1: Final[i64] = 1
INET_ECN_ECT_0: Final[i64] = 2
INET_ECN_CE: Final[i64] = 3
INET_ECN_MASK: Final[i64] = 3

TCPHDR_SYN_ECN: Final = TCPHDR_SYN | TCPHDR_ECE | TCPHDR_CWR
#: ACKs at once after a first CE, or a segment without ECT where others had it: a probable retransmission.
ECN_QUICKACKS: Final[i64] = 2


def INET_ECN_xmit(tp: TcpControl) -> None:
    """What is sent from now on is ECN-capable."""
    tp.tos |= INET_ECN_ECT_0


def INET_ECN_dontxmit(tp: TcpControl) -> None:
    tp.tos &= ~INET_ECN_MASK


def packet_ecn(packet: Packet) -> i64:
    """The codepoint that a packet came with."""
    iph = packet.iph
    return INET_ECN_NOT_ECT if iph is None else iph.tos & INET_ECN_MASK


# -- handshake, active


def tcp_ecn_send_syn(tp: TcpControl, skb: TcpSkb) -> None:
    """Offer ECN on our SYN if the sysctl, the algorithm or the route says so.

    RFC 3168 6.1.1: "A host MUST NOT set ECT on SYN or SYN-ACK packets", but for algorithms that need it (RFC 8311).
    """
    needed = tp.congestion.needs_ecn
    tp.ecn_flags = 0
    if needed or tp.net.sysctl.tcp_ecn == 1 or tp.route_metric(RTAX_FEATURES) & RTAX_FEATURE_ECN:
        if needed:
            INET_ECN_xmit(tp)
        skb.flags |= TCPHDR_ECE | TCPHDR_CWR
        tp.ecn_flags = TCP_ECN_OK


def tcp_ecn_clear_syn(tp: TcpControl, skb: TcpSkb) -> None:
    """The SYN goes again: without ECN, in case that it was dropped for it (RFC 3168 6.1.1.1, tcp_ecn_fallback).

    ``ecn_flags`` wait for the SYN-ACK, which may still answer the first one.
    """
    if tp.net.sysctl.tcp_ecn_fallback and skb.flags & TCPHDR_SYN_ECN == TCPHDR_SYN_ECN:
        skb.flags &= ~(TCPHDR_ECE | TCPHDR_CWR)


def tcp_ecn_rcv_synack(tp: TcpControl, th: TcpHeader) -> None:
    """RFC 3168 6.1.1: an "ECN-setup SYN-ACK packet" has ECE set and CWR not; with any other ECN is off."""
    if th.flags & (TCPHDR_ECE | TCPHDR_CWR) != TCPHDR_ECE:
        tp.ecn_flags &= ~TCP_ECN_OK


def tcp_ecn_rcv_syn(tp: TcpControl, th: TcpHeader) -> None:
    """A SYN that crossed ours: an "ECN-setup SYN packet" has both bits."""
    if th.flags & (TCPHDR_ECE | TCPHDR_CWR) != TCPHDR_ECE | TCPHDR_CWR:
        tp.ecn_flags &= ~TCP_ECN_OK


def tcp_ecn_send_synack(tp: TcpControl, skb: TcpSkb) -> None:
    """Our SYN becomes the SYN-ACK of a simultaneous open."""
    skb.flags &= ~TCPHDR_CWR
    if not tp.ecn_flags & TCP_ECN_OK:
        skb.flags &= ~TCPHDR_ECE
    elif tp.congestion.needs_ecn:
        INET_ECN_xmit(tp)


# -- handshake, passive


def tcp_ecn_create_request(listener: TcpControl, packet: Packet, th: TcpHeader, dst: Dst) -> bool:
    """True if the connection that this SYN asks for will have ECN (the request's ecn_ok); ``dst``: the way back.

    A SYN that is ECT itself comes from a broken or an experimental host (RFC 8311): believed only where the algorithm
    needs ECN.
    """
    if th.flags & (TCPHDR_ECE | TCPHDR_CWR) != TCPHDR_ECE | TCPHDR_CWR:
        return False
    features = dst.metric(RTAX_FEATURES)
    wanted = listener.net.sysctl.tcp_ecn != 0 or features & (RTAX_FEATURE_ECN | DST_FEATURE_ECN_CA) != 0
    if packet_ecn(packet) == INET_ECN_NOT_ECT and wanted:
        return True
    return listener.congestion.needs_ecn or features & DST_FEATURE_ECN_CA != 0


def tcp_ecn_make_synack(ecn_ok: bool) -> i64:
    """The flags that the SYN-ACK of a request has besides."""
    return TCPHDR_ECE if ecn_ok else 0


def tcp_ecn_openreq_child(child: TcpControl, ecn_ok: bool) -> None:
    """The request has become a socket."""
    child.ecn_flags = TCP_ECN_OK if ecn_ok else 0


# -- sending


def tcp_ecn_send(tp: TcpControl, seq: i64, flags: i64, length: i64) -> i64:
    """The flags of a segment about to be sent (no SYN) once ECN is agreed, ECE and CWR added; sets ``tp.tos`` for it.

    RFC 3168 6.1.5: "the ECN-capable TCP data sender MUST NOT set either an ECT codepoint or the CWR bit [...] in the IP
    header for retransmitted data packets"; 6.1.4: nor ECT on pure ACKs. 6.1.2: CWR goes on "the first new data packet
    sent after the window reduction", and a super-segment's first piece alone may carry it.
    """
    if length and not before(seq, tp.snd_nxt):
        INET_ECN_xmit(tp)
        if tp.ecn_flags & TCP_ECN_QUEUE_CWR:
            tp.ecn_flags &= ~TCP_ECN_QUEUE_CWR
            flags |= TCPHDR_CWR
    elif not tp.congestion.needs_ecn:
        INET_ECN_dontxmit(tp)
    if tp.ecn_flags & TCP_ECN_DEMAND_CWR:
        flags |= TCPHDR_ECE
    return flags


def tcp_ecn_queue_cwr(tp: TcpControl) -> None:
    """The window was reduced: the next new data says so."""
    if tp.ecn_flags & TCP_ECN_OK:
        tp.ecn_flags |= TCP_ECN_QUEUE_CWR


def tcp_ecn_withdraw_cwr(tp: TcpControl) -> None:
    """The reduction was undone before anybody was told."""
    tp.ecn_flags &= ~TCP_ECN_QUEUE_CWR


# -- receiving


def tcp_ecn_accept_cwr(tp: TcpControl, th: TcpHeader) -> None:
    """The peer has reduced its window: no more ECE. Its window may be a single segment, so data is answered at once.

    RFC 3168 6.1.3: "the TCP receiver [...] continues to set the ECN-Echo flag [...] until it receives a CWR packet".
    """
    if th.flags & TCPHDR_CWR and tp.ecn_flags & TCP_ECN_OK:
        tp.ecn_flags &= ~TCP_ECN_DEMAND_CWR
        if th.end != th.payload:
            tp.ack_pending |= ICSK_ACK_NOW


def tcp_ecn_check_ce(tp: TcpControl, packet: Packet) -> None:
    """Data has come: was it marked on its way (tcp_data_ecn_check)?"""
    if not tp.ecn_flags & TCP_ECN_OK:
        return
    codepoint = packet_ecn(packet)
    if codepoint == INET_ECN_NOT_ECT:
        # RFC 3168 does not ask for it: what is not ECT between segments that are is probably a retransmission
        if tp.ecn_flags & TCP_ECN_SEEN:
            tp.enter_quickack_mode(ECN_QUICKACKS)
        return
    marked = codepoint == INET_ECN_CE
    if tp.congestion.needs_ecn:
        tp.congestion.cwnd_event(tp, CA_EVENT_ECN_IS_CE if marked else CA_EVENT_ECN_NO_CE)
    if marked and not tp.ecn_flags & TCP_ECN_DEMAND_CWR:
        tp.enter_quickack_mode(ECN_QUICKACKS)
        tp.ecn_flags |= TCP_ECN_DEMAND_CWR
    tp.ecn_flags |= TCP_ECN_SEEN


def tcp_ecn_rcv_ecn_echo(tp: TcpControl, th: TcpHeader) -> bool:
    """True if the ACK says that a packet of ours was marked."""
    return th.flags & (TCPHDR_ECE | TCPHDR_SYN) == TCPHDR_ECE and tp.ecn_flags & TCP_ECN_OK != 0
