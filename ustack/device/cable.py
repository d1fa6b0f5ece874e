"""A cable between two NICs, in memory and in virtual time, that can be as bad as a real path (Linux veth with netem).

Everything it does to a frame comes from its seed: the same seed, frames and times give the same arrivals. Each
direction accounts for every frame, so that at any time

    sent + duplicated == delivered + lost + overlimits + missed + in flight
"""

from __future__ import annotations

from heapq import heappop, heappush
from typing import TYPE_CHECKING, Final

from mypy_extensions import i64, mypyc_attr

from ustack.device.gso import completed, skb_gso_segment
from ustack.device.net_device import ETH_HLEN, NETIF_F_RXCSUM, NETIF_F_TSO
from ustack.entropy import SEED_LEN, Entropy
from ustack.packet import CHECKSUM_NONE, CHECKSUM_PARTIAL, Packet
from ustack.timer import NEVER, NSEC_PER_MSEC, NSEC_PER_SEC
from ustack.trace.journey import DROPPED, PATIENCE
from ustack.trace.points import Point

if TYPE_CHECKING:
    from ustack.device.ring import NicRegisters, TxFrame
    from ustack.timer import Waker
    from ustack.trace.journey import Facts, Journey

_CERTAIN: Final = 1 << 32


@mypyc_attr(allow_interpreted_subclasses=True)
class Pollable:
    """What runs on a shared virtual clock: a stack, a cable, a script."""

    def poll(self, now: i64) -> object:
        """Do what is due at ``now`` (ns); nobody reads the answer."""
        raise NotImplementedError

    def next_deadline(self) -> i64:
        """When ``poll`` has something to do (ns), a time gone by for at once, NEVER for nothing."""
        raise NotImplementedError

    def attach(self, waker: Waker) -> bool:
        """Promise to call ``waker.wake`` whenever something but ``poll`` may have made ``next_deadline`` earlier.

        False for who cannot promise it: that one is asked, and polled, at every instant.
        """
        return False

    def catch_up(self, now: i64) -> None:
        """It is ``now``, though there is nothing to do: whoever asks something of us must find our clock right."""


class Impairments:
    """What one direction does to frames; the words and their order are those of tc-netem(8)."""

    def __init__(
        self,
        delay: i64 = 0,
        jitter: i64 = 0,
        loss: float = 0.0,
        duplicate: float = 0.0,
        reorder: float = 0.0,
        corrupt: float = 0.0,
        rate: i64 = 0,
        limit: i64 = 262_144,
        reorder_delay: i64 = NSEC_PER_MSEC,
    ) -> None:
        """``delay`` ± ``jitter`` in ns, uniform; a jitter above the frames' distance reorders them.

        ``loss``, ``duplicate``, ``reorder`` and ``corrupt`` are probabilities for each frame, 0 to 1; a reordered frame
        arrives ``reorder_delay`` ns late, a corrupted one with one bit flipped. ``rate`` in bits/s, 0 for infinite,
        with a queue of ``limit`` bytes before it. ValueError for anything out of range.
        """
        for probability in (loss, duplicate, reorder, corrupt):
            if not 0.0 <= probability <= 1.0:
                raise ValueError(f"probability {probability} is not between 0 and 1")
        if min(delay, jitter, rate, limit, reorder_delay) < 0 or jitter > NSEC_PER_SEC:
            raise ValueError("times, rate and limit are not negative, jitter is one second at most")
        self.delay: i64 = delay
        self.jitter: i64 = jitter
        self.loss: float = loss
        self.duplicate: float = duplicate
        self.reorder: float = reorder
        self.corrupt: float = corrupt
        self.rate: i64 = rate
        self.limit: i64 = limit
        self.reorder_delay: i64 = reorder_delay


class CableStats:
    """One direction, in frames."""

    sent: i64 = 0  #: put on the wire by the sender
    delivered: i64 = 0  #: taken by the receiver's ring
    lost: i64 = 0
    duplicated: i64 = 0
    reordered: i64 = 0
    corrupted: i64 = 0
    overlimits: i64 = 0  #: lost because the queue before ``rate`` was full
    missed: i64 = 0  #: arrived at a full ring, or at a device that is down


class Flight:
    """One frame on its way."""

    def __init__(self, frame: bytes, ip_summed: i64, csum_start: i64, csum_offset: i64) -> None:
        self.frame: bytes = frame
        self.ip_summed: i64 = ip_summed
        self.csum_start: i64 = csum_start
        self.csum_offset: i64 = csum_offset
        self.gso_size: i64 = 0
        self.gso_type: i64 = 0
        self.journey: Journey | None = None

    def complete(self) -> Flight:
        """The same frame with its checksum in place, as the hardware of a real NIC sends it."""
        if self.ip_summed != CHECKSUM_PARTIAL:
            return self
        frame = completed(self.frame, len(self.frame), None, self.csum_start, self.csum_offset)
        return self._with(frame)

    def flip(self, bit: i64) -> Flight:
        """A copy with bit number ``bit`` the other way round, which nobody vouches for any more."""
        frame = self.complete().frame
        at = bit >> 3
        flipped = bytes((frame[at] ^ (1 << (bit & 7)),))
        return self._with(frame[:at] + flipped + frame[at + 1 :])

    def _with(self, frame: bytes) -> Flight:
        other = Flight(frame, CHECKSUM_NONE, 0, 0)
        other.gso_size = self.gso_size
        other.gso_type = self.gso_type
        other.journey = self.journey
        return other

    def copy(self) -> Flight:
        """The same frame once more, with a journey of its own."""
        other = Flight(self.frame, self.ip_summed, self.csum_start, self.csum_offset)
        other.gso_size = self.gso_size
        other.gso_type = self.gso_type
        other.journey = None if self.journey is None else self.journey.fork()
        return other


class Lane:
    """One direction of a cable: from the transmit ring of ``sender`` to the receive ring of ``receiver``."""

    def __init__(
        self, sender: NicRegisters, receiver: NicRegisters, entropy: Entropy, impairments: Impairments, cable: Cable
    ) -> None:
        self.sender: NicRegisters = sender
        self.receiver: NicRegisters = receiver
        self.impairments: Impairments = impairments  #: may be replaced at any time
        self.stats = CableStats()
        self._cable: Cable = cable
        self._entropy: Entropy = entropy
        self._heap: list[tuple[int, int, Flight]] = []
        self._sequence: int = 0  # frames that are due at the same time arrive in the order they were sent
        self._busy_until: i64 = 0  # when the sender's transmitter is free again
        self._paused: bool = False

    @property
    def in_flight(self) -> int:
        """Frames on the way."""
        return len(self._heap)

    def backlog(self, now: i64) -> i64:
        """Bytes that wait before the bottleneck at ``now``, the frame that is leaving included; 0 without a rate."""
        if self._busy_until <= now:
            return 0
        return int(self._busy_until - now) * int(self.impairments.rate) // int(8 * NSEC_PER_SEC)

    def next_deadline(self) -> i64:
        if self.sender.doorbell:
            return self._cable.now
        return self._heap[0][0] if self._heap else NEVER

    def collect(self, now: i64) -> None:
        """Take what the sender's ring holds; nothing while the receiver asks for a pause."""
        while not self._paused:
            frame = self.sender.next_tx()
            if frame is None:
                break
            self._take(frame, now)
            self.sender.tx_done()

    def deliver(self, now: i64) -> None:
        """Put what is due into the receiver's ring, one interrupt for all of it."""
        arrived = False
        self._paused = False
        while self._heap and self._heap[0][0] <= now:
            if self._cable.flow_control and self.receiver.enabled and self.receiver.rx_room() == 0:
                self._paused = True
                break
            self._arrive(heappop(self._heap)[2])
            arrived = True
        if arrived:
            self.receiver.rx_interrupt()

    def _arrive(self, flight: Flight) -> None:
        if flight.journey is not None:
            flight.journey.step(Point.NETEM_DEQUEUE, "at the other end", None, "", self._cable.now)
        taken = self.receiver.receive_frame(
            flight.frame,
            flight.ip_summed,
            flight.csum_start,
            flight.csum_offset,
            flight.gso_size,
            flight.gso_type,
            journey=flight.journey,
        )
        if taken:
            self.stats.delivered += 1
        else:
            self.stats.missed += 1

    def _take(self, frame: TxFrame, now: i64) -> None:
        """A frame as the wire carries it: whole if the receiver understands its offloads, else what they ask for."""
        buf = b"".join(frame.pieces)
        summed: i64 = CHECKSUM_PARTIAL if frame.needs_csum else CHECKSUM_NONE
        flight = Flight(buf, summed, frame.csum_start, frame.csum_offset)
        flight.gso_size = frame.gso_size
        flight.gso_type = frame.gso_type
        flight.journey = frame.journey
        accepts = self.receiver.offloads
        if flight.journey is not None:
            facts = self._wire_facts(flight, accepts)
            flight.journey.step(Point.VETH_XMIT, "taken from the ring", facts, "", now)
        if frame.gso_size != 0 and (accepts & NETIF_F_TSO == 0 or not self._cable.super_segments):
            self._cut(flight, accepts & NETIF_F_RXCSUM != 0, now)
        elif accepts & NETIF_F_RXCSUM == 0:
            self._send(flight.complete(), now)
        else:
            self._send(flight, now)

    def _wire_facts(self, flight: Flight, accepts: i64) -> Facts:
        """How it crosses: what the receiver does not understand is done for it."""
        facts: Facts = {"length": len(flight.frame)}
        if flight.ip_summed == CHECKSUM_PARTIAL:
            facts["checksum"] = "left as it is" if accepts & NETIF_F_RXCSUM != 0 else "completed"
        if flight.gso_size != 0:
            facts["gso_size"] = flight.gso_size
        return facts

    def _cut(self, flight: Flight, partial: bool, now: i64) -> None:
        """Send a super-segment as the frames it stands for, which is what the TSO of a real NIC does."""
        whole = Packet(flight.frame)
        whole.network_header = ETH_HLEN
        whole.gso_size = flight.gso_size
        whole.gso_type = flight.gso_type
        whole.journey = flight.journey
        segments = skb_gso_segment(whole, partial)
        if len(segments) == 0:
            self.stats.sent += 1
            self.stats.lost += 1
            if flight.journey is not None:
                flight.journey.finish(DROPPED, "GSO_SEG")
        for segment in segments:
            part = Flight(segment.buf, segment.ip_summed, segment.csum_start, segment.csum_offset)
            part.journey = segment.journey
            self._send(part, now)

    def _send(self, flight: Flight, now: i64) -> None:
        """netem_enqueue: duplicate, lose, corrupt, then queue for the time of arrival."""
        self.stats.sent += 1
        doubled = self._chance(self.impairments.duplicate)
        copies = 1
        if doubled:
            self.stats.duplicated += 1
            copies += 1
        if not self._cable.plugged or self._chance(self.impairments.loss):
            self.stats.lost += 1
            copies -= 1
        if flight.journey is not None:
            self._tell_fate(flight.journey, copies, doubled, now)
        for number in range(copies):
            one = flight if number == 0 or flight.journey is None else flight.copy()
            if self._chance(self.impairments.corrupt):
                self.stats.corrupted += 1
                self._depart(self._corrupted(one, now), now)
            else:
                self._depart(one, now)

    def _tell_fate(self, journey: Journey, copies: int, doubled: bool, now: i64) -> None:
        """For a trace: what chance has done to a frame."""
        if copies == 0:
            fate = "lost" if self._cable.plugged else "lost: the cable is unplugged"
        elif doubled:
            fate = "duplicated" if copies > 1 else "duplicated, and one of the two lost"
        else:
            fate = "sent"
        journey.step(Point.NETEM_ENQUEUE, fate, None, "", now)
        if copies == 0:
            journey.finish(DROPPED, "CABLE_LOST")

    def _corrupted(self, flight: Flight, now: i64) -> Flight:
        """One bit of it the other way round."""
        bit = self._entropy.below(len(flight.frame) * 8)
        if flight.journey is not None:
            facts: Facts = {"byte": bit >> 3, "bit": bit & 7}
            flight.journey.step(Point.NETEM_CORRUPT, "corrupted", facts, "", now)
        return flight.flip(bit)

    def _depart(self, flight: Flight, now: i64) -> None:
        """Wait for the transmitter, then travel."""
        impairments = self.impairments
        due = now
        if impairments.rate != 0:
            busy: i64 = 0 if self._busy_until < now else self._busy_until - now
            rate = impairments.rate
            takes = len(flight.frame) * 8 * NSEC_PER_SEC // rate
            if busy + takes > int(impairments.limit) * 8 * NSEC_PER_SEC // rate:
                self.stats.overlimits += 1
                self._overlimit(flight.journey, now)
                return
            self._busy_until = now + busy + takes
            due = self._busy_until
        due += impairments.delay
        if impairments.jitter != 0:
            due += self._entropy.below(2 * impairments.jitter + 1) - impairments.jitter
        late = self._chance(impairments.reorder)
        if late:
            self.stats.reordered += 1
            due += impairments.reorder_delay
        self._sequence += 1
        if flight.journey is not None:
            self._tell_due(flight.journey, now, max(due, now), late)
        heappush(self._heap, (due if due > now else now, self._sequence, flight))

    def _tell_due(self, journey: Journey, now: i64, due: i64, late: bool) -> None:
        """For a trace: when a frame arrives; until then nobody need worry about it."""
        facts: Facts = {"arrives_in_us": (due - now) // 1000, "delay_us": self.impairments.delay // 1000}
        if self.impairments.rate != 0:
            facts["backlog"] = self.backlog(now)
        journey.step(Point.TFIFO_ENQUEUE, "reordered" if late else "on its way", facts, "", now)
        journey.patience = due - now + PATIENCE

    def _overlimit(self, journey: Journey | None, now: i64) -> None:
        if journey is not None:
            facts: Facts = {"backlog": self.backlog(now), "limit": self.impairments.limit}
            journey.step(Point.NETEM_OVERLIMITS, "the queue before the wire is full", facts, "", now)
            journey.finish(DROPPED, "CABLE_OVERLIMITS")

    def _chance(self, probability: float) -> bool:
        """True with that probability; no number is drawn for what never happens."""
        return probability > 0.0 and self._entropy.u32() < int(probability * _CERTAIN)


class Cable(Pollable):
    """Two lanes between two NICs."""

    def __init__(
        self,
        a: NicRegisters,
        b: NicRegisters,
        seed: int = 0,
        there: Impairments | None = None,
        back: Impairments | None = None,
        flow_control: bool = True,
        super_segments: bool = True,
    ) -> None:
        """``there`` holds for frames from ``a`` to ``b``, ``back`` for the others, like ``there`` if not given.

        With ``flow_control`` (IEEE 802.3x) the cable waits while a ring is full; without, the frame is missed. Without
        ``super_segments`` every frame has the size of the wire's, each with a fate of its own.
        """
        forth = Impairments() if there is None else there
        self.flow_control: bool = flow_control
        self.super_segments: bool = super_segments
        self.plugged: bool = True
        self.now: i64 = 0
        self.there = Lane(a, b, _entropy(seed, 0), forth, self)
        self.back = Lane(b, a, _entropy(seed, 1), forth if back is None else back, self)

    def plug(self, plugged: bool) -> None:
        """Pull the cable out or put it in again; what is on the way still arrives."""
        self.plugged = plugged
        self.there.sender.set_link(plugged)
        self.back.sender.set_link(plugged)

    def run(self, now: i64) -> None:
        """Move the frames that are due at ``now``; it never goes back."""
        self.now = now
        self.there.collect(now)
        self.back.collect(now)
        self.there.deliver(now)
        self.back.deliver(now)

    def poll(self, now: i64) -> None:
        self.run(now)

    def attach(self, waker: Waker) -> bool:
        """The doorbells of both NICs are what comes from outside."""
        self.there.sender.waker = waker
        self.back.sender.waker = waker
        return True

    def next_deadline(self) -> i64:
        """When a frame arrives or waits to be fetched (ns), NEVER if nothing is on the way."""
        return min(self.there.next_deadline(), self.back.next_deadline())


def _entropy(seed: int, lane: int) -> Entropy:
    """A source of its own for each direction, so that neither depends on the other's traffic."""
    return Entropy((seed * 2 + lane).to_bytes(SEED_LEN, "big", signed=True))
