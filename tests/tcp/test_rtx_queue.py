"""RtxQueue against a plain list, anywhere on the circle of sequence numbers."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ustack.tcp.rtx_queue import RtxQueue
from ustack.tcp.segment import TcpSkb
from ustack.wire.tcp import TCPHDR_ACK

M32 = 0xFFFF_FFFF


def skb(seq: int, length: int) -> TcpSkb:
    s = TcpSkb(seq & M32, TCPHDR_ACK)
    s.append(bytes(length), length)
    return s


def by_time(queue: RtxQueue) -> list[TcpSkb]:
    """The list in the order of transmission, walked both ways."""
    forward: list[TcpSkb] = []
    at = queue.tsorted_first
    while at is not None:
        forward.append(at)
        at = at.tsorted_next
    backward: list[TcpSkb] = []
    at = queue.tsorted_last
    while at is not None:
        backward.append(at)
        at = at.tsorted_prev
    assert forward == backward[::-1]
    assert all(s.tsorted for s in forward)
    return forward


def filled(base: int, count: int) -> tuple[RtxQueue, list[TcpSkb]]:
    queue = RtxQueue()
    items = [skb(base + 10 * n, 10) for n in range(count)]
    for item in items:
        queue.append(item)
    return queue, items


def test_an_empty_queue() -> None:
    queue = RtxQueue()
    assert (len(queue), bool(queue), list(queue), queue.first(), queue.last(), queue.search(5)) == (
        0,
        0,
        [],
        None,
        None,
        0,
    )
    with pytest.raises(IndexError):
        queue[0]


@pytest.mark.parametrize("base", [0, 1000, M32 - 25])
def test_a_number_is_found_by_bisection(base: int) -> None:
    queue, items = filled(base, 6)
    for n in range(6):
        for inside in (0, 9):
            assert queue.search((base + 10 * n + inside) & M32) == n
        assert queue.at(n) is items[n]
    assert queue.search((base - 1) & M32) == 0
    assert queue.search((base + 60) & M32) == 6
    assert queue.next(items[5]) is None
    assert [queue.next(s) for s in items[:5]] == items[1:]


def test_what_is_acknowledged_is_not_kept_alive() -> None:
    queue, items = filled(0, 100)
    for n in range(99):
        assert queue.popleft() is items[n]
        assert (len(queue), queue.first(), queue[0], queue[-1]) == (99 - n, items[n + 1], items[n + 1], items[99])
        assert not items[n].tsorted
    assert by_time(queue) == [items[99]]
    queue.popleft()
    assert not queue and by_time(queue) == []
    queue.append(items[0])
    assert list(queue) == [items[0]]


def test_the_rest_of_what_was_cut_follows_it_in_both_orders() -> None:
    queue, items = filled(M32 - 15, 3)
    queue.tsorted_append(items[0])
    rest = items[0].split(4, 4)
    queue.insert_after(items[0], rest)
    assert list(queue) == [items[0], rest, items[1], items[2]]
    assert by_time(queue) == [items[1], items[2], items[0], rest]
    queue.tsorted_unlink(items[1])
    tail = items[1].split(3, 3)
    queue.insert_after(items[1], tail)
    assert not tail.tsorted
    assert list(queue) == [items[0], rest, items[1], tail, items[2]]
    queue.tsorted_unlink(items[1])  # a second time is no error
    assert by_time(queue) == [items[2], items[0], rest]


@settings(max_examples=100, deadline=None)
@given(st.integers(0, M32), st.lists(st.tuples(st.sampled_from("apirst"), st.integers(0, 1 << 16)), max_size=80))
def test_like_a_list(base: int, steps: list[tuple[str, int]]) -> None:
    """a append, p popleft, i insert the rest of a cut, r remove (joined), s search, t sent again."""
    queue, model, sent = RtxQueue(), [skb(base, 10)], []
    queue.append(model[0])
    sent.append(model[0])
    for step, number in steps:
        at = number % len(model) if model else 0
        if step == "a" or not model:
            new = skb(int(model[-1].end_seq) if model else base, 1 + number % 50)
            queue.append(new)
            model.append(new)
            sent.append(new)
        elif step == "p":
            gone = queue.popleft()
            assert gone is model.pop(0)
            sent.remove(gone)
        elif step == "i" and model[at].len > 1:
            rest = model[at].split(1 + number % (int(model[at].len) - 1), 1460)
            queue.insert_after(model[at], rest)
            sent.insert(sent.index(model[at]) + 1, rest)
            model.insert(at + 1, rest)
        elif step == "r" and at:
            gone = model.pop(at)
            queue.remove(gone)
            model[at - 1].end_seq = gone.end_seq
            sent.remove(gone)
        elif step == "s":
            inside = int(model[at].seq) + number % ((int(model[at].end_seq) - int(model[at].seq)) & M32)
            assert queue.search(inside & M32) == at
        elif step == "t":
            queue.tsorted_append(model[at])
            sent.remove(model[at])
            sent.append(model[at])
        assert list(queue) == model and len(queue) == len(model)
        assert by_time(queue) == sent
