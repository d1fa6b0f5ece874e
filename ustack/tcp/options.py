"""Setting options of the IPPROTO_TCP level (Linux do_tcp_setsockopt; include/uapi/linux/tcp.h)."""

from __future__ import annotations

import errno
from typing import Final

from mypy_extensions import i64

from ustack.sock import TCP_CLOSE, TCP_LISTEN, error, int_value, octets_value
from ustack.sysctl_names import TCP_CA_NAME_MAX
from ustack.tcp.congestion.cong import tcp_set_congestion_control
from ustack.tcp.control import (
    ICSK_ACK_PUSHED,
    ICSK_ACK_SCHED,
    TCP_DELACK_MAX,
    TCP_MIN_MSS,
    TCP_NAGLE_CORK,
    TCP_NAGLE_OFF,
    TCP_NAGLE_PUSH,
    TCP_RTO_MIN,
    TCP_TIMEOUT_INIT,
    TFO_CLIENT_ENABLE,
    TcpControl,
)
from ustack.tcp.data import tcp_data_ready
from ustack.tcp.fastopen import KEY_LEN
from ustack.tcp.notify import WRITE_SPACE, tcp_wake
from ustack.tcp.output import tcp_push_pending_frames
from ustack.tcp.receive import tcp_cleanup_rbuf
from ustack.tcp.rtt import TCP_TIMEOUT_MIN
from ustack.tcp.states import CAN_SEND, in_set
from ustack.tcp.window import MAX_TCP_WINDOW, WINDOW_CLAMP_MIN, tcp_move_clamp
from ustack.timer import NSEC_PER_MSEC, NSEC_PER_SEC, NSEC_PER_USEC
from ustack.wire.ipv4 import IPPROTO_TCP as IPPROTO_TCP

TCP_NODELAY: Final = 1
TCP_MAXSEG: Final = 2
TCP_CORK: Final = 3
TCP_KEEPIDLE: Final = 4
TCP_KEEPINTVL: Final = 5
TCP_KEEPCNT: Final = 6
TCP_SYNCNT: Final = 7
TCP_LINGER2: Final = 8
TCP_DEFER_ACCEPT: Final = 9
TCP_WINDOW_CLAMP: Final = 10
TCP_INFO: Final = 11
TCP_QUICKACK: Final = 12
TCP_CONGESTION: Final = 13
TCP_THIN_LINEAR_TIMEOUTS: Final = 16
TCP_THIN_DUPACK: Final = 17
TCP_USER_TIMEOUT: Final = 18
TCP_FASTOPEN: Final = 23
TCP_TIMESTAMP: Final = 24
TCP_NOTSENT_LOWAT: Final = 25
TCP_CC_INFO: Final = 26
TCP_SAVE_SYN: Final = 27
TCP_SAVED_SYN: Final = 28
TCP_FASTOPEN_CONNECT: Final = 30
TCP_ULP: Final = 31
TCP_FASTOPEN_KEY: Final = 33
TCP_FASTOPEN_NO_COOKIE: Final = 34
TCP_INQ: Final = 36
TCP_IS_MPTCP: Final = 43
TCP_RTO_MAX_MS: Final = 44
TCP_RTO_MIN_US: Final = 45
TCP_DELACK_MAX_US: Final = 46

# limits (include/net/tcp.h)
MAX_TCP_KEEPIDLE: Final = 32_767
MAX_TCP_KEEPINTVL: Final = 32_767
MAX_TCP_KEEPCNT: Final = 127
MAX_TCP_SYNCNT: Final = 127
TCP_FIN_TIMEOUT_MAX: Final = 120
TCP_RTO_MAX_SEC: Final = 120

_UNUSED: Final = (TCP_CLOSE, TCP_LISTEN)


def tcp_setsockopt(tp: TcpControl, level: i64, name: i64, value: int | bytes, admin: bool) -> None:
    """Set one option. Raises EINVAL out of its range or for fewer bytes than it has, ENOPROTOOPT for one that is not
    implemented, EPERM for what takes CAP_NET_ADMIN, ENOENT for an algorithm that is not known."""
    if level != IPPROTO_TCP:
        raise error(errno.ENOPROTOOPT)
    if name == TCP_CONGESTION:
        return tcp_set_congestion_control(tp, algorithm_name(value), admin)
    if name == TCP_ULP:
        raise error(errno.ENOENT if octets_value(value) else errno.EINVAL)  # there is none to be had
    if name == TCP_FASTOPEN_KEY:
        return set_fastopen_key(tp, value)
    number = int_value(value)
    if not (set_sending(tp, name, number) or set_number(tp, name, number) or set_opening(tp, name, number)):
        raise error(errno.ENOPROTOOPT)


def algorithm_name(value: int | bytes) -> str:
    """A name as it stands in C, at most 15 characters of it. EINVAL for none."""
    value = octets_value(value)
    if not value:
        raise error(errno.EINVAL)
    return value[: TCP_CA_NAME_MAX - 1].split(b"\0")[0].decode("ascii", "replace")


def set_fastopen_key(tp: TcpControl, value: int | bytes) -> None:
    """The key that signs cookies, or two of them: the second is still taken, but none is made with it."""
    if isinstance(value, int) or len(value) not in (KEY_LEN, 2 * KEY_LEN):
        raise error(errno.EINVAL)
    tp.fastopen_key = bytes(value)


# -- options that act at once


def set_sending(tp: TcpControl, name: i64, value: int) -> bool:
    """The options that let something go out or in; False for none of them."""
    if name == TCP_NODELAY:
        set_nodelay(tp, value != 0)
    elif name == TCP_CORK:
        set_cork(tp, value != 0)
    elif name == TCP_QUICKACK:
        set_quickack(tp, value)
    elif name == TCP_WINDOW_CLAMP:
        tcp_set_window_clamp(tp, value)
    elif name == TCP_NOTSENT_LOWAT:
        tp.notsent_lowat = value & 0xFFFF_FFFF
        tcp_wake(tp, WRITE_SPACE)
    else:
        return False
    return True


def set_nodelay(tp: TcpControl, on: bool) -> None:
    """tcp(7): setting it "forces an explicit flush of pending output, even if TCP_CORK is currently set"."""
    if on:
        tp.nonagle |= TCP_NAGLE_OFF | TCP_NAGLE_PUSH
        tcp_push_pending_frames(tp)
    else:
        tp.nonagle &= ~TCP_NAGLE_OFF


def set_cork(tp: TcpControl, on: bool) -> None:
    """Taking the cork out sends what it held back (__tcp_sock_set_cork)."""
    if on:
        tp.nonagle |= TCP_NAGLE_CORK
        return
    tp.nonagle &= ~TCP_NAGLE_CORK
    if tp.nonagle & TCP_NAGLE_OFF:
        tp.nonagle |= TCP_NAGLE_PUSH
    tcp_push_pending_frames(tp)


def set_quickack(tp: TcpControl, value: int) -> None:
    """0: ACKs wait for an answer to ride on; else they do not, and one that is owed goes (__tcp_sock_set_quickack)."""
    if value == 0:
        tp.enter_pingpong_mode()
        return
    tp.ack_pingpong = 0
    if value and in_set(tp.state, CAN_SEND) and tp.ack_pending & ICSK_ACK_SCHED:
        tp.ack_pending |= ICSK_ACK_PUSHED
        tcp_cleanup_rbuf(tp, 1)
        if not value & 1:
            tp.enter_pingpong_mode()


def tcp_set_window_clamp(tp: TcpControl, value: int) -> None:
    """The largest window to advertise, at least 1152 bytes; 0 lifts the limit, but not of a socket in use."""
    if value == 0:
        if tp.state != TCP_CLOSE:
            raise error(errno.EINVAL)
        tp.window_clamp = tp.user_clamp = 0
        return
    tp.user_clamp = max(value, WINDOW_CLAMP_MIN)
    tcp_move_clamp(tp, tp.user_clamp)


def tcp_set_keepalive(tp: TcpControl, on: bool) -> None:
    """SO_KEEPALIVE changed: on a living connection the timer follows (tcp_set_keepalive)."""
    if tp.state in _UNUSED:
        return
    if on:
        tp.reset_keepalive_timer(tp.keepalive_time_when())
    elif tp.keepalive_timer is not None:
        tp.net.timers.del_timer(tp.keepalive_timer)


def set_keepidle(tp: TcpControl, value: int) -> None:
    """The time that was idle already counts (tcp_sock_set_keepidle_locked)."""
    tp.keepidle = in_range(value, 1, MAX_TCP_KEEPIDLE) * NSEC_PER_SEC
    if tp.keepopen and tp.state not in _UNUSED:
        elapsed = tp.net.now - max(tp.rcv_tstamp, tp.lrcvtime)
        tp.reset_keepalive_timer(max(tp.keepidle - elapsed, 0))


def tcp_set_rcvlowat(tp: TcpControl, size: i64) -> None:
    """SO_RCVLOWAT: at most half of the buffer's room, and the buffer grows to hold it unless its size was set."""
    cap = tp.rcvbuf if tp.rcvbuf_locked else tp.net.sysctl.tcp_rmem_max
    tp.rcvlowat = max(min(size, cap >> 1), 1)
    if tp.receive_queue:
        tcp_data_ready(tp)
    if tp.rcvbuf_locked:
        return
    space = tp.tcp_space_from_win(tp.rcvlowat)
    if space > tp.rcvbuf:
        tp.rcvbuf = space
        if 0 < tp.window_clamp < tp.rcvlowat:
            tp.window_clamp = tp.rcvlowat


# -- options that are kept for later


def in_range(value: int, low: int, high: int) -> int:
    if not low <= value <= high:
        raise error(errno.EINVAL)
    return value


def set_number(tp: TcpControl, name: i64, value: int) -> bool:
    """Times, counts and sizes of a connection; False for none of them."""
    if name == TCP_MAXSEG:
        tp.user_mss = in_range(value, TCP_MIN_MSS, MAX_TCP_WINDOW) if value else 0
    elif name == TCP_KEEPIDLE:
        set_keepidle(tp, value)
    elif name == TCP_KEEPINTVL:
        tp.keepintvl = in_range(value, 1, MAX_TCP_KEEPINTVL) * NSEC_PER_SEC
    elif name == TCP_KEEPCNT:
        tp.keepcnt = in_range(value, 1, MAX_TCP_KEEPCNT)
    elif name == TCP_SYNCNT:
        tp.syn_retries = in_range(value, 1, MAX_TCP_SYNCNT)
    elif name == TCP_LINGER2:
        tp.linger2 = -1 if value < 0 else min(value, TCP_FIN_TIMEOUT_MAX) * NSEC_PER_SEC
    elif name == TCP_USER_TIMEOUT:
        tp.user_timeout = in_range(value, 0, 0x7FFF_FFFF) * NSEC_PER_MSEC
    elif name == TCP_RTO_MAX_MS:
        tp.rto_max_ns = in_range(value, 1000, TCP_RTO_MAX_SEC * 1000) * NSEC_PER_MSEC
    elif name == TCP_RTO_MIN_US:
        tp.rto_min_ns = timeout_in_range(value, TCP_RTO_MIN)
    elif name == TCP_DELACK_MAX_US:
        tp.delack_max_ns = timeout_in_range(value, TCP_DELACK_MAX)
    else:
        return set_switch(tp, name, value)
    return True


def timeout_in_range(value: int, high: i64) -> i64:
    """A time given in us, between what timers can do and ``high`` ns."""
    ns: i64 = min(value, TCP_RTO_MAX_SEC * 1_000_000) * NSEC_PER_USEC
    if not TCP_TIMEOUT_MIN <= ns <= high:
        raise error(errno.EINVAL)
    return ns


def set_switch(tp: TcpControl, name: i64, value: int) -> bool:
    """What is on or off and nothing else; False for none of them."""
    if name == TCP_THIN_LINEAR_TIMEOUTS:
        tp.thin_lto = in_range(value, 0, 1) != 0
    elif name == TCP_THIN_DUPACK:
        in_range(value, 0, 1)  # of no effect since Linux 4.11: RACK does it better
    elif name == TCP_INQ:
        tp.recvmsg_inq = in_range(value, 0, 1) != 0
    elif name == TCP_SAVE_SYN:
        tp.save_syn = in_range(value, 0, 2)
    elif name == TCP_TIMESTAMP:
        raise error(errno.EPERM)  # only a connection under repair may have its clock set
    else:
        return False
    return True


def set_opening(tp: TcpControl, name: i64, value: int) -> bool:
    """How connections are opened; False for none of these options."""
    if name == TCP_DEFER_ACCEPT:
        tp.defer_accept = secs_to_retrans(value)
    elif name == TCP_FASTOPEN:
        if value < 0 or tp.state not in _UNUSED:
            raise error(errno.EINVAL)
        tp.fastopen_max_qlen = min(value, tp.net.sysctl.somaxconn)
    elif name == TCP_FASTOPEN_CONNECT:
        set_fastopen_connect(tp, in_range(value, 0, 1) != 0)
    elif name == TCP_FASTOPEN_NO_COOKIE:
        on = in_range(value, 0, 1) != 0
        if tp.state not in _UNUSED:
            raise error(errno.EINVAL)
        tp.fastopen_no_cookie = on
    else:
        return False
    return True


def set_fastopen_connect(tp: TcpControl, on: bool) -> None:
    """connect() waits for the first data, if a cookie is known."""
    if not tp.net.sysctl.tcp_fastopen & TFO_CLIENT_ENABLE:
        raise error(errno.EOPNOTSUPP)
    if tp.state != TCP_CLOSE:
        raise error(errno.EINVAL)
    tp.fastopen_connect = on


def secs_to_retrans(seconds: int) -> int:
    """So many SYN-ACKs take at least ``seconds``: 1, 3, 7, ... s (secs_to_retrans)."""
    count = 0
    period = timeout = int(TCP_TIMEOUT_INIT // NSEC_PER_SEC)
    if seconds > 0:
        count = 1
        while seconds > period and count < 255:
            count += 1
            timeout = min(timeout << 1, TCP_RTO_MAX_SEC)
            period += timeout
    return count


def retrans_to_secs(count: int) -> int:
    """How long ``count`` SYN-ACKs take, s (retrans_to_secs)."""
    period = 0
    timeout = int(TCP_TIMEOUT_INIT // NSEC_PER_SEC)
    for _ in range(count):
        period += timeout
        timeout = min(timeout << 1, TCP_RTO_MAX_SEC)
    return period
