"""ip route: show, flush, get, and every way of changing."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from ustack.cli.ip import values
from ustack.cli.ip.load import load_routes, save_routes
from ustack.cli.ip.route_filter import RouteFilter
from ustack.cli.ip.route_grammar import RouteGrammar
from ustack.cli.ip.route_text import RoutePrinter
from ustack.cli.ip.words import FAILURE, Mistake, ShowUsage, Words, first_verb, invalid, known, matches, number
from ustack.routing.uapi import NLM_F_APPEND, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE
from ustack.rtnl.messages import Route, SetSysctl

if TYPE_CHECKING:
    from ustack.cli.ip.session import Session

VERBS: Final = (
    "list", "show", "lst", "get", "add", "change", "chg", "replace", "prepend", "append", "test", "delete", "flush",
    "save", "load", "help",
)  # fmt: skip
#: How to add.
NLM_FLAGS: Final = {
    "add": NLM_F_CREATE | NLM_F_EXCL,
    "change": NLM_F_REPLACE,
    "chg": NLM_F_REPLACE,
    "replace": NLM_F_CREATE | NLM_F_REPLACE,
    "prepend": NLM_F_CREATE,
    "append": NLM_F_CREATE | NLM_F_APPEND,
    "test": NLM_F_EXCL,
}
FLUSH_CACHE: Final = "net.ipv4.route.flush"


def do_route(session: Session, argv: list[str]) -> int:
    """``ip route ...``"""
    verb, words = first_verb(session.program, "route", argv, VERBS)
    if verb in NLM_FLAGS:
        session.change("new", RouteGrammar(session, words).parse(), NLM_FLAGS[verb])
    elif verb == "delete":
        session.change("del", RouteGrammar(session, words, deleting=True).parse())
    elif verb == "get":
        return get(session, words)
    elif verb == "flush":
        return flush(session, words)
    elif verb == "save":
        return save_routes(session, words)
    elif verb == "load":
        return load_routes(session, words)
    else:
        return show(session, words)
    return 0


def show(session: Session, words: Words) -> int:
    chosen = RouteFilter(session, words)
    chosen.parse()
    out = session.printer()
    printer = RoutePrinter(session, out, chosen.unsaid())
    out.begin()
    if not session.options.other_family:
        for route in session.dump(chosen.request()):
            if chosen.agrees(route):
                printer.print(route)
    out.end()
    return 0


def flush(session: Session, words: Words) -> int:
    if not words:
        raise Mistake(f'"{session.program} route flush" requires arguments.\n', FAILURE)
    chosen = RouteFilter(session, words)
    chosen.parse()
    if chosen.cache:
        session.ask(SetSysctl(FLUSH_CACHE, "-1"))
        return 0
    printer = RoutePrinter(session, session.printer(as_json=False), chosen.unsaid())
    count = 0
    for route in session.dump(chosen.request(), "flush", "Flush") if chosen.simple else delete_each(session, chosen):
        count += 1
        if session.options.stats > 1:
            printer.print(route)
    session.report_flush(count, "entries")
    return 0


def delete_each(session: Session, chosen: RouteFilter) -> list[Route]:
    """What is chosen is deleted one by one."""
    gone = []
    for route in list(session.dump(chosen.request(), purpose="Flush")):
        if chosen.agrees(route):
            session.change("del", route)
            gone.append(route)
    return gone


# -- route get


class Question:
    """What a packet would look like: the words after ip route get."""

    def __init__(self, session: Session, words: Words) -> None:
        self.session: Session = session
        self.words: Words = words
        self.route = Route()
        self.devices: dict[str, str] = {}
        self.connected: bool = False
        self.has_destination: bool = False

    def parse(self) -> Route:
        while self.words:
            self._word(self.words.take())
        if not self.has_destination:
            raise Mistake("need at least a destination address\n", FAILURE)
        if "iif" in self.devices:
            self.route.iif = self.session.need_device(self.devices["iif"])
        if "oif" in self.devices:
            self.route.ifindex = self.session.need_device(self.devices["oif"])
        if self.route.uid is None and not self.route.iif:
            self.route.uid = os.getuid()
        return self.route

    def _word(self, word: str) -> None:
        route, names = self.route, self.session.names
        if word == "tos" or matches(word, "dsfield"):
            route.tos = known(names.parse_tos(text := self.words.take()), text, "TOS value is invalid\n")
        elif matches(word, "iif"):
            self.devices["iif"] = self.words.take()
        elif matches(word, "mark"):
            route.mark = number(self.words.take(), "invalid mark value")
        elif matches(word, "oif") or word == "dev":
            self.devices["oif"] = self.words.take()
        elif matches(word, "connected"):
            self.connected = True
        elif matches(word, "vrf"):
            invalid(self.words.take(), "Invalid VRF\n")
        elif matches(word, "uid"):
            route.uid = number(self.words.take(), "invalid UID\n")
        elif matches(word, "fibmatch"):
            route.fibmatch = True
        elif word == "ipproto":
            text = self.words.take()
            route.ipproto = known(names.parse_ip_protocol(text), text, 'Invalid "ipproto" value\n')
        elif word == "sport":
            route.sport = number(self.words.take(), "invalid sport\n", 0xFFFF)
        elif word == "dport":
            route.dport = number(self.words.take(), "invalid dport\n", 0xFFFF)
        elif not matches(word, "notify"):
            self._address(word)

    def _address(self, word: str) -> None:
        source = word == "from"
        if source or word == "to":
            word = self.words.take()
        if matches(word, "help"):
            raise ShowUsage
        found = values.prefix(word, self.session.options.inet or self.has_destination or bool(self.route.src_len))
        if source:
            self.route.src, self.route.src_len = found.addr, found.length
            return
        if 0 < found.length < values.ADDRESS_BITS:
            self.session.err.write(f"Warning: /{found.length} as prefix is invalid, only /32 (or none) is supported.\n")
        self.route.dst, self.route.dst_len = found.addr, values.ADDRESS_BITS if found.length else 0
        self.has_destination = True


def get(session: Session, words: Words) -> int:
    question = Question(session, words)
    out = session.printer()
    answers = session.get(question.parse())
    for _ in range(1 + question.connected):
        out.begin()
        for route in answers:
            RoutePrinter(session, out).print(route)
        out.end()
    return 0
