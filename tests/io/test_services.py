"""The services, by their RFCs, over a cable in virtual time."""

from __future__ import annotations

import random
import socket

import pytest

from tests.io.world import CLIENT, SERVER, World
from ustack.device.cable import Impairments
from ustack.io.services import BLOCK, CHUNK, LOOPING_PORTS, PATTERN

SOCK_DGRAM = socket.SOCK_DGRAM


def noise(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


# -- echo, RFC 862


@pytest.mark.parametrize("size", [0, 1, 1460, 100_000, 3_000_000])
def test_echo_returns_everything_and_then_closes(size: int) -> None:
    """ "this data is sent back": also what does not fit into any buffer at once."""
    with World("echo") as world, world.client.create_connection((SERVER, 7), timeout=60) as sock:
        data = noise(size)
        sock.settimeout(0)
        sent, got = 0, bytearray()
        while sent < size or len(got) < size:
            try:
                sent += sock.send(data[sent : sent + 65_536])
            except BlockingIOError:
                pass
            try:
                got += sock.recv(1 << 20)
            except BlockingIOError:
                world.client.run(0.001)
        sock.settimeout(60)
        sock.shutdown(1)
        assert sock.recv(1) == b""
        assert bytes(got) == data


def test_echo_stops_reading_when_its_answers_are_not_read() -> None:
    """Its memory is bounded: the window closes instead."""
    with World("echo") as world, world.client.create_connection((SERVER, 7)) as sock:
        sock.settimeout(0)
        sent = 0
        for _ in range(2000):
            try:
                sent += sock.send(bytes(65_536))
            except BlockingIOError:
                world.client.run(0.1)
        assert sent < 40 << 20
        sock.settimeout(60)
        left = sent
        while left:
            left -= len(sock.recv(1 << 20))


def test_echo_on_a_bad_cable() -> None:
    bad = Impairments(delay=1_000_000, loss=0.05, duplicate=0.02, reorder=0.1, corrupt=0.005)
    with World("echo", impairments=bad) as world:
        data = noise(100_000)
        assert world.exchange(7, data) == data


def test_udp_echo() -> None:
    with World("echo") as world, world.client.socket(type=SOCK_DGRAM) as sock:
        for size in (0, 1, 1472, 1473, 60_000):
            sock.settimeout(1)
            data = noise(size)
            sock.sendto(data, (SERVER, 7))
            assert sock.recvfrom(65_535) == (data, (SERVER, 7))


@pytest.mark.parametrize("port", LOOPING_PORTS)
def test_udp_echo_never_talks_to_another_service(port: int) -> None:
    """CVE-1999-0103, CVE-2024-2169: two services that answer each other do so for ever."""
    with World("echo") as world, world.client.socket(type=SOCK_DGRAM) as sock:
        sock.bind((CLIENT, port))
        sock.settimeout(1)
        sock.sendto(b"go on", (SERVER, 7))
        with pytest.raises(TimeoutError):
            sock.recv(100)


def test_udp_echo_of_many_at_once() -> None:
    with World("echo") as world, world.client.socket(type=SOCK_DGRAM) as sock:
        sock.settimeout(1)
        sock.sendto(b"resolve", (SERVER, 7))
        sock.recv(10)
        for n in range(150):
            sock.sendto(b"%d" % n, (SERVER, 7))
        assert {sock.recv(10) for _ in range(150)} == {b"%d" % n for n in range(150)}


# -- discard, RFC 863


def test_discard_reads_all_and_says_nothing() -> None:
    with World("discard") as world:
        assert world.exchange(9, noise(2_000_000)) == b""
        counters = world.server.net_stack.net.mib.snapshot()
        assert counters["TcpExt.TCPToZeroWindowAdv"] == 0, "it reads as fast as it is sent to"


def test_udp_discard_says_nothing_and_keeps_nothing() -> None:
    with World("discard") as world, world.client.socket(type=SOCK_DGRAM) as sock:
        sock.settimeout(1)
        for _ in range(500):
            sock.sendto(bytes(1000), (SERVER, 9))
        with pytest.raises(TimeoutError):
            sock.recv(100)
        assert world.server.net_stack.net.mib.udp.RcvbufErrors == 0


# -- chargen, RFC 864


def test_the_pattern_is_the_popular_one() -> None:
    lines = PATTERN.split(b"\r\n")
    assert lines.pop() == b""
    assert len(lines) == 95 and {len(line) for line in lines} == {72}
    assert lines[0].startswith(b' !"#') and lines[1].startswith(b'!"#$')
    assert set(b"".join(lines)) == set(range(0x20, 0x7F))


def test_a_chunk_from_anywhere_in_the_pattern_lies_in_the_block() -> None:
    assert len(BLOCK) >= len(PATTERN) + CHUNK and len(BLOCK) % len(PATTERN) == 0


def test_chargen_sends_the_pattern_without_end_or_seam() -> None:
    with World("chargen") as world, world.client.create_connection((SERVER, 19), timeout=10) as sock:
        got = bytearray()
        while len(got) < 2_000_000:
            got += sock.recv(300_000)
        whole = PATTERN * (len(got) // len(PATTERN) + 1)
        assert got == whole[: len(got)]


def test_chargen_ignores_what_it_is_sent_and_ends_with_its_user() -> None:
    with World("chargen") as world:
        sock = world.client.create_connection((SERVER, 19), timeout=10)
        sock.sendall(noise(500_000))
        assert sock.recv(100)
        sock.close()
        world.client.run(1)
        assert not world.server.net_stack.tcp.tables.ehash, "the connection is gone"


# -- all of them


@pytest.mark.parametrize(("service", "port"), [("echo", 7), ("discard", 9), ("chargen", 19), ("http", 80)])
def test_a_reset_leaves_nothing_behind(service: str, port: int) -> None:
    with World(service) as world:
        sock = world.client.create_connection((SERVER, port), timeout=10)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        sock.close()
        world.client.run(1)
        assert not world.server.net_stack.tcp.tables.ehash


@pytest.mark.parametrize(("service", "port"), [("echo", 7), ("discard", 9), ("http", 80)])
def test_hundred_connections_one_after_the_other(service: str, port: int) -> None:
    with World(service) as world:
        for _ in range(100):
            assert world.exchange(port, b"") == b""
        assert world.server.net_stack.net.mib.tcp.PassiveOpens == 100
        world.client.run(120)
        for stack in (world.client, world.server):
            tables = stack.net_stack.tcp.tables
            assert not tables.ehash and not tables.timewait and not tables.requests


def test_a_port_that_is_taken() -> None:
    with World("echo") as world, pytest.raises(OSError, match="Address already in use"):
        world.server.serve("echo")


def test_nothing_is_served_that_was_not_asked_for() -> None:
    with World("echo") as world:
        for port in (9, 19, 80):
            with pytest.raises(ConnectionRefusedError):
                world.client.create_connection((SERVER, port), timeout=10)
