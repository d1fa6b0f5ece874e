"""Journeys as JSON, one a line.

Keys and what they hold are for programs: they stay.

    journey     its number, from 1
    part_of     the journey it was cut or copied from, 0 for none
    caused_by   the journey whose packet made the stack send this one, 0 for none
    time        of the first step, ns: since 1970, or since a laboratory began
    host        where it began, "" where there is only one
    packet      in one line, as tcpdump tells it
    length      of the frame, bytes
    frame       its first bytes in hexadecimal, from the Ethernet header on (zeros but for the type if it had none)
    outcome     delivered, sent, dropped, stolen, "on its way"
    reason      why it was dropped, else ""
    duration    from the first step to the end, ns
    steps_lost  how many more there were than are kept
    steps       in order, each with
      since     after the first one, ns
      host      where; "" where there is only one
      dev       on which device; "" for none yet
      function  Linux's
      point     our name for what happened there
      floor     of the house: wire, device, ... socket
      file      of our code, below ustack/; "" if that is not known
      line      where the step is taken there; 0 if that is not known
      decision  what was decided, "" if there was nothing to decide
      facts     what by: names and values (text, integers, true and false)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from ustack.io.trace_words import began

if TYPE_CHECKING:
    from ustack.io.trace import JourneyInfo, StepInfo
    from ustack.io.trace_source import Sources

Object = dict[str, object]


def journey_line(journey: JourneyInfo, sources: Sources) -> str:
    """One line, with its newline."""
    return msgspec.json.encode(journey_object(journey, sources)).decode() + "\n"


def journey_object(journey: JourneyInfo, sources: Sources) -> Object:
    start = began(journey)
    return {
        "journey": journey.ident,
        "part_of": journey.parent,
        "caused_by": journey.cause,
        "time": start,
        "host": journey.host,
        "packet": journey.packet,
        "length": journey.length,
        "frame": journey.frame.hex(),
        "outcome": journey.outcome,
        "reason": journey.reason,
        "duration": max(journey.ended - start, 0),
        "steps_lost": journey.lost,
        "steps": [step_object(step, start, sources) for step in journey.steps],
    }


def step_object(step: StepInfo, start: int, sources: Sources) -> Object:
    place = sources.place(step.point)
    return {
        "since": step.time - start,
        "host": step.host,
        "dev": step.dev,
        "function": place.linux,
        "point": step.point,
        "floor": place.floor,
        "file": place.file,
        "line": place.line,
        "decision": step.decision,
        "facts": step.facts,
    }
