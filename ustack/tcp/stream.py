"""Room in the send buffer, and the ways a stream's send fails (Linux net/core/stream.c, include/net/sock.h)."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from mypy_extensions import i64

from ustack.sock import TCP_SYN_RECV, TCP_SYN_SENT, error
from ustack.tcp.seq import before, distance
from ustack.tcp.states import CAN_SEND, in_set

if TYPE_CHECKING:
    from ustack.tcp.control import TcpControl


def tcp_notsent_lowat(tp: TcpControl) -> i64:
    """Bytes that may wait unsent: the socket's own limit, or the sysctl's."""
    return tp.notsent_lowat or tp.net.sysctl.tcp_notsent_lowat


def tcp_stream_memory_free(tp: TcpControl, wake: i64) -> bool:
    """True if few enough bytes wait unsent; to wake a writer (``wake`` 1) half as many."""
    return distance(tp.snd_nxt, tp.write_seq) << wake < tcp_notsent_lowat(tp)


def sk_stream_memory_free(tp: TcpControl, wake: i64 = 0) -> bool:
    """True if one more skb may be queued: it may end beyond the buffer, but not begin there."""
    return tp.wmem_queued < tp.sndbuf and tcp_stream_memory_free(tp, wake)


def sk_stream_is_writeable(tp: TcpControl) -> bool:
    """POLLOUT: a third of the buffer is free, so that a writer is not woken for every segment acknowledged."""
    return tp.sndbuf - tp.wmem_queued >= tp.wmem_queued >> 1 and sk_stream_memory_free(tp, 1)


def sk_stream_error(tp: TcpControl, code: int) -> OSError:
    """What a send that failed with ``code`` raises: for EPIPE the pending error, if there is one."""
    if code == errno.EPIPE:
        code = int(tp.take_error()) or errno.EPIPE
    return error(code)


def sk_stream_wait_connect(tp: TcpControl) -> None:
    """A send before the connection can take data: the pending error, EPIPE if none is on its way, EAGAIN if one is."""
    if tp.err:
        raise error(int(tp.take_error()))
    if tp.state != TCP_SYN_SENT and tp.state != TCP_SYN_RECV:
        raise sk_stream_error(tp, errno.EPIPE)
    tp.sock_nospace = True
    raise error(errno.EAGAIN)


def may_send(tp: TcpControl) -> bool:
    """Whether data may be queued now: the handshake is done, or a Fast Open child does not wait for its end."""
    return in_set(tp.state, CAN_SEND) or (tp.state == TCP_SYN_RECV and tp.fastopen_rsk is not None)


def tcp_urg_pointer(tp: TcpControl, seq: i64) -> i64:
    """The urgent pointer of a segment in urgent mode that begins at ``seq``, 0 for one without URG (RFC 9293 3.8.5).

    MUST-30: "support a sequence of urgent data of any length": what lies beyond the field's reach is said to be as far
    as it reaches, and said again by later segments.
    """
    if not before(tp.snd_una, tp.snd_up):
        tp.urg_mode = False
        return 0
    if not before(seq, tp.snd_up):
        return 0
    ahead = distance(seq, tp.snd_up)
    if ahead < 0x1_0000:
        return ahead
    return 0xFFFF if before(tp.snd_nxt, (seq + 0xFFFF) & 0xFFFF_FFFF) else 0
