"""Linux's side: its TCP behind a TAP device, in a namespace of its own, in real time."""

from __future__ import annotations

import array
import ctypes
import fcntl
import os
import select
import socket
import time
from typing import TYPE_CHECKING, Any, Final

from tests.oracle.tcp.script import SYSCTLS
from tests.oracle.tcp.side import Side
from tests.tcp.host import PEER, PEER_MAC, STACK, STACK_MAC
from ustack.io.host import Host, Namespace, write_sysctl
from ustack.io.tap import Tap
from ustack.tcp.info import unpack_info
from ustack.tcp.options import TCP_INFO
from ustack.wire.ethernet import mac_to_str

if TYPE_CHECKING:
    from typing import Self

    from tests.oracle.tcp.script import Terms

FRAME_MAX: Final = 65_600
POLL_ALL: Final = select.POLLIN | select.POLLOUT | select.POLLPRI | 0x2000


class KernelSide(Side):
    """Use in a ``with`` block: the thread is in its namespace meanwhile."""

    def __init__(self, terms: Terms) -> None:
        super().__init__(terms)
        self.namespace = Namespace.create()

    def __enter__(self) -> Self:
        self.namespace.__enter__()
        for where in ("all", "default"):
            write_sysctl(f"net.ipv6.conf.{where}.disable_ipv6", "1")
        self.tap = Tap("tap0", offload=False)
        with Host() as host:
            host.set_link("lo", up=True)
            host.set_link("tap0", up=True, mac=mac_to_str(STACK_MAC))
            host.add_address("tap0", f"{STACK}/24")
            host.add_neighbour("tap0", PEER, mac_to_str(PEER_MAC))
        for name, value in (("net.ipv4.tcp_no_metrics_save", "1"), *SYSCTLS, *self.terms.sysctls):
            write_sysctl(name, value)
        self.take()
        self.before = self.counters()
        return self

    def __exit__(self, *exc: object) -> None:
        for sock in self.sockets:
            if sock.fileno() >= 0:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, bytes(8))  # or close would wait
            sock.close()
        self.tap.close()
        self.namespace.__exit__(None, None, None)
        self.namespace.close()

    def put(self, frame: bytes) -> None:
        os.write(self.tap.fd, frame)

    def take(self) -> list[bytes]:
        frames = []
        while (frame := self.tap.read()) is not None:
            frames.append(frame)
        return frames

    def wait(self, ms: int) -> list[bytes]:
        until = time.monotonic() + ms / 1000
        frames = []
        while (left := until - time.monotonic()) > 0:
            select.select([self.tap.fd], [], [], left)
            frames += self.take()
        return frames

    def new_socket(self) -> Any:
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        sock.setblocking(False)
        return sock

    def accept(self, listener: Any) -> Any:
        sock, _ = listener.accept()
        sock.setblocking(False)
        return sock

    def poll(self, sock: Any) -> int:
        poller = select.poll()
        poller.register(sock, POLL_ALL)
        found = poller.poll(0)
        return found[0][1] if found else 0

    def ioctl(self, sock: Any, request: int) -> int:
        answer = array.array("i", [0])
        fcntl.ioctl(sock.fileno(), request, answer)
        return answer[0]

    def option(self, sock: Any, level: int, name: int, room: int) -> bytes:
        """By libc: Python has its own ideas of lengths."""
        value, length = ctypes.create_string_buffer(max(room, 1)), ctypes.c_uint32(room & 0xFFFF_FFFF)
        libc("getsockopt", sock.fileno(), level, name, value, ctypes.byref(length))
        return value.raw[: length.value]

    def disconnect(self, sock: Any) -> None:
        libc("connect", sock.fileno(), bytes(16), 16)

    def send_to(self, sock: Any, data: bytes, flags: int, addr: str, port: int) -> int:
        return int(sock.sendto(data, flags, (addr, port)))

    def receive(self, sock: Any, length: int, flags: int) -> tuple[bytes, list[tuple[int, int, bytes]], int]:
        data, control, flags, _ = sock.recvmsg(length, 1024, flags)
        return data, control, flags

    def counters(self) -> dict[str, int]:
        found: dict[str, int] = {}
        for file in ("snmp", "netstat"):
            with open(f"/proc/thread-self/net/{file}") as lines:
                rows = [line.split() for line in lines]
            for names, values in zip(rows[::2], rows[1::2], strict=True):
                group = names[0].rstrip(":")
                if group in ("Tcp", "TcpExt"):
                    found |= {f"{group}.{name}": int(n) for name, n in zip(names[1:], values[1:], strict=True)}
        return found

    def info(self) -> dict[str, int]:
        if self.sock is None:
            return {}
        return unpack_info(self.sock.getsockopt(socket.IPPROTO_TCP, TCP_INFO, 280))


def libc(function: str, *arguments: Any) -> None:
    """A system call as it is. Raises OSError."""
    if getattr(ctypes.CDLL(None, use_errno=True), function)(*arguments) != 0:
        raise OSError(ctypes.get_errno(), function)
