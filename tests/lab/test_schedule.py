"""The schedule of a laboratory: the same as if everybody were asked all the time, at a cost that idle members have no
part in. Costs are counts of turns; nothing here looks at a real clock."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.harness import MSEC, SEC, Network, Pair, readable, udp
from tests.lab.random_network import RandomNetwork
from tests.lab.scan import Scan
from ustack.device.cable import Impairments, Pollable
from ustack.lab import Lab
from ustack.timer import NEVER, Timer

if TYPE_CHECKING:
    from ustack.timer import Waker

ACTIONS = 60


class Member(Pollable):
    """Tells; does at each of ``times`` what ``acts`` says, and writes its name into the shared log."""

    def __init__(self, name: str, log: list[tuple[str, int]], *times: int) -> None:
        self.name = name
        self.log = log
        self.times = list(times)
        self.waker: Waker | None = None
        self.wakes: Member | None = None
        self.clock = -1

    def attach(self, waker: Waker) -> bool:
        self.waker = waker
        return True

    def catch_up(self, now: int) -> None:
        self.clock = now

    def want(self, when: int) -> None:
        self.times.append(when)
        assert self.waker is not None
        self.waker.wake()

    def next_deadline(self) -> int:
        return min(self.times, default=int(NEVER))

    def poll(self, now: int) -> None:
        self.clock = now
        self.log.append((self.name, now))
        self.times = [when for when in self.times if when > now]
        if self.wakes is not None:
            other, self.wakes = self.wakes, None
            other.want(now)


def members(*names: str) -> tuple[Lab, list[Member], list[tuple[str, int]]]:
    lab, log = Lab(), list[tuple[str, int]]()
    made = [Member(name, log) for name in names]
    lab.add(*made)
    return lab, made, log


# -- the same as a scan


@pytest.mark.parametrize("seed", range(12))
def test_random_networks_run_as_if_everybody_were_asked(seed: int) -> None:
    heap, scan = RandomNetwork(seed, Lab()), RandomNetwork(seed, Scan())
    for _ in range(ACTIONS):
        heap.act()
        scan.act()
        assert heap.lab.next_deadline() == scan.lab.next_deadline()
    assert heap.frames == scan.frames
    assert len(heap.frames) > 100
    assert heap.counters() == scan.counters()
    assert [one.heard for one in heap.programs] == [one.heard for one in scan.programs]
    heap.check()


@pytest.mark.parametrize("seed", range(3))
def test_who_is_asked_all_the_time_changes_nothing(seed: int) -> None:
    class Bystander(Pollable):
        def poll(self, now: int) -> None:
            pass

        def next_deadline(self) -> int:
            return int(NEVER)

    alone, watched = RandomNetwork(seed, Lab()), RandomNetwork(seed, Lab())
    watched.lab.add(Bystander())
    for _ in range(ACTIONS):
        alone.act()
        watched.act()
    assert alone.frames == watched.frames
    assert alone.counters() == watched.counters()


# -- order within an instant


def test_who_is_woken_by_an_earlier_one_has_its_turn_in_the_same_round() -> None:
    lab, (a, b, c), log = members("a", "b", "c")
    a.wakes = c
    a.want(10)
    b.want(10)
    assert lab.step()
    assert log == [("a", 10), ("b", 10), ("c", 10)]


def test_who_is_woken_by_a_later_one_has_its_turn_in_the_next_round() -> None:
    lab, (a, b, c), log = members("a", "b", "c")
    c.wakes = a
    b.want(10)
    c.want(10)
    assert lab.step()
    assert log == [("b", 10), ("c", 10)]
    assert lab.next_deadline() <= lab.now == 10
    assert lab.step()
    assert log[2:] == [("a", 10)]
    assert not lab.step()


def test_a_member_that_wakes_itself_has_another_turn_not_two() -> None:
    lab, (a,), log = members("a")
    a.wakes = a
    a.want(10)
    lab.run_until(20)
    assert log == [("a", 10), ("a", 10)]


def test_a_deadline_that_moves_later_from_outside_is_not_served_early() -> None:
    lab, (a, b), log = members("a", "b")
    a.want(10)
    assert lab.next_deadline() == 10
    a.times = [30]  # nobody is told: only what comes earlier must be
    b.want(20)
    assert lab.next_deadline() == 20
    lab.run_until(40)
    assert log == [("b", 20), ("a", 30)]


def test_a_deadline_that_moves_earlier_from_outside_is_seen() -> None:
    lab, (a, b), log = members("a", "b")
    a.want(10**9)
    b.want(20)
    assert lab.next_deadline() == 20
    a.want(5)
    lab.run_until(30)
    assert log == [("a", 5), ("b", 20)]
    assert lab.next_deadline() == 10**9


# -- clocks


def test_after_a_step_everybodys_clock_is_right() -> None:
    lab, (a, b), _ = members("a", "b")
    a.want(10)
    lab.step()
    assert (a.clock, b.clock) == (10, 10)
    a.want(20)
    lab.run_until(25)
    assert (a.clock, b.clock) == (25, 25)
    a.want(30)
    assert lab.run_until_true(lambda: b.clock == 30, 100)


def test_a_stack_that_idles_has_the_right_time_when_it_is_asked_for_something() -> None:
    with Pair() as pair:
        pair.run(5 * SEC)
        assert pair.a.net.now == pair.b.net.now == 5 * SEC
        pair.b.catch_up(4 * SEC)
        assert pair.b.net.now == 5 * SEC, "it never goes back"


# -- an end


def test_stop_ends_a_run_after_the_round() -> None:
    class Ender(Member):
        def poll(self, now: int) -> None:
            super().poll(now)
            lab.stop()

    lab, log = Lab(), list[tuple[str, int]]()
    ender, other = Ender("ender", log, 10), Member("other", log, 10, 20)
    lab.add(ender, other)
    lab.run_until(100)
    assert log == [("ender", 10), ("other", 10)]
    assert lab.now == other.clock == 10
    lab.run_until(100)
    assert lab.now == 100 and log[2:] == [("other", 20)]


def test_a_member_that_fails_loses_nothing_but_that_turn() -> None:
    class Clumsy(Member):
        def poll(self, now: int) -> None:
            super().poll(now)
            if now == 10:
                raise ZeroDivisionError

    lab, log = Lab(), list[tuple[str, int]]()
    lab.add(Clumsy("clumsy", log, 10, 20), Member("other", log, 10, 15))
    with pytest.raises(ZeroDivisionError):
        lab.step()
    lab.run_until(30)
    assert log == [("clumsy", 10), ("other", 10), ("other", 15), ("clumsy", 20)]


# -- the cost


def exchange(bystanders: int) -> tuple[Network, list[int]]:
    """A thousand datagrams there and back between two of many; turns of the two and their cable."""
    net = Network()
    a, b = net.stack(), net.stack()
    net.join(a, "192.0.2.1/24", b, "192.0.2.2/24", Impairments(delay=MSEC))
    idle = [net.stack() for _ in range(2 * bystanders)]
    for one, other in zip(idle[::2], idle[1::2], strict=True):
        net.join(one, "198.51.100.1/24", other, "198.51.100.2/24")
    net.run(5 * SEC)  # the announcements are over
    before = net.lab.polls()
    server, client = udp(b, "192.0.2.2", 7), udp(a)
    for _ in range(1000):
        client.sendto(b"muffin", ("192.0.2.2", 7))
        net.run_until(lambda: readable(server))
        data, peer = server.recvfrom(100)
        server.sendto(data, peer.pair())
        net.run_until(lambda: readable(client))
        client.recv(100)
    return net, [after - early for early, after in zip(before, net.lab.polls(), strict=True)]


def test_turns_do_not_grow_with_bystanders() -> None:
    alone, lonely = exchange(0)
    crowd, many = exchange(20)
    assert crowd.now == alone.now
    assert many[:3] == lonely
    assert sum(many[3:]) <= 20 * 3 * 2, "bystanders have their own timers, and nothing else"
    assert sum(lonely) < 10 * 1000


def test_a_wake_that_comes_to_nothing_costs_no_turn() -> None:
    lab, (a, b), log = members("a", "b")
    b.want(10)
    for _ in range(100):
        assert a.waker is not None
        a.waker.wake()
        lab.next_deadline()
    lab.run_until(20)
    assert log == [("b", 10)] and lab.polls() == [0, 1]


def test_the_heap_forgets_what_counts_no_more() -> None:
    """A deadline far away and one nearby, in turn: what is left of the former must not gather."""

    class Retry(Timer):
        def fire(self) -> None:
            pass

    with Pair() as pair:
        timer, near = Retry(), Retry()
        pair.run(10 * SEC)
        timers = pair.a.net.timers
        for _ in range(2000):
            timers.mod_timer(near, pair.now + 10)
            timers.mod_timer(timer, pair.now + 10**6 * SEC)
            pair.run(20)
        assert pair.lab.entries() < 200


def test_an_interrupt_wakes_the_stack_and_a_doorbell_the_cable() -> None:
    with Pair(resolved=True) as pair:
        server, client = udp(pair.b, "192.0.2.2", 7), udp(pair.a)
        before = pair.lab.polls()
        client.sendto(b"muffin", ("192.0.2.2", 7))
        assert pair.lab.next_deadline() <= pair.now, "the cable has something to fetch"
        pair.run(0)
        assert readable(server)
        turns = [after - early for early, after in zip(before, pair.lab.polls(), strict=True)]
        assert turns[0] <= 1 and turns[1] == 1 and turns[2] == 1


def test_a_timer_that_is_armed_from_outside_is_seen() -> None:
    class Bell(Timer):
        rung = 0

        def fire(self) -> None:
            self.rung += 1

    with Pair(resolved=True) as pair:
        assert pair.lab.next_deadline() > pair.now + MSEC
        bell = Bell()
        pair.a.net.timers.mod_timer(bell, pair.now + MSEC)
        assert pair.lab.next_deadline() == pair.now + MSEC
        pair.run(MSEC)
        assert bell.rung == 1


def test_what_is_sent_to_oneself_is_seen() -> None:
    """Loopback: no NIC has interrupted, the stack has to be polled all the same."""
    with Pair(resolved=True) as pair:
        server, client = udp(pair.a, "127.0.0.1", 7), udp(pair.a)
        client.sendto(b"muffin", ("127.0.0.1", 7))
        assert pair.lab.next_deadline() <= pair.now
        pair.run(0)
        assert readable(server)
