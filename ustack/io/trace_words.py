"""A journey in words: what each step decided and by what, times, how it ended. What all who show journeys share."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from ustack.trace.journey import DROPPED

if TYPE_CHECKING:
    from ustack.io.trace import JourneyInfo, StepInfo

#: Times before this (2000-01-01, ns) are a laboratory's, and told in seconds since it began.
CALENDAR: Final = 946_684_800 * 10**9
#: How high a floor lies: those side by side in the house have the same height.
HEIGHTS: Final = {
    "wire": 0, "device": 1, "neighbour": 2, "routing": 3, "netfilter": 3, "ipv4": 3, "icmp": 4, "udp": 4, "tcp": 4,
    "raw": 4, "socket": 5,
}  # fmt: skip


def fact_words(facts: dict[str, str | int | bool]) -> list[str]:
    """``table main``, ``rule 32766``; a yes is its name alone, and what is empty is left out."""
    words = []
    for key, value in facts.items():
        name = key.replace("_", " ")
        if value is True:
            words.append(name)
        elif value is False:
            words.append(f"no {name}")
        elif value != "":
            words.append(f"{name} {value}")
    return words


def step_words(step: StepInfo) -> str:
    """``accept: table main, rule 32766``."""
    facts = ", ".join(fact_words(step.facts))
    return f"{step.decision}: {facts}" if step.decision and facts else step.decision or facts


def duration(ns: int) -> str:
    """Three digits or four: ``340 ns``, ``12.3 us``, ``4.56 ms``, ``1.234 s``."""
    if ns < 1000:
        return f"{ns} ns" if ns else "0"
    for unit, size in (("us", 10**3), ("ms", 10**6)):
        value = ns / size
        if value < 999.5:
            return f"{value:.{2 if value < 9.995 else 1 if value < 99.95 else 0}f} {unit}"
    return f"{ns / 10**9:.3f} s"


def began(journey: JourneyInfo) -> int:
    """When the first step was taken, ns."""
    return journey.steps[0].time if journey.steps else journey.began


def clock(ns: int) -> str:
    """The time of day here, or seconds of a laboratory's time, to the microsecond."""
    seconds, rest = divmod(ns, 10**9)
    if ns < CALENDAR:
        return f"{seconds}.{rest // 1000:06}"
    return f"{time.strftime('%H:%M:%S', time.localtime(seconds))}.{rest // 1000:06}"


def kinship(journey: JourneyInfo) -> list[str]:
    """``caused by #3``, ``part of #4``."""
    words = [f"caused by #{journey.cause}"] if journey.cause else []
    return words + ([f"part of #{journey.parent}"] if journey.parent else [])


def ending(journey: JourneyInfo) -> str:
    """``delivered``, ``dropped: NO_SOCKET``."""
    if journey.outcome == DROPPED and journey.reason:
        return f"{journey.outcome}: {journey.reason}"
    return journey.outcome
