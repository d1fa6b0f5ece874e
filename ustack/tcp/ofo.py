"""The out-of-order queue: segments that came early, sorted, never overlapping (Linux tcp_data_queue_ofo).

Insertion finds its place by bisection, so tiny segments in hostile order cost a logarithm and not a walk
(CVE-2018-5390). Where two segments bring different bytes for one place the one kept first wins, unless the new one
covers it whole, as in Linux; nothing is ever delivered twice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mypy_extensions import i64

from ustack.tcp.seq import after, before, distance

if TYPE_CHECKING:
    from ustack.packet import Buffer


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

    def cut_tail(self, seq: i64) -> None:
        """Forget what lies from ``seq`` on, the FIN first of all."""
        self.fin = False
        self.data = memoryview(self.data)[: distance(self.seq, seq)]
        self.end_seq = seq


class OfoQueue:
    """Sorted by ``seq``, counted from the first missing byte; ``memory`` is the sum of the truesizes (bytes)."""

    def __init__(self) -> None:
        self.segments: list[RcvSegment] = []
        self.memory: i64 = 0
        self.swallowed: i64 = 0  #: segments that a later one covered, ever

    def __len__(self) -> int:
        return len(self.segments)

    def insert(self, segment: RcvSegment, rcv_nxt: i64) -> bool:
        """Keep what of ``segment`` is new; False if every byte of it was known."""
        at = self._place(segment.seq, rcv_nxt)
        if at > 0:
            left = self.segments[at - 1]
            if not before(left.end_seq, segment.end_seq):
                return False
            if after(left.end_seq, segment.seq):
                segment.cut_head(left.end_seq)
        self._swallow(at, segment.end_seq)
        if at < len(self.segments) and after(segment.end_seq, self.segments[at].seq):
            segment.cut_tail(self.segments[at].seq)
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

    def prune(self, seq: i64) -> bool:
        """Give up the segment furthest ahead (tcp_prune_ofo_queue); False if none begins after ``seq``."""
        if not self.segments or not after(self.segments[-1].seq, seq):
            return False
        self.memory -= self.segments.pop().truesize
        return True

    def _place(self, seq: i64, rcv_nxt: i64) -> int:
        """Index of the first segment that starts after ``seq``."""
        low, high, at = 0, len(self.segments), distance(rcv_nxt, seq)
        while low < high:
            middle = (low + high) // 2
            if distance(rcv_nxt, self.segments[middle].seq) <= at:
                low = middle + 1
            else:
                high = middle
        return low

    def _swallow(self, at: int, end_seq: i64) -> None:
        """Drop the segments from ``at`` on that end by ``end_seq``."""
        last = at
        while last < len(self.segments) and not after(self.segments[last].end_seq, end_seq):
            self.memory -= self.segments[last].truesize
            last += 1
        self.swallowed += last - at
        del self.segments[at:last]
