"""What both sides are given: devices, and commands in iproute2's words."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, NamedTuple

#: With it the choice among several hops hangs on no secret.
HASH_SEED: Final = "net.ipv4.fib_multipath_hash_seed"


class Device(NamedTuple):
    """An Ethernet device; its other end, ``peer``, lies outside and gives it its carrier."""

    name: str
    ifindex: int
    mac: int

    @property
    def peer(self) -> str:
        return "p" + self.name[1:]

    @property
    def mac_text(self) -> str:
        return ":".join(f"{octet:02x}" for octet in self.mac.to_bytes(6, "big"))


@dataclass
class World:
    """``commands``: what ``ip`` is given, and beside that ``sysctl NAME=VALUE`` and ``carrier DEV on|off``.

    Devices start up and with carrier; lo is up, and has 127.0.0.1/8.
    """

    seed: int
    devices: list[Device]
    commands: list[str] = field(default_factory=list)

    def script(self, commands: list[str] | None = None) -> str:
        """A shell script that builds it by hand: ``in`` a namespace of that name, the other ends in ``out``."""
        lines = ["ip netns add in; ip netns add out", "ip -n in link set lo up"]
        for dev in self.devices:
            lines.append(
                f"ip -n in link add {dev.name} index {dev.ifindex} address {dev.mac_text} type veth"
                f" peer name {dev.peer} netns out"
            )
            lines.append(f"ip -n out link set {dev.peer} up; ip -n in link set {dev.name} up")
        lines.extend(self.shell(command) for command in (self.commands if commands is None else commands))
        return "\n".join(lines)

    @staticmethod
    def shell(command: str) -> str:
        """One command as it is typed."""
        first, _, rest = command.partition(" ")
        if first == "sysctl":
            return f"ip netns exec in sysctl -qw {rest}"
        if first == "carrier":
            name, state = rest.split()
            return f"ip -n out link set p{name[1:]} {'up' if state == 'on' else 'down'}"
        return f"ip -n in {command}"


class Query(NamedTuple):
    """What is asked of the routing tables (RTM_GETROUTE); 0 is what was not said, but for ``uid``: -1."""

    dst: int
    src: int = 0
    iif: int = 0
    oif: int = 0
    mark: int = 0
    tos: int = 0
    ipproto: int = 0
    sport: int = 0
    dport: int = 0
    uid: int = -1
    fibmatch: bool = False


class Answer(NamedTuple):
    """What came back. With ``error`` (an errno) there is nothing else.

    ``metrics``: (RTAX_*, value); ``hops``: (ifindex, gateway, weight, flags) of a route with several; ``flags`` with
    RTM_F_* and RTNH_F_*.
    """

    error: int = 0
    rtype: int = 0
    table: int = 0
    scope: int = 0
    tos: int = 0
    protocol: int = 0
    flags: int = 0
    dst: int = 0
    dst_len: int = 0
    src: int = 0
    oif: int = 0
    gateway: int = 0
    prefsrc: int = 0
    iif: int = 0
    mark: int = 0
    uid: int = -1
    priority: int = 0
    nhid: int = 0
    metrics: tuple[tuple[int, int | str], ...] = ()
    hops: tuple[tuple[int, int, int, int], ...] = ()


def addr_text(addr: int) -> str:
    return f"{addr >> 24 & 255}.{addr >> 16 & 255}.{addr >> 8 & 255}.{addr & 255}"


def addr_number(text: str) -> int:
    a, b, c, d = (int(part) for part in text.split("."))
    return a << 24 | b << 16 | c << 8 | d
