"""Dst: a routing decision that packets and sockets carry (Linux struct dst_entry with struct rtable in one)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mypy_extensions import i64

if TYPE_CHECKING:
    from ustack.device.net_device import NetDevice
    from ustack.neighbour.table import Neighbour
    from ustack.packet import PacketHandler

# Route types (include/uapi/linux/rtnetlink.h)
RTN_UNSPEC: Final = 0
RTN_UNICAST: Final = 1
RTN_LOCAL: Final = 2
RTN_BROADCAST: Final = 3
RTN_ANYCAST: Final = 4
RTN_MULTICAST: Final = 5
RTN_BLACKHOLE: Final = 6
RTN_UNREACHABLE: Final = 7
RTN_PROHIBIT: Final = 8
RTN_THROW: Final = 9


class Dst:
    """Where a packet goes and how: device, next hop, what to do on the way in and out.

    Addresses are integers in host order, ``mtu`` in bytes. Immutable once made but for ``neigh``; ``genid`` is
    compared with the routing room's to see whether it still holds (rt_cache_valid).
    """

    def __init__(self, rt_type: i64, dev: NetDevice, nexthop: i64, prefsrc: i64, mtu: i64, genid: i64) -> None:
        self.rt_type: i64 = rt_type
        self.dev: NetDevice = dev
        self.nexthop: i64 = nexthop  #: address to resolve on the link: the gateway, or the destination itself
        self.gateway: i64 = 0  #: 0 where the destination is on the link (rt_uses_gateway)
        self.prefsrc: i64 = prefsrc  #: source address for packets that have none yet
        self.mtu: i64 = mtu
        self.genid: i64 = genid
        self.advmss: i64 = 0  #: RTAX_ADVMSS, 0: from the MTU
        self.input: PacketHandler | None = None  #: ip_local_deliver or ip_forward; None for our own packets that leave
        self.output: PacketHandler | None = None  #: ip_output, ip_mc_output
        self.neigh: Neighbour | None = None  #: the entry for ``nexthop``, once looked up; not to be used when dead
        self.mtu_locked: bool = False  #: the path says an MTU below route_min_pmtu: do not set DF (RTAX_MTU locked)
        self.local: bool = False  #: RTCF_LOCAL: what is sent this way is for ourselves, also
        self.doredirect: bool = False  #: out where it came in, and the source is on that link (RTCF_DOREDIRECT)
