"""ustack's side: a stack in this process, in virtual time, whose clock follows that of the kernel's run."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from tests.oracle.tcp.script import SYSCTLS
from tests.oracle.tcp.side import TCP_CM_INQ, Side
from tests.tcp.host import PEER_PORT, Host
from ustack.tcp.info import unpack_info
from ustack.tcp.options import TCP_INFO
from ustack.wire.ipv4 import IPPROTO_TCP

if TYPE_CHECKING:
    from tests.oracle.tcp.script import Terms


class OurSide(Side):
    def __init__(self, terms: Terms) -> None:
        super().__init__(terms)
        self.host = Host()
        self.host.pport = PEER_PORT
        for name, value in (*SYSCTLS, *terms.sysctls):
            self.host.stack.sysctl.set(name, value)
        self.zero = self.host.now
        self.before = self.counters()

    def at(self, elapsed: int) -> None:
        """It is now ``elapsed`` ns after the beginning."""
        self.host.run_to(self.zero + elapsed)

    def put(self, frame: bytes) -> None:
        self.host._frame(frame)
        self.host.poll()

    def take(self) -> list[bytes]:
        self.host.poll()
        sent = [segment.frame for segment in self.host.out]
        self.host.out.clear()
        return sent

    def wait(self, ms: int) -> list[bytes]:
        """Nothing to do: ``at`` lets time pass."""
        return self.take()

    def new_socket(self) -> Any:
        return self.host.stack.socket()

    def accept(self, listener: Any) -> Any:
        return listener.accept()

    def poll(self, sock: Any) -> int:
        return int(sock.poll())

    def ioctl(self, sock: Any, request: int) -> int:
        return int(sock.ioctl(request))

    def option(self, sock: Any, level: int, name: int, room: int) -> bytes:
        return bytes(sock.getsockopt_bytes(level, name, room))

    def disconnect(self, sock: Any) -> None:
        sock.connect(bytes(16))

    def send_to(self, sock: Any, data: bytes, flags: int, addr: str, port: int) -> int:
        return int(sock.sendto(data, (addr, port), flags))

    def receive(self, sock: Any, length: int, flags: int) -> tuple[bytes, list[tuple[int, int, bytes]], int]:
        message = sock.recvmsg(length, flags)
        control = list(message.control or [])
        if message.inq >= 0:
            control.append((IPPROTO_TCP, TCP_CM_INQ, int(message.inq).to_bytes(4, sys.byteorder)))
        return message.data, control, int(message.flags)

    def counters(self) -> dict[str, int]:
        every = self.host.net.mib.snapshot()
        return {name: value for name, value in every.items() if name.startswith(("Tcp.", "TcpExt."))}

    def info(self) -> dict[str, int]:
        return unpack_info(self.sock.getsockopt(IPPROTO_TCP, TCP_INFO)) if self.sock is not None else {}
