"""ip route save and load: big tables as text, the way ip route prints them.

Lines that differ in their prefix alone are one RouteBatch, so that a full table costs little more than reading it.
Routes without a gateway go first: they are what makes gateways reachable (as ip route restore does it). A route that
is there already is no mistake.
"""

from __future__ import annotations

import array
import errno
import os
import sys
import time
from contextlib import contextmanager
from socket import inet_aton
from typing import TYPE_CHECKING, Final

from ustack.cli.ip.route_filter import EVERY_TABLE
from ustack.cli.ip.route_grammar import RouteGrammar
from ustack.cli.ip.route_text import RoutePrinter, Unsaid
from ustack.cli.ip.session import REFUSED, Refused
from ustack.cli.ip.values import ADDRESS_BITS, parse_prefix
from ustack.cli.ip.words import FAILURE, Mistake, ShowUsage, Words, known, matches
from ustack.routing.uapi import NLM_F_CREATE, NLM_F_EXCL, RT_TABLE_MAIN
from ustack.rtnl.messages import BATCH_MAX, Loaded, Route, RouteBatch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import TextIO

    from ustack.cli.ip.session import Session

ENTRY: Final = 5
#: Words that say how a route is, not what it is.
STATES: Final = frozenset({"linkdown", "dead", "unresolved", "pervasive", "offload", "trap", "rt_offload", "rt_trap"})
#: Mistakes that are said one by one.
COMPLAINTS_MAX: Final = 20
#: How often the progress bar moves, lines.
STRIDE: Final = 20_000


class Group:
    """Routes that differ in their prefix alone."""

    def __init__(self, like: Route) -> None:
        self.like: Route = like
        self.prefixes = bytearray()
        self.lines = array.array("L")

    @property
    def direct(self) -> bool:
        return not self.like.gateway and not self.like.hops


class Loader:
    """Reads lines into groups."""

    def __init__(self, session: Session, name: str) -> None:
        """``name``: what mistakes call the file."""
        self.session: Session = session
        self.name: str = name
        self.groups: dict[str, Group] = {}
        self.mistakes: int = 0
        self.taken: int = 0
        self.known: int = 0
        self._lengths: dict[str, int] = {str(length): length for length in range(ADDRESS_BITS + 1)}

    def read(self, lines: Iterable[str], progress: Callable[[int], None]) -> None:
        """Every route; one that goes on in lines that begin with a space or a tab is one."""
        route, at, done = "", 0, 0
        for number, line in enumerate(lines, 1):
            if line[:1] in " \t":
                route += line
                continue
            if route:
                self._route(route, at)
            route, at = line, number
            if number % STRIDE == 0:
                progress(number - done)
                done = number
        if route:
            self._route(route, at)

    def _route(self, route: str, line: int) -> None:
        """The quick way for what was seen before with another prefix."""
        prefix, key = split(route)
        group = self.groups.get(key)
        if group is not None:
            start, _, length = prefix.partition("/")
            bits = self._lengths.get(length) if length else ADDRESS_BITS
            if bits is not None and start.count(".") == 3:
                try:
                    group.prefixes += inet_aton(start)
                except OSError:
                    pass
                else:
                    group.prefixes.append(bits)
                    group.lines.append(line)
                    return
        self._any_route(route, line, prefix, key)

    def _any_route(self, route: str, line: int, prefix: str, key: str) -> None:
        words = route.replace("\\", " ").split()
        if not words or words[0][0] == "#":
            return
        try:
            found = RouteGrammar(self.session, Words(tidy(words))).parse()
        except Mistake as mistake:
            return self.complain(line, mistake.text)
        except Refused as refusal:
            return self.complain(line, str(refusal))
        except ShowUsage:
            return self.complain(line, "Error: a prefix is expected.\n")
        if parse_prefix(prefix) is None:  # the prefix stands elsewhere: what is left is no key
            key = f"\n{line}"
        if key not in self.groups:
            self.groups[key] = Group(found)
        group = self.groups[key]
        group.prefixes += found.dst.to_bytes(4, "big") + bytes([found.dst_len])
        group.lines.append(line)

    def complain(self, line: int, text: str, others: int = 0) -> None:
        """``others``: how many more lines have the same mistake."""
        self.mistakes += 1
        if self.mistakes <= COMPLAINTS_MAX:
            more = f" (and {others:,} like it)" if others else ""
            self.session.err.write(f"{self.name}:{line}: {text.strip()}{more}\n")

    # -- sending

    def send(self, progress: Callable[[int], None]) -> None:
        for group in sorted(self.groups.values(), key=lambda group: not group.direct):
            for start in range(0, len(group.lines), BATCH_MAX):
                self._send(group, start)
                progress(min(BATCH_MAX, len(group.lines) - start))

    def _send(self, group: Group, start: int) -> None:
        prefixes = bytes(group.prefixes[start * ENTRY : (start + BATCH_MAX) * ENTRY])
        try:
            answer = self.session.ask(RouteBatch(group.like, prefixes, NLM_F_CREATE | NLM_F_EXCL))
        except Refused as refusal:
            return self.complain(group.lines[start], str(refusal), len(prefixes) // ENTRY - 1)
        assert isinstance(answer, Loaded)
        self.taken += answer.taken
        for place, code in answer.refused.items():
            if code == errno.EEXIST:
                self.known += 1
            else:
                self.complain(group.lines[start + place], f"RTNETLINK answers: {os.strerror(code)}")


def split(route: str) -> tuple[str, str]:
    """The prefix, and everything else, which routes share: what comes before it, and what after."""
    prefix, _, rest = route.partition(" ")
    if "0" <= prefix[:1] <= "9":
        return prefix, rest
    if prefix == "default":
        return "0.0.0.0/0", rest
    kind = prefix
    prefix, _, rest = rest.partition(" ")
    return "0.0.0.0/0" if prefix == "default" else prefix, f"{kind}\n{rest}"


def tidy(words: list[str]) -> list[str]:
    """Without what tells how a route is; a next-hop object says itself where it leads, and rto_min is always locked."""
    kept = [word for last, word in zip(["", *words], words, strict=False)
            if word not in STATES and (last, word) != ("rto_min", "lock")]  # fmt: skip
    if "nhid" not in kept:
        return kept
    if "nexthop" in kept:
        kept = kept[: kept.index("nexthop")]
    result: list[str] = []
    skipping = False
    for word in kept:
        if skipping or word in ("via", "dev"):
            skipping = not skipping
        else:
            result.append(word)
    return result


def load_routes(session: Session, words: Words) -> int:
    """``ip route load FILE``, or - for standard input."""
    if len(words) != 1 or matches(words.peek(), "help"):
        raise ShowUsage
    name = words.take()
    loader = Loader(session, name)
    started = time.monotonic()
    with open_lines(name) as (file, size):
        with progress_bar(session.err, "reading", size) as advance:
            loader.read(file, advance)
    count = sum(len(group.lines) for group in loader.groups.values())
    with progress_bar(session.err, "loading", count) as advance:
        loader.send(advance)
    if loader.mistakes > COMPLAINTS_MAX:
        session.err.write(f"{name}: {loader.mistakes - COMPLAINTS_MAX:,} more mistakes\n")
    if session.err.isatty():
        known = f", {loader.known:,} were there" if loader.known else ""
        session.err.write(f"{loader.taken:,} routes in {time.monotonic() - started:.1f} s{known}\n")
    return REFUSED if loader.mistakes else 0


@contextmanager
def open_lines(name: str) -> Iterator[tuple[TextIO, int]]:
    """The file, and about how many lines it has; 0 where nobody knows."""
    if name == "-":
        yield sys.stdin, 0
        return
    try:
        file = open(name, errors="replace")
    except OSError as reason:
        raise Mistake(f'Cannot open "{name}": {reason.strerror}\n', FAILURE) from None
    with file:
        sample = file.read(1 << 16)
        lines = os.fstat(file.fileno()).st_size * max(1, sample.count("\n")) // max(1, len(sample))
        file.seek(0)
        yield file, lines


@contextmanager
def progress_bar(err: TextIO, what: str, total: int) -> Iterator[Callable[[int], None]]:
    """What moves it on; nothing is drawn unless a terminal looks."""
    if not err.isatty():
        yield lambda count: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(file=err), transient=True) as progress:
        task = progress.add_task(what, total=total or None)
        yield lambda count: progress.advance(task, count)


def save_routes(session: Session, words: Words) -> int:
    """``ip route save [FILE] [table T]``: with everything that is needed to make the routes again."""
    name, table = "-", RT_TABLE_MAIN
    while words:
        word = words.take()
        if matches(word, "table"):
            table = parse_table(session, words.take())
        elif word == "help":
            raise ShowUsage
        else:
            name = word
    with writing(session, name) as file:
        printer = session.printer(as_json=False)
        printer.out, printer.oneline = file, False
        routes = RoutePrinter(session, printer, Unsaid(), nexthop_info=False)
        routes.details = True
        for route in session.dump(Route(table=table)):
            routes.print(route)
    return 0


def parse_table(session: Session, word: str) -> int:
    if word == "all":
        return EVERY_TABLE
    return known(session.names.parse_table(word), word, "table id value is invalid\n")


@contextmanager
def writing(session: Session, name: str) -> Iterator[TextIO]:
    if name == "-":
        yield session.out
        return
    try:
        file = open(name, "w")
    except OSError as reason:
        raise Mistake(f'Cannot open "{name}": {reason.strerror}\n', FAILURE) from None
    with file:
        yield file
