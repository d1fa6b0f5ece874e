"""Random networks with random programs, on any clock: what happened in them, frame by frame."""

from __future__ import annotations

import contextlib
from random import Random
from typing import TYPE_CHECKING, Final, cast

from tests.harness import MSEC, SEC, Network
from ustack.device.cable import Impairments, Pollable
from ustack.device.core import PacketTap
from ustack.inet.family import SOCK_DGRAM, SOCK_STREAM
from ustack.inet.sockaddr import AF_INET
from ustack.sock import Observer
from ustack.timer import NEVER
from ustack.wire.ipv4 import addr_to_str

if TYPE_CHECKING:
    from tests.lab.scan import Scan
    from ustack.device.cable import Cable
    from ustack.inet.socket import Socket
    from ustack.lab import Lab
    from ustack.packet import Packet
    from ustack.sock import Sock
    from ustack.stack import Stack
    from ustack.timer import Waker

PORT: Final = 4747
BLOCK: Final = bytes(range(256)) * 16
Frame = tuple[int, int, str, bool, bytes]  #: time, number of the stack, device, whether it was sent, its first bytes


class Ear(Observer):
    """Told within the stack's poll."""

    def __init__(self, program: Program, sock: Socket) -> None:
        self.program = program
        self.sock = sock

    def data_ready(self, sk: Sock) -> None:
        self.program.later(self.sock)

    def write_space(self, sk: Sock) -> None:
        self.program.later(self.sock)

    def state_change(self, sk: Sock) -> None:
        self.program.later(self.sock)

    def error_report(self, sk: Sock) -> None:
        self.program.later(self.sock)


class Program(Pollable):
    """One host's: it answers datagrams, reads streams to their end and answers them, and sends when told to."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.waker: Waker | None = None
        self.turns: list[Socket] = []
        self.heard: list[tuple[int, bytes]] = []
        self.udp = self.watch(stack.socket(AF_INET, SOCK_DGRAM))
        self.udp.bind(("0.0.0.0", PORT))
        self.listener = self.watch(stack.socket(AF_INET, SOCK_STREAM))
        self.listener.bind(("0.0.0.0", PORT))
        self.listener.listen(8)

    def watch(self, sock: Socket) -> Socket:
        sock.observe(Ear(self, sock))
        return sock

    def later(self, sock: Socket) -> None:
        if sock not in self.turns:
            self.turns.append(sock)
            if self.waker is not None:
                self.waker.wake()

    # -- a member of a laboratory

    def attach(self, waker: Waker) -> bool:
        self.waker = waker
        return True

    def next_deadline(self) -> int:
        return 0 if self.turns else int(NEVER)

    def poll(self, now: int) -> None:
        self.stack.catch_up(now)
        turns, self.turns = self.turns, []
        for sock in turns:
            with contextlib.suppress(OSError):
                self.serve(sock, now)

    def serve(self, sock: Socket, now: int) -> None:
        if sock is self.listener:
            while True:
                self.later(self.watch(sock.accept()))
        if sock is self.udp:
            while True:
                data, peer = sock.recvfrom(65536)
                self.heard.append((now, data))
                if data.startswith(b"?"):
                    sock.sendto(b"!" + data[1:], peer.pair())
        while data := sock.recv(65536):
            self.heard.append((now, data[:1]))
        sock.close()

    # -- what is asked of it from outside

    def ask(self, address: str, size: int) -> None:
        with contextlib.suppress(OSError):
            self.udp.sendto(b"?" + bytes(size), (address, PORT))

    def transfer(self, address: str) -> None:
        sock = self.watch(self.stack.socket(AF_INET, SOCK_STREAM))
        with contextlib.suppress(OSError):
            sock.connect((address, PORT))
        with contextlib.suppress(OSError):
            sock.send(BLOCK)
        with contextlib.suppress(OSError):
            sock.shutdown(1)


class Log(PacketTap):
    def __init__(self, number: int, stack: Stack, frames: list[Frame]) -> None:
        self.number = number
        self.stack = stack
        self.frames = frames
        stack.devices.add_tap(self)

    def frame(self, packet: Packet, outgoing: bool) -> None:
        assert packet.dev is not None
        data = packet.buf[packet.mac_header : packet.end]
        self.frames.append((int(self.stack.net.now), self.number, packet.dev.name, outgoing, data[:64]))


class RandomNetwork(Network):
    """A tree of routers with hosts at them, and cables of every kind."""

    def __init__(self, seed: int, lab: Lab | Scan) -> None:
        super().__init__(seed)
        self.lab = cast("Lab", lab)
        self.random = Random(seed)
        self.frames: list[Frame] = []
        self.addresses: list[str] = []
        self.programs: list[Program] = []
        size = self.random.randint(3, 9)
        for number in range(size):
            stack = self.stack()
            stack.net.conf.inet_forward_change(1)
            Log(number, stack, self.frames)
        for number in range(1, size):
            self._join_to_tree(number)
        for stack in self.stacks:
            self.programs.append(Program(stack))
        self.lab.add(*self.programs)

    def _join_to_tree(self, number: int) -> None:
        """A new leaf: its default route leads up, and everybody on the way up has a route down."""
        above = self.random.randrange(number)
        net = 0xC6336400 + 4 * number
        up, own = addr_to_str(net + 1), addr_to_str(net + 2)
        ring = self.random.choice([64, 256])
        self.join(
            self.stacks[above],
            f"{up}/30",
            self.stacks[number],
            f"{own}/30",
            self._impairments(),
            self._impairments(),
            ring=ring,
            flow_control=self.random.random() < 0.7,
        )
        self.stacks[number].add_gateway(up)
        self.addresses.append(own)
        self._parents = getattr(self, "_parents", {})
        self._parents[number] = (above, own)
        at, via = self._parents[number]
        while at in self._parents:
            below = self._parents[at]
            self.stacks[below[0]].add_route(f"{addr_to_str(net)}/30", below[1])
            at = below[0]

    def _impairments(self) -> Impairments:
        some = self.random
        return Impairments(
            delay=some.choice([0, 0, 1000, 5 * MSEC, 20 * MSEC]),
            jitter=some.choice([0, 0, MSEC]),
            loss=some.choice([0.0, 0.0, 0.05]),
            duplicate=some.choice([0.0, 0.02]),
            reorder=some.choice([0.0, 0.1]),
            corrupt=some.choice([0.0, 0.0, 0.02]),
            rate=some.choice([0, 0, 10_000_000]),
        )

    def act(self) -> None:
        """Something from outside, then some time."""
        some = self.random
        program = some.choice(self.programs)
        address = some.choice(self.addresses)
        what = some.randrange(10)
        if what < 4:
            program.ask(address, some.choice([0, 100, 3000]))
        elif what < 7:
            program.transfer(address)
        elif what == 7:
            cable: Cable = some.choice(self.cables)
            cable.plug(not cable.plugged)
        elif what == 8:
            stack = some.choice(self.stacks)
            stack.set_down(stack.device("eth0"))
            stack.set_up(stack.device("eth0"))
        self.lab.run_until(self.now + some.choice([0, 1, MSEC, 10 * MSEC, SEC]))

    def counters(self) -> list[dict[str, int]]:
        return [stack.net.mib.snapshot() for stack in self.stacks]
