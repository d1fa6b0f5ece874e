"""Timers in virtual time: order, moving, deleting, and that nothing is kept that nobody waits for."""

from __future__ import annotations

import gc
import weakref

from hypothesis import given, settings
from hypothesis import strategies as st

from ustack.timer import NEVER, NSEC_PER_MSEC, NSEC_PER_SEC, NSEC_PER_USEC, SLACK, Timer, TimerQueue


class Alarm(Timer):
    """Logs when it fires; ``again`` arms it anew from inside."""

    def __init__(self, queue: TimerQueue, log: list[str], name: str = "a", again: int = -1) -> None:
        super().__init__()
        self.queue = queue
        self.log = log
        self.name = name
        self.again = again

    def fire(self) -> None:
        assert not self.pending
        self.log.append(self.name)
        if self.again >= 0:
            self.queue.mod_timer(self, self.again)
            self.again = -1


class Clock:
    def __init__(self) -> None:
        self.queue = TimerQueue()
        self.log: list[str] = []

    def alarm(self, name: str, expires: int = -1, again: int = -1) -> Alarm:
        alarm = Alarm(self.queue, self.log, name, again)
        if expires >= 0:
            self.queue.mod_timer(alarm, expires)
        return alarm


def test_units() -> None:
    assert (NSEC_PER_SEC, NSEC_PER_MSEC, NSEC_PER_USEC) == (10**9, 10**6, 10**3)


def test_nothing_armed_is_never_due() -> None:
    clock = Clock()
    assert clock.queue.next_deadline() == NEVER and clock.queue.run(NEVER - 1) == 0
    assert not clock.alarm("a").pending


def test_fires_at_its_time_and_not_before() -> None:
    clock = Clock()
    alarm = clock.alarm("a", 100)
    assert alarm.pending and clock.queue.next_deadline() == 100
    assert clock.queue.run(99) == 0 and clock.log == []
    assert clock.queue.run(100) == 1 and clock.log == ["a"]
    assert not alarm.pending and clock.queue.next_deadline() == NEVER and clock.queue.armed == 0


def test_fires_once_however_late() -> None:
    clock = Clock()
    clock.alarm("a", 100)
    assert clock.queue.run(10**12) == 1 and clock.queue.run(10**12) == 0


def test_order_of_deadlines_and_then_of_arming() -> None:
    clock = Clock()
    for name, expires in [("c", 30), ("a", 10), ("b", 20), ("b2", 20), ("a2", 10)]:
        clock.alarm(name, expires)
    assert clock.queue.run(30) == 5 and clock.log == ["a", "a2", "b", "b2", "c"]


def test_moved_later_it_fires_only_then() -> None:
    clock = Clock()
    alarm = clock.alarm("a", 100)
    clock.queue.mod_timer(alarm, 200)
    assert clock.queue.next_deadline() == 200 and clock.queue.armed == 1
    assert clock.queue.run(199) == 0 and clock.queue.run(200) == 1


def test_moved_earlier_it_fires_then_and_not_again() -> None:
    clock = Clock()
    alarm = clock.alarm("a", 100)
    clock.queue.mod_timer(alarm, 50)
    assert clock.queue.next_deadline() == 50
    assert clock.queue.run(50) == 1 and clock.queue.run(1000) == 0 and clock.queue.armed == 0


def test_deleted_it_does_not_fire_and_may_be_armed_again() -> None:
    clock = Clock()
    alarm = clock.alarm("a", 100)
    clock.queue.del_timer(alarm)
    clock.queue.del_timer(alarm)
    assert not alarm.pending and clock.queue.next_deadline() == NEVER and clock.queue.armed == 0
    clock.queue.mod_timer(alarm, 70)
    assert clock.queue.run(100) == 1


def test_armed_for_never_is_deleted() -> None:
    clock = Clock()
    alarm = clock.alarm("a", 100)
    clock.queue.mod_timer(alarm, NEVER)
    assert not alarm.pending and clock.queue.armed == 0 and clock.queue.run(NEVER - 1) == 0


def test_a_timer_may_arm_itself_for_the_same_moment_or_later() -> None:
    clock = Clock()
    clock.alarm("now", 100, again=100)
    clock.alarm("later", 100, again=150)
    assert clock.queue.run(100) == 3 and clock.log == ["now", "later", "now"]
    assert clock.queue.next_deadline() == 150


def test_a_timer_may_delete_another_that_is_due() -> None:
    clock = Clock()
    victim = clock.alarm("victim")

    class Killer(Alarm):
        def fire(self) -> None:
            super().fire()
            clock.queue.del_timer(victim)

    clock.queue.mod_timer(Killer(clock.queue, clock.log, "killer"), 10)
    clock.queue.mod_timer(victim, 10)
    assert clock.queue.run(10) == 1 and clock.log == ["killer"]


def test_a_deleted_timer_does_not_keep_its_owner_alive_until_its_time() -> None:
    """A closed connection's keepalive would be due in two hours."""
    clock = Clock()
    gone = [weakref.ref(alarm) for alarm in [make_and_delete(clock, 7200 * NSEC_PER_SEC) for _ in range(1000)]]
    gc.collect()
    assert sum(reference() is not None for reference in gone) <= SLACK + 1


def make_and_delete(clock: Clock, expires: int) -> Alarm:
    alarm = clock.alarm("gone", expires)
    clock.queue.del_timer(alarm)
    return alarm


def test_moving_near_and_far_for_ever_costs_no_memory() -> None:
    """A retransmission timer: two minutes, 200 ms, two minutes, …"""
    clock = Clock()
    alarm = clock.alarm("a", 10**12)
    other = clock.alarm("b", 10**13)
    for step in range(5000):
        clock.queue.mod_timer(alarm, 10**12 + step)
        clock.queue.mod_timer(alarm, 1000 - step % 900)
        clock.queue.mod_timer(alarm, 10**12)
        clock.queue.run(1)
    del alarm
    referrers = [referrer for referrer in gc.get_referrers(other) if isinstance(referrer, tuple)]
    assert len(referrers) <= 1
    assert clock.queue.armed == 2 and clock.queue.run(10**12) == 1 and clock.queue.run(10**13) == 1


OPERATIONS = st.lists(
    st.tuples(st.sampled_from(["arm", "delete", "run"]), st.integers(0, 4), st.integers(0, 60)), max_size=80
)


@settings(max_examples=300)
@given(OPERATIONS)
def test_behaves_like_a_plain_list_of_deadlines(operations: list[tuple[str, int, int]]) -> None:
    clock = Clock()
    alarms = [clock.alarm(str(number)) for number in range(5)]
    model: dict[str, int] = {}
    now = 0
    for operation, number, amount in operations:
        if operation == "arm":
            clock.queue.mod_timer(alarms[number], now + amount)
            model[str(number)] = now + amount
        elif operation == "delete":
            clock.queue.del_timer(alarms[number])
            model.pop(str(number), None)
        else:
            now += amount
            due = {name: expires for name, expires in model.items() if expires <= now}
            assert clock.queue.run(now) == len(due)
            fired, clock.log[:] = clock.log[:], []
            assert sorted(fired) == sorted(due)
            assert [due[name] for name in fired] == sorted(due.values())
            model = {name: expires for name, expires in model.items() if expires > now}
        assert clock.queue.next_deadline() == min(model.values(), default=NEVER)
        assert clock.queue.armed == len(model)
        assert [alarm.pending for alarm in alarms] == [alarm.name in model for alarm in alarms]
