"""One run of the command: its options, whom it asks, where it prints, and which devices there are."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar

from ustack.cli.ip.names import Names
from ustack.cli.ip.output import Printer
from ustack.cli.ip.words import no_device
from ustack.rtnl.dump import follow
from ustack.rtnl.messages import Link, Nack, Object, Rtm

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import TextIO

    from ustack.cli.ip.transport import Transport
    from ustack.rtnl.messages import RtnlAnswer, RtnlRequest, Verb

O = TypeVar("O", bound=Object)  # noqa: E741

#: Exit status where the kernel, or the stack, says no.
REFUSED: Final = 2


class Refused(Exception):
    """The stack says no: an errno, or its own words."""

    def __init__(self, code: int, text: str = "", *, dumping: str = "") -> None:
        """``dumping``: "Dump" or "Flush", if it was one."""
        super().__init__(code, text)
        self.errno: int = code
        self.words: str = text
        self.dumping: str = dumping

    def __str__(self) -> str:
        """As iproute2 puts it."""
        if self.words:
            said = f"Error: {self.words.rstrip('.')}.\n"
        else:
            said = f"RTNETLINK answers: {os.strerror(self.errno)}\n"
        return said + (f"{self.dumping} terminated\n" if self.dumping else "")


@dataclass
class Options:
    """What stands before the object: ip [ OPTIONS ] OBJECT."""

    json: bool = False
    pretty: bool = False
    oneline: bool = False
    brief: bool = False
    stats: int = 0
    details: int = 0
    inet: bool = False  #: -4: the family is known
    other_family: bool = False  #: -6 and the like: there is nothing to see
    numeric: bool = False
    timestamp: bool = False
    short_timestamp: bool = False


class Session:
    """What the commands work with."""

    def __init__(
        self, transport: Transport, out: TextIO, err: TextIO, options: Options | None = None, program: str = "ip"
    ) -> None:
        """``program``: how the command calls itself."""
        self.transport: Transport = transport
        self.out: TextIO = out
        self.err: TextIO = err
        self.options: Options = options or Options()
        self.program: str = program
        self.names = Names(self.options.numeric)
        self._links: dict[int, str] | None = None

    def printer(self, *, as_json: bool | None = None) -> Printer:
        wanted = self.options.json if as_json is None else as_json
        return Printer(self.out, as_json=wanted, pretty=self.options.pretty, oneline=self.options.oneline)

    # -- asking

    def ask(self, request: RtnlRequest, *, dumping: str = "") -> RtnlAnswer:
        """The answer; a Nack is raised as Refused."""
        answer = self.transport.ask(request)
        if isinstance(answer, Nack):
            raise Refused(answer.errno, answer.text, dumping=dumping)
        return answer

    def change(self, verb: Verb, what: Object, flags: int = 0) -> None:
        """Raises Refused, EAFNOSUPPORT for another family than IPv4."""
        if self.options.other_family:
            raise Refused(errno.EAFNOSUPPORT)
        self.ask(Rtm(verb, what, flags))

    def get(self, what: O) -> list[O]:
        """What ``what`` asks for, of its kind."""
        return list(self.dump(what, "get", ""))

    def dump(self, what: O, verb: Verb = "dump", purpose: str = "Dump") -> Iterator[O]:
        """Everything of that kind that agrees with ``what``, piece by piece. ``purpose``: see Refused."""
        for objects in follow(partial(self.ask, dumping=purpose), Rtm(verb, what)):
            for each in objects:
                assert isinstance(each, type(what))
                yield each

    def report_flush(self, count: int, what: str) -> None:
        """What -s says afterwards; ``what`` in the plural."""
        if not self.options.stats:
            return
        text = f"\n*** Round 1, deleting {count} {what} ***\n*** Flush is complete after 1 round ***\n"
        self.out.write(text if count else "Nothing to flush.\n")

    # -- devices

    def links(self) -> dict[int, str]:
        """The name of each device by its number."""
        if self._links is None:
            self._links = {link.ifindex: link.name for link in self.dump(Link())}
        return self._links

    def learn(self, link: Link, gone: bool = False) -> None:
        """A device has come, is called otherwise, or has gone."""
        if gone:
            self.links().pop(link.ifindex, None)
        else:
            self.links()[link.ifindex] = link.name

    def device(self, ifindex: int) -> str:
        """Its name."""
        return self.links().get(ifindex) or f"if{ifindex}"

    def find_device(self, name: str) -> int:
        """Its number, or 0: by its name, by another spelling of its number (ll_name_to_index)."""
        for ifindex, known in self.links().items():
            if known == name:
                return ifindex
        if name.startswith("if") and name[2:].isdigit():
            return int(name[2:])
        return 0

    def need_device(self, name: str) -> int:
        return self.find_device(name) or no_device(name)
