"""curl against the daemon's HTTP service: big bodies, many at once, thousands one after the other."""

from __future__ import annotations

import json
import socket
import struct
from collections import Counter
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.netns.daemon import PATIENCE, SERVICES, STACK, RunningDaemon
from tests.netns.programs import MEGABYTE, bulk, output, pattern, program, resident, settled, sha256, status_of
from ustack.io.services import PATTERN

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ustack.io.host import Namespace

URL: Final = f"http://{STACK}"
CURL: Final = ("curl", "-sS", "--fail", "--max-time", "50")
SECONDS: Final = 55.0


@pytest.fixture(params=[(), ("--no-offload",)], ids=["offload", "plain"])
def daemon(namespace: Namespace, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[RunningDaemon]:
    with RunningDaemon(tmp_path, "--serve", SERVICES, *request.param) as running:
        yield running


def lost(status: dict[str, Any]) -> dict[str, int]:
    """The counters that moved though nobody loses or breaks anything."""
    suspects = "Tcp.InErrs Tcp.InCsumErrors Tcp.AttemptFails Ip.InHdrErrors Ip.InDiscards Ip.OutDiscards".split()
    found = {name: status["counters"][name] for name in suspects if name in status["counters"]}
    stats = next(dev["stats"] for dev in status["devices"] if dev["name"] == "us0")
    return found | {name: stats[name] for name in ("rx_errors", "tx_errors", "tx_dropped") if stats[name]}


@pytest.mark.vm
def test_the_page(daemon: RunningDaemon) -> None:
    text = output(*CURL, "-i", f"{URL}/")
    assert text.startswith("HTTP/1.1 200 OK") and "<h1>ustack</h1>" in text
    status, text = program(*CURL, f"{URL}/nothing")
    assert status == 22 and "404" in text


@pytest.mark.heavy
def test_a_big_body_down(daemon: RunningDaemon, tmp_path: Path) -> None:
    file, size = tmp_path / "body", bulk(daemon)
    output(*CURL, "-o", str(file), f"{URL}/bytes/{size}", seconds=SECONDS)
    got = file.read_bytes()
    file.unlink()
    expected = (PATTERN * (size // len(PATTERN) + 1))[:size]
    assert (len(got), sha256(got)) == (size, sha256(expected))
    assert lost(status_of(daemon)) == {}


@pytest.mark.heavy
def test_a_big_body_up(daemon: RunningDaemon, tmp_path: Path) -> None:
    file = tmp_path / "body"
    data = pattern(bulk(daemon))
    file.write_bytes(data)
    answer = json.loads(output(*CURL, "-T", str(file), f"{URL}/body", seconds=SECONDS))
    file.unlink()
    assert answer == {"length": len(data), "sha256": sha256(data)}
    assert lost(status_of(daemon)) == {}


@pytest.mark.heavy
def test_both_ways_at_once(daemon: RunningDaemon, tmp_path: Path) -> None:
    """Four connections, two in each direction, for which there is one link."""
    size = 20 * MEGABYTE
    data = pattern(size)
    (tmp_path / "up").write_bytes(data)
    up = ("-T", str(tmp_path / "up"), f"{URL}/body")
    down = (f"{URL}/bytes/{size}", "-o")
    names = [str(tmp_path / name) for name in ("a", "b", "c", "d")]
    output(*CURL, "-Z", *up, "-o", names[0], "--next", *CURL[1:], *up, "-o", names[1],
           "--next", *CURL[1:], *down, names[2], "--next", *CURL[1:], *down, names[3], seconds=SECONDS)  # fmt: skip
    bodies = [(tmp_path / name).read_bytes() for name in ("a", "b", "c", "d")]
    assert [json.loads(body)["sha256"] for body in bodies[:2]] == [sha256(data)] * 2
    assert [len(body) for body in bodies[2:]] == [size] * 2 and bodies[2] == bodies[3]


@pytest.mark.heavy
def test_a_hundred_at_once(daemon: RunningDaemon) -> None:
    """A hundred processes, each with a connection and a body of its own length."""
    script = (
        f"for n in $(seq 100); do {' '.join(CURL)} -o /dev/null -w '%{{http_code}} %{{size_download}}\\n'"
        f" {URL}/bytes/$((n * 1000)) & done; wait"
    )
    lines = output("sh", "-c", script, seconds=SECONDS).splitlines()
    assert sorted(lines) == sorted(f"200 {n * 1000}" for n in range(1, 101))
    assert lost(status_of(daemon)) == {}
    assert settled(daemon) == [], "the clients closed first, the server keeps nothing"


def get(close: str, port: int) -> bytes:
    """One connection of its own, from ``port``; ``close`` says who ends it."""
    with socket.create_connection((STACK, 80), PATIENCE, ("", port)) as sock:
        sock.sendall(f"GET /bytes/300 HTTP/1.1\r\nHost: {STACK}\r\nConnection: {close}\r\n\r\n".encode())
        data = b""
        while len(data.partition(b"\r\n\r\n")[2]) < 300:
            data += sock.recv(65_536)
        while close == "close" and (piece := sock.recv(65_536)):
            data += piece
        if close == "abort":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return data.partition(b"\r\n\r\n")[2]


@pytest.mark.heavy
@pytest.mark.parametrize("close", ["close", "keep-alive", "abort"])
def test_two_thousand_one_after_the_other(namespace: Namespace, tmp_path: Path, close: str) -> None:
    """Nothing is left of them but TIME_WAIT, and that only where we closed first; memory stays where it was."""
    expected = PATTERN[:300]
    with RunningDaemon(tmp_path, "--serve", SERVICES) as daemon:
        # the kernel's own choice may come back to a port within ten seconds, and reopens what waits there
        ports = iter(range(10_000, 12_200))
        for port in islice(ports, 200):
            assert get(close, port) == expected
        before, quiet = resident(daemon.process.pid), status_of(daemon)
        for port in ports:
            assert get(close, port) == expected
        after = resident(daemon.process.pid)
        states, status = Counter(settled(daemon)), status_of(daemon)
    waiting = 2200 if close == "close" else 0
    assert states == ({"TIME-WAIT": waiting} if waiting else {})
    # a TIME_WAIT entry may cost something, though less than an idle connection
    grown = after - before
    assert grown < 2 * MEGABYTE + (2000 * 4096 if waiting else 0), f"{grown / 2000:.0f} bytes for each connection"
    listeners = [entry for entry in status["sockets"] if entry["state"] == "LISTEN"]
    assert listeners == [entry for entry in quiet["sockets"] if entry["state"] == "LISTEN"]
    assert {entry["recv_queue"] for entry in listeners} == {0}
    assert status["counters"]["Tcp.PassiveOpens"] == 2200
    assert lost(status) == {}
