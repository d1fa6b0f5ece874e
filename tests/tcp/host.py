"""The lower half of Peer: a stack on a NIC without hardware, frames in and out, ARP, virtual time. Expects nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from librt.strings import BytesWriter

from tests.harness import Drops, Events
from tests.harness import code_of as code_of
from ustack.device.e1000 import E1000, NO_OFFLOAD
from ustack.device.ring import NicRegisters
from ustack.inet.family import SOCK_STREAM
from ustack.inet.sockaddr import AF_INET
from ustack.sock import TCP_SYN_RECV, TCP_SYN_SENT
from ustack.stack import Stack
from ustack.tcp.sock import TcpSock
from ustack.timer import NSEC_PER_MSEC, NSEC_PER_SEC
from ustack.wire import arp, ethernet, icmp, ipv4, tcp
from ustack.wire.checksum import csum_fold, csum_partial, csum_tcpudp_nofold
from ustack.wire.ethernet import ETH_HLEN, ETH_P_ARP, ETH_P_IP, ETH_ZLEN
from ustack.wire.ipv4 import (
    IP_DF,
    IPOPT_END,
    IPOPT_LSRR,
    IPOPT_NOOP,
    IPOPT_SSRR,
    IPPROTO_ICMP,
    IPPROTO_TCP,
    addr_to_str,
    str_to_addr,
)
from ustack.wire.tcp import TCPHDR_ACK, TCPHDR_FIN, TCPHDR_SYN

if TYPE_CHECKING:
    from ustack.inet.socket import Socket

USEC: Final = 1_000
MSEC: Final = int(NSEC_PER_MSEC)
SEC: Final = int(NSEC_PER_SEC)
#: When every test begins: long enough after zero that no time is mistaken for "never".
START: Final = 1000 * SEC

STACK: Final = "192.0.2.2"
PEER: Final = "192.0.2.1"
STACK_MAC: Final = 0x0200_0000_0002
PEER_MAC: Final = 0x0200_0000_0001
SEED: Final = b"a seed for tests"
SERVER_PORT: Final = 80  #: where the stack listens
PEER_PORT: Final = 40_000
PEER_ISS: Final = 0x5000_0000
M32: Final = 0xFFFF_FFFF

LETTERS: Final = {"F": 1, "S": 2, "R": 4, "P": 8, "A": 16, "U": 32, "E": 64, "C": 128}


def flag_bits(flags: str) -> int:
    """``"PA"`` as bits; ``""`` is a segment without any."""
    bits = 0
    for letter in flags:
        bits |= LETTERS[letter]
    return bits


class Segment:
    """One TCP segment the stack has sent. ``time`` is absolute (ns), ``seq`` and ``ack`` as on the wire."""

    def __init__(self, time: int, frame: bytes, iph: ipv4.Ipv4Header, th: tcp.TcpHeader) -> None:
        self.time = time
        self.frame = frame
        self.src = addr_to_str(iph.saddr)
        self.dst = addr_to_str(iph.daddr)
        self.ttl = int(iph.ttl)
        self.tos = int(iph.tos)
        self.dont_fragment = bool(iph.frag_off & IP_DF)
        self.ip_options = frame[ETH_HLEN + 20 : ETH_HLEN + int(iph.header_len)]
        self.sport = int(th.sport)
        self.dport = int(th.dport)
        self.seq = int(th.seq)
        self.ack = int(th.ack_seq)
        self.flags = int(th.flags)
        self.urg_ptr = int(th.urg_ptr)
        self.window = int(th.window)  #: the field as it stands there, not scaled
        self.data = frame[th.payload : th.end]
        self.raw_options = frame[th.options : th.payload]
        options = tcp.parse_options(frame, th.options, th.payload)
        self.mss = int(options.mss)
        self.wscale = int(options.wscale)
        self.sack_ok = bool(options.sack_ok)
        self.saw_tstamp = bool(options.saw_tstamp)
        self.tsval = int(options.tsval)
        self.tsecr = int(options.tsecr)
        self.sacks = [] if options.sacks is None else list(options.sacks)  #: as on the wire
        self.gso_size = 0  #: of a super-segment, with a device that cuts them
        self._text = tcp.describe(th, frame)

    def __repr__(self) -> str:
        return f"{self.time / SEC:.6f} {self._text}"

    @property
    def end(self) -> int:
        """One past the last sequence number it takes."""
        length = len(self.data) + bool(self.flags & TCPHDR_SYN) + bool(self.flags & TCPHDR_FIN)
        return (self.seq + length) & M32


class Host:
    """The stack, its wire, and what the other end of one connection knows; keywords as Peer explains them."""

    def __init__(
        self,
        mss: int | None = 1460,
        wscale: int | None = None,
        timestamps: bool = False,
        window: int = 65_535,
        iss: int = PEER_ISS,
        seed: bytes = SEED,
        features: int = NO_OFFLOAD,
        mtu: int = 1500,
        start: int = START,
        sack: bool = False,
        congestion: str = "reno",
    ) -> None:
        self.now = start
        self.zero = start
        self.stack = Stack(seed, start)
        self.stack.sysctl.set("net.ipv4.tcp_congestion_control", congestion)  # Reno: sums that one does in one's head
        self.net = self.stack.net
        self.nic = NicRegisters()
        self.dev = E1000(self.stack.devices, "eth0", STACK_MAC, self.nic, mtu, features)
        self.stack.add_device(self.dev)
        self.stack.add_address(f"{STACK}/24", self.dev)
        self.out: list[Segment] = []  #: sent by the stack, not yet expected
        self.others: list[bytes] = []  #: IPv4 packets of the stack that are not TCP, or only a part of it
        self.batching = False
        self.injected = 0  #: TCP segments since the mark
        self.emitted = 0
        self.drops = Drops(self.stack)
        self.events = Events()
        # the connection, as the peer sees it
        self.mss, self.wscale, self.timestamps, self.window = mss, wscale, timestamps, window
        self.sack = sack
        self.iss = iss
        self.nxt = 0  #: relative: what the peer sends next
        self.irs = 0  #: the stack's ISN
        self.acked = 0  #: relative: one past the last the stack has sent
        self.sport = SERVER_PORT  #: the stack's port
        self.pport = PEER_PORT
        self.ts_ok = False  #: both sides offered timestamps: what is injected carries them
        self.tsval_offset = 100
        self.tsecr = 0
        self.scaled = False
        self.sock: Socket = self.stack.socket(AF_INET, SOCK_STREAM)
        self.server: Socket | None = None
        self.tp = tcp_sock(self.sock)
        self.run(SEC)  # whoever announces an address has done it by then
        self.mark()

    # -- time

    def mark(self) -> None:
        """From here ``at``, ``until``, the counters, the drops and the observer's events count."""
        self.zero = self.now
        self.before = self.net.mib.snapshot()
        self.drops.reasons.clear()
        self.events.seen.clear()
        self.injected = 0
        self.emitted = 0

    def poll(self) -> None:
        """Let the stack do what is due now, and take what it sends."""
        for _ in range(100):
            again = self.stack.poll(self.now)
            sent = self._drain()
            if not again and not sent and not self.stack.devices.pending():
                return
        raise AssertionError("the stack is never done")

    def run(self, duration: int) -> None:
        """Let ``duration`` ns pass."""
        self.run_to(self.now + duration)

    def run_to(self, when: int) -> None:
        """Everything that is due up to ``when`` (absolute ns); the clock stops there."""
        self.poll()
        while True:
            deadline = int(self.stack.next_deadline())
            if deadline > when:
                break
            self.now = max(self.now, deadline)
            self.poll()
        self.now = max(self.now, when)
        self.poll()

    # -- from the stack

    def _drain(self) -> bool:
        """Take frames off the transmit ring; True if an answer went back by itself (ARP)."""
        answered = False
        while True:
            frame = self.nic.next_tx()
            if frame is None:
                return answered
            whole = b"".join(frame.pieces)
            gso_size, partial = int(frame.gso_size), bool(frame.needs_csum)
            self.nic.tx_done()
            answered = self._take(whole, gso_size, partial) or answered

    def _take(self, frame: bytes, gso_size: int, partial: bool) -> bool:
        header = ethernet.parse(frame)
        assert header is not None
        if header.ethertype == ETH_P_ARP:
            return self._answer_arp(frame)
        assert header.ethertype == ETH_P_IP
        iph = ipv4.parse(frame, ETH_HLEN, len(frame))
        assert iph is not None and ipv4.checksum_ok(frame, iph)
        end = ETH_HLEN + int(iph.total_len)
        if iph.protocol != IPPROTO_TCP or iph.is_fragment:
            self.others.append(frame[ETH_HLEN:end])
            return False
        start = ETH_HLEN + int(iph.header_len)
        th = tcp.parse(frame, start, end)
        assert th is not None
        if not partial:
            last_hop = end_of_route(frame[ETH_HLEN + 20 : start]) or iph.daddr
            pseudo = csum_tcpudp_nofold(iph.saddr, last_hop, end - start, IPPROTO_TCP)
            assert csum_partial(frame, start, end, pseudo) == M32 >> 16, "the stack sent a wrong checksum"
        segment = Segment(self.now, frame, iph, th)
        segment.gso_size = gso_size
        if not self._again(segment):
            self.emitted += 1 if not gso_size else (len(segment.data) + gso_size - 1) // gso_size
        self._learn(segment)
        self.out.append(segment)
        return False

    def _again(self, segment: Segment) -> bool:
        """True if a socket has sent all of it before: Tcp.OutSegs does not count it (a request's SYN-ACKs it does)."""
        if segment.dport != self.pport or segment.flags & 4 or segment.end == segment.seq:
            return False
        if segment.flags & TCPHDR_SYN:
            return bool(self.irs) and segment.seq == self.irs and self.tp.state in (TCP_SYN_SENT, TCP_SYN_RECV)
        return (segment.end - self.irs - self.acked - 1) & M32 >= 1 << 31

    def _learn(self, segment: Segment) -> None:
        """What a TCP would remember of a segment of its own connection."""
        if segment.dport != self.pport:
            return
        if segment.flags & TCPHDR_SYN and not segment.flags & 4:
            self.irs = segment.seq
            self.sport = segment.sport
            self.acked = 0
            if self.nxt == 0 or segment.flags & TCPHDR_ACK:
                self.ts_ok = self.timestamps and segment.saw_tstamp
                self.scaled = self.wscale is not None and segment.wscale >= 0
        if segment.sport != self.sport or segment.flags & 4:
            return
        self.tsecr = segment.tsval
        end = (segment.end - self.irs) & M32
        if (end - self.acked) & M32 < 1 << 31:
            self.acked = end

    def _answer_arp(self, frame: bytes) -> bool:
        header = arp.parse(frame, ETH_HLEN, len(frame))
        assert header is not None
        if header.op != arp.ARPOP_REQUEST or header.spa == header.tpa or header.tpa == str_to_addr(STACK):
            return False
        reply = arp.emit(arp.ARPOP_REPLY, PEER_MAC, header.tpa, header.sha, header.spa)
        self._frame(ethernet.header(header.sha, PEER_MAC, ETH_P_ARP) + reply)
        return True

    # -- to the stack

    def _frame(self, frame: bytes) -> None:
        assert self.nic.receive_frame(frame + bytes(max(ETH_ZLEN - len(frame), 0)))
        self.nic.rx_interrupt()

    def packet(
        self,
        protocol: int,
        payload: bytes,
        src: str = PEER,
        dst: str = STACK,
        ttl: int = 64,
        tos: int = 0,
        mac: int = STACK_MAC,
        ip_options: bytes = b"",
    ) -> None:
        """Put an IPv4 packet on the wire."""
        out = BytesWriter()
        total = 20 + len(ip_options) + len(payload)
        ipv4.emit(out, tos, total, 1, IP_DF, ttl, protocol, str_to_addr(src), str_to_addr(dst), ip_options)
        self._frame(ethernet.header(mac, PEER_MAC, ETH_P_IP) + out.getvalue() + payload)
        if not self.batching:
            self.poll()

    def inject(
        self,
        flags: str = "A",
        data: bytes = b"",
        *,
        seq: int | None = None,
        ack: int | None = None,
        window: int | None = None,
        options: bytes | None = None,
        urg: int = 0,
        sport: int | None = None,
        dport: int | None = None,
        src: str = PEER,
        dst: str = STACK,
        ttl: int = 64,
        tos: int = 0,
        mac: int = STACK_MAC,
        corrupt: bool = False,
        doff: int | None = None,
        ip_options: bytes = b"",
    ) -> None:
        """Send a segment to the stack: by default in order, acknowledging all that was sent.

        ``window`` in bytes, ``options`` as they shall stand there (default: timestamps where agreed); ``doff`` lies
        about the header's length, in words; ``ip_options`` are whole words.
        """
        bits = flag_bits(flags)
        relative = self.nxt if seq is None else seq
        length = len(data) + bool(bits & TCPHDR_SYN) + bool(bits & TCPHDR_FIN)
        if seq is None and sport is None and src == PEER:
            self.nxt = (relative + length) & M32
        ack_seq = (self.irs + (self.acked if ack is None else ack)) & M32 if bits & TCPHDR_ACK or ack is not None else 0
        offered = self.window if window is None else window
        field = offered if bits & TCPHDR_SYN or not self.scaled else offered >> (self.wscale or 0)
        if options is None:
            options = self.ts_option() if self.ts_ok else b""
        out = BytesWriter()
        tcp.emit(
            out,
            self.pport if sport is None else sport,
            self.sport if dport is None else dport,
            (self.iss + relative) & M32,
            ack_seq,
            bits,
            min(field, 65_535),
            0,
            urg,
            options,
        )
        raw = bytearray(out.getvalue() + data)
        if doff is not None:
            raw[12] = doff << 4
        pseudo = csum_tcpudp_nofold(str_to_addr(src), str_to_addr(dst), len(raw), IPPROTO_TCP)
        check = int(csum_fold(csum_partial(bytes(raw), 0, len(raw), pseudo))) ^ (1 if corrupt else 0)
        raw[16:18] = check.to_bytes(2, "big")
        self.injected += 1
        self.packet(IPPROTO_TCP, bytes(raw), src, dst, ttl, tos, mac, ip_options)

    def batch(self) -> Batch:
        """``with c.batch():`` what is injected inside comes to the stack as one batch of frames."""
        return Batch(self)

    def ts_option(self, tsval: int | None = None, tsecr: int | None = None) -> bytes:
        """The 12 bytes of the timestamp option: the peer's clock in ms, and the stack's last one."""
        value = self.tsval() if tsval is None else tsval
        return tcp.timestamp_option(value, self.tsecr if tsecr is None else tsecr)

    def sack_option(self, *blocks: tuple[int, int]) -> bytes:
        """Options that say that the peer has ``blocks``, relative to the stack's ISN; with timestamps where agreed."""
        absolute = [((self.irs + start) & M32, (self.irs + end) & M32) for start, end in blocks]
        return (self.ts_option() if self.ts_ok else b"") + tcp.sack_option(absolute)

    def tsval(self) -> int:
        """The peer's timestamp clock: ms since the beginning, and an offset."""
        return ((self.now - START) // MSEC + self.tsval_offset) & M32

    def syn_options(self) -> bytes:
        """What the peer's SYN or SYN-ACK offers."""
        wscale = -1 if self.wscale is None else self.wscale
        return tcp.syn_options(self.mss or 0, wscale, self.sack, self.timestamps, self.tsval(), self.tsecr)

    def icmp(
        self,
        icmp_type: int,
        code: int,
        info: int = 0,
        *,
        seq: int = 0,
        sport: int | None = None,
        dport: int | None = None,
        quoted_dst: str = PEER,
        src: str = PEER,
        quote: int = 8,
    ) -> None:
        """An ICMP error about the stack's segment at relative ``seq``, quoting ``quote`` bytes of it."""
        inner = BytesWriter()
        ipv4.emit(inner, 0, 40, 7, IP_DF, 60, IPPROTO_TCP, str_to_addr(STACK), str_to_addr(quoted_dst))
        header = BytesWriter()
        tcp.emit(
            header,
            self.sport if sport is None else sport,
            self.pport if dport is None else dport,
            (self.irs + seq) & M32,
            0,
            TCPHDR_ACK,
            0,
            0,
            0,
            b"",
        )
        body = inner.getvalue() + header.getvalue()[:quote]
        self.packet(IPPROTO_ICMP, icmp.emit(icmp_type, code, info, body), src)


class Batch:
    """What is injected inside comes as one batch: one interrupt, one poll."""

    def __init__(self, peer: Host) -> None:
        self.peer = peer

    def __enter__(self) -> None:
        self.peer.batching = True

    def __exit__(self, *exc: object) -> None:
        self.peer.batching = False
        self.peer.poll()


def end_of_route(options: bytes) -> int:
    """The last address of the source route in an IP header's ``options``, 0 if there is none."""
    at = 0
    while at < len(options) and options[at] != IPOPT_END:
        if options[at] in (IPOPT_LSRR, IPOPT_SSRR):
            return int.from_bytes(options[at : at + options[at + 1]][-4:], "big")
        at += 1 if options[at] == IPOPT_NOOP else options[at + 1]
    return 0


def tcp_sock(sock: Socket) -> TcpSock:
    sk = sock.sk
    assert isinstance(sk, TcpSock)
    return sk
