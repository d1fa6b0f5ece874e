"""A learning bridge: devices joined to one Ethernet (Linux net/bridge: br_input.c, br_forward.c, br_device.c, br_if.c).

    port's netif_receive_skb ─ br_handle_frame ─ br_fdb_update ─┬─ br_forward ─ where the station is
                                                                ├─ br_flood ─ every other port
                                                                └─ br_pass_frame_up ─ br0's netif_receive_skb
    br0's dev_queue_xmit ─ br_dev_xmit ─┬─ br_forward
                                        └─ br_flood

There is no spanning tree (BR_NO_STP, Linux's default), and multicast is flooded, as Linux does where nobody asks for
groups. Two cables between the same two bridges are a loop, in which broadcasts go round for as long as there is time.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

from mypy_extensions import i64

from ustack.device.bridge_fdb import Fdb
from ustack.device.core import (
    NETDEV_CHANGE,
    NETDEV_CHANGEADDR,
    NETDEV_CHANGEMTU,
    NETDEV_DOWN,
    NETDEV_UNREGISTER,
    NETDEV_UP,
    VLAN_HLEN,
    NetdevNotifier,
)
from ustack.device.net_device import (
    BROADCAST_MAC,
    ETH_HLEN,
    IFF_BROADCAST,
    IFF_LOOPBACK,
    IFF_MULTICAST,
    IFF_PROMISC,
    IFF_UP,
    NETIF_F_HW_CSUM,
    NETIF_F_SG,
    NETIF_F_TSO,
    NETIF_F_TSO_ECN,
    NetDevice,
    RxHandler,
)
from ustack.drop import Reason
from ustack.packet import PACKET_HOST, Packet
from ustack.sock import error
from ustack.trace.points import Point
from ustack.wire.ethernet import is_valid_ether_addr, mac_to_str
from ustack.wire.octets import u48

if TYPE_CHECKING:
    from ustack.device.core import Devices
    from ustack.net import Net

BR_MAX_PORTS: Final = 1 << 10

# struct net_bridge_port's state, as far as there is none but BR_NO_STP
BR_STATE_DISABLED: Final = 0
BR_STATE_FORWARDING: Final = 3

_GROUP_BIT: Final[i64] = 1 << 40
#: 01:80:C2:00:00:0X (IEEE 802.1D, 7.12.6): for the neighbour on the cable alone.
_LINK_LOCAL: Final[i64] = 0x0180_C200_0000
_BRIDGE_GROUP: Final = 0x0  #: 802.1D spanning tree: an Ethernet address like others where there is none
_PAUSE: Final = 0x1  #: 802.3x


class BridgePort(RxHandler):
    """struct net_bridge_port."""

    def __init__(self, bridge: Bridge, dev: NetDevice, port_no: i64) -> None:
        self.bridge: Bridge = bridge
        self.dev: NetDevice = dev
        self.port_no: i64 = port_no
        self.state: i64 = BR_STATE_DISABLED
        self.hairpin: bool = False  #: BR_HAIRPIN_MODE: also out where it came in

    def passes(self, packet: Packet) -> bool:
        return self.bridge.br_handle_frame(self, packet)


class Bridge(NetDevice):
    """br0: the bridge's own place on the Ethernet that it makes of its ports."""

    def __init__(self, devices: Devices, name: str, mac: i64) -> None:
        """``mac`` until it has ports: then the lowest of theirs, unless one is set."""
        super().__init__(name, mac)
        self.kind = "bridge"
        self.flags = IFF_BROADCAST | IFF_MULTICAST
        self.features = NETIF_F_HW_CSUM | NETIF_F_SG | NETIF_F_TSO | NETIF_F_TSO_ECN  # a port without has them done
        self.no_queue = True
        self.carrier = False
        self.operstate = "DOWN"
        self.net: Net = devices.net
        self.fdb = Fdb(self)
        self.ports: list[BridgePort] = []
        self.mac_set: bool = False  #: by hand (NET_ADDR_SET)
        self.mtu_set: bool = False  #: BROPT_MTU_SET_BY_USER
        self._devices: Devices = devices
        self._adjusting: bool = False

    # -- up and down

    def open(self) -> None:
        """br_dev_open, br_stp_enable_bridge."""
        for port in self.ports:
            self.port_carrier_check(port)
        self._port_state_selection()

    def stop(self) -> None:
        """br_dev_stop, br_stp_disable_bridge."""
        for port in self.ports:
            self.disable_port(port)

    def port_carrier_check(self, port: BridgePort) -> None:
        """A port works while it is up, has a link, and the bridge is up (br_port_carrier_check)."""
        if self.flags & IFF_UP != 0 and port.dev.flags & IFF_UP != 0 and port.dev.carrier:
            if port.state == BR_STATE_DISABLED:
                port.state = BR_STATE_FORWARDING
                self._port_state_selection()
        else:
            self.disable_port(port)

    def disable_port(self, port: BridgePort) -> None:
        """br_stp_disable_port: who was learned there is forgotten."""
        if port.state != BR_STATE_DISABLED:
            port.state = BR_STATE_DISABLED
            self.fdb.delete_by_port(port)
            self._port_state_selection()

    def _port_state_selection(self) -> None:
        """The bridge has a carrier while one of its ports works (br_port_state_selection)."""
        for port in self.ports:
            if port.state == BR_STATE_FORWARDING:
                self._devices.netif_carrier_on(self)
                return
        self._devices.netif_carrier_off(self)

    # -- ports

    def add_if(self, dev: NetDevice) -> BridgePort:
        """Make ``dev`` a port (br_add_if). EINVAL for lo and its like, ELOOP for a bridge, EBUSY, EXFULL."""
        if dev.flags & IFF_LOOPBACK != 0 or not is_valid_ether_addr(dev.mac):
            raise error(errno.EINVAL)
        if isinstance(dev, Bridge):
            raise OSError(errno.ELOOP, "Can not enslave a bridge to a bridge")
        if dev.rx_handler is not None:
            raise error(errno.EBUSY)
        port = BridgePort(self, dev, self._find_portno())
        self.ports.append(port)
        dev.rx_handler = port
        dev.master = self
        dev.promiscuity += 1
        if len(self.ports) == 1 or dev.mac < self.mac or dev.mtu < self.mtu:
            self.ports_changed()
        else:
            self.fdb.add_local(dev.mac, port)
        self.port_carrier_check(port)
        return port

    def del_if(self, port: BridgePort) -> None:
        """``port`` is a device of its own again (br_del_if)."""
        self.disable_port(port)
        self.ports.remove(port)
        port.dev.rx_handler = None
        port.dev.master = None
        port.dev.promiscuity -= 1
        self.ports_changed()

    def _find_portno(self) -> i64:
        """The lowest number that is free; 0 is for the bridge itself. EXFULL."""
        taken = {port.port_no for port in self.ports}
        for number in range(1, BR_MAX_PORTS):
            if number not in taken:
                return number
        raise error(errno.EXFULL)

    def ports_changed(self) -> None:
        """Ports have come, gone, or changed: so do the bridge's address, its MTU, and what is local."""
        self._adjusting = True
        if self.ports and not self.mac_set:
            lowest = min([int(port.dev.mac) for port in self.ports])
            if lowest != self.mac:
                self._devices.dev_set_mac_address(self, lowest)
        if self.ports and not self.mtu_set:
            self._devices.dev_set_mtu(self, min([int(port.dev.mtu) for port in self.ports]))
        self._adjusting = False
        owners: list[tuple[int, BridgePort | None]] = [(int(port.dev.mac), port) for port in self.ports]
        owners.append((int(self.mac), None))
        self.fdb.set_local(owners)

    def set_by_hand(self, mac: bool) -> None:
        """The bridge's own address, or its MTU, was changed, if not by ports_changed: there it stays."""
        if self._adjusting:
            return
        if mac:
            self.mac_set = True
        else:
            self.mtu_set = True
        self.ports_changed()

    # -- in

    def br_handle_frame(self, port: BridgePort, packet: Packet) -> bool:
        """A frame has come in at ``port``. True (RX_HANDLER_PASS): it is for the port itself; False: it was taken."""
        buf, start = packet.buf, packet.mac_header
        dst, src = u48(buf, start), u48(buf, start + 6)
        if packet.journey is not None:
            packet.journey.step(Point.BR_HANDLE_FRAME, "", self._facts(port, src, dst), port.dev.name)
        if not is_valid_ether_addr(src):
            self._lose(packet, port, Reason.MAC_INVALID_SOURCE)
            return False
        if dst & ~0xF == _LINK_LOCAL and dst & 0xF != _BRIDGE_GROUP:
            if dst & 0xF == _PAUSE:
                self._lose(packet, port, Reason.MAC_IEEE_MAC_CONTROL)
                return False
            if port.state == BR_STATE_FORWARDING:
                self._learn(packet, port, src)  # __br_handle_local_finish
            return True
        if port.state != BR_STATE_FORWARDING:
            self._lose(packet, port, Reason.BRIDGE_INGRESS_STP_STATE)
            return False
        if dst == self.mac:
            packet.pkt_type = PACKET_HOST
        self._learn(packet, port, src)
        self._br_handle_frame_finish(port, packet, dst)
        return False

    def _br_handle_frame_finish(self, port: BridgePort, packet: Packet, dst: i64) -> None:
        local_rcv = self.flags & IFF_PROMISC != 0
        if dst & _GROUP_BIT != 0:
            local_rcv = True
            if dst != BROADCAST_MAC:
                self.stats.multicast += 1
            self._br_flood(packet, port, local_rcv)
        else:
            entry = self.fdb.find(dst)
            if entry is None:
                self._br_flood(packet, port, local_rcv)
            elif entry.local:
                local_rcv = True
            else:
                entry.used = self.net.now
                self._br_forward(entry.port, packet, port, local_rcv)
        if local_rcv:
            self._br_pass_frame_up(packet)

    def _learn(self, packet: Packet, port: BridgePort, src: i64) -> None:
        what = self.fdb.update(src, port)
        if packet.journey is not None:
            facts: dict[str, str | int | bool] = {"lladdr": mac_to_str(int(src)), "port": port.dev.name}
            packet.journey.step(Point.BR_FDB_UPDATE, _FDB_WORDS[what], facts, self.name)

    def _br_pass_frame_up(self, packet: Packet) -> None:
        """The bridge itself receives it, as one of its stations."""
        self.stats.rx_packets += 1
        self.stats.rx_bytes += packet.end - packet.data
        if packet.journey is not None:
            packet.journey.step(Point.BR_PASS_FRAME_UP, "to the bridge itself", {}, self.name)
        self._devices.receive_as(packet, self)

    def _lose(self, packet: Packet, port: BridgePort, reason: Reason) -> None:
        port.dev.stats.rx_dropped += 1
        self.net.drop(packet, reason)

    def _facts(self, port: BridgePort, src: i64, dst: i64) -> dict[str, str | int | bool]:
        return {
            "bridge": self.name,
            "port": int(port.port_no),
            "src": mac_to_str(int(src)),
            "dst": mac_to_str(int(dst)),
            "state": "forwarding" if port.state == BR_STATE_FORWARDING else "disabled",
        }

    # -- out

    def start_xmit(self, packet: Packet) -> bool:
        """What the stack itself sends (br_dev_xmit)."""
        dst = u48(packet.buf, packet.mac_header)
        self.stats.tx_packets += 1
        self.stats.tx_bytes += packet.end - packet.mac_header + packet.frags_len
        entry = None if dst & _GROUP_BIT != 0 else self.fdb.find(dst)
        if packet.journey is not None:
            decision = "station unknown" if entry is None else "station known"
            packet.journey.step(Point.BR_DEV_XMIT, decision, {"dst": mac_to_str(int(dst))}, self.name)
        if entry is None:
            self._br_flood(packet, None, False)
        else:
            entry.used = self.net.now
            self._br_forward(entry.port, packet, None, False)
        return True

    def _br_forward(self, to: BridgePort | None, packet: Packet, source: BridgePort | None, local_rcv: bool) -> None:
        """To the one port where the station is, unless it came from there; with ``local_rcv`` a copy."""
        found = to is not None and self._should_deliver(to, source)
        if packet.journey is not None:
            decision = "to " + to.dev.name if found and to is not None else "no port to leave by"
            packet.journey.step(Point.BR_FORWARD, decision, {}, self.name)
        if found and to is not None:
            self._send(packet, to, not local_rcv)
        elif not local_rcv:
            self.net.drop(packet, Reason.NO_TX_TARGET)

    def _br_flood(self, packet: Packet, source: BridgePort | None, local_rcv: bool) -> None:
        """To every port but where it came from; what ``local_rcv`` leaves is for the bridge itself."""
        targets = [port for port in self.ports if self._should_deliver(port, source)]
        if packet.journey is not None:
            names = ", ".join([port.dev.name for port in targets])
            packet.journey.step(Point.BR_FLOOD, f"to {names or 'nobody'}", {"ports": len(targets)}, self.name)
        last = len(targets) - 1
        for at, port in enumerate(targets):
            self._send(packet, port, at == last and not local_rcv)
        if last < 0 and not local_rcv:
            self.net.drop(packet, Reason.NO_TX_TARGET)

    def _should_deliver(self, port: BridgePort, source: BridgePort | None) -> bool:
        return port.state == BR_STATE_FORWARDING and (port is not source or port.hairpin)

    def _send(self, packet: Packet, port: BridgePort, last: bool) -> None:
        """A copy out of ``port`` (__br_forward, br_dev_queue_push_xmit); the last one takes the packet's account along.

        Always a copy: who handed us the packet may look at it afterwards. The bytes are shared.
        """
        copy = framed(packet)
        copy.dev = port.dev
        if last:
            copy.accounted, packet.accounted = packet.accounted, False
            copy.journey, packet.journey = packet.journey, None
        elif packet.journey is not None:
            copy.journey = packet.journey.fork()
        if copy.journey is not None:
            out = port.dev.name
            decision = f"out of {out}" if last else f"a copy out of {out}"
            copy.journey.step(Point.BR_DEV_QUEUE_PUSH_XMIT, decision, {}, out)
        length = copy.end + copy.frags_len
        if copy.gso_size == 0 and length > port.dev.mtu + ETH_HLEN + VLAN_HLEN:
            self.net.drop(copy, Reason.DEV_MALFORMED)  # is_skb_forwardable
            return
        self._devices.dev_queue_xmit(copy)


class Bridges(NetdevNotifier):
    """All bridges of one stack, and what happens to their ports (net/bridge/br.c, br_if.c)."""

    def __init__(self, devices: Devices) -> None:
        self._devices: Devices = devices
        devices.register_netdevice_notifier(self)

    def br_add_bridge(self, name: str, mac: i64 = 0) -> Bridge:
        """A new one, down and without ports; ``mac`` 0: a random address. EEXIST."""
        if self._devices.by_name(name) is not None:
            raise error(errno.EEXIST)
        entropy = self._devices.net.entropy
        bridge = Bridge(self._devices, name, mac or (entropy.below(0x1_0000) << 24 | entropy.u32()) | 0x0200_0000_0000)
        bridge.mac_set = mac != 0
        self._devices.register_netdevice(bridge)
        bridge.ports_changed()
        return bridge

    def set_master(self, dev: NetDevice, master: NetDevice | None) -> None:
        """``ip link set dev master`` and ``nomaster`` (do_set_master). What Bridge.add_if raises; EOPNOTSUPP."""
        port = dev.rx_handler
        if isinstance(port, BridgePort):
            port.bridge.del_if(port)
        if isinstance(master, Bridge):
            master.add_if(dev)
        elif master is not None:
            raise error(errno.EOPNOTSUPP)

    def netdev_event(self, event: i64, dev: NetDevice) -> None:
        """br_device_event."""
        port = dev.rx_handler
        if isinstance(port, BridgePort):
            self._port_event(event, port)
        elif isinstance(dev, Bridge):
            self._bridge_event(event, dev)

    def _port_event(self, event: i64, port: BridgePort) -> None:
        if event in (NETDEV_UP, NETDEV_DOWN, NETDEV_CHANGE):
            port.bridge.port_carrier_check(port)
        elif event in (NETDEV_CHANGEADDR, NETDEV_CHANGEMTU):
            port.bridge.ports_changed()
        elif event == NETDEV_UNREGISTER:
            port.bridge.del_if(port)

    def _bridge_event(self, event: i64, bridge: Bridge) -> None:
        if event == NETDEV_CHANGEADDR:
            bridge.set_by_hand(True)
        elif event == NETDEV_CHANGEMTU:
            bridge.set_by_hand(False)
        elif event == NETDEV_UNREGISTER:
            for port in bridge.ports[:]:
                bridge.del_if(port)
            bridge.fdb.close()


#: What br_fdb_update has done, in words, by FDB_*.
_FDB_WORDS: Final = ("known", "learned", "moved here", "our own address: not learned", "table full: not learned")


def framed(packet: Packet) -> Packet:
    """A clone whose bytes begin with the link-layer header, which is how a packet is sent."""
    copy = packet.clone()
    start = packet.mac_header
    if start != 0 or packet.end != len(packet.buf):
        copy.buf = packet.buf[start : packet.end]
        copy.end = packet.end - start
        copy.network_header -= start
        copy.transport_header -= start
        copy.csum_start -= start
    copy.mac_header = copy.data = 0
    return copy
