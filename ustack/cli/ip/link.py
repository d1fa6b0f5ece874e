"""ip link: show and set; add and delete, which only bridges can be."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

from ustack.cli.ip import values
from ustack.cli.ip.link_text import IFF_NOTRAILERS, LinkPrinter
from ustack.cli.ip.session import Refused
from ustack.cli.ip.values import MAC_LENGTH
from ustack.cli.ip.words import (
    FAILURE,
    Mistake,
    ShowUsage,
    Words,
    first_verb,
    garbage,
    invalid,
    known,
    matches,
    number,
    read_words,
    second_value,
    switch,
    unsigned,
)
from ustack.device.net_device import IFF_ALLMULTI, IFF_MULTICAST, IFF_NOARP, IFF_PROMISC, IFF_UP, dev_valid_name
from ustack.routing.uapi import NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE
from ustack.rtnl.messages import Link

if TYPE_CHECKING:
    from collections.abc import Callable

    from ustack.cli.ip.session import Session

VERBS: Final = ("add", "set", "change", "replace", "delete", "show", "lst", "list", "help")


def do_link(session: Session, argv: list[str]) -> int:
    """``ip link ...``"""
    verb, words = first_verb(session.program, "link", argv, VERBS)
    if verb in ("set", "change"):
        session.change("new", LinkGrammar(session, words).parse())
        return 0
    if verb in ("add", "replace"):
        if "type" not in words.rest():
            raise Mistake('Not enough information: "type" argument is required\n', FAILURE)
        link = LinkGrammar(session, words, adding=True).parse()
        session.change("new", link, NLM_F_CREATE | (NLM_F_EXCL if verb == "add" else NLM_F_REPLACE))
        return 0
    if verb == "delete":
        session.change("del", LinkGrammar(session, words).parse())
        return 0
    return show(session, words)


class LinkGrammar:
    """Reads what is to become of a device."""

    def __init__(self, session: Session, words: Words, *, adding: bool = False) -> None:
        """``adding``: a device that there is not yet."""
        self.session: Session = session
        self.words: Words = words
        self.adding: bool = adding
        self.link = Link(flags=0)
        self.device: str = ""
        self.mac: bytes | None = None

    def parse(self) -> Link:
        read_words(self.words, self, KEYWORDS, self._device)
        if self.adding:
            self.link.name = self.link.name or self.device
        elif not self.device:
            raise Mistake('Not enough information: "dev" argument is required.\n')
        else:
            self.link.ifindex = self.session.need_device(self.device)
        if self.mac is not None:
            if len(self.mac) != MAC_LENGTH:
                text = f"Invalid address length {len(self.mac)} - must be {MAC_LENGTH} bytes\n"
                raise Mistake(text, FAILURE)
            self.link.mac = int.from_bytes(self.mac, "big")
        return self.link

    def _device(self, word: str) -> None:
        if matches(word, "help"):
            raise ShowUsage
        if word == "dev":
            word = self.words.take()
        if self.device:
            garbage("dev", word)
        if not dev_valid_name(word):
            invalid(word, '"dev" not a valid ifname')
        self.device = word

    def _flag(self, flag: int, on: bool) -> None:
        self.link.change |= flag
        assert self.link.flags is not None
        self.link.flags = self.link.flags | flag if on else self.link.flags & ~flag

    def up(self) -> None:
        self._flag(IFF_UP, True)

    def down(self) -> None:
        self._flag(IFF_UP, False)

    def multicast(self) -> None:
        self._flag(IFF_MULTICAST, switch("multicast", self.words.take()))

    def allmulticast(self) -> None:
        self._flag(IFF_ALLMULTI, switch("allmulticast", self.words.take()))

    def promisc(self) -> None:
        self._flag(IFF_PROMISC, switch("promisc", self.words.take()))

    def trailers(self) -> None:
        self._flag(IFF_NOTRAILERS, not switch("trailers", self.words.take()))

    def arp(self) -> None:
        self._flag(IFF_NOARP, not switch("arp", self.words.take()))

    def name(self) -> None:
        word = self.words.take()
        if self.link.name:
            second_value("name", word)
        if not dev_valid_name(word):
            invalid(word, '"name" not a valid ifname')
        self.link.name = word

    def address(self) -> None:
        self.mac = values.link_address(self.words.take())

    def txqueuelen(self) -> None:
        word = self.words.take()
        if self.link.txqlen is not None:
            second_value("txqueuelen", word)
        self.link.txqlen = integer(word, 'Invalid "txqueuelen" value\n')

    def mtu(self) -> None:
        word = self.words.take()
        if self.link.mtu is not None:
            second_value("mtu", word)
        self.link.mtu = integer(word, 'Invalid "mtu" value\n')

    def master(self) -> None:
        word = self.words.take()
        self.link.master = self.session.find_device(word)
        if not self.link.master:
            invalid(word, "Device does not exist\n")

    def nomaster(self) -> None:
        self.link.master = 0

    def kind(self) -> None:
        """What follows is about that kind of device; of a bridge all is as it is by default."""
        if not self.adding:
            self.missing()
        self.link.kind = self.words.take()
        if self.link.kind != "bridge" or self.words:
            raise Refused(errno.EOPNOTSUPP)

    def missing(self) -> None:
        """What ustack's devices do not have."""
        raise Refused(errno.EOPNOTSUPP)


#: The words in the order in which they are tried, whether they may be shortened, and what reads on.
KEYWORDS: Final[list[tuple[str, bool, Callable[[LinkGrammar], None]]]] = [
    ("up", False, LinkGrammar.up),
    ("down", False, LinkGrammar.down),
    ("name", False, LinkGrammar.name),
    ("address", True, LinkGrammar.address),
    ("broadcast", True, LinkGrammar.missing),
    ("brd", False, LinkGrammar.missing),
    ("txqueuelen", True, LinkGrammar.txqueuelen),
    ("qlen", False, LinkGrammar.txqueuelen),
    ("txqlen", True, LinkGrammar.txqueuelen),
    ("mtu", False, LinkGrammar.mtu),
    ("netns", False, LinkGrammar.missing),
    ("multicast", False, LinkGrammar.multicast),
    ("allmulticast", False, LinkGrammar.allmulticast),
    ("promisc", False, LinkGrammar.promisc),
    ("trailers", False, LinkGrammar.trailers),
    ("arp", False, LinkGrammar.arp),
    ("master", False, LinkGrammar.master),
    ("nomaster", False, LinkGrammar.nomaster),
    ("alias", False, LinkGrammar.missing),
    ("group", False, LinkGrammar.missing),
    ("type", True, LinkGrammar.kind),
]


def integer(text: str, complaint: str) -> int:
    """A number that C would read into an int, as the 32 bits that it is sent in."""
    negative = text.startswith("-")
    value = known(unsigned(text.removeprefix("-"), 0x7FFF_FFFF + negative), text, complaint)
    return -value & 0xFFFF_FFFF if negative else value


# -- show


class LinkFilter:
    """Which devices are meant, in ip link and ip addr."""

    def __init__(self, session: Session) -> None:
        self.session: Session = session
        self.device: str = ""
        self.ifindex: int = 0
        self.kind: str | None = None
        self.up: bool = False
        self.master: int | None = None  #: whose ports; 0: those of none
        self.nothing: bool = False  #: a device is asked about that cannot be

    def read(self, words: Words, word: str) -> None:
        """One word; those that are none of a device's are its name."""
        if word == "up":
            self.up = True
        elif matches(word, "group"):
            text = words.take()
            if text != "default":
                number(text, 'Invalid "group" value\n')
                self.nothing = text != "0"
        elif word == "master":
            self._master(words.take())
        elif word == "vrf":
            invalid(words.take(), "Not a valid VRF name\n")
        elif word == "nomaster":
            self.master = 0
        elif word == "type":
            self.kind = words.take()
        else:
            self._device(words.take() if word == "dev" else word)

    def _master(self, name: str) -> None:
        self.master = self.session.find_device(name)
        if not self.master:
            invalid(name, "Device does not exist\n")

    def _device(self, word: str) -> None:
        if matches(word, "help"):
            raise ShowUsage
        if self.device:
            garbage("dev", word)
        self.device = word

    def resolve(self) -> None:
        if self.device:
            self.ifindex = self.session.find_device(self.device)
            if not self.ifindex:
                raise Mistake(f'Device "{self.device}" does not exist.\n', FAILURE)

    def request(self) -> Link:
        return Link(ifindex=self.ifindex)

    def agrees(self, link: Link) -> bool:
        return (
            not self.nothing
            and (self.kind is None or self.kind == link.kind)
            and (self.master is None or self.master == (link.master or 0))
            and (not self.up or bool((link.flags or 0) & IFF_UP))
        )


def show(session: Session, words: Words) -> int:
    chosen = LinkFilter(session)
    while words:
        chosen.read(words, words.take())
    chosen.resolve()
    out = session.printer()
    printer = LinkPrinter(session, out)
    out.begin()
    for link in session.dump(chosen.request()):
        out.open()  # as iproute2 does: an object without members stands for what is left out
        if chosen.agrees(link):
            show_one(session, printer, link)
            out.text("\n")
        out.close()
    out.end()
    return 0


def show_one(session: Session, printer: LinkPrinter, link: Link) -> None:
    if session.options.brief:
        printer.brief(link)
        return
    printer.head(link, mode=True)
    if session.options.stats:
        printer.stats(link)
