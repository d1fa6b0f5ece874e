"""fib_trie: the table against a linear list, and the trie's own invariants, after every operation."""

from __future__ import annotations

import errno
import random
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.routing.links import a
from tests.routing.tries import (
    ROOT_WORDS,
    Found,
    Heard,
    Tables,
    check_trie,
    config,
    look,
    prefix_of,
    route,
)
from ustack.dst import RTN_BLACKHOLE, RTN_PROHIBIT, RTN_THROW, RTN_UNICAST, RTN_UNREACHABLE
from ustack.net import RTM_DELROUTE, RTM_NEWROUTE
from ustack.routing.fib_trie import FIB_MAX_ROUTES, NO_ROUTE, FibTable
from ustack.routing.fib_types import FibConfig, FibResult
from ustack.routing.flow import RT_SCOPE_HOST, RT_SCOPE_LINK, RT_SCOPE_NOWHERE, RT_SCOPE_UNIVERSE, Flow
from ustack.routing.trie import MAX_WORDS
from ustack.routing.uapi import (
    FIB_LOOKUP_IGNORE_LINKSTATE,
    NLM_F_APPEND,
    NLM_F_CREATE,
    NLM_F_EXCL,
    NLM_F_REPLACE,
    RTNH_F_DEAD,
    RTNH_F_LINKDOWN,
)

# as iproute2 says it
ADD = NLM_F_CREATE | NLM_F_EXCL
CHANGE = NLM_F_REPLACE
REPLACE = NLM_F_CREATE | NLM_F_REPLACE
PREPEND = NLM_F_CREATE
APPEND = NLM_F_CREATE | NLM_F_APPEND

NOTHING = Found(errno.EAGAIN)


@pytest.fixture
def tables() -> Tables:
    return Tables()


def prefixes(table: FibTable) -> list[str]:
    return [prefix_of(alias) for alias in table.fib_table_dump()]


def oifs(table: FibTable, prefix: str) -> list[int]:
    network, _, length = prefix.partition("/")
    return [int(alias.fi.nh[0].oif) for alias in table.fib_alias_list(a(network), int(length))]


def refusal(table: FibTable, cfg: FibConfig) -> int:
    with pytest.raises(OSError) as caught:
        table.fib_table_insert(cfg)
    check_trie(table.trie)
    assert caught.value.errno is not None
    return caught.value.errno


# -- the model


class Entry(NamedTuple):
    """A route of the model: ``oif`` stands for what else makes routes different."""

    key: int
    prefixlen: int
    tos: int
    metric: int
    oif: int

    def place(self) -> tuple[int, int, int, int]:
        return self.key, self.prefixlen, self.tos, self.metric


class Linear:
    """A list of routes in the order in which they are tried; the kernel's rules in plain words."""

    def __init__(self) -> None:
        self.routes: list[Entry] = []

    def insert(self, new: Entry, nlflags: int) -> int:
        equals = [entry for entry in self.routes if entry.place() == new.place()]
        if equals:
            if nlflags & NLM_F_EXCL:
                return errno.EEXIST
            if nlflags & NLM_F_REPLACE:
                return self.replace(equals, new)
            if new in equals:
                return errno.EEXIST
        if not nlflags & NLM_F_CREATE:
            return errno.ENOENT
        behind = equals if nlflags & NLM_F_APPEND else []
        at = sum(self.rank(entry) < self.rank(new) for entry in self.routes) + len(behind)
        self.routes.insert(at, new)
        return 0

    def replace(self, equals: list[Entry], new: Entry) -> int:
        if new in equals:
            return 0 if new == equals[0] else errno.EEXIST
        self.routes[self.routes.index(equals[0])] = new
        return 0

    @staticmethod
    def rank(entry: Entry) -> tuple[int, int, int, int]:
        """As they are dumped: by key, the longest prefix first, the largest TOS, the smallest metric."""
        return entry.key, -entry.prefixlen, -entry.tos, entry.metric

    def delete(self, key: int, prefixlen: int, tos: int, metric: int, oif: int) -> int:
        """``metric`` and ``oif`` 0: any."""
        for entry in self.routes:
            if entry[:3] == (key, prefixlen, tos) and metric in (0, entry.metric) and oif in (0, entry.oif):
                self.routes.remove(entry)
                return 0
        return errno.ESRCH

    def lookup(self, addr: int, tos: int, oif: int) -> Found:
        fitting = [
            entry
            for entry in self.routes
            if (addr ^ entry.key) >> (32 - entry.prefixlen) == 0
            and entry.tos in (0, tos & 0x1C)
            and oif in (0, entry.oif)
        ]
        if not fitting:
            return NOTHING
        best = max(fitting, key=lambda entry: entry.prefixlen)
        return Found(0, best.prefixlen, best.tos, best.metric, best.oif)


def clustered(rng: random.Random) -> tuple[int, int]:
    """A prefix such as tables have: many share their first bits."""
    length = rng.choice([0, 8, 15, 16, 20, 22, 23, 24, 24, 24, 25, 30, 31, 32, 32, rng.randrange(33)])
    network = rng.choice([0x0A00_0000, 0x0A01_0000, 0xC000_0200, 0xFFFF_FF00, 0, rng.getrandbits(32)])
    network ^= rng.getrandbits(rng.choice([0, 4, 10, 16]))
    return network >> (32 - length) << (32 - length), length


class Pair:
    """A table and its model, and what was put into both."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.tables = Tables()
        self.table = self.tables.main
        self.model = Linear()
        self.addresses = [0, 0xFFFF_FFFF, 0x0A00_0001]

    def step(self) -> None:
        self.rng.choice([self.insert, self.insert, self.insert, self.delete, self.probe])()

    def pick(self) -> tuple[int, int]:
        """A prefix: mostly one that is there."""
        if self.model.routes and self.rng.random() < 0.5:
            entry = self.rng.choice(self.model.routes)
            return entry.key, entry.prefixlen
        return clustered(self.rng)

    def insert(self) -> None:
        key, prefixlen = self.pick()
        tos, metric, oif = self.rng.choice([0, 0, 0, 4, 16]), self.rng.choice([0, 0, 10, 20]), self.rng.randrange(1, 4)
        nlflags = self.rng.choice([ADD, ADD, CHANGE, REPLACE, PREPEND, APPEND])
        expected = self.model.insert(Entry(key, prefixlen, tos, metric, oif), nlflags)
        assert self.outcome(route(key, prefixlen, nlflags, tos, metric, oif), False) == expected
        self.addresses += [key, key | (1 << 32 - prefixlen) - 1, (key + (1 << 32 - prefixlen)) & 0xFFFF_FFFF]

    def delete(self) -> None:
        key, prefixlen = self.pick()
        tos, metric, oif = self.rng.choice([0, 0, 4]), self.rng.choice([0, 0, 10]), self.rng.choice([0, 0, 1])
        expected = self.model.delete(key, prefixlen, tos, metric, oif)
        cfg = route(key, prefixlen, 0, tos, metric, oif)
        cfg.scope, cfg.rt_type = RT_SCOPE_NOWHERE, 0
        assert self.outcome(cfg, True) == expected

    def outcome(self, cfg: FibConfig, delete: bool) -> int:
        try:
            if delete:
                self.table.fib_table_delete(cfg)
            else:
                self.table.fib_table_insert(cfg)
        except OSError as refused:
            assert refused.errno is not None
            return refused.errno
        return 0

    def probe(self) -> None:
        for addr in self.rng.choices(self.addresses, k=10):
            near = addr ^ (1 << self.rng.randrange(32) if self.rng.random() < 0.3 else 0)
            tos, oif = self.rng.choice([0, 4, 16, 0x24, 0xF0]), self.rng.choice([0, 0, 1])
            assert look(self.table, near, tos, oif) == self.model.lookup(near, tos, oif)

    def check(self) -> None:
        assert check_trie(self.table.trie) == len(self.model.routes) == self.table.count
        told = [
            Entry(int(r.key), int(r.prefixlen), int(r.tos), int(r.fi.priority), int(r.fi.nh[0].oif))
            for r in self.table.fib_table_dump()
        ]
        assert told == self.model.routes


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 120))
def test_a_table_answers_as_a_list_of_its_routes_would_after_every_operation(seed: int, steps: int) -> None:
    pair = Pair(seed)
    for _ in range(steps):
        pair.step()
        pair.check()
    pair.probe()


@settings(max_examples=4, deadline=None)
@given(st.integers(0, 2**32))
def test_what_is_inserted_and_deleted_leaves_nothing_behind(seed: int) -> None:
    pair = Pair(seed)
    for _ in range(300):
        pair.insert()
    pair.check()
    for alias in pair.table.fib_table_dump():
        cfg = route(int(alias.key), int(alias.prefixlen), 0, int(alias.tos), int(alias.fi.priority))
        cfg.oif, cfg.scope = alias.fi.nh[0].oif, RT_SCOPE_NOWHERE
        pair.table.fib_table_delete(cfg)
        check_trie(pair.table.trie)
    trie = pair.table.trie
    assert trie.top - 1 - trie.free_words == ROOT_WORDS
    assert pair.tables.used_infos() == 0
    top = trie.top
    for _ in range(20):  # the same routes again and again
        pair.rng.seed(seed)
        pair.model.routes.clear()
        for _ in range(50):
            pair.insert()
        for alias in pair.table.fib_table_dump():
            alias.fi.flags |= RTNH_F_DEAD
        pair.table.fib_table_flush()
        assert pair.table.count == 0
    assert trie.top == top


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 2**32))
def test_packing_changes_nothing_that_is_seen(seed: int) -> None:
    pair = Pair(seed)
    for _ in range(150):
        pair.step()
    pair.table.trie.pack()
    assert pair.table.trie.free_words == 0
    pair.check()
    pair.probe()
    for _ in range(50):
        pair.step()
        pair.check()


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32))
def test_flushing_takes_out_what_is_dead_and_nothing_else(seed: int) -> None:
    pair = Pair(seed)
    for _ in range(150):
        pair.insert()
    for alias in pair.table.fib_table_dump():
        if alias.fi.nh[0].oif == 2:
            alias.fi.flags |= RTNH_F_DEAD
    dead = [entry for entry in pair.model.routes if entry.oif == 2]
    assert pair.table.fib_table_flush() == len(dead)
    pair.model.routes = [entry for entry in pair.model.routes if entry.oif != 2]
    pair.check()
    pair.probe()


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**32))
def test_main_and_local_share_a_trie_until_they_part(seed: int) -> None:
    pair = Pair(seed)
    local = FibTable(255, pair.tables.semantics, pair.table)
    other = Linear()
    for _ in range(120):
        key, prefixlen = pair.pick()
        oif, metric = pair.rng.randrange(1, 4), pair.rng.choice([0, 10])
        if pair.rng.random() < 0.5:
            pair.insert()
        elif other.insert(Entry(key, prefixlen, 0, metric, oif), APPEND) == 0:
            local.fib_table_insert(route(key, prefixlen, APPEND, 0, metric, oif))
        assert check_trie(pair.table.trie) == len(pair.model.routes) + len(other.routes)
    both = Linear()
    both.routes = [*other.routes, *pair.model.routes]
    for addr in pair.addresses:
        assert look(local, addr) == look(pair.table, addr) == both.lookup(addr, 0, 0), "local's win among equals"
    alone = local.fib_trie_unmerge()
    pair.check()
    assert alone.trie is not pair.table.trie
    assert check_trie(alone.trie) == len(other.routes) == alone.count
    assert local.count == 0
    for addr in pair.addresses:
        assert look(alone, addr) == other.lookup(addr, 0, 0)
        assert look(pair.table, addr) == pair.model.lookup(addr, 0, 0)
    assert alone.fib_trie_unmerge() is alone


# -- lookups


def test_an_empty_table_has_nothing_for_anybody(tables: Tables) -> None:
    assert look(tables.main, a("192.0.2.1")) == NOTHING
    assert tables.main.fib_table_dump() == []
    assert tables.main.fib_table_flush() == 0
    assert tables.main.lookup(a("192.0.2.1")) is None
    assert tables.main.fib_alias_list(a("192.0.2.0"), 24) == []
    assert check_trie(tables.main.trie) == 0


def test_the_default_route_serves_what_nothing_else_does(tables: Tables) -> None:
    tables.main.fib_table_insert(config("0.0.0.0/0", oif=1))
    tables.main.fib_table_insert(config("192.0.2.0/24", oif=2))
    assert look(tables.main, a("203.0.113.1")).prefixlen == 0
    assert look(tables.main, a("192.0.2.255")).oif == 2
    assert look(tables.main, a("255.255.255.255")).prefixlen == 0
    assert look(tables.main, 0).prefixlen == 0


@pytest.mark.parametrize("count", [1, 2, 3, 40])
def test_a_lookup_comes_back_from_below_to_shorter_prefixes(tables: Tables, count: int) -> None:
    """192.0.2.0/24 is leaf 192.0.2.0; the key's path goes past it, by other /32s of the same /24."""
    tables.main.fib_table_insert(config("192.0.2.0/24", oif=2))
    for host in range(1, count + 1):
        tables.main.fib_table_insert(config(f"192.0.2.{host * 4}/32", oif=3))
    assert look(tables.main, a("192.0.2.5")) == Found(0, 24, 0, 0, 2)
    assert look(tables.main, a("192.0.2.255")).prefixlen == 24
    assert look(tables.main, a("192.0.2.4")).prefixlen == 32
    assert look(tables.main, a("192.0.3.5")) == NOTHING


def test_a_nest_of_all_lengths_is_unwound_one_by_one(tables: Tables) -> None:
    """Every length from 32 to 0 of one address; then without the longest, and so on."""
    whole = a("203.0.113.181")
    for length in range(33):
        cut = whole >> (32 - length) << (32 - length)
        tables.main.fib_table_insert(route(cut, length, ADD, oif=1 + length % 3))
        check_trie(tables.main.trie)
    for length in range(32, -1, -1):
        assert look(tables.main, whole).prefixlen == length
        cut = whole >> (32 - length) << (32 - length)
        tables.main.fib_table_delete(route(cut, length, 0, oif=0))
        check_trie(tables.main.trie)
    assert look(tables.main, whole) == NOTHING


def test_skipped_bits_are_compared_and_lead_back_where_they_differ(tables: Tables) -> None:
    """Two hosts whose common node skips 16 bits; the key differs in these."""
    for prefix in ("10.1.0.0/16", "10.1.2.1/32", "10.1.2.2/32", "198.51.100.1/32"):
        tables.main.fib_table_insert(config(prefix))
    assert look(tables.main, a("10.1.77.1")).prefixlen == 16
    assert look(tables.main, a("10.2.2.1")) == NOTHING


def test_a_route_for_another_tos_is_passed_by(tables: Tables) -> None:
    """Only the lower three bits of the DSCP count (INET_DSCP_LEGACY_TOS_MASK)."""
    tables.main.fib_table_insert(config("192.0.2.0/24", oif=1))
    tables.main.fib_table_insert(config("192.0.2.0/24", tos=0x10, oif=2))
    tables.main.fib_table_insert(config("192.0.2.0/24", tos=0xE0, oif=3))
    assert [look(tables.main, a("192.0.2.1"), tos).oif for tos in (0, 0x10, 0x30, 0xF3, 0xE0, 4)] == [1, 2, 2, 2, 1, 1]


def test_a_route_must_be_as_near_as_is_asked(tables: Tables) -> None:
    tables.main.fib_table_insert(config("192.0.0.0/16"))
    host = config("192.0.2.1/32", oif=2)
    host.scope = RT_SCOPE_HOST
    tables.main.fib_table_insert(host)
    far = config("192.0.2.0/24", oif=3)
    far.scope = RT_SCOPE_UNIVERSE
    tables.main.fib_table_insert(far)
    assert look(tables.main, a("192.0.2.1"), scope=RT_SCOPE_HOST).oif == 2
    assert look(tables.main, a("192.0.2.2"), scope=RT_SCOPE_UNIVERSE).oif == 3
    assert look(tables.main, a("192.0.2.2"), scope=RT_SCOPE_LINK).oif == 1, "the far one is passed by"
    assert look(tables.main, a("192.0.2.2"), scope=RT_SCOPE_HOST) == NOTHING


@pytest.mark.parametrize(
    ("rt_type", "code"),
    [
        (RTN_BLACKHOLE, errno.EINVAL),
        (RTN_UNREACHABLE, errno.EHOSTUNREACH),
        (RTN_PROHIBIT, errno.EACCES),
        (RTN_THROW, errno.EAGAIN),
    ],
)
def test_a_type_that_leads_nowhere_ends_the_lookup_and_says_so(tables: Tables, rt_type: int, code: int) -> None:
    tables.main.fib_table_insert(config("192.0.0.0/16"))
    nowhere = config("192.0.2.0/24", oif=0)
    nowhere.rt_type, nowhere.scope = rt_type, RT_SCOPE_UNIVERSE
    tables.main.fib_table_insert(nowhere)
    res = FibResult()
    assert tables.main.fib_table_lookup(Flow(a("192.0.2.1")), res) == code
    assert (res.rt_type, res.prefixlen, res.nhc) == (rt_type, 24, None)
    assert res.table is tables.main
    assert res.fi is not None and res.fi.treeref == 1
    assert look(tables.main, a("192.0.3.1")).prefixlen == 16


def test_dead_routes_and_hops_are_passed_by(tables: Tables) -> None:
    wide = tables.main.fib_table_insert(config("192.0.0.0/16", oif=1))
    narrow = tables.main.fib_table_insert(config("192.0.2.0/24", oif=2))
    narrow.fi.nh[0].flags |= RTNH_F_DEAD
    assert look(tables.main, a("192.0.2.1")).prefixlen == 16
    narrow.fi.nh[0].flags = 0
    narrow.fi.flags |= RTNH_F_DEAD
    assert look(tables.main, a("192.0.2.1")).prefixlen == 16
    narrow.fi.flags = 0
    narrow.fi.dead = True
    assert look(tables.main, a("192.0.2.1")).prefixlen == 16
    wide.fi.dead = True
    assert look(tables.main, a("192.0.2.1")) == NOTHING


def test_a_link_without_carrier_serves_unless_its_device_says_no(tables: Tables) -> None:
    narrow = tables.main.fib_table_insert(config("192.0.2.0/24"))
    hop = narrow.fi.nh[0]
    hop.flags |= RTNH_F_LINKDOWN
    assert look(tables.main, a("192.0.2.1")).prefixlen == 24
    assert hop.dev is not None
    hop.dev.in_dev.cnf.ignore_routes_with_linkdown = 1
    assert look(tables.main, a("192.0.2.1")) == NOTHING
    res = FibResult()
    assert tables.main.fib_table_lookup(Flow(a("192.0.2.1")), res, FIB_LOOKUP_IGNORE_LINKSTATE) == 0


def test_a_bound_device_chooses_among_prefixes(tables: Tables) -> None:
    tables.main.fib_table_insert(config("0.0.0.0/0", oif=1))
    tables.main.fib_table_insert(config("192.0.2.0/24", oif=2))
    assert look(tables.main, a("192.0.2.1"), oif=1).prefixlen == 0
    assert look(tables.main, a("192.0.2.1"), oif=3) == NOTHING


def test_the_thin_lookups_agree_with_the_whole_one(tables: Tables) -> None:
    rng = random.Random(3)
    for _ in range(400):
        key, prefixlen = clustered(rng)
        tables.main.fib_table_insert(route(key, prefixlen, REPLACE, metric=rng.randrange(1000)))
    addresses = [rng.getrandbits(32) for _ in range(300)] + [clustered(rng)[0] for _ in range(301)]
    found = tables.main.lookup_many(b"".join(addr.to_bytes(4, "big") for addr in addresses))
    assert len(found) == len(addresses)
    for addr, prefixlen in zip(addresses, found, strict=True):
        whole = look(tables.main, addr)
        fi = tables.main.lookup(addr)
        assert prefixlen == (NO_ROUTE if whole == NOTHING else whole.prefixlen)
        assert (fi is None) == (whole == NOTHING)
    assert tables.main.lookup_many(b"") == tables.main.lookup_many(b"\0\0\0") == b""


# -- inserting and deleting


def test_a_prefix_with_bits_beyond_its_length_is_refused_in_the_kernels_words(tables: Tables) -> None:
    for prefix, words in (
        ("192.0.2.1/24", "Invalid prefix for given prefix length"),
        ("0.0.0.0/33", "Invalid prefix length"),
    ):
        for act in (tables.main.fib_table_insert, tables.main.fib_table_delete):
            with pytest.raises(OSError, match=words) as caught:
                act(config(prefix))
            assert caught.value.errno == errno.EINVAL
    assert tables.used_infos() == 0


def test_add_refuses_what_is_there_and_change_what_is_not(tables: Tables) -> None:
    tables.main.fib_table_insert(config("192.0.2.0/24"))
    assert refusal(tables.main, config("192.0.2.0/24", ADD, oif=2)) == errno.EEXIST
    assert refusal(tables.main, config("192.0.2.0/24", CHANGE, metric=5)) == errno.ENOENT
    assert refusal(tables.main, config("192.0.3.0/24", CHANGE)) == errno.ENOENT
    assert refusal(tables.main, config("192.0.2.0/24", APPEND)) == errno.EEXIST, "the same route twice"
    assert refusal(tables.main, config("192.0.2.0/24", PREPEND)) == errno.EEXIST
    assert (tables.main.count, tables.used_infos()) == (1, 1), "nothing is held by what was refused"


def test_replace_puts_the_first_of_equals_away(tables: Tables) -> None:
    for number in (1, 2):
        tables.main.fib_table_insert(config("192.0.2.0/24", APPEND, oif=number))
    tables.main.fib_table_insert(config("192.0.2.0/24", REPLACE, oif=3))
    assert oifs(tables.main, "192.0.2.0/24") == [3, 2]
    tables.main.fib_table_insert(config("192.0.2.0/24", REPLACE, oif=3))
    assert refusal(tables.main, config("192.0.2.0/24", REPLACE, oif=2)) == errno.EEXIST, "it is there, but not first"
    assert (tables.main.count, tables.used_infos()) == (2, 2)


def test_append_goes_behind_its_equals_and_prepend_before(tables: Tables) -> None:
    tables.main.fib_table_insert(config("192.0.2.0/24", ADD, oif=1))
    tables.main.fib_table_insert(config("192.0.2.0/24", APPEND, oif=2))
    tables.main.fib_table_insert(config("192.0.2.0/24", PREPEND, oif=3))
    tables.main.fib_table_insert(config("192.0.2.0/24", ADD, metric=1, oif=1))
    tables.main.fib_table_insert(config("192.0.2.0/24", ADD, tos=8, metric=9, oif=2))
    assert oifs(tables.main, "192.0.2.0/24") == [2, 3, 1, 2, 1], "the TOS first, then the metric"


def test_delete_takes_the_first_that_is_as_it_was_described(tables: Tables) -> None:
    for number, metric in ((1, 0), (2, 0), (3, 7)):
        tables.main.fib_table_insert(config("192.0.2.0/24", APPEND, metric=metric, oif=number))
    for wrong in (config("192.0.2.0/24", tos=4), config("192.0.2.0/25"), config("192.0.2.0/24", oif=3, metric=9)):
        with pytest.raises(OSError, match="No such process"):
            tables.main.fib_table_delete(wrong)
    prohibit = config("192.0.2.0/24", oif=0)
    prohibit.rt_type = RTN_PROHIBIT
    with pytest.raises(OSError, match="No such process"):
        tables.main.fib_table_delete(prohibit)
    assert tables.main.fib_table_delete(config("192.0.2.0/24", oif=2)).fi.nh[0].oif == 2
    assert tables.main.fib_table_delete(config("192.0.2.0/24", metric=7, oif=0)).fi.priority == 7
    gone = config("192.0.2.0/24", oif=0)
    gone.rt_type = 0
    assert tables.main.fib_table_delete(gone).rt_type == RTN_UNICAST
    assert tables.main.count == tables.used_infos() == 0


def test_watchers_hear_of_each_change_and_of_a_flush_only_what_lost_its_source(tables: Tables) -> None:
    heard = Heard()
    tables.net.rtnl_watchers.append(heard)
    first = tables.main.fib_table_insert(config("192.0.2.0/24"))
    tables.main.fib_table_insert(config("192.0.2.0/24", REPLACE))  # as it is already
    refusal(tables.main, config("192.0.2.0/24"))
    tables.main.fib_table_insert(config("192.0.2.0/24", REPLACE, oif=2))
    tables.main.fib_table_delete(config("192.0.2.0/24", oif=2))
    assert first.fi.treeref == 0
    told = "192.0.2.0/24"
    assert heard.events == [(RTM_NEWROUTE, told), (RTM_NEWROUTE, told), (RTM_DELROUTE, told)]
    heard.events.clear()
    lost = tables.main.fib_table_insert(config("192.0.2.0/24", oif=1))
    quiet = tables.main.fib_table_insert(config("192.0.3.0/24", oif=2))
    heard.events.clear()
    for alias in (lost, quiet):
        alias.fi.flags |= RTNH_F_DEAD
    lost.fi.pfsrc_removed = True
    assert tables.main.fib_table_flush() == 2
    assert heard.events == [(RTM_DELROUTE, told)]


def test_flushing_all_takes_what_leads_nowhere_too(tables: Tables) -> None:
    for number, rt_type in enumerate((RTN_BLACKHOLE, RTN_THROW, RTN_PROHIBIT)):
        cfg = config(f"192.0.{number}.0/24", oif=0)
        cfg.rt_type, cfg.scope = rt_type, RT_SCOPE_UNIVERSE
        tables.main.fib_table_insert(cfg)
    tables.main.fib_table_insert(config("198.51.100.0/24"))
    assert tables.main.fib_table_flush() == 0
    assert tables.main.fib_table_flush(flush_all=True) == 3
    assert prefixes(tables.main) == ["198.51.100.0/24"]


def test_a_full_table_takes_no_more_but_can_be_changed(tables: Tables) -> None:
    tables.main.fib_table_insert(config("192.0.2.0/24"))
    tables.main.count = FIB_MAX_ROUTES
    assert refusal(tables.main, config("192.0.3.0/24")) == errno.ENOBUFS
    packed = b"".join(a(network).to_bytes(4, "big") + b"\x18" for network in ("192.0.3.0", "192.0.2.0"))
    assert tables.main.insert_many(config("0.0.0.0/0"), packed) == {0: errno.ENOBUFS, 1: errno.EEXIST}
    tables.main.fib_table_insert(config("192.0.2.0/24", REPLACE, oif=2))
    tables.main.fib_table_delete(config("192.0.2.0/24", oif=2))
    assert tables.main.count == FIB_MAX_ROUTES - 1


def test_so_does_a_trie_that_has_used_its_words(tables: Tables) -> None:
    tables.main.fib_table_insert(config("192.0.2.0/24"))
    trie = tables.main.trie
    top, trie.top = trie.top, MAX_WORDS + 1
    with pytest.raises(OSError) as caught:
        tables.main.fib_table_insert(config("192.0.3.0/24", oif=2))
    trie.top = top
    assert caught.value.errno == errno.ENOBUFS
    assert tables.main.count == tables.used_infos() == check_trie(trie) == 1
    tables.main.fib_table_insert(config("192.0.3.0/24"))
    assert check_trie(trie) == 2


def test_many_prefixes_of_one_route_share_its_fib_info(tables: Tables) -> None:
    heard = Heard()
    tables.net.rtnl_watchers.append(heard)
    wanted = [("192.0.2.0", 24), ("192.0.2.0", 24), ("192.0.2.1", 24), ("10.0.0.0", 8), ("0.0.0.0", 33), ("0.0.0.0", 0)]
    packed = b"".join(a(network).to_bytes(4, "big") + bytes([length]) for network, length in wanted)
    refused = tables.main.insert_many(config("0.0.0.0/0"), packed + b"\1\2")
    assert refused == {1: errno.EEXIST, 2: errno.EINVAL, 4: errno.EINVAL}
    assert prefixes(tables.main) == ["0.0.0.0/0", "10.0.0.0/8", "192.0.2.0/24"]
    assert {id(alias.fi): alias.fi.treeref for alias in tables.main.fib_table_dump()}.popitem()[1] == 3
    assert tables.used_infos() == 1
    assert len(heard.events) == 3
    check_trie(tables.main.trie)
    assert tables.main.insert_many(config("0.0.0.0/0"), b"") == {}
    assert tables.used_infos() == 1


def test_many_prefixes_are_refused_at_once_where_the_route_is(tables: Tables) -> None:
    with pytest.raises(OSError, match="No such device"):
        tables.main.insert_many(config("0.0.0.0/0", oif=99), bytes(5))
    assert tables.main.count == 0


def test_a_trie_that_has_shrunk_gives_its_memory_back(tables: Tables) -> None:
    rng = random.Random(9)
    packed = b"".join(rng.getrandbits(24).to_bytes(3, "big") + b"\0\x18" for _ in range(8_000))
    tables.main.insert_many(config("0.0.0.0/0", oif=1), packed)
    tables.main.fib_table_insert(config("192.0.2.0/24", REPLACE, oif=2))
    check_trie(tables.main.trie)
    full = tables.main.trie.memory()
    assert full < 48 * tables.main.count
    for alias in tables.main.fib_table_dump():
        if alias.fi.nh[0].oif == 1:
            alias.fi.flags |= RTNH_F_DEAD
    tables.main.fib_table_flush()
    assert tables.main.count == 1
    assert check_trie(tables.main.trie) == 1
    assert tables.main.trie.memory() < full // 10
    assert look(tables.main, a("192.0.2.1")).oif == 2


# -- telling


def test_a_dump_goes_by_key_and_the_longest_prefix_first(tables: Tables) -> None:
    for prefix in ("192.0.2.0/25", "192.0.2.0/24", "10.0.0.0/8", "0.0.0.0/0", "255.255.255.255/32", "10.0.0.0/24"):
        tables.main.fib_table_insert(config(prefix))
    told = ["0.0.0.0/0", "10.0.0.0/24", "10.0.0.0/8", "192.0.2.0/25", "192.0.2.0/24", "255.255.255.255/32"]
    assert prefixes(tables.main) == told


def test_a_dump_can_be_had_in_pieces(tables: Tables) -> None:
    rng = random.Random(4)
    for _ in range(100):
        key, prefixlen = clustered(rng)
        tables.main.fib_table_insert(route(key, prefixlen, REPLACE, metric=rng.randrange(1000)))
    whole = [(int(alias.key), int(alias.prefixlen)) for alias in tables.main.fib_table_dump()]
    pieces: list[tuple[int, int]] = []
    while piece := tables.main.fib_table_dump(pieces[-1][0] + 1 if pieces else 0, 7):
        pieces += [(int(alias.key), int(alias.prefixlen)) for alias in piece]
    assert pieces == whole


def test_a_dump_shows_a_tables_own_routes_only(tables: Tables) -> None:
    local = FibTable(255, tables.semantics, tables.main)
    local.fib_table_insert(config("192.0.2.1/32"))
    tables.main.fib_table_insert(config("192.0.2.0/24"))
    tables.main.fib_table_insert(config("192.0.2.1/32", oif=2))
    assert prefixes(local) == ["192.0.2.1/32"]
    assert prefixes(tables.main) == ["192.0.2.0/24", "192.0.2.1/32"]
    assert [int(alias.tb_id) for alias in local.fib_table_dump()] == [255]
    assert oifs(local, "192.0.2.1/32") == [1] and oifs(tables.main, "192.0.2.1/32") == [2]
    assert local.fib_table_flush(True) == 0


def test_the_chosen_default_is_remembered_until_its_route_changes(tables: Tables) -> None:
    tables.main.fib_table_insert(config("0.0.0.0/0"))
    assert tables.main.get_default(0, 0) == -1
    tables.main.set_default(0, 0, 1)
    assert (tables.main.get_default(0, 0), tables.main.get_default(0, 8)) == (1, -1)
    tables.main.fib_table_insert(config("0.0.0.0/0", REPLACE, oif=2))
    assert tables.main.get_default(0, 0) == -1
    tables.main.set_default(0, 0, 1)
    tables.main.fib_table_delete(config("0.0.0.0/0", oif=2))
    assert tables.main.get_default(0, 0) == -1
    tables.main.set_default(0, 0, 1)
    tables.main.set_default(0, 0, -1)
    assert tables.main.get_default(0, 0) == -1
