"""A journey as others see it: on the control socket, as JSON, in whatever draws it (trace/journey.py has the journey).

Times are ns: since 1970 where a clock tells it, of the laboratory's own clock where none does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from ustack.trace.journey import Journey


class StepInfo(msgspec.Struct):
    """One point passed; what there is to know of the point itself stands in trace/points.py."""

    point: str  #: its name there
    time: int
    host: str  #: "" where there is only one
    dev: str  #: "" where none is known yet
    decision: str  #: a few words, "" if there was nothing to decide
    facts: dict[str, str | int | bool]


class JourneyInfo(msgspec.Struct):
    """One packet's way. Journeys are numbered from 1; 0 is none."""

    ident: int
    parent: int  #: of which it is a fragment, a segment or a copy
    cause: int  #: whose packet made the stack send this one
    steps: list[StepInfo]
    lost: int  #: steps that were too many
    frame: bytes  #: its first bytes, as it was seen last; the Ethernet header is zero but for the type if it had none
    outcome: str  #: how it ended: trace.journey.DELIVERED, SENT, DROPPED, STOLEN, ON_ITS_WAY
    reason: str  #: why it was dropped, by the name it has in drop.py
    host: str = ""  #: where it began
    packet: str = ""  #: in one line, as tcpdump tells it
    length: int = 0  #: of the whole frame, bytes
    began: int = 0
    ended: int = 0


class TraceEvent(msgspec.Struct, tag="journey"):
    """A journey is over."""

    journey: JourneyInfo
    lost: int = 0  #: since the last event: journeys for which there was no room


def journey_info(journey: Journey, epoch: int = 0) -> JourneyInfo:
    """``journey`` as it is now; ``epoch``: what is added to the stack's times."""
    from ustack.wire.dump import describe  # who only reads them needs none of it

    steps = [
        StepInfo(step.point.name, epoch + int(step.now), step.host, step.dev, step.decision, step.facts)
        for step in journey.steps
    ]
    return JourneyInfo(
        ident=journey.ident,
        parent=journey.parent,
        cause=journey.cause,
        steps=steps,
        lost=journey.lost,
        frame=journey.frame,
        outcome=journey.outcome,
        reason=journey.reason,
        host=journey.host,
        packet=describe(journey.frame),
        length=int(journey.length),
        began=epoch + int(journey.began),
        ended=epoch + int(journey.ended),
    )
