"""Embedding: blocking sockets whose waiting drives the stack, here in virtual time."""

from __future__ import annotations

import errno
import random
import struct

import pytest

import ustack
from tests.io.world import CLIENT, SERVER, World
from ustack.device.cable import Impairments
from ustack.io.config import ConfigError
from ustack.lab import Lab
from ustack.sock import MSG_PEEK, MSG_WAITALL, TCP_CLOSE, TCP_FIN_WAIT2, Sock
from ustack.tcp.control import TcpControl
from ustack.timer import Timer


def test_ustack_stack_is_the_one_to_embed() -> None:
    assert ustack.Stack.__module__ == "ustack.io.embed"
    with pytest.raises(AttributeError):
        ustack.Muffin  # noqa: B018


def test_ten_lines() -> None:
    """The example of the README."""
    lab = Lab()
    with ustack.Stack(lab=lab, addr="192.0.2.1/24") as a, ustack.Stack(lab=lab, addr="192.0.2.2/24") as b:
        a.join(b, seed=1, there=Impairments(delay=1_000_000, loss=0.1))
        server = b.create_server(("192.0.2.2", 4747))
        client = a.create_connection(("192.0.2.2", 4747))
        connection, _ = server.accept()
        client.sendall(b"muffin")
        assert connection.recv(100) == b"muffin"


def test_both_directions_and_the_end() -> None:
    with World() as world:
        server = world.server.create_server((SERVER, 80))
        client = world.client.create_connection((SERVER, 80))
        inside, peer = server.accept()
        assert peer == client.getsockname() and inside.getsockname() == client.getpeername() == (SERVER, 80)
        client.sendall(b"question")
        client.shutdown(1)
        assert inside.recvall() == b"question"
        inside.sendall(b"answer")
        inside.close()
        assert client.recvall() == b"answer"
        client.close()


def test_a_read_that_waits_for_all_gets_all_or_what_there_is_at_the_end() -> None:
    """MSG_WAITALL, SO_RCVLOWAT: more than the buffer holds is no matter, it is read as it comes."""
    with World() as world:
        server = world.server.create_server((SERVER, 80))
        client = world.client.create_connection((SERVER, 80))
        inside, _ = server.accept()
        client.settimeout(5)
        client.inner.sk.rcvlowat = 4
        for piece in (b"ab", b"cd", b"ef"):
            inside.sendall(piece)
            world.client.run(0.3)
        assert client.recv(100) == b"abcdef"
        inside.sendall(b"abc")
        assert client.recv(100) == b"abc"  # its patience is over
        inside.sendall(b"abc")
        inside.close()
        assert client.recv(1 << 20, MSG_WAITALL) == b"abc"
        assert client.recv(1 << 20, MSG_WAITALL) == b""
        client.close()
        client = world.client.create_connection((SERVER, 80))
        inside, _ = server.accept()
        inside.settimeout(0)
        sent = inside.send(bytes(50_000))
        assert len(client.recv(sent, MSG_WAITALL)) == sent
        client.close()
        inside.close()


class Later(Timer):
    """Sends two bytes more."""

    def __init__(self, sk: Sock) -> None:
        super().__init__()
        self.sk = sk

    def fire(self) -> None:
        self.sk.sendmsg(b"cd", 0, 0, -1)


def test_a_look_that_waits_for_all_leaves_it_all_there() -> None:
    """MSG_PEEK with MSG_WAITALL: the read after it finds the same."""
    with World() as world:
        server = world.server.create_server((SERVER, 80))
        client = world.client.create_connection((SERVER, 80))
        inside, _ = server.accept()
        client.settimeout(5)
        inside.sendall(b"ab")
        world.client.run(0.3)
        sk = inside.inner.sk
        sk.net.timers.mod_timer(Later(sk), sk.net.now + 10**9)
        assert client.recv(4, MSG_PEEK | MSG_WAITALL) == b"abcd"
        assert client.recv(5, MSG_PEEK | MSG_WAITALL) == b"abcd"  # its patience is over
        assert client.recv(2, MSG_PEEK) == b"ab"
        assert client.recv(4, MSG_WAITALL) == b"abcd"
        inside.sendall(b"e")
        inside.close()
        assert client.recv(9, MSG_PEEK | MSG_WAITALL) == b"e" == client.recv(9)
        assert client.recv(9, MSG_PEEK | MSG_WAITALL) == b""
        client.close()


def test_a_buffer_may_be_changed_once_send_has_returned() -> None:
    with World("echo") as world:
        buffer = bytearray(b"first")
        with world.client.create_connection((SERVER, 7)) as sock:
            sock.sendall(buffer)
            buffer[:] = b"other"
            assert sock.recv(100) == b"first"


def test_timeouts_are_in_virtual_seconds() -> None:
    with World("echo") as world, world.client.create_connection((SERVER, 7)) as sock:
        before = world.lab.now
        sock.settimeout(1000)
        with pytest.raises(TimeoutError):
            sock.recv(1)
        assert world.lab.now - before == 1000 * 10**9
        sock.setblocking(False)
        with pytest.raises(BlockingIOError):
            sock.recv(1)
        assert sock.gettimeout() == 0
        with pytest.raises(ValueError, match="Timeout"):
            sock.settimeout(-1)


def test_waiting_for_what_can_never_happen_says_so() -> None:
    """In a lab, where nobody else could make it happen."""
    with World() as world:
        server = world.server.create_server((SERVER, 80))
        with pytest.raises(OSError) as seen:
            server.accept()
        assert seen.value.errno == errno.EDEADLK


def test_refused_and_unreachable() -> None:
    with World() as world:
        with pytest.raises(ConnectionRefusedError):
            world.client.create_connection((SERVER, 80))
        with pytest.raises(OSError) as seen:
            world.client.create_connection(("203.0.113.1", 80))
        assert seen.value.errno == errno.ENETUNREACH


def test_nobody_at_home() -> None:
    """No answer to ARP: EHOSTUNREACH, as Linux has it after three questions."""
    with World() as world:
        with pytest.raises(OSError) as seen:
            world.client.create_connection(("192.0.2.77", 80))
        assert seen.value.errno == errno.EHOSTUNREACH


def test_datagrams() -> None:
    with World() as world, world.server.socket(type=2) as server, world.client.socket(type=2) as client:
        server.bind((SERVER, 53))
        client.bind((CLIENT, 1053))
        assert client.sendto(b"muffin", (SERVER, 53)) == 6
        assert server.recvfrom(100) == (b"muffin", (CLIENT, 1053))


def test_recv_into() -> None:
    with World("echo") as world, world.client.create_connection((SERVER, 7)) as sock:
        sock.sendall(b"muffin")
        buffer = bytearray(10)
        assert sock.recv_into(buffer) == 6
        assert bytes(buffer) == b"muffin\0\0\0\0"


@pytest.mark.parametrize("seed", range(5))
def test_a_bad_cable_loses_nothing_of_a_stream(seed: int) -> None:
    bad = Impairments(delay=2_000_000, jitter=500_000, loss=0.1, duplicate=0.05, reorder=0.1, corrupt=0.01)
    data = random.Random(seed).randbytes(50_000)
    with World("echo", impairments=bad, seed=seed) as world:
        assert world.exchange(7, data) == data


def test_the_same_seed_is_the_same_run() -> None:
    def run() -> tuple[int, dict[str, int]]:
        with World("echo", impairments=Impairments(delay=1_000_000, loss=0.2), seed=7) as world:
            world.exchange(7, bytes(20_000))
            return int(world.lab.now), world.client.net_stack.net.mib.snapshot()

    assert run() == run()


def test_run_gives_the_stack_time() -> None:
    with World() as world:
        world.client.run(2.5)
        assert world.lab.now == 2_500_000_000


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({}, "a tap or a lab"),
        ({"tap": "us0", "lab": Lab()}, "a tap or a lab"),
        ({"lab": Lab(), "addr": "192.0.2"}, "bad address"),
        ({"lab": Lab(), "addr": ["192.0.2.1/24", "x"]}, "bad address"),
        ({"lab": Lab(), "addr": "192.0.2.1/24", "gateway": "203.0.113.1"}, "gateway 203.0.113.1"),
        ({"lab": Lab(), "mtu": 5}, "bad mtu"),
    ],
)
def test_what_cannot_be_is_said(arguments: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        ustack.Stack(**arguments)  # type: ignore[arg-type]


def test_an_unknown_service() -> None:
    with World() as world, pytest.raises(ConfigError, match="unknown service 'ftp'"):
        world.server.serve("ftp")


def test_so_linger_makes_close_wait() -> None:
    """socket(7): "a close(2) or shutdown(2) will not return until all queued messages [...] have been successfully sent
    or the linger timeout has been reached"."""
    with World() as world:
        server = world.server.create_server((SERVER, 80))
        client = world.client.create_connection((SERVER, 80))
        inside, _ = server.accept()
        client.setsockopt(1, 13, struct.pack("=ii", 1, 30))
        client.sendall(bytes(50_000))
        client.close()
        tp = client.inner.sk
        assert isinstance(tp, TcpControl) and tp.state in (TCP_FIN_WAIT2, TCP_CLOSE), "the FIN has been acknowledged"
        assert len(inside.recvall()) == 50_000
        inside.close()


def test_so_linger_does_not_wait_for_ever() -> None:
    with World() as world:
        server = world.server.create_server((SERVER, 80))
        client = world.client.create_connection((SERVER, 80))
        inside, _ = server.accept()
        client.setsockopt(1, 13, struct.pack("=ii", 1, 2))
        client.settimeout(1)
        with pytest.raises(TimeoutError):
            client.sendall(bytes(20_000_000))  # the other side does not read
        before = world.client.clock.now()
        client.close()
        assert world.client.clock.now() - before == 2_000_000_000
        inside.close()


def test_options_by_value_and_by_bytes() -> None:
    with World() as world:
        sock = world.client.socket()
        assert sock.getsockopt(6, 13, 16) == b"cubic".ljust(16, b"\0")
        assert sock.getsockopt(6, 2) == 536 and sock.getsockopt(6, 2, 2) == struct.pack("=H", 536)
        assert len(bytes(sock.getsockopt(6, 11, 1000))) == 280
        sock.close()
