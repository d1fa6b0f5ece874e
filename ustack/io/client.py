"""What a program uses to talk to the daemon: questions, answers, and descriptors that come with them.

One connection for a process, whatever its number of sockets and threads; a forked child makes its own. The daemon
answers at once, so a call waits for no network.
"""

from __future__ import annotations

import array
import errno
import select
import socket
import threading
from typing import TYPE_CHECKING, Final

from ustack.io import control
from ustack.io.config import default_control_path
from ustack.io.trace import TraceEvent
from ustack.rtnl.dump import follow
from ustack.rtnl.messages import Ack, Event, Monitor, Nack, RtnlAnswer, RtnlRequest
from ustack.sock import error

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ustack.rtnl.messages import Object
    from ustack.trace.bpf import Instruction

#: How long the daemon may take to answer, seconds: it is gone or stuck after that.
PATIENCE: Final = 10.0


class NoDaemon(OSError):
    """Nobody listens on the control socket."""


class Client:
    """A connection to the daemon. Safe to use from several threads."""

    def __init__(self, path: str | None = None) -> None:
        """Raises NoDaemon, PermissionError, or control.ProtocolError if it speaks another version."""
        self.path: str = default_control_path() if path is None else path
        self._lock = threading.Lock()
        self._connection = connect(self.path)
        try:
            self.ask(control.Hello(control.VERSION))
        except OSError as reason:
            self.close()
            raise control.ProtocolError(str(reason.strerror)) from None

    def close(self) -> None:
        self._connection.close()

    def alive(self) -> bool:
        """False once the daemon has closed the connection: nothing ever comes unasked but that."""
        with self._lock:  # what comes to another thread's question is no end
            poll = select.poll()
            poll.register(self._connection.fileno(), select.POLLIN)
            return not poll.poll(0)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def ask(self, request: control.Request) -> control.Answer:
        """The answer to ``request``; a Failed is raised as the OSError it stands for."""
        return self.ask_for_descriptor(request)[0]

    def ask_for_descriptor(self, request: control.Request) -> tuple[control.Answer, int]:
        """The same, with the descriptor that came along, or -1."""
        with self._lock:
            self._connection.send(control.encode_request(request), socket.MSG_NOSIGNAL)
            answer, fd = self._read()
        if isinstance(answer, control.Failed):
            raise OSError(answer.errno, answer.text)
        return answer, fd

    def _read(self) -> tuple[control.Answer, int]:
        reader = control.AnswerReader()
        fd = -1
        while True:
            message, came = receive(self._connection, control.MESSAGE_MAX)
            if not message:
                raise OSError(errno.ECONNRESET, "the daemon has gone")
            fd = came if came >= 0 else fd
            answer = reader.feed(message)
            if answer is not None:
                return answer, fd

    def wait_for_end(self, seconds: float) -> None:
        """Until the daemon has closed the connection. Raises TimeoutError."""
        self._connection.settimeout(seconds)
        while True:
            try:
                if not self._connection.recv(control.MESSAGE_MAX):
                    return
            except ConnectionResetError:
                return

    # -- rtnetlink

    def request(self, request: RtnlRequest) -> RtnlAnswer:
        """The answer, a Nack too; of what is long the first piece."""
        answer = self.ask(request)
        assert isinstance(answer, RtnlAnswer)
        return answer

    def objects(self, request: RtnlRequest) -> Iterator[list[Object]]:
        """What answers a get, dump or flush, piece by piece. Raises the OSError that a Nack stands for."""
        return follow(self.request, request)

    def events(self, kinds: list[str]) -> Iterator[Event]:
        """What changes, as it does, for ever; nothing else can be asked with this client afterwards.

        Raises OSError: EINVAL for a kind that is none, ENOBUFS if too many watch, ECONNRESET when the daemon ends.
        """
        answer = self.request(Monitor(kinds))
        if isinstance(answer, Nack):
            raise error(answer.errno)
        assert isinstance(answer, Ack)
        self._connection.settimeout(None)
        while True:
            event, _ = self._read()
            assert isinstance(event, Event)
            yield event

    def trace(self, program: list[Instruction]) -> Iterator[TraceEvent]:
        """The ways of the packets that ``program`` accepts, as they end, for ever; as ``events`` otherwise.

        They are watched once this returns. Raises OSError: EINVAL for a program that may not run, ENOBUFS if too many
        watch; the iterator ECONNRESET when the daemon ends.
        """
        self.ask(control.Trace(program))
        self._connection.settimeout(None)
        return self._journeys()

    def _journeys(self) -> Iterator[TraceEvent]:
        while True:
            event, _ = self._read()
            assert isinstance(event, TraceEvent)
            yield event

    # -- typed questions

    def status(self) -> control.Status:
        answer = self.ask(control.GetStatus())
        assert isinstance(answer, control.Status)
        return answer

    def sockets(self, kinds: list[str], states: int) -> control.Sockets:
        """All that there is to know of the stack's sockets."""
        answer = self.ask(control.GetSockets(kinds, states))
        assert isinstance(answer, control.Sockets)
        return answer

    def open(self, family: int, kind: int, protocol: int) -> tuple[int, int]:
        """A new socket of the stack: its id, and a descriptor that is the caller's."""
        answer, fd = self.ask_for_descriptor(control.Open(family, kind, protocol))
        assert isinstance(answer, control.Opened)
        return answer.id, fd

    def name(self, socket_id: int, peer: bool) -> tuple[int, int]:
        """(address, port) of our side, or the peer's. ENOTCONN."""
        answer = self.ask(control.GetName(socket_id, peer))
        assert isinstance(answer, control.Name)
        return answer.addr, answer.port

    def option(self, socket_id: int, level: int, name: int, room: int | None = None) -> int | bytes:
        """The value: as bytes, at most ``room``, if that is given."""
        answer = self.ask(control.GetOption(socket_id, level, name, room))
        assert isinstance(answer, control.Option)
        return answer.value

    def take_error(self, socket_id: int) -> int:
        """SO_ERROR: an errno or 0, told once; also for a connection that is gone."""
        value = self.option(socket_id, socket.SOL_SOCKET, socket.SO_ERROR)
        assert isinstance(value, int)
        return value


def connect(path: str) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    connection.settimeout(PATIENCE)
    try:
        connection.connect(path)
    except (FileNotFoundError, ConnectionRefusedError):
        connection.close()
        raise NoDaemon(errno.ENOENT, "no daemon answers", path) from None
    except OSError:
        connection.close()
        raise
    return connection


def receive(connection: socket.socket, size: int, flags: int = 0) -> tuple[bytes, int]:
    """One message of at most ``size`` bytes and the descriptor that came with it, or -1."""
    space = socket.CMSG_SPACE(array.array("i").itemsize)
    message, ancillary, _, _ = connection.recvmsg(size, space, flags | socket.MSG_CMSG_CLOEXEC)
    fds = array.array("i")
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
    return message, fds[0] if fds else -1
