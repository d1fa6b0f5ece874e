"""ARP: questions and answers about who has an IPv4 address (RFC 826, RFC 5227; Linux net/ipv4/arp.c).

What a packet may teach us is little, because anybody on the link can send one: it updates what we know, and makes an
entry only for who asks for one of our addresses from one of our subnets. Only the answer to a question that is out
makes a neighbour reachable.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mypy_extensions import i64

from ustack.device.core import (
    NETDEV_CHANGE,
    NETDEV_CHANGEADDR,
    NETDEV_DOWN,
    NETDEV_UNREGISTER,
    NETDEV_UP,
    NetdevNotifier,
)
from ustack.device.net_device import BROADCAST_MAC, IFF_LOOPBACK, IFF_NOARP, IFF_UP
from ustack.drop import Reason
from ustack.dst import RTN_BROADCAST, RTN_LOCAL, RTN_UNICAST
from ustack.neighbour.facts import arp_facts, arp_header_facts, neigh_facts
from ustack.neighbour.pneigh import ProxyRedo
from ustack.neighbour.states import NUD_ASKING
from ustack.neighbour.table import Neighbour, Solicitor
from ustack.net import RTM_GETNEIGH
from ustack.packet import PACKET_HOST, PACKET_OTHERHOST, Packet, PacketHandler
from ustack.timer import NSEC_PER_SEC, Timer
from ustack.trace.points import Point
from ustack.wire.arp import ARPOP_REPLY, ARPOP_REQUEST, ArpHeader, emit, parse
from ustack.wire.ethernet import ETH_HLEN, ETH_P_ARP, ETH_P_IP, header, is_valid_ether_addr
from ustack.wire.octets import u32

if TYPE_CHECKING:
    from ustack.device.core import Devices
    from ustack.device.net_device import NetDevice
    from ustack.neighbour.table import ArpRoute, NeighbourTable
    from ustack.net import Net

# RFC 5227 section 1.1
ANNOUNCE_NUM: Final = 2
ANNOUNCE_INTERVAL: Final[i64] = 2 * NSEC_PER_SEC
DEFEND_INTERVAL: Final[i64] = 10 * NSEC_PER_SEC

_RT_SCOPE_LINK: Final = 253
_RT_SCOPE_HOST: Final = 254

# what has become of a packet
_IGNORED: Final = 0
_CONSUMED: Final = 1  #: looked at, and no more
_KEPT: Final = 2  #: it waits to be looked at again, or was dropped for want of room there
_ANSWERED: Final = 3
_CLAIMED: Final = 4  #: somebody else says that an address of ours is his
_OUTCOMES: Final = ("none of our business", "taken", "to be looked at again", "answered", "an address of ours claimed")

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


class Arp(PacketHandler, Solicitor, ProxyRedo):
    """ARP of one stack: the packet type's handler, and the neighbour table's voice."""

    def __init__(self, net: Net, devices: Devices, table: NeighbourTable) -> None:
        """Becomes the table's solicitor; whoever wires the floors registers it for ETH_P_ARP."""
        self.net: Net = net
        self.devices: Devices = devices
        self.table: NeighbourTable = table
        self._defended: dict[int, int] = {}  # our own addresses: when each was last defended (ns)
        table.solicitor = self
        table.proxies.redo = self
        devices.register_netdevice_notifier(ArpNetdev(self))

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
        if packet.journey is not None:
            packet.journey.step(Point.ARP_RCV, "", arp_header_facts(arp), dev.name)
        if arp.op != ARPOP_REQUEST and arp.op != ARPOP_REPLY:
            return self.net.drop(packet, Reason.ARP_IGNORED)
        self._finish(packet, self._process(packet, dev, arp, False))

    def proxy_redo(self, packet: Packet) -> None:
        """A question that was to wait has waited: the world may be another by now (parp_redo)."""
        dev = packet.dev
        arp = parse(packet.buf, packet.data, packet.end)
        assert dev is not None and arp is not None
        if self.net.tracer is not None:
            self.net.tracer.resume(packet.journey)
        self._finish(packet, self._process(packet, dev, arp, True))

    def _finish(self, packet: Packet, outcome: i64) -> None:
        if packet.journey is not None:
            packet.journey.step(Point.ARP_PROCESS, _OUTCOMES[outcome])
        if outcome == _IGNORED:
            self.net.drop(packet, Reason.ARP_IGNORED)
        elif outcome != _KEPT:
            self.net.deliver(packet)

    def _process(self, packet: Packet, dev: NetDevice, arp: ArpHeader, redone: bool) -> i64:
        """arp_process: what has become of ``packet``."""
        if self._is_refused(dev, arp):
            return _IGNORED
        if arp.spa == 0:
            return self._answer_probe(dev, arp)
        if self._conflict(dev, arp):
            return _CLAIMED
        if arp.op == ARPOP_REQUEST:
            route = self.table.oracle.route_input(packet, dev, arp.spa, arp.tpa)
            if route is not None and route.rt_type == RTN_LOCAL:
                if self._keeps_silent(dev, arp):
                    return _CONSUMED
                self._learn(dev, arp)
                return self._answer(dev, arp)
            if route is not None and self._is_proxy(dev, arp, route):
                return self._answer_for(packet, dev, arp, redone)
        return _CONSUMED if self._update(packet, dev, arp) else _IGNORED

    def _is_refused(self, dev: NetDevice, arp: ArpHeader) -> bool:
        """What is not even looked at: an echo of our own voice (a hub's reflection, a bridge's loop), addresses that no
        link can have, and gratuitous ARP where it is unwanted ("these packets are attacks")."""
        localnet = dev.in_dev.route_localnet()
        if arp.sha == dev.mac or is_special(arp.tpa, localnet) or is_special(arp.spa, localnet):
            return True
        return arp.spa == arp.tpa and dev.in_dev.drop_gratuitous_arp()

    def _answer_probe(self, dev: NetDevice, arp: ArpHeader) -> i64:
        """RFC 5227 2.1.1 probe: somebody wants to use ``tpa``. If it is ours, say so; there is nothing to learn."""
        if arp.op != ARPOP_REQUEST or self.table.oracle.inet_addr_type(arp.tpa) != RTN_LOCAL:
            return _IGNORED
        return _CONSUMED if self._arp_ignore(dev, 0, arp.tpa) else self._answer(dev, arp)

    def _answer(self, dev: NetDevice, arp: ArpHeader) -> i64:
        self.arp_send(ARPOP_REPLY, dev, arp.tpa, arp.spa, arp.sha, arp.sha)
        return _ANSWERED

    # -- whom we answer

    def _keeps_silent(self, dev: NetDevice, arp: ArpHeader) -> bool:
        """Whether the settings forbid an answer for an address of ours."""
        if self._arp_ignore(dev, arp.spa, arp.tpa):
            return True
        return dev.in_dev.arp_filter() and self._arp_filter(dev, arp.spa, arp.tpa)

    def _arp_ignore(self, dev: NetDevice, sip: i64, tip: i64) -> bool:
        """arp_ignore: 1, ``tip`` must be on ``dev``; 2, and in the same subnet as ``sip``; 3, not of scope host;
        8, never. 4 to 7 are reserved, and all else is 0: any address of ours is answered for on any device."""
        mode = dev.in_dev.arp_ignore()
        oracle = self.table.oracle
        if mode == 1:
            return oracle.inet_confirm_addr(dev, 0, tip, _RT_SCOPE_HOST) == 0
        if mode == 2:
            return oracle.inet_confirm_addr(dev, sip, tip, _RT_SCOPE_HOST) == 0
        if mode == 3:
            return oracle.inet_confirm_addr(None, 0, tip, _RT_SCOPE_LINK) == 0
        return mode == 8

    def _arp_filter(self, dev: NetDevice, sip: i64, tip: i64) -> bool:
        """arp_filter: only the device that we would answer ``sip`` by speaks for ``tip``."""
        out = self.table.oracle.route_output(sip, tip)
        if out is not None and out is not dev:
            self.net.mib.tcpext.ArpFilter += 1
        return out is not dev

    # -- proxies

    def _is_proxy(self, dev: NetDevice, arp: ArpHeader, route: ArpRoute) -> bool:
        """Whether a router answers for ``tpa``, which lies behind another device (arp_process)."""
        if not dev.in_dev.forward() or route.rt_type != RTN_UNICAST:
            return False
        if route.dev is dev:
            # arp_fwd_pvlan (RFC 3069): hosts that hear us and not each other. "Don't reply on self probes"
            return arp.spa != arp.tpa and dev.in_dev.proxy_arp_pvlan()
        return self._arp_fwd_proxy(dev, route.dev) or self.table.proxies.pneigh_lookup(arp.tpa, dev) is not None

    def _arp_fwd_proxy(self, dev: NetDevice, out: NetDevice) -> bool:
        """proxy_arp, unless both devices are on one medium: there the host answers for itself."""
        if not dev.in_dev.proxy_arp():
            return False
        medium = dev.in_dev.cnf.medium_id
        if medium == 0:
            return True
        if medium == -1:
            return False
        other = out.in_dev.cnf.medium_id
        return other != medium and other != -1

    def _answer_for(self, packet: Packet, dev: NetDevice, arp: ArpHeader, redone: bool) -> i64:
        """Answer for somebody else: at once who asked us alone, others later, so that the host itself comes first."""
        self._learn(dev, arp)
        if not redone and packet.pkt_type != PACKET_HOST and dev.in_dev.arp_parms.proxy_delay_cs > 0:
            self.table.proxies.pneigh_enqueue(packet, dev)
            return _KEPT
        return self._answer(dev, arp)

    # -- what we learn

    def _learn(self, dev: NetDevice, arp: ArpHeader) -> None:
        """A question for us: who asks is about to talk to us, so an entry is made, STALE (neigh_event_ns).

        A full table does not keep us from answering, and who is not on the link, or claims to be all of it, is
        answered and not remembered.
        """
        neighbour = self.table.neigh_lookup(arp.spa, dev)
        if neighbour is None and is_on_link(dev, arp.spa) and self._may_be_one(arp.spa):
            neighbour = self._create(dev, arp.spa)
        if neighbour is not None:
            self.table.neigh_update(neighbour, arp.sha, solicited=False)

    def _may_be_one(self, addr: i64) -> bool:
        """Not a broadcast address: packets to it must not end with one station."""
        return self.table.oracle.inet_addr_type(addr) != RTN_BROADCAST

    def _create(self, dev: NetDevice, addr: i64) -> Neighbour | None:
        neighbour = self.table.neigh_create(addr, dev, learned=True)
        if neighbour is None:
            self.net.mib.neigh.table_fulls += 1
        return neighbour

    def _update(self, packet: Packet, dev: NetDevice, arp: ArpHeader) -> bool:
        """Not a question for us: it may update what we know, and creates nothing unless arp_accept says so."""
        accept = self._arp_accept(dev, arp.spa)
        gratuitous = is_garp(arp)
        neighbour = self.table.neigh_lookup(arp.spa, dev)
        tells = accept and (gratuitous or arp.op == ARPOP_REPLY)
        if neighbour is None and tells and self.table.oracle.inet_addr_type(arp.spa) == RTN_UNICAST:
            neighbour = self._create(dev, arp.spa)
        if neighbour is None:
            return False
        # "Broadcast replies and request packets do not assert neighbour reachability" (arp_process); nor does a reply
        # that nobody asked for.
        unicast_reply = arp.op == ARPOP_REPLY and packet.pkt_type == PACKET_HOST
        asked = neighbour.nud_state & NUD_ASKING != 0 and arp.tpa == neighbour.asked_from
        return self.table.neigh_update(neighbour, arp.sha, unicast_reply and asked, accept and gratuitous)

    def _arp_accept(self, dev: NetDevice, sip: i64) -> bool:
        """arp_accept: 1, whoever tells of itself is remembered; 2, if it is in one of the subnets of ``dev``."""
        mode = dev.in_dev.arp_accept()
        if mode == 2:
            return self.table.oracle.inet_confirm_addr(dev, sip, 0, _RT_SCOPE_LINK) != 0
        return mode == 1

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
        """arp_solicit: the first ucast_solicit questions go to its last known address, the next app_solicit ones to a
        program that resolves addresses, the others to everybody."""
        source = self._announced_source(neighbour, packet)
        if source == 0:
            source = self.table.oracle.select_source(neighbour.dev, neighbour.addr)
        neighbour.asked_from = source
        to: i64 = BROADCAST_MAC
        asked = neighbour.probes - neighbour.parms().ucast_solicit
        if asked < 0:
            to = neighbour.lladdr
        elif asked < neighbour.parms().app_solicit:
            self.net.rtnl_notify(RTM_GETNEIGH, neighbour)
            return
        tracer = self.net.tracer
        if tracer is not None:
            whom = "everybody is asked" if to == BROADCAST_MAC else "it is asked where it was last"
            tracer.note(Point.ARP_SOLICIT, whom, neigh_facts(neighbour))
        if tracer is None or packet is None or packet.journey is None:
            self.arp_send(ARPOP_REQUEST, neighbour.dev, source, neighbour.addr, to, 0)
            return
        # asked for the sake of the packet that waits
        current = tracer.current
        tracer.current = packet.journey
        self.arp_send(ARPOP_REQUEST, neighbour.dev, source, neighbour.addr, to, 0)
        tracer.current = current

    def _announced_source(self, neighbour: Neighbour, packet: Packet | None) -> i64:
        """The waiting packet's source, as arp_announce allows: 0, if it is ours; 1, if in a subnet together with the
        target as well; 2, never. 0 for the device's choice."""
        mode = neighbour.dev.in_dev.arp_announce()
        if packet is None or mode == 2 or packet.protocol != ETH_P_IP:
            return 0
        if packet.end - packet.network_header < _IPV4_MIN:
            return 0
        source = u32(packet.buf, packet.network_header + _IPV4_SADDR)
        if self.table.oracle.inet_addr_type(source) != RTN_LOCAL:
            return 0
        if mode == 1 and not inet_addr_onlink(neighbour.dev, neighbour.addr, source):
            return 0
        return source

    def arp_send(self, op: i64, dev: NetDevice, spa: i64, tpa: i64, dst: i64, tha: i64) -> None:
        """Send one ARP packet in a frame to ``dst``; nothing on a device without ARP (arp_send)."""
        if dev.flags & (IFF_NOARP | IFF_LOOPBACK) != 0:
            return
        packet = Packet(header(dst, dev.mac, ETH_P_ARP) + emit(op, dev.mac, spa, tha, tpa), dev)
        packet.in_dev = None
        packet.protocol = ETH_P_ARP
        packet.network_header = ETH_HLEN
        packet.transport_header = ETH_HLEN
        if self.net.tracer is not None:
            self.net.tracer.built(packet, packet.buf)
            if packet.journey is not None:
                packet.journey.step(Point.ARP_SEND, "", arp_facts(op, dev.mac, spa, tha, tpa), dev.name)
        self.devices.dev_queue_xmit(packet)

    def announce(self, dev: NetDevice, addr: i64) -> None:
        """``addr`` is new on ``dev``: tell the link, now and once more in 2 s (RFC 5227 2.3)."""
        Announcement(self, dev, addr).fire()

    def announce_once(self, dev: NetDevice, addr: i64) -> None:
        """One ARP announcement: "identical to the ARP Probe [...] except that now the sender and target IP addresses
        are both set to the host's newly selected IPv4 address" (RFC 5227 2.3)."""
        self.arp_send(ARPOP_REQUEST, dev, addr, addr, BROADCAST_MAC, 0)


class ArpNetdev(NetdevNotifier):
    """What devices do to neighbours (arp_netdev_event), and what is told of addresses then (inetdev_event)."""

    def __init__(self, arp: Arp) -> None:
        self.arp: Arp = arp

    def netdev_event(self, event: i64, dev: NetDevice) -> None:
        table = self.arp.table
        if event == NETDEV_DOWN or event == NETDEV_UNREGISTER:
            table.neigh_ifdown(dev)
        elif event == NETDEV_CHANGE:
            if self.arp.devices.flags_changed & IFF_NOARP != 0:
                table.neigh_changeaddr(dev)
            if not dev.carrier and dev.in_dev.arp_evict_nocarrier():
                table.neigh_carrier_down(dev)
        elif event == NETDEV_CHANGEADDR:
            table.neigh_changeaddr(dev)
            self.arp.net.conf.route_cache.rt_cache_flush()
        if (event == NETDEV_UP or event == NETDEV_CHANGEADDR) and dev.in_dev.arp_notify():
            self.send_gratuitous_arp(dev)

    def send_gratuitous_arp(self, dev: NetDevice) -> None:
        """inetdev_send_gratuitous_arp: all addresses of ``dev``, once."""
        if dev.flags & IFF_UP != 0:
            for address in dev.addresses:
                self.arp.announce_once(dev, address.local)


def is_special(addr: i64, localnet: bool = False) -> bool:
    """Nobody's address on a link: 127/8 but for route_localnet, multicast, class E, limited broadcast, and 0/8 but for
    0.0.0.0, "none yet"."""
    first = addr >> 24
    return (first == 127 and not localnet) or first >= 224 or (first == 0 and addr != 0)


def is_garp(arp: ArpHeader) -> bool:
    """Whether it tells of its sender and asks for nobody; a reply must name the sender as its target too."""
    return arp.spa == arp.tpa and (arp.op != ARPOP_REPLY or arp.tha == arp.sha)


def owns(dev: NetDevice, addr: i64) -> bool:
    """``addr`` is configured on ``dev``."""
    return any(address.local == addr for address in dev.addresses)


def is_on_link(dev: NetDevice, addr: i64) -> bool:
    """``addr`` lies in one of the subnets of ``dev``."""
    return inet_addr_onlink(dev, addr, addr)


def inet_addr_onlink(dev: NetDevice, a: i64, b: i64) -> bool:
    """Both lie in one of the subnets of ``dev``."""
    return any(address.matches(a) and address.matches(b) for address in dev.addresses)
