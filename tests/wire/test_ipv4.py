"""The IPv4 header (RFC 791 section 3.1; Linux ip_rcv_core(), ip_decrease_ttl())."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from librt.strings import BytesWriter
from scapy.layers.inet import IP

from tests.wire.support import U8, U16, U32, examples, flipped, reference_sum, values
from ustack.wire import ipv4
from ustack.wire.ipv4 import addr_to_str, str_to_addr

FIELDS = "tos total_len ident frag_off ttl protocol saddr daddr"
SADDR, DADDR = 0xC0000201, 0xC0000202
GOOD = (0x10, 60, 0x1234, ipv4.IP_DF, 64, ipv4.IPPROTO_TCP, SADDR, DADDR)


def emitted(fields: tuple[int, ...], options: bytes = b"") -> bytes:
    out = BytesWriter()
    tos, total_len, ident, frag_off, ttl, protocol, saddr, daddr = fields
    ipv4.emit(out, tos, total_len, ident, frag_off, ttl, protocol, saddr, daddr, options)
    return out.getvalue()


def parsed(raw: bytes) -> ipv4.Ipv4Header:
    header = ipv4.parse(raw, 0, len(raw))
    assert header is not None
    return header


HEADERS = st.tuples(U8, U16, U16, U16, U8, U8, U32, U32)
OPTIONS = st.binary(max_size=40)


# -- parse


@pytest.mark.parametrize("length", range(ipv4.IP_HLEN))
def test_shorter_than_twenty_bytes_is_malformed(length: int) -> None:
    raw = emitted(GOOD)
    assert ipv4.parse(raw[:length], 0, length) is None
    assert ipv4.parse(raw, 0, length) is None


@pytest.mark.parametrize("length", range(20, 60))
def test_options_cut_off_are_malformed(length: int) -> None:
    raw = emitted(GOOD, bytes(40))
    assert ipv4.parse(raw[:length], 0, length) is None
    assert ipv4.parse(raw, 0, length) is None


@pytest.mark.parametrize("version", [v for v in range(16) if v != 4])
def test_every_other_version_is_malformed(version: int) -> None:
    """RFC 1122 3.2.1.1: "A datagram whose version number is not 4 MUST be silently discarded." """
    raw = bytes([version << 4 | 5]) + emitted(GOOD)[1:]
    assert ipv4.parse(raw, 0, len(raw)) is None


@pytest.mark.parametrize("ihl", range(16))
def test_the_header_length_is_believed_from_five_words_on(ihl: int) -> None:
    raw = bytes([0x40 | ihl]) + bytes(63)
    header = ipv4.parse(raw, 0, 60)
    if ihl < 5:
        assert header is None
    else:
        assert header is not None and header.header_len == ihl * 4


@pytest.mark.parametrize("total_len", [0, 19, 20, 21, 0xFFFF])
def test_the_total_length_is_not_judged_here(total_len: int) -> None:
    """ip_rcv_core() counts InTruncatedPkts and InHdrErrors apart, so it must see the header."""
    raw = emitted((0, total_len, 0, 0, 64, 17, SADDR, DADDR))
    assert parsed(raw).total_len == total_len


@pytest.mark.parametrize("start", [0, 1, 14, 100])
def test_the_header_lies_anywhere_in_its_buffer(start: int) -> None:
    frame = b"\xaa" * start + emitted(GOOD, b"\x94\x04\0\0") + b"payload"
    header = ipv4.parse(frame, start, len(frame))
    assert header is not None
    assert values(header, "start header_len") == (start, 24)
    assert values(header, FIELDS) == GOOD
    assert ipv4.checksum_ok(frame, header)


@pytest.mark.parametrize(("start", "end"), [(-1, 20), (0, 41), (30, 20), (41, 61), (2**40, 2**40 + 20)])
def test_offsets_outside_the_buffer_are_malformed(start: int, end: int) -> None:
    assert ipv4.parse(b"E" * 40, start, end) is None


@pytest.mark.parametrize(
    ("frag_off", "dont", "more", "offset", "fragment"),
    [
        (0x0000, False, False, 0, False),
        (0x4000, True, False, 0, False),
        (0x2000, False, True, 0, True),
        (0x0001, False, False, 8, True),
        (0x3FFF, False, True, 65528, True),
        (0x8000, False, False, 0, False),
        (0xFFFF, True, True, 65528, True),
    ],
)
def test_flags_and_fragment_offset(frag_off: int, dont: bool, more: bool, offset: int, fragment: bool) -> None:
    header = parsed(emitted((0, 20, 0, frag_off, 64, 17, SADDR, DADDR)))
    assert (header.dont_fragment, header.more_fragments) == (dont, more)
    assert (header.fragment_offset, header.is_fragment) == (offset, fragment)


# -- emit


@given(HEADERS, OPTIONS)
@examples(300)
def test_what_is_emitted_parses_back_and_checks(fields: tuple[int, ...], options: bytes) -> None:
    raw = emitted(fields, options)
    header = parsed(raw + b"payload")
    padded = options + bytes(-len(options) % 4)
    assert values(header, FIELDS) == fields
    assert header.header_len == 20 + len(padded) and raw[20:] == padded
    assert header.check == int.from_bytes(raw[10:12], "big")
    assert reference_sum(raw) == 0xFFFF and ipv4.checksum_ok(raw, header)


@pytest.mark.parametrize("length", [41, 44, 60, 1000])
def test_more_options_than_a_header_can_hold_are_refused(length: int) -> None:
    with pytest.raises(ValueError, match="40"):
        emitted(GOOD, bytes(length))


def test_emitting_appends() -> None:
    out = BytesWriter()
    out.write(b"front")
    ipv4.emit(out, *GOOD)
    ipv4.emit(out, *GOOD)
    assert out.getvalue() == b"front" + emitted(GOOD) * 2


def test_every_single_flipped_bit_spoils_the_checksum() -> None:
    for raw in flipped(emitted(GOOD, b"\x94\x04\0\0")):
        header = ipv4.parse(raw, 0, len(raw))
        # a header that claims less is summed over less, and a few such sums may fit by chance: not these
        assert header is None or not ipv4.checksum_ok(raw, header)


def test_a_checksum_that_is_zero_may_come_as_either_zero() -> None:
    """RFC 1624 section 3: 0x0000 and 0xFFFF are one number; a receiver that sums accepts both, as Linux does."""
    rest = reference_sum(emitted((0, 20, 0, 0, 64, 17, SADDR, DADDR))[:10] + emitted(GOOD)[12:20])
    raw = emitted((0, 20, 0xFFFF - rest, 0, 64, 17, SADDR, DADDR))
    assert raw[10:12] == b"\0\0"
    other = raw[:10] + b"\xff\xff" + raw[12:]
    assert ipv4.checksum_ok(raw, parsed(raw)) and ipv4.checksum_ok(other, parsed(other))


# -- scapy


@given(HEADERS, st.sampled_from([b"", b"\x94\x04\0\0", b"\x07\x07\x04\0\0\0\0\0", bytes([1]) * 40]))
@examples(100)
def test_scapy_builds_the_same_bytes(fields: tuple[int, ...], options: bytes) -> None:
    tos, total_len, ident, frag_off, ttl, protocol, saddr, daddr = fields
    scapys = IP(
        ihl=5 + len(options) // 4,
        tos=tos,
        len=total_len,
        id=ident,
        flags=frag_off >> 13,
        frag=frag_off & 0x1FFF,
        ttl=ttl,
        proto=protocol,
        src=addr_to_str(saddr),
        dst=addr_to_str(daddr),
        options=IP(emitted(fields, options)).options,
    )
    built = bytes(scapys)
    assert built == emitted(fields, options)
    assert values(parsed(built), FIELDS) == fields


@given(HEADERS)
@examples(60)
def test_scapy_reads_what_is_emitted(fields: tuple[int, ...]) -> None:
    raw = emitted(fields)
    tos, total_len, ident, frag_off, ttl, protocol, saddr, daddr = fields
    read = IP(raw)
    assert (read.version, read.ihl, read.tos, read.len, read.id) == (4, 5, tos, total_len, ident)
    assert (int(read.flags), read.frag, read.ttl, read.proto) == (frag_off >> 13, frag_off & 0x1FFF, ttl, protocol)
    assert (read.src, read.dst) == (addr_to_str(saddr), addr_to_str(daddr))
    assert read.chksum == parsed(raw).check


# -- decrease_ttl


def test_one_hop_older_is_what_a_full_computation_says() -> None:
    every_ttl = [emitted((0, 84, 0x4711, ipv4.IP_DF, ttl, 1, SADDR, DADDR)) for ttl in range(256)]
    assert [ipv4.decrease_ttl(header) for header in every_ttl[1:]] == every_ttl[:-1]


@given(HEADERS.filter(lambda fields: fields[4] > 0), OPTIONS)
@examples(300)
def test_one_hop_older_for_any_header_with_any_options(fields: tuple[int, ...], options: bytes) -> None:
    older = (*fields[:4], fields[4] - 1, *fields[5:])
    assert ipv4.decrease_ttl(emitted(fields, options)) == emitted(older, options)


@pytest.mark.parametrize("check", [0x0000, 0x00FF, 0x0100, 0xFEFE, 0xFEFF, 0xFF00, 0xFFFE])
def test_one_hop_older_at_the_corners_of_the_checksum(check: int) -> None:
    """0xFEFF + 0x0100 is 0xFFFF, which must go out as 0x0000; ip_decrease_ttl(): check + (check >= 0xFFFF)."""
    zero_ident = emitted((0, 20, 0, 0, 64, 17, SADDR, DADDR))
    ident = (0xFFFF - check - reference_sum(zero_ident[:10] + zero_ident[12:])) % 0xFFFF
    fields = (0, 20, ident, 0, 64, 17, SADDR, DADDR)
    assert parsed(emitted(fields)).check == check
    linux = check + 0x0100
    linux = (linux + (linux >= 0xFFFF)) & 0xFFFF
    older = ipv4.decrease_ttl(emitted(fields))
    assert parsed(older).check == linux
    assert older == emitted((0, 20, ident, 0, 63, 17, SADDR, DADDR))


def test_damage_from_before_stays_visible() -> None:
    """RFC 1812 4.2.2.5: the reason for updating instead of computing anew."""
    for raw in flipped(emitted(GOOD)):
        header = ipv4.parse(raw, 0, len(raw))
        if header is not None and header.ttl > 0:
            older = ipv4.decrease_ttl(raw)
            assert not ipv4.checksum_ok(older, parsed(older))


# -- addresses


@given(U32)
@examples(200)
def test_addresses_as_text(addr: int) -> None:
    assert addr_to_str(addr) == str(ipaddress.IPv4Address(addr))
    assert str_to_addr(addr_to_str(addr)) == addr


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1",
        "1.2.3",
        "1.2.3.4.5",
        "256.0.0.1",
        "1.2.3.999",
        "1.2.3.0004",
        "01.2.3.4",
        "1.2.3.-4",
        "1.2.3.+4",
        "1.2.3. 4",
        "1.2.3.4 ",
        "0x1.2.3.4",
        "1..2.3",
        "1.2.3.",
        "1.2.3.٤",
        "1.2.3.²",
        "1.2.3.1_0",
        "1.2.3." + "9" * 5000,
    ],
)
def test_anything_but_four_decimal_numbers_is_no_address(text: str) -> None:
    """inet_pton(3): "ddd.ddd.ddd.ddd", nothing else; a leading zero would be octal to inet_aton."""
    with pytest.raises(ValueError, match="not an IPv4 address"):
        str_to_addr(text)


@given(st.text(st.sampled_from("0123456789.x- "), max_size=18))
@examples(300)
def test_texts_are_judged_as_the_standard_library_judges(text: str) -> None:
    try:
        expected = int(ipaddress.IPv4Address(text))
    except ValueError:
        with pytest.raises(ValueError, match="not an IPv4 address"):
            str_to_addr(text)
    else:
        assert str_to_addr(text) == expected


# -- description


def test_description() -> None:
    assert ipv4.describe(parsed(emitted(GOOD))) == (
        "192.0.2.1 > 192.0.2.2: tos 0x10, ttl 64, id 4660, offset 0, flags [DF], proto TCP (6), length 60"
    )


@pytest.mark.parametrize(
    ("frag_off", "text"),
    [(0, "offset 0, flags [none]"), (0x2005, "offset 40, flags [+]"), (0xE000, "offset 0, flags [CE,DF,+]")],
)
def test_description_of_fragments(frag_off: int, text: str) -> None:
    assert text in ipv4.describe(parsed(emitted((0, 20, 1, frag_off, 1, 99, 0, 0))))


@pytest.mark.parametrize(("protocol", "name"), [(1, "ICMP"), (6, "TCP"), (17, "UDP"), (2, "IGMP"), (99, "99")])
def test_protocol_names(protocol: int, name: str) -> None:
    assert ipv4.protocol_name(protocol) == name
