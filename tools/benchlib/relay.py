"""A bad line between two TAPs, in real time: frames are lost, late, doubled or out of order, by a seed.

    relay.py FD FD [--delay MS] [--jitter MS] [--loss P] [--duplicate P] [--reorder P] [--reorder-delay MS]
                   [--rate MBIT] [--limit BYTES] [--seed N]

The words are those of ustack.device.cable's Impairments (tc-netem), and hold for each direction by itself. FD are
inherited descriptors that carry a frame for each read and write: TAPs, opened without offload in their own namespaces,
so that what is lost is a frame of the wire's and never a super-segment. Standard library only; one JSON object on
stdout once SIGTERM, the other end's end or its parent's end has ended it.

What happens to the frame number n of a direction depends on the seed and on n alone: two stacks that send through the
same relay meet the same fates at the same places. Only IPv4 frames are counted and harmed: what an ARP request that is
lost costs (a second) is not what is asked here.
"""

from __future__ import annotations

import argparse
import errno
import json
import os
import random
import select
import signal
import sys
import time
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

FRAME_MAX: Final = 65_550
#: Frames that one direction takes in before the other has its turn.
BATCH: Final = 64
#: Seconds between two looks at whether our parent is there, and whether it has ended us.
ALIVE: Final = 0.1
MSEC, SEC = 1_000_000, 1_000_000_000
ETHERTYPE: Final = slice(12, 14)
ETH_P_IP: Final = b"\x08\x00"
ETH_HLEN: Final = 14
#: What a TAP says when its device is down, or has no room: the frame is missed.
MISSED: Final = (errno.EIO, errno.EAGAIN, errno.ENOBUFS, errno.ENETDOWN)


class Options(argparse.Namespace):
    """The command line, typed; each as its help says."""

    fd: Sequence[int]
    delay: float
    jitter: float
    loss: float
    duplicate: float
    reorder: float
    reorder_delay: float
    rate: float
    limit: int
    seed: int


class Lane:
    """One direction. Times in ns, of the monotonic clock."""

    def __init__(self, source: int, sink: int, options: Options, number: int) -> None:
        self.source, self.sink = source, sink
        self.options = options
        self.fates = random.Random(f"{options.seed}/{number}")
        self.ended = False
        self._heap: list[tuple[int, int, bytes]] = []
        self._sequence = 0
        self._busy_until = 0
        self.delay, self.jitter = int(options.delay * MSEC), int(options.jitter * MSEC)
        self.reorder_delay = int(options.reorder_delay * MSEC)
        self.sent = self.delivered = self.lost = self.duplicated = self.reordered = 0
        self.overlimits = self.missed = self.octets = self.latest = 0

    def take(self, now: int) -> None:
        """What has come in."""
        for _ in range(BATCH):
            try:
                frame = os.read(self.source, FRAME_MAX)
            except BlockingIOError:
                return
            except OSError as reason:
                if reason.errno in MISSED:  # the device is down
                    return
                raise
            if not frame:
                self.ended = True
                return
            if frame[ETHERTYPE] == ETH_P_IP:
                self.judge(frame, now)
            else:
                self.push(frame, now + self.delay)

    def judge(self, frame: bytes, now: int) -> None:
        """netem_enqueue. Every fate is drawn for every frame, or one would move all that come after it."""
        options, draw = self.options, self.fates.random
        loss, duplicate, reorder, jitter = draw(), draw(), draw(), draw()
        self.sent += 1
        copies = 1
        if duplicate < options.duplicate:
            self.duplicated += 1
            copies += 1
        if loss < options.loss:
            self.lost += 1
            copies -= 1
        for _ in range(copies):
            due = self.departure(len(frame), now)
            if due < 0:
                self.overlimits += 1
                continue
            due += self.delay + int((2 * jitter - 1) * self.jitter)
            if reorder < options.reorder:
                self.reordered += 1
                due += self.reorder_delay
            self.push(frame, due)

    def departure(self, size: int, now: int) -> int:
        """When its last bit has left, -1 if the queue before the bottleneck has no room."""
        if not self.options.rate:
            return now
        bits = self.options.rate / 1000  # a nanosecond
        begins = max(now, self._busy_until)
        ends = begins + int(size * 8 / bits)
        if (ends - now) * bits > self.options.limit * 8:
            return -1
        self._busy_until = ends
        return ends

    def push(self, frame: bytes, due: int) -> None:
        self._sequence += 1
        heappush(self._heap, (due, self._sequence, frame))

    def give(self, now: int) -> None:
        """Deliver what is due."""
        heap = self._heap
        while heap and heap[0][0] <= now:
            due, _, frame = heappop(heap)
            counted = frame[ETHERTYPE] == ETH_P_IP
            try:
                os.write(self.sink, frame)
            except OSError as reason:
                if reason.errno not in MISSED:
                    raise
                self.missed += counted
                continue
            self.delivered += counted
            self.octets += len(frame)
            self.latest = max(self.latest, now - due)

    def next_deadline(self) -> int | None:
        return self._heap[0][0] if self._heap else None

    def stats(self) -> dict[str, int | float]:
        """Of IPv4 frames; sent + duplicated = delivered + lost + overlimits + missed + in_flight."""
        waiting = sum(frame[ETHERTYPE] == ETH_P_IP for _, _, frame in self._heap)
        names = ("sent", "delivered", "lost", "duplicated", "reordered", "overlimits", "missed", "octets")
        counted: dict[str, int | float] = {name: getattr(self, name) for name in names}
        return {**counted, "in_flight": waiting, "latest_ms": round(self.latest / MSEC, 3)}


class Relay:
    def __init__(self, options: Options) -> None:
        one, other = options.fd
        self.lanes = [Lane(one, other, options, 0), Lane(other, one, options, 1)]
        self.stopped = False
        for fd in options.fd:
            os.set_blocking(fd, False)

    def run(self) -> None:
        """Until ``stopped``, or either end, or our parent, is gone."""
        parent = os.getppid()
        by_source = {lane.source: lane for lane in self.lanes}
        while not self.stopped and os.getppid() == parent:
            ready, _, _ = select.select(by_source, [], [], self.pause())
            now = time.monotonic_ns()
            for fd in ready:
                by_source[fd].take(now)
            now = time.monotonic_ns()
            for lane in self.lanes:
                lane.give(now)
            if any(lane.ended for lane in self.lanes):
                return

    def pause(self) -> float:
        """Seconds until the next frame is due."""
        deadlines = [deadline for lane in self.lanes if (deadline := lane.next_deadline()) is not None]
        if not deadlines:
            return ALIVE
        return min(max(min(deadlines) - time.monotonic_ns(), 0) / SEC, ALIVE)

    def stop(self, *about: object) -> None:
        self.stopped = True


def probability(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 1:
        raise ValueError
    return value


def positive(text: str) -> float:
    value = float(text)
    if not value >= 0:
        raise ValueError
    return value


def parse() -> Options:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("fd", type=int, nargs=2)
    add("--delay", type=positive, default=0.0, metavar="MS", help="of each frame, one way")
    add("--jitter", type=positive, default=0.0, metavar="MS", help="more or less than that, uniform; it reorders")
    add("--loss", type=probability, default=0.0, metavar="P")
    add("--duplicate", type=probability, default=0.0, metavar="P")
    add("--reorder", type=probability, default=0.0, metavar="P", help="of a frame that is later than its turn")
    add("--reorder-delay", type=positive, default=1.0, metavar="MS", help="by so much")
    add("--rate", type=positive, default=0.0, metavar="MBIT", help="of the bottleneck, 0 for none")
    add("--limit", type=int, default=262_144, metavar="BYTES", help="of the queue before it")
    add("--seed", type=int, default=1, metavar="N")
    return parser.parse_args(namespace=Options())


def main() -> None:
    relay = Relay(parse())
    signal.signal(signal.SIGTERM, relay.stop)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for who has started us
    print("ready", file=sys.stderr, flush=True)
    try:
        relay.run()
    except OSError as reason:  # a device was deleted
        print(f"relay: {reason}", file=sys.stderr)
    print(json.dumps([lane.stats() for lane in relay.lanes]), flush=True)


if __name__ == "__main__":
    main()
