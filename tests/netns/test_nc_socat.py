"""netcat and socat against the daemon's services, and against the stack's own nc, in both directions."""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.netns.daemon import HOST, PATIENCE, SERVICES, STACK, RunningDaemon, run_ustack
from tests.netns.programs import (
    MEGABYTE,
    Server,
    background,
    environment,
    need,
    output,
    pattern,
    program,
    settled,
    sha256,
    ustack_command,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ustack.io.host import Namespace


@pytest.fixture(params=[(), ("--no-offload",)], ids=["offload", "plain"])
def daemon(namespace: Namespace, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[RunningDaemon]:
    with RunningDaemon(tmp_path, "--serve", SERVICES, *request.param) as running:
        yield running


def through(*command: str, data: bytes) -> bytes:
    """What a program answers on stdout to ``data`` on stdin, both at once."""
    if command[0] == "ustack":
        command = ustack_command(*command[1:])
    else:
        need(command[0])
    done = subprocess.run(command, input=data, capture_output=True, timeout=PATIENCE, check=False, env=environment())
    assert done.returncode == 0, done.stderr
    return done.stdout


# -- into the stack


@pytest.mark.vm
def test_netcat_talks_to_echo(daemon: RunningDaemon) -> None:
    assert through("nc", "-N", STACK, "7", data=b"hello, muffin\n") == b"hello, muffin\n"
    data = pattern(5 * MEGABYTE)
    assert sha256(through("nc", "-N", STACK, "7", data=data)) == sha256(data)


def test_socat_talks_to_echo(daemon: RunningDaemon) -> None:
    assert through("socat", "-t5", "-", f"TCP4:{STACK}:7", data=b"") == b""
    data = pattern(5 * MEGABYTE)
    assert sha256(through("socat", "-t5", "-", f"TCP4:{STACK}:7", data=data)) == sha256(data)


def test_discard_takes_and_chargen_gives(daemon: RunningDaemon) -> None:
    """RFC 864: lines of 72 characters, each beginning one further in the ring of the printable ones."""
    assert through("nc", "-N", STACK, "9", data=pattern(5 * MEGABYTE)) == b""
    with background("nc", "-d", STACK, "19") as nc:
        assert nc.stdout is not None
        lines = nc.stdout.read(2 * MEGABYTE).split(b"\r\n")[:-1]
    ring = bytes(range(0x20, 0x7F)) * 2
    assert all(line == ring[at % 95 : at % 95 + 72] for at, line in enumerate(lines))


def test_datagrams_are_echoed(daemon: RunningDaemon) -> None:
    assert through("nc", "-u", "-W", "1", STACK, "7", data=b"datagram") == b"datagram"
    for size in (1, 1472, 1473, 8000, 65_507):
        data = pattern(size)
        # -b: one datagram, not several; -t: how long the answer may take
        echoed = through("socat", "-b65536", "-t0.3", "-", f"UDP4:{STACK}:7,sndbuf=300000,rcvbuf=300000", data=data)
        assert sha256(echoed) == sha256(data), size


@pytest.mark.vm
def test_a_closed_port_refuses(daemon: RunningDaemon) -> None:
    status, text = program("nc", "-v", "-w", "5", STACK, "4747")
    assert status == 1 and "refused" in text
    _, text = program("nc", "-z", "-v", "-n", STACK, "5-10")
    assert sorted(re.findall(r"(\d+) port .*succeeded", text)) == ["7", "9"], text
    status, text = program("socat", "-t3", "-", f"UDP4:{STACK}:4747", stdin=b"anybody?")
    assert status == 1 and "refused" in text, "port unreachable reaches the kernel's socket"


def test_the_daemon_keeps_nothing(daemon: RunningDaemon) -> None:
    """The client closed first and waits; the server, having closed last, forgets (RFC 9293 3.6)."""
    for _ in range(5):
        assert through("nc", "-N", STACK, "7", data=b"x") == b"x"
    assert settled(daemon) == []


# -- out of the stack


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A file to send."""
    path = tmp_path / "data"
    path.write_bytes(pattern(5 * MEGABYTE))
    return path


@pytest.mark.vm
def test_our_nc_sends_to_netcat(daemon: RunningDaemon, data: Path) -> None:
    with (
        data.open("rb") as file,
        background("nc", "-v", "-n", "-d", "-l", HOST, "5000", ready="Listening") as server,
        background("ustack", "nc", "-N", HOST, "5000", stdin=file) as sender,
    ):
        assert server.stdout is not None
        assert sha256(server.stdout.read()) == sha256(data.read_bytes())
        assert (server.wait(PATIENCE), sender.wait(PATIENCE)) == (0, 0)


@pytest.mark.vm
def test_netcat_sends_to_our_nc(daemon: RunningDaemon, data: Path) -> None:
    with (
        data.open("rb") as file,
        background("ustack", "nc", "-v", "-d", "-l", "5000", ready="Listening") as server,
        background("nc", "-N", STACK, "5000", stdin=file) as sender,
    ):
        assert server.stdout is not None and server.stderr is not None
        assert sha256(server.stdout.read()) == sha256(data.read_bytes())
        assert (server.wait(PATIENCE), sender.wait(PATIENCE)) == (0, 0)
        assert f"Connection received on {HOST}" in server.stderr.read().decode()


def test_our_nc_and_socat_both_ways_at_once(daemon: RunningDaemon) -> None:
    """More in each direction of one connection than all buffers hold: who sends must also read."""
    need("socat")
    data = pattern(20 * MEGABYTE)
    # -b: what is written at once is what a pipe that is writable takes, or socat, its only reader, waits for itself
    socat = ("socat", "-b", "4096", "-d", "-d", "TCP4-LISTEN:5000,reuseaddr,fork", "PIPE")
    with background(*socat, ready="listening"):
        assert sha256(through("ustack", "nc", "-N", HOST, "5000", data=data)) == sha256(data)
        assert through("ustack", "nc", "-N", HOST, "5000", data=b"") == b""


def test_our_nc_with_datagrams(daemon: RunningDaemon) -> None:
    need("socat")
    with background("socat", "-d", "-d", "UDP4-RECVFROM:5000,reuseaddr,fork", "PIPE", ready="receiving"):
        assert through("ustack", "nc", "-u", "-w", "0.5", HOST, "5000", data=b"a datagram\n") == b"a datagram\n"
    with background("ustack", "nc", "-u", "-v", "-d", "-w", "2", "-l", "5001", ready="Bound") as server:
        assert server.stdout is not None
        output("nc", "-u", "-q", "0", STACK, "5001", stdin=b"another\n")
        assert server.stdout.readline() == b"another\n"


@pytest.mark.vm
def test_nobody_listens(daemon: RunningDaemon) -> None:
    assert run_ustack("nc", HOST, "4747")[0] == 1
    status, _, err = run_ustack("nc", "-v", HOST, "4747")
    assert status == 1 and "failed: Connection refused" in err
    with Server() as server:
        status, _, err = run_ustack("nc", "-z", "-v", HOST, f"{server.port - 1}-{server.port}")
        assert status == 0 and f"{HOST} {server.port} port [tcp] succeeded" in err
    status, _, err = run_ustack("nc", "-u", "-v", HOST, "4747", stdin="anybody?")
    assert status == 1 and "refused" in err, "the kernel's port unreachable reaches our socket"
