"""The random source: the seed decides everything, and what comes out looks like nothing."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ustack.entropy import SEED_LEN, Entropy, keyed_hash

SEED = bytes(range(SEED_LEN))


@pytest.mark.parametrize("length", range(SEED_LEN))
def test_a_short_seed_is_refused(length: int) -> None:
    with pytest.raises(ValueError, match="16 needed"):
        Entropy(bytes(length))


def test_the_same_seed_repeats_the_same_run() -> None:
    first, second = Entropy(SEED), Entropy(SEED)
    assert [first.u32() for _ in range(100)] == [second.u32() for _ in range(100)]


def test_the_whole_seed_counts_however_long() -> None:
    starts = set()
    for length in (16, 17, 32, 64, 65, 100, 101):
        seed = bytearray(length)
        starts.add(Entropy(bytes(seed)).u32())
        seed[-1] ^= 1
        starts.add(Entropy(bytes(seed)).u32())
    assert len(starts) == 14


def test_words_are_32_bits_and_do_not_repeat() -> None:
    source = Entropy(SEED)
    words = [source.u32() for _ in range(5000)]
    assert all(0 <= word < 2**32 for word in words) and len(set(words)) > 4990


def test_every_bit_is_set_half_of_the_time() -> None:
    source = Entropy(SEED)
    words = [source.u32() for _ in range(4000)]
    for bit in range(32):
        assert 1800 < sum((word >> bit) & 1 for word in words) < 2200


@given(st.integers(1, 2**32))
def test_below_stays_below(ceiling: int) -> None:
    source = Entropy(ceiling.to_bytes(SEED_LEN, "big"))
    for _ in range(40):
        assert 0 <= source.below(ceiling) < ceiling


@pytest.mark.parametrize("ceiling", [3, 1000, 2**31, 2**32 - 1, 2**32])
def test_below_uses_the_whole_range(ceiling: int) -> None:
    """Also where the product of word and ceiling needs all of 64 bits."""
    source = Entropy(SEED)
    thirds = [source.below(ceiling) * 3 // ceiling for _ in range(3000)]
    assert all(900 < thirds.count(third) < 1100 for third in range(3))


def test_below_one_is_zero() -> None:
    assert {Entropy(SEED).below(1) for _ in range(10)} == {0}


@pytest.mark.parametrize("length", [0, 1, 3, 4, 16, 63, 64, 65, 200])
def test_take_gives_as_many_bytes_as_asked(length: int) -> None:
    source = Entropy(SEED)
    first, second = source.take(length), source.take(length)
    assert len(first) == len(second) == length and (length < 4 or first != second)


def test_keyed_hash_is_63_bits_of_key_and_message() -> None:
    values = [keyed_hash(key, message) for key, message in itertools.product([SEED, SEED[::-1]], [b"", b"a", b"b"])]
    assert len(set(values)) == 6 and all(0 <= value < 2**63 for value in values)
    assert keyed_hash(SEED, b"a") == values[1]


def test_one_flipped_bit_changes_about_half_of_the_hash() -> None:
    base = keyed_hash(SEED, bytes(12))
    changed = [bin(base ^ keyed_hash(SEED, (1 << bit).to_bytes(12, "big"))).count("1") for bit in range(96)]
    assert 28 < sum(changed) / len(changed) < 35


@given(st.lists(st.integers(0, 200), max_size=8))
def test_taking_bytes_is_drawing_words(lengths: list[int]) -> None:
    bulk, single = Entropy(SEED), Entropy(SEED)
    for length in lengths:
        words = [int(single.u32()).to_bytes(4, "big") for _ in range((length + 3) // 4)]
        assert bulk.take(length) == b"".join(words)[:length]
        assert bulk.u32() == single.u32()
