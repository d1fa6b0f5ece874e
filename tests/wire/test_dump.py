"""Frames as one line, the way tcpdump writes them."""

from __future__ import annotations

import pytest
from librt.strings import BytesWriter

from tests.wire.support import flipped, noise
from ustack.wire import arp, dump, ethernet, icmp, ipv4, tcp, udp

A, B = 0xC0000201, 0xC0000202


def in_ip(protocol: int, payload: bytes, frag_off: int = 0) -> bytes:
    out = BytesWriter()
    out.write(ethernet.header(0x020000000002, 0x020000000001, ethernet.ETH_P_IP))
    ipv4.emit(out, 0, 20 + len(payload), 7, frag_off, 64, protocol, A, B)
    out.write(payload)
    return out.getvalue()


def segment() -> bytes:
    out = BytesWriter()
    tcp.emit(out, 33000, 80, 1, 0, tcp.TCPHDR_SYN, 64240, 0, 0, tcp.syn_options(1460, -1, True, False, 0, 0))
    return out.getvalue()


def datagram() -> bytes:
    out = BytesWriter()
    udp.emit(out, 33000, 4747, 6, 0)
    out.write(b"muffin")
    return out.getvalue()


ECHO = icmp.emit(icmp.ICMP_ECHO, 0, 7 << 16 | 1, bytes(56))
QUESTION = ethernet.header(ethernet.ETH_BROADCAST, 1, ethernet.ETH_P_ARP) + arp.emit(1, 1, A, 0, B)

LINES = {
    in_ip(6, segment()): "IP 192.0.2.1.33000 > 192.0.2.2.80: Flags [S], seq 1, win 64240, "
    "options [mss 1460,nop,nop,sackOK], length 0",
    in_ip(17, datagram()): "IP 192.0.2.1.33000 > 192.0.2.2.4747: UDP, length 6",
    in_ip(1, ECHO): "IP 192.0.2.1 > 192.0.2.2: ICMP echo request, id 7, seq 1, length 64",
    in_ip(99, b"abc"): "IP 192.0.2.1 > 192.0.2.2: ip-proto-99, length 3",
    in_ip(2, b"abc"): "IP 192.0.2.1 > 192.0.2.2: IGMP, length 3",
    in_ip(6, b"abc"): "IP 192.0.2.1 > 192.0.2.2: [|tcp], length 3",
    in_ip(17, b"abc"): "IP 192.0.2.1 > 192.0.2.2: [|udp], length 3",
    in_ip(1, b"abc"): "IP 192.0.2.1 > 192.0.2.2: [|icmp], length 3",
    in_ip(17, bytes(16), 0x2001): "IP 192.0.2.1 > 192.0.2.2: UDP (frag 7:8+), length 16",
    in_ip(17, bytes(16), 0x0002): "IP 192.0.2.1 > 192.0.2.2: UDP (frag 7:16), length 16",
    QUESTION: "ARP, Request who-has 192.0.2.2 tell 192.0.2.1",
    QUESTION[:41]: "ARP, [|arp]",
    in_ip(6, b"")[:33]: "IP [|ip]",
    ethernet.header(1, 2, 0x86DD): "00:00:00:00:00:02 > 00:00:00:00:00:01, ethertype IPv6 (0x86dd), length 14",
    bytes(13): "[|ether] 13 bytes",
}


@pytest.mark.parametrize(("frame", "line"), LINES.items(), ids=range(len(LINES)))
def test_line(frame: bytes, line: str) -> None:
    assert dump.describe(frame) == line


def test_ethernet_padding_is_not_counted() -> None:
    frame = in_ip(1, icmp.emit(8, 0, 1, b""))
    assert dump.describe(frame + bytes(18)) == dump.describe(frame)


@pytest.mark.parametrize("frame", LINES, ids=range(len(LINES)))
def test_truncated_and_flipped_frames_are_still_one_line(frame: bytes) -> None:
    for length in range(len(frame)):
        assert dump.describe(frame[:length]).count("\n") == 0
    for changed in flipped(frame):
        assert dump.describe(changed).count("\n") == 0


def test_noise_is_one_line() -> None:
    front = in_ip(6, b"")[:12]
    for raw in noise(seed=2, count=2000, longest=80):
        assert dump.describe(raw)
        assert dump.describe(front + b"\x08\x00\x45" + raw)
        assert dump.describe(front + b"\x08\x06" + raw)
