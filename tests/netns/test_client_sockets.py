"""ustack.socket against the kernel: what a peer does reaches the program as it would with a socket of the kernel."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import select
import socket as kernel
import struct
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from tests.netns.daemon import HOST, PATIENCE, STACK, RunningDaemon
from ustack import socket
from ustack.io import control

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ustack.io.host import Namespace

RESET = struct.pack("ii", 1, 0)


@pytest.fixture
def daemon(namespace: Namespace, tmp_path: Path) -> Iterator[RunningDaemon]:
    with RunningDaemon(tmp_path) as running:
        yield running


@pytest.fixture
def listener(daemon: RunningDaemon) -> Iterator[kernel.socket]:
    """A server of the host."""
    with kernel.create_server((HOST, 0)) as server:
        server.settimeout(PATIENCE)
        yield server


def connected(listener: kernel.socket) -> tuple[socket.socket, kernel.socket]:
    """(ours, the kernel's) ends of one connection."""
    ours = socket.create_connection(listener.getsockname(), timeout=PATIENCE)
    theirs, _ = listener.accept()
    theirs.settimeout(PATIENCE)
    return ours, theirs


def test_bytes_go_both_ways_and_names_are_true(listener: kernel.socket) -> None:
    ours, theirs = connected(listener)
    with ours, theirs:
        assert ours.getpeername() == listener.getsockname() == theirs.getsockname()
        assert ours.getsockname() == theirs.getpeername()
        assert ours.getsockname()[0] == STACK
        ours.sendall(b"muffin")
        assert theirs.recv(100) == b"muffin"
        theirs.sendall(b"crumbs")
        assert ours.recv(3) == b"cru"
        buffer = bytearray(10)
        assert ours.recv_into(buffer) == 3 and buffer[:3] == b"mbs"


def test_a_megabyte_each_way_at_once(listener: kernel.socket) -> None:
    ours, theirs = connected(listener)
    up, down = os.urandom(1 << 20), os.urandom(1 << 20)

    def serve() -> None:
        theirs.sendall(down)
        theirs.shutdown(kernel.SHUT_WR)

    def send() -> None:
        ours.sendall(up)
        ours.shutdown(socket.SHUT_WR)

    threads = [threading.Thread(target=serve), threading.Thread(target=send)]
    with ours, theirs:
        for thread in threads:
            thread.start()
        reader = threading.Thread(target=lambda: got.append(ours.makefile("rb").read()))
        got: list[bytes] = []
        reader.start()
        with theirs.makefile("rb") as file:
            assert file.read() == up
        for thread in [*threads, reader]:
            thread.join(PATIENCE)
        assert got == [down]


# -- the peer's end, told apart


def test_fin_of_the_peer_is_the_end_of_the_stream(listener: kernel.socket) -> None:
    ours, theirs = connected(listener)
    with ours:
        theirs.sendall(b"last words")
        theirs.close()
        assert ours.recv(100) == b"last words"
        assert ours.recv(100) == b"" == ours.recv(100)
        assert ours.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0


@pytest.mark.parametrize("written", [b"", b"x", b"some words before"])
def test_rst_of_the_peer_is_econnreset(listener: kernel.socket, written: bytes) -> None:
    """Whether or not we had written anything; what had come before the reset can still be read (tcp_reset)."""
    ours, theirs = connected(listener)
    with ours:
        ours.sendall(written)
        if written:
            assert theirs.recv(100) == written
        theirs.sendall(b"data")
        assert ours.recv(100) == b"data"
        theirs.setsockopt(kernel.SOL_SOCKET, kernel.SO_LINGER, RESET)
        theirs.close()
        with pytest.raises(ConnectionResetError) as seen:
            ours.recv(100)
        assert seen.value.errno == errno.ECONNRESET
        assert ours.recv(100) == b""  # the error is told once, as by the kernel
        with pytest.raises(BrokenPipeError):
            ours.send(b"more")


def test_rst_wakes_a_reader_that_waits(listener: kernel.socket) -> None:
    ours, theirs = connected(listener)
    seen: list[int | None] = []

    def read() -> None:
        try:
            ours.recv(100)
        except OSError as reason:
            seen.append(reason.errno)

    with ours:
        reader = threading.Thread(target=read)
        reader.start()
        theirs.setsockopt(kernel.SOL_SOCKET, kernel.SO_LINGER, RESET)
        theirs.close()
        reader.join(PATIENCE)
    assert seen == [errno.ECONNRESET]


def test_a_writer_hears_of_a_reset(listener: kernel.socket) -> None:
    ours, theirs = connected(listener)
    with ours:
        theirs.setsockopt(kernel.SOL_SOCKET, kernel.SO_LINGER, RESET)
        theirs.close()
        select.select([ours], [], [], PATIENCE)
        with pytest.raises(ConnectionResetError):
            ours.sendall(bytes(10))


def test_data_after_our_half_close_still_arrives(listener: kernel.socket) -> None:
    ours, theirs = connected(listener)
    with ours, theirs:
        ours.sendall(b"question")
        ours.shutdown(socket.SHUT_WR)
        with theirs.makefile("rb") as file:
            assert file.read() == b"question"
        theirs.sendall(b"answer")
        theirs.close()
        assert ours.recv(100) == b"answer"
        assert ours.recv(100) == b""


def test_a_reset_after_our_half_close_is_a_reset(listener: kernel.socket) -> None:
    """FIN_WAIT_2: the state in which a reader most wants to know."""
    ours, theirs = connected(listener)
    with ours:
        ours.shutdown(socket.SHUT_WR)
        assert theirs.recv(1) == b""
        theirs.setsockopt(kernel.SOL_SOCKET, kernel.SO_LINGER, RESET)
        theirs.close()
        with pytest.raises(ConnectionResetError):
            ours.recv(100)


def test_closing_with_data_unread_resets_the_peer(listener: kernel.socket) -> None:
    """RFC 2525 2.17, tcp_close: what arrived and was not read is lost, and the peer must know."""
    ours, theirs = connected(listener)
    with theirs:
        theirs.sendall(b"nobody reads this")
        select.select([ours], [], [], PATIENCE)
        ours.close()
        with pytest.raises(ConnectionResetError):
            theirs.recv(100)


def test_close_sends_what_was_written_and_then_fin(listener: kernel.socket) -> None:
    ours, theirs = connected(listener)
    data = os.urandom(400_000)
    with theirs:
        ours.sendall(data)
        ours.close()
        with theirs.makefile("rb") as file:
            assert file.read() == data


def test_so_linger_zero_resets(listener: kernel.socket) -> None:
    ours, theirs = connected(listener)
    with theirs:
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        ours.close()
        with pytest.raises(ConnectionResetError):
            theirs.recv(100)


# -- connecting


def test_refused(daemon: RunningDaemon) -> None:
    with socket.socket() as sock:
        with pytest.raises(ConnectionRefusedError):
            sock.connect((HOST, 1))
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0  # told already


def test_no_route(daemon: RunningDaemon) -> None:
    with socket.socket() as sock, pytest.raises(OSError) as seen:
        sock.connect(("203.0.113.1", 80))
    assert seen.value.errno == errno.ENETUNREACH


def test_connect_again_after_a_refusal(listener: kernel.socket) -> None:
    with socket.socket() as sock:
        sock.settimeout(PATIENCE)
        assert sock.connect_ex((HOST, 1)) == errno.ECONNREFUSED
        sock.connect(listener.getsockname())
        theirs, _ = listener.accept()
        with theirs:
            theirs.sendall(b"there you are")
            assert sock.recv(100) == b"there you are"


def test_nobody_answers(daemon: RunningDaemon) -> None:
    """No neighbour has the address: the host would say EHOSTUNREACH in three seconds, we give up before."""
    with socket.socket() as sock:
        sock.settimeout(0.05)
        with pytest.raises(TimeoutError):
            sock.connect(("192.0.2.77", 80))


def test_not_connected(daemon: RunningDaemon) -> None:
    with socket.socket() as sock:
        for call in (lambda: sock.recv(1), sock.getpeername, lambda: sock.shutdown(socket.SHUT_WR)):
            with pytest.raises(OSError) as seen:
                call()
            assert seen.value.errno == errno.ENOTCONN
        with pytest.raises(BrokenPipeError):
            sock.send(b"x")


def test_nonblocking_connect_shows_in_select(listener: kernel.socket) -> None:
    with socket.socket() as sock:
        sock.setblocking(False)
        with pytest.raises(BlockingIOError) as seen:
            sock.connect(listener.getsockname())
        assert seen.value.errno == errno.EINPROGRESS
        assert select.select([], [sock], [], PATIENCE)[1] == [sock]
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
        assert sock.send(b"x") == 1


def test_nonblocking_connect_that_fails_shows_in_select(daemon: RunningDaemon) -> None:
    with socket.socket() as sock:
        sock.setblocking(False)
        assert sock.connect_ex((HOST, 1)) == errno.EINPROGRESS
        assert select.select([], [sock], [], PATIENCE)[1] == [sock]
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == errno.ECONNREFUSED


def test_not_writable_before_it_is_decided(daemon: RunningDaemon) -> None:
    with socket.socket() as sock:
        sock.setblocking(False)
        assert sock.connect_ex(("192.0.2.77", 80)) == errno.EINPROGRESS
        assert select.select([], [sock], [], 0.05)[1] == []
        assert sock.connect_ex(("192.0.2.77", 80)) == errno.EALREADY
        assert select.select([], [sock], [], 0.05)[1] == []


# -- back-pressure


def test_a_program_that_does_not_read_closes_the_window(listener: kernel.socket) -> None:
    """The kernel's sender must block after finite data, and finish once we read."""
    ours, theirs = connected(listener)
    with ours, theirs:
        theirs.setblocking(False)
        sent = 0
        while select.select([], [theirs], [], 1.0)[1]:
            sent += theirs.send(bytes(1 << 16))
            assert sent < 64 << 20, "nothing holds the sender back"
        theirs.settimeout(PATIENCE)
        read = 0
        while read < sent:
            read += len(ours.recv(1 << 20))
        theirs.sendall(b"open again")
        assert ours.recv(100) == b"open again"


def test_a_peer_that_does_not_read_makes_us_unwritable(listener: kernel.socket) -> None:
    ours, theirs = connected(listener)
    with ours, theirs:
        ours.setblocking(False)
        sent = 0
        while select.select([], [ours], [], 1.0)[1]:
            sent += ours.send(bytes(1 << 16))
            assert sent < 64 << 20, "nothing holds us back"
        read = 0
        while read < sent:
            read += len(theirs.recv(1 << 20))
        assert select.select([], [ours], [], PATIENCE)[1] == [ours]


# -- listening


def test_listen_and_accept(daemon: RunningDaemon) -> None:
    with socket.create_server((STACK, 8080)) as server:
        assert server.getsockname() == (STACK, 8080)
        theirs = kernel.create_connection((STACK, 8080), PATIENCE)
        with theirs:
            ours, peer = server.accept()
            with ours:
                assert peer == theirs.getsockname() == ours.getpeername()
                theirs.sendall(b"hello")
                assert ours.recv(100) == b"hello"
                ours.sendall(b"welcome")
                assert theirs.recv(100) == b"welcome"


def test_a_listener_is_readable_when_somebody_waits(daemon: RunningDaemon) -> None:
    with socket.create_server((STACK, 8080)) as server:
        assert select.select([server], [], [], 0)[0] == []
        with kernel.create_connection((STACK, 8080), PATIENCE):
            assert select.select([server], [], [], PATIENCE)[0] == [server]


def test_fifty_connections_wait_their_turn(daemon: RunningDaemon) -> None:
    with socket.create_server((STACK, 8080), backlog=64) as server:
        clients = [kernel.create_connection((STACK, 8080), PATIENCE) for _ in range(50)]
        peers = set()
        for _ in clients:
            ours, peer = server.accept()
            ours.sendall(b"%d" % peer[1])
            ours.close()
            peers.add(peer)
        assert peers == {client.getsockname() for client in clients}
        for client in clients:
            with client:
                assert int(client.recv(100)) == client.getsockname()[1]


def test_closing_a_listener_refuses_from_then_on(daemon: RunningDaemon) -> None:
    server = socket.create_server((STACK, 8080))
    waiting = kernel.create_connection((STACK, 8080), PATIENCE)
    select.select([server], [], [], PATIENCE)
    server.close()
    with waiting:
        # one that was handed over ends with FIN, for all the daemon knows the program had taken it
        with contextlib.suppress(ConnectionResetError):
            assert waiting.recv(1) == b""
    with pytest.raises(ConnectionRefusedError):
        kernel.create_connection((STACK, 8080), PATIENCE)


def test_a_taken_port(daemon: RunningDaemon) -> None:
    with socket.create_server((STACK, 8080)), pytest.raises(OSError) as seen:
        socket.create_server((STACK, 8080))
    assert seen.value.errno == errno.EADDRINUSE


# -- datagrams


@pytest.fixture
def udp_pair(daemon: RunningDaemon) -> Iterator[tuple[socket.socket, kernel.socket]]:
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ours,
        kernel.socket(kernel.AF_INET, kernel.SOCK_DGRAM) as theirs,
    ):
        ours.settimeout(PATIENCE)
        theirs.settimeout(PATIENCE)
        ours.bind((STACK, 4747))
        theirs.bind((HOST, 0))
        yield ours, theirs


def test_datagrams_keep_their_boundaries_and_addresses(udp_pair: tuple[socket.socket, kernel.socket]) -> None:
    ours, theirs = udp_pair
    theirs.sendto(b"muffin", (STACK, 4747))
    theirs.sendto(b"", (STACK, 4747))
    assert ours.recvfrom(100) == (b"muffin", theirs.getsockname())
    assert ours.recvfrom(100) == (b"", theirs.getsockname())
    assert ours.sendto(b"crumbs", theirs.getsockname()) == 6
    assert ours.sendto(b"", theirs.getsockname()) == 0
    assert theirs.recvfrom(100) == (b"crumbs", (STACK, 4747))
    assert theirs.recvfrom(100) == (b"", (STACK, 4747))


def test_a_datagram_larger_than_the_link(udp_pair: tuple[socket.socket, kernel.socket]) -> None:
    ours, theirs = udp_pair
    data = os.urandom(20_000)
    theirs.sendto(data, (STACK, 4747))
    assert ours.recv(65_535) == data
    ours.sendto(data, theirs.getsockname())
    assert theirs.recv(65_535) == data
    theirs.sendto(data, (STACK, 4747))
    assert ours.recvmsg(100)[::2] == (data[:100], kernel.MSG_TRUNC)


def test_a_connected_datagram_socket_hears_that_nobody_listens(daemon: RunningDaemon) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(PATIENCE)
        sock.connect((HOST, 9))
        sock.send(b"anybody?")
        with pytest.raises(ConnectionRefusedError):
            sock.recv(100)


def test_what_a_datagram_socket_refuses_at_once(daemon: RunningDaemon) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for code, call in (
            (errno.EDESTADDRREQ, lambda: sock.send(b"x")),
            (errno.EMSGSIZE, lambda: sock.sendto(bytes(65_508), (HOST, 9))),
            (errno.EINVAL, lambda: sock.sendto(b"x", (HOST, 0))),
            (errno.EOPNOTSUPP, lambda: sock.sendto(b"x", kernel.MSG_OOB, (HOST, 9))),
            (errno.EOPNOTSUPP, sock.accept),
        ):
            with pytest.raises(OSError) as seen:
                call()
            assert seen.value.errno == code


# -- programs that use the descriptor


def test_asyncio_takes_it(listener: kernel.socket) -> None:
    def serve() -> None:
        theirs, _ = listener.accept()
        with theirs:
            theirs.sendall(theirs.recv(100).upper())

    async def talk() -> bytes:
        sock = socket.socket()
        sock.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(sock, listener.getsockname())  # type: ignore[arg-type]
        reader, writer = await asyncio.open_connection(sock=sock)
        writer.write(b"muffin")
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()
        return answer

    thread = threading.Thread(target=serve)
    thread.start()
    assert asyncio.run(asyncio.wait_for(talk(), PATIENCE)) == b"MUFFIN"
    thread.join(PATIENCE)


def test_the_bare_descriptor_tells_fin_from_rst(listener: kernel.socket) -> None:
    """For a program that knows nothing of us."""
    for linger, expected in ((None, b""), (RESET, errno.ECONNRESET)):
        ours, theirs = connected(listener)
        bare = kernel.socket(fileno=ours.detach())
        if linger:
            theirs.setsockopt(kernel.SOL_SOCKET, kernel.SO_LINGER, linger)
        theirs.close()
        poll = select.poll()
        poll.register(bare, select.POLLIN)
        assert poll.poll(PATIENCE * 1000)
        with bare:
            try:
                seen: object = bare.recv(1)
            except OSError as reason:
                seen = reason.errno
        assert seen == expected


def test_a_program_that_dies_has_its_sockets_closed(listener: kernel.socket) -> None:
    script = (
        "from ustack import socket\n"
        f"s = socket.create_connection({listener.getsockname()!r})\n"
        "t = socket.create_server(('192.0.2.2', 8081))\n"
        "s.sendall(b'ready')\n"
        "s.recv(1)\n"
    )
    program = subprocess.Popen([sys.executable, "-c", script])
    theirs, _ = listener.accept()
    theirs.settimeout(PATIENCE)
    with theirs:
        assert theirs.recv(100) == b"ready"
        program.kill()
        program.wait(PATIENCE)
        assert theirs.recv(100) == b""
    with pytest.raises(ConnectionRefusedError):
        kernel.create_connection((STACK, 8081), PATIENCE)


def test_a_forked_child_shares_the_socket(listener: kernel.socket) -> None:
    """As with the kernel: the connection ends when the last copy of the descriptor is closed."""
    ours, theirs = connected(listener)
    with theirs:
        script = ["sh", "-c", "read line && echo from the child"]
        child = subprocess.Popen(script, stdin=subprocess.PIPE, stdout=ours.fileno())
        ours.close()
        child.communicate(b"go on\n", PATIENCE)
        with theirs.makefile("rb") as file:
            assert file.read() == b"from the child\n"


# -- the daemon's books


def test_nothing_is_left_behind(daemon: RunningDaemon) -> None:
    with kernel.create_server((HOST, 0)) as server:
        for _ in range(50):
            ours = socket.create_connection(server.getsockname(), timeout=PATIENCE)
            theirs, _ = server.accept()
            with theirs:
                ours.close()
                assert theirs.recv(1) == b""
    with daemon.client() as client:
        states = {entry.state for entry in client.status().sockets}
        assert states <= {"TIME-WAIT", "LAST-ACK", "FIN-WAIT-2", "FIN-WAIT-1"}
        with pytest.raises(OSError) as seen:
            client.ask(control.GetName(1, False))
        assert seen.value.errno == errno.EBADF
