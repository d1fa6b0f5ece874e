"""Signals for a loop: the interpreter's wake-up descriptor is what epoll sees of them.

A compiled loop gives the interpreter no occasion to run handlers; being called back for a descriptor is one.
"""

from __future__ import annotations

import signal
import socket
from typing import TYPE_CHECKING, Final

from ustack.io.loop import EPOLLIN, Worker

if TYPE_CHECKING:
    from collections.abc import Callable

    from ustack.io.loop import Loop

#: What ends a daemon.
ENDING: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class SignalPipe:
    """``numbers`` call ``caught`` from here until ``close``; ``near`` is readable whenever one has come."""

    def __init__(self, numbers: tuple[signal.Signals, ...], caught: Callable[[int, object], None]) -> None:
        self.numbers = numbers
        self.near, self.far = socket.socketpair()
        self.near.setblocking(False)
        self.far.setblocking(False)
        self.before_fd = signal.set_wakeup_fd(self.far.fileno(), warn_on_full_buffer=False)
        self.before = [signal.signal(number, caught) for number in numbers]

    def close(self) -> None:
        """As it was before."""
        for number, handler in zip(self.numbers, self.before, strict=True):
            signal.signal(number, handler)
        signal.set_wakeup_fd(self.before_fd)
        self.near.close()
        self.far.close()

    def drain(self) -> None:
        self.near.recv(4096)


class Signals(Worker):
    """``numbers`` are caught from here until ``close``; by default each of them ends the loop."""

    def __init__(self, loop: Loop, numbers: tuple[signal.Signals, ...] = ENDING) -> None:
        super().__init__(loop)
        self.pipe = SignalPipe(numbers, self.caught)
        loop.add(self.pipe.near.fileno(), self, EPOLLIN)

    def close(self) -> None:
        self.loop.remove(self.pipe.near.fileno())
        self.pipe.close()

    def caught(self, number: int, frame: object) -> None:
        self.loop.stop()

    def ready(self, events: int) -> None:
        self.pipe.drain()
