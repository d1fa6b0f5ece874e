"""The error queue by itself: order, merging, its bound, and the layout of its control messages."""

from __future__ import annotations

import errno
import struct

import pytest

from ustack.error_queue import (
    ENTRY_SIZE,
    IP_RECVERR,
    SCM_TIMESTAMPING,
    SO_EE_CODE_ZEROCOPY_COPIED,
    SO_EE_ORIGIN_TIMESTAMPING,
    SO_EE_ORIGIN_ZEROCOPY,
    SOF_TIMESTAMPING_SOFTWARE,
    SOL_IP,
    SOL_SOCKET,
    ErrorQueue,
    ExtendedError,
    inet_recv_error,
)
from ustack.net import Net
from ustack.sock import MSG_ERRQUEUE, MSG_TRUNC, Observer, Sock


class Bell(Observer):
    def __init__(self) -> None:
        self.rung = 0

    def error_report(self, sk: Sock) -> None:
        self.rung += 1


def sock_with_queue() -> tuple[Sock, ErrorQueue, Bell]:
    sk = Sock(Net(b"a seed for tests"), 1, 6)
    sk.error_queue = queue = ErrorQueue()
    sk.observer = bell = Bell()
    return sk, queue, bell


def test_without_an_entry_there_is_nothing_to_receive() -> None:
    sk, _, _ = sock_with_queue()
    with pytest.raises(BlockingIOError):
        inet_recv_error(sk)
    sk.error_queue = None
    with pytest.raises(BlockingIOError):
        inet_recv_error(sk)


def test_completions_that_follow_each_other_are_one_entry() -> None:
    """MSG_ZEROCOPY: ee_info to ee_data is the range of sends whose buffers are free."""
    sk, queue, bell = sock_with_queue()
    assert queue.zerocopy_done(sk, 0, 0)
    assert queue.zerocopy_done(sk, 1, 2)
    assert queue.zerocopy_done(sk, 4, 4)
    assert bell.rung == 0  # that is for who adds, when the owner may act
    message = inet_recv_error(sk)
    assert (message.data, message.flags) == (b"", MSG_ERRQUEUE)
    expected = struct.pack("=IBBBxII", 0, SO_EE_ORIGIN_ZEROCOPY, 0, SO_EE_CODE_ZEROCOPY_COPIED, 0, 2) + bytes(16)
    assert message.control == [(SOL_IP, IP_RECVERR, expected)]
    assert bell.rung == 1  # there is more
    assert inet_recv_error(sk).flags == MSG_ERRQUEUE
    assert bell.rung == 1


def test_a_time_stands_before_what_it_is_of_and_only_for_who_wants_it() -> None:
    sk, queue, _ = sock_with_queue()
    for _ in range(2):
        entry = ExtendedError(errno.ENOMSG, SO_EE_ORIGIN_TIMESTAMPING, 0, 1, 41, 5_000_000_007)
        entry.length = 1
        queue.add(sk, entry)
    sk.tsflags = SOF_TIMESTAMPING_SOFTWARE
    message = inet_recv_error(sk)
    assert message.flags == MSG_ERRQUEUE | MSG_TRUNC
    assert message.control is not None
    assert message.control[0] == (SOL_SOCKET, SCM_TIMESTAMPING, struct.pack("=qq", 5, 7) + bytes(32))
    assert message.control[1][:2] == (SOL_IP, IP_RECVERR)
    sk.tsflags = 0
    assert [row[:2] for row in inet_recv_error(sk).control or []] == [(SOL_IP, IP_RECVERR)]


def test_the_receive_buffer_bounds_it() -> None:
    sk, queue, _ = sock_with_queue()
    sk.rcvbuf = 10 * ENTRY_SIZE
    taken = [
        queue.add(sk, ExtendedError(errno.ENOMSG, SO_EE_ORIGIN_TIMESTAMPING, 0, 0, number)) for number in range(20)
    ]
    assert taken == [True] * 9 + [False] * 11
    assert len(queue.entries) == 9
    assert queue.lost == 11
