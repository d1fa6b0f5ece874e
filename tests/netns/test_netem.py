"""Over a line that the kernel's own netem makes bad: what is lost, late, doubled or broken, and arrives all the same.

test's namespace, 192.0.2.1 near ── netem ── netem ── far 192.0.2.254, ``middle``, 198.51.100.1 us0 ── the stack, .2

The relay of test_relay.py is of our making; here both the line and the other end are somebody else's. Many kernels have
no sch_netem: then everything here is skipped.
"""

from __future__ import annotations

import json
import os
import re
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.netns.daemon import HOST, PATIENCE, SERVICES, RunningDaemon
from tests.netns.line import MIDDLE, ROUTER, STACK, STACK_NETWORK
from tests.netns.programs import need, output, pattern, program, settled, sha256, status_of
from tests.netns.test_ping import answered
from ustack.io.host import Host, Namespace, write_sysctl
from ustack.io.services import PATTERN

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.vm

#: Enough segments that none being lost is out of the question: 0.95 ** 274 is less than one in a million.
BULK: Final = 400_000
NEAR_MAC: Final = "02:00:00:00:00:01"
FAR_MAC: Final = "02:00:00:00:00:fe"
CURL: Final = ("curl", "-sS", "--fail", "--max-time", str(int(2 * PATIENCE)))


class BadLine:
    """Two veths, the middle that forwards, and what netem does to each way."""

    def __init__(self, middle: Namespace) -> None:
        self.middle = middle

    def netem(self, *words: str) -> None:
        """The same for both ways; words as tc has them."""
        output("tc", "qdisc", "replace", "dev", "near", "root", "netem", *words)
        with self.middle:
            output("tc", "qdisc", "replace", "dev", "far", "root", "netem", *words)

    def daemon(self, directory: Path) -> RunningDaemon:
        """A stack behind the middle: without offload, so that each segment is a frame that can be lost."""
        with self.middle:
            return RunningDaemon(
                directory, "--no-offload", "--serve", SERVICES, "--gateway", ROUTER,
                addr=f"{STACK}/24", host_addr=f"{ROUTER}/24",
            )  # fmt: skip


def plug(name: str, address: str, peer: str, peer_mac: str) -> None:
    """An end of the line, up; segments stay segments.

    It knows the other: three ARP requests that are lost would end a connection with EHOSTUNREACH, and with 5 % each way
    one in a thousand does.
    """
    output("ethtool", "-K", name, "tso", "off", "gso", "off", "gro", "off")
    with Host() as host:
        host.set_link("lo", up=True)
        host.add_address(name, f"{address}/24")
        host.set_link(name, up=True)
        host.add_neighbour(name, peer, peer_mac)


@pytest.fixture
def line(namespace: Namespace) -> Iterator[BadLine]:
    need("tc", "ethtool")
    status, text = program("tc", "qdisc", "add", "dev", "lo", "root", "netem", "delay", "1ms")
    if status != 0:
        pytest.skip(f"no netem in this kernel: {text.splitlines()[0]}")
    output("tc", "qdisc", "del", "dev", "lo", "root")
    near = ("link", "add", "near", "address", NEAR_MAC, "type", "veth")
    far = ("peer", "name", "far", "address", FAR_MAC, "netns")
    middle = Namespace.create()
    try:
        output("ip", *near, *far, f"/proc/{os.getpid()}/fd/{middle.fd}")
        plug("near", HOST, MIDDLE, FAR_MAC)
        with Host() as host:
            host.add_route(STACK_NETWORK, gateway=MIDDLE)
        with middle:
            write_sysctl("net.ipv6.conf.all.disable_ipv6", "1")
            write_sysctl("net.ipv4.ip_forward", "1")
            plug("far", MIDDLE, HOST, NEAR_MAC)
        yield BadLine(middle)
    finally:
        middle.close()


def counters(daemon: RunningDaemon) -> dict[str, int]:
    found: dict[str, int] = status_of(daemon)["counters"]
    return found


def send(daemon: RunningDaemon, file: Path) -> Any:
    """BULK bytes to the stack; what it says of them."""
    data = pattern(BULK)
    file.write_bytes(data)
    answer = json.loads(output(*CURL, "-T", str(file), f"http://{STACK}/body", seconds=3 * PATIENCE))
    assert answer == {"length": BULK, "sha256": sha256(data)}


def fetch(daemon: RunningDaemon, file: Path) -> None:
    """BULK bytes from the stack, whole."""
    output(*CURL, "-o", str(file), f"http://{STACK}/bytes/{BULK}", seconds=3 * PATIENCE)
    assert sha256(file.read_bytes()) == sha256((PATTERN * (BULK // len(PATTERN) + 1))[:BULK])


def test_a_long_way(line: BadLine, tmp_path: Path) -> None:
    """Nothing is lost, and nothing answers sooner than the line allows."""
    line.netem("delay", "30ms")
    with line.daemon(tmp_path):
        text = output("ping", "-n", "-c", "4", "-i", "0.1", "-s", "1400", STACK)
    assert answered(text) == (4, 4)
    found = re.search(r"= ([\d.]+)/", text)
    assert found is not None and float(found[1]) >= 60, text


def test_lost_requests_are_lost(line: BadLine, tmp_path: Path) -> None:
    """ICMP makes nothing good; what comes back is what was sent, once."""
    line.netem("loss", "20%")
    with line.daemon(tmp_path) as daemon:
        status, text = program(
            "ping", "-n", "-q", "-c", "150", "-i", "0.02", "-W", f"{PATIENCE / 20:g}", STACK, seconds=2 * PATIENCE
        )
        moved = counters(daemon)
    sent, received = answered(text)
    assert (status, sent) == (0, 150) and 0 < received < 150 and "wrong" not in text and "duplicates" not in text
    assert received <= moved["Icmp.OutEchoReps"] == moved["Icmp.InEchos"] < 150


def test_tcp_makes_loss_good_towards_the_stack(line: BadLine, tmp_path: Path) -> None:
    line.netem("loss", "5%", "delay", "5ms", "reorder", "10%", "duplicate", "3%")
    with line.daemon(tmp_path) as daemon:
        send(daemon, tmp_path / "data")
        moved = counters(daemon)
        assert settled(daemon) in ([], ["TIME-WAIT"])
    assert moved["TcpExt.TCPOFOQueue"] > 0, "behind a segment that is lost there are others"
    assert moved.get("Tcp.InCsumErrors", 0) == 0


def test_tcp_makes_loss_good_from_the_stack(line: BadLine, tmp_path: Path) -> None:
    line.netem("loss", "5%", "delay", "5ms", "reorder", "10%", "duplicate", "3%")
    with line.daemon(tmp_path) as daemon:
        fetch(daemon, tmp_path / "data")
        moved = counters(daemon)
    assert moved["Tcp.RetransSegs"] > 0 and moved.get("Tcp.InCsumErrors", 0) == 0


def test_what_is_broken_on_the_way_is_not_believed(line: BadLine, tmp_path: Path) -> None:
    """A bit of every twentieth frame is turned: its checksum tells, wherever it was."""
    line.netem("corrupt", "5%", "delay", "2ms")
    with line.daemon(tmp_path) as daemon:
        send(daemon, tmp_path / "up")
        moved = counters(daemon)
        fetch(daemon, tmp_path / "down")
    assert moved["Tcp.InCsumErrors"] > 0
    assert moved["Tcp.InErrs"] >= moved["Tcp.InCsumErrors"]
