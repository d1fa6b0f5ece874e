"""Which routes are meant: the words after ip route show and flush."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeGuard

from ustack.cli.ip import values
from ustack.cli.ip.names import parse_route_type
from ustack.cli.ip.route_text import Unsaid
from ustack.cli.ip.values import ADDRESS_BITS, Prefix
from ustack.cli.ip.words import ShowUsage, invalid, known, matches, number, read_words
from ustack.routing.uapi import RT_TABLE_MAIN
from ustack.rtnl.messages import Route

if TYPE_CHECKING:
    from collections.abc import Callable

    from ustack.cli.ip.session import Session
    from ustack.cli.ip.words import Words

EVERY_TABLE: Final = 0


def is_address(prefix: Prefix | None) -> TypeGuard[Prefix]:
    """Whether it is one address, and not that of nobody."""
    return prefix is not None and prefix.length == ADDRESS_BITS and prefix.addr != 0


class RouteFilter:
    """What is asked of a route; None and "" ask nothing."""

    def __init__(self, session: Session, words: Words) -> None:
        self.session: Session = session
        self.words: Words = words
        self.table: int = RT_TABLE_MAIN
        self.cache: bool = False  #: what was learned of single destinations instead
        self.protocol: int | None = None
        self.scope: int | None = None
        self.rtype: int | None = None
        self.tos: int | None = None
        self.metric: int | None = None
        self.mark: int | None = None
        self.device: str = ""
        self.input_device: str = ""
        self.ifindex: int = 0
        self.root: Prefix | None = None
        self.match: Prefix | None = None
        self.source_root: Prefix | None = None
        self.source_match: Prefix | None = None
        self.via: Prefix | None = None
        self.prefsrc: Prefix | None = None

    def parse(self) -> None:
        read_words(self.words, self, KEYWORDS, self._destination)
        if self.device:
            self.ifindex = self.session.need_device(self.device)
        if self.input_device:
            self.session.need_device(self.input_device)

    def _prefix(self, word: str) -> Prefix | None:
        """None for "any", which asks nothing."""
        found = values.prefix(word, self.session.options.inet)
        return None if found.anything and not self.session.options.inet else found

    # -- the words

    def _destination(self, word: str) -> None:
        if word == "to":
            word = self.words.take()
        if matches(word, "root"):
            self.root = self._prefix(self.words.take())
        elif matches(word, "match"):
            self.match = self._prefix(self.words.take())
        else:
            if matches(word, "help"):
                raise ShowUsage
            self.root = self.match = self._prefix(self.words.take() if matches(word, "exact") else word)

    def from_(self) -> None:
        word = self.words.take()
        if matches(word, "root"):
            self.source_root = self._prefix(self.words.take())
        elif matches(word, "match"):
            self.source_match = self._prefix(self.words.take())
        else:
            exact = self._prefix(self.words.take() if matches(word, "exact") else word)
            self.source_root = self.source_match = exact

    def table_(self) -> None:
        word = self.words.take()
        if word == "all":
            self.table = EVERY_TABLE
        elif word == "cache":
            self.cache = True
        else:
            self.table = known(self.session.names.parse_table(word), word, "table id value is invalid\n")

    def no_vrf(self) -> None:
        invalid(self.words.take(), "Invalid VRF\n")

    def cached(self) -> None:
        self.cache = True

    def tos_(self) -> None:
        word = self.words.take()
        self.tos = known(self.session.names.parse_tos(word), word, "TOS value is invalid\n")

    def protocol_(self) -> None:
        word = self.words.take()
        if word == "all":
            self.protocol = None
            return
        self.protocol = known(self.session.names.parse_protocol(word), word, 'invalid "protocol"\n')

    def scope_(self) -> None:
        word = self.words.take()
        if word == "all":
            self.scope = None
            return
        self.scope = known(self.session.names.parse_scope(word), word, 'invalid "scope"\n')

    def type_(self) -> None:
        word = self.words.take()
        self.rtype = known(parse_route_type(word), word, "node type value is invalid\n")

    def dev(self) -> None:
        self.device = self.words.take()

    def iif(self) -> None:
        self.input_device = self.words.take()

    def mark_(self) -> None:
        self.mark = number(self.words.take(), "mark value is invalid\n")

    def metric_(self) -> None:
        self.metric = number(self.words.take(), '"metric" value is invalid\n')

    def via_(self) -> None:
        word = self.words.take()
        self.via = self._prefix(self.words.take() if word == "inet" else word)

    def src(self) -> None:
        self.prefsrc = self._prefix(self.words.take())

    def skip(self) -> None:
        self.words.take()

    # -- what it is good for

    def request(self) -> Route:
        """What the stack can filter by itself."""
        return Route(
            table=self.table,
            protocol=self.protocol or 0,
            scope=self.scope,
            rtype=self.rtype or 0,
            tos=self.tos or 0,
            priority=self.metric,
            gateway=self.via.addr if is_address(self.via) else 0,
            ifindex=self.ifindex,
            prefsrc=self.prefsrc.addr if is_address(self.prefsrc) else 0,
            root=None if self.root is None else (self.root.addr, self.root.length),
            match=None if self.match is None else (self.match.addr, self.match.length),
            cached=self.cache,
        )

    @property
    def simple(self) -> bool:
        """Whether the request says it all. A device does not: the stack finds it in sets of next hops, too."""
        asked = (self.mark, self.source_root, self.source_match)
        addresses = (self.via, self.prefsrc)
        return (
            all(each is None for each in asked)
            and all(each is None or is_address(each) for each in addresses)
            and 0 not in (self.protocol, self.rtype, self.tos)
            and not self.ifindex
            and not self.input_device
        )

    def unsaid(self) -> Unsaid:
        return Unsaid(
            table=self.table != EVERY_TABLE,
            protocol=self.protocol is not None,
            scope=self.scope is not None,
            tos=self.tos is not None,
            device=bool(self.ifindex),
            gateway=is_address(self.via),
            prefsrc=is_address(self.prefsrc),
            metric=self.metric is not None,
        )

    def agrees(self, route: Route) -> bool:
        """Whether it is one of those that are meant (filter_nlmsg)."""
        asked = (
            (self.protocol, route.protocol), (self.scope, route.scope or 0), (self.rtype, route.rtype),
            (self.tos, route.tos), (self.metric, route.priority or 0), (self.mark, route.mark),
        )  # fmt: skip
        if any(wanted is not None and wanted != found for wanted, found in asked):
            return False
        if self.ifindex and route.ifindex != self.ifindex:
            return False
        return not self.input_device and self._agrees_in_addresses(route)

    def _agrees_in_addresses(self, route: Route) -> bool:
        return (
            (self.root is None or self.root.holds(route.dst, route.dst_len))
            and (self.match is None or Prefix(route.dst, route.dst_len).holds(self.match.addr, self.match.length))
            and (self.source_root is None or self.source_root.holds(route.src, route.src_len))
            and (
                self.source_match is None
                or Prefix(route.src, route.src_len).holds(self.source_match.addr, self.source_match.length)
            )
            and (self.via is None or self.via.covers(route.gateway))
            and (self.prefsrc is None or self.prefsrc.covers(route.prefsrc))
        )


#: The words in the order in which they are tried, whether they may be shortened, and what reads on.
KEYWORDS: Final[list[tuple[str, bool, Callable[[RouteFilter], None]]]] = [
    ("table", True, RouteFilter.table_),
    ("vrf", False, RouteFilter.no_vrf),
    ("cached", True, RouteFilter.cached),
    ("cloned", True, RouteFilter.cached),
    ("tos", False, RouteFilter.tos_),
    ("dsfield", True, RouteFilter.tos_),
    ("protocol", True, RouteFilter.protocol_),
    ("scope", True, RouteFilter.scope_),
    ("type", True, RouteFilter.type_),
    ("dev", False, RouteFilter.dev),
    ("oif", False, RouteFilter.dev),
    ("iif", False, RouteFilter.iif),
    ("mark", False, RouteFilter.mark_),
    ("metric", True, RouteFilter.metric_),
    ("priority", True, RouteFilter.metric_),
    ("preference", False, RouteFilter.metric_),
    ("via", False, RouteFilter.via_),
    ("src", False, RouteFilter.src),
    ("realms", True, RouteFilter.skip),
    ("from", True, RouteFilter.from_),
]
