"""Network: a laboratory built from its description, or by a program, and run in virtual time.

    network = Network(seed=7)
    a = network.host("a", addr="192.0.2.1/24")
    b = network.host("b", addr="192.0.2.2/24", serve=["echo"])
    sw = network.switch("sw")
    network.cable(a, sw, delay="1ms")
    network.cable(b, sw, loss="1%")
    a.run("ping", "192.0.2.2")
    network.run()

The same description and seed give the same run, to the nanosecond. Whoever holds the network may also use sockets
that block: ``network.hosts["a"].sock()``; while one waits, time passes.
"""

from __future__ import annotations

from collections import deque
from hashlib import blake2b
from typing import TYPE_CHECKING, Final, NamedTuple

from ustack.device.cable import Cable
from ustack.entropy import SEED_LEN
from ustack.lab import spec
from ustack.lab.clock import Lab
from ustack.lab.host import Host, Node, Switch
from ustack.lab.spec import SpecError, convert, impairments, said
from ustack.lab.units import Quantity, duration
from ustack.timer import NSEC_PER_MSEC
from ustack.trace.journey import Journeys

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

    from ustack.device.e1000 import E1000
    from ustack.lab.program import Task

#: Lines that the log keeps; the oldest go.
LOG_MAX: Final = 100_000
#: After the last program has ended: what it sent last arrives, and is acknowledged.
LINGER: Final = 200 * NSEC_PER_MSEC


class Line(NamedTuple):
    """Something that a program printed; ``now`` in ns."""

    now: int
    host: str
    program: str
    text: str

    def __str__(self) -> str:
        return f"{self.now / 1e9:12.6f}  {self.host}: {self.text}"


class Failure(NamedTuple):
    """A program that ended badly, or not at all."""

    host: str
    program: str
    text: str

    def __str__(self) -> str:
        return f"{self.host}: {self.program}: {self.text}"


class TapPort(NamedTuple):
    """A port with a TAP of that name at its other end, which only exists in real time."""

    name: str
    node: Node
    dev: E1000
    host_addr: str | None
    offload: bool


class Network:
    """Everything on one clock."""

    def __init__(self, description: spec.Spec | None = None, seed: int | None = None) -> None:
        """``seed`` in place of the description's. Raises SpecError for what turns out not to be possible."""
        described = spec.Spec() if description is None else description
        self.seed: int = described.seed if seed is None else seed
        self.title: str = described.title
        self.until: int = duration(described.until)  #: ns; when ``run`` ends at the latest
        self.lab = Lab()
        self.hosts: dict[str, Host] = {}
        self.switches: dict[str, Switch] = {}
        self.cables: list[Cable] = []
        self.taps: list[TapPort] = []
        self.hosts_file: dict[str, str] = dict(described.hosts)
        self.log: deque[Line] = deque(maxlen=LOG_MAX)
        self.lines: int = 0  #: that were written, those that the log has lost included
        self.say: Callable[[Line], object] | None = None  #: told of every line at once
        self.failures: list[Failure] = []
        self._ended_badly: list[Failure] = []
        self.current: Task | None = None  #: the program whose turn it is
        self._loops: bool = described.allow_loops
        self._trees = spec.Trees()
        self._journeys: Journeys | None = None
        self._running: dict[Task, None] = {}  # those whose end is waited for; a dict for its order
        self._programs: int = 0
        self._build(described)

    def _build(self, described: spec.Spec) -> None:
        for table in described.host:
            self.hosts[table.name] = Host(self, table, self._number())
        for switch in described.switch:
            self.switches[switch.name] = Switch(self, switch, self._number())
        for number, cable in enumerate(described.cable, 1):
            self._join(f"cable {number} ({' - '.join(cable.ends)})", cable)
        for tap in described.tap:
            node, dev = self._end(f"tap {tap.name!r}", tap.end)
            self.taps.append(TapPort(tap.name, node, dev, tap.host_addr, tap.offload))
        for host in self.hosts.values():
            host.configure()
            host.start()

    def _number(self) -> int:
        return len(self.hosts) + len(self.switches) + 1

    def seed_of(self, name: str) -> bytes:
        """The seed of what is called so: of each its own, all of them from the network's."""
        return blake2b(f"{self.seed}/{name}".encode(), digest_size=SEED_LEN).digest()

    # -- building

    def host(self, name: str, **settings: object) -> Host:
        """A host, with the settings of [[host]] in the description. Raises SpecError."""
        table = convert(spec.Host, {"name": name, **settings})
        spec.check_host(table)
        self._check_new(name)
        host = self.hosts[name] = Host(self, table, self._number())
        self._made(host)
        host.configure()
        host.start()
        return host

    def switch(self, name: str, **settings: object) -> Switch:
        """A switch, with the settings of [[switch]]."""
        table = convert(spec.Switch, {"name": name, **settings})
        spec.check_switch(table)
        self._check_new(name)
        switch = self.switches[name] = Switch(self, table, self._number())
        self._made(switch)
        return switch

    def cable(self, a: Node | str, b: Node | str, **settings: object) -> Cable:
        """A cable between two nodes, or their ports ("a:eth1"), with the settings of [[cable]]."""
        ends = [end if isinstance(end, str) else end.name for end in (a, b)]
        table = convert(spec.Cable, {"ends": ends, **settings})
        where = f"cable ({' - '.join(ends)})"
        spec.check_cable(where, table)
        return self._join(where, table)

    def tap(self, name: str, end: Node | str, **settings: object) -> TapPort:
        """A port for a TAP, with the settings of [[tap]]."""
        table = convert(spec.Tap, {"name": name, "end": end if isinstance(end, str) else end.name, **settings})
        spec.check_tap(table)
        node, dev = self._end(f"tap {name!r}", table.end)
        port = TapPort(table.name, node, dev, table.host_addr, table.offload)
        self.taps.append(port)
        return port

    def _check_new(self, name: str) -> None:
        if name in self.hosts or name in self.switches:
            raise SpecError(f"{name!r}: name: there is a host or switch of that name already")

    def _join(self, where: str, table: spec.Cable) -> Cable:
        (a, near), (b, far) = [self._end(where, end) for end in table.ends]
        if isinstance(a, Switch) and isinstance(b, Switch) and not self._trees.join(a.name, b.name) and not self._loops:
            raise SpecError(f"{where}: ends: {spec.LOOP}")
        ends = f"{a.name}:{near.name}-{b.name}:{far.name}"
        seed = int.from_bytes(self.seed_of(ends)[:7], "big") if table.seed is None else table.seed
        there, back = impairments(where, table, None), impairments(where, table, table.back)
        cable = Cable(near.nic, far.nic, seed, there, back, table.flow_control, table.super_segments)
        self.cables.append(cable)
        self.lab.add(cable)
        return cable

    def _end(self, where: str, end: str) -> tuple[Node, E1000]:
        """The port that ``end`` means, taken from now on."""
        name, _, port = end.partition(":")
        node: Node | None = self.hosts.get(name) or self.switches.get(name)
        if node is None:
            raise SpecError(f"{where}: there is no host or switch {name!r}")
        return node, said(where, node.port, port)

    # -- looking

    def nodes(self) -> list[Node]:
        """Hosts and switches, in the order they were made."""
        return sorted([*self.hosts.values(), *self.switches.values()], key=lambda node: node.number)

    @property
    def journeys(self) -> Journeys:
        """Packets' ways through the whole network, for those who watch (trace/journey.py)."""
        if self._journeys is None:
            self._journeys = Journeys()
            for node in self.nodes():
                self._journeys.join(node.stack.net, node.name)
        return self._journeys

    def _made(self, node: Node) -> None:
        if self._journeys is not None:
            self._journeys.join(node.stack.net, node.name)

    # -- running

    @property
    def done(self) -> bool:
        """There were programs, and all whose end is waited for have ended."""
        return self._programs > 0 and not self._running

    def running(self) -> list[Task]:
        """Programs that have not ended and ought to."""
        return list(self._running)

    def run(self, until: Quantity | None = None) -> bool:
        """Let virtual time pass until every program has ended, and what was sent last has arrived.

        At ``until``, from the beginning of time, it ends whatever happens; programs that have not ended by then are
        failures. True if there are none.
        """
        limit = self.until if until is None else duration(until)
        if not self.done:
            self.lab.run_until(limit)
        if self.done:
            self.lab.run_until(min(limit, int(self.lab.now) + LINGER))
        return self.judge(limit)

    def judge(self, limit: int) -> bool:
        """Programs that have not ended after ``limit`` ns are failures; True if there is none of any kind."""
        late = [Failure(task.host.name, task.name, f"has not ended after {limit / 1e9:g} s") for task in self.running()]
        self.failures = self._ended_badly + late
        return not self.failures

    def close(self) -> None:
        """Nothing runs any more: programs that have not ended are left where they are."""
        for host in self.hosts.values():
            for task in host.tasks:
                task.drop()
            host.loop.close()
        self._running.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def write(self, host: str, program: str, text: str) -> None:
        """A line for the log."""
        line = Line(int(self.lab.now), host, program, text)
        self.log.append(line)
        self.lines += 1
        if self.say is not None:
            self.say(line)

    def begun(self, task: Task) -> None:
        """A program is to run."""
        if not task.daemon:
            self._programs += 1
            self._running[task] = None

    def ended(self, task: Task, text: str) -> None:
        """A program has ended; ``text`` says what went wrong, if anything."""
        if text:
            self._ended_badly.append(Failure(task.host.name, task.name, text))
            self.failures = self._ended_badly[:]
            self.write(task.host.name, task.name, f"{task.name}: {text}")
        if task in self._running:
            del self._running[task]
            if not self._running:
                self.lab.stop()
