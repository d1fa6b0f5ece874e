"""Traces over the control socket: who may watch, what comes, and that one who does not read costs nothing more."""

from __future__ import annotations

import errno
import threading
import time
from typing import TYPE_CHECKING

import msgspec
import pytest

from tests.io.test_rtnl import Inn, Served
from ustack.inet.family import SOCK_DGRAM
from ustack.inet.sockaddr import AF_INET, SockaddrIn
from ustack.io import control
from ustack.io.client import Client
from ustack.io.server import TraceStream
from ustack.io.subscriber import JOURNEYS_WAITING, Subscriber
from ustack.io.trace import TraceEvent, journey_info
from ustack.net import Net
from ustack.packet import Packet
from ustack.trace.journey import DELIVERED, DROPPED, WATCHERS_MAX, Journeys
from ustack.trace.points import Point

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.io.test_server import Guest, House
    from ustack.inet.socket import Socket
    from ustack.trace.bpf import Instruction

LOCALHOST = 0x7F00_0001
MUFFIN_PORT = 4747
ALL: list[Instruction] = [(0x06, 0, 0, 1)]
#: udp dst port 4747
MUFFINS: list[Instruction] = [
    (0x28, 0, 0, 12),
    (0x15, 0, 4, 0x0800),
    (0x30, 0, 0, 23),
    (0x15, 0, 2, 17),
    (0x28, 0, 0, 36),
    (0x15, 1, 0, MUFFIN_PORT),
    (0x06, 0, 0, 0),
    (0x06, 0, 0, 1),
]
ETHERNET = bytes(12) + b"\x08\x00"
FIRST, SECOND = list(Point)[:2]


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    built = Inn(tmp_path)
    yield built
    built.close()


def watch(house: House, program: list[Instruction]) -> Guest:
    guest = house.guest()
    assert guest.ask(control.Trace(program)) == control.Done()
    return guest


def told(guest: Guest) -> list[TraceEvent]:
    """What has come so far."""
    found: list[TraceEvent] = []
    reader = control.AnswerReader()
    for message in guest.arrived():
        event = reader.feed(message)
        if event is not None:
            assert isinstance(event, TraceEvent)
            found.append(event)
    return found


def lose(house: House) -> None:
    """One packet comes and goes."""
    tracer = house.loop.stack.net.tracer
    if tracer is not None:
        packet = Packet(ETHERNET + b"muffin")
        tracer.received(packet)
        if packet.journey is not None:
            packet.journey.step(FIRST, "accept", {"n": 1})
            packet.journey.finish(DROPPED, "NO_SOCKET")


# -- what comes


def test_who_watches_gets_the_whole_way(house: House) -> None:
    guest = watch(house, ALL)
    before = time.time_ns()
    lose(house)
    (event,) = told(guest)
    journey = event.journey
    assert event.lost == 0
    assert (journey.ident, journey.parent, journey.cause, journey.lost) == (1, 0, 0, 0)
    assert (journey.frame, journey.length) == (ETHERNET + b"muffin", 20)
    assert journey.packet == "IP [|ip]"
    assert (journey.outcome, journey.reason) == (DROPPED, "NO_SOCKET")
    (step,) = journey.steps
    assert (step.point, step.decision, step.facts) == (FIRST.name, "accept", {"n": 1})
    # by the clock on the wall; the stack's stands still while nothing happens
    assert abs(journey.began - before) < 60_000_000_000
    assert journey.began == step.time == journey.ended


def test_only_what_the_filter_accepts_comes(house: House) -> None:
    guest = watch(house, [(0x28, 0, 0, 14), (0x16, 0, 0, 0)])  # the first two bytes behind the header are not 0
    net = house.loop.stack.net
    assert net.tracer is not None
    for payload in (b"\0\0cake", b"muffin"):
        packet = Packet(ETHERNET + payload)
        net.tracer.received(packet)
        if packet.journey is not None:
            packet.journey.finish(DELIVERED)
    assert [event.journey.frame[14:] for event in told(guest)] == [b"muffin"]


def muffin_sockets(house: House) -> tuple[Socket, Socket]:
    stack = house.loop.stack
    server = stack.socket(AF_INET, SOCK_DGRAM)
    server.bind(SockaddrIn(LOCALHOST, MUFFIN_PORT))
    return stack.socket(AF_INET, SOCK_DGRAM), server


def test_a_muffin_over_the_loopback(house: House) -> None:
    """Sent, looped, received and read: one journey, of the daemon's own stack."""
    client, server = muffin_sockets(house)
    guest = watch(house, MUFFINS)
    client.sendto(b"muffin", SockaddrIn(LOCALHOST, MUFFIN_PORT))
    house.spin()
    assert told(guest) == [], "nobody has read it"
    server.recvfrom(100)
    (event,) = told(guest)
    assert event.journey.outcome == DELIVERED
    assert event.journey.packet.startswith("IP 127.0.0.1.")
    assert event.journey.packet.endswith("> 127.0.0.1.4747: UDP, length 6")
    assert len(event.journey.steps) > 10
    points = [step.point for step in event.journey.steps]
    assert points.index("IP_LOCAL_OUT") < points.index("NETIF_RECEIVE_SKB")


def test_a_way_longer_than_a_message_comes_whole(house: House) -> None:
    guest = watch(house, ALL)
    net = house.loop.stack.net
    assert net.tracer is not None
    packet = Packet(ETHERNET + bytes(1500))
    net.tracer.received(packet)
    assert packet.journey is not None
    for _ in range(200):
        packet.journey.step(SECOND, "long", {"words": "muffin " * 100})
    packet.journey.finish(DELIVERED)
    (event,) = told(guest)
    assert len(control.encode_answer(event)) > 2
    assert len(event.journey.steps) == 200


# -- who may watch


@pytest.mark.parametrize(
    "program", [[], [(0, 0, 0, 0)], [(0x06, 0, 0, 1 << 40)], [(0x05, 0, 0, 7), (6, 0, 0, 0)], [(6, 0, 0, 0)] * 4097]
)
def test_a_program_that_may_not_run_is_refused_and_the_connection_goes_on(
    house: House, program: list[Instruction]
) -> None:
    guest = house.guest()
    assert guest.failure(control.Trace(program)) == errno.EINVAL
    assert house.loop.stack.net.tracer is None
    assert guest.ask(control.Trace([(6, 0, 0, 0)] * 4096)) == control.Done()


@pytest.mark.parametrize("program", ["udp", [1, 2], [[1, 2, 3]], [[1, 2, 3, "x"]], None])
def test_what_is_no_program_ends_the_conversation(house: House, program: object) -> None:
    guest = house.guest()
    guest.socket.send(msgspec.msgpack.encode({"type": "trace", "program": program}))
    house.spin()
    answer = control.decode_answer(guest.socket.recv(control.MESSAGE_MAX))
    assert isinstance(answer, control.Failed)
    assert answer.errno == errno.EPROTO


def test_there_is_room_for_so_many(house: House) -> None:
    for _ in range(WATCHERS_MAX):
        watch(house, ALL)
    assert house.guest().failure(control.Trace(ALL)) == errno.ENOBUFS


def test_who_watches_asks_nothing_more(house: House) -> None:
    guest = watch(house, ALL)
    assert guest.failure(control.GetStatus()) == errno.EPROTO
    assert guest.socket.recv(control.MESSAGE_MAX) == b""
    assert house.loop.stack.net.tracer is None


def test_who_leaves_takes_the_tracer_along(house: House) -> None:
    first, second = watch(house, ALL), watch(house, ALL)
    lose(house)
    first.socket.close()
    house.spin()
    assert house.loop.stack.net.tracer is not None
    lose(house)
    assert len(told(second)) == 2
    second.socket.close()
    house.spin()
    assert house.loop.stack.net.tracer is None
    assert house.server.journeys.watchers == []
    lose(house)


def test_one_who_does_not_read_loses_journeys_and_costs_no_more_memory(house: House) -> None:
    guest = watch(house, ALL)
    other = watch(house, ALL)
    everything = 3 * JOURNEYS_WAITING
    seen = 0
    for at in range(everything):
        lose(house)
        if at % 64 == 63:
            house.spin(2)
            seen += len(told(other))
    (stream,) = [
        client.stream
        for client in house.server.clients
        if isinstance(client.stream, TraceStream) and client.stream.lost
    ]
    lost = stream.lost
    assert seen == everything, "only who does not read loses"
    assert len(told(guest)) == everything - lost
    lose(house)
    assert [event.lost for event in told(guest)] == [lost]
    lose(house)
    assert [event.lost for event in told(guest)] == [0]


# -- the subscriber by itself


def test_a_subscriber_keeps_the_first_and_counts_the_rest() -> None:
    net = Net(bytes(16))
    journeys = Journeys()
    journeys.join(net, "a")
    subscriber = Subscriber(ALL, epoch=1000)
    journeys.watch(subscriber)
    assert net.tracer is not None
    for _ in range(JOURNEYS_WAITING + 5):
        packet = Packet(ETHERNET + b"muffin")
        net.tracer.received(packet)
        assert packet.journey is not None
        packet.journey.finish(DELIVERED)
    assert subscriber.lost == 5
    events = []
    while (event := subscriber.take()) is not None:
        events.append(event)
    assert [event.journey.ident for event in events] == list(range(1, JOURNEYS_WAITING + 1))
    assert {event.journey.began for event in events} == {1000}
    assert {event.lost for event in events} == {0}
    assert subscriber.take() is None


def test_a_journey_is_told_as_it_is() -> None:
    """Of one that goes on there is no end yet."""
    net = Net(bytes(16), 7)
    journeys = Journeys()
    tracer = journeys.join(net, "a")
    journeys.watch(Subscriber(ALL))
    tracer.call(FIRST, "sendto")
    packet = Packet(b"")
    tracer.built(packet, ETHERNET)
    assert packet.journey is not None
    info = journey_info(packet.journey)
    assert (info.outcome, info.reason, info.ended, info.host) == ("", "", 0, "a")
    assert [(step.point, step.time, step.host) for step in info.steps] == [(FIRST.name, 7, "a")]
    assert msgspec.json.decode(msgspec.json.encode(info), type=type(info)) == info


# -- the client's side


@pytest.fixture
def client(house: House) -> Iterator[Client]:
    served = Served(house)
    with Client(house.path) as made:
        yield made
    served.close()


def test_a_client_follows_journeys(house: House, client: Client) -> None:
    following = client.trace(MUFFINS)
    with Client(house.path) as other:
        socket_id, fd = other.open(AF_INET, SOCK_DGRAM, 0)
        with open(fd, "wb", buffering=0) as sock:
            sock.write(control.encode_datagram_header(LOCALHOST, MUFFIN_PORT) + b"muffin")
            event = next(following)
        assert event.journey.outcome == DROPPED
        assert event.journey.reason == "NO_SOCKET"
        assert event.journey.packet.endswith("> 127.0.0.1.4747: UDP, length 6")
        assert socket_id


def test_a_client_sees_a_refusal_as_the_error_it_is(client: Client) -> None:
    with pytest.raises(OSError) as caught:
        client.trace([(0x05, 0, 0, 7)])
    assert caught.value.errno == errno.EINVAL


def test_a_trace_ends_with_the_daemon(house: House, client: Client) -> None:
    following = client.trace(ALL)
    end = threading.Timer(0.1, lambda: next(iter(house.server.clients)).connection.shutdown(2))
    end.start()
    with pytest.raises(OSError) as caught:
        next(following)
    assert caught.value.errno == errno.ECONNRESET
    end.join()
