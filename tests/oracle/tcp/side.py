"""One side of the comparison: the peer's frames, what is understood of the stack's, and the application.

Subclasses know where the stack is: how frames go in and come out, how a socket is made, and what time is.
"""

from __future__ import annotations

import errno
import zlib
from typing import TYPE_CHECKING, Any, Final

from librt.strings import BytesWriter

from tests.oracle.tcp.script import EDGE, ISS, NXT, OUT, RCV, UNA, Burst, Call, Icmp, Pause, Seen, Segment
from tests.tcp.host import M32, PEER, PEER_MAC, PEER_PORT, SERVER_PORT, STACK, STACK_MAC, flag_bits
from ustack.inet.options import SO_COOKIE, SO_MEMINFO, SO_REUSEADDR, SOL_SOCKET
from ustack.inet.sockaddr import sockaddr_in
from ustack.sock import MSG_TRUNC
from ustack.tcp.options import TCP_INFO, TCP_TIMESTAMP
from ustack.wire import ethernet, icmp, ipv4, tcp
from ustack.wire.checksum import csum_fold, csum_partial, csum_tcpudp_nofold
from ustack.wire.ethernet import ETH_HLEN, ETH_P_IP
from ustack.wire.ipv4 import IP_DF, IP_HLEN, IPPROTO_ICMP, IPPROTO_TCP, addr_to_str, str_to_addr
from ustack.wire.tcp import TCPHDR_ACK, TCPHDR_FIN, TCPHDR_RST, TCPHDR_SYN

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tests.oracle.tcp.script import Ref, Step, Terms
    from ustack.inet.sockaddr import SocketAddress

LETTERS: Final = "FSRPAUEC"
TCP_CM_INQ: Final = 36
#: Options whose value is each stack's own.
OWN: Final = {
    (SOL_SOCKET, SO_MEMINFO),
    (SOL_SOCKET, SO_COOKIE),
    (IPPROTO_TCP, TCP_INFO),
    (IPPROTO_TCP, TCP_TIMESTAMP),
}
#: So far beyond the last connection's numbers those of one begin that takes the place of its TIME_WAIT.
BEYOND: Final = 65_500
#: What is remembered of a connection, by the peer's port.
ENDS: Final = ("nxt", "rcv", "edge", "una", "out", "irs", "tsecr", "stamps", "scale", "sport")
#: What the peer and the application send: a byte tells its place.
TEXT: Final = bytes(range(251)) * 600


def text(at: int, length: int) -> bytes:
    """``length`` bytes of the stream from ``at`` on."""
    start = at % 251
    return TEXT[start : start + length]


class Side:
    """A stack and the two that it is between: a peer on the wire and an application on its sockets."""

    def __init__(self, terms: Terms) -> None:
        self.terms = terms
        self.nxt = 0  #: relative, the peer's next
        self.rcv = 0  #: relative, acknowledged by the stack
        self.edge = 0  #: relative, the end of the stack's window
        self.una = 0  #: relative, acknowledged by the peer
        self.out = 0  #: relative, one past the last that the stack has sent
        self.irs: int | None = None  #: the stack's ISN
        self.clock = 100  #: the peer's timestamp clock, ms
        self.tsecr = 0
        self.stamps = False
        self.end = 0  #: relative, one past the last number of the segment that the peer has sent last
        self.scale = 0  #: of the windows that the stack advertises
        self.sport = SERVER_PORT
        self.port = 0  #: the peer's that all these are about; those of the others:
        self.aside: dict[int, dict[str, Any]] = {}
        self.fresh = {name: getattr(self, name) for name in ENDS}
        self.written = 0
        self.listener: Any = None
        self.sock: Any = None  #: the connection's
        self.sockets: list[Any] = []  #: all there ever were: none is closed but by close
        self.before: dict[str, int] = {}

    # -- what subclasses know

    def put(self, frame: bytes) -> None:
        """A frame to the stack."""
        raise NotImplementedError

    def take(self) -> list[bytes]:
        """What it has sent since."""
        raise NotImplementedError

    def wait(self, ms: int) -> list[bytes]:
        """Let time pass; what it sends meanwhile."""
        raise NotImplementedError

    def new_socket(self) -> Any:
        """Which does not block."""
        raise NotImplementedError

    def counters(self) -> dict[str, int]:
        """Tcp and TcpExt."""
        raise NotImplementedError

    def info(self) -> dict[str, int]:
        """struct tcp_info of the connection, nothing without one."""
        raise NotImplementedError

    # -- steps

    def run(self, step: Step) -> Seen:
        """One step, and all that can be seen of it."""
        seen = Seen()
        if isinstance(step, Pause):
            self.clock += step.ms
            seen.sent += self.understood(self.wait(step.ms))
        elif isinstance(step, Segment):
            self.put(self.segment(step))
        elif isinstance(step, Burst):
            for segment in step.segments:
                self.put(self.segment(segment))
        elif isinstance(step, Icmp):
            self.put(self.icmp(step))
        else:
            seen.result = self.call(step)
        seen.sent += self.understood(self.take())
        seen.info = self.info()
        now = self.counters()
        seen.moved = {name: now[name] - was for name, was in self.before.items() if now[name] != was}
        seen.moved |= {name: value for name, value in now.items() if name not in self.before and value}
        self.before = now
        return seen

    def call(self, step: Call) -> str:
        """What the application is told: a value, or an errno's name."""
        verb: Callable[..., Any] = getattr(self, f"do_{step.verb}")
        try:
            return f"{verb(*step.args)}"
        except OSError as failure:
            code = failure.errno or 0
            return errno.errorcode.get(code, str(code))

    # -- the application

    def do_listen(self, backlog: int) -> None:
        if self.listener is None:
            self.listener = self.kept(self.new_socket())
            self.listener.setsockopt(SOL_SOCKET, SO_REUSEADDR, 1)
            self.listener.bind((STACK, SERVER_PORT))
        self.listener.listen(backlog)

    def do_accept(self) -> None:
        self.sock = self.kept(self.accept(self.need(self.listener)))

    def do_connect(self) -> None:
        if self.sock is None:
            self.sock = self.kept(self.new_socket())
        self.sock.connect((PEER, PEER_PORT))

    def do_send(self, length: int, flags: int = 0) -> int:
        taken = int(self.need(self.sock).send(text(self.written, length), flags))
        self.written += taken
        return taken

    def do_recv(self, length: int, flags: int = 0) -> str:
        data: bytes = self.need(self.sock).recv(length, flags)
        # what MSG_TRUNC throws away is not there to be seen
        return f"{len(data)}" if flags & MSG_TRUNC else f"{len(data)} {data[:4].hex()} {zlib.crc32(data):08x}"

    def do_shutdown(self, how: int) -> None:
        self.need(self.sock).shutdown(how)

    def do_close(self) -> None:
        sock, self.sock = self.need(self.sock), None
        sock.close()

    def do_close_listener(self) -> None:
        listener, self.listener = self.need(self.listener), None
        listener.close()

    def do_setsockopt(self, level: int, name: int, value: int | bytes) -> None:
        self.need(self.sock).setsockopt(level, name, value)

    def do_getsockopt(self, level: int, name: int) -> int:
        value: int = self.need(self.sock).getsockopt(level, name)
        return value

    def do_set_listener(self, level: int, name: int, value: int | bytes) -> None:
        self.need(self.listener).setsockopt(level, name, value)

    def do_read_option(self, level: int, name: int, room: int) -> str:
        """What getsockopt(2) writes into ``room`` bytes; of what is each stack's own the length."""
        value = self.option(self.need(self.sock), level, name, room)
        return f"{len(value)} {'' if (level, name) in OWN else value.hex()}"

    def do_socket(self) -> None:
        """The calls that follow are about a new one."""
        self.sock = self.kept(self.new_socket())

    def do_take_listener(self) -> None:
        """The calls that follow are about the listener."""
        self.sock = self.need(self.listener)

    def do_bind(self, addr: int, port: int) -> None:
        self.need(self.sock).bind((addr_to_str(addr), port))

    def do_listen_on(self, backlog: int) -> None:
        self.need(self.sock).listen(backlog)

    def do_accept_on(self) -> None:
        self.kept(self.accept(self.need(self.sock)))

    def do_connect_to(self, addr: int, port: int) -> None:
        self.need(self.sock).connect((addr_to_str(addr), port))

    def do_disconnect(self) -> None:
        self.disconnect(self.need(self.sock))

    def do_name(self) -> str:
        return self.shown(self.need(self.sock).getsockname())

    def do_peer(self) -> str:
        return self.shown(self.need(self.sock).getpeername())

    def do_send_to(self, addr: int, port: int, length: int, flags: int) -> int:
        taken = int(self.send_to(self.need(self.sock), text(self.written, length), flags, addr_to_str(addr), port))
        self.written += taken
        return taken

    def do_receive(self, length: int, flags: int) -> str:
        """recvmsg(2), which has control messages and flags."""
        data, control, flags = self.receive(self.need(self.sock), length, flags)
        told = [(level, kind, value.hex() if kind == TCP_CM_INQ else len(value)) for level, kind, value in control]
        said = [f"({level}, {kind}) {what}" for level, kind, what in told]
        return f"{len(data)} {flags:#x} {said}"

    def shown(self, name: SocketAddress) -> str:
        """A port that a stack has chosen is its own."""
        addr, port = sockaddr_in(name).pair()
        return f"{addr} {port if port < 1024 or port == PEER_PORT else 'some'}"

    def do_bind_again(self, reuse: int) -> None:
        """A new socket on the port of the last connection."""
        self.sock = self.kept(self.new_socket())
        self.sock.setsockopt(SOL_SOCKET, SO_REUSEADDR, reuse)
        self.sock.bind((STACK, self.sport))

    def do_shutdown_listener(self, how: int) -> None:
        self.need(self.listener).shutdown(how)

    def do_poll_listener(self) -> str:
        return f"{self.poll(self.need(self.listener)):#x}"

    def do_poll(self) -> str:
        return f"{self.poll(self.need(self.sock)):#x}"

    def do_ioctl(self, request: int) -> int:
        return self.ioctl(self.need(self.sock), request)

    def need(self, sock: Any) -> Any:
        """The same. EBADF for none: never accepted, or closed."""
        if sock is None:
            raise OSError(errno.EBADF, "no socket")
        return sock

    def kept(self, sock: Any) -> Any:
        self.sockets.append(sock)
        return sock

    def accept(self, listener: Any) -> Any:
        raise NotImplementedError

    def poll(self, sock: Any) -> int:
        raise NotImplementedError

    def ioctl(self, sock: Any, request: int) -> int:
        raise NotImplementedError

    def option(self, sock: Any, level: int, name: int, room: int) -> bytes:
        raise NotImplementedError

    def disconnect(self, sock: Any) -> None:
        """connect to AF_UNSPEC."""
        raise NotImplementedError

    def send_to(self, sock: Any, data: bytes, flags: int, addr: str, port: int) -> int:
        raise NotImplementedError

    def receive(self, sock: Any, length: int, flags: int) -> tuple[bytes, list[tuple[int, int, bytes]], int]:
        raise NotImplementedError

    # -- the peer

    def turn_to(self, port: int) -> None:
        """What is known of the connection from another port is put aside."""
        if port != self.port:
            self.aside[self.port] = {name: getattr(self, name) for name in ENDS}
            for name, value in self.aside.get(port, self.fresh).items():
                setattr(self, name, value)
            self.port = port

    def place(self, ref: Ref) -> int:
        base, offset = ref
        return {NXT: self.nxt, RCV: self.rcv, EDGE: self.edge, OUT: self.out, UNA: self.una, ISS: 0}[base] + offset

    def segment(self, step: Segment) -> bytes:
        """The frame of it; the peer remembers what it has sent."""
        self.turn_to(step.port)
        bits = flag_bits(step.flags)
        relative = self.place(step.seq)
        if step.seq == (NXT, 0):
            self.nxt += step.length + bool(bits & TCPHDR_SYN) + bool(bits & TCPHDR_FIN)
        acknowledged = 0
        if bits & TCPHDR_ACK:
            acknowledged = self.place(step.ack)
            self.una = max(self.una, min(acknowledged, self.out))
        self.clock += 1
        self.end = (relative + step.length + bool(bits & TCPHDR_SYN) + bool(bits & TCPHDR_FIN)) & M32
        out = BytesWriter()
        tcp.emit(
            out,
            PEER_PORT + step.port,
            self.sport,
            (self.terms.iss + relative) & M32,
            ((self.irs or 0) + acknowledged) & M32 if bits & TCPHDR_ACK else 0,
            bits,
            self.terms.window if step.window is None else step.window,
            0,
            step.urg,
            self.options(step, bits),
        )
        raw = bytearray(out.getvalue() + bytes(byte ^ step.other for byte in text(relative, step.length)))
        for at, bits in step.flip:
            raw[at] ^= bits
        return self.packet(IPPROTO_TCP, bytes(raw), step.tos, step.corrupt)

    def options(self, step: Segment, bits: int) -> bytes:
        if step.options is not None:
            return step.options
        terms = self.terms
        value, echo = (self.clock + step.tsval) & M32, (self.tsecr + step.tsecr) & M32
        if bits & TCPHDR_SYN:
            wscale = -1 if terms.wscale is None else terms.wscale
            return tcp.syn_options(terms.mss or 0, wscale, terms.sack, terms.timestamps, value, echo)
        options = tcp.timestamp_option(value, echo) if self.stamps and step.stamped else b""
        if step.sacks:
            irs = self.irs or 0
            blocks = [((irs + self.place(a)) & M32, (irs + self.place(b)) & M32) for a, b in step.sacks]
            options += tcp.sack_option(blocks)
        return options

    def packet(self, protocol: int, payload: bytes, tos: int = 0, corrupt: int = 0) -> bytes:
        """An Ethernet frame; a TCP segment's checksum is filled in, ``corrupt`` beside what it should be."""
        source, target = str_to_addr(PEER), str_to_addr(STACK)
        raw = bytearray(payload)
        if protocol == IPPROTO_TCP:
            pseudo = csum_tcpudp_nofold(source, target, len(raw), IPPROTO_TCP)
            check = int(csum_fold(csum_partial(bytes(raw), 0, len(raw), pseudo)))
            raw[16:18] = (check ^ corrupt).to_bytes(2, "big")
        out = BytesWriter()
        ipv4.emit(out, tos, 20 + len(raw), 1, IP_DF, 64, protocol, source, target)
        frame = ethernet.header(STACK_MAC, PEER_MAC, ETH_P_IP) + out.getvalue() + bytes(raw)
        return frame + bytes(max(60 - len(frame), 0))

    def icmp(self, step: Icmp) -> bytes:
        self.turn_to(0)
        inner, header = BytesWriter(), BytesWriter()
        ipv4.emit(inner, 0, 40, 7, IP_DF, 60, IPPROTO_TCP, str_to_addr(STACK), str_to_addr(PEER))
        seq = ((self.irs or 0) + self.place(step.seq)) & M32
        tcp.emit(header, self.sport, PEER_PORT, seq, 0, TCPHDR_ACK, 0, 0, 0, b"")
        body = inner.getvalue() + header.getvalue()[:8]
        return self.packet(IPPROTO_ICMP, icmp.emit(step.type, step.code, step.info, body))

    # -- what the stack says

    def understood(self, frames: Iterable[bytes]) -> list[str]:
        """Its segments in words that do not depend on what it chose; other packets by their protocol."""
        return [said for frame in frames if (said := self.understand(frame))]

    def begin(self, isn: int, port: int) -> None:
        """A SYN with ``isn``: the first, the same again, of the same connection reopened, or of one that is another."""
        ahead = 0 if self.irs is None else (isn - self.irs - self.out) & M32
        if BEYOND <= ahead < BEYOND + 100:
            self.una = self.written = self.out + ahead  # its numbers go on from the last one's (TIME_WAIT)
        elif self.irs != isn:
            self.irs, self.sport, self.out, self.una, self.written = isn, port, 0, 0, 0

    def understand(self, frame: bytes) -> str:
        header = ethernet.parse(frame)
        if header is None or header.ethertype != ETH_P_IP:
            return ""
        iph = ipv4.parse(frame, ETH_HLEN, len(frame))
        assert iph is not None
        if iph.protocol != IPPROTO_TCP:
            return f"protocol {iph.protocol}"
        end = ETH_HLEN + int(iph.total_len)
        th = tcp.parse(frame, ETH_HLEN + int(iph.header_len), end)
        assert th is not None
        self.turn_to(int(th.dport) - PEER_PORT)
        options = tcp.parse_options(frame, th.options, th.payload)
        flags, length = int(th.flags), end - int(th.payload)
        if flags & TCPHDR_SYN:
            self.begin(int(th.seq), int(th.sport))
            self.stamps = self.terms.timestamps and bool(options.saw_tstamp)
            self.scale = 0 if self.terms.wscale is None else max(int(options.wscale), 0)
        # what resets a segment without ACK has the number 0 itself
        irs = int(th.seq) if self.irs is None else 0 if flags & TCPHDR_RST and not th.seq else self.irs
        seq, ack = (int(th.seq) - irs) & M32, (int(th.ack_seq) - self.terms.iss) & M32
        if not flags & TCPHDR_RST:
            taken = seq + length + bool(flags & TCPHDR_SYN) + bool(flags & TCPHDR_FIN)
            if taken < 1 << 31:
                self.out = max(self.out, taken)
            if flags & TCPHDR_ACK:
                self.rcv = ack
                self.edge = ack + (int(th.window) << (0 if flags & TCPHDR_SYN else self.scale))
            if options.saw_tstamp:
                self.tsecr = int(options.tsval)
        letters = "".join(letter for n, letter in enumerate(LETTERS) if flags & 1 << n)
        # windows follow what a segment costs each in memory (difference "truesize"): whether there is one is compared
        window = f"win {th.window}" if flags & TCPHDR_SYN or not th.window else ""
        where = "none" if flags & TCPHDR_RST and th.seq == 0 else f"{seq}:{seq + length}"
        acked = "all of it" if where == "none" and ack == self.end else f"ack {ack}"
        who = f"to {self.port}:" if self.port else ""
        said = [who, f"{letters} {where}", acked if flags & TCPHDR_ACK else "", window]
        if flags & 32:
            said.append(f"urg {th.urg_ptr}")
        if options.mss:
            said.append(f"mss {options.mss}")
        if options.wscale >= 0:
            said.append(f"wscale {options.wscale}")
        if options.sack_ok:
            said.append("sackOK")
        if options.saw_tstamp:
            said.append(f"ecr {options.tsecr}")
        if options.cookie is not None:
            said.append(f"tfo {options.cookie.hex()}")
        if options.sacks:
            blocks = [((a - self.terms.iss) & M32, (b - self.terms.iss) & M32) for a, b in options.sacks]
            said.append(f"sack {blocks}")
        said.append(f"tos {iph.tos} ttl {iph.ttl}{' DF' if iph.frag_off & IP_DF else ''}")
        if iph.header_len > IP_HLEN:
            said.append(f"ip {frame[ETH_HLEN + IP_HLEN : ETH_HLEN + int(iph.header_len)].hex()}")
        if length and frame[th.payload : end] != text((seq - 1) & M32, length):
            said.append("another text")
        return " ".join(filter(None, said))
