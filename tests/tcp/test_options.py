"""TCP socket options: ranges, units and what they read as (Linux do_tcp_setsockopt, do_tcp_getsockopt)."""

from __future__ import annotations

import errno
from struct import pack

import pytest

from tests.tcp.host import SEC
from tests.tcp.peer import MSEC, PEER, Peer, established, listening
from ustack.inet.family import SOCK_STREAM
from ustack.inet.options import (
    SO_BUF_LOCK,
    SO_COOKIE,
    SO_KEEPALIVE,
    SO_LINGER,
    SO_MAX_PACING_RATE,
    SO_MEMINFO,
    SO_OOBINLINE,
    SO_RCVBUF,
    SO_RCVLOWAT,
    SO_RCVTIMEO,
    SO_SNDBUF,
    SOL_SOCKET,
)
from ustack.inet.security import NOBODY_CRED
from ustack.inet.sockaddr import AF_INET
from ustack.sock import POLLIN, POLLOUT, SIOCATMARK, SIOCINQ, SIOCOUTQ, SIOCOUTQNSD
from ustack.tcp.options import (
    IPPROTO_TCP,
    TCP_CC_INFO,
    TCP_CONGESTION,
    TCP_CORK,
    TCP_DEFER_ACCEPT,
    TCP_DELACK_MAX_US,
    TCP_FASTOPEN,
    TCP_FASTOPEN_CONNECT,
    TCP_FASTOPEN_KEY,
    TCP_FASTOPEN_NO_COOKIE,
    TCP_INFO,
    TCP_INQ,
    TCP_IS_MPTCP,
    TCP_KEEPCNT,
    TCP_KEEPIDLE,
    TCP_KEEPINTVL,
    TCP_LINGER2,
    TCP_MAXSEG,
    TCP_NODELAY,
    TCP_NOTSENT_LOWAT,
    TCP_QUICKACK,
    TCP_RTO_MAX_MS,
    TCP_RTO_MIN_US,
    TCP_SAVE_SYN,
    TCP_SAVED_SYN,
    TCP_SYNCNT,
    TCP_THIN_DUPACK,
    TCP_THIN_LINEAR_TIMEOUTS,
    TCP_TIMESTAMP,
    TCP_ULP,
    TCP_USER_TIMEOUT,
    TCP_WINDOW_CLAMP,
    retrans_to_secs,
    secs_to_retrans,
)

#: Name, what a fresh socket says, the least and the greatest that may be set.
NUMBERS = [
    (TCP_KEEPIDLE, 7200, 1, 32_767),
    (TCP_KEEPINTVL, 75, 1, 32_767),
    (TCP_KEEPCNT, 9, 1, 127),
    (TCP_SYNCNT, 6, 1, 127),
    (TCP_USER_TIMEOUT, 0, 0, 0x7FFF_FFFF),
    (TCP_RTO_MAX_MS, 120_000, 1000, 120_000),
    (TCP_RTO_MIN_US, 200_000, 2000, 200_000),
    (TCP_DELACK_MAX_US, 200_000, 2000, 200_000),
    (TCP_THIN_LINEAR_TIMEOUTS, 0, 0, 1),
    (TCP_INQ, 0, 0, 1),
    (TCP_SAVE_SYN, 0, 0, 2),
    (TCP_FASTOPEN_NO_COOKIE, 0, 0, 1),
    (TCP_FASTOPEN_CONNECT, 0, 0, 1),
]


def refused(c: Peer, name: int, value: int | bytes, level: int = IPPROTO_TCP) -> int:
    """The errno of a setsockopt."""
    return c.app_fails(lambda: c.sock.setsockopt(level, name, value))


@pytest.mark.parametrize(("name", "fresh", "low", "high"), NUMBERS)
def test_a_number_has_a_range_and_reads_as_it_was_set(name: int, fresh: int, low: int, high: int) -> None:
    with Peer() as c:
        assert c.sock.getsockopt(IPPROTO_TCP, name) == fresh
        for value in (high, low):
            c.app_setsockopt(IPPROTO_TCP, name, value)
            assert c.sock.getsockopt(IPPROTO_TCP, name) == value
        for value in (low - 1, high + 1):
            if value <= 0x7FFF_FFFF:
                assert refused(c, name, value) == errno.EINVAL


@pytest.mark.parametrize("name", [TCP_NODELAY, TCP_CORK])
def test_switches_are_on_for_whatever_is_not_zero(name: int) -> None:
    with Peer() as c:
        for value, shown in ((0, 0), (-3, 1), (pack("=i", 0), 0), (pack("=iii", 1, 2, 3), 1)):
            c.app_setsockopt(IPPROTO_TCP, name, value)
            assert c.sock.getsockopt(IPPROTO_TCP, name) == shown


@pytest.mark.parametrize("name", [TCP_NODELAY, TCP_MAXSEG, TCP_KEEPIDLE, 9999])
def test_fewer_bytes_than_an_int_are_einval(name: int) -> None:
    """Before the name is looked at: do_tcp_setsockopt reads the int first."""
    with Peer() as c:
        for length in range(4):
            assert refused(c, name, bytes(length)) == errno.EINVAL


@pytest.mark.parametrize("name", [14, 19, 20, 22, 38, 39, 40, 9999])
def test_what_is_not_there_is_enoprotoopt(name: int) -> None:
    """MD5 signatures (14), repair (19 to 22) and TCP-AO (38 to 40), as in a kernel without them."""
    with Peer() as c:
        assert refused(c, name, 1) == errno.ENOPROTOOPT
        assert c.app_fails(lambda: c.sock.getsockopt(IPPROTO_TCP, name)) == errno.ENOPROTOOPT


def test_the_switch_of_dead_code_and_what_is_not_multipath() -> None:
    with Peer() as c:
        c.app_setsockopt(IPPROTO_TCP, TCP_THIN_DUPACK, 1)
        assert c.sock.getsockopt(IPPROTO_TCP, TCP_THIN_DUPACK) == 0
        assert refused(c, TCP_THIN_DUPACK, 2) == errno.EINVAL
        assert c.sock.getsockopt(IPPROTO_TCP, TCP_IS_MPTCP) == 0
        assert c.sock.getsockopt_bytes(IPPROTO_TCP, TCP_ULP, 16) == b""
        assert refused(c, TCP_ULP, b"tls") == refused(c, TCP_ULP, 1) == errno.ENOENT, "there is none to be had"
        assert refused(c, TCP_ULP, b"") == errno.EINVAL


# -- lengths (the system call's rules)


def test_getsockopt_writes_no_more_than_there_is_room() -> None:
    with Peer() as c:
        get = c.sock.getsockopt_bytes
        assert get(IPPROTO_TCP, TCP_KEEPCNT, 100) == pack("=i", 9)
        assert get(IPPROTO_TCP, TCP_KEEPCNT, 2) == pack("=i", 9)[:2]
        assert get(IPPROTO_TCP, TCP_KEEPCNT, 0) == b""
        assert c.app_fails(lambda: get(IPPROTO_TCP, TCP_KEEPCNT, -1)) == errno.EINVAL
        assert len(get(IPPROTO_TCP, TCP_INFO, 1000)) == 280
        assert len(get(IPPROTO_TCP, TCP_INFO, 104)) == 104, "programs that know an older structure get its length"
        assert get(SOL_SOCKET, SO_LINGER, 4) == bytes(4) and len(get(SOL_SOCKET, SO_LINGER, 64)) == 8
        assert len(get(SOL_SOCKET, SO_RCVTIMEO, 64)) == 16
        assert len(get(SOL_SOCKET, SO_MEMINFO, 64)) == 36 and len(get(SOL_SOCKET, SO_MEMINFO, 8)) == 8


def test_small_numbers_of_the_ip_level_may_be_one_byte() -> None:
    """do_ip_getsockopt: "an int or an unsigned char"; IP_TTL is 2, IP_TOS 1."""
    with Peer() as c:
        assert c.sock.getsockopt_bytes(0, 2, 1) == b"\x40"
        assert c.sock.getsockopt_bytes(0, 2, 4) == pack("=i", 64)
        c.sock.setsockopt(0, 1, b"\x10")
        assert c.sock.getsockopt_bytes(0, 1, 2) == b"\x10"


# -- congestion control by name


def test_congestion_control_by_name() -> None:
    with Peer() as c:
        c.app_setsockopt(IPPROTO_TCP, TCP_CONGESTION, b"cubic")
        assert c.sock.getsockopt_bytes(IPPROTO_TCP, TCP_CONGESTION, 16) == b"cubic".ljust(16, b"\0")
        c.app_setsockopt(IPPROTO_TCP, TCP_CONGESTION, b"reno\0 and what stands behind it")
        assert c.sock.getsockopt_bytes(IPPROTO_TCP, TCP_CONGESTION, 5) == b"reno\0"
        for name, code in ((b"vegas", errno.ENOENT), (b"", errno.EINVAL), (1, errno.ENOENT), (b"x" * 40, errno.ENOENT)):
            assert refused(c, TCP_CONGESTION, name) == code


def test_what_is_not_allowed_to_all_takes_a_right() -> None:
    """tcp_set_congestion_control: "CAP_NET_ADMIN" for those that tcp_allowed_congestion_control does not name."""
    with Peer() as c:
        sock = c.stack.socket(AF_INET, SOCK_STREAM, cred=NOBODY_CRED)
        assert c.app_fails(lambda: sock.setsockopt(IPPROTO_TCP, TCP_CONGESTION, b"bbr")) == errno.EPERM
        sock.setsockopt(IPPROTO_TCP, TCP_CONGESTION, b"reno")
        c.app_setsockopt(IPPROTO_TCP, TCP_CONGESTION, b"bbr")
        sock.close()


def test_the_algorithms_own_information() -> None:
    with established() as c:
        assert c.sock.getsockopt_bytes(IPPROTO_TCP, TCP_CC_INFO, 64) == b"", "reno has none"
        c.app_setsockopt(IPPROTO_TCP, TCP_CONGESTION, b"bbr")
        assert len(c.sock.getsockopt_bytes(IPPROTO_TCP, TCP_CC_INFO, 64)) == 20
        assert len(c.sock.getsockopt_bytes(IPPROTO_TCP, TCP_CC_INFO, 8)) == 8


# -- keepalive


def test_a_new_idle_time_counts_from_what_was_heard_last() -> None:
    with established() as c:
        c.app_setsockopt(SOL_SOCKET, SO_KEEPALIVE, 1)
        c.run(20 * SEC)
        c.app_setsockopt(IPPROTO_TCP, TCP_KEEPIDLE, 30)
        c.expect("A", seq=0, ack=1, at=30 * SEC)
        c.inject("A")


# -- sending


def test_nodelay_pushes_what_a_cork_holds() -> None:
    """tcp(7), TCP_NODELAY: "setting this option forces an explicit flush of pending output, even if TCP_CORK is
    currently set"; what is written afterwards is held again."""
    with established() as c:
        c.app_setsockopt(IPPROTO_TCP, TCP_CORK, 1)
        c.app_send(b"one")
        c.silent()
        c.app_setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)
        c.expect("PA", seq=1, data=b"one")
        c.app_send(b"two")
        c.silent()
        c.app_setsockopt(IPPROTO_TCP, TCP_CORK, 0)
        c.expect("PA", seq=4, data=b"two")
        c.inject("A")


def test_the_low_mark_of_what_is_not_sent() -> None:
    """TCP_NOTSENT_LOWAT: no more than so many bytes wait unsent, and less than half of it makes it writable."""
    with established() as c:
        c.app_setsockopt(IPPROTO_TCP, TCP_NOTSENT_LOWAT, 4000)
        assert c.sock.getsockopt(IPPROTO_TCP, TCP_NOTSENT_LOWAT) == 4000
        assert c.sock.poll() & POLLOUT
        c.app_setsockopt(SOL_SOCKET, SO_SNDBUF, 1 << 20)
        taken = c.app_send(bytes(100_000))
        assert taken < 14_600 + 4000 + 1460 * 45, "one more skb may begin below the mark"
        assert not c.sock.poll() & POLLOUT
        waiting = c.sock.ioctl(SIOCOUTQNSD)
        assert waiting >= 2000 and c.sock.ioctl(SIOCOUTQ) == taken
        c.out.clear()
        while c.sock.ioctl(SIOCOUTQNSD) >= 2000:
            c.inject("A")
            c.out.clear()
        assert c.sock.poll() & POLLOUT
        c.inject("A")
        c.out.clear()


def test_all_ones_are_no_low_mark() -> None:
    with established() as c:
        c.app_setsockopt(IPPROTO_TCP, TCP_NOTSENT_LOWAT, -1)
        assert c.sock.getsockopt_bytes(IPPROTO_TCP, TCP_NOTSENT_LOWAT, 4) == b"\xff" * 4
        assert c.sock.poll() & POLLOUT


# -- receiving


def test_quickack_is_what_it_is_at_the_moment() -> None:
    with established() as c:
        assert c.sock.getsockopt(IPPROTO_TCP, TCP_QUICKACK) == 1
        c.app_setsockopt(IPPROTO_TCP, TCP_QUICKACK, 0)
        assert c.sock.getsockopt(IPPROTO_TCP, TCP_QUICKACK) == 0


def test_the_window_clamp_has_a_least_value_and_is_lifted_only_before_use() -> None:
    with Peer() as c:
        c.app_setsockopt(IPPROTO_TCP, TCP_WINDOW_CLAMP, 1)
        assert c.sock.getsockopt(IPPROTO_TCP, TCP_WINDOW_CLAMP) == 1152
        c.app_setsockopt(IPPROTO_TCP, TCP_WINDOW_CLAMP, 0)
        assert c.sock.getsockopt(IPPROTO_TCP, TCP_WINDOW_CLAMP) == 0
    with established() as c:
        assert refused(c, TCP_WINDOW_CLAMP, 0) == errno.EINVAL
        c.app_setsockopt(IPPROTO_TCP, TCP_WINDOW_CLAMP, 5000)
        assert c.tp.rcv_ssthresh <= 5000


def test_so_rcvlowat_makes_a_reader_wait_and_the_buffer_grow() -> None:
    """tcp_set_rcvlowat: the window must hold what is waited for, unless SO_RCVBUF was set."""
    with established() as c:
        c.app_setsockopt(SOL_SOCKET, SO_RCVLOWAT, 3000)
        c.inject("PA", bytes(1000))
        assert not c.sock.poll() & POLLIN
        c.app_setsockopt(SOL_SOCKET, SO_RCVLOWAT, 1000)
        c.poll()
        assert c.sock.poll() & POLLIN and "data" in c.events.seen
        c.app_setsockopt(SOL_SOCKET, SO_RCVLOWAT, 1 << 20)
        assert c.tp.rcvbuf > 1 << 20
        c.app_recv()
        c.run(SEC)
        c.out.clear()
    with established() as c:
        c.app_setsockopt(SOL_SOCKET, SO_RCVBUF, 10_000)
        c.app_setsockopt(SOL_SOCKET, SO_RCVLOWAT, 1 << 20)
        assert c.sock.getsockopt(SOL_SOCKET, SO_RCVLOWAT) == 10_000 and c.tp.rcvbuf == 20_000


def test_tcp_inq_tells_what_is_left_to_read() -> None:
    """tcp_inq_hint: a FIN that waits behind it all counts as one."""
    with established() as c:
        c.inject("PA", bytes(1000))
        assert c.sock.recvmsg(100).inq == -1
        c.app_setsockopt(IPPROTO_TCP, TCP_INQ, 1)
        assert c.sock.recvmsg(300).inq == 600
        assert c.sock.recvmsg(600).inq == 0
        c.inject("FPA", bytes(10))
        assert c.sock.recvmsg(10).inq == 1
        assert c.sock.recvmsg(10).data == b""
        c.out.clear()


# -- opening


@pytest.mark.parametrize(
    ("seconds", "read"), [(0, 0), (1, 1), (2, 3), (3, 3), (4, 7), (30, 31), (100, 127), (200, 247)]
)
def test_defer_accept_is_a_number_of_retransmissions(seconds: int, read: int) -> None:
    """secs_to_retrans, retrans_to_secs: 1, 3, 7, 15, ... s, later 120 s each."""
    with listening() as c:
        c.app_setsockopt(IPPROTO_TCP, TCP_DEFER_ACCEPT, seconds)
        assert c.sock.getsockopt(IPPROTO_TCP, TCP_DEFER_ACCEPT) == read


def test_defer_accept_has_an_end() -> None:
    assert secs_to_retrans(1 << 30) == 255 and retrans_to_secs(255) == 127 + 248 * 120


def test_the_fast_open_queue_of_a_listener() -> None:
    with listening() as c:
        c.app_setsockopt(IPPROTO_TCP, TCP_FASTOPEN, 5)
        assert c.sock.getsockopt(IPPROTO_TCP, TCP_FASTOPEN) == 5
        c.app_setsockopt(IPPROTO_TCP, TCP_FASTOPEN, 1 << 30)
        assert c.sock.getsockopt(IPPROTO_TCP, TCP_FASTOPEN) == c.net.sysctl.somaxconn
        assert refused(c, TCP_FASTOPEN, -1) == errno.EINVAL
    with established() as c:
        assert refused(c, TCP_FASTOPEN, 5) == errno.EINVAL
        assert refused(c, TCP_FASTOPEN_NO_COOKIE, 1) == errno.EINVAL
        assert refused(c, TCP_FASTOPEN_CONNECT, 1) == errno.EINVAL


def test_fast_open_connect_needs_the_clients_bit() -> None:
    with Peer() as c:
        c.net.sysctl.tcp_fastopen = 2
        assert refused(c, TCP_FASTOPEN_CONNECT, 1) == errno.EOPNOTSUPP


def test_fast_open_keys_are_one_or_two() -> None:
    with listening() as c:
        for length in (0, 15, 17, 31, 33):
            assert refused(c, TCP_FASTOPEN_KEY, bytes(length)) == errno.EINVAL
        for key in (bytes(range(16)), bytes(range(32))):
            c.app_setsockopt(IPPROTO_TCP, TCP_FASTOPEN_KEY, key)
            assert c.sock.getsockopt_bytes(IPPROTO_TCP, TCP_FASTOPEN_KEY, 64) == key
        assert c.sock.getsockopt_bytes(IPPROTO_TCP, TCP_FASTOPEN_KEY, 16) == bytes(range(16))


def test_a_saved_syn_is_told_once_and_whole() -> None:
    """tcp(7) of TCP_SAVED_SYN: the headers, freed once read; too small a buffer is EINVAL and changes nothing."""
    with established() as c:
        assert c.sock.getsockopt_bytes(IPPROTO_TCP, TCP_SAVED_SYN, 200) == b""
        c.tp.saved_syn = bytes(60)
        assert c.app_fails(lambda: c.sock.getsockopt_bytes(IPPROTO_TCP, TCP_SAVED_SYN, 59)) == errno.EINVAL
        assert c.sock.getsockopt_bytes(IPPROTO_TCP, TCP_SAVED_SYN, 60) == bytes(60)
        assert c.sock.getsockopt_bytes(IPPROTO_TCP, TCP_SAVED_SYN, 60) == b""


def test_the_timestamp_clock_can_be_read_but_not_set() -> None:
    with established(timestamps=True) as c:
        first = c.sock.getsockopt(IPPROTO_TCP, TCP_TIMESTAMP)
        c.run(1000 * MSEC)
        later = c.sock.getsockopt(IPPROTO_TCP, TCP_TIMESTAMP)
        assert isinstance(first, int) and isinstance(later, int) and (later - first) & 0xFFFF_FFFF == 1000
        assert refused(c, TCP_TIMESTAMP, 1) == errno.EPERM


def test_maxseg_is_what_was_asked_for_and_then_what_is_used() -> None:
    with Peer() as c:
        assert c.sock.getsockopt(IPPROTO_TCP, TCP_MAXSEG) == 536
        c.app_setsockopt(IPPROTO_TCP, TCP_MAXSEG, 1100)
        assert c.sock.getsockopt(IPPROTO_TCP, TCP_MAXSEG) == 1100
        for value in (87, 32_768, -1):
            assert refused(c, TCP_MAXSEG, value) == errno.EINVAL
        c.app_setsockopt(IPPROTO_TCP, TCP_MAXSEG, 0)
        assert c.sock.getsockopt(IPPROTO_TCP, TCP_MAXSEG) == 536
    with established(mss=1000) as c:
        assert c.sock.getsockopt(IPPROTO_TCP, TCP_MAXSEG) == 1000


def test_linger2_is_bounded() -> None:
    with Peer() as c:
        for value, shown in ((5, 5), (121, 120), (1 << 30, 120), (-7, -1), (0, 60)):
            c.app_setsockopt(IPPROTO_TCP, TCP_LINGER2, value)
            assert c.sock.getsockopt(IPPROTO_TCP, TCP_LINGER2) == shown


@pytest.mark.parametrize(
    ("level", "name", "value"),
    [
        (IPPROTO_TCP, TCP_NODELAY, 1),
        (IPPROTO_TCP, TCP_KEEPIDLE, 77),
        (IPPROTO_TCP, TCP_SYNCNT, 3),
        (IPPROTO_TCP, TCP_LINGER2, 7),
        (IPPROTO_TCP, TCP_USER_TIMEOUT, 4321),
        (IPPROTO_TCP, TCP_NOTSENT_LOWAT, 5000),
        (IPPROTO_TCP, TCP_THIN_LINEAR_TIMEOUTS, 1),
        (IPPROTO_TCP, TCP_RTO_MIN_US, 50_000),
        (IPPROTO_TCP, TCP_RTO_MAX_MS, 5000),
        (IPPROTO_TCP, TCP_DELACK_MAX_US, 50_000),
        (IPPROTO_TCP, TCP_INQ, 1),
        (SOL_SOCKET, SO_KEEPALIVE, 1),
        (SOL_SOCKET, SO_OOBINLINE, 1),
        (SOL_SOCKET, SO_RCVLOWAT, 2),
    ],
)
def test_a_connection_has_what_its_listener_was_told(level: int, name: int, value: int) -> None:
    """inet_csk_clone_lock copies the whole socket."""
    c = Peer()
    c.app_setsockopt(level, name, value)
    with established(peer=c):
        assert c.server is not None and c.sock is not c.server
        assert c.sock.getsockopt(level, name) == value


def test_pacing_limits_and_times_are_inherited() -> None:
    c = Peer()
    c.app_setsockopt(SOL_SOCKET, SO_MAX_PACING_RATE, 125_000)
    c.app_setsockopt(SOL_SOCKET, SO_RCVTIMEO, pack("=qq", 3, 5))
    with established(peer=c):
        assert c.sock.getsockopt_bytes(SOL_SOCKET, SO_MAX_PACING_RATE, 8) == pack("=Q", 125_000)
        assert c.tp.pacing_status == 1 and c.tp.pacing_rate <= 125_000
        assert c.sock.getsockopt(SOL_SOCKET, SO_RCVTIMEO) == pack("=qq", 3, 5)


# -- SOL_SOCKET of a stream


def test_a_pacing_limit_is_an_int_or_a_long() -> None:
    with established() as c:
        get = c.sock.getsockopt_bytes
        assert get(SOL_SOCKET, SO_MAX_PACING_RATE, 8) == b"\xff" * 8
        assert get(SOL_SOCKET, SO_MAX_PACING_RATE, 4) == b"\xff" * 4
        c.app_setsockopt(SOL_SOCKET, SO_MAX_PACING_RATE, 10_000)
        assert get(SOL_SOCKET, SO_MAX_PACING_RATE, 8) == pack("=Q", 10_000)
        assert c.tp.pacing_rate <= 10_000 and c.tp.pacing_status == 1, "it is paced from now on"
        c.app_setsockopt(SOL_SOCKET, SO_MAX_PACING_RATE, pack("=Q", 10_000_000_000))
        assert get(SOL_SOCKET, SO_MAX_PACING_RATE, 8) == pack("=Q", 10_000_000_000)
        assert get(SOL_SOCKET, SO_MAX_PACING_RATE, 4) == b"\xff" * 4
        for unlimited in (-1, b"\xff" * 4, b"\xff" * 8):
            c.app_setsockopt(SOL_SOCKET, SO_MAX_PACING_RATE, unlimited)
            assert get(SOL_SOCKET, SO_MAX_PACING_RATE, 8) == b"\xff" * 8


def test_sizes_that_were_set_are_locked() -> None:
    with Peer() as c:
        assert c.sock.getsockopt(SOL_SOCKET, SO_BUF_LOCK) == 0
        c.app_setsockopt(SOL_SOCKET, SO_RCVBUF, 10_000)
        assert c.sock.getsockopt(SOL_SOCKET, SO_BUF_LOCK) == 2 and c.tp.rcvbuf_locked
        c.app_setsockopt(SOL_SOCKET, SO_SNDBUF, 10_000)
        assert c.sock.getsockopt(SOL_SOCKET, SO_BUF_LOCK) == 3
        c.app_setsockopt(SOL_SOCKET, SO_BUF_LOCK, 1)
        assert not c.tp.rcvbuf_locked and c.tp.sndbuf_locked
        assert refused(c, SO_BUF_LOCK, 4, SOL_SOCKET) == errno.EINVAL


def test_every_socket_has_a_number_of_its_own() -> None:
    with established() as c:
        raw = c.sock.getsockopt_bytes(SOL_SOCKET, SO_COOKIE, 8)
        assert len(raw) == 8 and raw != bytes(8)
        other = c.stack.socket(AF_INET, SOCK_STREAM)
        assert other.getsockopt_bytes(SOL_SOCKET, SO_COOKIE, 8) != raw
        assert c.app_fails(lambda: c.sock.getsockopt_bytes(SOL_SOCKET, SO_COOKIE, 7)) == errno.EINVAL
        other.close()


# -- ioctl


def test_queues_by_ioctl() -> None:
    with established() as c:
        c.inject("PA", bytes(1000))
        assert (c.sock.ioctl(SIOCINQ), c.sock.ioctl(SIOCOUTQ), c.sock.ioctl(SIOCOUTQNSD)) == (1000, 0, 0)
        c.app_recv(400)
        assert c.sock.ioctl(SIOCINQ) == 600
        c.inject("FA")
        assert c.sock.ioctl(SIOCINQ) == 600, "the FIN is nothing to read"
        c.app_send(bytes(100))
        assert c.sock.ioctl(SIOCOUTQ) == 100
        assert c.sock.ioctl(SIOCATMARK) == 0
        assert c.app_fails(lambda: c.sock.ioctl(0x5450)) == errno.ENOTTY
        c.app_recv()
        c.out.clear()


def test_a_listener_has_no_queues_of_bytes() -> None:
    with listening() as c:
        assert c.app_fails(lambda: c.sock.ioctl(SIOCINQ)) == errno.EINVAL
        assert c.app_fails(lambda: c.sock.ioctl(SIOCOUTQ)) == errno.EINVAL
        assert c.app_fails(lambda: c.sock.ioctl(SIOCOUTQNSD)) == errno.EINVAL


def test_before_the_handshake_is_done_they_are_empty() -> None:
    with Peer() as c:
        assert c.app_fails(lambda: c.sock.connect((PEER, 80))) == errno.EINPROGRESS
        assert c.sock.ioctl(SIOCINQ) == 0 and c.sock.ioctl(SIOCOUTQ) == 0
        c.out.clear()
