"""Net: what every floor of one stack may use (Linux struct net without its protocols).

Clock, timers, random source, counters, sysctls, and the one way to lose a packet. It knows no floor; ``stack.py``
builds the floors around it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mypy_extensions import i64, mypyc_attr

from ustack.counters import Mib
from ustack.drop import EFFECTS, SILENT, Reason
from ustack.entropy import Entropy
from ustack.sysctl import Sysctl
from ustack.timer import TimerQueue

if TYPE_CHECKING:
    from ustack.packet import Packet


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


class Net:
    """One per stack. ``now`` is the time of the current poll in ns; it never goes back."""

    def __init__(self, seed: bytes, now: i64 = 0) -> None:
        """``seed``: at least 16 secret bytes (ValueError otherwise), the source of every random choice."""
        self.now: i64 = now
        self.timers = TimerQueue()
        self.entropy = Entropy(seed)
        self.mib = Mib()
        self.sysctl = Sysctl()
        self.drops: dict[Reason, int] = {}
        self.icmp: IcmpSender | None = None
        self.drop_watchers: list[DropWatcher] = []

    def receive(self, packet: Packet) -> None:
        """A device hands ``packet`` to the stack: from here on it must end in deliver, forward or drop."""
        packet.accounted = True
        self.mib.path.received += 1

    def deliver(self, packet: Packet) -> None:
        """``packet`` reached who it was for (consume_skb); counting it a second time does nothing."""
        if packet.accounted:
            packet.accounted = False
            self.mib.path.delivered += 1

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
        if effect.icmp is not None and self.icmp is not None:
            icmp_type, code = effect.icmp
            self.icmp.icmp_send(packet, icmp_type, code, info)
