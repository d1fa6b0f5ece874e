"""One timer queue per stack (Linux kernel/time/timer.c, reduced to a heap in virtual time).

Times are nanoseconds on the clock that the stack is polled with. A timer that is moved later, as TCP's
retransmission timer is at every ACK, costs one assignment: its old place in the heap is corrected when it comes up.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from typing import Final

from mypy_extensions import i64, mypyc_attr

NSEC_PER_USEC: Final[i64] = 1_000
NSEC_PER_MSEC: Final[i64] = 1_000_000
NSEC_PER_SEC: Final[i64] = 1_000_000_000

#: "Not armed", and the deadline of a queue with nothing in it: later than any clock (292 years).
NEVER: Final[i64] = 0x7FFF_FFFF_FFFF_FFFF

#: Places nobody holds that a small queue may have (timers, not worth a sweep).
SLACK: Final = 64


@mypyc_attr(allow_interpreted_subclasses=True)
class Waker:
    """Who drives something and must hear when it has to do something earlier than it said."""

    def wake(self) -> None:
        """There may be something to do at once, or earlier than expected: ask. Cheap, and may be called often."""
        raise NotImplementedError


@mypyc_attr(allow_interpreted_subclasses=True)
class Timer:
    """struct timer_list: subclass it and override ``fire``; arm it through the queue only."""

    def __init__(self) -> None:
        self.expires: i64 = NEVER
        self.queued_at: i64 = NEVER  # when its place in the heap comes up; never later than ``expires`` while armed
        self.place: int = 0  # the number of that place, 0 for none

    @property
    def pending(self) -> bool:
        """True while armed (timer_pending)."""
        return self.expires != NEVER

    def fire(self) -> None:
        """Called once when due, already disarmed; may arm itself again."""
        raise NotImplementedError


class TimerQueue:
    """All timers of one stack, fired in the order of their deadlines; equal ones in an order that repeats exactly."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, Timer]] = []
        self._places: int = 0  # numbers the places, so that no two are equal
        self.armed: int = 0  #: how many timers are; the places beyond them are left from deleted and moved ones
        self.waker: Waker | None = None  #: told when a timer has been armed for earlier than it was

    def mod_timer(self, timer: Timer, expires: i64) -> None:
        """Arm ``timer`` for ``expires`` (ns), or move it there (mod_timer); NEVER disarms it."""
        if expires == NEVER:
            self.del_timer(timer)
            return
        if timer.expires == NEVER:
            self.armed += 1
        timer.expires = expires
        if expires < timer.queued_at:
            self._places += 1
            timer.queued_at = expires
            timer.place = self._places
            heappush(self._heap, (expires, self._places, timer))
            if self.waker is not None:
                self.waker.wake()
            self._tidy()

    def del_timer(self, timer: Timer) -> None:
        """Disarm; not an error if it was not armed (del_timer)."""
        if timer.expires != NEVER:
            timer.expires = NEVER
            self.armed -= 1
            self._tidy()

    def next_deadline(self) -> i64:
        """When the first armed timer is due (ns), NEVER if none is."""
        while self._heap:
            when, place, timer = self._heap[0]
            if timer.place == place and timer.expires == when:
                return when
            self._settle()
        return NEVER

    def run(self, now: i64) -> int:
        """Fire everything due at ``now``, also what is armed for ``now`` or before meanwhile; how many fired."""
        fired = 0
        while self._heap and self._heap[0][0] <= now:
            timer = self._settle()
            if timer is None:
                continue
            timer.expires = NEVER
            self.armed -= 1
            timer.fire()
            fired += 1
        return fired

    def _settle(self) -> Timer | None:
        """Take the first entry off the heap: the timer if it is due at that place, else put it where it belongs."""
        when, place, timer = heappop(self._heap)
        if timer.place != place:
            return None  # superseded by an earlier one
        leave(timer)
        if timer.expires == when:
            return timer
        if timer.expires != NEVER:
            self.mod_timer(timer, timer.expires)
        return None

    def _tidy(self) -> None:
        """Forget the places nobody holds once they are most: a deleted timer may not keep its owner alive for hours."""
        if len(self._heap) <= 2 * self.armed + SLACK:
            return
        held: list[tuple[int, int, Timer]] = []
        for entry in self._heap:
            _, place, timer = entry
            if timer.place != place:
                continue
            if timer.expires == NEVER:
                leave(timer)
            else:
                held.append(entry)
        heapify(held)
        self._heap = held


def leave(timer: Timer) -> None:
    """``timer`` holds no place in the heap any more."""
    timer.queued_at = NEVER
    timer.place = 0
