"""Sock: what TCP, UDP, raw and ping sockets share (Linux struct sock with struct inet_sock).

A protocol subclasses it and implements the operations (Linux struct proto); the inet room checks and dispatches.
Operations never block: what would wait raises BlockingIOError (EAGAIN), and the socket's observer is told when to
try again. Every failure is an OSError with Linux's errno. Addresses and ports are integers in host order.
"""

from __future__ import annotations

import errno
import os
from struct import Struct
from typing import TYPE_CHECKING, Final

from mypy_extensions import i64, mypyc_attr

if TYPE_CHECKING:
    from ustack.dst import Dst
    from ustack.error_queue import ErrorQueue
    from ustack.ipv4.options import IpOptions
    from ustack.net import Net
    from ustack.packet import Buffer

# States (include/net/tcp_states.h); UDP uses TCP_ESTABLISHED for connected and TCP_CLOSE for not.
TCP_ESTABLISHED: Final = 1
TCP_SYN_SENT: Final = 2
TCP_SYN_RECV: Final = 3
TCP_FIN_WAIT1: Final = 4
TCP_FIN_WAIT2: Final = 5
TCP_TIME_WAIT: Final = 6
TCP_CLOSE: Final = 7
TCP_CLOSE_WAIT: Final = 8
TCP_LAST_ACK: Final = 9
TCP_LISTEN: Final = 10
TCP_CLOSING: Final = 11
#: As ss(8) calls them.
STATE_NAMES: Final = {
    TCP_ESTABLISHED: "ESTAB",
    TCP_SYN_SENT: "SYN-SENT",
    TCP_SYN_RECV: "SYN-RECV",
    TCP_FIN_WAIT1: "FIN-WAIT-1",
    TCP_FIN_WAIT2: "FIN-WAIT-2",
    TCP_TIME_WAIT: "TIME-WAIT",
    TCP_CLOSE: "UNCONN",
    TCP_CLOSE_WAIT: "CLOSE-WAIT",
    TCP_LAST_ACK: "LAST-ACK",
    TCP_LISTEN: "LISTEN",
    TCP_CLOSING: "CLOSING",
}

RCV_SHUTDOWN: Final = 1
SEND_SHUTDOWN: Final = 2
SHUTDOWN_MASK: Final = 3

# poll() bits (include/uapi/asm-generic/poll.h)
POLLIN: Final = 0x001
POLLPRI: Final = 0x002
POLLOUT: Final = 0x004
POLLERR: Final = 0x008
POLLHUP: Final = 0x010
POLLRDHUP: Final = 0x2000

# send and receive flags (include/linux/socket.h)
MSG_OOB: Final = 0x1
MSG_PEEK: Final = 0x2
MSG_DONTROUTE: Final = 0x4
MSG_TRUNC: Final = 0x20
MSG_DONTWAIT: Final = 0x40
MSG_EOR: Final = 0x80
MSG_WAITALL: Final = 0x100
MSG_CONFIRM: Final = 0x800
MSG_ERRQUEUE: Final = 0x2000
MSG_NOSIGNAL: Final = 0x4000
MSG_MORE: Final = 0x8000
MSG_ZEROCOPY: Final = 0x400_0000
MSG_FASTOPEN: Final = 0x2000_0000

# IP_MTU_DISCOVER
IP_PMTUDISC_DONT: Final = 0
IP_PMTUDISC_WANT: Final = 1
IP_PMTUDISC_DO: Final = 2
IP_PMTUDISC_PROBE: Final = 3


# requests of ioctl (include/uapi/linux/sockios.h)
SIOCINQ: Final = 0x541B
SIOCOUTQ: Final = 0x5411
SIOCOUTQNSD: Final = 0x894B
SIOCATMARK: Final = 0x8905
#: "Not paced" (sk_pacing_rate ~0).
PACING_UNLIMITED: Final[i64] = 0x7FFF_FFFF_FFFF_FFFF

#: strerror() of every errno there is.
_TEXTS: Final = {code: os.strerror(code) for code in errno.errorcode}


#: A C int in the machine's order.
_INT: Final = Struct("=i")
_UINT: Final = Struct("=I")


def int_value(value: int | bytes) -> int:
    """A C int as an option's value: the number itself, or the first four bytes. EINVAL if shorter."""
    if isinstance(value, int):
        return value
    if len(value) < _INT.size:
        raise error(errno.EINVAL)
    number: int = _INT.unpack_from(value)[0]
    return number


def octets_value(value: int | bytes) -> bytes:
    """An option's value as the bytes that it is: an int is four."""
    return value if isinstance(value, bytes) else _UINT.pack(value & 0xFFFF_FFFF)


def error(code: int) -> OSError:
    """The OSError for an errno, in its own subclass (EAGAIN becomes BlockingIOError) and with the kernel's text."""
    return OSError(code, _TEXTS.get(code) or os.strerror(code))


@mypyc_attr(allow_interpreted_subclasses=True)
class Observer:
    """Who waits for a socket (Linux sk_data_ready, sk_write_space, sk_state_change, sk_error_report).

    Called from inside the stack's poll: do little, or remember and act after it. The default does nothing.
    """

    def data_ready(self, sk: Sock) -> None:
        """Something to read: data, a connection to accept, or the end of the stream."""

    def write_space(self, sk: Sock) -> None:
        """Room to send again."""

    def state_change(self, sk: Sock) -> None:
        """Connected, closed, or shut down by the peer."""

    def error_report(self, sk: Sock) -> None:
        """``sk.err`` is set."""


NOBODY: Final = Observer()


class Message:
    """One received message: what recvmsg gives back. ``peer`` is (address, port), ``flags`` MSG_TRUNC and the like.

    ``inq``: bytes that are still to be read, where TCP_INQ asks for that (TCP_CM_INQ), else -1.
    """

    def __init__(self, data: bytes, addr: i64, port: i64, flags: i64) -> None:
        self.inq: i64 = -1
        self.data: bytes = data
        self.addr: i64 = addr
        self.port: i64 = port
        self.flags: i64 = flags
        self.control: list[tuple[int, int, bytes]] | None = None  #: other control messages: level, type, data


@mypyc_attr(allow_interpreted_subclasses=True)
class Sock:
    """struct sock and inet_sock; times in ns, sizes in bytes."""

    def __init__(self, net: Net, sock_type: i64, protocol: i64) -> None:
        self.net: Net = net
        self.sock_type: i64 = sock_type
        self.protocol: i64 = protocol
        self.state: i64 = TCP_CLOSE
        self.observer: Observer = NOBODY
        self.cookie: i64 = net.next_cookie()  #: SO_COOKIE, of no other socket of this stack
        # identity
        self.saddr: i64 = 0  #: inet_saddr: what we send from
        self.rcv_saddr: i64 = 0  #: inet_rcv_saddr: what we are bound to, 0 for any
        self.daddr: i64 = 0
        self.num: i64 = 0  #: inet_num: the local port, or a raw socket's protocol
        self.sport: i64 = 0  #: inet_sport: the port that it has or had last, which getsockname goes on telling
        self.dport: i64 = 0
        self.bound_dev_if: i64 = 0
        self.bound_addr: bool = False  #: SOCK_BINDADDR_LOCK
        self.bound_port: bool = False  #: SOCK_BINDPORT_LOCK
        # errors and shutdown
        self.err: i64 = 0  #: sk_err: reported once, then cleared
        self.err_soft: i64 = 0
        self.error_queue: ErrorQueue | None = None  #: sk_error_queue
        self.tsflags: i64 = 0  #: sk_tsflags: SO_TIMESTAMPING
        self.tskey: i64 = 0  #: sk_tskey: what SOF_TIMESTAMPING_OPT_ID counts from
        self.zerocopy: bool = False  #: SO_ZEROCOPY
        self.write_pending: i64 = 0  #: sk_write_pending: senders who wait for the connection
        self.shutdown: i64 = 0
        self.dead: bool = False  #: SOCK_DEAD: closed by its owner, living on in the protocol
        # options
        self.rcvbuf: i64 = net.sysctl.rmem_default
        self.sndbuf: i64 = net.sysctl.wmem_default
        self.rmem_alloc: i64 = 0
        self.wmem_alloc: i64 = 0
        self.reuseaddr: bool = False
        self.reuseport: bool = False
        self.broadcast: bool = False
        self.keepopen: bool = False
        self.dontroute: bool = False
        self.oobinline: bool = False
        self.rcvlowat: i64 = 1
        self.no_check_tx: bool = False
        self.linger: i64 = -1  #: SO_LINGER seconds, -1 for off, ...
        self.lingertime: i64 = 0  #: ... and what they were last, which it still tells (sk_lingertime)
        self.rcvbuf_locked: bool = False  #: SO_RCVBUF was set: no autotuning (SOCK_RCVBUF_LOCK)
        self.sndbuf_locked: bool = False
        self.max_pacing_rate: i64 = PACING_UNLIMITED  #: SO_MAX_PACING_RATE, bytes a second
        self.mark: i64 = 0
        self.priority: i64 = 0
        self.uid: i64 = 0
        # inet options
        self.inet_opt: IpOptions | None = None  #: IP_OPTIONS: what every packet carries
        self.tos: i64 = 0
        self.uc_ttl: i64 = -1  #: -1: the route's or the system's
        self.mc_ttl: i64 = 1
        self.mc_loop: bool = True
        self.mc_index: i64 = 0
        self.mc_addr: i64 = 0
        self.min_ttl: i64 = 0
        self.pmtudisc: i64 = IP_PMTUDISC_WANT if net.sysctl.ip_no_pmtu_disc == 0 else IP_PMTUDISC_DONT
        self.recverr: bool = False
        self.hdrincl: bool = False
        self.freebind: bool = False
        self.transparent: bool = False
        self.bind_address_no_port: bool = False
        self.nodefrag: bool = False
        self.defer_connect: bool = False  #: connected as far as its owner knows: the SYN waits for the first data
        self.recv_pktinfo: bool = False
        # caches
        self.dst_cache: Dst | None = None
        self.rx_dst: Dst | None = None  #: sk_rx_dst: the way in of the last packet, found early for the next ...
        self.rx_dst_ifindex: i64 = 0  #: ... if it comes from the same device
        self.inet_id: i64 = net.entropy.u32() & 0xFFFF

    # -- struct proto: what a protocol implements. Sockets start unbound and unconnected.

    def get_port(self, port: i64) -> None:
        """Take local ``port`` (0: choose one) for ``rcv_saddr``. Raises EADDRINUSE."""
        raise error(errno.EOPNOTSUPP)

    def put_port(self) -> None:
        """Give the local port back; not an error without one."""
        raise error(errno.EOPNOTSUPP)

    def connect(self, addr: i64, port: i64) -> None:
        """Start connecting; datagram sockets are connected when it returns. Raises ENETUNREACH, EACCES, …"""
        raise error(errno.EOPNOTSUPP)

    def disconnect(self) -> None:
        """Undo a connect (AF_UNSPEC)."""
        raise error(errno.EOPNOTSUPP)

    def listen(self, backlog: i64) -> None:
        raise error(errno.EOPNOTSUPP)

    def accept(self) -> Sock:
        """The next finished connection. Raises EAGAIN, EINVAL if not listening."""
        raise error(errno.EOPNOTSUPP)

    def sendmsg(self, data: Buffer, flags: i64, addr: i64, port: i64) -> int:
        """Send to (``addr``, ``port``), or to the peer where port is -1; how many bytes were taken."""
        raise error(errno.EOPNOTSUPP)

    def recvmsg(self, length: i64, flags: i64) -> Message:
        """The next message or the next bytes of the stream, at most ``length``. Raises EAGAIN, or the pending error."""
        raise error(errno.EOPNOTSUPP)

    def shutdown_how(self, how: i64) -> None:
        """``how`` is RCV_SHUTDOWN, SEND_SHUTDOWN or both. Raises ENOTCONN."""
        raise error(errno.EOPNOTSUPP)

    def close(self) -> None:
        """The owner lets go; the protocol finishes what it must."""
        raise error(errno.EOPNOTSUPP)

    def poll(self) -> int:
        """The poll() bits that hold now."""
        raise NotImplementedError

    def setsockopt(self, level: i64, name: i64, value: int | bytes, admin: bool = True) -> None:
        """A protocol's own options; ``admin``: the caller has CAP_NET_ADMIN. Raises ENOPROTOOPT, EINVAL, EPERM."""
        raise error(errno.ENOPROTOOPT)

    def getsockopt(self, level: i64, name: i64, room: i64 = 0x7FFF_FFFF) -> int | bytes:
        """The value: an int, or the bytes of what is a structure or a name in C, which may be more than ``room``."""
        raise error(errno.ENOPROTOOPT)

    def ioctl(self, command: i64) -> int:
        """SIOCINQ and its like. Raises ENOTTY for what is not one of them, EINVAL."""
        raise error(errno.ENOTTY)

    def set_keepalive(self, on: bool) -> None:
        """SO_KEEPALIVE has changed (sk_prot->keepalive); ``keepopen`` is set after it."""

    def set_rcvlowat(self, size: i64) -> None:
        """SO_RCVLOWAT (sk_prot->set_rcvlowat); at least 1."""
        self.rcvlowat = size

    def set_max_pacing_rate(self, rate: i64) -> None:
        """SO_MAX_PACING_RATE, bytes a second; PACING_UNLIMITED for none."""
        self.max_pacing_rate = rate

    def meminfo(self) -> list[int]:
        """SO_MEMINFO: rmem_alloc, rcvbuf, wmem_alloc, sndbuf, forward_alloc, wmem_queued, optmem, backlog, drops."""
        return [int(self.rmem_alloc), int(self.rcvbuf), int(self.wmem_alloc), int(self.sndbuf), 0, 0, 0, 0, 0]

    def set_peek_off(self, offset: i64) -> None:
        """SO_PEEK_OFF: how far MSG_PEEK begins behind what would be read next, negative for not at all."""
        raise error(errno.EOPNOTSUPP)

    def get_peek_off(self) -> i64:
        raise error(errno.EOPNOTSUPP)

    def options_changed(self) -> None:
        """IP_OPTIONS: what packets carry has changed its length (icsk_sync_mss)."""

    def set_timestamping(self, flags: i64) -> None:
        """SO_TIMESTAMPING: what is to be told of, checked already. EINVAL if the numbering cannot begin yet."""
        self.tsflags = flags

    # -- shared behaviour

    def take_error(self) -> i64:
        """Read and clear the pending error (sock_error)."""
        code = self.err
        self.err = 0
        return code

    def report(self, code: i64) -> None:
        """Set the pending error and tell the observer (sk_error_report)."""
        self.err = code
        self.observer.error_report(self)
