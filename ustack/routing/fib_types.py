"""The nouns of the forwarding information base (Linux include/net/ip_fib.h, nexthop.h).

FibConfig asks for a route, FibInfo is what routes share, FibNh one of its next hops, FibResult what a lookup found.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

from mypy_extensions import i64, mypyc_attr

from ustack.dst import (
    RTN_BLACKHOLE,
    RTN_NAT,
    RTN_PROHIBIT,
    RTN_THROW,
    RTN_UNICAST,
    RTN_UNREACHABLE,
    RTN_XRESOLVE,
)
from ustack.routing.flow import RT_SCOPE_NOWHERE, RT_SCOPE_UNIVERSE
from ustack.routing.uapi import RTAX_LOCK, RTPROT_UNSPEC

if TYPE_CHECKING:
    from ustack.device.net_device import NetDevice
    from ustack.dst import Dst
    from ustack.routing.exceptions import FnheTable
    from ustack.routing.fib_trie import FibTable
    from ustack.routing.flow import Flow
    from ustack.routing.nexthop import Nexthop

#: The errno of a route type that leads nowhere (fib_props[].error); EAGAIN means: ask the next table.
FIB_ERRORS: Final[dict[int, int]] = {
    RTN_BLACKHOLE: errno.EINVAL,
    RTN_UNREACHABLE: errno.EHOSTUNREACH,
    RTN_PROHIBIT: errno.EACCES,
    RTN_THROW: errno.EAGAIN,
    RTN_NAT: errno.EINVAL,
    RTN_XRESOLVE: errno.EINVAL,
}

#: As native integers: in a lookup the attributes of the errno module would cost as much as the trie does.
EAGAIN: Final[i64] = errno.EAGAIN
ENETUNREACH: Final[i64] = errno.ENETUNREACH


def fib_error(rt_type: i64) -> i64:
    """fib_props[rt_type].error as a positive errno, 0 for a type that leads somewhere."""
    return FIB_ERRORS.get(int(rt_type), 0)


def prefix_mask(prefixlen: i64) -> i64:
    """The netmask of ``prefixlen`` bits, 0 to 32 (inet_make_mask)."""
    return (0xFFFF_FFFF << (32 - prefixlen)) & 0xFFFF_FFFF


class NexthopConfig:
    """One hop of a multipath route that is asked for (struct rtnexthop)."""

    def __init__(self, oif: i64 = 0, gateway: i64 = 0, weight: i64 = 1, flags: i64 = 0) -> None:
        self.oif: i64 = oif
        self.gateway: i64 = gateway  #: 0: none
        self.weight: i64 = weight  #: rtnh_hops + 1: 1 to 256
        self.flags: i64 = flags  #: RTNH_F_ONLINK


class FibConfig:
    """A route to be added or deleted (struct fib_config). What is 0 was not given, but for ``scope``."""

    def __init__(self, dst: i64 = 0, dst_len: i64 = 0) -> None:
        self.dst: i64 = dst
        self.dst_len: i64 = dst_len
        self.tos: i64 = 0  #: fc_dscp, as bits of the TOS byte
        self.protocol: i64 = RTPROT_UNSPEC
        self.scope: i64 = RT_SCOPE_UNIVERSE  #: RT_SCOPE_NOWHERE in a deletion: any
        self.rt_type: i64 = RTN_UNICAST
        self.table: i64 = 0  #: RT_TABLE_UNSPEC: main
        self.oif: i64 = 0
        self.gateway: i64 = 0
        self.flags: i64 = 0  #: RTNH_F_ONLINK, which goes to the hop
        self.priority: i64 = 0  #: the metric
        self.prefsrc: i64 = 0
        self.metrics: dict[int, int] = {}  #: RTAX_* to value; RTAX_LOCK is a mask of 1 << RTAX_*
        self.cc_algo: str = ""  #: RTAX_CC_ALGO by name
        self.multipath: list[NexthopConfig] | None = None
        self.nh_id: i64 = 0  #: a next-hop object's
        self.nlflags: i64 = 0  #: NLM_F_CREATE, EXCL, REPLACE, APPEND


class FibNh:
    """One next hop (struct fib_nh with its fib_nh_common)."""

    def __init__(self, dev: NetDevice | None, gateway: i64 = 0) -> None:
        self.parent: FibInfo | None = None  #: nh_parent; None in a next-hop object
        self.dev: NetDevice | None = dev  #: None where the type leads nowhere
        self.oif: i64 = 0 if dev is None else dev.ifindex
        self.gateway: i64 = gateway  #: nhc_gw, 0: the destination is on the link
        self.scope: i64 = RT_SCOPE_NOWHERE  #: nhc_scope: where the gateway must be looked for
        self.flags: i64 = 0  #: RTNH_F_*
        self.weight: i64 = 1
        self.upper_bound: i64 = -1  #: this hop takes hashes up to here (31 bits); -1: none
        self.saddr: i64 = 0  #: nh_saddr: the source chosen for it, good while ``saddr_genid`` is the addresses'
        self.saddr_genid: i64 = -1
        self.exceptions: FnheTable | None = None
        self.rth_input: Dst | None = None  #: cached: forwarding through here, or delivery for a local route
        self.rth_output: Dst | None = None  #: cached: our own packets through here


class FibInfo:
    """What routes of different prefixes share: next hops and metrics (struct fib_info). Counted by ``treeref``."""

    def __init__(self) -> None:
        self.index: i64 = -1  #: its place in FibSemantics.infos, which tries store instead of a reference
        self.treeref: i64 = 0  #: aliases that use it
        self.dead: bool = False
        self.pfsrc_removed: bool = False  #: dead for want of ``prefsrc``: the one flush that rtnetlink is told of
        self.nh_updated: bool = False  #: ``nexthop`` was replaced: fib_info_notify_update tells of its routes
        self.flags: i64 = 0  #: RTNH_F_DEAD, RTNH_F_LINKDOWN: of all its hops
        self.protocol: i64 = RTPROT_UNSPEC
        self.scope: i64 = RT_SCOPE_UNIVERSE
        self.rt_type: i64 = RTN_UNICAST
        self.tb_id: i64 = 0
        self.prefsrc: i64 = 0
        self.priority: i64 = 0
        self.metrics: dict[int, int] = {}  #: fib_metrics: RTAX_* to value
        self.cc_algo: str = ""
        self.nh: list[FibNh] = []  #: fib_nh[]; empty with a next-hop object
        self.nexthop: Nexthop | None = None  #: the next-hop object (``nhid``)

    def nhs(self) -> list[FibNh]:
        """Its hops, wherever they are kept (fib_info_num_path, fib_info_nhc)."""
        nexthop = self.nexthop
        return self.nh if nexthop is None else nexthop.hops()

    def metric(self, which: i64) -> i64:
        """dst_metric_raw: the value of RTAX_``which``, 0 if the route has none."""
        return self.metrics.get(int(which), 0) if self.metrics else 0

    def metric_locked(self, which: i64) -> bool:
        """dst_metric_locked: ``lock`` was said, so what the path reports does not change it."""
        return self.metric(RTAX_LOCK) >> which & 1 != 0


class FibAlias:
    """One route of one prefix, as tables tell of it (struct fib_alias with its leaf's key). A copy: the table keeps
    its own."""

    def __init__(self, key: i64, prefixlen: i64, tos: i64, rt_type: i64, tb_id: i64, fi: FibInfo) -> None:
        self.key: i64 = key  #: the prefix, host order
        self.prefixlen: i64 = prefixlen
        self.tos: i64 = tos  #: fa_dscp
        self.rt_type: i64 = rt_type
        self.tb_id: i64 = tb_id
        self.fi: FibInfo = fi


@mypyc_attr(allow_interpreted_subclasses=True)
class FibLookup:
    """What next hops are checked against: all tables by the rules (Fib is one)."""

    def fib_lookup(self, flow: Flow, res: FibResult, fib_flags: i64 = 0) -> i64:
        """Fill ``res`` for ``flow``; 0, or the errno: ENETUNREACH for no route at all, else the route's or rule's."""
        raise NotImplementedError

    def inet_addr_type_table(self, addr: i64, tb_id: i64) -> i64:
        """RTN_* of ``addr`` as table ``tb_id`` has it."""
        raise NotImplementedError

    def inet_addr_type_dev_table(self, dev: NetDevice | None, addr: i64) -> i64:
        """RTN_* of ``addr`` in the routing domain of ``dev``."""
        raise NotImplementedError

    def fib_get_table(self, tb_id: i64) -> FibTable | None:
        """The table, None if nothing was ever in it."""
        raise NotImplementedError

    def fib_flush(self) -> None:
        """Take out of every table what is dead (RTNH_F_DEAD)."""

    def rt_cache_flush(self) -> None:
        """Routes that packets and sockets keep must be looked up anew."""

    def fib_info_notify_update(self) -> None:
        """Tell rtnetlink (RTM_NEWROUTE) of every route whose FibInfo says ``nh_updated``."""


@mypyc_attr(allow_interpreted_subclasses=True)
class Reachability:
    """How a gateway's neighbour entry stands; the neighbour table lies beside this room, not below it."""

    def nud_state(self, addr: i64, dev: NetDevice) -> i64:
        """NUD_*, NUD_NONE (0) without an entry."""
        return 0


@mypyc_attr(allow_interpreted_subclasses=True)
class SourceSelector:
    """The choice of a source address for a hop; addresses lie above next hops (InetDevices sets one)."""

    def inet_select_addr(self, dev: NetDevice, dst: i64, scope: i64) -> i64:
        """0 if there is none."""
        return 0

    def dev_addr_genid(self) -> i64:
        """Moves whenever the choice may have changed."""
        return 0


class FibResult:
    """What a lookup found (struct fib_result). One object may serve many lookups; the lookup fills it in.

    After a lookup that failed with a route's own error (blackhole, unreachable, prohibit) ``rt_type``, ``fi`` and
    ``table`` tell which one it was.
    """

    def __init__(self) -> None:
        self.prefix: i64 = 0
        self.prefixlen: i64 = 0
        self.nh_sel: i64 = 0  #: which of the hops
        self.rt_type: i64 = 0
        self.scope: i64 = 0
        self.tos: i64 = 0  #: the alias's
        self.fi: FibInfo | None = None
        self.nhc: FibNh | None = None  #: nhc_sel: that hop
        self.table: FibTable | None = None

    def reset(self) -> None:
        self.prefix = self.prefixlen = self.nh_sel = self.rt_type = self.scope = self.tos = 0
        self.fi = None
        self.nhc = None
        self.table = None
