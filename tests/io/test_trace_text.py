"""Journeys as text: to the letter, and no line too long whatever is in them."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.io.journeys import EPOCH, PACKET, TABLE, Known, across, dropped, journey, sent, step, way_in, way_out
from ustack.io.trace_source import Sources
from ustack.io.trace_text import TraceText
from ustack.io.trace_words import HEIGHTS, clock, duration, fact_words, step_words
from ustack.trace.journey import ON_ITS_WAY
from ustack.trace.points import FLOORS, Point

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ustack.io.trace import JourneyInfo

ESCAPE = re.compile("\x1b\\[[0-9;]*m")

SENT = f"""\
#7  08:00:00.123456  {PACKET}  caused by #6  part of #5
      0        socket               sock_sendmsg    to 192.0.2.2:4747, length 6                       inet/socket.py:207
               udp                udp_sendmsg                                                            udp/sock.py:102
               routing          fib_lookup          unicast: rule 32766, table main,          routing/route_output.py:88
                                                    route 192.0.2.0/24 dev eth0 src 192.0.2.1
               udp                udp_send_skb      checksum left to the device                          udp/sock.py:133
               ipv4             ip_local_out                                                          ipv4/output.py:288
               netfilter        nf_hook_slow        ACCEPT: hook LOCAL_OUT,                       netfilter/hooks.py:130
                                                    function count_muffins, priority 0
         eth0  ipv4             ip_output                                                             ipv4/output.py:301
               neighbour      neigh_resolve_output  queued: state INCOMPLETE                      neighbour/table.py:333
41.2 us                       neigh_resolve_output  sent: state REACHABLE                         neighbour/table.py:333
               device       __dev_queue_xmit                                                          device/core.py:404
                            e1000_xmit_frame        slot 12, cmd EOP|TXSM                            device/e1000.py:164
41.2 us  sent
"""

NARROW = f"""\
#7  08:00:00.000000
    {PACKET}
  0  eth0  wire    e1000_clean_rx_irq          device/e1000.py:304
                     slot 3, status DD|EOP
           device   netif_receive_skb           device/core.py:348
                      to ip_rcv
           ipv4       ip_rcv                      ipv4/input.py:66
                        accept: ttl 64, df, no options
           udp         udp_rcv  checksum ok          udp/udp.py:56
                       kfree_skb_reason                 net.py:143
                         NO_SOCKET: counters Udp.NoPorts,
                         icmp 3/3 port unreachable
  0  dropped: NO_SOCKET
"""


@pytest.fixture(autouse=True)
def greenwich(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def render(journey: JourneyInfo, width: int = 120, color: bool = False) -> str:
    return TraceText(Known(), width, color).render(journey)


def test_a_way_out_to_the_letter() -> None:
    assert render(sent()) == SENT


def test_what_does_not_fit_beside_a_function_goes_below_it() -> None:
    assert render(dropped(), 66) == NARROW
    assert render(dropped(), 20) == render(dropped(), 60)


def test_hosts_are_chapters_where_there_are_several() -> None:
    lines = render(across()).splitlines()
    assert lines[0].startswith("#7  0.001004  a  IP ")
    assert [line for line in lines if line.strip() and not line.startswith("#") and len(line.split()) <= 3][:1] == [
        "      0  a"
    ]
    chapters = [line for line in lines if re.fullmatch(r" *(0|[\d.]+ us|[\d.]+ ms)  [arb]", line)]
    assert [line.split()[-1] for line in chapters] == ["a", "r", "b"]
    assert "46.2 us  r" in chapters[1]
    assert lines[-1] == "1.10 ms  delivered"
    assert "  r" not in "".join(line for line in render(journey(way_in("r"))).splitlines()[1:] if line.endswith("  r"))


def test_one_host_is_named_in_the_head_alone() -> None:
    head, *rest = render(journey(way_in("b"))).splitlines()
    assert head.startswith("#7  0.000000  b  IP ")
    assert not [line for line in rest if line.split() in (["0", "b"], ["b"])]


def column_of(point: str, lines: list[str]) -> int:
    """Where the function stands in the line that has its source at the margin."""
    linux, _, file, line = TABLE[point]
    (found,) = {text for text in lines if text.endswith(f" {file}:{line}")}
    return found.index(f" {linux} ") + 1


def test_every_function_in_order() -> None:
    for each in (sent(), across(), dropped()):
        lines = [line.split() for line in render(each, 200).splitlines()]
        sources = [line[-1] for line in lines if re.fullmatch(r"[\w/]+\.py:\d+", line[-1])]
        assert sources == ["{}:{}".format(*TABLE[step.point][2:]) for step in each.steps]


def test_functions_are_indented_by_the_height_of_their_floor() -> None:
    steps = [step(point) for point in sorted(TABLE) if point != "KFREE_SKB"]
    for width, indent in ((160, 2), (92, 1)):
        lines = render(journey(steps), width).splitlines()
        ground = column_of("CABLE", lines)
        for each in steps:
            assert column_of(each.point, lines) == ground + indent * HEIGHTS[TABLE[each.point][1]], each.point


def test_every_floor_has_a_height_and_the_wire_is_lowest() -> None:
    assert set(HEIGHTS) == set(FLOORS)
    heights = [HEIGHTS[floor] for floor in FLOORS]
    assert heights == sorted(heights)


def test_what_is_as_it_was_is_not_said_again() -> None:
    text = render(sent())
    assert text.count("eth0  ") == 1
    assert text.count(" neighbour  ") == 1
    assert text.count("41.2 us") == 2  # where it changes, and the end


def test_a_drop_is_on_the_floor_where_it_happened() -> None:
    line = next(line for line in render(dropped()).splitlines() if "kfree_skb_reason" in line)
    assert "device " not in line
    assert "NO_SOCKET: counters Udp.NoPorts," in line
    alone = render(journey([step("KFREE_SKB", 0, "", "", "IP_INHDR")], "dropped", "IP_INHDR"))
    assert " device  " in alone


def test_colours_change_nothing_but_the_colour() -> None:
    for each in (sent(), dropped(), across()):
        for width in (70, 100, 120, 200):
            colored = render(each, width, color=True)
            assert ESCAPE.sub("", colored) == render(each, width)
            assert "\x1b[2m" in colored
            assert all(line.count("\x1b[") == 2 * line.count("\x1b[0m") for line in colored.splitlines())


def test_floors_differ_in_colour_and_drops_are_red() -> None:
    colored = render(dropped(), 120, color=True)
    styles = {
        name: re.search(f"\x1b\\[([0-9;]*)m{name}", colored) for name in ("ip_rcv", "udp_rcv", "netif_receive_skb")
    }
    assert len({found[1] for found in styles.values() if found}) == 3
    assert "\x1b[1;31mkfree_skb_reason" in colored
    assert "\x1b[1;31mdropped: NO_SOCKET" in colored


def test_steps_that_were_too_many_are_told() -> None:
    assert render(journey(way_in(), ON_ITS_WAY, lost=3)).splitlines()[-2:] == [
        "     3 more steps were not kept",
        "  0  on its way",
    ]


def test_a_point_of_another_version_is_shown_by_its_name() -> None:
    text = render(journey([step("XFRM_INPUT", 0, "", "eth0", "decrypted", {"spi": 7})]))
    assert "xfrm_input  decrypted: spi 7" in text


def test_a_journey_without_steps_is_a_head_and_an_end() -> None:
    assert render(journey([])) == f"#7  0.000000  {PACKET}\n  0  delivered\n"


def test_without_sources_there_is_nothing_at_the_margin(tmp_path: Path) -> None:
    text = TraceText(Sources(tmp_path)).render(journey([step(Point.KFREE_SKB.name, 0, "", "", "IP_INHDR")]))
    assert text.splitlines()[1].endswith("kfree_skb_reason  IP_INHDR")


@given(
    st.lists(
        st.tuples(
            st.sampled_from(sorted(TABLE)),
            st.integers(0, 10**10),
            st.sampled_from(["", "a", "router-17"]),
            st.sampled_from(["", "eth0", "br-lan"]),
            st.text("abc XYZ", max_size=60).map(str.strip),
            st.dictionaries(
                st.sampled_from(["route", "table", "seq", "to"]),
                st.one_of(st.integers(0, 2**40), st.booleans(), st.text("ab c:/", max_size=80).map(str.strip)),
            ),
        ),
        max_size=12,
    ),
    st.integers(80, 160),
)
@settings(max_examples=60)
def test_no_line_is_too_long_and_no_word_is_lost(
    rows: list[tuple[str, int, str, str, str, dict[str, str | int | bool]]], width: int
) -> None:
    steps = [step(*row) for row in rows]
    lines = render(journey(steps), width).splitlines()
    if all(len(word) < 30 for each in steps for word in step_words(each).split()):
        assert [line for line in lines if len(line) > width] == []
    joined = "".join("".join(lines).split())
    for each in steps:
        for word in step_words(each).replace(",", " ").split():
            assert word.rstrip(":") in joined
    assert [line for line in lines if line != line.rstrip()] == []


@pytest.mark.parametrize(
    ("ns", "text"),
    [(0, "0"), (1, "1 ns"), (999, "999 ns"), (1000, "1.00 us"), (9_994, "9.99 us"), (9_996, "10.0 us"),
     (41_200, "41.2 us"),
     (99_960, "100 us"), (999_499, "999 us"), (999_500, "1.00 ms"), (4_560_000, "4.56 ms"), (999_960_000, "1.000 s"),
     (61_234_000_000, "61.234 s")],
)  # fmt: skip
def test_durations_have_three_digits(ns: int, text: str) -> None:
    assert duration(ns) == text


def test_times_of_day_and_of_a_laboratory() -> None:
    assert clock(EPOCH + 1_234_567) == "08:00:00.001234"
    assert clock(12_345_678_901) == "12.345678"


def test_facts_in_words() -> None:
    facts: dict[str, str | int | bool] = {"table": "main", "rp_filter": 0, "df": True, "mf": False, "status": ""}
    assert fact_words(facts) == ["table main", "rp filter 0", "df", "no mf"]
    assert step_words(step("IP_RCV", 0, "", "", "accept", facts)) == "accept: table main, rp filter 0, df, no mf"
    assert step_words(way_out()[4]) == ""
    assert step_words(way_out()[10]) == "slot 12, cmd EOP|TXSM"
