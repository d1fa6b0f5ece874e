"""What is asked about a world: around every prefix and address of its commands, with what its rules test."""

from __future__ import annotations

import random
import re
from typing import Final

from tests.oracle.world import Query, World, addr_number, addr_text

PREFIX: Final = re.compile(r"\b(\d+\.\d+\.\d+\.\d+)(?:/(\d+))?")
ADDRESS: Final = re.compile(r"addr add ([\d.]+)(?: peer ([\d.]+))?/(\d+) .*\bdev (\S+)")
ODD: Final = [addr_number(text) for text in (
    "0.0.0.0", "0.0.0.1", "127.0.0.1", "127.5.5.5", "127.255.255.255", "224.0.0.1", "224.0.0.251", "239.1.1.1",
    "232.0.0.1", "240.0.0.1", "255.255.255.255", "8.8.8.8", "192.0.2.255", "169.254.1.1",
)]  # fmt: skip
TOSES: Final = [0x04, 0x08, 0x10, 0x1C, 0xB8, 0xE0]
PORTS: Final = [1, 2, 52, 53, 54, 79, 80, 81, 443, 444, 999, 1000, 1001, 2000, 2001, 65_535]
UIDS: Final = [0, 1, 2, 999, 1000, 1001, 1500, 1501, 4_294_967_294]
LO: Final = 1
NO_DEVICE: Final = 77


class Asker:
    """Draws queries for one world."""

    def __init__(self, world: World, salt: int = 0) -> None:
        self.random = random.Random(f"{world.seed} {salt}")
        self.indices = [dev.ifindex for dev in world.devices]
        prefixes = {match.groups() for command in world.commands for match in PREFIX.finditer(command)}
        self.prefixes = sorted((addr_number(addr), int(length or 32)) for addr, length in prefixes)
        self.prefixes = [(addr, length) for addr, length in self.prefixes if length <= 32] or [(0xC000_0200, 24)]
        self.own = [0xC000_0201]
        self.links: dict[int, list[tuple[int, int]]] = {}  #: by device: what is on its link
        ifindex = {dev.name: dev.ifindex for dev in world.devices}
        for match in filter(None, map(ADDRESS.match, world.commands)):
            self.own.append(addr_number(match[1]))
            link = self.links.setdefault(ifindex.get(match[4], LO), [])
            link.append((addr_number(match[2] or match[1]), int(match[3])))

    def address(self) -> int:
        """At an edge of a prefix, inside, or just beside it."""
        if self.random.random() < 0.06:
            return self.random.choice(ODD)
        return self.near(*self.random.choice(self.prefixes))

    def near(self, addr: int, length: int) -> int:
        size = 1 << (32 - length)
        first = addr & ~(size - 1)
        offset = self.random.choice([0, 1, 2, size - 1, size, -1, self.random.randrange(size)])
        return (first + offset) & 0xFFFF_FFFF

    def source(self, iif: int) -> int:
        """A neighbour on the link it comes in from, one of ours where it goes out; or anything."""
        dice = self.random.random()
        if iif and dice < 0.6 and iif in self.links:
            return self.near(*self.random.choice(self.links[iif]))
        return self.random.choice(self.own) if dice < (0.1 if iif else 0.6) else self.address()

    def index(self) -> int:
        dice = self.random.random()
        return NO_DEVICE if dice < 0.01 else LO if dice < 0.08 else self.random.choice(self.indices)

    def some(self, chance: float, values: list[int], otherwise: int = 0) -> int:
        return self.random.choice(values) if self.random.random() < chance else otherwise

    def query(self) -> Query:
        dice = self.random.random()
        iif = self.index() if dice < 0.4 else 0
        return Query(
            dst=self.address(),
            src=self.source(iif) if self.random.random() < (0.96 if iif else 0.4) else 0,
            iif=iif,
            oif=self.index() if 0.4 <= dice < 0.55 or dice > 0.99 or dice < 0.01 else 0,
            mark=self.some(0.3, [1, 2, 3, 0x10, 0x11, 0xFF, 0x1_0001]),
            tos=self.some(0.3, TOSES) | (1 if self.random.random() < 0.003 else 0),
            ipproto=self.some(0.35, [1, 6, 6, 17, 17, 17]) if self.random.random() < 0.995 else 47,
            sport=self.some(0.25, PORTS),
            dport=self.some(0.25, PORTS),
            uid=self.some(0.25, UIDS, -1),
            fibmatch=self.random.random() < 0.2,
        )

    def queries(self, count: int) -> list[Query]:
        return [self.query() for _ in range(count)]


def shell(query: Query, names: dict[int, str]) -> str:
    """As typed: ``ip route get`` with everything that was said."""
    words = f"route get {'fibmatch ' if query.fibmatch else ''}{addr_text(query.dst)}"
    words += f" from {addr_text(query.src)}" if query.src else ""
    words += f" iif {names.get(query.iif, f'if{query.iif}')}" if query.iif else ""
    words += f" oif {names.get(query.oif, f'if{query.oif}')}" if query.oif else ""
    words += f" mark {query.mark}" if query.mark else ""
    words += f" tos {query.tos:#x}" if query.tos else ""
    words += f" ipproto {query.ipproto}" if query.ipproto else ""
    words += f" sport {query.sport}" if query.sport else ""
    words += f" dport {query.dport}" if query.dport else ""
    return words + (f" uid {query.uid}" if query.uid >= 0 else "")
