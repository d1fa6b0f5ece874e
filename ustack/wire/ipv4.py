"""IPv4 header (RFC 791; Linux include/uapi/linux/ip.h): bytes in, integers out, and back.

``parse`` answers None when the header itself cannot be believed; afterwards no access can fail. The total length,
the checksum and the options are judged by ip_rcv, each with a counter of its own. Addresses are integers in host
order: 192.0.2.1 is 0xC0000201.
"""

from __future__ import annotations

from typing import Final

from librt.strings import BytesWriter, read_i64_be, write_i64_be
from mypy_extensions import i64, mypyc_attr

from ustack.wire.checksum import VALID, csum_fold, csum_partial, csum_replace2
from ustack.wire.octets import put_u32, put_u64, u16

IPVERSION: Final = 4
IP_HLEN: Final = 20
IP_MAX_HLEN: Final = 60
IP_MAX_OPTIONS: Final = 40
IP_MAX_LEN: Final = 0xFFFF

# frag_off: three flags and an offset in units of eight bytes (include/net/ip.h)
IP_CE: Final = 0x8000  #: reserved, must be zero ("congestion" once)
IP_DF: Final = 0x4000
IP_MF: Final = 0x2000
IP_OFFSET: Final = 0x1FFF

# protocols (include/uapi/linux/in.h)
IPPROTO_IP: Final = 0
IPPROTO_ICMP: Final = 1
IPPROTO_IGMP: Final = 2
IPPROTO_IPIP: Final = 4
IPPROTO_TCP: Final = 6
IPPROTO_UDP: Final = 17
IPPROTO_IPV6: Final = 41
IPPROTO_GRE: Final = 47
IPPROTO_ESP: Final = 50
IPPROTO_AH: Final = 51
IPPROTO_SCTP: Final = 132
IPPROTO_UDPLITE: Final = 136
IPPROTO_RAW: Final = 255

# option types, and the bits that make them up (include/uapi/linux/ip.h)
IPOPT_COPY: Final = 0x80
IPOPT_END: Final = 0
IPOPT_NOOP: Final = 1
IPOPT_RR: Final = 7
IPOPT_TIMESTAMP: Final = 68
IPOPT_SEC: Final = 130
IPOPT_LSRR: Final = 131
IPOPT_CIPSO: Final = 134
IPOPT_SID: Final = 136
IPOPT_SSRR: Final = 137
IPOPT_RA: Final = 148

_NAMES: Final = {IPPROTO_ICMP: "ICMP", IPPROTO_IGMP: "IGMP", IPPROTO_TCP: "TCP", IPPROTO_UDP: "UDP"}


@mypyc_attr(free_list_len=1, acyclic=True)
class Ipv4Header:
    """One parsed header (struct iphdr) that begins at offset ``start`` of its buffer; lengths in bytes."""

    def __init__(
        self,
        start: i64,
        header_len: i64,
        tos: i64,
        total_len: i64,
        ident: i64,
        frag_off: i64,
        ttl: i64,
        protocol: i64,
        check: i64,
        saddr: i64,
        daddr: i64,
    ) -> None:
        self.start: i64 = start
        self.header_len: i64 = header_len
        self.tos: i64 = tos
        self.total_len: i64 = total_len
        self.ident: i64 = ident
        self.frag_off: i64 = frag_off  #: the 16 bits as they are: flags and offset
        self.ttl: i64 = ttl
        self.protocol: i64 = protocol
        self.check: i64 = check
        self.saddr: i64 = saddr
        self.daddr: i64 = daddr

    @property
    def dont_fragment(self) -> bool:
        return self.frag_off & IP_DF != 0

    @property
    def more_fragments(self) -> bool:
        return self.frag_off & IP_MF != 0

    @property
    def fragment_offset(self) -> i64:
        """Where this fragment's payload lies in the datagram's, in bytes."""
        return (self.frag_off & IP_OFFSET) << 3

    @property
    def is_fragment(self) -> bool:
        """Anything but a whole datagram (ip_is_fragment())."""
        return self.frag_off & (IP_MF | IP_OFFSET) != 0


def parse(b: bytes, start: i64, end: i64) -> Ipv4Header | None:
    """The header at ``start``; ``end`` is where the received bytes end.

    None if fewer than 20 bytes, not version 4, or a header length below 20 or beyond ``end``.
    """
    if start < 0 or end > len(b) or end - start < IP_HLEN:
        return None
    first = read_i64_be(b, start)
    if (first >> 60) & 0xF != IPVERSION:
        return None
    header_len = ((first >> 56) & 0xF) << 2
    if header_len < IP_HLEN or start + header_len > end:
        return None
    second = read_i64_be(b, start + 8)
    third = read_i64_be(b, start + 12)
    return Ipv4Header(
        start,
        header_len,
        (first >> 48) & 0xFF,
        (first >> 32) & 0xFFFF,
        (first >> 16) & 0xFFFF,
        first & 0xFFFF,
        (second >> 56) & 0xFF,
        (second >> 48) & 0xFF,
        (second >> 32) & 0xFFFF,
        (third >> 32) & 0xFFFFFFFF,
        third & 0xFFFFFFFF,
    )


def checksum_ok(b: bytes, header: Ipv4Header) -> bool:
    """Whether the header's bytes sum to what a correct header sums to (ip_fast_csum() == 0)."""
    return csum_partial(b, header.start, header.start + header.header_len) == VALID


def emit(
    out: BytesWriter,
    tos: i64,
    total_len: i64,
    ident: i64,
    frag_off: i64,
    ttl: i64,
    protocol: i64,
    saddr: i64,
    daddr: i64,
    options: bytes = b"",
) -> None:
    """Append a header with its checksum (ip_build_and_send_pkt(), ip_send_check()).

    ``options`` are filled up with IPOPT_END to a multiple of four; ``total_len`` counts them and the payload.
    Raises ValueError if they exceed 40 bytes: no header length can say so.
    """
    header_len: i64 = IP_HLEN
    total: i64 = 0
    if options:
        options = padded(options)
        header_len += len(options)
        total = csum_partial(options, 0, len(options))
    version_tos = (0x40 | (header_len >> 2)) << 8 | (tos & 0xFF)
    ttl_protocol = (ttl & 0xFF) << 8 | (protocol & 0xFF)
    total += version_tos + (total_len & 0xFFFF) + (ident & 0xFFFF) + (frag_off & 0xFFFF) + ttl_protocol
    check = csum_fold(total + (saddr & 0xFFFFFFFF) + (daddr & 0xFFFFFFFF))
    put_u64(out, (version_tos << 16) | (total_len & 0xFFFF), ((ident & 0xFFFF) << 16) | (frag_off & 0xFFFF))
    put_u64(out, (ttl_protocol << 16) | check, saddr)
    put_u32(out, daddr)
    if options:
        out.write(options)


def padded(options: bytes) -> bytes:
    """``options`` filled up with zeros (IPOPT_END, TCPOPT_EOL) to a multiple of four.

    Raises ValueError if they exceed the 40 bytes that an IPv4 or a TCP header has for them.
    """
    length: i64 = len(options)
    if length > IP_MAX_OPTIONS:
        raise ValueError(f"{length} bytes of options, a header has room for {IP_MAX_OPTIONS}")
    return options + bytes(-length & 3) if length & 3 else options


def decrease_ttl(header: bytes) -> bytes:
    """``header`` (the bytes of a whole header) one hop older, its checksum adjusted (ip_decrease_ttl()).

    The caller has seen that the TTL is at least 1. RFC 1812 4.2.2.5: "A router MAY use incremental IP header checksum
    updating when the only change to the IP header is the time to live. This will reduce the possibility of undetected
    corruption of the IP header by the router."
    """
    old = u16(header, 8)
    new = (old - 0x0100) & 0xFFFF
    check = csum_replace2(u16(header, 10), old, new)
    out = BytesWriter()
    write_i64_be(out, read_i64_be(header, 0))
    put_u32(out, (new << 16) | check)
    write_i64_be(out, read_i64_be(header, 12))
    if len(header) > IP_HLEN:
        out.write(header[IP_HLEN:])
    return out.getvalue()


def addr_to_str(addr: i64) -> str:
    """``192.0.2.1`` (Linux %pI4)."""
    return f"{(addr >> 24) & 0xFF}.{(addr >> 16) & 0xFF}.{(addr >> 8) & 0xFF}.{addr & 0xFF}"


def str_to_addr(text: str) -> int:
    """The address written as four decimal numbers (inet_pton). Raises ValueError for anything else."""
    parts = text.split(".")
    if len(parts) != 4:
        raise ValueError(f"not an IPv4 address: {text!r}")
    addr = 0
    for part in parts:
        # a leading zero would be octal to some readers (inet_aton) and decimal to others
        if not (part.isascii() and part.isdigit() and len(part) <= 3) or (len(part) > 1 and part[0] == "0"):
            raise ValueError(f"not an IPv4 address: {text!r}")
        if int(part) > 255:
            raise ValueError(f"not an IPv4 address: {text!r}")
        addr = addr << 8 | int(part)
    return addr


def protocol_name(protocol: i64) -> str:
    """``TCP``; the number itself if it has no name here."""
    return _NAMES.get(int(protocol), str(protocol))


def describe(header: Ipv4Header) -> str:
    """``192.0.2.1 > 192.0.2.2: tos 0x0, ttl 64, id 1, offset 0, flags [DF], proto TCP (6), length 60``"""
    flags = ",".join(name for name, bit in (("CE", IP_CE), ("DF", IP_DF), ("+", IP_MF)) if header.frag_off & bit)
    return (
        f"{addr_to_str(header.saddr)} > {addr_to_str(header.daddr)}: tos 0x{header.tos:x}, ttl {header.ttl}, "
        f"id {header.ident}, offset {header.fragment_offset}, flags [{flags or 'none'}], "
        f"proto {protocol_name(header.protocol)} ({header.protocol}), length {header.total_len}"
    )
