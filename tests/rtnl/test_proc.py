"""/proc/net/fib_triestat and /proc/net/stat/rt_cache in the kernel's format."""

from __future__ import annotations

import errno
import re

from ustack.rtnl.messages import GetProc, Nack, Text
from ustack.rtnl.rtnetlink import Rtnetlink
from ustack.stack import Stack

SEED = bytes(16)


def read(rtnetlink: Rtnetlink, name: str) -> str:
    answer = rtnetlink.request(GetProc(name))
    assert isinstance(answer, Text)
    return answer.text


def test_the_names() -> None:
    assert read(Rtnetlink(Stack(SEED)), "").split() == ["fib_triestat", "stat/rt_cache"]


def test_the_shape_of_the_tables() -> None:
    """fib_triestat_seq_show. main and local share one trie while there are no rules, and both show it."""
    stack = Stack(SEED)
    stack.add_route("192.0.2.0/24", dev="lo")
    text = read(Rtnetlink(stack), "fib_triestat")
    assert text.startswith("Basic info: size of leaf: ")
    main, local = text.split("Main:\n")[1].split("Local:\n")
    assert main == local
    # 127.0.0.0/8, 127.0.0.1, 127.255.255.255 and the new one; the leaf of 127.0.0.0 is one
    assert "\tLeaves:         4\n" in main and "\tPrefixes:       4\n" in main
    assert re.search(r"\tAver depth:     \d\.\d\d\n\tMax depth:      \d\n", main)


def test_the_counters_of_the_lookups() -> None:
    """rt_cpu_seq_show: hexadecimal, one line a processor, below heads of the same width."""
    stack = Stack(SEED)
    stack.net.mib.rt_cache.out_slow_tot = 0x2A
    head, line = read(Rtnetlink(stack), "stat/rt_cache").splitlines()
    assert len(head.split()) == len(line.split()) == 17
    assert line[head.index("out_slow_tot") :][:8] == "0000002a" and line[head.index("in_brd") :][:8] == "00000000"


def test_no_such_file() -> None:
    assert Rtnetlink(Stack(SEED)).request(GetProc("tcp9")) == Nack(errno.ENOENT)
