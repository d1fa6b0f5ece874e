"""The daemon's loop: one thread, one epoll, one stack.

    wait ─ descriptors ready ─ frames into the rx ring ─ stack.poll(now) ─ workers ─ frames out of the tx ring ─ wait

A Worker has a descriptor, or a socket of the stack, or both. Inside the stack's poll it is only told that there is
something to do and asks for its turn; it gets it right after, so that nothing reads or closes a socket while the
stack is at work on it. The frames that a turn causes leave in the same round.
"""

from __future__ import annotations

import logging
import select
import time
from typing import TYPE_CHECKING, Final

from mypy_extensions import i64, mypyc_attr

from ustack.sock import Observer, Sock
from ustack.timer import NEVER, NSEC_PER_SEC

if TYPE_CHECKING:
    from ustack.stack import Stack
    from ustack.timer import Waker

log: Final = logging.getLogger("ustack.loop")

#: Looked up once: the names of a module are a dictionary.
_monotonic_ns: Final = time.monotonic_ns

EPOLLIN: Final = 0x001
EPOLLOUT: Final = 0x004
EPOLLERR: Final = 0x008
EPOLLHUP: Final = 0x010
EPOLLRDHUP: Final = 0x2000
EPOLLET: Final = 0x8000_0000

#: Events one wait takes: more stay with epoll for the next.
MAX_EVENTS: Final = 256
#: Rounds of poll and work before the descriptors are looked at again.
MAX_ROUNDS: Final = 8
#: Seconds that epoll counts in: it rounds up, and a paced connection's burst would leave a millisecond late.
EPOLL_TICK: Final = 0.001
#: select takes no descriptor from here on.
FD_SETSIZE: Final = 1024
#: The longest wait, ns: a clock that is set, or a machine that slept, is noticed after this long.
MAX_WAIT: Final[i64] = 10 * NSEC_PER_SEC


@mypyc_attr(allow_interpreted_subclasses=True)
class Worker(Observer):
    """Something the loop serves; subclasses override what they use."""

    def __init__(self, loop: Loop) -> None:
        self.loop: Loop = loop
        self.queued: bool = False  #: waits for its turn

    def ready(self, events: int) -> None:
        """Its descriptor has ``events`` (EPOLLIN and the like); called outside the stack's poll."""

    def work(self) -> None:
        """Its turn, asked for with ``Loop.later``; called outside the stack's poll."""

    def failed(self) -> None:
        """``ready`` or ``work`` raised: let go of everything."""

    def data_ready(self, sk: Sock) -> None:
        self.loop.later(self)

    def write_space(self, sk: Sock) -> None:
        self.loop.later(self)

    def state_change(self, sk: Sock) -> None:
        self.loop.later(self)

    def error_report(self, sk: Sock) -> None:
        self.loop.later(self)


@mypyc_attr(allow_interpreted_subclasses=True)
class Hardware:
    """The outer side of a NIC: what moves frames between a descriptor and the NIC's rings."""

    blocked: bool = False  #: waits for EPOLLOUT; the loop's to set

    def fileno(self) -> int:
        raise NotImplementedError

    def receive(self, now: i64 = 0) -> bool:
        """Take what is there into the rx ring, up to a batch; True if there may be more that nobody would announce.

        ``now`` (ns) tells a lone frame after a pause from one of many.
        """
        raise NotImplementedError

    def transmit(self) -> bool:
        """Send what the tx ring holds; False if some must wait until the descriptor takes more."""
        raise NotImplementedError


class Loop:
    """Drives one stack from the system's monotonic clock."""

    def __init__(self, stack: Stack) -> None:
        self.stack: Stack = stack
        self.stopped: bool = False
        self.closed: bool = False
        self.lost: bool = False  #: stopped because the last device went away
        self.rounds: i64 = 0  #: wake-ups so far
        self._epoll: select.epoll | None = None  # made when first needed: in a lab there are many loops that never wait
        self._workers: dict[int, Worker] = {}
        self._nics: list[Hardware] = []
        self._nic_fds: dict[int, Hardware] = {}
        self._turns: list[Worker] = []
        self._more: bool = False  # the stack or a NIC has work left over
        self._waker: Waker | None = None

    def attach(self, waker: Waker) -> None:
        """Who drives this loop and its stack on another clock hears of what comes from outside (Pollable.attach)."""
        self._waker = waker
        self.stack.attach(waker)

    # -- who is served

    def add_nic(self, nic: Hardware) -> None:
        """Serve ``nic``: receive when its descriptor is ready, transmit after every round."""
        self._poller().register(nic.fileno(), EPOLLIN)
        self._nics.append(nic)
        self._nic_fds[nic.fileno()] = nic

    def remove_nic(self, nic: Hardware) -> None:
        """ValueError if it was never added."""
        self._nics.remove(nic)
        del self._nic_fds[nic.fileno()]
        self._poller().unregister(nic.fileno())

    def add(self, fd: int, worker: Worker, events: int) -> None:
        """Call ``worker.ready`` when ``fd`` has ``events``."""
        self._poller().register(fd, events)
        self._workers[fd] = worker

    def modify(self, fd: int, events: int) -> None:
        self._poller().modify(fd, events)

    def remove(self, fd: int) -> None:
        """Before ``fd`` is closed; not an error if it was not there."""
        if self._workers.pop(fd, None) is not None:
            self._poller().unregister(fd)

    def later(self, worker: Worker) -> None:
        """Give ``worker`` a turn after the stack's poll; once, however often it asks."""
        if not worker.queued:
            worker.queued = True
            self._turns.append(worker)
            if self._waker is not None:
                self._waker.wake()

    # -- running

    def run(self) -> None:
        """Until ``stop``."""
        while not self.stopped:
            self.step(MAX_WAIT)

    def stop(self) -> None:
        self.stopped = True

    def close(self) -> None:
        """Give the epoll descriptor back; the workers' own are theirs to close."""
        self.closed = True
        if self._epoll is not None:
            self._epoll.close()

    def _poller(self) -> select.epoll:
        if self._epoll is None:
            self._epoll = select.epoll()
        return self._epoll

    def step(self, limit: i64) -> None:
        """Wait for something to happen, ``limit`` ns at most, and do everything that follows from it."""
        self.rounds += 1
        events = self._wait(self._timeout(limit))
        now: i64 = _monotonic_ns()
        more = False
        self.stack.net.now = now
        for fd, what in events:
            nic = self._nic_fds.get(fd)
            if nic is None:
                self._ready(fd, what)
            elif what & EPOLLERR:
                self._lose_nic(nic)
            elif what & EPOLLIN and nic.receive(now):
                more = True
        self.settle(now)
        if more:
            self._more = True

    def _lose_nic(self, nic: Hardware) -> None:
        """Its device was deleted under us (tun_chr_poll): receive once more, which tells the driver, and forget it.

        The driver loses its carrier. With other devices left there is something to go on for.
        """
        log.error("the TAP device is gone")
        nic.receive()
        self.remove_nic(nic)
        if not self._nics:
            self.lost = True
            self.stop()

    def next_deadline(self) -> i64:
        """When there is something to do (ns), 0 for at once, NEVER for nothing."""
        if self._more or self._turns:
            return 0
        return self.stack.next_deadline()

    def _wait(self, seconds: float) -> list[tuple[int, int]]:
        return wait(self._poller(), seconds)

    def _timeout(self, limit: i64) -> float:
        """Seconds until the stack wants to be polled again."""
        wait = self.next_deadline()
        if wait != NEVER:
            wait -= _monotonic_ns()
            if wait < 0:
                return 0.0
        if wait > limit:
            wait = limit
        return int(wait) / 1e9

    def settle(self, now: i64) -> None:
        """Poll and work until nothing is left to do, or long enough, and send what came of it."""
        self._more = False
        for _ in range(MAX_ROUNDS):
            again = self.stack.poll(now)
            if self._turns:
                self._take_turns()
                again = True
            self._transmit()
            if not again:
                return
        self._more = True

    def _take_turns(self) -> None:
        turns = self._turns
        self._turns = []
        for worker in turns:
            worker.queued = False
            try:
                worker.work()
            except Exception:
                self._give_up(worker)

    def _ready(self, fd: int, events: int) -> None:
        worker = self._workers.get(fd)
        if worker is None:
            return  # removed earlier in this round
        try:
            worker.ready(events)
        except Exception:
            self._give_up(worker)

    def _give_up(self, worker: Worker) -> None:
        """A mistake in one worker costs that worker, not the stack."""
        log.exception("%s failed", type(worker).__name__)
        worker.failed()

    def _transmit(self) -> None:
        """Empty the tx rings; watch for room where a descriptor takes no more."""
        for nic in self._nics:
            blocked = not nic.transmit()
            if blocked != nic.blocked:
                nic.blocked = blocked
                self._poller().modify(nic.fileno(), EPOLLIN | EPOLLOUT if blocked else EPOLLIN)


def wait(epoll: select.epoll, seconds: float) -> list[tuple[int, int]]:
    """What happens until then, or an empty list a little earlier: then the rest is waited for, to the microsecond.

    Most waits end with a frame: what is exact costs a call only where the time is nearly up.
    """
    if 0.0 < seconds < EPOLL_TICK and epoll.fileno() < FD_SETSIZE:
        select.select([epoll], [], [], seconds)
        seconds = 0.0
    elif seconds > EPOLL_TICK:
        seconds = (int(seconds / EPOLL_TICK) - 0.5) * EPOLL_TICK  # which epoll rounds up
    return epoll.poll(seconds, MAX_EVENTS)
