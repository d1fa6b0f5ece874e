"""A page to look at, and bodies to measure with: HTTP/1.1 as far as curl and browsers need it (RFC 9112).

    GET  /            what this is
    GET  /bytes/N     N bytes of the chargen pattern
    PUT, POST /...    answers length and SHA-256 of the body as JSON

Connections persist. Request heads are at most HEAD_MAX bytes; what is malformed gets its status and a close.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Final

from ustack.io.services import BLOCK, CHUNK, HTTP_PORT, PATTERN, TURN, Connection, TcpService, send_pieces
from ustack.tcp.receive import tcp_read_sock

if TYPE_CHECKING:
    from ustack.inet.socket import Socket
    from ustack.io.loop import Loop
    from ustack.packet import Buffer

HEAD_MAX: Final = 16_384
CHUNK_LINE_MAX: Final = 256
#: Longest body that /bytes/N sends.
BYTES_MAX: Final = 1 << 40

PAGE: Final = b"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>ustack</title></head>
<body><h1>ustack</h1>
<p>This page came through a TCP/IP stack that is written in Python.</p>
<p><a href="/bytes/1000000">/bytes/1000000</a> is a million bytes; a PUT or POST is answered with its SHA-256.</p>
</body></html>
"""

REASONS: Final = {
    100: "Continue",
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    413: "Content Too Large",
    431: "Request Header Fields Too Large",
    501: "Not Implemented",
    505: "HTTP Version Not Supported",
}

#: Where the reader of a request is.
HEAD, BODY, CHUNK_SIZE, CHUNK_DATA, CHUNK_END, TRAILERS = range(6)


class HttpError(Exception):
    """A request that is answered with ``status`` and a close."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status: int = status


class Request:
    """A request line and the fields that matter here."""

    def __init__(self, head: bytes) -> None:
        """``head``: everything before the empty line. Raises HttpError."""
        lines = head.decode("latin-1").split("\r\n")
        words = lines[0].split(" ")
        if len(words) != 3 or not words[2].startswith("HTTP/"):
            raise HttpError(400)
        if words[2] not in ("HTTP/1.1", "HTTP/1.0"):
            raise HttpError(505)
        self.method: str = words[0]
        self.path: str = words[1].partition("?")[0]
        fields = parse_fields(lines[1:])
        connection = fields.get("connection", "").lower()
        self.persist: bool = connection == "keep-alive" if words[2] == "HTTP/1.0" else connection != "close"
        self.chunked: bool = fields.get("transfer-encoding", "").lower() == "chunked"
        if "transfer-encoding" in fields and not self.chunked:
            raise HttpError(501)
        self.length: int = content_length(fields.get("content-length", "0"))
        self.expects: bool = fields.get("expect", "").lower() == "100-continue"


def parse_fields(lines: list[str]) -> dict[str, str]:
    """Names in lower case. Raises HttpError 400 for a line without a colon, or one that is folded or repeated badly."""
    fields: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not name or name != name.strip():
            raise HttpError(400)
        fields[name.lower()] = value.strip()
    return fields


def content_length(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 16):
        raise HttpError(400)
    return int(text)


class HttpConnection(Connection):
    """Requests in, answers out, one after the other."""

    def __init__(self, service: TcpService, sock: Socket) -> None:
        super().__init__(service, sock)
        self.buffer: bytes = b""  # received, not yet understood
        self.state: int = HEAD
        self.request: Request | None = None
        self.left: int = 0  # of the body, or of a chunk
        self.size: int = 0  # of the body so far
        self.digest = hashlib.sha256()
        self.held: list[Buffer] = []  # answers to be sent
        self.stream: int = 0  # bytes of the pattern to be sent after them
        self.offset: int = 0
        self.ending: bool = False  # close once everything is sent

    def work(self) -> None:
        """Send what waits, and only then read on: a client that does not read is not read either."""
        moved = 0
        while not self.closed and moved < TURN:
            sent = self.send()
            if sent < 0 or (self.ending and not self.waiting()):
                self.close()
            elif self.waiting():
                return
            else:
                size = self.receive()
                if not size and not self.held and not self.stream:
                    if self.at_end():
                        self.close()
                    return
                moved += size + sent
        if not self.closed:
            self.loop.later(self)

    # -- out

    def waiting(self) -> bool:
        return bool(self.held) or self.stream > 0

    def send(self) -> int:
        """Bytes sent, -1 if the connection is broken."""
        sent = send_pieces(self.sock, self.held)
        if sent < 0 or self.held or not self.stream:
            return int(sent)
        return self.send_stream()

    def send_stream(self) -> int:
        total = 0
        while self.stream:
            size = min(self.stream, CHUNK)
            try:
                taken = self.sock.send(BLOCK[self.offset : self.offset + size])
            except BlockingIOError:
                break
            except OSError:
                return -1
            total += taken
            self.stream -= taken
            self.offset = (self.offset + taken) % len(PATTERN)
        return total

    def answer(self, status: int, kind: str, body: bytes, length: int | None = None, closing: bool = False) -> None:
        """``length``: of a body that follows as a stream, or that HEAD only talks about."""
        size = len(body) if length is None else length
        head = f"HTTP/1.1 {status} {REASONS[status]}\r\nServer: ustack\r\nContent-Length: {size}\r\n"
        head += f"Content-Type: {kind}\r\n" + ("Connection: close\r\n\r\n" if closing else "\r\n")
        self.held.append(head.encode() + body)
        self.ending = self.ending or closing

    # -- in

    def receive(self) -> int:
        """Take in what has come and answer what is complete; the bytes taken in."""
        size = 0
        for piece in tcp_read_sock(self.tp, TURN):
            size += len(piece)
            if not self.ending:
                self.feed(piece)
        if size == 0 and self.buffer and not self.ending and self.state == HEAD:
            self.feed(b"")  # a pipelined request that waited for the answer before it
        return size

    def feed(self, piece: Buffer) -> None:
        try:
            if self.state in (BODY, CHUNK_DATA) and not self.buffer:
                rest = self.take_body(piece)
            else:
                rest = self.buffer + piece
            self.buffer = b""
            self.buffer = self.parse(bytes(rest))
        except HttpError as mistake:
            self.buffer = b""
            self.answer(mistake.status, "text/plain", f"{REASONS[mistake.status]}\n".encode(), closing=True)

    def take_body(self, piece: Buffer) -> Buffer:
        """Digest what belongs to the body; what comes after it."""
        view = memoryview(piece)
        size = min(self.left, len(view))
        self.digest.update(view[:size])
        self.size += size
        self.left -= size
        if self.left == 0:
            self.state = CHUNK_END if self.state == CHUNK_DATA else HEAD
            if self.state == HEAD:
                self.respond()
        return view[size:]

    def parse(self, data: bytes) -> bytes:
        """Go on from ``state`` as far as ``data`` reaches; what is left of it."""
        while data and not self.ending:
            if self.state == HEAD and (self.held or self.stream):
                return data  # the answer to the last request goes first
            if self.state in (BODY, CHUNK_DATA):
                data = bytes(self.take_body(data))
                continue
            mark = b"\r\n\r\n" if self.state == HEAD else b"\r\n"
            limit = HEAD_MAX if self.state == HEAD else CHUNK_LINE_MAX
            line, found, rest = data.partition(mark)
            if len(line) > limit:
                raise HttpError(431)
            if not found:
                return data
            data = rest
            self.take_line(line)
        return data

    def take_line(self, line: bytes) -> None:
        """A head, or a line of the chunked coding (RFC 9112 section 7.1)."""
        if self.state == HEAD:
            self.begin(Request(line))
        elif self.state == CHUNK_SIZE:
            self.begin_chunk(line)
        elif self.state == CHUNK_END:
            if line:
                raise HttpError(400)
            self.state = CHUNK_SIZE
        elif not line:  # the end of the trailers
            self.state = HEAD
            self.respond()

    def begin(self, request: Request) -> None:
        self.request = request
        self.digest = hashlib.sha256()
        self.size = 0
        self.left = request.length
        if request.expects and (request.chunked or request.length):
            # RFC 9110 10.1.1: the client waits for it, or for an error
            self.held.append(b"HTTP/1.1 100 Continue\r\n\r\n")
        if request.chunked:
            self.state = CHUNK_SIZE
        elif self.left:
            self.state = BODY
        else:
            self.respond()

    def begin_chunk(self, line: bytes) -> None:
        text = line.partition(b";")[0].strip()
        try:
            self.left = int(text, 16) if text.isalnum() and len(text) < 16 else -1
        except ValueError:
            self.left = -1
        if self.left < 0:
            raise HttpError(400)
        self.state = CHUNK_DATA if self.left else TRAILERS

    # -- answers

    def respond(self) -> None:
        """The request is complete."""
        request = self.request
        assert request is not None
        self.request = None
        closing = not request.persist
        if request.method in ("PUT", "POST"):
            body = json.dumps({"length": self.size, "sha256": self.digest.hexdigest()}) + "\n"
            self.answer(200, "application/json", body.encode(), closing=closing)
        elif request.method in ("GET", "HEAD"):
            self.respond_get(request, closing)
        else:
            raise HttpError(405)

    def respond_get(self, request: Request, closing: bool) -> None:
        bare = request.method == "HEAD"
        if request.path in ("/", "/index.html"):
            self.answer(200, "text/html; charset=utf-8", b"" if bare else PAGE, len(PAGE), closing)
        elif request.path.startswith("/bytes/"):
            size = content_length(request.path[len("/bytes/") :])
            if size > BYTES_MAX:
                raise HttpError(413)
            self.answer(200, "application/octet-stream", b"", size, closing)
            self.stream = 0 if bare else size
            self.offset = 0
        else:
            self.answer(404, "text/plain", b"" if bare else b"Not Found\n", len(b"Not Found\n"), closing)


class Http(TcpService):
    """The web server on one port."""

    def __init__(self, loop: Loop, port: int = HTTP_PORT) -> None:
        super().__init__(loop, port)

    def accept(self, sock: Socket) -> Connection:
        return HttpConnection(self, sock)
