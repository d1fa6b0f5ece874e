"""Netfilter hooks: order, verdicts, queue, and what a bad function may not do (net/netfilter/core.c, nf_queue.c)."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ustack.device.net_device import NetDevice
from ustack.drop import Reason
from ustack.net import Net
from ustack.netfilter.hooks import (
    MAX_HOOK_COUNT,
    NF_ACCEPT,
    NF_DROP,
    NF_INET_FORWARD,
    NF_INET_LOCAL_IN,
    NF_INET_NUMHOOKS,
    NF_INET_PRE_ROUTING,
    NF_IP_PRI_FILTER,
    NF_IP_PRI_FIRST,
    NF_IP_PRI_LAST,
    NF_IP_PRI_MANGLE,
    NF_MAX_REPEAT,
    NF_QUEUE,
    NF_REPEAT,
    NF_STOLEN,
    NF_STOP,
    NF_VERDICT_FLAG_QUEUE_BYPASS,
    NFPROTO_ARP,
    NFPROTO_IPV4,
    NFPROTO_IPV6,
    HookEntry,
    Hooks,
    HookState,
    QueueEntry,
    QueueHandler,
    nf_drop_err,
    nf_queue_nr,
)
from ustack.packet import Packet, PacketHandler

if TYPE_CHECKING:
    from collections.abc import Callable

POINT = NF_INET_PRE_ROUTING


class Okfn(PacketHandler):
    """Where packets go on."""

    def __init__(self, net: Net) -> None:
        super().__init__()
        self.net = net
        self.packets: list[Packet] = []

    def handle(self, packet: Packet) -> None:
        self.packets.append(packet)
        self.net.deliver(packet)


class Listener(QueueHandler):
    """Keeps queued packets until told; ``limit`` is how many it takes."""

    def __init__(self, limit: int = 1000) -> None:
        super().__init__()
        self.limit = limit
        self.entries: list[QueueEntry] = []

    def enqueue(self, packet: Packet, entry: QueueEntry) -> bool:
        assert entry.state.packet is packet
        if len(self.entries) >= self.limit:
            return False
        self.entries.append(entry)
        return True


class Broken(QueueHandler):
    def enqueue(self, packet: Packet, entry: QueueEntry) -> bool:
        raise RuntimeError("listener")


class Bench:
    """Hooks with a log of who was asked."""

    def __init__(self) -> None:
        self.net = Net(bytes(16))
        self.hooks = Hooks(self.net)
        self.okfn = Okfn(self.net)
        self.log: list[str] = []

    def says(self, name: str, *verdicts: int) -> Callable[[HookState], int]:
        """A function that logs itself and gives one verdict after the other, the last one for ever."""
        left = list(verdicts)

        def function(state: HookState) -> int:
            self.log.append(name)
            return left.pop(0) if len(left) > 1 else left[0]

        return function

    def add(self, name: str, *verdicts: int, priority: int = 0) -> HookEntry:
        return self.hooks.nf_register_hook(POINT, self.says(name, *verdicts), priority)

    def send(self) -> tuple[Packet, int]:
        packet = Packet(b"x")
        self.net.receive(packet)
        return packet, self.hooks.nf_hook(POINT, packet, None, None, self.okfn)

    def accounts(self) -> tuple[int, int, int]:
        """Delivered, dropped, still waiting."""
        path = self.net.mib.path
        assert path.received == path.delivered + path.dropped + self.hooks.queued
        return path.delivered, path.dropped, self.hooks.queued


@pytest.fixture
def bench() -> Bench:
    return Bench()


# -- registration and order


def test_an_empty_point_is_not_active_and_lets_everything_through(bench: Bench) -> None:
    assert not any(bench.hooks.active(point) for point in range(NF_INET_NUMHOOKS))
    packet, code = bench.send()
    assert bench.okfn.packets == [packet] and code == 0


@pytest.mark.parametrize("point", range(NF_INET_NUMHOOKS))
def test_a_function_activates_its_own_point_until_the_last_has_gone(bench: Bench, point: int) -> None:
    first = bench.hooks.nf_register_hook(point, bench.says("a", NF_ACCEPT))
    second = bench.hooks.nf_register_hook(point, bench.says("b", NF_ACCEPT))
    assert [bench.hooks.active(other) for other in range(NF_INET_NUMHOOKS)] == [
        other == point for other in range(NF_INET_NUMHOOKS)
    ]
    bench.hooks.nf_unregister_hook(first)
    assert bench.hooks.active(point)
    bench.hooks.nf_unregister_hook(second)
    assert not bench.hooks.active(point)


def test_ascending_priority_then_order_of_registration(bench: Bench) -> None:
    """nf_register_net_hook: behind all of the same priority."""
    bench.add("filter", NF_ACCEPT, priority=NF_IP_PRI_FILTER)
    bench.add("last", NF_ACCEPT, priority=NF_IP_PRI_LAST)
    bench.add("filter again", NF_ACCEPT, priority=NF_IP_PRI_FILTER)
    bench.add("mangle", NF_ACCEPT, priority=NF_IP_PRI_MANGLE)
    bench.add("first", NF_ACCEPT, priority=NF_IP_PRI_FIRST)
    packet, code = bench.send()
    assert bench.log == ["first", "mangle", "filter", "filter again", "last"]
    assert bench.okfn.packets == [packet] and code == 0 and bench.accounts() == (1, 0, 0)


@given(st.lists(st.integers(-(2**31), 2**31 - 1), max_size=30))
def test_any_priorities_are_asked_in_stable_order(priorities: list[int]) -> None:
    bench = Bench()
    for number, priority in enumerate(priorities):
        bench.add(str(number), NF_ACCEPT, priority=priority)
    bench.send()
    assert bench.log == [str(number) for number in sorted(range(len(priorities)), key=lambda n: priorities[n])]


def test_points_and_families_are_apart(bench: Bench) -> None:
    bench.hooks.nf_register_hook(NF_INET_FORWARD, bench.says("forward", NF_DROP))
    bench.hooks.nf_register_hook(POINT, bench.says("ipv6", NF_DROP), family=NFPROTO_IPV6)
    bench.hooks.nf_register_hook(POINT, bench.says("arp", NF_DROP), family=NFPROTO_ARP)
    assert not bench.hooks.active(POINT)
    bench.send()
    assert bench.log == [] and bench.accounts() == (1, 0, 0)
    bench.hooks.nf_hook(POINT, Packet(b""), None, None, bench.okfn, NFPROTO_ARP)
    assert bench.log == ["arp"]


@pytest.mark.parametrize(
    ("point", "priority", "family"),
    [(-1, 0, 2), (5, 0, 2), (0, 0, 0), (0, 0, 99), (0, 2**31, 2), (0, -(2**31) - 1, 2)],
)
def test_a_hook_that_cannot_be_is_refused(bench: Bench, point: int, priority: int, family: int) -> None:
    with pytest.raises(OSError) as raised:
        bench.hooks.nf_register_hook(point, bench.says("a", NF_ACCEPT), priority, family)
    assert raised.value.errno == errno.EINVAL


def test_a_point_takes_a_bounded_number(bench: Bench) -> None:
    """MAX_HOOK_COUNT, E2BIG."""
    for _ in range(MAX_HOOK_COUNT):
        bench.add("a", NF_ACCEPT)
    with pytest.raises(OSError) as raised:
        bench.add("one more", NF_ACCEPT)
    assert raised.value.errno == errno.E2BIG


def test_unregistering_twice_is_an_error(bench: Bench) -> None:
    handle = bench.add("a", NF_ACCEPT)
    bench.hooks.nf_unregister_hook(handle)
    with pytest.raises(OSError) as raised:
        bench.hooks.nf_unregister_hook(handle)
    assert raised.value.errno == errno.ENOENT


def test_the_same_function_may_stand_at_a_point_twice(bench: Bench) -> None:
    function = bench.says("a", NF_ACCEPT)
    first = bench.hooks.nf_register_hook(POINT, function)
    bench.hooks.nf_register_hook(POINT, function)
    bench.send()
    bench.hooks.nf_unregister_hook(first)
    bench.send()
    assert bench.log == ["a"] * 3


def test_a_function_sees_point_packet_and_devices(bench: Bench) -> None:
    seen: list[HookState] = []

    def look(state: HookState) -> int:
        seen.append(state)
        return NF_ACCEPT

    bench.hooks.nf_register_hook(NF_INET_LOCAL_IN, look)
    incoming, outgoing, packet = NetDevice("eth0", 1), NetDevice("eth1", 2), Packet(b"x")
    bench.hooks.nf_hook(NF_INET_LOCAL_IN, packet, incoming, outgoing, bench.okfn)
    (state,) = seen
    assert (state.point, state.family, state.packet) == (NF_INET_LOCAL_IN, NFPROTO_IPV4, packet)
    assert (state.in_dev, state.out_dev) == (incoming, outgoing)


# -- verdicts


def test_drop_ends_it_with_a_reason(bench: Bench) -> None:
    bench.add("a", NF_ACCEPT)
    bench.add("b", NF_DROP)
    bench.add("c", NF_ACCEPT)
    before = bench.net.mib.snapshot()
    _, code = bench.send()
    assert bench.log == ["a", "b"] and bench.okfn.packets == [] and code == errno.EPERM
    assert bench.net.drops == {Reason.NETFILTER_DROP: 1} and bench.accounts() == (0, 1, 0)
    moved = {name for name, value in bench.net.mib.snapshot().items() if value != before[name]}
    assert moved == {"Path.received", "Path.dropped"}


def test_drop_may_name_the_errno_for_the_sender(bench: Bench) -> None:
    """NF_DROP_ERR."""
    bench.add("a", nf_drop_err(errno.EHOSTUNREACH))
    assert bench.send()[1] == errno.EHOSTUNREACH and bench.net.drops == {Reason.NETFILTER_DROP: 1}


def test_stop_accepts_and_asks_nobody_else(bench: Bench) -> None:
    bench.add("a", NF_STOP)
    bench.add("b", NF_DROP)
    packet, code = bench.send()
    assert bench.log == ["a"] and bench.okfn.packets == [packet] and code == 0


def test_a_stolen_packet_is_the_thief_s(bench: Bench) -> None:
    stolen: list[Packet] = []

    def steal(state: HookState) -> int:
        stolen.append(state.packet)
        return NF_STOLEN

    bench.hooks.nf_register_hook(POINT, steal)
    bench.add("b", NF_DROP)
    packet, code = bench.send()
    assert stolen == [packet] and packet.accounted and code == 0
    assert bench.log == [] and bench.okfn.packets == [] and bench.net.drops == {}


def test_repeat_asks_the_same_function_again(bench: Bench) -> None:
    bench.add("a", NF_ACCEPT)
    bench.add("b", NF_REPEAT, NF_REPEAT, NF_ACCEPT)
    bench.add("c", NF_ACCEPT)
    bench.send()
    assert bench.log == ["a", "b", "b", "b", "c"] and bench.accounts() == (1, 0, 0)


def test_repeat_without_end_is_a_drop(bench: Bench) -> None:
    bench.add("a", NF_REPEAT)
    _, code = bench.send()
    assert len(bench.log) == 1 + NF_MAX_REPEAT and code == errno.EPERM
    assert bench.net.drops == {Reason.NF_REPEAT_LIMIT: 1} and bench.accounts() == (0, 1, 0)


def test_repeat_may_end_in_any_verdict(bench: Bench) -> None:
    bench.add("a", NF_REPEAT, NF_DROP)
    bench.send()
    assert bench.log == ["a", "a"] and bench.net.drops == {Reason.NETFILTER_DROP: 1}


def test_a_function_may_change_the_packet(bench: Bench) -> None:
    def change(state: HookState) -> int:
        state.packet.mark = 7
        return NF_ACCEPT

    bench.hooks.nf_register_hook(POINT, change)
    assert bench.send()[0].mark == 7


# -- functions that misbehave


def test_a_function_that_raises_drops_the_packet_and_is_counted(bench: Bench) -> None:
    def fail(state: HookState) -> int:
        raise ValueError("no such rule")

    handle = bench.hooks.nf_register_hook(POINT, fail)
    bench.add("b", NF_ACCEPT)
    _, code = bench.send()
    bench.send()
    assert code == errno.EPERM and bench.net.drops == {Reason.NETFILTER_DROP: 2}
    assert bench.net.mib.netfilter.hook_errors == handle.errors == 2
    assert bench.hooks.last_error == "ValueError: no such rule" and bench.accounts() == (0, 2, 0)


@pytest.mark.parametrize("verdict", [-1, 6, 0xFF, 0x100 + 6, 1 << 32, 1 << 80])
def test_what_is_no_verdict_is_a_drop(bench: Bench, verdict: int) -> None:
    """Where Linux would leak the packet (nf_hook_slow: "any other non conventional verdicts")."""
    bench.add("a", verdict)
    bench.send()
    assert bench.net.drops == {Reason.NETFILTER_DROP: 1} and bench.net.mib.netfilter.hook_errors == 1


def test_an_okfn_that_raises_is_not_the_function_s_fault(bench: Bench) -> None:
    class Raises(PacketHandler):
        def handle(self, packet: Packet) -> None:
            raise RuntimeError("okfn")

    bench.add("a", NF_ACCEPT)
    with pytest.raises(RuntimeError, match="okfn"):
        bench.hooks.nf_hook(POINT, Packet(b""), None, None, Raises())
    assert bench.net.mib.netfilter.hook_errors == 0


# -- changing the hooks while a packet passes


def test_a_function_may_unregister_itself_and_others(bench: Bench) -> None:
    handles: list[HookEntry] = []

    def leave(state: HookState) -> int:
        bench.log.append("leave")
        for handle in handles:
            bench.hooks.nf_unregister_hook(handle)
        return NF_ACCEPT

    handles.append(bench.hooks.nf_register_hook(POINT, leave))
    handles.append(bench.add("b", NF_DROP))
    bench.add("c", NF_ACCEPT)
    bench.send()
    bench.send()
    assert bench.log == ["leave", "c", "c"], "what is unregistered is never called again"


def test_a_function_that_is_added_meanwhile_is_asked_from_the_next_packet_on(bench: Bench) -> None:
    added: list[HookEntry] = []

    def grow(state: HookState) -> int:
        if not added:
            added.append(bench.add("new", NF_ACCEPT, priority=10))
        return NF_ACCEPT

    bench.hooks.nf_register_hook(POINT, grow)
    bench.send()
    assert bench.log == []
    bench.send()
    assert bench.log == ["new"]


# -- the queue


def test_queue_without_a_listener_drops(bench: Bench) -> None:
    bench.add("a", NF_QUEUE)
    bench.add("b", NF_ACCEPT)
    _, code = bench.send()
    assert bench.log == ["a"] and bench.net.drops == {Reason.NF_QUEUE_UNBOUND: 1}
    assert bench.accounts() == (0, 1, 0) and code == 0


def test_queue_with_bypass_goes_on_without_a_listener(bench: Bench) -> None:
    bench.add("a", nf_queue_nr(3) | NF_VERDICT_FLAG_QUEUE_BYPASS)
    bench.add("b", NF_ACCEPT)
    bench.send()
    assert bench.log == ["a", "b"] and bench.accounts() == (1, 0, 0)


def test_bypass_does_not_pass_by_a_listener(bench: Bench) -> None:
    listener = Listener()
    bench.hooks.nf_register_queue_handler(listener)
    bench.add("a", nf_queue_nr(3) | NF_VERDICT_FLAG_QUEUE_BYPASS)
    bench.send()
    assert [entry.queue for entry in listener.entries] == [3] and bench.accounts() == (0, 0, 1)


def test_an_accepted_packet_goes_on_after_who_queued_it(bench: Bench) -> None:
    """nf_reinject: "Continue traversal iff userspace said ok"."""
    listener = Listener()
    bench.hooks.nf_register_queue_handler(listener)
    bench.add("a", NF_ACCEPT)
    bench.add("b", NF_QUEUE)
    bench.add("c", NF_ACCEPT)
    packet, code = bench.send()
    assert (bench.log, bench.okfn.packets, code) == (["a", "b"], [], 0) and bench.accounts() == (0, 0, 1)
    assert bench.hooks.nf_reinject(listener.entries[0], NF_ACCEPT)
    assert bench.log == ["a", "b", "c"] and bench.okfn.packets == [packet] and bench.accounts() == (1, 0, 0)


@pytest.mark.parametrize(
    ("verdict", "log", "accounts"),
    [
        (NF_DROP, "ab", (0, 1, 0)),
        (NF_STOP, "ab", (1, 0, 0)),
        (NF_REPEAT, "abbc", (1, 0, 0)),
        (NF_QUEUE, "ab", (0, 0, 1)),
        (77, "ab", (0, 1, 0)),
    ],
)
def test_every_other_verdict_on_a_queued_packet(
    bench: Bench, verdict: int, log: str, accounts: tuple[int, int, int]
) -> None:
    listener = Listener()
    bench.hooks.nf_register_queue_handler(listener)
    bench.add("a", NF_ACCEPT)
    bench.add("b", NF_QUEUE, NF_ACCEPT)
    bench.add("c", NF_ACCEPT)
    bench.send()
    bench.hooks.nf_reinject(listener.entries[0], verdict)
    assert "".join(bench.log) == log and bench.accounts() == accounts


def test_a_verdict_counts_once(bench: Bench) -> None:
    listener = Listener()
    bench.hooks.nf_register_queue_handler(listener)
    bench.add("a", NF_QUEUE)
    bench.send()
    assert bench.hooks.nf_reinject(listener.entries[0], NF_ACCEPT)
    assert not bench.hooks.nf_reinject(listener.entries[0], NF_ACCEPT)
    assert not bench.hooks.nf_reinject(listener.entries[0], NF_DROP)
    assert bench.accounts() == (1, 0, 0) and bench.net.drops == {}


def test_a_packet_may_be_queued_by_several_functions(bench: Bench) -> None:
    listener = Listener()
    bench.hooks.nf_register_queue_handler(listener)
    bench.add("a", nf_queue_nr(1))
    bench.add("b", nf_queue_nr(2))
    bench.send()
    bench.hooks.nf_reinject(listener.entries[0], NF_ACCEPT)
    bench.hooks.nf_reinject(listener.entries[1], NF_ACCEPT)
    assert [entry.queue for entry in listener.entries] == [1, 2] and bench.accounts() == (1, 0, 0)


def test_hooks_may_change_while_a_packet_waits(bench: Bench) -> None:
    """It goes on behind the place where it was queued, in the order that now holds."""
    listener = Listener()
    bench.hooks.nf_register_queue_handler(listener)
    queuer = bench.add("q", NF_QUEUE)
    gone = bench.add("gone", NF_DROP)
    bench.send()
    bench.hooks.nf_unregister_hook(gone)
    bench.hooks.nf_unregister_hook(queuer)
    bench.add("before", NF_DROP, priority=-1)
    bench.add("after", NF_ACCEPT)
    bench.hooks.nf_reinject(listener.entries[0], NF_REPEAT)
    assert bench.log == ["q", "after"] and bench.accounts() == (1, 0, 0)


def test_a_listener_may_change_the_payload(bench: Bench) -> None:
    listener = Listener()
    bench.hooks.nf_register_queue_handler(listener)
    bench.add("a", NF_QUEUE)
    bench.send()
    listener.entries[0].state.packet.buf = b"changed"
    bench.hooks.nf_reinject(listener.entries[0], NF_ACCEPT)
    assert bench.okfn.packets[0].buf == b"changed"


def test_a_listener_without_room_drops(bench: Bench) -> None:
    bench.hooks.nf_register_queue_handler(Listener(limit=2))
    bench.add("a", NF_QUEUE)
    for _ in range(5):
        bench.send()
    assert bench.net.drops == {Reason.NF_QUEUE_FULL: 3} and bench.accounts() == (0, 3, 2)


def test_the_queue_is_bounded_whatever_the_listener_takes(bench: Bench) -> None:
    bench.hooks.queue_maxlen = 10
    bench.hooks.nf_register_queue_handler(Listener())
    bench.add("a", NF_QUEUE)
    for _ in range(50):
        bench.send()
    assert bench.net.drops == {Reason.NF_QUEUE_FULL: 40} and bench.accounts() == (0, 40, 10)


def test_a_listener_that_raises_drops(bench: Bench) -> None:
    bench.hooks.nf_register_queue_handler(Broken())
    bench.add("a", NF_QUEUE)
    bench.send()
    assert bench.net.drops == {Reason.NF_QUEUE_FULL: 1} and bench.accounts() == (0, 1, 0)
    assert bench.hooks.last_error == "RuntimeError: listener" and bench.net.mib.netfilter.hook_errors == 1


def test_a_listener_may_answer_at_once(bench: Bench) -> None:
    class Eager(QueueHandler):
        def enqueue(self, packet: Packet, entry: QueueEntry) -> bool:
            return bench.hooks.nf_reinject(entry, NF_ACCEPT)

    bench.hooks.nf_register_queue_handler(Eager())
    bench.add("a", NF_QUEUE)
    bench.add("b", NF_ACCEPT)
    bench.send()
    assert bench.log == ["a", "b"] and bench.accounts() == (1, 0, 0)


def test_one_listener_at_a_time_and_its_leaving_empties_the_queue(bench: Bench) -> None:
    listener = Listener()
    bench.hooks.nf_register_queue_handler(listener)
    with pytest.raises(OSError) as raised:
        bench.hooks.nf_register_queue_handler(Listener())
    assert raised.value.errno == errno.EBUSY
    bench.add("a", NF_QUEUE)
    bench.send()
    bench.hooks.nf_unregister_queue_handler()
    assert bench.net.drops == {Reason.NF_QUEUE_UNBOUND: 1} and bench.accounts() == (0, 1, 0)
    assert not bench.hooks.nf_reinject(listener.entries[0], NF_ACCEPT)
    bench.hooks.nf_register_queue_handler(Listener())


# -- whatever is registered


VERDICTS = st.sampled_from([NF_DROP, NF_ACCEPT, NF_ACCEPT, NF_ACCEPT, NF_QUEUE, NF_REPEAT, NF_STOP, 9, -5])


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(VERDICTS, st.integers(-2, 2)), max_size=8), st.lists(VERDICTS, max_size=5))
def test_every_packet_ends_once(functions: list[tuple[int, int]], answers: list[int]) -> None:
    bench = Bench()
    listener = Listener()
    bench.hooks.nf_register_queue_handler(listener)
    for verdict, priority in functions:
        bench.add("x", verdict, priority=priority)
    for _ in range(3):
        bench.send()
    for answer in answers:
        for entry in listener.entries[:]:
            bench.hooks.nf_reinject(entry, answer)
        bench.accounts()
    bench.hooks.nf_unregister_queue_handler()
    delivered, dropped, waiting = bench.accounts()
    assert delivered + dropped == 3 and waiting == 0 and delivered == len(bench.okfn.packets)
