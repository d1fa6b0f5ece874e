"""Frames of every kind for a stack under attack, well-formed to begin with and then spoilt; all from a seed."""

from __future__ import annotations

from struct import pack
from typing import TYPE_CHECKING

from ustack.wire.checksum import csum_fold, csum_partial, csum_tcpudp_nofold

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

OUR_MAC = 0x0200_0000_0001
PEER_MAC = 0x0200_0000_0002
BROADCAST_MAC = 0xFFFF_FFFF_FFFF
OURS = 0xC000_0202  # 192.0.2.2
PEER = 0xC000_0201
OTHER_SIDE = 0xC633_6401  # 198.51.100.1, behind us
UDP_PORT = 7
TCP_PORT = 80

_ADDRESSES = (
    (PEER,) * 8
    + (OURS,) * 4
    + (OTHER_SIDE, 0xC000_02FF, 0xC000_0209, 0xFFFF_FFFF, 0, 0x7F00_0001, 0xE000_0001, 0xF000_0001, 0xCB00_7105)
)


class Peer:
    """What the attacker knows of a connection it has: addresses, ports, next sequence numbers of both sides."""

    def __init__(self) -> None:
        self.sport = 0
        self.dport = 0
        self.seq = 0
        self.ack = 0


class Frames:
    """An endless supply: ``frame()`` is the next one."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.connections: list[Peer] = []
        self._kinds: list[Callable[[], bytes]] = [
            self.arp,
            self.echo,
            self.echo_reply,
            self.icmp_error,
            self.icmp_odd,
            self.udp,
            self.udp,
            self.tcp,
            self.tcp,
            self.tcp_on_connection,
            self.tcp_on_connection,
            self.fragment,
            self.fragment,
            self.other_protocol,
        ]

    def frame(self) -> bytes:
        """One of any kind, spoilt more often than not."""
        if self.random.random() < 0.03:
            return self.random.randbytes(self.random.choice((0, 1, 13, 14, 20, 60, 200, 1514, 3000)))
        return self.spoil(self.random.choice(self._kinds)())

    # -- spoiling

    def spoil(self, frame: bytes) -> bytes:
        random, how = self.random, self.random.random()
        if how < 0.15:
            return frame
        if how < 0.60:
            frame = self._flip(frame, random.choice((1, 1, 2, 8)))
        elif how < 0.75:
            frame = frame[: random.randrange(len(frame) + 1)]
        elif how < 0.85:
            frame += random.randbytes(random.choice((1, 2, 46, 300)))
        else:
            at = random.randrange(len(frame))
            junk = random.randbytes(random.choice((1, 2, 4, 20)))
            frame = frame[:at] + junk + frame[at + len(junk) :]
        return fixed(frame) if random.random() < 0.7 else frame

    def _flip(self, frame: bytes, bits: int) -> bytes:
        spoilt = bytearray(frame)
        for _ in range(bits):
            # the headers are where it hurts
            at = self.random.randrange(min(len(spoilt), self.random.choice((34, 60, 100, 2000))))
            spoilt[at] ^= 1 << self.random.randrange(8)
        return bytes(spoilt)

    # -- kinds

    def arp(self) -> bytes:
        random = self.random
        op = random.choice((1, 1, 2, 2, 3, 0))
        sha = random.choice((PEER_MAC, OUR_MAC, BROADCAST_MAC, random.getrandbits(48)))
        body = pack("!HHBBH", 1, 0x0800, 6, 4, op) + sha.to_bytes(6, "big") + self._address().to_bytes(4, "big")
        body += OUR_MAC.to_bytes(6, "big") + self._address().to_bytes(4, "big")
        return self._ethernet(0x0806, body + bytes(18))

    def echo(self) -> bytes:
        return self._icmp(8, 0, self.random.getrandbits(32), self._bytes())

    def echo_reply(self) -> bytes:
        return self._icmp(0, 0, self.random.getrandbits(32), self._bytes())

    def icmp_error(self) -> bytes:
        """About something that we may have sent."""
        random = self.random
        icmp_type = random.choice((3, 3, 3, 4, 5, 11, 12))
        quoted = random.choice((self.udp, self.tcp, self.tcp_on_connection, self.echo, self.icmp_odd))()
        inner = self._turned(quoted[14:])
        rest = random.choice((0, 576, 1400, 68, 40, 65_535, random.getrandbits(32)))
        return self._icmp(icmp_type, random.randrange(17), rest, inner[: random.choice((8, 28, 28, 40, 548))])

    def icmp_odd(self) -> bytes:
        return self._icmp(
            self.random.randrange(256), self.random.randrange(256), self.random.getrandbits(32), self._bytes()
        )

    def udp(self) -> bytes:
        dport = self.random.choice((UDP_PORT, UDP_PORT, 9, 33_434, 0))
        return self._ip(17, self._udp(self.random.choice((7, 5000, 19)), dport, self._bytes()))

    def tcp(self) -> bytes:
        random = self.random
        flags = random.choice((0x02, 0x02, 0x02, 0x12, 0x10, 0x04, 0x14, 0x01, 0x11, 0x03, 0x00, 0x3F, 0xFF))
        dport = random.choice((TCP_PORT, TCP_PORT, TCP_PORT, 81, 0))
        return self._tcp(random.randrange(1, 65_536), dport, random.getrandbits(32), random.getrandbits(32), flags)

    def tcp_on_connection(self) -> bytes:
        """Close to what the connection expects next: in the window, at its edges, or just beside it."""
        if not self.connections:
            return self.tcp()
        random = self.random
        peer = random.choice(self.connections)
        off = random.choice((0, 0, 0, 1, -1, 100, 1448, -1448, 30_000, 70_000, 1 << 31))
        ack = random.choice((0, 0, 0, -1, 1, 100, -70_000, 1 << 31))
        flags = random.choice((0x10, 0x10, 0x10, 0x18, 0x18, 0x11, 0x14, 0x04, 0x02, 0x12, 0x30, 0x00, 0x3F))
        return self._tcp(peer.sport, peer.dport, peer.seq + off, peer.ack + ack, flags)

    def fragment(self) -> bytes:
        """One of few datagrams, so that they meet."""
        random = self.random
        ident = random.randrange(8)
        offset = random.choice((0, 0, 1, 2, 3, 181, 185, 370, 8189, 8191))
        more = random.choice((0x2000, 0x2000, 0))
        data = random.randbytes(8 * random.choice((1, 2, 3, 185)) - (0 if more else random.randrange(8)))
        return self._ip(random.choice((17, 6, 1)), data, more | offset, ident)

    def other_protocol(self) -> bytes:
        return self._ip(self.random.choice((2, 4, 47, 89, 132, 255, 0)), self._bytes())

    # -- layers

    def _tcp(self, sport: int, dport: int, seq: int, ack: int, flags: int) -> bytes:
        random = self.random
        options = b""
        for _ in range(random.choice((0, 0, 1, 2, 3))):
            options += (
                random.choice(_TCP_OPTIONS) if random.random() < 0.8 else random.randbytes(random.randrange(1, 6))
            )
        options = options[:40] + bytes(-len(options[:40]) % 4)
        window = random.choice((0, 1, 1000, 65_535))
        doff = (20 + len(options)) // 4 << 4
        ports = pack("!HHII", sport, dport, seq & 0xFFFF_FFFF, ack & 0xFFFF_FFFF)
        data = self._bytes() if random.random() < 0.6 else b""
        return self._ip(6, ports + pack("!BBHHH", doff, flags, window, 0, random.choice((0, 0, 5))) + options + data)

    def _udp(self, sport: int, dport: int, data: bytes) -> bytes:
        return pack("!HHHH", sport, dport, 8 + len(data), 0) + data

    def _icmp(self, icmp_type: int, code: int, rest: int, data: bytes) -> bytes:
        return self._ip(1, pack("!BBHI", icmp_type, code, 0, rest) + data)

    def _ip(self, protocol: int, payload: bytes, frag_off: int = 0, ident: int = 1) -> bytes:
        random = self.random
        options = b""
        if random.random() < 0.1:
            options = random.choice(_IP_OPTIONS) if random.random() < 0.7 else random.randbytes(random.randrange(41))
            options += bytes(-len(options) % 4)
        ihl = 5 + len(options) // 4
        ttl = random.choice((64, 64, 64, 1, 0, 255))
        source = PEER if random.random() < 0.8 else self._address()
        target = OURS if random.random() < 0.8 else self._address()
        total = ihl * 4 + len(payload)
        start = pack("!BBHHHBBH", 0x40 | ihl, random.choice((0, 0, 0x10, 3)), total, ident, frag_off, ttl, protocol, 0)
        return fixed(self._ethernet(0x0800, start + pack("!II", source, target) + options + payload))

    def _ethernet(self, ethertype: int, payload: bytes) -> bytes:
        how = self.random.random()
        to = OUR_MAC if how < 0.85 else BROADCAST_MAC if how < 0.95 else self.random.getrandbits(48)
        return to.to_bytes(6, "big") + PEER_MAC.to_bytes(6, "big") + ethertype.to_bytes(2, "big") + payload

    def _address(self) -> int:
        return self.random.choice(_ADDRESSES) if self.random.random() < 0.9 else self.random.getrandbits(32)

    def _bytes(self) -> bytes:
        return self.random.randbytes(self.random.choice((0, 0, 1, 2, 7, 8, 18, 100, 536, 1400)))

    def _turned(self, packet: bytes) -> bytes:
        """A packet to us as one from us, which is what an error quotes."""
        if len(packet) < 28:
            return packet
        ports = packet[22:24] + packet[20:22] if packet[9] in (6, 17) else packet[20:24]
        return packet[:12] + packet[16:20] + packet[12:16] + ports + packet[24:]


_TCP_OPTIONS = (
    b"\x02\x04\x05\xb4",
    b"\x02\x04\x00\x00",
    b"\x03\x03\x0e",
    b"\x03\x03\xff",
    b"\x04\x02",
    b"\x01",
    b"\x08\x0a" + bytes(8),
    b"\x05\x0a" + bytes(8),
    b"\x05\x03\x00",
    b"\x13\x12" + bytes(16),
    b"\x1d\x03\x00",
    b"\xfe\x00",
    b"\x00",
)
_IP_OPTIONS = (
    b"\x07\x07\x04" + bytes(5),
    b"\x83\x07\x04\xc0\x00\x02\x09\x00",
    b"\x89\x0b\x08" + bytes(8) + b"\x00",
    b"\x44\x0c\x05\x01" + bytes(8),
    b"\x94\x04\x00\x00",
    b"\x07\x00\x04\x00",
    b"\x44\xff\x05\x00",
)


def fixed(frame: bytes) -> bytes:
    """The same with right IP and transport checksums, as far as its lengths can be believed."""
    if len(frame) < 34 or frame[12:14] != b"\x08\x00":
        return frame
    header = 14 + (frame[14] & 0xF) * 4
    end = min(len(frame), 14 + int.from_bytes(frame[16:18], "big"))
    if header < 34 or header > end:
        return frame
    frame = _with(frame, 24, 14, header, 0)
    offset = {1: 2, 6: 16, 17: 6}.get(frame[23])
    if offset is None or header + offset + 2 > end or int.from_bytes(frame[20:22], "big") & 0x3FFF:
        return frame
    pseudo = 0
    if frame[23] != 1:
        source, target = int.from_bytes(frame[26:30], "big"), int.from_bytes(frame[30:34], "big")
        pseudo = int(csum_tcpudp_nofold(source, target, end - header, frame[23]))
    return _with(frame, header + offset, header, end, pseudo)


def _with(frame: bytes, at: int, start: int, end: int, initial: int) -> bytes:
    blank = frame[:at] + b"\0\0" + frame[at + 2 :]
    check = int(csum_fold(csum_partial(blank, start, end, initial)))
    return frame[:at] + check.to_bytes(2, "big") + frame[at + 2 :]
