"""A routing table of the Internet's shape, the same for everybody who asks with the same numbers."""

from __future__ import annotations

import random
from typing import Final

Prefix = tuple[int, int]

#: How many routes a full BGP feed has.
FULL_FEED: Final = 972_000
#: Of those, by length; the rest, 62 %, are /24s.
SHAPE: Final = {
    8: 16, 9: 13, 10: 40, 11: 100, 12: 300, 13: 580, 14: 1_200, 15: 2_100, 16: 13_500, 17: 8_300, 18: 13_800,
    19: 25_000, 20: 44_000, 21: 51_000, 22: 107_000, 23: 97_500,
}  # fmt: skip
FIRST: Final = 1 << 24
LAST: Final = 224 << 24


def internet(count: int, seed: int = 1) -> list[Prefix]:
    """``count`` prefixes from 1.0.0.0 to 223.255.255.255, as (network, length), in no order."""
    rng = random.Random(seed)
    table: set[Prefix] = set()
    for length, share in SHAPE.items():
        wanted = len(table) + max(1, share * count // FULL_FEED)
        while len(table) < min(wanted, count):
            table.add(prefix(rng, length))
    while len(table) < count:
        table.add(prefix(rng, 24))
    prefixes = sorted(table)
    rng.shuffle(prefixes)
    return prefixes


def prefix(rng: random.Random, length: int) -> Prefix:
    return rng.randrange(FIRST, LAST) >> (32 - length) << (32 - length), length


def addresses(count: int, seed: int = 2) -> list[int]:
    """Anywhere where the prefixes are."""
    rng = random.Random(seed)
    return [rng.randrange(FIRST, LAST) for _ in range(count)]


def dotted(address: int) -> str:
    return ".".join(map(str, address.to_bytes(4, "big")))
