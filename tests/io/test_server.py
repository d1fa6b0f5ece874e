"""The control socket's server and the channels, without any network: the stack talks to itself over its loopback."""

from __future__ import annotations

import errno
import os
import select
import socket
import stat
import time
from typing import TYPE_CHECKING

import pytest

from ustack.io import control
from ustack.io.channel import drop_front, stream_pair, unread
from ustack.io.client import receive
from ustack.io.loop import Loop
from ustack.io.server import CLIENTS_MAX, Channels, ControlServer, listen_at
from ustack.io.services import Chargen, Discard, Echo
from ustack.io.status import Reporter
from ustack.stack import Stack

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ustack.packet import Buffer

LOCALHOST = 0x7F00_0001
ROUNDS = 200


class House:
    """A daemon without a device, driven by the test."""

    def __init__(self, directory: Path) -> None:
        self.path = str(directory / "control.sock")
        self.loop = Loop(Stack(bytes(32), time.monotonic_ns()))
        self.server = ControlServer(self.loop, self.path, Reporter(self.loop.stack))

    def spin(self, rounds: int = 10) -> None:
        """Let everything happen that can happen without time going by."""
        for _ in range(rounds):
            self.loop.step(0)

    def close(self) -> None:
        self.server.close()
        self.loop.close()

    def guest(self) -> Guest:
        guest = Guest(self)
        assert guest.ask(control.Hello(control.VERSION)) == control.Done()
        return guest


class Guest:
    """A client that waits for nothing."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.connect(house.path)
        self.socket.setblocking(False)

    def ask(self, request: control.Request) -> control.Answer:
        return self.ask_for_descriptor(request)[0]

    def ask_for_descriptor(self, request: control.Request) -> tuple[control.Answer, int]:
        self.socket.send(control.encode_request(request))
        self.house.spin()
        reader = control.AnswerReader()
        fd = -1
        while True:
            message, came = receive(self.socket, control.MESSAGE_MAX)
            fd = max(fd, came)
            answer = reader.feed(message)
            if answer is not None:
                return answer, fd
            self.house.spin()

    def arrived(self) -> Iterator[bytes]:
        """The messages of a stream that have come so far."""
        while True:
            self.house.spin()
            try:
                message = self.socket.recv(control.MESSAGE_MAX)
            except BlockingIOError:
                return
            if not message:
                return
            yield message

    def failure(self, request: control.Request) -> int:
        answer = self.ask(request)
        assert isinstance(answer, control.Failed)
        assert answer.text
        return answer.errno

    def open(self, kind: int = socket.SOCK_STREAM, protocol: int = 0) -> tuple[int, socket.socket]:
        answer, fd = self.ask_for_descriptor(control.Open(socket.AF_INET, kind, protocol))
        assert isinstance(answer, control.Opened)
        far = socket.socket(fileno=fd)
        far.setblocking(False)
        return answer.id, far

    def connect(self, port: int) -> tuple[int, socket.socket]:
        """A connected stream."""
        socket_id, far = self.open()
        far.send(b"\0")
        assert self.ask(control.Connect(socket_id, LOCALHOST, port, 1)) == control.Done()
        self.house.spin()
        assert writable(far)
        assert self.ask(so_error(socket_id)) == control.Option(0)
        far.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        return socket_id, far


def so_error(socket_id: int) -> control.GetOption:
    return control.GetOption(socket_id, socket.SOL_SOCKET, socket.SO_ERROR)


def writable(far: socket.socket) -> bool:
    return bool(select.select([], [far], [], 0)[1])


def readable(far: socket.socket) -> bool:
    return bool(select.select([far], [], [], 0)[0])


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = House(tmp_path)
    yield made
    made.close()


@pytest.fixture
def guest(house: House) -> Iterator[Guest]:
    made = house.guest()
    yield made
    made.socket.close()


# -- the socket file


def test_only_the_owner_may_open_it(house: House) -> None:
    assert stat.S_IMODE(os.stat(house.path).st_mode) == 0o600


def test_a_living_daemon_is_not_pushed_aside(house: House) -> None:
    with pytest.raises(OSError) as seen:
        listen_at(house.path)
    assert seen.value.errno == errno.EADDRINUSE


def test_what_a_dead_daemon_left_is_taken_over(tmp_path: Path) -> None:
    path = str(tmp_path / "control.sock")
    listen_at(path).close()
    assert os.path.exists(path)
    listen_at(path).close()


def test_a_path_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        listen_at(str(tmp_path / "missing" / "control.sock"))


def test_closing_removes_it(tmp_path: Path) -> None:
    house = House(tmp_path)
    house.close()
    assert not os.path.exists(house.path)


# -- conversation


@pytest.mark.parametrize("first", [control.GetStatus(), control.Down(), control.Open(2, 1, 0)])
def test_who_does_not_say_hello_is_shown_out(house: House, first: control.Request) -> None:
    guest = Guest(house)
    assert guest.failure(first) == errno.EPROTO
    assert guest.socket.recv(100) == b""
    assert not house.loop.stopped
    guest.socket.close()


def test_another_version_is_refused_by_name(house: House) -> None:
    guest = Guest(house)
    answer = guest.ask(control.Hello(control.VERSION + 1))
    assert isinstance(answer, control.Failed) and "version 1" in answer.text
    assert guest.socket.recv(100) == b""
    guest.socket.close()


@pytest.mark.parametrize("message", [b"x", b"\xff" * 1000, b"\x81\xa4type\xa4nope"])
def test_nonsense_ends_the_conversation_and_no_other(house: House, guest: Guest, message: bytes) -> None:
    other = house.guest()
    other.socket.send(message)
    house.spin()
    answer = control.decode_answer(other.socket.recv(1000))
    assert isinstance(answer, control.Failed) and answer.errno == errno.EPROTO
    assert other.socket.recv(100) == b""
    other.socket.close()
    assert isinstance(guest.ask(control.GetStatus()), control.Status)


def test_hello_twice_is_an_error_like_any_other(guest: Guest) -> None:
    assert guest.failure(control.Hello(1)) == errno.EPROTO
    assert isinstance(guest.ask(control.GetStatus()), control.Status)


def test_many_requests_at_once_are_answered_in_order(house: House, guest: Guest) -> None:
    for n in range(20):
        guest.socket.send(control.encode_request(control.GetName(n, False)))
        guest.socket.send(control.encode_request(control.GetOption(n, 1, socket.SO_ERROR)))
    house.spin(100)
    kinds = [type(control.decode_answer(guest.socket.recv(1000))) for _ in range(40)]
    assert kinds == [control.Failed, control.Option] * 20


def test_a_client_that_does_not_read_stalls_nobody(house: House, guest: Guest) -> None:
    """It is not read either once its answers do not fit, so nothing grows."""
    slow = house.guest()
    sent = 0
    for _ in range(5000):
        try:
            slow.socket.send(control.encode_request(control.GetStatus()))
            sent += 1
        except BlockingIOError:
            pass
        house.spin(1)
    assert sent < 5000, "its requests wait in its own socket"
    assert isinstance(guest.ask(control.GetStatus()), control.Status)
    seen = 0
    for _ in range(100_000):
        try:
            seen += isinstance(control.decode_answer(slow.socket.recv(control.MESSAGE_MAX)), control.Status)
        except BlockingIOError:
            if seen == sent:
                break
            house.spin(1)
    assert seen == sent, "and all of them are answered once it reads"
    slow.socket.close()


def test_a_client_that_goes_is_forgotten(house: House) -> None:
    guests = [house.guest() for _ in range(5)]
    assert len(house.server.clients) == 5
    for guest in guests:
        guest.socket.close()
    house.spin()
    assert len(house.server.clients) == 0


def test_a_client_that_goes_with_a_question_open(house: House) -> None:
    guest = house.guest()
    guest.socket.send(control.encode_request(control.Open(2, 1, 0)))
    guest.socket.close()
    house.spin()
    assert len(house.server.clients) == 0 and len(house.server.channels) == 0


def test_there_is_a_limit_to_clients() -> None:
    assert CLIENTS_MAX >= 1000


def test_down_stops_the_loop_and_is_answered(house: House, guest: Guest) -> None:
    assert guest.ask(control.Down()) == control.Done()
    assert house.loop.stopped


def test_who_waits_for_the_end_sees_it(tmp_path: Path) -> None:
    house = House(tmp_path)
    guest = house.guest()
    house.close()
    assert guest.socket.recv(100) == b""
    guest.socket.close()


# -- sockets


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        (control.Open(99, 1, 0), errno.EAFNOSUPPORT),
        (control.Open(2, 5, 0), errno.ESOCKTNOSUPPORT),
        (control.Open(2, 1, 17), errno.EPROTONOSUPPORT),
        (control.Open(-1, 1, 0), errno.EAFNOSUPPORT),
        (control.Bind(77, 0, 0), errno.EBADF),
        (control.Connect(77, 1, 1, 0), errno.EBADF),
        (control.SetOption(77, 1, 1, 1), errno.EBADF),
        (control.Shutdown(77, 0), errno.EBADF),
        (control.Listen(77, 1), errno.EBADF),
    ],
)
def test_failures_are_the_stacks_errnos(guest: Guest, request_: control.Request, code: int) -> None:
    assert guest.failure(request_) == code


def test_names_and_options(guest: Guest) -> None:
    socket_id, far = guest.open()
    assert guest.ask(control.Bind(socket_id, LOCALHOST, 4747)) == control.Done()
    assert guest.ask(control.GetName(socket_id, False)) == control.Name(LOCALHOST, 4747)
    assert guest.failure(control.GetName(socket_id, True)) == errno.ENOTCONN
    assert guest.failure(control.Bind(socket_id, LOCALHOST, 4748)) == errno.EINVAL
    nodelay = (socket.IPPROTO_TCP, socket.TCP_NODELAY)
    assert guest.ask(control.SetOption(socket_id, *nodelay, 1)) == control.Done()
    assert guest.ask(control.GetOption(socket_id, *nodelay)) == control.Option(1)
    assert guest.failure(control.SetOption(socket_id, 1, 9999, 1)) == errno.ENOPROTOOPT
    far.close()


def test_a_closed_descriptor_closes_the_socket(house: House, guest: Guest) -> None:
    socket_id, far = guest.open()
    assert len(house.server.channels) == 1
    far.close()
    house.spin()
    assert len(house.server.channels) == 0
    assert guest.failure(control.GetName(socket_id, False)) == errno.EBADF


def test_sockets_outlive_the_conversation(house: House) -> None:
    """They belong to whoever holds the descriptor."""
    Echo(house.loop)
    first = house.guest()
    socket_id, far = first.connect(7)
    first.socket.close()
    house.spin()
    far.send(b"still here")
    house.spin()
    assert far.recv(100) == b"still here"
    second = house.guest()
    assert second.ask(control.GetName(socket_id, True)) == control.Name(LOCALHOST, 7)
    far.close()
    second.socket.close()


def test_a_refused_connect_turns_writable_and_says_why(guest: Guest) -> None:
    socket_id, far = guest.open()
    far.send(b"\0")
    assert not writable(far)
    assert guest.ask(control.Connect(socket_id, LOCALHOST, 7, 1)) == control.Done()
    guest.house.spin()
    assert writable(far)
    assert guest.ask(so_error(socket_id)) == control.Option(errno.ECONNREFUSED)
    assert guest.ask(so_error(socket_id)) == control.Option(0)
    far.close()


def test_a_connect_that_cannot_begin_leaves_it_as_it_was(guest: Guest) -> None:
    socket_id, far = guest.open()
    far.send(b"\0")
    assert guest.failure(control.Connect(socket_id, 0xCB00_7101, 7, 1)) == errno.ENETUNREACH
    assert writable(far)
    far.close()


@pytest.mark.parametrize("size", [1, 2, 4095, 4096, 32_767, 32_768, 32_769, 36_865, 1_000_000])
def test_every_size_goes_through_and_back(house: House, guest: Guest, size: int) -> None:
    """Around the sizes where the way of taking data changes: nothing lost, nothing twice."""
    Echo(house.loop)
    _, far = guest.connect(7)
    data = os.urandom(size)
    sent, got = 0, bytearray()
    for _ in range(20 * ROUNDS):
        if sent < size and writable(far):
            sent += far.send(data[sent:])
        house.spin(1)
        if readable(far):
            got += far.recv(1 << 20)
        if len(got) == size:
            break
    assert bytes(got) == data
    far.close()


def test_one_byte_stays_in_near_so_that_a_reset_can_be_told(house: House) -> None:
    channels = Channels()
    channel, far = stream_pair(house.loop, channels, house.loop.stack.socket(), True)
    assert unread(channel.near) == 1
    for data in (b"a", b"bc", bytes(40_000), b"d"):
        far.send(data)
        taken = b""
        while pieces := channel.take():
            taken += b"".join(pieces)
        assert taken == data, "all of it is forwarded at once"
        assert unread(channel.near) == 1
    channel.close()
    with pytest.raises(ConnectionResetError):
        far.recv(1)
    far.close()


def test_reading_everything_from_chargen_never_blocks_the_loop(house: House, guest: Guest) -> None:
    Chargen(house.loop)
    _, far = guest.connect(19)
    house.spin(ROUNDS)
    got = 0
    for _ in range(ROUNDS):
        house.spin(1)
        while readable(far):
            got += len(far.recv(1 << 20))
    assert got > 1_000_000
    far.close()
    house.spin(ROUNDS)
    assert len(house.server.channels) == 0


def test_writing_to_discard_takes_everything(house: House, guest: Guest) -> None:
    Discard(house.loop)
    _, far = guest.connect(9)
    sent = 0
    for _ in range(2000):
        if writable(far):
            sent += far.send(bytes(1 << 16))
        house.spin(1)
    assert sent > 10_000_000
    far.shutdown(socket.SHUT_WR)
    house.spin(ROUNDS)
    assert far.recv(1) == b"", "discard closes once it has read our FIN"
    far.close()


def test_listening(house: House, guest: Guest) -> None:
    listener_id, listener = guest.open()
    assert guest.ask(control.Bind(listener_id, LOCALHOST, 8080)) == control.Done()
    assert guest.ask(control.Listen(listener_id, 5)) == control.Done()
    assert guest.ask(control.Listen(listener_id, 6)) == control.Done(), "the backlog may change"
    client_id, client = guest.connect(8080)
    house.spin()
    record, fd = receive(listener, control.ACCEPTED_LEN)
    server_id, addr, port = control.decode_accepted(record)
    assert addr == LOCALHOST
    assert guest.ask(control.GetName(client_id, False)) == control.Name(LOCALHOST, port)
    assert guest.ask(control.GetName(server_id, True)) == control.Name(LOCALHOST, port)
    server = socket.socket(fileno=fd)
    client.send(b"hello")
    house.spin()
    assert server.recv(100) == b"hello"
    for end in (client, server, listener):
        end.close()
    house.spin()
    assert len(house.server.channels) == 0


def test_only_a_few_accepted_connections_leave_the_accept_queue(house: House, guest: Guest) -> None:
    """The backlog is the stack's to keep: what a program does not accept counts there."""
    listener_id, listener = guest.open()
    guest.ask(control.Bind(listener_id, LOCALHOST, 8080))
    guest.ask(control.Listen(listener_id, 100))
    clients = [guest.connect(8080)[1] for _ in range(40)]
    house.spin()
    channel = house.server.channels.get(listener_id)
    queue = getattr(channel.sock.sk, "accept_queue")  # noqa: B009  (a TcpSock's)
    assert 20 <= len(queue) < 40
    for _ in clients:
        record, fd = receive(listener, control.ACCEPTED_LEN)
        os.close(fd)
        house.spin()
    assert len(queue) == 0
    for client in clients:
        client.close()
    listener.close()


def test_datagrams(house: House, guest: Guest) -> None:
    one_id, one = guest.open(socket.SOCK_DGRAM)
    two_id, two = guest.open(socket.SOCK_DGRAM)
    guest.ask(control.Bind(one_id, LOCALHOST, 1001))
    guest.ask(control.Bind(two_id, LOCALHOST, 1002))
    for payload in (b"", b"x", bytes(60_000)):
        one.send(control.encode_datagram_header(LOCALHOST, 1002) + payload)
        house.spin()
        assert two.recv(70_000) == control.encode_datagram_header(LOCALHOST, 1001) + payload
    one.close()
    two.close()


def test_an_error_of_a_datagram_comes_back_as_one(house: House, guest: Guest) -> None:
    _, far = guest.open(socket.SOCK_DGRAM)
    far.send(control.encode_datagram_header(0xCB00_7101, 9) + b"no route")
    house.spin()
    assert control.decode_datagram_header(far.recv(100)) == (0, 0, errno.ENETUNREACH)
    far.close()


def test_a_message_without_a_header_closes_the_socket(house: House, guest: Guest) -> None:
    _, far = guest.open(socket.SOCK_DGRAM)
    far.send(b"short")
    house.spin()
    assert far.recv(100) == b""
    assert len(house.server.channels) == 0
    far.close()


def test_datagrams_that_are_not_read_are_lost_and_counted(house: House, guest: Guest) -> None:
    """At the socket's receive buffer, as anywhere."""
    one_id, one = guest.open(socket.SOCK_DGRAM)
    _, two = guest.open(socket.SOCK_DGRAM)
    guest.ask(control.Bind(one_id, LOCALHOST, 1001))
    for _ in range(2000):
        if writable(two):
            two.send(control.encode_datagram_header(LOCALHOST, 1001) + bytes(1000))
        house.spin(1)
    assert house.loop.stack.net.mib.udp.RcvbufErrors > 0
    one.close()
    two.close()


def test_epitaphs_are_told_once_and_bounded() -> None:
    channels = Channels()
    assert channels.take_error(5) == 0
    assert channels.next_id() != channels.next_id()


# -- status


def test_status_tells_of_sockets_and_devices(house: House, guest: Guest) -> None:
    Echo(house.loop)
    _, far = guest.connect(7)
    status = guest.ask(control.GetStatus())
    assert isinstance(status, control.Status)
    assert [device.name for device in status.devices] == ["lo"]
    assert status.devices[0].addresses == ["127.0.0.1/8"]
    assert "UP" in status.devices[0].flags and status.devices[0].stats["rx_packets"] > 0
    states = sorted((entry.protocol, entry.state, entry.local) for entry in status.sockets)
    assert ("tcp", "LISTEN", "*:7") in states and len(states) == 3
    assert status.counters["Tcp.PassiveOpens"] == 1
    assert status.uptime > 0 and status.pid == os.getpid()
    far.close()


# -- helpers


@pytest.mark.parametrize(("size", "left"), [(0, b"abcdef"), (1, b"bcdef"), (3, b"def"), (4, b"ef"), (6, b"")])
def test_dropping_from_the_front(size: int, left: bytes) -> None:
    pieces: list[Buffer] = [b"abc", memoryview(b"de"), b"f"]
    drop_front(pieces, size)
    assert b"".join(pieces) == left
