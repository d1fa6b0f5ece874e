"""Discard, chargen and echo on the kernel's own sockets, for the peers that end in the kernel; standard library only.

python -m benchlib.servers [CC]     sends by that congestion control, says "ready" and serves until it is ended
"""

from __future__ import annotations

import select
import socket
import sys
from typing import Final

from benchlib.load import CHARGEN, DISCARD, ECHO

BACKLOG: Final = 4096
READ_SIZE: Final = 1024 * 1024
#: What one connection may move before the others have their turn.
TURNS: Final = 16
BLOCK: Final = bytes(range(32, 127)) * 2760
DATAGRAMS: Final = 64


class Servers:
    """One thread, one epoll."""

    def __init__(self, congestion: str = "") -> None:
        self.congestion = congestion
        self.epoll = select.epoll()
        self.buffer = bytearray(READ_SIZE)
        self.discard = self.listen(DISCARD)
        self.chargen = self.listen(CHARGEN)
        self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self.udp.bind(("", ECHO))
        self.udp.setblocking(False)
        self.epoll.register(self.udp, select.EPOLLIN)
        self.sinks: dict[int, socket.socket] = {}
        self.sources: dict[int, socket.socket] = {}

    def listen(self, port: int) -> socket.socket:
        sock = socket.create_server(("", port), backlog=BACKLOG)
        sock.setblocking(False)
        if self.congestion:  # a namespace's sysctl takes fewer names than a socket's option
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, self.congestion.encode())
        self.epoll.register(sock, select.EPOLLIN)
        return sock

    def run(self) -> None:
        print("ready", flush=True)
        while True:
            for fd, _ in self.epoll.poll():
                self.serve(fd)

    def serve(self, fd: int) -> None:
        if fd == self.udp.fileno():
            self.echo()
        elif fd == self.discard.fileno():
            self.accept(self.discard, self.sinks, select.EPOLLIN)
        elif fd == self.chargen.fileno():
            self.accept(self.chargen, self.sources, select.EPOLLOUT)
        elif fd in self.sinks:
            self.drain(fd)
        else:
            self.pour(fd)

    def accept(self, listener: socket.socket, table: dict[int, socket.socket], events: int) -> None:
        sock, _ = listener.accept()
        sock.setblocking(False)
        table[sock.fileno()] = sock
        self.epoll.register(sock, events)

    def drain(self, fd: int) -> None:
        sock = self.sinks[fd]
        try:
            for _ in range(TURNS):
                if not sock.recv_into(self.buffer):
                    self.end(self.sinks, fd)
                    return
        except BlockingIOError:
            return
        except OSError:
            self.end(self.sinks, fd)

    def pour(self, fd: int) -> None:
        sock = self.sources[fd]
        try:
            for _ in range(TURNS):
                sock.send(BLOCK)
        except BlockingIOError:
            return
        except OSError:
            self.end(self.sources, fd)

    def end(self, table: dict[int, socket.socket], fd: int) -> None:
        self.epoll.unregister(fd)
        table.pop(fd).close()

    def echo(self) -> None:
        try:
            for _ in range(DATAGRAMS):
                data, peer = self.udp.recvfrom(65_536)
                self.udp.sendto(data, peer)
        except OSError:
            return


if __name__ == "__main__":
    Servers(*sys.argv[1:2]).run()
