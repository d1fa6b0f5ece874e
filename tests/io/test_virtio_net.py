"""virtio_net_hdr, both ways (VIRTIO 1.2 section 5.1.6; include/linux/virtio_net.h)."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ustack.device.ring import TxFrame
from ustack.io.virtio_net import (
    MIN_GSO_FRAME,
    VIRTIO_NET_HDR_F_DATA_VALID,
    VIRTIO_NET_HDR_F_NEEDS_CSUM,
    VIRTIO_NET_HDR_GSO_ECN,
    VIRTIO_NET_HDR_GSO_TCPV4,
    VIRTIO_NET_HDR_LEN,
    VIRTIO_NET_HDR_MRG_LEN,
    RxOffload,
    encode,
)
from ustack.packet import (
    CHECKSUM_NONE,
    CHECKSUM_PARTIAL,
    CHECKSUM_UNNECESSARY,
    SKB_GSO_NONE,
    SKB_GSO_TCP_ECN,
    SKB_GSO_TCPV4,
)

HDR_SIZES = [VIRTIO_NET_HDR_LEN, VIRTIO_NET_HDR_MRG_LEN]
GSO_UDP = 3
GSO_TCPV6 = 4


def header(
    flags: int = 0, gso_type: int = 0, hdr_len: int = 0, gso_size: int = 0, start: int = 0, offset: int = 0
) -> bytes:
    """As the kernel of a little-endian machine lays it out, written by another hand than the code's."""
    return struct.pack("<BBHHHH", flags, gso_type, hdr_len, gso_size, start, offset)


def decoded(raw: bytes, hdr_size: int = VIRTIO_NET_HDR_LEN) -> RxOffload:
    offload = RxOffload()
    assert offload.decode(raw, hdr_size)
    return offload


def refused(raw: bytes, hdr_size: int = VIRTIO_NET_HDR_LEN) -> bool:
    return not RxOffload().decode(raw, hdr_size)


def tx_frame(
    needs_csum: bool = False, start: int = 0, offset: int = 0, size: int = 0, kind: int = SKB_GSO_NONE, hdr_len: int = 0
) -> TxFrame:
    frame = TxFrame()
    frame.needs_csum = needs_csum
    frame.csum_start = start
    frame.csum_offset = offset
    frame.gso_size = size
    frame.gso_type = kind
    frame.hdr_len = hdr_len
    return frame


# -- received


def test_a_header_of_zeros_promises_nothing() -> None:
    offload = decoded(header() + bytes(60))
    assert (offload.ip_summed, offload.gso_size, offload.gso_type) == (CHECKSUM_NONE, 0, SKB_GSO_NONE)


def test_data_valid_vouches_for_the_checksum() -> None:
    """5.1.6.4: "If the VIRTIO_NET_HDR_F_DATA_VALID bit [...] is set, the device has validated the checksum"."""
    assert decoded(header(VIRTIO_NET_HDR_F_DATA_VALID) + bytes(60)).ip_summed == CHECKSUM_UNNECESSARY


def test_needs_csum_tells_where_the_sum_is_missing() -> None:
    offload = decoded(header(VIRTIO_NET_HDR_F_NEEDS_CSUM, start=34, offset=16) + bytes(60))
    assert (offload.ip_summed, offload.csum_start, offload.csum_offset) == (CHECKSUM_PARTIAL, 34, 16)


def test_needs_csum_wins_over_data_valid() -> None:
    """virtio_net_hdr_to_skb looks at NEEDS_CSUM; DATA_VALID is believed only without it (receive_buf)."""
    flags = VIRTIO_NET_HDR_F_NEEDS_CSUM | VIRTIO_NET_HDR_F_DATA_VALID
    assert decoded(header(flags, start=34, offset=6) + bytes(60)).ip_summed == CHECKSUM_PARTIAL


@pytest.mark.parametrize(
    ("gso_type", "expected"),
    [
        (VIRTIO_NET_HDR_GSO_TCPV4, SKB_GSO_TCPV4),
        (VIRTIO_NET_HDR_GSO_TCPV4 | VIRTIO_NET_HDR_GSO_ECN, SKB_GSO_TCPV4 | SKB_GSO_TCP_ECN),
    ],
)
def test_a_super_segment_keeps_its_segment_size_and_kind(gso_type: int, expected: int) -> None:
    raw = header(VIRTIO_NET_HDR_F_NEEDS_CSUM, gso_type, 66, 1448, 34, 16) + bytes(65_226)
    offload = decoded(raw)
    assert (offload.gso_size, offload.gso_type, offload.ip_summed) == (1448, expected, CHECKSUM_PARTIAL)


def test_nothing_of_the_frame_before_is_left_over() -> None:
    offload = RxOffload()
    assert offload.decode(
        header(VIRTIO_NET_HDR_F_NEEDS_CSUM, VIRTIO_NET_HDR_GSO_TCPV4, 66, 1448, 34, 16) + bytes(3000), 10
    )
    assert offload.decode(header() + bytes(60), 10)
    assert (offload.ip_summed, offload.gso_size, offload.gso_type) == (CHECKSUM_NONE, 0, SKB_GSO_NONE)


@pytest.mark.parametrize("hdr_size", HDR_SIZES)
def test_a_header_cut_short_is_refused(hdr_size: int) -> None:
    assert all(refused(bytes(length), hdr_size) for length in range(hdr_size))
    assert not refused(bytes(hdr_size), hdr_size)


@pytest.mark.parametrize("gso_type", [GSO_UDP, GSO_TCPV6, 2, 5, 0x7F, VIRTIO_NET_HDR_GSO_ECN, 0xFF])
def test_segmentation_that_nobody_asked_for_is_refused(gso_type: int) -> None:
    assert refused(header(VIRTIO_NET_HDR_F_NEEDS_CSUM, gso_type, 54, 1448, 34, 16) + bytes(3000))


def test_segments_of_no_size_are_refused() -> None:
    """virtio_net_hdr_to_skb: "Too small packets are not really GSO ones", and gso_size 0 would never end."""
    assert refused(header(VIRTIO_NET_HDR_F_NEEDS_CSUM, VIRTIO_NET_HDR_GSO_TCPV4, 54, 0, 34, 16) + bytes(3000))


def test_a_super_segment_shorter_than_its_headers_is_refused() -> None:
    gso = header(0, VIRTIO_NET_HDR_GSO_TCPV4, 54, 1448)
    assert refused(gso + bytes(MIN_GSO_FRAME - 1)) and not refused(gso + bytes(MIN_GSO_FRAME))


@pytest.mark.parametrize(("start", "offset"), [(34, 25), (59, 0), (60, 0), (0xFFFF, 0xFFFF), (0, 59)])
def test_a_checksum_field_outside_the_frame_is_refused(start: int, offset: int) -> None:
    """skb_partial_csum_set: "bad partial csum"."""
    assert refused(header(VIRTIO_NET_HDR_F_NEEDS_CSUM, start=start, offset=offset) + bytes(60))


def test_the_last_two_bytes_may_be_the_checksum_field() -> None:
    assert not refused(header(VIRTIO_NET_HDR_F_NEEDS_CSUM, start=34, offset=24) + bytes(60))


@given(raw=st.binary(max_size=120), hdr_size=st.sampled_from(HDR_SIZES))
def test_no_bytes_raise_and_what_is_believed_is_consistent(raw: bytes, hdr_size: int) -> None:
    offload = RxOffload()
    if not offload.decode(raw, hdr_size):
        return
    length = len(raw) - hdr_size
    if offload.ip_summed == CHECKSUM_PARTIAL:
        assert offload.csum_start + offload.csum_offset + 2 <= length
    assert (offload.gso_size != 0) == (offload.gso_type != SKB_GSO_NONE)


# -- sent


@pytest.mark.parametrize("hdr_size", HDR_SIZES)
def test_an_ordinary_frame_asks_for_nothing(hdr_size: int) -> None:
    assert encode(tx_frame(), hdr_size) == bytes(hdr_size)


@pytest.mark.parametrize("hdr_size", HDR_SIZES)
def test_a_checksum_is_asked_for_where_it_belongs(hdr_size: int) -> None:
    raw = encode(tx_frame(True, 34, 6), hdr_size)
    assert raw == header(VIRTIO_NET_HDR_F_NEEDS_CSUM, start=34, offset=6).ljust(hdr_size, b"\0")


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (SKB_GSO_TCPV4, VIRTIO_NET_HDR_GSO_TCPV4),
        (SKB_GSO_TCPV4 | SKB_GSO_TCP_ECN, VIRTIO_NET_HDR_GSO_TCPV4 | VIRTIO_NET_HDR_GSO_ECN),
    ],
)
def test_a_super_segment_is_described(kind: int, expected: int) -> None:
    raw = encode(tx_frame(True, 34, 16, 1448, kind, 66), VIRTIO_NET_HDR_LEN)
    assert raw == header(VIRTIO_NET_HDR_F_NEEDS_CSUM, expected, 66, 1448, 34, 16)


def test_stale_fields_of_an_earlier_frame_do_not_reach_the_wire() -> None:
    """TxFrame is reused: without needs_csum its offsets mean nothing, without gso_size its hdr_len does not."""
    assert encode(tx_frame(False, 34, 16, 0, SKB_GSO_TCPV4, 66), VIRTIO_NET_HDR_LEN) == bytes(10)


@given(
    start=st.integers(0, 0xFFFF),
    offset=st.integers(0, 0xFFFF),
    size=st.integers(1, 0xFFFF),
    hdr_len=st.integers(0, 0xFFFF),
    ecn=st.booleans(),
)
def test_every_field_has_sixteen_bits(start: int, offset: int, size: int, hdr_len: int, ecn: bool) -> None:
    kind = SKB_GSO_TCPV4 | (SKB_GSO_TCP_ECN if ecn else 0)
    raw = encode(tx_frame(True, start, offset, size, kind, hdr_len), VIRTIO_NET_HDR_LEN)
    gso_type = VIRTIO_NET_HDR_GSO_TCPV4 | (VIRTIO_NET_HDR_GSO_ECN if ecn else 0)
    assert raw == header(VIRTIO_NET_HDR_F_NEEDS_CSUM, gso_type, hdr_len, size, start, offset)


@given(start=st.integers(14, 60), size=st.integers(1, 9000), ecn=st.booleans(), hdr_size=st.sampled_from(HDR_SIZES))
def test_what_is_encoded_decodes_to_the_same(start: int, size: int, ecn: bool, hdr_size: int) -> None:
    kind = SKB_GSO_TCPV4 | (SKB_GSO_TCP_ECN if ecn else 0)
    offload = decoded(encode(tx_frame(True, start, 16, size, kind, start + 20), hdr_size) + bytes(100), hdr_size)
    assert (offload.csum_start, offload.csum_offset, offload.gso_size, offload.gso_type) == (start, 16, size, kind)
