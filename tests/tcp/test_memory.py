"""What a connection costs while nothing happens on it, and that it costs nothing afterwards."""

from __future__ import annotations

import gc
import sys
from types import ModuleType

import pytest

from tests.tcp.peer import SEC, established, listening, syn_recv, time_wait
from ustack.dst import Dst
from ustack.inet.security import Cred, Security
from ustack.inet.socket import ProtoOps
from ustack.net import Net
from ustack.sock import NOBODY, Observer
from ustack.tcp.congestion.base import CongestionOps
from ustack.tcp.ports import BindBucket
from ustack.tcp.request import RequestSock
from ustack.tcp.sock import TcpSock
from ustack.tcp.tables import TcpTables
from ustack.tcp.timewait import TimeWait
from ustack.timer import SLACK

#: What a connection does not own but only points at.
SHARED = (Net, TcpTables, CongestionOps, BindBucket, Observer, ProtoOps, Cred, Security, Dst, type, ModuleType)


def size_of(root: object) -> int:
    """Bytes of everything reachable from ``root`` that is its own: sys.getsizeof, summed.

    Numbers below 257 and texts are the interpreter's, routes are shared by all that use them.
    """
    total = 0
    seen: set[int] = set()
    queue = [root]
    while queue:
        thing = queue.pop()
        if id(thing) in seen or (thing is not root and isinstance(thing, SHARED)):
            continue
        seen.add(id(thing))
        if thing is None or isinstance(thing, str | bool) or (isinstance(thing, int) and -6 < thing < 257):
            continue
        total += sys.getsizeof(thing)
        queue.extend(gc.get_referents(thing))
    return total


@pytest.mark.parametrize("timestamps", [False, True])
def test_an_idle_connection_is_smaller_than_8_kib(timestamps: bool) -> None:
    """Linux's tcp_sock is 2.3 KiB, its socket and inode 0.9. After data has gone both ways and been read.

    Interpreted its two hundred variables are a dictionary, which is allowed half as much again.
    """
    with established(timestamps=timestamps, wscale=7) as c:
        c.inject("PA", bytes(1000))
        c.next_segment(at=SEC)
        c.app_recv()
        c.app_send(bytes(1000))
        c.next_segment()
        c.inject("A")
        c.tp.observer = NOBODY
        limit = 12 if hasattr(c.tp, "__dict__") else 8
        assert size_of(c.tp) < size_of(c.sock) < limit * 1024


def test_a_half_open_connection_and_a_time_wait_are_much_smaller() -> None:
    with syn_recv() as c:
        (req,) = c.stack.tcp.tables.requests.all()
        req.listener = c.stack.tcp.new_sock()
        own = size_of(req) - size_of(req.listener)
        assert isinstance(req, RequestSock) and own < (3 if hasattr(req, "__dict__") else 2) * 1024
        req.listener = c.tp
    with time_wait() as c:
        (tw,) = c.stack.tcp.tables.timewait.all()
        assert isinstance(tw, TimeWait) and size_of(tw) < 1536


def test_a_connection_that_is_over_is_garbage() -> None:
    """No table, no timer's place in the heap, no list holds it (Linux: sk_free, reference counts)."""
    with listening() as c:
        for n in range(200):
            c.pport, c.nxt = 3000 + n, 0
            c.accepted()
            c.app_send(b"x")
            c.expect("PA", data=b"x")
            c.inject("R")
            c.app_close()
        c.run(5 * SEC)
        gc.collect()
        tables = c.stack.tcp.tables
        alive = [tp for tp in gc.get_objects() if isinstance(tp, TcpSock) and tp.tables is tables]
        assert len(alive) <= 2 + SLACK  # the listener, the last one, and what the heap has not swept yet
