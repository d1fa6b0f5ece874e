"""ARP for IPv4 over Ethernet (RFC 826; Linux include/uapi/linux/if_arp.h): bytes in, integers out, and back.

``parse`` answers None for anything that is not Ethernet and IPv4 or is too short; afterwards no access can fail.
Which operations are answered is for the neighbour room to say.
"""

from __future__ import annotations

from typing import Final

from librt.strings import BytesWriter, read_i64_be
from mypy_extensions import i64, mypyc_attr

from ustack.wire.ethernet import mac_to_str
from ustack.wire.ipv4 import addr_to_str
from ustack.wire.octets import put_u32, put_u48, put_u64, u32, u48

ARP_HLEN: Final = 28
ARPHRD_ETHER: Final = 1

ARPOP_REQUEST: Final = 1
ARPOP_REPLY: Final = 2

#: ar$hrd = Ethernet, ar$pro = IPv4, ar$hln = 6, ar$pln = 4: the first six bytes of all we speak, as one number.
_ETHER_IPV4: Final = 0x000108000604


@mypyc_attr(free_list_len=1, acyclic=True)
class ArpHeader:
    """One parsed packet: operation, sender's and target's hardware (sha, tha) and IPv4 (spa, tpa) addresses."""

    def __init__(self, op: i64, sha: i64, spa: i64, tha: i64, tpa: i64) -> None:
        self.op: i64 = op
        self.sha: i64 = sha
        self.spa: i64 = spa
        self.tha: i64 = tha
        self.tpa: i64 = tpa


def parse(b: bytes, start: i64, end: i64) -> ArpHeader | None:
    """The packet at ``start``; bytes between it and ``end`` are padding. None if malformed or not for IPv4."""
    if start < 0 or end > len(b) or end - start < ARP_HLEN:
        return None
    first = read_i64_be(b, start)
    if first >> 16 != _ETHER_IPV4:
        return None
    return ArpHeader(first & 0xFFFF, u48(b, start + 8), u32(b, start + 14), u48(b, start + 18), u32(b, start + 24))


def emit(op: i64, sha: i64, spa: i64, tha: i64, tpa: i64) -> bytes:
    """The 28 bytes of a packet (Linux arp_create(), without its Ethernet header)."""
    out = BytesWriter()
    put_u64(out, _ETHER_IPV4 >> 16, ((_ETHER_IPV4 & 0xFFFF) << 16) | (op & 0xFFFF))
    put_u48(out, sha)
    put_u32(out, spa)
    put_u48(out, tha)
    put_u32(out, tpa)
    return out.getvalue()


def describe(header: ArpHeader) -> str:
    """``Request who-has 192.0.2.2 tell 192.0.2.1``, ``Reply 192.0.2.2 is-at 02:00:00:00:00:02``"""
    if header.op == ARPOP_REQUEST:
        return f"Request who-has {addr_to_str(header.tpa)} tell {addr_to_str(header.spa)}"
    if header.op == ARPOP_REPLY:
        return f"Reply {addr_to_str(header.spa)} is-at {mac_to_str(header.sha)}"
    return f"Unknown op {header.op} from {addr_to_str(header.spa)}"
