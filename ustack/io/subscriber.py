"""Watching a stack from elsewhere: journeys that are over wait in a queue with a limit, like rtnetlink's events."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from ustack.io.trace import TraceEvent, journey_info
from ustack.trace.watcher import FilterWatcher

if TYPE_CHECKING:
    from ustack.trace.bpf import Instruction
    from ustack.trace.journey import Journey

#: Journeys that wait for one who watches; a journey takes some 10 KB.
JOURNEYS_WAITING: Final = 512


class Subscriber(FilterWatcher):
    """One who watches; what does not fit is lost, and the next event says how many were."""

    def __init__(self, program: list[Instruction], epoch: int = 0) -> None:
        """EINVAL for a program that may not run."""
        super().__init__(program)
        self.epoch: int = epoch
        self.lost: int = 0  #: since the last journey that waits
        self._waiting: deque[tuple[Journey, int]] = deque()

    def journey(self, journey: Journey) -> None:
        if len(self._waiting) >= JOURNEYS_WAITING:
            self.lost += 1
            return
        self._waiting.append((journey, self.lost))
        self.lost = 0
        self.heard()

    def take(self) -> TraceEvent | None:
        """The next, None if there is none."""
        if not self._waiting:
            return None
        journey, lost = self._waiting.popleft()
        return TraceEvent(journey_info(journey, self.epoch), lost)

    def heard(self) -> None:
        """There is something to take; called while the stack works."""
