"""ip_do_fragment (RFC 791 section 3.2, "An Example Fragmentation Procedure")."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.ipv4.host import Host, datagram, head
from tests.routing.links import OURS, PEER, PEER_1
from ustack.ipv4.fragment import ip_do_fragment
from ustack.ipv4.output import reparse
from ustack.packet import CHECKSUM_NONE, CHECKSUM_PARTIAL, Packet
from ustack.wire.checksum import VALID, csum_partial
from ustack.wire.ipv4 import IP_DF, IP_MF

RR = b"\x07\x07\x04\0\0\0\0"  # not copied
RA = b"\x94\x04\0\0"  # router alert, RFC 2113: copied
SSRR = b"\x89\x07\x04\xcb\x00\x71\x05"  # copied


def cut(packet: bytes, mtu: int) -> list[bytes]:
    whole = Packet(packet)
    iph = reparse(whole)
    assert iph is not None
    return [fragment.buf for fragment in ip_do_fragment(whole, iph, mtu)]


def put_together(fragments: list[bytes]) -> bytes:
    """The payload, if the fragments follow each other without a gap and only the last says it is."""
    payload = b""
    for fragment in fragments:
        iph = head(fragment)
        assert iph.fragment_offset == len(payload) and iph.total_len == len(fragment)
        assert iph.more_fragments is (fragment is not fragments[-1])
        payload += fragment[iph.header_len :]
    return payload


@pytest.mark.parametrize(
    ("length", "mtu", "payloads"),
    [
        (1481, 1500, [1480, 1]),
        (2960, 1500, [1480, 1480]),
        (2961, 1500, [1480, 1480, 1]),
        (1480, 1499, [1472, 8]),  # 1479 is no multiple of eight
        (1479, 1499, [1479]),  # but the last may have any length
        (100, 68, [48, 48, 4]),  # RFC 791: every link carries 68
        (20, 28, [8, 8, 4]),
    ],
)
def test_lengths(length: int, mtu: int, payloads: list[int]) -> None:
    """Offsets are "measured in units of 8 octets"; each fragment is as long as may be."""
    fragments = cut(datagram(OURS, PEER, bytes(length)), mtu)
    assert [len(fragment) - 20 for fragment in fragments] == payloads


@pytest.mark.parametrize("mtu", [0, 20, 27])
def test_where_not_even_eight_bytes_fit_there_are_none(mtu: int) -> None:
    assert cut(datagram(OURS, PEER, bytes(100)), mtu) == []


@settings(max_examples=80)
@given(st.integers(1, 4000), st.integers(68, 1500), st.sampled_from([b"", RA, RR + b"\0", RR + RA + b"\x01", SSRR]))
def test_what_is_cut_can_be_put_together(length: int, mtu: int, options: bytes) -> None:
    payload = bytes(i * 7 & 0xFF for i in range(length))
    packet = datagram(OURS, PEER, payload, options=options + bytes(-len(options) % 4), ident=0xBEEF, ttl=9, tos=0x2E)
    fragments = cut(packet, mtu)
    assert all(len(fragment) <= mtu for fragment in fragments) and put_together(fragments) == payload
    for fragment in fragments:
        iph = head(fragment)
        assert (iph.ident, iph.ttl, iph.tos, iph.protocol, iph.saddr, iph.daddr) == (0xBEEF, 9, 0x2E, 17, OURS, PEER)


@pytest.mark.parametrize(
    ("options", "later"),
    [
        (RA, RA),
        (RR + b"\0", b"\x01" * 7 + b"\0"),  # ip_options_fragment: the place stays, as no-operations
        (RA + RR + b"\0", RA + b"\x01" * 7 + b"\0"),
        (RR + SSRR + b"\x01\x01", b"\x01" * 7 + SSRR + b"\x01\x01"),
        (b"\x44\x08\x05\0\0\0\0\0" + RA, b"\x01" * 8 + RA),
    ],
)
def test_options_of_the_later_fragments(options: bytes, later: bytes) -> None:
    """RFC 791: "The copied flag indicates that this option is copied into all fragments"."""
    first, *others = cut(datagram(OURS, PEER, bytes(300), options=options), 128)
    assert first[20 : 20 + len(options)] == options and len(others) > 1
    assert {other[20 : 20 + len(options)] for other in others} == {later}


@pytest.mark.parametrize("more", [False, True])
def test_a_fragment_is_cut_where_it_lies(more: bool) -> None:
    """RFC 791: the last piece of a fragment that was not the last keeps its more-fragments flag."""
    packet = datagram(OURS, PEER, bytes(2000), frag_off=100 | (IP_MF if more else 0))
    fragments = [head(fragment) for fragment in cut(packet, 1500)]
    assert [(iph.fragment_offset, iph.more_fragments) for iph in fragments] == [(800, True), (2280, more)]


def test_an_offloaded_checksum_is_completed_before() -> None:
    """skb_checksum_help: no device can sum what it sees a part of."""
    packet = Packet(datagram(OURS, PEER, bytes(6) + b"\x12\x34" + bytes(100)))
    packet.frags, packet.frags_len = [memoryview(b"xyz")], 3
    packet.ip_summed, packet.csum_start, packet.csum_offset = CHECKSUM_PARTIAL, 20, 6
    iph = reparse(packet)
    assert iph is not None
    fragments = ip_do_fragment(packet, iph, 68)
    assert all(fragment.ip_summed == CHECKSUM_NONE for fragment in fragments)
    payload = put_together([fragment.buf for fragment in fragments])
    assert payload.endswith(b"xyz") and csum_partial(payload, 0, len(payload), 0x1234) == VALID


def test_fragments_go_where_the_whole_would_have_gone() -> None:
    """ip_copy_metadata."""
    host = Host()
    whole = Packet(datagram(OURS, PEER, bytes(100)), host.eth0)
    whole.mark, whole.priority, whole.sk = 7, 3, host.sock()
    iph = reparse(whole)
    assert iph is not None
    for fragment in ip_do_fragment(whole, iph, 68):
        assert (fragment.dev, fragment.in_dev, fragment.mark, fragment.priority) == (host.eth0, host.eth0, 7, 3)
        assert fragment.sk is whole.sk and fragment.transport_header == 20 and not fragment.accounted


# -- in the path


def forwarding(mtu: int) -> Host:
    host = Host()
    host.net.conf.inet_forward_change(1)
    host.eth1.mtu = mtu
    host.routing.rt_cache_flush()
    return host


@pytest.mark.parametrize(("frag_off", "mtu"), [(0, 576), (0, 1000), (IP_MF, 576), (64, 576)])
def test_a_router_fragments_and_the_account_balances(frag_off: int, mtu: int) -> None:
    """RFC 1812 4.2.2.7; the received packet has left as its fragments."""
    host = forwarding(mtu)
    host.start()
    payload = bytes(i & 0xFF for i in range(1480))
    host.rx(datagram(PEER, PEER_1, payload, frag_off=frag_off))
    sent = host.eth1.take()
    assert b"".join(frame[20:] for frame in sent) == payload and {head(frame).ttl for frame in sent} == {63}
    assert host.moved() == {
        "Ip.InReceives": 1,
        "Ip.ForwDatagrams": 1,
        "Ip.FragOKs": 1,
        "Ip.FragCreates": len(sent),
        "Ip.OutTransmits": len(sent),
    }
    assert host.balanced() and host.net.mib.path.forwarded == 1


def test_a_router_does_not_fragment_against_df() -> None:
    """RFC 1191 section 4: the next hop's MTU is in the message."""
    host = forwarding(1000)
    host.start()
    host.rx(datagram(PEER, PEER_1, bytes(1480), frag_off=IP_DF))
    assert host.icmp.sent == [(3, 4, 1000)] and host.eth1.take() == [] and host.balanced()
    assert host.moved() == {"Ip.InReceives": 1, "Ip.ForwDatagrams": 1, "Ip.FragFails": 1}


def test_an_mtu_too_small_for_anything_is_a_failure_with_its_counter() -> None:
    host = forwarding(24)
    host.start()
    host.rx(datagram(PEER, PEER_1, bytes(100)))
    assert host.moved() == {"Ip.InReceives": 1, "Ip.ForwDatagrams": 1, "Ip.FragFails": 1}
    assert host.eth1.take() == [] and host.balanced()
