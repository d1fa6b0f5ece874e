"""Rules of every selector and action, for the generator."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tests.oracle.world import addr_text

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

MARKS: Final = [1, 2, 3, 0x10, 0xFF]
TOSES: Final = [0x04, 0x08, 0x10, 0x1C, 0xB8]
PORTS: Final = [1, 53, 80, 443, 1000, 2000]
UIDS: Final = [0, 1, 1000, 1500]
PROTOCOLS: Final = ["tcp", "udp", "icmp", "6", "47"]


class RuleWriter:
    """``pooled`` gives an address near those of the world."""

    def __init__(self, dice: random.Random, names: list[str], pooled: Callable[[], int]) -> None:
        self.random = dice
        self.names = names
        self.pooled = pooled
        self.written: list[str] = []

    def rule(self) -> str:
        """``add`` mostly; ``del`` of one that was asked for, or of any."""
        if self.written and self.random.random() < 0.15:
            return f"rule del {self.random.choice(self.written)}"
        if self.written and self.random.random() < 0.05:
            return f"rule add {self.random.choice(self.written)}"
        if self.random.random() < 0.02:
            return f"rule del pref {self.random.choice([0, 32766, 32767, 100])}"
        words = self.selectors() + self.preference() + " " + self.action()
        self.written.append(words)
        return f"rule add {words}"

    def selectors(self) -> str:
        """None at all matches everything."""
        choices: list[Callable[[], str]] = [
            lambda: f"from {self.prefix()}",
            lambda: f"from {self.prefix()}",
            lambda: f"to {self.prefix()}",
            lambda: f"to {self.prefix()}",
            lambda: f"iif {self.random.choice(['lo', 'nodev', *self.names])}",
            lambda: f"oif {self.random.choice(['lo', 'nodev', *self.names])}",
            lambda: f"fwmark {self.random.choice(MARKS)}{self.random.choice(['', '/0xf', '/0x10', '/0'])}",
            lambda: f"tos {self.random.choice(TOSES):#x}",
            lambda: f"ipproto {self.random.choice(PROTOCOLS)}",
            lambda: f"sport {self.range_of(PORTS)}",
            lambda: f"dport {self.range_of(PORTS)}",
            lambda: f"uidrange {self.range_of(UIDS, single=False)}",
        ]
        picked = self.random.sample(choices, self.random.choice([0, 1, 1, 1, 1, 2, 2, 3]))
        words = " ".join(write() for write in picked)
        return ("not " if words and self.random.random() < 0.15 else "") + words

    def prefix(self) -> str:
        length = self.random.choice([0, 1, 8, 16, 24, 24, 26, 30, 32, 32])
        mask = 0xFFFF_FFFF << (32 - length) & 0xFFFF_FFFF
        addr = self.pooled() & (mask if self.random.random() < 0.9 else 0xFFFF_FFFF)
        return f"{addr_text(addr)}/{length}" if self.random.random() < 0.97 else "all"

    def range_of(self, values: list[int], single: bool = True) -> str:
        low, high = sorted((self.random.choice(values), self.random.choice(values)))
        if self.random.random() < 0.03:
            low, high = high, low
        return str(low) if single and self.random.random() < 0.3 else f"{low}-{high}"

    def preference(self) -> str:
        if self.random.random() < 0.2:
            return ""
        return f" pref {self.random.choice([0, 1, 10, 50, 100, 200, 300, 500, 1000, 32765, 32766, 32767, 40000])}"

    def action(self) -> str:
        dice = self.random.random()
        if dice < 0.55:
            table = self.random.choice(["main", "local", "default", "100", "200", "300", "4096", "77"])
            suppress = f" suppress_prefixlength {self.random.choice([0, 8, 24, 32, 40])}" if dice < 0.1 else ""
            suppress += " suppress_ifgroup default" if dice < 0.02 else ""
            return f"lookup {table}{suppress}"
        if dice < 0.75:
            return f"goto {self.random.choice([10, 100, 300, 500, 1000, 32766, 45000])}"
        return self.random.choice(["nop", "unreachable", "prohibit", "blackhole"])
