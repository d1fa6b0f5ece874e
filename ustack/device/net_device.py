"""NetDevice: a network interface (Linux struct net_device), and what its driver must offer (net_device_ops, NAPI)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mypy_extensions import i64, mypyc_attr

from ustack.device.queue import Pfifo
from ustack.in_device import InDevice, Ipv4Devconf

if TYPE_CHECKING:
    from ustack.packet import Packet

IFF_UP: Final = 0x1
IFF_BROADCAST: Final = 0x2
IFF_LOOPBACK: Final = 0x8
IFF_RUNNING: Final = 0x40
IFF_NOARP: Final = 0x80
IFF_PROMISC: Final = 0x100
IFF_ALLMULTI: Final = 0x200
IFF_MULTICAST: Final = 0x1000
IFF_LOWER_UP: Final = 0x10000  #: there is a carrier

# features (include/linux/netdev_features.h); the values are ours, the names Linux's
NETIF_F_HW_CSUM: Final = 0x1  #: sums what csum_start and csum_offset name
NETIF_F_RXCSUM: Final = 0x2
NETIF_F_TSO: Final = 0x4
NETIF_F_TSO_ECN: Final = 0x8
NETIF_F_SG: Final = 0x10

IFA_F_PERMANENT: Final = 0x80  #: include/uapi/linux/if_addr.h; the others stand in routing/uapi.py
_RT_SCOPE_HOST: Final = 254

IFNAMSIZ: Final = 16  #: bytes of a name with the zero at its end
BROADCAST_MAC: Final[i64] = 0xFFFF_FFFF_FFFF
ETH_HLEN: Final = 14
ETH_DATA_LEN: Final = 1500  #: default MTU, bytes
GSO_MAX_SIZE: Final = 65_536  #: largest super-segment, bytes with the IP header
#: RFC 791: "Every internet module must be able to forward a datagram of 68 octets"; 65,535 is IPv4's total length.
IPV4_MIN_MTU: Final = 68
IPV4_MAX_MTU: Final = 65_535


class DeviceStats:
    """struct rtnl_link_stats64, what ``ip -s link`` shows."""

    rx_packets: i64 = 0
    tx_packets: i64 = 0
    rx_bytes: i64 = 0
    tx_bytes: i64 = 0
    rx_errors: i64 = 0
    tx_errors: i64 = 0
    rx_dropped: i64 = 0
    tx_dropped: i64 = 0
    multicast: i64 = 0
    rx_missed_errors: i64 = 0
    rx_length_errors: i64 = 0
    tx_fifo_errors: i64 = 0


class Address:
    """One IPv4 address of a device (struct in_ifaddr), as ``ip address add`` would ask for it.

    ``broadcast`` is 0 unless it was given: that of the subnet works either way.
    """

    def __init__(
        self,
        local: i64,
        prefixlen: i64,
        peer: i64 = -1,
        broadcast: i64 = 0,
        scope: i64 = -1,
        flags: i64 = IFA_F_PERMANENT,
        priority: i64 = 0,
        label: str = "",
    ) -> None:
        """``peer`` -1: none; ``scope`` -1: host for 127/8, else universe; ``label`` "": the device's name."""
        self.local: i64 = local
        self.prefixlen: i64 = prefixlen
        self.mask: i64 = (0xFFFF_FFFF << (32 - prefixlen)) & 0xFFFF_FFFF
        self.address: i64 = local if peer < 0 else peer  #: ifa_address: the other end, else ``local`` again
        self.network: i64 = self.address & self.mask
        self.broadcast: i64 = broadcast
        self.scope: i64 = scope if scope >= 0 else _RT_SCOPE_HOST if local >> 24 == 127 else 0
        self.flags: i64 = flags  #: IFA_F_*; IFA_F_SECONDARY is set by inet_insert_ifa
        self.priority: i64 = priority  #: ifa_rt_priority: the metric of the subnet's route
        self.label: str = label
        self.dev: NetDevice | None = None  #: ifa_dev, once inserted

    def matches(self, addr: i64) -> bool:
        """Whether ``addr`` is in its subnet (inet_ifa_match)."""
        return (addr ^ self.address) & self.mask == 0

    def subnet_broadcast(self) -> i64:
        """The highest address of its subnet; 0 where there is none (RFC 3021: with 31 bits or more)."""
        return (self.network | (~self.mask & 0xFFFF_FFFF)) if self.prefixlen < 31 else 0


@mypyc_attr(allow_interpreted_subclasses=True)
class RxHandler:
    """Who takes what a device receives before any protocol does: what the device is a port of (rx_handler_func_t)."""

    def passes(self, packet: Packet) -> bool:
        """True (RX_HANDLER_PASS): go on as if nobody had looked; False (CONSUMED): the packet is taken care of."""
        raise NotImplementedError


@mypyc_attr(allow_interpreted_subclasses=True)
class NetDevice:
    """A device without hardware; drivers subclass it. MAC addresses are 48-bit integers, sizes bytes."""

    def __init__(self, name: str, mac: i64, mtu: i64 = ETH_DATA_LEN) -> None:
        self.name: str = name
        self.ifindex: i64 = 0  #: given by register_netdevice
        self.mac: i64 = mac
        self.mtu: i64 = mtu
        self.min_mtu: i64 = IPV4_MIN_MTU
        self.max_mtu: i64 = IPV4_MAX_MTU  #: 0: as large as one likes
        self.flags: i64 = 0
        self.kind: str = ""  #: rtnl_link_ops.kind, if it is of one that can be made and taken away
        self.group: i64 = 0  #: IFLA_GROUP, which a rule's suppress_ifgroup names
        self.features: i64 = 0
        self.gso_max_size: i64 = GSO_MAX_SIZE
        self.hard_header_len: i64 = ETH_HLEN
        self.tx_queue_len: i64 = 1000  #: packets
        self.paced: bool = False  #: what leaves here leaves at its pacing rate, whoever sends it (sch_fq)
        self.no_queue: bool = False  #: IFF_NO_QUEUE: what it does not take at once is lost, whatever tx_queue_len says
        self.rx_queue_frames: i64 = 0  #: frames that wait for us outside before they are lost; 0: the link pushes back
        self.stats = DeviceStats()
        self.addresses: list[Address] = []  #: in_dev->ifa_list
        self.in_dev = InDevice(Ipv4Devconf())  #: register_netdevice gives it the stack's
        self.queue = Pfifo()
        self.queue_stopped: bool = False  #: netif_queue_stopped
        self.carrier: bool = True  #: netif_carrier_ok
        self.operstate: str = "UNKNOWN"  #: RFC 2863: "UP" or "DOWN" once the driver has told of its link
        self.napi_scheduled: bool = False
        self.rx_handler: RxHandler | None = None
        self.master: NetDevice | None = None  #: the device that it is a port of (IFLA_MASTER)
        self.promiscuity: i64 = 0  #: how many want to see what is for others, beside a user with IFF_PROMISC
        self.doorbell_due: bool = False  #: start_xmit has run since the last xmit_flush

    # -- net_device_ops

    def open(self) -> None:
        """Bring the hardware up (ndo_open)."""

    def stop(self) -> None:
        """Take it down (ndo_stop); what it still holds is dropped and counted."""

    def start_xmit(self, packet: Packet) -> bool:
        """Hand a finished frame to the hardware (ndo_start_xmit).

        False is NETDEV_TX_BUSY: the packet stays ours, the driver has stopped the queue and wakes it once it has room.
        """
        raise NotImplementedError

    def xmit_flush(self) -> None:
        """Ring the doorbell for what start_xmit queued (the end of an xmit_more run)."""

    # -- NAPI

    def poll(self, budget: i64) -> i64:
        """Receive up to ``budget`` frames and reap sent ones; how many were received.

        Fewer than ``budget`` means drained: the driver has called napi_complete and let its interrupt through again.
        """
        return 0


def dev_valid_name(name: str) -> bool:
    """1 to 15 bytes without a slash, a colon or white space, and not a dot or two."""
    size = len(name.encode("utf-8", "surrogateescape"))
    return 0 < size < IFNAMSIZ and name not in (".", "..") and not any(c in "/:" or c.isspace() for c in name)
