"""TcpTables: who is who among one stack's connections (Linux inet_hashtables.c), and what TCP needs of its floors.

Four tables: established sockets, connections being opened from outside, TIME_WAIT, listeners. The first three are
keyed by one integer made of the four-tuple (see mini.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mypy_extensions import i64

from ustack.siphash import SipHashKey, siphash_2u32, siphash_3u32
from ustack.tcp.ack_state import AckState
from ustack.tcp.congestion.registry import Registry
from ustack.tcp.memory import TcpMemory
from ustack.tcp.metrics import TcpMetrics
from ustack.tcp.mini import MiniTable, inet_bound_dev_eq, tuple_key
from ustack.tcp.ports import reuseport_select_sock

if TYPE_CHECKING:
    from ustack.device.core import Devices
    from ustack.ipv4.output import Ipv4Output
    from ustack.neighbour.table import NeighbourTable
    from ustack.net import Net
    from ustack.routing.route import Routing
    from ustack.tcp.congestion.base import CongestionOps
    from ustack.tcp.control import TcpControl, TcpTimer
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
        self.congestion: Registry = Registry()
        self.ehash: dict[int, TcpControl] = {}
        self.requests: MiniTable[RequestSock] = MiniTable()
        self.timewait: MiniTable[TimeWait] = MiniTable()
        self.listeners: dict[int, list[TcpControl]] = {}
        self.orphans: set[TcpControl] = set()
        self.memory: TcpMemory = TcpMemory(net)
        self.batching: bool = False  #: frames are being received; ACKs and wake-ups wait for the end of the batch
        self.acks: list[TcpControl] = []  #: sockets that owe an ACK then
        self.wakeups: list[TcpControl] = []  #: sockets whose observers are told then
        self.ack_state: AckState = AckState()  #: of the ACK being processed
        self.throttled: list[TcpControl] = []  #: sockets that wait for their device's queue (TCP small queues)
        self.net_secret: SipHashKey = SipHashKey(net.entropy.take(_SECRET_LEN))
        self.ts_secret: SipHashKey = SipHashKey(net.entropy.take(_SECRET_LEN))
        self.syncookie_secret: list[bytes] = [net.entropy.take(_SECRET_LEN), net.entropy.take(_SECRET_LEN)]
        self._ehash_secret: SipHashKey | None = None
        self.metrics: TcpMetrics = TcpMetrics(net)
        self.fastopen_key: bytes = b""  #: net.ipv4.tcp_fastopen_key; b"": not asked for yet
        self.tfo_active_disable_times: i64 = 0  #: black holes in a row that Fast Open has met as a client
        self.tfo_active_disable_stamp: i64 = 0
        self.challenge_second: i64 = -1
        self.challenge_left: i64 = 0

    # -- what only the top of the room can make

    def new_sock(self) -> TcpControl:
        """A fresh socket of the room's full class."""
        raise NotImplementedError

    def new_timer(self, tp: TcpControl, kind: i64) -> TcpTimer:
        """One of ``tp``'s timers (TIMER_…), made when it is first armed: most connections never need all of them."""
        raise NotImplementedError

    def find_congestion(self, name: str) -> CongestionOps | None:
        """The algorithm of that name, None if there is none."""
        return self.congestion.algorithms.get(name)

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

    def lookup_established(self, saddr: i64, sport: i64, daddr: i64, dport: i64, dif: i64 = 0) -> TcpControl | None:
        """The socket for a segment from (saddr, sport) to (daddr, dport) by the device with index ``dif``
        (__inet_lookup_established)."""
        tp = self.ehash.get(tuple_key(saddr, sport, dport))
        while tp is not None:
            if tp.rcv_saddr == daddr and tp.daddr == saddr and tp.dport == sport and tp.num == dport:
                if inet_bound_dev_eq(tp.bound_dev_if, dif):
                    return tp
            tp = tp.ehash_next
        return None

    def tuple_is_free(self, tp: TcpControl, port: i64, chosen: bool = True) -> bool:
        """True if no connection uses ``tp``'s addresses with local ``port``, half open or whole, nor a TIME_WAIT that
        keeps it.

        ``chosen``: the port was not the user's choice (__inet_check_established).
        """
        if self.lookup_established(tp.daddr, tp.dport, tp.saddr, port, tp.bound_dev_if) is not None:
            return False
        if self.requests and self.requests.lookup(tp.daddr, tp.dport, tp.saddr, port, tp.bound_dev_if) is not None:
            return False
        tw = self.timewait.lookup(tp.daddr, tp.dport, tp.saddr, port, tp.bound_dev_if)
        return tw is None or tw.unique(chosen)

    # -- listening

    def lookup_listener(
        self, daddr: i64, dport: i64, ifindex: i64, saddr: i64 = 0, sport: i64 = 0
    ) -> TcpControl | None:
        """The listener for a SYN from (saddr, sport): bound to the address, else to any (__inet_lookup_listener)."""
        listeners = self.listeners.get(dport)
        if listeners is None:
            return None
        best = best_listener(listeners, daddr, ifindex)
        if best is None and daddr:
            best = best_listener(listeners, 0, ifindex)
        if best is None or not best.reuseport or len(listeners) == 1:
            return best
        return reuseport_select_sock(best, listeners, self._flow_hash(saddr, sport, daddr, dport))

    def _flow_hash(self, saddr: i64, sport: i64, daddr: i64, dport: i64) -> i64:
        """32 bits of a flow, by a secret that is drawn when it is first needed (inet_ehashfn)."""
        if self._ehash_secret is None:
            self._ehash_secret = SipHashKey(self.net.entropy.take(_SECRET_LEN))
        _, flow = siphash_3u32(saddr, daddr, sport << 16 | dport, self._ehash_secret)
        return flow

    def add_listener(self, tp: TcpControl) -> None:
        self.listeners.setdefault(tp.num, []).append(tp)

    def remove_listener(self, tp: TcpControl) -> None:
        group = self.listeners[tp.num]
        group.remove(tp)
        if not group:
            del self.listeners[tp.num]

    # -- secrets

    def secure_tcp_seq(self, saddr: i64, daddr: i64, sport: i64, dport: i64) -> i64:
        """An initial sequence number (RFC 6528 section 3), with SipHash as F.

        "ISN = M + F(localip, localport, remoteip, remoteport, secretkey)": M ticks every 64 ns, as Linux's does.
        """
        _, low = siphash_3u32(saddr, daddr, sport << 16 | dport, self.net_secret)
        return (low + (self.net.now >> 6)) & 0xFFFF_FFFF

    def secure_tcp_ts_off(self, saddr: i64, daddr: i64) -> i64:
        """Where a host pair's timestamp clock starts, ms (RFC 7323 section 5.4; secure_tcp_ts_off); 0 for all with
        tcp_timestamps 2."""
        if self.net.sysctl.tcp_timestamps != 1:
            return 0
        _, low = siphash_2u32(saddr, daddr, self.ts_secret)
        return low


def best_listener(listeners: list[TcpControl], addr: i64, ifindex: i64) -> TcpControl | None:
    """Of those bound to ``addr`` the first that is bound to the device, else the first that is bound to none
    (compute_score)."""
    best: TcpControl | None = None
    for tp in listeners:
        if tp.rcv_saddr != addr or (tp.bound_dev_if and tp.bound_dev_if != ifindex):
            continue
        if tp.bound_dev_if:
            return tp
        if best is None:
            best = tp
    return best


def _unchain(head: TcpControl, tp: TcpControl) -> None:
    link: TcpControl | None = head
    while link is not None:
        if link.ehash_next is tp:
            link.ehash_next = tp.ehash_next
            return
        link = link.ehash_next
