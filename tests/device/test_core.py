"""Registry, receive dispatch, transmit queues and the soft interrupt (net/core/dev.c, net/sched/sch_generic.c)."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.l2 import Ether

from tests.device.support import (
    BROADCAST,
    MTU,
    OURS,
    THEIRS,
    Bench,
    FlushSends,
    Recorder,
    Router,
    Sink,
    Wire,
    arp_frame,
    changes,
    frame,
    numbered,
    pieces,
    stats,
    super_segment,
    whole,
)
from ustack.device.core import MAX_SKB_FRAGS
from ustack.device.net_device import (
    IFF_RUNNING,
    IFF_UP,
    NETIF_F_HW_CSUM,
    NETIF_F_SG,
    NETIF_F_TSO,
    NETIF_F_TSO_ECN,
)
from ustack.drop import Reason
from ustack.packet import (
    CHECKSUM_NONE,
    CHECKSUM_PARTIAL,
    CHECKSUM_UNNECESSARY,
    PACKET_BROADCAST,
    PACKET_HOST,
    PACKET_MULTICAST,
    PACKET_OTHERHOST,
    SKB_GSO_TCP_ECN,
    SKB_GSO_TCPV4,
    Packet,
)
from ustack.wire.ethernet import ETH_P_ARP, ETH_P_IPV6

# -- registry


def test_ifindex_counts_from_one_and_is_never_used_twice() -> None:
    bench = Bench()
    second = bench.add(Wire("wire0"))
    assert (bench.dev.ifindex, second.ifindex) == (1, 2)
    bench.devices.unregister_netdevice(second)
    third = bench.add(Wire("wire1"))
    assert third.ifindex == 3
    assert bench.devices.all() == [bench.dev, third]


def test_devices_are_found_by_name_and_by_index() -> None:
    bench = Bench()
    assert bench.devices.by_name("eth0") is bench.dev and bench.devices.by_index(1) is bench.dev
    assert bench.devices.by_name("eth1") is None and bench.devices.by_index(2) is None


def test_a_name_is_given_once() -> None:
    bench = Bench()
    with pytest.raises(ValueError, match="eth0 exists"):
        bench.devices.register_netdevice(Wire("eth0"))
    assert bench.devices.all() == [bench.dev]


def test_open_and_close_may_be_repeated() -> None:
    bench = Bench()
    up = IFF_UP | IFF_RUNNING
    bench.devices.dev_open(bench.dev)
    assert bench.dev.flags & up == up
    for _ in range(2):
        bench.devices.dev_close(bench.dev)
        assert bench.dev.flags & up == 0
    bench.devices.dev_open(bench.dev)
    bench.receive(frame(b"up again"))
    assert bench.sink.frames() == [frame(b"up again")]


# -- in: eth_type_trans


@pytest.mark.parametrize(
    ("dst", "kind", "multicast"),
    [
        (OURS, PACKET_HOST, 0),
        (BROADCAST, PACKET_BROADCAST, 0),
        (0x0100_5E00_0001, PACKET_MULTICAST, 1),
        (0x3333_0000_0001, PACKET_MULTICAST, 1),
        (0xFFFF_FFFF_FFFE, PACKET_MULTICAST, 1),
        (THEIRS, PACKET_OTHERHOST, 0),
        (0, PACKET_OTHERHOST, 0),
    ],
)
def test_the_destination_address_decides_the_packet_type(dst: int, kind: int, multicast: int) -> None:
    bench = Bench()
    bench.receive(frame(b"payload", dst))
    (packet,) = bench.sink.packets
    assert packet.pkt_type == kind and bench.dev.stats.multicast == multicast
    assert bench.conserved()


def test_the_packet_is_left_at_its_network_header() -> None:
    bench = Bench()
    bench.receive(frame(b"payload"))
    (packet,) = bench.sink.packets
    assert (packet.mac_header, packet.network_header, packet.data, packet.end) == (0, 14, 14, 21)
    assert packet.protocol == 0x0800 and packet.payload() == b"payload"
    assert packet.dev is bench.dev and packet.in_dev is bench.dev


def test_each_ethertype_has_its_handler_and_the_last_one_registered_wins() -> None:
    bench = Bench()
    arp, later = Sink(bench.net), Sink(bench.net)
    bench.devices.dev_add_pack(ETH_P_ARP, arp)
    bench.receive(arp_frame(), frame(b"ip"))
    bench.devices.dev_add_pack(0x0800, later)
    bench.receive(frame(b"ip again"))
    assert [len(s.packets) for s in (arp, bench.sink, later)] == [1, 1, 1]


@pytest.mark.parametrize("ethertype", [ETH_P_IPV6, 0x8100, 0x88CC, 0xFFFF, 0x05DC, 0x0004, 0])
def test_an_ethertype_nobody_registered_is_dropped_and_counted(ethertype: int) -> None:
    """Below 0x0600 the field is the length of an IEEE 802.3 frame: no protocol of ours either."""
    bench = Bench()
    before = bench.net.mib.snapshot()
    bench.receive(frame(bytes(46), ethertype=ethertype))
    assert bench.drops.reasons == [Reason.UNHANDLED_PROTO] and bench.sink.packets == []
    assert changes(before, bench.net.mib.snapshot()) == {"Path.received": 1, "Path.dropped": 1}
    assert stats(bench.dev) == {"rx_packets": 1, "rx_bytes": 60, "rx_dropped": 1}
    assert bench.transmitted() == []


@pytest.mark.parametrize("length", range(14))
def test_a_frame_shorter_than_its_header_is_malformed(length: int) -> None:
    bench = Bench()
    before = bench.net.mib.snapshot()
    bench.receive(frame(b"")[:length])
    assert bench.drops.reasons == [Reason.DEV_MALFORMED] and bench.sink.packets == []
    assert changes(before, bench.net.mib.snapshot()) == {"Path.received": 1, "Path.dropped": 1}
    assert (bench.dev.stats.rx_errors, bench.dev.stats.rx_length_errors) == (1, 1)


def test_a_header_without_payload_is_for_its_protocol_to_judge() -> None:
    bench = Bench()
    bench.receive(frame(b""))
    assert [packet.len for packet in bench.sink.packets] == [0] and bench.drops.reasons == []


@pytest.mark.parametrize(("length", "taken"), [(MTU + 14, True), (MTU + 18, True), (MTU + 19, False), (9000, False)])
def test_a_frame_longer_than_the_device_can_carry_is_malformed(length: int, taken: bool) -> None:
    """Room for one 802.1Q tag beyond the MTU, as every Linux driver leaves (ETH_FRAME_LEN + VLAN_HLEN)."""
    bench = Bench()
    bench.receive(frame(bytes(length - 14)))
    assert len(bench.sink.packets) == taken
    assert bench.drops.reasons == ([] if taken else [Reason.DEV_MALFORMED])
    assert bench.dev.stats.rx_length_errors == (not taken) and bench.conserved()


def test_a_super_segment_may_be_longer() -> None:
    bench = Bench()
    bench.nic.receive_frame(frame(bytes(60_000)), CHECKSUM_PARTIAL, 34, 16, 1460, SKB_GSO_TCPV4)
    bench.nic.rx_interrupt()
    bench.run()
    (packet,) = bench.sink.packets
    assert packet.gso_size == 1460 and bench.drops.reasons == []


def test_taps_see_every_frame_of_both_directions_until_they_are_removed() -> None:
    bench = Bench()
    tap = Recorder()
    bench.devices.add_tap(tap)
    bench.receive(frame(b"in"), frame(b"?", ethertype=ETH_P_IPV6))
    bench.send(frame(b"out", THEIRS, OURS))
    assert tap.seen == [
        (frame(b"in"), False),
        (frame(b"?", ethertype=ETH_P_IPV6), False),
        (frame(b"out", THEIRS, OURS), True),
    ]
    bench.devices.remove_tap(tap)
    bench.receive(frame(b"unseen"))
    bench.send(frame(b"unseen"))
    assert len(tap.seen) == 3
    with pytest.raises(ValueError):
        bench.devices.remove_tap(tap)


def test_a_tap_sees_a_queued_frame_once_and_when_it_leaves() -> None:
    bench = Bench()
    wire = Wire(room=0)
    bench.add(wire)
    tap = Recorder()
    bench.devices.add_tap(tap)
    bench.devices.dev_queue_xmit(Packet(frame(b"waits"), wire))
    assert tap.seen == []
    wire.room = 1
    bench.devices.netif_wake_queue(wire)
    assert tap.seen == [(frame(b"waits"), True)]


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=80))
def test_no_bytes_whatever_raise_anything(data: bytes) -> None:
    bench = Bench()
    bench.receive(data)
    assert bench.conserved() and bench.net.mib.path.received == 1
    assert len(bench.sink.packets) + len(bench.drops.reasons) == 1


# -- out: the queue


def test_an_idle_device_is_handed_the_packet_and_hears_the_doorbell_at_once() -> None:
    bench = Bench()
    wire = Wire()
    bench.add(wire)
    assert bench.devices.dev_queue_xmit(Packet(frame(b"now"), wire))
    assert wire.frames() == [frame(b"now")] and wire.doorbells == [1] and wire.queue.qlen == 0


def test_what_the_device_refuses_waits_in_order_and_none_is_lost() -> None:
    bench = Bench()
    wire = Wire(room=2)
    bench.add(wire)
    frames = numbered(10)
    assert all(bench.devices.dev_queue_xmit(Packet(each, wire)) for each in frames)
    assert wire.frames() == frames[:2] and wire.queue_stopped
    assert (wire.queue.qlen, wire.queue.backlog) == (8, sum(map(len, frames[2:])))
    wire.room = 3
    bench.devices.netif_wake_queue(wire)
    assert wire.frames() == frames[:5] and wire.queue_stopped and wire.queue.qlen == 5
    wire.room = 100
    bench.devices.netif_wake_queue(wire)
    assert wire.frames() == frames and not wire.queue_stopped
    assert (wire.queue.qlen, wire.queue.backlog, wire.queue.drops) == (0, 0, 0)
    assert bench.devices.tx_restarts == 2 and bench.drops.reasons == []


def test_nobody_overtakes_a_waiting_packet() -> None:
    bench = Bench()
    wire = Wire(room=0)
    bench.add(wire)
    frames = numbered(3)
    bench.devices.dev_queue_xmit(Packet(frames[0], wire))
    wire.room = 1  # room again, but the driver has not said so
    for each in frames[1:]:
        bench.devices.dev_queue_xmit(Packet(each, wire))
    assert wire.sent == []
    wire.room = 10
    bench.devices.netif_wake_queue(wire)
    assert wire.frames() == frames


def test_waking_a_queue_that_runs_does_nothing() -> None:
    bench = Bench()
    wire = Wire()
    bench.add(wire)
    bench.devices.netif_wake_queue(wire)
    assert wire.sent == [] and bench.devices.tx_restarts == 0


def test_a_driver_may_stop_its_queue_beforehand() -> None:
    bench = Bench()
    wire = Wire()
    bench.add(wire)
    bench.devices.netif_stop_queue(wire)
    bench.devices.dev_queue_xmit(Packet(frame(b"waits"), wire))
    assert wire.sent == [] and wire.queue.qlen == 1
    bench.devices.netif_wake_queue(wire)
    assert wire.frames() == [frame(b"waits")]


def test_a_full_queue_drops_the_newcomer() -> None:
    bench = Bench()
    wire = Wire(room=0)
    wire.tx_queue_len = 3
    bench.add(wire)
    before = bench.net.mib.snapshot()
    frames = numbered(5)
    assert [bench.devices.dev_queue_xmit(Packet(each, wire)) for each in frames] == [True, True, True, False, False]
    assert bench.drops.reasons == [Reason.QDISC_DROP] * 2
    assert changes(before, bench.net.mib.snapshot()) == {"Ip.OutDiscards": 2}
    assert wire.queue.drops == 2 and stats(wire) == {"tx_dropped": 2}
    wire.room = 10
    bench.devices.netif_wake_queue(wire)
    assert wire.frames() == frames[:3]


def test_a_requeued_packet_keeps_its_place_in_a_full_queue() -> None:
    bench = Bench()
    wire = Wire(room=0)
    wire.tx_queue_len = 2
    bench.add(wire)
    frames = numbered(2)
    for each in frames:
        bench.devices.dev_queue_xmit(Packet(each, wire))
    bench.devices.netif_wake_queue(wire)
    assert wire.queue.requeues == 1 and wire.queue.qlen == 2 and wire.queue.drops == 0
    wire.room = 2
    bench.devices.netif_wake_queue(wire)
    assert wire.frames() == frames


def test_closing_a_device_drops_what_waits() -> None:
    bench = Bench()
    wire = Wire(room=0)
    bench.add(wire)
    for each in numbered(4):
        bench.devices.dev_queue_xmit(Packet(each, wire))
    bench.devices.dev_close(wire)
    assert bench.drops.reasons == [Reason.DEV_DOWN] * 4 and wire.queue.qlen == 0
    assert stats(wire) == {"tx_dropped": 4}


@pytest.mark.parametrize("cause", ["down", "carrier"])
def test_a_device_that_is_down_or_unplugged_sends_nothing(cause: str) -> None:
    bench = Bench()
    wire = Wire()
    bench.devices.register_netdevice(wire)
    if cause == "carrier":
        bench.devices.dev_open(wire)
        wire.carrier = False
    assert not bench.devices.dev_queue_xmit(Packet(frame(b"lost"), wire))
    assert bench.drops.reasons == [Reason.DEV_DOWN] and wire.sent == [] and stats(wire) == {"tx_dropped": 1}


def test_a_forwarded_packet_is_accounted_for_when_device_or_queue_takes_it() -> None:
    bench = Bench()
    wire = Wire(room=2)
    wire.tx_queue_len = 3
    bench.add(wire)
    bench.devices.dev_add_pack(0x0800, Router(bench.devices, wire))
    bench.receive(*numbered(7))
    path = bench.net.mib.path
    assert (path.received, path.forwarded, path.dropped, path.delivered) == (7, 5, 2, 0)
    assert len(wire.sent) == 2 and wire.queue.qlen == 3 and bench.conserved()
    bench.devices.dev_close(wire)
    assert bench.drops.reasons == [Reason.QDISC_DROP] * 2 + [Reason.DEV_DOWN] * 3
    assert (path.received, path.forwarded, path.dropped) == (7, 5, 2) and bench.conserved()


# -- out: validate_xmit_skb


def udp_frame(payload: bytes) -> Packet:
    """A datagram with the pseudo-header's sum in its checksum field."""
    data = bytes(
        Ether(dst=OURS.to_bytes(6, "big"), src=bytes(6)) / IP(src="192.0.2.1", dst="192.0.2.2") / UDP() / payload
    )
    pseudo = 0xC000 + 0x0201 + 0xC000 + 0x0202 + 17 + len(data) - 34
    pseudo = (pseudo & 0xFFFF) + (pseudo >> 16)
    packet = Packet(data[:40] + pseudo.to_bytes(2, "big") + data[42:])
    packet.ip_summed = CHECKSUM_PARTIAL
    packet.csum_start = 34
    packet.csum_offset = 6
    return packet


def udp_is_right(data: bytes) -> bool:
    there = Ether(data)
    again = Ether(data)
    del again[UDP].chksum
    return bool(there[UDP].chksum == Ether(bytes(again))[UDP].chksum)


def test_without_checksum_hardware_the_sum_is_completed() -> None:
    bench = Bench()
    wire = Wire(features=NETIF_F_SG)
    bench.add(wire)
    packet = udp_frame(b"payload")
    packet.dev = wire
    assert not udp_is_right(packet.buf)
    assert bench.devices.dev_queue_xmit(packet)
    assert udp_is_right(wire.frames()[0]) and wire.sent[0].ip_summed == CHECKSUM_NONE


def test_with_checksum_hardware_it_is_left_to_it() -> None:
    bench = Bench()
    wire = Wire(features=NETIF_F_SG | NETIF_F_HW_CSUM)
    bench.add(wire)
    packet = udp_frame(b"payload")
    packet.dev = wire
    data = packet.buf
    assert bench.devices.dev_queue_xmit(packet)
    assert wire.frames() == [data] and wire.sent[0].ip_summed == CHECKSUM_PARTIAL


@pytest.mark.parametrize("summed", [CHECKSUM_NONE, CHECKSUM_UNNECESSARY])
def test_a_complete_checksum_is_not_touched(summed: int) -> None:
    bench = Bench()
    wire = Wire()
    bench.add(wire)
    packet = Packet(frame(b"summed"), wire)
    packet.ip_summed = summed
    bench.devices.dev_queue_xmit(packet)
    assert wire.frames() == [frame(b"summed")]


def test_without_scatter_gather_the_pieces_are_joined() -> None:
    bench = Bench()
    wire = Wire(features=0)
    bench.add(wire)
    packet = Packet(frame(b"head"), wire)
    packet.frags = pieces(b"piece after piece", 5, 11)
    packet.frags_len = 17
    bench.devices.dev_queue_xmit(packet)
    assert wire.sent[0].frags is None and wire.frames() == [frame(b"headpiece after piece")]


@pytest.mark.parametrize(("count", "joined"), [(MAX_SKB_FRAGS, False), (MAX_SKB_FRAGS + 1, True)])
def test_more_pieces_than_a_driver_takes_are_joined(count: int, joined: bool) -> None:
    bench = Bench()
    wire = Wire(features=NETIF_F_SG)
    bench.add(wire)
    packet = Packet(frame(b""), wire)
    packet.frags = [b"x"] * count
    packet.frags_len = count
    bench.devices.dev_queue_xmit(packet)
    assert (wire.sent[0].frags is None) == joined and wire.frames() == [frame(b"x" * count)]


@pytest.mark.parametrize("features", [NETIF_F_SG, NETIF_F_SG | NETIF_F_HW_CSUM])
@pytest.mark.parametrize(("start", "offset"), [(34, 7), (34, 1000), (1000, 6), (-2, 6), (34, -2)])
def test_a_checksum_outside_the_packet_is_dropped(features: int, start: int, offset: int) -> None:
    bench = Bench()
    wire = Wire(features=features)
    bench.add(wire)
    packet = udp_frame(b"")
    packet.dev = wire
    packet.csum_start = start
    packet.csum_offset = offset
    assert not bench.devices.dev_queue_xmit(packet)
    assert bench.drops.reasons == [Reason.SKB_CSUM] and wire.sent == []


def test_a_checksum_in_a_piece_is_brought_into_the_linear_part() -> None:
    bench = Bench()
    wire = Wire(features=NETIF_F_SG | NETIF_F_HW_CSUM)
    bench.add(wire)
    packet = udp_frame(b"payload")
    packet.dev = wire
    data = packet.buf
    packet.buf, packet.end = data[:36], 36
    packet.frags, packet.frags_len = [data[36:]], len(data) - 36
    assert bench.devices.dev_queue_xmit(packet)
    assert wire.sent[0].buf == data and wire.sent[0].frags is None


# -- out: software segmentation


def tcp_packet(length: int, mss: int = 1000, flags: str = "A") -> Packet:
    headers = bytes(Ether(dst=bytes(6), src=bytes(6)) / IP(src="192.0.2.1", dst="192.0.2.2") / TCP(flags=flags))
    return super_segment(headers, pieces(bytes(length)), mss)


TSO = NETIF_F_SG | NETIF_F_HW_CSUM | NETIF_F_TSO


@pytest.mark.parametrize(
    ("features", "ecn", "summed", "limit", "frames"),
    [
        (TSO, False, CHECKSUM_PARTIAL, 65_536, 1),
        (TSO | NETIF_F_TSO_ECN, True, CHECKSUM_PARTIAL, 65_536, 1),
        (TSO, True, CHECKSUM_PARTIAL, 65_536, 3),
        (TSO, False, CHECKSUM_NONE, 65_536, 3),
        (TSO, False, CHECKSUM_PARTIAL, 2539, 3),
        (TSO, False, CHECKSUM_PARTIAL, 2540, 1),
        (NETIF_F_SG | NETIF_F_HW_CSUM, False, CHECKSUM_PARTIAL, 65_536, 3),
        (NETIF_F_SG, False, CHECKSUM_PARTIAL, 65_536, 3),
        (0, False, CHECKSUM_PARTIAL, 65_536, 3),
    ],
)
def test_a_super_segment_is_cut_where_the_device_cannot(
    features: int, ecn: bool, summed: int, limit: int, frames: int
) -> None:
    """netif_needs_gso: no TSO, no TSO for this kind, a checksum that hardware would not redo, or simply too large."""
    bench = Bench()
    wire = Wire(features=features)
    wire.gso_max_size = limit
    bench.add(wire)
    packet = tcp_packet(2500)
    packet.dev = wire
    packet.ip_summed = summed
    packet.gso_type |= SKB_GSO_TCP_ECN if ecn else 0
    assert bench.devices.dev_queue_xmit(packet)
    assert len(wire.sent) == frames
    partial = features & NETIF_F_HW_CSUM != 0
    assert all((segment.ip_summed == CHECKSUM_PARTIAL) == partial for segment in wire.sent)


def test_a_super_segment_that_cannot_be_cut_is_dropped() -> None:
    bench = Bench()
    wire = Wire()
    bench.add(wire)
    packet = tcp_packet(2500)
    packet.dev = wire
    packet.gso_type = 0
    assert not bench.devices.dev_queue_xmit(packet)
    assert bench.drops.reasons == [Reason.GSO_SEG] and wire.sent == [] and stats(wire) == {"tx_dropped": 1}


def test_segments_wait_like_any_packet_and_the_first_one_carries_the_account() -> None:
    bench = Bench()
    wire = Wire(room=1)
    wire.tx_queue_len = 1
    bench.add(wire)
    packet = tcp_packet(2500)
    packet.dev = wire
    bench.net.receive(packet)
    assert bench.devices.dev_queue_xmit(packet)
    assert len(wire.sent) == 1 and wire.queue.qlen == 1 and bench.drops.reasons == [Reason.QDISC_DROP]
    path = bench.net.mib.path
    assert (path.received, path.forwarded, path.dropped) == (1, 1, 0) and bench.conserved()


def test_a_super_segment_whose_every_segment_is_refused_is_dropped_once_in_the_account() -> None:
    bench = Bench()
    wire = Wire(room=0)
    wire.tx_queue_len = 0
    bench.add(wire)
    packet = tcp_packet(2500)
    packet.dev = wire
    bench.net.receive(packet)
    assert not bench.devices.dev_queue_xmit(packet)
    path = bench.net.mib.path
    assert (path.received, path.forwarded, path.dropped) == (1, 0, 1) and bench.conserved()
    assert bench.drops.reasons == [Reason.QDISC_DROP] * 3


# -- the soft interrupt


class Busy(Wire):
    """A device that has ``work`` frames to receive."""

    def __init__(self, bench: Bench, name: str, work: int) -> None:
        super().__init__(name)
        self.bench = bench
        self.work = work
        self.budgets: list[int] = []

    def poll(self, budget: int) -> int:
        done = min(self.work, budget)
        self.work -= done
        self.budgets.append(budget)
        for each in numbered(done):
            self.bench.devices.netif_receive_skb(Packet(each, self))
        if done < budget:
            self.bench.devices.napi_complete(self)
        return done


def test_an_idle_stack_has_nothing_pending() -> None:
    bench = Bench()
    assert not bench.devices.pending() and not bench.devices.net_rx_action()


def test_a_device_is_polled_with_its_weight_until_it_has_done_less() -> None:
    bench = Bench()
    busy = Busy(bench, "busy0", 130)
    bench.add(busy)
    bench.devices.napi_schedule(busy)
    bench.devices.napi_schedule(busy)
    assert bench.devices.pending()
    assert [bench.devices.net_rx_action() for _ in range(4)] == [True, True, False, False]
    assert busy.budgets == [64, 64, 64] and busy.work == 0 and not busy.napi_scheduled
    assert len(bench.sink.packets) == 130


def test_a_device_that_did_exactly_its_weight_is_asked_again() -> None:
    bench = Bench()
    busy = Busy(bench, "busy0", 64)
    bench.add(busy)
    bench.devices.napi_schedule(busy)
    assert bench.devices.net_rx_action() and busy.napi_scheduled
    assert not bench.devices.net_rx_action() and busy.budgets == [64, 64]


def test_devices_share_the_budget_and_the_rest_has_its_turn_first() -> None:
    """netdev_budget 300: four full weights, then what is left of it, then the next time."""
    bench = Bench()
    devs = [Busy(bench, f"busy{n}", 1000) for n in range(7)]
    for dev in devs:
        bench.add(dev)
        bench.devices.napi_schedule(dev)
    assert bench.devices.net_rx_action()
    assert [dev.budgets for dev in devs] == [[64], [64], [64], [64], [44], [], []]
    assert bench.devices.net_rx_action()
    assert [sum(dev.budgets) for dev in devs] == [128, 128, 108, 64, 44, 64, 64]


def test_a_device_that_is_closed_meanwhile_is_not_polled() -> None:
    bench = Bench()
    busy = Busy(bench, "busy0", 10)
    bench.add(busy)
    bench.devices.napi_schedule(busy)
    bench.devices.dev_close(busy)
    assert not bench.devices.net_rx_action() and busy.budgets == []


def test_one_doorbell_for_all_that_a_batch_sends() -> None:
    bench = Bench()
    wire = Wire("wire0")
    bench.add(wire)
    bench.devices.dev_add_pack(0x0800, Router(bench.devices, wire))
    bench.receive(*numbered(20))
    assert wire.frames() == numbered(20) and wire.doorbells == [20]


def test_those_who_wait_for_the_end_of_the_batch_send_before_the_doorbell() -> None:
    bench = Bench()
    wire = Wire("wire0")
    bench.add(wire)
    bench.devices.dev_add_pack(0x0800, Router(bench.devices, wire))
    flusher = FlushSends(bench.devices, wire)
    bench.devices.at_softirq_end(flusher)
    bench.receive(*numbered(5))
    assert flusher.flushes == 1 and wire.doorbells == [6]
    assert wire.frames() == [*numbered(5), frame(b"flushed")]


def test_a_batch_that_sends_nothing_rings_nothing() -> None:
    bench = Bench()
    wire = Wire("wire0")
    bench.add(wire)
    bench.receive(*numbered(5))
    assert wire.doorbells == [] and not bench.nic.doorbell and whole(bench.sink.packets[4]) == numbered(5)[4]
