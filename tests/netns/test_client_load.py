"""From the stack to servers of the kernel: big bodies, many connections, and ports and hosts that are not there."""

from __future__ import annotations

import errno
import os
import socket as kernel
import threading
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from tests.netns.daemon import HOST, IMPATIENT, PATIENCE, RunningDaemon
from tests.netns.programs import MEGABYTE, Server, background, bulk, pattern, resident, settled, sha256, status_of
from ustack import socket

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from ustack.io.host import Namespace


@pytest.fixture(params=[(), ("--no-offload",)], ids=["offload", "plain"])
def daemon(namespace: Namespace, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[RunningDaemon]:
    with RunningDaemon(tmp_path, *request.param) as running:
        yield running


def exchange(port: int, data: bytes) -> bytes:
    """Send it all, then FIN, and read to the end."""
    with socket.create_connection((HOST, port), PATIENCE) as sock:
        sock.sendall(data)
        sock.shutdown(socket.SHUT_WR)
        with sock.makefile("rb") as file:
            return bytes(file.read())


def in_threads(count: int, work: Callable[[int], None]) -> None:
    """``work(n)`` for each n at once; what one of them raises is raised."""
    failures: list[BaseException] = []

    def run(n: int) -> None:
        try:
            work(n)
        except BaseException as reason:
            failures.append(reason)

    threads = [threading.Thread(target=run, args=(n,), daemon=True) for n in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(2 * PATIENCE)
    assert not any(thread.is_alive() for thread in threads), "somebody waits for ever"
    if failures:
        raise failures[0]


@pytest.mark.heavy
def test_a_big_body_up(daemon: RunningDaemon, tmp_path: Path) -> None:
    """``ustack nc`` to a server of the kernel."""
    data = pattern(bulk(daemon))
    (tmp_path / "data").write_bytes(data)
    with Server(lambda request: sha256(request).encode()) as server, (tmp_path / "data").open("rb") as file:
        with background("ustack", "nc", "-N", HOST, str(server.port), stdin=file) as nc:
            assert nc.stdout is not None
            answer = nc.stdout.read().decode()
            assert nc.wait(PATIENCE) == 0
    (tmp_path / "data").unlink()
    assert answer == sha256(data)


@pytest.mark.heavy
def test_a_big_body_down(daemon: RunningDaemon) -> None:
    data = pattern(bulk(daemon))
    with Server(lambda request: data) as server, background("ustack", "nc", "-N", HOST, str(server.port)) as nc:
        assert nc.stdout is not None
        assert sha256(nc.stdout.read()) == sha256(data)
        assert nc.wait(PATIENCE) == 0


@pytest.mark.heavy
def test_twenty_at_once_both_ways(daemon: RunningDaemon) -> None:
    with Server(lambda request: request[::-1]) as server:

        def work(n: int) -> None:
            data = pattern(MEGABYTE + n, n)
            assert sha256(exchange(server.port, data)) == sha256(data[::-1])

        in_threads(20, work)
        assert server.errors == []
    assert set(settled(daemon)) <= {"TIME-WAIT"}


@pytest.mark.heavy
def test_two_hundred_at_once(daemon: RunningDaemon) -> None:
    with Server(backlog=256) as server:

        def work(n: int) -> None:
            data = pattern(1000 + n, n)
            assert exchange(server.port, data) == data

        in_threads(200, work)
    states = Counter(settled(daemon))
    # whatever reaches a kernel that has closed already, a probe or the answer to a FIN that came twice, is answered by
    # a RST, which ends TIME_WAIT (RFC 1337): not all of them need still be there
    assert set(states) == {"TIME-WAIT"} and states["TIME-WAIT"] <= 200
    assert status_of(daemon)["counters"]["TcpExt.TW"] == 200, "every one of them came to it"


@pytest.mark.heavy
def test_two_thousand_one_after_the_other(namespace: Namespace, tmp_path: Path) -> None:
    """We close first, and wait; nothing else is left, of the daemon's memory and descriptors neither."""
    with RunningDaemon(tmp_path) as daemon, kernel.create_server((HOST, 0)) as server:

        def once() -> None:
            with socket.create_connection(server.getsockname(), PATIENCE) as ours:
                theirs, _ = server.accept()
                with theirs:
                    ours.sendall(b"muffin")
                    assert theirs.recv(100) == b"muffin"
                    ours.close()
                    assert theirs.recv(100) == b""

        def descriptors() -> int:
            return len(os.listdir(f"/proc/{daemon.process.pid}/fd"))

        for _ in range(200):
            once()
        settled(daemon)
        before = resident(daemon.process.pid), descriptors()
        for _ in range(2000):
            once()
        after = resident(daemon.process.pid), descriptors()
        states = Counter(settled(daemon))
        counters = status_of(daemon)["counters"]
    assert states == {"TIME-WAIT": 2200}
    assert abs(after[1] - before[1]) <= 1, "one is that of who asks"
    assert after[0] - before[0] < 2 * MEGABYTE + 2000 * 4096, f"{(after[0] - before[0]) / 2000:.0f} bytes a connection"
    assert counters["Tcp.ActiveOpens"] == 2200 and "Tcp.AttemptFails" not in counters


# -- who is not there


def test_refused_ports(daemon: RunningDaemon) -> None:
    for port in range(4000, 4100):
        with socket.socket() as sock:
            assert sock.connect_ex((HOST, port)) == errno.ECONNREFUSED
    assert settled(daemon) == []
    assert status_of(daemon)["counters"]["Tcp.AttemptFails"] == 100


def test_a_host_that_is_not_there(namespace: Namespace, tmp_path: Path) -> None:
    """Three ARP requests, retrans_time apart, and then EHOSTUNREACH, for all who wait for the same neighbour."""
    with RunningDaemon(tmp_path, *IMPATIENT) as daemon:

        def work(n: int) -> None:
            with socket.socket() as sock:
                sock.settimeout(PATIENCE)
                assert sock.connect_ex(("192.0.2.99", 80 + n)) == errno.EHOSTUNREACH

        in_threads(5, work)
        assert settled(daemon) == []
        states = {entry["address"]: entry["state"] for entry in status_of(daemon)["neighbours"]}
        assert states["192.0.2.99"] in ("FAILED", "INCOMPLETE"), "asked again if a SYN was sent again in that moment"


def test_a_network_that_is_not_there(daemon: RunningDaemon) -> None:
    with socket.socket() as sock, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagram:
        assert sock.connect_ex(("203.0.113.1", 80)) == errno.ENETUNREACH
        assert datagram.connect_ex(("203.0.113.1", 80)) == errno.ENETUNREACH
    assert settled(daemon) == []


def test_a_server_that_does_not_answer(daemon: RunningDaemon) -> None:
    """The host drops what comes for it there: SYN is sent again until the program gives up, and nothing stays."""
    with kernel.create_server((HOST, 0), backlog=0) as full:
        filling = []
        try:
            for _ in range(8):
                sock = socket.socket()
                sock.settimeout(0.3)
                filling.append(sock)
                if sock.connect_ex(full.getsockname()) != 0:
                    break
            else:
                pytest.skip("this kernel's backlog has no end")
        finally:
            for sock in filling:
                sock.close()
    assert set(settled(daemon)) <= {"TIME-WAIT"}


# -- datagrams


def test_datagrams_with_a_window(daemon: RunningDaemon) -> None:
    """A thousand of all lengths, thirty-two under way, to a kernel's socket that sends them back."""
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ours,
        kernel.socket(kernel.AF_INET, kernel.SOCK_DGRAM) as theirs,
    ):
        theirs.bind((HOST, 0))
        ours.settimeout(PATIENCE)
        theirs.settimeout(PATIENCE)
        ours.connect(theirs.getsockname())
        for first in range(0, 1000, 32):
            sent = [pattern(1 + n * 3 % 3000, n) for n in range(first, first + 32)]
            for data in sent:
                ours.send(data)
            for data in sent:
                seen, where = theirs.recvfrom(65_536)
                assert seen == data and where == ours.getsockname()
            for data in sent:
                theirs.sendto(data, where)
            assert [ours.recv(65_536) for _ in sent] == sent
