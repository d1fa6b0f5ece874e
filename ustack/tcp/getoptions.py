"""Reading options of the IPPROTO_TCP level, in the unit they are set in (Linux do_tcp_getsockopt)."""

from __future__ import annotations

import errno
from typing import Final

from mypy_extensions import i64

from ustack.sock import TCP_CLOSE, TCP_LISTEN, error
from ustack.sysctl_names import TCP_CA_NAME_MAX
from ustack.tcp import options as o
from ustack.tcp.control import TCP_NAGLE_CORK, TCP_NAGLE_OFF, TcpControl
from ustack.tcp.info import tcp_get_info
from ustack.timer import NSEC_PER_MSEC, NSEC_PER_SEC, NSEC_PER_USEC

#: No option has this value: the name is not one of these.
UNKNOWN: Final[i64] = -0x100_0000_0000


def tcp_getsockopt(tp: TcpControl, level: i64, name: i64, room: i64) -> int | bytes:
    """Raises ENOPROTOOPT; EINVAL for a saved SYN that does not fit into ``room``."""
    if level != o.IPPROTO_TCP:
        raise error(errno.ENOPROTOOPT)
    if name == o.TCP_INFO:
        return tcp_get_info(tp)
    if name == o.TCP_CONGESTION:
        return tp.congestion.name.encode().ljust(TCP_CA_NAME_MAX, b"\0")
    if name == o.TCP_CC_INFO:
        return tp.congestion.get_info(tp)
    if name == o.TCP_FASTOPEN_KEY:
        return tp.fastopen_key
    if name == o.TCP_SAVED_SYN:
        return take_saved_syn(tp, room)
    if name == o.TCP_ULP:
        return b""  # there is no protocol on top
    for value in (time_or_count(tp, name), size(tp, name), switch(tp, name)):
        if value != UNKNOWN:
            return int(value)
    raise error(errno.ENOPROTOOPT)


def take_saved_syn(tp: TcpControl, room: i64) -> bytes:
    """The SYN's headers, once (TCP_SAVE_SYN)."""
    saved = tp.saved_syn
    if len(saved) > room:
        raise error(errno.EINVAL)
    tp.saved_syn = b""
    return saved


def time_or_count(tp: TcpControl, name: i64) -> i64:
    """In the option's unit; what was not set is the sysctl's."""
    sysctl = tp.net.sysctl
    if name == o.TCP_KEEPIDLE:
        return tp.keepalive_time_when() // NSEC_PER_SEC
    if name == o.TCP_KEEPINTVL:
        return tp.keepalive_intvl_when() // NSEC_PER_SEC
    if name == o.TCP_KEEPCNT:
        return tp.keepalive_probes()
    if name == o.TCP_SYNCNT:
        return tp.syn_retries or sysctl.tcp_syn_retries
    if name == o.TCP_LINGER2:
        return -1 if tp.linger2 < 0 else tp.linger2 // NSEC_PER_SEC or sysctl.tcp_fin_timeout
    if name == o.TCP_DEFER_ACCEPT:
        return o.retrans_to_secs(int(tp.defer_accept))
    if name == o.TCP_USER_TIMEOUT:
        return tp.user_timeout // NSEC_PER_MSEC
    if name == o.TCP_RTO_MAX_MS:
        return tp.rto_max_ns // NSEC_PER_MSEC or sysctl.tcp_rto_max_ms
    if name == o.TCP_RTO_MIN_US:
        return (tp.rto_min_ns or sysctl.tcp_rto_min_us * NSEC_PER_USEC) // NSEC_PER_USEC
    if name == o.TCP_DELACK_MAX_US:
        return tp.delack_max_ns // NSEC_PER_USEC
    if name == o.TCP_TIMESTAMP:
        return tp.mstamp()
    return UNKNOWN


def size(tp: TcpControl, name: i64) -> i64:
    """Bytes, and lengths of queues."""
    if name == o.TCP_MAXSEG:
        return tp.user_mss if tp.user_mss and tp.state in (TCP_CLOSE, TCP_LISTEN) else tp.mss_cache
    if name == o.TCP_WINDOW_CLAMP:
        return tp.window_clamp
    if name == o.TCP_NOTSENT_LOWAT:
        return tp.notsent_lowat
    if name == o.TCP_FASTOPEN:
        return tp.fastopen_max_qlen
    return UNKNOWN


def switch(tp: TcpControl, name: i64) -> i64:
    """0 or 1 (TCP_SAVE_SYN also 2)."""
    if name == o.TCP_NODELAY:
        return 1 if tp.nonagle & TCP_NAGLE_OFF else 0
    if name == o.TCP_CORK:
        return 1 if tp.nonagle & TCP_NAGLE_CORK else 0
    if name == o.TCP_QUICKACK:
        return 0 if tp.in_pingpong_mode() else 1
    if name == o.TCP_THIN_LINEAR_TIMEOUTS:
        return 1 if tp.thin_lto else 0
    if name == o.TCP_THIN_DUPACK or name == o.TCP_IS_MPTCP:
        return 0
    if name == o.TCP_INQ:
        return 1 if tp.recvmsg_inq else 0
    if name == o.TCP_SAVE_SYN:
        return tp.save_syn
    if name == o.TCP_FASTOPEN_CONNECT:
        return 1 if tp.fastopen_connect else 0
    if name == o.TCP_FASTOPEN_NO_COOKIE:
        return 1 if tp.fastopen_no_cookie else 0
    return UNKNOWN
