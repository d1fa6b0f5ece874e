"""UDP header (RFC 768; Linux include/uapi/linux/udp.h): bytes in, integers out, and back.

``parse`` answers None for every datagram whose lengths cannot be believed; afterwards no access can fail. Lengths
in bytes, ports and checksum as integers in host order.
"""

from __future__ import annotations

from typing import Final

from librt.strings import BytesWriter, read_i64_be
from mypy_extensions import i64, mypyc_attr

from ustack.wire.checksum import csum_pieces, csum_tcpudp_magic
from ustack.wire.ipv4 import IPPROTO_UDP
from ustack.wire.octets import put_u64

UDP_HLEN: Final = 8
UDP_MAX_LEN: Final = 0xFFFF
#: The checksum field of a datagram whose sender did not compute one (SO_NO_CHECK).
NO_CHECKSUM: Final = 0
#: RFC 768: "If the computed checksum is zero, it is transmitted as all ones" (Linux: CSUM_MANGLED_0).
MANGLED_ZERO: Final = 0xFFFF


@mypyc_attr(free_list_len=1, acyclic=True)
class UdpHeader:
    """One parsed header; ``payload`` is the offset of the first payload byte, ``end`` one past the last."""

    def __init__(self, sport: i64, dport: i64, checksum: i64, payload: i64, end: i64) -> None:
        self.sport: i64 = sport
        self.dport: i64 = dport
        self.checksum: i64 = checksum
        self.payload: i64 = payload
        self.end: i64 = end


def parse(b: bytes, start: i64, end: i64) -> UdpHeader | None:
    """The header at ``start``; ``end`` is where the IP payload ends. None if malformed (Linux: short_packet).

    What lies between the header's own length and ``end`` is not payload.
    """
    if start < 0 or end > len(b) or end - start < UDP_HLEN:
        return None
    word = read_i64_be(b, start)
    length = (word >> 16) & 0xFFFF
    if length < UDP_HLEN or start + length > end:
        return None
    return UdpHeader((word >> 48) & 0xFFFF, (word >> 32) & 0xFFFF, word & 0xFFFF, start + UDP_HLEN, start + length)


def emit(out: BytesWriter, sport: i64, dport: i64, payload_len: i64, checksum: i64) -> None:
    """Append the eight bytes of a header; ``checksum`` is final (0 means none, see ``udp_csum``)."""
    put_u64(
        out,
        (sport & 0xFFFF) << 16 | (dport & 0xFFFF),
        ((UDP_HLEN + payload_len) & 0xFFFF) << 16 | (checksum & 0xFFFF),
    )


def udp_csum(saddr: i64, daddr: i64, sport: i64, dport: i64, payload_len: i64, pieces: list[bytes | memoryview]) -> i64:
    """The value for the checksum field of a datagram whose ``payload_len`` bytes are ``pieces`` joined; never 0.

    Linux: udp_send_skb(), udp_csum() and CSUM_MANGLED_0.
    """
    length = UDP_HLEN + payload_len
    check = csum_tcpudp_magic(saddr, daddr, length, IPPROTO_UDP, csum_pieces(pieces, sport + dport + length))
    return check if check != 0 else MANGLED_ZERO


def describe(header: UdpHeader) -> str:
    """``53 > 33000: UDP, length 12``"""
    return f"{header.sport} > {header.dport}: UDP, length {header.end - header.payload}"
