"""The end of a connection: orderly, by a reset, or by giving up (Linux tcp_done, tcp_reset, tcp_write_err)."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from mypy_extensions import i64

from ustack.sock import SHUTDOWN_MASK, TCP_CLOSE, TCP_CLOSE_WAIT, TCP_FIN_WAIT2, TCP_SYN_RECV, TCP_SYN_SENT
from ustack.tcp.congestion.cong import tcp_cleanup_congestion_control
from ustack.tcp.control import TCP_TIMEWAIT_LEN
from ustack.tcp.fastopen_syn import tcp_fastopen_active_disable_ofo_check
from ustack.tcp.memory import sk_mem_reclaim
from ustack.tcp.notify import ERROR_REPORT, STATE_CHANGE, tcp_wake
from ustack.tcp.request import reqsk_fastopen_remove
from ustack.tcp.scoreboard import tcp_clear_all_retrans_hints
from ustack.tcp.states import Event
from ustack.tcp.timewait import tcp_time_wait
from ustack.tcp.transmit import NO_PIECES, tcp_acceptable_seq, tcp_established_options, tcp_send_segment
from ustack.tcp.tx_watch import tcp_tx_purged
from ustack.trace.points import Point
from ustack.trace.words import SocketGiven
from ustack.wire.tcp import TCPHDR_ACK, TCPHDR_RST

if TYPE_CHECKING:
    from ustack.tcp.control import TcpControl


def tcp_done(tp: TcpControl) -> None:
    """The connection is over, by the peer or by itself."""
    if tp.state == TCP_SYN_SENT or tp.state == TCP_SYN_RECV:
        tp.net.mib.tcp.AttemptFails += 1
    tcp_closed(tp)


def tcp_closed(tp: TcpControl) -> None:
    """No timer, no table knows it any more. Its owner may still read what has arrived.

    An open that the owner himself takes back comes here at once: as in Linux it has not failed (tcp_close_state).
    """
    if tp.state != TCP_CLOSE:
        tp.move(Event.ABORT)
    if tp.fastopen_rsk is not None:
        reqsk_fastopen_remove(tp, False)
    if tp.syn_fastopen:
        tcp_fastopen_active_disable_ofo_check(tp)
    tp.clear_all_timers()
    tp.tables.remove(tp)
    drop_write_queues(tp)
    tp.shutdown = SHUTDOWN_MASK
    if tp.dead or not tp.bound_port:
        tp.tables.ports.release(tp)
    if tp.dead:
        tp.tables.orphans.discard(tp)
        free_receive_queues(tp)
        tcp_cleanup_congestion_control(tp)
    else:
        tcp_wake(tp, STATE_CHANGE)


def drop_write_queues(tp: TcpControl) -> None:
    """Nothing will be sent any more (tcp_write_queue_purge)."""
    tp.write_queue = None
    if tp.rtx_queue is not None:
        tp.rtx_queue.clear()
        tp.rtx_queue = None
    tcp_clear_all_retrans_hints(tp)
    tp.wmem_queued = 0
    tp.packets_out = 0
    if tp.tx_watch is not None:
        tcp_tx_purged(tp, tp.tx_watch)
    sk_mem_reclaim(tp)


def free_receive_queue(tp: TcpControl) -> None:
    """Nobody will read any more: what is in order is thrown away, and the peer still learns of what is not."""
    tp.receive_queue = None
    tp.rmem_alloc = 0 if tp.ofo is None else tp.ofo.memory
    sk_mem_reclaim(tp)


def free_receive_queues(tp: TcpControl) -> None:
    """All that was received is thrown away."""
    tp.receive_queue = None
    tp.ofo = None
    tp.selective_acks = []  # what was thrown away must not be said to be here
    tp.rmem_alloc = 0
    sk_mem_reclaim(tp)


def tcp_enter_time_wait(tp: TcpControl, substate: i64, lasting: i64) -> None:
    """Leave a TimeWait behind and finish the socket; ``substate`` as in timewait.py."""
    tcp_time_wait(tp, substate, lasting)
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
    """End the connection with an error for its owner (tcp_done_with_error)."""
    tp.err = code
    tp.backoff = 0
    if not tp.dead:
        tcp_wake(tp, ERROR_REPORT)
    tcp_done(tp)


def tcp_write_err(tp: TcpControl) -> None:
    """Retransmission has gone on too long: ETIMEDOUT, or what ICMP had said meanwhile (RFC 1122 section 4.2.3.5)."""
    tp.net.mib.tcpext.TCPAbortOnTimeout += 1
    tcp_fail(tp, tp.err_soft or errno.ETIMEDOUT)


def tcp_send_active_reset(tp: TcpControl, why: str) -> None:
    """Tell the peer that the connection is aborted: <SEQ=SND.NXT><CTL=RST> (RFC 9293 section 3.10.5).

    ``why``: for who traces it (enum sk_rst_reason).
    """
    if tp.net.tracer is not None:
        tp.net.tracer.note(Point.TCP_SEND_ACTIVE_RESET, why, SocketGiven(tp))
    tp.net.mib.tcp.OutRsts += 1
    tp.net.mib.tcp.OutSegs += 1
    tp.segs_out += 1
    tcp_send_segment(tp, tcp_acceptable_seq(tp), TCPHDR_ACK | TCPHDR_RST, tcp_established_options(tp), NO_PIECES, 0)


def tcp_abort(tp: TcpControl, why: str) -> None:
    """End it at once, from our side, and let the peer hear of it."""
    tcp_send_active_reset(tp, why)
    tcp_closed(tp)


def fin_wait2_alone(tp: TcpControl) -> None:
    """Nobody owns it and only the peer's FIN is awaited: a TimeWait can do that, for as long as TCP_LINGER2 says.

    What is beyond the length of a TIME_WAIT passes before, in the socket.
    """
    lasting = tp.fin_timeout()
    if lasting > TCP_TIMEWAIT_LEN:
        tp.reset_keepalive_timer(lasting - TCP_TIMEWAIT_LEN)
    else:
        tcp_enter_time_wait(tp, TCP_FIN_WAIT2, lasting)


def fin_wait2_timeout(tp: TcpControl) -> None:
    """The orphan's socket has waited for the peer's FIN: a TimeWait waits on, or no more time is left (of
    tcp_keepalive_timer)."""
    lasting = tp.fin_timeout() - TCP_TIMEWAIT_LEN
    if tp.linger2 >= 0 and lasting > 0:
        tcp_enter_time_wait(tp, TCP_FIN_WAIT2, lasting)
    else:
        tcp_abort(tp, "no FIN came")
