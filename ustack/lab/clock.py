"""Lab: stacks and cables on one virtual clock. It runs as fast as it can, and the same way every time.

Time goes from deadline to deadline, and at each instant only those have their turn who have something to do, in the
order in which they were added: a thousand idle hosts cost nothing but their memory. Who is woken by somebody before it
in that order has its turn in the same round, who is woken by somebody after it in the next round of the same instant.

A heap knows who is next. A member that cannot tell when others give it something to do (Pollable.attach) is asked, and
polled, in every round; with such members every clock is set right before they act.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING, Final

from mypy_extensions import i64

from ustack.timer import NEVER, Waker

if TYPE_CHECKING:
    from collections.abc import Callable

    from ustack.device.cable import Pollable

#: Rounds at one and the same instant after which the members are held to be going round in circles.
MAX_ROUNDS: Final = 100_000
#: Entries of the heap that count no more and are not worth a sweep.
SLACK: Final = 64


class Place(Waker):
    """A member's place in the schedule."""

    def __init__(self, lab: Lab, member: Pollable, order: int) -> None:
        self.lab: Lab = lab
        self.member: Pollable = member
        self.order: int = order
        self.at: i64 = NEVER  #: the time of its entry in the heap; never later than its deadline
        self.woken: bool = False  #: to be asked for its deadline again
        self.due: bool = False  #: has its turn in this round
        self.polls: int = 0  #: turns so far
        self.tells: bool = member.attach(self)

    def wake(self) -> None:
        """What it does to itself while it is polled is seen after that."""
        if not self.woken and self.lab.polling is not self:
            self.woken = True
            self.lab.woken.append(self)


class Lab:
    """``now`` in ns; it jumps from deadline to deadline of the members."""

    def __init__(self, now: i64 = 0) -> None:
        self.now: i64 = now
        self.stopped: bool = False
        self.polling: Place | None = None  #: whose turn it is
        self.woken: list[Place] = []
        self._places: list[Place] = []
        self._scanned: list[Place] = []  # those who cannot tell
        self._heap: list[tuple[int, int]] = []  # (time, order)
        self._round: list[int] = []  # a heap as well: the order of those who still have their turn
        self.max_rounds: int = MAX_ROUNDS  #: at one instant, before that is held to be going round in circles
        self._rounds: int = 0

    def add(self, *members: Pollable) -> None:
        """Drive ``members``, in this order at each instant."""
        for member in members:
            place = Place(self, member, len(self._places))
            self._places.append(place)
            if place.tells:
                place.wake()
            else:
                self._scanned.append(place)

    def polls(self) -> list[int]:
        """How many turns every member has had so far, in the order in which they were added."""
        return [place.polls for place in self._places]

    def entries(self) -> int:
        """How long the heap is; at most a few times the number of members."""
        return len(self._heap)

    # -- the schedule

    def next_deadline(self) -> i64:
        """The earliest deadline of all (ns), NEVER if nobody waits for anything."""
        if self.woken:
            self._ask_woken()
        if self._round:
            return self.now  # somebody's turn has ended in an exception, and the others are still to come
        earliest: i64 = NEVER
        for place in self._scanned:
            deadline = place.member.next_deadline()
            if deadline < earliest:
                earliest = deadline
        first = self._first()
        return first if first < earliest else earliest

    def _first(self) -> i64:
        """The deadline of whoever is first in the heap, once everybody there has said that it has not moved later."""
        while self._heap:
            when, order = self._heap[0]
            place = self._places[order]
            if place.at == when:
                deadline = place.member.next_deadline()
                if deadline <= when:
                    return deadline
                place.at = NEVER
                heappop(self._heap)
                self._arrange(place, deadline)
            else:
                heappop(self._heap)
        return NEVER

    def _arrange(self, place: Place, deadline: i64) -> None:
        """An entry that is too early is moved when it comes up; one that is too late counts no more."""
        if deadline < place.at:
            place.at = deadline
            heappush(self._heap, (deadline, place.order))
            if len(self._heap) > 2 * len(self._places) + SLACK:
                self._tidy()

    def _tidy(self) -> None:
        entries: list[tuple[int, int]] = [(place.at, place.order) for place in self._places if place.at != NEVER]
        heapify(entries)
        self._heap = entries

    def _ask_woken(self) -> None:
        """Between two rounds."""
        woken = self.woken
        self.woken = []
        for place in woken:
            place.woken = False
            self._arrange(place, place.member.next_deadline())

    # -- one round

    def step(self) -> bool:
        """Go on to the earliest deadline and poll once whoever is due; False, and nothing done, if there is none.

        RuntimeError if the members keep each other busy without time going on.
        """
        if not self._step():
            return False
        self.catch_up()
        return True

    def catch_up(self) -> None:
        """Set everybody's clock: what is asked of a member from outside must find it right."""
        for place in self._places:
            place.member.catch_up(self.now)

    def _step(self) -> bool:
        """A step after which only those who had their turn know what time it is."""
        deadline = self.next_deadline()
        if deadline == NEVER:
            return False
        self._rounds = 0 if deadline > self.now else self._rounds + 1
        if self._rounds > self.max_rounds:
            raise RuntimeError(f"no progress at {self.now} ns")
        if deadline > self.now:
            self.now = deadline
        self._gather()
        while self._round:
            self._turn(self._places[heappop(self._round)])
        return True

    def _gather(self) -> None:
        """Everybody who is due, and all who cannot tell, have their turn in this round."""
        if self._scanned:
            self.catch_up()
            for place in self._scanned:
                self._due(place)
        while self._heap and self._heap[0][0] <= self.now:
            when, order = heappop(self._heap)
            place = self._places[order]
            if place.at == when:
                place.at = NEVER
                self._due_or_later(place, -1)

    def _turn(self, place: Place) -> None:
        place.due = False
        place.polls += 1
        self.polling = place
        try:
            place.member.poll(self.now)
        except BaseException:
            self.polling = None
            place.wake()
            raise
        self.polling = None
        if place.tells:
            self._arrange(place, place.member.next_deadline())
        if self.woken:
            woken = self.woken
            self.woken = []
            for other in woken:
                other.woken = False
                self._due_or_later(other, place.order)

    def _due_or_later(self, place: Place, order: int) -> None:
        """Who is due and comes after ``order``, whose turn it was, joins the round; others wait for their time."""
        deadline = place.member.next_deadline()
        if deadline <= self.now and place.order > order:
            self._due(place)
        else:
            self._arrange(place, deadline)

    def _due(self, place: Place) -> None:
        if not place.due:
            place.due = True
            heappush(self._round, place.order)

    # -- many rounds

    def run_until(self, when: i64) -> None:
        """Do everything that is due up to and including ``when`` (ns), and stop the clock there, or where ``stop`` was
        called."""
        self.stopped = False
        while self.next_deadline() <= when:
            self._step()
            if self.stopped:
                break
        later = when > self.now and not self.stopped
        if later:
            self.now = when
        self.catch_up()
        if later:
            for place in self._scanned:  # there is nothing due, but they may want to see the time
                place.member.poll(when)

    def stop(self) -> None:
        """Have ``run_until`` return after this round; for members."""
        self.stopped = True

    def run_until_true(self, predicate: Callable[[], bool], timeout: i64) -> bool:
        """Go on until ``predicate`` holds; False if it does not within ``timeout`` ns, or if nothing is left to do."""
        end = self.now + timeout
        while not predicate():
            if self.next_deadline() > end or not self.step():
                return predicate()
        return True
