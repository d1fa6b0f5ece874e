"""Two whole stacks, any mixture of options, a cable that loses, repeats, reorders, bends: both streams arrive whole.

Every writer, reader and setting is drawn at random; while it goes on invariants.py holds at both ends, and afterwards
no memory, timer or table entry is left at either.
"""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Final

import pytest

from tests.harness import MSEC, SEC, Pair, connection
from tests.tcp import invariants
from tests.tcp.peer import tcp_sock
from ustack.device.cable import Impairments
from ustack.device.e1000 import E1000_FEATURES, NO_OFFLOAD
from ustack.inet.options import SO_OOBINLINE, SO_RCVBUF, SO_SNDBUF, SOL_SOCKET
from ustack.sock import MSG_MORE, MSG_OOB
from ustack.tcp.options import IPPROTO_TCP, TCP_CONGESTION, TCP_CORK, TCP_MAXSEG, TCP_NODELAY, TCP_WINDOW_CLAMP

if TYPE_CHECKING:
    from ustack.inet.socket import Socket
    from ustack.stack import Stack

SEEDS: Final = 24
LONGEST: Final = 20_000 * SEC  #: of virtual time for one transfer
#: What each stack draws its settings from (net.ipv4.*). Not among them: tcp_shrink_window, with which, as in Linux,
#: text out of order can close the window to the very segment that would let it be read.
SYSCTLS: Final[dict[str, tuple[int, ...]]] = {
    "tcp_sack": (0, 1, 1),
    "tcp_dsack": (0, 1, 1),
    "tcp_timestamps": (0, 1, 1),
    "tcp_window_scaling": (0, 1, 1),
    "tcp_ecn": (0, 1, 2),
    "tcp_recovery": (0, 1, 1),
    "tcp_early_retrans": (0, 3),
    "tcp_frto": (0, 2),
    "tcp_mtu_probing": (0, 0, 2),
    "tcp_retrans_collapse": (0, 1),
    "tcp_slow_start_after_idle": (0, 1),
    "tcp_moderate_rcvbuf": (0, 1),
    "tcp_comp_sack_nr": (0, 44),
    "tcp_min_tso_segs": (1, 2),
    "tcp_autocorking": (0, 1),
    "tcp_stdurg": (0, 1),
    "tcp_retries2": (100,),
    "tcp_abort_on_overflow": (0, 1),
    "tcp_reordering": (1, 3, 10),
    "tcp_tso_win_divisor": (0, 3),
    "tcp_workaround_signed_windows": (0, 1),
}


class End:
    """One end's application: what it has to say, and what it has heard."""

    def __init__(self, random: Random, sock: Socket, size: int) -> None:
        self.random = random
        self.sock = sock
        self.text = random.randbytes(size)
        self.said = 0
        self.heard = bytearray()
        self.over = False
        self.urgent = random.random() < 0.2  #: some of what is written; read in line, it is in the stream all the same

    def act(self) -> bool:
        """Write a little, read a little; True once both directions have ended."""
        tp = tcp_sock(self.sock)
        invariants.check(tp)
        if self.random.random() < 0.8:
            self.read()
        if self.said < len(self.text):
            self.write()
        elif not tp.fin_queued:
            self.sock.setsockopt(IPPROTO_TCP, TCP_CORK, 0)
            self.sock.shutdown(1)
        invariants.check(tp)
        return self.over and tp.fin_queued

    def write(self) -> None:
        size = self.random.choice((1, 100, 1460, 5000, 60_000))
        flags = self.random.choice((0, 0, 0, 0, 0, 0, 0, MSG_MORE, MSG_OOB if self.urgent else 0))
        try:
            self.said += self.sock.send(self.text[self.said : self.said + size], flags)
        except BlockingIOError:
            pass

    def read(self) -> None:
        try:
            piece = self.sock.recv(self.random.choice((1, 1000, 100_000)))
        except BlockingIOError:
            return
        self.heard += piece
        self.over = self.over or not piece


def settle(stack: Stack, random: Random) -> None:
    for name, values in SYSCTLS.items():
        stack.sysctl.set(f"net.ipv4.{name}", str(random.choice(values)))


def some_lane(random: Random) -> Impairments:
    """A direction of the cable, bad in some ways."""
    return Impairments(
        delay=random.choice((0, MSEC, 20 * MSEC)),
        jitter=random.choice((0, 0, 3 * MSEC)),
        loss=random.choice((0.0, 0.0, 0.01, 0.1, 0.2)),
        duplicate=random.choice((0.0, 0.02)),
        reorder=random.choice((0.0, 0.05)),
        corrupt=random.choice((0.0, 0.01)),
        rate=random.choice((0, 0, 10_000_000)),
    )


def some_options(sock: Socket, random: Random) -> None:
    sock.setsockopt(SOL_SOCKET, SO_OOBINLINE, 1)
    for level, name, values in (
        (SOL_SOCKET, SO_RCVBUF, (3000, 20_000)),
        (SOL_SOCKET, SO_SNDBUF, (5000, 100_000)),
        (IPPROTO_TCP, TCP_NODELAY, (0, 1)),
        (IPPROTO_TCP, TCP_CORK, (0, 1)),
        (IPPROTO_TCP, TCP_MAXSEG, (88, 536, 1000)),
        (IPPROTO_TCP, TCP_WINDOW_CLAMP, (3000, 50_000)),
    ):
        if random.random() < 0.2:
            sock.setsockopt(level, name, random.choice(values))


def some_pair(random: Random) -> Pair:
    pair = Pair(
        seed=random.getrandbits(30),
        features=random.choice((NO_OFFLOAD, E1000_FEATURES)),
        mtu=random.choice((1500, 1500, 576, 9000)),
        super_segments=random.random() < 0.5,
        resolved=True,
    )
    for stack in (pair.a, pair.b):
        settle(stack, random)
    return pair


def transfer(random: Random, size: int) -> None:
    """Both directions at once; the cable turns bad once the call is through."""
    with some_pair(random) as pair:
        client, server = connection(pair)
        pair.cable.there.impairments, pair.cable.back.impairments = some_lane(random), some_lane(random)
        some_options(client, random)
        some_options(server, random)
        ends = [End(random, client, size), End(random, server, random.randrange(size))]
        limit = pair.now + LONGEST
        waiting = ends
        while waiting and pair.now < limit:
            waiting = [end for end in waiting if not end.act()]
            pair.run(random.choice((0, MSEC, MSEC, 10 * MSEC, 100 * MSEC)))
        one, other = ends
        assert bytes(one.heard) == other.text and bytes(other.heard) == one.text
        farewell(pair, client, server)


def farewell(pair: Pair, *socks: Socket) -> None:
    """After the last FIN nothing is left but TIME_WAITs, and then not even those."""
    pair.run(LONGEST)
    for sock in socks:
        tp = tcp_sock(sock)
        invariants.check(tp)
        sock.close()
        assert tp.wmem_queued == 0 and tp.rmem_alloc == 0
    pair.run(200 * SEC)
    for stack in (pair.a, pair.b):
        tables = stack.tcp.tables
        assert not (tables.ehash or tables.timewait or tables.requests or tables.orphans or tables.ports.buckets)
        assert tables.memory.allocated == tables.memory.sockets == 0
        assert stack.queued() == 0


@pytest.mark.parametrize("seed", range(SEEDS))
def test_whatever_the_settings_and_the_cable_both_streams_arrive_whole(seed: int) -> None:
    transfer(Random(seed), 60_000)


@pytest.mark.parametrize("congestion", ["reno", "cubic", "bbr"])
@pytest.mark.parametrize("seed", range(2))
def test_with_every_congestion_control(congestion: str, seed: int) -> None:
    random = Random(seed)
    with some_pair(random) as pair:
        client, server = connection(pair)
        pair.cable.there.impairments, pair.cable.back.impairments = some_lane(random), some_lane(random)
        for sock in (client, server):
            some_options(sock, random)
            sock.setsockopt(IPPROTO_TCP, TCP_CONGESTION, congestion.encode())
        ends = [End(random, client, 100_000), End(random, server, 100_000)]
        waiting = ends
        limit = pair.now + LONGEST
        while waiting and pair.now < limit:
            waiting = [end for end in waiting if not end.act()]
            pair.run(random.choice((0, MSEC, 10 * MSEC)))
        assert ends[0].heard == ends[1].text and ends[1].heard == ends[0].text
        farewell(pair, client, server)
