"""Facts in words that a reader of ss, ip and tcpdump knows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mypy_extensions import i64

from ustack.sock import MSG_DONTWAIT, TCP_CLOSE, TCP_LISTEN
from ustack.trace.given import Given, Numbers
from ustack.wire.ipv4 import addr_to_str

if TYPE_CHECKING:
    from ustack.sock import Sock
    from ustack.trace.journey import Facts

_NETIDS: Final = {6: "tcp", 17: "udp", 1: "icmp"}


def endpoint(addr: i64, port: i64) -> str:
    """``192.0.2.2:4747``, ``*:4747`` where it may be any address."""
    return f"{addr_to_str(addr) if addr else '*'}:{port}"


class SocketGiven(Given):
    """Whose call it is."""

    def __init__(self, sk: Sock) -> None:
        self.protocol: i64 = sk.protocol
        self.saddr: i64 = sk.rcv_saddr or sk.saddr
        self.num: i64 = sk.num
        self.connected: bool = sk.daddr != 0 and sk.state != TCP_LISTEN and (sk.state != TCP_CLOSE or sk.dport != 0)
        self.daddr: i64 = sk.daddr
        self.dport: i64 = sk.dport

    def name(self) -> str:
        netid = _NETIDS.get(int(self.protocol), f"proto {self.protocol}")
        local = f"{netid} {endpoint(self.saddr, self.num)}"
        return f"{local} > {endpoint(self.daddr, self.dport)}" if self.connected else local

    def facts(self) -> Facts:
        return {"socket": self.name()}


class SendGiven(SocketGiven):
    """What a sending call is given; ``port`` is negative without an address."""

    def __init__(self, sk: Sock, length: i64, flags: i64, addr: i64, port: i64) -> None:
        super().__init__(sk)
        self.length: i64 = length
        self.flags: i64 = flags & ~MSG_DONTWAIT  # that one is always there: nobody waits here
        self.addr: i64 = addr
        self.port: i64 = port

    def facts(self) -> Facts:
        facts: Facts = {"socket": self.name(), "length": self.length}
        if self.port >= 0:
            facts["to"] = endpoint(self.addr, self.port)
        if self.flags:
            facts["flags"] = f"0x{self.flags:x}"
        return facts


class CallGiven(SocketGiven):
    """Whose call it is, and with which numbers."""

    def __init__(self, sk: Sock, name: str, value: i64, other_name: str = "", other: i64 = 0) -> None:
        super().__init__(sk)
        self.numbers: Numbers = Numbers(name, value, other_name, other)

    def facts(self) -> Facts:
        return {"socket": self.name(), **self.numbers.facts()}


def socket_name(sk: Sock) -> str:
    """``udp 192.0.2.1:4747 > 192.0.2.2:7``, or without the peer that it has not got."""
    return SocketGiven(sk).name()


def usec(ns: i64) -> str:
    """A time as ss tells it: ``1.5 ms``."""
    if ns < 0:
        return "unknown"
    if ns < 1_000_000:
        return f"{ns / 1_000:g} us"
    if ns < 1_000_000_000:
        return f"{ns / 1_000_000:g} ms"
    return f"{ns / 1_000_000_000:g} s"
