"""The picture of a journey: stations in order, every text inside its box and the picture, nothing on anything else."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple
from xml.etree import ElementTree

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.io.journeys import PACKET, TABLE, Known, across, dropped, journey, sent, step, way_in, way_out
from ustack.io.trace_layout import EM, Picture, turns
from ustack.io.trace_layout import Station as Placed
from ustack.io.trace_svg import FLOORS, journey_svg
from ustack.io.trace_words import HEIGHTS
from ustack.trace.journey import DELIVERED, DROPPED, ON_ITS_WAY, SENT

if TYPE_CHECKING:
    from ustack.io.trace import JourneyInfo, StepInfo

SVG = "{http://www.w3.org/2000/svg}"
SIZES = {"head": 16, "sub": 12, "floorname": 14, "host": 15, "room": 11, "fn": 12.5, "file": 11, "number": 10,
         "decision": 11, "note": 11, "time": 11}  # fmt: skip
#: DejaVu Sans is narrower than its Mono in all that is said in it, but for a few letters.
SANS = {"sub", "floorname", "host"}
MIDDLE = {"host", "number"}


class Box(NamedTuple):
    left: float
    top: float
    right: float
    bottom: float
    what: str

    def meets(self, other: Box) -> bool:
        return (
            self.left < other.right and other.left < self.right and self.top < other.bottom and other.top < self.bottom
        )

    def within(self, other: Box) -> bool:
        return (
            other.left <= self.left
            and self.right <= other.right
            and other.top <= self.top
            and self.bottom <= other.bottom
        )


def number(element: ElementTree.Element, name: str) -> float:
    return float(element.get(name, "0"))


def text_box(element: ElementTree.Element, middle: bool) -> Box:
    size = SIZES[element.get("class", "")]
    words = element.text or ""
    width = len(words) * size * EM
    x, y = number(element, "x"), number(element, "y")
    left = x - width / 2 if middle else x
    return Box(left, y - 0.76 * size, left + width, y + 0.2 * size, words)


def rect_box(element: ElementTree.Element) -> Box:
    x, y = number(element, "x"), number(element, "y")
    return Box(x, y, x + number(element, "width"), y + number(element, "height"), element.get("class", ""))


class Drawing:
    """A picture, read back."""

    def __init__(self, text: str) -> None:
        self.root = ElementTree.fromstring(text)
        self.page = rect_box(next(each for each in self.root.iter(f"{SVG}rect") if each.get("class") == "page"))
        self.stations = [group for group in self.root.iter(f"{SVG}g") if "station" in group.get("class", "").split()]
        ends = [group for group in self.stations if "end" in group.get("class", "").split()]
        of_ends = {id(text) for group in ends for text in group.iter(f"{SVG}text") if text.get("class") == "fn"}
        self.texts = [
            text_box(each, each.get("class") in MIDDLE or id(each) in of_ends) for each in self.root.iter(f"{SVG}text")
        ]
        self.boxes = [rect_box(group.findall(f"{SVG}rect")[0]) for group in self.stations]

    def names(self) -> list[str]:
        return [self.said(group, "fn")[0] for group in self.stations]

    def said(self, group: ElementTree.Element, kind: str) -> list[str]:
        return [each.text or "" for each in group.iter(f"{SVG}text") if each.get("class") == kind]

    def station(self, name: str) -> ElementTree.Element:
        return next(group for group in self.stations if name in self.said(group, "fn"))

    def lines(self) -> list[tuple[str, list[tuple[float, float]]]]:
        """Every part of the way: its class and the corners of its line, without their rounding."""
        found = []
        for path in self.root.iter(f"{SVG}path"):
            if path.get("class", "").startswith("way"):
                moves = re.findall(r"[MLQ](-?[\d.]+) (-?[\d.]+)", path.get("d", ""))
                found.append((path.get("class", ""), [(float(x), float(y)) for x, y in moves]))
        return found


def draw(journey: JourneyInfo) -> Drawing:
    return Drawing(journey_svg(journey, Known()))


def check(drawing: Drawing) -> None:
    """What is true of every picture."""
    for box in (*drawing.texts, *drawing.boxes):
        assert box.within(drawing.page), box
    for some in (drawing.texts, drawing.boxes):
        for at, box in enumerate(some):
            for other in some[at + 1 :]:
                assert not box.meets(other), (box, other)
    for box in drawing.boxes:
        for text in drawing.texts:
            assert text.within(box) or not text.meets(box), (text, box)
    for kind, points in drawing.lines():
        for one, two in zip(points, points[1:], strict=False):
            (left, right), (top, bottom) = sorted((one[0], two[0])), sorted((one[1], two[1]))
            stroke = Box(left - 1, top - 1, right + 1, bottom + 1, kind)
            for text in drawing.texts:
                assert not stroke.meets(text), (stroke, text)


def test_stations_in_order_with_their_numbers_and_the_end() -> None:
    for each, end in ((sent(), "sent"), (dropped(), "dropped: NO_SOCKET"), (across(), "delivered")):
        drawing = draw(each)
        assert drawing.names() == [*(TABLE[step.point][0] for step in each.steps), end]
        numbers = [drawing.said(group, "number") for group in drawing.stations]
        assert numbers == [[str(at)] for at in range(1, len(each.steps) + 1)] + [[]]


def test_nothing_lies_on_anything() -> None:
    for each in (sent(), dropped(), across(), journey([]), journey(way_in(), ON_ITS_WAY, lost=7)):
        check(draw(each))


def test_the_head() -> None:
    drawing = draw(sent())
    said = [box.what for box in drawing.texts]
    assert said[0] == f"#7 {PACKET}"
    assert said[1].endswith(" · 11 steps in 41.2 us · sent · caused by #6 · part of #5")
    assert drawing.root.findtext(f"{SVG}title") == PACKET
    assert "udp_sendmsg, fib_lookup" in (drawing.root.findtext(f"{SVG}desc") or "")
    assert [box.what for box in draw(across()).texts][1].startswith("0.001004 s · ")


def test_floors_are_bands_and_the_wire_is_at_the_bottom() -> None:
    drawing = draw(sent())
    bands = [rect_box(each) for each in drawing.root.iter(f"{SVG}rect") if each.get("class") == "floor"]
    assert len(bands) == len(FLOORS) == max(HEIGHTS.values()) + 1
    assert all(lower.top > upper.bottom for lower, upper in zip(bands, bands[1:], strict=False))
    steps = sent().steps
    for box, each in zip(drawing.boxes, steps, strict=False):
        assert box.within(bands[HEIGHTS[TABLE[each.point][1]]]), each.point


def test_a_station_has_its_source_what_was_decided_and_when() -> None:
    drawing = draw(sent())
    group = drawing.station("neigh_resolve_output")
    assert drawing.said(group, "file") == ["neighbour/table.py:333"]
    assert (drawing.said(group, "decision"), drawing.said(group, "note")) == (["queued"], ["state INCOMPLETE"])
    assert drawing.said(drawing.station("ip_output"), "file") == ["eth0 · ipv4/output.py:301"]
    times = [drawing.said(group, "time") for group in drawing.stations]
    assert times == [[]] * 8 + [["at 41.2 us"]] + [[]] * 3
    hook = drawing.station("nf_hook_slow")
    assert "netfilter" in hook.get("class", "").split()
    assert " ".join(drawing.said(hook, "note")) == "hook LOCAL_OUT, function count_muffins, priority 0"


def test_hosts_are_columns() -> None:
    drawing = draw(across())
    hosts = [each for each in drawing.root.iter(f"{SVG}text") if each.get("class") == "host"]
    assert [each.text for each in hosts] == ["a", "r", "b"]
    stays = [rect_box(each) for each in drawing.root.iter(f"{SVG}rect") if each.get("class") == "stay"]
    assert all(one.right < two.left for one, two in zip(stays, stays[1:], strict=False))
    at = {"a": 0, "r": 1, "b": 2}
    for box, each in zip(drawing.boxes, across().steps, strict=False):
        assert box.within(stays[at[each.host]]), each
    assert not [each for each in draw(sent()).root.iter() if each.get("class") in ("host", "stay")]


def test_up_and_down() -> None:
    """Blue up, green down, red to the drop; forwarding turns where the packet gets its new device."""
    drawing = draw(across())
    ways = ["up" if "up" in group.get("class", "").split() else "down" for group in drawing.stations]
    hosts = [step.host for step in across().steps] + ["b"]
    devs = [step.dev for step in across().steps] + ["eth0"]
    assert ways == [
        "up" if host == "b" or (host, dev) == ("r", "eth0") else "down" for host, dev in zip(hosts, devs, strict=True)
    ]
    assert len(drawing.lines()) == len(drawing.stations) - 1
    assert [kind for kind, _ in draw(dropped()).lines()] == ["wayup"] * 3 + ["wayout"] * 2
    assert {kind for kind, _ in draw(sent()).lines()} == {"waydown"}


def test_a_step_aside_is_not_where_a_forwarded_packet_turns() -> None:
    """tcp_v4_early_demux looks whether the packet is for a socket, before the route says that it is not."""
    steps = [step(point, 0, "", "eth0") for point in ("NETIF_RECEIVE_SKB", "IP_RCV", "TCP_V4_RCV", "FIB_LOOKUP")]
    steps += [step("IP_FORWARD", 0, "", "eth0")]
    steps += [step(point, 0, "", "eth1") for point in ("IP_OUTPUT", "NEIGH_RESOLVE_OUTPUT", "DEV_QUEUE_XMIT")]
    drawing = draw(journey(steps, SENT))
    ways = ["up" if "up" in group.get("class", "").split() else "down" for group in drawing.stations]
    assert ways == ["up"] * 5 + ["down"] * 4
    check(drawing)


def test_a_switch_is_gone_through_up_and_down() -> None:
    """In on one port, and out on another, without a floor above the devices."""
    ways = []
    for dev in ("eth1", "eth0"):
        steps = [step("NETIF_RECEIVE_SKB", 0, "", "eth0"), step("IP_XMIT", 0, "", "br0")][: 2 if dev == "eth1" else 1]
        steps += [step("DEV_QUEUE_XMIT", 0, "", dev), step("E1000_XMIT_FRAME", 0, "", dev), step("CABLE", 0, "", dev)]
        drawing = draw(journey(steps, SENT))
        check(drawing)
        ways.append(["up" if "up" in group.get("class", "").split() else "down" for group in drawing.stations])
    assert ways == [["up"] * 2 + ["down"] * 4, ["down"] * 5]


def test_the_way_leads_from_station_to_station() -> None:
    """Whatever the order in which its parts are drawn: each begins at the edge of a box, and ends at the next one's."""
    for each in (sent(), dropped(), across()):
        drawing = draw(each)
        joined = set()
        for _, points in drawing.lines():
            ends = []
            for x, y in (points[0], points[-1]):
                (found,) = [
                    at for at, box in enumerate(drawing.boxes) if Box(x - 3, y - 3, x + 3, y + 3, "").meets(box)
                ]
                ends.append(found)
            joined.add(tuple(ends))
        assert joined == {(at, at + 1) for at in range(len(drawing.boxes) - 1)}


def test_what_must_be_escaped_is() -> None:
    drawing = draw(journey([step("IP_RCV", 0, "<r&1>", 'a"b', "ttl < 1 & more", {"x": "<>&"})]))
    group = drawing.station("ip_rcv")
    assert drawing.said(group, "decision") == ["ttl < 1 & more"]
    assert drawing.said(group, "note") == ["x <>&"]


def test_a_point_of_another_version() -> None:
    drawing = draw(journey([*way_in()[:2], step("XFRM_INPUT", 0, "", "eth0"), *way_in()[2:]]))
    assert drawing.names()[2] == "xfrm_input"
    check(drawing)


def test_fonts_are_not_too_small() -> None:
    style = re.findall(r"font-size: ([\d.]+)px", journey_svg(sent(), Known()))
    assert style and min(map(float, style)) >= 10


def levels(*heights: int) -> list[tuple[int, int, bool]]:
    return turns([Placed(1, "", "", height, "") for height in heights])


def test_where_a_way_turns() -> None:
    """A step aside and back is no turn; a turn is where it goes on the other way."""
    assert levels(5, 4, 3, 4, 3, 2, 1, 0) == [(0, 8, False)]  # a route is looked up before the packet is made
    assert levels(0, 1, 3, 3, 2, 1, 0) == [(0, 4, True), (4, 7, False)]  # forwarded
    assert levels(5, 4, 3, 1, 1, 3, 4, 5) == [(0, 5, False), (5, 8, True)]  # over lo
    assert levels(0, 1, 1, 0) == [(0, 3, True), (3, 4, False)]  # a switch
    assert levels(1, 2, 3, 3, 2) == [(0, 5, True)]  # ARP asks whether it is for us
    assert levels(0, 1, 3, 2) == [(0, 3, True), (3, 4, False)]  # forwarded, and no neighbour
    assert levels(1, 3, 4, 5, 4) == [(0, 5, True)]  # TCP after it woke the reader
    assert levels(3) == [(0, 1, False)]


def rows() -> st.SearchStrategy[list[StepInfo]]:
    facts = st.dictionaries(
        st.sampled_from(["route", "table", "seq"]),
        st.one_of(st.integers(0, 2**32), st.text("ab c:/", max_size=70)),
        max_size=3,
    )
    one = st.builds(
        step,
        st.sampled_from(sorted(TABLE)),
        st.integers(0, 10**10),
        st.sampled_from(["", "a", "b", "a host with a long name"]),
        st.sampled_from(["", "eth0", "br-0123456789ab"]),
        st.text("abc XYZ", max_size=60),
        facts,
    )
    return st.lists(one, max_size=14)


@given(rows(), st.sampled_from([DELIVERED, SENT, DROPPED, ON_ITS_WAY]))
@settings(max_examples=60)
def test_nothing_lies_on_anything_whatever_the_way(steps: list[StepInfo], outcome: str) -> None:
    each = journey(steps, outcome, "NEIGH_FAILED")
    drawing = draw(each)
    check(drawing)
    assert len(drawing.stations) == len(steps) + 1
    assert len(drawing.lines()) == len(steps)
    assert Picture(each, Known(), 100).height > 0


def test_two_ways_over_the_same_floors_do_not_touch() -> None:
    """To ourselves over lo, out and in, and a retransmission after it."""
    loop = [step(each.point, 0, "", "lo", each.decision, each.facts) for each in (*way_out()[:-1], *way_in()[1:])]
    check(draw(journey([*loop, *loop, *way_out(time=10)])))
