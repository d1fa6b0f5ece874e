"""A stack with two devices, asked in process."""

from __future__ import annotations

from typing import TypeVar

from ustack.device.e1000 import E1000
from ustack.device.ring import NicRegisters
from ustack.routing.uapi import NLM_F_CREATE, NLM_F_EXCL
from ustack.rtnl.messages import Ack, Addr, Event, Message, Nack, Object, Objects, Rtm, RtnlAnswer, Verb
from ustack.rtnl.monitor import Subscription
from ustack.rtnl.rtnetlink import Rtnetlink
from ustack.stack import Stack
from ustack.wire.ipv4 import str_to_addr

ADD = NLM_F_CREATE | NLM_F_EXCL
LO, ETH0, ETH1 = 1, 2, 3
MAC0, MAC1 = 0x020000000010, 0x020000000011

O = TypeVar("O", bound=Message)  # noqa: E741


def ip(text: str) -> int:
    return int(str_to_addr(text))


def prefix(text: str) -> tuple[int, int]:
    """("192.0.2.0/24") as (address, 24)."""
    address, _, length = text.partition("/")
    return ip(address), int(length or 32)


class Place:
    """``lo``, ``eth0`` and ``eth1``, all up, the latter two without addresses."""

    def __init__(self) -> None:
        self.stack = Stack(bytes(32), 10**9)
        self.eth0 = E1000(self.stack.devices, "eth0", MAC0, NicRegisters(64))
        self.eth1 = E1000(self.stack.devices, "eth1", MAC1, NicRegisters(64))
        self.stack.add_device(self.eth0)
        self.stack.add_device(self.eth1)
        self.rtnetlink = Rtnetlink(self.stack)

    def ask(self, verb: Verb, what: Object, flags: int = 0) -> RtnlAnswer:
        return self.rtnetlink.request(Rtm(verb, what, flags))

    def do(self, verb: Verb, what: Object, flags: int = 0) -> None:
        assert self.ask(verb, what, flags) == Ack()

    def add(self, what: Object) -> None:
        self.do("new", what, ADD)

    def refusal(self, verb: Verb, what: Object, flags: int = 0) -> tuple[int, str]:
        """(errno, text) of the Nack that answers."""
        answer = self.ask(verb, what, flags)
        assert isinstance(answer, Nack), answer
        return answer.errno, answer.text

    def objects(self, verb: Verb, what: O) -> list[O]:
        """What a get, dump or flush answers with, all of the kind that was asked for."""
        answer = self.ask(verb, what)  # type: ignore[arg-type]
        assert isinstance(answer, Objects), answer
        found: list[O] = [item for item in answer.objects if isinstance(item, type(what))]
        assert len(found) == len(answer.objects)
        return found

    def watch(self, *kinds: str) -> Subscription:
        subscription = Subscription(list(kinds))
        self.rtnetlink.monitors.subscribe(subscription)
        return subscription


#: On the link of eth0 in a place that is linked; on none.
GW, OTHER = ip("192.0.2.254"), ip("192.0.2.253")
FAR = ip("203.0.113.99")


def linked(place: Place) -> Place:
    """eth0 with 192.0.2.1/24, eth1 with 198.51.100.1/24."""
    place.add(Addr(ifindex=ETH0, local=ip("192.0.2.1"), prefixlen=24))
    place.add(Addr(ifindex=ETH1, local=ip("198.51.100.1"), prefixlen=24))
    return place


def taken(subscription: Subscription) -> list[Event]:
    events = list(subscription.events)
    subscription.events.clear()
    return events
