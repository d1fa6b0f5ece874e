"""One stack on a pipe that carries bare IPv4 packets, in virtual time: the machine that scripts speak to."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from ustack.device.gso import csum_help
from ustack.device.net_device import (
    IFF_NOARP,
    NETIF_F_HW_CSUM,
    NETIF_F_SG,
    NETIF_F_TSO,
    NETIF_F_TSO_ECN,
    NetDevice,
)
from ustack.packet import CHECKSUM_PARTIAL, SKB_GSO_TCPV4, Packet
from ustack.stack import Stack
from ustack.wire.ethernet import ETH_HLEN, ETH_P_IP, header

if TYPE_CHECKING:
    from ustack.device.core import Devices

SEED: Final = b"packetdrill's own machine"
USEC: Final = 1_000
#: The addresses of scripts that name no others, as packetdrill has them.
LOCAL: Final = "192.168.0.1"
REMOTE: Final = "192.0.2.1"
#: A moment that no counter takes for "never"; the plugin's clock begins there.
START_USECS: Final = 1_700_000_000_000_000
#: Polls at one moment after which the stack is held to be going round in circles.
_MAX_ROUNDS: Final = 10_000

#: The offloads of a tun as packetdrill makes it: super-segments cross whole.
TUN_FEATURES: Final = NETIF_F_HW_CSUM | NETIF_F_SG | NETIF_F_TSO | NETIF_F_TSO_ECN


class Pipe(NetDevice):
    """``tun0``: what the stack sends is kept with its time, for whoever asks (Linux drivers/net/tun.c without NAPI).

    Inside the stack frames have their Ethernet header; here it comes off and goes on.
    """

    def __init__(self, devices: Devices) -> None:
        super().__init__("tun0", 0)
        self.flags = IFF_NOARP
        self.features = TUN_FEATURES
        self.no_queue = True
        self.devices = devices
        self.sent: deque[tuple[int, bytes]] = deque()  #: (ns, packet)
        self.arrived: deque[Packet] = deque()
        self.paced = False  #: its queue is fq, which paces every flow (net/sched/sch_fq.c)
        self.mss = 0  #: gso_size of what arrives with more, 0 for none (packetdrill's --mss)

    def set_room(self, room: bool) -> None:
        """False: a queue that takes nothing (pfifo limit 0), whose sender is told so."""
        self.tx_queue_len = 1000 if room else 0
        self.queue_stopped = not room

    def start_xmit(self, packet: Packet) -> bool:
        if packet.ip_summed == CHECKSUM_PARTIAL:
            csum_help(packet)
        self.stats.tx_packets += 1
        self.sent.append((int(self.devices.net.now), packet.buf[ETH_HLEN : packet.end] + b"".join(packet.frags or [])))
        return True

    def poll(self, budget: int) -> int:
        """Hand over what has arrived, as far as ``budget`` goes."""
        work = 0
        while work < budget and self.arrived:
            work += 1
            self.devices.netif_receive_skb(self.arrived.popleft())
        if work < budget:
            self.devices.napi_complete(self)
        return work

    def receive(self, packet: bytes) -> None:
        """A packet from outside, to be worked on in the next poll.

        A tun takes packets beyond its MTU; one such comes in as a super-segment, of one segment if not told otherwise.
        """
        arrived = Packet(header(self.mac, self.mac, ETH_P_IP) + packet, self)
        if len(packet) > self.mtu or 0 < self.mss < len(packet) - 40:
            arrived.gso_size = self.mss or len(packet) - 40
            arrived.gso_type = SKB_GSO_TCPV4
        self.arrived.append(arrived)
        self.devices.napi_schedule(self)


class Machine:
    """The stack, its pipe, its clock. Times in ns."""

    def __init__(self, local: str = LOCAL, remote: str = f"{REMOTE}/32") -> None:
        """``local``: its address, in a /16; ``remote``: what it reaches by the pipe."""
        self.stack = Stack(SEED, START_USECS * USEC)
        self.pipe = Pipe(self.stack.devices)
        self.stack.add_device(self.pipe)
        self.stack.add_address(f"{local}/16", self.pipe)
        self.stack.add_route(remote, dev=self.pipe)

    @property
    def now(self) -> int:
        return int(self.stack.net.now)

    def poll(self, now: int) -> None:
        """Everything that is due at ``now``, and what follows from it at once."""
        for _ in range(_MAX_ROUNDS):
            again = self.stack.poll(now)
            if not again and self.stack.next_deadline() > self.now:
                return
        raise RuntimeError(f"the stack is never done at {now} ns")
