"""The system calls of a script, on a stack: each takes a request and answers, or has to wait.

A call that has to wait raises Wait, and is made again whenever something has happened; what it has done so far stays in
the request.
"""

from __future__ import annotations

import errno
import struct
from typing import TYPE_CHECKING, Final

from tests.packetdrill.epoll import Epoll, Wakeups, ready_bits
from tests.packetdrill.protocol import U32, Op, Reply, Request
from ustack.inet.family import SOCK_CLOEXEC, SOCK_NONBLOCK
from ustack.inet.sockaddr import SockaddrIn, sockaddr_in
from ustack.inet.socket import SS_CONNECTING, Socket
from ustack.sock import (
    MSG_DONTWAIT,
    MSG_ERRQUEUE,
    MSG_FASTOPEN,
    MSG_PEEK,
    SIOCATMARK,
    TCP_SYN_RECV,
    TCP_SYN_SENT,
    error,
)
from ustack.tcp.control import SK_PACING_NEEDED
from ustack.tcp.sock import TcpSock

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.packetdrill.machine import Machine

O_NONBLOCK: Final = 0o4000
O_RDWR: Final = 2
F_GETFL: Final = 3
F_SETFL: Final = 4
SOL_TCP: Final = 6
TCP_CM_INQ: Final = 36
PIPE_SIZE: Final = 65_536
MSEC: Final = 1_000_000

_CMSG: Final = struct.Struct("=Qii")
_POLLFD: Final = struct.Struct("=ihh")
_EVENT: Final = struct.Struct("=IQ")
_INT: Final = struct.Struct("=i")


class Wait(Exception):
    """Nothing to answer yet; ``deadline`` (ns, -1: none) says when there will be in any case."""

    def __init__(self, deadline: int = -1) -> None:
        super().__init__()
        self.deadline = deadline


class PipeEnd:
    """One end of a pipe(2); both share ``data``."""

    def __init__(self, data: bytearray) -> None:
        self.data = data


class Calls:
    """The descriptors of one program and what it can do with them."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.things: dict[int, Socket | Epoll | PipeEnd] = {}
        self.wakeups: dict[int, Wakeups] = {}  #: of each socket
        self._next = 0
        self._calls: dict[Op, Callable[[Request], Reply]] = {
            Op.SOCKET: self._socket,
            Op.BIND: self._bind,
            Op.LISTEN: self._listen,
            Op.ACCEPT: self._accept,
            Op.CONNECT: self._connect,
            Op.RECVMSG: self._recvmsg,
            Op.SENDMSG: self._sendmsg,
            Op.FCNTL: self._fcntl,
            Op.IOCTL: self._ioctl,
            Op.CLOSE: self._close,
            Op.SHUTDOWN: self._shutdown,
            Op.GETSOCKOPT: self._getsockopt,
            Op.SETSOCKOPT: self._setsockopt,
            Op.POLL: self._poll,
            Op.EPOLL_CREATE: self._epoll_create,
            Op.EPOLL_CTL: self._epoll_ctl,
            Op.EPOLL_WAIT: self._epoll_wait,
            Op.PIPE: self._pipe,
            Op.SPLICE: self._splice,
        }

    def call(self, request: Request) -> Reply:
        """Make it (again). Raises Wait."""
        try:
            return self._calls[request.op](request)
        except OSError as failure:
            return Reply(-1, failure.errno or errno.EIO)

    # -- descriptors

    def _give(self, thing: Socket | Epoll | PipeEnd) -> int:
        handle = self._next
        self._next += 1
        self.things[handle] = thing
        if isinstance(thing, Socket):
            self.wakeups[handle] = Wakeups(thing)
            if self.machine.pipe.paced and isinstance(thing.sk, TcpSock):
                thing.sk.pacing_status = SK_PACING_NEEDED
        return handle

    def _sock(self, request: Request) -> Socket:
        thing = self.things.get(request.handle)
        if thing is None:
            raise error(errno.EBADF)
        if not isinstance(thing, Socket):
            raise error(errno.ENOTSOCK)
        return thing

    def _block(self, request: Request, sock: Socket, timeout: int, flags: int = 0) -> None:
        """Wait if the caller may: EAGAIN for one that is not to, or that has waited ``timeout`` ns (0: for ever)."""
        if sock.flags & SOCK_NONBLOCK or flags & MSG_DONTWAIT:
            raise error(errno.EAGAIN)
        if request.deadline < 0 and timeout > 0:
            request.deadline = self.machine.now + timeout
        if 0 <= request.deadline <= self.machine.now:
            raise error(errno.EAGAIN)
        raise Wait(request.deadline)

    # -- sockets

    def _socket(self, request: Request) -> Reply:
        family, kind, protocol, _ = request.args
        sock = self.machine.stack.socket(family, kind & ~(SOCK_NONBLOCK | SOCK_CLOEXEC), protocol)
        sock.flags = kind & (SOCK_NONBLOCK | SOCK_CLOEXEC)
        return Reply(self._give(sock))

    def _bind(self, request: Request) -> Reply:
        self._sock(request).bind(request.payload)
        return Reply()

    def _listen(self, request: Request) -> Reply:
        self._sock(request).listen(request.args[0])
        return Reply()

    def _accept(self, request: Request) -> Reply:
        sock = self._sock(request)
        try:
            child = sock.accept()
        except BlockingIOError:
            self._block(request, sock, int(sock.rcvtimeo))
            raise
        # accept(2) tells the peer of a connection that is gone again, which getpeername(2) does not
        return Reply(self._give(child), payload=SockaddrIn(child.sk.daddr, child.sk.dport).to_bytes())

    def _connect(self, request: Request) -> Reply:
        sock = self._sock(request)
        try:
            sock.connect(request.payload)
        except BlockingIOError as later:
            if sock.flags & SOCK_NONBLOCK:
                raise
            try:
                self._block(request, sock, int(sock.sndtimeo))
            except BlockingIOError:
                raise later from None
        return Reply()

    def _recvmsg(self, request: Request) -> Reply:
        room, flags, null, _ = request.args
        sock = self._sock(request)
        if null and room:
            sock.recvmsg(room, flags | MSG_PEEK)
            raise error(errno.EFAULT)
        try:
            message = sock.recvmsg(room, flags)
        except BlockingIOError:
            if flags & MSG_ERRQUEUE:
                raise
            self._block(request, sock, int(sock.rcvtimeo), flags)
            raise
        address = SockaddrIn(message.addr, message.port).to_bytes() if message.addr else b""
        control = control_message(SOL_TCP, TCP_CM_INQ, _INT.pack(message.inq)) if message.inq >= 0 else b""
        for level, kind, data in message.control or ():
            control += control_message(level, kind, data)
        head = U32.pack(len(address)) + U32.pack(len(control))
        # with MSG_TRUNC a stream counts what it throws away
        count = len(message.data) if not hasattr(message, "length") else message.length
        return Reply(count, extra=int(message.flags), payload=head + address + control + message.data)

    def _sendmsg(self, request: Request) -> Reply:
        flags, name, null, control = request.args
        sock = self._sock(request)
        address = sockaddr_in(request.payload[:name]) if name else None
        if null:
            raise error(errno.EFAULT)
        data = memoryview(request.payload)[name + control :]
        patient = not sock.flags & SOCK_NONBLOCK and not flags & MSG_DONTWAIT
        if patient and (request.opening or flags & MSG_FASTOPEN or sock.sk.defer_connect):
            self._open(request, sock, data, flags, address)
        if patient:
            # what connected was the first call: from then on the rest is sent like any other
            flags &= ~MSG_FASTOPEN
            address = None
        self._sleep_on(request)
        while True:
            try:
                rest = data[request.done :]
                sent = sock.send(rest, flags) if address is None else sock.sendto(rest, address, flags)
            except BlockingIOError as later:
                self._wait_to_send(request, sock, flags, later)
            except OSError:
                if request.done == 0:
                    raise
                return Reply(request.done)
            else:
                request.done += sent
                if request.done == len(data) or not patient:
                    return Reply(request.done)

    def _open(self, request: Request, sock: Socket, data: memoryview, flags: int, address: SockaddrIn | None) -> None:
        """Send what connects, if that is still to be done, and wait until it has; raise why it has not."""
        if not request.opening:
            try:
                request.done = sock.send(data, flags) if address is None else sock.sendto(data, address, flags)
            except BlockingIOError as later:
                if later.errno != errno.EINPROGRESS:
                    raise
            request.opening = True
        if sock.sk.state in (TCP_SYN_SENT, TCP_SYN_RECV):
            sock.sk.write_pending = int(request.done < len(data))
            self._block(request, sock, int(sock.sndtimeo))
        sock.sk.write_pending = 0
        if sock.state == SS_CONNECTING:
            sock.connect(SockaddrIn(sock.sk.daddr, sock.sk.dport))
        request.opening = False

    def _sleep_on(self, request: Request) -> None:
        """Raise Wait while the socket of a writer that sleeps has not woken it: room alone is not enough."""
        overdue = 0 <= request.deadline <= self.machine.now
        if request.asleep and not overdue and not self.wakeups[request.handle].woken:
            raise Wait(request.deadline)

    def _wait_to_send(self, request: Request, sock: Socket, flags: int, later: BlockingIOError) -> None:
        """Wait, or else let ``later`` (EAGAIN, EINPROGRESS) be the answer."""
        try:
            self._block(request, sock, int(sock.sndtimeo), flags)
        except BlockingIOError:
            raise later from None
        finally:
            request.asleep = True
            self.wakeups[request.handle].woken = False

    def _fcntl(self, request: Request) -> Reply:
        command, argument, _, _ = request.args
        sock = self._sock(request)
        if command == F_GETFL:
            return Reply(O_RDWR | (O_NONBLOCK if sock.flags & SOCK_NONBLOCK else 0))
        if command != F_SETFL:
            raise error(errno.EINVAL)
        sock.flags = sock.flags & ~SOCK_NONBLOCK | (SOCK_NONBLOCK if argument & O_NONBLOCK else 0)
        return Reply()

    def _ioctl(self, request: Request) -> Reply:
        return Reply(payload=_INT.pack(self._sock(request).ioctl(request.args[0])))

    def _close(self, request: Request) -> Reply:
        thing = self.things.pop(request.handle, None)
        if thing is None:
            raise error(errno.EBADF)
        if isinstance(thing, Socket):
            for other in self.things.values():
                if isinstance(other, Epoll):
                    other.forget(request.handle)
            thing.close()
            del self.wakeups[request.handle]
        return Reply()

    def _shutdown(self, request: Request) -> Reply:
        self._sock(request).shutdown(request.args[0])
        return Reply()

    def _getsockopt(self, request: Request) -> Reply:
        level, name, room, _ = request.args
        return Reply(payload=self._sock(request).getsockopt_bytes(level, name, room))

    def _setsockopt(self, request: Request) -> Reply:
        level, name, _, _ = request.args
        self._sock(request).setsockopt(level, name, option_value(level, request.payload))
        return Reply()

    # -- readiness

    def _until(self, request: Request, timeout: int) -> None:
        """Raise Wait until ``timeout`` ms have gone by (negative: for ever)."""
        if timeout >= 0:
            if request.deadline < 0:
                request.deadline = self.machine.now + timeout * MSEC
            if request.deadline <= self.machine.now:
                return
        raise Wait(request.deadline)

    def _poll(self, request: Request) -> Reply:
        found = []
        for handle, events, _ in _POLLFD.iter_unpack(request.payload):
            thing = self.things.get(handle)
            found.append(ready_bits(thing, events) if isinstance(thing, Socket) else 0x20)
        if not any(found):
            self._until(request, request.args[0])
        return Reply(sum(1 for bits in found if bits), payload=struct.pack(f"={len(found)}h", *found))

    def _epoll_create(self, request: Request) -> Reply:
        return Reply(self._give(Epoll()))

    def _epoll(self, request: Request) -> Epoll:
        thing = self.things.get(request.handle)
        if not isinstance(thing, Epoll):
            raise error(errno.EBADF if thing is None else errno.EINVAL)
        return thing

    def _epoll_ctl(self, request: Request) -> Reply:
        command, handle, events, data = request.args
        thing = self.things.get(handle)
        if not isinstance(thing, Socket):
            raise error(errno.EBADF if thing is None else errno.EPERM)
        wakeups = self.wakeups[handle]
        self._epoll(request).ctl(command, handle, thing, wakeups, events, data & 0xFFFF_FFFF_FFFF_FFFF)
        return Reply()

    def _epoll_wait(self, request: Request) -> Reply:
        maximum, timeout, _, _ = request.args
        found = self._epoll(request).wait(maximum)
        if not found:
            self._until(request, timeout)
        return Reply(len(found), payload=b"".join(_EVENT.pack(bits, data) for bits, data in found))

    # -- pipes

    def _pipe(self, request: Request) -> Reply:
        data = bytearray()
        handle = self._give(PipeEnd(data))
        self._give(PipeEnd(data))
        return Reply(handle)

    def _splice(self, request: Request) -> Reply:
        """Between a socket and a pipe, either way."""
        source, target = self.things.get(request.handle), self.things.get(request.args[0])
        length = request.args[1]
        if isinstance(source, Socket) and isinstance(target, PipeEnd):
            if len(target.data) >= PIPE_SIZE:
                raise Wait
            if source.ioctl(SIOCATMARK):
                return Reply()  # up to the urgent byte, and not beyond it
            try:
                data = source.recv(min(length, PIPE_SIZE - len(target.data)))
            except BlockingIOError:
                self._block(request, source, int(source.rcvtimeo))
                raise
            target.data += data
            return Reply(len(data))
        if isinstance(source, PipeEnd) and isinstance(target, Socket):
            sent = target.send(bytes(source.data[:length]))
            del source.data[:sent]
            return Reply(sent)
        raise error(errno.EINVAL)


def option_value(level: int, payload: bytes) -> bytes:
    """As it came, or, SOL_IP being content with one byte, as an int."""
    return payload if level != 0 or len(payload) >= _INT.size or not payload else _INT.pack(payload[0])


def control_message(level: int, kind: int, data: bytes) -> bytes:
    """struct cmsghdr with its data, aligned."""
    return _CMSG.pack(_CMSG.size + len(data), level, kind) + data.ljust((len(data) + 7) & ~7, b"\0")
