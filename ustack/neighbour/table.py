"""The neighbour table: who has which link-layer address, and what waits to be told (Linux net/core/neighbour.c).

A packet's way: ``output`` finds the entry; one that is READY puts its cached header in front and hands the frame to
the device. Anything else goes through ``neigh_event_send``, which may start a question and keep the packet meanwhile.
What the question looks like is the protocol's business (``Solicitor``, for IPv4 ARP); what follows from an answer,
from silence or from an upper layer's word stands in states.py.

Addresses are integers in host order, link-layer addresses 48-bit integers, times ns.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

from mypy_extensions import i64, mypyc_attr, trait

from ustack.device.net_device import BROADCAST_MAC, IFF_LOOPBACK, IFF_NOARP, IFF_UP
from ustack.drop import Reason
from ustack.dst import RTN_BROADCAST
from ustack.neighbour.facts import neigh_facts, queue_facts, state_name, update_facts
from ustack.neighbour.gc import Collector
from ustack.neighbour.pneigh import ProxyTable
from ustack.neighbour.states import (
    NUD_ADMIN,
    NUD_ASKING,
    NUD_CONNECTED,
    NUD_DELAY,
    NUD_FAILED,
    NUD_INCOMPLETE,
    NUD_NOARP,
    NUD_NONE,
    NUD_PERMANENT,
    NUD_PROBE,
    NUD_REACHABLE,
    NUD_READY,
    NUD_VALID,
    Event,
    after,
)
from ustack.net import RTM_DELNEIGH, RTM_NEWNEIGH
from ustack.sock import error
from ustack.timer import NSEC_PER_MSEC, NSEC_PER_SEC, Timer
from ustack.trace.journey import PATIENCE
from ustack.trace.points import Point
from ustack.wire.ethernet import ETH_P_IP, header

if TYPE_CHECKING:
    from ustack.device.core import Devices
    from ustack.device.net_device import NetDevice
    from ustack.in_device import NeighParms
    from ustack.net import Net
    from ustack.packet import Packet
    from ustack.trace.journey import Tracer

#: A reachable time is drawn anew this often (neigh_periodic_work; RFC 4861 6.3.2 asks for "at least every few hours").
RAND_INTERVAL: Final[i64] = 300 * NSEC_PER_SEC
#: Questions are never closer together than this (HZ/100).
MIN_RETRANS: Final[i64] = 10 * NSEC_PER_MSEC

#: How long a journey may stand still here: as long as the settings let resolution take, as a rule.
RESOLUTION: Final[i64] = 60 * NSEC_PER_SEC
_NO_RESOLUTION: Final = IFF_LOOPBACK | IFF_NOARP
#: What no rtnetlink program is told of: a question goes out, or will unless an upper layer has good news.
_UNTOLD: Final = NUD_INCOMPLETE | NUD_DELAY
#: No link-layer address is given.
NO_LLADDR: Final[i64] = -1

# ndm_flags (include/uapi/linux/neighbour.h)
NTF_USE: Final = 0x01
NTF_PROXY: Final = 0x08
NTF_EXT_LEARNED: Final = 0x10
NTF_ROUTER: Final = 0x80
_IP_MULTICAST_MAC: Final[i64] = 0x0100_5E00_0000


@mypyc_attr(allow_interpreted_subclasses=True)
class AddressOracle:
    """What neighbours must know of addresses, answered by whoever keeps them (the routing room)."""

    def inet_addr_type(self, addr: i64) -> i64:
        """RTN_LOCAL for one of ours, RTN_BROADCAST, RTN_MULTICAST, RTN_UNICAST for the rest (inet_addr_type)."""
        raise NotImplementedError

    def select_source(self, dev: NetDevice, dst: i64) -> i64:
        """The address of ``dev`` to speak to ``dst`` with, 0 if it has none (inet_select_addr)."""
        raise NotImplementedError

    def inet_confirm_addr(self, dev: NetDevice | None, dst: i64, local: i64, scope: i64) -> i64:
        """``local`` (0: any) if it is an address on ``dev`` (None: any), at most as near as ``scope``, in the subnet of
        ``dst`` (0: any); 0 if there is none such."""
        raise NotImplementedError

    def route_input(self, packet: Packet, dev: NetDevice, saddr: i64, daddr: i64) -> ArpRoute | None:
        """Where a packet from ``saddr`` that came in by ``dev`` would go; None if it is refused (ip_route_input).

        ``packet`` is the ARP packet that asks.
        """
        raise NotImplementedError

    def route_output(self, daddr: i64, saddr: i64) -> NetDevice | None:
        """The device that our own packet would leave by; None if there is no route (ip_route_output)."""
        raise NotImplementedError


class ArpRoute:
    """As much of a route as ARP asks for."""

    def __init__(self, rt_type: i64, dev: NetDevice) -> None:
        self.rt_type: i64 = rt_type  #: RTN_*
        self.dev: NetDevice = dev  #: the way out


@trait
class Solicitor:
    """How a question is put on the wire (neigh_ops.solicit)."""

    def solicit(self, neighbour: Neighbour, packet: Packet | None) -> None:
        """Ask for ``neighbour``: by unicast in PROBE, else by broadcast; ``packet`` is the last that waits for it."""
        raise NotImplementedError


class Silence(Solicitor):
    """Before a protocol has taken over."""

    def solicit(self, neighbour: Neighbour, packet: Packet | None) -> None:
        """Nobody can be asked."""


class Neighbour(Timer):
    """struct neighbour. Routes may keep it: once ``dead`` it sends by asking the table anew, and no packet is lost."""

    def __init__(self, table: NeighbourTable, addr: i64, dev: NetDevice) -> None:
        super().__init__()
        self.table: NeighbourTable = table
        self.addr: i64 = addr
        self.dev: NetDevice = dev
        self.nud_state: i64 = NUD_NONE
        self.lladdr: i64 = 0  #: holds while nud_state is in NUD_VALID
        self.hh: bytes = b""  #: the finished Ethernet header for IPv4 (struct hh_cache)
        self.flags: i64 = 0  #: NTF_EXT_LEARNED, NTF_ROUTER
        self.protocol: i64 = 0  #: RTPROT_* of who added it
        self.probes: i64 = 0  #: questions asked; those by broadcast begin to count at ucast_solicit, as in Linux
        self.asked_from: i64 = 0  #: the address of ours that the last question named
        self.confirmed: i64 = table.net.now - 2 * dev.in_dev.arp_parms.base_reachable_time_ms * NSEC_PER_MSEC
        self.used: i64 = table.net.now
        self.updated: i64 = table.net.now
        self.learned: bool = False  #: made for a stranger's request, and never used by us
        self.dead: bool = False  #: no longer in the table
        self.arp_queue: list[Packet] = []
        self.arp_queue_len_bytes: i64 = 0  #: truesize of what waits

    @property
    def exempt(self) -> bool:
        """Whether gc_thresh* do not concern it: set by hand, or by a routing daemon."""
        return self.nud_state & NUD_PERMANENT != 0 or self.flags & NTF_EXT_LEARNED != 0

    def parms(self) -> NeighParms:
        """The settings that count for it."""
        return self.dev.in_dev.arp_parms

    def output(self, packet: Packet) -> None:
        """Send ``packet``, whose buf begins with the network header, or keep it until it can be sent."""
        if self.nud_state & NUD_READY != 0:
            packet.dev = self.dev
            packet.push_mac_header(self.hh)
            if packet.journey is not None:
                packet.journey.step(Point.NEIGH_HH_OUTPUT, "cached header in front", neigh_facts(self), self.dev.name)
            self.table.devices.dev_queue_xmit(packet)
        else:
            self.table.neigh_resolve_output(self, packet)

    def confirm(self) -> None:
        """An upper layer heard from it: "forward progress", RFC 4861 7.3.1 (neigh_confirm). Call on every good ACK."""
        if self.nud_state == NUD_REACHABLE:
            self.confirmed = self.table.net.now
        elif self.nud_state & NUD_VALID != 0:
            self.table.neigh_event(self, Event.CONFIRMED)

    def fire(self) -> None:
        self.table.neigh_timer_handler(self)


class NeighbourTable:
    """struct neigh_table of one stack, keyed by device and address."""

    def __init__(self, net: Net, devices: Devices, oracle: AddressOracle) -> None:
        self.net: Net = net
        self.devices: Devices = devices
        self.oracle: AddressOracle = oracle
        self.solicitor: Solicitor = Silence()  #: set by the protocol that asks
        self.queued: i64 = 0  #: packets that wait in all entries together
        self.exempt_entries: i64 = 0  #: set by hand, not counted against gc_thresh*
        self._entries: dict[int, Neighbour] = {}  # oldest first
        self._noarp: dict[int, Neighbour] = {}  # one for each device that needs no resolution
        self.collector = Collector(self)
        self.proxies = ProxyTable(net)

    # -- sending

    def output(self, addr: i64, dev: NetDevice, packet: Packet) -> None:
        """Send ``packet`` to next hop ``addr`` on ``dev``, or lose it as NEIGH_FAILED, QUEUEFULL, CREATEFAIL, DEAD."""
        neighbour = self._entries.get((dev.ifindex << 32) | addr)
        if neighbour is None:
            neighbour = self.ip_neigh_gw4(dev, addr)
        if neighbour is not None:
            neighbour.output(packet)
        elif dev.flags & IFF_UP == 0:
            self.net.drop(packet, Reason.NEIGH_DEAD)
        else:
            self.net.drop(packet, Reason.NEIGH_CREATEFAIL)

    def ip_neigh_gw4(self, dev: NetDevice, addr: i64) -> Neighbour | None:
        """The neighbour for next hop ``addr``, made if need be; None if the table is full or ``dev`` is down.

        Routes may keep it. Multicast, broadcast and devices without ARP have a fixed mapping (arp_constructor) that is
        not in the table; whoever keeps one must let go of it when addresses change, as routes do with their generation.
        """
        neighbour = self._entries.get((dev.ifindex << 32) | addr)
        if neighbour is not None:
            return neighbour
        if dev.flags & IFF_UP == 0:
            return None
        if dev.flags & _NO_RESOLUTION != 0:
            return self._noarp_neighbour(dev)
        if addr >> 28 == 0xE:
            # RFC 1112 6.4: "placing the low-order 23-bits of the IP address into the low-order 23 bits of
            # the Ethernet multicast address 01-00-5E-00-00-00 (hex)"
            return self._mapped(addr, dev, _IP_MULTICAST_MAC | (addr & 0x7F_FFFF))
        if self.oracle.inet_addr_type(addr) == RTN_BROADCAST:
            return self._mapped(addr, dev, BROADCAST_MAC)
        return self.neigh_create(addr, dev)

    def neigh_resolve_output(self, neighbour: Neighbour, packet: Packet) -> None:
        """The slow way out (neigh_resolve_output): the entry may have to change state first, or to ask."""
        if packet.journey is not None:
            dead = "entry is gone: the table is asked anew" if neighbour.dead else ""
            packet.journey.step(Point.NEIGH_RESOLVE_OUTPUT, dead, {"state": state_name(neighbour.nud_state)})
        if neighbour.dead:
            self.output(neighbour.addr, neighbour.dev, packet)
        elif self.neigh_event_send(neighbour, packet):
            neighbour.output(packet)

    def neigh_event_send(self, neighbour: Neighbour, packet: Packet | None) -> bool:
        """Use ``neighbour`` for ``packet``: True if it can go now, else it was kept, or lost with its reason."""
        neighbour.used = self.net.now
        neighbour.learned = False
        was = neighbour.nud_state
        self.neigh_event(neighbour, Event.USED)
        if neighbour.nud_state & NUD_VALID != 0:
            return True
        if packet is not None:
            self._enqueue(neighbour, packet)
        if was != NUD_INCOMPLETE:
            neighbour.probes = neighbour.parms().ucast_solicit
            self._probe_or_give_up(neighbour)
        return False

    def confirm(self, addr: i64, dev: NetDevice) -> None:
        """TCP or UDP made progress through next hop ``addr`` (dst_confirm_neigh). Nothing if it is unknown."""
        neighbour = self._entries.get((dev.ifindex << 32) | addr)
        if neighbour is not None:
            neighbour.confirm()

    # -- looking up and learning

    def neigh_lookup(self, addr: i64, dev: NetDevice) -> Neighbour | None:
        """The entry, if there is one; counts lookups and hits, which Linux does here and not on the way out."""
        neighbour = self._entries.get((dev.ifindex << 32) | addr)
        self.net.mib.neigh.lookups += 1
        if neighbour is not None:
            self.net.mib.neigh.hits += 1
        return neighbour

    def neigh_create(self, addr: i64, dev: NetDevice, learned: bool = False) -> Neighbour | None:
        """A new entry in state NONE, None if the table is full; ``learned``: a stranger's packet is the reason."""
        if not self.collector.make_room(learned):
            return None
        neighbour = self.neigh_insert(addr, dev)
        neighbour.learned = learned
        self.collector.wake()
        return neighbour

    def nud_state(self, addr: i64, dev: NetDevice) -> i64:
        """NUD_* of the entry, NUD_NONE if there is none: for the choice among gateways. Counts no lookup."""
        neighbour = self._entries.get((dev.ifindex << 32) | addr)
        return NUD_NONE if neighbour is None else neighbour.nud_state

    def neigh_update(self, neighbour: Neighbour, lladdr: i64, solicited: bool, override: bool = False) -> bool:
        """A packet says that ``neighbour`` is at ``lladdr`` (neigh_update); False if it is not believed.

        ``solicited``: it answers a question of ours. ``override``: believe another address even within locktime.
        """
        valid = neighbour.nud_state & NUD_VALID != 0
        if neighbour.nud_state & NUD_ADMIN != 0 or neighbour.dead:
            return False
        moved = valid and lladdr != neighbour.lladdr
        # "If several different ARP replies follow back-to-back, use the FIRST one" (arp_process).
        locked_until = neighbour.updated + neighbour.parms().locktime_cs * 10 * NSEC_PER_MSEC
        if moved and not override and self.net.now <= locked_until:
            if self.net.tracer is not None:
                self._tell_update(self.net.tracer, neighbour, neighbour.nud_state, lladdr, "not believed: locktime")
            return False
        if not valid or moved:
            self._set_lladdr(neighbour, lladdr)
        was = neighbour.nud_state
        if solicited:
            self.neigh_event(neighbour, Event.SOLICITED_REPLY)
        else:
            self.neigh_event(neighbour, Event.MOVED if moved else Event.OTHER_REPLY)
        if self.net.tracer is not None:
            self._tell_update(self.net.tracer, neighbour, was, lladdr, "answers us" if solicited else "learned")
        if moved and neighbour.nud_state == was:
            self.net.rtnl_notify(RTM_NEWNEIGH, neighbour)
        if not valid:
            self._send_queued(neighbour)
        return True

    def _tell_update(self, tracer: Tracer, neighbour: Neighbour, was: i64, lladdr: i64, how: str) -> None:
        """To the journey of the packet that says so."""
        tracer.here(Point.NEIGH_UPDATE, how, update_facts(neighbour, was, lladdr))

    def neigh_event(self, neighbour: Neighbour, event: i64) -> None:
        """Let ``event`` happen: the table's next state, with its timer."""
        state = after(neighbour.nud_state, event)
        if state != neighbour.nud_state:
            self._enter(neighbour, state)

    # -- the administrator

    def neigh_add(self, addr: i64, dev: NetDevice, lladdr: i64, state: i64 = NUD_PERMANENT) -> Neighbour:
        """Set an entry, new or not (ip neigh replace). As neigh_set; ENOBUFS if the table is full of what must stay."""
        check_state(state)
        neighbour = self._entries.get((dev.ifindex << 32) | addr)
        if neighbour is None:
            neighbour = self.neigh_alloc(addr, dev, state & NUD_PERMANENT != 0)
        self.neigh_set(neighbour, lladdr, state)
        return neighbour

    def neigh_alloc(self, addr: i64, dev: NetDevice, exempt: bool) -> Neighbour:
        """A new entry to be set by hand; ``exempt``: one that does not count against gc_thresh*. ENOBUFS."""
        neighbour = self.neigh_insert(addr, dev) if exempt else self.neigh_create(addr, dev)
        if neighbour is None:
            raise error(errno.ENOBUFS)
        return neighbour

    def neigh_set(self, neighbour: Neighbour, lladdr: i64, state: i64, override: bool = True) -> None:
        """The administrator's word (__neigh_update with NEIGH_UPDATE_F_ADMIN): any one state, or NUD_NONE.

        ``lladdr`` NO_LLADDR: as it is. Another one than known counts only with ``override``. Raises EINVAL where the
        state needs an address and none is known, with the kernel's words; and for several states at once, which Linux
        lets pass.
        """
        check_state(state)
        if state & NUD_VALID == 0:
            self._set_invalid(neighbour, state)
            return
        valid = neighbour.nud_state & NUD_VALID != 0
        if lladdr == NO_LLADDR:
            if not valid:
                raise OSError(errno.EINVAL, "No link layer address given")
            lladdr = neighbour.lladdr
        moved = not valid or lladdr != neighbour.lladdr
        refused = valid and moved and not override
        if moved and not refused:
            self._set_lladdr(neighbour, lladdr)
        if state & NUD_CONNECTED != 0:
            neighbour.confirmed = self.net.now
        if refused:
            return
        if state != neighbour.nud_state:
            self._set_state(neighbour, state)
        elif moved:
            self.net.rtnl_notify(RTM_NEWNEIGH, neighbour)
        if not valid:
            self._send_queued(neighbour)

    def _set_state(self, neighbour: Neighbour, state: i64) -> None:
        """_enter, with the timer that a state set by hand gets: at once, but for REACHABLE's."""
        self._count_exempt(neighbour, -1)
        self._enter(neighbour, state)
        self._count_exempt(neighbour, 1)
        if state & (NUD_DELAY | NUD_ASKING) != 0:
            self.net.timers.mod_timer(neighbour, self.net.now)
        if state == NUD_DELAY:
            self.net.rtnl_notify(RTM_NEWNEIGH, neighbour)

    def _set_invalid(self, neighbour: Neighbour, state: i64) -> None:
        """A state without an address; FAILED fails what waits. Told if there was an address, or a question."""
        was = neighbour.nud_state
        self._count_exempt(neighbour, -1)
        self.net.timers.del_timer(neighbour)
        neighbour.nud_state = state
        self._count_exempt(neighbour, 1)
        if state == NUD_INCOMPLETE and was != NUD_INCOMPLETE:
            neighbour.probes = neighbour.parms().ucast_solicit
            self.net.timers.mod_timer(neighbour, self.net.now)  # Linux never asks, and its packets wait for ever
        failed = was & NUD_ASKING != 0 and state == NUD_FAILED
        if failed:
            self._invalidate(neighbour)
        if was & NUD_VALID != 0 or failed:
            self.net.rtnl_notify(RTM_NEWNEIGH, neighbour)

    def set_flags(self, neighbour: Neighbour, flags: i64) -> None:
        """NTF_*: which may take it from the collector, or give it to it."""
        self._count_exempt(neighbour, -1)
        neighbour.flags = flags
        self._count_exempt(neighbour, 1)

    def neigh_delete(self, addr: i64, dev: NetDevice) -> bool:
        """Forget an entry; what waits for it fails (ip neigh del). False if there is none."""
        neighbour = self._entries.get((dev.ifindex << 32) | addr)
        if neighbour is None:
            return False
        self._set_invalid(neighbour, NUD_FAILED)
        self.neigh_remove_one(neighbour, Reason.NEIGH_FAILED)
        return True

    def neigh_ifdown(self, dev: NetDevice) -> None:
        """``dev`` goes down or away: forget everything on it and lose what waits (neigh_ifdown)."""
        self._noarp.pop(dev.ifindex, None)
        self._flush_dev(dev, False)
        self.proxies.pneigh_ifdown(dev)

    def neigh_carrier_down(self, dev: NetDevice) -> None:
        """``dev`` has lost its link: what was set by hand holds on (neigh_carrier_down)."""
        self._flush_dev(dev, True)
        self.proxies.pneigh_ifdown(dev, True)

    def neigh_changeaddr(self, dev: NetDevice) -> None:
        """``dev`` has another link-layer address: every cached header is wrong (neigh_changeaddr)."""
        mapped = self._noarp.get(dev.ifindex)
        if mapped is not None:
            self._set_lladdr(mapped, dev.mac)
        self._flush_dev(dev, False)

    def entries(self) -> list[Neighbour]:
        """All entries, oldest first, for those who show them."""
        return list(self._entries.values())

    @property
    def gc_entries(self) -> i64:
        """Entries that count against gc_thresh1, 2 and 3: all but those set by hand."""
        count: i64 = len(self._entries)
        return count - self.exempt_entries

    # -- time

    def neigh_timer_handler(self, neighbour: Neighbour) -> None:
        """An entry's own timer (neigh_timer_handler)."""
        if self.net.tracer is not None:
            self.net.tracer.call(Point.NEIGH_TIMER_HANDLER, "", neigh_facts(neighbour))
        event: i64 = Event.TIMEOUT
        now = self.net.now
        if neighbour.nud_state == NUD_REACHABLE:
            still = neighbour.confirmed + self.reachable_time(neighbour.parms())
            if now < still:
                self.net.timers.mod_timer(neighbour, still)
                return
            if now <= neighbour.used + neighbour.parms().delay_first_probe_time * NSEC_PER_SEC:
                event = Event.TIMEOUT_IN_USE
        self.neigh_event(neighbour, event)
        if neighbour.nud_state & NUD_ASKING != 0:
            self._probe_or_give_up(neighbour)

    def reachable_time(self, parms: NeighParms) -> i64:
        """How long a confirmation holds: base_reachable_time times 0.5 to 1.5 (neigh_rand_reach_time)."""
        base = parms.base_reachable_time_ms
        if base != parms.drawn_for or self.net.now - parms.drawn_at > RAND_INTERVAL:
            parms.drawn_for = base
            parms.drawn_at = self.net.now
            parms.reachable_time = (self.net.entropy.below(max(base, 1)) + (base >> 1)) * NSEC_PER_MSEC
        return parms.reachable_time

    def waiting(self) -> list[Packet]:
        """Every packet that waits here: for an address, or for the right moment to answer."""
        packets = self.proxies.waiting()
        for neighbour in self._entries.values():
            packets.extend(neighbour.arp_queue)
        return packets

    # -- inside

    def neigh_insert(self, addr: i64, dev: NetDevice) -> Neighbour:
        """A new entry whatever the thresholds say: what is set by hand does not count."""
        neighbour = Neighbour(self, addr, dev)
        self._entries[(dev.ifindex << 32) | addr] = neighbour
        self.net.mib.neigh.allocs += 1
        return neighbour

    def neigh_remove_one(self, neighbour: Neighbour, reason: Reason) -> None:
        """Take it out of the table (neigh_mark_dead, neigh_destroy); what waits is lost for ``reason``."""
        del self._entries[(neighbour.dev.ifindex << 32) | neighbour.addr]
        self._count_exempt(neighbour, -1)
        self.net.timers.del_timer(neighbour)
        self.net.rtnl_notify(RTM_DELNEIGH, neighbour)
        neighbour.dead = True
        neighbour.nud_state = NUD_NONE
        self.net.mib.neigh.destroys += 1
        for packet in self._take_queue(neighbour):
            self.net.drop(packet, reason)

    def _flush_dev(self, dev: NetDevice, skip_perm: bool) -> None:
        for neighbour in self.entries():
            if neighbour.dev is dev and not (skip_perm and neighbour.nud_state & NUD_PERMANENT != 0):
                self.neigh_remove_one(neighbour, Reason.NEIGH_DEAD)

    def _count_exempt(self, neighbour: Neighbour, by: i64) -> None:
        if neighbour.exempt:
            self.exempt_entries += by

    def _noarp_neighbour(self, dev: NetDevice) -> Neighbour:
        """One for all addresses behind a loopback or NOARP device (Linux keys it by INADDR_ANY)."""
        neighbour = self._noarp.get(dev.ifindex)
        if neighbour is None:
            neighbour = self._mapped(0, dev, dev.mac)
            self._noarp[dev.ifindex] = neighbour
        return neighbour

    def _mapped(self, addr: i64, dev: NetDevice, lladdr: i64) -> Neighbour:
        neighbour = Neighbour(self, addr, dev)
        neighbour.nud_state = NUD_NOARP
        self._set_lladdr(neighbour, lladdr)
        return neighbour

    def _set_lladdr(self, neighbour: Neighbour, lladdr: i64) -> None:
        neighbour.lladdr = lladdr
        neighbour.hh = header(lladdr, neighbour.dev.mac, ETH_P_IP)
        neighbour.updated = self.net.now
        # not heard of for longer than any reachable time; _enter knows better where it is
        neighbour.confirmed = self.net.now - 2 * neighbour.parms().base_reachable_time_ms * NSEC_PER_MSEC

    def _enter(self, neighbour: Neighbour, state: i64) -> None:
        """Take up ``state`` with its timer; INCOMPLETE and PROBE get theirs with the question (_probe_or_give_up)."""
        now = self.net.now
        neighbour.nud_state = state
        neighbour.updated = now
        if state == NUD_PROBE:
            neighbour.probes = 0
        if state & NUD_CONNECTED != 0:
            neighbour.confirmed = now
        if state == NUD_REACHABLE:
            self.net.timers.mod_timer(neighbour, now + self.reachable_time(neighbour.parms()))
        elif state == NUD_DELAY:
            delay = max(neighbour.parms().delay_first_probe_time, 0)
            self.net.timers.mod_timer(neighbour, now + delay * NSEC_PER_SEC)
        else:
            self.net.timers.del_timer(neighbour)
        if state & _UNTOLD == 0:
            self.net.rtnl_notify(RTM_NEWNEIGH, neighbour)

    def _probe_or_give_up(self, neighbour: Neighbour) -> None:
        """Ask once more (neigh_probe), or after the last question without an answer fail."""
        parms = neighbour.parms()
        limit = parms.ucast_solicit + parms.app_solicit
        limit += parms.mcast_resolicit if neighbour.nud_state == NUD_PROBE else parms.mcast_solicit
        if neighbour.probes >= limit:
            self._fail(neighbour)
            return
        retrans = max(parms.retrans_time_ms * NSEC_PER_MSEC, MIN_RETRANS)
        self.net.timers.mod_timer(neighbour, self.net.now + retrans)
        self.solicitor.solicit(neighbour, neighbour.arp_queue[-1] if neighbour.arp_queue else None)
        neighbour.probes += 1

    def _fail(self, neighbour: Neighbour) -> None:
        """Nobody answered."""
        self.neigh_event(neighbour, Event.GAVE_UP)
        self._invalidate(neighbour)

    def _invalidate(self, neighbour: Neighbour) -> None:
        """Each packet that waits ends with the ICMP error its reason calls for (neigh_invalidate)."""
        self.net.mib.neigh.res_failed += 1
        for packet in self._take_queue(neighbour):
            self.net.drop(packet, Reason.NEIGH_FAILED)

    def _enqueue(self, neighbour: Neighbour, packet: Packet) -> None:
        """Keep ``packet``; the oldest must go while more than unres_qlen_bytes would wait (__neigh_event_send)."""
        size = packet.truesize
        limit = neighbour.parms().unres_qlen_bytes
        while neighbour.arp_queue and neighbour.arp_queue_len_bytes + size > limit:
            oldest = neighbour.arp_queue.pop(0)
            neighbour.arp_queue_len_bytes -= oldest.truesize
            self.queued -= 1
            self.net.drop(oldest, Reason.NEIGH_QUEUEFULL)
        neighbour.arp_queue.append(packet)
        neighbour.arp_queue_len_bytes += size
        self.queued += 1
        if packet.journey is not None:
            state = state_name(neighbour.nud_state)
            packet.journey.step(Point.NEIGH_EVENT_SEND, f"queued: neighbour {state}", queue_facts(neighbour))
            packet.journey.patience = RESOLUTION

    def _take_queue(self, neighbour: Neighbour) -> list[Packet]:
        """Empty the queue before anything is done with it: a drop's ICMP error may want the same neighbour again."""
        taken = neighbour.arp_queue
        neighbour.arp_queue = []
        neighbour.arp_queue_len_bytes = 0
        self.queued -= len(taken)
        return taken

    def _send_queued(self, neighbour: Neighbour) -> None:
        for packet in self._take_queue(neighbour):
            if packet.journey is not None:
                facts = neigh_facts(neighbour)
                packet.journey.step(Point.NEIGH_UPDATE_PROCESS_ARP_QUEUE, "its address is known now", facts)
                packet.journey.patience = PATIENCE
            neighbour.output(packet)


def check_state(state: i64) -> None:
    """EINVAL for anything but one state or none."""
    if state & ~0xFF != 0 or state & (state - 1) != 0:
        raise error(errno.EINVAL)
