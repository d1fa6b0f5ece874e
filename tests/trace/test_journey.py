"""Journeys: who is followed from where, how they end, and that everything about them has a limit."""

from __future__ import annotations

import errno

import pytest

from ustack.net import Net
from ustack.packet import Packet
from ustack.timer import NEVER, NSEC_PER_SEC
from ustack.trace.journey import (
    DELIVERED,
    DROPPED,
    FRAME_MAX,
    JOURNEYS_MAX,
    NOTES_MAX,
    ON_ITS_WAY,
    PATIENCE,
    SENT,
    STEPS_MAX,
    WATCHERS_MAX,
    Journey,
    Journeys,
    Tracer,
    TraceWatcher,
)
from ustack.trace.points import Point

FIRST, SECOND, THIRD = list(Point)[:3]
ZERO_HEADER = bytes(12) + b"\x08\x00"
HEADER = bytes.fromhex("020000000002020000000001") + b"\x08\x00"
MSEC = 1_000_000


class Watcher(TraceWatcher):
    """Wants frames that contain ``wanted``."""

    def __init__(self, wanted: bytes = b"", link_layer: bool = False) -> None:
        super().__init__(link_layer)
        self.wanted = wanted
        self.over: list[Journey] = []
        self.asked: list[tuple[bytes, int]] = []

    def matches(self, frame: bytes, length: int) -> bool:
        self.asked.append((frame, int(length)))
        return self.wanted in frame

    def journey(self, journey: Journey) -> None:
        self.over.append(journey)


class Watched:
    """A stack's Net with one who watches it."""

    def __init__(self, watcher: Watcher, host: str = "") -> None:
        self.net = Net(bytes(16))
        self.journeys = Journeys()
        self.tracer = self.journeys.join(self.net, host)
        self.watcher = watcher
        self.journeys.watch(watcher)

    def receive(self, payload: bytes = b"muffin") -> Packet:
        packet = Packet(HEADER + payload)
        self.tracer.received(packet)
        return packet

    def build(self, payload: bytes = b"muffin") -> Packet:
        packet = Packet(payload)
        self.tracer.built(packet, ZERO_HEADER + payload)
        return packet

    def frame(self, packet: Packet) -> None:
        packet.push_mac_header(HEADER)
        self.tracer.framed(packet)


def followed(packet: Packet) -> Journey:
    assert packet.journey is not None
    return packet.journey


def points(journey: Journey) -> list[Point]:
    return [step.point for step in journey.steps]


# -- who watches


def test_a_stack_has_a_tracer_exactly_while_somebody_watches() -> None:
    net, other = Net(bytes(16)), Net(bytes(16))
    journeys = Journeys()
    tracer = journeys.join(net, "a")
    assert net.tracer is None
    first, second = Watcher(), Watcher()
    journeys.watch(first)
    journeys.watch(second)
    assert net.tracer is tracer
    late = journeys.join(other, "b")
    assert other.tracer is late
    journeys.unwatch(first)
    assert net.tracer is tracer
    journeys.unwatch(second)
    journeys.unwatch(second)  # not an error
    assert net.tracer is None
    assert other.tracer is None


def test_watchers_have_a_limit() -> None:
    journeys = Journeys()
    for _ in range(WATCHERS_MAX):
        journeys.watch(Watcher())
    with pytest.raises(OSError) as caught:
        journeys.watch(Watcher())
    assert caught.value.errno == errno.ENOBUFS
    assert len(journeys.watchers) == WATCHERS_MAX


def test_who_leaves_takes_the_journeys_that_only_it_wanted() -> None:
    a = Watched(Watcher(b"muffin"))
    other = Watcher(b"cake")
    a.journeys.watch(other)
    mine, both = followed(a.receive()), followed(a.receive(b"muffin cake"))
    a.journeys.unwatch(a.watcher)
    assert mine.outcome == ON_ITS_WAY
    assert not both.outcome
    both.finish(DELIVERED)
    assert a.watcher.over == []
    assert other.over == [both]


def test_the_last_who_leaves_leaves_nothing_behind() -> None:
    a = Watched(Watcher())
    packet = a.receive()
    a.tracer.note(FIRST)
    assert a.net.timers.armed == 1
    a.journeys.unwatch(a.watcher)
    assert a.net.timers.armed == 0
    followed(packet).step(SECOND)  # the packet goes on, nobody looks
    assert followed(packet).steps == []
    a.journeys.watch(a.watcher)
    assert followed(a.build()).steps == []


# -- where a journey begins


def test_a_received_packet_is_followed_if_somebody_wants_it() -> None:
    a = Watched(Watcher(b"muffin"), "a")
    a.net.now = 5
    assert a.receive(b"cake").journey is None
    assert a.tracer.current is None
    packet = a.receive()
    journey = followed(packet)
    assert a.tracer.current is journey
    assert (journey.ident, journey.parent, journey.cause, journey.host) == (1, 0, 0, "a")
    assert (journey.frame, journey.length, journey.began) == (HEADER + b"muffin", 20, 5)
    assert a.watcher.asked == [(HEADER + b"cake", 18), (HEADER + b"muffin", 20)]
    assert a.watcher.over == []


def test_a_second_word_that_it_has_come_in_is_none() -> None:
    """The driver says so, and after it netif_receive_skb."""
    a = Watched(Watcher())
    packet = a.receive()
    a.tracer.note(FIRST)
    a.tracer.received(packet)
    assert len(a.watcher.asked) == 1
    assert points(followed(a.build())) == [FIRST]


def test_a_packet_of_our_own_begins_with_what_led_to_it() -> None:
    a = Watched(Watcher(b"muffin"))
    a.net.now = 3
    a.tracer.call(FIRST, "sendto", {"length": 6})
    a.net.now = 4
    a.tracer.note(SECOND)
    journey = followed(a.build())
    assert points(journey) == [FIRST, SECOND]
    step = journey.steps[0]
    assert (step.now, step.decision, step.facts, step.dev) == (3, "sendto", {"length": 6}, "")
    assert journey.began == 3
    assert journey.steps[1].facts == {}


def test_every_packet_of_one_call_begins_with_the_call() -> None:
    """What was noted in between is of the next packet only, whether that is followed or not."""
    a = Watched(Watcher(b"muffin"))
    a.tracer.call(FIRST)
    a.tracer.note(SECOND)
    assert points(followed(a.build())) == [FIRST, SECOND]
    a.tracer.note(THIRD)
    assert a.build(b"cake").journey is None
    assert points(followed(a.build())) == [FIRST]


def test_notes_do_not_reach_what_has_nothing_to_do_with_them() -> None:
    a = Watched(Watcher())
    a.tracer.call(FIRST)
    a.tracer.note(SECOND)
    a.tracer.call(THIRD)
    assert points(followed(a.build())) == [THIRD]
    a.tracer.call(FIRST)
    a.receive()
    assert points(followed(a.build())) == []
    a.tracer.call(FIRST)
    a.tracer.note(SECOND)
    a.tracer.forget()
    assert points(followed(a.build())) == []


def test_notes_have_a_limit() -> None:
    a = Watched(Watcher())
    for at in range(NOTES_MAX + 2):
        a.tracer.note(FIRST, str(at))
    journey = followed(a.build())
    assert len(journey.steps) == NOTES_MAX
    assert journey.steps[0].decision == "2"


def test_what_is_sent_while_receiving_is_caused_by_what_was_received() -> None:
    a = Watched(Watcher())
    ping = followed(a.receive())
    assert followed(a.build()).cause == ping.ident
    a.tracer.call(FIRST)
    assert followed(a.build()).cause == 0
    a.tracer.resume(ping)
    assert followed(a.build()).cause == ping.ident


def test_payload_in_pieces_is_seen_and_counted() -> None:
    a = Watched(Watcher(b"muffin"))
    packet = Packet(b"head")
    packet.frags = [b" muf", memoryview(b"fin")]
    packet.frags_len = 7
    a.tracer.built(packet, ZERO_HEADER + packet.buf)
    assert followed(packet).frame == ZERO_HEADER + b"head muffin"
    a.frame(packet)
    assert (followed(packet).frame, followed(packet).length) == (HEADER + b"head muffin", 25)


def test_of_a_long_packet_the_beginning_is_kept() -> None:
    a = Watched(Watcher())
    long = bytes(3 * FRAME_MAX)
    assert (len(followed(a.receive(long)).frame), followed(a.receive(long)).length) == (FRAME_MAX, 14 + len(long))
    packet = Packet(b"head")
    packet.frags = [long, long]
    packet.frags_len = 2 * len(long)
    a.tracer.built(packet, ZERO_HEADER + packet.buf)
    assert (len(followed(packet).frame), followed(packet).length) == (FRAME_MAX, 18 + 2 * len(long))
    assert max(len(frame) for frame, _ in a.watcher.asked) == FRAME_MAX


# -- filters that look at Ethernet addresses


def test_who_looks_at_ethernet_addresses_is_asked_when_there_are_some() -> None:
    """The whole way is there all the same."""
    a = Watched(Watcher(HEADER, link_layer=True))
    a.tracer.call(FIRST)
    packet = a.build()
    journey = followed(packet)
    journey.step(SECOND)
    assert a.watcher.asked == []
    a.frame(packet)
    journey.finish(SENT)
    assert a.watcher.over == [journey]
    assert points(journey) == [FIRST, SECOND]
    assert journey.frame == HEADER + b"muffin"


def test_who_does_not_want_the_addresses_hears_nothing() -> None:
    a = Watched(Watcher(b"somebody else", link_layer=True))
    packet = a.build()
    child = followed(packet).fork()
    a.frame(packet)
    assert packet.journey is None
    child.finish(DROPPED, "TX_QUEUE_FULL")  # never got so far
    assert a.watcher.over == []
    a.net.timers.run(10 * NSEC_PER_SEC)
    assert a.net.timers.armed == 0


def test_each_who_watches_decides_for_itself() -> None:
    a = Watched(Watcher(b"muffin"))
    late = Watcher(HEADER, link_layer=True)
    never = Watcher(b"cake", link_layer=True)
    a.journeys.watch(late)
    a.journeys.watch(never)
    packet = a.build()
    a.frame(packet)
    followed(packet).finish(SENT)
    assert (len(a.watcher.over), len(late.over), len(never.over)) == (1, 1, 0)
    assert len(a.watcher.asked) == 1, "it had said yes already"


def test_undecided_journeys_outlive_others_who_leave() -> None:
    a = Watched(Watcher(b"cake"))
    late = Watcher(HEADER, link_layer=True)
    a.journeys.watch(late)
    packet = a.build()
    a.journeys.unwatch(a.watcher)
    a.frame(packet)
    followed(packet).finish(SENT)
    assert len(late.over) == 1


def test_a_packet_can_become_wanted_on_its_way_out() -> None:
    """Forwarded with other addresses, or changed by a hook: from there on."""
    a = Watched(Watcher(bytes(HEADER[:6])))
    packet = Packet(bytes(12) + b"\x08\x00muffin")
    a.tracer.received(packet)
    a.tracer.note(FIRST)
    assert packet.journey is None
    packet.network_header = 14
    a.frame(packet)
    assert followed(packet).frame == HEADER + b"muffin"
    own = Packet(b"muffin")
    a.tracer.note(SECOND)
    a.frame(own)
    assert points(followed(own)) == [SECOND]


# -- steps


def test_steps_say_when_and_where() -> None:
    a = Watched(Watcher(), "a")
    journey = followed(a.receive())
    a.net.now = 7
    journey.step(FIRST, "accept", {"ttl": 64}, "eth0")
    journey.step(SECOND, now=9)
    first, second = journey.steps
    assert (first.point, first.now, first.host, first.dev, first.decision) == (FIRST, 7, "a", "eth0", "accept")
    assert (second.now, second.decision, second.facts, second.dev) == (9, "", {}, "")
    journey.finish(SENT)
    assert journey.ended == 9, "the cable's clock is ahead"


def test_steps_have_a_limit() -> None:
    a = Watched(Watcher())
    journey = followed(a.receive())
    for _ in range(STEPS_MAX + 3):
        journey.step(FIRST)
    assert (len(journey.steps), journey.lost) == (STEPS_MAX, 3)
    a.tracer.note(SECOND)
    a.tracer.taken(journey)
    assert (len(journey.steps), journey.lost) == (STEPS_MAX, 4)


def test_steps_of_whatever_is_being_received() -> None:
    a = Watched(Watcher(b"muffin"))
    journey = followed(a.receive())
    a.tracer.here(FIRST)
    a.tracer.mark(SECOND)
    assert points(journey) == [FIRST, SECOND]
    a.receive(b"cake")
    a.tracer.here(FIRST)
    a.tracer.mark(SECOND)
    assert points(followed(a.build())) == [SECOND], "nothing received: it is of what comes next"


def test_who_takes_a_packet_out_of_a_queue_adds_its_own_steps() -> None:
    a = Watched(Watcher())
    journey = followed(a.receive())
    a.tracer.call(FIRST)
    a.tracer.note(SECOND)
    a.tracer.taken(journey)
    assert points(journey) == [FIRST, SECOND]
    assert points(followed(a.build())) == []
    journey.finish(DELIVERED)
    a.tracer.call(FIRST)
    a.tracer.taken(journey)
    assert len(journey.steps) == 2, "it was over"


# -- parts and copies


def test_a_fork_begins_where_it_was_cut_off() -> None:
    a = Watched(Watcher())
    whole = followed(a.receive())
    whole.step(FIRST)
    part = whole.fork()
    assert (part.parent, part.steps, part.frame) == (whole.ident, [], whole.frame)
    whole.finish(DROPPED)
    part.step(SECOND)
    part.finish(SENT)
    assert [journey.outcome for journey in a.watcher.over] == [DROPPED, SENT]


def test_a_fork_of_what_is_over_is_over() -> None:
    a = Watched(Watcher())
    whole = followed(a.receive())
    whole.finish(SENT)
    part = whole.fork()
    part.step(FIRST)
    part.finish(DELIVERED)
    assert a.watcher.over == [whole]
    assert part.steps == []


# -- ends


def test_it_ends_once() -> None:
    a = Watched(Watcher())
    a.net.now = 8
    journey = followed(a.receive())
    journey.finish(DROPPED, "NO_SOCKET")
    journey.finish(SENT)
    journey.step(FIRST)
    assert a.watcher.over == [journey]
    assert (journey.outcome, journey.reason, journey.ended, journey.steps) == (DROPPED, "NO_SOCKET", 8, [])
    assert a.net.timers.armed == 0


@pytest.mark.parametrize("turn", ["received", "call", "resume", "forget"])
def test_what_is_delivered_ends_when_the_stack_turns_to_something_else(turn: str) -> None:
    """A function that has given its packet away goes on stepping."""
    a = Watched(Watcher(b"muffin"))
    journey = followed(a.receive())
    a.tracer.delivered(journey)
    journey.step(FIRST)
    assert a.watcher.over == []
    if turn == "received":
        a.receive(b"cake")
    elif turn == "call":
        a.tracer.call(SECOND)
    elif turn == "resume":
        a.tracer.resume(None)
    else:
        a.tracer.forget()
    assert a.watcher.over == [journey]
    assert (points(journey), journey.outcome) == ([FIRST], DELIVERED)


def test_what_stands_still_for_a_second_is_on_its_way() -> None:
    a = Watched(Watcher())
    first = followed(a.receive())
    a.net.now = 400 * MSEC
    second = followed(a.receive())
    a.net.now = 700 * MSEC
    first.step(FIRST)
    for now, over in ((1399, []), (1400, [second]), (1699, [second]), (1700, [second, first])):
        a.net.now = now * MSEC
        a.net.timers.run(a.net.now)
        assert a.watcher.over == over, now
    assert second.outcome == first.outcome == ON_ITS_WAY
    assert a.net.timers.next_deadline() == NEVER


def test_who_keeps_a_packet_for_longer_says_so() -> None:
    """ARP asks for three seconds before it gives up."""
    a = Watched(Watcher())
    journey = followed(a.receive())
    journey.patience = 3 * PATIENCE
    for seconds in (1, 2):
        a.net.now = seconds * NSEC_PER_SEC
        a.net.timers.run(a.net.now)
        assert a.watcher.over == []
    a.net.now = 3 * NSEC_PER_SEC
    a.net.timers.run(a.net.now)
    assert a.watcher.over == [journey]


def test_nothing_is_armed_without_a_journey() -> None:
    a = Watched(Watcher(b"muffin"))
    a.receive(b"cake")
    a.tracer.call(FIRST)
    a.build(b"cake")
    assert a.net.timers.armed == 0


def test_journeys_have_a_limit() -> None:
    """The one that began first ends, unfinished."""
    a = Watched(Watcher())
    packets = [a.receive() for _ in range(JOURNEYS_MAX)]
    assert a.watcher.over == []
    a.receive()
    assert a.watcher.over == [followed(packets[0])]
    assert followed(packets[0]).outcome == ON_ITS_WAY
    assert a.journeys.unfinished == 1


def test_the_end_of_a_run_ends_all() -> None:
    a = Watched(Watcher())
    waits, arrived = followed(a.receive()), followed(a.receive())
    a.tracer.delivered(arrived)
    a.journeys.end_all()
    assert (waits.outcome, arrived.outcome) == (ON_ITS_WAY, DELIVERED)
    assert len(a.watcher.over) == 2


# -- several stacks


def two() -> tuple[Watched, Net, Tracer]:
    a = Watched(Watcher(), "a")
    net = Net(bytes(16))
    return a, net, a.journeys.join(net, "b")


def test_a_journey_goes_on_in_the_next_stack() -> None:
    a, net, tracer = two()
    packet = a.build()
    journey = followed(packet)
    journey.step(FIRST)
    net.now = 20 * MSEC
    arrived = Packet(HEADER + b"muffin")
    assert journey.enter(net.tracer)
    arrived.journey = journey
    tracer.received(arrived)
    assert arrived.journey is journey
    assert tracer.current is journey
    journey.step(SECOND)
    tracer.delivered(journey)
    tracer.forget()
    assert [(step.host, step.now) for step in journey.steps] == [("a", 0), ("b", 20 * MSEC)]
    assert (journey.host, journey.ended) == ("a", 20 * MSEC)
    assert a.watcher.over == [journey]
    assert a.net.timers.armed == net.timers.armed == 0


def test_its_idle_time_is_watched_where_it_is() -> None:
    a, net, tracer = two()
    journey = followed(a.build())
    net.now = 900 * MSEC
    journey.enter(tracer)
    a.net.now = NSEC_PER_SEC
    a.net.timers.run(a.net.now)
    assert a.watcher.over == []
    net.now = 1900 * MSEC
    net.timers.run(net.now)
    assert a.watcher.over == [journey]


def test_a_stack_that_nobody_traces_ends_it() -> None:
    a = Watched(Watcher())
    first, second = followed(a.build()), followed(a.build())
    assert not first.enter(None)
    other = Watched(Watcher())
    assert not second.enter(other.tracer), "traced, but for others"
    assert [journey.outcome for journey in a.watcher.over] == [SENT, SENT]


def test_what_was_given_up_on_a_long_cable_begins_anew() -> None:
    a, net, tracer = two()
    journey = followed(a.build())
    a.net.now = NSEC_PER_SEC
    a.net.timers.run(a.net.now)
    arrived = Packet(HEADER + b"muffin")
    assert journey.enter(tracer)
    arrived.journey = journey
    tracer.received(arrived)
    assert followed(arrived) is not journey
    assert not followed(arrived).outcome
    assert net.timers.armed == 1
