"""Two NICs, one cable, virtual time: everything a bad path does, counted, and the same for the same seed."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.inet import IP, TCP
from scapy.layers.l2 import Ether

from tests.device.support import OURS, THEIRS, Bench, frame, numbered, pieces, super_segment
from ustack.device.cable import Cable, Impairments, Lane
from ustack.device.e1000 import E1000_FEATURES, NO_OFFLOAD
from ustack.packet import CHECKSUM_NONE, CHECKSUM_PARTIAL, SKB_GSO_TCPV4, Packet
from ustack.timer import NEVER, NSEC_PER_MSEC, NSEC_PER_SEC, NSEC_PER_USEC

TCP_HEADERS = bytes(
    Ether(dst="02:00:00:00:00:02", src="02:00:00:00:00:01") / IP(src="192.0.2.1", dst="192.0.2.2") / TCP(flags="PA")
)


class Pair:
    """``a`` sends, ``b`` receives."""

    def __init__(
        self,
        there: Impairments | None = None,
        seed: int = 1,
        features: int = E1000_FEATURES,
        flow_control: bool = True,
        super_segments: bool = True,
    ) -> None:
        self.a = Bench()
        self.b = Bench(features, mac=THEIRS)
        self.cable = Cable(
            self.a.nic, self.b.nic, seed, there, flow_control=flow_control, super_segments=super_segments
        )
        self.now = 0

    @property
    def lane(self) -> Lane:
        return self.cable.there

    def send(self, *frames: bytes) -> None:
        for data in frames:
            assert self.a.send(data)

    def settle(self, horizon: int = NEVER) -> None:
        """Everything until nothing is on the way or the next thing happens after ``horizon``."""
        while (deadline := self.next_deadline()) != NEVER and deadline <= horizon:
            self.now = max(self.now, deadline)
            self.cable.run(self.now)
            self.a.run()
            self.b.run()

    def next_deadline(self) -> int:
        """What a stack adds to the cable's: a device that asks to be polled is due at once."""
        busy = self.a.devices.pending() or self.b.devices.pending()
        return 0 if busy else self.cable.next_deadline()

    def conserved(self) -> bool:
        s = self.lane.stats
        wire = s.sent + s.duplicated == s.delivered + s.lost + s.overlimits + s.missed + self.lane.in_flight
        return wire and s.delivered == self.b.net.mib.path.received and self.a.conserved() and self.b.conserved()

    def received(self) -> list[bytes]:
        return self.b.sink.frames()


def to_them(*numbers: int) -> list[bytes]:
    return [frame(n.to_bytes(4, "big") + bytes(42), THEIRS, OURS) for n in numbers]


def checksums_hold(data: bytes) -> bool:
    """RFC 1071: correct data, checksum included, sums to all ones; a multiple of 65535."""
    length = len(data) - 34
    transport = data[26:34] + bytes((0, data[23])) + length.to_bytes(2, "big") + data[34:] + bytes(length & 1)
    return int.from_bytes(data[14:34]) % 0xFFFF == 0 == int.from_bytes(transport) % 0xFFFF


def tcp_packet(payload: bytes, gso_size: int = 0) -> Packet:
    """A TCP packet whose checksum field holds the pseudo-header's sum, as the stack sends it."""
    length = 20 + len(payload)
    pseudo = 0xC000 + 0x0201 + 0xC000 + 0x0202 + 6 + length
    pseudo = (pseudo & 0xFFFF) + (pseudo >> 16)
    ip = IP(src="192.0.2.1", dst="192.0.2.2", len=20 + length, proto=6)
    head = TCP_HEADERS[:14] + bytes(ip)[:20] + TCP_HEADERS[34:50] + pseudo.to_bytes(2, "big") + TCP_HEADERS[52:]
    packet = super_segment(head, pieces(payload), gso_size)
    packet.gso_type = SKB_GSO_TCPV4 if gso_size else 0
    return packet


# -- a good cable


def test_an_ideal_cable_delivers_at_once_in_order_both_ways() -> None:
    pair = Pair()
    assert pair.cable.next_deadline() == NEVER
    frames = to_them(*range(10))
    pair.send(*frames)
    back = [frame(n.to_bytes(4, "big"), OURS, THEIRS) for n in range(5)]
    for data in back:
        pair.b.send(data)
    assert pair.cable.next_deadline() == 0
    pair.settle()
    assert pair.received() == frames and pair.a.sink.frames() == back and pair.now == 0
    assert pair.conserved() and pair.cable.next_deadline() == NEVER and pair.cable.back.stats.delivered == 5


def test_delay_is_exact() -> None:
    pair = Pair(Impairments(delay=20 * NSEC_PER_MSEC))
    pair.send(*to_them(1))
    pair.cable.run(5)
    due = 5 + 20 * NSEC_PER_MSEC
    assert pair.cable.next_deadline() == due and pair.lane.in_flight == 1
    pair.cable.run(due - 1)
    assert not pair.b.devices.pending()
    pair.cable.run(due)
    assert pair.b.devices.pending()
    pair.b.run()
    assert pair.received() == to_them(1) and pair.conserved()


def test_jitter_stays_within_its_bounds_and_reorders() -> None:
    pair = Pair(Impairments(delay=1000, jitter=400))
    pair.send(*to_them(*range(100)))
    pair.cable.run(0)
    arrivals: list[int] = []
    while pair.lane.in_flight:
        deadline = pair.cable.next_deadline()
        arrivals.append(deadline)
        pair.settle(deadline)
    assert min(arrivals) >= 600 and max(arrivals) <= 1400 and max(arrivals) - min(arrivals) > 400
    assert sorted(pair.received()) == to_them(*range(100)) != pair.received() and pair.conserved()


def test_rate_spaces_the_frames_and_the_delay_comes_on_top() -> None:
    """1000 bytes at 8 Mbit/s take one millisecond."""
    pair = Pair(Impairments(rate=8_000_000, delay=NSEC_PER_MSEC))
    pair.send(*[frame(bytes(986), THEIRS, OURS)] * 3)
    seen = []
    pair.cable.run(0)
    while pair.lane.in_flight:
        seen.append(pair.cable.next_deadline())
        pair.settle(seen[-1])
    assert seen == [2 * NSEC_PER_MSEC, 3 * NSEC_PER_MSEC, 4 * NSEC_PER_MSEC] and pair.conserved()


def test_the_transmitter_is_free_again_when_its_queue_has_drained() -> None:
    pair = Pair(Impairments(rate=8_000_000))
    pair.send(frame(bytes(986), THEIRS, OURS))
    pair.settle()
    pair.now = 10 * NSEC_PER_MSEC
    pair.cable.run(pair.now)
    pair.send(frame(bytes(986), THEIRS, OURS))
    pair.cable.run(pair.now)
    assert pair.cable.next_deadline() == 11 * NSEC_PER_MSEC


def test_the_queue_before_the_rate_is_bounded() -> None:
    pair = Pair(Impairments(rate=8_000_000, limit=5000))
    pair.send(*[frame(bytes(986), THEIRS, OURS)] * 8)
    pair.settle()
    assert pair.lane.stats.overlimits == 3 and len(pair.received()) == 5 and pair.conserved()


def test_the_backlog_is_what_waits_before_the_rate() -> None:
    """Four frames of 1000 bytes at 8 Mbit/s, 1000 bytes a millisecond; what has left is on its way, not waiting."""
    pair = Pair(Impairments(rate=8_000_000, delay=5 * NSEC_PER_MSEC))
    assert pair.lane.backlog(0) == 0
    pair.send(*[frame(bytes(986), THEIRS, OURS)] * 4)
    pair.cable.run(0)
    halves = range(0, 10)
    waiting = [pair.lane.backlog(half * NSEC_PER_MSEC // 2) for half in halves]
    assert waiting == [4000, 3500, 3000, 2500, 2000, 1500, 1000, 500, 0, 0]
    assert pair.lane.in_flight == 4 and pair.cable.back.backlog(0) == 0
    pair.settle()
    assert pair.conserved()


# -- a bad one


@pytest.mark.parametrize("what", ["loss", "duplicate", "reorder", "corrupt"])
@pytest.mark.parametrize("probability", [0.0, 0.1, 1.0])
def test_each_impairment_happens_as_often_as_it_should_and_no_other_does(what: str, probability: float) -> None:
    pair = Pair(Impairments(**{what: probability}))  # type: ignore[arg-type]
    for n in range(0, 2000, 100):
        pair.send(*to_them(*range(n, n + 100)))
        pair.settle()
    stats = pair.lane.stats
    names = {"loss": "lost", "duplicate": "duplicated", "reorder": "reordered", "corrupt": "corrupted"}
    count = int(getattr(stats, names[what]))
    assert count == 2000 * probability if probability in (0.0, 1.0) else 140 < count < 260
    assert all(getattr(stats, other) == 0 for other in names.values() if other != names[what])
    assert stats.sent == 2000 and stats.overlimits == stats.missed == 0 and pair.conserved()


def test_lost_frames_are_gone_and_the_others_in_order() -> None:
    pair = Pair(Impairments(loss=0.5))
    pair.send(*to_them(*range(200)))
    pair.settle()
    received = pair.received()
    assert received == sorted(received) and set(received) < set(to_them(*range(200)))
    assert len(received) == 200 - pair.lane.stats.lost


def test_a_duplicate_arrives_twice() -> None:
    pair = Pair(Impairments(duplicate=1.0))
    pair.send(*to_them(1, 2))
    pair.settle()
    assert pair.received() == to_them(1, 1, 2, 2) and pair.conserved()


def test_a_reordered_frame_arrives_after_its_successors() -> None:
    pair = Pair(Impairments(reorder=0.3, reorder_delay=NSEC_PER_USEC))
    pair.send(*to_them(*range(50)))
    pair.settle()
    late = pair.lane.stats.reordered
    assert 0 < late < 50 and sorted(pair.received()) == to_them(*range(50)) and pair.now == NSEC_PER_USEC
    assert pair.received()[: 50 - late] == sorted(pair.received()[: 50 - late])


def test_a_corrupted_frame_differs_in_one_bit_and_nobody_vouches_for_it() -> None:
    pair = Pair(Impairments(corrupt=1.0))
    sent = to_them(*range(100))
    pair.send(*sent)
    seen: list[bytes] = []
    pair.cable.run(0)
    for descriptor in pair.b.nic.rx.descriptors[:100]:
        seen.append(descriptor.buffer)
        assert descriptor.ip_summed == CHECKSUM_NONE
    flipped = [int.from_bytes(a) ^ int.from_bytes(b) for a, b in zip(sent, seen, strict=True)]
    assert all(bits.bit_count() == 1 for bits in flipped) and len(set(flipped)) > 50


def test_a_partial_checksum_is_completed_before_the_bit_is_flipped() -> None:
    """Or the receiver would complete it over the damage, or believe it: the flip must show."""
    pair = Pair(Impairments(corrupt=1.0))
    for _ in range(50):
        packet = tcp_packet(b"payload of some length")
        packet.dev = pair.a.dev
        assert pair.a.devices.dev_queue_xmit(packet)
    pair.cable.run(0)
    for descriptor in pair.b.nic.rx.descriptors[:50]:
        assert descriptor.ip_summed == CHECKSUM_NONE
        if descriptor.buffer[:14] == TCP_HEADERS[:14]:  # Ethernet's own checksum never reaches a driver
            assert not checksums_hold(descriptor.buffer)


def test_the_same_seed_gives_the_same_arrivals_and_another_one_others() -> None:
    def arrivals(seed: int) -> tuple[list[bytes], int]:
        bad = Impairments(1000, 900, 0.2, 0.1, 0.2, 0.1, 1_000_000_000)
        pair = Pair(bad, seed)
        for n in range(5):
            pair.send(*to_them(*range(n * 20, n * 20 + 20)))
            pair.settle(pair.now + 500)
        pair.settle()
        assert pair.lane.stats.delivered + pair.lane.stats.lost == 100 + pair.lane.stats.duplicated
        return pair.received(), pair.now

    assert arrivals(7) == arrivals(7) != arrivals(8)
    assert arrivals(-1) == arrivals(-1)


def test_traffic_one_way_does_not_change_what_happens_the_other_way() -> None:
    def outcome(noise: int) -> list[bytes]:
        pair = Pair(Impairments(loss=0.5))
        for _ in range(noise):
            pair.b.send(frame(b"noise", OURS, THEIRS))
        pair.send(*to_them(*range(50)))
        pair.settle()
        return pair.received()

    assert outcome(0) == outcome(30)


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    loss=st.floats(0, 1),
    duplicate=st.floats(0, 1),
    reorder=st.floats(0, 1),
    corrupt=st.floats(0, 1),
    rate=st.sampled_from([0, 1_000_000, 10_000_000_000]),
    limit=st.integers(0, 5000),
    jitter=st.integers(0, 5000),
    flow_control=st.booleans(),
    count=st.integers(0, 400),
)
def test_no_mixture_loses_a_frame_from_the_books(
    seed: int,
    loss: float,
    duplicate: float,
    reorder: float,
    corrupt: float,
    rate: int,
    limit: int,
    jitter: int,
    flow_control: bool,
    count: int,
) -> None:
    bad = Impairments(100, jitter, loss, duplicate, reorder, corrupt, rate, limit)
    pair = Pair(bad, seed, flow_control=flow_control)
    pair.send(*to_them(*range(count)))
    pair.cable.run(0)
    assert pair.lane.in_flight == 0 or pair.cable.next_deadline() < NEVER
    pair.settle()
    assert pair.lane.in_flight == 0 and pair.lane.stats.sent == count and pair.conserved()


@pytest.mark.parametrize(
    "arguments",
    [
        {"loss": -0.1},
        {"loss": 1.1},
        {"duplicate": 2.0},
        {"reorder": float("nan")},
        {"corrupt": -1.0},
        {"delay": -1},
        {"jitter": NSEC_PER_SEC + 1},
        {"rate": -5},
        {"limit": -1},
        {"reorder_delay": -1},
    ],
)
def test_impossible_impairments_are_refused(arguments: dict[str, float]) -> None:
    with pytest.raises(ValueError):
        Impairments(**arguments)  # type: ignore[arg-type]


# -- rings that fill


def test_flow_control_holds_frames_back_until_there_is_room() -> None:
    pair = Pair(Impairments(delay=10))
    for n in range(0, 400, 100):
        pair.send(*to_them(*range(n, n + 100)))
        pair.cable.run(0)
    pair.cable.run(10)
    assert pair.b.nic.rx_room() == 0 and pair.lane.in_flight == 144
    pair.send(*to_them(400))
    pair.cable.run(10)
    assert pair.lane.in_flight == 144, "a sender that is asked to pause keeps its frames"
    pair.b.run()
    pair.settle()
    assert pair.received() == to_them(*range(401)) and pair.lane.stats.missed == 0 and pair.conserved()
    assert pair.b.dev.stats.rx_missed_errors == 0


def test_without_flow_control_a_full_ring_misses_frames_and_both_sides_count_them() -> None:
    pair = Pair(Impairments(delay=10), flow_control=False)
    for n in range(0, 400, 100):
        pair.send(*to_them(*range(n, n + 100)))
        pair.cable.run(0)
    pair.settle()
    assert pair.received() == to_them(*range(256))
    assert pair.lane.stats.missed == 144 == pair.b.dev.stats.rx_missed_errors and pair.conserved()


def test_a_receiver_that_is_down_misses_everything() -> None:
    pair = Pair()
    pair.b.devices.dev_close(pair.b.dev)
    pair.send(*to_them(1, 2))
    pair.settle()
    assert pair.lane.stats.missed == 2 and pair.received() == [] and pair.conserved()


def test_pulling_the_plug_stops_both_ends_and_what_is_on_the_way_arrives() -> None:
    pair = Pair(Impairments(delay=100))
    pair.send(*to_them(1))
    pair.cable.run(0)
    pair.cable.plug(False)
    assert not pair.a.send(to_them(2)[0]) and not pair.b.send(frame(b"", OURS, THEIRS))
    pair.settle()
    assert pair.received() == to_them(1)
    pair.cable.plug(True)
    pair.send(*to_them(3))
    pair.settle()
    assert pair.received() == to_them(1, 3) and pair.conserved()


def test_frames_in_the_ring_when_the_plug_is_pulled_are_lost() -> None:
    pair = Pair()
    pair.send(*to_them(1, 2))
    pair.cable.plug(False)
    pair.settle()
    assert pair.received() == [] and pair.lane.stats.lost == 2 and pair.conserved()


def test_a_burst_beyond_the_senders_ring_waits_in_its_queue() -> None:
    pair = Pair()
    pair.send(*to_them(*range(1000)))
    assert pair.a.dev.queue.qlen == 744
    pair.settle()
    assert pair.received() == to_them(*range(1000)) and pair.a.dev.queue.qlen == 0 and pair.conserved()


# -- offloads


def send_tcp(pair: Pair, payload: bytes, gso_size: int) -> list[Packet]:
    packet = tcp_packet(payload, gso_size)
    packet.dev = pair.a.dev
    assert pair.a.devices.dev_queue_xmit(packet)
    pair.settle()
    assert pair.conserved()
    return pair.b.sink.packets


def test_a_super_segment_crosses_as_one_frame_between_nics_that_can() -> None:
    pair = Pair()
    (packet,) = send_tcp(pair, bytes(40_000), 1460)
    assert (packet.gso_size, packet.gso_type, packet.end) == (1460, SKB_GSO_TCPV4, 54 + 40_000)
    assert (packet.ip_summed, packet.csum_start, packet.csum_offset) == (CHECKSUM_PARTIAL, 34, 16)
    assert pair.lane.stats.sent == 1


def test_a_receiver_without_offload_sees_the_frames_of_a_real_wire() -> None:
    pair = Pair(features=NO_OFFLOAD)
    payload = bytes(range(250)) * 20
    packets = send_tcp(pair, payload, 1460)
    assert b"".join(packet.buf[54:] for packet in packets) == payload and len(packets) == 4
    assert all(checksums_hold(packet.buf) for packet in packets)
    assert {(packet.ip_summed, packet.gso_size) for packet in packets} == {(CHECKSUM_NONE, 0)}
    assert pair.lane.stats.sent == 4


def test_a_lab_may_want_every_frame_to_have_a_fate_of_its_own() -> None:
    pair = Pair(super_segments=False)
    packets = send_tcp(pair, bytes(5000), 1460)
    assert [packet.end for packet in packets] == [1514, 1514, 1514, 54 + 5000 - 3 * 1460]
    assert {packet.ip_summed for packet in packets} == {CHECKSUM_PARTIAL}


@pytest.mark.parametrize(("features", "summed"), [(E1000_FEATURES, CHECKSUM_PARTIAL), (NO_OFFLOAD, CHECKSUM_NONE)])
def test_a_partial_checksum_is_completed_for_a_receiver_that_would_look(features: int, summed: int) -> None:
    pair = Pair(features=features)
    (packet,) = send_tcp(pair, b"payload", 0)
    assert packet.ip_summed == summed and checksums_hold(packet.buf) == (summed == CHECKSUM_NONE)


def test_a_corrupted_super_segment_has_one_checksum_that_tells() -> None:
    pair = Pair(Impairments(corrupt=1.0))
    packet = tcp_packet(bytes(30_000), 1460)
    packet.dev = pair.a.dev
    assert pair.a.devices.dev_queue_xmit(packet)
    pair.cable.run(0)
    descriptor = pair.b.nic.rx.descriptors[0]
    assert (descriptor.ip_summed, descriptor.gso_size) == (CHECKSUM_NONE, 1460)
    assert not checksums_hold(descriptor.buffer)


def test_a_super_segment_that_hardware_cannot_cut_is_lost_and_counted() -> None:
    pair = Pair(features=NO_OFFLOAD)
    packet = super_segment(frame(b"\x60" + bytes(60), THEIRS, OURS), pieces(bytes(3000)), 1000, pair.a.dev)
    assert pair.a.devices.dev_queue_xmit(packet)
    pair.settle()
    assert pair.lane.stats.lost == 1 and pair.received() == [] and pair.conserved()


def test_one_interrupt_for_all_that_arrives_together() -> None:
    pair = Pair()
    pair.send(*numbered(0), *to_them(*range(30)))
    pair.settle()
    assert pair.b.dev.stats.rx_packets == 30 and len(pair.received()) == 30
