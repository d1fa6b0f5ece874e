"""What goes out of lo comes in (drivers/net/loopback.c)."""

from __future__ import annotations

import pytest

from tests.device.support import Bench, Sink, changes, frame, numbered, pieces, stats, super_segment
from ustack.device.loopback import LOOPBACK_MTU, Loopback
from ustack.device.net_device import IFF_LOOPBACK, IFF_NOARP, IFF_UP
from ustack.drop import Reason
from ustack.dst import RTN_LOCAL, Dst
from ustack.packet import (
    CHECKSUM_NONE,
    CHECKSUM_PARTIAL,
    CHECKSUM_UNNECESSARY,
    PACKET_HOST,
    Packet,
)


class LoopBench(Bench):
    def __init__(self) -> None:
        super().__init__()
        self.lo = Loopback(self.devices)
        self.add(self.lo)

    def loop(self, packet: Packet) -> Packet:
        packet.dev = self.lo
        assert self.devices.dev_queue_xmit(packet)
        self.run()
        return self.sink.packets[-1]


def local(data: bytes) -> bytes:
    return frame(data, 0, 0)


def test_lo_is_what_linux_makes_it() -> None:
    lo = LoopBench().lo
    assert (lo.name, lo.mac, lo.mtu, LOOPBACK_MTU) == ("lo", 0, 65_536, 65_536)
    assert lo.flags & (IFF_LOOPBACK | IFF_NOARP | IFF_UP) == IFF_LOOPBACK | IFF_UP
    assert (lo.tx_queue_len, lo.no_queue) == (1000, True)


@pytest.mark.parametrize("length", [0, 1000])
def test_what_cannot_go_at_once_is_lost_however_long_a_queue_there_could_be(length: int) -> None:
    """IFF_NO_QUEUE (__dev_queue_xmit, noqueue_qdisc): tx_queue_len is only a number."""
    bench = LoopBench()
    bench.lo.tx_queue_len = length
    bench.loop(Packet(local(b"hello"), bench.lo))
    bench.devices.netif_stop_queue(bench.lo)
    assert not bench.devices.dev_queue_xmit(Packet(local(b"again"), bench.lo))
    assert bench.net.drops == {Reason.QDISC_DROP: 1} and bench.lo.queue.qlen == 0


def test_a_packet_comes_back_at_the_next_poll_addressed_to_us() -> None:
    bench = LoopBench()
    before = bench.net.mib.snapshot()
    packet = Packet(local(b"hello"), bench.lo)
    assert bench.devices.dev_queue_xmit(packet)
    assert bench.sink.packets == [] and bench.devices.pending()
    bench.run()
    (received,) = bench.sink.packets
    assert received is not packet and received.payload() == b"hello"
    assert received.dev is bench.lo and received.in_dev is bench.lo and received.pkt_type == PACKET_HOST
    assert changes(before, bench.net.mib.snapshot()) == {"Path.received": 1, "Path.delivered": 1}
    assert stats(bench.lo) == {"rx_packets": 1, "rx_bytes": 19, "tx_packets": 1, "tx_bytes": 19}
    assert bench.transmitted() == []


def test_the_receiver_knows_nothing_of_the_sender() -> None:
    bench = LoopBench()
    sent = Packet(local(b"hello"))
    sent.network_header, sent.transport_header = 14, 34
    sent.mark, sent.priority = 3, 4
    received = bench.loop(sent)
    assert received.sk is None and received.dst is None and received.iph is None and received.transport_header == 0
    assert (received.mark, received.priority) == (3, 4)


@pytest.mark.parametrize("knows_the_way_in", [True, False])
def test_a_route_that_knows_the_way_in_goes_along(knows_the_way_in: bool) -> None:
    """loopback_xmit: skb_dst_force(); 127.0.0.1 looked up on the way in would be a martian."""
    bench = LoopBench()
    dst = Dst(RTN_LOCAL, bench.lo, 0)
    dst.input = Sink(bench.net) if knows_the_way_in else None
    sent = Packet(local(b"hello"))
    sent.dst = dst
    assert (bench.loop(sent).dst is dst) == knows_the_way_in


def test_pieces_arrive_as_one_run_of_bytes() -> None:
    bench = LoopBench()
    sent = Packet(local(b"head"))
    sent.frags, sent.frags_len = pieces(b"first second", 6), 12
    received = bench.loop(sent)
    assert received.buf == local(b"headfirst second") and received.frags is None and received.frags_len == 0


def test_what_was_trimmed_does_not_arrive() -> None:
    bench = LoopBench()
    sent = Packet(local(b"payload") + b"left over")
    sent.end = 21
    assert bench.loop(sent).buf == local(b"payload")


@pytest.mark.parametrize("summed", [CHECKSUM_NONE, CHECKSUM_UNNECESSARY, CHECKSUM_PARTIAL])
def test_the_checksum_state_crosses_as_it_is(summed: int) -> None:
    """Nobody computes a sum for what never leaves memory; one that is complete may still be checked."""
    bench = LoopBench()
    sent = Packet(local(bytes(40)))
    sent.ip_summed, sent.csum_start, sent.csum_offset = summed, 34, 16
    received = bench.loop(sent)
    assert received.buf == local(bytes(40))
    assert (received.ip_summed, received.csum_start, received.csum_offset) == (summed, 34, 16)


def test_a_super_segment_crosses_whole() -> None:
    bench = LoopBench()
    head = local(b"\x45" + bytes(8) + b"\x06" + bytes(22) + b"\x50" + bytes(7))
    received = bench.loop(super_segment(head, pieces(bytes(65_000), 30_000), 1448))
    assert (received.gso_size, received.gso_type, received.end) == (1448, 1, len(head) + 65_000)


def test_the_largest_datagram_crosses() -> None:
    bench = LoopBench()
    assert bench.loop(Packet(local(bytes(65_535)))).len == 65_535


def test_order_is_kept_and_work_is_done_in_weights() -> None:
    bench = LoopBench()
    for each in numbered(150):
        bench.devices.dev_queue_xmit(Packet(each, bench.lo))
    assert [bench.devices.net_rx_action() for _ in range(3)] == [True, True, False]
    assert bench.sink.frames() == numbered(150) and bench.conserved()


def test_a_backlog_that_is_full_drops_and_counts() -> None:
    """netif_rx: net.core.netdev_max_backlog, SKB_DROP_REASON_CPU_BACKLOG."""
    bench = LoopBench()
    bench.net.sysctl.netdev_max_backlog = 3
    for each in numbered(5):
        bench.devices.dev_queue_xmit(Packet(each, bench.lo))
    assert bench.drops.reasons == [Reason.CPU_BACKLOG] * 2
    bench.run()
    assert bench.sink.frames() == numbered(3) and bench.conserved()
    assert bench.lo.stats.rx_dropped == 2 and bench.lo.stats.rx_packets == 3


def test_a_packet_that_loops_for_ever_leaves_turns_to_the_others() -> None:
    """echo and chargen talking to each other (CVE-1999-0103): busy, but every net_rx_action ends."""
    bench = LoopBench()

    class Again(Sink):
        def handle(self, packet: Packet) -> None:
            super().handle(packet)
            bench.devices.dev_queue_xmit(Packet(packet.buf, bench.lo))

    bench.devices.dev_add_pack(0x0800, Again(bench.net))
    bench.devices.dev_queue_xmit(Packet(local(b"round"), bench.lo))
    for _ in range(5):
        assert bench.devices.net_rx_action()
    assert bench.conserved()


def test_closing_drops_what_has_not_come_back() -> None:
    bench = LoopBench()
    for each in numbered(4):
        bench.devices.dev_queue_xmit(Packet(each, bench.lo))
    bench.devices.dev_close(bench.lo)
    bench.run()
    assert bench.drops.reasons == [Reason.DEV_DOWN] * 4 and bench.sink.packets == [] and bench.conserved()
