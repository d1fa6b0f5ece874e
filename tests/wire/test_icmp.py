"""ICMP messages (RFC 792, RFC 1122 section 3.2.2, RFC 1191 section 4)."""

from __future__ import annotations

import pytest
from hypothesis import given
from scapy.layers.inet import ICMP

from tests.wire.support import PAYLOAD, U8, U16, U32, examples, flipped, reference_sum, values
from ustack.wire import icmp

FIELDS = "icmp_type code rest"
ECHO = icmp.emit(icmp.ICMP_ECHO, 0, 7 << 16 | 1, bytes(range(56)))


def parsed(raw: bytes) -> icmp.IcmpHeader:
    header = icmp.parse(raw, 0, len(raw))
    assert header is not None
    return header


@pytest.mark.parametrize("length", range(icmp.ICMP_HLEN))
def test_shorter_than_eight_bytes_is_malformed(length: int) -> None:
    assert icmp.parse(ECHO[:length], 0, length) is None
    assert icmp.parse(ECHO, 0, length) is None


@pytest.mark.parametrize(("start", "end"), [(-1, 8), (0, 65), (60, 68), (10, 5)])
def test_offsets_outside_the_buffer_are_malformed(start: int, end: int) -> None:
    assert icmp.parse(ECHO, start, end) is None


@pytest.mark.parametrize("start", [0, 1, 34])
def test_the_message_lies_anywhere_in_its_buffer(start: int) -> None:
    frame = b"\xaa" * start + ECHO + b"\xbb" * 5
    header = icmp.parse(frame, start, start + len(ECHO))
    assert header is not None and header.payload == start + 8
    assert icmp.checksum_ok(frame, start, start + len(ECHO))
    assert not icmp.checksum_ok(frame, start, len(frame))


@given(U8, U8, U32, PAYLOAD)
@examples(300)
def test_what_is_emitted_parses_back_and_checks(icmp_type: int, code: int, rest: int, payload: bytes) -> None:
    raw = icmp.emit(icmp_type, code, rest, payload)
    header = parsed(raw)
    assert values(header, FIELDS) == (icmp_type, code, rest)
    assert raw[header.payload :] == payload
    if any(raw):
        assert reference_sum(raw) == 0xFFFF
    assert icmp.checksum_ok(raw, 0, len(raw))


def test_all_zeros_is_an_echo_reply_with_a_wrong_checksum() -> None:
    """Its right checksum is 0xFFFF; Linux's csum_fold() of it is not 0 either."""
    assert not icmp.checksum_ok(bytes(8), 0, 8)
    assert icmp.emit(0, 0, 0, b"") == b"\0\0\xff\xff\0\0\0\0"


def test_every_single_flipped_bit_spoils_the_checksum() -> None:
    assert not [raw for raw in flipped(ECHO) if icmp.checksum_ok(raw, 0, len(raw))]


@given(U16, U16, PAYLOAD)
@examples(60)
def test_scapy_agrees_on_echoes_in_both_directions(ident: int, sequence: int, payload: bytes) -> None:
    for icmp_type in (icmp.ICMP_ECHO, icmp.ICMP_ECHOREPLY):
        ours = icmp.emit(icmp_type, 0, ident << 16 | sequence, payload)
        built = bytes(ICMP(type=icmp_type, code=0, id=ident, seq=sequence) / payload)
        if any(ours[4:] + ours[:2]):  # scapy writes 0 for the checksum of zeros
            assert built == ours
        read = ICMP(ours)
        assert (read.type, read.code, read.id, read.seq) == (icmp_type, 0, ident, sequence)
        header = parsed(built)
        assert (header.ident, header.sequence) == (ident, sequence)


@given(U16, U32)
@examples(60)
def test_scapy_agrees_on_errors_in_both_directions(mtu: int, gateway: int) -> None:
    quote = bytes.fromhex("450000540001000040010000c0000201c0000202") + bytes(8)
    needed = icmp.emit(icmp.ICMP_DEST_UNREACH, icmp.ICMP_FRAG_NEEDED, mtu, quote)
    assert bytes(ICMP(type=3, code=4, nexthopmtu=mtu) / quote) == needed
    assert ICMP(needed).nexthopmtu == mtu == parsed(needed).mtu

    redirect = icmp.emit(icmp.ICMP_REDIRECT, icmp.ICMP_REDIR_HOST, gateway, quote)
    dotted = ".".join(str(byte) for byte in gateway.to_bytes(4, "big"))
    assert bytes(ICMP(type=5, code=1, gw=dotted) / quote) == redirect
    assert ICMP(redirect).gw == dotted and parsed(redirect).gateway == gateway

    problem = icmp.emit(icmp.ICMP_PARAMETERPROB, 0, (mtu & 0xFF) << 24, quote)
    assert bytes(ICMP(type=12, code=0, ptr=mtu & 0xFF) / quote) == problem
    assert ICMP(problem).ptr == mtu & 0xFF == parsed(problem).pointer


def test_only_five_types_are_errors() -> None:
    """RFC 1122 3.2.2: destination unreachable, redirect, source quench, time exceeded, parameter problem."""
    assert [kind for kind in range(256) if icmp.is_error(kind)] == [3, 4, 5, 11, 12]


@pytest.mark.parametrize(
    ("icmp_type", "code", "rest", "text"),
    [
        (8, 0, 7 << 16 | 1, "ICMP echo request, id 7, seq 1"),
        (0, 0, 7 << 16 | 1, "ICMP echo reply, id 7, seq 1"),
        (13, 0, 1 << 16, "ICMP time stamp query, id 1, seq 0"),
        (3, 1, 0, "ICMP host unreachable"),
        (3, 3, 0, "ICMP port unreachable"),
        (3, 4, 1400, "ICMP unreachable - need to frag (mtu 1400)"),
        (3, 99, 0, "ICMP unreachable, code 99"),
        (11, 0, 0, "ICMP time exceeded, code 0"),
        (77, 3, 0, "ICMP type 77, code 3"),
    ],
)
def test_description(icmp_type: int, code: int, rest: int, text: str) -> None:
    assert icmp.describe(parsed(icmp.emit(icmp_type, code, rest, b""))) == text
