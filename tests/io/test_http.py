"""The web server, as far as RFC 9112 obliges it, over a cable in virtual time."""

from __future__ import annotations

import hashlib
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.io.world import SERVER, World
from ustack.io.http import HEAD_MAX, PAGE
from ustack.io.services import PATTERN

HOST = b"Host: 192.0.2.2\r\n"


def ask(world: World, request: bytes) -> bytes:
    return world.exchange(80, request)


def split(answer: bytes) -> tuple[int, dict[str, str], bytes]:
    """(status, fields, rest)."""
    head, _, rest = answer.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    fields = dict(line.split(": ", 1) for line in lines[1:])
    return int(lines[0].split(" ")[1]), fields, rest


def get(path: str, *fields: str) -> bytes:
    return b"\r\n".join([f"GET {path} HTTP/1.1".encode(), *(f.encode() for f in fields)]) + b"\r\n" + HOST + b"\r\n"


def test_the_page() -> None:
    with World("http") as world:
        status, fields, body = split(ask(world, get("/")))
    assert status == 200 and body == PAGE
    assert fields["Content-Length"] == str(len(PAGE)) and fields["Content-Type"].startswith("text/html")


@pytest.mark.parametrize("size", [0, 1, 7029, 7030, 1_000_000])
def test_bytes(size: int) -> None:
    with World("http") as world:
        status, fields, body = split(ask(world, get(f"/bytes/{size}")))
    assert (status, fields["Content-Length"]) == (200, str(size))
    assert body == (PATTERN * (size // len(PATTERN) + 1))[:size]


def test_a_large_body_down_does_not_fill_the_memory() -> None:
    """It is sent as views of one block, as fast as it is read."""
    with World("http") as world, world.client.create_connection((SERVER, 80), timeout=60) as sock:
        sock.sendall(get("/bytes/20000000"))
        left = 20_000_000
        answer = sock.recv(65_536)
        left -= len(split(answer)[2])
        while left:
            left -= len(sock.recv(1 << 20))


@pytest.mark.parametrize("method", ["PUT", "POST"])
@pytest.mark.parametrize("size", [0, 1, 1000, 2_000_000])
def test_a_body_up_is_digested(method: str, size: int) -> None:
    body = bytes(range(256)) * (size // 256) + bytes(size % 256)
    request = f"{method} /x HTTP/1.1\r\nContent-Length: {len(body)}\r\n".encode() + HOST + b"\r\n" + body
    with World("http") as world:
        status, _, answer = split(ask(world, request))
    assert status == 200
    assert json.loads(answer) == {"length": len(body), "sha256": hashlib.sha256(body).hexdigest()}


def test_a_chunked_body() -> None:
    """RFC 9112 7.1, with an extension and trailers, which are read and ignored."""
    chunks = b"5;name=value\r\nhello\r\n1\r\n,\r\n6\r\n world\r\n0\r\nTrailer: x\r\n\r\n"
    request = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n" + HOST + b"\r\n" + chunks
    with World("http") as world:
        _, _, answer = split(ask(world, request))
    assert json.loads(answer) == {"length": 12, "sha256": hashlib.sha256(b"hello, world").hexdigest()}


def test_expect_100_continue() -> None:
    """RFC 9110 10.1.1: curl waits for it before it sends a large body."""
    with World("http") as world, world.client.create_connection((SERVER, 80), timeout=10) as sock:
        sock.sendall(b"PUT / HTTP/1.1\r\nContent-Length: 2\r\nExpect: 100-continue\r\n" + HOST + b"\r\n")
        assert sock.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        sock.sendall(b"hi")
        assert b'"length": 2' in sock.recv(1000)


def test_a_connection_persists_and_requests_may_be_pipelined() -> None:
    with World("http") as world:
        answer = ask(world, get("/bytes/10") + get("/bytes/20") + get("/nowhere") + get("/bytes/5"))
    sizes = []
    while answer:
        status, fields, rest = split(answer)
        size = int(fields["Content-Length"])
        sizes.append((status, size))
        answer = rest[size:]
    assert sizes == [(200, 10), (200, 20), (404, 10), (200, 5)]


@pytest.mark.parametrize("request_head", [b"GET / HTTP/1.0\r\n\r\n", b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n"])
def test_a_connection_that_shall_close_closes(request_head: bytes) -> None:
    with World("http") as world, world.client.create_connection((SERVER, 80), timeout=10) as sock:
        sock.sendall(request_head)
        status, fields, body = split(sock.recvall())
        assert (status, fields["Connection"], body) == (200, "close", PAGE)


def test_http_1_0_may_ask_to_stay() -> None:
    with World("http") as world:
        request = b"GET /bytes/3 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"
        assert ask(world, request * 2).count(b"200 OK") == 2


def test_head_has_no_body() -> None:
    with World("http") as world:
        for path in ("/", "/bytes/1000", "/nowhere"):
            status, fields, body = split(ask(world, f"HEAD {path} HTTP/1.1\r\n\r\n".encode()))
            assert body == b"" and int(fields["Content-Length"]) > 0


@pytest.mark.parametrize(
    ("request_head", "status"),
    [
        (b"GET /\r\n\r\n", 400),
        (b"\r\n\r\n", 400),
        (b"GET / HTTP/2.0\r\n\r\n", 505),
        (b"GET / GOPHER/1\r\n\r\n", 400),
        (b"DELETE / HTTP/1.1\r\n\r\n", 405),
        (b"GET / HTTP/1.1\r\nno colon\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n folded: x\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nSpace : x\r\n\r\n", 400),
        (b"PUT / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400),
        (b"PUT / HTTP/1.1\r\nContent-Length: 1_0\r\n\r\n", 400),
        (b"PUT / HTTP/1.1\r\nContent-Length: 99999999999999999\r\n\r\n", 400),
        (b"PUT / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
        (b"PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\n", 400),
        (b"PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
        (b"PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nxx\r\n", 400),
        (b"PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1" * 300, 431),
        (b"GET /bytes/x HTTP/1.1\r\n\r\n", 400),
        (b"GET /bytes/999999999999999 HTTP/1.1\r\n\r\n", 413),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * HEAD_MAX, 431),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * HEAD_MAX + b"\r\n\r\n", 431),
    ],
)
def test_what_is_malformed_gets_its_status_and_a_close(request_head: bytes, status: int) -> None:
    with World("http") as world, world.client.create_connection((SERVER, 80), timeout=10) as sock:
        sock.sendall(request_head)
        got, fields, _ = split(sock.recvall())
    assert (got, fields["Connection"]) == (status, "close")


def test_a_request_byte_by_byte() -> None:
    with World("http") as world, world.client.create_connection((SERVER, 80), timeout=10) as sock:
        for byte in get("/bytes/4"):
            sock.sendall(bytes((byte,)))
            world.client.run(0.05)
        assert split(sock.recv(1000))[2] == b' !"#'


def test_a_request_cut_short_is_no_request() -> None:
    with World("http") as world:
        assert ask(world, get("/")[:-1]) == b""
        assert ask(world, b"PUT / HTTP/1.1\r\nContent-Length: 5\r\n\r\nabc") == b""


@settings(max_examples=30)
@given(st.binary(max_size=300))
def test_any_bytes_are_answered_or_not_and_leave_nothing(request: bytes) -> None:
    with World("http") as world:
        ask(world, request + b"\r\n\r\n")
        world.client.run(70)
        assert not world.server.net_stack.tcp.tables.ehash
