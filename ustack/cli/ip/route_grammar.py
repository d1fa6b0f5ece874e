"""Which route is meant: the words after ip route add, del, change, replace, append (Linux struct rtmsg)."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

from ustack.cli.ip import values
from ustack.cli.ip.names import parse_route_type
from ustack.cli.ip.session import Refused
from ustack.cli.ip.words import Mistake, ShowUsage, garbage, invalid, known, matches, number, read_words, unsigned
from ustack.dst import RTN_ANYCAST, RTN_BROADCAST, RTN_LOCAL, RTN_MULTICAST, RTN_UNICAST, RTN_UNSPEC
from ustack.routing.flow import RT_SCOPE_HOST, RT_SCOPE_LINK, RT_SCOPE_NOWHERE, RT_SCOPE_UNIVERSE
from ustack.routing.uapi import (
    RT_TABLE_LOCAL,
    RT_TABLE_MAIN,
    RTAX_ADVMSS,
    RTAX_CC_ALGO,
    RTAX_CWND,
    RTAX_FASTOPEN_NO_COOKIE,
    RTAX_FEATURES,
    RTAX_HOPLIMIT,
    RTAX_INITCWND,
    RTAX_INITRWND,
    RTAX_LOCK,
    RTAX_MTU,
    RTAX_QUICKACK,
    RTAX_REORDERING,
    RTAX_RTO_MIN,
    RTAX_RTT,
    RTAX_RTTVAR,
    RTAX_SSTHRESH,
    RTAX_WINDOW,
    RTNH_F_ONLINK,
    RTPROT_BOOT,
)
from ustack.rtnl.messages import Hop, Route

if TYPE_CHECKING:
    from collections.abc import Callable

    from ustack.cli.ip.session import Session
    from ustack.cli.ip.words import Words

RTN_NAT: Final = 10
RTAX_FEATURE_ECN: Final = 1
WEIGHT_MAX: Final = 256
#: The kernel keeps these in units of 1/8 and 1/4 ms; a number without a unit is taken as it is.
RTT_UNITS: Final = 8
RTTVAR_UNITS: Final = 4


class RouteGrammar:
    """Reads the words of one route."""

    def __init__(self, session: Session, words: Words, *, deleting: bool = False) -> None:
        self.session: Session = session
        self.words: Words = words
        self.deleting: bool = deleting
        self.route = Route(
            protocol=0 if deleting else RTPROT_BOOT, rtype=RTN_UNSPEC if deleting else RTN_UNICAST, table=RT_TABLE_MAIN
        )
        self.device: str = ""
        self.locked: int = 0
        self.has_destination: bool = False
        self.has_gateway: bool = False
        self.has_table: bool = False

    def parse(self) -> Route:
        read_words(self.words, self, KEYWORDS, self._destination)
        if not self.has_destination:
            raise ShowUsage
        if self.device:
            self.route.ifindex = self.session.need_device(self.device)
        self._defaults()
        return self.route

    def _defaults(self) -> None:
        """Table and scope as iproute2 chooses them where nothing is said."""
        route, kind = self.route, self.route.rtype
        if self.locked:
            route.metrics[RTAX_LOCK] = self.locked
        if not self.has_table and kind in (RTN_LOCAL, RTN_BROADCAST, RTN_NAT, RTN_ANYCAST):
            route.table = RT_TABLE_LOCAL
        if route.scope is None:
            route.scope = self._scope(kind)

    def _scope(self, kind: int) -> int:
        if kind in (RTN_LOCAL, RTN_NAT):
            return RT_SCOPE_HOST
        if kind in (RTN_BROADCAST, RTN_MULTICAST, RTN_ANYCAST):
            return RT_SCOPE_LINK
        if self.deleting:
            return RT_SCOPE_NOWHERE
        nowhere_else = not self.has_gateway and not self.route.hops and not self.route.nhid
        return RT_SCOPE_LINK if kind in (RTN_UNICAST, RTN_UNSPEC) and nowhere_else else RT_SCOPE_UNIVERSE

    # -- where to

    def _destination(self, word: str) -> None:
        if word == "to":
            word = self.words.take()
        if not "0" <= word[:1] <= "9":
            kind = parse_route_type(word)
            if kind is not None:
                self.route.rtype = kind
                word = self.words.take()
        if matches(word, "help"):
            raise ShowUsage
        if self.has_destination:
            garbage("to", word)
        found = values.prefix(word, self.session.options.inet)
        self.route.dst, self.route.dst_len = found.addr, found.length
        self.has_destination = True

    def src(self) -> None:
        self.route.prefsrc = values.address(self.words.take())

    def via(self) -> None:
        if self.has_gateway:
            invalid("via", "use nexthop syntax to specify multiple via\n")
        self.has_gateway = True
        self.route.gateway = self._gateway()

    def _gateway(self) -> int:
        word = self.words.take()
        if word == "inet":
            word = self.words.take()
        elif word in ("inet6", "mpls", "link", "bridge"):
            raise Refused(errno.EAFNOSUPPORT)
        return values.address(word)

    def source_prefix(self) -> None:
        found = values.prefix(self.words.take(), self.session.options.inet)
        self.route.src, self.route.src_len = found.addr, found.length

    def tos(self) -> None:
        word = self.words.take()
        self.route.tos = known(self.session.names.parse_tos(word), word, '"tos" value is invalid\n')

    def priority(self) -> None:
        self.route.priority = number(self.words.take(), '"metric" value is invalid\n')

    def scope(self) -> None:
        word = self.words.take()
        self.route.scope = known(self.session.names.parse_scope(word), word, 'invalid "scope" value\n')

    def protocol(self) -> None:
        word = self.words.take()
        self.route.protocol = known(self.session.names.parse_protocol(word), word, '"protocol" value is invalid\n')

    def table(self) -> None:
        word = self.words.take()
        self.route.table = known(self.session.names.parse_table(word), word, '"table" value is invalid\n')
        self.has_table = True

    def dev(self) -> None:
        self.device = self.words.take()

    def onlink(self) -> None:
        self.route.flags |= RTNH_F_ONLINK

    def nhid(self) -> None:
        self.route.nhid = number(self.words.take(), '"id" value is invalid\n')

    # -- metrics

    def _lock(self, metric: int) -> None:
        if self.words.skip("lock"):
            self.locked |= 1 << metric

    def _metric(self, metric: int, name: str, limit: int = 0xFFFF_FFFF) -> None:
        self._lock(metric)
        self.route.metrics[metric] = number(self.words.take(), f'"{name}" value is invalid\n', limit)

    def mtu(self) -> None:
        self._metric(RTAX_MTU, "mtu")

    def hoplimit(self) -> None:
        self._metric(RTAX_HOPLIMIT, "hoplimit", 255)

    def advmss(self) -> None:
        self._metric(RTAX_ADVMSS, "mss")

    def reordering(self) -> None:
        self._metric(RTAX_REORDERING, "reordering")

    def window(self) -> None:
        self._metric(RTAX_WINDOW, "window")

    def cwnd(self) -> None:
        self._metric(RTAX_CWND, "cwnd")

    def initcwnd(self) -> None:
        self._metric(RTAX_INITCWND, "initcwnd")

    def initrwnd(self) -> None:
        self._metric(RTAX_INITRWND, "initrwnd")

    def ssthresh(self) -> None:
        self._metric(RTAX_SSTHRESH, "ssthresh")

    def _time(self, metric: int, name: str, units: int) -> None:
        word = self.words.take()
        found = values.parse_time(word)
        if found is None:
            invalid(word, f'"{name}" value is invalid\n')
        milliseconds, has_unit = found
        self.route.metrics[metric] = milliseconds * (units if has_unit else 1) & 0xFFFF_FFFF

    def rtt(self) -> None:
        self._lock(RTAX_RTT)
        self._time(RTAX_RTT, "rtt", RTT_UNITS)

    def rttvar(self) -> None:
        self._lock(RTAX_RTTVAR)
        self._time(RTAX_RTTVAR, "rttvar", RTTVAR_UNITS)

    def rto_min(self) -> None:
        self._time(RTAX_RTO_MIN, "rto_min", 1)
        self.locked |= 1 << RTAX_RTO_MIN

    def features(self) -> None:
        word = self.words.take()
        if word != "ecn":
            invalid(word, '"features" value not valid\n')
        self.route.metrics[RTAX_FEATURES] = RTAX_FEATURE_ECN

    def _yes_or_no(self, metric: int, name: str) -> None:
        word = self.words.take()
        value = number(word, f'"{name}" value is invalid\n')
        if value > 1:
            invalid(word, f'"{name}" value should be 0 or 1\n')
        self.route.metrics[metric] = value

    def quickack(self) -> None:
        self._yes_or_no(RTAX_QUICKACK, "quickack")

    def fastopen_no_cookie(self) -> None:
        self._yes_or_no(RTAX_FASTOPEN_NO_COOKIE, "fastopen_no_cookie")

    def congctl(self) -> None:
        self._lock(RTAX_CC_ALGO)
        self.route.congctl = self.words.take()

    # -- what IPv4 does not look at, and what ustack does not have

    def ignored(self) -> None:
        self.words.take()

    def missing(self) -> None:
        raise Refused(errno.EOPNOTSUPP)

    # -- several next hops

    def nexthops(self) -> None:
        """What comes after the first ``nexthop``: nothing but next hops."""
        while True:
            if not self.words:
                raise Mistake('Error: unexpected end of line after "nexthop"\n')
            self.route.hops.append(self._hop())
            if not self.words:
                return
            if self.words.peek() != "nexthop":
                raise Mistake(f'Error: "nexthop" or end of line is expected instead of "{self.words.peek()}"\n')
            self.words.take()

    def _hop(self) -> Hop:
        hop = Hop()
        while self.words:
            word = self.words.peek()
            if word not in ("via", "dev", "weight", "onlink", "encap", "as") and not matches(word, "realms"):
                break
            self.words.take()
            if word == "via":
                gateway = self._gateway()
                hop.gateway = hop.gateway or gateway  # the kernel takes the first
            elif word == "dev":
                hop.ifindex = self._hop_device(self.words.take())
            elif word == "weight":
                hop.weight = self._weight(self.words.take())
            elif word == "onlink":
                hop.flags |= RTNH_F_ONLINK
            else:
                self.missing()
        return hop

    def _hop_device(self, name: str) -> int:
        ifindex = self.session.find_device(name)
        if not ifindex:
            raise Mistake(f'Cannot find device "{name}"\nError: cannot parse nexthop\n')
        return ifindex

    def _weight(self, word: str) -> int:
        weight = unsigned(word, WEIGHT_MAX)
        return weight or invalid(word, '"weight" is invalid\n')


#: The words in the order in which they are tried, whether they may be shortened, and what reads on.
KEYWORDS: Final[list[tuple[str, bool, Callable[[RouteGrammar], None]]]] = [
    ("nexthop", False, RouteGrammar.nexthops),
    ("src", False, RouteGrammar.src),
    ("as", False, RouteGrammar.missing),
    ("via", False, RouteGrammar.via),
    ("from", False, RouteGrammar.source_prefix),
    ("tos", False, RouteGrammar.tos),
    ("dsfield", True, RouteGrammar.tos),
    ("expires", False, RouteGrammar.ignored),
    ("metric", True, RouteGrammar.priority),
    ("priority", True, RouteGrammar.priority),
    ("preference", False, RouteGrammar.priority),
    ("scope", False, RouteGrammar.scope),
    ("mtu", False, RouteGrammar.mtu),
    ("hoplimit", False, RouteGrammar.hoplimit),
    ("advmss", False, RouteGrammar.advmss),
    ("reordering", True, RouteGrammar.reordering),
    ("rtt", False, RouteGrammar.rtt),
    ("rto_min", False, RouteGrammar.rto_min),
    ("window", True, RouteGrammar.window),
    ("cwnd", True, RouteGrammar.cwnd),
    ("initcwnd", True, RouteGrammar.initcwnd),
    ("initrwnd", True, RouteGrammar.initrwnd),
    ("features", True, RouteGrammar.features),
    ("quickack", True, RouteGrammar.quickack),
    ("congctl", True, RouteGrammar.congctl),
    ("rttvar", True, RouteGrammar.rttvar),
    ("ssthresh", True, RouteGrammar.ssthresh),
    ("realms", True, RouteGrammar.missing),
    ("onlink", False, RouteGrammar.onlink),
    ("nhid", False, RouteGrammar.nhid),
    ("protocol", True, RouteGrammar.protocol),
    ("table", True, RouteGrammar.table),
    ("dev", False, RouteGrammar.dev),
    ("oif", False, RouteGrammar.dev),
    ("pref", True, RouteGrammar.ignored),
    ("encap", False, RouteGrammar.missing),
    ("ttl-propagate", False, RouteGrammar.ignored),
    ("fastopen_no_cookie", True, RouteGrammar.fastopen_no_cookie),
]
