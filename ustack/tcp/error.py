"""ICMP errors about our segments (RFC 5927, RFC 9293 section 3.9.2.2; Linux tcp_v4_err, tcp_v4_mtu_reduced)."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from mypy_extensions import i64

from ustack.error_queue import ErrorQueue, IcmpError
from ustack.ipv4.icmp import ICMP_ERR_CONVERT
from ustack.ipv4.output import ip_dont_fragment, sk_flow
from ustack.sock import IP_PMTUDISC_DONT, IP_PMTUDISC_PROBE, TCP_CLOSE, TCP_LISTEN, TCP_SYN_RECV, TCP_SYN_SENT
from ustack.tcp.control import ICSK_TIME_RETRANS, TCP_TIMEOUT_INIT
from ustack.tcp.finish import tcp_fail
from ustack.tcp.mini import inet_iif
from ustack.tcp.mss import tcp_sync_mss
from ustack.tcp.notify import ERROR_REPORT, tcp_wake
from ustack.tcp.retransmit import tcp_simple_retransmit
from ustack.tcp.rtt import inet_csk_rto_backoff, tcp_set_rto
from ustack.tcp.seq import between
from ustack.tcp.timeout import tcp_retransmit_timer
from ustack.trace.points import Point
from ustack.trace.words import socket_name
from ustack.wire.icmp import (
    ICMP_DEST_UNREACH,
    ICMP_FRAG_NEEDED,
    ICMP_HOST_UNREACH,
    ICMP_NET_UNREACH,
    ICMP_PARAMETERPROB,
    ICMP_REDIRECT,
    ICMP_TIME_EXCEEDED,
)
from ustack.wire.octets import u16, u32

if TYPE_CHECKING:
    from ustack.packet import Packet
    from ustack.tcp.control import TcpControl
    from ustack.tcp.tables import TcpTables
    from ustack.trace.journey import Facts
    from ustack.wire.ipv4 import Ipv4Header


def tcp_v4_err(tables: TcpTables, packet: Packet, icmp_type: i64, code: i64, info: i64) -> None:
    """An error that quotes a segment of ours; ``packet`` as NetProtocol.err_handler says."""
    iph = packet.iph
    assert iph is not None
    at = packet.transport_header
    sport, dport, seq = u16(packet.buf, at), u16(packet.buf, at + 2), u32(packet.buf, at + 4)
    tp = tables.lookup_established(iph.daddr, dport, iph.saddr, sport, inet_iif(packet))
    if packet.journey is not None:
        facts: Facts = {"type": int(icmp_type), "code": int(code), "quoted_seq": int(seq)}
        packet.journey.step(Point.TCP_V4_ERR, "no connection" if tp is None else socket_name(tp), facts)
    if tp is None:
        request_error(tables, packet, iph, seq, hopeless(icmp_type, code))
    elif iph.ttl < tp.min_ttl:
        tables.net.mib.tcpext.TCPMinTTLDrop += 1
    elif tp.state != TCP_LISTEN:
        # RFC 5927 4.1: an error is only believed if the quoted sequence number is of data in flight
        if between(seq, tp.snd_una if tp.fastopen_rsk is None else tp.iss, tp.snd_nxt):
            believed(tp, packet, icmp_type, code, info, seq)
        else:
            tables.net.mib.tcpext.OutOfWindowIcmps += 1


def hopeless(icmp_type: i64, code: i64) -> bool:
    """True for the errors that end a half-open connection."""
    if icmp_type == ICMP_DEST_UNREACH:
        return code == ICMP_NET_UNREACH or code == ICMP_HOST_UNREACH
    return icmp_type == ICMP_TIME_EXCEEDED or icmp_type == ICMP_PARAMETERPROB


def request_error(tables: TcpTables, packet: Packet, iph: Ipv4Header, seq: i64, abort: bool) -> None:
    """An error about a SYN-ACK may end the half-open connection (tcp_req_err); about nothing we know it is counted.

    "There is no good way to pass the error to the newly created socket, and POSIX does not want network errors
    returned from accept()."
    """
    at, dif = packet.transport_header, inet_iif(packet)
    lport, rport = u16(packet.buf, at), u16(packet.buf, at + 2)
    req = tables.requests.lookup(iph.daddr, rport, iph.saddr, lport, dif)
    if req is None:
        if tables.timewait.lookup(iph.daddr, rport, iph.saddr, lport, dif) is None:
            tables.net.mib.icmp.InErrors += 1
    elif seq != req.iss:
        tables.net.mib.tcpext.OutOfWindowIcmps += 1
    elif abort:
        tables.net.mib.tcpext.ListenDrops += 1
        req.remove()


def believed(tp: TcpControl, packet: Packet, icmp_type: i64, code: i64, info: i64, seq: i64) -> None:
    """What the error means: another gateway, a smaller path MTU, the end of an open, or a note for later."""
    if icmp_type == ICMP_REDIRECT:
        do_redirect(tp, packet, code, info)
    elif icmp_type == ICMP_DEST_UNREACH and code == ICMP_FRAG_NEEDED:
        tcp_v4_mtu_reduced(tp, info)
    elif icmp_type == ICMP_DEST_UNREACH and code < len(ICMP_ERR_CONVERT):
        if tp.fastopen_rsk is None and (code == ICMP_NET_UNREACH or code == ICMP_HOST_UNREACH):
            tcp_ld_RTO_revert(tp, seq)
        hard_or_soft(tp, packet, icmp_type, code, info, ICMP_ERR_CONVERT[code].errno)
    elif icmp_type == ICMP_TIME_EXCEEDED:
        hard_or_soft(tp, packet, icmp_type, code, info, errno.EHOSTUNREACH)
    elif icmp_type == ICMP_PARAMETERPROB:
        hard_or_soft(tp, packet, icmp_type, code, info, errno.EPROTO)
    # RFC 6633: "A TCP host MUST silently discard any received ICMP Source Quench messages."


def hard_or_soft(tp: TcpControl, packet: Packet, icmp_type: i64, code: i64, info: i64, errno_: i64) -> None:
    """RFC 5927 5: an established connection outlives every unreachable; one being opened ends with it, as in Linux."""
    accepted = tp.fastopen_rsk is not None and tp.fastopen_rsk.accepted  # as good as connected
    if (tp.state == TCP_SYN_SENT or tp.state == TCP_SYN_RECV) and not accepted:
        if ip_icmp_error(tp, packet, icmp_type, code, info, errno_):
            tcp_wake(tp, ERROR_REPORT)
        tcp_fail(tp, errno_)
    elif tp.recverr:
        tp.report(errno_)
    else:
        tp.err_soft = errno_


def ip_icmp_error(tp: TcpControl, packet: Packet, icmp_type: i64, code: i64, info: i64, errno_: i64) -> bool:
    """Queue the error for recvmsg with MSG_ERRQUEUE, with what it quotes of our segment. False if there is no room."""
    iph = packet.iph
    if iph is None:
        return False
    if tp.error_queue is None:
        tp.error_queue = ErrorQueue()
    at = packet.transport_header
    payload = packet.buf[at : packet.end]
    port = u16(packet.buf, at + 2)
    entry = IcmpError(errno_, icmp_type, code, info, packet.icmp_saddr, iph.daddr, port, payload)
    return tp.error_queue.add(tp, entry)


def tcp_ld_RTO_revert(tp: TcpControl, seq: i64) -> None:
    """RFC 6069 section 3: what is lost for want of a way is not lost by congestion: take one back-off back.

    Only for an error about the segment that the timer has just sent again; if it is overdue by now it goes at once.
    """
    head = tp.rtx_head()
    if seq != tp.snd_una or tp.retransmits == 0 or tp.backoff == 0 or head is None:
        return
    tp.backoff -= 1
    if tp.srtt:
        tcp_set_rto(tp)
    else:
        tp.rto = TCP_TIMEOUT_INIT
    tp.rto = inet_csk_rto_backoff(tp)
    remaining = head.sent_at + tp.rto - tp.net.now
    if remaining > 0:
        tp.reset_xmit_timer(ICSK_TIME_RETRANS, remaining)
    else:
        tcp_retransmit_timer(tp)


def tcp_v4_mtu_reduced(tp: TcpControl, mtu: i64) -> None:
    """RFC 1191: send smaller from now on, and again what was too large (tcp_simple_retransmit).

    The path is remembered as narrow whatever the socket makes of it; who does not set DF will hear of it when he sends.
    """
    if tp.state == TCP_CLOSE:
        return
    routing = tp.tables.routing
    dst = tp.dst_cache
    if dst is not None and routing.dst_valid(dst):
        routing.ip_rt_update_pmtu(dst, sk_flow(tp), mtu)
    else:
        routing.update_pmtu(sk_flow(tp), mtu)
    now = tp.tables.ipv4.sk_route(tp)
    if now is None:
        return
    if mtu < now.mtu and ip_dont_fragment(tp.pmtudisc, now):
        # narrower than we go by (route.min_pmtu): what a later timeout will have been for
        tp.err_soft = errno.EMSGSIZE
    if tp.pmtudisc == IP_PMTUDISC_DONT or tp.pmtudisc > IP_PMTUDISC_PROBE or now.mtu >= tp.pmtu:
        return
    tcp_sync_mss(tp, now.mtu)
    tcp_simple_retransmit(tp)


def do_redirect(tp: TcpControl, packet: Packet, code: i64, gateway: i64) -> None:
    """Somebody knows a better first hop to our peer (RFC 1122 3.2.2.2)."""
    dst = tp.dst_cache
    routing = tp.tables.routing
    if dst is not None and routing.dst_valid(dst):
        routing.ip_do_redirect(dst, sk_flow(tp), packet, code, gateway)
