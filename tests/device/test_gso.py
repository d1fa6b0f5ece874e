"""Software segmentation and checksums, held against scapy, which recomputes every field from the payload up."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.l2 import Ether

from tests.device.support import Wire, frame, pieces, super_segment, whole
from ustack.device.gso import csum_help, partial_fits, skb_gso_segment
from ustack.packet import (
    CHECKSUM_NONE,
    CHECKSUM_PARTIAL,
    SKB_GSO_NONE,
    SKB_GSO_TCP_ECN,
    SKB_GSO_TCPV4,
    Packet,
)
from ustack.wire.checksum import csum_tcpudp_nofold, fold
from ustack.wire.octets import u32

TIMESTAMP: list[tuple[str, Any]] = [("NOP", None), ("NOP", None), ("Timestamp", (7, 9))]


def headers(flags: str = "PA", seq: int = 1000, ident: int = 77, ip_options: bytes = b"", **tcp: Any) -> bytes:
    """Ethernet, IPv4 and TCP of a super-segment; its lengths and checksums are of no consequence."""
    ip = IP(
        src="192.0.2.1", dst="198.51.100.7", id=ident, ttl=63, tos=0x2, flags="DF", options=ip_options_of(ip_options)
    )
    segment = TCP(sport=80, dport=40_000, seq=seq, ack=4_000_000_000, flags=flags, window=501, **tcp)
    return bytes(Ether(dst="02:00:00:00:00:02", src="02:00:00:00:00:01") / ip / segment)


def ip_options_of(data: bytes) -> Any:
    return [] if not data else IP(b"\x4f" + bytes(19) + data.ljust(40, b"\0")).options


def right(data: bytes) -> bool:
    """Whether scapy, asked to fill in lengths and checksums itself, comes to the same bytes."""
    again = Ether(data)
    del again[IP].len, again[IP].chksum, again[again[IP].payload.__class__].chksum
    return bytes(again) == data


def cut(packet: Packet, hw_csum: bool = False) -> list[bytes]:
    return [segment.buf for segment in skb_gso_segment(packet, hw_csum)]


# -- skb_gso_segment


def test_every_segment_is_a_packet_that_tcp_might_have_sent_itself() -> None:
    payload = bytes(range(256)) * 20
    frames = cut(super_segment(headers(options=TIMESTAMP), pieces(payload), 1448))
    assert len(frames) == 4 and all(right(data) for data in frames)
    segments = [Ether(data) for data in frames]
    assert b"".join(bytes(s[TCP].payload) for s in segments) == payload
    assert [len(s[TCP].payload) for s in segments] == [1448, 1448, 1448, 776]
    assert [s[TCP].seq for s in segments] == [1000, 2448, 3896, 5344]
    assert [s[IP].id for s in segments] == [77, 78, 79, 80]
    assert [s[IP].len for s in segments] == [1500, 1500, 1500, 828]
    for s in segments:
        assert (s.dst, s.src, s[IP].ttl, s[IP].tos, s[IP].flags) == (
            "02:00:00:00:00:02",
            "02:00:00:00:00:01",
            63,
            2,
            "DF",
        )
        assert (s[TCP].ack, s[TCP].window, s[TCP].options) == (4_000_000_000, 501, TIMESTAMP)


@pytest.mark.parametrize(
    ("flags", "first", "middle", "last"),
    [
        ("A", "A", "A", "A"),
        ("PA", "A", "A", "PA"),
        ("FPA", "A", "A", "FPA"),
        ("FA", "A", "A", "FA"),
        ("CPA", "AC", "A", "PA"),
        ("ECPA", "AEC", "AE", "PAE"),
        ("EA", "AE", "AE", "AE"),
    ],
)
def test_fin_and_psh_stay_with_the_end_and_cwr_with_the_beginning(
    flags: str, first: str, middle: str, last: str
) -> None:
    """tcp_gso_segment; RFC 3168 6.1.2 for CWR. ECE is of the connection and stays on all of them (6.1.3)."""
    packet = super_segment(headers(flags), pieces(bytes(2500)), 1000)
    packet.gso_type |= SKB_GSO_TCP_ECN
    frames = cut(packet)
    assert [set(str(Ether(data)[TCP].flags)) for data in frames] == [set(first), set(middle), set(last)]
    assert all(right(data) for data in frames)


def test_sequence_number_and_identification_wrap() -> None:
    frames = cut(super_segment(headers(seq=0xFFFF_FE00, ident=0xFFFF), pieces(bytes(1024)), 512))
    assert [Ether(data)[TCP].seq for data in frames] == [0xFFFF_FE00, 0]
    assert [Ether(data)[IP].id for data in frames] == [0xFFFF, 0]
    assert all(right(data) for data in frames)


def test_ip_options_are_repeated_in_every_segment() -> None:
    head = bytearray(headers(ip_options=b"\x07\x07\x04\x01\x02\x03\x04\0"))
    start = 14 + (head[14] & 15) * 4
    # a source route ends elsewhere than the header says: then the sum that TCP has left in the field counts
    addresses = u32(bytes(head), 26), u32(bytes(head), 30)
    pseudo = fold(csum_tcpudp_nofold(*addresses, len(head) - start + 2000, 6))
    head[start + 16 : start + 18] = int(pseudo).to_bytes(2, "big")
    frames = cut(super_segment(bytes(head), pieces(bytes(2000)), 900))
    assert len(frames) == 3 and all(right(data) for data in frames)
    assert all(data[14] == 0x4F and data[34:42] == b"\x07\x07\x04\x01\x02\x03\x04\0" for data in frames)


def test_the_urgent_pointer_is_repeated_as_linux_does() -> None:
    frames = cut(super_segment(headers("UA", urgptr=9), pieces(bytes(30)), 10))
    assert [Ether(data)[TCP].urgptr for data in frames] == [9, 9, 9] and all(right(data) for data in frames)


@pytest.mark.parametrize("length", [0, 1, 999, 1000])
def test_what_needs_no_cutting_is_one_segment_with_all_flags(length: int) -> None:
    frames = cut(super_segment(headers("FPA"), pieces(bytes(length)), 1000))
    assert len(frames) == 1 and right(frames[0])
    assert set(str(Ether(frames[0])[TCP].flags)) == set("FPA") and len(frames[0]) == 54 + length


def test_payload_in_the_linear_part_is_cut_like_the_rest() -> None:
    """A forwarded super-segment is one run of bytes; TCP may also have put small data behind its header."""
    payload = bytes(n % 251 for n in range(3001))
    for linear in (0, 1, 1000, 3001):
        packet = super_segment(headers() + payload[:linear], pieces(payload[linear:]), 700)
        frames = cut(packet)
        assert all(right(data) for data in frames) and b"".join(data[54:] for data in frames) == payload


def test_what_was_trimmed_is_not_in_any_segment() -> None:
    packet = super_segment(headers() + bytes(1000) + b"padding", [], 400)
    packet.frags = None
    packet.end -= 7
    assert sum(len(data) - 54 for data in cut(packet)) == 1000 and all(right(data) for data in cut(packet))


@settings(max_examples=60, deadline=None)
@given(
    payload=st.binary(max_size=6000),
    mss=st.integers(1, 2000),
    cuts=st.lists(st.integers(0, 6000), max_size=6),
    seq=st.integers(0, 0xFFFF_FFFF),
    options=st.sampled_from([[], TIMESTAMP, [("MSS", 1460)]]),
)
def test_no_payload_no_size_and_no_pieces_are_cut_wrong(
    payload: bytes, mss: int, cuts: list[int], seq: int, options: list[tuple[str, Any]]
) -> None:
    mss = max(mss, len(payload) // 20 + 1)  # scapy is slow; twenty segments tell as much as six thousand
    head = headers(seq=seq, options=options)
    packet = super_segment(head, pieces(payload, *[at for at in cuts if at < len(payload)]), mss)
    frames = cut(packet)
    assert b"".join(data[len(head) :] for data in frames) == payload
    assert all(len(data) - len(head) == mss for data in frames[:-1]) and len(frames[-1]) - len(head) <= mss
    assert all(right(data) for data in frames)


def test_with_checksum_hardware_the_field_holds_the_pseudo_header() -> None:
    """The sum that csum_help, or a NIC, completes to exactly what software would have put there."""
    packet = super_segment(headers(), pieces(bytes(range(200)) * 10), 700)
    complete = cut(packet)
    partial = skb_gso_segment(packet, True)
    assert len(partial) == 3
    for segment, expected in zip(partial, complete, strict=True):
        assert (segment.ip_summed, segment.csum_start, segment.csum_offset) == (CHECKSUM_PARTIAL, 34, 16)
        assert segment.buf != expected and IP(segment.buf[14:]).chksum == IP(expected[14:]).chksum
        csum_help(segment)
        assert segment.buf == expected and segment.ip_summed == CHECKSUM_NONE


def test_segments_go_where_the_whole_would_have_gone() -> None:
    wire = Wire()
    packet = super_segment(headers(), pieces(bytes(2000)), 1000, wire)
    packet.mark, packet.priority, packet.protocol, packet.tstamp = 5, 6, 0x0800, 7
    for segment in skb_gso_segment(packet):
        assert segment.dev is wire and segment.frags is None and not segment.accounted
        assert (segment.mark, segment.priority, segment.protocol, segment.tstamp) == (5, 6, 0x0800, 7)
        assert (segment.mac_header, segment.network_header, segment.transport_header) == (0, 14, 34)
        assert (segment.gso_size, segment.gso_type, segment.ip_summed) == (0, SKB_GSO_NONE, CHECKSUM_NONE)
        assert segment.end == len(segment.buf)


def test_the_whole_is_left_as_it_was() -> None:
    packet = super_segment(headers(), pieces(bytes(2000), 700), 1000)
    before = whole(packet)
    skb_gso_segment(packet)
    assert whole(packet) == before and packet.gso_size == 1000


def changed(at: int, value: int) -> bytes:
    data = bytearray(headers())
    data[at] = value
    return bytes(data)


@pytest.mark.parametrize(
    ("head", "why"),
    [
        (headers()[:33], "no room for an IPv4 header"),
        (headers()[:53], "no room for a TCP header"),
        (b"", "nothing at all"),
        (changed(14, 0x65), "version 6"),
        (changed(14, 0x44), "IPv4 header of 16 bytes"),
        (changed(14, 0x4F), "IPv4 header beyond the end"),
        (changed(23, 17), "UDP"),
        (changed(20, 0x20), "more fragments"),
        (changed(21, 0x01), "not the first fragment"),
        (changed(46, 0x40), "TCP header of 16 bytes"),
        (changed(46, 0xF0), "TCP header beyond the end"),
    ],
)
def test_headers_that_lie_give_no_segments(head: bytes, why: str) -> None:
    packet = Packet(head)
    packet.network_header = 14
    packet.gso_size, packet.gso_type = 100, SKB_GSO_TCPV4
    packet.frags, packet.frags_len = [bytes(1000)], 1000
    assert skb_gso_segment(packet) == [], why


@pytest.mark.parametrize(("size", "kind"), [(0, SKB_GSO_TCPV4), (-1, SKB_GSO_TCPV4), (100, 0), (100, SKB_GSO_TCP_ECN)])
def test_no_segments_without_a_size_or_a_known_kind(size: int, kind: int) -> None:
    packet = super_segment(headers(), pieces(bytes(1000)), size)
    packet.gso_type = kind
    assert skb_gso_segment(packet) == []


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=120), st.integers(-5, 100), st.integers(0, 60))
def test_no_bytes_whatever_raise_anything(data: bytes, size: int, network: int) -> None:
    packet = Packet(data)
    packet.network_header = network
    packet.gso_size, packet.gso_type = size, SKB_GSO_TCPV4
    skb_gso_segment(packet)


# -- csum_help


def partial(data: bytes, start: int, offset: int, pseudo: int, *cuts: int) -> Packet:
    """``data`` with ``pseudo`` in its checksum field, cut into pieces."""
    at = start + offset
    data = data[:at] + pseudo.to_bytes(2, "big") + data[at + 2 :]
    first = cuts[0] if cuts else len(data)
    packet = Packet(data[:first])
    if cuts:
        packet.frags = pieces(data[first:], *[c - first for c in cuts[1:]])
        packet.frags_len = len(data) - first
    packet.ip_summed, packet.csum_start, packet.csum_offset = CHECKSUM_PARTIAL, start, offset
    return packet


def pseudo_sum(data: bytes) -> int:
    total = int.from_bytes(data[26:28]) + int.from_bytes(data[28:30]) + int.from_bytes(data[30:32])
    total += int.from_bytes(data[32:34]) + data[23] + len(data) - 34
    return (total & 0xFFFF) + (total >> 16)


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=300), st.lists(st.integers(54, 354), max_size=4).map(sorted), st.booleans())
def test_a_completed_checksum_is_scapys(payload: bytes, cuts: list[int], udp: bool) -> None:
    transport = UDP(sport=1, dport=2) if udp else TCP(sport=1, dport=2)
    data = bytes(Ether(dst=bytes(6)) / IP(src="192.0.2.1", dst="192.0.2.9") / transport / payload)
    cuts = [at for at in cuts if at < len(data)]
    packet = partial(data, 34, 6 if udp else 16, pseudo_sum(data), *cuts)
    csum_help(packet)
    assert whole(packet) == data and packet.ip_summed == CHECKSUM_NONE
    assert packet.frags is None if not cuts else packet.frags is not None


def test_a_sum_of_zero_is_sent_as_all_ones() -> None:
    """RFC 768: "If the computed checksum is zero, it is transmitted as all ones"."""
    packet = partial(frame(bytes(20)) + b"\xff\xff" + bytes(6), 34, 6, 0)
    csum_help(packet)
    assert packet.buf[40:42] == b"\xff\xff"


def test_completing_cuts_off_what_was_trimmed() -> None:
    packet = partial(frame(bytes(28)) + b"\xff\xffbehind the end", 34, 6, 0)
    packet.end = 42
    csum_help(packet)
    assert packet.buf == frame(bytes(26)) + b"\xff\xff" and packet.end == 42


@pytest.mark.parametrize(
    ("start", "offset", "fits"),
    [(34, 6, True), (34, 16, True), (34, 17, False), (52, 0, False), (0, 0, True), (-1, 5, False), (34, -1, False)],
)
def test_a_checksum_fits_if_both_its_bytes_lie_in_the_linear_part(start: int, offset: int, fits: bool) -> None:
    packet = Packet(bytes(52))
    packet.csum_start, packet.csum_offset = start, offset
    packet.frags, packet.frags_len = [bytes(100)], 100
    assert partial_fits(packet) is fits
