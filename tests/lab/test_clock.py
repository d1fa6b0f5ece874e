"""The shared virtual clock."""

from __future__ import annotations

import pytest

from ustack.device.cable import Pollable
from ustack.lab.clock import MAX_ROUNDS, Lab
from ustack.timer import NEVER


class Ticker(Pollable):
    """Something to do at each of ``times``; ``log`` is shared, so that the order shows."""

    def __init__(self, name: str, times: list[int], log: list[tuple[str, int]]) -> None:
        self.name = name
        self.times = times
        self.log = log
        self.polls = 0

    def poll(self, now: int) -> None:
        self.polls += 1
        while self.times and self.times[0] <= now:
            self.times.pop(0)
            self.log.append((self.name, now))

    def next_deadline(self) -> int:
        return self.times[0] if self.times else NEVER


class Restless(Pollable):
    def poll(self, now: int) -> None:
        pass

    def next_deadline(self) -> int:
        return 0


def lab_of(**tickers: list[int]) -> tuple[Lab, list[tuple[str, int]]]:
    lab, log = Lab(), list[tuple[str, int]]()
    lab.add(*(Ticker(name, times, log) for name, times in tickers.items()))
    return lab, log


def test_time_goes_from_deadline_to_deadline() -> None:
    lab, log = lab_of(a=[10, 30], b=[20, 30])
    assert lab.next_deadline() == 10
    while lab.step():
        pass
    assert log == [("a", 10), ("b", 20), ("a", 30), ("b", 30)] and lab.now == 30


def test_an_empty_lab_stands_still() -> None:
    lab = Lab(now=5)
    assert not lab.step() and lab.now == 5 and lab.next_deadline() == NEVER


def test_a_deadline_gone_by_is_now_and_time_never_goes_back() -> None:
    lab, log = lab_of(a=[10, 20])
    lab.run_until(15)
    late = Ticker("late", [3], log)
    lab.add(late)
    assert lab.step() and lab.now == 15 and log == [("a", 10), ("late", 15)]


def test_run_until_stops_the_clock_exactly_there() -> None:
    lab, log = lab_of(a=[10, 20, 21])
    lab.run_until(20)
    assert lab.now == 20 and log == [("a", 10), ("a", 20)]
    lab.run_until(20)
    lab.run_until(7)
    assert lab.now == 20 and len(log) == 2
    lab.run_until(1000)
    assert lab.now == 1000 and len(log) == 3


def test_run_until_true_stops_as_soon_as_it_holds() -> None:
    lab, log = lab_of(a=[10, 20, 30])
    assert lab.run_until_true(lambda: len(log) == 2, 100) and lab.now == 20
    assert lab.run_until_true(lambda: True, 0) and lab.now == 20


def test_run_until_true_gives_up_after_its_time_or_when_nothing_is_left() -> None:
    lab, log = lab_of(a=[10, 20, 30])
    assert not lab.run_until_true(lambda: False, 15) and lab.now == 10
    assert not lab.run_until_true(lambda: False, 10**9) and lab.now == 30 and len(log) == 3


def test_going_round_in_circles_is_an_error_not_a_hang() -> None:
    lab = Lab()
    lab.add(Restless())
    with pytest.raises(RuntimeError, match="no progress at 0 ns"):
        for _ in range(MAX_ROUNDS + 2):
            lab.step()
