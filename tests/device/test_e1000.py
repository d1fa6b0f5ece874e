"""The driver against its hardware: what goes into the rings and what comes out of them, and what never gets lost."""

from __future__ import annotations

import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.inet import IP, TCP
from scapy.layers.l2 import Ether

from tests.device.support import (
    MTU,
    THEIRS,
    Bench,
    Router,
    changes,
    frame,
    numbered,
    pieces,
    stats,
    super_segment,
)
from ustack.device.e1000 import E1000, E1000_FEATURES, NO_OFFLOAD, TX_WAKE_THRESHOLD
from ustack.device.net_device import IFF_RUNNING, NETIF_F_RXCSUM
from ustack.device.ring import (
    CMD_EOP,
    CMD_TSE,
    CMD_TXSM,
    DTYP_CONTEXT,
    DTYP_DATA,
    ICR_TXDW,
    RING_MIN,
    STAT_DD,
    NicRegisters,
)
from ustack.drop import Reason
from ustack.packet import (
    CHECKSUM_NONE,
    CHECKSUM_PARTIAL,
    CHECKSUM_UNNECESSARY,
    SKB_GSO_TCP_ECN,
    SKB_GSO_TCPV4,
    Packet,
)

# -- receive


def test_received_frames_are_counted_stamped_and_handed_up() -> None:
    bench = Bench()
    bench.net.now = 42_000
    before = bench.net.mib.snapshot()
    bench.receive(*numbered(3))
    assert bench.sink.frames() == numbered(3)
    assert {packet.tstamp for packet in bench.sink.packets} == {42_000}
    assert stats(bench.dev) == {"rx_packets": 3, "rx_bytes": 54}
    assert changes(before, bench.net.mib.snapshot()) == {"Path.received": 3, "Path.delivered": 3}


def test_nothing_happens_before_the_interrupt() -> None:
    bench = Bench()
    bench.nic.receive_frame(frame(b"early"))
    assert not bench.devices.pending() and not bench.devices.net_rx_action() and bench.sink.packets == []
    bench.nic.rx_interrupt()
    assert bench.devices.pending() and not bench.devices.net_rx_action()
    assert bench.sink.frames() == [frame(b"early")]


def test_interrupts_are_masked_while_polling_and_armed_again_when_drained() -> None:
    bench = Bench()
    for each in numbered(100):
        bench.nic.receive_frame(each)
    bench.nic.rx_interrupt()
    assert bench.nic.ims == 0
    assert bench.devices.net_rx_action() and len(bench.sink.packets) == 64
    assert bench.nic.ims == 0 and bench.dev.napi_scheduled
    assert not bench.devices.net_rx_action() and len(bench.sink.packets) == 100
    assert bench.nic.ims != 0 and not bench.dev.napi_scheduled


def test_a_cause_that_came_up_while_polling_interrupts_at_once_when_armed() -> None:
    bench = Bench()
    bench.nic.receive_frame(frame(b"one"))
    bench.nic.rx_interrupt()
    bench.nic.rx_interrupt()  # masked: nobody looks at it before poll has finished
    assert not bench.dev.napi_scheduled or bench.nic.ims == 0
    bench.devices.net_rx_action()
    assert bench.dev.napi_scheduled and bench.nic.icr == 0
    assert not bench.devices.net_rx_action() and not bench.dev.napi_scheduled
    assert bench.sink.frames() == [frame(b"one")]


@pytest.mark.parametrize(
    ("features", "reported", "seen"),
    [
        (E1000_FEATURES, CHECKSUM_NONE, CHECKSUM_NONE),
        (E1000_FEATURES, CHECKSUM_UNNECESSARY, CHECKSUM_UNNECESSARY),
        (E1000_FEATURES & ~NETIF_F_RXCSUM, CHECKSUM_UNNECESSARY, CHECKSUM_NONE),
        (NO_OFFLOAD, CHECKSUM_NONE, CHECKSUM_NONE),
    ],
)
def test_the_hardwares_word_on_checksums_counts_if_it_was_asked(features: int, reported: int, seen: int) -> None:
    bench = Bench(features)
    bench.nic.receive_frame(frame(bytes(40)), reported)
    bench.nic.rx_interrupt()
    bench.run()
    assert [packet.ip_summed for packet in bench.sink.packets] == [seen]


def test_a_partial_checksum_keeps_its_place() -> None:
    """NEEDS_CSUM from a TAP: good here, but to be completed should the packet be forwarded."""
    bench = Bench()
    bench.nic.receive_frame(frame(bytes(40)), CHECKSUM_PARTIAL, 34, 16)
    bench.nic.rx_interrupt()
    bench.run()
    (packet,) = bench.sink.packets
    assert (packet.ip_summed, packet.csum_start, packet.csum_offset) == (CHECKSUM_PARTIAL, 34, 16)
    assert packet.gso_size == 0


@pytest.mark.parametrize(("start", "offset"), [(34, 19), (34, 5000), (65_535, 16), (-1, 16), (34, -1)])
def test_a_partial_checksum_outside_the_frame_vouches_for_nothing(start: int, offset: int) -> None:
    bench = Bench()
    bench.nic.receive_frame(frame(bytes(40)), CHECKSUM_PARTIAL, start, offset)
    bench.nic.rx_interrupt()
    bench.run()
    assert [packet.ip_summed for packet in bench.sink.packets] == [CHECKSUM_NONE]


def test_the_segment_size_of_a_merged_frame_is_kept() -> None:
    bench = Bench()
    kind = SKB_GSO_TCPV4 | SKB_GSO_TCP_ECN
    bench.nic.receive_frame(frame(bytes(30_000)), CHECKSUM_PARTIAL, 34, 16, 1448, kind)
    bench.nic.receive_frame(frame(bytes(40)))
    bench.nic.rx_interrupt()
    bench.run()
    assert [(p.gso_size, p.gso_type) for p in bench.sink.packets] == [(1448, kind), (0, 0)]


def test_a_forwarded_partial_checksum_is_still_to_be_completed() -> None:
    bench = Bench()
    out = E1000(bench.devices, "eth1", THEIRS, NicRegisters())
    bench.add(out)
    bench.devices.dev_add_pack(0x0800, Router(bench.devices, out))
    bench.nic.receive_frame(frame(bytes(40)), CHECKSUM_PARTIAL, 34, 16)
    bench.nic.rx_interrupt()
    bench.run()
    tx = out.nic.next_tx()
    assert tx is not None and (tx.needs_csum, tx.csum_start, tx.csum_offset) == (True, 34, 16)
    assert bench.conserved() and bench.net.mib.path.forwarded == 1


def test_an_overrun_is_counted_as_missed_and_the_rest_arrives() -> None:
    bench = Bench()
    taken = [bench.nic.receive_frame(each) for each in numbered(266)]
    assert taken == [True] * 256 + [False] * 10
    assert bench.devices.pending()  # RXO interrupts even if the batch's own interrupt is still to come
    bench.nic.rx_interrupt()
    bench.run()
    assert bench.sink.frames() == numbered(256)
    assert stats(bench.dev) == {"rx_packets": 256, "rx_bytes": 256 * 18, "rx_missed_errors": 10}
    assert bench.conserved() and bench.net.mib.path.received == 256
    bench.receive(frame(b"afterwards"))
    assert bench.sink.frames()[-1] == frame(b"afterwards") and bench.dev.stats.rx_missed_errors == 10


def test_a_frame_of_several_descriptors_is_too_long_and_discarded_to_its_end() -> None:
    """e1000_clean_rx_irq: "Receive packet consumed multiple buffers", until the descriptor with EOP is through."""
    bench = Bench()
    for data in (b"before", b"long", b"longer", b"longest", b"after"):
        bench.nic.receive_frame(frame(data))
    for n in (1, 2):
        bench.nic.rx.descriptors[n].status = STAT_DD
    bench.nic.rx_interrupt()
    bench.run()
    assert bench.sink.frames() == [frame(b"before"), frame(b"after")]
    assert (bench.dev.stats.rx_packets, bench.dev.stats.rx_errors, bench.dev.stats.rx_length_errors) == (2, 1, 1)
    assert all(d.status == 0 and d.buffer == b"" for d in bench.nic.rx.descriptors) and bench.conserved()


def test_the_ring_keeps_no_received_frame_alive() -> None:
    bench = Bench()
    big = frame(bytes(60_000))
    before = sys.getrefcount(big)
    bench.nic.receive_frame(big, CHECKSUM_PARTIAL, 34, 16, 1448, SKB_GSO_TCPV4)
    bench.nic.rx_interrupt()
    bench.run()
    bench.sink.packets.clear()
    assert sys.getrefcount(big) == before


# -- transmit


def tcp_headers(payload: bytes = b"") -> bytes:
    options = [("NOP", None), ("NOP", None), ("Timestamp", (1, 2))]
    return bytes(Ether(dst=bytes(6)) / IP(src="192.0.2.1", dst="192.0.2.2") / TCP(options=options) / payload)


def test_a_plain_frame_is_one_data_descriptor() -> None:
    bench = Bench()
    assert bench.send(frame(b"plain"))
    first = bench.nic.tx.descriptors[0]
    assert (first.dtyp, first.cmd, first.status, first.buffer) == (DTYP_DATA, CMD_EOP, 0, frame(b"plain"))
    assert bench.nic.tx.tail == 1 and bench.nic.doorbell
    assert stats(bench.dev) == {"tx_packets": 1, "tx_bytes": 19}
    assert bench.transmitted() == [frame(b"plain")]


def test_pieces_are_descriptors_of_their_own_and_never_joined() -> None:
    bench = Bench()
    packet = Packet(frame(b"head"), bench.dev)
    packet.frags = pieces(b"first second", 6)
    packet.frags_len = 12
    assert bench.devices.dev_queue_xmit(packet)
    used = bench.nic.tx.descriptors[:3]
    assert [d.cmd for d in used] == [0, 0, CMD_EOP] and used[1].buffer is packet.frags[0]
    assert bench.dev.stats.tx_bytes == 30
    assert bench.transmitted() == [frame(b"headfirst second")]


def test_a_partial_checksum_is_a_context_descriptor_in_front() -> None:
    bench = Bench()
    packet = super_segment(tcp_headers(), [], 0, bench.dev)
    packet.frags = None
    assert bench.devices.dev_queue_xmit(packet)
    context, data = bench.nic.tx.descriptors[:2]
    assert (context.dtyp, context.cmd, context.tucss, context.tucso) == (DTYP_CONTEXT, 0, 34, 50)
    assert (data.dtyp, data.cmd) == (DTYP_DATA, CMD_EOP | CMD_TXSM)
    tx = bench.nic.next_tx()
    assert tx is not None and (tx.needs_csum, tx.csum_start, tx.csum_offset, tx.gso_size) == (True, 34, 16, 0)


@pytest.mark.parametrize("kind", [SKB_GSO_TCPV4, SKB_GSO_TCPV4 | SKB_GSO_TCP_ECN])
def test_a_super_segment_asks_for_segmentation(kind: int) -> None:
    """hdr_len covers Ethernet, IPv4 and TCP with its options: 14 + 20 + 32."""
    bench = Bench()
    packet = super_segment(tcp_headers(), pieces(bytes(60_000), 20_000, 40_000), 1448, bench.dev)
    packet.gso_type = kind
    assert bench.devices.dev_queue_xmit(packet)
    context = bench.nic.tx.descriptors[0]
    assert (context.dtyp, context.cmd, context.mss, context.hdr_len) == (DTYP_CONTEXT, CMD_TSE, 1448, 66)
    tx = bench.nic.next_tx()
    assert tx is not None and tx.needs_csum and len(tx.pieces) == 4
    assert (tx.gso_size, tx.gso_type, tx.hdr_len) == (1448, kind, 66)


def test_a_checksum_just_received_is_not_sent_along() -> None:
    bench = Bench()
    packet = Packet(frame(bytes(40)), bench.dev)
    packet.ip_summed = CHECKSUM_UNNECESSARY
    assert bench.devices.dev_queue_xmit(packet)
    tx = bench.nic.next_tx()
    assert tx is not None and not tx.needs_csum


def test_what_was_trimmed_is_not_sent() -> None:
    """CVE-2003-0001: what lies behind the end of a packet is nobody's business."""
    bench = Bench()
    packet = Packet(frame(b"payload") + b"left over", bench.dev)
    packet.end = 21
    assert bench.devices.dev_queue_xmit(packet)
    assert bench.dev.stats.tx_bytes == 21 and bench.transmitted() == [frame(b"payload")]


def test_sent_descriptors_do_not_interrupt_while_the_queue_runs() -> None:
    bench = Bench()
    for each in numbered(10):
        bench.send(each)
    assert bench.transmitted() == numbered(10)
    assert bench.nic.icr == ICR_TXDW and not bench.devices.pending()


def test_descriptors_are_reaped_on_the_way_without_any_interrupt() -> None:
    bench = Bench()
    sent: list[bytes] = []
    for each in numbered(1000):
        assert bench.send(each)
        sent += bench.transmitted()
    assert sent == numbered(1000) and bench.dev.queue.qlen == 0 and not bench.dev.queue_stopped
    assert bench.devices.tx_restarts == 0


def test_a_full_ring_stops_the_queue_and_a_written_back_one_wakes_it() -> None:
    bench = Bench()
    frames = numbered(600)
    assert all(bench.send(each) for each in frames)
    in_ring = bench.nic.tx.tail - bench.nic.tx.head
    assert bench.dev.queue_stopped and in_ring + bench.dev.queue.qlen == 600
    assert in_ring == bench.nic.tx.size
    sent = bench.transmitted(1)
    assert bench.devices.pending()  # TXDW, let through because the queue is stopped
    bench.run()
    assert bench.dev.queue_stopped, f"fewer than {TX_WAKE_THRESHOLD} descriptors are free"
    while len(sent) < 600:
        more = bench.transmitted(50)
        assert more
        sent += more
        bench.run()
    assert sent == frames and bench.transmitted() == []
    assert bench.dev.queue.qlen == 0 and not bench.dev.queue_stopped and bench.drops.reasons == []
    assert stats(bench.dev) == {"tx_packets": 600, "tx_bytes": 600 * 18}
    assert bench.devices.tx_restarts >= 1


def test_a_queue_stopped_in_the_middle_of_a_batch_is_woken_too() -> None:
    """The driver is being polled, its interrupts masked, when its own ring fills: poll arms TXDW at its end."""
    bench = Bench(size=RING_MIN)
    bench.devices.dev_add_pack(0x0800, Router(bench.devices, bench.dev))
    for n in range(3):
        bench.receive(*numbered(64, n * 64))
    assert bench.dev.queue_stopped and bench.dev.queue.qlen > 0
    sent: list[bytes] = []
    for _ in range(10):
        sent += bench.transmitted()
        bench.run()
    assert sent == numbered(192) and bench.conserved() and bench.net.mib.path.forwarded == 192


def test_the_largest_frame_fits_the_smallest_ring() -> None:
    bench = Bench(size=RING_MIN)
    for n in range(4):
        packet = super_segment(tcp_headers(), [bytes([n]) * 100] * (TX_WAKE_THRESHOLD - 2), 1448, bench.dev)
        assert bench.devices.dev_queue_xmit(packet)
    assert bench.dev.queue.qlen == 3
    sent: list[bytes] = []
    for _ in range(4):
        sent += bench.transmitted()
        bench.run()
    assert [data[-1] for data in sent] == [0, 1, 2, 3] and bench.dev.queue.qlen == 0


def test_the_ring_keeps_no_sent_frame_alive() -> None:
    bench = Bench()
    headers, payload = tcp_headers(), bytes(60_000)
    before = sys.getrefcount(headers), sys.getrefcount(payload)
    packet = super_segment(headers, [payload], 1448, bench.dev)
    assert bench.devices.dev_queue_xmit(packet)
    del packet
    assert sys.getrefcount(payload) > before[1]
    assert bench.nic.next_tx() is not None
    bench.nic.tx_done()
    assert (sys.getrefcount(headers), sys.getrefcount(payload)) == before


@settings(max_examples=40, deadline=None)
@given(st.lists(st.one_of(st.integers(0, 45), st.just("reap"), st.just("poll")), max_size=100), st.integers(0, 2**30))
def test_no_pace_of_the_hardware_loses_or_reorders_a_frame(events: list[int | str], seed: int) -> None:
    bench = Bench(size=RING_MIN)
    expected: list[bytes] = []
    sent: list[bytes] = []
    for event in events:
        if event == "reap":
            sent += bench.transmitted(1 + (seed + len(sent)) % 7)
        elif event == "poll":
            bench.devices.net_rx_action()
        elif isinstance(event, int):
            packet = Packet(numbered(1, len(expected))[0], bench.dev)
            if event:
                packet.frags, packet.frags_len = [b"piece"] * event, 5 * event
            expected.append(packet.buf + b"piece" * event)
            assert bench.devices.dev_queue_xmit(packet)
    for _ in range(len(expected) + 1):
        sent += bench.transmitted()
        bench.run()
    assert sent == expected and bench.dev.queue.qlen == 0 and bench.drops.reasons == []


# -- up and down, link, features


def test_closing_loses_what_is_in_the_rings_and_counts_it() -> None:
    bench = Bench()
    for each in numbered(5):
        bench.nic.receive_frame(each)
        bench.send(each)
    bench.nic.rx_interrupt()
    bench.devices.dev_close(bench.dev)
    bench.run()
    assert bench.sink.packets == [] and bench.nic.next_tx() is None and bench.nic.rx_room() == 0
    assert stats(bench.dev) == {"tx_packets": 5, "tx_bytes": 90, "rx_dropped": 5, "tx_dropped": 5}
    assert all(d.buffer == b"" for d in bench.nic.rx.descriptors)
    assert all(d.buffer == b"" for d in bench.nic.tx.descriptors)


def test_a_closed_device_takes_nothing_and_works_when_opened_again() -> None:
    bench = Bench()
    for round_ in range(3):
        bench.receive(*numbered(200, round_))
        for each in numbered(200, round_):
            bench.send(each)
        assert bench.transmitted() == numbered(200, round_)
        bench.devices.dev_close(bench.dev)
        assert not bench.nic.receive_frame(frame(b"unheard")) and not bench.send(frame(b"unsaid"))
        bench.nic.rx_interrupt()
        assert not bench.devices.pending() and bench.transmitted() == []
        bench.devices.dev_open(bench.dev)
    assert bench.dev.stats.rx_missed_errors == 0 and len(bench.sink.packets) == 600 and bench.conserved()


def test_a_full_ring_is_forgotten_when_the_device_is_opened_again() -> None:
    bench = Bench(size=RING_MIN)
    for each in numbered(100):
        bench.send(each)
    assert bench.dev.queue_stopped
    bench.devices.dev_close(bench.dev)
    assert bench.drops.reasons == [Reason.DEV_DOWN] * 36 and bench.dev.stats.tx_dropped == 100
    bench.devices.dev_open(bench.dev)
    assert bench.send(frame(b"fresh")) and bench.transmitted() == [frame(b"fresh")]


def test_without_a_link_nothing_is_sent_and_with_one_it_is_again() -> None:
    bench = Bench()
    bench.nic.set_link(False)
    assert bench.dev.flags & IFF_RUNNING == 0 and not bench.devices.pending()
    assert not bench.send(frame(b"lost")) and bench.drops.reasons == [Reason.DEV_DOWN]
    bench.nic.set_link(True)
    assert bench.dev.flags & IFF_RUNNING != 0 and bench.send(frame(b"sent"))
    assert bench.transmitted() == [frame(b"sent")]


def test_a_link_that_changed_while_the_device_was_closed_is_noticed() -> None:
    bench = Bench()
    bench.devices.dev_close(bench.dev)
    bench.nic.set_link(False)
    bench.devices.dev_open(bench.dev)
    assert not bench.dev.carrier and bench.dev.flags & IFF_RUNNING == 0


def test_the_hardware_is_told_which_offloads_are_on() -> None:
    bench = Bench(NO_OFFLOAD)
    assert bench.nic.offloads == NO_OFFLOAD
    bench.dev.set_features(E1000_FEATURES | 1 << 40)
    assert bench.nic.offloads == bench.dev.features == E1000_FEATURES


def test_without_offload_only_plain_frames_leave() -> None:
    bench = Bench(NO_OFFLOAD)
    packet = super_segment(tcp_headers(), pieces(bytes(5000)), 1448, bench.dev)
    assert bench.devices.dev_queue_xmit(packet)
    sent = []
    while (tx := bench.nic.next_tx()) is not None:
        assert not tx.needs_csum and tx.gso_size == 0
        sent.append(b"".join(tx.pieces))
        bench.nic.tx_done()
    assert [len(data) for data in sent] == [1514, 1514, 1514, 66 + 5000 - 3 * 1448]
    assert max(len(data) for data in sent) == MTU + 14
    assert [IP(data[14:]).id for data in sent] == [1, 2, 3, 4]


def test_a_frame_may_begin_anywhere_in_its_buffer() -> None:
    """The hardware's own header stays in front of the frame, uncopied; every offset follows from ``start``."""
    bench = Bench()
    whole = frame(b"payload")
    bench.nic.receive_frame(b"\xee" * 10 + whole, start=10)
    bench.nic.rx_interrupt()
    bench.devices.net_rx_action()
    (packet,) = bench.sink.packets
    assert packet.buf[packet.mac_header : packet.end] == whole
    assert (packet.mac_header, packet.network_header, packet.data) == (10, 24, 24)
    assert stats(bench.dev) == {"rx_packets": 1, "rx_bytes": len(whole)}
