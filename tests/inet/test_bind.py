"""bind: the checks of __inet_bind in their order, raw_bind, ping_bind, autobind (Linux net/ipv4/af_inet.c)."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import pytest

from tests.inet.doubles import BROADCAST, FOREIGN, GROUP, OURS, World, fake
from ustack.inet.family import SOCK_DGRAM, SOCK_RAW, SOCK_STREAM
from ustack.inet.ip_sockglue import IP_BIND_ADDRESS_NO_PORT, IP_FREEBIND, IP_TRANSPARENT
from ustack.inet.options import SOL_IP
from ustack.inet.protosw import IPPROTO_ICMP
from ustack.inet.security import CAP_NET_BIND_SERVICE, NOBODY_CRED, ROOT, Cred, SecurityModule
from ustack.inet.sockaddr import AF_INET, AF_UNSPEC, SockaddrIn, SocketAddress
from ustack.sock import TCP_ESTABLISHED

if TYPE_CHECKING:
    from ustack.inet.socket import Socket


@pytest.fixture
def world() -> World:
    return World()


def refused(sock: Socket, address: SocketAddress) -> int:
    """The errno of a bind that must fail, and must leave the socket as it was."""
    sk = sock.sk
    before = (sk.saddr, sk.rcv_saddr, sk.num, sk.bound_addr, sk.bound_port)
    with pytest.raises(OSError) as caught:
        sock.bind(address)
    assert (sk.saddr, sk.rcv_saddr, sk.num, sk.bound_addr, sk.bound_port) == before
    assert caught.value.errno is not None
    return caught.value.errno


@pytest.mark.parametrize("sock_type", [SOCK_STREAM, SOCK_DGRAM])
def test_an_address_and_a_port(world: World, sock_type: int) -> None:
    sock = world.socket(sock_type)
    sock.bind(("192.0.2.1", 8080))
    sk = sock.sk
    assert (sk.rcv_saddr, sk.saddr, sk.num) == (OURS, OURS, 8080)
    assert sk.bound_addr and sk.bound_port
    assert sock.getsockname() == SockaddrIn(OURS, 8080)


def test_any_address_and_any_port(world: World) -> None:
    sock = world.socket(SOCK_DGRAM)
    sock.bind(("", 0))
    assert sock.getsockname() == SockaddrIn(0, 40_000)
    assert not sock.sk.bound_addr and not sock.sk.bound_port


@pytest.mark.parametrize("addr", [GROUP, BROADCAST, 0xFFFF_FFFF])
def test_a_group_address_receives_and_does_not_send(world: World, addr: int) -> None:
    """ "In the BSD API these are the same except where it would be illegal to use them (multicast/broadcast)"."""
    sock = world.socket(SOCK_DGRAM)
    sock.bind(SockaddrIn(addr, 5000))
    assert (sock.sk.rcv_saddr, sock.sk.saddr) == (addr, 0)


@pytest.mark.parametrize(
    ("address", "code"),
    [
        (b"\x02\0", errno.EINVAL),  # shorter than a sockaddr_in
        (SockaddrIn(0, 5000, 10), errno.EAFNOSUPPORT),
        (SockaddrIn(OURS, 5000, AF_UNSPEC), errno.EAFNOSUPPORT),  # only ANY is tolerated
        (SockaddrIn(FOREIGN, 5000), errno.EADDRNOTAVAIL),
        (SockaddrIn(FOREIGN, 80), errno.EADDRNOTAVAIL),  # the address is judged before the port
        (SockaddrIn(OURS, 1), errno.EACCES),
        (SockaddrIn(OURS, 1023), errno.EACCES),
        (SockaddrIn(OURS, 7777), errno.EADDRINUSE),
    ],
)
def test_refusals_and_their_order(world: World, address: SocketAddress, code: int) -> None:
    world.socket(SOCK_DGRAM).bind(("", 7777))
    assert refused(world.socket(SOCK_DGRAM, cred=NOBODY_CRED), address) == code


def test_unspec_with_any_is_tolerated(world: World) -> None:
    sock = world.socket(SOCK_STREAM)
    sock.bind(SockaddrIn(0, 5000, AF_UNSPEC))
    assert sock.getsockname() == SockaddrIn(0, 5000, AF_INET)


def test_double_bind_is_einval_after_the_address_and_the_right(world: World) -> None:
    sock = world.socket(SOCK_DGRAM, cred=NOBODY_CRED)
    sock.bind(("", 5000))
    assert refused(sock, ("", 5001)) == errno.EINVAL
    assert refused(sock, SockaddrIn(FOREIGN, 5001)) == errno.EADDRNOTAVAIL
    assert refused(sock, ("", 80)) == errno.EACCES


def test_an_active_socket_is_not_bound(world: World) -> None:
    sock = world.socket(SOCK_STREAM)
    sock.sk.state = TCP_ESTABLISHED
    assert refused(sock, ("", 5000)) == errno.EINVAL


@pytest.mark.parametrize("cred", [ROOT, Cred(1000, 1 << CAP_NET_BIND_SERVICE)])
def test_low_ports_with_the_right(world: World, cred: Cred) -> None:
    world.socket(SOCK_STREAM, cred=cred).bind(("", 80))


def test_where_low_ports_end(world: World) -> None:
    world.net.sysctl.ip_unprivileged_port_start = 80
    world.socket(SOCK_STREAM, cred=NOBODY_CRED).bind(("", 80))
    assert refused(world.socket(SOCK_STREAM, cred=NOBODY_CRED), ("", 79)) == errno.EACCES


@pytest.mark.parametrize("option", [IP_FREEBIND, IP_TRANSPARENT])
def test_foreign_addresses_by_option(world: World, option: int) -> None:
    sock = world.socket(SOCK_DGRAM)
    sock.setsockopt(SOL_IP, option, 1)
    sock.bind(SockaddrIn(FOREIGN, 5000))
    assert sock.sk.saddr == FOREIGN


def test_foreign_addresses_by_sysctl(world: World) -> None:
    world.net.sysctl.ip_nonlocal_bind = 1
    world.socket(SOCK_DGRAM).bind(SockaddrIn(FOREIGN, 5000))


def test_bind_address_no_port_leaves_the_port_to_connect(world: World) -> None:
    sock = world.socket(SOCK_STREAM)
    sock.setsockopt(SOL_IP, IP_BIND_ADDRESS_NO_PORT, 1)
    sock.bind(("192.0.2.1", 0))
    assert sock.getsockname() == SockaddrIn(OURS, 0) and sock.sk.bound_addr and not sock.sk.bound_port
    other = world.socket(SOCK_STREAM)
    other.setsockopt(SOL_IP, IP_BIND_ADDRESS_NO_PORT, 1)
    other.bind(("192.0.2.1", 5000))
    assert other.sk.num == 5000, "a port that is named is taken all the same"


def test_no_port_left_is_eaddrinuse(world: World) -> None:
    for _ in range(2):
        world.socket(SOCK_DGRAM).bind(("", 0))
    assert refused(world.socket(SOCK_DGRAM), ("", 0)) == errno.EADDRINUSE


class Binder(SecurityModule):
    """Rewrites one port to another, and can refuse before and after."""

    def __init__(self, before: int = 0, after: int = 0) -> None:
        self.before = before
        self.after = after

    def inet4_bind(self, sock: Socket, address: SockaddrIn) -> int:
        if address.port == 80:
            address.port = 8080
        return self.before

    def inet4_post_bind(self, sock: Socket) -> int:
        return self.after


def test_a_hook_can_rewrite_a_bind_before_anything_is_checked(world: World) -> None:
    world.security.security_add_hooks(Binder())
    sock = world.socket(SOCK_STREAM, cred=NOBODY_CRED)
    asked = SockaddrIn(0, 80)
    sock.bind(asked)  # 80 would have been EACCES
    assert sock.getsockname() == SockaddrIn(0, 8080) and asked.port == 80


def test_a_hook_can_veto_a_bind(world: World) -> None:
    world.security.security_add_hooks(Binder(before=errno.EPERM))
    assert refused(world.socket(SOCK_STREAM), SockaddrIn(FOREIGN, 1)) == errno.EPERM


def test_a_veto_after_the_bind_gives_the_port_back(world: World) -> None:
    module = Binder(after=errno.EPERM)
    world.security.security_add_hooks(module)
    assert refused(world.socket(SOCK_STREAM), ("192.0.2.1", 5000)) == errno.EPERM
    module.after = 0
    world.socket(SOCK_STREAM).bind(("192.0.2.1", 5000))


# -- raw and ping


def test_raw_bind_sets_the_address_only_and_may_be_repeated(world: World) -> None:
    sock = world.socket(SOCK_RAW, IPPROTO_ICMP)
    sock.bind(("192.0.2.1", 9999))
    assert sock.getsockname() == SockaddrIn(OURS, IPPROTO_ICMP), "a raw socket's port is its protocol"
    sock.bind(("", 0))
    assert sock.sk.saddr == 0
    assert refused(sock, SockaddrIn(FOREIGN, 0)) == errno.EADDRNOTAVAIL
    sock.sk.state = TCP_ESTABLISHED
    assert refused(sock, ("", 0)) == errno.EINVAL


def test_ping_bind_takes_any_identifier_but_no_group(world: World) -> None:
    sock = world.socket(SOCK_DGRAM, IPPROTO_ICMP, NOBODY_CRED)
    for addr in (GROUP, BROADCAST, FOREIGN):
        assert refused(sock, SockaddrIn(addr, 0)) == errno.EADDRNOTAVAIL
    sock.bind(("192.0.2.1", 7))
    assert sock.getsockname() == SockaddrIn(OURS, 7)
    assert refused(sock, ("192.0.2.1", 8)) == errno.EINVAL
    world.socket(SOCK_DGRAM, IPPROTO_ICMP, NOBODY_CRED).bind(("", 8))


# -- autobind


def test_sending_and_connecting_bind_a_datagram_socket(world: World) -> None:
    sock = world.socket(SOCK_DGRAM)
    sock.sendto(b"x", ("192.0.2.2", 7))
    assert sock.sk.num == 40_000
    other = world.socket(SOCK_DGRAM)
    other.connect(("192.0.2.2", 7))
    assert other.sk.num == 40_001


def test_without_a_free_port_both_are_eagain(world: World) -> None:
    """inet_autobind answers EAGAIN whatever get_port said."""
    fake(world.socket(SOCK_DGRAM)).taken.update((40_000, 40_001))
    sock = world.socket(SOCK_DGRAM)
    with pytest.raises(BlockingIOError):
        sock.sendto(b"x", ("192.0.2.2", 7))
    with pytest.raises(BlockingIOError):
        sock.connect(("192.0.2.2", 7))


def test_a_stream_is_not_bound_by_sending(world: World) -> None:
    sock = world.socket(SOCK_STREAM)
    sock.send(b"x")
    assert sock.sk.num == 0
