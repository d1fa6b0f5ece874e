"""Files of /proc/net that no rtnetlink message has the content of, as the kernel prints them."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

from ustack.counters import counter_names
from ustack.routing.key_vector import CHILD, LEAF_WORDS
from ustack.routing.triestat import table_title
from ustack.rtnl.messages import GetProc, Text
from ustack.sock import error

if TYPE_CHECKING:
    from collections.abc import Callable

    from ustack.stack import Stack

WORD: Final = 4  #: bytes

#: rt_cpu_seq_show: the columns with their widths. There is no garbage collection of routes any more, nor in Linux.
RT_CACHE: Final = (
    "entries  in_hit   in_slow_tot in_slow_mc in_no_route in_brd   in_martian_dst in_martian_src out_hit  out_slow_tot "
    "out_slow_mc gc_total gc_ignored gc_goal_miss gc_dst_overflow in_hlist_search out_hlist_search"
)


def proc(stack: Stack, message: GetProc) -> Text:
    """ENOENT for a name that is none of FILES."""
    if message.name == "":
        return Text("".join(f"{name}\n" for name in FILES))
    show = FILES.get(message.name)
    if show is None:
        raise error(errno.ENOENT)
    return Text(show(stack))


def fib_triestat(stack: Stack) -> str:
    """fib_triestat_seq_show: every table's shape and counters. Tables that share a trie show the same one."""
    parts = [f"Basic info: size of leaf: {LEAF_WORDS * WORD} bytes, size of tnode: {CHILD * WORD} bytes.\n"]
    for table in stack.routing.fib.tables_in_order():
        stat = table.triestat()
        parts += [table_title(table.tb_id), stat.shape_text(), stat.usage_text()]
    return "".join(parts)


def rt_cache(stack: Stack) -> str:
    """rt_cpu_seq_show, of a machine with one processor."""
    mib = stack.net.mib.rt_cache
    counters = {name: int(getattr(mib, name)) for name in counter_names(type(mib))}
    heads = RT_CACHE.split()
    cells = [f"{counters.get(head, 0) & 0xFFFF_FFFF:08x}".ljust(len(head)) for head in heads]
    return f"{RT_CACHE}\n{' '.join(cells).rstrip()}\n"


FILES: Final[dict[str, Callable[[Stack], str]]] = {"fib_triestat": fib_triestat, "stat/rt_cache": rt_cache}
