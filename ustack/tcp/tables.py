"""TcpTables: who is who among one stack's connections (Linux inet_hashtables.c), and what TCP needs of its floors.

Four tables: established sockets, connections being opened from outside, TIME_WAIT, listeners. The first three are
keyed by one integer made of the four-tuple (see mini.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mypy_extensions import i64

from ustack.entropy import keyed_hash
from ustack.tcp.mini import MiniTable, tuple_key

if TYPE_CHECKING:
    from ustack.device.core import Devices
    from ustack.ipv4.output import Ipv4Output
    from ustack.neighbour.table import NeighbourTable
    from ustack.net import Net
    from ustack.routing.route import Routing
    from ustack.tcp.congestion.base import CongestionOps
    from ustack.tcp.control import TcpControl
    from ustack.tcp.ports import BindTable
    from ustack.tcp.request import RequestSock
    from ustack.tcp.timewait import TimeWait

_SECRET_LEN: Final = 16
#: Where an initial sequence number may be given: none is.
NO_ISN: Final[i64] = -1


class TcpTables:
    """The tables, the secrets and the floors below, shared by every function of this room."""

    def __init__(
        self,
        net: Net,
        ipv4: Ipv4Output,
        routing: Routing,
        neighbours: NeighbourTable,
        devices: Devices,
        ports: BindTable,
    ) -> None:
        self.net: Net = net
        self.ipv4: Ipv4Output = ipv4
        self.routing: Routing = routing
        self.neighbours: NeighbourTable = neighbours
        self.devices: Devices = devices
        self.ports: BindTable = ports
        self.ehash: dict[int, TcpControl] = {}
        self.requests: MiniTable[RequestSock] = MiniTable()
        self.timewait: MiniTable[TimeWait] = MiniTable()
        self.listeners: dict[int, list[TcpControl]] = {}
        self.orphans: set[TcpControl] = set()
        self.batching: bool = False  #: frames are being received; ACKs and wake-ups wait for the end of the batch
        self.acks: list[TcpControl] = []  #: sockets that owe an ACK then
        self.wakeups: list[TcpControl] = []  #: sockets whose observers are told then
        self.throttled: list[TcpControl] = []  #: sockets that wait for their device's queue (TCP small queues)
        self.isn_secret: bytes = net.entropy.take(_SECRET_LEN)
        self.ts_secret: bytes = net.entropy.take(_SECRET_LEN)
        self.challenge_second: i64 = -1
        self.challenge_left: i64 = 0

    # -- what only the top of the room can make

    def new_sock(self) -> TcpControl:
        """A fresh socket of the room's full class, with its timers."""
        raise NotImplementedError

    def find_congestion(self, name: str) -> CongestionOps | None:
        """The algorithm of that name, None if there is none."""
        raise NotImplementedError

    # -- established

    def insert(self, tp: TcpControl) -> None:
        """Make ``tp`` findable by its four-tuple (inet_ehash_insert)."""
        key = tuple_key(tp.daddr, tp.dport, tp.num)
        tp.ehash_key = key
        tp.ehash_next = self.ehash.get(key)
        self.ehash[key] = tp

    def remove(self, tp: TcpControl) -> None:
        """Take it out again; not an error if it is not in."""
        key = tp.ehash_key
        if key < 0:
            return
        tp.ehash_key = -1
        head = self.ehash[key]
        if head is tp:
            if tp.ehash_next is None:
                del self.ehash[key]
            else:
                self.ehash[key] = tp.ehash_next
        else:
            _unchain(head, tp)
        tp.ehash_next = None

    def lookup_established(self, saddr: i64, sport: i64, daddr: i64, dport: i64) -> TcpControl | None:
        """The socket for a segment from (saddr, sport) to (daddr, dport) (__inet_lookup_established)."""
        tp = self.ehash.get(tuple_key(saddr, sport, dport))
        while tp is not None:
            if tp.rcv_saddr == daddr and tp.daddr == saddr and tp.dport == sport and tp.num == dport:
                return tp
            tp = tp.ehash_next
        return None

    def tuple_is_free(self, tp: TcpControl, port: i64) -> bool:
        """True if no connection, living or in TIME_WAIT, uses ``tp``'s addresses with local ``port``."""
        if self.lookup_established(tp.daddr, tp.dport, tp.saddr, port) is not None:
            return False
        return self.timewait.lookup(tp.daddr, tp.dport, tp.saddr, port) is None

    # -- listening

    def lookup_listener(self, daddr: i64, dport: i64, ifindex: i64) -> TcpControl | None:
        """The listener that fits best: bound to the device, bound to the address, any (compute_score)."""
        best: TcpControl | None = None
        best_score: i64 = -1
        for tp in self.listeners.get(dport, ()):
            if (tp.rcv_saddr and tp.rcv_saddr != daddr) or (tp.bound_dev_if and tp.bound_dev_if != ifindex):
                continue
            score: i64 = (2 if tp.rcv_saddr else 0) + (1 if tp.bound_dev_if else 0)
            if score > best_score:
                best, best_score = tp, score
        return best

    def add_listener(self, tp: TcpControl) -> None:
        self.listeners.setdefault(tp.num, []).append(tp)

    def remove_listener(self, tp: TcpControl) -> None:
        group = self.listeners[tp.num]
        group.remove(tp)
        if not group:
            del self.listeners[tp.num]

    # -- secrets

    def secure_tcp_seq(self, saddr: i64, daddr: i64, sport: i64, dport: i64) -> i64:
        """An initial sequence number (RFC 6528 section 3).

        "ISN = M + F(localip, localport, remoteip, remoteport, secretkey)": M ticks every 64 ns, as Linux's does.
        """
        message = b"%d %d %d %d" % (saddr, daddr, sport, dport)
        return (keyed_hash(self.isn_secret, message) + (self.net.now >> 6)) & 0xFFFF_FFFF

    def secure_tcp_ts_off(self, saddr: i64, daddr: i64) -> i64:
        """Where a host pair's timestamp clock starts, ms (RFC 7323 section 5.4; secure_tcp_ts_off)."""
        return keyed_hash(self.ts_secret, b"%d %d" % (saddr, daddr)) & 0xFFFF_FFFF


def _unchain(head: TcpControl, tp: TcpControl) -> None:
    link: TcpControl | None = head
    while link is not None:
        if link.ehash_next is tp:
            link.ehash_next = tp.ehash_next
            return
        link = link.ehash_next
