"""RtxQueue: what was sent and is not acknowledged, by sequence number and by time of sending.

Linux keeps it as a red-black tree (sk->tcp_rtx_queue) with a list through it in the order of transmission
(tcp_sock.tsorted_sent_queue). Here a sorted list whose head moves: what is acknowledged goes from the front at no
cost, and a sequence number is found by bisection, so that no SACK makes anybody walk the whole queue.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mypy_extensions import i64

from ustack.tcp.segment import TcpSkb

if TYPE_CHECKING:
    from collections.abc import Iterator

#: The front is given back once so many places of it are empty, and they are half of all.
SLACK: Final = 32


class RtxQueue:
    """skbs in the order of their sequence numbers, without gaps; each takes at least one number."""

    def __init__(self) -> None:
        self._items: list[TcpSkb] = []
        self._head: int = 0  # places before this one are empty
        self._gone: TcpSkb | None = None  # fills them, so that nothing acknowledged is kept alive
        # in the order of transmission, oldest first: neither sacked nor waiting to be sent again
        self.tsorted_first: TcpSkb | None = None
        self.tsorted_last: TcpSkb | None = None
        self._sent: i64 = 0  # transmissions so far

    def __len__(self) -> int:
        return len(self._items) - self._head

    def __getitem__(self, index: int) -> TcpSkb:
        """The ``index``-th; -1 is the last."""
        if index < 0:
            index += len(self)
        if not 0 <= index < len(self):
            raise IndexError(index)
        return self._items[self._head + index]

    def __iter__(self) -> Iterator[TcpSkb]:
        """All of them as they are now."""
        return iter(self._items[self._head :])

    def first(self) -> TcpSkb | None:
        return self._items[self._head] if self._head < len(self._items) else None

    def last(self) -> TcpSkb | None:
        return self._items[-1] if self._head < len(self._items) else None

    # -- by sequence number

    def search(self, seq: i64) -> i64:
        """The place of the skb that ``seq`` lies in; 0 for what is before all of them, the length for after."""
        items = self._items
        low: i64 = self._head
        high: i64 = len(items)
        if low == high:
            return 0
        base = items[low].seq
        offset: i64 = (seq - base) & 0xFFFF_FFFF
        if offset > 0x7FFF_FFFF:
            return 0
        first = low
        while low < high:
            middle = (low + high) >> 1
            if ((items[middle].end_seq - base) & 0xFFFF_FFFF) > offset:
                high = middle
            else:
                low = middle + 1
        return low - first

    def at(self, index: i64) -> TcpSkb:
        """The ``index``-th, which must be there."""
        return self._items[self._head + index]

    def next(self, skb: TcpSkb) -> TcpSkb | None:
        """The one after ``skb`` (skb_rb_next)."""
        index = self._head + self.search(skb.end_seq)
        return self._items[index] if index < len(self._items) else None

    # -- changes

    def append(self, skb: TcpSkb) -> None:
        """It was just sent for the first time, after all others."""
        self._items.append(skb)
        self.tsorted_append(skb)

    def popleft(self) -> TcpSkb:
        """Take the first off: it is acknowledged."""
        head = self._head
        skb = self._items[head]
        if head + 1 == len(self._items):
            self._items.clear()
            self._head = 0
        else:
            self._empty(head)
        if self._head > SLACK and self._head * 2 > len(self._items):
            del self._items[: self._head]
            self._head = 0
        self.tsorted_unlink(skb)
        return skb

    def _empty(self, place: int) -> None:
        """Nothing is at ``place`` any more, the front."""
        if self._gone is None:
            self._gone = TcpSkb(0, 0)  # most connections never have two skbs in flight
        self._items[place] = self._gone
        self._head = place + 1

    def clear(self) -> None:
        """Take all of them off; none keeps another alive."""
        for skb in self:
            self.tsorted_unlink(skb)
        self._items.clear()
        self._head = 0

    def insert_after(self, skb: TcpSkb, rest: TcpSkb) -> None:
        """``rest`` was cut from the end of ``skb``, which is in the queue: it was sent just after it."""
        self._items.insert(self._head + self.search(skb.seq) + 1, rest)
        if skb.tsorted:
            self._link(rest, skb, skb.tsorted_next)

    def remove(self, skb: TcpSkb) -> None:
        """It was joined to another one."""
        del self._items[self._head + self.search(skb.seq)]
        self.tsorted_unlink(skb)

    def replace(self, start: i64, end: i64, kept: list[TcpSkb]) -> None:
        """Put ``kept`` where the places from ``start`` to before ``end`` are; none of those left out is tsorted."""
        self._items[self._head + start : self._head + end] = kept

    # -- by time of sending

    def tsorted_append(self, skb: TcpSkb) -> None:
        """It was just sent, or sent again (list_move_tail)."""
        self.tsorted_unlink(skb)
        self._sent += 1
        skb.tx_order = self._sent
        self._link(skb, self.tsorted_last, None)

    def tsorted_unlink(self, skb: TcpSkb) -> None:
        """It is delivered or given up; not an error if it was already (list_del_init)."""
        if not skb.tsorted:
            return
        before, after = skb.tsorted_prev, skb.tsorted_next
        if before is None:
            self.tsorted_first = after
        else:
            before.tsorted_next = after
        if after is None:
            self.tsorted_last = before
        else:
            after.tsorted_prev = before
        skb.tsorted_prev = skb.tsorted_next = None
        skb.tsorted = False

    def _link(self, skb: TcpSkb, before: TcpSkb | None, after: TcpSkb | None) -> None:
        skb.tsorted_prev = before
        skb.tsorted_next = after
        if before is None:
            self.tsorted_first = skb
        else:
            before.tsorted_next = skb
        if after is None:
            self.tsorted_last = skb
        else:
            after.tsorted_prev = skb
        skb.tsorted = True
