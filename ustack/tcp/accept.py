"""The end of a passive open: the handshake's ACK makes a request a socket (tcp_v4_syn_recv_sock, inet_csk_accept)."""

from __future__ import annotations

import errno
from collections import deque
from typing import TYPE_CHECKING

from mypy_extensions import i64

from ustack.drop import Reason
from ustack.sock import TCP_LISTEN, error
from ustack.tcp.ack import tcp_ack_update_rtt
from ustack.tcp.connect import tcp_ca_dst_init, tcp_init_transfer
from ustack.tcp.control import TCP_MAX_QUICKACKS, TCP_TIMEOUT_FALLBACK, TcpControl
from ustack.tcp.notify import DATA_READY, tcp_wake
from ustack.tcp.output import tcp_sync_mss
from ustack.tcp.reply import tcp_v4_send_reset
from ustack.tcp.seq import between
from ustack.tcp.states import Event
from ustack.wire.checksum import csum_tcpudp_nofold
from ustack.wire.ipv4 import IPPROTO_TCP
from ustack.wire.tcp import TCPHDR_SYN, TcpHeader

if TYPE_CHECKING:
    from ustack.packet import Packet
    from ustack.tcp.request import RequestSock


def tcp_v4_syn_recv_sock(req: RequestSock, packet: Packet, th: TcpHeader) -> TcpControl | None:
    """The socket for a finished handshake, in SYN_RECV with the ACK still to be processed; None if it had to wait.

    RFC 9293 3.10.7.4: "If SND.UNA < SEG.ACK =< SND.NXT, then enter ESTABLISHED state". With the accept queue full the
    ACK is ignored: the client will send data, our SYN-ACK will be repeated, and there may be room then.
    """
    listener = req.listener
    net = req.tables.net
    queue = listener.accept_queue
    if listener.state != TCP_LISTEN or queue is None:
        net.drop(packet, Reason.SOCKET_CLOSE)
        return None
    if len(queue) > listener.max_ack_backlog:
        req.acked = True
        if net.sysctl.tcp_abort_on_overflow:
            tcp_v4_send_reset(req.tables, packet, th, listener.mark)
            net.mib.tcpext.EmbryonicRsts += 1
            req.remove()
        net.drop(packet, Reason.TCP_LISTEN_OVERFLOW)
        return None
    child = req.tables.new_sock()
    inherit(child, listener)
    take_request(child, req)
    req.remove()
    req.tables.ports.hold(child, req.lport, False)
    req.tables.insert(child)
    child.parent = listener
    return child


def inherit(child: TcpControl, listener: TcpControl) -> None:
    """What a connection has from its listener (inet_csk_clone_lock)."""
    child.reuseaddr = listener.reuseaddr
    child.reuseport = listener.reuseport
    child.uid = listener.uid
    child.bound_dev_if = listener.bound_dev_if
    child.bound_port = False
    child.tos = listener.tos
    child.uc_ttl = listener.uc_ttl
    child.min_ttl = listener.min_ttl
    child.priority = listener.priority
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
    child.linger2 = listener.linger2
    child.nonagle = listener.nonagle
    child.user_mss = listener.user_mss
    child.user_timeout = listener.user_timeout
    child.rcvlowat = listener.rcvlowat


def take_request(child: TcpControl, req: RequestSock) -> None:
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
    child.snd_una = req.iss
    child.snd_nxt = child.write_seq = child.pushed_seq = child.snd_sml = (req.iss + 1) & 0xFFFF_FFFF
    child.cwnd_usage_seq = child.rtt_seq = child.snd_nxt
    child.rcv_nxt = child.copied_seq = child.rcv_wup = child.rcvq_seq = (req.irs + 1) & 0xFFFF_FFFF
    child.snd_wl1 = req.irs
    child.snd_wnd = child.max_window = req.snd_wnd
    child.wscale_ok = req.wscale_ok
    child.snd_wscale = max(req.snd_wscale, 0)
    child.tstamp_ok = req.tstamp_ok
    child.ts_recent = req.ts_recent
    child.ts_recent_stamp = req.tables.net.now
    child.tsoffset = req.tsoffset
    child.mss_clamp = req.mss
    req.window.apply(child)
    child.pseudo_sum = csum_tcpudp_nofold(req.laddr, req.raddr, 0, IPPROTO_TCP)
    tcp_ca_dst_init(child, req.dst)
    tcp_sync_mss(child, req.dst.mtu)
    child.lsndtime = req.sent_at
    if req.retransmits:
        child.lsndtime = 0
        child.rto = TCP_TIMEOUT_FALLBACK


def established_by_ack(child: TcpControl, th: TcpHeader) -> bool:
    """Process the ACK of our SYN; False if it acknowledges something else, and a RST is due."""
    if not between(th.ack_seq, (child.snd_una + 1) & 0xFFFF_FFFF, child.snd_nxt):
        return False
    child.move(Event.RCV_ACK_OF_SYN)
    child.snd_una = th.ack_seq
    child.snd_wl1 = th.seq
    # RFC 7323 2.2: the window of a segment with SYN is never scaled (a simultaneous open's SYN-ACK may come here)
    child.snd_wnd = child.max_window = th.window if th.flags & TCPHDR_SYN else th.window << child.snd_wscale
    child.rcv_tstamp = child.net.now
    tcp_ack_update_rtt(child, child.net.now - child.lsndtime if child.lsndtime else -1, False)
    tcp_init_transfer(child)
    child.enter_quickack_mode(TCP_MAX_QUICKACKS)
    return True


def tcp_accept_queue_add(child: TcpControl) -> None:
    """Hand the established connection to its listener's owner."""
    listener = child.parent
    if listener is not None and listener.accept_queue is not None:
        child.net.mib.tcp.PassiveOpens += 1
        listener.accept_queue.append(child)
        tcp_wake(listener, DATA_READY)


def inet_csk_accept(listener: TcpControl) -> TcpControl:
    """The connection that has waited longest. Raises EINVAL if not listening, EAGAIN if there is none."""
    if listener.state != TCP_LISTEN or listener.accept_queue is None:
        raise error(errno.EINVAL)
    if not listener.accept_queue:
        raise error(errno.EAGAIN)
    child = listener.accept_queue.popleft()
    child.parent = None
    return child


def inet_csk_listen_start(tp: TcpControl, backlog: i64) -> None:
    """Start listening, or change the backlog. The port is held already. Raises EADDRINUSE if another listens on it."""
    tp.max_ack_backlog = backlog
    if tp.state == TCP_LISTEN:
        return
    bucket = tp.bind_bucket
    if bucket is not None and bucket.listened_by_another(tp):
        raise error(errno.EADDRINUSE)
    tp.accept_queue = deque()
    tp.move(Event.PASSIVE_OPEN)
    tp.tables.add_listener(tp)
