"""SOL_SOCKET: ranges, clamping and rights of sk_setsockopt, and what sk_getsockopt answers (net/core/sock.c)."""

from __future__ import annotations

import errno
from struct import pack
from typing import TYPE_CHECKING

import pytest

from tests.inet.doubles import World, fake
from ustack.device.net_device import NetDevice
from ustack.error_queue import SOF_TIMESTAMPING_BIND_PHC, SOF_TIMESTAMPING_TX_SOFTWARE
from ustack.inet.family import SOCK_DGRAM, SOCK_RAW, SOCK_STREAM
from ustack.inet.options import (
    INT_MAX,
    SO_ACCEPTCONN,
    SO_BINDTODEVICE,
    SO_BINDTOIFINDEX,
    SO_BROADCAST,
    SO_DOMAIN,
    SO_DONTROUTE,
    SO_ERROR,
    SO_KEEPALIVE,
    SO_LINGER,
    SO_MARK,
    SO_MAX_PACING_RATE,
    SO_NO_CHECK,
    SO_OOBINLINE,
    SO_PRIORITY,
    SO_PROTOCOL,
    SO_RCVBUF,
    SO_RCVBUFFORCE,
    SO_RCVLOWAT,
    SO_RCVTIMEO,
    SO_REUSEADDR,
    SO_REUSEPORT,
    SO_SNDBUF,
    SO_SNDBUFFORCE,
    SO_SNDLOWAT,
    SO_SNDTIMEO,
    SO_TIMESTAMPING,
    SO_TYPE,
    SOL_SOCKET,
)
from ustack.inet.protosw import IPPROTO_ICMP
from ustack.inet.security import CAP_NET_ADMIN, CAP_NET_RAW, NOBODY_CRED, Cred
from ustack.sock import Observer, Sock
from ustack.sysctl_names import SOCK_MIN_RCVBUF, SOCK_MIN_SNDBUF
from ustack.timer import NSEC_PER_MSEC, NSEC_PER_SEC

if TYPE_CHECKING:
    from ustack.inet.socket import Socket


@pytest.fixture
def world() -> World:
    return World()


def refused(sock: Socket, name: int, value: int | bytes, level: int = SOL_SOCKET) -> int:
    with pytest.raises(OSError) as caught:
        sock.setsockopt(level, name, value)
    assert caught.value.errno is not None
    return caught.value.errno


@pytest.mark.parametrize(
    "name", [SO_REUSEADDR, SO_REUSEPORT, SO_BROADCAST, SO_KEEPALIVE, SO_DONTROUTE, SO_OOBINLINE, SO_NO_CHECK]
)
def test_flags_are_on_for_whatever_is_not_zero(world: World, name: int) -> None:
    sock = world.socket(SOCK_DGRAM)
    assert sock.getsockopt(SOL_SOCKET, name) == 0
    for value, shown in ((1, 1), (0, 0), (-7, 1), (pack("=i", 0), 0), (pack("=ii", 256, 0), 1)):
        sock.setsockopt(SOL_SOCKET, name, value)
        assert sock.getsockopt(SOL_SOCKET, name) == shown


@pytest.mark.parametrize("name", [SO_REUSEADDR, SO_SNDBUF, SO_PRIORITY])
@pytest.mark.parametrize("length", range(4))
def test_fewer_bytes_than_an_int_are_einval(world: World, name: int, length: int) -> None:
    assert refused(world.socket(SOCK_DGRAM), name, bytes(length)) == errno.EINVAL


def test_keepalive_is_told_to_the_protocol(world: World) -> None:
    sock = world.socket(SOCK_STREAM)
    sock.setsockopt(SOL_SOCKET, SO_KEEPALIVE, 1)
    assert fake(sock).calls == [("keepalive", True)]


class Waiting(Observer):
    def __init__(self) -> None:
        self.space = 0

    def write_space(self, sk: Sock) -> None:
        self.space += 1


@pytest.mark.parametrize(
    ("asked", "got"),
    [(0, SOCK_MIN_SNDBUF), (1, SOCK_MIN_SNDBUF), (3000, 6000), (5_000_000, 8_388_608), (-1, 8_388_608)],
)
def test_send_buffer_is_doubled_bounded_and_never_tiny(world: World, asked: int, got: int) -> None:
    """socket(7): "The kernel doubles this value (to allow space for bookkeeping overhead)"."""
    sock = world.socket(SOCK_DGRAM)
    waiting = Waiting()
    sock.observe(waiting)
    sock.setsockopt(SOL_SOCKET, SO_SNDBUF, asked)
    assert sock.getsockopt(SOL_SOCKET, SO_SNDBUF) == got
    assert waiting.space == 1, "there may be room now"


@pytest.mark.parametrize(
    ("asked", "got"),
    [(0, SOCK_MIN_RCVBUF), (1152, 2304), (3000, 6000), (5_000_000, 8_388_608), (-1, 8_388_608)],
)
def test_receive_buffer_is_doubled_bounded_and_never_tiny(world: World, asked: int, got: int) -> None:
    sock = world.socket(SOCK_DGRAM)
    sock.setsockopt(SOL_SOCKET, SO_RCVBUF, asked)
    assert sock.getsockopt(SOL_SOCKET, SO_RCVBUF) == got


@pytest.mark.parametrize(("force", "name"), [(SO_SNDBUFFORCE, SO_SNDBUF), (SO_RCVBUFFORCE, SO_RCVBUF)])
def test_force_goes_beyond_the_limit_with_the_right(world: World, force: int, name: int) -> None:
    sock = world.socket(SOCK_DGRAM)
    sock.setsockopt(SOL_SOCKET, force, 50_000_000)
    assert sock.getsockopt(SOL_SOCKET, name) == 100_000_000
    sock.setsockopt(SOL_SOCKET, force, INT_MAX)
    assert sock.getsockopt(SOL_SOCKET, name) == INT_MAX - 1
    sock.setsockopt(SOL_SOCKET, force, -5)
    assert sock.getsockopt(SOL_SOCKET, name) in (SOCK_MIN_SNDBUF, SOCK_MIN_RCVBUF)
    assert refused(world.socket(SOCK_DGRAM, cred=NOBODY_CRED), force, 1) == errno.EPERM


def test_priority_up_to_six_is_everybodys(world: World) -> None:
    sock = world.socket(SOCK_DGRAM, cred=NOBODY_CRED)
    for priority in range(7):
        sock.setsockopt(SOL_SOCKET, SO_PRIORITY, priority)
        assert sock.getsockopt(SOL_SOCKET, SO_PRIORITY) == priority
    for priority in (-1, 7):
        assert refused(sock, SO_PRIORITY, priority) == errno.EPERM
    world.socket(SOCK_DGRAM, cred=Cred(1, 1 << CAP_NET_ADMIN)).setsockopt(SOL_SOCKET, SO_PRIORITY, 7)


def test_marks_need_the_right(world: World) -> None:
    assert refused(world.socket(SOCK_DGRAM, cred=NOBODY_CRED), SO_MARK, 1) == errno.EPERM
    sock = world.socket(SOCK_DGRAM, cred=Cred(1, 1 << CAP_NET_RAW))
    sock.setsockopt(SOL_SOCKET, SO_MARK, -1)
    assert sock.sk.mark == 0xFFFF_FFFF


def test_linger(world: World) -> None:
    sock = world.socket(SOCK_STREAM)
    assert sock.getsockopt(SOL_SOCKET, SO_LINGER) == pack("=ii", 0, 0)
    for on, seconds, kept, told in ((1, 0, 0, 0), (5, 30, 30, 30), (0, 40, -1, 30), (1, -1, INT_MAX, INT_MAX)):
        sock.setsockopt(SOL_SOCKET, SO_LINGER, pack("=ii", on, seconds))
        assert sock.sk.linger == kept
        assert sock.getsockopt(SOL_SOCKET, SO_LINGER) == pack("=ii", kept >= 0, told), "the last time is remembered"
    for value in (1, bytes(7)):
        assert refused(sock, SO_LINGER, value) == errno.EINVAL


@pytest.mark.parametrize("name", [SO_RCVTIMEO, SO_SNDTIMEO])
def test_timeouts_are_kept_for_whoever_waits(world: World, name: int) -> None:
    sock = world.socket(SOCK_STREAM)
    assert sock.getsockopt(SOL_SOCKET, name) == pack("=qq", 0, 0)
    sock.setsockopt(SOL_SOCKET, name, pack("=qq", 2, 500_000))
    assert sock.getsockopt(SOL_SOCKET, name) == pack("=qq", 2, 500_000)
    assert (sock.rcvtimeo, sock.sndtimeo) in (
        (2 * NSEC_PER_SEC + 500 * NSEC_PER_MSEC, 0),
        (0, 2 * NSEC_PER_SEC + 500 * NSEC_PER_MSEC),
    )
    for usec in (-1, 1_000_000):
        assert refused(sock, name, pack("=qq", 0, usec)) == errno.EDOM
    assert refused(sock, name, 5) == errno.EINVAL
    assert refused(sock, name, bytes(15)) == errno.EINVAL
    sock.setsockopt(SOL_SOCKET, name, pack("=qq", -1, 0))
    assert max(sock.rcvtimeo, sock.sndtimeo) == 1, "no time at all, yet not for ever"
    sock.setsockopt(SOL_SOCKET, name, pack("=qq", 2**62, 0))
    assert max(sock.rcvtimeo, sock.sndtimeo) == INT_MAX * NSEC_PER_SEC


def test_low_water_mark(world: World) -> None:
    sock = world.socket(SOCK_STREAM)
    for asked, got in ((0, 1), (5, 5), (-1, INT_MAX)):
        sock.setsockopt(SOL_SOCKET, SO_RCVLOWAT, asked)
        assert sock.getsockopt(SOL_SOCKET, SO_RCVLOWAT) == got
    assert sock.getsockopt(SOL_SOCKET, SO_SNDLOWAT) == 1
    assert refused(sock, SO_SNDLOWAT, 5) == errno.ENOPROTOOPT


def test_binding_to_a_device(world: World) -> None:
    dev = NetDevice("eth7", 2)
    world.devices.register_netdevice(dev)
    sock = world.socket(SOCK_DGRAM, cred=NOBODY_CRED)
    assert sock.getsockopt(SOL_SOCKET, SO_BINDTODEVICE) == b""
    assert refused(sock, SO_BINDTODEVICE, b"eth8\0") == errno.ENODEV
    assert refused(sock, SO_BINDTODEVICE, 1) == errno.ENODEV, "an int is four bytes of a name"
    sock.setsockopt(SOL_SOCKET, SO_BINDTODEVICE, b"eth7\0garbage")
    assert sock.sk.bound_dev_if == dev.ifindex == sock.getsockopt(SOL_SOCKET, SO_BINDTOIFINDEX)
    assert sock.getsockopt(SOL_SOCKET, SO_BINDTODEVICE) == b"eth7\0"
    assert refused(sock, SO_BINDTODEVICE, b"") == errno.EPERM, "to undo it takes CAP_NET_RAW"
    root = world.socket(SOCK_DGRAM)
    root.setsockopt(SOL_SOCKET, SO_BINDTOIFINDEX, dev.ifindex)
    root.setsockopt(SOL_SOCKET, SO_BINDTODEVICE, 0)
    assert root.sk.bound_dev_if == 0
    assert refused(root, SO_BINDTOIFINDEX, -1) == errno.EINVAL


def test_what_a_socket_is(world: World) -> None:
    stream, ping = world.socket(SOCK_STREAM), world.socket(SOCK_DGRAM, IPPROTO_ICMP)
    raw = world.socket(SOCK_RAW, 89)
    shown = [
        [sock.getsockopt(SOL_SOCKET, name) for name in (SO_TYPE, SO_PROTOCOL, SO_DOMAIN)]
        for sock in (stream, ping, raw)
    ]
    assert shown == [[1, 6, 2], [2, 1, 2], [3, 89, 2]]
    assert stream.getsockopt(SOL_SOCKET, SO_ACCEPTCONN) == 0
    stream.listen(1)
    assert stream.getsockopt(SOL_SOCKET, SO_ACCEPTCONN) == 1


def test_so_error_is_read_once_and_then_the_soft_one(world: World) -> None:
    sock = world.socket(SOCK_STREAM)
    sock.sk.err, sock.sk.err_soft = errno.ECONNRESET, errno.EHOSTUNREACH
    answers = [sock.getsockopt(SOL_SOCKET, SO_ERROR) for _ in range(3)]
    assert answers == [errno.ECONNRESET, errno.EHOSTUNREACH, 0]


@pytest.mark.parametrize("name", [SO_TYPE, SO_PROTOCOL, SO_DOMAIN, SO_ERROR, SO_ACCEPTCONN, 0, 9999, -1])
def test_what_cannot_be_set(world: World, name: int) -> None:
    assert refused(world.socket(SOCK_STREAM), name, 1) == errno.ENOPROTOOPT


@pytest.mark.parametrize("name", [0, 9999, -1])
@pytest.mark.parametrize("level", [SOL_SOCKET, 0])
def test_what_cannot_be_read(world: World, level: int, name: int) -> None:
    with pytest.raises(OSError) as caught:
        world.socket(SOCK_STREAM).getsockopt(level, name)
    assert caught.value.errno == errno.ENOPROTOOPT


def test_other_levels_are_the_protocols(world: World) -> None:
    sock = world.socket(SOCK_STREAM)
    sock.setsockopt(6, 1, pack("=i", 1))
    assert fake(sock).calls == [("setsockopt", 1, pack("=i", 1))]
    assert sock.getsockopt(6, 1) == 4711
    assert refused(sock, 1, 1, level=255) == errno.ENOPROTOOPT


def test_timestamping_is_a_structure_of_eight_bytes(world: World) -> None:
    """struct so_timestamping: flags and bind_phc; no device here has a clock of its own to bind to."""
    sock = world.socket(SOCK_STREAM)
    sock.setsockopt(SOL_SOCKET, SO_TIMESTAMPING, SOF_TIMESTAMPING_TX_SOFTWARE)
    assert sock.getsockopt_bytes(SOL_SOCKET, SO_TIMESTAMPING, 300) == pack("=Ii", SOF_TIMESTAMPING_TX_SOFTWARE, 0)
    assert sock.getsockopt_bytes(SOL_SOCKET, SO_TIMESTAMPING, 4) == pack("=I", SOF_TIMESTAMPING_TX_SOFTWARE)
    assert refused(sock, SO_TIMESTAMPING, SOF_TIMESTAMPING_BIND_PHC) == errno.EINVAL


def test_a_pacing_rate_of_more_bytes_than_a_long_begins_with_one(world: World) -> None:
    sock = world.socket(SOCK_STREAM)
    sock.setsockopt(SOL_SOCKET, SO_MAX_PACING_RATE, pack("=QQ", 1 << 40, 7))
    assert sock.getsockopt_bytes(SOL_SOCKET, SO_MAX_PACING_RATE, 16) == pack("=Q", 1 << 40)
