"""The Internet checksum: full (RFC 1071), over the pseudo-header (RFC 9293, RFC 768), incremental (RFC 1624).

Sums are ones-complement sums of 16-bit words in network byte order, folded to 16 bits and not inverted, unless a
name says otherwise. Ones complement has two zeros: a sum is 0 only when every word was 0, else 0xFFFF, so correct
data, its checksum field included, always sums to 0xFFFF.

The sum has two implementations, because the fastest one depends on whether this file is compiled (COMPILED).
"""

from __future__ import annotations

from types import FunctionType
from typing import Final

from librt.strings import read_i16_le, read_i32_le, read_i64_le
from mypy_extensions import i64

#: The sum of correct data with its checksum in place.
VALID: Final = 0xFFFF

#: Room for 2**30 additions of 32 bits in a signed 64-bit number; nobody sums more than 64 KiB at a time.
_LOW: Final = 0xFFFFFFFF


def csum_words(b: bytes, start: i64, end: i64, initial: i64 = 0) -> i64:
    """``csum_partial``, fast when compiled: eight bytes at a time into one 64-bit number, 32 bytes a turn."""
    total: i64 = 0
    at = start
    while at + 32 <= end:
        v0 = read_i64_le(b, at)
        v1 = read_i64_le(b, at + 8)
        v2 = read_i64_le(b, at + 16)
        v3 = read_i64_le(b, at + 24)
        total += (v0 & _LOW) + ((v0 >> 32) & _LOW) + (v1 & _LOW) + ((v1 >> 32) & _LOW)
        total += (v2 & _LOW) + ((v2 >> 32) & _LOW) + (v3 & _LOW) + ((v3 >> 32) & _LOW)
        at += 32
    while at + 4 <= end:
        total += i64(read_i32_le(b, at)) & _LOW
        at += 4
    if at + 2 <= end:
        total += i64(read_i16_le(b, at)) & 0xFFFF
        at += 2
    if at < end:
        total += i64(b[at])  # RFC 1071 1 [2]: an odd last byte counts as if a zero byte followed it
    # RFC 1071 2 (B): the sum does not depend on the byte order, only its two bytes do; so swap once at the end
    return fold(swab16(fold(total)) + initial)


def csum_bigint(b: bytes, start: i64, end: i64, initial: i64 = 0) -> i64:
    """``csum_partial``, fast when interpreted: the bytes as one long number, modulo 65535.

    2**16 is 1 modulo 65535, so every 16-bit digit counts once, which is the ones-complement sum.
    """
    number = int.from_bytes(b[start:end], "big")
    if (end - start) & 1:
        number <<= 8
    number += int(initial)
    # a number that 65535 divides is one of two zeros: 0 only if nothing but zeros went in
    return number % 0xFFFF or (0xFFFF if number else 0)


#: Whether this file runs compiled: a compiled function is not a FunctionType. The one place that chooses.
COMPILED: Final[bool] = not isinstance(csum_words, FunctionType)


def csum_partial(b: bytes, start: i64, end: i64, initial: i64 = 0) -> i64:
    """Sum of ``b[start:end]`` and ``initial`` (any non-negative sum, folded or not); 0 <= start <= end <= len(b).

    Linux: csum_partial(), folded.
    """
    if COMPILED:
        return csum_words(b, start, end, initial)
    return csum_bigint(b, start, end, initial)


def csum_pieces(pieces: list[bytes | memoryview], initial: i64 = 0) -> i64:
    """Sum of ``pieces`` as if they were joined, whatever their lengths; and ``initial``."""
    total = initial
    odd = False
    for piece in pieces:
        b = piece if isinstance(piece, bytes) else bytes(piece)
        length: i64 = len(b)
        part = csum_partial(b, 0, length)
        # RFC 1071 2 (B) again: a piece that starts at an odd offset has its bytes in the other halves of the words
        total += swab16(part) if odd else part
        odd = odd != bool(length & 1)
    return fold(total)


def csum_fold(total: i64) -> i64:
    """The value for the checksum field: ``total`` folded and inverted (Linux: csum_fold())."""
    return fold(total) ^ 0xFFFF


def csum_tcpudp_nofold(saddr: i64, daddr: i64, length: i64, protocol: i64) -> i64:
    """Sum of the IPv4 pseudo-header, not folded; ``length`` in bytes of the transport header and its payload."""
    return saddr + daddr + length + protocol


def csum_tcpudp_magic(saddr: i64, daddr: i64, length: i64, protocol: i64, total: i64) -> i64:
    """The value for the checksum field of a TCP or UDP packet whose own bytes sum to ``total``."""
    return csum_fold(csum_tcpudp_nofold(saddr, daddr, length, protocol) + total)


def csum_replace2(check: i64, old: i64, new: i64) -> i64:
    """``check`` after a 16-bit word of the packet changed from ``old`` to ``new`` (Linux: csum_replace2()).

    RFC 1624 equation 3, HC' = ~(~HC + ~m + m'): of the equations, RFC 1141's can answer 0xFFFF where a full
    computation answers 0.
    """
    return csum_fold((check ^ 0xFFFF) + (old ^ 0xFFFF) + new)


def csum_replace4(check: i64, old: i64, new: i64) -> i64:
    """The same for a 32-bit field: an address (Linux: csum_replace4())."""
    return csum_fold((check ^ 0xFFFF) + (old ^ 0xFFFFFFFF) + new)


def fold(total: i64) -> i64:
    """A non-negative sum as 16 bits, carries added back in; 0 only for 0."""
    while total > 0xFFFF:
        total = (total >> 16) + (total & 0xFFFF)
    return total


def swab16(v: i64) -> i64:
    """The two bytes of ``v`` exchanged."""
    return (v >> 8) | ((v & 0xFF) << 8)
