"""ustack nc against the kernel's sockets and Debian's netcat."""

from __future__ import annotations

import hashlib
import random
import socket as kernel
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from tests.netns.daemon import HOST, PATIENCE, STACK, RunningDaemon, finish, run, run_ustack, ustack

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ustack.io.host import Namespace


@pytest.fixture
def daemon(namespace: Namespace, tmp_path: Path) -> Iterator[RunningDaemon]:
    with RunningDaemon(tmp_path) as running:
        yield running


@pytest.mark.vm
def test_towards_the_host(daemon: RunningDaemon) -> None:
    with kernel.create_server((HOST, 0)) as server:
        nc = ustack("nc", "-N", HOST, str(server.getsockname()[1]))
        theirs, peer = server.accept()
        assert peer[0] == STACK
        with theirs, theirs.makefile("rb") as file:
            theirs.sendall(b"welcome\n")
            assert nc.stdin is not None
            nc.stdin.write("hello\n")
            nc.stdin.close()
            nc.stdin = None
            assert file.read() == b"hello\n"
        assert finish(nc) == (0, "welcome\n", "")


@pytest.mark.vm
def test_listening(daemon: RunningDaemon) -> None:
    nc = ustack("nc", "-v", "-l", "8080")
    assert nc.stderr is not None
    assert nc.stderr.readline() == "Listening on 0.0.0.0 8080\n"
    status, out = run("nc", "-N", "-w", "5", STACK, "8080", stdin="hello\n")
    assert (status, out) == (0, "")
    status, out, err = finish(nc)
    assert (status, out) == (0, "hello\n") and err.startswith(f"Connection received on {HOST} ")


def test_listening_on(daemon: RunningDaemon) -> None:
    """-k takes one after the other."""
    nc = ustack("nc", "-k", "-v", "-l", STACK, "8080")
    assert nc.stderr is not None and nc.stdout is not None
    nc.stderr.readline()
    for word in ("one\n", "two\n", "three\n"):
        assert run("nc", "-N", STACK, "8080", stdin=word) == (0, "")
        assert nc.stdout.readline() == word
    nc.kill()
    nc.communicate(timeout=PATIENCE)


def send_and_close(sock: kernel.socket, data: bytes) -> None:
    with sock:
        sock.sendall(data)


@pytest.mark.parametrize("direction", ["up", "down"])
def test_ten_megabytes(daemon: RunningDaemon, tmp_path: Path, direction: str) -> None:
    data = random.Random(1).randbytes(10_000_000)
    (tmp_path / "data").write_bytes(data)
    ours = [sys.executable, "-m", "ustack", "nc"]
    with kernel.create_server((HOST, 0)) as server:
        port = str(server.getsockname()[1])
        if direction == "up":
            with open(tmp_path / "data", "rb") as file:
                nc = subprocess.Popen([*ours, "-N", HOST, port], stdin=file)
            theirs, _ = server.accept()
            with theirs, theirs.makefile("rb") as stream:
                got = stream.read()
        else:
            nc = subprocess.Popen([*ours, "-d", HOST, port], stdout=subprocess.PIPE)
            theirs, _ = server.accept()
            sender = threading.Thread(target=send_and_close, args=(theirs, data))
            sender.start()
            got = nc.communicate(timeout=PATIENCE)[0]
            sender.join(PATIENCE)
    assert nc.wait(PATIENCE) == 0
    assert hashlib.sha256(got).digest() == hashlib.sha256(data).digest()


def test_udp_both_ways(daemon: RunningDaemon) -> None:
    with kernel.socket(kernel.AF_INET, kernel.SOCK_DGRAM) as server:
        server.bind((HOST, 0))
        server.settimeout(PATIENCE)
        nc = ustack("nc", "-u", "-w", "1", HOST, str(server.getsockname()[1]))
        assert nc.stdin is not None
        nc.stdin.write("hello\n")
        nc.stdin.flush()
        data, peer = server.recvfrom(100)
        assert (data, peer[0]) == (b"hello\n", STACK)
        server.sendto(b"welcome\n", peer)
        assert finish(nc) == (0, "welcome\n", "")


def test_udp_listening(daemon: RunningDaemon) -> None:
    nc = ustack("nc", "-u", "-v", "-w", "1", "-l", "4747")
    assert nc.stderr is not None
    nc.stderr.readline()
    with kernel.socket(kernel.AF_INET, kernel.SOCK_DGRAM) as client:
        client.settimeout(PATIENCE)
        client.sendto(b"muffin\n", (STACK, 4747))
        assert nc.stdin is not None
        nc.stdin.write("thanks\n")
        nc.stdin.flush()
        assert client.recv(100) == b"thanks\n"
    status, out, _ = finish(nc)
    assert (status, out) == (0, "muffin\n")


def test_refused(daemon: RunningDaemon) -> None:
    status, out, err = run_ustack("nc", "-v", HOST, "1")
    assert (status, out) == (1, "")
    assert err == f"connect to {HOST} port 1 (tcp) failed: Connection refused\n"


def test_scanning(daemon: RunningDaemon) -> None:
    with kernel.create_server((HOST, 2001)), kernel.create_server((HOST, 2003)):
        status, _, err = run_ustack("nc", "-z", "-v", HOST, "2000-2004")
    assert status == 0
    assert [line.split()[3] for line in err.splitlines() if "succeeded" in line] == ["2001", "2003"]
    assert run_ustack("nc", "-z", HOST, "2000")[0] == 1


def test_a_timeout(daemon: RunningDaemon) -> None:
    status, _, err = run_ustack("nc", "-v", "-w", "0.2", "192.0.2.77", "80")
    assert status == 1 and "timed out" in err


def test_a_source_of_ones_own(daemon: RunningDaemon) -> None:
    with kernel.create_server((HOST, 0)) as server:
        nc = ustack("nc", "-N", "-s", STACK, "-p", "4747", HOST, str(server.getsockname()[1]))
        theirs, peer = server.accept()
        theirs.close()
        assert peer == (STACK, 4747)
        assert finish(nc)[0] == 0


def test_a_reset_is_said(daemon: RunningDaemon) -> None:
    with kernel.create_server((HOST, 0)) as server:
        nc = ustack("nc", "-d", HOST, str(server.getsockname()[1]))
        theirs, _ = server.accept()
        theirs.sendall(b"begun\n")
        assert nc.stdout is not None
        assert nc.stdout.readline() == "begun\n"
        theirs.setsockopt(kernel.SOL_SOCKET, kernel.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        theirs.close()
        assert finish(nc) == (1, "", "ustack: Connection reset by peer\n")


def test_a_port_that_is_taken(daemon: RunningDaemon) -> None:
    first = ustack("nc", "-v", "-l", "8080")
    assert first.stderr is not None
    first.stderr.readline()
    assert run_ustack("nc", "-l", "8080") == (1, "", "ustack: Address already in use\n")
    first.kill()
    first.communicate(timeout=PATIENCE)
