"""Names for numbers: /etc/iproute2 where it is there, and what iproute2 knows without it."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from ustack.cli.ip.words import U8, U32, hexadecimal, matches, unsigned
from ustack.dst import RTN_NAMES, RTN_UNSPEC

#: The first that names a number counts.
FOLDERS: Final = ("/etc/iproute2", "/usr/lib/iproute2", "/usr/share/iproute2")

TABLES: Final = {253: "default", 254: "main", 255: "local"}
PROTOCOLS: Final = {
    0: "unspec", 1: "redirect", 2: "kernel", 3: "boot", 4: "static", 8: "gated", 9: "ra", 10: "mrt", 11: "zebra",
    12: "bird", 13: "dnrouted", 14: "xorp", 15: "ntk", 16: "dhcp", 18: "keepalived", 42: "babel", 99: "openr",
    186: "bgp", 187: "isis", 188: "ospf", 189: "rip", 192: "eigrp",
}  # fmt: skip
SCOPES: Final = {0: "global", 200: "site", 253: "link", 254: "host", 255: "nowhere"}
IP_PROTOCOLS: Final = {1: "icmp", 2: "igmp", 6: "tcp", 17: "udp", 33: "dccp", 47: "gre", 58: "ipv6-icmp", 132: "sctp"}

#: Route types by number, and as they may be abbreviated: whole, or from the first letters on, in this order.
TYPES: Final = {RTN_UNSPEC: "none"} | RTN_NAMES
WHOLE_TYPES: Final = {"local": 2, "nat": 10, "brd": 3, "throw": 9}
SHORT_TYPES: Final = (3, 4, 5, 8, 7, 6, 11, 1)


class Names:
    """What one run of the command knows. Files are read when they are first needed."""

    def __init__(self, numeric: bool = False) -> None:
        """``numeric``: print numbers all the same."""
        self.numeric: bool = numeric
        self._files: dict[str, dict[int, str]] = {}
        self._ip_protocols: dict[int, str] | None = None

    def _load(self, kind: str, known: dict[int, str]) -> dict[int, str]:
        if kind not in self._files:
            self._files[kind] = known | read_names(kind)
        return self._files[kind]

    def _format(self, kind: str, known: dict[int, str], value: int) -> str:
        if self.numeric:
            return str(value)
        return self._load(kind, known).get(value, str(value))

    def _parse(self, kind: str, known: dict[int, str], text: str, limit: int) -> int | None:
        for value, name in self._load(kind, known).items():
            if name == text:
                return value
        return unsigned(text, limit)

    def table(self, value: int) -> str:
        return self._format("rt_tables", TABLES, value)

    def parse_table(self, text: str) -> int | None:
        return self._parse("rt_tables", TABLES, text, U32)

    def protocol(self, value: int) -> str:
        return self._format("rt_protos", PROTOCOLS, value)

    def parse_protocol(self, text: str) -> int | None:
        return self._parse("rt_protos", PROTOCOLS, text, U8)

    def scope(self, value: int) -> str:
        return self._format("rt_scopes", SCOPES, value)

    def parse_scope(self, text: str) -> int | None:
        return self._parse("rt_scopes", SCOPES, text, U8)

    def tos(self, value: int) -> str:
        name = None if self.numeric else self._load("rt_dsfield", {}).get(value)
        return f"0x{value:02x}" if name is None else name

    def parse_tos(self, text: str) -> int | None:
        """A name, or a number in base 16."""
        for value, name in self._load("rt_dsfield", {}).items():
            if name == text:
                return value
        return hexadecimal(text, U8)

    def route_type(self, value: int) -> str:
        return str(value) if self.numeric else TYPES.get(value, str(value))

    def ip_protocol(self, value: int) -> str:
        name = None if self.numeric else self._known_ip_protocols().get(value)
        return f"ipproto-{value}" if name is None else name

    def parse_ip_protocol(self, text: str) -> int | None:
        for value, name in self._known_ip_protocols().items():
            if name == text:
                return value
        return unsigned(text, U8)

    def _known_ip_protocols(self) -> dict[int, str]:
        if self._ip_protocols is None:
            self._ip_protocols = IP_PROTOCOLS | read_protocols(Path("/etc/protocols"))
        return self._ip_protocols


def parse_route_type(text: str) -> int | None:
    """RTN_* by its name, abbreviated or not (rtnl_rtntype_a2n)."""
    if text in WHOLE_TYPES:
        return WHOLE_TYPES[text]
    for value in SHORT_TYPES:
        if matches(text, TYPES[value]):
            return value
    return unsigned(text, U8)


def read_names(kind: str) -> dict[int, str]:
    """``NUMBER NAME`` in lines, from the file of that name and all in its folder."""
    found: dict[int, str] = {}
    for folder in FOLDERS:
        extra = Path(folder, f"{kind}.d")
        for file in (Path(folder, kind), *sorted(extra.glob("*.conf"))):
            for line in read_lines(file):
                words = line.split()
                value = unsigned(words[0]) if len(words) >= 2 and words[0][0] != "#" else None
                if value is not None and value not in found:
                    found[value] = words[1]
    return found


def read_protocols(file: Path) -> dict[int, str]:
    """/etc/protocols: ``NAME NUMBER ALIAS``."""
    found: dict[int, str] = {}
    for line in read_lines(file):
        words = line.split("#")[0].split()
        if len(words) >= 2 and words[1].isdigit():
            found.setdefault(int(words[1]), words[0])
    return found


def read_lines(file: Path) -> list[str]:
    try:
        return file.read_text(errors="replace").splitlines()
    except OSError:
        return []
