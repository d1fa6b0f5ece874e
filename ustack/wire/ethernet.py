"""Ethernet II header (IEEE 802.3; Linux include/uapi/linux/if_ether.h): bytes in, integers out, and back.

Hardware addresses are 48-bit integers, first byte on the wire highest. ``parse`` answers None for a frame too short
for a header; afterwards no access can fail.
"""

from __future__ import annotations

from typing import Final

from librt.strings import BytesWriter, read_i64_be
from mypy_extensions import i64, mypyc_attr

from ustack.wire.octets import put_u16, put_u32, put_u64, u16, u32

ETH_ALEN: Final = 6
ETH_HLEN: Final = 14
ETH_ZLEN: Final = 60  #: shortest frame on a real wire, without FCS; shorter ones are padded
ETH_DATA_LEN: Final = 1500
ETH_FRAME_LEN: Final = 1514

ETH_P_ALL: Final = 0x0003  #: never on the wire: a tap that wants every frame
ETH_P_802_3_MIN: Final = 0x0600  #: below, the field is a length (IEEE 802.3) and not a type
ETH_P_IP: Final = 0x0800
ETH_P_ARP: Final = 0x0806
ETH_P_8021Q: Final = 0x8100
ETH_P_IPV6: Final = 0x86DD

ETH_BROADCAST: Final = 0xFFFFFFFFFFFF
_GROUP_BIT: Final = 1 << 40

_NAMES: Final = {ETH_P_IP: "IPv4", ETH_P_ARP: "ARP", ETH_P_8021Q: "802.1Q", ETH_P_IPV6: "IPv6"}


@mypyc_attr(free_list_len=1, acyclic=True)
class EthernetHeader:
    """One parsed header (struct ethhdr); the payload begins at ETH_HLEN."""

    def __init__(self, dst: i64, src: i64, ethertype: i64) -> None:
        self.dst: i64 = dst
        self.src: i64 = src
        self.ethertype: i64 = ethertype


def parse(frame: bytes) -> EthernetHeader | None:
    """The header of ``frame``, None if it has none."""
    if len(frame) < ETH_HLEN:
        return None
    first = read_i64_be(frame, 0)
    src = ((first & 0xFFFF) << 32) | u32(frame, 8)
    return EthernetHeader((first >> 16) & ETH_BROADCAST, src, u16(frame, 12))


def header(dst: i64, src: i64, ethertype: i64) -> bytes:
    """The 14 bytes of a header (Linux eth_header())."""
    out = BytesWriter()
    put_u64(out, dst >> 16, ((dst & 0xFFFF) << 16) | ((src >> 32) & 0xFFFF))
    put_u32(out, src)
    put_u16(out, ethertype)
    return out.getvalue()


def is_multicast_ether_addr(addr: i64) -> bool:
    """A group address: multicast, broadcast included."""
    return addr & _GROUP_BIT != 0


def is_valid_ether_addr(addr: i64) -> bool:
    """An address that one station can have: not zero, not a group."""
    return addr != 0 and not is_multicast_ether_addr(addr)


def mac_to_str(addr: i64) -> str:
    """``02:00:00:00:00:01``"""
    return int(addr & ETH_BROADCAST).to_bytes(ETH_ALEN, "big").hex(":")


def str_to_mac(text: str) -> int:
    """The address written as six pairs of hexadecimal digits with colons. Raises ValueError for anything else."""
    pairs = text.split(":")
    if len(pairs) != ETH_ALEN or not all(len(pair) == 2 and pair.isalnum() and pair.isascii() for pair in pairs):
        raise ValueError(f"not a hardware address: {text!r}")
    try:
        return int("".join(pairs), 16)
    except ValueError:
        raise ValueError(f"not a hardware address: {text!r}") from None


def describe(header: EthernetHeader) -> str:
    """``02:00:00:00:00:01 > ff:ff:ff:ff:ff:ff, ethertype ARP (0x0806)``"""
    name = _NAMES.get(int(header.ethertype), "Unknown")
    return f"{mac_to_str(header.src)} > {mac_to_str(header.dst)}, ethertype {name} (0x{header.ethertype:04x})"
