"""ARP: questions and answers about who has an IPv4 address (RFC 826, RFC 5227; Linux net/ipv4/arp.c).

What a packet may teach us is little, because anybody on the link can send one: it updates what we know, and makes an
entry only for who asks for one of our addresses from one of our subnets. Only the answer to a question that is out
makes a neighbour reachable.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mypy_extensions import i64

from ustack.device.net_device import BROADCAST_MAC, IFF_LOOPBACK, IFF_NOARP, IFF_UP
from ustack.drop import Reason
from ustack.dst import RTN_LOCAL, RTN_UNICAST
from ustack.neighbour.states import NUD_ASKING, NUD_PROBE
from ustack.neighbour.table import Neighbour, Solicitor
from ustack.packet import PACKET_HOST, PACKET_OTHERHOST, Packet, PacketHandler
from ustack.timer import NSEC_PER_SEC, Timer
from ustack.wire.arp import ARPOP_REPLY, ARPOP_REQUEST, ArpHeader, emit, parse
from ustack.wire.ethernet import ETH_HLEN, ETH_P_ARP, ETH_P_IP, header, is_valid_ether_addr
from ustack.wire.octets import u32

if TYPE_CHECKING:
    from ustack.device.core import Devices
    from ustack.device.net_device import NetDevice
    from ustack.neighbour.table import NeighbourTable
    from ustack.net import Net

# RFC 5227 section 1.1
ANNOUNCE_NUM: Final = 2
ANNOUNCE_INTERVAL: Final[i64] = 2 * NSEC_PER_SEC
DEFEND_INTERVAL: Final[i64] = 10 * NSEC_PER_SEC

_IPV4_MIN: Final = 20
_IPV4_SADDR: Final = 12


class Announcement(Timer):
    """RFC 5227 2.3: "broadcasting ANNOUNCE_NUM ARP Announcements, spaced ANNOUNCE_INTERVAL seconds apart"."""

    def __init__(self, arp: Arp, dev: NetDevice, addr: i64) -> None:
        super().__init__()
        self.arp: Arp = arp
        self.dev: NetDevice = dev
        self.addr: i64 = addr
        self.left: i64 = ANNOUNCE_NUM

    def fire(self) -> None:
        """The next one, unless the address has gone meanwhile."""
        if self.dev.flags & IFF_UP == 0 or not owns(self.dev, self.addr):
            return
        self.arp.announce_once(self.dev, self.addr)
        self.left -= 1
        if self.left > 0:
            self.arp.net.timers.mod_timer(self, self.arp.net.now + ANNOUNCE_INTERVAL)


class Arp(PacketHandler, Solicitor):
    """ARP of one stack: the packet type's handler, and the neighbour table's voice."""

    def __init__(self, net: Net, devices: Devices, table: NeighbourTable) -> None:
        """Becomes the table's solicitor; whoever wires the floors registers it for ETH_P_ARP."""
        self.net: Net = net
        self.devices: Devices = devices
        self.table: NeighbourTable = table
        self._defended: dict[int, int] = {}  # our own addresses: when each was last defended (ns)
        table.solicitor = self

    # -- in

    def handle(self, packet: Packet) -> None:
        """An ARP frame came in, ``data`` at its ARP header (arp_rcv); ends as delivered, or dropped and why."""
        dev = packet.dev
        if dev is None or dev.flags & (IFF_NOARP | IFF_LOOPBACK) != 0:
            return self.net.drop(packet, Reason.ARP_IGNORED)
        if packet.pkt_type == PACKET_OTHERHOST:
            return self.net.drop(packet, Reason.OTHERHOST)
        arp = parse(packet.buf, packet.data, packet.end)
        # RFC 1812 3.3.2: "A router MUST not believe any ARP reply that claims that the Link Layer address of another
        # host or router is a broadcast or multicast address."
        if arp is None or not is_valid_ether_addr(arp.sha):
            return self.net.drop(packet, Reason.ARP_INVALID)
        if arp.op != ARPOP_REQUEST and arp.op != ARPOP_REPLY:
            return self.net.drop(packet, Reason.ARP_IGNORED)
        if self._process(packet, dev, arp):
            self.net.deliver(packet)
        else:
            self.net.drop(packet, Reason.ARP_IGNORED)

    def _process(self, packet: Packet, dev: NetDevice, arp: ArpHeader) -> bool:
        """arp_process; False if the packet is none of our business."""
        # an echo of our own voice: a hub's reflection, or a bridge's loop
        if arp.sha == dev.mac or is_special(arp.tpa) or is_special(arp.spa):
            return False
        if arp.spa == 0:
            return self._answer_probe(dev, arp)
        sender = self.table.oracle.inet_addr_type(arp.spa)
        if sender == RTN_LOCAL:
            return self._conflict(dev, arp)
        if sender != RTN_UNICAST:
            return False
        if arp.op == ARPOP_REQUEST and self.table.oracle.inet_addr_type(arp.tpa) == RTN_LOCAL:
            self._learn_and_answer(dev, arp)
            return True
        return self._update(packet, dev, arp)

    def _answer_probe(self, dev: NetDevice, arp: ArpHeader) -> bool:
        """RFC 5227 2.1.1 probe: somebody wants to use ``tpa``. If it is ours, say so; there is nothing to learn."""
        if arp.op != ARPOP_REQUEST or self.table.oracle.inet_addr_type(arp.tpa) != RTN_LOCAL:
            return False
        self.arp_send(ARPOP_REPLY, dev, arp.tpa, arp.spa, arp.sha, arp.sha)
        return True

    def _learn_and_answer(self, dev: NetDevice, arp: ArpHeader) -> None:
        """A question for us: who asks is about to talk to us, so an entry is made, STALE (neigh_event_ns).

        A full table does not keep us from answering, and who is not on the link is answered and not remembered.
        """
        neighbour = self.table.neigh_lookup(arp.spa, dev)
        if neighbour is None and is_on_link(dev, arp.spa):
            neighbour = self.table.neigh_create(arp.spa, dev, learned=True)
            if neighbour is None:
                self.net.mib.neigh.table_fulls += 1
        if neighbour is not None:
            self.table.neigh_update(neighbour, arp.sha, solicited=False)
        self.arp_send(ARPOP_REPLY, dev, arp.tpa, arp.spa, arp.sha, arp.sha)

    def _update(self, packet: Packet, dev: NetDevice, arp: ArpHeader) -> bool:
        """Not a question for us: it may update what we know, and creates nothing unless arp_accept says so."""
        gratuitous = arp.op == ARPOP_REQUEST and arp.spa == arp.tpa
        accept = dev.in_dev.arp_accept() != 0 and (gratuitous or arp.op == ARPOP_REPLY) and is_on_link(dev, arp.spa)
        neighbour = self.table.neigh_lookup(arp.spa, dev)
        if neighbour is None and accept:
            neighbour = self.table.neigh_create(arp.spa, dev, learned=True)
            if neighbour is None:
                self.net.mib.neigh.table_fulls += 1
        if neighbour is None:
            return False
        # "Broadcast replies and request packets do not assert neighbour reachability" (arp_process); nor does a reply
        # that nobody asked for.
        unicast_reply = arp.op == ARPOP_REPLY and packet.pkt_type == PACKET_HOST
        asked = neighbour.nud_state & NUD_ASKING != 0 and arp.tpa == neighbour.asked_from
        return self.table.neigh_update(neighbour, arp.sha, unicast_reply and asked, accept and gratuitous)

    def _conflict(self, dev: NetDevice, arp: ArpHeader) -> bool:
        """Somebody else claims an address of ours.

        RFC 5227 2.4 (c): a host that is not to give up its address "MAY elect to defend its address indefinitely", but
        within DEFEND_INTERVAL "MUST NOT send another defensive ARP Announcement", or two such hosts flood the link.
        The claim itself is never learned, nor answered otherwise.
        """
        if not owns(dev, arp.spa) or self._is_our_mac(arp.sha):
            return False
        self.net.mib.neigh.conflicts += 1
        last = self._defended.get(arp.spa)
        if last is None or self.net.now - last >= DEFEND_INTERVAL:
            self._defended[arp.spa] = self.net.now
            self.announce_once(dev, arp.spa)
        return True

    def _is_our_mac(self, mac: i64) -> bool:
        """Two devices of ours on one link hear each other; that is no conflict."""
        return any(other.mac == mac for other in self.devices.all())

    # -- out

    def solicit(self, neighbour: Neighbour, packet: Packet | None) -> None:
        """arp_solicit: from the waiting packet's own source if that is ours (arp_announce 0), else the device's."""
        source: i64 = 0
        if packet is not None and packet.protocol == ETH_P_IP and packet.end - packet.network_header >= _IPV4_MIN:
            source = u32(packet.buf, packet.network_header + _IPV4_SADDR)
        if source == 0 or self.table.oracle.inet_addr_type(source) != RTN_LOCAL:
            source = self.table.oracle.select_source(neighbour.dev, neighbour.addr)
        neighbour.asked_from = source
        to: i64 = neighbour.lladdr if neighbour.nud_state == NUD_PROBE else BROADCAST_MAC
        self.arp_send(ARPOP_REQUEST, neighbour.dev, source, neighbour.addr, to, 0)

    def arp_send(self, op: i64, dev: NetDevice, spa: i64, tpa: i64, dst: i64, tha: i64) -> None:
        """Send one ARP packet in a frame to ``dst``; nothing on a device without ARP (arp_send)."""
        if dev.flags & (IFF_NOARP | IFF_LOOPBACK) != 0:
            return
        packet = Packet(header(dst, dev.mac, ETH_P_ARP) + emit(op, dev.mac, spa, tha, tpa), dev)
        packet.in_dev = None
        packet.protocol = ETH_P_ARP
        packet.network_header = ETH_HLEN
        packet.transport_header = ETH_HLEN
        self.devices.dev_queue_xmit(packet)

    def announce(self, dev: NetDevice, addr: i64) -> None:
        """``addr`` is new on ``dev``: tell the link, now and once more in 2 s (RFC 5227 2.3)."""
        Announcement(self, dev, addr).fire()

    def announce_once(self, dev: NetDevice, addr: i64) -> None:
        """One ARP announcement: "identical to the ARP Probe [...] except that now the sender and target IP addresses
        are both set to the host's newly selected IPv4 address" (RFC 5227 2.3)."""
        self.arp_send(ARPOP_REQUEST, dev, addr, addr, BROADCAST_MAC, 0)


def is_special(addr: i64) -> bool:
    """Nobody's address on a link: 127/8, multicast, class E, limited broadcast, and 0/8 but for 0.0.0.0, "none yet"."""
    first = addr >> 24
    return first == 127 or first >= 224 or (first == 0 and addr != 0)


def owns(dev: NetDevice, addr: i64) -> bool:
    """``addr`` is configured on ``dev``."""
    return any(address.local == addr for address in dev.addresses)


def is_on_link(dev: NetDevice, addr: i64) -> bool:
    """``addr`` lies in one of the subnets of ``dev``."""
    return any(addr & address.mask == address.network for address in dev.addresses)
