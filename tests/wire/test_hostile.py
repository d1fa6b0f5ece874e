"""Whatever comes, a parser answers a header or None, and what a header says can be used without a second thought.

Each property is tried on good packets truncated at every length, with every single bit flipped, and on noise, at
every kind of offset.
"""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

import pytest
from librt.strings import BytesWriter

from tests.wire.support import flipped, noise
from ustack.wire import arp, ethernet, icmp, ipv4, tcp, udp
from ustack.wire.octets import u32

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

U16_MAX, U32_MAX = 0xFFFF, 0xFFFFFFFF


def within(value: int, ceiling: int) -> bool:
    return 0 <= value <= ceiling


def try_ethernet(b: bytes, start: int, end: int) -> bool:
    header = ethernet.parse(b[max(start, 0) : end])
    if header is None:
        return False
    assert within(header.dst, ethernet.ETH_BROADCAST) and within(header.src, ethernet.ETH_BROADCAST)
    assert within(header.ethertype, U16_MAX)
    assert ethernet.describe(header)
    return True


def try_arp(b: bytes, start: int, end: int) -> bool:
    header = arp.parse(b, start, end)
    if header is None:
        return False
    assert within(header.op, U16_MAX)
    assert within(header.sha, ethernet.ETH_BROADCAST) and within(header.tha, ethernet.ETH_BROADCAST)
    assert within(header.spa, U32_MAX) and within(header.tpa, U32_MAX)
    assert arp.describe(header)
    return True


def try_ipv4(b: bytes, start: int, end: int) -> bool:
    header = ipv4.parse(b, start, end)
    if header is None:
        return False
    assert header.start == start and 20 <= header.header_len <= 60 and start + header.header_len <= end <= len(b)
    assert within(header.tos, 0xFF) and within(header.ttl, 0xFF) and within(header.protocol, 0xFF)
    assert within(header.total_len, U16_MAX) and within(header.ident, U16_MAX) and within(header.frag_off, U16_MAX)
    assert within(header.check, U16_MAX) and within(header.saddr, U32_MAX) and within(header.daddr, U32_MAX)
    assert within(header.fragment_offset, 65528)
    assert header.is_fragment == (header.more_fragments or header.fragment_offset > 0)
    assert ipv4.checksum_ok(b, header) in (True, False)
    assert ipv4.describe(header)
    assert len(ipv4.decrease_ttl(b[start : start + header.header_len])) == header.header_len
    return True


def try_icmp(b: bytes, start: int, end: int) -> bool:
    header = icmp.parse(b, start, end)
    if header is None:
        return False
    assert header.payload == start + 8 <= end <= len(b)
    assert within(header.icmp_type, 0xFF) and within(header.code, 0xFF)
    assert within(header.checksum, U16_MAX) and within(header.rest, U32_MAX)
    assert within(header.ident, U16_MAX) and within(header.sequence, U16_MAX) and within(header.mtu, U16_MAX)
    assert within(header.gateway, U32_MAX) and within(header.pointer, 0xFF)
    assert icmp.checksum_ok(b, start, end) in (True, False)
    assert icmp.describe(header)
    return True


def try_udp(b: bytes, start: int, end: int) -> bool:
    header = udp.parse(b, start, end)
    if header is None:
        return False
    assert start + 8 == header.payload <= header.end <= end <= len(b)
    assert within(header.sport, U16_MAX) and within(header.dport, U16_MAX) and within(header.checksum, U16_MAX)
    assert udp.describe(header)
    return True


def try_tcp(b: bytes, start: int, end: int) -> bool:
    header = tcp.parse(b, start, end)
    if header is None:
        return False
    assert header.options == start + 20 <= header.payload <= start + 60
    assert header.payload <= header.end == end <= len(b)
    assert within(header.seq, U32_MAX) and within(header.ack_seq, U32_MAX) and within(header.flags, 0xFF)
    assert within(header.sport, U16_MAX) and within(header.dport, U16_MAX) and within(header.window, U16_MAX)
    assert within(header.check, U16_MAX) and within(header.urg_ptr, U16_MAX)
    found = tcp.parse_options(b, header.options, header.payload)
    if header.payload - header.options >= 12 and tcp.aligned_timestamp(b, header.options):
        assert within(u32(b, header.options + 4), U32_MAX) and within(u32(b, header.options + 8), U32_MAX)
        assert found.saw_tstamp
    assert tcp.describe(header, b)
    return True


def written(write: Callable[[BytesWriter], None]) -> bytes:
    out = BytesWriter()
    write(out)
    return out.getvalue()


OPTIONS = tcp.syn_options(1460, 7, True, True, 1, 2) + tcp.sack_option([(1, 2)])
GOOD: dict[str, tuple[Callable[[bytes, int, int], bool], bytes]] = {
    "ethernet": (try_ethernet, ethernet.header(ethernet.ETH_BROADCAST, 0x020000000001, 0x0800) + b"payload"),
    "arp": (try_arp, arp.emit(1, 0x020000000001, 0xC0000201, 0, 0xC0000202)),
    "ipv4": (
        try_ipv4,
        written(lambda out: ipv4.emit(out, 0, 44, 1, 0x4000, 64, 6, 0xC0000201, 0xC0000202, b"\x94\x04\0\0")),
    ),
    "icmp": (try_icmp, icmp.emit(8, 0, 7 << 16 | 1, b"payload")),
    "udp": (try_udp, written(lambda out: udp.emit(out, 53, 33000, 7, 0)) + b"payload"),
    "tcp": (try_tcp, written(lambda out: tcp.emit(out, 33000, 80, 1, 2, 0x18, 512, 0, 0, OPTIONS)) + b"payload"),
}

each_parser = pytest.mark.parametrize(("attempt", "good"), GOOD.values(), ids=GOOD.keys())


@each_parser
def test_the_good_packet_parses(attempt: Callable[[bytes, int, int], bool], good: bytes) -> None:
    assert attempt(good, 0, len(good))


@each_parser
def test_truncated_at_every_length(attempt: Callable[[bytes, int, int], bool], good: bytes) -> None:
    """Cut off in the buffer, and cut off by ``end`` with more bytes behind it; the answer is the same."""
    for length in range(len(good) + 1):
        assert attempt(good[:length], 0, length) == attempt(good, 0, length), length


@pytest.mark.parametrize(("attempt", "good"), [pair for name, pair in GOOD.items() if name != "ethernet"])
def test_every_pair_of_offsets_inside_and_outside(attempt: Callable[[bytes, int, int], bool], good: bytes) -> None:
    for start in range(-3, len(good) + 3):
        for end in range(-3, len(good) + 3):
            sound = 0 <= start <= end <= len(good)
            assert sound or not attempt(good, start, end), (start, end)


@each_parser
def test_every_single_bit_flipped(attempt: Callable[[bytes, int, int], bool], good: bytes) -> None:
    for changed in flipped(good):
        attempt(changed, 0, len(changed))


@each_parser
def test_many_bits_flipped(attempt: Callable[[bytes, int, int], bool], good: bytes) -> None:
    for changed in mangled(good, seed=3, count=3000):
        attempt(changed, 0, len(changed))


@each_parser
def test_noise(attempt: Callable[[bytes, int, int], bool], good: bytes) -> None:
    for raw in noise(seed=4, count=3000, longest=100):
        attempt(raw, 0, len(raw))
        attempt(raw, len(raw) // 3, len(raw))


@each_parser
def test_noise_behind_a_good_beginning(attempt: Callable[[bytes, int, int], bool], good: bytes) -> None:
    """So that the noise gets past the first check."""
    for at, raw in enumerate(noise(seed=5, count=3000, longest=60)):
        changed = good[: at % len(good)] + raw
        attempt(changed, 0, len(changed))


@each_parser
@pytest.mark.parametrize("fill", [0x00, 0xFF, 0x45, 0x50, 0xF0])
def test_one_byte_over_and_over(attempt: Callable[[bytes, int, int], bool], good: bytes, fill: int) -> None:
    for length in range(70):
        attempt(bytes([fill]) * length, 0, length)


def mangled(good: bytes, seed: int, count: int) -> Iterator[bytes]:
    source = Random(seed)
    for _ in range(count):
        changed = bytearray(good)
        for _ in range(source.randint(1, 12)):
            changed[source.randrange(len(changed))] ^= 1 << source.randrange(8)
        yield bytes(changed[: source.randint(0, len(changed))] if source.random() < 0.3 else changed)
