"""ip address: show, add, change, replace, delete, flush."""

from __future__ import annotations

import errno
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Final

from ustack.cli.ip import values
from ustack.cli.ip.link import LinkFilter
from ustack.cli.ip.link_text import LinkPrinter
from ustack.cli.ip.session import Refused
from ustack.cli.ip.values import ADDRESS_BITS, Prefix
from ustack.cli.ip.words import (
    FAILURE,
    Mistake,
    ShowUsage,
    Words,
    first_verb,
    garbage,
    known,
    matches,
    number,
    read_words,
    second_value,
)
from ustack.routing.flow import RT_SCOPE_HOST, RT_SCOPE_UNIVERSE
from ustack.routing.uapi import (
    IFA_F_DEPRECATED,
    IFA_F_NOPREFIXROUTE,
    IFA_F_PERMANENT,
    IFA_F_SECONDARY,
    NLM_F_CREATE,
    NLM_F_EXCL,
    NLM_F_REPLACE,
)
from ustack.rtnl.messages import Addr, Link
from ustack.wire.ipv4 import addr_to_str

if TYPE_CHECKING:
    from collections.abc import Callable

    from ustack.cli.ip.output import Printer
    from ustack.cli.ip.session import Session

VERBS: Final = ("add", "change", "chg", "replace", "delete", "list", "show", "lst", "flush", "help")
NLM_FLAGS: Final = {
    "add": NLM_F_CREATE | NLM_F_EXCL,
    "change": NLM_F_REPLACE,
    "chg": NLM_F_REPLACE,
    "replace": NLM_F_CREATE | NLM_F_REPLACE,
}
#: IFA_F_TENTATIVE, which IPv4 knows only as a filter.
IFA_F_TENTATIVE: Final = 0x40
IFA_F_DADFAILED: Final = 0x08
IFA_F_MCAUTOJOIN: Final = 0x400
#: The longest prefix whose addresses have a broadcast address among them (RFC 3021).
BROADCAST_BITS: Final = 30
FOREVER: Final = 0xFFFF_FFFF
LOOPBACK: Final = Prefix(0x7F00_0000, 8)

#: Words that filter by a flag: the flag, and whether it must be set.
FLAG_FILTERS: Final = {
    "dynamic": (IFA_F_PERMANENT, False),
    "permanent": (IFA_F_PERMANENT, True),
    "secondary": (IFA_F_SECONDARY, True),
    "temporary": (IFA_F_SECONDARY, True),
    "primary": (IFA_F_SECONDARY, False),
    "tentative": (IFA_F_TENTATIVE, True),
    "deprecated": (IFA_F_DEPRECATED, True),
    "dadfailed": (IFA_F_DADFAILED, True),
    "noprefixroute": (IFA_F_NOPREFIXROUTE, True),
    "autojoin": (IFA_F_MCAUTOJOIN, True),
}
IPV6_ONLY: Final = ("home", "nodad", "mngtmpaddr")
READ_ONLY: Final = ("tentative", "deprecated", "dadfailed", "secondary", "temporary", "permanent", "optimistic")


def do_address(session: Session, argv: list[str]) -> int:
    """``ip address ...``"""
    verb, words = first_verb(session.program, "address", argv, VERBS)
    if verb in NLM_FLAGS:
        session.change("new", AddressGrammar(session, words).parse(), NLM_FLAGS[verb])
    elif verb == "delete":
        session.change("del", AddressGrammar(session, words, deleting=True).parse())
    else:
        return flush(session, words) if verb == "flush" else show(session, words)
    return 0


class AddressGrammar:
    """Reads the words of one address."""

    def __init__(self, session: Session, words: Words, *, deleting: bool = False) -> None:
        self.session: Session = session
        self.words: Words = words
        self.deleting: bool = deleting
        self.addr = Addr()
        self.device: str = ""
        self.local: Prefix | None = None
        self.peer: Prefix | None = None
        self.broadcast: str = ""
        self.valid: int = FOREVER
        self.preferred: int = FOREVER

    def parse(self) -> Addr:
        read_words(self.words, self, KEYWORDS, self._local)
        if not self.device:
            raise Mistake('Not enough information: "dev" argument is required.\n', FAILURE)
        self._complete()
        self.addr.ifindex = self.session.need_device(self.device)
        if self.local is None or self.local.word:
            raise Refused(errno.EOPNOTSUPP)
        if (self.valid, self.preferred) != (FOREVER, FOREVER):
            raise Refused(errno.EOPNOTSUPP)
        return self.addr

    def _complete(self) -> None:
        """What follows from what is said: prefix length, broadcast address, scope."""
        addr, local = self.addr, self.local
        if local is None:
            return
        addr.local, addr.prefixlen = local.addr, local.length
        if self.peer is not None:
            addr.peer, addr.prefixlen = self.peer.addr, self.peer.length
        elif self.deleting and not local.given:
            addr.wildcard = True
            self._warn(local.addr)
        if self.broadcast and not self.deleting:
            addr.broadcast = self._broadcast(self.peer or local)
        if addr.scope is None and not self.deleting:
            addr.scope = RT_SCOPE_HOST if LOOPBACK.covers(local.addr) else RT_SCOPE_UNIVERSE
        if self.preferred > self.valid:
            raise Mistake("preferred_lft is greater than valid_lft\n", FAILURE)

    def _warn(self, addr: int) -> None:
        self.session.err.write(
            "Warning: Executing wildcard deletion to stay compatible with old scripts.\n"
            f"         Explicitly specify the prefix length ({addr_to_str(addr)}/{ADDRESS_BITS})"
            " to avoid this warning.\n"
            "         This special behaviour is likely to disappear in further releases,\n"
            "         fix your scripts!\n"
        )

    def _broadcast(self, subnet: Prefix) -> int | None:
        if self.broadcast not in ("+", "-"):
            return values.address(self.broadcast)
        if subnet.length > BROADCAST_BITS:
            return None
        host = (1 << (ADDRESS_BITS - subnet.length)) - 1
        return subnet.addr | host if self.broadcast == "+" else subnet.addr & ~host

    # -- the words

    def _local(self, word: str) -> None:
        if word == "local":
            word = self.words.take()
        if matches(word, "help"):
            raise ShowUsage
        if self.local is not None:
            garbage("local", word)
        self.local = values.prefix(word, self.session.options.inet)

    def peer_(self) -> None:
        word = self.words.take()
        if self.peer is not None:
            second_value("peer", word)
        self.peer = values.prefix(word, self.session.options.inet or self.local is not None)

    def broadcast_(self) -> None:
        word = self.words.take()
        if self.broadcast:
            second_value("broadcast", word)
        if word not in ("+", "-"):
            values.address(word)
        self.broadcast = word

    def anycast(self) -> None:
        """Which the kernel takes and forgets."""
        values.address(self.words.take())

    def scope(self) -> None:
        word = self.words.take()
        self.addr.scope = known(self.session.names.parse_scope(word), word, "invalid scope value.")

    def dev(self) -> None:
        self.device = self.words.take()

    def label(self) -> None:
        self.addr.label = self.words.take()

    def metric(self) -> None:
        self.addr.metric = number(self.words.take(), '"metric" value is invalid\n')

    def _lifetime(self, name: str) -> int:
        word = self.words.take()
        if word == "forever":
            return FOREVER
        return number(word, f"{name} value")

    def valid_lft(self) -> None:
        self.valid = self._lifetime("valid_lft")
        if not self.valid:
            raise Mistake("valid_lft is zero\n", FAILURE)

    def preferred_lft(self) -> None:
        self.preferred = self._lifetime("preferred_lft")

    def noprefixroute(self) -> None:
        self.addr.flags |= IFA_F_NOPREFIXROUTE

    def autojoin(self) -> None:
        self.addr.flags |= IFA_F_MCAUTOJOIN


def warn(text: str) -> Callable[[AddressGrammar], None]:
    """For words that are understood and do nothing."""

    def read(grammar: AddressGrammar) -> None:
        grammar.session.err.write(f"Warning: {text}\n")

    return read


#: The words in the order in which they are tried, whether they may be shortened, and what reads on.
KEYWORDS: Final[list[tuple[str, bool, Callable[[AddressGrammar], None]]]] = [
    ("peer", False, AddressGrammar.peer_),
    ("remote", False, AddressGrammar.peer_),
    ("broadcast", True, AddressGrammar.broadcast_),
    ("brd", False, AddressGrammar.broadcast_),
    ("anycast", True, AddressGrammar.anycast),
    ("scope", False, AddressGrammar.scope),
    ("dev", False, AddressGrammar.dev),
    ("label", False, AddressGrammar.label),
    ("metric", False, AddressGrammar.metric),
    ("priority", False, AddressGrammar.metric),
    ("preference", False, AddressGrammar.metric),
    ("valid_lft", True, AddressGrammar.valid_lft),
    ("preferred_lft", True, AddressGrammar.preferred_lft),
    ("noprefixroute", False, AddressGrammar.noprefixroute),
    ("autojoin", False, AddressGrammar.autojoin),
    *((name, False, warn(f"{name} option can be set only for IPv6 addresses")) for name in IPV6_ONLY),
    *((name, False, warn(f"{name} option is not mutable from userspace")) for name in READ_ONLY),
]


# -- show and flush


class AddressFilter(LinkFilter):
    """Which addresses are meant."""

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self.flags: int = 0
        self.mask: int = 0
        self.scope: int | None = None
        self.label: str = ""
        self.prefix: Prefix | None = None
        self.inet: bool = session.options.inet

    def read(self, words: Words, word: str) -> None:
        name = word.removeprefix("-")
        if name in FLAG_FILTERS:
            flag, wanted = FLAG_FILTERS[name]
            self.mask |= flag
            self.flags = self.flags | flag if wanted == (name == word) else self.flags & ~flag
        elif word == "to":
            self.prefix = values.prefix(words.take(), self.inet)
            self.inet = self.inet or not self.prefix.anything
        elif word == "scope":
            self._scope(words.take())
        elif word == "label":
            self.label = words.take()
        else:
            super().read(words, word)

    def _scope(self, word: str) -> None:
        if word == "all":
            self.scope = None
            return
        self.scope = known(self.session.names.parse_scope(word), word, 'invalid "scope"\n')

    @property
    def hides_links(self) -> bool:
        """Whether only addresses are printed."""
        options = self.session.options
        return bool(self.label) or (options.oneline and not options.brief)

    def agrees_in(self, addr: Addr) -> bool:
        return (
            (addr.flags ^ self.flags) & self.mask == 0
            and (self.scope is None or (addr.scope or 0) == self.scope)
            and (not self.label or fnmatchcase(addr.label, self.label))
            and (self.prefix is None or self.prefix.anything or self.prefix.covers(addr.local))
        )

    def chosen(self) -> list[tuple[Link, list[Addr]]]:
        """The devices, each with those of its addresses that are meant; those that have others only are left out."""
        found: dict[int, list[Addr]] = {}
        for addr in self.session.dump(Addr(ifindex=self.ifindex)):
            found.setdefault(addr.ifindex, []).append(addr)
        result = []
        for link in self.session.dump(self.request()):
            every = found.get(link.ifindex, [])
            meant = [addr for addr in every if self.agrees_in(addr)]
            if meant or (not every and not self.inet):
                result.append((link, meant))
        return result


class AddressPrinter:
    """Prints addresses."""

    def __init__(self, session: Session, out: Printer) -> None:
        self.session: Session = session
        self.out: Printer = out

    def print(self, addr: Addr, *, named: bool = False, deleted: bool = False) -> None:
        """An address in its two lines; ``named``: with its device before it."""
        out = self.out
        out.open()
        if deleted:
            out.put("deleted", True, "Deleted ")
        if named:
            name = self.session.device(addr.ifindex)
            out.put("index", addr.ifindex, f"{addr.ifindex}: ")
            out.put("dev", name, name)
        out.put("family", "inet", "    inet ")
        self._addresses(addr)
        if addr.broadcast is not None:
            broadcast = addr_to_str(addr.broadcast)
            out.put("broadcast", broadcast, f"brd {broadcast} ")
        scope = self.session.names.scope(addr.scope or 0)
        out.put("scope", scope, f"scope {scope} ")
        self._flags(addr.flags)
        if addr.label:
            out.put("label", addr.label, addr.label)
        out.newline()
        out.put("valid_life_time", FOREVER, "       valid_lft forever ")
        out.put("preferred_life_time", FOREVER, "preferred_lft forever")
        out.text("\n")
        out.close()

    def brief(self, addr: Addr) -> None:
        self.out.open()
        self._addresses(addr)
        self.out.close()

    def _addresses(self, addr: Addr) -> None:
        out = self.out
        local = addr_to_str(addr.local)
        out.put("local", local, local)
        if addr.peer is not None and addr.peer != addr.local:
            peer = addr_to_str(addr.peer)
            out.put("address", peer, f" peer {peer}")
        out.put("prefixlen", addr.prefixlen, f"/{addr.prefixlen} ")
        if addr.metric:
            out.put("metric", addr.metric, f"metric {addr.metric} ")

    def _flags(self, flags: int) -> None:
        for flag, word, wanted in (
            (IFA_F_SECONDARY, "secondary", True),
            (IFA_F_TENTATIVE, "tentative", True),
            (IFA_F_DEPRECATED, "deprecated", True),
            (IFA_F_PERMANENT, "dynamic", False),
            (IFA_F_NOPREFIXROUTE, "noprefixroute", True),
            (IFA_F_MCAUTOJOIN, "autojoin", True),
        ):
            if bool(flags & flag) == wanted:
                self.out.put(word, True, f"{word} ")


def show(session: Session, words: Words) -> int:
    chosen = AddressFilter(session)
    while words:
        chosen.read(words, words.take())
    chosen.resolve()
    out = session.printer()
    out.begin()
    for link, addrs in [] if session.options.other_family else chosen.chosen():
        out.open()
        if chosen.agrees(link):
            show_one(chosen, out, link, addrs)
        out.close()
    out.end()
    return 0


def show_one(chosen: AddressFilter, out: Printer, link: Link, addrs: list[Addr]) -> None:
    """A device with its addresses."""
    session = chosen.session
    links, printer = LinkPrinter(session, out), AddressPrinter(session, out)
    if chosen.hides_links:
        pass
    elif session.options.brief:
        links.brief(link, mac=False)
    else:
        links.head(link, mac=not chosen.inet)
        out.text("\n")
    out.open_list("addr_info")
    for addr in addrs:
        if session.options.brief:
            printer.brief(addr)
        else:
            printer.print(addr, named=session.options.oneline)
    out.close()
    if session.options.brief:
        out.text("\n")
    elif session.options.stats and not chosen.hides_links:
        links.stats(link, below=False)
        out.text("\n")


def flush(session: Session, words: Words) -> int:
    """Delete every address that is meant, one by one."""
    if not words:
        raise Mistake("Flush requires arguments.\n", FAILURE)
    chosen = AddressFilter(session)
    while words:
        chosen.read(words, words.take())
    chosen.resolve()
    printer = AddressPrinter(session, session.printer(as_json=False))
    count = 0
    for link, addrs in chosen.chosen():
        for addr in addrs if chosen.agrees(link) else []:
            count += delete(session, printer, addr)
    session.report_flush(count, "addresses")
    return 0


def delete(session: Session, printer: AddressPrinter, addr: Addr) -> int:
    """How many: 1, even if it has gone already, with the primary address of its subnet."""
    if session.options.stats > 1:
        printer.print(addr, named=True)
    try:
        session.change("del", addr)
    except Refused as refusal:
        if refusal.errno != errno.EADDRNOTAVAIL:
            raise
    return 1
