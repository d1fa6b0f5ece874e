"""SOL_IP: ranges and rights of do_ip_setsockopt, and what do_ip_getsockopt answers (net/ipv4/ip_sockglue.c)."""

from __future__ import annotations

import errno
import sys
from struct import pack
from typing import TYPE_CHECKING

import pytest

from tests.inet.doubles import OURS, World
from ustack.device.net_device import Address, NetDevice
from ustack.dst import RTN_UNICAST, Dst
from ustack.inet.family import SOCK_DGRAM, SOCK_RAW, SOCK_STREAM
from ustack.inet.ip_sockglue import (
    IP_BIND_ADDRESS_NO_PORT,
    IP_FREEBIND,
    IP_HDRINCL,
    IP_MINTTL,
    IP_MTU,
    IP_MTU_DISCOVER,
    IP_MULTICAST_IF,
    IP_MULTICAST_LOOP,
    IP_MULTICAST_TTL,
    IP_NODEFRAG,
    IP_OPTIONS,
    IP_PKTINFO,
    IP_RECVERR,
    IP_TOS,
    IP_TRANSPARENT,
    IP_TTL,
)
from ustack.inet.options import SO_BINDTOIFINDEX, SOL_IP, SOL_SOCKET
from ustack.inet.security import CAP_NET_ADMIN, NOBODY_CRED, Cred

if TYPE_CHECKING:
    from ustack.inet.socket import Socket


@pytest.fixture
def world() -> World:
    return World()


def refused(sock: Socket, name: int, value: int | bytes) -> int:
    with pytest.raises(OSError) as caught:
        sock.setsockopt(SOL_IP, name, value)
    assert caught.value.errno is not None
    return caught.value.errno


def got(sock: Socket, name: int) -> int | bytes:
    return sock.getsockopt(SOL_IP, name)


@pytest.mark.parametrize(
    ("sock_type", "name"),
    [
        (SOCK_DGRAM, IP_RECVERR),
        (SOCK_DGRAM, IP_PKTINFO),
        (SOCK_DGRAM, IP_BIND_ADDRESS_NO_PORT),
        (SOCK_DGRAM, IP_FREEBIND),
        (SOCK_DGRAM, IP_TRANSPARENT),
        (SOCK_DGRAM, IP_MULTICAST_LOOP),
        (SOCK_RAW, IP_HDRINCL),
        (SOCK_RAW, IP_NODEFRAG),
    ],
)
def test_flags(world: World, sock_type: int, name: int) -> None:
    sock = world.socket(sock_type, 1 if sock_type == SOCK_RAW else 0)
    assert got(sock, name) == (1 if name == IP_MULTICAST_LOOP else 0)
    for value, shown in ((0, 0), (1, 1), (b"\0", 0), (b"\5", 1), (pack("=i", 0), 0), (pack("=i", 256), 1)):
        sock.setsockopt(SOL_IP, name, value)
        assert got(sock, name) == shown


def test_no_bytes_at_all_mean_zero_or_are_einval(world: World) -> None:
    """ "If optlen==0, it is equivalent to val == 0", except where the option asks for a byte."""
    sock = world.socket(SOCK_DGRAM)
    for name in (IP_RECVERR, IP_PKTINFO, IP_TOS, IP_MTU_DISCOVER, IP_BIND_ADDRESS_NO_PORT):
        sock.setsockopt(SOL_IP, name, b"")
        assert got(sock, name) == 0
    for name in (IP_TTL, IP_MINTTL, IP_FREEBIND, IP_TRANSPARENT, IP_MULTICAST_TTL, IP_MULTICAST_LOOP):
        assert refused(sock, name, b"") == errno.EINVAL
    assert refused(sock, 9999, b"") == errno.ENOPROTOOPT


def test_ttl_is_1_to_255_or_the_default(world: World) -> None:
    sock = world.socket(SOCK_STREAM)
    assert got(sock, IP_TTL) == 64
    for value in (1, 255):
        sock.setsockopt(SOL_IP, IP_TTL, value)
        assert got(sock, IP_TTL) == value
    for value in (0, 256, -2):
        assert refused(sock, IP_TTL, value) == errno.EINVAL
    assert sock.sk.uc_ttl == 255
    sock.setsockopt(SOL_IP, IP_TTL, -1)
    world.net.sysctl.ip_default_ttl = 33
    assert got(sock, IP_TTL) == 33


def test_minimum_ttl(world: World) -> None:
    sock = world.socket(SOCK_STREAM)
    for value in (0, 255):
        sock.setsockopt(SOL_IP, IP_MINTTL, value)
        assert got(sock, IP_MINTTL) == value
    for value in (-1, 256):
        assert refused(sock, IP_MINTTL, value) == errno.EINVAL


@pytest.mark.parametrize(("tos", "priority"), [(0x00, 0), (0x10, 6), (0x08, 2), (0x18, 4), (0x02, 0), (0xE0, 0)])
def test_tos_sets_the_priority_too(world: World, tos: int, priority: int) -> None:
    """rt_tos2priority: low delay is interactive, throughput is bulk."""
    sock = world.socket(SOCK_DGRAM)
    sock.setsockopt(SOL_IP, IP_TOS, 0x100 | tos)
    assert (got(sock, IP_TOS), sock.sk.priority) == (tos, priority)


def test_the_ecn_bits_of_a_stream_are_not_the_users(world: World) -> None:
    stream, datagrams = world.socket(SOCK_STREAM), world.socket(SOCK_DGRAM)
    stream.sk.tos = 2
    for sock, shown in ((stream, 0x12), (datagrams, 0x11)):
        sock.setsockopt(SOL_IP, IP_TOS, 0x11)
        assert got(sock, IP_TOS) == shown


def test_path_mtu_discovery(world: World) -> None:
    sock = world.socket(SOCK_DGRAM)
    assert got(sock, IP_MTU_DISCOVER) == 1
    for value in range(6):
        sock.setsockopt(SOL_IP, IP_MTU_DISCOVER, value)
        assert got(sock, IP_MTU_DISCOVER) == value
    for value in (-1, 6):
        assert refused(sock, IP_MTU_DISCOVER, value) == errno.EINVAL


def test_the_mtu_of_the_path_while_there_is_one(world: World) -> None:
    sock = world.socket(SOCK_DGRAM)
    with pytest.raises(OSError) as caught:
        got(sock, IP_MTU)
    assert caught.value.errno == errno.ENOTCONN
    sock.sk.dst_cache = Dst(RTN_UNICAST, NetDevice("eth0", 2, 1400), 1)
    assert got(sock, IP_MTU) == 1400
    assert refused(sock, IP_MTU, 1) == errno.ENOPROTOOPT


@pytest.mark.parametrize("name", [IP_HDRINCL, IP_NODEFRAG])
@pytest.mark.parametrize("sock_type", [SOCK_STREAM, SOCK_DGRAM])
def test_options_of_raw_sockets_only(world: World, name: int, sock_type: int) -> None:
    sock = world.socket(sock_type)
    assert refused(sock, name, 1) == errno.ENOPROTOOPT
    assert got(sock, name) == 0, "everybody may read it"


def test_to_be_transparent_takes_the_right_and_to_stop_it_does_not(world: World) -> None:
    sock = world.socket(SOCK_DGRAM, cred=NOBODY_CRED)
    assert refused(sock, IP_TRANSPARENT, 1) == errno.EPERM
    sock.setsockopt(SOL_IP, IP_TRANSPARENT, 0)
    world.socket(SOCK_DGRAM, cred=Cred(1, 1 << CAP_NET_ADMIN)).setsockopt(SOL_IP, IP_TRANSPARENT, 1)


def test_multicast_ttl(world: World) -> None:
    sock = world.socket(SOCK_DGRAM)
    for value, shown in ((0, 0), (255, 255), (-1, 1)):
        sock.setsockopt(SOL_IP, IP_MULTICAST_TTL, value)
        assert got(sock, IP_MULTICAST_TTL) == shown
    for value in (-2, 256):
        assert refused(sock, IP_MULTICAST_TTL, value) == errno.EINVAL
    assert refused(world.socket(SOCK_STREAM), IP_MULTICAST_TTL, 1) == errno.EINVAL


def test_options_for_every_packet(world: World) -> None:
    sock = world.socket(SOCK_DGRAM)
    assert got(sock, IP_OPTIONS) == b""
    route = bytes.fromhex("0707040000000001")  # record route, room for one address
    for shown in (
        bytes.fromhex("8307047f00000100"),  # loose source route
        bytes.fromhex("890b04c0000201c000020200"),  # strict, over two hops
        bytes.fromhex("44080500 00000000"),  # a time
        bytes.fromhex("440c0501 00000000 00000000"),  # an address and its time
        bytes.fromhex("94040000"),  # router alert
        route,
    ):
        sock.setsockopt(SOL_IP, IP_OPTIONS, shown)
        assert got(sock, IP_OPTIONS) == shown
    for value in (b"\x07\x02\x04\x00", bytes(41), 7):
        assert refused(sock, IP_OPTIONS, value) == errno.EINVAL
    assert got(sock, IP_OPTIONS) == route
    sock.setsockopt(SOL_IP, IP_OPTIONS, b"")
    assert got(sock, IP_OPTIONS) == b"" and sock.sk.inet_opt is None


# -- IP_MULTICAST_IF


@pytest.fixture
def dev(world: World) -> NetDevice:
    device = NetDevice("eth7", 2)
    world.devices.register_netdevice(NetDevice("lo", 0))
    world.devices.register_netdevice(device)
    device.addresses.append(Address(OURS, 24))
    return device


def mreqn(address: int, index: int) -> bytes:
    return bytes(4) + pack("!I", address) + pack("=i", index)


def test_the_device_of_multicasts_by_its_address_or_its_index(world: World, dev: NetDevice) -> None:
    sock = world.socket(SOCK_DGRAM)
    for value in (pack("!I", OURS), mreqn(OURS, 0)[:8], mreqn(OURS, 0), mreqn(0, dev.ifindex)):
        sock.setsockopt(SOL_IP, IP_MULTICAST_IF, bytes(4))
        assert (sock.sk.mc_index, sock.sk.mc_addr) == (0, 0)
        sock.setsockopt(SOL_IP, IP_MULTICAST_IF, value)
        assert sock.sk.mc_index == dev.ifindex
    sock.setsockopt(SOL_IP, IP_MULTICAST_IF, pack("!I", OURS))
    assert got(sock, IP_MULTICAST_IF) == pack("!I", OURS)


def test_a_device_that_is_not_there(world: World, dev: NetDevice) -> None:
    sock = world.socket(SOCK_DGRAM)
    for value in (pack("!I", OURS + 1), mreqn(0, 99)):
        assert refused(sock, IP_MULTICAST_IF, value) == errno.EADDRNOTAVAIL


def test_multicasts_of_a_socket_bound_to_another_device(world: World, dev: NetDevice) -> None:
    sock = world.socket(SOCK_DGRAM)
    sock.setsockopt(SOL_SOCKET, SO_BINDTOIFINDEX, dev.ifindex - 1)
    assert refused(sock, IP_MULTICAST_IF, mreqn(0, dev.ifindex)) == errno.EINVAL
    sock.setsockopt(SOL_SOCKET, SO_BINDTOIFINDEX, dev.ifindex)
    sock.setsockopt(SOL_IP, IP_MULTICAST_IF, mreqn(0, dev.ifindex))


def test_an_int_is_the_four_bytes_of_an_address(world: World) -> None:
    sock = world.socket(SOCK_DGRAM)
    assert refused(sock, IP_MULTICAST_IF, 5) == errno.EADDRNOTAVAIL
    sock.setsockopt(SOL_IP, IP_MULTICAST_IF, 0)
    assert got(sock, IP_MULTICAST_IF) == bytes(4)


def test_options_that_nobody_knows_take_the_right(world: World) -> None:
    """__ip_options_compile: CAP_NET_RAW for what is none of its own; an int is four bytes of options."""
    unknown = bytes((0x18, 2, 0, 0))
    assert refused(world.socket(SOCK_STREAM, cred=NOBODY_CRED), IP_OPTIONS, unknown) == errno.EINVAL
    for value in (unknown, int.from_bytes(unknown, sys.byteorder)):
        sock = world.socket(SOCK_STREAM)
        sock.setsockopt(SOL_IP, IP_OPTIONS, value)
        assert got(sock, IP_OPTIONS) == unknown


@pytest.mark.parametrize("value", [b"", b"abc"])
def test_values_that_name_no_device(world: World, value: int | bytes) -> None:
    assert refused(world.socket(SOCK_DGRAM), IP_MULTICAST_IF, value) == errno.EINVAL
    assert refused(world.socket(SOCK_STREAM), IP_MULTICAST_IF, bytes(4)) == errno.EINVAL
