"""The LC-trie: key vectors, path and level compression, backtracking (Linux net/ipv4/fib_trie.c, struct key_vector).

A trie over 32-bit keys. An inner node (tnode) has 2 ** ``bits`` children, chosen by the ``bits`` bits of the key from
bit ``pos`` up; the bits between a node and its parent are skipped (path compression), and a node doubles while it is
full enough and halves when it gets empty (level compression: "An experimental study of compression methods for
dynamic tries", Nilsson and Tikkanen, 2002). Each leaf stands for one key: the prefixes of all lengths that start
with it, the longest first.

A node is a block of words in an arena:

    key      what all keys below have in common, the rest 0
    info     pos | bits << 8 | slen << 16; a leaf has bits 0 and pos 0
    tnode:   parent, empty children, full children, child[0] ...
    leaf:    its first alias: next, fib_info, attributes

``slen`` is the longest suffix (32 - prefix length) below a node: where it is not larger than ``pos`` no shorter
prefix waits there, and a lookup need not come back. It stands beside the offset in the parent's ``child`` too (unlike
in the kernel), so that a lookup that does come back sees which children to leave alone without a look at them: each
look is a cache miss in a large table. ROOT is struct trie itself: pos 32, one child, no parent. An alias (one route)
is three words, in its leaf or in a block of its own.
"""

from __future__ import annotations

from typing import Final

from mypy_extensions import i32, i64

from ustack.routing.arena import Arena, word

KEYLENGTH: Final = 32

# where things are in a block
INFO: Final = 1
PARENT: Final = 2
EMPTY: Final = 3
FULL: Final = 4
CHILD: Final = 5
ALIAS: Final = 2  #: a leaf's first alias

FI: Final = 1  #: of an alias: the index of its fib_info
ATTRS: Final = 2  #: of an alias: suffix length | tos << 8 | type << 16 | table << 24

ROOT: Final = 1

# a child: its offset, and above that its slen
OFFSET: Final = 0x3FF_FFFF
SLEN_SHIFT: Final = 26
SLEN: Final = 0x3F

# kinds of blocks; a tnode's is its ``bits``
LEAF_KIND: Final = 0
ALIAS_KIND: Final = 32
LEAF_WORDS: Final = 5
ALIAS_WORDS: Final = 3
SIZES: Final = [LEAF_WORDS, *(CHILD + (1 << bits) for bits in range(1, ALIAS_KIND)), ALIAS_WORDS]

# "A node is doubled if the ratio of non-empty children to all children in the doubled node is at least 'high'"
# (Nilsson and Tikkanen, page 6); percent. The root is kept larger.
HALVE_THRESHOLD: Final = 25
INFLATE_THRESHOLD: Final = 50
HALVE_THRESHOLD_ROOT: Final = 15
INFLATE_THRESHOLD_ROOT: Final = 30
#: How often one node is doubled, or halved, for one change.
MAX_WORK: Final = 10


class KeyVectors(Arena):
    """One trie (struct trie). Nodes and aliases are offsets in ``mem``; 0 is none.

    What allocates may move ``mem``: it is read again after such a call.
    """

    def __init__(self) -> None:
        super().__init__(SIZES)
        self.found_parent: i64 = ROOT  #: of what find_node has found, or where it would be
        self.gets: i64 = 0
        self.backtracks: i64 = 0
        self.null_node_hit: i64 = 0
        self._pn: i64 = ROOT  # where a lookup goes on if the leaf it came to will not do
        self._cindex: i64 = 0
        self.alloc(1)  # a block of CHILD + 2 words, of which one child is used
        self.mem[ROOT + INFO] = i32(KEYLENGTH | KEYLENGTH << 16)

    # -- reading nodes

    def key(self, n: i64) -> i64:
        return i64(self.mem[n]) & 0xFFFF_FFFF

    def pos(self, n: i64) -> i64:
        return i64(self.mem[n + INFO]) & 0xFF

    def bits(self, n: i64) -> i64:
        """0 in a leaf."""
        return i64(self.mem[n + INFO]) >> 8 & 0xFF

    def slen(self, n: i64) -> i64:
        return i64(self.mem[n + INFO]) >> 16

    def parent(self, n: i64) -> i64:
        """Of a tnode."""
        return i64(self.mem[n + PARENT])

    def child(self, n: i64, index: i64) -> i64:
        return i64(self.mem[n + CHILD + index]) & OFFSET

    def index(self, key: i64, n: i64) -> i64:
        """Which child of ``n`` leads to ``key``, if ``key`` is below ``n`` (get_index)."""
        return (key ^ self.key(n)) >> self.pos(n)

    def used(self, tn: i64) -> i64:
        """Children that are there."""
        return (i64(1) << self.bits(tn)) - i64(self.mem[tn + EMPTY])

    def _set_slen(self, tp: i64, n: i64, slen: i64) -> None:
        """Also where ``tp`` points to ``n``."""
        mem = self.mem
        mem[n + INFO] = i32(i64(mem[n + INFO]) & 0xFFFF | slen << 16)
        mem[tp + CHILD + self.index(self.key(n), tp)] = i32(word(n | slen << SLEN_SHIFT))

    # -- lookups

    def find_leaf(self, key: i64) -> i64:
        """The leaf with the longest prefix of ``key``, as far as keys tell; 0 for none (fib_table_lookup, step 1).

        Whether one of its prefixes is short enough, and may be used, is the caller's to see; if not, next_leaf.
        """
        mem = self.mem
        pn: i64 = ROOT
        cindex: i64 = 0
        n = i64(mem[ROOT + CHILD]) & OFFSET
        if n == 0:
            return 0
        self.gets += 1
        while n != 0:
            info = i64(mem[n + INFO])
            pos = info & 0xFF
            bits = info >> 8 & 0xFF
            # Of a key below n only the bits of the index differ from n's key; more than that is a mismatch in what
            # was skipped.
            index = (key ^ (i64(mem[n]) & 0xFFFF_FFFF)) >> pos
            if index >> bits != 0:
                break
            if bits == 0:
                self._pn = pn
                self._cindex = cindex
                return n
            if info >> 16 > pos:  # else there is nothing to come back for
                pn = n
                cindex = index
            n = i64(mem[n + CHILD + index]) & OFFSET
        return self._backtrace(key, n, pn, cindex)

    def next_leaf(self, key: i64) -> i64:
        """The leaf with the next shorter prefix, after find_leaf or next_leaf for the same ``key``; 0 for none."""
        return self._backtrace(key, 0, self._pn, self._cindex)

    def _backtrace(self, key: i64, n: i64, pn: i64, cindex: i64) -> i64:
        """Down from ``n`` along zeros, else to shorter and shorter prefixes (steps 2 and 3 of fib_table_lookup)."""
        mem = self.mem
        nulls: i64 = 0 if n != 0 else 1
        while True:
            while n != 0:
                prefix = i64(mem[n]) & 0xFFFF_FFFF
                info = i64(mem[n + INFO])
                # None of the bits that differ may be at or above the lowest bit that is set in the prefix.
                if (key ^ prefix) & (prefix | -prefix) != 0 or info >> 16 == info & 0xFF:
                    break
                if info & 0xFF00 == 0:
                    self._pn = pn
                    self._cindex = cindex
                    self.null_node_hit += nulls
                    return n
                n = i64(mem[n + CHILD]) & OFFSET
            while cindex == 0:  # no more bits to strip at this level
                if pn == ROOT:
                    self.null_node_hit += nulls
                    return 0
                self.backtracks += 1
                pkey = i64(mem[pn]) & 0xFFFF_FFFF
                pn = i64(mem[pn + PARENT])
                cindex = (pkey ^ (i64(mem[pn]) & 0xFFFF_FFFF)) >> (i64(mem[pn + INFO]) & 0xFF)
            differs = (cindex & -cindex) << (i64(mem[pn + INFO]) & 0xFF)
            cindex &= cindex - 1
            child = i64(mem[pn + CHILD + cindex])
            # What is below that child has no 1 where the key has one now: only a suffix that covers that bit will do.
            n = child & OFFSET if differs >> (child >> SLEN_SHIFT & SLEN) == 0 else 0
            if child == 0:
                nulls += 1

    def find_node(self, key: i64) -> i64:
        """The leaf of exactly ``key``, 0 if there is none; found_parent is its parent (fib_find_node)."""
        mem = self.mem
        pn: i64 = ROOT
        n = i64(mem[ROOT + CHILD]) & OFFSET
        while n != 0:
            info = i64(mem[n + INFO])
            index = (key ^ (i64(mem[n]) & 0xFFFF_FFFF)) >> (info & 0xFF)
            bits = info >> 8 & 0xFF
            if index >> bits != 0:
                n = 0
                break
            if bits == 0:
                break
            pn = n
            n = i64(mem[n + CHILD + index]) & OFFSET
        self.found_parent = pn
        return n

    def leaf_from(self, key: i64) -> i64:
        """The leaf with the smallest key from ``key`` on, 0 for none (leaf_walk_rcu)."""
        pn: i64 = ROOT
        cindex: i64 = 0
        while True:
            if cindex >> self.bits(pn) != 0:
                if pn == ROOT:
                    return 0
                pkey = self.key(pn)
                pn = self.parent(pn)
                cindex = self.index(pkey, pn) + 1
                continue
            n = self.child(pn, cindex)
            cindex += 1
            if n == 0:
                continue
            if self.bits(n) == 0:
                if self.key(n) >= key:
                    return n
            else:
                pn = n
                cindex = self.index(key, n) if key > self.key(n) else 0

    # -- changes

    def insert_node(self, tp: i64, key: i64, slen: i64, fi: i64, attrs: i64) -> i64:
        """A new leaf for ``key``, which find_node has missed under ``tp``, with one alias (fib_insert_node)."""
        leaf = self._leaf_new(key, slen, fi, attrs)
        n = self.child(tp, self.index(key, tp))
        if n != 0:  # what is there has another key: a tnode for both
            tn = self._tnode_new(key, _fls(key ^ self.key(n)), 1)
            self.mem[tn + PARENT] = i32(tp)
            self._put_child(tn, self.index(key, tn) ^ 1, n)
            self._put_child_root(tp, key, tn)
            self._set_parent(n, tn)
            tp = tn
        self.node_push_suffix(tp, slen)
        self._put_child_root(tp, key, leaf)
        self._rebalance(tp)
        return leaf

    def remove_leaf(self, tp: i64, leaf: i64) -> None:
        """Take out ``leaf``, whose parent is ``tp`` and whose aliases are gone."""
        slen = self.slen(leaf)
        self.unlink_leaf(tp, leaf)
        if self.slen(tp) == slen:
            self.node_pull_suffix(tp, self.pos(tp))
        self._rebalance(tp)

    def unlink_leaf(self, tp: i64, leaf: i64) -> None:
        """Take out ``leaf`` and leave ``tp`` as it is: update_suffix and resize are to come."""
        self._put_child_root(tp, self.key(leaf), 0)
        self.free(leaf, LEAF_KIND)

    def leaf_suffix_changed(self, tp: i64, leaf: i64, slen: i64) -> None:
        """The last alias of ``leaf`` has another suffix length now."""
        was = self.slen(leaf)
        self._set_slen(tp, leaf, slen)
        if slen > was:
            self.node_push_suffix(tp, slen)
        elif slen < was:
            self.node_pull_suffix(tp, slen)

    def set_leaf_slen(self, tp: i64, leaf: i64, slen: i64) -> None:
        """As leaf_suffix_changed, but the nodes above will hear of it later (update_suffix)."""
        self._set_slen(tp, leaf, slen)

    def node_push_suffix(self, tn: i64, slen: i64) -> None:
        while self.slen(tn) < slen:
            tp = self.parent(tn)
            self._set_slen(tp, tn, slen)
            tn = tp

    def node_pull_suffix(self, tn: i64, slen: i64) -> None:
        node_slen = self.slen(tn)
        while node_slen > self.pos(tn) and node_slen > slen:
            slen = self.update_suffix(tn)
            if node_slen == slen:
                break
            tn = self.parent(tn)
            node_slen = self.slen(tn)

    def update_suffix(self, tn: i64) -> i64:
        """Find the longest suffix below ``tn`` anew.

        Only child 0 can have one of pos + bits and more, only every 2 ** n-th child one of pos + n: the stride grows
        with what was found.
        """
        mem = self.mem
        info = i64(mem[tn + INFO])
        pos = info & 0xFF
        length = i64(1) << (info >> 8 & 0xFF)
        slen = pos
        longest = min(pos + (info >> 8 & 0xFF) - 1, info >> 16)
        stride: i64 = 2
        i: i64 = 0
        while i < length:
            found = i64(mem[tn + CHILD + i]) >> SLEN_SHIFT & SLEN
            if found > slen:
                stride <<= found - slen
                slen = found
                i &= ~(stride - 1)
                if slen >= longest:
                    break
            i += stride
        self._set_slen(self.parent(tn), tn, slen)
        return slen

    # -- level compression

    def resize(self, tn: i64) -> i64:
        """Bring ``tn`` to the size it should have; the node above it, to be looked at next."""
        tp = self.parent(tn)
        cindex = self.index(self.key(tn), tp)
        work: i64 = 0
        while work < MAX_WORK and self._should_inflate(tp, tn):
            self._inflate(tn)
            work += 1
            tn = self.child(tp, cindex)
        if work != 0:
            return tp
        while work < MAX_WORK and self._should_halve(tp, tn):
            self._halve(tn)
            work += 1
            tn = self.child(tp, cindex)
        if self.used(tn) < 2:
            self._collapse(tn)
        return tp

    def _rebalance(self, tn: i64) -> None:
        while tn != ROOT:
            tn = self.resize(tn)

    def _should_inflate(self, tp: i64, tn: i64) -> bool:
        """Whether a doubled node were full enough: full children would become two."""
        if self.pos(tn) == 0:
            return False
        used = self.used(tn) + i64(self.mem[tn + FULL])
        threshold = INFLATE_THRESHOLD_ROOT if tp == ROOT else INFLATE_THRESHOLD
        return used > 1 and 50 * used >= threshold * (i64(1) << self.bits(tn))

    def _should_halve(self, tp: i64, tn: i64) -> bool:
        used, bits = self.used(tn), self.bits(tn)
        threshold = HALVE_THRESHOLD_ROOT if tp == ROOT else HALVE_THRESHOLD
        return used > 1 and bits > 1 and 100 * used < threshold * (i64(1) << bits)

    def _inflate(self, old: i64) -> None:
        """Replace ``old`` with a node of twice as many children."""
        bits = self.bits(old)
        tn = self._tnode_new(self.key(old), self.pos(old) - 1, bits + 1)
        i = (i64(1) << bits) - 1
        while i >= 0:
            inode = self.child(old, i)
            if inode != 0:
                if not self._is_full(old, inode):  # a leaf, or it skips bits
                    self._put_child(tn, self.index(self.key(inode), tn), inode)
                elif self.bits(inode) == 1:
                    self._put_child(tn, 2 * i, self.child(inode, 0))
                    self._put_child(tn, 2 * i + 1, self.child(inode, 1))
                    self.free(inode, 1)
                else:
                    self._split(tn, 2 * i, inode)
            i -= 1
        self._replace(old, tn)

    def _split(self, tn: i64, at: i64, inode: i64) -> None:
        """Two nodes with half of ``inode``'s children each, as children ``at`` and ``at + 1`` of ``tn``.

        Their first bit is chosen by ``tn`` now: 0 in one's key, 1 in the other's.
        """
        key, pos, bits = self.key(inode), self.pos(inode), self.bits(inode)
        node0 = self._tnode_new(key, pos, bits - 1)
        node1 = self._tnode_new(key | i64(1) << self.pos(tn), pos, bits - 1)
        half = i64(1) << (bits - 1)
        j: i64 = 0
        while j < half:
            self._put_child(node0, j, self.child(inode, j))
            self._put_child(node1, j, self.child(inode, half + j))
            j += 1
        self.free(inode, bits)
        self._put_child(tn, at, node0)
        self._put_child(tn, at + 1, node1)

    def _halve(self, old: i64) -> None:
        """Replace ``old`` with a node of half as many children."""
        bits, pos = self.bits(old), self.pos(old)
        tn = self._tnode_new(self.key(old), pos + 1, bits - 1)
        i = i64(1) << bits
        while i > 0:
            i -= 2
            node0, node1 = self.child(old, i), self.child(old, i + 1)
            if node0 != 0 and node1 != 0:
                inode = self._tnode_new(self.key(node0), pos, 1)
                self._put_child(inode, 0, node0)
                self._put_child(inode, 1, node1)
                self._put_child(tn, i >> 1, inode)
            else:
                self._put_child(tn, i >> 1, node0 if node0 != 0 else node1)
        self._replace(old, tn)

    def _replace(self, old: i64, tn: i64) -> None:
        """Put ``tn`` into ``old``'s place, and tell everything below; then its full children may grow."""
        tp = self.parent(old)
        self.mem[tn + PARENT] = i32(tp)
        self._put_child_root(tp, self.key(tn), tn)
        self._update_children(tn)
        self.free(old, self.bits(old))
        i = i64(1) << self.bits(tn)
        while i > 0:
            i -= 1
            inode = self.child(tn, i)
            if inode != 0 and self._is_full(tn, inode):
                self.resize(inode)

    def _update_children(self, tn: i64) -> None:
        """Right the parents of what was moved: two levels at most, for new nodes between came without parents."""
        mem = self.mem
        at = tn + CHILD
        end = at + (i64(1) << self.bits(tn))
        while at < end:
            inode = i64(mem[at]) & OFFSET
            if inode != 0 and i64(mem[inode + INFO]) & 0xFF00 != 0:
                if i64(mem[inode + PARENT]) == 0:
                    mem[inode + PARENT] = i32(tn)
                    self._update_children(inode)
                else:
                    mem[inode + PARENT] = i32(tn)
            at += 1

    def _collapse(self, tn: i64) -> None:
        """Put the one child that is left, or none, into ``tn``'s place."""
        n: i64 = 0
        i = i64(1) << self.bits(tn)
        while n == 0 and i > 0:
            i -= 1
            n = self.child(tn, i)
        tp = self.parent(tn)
        self._put_child_root(tp, self.key(tn), n)
        self._set_parent(n, tp)
        self.free(tn, self.bits(tn))

    # -- nodes

    def _leaf_new(self, key: i64, slen: i64, fi: i64, attrs: i64) -> i64:
        leaf = self.alloc(LEAF_KIND)
        mem = self.mem
        mem[leaf] = i32(word(key))
        mem[leaf + INFO] = i32(slen << 16)
        mem[leaf + ALIAS] = i32(0)
        mem[leaf + ALIAS + FI] = i32(fi)
        mem[leaf + ALIAS + ATTRS] = i32(attrs)
        return leaf

    def _tnode_new(self, key: i64, pos: i64, bits: i64) -> i64:
        """Without children, and with parent 0: not in its place yet."""
        tn = self.alloc(bits)
        mem = self.mem
        shift = pos + bits
        mem[tn] = i32(word(key >> shift << shift))
        mem[tn + INFO] = i32(pos | bits << 8 | pos << 16)
        mem[tn + PARENT] = i32(0)
        mem[tn + EMPTY] = i32(i64(1) << bits)
        mem[tn + FULL] = i32(0)
        at = tn + CHILD
        end = at + (i64(1) << bits)
        while at < end:
            mem[at] = i32(0)
            at += 1
        return tn

    def _is_full(self, tn: i64, n: i64) -> bool:
        """Whether ``n`` is a tnode that skips no bits below ``tn`` (tnode_full)."""
        info = i64(self.mem[n + INFO])
        bits = info >> 8 & 0xFF
        return bits != 0 and (info & 0xFF) + bits == self.pos(tn)

    def _put_child(self, tn: i64, index: i64, n: i64) -> None:
        """Make ``n`` (or nothing) a child of ``tn``, and count."""
        was = self.child(tn, index)
        mem = self.mem
        if n == 0 and was != 0:
            mem[tn + EMPTY] += i32(1)
        elif n != 0 and was == 0:
            mem[tn + EMPTY] -= i32(1)
        was_full = was != 0 and self._is_full(tn, was)
        is_full = n != 0 and self._is_full(tn, n)
        if was_full and not is_full:
            mem[tn + FULL] -= i32(1)
        elif is_full and not was_full:
            mem[tn + FULL] += i32(1)
        slen = self.slen(n) if n != 0 else 0
        if self.slen(tn) < slen:  # never, once it is in its place: node_push_suffix was first
            mem[tn + INFO] = i32(i64(mem[tn + INFO]) & 0xFFFF | slen << 16)
        mem[tn + CHILD + index] = i32(word(n | slen << SLEN_SHIFT))

    def _put_child_root(self, tp: i64, key: i64, n: i64) -> None:
        if tp == ROOT:
            slen = self.slen(n) if n != 0 else 0
            self.mem[ROOT + CHILD] = i32(word(n | slen << SLEN_SHIFT))
        else:
            self._put_child(tp, self.index(key, tp), n)

    def _set_parent(self, n: i64, tp: i64) -> None:
        """Leaves have none: whoever needs it has come from there."""
        if n != 0 and self.bits(n) != 0:
            self.mem[n + PARENT] = i32(tp)


def _fls(value: i64) -> i64:
    """The number of the highest bit that is set (__fls)."""
    n: i64 = 0
    for step in (16, 8, 4, 2, 1):
        if value >> step != 0:
            value >>= step
            n += step
    return n
