"""What the tests of wire/ share: strategies for fields, the reference checksum, hostile variations of good bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random
from typing import Any, TypeVar

from hypothesis import settings
from hypothesis import strategies as st

F = TypeVar("F", bound=Callable[..., Any])

U8 = st.integers(0, 0xFF)
U16 = st.integers(0, 0xFFFF)
U32 = st.integers(0, 0xFFFFFFFF)
MAC = st.integers(0, 0xFFFFFFFFFFFF)
PAYLOAD = st.binary(max_size=64)


def examples(count: int) -> Callable[[F], F]:
    """``count`` examples, the same ones at each run, without a limit on the time of a single one."""
    chosen: Callable[[F], F] = settings(max_examples=count, deadline=None, derandomize=True, database=None)
    return chosen


def values(header: object, names: str) -> tuple[int, ...]:
    """The attributes ``names`` (separated by blanks) of a parsed header."""
    return tuple(getattr(header, name) for name in names.split())


def reference_sum(data: bytes) -> int:
    """RFC 1071 section 1 word by word: the ones-complement sum, carries added back, not inverted."""
    total = 0
    for at in range(0, len(data) - 1, 2):
        total += data[at] << 8 | data[at + 1]
        total = (total & 0xFFFF) + (total >> 16)
    if len(data) % 2:
        total += data[-1] << 8
        total = (total & 0xFFFF) + (total >> 16)
    return total


def flipped(data: bytes) -> Iterator[bytes]:
    """``data`` with each single bit turned over."""
    for bit in range(len(data) * 8):
        changed = bytearray(data)
        changed[bit // 8] ^= 0x80 >> bit % 8
        yield bytes(changed)


def noise(seed: int, count: int, longest: int) -> Iterator[bytes]:
    """``count`` random strings of 0 to ``longest`` bytes."""
    source = Random(seed)
    for _ in range(count):
        yield source.randbytes(source.randint(0, longest))
