"""One routing table measured in a process of its own: python -m benchlib.fib_worker NAME ROUTES LOOKUPS [full].

Prints one line of JSON. Everything that a table is asked with is prepared before the clock runs, in the form it is
quickest with. Seconds are the processor's, so that others on the machine disturb less.
"""

from __future__ import annotations

import json
import sys
import zlib
from pathlib import Path
from time import process_time
from typing import TYPE_CHECKING, Final

from benchlib.prefixes import addresses, dotted, internet

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from benchlib.prefixes import Prefix

#: Lookups between two updates.
MIXED: Final = 5
UPDATES: Final = 20_000
#: Answers that are compared with the others'.
COMPARED: Final = 20_000
#: A short measurement is repeated until it has taken so long, seconds.
LONG_ENOUGH: Final = 0.5

Figures = dict[str, float]


class Subject:
    """A table. What ``questions`` makes of addresses is what ``ask`` is given."""

    def prepare(self, prefixes: Sequence[Prefix]) -> None:
        raise NotImplementedError

    def load(self) -> None:
        """All that was prepared."""
        raise NotImplementedError

    def questions(self, wanted: Sequence[int]) -> Sequence[Any]:
        raise NotImplementedError

    def ask(self, questions: Sequence[Any]) -> None:
        """One call from Python each."""
        raise NotImplementedError

    def update(self, at: int) -> None:
        """Take out the prefix that was prepared as number ``at`` and put it back: two updates."""
        raise NotImplementedError

    def answers(self, wanted: Sequence[int]) -> bytes:
        """The lengths of the prefixes that serve these addresses, 255 for none."""
        raise NotImplementedError

    def more(self, wanted: Sequence[int]) -> Figures:
        """What only this one can do."""
        return {}


class Ustack(Subject):
    """FibTable, with real next hops behind it."""

    def __init__(self) -> None:
        from ustack.device.core import Devices
        from ustack.device.loopback import Loopback
        from ustack.net import Net
        from ustack.routing.fib_semantics import FibSemantics
        from ustack.routing.fib_trie import FibTable
        from ustack.routing.fib_types import FibConfig, FibLookup, Reachability
        from ustack.routing.flow import RT_SCOPE_LINK
        from ustack.routing.uapi import NLM_F_CREATE, NLM_F_EXCL, RT_TABLE_MAIN

        net = Net(bytes(16))
        devices = Devices(net)
        lo = Loopback(devices)
        devices.register_netdevice(lo)
        devices.dev_open(lo)
        semantics = FibSemantics(net, devices, FibLookup(), Reachability())
        self.table = FibTable(RT_TABLE_MAIN, semantics)
        self.spare = FibTable(RT_TABLE_MAIN, semantics)
        self.config = FibConfig()
        self.config.oif, self.config.scope, self.config.table = lo.ifindex, RT_SCOPE_LINK, RT_TABLE_MAIN
        self.config.nlflags = NLM_F_CREATE | NLM_F_EXCL

    def prepare(self, prefixes: Sequence[Prefix]) -> None:
        self.prefixes = prefixes
        self.packed = b"".join(network.to_bytes(4, "big") + bytes([length]) for network, length in prefixes)

    def load(self) -> None:
        self.table.insert_many(self.config, self.packed)

    def questions(self, wanted: Sequence[int]) -> Sequence[int]:
        return wanted

    def ask(self, questions: Sequence[int]) -> None:
        lookup = self.table.lookup
        for question in questions:
            lookup(question)

    def update(self, at: int) -> None:
        self.config.dst, self.config.dst_len = self.prefixes[at]
        self.table.fib_table_delete(self.config)
        self.table.fib_table_insert(self.config)

    def answers(self, wanted: Sequence[int]) -> bytes:
        return self.table.lookup_many(packed(wanted))

    def more(self, wanted: Sequence[int]) -> Figures:
        asked = packed(wanted)
        seconds, times = repeat(lambda: self.table.lookup_many(asked, 0))
        ahead, more_times = repeat(lambda: self.table.lookup_many(asked))
        return {"core_s": len(wanted) * times / seconds, "ahead_s": len(wanted) * more_times / ahead}

    def insert_one_by_one(self) -> float:
        table, config = self.spare, self.config
        started = process_time()
        for config.dst, config.dst_len in self.prefixes:
            table.fib_table_insert(config)
        return process_time() - started


class Pytricia(Subject):
    """Quickest with text when prefixes are put in, and with text and integers alike when it is asked."""

    def __init__(self) -> None:
        from pytricia import PyTricia

        self.table = PyTricia(32)

    def prepare(self, prefixes: Sequence[Prefix]) -> None:
        self.prefixes = [f"{dotted(network)}/{length}" for network, length in prefixes]

    def load(self) -> None:
        insert = self.table.insert
        for prefix in self.prefixes:
            insert(prefix, prefix)

    def questions(self, wanted: Sequence[int]) -> Sequence[int]:
        return wanted

    def ask(self, questions: Sequence[int]) -> None:
        get = self.table.get
        for question in questions:
            get(question)

    def update(self, at: int) -> None:
        prefix = self.prefixes[at]
        self.table.delete(prefix)
        self.table.insert(prefix, prefix)

    def answers(self, wanted: Sequence[int]) -> bytes:
        return bytes(length_of(self.table.get(address)) for address in wanted)


class Radix(Subject):
    """py-radix, with packed addresses, as it likes them best."""

    def __init__(self) -> None:
        from radix import Radix as Table

        self.table = Table()

    def prepare(self, prefixes: Sequence[Prefix]) -> None:
        self.prefixes = [(network.to_bytes(4, "big"), length) for network, length in prefixes]

    def load(self) -> None:
        add = self.table.add
        for network, length in self.prefixes:
            add(packed=network, masklen=length)

    def questions(self, wanted: Sequence[int]) -> Sequence[bytes]:
        return [address.to_bytes(4, "big") for address in wanted]

    def ask(self, questions: Sequence[bytes]) -> None:
        search_best = self.table.search_best
        for question in questions:
            search_best(packed=question)

    def update(self, at: int) -> None:
        network, length = self.prefixes[at]
        self.table.delete(packed=network, masklen=length)
        self.table.add(packed=network, masklen=length)

    def answers(self, wanted: Sequence[int]) -> bytes:
        found = (self.table.search_best(packed=address.to_bytes(4, "big")) for address in wanted)
        return bytes(255 if node is None else node.prefixlen for node in found)


SUBJECTS: Final[dict[str, type[Subject]]] = {"ustack": Ustack, "pytricia": Pytricia, "py-radix": Radix}


def packed(wanted: Sequence[int]) -> bytes:
    return b"".join(address.to_bytes(4, "big") for address in wanted)


def length_of(prefix: str | None) -> int:
    return 255 if prefix is None else int(prefix.partition("/")[2])


def repeat(work: Callable[[], object]) -> tuple[float, int]:
    """Processor seconds, and how often it was done."""
    times, started = 0, process_time()
    while (seconds := process_time() - started) < LONG_ENOUGH:
        work()
        times += 1
    return seconds, times


def resident() -> int:
    """Bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def measure(subject: Subject, routes: int, lookups: int, full: bool) -> Figures:
    """Of the whole: load, memory, lookups, updates. Else the lookups alone."""
    subject.prepare(internet(routes))
    wanted = addresses(lookups)
    questions = subject.questions(wanted)
    before, started = resident(), process_time()
    subject.load()
    figures: Figures = {"load_s": process_time() - started, "mib": (resident() - before) / 2**20}
    seconds, times = repeat(lambda: subject.ask(questions))
    figures["calls_s"] = len(questions) * times / seconds
    figures["digest"] = zlib.crc32(subject.answers(wanted[:COMPARED]))
    figures |= subject.more(wanted)
    if full:
        figures["updates_s"] = updates(subject, routes, questions)
        if isinstance(subject, Ustack):
            figures["insert_s"] = subject.insert_one_by_one()
    return figures


def updates(subject: Subject, routes: int, questions: Sequence[Any]) -> float:
    """Updates a second, with MIXED lookups after each pair."""
    places = [at % routes for at in range(0, UPDATES // 2 * 37, 37)]
    started = process_time()
    for number, at in enumerate(places):
        subject.update(at)
        start = number * MIXED % (len(questions) - MIXED)
        subject.ask(questions[start : start + MIXED])
    return 2 * len(places) / (process_time() - started)


def main() -> None:
    name, routes, lookups = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    print(json.dumps(measure(SUBJECTS[name](), routes, lookups, "full" in sys.argv[4:])))


if __name__ == "__main__":
    main()
