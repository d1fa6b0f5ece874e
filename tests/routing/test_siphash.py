"""SipHash-2-4 as its authors and the kernel have it."""

from __future__ import annotations

import random

import pytest

from ustack.routing.siphash import flow_hash_from_keys_seed
from ustack.siphash import SipHash, SipHashKey, siphash_2u32, siphash_3u32


def siphash(key: bytes, message: bytes) -> int:
    """The low half of the hash of ``message``; what is left behind whole blocks goes with the length."""
    words = [int.from_bytes(key[at : at + 4], "little") for at in range(0, 16, 4)]
    state = SipHash(words[1], words[0], words[3], words[2])
    whole = len(message) // 8 * 8
    last = (len(message) & 0xFF) << 56 | int.from_bytes(message[whole:], "little")
    blocks = [int.from_bytes(message[at : at + 8], "little") for at in range(0, whole, 8)]
    for block in [*blocks, last]:
        state.block(block >> 32, block & 0xFFFF_FFFF)
    return state.finish()


@pytest.mark.parametrize(
    ("length", "expected"),
    [(0, 0x726F_DB47_DD0E_0E31), (1, 0x74F8_39C5_93DC_67FD), (8, 0x93F5_F579_9A93_2462), (15, 0xA129_CA61_49BE_45E5)],
)
def test_the_vectors_of_its_authors(length: int, expected: int) -> None:
    """Appendix A of the paper and the reference's vectors: key 00..0f, message 00, 01, 02, ..."""
    assert siphash(bytes(range(16)), bytes(range(length))) == expected & 0xFFFF_FFFF


def test_two_and_three_words_are_messages_of_eight_and_twelve_bytes() -> None:
    """siphash_2u32, siphash_3u32: the reference's vectors once more, all 64 bits of them."""
    key = SipHashKey(bytes(range(16)))
    words = [int.from_bytes(bytes(range(at, at + 4)), "little") for at in (0, 4, 8)]
    assert siphash_2u32(words[0], words[1], key) == (0x93F5_F579, 0x9A93_2462)
    assert siphash_3u32(words[0], words[1], words[2], key) == (0x751E_8FBC, 0x860E_E5FB)


def test_both_directions_of_a_flow_are_one() -> None:
    dice = random.Random(1)
    for _ in range(50):
        src, dst = dice.randrange(1 << 32), dice.randrange(1 << 32)
        sport, dport = dice.randrange(1 << 16), dice.randrange(1 << 16)
        there = flow_hash_from_keys_seed(7, src, dst, 6, sport, dport)
        assert there == flow_hash_from_keys_seed(7, dst, src, 6, dport, sport)
        assert 0 < there < 1 << 32
        assert there != flow_hash_from_keys_seed(8, src, dst, 6, sport, dport)


def test_everything_of_a_flow_counts() -> None:
    flows = [[7, 1, 2, 17, 4, 5]]
    for at in range(6):
        flows.append(flows[0][:])
        flows[-1][at] += 1
    hashes = {flow_hash_from_keys_seed(a, b, c, d, e, f) for a, b, c, d, e, f in flows}
    assert len(hashes) == len(flows)
