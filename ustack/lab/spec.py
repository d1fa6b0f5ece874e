"""A laboratory as text: hosts, switches, cables, and what runs on them, in TOML.

    [hosts]                          # what names mean, as in /etc/hosts
    b = "192.0.2.2"

    [[host]]
    name = "a"
    addr = "192.0.2.1/24"            # of eth0; { eth0 = "…", eth1 = "…" } with more ports than one
    gateway = "192.0.2.254"
    routes = ["198.51.100.0/24 via 192.0.2.253"]     # in the words of `ip route add`
    rules = ["from 192.0.2.1 table 100"]             # in those of `ip rule add`
    sysctl = { "net.ipv4.ip_default_ttl" = 32 }
    forward = true                   # a router
    serve = ["echo", "http"]

      [[host.program]]
      run = "udp-send"               # one that is built in, or "file.py:function"
      args = ["b", 4747, "muffin"]
      start = "10ms"

      [[host.hook]]
      point = "FORWARD"
      function = "file.py:function"

    [[switch]]
    name = "sw"
    ageing = "300s"

    [[cable]]
    ends = ["a", "sw"]               # or "a:eth1"
    delay = "5ms"
    loss = "1%"
    back = { delay = "20ms" }        # from the second end to the first, where that is different

    [[tap]]                          # in real time: the kernel at the other end
    name = "us0"
    end = "sw"
    host-addr = "192.0.2.100/24"

Every mistake is a SpecError: one line that says which key of what is wrong, and why.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec

from ustack.device.bridge_fdb import FDB_MAX_LEARNED
from ustack.device.cable import Impairments
from ustack.device.net_device import dev_valid_name
from ustack.device.ring import RING_MAX, RING_MIN
from ustack.io.config import MTU_MAX, MTU_MIN, SERVICES, parse_address, parse_cidr
from ustack.lab.programs import BUILT_IN
from ustack.lab.units import Quantity, duration, rate, share, size

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

T = TypeVar("T")

#: Names of hosts and switches; a colon begins a port.
NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,62}\Z")
HOOK_POINTS: Final = ("PRE_ROUTING", "LOCAL_IN", "FORWARD", "LOCAL_OUT", "POST_ROUTING")
PRIORITY_MAX: Final = 0x7FFF_FFFF
#: When virtual time ends at the latest, unless told otherwise: a program that waits for what never comes would go on.
UNTIL: Final = "60s"


class SpecError(ValueError):
    """One line that says which key is wrong and why."""


class Table(msgspec.Struct, forbid_unknown_fields=True, rename="kebab", omit_defaults=True, kw_only=True):
    """One table of the description."""


class Lane(Table):
    """What a cable does to frames in one direction; the words are those of tc-netem(8). None: as in the other."""

    delay: Quantity | None = None
    jitter: Quantity | None = None
    loss: Quantity | None = None
    duplicate: Quantity | None = None
    reorder: Quantity | None = None
    reorder_delay: Quantity | None = None
    corrupt: Quantity | None = None
    rate: Quantity | None = None
    limit: Quantity | None = None


class Cable(Lane, kw_only=True):
    """From the first of ``ends`` to the second; ``back`` says what is different the other way."""

    ends: list[str]
    back: Lane | None = None
    seed: int | None = None  #: from the laboratory's, unless given
    flow_control: bool = True  #: pause frames while a ring is full (IEEE 802.3x); without, what finds no room is lost
    super_segments: bool = (
        True  #: what TSO leaves uncut crosses as one frame; without, every frame has a fate of its own
    )


class Hook(Table):
    point: str
    function: str
    priority: int = 0


class Program(Table):
    run: str
    args: list[str | int | float | bool] = []
    start: Quantity = 0
    daemon: bool | None = None  #: nobody waits for its end; None: as the built-in program has it


class Node(Table, kw_only=True):
    """A host or a switch."""

    name: str
    mtu: int = 1500
    ring: int = RING_MIN  #: descriptors of each ring


class Host(Node, kw_only=True):
    addr: str | list[str] | dict[str, str | list[str]] = []
    gateway: str | None = None
    routes: list[str] = []
    rules: list[str] = []
    sysctl: dict[str, str | int] = {}
    forward: bool = False
    hosts: dict[str, str] = {}
    serve: list[str] = []
    hook: list[Hook] = []
    program: list[Program] = []


class Switch(Node, kw_only=True):
    ageing: Quantity = "300s"
    stations: int = FDB_MAX_LEARNED  #: that it can learn


class Tap(Table):
    """A port with the kernel at the other end, through a TAP device called ``name``."""

    name: str
    end: str
    host_addr: str | None = None
    offload: bool = True


class Spec(Table):
    title: str = ""
    seed: int = 0
    until: Quantity = UNTIL
    allow_loops: bool = False  #: of switches: without a spanning tree broadcasts go round in them for ever
    hosts: dict[str, str] = {}
    host: list[Host] = []
    switch: list[Switch] = []
    cable: list[Cable] = []
    tap: list[Tap] = []

    def check(self) -> None:
        """Raises SpecError for the first thing that cannot be, whatever order the tables are in."""
        said("until", duration, self.until)
        check_hosts("hosts", self.hosts)
        nodes: dict[str, str] = {}
        everything: list[Host | Switch] = [*self.host, *self.switch]
        for node in everything:
            kind = "host" if isinstance(node, Host) else "switch"
            if node.name in nodes:
                raise SpecError(f"{kind} {node.name!r}: name: there is a {nodes[node.name]} of that name already")
            nodes[node.name] = kind
            check_host(node) if isinstance(node, Host) else check_switch(node)
        ports: dict[str, str] = {}
        for number, cable in enumerate(self.cable, 1):
            where = f"cable {number} ({' - '.join(cable.ends)})"
            check_cable(where, cable)
            for end in cable.ends:
                check_end(f"{where}: ends", end, nodes, ports)
        for tap in self.tap:
            check_tap(tap)
            check_end(f"tap {tap.name!r}: end", tap.end, nodes, ports)
        if not self.allow_loops:
            check_loops(self)


# -- one thing at a time


def said(where: str, read: Callable[[Any], T], value: object) -> T:
    """What ``read`` makes of ``value``; its complaint with ``where`` before it."""
    try:
        return read(value)
    except ValueError as mistake:
        raise SpecError(f"{where}: {mistake}") from None


def check_name(where: str, name: str) -> None:
    if NAME.match(name) is None:
        raise SpecError(f"{where} {name!r}: name: letters, digits, '_', '-' and '.' are possible, 63 at most")


def check_hosts(where: str, hosts: dict[str, str]) -> None:
    for name, address in hosts.items():
        said(f"{where}: {name}", parse_address, address)


def check_range(where: str, value: int, least: int, most: int, what: str = "") -> None:
    if not least <= value <= most:
        raise SpecError(f"{where}: {least} to {most}{what} are possible, not {value}")


def check_host(host: Host) -> None:
    check_name("host", host.name)
    where = f"host {host.name!r}"
    for port, addresses in ports_of(host).items():
        check_port(f"{where}: addr", port)
        for address in addresses:
            said(f"{where}: addr", parse_cidr, address)
    if host.gateway is not None:
        said(f"{where}: gateway", parse_address, host.gateway)
    check_hosts(f"{where}: hosts", host.hosts)
    for service in host.serve:
        if service not in SERVICES:
            raise SpecError(f"{where}: serve: unknown service {service!r}: there are {', '.join(SERVICES)}")
    check_device(where, host)
    for hook in host.hook:
        check_hook(f"{where}: hook", hook)
    for program in host.program:
        check_program(f"{where}: program", program)


def check_switch(switch: Switch) -> None:
    check_name("switch", switch.name)
    where = f"switch {switch.name!r}"
    said(f"{where}: ageing", duration, switch.ageing)
    check_range(f"{where}: stations", switch.stations, 1, 1 << 20)
    check_device(where, switch)


def check_device(where: str, node: Node) -> None:
    check_range(f"{where}: mtu", node.mtu, MTU_MIN, MTU_MAX, " bytes")
    check_range(f"{where}: ring", node.ring, RING_MIN, RING_MAX, " descriptors")
    if node.ring & (node.ring - 1):
        raise SpecError(f"{where}: ring: a power of two is wanted, not {node.ring}")


def ports_of(host: Host) -> dict[str, list[str]]:
    """The addresses of each port that the description names."""
    if not isinstance(host.addr, dict):
        return {"eth0": [host.addr] if isinstance(host.addr, str) else host.addr} if host.addr else {}
    return {port: [each] if isinstance(each, str) else each for port, each in host.addr.items()}


def check_port(where: str, port: str) -> None:
    if not dev_valid_name(port) or port == "lo":
        raise SpecError(f"{where}: bad port {port!r}: 1 to 15 bytes without '/', ':' and spaces are possible")


def check_hook(where: str, hook: Hook) -> None:
    if hook.point not in HOOK_POINTS:
        raise SpecError(f"{where}: point: unknown point {hook.point!r}: there are {', '.join(HOOK_POINTS)}")
    check_function(f"{where}: function", hook.function)
    check_range(f"{where}: priority", hook.priority, -PRIORITY_MAX - 1, PRIORITY_MAX)


def check_program(where: str, program: Program) -> None:
    said(f"{where}: start", duration, program.start)
    if ":" in program.run:
        check_function(f"{where}: run", program.run)
    elif program.run not in BUILT_IN:
        known = ", ".join(BUILT_IN)
        raise SpecError(f"{where}: run: unknown program {program.run!r}: there are {known}, and 'file.py:function'")


def check_function(where: str, text: str) -> None:
    file, _, name = text.rpartition(":")
    if not file or not name.isidentifier():
        raise SpecError(f"{where}: bad function {text!r}: 'file.py:name' is wanted")


def check_cable(where: str, cable: Cable) -> None:
    if len(cable.ends) != 2:
        raise SpecError(f"{where}: ends: a cable has two, not {len(cable.ends)}")
    impairments(where, cable, None)
    impairments(f"{where}: back", cable, cable.back)


def check_end(where: str, end: str, nodes: dict[str, str], ports: dict[str, str]) -> None:
    """``ports`` has those that are taken, and by what."""
    name, colon, port = end.partition(":")
    if name not in nodes:
        raise SpecError(f"{where}: there is no host or switch {name!r}")
    if colon:
        check_port(where, port)
        if end in ports:
            raise SpecError(f"{where}: {end!r} is taken by {ports[end]}")
        ports[end] = where.rpartition(":")[0]


def check_tap(tap: Tap) -> None:
    where = f"tap {tap.name!r}"
    if not dev_valid_name(tap.name):
        raise SpecError(f"{where}: name: 1 to 15 bytes without '/', ':' and spaces are possible")
    if tap.host_addr is not None:
        said(f"{where}: host-addr", parse_cidr, tap.host_addr)


LOOP: Final = (
    "a loop of switches, and they have no spanning tree: broadcasts would never end (allow-loops = true allows it)"
)


class Trees:
    """Switches, as far as cables join them."""

    def __init__(self) -> None:
        self._parent: dict[str, str] = {}

    def join(self, a: str, b: str) -> bool:
        """A cable between two; False if they were joined already, which makes it a loop."""
        a, b = self._root(a), self._root(b)
        self._parent[a] = b
        return a != b

    def _root(self, name: str) -> str:
        while (parent := self._parent.get(name, name)) != name:
            name = parent
        return name


def check_loops(spec: Spec) -> None:
    """Cables between switches must not make a circle."""
    switches = {switch.name for switch in spec.switch}
    trees = Trees()
    for number, cable in enumerate(spec.cable, 1):
        a, b = (end.partition(":")[0] for end in cable.ends)
        if a in switches and b in switches and not trees.join(a, b):
            raise SpecError(f"cable {number} ({' - '.join(cable.ends)}): ends: {LOOP}")


# -- impairments

_READERS: Final[dict[str, Callable[[Quantity], float]]] = {
    "delay": duration, "jitter": duration, "loss": share, "duplicate": share, "reorder": share,
    "reorder_delay": duration, "corrupt": share, "rate": rate, "limit": size,
}  # fmt: skip


def impairments(where: str, lane: Lane, other: Lane | None) -> Impairments:
    """What the cable does one way: as ``lane`` says, but for what ``other`` says. Raises SpecError."""
    values: dict[str, Any] = {}
    for name, read in _READERS.items():
        value = getattr(lane, name) if other is None or getattr(other, name) is None else getattr(other, name)
        if value is not None:
            values[name] = said(f"{where}: {name.replace('_', '-')}", read, value)
    return said(where, lambda known: Impairments(**known), values)


# -- from outside


def load(path: Path) -> Spec:
    """The file as a Spec, checked. Raises SpecError for what is in it, OSError where it cannot be read.

    Files that it names lie beside it.
    """
    spec = parse(path.read_bytes(), str(path))
    for table, key in functions(spec):
        text: str = getattr(table, key)
        file, _, name = text.rpartition(":")
        if file:
            setattr(table, key, f"{path.parent / file}:{name}")
    return spec


def functions(spec: Spec) -> Iterator[tuple[Table, str]]:
    """Every table that names a function of the user's, and the key it does so by."""
    for host in spec.host:
        for program in host.program:
            yield program, "run"
        for hook in host.hook:
            yield hook, "function"


def parse(text: bytes, name: str = "") -> Spec:
    """TOML to a checked Spec; ``name`` is what errors call the file. Raises SpecError."""
    try:
        spec = msgspec.toml.decode(text, type=Spec)
        spec.check()
    except (msgspec.MsgspecError, ValueError) as mistake:
        raise SpecError(f"{name}: {say(str(mistake))}" if name else say(str(mistake))) from None
    return spec


def convert(kind: type[T], settings: dict[str, Any]) -> T:
    """A table from a program's words, checked as if it were text. Raises SpecError."""
    named = {key.replace("_", "-"): value for key, value in settings.items() if value is not None}
    try:
        return msgspec.convert(named, kind)
    except msgspec.ValidationError as mistake:
        raise SpecError(say(str(mistake))) from None


def say(text: str) -> str:
    """msgspec's words as this file's: "Expected `int`, got `str` - at `$.host[0].mtu`" is "host 1: mtu: expected …"."""
    what, at, path = text.partition(" - at `$")
    what = what.replace("Object contains unknown field", "unknown key").replace("Object missing required field", "no")
    what = what.replace("`", "'") if not at else what[:1].lower() + what[1:].replace("`", "'")
    if not at:
        return what
    steps = re.findall(r"\.([\w-]+)|\[(\d+)\]|\[\.\.\.\]", path)
    place = ""
    for key, index in steps:
        place += f": {key}" if key else f" {int(index) + 1}" if index else ""
    return f"{place.removeprefix(': ')}: {what}" if place else what
