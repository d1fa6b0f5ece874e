"""What messages to the kernel are made of: attributes, and the numbers that all kinds of them share (netlink(7))."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

SOL_NETLINK: Final = 270
NETLINK_GET_STRICT_CHK: Final = 12
NLMSG_ERROR: Final = 2
NLM_F_REQUEST: Final = 1
RTM_F_LOOKUP_TABLE: Final = 0x1000
RTM_F_FIB_MATCH: Final = 0x2000

_ATTRIBUTE: Final = struct.Struct("=HH")


def attribute(kind: int, data: bytes) -> bytes:
    return _ATTRIBUTE.pack(len(data) + 4, kind) + data + bytes(-len(data) % 4)


def u32(kind: int, value: int) -> bytes:
    return attribute(kind, struct.pack("=I", value))


def addr(kind: int, value: int) -> bytes:
    return attribute(kind, value.to_bytes(4, "big"))


def attributes(data: bytes, at: int, end: int) -> Iterator[tuple[int, bytes]]:
    """(kind, value), between ``at`` and ``end`` of ``data``."""
    while at + 4 <= end:
        length, kind = _ATTRIBUTE.unpack_from(data, at)
        yield kind & 0x3FFF, data[at + 4 : at + length]
        at += length + 3 & ~3
