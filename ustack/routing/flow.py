"""Flow: the question a route lookup answers (Linux struct flowi4)."""

from __future__ import annotations

from typing import Final

from mypy_extensions import i64

# scopes (include/uapi/linux/rtnetlink.h): how far a destination is; a larger number is nearer
RT_SCOPE_UNIVERSE: Final = 0
RT_SCOPE_SITE: Final = 200
RT_SCOPE_LINK: Final = 253
RT_SCOPE_HOST: Final = 254
RT_SCOPE_NOWHERE: Final = 255

# what of the TOS byte chooses a route (include/net/inet_dscp.h)
INET_DSCP_MASK: Final[i64] = 0xFC  #: all but the bits that became ECN's
INET_DSCP_LEGACY_TOS_MASK: Final[i64] = 0x1C  #: of them those that were TOS: routes, and rules by TOS, see only these

#: The queue that each TOS value, its precedence bits taken off, belongs in (ip_tos2prio).
_TOS2PRIO: Final = (0, 0, 0, 0, 2, 2, 2, 2, 6, 6, 6, 6, 4, 4, 4, 4)


def rt_tos2priority(tos: i64) -> i64:
    """SO_PRIORITY of what has that TOS."""
    return _TOS2PRIO[(tos >> 1) & 0xF]


class Flow:
    """Addresses and ports in host order; 0 means any, or "choose one". ``oif`` and ``iif`` are interface indices.

    ip_route_output writes its choice into ``saddr``, ``daddr`` and ``oif``, as the kernel does.
    """

    def __init__(
        self,
        daddr: i64,
        saddr: i64 = 0,
        oif: i64 = 0,
        tos: i64 = 0,
        proto: i64 = 0,
        sport: i64 = 0,
        dport: i64 = 0,
        mark: i64 = 0,
        iif: i64 = 0,
        scope: i64 = RT_SCOPE_UNIVERSE,
        anysrc: bool = False,
        uid: i64 = 0,
    ) -> None:
        self.daddr: i64 = daddr
        self.saddr: i64 = saddr
        self.oif: i64 = oif
        self.tos: i64 = tos
        self.proto: i64 = proto
        self.sport: i64 = sport
        self.dport: i64 = dport
        self.mark: i64 = mark
        self.iif: i64 = iif
        self.scope: i64 = scope  #: RT_SCOPE_LINK: on the link or not at all (SO_DONTROUTE)
        self.anysrc: bool = anysrc  #: ``saddr`` need not be ours (FLOWI_FLAG_ANYSRC: transparent, header included)
        self.uid: i64 = uid  #: of the socket's owner; 0 also for what no socket sends
        self.known_nh: bool = False  #: FLOWI_FLAG_KNOWN_NH: the hop must be ``daddr`` itself (source routes)
        self.multipath_hash: i64 = 0  #: goes into the choice among several hops too, if it is not 0
