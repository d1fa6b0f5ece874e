"""virtio_net_hdr: what a frame on a TAP with IFF_VNET_HDR says about itself, to and from the descriptors of a NIC.

Read first: VIRTIO 1.2 section 5.1.6, include/uapi/linux/virtio_net.h, include/linux/virtio_net.h (to and from an skb).

    offset   0      1          2         4          6            8             10
             flags  gso_type   hdr_len   gso_size   csum_start   csum_offset   (num_buffers, unused, in 12 bytes)

All little-endian: native here, and asked for by TUNSETVNETLE. Offsets count from the first byte of the Ethernet frame.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from librt.strings import BytesWriter, write_i16_le
from mypy_extensions import i16, i64, u8

from ustack.packet import (
    CHECKSUM_NONE,
    CHECKSUM_PARTIAL,
    CHECKSUM_UNNECESSARY,
    SKB_GSO_NONE,
    SKB_GSO_TCP_ECN,
    SKB_GSO_TCPV4,
)

if TYPE_CHECKING:
    from ustack.device.ring import TxFrame

VIRTIO_NET_HDR_LEN: Final = 10
VIRTIO_NET_HDR_MRG_LEN: Final = 12  #: struct virtio_net_hdr_mrg_rxbuf

VIRTIO_NET_HDR_F_NEEDS_CSUM: Final = 1  #: the field holds the pseudo-header sum; csum_start and csum_offset tell where
VIRTIO_NET_HDR_F_DATA_VALID: Final = 2  #: the checksum has been verified

VIRTIO_NET_HDR_GSO_NONE: Final = 0
VIRTIO_NET_HDR_GSO_TCPV4: Final = 1
VIRTIO_NET_HDR_GSO_ECN: Final = 0x80  #: a flag beside TCPV4

#: The shortest frame that can be a super-segment: Ethernet, IPv4 and TCP headers without options, one byte of payload.
MIN_GSO_FRAME: Final = 14 + 20 + 20 + 1


class RxOffload:
    """What one received header says, in the fields of a receive descriptor; filled anew by every ``decode``."""

    def __init__(self) -> None:
        self.ip_summed: i64 = CHECKSUM_NONE
        self.csum_start: i64 = 0
        self.csum_offset: i64 = 0
        self.gso_size: i64 = 0
        self.gso_type: i64 = SKB_GSO_NONE

    def decode(self, b: bytes, hdr_size: i64) -> bool:
        """Read the header in front of the frame in ``b`` (virtio_net_hdr_to_skb).

        False if it cannot be believed: cut short, a kind of segmentation that nobody asked for, or offsets that point
        out of the frame. ``hdr_size``: bytes that the header takes, at least VIRTIO_NET_HDR_LEN.
        """
        length: i64 = len(b) - hdr_size
        if length < 0:
            return False
        self.gso_size = 0
        self.gso_type = SKB_GSO_NONE
        flags: i64 = b[0]
        gso_type: i64 = b[1]
        if gso_type != VIRTIO_NET_HDR_GSO_NONE and not self._decode_gso(b, gso_type, length):
            return False
        if flags & VIRTIO_NET_HDR_F_NEEDS_CSUM != 0:
            return self._decode_csum(b, length)
        self.ip_summed = CHECKSUM_UNNECESSARY if flags & VIRTIO_NET_HDR_F_DATA_VALID != 0 else CHECKSUM_NONE
        return True

    def _decode_csum(self, b: bytes, length: i64) -> bool:
        self.csum_start = u16_le(b, 6)
        self.csum_offset = u16_le(b, 8)
        self.ip_summed = CHECKSUM_PARTIAL
        return self.csum_start + self.csum_offset + 2 <= length

    def _decode_gso(self, b: bytes, gso_type: i64, length: i64) -> bool:
        if gso_type & ~VIRTIO_NET_HDR_GSO_ECN != VIRTIO_NET_HDR_GSO_TCPV4 or length < MIN_GSO_FRAME:
            return False
        self.gso_size = u16_le(b, 4)
        self.gso_type = SKB_GSO_TCPV4
        if gso_type & VIRTIO_NET_HDR_GSO_ECN != 0:
            self.gso_type |= SKB_GSO_TCP_ECN
        return self.gso_size != 0


def encode(frame: TxFrame, hdr_size: i64) -> bytes:
    """The header of ``hdr_size`` bytes for a frame to be sent (virtio_net_hdr_from_skb)."""
    out = BytesWriter()
    out.append(VIRTIO_NET_HDR_F_NEEDS_CSUM if frame.needs_csum else 0)
    if frame.gso_size != 0:
        out.append(gso_type_of(frame.gso_type))
        put_u16_le(out, frame.hdr_len)
        put_u16_le(out, frame.gso_size)
    else:
        out.append(VIRTIO_NET_HDR_GSO_NONE)
        put_u16_le(out, 0)
        put_u16_le(out, 0)
    put_u16_le(out, frame.csum_start if frame.needs_csum else 0)
    put_u16_le(out, frame.csum_offset if frame.needs_csum else 0)
    if hdr_size > VIRTIO_NET_HDR_LEN:
        out.write(bytes(hdr_size - VIRTIO_NET_HDR_LEN))
    return out.getvalue()


def gso_type_of(skb_gso_type: i64) -> u8:
    if skb_gso_type & SKB_GSO_TCP_ECN != 0:
        return VIRTIO_NET_HDR_GSO_TCPV4 | VIRTIO_NET_HDR_GSO_ECN
    return VIRTIO_NET_HDR_GSO_TCPV4


def u16_le(b: bytes, at: i64) -> i64:
    low: i64 = b[at]
    high: i64 = b[at + 1]
    return low | high << 8


def put_u16_le(out: BytesWriter, value: i64) -> None:
    write_i16_le(out, i16(value - 0x10000 if value > 0x7FFF else value))
