"""Whole transfers over cables from perfect to hopeless, in virtual time: every byte arrives once, nothing is left."""

from __future__ import annotations

import pytest

from tests.harness import MSEC, SEC, Pair
from tests.sim.transfer import MEGABYTE, exchange, file
from ustack.device.cable import Impairments
from ustack.device.e1000 import E1000_FEATURES, NO_OFFLOAD

THERE, BACK = file(1, MEGABYTE), file(2, MEGABYTE)
SEEDS = 200
#: Without offload every segment is a frame: five times the work for each seed.
PLAIN_SEEDS = 15
#: R2 ends a connection after so many retransmissions in a row; a path this bad takes more (its own test: test_rto.py).
PATIENT = 200


def hopeless() -> Impairments:
    return Impairments(delay=MSEC, loss=0.2, reorder=0.2, duplicate=0.05, corrupt=0.01)


def patient(pair: Pair) -> Pair:
    for stack in (pair.a, pair.b):
        stack.net.sysctl.tcp_retries2 = PATIENT
        stack.net.sysctl.tcp_syn_retries = 20
        stack.net.sysctl.tcp_synack_retries = 20
    return pair


@pytest.mark.parametrize("seed", range(SEEDS))
def test_a_megabyte_each_way_survives_loss_reordering_duplication_and_corruption(seed: int) -> None:
    with patient(Pair(seed, hopeless(), resolved=True)) as pair:
        exchange(pair, THERE, BACK)
        assert pair.a.net.mib.tcp.RetransSegs + pair.b.net.mib.tcp.RetransSegs > 0
        for stack, lane in ((pair.a, pair.cable.back), (pair.b, pair.cable.there)):
            tcp = stack.net.mib.tcp
            assert tcp.AttemptFails == 0 and tcp.EstabResets == 0
            assert tcp.InCsumErrors + stack.net.mib.ip.InCsumErrors <= lane.stats.corrupted


@pytest.mark.parametrize("seed", range(PLAIN_SEEDS))
@pytest.mark.parametrize("features", [E1000_FEATURES, NO_OFFLOAD], ids=["tso", "software-gso"])
def test_the_same_in_frames_of_the_wires_size(seed: int, features: int) -> None:
    """Cut by the device, or by the stack itself with its own checksums: each frame has a fate of its own."""
    with patient(Pair(seed, hopeless(), features=features, super_segments=False, resolved=True)) as pair:
        exchange(pair, THERE, BACK)


def test_the_same_seed_is_the_same_run() -> None:
    runs = []
    for _ in range(2):
        with patient(Pair(7, hopeless(), resolved=True)) as pair:
            took = exchange(pair, THERE, BACK)
            runs.append((took, pair.a.net.mib.snapshot(), pair.b.net.mib.snapshot()))
    assert runs[0] == runs[1]


@pytest.mark.parametrize("features", [E1000_FEATURES, NO_OFFLOAD], ids=["tso", "software-gso"])
@pytest.mark.parametrize("super_segments", [True, False], ids=["merged", "frames"])
def test_a_perfect_cable_needs_no_retransmission(features: int, super_segments: bool) -> None:
    """But for loss probes: two round trips are less than a delayed ACK may take (RFC 8985 section 7.2)."""
    with Pair(3, Impairments(delay=MSEC), features=features, super_segments=super_segments) as pair:
        exchange(pair, THERE, BACK)
        probes = sum(stack.net.mib.tcpext.TCPLossProbes for stack in (pair.a, pair.b))
        assert probes <= 1
        for stack in (pair.a, pair.b):
            mib = stack.net.mib
            assert mib.tcp.RetransSegs <= probes and mib.tcpext.TCPOFOQueue == 0 and mib.tcpext.TCPTimeouts == 0
            lost = {reason.name for reason in stack.net.drops if reason.name.startswith("TCP_")}
            assert lost <= ({"TCP_OLD_DATA", "TCP_TIMEWAIT"} if probes else set())


def test_reordering_alone_loses_nothing() -> None:
    """A few frames late by less than three others: RFC 5681's threshold is not reached often, and no timer fires."""
    with Pair(5, Impairments(delay=5 * MSEC, reorder=0.02, reorder_delay=20_000), super_segments=False) as pair:
        exchange(pair, THERE, BACK)
        for stack in (pair.a, pair.b):
            assert stack.net.mib.tcpext.TCPTimeouts == 0


def test_duplicates_are_delivered_once_and_answered() -> None:
    with Pair(6, Impairments(delay=MSEC, duplicate=0.3), super_segments=False) as pair:
        exchange(pair, THERE, BACK)
        for stack in (pair.a, pair.b):
            assert stack.net.mib.tcpext.TCPTimeouts == 0
            assert stack.net.mib.tcpext.DelayedACKLost > 0


# -- throughput, in virtual time

RATE = 1_000_000_000


def megabits(size: int, took: int) -> float:
    return size * 8 / (took / SEC) / 1e6


@pytest.mark.parametrize("features", [E1000_FEATURES, NO_OFFLOAD], ids=["tso", "software-gso"])
def test_a_clean_gigabit_with_ten_milliseconds_is_filled(features: int) -> None:
    """Slow start reaches the 860 segments that fill it in seven round trips; the rest goes at the cable's rate."""
    size = 20 * MEGABYTE
    data = file(1, size)
    lane = Impairments(delay=5 * MSEC, rate=RATE, limit=4 * MEGABYTE)
    with Pair(1, lane, features=features, super_segments=False) as pair:
        took = exchange(pair, data, b"")
        assert megabits(size, took - 8 * 10 * MSEC) > 900
        assert pair.a.net.mib.tcp.RetransSegs == 0


def test_one_in_a_thousand_lost_does_not_collapse_it() -> None:
    """Mathis: 1460 B / 10 ms * 1.22 / sqrt(0.001) is 45 Mbit/s of one connection; half of that is asked for."""
    size = 20 * MEGABYTE
    data = file(1, size)
    lane = Impairments(delay=5 * MSEC, rate=RATE, limit=4 * MEGABYTE, loss=0.001)
    with Pair(2, lane, Impairments(delay=5 * MSEC, rate=RATE), super_segments=False) as pair:
        took = exchange(pair, data, b"")
        assert megabits(size, took) > 22
        assert pair.a.net.mib.tcpext.TCPSackRecovery > 0


def test_a_short_queue_costs_some_packets_and_little_time() -> None:
    """A tenth of the bandwidth-delay product before the bottleneck: many recoveries, and still half the rate."""
    size = 20 * MEGABYTE
    data = file(1, size)
    lane = Impairments(delay=5 * MSEC, rate=RATE // 10, limit=125_000)
    with Pair(2, lane, Impairments(delay=5 * MSEC), super_segments=False) as pair:
        took = exchange(pair, data, b"")
        assert pair.cable.there.stats.overlimits > 0
        assert megabits(size, took) > 50
