"""setsockopt and getsockopt: values, SOL_SOCKET, and which level goes where (Linux net/core/sock.c sk_setsockopt)."""

from __future__ import annotations

import errno
from struct import Struct
from typing import TYPE_CHECKING, Final

from mypy_extensions import i64

from ustack.device.net_device import IFNAMSIZ
from ustack.error_queue import (
    SOF_TIMESTAMPING_BIND_PHC,
    SOF_TIMESTAMPING_MASK,
    SOF_TIMESTAMPING_OPT_ID,
    SOF_TIMESTAMPING_OPT_ID_TCP,
    SOF_TIMESTAMPING_OPT_STATS,
    SOF_TIMESTAMPING_OPT_TSONLY,
)
from ustack.error_queue import SOL_IP as SOL_IP
from ustack.error_queue import SOL_SOCKET as SOL_SOCKET
from ustack.inet.family import SOCK_STREAM
from ustack.inet.security import CAP_NET_ADMIN, CAP_NET_RAW, Cred
from ustack.inet.sockaddr import AF_INET
from ustack.sock import PACING_UNLIMITED, TCP_LISTEN, error, int_value, octets_value
from ustack.sysctl_names import SOCK_MIN_RCVBUF, SOCK_MIN_SNDBUF
from ustack.timer import NSEC_PER_SEC, NSEC_PER_USEC

if TYPE_CHECKING:
    from ustack.device.core import Devices
    from ustack.inet.ip_sockglue import IpSockOptions
    from ustack.inet.socket import Socket
    from ustack.net import Net

# include/uapi/asm-generic/socket.h
SO_REUSEADDR: Final = 2
SO_TYPE: Final = 3
SO_ERROR: Final = 4
SO_DONTROUTE: Final = 5
SO_BROADCAST: Final = 6
SO_SNDBUF: Final = 7
SO_RCVBUF: Final = 8
SO_KEEPALIVE: Final = 9
SO_OOBINLINE: Final = 10
SO_NO_CHECK: Final = 11
SO_PRIORITY: Final = 12
SO_LINGER: Final = 13
SO_REUSEPORT: Final = 15
SO_RCVLOWAT: Final = 18
SO_SNDLOWAT: Final = 19
SO_RCVTIMEO: Final = 20
SO_SNDTIMEO: Final = 21
SO_BINDTODEVICE: Final = 25
SO_ACCEPTCONN: Final = 30
SO_SNDBUFFORCE: Final = 32
SO_RCVBUFFORCE: Final = 33
SO_MARK: Final = 36
SO_PROTOCOL: Final = 38
SO_DOMAIN: Final = 39
SO_PEEK_OFF: Final = 42
SO_MAX_PACING_RATE: Final = 47
SO_TIMESTAMPING: Final = 37
SO_MEMINFO: Final = 55
SO_COOKIE: Final = 57
SO_ZEROCOPY: Final = 60
SO_BINDTOIFINDEX: Final = 62
SO_BUF_LOCK: Final = 72

# SO_BUF_LOCK
SOCK_SNDBUF_LOCK: Final = 1
SOCK_RCVBUF_LOCK: Final = 2


INT_MAX: Final[i64] = 0x7FFF_FFFF
ENOTSUPP: Final = 524  #: "Operation is not supported" inside Linux (include/linux/errno.h), which gets out here
#: SO_PRIORITY up to here is everybody's (TC_PRIO_INTERACTIVE).
TC_PRIO_INTERACTIVE: Final = 6

_UINT: Final = Struct("=I")
_ULONG: Final = Struct("=Q")
_MEMINFO: Final = Struct("=9I")
_LINGER: Final = Struct("=ii")
_TIMEVAL: Final = Struct("=qq")
#: struct so_timestamping: flags, and the clock of a device that has one (bind_phc), which none of ours has.
_TIMESTAMPING: Final = Struct("=Ii")

#: Options that are one flag of Sock and nothing else.
_FLAGS: Final = {
    SO_REUSEADDR: "reuseaddr",
    SO_REUSEPORT: "reuseport",
    SO_BROADCAST: "broadcast",
    SO_KEEPALIVE: "keepopen",
    SO_DONTROUTE: "dontroute",
    SO_OOBINLINE: "oobinline",
    SO_NO_CHECK: "no_check_tx",
}
#: Options that are one number of Sock, as getsockopt answers it.
_NUMBERS: Final = {
    SO_SNDBUF: "sndbuf",
    SO_RCVBUF: "rcvbuf",
    SO_PRIORITY: "priority",
    SO_MARK: "mark",
    SO_RCVLOWAT: "rcvlowat",
    SO_PROTOCOL: "protocol",
    SO_BINDTOIFINDEX: "bound_dev_if",
    SO_ZEROCOPY: "zerocopy",
}


class SocketOptions:
    """SOL_SOCKET of one stack's sockets; SOL_IP goes to IpSockOptions, other levels to the protocol."""

    def __init__(self, net: Net, devices: Devices, ip_options: IpSockOptions) -> None:
        self.net: Net = net
        self.devices: Devices = devices
        self.ip_options: IpSockOptions = ip_options

    def setsockopt(self, sock: Socket, level: i64, name: i64, value: int | bytes) -> None:
        """Raises ENOPROTOOPT, EINVAL, EPERM, EDOM, ENODEV."""
        if level == SOL_SOCKET:
            self.sk_setsockopt(sock, name, value)
        elif level == SOL_IP:
            self.ip_options.ip_setsockopt(sock, name, value)
        else:
            sock.sk.setsockopt(level, name, value, sock.cred.capable(CAP_NET_ADMIN))

    def getsockopt(self, sock: Socket, level: i64, name: i64, room: i64) -> int | bytes:
        """The whole value, which may be longer than the ``room`` bytes the caller has. Raises ENOPROTOOPT, EINVAL."""
        if level == SOL_SOCKET:
            return self.sk_getsockopt(sock, name, room)
        if level == SOL_IP:
            return self.ip_options.ip_getsockopt(sock, name)
        return sock.sk.getsockopt(level, name, room)

    def sk_setsockopt(self, sock: Socket, name: i64, value: int | bytes) -> None:
        """The options whose value is a structure, then flags, then numbers."""
        if name == SO_BINDTODEVICE:
            return self._bind_to_device(sock, value)
        if name == SO_LINGER:
            return set_linger(sock, value)
        if name == SO_RCVTIMEO or name == SO_SNDTIMEO:
            return set_timeout(sock, name, value)
        if name == SO_MAX_PACING_RATE:
            return set_max_pacing_rate(sock, value)
        number = int_value(value)
        flag = _FLAGS.get(name)
        if flag is not None:
            return set_flag(sock, name, flag, number != 0)
        self._set_number(sock, name, number)

    def _set_number(self, sock: Socket, name: i64, number: i64) -> None:
        sysctl = self.net.sysctl
        if name == SO_SNDBUF:
            # the limit is applied to an unsigned number, so a negative one asks for all there is
            set_sndbuf(sock, sysctl.wmem_max if number < 0 else min(number, sysctl.wmem_max))
        elif name == SO_RCVBUF:
            set_rcvbuf(sock, sysctl.rmem_max if number < 0 else min(number, sysctl.rmem_max))
        elif name == SO_SNDBUFFORCE:
            require(sock.cred.capable(CAP_NET_ADMIN))
            set_sndbuf(sock, max(number, 0))
        elif name == SO_RCVBUFFORCE:
            require(sock.cred.capable(CAP_NET_ADMIN))
            set_rcvbuf(sock, max(number, 0))
        elif name == SO_PRIORITY:
            require(0 <= number <= TC_PRIO_INTERACTIVE or may_mark(sock.cred))
            sock.sk.priority = number
        elif name == SO_MARK:
            require(may_mark(sock.cred))
            sock.sk.mark = number & 0xFFFF_FFFF
            sock.sk.dst_cache = None
        elif name == SO_RCVLOWAT:
            sock.sk.set_rcvlowat(INT_MAX if number < 0 else number or 1)
        elif name == SO_PEEK_OFF:
            sock.sk.set_peek_off(number)
        elif name == SO_BUF_LOCK:
            set_buf_lock(sock, number)
        elif name == SO_TIMESTAMPING:
            set_timestamping(sock, number)
        elif name == SO_ZEROCOPY:
            set_zerocopy(sock, number)
        elif name == SO_BINDTOIFINDEX:
            self._bind_to_index(sock, number)
        else:
            raise error(errno.ENOPROTOOPT)

    def _bind_to_device(self, sock: Socket, value: int | bytes) -> None:
        """The name of a device, at most IFNAMSIZ bytes up to a NUL; the empty name undoes it. ENODEV."""
        name = octets_value(value)[:15].split(b"\0")[0].decode("ascii", "replace")
        index: i64 = 0
        if name:
            dev = self.devices.by_name(name)
            if dev is None:
                raise error(errno.ENODEV)
            index = dev.ifindex
        self._bind_to_index(sock, index)

    def _bind_to_index(self, sock: Socket, index: i64) -> None:
        """sock_bindtoindex_locked: binding is everybody's right, undoing it is not."""
        sk = sock.sk
        require(sk.bound_dev_if == 0 or sock.cred.capable(CAP_NET_RAW))
        if index < 0:
            raise error(errno.EINVAL)
        sk.bound_dev_if = index
        sk.dst_cache = None

    def sk_getsockopt(self, sock: Socket, name: i64, room: i64) -> int | bytes:
        sk = sock.sk
        flag = _FLAGS.get(name)
        if flag is not None:
            return int(getattr(sk, flag))
        number = _NUMBERS.get(name)
        if number is not None:
            return int(getattr(sk, number))
        if name == SO_ERROR:
            return take_any_error(sock)
        if name == SO_TYPE:
            return sock.type
        if name == SO_DOMAIN:
            return AF_INET
        if name == SO_ACCEPTCONN:
            return int(sk.state == TCP_LISTEN)
        if name == SO_SNDLOWAT:
            return 1
        if name == SO_PEEK_OFF:
            return int(sk.get_peek_off())
        if name == SO_BUF_LOCK:
            return (SOCK_SNDBUF_LOCK if sk.sndbuf_locked else 0) | (SOCK_RCVBUF_LOCK if sk.rcvbuf_locked else 0)
        return self._get_structure(sock, name, room)

    def _get_structure(self, sock: Socket, name: i64, room: i64) -> bytes:
        sk = sock.sk
        if name == SO_MAX_PACING_RATE:
            return pacing_rate_value(sk.max_pacing_rate, room)
        if name == SO_TIMESTAMPING:
            return _TIMESTAMPING.pack(sk.tsflags & 0xFFFF_FFFF, 0)
        if name == SO_MEMINFO:
            return _MEMINFO.pack(*(word & 0xFFFF_FFFF for word in sk.meminfo()))
        if name == SO_COOKIE:
            need_room(room, _ULONG.size)
            return _ULONG.pack(sk.cookie)
        if name == SO_LINGER:
            return _LINGER.pack(int(sk.linger >= 0), sk.lingertime)
        if name == SO_RCVTIMEO:
            return timeval(sock.rcvtimeo)
        if name == SO_SNDTIMEO:
            return timeval(sock.sndtimeo)
        if name == SO_BINDTODEVICE:
            dev = self.devices.by_index(sk.bound_dev_if) if sk.bound_dev_if else None
            if dev is None:
                return b""
            need_room(room, IFNAMSIZ)
            return dev.name.encode() + b"\0"
        raise error(errno.ENOPROTOOPT)


def require(right: bool) -> None:
    """EPERM without ``right``."""
    if not right:
        raise error(errno.EPERM)


def may_mark(cred: Cred) -> bool:
    """Who may set marks and high priorities."""
    return cred.capable(CAP_NET_RAW) or cred.capable(CAP_NET_ADMIN)


def need_room(room: i64, size: i64) -> None:
    """EINVAL for a caller with less room than what is not to be cut short."""
    if room < size:
        raise error(errno.EINVAL)


def set_flag(sock: Socket, name: i64, attribute: str, on: bool) -> None:
    sk = sock.sk
    if name == SO_KEEPALIVE:
        sk.set_keepalive(on)
    elif name == SO_DONTROUTE:
        sk.dst_cache = None
    setattr(sk, attribute, on)


def set_sndbuf(sock: Socket, number: i64) -> None:
    """Doubled for the overhead of packets, as socket(7) says, and never below the minimum."""
    number = min(number, INT_MAX // 2)
    sock.sk.sndbuf_locked = True
    sock.sk.sndbuf = max(number * 2, SOCK_MIN_SNDBUF)
    sock.sk.observer.write_space(sock.sk)


def set_rcvbuf(sock: Socket, number: i64) -> None:
    """__sock_set_rcvbuf: doubled as well."""
    number = min(number, INT_MAX // 2)
    sock.sk.rcvbuf_locked = True
    sock.sk.rcvbuf = max(number * 2, SOCK_MIN_RCVBUF)


def set_buf_lock(sock: Socket, number: int) -> None:
    """Which buffers keep the size that they have: SOCK_SNDBUF_LOCK, SOCK_RCVBUF_LOCK."""
    if number & ~(SOCK_SNDBUF_LOCK | SOCK_RCVBUF_LOCK):
        raise error(errno.EINVAL)
    sock.sk.sndbuf_locked = number & SOCK_SNDBUF_LOCK != 0
    sock.sk.rcvbuf_locked = number & SOCK_RCVBUF_LOCK != 0


def set_timestamping(sock: Socket, flags: int) -> None:
    """SOF_TIMESTAMPING_*: EINVAL for what is none, or for one that goes with another which is not asked for."""
    numbered, stats = flags & SOF_TIMESTAMPING_OPT_ID, flags & SOF_TIMESTAMPING_OPT_STATS
    if flags & ~SOF_TIMESTAMPING_MASK or (flags & SOF_TIMESTAMPING_OPT_ID_TCP and not numbered):
        raise error(errno.EINVAL)
    if (stats and not flags & SOF_TIMESTAMPING_OPT_TSONLY) or flags & SOF_TIMESTAMPING_BIND_PHC:
        raise error(errno.EINVAL)
    sock.sk.set_timestamping(flags)


def set_zerocopy(sock: Socket, number: int) -> None:
    """0 or 1, and only for streams: for others it is ENOTSUPP, the kernel's own number."""
    if sock.type != SOCK_STREAM:
        raise OSError(ENOTSUPP, "Unknown error 524")
    if number not in (0, 1):
        raise error(errno.EINVAL)
    sock.sk.zerocopy = number == 1


def set_max_pacing_rate(sock: Socket, value: int | bytes) -> None:
    """Bytes a second, an unsigned int or long; all ones in either lift the limit."""
    rate: int  # an unsigned long need not fit into an i64
    if isinstance(value, int):
        rate = value & 0xFFFF_FFFF if value < 0 else value
    elif len(value) >= _ULONG.size:
        rate = _ULONG.unpack_from(value)[0]
    else:
        rate = int_value(value) & 0xFFFF_FFFF
    sock.sk.set_max_pacing_rate(PACING_UNLIMITED if rate == 0xFFFF_FFFF or rate >= int(PACING_UNLIMITED) else rate)


def pacing_rate_value(rate: i64, room: i64) -> bytes:
    """As a long to who has room for one, else as an int."""
    if room >= _ULONG.size:
        return b"\xff" * _ULONG.size if rate == PACING_UNLIMITED else _ULONG.pack(rate)
    return _UINT.pack(min(rate, 0xFFFF_FFFF))


def set_linger(sock: Socket, value: int | bytes) -> None:
    """struct linger { int l_onoff, l_linger; }, seconds."""
    if isinstance(value, int) or len(value) < _LINGER.size:
        raise error(errno.EINVAL)
    on, seconds = _LINGER.unpack_from(value)
    # the kernel takes l_linger as unsigned and caps what its clock cannot hold: negative is "very long"
    if on:
        sock.sk.linger = sock.sk.lingertime = INT_MAX if seconds < 0 else seconds
    else:
        sock.sk.linger = -1


def set_timeout(sock: Socket, name: i64, value: int | bytes) -> None:
    """struct timeval; EDOM for microseconds that are none. A negative time is no time at all (sock_set_timeout)."""
    if isinstance(value, int) or len(value) < _TIMEVAL.size:
        raise error(errno.EINVAL)
    seconds: int
    usec: int
    seconds, usec = _TIMEVAL.unpack_from(value)
    if not 0 <= usec < 1_000_000:
        raise error(errno.EDOM)
    timeout = 1 if seconds < 0 else min(seconds, INT_MAX) * NSEC_PER_SEC + usec * NSEC_PER_USEC
    if name == SO_RCVTIMEO:
        sock.rcvtimeo = timeout
    else:
        sock.sndtimeo = timeout


def timeval(timeout: i64) -> bytes:
    return _TIMEVAL.pack(timeout // NSEC_PER_SEC, timeout % NSEC_PER_SEC // NSEC_PER_USEC)


def take_any_error(sock: Socket) -> int:
    """SO_ERROR: the pending error, or else the soft one; either is cleared."""
    code = sock.sk.take_error()
    if code == 0:
        code = sock.sk.err_soft
        sock.sk.err_soft = 0
    return code
