"""The shape of tries: the same as the kernel's, node by node, as /proc/net/fib_triestat tells it."""

from __future__ import annotations

import random

import pytest

from tests.routing.links import a
from tests.routing.tries import Tables, check_trie, config, look, route
from ustack.routing.triestat import TrieStat, table_title
from ustack.routing.uapi import NLM_F_CREATE, NLM_F_EXCL

# What Linux 6.18 shows for a table into which routes_of(seed, count) were put in that order, and the first ``dropped``
# then deleted in that order: everything but the last line, as its nodes are larger.
KERNEL = {
    (1, 3000, 0): """\
\tAver depth:     2.56
\tMax depth:      6
\tLeaves:         2791
\tPrefixes:       3000
\tInternal nodes: 813
\t  1: 8  2: 708  3: 64  4: 17  5: 3  6: 7  7: 4  8: 1  11: 1
\tPointers: 6992
Null ptrs: 3389
""",
    (2, 3000, 1500): """\
\tAver depth:     2.33
\tMax depth:      6
\tLeaves:         1473
\tPrefixes:       1500
\tInternal nodes: 323
\t  1: 1  2: 228  3: 56  4: 25  5: 2  6: 5  7: 4  8: 1  11: 1
\tPointers: 4962
Null ptrs: 3167
""",
    (3, 500, 430): """\
\tAver depth:     2.42
\tMax depth:      4
\tLeaves:         70
\tPrefixes:       70
\tInternal nodes: 19
\t  2: 7  3: 4  4: 5  5: 2  7: 1
\tPointers: 332
Null ptrs: 244
""",
}
NETWORKS = [a("10.0.0.0"), a("192.168.0.0"), a("100.64.0.0")]


def routes_of(seed: int, count: int) -> list[tuple[int, int]]:
    """Prefixes in clusters, of many lengths, each once."""
    rng = random.Random(seed)
    routes: dict[tuple[int, int], None] = {}
    while len(routes) < count:
        length = rng.choice([8, 16, 19, 20, 22, 23, 24, 24, 24, 24, 28, 32])
        network = rng.choice([*NETWORKS, rng.randrange(1 << 24, 224 << 24)])
        network ^= rng.getrandbits(rng.choice([8, 12, 16, 20]))
        network = network >> (32 - length) << (32 - length)
        if network >> 24 not in (0, 127) and network >> 28 < 14:
            routes.setdefault((network, length))
    return list(routes)


@pytest.mark.parametrize(("seed", "count", "dropped"), KERNEL)
def test_a_trie_has_the_kernels_shape(seed: int, count: int, dropped: int) -> None:
    main = Tables().main
    routes = routes_of(seed, count)
    for network, length in routes:
        main.fib_table_insert(route(network, length, NLM_F_CREATE | NLM_F_EXCL))
    for network, length in routes[:dropped]:
        main.fib_table_delete(route(network, length, 0))
    check_trie(main.trie)
    shape, _, size = main.triestat().shape_text().partition("Total size: ")
    assert shape == KERNEL[seed, count, dropped]
    assert size.endswith("  kB\n")


def test_routes_put_in_at_once_make_the_same_trie() -> None:
    main = Tables().main
    packed = b"".join(network.to_bytes(4, "big") + bytes([length]) for network, length in routes_of(1, 3000))
    assert main.insert_many(config("0.0.0.0/0"), packed) == {}
    check_trie(main.trie)
    assert main.triestat().shape_text().startswith(KERNEL[1, 3000, 0])


def test_an_empty_trie() -> None:
    stat = Tables().main.triestat()
    assert stat.shape_text() == (
        "\tAver depth:     0.00\n\tMax depth:      0\n\tLeaves:         0\n\tPrefixes:       0\n"
        "\tInternal nodes: 0\n\t\n\tPointers: 0\nNull ptrs: 0\nTotal size: 1  kB\n"
    )


def test_a_single_leaf_lies_at_depth_0() -> None:
    main = Tables().main
    for prefix in ("192.0.2.0/24", "192.0.2.0/25"):
        main.fib_table_insert(config(prefix))
    stat = main.triestat()
    assert (stat.leaves, stat.prefixes, stat.maxdepth, stat.tnodes, stat.pointers()) == (1, 2, 0, 0, 0)


def test_a_run_of_neighbours_becomes_one_node() -> None:
    """Full children are inflated away; the root is doubled once more, for it need only be 30 % full."""
    main = Tables().main
    for number in range(256):
        main.fib_table_insert(config(f"10.0.{number}.0/24"))
    stat = main.triestat()
    assert (stat.tnodes, stat.nodesizes[9], stat.nullpointers, stat.maxdepth) == (1, 1, 256, 1)
    for number in range(255):
        main.fib_table_delete(config(f"10.0.{number}.0/24"))
        check_trie(main.trie)
    assert main.triestat().tnodes == 0, "halved and collapsed on the way down"


def test_lookups_are_counted_as_they_went() -> None:
    main = Tables().main
    assert look(main, a("192.0.2.1")).err != 0
    for prefix, tos in (("192.0.2.0/24", 0), ("192.0.2.1/32", 4), ("192.0.2.128/32", 0)):
        main.fib_table_insert(config(prefix, tos=tos))
    look(main, a("192.0.2.1"))
    stat = main.triestat()
    assert stat.gets == 1, "an empty trie is not asked"
    assert (stat.semantic_match_passed, stat.semantic_match_miss) == (1, 1), "the /32 is for another TOS"
    look(main, a("192.0.2.128"))
    look(main, a("203.0.113.1"))
    stat = main.triestat()
    assert (stat.gets, stat.semantic_match_passed, stat.semantic_match_miss) == (3, 2, 1)
    assert stat.usage_text().splitlines()[3:5] == ["gets = 3", f"backtracks = {stat.backtracks}"]


def test_the_text_of_the_counters() -> None:
    stat = TrieStat()
    stat.gets, stat.backtracks, stat.null_node_hit = 1, 2, 3
    stat.semantic_match_passed, stat.semantic_match_miss = 4, 5
    assert stat.usage_text() == (
        "\nCounters:\n---------\ngets = 1\nbacktracks = 2\nsemantic match passed = 4\nsemantic match miss = 5\n"
        "null node hit= 3\nskipped node resize = 0\n\n"
    )


def test_tables_are_called_as_in_proc() -> None:
    assert [table_title(tb_id) for tb_id in (254, 255, 100)] == ["Main:\n", "Local:\n", "Id 100:\n"]
