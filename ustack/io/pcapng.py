"""pcapng blocks (draft-ietf-opsawg-pcapng), as far as a capture of packets needs them: integers in, bytes out."""

from __future__ import annotations

from struct import Struct
from typing import Final

LINKTYPE_ETHERNET: Final = 1
LINKTYPE_RAW: Final = 101  #: begins with the IP header

_SECTION_HEADER: Final = 0x0A0D0D0A
_INTERFACE_DESCRIPTION: Final = 0x00000001
_INTERFACE_STATISTICS: Final = 0x00000005
_ENHANCED_PACKET: Final = 0x00000006
_BYTE_ORDER_MAGIC: Final = 0x1A2B3C4D
_UNKNOWN_LENGTH: Final = 0xFFFF_FFFF_FFFF_FFFF

OPT_COMMENT: Final = 1
SHB_USERAPPL: Final = 4
IF_NAME: Final = 2
IF_DESCRIPTION: Final = 3
IF_MACADDR: Final = 6
IF_TSRESOL: Final = 9
EPB_FLAGS: Final = 2
ISB_IFRECV: Final = 4
ISB_IFDROP: Final = 5

# epb_flags: direction in bits 0 and 1, kind of reception in bits 2 to 4
FLAG_INBOUND: Final = 0b00001
FLAG_OUTBOUND: Final = 0b00010
FLAG_UNICAST: Final = 0b00100
FLAG_MULTICAST: Final = 0b01000
FLAG_BROADCAST: Final = 0b01100
FLAG_PROMISCUOUS: Final = 0b10000

_NANOSECONDS: Final = 9  #: if_tsresol: units of 10**-9 s
#: What a comment is cut to: an option's length has 16 bits.
_OPTION_MAX: Final = 0xFFFF

_U32: Final = Struct("=I")
_U64: Final = Struct("=Q")
_BLOCK: Final = Struct("=II")
_OPTION: Final = Struct("=HH")
_SHB: Final = Struct("=IHHQ")
_IDB: Final = Struct("=HHI")
_EPB: Final = Struct("=IIIII")
_ISB: Final = Struct("=III")


def padded(data: bytes) -> bytes:
    """``data`` with zeros to a multiple of four."""
    return data + bytes(-len(data) % 4)


def option(code: int, value: bytes) -> bytes:
    return _OPTION.pack(code, len(value)) + padded(value)


def options(*some: bytes) -> bytes:
    """``some`` with the end of options behind them; nothing at all if there are none."""
    given = b"".join(some)
    return given + _OPTION.pack(0, 0) if given else b""


def comment(text: str) -> bytes:
    """An opt_comment, nothing for an empty one."""
    value = text.encode()[:_OPTION_MAX].decode(errors="ignore").encode()  # not in the middle of a character
    return option(OPT_COMMENT, value) if value else b""


def block(kind: int, body: bytes) -> bytes:
    """The length stands before and behind the body, so that a file can be read backwards."""
    length = 12 + len(body)
    return _BLOCK.pack(kind, length) + body + _U32.pack(length)


def section_header(application: str) -> bytes:
    """The first block; its magic number tells readers the byte order, which is this machine's."""
    body = _SHB.pack(_BYTE_ORDER_MAGIC, 1, 0, _UNKNOWN_LENGTH)
    return block(_SECTION_HEADER, body + options(option(SHB_USERAPPL, application.encode())))


def interface(linktype: int, snaplen: int, name: str, mac: int | None = None, description: str = "") -> bytes:
    """One interface with nanosecond timestamps; interfaces are numbered from 0 in the order of their blocks."""
    some = [option(IF_NAME, name.encode()), option(IF_TSRESOL, bytes((_NANOSECONDS,)))]
    if description:
        some.append(option(IF_DESCRIPTION, description.encode()))
    if mac is not None:
        some.append(option(IF_MACADDR, mac.to_bytes(6, "big")))
    return block(_INTERFACE_DESCRIPTION, _IDB.pack(linktype, 0, snaplen) + options(*some))


def packet(index: int, time: int, data: bytes, length: int, flags: int = 0, *notes: str) -> bytes:
    """One packet of interface ``index``: ``time`` in ns since 1970, ``data`` the first bytes of ``length``.

    Each note is a comment of its own; Wireshark shows more than one of them from 3.6 on.
    """
    body = _EPB.pack(index, time >> 32 & 0xFFFF_FFFF, time & 0xFFFF_FFFF, len(data), length) + padded(data)
    some = options(*map(comment, notes), option(EPB_FLAGS, _U32.pack(flags)) if flags else b"")
    return block(_ENHANCED_PACKET, body + some)


def statistics(index: int, time: int, received: int, dropped: int) -> bytes:
    """What an interface has counted by ``time``."""
    body = _ISB.pack(index, time >> 32 & 0xFFFF_FFFF, time & 0xFFFF_FFFF)
    some = options(option(ISB_IFRECV, _U64.pack(received)), option(ISB_IFDROP, _U64.pack(dropped)))
    return block(_INTERFACE_STATISTICS, body + some)
