"""struct sockaddr_in: a family, an address and a port (include/uapi/linux/in.h)."""

from __future__ import annotations

import errno
from struct import Struct
from typing import Final

from mypy_extensions import i64

from ustack.sock import error
from ustack.wire.ipv4 import addr_to_str, str_to_addr

AF_UNSPEC: Final = 0
AF_INET: Final = 2

INADDR_ANY: Final[i64] = 0
INADDR_BROADCAST: Final[i64] = 0xFFFF_FFFF

#: sin_family in the machine's order, sin_port and sin_addr in the network's, which is what the two formats are for.
_FAMILY: Final = Struct("=H")
_REST: Final = Struct("!HI")
SOCKADDR_IN_LEN: Final = 16


class SockaddrIn:
    """``addr`` and ``port`` are integers in host order. Mutable: a security module may rewrite a bind."""

    def __init__(self, addr: i64, port: i64, family: i64 = AF_INET) -> None:
        self.addr: i64 = addr
        self.port: i64 = port
        self.family: i64 = family

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SockaddrIn):
            return NotImplemented
        return self.addr == other.addr and self.port == other.port and self.family == other.family

    def __hash__(self) -> int:
        return hash((self.family, self.addr, self.port))

    def __repr__(self) -> str:
        return f"{addr_to_str(self.addr)}:{self.port}"

    def pair(self) -> tuple[str, int]:
        """("192.0.2.1", 80), as Python's own sockets say it."""
        return addr_to_str(self.addr), self.port

    def to_bytes(self) -> bytes:
        """The 16 bytes that a C program would see."""
        return (_FAMILY.pack(self.family) + _REST.pack(self.port, self.addr)).ljust(SOCKADDR_IN_LEN, b"\0")


#: What the socket calls take: the structure, Python's pair (host "" is INADDR_ANY), or the bytes of a C structure.
SocketAddress = SockaddrIn | tuple[str, int] | bytes


def sockaddr_in(address: SocketAddress) -> SockaddrIn:
    """``address`` as a structure of our own. EINVAL for one that is too short or whose port does not fit.

    A dotted quad that is none raises ValueError: names are resolved above the stack.
    """
    if isinstance(address, SockaddrIn):
        return SockaddrIn(address.addr, address.port, address.family)
    if isinstance(address, bytes):
        return _from_bytes(address)
    host, port = address
    if not 0 <= port <= 0xFFFF:
        raise error(errno.EINVAL)
    return SockaddrIn(_host(host), port)


def _host(host: str) -> i64:
    if host == "":
        return INADDR_ANY
    if host == "<broadcast>":
        return INADDR_BROADCAST
    return str_to_addr(host)


def _from_bytes(raw: bytes) -> SockaddrIn:
    if len(raw) < _FAMILY.size:
        raise error(errno.EINVAL)
    family: int = _FAMILY.unpack_from(raw)[0]
    if family == AF_UNSPEC and len(raw) < SOCKADDR_IN_LEN:
        # connect(AF_UNSPEC) needs no more than the family (__inet_stream_connect)
        return SockaddrIn(INADDR_ANY, 0, AF_UNSPEC)
    if len(raw) < SOCKADDR_IN_LEN:
        raise error(errno.EINVAL)
    port, addr = _REST.unpack_from(raw, _FAMILY.size)
    return SockaddrIn(addr, port, family)
