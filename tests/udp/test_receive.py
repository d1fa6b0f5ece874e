"""UDP datagrams that arrive (RFC 768, RFC 1122 section 4.1; Linux __udp4_lib_rcv)."""

from __future__ import annotations

import errno

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.ipv4.station import (
    BROADCAST_MAC,
    FAR,
    GROUP,
    LIMITED_BROADCAST,
    LOCALHOST,
    OURS,
    PEER,
    SUBNET_BROADCAST,
    Station,
    Watcher,
    udp_packet,
)
from ustack.datagram import Datagram
from ustack.drop import Reason
from ustack.packet import CHECKSUM_PARTIAL, CHECKSUM_UNNECESSARY, SKB_OVERHEAD
from ustack.sock import (
    MSG_ERRQUEUE,
    MSG_PEEK,
    MSG_TRUNC,
    POLLERR,
    POLLHUP,
    POLLIN,
    POLLOUT,
    POLLRDHUP,
    RCV_SHUTDOWN,
    SHUTDOWN_MASK,
)
from ustack.wire import icmp
from ustack.wire.ipv4 import IP_MF, IPPROTO_UDP

IN = {"Ip.InReceives": 1, "Ip.InDelivers": 1}


def test_a_datagram_reaches_its_socket() -> None:
    station = Station()
    sk = station.udp_sock(7)
    sk.observer = watcher = Watcher()
    station.net.now = 17
    station.receive_udp(b"hello", 1000, 7)
    assert watcher.readable == 1 and station.moved() == IN
    got = sk.recvmsg(100, 0)
    assert (got.data, got.addr, got.port, got.flags) == (b"hello", PEER, 1000, 0)
    assert isinstance(got, Datagram) and (got.daddr, got.ifindex) == (OURS, station.eth0.ifindex)
    # RFC 2013: udpInDatagrams are those "delivered to UDP users"
    assert station.moved() == {"Udp.InDatagrams": 1} and station.net.drops == {}
    assert sk.rmem_alloc == 0 and station.take() == []


def test_an_empty_datagram_is_a_datagram() -> None:
    station = Station()
    sk = station.udp_sock(7)
    station.receive_udp(b"", 1000, 7)
    got = sk.try_recv()
    assert got is not None and got.data == b"" and sk.try_recv() is None


# -- lengths and checksums


@pytest.mark.parametrize("length", range(8))
def test_truncated_headers_are_dropped(length: int) -> None:
    station = Station()
    station.receive(udp_packet(b"", 1000, 7)[:length], IPPROTO_UDP)
    assert station.net.drops == {Reason.UDP_MALFORMED: 1}
    assert station.moved() == IN | {"Udp.InErrors": 1} and station.take() == []


@pytest.mark.parametrize("claimed", [0, 7, 14, 0xFFFF])
def test_a_length_that_cannot_be_is_dropped(claimed: int) -> None:
    """CVE-2021-31345: shorter than the header, or longer than what IP has."""
    station = Station()
    station.udp_sock(7)
    packet = udp_packet(b"hello", 1000, 7)
    station.receive(packet[:4] + claimed.to_bytes(2, "big") + packet[6:], IPPROTO_UDP)
    assert station.net.drops == {Reason.UDP_MALFORMED: 1} and station.moved() == IN | {"Udp.InErrors": 1}


def test_what_lies_beyond_udps_length_is_not_payload() -> None:
    station = Station()
    sk = station.udp_sock(7)
    station.receive(udp_packet(b"hi", 1000, 7) + b"padding", IPPROTO_UDP)
    assert sk.recvmsg(100, 0).data == b"hi"


def test_a_bad_checksum_is_dropped_without_an_answer() -> None:
    """RFC 1122 4.1.3.4: one whose checksum "is non-zero and invalid, UDP MUST silently discard"."""
    station = Station()
    station.udp_sock(7)
    for port in (7, 8):
        station.receive(udp_packet(b"hello", 1000, port)[:-1] + b"O", IPPROTO_UDP)
        assert station.moved() == IN | {"Udp.InErrors": 1, "Udp.InCsumErrors": 1}
    assert station.net.drops == {Reason.UDP_CSUM: 2} and station.take() == []


def test_a_checksum_for_other_addresses_is_bad() -> None:
    """RFC 768: the pseudo header "gives protection against misrouted datagrams"."""
    station = Station()
    station.udp_sock(7)
    station.receive(udp_packet(b"hello", 1000, 7, PEER, OURS + 1), IPPROTO_UDP)
    assert station.net.drops == {Reason.UDP_CSUM: 1}


def test_no_checksum_is_no_bad_checksum() -> None:
    station = Station()
    sk = station.udp_sock(7)
    station.receive(udp_packet(b"hello", 1000, 7)[:6] + b"\0\0hello", IPPROTO_UDP)
    assert sk.recvmsg(100, 0).data == b"hello"


@pytest.mark.parametrize("ip_summed", [CHECKSUM_UNNECESSARY, CHECKSUM_PARTIAL])
def test_what_the_device_vouches_for_is_not_summed_again(ip_summed: int) -> None:
    station = Station()
    sk = station.udp_sock(7)
    station.receive(udp_packet(b"hello", 1000, 7)[:6] + b"\x12\x34hello", IPPROTO_UDP, ip_summed=ip_summed)
    assert sk.recvmsg(100, 0).data == b"hello"


def test_a_fragmented_datagram_is_put_together_first() -> None:
    station = Station()
    sk = station.udp_sock(7)
    packet = udp_packet(bytes(range(256)) * 10, 1000, 7)
    station.receive(packet[1480:], IPPROTO_UDP, frag_off=185)
    station.receive(packet[:1480], IPPROTO_UDP, frag_off=IP_MF)
    assert sk.recvmsg(9999, 0).data == bytes(range(256)) * 10


# -- closed ports


def test_port_unreachable() -> None:
    """RFC 1122 4.1.3.1: "UDP SHOULD send an ICMP Port Unreachable message"."""
    station = Station()
    station.udp_sock(7)
    station.receive_udp(b"hello", 1000, 8)
    (sent,) = station.take()
    assert sent.l4[:2] == bytes((3, 3)) and sent.ip.daddr == PEER and sent.l4[28:] == udp_packet(b"hello", 1000, 8)
    assert station.net.drops == {Reason.NO_SOCKET: 1}
    out = {"Ip.OutRequests": 1, "Ip.OutTransmits": 1, "Icmp.OutMsgs": 1, "Icmp.OutDestUnreachs": 1}
    assert station.moved() == IN | out | {"Udp.NoPorts": 1}


@pytest.mark.parametrize("dst", [SUBNET_BROADCAST, LIMITED_BROADCAST, GROUP])
def test_no_port_unreachable_to_many(dst: int) -> None:
    station = Station()
    station.receive_udp(b"hello", 1000, 8, dst=dst, mac=BROADCAST_MAC)
    assert station.take() == [] and station.net.drops == {Reason.IGNORED_MULTI: 1}
    assert station.moved("Udp", "Icmp") == {"Udp.IgnoredMulti": 1}


@pytest.mark.parametrize("dst", [SUBNET_BROADCAST, LIMITED_BROADCAST, GROUP])
def test_every_socket_that_matches_hears_a_broadcast(dst: int) -> None:
    """__udp4_lib_mcast_deliver; a connected socket only from its peer, a bound one only to its address."""
    station = Station()
    socks = []
    for addr in (0, 0, dst, OURS):
        sk = station.udp_sock()
        sk.reuseaddr = True
        sk.rcv_saddr = addr
        sk.get_port(7)
        socks.append(sk)
    stranger = station.udp_sock()
    stranger.reuseaddr = True
    stranger.get_port(7)
    stranger.connect(FAR, 1000)
    station.receive_udp(b"all", 1000, 7, dst=dst, mac=BROADCAST_MAC)
    assert [sk.try_recv() is not None for sk in [*socks, stranger]] == [True, True, True, False, False]
    assert station.net.drops == {} and station.take() == []


def test_a_broadcast_with_one_full_listener_is_delivered_to_the_other() -> None:
    station = Station()
    full, free = station.udp_sock(), station.udp_sock()
    for sk in (full, free):
        sk.reuseaddr = True
        sk.get_port(7)
    full.rcvbuf = 1
    for _ in range(2):
        station.receive_udp(b"all", 1000, 7, dst=SUBNET_BROADCAST, mac=BROADCAST_MAC)
    assert (full.queued, free.queued, full.drops) == (1, 2, 1)
    assert station.moved("Udp") == {"Udp.RcvbufErrors": 1, "Udp.InErrors": 1}
    assert station.net.mib.path.delivered == 2


# -- the receive queue


def test_the_receive_buffer_is_a_limit_that_counts_overhead() -> None:
    """CVE-2010-4251; Linux truesize: 212,992 bytes are 369 empty datagrams."""
    station = Station()
    sk = station.udp_sock(7)
    for _ in range(400):
        station.receive_udp(b"", 1000, 7)
    assert sk.queued == 369 == 212_992 // SKB_OVERHEAD and sk.drops == 31
    assert station.net.drops == {Reason.SOCKET_RCVBUFF: 31}
    assert station.moved("Udp", "Icmp") == {"Udp.RcvbufErrors": 31, "Udp.InErrors": 31}
    assert station.take() == []
    sk.recvmsg(1, 0)
    station.receive_udp(b"", 1000, 7)
    assert sk.queued == 369


def test_an_empty_queue_takes_anything() -> None:
    """__udp_enqueue_schedule_skb: "Accept the packet if queue is empty"."""
    station = Station()
    sk = station.udp_sock(7)
    sk.rcvbuf = 1
    station.receive_udp(bytes(1000), 1000, 7)
    assert len(sk.recvmsg(2000, 0).data) == 1000


def test_peek_leaves_it_there() -> None:
    station = Station()
    sk = station.udp_sock(7)
    station.receive_udp(b"one", 1000, 7)
    station.receive_udp(b"two", 1000, 7)
    assert [sk.recvmsg(9, flags).data for flags in (MSG_PEEK, MSG_PEEK, 0, 0)] == [b"one", b"one", b"one", b"two"]
    assert station.moved("Udp") == {"Udp.InDatagrams": 2} and sk.rmem_alloc == 0


def test_what_does_not_fit_the_callers_buffer_is_lost_and_said() -> None:
    station = Station()
    sk = station.udp_sock(7)
    station.receive_udp(b"hello", 1000, 7)
    for flags in (MSG_PEEK, 0):
        got = sk.recvmsg(2, flags)
        assert isinstance(got, Datagram)
        assert (got.data, got.flags, got.length, got.addr, got.port) == (b"he", MSG_TRUNC, 5, PEER, 1000)
    with pytest.raises(BlockingIOError):
        sk.recvmsg(2, 0)
    assert sk.rmem_alloc == 0


def test_nothing_there() -> None:
    station = Station()
    sk = station.udp_sock(7)
    for flags in (0, MSG_PEEK, MSG_ERRQUEUE):
        with pytest.raises(BlockingIOError):
            sk.recvmsg(9, flags)
    sk.shutdown_how(RCV_SHUTDOWN)
    assert sk.recvmsg(9, 0).data == b""


def test_poll() -> None:
    """datagram_poll."""
    station = Station()
    sk = station.udp_sock(7)
    assert sk.poll() == POLLOUT
    station.receive_udp(b"", 1000, 7)
    assert sk.poll() == POLLOUT | POLLIN
    sk.err = errno.ECONNREFUSED
    assert sk.poll() == POLLOUT | POLLIN | POLLERR
    sk.shutdown = SHUTDOWN_MASK
    assert sk.poll() == POLLOUT | POLLIN | POLLERR | POLLHUP | POLLRDHUP


def test_a_closed_socket_hears_nothing_and_leaves_nothing() -> None:
    station = Station()
    sk = station.udp_sock(7)
    for _ in range(5):
        station.receive_udp(b"x", 1000, 7)
    station.moved()
    sk.close()
    assert station.moved() == {} and sk.head is None and station.udp.table.ports == {} == station.udp.table.open
    station.receive_udp(b"x", 1000, 7)
    assert station.net.drops == {Reason.NO_SOCKET: 1}


class _Echo(Watcher):
    """An in-process service: answers from within data_ready, without exceptions."""

    def data_ready(self, sk: object) -> None:
        from ustack.udp.sock import UdpSock

        assert isinstance(sk, UdpSock)
        message = sk.try_recv()
        while message is not None:
            sk.sendmsg(message.data, 0, message.addr, message.port)
            message = sk.try_recv()


def test_an_echo_service_inside_the_process() -> None:
    station = Station()
    station.udp_sock(7).observer = _Echo()
    for data in (b"", b"a", bytes(1472)):
        station.receive_udp(data, 1000, 7)
        (sent,) = station.take()
        assert (sent.ip.saddr, sent.ip.daddr, sent.l4) == (OURS, PEER, udp_packet(data, 7, 1000, OURS, PEER))
    client = station.udp_sock()
    client.sendmsg(b"local", 0, LOCALHOST, 7)
    station.run()
    assert client.recvmsg(9, 0).data == b"local"


# -- errors


def error_about(station: Station, kind: int, code: int, rest: int = 0, sport: int = 5000, dport: int = 9) -> None:
    from tests.ipv4.station import ip_packet

    quoted = ip_packet(udp_packet(b"x", sport, dport, OURS, FAR), IPPROTO_UDP, OURS, FAR)
    station.receive(icmp.emit(kind, code, rest, quoted), 1)


@pytest.mark.parametrize(
    ("kind", "code", "expected", "hard"),
    [
        (3, 0, errno.ENETUNREACH, False),
        (3, 1, errno.EHOSTUNREACH, False),
        (3, 2, errno.ENOPROTOOPT, True),
        (3, 3, errno.ECONNREFUSED, True),
        (3, 5, errno.EOPNOTSUPP, False),
        (3, 13, errno.EHOSTUNREACH, True),
        (11, 0, errno.EHOSTUNREACH, False),
        (12, 0, errno.EPROTO, True),
    ],
)
def test_errors_reach_the_socket(kind: int, code: int, expected: int, hard: bool) -> None:
    """__udp4_lib_err: connected sockets hear hard errors, IP_RECVERR hears all, others none."""
    for connected in (True, False):
        for recverr in (True, False):
            station = Station()
            sk = station.udp_sock(5000)
            sk.recverr = recverr
            sk.observer = watcher = Watcher()
            if connected:
                sk.connect(FAR, 9)
            error_about(station, kind, code)
            heard = recverr or (connected and hard)
            assert watcher.errors == ([expected] if heard else [])
            with pytest.raises(OSError) as raised:
                sk.recvmsg(9, 0)
            assert raised.value.errno == (expected if heard else errno.EAGAIN)
            with pytest.raises(BlockingIOError):
                sk.recvmsg(9, 0)  # reported once


def test_the_next_send_reports_it_too() -> None:
    station = Station()
    sk = station.udp_sock(5000)
    sk.connect(FAR, 9)
    error_about(station, 3, 3)
    with pytest.raises(ConnectionRefusedError):
        sk.sendmsg(b"x", 0, 0, -1)
    assert sk.sendmsg(b"x", 0, 0, -1) == 1


@pytest.mark.parametrize(("sport", "dport"), [(5001, 9), (5000, 10)])
def test_an_error_about_what_we_did_not_send_is_counted_and_nothing_else(sport: int, dport: int) -> None:
    """CVE-2004-0790: a forger must know both ports of a connected socket."""
    station = Station()
    sk = station.udp_sock(5000)
    sk.connect(FAR, 9)
    station.moved()
    error_about(station, 3, 3, sport=sport, dport=dport)
    error_about(station, 3, 4, 576, sport=sport, dport=dport)
    assert sk.err == 0 and station.moved("Icmp")["Icmp.InErrors"] == 2 and station.routing.exceptions.entries() == []


def test_source_quench_is_ignored() -> None:
    """RFC 6633: transports ignore it."""
    station = Station()
    sk = station.udp_sock(5000)
    sk.recverr = True
    error_about(station, 4, 0)
    error_about(station, 5, 1, PEER)
    assert sk.err == 0


def test_fragmentation_needed_is_learned_and_reported() -> None:
    station = Station()
    sk = station.udp_sock(5000)
    sk.connect(FAR, 9)
    error_about(station, 3, 4, 1000)
    assert sk.take_error() == errno.EMSGSIZE
    sk.sendmsg(bytes(1400), 0, 0, -1)
    assert [sent.ip.total_len <= 1000 for sent in station.take()] == [True, True]


def test_our_own_packet_that_finds_no_neighbour_comes_back_as_an_error() -> None:
    """ipv4_link_failure: NEIGH_FAILED tells the local socket by loopback, host unreachable."""
    from tests.ipv4.station import SILENT

    station = Station()
    sk = station.udp_sock()
    sk.recverr = True
    sk.observer = watcher = Watcher()
    sk.sendmsg(b"x", 0, SILENT, 9)
    station.wait(10)
    assert watcher.errors == [errno.EHOSTUNREACH] and station.net.drops == {Reason.NEIGH_FAILED: 1}
    assert station.take() == []


def test_a_closed_port_on_this_host_refuses() -> None:
    station = Station()
    sk = station.udp_sock()
    sk.connect(LOCALHOST, 9)
    sk.sendmsg(b"x", 0, 0, -1)
    station.run()
    with pytest.raises(ConnectionRefusedError):
        sk.recvmsg(9, 0)


# -- nothing whatever raises


@settings(max_examples=150)
@given(st.binary(max_size=40), st.integers(0, 3), st.sampled_from([OURS, SUBNET_BROADCAST, GROUP]))
def test_no_bytes_raise_or_leak(garbage: bytes, ip_summed: int, dst: int) -> None:
    station = Station()
    station.udp_sock(7)
    station.udp_sock(0x0700)
    station.receive(garbage, IPPROTO_UDP, dst=dst, ip_summed=ip_summed)
