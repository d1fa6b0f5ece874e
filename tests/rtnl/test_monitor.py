"""Those who watch: what they are told, and what happens when they do not listen."""

from __future__ import annotations

import errno

import pytest

from tests.rtnl.place import ETH0, ETH1, Place, taken
from ustack.rtnl.messages import Link, Monitor, Nack
from ustack.rtnl.monitor import EVENTS_MAX, WATCHERS_MAX, Subscription


def change(place: Place, mtu: int, ifindex: int = ETH0) -> None:
    place.do("new", Link(ifindex=ifindex, mtu=mtu))


def mtus(subscription: Subscription) -> list[int | None]:
    return [event.object.mtu for event in taken(subscription) if isinstance(event.object, Link)]


def test_nobody_is_told_while_nobody_watches(place: Place) -> None:
    assert place.stack.net.rtnl_watchers == []
    watch = place.watch()
    assert len(place.stack.net.rtnl_watchers) == 1
    place.rtnetlink.monitors.unsubscribe(watch)
    place.rtnetlink.monitors.unsubscribe(watch)
    assert place.stack.net.rtnl_watchers == []
    change(place, 1400)
    assert taken(watch) == []


def test_everyone_hears_everything_they_asked_for(place: Place) -> None:
    every, links, addrs = place.watch(), place.watch("link"), place.watch("addr", "route")
    change(place, 1400)
    change(place, 1300, ETH1)
    assert mtus(every) == mtus(links) == [1400, 1300]
    assert taken(addrs) == []


def test_a_kind_that_is_none_is_einval() -> None:
    with pytest.raises(OSError) as caught:
        Subscription(["link", "weather"])
    assert caught.value.errno == errno.EINVAL


def test_what_does_not_fit_is_lost_and_the_next_event_says_so(place: Place) -> None:
    slow, quick = place.watch("link"), place.watch("link")
    for at in range(EVENTS_MAX + 5):
        change(place, 1000 + at % 100 * 2 + at % 2)
        taken(quick)
    assert len(slow.events) == EVENTS_MAX
    assert slow.lost == 5
    taken(slow)
    change(place, 1499)
    change(place, 1498)
    assert [(event.lost, event.deleted) for event in taken(slow)] == [(5, False), (0, False)]
    assert [event.lost for event in taken(quick)] == [0, 0]


def test_there_is_a_limit_to_watchers(place: Place) -> None:
    for _ in range(WATCHERS_MAX):
        place.watch()
    with pytest.raises(OSError) as caught:
        place.watch()
    assert caught.value.errno == errno.ENOBUFS
    assert len(place.stack.net.rtnl_watchers) == 1


def test_a_monitor_request_is_a_connections_business(place: Place) -> None:
    assert place.rtnetlink.request(Monitor([])) == Nack(errno.EOPNOTSUPP)
