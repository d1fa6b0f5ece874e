"""Forwarding between two links, with a small table and a large one: ustack's daemon on two TAPs, and the kernel.

host a ─ us0 ─ the router ─ us1 ─ host b, each in a namespace of its own

The same router is measured with one route and then, with its table filled, again: what differs is the table alone.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from benchlib.lab import Lab, Process, Unavailable, wait_until
from benchlib.measure import GRACE, LOAD, STARTING, Figures, Sample, ratios, run_load
from benchlib.prefixes import dotted, internet
from benchlib.report import Column, layout, summed_up
from benchlib.targets import SAFE_PATH, Running, Ustack, serve
from ustack.io.host import Host, Namespace, write_sysctl

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

NEAR_LINK, FAR_LINK = "us0", "us1"
NEAR, NEAR_ROUTER = "192.0.2.1", "192.0.2.2"
FAR, FAR_ROUTER = "198.51.100.1", "198.51.100.2"
NEAR_NETWORK, FAR_NETWORK = "192.0.2.0/24", "198.51.100.0/24"
#: Where the datagrams go: host b drops them.
SINK: Final = "203.0.113.0/24"
#: Bytes of data in a datagram: the smallest frames there are.
SMALL: Final = 18
#: Seconds for the largest table.
LOADING: Final = 300.0


@dataclass
class Crossing:
    """A router between two hosts."""

    near: Namespace
    far: Namespace
    processes: list[Process]
    #: Reads a file of ``ip route`` lines into the router's table.
    load: Callable[[Path], None]


class Router:
    """``name`` heads its rows."""

    def __init__(self, name: str) -> None:
        self.name = name

    def start(self, lab: Lab) -> Crossing:
        """With the links' own routes and forwarding on. Raises Unavailable."""
        raise NotImplementedError


class UstackRouter(Router):
    """``ustack up`` on two TAPs, by ``python``."""

    def __init__(self, python: str, form: str = "compiled", offload: bool = True) -> None:
        self.ustack = Ustack(form, python, offload)
        super().__init__(self.ustack.name)

    def start(self, lab: Lab) -> Crossing:
        self.ustack.check_form()
        near, far = lab.namespace(), lab.namespace()
        ustack = [self.ustack.python, SAFE_PATH, "-m", "ustack"]
        environment = {**self.ustack.environment(), "USTACK_CONTROL": str(lab.directory / "control.sock")}
        command = [*ustack, "up", "--foreground", "--dev", NEAR_LINK, "--dev", FAR_LINK]
        command += ["--addr", f"{NEAR_LINK}={NEAR_ROUTER}/24", "--addr", f"{FAR_LINK}={FAR_ROUTER}/24"]
        command += ["--sysctl", "net.ipv4.ip_forward=1", *([] if self.ustack.offload else ["--no-offload"])]
        process = lab.start(near, command, environment)
        wait_until(lambda: "up:" in process.output(), process, "did not start")
        with near, Host() as host:
            host.move_link(FAR_LINK, far)
        configure_hosts(near, far)

        def load(routes: Path) -> None:
            done = lab.start(near, [*ustack, "route", "load", str(routes)], environment)
            finish(done, "ustack route load")

        return Crossing(near, far, [process], load)


class KernelRouter(Router):
    """Linux between two veth pairs."""

    def __init__(self) -> None:
        super().__init__("kernel, veth")

    def start(self, lab: Lab) -> Crossing:
        near, router, far = lab.namespace(), lab.namespace(), lab.namespace()
        lab.join(near, router, NEAR_LINK, (f"{NEAR}/24", f"{NEAR_ROUTER}/24"))
        lab.join(router, far, FAR_LINK, (f"{FAR_ROUTER}/24", f"{FAR}/24"))
        with router:
            write_sysctl("net.ipv4.ip_forward", "1")
        configure_hosts(near, far, links=False)
        ip = shutil.which("ip", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
        if ip is None:
            raise Unavailable("ip is missing (Debian: iproute2)")

        def load(routes: Path) -> None:
            batch = routes.with_suffix(".batch")
            with routes.open() as lines, batch.open("w") as commands:
                commands.writelines(f"route replace {line}" for line in lines)
            finish(lab.start(router, [ip, "-batch", str(batch)]), "ip -batch")

        return Crossing(near, far, [], load)


def configure_hosts(near: Namespace, far: Namespace, links: bool = True) -> None:
    """Addresses and routes of both hosts; what comes for SINK ends at host b, unanswered."""
    ends = (
        (near, NEAR_LINK, NEAR, NEAR_ROUTER, (FAR_NETWORK, SINK)),
        (far, FAR_LINK, FAR, FAR_ROUTER, (NEAR_NETWORK,)),
    )
    for namespace, link, address, router, networks in ends:
        with namespace, Host() as host:
            if links:
                host.set_link(link, up=True)
                host.add_address(link, f"{address}/24")
            for network in networks:
                host.add_route(network, gateway=router)
    with far, Host() as host:
        host.add_blackhole(SINK)


def finish(process: Process, name: str) -> None:
    """Wait until it is done. Raises Unavailable."""
    try:
        process.child.wait(LOADING)
    except subprocess.TimeoutExpired:
        raise Unavailable(f"{name}: no end within {LOADING:.0f} s") from None
    if process.child.returncode != 0:
        raise Unavailable(f"{name}: {process.last_words()}")


@dataclass
class Row(Figures):
    """One router with one table."""

    name: str
    routes: int


COLUMNS: Final = (Column("packets_s", "packets/s"), Column("gbit_s", "TCP Gbit/s", 2))
#: What the flood sent, whoever forwards it.
OFFERED: Final = Column("offered_s", "offered/s")


def tables(directory: Path, routes: int) -> list[tuple[int, Path]]:
    """One route, then the many: files of ``ip route`` lines for both."""
    links = {NEAR_NETWORK, FAR_NETWORK, SINK}
    networks = [f"{dotted(network)}/{length}" for network, length in internet(routes)]
    one, many = directory / "one.txt", directory / "many.txt"
    one.write_text(f"{SINK} via {FAR}\n")
    many.write_text("".join([f"{network} via {FAR}\n" for network in networks if network not in links]))
    return [(1, one), (routes, many)]


def measure(routers: Iterable[Router], tables: list[tuple[int, Path]], rounds: int, secs: float,
            tell: Callable[[str], None]) -> list[Row]:  # fmt: skip
    """``tables``: how many routes, and the file that adds them to those before."""
    rows = {(router.name, size): Row(router.name, size) for router in routers for size, _ in tables}
    for number in range(1, rounds + 1):
        for router in routers:
            tell(f"round {number} of {rounds}: forwarding, {router.name}")
            with Lab() as lab:
                try:
                    crossing = router.start(lab)
                    with crossing.far:
                        serve(lab, crossing.far)
                    for size, file in tables:
                        crossing.load(file)
                        measure_once(lab, crossing, rows[router.name, size], secs)
                except (Unavailable, OSError) as reason:
                    rows[router.name, tables[0][0]].fail(str(reason))
    return list(rows.values())


def measure_once(lab: Lab, crossing: Crossing, row: Row, secs: float) -> None:
    running = Running(crossing.near, crossing.processes)
    ask(lab, running, ["wait", FAR, "--secs", str(STARTING)])
    before = received(crossing)
    flood = ask(lab, running, ["udp-flood", SINK.partition("/")[0], "--secs", str(secs), "--size", str(SMALL)])
    arrived = received(crossing) - before
    row.note("packets_s", arrived / float(flood["seconds"]))
    row.note("offered_s", float(flood["sent_s"]))
    bulk = ask(lab, running, ["tcp-send", FAR, "--secs", str(secs)])
    row.note("gbit_s", float(bulk["send_gbit_s"]))


def ask(lab: Lab, running: Running, arguments: list[str]) -> Sample:
    """Raises Unavailable."""
    sample = run_load(lab, running, [sys.executable, LOAD, *arguments], STARTING + GRACE)
    if "error" in sample:
        raise Unavailable(f"{arguments[0]}: {sample['error']}")
    return sample


def received(crossing: Crossing) -> int:
    """Frames that have come to host b."""
    with crossing.far, Host() as host:
        count: int = host.link(FAR_LINK)["stats"]["rx_packets"]
        return count


def text_of(rows: list[Row]) -> str:
    """Medians with smallest and largest, and how much of it the large table leaves."""
    columns = (*COLUMNS, OFFERED)
    lines = [["forwarding", "routes", *(found.head for found in columns)]]
    for row in rows:
        lines.append([row.name, f"{row.routes:,}", *(cell(row, found) for found in columns)])
        first = next(other for other in rows if other.name == row.name)
        if first is not row:
            shares = [share(row, first, found.figure) for found in COLUMNS]
            lines.append(["", "× of the first", *shares, ""])
    errors = [f"{row.name}: {error}" for row in rows for error in row.errors]
    return "\n".join([layout(lines), *errors])


def cell(row: Row, of: Column) -> str:
    return summed_up(row.figures.get(of.figure, []), of.digits)


def share(row: Row, first: Row, figure: str) -> str:
    """Median over the rounds of what the same router reached with the larger table, over the smaller one."""
    found = ratios(row.figures.get(figure, []), first.figures.get(figure, []))
    return f"{statistics.median(found):.3f}" if found else "-"
