"""A stack under fire: frames of every kind, whole, cut, bent and random, raise nothing, leak nothing, stop nothing.

Also what it sends is looked at: every frame must be one that a strict receiver takes.
"""

from __future__ import annotations

from random import Random
from struct import pack
from typing import TYPE_CHECKING

import pytest

from tests.frames import OUR_MAC, OURS, PEER, PEER_MAC, TCP_PORT, UDP_PORT, Frames, Peer, fixed
from tests.harness import readable
from ustack.device.e1000 import E1000, E1000_FEATURES, NO_OFFLOAD
from ustack.device.ring import NicRegisters, TxFrame
from ustack.inet.family import SOCK_DGRAM, SOCK_RAW, SOCK_STREAM
from ustack.inet.ip_sockglue import IP_RECVERR
from ustack.inet.options import SOL_IP
from ustack.inet.protosw import IPPROTO_ICMP
from ustack.inet.sockaddr import AF_INET
from ustack.packet import CHECKSUM_NONE, CHECKSUM_PARTIAL, CHECKSUM_UNNECESSARY
from ustack.stack import Stack
from ustack.timer import NEVER, NSEC_PER_MSEC, NSEC_PER_SEC
from ustack.wire import arp, icmp, ipv4, tcp, udp
from ustack.wire.checksum import VALID, csum_partial, csum_tcpudp_nofold

if TYPE_CHECKING:
    from ustack.inet.socket import Socket

SEEDS = 10
FRAMES = 20_000  #: for each seed
BATCH = 50
QUIET_PORT = 8080
OURS_BEHIND = 0xC633_6402  # 198.51.100.2


class Target:
    """A host and router with sockets of every kind open, reached through the registers of its NICs."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.frames = Frames(self.random)
        self.stack = Stack(f"{seed}".encode().ljust(16, b"."))
        self.stack.net.conf.inet_forward_change(1)
        features = NO_OFFLOAD if seed % 3 == 0 else E1000_FEATURES
        self.nics = [NicRegisters(), NicRegisters()]
        for number, (nic, address) in enumerate(zip(self.nics, ("192.0.2.2/24", "198.51.100.2/24"), strict=True)):
            dev = E1000(self.stack.devices, f"eth{number}", OUR_MAC | number << 8, nic, 1500, features)
            self.stack.add_device(dev)
            self.stack.add_address(address, dev)
        self.stack.add_gateway("192.0.2.1")
        self.stack.neighbours.neigh_add(PEER, self.stack.device("eth0"), PEER_MAC, 0x04)  # NUD_STALE: may be forgotten
        self.now = 0
        self.sent = 0
        self.sockets: list[Socket] = []
        self._open()

    # -- sockets

    def _open(self) -> None:
        stack = self.stack
        server = stack.socket(AF_INET, SOCK_DGRAM)
        server.bind(("", UDP_PORT))
        client = stack.socket(AF_INET, SOCK_DGRAM)
        client.setsockopt(SOL_IP, IP_RECVERR, 1)
        client.bind(("", 5000))
        client.connect(("192.0.2.1", 7))
        # one that anybody's SYN may fill up, and one for the connections that are to be broken
        self.listeners = [stack.socket(AF_INET, SOCK_STREAM), stack.socket(AF_INET, SOCK_STREAM)]
        for listener, port in zip(self.listeners, (TCP_PORT, QUIET_PORT), strict=True):
            listener.bind(("", port))
            listener.listen(16)
        ping = stack.socket(AF_INET, SOCK_DGRAM, IPPROTO_ICMP)
        ping.bind(("", 1))
        raw = [stack.socket(AF_INET, SOCK_RAW, number) for number in (IPPROTO_ICMP, 89)]
        self.sockets = [server, client, ping, *raw]
        self.streams: list[Socket] = []

    def connect(self) -> None:
        """A connection from the attacker, by the book, so that what follows has something to break."""
        sport = self.random.randrange(1024, 65_536)
        peer = Peer()
        peer.sport, peer.dport, peer.seq = sport, QUIET_PORT, self.random.getrandbits(32)
        self.inject(handshake(peer, tcp.TCPHDR_SYN))
        self.poll(0)
        for frame in self.drain():
            answer = segment_to(frame, sport)
            if answer is not None and answer.flags == tcp.TCPHDR_SYN | tcp.TCPHDR_ACK:
                peer.seq, peer.ack = (peer.seq + 1) & 0xFFFF_FFFF, (answer.seq + 1) & 0xFFFF_FFFF
                self.inject(handshake(peer, tcp.TCPHDR_ACK))
                self.frames.connections = [*self.frames.connections[-7:], peer]
        self.poll(0)

    def use(self) -> None:
        """What applications do meanwhile: read, answer, accept, connect, close."""
        for sock in self.sockets + self.streams:
            quietly(sock, 2000)
        self.sockets[1].sk.take_error()
        for listener in self.listeners:
            while readable(listener):
                try:
                    self.streams.append(listener.accept())
                except OSError:
                    break
        for stream in self.streams:
            try:
                stream.send(self.random.randbytes(3000))
            except OSError:
                pass
        if self.random.random() < 0.2:
            outward = self.stack.socket(AF_INET, SOCK_STREAM)
            self.streams.append(outward)
            with pytest.raises(OSError):
                outward.connect(("192.0.2.1", TCP_PORT))
        while len(self.streams) > 24:
            self.streams.pop(self.random.randrange(len(self.streams))).close()

    # -- the wire

    def inject(self, frame: bytes) -> None:
        nic = self.nics[0] if self.random.random() < 0.95 else self.nics[1]
        how, summed = self.random.random(), CHECKSUM_NONE
        start = offset = gso_size = gso_type = 0
        if how < 0.3:
            summed = CHECKSUM_UNNECESSARY
        elif how < 0.4:
            summed = CHECKSUM_PARTIAL
            start, offset = self.random.choice((34, 0, 54, 2000, 65_535)), self.random.choice((16, 6, 2, 0, 65_535))
        if self.random.random() < 0.05:
            gso_size, gso_type = self.random.choice((1, 88, 1448, 65_535)), self.random.choice((1, 3))
        nic.receive_frame(frame, summed, start, offset, gso_size, gso_type)

    def poll(self, step: int) -> None:
        self.now += step
        for nic in self.nics:
            nic.rx_interrupt()
        while self.stack.poll(self.now):
            pass

    def drain(self) -> list[bytes]:
        """What the hardware was told to send, each frame judged."""
        frames = []
        for nic in self.nics:
            while True:
                frame = nic.next_tx()
                if frame is None:
                    break
                self.sent += 1
                data = judged(frame)
                frames.append(data)
                self.learn(data)
                nic.tx_done()
            self.poll(0)
        return frames

    def learn(self, frame: bytes) -> None:
        """An attacker on the path: what the stack has acknowledged and sent is where its next segments aim."""
        for peer in self.frames.connections:
            segment = segment_to(frame, peer.sport)
            if segment is not None and segment.flags & tcp.TCPHDR_ACK and segment.sport == peer.dport:
                peer.seq = int(segment.ack_seq)
                peer.ack = (int(segment.seq) + len(frame) - int(segment.payload)) & 0xFFFF_FFFF

    def batch(self) -> None:
        for _ in range(BATCH):
            self.inject(self.frames.frame())
        self.poll(self.random.choice((0, 0, NSEC_PER_MSEC, 40 * NSEC_PER_MSEC, NSEC_PER_SEC)))
        self.drain()
        assert self.stack.unaccounted() == 0

    def bounds(self) -> None:
        """Memory that an attacker may take."""
        stack, sysctl = self.stack, self.stack.net.sysctl
        assert len(stack.neighbours.entries()) <= sysctl.gc_thresh3
        assert stack.defrag.memory <= sysctl.ipfrag_high_thresh
        assert len(stack.tcp.tables.timewait) <= sysctl.tcp_max_tw_buckets
        for sock in self.sockets + self.streams:
            assert sock.sk.rmem_alloc <= 2 * sock.sk.rcvbuf + 100_000

    def settle(self) -> None:
        """Long after: every timer has fired, everything that was queued has ended."""
        for sock in self.sockets + self.streams + self.listeners:
            sock.close()
        end = self.now + 2000 * NSEC_PER_SEC
        while self.stack.next_deadline() < end:
            self.now = max(self.now, int(self.stack.next_deadline()))
            self.poll(0)
            self.drain()


def quietly(sock: Socket, length: int) -> None:
    """Read whatever there is, errors too."""
    try:
        while sock.recv(length):
            pass
    except OSError:
        pass


def handshake(peer: Peer, flags: int) -> bytes:
    segment = pack("!HHII", peer.sport, peer.dport, peer.seq, peer.ack) + pack("!BBHHH", 0x50, flags, 65_535, 0, 0)
    start = pack("!BBHHHBBH", 0x45, 0, 40, 1, 0x4000, 64, 6, 0) + pack("!II", PEER, OURS)
    return fixed(OUR_MAC.to_bytes(6, "big") + PEER_MAC.to_bytes(6, "big") + b"\x08\x00" + start + segment)


def segment_to(frame: bytes, port: int) -> tcp.TcpHeader | None:
    """The segment in ``frame`` if it is one for the attacker's ``port``."""
    header = ipv4.parse(frame, 14, len(frame)) if frame[12:14] == b"\x08\x00" else None
    if header is None or header.protocol != ipv4.IPPROTO_TCP:
        return None
    segment = tcp.parse(frame, 14 + int(header.header_len), len(frame))
    return segment if segment is not None and segment.dport == port else None


def judged(sent: TxFrame) -> bytes:
    """One frame that we send: lengths that agree, checksums that hold unless the hardware is to write them."""
    frame = b"".join(sent.pieces)
    end = len(frame)
    assert end >= 14 and frame[6:11] == OUR_MAC.to_bytes(6, "big")[:4] + frame[10:11]
    if frame[12:14] == b"\x08\x06":
        assert arp.parse(frame, 14, end) is not None
        return frame
    assert frame[12:14] == b"\x08\x00"
    header = ipv4.parse(frame, 14, end)
    assert header is not None and header.total_len == end - 14 and ipv4.checksum_ok(frame, header)
    assert sent.gso_size != 0 or end <= 1514
    if not header.is_fragment and not sent.needs_csum and header.saddr in (OURS, OURS_BEHIND):
        check_transport(frame, header, 14 + int(header.header_len), end)
    return frame


def check_transport(frame: bytes, header: ipv4.Ipv4Header, at: int, end: int) -> None:
    """Of what is our own, the transport's header and checksum too."""
    if header.protocol == ipv4.IPPROTO_ICMP:
        assert icmp.parse(frame, at, end) is not None and csum_partial(frame, at, end) == VALID
    elif header.protocol in (ipv4.IPPROTO_TCP, ipv4.IPPROTO_UDP):
        parsed = tcp.parse(frame, at, end) if header.protocol == ipv4.IPPROTO_TCP else udp.parse(frame, at, end)
        pseudo = csum_tcpudp_nofold(header.saddr, header.daddr, end - at, header.protocol)
        assert parsed is not None and csum_partial(frame, at, end, pseudo) == VALID


@pytest.mark.timeout(240)
@pytest.mark.parametrize("seed", range(SEEDS))
def test_nothing_that_arrives_raises_leaks_or_stops_anything(seed: int) -> None:
    target = Target(seed)
    for number in range(FRAMES // BATCH):
        if number % 10 == 0:
            target.connect()
        target.batch()
        if number % 3 == 0:
            target.use()
        target.bounds()
    path = target.stack.net.mib.path
    assert path.received >= FRAMES * 9 // 10 and target.sent > FRAMES // 20
    target.settle()
    assert target.stack.queued() == 0 and target.stack.unaccounted() == 0
    assert_alive(target)


def assert_alive(target: Target) -> None:
    """After all that it still answers who asks properly."""
    stack = target.stack
    deadline = stack.next_deadline()
    assert deadline == NEVER or deadline > target.now
    question = pack("!HHBBH", 1, 0x0800, 6, 4, 1) + PEER_MAC.to_bytes(6, "big") + PEER.to_bytes(4, "big")
    question += bytes(6) + OURS.to_bytes(4, "big")
    to_us = OUR_MAC.to_bytes(6, "big") + PEER_MAC.to_bytes(6, "big")
    target.nics[0].receive_frame(to_us + b"\x08\x06" + question)
    start = pack("!BBHHHBBH", 0x45, 0, 28, 1, 0, 64, 1, 0) + pack("!II", PEER, OURS)
    target.nics[0].receive_frame(fixed(to_us + b"\x08\x00" + start + pack("!BBHHH", 8, 0, 0, 77, 1)))
    target.poll(0)
    answers = target.drain()
    assert any(frame[12:14] == b"\x08\x06" and frame[20:22] == b"\0\2" for frame in answers)
    assert any(frame[23] == 1 and frame[34] == 0 and frame[38:40] == b"\0\x4d" for frame in answers)
