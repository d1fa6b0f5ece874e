"""ip neighbour: show, add, change, replace, delete, get, flush."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

from ustack.cli.ip import values
from ustack.cli.ip.session import Refused
from ustack.cli.ip.values import MAC_LENGTH, Prefix
from ustack.cli.ip.words import (
    FAILURE,
    MISTAKE,
    U8,
    Mistake,
    ShowUsage,
    Words,
    choose,
    first_verb,
    garbage,
    invalid,
    known,
    matches,
    number,
)
from ustack.neighbour.states import (
    NUD_DELAY,
    NUD_FAILED,
    NUD_INCOMPLETE,
    NUD_NAMES,
    NUD_NOARP,
    NUD_NONE,
    NUD_PERMANENT,
    NUD_PROBE,
    NUD_REACHABLE,
    NUD_STALE,
)
from ustack.routing.uapi import NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE
from ustack.rtnl.messages import Neigh
from ustack.wire.ethernet import mac_to_str
from ustack.wire.ipv4 import addr_to_str

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ustack.cli.ip.output import Printer
    from ustack.cli.ip.session import Session

VERBS: Final = ("add", "change", "chg", "replace", "delete", "get", "show", "lst", "list", "flush", "help")
NLM_FLAGS: Final = {
    "add": NLM_F_CREATE | NLM_F_EXCL,
    "change": NLM_F_REPLACE,
    "chg": NLM_F_REPLACE,
    "replace": NLM_F_CREATE | NLM_F_REPLACE,
}

#: How a filter asks for entries without any state, NUD_NONE, which has no bit.
NONE_BIT: Final = 0x100
EVERY_STATE: Final = 0x1FF
#: In the order in which abbreviations are tried.
STATE_WORDS: Final = {
    "permanent": NUD_PERMANENT, "reachable": NUD_REACHABLE, "noarp": NUD_NOARP, "none": NUD_NONE, "stale": NUD_STALE,
    "incomplete": NUD_INCOMPLETE, "delay": NUD_DELAY, "probe": NUD_PROBE, "failed": NUD_FAILED,
}  # fmt: skip

NTF_EXT_LEARNED: Final = 0x10
NTF_ROUTER: Final = 0x80


def do_neigh(session: Session, argv: list[str]) -> int:
    """``ip neighbour ...``"""
    verb, words = first_verb(session.program, "neigh", argv, VERBS)
    if verb in NLM_FLAGS:
        session.change("new", NeighGrammar(session, words).parse(), NLM_FLAGS[verb])
    elif verb == "delete":
        session.change("del", NeighGrammar(session, words).parse())
    elif verb == "get":
        return get(session, words)
    else:
        return flush(session, words) if verb == "flush" else show(session, words)
    return 0


def parse_state(text: str) -> int:
    """NUD_* by its name, abbreviated or not, or as a number."""
    name = choose(text, tuple(STATE_WORDS))
    if name is not None:
        return STATE_WORDS[name]
    return number(text, "nud state is bad", U8)


class NeighGrammar:
    """Reads the words of one entry."""

    def __init__(self, session: Session, words: Words, *, asking: bool = False) -> None:
        """``asking``: for ip neigh get, which knows fewer words."""
        self.session: Session = session
        self.words: Words = words
        self.asking: bool = asking
        self.neigh = Neigh(state=0 if asking else NUD_PERMANENT)
        self.device: str = ""
        self.mac: bytes | None = None
        self.has_address: bool = False

    def parse(self) -> Neigh:
        while self.words:
            self._word(self.words.take())
        if not self.has_address or not (self.device or (self.neigh.proxy and not self.asking)):
            if self.asking:
                raise Mistake("Device and address are required arguments.\n", FAILURE)
            raise Mistake("Device and destination are required arguments.\n", MISTAKE)
        if self.device:
            self.neigh.ifindex = self.session.need_device(self.device)
        if self.mac is not None:
            if len(self.mac) < MAC_LENGTH:
                raise Refused(errno.EINVAL, "Invalid link address")
            self.neigh.mac = int.from_bytes(self.mac[:MAC_LENGTH], "big")
        return self.neigh

    def _word(self, word: str) -> None:
        if word == "dev":
            self.device = self.words.take()
        elif word == "proxy":
            self._address(self.words.take())
            self.neigh.proxy = True
            self.neigh.state = 0
        elif self.asking or not self._more(word):
            if word == "to":
                word = self.words.take()
            if matches(word, "help"):
                raise ShowUsage
            self._address(word)

    def _more(self, word: str) -> bool:
        """What only a change says."""
        if word == "lladdr":
            self.mac = values.link_address(self.words.take())
        elif word == "nud":
            self.neigh.state = parse_state(self.words.take())
        elif word == "router":
            self.neigh.flags |= NTF_ROUTER
        elif matches(word, "extern_learn"):
            self.neigh.flags |= NTF_EXT_LEARNED
        elif matches(word, "protocol"):
            self._protocol(self.words.take())
        else:
            return False
        return True

    def _protocol(self, word: str) -> None:
        self.neigh.protocol = known(self.session.names.parse_protocol(word), word, '"protocol" value is invalid\n')

    def _address(self, word: str) -> None:
        if self.has_address:
            garbage("to", word)
        self.neigh.dst = values.address(word, self.session.options.inet)
        self.has_address = True


class NeighPrinter:
    """Prints entries."""

    def __init__(self, session: Session, out: Printer, *, hide_device: bool = False) -> None:
        self.session: Session = session
        self.out: Printer = out
        self.hide_device: bool = hide_device

    def print(self, neigh: Neigh, *, deleted: bool = False, asked: bool = False) -> None:
        """One entry and the end of its line; ``asked``: somebody is wanted who knows its address."""
        out = self.out
        out.open()
        if deleted:
            out.put("deleted", True, "Deleted ")
        elif asked:
            out.put("miss", None, "miss ")
        if self.session.options.brief:
            self._brief(neigh)
        else:
            self._whole(neigh)
        out.text("\n")
        out.close()

    def _whole(self, neigh: Neigh) -> None:
        out, dst = self.out, addr_to_str(neigh.dst)
        out.put("dst", dst, f"{dst} ")
        if neigh.ifindex and not self.hide_device:
            name = self.session.device(neigh.ifindex)
            out.put("dev", name, f"dev {name} ")
        if neigh.mac is not None:
            out.put("lladdr", mac_to_str(neigh.mac), f"lladdr {mac_to_str(neigh.mac)} ")
        for word, wanted in (
            ("router", neigh.flags & NTF_ROUTER),
            ("proxy", neigh.proxy),
            ("extern_learn", neigh.flags & NTF_EXT_LEARNED),
        ):
            if wanted:
                out.put(word, None, f"{word} ")
        if self.session.options.stats and not neigh.proxy:
            self._stats(neigh)
        states = [name for state, name in NUD_NAMES.items() if neigh.state & state]
        if states:
            out.put("state", states, f"{','.join(states)} ")
        if neigh.protocol:
            protocol = self.session.names.protocol(neigh.protocol)
            out.put("protocol", protocol, f"proto {protocol} ")

    def _brief(self, neigh: Neigh) -> None:
        """-br: in columns."""
        out, dst = self.out, addr_to_str(neigh.dst)
        out.put("dst", dst, f"{dst:<39} ")
        if neigh.ifindex and not self.hide_device:
            name = self.session.device(neigh.ifindex)
            out.put("dev", name, f"{name:<16} ")
        if neigh.mac is not None:
            out.put("lladdr", mac_to_str(neigh.mac), mac_to_str(neigh.mac))

    def _stats(self, neigh: Neigh) -> None:
        out = self.out
        if neigh.refcnt:
            out.put("refcnt", neigh.refcnt, f" ref {neigh.refcnt}")
        out.data("used", neigh.used)
        out.data("confirmed", neigh.confirmed)
        out.put("updated", neigh.updated, f" used {neigh.used}/{neigh.confirmed}/{neigh.updated}")
        out.put("probes", neigh.probes, f"probes {neigh.probes} ")


# -- show, get and flush


class NeighFilter:
    """Which entries are meant."""

    def __init__(self, session: Session, words: Words, default: int) -> None:
        """``default``: the states that are meant where none is named."""
        self.session: Session = session
        self.words: Words = words
        self.state: int = default
        self.named: bool = False
        self.device: str = ""
        self.ifindex: int = 0
        self.proxy: bool = False
        self.unused: bool = False
        self.protocol: int = 0
        self.prefix: Prefix | None = None

    def parse(self) -> None:
        while self.words:
            self._word(self.words.take())
        if self.device:
            self.ifindex = self.session.need_device(self.device)

    def _word(self, word: str) -> None:
        if word == "dev":
            self.device = self.words.take()
        elif word == "master":
            name = self.words.take()
            if not self.session.find_device(name):
                invalid(name, "Device does not exist\n")
        elif word == "vrf":
            invalid(self.words.take(), "Not a valid VRF name\n")
        elif word == "nomaster":
            pass
        elif word == "unused":
            self.unused = True
        elif word == "nud":
            self._state(self.words.take())
        elif word == "proxy":
            self.proxy = True
        elif matches(word, "protocol"):
            text = self.words.take()
            self.protocol = known(self.session.names.parse_protocol(text), text, '"protocol" value is invalid\n')
        else:
            if word == "to":
                word = self.words.take()
            if matches(word, "help"):
                raise ShowUsage
            self.prefix = values.prefix(word, self.session.options.inet)

    def _state(self, word: str) -> None:
        if not self.named:
            self.named, self.state = True, 0
        self.state |= EVERY_STATE if word == "all" else parse_state(word) or NONE_BIT

    def found(self) -> Iterator[Neigh]:
        for neigh in self.session.dump(Neigh(ifindex=self.ifindex, state=EVERY_STATE, proxy=self.proxy, dst_len=0)):
            if self.agrees(neigh):
                yield neigh

    def agrees(self, neigh: Neigh) -> bool:
        special = neigh.proxy or neigh.flags & NTF_EXT_LEARNED
        if not neigh.state & self.state and not special and (neigh.state or not self.state & NONE_BIT):
            return False
        return (
            neigh.proxy == self.proxy
            and not (self.ifindex and neigh.ifindex != self.ifindex)
            and not (self.unused and neigh.refcnt)
            and not (self.protocol and neigh.protocol != self.protocol)
            and (self.prefix is None or self.prefix.anything or self.prefix.covers(neigh.dst))
        )


def show(session: Session, words: Words) -> int:
    chosen = NeighFilter(session, words, U8 & ~NUD_NOARP)
    chosen.parse()
    out = session.printer()
    printer = NeighPrinter(session, out, hide_device=bool(chosen.ifindex))
    out.begin()
    if not session.options.other_family:
        for neigh in chosen.found():
            printer.print(neigh)
    out.end()
    return 0


def get(session: Session, words: Words) -> int:
    """One entry, in words even with -j."""
    printer = NeighPrinter(session, session.printer(as_json=False))
    for neigh in session.get(NeighGrammar(session, words, asking=True).parse()):
        printer.print(neigh)
    return 0


def flush(session: Session, words: Words) -> int:
    """Delete every entry that is meant, one by one."""
    if not words:
        raise Mistake("Flush requires arguments.\n", FAILURE)
    chosen = NeighFilter(session, words, EVERY_STATE & ~(NUD_PERMANENT | NUD_NOARP))
    chosen.parse()
    printer = NeighPrinter(session, session.printer(as_json=False), hide_device=bool(chosen.ifindex))
    count = 0
    for neigh in list(chosen.found()):
        if session.options.stats > 1:
            printer.print(neigh)
        session.change("del", neigh)
        count += 1
    session.report_flush(count, "entries")
    return 0
