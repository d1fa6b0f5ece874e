"""The end of a passive open: the handshake's ACK makes a request a socket (tcp_v4_syn_recv_sock, inet_csk_accept)."""

from __future__ import annotations

import errno
from collections import deque
from typing import TYPE_CHECKING

from mypy_extensions import i64

from ustack.drop import Reason
from ustack.sock import TCP_LISTEN, error
from ustack.tcp.congestion.cong import tcp_ca_openreq_child
from ustack.tcp.connect import tcp_ca_dst_init
from ustack.tcp.control import TFO_SERVER_ENABLE, TFO_SERVER_WO_SOCKOPT1, TcpControl
from ustack.tcp.ecn import INET_ECN_MASK, tcp_ecn_openreq_child
from ustack.tcp.mss import tcp_sync_mss
from ustack.tcp.notify import DATA_READY, tcp_wake
from ustack.tcp.reply import tcp_v4_send_reset
from ustack.tcp.states import Event
from ustack.tcp.window import tcp_initialize_rcv_mss
from ustack.trace.points import Point
from ustack.trace.words import socket_name
from ustack.wire.checksum import csum_tcpudp_nofold
from ustack.wire.ipv4 import IPPROTO_TCP

if TYPE_CHECKING:
    from ustack.packet import Packet
    from ustack.tcp.request import RequestSock
    from ustack.trace.journey import Facts
    from ustack.wire.tcp import TcpHeader


def tcp_v4_syn_recv_sock(req: RequestSock, packet: Packet, th: TcpHeader) -> TcpControl | None:
    """The socket for a finished handshake, in SYN_RECV with the ACK still to be processed; None if it had to wait.

    RFC 9293 3.10.7.4: "If SND.UNA < SEG.ACK =< SND.NXT, then enter ESTABLISHED state". With the accept queue full the
    ACK is ignored: the client will send data, our SYN-ACK will be repeated, and there may be room then.
    """
    listener = req.listener
    net = req.tables.net
    if listener.state != TCP_LISTEN or listener.accept_queue is None:
        net.drop(packet, Reason.SOCKET_CLOSE)
        return None
    if sk_acceptq_is_full(listener):
        req.acked = True
        if req.hashed and net.sysctl.tcp_abort_on_overflow:
            tcp_v4_send_reset(req.tables, packet, th, Reason.TCP_LISTEN_OVERFLOW, listener.mark)
            net.mib.tcpext.EmbryonicRsts += 1
            req.remove()
        net.drop(packet, Reason.TCP_LISTEN_OVERFLOW)
        return None
    net.mib.tcp.PassiveOpens += 1
    child = req.tables.new_sock()
    inherit(child, listener)
    take_request(child, req, th)
    if packet.iph is not None:
        child.mc_ttl = packet.iph.ttl
    req.remove()
    req.tables.ports.hold(child, req.lport, False)
    req.tables.insert(child)
    child.parent = listener
    if packet.journey is not None:
        child.journey = packet.journey
        packet.journey.step(Point.TCP_V4_SYN_RECV_SOCK, "a socket is made", {"socket": socket_name(child)})
    return child


def sk_acceptq_is_full(listener: TcpControl) -> bool:
    return listener.accept_queue is not None and len(listener.accept_queue) > listener.max_ack_backlog


def inherit(child: TcpControl, listener: TcpControl) -> None:
    """What a connection has from its listener (inet_csk_clone_lock)."""
    child.shutdown = listener.shutdown  # of one that was shut down, and listens again
    child.reuseaddr = listener.reuseaddr
    child.reuseport = listener.reuseport
    child.uid = listener.uid
    child.bound_dev_if = listener.bound_dev_if
    child.bound_addr = listener.bound_addr
    child.bound_port = False
    child.tos = listener.tos
    child.uc_ttl = listener.uc_ttl
    child.min_ttl = listener.min_ttl
    child.pmtudisc = listener.pmtudisc
    child.rcvbuf = listener.rcvbuf
    child.rcvbuf_locked = listener.rcvbuf_locked
    child.sndbuf = listener.sndbuf
    child.sndbuf_locked = listener.sndbuf_locked
    child.keepopen = listener.keepopen
    child.keepidle = listener.keepidle
    child.keepintvl = listener.keepintvl
    child.keepcnt = listener.keepcnt
    child.linger = listener.linger
    child.lingertime = listener.lingertime
    child.linger2 = listener.linger2
    child.nonagle = listener.nonagle
    child.user_mss = listener.user_mss
    child.user_timeout = listener.user_timeout
    child.rcvlowat = listener.rcvlowat
    child.user_clamp = listener.user_clamp
    child.notsent_lowat = listener.notsent_lowat
    child.syn_retries = listener.syn_retries
    child.thin_lto = listener.thin_lto
    child.rto_min_ns = listener.rto_min_ns
    child.rto_max_ns = listener.rto_max_ns
    child.delack_max_ns = listener.delack_max_ns
    child.recvmsg_inq = listener.recvmsg_inq
    child.ack_pingpong = listener.ack_pingpong
    child.oobinline = listener.oobinline
    child.dontroute = listener.dontroute
    child.set_max_pacing_rate(listener.max_pacing_rate)
    child.zerocopy = listener.zerocopy
    child.tsflags = listener.tsflags
    child.recverr = listener.recverr
    child.freebind = listener.freebind
    child.transparent = listener.transparent
    child.broadcast = listener.broadcast
    child.peek_off = listener.peek_off
    child.no_check_tx = listener.no_check_tx
    child.recv_pktinfo = listener.recv_pktinfo
    child.mc_loop = listener.mc_loop
    child.fastopen_no_cookie = listener.fastopen_no_cookie
    child.bind_address_no_port = listener.bind_address_no_port
    child.save_syn = listener.save_syn


def take_request(child: TcpControl, req: RequestSock, th: TcpHeader) -> None:
    """The control block as the handshake left it (tcp_create_openreq_child)."""
    child.move(Event.PASSIVE_OPEN)
    child.move(Event.RCV_SYN)
    child.mark = req.mark
    child.saddr = child.rcv_saddr = req.laddr
    child.daddr = req.raddr
    child.dport = req.rport
    child.dst_cache = req.dst
    child.iss = req.iss
    child.irs = req.irs
    # the SYN-ACK was the request's: of the child's own nothing is in flight
    child.snd_una = child.snd_nxt = child.write_seq = (req.iss + 1) & 0xFFFF_FFFF
    child.pushed_seq = child.snd_sml = child.snd_nxt
    child.cwnd_usage_seq = child.rtt_seq = child.snd_nxt
    child.inet_opt = req.opt
    child.saved_syn = req.saved_syn
    child.rcv_nxt = child.copied_seq = child.rcv_wup = child.rcvq_seq = (req.irs + 1) & 0xFFFF_FFFF
    child.snd_wl1 = req.irs
    child.wscale_ok = req.wscale_ok
    child.snd_wscale = req.snd_wscale
    child.snd_wnd = child.max_window = th.window << req.snd_wscale
    child.sack_ok = req.sack_ok
    child.tstamp_ok = req.tstamp_ok
    child.set_header_len(req.tstamp_ok)
    child.ts_recent = req.ts_recent
    child.ts_recent_stamp = req.tables.net.now
    child.tsoffset = req.tsoffset
    child.mss_clamp = req.mss
    tcp_ecn_openreq_child(child, req.ecn_ok)
    if child.net.sysctl.tcp_reflect_tos:
        child.tos = req.syn_tos & ~INET_ECN_MASK
    req.window.apply(child)
    child.pseudo_sum = csum_tcpudp_nofold(req.laddr, req.raddr, 0, IPPROTO_TCP)
    tcp_ca_openreq_child(child, req.listener)
    tcp_ca_dst_init(child, req.dst)
    tcp_sync_mss(child, req.dst.mtu)
    tcp_initialize_rcv_mss(child)
    child.lsndtime = req.sent_at
    child.segs_in = 1  # the SYN
    child.total_retrans = req.retransmits
    if req.retransmits:
        child.lsndtime = 0
    if req.timeouts:
        child.undo_marker = req.iss
        child.retrans_stamp = req.sent_at
        child.total_rto = req.timeouts
        child.total_rto_recoveries = 1
        child.total_rto_time = child.net.now - req.sent_at


def tcp_accept_queue_add(child: TcpControl) -> None:
    """The connection may be accepted, even if its ACK turns out to be no good (inet_csk_complete_hashdance)."""
    listener = child.parent
    if listener is not None and listener.accept_queue is not None:
        listener.accept_queue.append(child)
        if child.net.tracer is not None:
            facts: Facts = {"waiting": len(listener.accept_queue), "backlog": int(listener.max_ack_backlog)}
            child.net.tracer.here(Point.INET_CSK_COMPLETE_HASHDANCE, "may be accepted", facts)


def tell_listener(child: TcpControl) -> None:
    """There is a connection to accept (tcp_child_process)."""
    if child.parent is not None:
        tcp_wake(child.parent, DATA_READY)


def inet_csk_accept(listener: TcpControl) -> TcpControl:
    """The connection that has waited longest. Raises EINVAL if not listening, EAGAIN if there is none."""
    if listener.state != TCP_LISTEN or listener.accept_queue is None:
        raise error(errno.EINVAL)
    if not listener.accept_queue:
        raise error(errno.EAGAIN)
    child = listener.accept_queue.popleft()
    child.parent = None
    if child.fastopen_rsk is not None:
        child.fastopen_rsk.accepted = True
    return child


def inet_csk_listen_start(tp: TcpControl, backlog: i64) -> None:
    """Start listening, or change the backlog. The port is held already. Raises EADDRINUSE if another listens on it."""
    tp.max_ack_backlog = backlog
    if tp.state == TCP_LISTEN:
        return
    # inet_csk_delack_init: what the last peer sent, and how, is no matter of the next ones
    tp.ack_pending = tp.ack_quick = tp.ack_pingpong = tp.ato = tp.lrcvtime = tp.last_seg_size = tp.rcv_mss = 0
    bucket = tp.bind_bucket
    if bucket is not None and bucket.listened_by_another(tp):
        raise error(errno.EADDRINUSE)
    tp.accept_queue = deque()
    tfo = tp.net.sysctl.tcp_fastopen
    if tfo & TFO_SERVER_WO_SOCKOPT1 and tfo & TFO_SERVER_ENABLE and tp.fastopen_max_qlen == 0:
        tp.fastopen_max_qlen = backlog
    tp.move(Event.PASSIVE_OPEN)
    tp.tables.add_listener(tp)
