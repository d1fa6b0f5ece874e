"""The daemon without packetdrill: a program of two threads makes its calls in virtual time."""

from __future__ import annotations

import errno
import struct
from typing import TYPE_CHECKING

import pytest

from tests.packetdrill.calls import F_GETFL, F_SETFL, O_NONBLOCK, SOL_TCP, TCP_CM_INQ
from tests.packetdrill.client import PEER_PORT, PORT, Client, Daemon
from tests.packetdrill.epoll import EPOLL_CTL_ADD, EPOLL_CTL_DEL, EPOLL_CTL_MOD, EPOLLET, EPOLLONESHOT
from tests.packetdrill.machine import LOCAL, REMOTE, USEC, Machine
from tests.packetdrill.protocol import Op, Reply
from tests.packetdrill.settings import Settings
from ustack.inet.family import SOCK_NONBLOCK, SOCK_STREAM
from ustack.inet.sockaddr import AF_INET, SockaddrIn
from ustack.sock import MSG_DONTWAIT, POLLIN, POLLOUT, SIOCINQ
from ustack.wire import tcp
from ustack.wire.ipv4 import str_to_addr
from ustack.wire.tcp import TCPHDR_ACK, TCPHDR_FIN, TCPHDR_PSH, TCPHDR_RST, TCPHDR_SYN

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MS = 1000  # µs
SECOND = 1_000_000
PEER_ISS = 1_000_000
EVENT = struct.Struct("=IQ")


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    with Daemon(tmp_path) as running:
        yield running


@pytest.fixture
def main(daemon: Daemon) -> Client:
    return daemon.client()


def listening(main: Client) -> int:
    """The handle of a socket that listens at our port."""
    handle = main.call(Op.SOCKET, args=(AF_INET, SOCK_STREAM, 6, 0)).value
    assert main.call(Op.BIND, handle, payload=SockaddrIn(str_to_addr(LOCAL), PORT).to_bytes()).value == 0
    assert main.call(Op.LISTEN, handle, args=(1, 0, 0, 0)).value == 0
    return handle


def handshake(main: Client) -> int:
    """The peer connects; the ISN of the stack."""
    main.inject(TCPHDR_SYN, PEER_ISS, 0, options=tcp.syn_options(1000, -1, False, False, 0, 0))
    answer = main.receive()
    assert answer.flags == TCPHDR_SYN | TCPHDR_ACK and answer.ack == PEER_ISS + 1
    main.inject(TCPHDR_ACK, PEER_ISS + 1, answer.seq + 1)
    return answer.seq


def accepted(main: Client) -> tuple[int, int]:
    """The handle of a connection, and our ISN on it."""
    listener = listening(main)
    isn = handshake(main)
    reply = main.call(Op.ACCEPT, listener)
    assert reply.payload == SockaddrIn(str_to_addr(REMOTE), PEER_PORT).to_bytes()
    return reply.value, isn


def data_of(reply: Reply) -> bytes:
    """The bytes of a recvmsg's answer, behind the address and the control messages."""
    lengths: tuple[int, int] = struct.unpack_from("=II", reply.payload)
    return reply.payload[8 + sum(lengths) :]


def failed(reply: Reply) -> int:
    assert reply.value == -1
    return reply.error


# -- sockets


def test_a_connection_is_accepted_and_carries_bytes_both_ways(main: Client) -> None:
    handle, isn = accepted(main)
    main.inject(TCPHDR_ACK | TCPHDR_PSH, PEER_ISS + 1, isn + 1, b"hello")
    reply = main.call(Op.RECVMSG, handle, args=(100, 0, 0, 0))
    assert (reply.value, data_of(reply)) == (5, b"hello")
    assert main.call(Op.SENDMSG, handle, payload=b"and good day").value == 12
    sent = main.receive()
    while not sent.data:  # the acknowledgement may come by itself
        sent = main.receive()
    assert (sent.data, sent.ack) == (b"and good day", PEER_ISS + 6)


def test_what_is_not_acknowledged_comes_again_at_its_time(main: Client) -> None:
    """The main thread waits for packets: the clock jumps to the retransmission timer, and no time goes by for us."""
    handle, _ = accepted(main)
    main.now = 50 * MS
    main.call(Op.SENDMSG, handle, payload=b"x")
    times = [main.receive().usecs for _ in range(3)]
    assert times[0] == 50 * MS
    assert times[1] - times[0] >= 200 * MS
    assert times[2] > times[1]
    assert main.now == times[2]


def test_a_read_on_the_other_thread_ends_when_the_bytes_come(daemon: Daemon, main: Client) -> None:
    """Its answer says when, though the main thread has meanwhile gone on to later."""
    handle, isn = accepted(main)
    other = daemon.client(main=False)
    other.now = main.now = 10 * MS
    other.ask(Op.RECVMSG, handle, (100, 0, 0, 0))
    main.now = 30 * MS
    main.inject(TCPHDR_ACK | TCPHDR_PSH, PEER_ISS + 1, isn + 1, b"late")
    main.now = 90 * MS
    assert main.call(Op.SLEEP).now == 90 * MS
    reply = other.answer()
    assert (reply.now, data_of(reply)) == (30 * MS, b"late")


def test_a_write_that_blocks_is_taken_bit_by_bit(daemon: Daemon, main: Client) -> None:
    handle, isn = accepted(main)
    main.call(Op.SETSOCKOPT, handle, (1, 7, 0, 0), struct.pack("i", 4096))
    other = daemon.client(main=False)
    other.now = main.now = 10 * MS
    other.ask(Op.SENDMSG, handle, payload=bytes(30_000))
    got = 0
    while got < 30_000:
        sent = main.receive()
        got += len(sent.data)
        main.now += MS
        main.inject(TCPHDR_ACK, PEER_ISS + 1, isn + 1 + got)
    reply = other.answer()
    assert reply.value == 30_000
    assert 10 * MS < reply.now <= main.now


def test_a_connect_that_blocks_ends_with_the_handshake(daemon: Daemon, main: Client) -> None:
    handle = main.call(Op.SOCKET, args=(AF_INET, SOCK_STREAM, 6, 0)).value
    main.call(Op.BIND, handle, payload=SockaddrIn(str_to_addr(LOCAL), PORT).to_bytes())
    other = daemon.client(main=False)
    other.ask(Op.CONNECT, handle, payload=SockaddrIn(str_to_addr(REMOTE), PEER_PORT).to_bytes())
    syn = main.receive()
    assert syn.flags & ~0xC0 == TCPHDR_SYN
    main.now = 70 * MS
    main.inject(TCPHDR_SYN | TCPHDR_ACK, PEER_ISS, syn.seq + 1)
    reply = other.answer()
    assert (reply.value, reply.now) == (0, 70 * MS)


def test_a_connect_that_is_not_to_block_says_so(main: Client) -> None:
    handle = main.call(Op.SOCKET, args=(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 6, 0)).value
    address = SockaddrIn(str_to_addr(REMOTE), PEER_PORT).to_bytes()
    assert failed(main.call(Op.CONNECT, handle, payload=address)) == errno.EINPROGRESS
    assert failed(main.call(Op.CONNECT, handle, payload=address)) == errno.EALREADY


def test_calls_that_are_not_to_wait_answer_at_once(main: Client) -> None:
    handle, _ = accepted(main)
    assert failed(main.call(Op.RECVMSG, handle, (10, MSG_DONTWAIT, 0, 0))) == errno.EAGAIN
    assert main.call(Op.FCNTL, handle, (F_SETFL, O_NONBLOCK, 0, 0)).value == 0
    assert main.call(Op.FCNTL, handle, (F_GETFL, 0, 0, 0)).value == O_NONBLOCK | 2
    assert failed(main.call(Op.RECVMSG, handle, (10, 0, 0, 0))) == errno.EAGAIN


def test_a_receive_timeout_lets_the_reader_go(main: Client) -> None:
    handle, _ = accepted(main)
    main.call(Op.SETSOCKOPT, handle, (1, 20, 0, 0), struct.pack("qq", 0, 250_000))
    before = main.now
    reply = main.call(Op.RECVMSG, handle, (10, 0, 0, 0))
    assert (failed(reply), reply.now - before) == (errno.EAGAIN, 250 * MS)


def test_an_address_that_is_none_is_a_fault_and_takes_nothing(main: Client) -> None:
    handle, isn = accepted(main)
    main.inject(TCPHDR_ACK, PEER_ISS + 1, isn + 1, b"abc")
    assert failed(main.call(Op.RECVMSG, handle, (10, 0, 1, 0))) == errno.EFAULT
    assert failed(main.call(Op.SENDMSG, handle, (0, 0, 1, 0))) == errno.EFAULT
    assert data_of(main.call(Op.RECVMSG, handle, (10, 0, 0, 0))) == b"abc"


def test_descriptors_that_are_none(main: Client) -> None:
    assert failed(main.call(Op.LISTEN, 77, (1, 0, 0, 0))) == errno.EBADF
    pipe = main.call(Op.PIPE).value
    assert failed(main.call(Op.LISTEN, pipe, (1, 0, 0, 0))) == errno.ENOTSOCK
    handle = listening(main)
    assert main.call(Op.CLOSE, handle).value == 0
    assert failed(main.call(Op.CLOSE, handle)) == errno.EBADF


def test_a_closed_connection_with_unread_bytes_is_reset(main: Client) -> None:
    handle, isn = accepted(main)
    main.inject(TCPHDR_ACK, PEER_ISS + 1, isn + 1, b"unread")
    main.call(Op.CLOSE, handle)
    sent = main.receive()
    while not sent.flags & TCPHDR_RST:
        sent = main.receive()


def test_the_end_of_a_stream_after_shutdown(main: Client) -> None:
    handle, isn = accepted(main)
    assert main.call(Op.SHUTDOWN, handle, (1, 0, 0, 0)).value == 0
    assert main.receive().flags & TCPHDR_FIN
    main.inject(TCPHDR_ACK | TCPHDR_FIN, PEER_ISS + 1, isn + 2)
    assert main.call(Op.RECVMSG, handle, (10, 0, 0, 0)).value == 0


def test_options_and_requests_are_bytes(main: Client) -> None:
    handle, isn = accepted(main)
    assert main.call(Op.SETSOCKOPT, handle, (0, 1, 0, 0), b"\x10").value == 0  # IP_TOS as a char
    assert main.call(Op.GETSOCKOPT, handle, (0, 1, 4, 0)).payload == struct.pack("i", 0x10)
    assert main.call(Op.GETSOCKOPT, handle, (1, 3, 4, 0)).payload == struct.pack("i", SOCK_STREAM)
    main.inject(TCPHDR_ACK, PEER_ISS + 1, isn + 1, b"abcd")
    assert main.call(Op.IOCTL, handle, (SIOCINQ, 0, 0, 0)).payload == struct.pack("i", 4)


def test_what_is_left_to_read_comes_as_a_control_message(main: Client) -> None:
    handle, isn = accepted(main)
    assert main.call(Op.SETSOCKOPT, handle, (SOL_TCP, TCP_CM_INQ, 0, 0), struct.pack("i", 1)).value == 0
    main.inject(TCPHDR_ACK, PEER_ISS + 1, isn + 1, b"abcdef")
    reply = main.call(Op.RECVMSG, handle, (2, 0, 0, 100))
    assert data_of(reply) == b"ab"
    address, control = struct.unpack_from("=II", reply.payload)
    assert control == 24
    assert struct.unpack_from("=Qiii", reply.payload, 8 + address) == (20, SOL_TCP, TCP_CM_INQ, 4)


# -- waiting for many


def test_poll_waits_for_its_time_and_no_longer(main: Client) -> None:
    handle, _ = accepted(main)
    before = main.now
    reply = main.call(Op.POLL, args=(40, 0, 0, 0), payload=struct.pack("=ihh", handle, POLLIN, 0))
    assert (reply.value, reply.payload, reply.now - before) == (0, b"\0\0", 40 * MS)
    asked = struct.pack("=ihh", handle, POLLIN | POLLOUT, 0) + struct.pack("=ihh", 99, POLLIN, 0)
    reply = main.call(Op.POLL, args=(40, 0, 0, 0), payload=asked)
    assert (reply.value, reply.payload) == (2, struct.pack("=hh", POLLOUT, 0x20))


def test_epoll_tells_of_an_edge_once(main: Client) -> None:
    handle, isn = accepted(main)
    epoll = main.call(Op.EPOLL_CREATE, args=(1, 0, 0, 0)).value
    assert main.call(Op.EPOLL_CTL, epoll, (EPOLL_CTL_ADD, handle, POLLIN | EPOLLET, 7)).value == 0
    assert failed(main.call(Op.EPOLL_CTL, epoll, (EPOLL_CTL_ADD, handle, POLLIN, 7))) == errno.EEXIST
    assert main.call(Op.EPOLL_WAIT, epoll, (1, 0, 0, 0)).value == 0
    for round_ in range(2):
        main.inject(TCPHDR_ACK, PEER_ISS + 1 + round_, isn + 1, b"x")
        reply = main.call(Op.EPOLL_WAIT, epoll, (1, 0, 0, 0))
        assert (reply.value, EVENT.unpack(reply.payload)) == (1, (POLLIN, 7))
        assert main.call(Op.EPOLL_WAIT, epoll, (1, 0, 0, 0)).value == 0


def test_epoll_tells_of_a_level_until_it_is_read_away_and_of_one_shot_until_it_is_armed(main: Client) -> None:
    handle, isn = accepted(main)
    epoll = main.call(Op.EPOLL_CREATE, args=(1, 0, 0, 0)).value
    main.inject(TCPHDR_ACK, PEER_ISS + 1, isn + 1, b"x")
    main.call(Op.EPOLL_CTL, epoll, (EPOLL_CTL_ADD, handle, POLLIN, 7))
    assert [main.call(Op.EPOLL_WAIT, epoll, (1, 0, 0, 0)).value for _ in range(2)] == [1, 1]
    main.call(Op.EPOLL_CTL, epoll, (EPOLL_CTL_MOD, handle, POLLIN | EPOLLONESHOT, 8))
    assert [main.call(Op.EPOLL_WAIT, epoll, (1, 0, 0, 0)).value for _ in range(2)] == [1, 0]
    main.call(Op.EPOLL_CTL, epoll, (EPOLL_CTL_MOD, handle, POLLIN, 8))
    assert main.call(Op.EPOLL_WAIT, epoll, (1, 0, 0, 0)).value == 1
    main.call(Op.RECVMSG, handle, (10, 0, 0, 0))
    assert main.call(Op.EPOLL_WAIT, epoll, (1, 5, 0, 0)).value == 0
    assert main.call(Op.EPOLL_CTL, epoll, (EPOLL_CTL_DEL, handle, 0, 0)).value == 0
    assert failed(main.call(Op.EPOLL_CTL, epoll, (EPOLL_CTL_DEL, handle, 0, 0))) == errno.ENOENT
    assert failed(main.call(Op.EPOLL_CTL, epoll, (EPOLL_CTL_ADD, epoll, POLLIN, 0))) == errno.EPERM


def test_splice_moves_bytes_through_a_pipe(main: Client) -> None:
    handle, isn = accepted(main)
    out = main.call(Op.PIPE).value + 1
    main.inject(TCPHDR_ACK, PEER_ISS + 1, isn + 1, b"abcdef")
    assert main.call(Op.SPLICE, handle, (out, 4, 0, 0)).value == 4
    assert main.call(Op.SPLICE, out - 1, (handle, 9, 0, 0)).value == 4
    sent = main.receive()
    while not sent.data:
        sent = main.receive()
    assert sent.data == b"abcd"


# -- the clock and the end


def test_when_nothing_will_come_a_receiver_is_told_so(main: Client) -> None:
    """No bytes, and the time stays where it was: packetdrill says at which line of the script that was."""
    listening(main)
    reply = main.call(Op.NETDEV_RECEIVE)
    assert (reply.value, reply.payload) == (0, b"")


def test_a_call_of_the_main_thread_that_would_never_end_is_given_up(main: Client) -> None:
    assert failed(main.call(Op.ACCEPT, listening(main))) == errno.ETIMEDOUT


def test_time_never_runs_backwards(daemon: Daemon, main: Client) -> None:
    main.now = 5 * SECOND
    main.call(Op.SLEEP)
    main.now = SECOND
    assert main.call(Op.SLEEP).now == 5 * SECOND
    assert daemon.machine.now % USEC == 0


# -- settings


def test_settings_are_files_and_commands(tmp_path: Path) -> None:
    machine = Machine()
    settings = Settings(machine, tmp_path)
    settings.store()
    assert (tmp_path / "tcp_sack").read_text() == "1\n"
    (tmp_path / "tcp_sack").write_text("0\n")
    (tmp_path / "tcp_fastopen").write_text("0x70403\n")
    (tmp_path / "tcp_rmem").write_text("4096 540000 15728640\n")
    with Daemon(tmp_path, machine, settings) as daemon:
        client = daemon.client()
        client.call(Op.SYSTEM, args=(1, 0, 0, 0))
        sysctl = machine.stack.net.sysctl
        assert (sysctl.tcp_sack, sysctl.tcp_fastopen, sysctl.tcp_rmem_max) == (0, 0x70403, 15_728_640)
        sysctl.tcp_sack = 1
        client.call(Op.SYSTEM)
        assert (tmp_path / "tcp_sack").read_text() == "1\n"
        assert client.call(Op.COMMAND, payload=b"tc\0qdisc\0add\0dev\0tun0\0root\0pfifo\0limit\0000\0").value == 0
        assert machine.pipe.queue_stopped
        assert client.call(Op.COMMAND, payload=b"ethtool\0-K\0tun0\0tso\0off\0").value == 0
        assert not machine.pipe.features & 4
    assert settings.complaints == []


def test_nstat_shows_what_has_moved_since_the_last_time(tmp_path: Path) -> None:
    machine = Machine()
    settings = Settings(machine, tmp_path)
    machine.stack.net.mib.tcpext.ListenDrops += 3
    assert "TcpExtListenDrops               3 " in settings.command(b"nstat\0").payload.decode()
    assert settings.command(b"nstat\0").payload == b"#kernel\n"


def test_a_route_takes_the_metrics_that_ip_names(tmp_path: Path) -> None:
    machine = Machine()
    settings = Settings(machine, tmp_path)
    change = b"ip\0route\0change\000192.0.2.1\0via\000192.168.0.2\0dev\0tun0\0advmss\000600\0mtu\0lock\000640\0"
    assert settings.command(change).value == 0
    assert settings.complaints == []
    assert settings.command(b"ip\0route\0change\000198.51.100.1\0via\000192.168.0.2\0").value == 1
    assert len(settings.complaints) == 1


def test_proc_net_tcp_shows_who_listens(tmp_path: Path) -> None:
    machine = Machine()
    settings = Settings(machine, tmp_path, tmp_path)
    sock = machine.stack.socket(AF_INET, SOCK_STREAM)
    sock.bind((LOCAL, PORT))
    sock.listen(1)
    settings.store()
    assert (tmp_path / "tcp").read_text() == "   0: 0100A8C0:1F90 00000000:0000 0A 00000000:00000000\n"
    assert (tmp_path / "tcp6").read_text() == ""


def test_a_value_out_of_range_is_told(tmp_path: Path) -> None:
    settings = Settings(Machine(), tmp_path)
    settings.store()
    (tmp_path / "tcp_sack").write_text("many\n")
    settings.load()
    assert settings.complaints == ["sysctl net.ipv4.tcp_sack=many: Invalid argument"]
