"""One routing table over an LC-trie (Linux net/ipv4/fib_trie.c, struct fib_table).

A route is three words of its trie and the FibInfo it shares; what is told of it is a FibAlias, made when asked for.
The tables main and local share one trie while there are no custom rules: one lookup then serves both.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

from librt.strings import read_i32_be
from librt.vecs import vec
from mypy_extensions import i64, u8

from ustack.dst import RTN_BLACKHOLE
from ustack.net import RTM_DELROUTE, RTM_NEWROUTE
from ustack.routing.fib_types import EAGAIN, FibAlias, FibResult, fib_error, prefix_mask
from ustack.routing.flow import INET_DSCP_LEGACY_TOS_MASK, RT_SCOPE_NOWHERE, Flow
from ustack.routing.key_vector import ALIAS, ATTRS, FI, KEYLENGTH, ROOT
from ustack.routing.trie import MAX_WORDS, Trie, attrs_of
from ustack.routing.uapi import (
    FIB_LOOKUP_IGNORE_LINKSTATE,
    NLM_F_APPEND,
    NLM_F_CREATE,
    NLM_F_EXCL,
    NLM_F_REPLACE,
    RTNH_F_DEAD,
    RTNH_F_LINKDOWN,
)
from ustack.sock import error

if TYPE_CHECKING:
    from ustack.routing.fib_semantics import FibSemantics
    from ustack.routing.fib_types import FibConfig, FibInfo, FibNh
    from ustack.routing.triestat import TrieStat

#: Twice the Internet's table of 2026: a route bomb through the control interface stops here (ENOBUFS).
FIB_MAX_ROUTES: Final = 1 << 21
#: Bytes of a prefix in insert_many: the address in network order, the length.
PREFIX_BYTES: Final = 5
#: A piece of a dump looks at so many keys at most for each route it may have: they may all be the other table's.
KEYS_PER_ROUTE: Final = 16
#: Addresses that lookup_many and insert_many read ahead for.
WARM: Final = 64
#: In the answer of lookup_many: no route.
NO_ROUTE: Final = 255

# what a leaf or an alias answers when it has no route
_MISS: Final = -1
_MISS_LEAF: Final = -2  # and the leaf's other aliases are not asked

_UNCHANGED: Final = -1  # the route is there already

# which aliases a sweep takes out
_SWEEP_DEAD: Final = 0
_SWEEP_ALL: Final = 1
_SWEEP_EXTERNAL: Final = 2


class FibTable:
    """struct fib_table."""

    def __init__(self, tb_id: i64, semantics: FibSemantics, shared: FibTable | None = None) -> None:
        """``shared``: the table whose trie this one uses (fib_trie_table): main, for local."""
        self.tb_id: i64 = tb_id
        self.semantics: FibSemantics = semantics
        self.shared: FibTable | None = shared
        self.trie: Trie = Trie() if shared is None else shared.trie
        self.table: i64 = 0 if shared is None else 1  #: which of the trie's aliases are this table's
        self.count: i64 = 0  #: routes
        self.tb_num_default: i64 = 0  #: of them those to 0.0.0.0/0
        self.tb_default: i64 = -1
        self.dumped_to: i64 = -1  #: where the next piece of a dump begins; -1: that was the last
        self._defaults: dict[int, int] = {}  # fa_default of prefixes that have one
        self._flow = Flow(0)
        self._result = FibResult()

    # -- lookups

    def fib_table_lookup(self, flow: Flow, res: FibResult, fib_flags: i64 = 0) -> i64:
        """Fill ``res`` with the route of ``flow``; 0, or the errno of its type. EAGAIN: ask the next table.

        The longest prefix with a route that may be used: when all of one prefix are dead, or for another TOS, scope
        or device, the next shorter prefix is asked.
        """
        trie = self.trie
        key = flow.daddr
        leaf = trie.find_leaf(key)
        while leaf != 0:
            err = self._leaf_lookup(leaf, key, flow, res, fib_flags)
            if err >= 0:
                trie.semantic_match_passed += 1
                return err
            trie.semantic_match_miss += 1
            leaf = trie.next_leaf(key)
        return EAGAIN

    def lookup(self, addr: i64) -> FibInfo | None:
        """What a packet to ``addr`` would use, of this table alone; None for no route."""
        self._flow.daddr = addr
        return None if self.fib_table_lookup(self._flow, self._result) == EAGAIN else self._result.fi

    def lookup_many(self, addresses: bytes, ahead: i64 = WARM) -> bytes:
        """Which prefix lengths serve the addresses, four bytes each in network order: a byte each, or NO_ROUTE.

        ``ahead``: so many addresses are made ready together (KeyVectors.warm); 0: each is looked up by itself.
        """
        flow, res = self._flow, self._result
        size: i64 = i64(len(addresses)) & ~3
        found = vec[u8]([u8(NO_ROUTE)] * (size >> 2))
        warm: i64 = 0 if ahead > 0 else size
        at: i64 = 0
        while at < size:
            if at == warm:
                warm = min(at + 4 * ahead, size)
                self.trie.warm(addresses, at, warm, 4)
            flow.daddr = i64(read_i32_be(addresses, at)) & 0xFFFF_FFFF
            if self.fib_table_lookup(flow, res) != EAGAIN:
                found[at >> 2] = u8(res.prefixlen)
            at += 4
        return bytes(found)

    def _leaf_lookup(self, leaf: i64, key: i64, flow: Flow, res: FibResult, fib_flags: i64) -> i64:
        """0, an errno, or _MISS."""
        mem = self.trie.mem
        infos = self.semantics.infos
        prefix = i64(mem[leaf]) & 0xFFFF_FFFF
        alias = leaf + ALIAS
        while alias != 0:
            attrs = i64(mem[alias + ATTRS])
            if (key ^ prefix) >> (attrs & 0xFF) == 0:
                fi = infos[i64(mem[alias + FI])]
                if fi is not None:
                    err = self._alias_lookup(attrs, prefix, fi, flow, res, fib_flags)
                    if err != _MISS:
                        return err if err >= 0 else _MISS
            alias = i64(mem[alias])
        return _MISS

    def _alias_lookup(self, attrs: i64, prefix: i64, fi: FibInfo, flow: Flow, res: FibResult, fib_flags: i64) -> i64:
        """0, an errno, _MISS or _MISS_LEAF."""
        tos = attrs >> 8 & 0xFF
        if (tos != 0 and tos != flow.tos & INET_DSCP_LEGACY_TOS_MASK) or fi.dead or fi.scope < flow.scope:
            return _MISS
        if attrs >> 16 & 0xFF >= RTN_BLACKHOLE:
            err = fib_error(attrs >> 16 & 0xFF)
            if err != 0:
                self._assign(res, attrs, prefix, fi, 0, None)
                return err
        if fi.flags & RTNH_F_DEAD != 0:
            return _MISS
        nexthop = fi.nexthop
        if nexthop is not None and nexthop.blackhole:
            self._assign(res, attrs, prefix, fi, 0, None)
            return errno.EINVAL
        sel: i64 = 0
        for nhc in fi.nh if nexthop is None else nexthop.hops():
            if fib_lookup_good_nhc(nhc, fib_flags, flow):
                self._assign(res, attrs, prefix, fi, sel, nhc)
                return 0
            sel += 1
        return _MISS if nexthop is None else _MISS_LEAF

    def _assign(self, res: FibResult, attrs: i64, prefix: i64, fi: FibInfo, sel: i64, nhc: FibNh | None) -> None:
        res.prefix = prefix
        res.prefixlen = KEYLENGTH - (attrs & 0xFF)
        res.nh_sel = sel
        res.rt_type = attrs >> 16 & 0xFF
        res.scope = fi.scope
        if nhc is not None:
            res.tos = attrs >> 8 & 0xFF  # errors leave it as it was: what a rule suppressed shows in ``route get``
        res.fi = fi
        res.nhc = nhc
        res.table = self

    # -- changes

    def fib_table_insert(self, cfg: FibConfig) -> FibAlias:
        """Add the route, or replace one, as NLM_F_CREATE, EXCL, REPLACE and APPEND say. The route as it is now.

        EEXIST, ENOENT (nothing to replace, and not to be created), ENOBUFS (full); what fib_create_info raises.
        """
        check_prefix(cfg.dst, cfg.dst_len)
        self.trie.pack_if_sparse()
        semantics = self.semantics
        fi = semantics.fib_create_info(cfg)
        code = self._place(cfg, cfg.dst, KEYLENGTH - cfg.dst_len, fi)
        if code != 0:
            semantics.fib_release_info(fi)
            if code != _UNCHANGED:
                raise error(int(code))
        alias = FibAlias(cfg.dst, cfg.dst_len, cfg.tos, cfg.rt_type, self.tb_id, fi)
        if code == 0:
            semantics.net.rtnl_notify(RTM_NEWROUTE, alias)
        return alias

    def insert_many(self, cfg: FibConfig, prefixes: bytes) -> dict[int, int]:
        """Insert ``cfg`` for each of ``prefixes`` (PREFIX_BYTES each) in its place. Which were refused: place to errno.

        Raises what fib_create_info raises, before anything is changed.
        """
        fi = self.semantics.fib_create_info(cfg)
        self.trie.reserve_routes(i64(len(prefixes)) // PREFIX_BYTES)
        watched = len(self.semantics.net.rtnl_watchers) != 0
        refused: dict[int, int] = {}
        place: i64 = 0
        places: i64 = i64(len(prefixes)) // PREFIX_BYTES
        while place < places:
            if place % WARM == 0:
                self.trie.warm(prefixes, place * PREFIX_BYTES, min(place + WARM, places) * PREFIX_BYTES, PREFIX_BYTES)
            key = i64(read_i32_be(prefixes, place * PREFIX_BYTES)) & 0xFFFF_FFFF
            plen = i64(prefixes[place * PREFIX_BYTES + 4])
            code: i64 = errno.EINVAL
            if plen <= KEYLENGTH and key & ((i64(1) << (KEYLENGTH - plen)) - 1) == 0:
                code = self._place(cfg, key, KEYLENGTH - plen, fi)
            if code == 0:
                fi.treeref += 1
                if watched:
                    alias = FibAlias(key, plen, cfg.tos, cfg.rt_type, self.tb_id, fi)
                    self.semantics.net.rtnl_notify(RTM_NEWROUTE, alias)
            elif code != _UNCHANGED:
                refused[int(place)] = int(code)
            place += 1
        self.semantics.fib_release_info(fi)
        self.trie.pack_if_loaded(place)
        return refused

    def _place(self, cfg: FibConfig, key: i64, slen: i64, fi: FibInfo) -> i64:
        """Put ``fi`` where fib_table_insert would; 0, an errno, or _UNCHANGED."""
        trie = self.trie
        leaf = trie.find_node(key)
        tp = trie.found_parent
        attrs = attrs_of(slen, cfg.tos, cfg.rt_type, self.table)
        before: i64 = 0
        if leaf != 0:
            before = self._find_alias(leaf, slen, cfg.tos, fi.priority)
            if before != 0 and self._is_key(before, slen, cfg.tos, fi.priority):
                if cfg.nlflags & NLM_F_EXCL != 0:
                    return errno.EEXIST
                match = self._find_match(before, attrs, fi)
                if cfg.nlflags & NLM_F_REPLACE != 0:
                    if match != 0:
                        return _UNCHANGED if match == before else errno.EEXIST
                    self._replace(before, key, attrs, fi)
                    return 0
                if match != 0:
                    return errno.EEXIST
                if cfg.nlflags & NLM_F_APPEND != 0:
                    before = self._behind_equals(before, slen, cfg.tos, fi.priority)
        if cfg.nlflags & NLM_F_CREATE == 0:
            return errno.ENOENT
        if self.count >= FIB_MAX_ROUTES or trie.top > MAX_WORDS:
            return errno.ENOBUFS
        if leaf == 0:
            trie.insert_node(tp, key, slen, fi.index, attrs)
        else:
            trie.insert_alias(tp, leaf, before, fi.index, attrs)
        self.count += 1
        if slen == KEYLENGTH:
            self.tb_num_default += 1
        return 0

    def _replace(self, alias: i64, key: i64, attrs: i64, fi: FibInfo) -> None:
        dropped = self._info(alias)
        self.trie.set_alias(alias, fi.index, attrs)
        self._forget_default(key, attrs & 0xFF)
        self.semantics.fib_release_info(dropped)

    def fib_table_delete(self, cfg: FibConfig) -> FibAlias:
        """Take out the first route that is as ``cfg`` says, where it says something. The route as it was. ESRCH."""
        check_prefix(cfg.dst, cfg.dst_len)
        trie = self.trie
        slen = KEYLENGTH - cfg.dst_len
        leaf = trie.find_node(cfg.dst)
        tp = trie.found_parent
        alias = self._find_alias(leaf, slen, cfg.tos, 0) if leaf != 0 else 0
        while alias != 0 and self._is_prefix(alias, slen, cfg.tos) and not self._is_meant(alias, cfg):
            alias = trie.next_alias(alias)
        if alias == 0 or not self._is_prefix(alias, slen, cfg.tos):
            raise error(errno.ESRCH)
        fi = self._info(alias)
        gone = self._told(cfg.dst, alias)
        trie.remove_alias(tp, leaf, alias)
        self._removed(cfg.dst, slen, fi)
        self.semantics.net.rtnl_notify(RTM_DELROUTE, gone)
        trie.pack_if_sparse()
        return gone

    def _is_meant(self, alias: i64, cfg: FibConfig) -> bool:
        fi = self._info(alias)
        return (
            (cfg.rt_type == 0 or self.trie.attrs(alias) >> 16 & 0xFF == cfg.rt_type)
            and (cfg.scope == RT_SCOPE_NOWHERE or fi.scope == cfg.scope)
            and (cfg.prefsrc == 0 or fi.prefsrc == cfg.prefsrc)
            and (cfg.protocol == 0 or fi.protocol == cfg.protocol)
            and self.semantics.fib_nh_match(cfg, fi)
            and self.semantics.fib_metrics_match(cfg, fi)
        )

    def _removed(self, key: i64, slen: i64, fi: FibInfo) -> None:
        self.count -= 1
        if slen == KEYLENGTH:
            self.tb_num_default -= 1
        self._forget_default(key, slen)
        self.semantics.fib_release_info(fi)

    # -- finding aliases

    def _find_alias(self, leaf: i64, slen: i64, tos: i64, priority: i64) -> i64:
        """The first of this prefix with this TOS and at least this priority, or with a smaller TOS (fib_find_alias).

        It is the one asked for, or the one to insert that before; 0: it belongs at the end.
        """
        mem = self.trie.mem
        alias = leaf + ALIAS
        while alias != 0:
            attrs = i64(mem[alias + ATTRS])
            if attrs & 0xFF > slen or (attrs & 0xFF == slen and attrs >> 24 < self.table):
                return 0
            if attrs & 0xFF == slen and attrs >> 24 == self.table and attrs >> 8 & 0xFF <= tos:
                if attrs >> 8 & 0xFF < tos or self._info(alias).priority >= priority:
                    return alias
            alias = i64(mem[alias])
        return 0

    def _find_match(self, alias: i64, attrs: i64, fi: FibInfo) -> i64:
        """Of ``alias`` and those like it (prefix, TOS, priority), the one that is just the same route; 0 for none."""
        trie = self.trie
        while alias != 0 and self._is_key(alias, attrs & 0xFF, attrs >> 8 & 0xFF, fi.priority):
            if trie.attrs(alias) == attrs and trie.fi(alias) == fi.index:
                return alias
            alias = trie.next_alias(alias)
        return 0

    def _behind_equals(self, alias: i64, slen: i64, tos: i64, priority: i64) -> i64:
        """The first after ``alias`` that is not like it; 0 at the end of the leaf."""
        while alias != 0 and self._is_key(alias, slen, tos, priority):
            alias = self.trie.next_alias(alias)
        return alias

    def _is_prefix(self, alias: i64, slen: i64, tos: i64) -> bool:
        attrs = self.trie.attrs(alias)
        return attrs & 0xFFFF == slen | tos << 8 and attrs >> 24 == self.table

    def _is_key(self, alias: i64, slen: i64, tos: i64, priority: i64) -> bool:
        return self._is_prefix(alias, slen, tos) and self._info(alias).priority == priority

    def _info(self, alias: i64) -> FibInfo:
        fi = self.semantics.infos[self.trie.fi(alias)]
        assert fi is not None, "an alias holds a reference"
        return fi

    # -- sweeps

    def fib_table_flush(self, flush_all: bool = False) -> int:
        """Take out the routes whose fib_info is dead; with ``flush_all`` those that lead nowhere too. How many.

        Who watches hears only of those whose preferred source went away: the others went with their device, which
        was told.
        """
        return self._sweep(_SWEEP_ALL if flush_all else _SWEEP_DEAD)

    def fib_trie_unmerge(self) -> FibTable:
        """The same table with a trie of its own. The shared one is without its routes afterwards."""
        if self.shared is None:
            return self
        alone = FibTable(self.tb_id, self.semantics)
        leaf = self.trie.leaf_from(0)
        while leaf != 0:
            self._clone_leaf(leaf, alone.trie)
            leaf = self.trie.leaf_from(self.trie.key(leaf) + 1)
        alone.count = self.count
        alone.tb_num_default = self.tb_num_default
        alone.tb_default = self.tb_default
        alone._defaults.update(self._defaults)
        self._sweep(_SWEEP_EXTERNAL)
        self.count = 0
        return alone

    def _clone_leaf(self, leaf: i64, to: Trie) -> None:
        trie, key = self.trie, self.trie.key(leaf)
        alias = leaf + ALIAS
        while alias != 0:
            attrs = trie.attrs(alias)
            if attrs >> 24 == self.table:
                attrs &= 0xFF_FFFF
                clone = to.find_node(key)
                if clone == 0:
                    to.insert_node(to.found_parent, key, attrs & 0xFF, trie.fi(alias), attrs)
                else:
                    to.insert_alias(to.found_parent, clone, 0, trie.fi(alias), attrs)
            alias = trie.next_alias(alias)

    def _sweep(self, what: i64) -> int:
        """Walk the trie backwards and take out aliases; nodes are resized when all below them is done."""
        trie = self.trie
        found = 0
        pn: i64 = ROOT
        cindex: i64 = 1
        while True:
            if cindex == 0:
                if pn == ROOT:
                    break
                key = trie.key(pn)
                if trie.slen(pn) > trie.pos(pn):
                    trie.update_suffix(pn)
                pn = trie.resize(pn)
                cindex = trie.index(key, pn)
                continue
            cindex -= 1
            n = trie.child(pn, cindex)
            if n == 0:
                continue
            bits = trie.bits(n)
            if bits == 0:
                found += self._sweep_leaf(pn, n, what)
            else:
                pn = n
                cindex = i64(1) << bits
        trie.pack_if_sparse()
        return found

    def _sweep_leaf(self, pn: i64, leaf: i64, what: i64) -> int:
        trie = self.trie
        key = trie.key(leaf)
        found = 0
        alias = leaf + ALIAS
        slen: i64 = 0
        while alias != 0:
            following = trie.next_alias(alias)
            attrs = trie.attrs(alias)
            if not self._is_doomed(alias, attrs, what):
                slen = attrs & 0xFF
                alias = following
                continue
            found += 1
            fi = self._info(alias)
            gone = self._told(key, alias)
            last = alias == leaf + ALIAS and following == 0
            if last:
                trie.unlink_leaf(pn, leaf)
            else:
                trie.unlink_alias(leaf, alias)
            if what != _SWEEP_EXTERNAL:
                self._removed(key, attrs & 0xFF, fi)
                if fi.pfsrc_removed:
                    self.semantics.net.rtnl_notify(RTM_DELROUTE, gone)
            if last:
                return found
            if alias != leaf + ALIAS:  # else what followed is here now
                alias = following
        trie.set_leaf_slen(pn, leaf, slen)
        return found

    def _is_doomed(self, alias: i64, attrs: i64, what: i64) -> bool:
        if attrs >> 24 != self.table:
            return False
        if what == _SWEEP_EXTERNAL:
            return True
        if self._info(alias).flags & RTNH_F_DEAD != 0:
            return True
        return what == _SWEEP_ALL and fib_error(attrs >> 16 & 0xFF) != 0

    # -- telling

    def fib_table_dump(self, start: i64 = 0, limit: i64 = 0) -> list[FibAlias]:
        """The routes by key from ``start`` on, the longest prefix first.

        With ``limit``, of the first keys that reach so many routes, and of a limited number of keys: a long table is
        dumped piece by piece, on from ``dumped_to``.
        """
        trie = self.trie
        aliases: list[FibAlias] = []
        keys = limit * KEYS_PER_ROUTE
        leaf = trie.leaf_from(start)
        while leaf != 0:
            key = trie.key(leaf)
            keys -= 1
            alias = leaf + ALIAS
            while alias != 0:
                if trie.attrs(alias) >> 24 == self.table:
                    aliases.append(self._told(key, alias))
                alias = trie.next_alias(alias)
            if limit != 0 and (keys <= 0 or i64(len(aliases)) >= limit):
                self.dumped_to = key + 1
                return aliases
            leaf = trie.leaf_from(key + 1)
        self.dumped_to = -1
        return aliases

    def fib_alias_list(self, key: i64, prefixlen: i64) -> list[FibAlias]:
        """The routes of one prefix, in the order in which lookups try them."""
        trie = self.trie
        aliases: list[FibAlias] = []
        leaf = trie.find_node(key)
        alias = leaf + ALIAS if leaf != 0 else 0
        while alias != 0:
            attrs = trie.attrs(alias)
            if attrs & 0xFF == KEYLENGTH - prefixlen and attrs >> 24 == self.table:
                aliases.append(self._told(key, alias))
            alias = trie.next_alias(alias)
        return aliases

    def _told(self, key: i64, alias: i64) -> FibAlias:
        attrs = self.trie.attrs(alias)
        prefixlen = KEYLENGTH - (attrs & 0xFF)
        return FibAlias(key, prefixlen, attrs >> 8 & 0xFF, attrs >> 16 & 0xFF, self.tb_id, self._info(alias))

    def get_default(self, key: i64, prefixlen: i64) -> i64:
        """fa_default: which of the prefix' equal routes fib_select_default has taken last; -1: none."""
        return self._defaults.get(int(key << 8 | prefixlen), -1)

    def set_default(self, key: i64, prefixlen: i64, order: i64) -> None:
        if order >= 0:
            self._defaults[int(key << 8 | prefixlen)] = int(order)
        else:
            self._defaults.pop(int(key << 8 | prefixlen), None)

    def _forget_default(self, key: i64, slen: i64) -> None:
        if self._defaults:
            self._defaults.pop(int(key << 8 | KEYLENGTH - slen), None)

    def triestat(self) -> TrieStat:
        """The shape of the trie, with another table's part of it if it is shared."""
        return self.trie.stat()


def check_prefix(key: i64, prefixlen: i64) -> None:
    """fib_valid_key_len. Raises EINVAL, in the kernel's words."""
    if prefixlen < 0 or prefixlen > KEYLENGTH:
        raise OSError(errno.EINVAL, "Invalid prefix length")
    if key & ~prefix_mask(prefixlen) != 0:
        raise OSError(errno.EINVAL, "Invalid prefix for given prefix length")


def fib_lookup_good_nhc(nhc: FibNh, fib_flags: i64, flow: Flow) -> bool:
    """Whether ``flow`` may leave by this hop."""
    flags = nhc.flags
    if flags & RTNH_F_DEAD != 0 or (flow.oif != 0 and flow.oif != nhc.oif):
        return False
    if flags & RTNH_F_LINKDOWN != 0 and fib_flags & FIB_LOOKUP_IGNORE_LINKSTATE == 0:
        dev = nhc.dev
        if dev is not None and dev.in_dev.ignore_routes_with_linkdown():
            return False
    return True
