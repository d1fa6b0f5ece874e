"""rtnetlink over the control socket: answers in pieces, a stream of events, and clients who do not read."""

from __future__ import annotations

import errno
import socket
import threading
from typing import TYPE_CHECKING

import msgspec
import pytest

from tests.io.test_server import Guest, House
from ustack.io import control
from ustack.io.client import Client
from ustack.io.server import EventStream
from ustack.rtnl.dump import PIECE, follow
from ustack.rtnl.messages import (
    BATCH_MAX,
    Ack,
    Event,
    GetSysctl,
    Link,
    Monitor,
    More,
    Nack,
    Objects,
    Route,
    RouteBatch,
    Rtm,
    RtnlAnswer,
    RtnlRequest,
)
from ustack.rtnl.monitor import EVENTS_MAX, WATCHERS_MAX

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ustack.rtnl.messages import Object

LO = 1


class Inn(House):
    """A house that sees its guests off."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.guests: list[Guest] = []

    def guest(self) -> Guest:
        self.guests.append(super().guest())
        return self.guests[-1]

    def close(self) -> None:
        super().close()
        for guest in self.guests:
            guest.socket.close()


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    built = Inn(tmp_path)
    yield built
    built.close()


def request(guest: Guest, question: RtnlRequest) -> RtnlAnswer:
    answer = guest.ask(question)
    assert isinstance(answer, RtnlAnswer)
    return answer


def change(house: House, mtu: int) -> None:
    assert house.server.rtnetlink.request(Rtm("new", Link(ifindex=LO, mtu=mtu))) == Ack()


def events(guest: Guest) -> list[Event]:
    """Those that have come so far."""
    found: list[Event] = []
    for message in guest.arrived():
        event = control.decode_answer(message)
        assert isinstance(event, Event)
        found.append(event)
    return found


# -- requests


def test_a_request_is_answered_on_the_control_socket(house: House) -> None:
    answer = request(house.guest(), Rtm("get", Link(name="lo")))
    assert isinstance(answer, Objects)
    assert [item.ifindex for item in answer.objects if isinstance(item, Link)] == [LO]


def test_a_refusal_is_an_answer(house: House) -> None:
    guest = house.guest()
    assert request(guest, Rtm("get", Link(name="nosuch"))) == Nack(errno.ENODEV)
    assert request(guest, Rtm("new", Link(ifindex=LO, mtu=1 << 40))) == Nack(errno.ERANGE, "integer out of range")
    assert request(guest, Rtm("new", Link(ifindex=LO, mtu=1000))) == Ack()


def test_numbers_that_fit_nowhere_harm_nobody(house: House) -> None:
    guest = house.guest()
    for number in (-1, 1 << 32, (1 << 63) - 1, 1 << 63, (1 << 64) - 1, -(1 << 63)):
        assert request(guest, Rtm("get", Link(ifindex=number))) == Nack(errno.ERANGE, "integer out of range")
        assert request(guest, Rtm("new", Link(ifindex=LO), number)) == Nack(errno.ERANGE, "integer out of range")
        assert request(guest, More(number)) == Nack(errno.ESTALE)
        batch = RouteBatch(Route(metrics={number: 1}), b"")
        assert request(guest, batch) == Nack(errno.ERANGE, "integer out of range")


@pytest.mark.parametrize(
    "message",
    [
        {"type": "rtm", "verb": "eat", "object": {"type": "link"}},
        {"type": "rtm", "verb": "new", "object": {"type": "banana"}},
        {"type": "rtm", "verb": "new", "object": {"type": "link", "ifindex": "two"}},
        {"type": "rtm", "verb": "new"},
        {"type": "routes", "like": {"type": "addr"}, "prefixes": b""},
        {"type": "monitor", "kinds": "link"},
        {"type": "more", "cursor": None},
    ],
)
def test_what_is_no_request_ends_the_conversation(house: House, message: dict[str, object]) -> None:
    guest = house.guest()
    guest.socket.send(msgspec.msgpack.encode(message))
    house.spin()
    answer = control.decode_answer(guest.socket.recv(control.MESSAGE_MAX))
    assert isinstance(answer, control.Failed)
    assert answer.errno == errno.EPROTO
    assert guest.socket.recv(control.MESSAGE_MAX) == b""


def test_a_batch_has_a_size(house: House) -> None:
    guest = house.guest()
    assert request(guest, RouteBatch(Route(), bytes(5 * (BATCH_MAX + 1)))) == Nack(errno.EMSGSIZE)
    assert request(guest, RouteBatch(Route(), bytes(4))) == Nack(errno.EINVAL)


def test_the_largest_batch_fits_a_message() -> None:
    batch = RouteBatch(Route(metrics=dict.fromkeys(range(17), 1 << 31)), bytes(5 * BATCH_MAX))
    assert len(control.encode_request(batch)) < control.MESSAGE_MAX


def test_a_long_answer_comes_in_pieces(house: House) -> None:
    def links() -> Iterator[Object | None]:
        for ifindex in range(3 * PIECE):
            yield Link(ifindex=ifindex, name="a name of some length", stats={"rx_packets": 1 << 60})

    guest = house.guest()
    first = house.server.rtnetlink.cursors.begin(links())
    pieces = list(follow(lambda question: request(guest, question), More(first.cursor)))
    assert sum(map(len, pieces)) == 2 * PIECE


# -- events


def test_a_monitor_hears_of_changes(house: House) -> None:
    guest = house.guest()
    assert request(guest, Monitor(["link"])) == Ack()
    change(house, 1000)
    change(house, 1001)
    told = [event.object for event in events(guest)]
    assert [item.mtu for item in told if isinstance(item, Link)] == [1000, 1001]


def test_a_monitor_of_nonsense_is_refused_and_the_connection_goes_on(house: House) -> None:
    guest = house.guest()
    assert request(guest, Monitor(["weather"])) == Nack(errno.EINVAL)
    assert request(guest, Monitor([])) == Ack()


def test_a_monitor_asks_nothing_more(house: House) -> None:
    guest = house.guest()
    assert request(guest, Monitor([])) == Ack()
    assert guest.failure(GetSysctl("")) == errno.EPROTO
    assert guest.socket.recv(control.MESSAGE_MAX) == b""
    assert house.server.rtnetlink.monitors.subscriptions == []


def test_one_who_does_not_read_loses_events_and_costs_no_more_memory(house: House) -> None:
    guest = house.guest()
    assert request(guest, Monitor(["link"])) == Ack()
    for at in range(3 * EVENTS_MAX):
        change(house, 1000 + at % 2)
        if at % 64 == 0:
            house.spin(2)
    (client,) = house.server.clients
    assert isinstance(client.stream, EventStream)
    assert len(client.stream.events) == EVENTS_MAX
    assert len(client.answers) <= 1
    lost = client.stream.lost
    assert lost > 0
    assert len(events(guest)) == 3 * EVENTS_MAX - lost
    change(house, 1400)
    assert [event.lost for event in events(guest)] == [lost]


def test_a_monitor_that_leaves_is_forgotten(house: House) -> None:
    guest = house.guest()
    assert request(guest, Monitor([])) == Ack()
    change(house, 1000)
    guest.socket.close()
    house.spin()
    assert house.server.rtnetlink.monitors.subscriptions == []
    assert house.loop.stack.net.rtnl_watchers == []
    change(house, 1001)
    house.spin()


def test_there_is_room_for_so_many_monitors(house: House) -> None:
    guests = [house.guest() for _ in range(WATCHERS_MAX + 1)]
    assert [request(guest, Monitor([])) for guest in guests] == [Ack()] * WATCHERS_MAX + [Nack(errno.ENOBUFS)]


# -- the client's side


class Served:
    """A house that is served while the test waits."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.serve)
        self.thread.start()

    def serve(self) -> None:
        while not self.over.is_set():
            self.house.loop.step(1_000_000)

    def close(self) -> None:
        self.over.set()
        self.thread.join()


@pytest.fixture
def client(house: House) -> Iterator[Client]:
    served = Served(house)
    with Client(house.path) as made:
        yield made
    served.close()


def test_a_client_gets_objects_piece_by_piece(client: Client) -> None:
    pieces = list(client.objects(Rtm("dump", Link())))
    assert [[item.name for item in piece if isinstance(item, Link)] for piece in pieces] == [["lo"]]


def test_a_client_sees_a_refusal_as_the_error_it_is(client: Client) -> None:
    assert client.request(Rtm("get", Link(ifindex=9))) == Nack(errno.ENODEV)
    with pytest.raises(OSError) as caught:
        list(client.objects(Rtm("get", Link(ifindex=9))))
    assert caught.value.errno == errno.ENODEV


def test_a_client_follows_events(house: House, client: Client) -> None:
    with Client(house.path) as other:
        following = client.events(["link"])
        first = threading.Timer(0.1, lambda: other.request(Rtm("new", Link(ifindex=LO, mtu=1234))))
        first.start()
        event = next(following)
        assert isinstance(event.object, Link)
        assert event.object.mtu == 1234
        first.join()


def test_events_end_with_the_daemon(house: House, client: Client) -> None:
    following = client.events(["link"])
    end = threading.Timer(0.1, lambda: socket.socket.shutdown(client._connection, socket.SHUT_RDWR))
    end.start()
    with pytest.raises(OSError) as caught:
        next(following)
    assert caught.value.errno == errno.ECONNRESET
    end.join()


def test_a_client_cannot_follow_what_is_no_kind(client: Client) -> None:
    with pytest.raises(OSError) as caught:
        next(client.events(["weather"]))
    assert caught.value.errno == errno.EINVAL
