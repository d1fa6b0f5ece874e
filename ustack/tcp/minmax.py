"""The least or greatest of what was measured in the last while, in constant memory (Linux lib/win_minmax.c).

Kathleen Nichols' filter: the best sample of the window, the best of those after it, the best of those after that. When
the best one leaves the window the next is at hand, and one of a part of the window at that.
"""

from __future__ import annotations

from mypy_extensions import i64


class MinMax:
    """Three samples: ``v0`` is the answer, ``t0`` when it was taken; times and windows of one unit."""

    def __init__(self) -> None:
        self.t0: i64 = 0
        self.v0: i64 = 0
        self.t1: i64 = 0
        self.v1: i64 = 0
        self.t2: i64 = 0
        self.v2: i64 = 0

    def reset(self, now: i64, value: i64) -> i64:
        """Forget what was; ``value`` is all there is."""
        self.t0 = self.t1 = self.t2 = now
        self.v0 = self.v1 = self.v2 = value
        return value

    def running_min(self, window: i64, now: i64, value: i64) -> i64:
        """The least of the last ``window``, ``value`` included (minmax_running_min)."""
        if value <= self.v0 or now - self.t2 > window:
            return self.reset(now, value)
        if value <= self.v1:
            self.t1 = self.t2 = now
            self.v1 = self.v2 = value
        elif value <= self.v2:
            self.t2 = now
            self.v2 = value
        return self._subwindow(window, now, value)

    def running_max(self, window: i64, now: i64, value: i64) -> i64:
        """The greatest of the last ``window``, ``value`` included (minmax_running_max)."""
        if value >= self.v0 or now - self.t2 > window:
            return self.reset(now, value)
        if value >= self.v1:
            self.t1 = self.t2 = now
            self.v1 = self.v2 = value
        elif value >= self.v2:
            self.t2 = now
            self.v2 = value
        return self._subwindow(window, now, value)

    def _subwindow(self, window: i64, now: i64, value: i64) -> i64:
        """Drop what is too old; take a new second and third once a quarter and a half of the window have passed."""
        age = now - self.t0
        if age > window:
            self._shift(now, value)
            if now - self.t0 > window:
                self._shift(now, value)
        elif self.t1 == self.t0 and age > window >> 2:
            self.t1 = self.t2 = now
            self.v1 = self.v2 = value
        elif self.t2 == self.t1 and age > window >> 1:
            self.t2 = now
            self.v2 = value
        return self.v0

    def _shift(self, now: i64, value: i64) -> None:
        self.t0 = self.t1
        self.v0 = self.v1
        self.t1 = self.t2
        self.v1 = self.v2
        self.t2 = now
        self.v2 = value
