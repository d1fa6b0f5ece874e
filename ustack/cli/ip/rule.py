"""ip rule: show, add, delete, flush."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

from ustack.cli.ip import values
from ustack.cli.ip.names import parse_route_type
from ustack.cli.ip.rule_text import RulePrinter
from ustack.cli.ip.session import Refused
from ustack.cli.ip.words import FAILURE, Mistake, ShowUsage, Words, first_verb, known, matches, number, read_words
from ustack.routing.uapi import (
    FIB_RULE_INVERT,
    FR_ACT_GOTO,
    FR_ACT_NOP,
    FR_ACT_TO_TBL,
    FR_ACT_UNSPEC,
    NLM_F_CREATE,
    NLM_F_EXCL,
    RT_TABLE_MAIN,
)
from ustack.rtnl.messages import Rule

if TYPE_CHECKING:
    from collections.abc import Callable

    from ustack.cli.ip.session import Session
    from ustack.cli.ip.values import Prefix

VERBS: Final = ("list", "lst", "show", "add", "delete", "flush", "help")


def do_rule(session: Session, argv: list[str]) -> int:
    """``ip rule ...``"""
    verb, words = first_verb(session.program, "rule", argv, VERBS)
    if verb in ("add", "delete"):
        if not words:
            raise Mistake(f'"{session.program} rule {verb[:3]}" requires arguments.\n', FAILURE)
        rule = RuleGrammar(session, words, deleting=verb == "delete").parse()
        if verb == "add":
            session.change("new", rule, NLM_F_CREATE | NLM_F_EXCL)
        else:
            session.change("del", rule)
        return 0
    return flush(session, words) if verb == "flush" else show(session, words)


class RuleGrammar:
    """Reads the words of one rule."""

    def __init__(self, session: Session, words: Words, *, deleting: bool = False) -> None:
        self.session: Session = session
        self.words: Words = words
        self.deleting: bool = deleting
        self.rule = Rule(action=FR_ACT_UNSPEC if deleting else FR_ACT_TO_TBL)
        self.has_table: bool = False

    def parse(self) -> Rule:
        read_words(self.words, self, KEYWORDS, self._action)
        if not self.has_table and not self.deleting:
            self.rule.table = RT_TABLE_MAIN
        return self.rule

    def _prefix(self) -> Prefix:
        return values.prefix(self.words.take(), self.session.options.inet)

    def invert(self) -> None:
        self.rule.flags |= FIB_RULE_INVERT

    def from_(self) -> None:
        found = self._prefix()
        self.rule.src, self.rule.src_len = found.addr, found.length

    def to(self) -> None:
        found = self._prefix()
        self.rule.dst, self.rule.dst_len = found.addr, found.length

    def priority(self) -> None:
        self.rule.priority = number(self.words.take(), "preference value is invalid\n")

    def tos(self) -> None:
        word = self.words.take()
        self.rule.tos = known(self.session.names.parse_tos(word), word, "TOS value is invalid\n")

    def fwmark(self) -> None:
        self.rule.mark, self.rule.mask = values.marked(self.words.take())

    def protocol(self) -> None:
        word = self.words.take()
        self.rule.protocol = known(self.session.names.parse_protocol(word), word, '"protocol" value is invalid\n')

    def table(self) -> None:
        word = self.words.take()
        self.rule.table = known(self.session.names.parse_table(word), word, "invalid table ID\n")
        self.has_table = True

    def suppress_prefixlength(self) -> None:
        self.rule.suppress_prefixlength = number(self.words.take(), "suppress_prefixlength value is invalid\n")

    def suppress_ifgroup(self) -> None:
        word = self.words.take()
        self.rule.suppress_ifgroup = 0 if word == "default" else number(word, 'Invalid "suppress_ifgroup" value\n')

    def iif(self) -> None:
        self.rule.iif = self.words.take()

    def oif(self) -> None:
        self.rule.oif = self.words.take()

    def uidrange(self) -> None:
        self.rule.uidrange = values.uid_range(self.words.take())

    def ipproto(self) -> None:
        word = self.words.take()
        self.rule.ipproto = known(self.session.names.parse_ip_protocol(word), word, 'Invalid "ipproto" value\n')

    def sport(self) -> None:
        self.rule.sport = values.port_range(self.words.take())

    def dport(self) -> None:
        self.rule.dport = values.port_range(self.words.take())

    def missing(self) -> None:
        """What ustack does not have."""
        raise Refused(errno.EOPNOTSUPP)

    def _action(self, word: str) -> None:
        if word == "type":
            word = self.words.take()
        if matches(word, "help"):
            raise ShowUsage
        self.has_table = True
        if matches(word, "goto"):
            self.rule.action = FR_ACT_GOTO
            self.rule.goto = number(self.words.take(), "invalid target\n")
        elif matches(word, "nop"):
            self.rule.action = FR_ACT_NOP
        else:
            self.rule.action = known(parse_route_type(word), word, "Failed to parse rule type")


#: The words in the order in which they are tried, whether they may be shortened, and what reads on.
KEYWORDS: Final[list[tuple[str, bool, Callable[[RuleGrammar], None]]]] = [
    ("not", False, RuleGrammar.invert),
    ("from", False, RuleGrammar.from_),
    ("to", False, RuleGrammar.to),
    ("preference", True, RuleGrammar.priority),
    ("order", True, RuleGrammar.priority),
    ("priority", True, RuleGrammar.priority),
    ("tos", False, RuleGrammar.tos),
    ("dsfield", True, RuleGrammar.tos),
    ("fwmark", False, RuleGrammar.fwmark),
    ("realms", True, RuleGrammar.missing),
    ("protocol", True, RuleGrammar.protocol),
    ("tun_id", False, RuleGrammar.missing),
    ("table", True, RuleGrammar.table),
    ("lookup", False, RuleGrammar.table),
    ("suppress_prefixlength", True, RuleGrammar.suppress_prefixlength),
    ("sup_pl", False, RuleGrammar.suppress_prefixlength),
    ("suppress_ifgroup", True, RuleGrammar.suppress_ifgroup),
    ("sup_group", False, RuleGrammar.suppress_ifgroup),
    ("dev", False, RuleGrammar.iif),
    ("iif", False, RuleGrammar.iif),
    ("oif", False, RuleGrammar.oif),
    ("l3mdev", False, RuleGrammar.missing),
    ("uidrange", False, RuleGrammar.uidrange),
    ("nat", True, RuleGrammar.missing),
    ("map-to", False, RuleGrammar.missing),
    ("ipproto", False, RuleGrammar.ipproto),
    ("sport", False, RuleGrammar.sport),
    ("dport", False, RuleGrammar.dport),
]


# -- show and flush


class RuleFilter:
    """Which rules are meant: the words after ip rule show and flush."""

    def __init__(self, session: Session, words: Words) -> None:
        self.session: Session = session
        self.words: Words = words
        self.wanted: dict[str, object] = {}  # attributes that must be equal
        self.inverted: bool = False
        self.src: Prefix | None = None
        self.dst: Prefix | None = None
        self.protocol: int | None = None  #: by which iproute2 chooses what to flush, and not what to show

    def parse(self) -> None:
        while self.words:
            self._word(self.words.take())

    def _word(self, word: str) -> None:
        names, wanted = self.session.names, self.wanted
        if matches(word, "preference", "order", "priority"):
            wanted["priority"] = number(self.words.take(), "preference value is invalid\n")
        elif word == "not":
            self.inverted = True
        elif word == "tos" or matches(word, "dsfield"):
            wanted["tos"] = known(names.parse_tos(text := self.words.take()), text, "TOS value is invalid\n")
        elif word == "fwmark":
            mark, mask = values.marked(self.words.take())
            wanted |= {"mark": mark} if mask is None else {"mark": mark, "mask": mask}
        elif word in ("dev", "iif"):
            wanted["iif"] = self.words.take()
        elif word == "oif":
            wanted["oif"] = self.words.take()
        elif word == "uidrange":
            wanted["uidrange"] = values.uid_range(self.words.take())
        elif matches(word, "lookup", "table"):
            text = self.words.take()
            wanted["table"] = known(names.parse_table(text), text, "table id value is invalid\n")
        elif word in ("sport", "dport"):
            wanted[word] = values.port_range(self.words.take())
        elif word == "ipproto":
            text = self.words.take()
            wanted["ipproto"] = known(names.parse_ip_protocol(text), text, 'Invalid "ipproto" value\n')
        elif matches(word, "protocol"):
            text = self.words.take()
            self.protocol = known(names.parse_protocol(text), text, 'invalid "protocol"\n')
        else:
            self._address(word)

    def _address(self, word: str) -> None:
        if word == "from":
            self.src = self._prefix(self.words.take())
        else:
            self.dst = self._prefix(self.words.take() if word in ("to", "dst") else word)

    @staticmethod
    def _prefix(word: str) -> Prefix:
        return values.prefix(word)

    def agrees(self, rule: Rule) -> bool:
        if self.inverted and not rule.flags & FIB_RULE_INVERT:
            return False
        if self.src is not None and not self.src.holds(rule.src, rule.src_len):
            return False
        if self.dst is not None and not self.dst.holds(rule.dst, rule.dst_len):
            return False
        return all(getattr(rule, name) == value for name, value in self.wanted.items())

    def found(self) -> list[Rule]:
        return [rule for rule in self.session.dump(Rule(action=FR_ACT_UNSPEC)) if self.agrees(rule)]


def show(session: Session, words: Words) -> int:
    chosen = RuleFilter(session, words)
    chosen.parse()
    rules = chosen.found()
    out = session.printer()
    printer = RulePrinter(session, out)
    out.begin()
    for rule in [] if session.options.other_family else rules:
        printer.print(rule)
    out.end()
    return 0


def flush(session: Session, words: Words) -> int:
    """All but the one of preference 0."""
    chosen = RuleFilter(session, words)
    chosen.parse()
    for rule in chosen.found():
        if rule.priority and chosen.protocol in (None, rule.protocol):
            session.change("del", rule)
    return 0
