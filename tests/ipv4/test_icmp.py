"""ICMP: replies, errors out and errors in (RFC 792, RFC 1122 section 3.2.2, RFC 1812 section 4.3; Linux icmp.c)."""

from __future__ import annotations

import errno

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mypy_extensions import i64
from scapy.layers.inet import ICMP, IP

from tests.ipv4.station import (
    BROADCAST_MAC,
    FAR,
    GROUP,
    LIMITED_BROADCAST,
    OUR_MAC,
    OURS,
    PEER,
    SILENT,
    SUBNET_BROADCAST,
    Sent,
    Station,
    Wire,
    echo,
    ip_packet,
    udp_packet,
)
from ustack.drop import Reason
from ustack.ipv4.icmp import ICMP_ERR_CONVERT
from ustack.ipv4.protocol import NetProtocol, RawDelivery
from ustack.packet import CHECKSUM_PARTIAL, CHECKSUM_UNNECESSARY, Packet
from ustack.timer import NSEC_PER_SEC
from ustack.wire import icmp
from ustack.wire.icmp import (
    ICMP_DEST_UNREACH,
    ICMP_ECHO,
    ICMP_ECHOREPLY,
    ICMP_PARAMETERPROB,
    ICMP_REDIRECT,
    ICMP_SOURCE_QUENCH,
    ICMP_TIME_EXCEEDED,
    ICMP_TIMESTAMP,
)
from ustack.wire.ipv4 import IP_MF, IPPROTO_ICMP, IPPROTO_TCP, IPPROTO_UDP, str_to_addr

ARRIVED = {"Ip.InReceives": 1, "Ip.InDelivers": 1, "Icmp.InMsgs": 1}
LEFT = {"Ip.OutRequests": 1, "Ip.OutTransmits": 1, "Icmp.OutMsgs": 1}


class Listener(NetProtocol):
    """A protocol that notes the errors it hears."""

    def __init__(self) -> None:
        self.heard: list[tuple[int, int, int, int, int, bytes]] = []

    def handler(self, packet: Packet) -> None:
        raise AssertionError("not asked")

    def err_handler(self, packet: Packet, icmp_type: i64, code: i64, info: i64) -> None:
        iph = packet.iph
        assert iph is not None and packet.data == iph.start
        quoted = packet.buf[packet.transport_header : packet.end]
        self.heard.append((int(icmp_type), int(code), int(info), int(iph.saddr), int(iph.daddr), quoted))


class RawListener(RawDelivery):
    def __init__(self) -> None:
        self.heard: list[tuple[int, int, int, int]] = []

    def raw_icmp_error(self, packet: Packet, protocol: i64, icmp_type: i64, code: i64, info: i64) -> None:
        self.heard.append((int(protocol), int(icmp_type), int(code), int(info)))


def only(station: Station) -> Sent:
    (sent,) = station.take()
    return sent


# -- echo


@pytest.mark.parametrize("length", [0, 1, 2, 55, 56, 1471, 1472])
def test_an_echo_comes_back_with_its_data(length: int) -> None:
    """RFC 792: "The data received in the echo message must be returned in the echo reply message." """
    station = Station()
    payload = bytes(i & 0xFF for i in range(length))
    station.receive(echo(payload, 0xABCD, 0xFFFE), IPPROTO_ICMP, tos=0x28, ttl=3)
    sent = only(station)
    assert (sent.ip.saddr, sent.ip.daddr, sent.ip.ttl, sent.ip.tos) == (OURS, PEER, 64, 0x28)
    assert sent.l4 == echo(payload, 0xABCD, 0xFFFE, ICMP_ECHOREPLY)
    assert station.moved() == ARRIVED | LEFT | {"Icmp.InEchos": 1, "Icmp.OutEchoReps": 1}
    assert station.net.drops == {}


def test_scapy_believes_the_reply() -> None:
    station = Station()
    station.receive(echo(b"odd", 7, 9), IPPROTO_ICMP)
    packet = IP(bytes(station.eth0.sent[0].buf[14:]))
    assert (packet[ICMP].type, packet[ICMP].id, packet[ICMP].seq) == (0, 7, 9)
    check = packet[ICMP].chksum
    del packet[ICMP].chksum
    assert IP(bytes(packet))[ICMP].chksum == check


def test_the_reply_to_nothing_but_zeros_has_a_checksum_that_verifies() -> None:
    """RFC 1624's equation answers 0 where every word is 0; correct data never sums to 0."""
    station = Station()
    station.receive(echo(b"", 0, 0), IPPROTO_ICMP)
    assert icmp.checksum_ok(only(station).l4, 0, 8)


@settings(max_examples=50)
@given(st.binary(max_size=64), st.integers(0, 0xFFFF), st.integers(0, 0xFFFF), st.integers(0, 255))
def test_every_reply_verifies(payload: bytes, ident: int, sequence: int, code: int) -> None:
    station = Station()
    for ip_summed in (0, CHECKSUM_UNNECESSARY, CHECKSUM_PARTIAL):
        station.receive(echo(payload, ident, sequence, code=code), IPPROTO_ICMP, ip_summed=ip_summed)
        reply = only(station).l4
        assert icmp.checksum_ok(reply, 0, len(reply))
        assert reply[:2] == bytes((0, code)) and reply[4:] == echo(payload, ident, sequence)[4:]


def test_padding_is_not_echoed() -> None:
    """Etherleak (CVE-2003-0001): what Ethernet adds to fill a frame is not payload."""
    station = Station()
    frame = bytes(14) + ip_packet(echo(b"x"), IPPROTO_ICMP, PEER, OURS)
    packet = Packet(OUR_MAC.to_bytes(6, "big") + frame[6:12] + b"\x08\x00" + frame[14:] + b"SECRETSECRET", station.eth0)
    station.devices.netif_receive_skb(packet)
    assert only(station).l4 == echo(b"x", kind=ICMP_ECHOREPLY)


@pytest.mark.parametrize("length", [1473, 4000, 65507])
def test_a_large_echo_is_reassembled_and_its_reply_fragmented(length: int) -> None:
    station = Station()
    message = echo(bytes(i * 7 & 0xFF for i in range(length)))
    for at in range(0, len(message), 1480):
        more = IP_MF if at + 1480 < len(message) else 0
        station.receive(message[at : at + 1480], IPPROTO_ICMP, frag_off=at >> 3 | more)
    pieces = station.take()
    reply = b"".join(piece.l4 for piece in pieces)
    assert reply[0] == ICMP_ECHOREPLY and reply[4:] == message[4:]
    assert icmp.checksum_ok(reply, 0, len(reply))
    assert [piece.ip.fragment_offset for piece in pieces] == list(range(0, len(message), 1480))
    moved = station.moved()
    assert (moved["Ip.ReasmOKs"], moved["Ip.FragOKs"], moved["Icmp.OutEchoReps"]) == (1, 1, 1)


def test_a_bad_checksum_is_dropped_and_counted() -> None:
    station = Station()
    message = bytearray(echo(b"abc"))
    message[-1] ^= 1
    station.receive(bytes(message), IPPROTO_ICMP)
    assert station.take() == [] and station.net.drops == {Reason.ICMP_CSUM: 1}
    assert station.moved() == ARRIVED | {"Icmp.InErrors": 1, "Icmp.InCsumErrors": 1}


@pytest.mark.parametrize("ip_summed", [CHECKSUM_UNNECESSARY, CHECKSUM_PARTIAL])
def test_what_the_device_vouches_for_is_not_summed_again(ip_summed: int) -> None:
    """ip_summed: the field may even be unfinished (CHECKSUM_PARTIAL from a neighbour in memory)."""
    station = Station()
    station.receive(echo(b"abc")[:2] + b"\0\0" + echo(b"abc")[4:], IPPROTO_ICMP, ip_summed=ip_summed)
    assert only(station).l4 == echo(b"abc", kind=ICMP_ECHOREPLY)


@pytest.mark.parametrize("length", range(8))
def test_a_message_shorter_than_a_header_is_an_error(length: int) -> None:
    station = Station()
    station.receive(b"\xff" * length, IPPROTO_ICMP, ip_summed=CHECKSUM_UNNECESSARY)
    assert station.take() == [] and station.net.drops == {Reason.ICMP_MALFORMED: 1}
    assert station.moved() == ARRIVED | {"Icmp.InErrors": 1}


def test_echo_ignore_all() -> None:
    station = Station()
    station.net.sysctl.icmp_echo_ignore_all = 1
    station.receive(echo(), IPPROTO_ICMP)
    assert station.take() == [] and station.moved() == ARRIVED | {"Icmp.InEchos": 1}


@pytest.mark.parametrize("dst", [SUBNET_BROADCAST, LIMITED_BROADCAST, GROUP])
def test_an_echo_to_many_is_not_answered_unless_told_to(dst: int) -> None:
    """RFC 1122 3.2.2.6 MAY; the smurf attack. If answered, the source is an address of ours, never the broadcast."""
    station = Station()
    station.receive(echo(), IPPROTO_ICMP, dst=dst, dst_mac=BROADCAST_MAC)
    assert station.take() == [] and station.net.drops == {Reason.ICMP_UNKNOWN: 1}
    assert station.moved()["Icmp.InErrors"] == 1
    station.net.sysctl.icmp_echo_ignore_broadcasts = 0
    station.receive(echo(), IPPROTO_ICMP, dst=dst, dst_mac=BROADCAST_MAC)
    sent = only(station)
    assert (sent.ip.saddr, sent.ip.daddr) == (OURS, PEER)


def test_a_recorded_route_is_recorded_on() -> None:
    """RFC 1122 3.2.2.6: a record route option "SHOULD be updated to include the current host and included"."""
    station = Station()
    station.receive(echo(), IPPROTO_ICMP, options=bytes((7, 11, 4)) + bytes(8) + b"\0")
    sent = only(station)
    start = sent.packet.network_header
    assert OURS.to_bytes(4, "big") in sent.packet.buf[start + 20 : start + sent.ip.header_len]


def test_an_echo_reply_nobody_waits_for_ends_quietly() -> None:
    station = Station()
    station.receive(echo(kind=ICMP_ECHOREPLY), IPPROTO_ICMP)
    assert station.take() == [] and station.net.drops == {Reason.NO_SOCKET: 1}
    assert station.moved() == ARRIVED | {"Icmp.InEchoReps": 1}


def test_the_route_of_replies_follows_the_tables() -> None:
    """The route of the last reply is kept, but not when an address or route changes."""
    station = Station()
    for _ in range(2):
        station.receive(echo(), IPPROTO_ICMP, src=FAR)
        assert only(station).ip.daddr == FAR
    station.routing.del_route(0, 0, PEER, station.eth0)
    station.receive(echo(), IPPROTO_ICMP, src=FAR)
    assert station.take() == []


# -- timestamp


def test_timestamp_reply() -> None:
    """RFC 792: originate comes back; a time not since midnight UT has "the high order bit" set."""
    station = Station()
    station.net.now = 5 * NSEC_PER_SEC
    station.receive(icmp.emit(ICMP_TIMESTAMP, 0, 0x00010002, b"\x01\x02\x03\x04" + bytes(8)), IPPROTO_ICMP)
    sent = only(station)
    time = (0x80000000 | 5000).to_bytes(4, "big")
    assert sent.l4 == icmp.emit(14, 0, 0x00010002, b"\x01\x02\x03\x04" + time + time)
    assert station.moved() == ARRIVED | LEFT | {"Icmp.InTimestamps": 1, "Icmp.OutTimestampReps": 1}


def test_a_timestamp_without_a_time_is_an_error() -> None:
    station = Station()
    station.receive(icmp.emit(ICMP_TIMESTAMP, 0, 0, b"abc"), IPPROTO_ICMP)
    assert station.take() == [] and station.moved() == ARRIVED | {"Icmp.InTimestamps": 1, "Icmp.InErrors": 1}


# -- everything else


@pytest.mark.parametrize("kind", [1, 2, 7, 9, 10, 14, 15, 16, 17, 18])
def test_known_types_that_ask_nothing_of_a_host_are_ignored(kind: int) -> None:
    station = Station()
    station.receive(icmp.emit(kind, 0, 0, bytes(20)), IPPROTO_ICMP)
    assert station.take() == [] and station.net.drops == {Reason.ICMP_IGNORED: 1}
    assert station.moved() == ARRIVED | ({"Icmp.InTimestampReps": 1} if kind == 14 else {})


@pytest.mark.parametrize("kind", [19, 40, 255])
def test_unknown_types_are_discarded_silently(kind: int) -> None:
    """RFC 1122 3.2.2: "If an ICMP message of unknown type is received, it MUST be silently discarded." """
    station = Station()
    station.receive(icmp.emit(kind, 0, 0, bytes(20)), IPPROTO_ICMP)
    assert station.take() == [] and station.moved() == ARRIVED | {"Icmp.InErrors": 1}


# -- errors out


def bad_udp(**kwargs: int) -> Station:
    """A datagram to a port without a socket."""
    station = Station()
    station.receive(udp_packet(b"x" * 40, 1000, 9), IPPROTO_UDP, **kwargs)  # type: ignore[arg-type]
    return station


def test_an_error_quotes_the_header_and_what_follows() -> None:
    """RFC 1812 4.3.2.3, 4.3.2.4, 4.3.2.5: what fits in 576 bytes, from the address that was asked, precedence 6."""
    station = bad_udp(tos=0x1C, ttl=9)
    sent = only(station)
    assert (sent.ip.saddr, sent.ip.daddr, sent.ip.tos, sent.ip.ttl, sent.ip.frag_off) == (OURS, PEER, 0xDC, 64, 0)
    header = icmp.parse(sent.l4, 0, len(sent.l4))
    assert header is not None and (header.icmp_type, header.code, header.rest) == (ICMP_DEST_UNREACH, 3, 0)
    assert icmp.checksum_ok(sent.l4, 0, len(sent.l4))
    assert sent.l4[28:] == udp_packet(b"x" * 40, 1000, 9) and sent.l4[8 + 8] == 9


def test_no_error_is_longer_than_576_bytes() -> None:
    station = Station()
    station.receive(udp_packet(bytes(1400), 1000, 9), IPPROTO_UDP)
    assert only(station).ip.total_len == 576


def test_protocol_unreachable() -> None:
    station = Station()
    station.receive(bytes(8), 77)
    assert only(station).l4[:2] == bytes((3, 2))
    assert station.moved() == LEFT | {"Ip.InReceives": 1, "Ip.InUnknownProtos": 1, "Icmp.OutDestUnreachs": 1}


def test_a_router_says_time_exceeded_and_fragmentation_needed() -> None:
    station = Station()
    station.net.conf.inet_forward_change(1)
    station.receive(bytes(8), 77, src=SILENT, dst=FAR, ttl=1)
    station.neighbours.neigh_add(SILENT, station.eth0, 0x020000000077)
    station.routing.add_route(FAR, 32, PEER, station.eth0)
    station.receive(bytes(8), 77, src=SILENT, dst=FAR, ttl=1)
    errors = [sent for sent in station.take() if sent.l4[0] == ICMP_TIME_EXCEEDED]
    assert errors and all((s.ip.saddr, s.ip.daddr, s.l4[1]) == (OURS, SILENT, 0) for s in errors)
    station.add(narrow := Wire("eth1", 0x020000000003), str_to_addr("198.51.100.1"), 24)
    narrow.mtu = 600
    station.receive(bytes(700), 77, src=SILENT, dst=str_to_addr("198.51.100.9"), frag_off=0x4000)
    assert narrow.sent == []
    sent = only(station)
    assert (sent.l4[:2], sent.ip.saddr, sent.ip.daddr) == (b"\x03\x04", OURS, SILENT)
    assert int.from_bytes(sent.l4[4:8], "big") == 600


def test_a_parameter_problem_points_at_the_byte() -> None:
    """RFC 792: "the pointer identifies the octet of the original datagram's header where the error was detected"."""
    station = Station()
    station.receive(bytes(8), IPPROTO_UDP, options=bytes((7, 0, 4, 0)))
    sent = only(station)
    assert sent.l4[0] == ICMP_PARAMETERPROB and sent.l4[4:8] == bytes((20, 0, 0, 0))
    assert station.moved()["Icmp.OutParmProbs"] == 1


@pytest.mark.parametrize(
    "message",
    [
        icmp.emit(kind, 0, 0, ip_packet(bytes(8), IPPROTO_UDP, OURS, PEER))
        for kind in (
            ICMP_DEST_UNREACH,
            ICMP_SOURCE_QUENCH,
            ICMP_REDIRECT,
            ICMP_TIME_EXCEEDED,
            ICMP_PARAMETERPROB,
            19,
            255,
        )
    ]
    + [b""],
)
def test_never_an_error_about_an_error(message: bytes) -> None:
    """RFC 1122 3.2.2: "MUST NOT be sent as the result of receiving an ICMP error message"; nor an unknown one."""
    station = Station()
    refuse(station, message, IPPROTO_ICMP)
    assert station.take() == [] and station.moved() == {}


def refuse(station: Station, l4: bytes, protocol: int, frag_off: int = 0, src: int = PEER, dst: int = OURS) -> None:
    """Answer a packet like this with a host unreachable."""
    packet = Packet(ip_packet(l4, protocol, src, dst, frag_off), station.eth0)
    sender = station.net.icmp
    assert sender is not None
    sender.icmp_send(packet, ICMP_DEST_UNREACH, 1, 0)
    station.run()


def test_an_error_about_an_echo_is_sent() -> None:
    station = Station()
    refuse(station, echo(), IPPROTO_ICMP)
    assert only(station).l4[:2] == bytes((3, 1))


def test_never_an_error_about_a_later_fragment() -> None:
    """RFC 1122 3.2.2: "a non-initial fragment"; the first may be answered."""
    station = Station()
    refuse(station, bytes(8), 77, frag_off=1)
    refuse(station, bytes(8), 77, frag_off=IP_MF | 185)
    assert station.take() == [] and station.moved() == {}
    refuse(station, bytes(8), 77, frag_off=IP_MF)
    assert len(station.take()) == 1


@pytest.mark.parametrize(
    ("dst", "mac"), [(SUBNET_BROADCAST, BROADCAST_MAC), (GROUP, 0x01005E000001), (OURS, BROADCAST_MAC)]
)
def test_never_an_error_about_what_was_sent_to_many(dst: int, mac: int) -> None:
    """RFC 1122 3.2.2: "destined to an IP broadcast or IP multicast address", "sent as a link-layer broadcast"."""
    station = Station()
    station.receive(bytes(8), 77, dst=dst, dst_mac=mac)
    assert station.take() == [] and "Icmp.OutMsgs" not in station.moved()


@pytest.mark.parametrize("src", [0, LIMITED_BROADCAST, SUBNET_BROADCAST, GROUP, 0xF0000001])
def test_never_an_error_to_a_source_that_is_no_single_host(src: int) -> None:
    """RFC 1122 3.2.2: "a datagram whose source address does not define a single host"."""
    station = Station()
    refuse(station, bytes(8), IPPROTO_UDP, src=src)
    assert station.take() == [] and station.moved("Icmp") == {}


@settings(max_examples=100)
@given(st.binary(max_size=80))
def test_no_bytes_make_icmp_send_raise(garbage: bytes) -> None:
    station = Station()
    sender = station.net.icmp
    assert sender is not None
    sender.icmp_send(Packet(garbage, station.eth0), ICMP_DEST_UNREACH, 1, 0)
    station.run()


# -- rate limits


def test_one_peer_hears_six_at_once_and_then_one_a_second() -> None:
    """inet_peer_xrlim_allow: icmp_ratelimit 1000 ms, XRLIM_BURST_FACTOR 6."""
    station = Station()
    for _ in range(10):
        refuse(station, bytes(8), 77)
    assert len(station.take()) == 6 and station.moved("Icmp")["Icmp.OutRateLimitHost"] == 4
    station.wait(1)
    for _ in range(3):
        refuse(station, bytes(8), 77)
    assert len(station.take()) == 1 and station.moved("Icmp")["Icmp.OutRateLimitHost"] == 2


def test_all_peers_together_hear_a_burst_that_cannot_be_counted() -> None:
    """SAD DNS (CVE-2020-25705): a bucket of exactly 50 tells which ports are open; ours costs 0 to 2 a message."""
    bursts = []
    for step in range(20):
        station = Station(seed=bytes((step,)) * 16)
        for host in range(300):
            refuse(station, bytes(8), 77, src=FAR + host)
        bursts.append(len(station.take()))
        assert bursts[-1] + station.moved("Icmp")["Icmp.OutRateLimitGlobal"] == 300
    assert len(set(bursts)) > 5 and 35 <= sum(bursts) / len(bursts) <= 65


def test_the_global_bucket_refills_by_the_second() -> None:
    station = Station()
    for host in range(200):
        refuse(station, bytes(8), 77, src=FAR + host)
    station.take()
    station.wait(0.01)
    refuse(station, bytes(8), 77, src=FAR + 300)
    assert station.take() == []  # at most 50 times a second (HZ / 50)
    station.wait(0.02)
    for host in range(200):
        refuse(station, bytes(8), 77, src=FAR + 400 + host)
    assert 8 <= len(station.take()) <= 70


@pytest.mark.parametrize("code", [4])
def test_path_mtu_discovery_and_echo_replies_are_not_limited(code: int) -> None:
    """icmpv4_mask_allow: "Don't limit PMTU discovery"; icmp_ratemask leaves echo replies out."""
    station = Station()
    sender = station.net.icmp
    assert sender is not None
    for _ in range(200):
        sender.icmp_send(Packet(ip_packet(bytes(8), 77, PEER, OURS), station.eth0), ICMP_DEST_UNREACH, code, 1400)
        station.receive(echo(), IPPROTO_ICMP)
    assert len(station.take()) == 400


def test_masked_echo_replies_are_limited() -> None:
    station = Station()
    station.net.sysctl.icmp_ratemask = 1
    for _ in range(20):
        station.receive(echo(), IPPROTO_ICMP)
    assert len(station.take()) == 6


def test_ratelimit_zero_switches_the_peers_limit_off() -> None:
    station = Station()
    station.net.sysctl.icmp_ratelimit = 0
    for _ in range(20):
        refuse(station, bytes(8), 77)
    assert len(station.take()) == 20


def test_the_peers_are_bounded() -> None:
    station = Station()
    station.net.sysctl.icmp_msgs_burst = station.net.sysctl.icmp_msgs_per_sec = 100_000
    for host in range(5000):
        refuse(station, bytes(8), 77, src=FAR + host)
    assert len(station.icmp.errors.limits.peers) == 4096
    assert station.moved("Icmp")["Icmp.PeersEvicted"] == 5000 - 4096


# -- errors in


def quote(l4: bytes = b"\x04\xd2\x00\x07\x00\x10\x00\x00", protocol: int = IPPROTO_TCP, **kwargs: int) -> bytes:
    return ip_packet(l4, protocol, OURS, PEER, **kwargs)  # type: ignore[arg-type]


def listening(protocol: int = IPPROTO_TCP) -> tuple[Station, Listener, RawListener]:
    station = Station()
    listener, raw = Listener(), RawListener()
    station.protocols.inet_add_protocol(protocol, listener)
    station.protocols.raw = raw
    return station, listener, raw


@pytest.mark.parametrize(
    ("kind", "code", "rest", "info", "counter"),
    [
        (3, 0, 0, 0, "InDestUnreachs"),
        (3, 3, 99, 0, "InDestUnreachs"),
        (3, 4, 1400, 1400, "InDestUnreachs"),
        (3, 15, 0, 0, "InDestUnreachs"),
        (11, 0, 0, 0, "InTimeExcds"),
        (12, 0, 20 << 24, 20, "InParmProbs"),
    ],
)
def test_an_error_reaches_the_protocol_it_quotes(kind: int, code: int, rest: int, info: int, counter: str) -> None:
    """RFC 1122 3.2.2: "MUST extract the protocol ID from the passed header"; raw sockets hear it as well."""
    station, listener, raw = listening()
    station.receive(icmp.emit(kind, code, rest, quote()), IPPROTO_ICMP, src=FAR)
    assert listener.heard == [(kind, code, info, OURS, PEER, quote()[20:])]
    assert raw.heard == [(IPPROTO_TCP, kind, code, info)]
    assert station.moved() == ARRIVED | {f"Icmp.{counter}": 1}
    assert station.take() == [] and station.net.drops == {}


def test_the_quoted_headers_options_are_stepped_over() -> None:
    """CVE-2022-23093: the quoted header may be longer than 20 bytes."""
    station, listener, _ = listening()
    quoted = ip_packet(b"12345678", IPPROTO_TCP, OURS, PEER, options=bytes((1, 1, 1, 1)) * 10)
    station.receive(icmp.emit(3, 1, 0, quoted), IPPROTO_ICMP)
    assert [heard[5] for heard in listener.heard] == [b"12345678"]


@pytest.mark.parametrize("length", [0, 1, 19, 20, 27])
def test_a_quote_too_short_to_find_a_socket_is_an_error(length: int) -> None:
    """icmp_unreach, icmp_socket_deliver: a whole header and eight bytes (CVE-2020-11910)."""
    station, listener, raw = listening()
    station.receive(icmp.emit(3, 1, 0, quote()[:length]), IPPROTO_ICMP)
    assert listener.heard == [] and raw.heard == []
    assert station.moved() == ARRIVED | {"Icmp.InDestUnreachs": 1, "Icmp.InErrors": 1}


@pytest.mark.parametrize("first", [0x44, 0x4F, 0x65])
def test_a_quote_that_is_no_ip_header_is_an_error(first: int) -> None:
    station, listener, _ = listening()
    station.receive(icmp.emit(3, 1, 0, bytes((first,)) + quote()[1:]), IPPROTO_ICMP)
    assert listener.heard == [] and station.net.drops == {Reason.ICMP_MALFORMED: 1}


@pytest.mark.parametrize(
    ("kind", "code", "frag_off"),
    [
        (ICMP_SOURCE_QUENCH, 0, 0),  # RFC 6633
        (ICMP_DEST_UNREACH, 16, 0),  # NR_ICMP_UNREACH is 15
        (ICMP_TIME_EXCEEDED, 1, 0),  # reassembly time: not an error of the path
        (ICMP_DEST_UNREACH, 1, 5),  # bytes of a later fragment are no ports
    ],
)
def test_errors_that_must_not_be_heard(kind: int, code: int, frag_off: int) -> None:
    station, listener, raw = listening()
    station.receive(icmp.emit(kind, code, 0, quote(frag_off=frag_off)), IPPROTO_ICMP)
    assert listener.heard == [] and raw.heard == [] and station.take() == []
    assert station.net.drops == {Reason.ICMP_IGNORED: 1}
    counter = {3: "InDestUnreachs", 4: "InSrcQuenchs", 11: "InTimeExcds"}[kind]
    assert station.moved() == ARRIVED | {f"Icmp.{counter}": 1}


def test_a_redirect_goes_to_who_sent_what_it_quotes() -> None:
    """icmp_redirect: the transport is told with the gateway; it asks the routing room to believe it, or does not."""
    station, listener, raw = listening()
    station.receive(icmp.emit(ICMP_REDIRECT, 1, FAR, quote()), IPPROTO_ICMP)
    assert [heard[:3] for heard in listener.heard] == [(5, 1, FAR)] and station.take() == []
    assert len(raw.heard) == 1 and station.net.drops == {}
    assert station.moved() == ARRIVED | {"Icmp.InRedirects": 1}


def test_a_redirect_that_quotes_too_little_is_an_error() -> None:
    station, listener, _ = listening()
    station.receive(icmp.emit(ICMP_REDIRECT, 1, FAR, quote()[:27]), IPPROTO_ICMP)
    assert listener.heard == [] and station.net.drops == {Reason.ICMP_MALFORMED: 1}


@pytest.mark.parametrize(("mode", "heard"), [(0, [1400]), (1, [0]), (2, []), (3, [1400])])
def test_ip_no_pmtu_disc(mode: int, heard: list[int]) -> None:
    """Documentation/networking/ip-sysctl.rst: 1 does not learn, 2 discards, 3 wants protocols that validate."""
    station, listener, _ = listening()
    station.net.sysctl.ip_no_pmtu_disc = mode
    station.receive(icmp.emit(3, 4, 1400, quote()), IPPROTO_ICMP)
    assert [entry[2] for entry in listener.heard] == heard


def test_hardened_path_mtu_with_an_unknown_protocol() -> None:
    """CVE-2026-23398: icmp_tag_validation asked a protocol that was not registered."""
    station = Station()
    station.net.sysctl.ip_no_pmtu_disc = 3
    for protocol in (IPPROTO_TCP, 77, IPPROTO_UDP):
        station.receive(icmp.emit(3, 4, 1400, quote(protocol=protocol)), IPPROTO_ICMP)
    assert station.net.drops == {Reason.ICMP_IGNORED: 3}


def test_an_error_for_a_protocol_nobody_has_ends_quietly() -> None:
    station = Station()
    station.receive(icmp.emit(3, 1, 0, quote(protocol=77)), IPPROTO_ICMP)
    assert station.take() == [] and station.moved() == ARRIVED | {"Icmp.InDestUnreachs": 1}


@pytest.mark.parametrize("ignore", [0, 1])
def test_bogus_answers_to_broadcasts(ignore: int) -> None:
    """icmp_ignore_bogus_error_responses: off, an error about a broadcast of ours is looked through and passed over."""
    station, listener, _ = listening()
    station.net.sysctl.icmp_ignore_bogus_error_responses = ignore
    quoted = ip_packet(bytes(8), IPPROTO_TCP, OURS, SUBNET_BROADCAST)
    station.receive(icmp.emit(3, 1, 0, quoted), IPPROTO_ICMP)
    assert len(listener.heard) == ignore


def test_frag_needed_about_our_own_reply_is_learned() -> None:
    """icmp_err: an echo reply belongs to no socket, the route hears of it (ipv4_update_pmtu)."""
    station = Station()
    quoted = ip_packet(echo(kind=ICMP_ECHOREPLY), IPPROTO_ICMP, OURS, FAR)
    station.receive(icmp.emit(3, 4, 1000, quoted), IPPROTO_ICMP, src=PEER)
    station.receive(echo(bytes(1200)), IPPROTO_ICMP, src=FAR)
    assert [sent.ip.total_len <= 1000 for sent in station.take()] == [True, True]


def test_the_table_of_meanings() -> None:
    """icmp_err_convert; RFC 1122 4.2.3.9: net, host and source route unreachable are soft."""
    hard = [code for code, meaning in enumerate(ICMP_ERR_CONVERT) if meaning.fatal]
    assert hard == [2, 3, 6, 7, 8, 9, 10, 13, 14, 15]
    assert (ICMP_ERR_CONVERT[1].errno, ICMP_ERR_CONVERT[3].errno) == (errno.EHOSTUNREACH, errno.ECONNREFUSED)


@settings(max_examples=150)
@given(st.integers(0, 20), st.integers(0, 17), st.binary(max_size=60), st.booleans())
def test_no_message_whatever_raises_or_is_answered_twice(kind: int, code: int, body: bytes, real: bool) -> None:
    """Attacks 26 to 36: arbitrary types over arbitrary quotes."""
    station, _, _ = listening()
    payload = quote() + body if real else body
    station.receive(icmp.emit(kind, code, 0x01020304, payload), IPPROTO_ICMP)
    asks = kind == ICMP_ECHO or (kind == ICMP_TIMESTAMP and len(payload) >= 4)
    assert len(station.take()) == (1 if asks else 0)
