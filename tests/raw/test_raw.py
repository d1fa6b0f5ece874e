"""Raw sockets (Linux net/ipv4/raw.c)."""

from __future__ import annotations

import errno

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.ipv4.station import (
    FAR,
    OURS,
    PEER,
    SUBNET_BROADCAST,
    Sent,
    Station,
    Watcher,
    echo,
    ip_packet,
)
from ustack.drop import Reason
from ustack.packet import SKB_OVERHEAD
from ustack.raw.raw import ICMP_FILTER, SOL_RAW
from ustack.sock import IP_PMTUDISC_DO, MSG_OOB, MSG_PEEK, SEND_SHUTDOWN
from ustack.wire import icmp, ipv4
from ustack.wire.ipv4 import IP_MF, IPPROTO_ICMP, IPPROTO_RAW, IPPROTO_UDP

SCTP = 132


def only(station: Station) -> Sent:
    (sent,) = station.take()
    return sent


# -- hearing


def test_a_raw_socket_gets_the_whole_packet() -> None:
    """raw_rcv: the IP header included; a protocol that nobody else serves is then not unreachable."""
    station = Station()
    sk = station.raw.new_sock(SCTP)
    sk.observer = watcher = Watcher()
    station.receive(b"payload", SCTP, ttl=9)
    got = sk.recvmsg(999, 0)
    assert (got.addr, got.port, watcher.readable) == (PEER, 0, 1)
    header = ipv4.parse(got.data, 0, len(got.data))
    assert header is not None and (header.ttl, header.total_len, header.protocol) == (9, 27, SCTP)
    assert got.data[20:] == b"payload" and station.take() == [] and station.net.drops == {}
    assert station.moved() == {"Ip.InReceives": 1, "Ip.InDelivers": 1}


def test_the_protocol_still_gets_its_packet() -> None:
    station = Station()
    raws = [station.raw.new_sock(IPPROTO_ICMP) for _ in range(2)]
    station.receive(echo(b"x"), IPPROTO_ICMP)
    assert only(station).l4[0] == icmp.ICMP_ECHOREPLY
    assert [sk.recvmsg(99, 0).data[20:] for sk in raws] == [echo(b"x")] * 2


def test_addresses_and_device_choose() -> None:
    """raw_v4_match."""
    station = Station()
    for name, value, expected in [
        ("daddr", PEER, True),
        ("daddr", FAR, False),
        ("rcv_saddr", OURS, True),
        ("rcv_saddr", FAR, False),
        ("bound_dev_if", int(station.eth0.ifindex), True),
        ("bound_dev_if", int(station.lo.ifindex), False),
    ]:
        sk = station.raw.new_sock(SCTP)
        setattr(sk, name, value)
        station.receive(b"x", SCTP)
        assert (sk.queued == 1) is expected
        # nobody who matched: the protocol is unreachable
        assert (len(station.take()) == 0) is expected
        sk.close()
        station.wait(10)


def test_fragments_are_put_together_first() -> None:
    station = Station()
    sk = station.raw.new_sock(SCTP)
    station.receive(bytes(16), SCTP, frag_off=IP_MF)
    station.receive(b"end", SCTP, frag_off=2)
    assert len(sk.recvmsg(999, 0).data) == 20 + 19


def test_icmp_filter() -> None:
    station = Station()
    sk = station.raw.new_sock(IPPROTO_ICMP)
    sk.setsockopt(SOL_RAW, ICMP_FILTER, 1 << icmp.ICMP_ECHO)
    assert sk.getsockopt(SOL_RAW, ICMP_FILTER) == 1 << icmp.ICMP_ECHO
    station.receive(echo(), IPPROTO_ICMP)
    assert sk.queued == 0 and len(station.take()) == 1
    station.receive(echo(kind=icmp.ICMP_ECHOREPLY), IPPROTO_ICMP)
    assert sk.queued == 1


def test_options_that_are_none() -> None:
    station = Station()
    other = station.raw.new_sock(SCTP)
    for sk, level, name, code in [
        (other, SOL_RAW, ICMP_FILTER, errno.EOPNOTSUPP),
        (other, SOL_RAW, 2, errno.ENOPROTOOPT),
        (other, 6, 1, errno.ENOPROTOOPT),
    ]:
        with pytest.raises(OSError) as raised:
            sk.setsockopt(level, name, 1)
        assert raised.value.errno == code


def test_the_receive_buffer_is_a_limit() -> None:
    """raw_rcv_skb drops; no SNMP group counts it, the packet itself goes its way."""
    station = Station()
    sk = station.raw.new_sock(IPPROTO_ICMP)
    sk.rcvbuf = 2 * (SKB_OVERHEAD + 28)
    for _ in range(5):
        station.receive(echo(), IPPROTO_ICMP)
    assert (sk.queued, sk.drops, station.net.drops) == (2, 3, {Reason.RAW_RCVBUFF: 3})
    assert len(station.take()) == 5 and station.net.mib.path.delivered == 5
    assert station.moved("Udp") == {}


def test_a_closed_socket_hears_nothing() -> None:
    station = Station()
    sk = station.raw.new_sock(SCTP)
    station.receive(b"x", SCTP)
    sk.close()
    sk.close()
    assert station.raw.table == {} and station.raw.sockets() == [] and sk.queued == 0


# -- speaking


def test_a_payload_under_our_header() -> None:
    station = Station()
    sk = station.raw.new_sock(SCTP)
    sk.tos, sk.uc_ttl = 8, 3
    assert sk.sendmsg(memoryview(b"payload"), 0, PEER, 0) == 7
    sent = only(station)
    assert (sent.l4, sent.ip.protocol, sent.ip.tos, sent.ip.ttl, sent.ip.saddr) == (b"payload", SCTP, 8, 3, OURS)
    assert station.moved() == {"Ip.OutRequests": 1, "Ip.OutTransmits": 1}


def test_icmp_sent_raw_is_counted() -> None:
    """icmp_out_count: whoever sends it."""
    station = Station()
    station.raw.new_sock(IPPROTO_ICMP).sendmsg(echo(), 0, PEER, 0)
    assert station.moved("Icmp") == {"Icmp.OutMsgs": 1, "Icmp.OutEchos": 1}


def test_a_header_of_ones_own() -> None:
    """raw_send_hdrinc: source and id are filled in where they are 0, length and checksum always."""
    station = Station()
    sk = station.raw.new_sock(IPPROTO_RAW)
    assert sk.hdrincl
    mine = bytearray(ip_packet(b"payload", SCTP, 0, PEER, options=bytes((1, 1, 1, 0))))
    mine[2:4], mine[4:6], mine[10:12] = b"\xff\xff", b"\0\0", b"\xde\xad"
    assert sk.sendmsg(bytes(mine), 0, PEER, 0) == len(mine)
    sent = only(station)
    assert (sent.ip.saddr, sent.ip.daddr, sent.ip.protocol, sent.ip.ttl) == (OURS, PEER, SCTP, 63)
    assert sent.ip.header_len == 24 and sent.l4 == b"payload"


def test_a_source_of_ones_own() -> None:
    station = Station()
    sk = station.raw.new_sock(IPPROTO_RAW)
    sk.sendmsg(ip_packet(b"x", IPPROTO_UDP, FAR, PEER), 0, PEER, 0)
    sent = only(station)
    assert (sent.ip.saddr, sent.ip.ident) == (FAR, 99)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", errno.EINVAL),
        (bytes(19), errno.EINVAL),
        (b"\x4f" + bytes(40), errno.EINVAL),  # a header longer than the packet
        (b"\x44" + bytes(40), errno.EINVAL),
        (b"\x65" + bytes(40), errno.EINVAL),
        (b"\x45" + bytes(1500), errno.EMSGSIZE),
    ],
)
def test_headers_that_are_none(data: bytes, code: int) -> None:
    station = Station()
    with pytest.raises(OSError) as raised:
        station.raw.new_sock(IPPROTO_RAW).sendmsg(data, 0, PEER, 0)
    assert raised.value.errno == code and station.take() == [] and station.moved() == {}


@pytest.mark.parametrize(
    ("length", "flags", "addr", "port", "options", "code"),
    [
        (65_536, 0, PEER, 0, {}, errno.EMSGSIZE),
        (65_516, 0, PEER, 0, {}, errno.EMSGSIZE),
        (1_481, 0, PEER, 0, {"pmtudisc": IP_PMTUDISC_DO}, errno.EMSGSIZE),
        (1, MSG_OOB, PEER, 0, {}, errno.EOPNOTSUPP),
        (1, 0, 0, -1, {}, errno.EDESTADDRREQ),
        (1, 0, SUBNET_BROADCAST, 0, {}, errno.EACCES),
        (1, 0, PEER, 0, {"shutdown": SEND_SHUTDOWN}, errno.EPIPE),
    ],
)
def test_errno(length: int, flags: int, addr: int, port: int, options: dict[str, int], code: int) -> None:
    station = Station()
    sk = station.raw.new_sock(SCTP)
    for name, value in options.items():
        setattr(sk, name, value)
    with pytest.raises(OSError) as raised:
        sk.sendmsg(bytes(length), flags, addr, port)
    assert raised.value.errno == code and station.take() == [] and station.moved() == {}


def test_connect_and_back() -> None:
    station = Station()
    sk = station.raw.new_sock(SCTP)
    sk.connect(PEER, 0)
    assert sk.sendmsg(b"x", 0, 0, -1) == 1 and only(station).ip.daddr == PEER
    station.receive(b"x", SCTP, src=FAR)
    station.receive(b"y", SCTP)
    assert sk.recvmsg(99, MSG_PEEK).data[20:] == b"y"
    sk.disconnect()
    station.receive(b"z", SCTP, src=FAR)
    assert sk.queued == 2 and sk.num == SCTP
    with pytest.raises(OSError, match="not supported"):
        sk.recvmsg(9, MSG_OOB)


# -- errors


@pytest.mark.parametrize(
    ("connected", "recverr", "code", "heard"),
    [
        (False, False, 3, []),
        (True, False, 3, [errno.ECONNREFUSED]),
        (True, False, 1, []),
        (True, True, 1, [errno.EHOSTUNREACH]),
        (False, True, 1, [errno.EHOSTUNREACH]),
    ],
)
def test_errors(connected: bool, recverr: bool, code: int, heard: list[int]) -> None:
    """raw_err."""
    station = Station()
    sk = station.raw.new_sock(SCTP)
    sk.observer = watcher = Watcher()
    sk.recverr = recverr
    if connected:
        sk.connect(PEER, 0)
    quoted = ip_packet(bytes(8), SCTP, OURS, PEER)
    station.receive(icmp.emit(3, code, 0, quoted), IPPROTO_ICMP)
    assert watcher.errors == heard


def test_fragmentation_needed_teaches_the_route() -> None:
    station = Station()
    station.raw.new_sock(SCTP)
    station.receive(icmp.emit(3, 4, 1000, ip_packet(bytes(8), SCTP, OURS, FAR)), IPPROTO_ICMP)
    assert [int(entry.pmtu) for entry in station.routing.exceptions.entries()] == [1000]


@settings(max_examples=80)
@given(st.binary(max_size=60), st.integers(0, 255))
def test_no_bytes_raise_or_leak(payload: bytes, protocol: int) -> None:
    station = Station()
    sk = station.raw.new_sock(protocol)
    station.receive(payload, protocol)
    assert sk.recvmsg(999, 0).data[20:] == payload
