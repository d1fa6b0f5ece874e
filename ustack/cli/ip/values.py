"""Addresses, prefixes, times and ranges, as iproute2 reads and writes them."""

from __future__ import annotations

import math
import re
from typing import Final, NamedTuple

from ustack.cli.ip.words import FAILURE, U8, U32, Mistake, invalid, known, number, unsigned
from ustack.wire.ipv4 import addr_to_str

OCTET: Final = re.compile(r"\s*[+]?(0[xX][0-9a-fA-F]+|0[0-7]*|[1-9][0-9]*)")
TIME: Final = re.compile(r"\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)([a-z]*)\Z")
PORTS: Final = re.compile(r"\s*([+-]?\d+)(?:-\s*([+-]?\d+))?")
HEXADECIMAL: Final = re.compile(r"\s*[+-]?(?:0[xX])?([0-9a-fA-F]+)")

ADDRESS_BITS: Final = 32
MAC_LENGTH: Final = 6


class Prefix(NamedTuple):
    """``given``: with its length; ``word``: the one that stood for it: default, any, all."""

    addr: int
    length: int
    given: bool = False
    word: str = ""

    @property
    def anything(self) -> bool:
        """Whether it lets everything through, as a filter: default does not, as the prefix of a route."""
        return self.word in ("any", "all")

    def covers(self, addr: int) -> bool:
        return (addr ^ self.addr) >> (ADDRESS_BITS - self.length) == 0

    def holds(self, addr: int, length: int) -> bool:
        """Whether the other prefix is this one or inside it."""
        return self.length <= length and self.covers(addr)


def format_prefix(addr: int, length: int) -> str:
    """As routes are printed: default, 192.0.2.1, 192.0.2.0/24."""
    if length == ADDRESS_BITS:
        return addr_to_str(addr)
    return f"{addr_to_str(addr)}/{length}" if length else "default"


def parse_address(text: str) -> int | None:
    """One to four numbers with dots between them; what is left out at the end is 0: 10.1 is 10.1.0.0."""
    addr = 0
    parts = text.split(".")
    if len(parts) > 4:
        return None
    for part in parts:
        found = OCTET.fullmatch(part)
        value = unsigned(part, U8) if found else None
        if value is None:
            return None
        addr = addr << 8 | value
    return addr << 8 * (4 - len(parts))


def parse_prefix(text: str) -> Prefix | None:
    """An address, with a length or a netmask after a slash; or default, any, all."""
    if text in ("default", "any", "all"):
        return Prefix(0, 0, True, text)
    start, slash, end = text.partition("/")
    addr = parse_address(start)
    length = parse_length(end) if slash else ADDRESS_BITS
    return None if addr is None or length is None else Prefix(addr, length, bool(slash))


def parse_length(text: str) -> int | None:
    """The number of bits, or a netmask of so many."""
    length = unsigned(text, ADDRESS_BITS)
    if length is not None or "." not in text:
        return length
    mask = parse_address(text)
    inverse = U32 if mask is None else ~mask & U32
    return None if mask is None or inverse & inverse + 1 else ADDRESS_BITS - inverse.bit_length()


def family_name(inet: bool) -> str:
    return "inet" if inet else "any valid"


def address(text: str, inet: bool = True) -> int:
    """The address that ``text`` must be; ``inet``: whether it is known that it must be an IPv4 one."""
    found = 0 if text in ("default", "any", "all") else parse_address(text)
    if found is None:
        raise Mistake(f'Error: {family_name(inet)} address is expected rather than "{text}".\n', FAILURE)
    return found


def prefix(text: str, inet: bool = True) -> Prefix:
    found = parse_prefix(text)
    if found is None:
        raise Mistake(f'Error: {family_name(inet)} prefix is expected rather than "{text}".\n', FAILURE)
    return found


def link_address(text: str) -> bytes:
    """Numbers in hexadecimal with colons between them: as many bytes as there are (ll_addr_a2n)."""
    if "." in text:
        addr = parse_address(text)
        if addr is not None:
            return addr.to_bytes(4, "big")
        raise Mistake(f'"{text}" is invalid lladdr.\n', FAILURE)
    values = []
    for part in text.split(":"):
        found = HEXADECIMAL.match(part)
        if found is None or int(found.group(1), 16) > U8:
            raise Mistake(f'"{text}" is invalid lladdr.\n', FAILURE)
        values.append(int(found.group(1), 16))
    return bytes(values)


def parse_time(text: str) -> tuple[int, bool] | None:
    """(milliseconds, whether a unit was given): 5, 250ms, 1.5s."""
    found = TIME.match(text)
    if found is None:
        return None
    value, unit = float(found.group(1)), found.group(2)
    if unit in ("s", "sec", "secs"):
        value *= 1000
    elif unit not in ("", "ms", "msec", "msecs"):
        return None
    if value < 0 or math.isinf(value):
        return None
    whole = int(value) & U32
    return (whole + (whole < value) & U32, bool(unit))


def format_time(milliseconds: int) -> str:
    return f"{milliseconds / 1000:g}s" if milliseconds >= 1000 else f"{milliseconds}ms"


def port_range(text: str) -> tuple[int, int]:
    """``sscanf("%hu-%hu")``: what does not fit wraps around."""
    found = PORTS.match(text)
    if found is None:
        invalid(text, "invalid port range\n")
    first = int(found.group(1)) & 0xFFFF
    return first, first if found.group(2) is None else int(found.group(2)) & 0xFFFF


def uid_range(text: str) -> tuple[int, int]:
    found = PORTS.match(text)
    if found is None or found.group(2) is None:
        invalid(text, "invalid UID range\n")
    return int(found.group(1)) & U32, int(found.group(2)) & U32


def marked(text: str) -> tuple[int, int | None]:
    """MARK or MARK/MASK."""
    mark, slash, mask = text.partition("/")
    value = known(unsigned(mark), text, "fwmark value is invalid\n")
    return value, number(mask, "fwmask value is invalid\n") if slash else None
