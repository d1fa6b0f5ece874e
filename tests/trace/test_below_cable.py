"""The steps of frames on a cable: sent, lost, doubled, spoilt, late, cut, and missed at the other end."""

from __future__ import annotations

from tests.harness import MSEC, SEC, A, B, Pair, connection, readable, udp
from tests.trace.below import names
from tests.trace.watch import Watch, decision, step
from ustack.device.cable import Impairments
from ustack.device.e1000 import E1000, NO_OFFLOAD
from ustack.device.ring import RING_MIN
from ustack.trace.journey import DELIVERED, DROPPED, SENT, Journey
from ustack.trace.points import Point

CABLE = ["VETH_XMIT", "NETEM_ENQUEUE", "TFIFO_ENQUEUE", "NETEM_DEQUEUE"]


def sent(pair: Pair, watch: Watch, data: bytes = b"muffin") -> None:
    """One datagram from a to b, read there if it arrives."""
    server = udp(pair.b, B, 7)
    udp(pair.a, A, 5000).sendto(data, (B, 7))
    pair.run(100 * MSEC)
    while readable(server):
        server.recv(2000)
    watch.end()


def decision_of_cable(journey: Journey) -> str:
    """What chance did to it on its first cable; nothing to what began behind one."""
    told = [each.decision for each in journey.steps if each.point is Point.NETEM_ENQUEUE]
    return told[0] if told else ""


def wire(names_: list[str]) -> list[str]:
    """From the cable on."""
    return names_[names_.index("VETH_XMIT") :]


def test_across_and_on_in_the_other_stack() -> None:
    with Pair(resolved=True, there=Impairments(delay=5 * MSEC)) as pair, Watch(a=pair.a, b=pair.b) as watch:
        began = pair.now
        sent(pair, watch)
        journey = watch.one("UDP")
        assert journey.outcome == DELIVERED
        assert wire(names(journey))[:7] == [*CABLE, "E1000_CLEAN_RX_IRQ", "NETIF_RECEIVE_SKB", "IP_RCV"]
        assert step(journey, Point.VETH_XMIT).facts == {"length": 48, "checksum": "left as it is"}
        assert step(journey, Point.TFIFO_ENQUEUE).facts == {"arrives_in_us": 5000, "delay_us": 5000}
        assert int(step(journey, Point.TFIFO_ENQUEUE).now) == began
        assert int(step(journey, Point.NETEM_DEQUEUE).now) == began + 5 * MSEC
        assert int(step(journey, Point.E1000_CLEAN_RX_IRQ).now) == began + 5 * MSEC
        hosts = {each.host for each in journey.steps[: names(journey).index("E1000_CLEAN_RX_IRQ")]}
        assert hosts == {"a"} and step(journey, Point.E1000_CLEAN_RX_IRQ).host == "b"
        facts = step(journey, Point.E1000_CLEAN_RX_IRQ).facts
        assert (facts["checksum"], facts["status"]) == ("PARTIAL", "DD|EOP")


def test_a_checksum_is_completed_for_who_cannot() -> None:
    with Pair(resolved=True) as pair, Watch(a=pair.a, b=pair.b) as watch:
        assert isinstance(pair.dev_b, E1000)
        pair.dev_b.set_features(NO_OFFLOAD)
        sent(pair, watch)
        journey = watch.one("UDP")
        assert step(journey, Point.VETH_XMIT).facts["checksum"] == "completed"
        assert step(journey, Point.E1000_CLEAN_RX_IRQ).facts["checksum"] == "NONE"


def test_a_slow_cable_keeps_a_journey_open() -> None:
    """Longer on its way than a journey may stand still otherwise."""
    with Pair(resolved=True) as pair, Watch(a=pair.a, b=pair.b) as watch:
        pair.cable.there.impairments = Impairments(delay=20 * SEC)
        server = udp(pair.b, B, 7)
        udp(pair.a, A, 5000).sendto(b"muffin", (B, 7))
        pair.run(19 * SEC)
        assert watch.done == []
        pair.run(SEC)
        assert readable(server) and watch.done == []
        server.recv(10)
        watch.end()
        assert watch.one("UDP").outcome == DELIVERED


def test_lost() -> None:
    with Pair(resolved=True) as pair, Watch(a=pair.a, b=pair.b) as watch:
        pair.cable.there.impairments = Impairments(loss=1.0)
        sent(pair, watch)
        journey = watch.one("UDP")
        assert (journey.outcome, journey.reason) == (DROPPED, "CABLE_LOST")
        assert wire(names(journey)) == CABLE[:2] and decision(journey, Point.NETEM_ENQUEUE) == "lost"
        assert pair.cable.there.stats.lost == 1


def test_unplugged() -> None:
    with Pair(resolved=True) as pair, Watch(a=pair.a, b=pair.b) as watch:
        pair.cable.plugged = False  # and nobody has told the devices
        sent(pair, watch)
        assert decision(watch.one("UDP"), Point.NETEM_ENQUEUE) == "lost: the cable is unplugged"


def test_duplicated() -> None:
    with Pair(resolved=True) as pair, Watch(a=pair.a, b=pair.b) as watch:
        pair.cable.there.impairments = Impairments(duplicate=1.0)
        sent(pair, watch)
        first, copy = watch.all("UDP")
        assert (first.outcome, copy.outcome) == (DELIVERED, DELIVERED)
        assert decision(first, Point.NETEM_ENQUEUE) == "duplicated"
        assert copy.parent == first.ident
        assert names(copy)[:3] == ["TFIFO_ENQUEUE", "NETEM_DEQUEUE", "E1000_CLEAN_RX_IRQ"]
        slots = [step(each, Point.E1000_CLEAN_RX_IRQ).facts["slot"] for each in (first, copy)]
        assert int(slots[1]) == (int(slots[0]) + 1) % 256


def test_duplicated_and_one_of_the_two_lost() -> None:
    with Pair(resolved=True) as pair, Watch(a=pair.a, b=pair.b) as watch:
        pair.cable.there.impairments = Impairments(duplicate=1.0, loss=1.0)
        sent(pair, watch)
        journey = watch.one("UDP")
        assert journey.outcome == DELIVERED
        assert decision(journey, Point.NETEM_ENQUEUE) == "duplicated, and one of the two lost"


def test_corrupted() -> None:
    with Pair(seed=3, resolved=True) as pair, Watch(a=pair.a, b=pair.b) as watch:
        pair.cable.there.impairments = Impairments(corrupt=1.0)
        sent(pair, watch, bytes(1400))
        journey = watch.done[0]
        where = step(journey, Point.NETEM_CORRUPT)
        assert where.decision == "corrupted" and 0 <= int(where.facts["byte"]) < 1442
        assert names(journey)[names(journey).index("NETEM_CORRUPT") + 1] == "TFIFO_ENQUEUE"
        assert journey.outcome == DROPPED and journey.reason == "UDP_CSUM"


def test_reordered() -> None:
    with Pair(resolved=True) as pair, Watch(a=pair.a, b=pair.b) as watch:
        pair.cable.there.impairments = Impairments(reorder=1.0, reorder_delay=3 * MSEC)
        sent(pair, watch)
        late = step(watch.one("UDP"), Point.TFIFO_ENQUEUE)
        assert (late.decision, late.facts["arrives_in_us"]) == ("reordered", 3000)


def test_the_bottleneck() -> None:
    with Pair(resolved=True) as pair, Watch(a=pair.a, b=pair.b) as watch:
        pair.cable.there.impairments = Impairments(rate=8_000_000, limit=2000)
        sock = udp(pair.a, A, 5000)
        udp(pair.b, B, 7)
        for _ in range(3):
            sock.sendto(bytes(958), (B, 7))  # 1000 bytes with their headers, one a millisecond
        pair.run(10 * MSEC)
        watch.end()
        first, second, third = watch.all("UDP")
        assert step(first, Point.TFIFO_ENQUEUE).facts["arrives_in_us"] == 1000
        assert step(second, Point.TFIFO_ENQUEUE).facts["arrives_in_us"] == 2000
        assert (third.outcome, third.reason) == (DROPPED, "CABLE_OVERLIMITS")
        full = step(third, Point.NETEM_OVERLIMITS)
        assert full.facts == {"backlog": 2000, "limit": 2000}
        assert pair.cable.there.stats.overlimits == 1


def test_missed() -> None:
    """Without flow control what finds the ring full is gone."""
    with Pair(resolved=True, ring=RING_MIN, flow_control=False) as pair, Watch(a=pair.a, b=pair.b) as watch:
        pair.cable.there.impairments = Impairments(delay=MSEC)
        sock = udp(pair.a, A, 5000)
        udp(pair.b, B, 7)
        for _ in range(3 * RING_MIN):
            sock.sendto(b"muffin", (B, 7))
        pair.run(100 * MSEC)
        missed = [journey for journey in watch.done if journey.reason == "RX_MISSED"]
        assert len(missed) == pair.cable.there.stats.missed > 0
        assert names(missed[0])[-2:] == ["NETEM_DEQUEUE", "E1000_RX_MISSED"]
        assert decision(missed[0], Point.E1000_RX_MISSED) == "missed: no descriptor is free"


def test_a_super_segment_on_a_plain_cable() -> None:
    with Pair(resolved=True, super_segments=False) as pair:
        client, server = connection(pair)
        pair.run(SEC)
        with Watch(a=pair.a, b=pair.b) as watch:
            client.send(bytes(4000))
            pair.run(SEC)
            server.recv(5000)
            whole = watch.by(Point.SKB_GSO_SEGMENT)
            assert step(whole, Point.VETH_XMIT).facts["gso_size"] == 1448
            assert wire(names(whole)) == ["VETH_XMIT", "SKB_GSO_SEGMENT"] and whole.outcome == SENT
            parts = [journey for journey in watch.all() if journey.parent == whole.ident]
            assert len(parts) == 3
            assert all(names(part)[:4] == ["TCP_GSO_SEGMENT", *CABLE[1:]] for part in parts)


def test_the_same_fate_with_and_without_a_trace() -> None:
    """A trace draws no number of its own: every frame arrives as it does without."""
    ends = []
    for watched in (False, True):
        bad = Impairments(delay=MSEC, jitter=MSEC, loss=0.2, duplicate=0.2, reorder=0.2, corrupt=0.2, rate=10_000_000)
        with Pair(seed=5, resolved=True, there=bad) as pair:
            watch = Watch(a=pair.a, b=pair.b) if watched else None
            stats = pair.cable.there.stats
            before = (stats.lost, stats.corrupted)
            sock = udp(pair.a, A, 5000)
            server = udp(pair.b, B, 7)
            for number in range(50):
                sock.sendto(bytes((number,)) * 100, (B, 7))
                pair.run(MSEC)
            pair.run(SEC)
            got = []
            while readable(server):
                got.append(server.recv(200))
            ends.append((got, stats.lost, stats.duplicated, stats.corrupted, stats.reordered, pair.b.net.drops))
            if watch is not None:
                watch.end()
                lost = [each for each in watch.done if each.reason == "CABLE_LOST"]
                saved = [each for each in watch.done if "of the two" in decision_of_cable(each)]
                assert len(lost) + len(saved) == stats.lost - before[0]
                assert (
                    len([each for each in watch.done if "NETEM_CORRUPT" in names(each)]) == stats.corrupted - before[1]
                )
    assert ends[0] == ends[1]
