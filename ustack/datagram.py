"""DatagramSock: the receive side that UDP, raw and ping sockets share (Linux net/core/datagram.c).

A message is copied out of its frame when it arrives, so that a queue never pins frames larger than what it delivers,
and is charged to the socket with Linux's overhead per packet: 212,992 bytes hold 369 empty datagrams, not endlessly
many (Linux truesize; CVE-2010-4251).
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

from mypy_extensions import i64

from ustack.packet import SKB_OVERHEAD
from ustack.sock import (
    MSG_ERRQUEUE,
    MSG_PEEK,
    MSG_TRUNC,
    POLLERR,
    POLLHUP,
    POLLIN,
    POLLOUT,
    POLLRDHUP,
    RCV_SHUTDOWN,
    SEND_SHUTDOWN,
    SHUTDOWN_MASK,
    SIOCINQ,
    SIOCOUTQ,
    Message,
    Sock,
    error,
)
from ustack.trace.journey import DELIVERED, DROPPED
from ustack.trace.points import Point

if TYPE_CHECKING:
    from ustack.net import Net
    from ustack.packet import Packet
    from ustack.trace.journey import Facts, Journey

#: How long a followed datagram may wait to be read: as long as it likes.
READER_PATIENCE: Final[i64] = 0x3FFF_FFFF_FFFF_FFFF


class Datagram(Message):
    """A message with what its packet said about itself. ``length`` is what was sent, ``data`` may be less of it."""

    def __init__(self, data: bytes, addr: i64, port: i64, daddr: i64, ifindex: i64, tstamp: i64) -> None:
        super().__init__(data, addr, port, 0)
        self.length: i64 = len(data)
        self.daddr: i64 = daddr  #: where it was sent to (IP_PKTINFO)
        self.ifindex: i64 = ifindex  #: the device it came by
        self.tstamp: i64 = tstamp  #: when, ns
        self.next: Datagram | None = None  #: the one behind it in the queue
        self.journey: Journey | None = None  #: of its packet, whose way ends when it is read

    def follow(self, packet: Packet) -> None:
        """The packet's way goes on with what was taken out of it."""
        journey = packet.journey
        if journey is not None:
            journey.patience = READER_PATIENCE
            self.journey = journey
            packet.journey = None


class DatagramSock(Sock):
    """A socket that receives whole messages; the queue is a chain from ``head`` to ``tail``."""

    def __init__(self, net: Net, sock_type: i64, protocol: i64) -> None:
        super().__init__(net, sock_type, protocol)
        self.head: Datagram | None = None
        self.tail: Datagram | None = None
        self.queued: i64 = 0  #: messages
        self.drops: i64 = 0  #: messages lost for want of room (sk_drops)

    def has_room(self, length: i64) -> bool:
        """Whether a message of ``length`` bytes fits; into an empty queue any does (__udp_enqueue_schedule_skb)."""
        return self.rmem_alloc == 0 or self.rmem_alloc + SKB_OVERHEAD + length <= self.rcvbuf

    def enqueue(self, datagram: Datagram) -> None:
        """Append a message that ``has_room`` let in, and tell the observer (__skb_queue_tail, sk_data_ready)."""
        if self.tail is None:
            self.head = datagram
        else:
            self.tail.next = datagram
        self.tail = datagram
        self.queued += 1
        self.rmem_alloc += SKB_OVERHEAD + datagram.length
        if datagram.journey is not None:
            facts: Facts = {"queued": int(self.queued), "rmem": int(self.rmem_alloc)}
            datagram.journey.step(Point.SOCK_DEF_READABLE, "the reader is woken", facts)
        self.observer.data_ready(self)

    def try_recv(self) -> Datagram | None:
        """The next message, None if there is none: for services inside the process. Leaves a pending error alone."""
        return self.dequeue()

    def dequeue(self) -> Datagram | None:
        """Take the first message off the queue (__skb_unlink, skb_set_owner_r's end)."""
        datagram = self.head
        if datagram is None:
            return None
        self.head = datagram.next
        if self.head is None:
            self.tail = None
        datagram.next = None
        self.queued -= 1
        self.rmem_alloc -= SKB_OVERHEAD + datagram.length
        journey = datagram.journey
        if journey is not None:
            journey.tracer.taken(journey)
            journey.step(Point.SKB_RECV_DATAGRAM, f"{datagram.length} bytes", {"queued": int(self.queued)})
            journey.finish(DELIVERED)
        return datagram

    def recvmsg(self, length: i64, flags: i64) -> Message:
        """The next message, cut to ``length`` with MSG_TRUNC in its flags (__skb_recv_datagram).

        MSG_PEEK leaves it there. Raises the pending error first, EAGAIN if there is nothing; after shutdown an empty
        message instead.
        """
        if flags & MSG_ERRQUEUE:
            raise error(errno.EAGAIN)
        if self.err:
            raise error(int(self.take_error()))
        datagram = self.head
        if datagram is None:
            if self.shutdown & RCV_SHUTDOWN:
                return Message(b"", 0, 0, 0)
            raise error(errno.EAGAIN)
        if flags & MSG_PEEK == 0:
            self.try_recv()
        return datagram if datagram.length <= length else _cut(datagram, length)

    def check_send(self) -> None:
        """What every send meets first: the pending error, EPIPE after shutdown (sock_alloc_send_pskb)."""
        if self.err:
            raise error(int(self.take_error()))
        if self.shutdown & SEND_SHUTDOWN:
            raise error(errno.EPIPE)

    def shutdown_how(self, how: i64) -> None:
        self.shutdown |= how

    def ioctl(self, command: i64) -> int:
        """SIOCINQ: bytes of the next message; SIOCOUTQ: bytes on their way out (udp_ioctl, raw_ioctl)."""
        if command == SIOCINQ:
            return 0 if self.head is None else int(self.head.length)
        if command == SIOCOUTQ:
            return int(self.wmem_alloc)
        return super().ioctl(command)

    def meminfo(self) -> list[int]:
        words = super().meminfo()
        words[-1] = int(self.drops)
        return words

    def purge(self) -> None:
        """Forget what was not read (__skb_queue_purge), one by one: a long chain must not be freed by recursion."""
        while self.head is not None:
            journey = self.head.journey
            if journey is not None:
                journey.step(Point.SKB_QUEUE_PURGE, "never read")
                journey.finish(DROPPED, "SOCKET_CLOSE")
            self.dequeue()

    def poll(self) -> int:
        """datagram_poll: there is always room to send, the device's queue is what limits it."""
        mask = POLLOUT
        if self.err:
            mask |= POLLERR
        if self.shutdown & RCV_SHUTDOWN:
            mask |= POLLRDHUP | POLLIN
        if self.shutdown == SHUTDOWN_MASK:
            mask |= POLLHUP
        if self.head is not None:
            mask |= POLLIN
        return mask


def _cut(datagram: Datagram, length: i64) -> Datagram:
    """The first ``length`` bytes of a message, marked as cut."""
    cut = Datagram(
        datagram.data[:length], datagram.addr, datagram.port, datagram.daddr, datagram.ifindex, datagram.tstamp
    )
    cut.length = datagram.length
    cut.flags = MSG_TRUNC
    return cut
