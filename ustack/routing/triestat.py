"""The shape of a trie, as /proc/net/fib_triestat tells it (Linux fib_trie.c, trie_collect_stats, trie_show_stats)."""

from __future__ import annotations

from typing import Final

from mypy_extensions import i64

from ustack.routing.uapi import RT_TABLE_LOCAL, RT_TABLE_MAIN

#: Larger nodes are not told apart.
MAX_STAT_DEPTH: Final = 32


class TrieStat:
    """Counts of one trie. Where main and local share one, both show it."""

    def __init__(self) -> None:
        self.totdepth: i64 = 0  #: of all leaves, in tnodes above them
        self.maxdepth: i64 = 0
        self.tnodes: i64 = 0
        self.leaves: i64 = 0
        self.nullpointers: i64 = 0
        self.prefixes: i64 = 0  #: routes
        self.nodesizes: list[int] = [0] * MAX_STAT_DEPTH  #: tnodes by bits
        self.bytes: i64 = 0  #: of its nodes and aliases; Trie.memory() has the reserve too
        # lookups, since the trie exists
        self.gets: i64 = 0
        self.backtracks: i64 = 0
        self.semantic_match_passed: i64 = 0
        self.semantic_match_miss: i64 = 0
        self.null_node_hit: i64 = 0
        self.resize_node_skipped: i64 = 0  #: always 0: it counts what the kernel had no memory for

    def tnode(self, bits: i64, empty_children: i64) -> None:
        """Count an inner node."""
        self.tnodes += 1
        self.nodesizes[bits] += 1
        self.nullpointers += empty_children

    def leaf(self, depth: i64, prefixes: i64) -> None:
        """Count a leaf."""
        self.leaves += 1
        self.prefixes += prefixes
        self.totdepth += depth
        self.maxdepth = max(self.maxdepth, depth)

    def pointers(self) -> int:
        """Places for children."""
        return sum(count << bits for bits, count in enumerate(self.nodesizes))

    def shape_text(self) -> str:
        """trie_show_stats: the lines below the table's name."""
        average = self.totdepth * 100 // self.leaves if self.leaves else 0
        sizes = "".join(f"  {bits}: {count}" for bits, count in enumerate(self.nodesizes) if count)
        return (
            f"\tAver depth:     {average // 100}.{average % 100:02d}\n"
            f"\tMax depth:      {self.maxdepth}\n"
            f"\tLeaves:         {self.leaves}\n"
            f"\tPrefixes:       {self.prefixes}\n"
            f"\tInternal nodes: {self.tnodes}\n\t{sizes}\n"
            f"\tPointers: {self.pointers()}\n"
            f"Null ptrs: {self.nullpointers}\n"
            f"Total size: {(self.bytes + 1023) // 1024}  kB\n"
        )

    def usage_text(self) -> str:
        """trie_show_usage, of a kernel with CONFIG_IP_FIB_TRIE_STATS."""
        return (
            "\nCounters:\n---------\n"
            f"gets = {self.gets}\n"
            f"backtracks = {self.backtracks}\n"
            f"semantic match passed = {self.semantic_match_passed}\n"
            f"semantic match miss = {self.semantic_match_miss}\n"
            f"null node hit= {self.null_node_hit}\n"
            f"skipped node resize = {self.resize_node_skipped}\n\n"
        )


def table_title(tb_id: i64) -> str:
    """fib_table_print."""
    return {RT_TABLE_LOCAL: "Local:\n", RT_TABLE_MAIN: "Main:\n"}.get(int(tb_id), f"Id {tb_id}:\n")
