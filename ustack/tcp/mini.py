"""Connections that are not sockets: being opened from outside, or only remembered (Linux "mini sockets", sock_common).

They are few bytes and a timer, in a table by four-tuple. The table's key is one integer made of the four-tuple; it is
shorter than that, so entries that share it are chained and compared.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Generic, TypeVar

from mypy_extensions import i64

from ustack.tcp.control import TCP_PAWS_24DAYS
from ustack.tcp.reply import send_bare
from ustack.tcp.seq import after, before, signed_distance
from ustack.timer import NSEC_PER_MSEC, NSEC_PER_SEC, Timer
from ustack.trace.points import Point
from ustack.wire import tcp as wire
from ustack.wire.tcp import TCPHDR_ACK, TCPHDR_FIN, TCPHDR_SYN

if TYPE_CHECKING:
    from ustack.net import Net
    from ustack.packet import Packet
    from ustack.tcp.tables import TcpTables
    from ustack.trace.journey import Facts
    from ustack.wire.tcp import TcpHeader


#: For how long a RST with an old timestamp is not.
TCP_PAWS_MSL: Final[i64] = 60 * NSEC_PER_SEC


def tuple_key(faddr: i64, fport: i64, lport: i64) -> i64:
    """63 bits of (foreign address, foreign port, local port): equal tuples have equal keys, not the other way round."""
    return (((faddr & 0x7FFF_FFFF) << 32) | (fport << 16) | lport) & 0x7FFF_FFFF_FFFF_FFFF


def inet_iif(packet: Packet) -> i64:
    """The index of the device that ``packet`` came by, 0 for none."""
    return 0 if packet.in_dev is None else packet.in_dev.ifindex


def inet_bound_dev_eq(bound_dev_if: i64, dif: i64) -> bool:
    """True if what is bound to ``bound_dev_if``, 0 for no device, hears what comes by ``dif``."""
    return bound_dev_if == 0 or bound_dev_if == dif


class MiniSock(Timer):
    """What both kinds share: who they connect, their timestamps, and when they last answered what was unacceptable."""

    def __init__(self, tables: TcpTables, laddr: i64, lport: i64, raddr: i64, rport: i64, mark: i64 = 0) -> None:
        super().__init__()
        self.tables: TcpTables = tables
        self.laddr: i64 = laddr
        self.lport: i64 = lport
        self.raddr: i64 = raddr
        self.rport: i64 = rport
        self.bound_dev_if: i64 = 0  #: tw_bound_dev_if, ir_iif
        self.mark: i64 = mark  #: tw_mark, ir_mark: of what it sends
        self.cookie: i64 = tables.net.next_cookie()  #: as SO_COOKIE
        self.next: MiniSock | None = None  #: the next one with the same key
        self.tstamp_ok: bool = False
        self.ts_recent: i64 = 0
        self.ts_recent_stamp: i64 = 0  #: when it came (ns), 0 for never
        self.tsoffset: i64 = 0  #: ms
        self.last_oow_ack_time: i64 = 0

    def mstamp(self) -> i64:
        """Our clock for the timestamp option, ms."""
        return (self.tables.net.now // NSEC_PER_MSEC + self.tsoffset) & 0xFFFF_FFFF

    def ack_options(self) -> bytes:
        """The options of an ACK: timestamps only where there is one to echo (tcp_v4_send_ack)."""
        return wire.timestamp_option(self.mstamp(), self.ts_recent) if self.tstamp_ok and self.ts_recent else b""

    def tcp_v4_send_ack(self, seq: i64, ack: i64, window: i64, tos: i64, oif: i64) -> None:
        """Tell the peer where we are, <SEQ=``seq``><ACK=``ack``><CTL=ACK>; ``window``: the field."""
        laddr, raddr, lport, rport = self.laddr, self.raddr, self.lport, self.rport
        options = self.ack_options()
        if self.tables.net.tracer is not None:
            facts: Facts = {"seq": int(seq), "ack": int(ack), "win": int(window)}
            self.tables.net.tracer.note(Point.TCP_V4_SEND_ACK, "", facts)
        send_bare(
            self.tables, laddr, raddr, lport, rport, seq, ack, TCPHDR_ACK, window, options, tos, mark=self.mark, oif=oif
        )

    def oow_rate_limited(self, th: TcpHeader) -> bool:
        """True if something unacceptable was answered less than tcp_invalid_ratelimit ago, and ``th`` may itself be an
        answer: two would never end. Text and FINs are none, they are always answered (tcp_oow_rate_limited)."""
        if not th.flags & TCPHDR_SYN and (th.end != th.payload or th.flags & TCPHDR_FIN):
            return False
        return self.rate_limited()

    def rate_limited(self) -> bool:
        """The same, whatever is to be answered."""
        net = self.tables.net
        limit = net.sysctl.tcp_invalid_ratelimit * NSEC_PER_MSEC
        if self.last_oow_ack_time and net.now - self.last_oow_ack_time < limit:
            return True
        self.last_oow_ack_time = max(net.now, 1)
        return False


def tcp_parse_handshake(net: Net, packet: Packet, th: TcpHeader) -> wire.TcpOptions:
    """The options of a segment of a handshake (tcp_parse_options): who uses no timestamps sees none."""
    options = wire.parse_options(packet.buf, th.options, th.payload)
    if net.sysctl.tcp_timestamps == 0:
        options.saw_tstamp = False
    return options


def tcp_paws_reject(mini: MiniSock, options: wire.TcpOptions, rst: bool) -> bool:
    """RFC 7323 section 5.3 R1 for a segment with a timestamp: an older one means an older segment.

    A TS.Recent of 0 says nothing: there are hosts whose SYN has it. RST: "their cleanup function should take
    precedence over timestamps", after a while (TCP_PAWS_MSL).
    """
    if signed_distance(options.tsval, mini.ts_recent) <= 0 or mini.ts_recent == 0:
        return False
    age = mini.tables.net.now - mini.ts_recent_stamp
    return age < (TCP_PAWS_MSL if rst else TCP_PAWS_24DAYS)


def tcp_in_window(seq: i64, end_seq: i64, first: i64, beyond: i64) -> bool:
    """RFC 9293 table 6: [``seq``, ``end_seq``) has something of [``first``, ``beyond``), or is empty at one of them."""
    if seq == first or (after(end_seq, first) and before(seq, beyond)):
        return True
    return seq == beyond and seq == end_seq


M = TypeVar("M", bound=MiniSock)


class MiniTable(Generic[M]):
    """Mini sockets by their four-tuple; ``heads`` has the first of every chain."""

    def __init__(self) -> None:
        self.heads: dict[int, M] = {}
        self.count: i64 = 0

    def __len__(self) -> int:
        return int(self.count)

    def insert(self, mini: M) -> None:
        key = tuple_key(mini.raddr, mini.rport, mini.lport)
        mini.next = self.heads.get(key)
        self.heads[key] = mini
        self.count += 1

    def remove(self, mini: M) -> None:
        """Take out what is in."""
        key = tuple_key(mini.raddr, mini.rport, mini.lport)
        rest = [other for other in self.chain(key) if other is not mini]
        del self.heads[key]
        mini.next = None
        self.count -= 1
        for other in reversed(rest):
            other.next = self.heads.get(key)
            self.heads[key] = other

    def lookup(self, raddr: i64, rport: i64, laddr: i64, lport: i64, dif: i64 = 0) -> M | None:
        """The one that connects exactly these two ends, by the device with index ``dif``."""
        head = self.heads.get(tuple_key(raddr, rport, lport))
        if head is None or (head.next is None and not _connects(head, raddr, rport, laddr, lport)):
            return None
        for mini in self.chain(tuple_key(raddr, rport, lport)):
            if _connects(mini, raddr, rport, laddr, lport) and inet_bound_dev_eq(mini.bound_dev_if, dif):
                return mini
        return None

    def chain(self, key: i64) -> list[M]:
        """All entries with ``key``."""
        found: list[M] = []
        mini: M | None = self.heads.get(key)
        while mini is not None:
            found.append(mini)
            mini = mini.next  # type: ignore[assignment]  # a chain holds one kind only
        return found

    def all(self) -> list[M]:
        """Every entry, for who lists them."""
        return [mini for key in self.heads for mini in self.chain(key)]


def _connects(mini: MiniSock, raddr: i64, rport: i64, laddr: i64, lport: i64) -> bool:
    return mini.laddr == laddr and mini.raddr == raddr and mini.rport == rport and mini.lport == lport
