"""Packet: offsets stay true whatever is put in front, cut off or joined."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ustack.device.net_device import NetDevice
from ustack.packet import (
    CHECKSUM_PARTIAL,
    COPYBREAK,
    LINEAR_MIN,
    PACKET_BROADCAST,
    SKB_GSO_TCPV4,
    SKB_OVERHEAD,
    Packet,
)

ETH = bytes(range(100, 114))
IP = bytes(range(20))
TCP = bytes(range(200, 220))


def received(payload: bytes, padding: bytes = b"") -> Packet:
    """A frame on its way in, its transport header reached and the padding cut."""
    packet = Packet(ETH + IP + TCP + payload + padding, NetDevice("eth0", 1))
    packet.network_header = packet.data = 14
    packet.pull(20)
    packet.transport_header = packet.data
    packet.trim(20 + len(payload))
    return packet


def outgoing(payload: bytes = b"") -> Packet:
    packet = Packet(IP + TCP + payload)
    packet.transport_header = packet.csum_start = 20
    return packet


def frame(packet: Packet) -> bytes:
    """All bytes from the network header on, pieces joined."""
    return packet.buf[packet.network_header : packet.end] + b"".join(packet.frags or [])


def test_a_new_packet_is_all_of_its_buffer() -> None:
    dev = NetDevice("eth0", 1)
    packet = Packet(b"abc", dev)
    assert (packet.data, packet.end, packet.len) == (0, 3, 3) and packet.payload() == b"abc"
    assert packet.dev is dev and packet.in_dev is dev and not packet.accounted


def test_pull_and_trim_leave_what_the_upper_layer_may_see() -> None:
    """Trailing Ethernet padding is no payload (attack 17, Etherleak)."""
    packet = received(b"hi", padding=b"\xee" * 18)
    assert packet.len == 22 and packet.payload() == TCP + b"hi"
    packet.pull(20)
    assert packet.payload() == b"hi"


def test_pieces_count_and_join() -> None:
    packet = outgoing(b"small")
    packet.frags = [b"one", memoryview(b"two")]
    packet.frags_len = 6
    assert packet.len == 40 + 5 + 6 and packet.payload() == IP + TCP + b"smallonetwo"
    packet.linearize()
    assert packet.frags is None and packet.frags_len == 0 and packet.len == 51
    assert packet.payload() == IP + TCP + b"smallonetwo" and packet.end == 51


def test_linearize_of_a_linear_packet_changes_nothing() -> None:
    packet = outgoing(b"x")
    before = packet.buf
    packet.linearize()
    assert packet.buf is before


def test_linearize_leaves_out_what_was_trimmed() -> None:
    packet = received(b"hi", padding=b"\xee" * 18)
    packet.frags = [b"!"]
    packet.frags_len = 1
    packet.linearize()
    assert packet.payload() == TCP + b"hi!"


def test_truesize_is_data_and_linux_s_bookkeeping() -> None:
    """SKB_TRUESIZE: a flood of one-byte packets is not charged as one byte each (attack 81)."""
    packet = outgoing(b"x")
    packet.frags = [b"piece"]
    packet.frags_len = 5
    assert SKB_OVERHEAD == 576 and packet.truesize == 41 + 5 + 576
    assert Packet(b"").truesize == 576


def test_truesize_does_not_shrink_by_trimming() -> None:
    """What is kept in memory is the whole frame."""
    packet = received(b"", padding=bytes(1000))
    assert packet.truesize == 14 + 20 + 20 + 1000 + 576


def test_a_link_layer_header_before_our_own_packet() -> None:
    packet = outgoing(b"payload")
    packet.push_mac_header(ETH)
    assert packet.buf == ETH + IP + TCP + b"payload"
    assert (packet.mac_header, packet.data, packet.network_header, packet.transport_header) == (0, 0, 14, 34)
    assert (packet.csum_start, packet.end, packet.len) == (34, 61, 61)


def test_a_link_layer_header_in_place_of_the_received_one() -> None:
    """Forwarding: old header and padding stay behind."""
    packet = received(b"payload", padding=b"\xee" * 9)
    packet.push_mac_header(b"N" * 14)
    assert packet.buf == b"N" * 14 + IP + TCP + b"payload"
    assert (packet.network_header, packet.transport_header, packet.data, packet.end) == (14, 34, 0, 61)


def test_a_link_layer_header_of_another_length() -> None:
    packet = received(b"payload")
    packet.push_mac_header(b"VLAN" * 4 + b"18")
    assert (packet.network_header, packet.transport_header) == (18, 38) and frame(packet) == IP + TCP + b"payload"


@pytest.mark.parametrize("size", [0, 1, COPYBREAK - 20, COPYBREAK - 19, 1460, 60_000])
@pytest.mark.parametrize("new", [20, 24, 60])
def test_a_new_network_header_keeps_the_rest(size: int, new: int) -> None:
    payload = bytes(i % 251 for i in range(size))
    packet = received(payload, padding=b"\xee" * 4)
    packet.replace_network_header(b"H" * new, 20)
    assert frame(packet) == b"H" * new + TCP + payload and packet.len == new + 20 + size
    assert (packet.network_header, packet.transport_header, packet.data) == (0, new, 0)
    assert packet.buf[packet.transport_header : packet.transport_header + 20] == TCP, "the header stays linear"
    assert (packet.frags is not None) == (20 + size > COPYBREAK)


def test_a_long_payload_is_not_copied() -> None:
    packet = received(bytes(60_000))
    whole = packet.buf
    packet.replace_network_header(IP, 20)
    assert packet.frags is not None and isinstance(packet.frags[0], memoryview)
    assert packet.frags[0].obj is whole and len(packet.buf) == 20 + LINEAR_MIN


def test_a_new_network_header_before_pieces_keeps_their_order() -> None:
    packet = outgoing(b"a" * 1000)
    packet.frags = [b"b" * 10]
    packet.frags_len = 10
    packet.replace_network_header(b"H" * 20, 20)
    assert frame(packet) == b"H" * 20 + TCP + b"a" * 1000 + b"b" * 10 and packet.csum_start == 20


@given(st.binary(max_size=1500), st.binary(max_size=60), st.integers(0, 46), st.booleans())
def test_header_over_header(payload: bytes, header: bytes, padding: int, forwarded: bool) -> None:
    packet = received(payload, bytes(padding)) if forwarded else outgoing(payload)
    packet.replace_network_header(header, 20)
    packet.push_mac_header(ETH)
    assert packet.buf[: packet.end] + b"".join(packet.frags or []) == ETH + header + TCP + payload
    assert packet.network_header == 14 and packet.transport_header == 14 + len(header)
    packet.linearize()
    assert packet.buf == ETH + header + TCP + payload


def test_a_clone_is_another_packet_over_the_same_bytes() -> None:
    packet = received(b"payload")
    packet.frags = [b"piece"]
    packet.frags_len = 5
    packet.pkt_type = PACKET_BROADCAST
    packet.ip_summed, packet.csum_start, packet.csum_offset = CHECKSUM_PARTIAL, 34, 16
    packet.gso_size, packet.gso_type = 1448, SKB_GSO_TCPV4
    packet.mark, packet.priority, packet.tstamp, packet.protocol = 1, 2, 3, 0x0800
    packet.accounted = True
    other = packet.clone()
    same = (
        "data end network_header transport_header mac_header frags_len pkt_type ip_summed csum_start csum_offset "
        "gso_size gso_type mark priority tstamp protocol dev in_dev dst iph opt len"
    )
    for name in same.split():
        assert getattr(other, name) == getattr(packet, name), name
    assert other.buf is packet.buf and other.payload() == packet.payload()
    assert not other.accounted and other.sk is None, "who received or sent the packet has done so once"


def test_neither_of_packet_and_clone_can_write_into_the_other() -> None:
    packet = outgoing(b"x")
    packet.frags = [b"piece"]
    packet.frags_len = 5
    other = packet.clone()
    other.push_mac_header(ETH)
    other.linearize()
    assert packet.buf == IP + TCP + b"x" and packet.frags == [b"piece"] and packet.network_header == 0
