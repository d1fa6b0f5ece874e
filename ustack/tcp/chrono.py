"""What held the sender back, and for how long: busy, the peer's window, the send buffer (Linux tcp_chrono_start).

One stopwatch a connection. While several things hold the sender back the last of the list below is charged.
"""

from __future__ import annotations

from mypy_extensions import i64

from ustack.tcp.control import (
    TCP_CHRONO_BUSY,
    TCP_CHRONO_RWND_LIMITED,
    TCP_CHRONO_SNDBUF_LIMITED,
    TCP_CHRONO_UNSPEC,
    TcpControl,
)


def tcp_chrono_start(tp: TcpControl, chrono_type: i64) -> None:
    """``chrono_type`` holds from now on, unless something of more interest does."""
    if chrono_type > tp.chrono_type:
        tcp_chrono_set(tp, chrono_type)


def tcp_chrono_stop(tp: TcpControl, chrono_type: i64) -> None:
    """It does no more. With nothing left to send nothing does, else we are merely busy."""
    if not tp.write_queue and tp.rtx_head() is None:
        tcp_chrono_set(tp, TCP_CHRONO_UNSPEC)
    elif chrono_type == tp.chrono_type:
        tcp_chrono_set(tp, TCP_CHRONO_BUSY)


def tcp_chrono_set(tp: TcpControl, chrono_type: i64) -> None:
    """Charge the time since the last change to what held until now."""
    tp.chrono_busy = chrono_of(tp, TCP_CHRONO_BUSY)
    tp.chrono_rwnd_limited = chrono_of(tp, TCP_CHRONO_RWND_LIMITED)
    tp.chrono_sndbuf_limited = chrono_of(tp, TCP_CHRONO_SNDBUF_LIMITED)
    tp.chrono_start = tp.net.now
    tp.chrono_type = chrono_type


def chrono_of(tp: TcpControl, chrono_type: i64) -> i64:
    """Time charged to ``chrono_type`` so far (ns), what runs now included."""
    charged: i64 = 0
    if chrono_type == TCP_CHRONO_BUSY:
        charged = tp.chrono_busy
    elif chrono_type == TCP_CHRONO_RWND_LIMITED:
        charged = tp.chrono_rwnd_limited
    elif chrono_type == TCP_CHRONO_SNDBUF_LIMITED:
        charged = tp.chrono_sndbuf_limited
    if chrono_type == tp.chrono_type:
        charged += tp.net.now - tp.chrono_start
    return charged


def tcp_get_info_chrono_stats(tp: TcpControl) -> tuple[i64, i64, i64]:
    """(busy, of it limited by the peer's window, of it by the send buffer), ns, for struct tcp_info."""
    rwnd = chrono_of(tp, TCP_CHRONO_RWND_LIMITED)
    sndbuf = chrono_of(tp, TCP_CHRONO_SNDBUF_LIMITED)
    return chrono_of(tp, TCP_CHRONO_BUSY) + rwnd + sndbuf, rwnd, sndbuf
