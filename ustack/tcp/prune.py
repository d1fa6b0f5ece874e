"""Over the receive buffer: what can be done before a segment is refused (Linux tcp_prune_queue).

First the buffer grows to what is held, if it may; then small segments are joined; last of all text beyond holes is
given up, furthest ahead first. It will be sent again: nobody has acknowledged it but selectively.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from mypy_extensions import i64

from ustack.tcp.memory import sk_mem_reclaim, sk_mem_schedule, tcp_under_memory_pressure
from ustack.tcp.ofo import tcp_collapse
from ustack.tcp.sack_out import tcp_sack_reset
from ustack.tcp.window import tcp_adjust_rcv_ssthresh

if TYPE_CHECKING:
    from ustack.tcp.control import TcpControl
    from ustack.tcp.ofo import RcvSegment


def tcp_can_ingest(tp: TcpControl, length: i64) -> bool:
    """Whether ``length`` bytes of text fit into the buffer; what they cost beside that may lie beyond its end."""
    return tp.rmem_alloc + length <= tp.rcvbuf


def tcp_try_rmem_schedule(tp: TcpControl, segment: RcvSegment) -> bool:
    """Whether ``segment`` may be kept: it fits into the buffer, and there is memory for it."""
    seq, size = segment.seq, segment.truesize
    length: i64 = len(segment.data)
    if tcp_can_ingest(tp, length) and sk_mem_schedule(tp, size, True):
        return True
    if not tcp_prune_queue(tp, seq, length):
        return False
    while not sk_mem_schedule(tp, size, True):
        if not tcp_prune_ofo_queue(tp, seq, length):
            return False
    return True


def tcp_prune_queue(tp: TcpControl, seq: i64, length: i64) -> bool:
    """Make room for ``length`` bytes at ``seq``; False if there is none to be had."""
    if tp.rmem_alloc == 0:
        return False
    mib = tp.net.mib.tcpext
    mib.PruneCalled += 1
    if not tcp_can_ingest(tp, length):
        tcp_clamp_window(tp)
    elif tcp_under_memory_pressure(tp):
        tcp_adjust_rcv_ssthresh(tp)
    if tcp_can_ingest(tp, length):
        return True
    tcp_collapse_queues(tp)
    if tcp_can_ingest(tp, length):
        return True
    tcp_prune_ofo_queue(tp, seq, length)
    if tcp_can_ingest(tp, length):
        return True
    mib.RcvPruned += 1
    return False


def tcp_clamp_window(tp: TcpControl) -> None:
    """What is held is more than the buffer: it grows if it may, and if that is not enough the window shuts down."""
    sysctl = tp.net.sysctl
    memory = tp.tables.memory
    tp.ack_quick = 0
    if tp.rcvbuf < sysctl.tcp_rmem_max and not tp.rcvbuf_locked and not memory.pressure:
        if memory.allocated < sysctl.tcp_mem_min:
            tp.rcvbuf = max(tp.rcvbuf, min(tp.rmem_alloc, sysctl.tcp_rmem_max))
    if tp.rmem_alloc > tp.rcvbuf:
        tp.rcv_ssthresh = min(tp.window_clamp, 2 * tp.advmss)


def tcp_collapse_queues(tp: TcpControl) -> None:
    """Join what is small in both queues.

    A walk over all that is held, and in vain if it has been done just now: again only when an eighth more is there.
    """
    reading = tp.receive_queue
    queue = tp.ofo
    count: i64 = (len(reading) if reading is not None else 0) + (len(queue) if queue is not None else 0)
    if tp.collapsed <= count <= tp.collapsed + (tp.collapsed >> 3):
        return
    left: i64 = 0
    if reading:
        held = list(reading)
        joined = tcp_collapse(held)
        tp.receive_queue = deque(joined)
        tp.rmem_alloc += sum([segment.truesize for segment in joined]) - sum([segment.truesize for segment in held])
        left += len(joined)
    if queue is not None:
        was = queue.memory
        queue.segments = tcp_collapse(queue.segments)
        queue.memory = sum([segment.truesize for segment in queue.segments])
        tp.rmem_alloc += queue.memory - was
        left += len(queue)
    tp.net.mib.tcpext.TCPRcvCollapsed += count - left
    tp.collapsed = left
    sk_mem_reclaim(tp)


def tcp_prune_ofo_queue(tp: TcpControl, seq: i64, length: i64) -> bool:
    """For ``length`` bytes give up text beyond ``seq``, furthest first, an eighth of the buffer at a time so that an
    attacker's next segment does not come to the same end; False if there was none."""
    queue = tp.ofo
    if queue is None or len(queue) == 0:
        return False
    pruned = False
    goal = tp.rcvbuf >> 3
    while True:
        freed = queue.prune(seq)
        if freed == 0:
            break
        pruned = True
        tp.rmem_alloc -= freed
        goal -= freed
        if goal <= 0 or len(queue) == 0:
            sk_mem_reclaim(tp)
            if tcp_can_ingest(tp, length) and not tcp_under_memory_pressure(tp):
                break
            goal = tp.rcvbuf >> 3
    if not pruned:
        return False
    if len(queue) == 0:
        tp.ofo = None
    sk_mem_reclaim(tp)
    tp.net.mib.tcpext.OfoPruned += 1
    tcp_sack_reset(tp)
    return True
