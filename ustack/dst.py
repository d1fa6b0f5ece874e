"""Dst: a routing decision that packets and sockets carry (Linux struct dst_entry with struct rtable in one)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mypy_extensions import i64

if TYPE_CHECKING:
    from ustack.device.net_device import NetDevice
    from ustack.neighbour.table import Neighbour
    from ustack.packet import PacketHandler
    from ustack.routing.fib_types import FibInfo

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
RTN_NAT: Final = 10  #: never was; the number is taken
RTN_XRESOLVE: Final = 11
RTN_MAX: Final = 11
#: As ip-route(8) calls them.
RTN_NAMES: Final[dict[int, str]] = {
    RTN_UNICAST: "unicast",
    RTN_LOCAL: "local",
    RTN_BROADCAST: "broadcast",
    RTN_ANYCAST: "anycast",
    RTN_MULTICAST: "multicast",
    RTN_BLACKHOLE: "blackhole",
    RTN_UNREACHABLE: "unreachable",
    RTN_PROHIBIT: "prohibit",
    RTN_THROW: "throw",
    RTN_NAT: "nat",
    RTN_XRESOLVE: "xresolve",
}

#: The header has 16 bits for the length (include/net/ip.h).
IP_MAX_MTU: Final[i64] = 0xFFFF
#: No MTU makes us advertise less (bytes; route.min_adv_mss).
MIN_ADVMSS: Final[i64] = 256


# What a route's flags say of itself (RTCF_*, include/uapi/linux/in_route.h)
RTCF_DOREDIRECT: Final = 0x0100_0000
RTCF_REDIRECTED: Final = 0x0004_0000
RTCF_BROADCAST: Final = 0x1000_0000
RTCF_MULTICAST: Final = 0x2000_0000
RTCF_LOCAL: Final = 0x8000_0000

#: The generation of a Dst that was told to hold no longer (DST_OBSOLETE_KILL): no routing room ever has it.
DST_OBSOLETE_KILL: Final[i64] = -1


class Dst:
    """Where packets go and how: device, gateway, what to do on the way in and out.

    One may be shared by all destinations behind a next hop, so it has no destination of its own: ``rt_nexthop`` tells
    whom to resolve on the link. ``genid`` is compared with the routing room's to see whether it still holds
    (rt_cache_valid); a path's MTU may change while it does.
    """

    def __init__(self, rt_type: i64, dev: NetDevice, genid: i64) -> None:
        self.rt_type: i64 = rt_type
        self.dev: NetDevice = dev
        self.genid: i64 = genid
        self.gateway: i64 = 0  #: rt_gw4: whom to resolve on the link; 0: the destination itself
        self.uses_gateway: bool = False  #: that is another than the destination
        self.mtu: i64 = dev.mtu if dev.mtu < IP_MAX_MTU else IP_MAX_MTU  #: for our own packets, bytes
        self.mtu_forward: i64 = self.mtu  #: for what is forwarded, which does not go by what paths say
        self.mtu_locked: bool = False  #: nothing that comes by ICMP changes it: do not set DF (ip_mtu_locked)
        self.pmtu: i64 = 0  #: rt_pmtu: what the path says, until ``expires`` (ns); 0: nothing
        self.expires: i64 = 0
        self.advmss: i64 = 0  #: RTAX_ADVMSS, 0: from the MTU
        self.hoplimit: i64 = 0  #: RTAX_HOPLIMIT: TTL of packets whose socket has none; 0: the system's
        self.fi: FibInfo | None = None  #: whose metrics hold
        self.input: PacketHandler | None = None  #: ip_local_deliver or ip_forward; None for our own packets that leave
        self.output: PacketHandler | None = None  #: ip_output, ip_mc_output
        self.neigh: Neighbour | None = None  #: the last next hop's entry; to be used if it is the one asked for
        self.local: bool = False  #: RTCF_LOCAL: what is sent this way is for ourselves, also
        self.is_input: bool = False  #: rt_is_input_route
        self.redirected: bool = False  #: RTCF_REDIRECTED: the gateway is one that another has named

    def metric(self, which: i64) -> i64:
        """dst_metric_raw: the route's RTAX_``which``, 0 if it has none."""
        fi = self.fi
        return 0 if fi is None else fi.metric(which)

    def flags(self) -> i64:
        """rt_flags."""
        flags: i64 = RTCF_LOCAL if self.local else 0
        if self.redirected:
            flags |= RTCF_REDIRECTED
        if self.rt_type == RTN_BROADCAST:
            flags |= RTCF_BROADCAST if self.local else 0  # none where one is forwarded
        elif self.rt_type == RTN_MULTICAST:
            flags |= RTCF_MULTICAST
        return flags


def dst_metric_advmss(dst: Dst) -> i64:
    """The MSS to advertise by this way (RFC 9293 MUST-16, RFC 6691): the route's word, or what its MTU leaves."""
    return dst.advmss if dst.advmss else min(max(dst.mtu - 40, MIN_ADVMSS), IP_MAX_MTU - 40)


def rt_nexthop(dst: Dst, daddr: i64) -> i64:
    """Whom to resolve on the link for a packet to ``daddr``: the gateway, or the destination itself."""
    return dst.gateway if dst.gateway != 0 else daddr


def to_many(dst: Dst) -> bool:
    """Whether what goes this way is for more than one (RTCF_BROADCAST, RTCF_MULTICAST)."""
    return dst.rt_type == RTN_BROADCAST or dst.rt_type == RTN_MULTICAST


def ip4_dst_hoplimit(dst: Dst, default_ttl: i64) -> i64:
    """The TTL of packets whose socket has none."""
    return dst.hoplimit if dst.hoplimit != 0 else default_ttl
