"""The daemon's side of the control socket: who connects, what they ask, what they get (control.py is the language).

Nothing here waits. A client that does not read its answers is not read either, and one that sends what is not a
request is told so and let go: each has a queue of its own, so none can stall another or the stack.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import socket
import time
from collections import OrderedDict, deque
from typing import TYPE_CHECKING, Final

from ustack.inet.family import SOCK_STREAM, SOCK_TYPE_MASK
from ustack.inet.sockaddr import AF_UNSPEC, SockaddrIn
from ustack.io import control
from ustack.io.channel import Channel, ListenChannel, Registry, StreamChannel, datagram_pair, stream_pair
from ustack.io.inet_diag import inet_diag
from ustack.io.loop import EPOLLERR, EPOLLHUP, EPOLLIN, EPOLLOUT, Loop, Worker
from ustack.io.subscriber import Subscriber
from ustack.rtnl.messages import Ack, Event, Monitor
from ustack.rtnl.monitor import Subscription
from ustack.rtnl.rtnetlink import Rtnetlink, nack
from ustack.sock import error
from ustack.trace.journey import Journeys

if TYPE_CHECKING:
    from ustack.inet.socket import Socket
    from ustack.io.status import Reporter

log: Final = logging.getLogger("ustack.control")

#: Clients at a time; one more waits in the backlog.
CLIENTS_MAX: Final = 1024
#: Sockets that other processes may hold at a time.
CHANNELS_MAX: Final = 65_536
#: Channels that have ended with an error nobody has asked for yet, remembered for SO_ERROR.
EPITAPHS_MAX: Final = 4096
BACKLOG: Final = 128


class Channels(Registry):
    """Every socket that another process holds, by the id it was given."""

    def __init__(self) -> None:
        self._by_id: dict[int, Channel] = {}
        self._epitaphs: OrderedDict[int, int] = OrderedDict()
        self._last: int = 0

    def next_id(self) -> int:
        self._last += 1
        return self._last

    def add(self, channel: Channel) -> None:
        self._by_id[channel.id] = channel

    def gone(self, channel: Channel) -> None:
        self._by_id.pop(channel.id, None)
        if channel.error:
            self._epitaphs[channel.id] = channel.error
            if len(self._epitaphs) > EPITAPHS_MAX:
                self._epitaphs.popitem(last=False)

    def get(self, socket_id: int) -> Channel:
        """Raises EBADF for an id that is not, or no longer, one."""
        channel = self._by_id.get(socket_id)
        if channel is None:
            raise error(errno.EBADF)
        return channel

    def take_error(self, socket_id: int) -> int:
        """SO_ERROR, also of a channel that has ended; told once."""
        channel = self._by_id.get(socket_id)
        return self._epitaphs.pop(socket_id, 0) if channel is None else channel.take_error()

    def all(self) -> list[Channel]:
        return list(self._by_id.values())

    def __len__(self) -> int:
        return len(self._by_id)


class ControlServer(Worker):
    """Listens on the control socket."""

    def __init__(self, loop: Loop, path: str, reporter: Reporter) -> None:
        """Raises OSError: EADDRINUSE if a daemon answers there already."""
        super().__init__(loop)
        self.path: str = path
        self.reporter: Reporter = reporter
        self.rtnetlink = Rtnetlink(loop.stack)
        self.journeys = Journeys()
        self.journeys.join(loop.stack.net)
        self.channels = Channels()
        self.clients: set[ControlClient] = set()
        self.listener: socket.socket = listen_at(path)
        loop.add(self.listener.fileno(), self, EPOLLIN)

    def ready(self, events: int) -> None:
        """Take in who waits."""
        while len(self.clients) < CLIENTS_MAX:
            try:
                connection, _ = self.listener.accept()
            except BlockingIOError:
                return
            self.clients.add(ControlClient(self, connection))
        # full: who comes waits in the backlog until somebody leaves
        self.loop.modify(self.listener.fileno(), 0)

    def left(self, client: ControlClient) -> None:
        self.clients.discard(client)
        if self.listener.fileno() >= 0:
            self.loop.modify(self.listener.fileno(), EPOLLIN)

    def failed(self) -> None:
        self.loop.stop()

    def close_sockets(self) -> None:
        """Close every socket that another process holds."""
        for channel in self.channels.all():
            channel.close()

    def close(self) -> None:
        """Take the socket file away and let go of every client: those that wait for the end see it now."""
        self.close_sockets()
        self.loop.remove(self.listener.fileno())
        self.listener.close()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path)
        for client in list(self.clients):
            client.close()


class ControlClient(Worker):
    """One connection: its questions in order, its answers as fast as it reads them."""

    def __init__(self, server: ControlServer, connection: socket.socket) -> None:
        super().__init__(server.loop)
        self.server: ControlServer = server
        self.connection: socket.socket = connection
        self.greeted: bool = False
        self.ending: bool = False  # close once everything is answered
        self.answers: deque[tuple[bytes, socket.socket | None]] = deque()
        self.stream: EventStream | TraceStream | None = None  # instead of answers, from Monitor or Trace on
        connection.setblocking(False)
        self.loop.add(connection.fileno(), self, EPOLLIN)

    def ready(self, events: int) -> None:
        if events & (EPOLLHUP | EPOLLERR):
            self.close()
        elif events & EPOLLOUT:
            self.flush()
        elif events & EPOLLIN:
            self.read()

    def failed(self) -> None:
        self.close()

    def close(self) -> None:
        if self.connection.fileno() >= 0:
            self.loop.remove(self.connection.fileno())
            self.connection.close()
            for _, passed in self.answers:
                if passed is not None:
                    passed.close()
            self.answers.clear()
            if self.stream is not None:
                self.stream.end()
            self.server.left(self)

    # -- in

    def read(self) -> None:
        """One request: epoll calls again if there is another, after everybody else had a turn."""
        try:
            message = self.connection.recv(control.MESSAGE_MAX)
        except BlockingIOError:
            return
        except OSError:
            return self.close()
        if not message:
            return self.close()
        try:
            request = control.decode_request(message)
        except control.ProtocolError as mistake:
            return self.refuse(errno.EPROTO, str(mistake))
        if self.stream is not None:
            self.refuse(errno.EPROTO, "who watches asks nothing more")
        elif self.greeted:
            self.dispatch(request)
        else:
            self.greet(request)

    def greet(self, request: control.Request) -> None:
        if not isinstance(request, control.Hello):
            return self.refuse(errno.EPROTO, "say hello first")
        if request.version != control.VERSION:
            text = f"this daemon speaks version {control.VERSION} of the control protocol, not {request.version}"
            return self.refuse(errno.EPROTONOSUPPORT, text)
        self.greeted = True
        self.answer(control.Done())

    def dispatch(self, request: control.Request) -> None:
        """Answer ``request``; a failure is an answer too."""
        try:
            passed: socket.socket | None = None
            if isinstance(request, control.Open):
                answer, passed = self.open(request)
            elif isinstance(request, control.GetStatus):
                answer = self.server.reporter.status()
            elif isinstance(request, control.GetSockets):
                answer = inet_diag(self.loop.stack, request)
            elif isinstance(request, control.Down):
                answer = control.Done()
                self.loop.stop()
            elif isinstance(request, Monitor):
                answer = self.monitor(request)
            elif isinstance(request, control.Trace):
                answer = self.trace(request)
            elif isinstance(request, control.ChannelRequest):
                answer = self.on_channel(request)
            elif isinstance(request, control.Hello):
                raise error(errno.EPROTO)
            else:
                answer = self.server.rtnetlink.request_piece(request)
        except OSError as reason:
            code = reason.errno or errno.EIO
            answer = control.Failed(code, os.strerror(code))
        self.answer(answer, passed)

    def open(self, request: control.Open) -> tuple[control.Answer, socket.socket]:
        if len(self.server.channels) >= CHANNELS_MAX:
            raise error(errno.ENFILE)
        kind = request.kind & SOCK_TYPE_MASK
        sock = self.loop.stack.socket(request.family, kind, request.protocol)
        channel: Channel
        try:
            if kind == SOCK_STREAM:
                channel, far = stream_pair(self.loop, self.server.channels, sock, False)
            else:
                channel, far = datagram_pair(self.loop, self.server.channels, sock)
        except OSError:  # no descriptors left
            sock.close()
            raise
        return control.Opened(channel.id), far

    def monitor(self, request: Monitor) -> control.Answer:
        """From here on this connection is a stream of events."""
        try:
            stream = EventStream(self, request.kinds)
            self.server.rtnetlink.monitors.subscribe(stream)
        except OSError as reason:
            return nack(reason)
        self.stream = stream
        return Ack()

    def trace(self, request: control.Trace) -> control.Answer:
        """From here on it is a stream of journeys. EINVAL for a program that may not run, ENOBUFS if many watch."""
        stream = TraceStream(self, request)
        self.server.journeys.watch(stream)
        self.stream = stream
        return control.Done()

    def on_channel(self, request: control.ChannelRequest) -> control.Answer:
        """What concerns one socket."""
        if isinstance(request, control.GetOption) and is_so_error(request):
            return control.Option(self.server.channels.take_error(request.id))
        channel = self.server.channels.get(request.id)
        sock = channel.sock
        if isinstance(request, control.Bind):
            sock.bind(SockaddrIn(request.addr, request.port))
        elif isinstance(request, control.Connect):
            connect(channel, request)
        elif isinstance(request, control.Disconnect):
            sock.connect(SockaddrIn(0, 0, AF_UNSPEC))
        elif isinstance(request, control.Listen):
            listen(channel, request.backlog)
        elif isinstance(request, control.Shutdown):
            sock.shutdown(request.how)
        elif isinstance(request, control.SetOption):
            sock.setsockopt(request.level, request.name, request.value)
        elif isinstance(request, control.GetOption):
            return control.Option(option(sock, request))
        elif isinstance(request, control.Ioctl):
            return control.Option(sock.ioctl(request.command))
        else:
            where = sock.getpeername() if request.peer else sock.getsockname()
            return control.Name(int(where.addr), int(where.port))
        return control.Done()

    # -- out

    def refuse(self, code: int, text: str) -> None:
        """Say why, and end the conversation."""
        log.warning("control client refused: %s", text)
        self.ending = True
        self.answer(control.Failed(code, text))

    def answer(self, answer: control.Answer, passed: socket.socket | None = None) -> None:
        """Queue ``answer``, with the descriptor that goes with it."""
        for message in control.encode_answer(answer):
            self.answers.append((message, passed))
            passed = None
        self.flush()

    def work(self) -> None:
        """Events have come: send them, unless the socket is full anyway."""
        if self.connection.fileno() >= 0 and not self.answers:
            self.flush()

    def next_event(self) -> bool:
        """Queue one event and say so, if there is one: the rest waits where it is counted."""
        event = None if self.stream is None else self.stream.take()
        if event is None:
            return False
        for message in control.encode_answer(event):
            self.answers.append((message, None))
        return True

    def flush(self) -> None:
        """Send what it takes; read the next request only when everything is answered."""
        while self.answers or self.next_event():
            message, passed = self.answers[0]
            try:
                send(self.connection, message, passed)
            except BlockingIOError:
                self.loop.modify(self.connection.fileno(), EPOLLOUT)
                return
            except OSError:
                return self.close()
            self.answers.popleft()
        if self.ending:
            return self.close()
        self.loop.modify(self.connection.fileno(), EPOLLIN)


class EventStream(Subscription):
    """The events for one connection."""

    def __init__(self, client: ControlClient, kinds: list[str]) -> None:
        super().__init__(kinds)
        self.client: ControlClient = client

    def heard(self) -> None:
        self.client.loop.later(self.client)

    def take(self) -> Event | None:
        return self.events.popleft() if self.events else None

    def end(self) -> None:
        self.client.server.rtnetlink.monitors.unsubscribe(self)


class TraceStream(Subscriber):
    """The journeys for one connection."""

    def __init__(self, client: ControlClient, request: control.Trace) -> None:
        super().__init__(request.program, time.time_ns() - time.monotonic_ns())
        self.client: ControlClient = client

    def heard(self) -> None:
        self.client.loop.later(self.client)

    def end(self) -> None:
        self.client.server.journeys.unwatch(self)


def send(connection: socket.socket, message: bytes, passed: socket.socket | None) -> None:
    """One message, with a descriptor that is the client's alone afterwards."""
    if passed is None:
        connection.send(message, socket.MSG_NOSIGNAL)
    else:
        socket.send_fds(connection, [message], [passed.fileno()], socket.MSG_NOSIGNAL)
        passed.close()


def connect(channel: Channel, request: control.Connect) -> None:
    if isinstance(channel, StreamChannel):
        channel.connect(request.addr, request.port, request.stuffed)
    else:
        channel.sock.connect(SockaddrIn(request.addr, request.port))


def listen(channel: Channel, backlog: int) -> None:
    """A stream becomes a listener once; after that only its backlog changes."""
    if isinstance(channel, StreamChannel):
        ListenChannel(channel, backlog)
    else:
        channel.sock.listen(backlog)


def option(sock: Socket, request: control.GetOption) -> int | bytes:
    if request.room is None:
        return sock.getsockopt(request.level, request.name)
    return sock.getsockopt_bytes(request.level, request.name, request.room)


def is_so_error(request: control.GetOption) -> bool:
    return request.level == socket.SOL_SOCKET and request.name == socket.SO_ERROR


def listen_at(path: str) -> socket.socket:
    """A listening SOCK_SEQPACKET socket that only its owner may open. EADDRINUSE if somebody answers there.

    What a daemon that was killed has left behind is taken over.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
    try:
        # before bind, or the file would be there for a moment with the mode that umask leaves (unix_bind)
        os.fchmod(listener.fileno(), 0o600)
        try:
            listener.bind(path)
        except OSError as reason:
            if reason.errno != errno.EADDRINUSE or answers(path):
                raise
            os.unlink(path)
            listener.bind(path)
        listener.listen(BACKLOG)
    except BaseException:
        listener.close()
        raise
    return listener


def answers(path: str) -> bool:
    """Whether a daemon listens at ``path``."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as probe:
        probe.settimeout(1)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            return False
        except OSError:
            return True
        return True
