"""What an administrator does to a neighbour: the kernel and ustack from every state, with every request, end alike."""

from __future__ import annotations

import itertools
import subprocess
from typing import TYPE_CHECKING, Final

import pytest
from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from ustack.device.net_device import IFF_BROADCAST, NetDevice
from ustack.neighbour.netlink import NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, NeighConfig, neigh_add, neigh_delete
from ustack.neighbour.states import (
    NUD_FAILED,
    NUD_INCOMPLETE,
    NUD_NOARP,
    NUD_NONE,
    NUD_PERMANENT,
    NUD_REACHABLE,
    NUD_STALE,
    NUD_VALID,
)
from ustack.neighbour.table import NO_LLADDR
from ustack.stack import Stack
from ustack.wire.ethernet import mac_to_str, str_to_mac
from ustack.wire.ipv4 import addr_to_str, str_to_addr

if TYPE_CHECKING:
    from ustack.io.host import Namespace

FIRST: Final = 0x02_00_00_00_00_01
SECOND: Final = 0x02_00_00_00_00_02
#: Those that no timer ends at once.
STATES: Final = (NUD_NONE, NUD_INCOMPLETE, NUD_REACHABLE, NUD_STALE, NUD_FAILED, NUD_NOARP, NUD_PERMANENT)
VERBS: Final = {
    "add": NLM_F_CREATE | NLM_F_EXCL,
    "change": NLM_F_REPLACE,
    "replace": NLM_F_CREATE | NLM_F_REPLACE,
    "append": NLM_F_CREATE,
}

#: Scenarios between two dumps.
CHUNK: Final = 60

#: errno, or 0; then the state and the address, or None if there is no entry.
Outcome = tuple[int, int | None, str | None]
Step = tuple[str, int, int | None]


def scenarios() -> list[tuple[Step, ...]]:
    """Every request alone, and every request after every other that makes an entry."""
    requests = list(itertools.product(VERBS, STATES, (None, FIRST, SECOND)))
    first = [("replace", state, FIRST if state & NUD_VALID else None) for state in STATES]
    return [(step,) for step in requests] + [
        (before, after) for before in first for after in [*requests, ("del", 0, None)]
    ]


class Kernel:
    def __init__(self, route: IPRoute, index: int) -> None:
        self.route = route
        self.index = index

    def do(self, address: str, step: Step) -> int:
        verb, state, mac = step
        attributes = {"dst": address, "ifindex": self.index}
        if verb != "del":
            attributes["state"] = state
            if mac is not None:
                attributes["lladdr"] = mac_to_str(mac)
        try:
            self.route.neigh(verb, **attributes)
        except NetlinkError as refusal:
            return int(refusal.code)
        return 0

    def entries(self) -> dict[str, tuple[int, str | None]]:
        found = {}
        for message in self.route.get_neighbours(ifindex=self.index, family=2):
            state = message["state"]
            found[message.get_attr("NDA_DST")] = (state, message.get_attr("NDA_LLADDR") if state & NUD_VALID else None)
        return found


class Port(NetDevice):
    """The messages alone matter: nothing is sent."""


class Ustack:
    def __init__(self) -> None:
        self.stack = Stack(bytes(32))
        self.dev = Port("k0", FIRST)
        self.dev.flags = IFF_BROADCAST
        self.stack.add_device(self.dev)
        self.stack.net.sysctl.gc_thresh1 = self.stack.net.sysctl.gc_thresh2 = self.stack.net.sysctl.gc_thresh3 = 100_000

    def do(self, address: str, step: Step) -> int:
        verb, state, mac = step
        table, addr = self.stack.neighbours, str_to_addr(address)
        try:
            if verb == "del":
                neigh_delete(table, addr, self.dev)
            else:
                lladdr = NO_LLADDR if mac is None else mac
                neigh_add(table, NeighConfig(addr, self.dev, lladdr, state), VERBS[verb])
        except OSError as refusal:
            return refusal.errno or 0
        return 0

    def entries(self) -> dict[str, tuple[int, str | None]]:
        found: dict[str, tuple[int, str | None]] = {}
        for entry in self.stack.neighbours.entries():
            valid = entry.nud_state & NUD_VALID != 0
            found[addr_to_str(entry.addr)] = (int(entry.nud_state), mac_to_str(entry.lladdr) if valid else None)
        return found


def outcomes(side: Kernel | Ustack) -> list[Outcome]:
    """Each scenario of a chunk with an address of its own, so that one dump tells of all.

    Chunks are small, for the kernel forgets entries by itself where there are more than gc_thresh1, 128.
    """
    told: list[Outcome] = []
    remaining = scenarios()
    while remaining:
        chunk, remaining = remaining[:CHUNK], remaining[CHUNK:]
        codes = [[side.do(address_of(number), step) for step in steps][-1] for number, steps in enumerate(chunk)]
        entries = side.entries()
        told += [(code, *entries.get(address_of(number), (None, None))) for number, code in enumerate(codes)]
        for address in entries:
            side.do(address, ("del", 0, None))
    return told


def address_of(number: int) -> str:
    return f"192.0.2.{1 + number}"


@pytest.fixture
def kernel(namespace: Namespace) -> Kernel:
    for command in ("link add k0 type veth peer name p0", "link set k0 up", "link set p0 up"):
        subprocess.run(["ip", *command.split()], check=True, timeout=10)
    route = IPRoute()
    return Kernel(route, route.link_lookup(ifname="k0")[0])


def test_every_request_from_every_state(kernel: Kernel) -> None:
    theirs, ours = outcomes(kernel), outcomes(Ustack())
    kernel.route.close()
    assert len(theirs) > 600
    different = []
    for steps, wanted, got in zip(scenarios(), theirs, ours, strict=True):
        if wanted[0] != 0 and len(steps) == 1 and wanted[1] == NUD_NONE:
            wanted = (wanted[0], None, None)  # Linux leaves an entry behind that it has refused to make
        if wanted != got:
            different.append(f"{steps}: the kernel {wanted}, ustack {got}")
    assert different == []


def test_addresses_are_spoken_alike() -> None:
    assert mac_to_str(str_to_mac("02:00:00:00:00:01")) == mac_to_str(FIRST)
