"""The judge: one world on both sides, and where they part."""

from __future__ import annotations

import difflib
import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Protocol

from tests.oracle.kernel import Kernel
from tests.oracle.ours import Ours
from tests.oracle.queries import Asker, shell
from tests.oracle.shrink import shrink
from tests.oracle.world import Answer, Query, World, addr_text

if TYPE_CHECKING:
    from collections.abc import Callable

#: What is printed is compared too, to the last blank.
SHOWS: Final = (
    "-4 route show table all",
    "-4 -d route show table all",
    "rule show",
    "-d rule show",
    "-4 -o addr show",
    "nexthop show",
    "-j -4 route show table all",
    "-j rule show",
    "-j nexthop show",
)
#: How many questions are asked of both commands too.
GETS: Final = 20


class Side(Protocol):
    """Kernel and Ours."""

    def run(self, commands: list[str]) -> list[str]: ...
    def ask(self, queries: list[Query]) -> list[Answer]: ...
    def show(self, words: str) -> str: ...


@dataclass
class Difference:
    """``what`` was said, asked or shown; both answers as text; ``commands``: what both sides had been told before."""

    world: World
    what: str
    kernel: str
    ours: str
    commands: list[str]

    def report(self) -> str:
        """Enough to see it happen by hand."""
        return (
            f"seed {self.world.seed}: {self.what}\n--- the kernel\n{self.kernel}\n--- ustack\n{self.ours}\n"
            f"--- by hand\n{self.world.script(self.commands)}\n{World.shell(self.what)}\n"
        )


# -- answers


def differing(kernel: Answer, ours: Answer) -> set[str]:
    """The names of the fields that are not equal."""
    return {name for name, one, two in zip(Answer._fields, kernel, ours, strict=True) if one != two}


def answer_text(answer: Answer, fields: set[str]) -> str:
    """What was answered; the fields that differ have a star."""
    if answer.error:
        return f"errno {answer.error}"
    shown = []
    for name, value in answer._asdict().items():
        if value or name in fields:
            text = addr_text(value) if name in ("dst", "src", "gateway", "prefsrc") else str(value)
            shown.append(f"{'*' if name in fields else ''}{name} {text}")
    return ", ".join(shown)


def spread(text: str) -> str:
    """JSON with a line for everything, or what is none as it is."""
    try:
        return json.dumps(json.loads(text), indent=1)
    except ValueError:
        return text


# -- a world


class Judge:
    """Compares step by step: what is said to each command, then what is shown, then the answers."""

    def __init__(self, world: World, kernel: Side, ours: Side) -> None:
        self.world = world
        self.kernel = kernel
        self.ours = ours
        self.names = {1: "lo"} | {dev.ifindex: dev.name for dev in world.devices}

    def commands(self, commands: list[str]) -> Difference | None:
        """The first command that is not told the same."""
        said = zip(commands, self.kernel.run(commands), self.ours.run(commands), strict=True)
        for at, (command, kernel, ours) in enumerate(said):
            if kernel != ours:
                return Difference(self.world, command, kernel or "done", ours or "done", commands[:at])
        return None

    def shows(self, shows: tuple[str, ...] = SHOWS) -> Difference | None:
        """What is printed, to the last blank; of JSON the objects."""
        for words in shows:
            kernel, ours = self.kernel.show(words), self.ours.show(words)
            if words.startswith("-j"):
                kernel, ours = spread(kernel), spread(ours)
            if kernel != ours:
                lines = difflib.unified_diff(kernel.splitlines(), ours.splitlines(), "kernel", "ustack", "", "", 1, "")
                return Difference(self.world, words, "\n".join(lines), "see above", self.world.commands)
        return None

    def gets(self, queries: list[Query]) -> Difference | None:
        """``ip route get`` in words."""
        return self.shows(tuple(shell(query, self.names) for query in queries))

    def answers(self, queries: list[Query]) -> tuple[int, Difference] | None:
        """The first question, by its place, that is not answered the same."""
        both = zip(queries, self.kernel.ask(queries), self.ours.ask(queries), strict=True)
        for at, (query, kernel, ours) in enumerate(both):
            if kernel != ours:
                fields = differing(kernel, ours)
                texts = answer_text(kernel, fields), answer_text(ours, fields)
                return at, Difference(self.world, shell(query, self.names), *texts, self.world.commands)
        return None


def judge(world: World, lookups: int) -> Difference | None:
    """Where the two sides part first, with the fewest commands that bring it about; None if nowhere."""
    with Kernel(world) as kernel:
        the_judge = Judge(world, kernel, Ours(world))
        refusal = the_judge.commands(world.commands)
        if refusal is not None:
            return smaller(refusal, lambda commands: same_refusal(refusal, commands))
        shown = the_judge.shows()
        if shown is not None:
            return smaller(shown, lambda commands: same_show(world, (shown.what,), commands))
        queries = Asker(world).queries(lookups)
        found = the_judge.answers(queries)
        if found is None:
            got = the_judge.gets(Asker(world, salt=1).queries(GETS))
            return None if got is None else smaller(got, lambda commands: same_show(world, (got.what,), commands))
    return fewer_questions(world, queries[: found[0] + 1], found[1])


def fewer_questions(world: World, queries: list[Query], difference: Difference) -> Difference:
    """The last of ``queries`` alone, or those before it that it takes: routes and gateways remember."""
    last = queries[-1]
    before: list[Query] = []
    if same_answer(world, [last], world.commands) is None:
        before = shrink(queries[:-1], lambda some: same_answer(world, [*some, last], world.commands) is not None)
    found = smaller(difference, lambda commands: same_answer(world, [*before, last], commands))
    asked = [shell(query, {1: "lo"} | {dev.ifindex: dev.name for dev in world.devices}) for query in before]
    return replace(found, commands=[*found.commands, *asked])


def smaller(difference: Difference, again: Callable[[list[str]], Difference | None]) -> Difference:
    """``difference`` with fewer commands, if it comes about again at all."""
    best = [difference]

    def differs(commands: list[str]) -> bool:
        found = again(commands)
        if found is not None:
            best.append(found)
        return found is not None

    if differs(difference.commands):
        shrink(difference.commands, differs)
    return best[-1]


def same_refusal(difference: Difference, commands: list[str]) -> Difference | None:
    world = World(difference.world.seed, difference.world.devices, [*commands, difference.what])
    with Kernel(world) as kernel:
        found = Judge(world, kernel, Ours(world)).commands(world.commands)
    if found is None or found.commands != commands:
        return None
    return found if (found.kernel, found.ours) == (difference.kernel, difference.ours) else None


def same_show(world: World, shows: tuple[str, ...], commands: list[str]) -> Difference | None:
    less = World(world.seed, world.devices, commands)
    with Kernel(less) as kernel:
        the_judge = Judge(less, kernel, Ours(less))
        return None if the_judge.commands(commands) is not None else the_judge.shows(shows)


def same_answer(world: World, queries: list[Query], commands: list[str]) -> Difference | None:
    """Of the last of ``queries``."""
    less = World(world.seed, world.devices, commands)
    with Kernel(less) as kernel:
        the_judge = Judge(less, kernel, Ours(less))
        if the_judge.commands(commands) is not None:
            return None
        found = the_judge.answers(queries)
    return found[1] if found is not None and found[0] == len(queries) - 1 else None
