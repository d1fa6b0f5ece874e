"""The IPPROTO_TCP level of socket options (Linux do_tcp_setsockopt, do_tcp_getsockopt; include/uapi/linux/tcp.h)."""

from __future__ import annotations

import errno
from typing import Final

from mypy_extensions import i64

from ustack.sock import TCP_CLOSE, TCP_LISTEN, error
from ustack.tcp.control import (
    ICSK_ACK_PUSHED,
    ICSK_ACK_SCHED,
    TCP_NAGLE_CORK,
    TCP_NAGLE_OFF,
    TCP_NAGLE_PUSH,
    TcpControl,
)
from ustack.tcp.output import tcp_push_pending_frames
from ustack.tcp.receive import tcp_cleanup_rbuf
from ustack.tcp.states import CAN_SEND, in_set
from ustack.timer import NSEC_PER_MSEC, NSEC_PER_SEC

IPPROTO_TCP: Final = 6
TCP_NODELAY: Final = 1
TCP_MAXSEG: Final = 2
TCP_CORK: Final = 3
TCP_KEEPIDLE: Final = 4
TCP_KEEPINTVL: Final = 5
TCP_KEEPCNT: Final = 6
TCP_SYNCNT: Final = 7
TCP_LINGER2: Final = 8
TCP_WINDOW_CLAMP: Final = 10
TCP_QUICKACK: Final = 12
TCP_CONGESTION: Final = 13
TCP_USER_TIMEOUT: Final = 18

# limits (include/net/tcp.h)
MAX_TCP_KEEPIDLE: Final = 32_767
MAX_TCP_KEEPINTVL: Final = 32_767
MAX_TCP_KEEPCNT: Final = 127
MAX_TCP_SYNCNT: Final = 127
TCP_MIN_MSS: Final = 88
MAX_TCP_WINDOW: Final = 32_767
TCP_FIN_TIMEOUT_MAX: Final = 120


def tcp_setsockopt(tp: TcpControl, level: i64, name: i64, value: int) -> None:
    """Set one option. Raises EINVAL out of its range, ENOPROTOOPT for one that is not implemented."""
    if level != IPPROTO_TCP:
        raise error(errno.ENOPROTOOPT)
    if name == TCP_NODELAY:
        set_nonagle(tp, TCP_NAGLE_OFF, value != 0)
    elif name == TCP_CORK:
        set_nonagle(tp, TCP_NAGLE_CORK, value != 0)
    elif name == TCP_QUICKACK:
        set_quickack(tp, value)
    elif name == TCP_WINDOW_CLAMP:
        if value == 0 and tp.state != TCP_CLOSE:
            raise error(errno.EINVAL)
        tp.window_clamp = max(value, 2048) if value else 0
    elif not set_number(tp, name, value):
        raise error(errno.ENOPROTOOPT)


def tcp_set_keepalive(tp: TcpControl, on: bool) -> None:
    """SO_KEEPALIVE changed, or its idle time did: on a living connection the timer follows (tcp_set_keepalive)."""
    if tp.state in (TCP_CLOSE, TCP_LISTEN) or tp.keepalive_timer is None:
        return
    if on:
        tp.reset_keepalive_timer(tp.keepalive_time_when())
    else:
        tp.net.timers.del_timer(tp.keepalive_timer)


def set_quickack(tp: TcpControl, value: int) -> None:
    """0: ACKs wait for an answer to ride on; else they do not, and one that is owed goes (__tcp_sock_set_quickack)."""
    tp.ack_pingpong = value == 0
    if value and in_set(tp.state, CAN_SEND) and tp.ack_pending & ICSK_ACK_SCHED:
        tp.ack_pending |= ICSK_ACK_PUSHED
        tcp_cleanup_rbuf(tp, 1)
        tp.ack_pingpong = value & 1 == 0


def set_nonagle(tp: TcpControl, bit: i64, on: bool) -> None:
    """TCP_NODELAY pushes what waits, unless corked; taking the cork out pushes too."""
    if on:
        tp.nonagle |= bit
    else:
        tp.nonagle &= ~bit
    if (bit == TCP_NAGLE_OFF and on) or (bit == TCP_NAGLE_CORK and not on):
        nonagle = tp.nonagle
        if not nonagle & TCP_NAGLE_CORK:
            tp.nonagle |= TCP_NAGLE_PUSH
        tcp_push_pending_frames(tp)
        tp.nonagle = nonagle


def in_range(value: int, low: int, high: int) -> int:
    if not low <= value <= high:
        raise error(errno.EINVAL)
    return value


def set_number(tp: TcpControl, name: i64, value: int) -> bool:
    """The options that only store a number; False for none of them."""
    if name == TCP_MAXSEG:
        tp.user_mss = in_range(value, TCP_MIN_MSS, MAX_TCP_WINDOW) if value else 0
    elif name == TCP_KEEPIDLE:
        tp.keepidle = in_range(value, 1, MAX_TCP_KEEPIDLE) * NSEC_PER_SEC
        if tp.keepopen:
            tcp_set_keepalive(tp, True)
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
    else:
        return False
    return True


def tcp_getsockopt(tp: TcpControl, level: i64, name: i64) -> int | bytes:
    """Read one option, in the unit it is set in. Raises ENOPROTOOPT."""
    if level != IPPROTO_TCP:
        raise error(errno.ENOPROTOOPT)
    if name == TCP_CONGESTION:
        return tp.congestion.name.encode().ljust(16, b"\0")
    if name == TCP_MAXSEG:
        return int(tp.mss_cache if tp.state not in (TCP_CLOSE, TCP_LISTEN) else tp.user_mss or tp.mss_cache)
    sysctl = tp.net.sysctl
    values: dict[int, int] = {
        TCP_NODELAY: int(tp.nonagle & TCP_NAGLE_OFF != 0),
        TCP_CORK: int(tp.nonagle & TCP_NAGLE_CORK != 0),
        TCP_KEEPIDLE: int(tp.keepalive_time_when() // NSEC_PER_SEC),
        TCP_KEEPINTVL: int(tp.keepalive_intvl_when() // NSEC_PER_SEC),
        TCP_KEEPCNT: int(tp.keepalive_probes()),
        TCP_SYNCNT: int(tp.syn_retries or sysctl.tcp_syn_retries),
        TCP_LINGER2: -1 if tp.linger2 < 0 else int(tp.linger2 // NSEC_PER_SEC or sysctl.tcp_fin_timeout),
        TCP_WINDOW_CLAMP: int(tp.window_clamp),
        TCP_QUICKACK: int(not tp.ack_pingpong),
        TCP_USER_TIMEOUT: int(tp.user_timeout // NSEC_PER_MSEC),
    }
    value = values.get(name)
    if value is None:
        raise error(errno.ENOPROTOOPT)
    return value
