"""The steps at netfilter's hooks: who was asked, with which priority, and each of the verdicts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.harness import Verdicts, code_of
from tests.harness import udp as bound
from tests.trace.below import PEER, SEC, Target, ip, names, udp
from tests.trace.watch import Watch, decision, step
from ustack.netfilter.hooks import (
    NF_ACCEPT,
    NF_DROP,
    NF_INET_FORWARD,
    NF_INET_LOCAL_IN,
    NF_INET_LOCAL_OUT,
    NF_INET_POST_ROUTING,
    NF_INET_PRE_ROUTING,
    NF_MAX_REPEAT,
    NF_QUEUE,
    NF_REPEAT,
    NF_STOLEN,
    NF_STOP,
    NF_VERDICT_FLAG_QUEUE_BYPASS,
    HookState,
    nf_drop_err,
    nf_queue_nr,
)
from ustack.trace.journey import DELIVERED, DROPPED, SENT, STOLEN
from ustack.trace.points import Point

if TYPE_CHECKING:
    from ustack.packet import Packet
    from ustack.trace.journey import Journey, Step

BEYOND = "203.0.113.2"


class Guard:
    """A hook function that answers what it is told to, one after the other, the last for good."""

    def __init__(self, *verdicts: int) -> None:
        self.verdicts = list(verdicts)
        self.held: list[Packet] = []

    def judge(self, state: HookState) -> int:
        self.held.append(state.packet)
        return self.verdicts.pop(0) if len(self.verdicts) > 1 else self.verdicts[0]


def asked(journey: Journey) -> list[Step]:
    return [each for each in journey.steps if each.point is Point.NF_HOOK_SLOW]


def verdicts(journey: Journey) -> list[str]:
    return [str(each.decision) for each in asked(journey)]


def guarded(*answers: int, point: int = NF_INET_PRE_ROUTING, priority: int = 0) -> tuple[Target, Guard]:
    target = Target(forward=True)
    guard = Guard(*answers)
    target.stack.hooks.nf_register_hook(point, guard.judge, priority)
    return target, guard


def test_nobody_is_no_step() -> None:
    target = Target(forward=True)
    with Watch(a=target.stack) as watch:
        target.receive(ip(17, udp(), daddr=BEYOND))
        target.sent()
        assert verdicts(watch.one()) == []


def test_everybody_on_the_way_is_told() -> None:
    target = Target(forward=True)
    points = [NF_INET_PRE_ROUTING, NF_INET_LOCAL_IN, NF_INET_FORWARD, NF_INET_LOCAL_OUT, NF_INET_POST_ROUTING]
    for point in points:
        for priority in (100, -200):
            target.stack.hooks.nf_register_hook(point, Guard(NF_ACCEPT).judge, priority)
    with Watch(a=target.stack) as watch:
        bound(target.stack, "", 7)
        target.receive(ip(17, udp(), daddr=BEYOND))
        target.sent()
        told = [(each.facts["hook"], each.facts["priority"], each.decision) for each in asked(watch.one())]
        assert told == [
            (hook, priority, "ACCEPT")
            for hook in ("PRE_ROUTING", "FORWARD", "POST_ROUTING")
            for priority in (-200, 100)
        ]
        assert {each.facts["function"] for each in asked(watch.one())} == {"Guard.judge"}
        watch.forget()
        target.receive(ip(17, udp()))
        watch.end()
        assert [each.facts["hook"] for each in asked(watch.one())] == ["PRE_ROUTING"] * 2 + ["LOCAL_IN"] * 2
        watch.forget()
        bound(target.stack, "", 5000).sendto(b"muffin", (PEER, 7))
        target.sent()
        assert [each.facts["hook"] for each in asked(watch.one())] == ["LOCAL_OUT"] * 2 + ["POST_ROUTING"] * 2


def test_drop() -> None:
    target, _ = guarded(NF_DROP)
    after = Guard(NF_ACCEPT)
    target.stack.hooks.nf_register_hook(NF_INET_PRE_ROUTING, after.judge, 1)
    with Watch(a=target.stack) as watch:
        target.receive(ip(17, udp()))
        journey = watch.one()
        assert verdicts(journey) == ["DROP"] and after.held == []
        assert (journey.outcome, journey.reason) == (DROPPED, "NETFILTER_DROP")
        assert names(journey)[-2:] == ["NF_HOOK_SLOW", "KFREE_SKB"]


def test_drop_with_a_word_for_the_sender() -> None:
    target, _ = guarded(nf_drop_err(101), point=NF_INET_LOCAL_OUT)
    with Watch(a=target.stack) as watch:
        sock = bound(target.stack, "", 5000)
        assert code_of(lambda: sock.sendto(b"muffin", (PEER, 7))) == 101
        assert verdicts(watch.one()) == ["DROP, errno 101"]


def test_stolen() -> None:
    target, guard = guarded(NF_STOLEN)
    with Watch(a=target.stack) as watch:
        target.receive(ip(17, udp()))
        journey = watch.one()
        assert verdicts(journey) == ["STOLEN"] and journey.outcome == STOLEN
        target.stack.net.deliver(guard.held[0])
        assert len(watch.done) == 1


def test_stop_asks_nobody_else() -> None:
    target, _ = guarded(NF_STOP)
    target.stack.hooks.nf_register_hook(NF_INET_PRE_ROUTING, Guard(NF_DROP).judge, 1)
    with Watch(a=target.stack) as watch:
        target.receive(ip(17, udp(), daddr=BEYOND))
        target.sent()
        assert verdicts(watch.one()) == ["STOP"] and watch.one().outcome == SENT


def test_repeat() -> None:
    target, _ = guarded(NF_REPEAT, NF_REPEAT, NF_ACCEPT)
    with Watch(a=target.stack) as watch:
        target.receive(ip(17, udp(), daddr=BEYOND))
        target.sent()
        assert verdicts(watch.one()) == ["REPEAT", "REPEAT", "ACCEPT"]


def test_repeat_for_ever() -> None:
    target, _ = guarded(NF_REPEAT)
    with Watch(a=target.stack) as watch:
        target.receive(ip(17, udp(), daddr=BEYOND))
        assert verdicts(watch.one()) == ["REPEAT"] * (NF_MAX_REPEAT + 1)
        assert watch.one().reason == "NF_REPEAT_LIMIT"


def test_queue_and_the_verdict_from_outside() -> None:
    target, _ = guarded(nf_queue_nr(7))
    listener = Verdicts()
    target.stack.hooks.nf_register_queue_handler(listener)
    target.stack.hooks.nf_register_hook(NF_INET_PRE_ROUTING, Guard(NF_ACCEPT).judge, 1)
    with Watch(a=target.stack) as watch:
        target.receive(ip(17, udp(), daddr=BEYOND))
        target.wait(30 * SEC)
        assert watch.done == []  # it has the patience of whoever decides
        target.stack.hooks.nf_reinject(listener.entries[0], NF_ACCEPT)
        target.sent()
        journey = watch.one()
        assert journey.outcome == SENT and verdicts(journey) == ["QUEUE", "ACCEPT"]
        queued, back = step(journey, Point.NF_QUEUE), step(journey, Point.NF_REINJECT)
        assert queued.facts == {"queue": 7, "waiting": 1, "limit": 1024}
        assert (back.decision, back.facts) == ("ACCEPT", {"queue": 7})
        assert int(back.now) - int(queued.now) == 30 * SEC


def test_queue_where_nobody_listens() -> None:
    target, _ = guarded(NF_QUEUE)
    with Watch(a=target.stack) as watch:
        target.receive(ip(17, udp(), daddr=BEYOND))
        assert verdicts(watch.one()) == ["QUEUE"] and watch.one().reason == "NF_QUEUE_UNBOUND"
        assert "NF_QUEUE" not in names(watch.one())
    target, _ = guarded(NF_QUEUE | NF_VERDICT_FLAG_QUEUE_BYPASS)
    with Watch(a=target.stack) as watch:
        target.receive(ip(17, udp(), daddr=BEYOND))
        target.sent()
        assert verdicts(watch.one()) == ["QUEUE"] and watch.one().outcome == SENT


def test_queue_that_is_full_and_one_that_goes_away() -> None:
    target, _ = guarded(NF_QUEUE)
    target.stack.hooks.queue_maxlen = 1
    target.stack.hooks.nf_register_queue_handler(Verdicts())
    with Watch(a=target.stack) as watch:
        target.receive(ip(17, udp(), daddr=BEYOND))
        target.receive(ip(17, udp(), daddr=BEYOND))
        assert watch.one().reason == "NF_QUEUE_FULL"
        target.stack.hooks.nf_unregister_queue_handler()
        assert [journey.reason for journey in watch.all()] == ["NF_QUEUE_UNBOUND", "NF_QUEUE_FULL"]


@pytest.mark.parametrize("verdict", [NF_DROP, NF_STOLEN])
def test_a_verdict_from_outside_that_ends_it(verdict: int) -> None:
    target, _ = guarded(NF_QUEUE)
    listener = Verdicts()
    target.stack.hooks.nf_register_queue_handler(listener)
    with Watch(a=target.stack) as watch:
        target.receive(ip(17, udp(), daddr=BEYOND))
        target.stack.hooks.nf_reinject(listener.entries[0], verdict)
        journey = watch.one()
        assert decision(journey, Point.NF_REINJECT) == ("DROP" if verdict == NF_DROP else "STOLEN")
        assert journey.outcome == (DROPPED if verdict == NF_DROP else STOLEN)
        if verdict == NF_STOLEN:
            target.stack.net.deliver(listener.entries[0].state.packet)


def test_what_is_no_verdict() -> None:
    target, _ = guarded(77)

    def broken(state: HookState) -> int:
        raise RuntimeError("muffin")

    with Watch(a=target.stack) as watch:
        target.receive(ip(17, udp(), daddr=BEYOND))
        assert verdicts(watch.one()) == ["DROP"] and watch.one().reason == "NETFILTER_DROP"
        watch.forget()
        target.stack.hooks.nf_register_hook(NF_INET_PRE_ROUTING, broken, -1)
        target.receive(ip(17, udp(), daddr=BEYOND))
        assert verdicts(watch.one()) == ["DROP"]
        assert "broken" in str(asked(watch.one())[0].facts["function"])


def test_a_packet_that_a_function_ends_itself() -> None:
    """The journey is over before the verdict is known: DELIVERED here, and nothing comes after."""
    target = Target(forward=True)

    def eat(state: HookState) -> int:
        target.stack.net.deliver(state.packet)
        return NF_STOLEN

    target.stack.hooks.nf_register_hook(NF_INET_PRE_ROUTING, eat)
    with Watch(a=target.stack) as watch:
        target.receive(ip(17, udp(), daddr=BEYOND))
        watch.end()
        assert verdicts(watch.one()) == ["STOLEN"] and watch.one().outcome in (STOLEN, DELIVERED)
