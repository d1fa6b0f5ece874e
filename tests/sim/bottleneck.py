"""Bulk transfers through one bottleneck in virtual time: what every flow has got of it, the same at each run.

``a`` sends, ``b`` reads at once; there and back take the same time, and what is lost is lost on the way there, before
the queue. Every frame is of the wire's size.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tests.harness import B, Pair
from ustack.device.cable import Impairments, Pollable
from ustack.inet.family import SOCK_STREAM
from ustack.inet.options import SO_REUSEADDR, SOL_SOCKET
from ustack.inet.sockaddr import AF_INET
from ustack.sock import POLLIN, Observer, Sock
from ustack.tcp.options import TCP_CONGESTION
from ustack.tcp.receive import tcp_read_sock
from ustack.tcp.sock import TcpSock
from ustack.timer import NEVER, NSEC_PER_MSEC, NSEC_PER_SEC
from ustack.wire.ipv4 import IPPROTO_TCP

if TYPE_CHECKING:
    from collections.abc import Callable

    from ustack.inet.socket import Socket

PORT: Final = 80
#: One write of an application.
BLOCK: Final = memoryview(bytes(1 << 16))
EVERYTHING: Final = 1 << 40
#: Between the starts of two flows (ns): not in one instant, and all before the first has filled the queue. Who finds a
#: full one takes its delay for the path's, and BBR then needs a minute to be fair, here as in Linux.
STAGGER: Final = 1_100_000
FRAME: Final = 1514


@dataclass(frozen=True)
class Scenario:
    """Rates in bits/s, times in ns, sizes in bytes; ``rtt`` is that of the empty path."""

    congestion: str = "reno"
    flows: int = 1
    rate: int = 10_000_000
    rtt: int = 40 * NSEC_PER_MSEC
    buffer: int = 50_000
    loss: float = 0.0
    warm_up: int = 0  #: not counted
    duration: int = 5 * NSEC_PER_SEC
    seed: int = 1

    @property
    def product(self) -> int:
        """Bytes that fill the path (rate times rtt)."""
        return self.rate * self.rtt // (8 * NSEC_PER_SEC)


@dataclass
class Outcome:
    """After the warm-up: bytes that each flow has delivered; and of all of it: segments sent again, and timeouts."""

    delivered: list[int]
    retransmitted: int = 0
    timeouts: int = 0
    overlimits: int = 0
    lost: int = 0


class Sender(Observer):
    """One flow's source: it never lacks data."""

    def __init__(self, flows: Flows, sock: Socket) -> None:
        self.flows = flows
        self.sock = sock
        sock.observe(self)

    def write_space(self, sk: Sock) -> None:
        self.flows.later(self.write)

    def state_change(self, sk: Sock) -> None:
        self.flows.later(self.write)

    def error_report(self, sk: Sock) -> None:
        raise AssertionError(f"a flow has ended: {sk.err}")

    def write(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                self.sock.send(BLOCK)


class Receiver(Observer):
    """The other end of a flow: reads within the batch, as a fast application does."""

    def __init__(self, sock: Socket) -> None:
        self.sock = sock
        self.received = 0
        sock.observe(self)

    def data_ready(self, sk: Sock) -> None:
        assert isinstance(sk, TcpSock)
        self.received += sum(map(len, tcp_read_sock(sk, EVERYTHING)))


class Acceptor(Observer):
    def __init__(self, flows: Flows, sock: Socket) -> None:
        self.flows = flows
        self.sock = sock
        sock.observe(self)

    def data_ready(self, sk: Sock) -> None:
        self.flows.later(self.accept)

    def accept(self) -> None:
        while self.sock.poll() & POLLIN:
            receiver = Receiver(self.sock.accept())
            receiver.data_ready(receiver.sock.sk)
            self.flows.receivers.append(receiver)


class Flows(Pollable):
    """The applications of both stacks, on the lab's clock: they are told within a poll and act after it."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        half = scenario.rtt // 2
        there = Impairments(delay=half, loss=scenario.loss, rate=scenario.rate, limit=scenario.buffer)
        self.pair = Pair(scenario.seed, there, Impairments(delay=half), super_segments=False, resolved=True)
        self.senders: list[Sender] = []
        self.receivers: list[Receiver] = []
        self.began = self.pair.now
        self._turns: dict[Callable[[], None], None] = {}
        self._now = self.pair.now
        self.pair.lab.add(self)
        self._listen()

    def _listen(self) -> None:
        listener = self.pair.b.socket(AF_INET, SOCK_STREAM)
        listener.setsockopt(SOL_SOCKET, SO_REUSEADDR, 1)
        listener.bind(("", PORT))
        listener.listen(self.scenario.flows)
        self.acceptor = Acceptor(self, listener)

    def later(self, turn: Callable[[], None]) -> None:
        self._turns[turn] = None

    def next_deadline(self) -> int:
        if self._turns:
            return self._now
        waiting = self.scenario.flows - len(self.senders)
        return self.began + len(self.senders) * STAGGER if waiting else NEVER

    def poll(self, now: int) -> None:
        self._now = now
        while len(self.senders) < self.scenario.flows and now >= self.began + len(self.senders) * STAGGER:
            self.senders.append(self.connect())
        turns, self._turns = self._turns, {}
        for turn in turns:
            turn()

    def connect(self) -> Sender:
        sock = self.pair.a.socket(AF_INET, SOCK_STREAM)
        if self.scenario.congestion != self.pair.a.tcp.tables.congestion.default().name:
            sock.setsockopt(IPPROTO_TCP, TCP_CONGESTION, self.scenario.congestion.encode())
        with contextlib.suppress(BlockingIOError):
            sock.connect((B, PORT))
        return Sender(self, sock)

    def run_for(self, duration: int) -> None:
        self.pair.lab.run_until(self.pair.now + duration)

    def delivered(self) -> list[int]:
        """So far, by flow."""
        return [receiver.received for receiver in self.receivers]


def run(scenario: Scenario) -> Outcome:
    """Nothing of it is left: the books are checked, the connections dropped with their stacks."""
    flows = Flows(scenario)
    with flows.pair as pair:
        flows.run_for(scenario.warm_up)
        before = flows.delivered()
        before += [0] * (scenario.flows - len(before))
        flows.run_for(scenario.duration)
        after = flows.delivered()
        assert len(after) == scenario.flows, "not all are connected"
        mib, lane = pair.a.net.mib, pair.cable.there.stats
        return Outcome(
            [late - early for late, early in zip(after, before, strict=True)],
            int(mib.tcp.RetransSegs),
            int(mib.tcpext.TCPTimeouts),
            int(lane.overlimits),
            int(lane.lost),
        )


def jain(shares: list[int]) -> float:
    """Jain's index of fairness (1984): 1 if all have the same, 1/n if one has it all."""
    squares = sum(share * share for share in shares)
    return sum(shares) ** 2 / (len(shares) * squares) if squares else 0.0
