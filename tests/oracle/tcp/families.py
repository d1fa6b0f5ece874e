"""The kinds of scripts, by name."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Final

from tests.oracle.tcp import closing, opening, options, receiver, sender, strange

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.oracle.tcp.script import Script

FAMILIES: Final[dict[str, Callable[[Random], Script]]] = {
    "opening": opening.script,
    "receiver": receiver.script,
    "sender": sender.script,
    "closing": closing.script,
    "strange": strange.script,
    "options": options.script,
}


def generate(family: str, seed: int) -> Script:
    """The script number ``seed`` of a family."""
    return FAMILIES[family](Random(f"{family}/{seed}"))
