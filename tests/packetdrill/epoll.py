"""epoll(7) over sockets of a stack: level and edge triggered, one shot, exclusive (Linux fs/eventpoll.c)."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

from ustack.sock import POLLERR, POLLHUP, POLLIN, POLLOUT, POLLPRI, POLLRDHUP, Observer, Sock, error

if TYPE_CHECKING:
    from ustack.inet.socket import Socket

EPOLL_CTL_ADD: Final = 1
EPOLL_CTL_DEL: Final = 2
EPOLL_CTL_MOD: Final = 3
EPOLLRDNORM: Final = 0x40
EPOLLWRNORM: Final = 0x100
EPOLLEXCLUSIVE: Final = 1 << 28
EPOLLONESHOT: Final = 1 << 30
EPOLLET: Final = 1 << 31
#: How to watch, in the same word as what to watch for (EP_PRIVATE_BITS).
_PRIVATE: Final = EPOLLONESHOT | EPOLLET | EPOLLEXCLUSIVE | 1 << 29


def ready_bits(sock: Socket, events: int) -> int:
    """What of ``events`` holds; errors and hang-ups are told unasked. Ordinary data counts under two names."""
    bits = sock.poll()
    if bits & POLLIN:
        bits |= EPOLLRDNORM
    if bits & POLLOUT:
        bits |= EPOLLWRNORM
    return bits & (events | POLLERR | POLLHUP)


class Wakeups(Observer):
    """A socket's wait queue: the epolls that watch it, and whether its sleepers have been woken."""

    def __init__(self, sock: Socket) -> None:
        self.items: list[Item] = []
        self.woken = True  #: since it was last set to False
        sock.observe(self)

    def wake(self, bits: int) -> None:
        self.woken = True
        for item in self.items:
            item.wake(bits)

    def data_ready(self, sk: Sock) -> None:
        self.wake(POLLIN | POLLPRI | EPOLLRDNORM)

    def write_space(self, sk: Sock) -> None:
        self.wake(POLLOUT | EPOLLWRNORM)

    def state_change(self, sk: Sock) -> None:
        self.wake(POLLIN | POLLPRI | POLLOUT | POLLRDHUP | POLLHUP | EPOLLRDNORM | EPOLLWRNORM)

    def error_report(self, sk: Sock) -> None:
        self.wake(POLLERR)


class Item:
    """One socket that is watched by one epoll (struct epitem)."""

    def __init__(self, epoll: Epoll, sock: Socket, queue: Wakeups, events: int, data: int) -> None:
        self.epoll = epoll
        self.sock = sock
        self.queue = queue
        self.events = events
        self.data = data

    def wake(self, bits: int) -> None:
        """ep_poll_callback: it may be ready. One that has shot once stays still until it is modified."""
        if self.events & ~_PRIVATE and bits & (self.events | POLLERR | POLLHUP):
            self.epoll.ready(self)


class Epoll:
    """What epoll_create makes (struct eventpoll)."""

    def __init__(self) -> None:
        self.items: dict[int, Item] = {}
        self.ready_list: list[Item] = []

    def ready(self, item: Item) -> None:
        if item not in self.ready_list:
            self.ready_list.append(item)

    def ctl(self, command: int, handle: int, sock: Socket, queue: Wakeups, events: int, data: int) -> None:
        """EEXIST, ENOENT, EINVAL."""
        item = self.items.get(handle)
        if command == EPOLL_CTL_ADD:
            if item is not None:
                raise error(errno.EEXIST)
            item = self.items[handle] = Item(self, sock, queue, events, data)
            queue.items.append(item)
        elif item is None:
            raise error(errno.ENOENT)
        elif command == EPOLL_CTL_DEL:
            return self.forget(handle)
        elif command == EPOLL_CTL_MOD:
            item.events, item.data = events, data
        else:
            raise error(errno.EINVAL)
        if ready_bits(sock, events):
            self.ready(item)

    def forget(self, handle: int) -> None:
        """The socket is watched no more; nothing happens if it was not."""
        item = self.items.pop(handle, None)
        if item is None:
            return
        item.queue.items.remove(item)
        if item in self.ready_list:
            self.ready_list.remove(item)

    def wait(self, maximum: int) -> list[tuple[int, int]]:
        """(events, data) of at most ``maximum`` that are ready (ep_send_events)."""
        found: list[tuple[int, int]] = []
        again: list[Item] = []
        while self.ready_list and len(found) < maximum:
            item = self.ready_list.pop(0)
            bits = ready_bits(item.sock, item.events & ~_PRIVATE) if item.events & ~_PRIVATE else 0
            if not bits:
                continue
            found.append((bits, item.data))
            if item.events & EPOLLONESHOT:
                item.events &= _PRIVATE
            elif not item.events & EPOLLET:
                again.append(item)
        self.ready_list += again
        return found
