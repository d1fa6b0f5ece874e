"""Circular comparison (RFC 9293 section 3.4) around every edge of the circle."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ustack.tcp.seq import after, before, between, distance, signed_distance

numbers = st.integers(0, 0xFFFF_FFFF)
half = st.integers(1, 0x7FFF_FFFF)


@given(numbers, half)
def test_what_lies_ahead_by_less_than_half_a_circle_is_after(a: int, ahead: int) -> None:
    b = (a + ahead) & 0xFFFF_FFFF
    assert after(b, a) and before(a, b)
    assert not after(a, b) and not before(b, a)


@given(numbers)
def test_a_number_is_neither_before_nor_after_itself(a: int) -> None:
    assert not before(a, a) and not after(a, a) and between(a, a, a)


@given(numbers, st.integers(0, 0xFFFF_FFFF), st.integers(0, 0xFFFF_FFFF))
def test_between_is_inclusive_and_counts_from_its_low_end(low: int, width: int, step: int) -> None:
    high = (low + width) & 0xFFFF_FFFF
    assert between((low + step) & 0xFFFF_FFFF, low, high) == (step <= width)


@given(numbers, st.integers(-0x8000_0000, 0x7FFF_FFFF))
def test_signed_distance_goes_both_ways(a: int, step: int) -> None:
    assert signed_distance(a, (a + step) & 0xFFFF_FFFF) == step
    assert distance(a, (a + step) & 0xFFFF_FFFF) == step & 0xFFFF_FFFF


@pytest.mark.parametrize(("a", "b"), [(0xFFFF_FFFF, 0), (0x7FFF_FFFF, 0x8000_0000), (0xFFFF_FF00, 0xFF)])
def test_wrapping_keeps_the_order(a: int, b: int) -> None:
    assert before(a, b) and after(b, a)
