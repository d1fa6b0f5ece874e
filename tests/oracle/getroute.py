"""RTM_GETROUTE by hand: 5,000 questions in a tenth of a second, which an object layer takes seconds for."""

from __future__ import annotations

import os
import socket
import struct
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from tests.netlink import (
    NETLINK_GET_STRICT_CHK,
    NLM_F_REQUEST,
    NLMSG_ERROR,
    RTM_F_FIB_MATCH,
    RTM_F_LOOKUP_TABLE,
    SOL_NETLINK,
    addr,
    attribute,
    attributes,
    u32,
)
from tests.oracle.world import Answer, Query

if TYPE_CHECKING:
    from collections.abc import Iterator

RTM_NEWROUTE: Final = 24
RTM_GETROUTE: Final = 26

RTA_DST, RTA_SRC, RTA_IIF, RTA_OIF, RTA_GATEWAY, RTA_PRIORITY, RTA_PREFSRC, RTA_METRICS, RTA_MULTIPATH = range(1, 10)
RTA_TABLE, RTA_MARK, RTA_UID, RTA_IP_PROTO, RTA_SPORT, RTA_DPORT, RTA_NH_ID = 15, 16, 25, 27, 28, 29, 30
RTAX_CC_ALGO: Final = 16

BATCH: Final = 64  #: questions in one sendmsg; the answers must fit into the receive buffer

HEADER: Final = struct.Struct("=IHHII")
RTMSG: Final = struct.Struct("=BBBBBBBBI")


def pack(query: Query, sequence: int) -> bytes:
    """The message, as ``ip route get`` makes it."""
    parts = [addr(RTA_DST, query.dst)]
    if query.src:
        parts.append(addr(RTA_SRC, query.src))
    for kind, value in ((RTA_IIF, query.iif), (RTA_OIF, query.oif), (RTA_MARK, query.mark)):
        if value:
            parts.append(u32(kind, value))
    if query.uid >= 0:
        parts.append(u32(RTA_UID, query.uid))
    if query.ipproto:
        parts.append(attribute(RTA_IP_PROTO, bytes([query.ipproto])))
    for kind, port in ((RTA_SPORT, query.sport), (RTA_DPORT, query.dport)):
        if port:
            parts.append(attribute(kind, port.to_bytes(2, "big")))
    flags = RTM_F_LOOKUP_TABLE | (RTM_F_FIB_MATCH if query.fibmatch else 0)
    src_len = 32 if query.src else 0
    body = RTMSG.pack(socket.AF_INET, 32, src_len, query.tos, 0, 0, 0, 0, flags) + b"".join(parts)
    return HEADER.pack(16 + len(body), RTM_GETROUTE, NLM_F_REQUEST, sequence, 0) + body


def metrics_of(data: bytes) -> tuple[tuple[int, int | str], ...]:
    """RTA_METRICS: nested attributes, RTAX_CC_ALGO a name."""
    found: list[tuple[int, int | str]] = []
    for kind, value in attributes(data, 0, len(data)):
        if kind == RTAX_CC_ALGO:
            found.append((kind, value.rstrip(b"\0").decode()))
        else:
            found.append((kind, int.from_bytes(value, "little")))
    return tuple(sorted(found))


def hops_of(data: bytes) -> tuple[tuple[int, int, int, int], ...]:
    """RTA_MULTIPATH: struct rtnexthop (length, flags, weight - 1, ifindex), each with attributes of its own."""
    hops = []
    at = 0
    while at + 8 <= len(data):
        length, flags, weight, ifindex = struct.unpack_from("=HBBi", data, at)
        gateway = 0
        for kind, value in attributes(data, at + 8, at + length):
            if kind == RTA_GATEWAY:
                gateway = int.from_bytes(value, "big")
        hops.append((ifindex, gateway, weight + 1, flags))
        at += length + 3 & ~3
    return tuple(hops)


#: Attributes that are an address, and those that are a number of this machine's byte order.
ADDRESSES: Final = {RTA_DST: "dst", RTA_SRC: "src", RTA_GATEWAY: "gateway", RTA_PREFSRC: "prefsrc"}
NUMBERS: Final = {
    RTA_IIF: "iif",
    RTA_OIF: "oif",
    RTA_PRIORITY: "priority",
    RTA_TABLE: "table",
    RTA_MARK: "mark",
    RTA_UID: "uid",
    RTA_NH_ID: "nhid",
}


def parse(data: bytes) -> Answer:
    """One message, an answer or an error."""
    length, message, _, _, _ = HEADER.unpack_from(data)
    if message == NLMSG_ERROR:
        return Answer(error=-int.from_bytes(data[16:20], "little", signed=True))
    _, dst_len, _, tos, _, protocol, scope, rtype, flags = RTMSG.unpack_from(data, 16)
    found: dict[str, int] = {}
    metrics: tuple[tuple[int, int | str], ...] = ()
    hops: tuple[tuple[int, int, int, int], ...] = ()
    for kind, value in attributes(data, 28, length):
        if kind in ADDRESSES:
            found[ADDRESSES[kind]] = int.from_bytes(value, "big")
        elif kind in NUMBERS:
            found[NUMBERS[kind]] = int.from_bytes(value, "little")
        elif kind == RTA_METRICS:
            metrics = metrics_of(value)
        elif kind == RTA_MULTIPATH:
            hops = hops_of(value)
    return Answer(
        rtype=rtype,
        scope=scope,
        tos=tos,
        protocol=protocol,
        flags=flags,
        dst_len=dst_len,
        metrics=metrics,
        hops=hops,
        **found,
    )


@contextmanager
def one_processor() -> Iterator[None]:
    """Stay on one: the kernel keeps what it has looked up for each, and our order of asking is to be its own."""
    usual = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {sorted(usual)[os.getpid() % len(usual)]})
    try:
        yield
    finally:
        os.sched_setaffinity(0, usual)


class RouteAsker:
    """An rtnetlink socket of the namespace that it was made in."""

    def __init__(self) -> None:
        self.sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
        self.sock.setsockopt(SOL_NETLINK, NETLINK_GET_STRICT_CHK, 1)
        self.sock.bind((0, 0))
        self.sock.settimeout(5)

    def ask(self, queries: list[Query]) -> list[Answer]:
        """One answer for each, in order."""
        answers: list[Answer] = []
        with one_processor():
            for start in range(0, len(queries), BATCH):
                batch = queries[start : start + BATCH]
                self.sock.send(b"".join(pack(query, at) for at, query in enumerate(batch)))
                answers.extend(parse(self.sock.recv(65_536)) for _ in batch)
        return answers

    def close(self) -> None:
        self.sock.close()
