"""setsockopt and getsockopt: values, SOL_SOCKET, and which level goes where (Linux net/core/sock.c sk_setsockopt)."""

from __future__ import annotations

import errno
from struct import Struct
from typing import TYPE_CHECKING, Final

from mypy_extensions import i64

from ustack.inet.security import CAP_NET_ADMIN, CAP_NET_RAW, Cred
from ustack.inet.sockaddr import AF_INET
from ustack.sock import TCP_LISTEN, error
from ustack.timer import NSEC_PER_SEC, NSEC_PER_USEC

if TYPE_CHECKING:
    from ustack.device.core import Devices
    from ustack.inet.ip_sockglue import IpSockOptions
    from ustack.inet.socket import Socket
    from ustack.net import Net

# include/uapi/asm-generic/socket.h
SOL_SOCKET: Final = 1
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
SO_BINDTOIFINDEX: Final = 62

SOL_IP: Final = 0

#: The least that set sizes leave, bytes (include/net/sock.h): room for one small packet with its overhead.
SOCK_MIN_RCVBUF: Final[i64] = 2304
SOCK_MIN_SNDBUF: Final[i64] = 2 * SOCK_MIN_RCVBUF
INT_MAX: Final[i64] = 0x7FFF_FFFF
#: SO_PRIORITY up to here is everybody's (TC_PRIO_INTERACTIVE).
TC_PRIO_INTERACTIVE: Final = 6

_INT: Final = Struct("=i")
_LINGER: Final = Struct("=ii")
_TIMEVAL: Final = Struct("=qq")

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
}


def int_value(value: int | bytes) -> int:
    """A C int: the number itself, or the first four bytes in the machine's order. EINVAL if shorter."""
    if isinstance(value, int):
        return value
    if len(value) < _INT.size:
        raise error(errno.EINVAL)
    number: int = _INT.unpack_from(value)[0]
    return number


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
            sock.sk.setsockopt(level, name, int_value(value))

    def getsockopt(self, sock: Socket, level: i64, name: i64) -> int | bytes:
        """Raises ENOPROTOOPT."""
        if level == SOL_SOCKET:
            return self.sk_getsockopt(sock, name)
        if level == SOL_IP:
            return self.ip_options.ip_getsockopt(sock, name)
        return sock.sk.getsockopt(level, name)

    def sk_setsockopt(self, sock: Socket, name: i64, value: int | bytes) -> None:
        """The options whose value is a structure, then flags, then numbers."""
        if name == SO_BINDTODEVICE:
            return self._bind_to_device(sock, value)
        if name == SO_LINGER:
            return set_linger(sock, value)
        if name == SO_RCVTIMEO or name == SO_SNDTIMEO:
            return set_timeout(sock, name, value)
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
            sock.sk.rcvlowat = INT_MAX if number < 0 else number or 1
        elif name == SO_BINDTOIFINDEX:
            self._bind_to_index(sock, number)
        else:
            raise error(errno.ENOPROTOOPT)

    def _bind_to_device(self, sock: Socket, value: int | bytes) -> None:
        """The name of a device, at most IFNAMSIZ bytes up to a NUL; the empty name undoes it. ENODEV."""
        if isinstance(value, int):
            raise error(errno.EINVAL)
        name = value[:15].split(b"\0")[0].decode("ascii", "replace")
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

    def sk_getsockopt(self, sock: Socket, name: i64) -> int | bytes:
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
        return self._get_structure(sock, name)

    def _get_structure(self, sock: Socket, name: i64) -> bytes:
        sk = sock.sk
        if name == SO_LINGER:
            return _LINGER.pack(int(sk.linger >= 0), max(sk.linger, 0))
        if name == SO_RCVTIMEO:
            return timeval(sock.rcvtimeo)
        if name == SO_SNDTIMEO:
            return timeval(sock.sndtimeo)
        if name == SO_BINDTODEVICE:
            dev = self.devices.by_index(sk.bound_dev_if) if sk.bound_dev_if else None
            return dev.name.encode() + b"\0" if dev is not None else b""
        raise error(errno.ENOPROTOOPT)


def require(right: bool) -> None:
    """EPERM without ``right``."""
    if not right:
        raise error(errno.EPERM)


def may_mark(cred: Cred) -> bool:
    """Who may set marks and high priorities."""
    return cred.capable(CAP_NET_RAW) or cred.capable(CAP_NET_ADMIN)


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
    sock.sk.sndbuf = max(number * 2, SOCK_MIN_SNDBUF)
    sock.sk.observer.write_space(sock.sk)


def set_rcvbuf(sock: Socket, number: i64) -> None:
    """__sock_set_rcvbuf: doubled as well."""
    number = min(number, INT_MAX // 2)
    sock.sk.rcvbuf = max(number * 2, SOCK_MIN_RCVBUF)


def set_linger(sock: Socket, value: int | bytes) -> None:
    """struct linger { int l_onoff, l_linger; }, seconds."""
    if isinstance(value, int) or len(value) < _LINGER.size:
        raise error(errno.EINVAL)
    on, seconds = _LINGER.unpack_from(value)
    # the kernel takes l_linger as unsigned and caps what its clock cannot hold: negative is "very long"
    sock.sk.linger = -1 if not on else INT_MAX if seconds < 0 else seconds


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
