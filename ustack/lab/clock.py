"""Lab: stacks and cables on one virtual clock. It runs as fast as it can, and the same way every time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mypy_extensions import i64

from ustack.timer import NEVER

if TYPE_CHECKING:
    from collections.abc import Callable

    from ustack.device.cable import Pollable

#: Rounds at one and the same instant after which the members are held to be going round in circles.
MAX_ROUNDS: Final = 100_000


class Lab:
    """``now`` in ns; it jumps from deadline to deadline of the members."""

    def __init__(self, now: i64 = 0) -> None:
        self.now: i64 = now
        self._members: list[Pollable] = []
        self._rounds: int = 0

    def add(self, *members: Pollable) -> None:
        """Drive ``members``, in this order at each instant."""
        self._members.extend(members)

    def next_deadline(self) -> i64:
        """The earliest deadline of all (ns), NEVER if nobody waits for anything."""
        earliest: i64 = NEVER
        for member in self._members:
            deadline = member.next_deadline()
            if deadline < earliest:
                earliest = deadline
        return earliest

    def step(self) -> bool:
        """Go on to the earliest deadline and poll everyone once; False, and nothing done, if there is none.

        RuntimeError if the members keep each other busy without time going on.
        """
        deadline = self.next_deadline()
        if deadline == NEVER:
            return False
        self._rounds = 0 if deadline > self.now else self._rounds + 1
        if self._rounds > MAX_ROUNDS:
            raise RuntimeError(f"no progress at {self.now} ns")
        self.now = max(self.now, deadline)
        for member in self._members:
            member.poll(self.now)
        return True

    def run_until(self, when: i64) -> None:
        """Do everything that is due up to and including ``when`` (ns), and stop the clock there."""
        while self.next_deadline() <= when:
            self.step()
        if when > self.now:
            self.now = when
            # nothing is due, but what is asked of a member now must find its clock right
            for member in self._members:
                member.poll(when)

    def run_until_true(self, predicate: Callable[[], bool], timeout: i64) -> bool:
        """Go on until ``predicate`` holds; False if it does not within ``timeout`` ns, or if nothing is left to do."""
        end = self.now + timeout
        while not predicate():
            if self.next_deadline() > end or not self.step():
                return predicate()
        return True
