"""The out-of-order queue: segments that came early, sorted, never overlapping (Linux tcp_data_queue_ofo).

SegmentSmack (CVE-2018-5390) was a walk over the queue for each tiny segment. Here the place is found by bisection, and
the typical segment, beyond all others, needs none; opening a gap in the list moves 8 bytes for each segment behind it,
and a receive buffer of 8 MiB holds 32,000 of the smallest: a quarter of a megabyte moved, some 10 microseconds, at the
very worst. Where two segments bring different bytes for one place the one that begins first in the stream wins, unless
the other covers it whole, as in Linux; nothing is ever delivered twice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mypy_extensions import i64

from ustack.tcp.seq import after, before, distance

if TYPE_CHECKING:
    from ustack.packet import Buffer

#: Charged beside the bytes of every segment held (a packet's own size, bytes).
RCV_OVERHEAD: Final[i64] = 256
#: Text of up to so many bytes joins the segment before it ...
COALESCE_MAX: Final[i64] = 512
#: ... while that is not larger than this: what is copied once more for every such segment.
COALESCE_INTO: Final[i64] = 4096


class RcvSegment:
    """Bytes [seq, end_seq) received and not yet read; a FIN is one more than the data. Charged as ``truesize``."""

    def __init__(self, seq: i64, end_seq: i64, data: Buffer, fin: bool, truesize: i64) -> None:
        self.seq: i64 = seq
        self.end_seq: i64 = end_seq
        self.data: Buffer = data
        self.fin: bool = fin
        self.truesize: i64 = truesize

    def cut_head(self, seq: i64) -> None:
        """Forget what lies before ``seq``, which is inside the segment or at its end."""
        known = distance(self.seq, seq)
        self.data = memoryview(self.data)[known:]
        self.seq = seq

    def try_coalesce(self, segment: RcvSegment) -> bool:
        """Take ``segment``, which must follow at once, into this one if both are small (tcp_try_coalesce).

        What it costs beside its bytes is saved; the truesize of this one grows by those.
        """
        data = self.data
        if segment.seq != self.end_seq or self.fin or not isinstance(data, bytes):
            return False
        length: i64 = len(segment.data)
        if length > COALESCE_MAX or len(data) + length > COALESCE_INTO:
            return False
        self.data = data + segment.data
        self.end_seq = segment.end_seq
        self.fin = segment.fin
        self.truesize += length
        return True


class OfoQueue:
    """Sorted by ``seq``, counted from the first missing byte; ``memory`` is the sum of the truesizes (bytes).

    ``overlaps``: what of the segment inserted last had been here already, [start, end) each (RFC 2883).
    """

    def __init__(self) -> None:
        self.segments: list[RcvSegment] = []
        self.memory: i64 = 0
        self.swallowed: i64 = 0  #: segments that a later one covered, ever
        self.coalesced: i64 = 0  #: segments that became part of the one before them, ever
        self.overlaps: list[tuple[int, int]] = []

    def __len__(self) -> int:
        return len(self.segments)

    def insert(self, segment: RcvSegment, rcv_nxt: i64) -> bool:
        """Keep what of ``segment`` is new; False if every byte of it was known."""
        if self.overlaps:
            self.overlaps = []
        at = self._place(segment.seq, rcv_nxt)
        told = True
        if at > 0:
            left = self.segments[at - 1]
            if not before(left.end_seq, segment.end_seq):
                self.overlaps.append((int(segment.seq), int(segment.end_seq)))
                return False
            if left.seq == segment.seq:
                at -= 1  # covered whole: it goes
            elif after(left.end_seq, segment.seq):
                self.overlaps.append((int(segment.seq), int(left.end_seq)))
                segment.cut_head(left.end_seq)
            else:
                # Linux joins it to what it follows at once, and does not look what it reaches on its other side
                told = left.end_seq != segment.seq
        if not self._make_room(at, segment, told):
            return False
        if at > 0 and self.segments[at - 1].try_coalesce(segment):
            self.coalesced += 1
            self.memory += len(segment.data)
            return True
        self.segments.insert(at, segment)
        self.memory += segment.truesize
        return True

    def take_ready(self, rcv_nxt: i64) -> list[RcvSegment]:
        """Take the segments that the stream has reached, and those it reaches with them, all in one go."""
        count = 0
        for segment in self.segments:
            if after(segment.seq, rcv_nxt):
                break
            if after(segment.end_seq, rcv_nxt):
                rcv_nxt = segment.end_seq
            self.memory -= segment.truesize
            count += 1
        ready = self.segments[:count]
        del self.segments[:count]
        return ready

    def prune(self, seq: i64) -> i64:
        """Give up the segment furthest ahead (tcp_prune_ofo_queue); how much that frees, 0 if none begins beyond
        ``seq``."""
        if not self.segments or after(seq, self.segments[-1].seq):
            return 0
        gone = self.segments.pop().truesize
        self.memory -= gone
        return gone

    def end(self) -> i64:
        """One past the last byte held; the queue is not empty."""
        return self.segments[-1].end_seq

    def _place(self, seq: i64, rcv_nxt: i64) -> int:
        """Index of the first segment that starts after ``seq``."""
        low, high, at = 0, len(self.segments), distance(rcv_nxt, seq)
        if high and distance(rcv_nxt, self.segments[high - 1].seq) <= at:
            return high
        while low < high:
            middle = (low + high) // 2
            if distance(rcv_nxt, self.segments[middle].seq) <= at:
                low = middle + 1
            else:
                high = middle
        return low

    def _make_room(self, at: int, segment: RcvSegment, told: bool) -> bool:
        """Drop the segments from ``at`` on that ``segment`` covers, and the head of the one it overlaps; False if
        nothing of it would be left. ``told``: the overlaps are reported."""
        end_seq = segment.end_seq
        last = at
        while last < len(self.segments) and not after(self.segments[last].end_seq, end_seq):
            known = self.segments[last]
            if told:
                self.overlaps.append((int(known.seq), int(known.end_seq)))
                self.swallowed += 1
            self.memory -= known.truesize
            last += 1
        del self.segments[at:last]
        if at == len(self.segments) or not after(end_seq, self.segments[at].seq):
            return True
        right = self.segments[at]
        if told:
            self.overlaps.append((int(right.seq), int(end_seq)))
        if right.seq == segment.seq:
            return False
        right.cut_head(end_seq)
        return True


def tcp_collapse(segments: list[RcvSegment]) -> list[RcvSegment]:
    """The same bytes in fewer segments, what follows at once joined to the one before it (tcp_collapse).

    Copies views out of the frames they keep alive; no piece grows beyond COALESCE_INTO, but for one that was larger.
    """
    joined: list[RcvSegment] = []
    run: list[RcvSegment] = []
    size: i64 = 0
    for segment in segments:
        length: i64 = len(segment.data)
        if run and (run[-1].end_seq != segment.seq or size + length > COALESCE_INTO or run[-1].fin):
            joined.append(join(run, size))
            run = []
            size = 0
        run.append(segment)
        size += length
    if run:
        joined.append(join(run, size))
    return joined


def join(run: list[RcvSegment], size: i64) -> RcvSegment:
    """One segment of a run of them, of ``size`` bytes; a lone one stays as it is, unless half of its cost is waste."""
    first, last = run[0], run[-1]
    if len(run) == 1 and first.truesize <= (size << 1) + RCV_OVERHEAD:
        return first
    data = b"".join([segment.data for segment in run])
    return RcvSegment(first.seq, last.end_seq, data, last.fin, size + RCV_OVERHEAD)
