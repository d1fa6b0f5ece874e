"""One connection and a peer that may do anything: random segments, legal and not, between random calls and pauses.

The peer knows where the stack is (it is no blind attacker) and aims at edges: sequence numbers around the window, ACKs
around what is in flight, SACK blocks true, false and absurd, urgent pointers, ECN bits, timestamps, cookies. After each
step everything in invariants.py holds, nothing is lost track of, and what the stack says is true.
"""

from __future__ import annotations

import errno
from random import Random
from struct import pack
from typing import TYPE_CHECKING, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tcp import invariants
from tests.tcp.peer import M32, MSEC, SEC, Peer, Segment, tcp_sock
from tests.tcp.test_fuzz_streams import settle
from ustack.device.e1000 import E1000_FEATURES, NO_OFFLOAD
from ustack.inet.options import SO_KEEPALIVE, SO_LINGER, SO_OOBINLINE, SO_RCVBUF, SO_SNDBUF, SOL_SOCKET
from ustack.sock import MSG_MORE, MSG_OOB, MSG_PEEK, TCP_CLOSE, TCP_LISTEN
from ustack.tcp.options import IPPROTO_TCP, TCP_CORK, TCP_FASTOPEN, TCP_NODELAY, TCP_QUICKACK, TCP_WINDOW_CLAMP
from ustack.tcp.seq import after, before
from ustack.wire.tcp import TCPHDR_SYN, sack_option

if TYPE_CHECKING:
    from ustack.inet.socket import Socket

SEEDS: Final = 8
STEPS: Final = 1500
USUAL: Final = ["A"] * 12 + ["PA"] * 6
FLAGS: Final = [*USUAL, "FA", "FPA", "AU", "PAU", "AE", "AC", "AEC", "", "S", "SA", "R", "RA", "FSRPAUEC"]
PAUSES: Final = [0, MSEC, 5 * MSEC, 40 * MSEC, 210 * MSEC, SEC, 5 * SEC, 120 * SEC]
OPTIONS: Final = [
    (SOL_SOCKET, SO_RCVBUF), (SOL_SOCKET, SO_SNDBUF), (SOL_SOCKET, SO_KEEPALIVE), (SOL_SOCKET, SO_OOBINLINE),
    (IPPROTO_TCP, TCP_NODELAY), (IPPROTO_TCP, TCP_CORK), (IPPROTO_TCP, TCP_QUICKACK), (IPPROTO_TCP, TCP_WINDOW_CLAMP),
]  # fmt: skip


class Walk(Peer):
    """The stack, its application and its peer, all driven by ``random``."""

    def __init__(self, random: Random) -> None:
        self.random = random
        features = random.choice((NO_OFFLOAD, E1000_FEATURES))
        wscale = random.choice((None, 0, 2, 7, 14))
        super().__init__(
            features=features,
            wscale=wscale,
            timestamps=random.random() < 0.5,
            sack=random.random() < 0.7,
            congestion=random.choice(("reno", "cubic", "bbr")),
        )
        self.mss = random.choice((None, 1, 48, 88, 536, 1460, 9000))
        settle(self.stack, random)
        self.net.sysctl.tcp_syncookies = random.choice((0, 1, 1, 2))
        self.net.sysctl.tcp_fastopen = random.choice((0, 3, 0x7))
        self.iss = random.choice((0, 0x7FFF_FF00, 0xFFFF_FF00, random.getrandbits(32)))
        self.listener = self.stack.socket()
        self.listener.setsockopt(IPPROTO_TCP, TCP_FASTOPEN, random.choice((0, 1, 5)))
        self.listener.bind(("", 80))
        self.listener.listen(4)
        self.live: list[Socket] = []
        self.opened = 0
        self.cookie = b""
        self.pruned, self.pruned_before = False, 0  #: whether memory was short, and SACKed text given up, in this step

    # -- opening

    def open(self) -> None:
        """A new connection from a new port, accepted or called, if the handshake is let through."""
        self.opened += 1
        self.nxt, self.acked, self.tsecr = 0, 0, 0
        self.iss = (self.iss + self.random.getrandbits(20)) & M32
        if self.random.random() < 0.6:
            self.pport = 20_000 + self.opened
            self.sport = 80
            if self.random.random() < 0.5:
                self.fast_syn()
            else:
                self.inject(self.random.choice(("S", "S", "SEC")), options=self.syn_options())
            self.inject("A")
            try:
                self.take(self.listener.accept())
            except OSError:
                pass
        else:
            self.pport = 10_000 + self.opened
            self.take(self.stack.socket())
            with pytest.raises(OSError):
                self.sock.connect(("192.0.2.1", self.pport))
            self.poll()
            if self.random.random() < 0.8:
                self.inject(self.random.choice(("SA", "SA", "S")), options=self.syn_options())
        self.judge()

    def fast_syn(self) -> None:
        """A SYN with data, and a Fast Open cookie that is asked for, true, forged or malformed."""
        value = self.random.choice((b"", self.cookie, self.cookie, bytes(8), bytes(3), bytes(16)))
        option = bytes((34, 2 + len(value))) + value
        options = self.syn_options() + option + b"\x01" * (-len(option) % 4)
        self.inject("S", bytes(self.random.choice((0, 5, 500, 1400))), options=options[:40])
        for segment in self.out:
            at = segment.raw_options.find(b"\x22\x0a")
            if segment.flags & TCPHDR_SYN and at >= 0:
                self.cookie = segment.raw_options[at + 2 : at + 10]

    def take(self, sock: Socket) -> None:
        self.sock = sock
        self.tp = tcp_sock(sock)
        self.live.append(sock)
        if len(self.live) > 4:
            self.live.pop(0).close()

    # -- one step

    def step(self) -> None:
        roll = self.random.random()
        if self.tp.state in (TCP_CLOSE, TCP_LISTEN) or roll < 0.004:
            self.open()
        elif roll < 0.2:
            self.honest()
        elif roll < 0.6:
            self.segment()
        elif roll < 0.62:
            self.error()
        elif roll < 0.85:
            self.call()
        else:
            self.run(self.random.choice(PAUSES))
        self.judge()

    def segment(self) -> None:
        """Anything the peer might send, most of it near the truth."""
        flags = self.random.choice(FLAGS)
        if "R" in flags and self.random.random() < 0.8:
            flags = "A"
        if "S" in flags:
            options = self.syn_options()
        else:
            options = self.some_options()
        seq, ack = self.some_seq(), self.some_ack()
        data = bytes(self.random.choice((0, 0, 0, 1, 7, 100, 536, 1400)))
        window = self.random.choice((0, 1, 100, 1460, 5000, 65_535, 65_535, 1 << 20))
        urg = self.random.choice((0, 1, 2, len(data), 65_535)) if "U" in flags else 0
        tos = self.random.choice((0, 0, 1, 2, 3))
        self.inject(flags, data, seq=seq, ack=ack, window=window, options=options, urg=urg, tos=tos)

    def honest(self) -> None:
        """What a true receiver would say now: an ACK of some of what it got, or the same one several times."""
        nxt = (int(self.tp.rcv_nxt) - self.iss) & M32
        una = (int(self.tp.snd_una) - self.irs) & M32
        flight = (int(self.tp.snd_nxt) - int(self.tp.snd_una)) & M32
        ack = (una + self.random.choice((0, flight // 2, flight))) & M32
        options = self.ts_option() if self.ts_ok else b""
        window = self.random.choice((65_535, 65_535, 1 << 20))
        for _ in range(self.random.choice((1, 1, 4))):
            self.inject("A", seq=nxt, ack=ack, window=window, options=options)

    def error(self) -> None:
        """An ICMP error about something in flight or not, an MTU among them that makes sense or not."""
        una = (int(self.tp.snd_una) - self.irs) & M32
        flight = (int(self.tp.snd_nxt) - int(self.tp.snd_una)) & M32
        kind, code = self.random.choice(((3, 0), (3, 1), (3, 3), (3, 4), (3, 4), (3, 4), (4, 0), (11, 0), (12, 0)))
        info = self.random.choice((0, 68, 296, 552, 1000, 1499, 1500, 9000))
        self.icmp(kind, code, info, seq=(una + self.random.randrange(-10, flight + 10)) & M32)

    def some_seq(self) -> int:
        """Relative to the peer's ISN: mostly exactly next, or near the window's edges."""
        nxt = (int(self.tp.rcv_nxt) - self.iss) & M32
        edge = int(self.tp.tcp_receive_window())
        near = self.random.randrange(-1500, 1500)
        far = self.random.getrandbits(32)
        return (nxt + self.random.choice((0, 0, 0, 0, 0, near, abs(near), 1, -1, edge, edge + 1, far))) & M32

    def some_ack(self) -> int:
        """Relative to the stack's ISN: all, some, none of what is in flight, what was never sent, what was long ago."""
        una, nxt = int(self.tp.snd_una), int(self.tp.snd_nxt)
        flight = (nxt - una) & M32
        some = self.random.randrange(flight + 1)
        chosen = self.random.choice((0, 0, 0, some, some, flight, flight, flight + 1, -1, -70_000, 1 << 31))
        return (una + chosen - self.irs) & M32

    def some_options(self) -> bytes:
        options = b""
        if self.ts_ok and self.random.random() < 0.95:
            late = self.random.choice((0, 0, 0, 0, 1, -1, -1000, 1 << 31, 5000))
            echo = self.random.choice((self.tsecr, self.tsecr, self.tsecr, 0, (self.tsecr - 50) & M32, 77))
            options = self.ts_option((self.tsval() + late) & M32, echo)
        roll = self.random.random()
        if roll < 0.4:
            options += sack_option(self.some_blocks(3 if options else 4))
        elif roll < 0.45:
            options += bytes((34, 10)) + self.random.randbytes(8) + b"\x01\x01"
        elif roll < 0.5:
            size = self.random.randrange(0, 41 - len(options))
            options += self.random.randbytes(size)
        return options[:40]

    def some_blocks(self, most: int) -> list[tuple[int, int]]:
        return [self.some_block() for _ in range(self.random.randrange(1, most + 1))]

    def some_block(self) -> tuple[int, int]:
        """A SACK block: of skbs in flight, of some bytes, below SND.UNA (D-SACK), inside out, anywhere."""
        una, nxt = int(self.tp.snd_una), int(self.tp.snd_nxt)
        roll = self.random.random()
        sent = list(self.tp.rtx_queue or ())
        if roll < 0.6 and sent:
            first = self.random.randrange(len(sent))
            last = self.random.randrange(first, len(sent))
            return int(sent[first].seq), int(sent[last].end_seq)
        flight = (nxt - una) & M32
        start, end = self.random.randrange(flight + 1), self.random.randrange(flight + 2)
        if roll < 0.8:
            return (una + start) & M32, (una + end) & M32
        if roll < 0.9:
            return (una - 3000) & M32, (una - self.random.randrange(3000)) & M32
        return self.random.getrandbits(32), self.random.getrandbits(32)

    # -- the application

    def call(self) -> None:
        """A system call; what it raises is its own business as long as it is an OSError."""
        roll = self.random.random()
        try:
            if roll < 0.5:
                flags = self.random.choice((0, 0, 0, 0, MSG_MORE, MSG_OOB))
                self.sock.send(bytes(self.random.choice((1, 10, 500, 1460, 3000, 20_000))), flags)
            elif roll < 0.85:
                self.sock.recv(self.random.choice((1, 100, 1 << 20)), self.random.choice((0, 0, 0, MSG_PEEK, MSG_OOB)))
            elif roll < 0.95:
                level, name = self.random.choice(OPTIONS)
                self.sock.setsockopt(level, name, self.random.choice((0, 1, 2, 5000, 100_000)))
            elif roll < 0.97:
                self.sock.shutdown(self.random.choice((0, 1, 2)))
            elif roll < 0.98:
                self.sock.setsockopt(SOL_SOCKET, SO_LINGER, pack("ii", *self.random.choice(((0, 0), (1, 0), (1, 5)))))
            elif roll < 0.99:
                self.leave()
            else:
                self.sock.poll()
        except OSError as problem:
            assert problem.errno not in (None, errno.EFAULT)
        self.poll()

    def leave(self) -> None:
        """The application is gone; the connection may not be."""
        if self.sock in self.live:
            self.live.remove(self.sock)
        self.sock.close()

    # -- the verdict

    def judge(self) -> None:
        assert self.stack.unaccounted() == 0
        self.pruned = self.net.mib.tcpext.OfoPruned != self.pruned_before
        self.pruned_before = int(self.net.mib.tcpext.OfoPruned)
        for sock in self.live:
            invariants.check(tcp_sock(sock))
        invariants.check(self.tp)
        for segment in self.out:
            if segment.dport == self.pport and segment.sport == self.sport:
                self.believe(segment)
        self.out.clear()

    def believe(self, segment: Segment) -> None:
        """What the stack has just said must be true."""
        if segment.flags & (4 | TCPHDR_SYN) or self.tp.state in (TCP_CLOSE, TCP_LISTEN):
            return
        assert len(segment.data) == 0 or not after(segment.end, self.tp.write_seq)
        blocks = segment.sacks
        for number, (start, end) in enumerate(blocks):
            assert before(start, end)
            if number == 0 and (not after(end, segment.ack) or within((start, end), blocks[1:])):
                continue  # D-SACK (RFC 2883): of what came twice
            assert after(start, segment.ack), "SACK of what is acknowledged"
            # the ACK of a FIN tells of what goes with it (tcp_fin)
            if segment is self.out[-1] and not self.pruned and not self.tp.fin_received:
                assert invariants.held_beyond(self.tp, start, end), "SACK of what is not there"


def within(block: tuple[int, int], others: list[tuple[int, int]]) -> bool:
    return any(not before(block[0], other[0]) and not after(block[1], other[1]) for other in others[:1])


def end(walk: Walk) -> None:
    """Everybody leaves; hours later nothing is left."""
    for sock in [*walk.live, walk.listener]:
        sock.close()
    walk.run(4000 * SEC)
    walk.out.clear()
    tables = walk.stack.tcp.tables
    assert not tables.ehash and not tables.requests and not tables.timewait and not tables.orphans
    assert tables.memory.allocated == tables.memory.sockets == 0
    assert walk.stack.queued() == 0 and walk.stack.unaccounted() == 0


@pytest.mark.parametrize("seed", range(SEEDS))
def test_a_long_walk(seed: int) -> None:
    walk = Walk(Random(seed))
    for _ in range(STEPS):
        walk.step()
    assert walk.opened > 3
    end(walk)


@settings(max_examples=25, deadline=None)
@given(st.randoms(use_true_random=False), st.integers(1, 40))
def test_short_walks_that_hypothesis_can_make_shorter(random: Random, steps: int) -> None:
    walk = Walk(random)
    for _ in range(steps):
        walk.step()
    end(walk)
