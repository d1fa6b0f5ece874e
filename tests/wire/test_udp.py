"""UDP datagrams (RFC 768, RFC 1122 section 4.1; Linux __udp4_lib_rcv())."""

from __future__ import annotations

import pytest
from hypothesis import given
from librt.strings import BytesWriter
from scapy.layers.inet import IP, UDP

from tests.wire.support import PAYLOAD, U16, U32, examples, reference_sum, values
from ustack.wire import udp
from ustack.wire.ipv4 import addr_to_str

FIELDS = "sport dport checksum payload end"


def emitted(sport: int, dport: int, payload_len: int, checksum: int) -> bytes:
    out = BytesWriter()
    udp.emit(out, sport, dport, payload_len, checksum)
    return out.getvalue()


def pseudo(saddr: int, daddr: int, length: int) -> bytes:
    return saddr.to_bytes(4, "big") + daddr.to_bytes(4, "big") + b"\0\x11" + length.to_bytes(2, "big")


@pytest.mark.parametrize("length", range(udp.UDP_HLEN))
def test_a_truncated_header_is_malformed(length: int) -> None:
    raw = emitted(1, 2, 0, 0)
    assert udp.parse(raw[:length], 0, length) is None
    assert udp.parse(raw, 0, length) is None


@pytest.mark.parametrize("claimed", [*range(8), 13, 14, 0x7FFF, 0x8000, 0xFFFF])
def test_a_length_below_the_header_or_beyond_the_ip_payload_is_malformed(claimed: int) -> None:
    """0 too: it means "to the end" only for UDP-Lite and for jumbograms (RFC 2675)."""
    raw = bytes.fromhex("0035ffff") + claimed.to_bytes(2, "big") + bytes(60)
    assert udp.parse(raw, 0, 12) is None


@pytest.mark.parametrize("claimed", range(8, 13))
def test_a_length_within_the_ip_payload_ends_the_datagram(claimed: int) -> None:
    raw = bytes.fromhex("0035ffff") + claimed.to_bytes(2, "big") + bytes(60)
    header = udp.parse(raw, 0, 12)
    assert header is not None and values(header, FIELDS) == (0x35, 0xFFFF, 0, 8, claimed)


def test_trailing_padding_is_not_payload() -> None:
    """Ethernet pads to 60 bytes; RFC 768's length says where the datagram ends (Etherleak, CVE-2003-0001)."""
    frame = emitted(53, 0xFFFF, 2, 0) + b"hi" + b"\0" * 30
    header = udp.parse(frame, 0, len(frame))
    assert header is not None and frame[header.payload : header.end] == b"hi"


@pytest.mark.parametrize(("start", "end"), [(-1, 20), (0, 21), (19, 27), (8, 4)])
def test_offsets_outside_the_buffer_are_malformed(start: int, end: int) -> None:
    assert udp.parse(b"\0\x08" * 10, start, end) is None


@given(U16, U16, U16, PAYLOAD, PAYLOAD)
@examples(200)
def test_what_is_emitted_parses_back(sport: int, dport: int, checksum: int, front: bytes, payload: bytes) -> None:
    raw = emitted(sport, dport, len(payload), checksum)
    assert len(raw) == udp.UDP_HLEN
    start = len(front)
    frame = front + raw + payload + b"padding"
    header = udp.parse(frame, start, len(frame))
    assert header is not None
    assert values(header, FIELDS) == (sport, dport, checksum, start + 8, start + 8 + len(payload))
    assert frame[header.payload : header.end] == payload


# -- checksum


@given(U32, U32, U16, U16, PAYLOAD)
@examples(200)
def test_the_checksum_covers_pseudo_header_header_and_data(
    saddr: int, daddr: int, sport: int, dport: int, payload: bytes
) -> None:
    cut = len(payload) // 3
    check = udp.udp_csum(saddr, daddr, sport, dport, len(payload), [payload[:cut], memoryview(payload)[cut:]])
    length = 8 + len(payload)
    whole = pseudo(saddr, daddr, length) + emitted(sport, dport, len(payload), check) + payload
    assert check != 0 and reference_sum(whole) == 0xFFFF


@given(U32, U32, U16, U16, PAYLOAD)
@examples(100)
def test_scapy_agrees_in_both_directions(saddr: int, daddr: int, sport: int, dport: int, payload: bytes) -> None:
    check = udp.udp_csum(saddr, daddr, sport, dport, len(payload), [payload])
    ours = emitted(sport, dport, len(payload), check) + payload
    built = bytes(
        IP(src=addr_to_str(saddr), dst=addr_to_str(daddr), proto=17) / UDP(sport=sport, dport=dport) / payload
    )
    assert built[20:] == ours
    header = udp.parse(built, 20, len(built))
    assert header is not None
    assert values(header, FIELDS) == (sport, dport, check, 28, len(built))
    read = UDP(ours)
    assert (read.sport, read.dport, read.len, read.chksum) == (sport, dport, 8 + len(payload), check)
    assert bytes(read.payload) == payload


def test_a_computed_zero_goes_out_as_all_ones() -> None:
    """RFC 768: "If the computed checksum is zero, it is transmitted as all ones"."""
    saddr, daddr, sport, length = 0xC0000201, 0xC0000202, 1000, 8
    rest = reference_sum(pseudo(saddr, daddr, length) + sport.to_bytes(2, "big") + length.to_bytes(2, "big"))
    dport = 0xFFFF - rest
    assert udp.udp_csum(saddr, daddr, sport, dport, 0, []) == udp.MANGLED_ZERO


def test_description() -> None:
    header = udp.parse(emitted(53, 33000, 12, 0) + bytes(12), 0, 20)
    assert header is not None and udp.describe(header) == "53 > 33000: UDP, length 12"
