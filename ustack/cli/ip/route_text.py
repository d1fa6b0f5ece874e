"""How a route is printed: one line, its next hops below it, in iproute2's words or with its keys."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ustack.cli.ip import values
from ustack.cli.ip.nexthop_text import print_nexthop
from ustack.cli.ip.session import Refused
from ustack.dst import RTN_UNICAST
from ustack.routing.flow import RT_SCOPE_UNIVERSE
from ustack.routing.uapi import (
    RT_TABLE_MAIN,
    RTAX_CC_ALGO,
    RTAX_FEATURES,
    RTAX_LOCK,
    RTAX_MAX,
    RTAX_RTO_MIN,
    RTAX_RTT,
    RTAX_RTTVAR,
    RTPROT_BOOT,
)
from ustack.rtnl.messages import Nexthop
from ustack.wire.ipv4 import addr_to_str

if TYPE_CHECKING:
    from ustack.cli.ip.output import Printer
    from ustack.cli.ip.session import Session
    from ustack.rtnl.messages import Hop, Route

#: RTNH_F_* and RTM_F_*, in the order in which they are printed.
FLAGS: Final = {
    0x01: "dead", 0x04: "onlink", 0x02: "pervasive", 0x08: "offload", 0x40: "trap", 0x100: "notify", 0x10: "linkdown",
    0x20: "unresolved", 0x4000: "rt_offload", 0x8000: "rt_trap", 0x2000_0000: "rt_offload_failed",
}  # fmt: skip
#: RTCF_*, what a looked-up route is, in the order in which they are printed.
CACHE_FLAGS: Final = {
    0x8000_0000: "local", 0x4000_0000: "reject", 0x2000_0000: "mc", 0x1000_0000: "brd", 0x0800_0000: "dst-nat",
    0x0080_0000: "src-nat", 0x0040_0000: "masq", 0x0002_0000: "dst-direct", 0x0100_0000: "redirect",
    0x0004_0000: "redirected", 0x0020_0000: "fastroute", 0x0001_0000: "notify", 0x0008_0000: "proxy",
}  # fmt: skip
#: RTAX_*: the word, and where it is another one the key.
METRICS: Final = {
    2: "mtu", 3: "window", 4: "rtt", 5: "rttvar", 6: "ssthresh", 7: "cwnd", 8: "advmss", 9: "reordering",
    10: "hoplimit", 11: "initcwnd", 12: "features", 13: "rto_min", 14: "initrwnd", 15: "quickack", 16: "congctl",
    17: "fastopen_no_cookie",
}  # fmt: skip
#: The kernel's units in a millisecond.
TIMES: Final = {RTAX_RTT: 8, RTAX_RTTVAR: 4, RTAX_RTO_MIN: 1}
ECN: Final = 1
#: Marks from here on are written in base 16.
HEXADECIMAL_FROM: Final = 16


@dataclass
class Unsaid:
    """What a filter has fixed, so that it need not be printed."""

    table: bool = False
    protocol: bool = False
    scope: bool = False
    tos: bool = False
    device: bool = False
    gateway: bool = False
    prefsrc: bool = False
    metric: bool = False


class RoutePrinter:
    """Prints routes."""

    def __init__(
        self, session: Session, out: Printer, unsaid: Unsaid | None = None, *, nexthop_info: bool = True
    ) -> None:
        """``nexthop_info``: with -d, say what a next-hop object is."""
        self.session: Session = session
        self.out: Printer = out
        self.unsaid: Unsaid = unsaid or Unsaid()
        self.details: bool = session.options.details > 0
        self.nexthop_info: bool = nexthop_info

    def print(self, route: Route, *, deleted: bool = False) -> None:
        """One route and the end of its line."""
        out = self.out
        out.open()
        if deleted:
            out.put("deleted", True, "Deleted ")
        self._destination(route)
        self._way(route)
        self._origin(route)
        self._flags(route.flags)
        self._lookup(route)
        self._metrics(route)
        if route.iif:
            name = self.session.device(route.iif)
            out.put("iif", name, f"iif {name} ")
        if route.nhid and self.details and self.nexthop_info:
            self._nexthop_object(route.nhid)
        if route.hops:
            self._hops(route.hops)
        out.text("\n")
        out.close()

    def _destination(self, route: Route) -> None:
        out = self.out
        if route.rtype != RTN_UNICAST or self.details:
            kind = self.session.names.route_type(route.rtype)
            out.put("type", kind, f"{kind} ")
        dst = values.format_prefix(route.dst, route.dst_len)
        out.put("dst", dst, f"{dst} ")
        if route.src_len or route.src:
            src = values.format_prefix(route.src, route.src_len)
            out.put("from", src, f"from {src} ")
        if route.nhid:
            out.put("nhid", route.nhid, f"nhid {route.nhid} ")
        if route.tos and not self.unsaid.tos:
            tos = self.session.names.tos(route.tos)
            out.put("tos", tos, f"tos {tos} ")

    def _way(self, route: Route) -> None:
        out, names = self.out, self.session.names
        if route.gateway and not self.unsaid.gateway:
            gateway = addr_to_str(route.gateway)
            out.put("gateway", gateway, f"via {gateway} ")
        if route.ifindex and not self.unsaid.device:
            name = self.session.device(route.ifindex)
            out.put("dev", name, f"dev {name} ")
        if route.table and (route.table != RT_TABLE_MAIN or self.details) and not self.unsaid.table:
            table = names.table(route.table)
            out.put("table", table, f"table {table} ")

    def _origin(self, route: Route) -> None:
        out, names = self.out, self.session.names
        scope = route.scope or RT_SCOPE_UNIVERSE
        if not route.cached:
            if (route.protocol != RTPROT_BOOT or self.details) and not self.unsaid.protocol:
                protocol = names.protocol(route.protocol)
                out.put("protocol", protocol, f"proto {protocol} ")
            if (scope != RT_SCOPE_UNIVERSE or self.details) and not self.unsaid.scope:
                out.put("scope", names.scope(scope), f"scope {names.scope(scope)} ")
        if route.prefsrc and not self.unsaid.prefsrc:
            prefsrc = addr_to_str(route.prefsrc)
            out.put("prefsrc", prefsrc, f"src {prefsrc} ")
        if route.priority and not self.unsaid.metric:
            out.put("metric", route.priority, f"metric {route.priority} ")

    def _flags(self, flags: int) -> None:
        words = [word for flag, word in FLAGS.items() if flags & flag]
        self.out.put("flags", words, "".join(f"{word} " for word in words))

    def _lookup(self, route: Route) -> None:
        """What only the answer to a question has."""
        out = self.out
        if route.mark:
            mark = f"{route.mark:#x}" if route.mark >= HEXADECIMAL_FROM else route.mark
            out.put("mark", route.mark, f"mark {mark} ")
        if route.uid is not None:
            out.put("uid", route.uid, f"uid {route.uid} ")
        if route.cached:
            out.newline()
            words = [word for flag, word in CACHE_FLAGS.items() if route.flags & flag]
            said = f"<{','.join(words)}> " if words else ""
            out.put("cache", words, f"    cache {said}")
        if route.expires is not None:
            out.put("expires", route.expires, f"expires {route.expires}sec ")

    def _metrics(self, route: Route) -> None:
        if not route.congctl and all(metric == RTAX_LOCK for metric in route.metrics):
            return
        out = self.out
        locked = route.metrics.get(RTAX_LOCK, 0)
        out.open_list("metrics")
        out.open()
        for metric in range(RTAX_LOCK + 1, RTAX_MAX + 1):
            lock = "lock " if locked & 1 << metric else ""
            if metric == RTAX_CC_ALGO:
                if route.congctl:
                    out.put("congestion", route.congctl, f"congctl {lock}{route.congctl} ")
            elif metric in route.metrics:
                self._metric(metric, route.metrics[metric], lock)
        out.close()
        out.close()

    def _metric(self, metric: int, value: int, lock: str) -> None:
        out, word = self.out, METRICS[metric]
        if metric == RTAX_FEATURES:
            out.text(f"{word} {lock}")
            if value & ECN:
                out.put("ecn", None, "ecn ")
            if value & ~ECN:
                out.put("features", f"{value & ~ECN:#x}", f"{value & ~ECN:#x} ")
        elif metric in TIMES:
            milliseconds = value // TIMES[metric]
            out.put(word, milliseconds, f"{word} {lock}{values.format_time(milliseconds)} ")
        else:
            out.put(word, value, f"{word} {lock}{value} ")

    def _nexthop_object(self, nhid: int) -> None:
        out = self.out
        try:
            found = self.session.get(Nexthop(id=nhid))
        except Refused:
            return
        for nexthop in found:
            out.newline()
            out.text("\tnh_info ")
            out.open("nh_info")
            print_nexthop(self.session, out, nexthop)
            out.close()

    def _hops(self, hops: list[Hop]) -> None:
        out = self.out
        out.open_list("nexthops")
        for hop in hops:
            out.open()
            out.newline()
            out.text("\tnexthop ")
            if hop.gateway:
                gateway = addr_to_str(hop.gateway)
                out.put("gateway", gateway, f"via {gateway} ")
            if hop.ifindex:
                name = self.session.device(hop.ifindex)
                out.put("dev", name, f"dev {name} ")
            out.put("weight", hop.weight, f"weight {hop.weight} ")
            self._flags(hop.flags)
            out.close()
        out.close()
