"""Ethernet II framing (IEEE 802.3 clause 3, RFC 894)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.l2 import Ether

from tests.wire.support import MAC, PAYLOAD, U16, examples, values
from ustack.wire import ethernet

FIELDS = "dst src ethertype"


@pytest.mark.parametrize("length", range(ethernet.ETH_HLEN))
def test_a_frame_without_a_whole_header_is_malformed(length: int) -> None:
    assert ethernet.parse(b"\xff" * length) is None


def test_a_frame_of_only_a_header_parses() -> None:
    header = ethernet.parse(bytes.fromhex("ffffffffffff0200000000010806"))
    assert header is not None
    assert values(header, FIELDS) == (ethernet.ETH_BROADCAST, 0x020000000001, ethernet.ETH_P_ARP)


@given(MAC, MAC, U16, PAYLOAD)
@examples(200)
def test_what_is_emitted_parses_back(dst: int, src: int, ethertype: int, payload: bytes) -> None:
    raw = ethernet.header(dst, src, ethertype)
    assert len(raw) == ethernet.ETH_HLEN
    header = ethernet.parse(raw + payload)
    assert header is not None and values(header, FIELDS) == (dst, src, ethertype)


@given(MAC, MAC, U16)
@examples(60)
def test_scapy_reads_what_is_emitted(dst: int, src: int, ethertype: int) -> None:
    # below 0x0600 scapy takes the field for an IEEE 802.3 length
    ethertype |= ethernet.ETH_P_802_3_MIN
    frame = Ether(ethernet.header(dst, src, ethertype))
    assert (frame.dst, frame.src, frame.type) == (ethernet.mac_to_str(dst), ethernet.mac_to_str(src), ethertype)


@given(MAC, MAC, U16)
@examples(60)
def test_scapys_bytes_are_ours(dst: int, src: int, ethertype: int) -> None:
    built = bytes(Ether(dst=ethernet.mac_to_str(dst), src=ethernet.mac_to_str(src), type=ethertype))
    header = ethernet.parse(built)
    assert header is not None and values(header, FIELDS) == (dst, src, ethertype)
    assert ethernet.header(dst, src, ethertype) == built


@pytest.mark.parametrize(
    ("text", "multicast", "valid"),
    [
        ("00:00:00:00:00:00", False, False),
        ("02:00:00:00:00:01", False, True),
        ("fe:ff:ff:ff:ff:ff", False, True),
        ("01:00:5e:00:00:01", True, False),
        ("ff:ff:ff:ff:ff:ff", True, False),
    ],
)
def test_kinds_of_addresses(text: str, multicast: bool, valid: bool) -> None:
    """IEEE 802.3 3.2.3: the lowest bit of the first byte tells groups; Linux is_valid_ether_addr()."""
    addr = ethernet.str_to_mac(text)
    assert ethernet.is_multicast_ether_addr(addr) is multicast
    assert ethernet.is_valid_ether_addr(addr) is valid


@given(MAC)
@examples(100)
def test_addresses_as_text(addr: int) -> None:
    text = ethernet.mac_to_str(addr)
    assert len(text) == 17 and ethernet.str_to_mac(text) == ethernet.str_to_mac(text.upper()) == addr


@pytest.mark.parametrize(
    "text",
    [
        "",
        "02:00:00:00:00",
        "02:00:00:00:00:01:02",
        "2:0:0:0:0:1",
        "02-00-00-00-00-01",
        "0g:00:00:00:00:01",
        "+2:00:00:00:00:01",
        "0_:00:00:00:00:01",
        " 2:00:00:00:00:01",
        "٠٢:00:00:00:00:01",
    ],
)
def test_anything_else_is_no_address(text: str) -> None:
    with pytest.raises(ValueError, match="not a hardware address"):
        ethernet.str_to_mac(text)


@given(st.text(max_size=20))
@examples(200)
def test_no_text_raises_anything_but_value_error(text: str) -> None:
    try:
        addr = ethernet.str_to_mac(text)
    except ValueError:
        return
    assert ethernet.mac_to_str(addr) == text.lower()


@pytest.mark.parametrize(
    ("ethertype", "name"), [(0x0800, "IPv4"), (0x0806, "ARP"), (0x86DD, "IPv6"), (0x88CC, "Unknown")]
)
def test_description(ethertype: int, name: str) -> None:
    header = ethernet.parse(ethernet.header(ethernet.ETH_BROADCAST, 0x0200000000FE, ethertype))
    assert header is not None
    assert ethernet.describe(header) == f"02:00:00:00:00:fe > ff:ff:ff:ff:ff:ff, ethertype {name} (0x{ethertype:04x})"
