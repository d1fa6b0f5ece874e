"""A trie's aliases, its packing and its statistics (Linux net/ipv4/fib_trie.c, struct trie, struct fib_alias).

The aliases of a leaf are a list: the longest prefix first, then, where local and main share the trie, local's before
main's, then as fib_table_insert orders them. The first one lies in the leaf itself, as most leaves have one: it moves
when something is inserted before it or when it is removed, so no alias' offset outlives a change of its leaf.
"""

from __future__ import annotations

from typing import Final

from librt.vecs import vec
from mypy_extensions import i32, i64

from ustack.routing.key_vector import (
    ALIAS,
    ALIAS_KIND,
    ALIAS_WORDS,
    ATTRS,
    CHILD,
    EMPTY,
    FI,
    LEAF_WORDS,
    OFFSET,
    PARENT,
    ROOT,
)
from ustack.routing.read_ahead import ReadAhead
from ustack.routing.triestat import TrieStat

#: Words that may lie free, however small the trie is, before it is packed.
PACK_WORDS: Final = 1 << 16
#: A trie that has used more takes no new routes (ENOBUFS): a pointer reaches twice as far, and one node may double.
MAX_WORDS: Final = OFFSET // 2
#: What a route takes while a large table is loaded, with the nodes that were thrown away.
LOAD_WORDS: Final = 13
#: Routes that room is made for before they are seen.
MAX_RESERVED: Final = 1 << 20


def attrs_of(slen: i64, tos: i64, rt_type: i64, table: i64) -> i64:
    """An alias' attributes; ``table`` is 1 in the table that shares another's trie, else 0."""
    return slen | tos << 8 | rt_type << 16 | table << 24


class Trie(ReadAhead):
    """struct trie."""

    def __init__(self) -> None:
        super().__init__()
        self.semantic_match_passed: i64 = 0
        self.semantic_match_miss: i64 = 0
        self._packed: vec[i32] = vec[i32]()
        self._packed_top: i64 = 0

    # -- aliases

    def next_alias(self, alias: i64) -> i64:
        return i64(self.mem[alias])

    def fi(self, alias: i64) -> i64:
        return i64(self.mem[alias + FI])

    def attrs(self, alias: i64) -> i64:
        return i64(self.mem[alias + ATTRS])

    def set_alias(self, alias: i64, fi: i64, attrs: i64) -> None:
        """Another route in ``alias``' place."""
        self.mem[alias + FI] = i32(fi)
        self.mem[alias + ATTRS] = i32(attrs)

    def insert_alias(self, tp: i64, leaf: i64, before: i64, fi: i64, attrs: i64) -> None:
        """A new alias before another one, or, without one, behind its equals (fib_insert_alias)."""
        slen = attrs & 0xFF
        prev = self._previous(leaf, before) if before != 0 else self._last_not_behind(leaf, slen, attrs >> 24)
        new = self.alloc(ALIAS_KIND)
        mem = self.mem
        if prev == 0:  # the leaf's own place
            head = leaf + ALIAS
            mem[new] = mem[head]
            mem[new + FI] = mem[head + FI]
            mem[new + ATTRS] = mem[head + ATTRS]
            mem[head] = i32(new)
            self.set_alias(head, fi, attrs)
        else:
            mem[new] = mem[prev]
            mem[prev] = i32(new)
            self.set_alias(new, fi, attrs)
        if slen > self.slen(leaf):
            self.leaf_suffix_changed(tp, leaf, slen)

    def remove_alias(self, tp: i64, leaf: i64, alias: i64) -> None:
        """Take out ``alias``, and its leaf if that was the last one (fib_remove_alias)."""
        if self.next_alias(leaf + ALIAS) == 0:
            self.remove_leaf(tp, leaf)
            return
        last = self.unlink_alias(leaf, alias)
        if last != 0:
            self.leaf_suffix_changed(tp, leaf, self.attrs(last) & 0xFF)

    def unlink_alias(self, leaf: i64, alias: i64) -> i64:
        """Take ``alias``, not the only one, out of the list; the one that has become the last by that, or 0."""
        mem = self.mem
        head = leaf + ALIAS
        following = i64(mem[alias])
        if alias == head:
            mem[head] = mem[following]
            mem[head + FI] = mem[following + FI]
            mem[head + ATTRS] = mem[following + ATTRS]
            self.free(following, ALIAS_KIND)
            return 0
        prev = self._previous(leaf, alias)
        mem[prev] = i32(following)
        self.free(alias, ALIAS_KIND)
        return prev if following == 0 else 0

    def _previous(self, leaf: i64, alias: i64) -> i64:
        """The alias before; 0: ``alias`` is the first."""
        at = leaf + ALIAS
        if at == alias:
            return 0
        mem = self.mem
        while i64(mem[at]) != alias:
            at = i64(mem[at])
        return at

    def _last_not_behind(self, leaf: i64, slen: i64, table: i64) -> i64:
        """The last alias that a new one without a place of its own goes behind; 0: it becomes the first."""
        mem = self.mem
        prev: i64 = 0
        at = leaf + ALIAS
        while at != 0:
            attrs = i64(mem[at + ATTRS])
            if slen < attrs & 0xFF or (slen == attrs & 0xFF and table > attrs >> 24):
                break
            prev = at
            at = i64(mem[at])
        return prev

    # -- packing

    def pack_if_sparse(self) -> None:
        """Lay everything out anew, in the order of keys, once more is free than in use.

        Blocks are of many sizes, and what is freed of one serves no other: a table that has shrunk, or changed its
        shape, would keep its largest extent for ever.
        """
        enough = self.top // 4 if self.top > MAX_WORDS else self.top // 2
        if self.free_words > PACK_WORDS and self.free_words > enough:
            self.pack()

    def pack_if_loaded(self, routes: i64) -> None:
        """Pack after ``routes`` were added at once, if that is much of what is here: a trie that grows throws nodes
        away, and lookups are faster where all lies close together."""
        if routes * LOAD_WORDS > self.top // 2:
            self.pack()
        else:
            self.pack_if_sparse()

    def reserve_routes(self, routes: i64) -> None:
        """Make room for about so many at once, which is less work than bit by bit."""
        self.reserve(min(routes, MAX_RESERVED) * LOAD_WORDS)

    def pack(self) -> None:
        """Copy all that is in use to the start of a new array. Offsets that anyone holds are void."""
        start = ROOT + CHILD + 2
        self._packed = vec[i32]([i32(0)] * (self.top - self.free_words + start))
        at: i64 = 0
        while at < start:
            self._packed[at] = self.mem[at]
            at += 1
        self._packed_top = start
        first = self.child(ROOT, 0)
        if first != 0:
            moved = self._move(first, ROOT)
            self._packed[ROOT + CHILD] = i32(i64(self._packed[ROOT + CHILD]) & ~OFFSET | moved)
        self.start_over(self._packed, self._packed_top)
        self._packed = vec[i32]()

    def _move(self, n: i64, parent: i64) -> i64:
        bits = self.bits(n)
        if bits == 0:
            leaf = self._copy(n, LEAF_WORDS)
            self._move_aliases(leaf + ALIAS)
            return leaf
        tn = self._copy(n, CHILD + (i64(1) << bits))
        self._packed[tn + PARENT] = i32(parent)
        at = tn + CHILD
        end = at + (i64(1) << bits)
        while at < end:
            child = i64(self._packed[at])
            if child != 0:
                moved = self._move(child & OFFSET, tn)
                self._packed[at] = i32(child & ~OFFSET | moved)
            at += 1
        return tn

    def _move_aliases(self, alias: i64) -> None:
        while self._packed[alias] != 0:
            following = self._copy(i64(self._packed[alias]), ALIAS_WORDS)
            self._packed[alias] = i32(following)
            alias = following

    def _copy(self, block: i64, words: i64) -> i64:
        to, old = self._packed, self.mem
        start = self._packed_top
        at: i64 = 0
        while at < words:
            to[start + at] = old[block + at]
            at += 1
        self._packed_top = start + words
        return start

    # -- statistics

    def stat(self) -> TrieStat:
        """trie_collect_stats."""
        stat = TrieStat()
        first = self.child(ROOT, 0)
        if first != 0:
            self._collect(stat, first, 0)
        stat.bytes = (self.top - 1 - self.free_words) * 4
        stat.gets, stat.backtracks, stat.null_node_hit = self.gets, self.backtracks, self.null_node_hit
        stat.semantic_match_passed = self.semantic_match_passed
        stat.semantic_match_miss = self.semantic_match_miss
        return stat

    def _collect(self, stat: TrieStat, n: i64, depth: i64) -> None:
        bits = self.bits(n)
        if bits == 0:
            prefixes: i64 = 0
            alias = n + ALIAS
            while alias != 0:
                prefixes += 1
                alias = self.next_alias(alias)
            stat.leaf(depth, prefixes)
            return
        stat.tnode(bits, i64(self.mem[n + EMPTY]))
        i: i64 = 0
        while i < i64(1) << bits:
            child = self.child(n, i)
            if child != 0:
                self._collect(stat, child, depth + 1)
            i += 1
