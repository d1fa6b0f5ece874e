"""The stack's random source and its keyed hash, both grown from one seed handed in from outside.

The daemon seeds it from the operating system, a simulation from a number: the core itself never asks anybody.
Linux: get_random_u32(), siphash_*().
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Final

from librt.strings import read_i32_be
from mypy_extensions import i64

SEED_LEN: Final = 16
_BLOCK: Final = 64


class Entropy:
    """BLAKE2b in counter mode. Not for bulk: about 1 µs for every 16 words."""

    def __init__(self, seed: bytes) -> None:
        """``seed``: at least 16 bytes that an attacker does not know. Raises ValueError if shorter."""
        if len(seed) < SEED_LEN:
            raise ValueError(f"seed of {len(seed)} bytes, {SEED_LEN} needed")
        self._seed: bytes = seed if len(seed) <= _BLOCK else blake2b(seed).digest()
        self._counter: int = 0
        self._pool: bytes = b""
        self._used: i64 = _BLOCK

    def u32(self) -> i64:
        """A uniform number in [0, 2**32) (get_random_u32)."""
        if self._used + 4 > len(self._pool):
            self._refill()
        word: i64 = i64(read_i32_be(self._pool, self._used)) & 0xFFFF_FFFF
        self._used += 4
        return word

    def below(self, ceiling: i64) -> i64:
        """A number in [0, ceiling), ceiling <= 2**32 (get_random_u32_below; its bias is under ceiling / 2**32)."""
        word = self.u32()
        if ceiling < 0x8000_0000:
            return (word * ceiling) >> 32
        return (int(word) * int(ceiling)) >> 32  # the product needs 64 bits: an i64 would wrap

    def take(self, length: int) -> bytes:
        """``length`` random bytes, for a secret key."""
        pieces: list[bytes] = []
        left = (length + 3) // 4 * 4  # whole words, as if they were drawn one by one
        while left > 0:
            if self._used + 4 > len(self._pool):
                self._refill()
            piece = self._pool[self._used : self._used + left]
            pieces.append(piece)
            self._used += len(piece)
            left -= len(piece)
        return b"".join(pieces)[:length]

    def _refill(self) -> None:
        self._pool = blake2b(self._counter.to_bytes(8, "big"), key=self._seed).digest()
        self._counter += 1
        self._used = 0


def keyed_hash(secret: bytes, message: bytes) -> i64:
    """63 bits of BLAKE2b(message) under ``secret`` (16 to 64 bytes): a PRF where Linux uses siphash."""
    return int.from_bytes(blake2b(message, digest_size=8, key=secret).digest(), "big") >> 1
