"""Sockets of a running ustack daemon, with the interface of the standard library's socket module.

    from ustack import socket

    with socket.create_connection(("192.0.2.1", 80)) as s:
        s.sendall(b"GET / HTTP/1.0\\r\\n\\r\\n")
        print(s.recv(65536))

A socket's descriptor is real: select, poll, epoll and asyncio take it. Errors are OSErrors with Linux's errno. What is
not here (constants, name resolution, inet_aton, …) is the standard library's own. Four things differ: datagrams are
handed to the daemon, so an error of ``sendto`` shows at the next call on the socket; SO_LINGER with a time makes no
close wait; a raw or ping socket's descriptor carries messages with an eight-byte header (ustack/io/control.py), which
matters to whoever uses it without this module; and the daemon is found through $USTACK_CONTROL.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket as _socket
import sys
import threading
from socket import (
    AF_INET,
    AF_UNSPEC,
    IPPROTO_ICMP,
    IPPROTO_IP,
    IPPROTO_TCP,
    IPPROTO_UDP,
    MSG_DONTWAIT,
    MSG_OOB,
    MSG_PEEK,
    SHUT_RD,
    SHUT_RDWR,
    SHUT_WR,
    SO_ERROR,
    SO_LINGER,
    SO_RCVBUF,
    SO_REUSEADDR,
    SO_SNDBUF,
    SOCK_CLOEXEC,
    SOCK_DGRAM,
    SOCK_NONBLOCK,
    SOCK_RAW,
    SOCK_STREAM,
    SOL_SOCKET,
    SOMAXCONN,
    TCP_NODELAY,
    getaddrinfo,
    getdefaulttimeout,
    inet_aton,
    inet_ntoa,
)
from typing import IO, TYPE_CHECKING, Any, Final

from ustack.io import control
from ustack.io.client import Client, receive

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Self

    from typing_extensions import Buffer

__all__ = [
    "AF_INET",
    "AF_UNSPEC",
    "IPPROTO_ICMP",
    "IPPROTO_IP",
    "IPPROTO_TCP",
    "IPPROTO_UDP",
    "MSG_DONTWAIT",
    "MSG_OOB",
    "MSG_PEEK",
    "SHUT_RD",
    "SHUT_RDWR",
    "SHUT_WR",
    "SOCK_CLOEXEC",
    "SOCK_DGRAM",
    "SOCK_NONBLOCK",
    "SOCK_RAW",
    "SOCK_STREAM",
    "SOL_SOCKET",
    "SOMAXCONN",
    "SO_ERROR",
    "SO_LINGER",
    "SO_RCVBUF",
    "SO_REUSEADDR",
    "SO_SNDBUF",
    "TCP_NODELAY",
    "create_connection",
    "create_server",
    "error",
    "getaddrinfo",
    "getdefaulttimeout",
    "inet_aton",
    "inet_ntoa",
    "socket",
]

error = OSError
Address = tuple[str, int]

#: Send buffer of a connected stream's descriptor, bytes (see channel.py for why it is small before).
_STREAM_BUFFER: Final = 1 << 20
#: One byte beside the one that is always there makes an unconnected stream's descriptor unwritable.
_STUFFING: Final = b"\0"
#: What fits into a datagram of IP, and of UDP, bytes; what else a ping or raw socket cannot send, the daemon says.
_IP_MAX: Final = 65_535
_UDP_MAX: Final = _IP_MAX - 28
_SYSTEM_FLAGS: Final = SOCK_NONBLOCK | SOCK_CLOEXEC

# what a stream socket is
_NEW, _CONNECTING, _CONNECTED, _LISTENING = range(4)


def __getattr__(name: str) -> Any:
    """What is not different here."""
    return getattr(_socket, name)


class _Daemon:
    """The process's connection to the daemon; another after a fork, or when the daemon was replaced."""

    def __init__(self) -> None:
        self._forked()
        os.register_at_fork(after_in_child=self._forked)

    def _forked(self) -> None:
        self._lock = threading.Lock()
        self._client: Client | None = None

    def fresh(self) -> Client:
        """One for a new socket: the connection may have ended meanwhile."""
        with self._lock:
            if self._client is not None and not self._client.alive():
                self._client.close()
                self._client = None
            if self._client is None:
                self._client = Client()
            return self._client


_daemon: Final = _Daemon()


class socket:
    """A TCP, UDP, ICMP or raw socket of the stack."""

    def __init__(
        self, family: int = AF_INET, type: int = SOCK_STREAM, proto: int = 0, *, client: Client | None = None
    ) -> None:
        """``client``: another daemon than the usual one. Raises NoDaemon, EAFNOSUPPORT, EPROTONOSUPPORT, EPERM, …"""
        self._client: Client = _daemon.fresh() if client is None else client
        socket_id, fd = self._client.open(family, type & ~_SYSTEM_FLAGS, proto)
        self._setup(family, type & ~_SYSTEM_FLAGS, proto, socket_id, fd)
        if type & SOCK_NONBLOCK:
            self.setblocking(False)

    def _setup(self, family: int, kind: int, proto: int, socket_id: int, fd: int) -> None:
        self.family: int = family
        self.type: int = kind
        self.proto: int = proto
        self._id: int = socket_id
        self._state: int = _NEW
        self._far = _socket.socket(fileno=fd)
        self._far.settimeout(getdefaulttimeout())

    @classmethod
    def _accepted(cls, listener: socket, socket_id: int, fd: int) -> Self:
        self = cls.__new__(cls)
        self._client = listener._client
        self._setup(listener.family, listener.type, listener.proto, socket_id, fd)
        self._state = _CONNECTED
        return self

    # -- life

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<ustack.socket.socket fd={self.fileno()} type={self.type} proto={self.proto} id={self._id}>"

    def close(self) -> None:
        """What was sent still leaves; a reader that left data unread resets the connection, as everywhere."""
        self._far.close()

    def detach(self) -> int:
        """The descriptor, which is the caller's to close now."""
        return self._far.detach()

    def fileno(self) -> int:
        """-1 once closed."""
        return self._far.fileno()

    def get_inheritable(self) -> bool:
        return self._far.get_inheritable()

    def set_inheritable(self, inheritable: bool) -> None:
        self._far.set_inheritable(inheritable)

    # -- time

    def settimeout(self, value: float | None) -> None:
        """Seconds; None waits for ever, 0 not at all."""
        self._far.settimeout(value)

    def gettimeout(self) -> float | None:
        return self._far.gettimeout()

    def setblocking(self, flag: bool) -> None:
        self._far.setblocking(flag)

    def getblocking(self) -> bool:
        return self._far.getblocking()

    @property
    def timeout(self) -> float | None:
        return self._far.gettimeout()

    # -- names and options

    def bind(self, address: Address) -> None:
        self._ask(control.Bind(self._id, *resolve(address)))

    def getsockname(self) -> Address:
        return self._name(peer=False)

    def getpeername(self) -> Address:
        """Raises ENOTCONN."""
        return self._name(peer=True)

    def _name(self, peer: bool) -> Address:
        self._check_open()
        try:
            return pair(*self._client.name(self._id, peer))
        except OSError as reason:
            if reason.errno != errno.EBADF:
                raise
            raise oserror(errno.ENOTCONN) from None  # the connection is gone

    def setsockopt(self, level: int, optname: int, value: int | Buffer | None, optlen: int = 0) -> None:
        """Raises ENOPROTOOPT, EINVAL, EPERM."""
        if value is None:
            value = bytes(optlen)
        self._ask(control.SetOption(self._id, level, optname, value if isinstance(value, int) else bytes(value)))

    def getsockopt(self, level: int, optname: int, buflen: int = 0) -> Any:
        """An int, or with ``buflen`` the bytes of the C value. Raises ENOPROTOOPT, EINVAL."""
        self._check_open()
        if level == SOL_SOCKET and optname == SO_ERROR:
            value: int | bytes = self._take_error().to_bytes(4, sys.byteorder)[: buflen or 4]
        else:
            value = self._client.option(self._id, level, optname, buflen or 4)
        assert isinstance(value, bytes)
        return value if buflen else int.from_bytes(value, sys.byteorder, signed=len(value) == 4)

    # -- connections

    def connect(self, address: Address) -> None:
        """Raises ECONNREFUSED, ETIMEDOUT, ENETUNREACH, …; TimeoutError after ``settimeout``; EINPROGRESS at 0."""
        self._check_open()
        addr, port = resolve(address)
        if self.type != SOCK_STREAM:
            self._ask(control.Connect(self._id, addr, port))
            self._state = _CONNECTED
            return
        self._far.send(_STUFFING)
        self._ask(control.Connect(self._id, addr, port, len(_STUFFING)))
        self._state = _CONNECTING
        if self.gettimeout() == 0:
            raise oserror(errno.EINPROGRESS)
        if not wait_writable(self._far):
            raise TimeoutError("timed out")
        code = self._take_error()
        if code:
            raise oserror(code)

    def connect_ex(self, address: Address) -> int:
        """The errno instead of an exception."""
        try:
            self.connect(address)
        except OSError as reason:
            return reason.errno or errno.EAGAIN
        return 0

    def _take_error(self) -> int:
        """SO_ERROR; also what became of a connect that is over."""
        code = self._client.take_error(self._id)
        if self._state == _CONNECTING and (code or wait_writable(self._far, 0)):
            self._state = _NEW if code else _CONNECTED
            if not code:
                self._far.setsockopt(SOL_SOCKET, SO_SNDBUF, _STREAM_BUFFER)
        return code

    def listen(self, backlog: int = 128) -> None:
        self._ask(control.Listen(self._id, backlog))
        self._state = _LISTENING

    def accept(self) -> tuple[socket, Address]:
        if self._state != _LISTENING:
            raise oserror(errno.EINVAL if self.type == SOCK_STREAM else errno.EOPNOTSUPP)
        record, fd = receive(self._far, control.ACCEPTED_LEN)
        if not record:
            raise oserror(errno.EINVAL)  # the daemon has gone, or the socket was shut down
        socket_id, addr, port = control.decode_accepted(record)
        return socket._accepted(self, socket_id, fd), pair(addr, port)

    def shutdown(self, how: int) -> None:
        """Raises ENOTCONN, EINVAL."""
        self._check_open()
        if self.type != SOCK_STREAM:
            self._ask(control.Shutdown(self._id, how))
            return
        self._need_connection()
        self._far.shutdown(how)

    # -- streams and datagrams out

    def send(self, data: Buffer, flags: int = 0) -> int:
        self._check_flags(flags)
        if self.type != SOCK_STREAM:
            return self._send_datagram(data, 0, 0, flags)
        self._need_connection(sending=True)
        try:
            return self._far.send(data, flags)
        except (BrokenPipeError, ConnectionResetError) as reason:
            raise self._why(reason) from None

    def sendall(self, data: Buffer, flags: int = 0) -> None:
        self._check_flags(flags)
        if self.type != SOCK_STREAM:
            self._send_datagram(data, 0, 0, flags)
            return
        self._need_connection(sending=True)
        try:
            self._far.sendall(data, flags)
        except (BrokenPipeError, ConnectionResetError) as reason:
            raise self._why(reason) from None

    def sendto(self, data: Buffer, *where: Any) -> int:
        """``sendto(data, address)`` or ``sendto(data, flags, address)``."""
        flags, address = where if len(where) == 2 else (0, where[0])
        self._check_flags(flags)
        if self.type == SOCK_STREAM:
            return self.send(data, flags)
        addr, port = resolve(address)
        if port == 0 and self.type == SOCK_DGRAM and self.proto in (0, IPPROTO_UDP):
            raise oserror(errno.EINVAL)
        return self._send_datagram(data, addr, port, flags)

    def sendmsg(
        self, buffers: Iterable[Buffer], ancdata: object = (), flags: int = 0, address: Address | None = None
    ) -> int:
        """Ancillary data is not carried: EINVAL."""
        if ancdata:
            raise oserror(errno.EINVAL)
        data = b"".join(bytes(piece) for piece in buffers)
        return self.send(data, flags) if address is None else self.sendto(data, flags, address)

    def sendfile(self, file: IO[bytes], offset: int = 0, count: int | None = None) -> int:
        """Everything from ``offset`` on, or ``count`` bytes of it; the bytes sent."""
        file.seek(offset)
        total = 0
        while count is None or total < count:
            piece = file.read(1 << 18 if count is None else min(1 << 18, count - total))
            if not piece:
                break
            self.sendall(piece)
            total += len(piece)
        return total

    def _send_datagram(self, data: Buffer, addr: int, port: int, flags: int) -> int:
        self._check_open()
        size = memoryview(data).nbytes
        if size > (_UDP_MAX if self.type == SOCK_DGRAM and self.proto != IPPROTO_ICMP else _IP_MAX):
            raise oserror(errno.EMSGSIZE)
        if addr == 0 and port == 0 and self._state != _CONNECTED:
            raise oserror(errno.EDESTADDRREQ)
        header = control.encode_datagram_header(addr, port)
        return self._far.sendmsg([header, data], [], flags & MSG_DONTWAIT) - control.DATAGRAM_HEADER_LEN

    # -- streams and datagrams in

    def recv(self, bufsize: int, flags: int = 0) -> bytes:
        """b"" at the end of a stream; ECONNRESET, ETIMEDOUT, … if it was broken off."""
        if self.type != SOCK_STREAM:
            return self.recvfrom(bufsize, flags)[0]
        self._need_connection()
        self._check_flags(flags)
        try:
            return self._far.recv(bufsize, flags)
        except ConnectionResetError as reason:
            raise self._why(reason) from None

    def recv_into(self, buffer: Buffer, nbytes: int = 0, flags: int = 0) -> int:
        if self.type != SOCK_STREAM:
            return self.recvfrom_into(buffer, nbytes, flags)[0]
        self._need_connection()
        self._check_flags(flags)
        try:
            return self._far.recv_into(buffer, nbytes, flags)
        except ConnectionResetError as reason:
            raise self._why(reason) from None

    def recvfrom(self, bufsize: int, flags: int = 0) -> tuple[bytes, Address | None]:
        """A stream has no address to give, as in the standard library."""
        if self.type == SOCK_STREAM:
            return self.recv(bufsize, flags), None
        buffer = bytearray(bufsize)
        size, address, _ = self._receive_datagram(memoryview(buffer), flags)
        return bytes(buffer[:size]), address

    def recvfrom_into(self, buffer: Buffer, nbytes: int = 0, flags: int = 0) -> tuple[int, Address | None]:
        if self.type == SOCK_STREAM:
            return self.recv_into(buffer, nbytes, flags), None
        view = memoryview(buffer).cast("B")
        size, address, _ = self._receive_datagram(view[: nbytes or len(view)], flags)
        return size, address

    def recvmsg(
        self, bufsize: int, ancbufsize: int = 0, flags: int = 0
    ) -> tuple[bytes, list[tuple[int, int, bytes]], int, Address | None]:
        """Never any ancillary data; MSG_TRUNC for a datagram that was longer."""
        if self.type == SOCK_STREAM:
            return self.recv(bufsize, flags), [], 0, None
        buffer = bytearray(bufsize)
        size, address, seen = self._receive_datagram(memoryview(buffer), flags)
        return bytes(buffer[:size]), [], seen, address

    def _receive_datagram(self, buffer: memoryview, flags: int) -> tuple[int, Address, int]:
        self._check_open()
        self._check_flags(flags)
        header = bytearray(control.DATAGRAM_HEADER_LEN)
        size, _, seen, _ = self._far.recvmsg_into([header, buffer], 0, flags)
        if size == 0:
            raise OSError(errno.ECONNRESET, "the daemon has gone")
        addr, port, code = control.decode_datagram_header(bytes(header))
        if code:
            raise oserror(code)
        return size - len(header), pair(addr, port), seen & _socket.MSG_TRUNC

    def makefile(self, mode: str = "r", buffering: int | None = None, **text: Any) -> IO[Any]:
        """A file object over a stream."""
        if self.type != SOCK_STREAM:
            raise oserror(errno.EOPNOTSUPP)
        self._need_connection()
        made: IO[Any] = self._far.makefile(mode, buffering, **text)  # type: ignore[call-overload]
        return made

    # -- what every call needs

    def _ask(self, request: control.Request) -> None:
        self._check_open()
        self._client.ask(request)

    def _check_open(self) -> None:
        if self._far.fileno() < 0:
            raise oserror(errno.EBADF)

    def _check_flags(self, flags: int) -> None:
        if flags & MSG_OOB:
            raise oserror(errno.EOPNOTSUPP)

    def _need_connection(self, sending: bool = False) -> None:
        """ENOTCONN, or EPIPE for a sender; a connect that is under way is EAGAIN, or waited for."""
        self._check_open()
        if self._state == _CONNECTING:
            if not wait_writable(self._far):
                raise oserror(errno.EAGAIN) if self.gettimeout() == 0 else TimeoutError("timed out")
            code = self._take_error()
            if code:
                raise oserror(code)
        if self._state != _CONNECTED:
            raise oserror(errno.EPIPE if sending else errno.ENOTCONN)

    def _why(self, reason: OSError) -> OSError:
        """The error that the stack saw, where the descriptor only knows that the connection is gone."""
        code = 0
        with contextlib.suppress(OSError):  # the daemon itself may have gone
            code = self._client.take_error(self._id)
        return oserror(code) if code else reason


def create_connection(
    address: Address, timeout: float | None = None, source_address: Address | None = None, *, all_errors: bool = False
) -> socket:
    """A connected stream; ``source_address`` is bound first."""
    sock = socket()
    try:
        if timeout is not None:
            sock.settimeout(timeout)
        if source_address is not None:
            sock.bind(source_address)
        sock.connect(address)
    except BaseException:
        sock.close()
        raise
    return sock


def create_server(address: Address, *, family: int = AF_INET, backlog: int | None = None, **options: bool) -> socket:
    """A listening stream with SO_REUSEADDR; ``reuse_port`` is the one other option there is."""
    sock = socket(family)
    try:
        sock.setsockopt(SOL_SOCKET, SO_REUSEADDR, 1)
        if options.get("reuse_port"):
            sock.setsockopt(SOL_SOCKET, _socket.SO_REUSEPORT, 1)
        sock.bind(address)
        sock.listen(128 if backlog is None else backlog)
    except BaseException:
        sock.close()
        raise
    return sock


def resolve(address: Address) -> tuple[int, int]:
    """("host", port) as integers; names are looked up as the host does. Raises gaierror, OverflowError."""
    host, port = address
    if not 0 <= port <= 0xFFFF:
        raise OverflowError("port must be 0-65535.")
    if host in ("", "0.0.0.0"):
        return 0, port
    if host == "<broadcast>":
        return 0xFFFF_FFFF, port
    found = getaddrinfo(host, None, AF_INET, SOCK_STREAM)
    return int.from_bytes(inet_aton(str(found[0][4][0])), "big"), port


def pair(addr: int, port: int) -> Address:
    return inet_ntoa(addr.to_bytes(4, "big")), port


def oserror(code: int) -> OSError:
    """In its own subclass: EAGAIN becomes BlockingIOError, ECONNREFUSED ConnectionRefusedError."""
    return OSError(code, os.strerror(code))


def wait_writable(far: _socket.socket, seconds: float | None = -1) -> bool:
    """Whether ``far`` is writable, or becomes so within ``seconds`` (-1: its own timeout, None: for ever)."""
    poll = select.poll()
    poll.register(far.fileno(), select.POLLOUT)
    limit = far.gettimeout() if seconds == -1 else seconds
    return bool(poll.poll(None if limit is None else limit * 1000))
