"""The loop: who gets a turn and when, what one worker's mistake costs, and how long it waits."""

from __future__ import annotations

import os
import socket
import time
from typing import TYPE_CHECKING

import pytest

from ustack.io.loop import EPOLLIN, MAX_ROUNDS, Loop, Worker
from ustack.stack import Stack
from ustack.timer import NEVER, NSEC_PER_SEC, Timer

if TYPE_CHECKING:
    from collections.abc import Iterator

SEED = bytes(32)


@pytest.fixture
def loop() -> Iterator[Loop]:
    made = Loop(Stack(SEED, time.monotonic_ns()))
    yield made
    made.close()


class Recorder(Worker):
    """Notes its turns; ``again`` more of them are asked for."""

    def __init__(self, loop: Loop, again: int = 0) -> None:
        super().__init__(loop)
        self.turns = 0
        self.again = again
        self.events: list[int] = []
        self.given_up = False
        self.raises: Exception | None = None

    def ready(self, events: int) -> None:
        self.events.append(events)
        if self.raises is not None:
            raise self.raises

    def work(self) -> None:
        self.turns += 1
        if self.again > 0:
            self.again -= 1
            self.loop.later(self)
        if self.raises is not None:
            raise self.raises

    def failed(self) -> None:
        self.given_up = True


class Alarm(Timer):
    def __init__(self) -> None:
        super().__init__()
        self.fired = False

    def fire(self) -> None:
        self.fired = True


def test_one_turn_however_often_it_is_asked_for(loop: Loop) -> None:
    worker = Recorder(loop)
    for _ in range(3):
        loop.later(worker)
    loop.step(0)
    assert worker.turns == 1
    loop.step(0)
    assert worker.turns == 1


def test_every_word_of_a_socket_asks_for_a_turn(loop: Loop) -> None:
    sk = loop.stack.socket().sk
    for tell in ("data_ready", "write_space", "state_change", "error_report"):
        worker = Recorder(loop)
        getattr(worker, tell)(sk)
        assert worker.turns == 0, "not inside the stack's poll"
        loop.step(0)
        assert worker.turns == 1


def test_a_worker_that_always_asks_again_does_not_keep_the_loop(loop: Loop) -> None:
    """The descriptors are looked at after MAX_ROUNDS, and the rest is done without waiting for them."""
    worker = Recorder(loop, again=10 * MAX_ROUNDS)
    loop.later(worker)
    loop.step(0)
    assert worker.turns == MAX_ROUNDS
    assert loop.next_deadline() == 0
    before = time.monotonic()
    loop.step(5 * NSEC_PER_SEC)
    assert worker.turns == 2 * MAX_ROUNDS and time.monotonic() - before < 4


def test_a_worker_that_fails_is_given_up_and_nobody_else(loop: Loop, caplog: pytest.LogCaptureFixture) -> None:
    bad, good = Recorder(loop), Recorder(loop)
    bad.raises = RuntimeError("a mistake")
    loop.later(bad)
    loop.later(good)
    loop.step(0)
    assert bad.given_up and good.turns == 1 and not good.given_up
    assert "Recorder failed" in caplog.text and "a mistake" in caplog.text


def test_descriptors(loop: Loop) -> None:
    near, far = socket.socketpair()
    with near, far:
        worker = Recorder(loop)
        loop.add(near.fileno(), worker, EPOLLIN)
        loop.step(0)
        assert worker.events == []
        far.send(b"x")
        loop.step(NSEC_PER_SEC)
        assert worker.events == [EPOLLIN]
        loop.modify(near.fileno(), 0)
        loop.step(0)
        assert worker.events == [EPOLLIN]
        loop.remove(near.fileno())
        loop.remove(near.fileno())  # nothing happens
        loop.step(0)
        assert worker.events == [EPOLLIN]


def test_a_descriptor_whose_worker_fails_is_given_up(loop: Loop) -> None:
    near, far = socket.socketpair()
    with near, far:
        worker = Recorder(loop)
        worker.raises = OSError("bad")
        loop.add(near.fileno(), worker, EPOLLIN)
        far.send(b"x")
        loop.step(NSEC_PER_SEC)
        assert worker.given_up
        loop.remove(near.fileno())


def test_removed_by_another_in_the_same_round(loop: Loop) -> None:
    class Remover(Recorder):
        def ready(self, events: int) -> None:
            super().ready(events)
            for fd in fds:
                loop.remove(fd)

    pairs = [socket.socketpair() for _ in range(2)]
    fds = [near.fileno() for near, _ in pairs]
    workers = [Remover(loop) for _ in pairs]
    for (near, far), worker in zip(pairs, workers, strict=True):
        loop.add(near.fileno(), worker, EPOLLIN)
        far.send(b"x")
    loop.step(NSEC_PER_SEC)
    assert sum(len(worker.events) for worker in workers) == 1
    for pair in pairs:
        for end in pair:
            end.close()


def test_it_wakes_for_a_timer_of_the_stack(loop: Loop) -> None:
    alarm = Alarm()
    loop.stack.net.timers.mod_timer(alarm, time.monotonic_ns() + 2_000_000)
    before = time.monotonic()
    while not alarm.fired:
        loop.step(10 * NSEC_PER_SEC)
    assert time.monotonic() - before < 5


def test_timers_are_exact_to_less_than_epolls_millisecond(loop: Loop) -> None:
    """A paced connection's timers: the best of twenty is not late by what epoll's rounding up would make it."""
    late = []
    for wait in (200_000, 1_300_000) * 10:  # ns
        alarm = Alarm()
        due = time.monotonic_ns() + wait
        loop.stack.net.timers.mod_timer(alarm, due)
        while not alarm.fired:
            loop.step(NSEC_PER_SEC)
        late.append(time.monotonic_ns() - due)
    assert 0 <= min(late[::2]) < 400_000 and 0 <= min(late[1::2]) < 400_000
    assert loop.rounds <= 60, "it waits, it does not spin"


def test_the_clock_of_the_stack_is_the_loops(loop: Loop) -> None:
    before = time.monotonic_ns()
    loop.step(0)
    assert before <= loop.stack.net.now <= time.monotonic_ns()


def test_an_idle_stack_has_no_deadline(loop: Loop) -> None:
    loop.step(0)
    assert loop.next_deadline() in (NEVER, loop.stack.next_deadline())


def test_it_runs_until_it_is_stopped(loop: Loop) -> None:
    class Stopper(Recorder):
        def work(self) -> None:
            super().work()
            loop.stop()

    loop.later(Stopper(loop))
    loop.run()
    assert loop.stopped


def test_no_descriptor_is_left(loop: Loop) -> None:
    before = len(os.listdir("/proc/self/fd"))
    other = Loop(Stack(SEED))
    assert len(os.listdir("/proc/self/fd")) == before  # who never waits needs none
    other.step(0)
    assert len(os.listdir("/proc/self/fd")) == before + 1
    other.close()
    assert len(os.listdir("/proc/self/fd")) == before
