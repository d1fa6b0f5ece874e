"""Routes (Linux net/ipv4/fib_frontend.c: rtm_to_fib_config, inet_rtm_newroute, inet_rtm_delroute, inet_dump_fib).

What a route looks like in a message is fib_dump_info's work (net/ipv4/fib_semantics.c).
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

from ustack.dst import RTN_ANYCAST, RTN_BLACKHOLE, RTN_BROADCAST, RTN_LOCAL, RTN_MULTICAST, RTN_UNICAST
from ustack.routing.fib_types import FibConfig, FibResult, NexthopConfig
from ustack.routing.flow import RT_SCOPE_HOST, RT_SCOPE_LINK, RT_SCOPE_NOWHERE, RT_SCOPE_UNIVERSE, Flow
from ustack.routing.getroute import RouteAnswer, RouteQuestion, rt_fill_info
from ustack.routing.metrics import RTAX_FEATURE_MASK
from ustack.routing.uapi import (
    RT_TABLE_MAIN,
    RTAX_FEATURES,
    RTM_F_CLONED,
    RTM_F_FIB_MATCH,
    RTM_F_LOOKUP_TABLE,
    RTNH_F_DEAD,
    RTNH_F_LINKDOWN,
    RTNH_F_OFFLOAD,
    RTNH_F_ONLINK,
)
from ustack.rtnl.handler import Handler, extack, in_prefix
from ustack.rtnl.messages import Hop, Route
from ustack.sock import error
from ustack.wire.ipv4 import IPPROTO_ICMP, IPPROTO_TCP, IPPROTO_UDP

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ustack.dst import Dst
    from ustack.routing.fib_trie import FibTable
    from ustack.routing.fib_types import FibAlias, FibInfo, FibNh
    from ustack.rtnl.messages import Object
    from ustack.stack import Stack

RTM_F_NOTIFY: Final = 0x100
#: Routes that one step of a walk through a table takes out of it.
WALK: Final = 256


class RouteHandler(Handler[Route]):
    def __init__(self, stack: Stack) -> None:
        self.stack: Stack = stack

    def new(self, message: Route, flags: int) -> None:
        cfg = to_fib_config(message)
        cfg.nlflags = flags
        cfg.rt_type = message.rtype or RTN_UNICAST
        self.stack.routing.fib.rtm_newroute(cfg)

    def delete(self, message: Route) -> None:
        cfg = to_fib_config(message)
        if message.scope is None and message.rtype in (0, RTN_UNICAST):
            cfg.scope = RT_SCOPE_NOWHERE
        self.stack.routing.fib.rtm_delroute(cfg)

    def get(self, message: Route) -> list[Object]:
        """inet_rtm_getroute, with RTM_F_LOOKUP_TABLE. EINVAL, EOPNOTSUPP, and what the lookup says."""
        check_question(message)
        answer = self.stack.routing.rtm_getroute(to_question(message))
        return [fill_answer(answer) if answer.alias is None else self.fill(answer.alias)]

    def dump(self, message: Route) -> Iterator[Object | None]:
        """Table after table; ENOENT for one that is not there."""
        for table in self._tables(message):
            for alias in walk(table):
                if alias is None:
                    yield None
                    continue
                for shown in self._learned(alias) if message.cached else [self.fill(alias)]:
                    yield shown if agrees(shown, message) else None

    def flush(self, message: Route) -> Iterator[Object | None]:
        """Each by itself, as a deletion that says everything about it. What was learned goes as a whole."""
        if message.cached:
            return self.stack.routing.flush()
        fib = self.stack.routing.fib
        for table in self._tables(message):
            for alias in walk(table):
                shown = None if alias is None else self.fill(alias)
                if shown is None or not agrees(shown, message):
                    yield None
                    continue
                try:
                    fib.rtm_delroute(to_deletion(shown))
                except OSError as reason:
                    if reason.errno != errno.ESRCH:  # gone with another one: iproute2 does not mind either
                        raise
                yield shown

    def _learned(self, alias: FibAlias) -> list[Route]:
        """What is known of single destinations behind the hops of ``alias`` (fib_dump_info_fnhe)."""
        routing = self.stack.routing
        learned = []
        for nh in alias.fi.nhs():
            for fnhe in [] if nh.exceptions is None else nh.exceptions.entries():
                dst = fnhe.rth_output if fnhe.rth_input is None else fnhe.rth_input
                holds = fnhe.genid == routing.exceptions.fnhe_genid and self.stack.net.now < fnhe.expires
                if dst is not None and holds:
                    learned.append(fill_learned(fnhe.daddr, dst, alias, self.stack.net.now))
        return learned

    def _tables(self, message: Route) -> list[FibTable]:
        fib = self.stack.routing.fib
        if message.table == 0:
            return fib.tables_in_order()
        table = fib.fib_get_table(message.table)
        if table is None:
            raise extack(errno.ENOENT, "ipv4: FIB table does not exist")
        return [table]

    def fill(self, alias: FibAlias) -> Route:
        """fib_dump_info: one hop stands in the route itself, several in a list."""
        fi = alias.fi
        shown = Route(
            dst=int(alias.key),
            dst_len=int(alias.prefixlen),
            tos=int(alias.tos),
            table=int(alias.tb_id),
            protocol=int(fi.protocol),
            scope=int(fi.scope),
            rtype=int(alias.rt_type),
            flags=int(fi.flags),
            priority=int(fi.priority) or None,
            prefsrc=int(fi.prefsrc),
            metrics=shown_metrics(fi.metrics),
            congctl=fi.cc_algo,
        )
        fill_hops(shown, fi)
        return shown


def shown_metrics(kept: dict[int, int]) -> dict[int, int]:
    """rtnetlink_put_metrics: of the features only those that a user can set."""
    metrics = {int(which): int(value) for which, value in kept.items()}
    features = metrics.pop(RTAX_FEATURES, 0) & RTAX_FEATURE_MASK
    return metrics | {RTAX_FEATURES: int(features)} if features else metrics


def fill_hops(shown: Route, fi: FibInfo) -> None:
    nexthop = fi.nexthop
    if nexthop is not None:
        shown.nhid = int(nexthop.id)
        if nexthop.blackhole:
            shown.rtype = RTN_BLACKHOLE
    hops = fi.nhs()
    if len(hops) == 1:
        shown.gateway, shown.flags = int(hops[0].gateway), hop_flags(hops[0])
        shown.ifindex = 0 if hops[0].dev is None else int(hops[0].oif)
        return
    weights = [nh.weight for nh in hops] if nexthop is None else [entry.weight for entry in nexthop.group]
    for nh, weight in zip(hops, weights, strict=True):
        shown.hops.append(Hop(ifindex=int(nh.oif), gateway=int(nh.gateway), weight=int(weight), flags=hop_flags(nh)))


def hop_flags(nh: FibNh) -> int:
    """fib_nexthop_info: a link that is down is as good as dead where such routes are ignored."""
    flags = int(nh.flags) & (RTNH_F_DEAD | RTNH_F_LINKDOWN | RTNH_F_ONLINK | RTNH_F_OFFLOAD)
    if flags & RTNH_F_LINKDOWN and nh.dev is not None and nh.dev.in_dev.ignore_routes_with_linkdown():
        flags |= RTNH_F_DEAD
    return flags


def walk(table: FibTable) -> Iterator[FibAlias | None]:
    """Every route of ``table``, some at a time: it may change meanwhile. None stands for keys of other tables."""
    key = 0
    while key >= 0:
        aliases = table.fib_table_dump(key, WALK)
        key = table.dumped_to
        yield from aliases
        yield from [None] * (WALK - len(aliases) if key >= 0 else 0)


def check_question(message: Route) -> None:
    """inet_rtm_valid_getroute_req; an address without a length is a whole one."""
    wrong = message.table or message.protocol or message.scope or message.rtype
    if wrong or message.dst_len not in (0, 32) or message.src_len not in (0, 32):
        raise extack(errno.EINVAL, "ipv4: Invalid values in header for route get request")
    if message.flags & ~(RTM_F_NOTIFY | RTM_F_LOOKUP_TABLE | RTM_F_FIB_MATCH):
        raise extack(errno.EINVAL, "ipv4: Unsupported rtm_flags for route get request")
    if message.ipproto not in (0, IPPROTO_ICMP, IPPROTO_TCP, IPPROTO_UDP):
        raise extack(errno.EOPNOTSUPP, "Unsupported ip proto")


def to_question(message: Route) -> RouteQuestion:
    ask = RouteQuestion(message.dst, message.src, message.tos & 0xFC, message.ifindex, message.iif)
    ask.mark = message.mark
    ask.uid = -1 if message.uid is None else message.uid
    ask.ipproto, ask.sport, ask.dport = message.ipproto, message.sport, message.dport
    ask.fibmatch = message.fibmatch or message.flags & RTM_F_FIB_MATCH != 0
    ask.lookup_table = True
    return ask


def fill_answer(answer: RouteAnswer) -> Route:
    """rt_fill_info."""
    return Route(
        dst=int(answer.dst),
        dst_len=32,
        src=int(answer.src),
        src_len=32 if answer.src else 0,
        tos=int(answer.tos),
        table=int(answer.table),
        scope=RT_SCOPE_UNIVERSE,
        rtype=int(answer.rt_type),
        flags=int(answer.flags),
        gateway=int(answer.gateway),
        ifindex=int(answer.oif),
        prefsrc=int(answer.prefsrc),
        metrics=shown_metrics(answer.metrics),
        congctl=answer.cc_algo,
        iif=int(answer.iif),
        mark=int(answer.mark),
        uid=None if answer.uid < 0 else int(answer.uid),
        expires=None if answer.expires < 0 else int(answer.expires),
        cached=answer.flags & RTM_F_CLONED != 0,
    )


def fill_learned(daddr: int, dst: Dst, alias: FibAlias, now: int) -> Route:
    """rt_fill_info, for an exception."""
    answer = RouteAnswer(daddr, 0)
    rt_fill_info(answer, RouteQuestion(daddr), Flow(daddr), dst, FibResult(), now)
    answer.table, answer.uid = alias.tb_id, -1
    return fill_answer(answer)


def to_fib_config(message: Route) -> FibConfig:
    """rtm_to_fib_config, for what a message may leave out with iproute2's choice (iproute_modify)."""
    cfg = FibConfig(message.dst, message.dst_len)
    cfg.tos = message.tos
    cfg.protocol = message.protocol
    cfg.rt_type = message.rtype
    cfg.scope = default_scope(message) if message.scope is None else message.scope
    cfg.table = message.table or RT_TABLE_MAIN
    cfg.oif = message.ifindex
    cfg.gateway = message.gateway
    cfg.flags = message.flags
    cfg.priority = message.priority or 0
    cfg.prefsrc = message.prefsrc
    cfg.metrics = message.metrics
    cfg.cc_algo = message.congctl
    cfg.multipath = [to_nexthop_config(hop) for hop in message.hops] or None
    cfg.nh_id = message.nhid
    return cfg


def to_nexthop_config(hop: Hop) -> NexthopConfig:
    """EINVAL for a weight of 0: there is no rtnh_hops of -1."""
    if hop.weight == 0:
        raise error(errno.EINVAL)
    return NexthopConfig(hop.ifindex, hop.gateway, hop.weight, hop.flags)


def default_scope(message: Route) -> int:
    if message.rtype == RTN_LOCAL:
        return RT_SCOPE_HOST
    if message.rtype in (RTN_BROADCAST, RTN_MULTICAST, RTN_ANYCAST):
        return RT_SCOPE_LINK
    leads_on = message.gateway or message.hops or message.nhid
    return RT_SCOPE_LINK if message.rtype in (0, RTN_UNICAST) and not leads_on else RT_SCOPE_UNIVERSE


def to_deletion(shown: Route) -> FibConfig:
    """What deletes exactly ``shown``; of a next-hop object its number says all."""
    cfg = to_fib_config(shown)
    if shown.nhid:
        cfg.oif = cfg.gateway = cfg.rt_type = 0
        cfg.multipath = None
    return cfg


def agrees(route: Route, wanted: Route) -> bool:
    """Whether a dump that asks for ``wanted`` shows ``route`` (filter_nlmsg of iproute2's iproute.c)."""
    prefix = (route.dst, route.dst_len)
    if wanted.root is not None and not (route.dst_len >= wanted.root[1] and in_prefix(route.dst, wanted.root)):
        return False
    if wanted.match is not None and not (route.dst_len <= wanted.match[1] and in_prefix(wanted.match[0], prefix)):
        return False
    return (
        wanted.protocol in (0, route.protocol)
        and wanted.scope in (None, route.scope)
        and wanted.rtype in (0, route.rtype)
        and wanted.tos in (0, route.tos)
        and wanted.priority in (None, route.priority or 0)
        and wanted.gateway in (0, route.gateway)
        and wanted.ifindex in (0, route.ifindex)
        and wanted.prefsrc in (0, route.prefsrc)
        and wanted.nhid in (0, route.nhid)
    )
