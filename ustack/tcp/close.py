"""The user lets go: close and shutdown (RFC 9293 section 3.10.4, 3.6; Linux tcp_close, tcp_shutdown)."""

from __future__ import annotations

import errno
from typing import Final

from mypy_extensions import i64

from ustack.sock import (
    SEND_SHUTDOWN,
    SHUTDOWN_MASK,
    TCP_CLOSE,
    TCP_CLOSE_WAIT,
    TCP_CLOSING,
    TCP_ESTABLISHED,
    TCP_FIN_WAIT1,
    TCP_FIN_WAIT2,
    TCP_LAST_ACK,
    TCP_LISTEN,
    TCP_SYN_SENT,
)
from ustack.tcp.congestion.cong import tcp_cleanup_congestion_control
from ustack.tcp.connect import unconnected
from ustack.tcp.control import (
    TCP_CHRONO_UNSPEC,
    TCP_DELACK_MAX,
    TCP_INFINITE_SSTHRESH,
    TCP_INIT_CWND,
    TCP_MIN_MSS,
    TCP_TIMEOUT_INIT,
    TcpControl,
)
from ustack.tcp.finish import (
    drop_write_queues,
    fin_wait2_alone,
    free_receive_queue,
    free_receive_queues,
    tcp_abort,
    tcp_closed,
)
from ustack.tcp.memory import tcp_check_oom
from ustack.tcp.notify import ERROR_REPORT, tcp_wake
from ustack.tcp.output import tcp_send_fin
from ustack.tcp.scoreboard import tcp_init_recovery
from ustack.tcp.states import NEEDS_RESET, NO_STATE, Event, after, in_set

#: Where the user may still end the sending direction. Not SYN_RECV: the FIN waits for the handshake's end.
_MAY_SHUTDOWN: Final[i64] = (1 << TCP_ESTABLISHED) | (1 << TCP_SYN_SENT) | (1 << TCP_CLOSE_WAIT)
#: Our FIN is out, the peer has not answered it (sk_stream_closing).
_CLOSING: Final[i64] = (1 << TCP_FIN_WAIT1) | (1 << TCP_CLOSING) | (1 << TCP_LAST_ACK)


def tcp_shutdown(tp: TcpControl, how: i64) -> None:
    """Close one direction or both; only the sending side says anything on the wire."""
    tp.shutdown |= how
    if not how & SEND_SHUTDOWN or not in_set(tp.state, _MAY_SHUTDOWN):
        return
    if tp.state == TCP_SYN_SENT:
        tcp_closed(tp)
    else:
        tp.move(Event.CLOSE)
        tcp_send_fin(tp)


def tcp_close(tp: TcpControl) -> None:
    """The owner is gone. What is queued is still delivered, unless there is a reason for a RST:

    RFC 9293 3.6.1 (SHLD-3): with received data unread, or arriving later, the host "SHOULD send a RST to show that
    data was lost"; and SO_LINGER with a time of zero asks for one. A longer SO_LINGER is for whoever may wait: see
    ``sk_stream_closing``.
    """
    unread = bool(tp.receive_queue)
    tp.dead = True
    tp.parent = None
    tp.shutdown = SHUTDOWN_MASK
    free_receive_queue(tp)
    if tp.state == TCP_LISTEN:
        stop_listening(tp)
        tp.tables.ports.release(tp)
    elif tp.state == TCP_CLOSE:
        free_receive_queues(tp)
        tp.clear_all_timers()
        tp.tables.ports.release(tp)
        tcp_cleanup_congestion_control(tp)
    elif unread:
        tp.net.mib.tcpext.TCPAbortOnClose += 1
        tcp_abort(tp, "closed with data unread")
    elif tp.linger == 0:
        tp.net.mib.tcpext.TCPAbortOnData += 1  # Linux's name for it
        abort_or_done(tp)
    else:
        close_orderly(tp)


def abort_or_done(tp: TcpControl) -> None:
    """A RST if the state calls for one (RFC 9293 section 3.10.5), else just the end (tcp_disconnect)."""
    if needs_reset(tp):
        tcp_abort(tp, "nobody will read or wait")
    else:
        tcp_closed(tp)


def needs_reset(tp: TcpControl) -> bool:
    """True if there is a peer that should hear of the abort, or data of ours that did not get out."""
    if in_set(tp.state, NEEDS_RESET):
        return True
    return (tp.state == TCP_CLOSING or tp.state == TCP_LAST_ACK) and tp.snd_nxt != tp.write_seq


def close_orderly(tp: TcpControl) -> None:
    """FIN after the data; the socket lives on as an orphan until the peer has answered."""
    if tp.state == TCP_SYN_SENT:
        tcp_closed(tp)
        return
    if not tp.fin_queued and after(tp.state, Event.CLOSE) != NO_STATE:
        tp.move(Event.CLOSE)
        tcp_send_fin(tp)
    if tp.state == TCP_CLOSE:
        return
    if tp.state == TCP_FIN_WAIT2:
        if tp.linger2 < 0:
            tp.net.mib.tcpext.TCPAbortOnLinger += 1
            tcp_abort(tp, "TCP_LINGER2 is negative")
            return
        fin_wait2_alone(tp)
        if tp.state == TCP_CLOSE:
            return
    tp.tables.orphans.add(tp)
    if tcp_check_oom(tp, 0):
        tp.net.mib.tcpext.TCPAbortOnMemory += 1
        tcp_abort(tp, "out of memory")


def sk_stream_closing(tp: TcpControl) -> bool:
    """True while the close of a socket with SO_LINGER waits: what was sent is not acknowledged, up to our FIN."""
    return in_set(tp.state, _CLOSING)


def stop_listening(tp: TcpControl) -> None:
    """No more connections; those never accepted are reset (inet_csk_listen_stop).

    Those half open are left to the next segment or to their timer, which find that nobody listens.
    """
    tp.tables.remove_listener(tp)
    tp.move(Event.CLOSE)
    queue = tp.accept_queue
    tp.accept_queue = None
    if queue is not None:
        for child in queue:
            child.parent = None
            child.dead = True
            abort_or_done(child)
            free_receive_queues(child)


def tcp_disconnect(tp: TcpControl) -> None:
    """Back to an unconnected socket that may be used again (connect to AF_UNSPEC; tcp_disconnect)."""
    if tp.state == TCP_LISTEN:
        stop_listening(tp)
    elif needs_reset(tp):
        tcp_abort(tp, "disconnected")
        tp.err = errno.ECONNRESET
        tcp_wake(tp, ERROR_REPORT)
    elif tp.state != TCP_CLOSE:
        code = errno.ECONNRESET if tp.state == TCP_SYN_SENT else 0
        tcp_closed(tp)
        tp.err = code
    drop_write_queues(tp)
    free_receive_queues(tp)
    tp.shutdown = 0
    tp.fin_queued = False
    tp.fin_received = tp.fin_unread = False
    unconnected(tp)
    forget_path(tp)
    forget_connection(tp)


def forget_path(tp: TcpControl) -> None:
    """The next peer's path is another one."""
    tp.srtt = 0
    tp.mdev = tp.rttvar = tp.rto = TCP_TIMEOUT_INIT
    tp.mdev_max = 0
    tp.rto_min_ns = 0
    tp.delack_max_ns = TCP_DELACK_MAX
    tp.rcv_rtt = tp.rcv_rtt_time = tp.rcv_rtt_last_tsecr = 0
    tp.backoff = 0
    tp.probes_out = tp.probes_tstamp = 0
    tp.snd_cwnd = TCP_INIT_CWND
    tp.snd_cwnd_cnt = 0
    tp.snd_ssthresh = TCP_INFINITE_SSTHRESH
    tp.is_cwnd_limited = False
    tp.max_packets_out = 0
    tcp_cleanup_congestion_control(tp)
    tcp_init_recovery(tp)


def forget_connection(tp: TcpControl) -> None:
    """Nothing of what was agreed with, or counted of, the last peer holds for the next one.

    Whom we connect to next gets numbers that the last peer would not have taken.
    """
    tp.write_seq = max((tp.write_seq + tp.max_window + 2) & 0xFFFF_FFFF, 1)
    tp.copied_seq = tp.rcv_nxt
    tp.peek_off = -1
    tp.rcv_retracted = False
    tp.window_clamp = 0
    tp.rcv_mss = TCP_MIN_MSS
    tp.ack_quick = tp.ack_pingpong = tp.ato = tp.lrcvtime = tp.last_oow_ack_time = 0
    tp.urg_data = 0
    tp.urg_mode = False
    tp.mss_clamp = tp.user_mss = 0
    tp.selective_acks = []
    tp.duplicate_sack = None
    tp.tstamp_ok = tp.saw_tstamp = tp.wscale_ok = tp.sack_ok = False
    tp.ts_recent = tp.ts_recent_stamp = 0
    tp.snd_wscale = 0
    tp.saved_syn = b""
    forget_fastopen(tp)
    tp.delivered = tp.delivered_ce = tp.lost = 0
    tp.app_limited = -1
    tp.rate_delivered = tp.rate_interval = 0
    tp.rate_app_limited = True
    tp.total_retrans = tp.total_rto = tp.total_rto_recoveries = tp.total_rto_time = tp.rto_stamp = 0
    tp.bytes_sent = tp.bytes_retrans = tp.bytes_acked = tp.bytes_received = 0
    tp.segs_in = tp.segs_out = tp.data_segs_in = tp.data_segs_out = 0
    tp.rcv_ooopack = 0
    tp.chrono_busy = tp.chrono_rwnd_limited = tp.chrono_sndbuf_limited = 0
    tp.chrono_type = TCP_CHRONO_UNSPEC


def forget_fastopen(tp: TcpControl) -> None:
    """What the last SYN asked for, and what came of it."""
    tp.defer_connect = False
    tp.syn_data = tp.syn_data_acked = tp.syn_fastopen_child = False
    tp.syn_fastopen = tp.syn_fastopen_exp = tp.syn_fastopen_ch = False
    tp.fastopen_cookie = None
    tp.fastopen_client_fail = 0
