"""The steps of fragments: what waits for what, what was wrong with them, and with whom the whole goes on."""

from __future__ import annotations

import pytest

from tests.harness import udp as bound
from tests.trace.below import SEC, Target, ip, names, udp
from tests.trace.watch import Watch, decision, step
from ustack.trace.journey import DELIVERED, DROPPED, Journey, TraceWatcher
from ustack.trace.points import Point

MF = 0x2000
DATA = udp(bytes(40))  # 48 bytes: three times sixteen


def part(number: int, last: bool = False, size: int = 16, ident: int = 1) -> bytes:
    """Sixteen bytes of DATA, or more of them."""
    at = number * 16
    return ip(17, DATA[at : at + size], frag_off=(0 if last else MF) | at // 8, ident=ident)


def test_out_of_order() -> None:
    target = Target()
    server = bound(target.stack, "", 7)
    with Watch(a=target.stack) as watch:
        target.receive(part(2, last=True))
        target.wait(10 * SEC)
        target.receive(part(0), part(1))
        assert server.recv(100) == bytes(40)
        watch.end()
        third, first, second = watch.all()
        assert step(third, Point.IP_DEFRAG).facts == {"here": 16, "fragments": 1, "of": 48, "offset": 32}
        assert step(first, Point.IP_DEFRAG).facts == {"here": 32, "fragments": 2, "of": 48, "offset": 0}
        assert "IP_DEFRAG" not in names(second) and decision(second, Point.IP_FRAG_REASM) == "made whole"
        assert [each.outcome for each in (third, first, second)] == [DELIVERED] * 3
        assert step(third, Point.IP_FRAG_REASM).facts["journey"] == second.ident
        assert decision(first, Point.IP_LOCAL_DELIVER) == "a fragment: to ip_defrag"
        assert names(second)[names(second).index("IP_FRAG_REASM") + 1] == "IP_LOCAL_DELIVER_FINISH"


class FirstOnly(TraceWatcher):
    """A filter that looks at ports: only the first fragment has some."""

    def __init__(self) -> None:
        super().__init__()
        self.over: list[Journey] = []

    def matches(self, frame: bytes, length: int) -> bool:
        return b"\x13\x88\x00\x07" in frame

    def journey(self, journey: Journey) -> None:
        self.over.append(journey)


def test_only_the_first_fragment_is_followed() -> None:
    target = Target()
    server = bound(target.stack, "", 7)
    watch = Watch(a=target.stack)
    watch.journeys.unwatch(watch)
    picky = FirstOnly()
    watch.journeys.watch(picky)
    target.receive(part(0), part(1), part(2, last=True))
    assert server.recv(100) == bytes(40)
    watch.journeys.end_all()
    assert len(picky.over) == 1
    assert decision(picky.over[0], Point.IP_FRAG_REASM) == "made whole"
    assert names(picky.over[0])[-1] != "IP_FRAG_REASM" and picky.over[0].outcome == DELIVERED


def reasons(watch: Watch) -> list[str]:
    return [journey.reason for journey in watch.all() if journey.outcome == DROPPED]


@pytest.mark.parametrize(
    ("frames", "lost", "counters"),
    [
        ([part(0), part(0)], ["DUP_FRAG"], {}),
        (
            [part(0, size=24), part(1)],
            ["FRAG_QUEUE_FREED", "FRAG_OVERLAP"],
            {"Ip.ReasmFails": 1, "Ip.ReasmOverlaps": 1},
        ),
        (
            [part(2, last=True), ip(17, bytes(16), frag_off=MF | 6)],
            ["FRAG_QUEUE_FREED", "FRAG_INVALID"],
            {"Ip.ReasmFails": 1},
        ),
    ],
)
def test_what_is_wrong_with_them(frames: list[bytes], lost: list[str], counters: dict[str, int]) -> None:
    target = Target()
    with Watch(a=target.stack) as watch:
        target.receive(*frames)
        assert reasons(watch) == lost
        told = [
            str(each.facts.get("counters", ""))
            for journey in watch.all()
            for each in journey.steps
            if each.point is Point.KFREE_SKB
        ]
        assert sorted(" ".join(told).split()) == sorted(counters)
    moved = target.moved("Ip")
    assert {name: moved.get(name, 0) for name in counters} == counters


def test_the_rest_never_comes() -> None:
    target = Target()
    with Watch(a=target.stack) as watch:
        target.receive(part(0), part(1))
        target.wait(29 * SEC)
        assert watch.done == []
        target.wait(2 * SEC)
        watch.end()
        assert reasons(watch) == ["FRAG_REASM_TIMEOUT", "FRAG_QUEUE_FREED"]
        first = watch.all()[0]
        assert names(first)[-3:] == ["IP_DEFRAG", "ICMP_SEND", "KFREE_SKB"]
        assert step(first, Point.ICMP_SEND).facts == {"icmp": "11/1 time exceeded"}
        assert step(first, Point.KFREE_SKB).facts == {"counters": "Ip.ReasmTimeout Ip.ReasmFails"}
        error = watch.one("time exceeded")
        assert error.cause == first.ident and names(error)[0] == "IP_EXPIRE"


def test_no_room_for_them() -> None:
    target = Target()
    target.stack.net.sysctl.ipfrag_high_thresh = 1000
    with Watch(a=target.stack) as watch:
        target.receive(part(0), part(0, ident=2))
        assert reasons(watch) == ["FRAG_NOMEM"]


def test_too_many_others_since() -> None:
    target = Target()
    target.stack.net.sysctl.ipfrag_max_dist = 1
    with Watch(a=target.stack) as watch:
        target.receive(part(0), part(0, ident=2), part(0, ident=3), part(1))
        assert reasons(watch) == ["FRAG_TOO_FAR"]
        assert step(watch.all()[0], Point.KFREE_SKB).facts == {"counters": "Ip.ReasmFails"}
