"""The control protocol: what travels on the daemon's UNIX SOCK_SEQPACKET socket, and how it is cut into messages.

One request, one answer, in order. A message is one MessagePack object (msgspec) with its kind under ``type``; the
first request of a connection is Hello with the version, anything else is refused and the connection closed. No
request waits for the network: a connect answers as soon as the SYN is on its way, so one client never waits for
another. An answer longer than a message comes as Parts whose joined data is the encoded answer. What is asked of
addresses, routes and the like is rtnetlink's (rtnl/messages.py); Monitor makes the connection a stream of Events, and
Trace one of TraceEvents.

Addresses and ports are integers in host order.
"""

from __future__ import annotations

from typing import Final

import msgspec

from ustack.io.trace import TraceEvent
from ustack.rtnl.messages import RtnlAnswer, RtnlRequest

VERSION: Final = 1
#: Longest message in either direction, bytes: well below what a UNIX socket's send buffer takes at once.
MESSAGE_MAX: Final = 65_536
PART_MAX: Final = 60_000

#: Accepted connections reach a listener's descriptor as records of this many bytes, each with one descriptor.
ACCEPTED_LEN: Final = 20
#: Every message on a datagram socket's descriptor begins with this many bytes: address, port, errno or flags.
DATAGRAM_HEADER_LEN: Final = 8


class Hello(msgspec.Struct, tag="hello"):
    """First of all: both sides must speak the same version."""

    version: int


class GetStatus(msgspec.Struct, tag="status"):
    """Asks for Status."""


class Down(msgspec.Struct, tag="down"):
    """Ends the daemon; the connection closes when it is gone."""


class Open(msgspec.Struct, tag="open"):
    """A new socket; the answer is Opened with its descriptor (SCM_RIGHTS)."""

    family: int
    kind: int  #: SOCK_STREAM, SOCK_DGRAM, SOCK_RAW
    protocol: int


class Bind(msgspec.Struct, tag="bind"):
    id: int
    addr: int
    port: int


class Connect(msgspec.Struct, tag="connect"):
    """Starts a connect. ``stuffed``: bytes the client wrote into a stream's descriptor beforehand.

    They are taken out again when the connect ends, either way: so the descriptor becomes writable exactly then, as a
    TCP socket's does. What became of it is SO_ERROR's to tell.
    """

    id: int
    addr: int
    port: int
    stuffed: int = 0


class Disconnect(msgspec.Struct, tag="disconnect"):
    """connect() with AF_UNSPEC."""

    id: int


class Listen(msgspec.Struct, tag="listen"):
    id: int
    backlog: int


class GetName(msgspec.Struct, tag="getname"):
    """Asks for Name: the local one, or the peer's."""

    id: int
    peer: bool


class SetOption(msgspec.Struct, tag="setsockopt"):
    id: int
    level: int
    name: int
    value: int | bytes


class GetOption(msgspec.Struct, tag="getsockopt"):
    """``room``: bytes that the value may have in its C form; None for the plain value, an int where it is one."""

    id: int
    level: int
    name: int
    room: int | None = None


class Ioctl(msgspec.Struct, tag="ioctl"):
    """SIOCATMARK and its like; the answer is an Option."""

    id: int
    command: int


class Shutdown(msgspec.Struct, tag="shutdown"):
    """For datagram sockets; a stream's half-close is shutdown() of its descriptor."""

    id: int
    how: int  #: SHUT_RD, SHUT_WR, SHUT_RDWR


class Done(msgspec.Struct, tag="done"):
    """It is done."""


class Failed(msgspec.Struct, tag="failed"):
    """It is not: the errno and its text."""

    errno: int
    text: str


class Opened(msgspec.Struct, tag="opened"):
    id: int


class Name(msgspec.Struct, tag="name"):
    addr: int
    port: int


class Option(msgspec.Struct, tag="option"):
    value: int | bytes


class Part(msgspec.Struct, tag="part"):
    """A piece of an answer that is longer than a message."""

    data: bytes
    last: bool


class GetSockets(msgspec.Struct, tag="getsockets"):
    """Asks for Sockets (inet_diag): of which kinds, in which states."""

    kinds: list[str]  #: tcp, udp, raw
    states: int = 0xFFF  #: mask with bit TCP_* set; a TIME_WAIT is one of 1 << 6, a request one of 1 << 3


class SocketDiag(msgspec.Struct):
    """One socket with all that ``ss`` shows; queues in bytes, but a listener's in connections."""

    kind: str
    state: int
    recv_queue: int
    send_queue: int
    laddr: int
    lport: int
    raddr: int
    rport: int
    dev: str = ""  #: that it is bound to
    uid: int = 0
    ino: int = 0  #: 0 without an owner
    cookie: int = 0
    mark: int = 0
    tos: int = 0
    shutdown: int = -1  #: RCV_SHUTDOWN, SEND_SHUTDOWN; -1 for none to shut down
    timer: str = ""  #: on, keepalive, timewait, persist
    expires: int = 0  #: ms
    retrans: int = 0
    meminfo: list[int] = []
    congestion: str = ""
    info: dict[str, int] = {}  #: struct tcp_info, without tcpi_
    cc_info: bytes = b""


class Sockets(msgspec.Struct, tag="sockets"):
    """``orphans``: connections without an owner, which are among the sockets."""

    sockets: list[SocketDiag]
    orphans: int


class Trace(msgspec.Struct, tag="trace"):
    """Answered with Done, and then with a TraceEvent for every packet that the filter accepts, once its way is over."""

    program: list[tuple[int, int, int, int]]  #: classic BPF on Ethernet frames: code, jt, jf, k


class DeviceStatus(msgspec.Struct):
    """One device; ``stats`` by the names of rtnl_link_stats64, ``rings`` frames waiting in each."""

    name: str
    ifindex: int
    mac: str
    mtu: int
    flags: list[str]
    addresses: list[str]
    stats: dict[str, int]
    rings: dict[str, int]


class NeighbourStatus(msgspec.Struct):
    address: str
    dev: str
    mac: str
    state: str


class SocketStatus(msgspec.Struct):
    """One socket as ``ss`` shows it; queues in bytes."""

    protocol: str
    state: str
    local: str
    peer: str
    recv_queue: int
    send_queue: int


class Status(msgspec.Struct, tag="state"):
    """What ``ustack status`` shows. ``uptime`` in seconds; ``counters`` by Group.Name, only those that moved."""

    version: str
    pid: int
    uptime: float
    devices: list[DeviceStatus]
    neighbours: list[NeighbourStatus]
    sockets: list[SocketStatus]
    drops: dict[str, int]
    counters: dict[str, int]


ChannelRequest = Bind | Connect | Disconnect | Listen | GetName | SetOption | GetOption | Ioctl | Shutdown
Request = Hello | GetStatus | GetSockets | Down | Open | ChannelRequest | Trace | RtnlRequest
Answer = Done | Failed | Opened | Name | Option | Status | Sockets | Part | TraceEvent | RtnlAnswer


class ProtocolError(ValueError):
    """The other side does not speak this protocol, or not this version."""


_requests: Final[msgspec.msgpack.Decoder[Request]] = msgspec.msgpack.Decoder(Request)
_answers: Final[msgspec.msgpack.Decoder[Answer]] = msgspec.msgpack.Decoder(Answer)
_encoder: Final = msgspec.msgpack.Encoder()


def encode_request(request: Request) -> bytes:
    return _encoder.encode(request)


def decode_request(message: bytes) -> Request:
    """Raises ProtocolError for anything but a request, whatever the bytes."""
    try:
        return _requests.decode(message)
    except (msgspec.MsgspecError, ValueError, RecursionError) as mistake:
        raise ProtocolError(f"not a request: {mistake}") from None


def encode_answer(answer: Answer) -> list[bytes]:
    """The messages that carry ``answer``: itself, or as many Parts as it takes."""
    whole = _encoder.encode(answer)
    if len(whole) <= PART_MAX:
        return [whole]
    pieces = [whole[at : at + PART_MAX] for at in range(0, len(whole), PART_MAX)]
    return [_encoder.encode(Part(piece, piece is pieces[-1])) for piece in pieces]


class AnswerReader:
    """Joins Parts: feed it messages until it has an answer."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def feed(self, message: bytes) -> Answer | None:
        """The answer, or None while more Parts are to come. Raises ProtocolError."""
        answer = decode_answer(message)
        if not isinstance(answer, Part):
            return answer
        self._parts.append(answer.data)
        if not answer.last:
            return None
        whole = b"".join(self._parts)
        self._parts.clear()
        return decode_answer(whole)


def decode_answer(message: bytes) -> Answer:
    """Raises ProtocolError for anything but an answer."""
    try:
        return _answers.decode(message)
    except (msgspec.MsgspecError, ValueError, RecursionError) as mistake:
        raise ProtocolError(f"not an answer: {mistake}") from None


def encode_accepted(socket_id: int, addr: int, port: int) -> bytes:
    """The record that brings an accepted connection: its id and its peer."""
    return socket_id.to_bytes(8, "big") + addr.to_bytes(4, "big") + port.to_bytes(2, "big") + bytes(6)


def decode_accepted(record: bytes) -> tuple[int, int, int]:
    """(id, address, port). Raises ProtocolError for a record of another length."""
    if len(record) != ACCEPTED_LEN:
        raise ProtocolError(f"a record of {len(record)} bytes, {ACCEPTED_LEN} expected")
    return int.from_bytes(record[:8], "big"), int.from_bytes(record[8:12], "big"), int.from_bytes(record[12:14], "big")


def encode_datagram_header(addr: int, port: int, code: int = 0) -> bytes:
    """Towards the client: where it came from, or the errno of a pending error with address 0 and no payload.

    From the client: where it shall go; port 0 with address 0 is the connected peer. ``code`` carries send flags then.
    """
    return addr.to_bytes(4, "big") + port.to_bytes(2, "big") + code.to_bytes(2, "big")


def decode_datagram_header(message: bytes) -> tuple[int, int, int]:
    """(address, port, code). Raises ProtocolError for a message that is too short to have one."""
    if len(message) < DATAGRAM_HEADER_LEN:
        raise ProtocolError(f"a datagram of {len(message)} bytes without its header")
    return int.from_bytes(message[:4], "big"), int.from_bytes(message[4:6], "big"), int.from_bytes(message[6:8], "big")
