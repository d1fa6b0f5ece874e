"""tcp_mem: the memory of all connections of a stack (Linux __sk_mem_raise_allocated, tcp_enter_memory_pressure)."""

from __future__ import annotations

from tests.tcp.block import control_block
from tests.tcp.peer import MSEC, SEC, Peer, established
from ustack.drop import Reason
from ustack.tcp.memory import (
    PAGE_SIZE,
    sk_mem_reclaim,
    sk_mem_schedule,
    sk_wmem_schedule,
    tcp_check_oom,
    tcp_out_of_memory,
    tcp_should_expand_sndbuf,
    tcp_sndbuf_expand,
)

MSS = 1460


def limited(c: Peer, low: int, pressure: int, high: int) -> Peer:
    """tcp_mem, pages."""
    sysctl = c.net.sysctl
    sysctl.tcp_mem_min, sysctl.tcp_mem_pressure, sysctl.tcp_mem_max = low, pressure, high
    return c


def pages(c: Peer) -> int:
    return int(c.stack.tcp.tables.memory.allocated)


def test_what_is_held_is_reserved_in_pages_and_given_back_when_read() -> None:
    with established() as c:
        assert pages(c) == 0
        for _ in range(10):
            c.inject("A", bytes(MSS))
        c.out.clear()
        assert c.tp.rmem_alloc == 10 * (MSS + 256)
        assert pages(c) == (10 * (MSS + 256) + PAGE_SIZE - 1) // PAGE_SIZE
        assert c.tp.mem_charged == pages(c) * PAGE_SIZE
        c.app_recv()
        assert pages(c) == 0 and c.stack.tcp.tables.memory.sockets == 0
        c.out.clear()


def test_a_closed_connection_leaves_nothing_reserved() -> None:
    with established() as c:
        for _ in range(10):
            c.inject("A", bytes(MSS))
        c.inject("A", bytes(MSS), seq=1 + 20 * MSS)
        c.app_send(bytes(20_000))
        c.out.clear()
        assert pages(c) > 0
        c.app_close()
        c.out.clear()
        c.inject("R")
        c.run(SEC)
        c.out.clear()
        assert pages(c) == 0 and c.stack.tcp.tables.memory.sockets == 0


def test_pressure_begins_above_the_second_limit_and_ends_at_the_first() -> None:
    """tcp_enter_memory_pressure, tcp_leave_memory_pressure: TCPMemoryPressures, TCPMemoryPressuresChrono (ms)."""
    with limited(established(), 4, 8, 100) as c:
        memory = c.stack.tcp.tables.memory
        while not memory.pressure:
            c.inject("A", bytes(MSS))
        assert pages(c) == 9
        c.out.clear()
        c.run(500 * MSEC)
        c.app_recv()
        assert not memory.pressure
        moved = c.moved()
        assert moved["TcpExt.TCPMemoryPressures"] == 1 and moved["TcpExt.TCPMemoryPressuresChrono"] == 500
        c.out.clear()


def test_under_pressure_the_window_does_not_grow() -> None:
    """tcp_adjust_rcv_ssthresh: four segments at most are dared."""
    with limited(established(wscale=7), 0, 0, 1000) as c:
        c.inject("A", bytes(MSS))
        c.inject("A", bytes(MSS))
        c.inject("A", bytes(MSS))
        assert c.tp.rcv_ssthresh <= 4 * c.tp.advmss
        c.out.clear()
        c.app_recv()
        c.out.clear()


def test_over_the_hard_limit_text_is_refused_and_the_window_closes() -> None:
    """tcp_data_queue: PROTO_MEM, TCPRcvQDrop; ICSK_ACK_NOMEM: a window of 0 at once, though it was promised."""
    with limited(established(), 1, 2, 3) as c:
        refused = 0
        for number in range(20):
            c.mark()
            c.inject("A", bytes(MSS), seq=1 + number * MSS)
            if c.drops.reasons:
                refused = number
                break
            c.out.clear()
        assert refused > 0
        s = c.expect("A", ack=1 + refused * MSS, window=0)
        assert s.window == 0
        assert c.drops.reasons == [Reason.PROTO_MEM]
        moved = c.moved()
        assert moved["TcpExt.TCPRcvQDrop"] == moved["TcpExt.TCPToZeroWindowAdv"] == 1
        c.mark()
        assert len(c.app_recv()) == refused * MSS
        assert c.expect("A").window > 0  # there is memory again
        c.counted(TCPFromZeroWindowAdv=1, **{k.partition(".")[2]: v for k, v in c.moved().items() if "Pressures" in k})
        c.inject("A", bytes(MSS), seq=1 + refused * MSS)
        assert len(c.app_recv()) == MSS
        c.out.clear()


def test_an_empty_queue_takes_one_segment_whatever_it_costs() -> None:
    """sk_forced_mem_schedule: else the connection would never go on."""
    with limited(established(), 0, 0, 0) as c:
        c.stack.tcp.tables.memory.tcp_enter_memory_pressure()
        c.inject("A", bytes(MSS))
        assert len(c.app_recv()) == MSS
        c.out.clear()


def test_under_pressure_who_has_more_than_the_average_gets_no_more() -> None:
    """__sk_mem_raise_allocated: sockets below the average may still grow."""
    rich, poor = control_block(), control_block()
    poor.tables = rich.tables
    sysctl = rich.net.sysctl
    sysctl.tcp_mem_min, sysctl.tcp_mem_pressure, sysctl.tcp_mem_max = 10, 20, 100
    assert sk_mem_schedule(rich, 60 * PAGE_SIZE, True)
    rich.rmem_alloc = 60 * PAGE_SIZE
    assert rich.tables.memory.pressure
    poor.rmem_alloc = 2 * PAGE_SIZE
    assert sk_mem_schedule(poor, PAGE_SIZE, True)
    assert not sk_mem_schedule(rich, PAGE_SIZE, True)
    assert rich.mem_charged == 60 * PAGE_SIZE
    rich.rmem_alloc = poor.rmem_alloc = 0
    sk_mem_reclaim(rich)
    sk_mem_reclaim(poor)
    assert rich.tables.memory.allocated == 0 and not rich.tables.memory.pressure


def test_who_has_little_may_always_have_tcp_rmem_min_and_tcp_wmem_min() -> None:
    tp = control_block()
    sysctl = tp.net.sysctl
    sysctl.tcp_mem_min, sysctl.tcp_mem_pressure, sysctl.tcp_mem_max = 0, 0, 10
    tp.tables.memory.sockets = 1000
    assert sk_mem_schedule(tp, 4000, True)
    tp.rmem_alloc = 4096
    assert not sk_mem_schedule(tp, 4000, True)
    assert sk_wmem_schedule(tp, 1000)


def test_a_writer_over_the_limit_loses_its_buffer_and_waits() -> None:
    """sk_stream_moderate_sndbuf: half of what is queued, never below SOCK_MIN_SNDBUF."""
    tp = control_block()
    sysctl = tp.net.sysctl
    sysctl.tcp_mem_min = sysctl.tcp_mem_pressure = sysctl.tcp_mem_max = 4
    tp.sndbuf = 100_000
    tp.wmem_queued = 30_000
    tp.mem_charged = 32_768
    tp.tables.memory.allocated = 8
    tp.tables.memory.sockets = 1
    assert sk_wmem_schedule(tp, 5000)  # its buffer is full now: it waits, rather than fail
    assert tp.sndbuf == 15_000


def test_orphans_go_when_there_are_too_many_or_too_little_memory() -> None:
    """tcp_check_oom; CVE-2008-4609 (sockstress): the suspicious count double."""
    tp, other = control_block(), control_block()
    tp.net.sysctl.tcp_max_orphans = 3
    tp.tables.orphans |= {tp, other}
    assert not tcp_check_oom(tp, 0)
    assert tcp_check_oom(tp, 1)
    tp.net.sysctl.tcp_max_orphans = 100
    tp.tables.memory.allocated = tp.net.sysctl.tcp_mem_max + 1
    assert not tcp_out_of_memory(tp)
    tp.wmem_queued = 10_000
    assert tcp_out_of_memory(tp) and tcp_check_oom(tp, 0)


def test_the_send_buffer_holds_two_windows_of_the_costliest_segments() -> None:
    """tcp_sndbuf_expand: 87,040 bytes for ten of 1460, as `ss` shows on Linux."""
    tp = control_block()
    tp.mss_clamp = tp.mss_cache = MSS
    tcp_sndbuf_expand(tp)
    assert tp.sndbuf == 87_040
    tp.snd_cwnd = 100
    tcp_sndbuf_expand(tp)
    assert tp.sndbuf == 870_400
    tp.snd_cwnd = 10_000
    tcp_sndbuf_expand(tp)
    assert tp.sndbuf == tp.net.sysctl.tcp_wmem_max


def test_the_send_buffer_does_not_grow_for_who_fills_the_window_nor_under_pressure() -> None:
    """tcp_should_expand_sndbuf."""
    tp = control_block()
    assert tcp_should_expand_sndbuf(tp)
    tp.packets_out = tp.snd_cwnd
    assert not tcp_should_expand_sndbuf(tp)
    tp.packets_out = 0
    tp.tables.memory.tcp_enter_memory_pressure()
    assert not tcp_should_expand_sndbuf(tp)
    tp.tables.memory.tcp_leave_memory_pressure()
    tp.sndbuf_locked = True
    assert not tcp_should_expand_sndbuf(tp)
