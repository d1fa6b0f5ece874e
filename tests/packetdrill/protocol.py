"""What crosses the socket between plugin.c and the daemon: a fixed head and a payload, both ways."""

from __future__ import annotations

import enum
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import socket

_REQUEST: Final = struct.Struct("=IiqqqqqQ")
_REPLY: Final = struct.Struct("=qiiqQ")
#: How long an address is, or what control messages there are, before them in a recvmsg's answer.
U32: Final = struct.Struct("=I")


class Op(enum.IntEnum):
    """enum operation of plugin.c."""

    HELLO = 1  #: from the main thread, before anything else
    SOCKET = 2
    BIND = 3
    LISTEN = 4
    ACCEPT = 5
    CONNECT = 6
    RECVMSG = 7
    SENDMSG = 8
    FCNTL = 9
    IOCTL = 10
    CLOSE = 11
    SHUTDOWN = 12
    GETSOCKOPT = 13
    SETSOCKOPT = 14
    POLL = 15
    NETDEV_SEND = 16
    NETDEV_RECEIVE = 17
    SLEEP = 18
    EPOLL_CREATE = 19
    EPOLL_CTL = 20
    EPOLL_WAIT = 21
    PIPE = 22
    SPLICE = 23
    SYSTEM = 24
    COMMAND = 25  #: from one of the programs that stand in for the system's


@dataclass
class Request:
    """One call. ``now`` in µs, or -1: whatever time it is. The rest is as the operation has it (calls.py)."""

    op: Op
    handle: int = -1
    args: tuple[int, int, int, int] = (0, 0, 0, 0)
    payload: bytes = b""
    now: int = -1
    done: int = 0  #: how much of a blocking send has been taken already
    opening: bool = False  #: a blocking send has started a connection, and waits for it
    asleep: bool = False  #: a blocking send has found no room
    deadline: int = -1  #: when a call that waits gives up, ns; -1: never


@dataclass
class Reply:
    """What the call returned; ``error`` is its errno where ``value`` is -1. ``now`` is filled in when it goes out."""

    value: int = 0
    error: int = 0
    extra: int = 0
    payload: bytes = b""
    now: int = 0


def receive_exactly(link: socket.socket, length: int) -> bytes | None:
    """``length`` bytes, or None if the other end has gone, which it may do with our answer unread."""
    data = bytearray()
    while len(data) < length:
        try:
            part = link.recv(length - len(data))
        except ConnectionResetError:
            return None
        if not part:
            return None
        data += part
    return bytes(data)


def receive_request(link: socket.socket) -> Request | None:
    """The next request; None at the end."""
    head = receive_exactly(link, _REQUEST.size)
    if head is None:
        return None
    op, handle, now, a, b, c, d, length = _REQUEST.unpack(head)
    payload = receive_exactly(link, length)
    return None if payload is None else Request(Op(op), handle, (a, b, c, d), payload, now)


def send_reply(link: socket.socket, reply: Reply) -> None:
    head = _REPLY.pack(reply.value, reply.error, reply.extra, reply.now, len(reply.payload))
    link.sendall(head + reply.payload)


def send_request(link: socket.socket, request: Request) -> None:
    head = _REQUEST.pack(request.op, request.handle, request.now, *request.args, len(request.payload))
    link.sendall(head + request.payload)


def receive_reply(link: socket.socket) -> Reply:
    """ConnectionError if the daemon has gone."""
    head = receive_exactly(link, _REPLY.size)
    if head is None:
        raise ConnectionError("the daemon is gone")
    value, error, extra, now, length = _REPLY.unpack(head)
    payload = receive_exactly(link, length)
    return Reply(value, error, extra, payload or b"", now)
