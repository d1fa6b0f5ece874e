"""Net: what every floor of one stack may use (Linux struct net without its protocols).

Clock, timers, random source, counters, sysctls, and the one way to lose a packet. It knows no floor; ``stack.py``
builds the floors around it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mypy_extensions import i64, mypyc_attr

from ustack.counters import Mib
from ustack.drop import EFFECTS, SILENT, Reason, drop_facts
from ustack.entropy import Entropy
from ustack.in_device import InetConf
from ustack.sysctl import Sysctl
from ustack.timer import TimerQueue
from ustack.trace.journey import DROPPED
from ustack.trace.points import Point

if TYPE_CHECKING:
    from ustack.packet import Packet
    from ustack.timer import Waker
    from ustack.trace.journey import Tracer


@mypyc_attr(allow_interpreted_subclasses=True)
class IcmpSender:
    """How a drop answers with an ICMP error without knowing the ICMP floor (Linux icmp_send)."""

    def icmp_send(self, packet: Packet, icmp_type: i64, code: i64, info: i64) -> None:
        raise NotImplementedError


@mypyc_attr(allow_interpreted_subclasses=True)
class DropWatcher:
    """Told of every drop: captures, traces, tests. Costs one empty-list test while nobody watches."""

    def dropped(self, packet: Packet, reason: Reason) -> None:
        raise NotImplementedError


# what rtnetlink tells of (include/uapi/linux/rtnetlink.h), and what goes with it
RTM_NEWLINK: Final = 16  #: NetDevice
RTM_DELLINK: Final = 17
RTM_NEWADDR: Final = 20  #: Address
RTM_DELADDR: Final = 21
RTM_NEWROUTE: Final = 24  #: FibAlias
RTM_DELROUTE: Final = 25
RTM_NEWNEIGH: Final = 28  #: Neighbour
RTM_DELNEIGH: Final = 29
RTM_GETNEIGH: Final = 30  #: Neighbour: a program that resolves addresses is asked (app_solicit)
RTM_NEWRULE: Final = 32  #: FibRule
RTM_DELRULE: Final = 33
RTM_NEWNETCONF: Final = 80  #: str, the setting's name
RTM_NEWNEXTHOP: Final = 104  #: Nexthop
RTM_DELNEXTHOP: Final = 105


@mypyc_attr(allow_interpreted_subclasses=True)
class RtnlWatcher:
    """Told of every change that rtnetlink tells of. Costs one empty-list test while nobody watches."""

    def changed(self, event: i64, what: object) -> None:
        """RTM_NEW* or RTM_DEL*, with the object: as it is now, or as it was."""
        raise NotImplementedError


class Net:
    """One per stack. ``now`` is the time of the current poll in ns; it never goes back."""

    def __init__(self, seed: bytes, now: i64 = 0) -> None:
        """``seed``: at least 16 secret bytes (ValueError otherwise), the source of every random choice."""
        self.now: i64 = now
        self.timers = TimerQueue()
        self.entropy = Entropy(seed)
        self.mib = Mib()
        self.sysctl = Sysctl()
        self.conf = InetConf()
        self.drops: dict[Reason, int] = {}
        self.icmp: IcmpSender | None = None
        self.drop_watchers: list[DropWatcher] = []
        self.rtnl_watchers: list[RtnlWatcher] = []
        self.last_cookie: i64 = 0
        self.tracer: Tracer | None = None  #: while somebody asks to see packets' journeys
        self.waker: Waker | None = None  #: who polls this stack, if it wants to hear of work that comes from outside

    def wake(self) -> None:
        """There is something to do that no timer tells of."""
        if self.waker is not None:
            self.waker.wake()

    def rtnl_notify(self, event: i64, what: object) -> None:
        """Something has changed (rtnl_notify): tell whoever watches."""
        for watcher in self.rtnl_watchers:
            watcher.changed(event, what)

    def next_cookie(self) -> i64:
        """A number that no socket of this stack had before (gen_cookie_next)."""
        self.last_cookie += 1
        return self.last_cookie

    def ip4_reply_mark(self, mark: i64) -> i64:
        """The mark of what answers a packet that has ``mark`` (IP4_REPLY_MARK), 0 for the answering socket's own."""
        return mark if self.sysctl.fwmark_reflect != 0 else 0

    def receive(self, packet: Packet) -> None:
        """A device hands ``packet`` to the stack: from here on it must end in deliver, forward or drop."""
        packet.accounted = True
        self.mib.path.received += 1

    def deliver(self, packet: Packet) -> None:
        """``packet`` reached who it was for (consume_skb); counting it a second time does nothing."""
        if packet.accounted:
            packet.accounted = False
            self.mib.path.delivered += 1
        if packet.journey is not None:
            packet.journey.tracer.delivered(packet.journey)

    def forward(self, packet: Packet) -> None:
        """``packet`` left towards its next hop, or into a device queue on its way there."""
        if packet.accounted:
            packet.accounted = False
            self.mib.path.forwarded += 1

    def drop(self, packet: Packet, reason: Reason, info: i64 = 0) -> None:
        """Lose ``packet``: count it, answer with the ICMP error the reason calls for (kfree_skb_reason, icmp_send).

        ``info`` is the second word of that ICMP error: the next hop's MTU, or the pointer of a parameter problem.
        """
        self.drops[reason] = self.drops.get(reason, 0) + 1
        if packet.accounted:
            packet.accounted = False
            self.mib.path.dropped += 1
        effect = EFFECTS.get(reason, SILENT)
        for name in effect.counters:
            self.mib.bump(name)
        for watcher in self.drop_watchers:
            watcher.dropped(packet, reason)
        journey = packet.journey
        if journey is not None:
            journey.step(Point.KFREE_SKB, reason.name, drop_facts(packet, reason, effect, info))
        if effect.icmp is not None and self.icmp is not None:
            icmp_type, code = effect.icmp
            self.icmp.icmp_send(packet, icmp_type, code, info)
        if journey is not None:
            journey.finish(DROPPED, reason.name)
