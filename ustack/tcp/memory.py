"""The memory of all sockets of a stack: tcp_mem, pressure, and who may have more (Linux __sk_mem_raise_allocated).

What a connection holds (``rmem_alloc`` and ``wmem_queued``, bytes by truesize) is reserved in whole pages of one sum,
``TcpMemory.allocated``. The reservation follows at a few places instead of at each change: before text is kept, before
data is queued, after an ACK, after a read. Up to tcp_mem[0] nobody asks; beyond tcp_mem[1] there is pressure: windows
shrink, send buffers do not grow, and only connections below the average get more; beyond tcp_mem[2] nobody does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mypy_extensions import i64

from ustack.sysctl_names import SOCK_MIN_SNDBUF
from ustack.tcp.control import TCP_INIT_CWND

if TYPE_CHECKING:
    from ustack.net import Net
    from ustack.tcp.control import TcpControl

PAGE_SHIFT: Final[i64] = 12
PAGE_SIZE: Final[i64] = 1 << PAGE_SHIFT
#: What a segment costs Linux beside its bytes, where buffers are sized for the worst: the room for headers with the
#: shared info of an skb, and the skb itself (MAX_TCP_HEADER, SKB_DATA_ALIGN; bytes).
MAX_TCP_HEADER: Final[i64] = 320
SKB_SHARED_INFO: Final[i64] = 320
SKB_STRUCT: Final[i64] = 256


class TcpMemory:
    """One stack's sum (tcp_memory_allocated, tcp_memory_pressure)."""

    def __init__(self, net: Net) -> None:
        self.net: Net = net
        self.allocated: i64 = 0  #: pages
        self.sockets: i64 = 0  #: that have reserved any (tcp_sockets_allocated)
        self.pressure: bool = False
        self.pressure_since: i64 = 0

    def tcp_enter_memory_pressure(self) -> None:
        """More than tcp_mem[1] pages: from now on there is less for everybody."""
        if not self.pressure:
            self.pressure = True
            self.pressure_since = self.net.now
            self.net.mib.tcpext.TCPMemoryPressures += 1

    def tcp_leave_memory_pressure(self) -> None:
        """Back at tcp_mem[0]."""
        if self.pressure:
            self.pressure = False
            self.net.mib.tcpext.TCPMemoryPressuresChrono += (self.net.now - self.pressure_since) // 1_000_000


def sk_mem_schedule(tp: TcpControl, size: i64, receiving: bool) -> bool:
    """Reserve ``size`` bytes more than are in use; False if there are none for this connection (__sk_mem_schedule)."""
    wanted = tp.rmem_alloc + tp.wmem_queued + size - tp.mem_charged
    if wanted <= 0:
        return True
    pages = (wanted + PAGE_SIZE - 1) >> PAGE_SHIFT
    reserve(tp, pages)
    if may_raise(tp, receiving):
        return True
    if not receiving:
        sk_stream_moderate_sndbuf(tp)
        if tp.wmem_queued + size >= tp.sndbuf:
            return True  # its buffer was full already: it waits for that, rather than fail
    release(tp, pages)
    return False


def may_raise(tp: TcpControl, receiving: bool) -> bool:
    """Whether a connection may have what it has just reserved (the rules of __sk_mem_raise_allocated)."""
    memory, sysctl = tp.tables.memory, tp.net.sysctl
    if memory.allocated <= sysctl.tcp_mem_min:
        memory.tcp_leave_memory_pressure()
        return True
    if memory.allocated > sysctl.tcp_mem_pressure:
        memory.tcp_enter_memory_pressure()
    if memory.allocated > sysctl.tcp_mem_max:
        return False
    if receiving:
        if tp.rmem_alloc < sysctl.tcp_rmem_min:
            return True
    elif tp.wmem_queued < sysctl.tcp_wmem_min:
        return True
    if not memory.pressure:
        return True
    return sysctl.tcp_mem_max > memory.sockets * (tp.mem_charged >> PAGE_SHIFT)


def sk_forced_mem_schedule(tp: TcpControl) -> None:
    """Reserve what is in use already, whoever asks: it is here, and has to be counted."""
    wanted = tp.rmem_alloc + tp.wmem_queued - tp.mem_charged
    if wanted > 0:
        reserve(tp, (wanted + PAGE_SIZE - 1) >> PAGE_SHIFT)
        memory = tp.tables.memory
        if memory.allocated > tp.net.sysctl.tcp_mem_pressure:
            memory.tcp_enter_memory_pressure()


def sk_mem_reclaim(tp: TcpControl) -> None:
    """Give the whole pages back that are not in use (sk_mem_reclaim)."""
    spare = tp.mem_charged - tp.rmem_alloc - tp.wmem_queued
    if spare >= PAGE_SIZE:
        release(tp, spare >> PAGE_SHIFT)


def reserve(tp: TcpControl, pages: i64) -> None:
    memory = tp.tables.memory
    if tp.mem_charged == 0:
        memory.sockets += 1
    tp.mem_charged += pages << PAGE_SHIFT
    memory.allocated += pages


def release(tp: TcpControl, pages: i64) -> None:
    memory = tp.tables.memory
    tp.mem_charged -= pages << PAGE_SHIFT
    memory.allocated -= pages
    if tp.mem_charged == 0:
        memory.sockets -= 1
    if memory.pressure and memory.allocated <= tp.net.sysctl.tcp_mem_min:
        memory.tcp_leave_memory_pressure()


def tcp_under_memory_pressure(tp: TcpControl) -> bool:
    return tp.tables.memory.pressure


# -- orphans and the hard limit


def tcp_out_of_memory(tp: TcpControl) -> bool:
    """True if ``tp`` sends and all sockets together have more than tcp_mem[2]."""
    return tp.wmem_queued > SOCK_MIN_SNDBUF and tp.tables.memory.allocated > tp.net.sysctl.tcp_mem_max


def tcp_check_oom(tp: TcpControl, shift: i64) -> bool:
    """True if a connection without owner should go: too many of them, or too much memory. ``shift``: how much more
    suspicious it is than others, each step counts it double (sockstress, CVE-2008-4609)."""
    orphans: i64 = len(tp.tables.orphans)
    return orphans << shift > tp.net.sysctl.tcp_max_orphans or tcp_out_of_memory(tp)


# -- the send buffer


def sk_wmem_schedule(tp: TcpControl, size: i64) -> bool:
    """Whether ``size`` bytes more may be queued to send, as far as all sockets' memory goes (sk_wmem_schedule)."""
    return sk_mem_schedule(tp, size, False)


def sk_stream_moderate_sndbuf(tp: TcpControl) -> None:
    """No more memory: a buffer that is not the user's choice shrinks to half of what is queued."""
    if not tp.sndbuf_locked:
        tp.sndbuf = max(min(tp.sndbuf, tp.wmem_queued >> 1), SOCK_MIN_SNDBUF)


def tcp_should_expand_sndbuf(tp: TcpControl) -> bool:
    """Not against the user's word, not under pressure, and not while the window is full: what is queued then waits for
    the network and not for the user."""
    if tp.sndbuf_locked or tp.tables.memory.pressure:
        return False
    if tp.tables.memory.allocated >= tp.net.sysctl.tcp_mem_min:
        return False
    return tp.tcp_packets_in_flight() < tp.snd_cwnd


def tcp_sndbuf_expand(tp: TcpControl) -> None:
    """Let the send buffer hold two congestion windows of the costliest segments: one in flight, one to recover with."""
    per_mss = max(tp.mss_clamp, tp.mss_cache) + MAX_TCP_HEADER + SKB_SHARED_INFO
    rounded: i64 = 1
    while rounded < per_mss:
        rounded <<= 1
    segments = max(max(TCP_INIT_CWND, tp.snd_cwnd), tp.reordering + 1)
    wanted = tp.congestion.sndbuf_expand(tp) * segments * (rounded + SKB_STRUCT)
    if tp.sndbuf < wanted:
        tp.sndbuf = min(wanted, tp.net.sysctl.tcp_wmem_max)
