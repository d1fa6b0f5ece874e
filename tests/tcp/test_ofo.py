"""The out-of-order queue against a model: a dictionary from position to byte."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from ustack.tcp.ofo import OfoQueue, RcvSegment, tcp_collapse

STREAM = bytes(range(256)) * 4
segments = st.lists(st.tuples(st.integers(1, 300), st.integers(1, 80), st.booleans()), min_size=1, max_size=40)
bases = st.sampled_from([0, 1000, 0x7FFF_FFC0, 0xFFFF_FF80])


def segment(base: int, at: int, length: int, fin: bool = False) -> RcvSegment:
    """Bytes [at, at + length) of STREAM, counted from ``base``."""
    end = (base + at + length + (1 if fin else 0)) & 0xFFFF_FFFF
    return RcvSegment((base + at) & 0xFFFF_FFFF, end, STREAM[at : at + length], fin, length + 100)


@settings(max_examples=200, deadline=None)
@given(bases, segments)
def test_whatever_comes_the_queue_is_sorted_disjoint_and_true(base: int, arrivals: list[tuple[int, int, bool]]) -> None:
    queue = OfoQueue()
    known: set[int] = set()
    for at, length, _ in arrivals:
        queue.insert(segment(base, at, length), base)
        known |= set(range(at, at + length))
        held: list[int] = []
        for kept in queue.segments:
            start = (kept.seq - base) & 0xFFFF_FFFF
            assert bytes(kept.data) == STREAM[start : start + len(kept.data)]
            assert (kept.end_seq - kept.seq) & 0xFFFF_FFFF == len(kept.data)
            held += range(start, start + len(kept.data))
        assert held == sorted(known)
        assert queue.memory == sum(kept.truesize for kept in queue.segments)


@settings(max_examples=100, deadline=None)
@given(bases, st.permutations(range(12)))
def test_any_order_of_arrival_gives_the_stream(base: int, order: list[int]) -> None:
    """RFC 9293 3.10.7.4: segments "may be held for later processing"; what is delivered is the stream, once."""
    queue = OfoQueue()
    rcv_nxt, read = base, b""
    for index in order:
        queue.insert(segment(base, index * 10, 10), rcv_nxt)
        for ready in queue.take_ready(rcv_nxt):
            read += bytes(ready.data)
            rcv_nxt = ready.end_seq
    assert read == STREAM[:120] and len(queue) == 0 and queue.memory == 0


def test_a_segment_that_is_known_already_is_refused() -> None:
    queue = OfoQueue()
    assert queue.insert(segment(0, 10, 20), 0)
    before = queue.memory
    assert not queue.insert(segment(0, 12, 5), 0)
    assert not queue.insert(segment(0, 10, 20), 0)
    assert queue.memory == before


def test_the_fin_at_the_end_is_kept_when_its_data_is_known() -> None:
    queue = OfoQueue()
    queue.insert(segment(0, 10, 20), 0)
    assert queue.insert(segment(0, 10, 20, fin=True), 0)
    assert queue.segments[-1].fin


def test_where_segments_overlap_the_one_that_begins_first_wins() -> None:
    """Inconsistent retransmission (Ptacek and Newsham): Linux keeps both whole, and its reader goes through them in
    the order in which they begin."""
    queue = OfoQueue()
    queue.insert(RcvSegment(10, 20, b"a" * 10, False, 10), 0)
    queue.insert(RcvSegment(15, 25, b"b" * 10, False, 10), 0)
    queue.insert(RcvSegment(5, 12, b"c" * 7, False, 10), 0)
    assert b"".join(bytes(s.data) for s in queue.segments) == b"c" * 7 + b"a" * 8 + b"b" * 5
    assert queue.overlaps == [(10, 12)]


def test_nothing_is_kept_of_what_two_neighbours_cover() -> None:
    queue = OfoQueue()
    queue.insert(segment(0, 5, 500), 0)
    queue.insert(segment(0, 505, 515), 0)
    assert len(queue) == 2
    before = queue.memory
    assert not queue.insert(segment(0, 400, 200), 0)
    assert len(queue) == 2 and queue.memory == before
    assert queue.overlaps == [(400, 505), (505, 600)]


def test_what_follows_at_once_is_joined_and_overlaps_nothing() -> None:
    """Linux joins it to the one before it first, and does not look further: no D-SACK tells of what it reaches."""
    queue = OfoQueue()
    queue.insert(segment(0, 10, 20), 0)
    queue.insert(segment(0, 40, 20), 0)
    assert queue.insert(segment(0, 30, 15), 0)
    assert queue.overlaps == [] and [(s.seq, s.end_seq) for s in queue.segments] == [(10, 45), (45, 60)]
    queue.insert(segment(0, 70, 5), 0)
    assert queue.insert(segment(0, 60, 20), 0)
    assert queue.overlaps == [] and queue.swallowed == 0


def test_the_fin_of_what_begins_first_ends_the_stream() -> None:
    """What is held beyond it will never be read: tcp_fin throws it away."""
    queue = OfoQueue()
    queue.insert(segment(0, 20, 10), 0)
    queue.insert(segment(0, 10, 12, fin=True), 0)
    assert [(s.seq, s.end_seq, s.fin) for s in queue.segments] == [(10, 23, True), (23, 30, False)]


def test_pruning_gives_up_what_is_furthest_ahead() -> None:
    queue = OfoQueue()
    queue.insert(segment(0, 50, 10), 0)
    queue.insert(segment(0, 20, 10), 0)
    assert not queue.prune(51)  # nothing lies further ahead than what has just come
    assert queue.prune(20)
    assert [s.seq for s in queue.segments] == [20]
    assert queue.memory == 110


def test_collapsing_joins_what_is_adjacent_and_small() -> None:
    """tcp_collapse: up to 4096 bytes a piece; a hole stays a hole, a FIN the end."""
    small = [segment(0, at, 100) for at in (0, 300)]
    assert tcp_collapse(small) == small  # nothing touches
    row = [RcvSegment(at, at + 600, bytes([at // 600]) * 600, False, 856) for at in range(0, 6000, 600)]
    row.append(RcvSegment(6000, 6002, b"!", True, 257))
    joined = tcp_collapse(row)
    assert [(s.seq, s.end_seq) for s in joined] == [(0, 3600), (3600, 6002)]
    assert b"".join(bytes(s.data) for s in joined) == b"".join(bytes(s.data) for s in row)
    assert joined[-1].fin and [s.truesize for s in joined] == [3600 + 256, 2401 + 256]


def test_collapsing_frees_the_frame_that_a_small_rest_keeps_alive() -> None:
    frame = bytes(65_000)
    rest = RcvSegment(0, 100, memoryview(frame)[:100], False, 65_256)
    (copy,) = tcp_collapse([rest])
    assert isinstance(copy.data, bytes) and copy.truesize == 356
    most = RcvSegment(0, 60_000, memoryview(frame)[:60_000], False, 65_256)
    assert tcp_collapse([most]) == [most]


def test_small_segments_become_part_of_the_one_before() -> None:
    """tcp_try_coalesce: up to 4096 bytes, and no view, which would keep two frames."""
    first = RcvSegment(0, 500, bytes(500), False, 756)
    assert first.try_coalesce(RcvSegment(500, 1001, bytes(500), True, 756))
    assert (first.end_seq, len(first.data), first.fin, first.truesize) == (1001, 1000, True, 1256)
    assert not first.try_coalesce(RcvSegment(1001, 1002, b"x", False, 257))  # beyond a FIN
    whole = RcvSegment(0, 4000, bytes(4000), False, 4256)
    assert not whole.try_coalesce(RcvSegment(4001, 4002, b"x", False, 257))  # a hole
    assert not whole.try_coalesce(RcvSegment(4000, 4200, bytes(200), False, 456))
    view = RcvSegment(0, 10, memoryview(bytes(10)), False, 266)
    assert not view.try_coalesce(RcvSegment(10, 11, b"x", False, 257))


def test_a_hostile_order_costs_no_walk() -> None:
    """CVE-2018-5390: twenty thousand segments, each before all others or in the middle, in about a second even
    interpreted; a walk for each would be two hundred million steps."""
    queue = OfoQueue()
    count = 20_000
    for n in range(count):
        at = (count - n) * 4 if n % 2 else (count + n) * 4
        queue.insert(RcvSegment(at, at + 1, b"x", False, 257), 0)
    assert len(queue) == count
    assert [s.seq for s in queue.segments] == sorted(s.seq for s in queue.segments)
