"""ss's filters: ``state established '( dport = :80 or src 192.0.2.0/24 )'``, in the grammar of ss(8)."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Final

from ustack.sock import (
    TCP_CLOSE,
    TCP_CLOSE_WAIT,
    TCP_CLOSING,
    TCP_ESTABLISHED,
    TCP_FIN_WAIT1,
    TCP_FIN_WAIT2,
    TCP_LAST_ACK,
    TCP_LISTEN,
    TCP_SYN_RECV,
    TCP_SYN_SENT,
    TCP_TIME_WAIT,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from ustack.io.control import SocketDiag

    Condition = Callable[[SocketDiag], bool]

STATES: Final = {
    "established": TCP_ESTABLISHED,
    "syn-sent": TCP_SYN_SENT,
    "syn-recv": TCP_SYN_RECV,
    "fin-wait-1": TCP_FIN_WAIT1,
    "fin-wait-2": TCP_FIN_WAIT2,
    "time-wait": TCP_TIME_WAIT,
    "unconnected": TCP_CLOSE,
    "closed": TCP_CLOSE,
    "close-wait": TCP_CLOSE_WAIT,
    "last-ack": TCP_LAST_ACK,
    "listening": TCP_LISTEN,
    "listen": TCP_LISTEN,
    "closing": TCP_CLOSING,
}
SS_ALL: Final = 0xFFE
SS_LISTENING: Final = 1 << TCP_LISTEN | 1 << TCP_CLOSE
#: Without -a, -l and a state: connections, but neither half-open nor remembered ones.
SS_CONN: Final = SS_ALL & ~(SS_LISTENING | 1 << TCP_TIME_WAIT | 1 << TCP_SYN_RECV)
CONNECTED: Final = SS_ALL & ~SS_LISTENING
BUCKET: Final = 1 << TCP_SYN_RECV | 1 << TCP_TIME_WAIT
GROUPS: Final = {
    "all": SS_ALL,
    "connected": CONNECTED,
    "synchronized": CONNECTED & ~(1 << TCP_SYN_SENT),
    "bucket": BUCKET,
    "big": SS_ALL & ~BUCKET,
}
COMPARISONS: Final[dict[str, Callable[[int, int], bool]]] = {
    **dict.fromkeys(("=", "==", "eq"), operator.eq),
    **dict.fromkeys(("!=", "ne", "neq"), operator.ne),
    **dict.fromkeys((">", "gt"), operator.gt),
    **dict.fromkeys(("<", "lt"), operator.lt),
    **dict.fromkeys((">=", "ge", "geq"), operator.ge),
    **dict.fromkeys(("<=", "le", "leq"), operator.le),
}


class FilterError(ValueError):
    """What is not a filter."""


def states_of(name: str) -> int:
    """The mask of a state or a group of them. Raises FilterError."""
    if name in GROUPS:
        return GROUPS[name]
    if name in STATES:
        return 1 << STATES[name]
    raise FilterError(f"wrong state name: {name}")


def take_states(words: list[str]) -> tuple[int, list[str]]:
    """The states that ``state`` and ``exclude`` before an expression leave, 0 for no word about it, and the rest."""
    mask, at = 0, 0
    while at < len(words) and words[at] in ("state", "exclude"):
        if at + 1 == len(words):
            raise FilterError("state name is missing")
        chosen = states_of(words[at + 1])
        if words[at] == "state":
            mask |= chosen
        else:
            mask = (mask or SS_ALL) & ~chosen
        at += 2
    return mask, words[at:]


class Parser:
    """Recursive descent over the words of an expression; conditions that follow each other must all hold."""

    def __init__(self, words: list[str], port_of: Callable[[str], int]) -> None:
        """``port_of``: a service's number."""
        self.words: list[str] = [part for word in words for part in split_word(word)]
        self.port_of: Callable[[str], int] = port_of
        self.at: int = 0

    def parse(self) -> Condition:
        """Raises FilterError."""
        if not self.words:
            return always
        condition = self.any_of()
        if self.at < len(self.words):
            raise FilterError(f"syntax error at '{self.words[self.at]}'")
        return condition

    def peek(self) -> str:
        return self.words[self.at] if self.at < len(self.words) else ""

    def next(self) -> str:
        word = self.peek()
        if not word:
            raise FilterError("the filter ends too early")
        self.at += 1
        return word

    def any_of(self) -> Condition:
        parts = [self.all_of()]
        while self.peek() in ("or", "|", "||"):
            self.next()
            parts.append(self.all_of())
        return parts[0] if len(parts) == 1 else lambda diag: any(part(diag) for part in parts)

    def all_of(self) -> Condition:
        parts = [self.term()]
        while self.peek() not in ("", ")", "or", "|", "||"):
            if self.peek() in ("and", "&", "&&"):
                self.next()
            parts.append(self.term())
        return parts[0] if len(parts) == 1 else lambda diag: all(part(diag) for part in parts)

    def term(self) -> Condition:
        word = self.next()
        if word in ("not", "!"):
            inner = self.term()
            return lambda diag: not inner(diag)
        if word == "(":
            inner = self.any_of()
            if self.next() != ")":
                raise FilterError("a parenthesis is open")
            return inner
        if word in ("sport", "dport"):
            return self.port(word == "sport")
        if word in ("src", "dst"):
            return self.host(word == "src")
        if word == "dev":
            return self.device()
        if word == "autobound":
            return lambda diag: diag.lport >= 1024
        raise FilterError(f"syntax error at '{word}'")

    def comparison(self) -> Callable[[int, int], bool]:
        """The operator that comes next; none is equality."""
        return COMPARISONS[self.next()] if self.peek() in COMPARISONS else COMPARISONS["="]

    def port(self, local: bool) -> Condition:
        compare = self.comparison()
        number = self.number(self.next().removeprefix(":"))
        return lambda diag: compare(diag.lport if local else diag.rport, number)

    def number(self, text: str) -> int:
        number = int(text) if text.isdigit() else self.port_of(text)
        if not 0 <= number <= 0xFFFF:
            raise FilterError(f"port {text}: no such port")
        return number

    def host(self, local: bool) -> Condition:
        """``192.0.2.0/24:80``: each part may be left out or be a star."""
        different = self.comparison() is COMPARISONS["!="]
        where, _, port = self.next().partition(":")
        prefix, mask = network(where)
        number = -1 if port in ("", "*") else self.number(port)

        def matches(diag: SocketDiag) -> bool:
            addr, of_socket = (diag.laddr, diag.lport) if local else (diag.raddr, diag.rport)
            return (addr & mask == prefix and number in (-1, of_socket)) is not different

        return matches

    def device(self) -> Condition:
        different = self.comparison() is COMPARISONS["!="]
        name = self.next()
        return lambda diag: (diag.dev == name) is not different


def always(diag: SocketDiag) -> bool:
    return True


def split_word(word: str) -> list[str]:
    """Words may touch parentheses and carry blanks, when the shell was given one quoted expression."""
    for symbol in ("(", ")"):
        word = word.replace(symbol, f" {symbol} ")
    return word.split()


def network(text: str) -> tuple[int, int]:
    """Address and mask of ``192.0.2.0/24``. Raises FilterError."""
    from ustack.wire.ipv4 import str_to_addr

    if text in ("", "*"):
        return 0, 0
    host, _, length = text.partition("/")
    try:
        bits = int(length or 32)
        mask = 0xFFFF_FFFF << (32 - bits) & 0xFFFF_FFFF
        return int(str_to_addr(host)) & mask, mask
    except ValueError:
        raise FilterError(f"an inet prefix is expected rather than '{text}'") from None
