"""Real journeys, of two stacks on a cable in virtual time, in every form in which they are shown."""

from __future__ import annotations

import json
import socket
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import ustack
from tests.io.test_pcapng import read
from tests.io.test_trace_svg import Drawing, check
from tests.io.world import CLIENT, SERVER, World
from ustack.io.trace import journey_info
from ustack.io.trace_json import journey_line
from ustack.io.trace_pcapng import TracePcapng
from ustack.io.trace_source import Sources
from ustack.io.trace_svg import journey_svg
from ustack.io.trace_text import TraceText
from ustack.trace.journey import DELIVERED, DROPPED, Journeys, TraceWatcher

if TYPE_CHECKING:
    from ustack.io.trace import JourneyInfo
    from ustack.trace.journey import Journey

ROOMS = Path(ustack.__file__).parent


class Collect(TraceWatcher):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[JourneyInfo] = []

    def journey(self, journey: Journey) -> None:
        self.found.append(journey_info(journey))


@pytest.fixture(scope="module")
def found() -> list[JourneyInfo]:
    """ARP, a datagram that is echoed, one that is refused, and a TCP connection."""
    journeys, collect = Journeys(), Collect()
    with World("echo") as world:
        journeys.join(world.client.net_stack.net, "a")
        journeys.join(world.server.net_stack.net, "b")
        journeys.watch(collect)
        with world.client.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(1)
            sock.sendto(b"muffin", (SERVER, 7))
            assert sock.recvfrom(100) == (b"muffin", (SERVER, 7))
            sock.sendto(b"muffin", (SERVER, 4747))
            with pytest.raises(TimeoutError):
                sock.recvfrom(100)
        assert world.exchange(7, b"hello") == b"hello"
        journeys.unwatch(collect)
    return collect.found


def of(found: list[JourneyInfo], text: str) -> JourneyInfo:
    """The first whose packet says so."""
    return next(each for each in found if text in each.packet)


def test_they_are_there(found: list[JourneyInfo]) -> None:
    for text in ("ARP, Request", "ARP, Reply", f"> {SERVER}.7: UDP", f"> {CLIENT}.", "ICMP", "Flags [S]", "Flags [S.]"):
        assert of(found, text)
    assert len({each.ident for each in found}) == len(found)


def test_text(found: list[JourneyInfo]) -> None:
    text = TraceText(Sources(), 120)
    there = text.render(of(found, f"> {SERVER}.7: UDP"))
    names = ["udp_sendmsg", "ip_local_out", "e1000_xmit_frame", "e1000_clean_rx_irq", "ip_rcv", "udp_rcv"]
    places = [there.index(f" {name} ") for name in names]
    assert places == sorted(places)
    assert there.splitlines()[-1].endswith(DELIVERED)
    refused = text.render(of(found, f"> {SERVER}.4747: UDP"))
    assert refused.splitlines()[-1].endswith(f"{DROPPED}: NO_SOCKET")
    for each in found:
        lines = text.render(each).splitlines()
        assert [line for line in lines if len(line) > 120] == []


def test_what_caused_what(found: list[JourneyInfo]) -> None:
    refused = of(found, f"> {SERVER}.4747: UDP")
    assert of(found, "ICMP").cause == refused.ident
    assert f"caused by #{refused.ident}" in TraceText(Sources()).render(of(found, "ICMP"))


def test_every_line_of_code_is_one_that_takes_the_step(found: list[JourneyInfo]) -> None:
    sources = Sources()
    for name in {step.point for each in found for step in each.steps}:
        place = sources.place(name)
        assert place.line, name
        line = (ROOMS / place.file).read_text().splitlines()[place.line - 1]
        assert f"Point.{name}" in line


def test_json(found: list[JourneyInfo]) -> None:
    for each in found:
        back = json.loads(journey_line(each, Sources()))
        assert [step["point"] for step in back["steps"]] == [step.point for step in each.steps]
        assert all(step["floor"] and step["line"] for step in back["steps"])


def test_pcapng(found: list[JourneyInfo]) -> None:
    file = BytesIO()
    output = TracePcapng(file, Sources())
    for each in found:
        output.write(each)
    back = read(file.getvalue())
    assert [data for data, _ in back] == [each.frame for each in found]
    assert {about.ifname for _, about in back} == {b"a:eth0", b"b:eth0"}


def test_pictures(found: list[JourneyInfo]) -> None:
    for each in found:
        drawing = Drawing(journey_svg(each, Sources()))
        assert len(drawing.stations) == len(each.steps) + 1
        check(drawing)
