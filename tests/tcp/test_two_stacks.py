"""Two whole stacks on one cable: opens and closes from both sides at once, with and without losses on the way."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import pytest

from tests.harness import MSEC, SEC, A, B, Pair, readable
from tests.tcp.peer import code_of, tcp_sock
from ustack.device.cable import Impairments
from ustack.sock import TCP_CLOSE, TCP_ESTABLISHED
from ustack.tcp.states import State

if TYPE_CHECKING:
    from ustack.inet.socket import Socket


def simultaneous(pair: Pair) -> tuple[Socket, Socket]:
    """Both call each other from their ports 5000 at one instant."""
    one, other = pair.a.socket(), pair.b.socket()
    one.bind((A, 5000))
    other.bind((B, 5000))
    assert code_of(lambda: one.connect((B, 5000))) == errno.EINPROGRESS
    assert code_of(lambda: other.connect((A, 5000))) == errno.EINPROGRESS
    pair.run_until(lambda: one.sk.state == other.sk.state == TCP_ESTABLISHED)
    one.connect((B, 5000))
    other.connect((A, 5000))
    return one, other


def lossy(loss: float) -> Impairments:
    return Impairments(delay=5 * MSEC, loss=loss, duplicate=loss)


@pytest.mark.parametrize("loss", [0.0, 0.3])
@pytest.mark.parametrize("seed", range(5))
def test_simultaneous_open_and_simultaneous_close(seed: int, loss: float) -> None:
    """RFC 9293 figures 8 and 13; nothing is left after 2 MSL."""
    with Pair(seed=seed, there=lossy(loss), back=lossy(loss), resolved=True) as pair:
        one, other = simultaneous(pair)
        one.send(b"from a")
        other.send(b"from b")
        pair.run_until(lambda: readable(one) and readable(other))
        assert (one.recv(10), other.recv(10)) == (b"from b", b"from a")
        one.close()
        other.close()
        pair.run(600 * SEC)
        for stack, sock in ((pair.a, one), (pair.b, other)):
            tables = stack.tcp.tables
            assert sock.sk.state == TCP_CLOSE
            assert not (tables.ehash or tables.timewait or tables.orphans or tables.ports.buckets)


def test_simultaneous_close_without_loss_goes_through_closing_on_both_sides() -> None:
    with Pair(there=lossy(0), back=lossy(0), resolved=True) as pair:
        one, other = simultaneous(pair)
        one.shutdown(1)
        other.shutdown(1)
        pair.run(6 * MSEC)
        assert one.sk.state == other.sk.state == State.CLOSING
        pair.run(6 * MSEC)
        assert len(pair.a.tcp.tables.timewait) == len(pair.b.tcp.tables.timewait) == 1
        assert one.recv(1) == other.recv(1) == b""


@pytest.mark.parametrize("loss", [0.0, 0.2])
@pytest.mark.parametrize("seed", range(5))
def test_a_hundred_short_connections_leave_nothing_but_time_waits(seed: int, loss: float) -> None:
    with Pair(seed=seed, there=lossy(loss), back=lossy(loss), resolved=True) as pair:
        server = pair.b.socket()
        server.bind((B, 80))
        server.listen(128)
        clients = []
        for _ in range(100):
            client = pair.a.socket()
            assert code_of(lambda c=client: c.connect((B, 80))) == errno.EINPROGRESS  # type: ignore[misc]
            clients.append(client)
        served = 0
        while served < 100:
            pair.run_until(lambda: readable(server), 300 * SEC)
            child = server.accept()
            child.send(b"hello")
            child.close()
            served += 1
        pair.run(120 * SEC)
        for client in clients:
            assert tcp_sock(client).state == State.CLOSE_WAIT
            assert client.recv(10) == b"hello" and client.recv(10) == b""
            client.close()
        pair.run(400 * SEC)
        for stack in (pair.a, pair.b):
            tables = stack.tcp.tables
            assert not (tables.ehash or tables.timewait or tables.requests or tables.orphans)
        assert pair.b.net.mib.tcp.CurrEstab == pair.a.net.mib.tcp.CurrEstab == 0
        assert pair.b.net.mib.tcp.PassiveOpens == pair.a.net.mib.tcp.ActiveOpens == 100


def test_a_refused_connection_between_stacks() -> None:
    with Pair(resolved=True) as pair:
        client = pair.a.socket()
        assert code_of(lambda: client.connect((B, 81))) == errno.EINPROGRESS
        pair.run(SEC)
        assert code_of(lambda: client.connect((B, 81))) == errno.ECONNREFUSED


def test_a_host_that_does_not_exist() -> None:
    """No ARP answer: EHOSTUNREACH, long before the SYN's own timeout."""
    with Pair(resolved=True) as pair:
        client = pair.a.socket()
        assert code_of(lambda: client.connect(("192.0.2.99", 80))) == errno.EINPROGRESS
        pair.run(10 * SEC)
        assert code_of(lambda: client.connect(("192.0.2.99", 80))) == errno.EHOSTUNREACH
