"""Looking many addresses up at once: what their lookups will read is fetched before, all of it together.

In a large table a lookup waits for memory most of the time, for one place after the other. The reads here wait for
little: each pass goes one step down with every address, so the processor has many of them on their way at a time, and
the lookups then find the places in its cache. The sums are of no use; without them the reads had none.
"""

from __future__ import annotations

from librt.strings import read_i32_be
from librt.vecs import vec
from mypy_extensions import i32, i64

from ustack.routing.key_vector import CHILD, INFO, OFFSET, ROOT, SLEN, SLEN_SHIFT, KeyVectors


class ReadAhead(KeyVectors):
    """A trie that can be told what will be looked up."""

    def __init__(self) -> None:
        super().__init__()
        self._nodes: vec[i32] = vec[i32]()  # where each of the lookups is, by the place of its address

    def warm(self, addresses: bytes, start: i64, end: i64, stride: i64) -> i64:
        """Read what lookups of the addresses (at every ``stride`` bytes from ``start`` to ``end``) will read."""
        mem = self.mem
        root = i64(mem[ROOT + CHILD]) & OFFSET
        bits = i64(mem[root + INFO]) >> 8 & 0xFF
        pos = i64(mem[root + INFO]) & 0xFF
        if bits == 0:
            return 0
        children = root + CHILD
        mask = (i64(1) << bits) - 1
        total: i64 = 0
        path = self._path(end - start)
        at = start
        while at < end:  # the root's child, and the ones to come back by
            index = i64(read_i32_be(addresses, at)) >> pos & mask
            path[at - start] = i32(i64(mem[children + index]) & OFFSET)
            total += i64(mem[children + (index & ~0x1F)]) + i64(mem[children + (index & ~0x3F)])
            total += i64(mem[children + (index & ~0x7F)]) + i64(mem[children + (index & ~0xFF)])
            at += stride
        total += self._touch(path, end - start, stride)
        at = start
        while at < end:
            key = i64(read_i32_be(addresses, at)) & 0xFFFF_FFFF
            path[at - start] = i32(self._after_first(key, root, key >> pos & mask))
            at += stride
        total += self._touch(path, end - start, stride)
        at = start
        while at < end:
            key = i64(read_i32_be(addresses, at)) & 0xFFFF_FFFF
            path[at - start] = i32(self._after(key, i64(path[at - start])))
            at += stride
        return total + self._touch(path, end - start, stride)

    def _path(self, size: i64) -> vec[i32]:
        """Room for where ``size`` lookups are."""
        if i64(len(self._nodes)) < size:
            self._nodes = vec[i32]([i32(0)] * size)
        return self._nodes

    def _touch(self, path: vec[i32], size: i64, stride: i64) -> i64:
        """Read the nodes of ``path``, all of them on their way at once."""
        mem = self.mem
        total: i64 = 0
        at: i64 = 0
        while at < size:
            total += i64(mem[i64(path[at])])
            at += stride
        return total

    def _after(self, key: i64, n: i64) -> i64:
        """The child of ``n`` that a lookup of ``key`` comes to, ``n`` itself where it comes to none."""
        mem = self.mem
        info = i64(mem[n + INFO])
        index = (key ^ (i64(mem[n]) & 0xFFFF_FFFF)) >> (info & 0xFF)
        if n == 0 or info & 0xFF00 == 0 or index >> (info >> 8 & 0xFF) != 0:
            return n
        return i64(mem[n + CHILD + index]) & OFFSET

    def _after_first(self, key: i64, root: i64, cindex: i64) -> i64:
        """The second node that a lookup of ``key`` comes to, below or beside child ``cindex`` of the root."""
        mem = self.mem
        n = i64(mem[root + CHILD + cindex]) & OFFSET
        info = i64(mem[n + INFO])
        index = (key ^ (i64(mem[n]) & 0xFFFF_FFFF)) >> (info & 0xFF)
        if n != 0 and index >> (info >> 8 & 0xFF) == 0:
            return i64(mem[n + CHILD + index]) & OFFSET if info & 0xFF00 != 0 else n
        pos = i64(mem[root + INFO]) & 0xFF
        while cindex != 0:
            differs = (cindex & -cindex) << pos
            cindex &= cindex - 1
            child = i64(mem[root + CHILD + cindex])
            if differs >> (child >> SLEN_SHIFT & SLEN) == 0:
                return child & OFFSET
        return n
