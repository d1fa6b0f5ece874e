"""connect, listen, accept, shutdown, names and the data calls: who may do what in which state (af_inet.c, socket.c)."""

from __future__ import annotations

import errno

import pytest

from tests.harness import code_of
from tests.inet.doubles import OURS, PEER, FakeSock, World, fake
from ustack.inet.family import SOCK_DGRAM, SOCK_RAW, SOCK_STREAM
from ustack.inet.sockaddr import AF_UNSPEC, SockaddrIn
from ustack.inet.socket import (
    MAX_RW_COUNT,
    NO_PORT,
    SHUT_RD,
    SHUT_RDWR,
    SHUT_WR,
    SS_CONNECTED,
    SS_CONNECTING,
    SS_DISCONNECTING,
    SS_UNCONNECTED,
    Socket,
)
from ustack.sock import (
    MSG_DONTWAIT,
    MSG_MORE,
    POLLHUP,
    RCV_SHUTDOWN,
    SEND_SHUTDOWN,
    SHUTDOWN_MASK,
    TCP_CLOSE,
    TCP_ESTABLISHED,
    TCP_LISTEN,
    TCP_SYN_RECV,
    TCP_SYN_SENT,
    Observer,
    Sock,
)

TO = SockaddrIn(PEER, 80)


@pytest.fixture
def world() -> World:
    return World()


# -- connect of a stream


def test_a_connect_that_takes_a_while(world: World) -> None:
    sock = world.socket(SOCK_STREAM)
    assert code_of(lambda: sock.connect(TO)) == errno.EINPROGRESS
    assert sock.state == SS_CONNECTING
    assert code_of(lambda: sock.connect(TO)) == errno.EALREADY
    sock.sk.state = TCP_SYN_RECV  # both opened at the same time
    assert code_of(lambda: sock.connect(TO)) == errno.EALREADY
    sock.sk.state = TCP_ESTABLISHED
    sock.connect(TO)  # the answer to "has it worked?" is yes, once
    assert sock.state == SS_CONNECTED
    assert code_of(lambda: sock.connect(TO)) == errno.EISCONN
    assert fake(sock).calls == [("connect", PEER, 80)]


def test_what_would_wait_is_a_blocking_io_error(world: World) -> None:
    with pytest.raises(BlockingIOError):
        world.socket(SOCK_STREAM).connect(TO)


@pytest.mark.parametrize("pending", [errno.ECONNREFUSED, errno.ETIMEDOUT, errno.EHOSTUNREACH, 0])
def test_a_connect_that_fails_says_why_and_can_be_tried_again(world: World, pending: int) -> None:
    sock = world.socket(SOCK_STREAM)
    code_of(lambda: sock.connect(TO))
    sock.sk.state, sock.sk.err = TCP_CLOSE, pending
    assert code_of(lambda: sock.connect(TO)) == (pending or errno.ECONNABORTED)
    assert sock.state == SS_UNCONNECTED and sock.sk.err == 0
    assert fake(sock).calls[-1] == ("disconnect",)
    assert code_of(lambda: sock.connect(TO)) == errno.EINPROGRESS


def test_an_error_at_once_leaves_it_unconnected(world: World) -> None:
    sock = world.socket(SOCK_STREAM)
    fake(sock).connect_error = errno.ENETUNREACH
    assert code_of(lambda: sock.connect(TO)) == errno.ENETUNREACH
    assert sock.state == SS_UNCONNECTED


def test_a_family_that_is_not_inet(world: World) -> None:
    for sock_type in (SOCK_STREAM, SOCK_DGRAM):
        sock = world.socket(sock_type)
        assert code_of(lambda s=sock: s.connect(SockaddrIn(PEER, 80, 10))) == errno.EAFNOSUPPORT  # type: ignore[misc]


def test_a_listener_does_not_connect(world: World) -> None:
    sock = world.socket(SOCK_STREAM)
    sock.listen(1)
    assert code_of(lambda: sock.connect(TO)) == errno.EISCONN


@pytest.mark.parametrize("state", [TCP_SYN_SENT, TCP_ESTABLISHED])
def test_unspec_undoes_a_connect(world: World, state: int) -> None:
    sock = world.socket(SOCK_STREAM)
    code_of(lambda: sock.connect(TO))
    sock.sk.state = state
    sock.connect(SockaddrIn(0, 0, AF_UNSPEC))
    assert sock.state == SS_UNCONNECTED and fake(sock).calls[-1] == ("disconnect",)


def test_while_disconnecting_everything_is_einval(world: World) -> None:
    sock = world.socket(SOCK_STREAM)
    sock.state = SS_DISCONNECTING
    assert code_of(lambda: sock.connect(TO)) == errno.EINVAL
    assert code_of(lambda: sock.listen(1)) == errno.EINVAL


# -- connect of datagrams


def test_datagrams_are_connected_at_once_again_and_not_at_all(world: World) -> None:
    sock = world.socket(SOCK_DGRAM)
    sock.connect(TO)
    assert sock.getpeername() == TO
    sock.connect(SockaddrIn(OURS, 7))
    assert sock.getpeername() == SockaddrIn(OURS, 7)
    sock.connect(bytes(2))  # a bare AF_UNSPEC
    assert code_of(sock.getpeername) == errno.ENOTCONN


# -- listen and accept


def test_listen_and_its_backlog(world: World) -> None:
    sock = world.socket(SOCK_STREAM)
    world.net.sysctl.somaxconn = 128
    for asked, got in ((5, 5), (0, 0), (129, 128), (-1, 128)):
        sock.listen(asked)  # also again: only the backlog changes
        assert fake(sock).calls[-1] == ("listen", got)


def test_listen_binds_a_socket_that_is_not(world: World) -> None:
    sock = world.socket(SOCK_STREAM)
    sock.listen(1)
    assert sock.getsockname().port == 40_000
    fake(sock).taken.add(40_001)
    assert code_of(lambda: world.socket(SOCK_STREAM).listen(1)) == errno.EADDRINUSE


@pytest.mark.parametrize(("sock_type", "protocol"), [(SOCK_DGRAM, 0), (SOCK_DGRAM, 1), (SOCK_RAW, 1)])
def test_only_streams_listen_and_accept(world: World, sock_type: int, protocol: int) -> None:
    sock = world.socket(sock_type, protocol)
    assert code_of(lambda: sock.listen(1)) == errno.EOPNOTSUPP
    assert code_of(sock.accept) == errno.EOPNOTSUPP


def test_a_socket_in_use_does_not_listen(world: World) -> None:
    connecting = world.socket(SOCK_STREAM)
    code_of(lambda: connecting.connect(TO))
    assert code_of(lambda: connecting.listen(1)) == errno.EINVAL
    established = world.socket(SOCK_STREAM)
    established.sk.state = TCP_ESTABLISHED
    assert code_of(lambda: established.listen(1)) == errno.EINVAL


def test_accept(world: World) -> None:
    sock = world.socket(SOCK_STREAM)
    assert code_of(sock.accept) == errno.EINVAL  # not listening
    sock.listen(1)
    assert code_of(sock.accept) == errno.EAGAIN
    child = FakeSock(world.net, SOCK_STREAM, 6, set())
    child.state, child.daddr, child.dport = TCP_ESTABLISHED, PEER, 4000
    fake(sock).children.append(child)
    accepted = sock.accept()
    assert accepted.state == SS_CONNECTED and accepted.sk is child
    assert accepted.getpeername() == SockaddrIn(PEER, 4000)
    assert code_of(lambda: accepted.connect(TO)) == errno.EISCONN


# -- shutdown


@pytest.mark.parametrize(
    ("how", "bits"), [(SHUT_RD, RCV_SHUTDOWN), (SHUT_WR, SEND_SHUTDOWN), (SHUT_RDWR, SHUTDOWN_MASK)]
)
@pytest.mark.parametrize("sock_type", [SOCK_STREAM, SOCK_DGRAM])
def test_shutdown_of_a_connection(world: World, sock_type: int, how: int, bits: int) -> None:
    sock = world.socket(sock_type)
    sock.sk.state = TCP_ESTABLISHED
    sock.shutdown(how)
    assert fake(sock).calls[-1] == ("shutdown", bits) and sock.sk.shutdown == bits


@pytest.mark.parametrize("how", [-2, -1, 3, 4, 0x7FFF_FFFF])
def test_shutdown_of_a_direction_that_is_none(world: World, how: int) -> None:
    sock = world.socket(SOCK_STREAM)
    sock.sk.state = TCP_ESTABLISHED
    assert code_of(lambda: sock.shutdown(how)) == errno.EINVAL


class Watching(Observer):
    def __init__(self) -> None:
        self.changes = 0

    def state_change(self, sk: Sock) -> None:
        self.changes += 1


def test_shutdown_of_an_unconnected_socket_is_enotconn_and_still_wakes(world: World) -> None:
    """ "Hack to wake up other listeners, who can poll for EPOLLHUP, even on eg. unconnected UDP sockets"."""
    sock = world.socket(SOCK_DGRAM)
    watching = Watching()
    sock.observe(watching)
    assert code_of(lambda: sock.shutdown(SHUT_RDWR)) == errno.ENOTCONN
    assert sock.sk.shutdown == SHUTDOWN_MASK and watching.changes == 1


def test_shutdown_ends_a_listener_only_for_reading(world: World) -> None:
    sock = world.socket(SOCK_STREAM)
    sock.listen(1)
    sock.shutdown(SHUT_WR)
    assert sock.sk.state == TCP_LISTEN
    sock.shutdown(SHUT_RD)
    assert sock.sk.state == TCP_CLOSE and sock.state == SS_UNCONNECTED


def test_shutdown_while_connecting_aborts(world: World) -> None:
    sock = world.socket(SOCK_STREAM)
    code_of(lambda: sock.connect(TO))
    sock.shutdown(SHUT_WR)
    assert fake(sock).calls[-1] == ("disconnect",) and sock.state == SS_UNCONNECTED


def test_shutdown_notices_that_a_connect_has_finished(world: World) -> None:
    sock = world.socket(SOCK_STREAM)
    code_of(lambda: sock.connect(TO))
    sock.sk.state = TCP_ESTABLISHED
    sock.shutdown(SHUT_WR)
    assert sock.state == SS_CONNECTED


# -- names


def test_names(world: World) -> None:
    sock = world.socket(SOCK_STREAM)
    assert sock.getsockname() == SockaddrIn(0, 0)
    assert code_of(sock.getpeername) == errno.ENOTCONN
    code_of(lambda: sock.connect(TO))
    assert code_of(sock.getpeername) == errno.ENOTCONN, "SYN_SENT has no peer yet"
    sock.sk.state, sock.sk.saddr, sock.sk.num = TCP_ESTABLISHED, OURS, 40_000
    assert sock.getpeername() == TO
    assert sock.getsockname() == SockaddrIn(OURS, 40_000), "not bound: the address it sends from"


# -- data


def test_sendto_goes_to_the_address_and_send_to_the_peer(world: World) -> None:
    sock = world.socket(SOCK_DGRAM)
    assert sock.sendto(b"muffin", ("192.0.2.2", 4747), MSG_MORE) == 6
    assert sock.send(b"again") == 5
    assert fake(sock).calls == [
        ("sendmsg", b"muffin", MSG_MORE | MSG_DONTWAIT, PEER, 4747),
        ("sendmsg", b"again", MSG_DONTWAIT, 0, NO_PORT),
    ]


def test_a_scatter_list_is_one_message(world: World) -> None:
    sock = world.socket(SOCK_DGRAM)
    assert sock.sendmsg_iov([b"muf", memoryview(b"fin")], 0, ("192.0.2.2", 4747)) == 6
    assert sock.sendmsg_iov([b"x"]) == 1
    assert [call[1] for call in fake(sock).calls] == [b"muffin", b"x"]


def test_a_stream_ignores_the_address(world: World) -> None:
    sock = world.socket(SOCK_STREAM)
    sock.sendto(b"x", ("192.0.2.2", 4747))
    assert fake(sock).calls == [("sendmsg", b"x", MSG_DONTWAIT, 0, NO_PORT)]


def test_sendto_another_family(world: World) -> None:
    sock = world.socket(SOCK_DGRAM)
    assert code_of(lambda: sock.sendto(b"x", SockaddrIn(PEER, 7, 10))) == errno.EAFNOSUPPORT
    sock.sendto(b"x", SockaddrIn(PEER, 7, AF_UNSPEC))  # forgiven, as in udp_sendmsg


def test_receiving(world: World) -> None:
    sock = world.socket(SOCK_DGRAM)
    assert code_of(lambda: sock.recv(10)) == errno.EAGAIN
    fake(sock).inbox = [b"muffin", b"two", b"three"]
    assert sock.recv(3) == b"muf"
    assert sock.recvfrom(10) == (b"two", SockaddrIn(PEER, 7))
    assert sock.recvmsg(MAX_RW_COUNT * 2).data == b"three"
    assert code_of(lambda: sock.recv(-1)) == errno.EINVAL


def test_poll(world: World) -> None:
    sock = world.socket(SOCK_DGRAM)
    assert sock.poll() == 0
    sock.close()
    assert sock.poll() == POLLHUP


def test_closing_stops_the_observer(world: World) -> None:
    sock = world.socket(SOCK_DGRAM)
    watching = Watching()
    sock.observe(watching)
    sock.close()
    sock.sk.observer.state_change(sock.sk)
    assert watching.changes == 0
    assert isinstance(sock, Socket)
