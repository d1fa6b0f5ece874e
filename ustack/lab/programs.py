"""The programs that a laboratory has by itself: small ones to send, receive, connect, answer, ping and measure with.

They are written as anybody's are, see program.py; what they print says what happened.
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ustack.error_queue import SOL_IP
from ustack.inet.family import SOCK_DGRAM
from ustack.inet.socket import SHUT_WR
from ustack.wire.ipv4 import IPPROTO_ICMP

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from ustack.lab.host import Host
    from ustack.lab.program import Address, ProgramSocket

#: What one send call of bulk is handed.
BULK_CHUNK: Final = 1 << 16
#: Connections that wait to be accepted.
BACKLOG: Final = 128
ICMP_ECHO: Final = 8
ICMP_HEADER: Final = Struct("!BBHHH")
PING_SIZE: Final = 56
IP_RECVERR: Final = 11


class BuiltIn(NamedTuple):
    """A program, and whether it is one that goes on for ever."""

    function: Callable[..., Coroutine[Any, Any, object]]
    daemon: bool = False


def shown(data: bytes) -> str:
    """Text as it would be typed, "muffin"; what is none by its length."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        text = ""
    if text and len(text) <= 60 and text.rstrip("\n").isprintable():
        return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
    return f"{len(data)} bytes"


def where(address: Address) -> str:
    return f"{address[0]}:{address[1]}"


# -- UDP


async def udp_send(host: Host, name: str, port: int, text: str, count: int = 1, interval: float = 1.0) -> None:
    """Look ``name`` up and send it ``text``, ``count`` times, ``interval`` seconds apart."""
    address = (host.resolve(name), port)
    if name != address[0]:
        host.print(f"{name} is {address[0]}")
    with host.socket(SOCK_DGRAM) as sock:
        for number in range(count):
            if number:
                await host.sleep(interval)
            await sock.sendto(text.encode(), address)
            host.print(f"sent {shown(text.encode())} to {where(address)}")


async def udp_recv(host: Host, port: int, count: int = 1) -> None:
    """Receive ``count`` datagrams."""
    with host.socket(SOCK_DGRAM) as sock:
        sock.bind(("", port))
        host.print(f"waiting at UDP port {port}")
        for _ in range(count):
            data, peer = await sock.recvfrom()
            host.print(f"received {shown(data)} from {where(peer)}")


async def udp_echo(host: Host, port: int = 7) -> None:
    """Send back whatever comes."""
    with host.socket(SOCK_DGRAM) as sock:
        sock.bind(("", port))
        while True:
            data, peer = await sock.recvfrom()
            host.print(f"echoing {shown(data)} to {where(peer)}")
            await sock.sendto(data, peer)


# -- TCP


async def tcp_client(host: Host, name: str, port: int, text: str) -> None:
    """Connect, write, read, close."""
    with host.socket() as sock:
        await sock.connect((name, port))
        host.print(f"connected to {where(sock.getpeername())} from {where(sock.getsockname())}")
        await sock.sendall(text.encode())
        host.print(f"wrote {shown(text.encode())}")
        host.print(f"read {shown(await sock.recv())}")
    host.print("closed")


async def tcp_server(host: Host, port: int, reply: str = "", count: int = 1) -> None:
    """Take ``count`` connections, one after the other: read, write ``reply``, or else what was read, and close."""
    with host.socket() as sock:
        listen(host, sock, port)
        for _ in range(count):
            child, peer = await sock.accept()
            host.print(f"accepted {where(peer)}")
            data = await child.recv()
            answer = reply.encode() or data
            await child.sendall(answer)
            host.print(f"read {shown(data)}, wrote {shown(answer)}")
            await child.recvall()
            child.close()
            host.print(f"{where(peer)} has closed")


async def tcp_echo(host: Host, port: int = 7) -> None:
    """Send back whatever comes, to any number of clients at a time."""
    with host.socket() as sock:
        listen(host, sock, port)
        while True:
            child, peer = await sock.accept()
            host.run(echo_one, child, peer, name="tcp-echo", daemon=True)


async def echo_one(host: Host, sock: ProgramSocket, peer: Address) -> None:
    total = 0
    with sock:
        while data := await sock.recv():
            total += len(data)
            await sock.sendall(data)
    host.print(f"echoed {total} bytes to {where(peer)}")


def listen(host: Host, sock: ProgramSocket, port: int) -> None:
    sock.bind(("", port))
    sock.listen(BACKLOG)
    host.print(f"listening at TCP port {port}")


async def bulk_send(host: Host, name: str, port: int, size: int) -> None:
    """Connect and send ``size`` bytes; wait until the other end has closed."""
    block = bytes(BULK_CHUNK)
    with host.socket() as sock:
        await sock.connect((name, port))
        began = host.now_ns
        left = size
        while left:
            await sock.sendall(block[:left])
            left -= min(left, len(block))
        sock.shutdown(SHUT_WR)
        await sock.recvall()
        host.print(f"sent {size} bytes in {speed(size, host.now_ns - began)}")


async def bulk_recv(host: Host, port: int, count: int = 1) -> None:
    """Take ``count`` connections, one after the other, and read them to their end."""
    with host.socket() as sock:
        listen(host, sock, port)
        for _ in range(count):
            child, peer = await sock.accept()
            began, size = host.now_ns, 0
            while data := await child.recv():
                size += len(data)
            child.close()
            host.print(f"received {size} bytes from {where(peer)} in {speed(size, host.now_ns - began)}")


def speed(size: int, took: int) -> str:
    """``took`` in ns."""
    rate = f", {size * 8 / took * 1000:.2f} Mbit/s" if took else ""
    return f"{took / 1e9:.6f} s{rate}"


# -- ICMP


async def ping(host: Host, name: str, count: int = 4, interval: float = 1.0, patience: float = 1.0) -> int:
    """ICMP echo requests, as ping(8) sends them; status 1 if nothing was answered."""
    address = host.resolve(name)
    host.print(f"PING {name} ({address}) {PING_SIZE}({PING_SIZE + 28}) bytes of data.")
    received = 0
    with host.socket(SOCK_DGRAM, IPPROTO_ICMP) as sock:
        sock.setsockopt(SOL_IP, IP_RECVERR, 1)  # ICMP errors, in place of replies
        for sequence in range(1, count + 1):
            began = host.now_ns
            sock.settimeout(patience)
            if await ping_once(host, sock, address, sequence):
                received += 1
            if sequence < count:
                await host.sleep(max(0.0, interval - (host.now_ns - began) / 1e9))
    host.print(
        f"{count} packets transmitted, {received} received, {(count - received) * 100 // max(count, 1)}% packet loss"
    )
    return 0 if received else 1


async def ping_once(host: Host, sock: ProgramSocket, address: str, sequence: int) -> bool:
    """Ask, and wait for the answer to that question."""
    began = host.now_ns
    try:
        await sock.sendto(ICMP_HEADER.pack(ICMP_ECHO, 0, 0, 0, sequence) + bytes(range(PING_SIZE)), (address, 0))
        while True:
            message, peer = await sock.recvfrom()
            if len(message) >= ICMP_HEADER.size and ICMP_HEADER.unpack_from(message)[4] == sequence:
                break
    except TimeoutError:
        return False
    except OSError as reason:
        host.print(f"icmp_seq={sequence} {reason.strerror}")
        return False
    took = (host.now_ns - began) / 1e6
    host.print(f"{len(message)} bytes from {peer[0]}: icmp_seq={sequence} time={took:.3f} ms")
    return True


BUILT_IN: Final = {
    "udp-send": BuiltIn(udp_send),
    "udp-recv": BuiltIn(udp_recv),
    "udp-echo": BuiltIn(udp_echo, daemon=True),
    "tcp-client": BuiltIn(tcp_client),
    "tcp-server": BuiltIn(tcp_server),
    "tcp-echo": BuiltIn(tcp_echo, daemon=True),
    "bulk-send": BuiltIn(bulk_send),
    "bulk-recv": BuiltIn(bulk_recv),
    "ping": BuiltIn(ping),
}
