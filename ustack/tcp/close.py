"""The user lets go: close and shutdown (RFC 9293 section 3.10.4, 3.6; Linux tcp_close, tcp_shutdown)."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from mypy_extensions import i64

from ustack.sock import SEND_SHUTDOWN, SHUTDOWN_MASK, TCP_CLOSE, TCP_FIN_WAIT2, TCP_LISTEN, TCP_SYN_SENT
from ustack.tcp.finish import (
    drop_write_queues,
    free_receive_queues,
    tcp_abort,
    tcp_done,
    tcp_enter_time_wait,
)
from ustack.tcp.output import tcp_send_fin
from ustack.tcp.states import NEEDS_RESET, Event, after, in_set

if TYPE_CHECKING:
    from ustack.tcp.control import TcpControl


def tcp_shutdown(tp: TcpControl, how: i64) -> None:
    """Close one direction or both; only the sending side says anything on the wire."""
    tp.shutdown |= how
    if how & SEND_SHUTDOWN and not tp.fin_queued and after(tp.state, Event.CLOSE) is not None:
        if tp.state == TCP_LISTEN:
            stop_listening(tp)
        elif tp.state == TCP_SYN_SENT:
            tcp_done(tp)
        else:
            tp.move(Event.CLOSE)
            tcp_send_fin(tp)


def tcp_close(tp: TcpControl) -> None:
    """The owner is gone. What is queued is still delivered, unless there is a reason for a RST:

    RFC 9293 3.6.1 (SHLD-3): with received data unread, or arriving later, the host "SHOULD send a RST to show that
    data was lost"; and SO_LINGER with a time of zero asks for one.
    """
    unread = bool(tp.receive_queue)
    tp.dead = True
    tp.parent = None
    tp.shutdown = SHUTDOWN_MASK
    free_receive_queues(tp)
    if tp.state == TCP_LISTEN:
        stop_listening(tp)
        tp.tables.ports.release(tp)
    elif tp.state == TCP_CLOSE:
        tp.clear_all_timers()
        tp.tables.ports.release(tp)
    elif tp.state == TCP_SYN_SENT:
        tcp_done(tp)
    elif unread or tp.linger == 0:
        if unread:
            tp.net.mib.tcpext.TCPAbortOnClose += 1
        else:
            tp.net.mib.tcpext.TCPAbortOnData += 1  # Linux's name for it
        abort_or_done(tp)
    else:
        close_orderly(tp)


def abort_or_done(tp: TcpControl) -> None:
    """A RST if the state calls for one (RFC 9293 section 3.10.5), else just the end."""
    unacked = tp.fin_queued and tp.snd_una != tp.write_seq
    if in_set(tp.state, NEEDS_RESET) or (unacked and tp.state != TCP_SYN_SENT):
        tcp_abort(tp, 0)
    else:
        tcp_done(tp)


def close_orderly(tp: TcpControl) -> None:
    """FIN after the data; the socket lives on as an orphan until the peer has answered."""
    if not tp.fin_queued and after(tp.state, Event.CLOSE) is not None:
        tp.move(Event.CLOSE)
        tcp_send_fin(tp)
    orphans = tp.tables.orphans
    if tp.state == TCP_CLOSE:
        return
    if tp.state == TCP_FIN_WAIT2:
        if tp.linger2 < 0:
            tp.net.mib.tcpext.TCPAbortOnLinger += 1
            tcp_abort(tp, 0)
        else:
            tcp_enter_time_wait(tp, TCP_FIN_WAIT2, tp.fin_timeout())
        return
    if len(orphans) >= tp.net.sysctl.tcp_max_orphans:
        tp.net.mib.tcpext.TCPAbortOnMemory += 1
        tcp_abort(tp, 0)
        return
    orphans.add(tp)


def stop_listening(tp: TcpControl) -> None:
    """No more connections; those never accepted are reset (inet_csk_listen_stop)."""
    tp.tables.remove_listener(tp)
    tp.move(Event.CLOSE)
    queue = tp.accept_queue
    tp.accept_queue = None
    for req in tp.tables.requests.all():
        if req.listener is tp:
            req.remove()
    if queue is not None:
        for child in queue:
            child.parent = None
            child.dead = True
            abort_or_done(child)
            free_receive_queues(child)


def tcp_disconnect(tp: TcpControl) -> None:
    """Back to an unconnected socket (connect to AF_UNSPEC; tcp_disconnect)."""
    if tp.state == TCP_LISTEN:
        stop_listening(tp)
    elif in_set(tp.state, NEEDS_RESET):
        tcp_abort(tp, errno.ECONNRESET)
    elif tp.state != TCP_CLOSE:
        tp.err = errno.ECONNRESET if tp.state == TCP_SYN_SENT else 0
        tcp_done(tp)
    drop_write_queues(tp)
    free_receive_queues(tp)
    tp.shutdown = 0
    tp.fin_queued = False
    tp.fin_received = False
    tp.daddr = 0
    tp.dport = 0
    tp.dst_cache = None
    if not tp.bound_addr:
        tp.saddr = 0
        tp.rcv_saddr = 0
    tp.srtt = 0
    tp.backoff = 0
    tp.probe_backoff = 0
    tp.probes_tstamp = 0
    tp.retransmits = 0
