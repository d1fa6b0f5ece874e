"""Socket: what an application holds (Linux struct socket and the system calls of net/socket.c).

It checks what does not depend on the protocol, asks the security modules, and dispatches to the family's operations
(ProtoOps). Calls never block: what would wait raises BlockingIOError with EAGAIN, EINPROGRESS or EALREADY, and
``sk.observer`` is told when to try again. Every failure is an OSError with Linux's errno.
"""

from __future__ import annotations

import errno
from struct import Struct
from typing import TYPE_CHECKING, Final

from mypy_extensions import i64, mypyc_attr

from ustack.error_queue import SOL_IP
from ustack.inet.sockaddr import AF_INET, AF_UNSPEC, SockaddrIn, SocketAddress, sockaddr_in
from ustack.sock import MSG_DONTWAIT, MSG_FASTOPEN, NOBODY, POLLHUP, error
from ustack.trace.points import Point
from ustack.trace.words import CallGiven, SendGiven, SocketGiven, endpoint

if TYPE_CHECKING:
    from ustack.inet.security import Cred, Security
    from ustack.packet import Buffer
    from ustack.sock import Message, Observer, Sock

# socket_state (include/uapi/linux/net.h)
SS_UNCONNECTED: Final = 1
SS_CONNECTING: Final = 2
SS_CONNECTED: Final = 3
SS_DISCONNECTING: Final = 4

SHUT_RD: Final = 0
SHUT_WR: Final = 1
SHUT_RDWR: Final = 2
_HOW: Final = {SHUT_RD: "SHUT_RD", SHUT_WR: "SHUT_WR", SHUT_RDWR: "SHUT_RDWR"}

_UINT: Final = Struct("=I")
#: What one call moves at most, bytes (include/linux/fs.h).
MAX_RW_COUNT: Final[i64] = 0x7FFF_F000
#: The port that says "no address given" to Sock.sendmsg.
NO_PORT: Final[i64] = -1


@mypyc_attr(allow_interpreted_subclasses=True)
class ProtoOps:
    """struct proto_ops: how a family and type do the calls. The defaults are Linux's sock_no_*()."""

    def release(self, sock: Socket) -> None:
        raise NotImplementedError

    def bind(self, sock: Socket, address: SockaddrIn) -> None:
        raise error(errno.EOPNOTSUPP)

    def connect(self, sock: Socket, address: SockaddrIn) -> None:
        raise error(errno.EOPNOTSUPP)

    def listen(self, sock: Socket, backlog: i64) -> None:
        raise error(errno.EOPNOTSUPP)

    def accept(self, sock: Socket) -> Sock:
        raise error(errno.EOPNOTSUPP)

    def getname(self, sock: Socket, peer: bool) -> SockaddrIn:
        raise error(errno.EOPNOTSUPP)

    def shutdown(self, sock: Socket, how: i64) -> None:
        raise error(errno.EOPNOTSUPP)

    def sendmsg(self, sock: Socket, data: Buffer, flags: i64, addr: i64, port: i64) -> int:
        raise error(errno.EOPNOTSUPP)

    def recvmsg(self, sock: Socket, length: i64, flags: i64) -> Message:
        raise error(errno.EOPNOTSUPP)

    def setsockopt(self, sock: Socket, level: i64, name: i64, value: int | bytes) -> None:
        raise error(errno.EOPNOTSUPP)

    def getsockopt(self, sock: Socket, level: i64, name: i64, room: i64) -> int | bytes:
        raise error(errno.EOPNOTSUPP)


class Socket:
    """struct socket. Made by Families.sock_create (``stack.socket``) and by accept; closed once, by ``close``."""

    def __init__(self, sock_type: i64, ops: ProtoOps, sk: Sock, cred: Cred, security: Security) -> None:
        self.type: i64 = sock_type
        self.ops: ProtoOps = ops
        self.sk: Sock = sk
        self.cred: Cred = cred
        self.security: Security = security
        self.state: i64 = SS_UNCONNECTED
        self.flags: i64 = 0  #: SOCK_NONBLOCK, SOCK_CLOEXEC
        self.closed: bool = False
        self.rcvtimeo: i64 = 0  #: SO_RCVTIMEO and SO_SNDTIMEO (ns, 0 for ever), for whoever waits on our behalf
        self.sndtimeo: i64 = 0

    # -- life

    def close(self) -> None:
        """Let go of it; the protocol finishes what it must. Closing again does nothing (inet_release)."""
        if self.closed:
            return
        self.closed = True
        tracer = self.sk.net.tracer
        if tracer is not None:
            tracer.call(Point.SOCK_RELEASE, "", SocketGiven(self.sk))
        self.sk.observer = NOBODY
        self.ops.release(self)

    def __enter__(self) -> Socket:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def observe(self, observer: Observer) -> None:
        """Tell ``observer`` from now on when the socket becomes ready."""
        self._check_open()
        self.sk.observer = observer

    # -- names

    def bind(self, address: SocketAddress) -> None:
        """Take a local address and port. EINVAL EAFNOSUPPORT EADDRNOTAVAIL EACCES EADDRINUSE (inet_bind)."""
        self._check_open()
        where = sockaddr_in(address)
        self.security.call_int_hook(lambda module: module.socket_bind(self, where))
        self.ops.bind(self, where)

    def getsockname(self) -> SockaddrIn:
        self._check_open()
        return self.ops.getname(self, False)

    def getpeername(self) -> SockaddrIn:
        """ENOTCONN without a peer."""
        self._check_open()
        return self.ops.getname(self, True)

    # -- connections

    def connect(self, address: SocketAddress) -> None:
        """Connect, or with family AF_UNSPEC undo it.

        A stream raises EINPROGRESS at first, EALREADY while it is under way, and answers with nothing, or with why it
        failed, once it is decided; EISCONN after that (inet_stream_connect).
        """
        self._check_open()
        where = sockaddr_in(address)
        tracer = self.sk.net.tracer
        if tracer is not None:
            tracer.call(Point.SYS_CONNECT, "", {"to": endpoint(where.addr, where.port)})
        self.security.call_int_hook(lambda module: module.socket_connect(self, where))
        self.ops.connect(self, where)

    def listen(self, backlog: i64) -> None:
        """Wait for connections, at most ``backlog`` unaccepted; may be called again to change it."""
        self._check_open()
        limit = self.sk.net.sysctl.somaxconn
        # compared as an unsigned number: a negative backlog asks for all there may be (__sys_listen)
        clamped = limit if backlog < 0 or backlog > limit else backlog
        self.security.call_int_hook(lambda module: module.socket_listen(self, clamped))
        self.ops.listen(self, clamped)

    def accept(self) -> Socket:
        """The next connection. EAGAIN if there is none, EINVAL if not listening, EOPNOTSUPP if not a stream."""
        self._check_open()
        if self.security.active:
            self._permit_accept()
        child = Socket(self.type, self.ops, self.ops.accept(self), self.cred, self.security)
        child.state = SS_CONNECTED
        child.rcvtimeo, child.sndtimeo = self.rcvtimeo, self.sndtimeo
        return child

    def shutdown(self, how: i64) -> None:
        """End one direction or both: SHUT_RD, SHUT_WR, SHUT_RDWR. EINVAL for another, ENOTCONN."""
        self._check_open()
        tracer = self.sk.net.tracer
        if tracer is not None:
            tracer.call(Point.SYS_SHUTDOWN, _HOW.get(int(how), str(how)), SocketGiven(self.sk))
        if self.security.active:
            self._permit_shutdown(how)
        self.ops.shutdown(self, how)

    # -- data

    def send(self, data: Buffer, flags: i64 = 0) -> int:
        """Send to the peer; how many bytes were taken."""
        return self.sendmsg(data, flags, 0, NO_PORT)

    def sendto(self, data: Buffer, address: SocketAddress, flags: i64 = 0) -> int:
        """Send to ``address``. A family other than AF_INET and AF_UNSPEC is EAFNOSUPPORT, as in udp_sendmsg."""
        where = sockaddr_in(address)
        if where.family != AF_INET and where.family != AF_UNSPEC:
            raise error(errno.EAFNOSUPPORT)
        if flags & MSG_FASTOPEN and where.family == AF_UNSPEC:
            raise error(errno.EOPNOTSUPP)  # a connect to nowhere is a disconnect (tcp_sendmsg_fastopen)
        return self.sendmsg(data, flags, where.addr, where.port)

    def sendmsg(self, data: Buffer, flags: i64, addr: i64, port: i64) -> int:
        """The way all sending goes: to (``addr``, ``port``), or to the peer where port is NO_PORT."""
        if self.closed:
            raise error(errno.EBADF)
        if len(data) > MAX_RW_COUNT:
            data = memoryview(data)[:MAX_RW_COUNT]
        tracer = self.sk.net.tracer
        if tracer is not None:
            tracer.call(Point.SOCK_SENDMSG, "", SendGiven(self.sk, len(data), flags, addr, port))
        if self.security.active:
            self._permit_sendmsg(len(data))
        if tracer is not None:
            tracer.note(Point.SECURITY_SOCKET_SENDMSG, "0", self.security.facts)
        return self.ops.sendmsg(self, data, flags | MSG_DONTWAIT, addr, port)

    def sendmsg_iov(self, pieces: list[Buffer], flags: i64 = 0, address: SocketAddress | None = None) -> int:
        """Send a scatter list as one message (datagrams) or one after the other (streams)."""
        data: Buffer = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        return self.send(data, flags) if address is None else self.sendto(data, address, flags)

    def recv(self, length: i64, flags: i64 = 0) -> bytes:
        """At most ``length`` bytes of the stream or of the next message; b"" at the end of a stream."""
        return self.recvmsg(length, flags).data

    def recvfrom(self, length: i64, flags: i64 = 0) -> tuple[bytes, SockaddrIn]:
        message = self.recvmsg(length, flags)
        return message.data, SockaddrIn(message.addr, message.port)

    def recvmsg(self, length: i64, flags: i64 = 0) -> Message:
        """EAGAIN if there is nothing yet, EINVAL for a negative length, or the pending error."""
        if self.closed:
            raise error(errno.EBADF)
        if length < 0:
            raise error(errno.EINVAL)
        if length > MAX_RW_COUNT:
            length = MAX_RW_COUNT
        tracer = self.sk.net.tracer
        if tracer is not None:
            tracer.call(Point.SOCK_RECVMSG, "", CallGiven(self.sk, "length", length))
        if self.security.active:
            self._permit_recvmsg(length, flags)
        if tracer is not None:
            tracer.note(Point.SECURITY_SOCKET_RECVMSG, "0", self.security.facts)
        return self.ops.recvmsg(self, length, flags | MSG_DONTWAIT)

    def poll(self) -> int:
        """The poll() bits that hold now; POLLHUP for a closed socket."""
        return POLLHUP if self.closed else self.sk.poll()

    # -- options

    def setsockopt(self, level: i64, name: i64, value: int | bytes) -> None:
        """ENOPROTOOPT for one that is not known, EINVAL for a value out of range or bytes too short, EPERM."""
        self._check_open()
        tracer = self.sk.net.tracer
        if tracer is not None:
            tracer.call(Point.SYS_SETSOCKOPT, "", CallGiven(self.sk, "level", level, "name", name))
        self.ops.setsockopt(self, level, name, value)

    def getsockopt(self, level: i64, name: i64) -> int | bytes:
        """The value: an int, or the bytes of the C structure where it is one (SO_LINGER, TCP_INFO)."""
        self._check_open()
        return self.ops.getsockopt(self, level, name, MAX_RW_COUNT)

    def getsockopt_bytes(self, level: i64, name: i64, room: i64) -> bytes:
        """The value as getsockopt(2) writes it into ``room`` bytes: an int has four, what is longer is cut.

        EINVAL for a negative ``room``, and for too little of it where a part would be of no use.
        """
        self._check_open()
        if room < 0:
            raise error(errno.EINVAL)
        value = self.ops.getsockopt(self, level, name, room)
        if isinstance(value, int):
            if level == SOL_IP and 0 < room < 4 and 0 <= value <= 255:
                return bytes([value])  # "an int or an unsigned char"
            value = _UINT.pack(value & 0xFFFF_FFFF)
        return value[:room]

    def ioctl(self, command: i64) -> int:
        """SIOCINQ, SIOCOUTQ, SIOCOUTQNSD, SIOCATMARK. EINVAL, ENOTTY for what the protocol does not know."""
        self._check_open()
        return self.sk.ioctl(command)

    def _check_open(self) -> None:
        if self.closed:
            raise error(errno.EBADF)

    # apart from their callers, whose hot path should not pay for a closure
    def _permit_accept(self) -> None:
        self.security.call_int_hook(lambda module: module.socket_accept(self))

    def _permit_shutdown(self, how: i64) -> None:
        self.security.call_int_hook(lambda module: module.socket_shutdown(self, how))

    def _permit_sendmsg(self, size: i64) -> None:
        self.security.call_int_hook(lambda module: module.socket_sendmsg(self, size))

    def _permit_recvmsg(self, length: i64, flags: i64) -> None:
        self.security.call_int_hook(lambda module: module.socket_recvmsg(self, length, flags))
