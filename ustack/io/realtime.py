"""A laboratory driven by the wall clock, with ports that are TAP devices: a kernel, a browser or Wireshark may join.

    wait ─ descriptors ready ─ frames into the rx rings ─ everything that is due ─ frames out of the tx rings ─ wait

What happens inside happens in virtual time, in the same order as ever, as soon as the wall clock has come that far; a
laboratory that is too much for the machine falls behind the clock (``late``) and is otherwise the same.
"""

from __future__ import annotations

import errno
import logging
import select
import time
from typing import TYPE_CHECKING, Final

from ustack.device.cable import Pollable
from ustack.io.loop import EPOLLERR, EPOLLIN, EPOLLOUT, MAX_WAIT, wait
from ustack.io.signals import ENDING, SignalPipe
from ustack.timer import NEVER

if TYPE_CHECKING:
    import signal
    from typing import Self

    from ustack.device.ring import NicRegisters
    from ustack.io.loop import Hardware
    from ustack.lab import Lab
    from ustack.timer import Waker

log: Final = logging.getLogger("ustack.lab")


class WallClock:
    """The time, and waiting for it."""

    def now(self) -> int:
        """ns since whenever."""
        return time.monotonic_ns()

    def wait(self, epoll: select.epoll, duration: int) -> list[tuple[int, int]]:
        """What happens on descriptors within ``duration`` ns: (descriptor, events)."""
        return wait(epoll, duration / 1e9)


class Port(Pollable):
    """A port's TAP, as a member of the laboratory: it hears the doorbell as a cable would."""

    def __init__(self, hardware: Hardware, nic: NicRegisters, epoll: select.epoll) -> None:
        self.hardware = hardware
        self.nic = nic
        self.epoll = epoll
        self.waker: Waker | None = None
        epoll.register(hardware.fileno(), EPOLLIN)

    def attach(self, waker: Waker) -> bool:
        self.waker = self.nic.waker = waker
        return True

    def next_deadline(self) -> int:
        return 0 if self.nic.doorbell and not self.hardware.blocked else int(NEVER)

    def poll(self, now: int) -> None:
        """Send, and watch for room where the descriptor takes no more."""
        if not self.hardware.transmit():
            self.hardware.blocked = True
            self.epoll.modify(self.hardware.fileno(), EPOLLIN | EPOLLOUT)

    def writable(self) -> None:
        self.hardware.blocked = False
        self.epoll.modify(self.hardware.fileno(), EPOLLIN)
        if self.waker is not None:
            self.waker.wake()


class RealTime:
    """Drives ``lab`` from now on; ``late`` is the longest time (ns) by which it was behind the clock."""

    def __init__(self, lab: Lab, clock: WallClock | None = None) -> None:
        self.lab: Lab = lab
        self.clock: WallClock = WallClock() if clock is None else clock
        self.stopped: bool = False
        self.lost: bool = False  #: every TAP was taken away
        self.late: int = 0
        self._epoll = select.epoll()
        self._ports: dict[int, Port] = {}
        self._pipe: SignalPipe | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """The descriptors are their owners' to close."""
        if self._pipe is not None:
            self._pipe.close()
            self._pipe = None
        self._epoll.close()

    def catch(self, numbers: tuple[signal.Signals, ...] = ENDING) -> None:
        """Let these signals end ``run``."""
        self._pipe = SignalPipe(numbers, self._caught)
        self._epoll.register(self._pipe.near.fileno(), EPOLLIN)

    def add(self, hardware: Hardware, nic: NicRegisters) -> None:
        """Tie the NIC to the descriptor of ``hardware``, which moves the frames between both."""
        port = Port(hardware, nic, self._epoll)
        self._ports[hardware.fileno()] = port
        self.lab.add(port)

    def stop(self) -> None:
        self.stopped = True
        self.lab.stop()

    def run(self, until: int = int(NEVER)) -> None:
        """Until ``stop`` (the lab's as well), or until ``until`` on the lab's clock (ns).

        Raises OSError ENODEV when the last TAP is taken away.
        """
        began = self.clock.now() - int(self.lab.now)
        events: list[tuple[int, int]] = []
        while not self.stopped:
            now = min(self.clock.now() - began, until)
            self.late = max(self.late, now - max(int(self.lab.next_deadline()), int(self.lab.now)))
            if self._advance(now, events) or now >= until:
                return
            events = self._wait(began, until)

    def _advance(self, now: int, events: list[tuple[int, int]]) -> bool:
        """Everything up to ``now``, when the frames of ``events`` came, and what follows at once; True at the end."""
        self.lab.run_until(now)
        if events and not self.lab.stopped:
            for fd, what in events:
                self._ready(fd, what)
            if self.lost:
                raise OSError(errno.ENODEV, "every TAP device is gone")
            self.lab.run_until(now)
        return self.stopped or self.lab.stopped

    def _wait(self, began: int, until: int) -> list[tuple[int, int]]:
        """A readable TAP is readable until it is empty: what one batch has left over ends the next wait at once."""
        deadline = min(int(self.lab.next_deadline()), until)
        left = max(deadline + began - self.clock.now(), 0)
        return self.clock.wait(self._epoll, min(left, int(MAX_WAIT)))

    def _ready(self, fd: int, events: int) -> None:
        port = self._ports.get(fd)
        if port is None:
            if self._pipe is not None:
                self._pipe.drain()
        elif events & EPOLLERR:
            self._lose(fd, port)
        else:
            if events & EPOLLOUT:
                port.writable()
            if events & EPOLLIN:
                port.hardware.receive(self.clock.now())

    def _lose(self, fd: int, port: Port) -> None:
        """The device was deleted under us: the driver loses its carrier, the others go on."""
        log.error("a TAP device is gone")
        port.hardware.receive()
        del self._ports[fd]
        self._epoll.unregister(fd)
        self.lost = not self._ports

    def _caught(self, number: int, frame: object) -> None:
        self.stop()
