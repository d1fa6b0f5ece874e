"""Two applications that send each other a file over a TCP connection, and what must be left of it: nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tests.harness import SEC, Pair, connection
from ustack.sock import TCP_CLOSE
from ustack.tcp.sock import TcpSock

if TYPE_CHECKING:
    from ustack.inet.socket import Socket
    from ustack.stack import Stack

MEGABYTE: Final = 1_000_000
#: What one call of an application moves at most (bytes).
CHUNK: Final = 100_000


def file(number: int, size: int) -> bytes:
    """``size`` bytes without short repetition, so that a piece in the wrong place shows; another for each number."""
    words = b"".join((i * 2_654_435_761 + number & 0xFFFF_FFFF).to_bytes(4, "big") for i in range(4096))
    return (words * (size // len(words) + 1))[:size]


def tcp_sock(sock: Socket) -> TcpSock:
    sk = sock.sk
    assert isinstance(sk, TcpSock)
    return sk


class App:
    """One end: sends all of ``outgoing`` and then a FIN, reads until the other's."""

    def __init__(self, sock: Socket, outgoing: bytes) -> None:
        self.sock = sock
        self.outgoing = memoryview(outgoing)
        self.sent = 0
        self.finished = False
        self.received = bytearray()
        self.ended = False

    def run(self) -> None:
        """Do all that does not block."""
        size = len(self.outgoing)
        while self.sent < size:
            try:
                self.sent += self.sock.send(self.outgoing[self.sent : self.sent + CHUNK])
            except BlockingIOError:
                break
        if self.sent == size and not self.finished:
            self.finished = True
            self.sock.shutdown(1)
        while not self.ended:
            try:
                data = self.sock.recv(CHUNK)
            except BlockingIOError:
                break
            self.ended = not data
            self.received += data

    def done(self) -> bool:
        return self.finished and self.ended


def exchange(pair: Pair, there: bytes, back: bytes, limit: int = 100_000 * SEC) -> int:
    """Send ``there`` from a to b and ``back`` the other way, verify both, close; the ns it took.

    Both sockets' books must be empty in the end.
    """
    client, server = connection(pair, limit=600 * SEC)
    one, other = App(client, there), App(server, back)
    began = pair.now
    while not (one.done() and other.done()):
        one.run()
        other.run()
        assert pair.now - began < limit, f"{len(one.received)} and {len(other.received)} bytes after {limit / SEC:g} s"
        if not pair.lab.step():
            break
    took = pair.now - began
    assert bytes(other.received) == there
    assert bytes(one.received) == back
    for sock in (client, server):
        tp = tcp_sock(sock)
        assert (tp.rmem_alloc, tp.ofo, tp.err) == (0, None, 0)
        sock.close()
    nothing_is_left(pair, [tcp_sock(client), tcp_sock(server)])
    return took


def nothing_is_left(pair: Pair, socks: list[TcpSock]) -> None:
    """First nothing but TIME_WAIT and orphans' last words, then nothing at all: no entry, no timer, no byte."""
    stacks = (pair.a, pair.b)
    pair.run_until(lambda: all(not stack.tcp.tables.ehash for stack in stacks), 10_000 * SEC, "the last FIN's ACK")
    for tp in socks:
        assert tp.state == TCP_CLOSE
        assert (tp.wmem_queued, tp.rmem_alloc, tp.packets_out) == (0, 0, 0)
        timers = (tp.retransmit_timer, tp.delack_timer, tp.keepalive_timer)
        assert not any(timer is not None and timer.pending for timer in timers)
    pair.run_until(lambda: all(not stack.tcp.tables.timewait for stack in stacks), 1000 * SEC, "the end of TIME_WAIT")
    for stack in stacks:
        assert_idle(stack)


def assert_idle(stack: Stack) -> None:
    """TCP remembers no connection."""
    tables = stack.tcp.tables
    assert (tables.ehash, len(tables.requests), len(tables.timewait)) == ({}, 0, 0)
    assert (tables.listeners, tables.orphans, tables.acks, tables.wakeups) == ({}, set(), [], [])
    assert stack.net.mib.tcp.CurrEstab == 0
