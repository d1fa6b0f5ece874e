"""A host with two Ethernet links and lo, seen by its routing room alone."""

from __future__ import annotations

from ustack.device.core import Devices
from ustack.device.net_device import IFF_BROADCAST, IFF_LOOPBACK, IFF_MULTICAST, IFF_NOARP, Address, NetDevice
from ustack.net import Net
from ustack.packet import Packet, PacketHandler
from ustack.routing.route import Routing
from ustack.wire import ipv4
from ustack.wire.ethernet import ETH_P_IP
from ustack.wire.ipv4 import Ipv4Header, str_to_addr

SEED = bytes(range(16))

#: eth0's address and its link's, eth1's and its link's, somebody far away
OURS = str_to_addr("192.0.2.2")
PEER = str_to_addr("192.0.2.1")
OURS_1 = str_to_addr("198.51.100.2")
PEER_1 = str_to_addr("198.51.100.1")
FAR = str_to_addr("203.0.113.5")
BROADCAST = 0xFFFF_FFFF
LOCALHOST = str_to_addr("127.0.0.1")
ALL_HOSTS = str_to_addr("224.0.0.1")


def a(text: str) -> int:
    """``192.0.2.1`` as a number."""
    return str_to_addr(text)


class FakeDevice(NetDevice):
    """Keeps the frames it is asked to send; an Ethernet without ARP, so that nothing waits."""

    def __init__(self, name: str, mac: int, mtu: int = 1500, flags: int = IFF_BROADCAST | IFF_MULTICAST) -> None:
        super().__init__(name, mac, mtu)
        self.flags = flags | IFF_NOARP
        self.frames: list[bytes] = []
        self.packets: list[Packet] = []

    def start_xmit(self, packet: Packet) -> bool:
        self.packets.append(packet)
        whole = packet.clone()
        whole.linearize()
        self.frames.append(whole.buf[: whole.end])
        return True

    def take(self) -> list[bytes]:
        """The IPv4 packets sent since the last call."""
        frames, self.frames, self.packets = self.frames, [], []
        return [frame[14:] for frame in frames]


class Sink(PacketHandler):
    """Remembers what it is given."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.packets: list[Packet] = []

    def handle(self, packet: Packet) -> None:
        self.packets.append(packet)


class Links:
    """net, devices, routing; eth0 is 192.0.2.2/24, eth1 198.51.100.2/24, lo 127.0.0.1/8; no default route."""

    def __init__(self, loopback: bool = True) -> None:
        self.net = Net(SEED)
        self.devices = Devices(self.net)
        self.routing = Routing(self.net, self.devices)
        self.local, self.forward = Sink("local"), Sink("forward")
        self.output, self.mc_output = Sink("output"), Sink("mc_output")
        self.routing.rtable.local_deliver, self.routing.rtable.forward = self.local, self.forward
        self.routing.rtable.output, self.routing.rtable.mc_output = self.output, self.mc_output
        self.lo = FakeDevice("lo", 0, 65_536, IFF_LOOPBACK)
        if loopback:
            self.add(self.lo)
        self.eth0 = self.add(FakeDevice("eth0", 0x02_00_00_00_00_02), "192.0.2.2/24")
        self.eth1 = self.add(FakeDevice("eth1", 0x02_00_00_00_01_02), "198.51.100.2/24")

    def add(self, dev: FakeDevice, *cidrs: str) -> FakeDevice:
        """Register, open, give addresses."""
        self.devices.register_netdevice(dev)
        self.devices.dev_open(dev)
        for cidr in cidrs:
            self.routing.add_address(dev, address(cidr))
        return dev

    def route(self, cidr: str, gateway: str = "0.0.0.0", dev: NetDevice | None = None, metric: int = 0) -> None:
        """``ip route add``."""
        network, _, prefixlen = cidr.partition("/")
        self.routing.add_route(a(network), int(prefixlen), a(gateway), dev, metric)


def address(cidr: str) -> Address:
    """``192.0.2.2/24`` as a device has it."""
    local, _, prefixlen = cidr.partition("/")
    return Address(a(local), int(prefixlen))


def received(dev: NetDevice, saddr: int, daddr: int, protocol: int = 17) -> Packet:
    """A packet as ip_rcv hands it to the route lookup."""
    packet = Packet(b"", dev)
    packet.protocol = ETH_P_IP
    packet.iph = Ipv4Header(0, 20, 0, 20, 0, 0, 64, protocol, 0, saddr, daddr)
    return packet


def moved(before: dict[str, int], net: Net) -> dict[str, int]:
    """The counters that are not what they were, and by how much."""
    after = net.mib.snapshot()
    return {name: after[name] - before[name] for name in after if after[name] != before[name]}


def shown(addr: int) -> str:
    return ipv4.addr_to_str(addr)
