"""SipHash-2-4 (Aumasson, Bernstein 2012; Linux lib/siphash.c), where a key that is known must give Linux's numbers.

It works on 64 bits without a sign; here each number is two of 32 bits, which are the same interpreted and compiled.
"""

from __future__ import annotations

from typing import Final

from librt.strings import read_i32_le
from mypy_extensions import i64

_M: Final[i64] = 0xFFFF_FFFF

# "somepseudorandomlygeneratedbytes": what a state starts with, before the key
_SOME: Final[i64] = 0x736F_6D65
_PSEU: Final[i64] = 0x7073_6575
_DORA: Final[i64] = 0x646F_7261
_NDOM: Final[i64] = 0x6E64_6F6D
_LYGE: Final[i64] = 0x6C79_6765
_NERA: Final[i64] = 0x6E65_7261
_TEDB: Final[i64] = 0x7465_6462
_YTES: Final[i64] = 0x7974_6573


class SipHash:
    """SipHash-2-4 (Aumasson, Bernstein 2012) under a key of two 64-bit words, each as (high, low)."""

    def __init__(self, k0h: i64, k0l: i64, k1h: i64, k1l: i64) -> None:
        self.v0h: i64 = _SOME ^ k0h
        self.v0l: i64 = _PSEU ^ k0l
        self.v1h: i64 = _DORA ^ k1h
        self.v1l: i64 = _NDOM ^ k1l
        self.v2h: i64 = _LYGE ^ k0h
        self.v2l: i64 = _NERA ^ k0l
        self.v3h: i64 = _TEDB ^ k1h
        self.v3l: i64 = _YTES ^ k1l

    def block(self, high: i64, low: i64) -> None:
        """Take in 64 bits."""
        self.v3h ^= high
        self.v3l ^= low
        self._round()
        self._round()
        self.v0h ^= high
        self.v0l ^= low

    def finish(self) -> i64:
        """The low 32 bits of the hash; the last block must have been taken in, with the length in its first octet."""
        return self.finish64()[1]

    def finish64(self) -> tuple[i64, i64]:
        """All 64 bits of the hash, as (high, low)."""
        self.v2l ^= 0xFF
        for _ in range(4):
            self._round()
        return self.v0h ^ self.v1h ^ self.v2h ^ self.v3h, self.v0l ^ self.v1l ^ self.v2l ^ self.v3l

    def _round(self) -> None:
        self._add_v1_to_v0()
        self._add_v3_to_v2()
        # v0 += v3; v3 = v3 <<< 21 ^ v0
        low = self.v0l + self.v3l
        self.v0h = (self.v0h + self.v3h + (low >> 32)) & _M
        self.v0l = low & _M
        high = self.v3h
        self.v3h = ((high << 21 | self.v3l >> 11) & _M) ^ self.v0h
        self.v3l = ((self.v3l << 21 | high >> 11) & _M) ^ self.v0l
        # v2 += v1; v1 = v1 <<< 17 ^ v2; v2 <<<= 32
        low = self.v2l + self.v1l
        self.v2h = (self.v2h + self.v1h + (low >> 32)) & _M
        self.v2l = low & _M
        high = self.v1h
        self.v1h = ((high << 17 | self.v1l >> 15) & _M) ^ self.v2h
        self.v1l = ((self.v1l << 17 | high >> 15) & _M) ^ self.v2l
        high = self.v2h
        self.v2h = self.v2l
        self.v2l = high

    def _add_v1_to_v0(self) -> None:
        """v0 += v1; v1 = v1 <<< 13 ^ v0; v0 <<<= 32."""
        low = self.v0l + self.v1l
        self.v0h = (self.v0h + self.v1h + (low >> 32)) & _M
        self.v0l = low & _M
        high = self.v1h
        self.v1h = ((high << 13 | self.v1l >> 19) & _M) ^ self.v0h
        self.v1l = ((self.v1l << 13 | high >> 19) & _M) ^ self.v0l
        high = self.v0h
        self.v0h = self.v0l
        self.v0l = high

    def _add_v3_to_v2(self) -> None:
        """v2 += v3; v3 = v3 <<< 16 ^ v2."""
        low = self.v2l + self.v3l
        self.v2h = (self.v2h + self.v3h + (low >> 32)) & _M
        self.v2l = low & _M
        high = self.v3h
        self.v3h = ((high << 16 | self.v3l >> 16) & _M) ^ self.v2h
        self.v3l = ((self.v3l << 16 | high >> 16) & _M) ^ self.v2l


class SipHashKey:
    """128 secret bits (siphash_key_t)."""

    def __init__(self, secret: bytes) -> None:
        """``secret``: 16 bytes."""
        self.k0l: i64 = i64(read_i32_le(secret, 0)) & _M
        self.k0h: i64 = i64(read_i32_le(secret, 4)) & _M
        self.k1l: i64 = i64(read_i32_le(secret, 8)) & _M
        self.k1h: i64 = i64(read_i32_le(secret, 12)) & _M

    def state(self) -> SipHash:
        """A hash that has taken in nothing yet."""
        return SipHash(self.k0h, self.k0l, self.k1h, self.k1l)


def siphash_2u32(first: i64, second: i64, key: SipHashKey) -> tuple[i64, i64]:
    """The hash of two words of 32 bits, as (high, low)."""
    state = key.state()
    state.block(second, first)
    state.block(8 << 24, 0)
    return state.finish64()


def siphash_3u32(first: i64, second: i64, third: i64, key: SipHashKey) -> tuple[i64, i64]:
    """The same of three."""
    state = key.state()
    state.block(second, first)
    state.block(12 << 24, third)
    return state.finish64()


def swab32(value: i64) -> i64:
    """The four bytes of ``value`` the other way round."""
    return (value >> 24 | (value >> 8 & 0xFF00) | (value << 8 & 0xFF_0000) | value << 24) & _M
