"""The small servers that a stack offers by itself: echo (RFC 862), discard (RFC 863), chargen (RFC 864), http.

They live on the stack's side of the socket interface: no descriptor, no copy. What a peer sends is handed on as the
pieces it came in, what is sent are views of one constant block.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from mypy_extensions import i64, mypyc_attr

from ustack.inet.family import SOCK_DGRAM, SOCK_STREAM
from ustack.inet.sockaddr import AF_INET, INADDR_ANY, SockaddrIn
from ustack.io.loop import Loop, Worker
from ustack.sock import POLLERR, POLLIN, RCV_SHUTDOWN, Sock
from ustack.tcp.control import TcpControl
from ustack.tcp.receive import tcp_read_sock

if TYPE_CHECKING:
    from ustack.inet.socket import Socket
    from ustack.packet import Buffer

log: Final = logging.getLogger("ustack.services")

ECHO_PORT: Final = 7
DISCARD_PORT: Final = 9
CHARGEN_PORT: Final = 19
HTTP_PORT: Final = 80

BACKLOG: Final = 4096
#: Connections that one service holds at a time; one more is closed at once.
CONNECTIONS_MAX: Final = 65_536
#: Bytes that one turn of one connection moves before others have theirs.
TURN: Final[i64] = 1 << 20
#: Everything there is.
ALL: Final[i64] = 1 << 40
#: Datagrams that one turn answers.
DATAGRAMS: Final = 64
DATAGRAM_MAX: Final[i64] = 65_535
#: Ports of services that answer whatever they get: answering them would go on for ever (CVE-1999-0103, CVE-2024-2169).
LOOPING_PORTS: Final = (7, 9, 13, 17, 19, 37)

_LINE: Final = 72
_PRINTABLE: Final = bytes(range(0x20, 0x7F))
#: RFC 864's "popular pattern": 95 lines of 72 characters, each shifted by one, and then again from the start.
PATTERN: Final = b"".join(
    (_PRINTABLE + _PRINTABLE)[shift : shift + _LINE] + b"\r\n" for shift in range(len(_PRINTABLE))
)
#: A view of this many bytes from anywhere in the first pattern lies within the block.
CHUNK: Final = 1 << 18
BLOCK: Final = memoryview(PATTERN * (CHUNK // len(PATTERN) + 2))


@mypyc_attr(allow_interpreted_subclasses=True)
class Service(Worker):
    """What listens on a port."""

    def close(self) -> None:
        """Stop listening and close every connection."""
        raise NotImplementedError


@mypyc_attr(allow_interpreted_subclasses=True)
class Connection(Worker):
    """One accepted connection of a service."""

    def __init__(self, service: TcpService, sock: Socket) -> None:
        super().__init__(service.loop)
        sk = sock.sk
        assert isinstance(sk, TcpControl)
        self.service: TcpService = service
        self.sock: Socket = sock
        self.tp: TcpControl = sk
        self.closed: bool = False
        sock.observe(self)

    def at_end(self) -> bool:
        """Nothing more will come: the peer's FIN is read, or the connection is gone."""
        tp = self.tp
        return not tp.receive_queue and (tp.err != 0 or tp.shutdown & RCV_SHUTDOWN != 0)

    def failed(self) -> None:
        self.close()

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self.sock.close()
            self.service.ended(self)


@mypyc_attr(allow_interpreted_subclasses=True)
class TcpService(Service):
    """A listening socket and its connections.

    Services spell their __init__ out: one that is only inherited is called twice by mypyc when interpreted code makes a
    compiled subclass of a class that lets itself be subclassed by interpreted code.
    """

    def __init__(self, loop: Loop, port: i64) -> None:
        """Raises OSError EADDRINUSE."""
        super().__init__(loop)
        self.connections: set[Connection] = set()
        self.sock: Socket = loop.stack.socket(AF_INET, SOCK_STREAM, 0)
        try:
            self.sock.bind(SockaddrIn(INADDR_ANY, port))
            self.sock.listen(BACKLOG)
        except OSError:
            self.sock.close()
            raise
        self.sock.observe(self)

    def accept(self, sock: Socket) -> Connection:
        """The connection for an accepted socket."""
        raise NotImplementedError

    def work(self) -> None:
        """Take in every connection that waits."""
        while self.sock.sk.poll() & POLLIN:
            sock = self.sock.accept()
            if len(self.connections) >= CONNECTIONS_MAX:
                sock.close()
                continue
            connection = self.accept(sock)
            self.connections.add(connection)
            # data or an end may have come before anybody observed it
            connection.work()

    def ended(self, connection: Connection) -> None:
        self.connections.discard(connection)

    def close(self) -> None:
        self.sock.close()
        for connection in list(self.connections):
            connection.close()


# -- discard


class DiscardConnection(Connection):
    """RFC 863: "A server listens [...] and data received is thrown away"."""

    def data_ready(self, sk: Sock) -> None:
        # Read at once, not in a turn: the acknowledgement that ends this batch then carries the window as it is.
        tcp_read_sock(self.tp, ALL)
        if self.tp.shutdown & RCV_SHUTDOWN != 0:
            self.loop.later(self)

    def write_space(self, sk: Sock) -> None:
        """Nothing is ever sent."""

    def work(self) -> None:
        if not self.closed:
            tcp_read_sock(self.tp, ALL)
            if self.at_end():
                self.close()


class Discard(TcpService):
    def __init__(self, loop: Loop, port: i64 = DISCARD_PORT) -> None:
        super().__init__(loop, port)

    def accept(self, sock: Socket) -> Connection:
        return DiscardConnection(self, sock)


# -- echo


class EchoConnection(Connection):
    """RFC 862: "any data received is sent back"; what cannot be sent yet is not read, so the window closes."""

    def __init__(self, service: TcpService, sock: Socket) -> None:
        super().__init__(service, sock)
        self.held: list[Buffer] = []

    def work(self) -> None:
        if self.closed:
            return
        moved: i64 = 0
        while moved < TURN:
            size = send_pieces(self.sock, self.held)
            if size < 0:
                self.close()
                return
            moved += size
            if self.held:
                return  # write_space calls again
            self.held = tcp_read_sock(self.tp, TURN)
            if not self.held:
                if self.at_end():
                    self.close()
                return
        self.loop.later(self)


class Echo(TcpService):
    def __init__(self, loop: Loop, port: i64 = ECHO_PORT) -> None:
        super().__init__(loop, port)

    def accept(self, sock: Socket) -> Connection:
        return EchoConnection(self, sock)


def send_pieces(sock: Socket, pieces: list[Buffer]) -> i64:
    """Send from the front of ``pieces`` and remove what was taken: bytes, or -1 if the connection is broken."""
    sent: i64 = 0
    done = 0
    for piece in pieces:
        size: i64 = len(piece)
        try:
            taken: i64 = sock.send(piece)
        except BlockingIOError:
            break
        except OSError:
            return -1
        sent += taken
        if taken < size:
            pieces[done] = memoryview(piece)[taken:]
            break
        done += 1
    del pieces[:done]
    return sent


# -- chargen


class ChargenConnection(Connection):
    """RFC 864: "a stream of data is sent out [...] until the calling user terminates the connection"."""

    def __init__(self, service: TcpService, sock: Socket) -> None:
        super().__init__(service, sock)
        self.offset: i64 = 0  # where in the pattern the stream is

    def data_ready(self, sk: Sock) -> None:
        tcp_read_sock(self.tp, ALL)
        if self.tp.shutdown & RCV_SHUTDOWN != 0:
            self.loop.later(self)

    def work(self) -> None:
        if self.closed:
            return
        tcp_read_sock(self.tp, ALL)
        if self.at_end():
            self.close()
            return
        moved: i64 = 0
        while moved < TURN:
            try:
                taken: i64 = self.sock.send(BLOCK[self.offset : self.offset + CHUNK])
            except BlockingIOError:
                return
            except OSError:
                self.close()
                return
            moved += taken
            self.offset = (self.offset + taken) % len(PATTERN)
            if taken < CHUNK:
                return
        self.loop.later(self)


class Chargen(TcpService):
    def __init__(self, loop: Loop, port: i64 = CHARGEN_PORT) -> None:
        super().__init__(loop, port)

    def accept(self, sock: Socket) -> Connection:
        return ChargenConnection(self, sock)


# -- UDP


class UdpService(Service):
    """A datagram socket on a port."""

    def __init__(self, loop: Loop, port: i64) -> None:
        """Raises OSError EADDRINUSE."""
        super().__init__(loop)
        self.sock: Socket = loop.stack.socket(AF_INET, SOCK_DGRAM, 0)
        try:
            self.sock.bind(SockaddrIn(INADDR_ANY, port))
        except OSError:
            self.sock.close()
            raise
        self.sock.observe(self)

    def close(self) -> None:
        self.sock.close()

    def write_space(self, sk: Sock) -> None:
        """A datagram that does not fit is lost, as datagrams may be."""


class UdpEcho(UdpService):
    """RFC 862: "When a datagram is received, the data from it is sent back in an answering datagram"."""

    def __init__(self, loop: Loop, port: i64 = ECHO_PORT) -> None:
        super().__init__(loop, port)

    def work(self) -> None:
        sk = self.sock.sk
        for _ in range(DATAGRAMS):
            if not sk.poll() & (POLLIN | POLLERR):
                return
            try:
                message = sk.recvmsg(DATAGRAM_MAX, 0)
                if message.port not in LOOPING_PORTS:
                    sk.sendmsg(message.data, 0, message.addr, message.port)
            except OSError:
                continue  # an ICMP error, or an answer that finds no way: as datagrams may
        self.loop.later(self)


class UdpDiscard(UdpService):
    """RFC 863."""

    def __init__(self, loop: Loop, port: i64 = DISCARD_PORT) -> None:
        super().__init__(loop, port)

    def work(self) -> None:
        sk = self.sock.sk
        for _ in range(DATAGRAMS):
            if not sk.poll() & (POLLIN | POLLERR):
                return
            try:
                sk.recvmsg(DATAGRAM_MAX, 0)
            except OSError:
                continue
        self.loop.later(self)
