"""Which of a route's next hops a packet takes, and from which address (Linux net/ipv4/fib_semantics.c, nexthop.c).

Several hops share the 31-bit numbers that a hash may be: each takes those above the one before it, up to its upper
bound, as many as its weight is of all. RFC 2992: what hashes the same goes the same way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mypy_extensions import i64

from ustack.dst import RTN_UNICAST
from ustack.routing.fib_types import SourceSelector
from ustack.routing.flow import INET_DSCP_LEGACY_TOS_MASK, RT_SCOPE_LINK
from ustack.routing.uapi import (
    NUD_INCOMPLETE,
    NUD_NONE,
    NUD_REACHABLE,
    NUD_VALID,
    RTNH_F_DEAD,
    RTNH_F_LINKDOWN,
)

if TYPE_CHECKING:
    from ustack.net import Net
    from ustack.routing.fib_types import FibAlias, FibInfo, FibNh, FibResult, Reachability
    from ustack.routing.flow import Flow
    from ustack.routing.nexthop import Nexthop


def upper_bound(weights: i64, total: i64) -> i64:
    """The last of 2^31 hashes for hops that weigh ``weights`` of ``total`` together (DIV_ROUND_CLOSEST_ULL)."""
    return ((weights << 31) + total // 2) // total - 1


class FibSelect:
    """The choices, by what one stack knows of its neighbours and addresses."""

    def __init__(self, net: Net, reachability: Reachability) -> None:
        self.net: Net = net
        self.reachability: Reachability = reachability
        self.source_selector = SourceSelector()  #: whoever has the addresses puts his own here

    def fib_select_path(self, flow: Flow, res: FibResult, mp_hash: i64) -> None:
        """Choose among the hops of ``res``, or among default routes; then a source address, if ``flow`` has none.

        A flow that names its device has got its hop by that.
        """
        fi = res.fi
        if flow.oif == 0 and fi is not None:
            table = res.table
            if len(fi.nhs()) > 1:
                self.fib_select_multipath(res, mp_hash, flow.saddr)
            elif res.prefixlen == 0 and res.rt_type == RTN_UNICAST and table is not None and table.tb_num_default > 1:
                self.fib_select_default(flow, res)
        if flow.saddr == 0:
            flow.saddr = self.fib_result_prefsrc(res)

    # -- among the hops of one route

    def fib_rebalance(self, fi: FibInfo) -> None:
        """Share the hashes out among the hops that can be used."""
        if len(fi.nh) < 2:
            return
        total: i64 = 0
        for nh in fi.nh:
            if _is_usable(nh):
                total += nh.weight
        weights: i64 = 0
        for nh in fi.nh:
            if _is_usable(nh):
                weights += nh.weight
                nh.upper_bound = upper_bound(weights, total)
            else:
                nh.upper_bound = -1

    def fib_select_multipath(self, res: FibResult, mp_hash: i64, saddr: i64 = 0) -> None:
        """Put one of the hops into ``res``: the one whose hashes have ``mp_hash``, of those with source ``saddr``."""
        fi = res.fi
        if fi is None:
            return
        if fi.nexthop is not None:
            self._nexthop_path_fib_result(fi.nexthop, res, mp_hash)
            return
        use_neigh = self.net.sysctl.fib_multipath_use_neigh != 0
        best: i64 = -1
        sel: i64 = 0
        for nh in fi.nh:
            if nh.upper_bound != -1 and (not use_neigh or self._fib_good_nh(nh)):
                score: i64 = 2 if saddr != 0 and nh.saddr == saddr else 0
                if mp_hash <= nh.upper_bound:
                    score += 1
                if score > best:
                    best = score
                    res.nh_sel = sel
                    res.nhc = nh
                    if score == 3 or (saddr == 0 and score == 1):
                        return
            sel += 1

    def _nexthop_path_fib_result(self, nexthop: Nexthop, res: FibResult, mp_hash: i64) -> None:
        """A group looks at its neighbours whatever fib_multipath_use_neigh says (nexthop_select_path_hthr)."""
        sel: i64 = 0
        chosen: i64 = -1
        for entry in nexthop.group:
            nh = entry.nexthop.nh
            if nh is not None and self._is_good(nh):
                if chosen < 0:
                    chosen = sel
                if mp_hash <= entry.upper_bound:
                    chosen = sel
                    break
            sel += 1
        chosen = max(chosen, 0)
        res.nh_sel = chosen
        res.nhc = nexthop.hops()[chosen]

    def _fib_good_nh(self, nh: FibNh) -> bool:
        """fib_good_nh: of a hop that is not on a link nobody can know."""
        return nh.scope != RT_SCOPE_LINK or self._is_good(nh)

    def _is_good(self, nh: FibNh) -> bool:
        """Whether its neighbour answers, as far as we know: one that was never asked counts as if it did."""
        dev = nh.dev
        if dev is None:
            return True
        state = self.reachability.nud_state(nh.gateway, dev)
        return state == NUD_NONE or state & NUD_VALID != 0

    # -- among default routes

    def fib_select_default(self, flow: Flow, res: FibResult) -> None:
        """Of several default routes of the best metric take one whose gateway is not dead (RFC 1122 3.3.1.5).

        The table remembers which one answered last time; a gateway that is only thought to answer makes way for the
        next, and so one after the other is tried.
        """
        table, fi = res.table, res.fi
        if table is None or fi is None:
            return
        candidates = self._default_routes(flow, res, table.fib_alias_list(res.prefix, res.prefixlen))
        dflt = table.get_default(res.prefix, res.prefixlen)
        if len(candidates) < 2:
            if candidates:
                table.set_default(res.prefix, res.prefixlen, -1)
            return
        last_idx: i64 = -1
        order: i64 = 0
        for candidate in candidates:
            state = self._gateway_state(candidate)
            if state == NUD_NONE or state == NUD_REACHABLE or (state & NUD_VALID != 0 and order != dflt):
                last_idx = order
                break
            if state & NUD_VALID != 0 or (last_idx < 0 and order > dflt and state != NUD_INCOMPLETE):
                last_idx = order
            order += 1
        if last_idx >= 0:
            res.fi = candidates[last_idx]
            res.nh_sel = 0
            res.nhc = candidates[last_idx].nhs()[0]
        table.set_default(res.prefix, res.prefixlen, last_idx)

    def _default_routes(self, flow: Flow, res: FibResult, aliases: list[FibAlias]) -> list[FibInfo]:
        """Those that are as good as the one found, which is the first of them; else none."""
        routes: list[FibInfo] = []
        table, found = res.table, res.fi
        if table is None or found is None:
            return routes
        last_prio = found.priority
        last_tos: i64 = 0
        for alias in aliases:
            fi = alias.fi
            if alias.tb_id != table.tb_id or (alias.tos != 0 and alias.tos != flow.tos & INET_DSCP_LEGACY_TOS_MASK):
                continue
            if fi.priority > last_prio and alias.tos == last_tos:
                if last_tos != 0:
                    continue
                break
            if fi.flags & RTNH_F_DEAD != 0:
                continue
            last_tos = alias.tos
            last_prio = fi.priority
            if fi.scope != res.scope or alias.rt_type != RTN_UNICAST or not _has_link_gateway(fi):
                continue
            if not routes and fi is not found:
                break
            routes.append(fi)
        return routes

    def _gateway_state(self, fi: FibInfo) -> i64:
        """NUD_* of the first hop's gateway."""
        nh = fi.nhs()[0]
        return NUD_NONE if nh.dev is None else self.reachability.nud_state(nh.gateway, nh.dev)

    # -- source addresses

    def fib_info_update_nhc_saddr(self, nh: FibNh, scope: i64) -> i64:
        """Choose the source for what leaves through ``nh``, and keep it until addresses change."""
        dev = nh.dev
        nh.saddr = 0 if dev is None else self.source_selector.inet_select_addr(dev, nh.gateway, scope)
        nh.saddr_genid = self.source_selector.dev_addr_genid()
        return nh.saddr

    def fib_result_prefsrc(self, res: FibResult) -> i64:
        """The source address of a packet that has none: the route's, else the hop's; 0 if we have none."""
        fi, nh = res.fi, res.nhc
        if fi is None:
            return 0
        if fi.prefsrc != 0:
            return fi.prefsrc
        if nh is None:
            return 0
        if nh.saddr_genid == self.source_selector.dev_addr_genid():
            return nh.saddr
        return self.fib_info_update_nhc_saddr(nh, fi.scope)


def _is_usable(nh: FibNh) -> bool:
    """Not dead, nor without a carrier where that matters (ip_ignore_linkdown)."""
    if nh.flags & RTNH_F_DEAD != 0:
        return False
    dev = nh.dev
    return nh.flags & RTNH_F_LINKDOWN == 0 or dev is None or not dev.in_dev.ignore_routes_with_linkdown()


def _has_link_gateway(fi: FibInfo) -> bool:
    hops = fi.nhs()
    return len(hops) > 0 and hops[0].gateway != 0 and hops[0].scope == RT_SCOPE_LINK
