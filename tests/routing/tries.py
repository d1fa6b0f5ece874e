"""A table for tests: three devices, real fib_infos, no addresses; and what must hold in every trie at any time."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, NamedTuple

from mypy_extensions import i64

from tests.routing.links import SEED, FakeDevice, a, shown
from ustack.device.core import Devices
from ustack.dst import RTN_UNICAST
from ustack.net import Net, RtnlWatcher
from ustack.routing.fib_semantics import FibSemantics
from ustack.routing.fib_trie import FibTable
from ustack.routing.fib_types import FibAlias, FibConfig, FibLookup, FibResult, Reachability
from ustack.routing.flow import RT_SCOPE_LINK, Flow
from ustack.routing.key_vector import ALIAS, CHILD, EMPTY, FULL, KEYLENGTH, OFFSET, ROOT, SLEN, SLEN_SHIFT
from ustack.routing.uapi import NLM_F_CREATE, NLM_F_EXCL

if TYPE_CHECKING:
    from ustack.routing.trie import Trie


class NoLookup(FibLookup):
    """There is nothing to reach a gateway by, and no address is ours."""

    def fib_lookup(self, flow: Flow, res: FibResult, fib_flags: i64 = 0) -> i64:
        return errno.ENETUNREACH

    def inet_addr_type_table(self, addr: i64, tb_id: i64) -> i64:
        return RTN_UNICAST

    def fib_get_table(self, tb_id: i64) -> FibTable | None:
        return None


class Heard(RtnlWatcher):
    """What a watcher was told."""

    def __init__(self) -> None:
        self.events: list[tuple[int, str]] = []

    def changed(self, event: i64, what: object) -> None:
        assert isinstance(what, FibAlias)
        self.events.append((int(event), prefix_of(what)))


class Tables:
    """Three devices, 1 to 3, and main with its semantics."""

    def __init__(self) -> None:
        self.net = Net(SEED)
        self.devices = Devices(self.net)
        for number in range(3):
            dev = FakeDevice(f"eth{number}", number + 1)
            self.devices.register_netdevice(dev)
            self.devices.dev_open(dev)
        self.semantics = FibSemantics(self.net, self.devices, NoLookup(), Reachability())
        self.main = FibTable(254, self.semantics)

    def used_infos(self) -> int:
        return sum(fi is not None for fi in self.semantics.infos)


def prefix_of(alias: FibAlias) -> str:
    return f"{shown(alias.key)}/{alias.prefixlen}"


def config(
    prefix: str, nlflags: int = NLM_F_CREATE | NLM_F_EXCL, tos: int = 0, metric: int = 0, oif: int = 1
) -> FibConfig:
    """``ip route add PREFIX dev ethN scope link``."""
    network, _, length = prefix.partition("/")
    return route(a(network), int(length), nlflags, tos, metric, oif)


def route(dst: int, dst_len: int, nlflags: int, tos: int = 0, metric: int = 0, oif: int = 1) -> FibConfig:
    cfg = FibConfig(dst, dst_len)
    cfg.nlflags, cfg.tos, cfg.priority, cfg.oif = nlflags, tos, metric, oif
    cfg.scope, cfg.table = RT_SCOPE_LINK, 254
    return cfg


class Found(NamedTuple):
    """What a lookup says."""

    err: int
    prefixlen: int = -1
    tos: int = -1
    metric: int = -1
    oif: int = -1


def look(table: FibTable, addr: int, tos: int = 0, oif: int = 0, scope: int = 0) -> Found:
    res = FibResult()
    err = int(table.fib_table_lookup(Flow(addr, tos=tos, oif=oif, scope=scope), res))
    if err != 0 or res.fi is None or res.nhc is None:
        return Found(err)
    return Found(0, int(res.prefixlen), int(res.tos), int(res.fi.priority), int(res.nhc.oif))


# -- invariants


def check_trie(trie: Trie) -> int:
    """Everything that holds whatever was done; the number of routes."""
    first = trie.child(ROOT, 0)
    used = [ROOT_WORDS]
    routes = 0
    if first:
        check_child(trie, ROOT, 0)
        routes = check_node(trie, first, ROOT, used)
    assert sum(used) + trie.free_words == trie.top - 1, "no word is lost, none is there twice"
    return routes


#: Of the block that stands for struct trie.
ROOT_WORDS = CHILD + 2


def check_child(trie: Trie, tn: int, index: int) -> None:
    n = trie.child(tn, index)
    assert trie.index(trie.key(n), tn) == index, "a key leads to its node"
    told = int(trie.mem[tn + CHILD + index])
    assert told & OFFSET == n
    assert told >> SLEN_SHIFT & SLEN == trie.slen(n), "both places know the suffix"


def check_node(trie: Trie, n: int, parent: int, used: list[int]) -> int:
    if trie.bits(n) == 0:
        return check_leaf(trie, n, used)
    pos, bits = int(trie.pos(n)), int(trie.bits(n))
    used.append(CHILD + (1 << bits))
    assert trie.parent(n) == parent
    assert pos + bits <= trie.pos(parent)
    assert trie.key(n) & ((1 << pos + bits) - 1) == 0
    children = [(index, int(trie.child(n, index))) for index in range(1 << bits)]
    there = [(index, child) for index, child in children if child]
    assert trie.mem[n + EMPTY] == len(children) - len(there)
    assert trie.mem[n + FULL] == sum(
        trie.bits(child) > 0 and trie.pos(child) + trie.bits(child) == pos for _, child in there
    )
    assert len(there) >= 2, "a node with one child is no node"
    assert trie.slen(n) == max(pos, *(int(trie.slen(child)) for _, child in there))
    for index, _ in there:
        check_child(trie, n, index)
    return sum(check_node(trie, child, n, used) for _, child in there)


def check_leaf(trie: Trie, leaf: int, used: list[int]) -> int:
    assert trie.pos(leaf) == 0
    used.append(5)
    alias, before, slen = leaf + ALIAS, (-1, 0), 0
    routes = 0
    while alias:
        attrs = int(trie.attrs(alias))
        slen = attrs & 0xFF
        order = (slen, -(attrs >> 24))
        assert before <= order, "the longest prefix first, local's before main's"
        assert trie.key(leaf) & ((1 << slen) - 1) == 0
        before = order
        if alias != leaf + ALIAS:
            used.append(3)
        routes += 1
        alias = int(trie.next_alias(alias))
    assert trie.slen(leaf) == slen, "the last alias has the longest suffix"
    assert slen <= KEYLENGTH
    return routes
