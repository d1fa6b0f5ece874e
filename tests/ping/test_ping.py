"""Ping sockets (Linux net/ipv4/ping.c)."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import pytest

from tests.ipv4.station import (
    FAR,
    LOCALHOST,
    OURS,
    PEER,
    SILENT,
    SUBNET_BROADCAST,
    Sent,
    Station,
    Watcher,
    echo,
    ip_packet,
)
from ustack.drop import Reason
from ustack.packet import SKB_OVERHEAD
from ustack.sock import MSG_OOB, SEND_SHUTDOWN
from ustack.wire import icmp
from ustack.wire.icmp import ICMP_ECHOREPLY
from ustack.wire.ipv4 import IPPROTO_ICMP

if TYPE_CHECKING:
    from ustack.ping.ping import PingSock


def ping(station: Station, ident: int = 0, **options: object) -> PingSock:
    sk = station.ping.new_sock()
    for name, value in options.items():
        setattr(sk, name, value)
    if ident:
        sk.get_port(ident)
    return sk


def only(station: Station) -> Sent:
    (sent,) = station.take()
    return sent


# -- asking


def test_the_identifier_and_the_checksum_become_ours() -> None:
    station = Station()
    sk = ping(station, 77)
    request = bytearray(echo(b"data", 0x9999, 5))
    request[2:4] = b"\xba\xad"
    assert sk.sendmsg(bytes(request), 0, PEER, 0) == 12
    sent = only(station)
    assert sent.l4 == echo(b"data", 77, 5) and sent.ip.protocol == IPPROTO_ICMP
    assert station.moved() == {"Ip.OutRequests": 1, "Ip.OutTransmits": 1, "Icmp.OutMsgs": 1, "Icmp.OutEchos": 1}


def test_an_identifier_is_chosen_when_it_is_needed() -> None:
    idents = set()
    for seed in range(20):
        station = Station(seed=bytes((seed,)) * 16)
        sk = ping(station)
        sk.sendmsg(echo(), 0, PEER, 0)
        assert sk.num and int.from_bytes(only(station).l4[4:6], "big") == sk.num
        idents.add(int(sk.num))
    assert len(idents) == 20


@pytest.mark.parametrize(
    ("data", "flags", "addr", "port", "options", "code"),
    [
        (bytes(65_536), 0, PEER, 0, {}, errno.EMSGSIZE),
        (echo(bytes(65_508)), 0, PEER, 0, {}, errno.EMSGSIZE),
        (b"\x08" + bytes(6), 0, PEER, 0, {}, errno.EINVAL),
        (b"\x08" + bytes(6), MSG_OOB, PEER, 0, {}, errno.EINVAL),
        (echo(), MSG_OOB, PEER, 0, {}, errno.EOPNOTSUPP),
        (echo(kind=ICMP_ECHOREPLY), 0, PEER, 0, {}, errno.EINVAL),
        (echo(code=1), 0, PEER, 0, {}, errno.EINVAL),
        (icmp.emit(3, 3, 0, bytes(28)), 0, PEER, 0, {}, errno.EINVAL),
        (echo(), 0, 0, -1, {}, errno.EDESTADDRREQ),
        (echo(), 0, SUBNET_BROADCAST, 0, {}, errno.EACCES),
        (echo(), 0, PEER, 0, {"shutdown": SEND_SHUTDOWN}, errno.EPIPE),
    ],
)
def test_errno(data: bytes, flags: int, addr: int, port: int, options: dict[str, object], code: int) -> None:
    station = Station()
    with pytest.raises(OSError) as raised:
        ping(station, 7, **options).sendmsg(data, flags, addr, port)
    assert raised.value.errno == code and station.take() == [] and station.moved() == {}


def test_the_group_range_may_exclude_everybody() -> None:
    station = Station()
    station.net.sysctl.ping_group_range_min, station.net.sysctl.ping_group_range_max = 1, 0
    with pytest.raises(PermissionError):
        station.ping.new_sock()


# -- the answer


def test_the_reply_reaches_who_asked() -> None:
    station = Station()
    mine, other = ping(station, 77), ping(station, 78)
    mine.observer = watcher = Watcher()
    station.receive(echo(b"data", 77, 5, ICMP_ECHOREPLY), IPPROTO_ICMP, src=FAR)
    got = mine.recvmsg(99, 0)
    assert (got.data, got.addr, got.port) == (echo(b"data", 77, 5, ICMP_ECHOREPLY), FAR, 0)
    assert watcher.readable == 1 and other.queued == 0 and station.net.drops == {}
    expected = {"Ip.InReceives": 1, "Ip.InDelivers": 1, "Icmp.InMsgs": 1, "Icmp.InEchoReps": 1}
    assert station.moved() == expected and station.take() == []


def test_a_reply_with_a_bad_checksum_does_not() -> None:
    station = Station()
    sk = ping(station, 77)
    station.receive(echo(b"data", 77, 5, ICMP_ECHOREPLY)[:-1] + b"A", IPPROTO_ICMP)
    assert sk.queued == 0 and station.net.drops == {Reason.ICMP_CSUM: 1}


@pytest.mark.parametrize(("name", "value"), [("rcv_saddr", FAR), ("bound_dev_if", 1)])
def test_bound_elsewhere(name: str, value: int) -> None:
    station = Station()
    sk = ping(station, 77, **{name: value})
    station.receive(echo(b"data", 77, 5, ICMP_ECHOREPLY), IPPROTO_ICMP)
    assert sk.queued == 0 and station.net.drops == {Reason.NO_SOCKET: 1}


def test_the_receive_buffer_is_a_limit() -> None:
    station = Station()
    sk = ping(station, 77, rcvbuf=SKB_OVERHEAD + 8)
    for _ in range(3):
        station.receive(echo(b"", 77, 5, ICMP_ECHOREPLY), IPPROTO_ICMP)
    assert (sk.queued, sk.drops, station.net.drops) == (1, 2, {Reason.RAW_RCVBUFF: 2})


def test_requests_are_not_for_ping_sockets() -> None:
    station = Station()
    sk = ping(station, 77)
    station.receive(echo(b"", 77), IPPROTO_ICMP)
    assert sk.queued == 0 and only(station).l4[0] == ICMP_ECHOREPLY


@pytest.mark.parametrize("addr", [LOCALHOST, OURS])
def test_pinging_oneself(addr: int) -> None:
    station = Station()
    sk = ping(station)
    sk.connect(addr, 0)
    sk.sendmsg(echo(bytes(3000), 0, 9), 0, 0, -1)
    station.run()
    got = sk.recvmsg(9999, 0)
    assert got.addr == addr and got.data[8:] == bytes(3000) and station.take() == []
    with pytest.raises(OSError, match="not supported"):
        sk.recvmsg(9, MSG_OOB)


# -- identifiers


def test_identifiers_are_shared_only_by_consent() -> None:
    """ping_get_port."""
    station = Station()
    first = ping(station, 77)
    with pytest.raises(OSError) as raised:
        ping(station, 77, reuseaddr=True)
    assert raised.value.errno == errno.EADDRINUSE
    first.reuseaddr = True
    second = ping(station, 77, reuseaddr=True)
    station.receive(echo(b"", 77, 5, ICMP_ECHOREPLY), IPPROTO_ICMP)
    assert (first.queued, second.queued) == (0, 1)
    assert station.ping.sockets() == [first, second]
    for sk in (first, second, second):
        sk.close()
    assert station.ping.table == {}


def test_identifiers_run_out() -> None:
    station = Station()
    socks = [ping(station, ident) for ident in range(1, 0x10000)]
    with pytest.raises(BlockingIOError):
        ping(station).sendmsg(echo(), 0, PEER, 0)
    socks[4711].close()
    sk = ping(station)
    sk.sendmsg(echo(), 0, PEER, 0)
    assert sk.num == 4712


# -- errors


@pytest.mark.parametrize(
    ("quoted", "ident", "heard"),
    [
        (echo(b"", 77), 77, [errno.EHOSTUNREACH]),
        (echo(b"", 77), 78, []),
        (echo(b"", 77, kind=ICMP_ECHOREPLY), 77, []),
        (echo(b"", 77, code=3), 77, []),
        (icmp.emit(13, 0, 77 << 16, bytes(12)), 77, []),
    ],
)
def test_an_error_about_a_request_reaches_who_asked(quoted: bytes, ident: int, heard: list[int]) -> None:
    """ping_err, ping_supported."""
    station = Station()
    sk = ping(station, ident, recverr=True)
    sk.observer = watcher = Watcher()
    packet = ip_packet(quoted, IPPROTO_ICMP, OURS, FAR, options=bytes((1, 1, 1, 0)))
    station.receive(icmp.emit(3, 1, 0, packet), IPPROTO_ICMP)
    assert watcher.errors == heard and station.take() == []


def test_hard_errors_reach_the_connected_only() -> None:
    for connected in (True, False):
        station = Station()
        sk = ping(station, 77)
        if connected:
            sk.connect(FAR, 0)
        station.receive(icmp.emit(3, 13, 0, ip_packet(echo(b"", 77), IPPROTO_ICMP, OURS, FAR)), IPPROTO_ICMP)
        assert sk.err == (errno.EHOSTUNREACH if connected else 0)


def test_a_host_that_is_not_there() -> None:
    """ARP fails: host unreachable comes back by loopback, as ``ping`` shows it."""
    station = Station()
    sk = ping(station, recverr=True)
    sk.sendmsg(echo(), 0, SILENT, 0)
    station.wait(10)
    with pytest.raises(OSError) as raised:
        sk.recvmsg(9, 0)
    assert raised.value.errno == errno.EHOSTUNREACH and station.take() == []


def test_fragmentation_needed_teaches_the_route() -> None:
    station = Station()
    ping(station, 77)
    for ident in (78, 77):
        station.receive(icmp.emit(3, 4, 1000, ip_packet(echo(b"", ident), IPPROTO_ICMP, OURS, FAR)), IPPROTO_ICMP)
        assert len(station.routing.exceptions.entries()) == (ident == 77)
