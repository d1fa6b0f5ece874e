"""socket(): families, the (type, protocol) table and inet_create, with Linux's errno for every misuse."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import pytest

from tests.inet.doubles import FakeProto, World, fake
from ustack.inet.family import SOCK_CLOEXEC, SOCK_DGRAM, SOCK_NONBLOCK, SOCK_RAW, SOCK_STREAM, NetProtoFamily
from ustack.inet.protosw import (
    INET_PROTOSW_PERMANENT,
    IPPROTO_ICMP,
    IPPROTO_IP,
    IPPROTO_RAW,
    IPPROTO_TCP,
    IPPROTO_UDP,
    InetProtosw,
)
from ustack.inet.security import CAP_NET_RAW, NOBODY_CRED, ROOT, Cred
from ustack.inet.socket import SS_UNCONNECTED, ProtoOps
from ustack.sock import IP_PMTUDISC_WANT, TCP_CLOSE

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def world() -> World:
    return World()


def refused(world: World, family: int, sock_type: int, protocol: int, cred: Cred = ROOT) -> int:
    with pytest.raises(OSError) as caught:
        world.families.sock_create(family, sock_type, protocol, cred)
    assert caught.value.errno is not None
    return caught.value.errno


@pytest.mark.parametrize(
    ("sock_type", "protocol", "number"),
    [
        (SOCK_STREAM, 0, IPPROTO_TCP),
        (SOCK_STREAM, IPPROTO_TCP, IPPROTO_TCP),
        (SOCK_DGRAM, 0, IPPROTO_UDP),
        (SOCK_DGRAM, IPPROTO_UDP, IPPROTO_UDP),
        (SOCK_DGRAM, IPPROTO_ICMP, IPPROTO_ICMP),
        (SOCK_RAW, IPPROTO_ICMP, IPPROTO_ICMP),
        (SOCK_RAW, 89, 89),
        (SOCK_RAW, IPPROTO_RAW, IPPROTO_RAW),
    ],
)
def test_type_and_protocol_choose_the_protocol(world: World, sock_type: int, protocol: int, number: int) -> None:
    sock = world.socket(sock_type, protocol)
    assert (sock.sk.protocol, sock.type, sock.state) == (number, sock_type, SS_UNCONNECTED)


@pytest.mark.parametrize(
    ("family", "sock_type", "protocol", "code"),
    [
        (-1, SOCK_STREAM, 0, errno.EAFNOSUPPORT),
        (10, SOCK_STREAM, 0, errno.EAFNOSUPPORT),  # AF_INET6 is not there
        (46, SOCK_STREAM, 0, errno.EAFNOSUPPORT),
        (2, 0, 0, errno.ESOCKTNOSUPPORT),
        (2, 4, 0, errno.ESOCKTNOSUPPORT),  # SOCK_RDM
        (2, 5, IPPROTO_TCP, errno.ESOCKTNOSUPPORT),  # SOCK_SEQPACKET
        (2, 11, 0, errno.EINVAL),
        (2, 15, 0, errno.EINVAL),
        (2, SOCK_STREAM | 0x100, 0, errno.EINVAL),  # flags that are none
        (2, SOCK_STREAM, IPPROTO_UDP, errno.EPROTONOSUPPORT),
        (2, SOCK_DGRAM, IPPROTO_TCP, errno.EPROTONOSUPPORT),
        (2, SOCK_STREAM, 255, errno.EPROTONOSUPPORT),
        (2, SOCK_RAW, IPPROTO_IP, errno.EPROTONOSUPPORT),  # wildcard against wildcard
        (2, SOCK_STREAM, -1, errno.EINVAL),
        (2, SOCK_STREAM, 263, errno.EINVAL),
    ],
)
def test_misuse(world: World, family: int, sock_type: int, protocol: int, code: int) -> None:
    assert refused(world, family, sock_type, protocol) == code


def test_raw_needs_the_right(world: World) -> None:
    assert refused(world, 2, SOCK_RAW, IPPROTO_ICMP, NOBODY_CRED) == errno.EPERM
    world.socket(SOCK_RAW, IPPROTO_ICMP, Cred(1000, 1 << CAP_NET_RAW))
    world.socket(SOCK_DGRAM, IPPROTO_ICMP, NOBODY_CRED)  # ping does not


def test_the_protocol_is_judged_before_the_right(world: World) -> None:
    """inet_create looks the pair up first: an unprivileged socket(SOCK_RAW, 0) is EPROTONOSUPPORT, not EPERM."""
    assert refused(world, 2, SOCK_RAW, 0, NOBODY_CRED) == errno.EPROTONOSUPPORT


def test_flags_are_kept_and_are_not_the_type(world: World) -> None:
    sock = world.socket(SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC)
    assert sock.type == SOCK_DGRAM and sock.flags == SOCK_NONBLOCK | SOCK_CLOEXEC


def test_defaults_of_inet_sock(world: World) -> None:
    """inet_create: uc_ttl -1, mc_ttl 1, mc_loop 1, pmtudisc by ip_no_pmtu_disc, sk_reuse by INET_PROTOSW_REUSE."""
    sk = world.socket(SOCK_DGRAM, cred=Cred(1000, 0)).sk
    assert (sk.uc_ttl, sk.mc_ttl, sk.mc_loop, sk.pmtudisc) == (-1, 1, True, IP_PMTUDISC_WANT)
    assert (sk.state, sk.num, sk.rcv_saddr, sk.reuseaddr, sk.uid) == (TCP_CLOSE, 0, 0, False, 1000)
    assert world.socket(SOCK_RAW, 1).sk.reuseaddr


def test_a_family_is_registered_once_and_can_go_again(world: World) -> None:
    for family, code in ((2, errno.EEXIST), (46, errno.ENOBUFS), (-1, errno.ENOBUFS)):
        with pytest.raises(OSError) as caught:
            world.families.sock_register(NetProtoFamily(family))
        assert caught.value.errno == code
    there = world.socket(SOCK_DGRAM)
    world.families.sock_unregister(2)
    world.families.sock_unregister(2)
    assert refused(world, 2, SOCK_DGRAM, 0) == errno.EAFNOSUPPORT
    there.bind(("", 5000))  # what was open stays


def test_a_family_of_ones_own(world: World) -> None:
    world.families.sock_register(NetProtoFamily(1))
    assert refused(world, 1, SOCK_DGRAM, 0) == errno.ESOCKTNOSUPPORT


def entry(world: World, sock_type: int, protocol: int, flags: int = 0) -> InetProtosw:
    return InetProtosw(sock_type, protocol, FakeProto(world.net, sock_type), ProtoOps(), flags)


def test_a_permanent_protocol_cannot_be_overridden_or_removed(world: World) -> None:
    table = world.inet.inetsw
    with pytest.raises(OSError) as caught:
        table.inet_register_protosw(entry(world, SOCK_STREAM, IPPROTO_TCP))
    assert caught.value.errno == errno.EPERM
    with pytest.raises(OSError) as caught:
        table.inet_unregister_protosw(table.lookup(SOCK_STREAM, IPPROTO_TCP))
    assert caught.value.errno == errno.EPERM


def test_another_protocol_can_be_added_and_the_newest_wins(world: World) -> None:
    table = world.inet.inetsw
    first, second = entry(world, SOCK_STREAM, 132), entry(world, SOCK_STREAM, 132)
    table.inet_register_protosw(first)
    table.inet_register_protosw(second)
    assert table.lookup(SOCK_STREAM, 132) is second
    assert table.lookup(SOCK_STREAM, 0).protocol == IPPROTO_TCP, "the permanent one stays the default"
    table.inet_unregister_protosw(second)
    assert table.lookup(SOCK_STREAM, 132) is first


@pytest.mark.parametrize("sock_type", [-1, 11])
def test_an_entry_for_a_type_that_cannot_be(world: World, sock_type: int) -> None:
    with pytest.raises(OSError) as caught:
        world.inet.inetsw.inet_register_protosw(entry(world, sock_type, 1, INET_PROTOSW_PERMANENT))
    assert caught.value.errno == errno.EINVAL


def test_operations_that_a_family_does_not_offer(world: World) -> None:
    """sock_no_*(): EOPNOTSUPP."""
    sock = world.socket(SOCK_DGRAM)
    sock.ops = ProtoOps()
    calls: list[Callable[[], object]] = [
        lambda: sock.bind(("", 1)),
        lambda: sock.connect(("", 1)),
        lambda: sock.listen(1),
        lambda: sock.accept(),
        lambda: sock.getsockname(),
        lambda: sock.getpeername(),
        lambda: sock.shutdown(1),
        lambda: sock.send(b"x"),
        lambda: sock.recv(1),
        lambda: sock.setsockopt(1, 2, 3),
        lambda: sock.getsockopt(1, 2),
    ]
    for call in calls:
        with pytest.raises(OSError) as caught:
            call()
        assert caught.value.errno == errno.EOPNOTSUPP


def test_close_is_once_and_everything_after_it_is_ebadf(world: World) -> None:
    with world.socket(SOCK_STREAM) as sock:
        sk = fake(sock)
    sock.close()
    assert sk.calls == [("close",)]
    for call in (sock.getsockname, lambda: sock.send(b""), lambda: sock.recv(1), lambda: sock.listen(1)):
        with pytest.raises(OSError) as caught:
            call()
        assert caught.value.errno == errno.EBADF
