"""Net: the account that always balances, and the one way to lose a packet."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ustack.drop import Reason
from ustack.net import DropWatcher, IcmpSender, Net
from ustack.packet import Packet
from ustack.timer import NEVER

SEED = bytes(16)


class Icmp(IcmpSender):
    def __init__(self) -> None:
        super().__init__()
        self.sent: list[tuple[Packet, int, int, int]] = []

    def icmp_send(self, packet: Packet, icmp_type: int, code: int, info: int) -> None:
        self.sent.append((packet, icmp_type, code, info))


class Watcher(DropWatcher):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[Packet, Reason]] = []

    def dropped(self, packet: Packet, reason: Reason) -> None:
        self.seen.append((packet, reason))


def account(net: Net) -> tuple[int, int, int, int]:
    path = net.mib.path
    return path.received, path.delivered, path.forwarded, path.dropped


def test_a_stack_begins_empty_at_its_time() -> None:
    net = Net(SEED, 12345)
    assert net.now == 12345 and net.timers.next_deadline() == NEVER and net.drops == {}
    assert set(net.mib.snapshot().values()) == {0}


def test_stacks_know_nothing_of_each_other() -> None:
    first, second = Net(SEED), Net(SEED)
    first.drop(Packet(b""), Reason.IP_CSUM)
    first.conf.inet_forward_change(1)
    assert second.drops == {} and second.mib.ip.InHdrErrors == 0 and second.conf.all.forwarding == 0


def test_a_short_seed_is_refused() -> None:
    with pytest.raises(ValueError, match="seed"):
        Net(b"short")


@pytest.mark.parametrize(("end", "expected"), [("deliver", (1, 1, 0, 0)), ("forward", (1, 0, 1, 0))])
def test_a_received_packet_ends_once(end: str, expected: tuple[int, int, int, int]) -> None:
    net = Net(SEED)
    packet = Packet(b"")
    net.receive(packet)
    for _ in range(2):
        if end == "deliver":
            net.deliver(packet)
        else:
            net.forward(packet)
    net.deliver(packet)
    net.forward(packet)
    assert account(net) == expected


def test_a_dropped_packet_ends_once() -> None:
    net = Net(SEED)
    packet = Packet(b"")
    net.receive(packet)
    net.drop(packet, Reason.OTHERHOST)
    net.deliver(packet)
    net.forward(packet)
    assert account(net) == (1, 0, 0, 1) and net.drops == {Reason.OTHERHOST: 1}


def test_our_own_packets_are_no_part_of_the_account() -> None:
    net = Net(SEED)
    for packet in (Packet(b"a"), Packet(b"b"), Packet(b"c")):
        net.deliver(packet)
        net.forward(packet)
        net.drop(packet, Reason.QDISC_DROP)
    assert account(net) == (0, 0, 0, 0) and net.drops == {Reason.QDISC_DROP: 3}


def test_a_reason_s_icmp_error_is_sent_with_its_second_word() -> None:
    net = Net(SEED)
    icmp = Icmp()
    net.icmp = icmp
    packet = Packet(b"")
    net.drop(packet, Reason.PKT_TOO_BIG, 1400)
    net.drop(packet, Reason.TTL_EXPIRED)
    assert icmp.sent == [(packet, 3, 4, 1400), (packet, 11, 0, 0)]


def test_a_silent_reason_sends_nothing() -> None:
    net = Net(SEED)
    icmp = Icmp()
    net.icmp = icmp
    net.drop(Packet(b""), Reason.IP_CSUM)
    net.drop(Packet(b""), Reason.OTHERHOST)
    assert icmp.sent == []


def test_before_there_is_an_icmp_floor_nothing_is_sent() -> None:
    Net(SEED).drop(Packet(b""), Reason.TTL_EXPIRED)


def test_watchers_see_every_drop() -> None:
    net = Net(SEED)
    first, second = Watcher(), Watcher()
    net.drop_watchers.append(first)
    net.drop_watchers.append(second)
    packet = Packet(b"")
    net.drop(packet, Reason.IP_CSUM)
    net.drop_watchers.remove(second)
    net.drop(packet, Reason.OTHERHOST)
    assert first.seen == [(packet, Reason.IP_CSUM), (packet, Reason.OTHERHOST)]
    assert second.seen == [(packet, Reason.IP_CSUM)]


@given(st.lists(st.lists(st.sampled_from(["deliver", "forward", "drop"]), max_size=4), max_size=20))
def test_the_account_balances_whatever_happens(packets: list[list[str]]) -> None:
    net = Net(SEED)
    for ends in packets:
        packet = Packet(b"")
        net.receive(packet)
        for end in ends:
            if end == "deliver":
                net.deliver(packet)
            elif end == "forward":
                net.forward(packet)
            else:
                net.drop(packet, Reason.NOT_SPECIFIED)
    received, delivered, forwarded, dropped = account(net)
    assert received == len(packets) and delivered + forwarded + dropped == sum(bool(ends) for ends in packets)
