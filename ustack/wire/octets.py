"""Integers in network byte order, out of bytes and into a writer: unsigned, in i64, without a tuple on the way.

Linux: get_unaligned_be16() and its family. Whoever calls has checked the lengths; reading beyond ``b`` is an
IndexError, as for any bytes. Writing takes the low bits of the value and drops the rest, as a C assignment does.
"""

from __future__ import annotations

from librt.strings import (
    BytesWriter,
    read_i16_be,
    read_i32_be,
    write_i16_be,
    write_i32_be,
    write_i64_be,
)
from mypy_extensions import i16, i32, i64


def u16(b: bytes, at: i64) -> i64:
    """The 16-bit number at ``at``."""
    return i64(read_i16_be(b, at)) & 0xFFFF


def u32(b: bytes, at: i64) -> i64:
    """The 32-bit number at ``at``."""
    return i64(read_i32_be(b, at)) & 0xFFFFFFFF


def u48(b: bytes, at: i64) -> i64:
    """The 48-bit number at ``at``: a hardware address."""
    return ((i64(read_i16_be(b, at)) & 0xFFFF) << 32) | (i64(read_i32_be(b, at + 2)) & 0xFFFFFFFF)


def put_u16(out: BytesWriter, v: i64) -> None:
    """Append the low 16 bits of ``v``."""
    v &= 0xFFFF
    # librt knows signed widths only, and interpreted it refuses what does not fit.
    write_i16_be(out, i16(v - 0x10000 if v > 0x7FFF else v))


def put_u32(out: BytesWriter, v: i64) -> None:
    """Append the low 32 bits of ``v``."""
    v &= 0xFFFFFFFF
    write_i32_be(out, i32(v - 0x100000000 if v > 0x7FFFFFFF else v))


def put_u48(out: BytesWriter, v: i64) -> None:
    """Append the low 48 bits of ``v``."""
    put_u16(out, v >> 32)
    put_u32(out, v)


def put_u64(out: BytesWriter, high: i64, low: i64) -> None:
    """Append the low 32 bits of ``high``, then those of ``low``: one write where two fields' worth lies together."""
    high &= 0xFFFFFFFF
    if high > 0x7FFFFFFF:
        high -= 0x100000000
    write_i64_be(out, (high << 32) | (low & 0xFFFFFFFF))
