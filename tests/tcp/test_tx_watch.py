"""SO_TIMESTAMPING and MSG_ZEROCOPY on a connection: what the error queue says, and when (Linux timestamping.rst)."""

from __future__ import annotations

import errno
import struct
from typing import TYPE_CHECKING

import pytest

from tests.tcp.host import MSEC, SEC
from tests.tcp.peer import Peer, code_of, established, listening
from ustack.error_queue import (
    SCM_TSTAMP_ACK,
    SCM_TSTAMP_SCHED,
    SCM_TSTAMP_SND,
    SO_EE_ORIGIN_ZEROCOPY,
    SOF_TIMESTAMPING_OPT_ID,
    SOF_TIMESTAMPING_OPT_ID_TCP,
    SOF_TIMESTAMPING_OPT_STATS,
    SOF_TIMESTAMPING_OPT_TSONLY,
    SOF_TIMESTAMPING_SOFTWARE,
    SOF_TIMESTAMPING_TX_ACK,
    SOF_TIMESTAMPING_TX_SCHED,
    SOF_TIMESTAMPING_TX_SOFTWARE,
)
from ustack.inet.family import SOCK_DGRAM
from ustack.inet.options import ENOTSUPP, SO_LINGER, SO_TIMESTAMPING, SO_ZEROCOPY, SOL_SOCKET
from ustack.inet.sockaddr import AF_INET
from ustack.sock import MSG_ERRQUEUE, MSG_ZEROCOPY, POLLERR, Observer
from ustack.tcp.options import IPPROTO_TCP, TCP_NODELAY

if TYPE_CHECKING:
    from ustack.sock import Message, Sock

ALL = (
    SOF_TIMESTAMPING_TX_SCHED
    | SOF_TIMESTAMPING_TX_SOFTWARE
    | SOF_TIMESTAMPING_TX_ACK
    | SOF_TIMESTAMPING_SOFTWARE
    | SOF_TIMESTAMPING_OPT_ID
)
_EE = struct.Struct("=IBBBxII16x")


def send(c: Peer, data: bytes, flags: int = MSG_ZEROCOPY) -> None:
    """All of it, and let the stack work."""
    assert c.sock.send(data, flags) == len(data)
    c.poll()


def sent(c: Peer) -> None:
    """Something was; what is others' to test."""
    assert c.out
    c.out.clear()


def take(c: Peer) -> Message:
    return c.sock.recvmsg(0, MSG_ERRQUEUE)


def extended(message: Message) -> tuple[int, int, int, int]:
    """Origin, code, info and data."""
    assert message.control is not None
    _, origin, _, code, info, data = _EE.unpack(message.control[-1][2])
    return origin, code, info, data


def event(c: Peer) -> tuple[int, int, int]:
    """Which moment, of which byte, and when: ns since the mark."""
    message = take(c)
    assert message.control is not None
    seconds, nsec = struct.unpack_from("=qq", message.control[0][2])
    _, _, which, key = extended(message)
    return which, key, seconds * SEC + nsec - c.zero


def empty(c: Peer) -> bool:
    return code_of(lambda: take(c)) == errno.EAGAIN


def test_the_times_of_the_last_byte_of_each_write_are_told() -> None:
    """SCHED and SND when it leaves, ACK when it has arrived; ee_data counts bytes from where the option was set."""
    with established() as c:
        c.app_setsockopt(SOL_SOCKET, SO_TIMESTAMPING, int(ALL))
        c.mark()
        c.app_send(b"x" * 100)
        sent(c)
        c.run(20 * MSEC)
        assert [event(c), event(c)] == [(SCM_TSTAMP_SCHED, 99, 0), (SCM_TSTAMP_SND, 99, 0)]
        assert empty(c) and not c.sock.poll() & POLLERR
        c.inject("A", ack=51)
        assert empty(c)
        c.inject("A")
        assert c.sock.poll() & POLLERR
        assert event(c) == (SCM_TSTAMP_ACK, 99, 20 * MSEC)
        assert empty(c)


def test_what_waits_for_the_window_leaves_later() -> None:
    with established(window=1000) as c:
        c.app_setsockopt(SOL_SOCKET, SO_TIMESTAMPING, int(ALL & ~SOF_TIMESTAMPING_TX_ACK))
        c.mark()
        c.app_send(b"x" * 1500)
        sent(c)
        assert empty(c)
        c.run(30 * MSEC)
        c.inject("A", ack=1001, window=1000)
        sent(c)
        assert event(c) == (SCM_TSTAMP_SCHED, 1499, 30 * MSEC)
        assert event(c)[0] == SCM_TSTAMP_SND
        c.inject("A")
        assert empty(c)


def test_without_numbers_every_key_is_zero() -> None:
    with established() as c:
        c.app_setsockopt(SOL_SOCKET, SO_TIMESTAMPING, int(SOF_TIMESTAMPING_TX_ACK | SOF_TIMESTAMPING_SOFTWARE))
        c.app_send(b"x" * 100)
        sent(c)
        c.inject("A")
        assert event(c)[:2] == (SCM_TSTAMP_ACK, 0)


def test_numbers_may_count_from_what_is_still_to_be_written() -> None:
    with established() as c:
        c.app_send(b"before")
        sent(c)
        c.app_setsockopt(SOL_SOCKET, SO_TIMESTAMPING, int(ALL | SOF_TIMESTAMPING_OPT_ID_TCP))
        c.inject("A")
        c.app_send(b"x")
        sent(c)
        assert event(c)[1] == 0
        c.inject("A")


def test_flags_that_make_no_sense_are_refused() -> None:
    with established() as c:
        for flags in (1 << 20, SOF_TIMESTAMPING_OPT_ID_TCP, SOF_TIMESTAMPING_OPT_STATS):
            with pytest.raises(OSError, match="Invalid argument"):
                c.sock.setsockopt(SOL_SOCKET, SO_TIMESTAMPING, int(flags))
        good = SOF_TIMESTAMPING_OPT_STATS | SOF_TIMESTAMPING_OPT_TSONLY
        c.app_setsockopt(SOL_SOCKET, SO_TIMESTAMPING, int(good))
        assert c.sock.getsockopt_bytes(SOL_SOCKET, SO_TIMESTAMPING, 4) == struct.pack("=I", good)
    with listening() as c:
        assert code_of(lambda: c.sock.setsockopt(SOL_SOCKET, SO_TIMESTAMPING, int(ALL))) == errno.EINVAL


def test_a_zerocopy_send_is_complete_once_it_is_acknowledged() -> None:
    with established() as c:
        c.app_setsockopt(SOL_SOCKET, SO_ZEROCOPY, 1)
        c.app_setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)
        for number in range(3):
            send(c, b"x" * 100)
            if number == 1:
                send(c, b"not this one", 0)
        c.out.clear()
        assert empty(c)
        c.inject("A", ack=101)
        assert extended(take(c)) == (SO_EE_ORIGIN_ZEROCOPY, 1, 0, 0)
        c.inject("A", ack=313)
        assert extended(take(c)) == (SO_EE_ORIGIN_ZEROCOPY, 1, 1, 2)
        assert empty(c)


def test_without_the_option_the_flag_means_nothing() -> None:
    with established() as c:
        send(c, b"x")
        sent(c)
        c.inject("A")
        assert empty(c)


def test_a_send_that_fails_takes_no_number() -> None:
    with established() as c:
        c.app_setsockopt(SOL_SOCKET, SO_ZEROCOPY, 1)
        send(c, b"")
        send(c, b"x")
        sent(c)
        c.inject("A")
        assert extended(take(c))[2:] == (0, 0)


def test_a_reset_gives_every_buffer_back() -> None:
    with established() as c:
        c.app_setsockopt(SOL_SOCKET, SO_ZEROCOPY, 1)
        send(c, b"x" * 100)
        sent(c)
        c.inject("RA")
        assert extended(take(c))[2:] == (0, 0)


@pytest.mark.parametrize(("value", "code"), [(2, errno.EINVAL), (-1, errno.EINVAL)])
def test_zerocopy_is_yes_or_no(value: int, code: int) -> None:
    with listening() as c:
        assert code_of(lambda: c.sock.setsockopt(SOL_SOCKET, SO_ZEROCOPY, value)) == code


def test_zerocopy_is_for_streams() -> None:
    with listening() as c, c.stack.socket(AF_INET, SOCK_DGRAM) as sock:
        assert code_of(lambda: sock.setsockopt(SOL_SOCKET, SO_ZEROCOPY, 1)) == ENOTSUPP


class Closer(Observer):
    """Closes its socket as soon as it is told anything."""

    def __init__(self, c: Peer) -> None:
        self.c = c
        self.told = 0

    def error_report(self, sk: Sock) -> None:
        self.told += 1
        self.c.sock.close()


def test_who_closes_when_told_does_not_pull_the_connection_away_from_under_an_ack() -> None:
    """Like every other news, that of the error queue waits for the end of the batch (notify.py)."""
    with established() as c:
        c.app_setsockopt(SOL_SOCKET, SO_TIMESTAMPING, int(SOF_TIMESTAMPING_TX_ACK | SOF_TIMESTAMPING_SOFTWARE))
        c.app_setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("=ii", 1, 0))
        c.app_send(b"x" * 20_000)
        sent(c)
        closer = Closer(c)
        c.sock.observe(closer)
        c.inject("A")
        sent(c)
        c.inject("A")
        assert closer.told == 1
        c.expect("RA", seq=20_001)
