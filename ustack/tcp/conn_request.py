"""A SYN for a listener: who gets a place in the queue, who a cookie, who a connection at once (Linux tcp_conn_request).

Both queues are bounded: half-open connections by the backlog (SYN flood, RFC 4987), finished ones by the accept queue.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mypy_extensions import i64

from ustack.drop import Reason
from ustack.dst import to_many
from ustack.tcp.accept import sk_acceptq_is_full, tcp_accept_queue_add, tell_listener
from ustack.tcp.ecn import tcp_ecn_create_request
from ustack.tcp.fastopen import tcp_try_fastopen
from ustack.tcp.mini import tcp_parse_handshake
from ustack.tcp.request import RequestSock, inet_csk_route_req
from ustack.tcp.syncookies import cookie_init_timestamp, cookie_v4_init_sequence
from ustack.tcp.tables import NO_ISN
from ustack.trace.points import Point
from ustack.wire import tcp as wire

if TYPE_CHECKING:
    from ustack.dst import Dst
    from ustack.packet import Packet
    from ustack.tcp.control import TcpControl
    from ustack.trace.journey import Facts
    from ustack.wire.ipv4 import Ipv4Header
    from ustack.wire.tcp import TcpHeader


def tcp_conn_request(listener: TcpControl, packet: Packet, th: TcpHeader, isn: i64) -> None:
    """RFC 9293 section 3.10.7.2, third step; ``isn`` to begin with, NO_ISN to choose one.

    With an ``isn`` the peer has just had a connection from the same port: it is real, and no queue is too full for it.
    """
    net = listener.net
    iph = packet.iph
    assert iph is not None
    want_cookie = isn == NO_ISN and (net.sysctl.tcp_syncookies == 2 or inet_csk_reqsk_queue_is_full(listener))
    if want_cookie and not tcp_syn_flood_action(listener):
        return net.drop(packet, Reason.TCP_REQQ_FULL)
    if sk_acceptq_is_full(listener):
        return net.drop(packet, Reason.TCP_LISTEN_OVERFLOW)
    dst = inet_csk_route_req(listener, packet, iph, th)
    if dst is None:
        net.mib.tcpext.ListenDrops += 1
        return net.drop(packet, Reason.IP_OUTNOROUTES)
    if to_many(dst):
        # RFC 9293 MUST-63: "an incoming SYN with an invalid source address [...] MUST be ignored"; the way in lets a
        # link's broadcast address through, as Linux does
        return net.drop(packet, Reason.IP_INVALID_SOURCE)
    if isn == NO_ISN and not want_cookie and reserved_for_proven(listener, iph):
        return net.drop(packet, Reason.TCP_LISTEN_UNPROVEN)
    if packet.journey is not None:
        facts: Facts = {"half_open": int(listener.syn_queue_len), "backlog": int(listener.max_ack_backlog)}
        packet.journey.step(Point.TCP_CONN_REQUEST, "a SYN cookie" if want_cookie else "a request", facts)
    options = tcp_parse_handshake(net, packet, th)
    if want_cookie:
        send_cookie(listener, packet, th, dst, options)
    else:
        if isn == NO_ISN:
            isn = listener.tables.secure_tcp_seq(iph.daddr, iph.saddr, th.dport, th.sport)
        new_request(listener, packet, th, dst, options, isn)
    net.deliver(packet)


def new_request(
    listener: TcpControl, packet: Packet, th: TcpHeader, dst: Dst, options: wire.TcpOptions, isn: i64
) -> None:
    """A half-open connection, or with Fast Open one that its owner has at once; either way a SYN-ACK."""
    req = RequestSock(listener, packet, th, dst, th.seq, isn)
    req.take_options(options)
    req.ecn_ok = tcp_ecn_create_request(listener, packet, th, dst)
    req.saved_syn = tcp_reqsk_record_syn(listener, packet, th)
    child = tcp_try_fastopen(req, packet, th, options)
    if child is not None:
        req.send_synack()
        tcp_accept_queue_add(child)
        tell_listener(child)
        return
    req.insert()
    req.send_synack()
    req.arm()


def send_cookie(listener: TcpControl, packet: Packet, th: TcpHeader, dst: Dst, options: wire.TcpOptions) -> None:
    """A SYN-ACK that nothing is remembered of. What its timestamp would carry is not agreed on without one."""
    iph = packet.iph
    assert iph is not None
    if not options.saw_tstamp:
        options.wscale = wire.NO_WSCALE
        options.sack_ok = False
    req = RequestSock(listener, packet, th, dst, th.seq, 0)
    req.take_options(options)
    req.ecn_ok = req.tstamp_ok and tcp_ecn_create_request(listener, packet, th, dst)
    req.iss = cookie_v4_init_sequence(listener, iph, th, req)
    req.send_synack(cookie_init_timestamp(req, listener.net.now) if req.tstamp_ok else -1)


def inet_csk_reqsk_queue_is_full(listener: TcpControl) -> bool:
    return listener.syn_queue_len > listener.max_ack_backlog


def tcp_syn_flood_action(listener: TcpControl) -> bool:
    """The queue is full: True to send cookies, as tcp_syncookies says."""
    if listener.net.sysctl.tcp_syncookies == 0:
        return False
    listener.net.mib.tcpext.TCPReqQFullDoCookies += 1
    return True


def reserved_for_proven(listener: TcpControl, iph: Ipv4Header) -> bool:
    """True if there is no place left but in the last quarter, and the peer has never finished a handshake.

    Without cookies that quarter is for "destinations, proven to be alive": a flood of forged addresses does not fill it
    (tcp_peer_is_proven).
    """
    sysctl = listener.net.sysctl
    if sysctl.tcp_syncookies:
        return False
    limit = sysctl.tcp_max_syn_backlog
    if limit - listener.syn_queue_len >= limit >> 2:
        return False
    return not listener.tables.metrics.is_proven(iph.daddr, iph.saddr)


def tcp_reqsk_record_syn(listener: TcpControl, packet: Packet, th: TcpHeader) -> bytes:
    """The headers of the SYN for who has set TCP_SAVE_SYN: IP and TCP, and with 2 the link's too."""
    if listener.save_syn == 0:
        return b""
    start = packet.mac_header if listener.save_syn == 2 else packet.network_header
    return packet.buf[start : th.payload]
