"""TCP options (RFC 9293 3.1 and 3.2, RFC 7323, RFC 2018; Linux tcp_parse_options(), tcp_options_write())."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from librt.strings import BytesWriter
from scapy.layers.inet import TCP

from tests.wire.support import U16, U32, examples, noise
from ustack.wire import tcp

Seen = tuple[int, int, bool, tuple[int, int] | None, list[tuple[int, int]] | None]
NOTHING: Seen = (0, tcp.NO_WSCALE, False, None, None)

MSS = bytes.fromhex("020405b4")
WSCALE = bytes.fromhex("030307")
SACK_PERM = bytes.fromhex("0402")
TIMESTAMP = bytes.fromhex("080a0000000100000002")
SACK = bytes.fromhex("050a0000000300000004")
NOP, EOL = b"\x01", b"\x00"
KNOWN = [MSS, WSCALE, SACK_PERM, TIMESTAMP, SACK]


def seen(options: bytes) -> Seen:
    """What parse_options makes of ``options``, in the middle of a buffer whose other bytes look like options too."""
    front, behind = MSS, SACK_PERM + MSS
    found = tcp.parse_options(front + options + behind, len(front), len(front) + len(options))
    times = (int(found.tsval), int(found.tsecr)) if found.saw_tstamp else None
    if not found.saw_tstamp:
        assert (found.tsval, found.tsecr) == (0, 0)
    return int(found.mss), int(found.wscale), found.sack_ok, times, found.sacks


def scapys(options: list[tuple[str, object]]) -> bytes:
    """The option bytes that scapy writes, padding included."""
    return bytes(TCP(options=options))[20:]


# -- one at a time


def test_no_options_say_nothing() -> None:
    assert seen(b"") == NOTHING


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        (MSS, (1460, -1, False, None, None)),
        (WSCALE, (0, 7, False, None, None)),
        (SACK_PERM, (0, -1, True, None, None)),
        (TIMESTAMP, (0, -1, False, (1, 2), None)),
        (SACK, (0, -1, False, None, [(3, 4)])),
        (b"\x08\x0a" + b"\xff" * 8, (0, -1, False, (0xFFFFFFFF, 0xFFFFFFFF), None)),
        (b"\x02\x04\xff\xff", (0xFFFF, -1, False, None, None)),
    ],
)
def test_each_option_alone(option: bytes, expected: Seen) -> None:
    assert seen(option) == expected


def test_a_window_scale_above_14_counts_as_14() -> None:
    """RFC 7323 2.3: "the TCP SHOULD log the error but MUST use 14 instead of the specified value." """
    assert [seen(bytes([3, 3, shift]))[1] for shift in range(256)] == [min(shift, 14) for shift in range(256)]


def test_an_mss_of_zero_was_not_given() -> None:
    """tcp_parse_options(): if (in_mss)."""
    assert seen(b"\x02\x04\0\0") == NOTHING
    assert seen(MSS + b"\x02\x04\0\0")[0] == 1460


@pytest.mark.parametrize("blocks", range(1, 5))
def test_one_to_four_sack_blocks(blocks: int) -> None:
    edges = [(at * 2000, at * 2000 + 1000) for at in range(1, blocks + 1)]
    option = tcp.sack_option(edges)
    assert len(option) == 4 + 8 * blocks and seen(option)[4] == edges


@pytest.mark.parametrize("option", KNOWN)
def test_of_an_option_given_twice_the_last_counts(option: bytes) -> None:
    other = option[:2] + b"\0" * (len(option) - 3) + b"\x05" if len(option) > 2 else option
    assert seen(option + other) == seen(other)
    assert seen(other + option) == seen(option)


# -- malformed


@pytest.mark.parametrize("option", KNOWN)
def test_a_known_kind_with_another_length_is_skipped_like_an_unknown_one(option: bytes) -> None:
    """CVE-2019-12260, CVE-2019-12258: neither an error nor a reset, and never bytes beyond the option."""
    for size in set(range(2, 37)) - {len(option)}:
        if option is SACK and size in (18, 26, 34):
            continue  # two, three and four blocks
        wrong = bytes([option[0], size]) + b"\xee" * (size - 2)
        assert seen(wrong) == NOTHING, size
        assert seen(wrong + SACK_PERM) == (0, -1, True, None, None), size


@pytest.mark.parametrize("size", [0, 1])
def test_a_length_of_zero_or_one_ends_the_list(size: int) -> None:
    """CVE-2005-2577 and many after it: an endless loop. What came before counts ("silly options")."""
    for kind in range(2, 256):
        assert seen(bytes([kind, size]) + MSS + SACK_PERM) == NOTHING, kind
        assert seen(WSCALE + bytes([kind, size]) + MSS) == (0, 7, False, None, None), kind


@pytest.mark.parametrize("kind", [2, 3, 4, 5, 8, 19, 29, 34, 253, 255])
def test_a_length_beyond_the_header_ends_the_list(kind: int) -> None:
    """ "don't parse partial options": the bytes behind the header are payload and must not be read as an option."""
    for size in range(2, 256):
        for present in range(2, min(size, 40)):
            assert seen(bytes([kind, size]) + b"\x01" * (present - 2)) == NOTHING, (size, present)


@pytest.mark.parametrize("option", KNOWN)
def test_an_option_cut_off_anywhere_says_nothing(option: bytes) -> None:
    for length in range(len(option)):
        assert seen(option[:length]) == NOTHING
        assert seen(SACK_PERM + option[:length]) == (0, -1, True, None, None)


def test_a_kind_without_its_length_ends_the_list() -> None:
    for kind in range(2, 256):
        assert seen(MSS + bytes([kind])) == (1460, -1, False, None, None)


def test_the_end_of_options_ends_the_list() -> None:
    """RFC 9293 3.1: "indicates the end of the option list", whatever follows it in the header."""
    assert seen(WSCALE + EOL + MSS) == (0, 7, False, None, None)
    for length in range(2, 10):  # a zero byte has no length of its own that could be skipped
        assert seen(WSCALE + EOL + bytes([length]) + NOP * (length - 2) + MSS) == (0, 7, False, None, None)


@pytest.mark.parametrize("nops", range(40))
def test_no_operations_are_skipped_one_by_one(nops: int) -> None:
    assert seen(NOP * nops + SACK_PERM) == (0, -1, True, None, None)
    assert seen(NOP * nops) == NOTHING


def test_unknown_kinds_are_skipped() -> None:
    """MUST-6: "A TCP implementation MUST (MUST-6) ignore without error any TCP Option it does not implement"."""
    for kind, size in itertools.product([6, 7, *range(9, 256)], [2, 3, 18, 34]):
        assert seen(bytes([kind, size]) + b"\x02" * (size - 2) + MSS) == (1460, -1, False, None, None), (kind, size)


@pytest.mark.parametrize(("start", "end"), [(-1, 4), (-4, 0), (0, 9), (9, 12), (6, 2), (2**40, 2**40)])
def test_offsets_outside_the_buffer_say_nothing(start: int, end: int) -> None:
    found = tcp.parse_options(MSS + MSS, start, end)
    assert (found.mss, found.wscale, found.sack_ok, found.saw_tstamp, found.sacks) == (0, -1, False, False, None)


def test_noise_never_raises_and_stays_within_what_options_can_say() -> None:
    for raw in noise(seed=1, count=20_000, longest=40):
        mss, wscale, _, times, sacks = seen(raw)
        assert 0 <= mss <= 0xFFFF and -1 <= wscale <= 14
        assert times is None or max(times) <= 0xFFFFFFFF
        assert sacks is None or 1 <= len(sacks) <= 4
        assert tcp.options_to_str(raw, 0, len(raw)) or not raw


@given(st.lists(st.tuples(st.integers(2, 8), st.integers(0, 12), st.binary(max_size=10)), max_size=6))
@examples(300)
def test_options_that_nearly_fit_never_raise(parts: list[tuple[int, int, bytes]]) -> None:
    raw = b"".join(bytes([kind, size]) + rest for kind, size, rest in parts)[:40]
    seen(raw)
    assert bool(tcp.options_to_str(raw, 0, len(raw))) == bool(raw)


# -- the fast look


def test_aligned_timestamps_are_recognised() -> None:
    option = tcp.timestamp_option(0x01020304, 0xFFFFFFFF)
    assert option.hex() == "0101080a01020304ffffffff"
    assert tcp.aligned_timestamp(option, 0)
    assert tcp.aligned_timestamp(bytes(54) + option + b"payload", 54)


@pytest.mark.parametrize("bit", range(32))
def test_anything_else_is_not_an_aligned_timestamp(bit: int) -> None:
    option = bytearray(tcp.timestamp_option(1, 2))
    option[bit // 8] ^= 1 << bit % 8
    assert not tcp.aligned_timestamp(bytes(option), 0)


@pytest.mark.parametrize("length", range(12))
def test_a_truncated_aligned_timestamp_is_none(length: int) -> None:
    option = tcp.timestamp_option(1, 2)
    assert not tcp.aligned_timestamp(option[:length], 0)
    assert not tcp.aligned_timestamp(option, 12 - length)
    assert not tcp.aligned_timestamp(option, -1 - length)


@pytest.mark.parametrize("options", [b"", NOP * 12, tcp.timestamp_option(1, 2), tcp.timestamp_option(1, 2) + NOP * 4])
def test_a_header_tells_whether_timestamps_are_all_its_options(options: bytes) -> None:
    out = BytesWriter()
    tcp.emit(out, 1, 2, 3, 4, tcp.TCPHDR_ACK, 5, 0, 0, options)
    segment = bytes(7) + out.getvalue() + tcp.timestamp_option(1, 2)
    header = tcp.parse(segment, 7, len(segment))
    assert header is not None and header.only_timestamps == (options == tcp.timestamp_option(1, 2))


@given(U32, U32)
@examples(100)
def test_the_fast_look_and_the_parser_agree(tsval: int, tsecr: int) -> None:
    option = tcp.timestamp_option(tsval, tsecr)
    assert tcp.aligned_timestamp(option, 0)
    assert seen(option) == (0, -1, False, (tsval, tsecr), None)


# -- builders


@pytest.mark.parametrize(
    ("arguments", "raw"),
    [
        ((1460, 7, True, True, 1, 2), "020405b40402080a000000010000000201030307"),
        ((1460, 7, False, True, 1, 2), "020405b40101080a000000010000000201030307"),
        ((1460, 7, True, False, 1, 2), "020405b40101040201030307"),
        ((1460, -1, True, True, 1, 2), "020405b40402080a0000000100000002"),
        ((1460, 0, False, False, 0, 0), "020405b401030300"),
        ((1460, -1, False, False, 0, 0), "020405b4"),
        ((0, -1, False, False, 0, 0), ""),
    ],
)
def test_the_order_of_a_syns_options_is_linuxs(arguments: tuple[int, int, bool, bool, int, int], raw: str) -> None:
    """tcp_options_write(): MSS, SACK permitted in place of the timestamps' NOPs, timestamps, NOP window scale."""
    assert tcp.syn_options(*arguments).hex() == raw


@given(U16, st.integers(-1, 14), st.booleans(), st.booleans(), U32, U32)
@examples(300)
def test_a_syns_options_parse_back(mss: int, wscale: int, sack: bool, times: bool, tsval: int, tsecr: int) -> None:
    options = tcp.syn_options(mss, wscale, sack, times, tsval, tsecr)
    assert len(options) % 4 == 0 and len(options) <= 20
    assert seen(options) == (mss, wscale, sack, (tsval, tsecr) if times else None, None)


def test_no_sack_blocks_are_no_option() -> None:
    assert tcp.sack_option([]) == b""


def test_timestamps_and_three_sack_blocks_fill_a_header() -> None:
    """RFC 2018 3: "thus a maximum of 3 SACK blocks will be allowed in this case", beside timestamps."""
    blocks = [(1, 2), (3, 4), (0xFFFFFFFF, 5)]
    options = tcp.timestamp_option(1, 2) + tcp.sack_option(blocks)
    assert len(options) == tcp.TCP_MAX_OPTIONS
    assert seen(options) == (0, -1, False, (1, 2), blocks)


# -- scapy

PIECES: list[tuple[str, object]] = [
    ("MSS", 1460),
    ("WScale", 7),
    ("SAckOK", b""),
    ("Timestamp", (1, 0xFFFFFFFE)),
    ("SAck", (3, 4)),
    ("NOP", None),
]


def expected(pieces: tuple[tuple[str, object], ...]) -> Seen:
    names = {name for name, _ in pieces}
    return (
        1460 if "MSS" in names else 0,
        7 if "WScale" in names else -1,
        "SAckOK" in names,
        (1, 0xFFFFFFFE) if "Timestamp" in names else None,
        [(3, 4)] if "SAck" in names else None,
    )


@pytest.mark.parametrize("count", range(len(PIECES) + 1))
def test_every_order_of_every_choice_of_scapys_options_is_understood(count: int) -> None:
    for pieces in itertools.permutations(PIECES, count):
        assert seen(scapys(list(pieces))) == expected(pieces), pieces


@given(U16.filter(bool), st.integers(-1, 14), st.booleans(), st.booleans(), U32, U32)
@examples(100)
def test_scapy_reads_a_syns_options_and_writes_the_same_bytes(
    mss: int, wscale: int, sack: bool, times: bool, tsval: int, tsecr: int
) -> None:
    options = tcp.syn_options(mss, wscale, sack, times, tsval, tsecr)
    out = BytesWriter()
    tcp.emit(out, 1, 2, 3, 4, tcp.TCPHDR_SYN, 6, 7, 8, options)
    read = TCP(out.getvalue())
    told = {name: value for name, value in read.options if name != "NOP"}
    wanted: dict[str, object] = {"MSS": mss}
    wanted |= {"WScale": wscale} if wscale >= 0 else {}
    wanted |= {"SAckOK": b""} if sack else {}
    wanted |= {"Timestamp": (tsval, tsecr)} if times else {}
    assert told == wanted
    assert scapys(read.options) == options


@given(st.lists(st.tuples(U32, U32), min_size=1, max_size=4))
@examples(100)
def test_scapy_agrees_on_sack_blocks_in_both_directions(blocks: list[tuple[int, int]]) -> None:
    flat = tuple(edge for block in blocks for edge in block)
    theirs = scapys([("NOP", None), ("NOP", None), ("SAck", flat)])
    assert theirs == tcp.sack_option(blocks)
    assert seen(theirs)[4] == blocks


# -- description


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (tcp.syn_options(1460, 7, True, True, 1, 2), "mss 1460,sackOK,TS val 1 ecr 2,nop,wscale 7"),
        (tcp.timestamp_option(1, 2), "nop,nop,TS val 1 ecr 2"),
        (tcp.sack_option([(1, 2), (3, 4)]), "nop,nop,sack 2 {1:2}{3:4}"),
        (WSCALE + EOL + MSS, "wscale 7,eol"),
        (MSS + b"\x08", "mss 1460,[bad opt]"),
        (MSS + b"\x08\x00", "mss 1460,[bad opt]"),
        (b"\x13\x12" + bytes(16), "unknown-19 0x" + "00" * 16),
        (b"\xfd\x02", "unknown-253"),
        (b"\x02\x03\x01", "unknown-2 0x01"),
    ],
)
def test_options_as_text(options: bytes, text: str) -> None:
    assert tcp.options_to_str(options, 0, len(options)) == text
