"""Hosts and switches of a laboratory: stacks with names, ports, and what runs on them."""

from __future__ import annotations

import errno
import importlib.util
import inspect
import io
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ustack.cli.ip.run import run as ip_run
from ustack.cli.ip.transport import DirectTransport
from ustack.device.e1000 import E1000
from ustack.device.ring import NicRegisters
from ustack.inet.family import SOCK_STREAM
from ustack.inet.sockaddr import AF_INET
from ustack.io.config import parse_address
from ustack.io.daemon import start_services
from ustack.io.embed import Blocking, VirtualTime
from ustack.io.embed import Socket as BlockingSocket
from ustack.io.loop import Loop
from ustack.lab.program import ProgramSocket, Task, sleep
from ustack.lab.programs import BUILT_IN
from ustack.lab.spec import HOOK_POINTS, SpecError, ports_of, said
from ustack.lab.units import Quantity, duration
from ustack.rtnl.rtnetlink import Rtnetlink
from ustack.stack import Stack
from ustack.wire.ipv4 import addr_to_str

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from ustack.device.bridge import Bridge
    from ustack.inet.socket import Socket as InetSocket
    from ustack.lab import spec
    from ustack.lab.network import Network

LOCALHOST: Final = "127.0.0.1"
#: EAI_NONAME in the words of gai_strerror(3).
UNKNOWN_NAME: Final = "Name or service not known"


class Node:
    """A stack with a name and ports in a network."""

    def __init__(self, network: Network, name: str, number: int, mtu: int, ring: int) -> None:
        """``number``: 1 for the first one; MAC addresses are made of it."""
        self.network: Network = network
        self.name: str = name
        self.number: int = number
        self.mtu: int = mtu
        self.ring: int = ring
        self.stack = Stack(network.seed_of(name), network.lab.now)
        self.devices: dict[str, E1000] = {}  #: ports by their names
        self.joined: set[str] = set()  #: ports that have a cable, or a TAP
        self._rtnetlink: Rtnetlink | None = None

    @property
    def rtnetlink(self) -> Rtnetlink:
        """What ``ip`` and ``sysctl`` do, as messages."""
        if self._rtnetlink is None:
            self._rtnetlink = Rtnetlink(self.stack)
        return self._rtnetlink

    def add_port(self, name: str) -> E1000:
        """A NIC, up, without a cable."""
        mac = 0x0200_0000_0000 | self.number << 16 | len(self.devices)
        dev = E1000(self.stack.devices, name, mac, NicRegisters(self.ring), self.mtu)
        dev.nic.set_link(False)
        self.devices[name] = dev
        self.stack.add_device(dev)
        return dev

    def port(self, name: str = "") -> E1000:
        """The port ``name``, or the first one that is free, made if there is none; it is taken from now on."""
        if not name:
            free = [each for each in self.devices if each not in self.joined]
            name = free[0] if free else f"eth{len(self.devices)}"
        dev = self.devices.get(name) or self.add_port(name)
        if name in self.joined:
            raise SpecError(f"{self.name}:{name} has a cable already")
        self.joined.add(name)
        dev.nic.set_link(True)
        return dev

    def ip(self, words: str) -> str:
        """``ip`` with these words, "route add default via 192.0.2.1": what it prints. Raises SpecError in its words."""
        out, err = io.StringIO(), io.StringIO()
        if ip_run(words.split(), DirectTransport(self.rtnetlink), out, err):
            raise SpecError(" ".join(err.getvalue().split()) or "failed")
        return out.getvalue()


class Switch(Node):
    """A bridge with nothing above it; every port is one of the bridge's."""

    def __init__(self, network: Network, table: spec.Switch, number: int) -> None:
        super().__init__(network, table.name, number, table.mtu, table.ring)
        self.bridge: Bridge = self.stack.bridges.br_add_bridge("br0")
        self.bridge.fdb.set_ageing_time(duration(table.ageing))
        self.bridge.fdb.max_learned = table.stations
        self.stack.set_up(self.bridge)
        network.lab.add(self.stack)

    def add_port(self, name: str) -> E1000:
        dev = super().add_port(name)
        self.stack.bridges.set_master(dev, self.bridge)
        return dev


class Host(Node):
    """A stack with programs and services."""

    def __init__(self, network: Network, table: spec.Host, number: int) -> None:
        super().__init__(network, table.name, number, table.mtu, table.ring)
        self.table: spec.Host = table
        self.hosts: dict[str, str] = table.hosts  #: its own hosts file, which comes before the network's
        self.loop = Loop(self.stack)
        self.tasks: list[Task] = []  #: programs, those that have ended too
        self.clock = VirtualTime(network.lab, self.loop)
        for port in ports_of(table):
            self.add_port(port)

    # -- what the description says

    def configure(self) -> None:
        """Everything but cables and programs, in the order in which a system comes up. Raises SpecError."""
        where = f"host {self.name!r}"
        table = self.table
        settings: dict[str, str | int] = {"net.ipv4.ip_forward": 1} if table.forward else {}
        settings |= table.sysctl
        for name, value in settings.items():
            self._try(f"{where}: sysctl: {name} = {value}", self.stack.sysctl.set, name, str(value))
        for port, addresses in ports_of(table).items():
            for address in addresses:
                self._try(f"{where}: addr: {address}", self.stack.add_address, address, port)
        if table.gateway is not None:
            self._try(f"{where}: gateway: {table.gateway}", self.stack.add_gateway, table.gateway)
        for route in table.routes:
            said(f"{where}: routes: {route!r}", self.ip, f"route add {route}")
        for rule in table.rules:
            said(f"{where}: rules: {rule!r}", self.ip, f"rule add {rule}")
        for hook in table.hook:
            found = said(f"{where}: hook: function", load_function, hook.function)
            self.hook(hook.point, found, hook.priority)
        if table.serve:
            start_services(self.loop, table.serve)

    def start(self) -> None:
        """Have its programs begin when they are to. Raises SpecError."""
        for program in self.table.program:
            builtin = BUILT_IN.get(program.run)
            if builtin is None:
                function = said(f"host {self.name!r}: program: run", load_function, program.run)
                daemon = program.daemon or False
            else:
                function = builtin.function
                daemon = builtin.daemon if program.daemon is None else program.daemon
            name = program.run.rpartition(":")[2]
            self.run(function, *program.args, name=name, start=program.start, daemon=daemon)

    def _try(self, where: str, act: Callable[..., object], *args: object) -> None:
        try:
            act(*args)
        except OSError as reason:
            text = "there is no such setting" if reason.errno == errno.ENOENT else reason.strerror
            raise SpecError(f"{where}: {text}") from None

    def hook(self, point: str, function: Callable[..., int], priority: int = 0) -> None:
        """Ask ``function`` about every packet at ``point`` (netfilter/hooks.py). SpecError for no such point."""
        if point not in HOOK_POINTS:
            raise SpecError(f"unknown point {point!r}: there are {', '.join(HOOK_POINTS)}")
        self.stack.hooks.nf_register_hook(HOOK_POINTS.index(point), function, priority)

    # -- programs

    def run(
        self,
        function: Callable[..., Coroutine[Any, Any, object]] | str,
        *args: object,
        name: str = "",
        start: Quantity = 0,
        daemon: bool | None = None,
    ) -> Task:
        """Run ``function(host, *args)``, or the built-in program of that name, from ``start`` on.

        Raises SpecError for a name or arguments that do not do, before anything runs.
        """
        if isinstance(function, str):
            builtin = BUILT_IN.get(function)
            if builtin is None:
                raise SpecError(f"unknown program {function!r}: there are {', '.join(BUILT_IN)}")
            name, function = name or function, builtin.function
            daemon = builtin.daemon if daemon is None else daemon
        name = name or function.__name__
        where = f"host {self.name!r}: program {name!r}"
        if not inspect.iscoroutinefunction(function):
            raise SpecError(f"{where}: an 'async def' is wanted")
        try:
            inspect.signature(function).bind(self, *args)
        except TypeError as mistake:
            raise SpecError(f"{where}: {mistake}") from None
        task = Task(self, name, partial(function, self, *args), bool(daemon))
        self.tasks.append(task)
        self.network.begun(task)
        task.begin(said(where, duration, start))
        return task

    # -- what programs ask of their host

    @property
    def now_ns(self) -> int:
        """The laboratory's time, ns."""
        return int(self.network.lab.now)

    @property
    def now(self) -> float:
        """The same in seconds."""
        return self.now_ns / 1e9

    def print(self, *words: object) -> None:
        """A line for the laboratory's log."""
        task = self.network.current
        self.network.write(self.name, task.name if task is not None else "", " ".join(map(str, words)))

    async def sleep(self, seconds: float) -> None:
        await sleep(self, seconds)

    def resolve(self, name: str) -> str:
        """The address that ``name`` stands for: itself, or what a hosts file says. OSError as getaddrinfo's if none."""
        known = self.hosts.get(name) or self.network.hosts_file.get(name)
        if known is None and name == "localhost":
            known = LOCALHOST
        if known is not None:
            return known
        try:
            return addr_to_str(parse_address(name))
        except ValueError:
            raise OSError(errno.ENOENT, f"{name}: {UNKNOWN_NAME}") from None

    def socket(self, sock_type: int = SOCK_STREAM, protocol: int = 0, family: int = AF_INET) -> ProgramSocket:
        """For programs: what may wait is awaited. It is closed when the program ends."""
        self.stack.catch_up(self.now_ns)
        return ProgramSocket(self, self.stack.socket(family, sock_type, protocol))

    def sock(self, sock_type: int = SOCK_STREAM, protocol: int = 0, family: int = AF_INET) -> BlockingSocket:
        """For whoever holds the network: waiting is what lets time pass in it."""
        return BlockingSocket(Blocking(self.clock), self.open(sock_type, protocol, family))

    def open(self, sock_type: int = SOCK_STREAM, protocol: int = 0, family: int = AF_INET) -> InetSocket:
        """The stack's own socket, which never waits."""
        self.stack.catch_up(self.now_ns)
        return self.stack.socket(family, sock_type, protocol)

    def address(self) -> str:
        """Its first one, "" without any."""
        for dev in self.devices.values():
            for address in dev.addresses:
                return addr_to_str(int(address.local))
        return ""


def load_function(text: str) -> Callable[..., Any]:
    """``file.py:name``; the file is run anew each time, so that hosts share no variables. Raises ValueError."""
    file, _, name = text.rpartition(":")
    path = Path(file)
    found = importlib.util.spec_from_file_location(path.stem, path)
    if found is None or found.loader is None or not path.is_file():
        raise ValueError(f"{file}: no such Python file")
    module = importlib.util.module_from_spec(found)
    try:
        found.loader.exec_module(module)
    except Exception as mistake:
        raise ValueError(f"{file}: {type(mistake).__name__}: {mistake}") from None
    function = getattr(module, name, None)
    if not callable(function):
        raise ValueError(f"{file}: there is no function {name!r}")
    result: Callable[..., Any] = function
    return result
