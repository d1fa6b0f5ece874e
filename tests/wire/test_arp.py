"""ARP for IPv4 over Ethernet (RFC 826)."""

from __future__ import annotations

import pytest
from hypothesis import given
from scapy.layers.l2 import ARP

from tests.wire.support import MAC, PAYLOAD, U16, U32, examples, values
from ustack.wire import arp
from ustack.wire.ethernet import mac_to_str
from ustack.wire.ipv4 import addr_to_str

FIELDS = "op sha spa tha tpa"
REQUEST = arp.emit(arp.ARPOP_REQUEST, 0x020000000001, 0xC0000201, 0, 0xC0000202)
REPLY = arp.emit(arp.ARPOP_REPLY, 0x020000000002, 0xC0000202, 0x020000000001, 0xC0000201)


def test_the_bytes_of_a_request() -> None:
    assert REQUEST.hex() == "0001080006040001" + "020000000001" + "c0000201" + "000000000000" + "c0000202"


@pytest.mark.parametrize("length", range(arp.ARP_HLEN))
def test_truncated_anywhere_is_malformed(length: int) -> None:
    assert arp.parse(REQUEST[:length], 0, length) is None
    assert arp.parse(REQUEST, 0, length) is None  # more bytes in the buffer, but not in the packet


@pytest.mark.parametrize("start", [0, 1, 14])
def test_an_offset_and_padding_change_nothing(start: int) -> None:
    """Ethernet pads the 28 bytes to 46."""
    frame = bytes(start) + REQUEST + bytes(18)
    header = arp.parse(frame, start, len(frame))
    assert header is not None and values(header, FIELDS) == (1, 0x020000000001, 0xC0000201, 0, 0xC0000202)


@pytest.mark.parametrize(
    ("at", "value", "what"),
    [(1, 6, "ar$hrd IEEE 802"), (0, 1, "ar$hrd"), (2, 0x86, "ar$pro"), (3, 6, "ar$pro"), (4, 8, "hln"), (5, 16, "pln")],
)
def test_only_ethernet_and_ipv4_are_spoken(at: int, value: int, what: str) -> None:
    """RFC 826: "?Do I have the hardware type in ar$hrd? [...] ?Do I speak the protocol in ar$pro?" """
    changed = REQUEST[:at] + bytes([value]) + REQUEST[at + 1 :]
    assert arp.parse(changed, 0, len(changed)) is None, what


@given(U16, MAC, U32, MAC, U32, PAYLOAD)
@examples(200)
def test_what_is_emitted_parses_back(op: int, sha: int, spa: int, tha: int, tpa: int, padding: bytes) -> None:
    raw = arp.emit(op, sha, spa, tha, tpa)
    assert len(raw) == arp.ARP_HLEN
    header = arp.parse(raw + padding, 0, len(raw + padding))
    assert header is not None and values(header, FIELDS) == (op, sha, spa, tha, tpa)


@given(U16, MAC, U32, MAC, U32)
@examples(60)
def test_scapy_agrees_in_both_directions(op: int, sha: int, spa: int, tha: int, tpa: int) -> None:
    ours = arp.emit(op, sha, spa, tha, tpa)
    built = bytes(
        ARP(
            op=op,
            hwsrc=mac_to_str(sha),
            psrc=addr_to_str(spa),
            hwdst=mac_to_str(tha),
            pdst=addr_to_str(tpa),
        )
    )
    assert built == ours
    header = arp.parse(built, 0, len(built))
    assert header is not None and values(header, FIELDS) == (op, sha, spa, tha, tpa)
    read = ARP(ours)
    assert (read.hwtype, read.ptype, read.hwlen, read.plen, read.op) == (1, 0x0800, 6, 4, op)
    assert (read.hwsrc, read.psrc) == (mac_to_str(sha), addr_to_str(spa))
    assert (read.hwdst, read.pdst) == (mac_to_str(tha), addr_to_str(tpa))


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (REQUEST, "Request who-has 192.0.2.2 tell 192.0.2.1"),
        (REPLY, "Reply 192.0.2.2 is-at 02:00:00:00:00:02"),
        (arp.emit(9, 0, 0xC0000201, 0, 0), "Unknown op 9 from 192.0.2.1"),
    ],
)
def test_description(raw: bytes, text: str) -> None:
    header = arp.parse(raw, 0, len(raw))
    assert header is not None and arp.describe(header) == text
