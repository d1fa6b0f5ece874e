"""The devices of one stack, and the way in and out through them (Linux net/core/dev.c, net/sched/sch_generic.c).

    in    driver's poll ─ netif_receive_skb ─ taps ─ the handler of the EtherType
    out   dev_queue_xmit ─ validate_xmit ─ queue, if there is one ─ start_xmit ─ taps

net_rx_action is the soft interrupt: it polls the devices whose hardware has something, tells those who wait for the
end of the batch, and rings the doorbells once for everything that was sent meanwhile.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

from mypy_extensions import i64, mypyc_attr

from ustack.device.facts import (
    enqueued,
    frame_facts,
    handler_name,
    offload_facts,
    queue_facts,
    received_facts,
    validated,
)
from ustack.device.gso import csum_help, partial_fits, skb_gso_segment
from ustack.device.net_device import (
    BROADCAST_MAC,
    ETH_HLEN,
    IFF_ALLMULTI,
    IFF_MULTICAST,
    IFF_NOARP,
    IFF_PROMISC,
    IFF_RUNNING,
    IFF_UP,
    NETIF_F_HW_CSUM,
    NETIF_F_SG,
    NETIF_F_TSO,
    NETIF_F_TSO_ECN,
    NetDevice,
    dev_valid_name,
)
from ustack.drop import Reason
from ustack.net import RTM_DELLINK, RTM_NEWLINK
from ustack.packet import (
    CHECKSUM_PARTIAL,
    PACKET_BROADCAST,
    PACKET_MULTICAST,
    PACKET_OTHERHOST,
    SKB_GSO_TCP_ECN,
    Packet,
    PacketHandler,
)
from ustack.sock import error
from ustack.trace.points import Point
from ustack.wire.ethernet import ETH_P_IP, is_valid_ether_addr
from ustack.wire.octets import u16, u48

if TYPE_CHECKING:
    from ustack.net import Net
    from ustack.trace.journey import Facts

MAX_SKB_FRAGS: Final = 45  #: pieces a driver must be able to take (the most CONFIG_MAX_SKB_FRAGS allows)
VLAN_HLEN: Final = 4  #: what a frame may be longer than MTU and header before it is too long
_GROUP_BIT: Final[i64] = 1 << 40  # first bit on the wire of a hardware address: multicast or broadcast


@mypyc_attr(allow_interpreted_subclasses=True)
class PacketTap:
    """Sees every frame of every device (Linux dev_add_pack(ETH_P_ALL)): captures."""

    def frame(self, packet: Packet, outgoing: bool) -> None:
        """The frame is ``packet.buf`` from ``mac_header`` to ``end``, then its pieces; ``packet.dev`` the device."""
        raise NotImplementedError


@mypyc_attr(allow_interpreted_subclasses=True)
class Flusher:
    """Told when a batch of received frames has been worked off."""

    def flush(self) -> None:
        """What is sent now goes out with the same doorbell as the rest of the batch."""
        raise NotImplementedError


# what can happen to a device (include/linux/netdevice.h)
NETDEV_UP: Final = 1
NETDEV_DOWN: Final = 2
NETDEV_CHANGE: Final = 4  #: carrier or flags
NETDEV_REGISTER: Final = 5
NETDEV_UNREGISTER: Final = 6
NETDEV_CHANGEMTU: Final = 7
NETDEV_CHANGEADDR: Final = 8
NETDEV_GOING_DOWN: Final = 9
NETDEV_CHANGENAME: Final = 10
NETDEV_CHANGE_TX_QUEUE_LEN: Final = 11

TX_QUEUE_LEN_MAX: Final = 0xFFFF_FFFF
#: What dev_change_flags can turn beside IFF_UP.
_SETTABLE_FLAGS: Final = IFF_NOARP | IFF_MULTICAST | IFF_PROMISC | IFF_ALLMULTI


@mypyc_attr(allow_interpreted_subclasses=True)
class NetdevNotifier:
    """Told what happens to devices (struct notifier_block on netdev_chain)."""

    def netdev_event(self, event: i64, dev: NetDevice) -> None:
        """NETDEV_*: after it has happened, but for GOING_DOWN and UNREGISTER."""
        raise NotImplementedError


class Devices:
    """Registry, receive dispatch, transmit queues and polling of one stack's devices."""

    def __init__(self, net: Net) -> None:
        self.net: Net = net
        self.tx_restarts: i64 = 0  #: queues that were woken with packets in them
        self._list: list[NetDevice] = []
        self._next_ifindex: i64 = 1
        self._ptype: dict[int, PacketHandler] = {}
        self._ip: PacketHandler | None = None  # the same as _ptype[ETH_P_IP], without the hash
        self._taps: list[PacketTap] = []
        self._tapped: bool = False
        self._poll_list: list[NetDevice] = []
        self._doorbells: list[NetDevice] = []
        self._flushers: list[Flusher] = []
        self._netdev_chain: list[NetdevNotifier] = []
        self._in_softirq: bool = False
        self._opening: bool = False
        self.flags_changed: i64 = 0  #: which, while NETDEV_CHANGE is told (netdev_notifier_change_info)

    # -- registry

    def register_netdevice(self, dev: NetDevice) -> None:
        """Give ``dev`` its ifindex, counted from 1 and never used twice. ValueError if its name is taken."""
        if self.by_name(dev.name) is not None:
            raise ValueError(f"device {dev.name} exists")
        dev.ifindex = self._next_ifindex
        self._next_ifindex += 1
        dev.in_dev = self.net.conf.new_in_device()
        self._list.append(dev)
        self.call_netdevice_notifiers(NETDEV_REGISTER, dev)
        self.net.rtnl_notify(RTM_NEWLINK, dev)

    def unregister_netdevice(self, dev: NetDevice) -> None:
        """Close ``dev`` and forget it. ValueError if it is not registered."""
        self.dev_close(dev)
        self.call_netdevice_notifiers(NETDEV_UNREGISTER, dev)
        self._list.remove(dev)
        self.net.conf.forget(dev.in_dev)
        self.net.rtnl_notify(RTM_DELLINK, dev)

    def register_netdevice_notifier(self, notifier: NetdevNotifier) -> None:
        """Tell ``notifier`` from now on, after those that came before it."""
        self._netdev_chain.append(notifier)

    def call_netdevice_notifiers(self, event: i64, dev: NetDevice) -> None:
        """Tell everybody, in the order of their registration."""
        for notifier in self._netdev_chain:
            notifier.netdev_event(event, dev)

    def by_name(self, name: str) -> NetDevice | None:
        """The device called ``name`` (dev_get_by_name)."""
        for dev in self._list:
            if dev.name == name:
                return dev
        return None

    def by_index(self, ifindex: i64) -> NetDevice | None:
        """The device with that number (dev_get_by_index)."""
        for dev in self._list:
            if dev.ifindex == ifindex:
                return dev
        return None

    def all(self) -> list[NetDevice]:
        """Every device in the order it was registered."""
        return self._list[:]

    # -- up, down, and what `ip link set` changes

    def dev_open(self, dev: NetDevice) -> None:
        """Bring ``dev`` up; nothing happens if it is."""
        if dev.flags & IFF_UP == 0:
            self._open(dev)
            self._dev_notify_flags(dev, IFF_UP)

    def dev_close(self, dev: NetDevice) -> None:
        """Take ``dev`` down; what waits in its queue is dropped."""
        if dev.flags & IFF_UP != 0:
            self._close(dev)
            self._dev_notify_flags(dev, IFF_UP)

    def dev_change_flags(self, dev: NetDevice, flags: i64) -> None:
        """Have IFF_UP, NOARP, MULTICAST, PROMISC and ALLMULTI as in ``flags``; the others are not the user's."""
        changed = (dev.flags ^ flags) & (_SETTABLE_FLAGS | IFF_UP)
        dev.flags ^= changed & _SETTABLE_FLAGS
        if changed & IFF_UP != 0:
            if flags & IFF_UP != 0:
                self._open(dev)
            else:
                self._close(dev)
        if changed != 0:
            self._dev_notify_flags(dev, changed)

    def _open(self, dev: NetDevice) -> None:
        """__dev_open: what the driver finds out about its link meanwhile is told with NETDEV_UP."""
        dev.flags |= IFF_UP
        dev.queue_stopped = False
        self._opening = True
        dev.open()
        self._opening = False
        self._set_running(dev)

    def _close(self, dev: NetDevice) -> None:
        """__dev_close."""
        self.call_netdevice_notifiers(NETDEV_GOING_DOWN, dev)
        dev.flags &= ~(IFF_UP | IFF_RUNNING)
        dev.stop()
        self.napi_complete(dev)
        self._flush_queue(dev)

    def _dev_notify_flags(self, dev: NetDevice, changed: i64) -> None:
        """Tell that these flags have changed; of PROMISC and ALLMULTI rtnetlink alone (__dev_notify_flags)."""
        self.net.rtnl_notify(RTM_NEWLINK, dev)
        if changed & IFF_UP != 0:
            self.call_netdevice_notifiers(NETDEV_UP if dev.flags & IFF_UP != 0 else NETDEV_DOWN, dev)
        others = changed & ~(IFF_UP | IFF_PROMISC | IFF_ALLMULTI)
        if dev.flags & IFF_UP != 0 and others != 0:
            self.flags_changed = others
            self.call_netdevice_notifiers(NETDEV_CHANGE, dev)
            self.flags_changed = 0

    def dev_set_mtu(self, dev: NetDevice, mtu: i64) -> None:
        """A new MTU, bytes. EINVAL with the kernel's words if the device cannot (dev_validate_mtu)."""
        if mtu == dev.mtu:
            return
        if mtu < 0 or mtu < dev.min_mtu:
            raise OSError(errno.EINVAL, "mtu less than device minimum")
        if 0 < dev.max_mtu < mtu:
            raise OSError(errno.EINVAL, "mtu greater than device maximum")
        dev.mtu = mtu
        self._tell(NETDEV_CHANGEMTU, dev)

    def dev_set_mac_address(self, dev: NetDevice, mac: i64) -> None:
        """A new hardware address, also while it is up. EADDRNOTAVAIL for zero and groups (eth_mac_addr)."""
        if not is_valid_ether_addr(mac):
            raise error(errno.EADDRNOTAVAIL)
        dev.mac = mac
        self._tell(NETDEV_CHANGEADDR, dev)

    def dev_change_name(self, dev: NetDevice, name: str) -> None:
        """A new name, also while it is up. EINVAL for what is none, EEXIST for another's."""
        if name == dev.name:
            return
        if not dev_valid_name(name):
            raise error(errno.EINVAL)
        if self.by_name(name) is not None:
            raise error(errno.EEXIST)
        dev.name = name
        self._tell(NETDEV_CHANGENAME, dev)

    def dev_change_tx_queue_len(self, dev: NetDevice, length: i64) -> None:
        """How many packets wait for the hardware at most. ERANGE. What waits now stays."""
        if not 0 <= length <= TX_QUEUE_LEN_MAX:
            raise error(errno.ERANGE)
        if length != dev.tx_queue_len:
            dev.tx_queue_len = length
            self._tell(NETDEV_CHANGE_TX_QUEUE_LEN, dev)

    def netif_carrier_on(self, dev: NetDevice) -> None:
        """The driver has a link: what it lost the carrier with is known to be up."""
        self._set_carrier(dev, True)

    def netif_carrier_off(self, dev: NetDevice) -> None:
        """The driver has lost its link: nothing is sent until it is back."""
        self._set_carrier(dev, False)

    def _set_carrier(self, dev: NetDevice, carrier: bool) -> None:
        """linkwatch_do_dev and rfc2863_policy, at once; of a device that is down nobody is told."""
        if dev.carrier == carrier:
            return
        dev.carrier = carrier
        dev.operstate = "UP" if carrier else "DOWN"
        self._set_running(dev)
        if dev.flags & IFF_UP != 0 and not self._opening:
            self.call_netdevice_notifiers(NETDEV_CHANGE, dev)
            self.net.rtnl_notify(RTM_NEWLINK, dev)

    def _set_running(self, dev: NetDevice) -> None:
        """IFF_RUNNING: up, and the link as well (dev_get_flags)."""
        if dev.flags & IFF_UP != 0 and dev.carrier:
            dev.flags |= IFF_RUNNING
        else:
            dev.flags &= ~IFF_RUNNING

    def _tell(self, event: i64, dev: NetDevice) -> None:
        """rtnetlink's own notifier is the first in the chain (rtnetlink_event)."""
        self.net.rtnl_notify(RTM_NEWLINK, dev)
        self.call_netdevice_notifiers(event, dev)

    # -- protocols and taps

    def dev_add_pack(self, ethertype: i64, handler: PacketHandler) -> None:
        """``handler`` gets every frame of ``ethertype``, instead of whoever had it before."""
        self._ptype[ethertype] = handler
        if ethertype == ETH_P_IP:
            self._ip = handler

    def add_tap(self, tap: PacketTap) -> None:
        """Show ``tap`` every frame from now on."""
        self._taps.append(tap)
        self._tapped = True

    def remove_tap(self, tap: PacketTap) -> None:
        """Stop it. ValueError if it was not added."""
        self._taps.remove(tap)
        self._tapped = len(self._taps) > 0

    # -- in

    def netif_receive_skb(self, packet: Packet) -> None:
        """A frame from a driver, ``dev`` and ``mac_header`` set: to the taps and to the protocol of its EtherType.

        A frame shorter than an Ethernet header or longer than its device can carry ends here, counted as an error.
        """
        net = self.net
        dev = packet.dev
        assert dev is not None
        net.receive(packet)
        if net.tracer is not None:
            net.tracer.received(packet)
        start = packet.mac_header
        length = packet.end - start
        if length < ETH_HLEN or (length > dev.mtu + ETH_HLEN + VLAN_HLEN and packet.gso_size == 0):
            self._malformed(packet, dev)
            return
        buf = packet.buf
        ethertype = u16(buf, start + 12)
        packet.protocol = ethertype
        packet.network_header = packet.data = start + ETH_HLEN
        dst = u48(buf, start)
        if dst != dev.mac:
            self._not_to_us(packet, dev, dst)
        if self._tapped:
            self._show(packet, False)
        if packet.journey is not None:
            handled = handler_name(ethertype, ethertype in self._ptype)
            if dev.rx_handler is not None:
                handled = "to br_handle_frame"
            packet.journey.step(Point.NETIF_RECEIVE_SKB, handled, received_facts(packet), dev.name)
        if dev.rx_handler is not None and not dev.rx_handler.passes(packet):
            return
        # IEEE 802.3: up to 1500 the field is a length; those frames find no handler either
        if ethertype == ETH_P_IP and self._ip is not None:
            self._ip.handle(packet)
        else:
            self._deliver_skb(packet, dev)

    def receive_as(self, packet: Packet, dev: NetDevice) -> None:
        """A packet that came in at a port goes on as one of ``dev``, whose port that is (br_netif_receive_skb)."""
        packet.dev = packet.in_dev = dev
        if self._tapped:
            self._show(packet, False)
        self._deliver_skb(packet, dev)

    def _deliver_skb(self, packet: Packet, dev: NetDevice) -> None:
        handler = self._ptype.get(packet.protocol)
        if handler is None:
            dev.stats.rx_dropped += 1
            self.net.drop(packet, Reason.UNHANDLED_PROTO)
        else:
            handler.handle(packet)

    def _not_to_us(self, packet: Packet, dev: NetDevice, dst: i64) -> None:
        """The rest of eth_type_trans: what kind of address it is that is not ours."""
        if dst == BROADCAST_MAC:
            packet.pkt_type = PACKET_BROADCAST
        elif dst & _GROUP_BIT != 0:
            packet.pkt_type = PACKET_MULTICAST
            dev.stats.multicast += 1
        else:
            packet.pkt_type = PACKET_OTHERHOST

    def _malformed(self, packet: Packet, dev: NetDevice) -> None:
        dev.stats.rx_errors += 1
        dev.stats.rx_length_errors += 1
        self.net.drop(packet, Reason.DEV_MALFORMED)

    def _show(self, packet: Packet, outgoing: bool) -> None:
        for tap in self._taps:
            tap.frame(packet, outgoing)

    # -- out

    def dev_queue_xmit(self, packet: Packet) -> bool:
        """Send ``packet`` out of ``packet.dev``; ``packet.buf`` begins with the Ethernet header.

        True if the device or its queue took it, which ends its account as forwarded; False if it was dropped:
        DEV_DOWN, QDISC_DROP, GSO_SEG or SKB_CSUM.
        """
        dev = packet.dev
        assert dev is not None
        if self.net.tracer is not None:
            self.net.tracer.framed(packet)
            if packet.journey is not None:
                packet.journey.step(Point.DEV_QUEUE_XMIT, "", frame_facts(packet), dev.name)
        if dev.flags & IFF_UP == 0 or not dev.carrier:
            dev.stats.tx_dropped += 1
            self.net.drop(packet, Reason.DEV_DOWN)
            return False
        cut = packet.gso_size != 0 and self._needs_gso(packet, dev)
        if packet.journey is not None:
            packet.journey.step(Point.VALIDATE_XMIT_SKB, validated(packet, dev, cut), offload_facts(packet), dev.name)
        if cut:
            return self._xmit_segments(packet, dev)
        if not self._validate(packet, dev):
            return False
        return self._xmit(packet, dev)

    def _needs_gso(self, packet: Packet, dev: NetDevice) -> bool:
        """Whether ``dev`` cannot cut this super-segment itself (netif_needs_gso)."""
        features = dev.features
        if features & NETIF_F_TSO == 0 or packet.ip_summed != CHECKSUM_PARTIAL:
            return True
        if packet.gso_type & SKB_GSO_TCP_ECN != 0 and features & NETIF_F_TSO_ECN == 0:
            return True
        return packet.end + packet.frags_len - dev.hard_header_len > dev.gso_max_size

    def _validate(self, packet: Packet, dev: NetDevice) -> bool:
        """Do what the hardware cannot (validate_xmit_skb): join pieces, complete the checksum. False: dropped."""
        frags = packet.frags
        if frags is not None and (dev.features & NETIF_F_SG == 0 or len(frags) > MAX_SKB_FRAGS):
            packet.linearize()
        if packet.ip_summed != CHECKSUM_PARTIAL:
            return True
        if not partial_fits(packet):
            packet.linearize()  # hardware writes the sum into the linear part only
        if partial_fits(packet):
            if dev.features & NETIF_F_HW_CSUM == 0:
                csum_help(packet)
            return True
        dev.stats.tx_dropped += 1
        self.net.drop(packet, Reason.SKB_CSUM)
        return False

    def _xmit_segments(self, packet: Packet, dev: NetDevice) -> bool:
        """Cut a super-segment in software and send the segments; the first one inherits its account."""
        segments = skb_gso_segment(packet, dev.features & NETIF_F_HW_CSUM != 0)
        if len(segments) == 0:
            dev.stats.tx_dropped += 1
            self.net.drop(packet, Reason.GSO_SEG)
            return False
        segments[0].accounted = packet.accounted
        packet.accounted = False
        taken = False
        for segment in segments:
            taken = self._xmit(segment, dev) or taken
        packet.congested = not taken
        return taken

    def _xmit(self, packet: Packet, dev: NetDevice) -> bool:
        """Straight through if nobody waits, else into the queue (__dev_xmit_skb with TCQ_F_CAN_BYPASS)."""
        if packet.journey is not None:
            straight = dev.queue.qlen == 0 and not dev.queue_stopped
            packet.journey.step(
                Point.DEV_XMIT_SKB, "straight through" if straight else "others wait", queue_facts(dev), dev.name
            )
        if dev.queue.qlen == 0 and not dev.queue_stopped and self._start(packet, dev):
            return True
        if packet.journey is not None:
            packet.journey.step(Point.PFIFO_ENQUEUE, enqueued(dev), queue_facts(dev), dev.name)
        if dev.no_queue or not dev.queue.enqueue(packet, dev.tx_queue_len):
            dev.stats.tx_dropped += 1
            packet.congested = True
            self.net.drop(packet, Reason.QDISC_DROP)
            return False
        if packet.accounted:
            self.net.forward(packet)
        if not dev.queue_stopped:
            self._run_queue(dev)
        return True

    def _start(self, packet: Packet, dev: NetDevice) -> bool:
        """Hand ``packet`` to the hardware (xmit_one); False if it has no room."""
        if packet.journey is not None:
            taps: Facts | None = {"taps": len(self._taps)} if self._tapped else None
            packet.journey.step(Point.DEV_HARD_START_XMIT, "", taps, dev.name)
        if not dev.start_xmit(packet):
            dev.queue_stopped = True
            return False
        if packet.accounted:
            self.net.forward(packet)
        if self._tapped:
            self._show(packet, True)
        if not self._in_softirq:
            dev.xmit_flush()
        elif not dev.doorbell_due:
            dev.doorbell_due = True
            self._doorbells.append(dev)
        return True

    def _run_queue(self, dev: NetDevice) -> None:
        """Feed the device from its queue until one of them has had enough (__qdisc_run)."""
        queue = dev.queue
        while queue.qlen != 0 and not dev.queue_stopped:
            packet = queue.dequeue()
            if packet.journey is not None:
                packet.journey.step(Point.PFIFO_DEQUEUE, "its turn", queue_facts(dev), dev.name)
            if not self._start(packet, dev):
                queue.requeue(packet)
                if packet.journey is not None:
                    packet.journey.step(Point.DEV_REQUEUE_SKB, "back to the front", queue_facts(dev), dev.name)

    def _flush_queue(self, dev: NetDevice) -> None:
        while dev.queue.qlen != 0:
            dev.stats.tx_dropped += 1
            self.net.drop(dev.queue.dequeue(), Reason.DEV_DOWN)

    def netif_stop_queue(self, dev: NetDevice) -> None:
        """The driver has no room: packets wait in the queue from now on."""
        dev.queue_stopped = True

    def netif_wake_queue(self, dev: NetDevice) -> None:
        """The driver has room again: send what waits."""
        if dev.queue_stopped:
            dev.queue_stopped = False
            if dev.queue.qlen != 0:
                self.tx_restarts += 1
                self._run_queue(dev)

    # -- NAPI

    def napi_schedule(self, dev: NetDevice) -> None:
        """Have ``dev`` polled by the next net_rx_action; once, however often it asks."""
        if not dev.napi_scheduled:
            dev.napi_scheduled = True
            self._poll_list.append(dev)
            self.net.wake()

    def napi_complete(self, dev: NetDevice) -> None:
        """``dev`` is drained: no more polling until it asks again."""
        dev.napi_scheduled = False

    def pending(self) -> bool:
        """Whether net_rx_action has something to do."""
        return len(self._poll_list) != 0

    def at_softirq_end(self, flusher: Flusher) -> None:
        """Call ``flusher`` at the end of every net_rx_action, in the order of registration."""
        self._flushers.append(flusher)

    def net_rx_action(self) -> bool:
        """Poll every scheduled device once, each with a weight of dev_weight, all of them with netdev_budget.

        True if work remains: a device that used up its weight comes first next time after those that had no turn.
        """
        self._in_softirq = True
        waiting = self._poll_list
        self._poll_list = []
        budget = self.net.sysctl.netdev_budget
        again: list[NetDevice] = []
        for dev in waiting:
            if not dev.napi_scheduled:
                continue  # closed meanwhile
            if budget <= 0:
                self._poll_list.append(dev)
                continue
            weight = min(self.net.sysctl.dev_weight, budget)
            work = dev.poll(weight)
            budget -= work
            if work >= weight:
                again.append(dev)
        self._poll_list.extend(again)
        for flusher in self._flushers:
            flusher.flush()
        if self.net.tracer is not None:
            self.net.tracer.resume(None)
        self._ring_doorbells()
        self._in_softirq = False
        return len(self._poll_list) != 0

    def _ring_doorbells(self) -> None:
        for dev in self._doorbells:
            dev.doorbell_due = False
            dev.xmit_flush()
        self._doorbells.clear()
