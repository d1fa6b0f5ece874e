"""How a daemon begins and ends while programs are using it."""

from __future__ import annotations

import os
import select
import socket
import time
from typing import TYPE_CHECKING, Final

import pytest

from tests.netns.daemon import HOST, PATIENCE, SERVICES, STACK, RunningDaemon, run_ustack
from tests.netns.programs import background, need, output, program
from ustack import socket as ours

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ustack.io.host import Host, Namespace

#: Seconds from starting the command to its first answer; the aim is a tenth of that on a machine that is idle.
START: Final = 3.0


def until(condition: Callable[[], bool]) -> bool:
    """Whether it comes true in time."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            return False
        select.select([], [], [], 0.01)
    return True


def test_the_first_answer(namespace: Namespace, tmp_path: Path) -> None:
    """A ping that runs already is answered as soon as there is a link: the best of three starts."""
    took = []
    for _ in range(3):
        before = time.monotonic()
        with RunningDaemon(tmp_path, "--serve", SERVICES):
            output("ping", "-n", "-c", "1", "-W", "2", STACK)
            took.append(time.monotonic() - before)
    assert min(took) < START, took


def test_end_under_load(namespace: Namespace, host: Host, tmp_path: Path) -> None:
    """SIGTERM amid transfers and idle connections: the peers hear of it, the device goes, the status is 0."""
    need("curl")
    with RunningDaemon(tmp_path, "--serve", SERVICES) as daemon:
        idle = [socket.create_connection((STACK, 7), PATIENCE) for _ in range(20)]
        url = f"http://{STACK}/bytes/100000000000"
        with background("curl", "-sS", "-o", "/dev/null", "-m", "30", url) as curl, ours.socket() as unused:
            with ours.create_server((STACK, 8080)) as listener:
                waiting = socket.create_connection((STACK, 8080), PATIENCE)
                status, log = daemon.terminate()
                assert (status, "Traceback" in log) == (0, False), log
                assert listener.fileno() >= 0 and unused.fileno() >= 0
            # a link that is gone reports nothing: a reset that arrived before is all that curl can hear
            curl.kill()
        for sock in [*idle, waiting]:
            with sock:
                sock.settimeout(PATIENCE)
                try:
                    assert sock.recv(1) == b"", "FIN"
                except ConnectionResetError:
                    assert sock is waiting
    assert not host.has_link("us0") and not os.path.exists(daemon.control)


def test_down_ends_clients(namespace: Namespace, host: Host, tmp_path: Path) -> None:
    """``ustack down`` while one of ours listens, one reads and one waits for a connection."""
    with RunningDaemon(tmp_path, "--serve", SERVICES) as daemon:
        need("nc")
        with (
            socket.create_server((HOST, 0)) as server,
            background("ustack", "nc", "-v", "-l", "5000", ready="Listening") as listening,
            background("ustack", "nc", "-d", HOST, str(server.getsockname()[1])) as reading,
            background("ustack", "nc", "-d", "192.0.2.99", "80") as connecting,
        ):
            server.settimeout(PATIENCE)
            theirs, _ = server.accept()
            assert run_ustack("down") == (0, "", "")
            with theirs:
                theirs.settimeout(PATIENCE)
                assert theirs.recv(1) == b""
            for process in (listening, reading, connecting):
                process.wait(PATIENCE)
                assert process.stderr is not None
                assert b"Traceback" not in process.stderr.read()
            assert listening.returncode == 1 and connecting.returncode == 1
        assert daemon.wait()[0] == 0
    assert not host.has_link("us0")


def test_kill_leaves_nothing(namespace: Namespace, host: Host, tmp_path: Path) -> None:
    """The kernel takes the TAP away with its last descriptor, and with it the address and the route."""
    with RunningDaemon(tmp_path, "--serve", SERVICES) as daemon:
        output("ping", "-n", "-c", "1", "-W", "2", STACK)
        assert "us0" in output("ip", "route")
        with socket.create_connection((STACK, 7), PATIENCE), ours.socket() as sock:
            daemon.process.kill()
            daemon.process.communicate(timeout=PATIENCE)
            assert until(lambda: not host.has_link("us0"))
            assert output("ip", "route") == "" == output("ip", "-4", "address", "show", "scope", "global")
            with pytest.raises(OSError):
                sock.getsockname()
        status, _, err = run_ustack("status")
        assert (status, err.count("\n")) == (1, 1) and "no daemon answers" in err
    with RunningDaemon(tmp_path, "--serve", SERVICES):
        output("ping", "-n", "-c", "1", "-W", "2", STACK)


def test_two_daemons_on_one_host(namespace: Namespace, tmp_path: Path) -> None:
    """Two links, two stacks, and the host routes between them: 255 to 254 is all that happens to the TTL."""
    from ustack.io.host import write_sysctl

    write_sysctl("net.ipv4.ip_forward", "1")
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    there = {"addr": "198.51.100.2/24", "host_addr": "198.51.100.1/24"}
    with (
        RunningDaemon(tmp_path / "a", "--gateway", HOST, "--serve", SERVICES) as a,
        RunningDaemon(tmp_path / "b", "--dev", "us1", "--gateway", "198.51.100.1", "--serve", SERVICES, **there),
    ):
        options = ("-c", "3", "-i", "0.05", "-s", "4000", "--control", a.control)
        status, out, _ = run_ustack("ping", *options, "198.51.100.2")
        assert status == 0 and "3 received" in out, out
        data = "through two stacks of ours and one of the kernel\n"
        assert run_ustack("nc", "-N", "--control", a.control, "198.51.100.2", "7", stdin=data) == (0, data, "")
        status, _, err = run_ustack("nc", "-v", "--control", a.control, "198.51.100.2", "4747")
        assert status == 1 and "refused" in err


def test_a_link_that_goes_down_and_up(namespace: Namespace, host: Host, tmp_path: Path) -> None:
    """What was open goes on when the host's side is back."""
    with RunningDaemon(tmp_path, "--serve", SERVICES):
        with socket.create_connection((STACK, 7), PATIENCE) as sock:
            sock.sendall(b"before")
            assert sock.recv(100) == b"before"
            host.set_link("us0", up=False)
            status, _ = program("ping", "-n", "-c", "1", "-W", "0.2", STACK)
            assert status != 0
            host.set_link("us0", up=True)
            sock.sendall(b"after")
            assert sock.recv(100) == b"after"
