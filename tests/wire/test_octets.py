"""Network byte order (RFC 791 appendix B): highest byte first, unsigned."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from librt.strings import BytesWriter

from tests.wire.support import MAC, U16, U32, examples
from ustack.wire.octets import put_u16, put_u32, put_u48, put_u64, u16, u32, u48

BYTES = bytes(range(0xF8, 0x100)) + bytes(range(8))


@pytest.mark.parametrize("at", range(10))
def test_reading_agrees_with_int_from_bytes_at_every_offset(at: int) -> None:
    assert u16(BYTES, at) == int.from_bytes(BYTES[at : at + 2], "big")
    assert u32(BYTES, at) == int.from_bytes(BYTES[at : at + 4], "big")
    assert u48(BYTES, at) == int.from_bytes(BYTES[at : at + 6], "big")


@pytest.mark.parametrize("pattern", ["00", "7f", "80", "ff"])
def test_the_sign_bit_is_a_bit_like_any_other(pattern: str) -> None:
    data = bytes.fromhex(pattern) * 8
    assert u16(data, 0) == int(pattern * 2, 16)
    assert u32(data, 0) == int(pattern * 4, 16)
    assert u48(data, 0) == int(pattern * 6, 16)


@given(U16, U32, MAC, U32, U32)
@examples(200)
def test_what_is_put_reads_back(a: int, b: int, c: int, high: int, low: int) -> None:
    out = BytesWriter()
    put_u16(out, a)
    put_u32(out, b)
    put_u48(out, c)
    put_u64(out, high, low)
    data = out.getvalue()
    assert len(data) == 2 + 4 + 6 + 8
    assert (u16(data, 0), u32(data, 2), u48(data, 6), u32(data, 12), u32(data, 16)) == (a, b, c, high, low)


@pytest.mark.parametrize("v", [0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0x80000001, 0xFFFFFFFF])
def test_around_the_sign_bit(v: int) -> None:
    out = BytesWriter()
    put_u16(out, v)
    put_u32(out, v)
    put_u64(out, v, v)
    words = [(v & 0xFFFF).to_bytes(2, "big"), v.to_bytes(4, "big"), v.to_bytes(4, "big"), v.to_bytes(4, "big")]
    assert out.getvalue() == b"".join(words)


@given(st.integers(-(2**62), 2**62))
@examples(100)
def test_putting_keeps_the_low_bits_and_drops_the_rest(v: int) -> None:
    """As a C assignment to __be16 or __be32 does; sequence numbers may be computed past 2**32 without a mask."""
    out = BytesWriter()
    put_u16(out, v)
    put_u32(out, v)
    put_u48(out, v)
    put_u64(out, v, v)
    low = [(v & (1 << 8 * n) - 1).to_bytes(n, "big") for n in (2, 4, 6, 4, 4)]
    assert out.getvalue() == b"".join(low)


@pytest.mark.parametrize("length", range(6))
def test_reading_beyond_the_end_is_an_index_error_for_the_caller_to_prevent(length: int) -> None:
    with pytest.raises(IndexError):
        u48(bytes(length), 0)
