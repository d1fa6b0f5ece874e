"""The kernel of the namespace that the thread is in, asked with ustack's messages: rtnetlink(7) in bytes.

So what ``ustack ip`` makes of a command line, and of an answer, is judged by the kernel and by iproute2 beside it.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from typing import TYPE_CHECKING, Any, Final

from tests import netlink
from tests.netlink import (
    NETLINK_GET_STRICT_CHK,
    NLM_F_REQUEST,
    NLMSG_ERROR,
    RTM_F_FIB_MATCH,
    RTM_F_LOOKUP_TABLE,
    SOL_NETLINK,
    addr,
    attribute,
    u32,
)
from ustack.cli.ip.transport import Transport
from ustack.io.host import write_sysctl
from ustack.rtnl.messages import (
    Ack,
    Addr,
    Hop,
    Link,
    Loaded,
    Nack,
    Neigh,
    Nexthop,
    Objects,
    Route,
    RouteBatch,
    Rtm,
    Rule,
    SetSysctl,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ustack.rtnl.messages import Object, RtnlAnswer, RtnlRequest

NETLINK_CAP_ACK: Final = 10
NETLINK_EXT_ACK: Final = 11
NLMSG_DONE: Final = 3
NLM_F_ACK: Final = 4
NLM_F_DUMP: Final = 0x300
NLM_F_ACK_TLVS: Final = 0x200

RTM_F_CLONED: Final = 0x200
USER_HZ: Final = 100
NUD_PERMANENT: Final = 0x80
NTF_PROXY: Final = 0x08
STATES: Final = {0: "UNKNOWN", 2: "DOWN", 3: "LOWERLAYERDOWN", 5: "DORMANT", 6: "UP"}
STATS: Final = (
    "rx_packets tx_packets rx_bytes tx_bytes rx_errors tx_errors rx_dropped tx_dropped multicast collisions "
    "rx_length_errors rx_over_errors rx_crc_errors rx_frame_errors rx_fifo_errors rx_missed_errors tx_aborted_errors "
    "tx_carrier_errors tx_fifo_errors tx_heartbeat_errors tx_window_errors"
).split()

#: RTM_NEW*: the next two are DEL and GET.
KINDS: Final[dict[type, int]] = {Link: 16, Addr: 20, Route: 24, Neigh: 28, Rule: 32, Nexthop: 104}
VERBS: Final = {"new": 0, "del": 1, "get": 2, "dump": 2}
NO_PORTS: Final = (0, 0)


def text(kind: int, value: str) -> bytes:
    return attribute(kind, value.encode() + b"\0")


def attributes(data: bytes) -> dict[int, bytes]:
    return dict(netlink.attributes(data, 0, len(data)))


def number(data: bytes | None) -> int:
    return int.from_bytes(data or b"", "little")


def address(data: bytes | None) -> int:
    return int.from_bytes(data or b"", "big")


def word(data: bytes | None) -> str:
    return (data or b"").split(b"\0")[0].decode()


class Kernel(Transport):
    """Answers as a stack's Rtnetlink does."""

    def __init__(self) -> None:
        self.socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        for option in (NETLINK_CAP_ACK, NETLINK_EXT_ACK, NETLINK_GET_STRICT_CHK):
            self.socket.setsockopt(SOL_NETLINK, option, 1)
        self.socket.bind((0, 0))

    def close(self) -> None:
        self.socket.close()

    def ask(self, request: RtnlRequest) -> RtnlAnswer:
        try:
            return self._answer(request)
        except OSError as reason:
            code = reason.errno or errno.EIO
            said = str(reason.strerror)
            return Nack(code, "" if said == os.strerror(code) else said)

    def _answer(self, request: RtnlRequest) -> RtnlAnswer:
        if isinstance(request, SetSysctl):
            write_sysctl(request.name, request.value)
            return Ack()
        if isinstance(request, RouteBatch):
            return self._batch(request)
        assert isinstance(request, Rtm)
        if request.verb == "flush":
            return Objects(list(self._flush(request.object)))
        if request.verb in ("get", "dump"):
            return Objects(self._get(request.object, request.verb == "dump"))
        self._send(request.verb, request.object, request.flags | NLM_F_ACK)
        return Ack()

    def _batch(self, batch: RouteBatch) -> Loaded:
        answer = Loaded(0)
        for place in range(len(batch.prefixes) // 5):
            prefix = batch.prefixes[place * 5 : place * 5 + 5]
            batch.like.dst, batch.like.dst_len = int.from_bytes(prefix[:4], "big"), prefix[4]
            try:
                self._send("new", batch.like, batch.flags | NLM_F_ACK)
                answer.taken += 1
            except OSError as reason:
                answer.refused[place] = reason.errno or errno.EIO
        return answer

    def _flush(self, what: Object) -> Iterator[Object]:
        assert isinstance(what, Route)
        wanted = {name: value for name in ("protocol", "scope", "rtype", "tos", "priority", "gateway", "prefsrc")
                  if (value := getattr(what, name))}  # fmt: skip
        for route in self._get(what, dump=True):
            assert isinstance(route, Route)
            if what.root and (route.dst_len < what.root[1] or (route.dst ^ what.root[0]) >> (32 - what.root[1])):
                continue
            if what.match and (route.dst_len > what.match[1] or (route.dst ^ what.match[0]) >> (32 - route.dst_len)):
                continue
            if all(getattr(route, name) == value for name, value in wanted.items()):
                self._send("del", route, NLM_F_ACK)
                yield route

    def _get(self, what: Object, dump: bool) -> list[Object]:
        decode = DECODERS[type(what)]
        asked = link_dump(what) if dump and isinstance(what, Link) else what
        verb, flags = ("dump", NLM_F_DUMP) if dump else ("get", 0)
        found = [decode(message) for message in self._send(verb, asked, flags)]
        if isinstance(what, Link) and what.ifindex:
            return [each for each in found if isinstance(each, Link) and each.ifindex == what.ifindex]
        return [each for each in found if each is not None]

    def _send(self, verb: str, what: Object, flags: int) -> list[bytes]:
        body = ENCODERS[type(what)](what, verb)
        kind = KINDS[type(what)] + VERBS[verb]
        self.socket.send(struct.pack("=IHHII", 16 + len(body), kind, flags | NLM_F_REQUEST, 1, 0) + body)
        return list(self._receive(bool(flags & NLM_F_ACK), flags & NLM_F_DUMP == NLM_F_DUMP))

    def _receive(self, acknowledged: bool, dump: bool) -> Iterator[bytes]:
        while True:
            data = self.socket.recv(1 << 20)
            while data:
                length, kind, flags = struct.unpack_from("=IHH", data)
                message, data = data[16:length], data[length + 3 & ~3 :]
                if kind in (NLMSG_ERROR, NLMSG_DONE):
                    return complain(message, flags, 4 if kind == NLMSG_DONE else 20)
                yield message
                if not dump and not acknowledged:
                    return


def complain(message: bytes, flags: int, skip: int) -> None:
    """Raises what an NLMSG_ERROR or NLMSG_DONE says, if it says anything."""
    (code,) = struct.unpack_from("=i", message)
    if code == 0:
        return
    said = attributes(message[skip:]).get(1) if flags & NLM_F_ACK_TLVS else None
    raise OSError(-code, word(said) or os.strerror(-code))


# -- links


def link_dump(what: Link) -> Link:
    return Link()


def link_to(link: Link, verb: str) -> bytes:
    body = struct.pack("=BxHiII", 0, 0, link.ifindex, link.flags or 0, link.change)
    body += text(3, link.name) if link.name else b""
    body += attribute(1, link.mac.to_bytes(6, "big")) if link.mac is not None else b""
    body += u32(4, link.mtu) if link.mtu is not None else b""
    return body + (u32(13, link.txqlen) if link.txqlen is not None else b"")


def link_from(message: bytes) -> Link:
    _, _, ifindex, flags = struct.unpack_from("=BxHiI", message)
    found = attributes(message[16:])
    stats = struct.unpack_from(f"={len(STATS)}Q", found[23])
    return Link(
        ifindex=ifindex,
        name=word(found[3]),
        kind=word(attributes(found.get(18, b"")).get(1)),
        flags=flags,
        mtu=number(found[4]),
        txqlen=number(found.get(13)),
        mac=address(found.get(1)),
        group=number(found.get(27)),
        min_mtu=number(found.get(50)),
        max_mtu=number(found.get(51)),
        operstate=STATES[number(found[16])],
        qdisc=word(found.get(6)),
        stats=dict(zip(STATS, stats, strict=True)) | {"carrier_changes": number(found.get(35))},
    )


# -- addresses


def addr_to(what: Addr, verb: str) -> bytes:
    body = struct.pack("=BBBBi", 2, what.prefixlen if verb != "dump" else 0, what.flags & 0xFF, what.scope or 0,
                       what.ifindex)  # fmt: skip
    if verb == "dump":
        return body
    body += addr(2, what.local)
    if not what.wildcard:
        body += addr(1, what.local if what.peer is None else what.peer)
    body += addr(4, what.broadcast) if what.broadcast is not None else b""
    body += text(3, what.label) if what.label else b""
    body += u32(9, what.metric) if what.metric else b""
    return body + (u32(8, what.flags) if what.flags else b"")


def addr_from(message: bytes) -> Addr:
    _, prefixlen, _, scope, ifindex = struct.unpack_from("=BBBBi", message)
    found = attributes(message[8:])
    local, peer = address(found[2]), address(found[1])
    return Addr(
        ifindex=ifindex,
        local=local,
        peer=peer if peer != local else None,
        prefixlen=prefixlen,
        broadcast=address(found[4]) if 4 in found else None,
        label=word(found.get(3)),
        scope=scope,
        flags=number(found.get(8)),
        metric=number(found.get(9)),
    )


# -- routes


def route_to(route: Route, verb: str) -> bytes:
    flags = route.flags & 0xFF
    if verb == "get":
        flags |= RTM_F_LOOKUP_TABLE | (RTM_F_FIB_MATCH if route.fibmatch else 0)
    if verb == "dump":
        flags = RTM_F_CLONED if route.cached else 0
        head = struct.pack("=BBBBBBBBI", 2, 0, 0, 0, route.table if route.table < 256 else 252, route.protocol, 0,
                           route.rtype, flags)  # fmt: skip
        body = u32(15, route.table) if route.table else b""
        return head + body + (u32(4, route.ifindex) if route.ifindex else b"")
    table = 0 if verb == "get" else route.table if route.table < 256 else 0
    head = struct.pack("=BBBBBBBBI", 2, route.dst_len, route.src_len, route.tos, table, route.protocol,
                       route.scope or 0, route.rtype, flags)  # fmt: skip
    body = b"".join(
        make(kind, value)
        for make, kind, value in (
            (addr, 2, route.src), (u32, 3, route.iif), (u32, 4, route.ifindex), (addr, 5, route.gateway),
            (addr, 7, route.prefsrc), (u32, 15, route.table if route.table > 255 else 0), (u32, 16, route.mark),
            (u32, 30, route.nhid),
        )
        if value
    )  # fmt: skip
    body += addr(1, route.dst) if route.dst_len else b""
    body += u32(6, route.priority) if route.priority else b""
    body += u32(25, route.uid) if route.uid is not None else b""
    body += attribute(27, bytes([route.ipproto])) if route.ipproto else b""
    body += attribute(28, route.sport.to_bytes(2, "big")) if route.sport else b""
    body += attribute(29, route.dport.to_bytes(2, "big")) if route.dport else b""
    metrics = b"".join(u32(kind, value) for kind, value in route.metrics.items())
    metrics += attribute(16, route.congctl.encode()) if route.congctl else b""
    body += attribute(8, metrics) if metrics else b""
    return head + body + (attribute(9, b"".join(map(hop_to, route.hops))) if route.hops else b"")


def hop_to(hop: Hop) -> bytes:
    gateway = addr(5, hop.gateway) if hop.gateway else b""
    return struct.pack("=HBBi", 8 + len(gateway), hop.flags, hop.weight - 1, hop.ifindex) + gateway


def hops_from(data: bytes) -> list[Hop]:
    hops = []
    while len(data) >= 8:
        length, flags, weight, ifindex = struct.unpack_from("=HBBi", data)
        gateway = address(attributes(data[8:length]).get(5))
        hops.append(Hop(ifindex=ifindex, gateway=gateway, weight=weight + 1, flags=flags))
        data = data[length + 3 & ~3 :]
    return hops


def route_from(message: bytes) -> Route | None:
    family, dst_len, src_len, tos, table, protocol, scope, rtype, flags = struct.unpack_from("=BBBBBBBBI", message)
    found = attributes(message[12:])
    metrics = attributes(found.get(8, b""))
    expires = struct.unpack_from("=IIi", found[12])[2] if 12 in found else 0
    return None if family != 2 else Route(
        dst=address(found.get(1)), dst_len=dst_len, tos=tos, table=number(found.get(15)) or table, protocol=protocol,
        scope=scope, rtype=rtype, flags=flags, priority=number(found.get(6)) or None, gateway=address(found.get(5)),
        ifindex=number(found.get(4)), prefsrc=address(found.get(7)),
        metrics={kind: number(data) for kind, data in metrics.items() if kind != 16}, congctl=word(metrics.get(16)),
        hops=hops_from(found.get(9, b"")), nhid=number(found.get(30)), src=address(found.get(2)), src_len=src_len,
        iif=number(found.get(3)), mark=number(found.get(16)), uid=number(found[25]) if 25 in found else None,
        expires=expires // USER_HZ if expires else None, cached=bool(flags & RTM_F_CLONED),
    )  # fmt: skip


# -- rules


def rule_to(rule: Rule, verb: str) -> bytes:
    if verb == "dump":
        return struct.pack("=BBBBBBBBI", 2, 0, 0, 0, 0, 0, 0, 0, 0)
    head = struct.pack("=BBBBBBBBI", 2, rule.dst_len, rule.src_len, rule.tos, rule.table if rule.table < 256 else 0, 0,
                       0, rule.action, rule.flags & 2)  # fmt: skip
    body = addr(1, rule.dst) if rule.dst_len else b""
    body += addr(2, rule.src) if rule.src_len else b""
    body += text(3, rule.iif) if rule.iif else b""
    body += text(17, rule.oif) if rule.oif else b""
    body += u32(15, rule.table) if rule.table > 255 else b""
    for kind, value in ((6, rule.priority), (4, rule.goto or None), (10, rule.mark or None), (16, rule.mask),
                        (14, rule.suppress_prefixlength), (13, rule.suppress_ifgroup)):  # fmt: skip
        body += u32(kind, value) if value is not None else b""
    for kind, pair in ((23, rule.sport), (24, rule.dport)):
        body += attribute(kind, struct.pack("=HH", *pair)) if pair else b""
    body += attribute(20, struct.pack("=II", *rule.uidrange)) if rule.uidrange else b""
    body += attribute(22, bytes([rule.ipproto])) if rule.ipproto else b""
    return head + body + (attribute(21, bytes([rule.protocol])) if rule.protocol else b"")


def rule_from(message: bytes) -> Rule:
    _, dst_len, src_len, tos, table, _, _, action, flags = struct.unpack_from("=BBBBBBBBI", message)
    found = attributes(message[12:])
    ports = {kind: struct.unpack("=HH", found[kind]) for kind in (23, 24) if kind in found}
    prefixlen, group = number(found.get(14)), number(found.get(13))
    return Rule(
        priority=number(found.get(6)), action=action, table=number(found.get(15)) or table, goto=number(found.get(4)),
        src=address(found.get(2)), src_len=src_len, dst=address(found.get(1)), dst_len=dst_len, tos=tos,
        iif=word(found.get(3)), oif=word(found.get(17)), mark=number(found.get(10)),
        mask=number(found[16]) if 16 in found else None, ipproto=number(found.get(22)), sport=ports.get(23),
        dport=ports.get(24), uidrange=struct.unpack("=II", found[20]) if 20 in found else None,
        suppress_prefixlength=prefixlen if 14 in found and prefixlen < 1 << 31 else None,
        suppress_ifgroup=group if 13 in found and group < 1 << 31 else None, protocol=number(found.get(21)),
        flags=flags,
    )  # fmt: skip


# -- neighbours


def neigh_to(neigh: Neigh, verb: str) -> bytes:
    flags = neigh.flags | (NTF_PROXY if neigh.proxy else 0)
    if verb == "dump":
        ifindex = u32(8, neigh.ifindex) if neigh.ifindex else b""
        return struct.pack("=BxxxiHBB", 2, 0, 0, NTF_PROXY if neigh.proxy else 0, 0) + ifindex
    state = 0 if verb == "get" else neigh.state
    head = struct.pack("=BxxxiHBB", 2, neigh.ifindex, state, flags, 0)
    mac = attribute(2, neigh.mac.to_bytes(6, "big")) if neigh.mac is not None else b""
    return head + addr(1, neigh.dst) + mac + (attribute(12, bytes([neigh.protocol])) if neigh.protocol else b"")


def neigh_from(message: bytes) -> Neigh:
    _, ifindex, state, flags = struct.unpack_from("=BxxxiHB", message)
    found = attributes(message[12:])
    confirmed, used, updated, refcnt = struct.unpack("=4I", found.get(3, bytes(16)))
    return Neigh(
        ifindex=ifindex, dst=address(found[1]), mac=address(found[2]) if 2 in found else None, state=state,
        proxy=bool(flags & NTF_PROXY), flags=flags & ~NTF_PROXY, protocol=number(found.get(12)),
        probes=number(found.get(4)), refcnt=refcnt, used=used // USER_HZ, confirmed=confirmed // USER_HZ,
        updated=updated // USER_HZ,
    )  # fmt: skip


# -- next-hop objects


def nexthop_to(nexthop: Nexthop, verb: str) -> bytes:
    speaks = nexthop.gateway or nexthop.ifindex or nexthop.blackhole
    family = 2 if verb == "new" and speaks else 0
    head = struct.pack("=BBBBI", family, 0, 0 if verb == "dump" else nexthop.protocol, 0, nexthop.flags & 4)
    if verb == "dump":
        body = u32(5, nexthop.ifindex) if nexthop.ifindex else b""
        return head + body + (attribute(9, b"") if nexthop.groups else b"")
    body = u32(1, nexthop.id) if nexthop.id else b""
    body += addr(6, nexthop.gateway) if nexthop.gateway else b""
    body += u32(5, nexthop.ifindex) if nexthop.ifindex else b""
    body += attribute(4, b"") if nexthop.blackhole else b""
    group = b"".join(struct.pack("=IBBH", number_, weight - 1, 0, 0) for number_, weight in nexthop.group)
    return head + body + (attribute(2, group) if group else b"")


def nexthop_from(message: bytes) -> Nexthop:
    _, scope, protocol, _, flags = struct.unpack_from("=BBBBI", message)
    found = attributes(message[8:])
    group = [(number_, weight + 1) for number_, weight, _, _ in struct.iter_unpack("=IBBH", found.get(2, b""))]
    return Nexthop(
        id=number(found.get(1)), gateway=address(found.get(6)), ifindex=number(found.get(5)), scope=scope,
        protocol=protocol, flags=flags, blackhole=4 in found, group=group,
    )  # fmt: skip


ENCODERS: Final[dict[type, Callable[[Any, str], bytes]]] = {
    Link: link_to, Addr: addr_to, Route: route_to, Neigh: neigh_to, Rule: rule_to, Nexthop: nexthop_to,
}  # fmt: skip
DECODERS: Final[dict[type, Callable[[bytes], Object | None]]] = {
    Link: link_from, Addr: addr_from, Route: route_from, Neigh: neigh_from, Rule: rule_from, Nexthop: nexthop_from,
}  # fmt: skip
