"""ip nexthop: show, add, replace, delete, get, flush."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

from ustack.cli.ip import values
from ustack.cli.ip.nexthop_text import print_nexthop
from ustack.cli.ip.session import Refused
from ustack.cli.ip.words import ShowUsage, Words, first_verb, invalid, known, matches, number, unsigned
from ustack.routing.uapi import NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, RTNH_F_ONLINK
from ustack.rtnl.messages import Nexthop

if TYPE_CHECKING:
    from ustack.cli.ip.session import Session

VERBS: Final = ("add", "replace", "delete", "list", "show", "lst", "get", "flush", "help")
NLM_FLAGS: Final = {"add": NLM_F_CREATE | NLM_F_EXCL, "replace": NLM_F_CREATE | NLM_F_REPLACE}
WEIGHT_MAX: Final = 256


def do_nexthop(session: Session, argv: list[str]) -> int:
    """``ip nexthop ...``"""
    verb, words = first_verb(session.program, "nexthop", argv, VERBS)
    if verb in NLM_FLAGS:
        session.change("new", NexthopGrammar(session, words).parse(), NLM_FLAGS[verb])
    elif verb == "delete":
        grammar = NexthopGrammar(session, words)
        nexthop = grammar.parse()
        if grammar.zero and nexthop == Nexthop():
            raise Refused(errno.EINVAL, "Invalid nexthop id")
        session.change("del", nexthop)
    elif verb == "get":
        if len(words) != 2 or words.take() != "id":
            raise ShowUsage
        return get(session, parse_id(words.take()))
    else:
        return flush(session, words) if verb == "flush" else show(session, words)
    return 0


def parse_id(word: str) -> int:
    return number(word, "invalid id value")


class NexthopGrammar:
    """Reads the words of one next-hop object."""

    def __init__(self, session: Session, words: Words) -> None:
        self.session: Session = session
        self.words: Words = words
        self.nexthop = Nexthop()
        self.zero: bool = False  #: "id 0", which is none, and still is not without one

    def parse(self) -> Nexthop:
        while self.words:
            self._word(self.words.take())
        return self.nexthop

    def _word(self, word: str) -> None:
        nexthop = self.nexthop
        if word == "id":
            nexthop.id = parse_id(self.words.take())
            self.zero = nexthop.id == 0
        elif word == "dev":
            nexthop.ifindex = find_device(self.session, self.words.take())
        elif word == "via":
            text = self.words.take()
            inet = text == "inet"
            nexthop.gateway = values.address(self.words.take() if inet else text, inet or self.session.options.inet)
        elif word == "blackhole":
            nexthop.blackhole = True
        elif word == "onlink":
            nexthop.flags |= RTNH_F_ONLINK
        elif word == "group":
            nexthop.group = parse_group(self.words.take())
        elif word == "type":
            self._type(self.words.take())
        elif matches(word, "protocol"):
            self._protocol(self.words.take())
        elif word == "help":
            raise ShowUsage
        elif word in ("encap", "fdb"):
            raise Refused(errno.EOPNOTSUPP)
        else:
            invalid(word, "")

    def _type(self, word: str) -> None:
        if word == "resilient":
            raise Refused(errno.EOPNOTSUPP)
        if word != "mpath":
            invalid(word, '"type" value is invalid\n')

    def _protocol(self, word: str) -> None:
        self.nexthop.protocol = known(self.session.names.parse_protocol(word), word, '"protocol" value is invalid\n')


def find_device(session: Session, name: str) -> int:
    return session.find_device(name) or invalid(name, "Device does not exist\n")


def parse_group(text: str) -> list[tuple[int, int]]:
    """``ID[,WEIGHT]/ID[,WEIGHT]/...``"""
    group = []
    for entry in text.split("/"):
        number_, comma, weight = entry.partition(",")
        found = number(number_, '"group" value is invalid\n')
        share = unsigned(weight, WEIGHT_MAX) if comma else 1
        group.append((found, share or invalid(weight, '"weight" is invalid\n')))
    return group


# -- show, get and flush


class NexthopFilter:
    """Which objects are meant."""

    def __init__(self, session: Session, words: Words) -> None:
        self.session: Session = session
        self.words: Words = words
        self.wanted = Nexthop()

    def parse(self) -> None:
        """Up to the end, or to an id, after which nothing else counts."""
        while self.words and not self.wanted.id:
            self._word(self.words.take())

    def _word(self, word: str) -> None:
        wanted = self.wanted
        if word == "dev":
            wanted.ifindex = find_device(self.session, self.words.take())
        elif matches(word, "groups"):
            wanted.groups = True
        elif word == "master":
            find_device(self.session, self.words.take())
        elif matches(word, "vrf"):
            invalid(self.words.take(), "Invalid VRF\n")
        elif word == "id":
            wanted.id = parse_id(self.words.take())
        elif matches(word, "protocol"):
            wanted.protocol = number(self.words.take(), "invalid protocol value")
        elif matches(word, "help"):
            raise ShowUsage
        elif word != "fdb":
            invalid(word, "")

    def found(self) -> list[Nexthop]:
        return [each for each in self.session.dump(self.wanted) if self.agrees(each)]

    def agrees(self, nexthop: Nexthop) -> bool:
        wanted = self.wanted
        return (
            wanted.ifindex in (0, nexthop.ifindex)
            and wanted.protocol in (0, nexthop.protocol)
            and (bool(nexthop.group) or not wanted.groups)
        )


def print_all(session: Session, nexthops: list[Nexthop]) -> int:
    out = session.printer()
    out.begin()
    for nexthop in nexthops:
        out.open()
        print_nexthop(session, out, nexthop)
        out.text("\n")
        out.close()
    out.end()
    return 0


def show(session: Session, words: Words) -> int:
    chosen = NexthopFilter(session, words)
    chosen.parse()
    if chosen.wanted.id:
        return get(session, chosen.wanted.id)
    return print_all(session, [] if session.options.other_family else chosen.found())


def get(session: Session, number_: int) -> int:
    return print_all(session, session.get(Nexthop(id=number_)))


def flush(session: Session, words: Words) -> int:
    """Those that use a removed one go with it: that is not an error."""
    chosen = NexthopFilter(session, words)
    chosen.parse()
    if chosen.wanted.id:
        session.change("del", Nexthop(id=chosen.wanted.id))
        return 0
    nexthops = chosen.found()
    for nexthop in nexthops:
        try:
            session.change("del", Nexthop(id=nexthop.id))
        except Refused as refusal:
            if refusal.errno != errno.ENOENT:
                raise
    session.out.write(f"Flushed {len(nexthops)} nexthops\n" if nexthops else "Nothing to flush\n")
    return 0
