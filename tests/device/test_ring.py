"""The rings and registers, each side against the other, without a driver."""

from __future__ import annotations

from collections import deque

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ustack.device.ring import (
    CMD_EOP,
    CMD_TSE,
    CMD_TXSM,
    DTYP_CONTEXT,
    DTYP_DATA,
    ICR_LSC,
    ICR_RXO,
    ICR_RXT0,
    ICR_TXDW,
    RING_MAX,
    RING_MIN,
    RING_SIZE,
    STAT_DD,
    STAT_EOP,
    InterruptHandler,
    NicRegisters,
    TxRing,
)
from ustack.packet import CHECKSUM_NONE, CHECKSUM_PARTIAL, CHECKSUM_UNNECESSARY, SKB_GSO_TCP_ECN, SKB_GSO_TCPV4


class Line(InterruptHandler):
    """An interrupt line that remembers; it acknowledges nothing, as an idle CPU would."""

    def __init__(self, nic: NicRegisters) -> None:
        self.nic = nic
        self.causes: list[int] = []

    def interrupt(self) -> None:
        self.causes.append(self.nic.read_icr())


def opened(size: int = RING_MIN) -> NicRegisters:
    nic = NicRegisters(size)
    nic.rx.tail = nic.rx.size
    nic.enabled = True
    return nic


def put_data(ring: TxRing, at: int, data: bytes, cmd: int) -> None:
    descriptor = ring.to_fill(at)
    descriptor.dtyp = DTYP_DATA
    descriptor.buffer = data
    descriptor.cmd = cmd
    descriptor.status = 0


def put_context(ring: TxRing, at: int, cmd: int, mss: int = 0, gso_type: int = 0, hdr_len: int = 0) -> None:
    descriptor = ring.to_fill(at)
    descriptor.dtyp = DTYP_CONTEXT
    descriptor.cmd = cmd
    descriptor.tucss = 34
    descriptor.tucso = 50
    descriptor.mss = mss
    descriptor.gso_type = gso_type
    descriptor.hdr_len = hdr_len
    descriptor.status = 0


# -- sizes


@pytest.mark.parametrize("size", [RING_MIN, RING_SIZE, RING_MAX])
def test_ring_sizes_are_powers_of_two(size: int) -> None:
    nic = NicRegisters(size)
    assert len(nic.rx.descriptors) == len(nic.tx.descriptors) == size == nic.tx.mask + 1


def test_descriptors_are_made_as_frames_come_and_then_are_the_rings_own() -> None:
    nic = opened()
    for _ in range(3):
        assert nic.receive_frame(b"frame")
    put_data(nic.tx, 0, b"frame", CMD_EOP)
    assert len({id(descriptor) for descriptor in nic.rx.descriptors}) == 3 + 1, "those that were never used are one"
    assert len({id(descriptor) for descriptor in nic.tx.descriptors}) == 1 + 1
    rest = nic.rx.descriptors[3:]
    assert all(descriptor is rest[0] and descriptor.buffer == b"" and descriptor.status == 0 for descriptor in rest)
    first = nic.rx.descriptors[0]
    assert nic.rx.to_fill(nic.rx.size) is first, "round the ring it is the same again"


@pytest.mark.parametrize("size", [-256, 0, 1, RING_MIN // 2, RING_MIN + 1, 255, 257, RING_MAX * 2])
def test_any_other_size_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match="power of two"):
        NicRegisters(size)


# -- transmit


def test_an_empty_ring_has_no_frame_and_no_doorbell() -> None:
    nic = opened()
    nic.doorbell = True
    assert nic.next_tx() is None
    assert not nic.doorbell and nic.icr == 0


def test_descriptors_before_the_tail_write_are_not_the_hardwares() -> None:
    """Manual 3.4: the hardware owns the descriptors from head to tail; writing the tail is the doorbell."""
    nic = opened()
    put_data(nic.tx, 0, b"frame", CMD_EOP)
    assert nic.next_tx() is None and not nic.doorbell
    nic.write_tx_tail(1)
    assert nic.doorbell
    frame = nic.next_tx()
    assert frame is not None and frame.pieces == [b"frame"]


def test_a_frame_ends_at_the_descriptor_with_eop() -> None:
    nic = opened()
    put_data(nic.tx, 0, b"one", 0)
    put_data(nic.tx, 1, b"two", 0)
    put_data(nic.tx, 2, b"three", CMD_EOP)
    put_data(nic.tx, 3, b"next", CMD_EOP)
    nic.write_tx_tail(4)
    frame = nic.next_tx()
    assert frame is not None and frame.pieces == [b"one", b"two", b"three"]
    assert (frame.needs_csum, frame.gso_size, frame.gso_type) == (False, 0, 0)
    nic.tx_done()
    frame = nic.next_tx()
    assert frame is not None and frame.pieces == [b"next"]


def test_the_frame_stays_first_until_it_is_done() -> None:
    """A TAP whose queue is full answers EAGAIN: the frame is tried again, it is not lost and not doubled."""
    nic = opened()
    put_data(nic.tx, 0, b"frame", CMD_EOP)
    nic.write_tx_tail(1)
    for _ in range(3):
        frame = nic.next_tx()
        assert frame is not None and frame.pieces == [b"frame"]
    assert nic.icr == 0 and nic.tx.descriptors[0].status == 0
    nic.tx_done()
    assert nic.next_tx() is None


def test_a_context_is_a_virtio_net_hdr_checksum() -> None:
    nic = opened()
    put_context(nic.tx, 0, 0)
    put_data(nic.tx, 1, b"frame", CMD_EOP | CMD_TXSM)
    nic.write_tx_tail(2)
    frame = nic.next_tx()
    assert frame is not None and frame.pieces == [b"frame"]
    assert (frame.needs_csum, frame.csum_start, frame.csum_offset) == (True, 34, 16)
    assert (frame.gso_size, frame.gso_type, frame.hdr_len) == (0, 0, 0)


def test_a_context_with_tse_is_a_virtio_net_hdr_gso() -> None:
    nic = opened()
    put_context(nic.tx, 0, CMD_TSE, 1448, SKB_GSO_TCPV4 | SKB_GSO_TCP_ECN, 66)
    put_data(nic.tx, 1, b"head", CMD_TXSM)
    put_data(nic.tx, 2, b"body", CMD_EOP)
    nic.write_tx_tail(3)
    frame = nic.next_tx()
    assert frame is not None and frame.pieces == [b"head", b"body"] and frame.needs_csum
    assert (frame.gso_size, frame.gso_type, frame.hdr_len) == (1448, SKB_GSO_TCPV4 | SKB_GSO_TCP_ECN, 66)


def test_offloads_of_one_frame_say_nothing_about_the_next() -> None:
    nic = opened()
    put_context(nic.tx, 0, CMD_TSE, 1448, SKB_GSO_TCPV4, 66)
    put_data(nic.tx, 1, b"big", CMD_EOP | CMD_TXSM)
    put_data(nic.tx, 2, b"plain", CMD_EOP)
    put_context(nic.tx, 3, 0)
    put_data(nic.tx, 4, b"summed", CMD_EOP | CMD_TXSM)
    nic.write_tx_tail(5)
    seen = []
    for _ in range(3):
        frame = nic.next_tx()
        assert frame is not None
        seen.append((bytes(frame.pieces[0]), frame.needs_csum, frame.gso_size, frame.gso_type, frame.hdr_len))
        nic.tx_done()
    assert seen == [(b"big", True, 1448, SKB_GSO_TCPV4, 66), (b"plain", False, 0, 0, 0), (b"summed", True, 0, 0, 0)]


def test_done_writes_dd_back_and_lets_go_of_the_buffers() -> None:
    nic = opened()
    put_context(nic.tx, 0, 0)
    put_data(nic.tx, 1, b"head", CMD_TXSM)
    put_data(nic.tx, 2, b"body", CMD_EOP)
    nic.write_tx_tail(3)
    frame = nic.next_tx()
    assert frame is not None
    nic.tx_done()
    assert [d.status & STAT_DD for d in nic.tx.descriptors[:4]] == [STAT_DD, STAT_DD, STAT_DD, 0]
    assert all(d.buffer == b"" for d in nic.tx.descriptors) and frame.pieces == []
    assert nic.tx.head == 3 and nic.icr == ICR_TXDW


# -- receive


def test_a_received_frame_is_one_descriptor_with_dd_and_eop() -> None:
    nic = opened()
    assert nic.rx_room() == RING_MIN
    assert nic.receive_frame(b"frame")
    first = nic.rx.descriptors[0]
    assert (first.buffer, first.status, first.ip_summed) == (b"frame", STAT_DD | STAT_EOP, CHECKSUM_NONE)
    assert (first.gso_size, first.gso_type) == (0, 0)
    assert nic.rx.descriptors[1].status == 0 and nic.rx_room() == RING_MIN - 1


def test_the_descriptor_reports_checksum_and_segment_size() -> None:
    nic = opened()
    nic.receive_frame(b"partial", CHECKSUM_PARTIAL, 34, 16, 1448, SKB_GSO_TCPV4)
    nic.receive_frame(b"valid", CHECKSUM_UNNECESSARY)
    first, second = nic.rx.descriptors[:2]
    assert (first.ip_summed, first.csum_start, first.csum_offset) == (CHECKSUM_PARTIAL, 34, 16)
    assert (first.gso_size, first.gso_type) == (1448, SKB_GSO_TCPV4)
    assert (second.ip_summed, second.gso_size) == (CHECKSUM_UNNECESSARY, 0)


def test_an_overrun_is_refused_counted_and_signalled() -> None:
    nic = opened()
    assert all(nic.receive_frame(b"frame") for _ in range(RING_MIN))
    assert nic.rx_room() == 0 and nic.icr == 0
    assert not nic.receive_frame(b"one too many")
    assert not nic.receive_frame(b"and another")
    assert nic.icr == ICR_RXO
    assert nic.read_mpc() == 2 and nic.read_mpc() == 0
    assert all(d.buffer == b"frame" for d in nic.rx.descriptors)


def test_a_device_that_is_not_open_receives_nothing_and_counts_nothing() -> None:
    nic = NicRegisters()
    assert nic.rx_room() == 0 and not nic.receive_frame(b"frame")
    assert nic.mpc == 0 and nic.icr == 0


# -- interrupts


def test_a_masked_cause_waits_for_its_mask() -> None:
    """Manual 13.4.20: an interrupt is asserted whenever a bit is set in both ICR and IMS, whichever came last."""
    nic = opened()
    line = nic.handler = Line(nic)
    nic.rx_interrupt()
    assert line.causes == []
    nic.write_ims(ICR_TXDW)
    assert line.causes == []
    nic.write_ims(ICR_TXDW | ICR_RXT0)
    assert line.causes == [ICR_RXT0]


def test_reading_the_cause_clears_it() -> None:
    nic = opened()
    nic.raise_cause(ICR_RXT0)
    nic.raise_cause(ICR_TXDW)
    assert nic.read_icr() == ICR_RXT0 | ICR_TXDW
    assert nic.read_icr() == 0


def test_one_interrupt_for_a_batch_of_received_frames() -> None:
    nic = opened()
    line = nic.handler = Line(nic)
    nic.write_ims(ICR_RXT0)
    for _ in range(10):
        nic.receive_frame(b"frame")
    assert line.causes == []
    nic.rx_interrupt()
    assert line.causes == [ICR_RXT0]


def test_the_link_interrupts_when_it_changes_only() -> None:
    nic = opened()
    line = nic.handler = Line(nic)
    nic.write_ims(ICR_LSC)
    nic.set_link(True)
    assert line.causes == []
    nic.set_link(False)
    nic.set_link(False)
    nic.set_link(True)
    assert line.causes == [ICR_LSC, ICR_LSC] and nic.link_up


def test_without_a_driver_a_cause_stays_up() -> None:
    nic = opened()
    nic.write_ims(ICR_RXT0)
    nic.rx_interrupt()
    assert nic.icr == ICR_RXT0


# -- any order of events


@settings(max_examples=60, deadline=None)
@given(st.lists(st.one_of(st.integers(1, 40), st.just("send"), st.just("reap")), max_size=120))
def test_frames_leave_in_order_whatever_the_pace(events: list[int | str]) -> None:
    """The ring against a queue: frames of 1 to 40 descriptors, across the wrap, never more than it holds."""
    nic = opened()
    model: deque[list[bytes]] = deque()
    use = clean = 0
    for event in events:
        if event == "send":
            frame = nic.next_tx()
            assert (frame is None) == (not model)
            if frame is not None:
                assert frame.pieces == model.popleft()
                nic.tx_done()
        elif event == "reap":
            while clean != use and nic.tx.descriptors[clean & nic.tx.mask].status & STAT_DD:
                clean += 1
        elif isinstance(event, int) and RING_MIN - (use - clean) >= event:
            data = [b"%d/%d" % (use, n) for n in range(event)]
            for n, piece in enumerate(data):
                put_data(nic.tx, use, piece, CMD_EOP if n == event - 1 else 0)
                use += 1
            nic.write_tx_tail(use)
            model.append(data)
    assert nic.tx.tail == use and nic.doorbell >= bool(model)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 100), st.integers(0, 100)), max_size=20))
def test_received_frames_are_taken_out_in_order_and_none_is_overwritten(rounds: list[tuple[int, int]]) -> None:
    nic = opened()
    model: deque[bytes] = deque()
    missed = number = clean = 0
    for arrive, take in rounds:
        for _ in range(arrive):
            number += 1
            data = b"%d" % number
            if nic.receive_frame(data):
                model.append(data)
            else:
                missed += 1
        for _ in range(min(take, len(model))):
            descriptor = nic.rx.descriptors[clean & nic.rx.mask]
            assert descriptor.status == STAT_DD | STAT_EOP and descriptor.buffer == model.popleft()
            descriptor.status = 0
            clean += 1
            nic.rx.tail += 1
    assert nic.mpc == missed and number == clean + len(model) + missed
    assert nic.rx_room() == RING_MIN - len(model)
