"""The daemon's half of a socket that another process holds: one end of a UNIX socket pair, pumped to and from a Sock.

    program ── far end ═══ near end ── StreamChannel ── TcpSock

The far end is an ordinary descriptor: select, epoll and asyncio accept it. What the peer does reaches it by what UNIX
sockets do (net/unix/af_unix.c):

    peer sent FIN     shutdown(near, SHUT_WR)                 the reader gets EOF once it has read everything
    peer sent RST     close(near) with a byte unread in it    the reader gets ECONNRESET once it has read everything
    peer's window 0   near is not read                        the writer blocks, select says not writable
    program is slow   the Sock is not read                    the window closes
    program half-closes, closes, or dies                      EPOLLRDHUP, EPOLLHUP on near

unix_release_sock gives the other end ECONNRESET only if data was left unread, so near always keeps one byte that has
been forwarded already: ``stale``. The first one is put there when the pair is made.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import socket
import struct
import termios
from typing import TYPE_CHECKING, Final

from mypy_extensions import mypyc_attr

from ustack.inet.sockaddr import SockaddrIn
from ustack.inet.socket import NO_PORT
from ustack.io.control import (
    DATAGRAM_HEADER_LEN,
    decode_datagram_header,
    encode_accepted,
    encode_datagram_header,
)
from ustack.io.loop import EPOLLERR, EPOLLET, EPOLLHUP, EPOLLIN, EPOLLOUT, EPOLLRDHUP, Loop, Worker
from ustack.sock import RCV_SHUTDOWN, Message
from ustack.tcp.control import TcpControl
from ustack.tcp.receive import tcp_read_sock
from ustack.timer import NSEC_PER_SEC, Timer

if TYPE_CHECKING:
    from ustack.inet.socket import Socket
    from ustack.packet import Buffer

log: Final = logging.getLogger("ustack.channel")

EVENTS: Final = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET
#: What one turn moves in one direction before others have theirs, bytes.
TURN: Final = 1 << 20
#: From here on data is taken without a copy, which leaves TAIL bytes for the next read.
BULK: Final = 32_768
TAIL: Final = 4096
#: Buffer asked for at both ends of a stream, bytes; the kernel's wmem_max may allow less.
STREAM_BUFFER: Final = 1 << 20
#: Pieces one sendmsg takes (UIO_MAXIOV).
IOV_MAX: Final = 1024
DATAGRAM_MAX: Final = 65_535 + DATAGRAM_HEADER_LEN
#: How long data of a program that has gone may take to leave, ns (Linux: tcp_fin_timeout's order).
ORPHAN_TIME: Final = 60 * NSEC_PER_SEC
#: SO_LINGER on with 0 seconds: close resets (struct linger).
ABORT: Final = struct.pack("ii", 1, 0)


@mypyc_attr(allow_interpreted_subclasses=True)
class Registry:
    """Who gives channels their ids; forgets those that are gone except for the error they ended with."""

    def next_id(self) -> int:
        raise NotImplementedError

    def add(self, channel: Channel) -> None:
        raise NotImplementedError

    def gone(self, channel: Channel) -> None:
        raise NotImplementedError


class Channel(Worker):
    """What streams, listeners and datagram sockets of other processes share."""

    def __init__(self, loop: Loop, registry: Registry, sock: Socket, near: socket.socket, socket_id: int = 0) -> None:
        """``socket_id``: 0 for a new one."""
        super().__init__(loop)
        self.registry: Registry = registry
        self.sock: Socket = sock
        self.near: socket.socket = near
        self.id: int = socket_id or registry.next_id()
        self.error: int = 0  #: what SO_ERROR shall say next
        self.closed: bool = False
        near.setblocking(False)
        sock.observe(self)
        loop.add(near.fileno(), self, EVENTS)
        registry.add(self)

    def take_error(self) -> int:
        """SO_ERROR: the error this channel has seen, or the socket's own; either is told once."""
        code = self.error
        self.error = 0
        return code or (0 if self.closed else int(self.sock.sk.take_error()))

    def failed(self) -> None:
        self.close()

    def close(self) -> None:
        """Let go of both ends; the protocol finishes what it must."""
        if not self.closed:
            self.closed = True
            self.loop.remove(self.near.fileno())
            self.near.close()
            self.sock.close()
            self.registry.gone(self)

    def abort(self) -> None:
        """Close with a RST, as tcp_close does when the user has left data unread."""
        if not self.closed:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABORT)
            self.close()


class OrphanTimer(Timer):
    """Ends a channel whose program is gone and whose data does not leave."""

    def __init__(self, channel: Channel) -> None:
        super().__init__()
        self.channel: Channel = channel

    def fire(self) -> None:
        self.channel.abort()


class StreamChannel(Channel):
    """A TCP connection of another process, or a TCP socket on its way to become one."""

    def __init__(self, loop: Loop, registry: Registry, sock: Socket, near: socket.socket, connected: bool) -> None:
        """``near`` holds one byte already, see ``stream_pair``."""
        super().__init__(loop, registry, sock, near)
        self.connected: bool = connected
        self.connecting: bool = False
        self.stuffed: int = 0  # bytes in near that are there to make the far end unwritable
        self.stale: int = 1  # bytes at the head of near that have been forwarded
        self.held: list[Buffer] = []  # read from near, not yet taken by the Sock
        self.pending: list[Buffer] = []  # read from the Sock, not yet taken by near
        self.writable: bool = True
        self.deaf: bool = False  # the program has shut its reading side
        self.near_shut: bool = False  # the program will not write any more
        self.near_gone: bool = False  # nor read
        self.fin_sent: bool = False
        self.eof_told: bool = False
        self.orphan: OrphanTimer | None = None
        if connected:
            loop.later(self)

    # -- connecting

    def connect(self, addr: int, port: int, stuffed: int) -> None:
        """Start. Raises what connect(2) raises at once; EINPROGRESS is success here."""
        try:
            self.sock.connect(SockaddrIn(addr, port))
        except OSError as reason:
            if reason.errno != errno.EINPROGRESS:
                self.unstuff(stuffed)
                raise
            self.connecting = True
            self.stuffed = stuffed
        else:
            self.connected = True
            self.unstuff(stuffed)

    def unstuff(self, count: int) -> None:
        """Take ``count`` bytes out of near, after which the far end is writable again."""
        if count > 0:
            self.near.recv(count)

    def finish_connect(self) -> None:
        """See what became of it; the far end turns writable either way."""
        try:
            self.sock.connect(self.sock.getsockname())
        except BlockingIOError:
            return
        except OSError as reason:
            self.error = reason.errno or errno.ECONNABORTED
        else:
            self.connected = True
        self.connecting = False
        self.unstuff(self.stuffed)

    # -- turns

    def ready(self, events: int) -> None:
        if events & EPOLLOUT:
            self.writable = True
        if events & EPOLLRDHUP:
            self.near_shut = True
        if events & (EPOLLHUP | EPOLLERR):
            self.near_gone = True
        self.work()

    def work(self) -> None:
        if self.closed:
            return
        if self.connecting:
            self.finish_connect()
        if self.connected:
            self.pump_in()
            if not self.closed:
                self.pump_out()
        if self.near_gone and not self.closed:
            self.orphaned()

    # -- program to peer

    def pump_in(self) -> None:
        """Give the Sock what the program has written, until either has enough."""
        moved = 0
        while moved < TURN:
            if self.held and not self.push():
                return
            self.held = self.take()
            if not self.held:
                break
            moved += sum(len(piece) for piece in self.held)
        else:
            self.loop.later(self)
            return
        if self.near_shut and not self.fin_sent and not self.near_gone:
            self.fin_sent = True
            with contextlib.suppress(OSError):  # the connection may be gone already
                self.sock.shutdown(socket.SHUT_WR)

    def push(self) -> bool:
        """False while the Sock takes no more."""
        while self.held:
            piece = self.held[0]
            try:
                taken = self.sock.send(piece)
            except BlockingIOError:
                return False
            except OSError as reason:
                # it cannot be sent any more; why is told by pump_out, after what can still be read
                self.held.clear()
                if reason.errno != errno.EPIPE:
                    self.error = reason.errno or errno.ECONNRESET
                return True
            if taken < len(piece):
                self.held[0] = memoryview(piece)[taken:]
            else:
                self.held.pop(0)
        return True

    def take(self) -> list[Buffer]:
        """What is fresh in near, all but one byte of it for good."""
        fresh = unread(self.near) - self.stale
        if fresh <= 0:
            return []
        if fresh > BULK:
            chunk = self.near.recv(min(fresh - TAIL, TURN) + self.stale)
            data: Buffer = memoryview(chunk)[self.stale :] if self.stale else chunk
            self.stale = 0
            return [data]
        skip = self.stale
        head = fresh + skip - 1
        chunk = self.near.recv(head) if head else b""
        self.stale = 1
        return [chunk[skip:] + self.near.recv(1, socket.MSG_PEEK)]

    # -- peer to program

    def pump_out(self) -> None:
        """Give the program what the peer has sent, until either has enough; then how it ended."""
        sk = self.sock.sk
        assert isinstance(sk, TcpControl)
        moved = 0
        while moved < TURN:
            if not self.pending:
                self.pending = tcp_read_sock(sk, TURN)
                if not self.pending:
                    self.tell_end()
                    return
            size = self.hand_over()
            if size == 0:
                return
            moved += size
        self.loop.later(self)

    def hand_over(self) -> int:
        """Bytes of ``pending`` that near took; 0 if it takes none."""
        if self.deaf:
            self.pending.clear()
            return TURN
        if not self.writable:
            return 0
        try:
            size = self.near.sendmsg(self.pending[:IOV_MAX], [], socket.MSG_NOSIGNAL)
        except BlockingIOError:
            self.writable = False
            return 0
        except BrokenPipeError:
            self.deaf = True
            return TURN
        drop_front(self.pending, size)
        return size

    def tell_end(self) -> None:
        """Everything is read: tell the end of the stream by EOF, an error by ECONNRESET; EOF first (SOCK_DONE)."""
        sk = self.sock.sk
        if sk.shutdown & RCV_SHUTDOWN and not self.eof_told and not sk.err:
            self.eof_told = True
            if not self.deaf:
                self.near.shutdown(socket.SHUT_WR)
        self.error = self.error or int(sk.take_error())
        if self.error:
            if self.eof_told:
                # the reader has its answer already; the writer gets EPIPE
                self.drain()
            # else the byte that stays in near makes this a reset for the other end
            self.close()

    # -- the program has gone

    def orphaned(self) -> None:
        """Both directions of near are shut: send what is left and close; reset if the program left something unread.

        It has closed the far end, or died, or both sides have sent their FIN and it only reads what is left: hence no
        byte may stay in near now, or it would read a reset.
        """
        if self.pending or self.deaf or self.left_unread():
            self.drain()
            self.abort()
        elif not self.held and unread(self.near) <= self.stale:
            self.drain()
            self.close()
        elif self.orphan is None:
            self.orphan = OrphanTimer(self)
            self.sock.sk.net.timers.mod_timer(self.orphan, self.sock.sk.net.now + ORPHAN_TIME)

    def drain(self) -> None:
        """Leave nothing in near, so that closing it is no reset for the far end."""
        size = unread(self.near)
        if size:
            self.near.recv(size)

    def left_unread(self) -> bool:
        """unix_release_sock leaves ECONNRESET here when the far end was closed with data in it."""
        return self.near.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == errno.ECONNRESET

    def close(self) -> None:
        if self.orphan is not None:
            self.sock.sk.net.timers.del_timer(self.orphan)
        super().close()


class ListenChannel(Channel):
    """A listening socket of another process: every accepted connection travels as a record with a descriptor."""

    def __init__(self, old: StreamChannel, backlog: int) -> None:
        """Takes over from ``old``, which was bound but not connected. Raises what listen(2) raises."""
        old.sock.listen(backlog)
        old.loop.remove(old.near.fileno())
        old.closed = True  # it may still have a turn coming
        super().__init__(old.loop, old.registry, old.sock, old.near, old.id)
        # the buffer of near holds a few records: the other connections wait in the accept queue, where backlog counts
        self.near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
        self.waiting: StreamChannel | None = None  # accepted, its record not yet taken by near
        self.waiting_far: socket.socket | None = None

    def ready(self, events: int) -> None:
        if events & (EPOLLHUP | EPOLLERR):
            self.close()
        else:
            self.work()

    def work(self) -> None:
        while not self.closed and self.deliver():
            try:
                child = self.sock.accept()
            except OSError:
                return
            self.waiting, self.waiting_far = stream_pair(self.loop, self.registry, child, True)

    def deliver(self) -> bool:
        """Hand the accepted connection over; False while near takes no more."""
        if self.waiting is None or self.waiting_far is None:
            return True
        peer = self.waiting.sock.sk
        record = encode_accepted(self.waiting.id, int(peer.daddr), int(peer.dport))
        try:
            socket.send_fds(self.near, [record], [self.waiting_far.fileno()])
        except BlockingIOError:
            return False
        except OSError:
            self.drop_waiting()
            return True
        self.waiting_far.close()
        self.waiting = self.waiting_far = None
        return True

    def drop_waiting(self) -> None:
        if self.waiting is not None and self.waiting_far is not None:
            self.waiting_far.close()
            self.waiting.abort()
            self.waiting = self.waiting_far = None

    def close(self) -> None:
        self.drop_waiting()
        super().close()


class DatagramChannel(Channel):
    """A UDP, ping or raw socket of another process: messages with a header each, boundaries kept (SOCK_SEQPACKET)."""

    def __init__(self, loop: Loop, registry: Registry, sock: Socket, near: socket.socket) -> None:
        super().__init__(loop, registry, sock, near)
        self.held: bytes = b""  # from the program, not yet taken by the Sock
        self.pending: list[bytes] = []  # for the program, not yet taken by near
        self.writable: bool = True

    def ready(self, events: int) -> None:
        if events & EPOLLOUT:
            self.writable = True
        self.work()
        if events & (EPOLLHUP | EPOLLERR) and not self.closed:
            self.close()

    def work(self) -> None:
        if not self.closed:
            self.pump_in()
        if not self.closed:
            self.pump_out()

    def pump_in(self) -> None:
        for _ in range(64):
            if not self.held:
                try:
                    self.held = self.near.recv(DATAGRAM_MAX)
                except BlockingIOError:
                    return
                except ConnectionResetError:
                    continue  # the program closed with datagrams unread: they are lost, as in any close
                if not self.held:
                    self.close()
                    return
            if not self.push():
                return
        self.loop.later(self)

    def push(self) -> bool:
        """Send what is held; False while the Sock takes no more. An error goes back to the program."""
        message = self.held
        try:
            addr, port, flags = decode_datagram_header(message)
            data = memoryview(message)[DATAGRAM_HEADER_LEN:]
            to_peer = addr == 0 and port == 0
            self.sock.sendmsg(data.tobytes(), flags, addr, NO_PORT if to_peer else port)
        except BlockingIOError:
            return False
        except ValueError:
            self.close()
            return True
        except OSError as reason:
            self.pending.append(encode_datagram_header(0, 0, reason.errno or errno.EIO))
            self.loop.later(self)
        self.held = b""
        return True

    def pump_out(self) -> None:
        for _ in range(64):
            if not self.pending:
                message = self.receive()
                if message is None:
                    return
                self.pending = message
            if not self.hand_over():
                return
        self.loop.later(self)

    def receive(self) -> list[bytes] | None:
        """The next datagram as the pieces of a message, an error as a header alone; None if there is nothing."""
        try:
            message: Message = self.sock.recvmsg(65_535)
        except BlockingIOError:
            return None
        except OSError as reason:
            return [encode_datagram_header(0, 0, reason.errno or errno.EIO)]
        return [encode_datagram_header(int(message.addr), int(message.port)), message.data]

    def hand_over(self) -> bool:
        if not self.writable:
            return False
        try:
            self.near.sendmsg(self.pending, [], socket.MSG_NOSIGNAL)
        except BlockingIOError:
            self.writable = False
            return False
        except OSError:
            self.close()
            return False
        self.pending = []
        return True


def stream_pair(loop: Loop, registry: Registry, sock: Socket, connected: bool) -> tuple[StreamChannel, socket.socket]:
    """A channel for ``sock`` and the far end of its pair, for whoever asked.

    While not connected the far end's buffer is so small that one byte beside the stale one makes it unwritable.
    """
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, STREAM_BUFFER)
    far.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, STREAM_BUFFER if connected else 1)
    far.send(b"\0")
    return StreamChannel(loop, registry, sock, near, connected), far


def datagram_pair(loop: Loop, registry: Registry, sock: Socket) -> tuple[DatagramChannel, socket.socket]:
    """The same for a socket that keeps message boundaries."""
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    return DatagramChannel(loop, registry, sock, near), far


def unread(near: socket.socket) -> int:
    """Bytes that wait in ``near`` (SIOCINQ)."""
    answer = fcntl.ioctl(near, termios.FIONREAD, bytes(4))
    return int.from_bytes(answer, "little")


def drop_front(pieces: list[Buffer], size: int) -> None:
    """Remove ``size`` bytes from the front."""
    gone = 0
    while gone < len(pieces) and size >= len(pieces[gone]):
        size -= len(pieces[gone])
        gone += 1
    del pieces[:gone]
    if size:
        pieces[0] = memoryview(pieces[0])[size:]
