"""What both stacks are told: the connection's terms, and steps of three kinds. And what is seen of either.

Numbers are relative and symbolic, so that one script fits two stacks that choose their own sequence numbers: a
sequence number of the peer's is counted from "nxt" (what it sends next, in order), "rcv" (what the stack has
acknowledged last), "edge" (the end of the window that the stack has advertised last) or "iss" (its SYN); an
acknowledgement from "out" (one past the last that the stack has sent), "una" (the highest that the peer has
acknowledged) or "iss" (the stack's SYN).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, TypeAlias

NXT: Final = "nxt"
RCV: Final = "rcv"
EDGE: Final = "edge"
OUT: Final = "out"
UNA: Final = "una"
ISS: Final = "iss"

#: (base, offset in bytes)
Ref: TypeAlias = tuple[str, int]

#: What depends on the machine's memory and on how its kernel was built, the same for both.
SYSCTLS: Final = (
    ("net.ipv4.tcp_congestion_control", "reno"),
    ("net.ipv4.tcp_rmem", "4096 131072 6291456"),
    ("net.ipv4.tcp_wmem", "4096 16384 4194304"),
)


@dataclass(frozen=True)
class Terms:
    """What the peer offers, and how the stack is set; ``active``: the stack calls."""

    active: bool = False
    mss: int | None = 1460
    wscale: int | None = 7
    timestamps: bool = True
    sack: bool = True
    window: int = 65_535  #: the field, not scaled
    iss: int = 0x5000_0000
    sysctls: tuple[tuple[str, str], ...] = ()  #: beside SYSCTLS


@dataclass(frozen=True)
class Segment:
    """One of the peer's. ``tsval`` is added to its clock, ``tsecr`` to the last timestamp it has seen."""

    flags: str = "A"
    length: int = 0
    seq: Ref = (NXT, 0)
    ack: Ref = (OUT, 0)
    window: int | None = None
    sacks: tuple[tuple[Ref, Ref], ...] = ()
    urg: int = 0
    tsval: int = 0
    tsecr: int = 0
    stamped: bool = True  #: carries timestamps if they were agreed
    options: bytes | None = None  #: in place of all others
    tos: int = 0
    other: int = 0  #: bits of its text that are not what they are elsewhere
    port: int = 0  #: one of the peer's others: each has a connection of its own
    flip: tuple[tuple[int, int], ...] = ()  #: (offset, bits) that are the other way round in the TCP header
    corrupt: int = 0  #: and in its checksum


@dataclass(frozen=True)
class Icmp:
    """An ICMP error about the stack's segment at ``seq``."""

    type: int
    code: int
    info: int = 0
    seq: Ref = (UNA, 0)


@dataclass(frozen=True)
class Call:
    """A system call of the application: ``verb`` is a method of Application."""

    verb: str
    args: tuple[int | bytes, ...] = ()


@dataclass(frozen=True)
class Pause:
    """Milliseconds in which neither peer nor application does anything."""

    ms: int


@dataclass(frozen=True)
class Burst:
    """Segments one after the other, faster than any timer: what all of them bring about is seen together."""

    segments: tuple[Segment, ...]


Step: TypeAlias = Segment | Burst | Icmp | Call | Pause


@dataclass(frozen=True)
class Script:
    terms: Terms
    steps: tuple[Step, ...]


@dataclass
class Seen:
    """What one step has brought about."""

    result: str = ""  #: of a call
    sent: list[str] = field(default_factory=list)  #: by the stack
    info: dict[str, int] = field(default_factory=dict)  #: struct tcp_info of the connection
    moved: dict[str, int] = field(default_factory=dict)  #: counters, against the step before

    def then(self, later: Seen) -> Seen:
        """Both as one."""
        moved = {
            name: self.moved.get(name, 0) + later.moved.get(name, 0) for name in self.moved.keys() | later.moved.keys()
        }
        return Seen(self.result, self.sent + later.sent, later.info, moved)
