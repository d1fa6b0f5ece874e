"""The end of a connection: orderly, by a reset, or by giving up (Linux tcp_done, tcp_reset, tcp_write_err)."""

from __future__ import annotations

import errno

from mypy_extensions import i64

from ustack.sock import SHUTDOWN_MASK, TCP_CLOSE, TCP_CLOSE_WAIT, TCP_SYN_RECV, TCP_SYN_SENT
from ustack.tcp.control import TCP_TIMEWAIT_LEN, TcpControl
from ustack.tcp.notify import ERROR_REPORT, STATE_CHANGE, tcp_wake
from ustack.tcp.segment import TcpSkb
from ustack.tcp.states import Event
from ustack.tcp.timewait import tcp_time_wait
from ustack.tcp.transmit import established_options, tcp_send_segment
from ustack.wire.tcp import TCPHDR_ACK, TCPHDR_RST


def tcp_done(tp: TcpControl) -> None:
    """The connection is over: no timer, no table knows it any more. Its owner may still read what has arrived."""
    if tp.state == TCP_SYN_SENT or tp.state == TCP_SYN_RECV:
        tp.net.mib.tcp.AttemptFails += 1
    if tp.state != TCP_CLOSE:
        tp.move(Event.ABORT)
    tp.clear_all_timers()
    tp.tables.remove(tp)
    drop_write_queues(tp)
    tp.shutdown = SHUTDOWN_MASK
    if tp.dead or not tp.bound_port:
        tp.tables.ports.release(tp)
    if tp.dead:
        tp.tables.orphans.discard(tp)
        free_receive_queues(tp)
    else:
        tcp_wake(tp, STATE_CHANGE)


def drop_write_queues(tp: TcpControl) -> None:
    """Nothing will be sent any more (tcp_write_queue_purge)."""
    tp.write_queue = None
    tp.rtx_queue = None
    tp.wmem_queued = 0
    tp.packets_out = 0
    tp.sacked_out = 0
    tp.lost_out = 0
    tp.retrans_out = 0


def free_receive_queues(tp: TcpControl) -> None:
    """Nobody will read any more."""
    tp.receive_queue = None
    tp.ofo = None
    tp.rmem_alloc = 0


def tcp_enter_time_wait(tp: TcpControl, substate: i64, lasting: i64) -> None:
    """Leave a TimeWait behind and finish the socket; ``substate`` as in timewait.py."""
    tcp_time_wait(tp, substate, lasting if lasting else TCP_TIMEWAIT_LEN)
    tcp_done(tp)


def tcp_reset(tp: TcpControl) -> None:
    """The peer reset us: the error depends on what it cut short (tcp_reset)."""
    if tp.state == TCP_SYN_SENT:
        code = errno.ECONNREFUSED
    elif tp.state == TCP_CLOSE_WAIT:
        code = errno.EPIPE
    else:
        code = errno.ECONNRESET
    tcp_fail(tp, code)


def tcp_fail(tp: TcpControl, code: i64) -> None:
    """End the connection with an error for its owner."""
    tp.err = code
    if not tp.dead:
        tcp_wake(tp, ERROR_REPORT)
    tcp_done(tp)


def tcp_write_err(tp: TcpControl) -> None:
    """Retransmission has gone on too long: ETIMEDOUT, or what ICMP had said meanwhile (RFC 1122 section 4.2.3.5)."""
    tp.net.mib.tcpext.TCPAbortOnTimeout += 1
    tcp_fail(tp, tp.err_soft or errno.ETIMEDOUT)


def tcp_send_active_reset(tp: TcpControl) -> None:
    """Tell the peer that the connection is aborted: <SEQ=SND.NXT><CTL=RST> (RFC 9293 section 3.10.5)."""
    tp.net.mib.tcp.OutRsts += 1
    tp.net.mib.tcp.OutSegs += 1
    skb = TcpSkb(tp.snd_nxt, TCPHDR_ACK | TCPHDR_RST)
    tcp_send_segment(tp, skb.seq, skb.flags, established_options(tp), skb.pieces, 0)


def tcp_abort(tp: TcpControl, code: i64) -> None:
    """End it at once, from our side: a RST if there is anyone to hear it, ``code`` for the owner, 0 for none."""
    tcp_send_active_reset(tp)
    if code:
        tcp_fail(tp, code)
    else:
        tcp_done(tp)
