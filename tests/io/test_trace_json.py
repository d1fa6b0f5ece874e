"""Journeys as JSON lines: the keys that trace_json.py promises, all of them, and no other."""

from __future__ import annotations

import json
import re

import ustack.io.trace_json
from tests.io.journeys import FRAME, PACKET, Known, across, dropped, journey, sent, step
from ustack.io.trace_json import journey_line


def read(text: str) -> dict[str, object]:
    assert text.endswith("\n") and text.count("\n") == 1
    found = json.loads(text)
    assert isinstance(found, dict)
    return found


def steps_of(found: dict[str, object]) -> list[dict[str, object]]:
    steps = found["steps"]
    assert isinstance(steps, list)
    return steps


def test_the_journey() -> None:
    found = read(journey_line(sent(), Known()))
    del found["steps"]
    assert found == {
        "journey": 7,
        "part_of": 5,
        "caused_by": 6,
        "time": 1_800_000_000_123_456_789,
        "host": "",
        "packet": PACKET,
        "length": len(FRAME),
        "frame": FRAME.hex(),
        "outcome": "sent",
        "reason": "",
        "duration": 41_200,
        "steps_lost": 0,
    }


def test_a_step() -> None:
    steps = steps_of(read(journey_line(sent(), Known())))
    assert steps[8] == {
        "since": 41_200,
        "host": "",
        "dev": "eth0",
        "function": "neigh_resolve_output",
        "point": "NEIGH_RESOLVE_OUTPUT",
        "floor": "neighbour",
        "file": "neighbour/table.py",
        "line": 333,
        "decision": "sent",
        "facts": {"state": "REACHABLE"},
    }


def test_facts_keep_their_kind() -> None:
    steps = steps_of(read(journey_line(dropped(), Known())))
    assert steps[2]["facts"] == {"ttl": 64, "df": True, "options": False, "note": ""}
    assert read(journey_line(dropped(), Known()))["reason"] == "NO_SOCKET"


def test_hosts() -> None:
    found = read(journey_line(across(), Known()))
    assert found["host"] == "a"
    hosts = [each["host"] for each in steps_of(found)]
    assert sorted(set(map(str, hosts))) == ["a", "b", "r"]


def test_no_steps_and_a_point_of_another_version() -> None:
    assert read(journey_line(journey([]), Known()))["steps"] == []
    (only,) = steps_of(read(journey_line(journey([step("XFRM_INPUT")]), Known())))
    assert (only["function"], only["point"], only["floor"], only["line"]) == ("xfrm_input", "XFRM_INPUT", "", 0)


def test_every_key_is_documented() -> None:
    text = ustack.io.trace_json.__doc__ or ""
    found = read(journey_line(sent(), Known()))
    assert [key for key in found if not re.search(rf"^    {key} ", text, re.MULTILINE)] == []
    assert [key for key in steps_of(found)[0] if not re.search(rf"^      {key} ", text, re.MULTILINE)] == []
