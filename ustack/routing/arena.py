"""Arena: blocks of 32-bit words in one packed array, handed out and taken back.

A table of a million routes has two million nodes; as objects they would take hundreds of megabytes. Here a block is
an offset into ``mem`` and a pointer is such an offset in a word; offset 0 is nobody's and stands for NULL. A block
that is freed goes to the list of its size (its first word links it), so that updates without end take no new memory.
"""

from __future__ import annotations

from typing import Final

from librt.vecs import extend, vec
from mypy_extensions import i32, i64

#: An arena grows by one part in this many: what is not used yet is small against what is.
GROWTH: Final = 8
FIRST_WORDS: Final = 64


def word(value: i64) -> i64:
    """``value`` (32 bits) as the signed number that is kept in ``mem``."""
    return ((value & 0xFFFF_FFFF) ^ 0x8000_0000) - 0x8000_0000


class Arena:
    """Blocks of ``len(sizes)`` sizes."""

    def __init__(self, sizes: list[int]) -> None:
        """``sizes``: words of a block of each kind, by the kind's number."""
        self.mem: vec[i32] = vec[i32]([i32(0)] * FIRST_WORDS)
        self.top: i64 = 1  #: words from here on were never handed out
        self.free_words: i64 = 0  #: below ``top``, on the free lists
        self.sizes: vec[i64] = vec[i64](sizes)
        self._free: vec[i32] = vec[i32]([i32(0)] * len(sizes))

    def alloc(self, kind: i64) -> i64:
        """A block; what is in it is anything. ``mem`` may be another array afterwards."""
        size = self.sizes[kind]
        at = i64(self._free[kind])
        if at != 0:
            self._free[kind] = self.mem[at]
            self.free_words -= size
            return at
        at = self.top
        if at + size > i64(len(self.mem)):
            self.reserve(size)
        self.top = at + size
        return at

    def free(self, at: i64, kind: i64) -> None:
        """Take a block back."""
        self.mem[at] = self._free[kind]
        self._free[kind] = i32(at)
        self.free_words += self.sizes[kind]

    def reserve(self, words: i64) -> None:
        """Make room for ``words`` more."""
        have: i64 = i64(len(self.mem))
        wanted = self.top + words
        if wanted > have:
            self._resize(max(wanted, have + have // GROWTH))

    def start_over(self, mem: vec[i32], top: i64) -> None:
        """``mem`` has taken the place of everything, with nothing in it free up to ``top``."""
        self.mem = mem
        self.top = top
        self.free_words = 0
        self._free = vec[i32]([i32(0)] * len(self.sizes))

    def memory(self) -> int:
        """Bytes."""
        return len(self.mem) * 4

    def _resize(self, words: i64) -> None:
        # The capacity is asked for exactly: vec would double, and clear what it has doubled to.
        grown = extend(vec[i32](capacity=words), self.mem)
        self.mem = extend(grown, vec[i32]([i32(0)] * (words - i64(len(self.mem)))))
