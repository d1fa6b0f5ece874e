"""Messages that make no sense: each gets an answer, none an exception, and the stack goes on."""

from __future__ import annotations

import random
from typing import Any, get_args

import msgspec
import pytest

from tests.rtnl.place import ETH0, Place, ip
from ustack.rtnl.messages import (
    Addr,
    GetSysctl,
    Hop,
    Message,
    More,
    Neigh,
    Nexthop,
    Object,
    Objects,
    Route,
    RouteBatch,
    Rtm,
    RtnlAnswer,
    RtnlRequest,
    SetSysctl,
    Verb,
)

ROUNDS = 1500
INTS: list[int] = [
    *range(-2, 10), 24, 31, 32, 33, 252, 253, 254, 255, 256, 0x400, 0x600, 0xFFFF, 0x10000, ip("192.0.2.1"),
    ip("192.0.2.0"), ip("192.0.2.254"), ip("203.0.113.0"), ip("224.0.0.1"), 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF,
    1 << 32, (1 << 48) - 1, (1 << 63) - 1, -(1 << 63), (1 << 64) - 1,
]  # fmt: skip
#: Mostly such as can be, or nothing but ERANGE would ever be seen.
LIKELY: list[int] = [
    *range(10),
    24,
    32,
    ETH0,
    254,
    ip("192.0.2.0"),
    ip("192.0.2.1"),
    ip("192.0.2.254"),
    ip("203.0.113.0"),
]
NAMED = {
    "ifindex": [0, 1, 2, 3, 9], "gateway": [ip("192.0.2.254")], "dst": [ip("203.0.113.0"), ip("192.0.2.9")],
    "dst_len": [24, 32], "local": [ip("192.0.2.1"), ip("198.51.100.1")], "prefixlen": [24, 32], "table": [5, 254],
    "prefsrc": [ip("192.0.2.1")], "nhid": [1, 2], "id": [1, 2], "mtu": [1400, 1500], "priority": [5, 6],
    "state": [0, 2, 4, 0x80], "action": [1, 6], "flags": [0], "src_len": [0], "scope": [0, 253], "rtype": [0, 1, 6],
}  # fmt: skip
TEXTS = ["", "eth0", "eth1", "lo", "nosuch", "reno", "x" * 300, "a/b", "\0", "eth0:ü", "net.ipv4.ip_forward", "1"]


class Fuzz:
    """Requests by chance."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def number(self) -> int:
        numbers: list[int] = LIKELY if self.random.random() < 0.97 else INTS
        return self.random.choice(numbers)

    def value(self, kind: object) -> Any:
        """Something of type ``kind``, as msgspec.inspect describes it."""
        info = msgspec.inspect
        if isinstance(kind, info.UnionType):
            return self.value(self.random.choice(kind.types))
        if isinstance(kind, info.IntType):
            return self.number()
        if isinstance(kind, info.BoolType):
            return self.random.random() < 0.5
        if isinstance(kind, info.StrType):
            return self.random.choice(TEXTS)
        if isinstance(kind, info.ListType):
            return [self.value(kind.item_type) for _ in range(self.random.randrange(3))]
        if isinstance(kind, info.TupleType):
            return tuple(self.value(item) for item in kind.item_types)
        if isinstance(kind, info.DictType):
            return {self.number(): self.number() for _ in range(self.random.randrange(3))}
        if isinstance(kind, info.StructType):
            return self.struct(kind.cls)
        return None

    def field(self, name: str, kind: object) -> Any:
        known = NAMED.get(name)
        return self.random.choice(known) if known and self.random.random() < 0.8 else self.value(kind)

    def struct(self, cls: type) -> Any:
        fields = msgspec.inspect.type_info(cls)
        assert isinstance(fields, msgspec.inspect.StructType)
        chosen = [each for each in fields.fields if each.required or self.random.random() < 0.25]
        made = {each.name: self.field(each.name, each.type) for each in chosen}
        return cls(**{name: value for name, value in made.items() if name != "stats"})

    def request(self) -> RtnlRequest:
        way = self.random.random()
        if way < 0.03:
            return More(self.number())
        if way < 0.06:
            like = self.struct(Route)
            return RouteBatch(like, self.random.randbytes(5 * self.random.randrange(4)), self.flags())
        if way < 0.08:
            name = self.random.choice(TEXTS)
            return GetSysctl(name) if self.random.random() < 0.5 else SetSysctl(name, "1")
        verb = self.random.choice(get_args(Verb))
        return Rtm(verb, self.struct(self.random.choice(get_args(Object))), self.flags())

    def flags(self) -> int:
        return self.random.choice([0, 0x400, 0x600, 0x500, 0xC00, 0x100, self.number()])


@pytest.mark.parametrize("seed", range(4))
def test_whatever_is_asked_is_answered(seed: int) -> None:
    place = Place()
    place.add(Addr(ifindex=ETH0, local=ip("192.0.2.1"), prefixlen=24))
    watch = place.watch()
    fuzz = Fuzz(seed)
    done = 0
    for _ in range(ROUNDS):
        answer = place.rtnetlink.request_piece(fuzz.request())
        assert isinstance(answer, RtnlAnswer)
        done += type(answer).__name__ in ("Ack", "Loaded")
        watch.events.clear()
    assert done > 10  # some of it did make sense
    for kind in (Addr, Route, Neigh, Nexthop):
        assert isinstance(place.ask("dump", kind()), Objects)
    place.stack.poll(place.stack.net.now + 10**9)
    assert place.stack.unaccounted() == 0


def test_what_is_nested_is_looked_at_too() -> None:
    place = Place()
    for route in (Route(hops=[Hop(gateway=1 << 40)]), Route(root=(1 << 40, 0)), Route(metrics={1 << 40: 1})):
        assert isinstance(route, Message)
        assert place.refusal("dump", route)[1] == place.refusal("new", route)[1] == "integer out of range"
