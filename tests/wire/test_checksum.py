"""The Internet checksum: RFC 1071, RFC 1624 and Linux's lib/checksum.c, in both implementations."""

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.utils import checksum as scapy_checksum

from tests.wire.support import U8, U16, U32, examples, reference_sum
from ustack.wire import checksum
from ustack.wire.checksum import (
    csum_bigint,
    csum_fold,
    csum_partial,
    csum_pieces,
    csum_replace2,
    csum_replace4,
    csum_tcpudp_magic,
    csum_tcpudp_nofold,
    csum_words,
    fold,
    swab16,
)

Sum = Callable[..., int]

IMPLEMENTATIONS: list[Sum] = [csum_words, csum_bigint, csum_partial]
both = pytest.mark.parametrize("implementation", IMPLEMENTATIONS, ids=["words", "bigint", "chosen"])

# Lengths around each step of the loop over words: 32, 4, 2 and 1 bytes.
LENGTHS = [*range(71), 127, 128, 129, 1459, 1460, 1461]


def pattern(length: int) -> bytes:
    return bytes((at * 73 + 151) & 0xFF for at in range(length))


def test_the_choice_follows_from_being_compiled() -> None:
    """Words are 20 times faster compiled, one long number 25 times interpreted."""
    assert checksum.COMPILED == (not isinstance(csum_partial, FunctionType))


@both
def test_rfc1071_section_3_example(implementation: Sum) -> None:
    data = bytes.fromhex("0001f203f4f5f6f7")
    assert implementation(data, 0, 8) == 0xDDF2
    assert csum_fold(implementation(data, 0, 8)) == 0x220D


@both
@pytest.mark.parametrize("length", LENGTHS)
def test_every_length_agrees_with_the_word_by_word_sum_and_with_scapy(implementation: Sum, length: int) -> None:
    data = pattern(length)
    assert implementation(data, 0, length) == reference_sum(data)
    assert csum_fold(implementation(data, 0, length)) == scapy_checksum(data)


@both
def test_every_start_and_end_within_a_buffer(implementation: Sum) -> None:
    data = pattern(48)
    for start in range(49):
        for end in range(start, 49):
            assert implementation(data, start, end) == reference_sum(data[start:end]), (start, end)


@both
@pytest.mark.parametrize("fill", [0x00, 0xFF, 0x80, 0x7F])
@pytest.mark.parametrize("length", [1, 2, 7, 8, 32, 33, 1460, 65535])
def test_extreme_bytes(implementation: Sum, fill: int, length: int) -> None:
    """0xFF and 0x80 are where a signed read goes wrong; 64 KiB of 0xFF is the largest sum there is."""
    data = bytes([fill]) * length
    assert implementation(data, 0, length) == reference_sum(data)


@both
@given(data=st.binary(max_size=200), initial=st.integers(0, 2**48))
@examples(200)
def test_initial_counts_like_bytes_in_front(implementation: Sum, data: bytes, initial: int) -> None:
    front = initial.to_bytes(8, "big")
    assert implementation(data, 0, len(data), initial) == reference_sum(front + data)


@both
def test_the_sum_is_zero_only_for_zeros(implementation: Sum) -> None:
    """RFC 1624 section 3: the sum of anything but zeros is never +0, so 0xFFFF is the zero that sums show."""
    assert implementation(b"", 0, 0) == 0
    assert implementation(bytes(40), 0, 40) == 0
    assert implementation(b"\xff\xff", 0, 2) == 0xFFFF
    assert implementation(b"\x12\x34\xed\xcb", 0, 4) == 0xFFFF
    assert implementation(bytes(40), 0, 40, 0xFFFF) == 0xFFFF
    assert implementation(b"\xff\xff" * 20, 0, 40, 0xFFFF) == 0xFFFF
    assert implementation(b"", 0, 0, 0xFFFF0000) == 0xFFFF


@both
@given(st.binary(min_size=2, max_size=100).filter(any))
@examples(200)
def test_data_with_its_checksum_in_place_sums_to_valid(implementation: Sum, data: bytes) -> None:
    even = data + bytes(len(data) % 2)
    whole = even + int(csum_fold(implementation(even, 0, len(even)))).to_bytes(2, "big")
    assert implementation(whole, 0, len(whole)) == checksum.VALID


@both
@given(st.binary(min_size=2, max_size=60), st.data())
@examples(100)
def test_a_single_flipped_bit_never_goes_unseen(implementation: Sum, data: bytes, draw: st.DataObject) -> None:
    bit = draw.draw(st.integers(0, len(data) * 8 - 1))
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    # 0 and 0xFFFF stand for the same number; no single bit leads from one to the other
    assert implementation(bytes(changed), 0, len(data)) != implementation(data, 0, len(data))


# -- pieces


@given(st.lists(st.binary(max_size=50), max_size=8), st.integers(0, 2**40))
@examples(200)
def test_pieces_sum_as_if_joined_whatever_their_lengths(parts: list[bytes], initial: int) -> None:
    joined = b"".join(parts)
    pieces: list[bytes | memoryview] = [memoryview(p) if at % 2 else p for at, p in enumerate(parts)]
    assert csum_pieces(pieces, initial) == csum_partial(joined, 0, len(joined), initial)


@pytest.mark.parametrize("cut", range(10))
@pytest.mark.parametrize("again", range(10))
def test_three_pieces_cut_at_every_pair_of_places(cut: int, again: int) -> None:
    data = pattern(9)
    first, last = min(cut, again), max(cut, again)
    view = memoryview(data)
    assert csum_pieces([data[:first], view[first:last], view[last:]]) == reference_sum(data)


def test_pieces_may_be_any_memoryview() -> None:
    data = pattern(40)
    assert csum_pieces([memoryview(bytearray(data))]) == reference_sum(data)
    assert csum_pieces([memoryview(data)[::2]]) == reference_sum(data[::2])
    assert csum_pieces([memoryview(data).cast("I"), b"\x01"]) == reference_sum(data + b"\x01")


def test_no_pieces_leave_the_initial_sum() -> None:
    assert csum_pieces([]) == 0
    assert csum_pieces([], 0x1FFFE) == 0xFFFF
    assert csum_pieces([b"", memoryview(b"")], 7) == 7


# -- folding and the pseudo-header


@pytest.mark.parametrize(
    ("total", "folded"),
    [(0, 0), (1, 1), (0xFFFF, 0xFFFF), (0x10000, 1), (0x1FFFE, 0xFFFF), (0xFFFFFFFF, 0xFFFF), (2**62, 0x4000)],
)
def test_folding_adds_the_carries_back(total: int, folded: int) -> None:
    assert fold(total) == folded
    assert csum_fold(total) == folded ^ 0xFFFF


def test_swapping_bytes() -> None:
    assert (swab16(0x1234), swab16(0x00FF), swab16(0xFFFF), swab16(0)) == (0x3412, 0xFF00, 0xFFFF, 0)


@given(U32, U32, U16, U8)
@examples(100)
def test_the_pseudo_header_is_twelve_bytes(saddr: int, daddr: int, length: int, protocol: int) -> None:
    """RFC 9293 3.1: source, destination, zero, PTCL, TCP length."""
    pseudo = saddr.to_bytes(4, "big") + daddr.to_bytes(4, "big") + bytes([0, protocol]) + length.to_bytes(2, "big")
    assert fold(csum_tcpudp_nofold(saddr, daddr, length, protocol)) == reference_sum(pseudo)
    assert csum_tcpudp_magic(saddr, daddr, length, protocol, 0x1234) == csum_fold(reference_sum(pseudo) + 0x1234)


# -- RFC 1624


def test_rfc1624_section_4_example() -> None:
    """HC = 0xDD2F, m = 0x5555, m' = 0x3285: RFC 1141 (equation 2) answers 0xFFFF; equations 3 and 4 answer 0x0000."""
    check, old, new = 0xDD2F, 0x5555, 0x3285
    equation_2 = fold(check + old + (new ^ 0xFFFF))
    equation_4 = (check - (old ^ 0xFFFF) - new) % 0xFFFF
    assert equation_2 == 0xFFFF
    assert csum_replace2(check, old, new) == equation_4 == 0x0000


def test_rfc1624_section_4_example_as_a_whole_packet() -> None:
    """The rest of the header sums to 0xCD7A: with 0x5555 the checksum is 0xDD2F, with 0x3285 it is 0."""
    before, after = bytes.fromhex("cd7a5555"), bytes.fromhex("cd7a3285")
    assert csum_fold(csum_partial(before, 0, 4)) == 0xDD2F
    assert csum_fold(csum_partial(after, 0, 4)) == 0x0000


@given(st.lists(U16, min_size=1, max_size=20), st.data(), U16)
@examples(300)
def test_replacing_a_word_equals_a_full_computation(words: list[int], draw: st.DataObject, new: int) -> None:
    at = draw.draw(st.integers(0, len(words) - 1))
    changed = [*words[:at], new, *words[at + 1 :]]
    before, after = csum_fold(sum(words)), csum_fold(sum(changed))
    if any(changed):
        assert csum_replace2(before, words[at], new) == after


@given(st.lists(U32, min_size=1, max_size=10), st.data(), U32)
@examples(300)
def test_replacing_a_double_word_equals_a_full_computation(words: list[int], draw: st.DataObject, new: int) -> None:
    at = draw.draw(st.integers(0, len(words) - 1))
    changed = [*words[:at], new, *words[at + 1 :]]
    before, after = csum_fold(sum(words)), csum_fold(sum(changed))
    if any(changed):
        assert csum_replace4(before, words[at], new) == after


@pytest.mark.parametrize("old", [0, 1, 0x7FFF, 0x8000, 0xFFFE, 0xFFFF])
@pytest.mark.parametrize("new", [0, 1, 0x7FFF, 0x8000, 0xFFFE, 0xFFFF])
@pytest.mark.parametrize("rest", [1, 0x7FFF, 0x8000, 0xFFFE, 0xFFFF])
def test_replacing_at_the_corners(old: int, new: int, rest: int) -> None:
    """RFC 1624 section 5: checksums that are or become 0x0000 or 0xFFFF are where implementations fail."""
    assert csum_replace2(csum_fold(rest + old), old, new) == csum_fold(rest + new)
    assert csum_replace4(csum_fold(rest + old), old, new) == csum_fold(rest + new)


def test_only_a_packet_of_nothing_but_zeros_shows_the_other_zero() -> None:
    """Equation 3 answers 0x0000 where a full computation over zeros is 0xFFFF; no IP header is all zeros."""
    assert csum_replace2(csum_fold(5), 5, 0) == 0x0000
    assert csum_fold(0) == 0xFFFF


def test_replacing_a_word_by_itself_changes_nothing() -> None:
    """RFC 1624 erratum 4782 fears 0xFFFF for a checksum of 0; ones-complement sums of anything but zeros are not +0."""
    assert csum_replace2(0x0000, 0x5555, 0x5555) == 0x0000
    assert all(csum_replace2(check, 0x5555, 0x5555) == check for check in range(0xFFFF))


@given(U16, U16, U16)
@examples(200)
def test_a_change_and_its_undoing_cancel(rest: int, old: int, new: int) -> None:
    check = csum_fold(rest + old)
    if rest or old:
        assert csum_replace2(csum_replace2(check, old, new), new, old) == check


@given(U16, U32, U32)
@examples(200)
def test_a_wrong_checksum_stays_wrong(error: int, old: int, new: int) -> None:
    """What incremental updates are for: damage that was there before must not be healed on the way."""
    rest = 0x4500
    wrong = csum_fold(rest + old) ^ error
    updated = csum_replace4(wrong, old, new)
    assert (fold(rest + new + updated) == checksum.VALID) == (fold(rest + old + wrong) == checksum.VALID)
