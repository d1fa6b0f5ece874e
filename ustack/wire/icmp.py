"""ICMP header (RFC 792, RFC 1191; Linux include/uapi/linux/icmp.h): bytes in, integers out, and back.

``parse`` answers None for a message too short for a header; afterwards no access can fail. The checksum is judged
apart (``checksum_ok``), because it has a counter of its own.
"""

from __future__ import annotations

from typing import Final

from librt.strings import BytesWriter, read_i64_be
from mypy_extensions import i64, mypyc_attr

from ustack.wire.checksum import VALID, csum_fold, csum_partial
from ustack.wire.octets import put_u64

ICMP_HLEN: Final = 8

# types
ICMP_ECHOREPLY: Final = 0
ICMP_DEST_UNREACH: Final = 3
ICMP_SOURCE_QUENCH: Final = 4
ICMP_REDIRECT: Final = 5
ICMP_ECHO: Final = 8
ICMP_ROUTER_ADVERT: Final = 9
ICMP_ROUTER_SOLICIT: Final = 10
ICMP_TIME_EXCEEDED: Final = 11
ICMP_PARAMETERPROB: Final = 12
ICMP_TIMESTAMP: Final = 13
ICMP_TIMESTAMPREPLY: Final = 14
ICMP_INFO_REQUEST: Final = 15
ICMP_INFO_REPLY: Final = 16
ICMP_ADDRESS: Final = 17
ICMP_ADDRESSREPLY: Final = 18
NR_ICMP_TYPES: Final = 18

# codes of ICMP_DEST_UNREACH
ICMP_NET_UNREACH: Final = 0
ICMP_HOST_UNREACH: Final = 1
ICMP_PROT_UNREACH: Final = 2
ICMP_PORT_UNREACH: Final = 3
ICMP_FRAG_NEEDED: Final = 4
ICMP_SR_FAILED: Final = 5
ICMP_NET_UNKNOWN: Final = 6
ICMP_HOST_UNKNOWN: Final = 7
ICMP_HOST_ISOLATED: Final = 8
ICMP_NET_ANO: Final = 9
ICMP_HOST_ANO: Final = 10
ICMP_NET_UNR_TOS: Final = 11
ICMP_HOST_UNR_TOS: Final = 12
ICMP_PKT_FILTERED: Final = 13
ICMP_PREC_VIOLATION: Final = 14
ICMP_PREC_CUTOFF: Final = 15
NR_ICMP_UNREACH: Final = 15

# codes of ICMP_REDIRECT
ICMP_REDIR_NET: Final = 0
ICMP_REDIR_HOST: Final = 1
ICMP_REDIR_NETTOS: Final = 2
ICMP_REDIR_HOSTTOS: Final = 3

# codes of ICMP_TIME_EXCEEDED
ICMP_EXC_TTL: Final = 0
ICMP_EXC_FRAGTIME: Final = 1

_NAMES: Final = {
    ICMP_ECHOREPLY: "echo reply",
    ICMP_DEST_UNREACH: "unreachable",
    ICMP_SOURCE_QUENCH: "source quench",
    ICMP_REDIRECT: "redirect",
    ICMP_ECHO: "echo request",
    ICMP_ROUTER_ADVERT: "router advertisement",
    ICMP_ROUTER_SOLICIT: "router solicitation",
    ICMP_TIME_EXCEEDED: "time exceeded",
    ICMP_PARAMETERPROB: "parameter problem",
    ICMP_TIMESTAMP: "time stamp query",
    ICMP_TIMESTAMPREPLY: "time stamp reply",
    ICMP_INFO_REQUEST: "information request",
    ICMP_INFO_REPLY: "information reply",
    ICMP_ADDRESS: "address mask request",
    ICMP_ADDRESSREPLY: "address mask reply",
}

_UNREACHABLE: Final = {
    ICMP_NET_UNREACH: "net unreachable",
    ICMP_HOST_UNREACH: "host unreachable",
    ICMP_PROT_UNREACH: "protocol unreachable",
    ICMP_PORT_UNREACH: "port unreachable",
    ICMP_SR_FAILED: "source route failed",
    ICMP_NET_ANO: "net prohibited",
    ICMP_HOST_ANO: "host prohibited",
    ICMP_PKT_FILTERED: "admin prohibited",
}


@mypyc_attr(free_list_len=1, acyclic=True)
class IcmpHeader:
    """One parsed header (struct icmphdr); ``rest`` is its second word, ``payload`` the offset of what follows."""

    def __init__(self, icmp_type: i64, code: i64, checksum: i64, rest: i64, payload: i64) -> None:
        self.icmp_type: i64 = icmp_type
        self.code: i64 = code
        self.checksum: i64 = checksum
        self.rest: i64 = rest
        self.payload: i64 = payload

    @property
    def ident(self) -> i64:
        """Identifier of an echo or timestamp (un.echo.id)."""
        return self.rest >> 16

    @property
    def sequence(self) -> i64:
        """Sequence number of an echo or timestamp (un.echo.sequence)."""
        return self.rest & 0xFFFF

    @property
    def mtu(self) -> i64:
        """RFC 1191: the next hop's MTU in bytes, of ICMP_FRAG_NEEDED; 0 from routers that do not know (un.frag.mtu)."""
        return self.rest & 0xFFFF

    @property
    def gateway(self) -> i64:
        """The better first hop, of ICMP_REDIRECT (un.gateway)."""
        return self.rest

    @property
    def pointer(self) -> i64:
        """The offending byte's offset in the quoted header, of ICMP_PARAMETERPROB."""
        return self.rest >> 24


def parse(b: bytes, start: i64, end: i64) -> IcmpHeader | None:
    """The header at ``start``; ``end`` is where the IP payload ends. None if shorter than 8 bytes."""
    if start < 0 or end > len(b) or end - start < ICMP_HLEN:
        return None
    word = read_i64_be(b, start)
    return IcmpHeader(
        (word >> 56) & 0xFF, (word >> 48) & 0xFF, (word >> 32) & 0xFFFF, word & 0xFFFFFFFF, start + ICMP_HLEN
    )


def checksum_ok(b: bytes, start: i64, end: i64) -> bool:
    """Whether the whole message, header and payload, sums to what a correct one does."""
    return csum_partial(b, start, end) == VALID


def emit(icmp_type: i64, code: i64, rest: i64, payload: bytes) -> bytes:
    """A whole message with its checksum."""
    type_code = (icmp_type & 0xFF) << 8 | (code & 0xFF)
    check = csum_fold(csum_partial(payload, 0, len(payload), type_code + (rest & 0xFFFFFFFF)))
    out = BytesWriter()
    put_u64(out, (type_code << 16) | check, rest)
    out.write(payload)
    return out.getvalue()


def is_error(icmp_type: i64) -> bool:
    """RFC 1122 3.2.2: an error message, which quotes a datagram and is never answered with another."""
    return icmp_type in (
        ICMP_DEST_UNREACH,
        ICMP_SOURCE_QUENCH,
        ICMP_REDIRECT,
        ICMP_TIME_EXCEEDED,
        ICMP_PARAMETERPROB,
    )


def type_and_code(icmp_type: i64, code: i64) -> str:
    """``3/3 port unreachable``, ``8/0 echo request``"""
    if icmp_type == ICMP_DEST_UNREACH:
        name = "need to frag" if code == ICMP_FRAG_NEEDED else _UNREACHABLE.get(int(code), "unreachable")
    else:
        name = _NAMES.get(int(icmp_type), "")
    return f"{icmp_type}/{code} {name}".rstrip()


def describe(header: IcmpHeader) -> str:
    """``ICMP echo request, id 7, seq 1``, ``ICMP port unreachable``"""
    kind = header.icmp_type
    name = _NAMES.get(int(kind), f"type {kind}")
    if kind in (ICMP_ECHO, ICMP_ECHOREPLY, ICMP_TIMESTAMP, ICMP_TIMESTAMPREPLY):
        return f"ICMP {name}, id {header.ident}, seq {header.sequence}"
    if kind == ICMP_DEST_UNREACH and header.code == ICMP_FRAG_NEEDED:
        return f"ICMP unreachable - need to frag (mtu {header.mtu})"
    if kind == ICMP_DEST_UNREACH:
        return f"ICMP {_UNREACHABLE.get(int(header.code), f'unreachable, code {header.code}')}"
    return f"ICMP {name}, code {header.code}"
