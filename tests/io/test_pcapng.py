"""pcapng blocks, read back by scapy (draft-ietf-opsawg-pcapng sections 3 and 4)."""

from __future__ import annotations

import struct
from io import BytesIO
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.utils import RawPcapNgReader

from ustack.io import pcapng


def read(data: bytes) -> list[tuple[bytes, RawPcapNgReader.PacketMetadata]]:
    """Every packet of a file with what scapy knows of it."""
    reader: Any = RawPcapNgReader  # its types know of file names only
    return list(reader(BytesIO(data)))


def blocks(data: bytes) -> list[tuple[int, bytes]]:
    """(type, body) of every block; both lengths must agree and the file end with a block's end."""
    found = []
    while data:
        kind, length = struct.unpack("=II", data[:8])
        assert length % 4 == 0 and struct.unpack("=I", data[length - 4 : length]) == (length,)
        found.append((kind, data[8 : length - 4]))
        data = data[length:]
    return found


HEADER = pcapng.section_header("ustack") + pcapng.interface(
    pcapng.LINKTYPE_ETHERNET, 65_536, "eth0", 0x02_00_00_00_00_01
)


@given(st.integers(0, 2**64 - 1), st.binary(max_size=100), st.integers(0, 100_000))
def test_a_packet_comes_back_with_its_nanosecond(time: int, data: bytes, cut: int) -> None:
    ((back, about),) = read(HEADER + pcapng.packet(0, time, data, len(data) + cut))
    assert back == data and about.wirelen == len(data) + cut
    assert about.tsresol == 10**9 and about.tshigh << 32 | about.tslow == time
    assert about.ifname == b"eth0" and about.linktype == pcapng.LINKTYPE_ETHERNET and about.comments is None


@pytest.mark.parametrize("text", ["x", "dropped: NEIGH_FAILED", "größer"])
@pytest.mark.parametrize(
    ("flags", "direction"), [(0, None), (pcapng.FLAG_INBOUND, 1), (pcapng.FLAG_OUTBOUND | pcapng.FLAG_BROADCAST, 2)]
)
def test_comment_and_direction(text: str, flags: int, direction: int | None) -> None:
    ((_, about),) = read(HEADER + pcapng.packet(0, 0, b"frame", 5, flags, text))
    assert about.comments == [text.encode()] and about.direction == direction


def test_several_comments() -> None:
    ((_, about),) = read(HEADER + pcapng.packet(0, 0, b"frame", 5, pcapng.FLAG_INBOUND, "one", "", "two"))
    assert about.comments == [b"one", b"two"] and about.direction == 1


def test_a_comment_that_is_too_long_is_cut() -> None:
    ((_, about),) = read(HEADER + pcapng.packet(0, 0, b"frame", 5, 0, "x" * 70_000))
    assert about.comments == [b"x" * 0xFFFF]


def test_a_comment_is_not_cut_in_the_middle_of_a_character() -> None:
    ((_, about),) = read(HEADER + pcapng.packet(0, 0, b"frame", 5, 0, "é" * 40_000))
    assert about.comments == ["é".encode() * (0xFFFF // 2)]


def test_packets_belong_to_their_interfaces() -> None:
    raw = pcapng.interface(pcapng.LINKTYPE_RAW, 65_536, "dropped", description="lost")
    back = read(HEADER + raw + pcapng.packet(1, 0, b"raw", 3) + pcapng.packet(0, 0, b"eth", 3))
    assert [(about.ifname, about.linktype) for _, about in back] == [(b"dropped", 101), (b"eth0", 1)]


@given(st.lists(st.binary(max_size=9), max_size=5))
def test_every_block_is_padded_and_framed(packets: list[bytes]) -> None:
    data = HEADER + b"".join(pcapng.packet(0, 1, each, len(each), 0, "n") for each in packets)
    data += pcapng.statistics(0, 1, 5, 2)
    assert [kind for kind, _ in blocks(data)] == [0x0A0D0D0A, 1, *[6] * len(packets), 5]


def test_statistics() -> None:
    (_, body) = blocks(pcapng.statistics(3, 1 << 32 | 7, 5, 2))[0]
    assert struct.unpack("=III", body[:12]) == (3, 1, 7)
    assert body[12:] == struct.pack("=HHQHHQHH", 4, 8, 5, 5, 8, 2, 0, 0)


def test_options_end_only_where_there_are_some() -> None:
    assert pcapng.options() == b"" and pcapng.comment("") == b""
    assert pcapng.options(pcapng.option(1, b"abc")) == struct.pack("=HH", 1, 3) + b"abc\0" + bytes(4)
