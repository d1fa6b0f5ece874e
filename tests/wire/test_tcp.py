"""The TCP header (RFC 9293 section 3.1; Linux tcp_v4_rcv(), __tcp_transmit_skb())."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from librt.strings import BytesWriter
from scapy.layers.inet import IP, TCP

from tests.wire.support import PAYLOAD, U8, U16, U32, examples, reference_sum, values
from ustack.wire import tcp
from ustack.wire.checksum import csum_pieces, csum_tcpudp_magic
from ustack.wire.ipv4 import addr_to_str

FIELDS = "sport dport seq ack_seq flags window check urg_ptr"
SYN = (33000, 80, 0x12345678, 0, tcp.TCPHDR_SYN, 64240, 0xBEEF, 0)

HEADERS = st.tuples(U16, U16, U32, U32, U8, U16, U16, U16)
WORDS = st.integers(0, 10).flatmap(lambda words: st.binary(min_size=words * 4, max_size=words * 4))


def emitted(fields: tuple[int, ...], options: bytes = b"") -> bytes:
    out = BytesWriter()
    sport, dport, seq, ack_seq, flags, window, check, urg_ptr = fields
    tcp.emit(out, sport, dport, seq, ack_seq, flags, window, check, urg_ptr, options)
    return out.getvalue()


def parsed(raw: bytes) -> tcp.TcpHeader:
    header = tcp.parse(raw, 0, len(raw))
    assert header is not None
    return header


# -- parse


@pytest.mark.parametrize("length", range(tcp.TCP_HLEN))
def test_shorter_than_twenty_bytes_is_malformed(length: int) -> None:
    raw = emitted(SYN)
    assert tcp.parse(raw[:length], 0, length) is None
    assert tcp.parse(raw, 0, length) is None


@pytest.mark.parametrize("doff", range(16))
def test_the_data_offset_is_believed_from_five_words_on(doff: int) -> None:
    """CVE-2020-24341 and its like: a data offset that lies about the header."""
    raw = emitted(SYN, bytes(40))
    raw = raw[:12] + bytes([doff << 4]) + raw[13:]
    header = tcp.parse(raw, 0, len(raw))
    if doff < 5:
        assert header is None
    else:
        assert header is not None and values(header, "options payload end") == (20, doff * 4, 60)


@pytest.mark.parametrize("length", range(20, 60))
def test_a_data_offset_beyond_the_segment_is_malformed(length: int) -> None:
    raw = emitted(SYN, bytes(40))
    assert tcp.parse(raw[:length], 0, length) is None
    assert tcp.parse(raw, 0, length) is None


@pytest.mark.parametrize("start", [0, 1, 34])
def test_the_segment_lies_anywhere_in_its_buffer(start: int) -> None:
    options = tcp.timestamp_option(1, 2)
    frame = b"\xaa" * start + emitted(SYN, options) + b"payload" + b"padding"
    header = tcp.parse(frame, start, len(frame) - 7)
    assert header is not None
    assert values(header, FIELDS) == SYN
    assert frame[header.options : header.payload] == options
    assert frame[header.payload : header.end] == b"payload"


@pytest.mark.parametrize(("start", "end"), [(-1, 30), (0, 41), (30, 20), (21, 41), (2**40, 2**40 + 20)])
def test_offsets_outside_the_buffer_are_malformed(start: int, end: int) -> None:
    assert tcp.parse(b"\x50" * 40, start, end) is None


@pytest.mark.parametrize("reserved", range(16))
def test_reserved_bits_are_ignored(reserved: int) -> None:
    """RFC 9293 3.1: "Must be zero in generated segments and must be ignored in received segments" """
    raw = emitted(SYN)
    raw = raw[:12] + bytes([0x50 | reserved]) + raw[13:]
    assert values(parsed(raw), FIELDS) == SYN


@pytest.mark.parametrize(
    ("flag", "bit"),
    [
        (tcp.TCPHDR_FIN, 1),
        (tcp.TCPHDR_SYN, 2),
        (tcp.TCPHDR_RST, 4),
        (tcp.TCPHDR_PSH, 8),
        (tcp.TCPHDR_ACK, 16),
        (tcp.TCPHDR_URG, 32),
        (tcp.TCPHDR_ECE, 64),
        (tcp.TCPHDR_CWR, 128),
    ],
)
def test_every_flag_is_one_bit_of_byte_13(flag: int, bit: int) -> None:
    raw = emitted((*SYN[:4], flag, *SYN[5:]))
    assert raw[13] == bit == flag and parsed(raw).flags == flag


# -- emit


@given(HEADERS, st.binary(max_size=40), PAYLOAD)
@examples(300)
def test_what_is_emitted_parses_back(fields: tuple[int, ...], options: bytes, payload: bytes) -> None:
    raw = emitted(fields, options)
    padded = options + bytes(-len(options) % 4)
    header = parsed(raw + payload)
    assert values(header, FIELDS) == fields
    assert values(header, "options payload end") == (20, 20 + len(padded), 20 + len(padded) + len(payload))
    assert raw[20:] == padded and raw[12] & 0x0F == 0


@pytest.mark.parametrize("length", [41, 44, 100])
def test_more_options_than_a_header_can_hold_are_refused(length: int) -> None:
    with pytest.raises(ValueError, match="40"):
        emitted(SYN, bytes(length))


def test_sequence_numbers_wrap_when_emitted() -> None:
    """RFC 9293 3.4: arithmetic modulo 2**32; whoever emits SND.NXT need not mask it."""
    header = parsed(emitted((1, 2, 2**32 + 5, 2**33 + 6, 0, 0, 0, 0)))
    assert (header.seq, header.ack_seq) == (5, 6)


# -- scapy


@given(HEADERS, WORDS, PAYLOAD)
@examples(150)
def test_scapy_reads_what_is_emitted_and_writes_it_again(
    fields: tuple[int, ...], options: bytes, payload: bytes
) -> None:
    raw = emitted(fields) + payload
    read = TCP(raw)
    theirs = (read.sport, read.dport, read.seq, read.ack, int(read.flags), read.window, read.chksum, read.urgptr)
    assert theirs == fields and (read.dataofs, read.reserved, read.options) == (5, 0, [])
    assert bytes(read.payload) == payload
    sport, dport, seq, ack_seq, flags, window, check, urg_ptr = fields
    built = TCP(
        sport=sport, dport=dport, seq=seq, ack=ack_seq, flags=flags, window=window, chksum=check, urgptr=urg_ptr
    )
    assert bytes(built / payload) == raw
    assert values(parsed(bytes(built / payload)), FIELDS) == fields
    assert TCP(emitted(fields, options)).dataofs == 5 + len(options) // 4


@given(HEADERS, U32, U32, PAYLOAD)
@examples(100)
def test_scapy_computes_the_same_checksum(fields: tuple[int, ...], saddr: int, daddr: int, payload: bytes) -> None:
    zeroed = emitted((*fields[:6], 0, fields[7])) + payload
    check = csum_tcpudp_magic(saddr, daddr, len(zeroed), 6, csum_pieces([zeroed[:20], memoryview(zeroed)[20:]]))
    ours = emitted((*fields[:6], int(check), fields[7])) + payload
    packet = IP(src=addr_to_str(saddr), dst=addr_to_str(daddr), proto=6) / TCP(zeroed)
    del packet[TCP].chksum
    assert bytes(packet)[20:] == ours
    pseudo = saddr.to_bytes(4, "big") + daddr.to_bytes(4, "big") + b"\0\6" + len(ours).to_bytes(2, "big")
    assert reference_sum(pseudo + ours) == 0xFFFF


# -- description


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        (0x00, "none"),
        (0x02, "S"),
        (0x12, "S."),
        (0x11, "F."),
        (0x04, "R"),
        (0x18, "P."),
        (0x29, "FPU"),
        (0xC2, "SEW"),
        (0xFF, "FSRP.UEW"),
    ],
)
def test_flags_as_tcpdump_writes_them(flags: int, text: str) -> None:
    assert tcp.flags_to_str(flags) == text


@pytest.mark.parametrize(
    ("fields", "options", "payload", "text"),
    [
        (
            SYN,
            tcp.syn_options(1460, 7, True, True, 1, 0),
            b"",
            (
                "33000 > 80: Flags [S], seq 305419896, win 64240, "
                "options [mss 1460,sackOK,TS val 1 ecr 0,nop,wscale 7], length 0"
            ),
        ),
        (
            (80, 1, 0xFFFFFFFF, 9, 0x18, 512, 0, 0),
            b"",
            b"abc",
            "80 > 1: Flags [P.], seq 4294967295:2, ack 9, win 512, length 3",
        ),
        ((80, 1, 5, 9, 0x10, 512, 0, 0), b"", b"", "80 > 1: Flags [.], ack 9, win 512, length 0"),
        ((80, 1, 5, 0, 0x04, 0, 0, 0), b"", b"", "80 > 1: Flags [R], seq 5, win 0, length 0"),
        ((80, 1, 5, 9, 0x30, 1, 0, 4), b"", b"!", "80 > 1: Flags [.U], seq 5:6, ack 9, win 1, urg 4, length 1"),
        ((1, 2, 3, 4, 0, 5, 0, 0), b"", b"", "1 > 2: Flags [none], win 5, length 0"),
    ],
)
def test_description(fields: tuple[int, ...], options: bytes, payload: bytes, text: str) -> None:
    raw = emitted(fields, options) + payload
    assert tcp.describe(parsed(raw), raw) == text


def test_description_without_the_bytes_leaves_the_options_out() -> None:
    raw = emitted(SYN, tcp.timestamp_option(1, 2))
    assert tcp.describe(parsed(raw)) == "33000 > 80: Flags [S], seq 305419896, win 64240, length 0"
