"""Programs: coroutines in virtual time, with sockets that are awaited.

    async def greet(host: Host, name: str) -> None:
        sock = host.socket(SOCK_DGRAM)
        await sock.sendto(b"muffin", (name, 4747))
        await host.sleep(0.5)
        host.print("muffin sent :)")

A program that waits costs nothing: what it waits for, a socket or a time, wakes it. It ends as a process does: its
sockets are closed, and it has an exit status, 0 unless it returns, or leaves by SystemExit with, another; what it does
not catch is told with the host's name and the line it came from.
"""

from __future__ import annotations

import errno
import traceback
from pathlib import PurePath
from typing import TYPE_CHECKING, Final, TypeVar

from ustack.io.loop import Worker
from ustack.sock import Observer
from ustack.timer import NEVER, Timer

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator
    from types import TracebackType
    from typing import Self

    from ustack.inet.socket import Socket as InetSocket
    from ustack.lab.host import Host
    from ustack.sock import Sock


T = TypeVar("T")
Address = tuple[str, int]

RECV_MAX: Final = 65_536
#: An exit status is a byte (wait(2)).
STATUS_MASK: Final = 0xFF
SIGKILL: Final = 9


class Signal(Observer):
    """Something that can happen to a socket; those who wait for it have their turn after the stack's."""

    def __init__(self) -> None:
        self.waiting: list[Task] = []

    def happen(self) -> None:
        waiting, self.waiting = self.waiting, []
        for task in waiting:
            task.loop.later(task)

    def data_ready(self, sk: Sock) -> None:
        self.happen()

    def write_space(self, sk: Sock) -> None:
        self.happen()

    def state_change(self, sk: Sock) -> None:
        self.happen()

    def error_report(self, sk: Sock) -> None:
        self.happen()


class Wait:
    """What a program's await comes down to: True once ``signal`` has happened, False if it is ``until`` (ns) first."""

    def __init__(self, signal: Signal | None, until: int) -> None:
        self.signal: Signal | None = signal
        self.until: int = until

    def __await__(self) -> Generator[Wait, bool, bool]:
        woken = yield self
        return woken


class Alarm(Timer):
    def __init__(self, task: Task) -> None:
        super().__init__()
        self.task: Task = task

    def fire(self) -> None:
        self.task.loop.later(self.task)


class Task(Worker):
    """One run of a program."""

    def __init__(
        self, host: Host, name: str, program: Callable[[], Coroutine[Wait, bool | None, object]], daemon: bool
    ) -> None:
        """``program`` makes the coroutine, at its first turn. ``daemon``: nobody waits for its end."""
        super().__init__(host.loop)
        self.host: Host = host
        self.name: str = name
        self.daemon: bool = daemon
        self.status: int | None = None  #: None while it runs
        self.sockets: list[ProgramSocket] = []
        self._program: Callable[[], Coroutine[Wait, bool | None, object]] = program
        self._coroutine: Coroutine[Wait, bool | None, object] | None = None
        self._wait: Wait | None = None
        self._alarm = Alarm(self)

    def begin(self, when: int) -> None:
        """Have its first turn at ``when`` (ns)."""
        if when <= self.host.now_ns:
            self.loop.later(self)
        else:
            self.loop.stack.net.timers.mod_timer(self._alarm, when)

    def work(self) -> None:
        """Go on to the next await."""
        if self.status is not None:
            return
        happened = self._woken()
        network = self.host.network
        network.current, before = self, network.current
        try:
            if self._coroutine is None:
                self._coroutine = self._program()
            wait = self._coroutine.send(happened)
        except StopIteration as end:
            self._end(end.value)
        except SystemExit as end:
            self._end(end.code)
        except Exception as mistake:
            self.end(1, explain(mistake))
        else:
            self._suspend(wait)
        finally:
            network.current = before

    def _woken(self) -> bool | None:
        """What the await answers with; None at the beginning."""
        wait, self._wait = self._wait, None
        if wait is None:
            return None
        self.loop.stack.net.timers.del_timer(self._alarm)
        if wait.signal is None:
            return False
        if self in wait.signal.waiting:
            wait.signal.waiting.remove(self)
            return False  # it was the alarm
        return True

    def _suspend(self, wait: object) -> None:
        if not isinstance(wait, Wait):
            self._close()
            self.end(1, "awaits something that is not the laboratory's: time here is virtual")
            return
        self._wait = wait
        if wait.signal is not None:
            wait.signal.waiting.append(self)
        if wait.until != NEVER:
            self.loop.stack.net.timers.mod_timer(self._alarm, wait.until)

    def _end(self, value: object) -> None:
        """What exit(3), or the return of main, would make of it."""
        if value is None or isinstance(value, int):
            status = int(value or 0) & STATUS_MASK
            self.end(status, f"exit status {status}" if status else "")
        elif isinstance(value, str):
            self.end(1, value)
        else:
            self.end(0, "")

    def end(self, status: int, text: str) -> None:
        """It is over; ``text`` says what went wrong."""
        self.status = status
        for sock in self.sockets:
            sock.close()
        self.host.network.ended(self, text)

    def kill(self) -> None:
        """End it where it waits, as SIGKILL does."""
        if self.status is None:
            self._close()
            self.end(128 + SIGKILL, "killed")

    def drop(self) -> None:
        """The laboratory is over: nobody asks how this ends."""
        if self.status is None:
            self._close()

    def _close(self) -> None:
        self._woken()
        self.loop.stack.net.timers.del_timer(self._alarm)
        if self._coroutine is not None:
            self._coroutine.close()

    def failed(self) -> None:
        """The loop's: ``work`` itself has raised."""
        if self.status is None:
            self.end(1, "failed")


def explain(mistake: Exception) -> str:
    """An exception in a line, with the place in the program it came from."""
    if isinstance(mistake, OSError) and mistake.errno is not None and mistake.strerror:
        text = mistake.strerror
    else:
        text = str(mistake)
    place = ""
    for frame, line in traceback.walk_tb(mistake.__traceback__):
        # the stack's own files are not where a user looks for his mistake
        if str(frame.f_globals.get("__name__", "")).partition(".")[0] != "ustack":
            place = f" ({PurePath(frame.f_code.co_filename).name}:{line})"
    return f"{type(mistake).__name__}: {text}{place}"


class ProgramSocket:
    """A socket as programs have it: as the standard library's, but what may wait is awaited."""

    def __init__(self, host: Host, inner: InetSocket) -> None:
        self.host: Host = host
        self.inner: InetSocket = inner
        self._timeout: float | None = None
        self._signal = Signal()
        inner.observe(self._signal)
        if host.network.current is not None:
            host.network.current.sockets.append(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, mistake: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.close()

    # -- what does not wait

    def close(self) -> None:
        """The protocol finishes what it must. Who waits for it is told."""
        if not self.inner.closed:
            self.inner.close()
            self._signal.happen()

    def settimeout(self, value: float | None) -> None:
        """Seconds; None waits for ever, 0 not at all."""
        self._timeout = value

    def bind(self, address: Address) -> None:
        self.inner.bind(self._address(address))

    def listen(self, backlog: int = 128) -> None:
        self.inner.listen(backlog)

    def shutdown(self, how: int) -> None:
        self.inner.shutdown(how)

    def getsockname(self) -> Address:
        return self.inner.getsockname().pair()

    def getpeername(self) -> Address:
        return self.inner.getpeername().pair()

    def setsockopt(self, level: int, name: int, value: int | bytes) -> None:
        self.inner.setsockopt(level, name, value)

    def getsockopt(self, level: int, name: int) -> int | bytes:
        return self.inner.getsockopt(level, name)

    # -- what may

    async def connect(self, address: Address) -> None:
        """Names are looked up in the host's hosts file."""
        where = self._address(address)
        await self._ready(lambda: self.inner.connect(where))

    async def accept(self) -> tuple[ProgramSocket, Address]:
        child = ProgramSocket(self.host, await self._ready(self.inner.accept))
        return child, child.getpeername()

    async def send(self, data: bytes, flags: int = 0) -> int:
        return await self._ready(lambda: self.inner.send(data, flags))

    async def sendall(self, data: bytes, flags: int = 0) -> None:
        rest = memoryview(data)
        while rest:
            piece = rest
            rest = rest[await self._ready(lambda: self.inner.send(piece, flags)) :]  # noqa: B023

    async def sendto(self, data: bytes, address: Address, flags: int = 0) -> int:
        where = self._address(address)
        return await self._ready(lambda: self.inner.sendto(data, where, flags))

    async def recv(self, size: int = RECV_MAX, flags: int = 0) -> bytes:
        """b"" at the end of the stream."""
        return await self._ready(lambda: self.inner.recv(size, flags))

    async def recvfrom(self, size: int = RECV_MAX, flags: int = 0) -> tuple[bytes, Address]:
        data, where = await self._ready(lambda: self.inner.recvfrom(size, flags))
        return data, where.pair()

    async def recvall(self) -> bytes:
        """Everything up to the end of the stream."""
        pieces = []
        while piece := await self.recv():
            pieces.append(piece)
        return b"".join(pieces)

    async def _ready(self, attempt: Callable[[], T]) -> T:
        """What ``attempt`` answers, tried again whenever something has happened to the socket. Raises TimeoutError."""
        until = NEVER if self._timeout is None else self.host.now_ns + round(self._timeout * 1e9)
        while True:
            try:
                return attempt()
            except BlockingIOError:
                if self._timeout == 0:
                    raise
            if not await Wait(self._signal, int(until)):
                raise TimeoutError(errno.ETIMEDOUT, "timed out")

    def _address(self, address: Address) -> Address:
        return self.host.resolve(address[0]) if address[0] else "0.0.0.0", address[1]


async def sleep(host: Host, seconds: float) -> None:
    """Until so much later."""
    await Wait(None, host.now_ns + round(seconds * 1e9))
