"""Proportional rate reduction (RFC 6937), ACK by ACK on a bare control block, and over a flight."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tcp.block import control_block
from tests.tcp.flight import RTT, ack, flight, numbers
from tests.tcp.peer import SEC
from ustack.tcp.ack_state import FLAG_SND_UNA_ADVANCED
from ustack.tcp.control import TCP_CA_CWR, TCP_CA_OPEN, TCP_CA_RECOVERY
from ustack.tcp.prr import tcp_cwnd_reduction, tcp_end_cwnd_reduction, tcp_enter_cwr, tcp_init_cwnd_reduction

if TYPE_CHECKING:
    from ustack.tcp.sock import TcpSock


def reducing(cwnd: int = 20) -> TcpSock:
    """``cwnd`` packets are in flight; the window comes down to half of it (Reno)."""
    tp = control_block()
    tp.congestion = tp.tables.congestion.find("reno")
    tp.snd_cwnd = tp.packets_out = cwnd
    tcp_init_cwnd_reduction(tp)
    tp.ca_state = TCP_CA_RECOVERY
    tp.undo_marker = 1
    return tp


def test_it_begins_with_ssthresh_and_nothing_delivered() -> None:
    tp = reducing()
    assert (tp.snd_ssthresh, tp.prior_cwnd, tp.prr_delivered, tp.prr_out, tp.high_seq) == (10, 20, 0, 0, tp.snd_nxt)


def test_while_more_than_ssthresh_is_in_flight_one_goes_for_two_delivered() -> None:
    """RFC 6937 3.1: "sndcnt = CEIL(prr_delivered * ssthresh / RecoverFS) - prr_out"."""
    tp = reducing()
    sent = []
    for _ in range(10):
        tp.sacked_out += 1
        tcp_cwnd_reduction(tp, 1, 0, 0)
        can = int(tp.snd_cwnd) - int(tp.tcp_packets_in_flight())
        sent.append(can)
        tp.prr_out += can
        tp.packets_out += can
    assert sum(sent) == 5
    assert all(a + b == 1 for a, b in zip(sent[::2], sent[1::2], strict=True))


def test_below_ssthresh_it_grows_no_faster_than_what_is_delivered_plus_one() -> None:
    """3.1, PRR-SSRB: "limit = MAX(prr_delivered - prr_out, DeliveredData) + MSS" while recovery makes progress; else
    what was delivered (PRR-CRB)."""
    tp = reducing()
    tp.lost_out = 15
    tp.prr_out = 1
    tcp_cwnd_reduction(tp, 2, 0, FLAG_SND_UNA_ADVANCED)
    assert tp.snd_cwnd == 5 + 3
    tp.prr_out += 3
    tcp_cwnd_reduction(tp, 2, 1, FLAG_SND_UNA_ADVANCED)  # and something was lost
    assert tp.snd_cwnd == 5 + 2
    tcp_cwnd_reduction(tp, 2, 0, 0)  # no progress
    assert tp.snd_cwnd == 5 + 2


def test_the_first_ack_lets_at_least_the_retransmission_go() -> None:
    """RFC 6675 section 5 step 4.3: "Retransmit the first data segment presumed dropped"."""
    tp = reducing()
    tp.packets_out = 40
    tcp_cwnd_reduction(tp, 1, 1, 0)
    assert tp.snd_cwnd == 41
    tp.prr_out = 1
    tcp_cwnd_reduction(tp, 1, 0, 0)
    assert tp.snd_cwnd == 40


def test_an_ack_that_delivers_nothing_changes_nothing() -> None:
    tp = reducing()
    tcp_cwnd_reduction(tp, 0, 5, FLAG_SND_UNA_ADVANCED)
    assert (tp.snd_cwnd, tp.prr_delivered) == (20, 0)


def test_at_the_end_cwnd_is_ssthresh() -> None:
    tp = reducing()
    tp.snd_cwnd = 3
    tcp_end_cwnd_reduction(tp)
    assert tp.snd_cwnd == 10


def test_what_was_undone_is_not_reduced_at_the_end() -> None:
    tp = reducing()
    tp.undo_marker = 0
    tcp_end_cwnd_reduction(tp)
    assert tp.snd_cwnd == 20


def test_cwr_is_entered_once_and_not_undone() -> None:
    tp = control_block()
    tp.congestion = tp.tables.congestion.find("reno")
    tp.snd_cwnd = 20
    tp.prior_ssthresh = 77
    tcp_enter_cwr(tp)
    assert (tp.ca_state, tp.snd_ssthresh, tp.prior_ssthresh, tp.undo_marker) == (TCP_CA_CWR, 10, 0, 0)
    tcp_enter_cwr(tp)
    assert tp.snd_ssthresh == 10


@settings(max_examples=60, deadline=None)
@given(st.integers(4, 100), st.lists(st.tuples(st.integers(1, 4), st.booleans()), min_size=1, max_size=60))
def test_no_more_goes_than_was_delivered_or_ssthresh_allows(cwnd: int, acks: list[tuple[int, bool]]) -> None:
    """RFC 6937 section 3: over the whole of recovery about ssthresh/prior of what is delivered, and in_flight never
    above ssthresh once it was below."""
    tp = reducing(cwnd)
    below = False
    for delivered, lost in acks:
        delivered = min(delivered, int(tp.packets_out - tp.sacked_out - tp.lost_out))
        tp.sacked_out += delivered
        if lost and tp.sacked_out + tp.lost_out < tp.packets_out:
            tp.lost_out += 1
        tcp_cwnd_reduction(tp, delivered, int(lost), FLAG_SND_UNA_ADVANCED)
        can = max(int(tp.snd_cwnd) - int(tp.tcp_packets_in_flight()), 0)
        tp.prr_out += can
        tp.packets_out += can
        below = below or tp.tcp_packets_in_flight() < tp.snd_ssthresh
        if below and tp.prr_out > 1:
            assert tp.tcp_packets_in_flight() <= max(int(tp.snd_ssthresh), 1)
        assert tp.prr_out <= tp.prr_delivered + len(acks) + 1


@pytest.mark.parametrize("sack", [True, False])
def test_recovery_keeps_the_ack_clock_and_ends_at_ssthresh(sack: bool) -> None:
    """Segment 0 of 20 is lost; new data goes at half the pace, the window ends at half of what it was."""
    with flight(20, queued=60, sack=sack) as c:
        c.run(RTT)
        sent = 0
        for upto in range(2, 21):
            ack(c, 0, (1, upto)) if sack else ack(c, 0)
            sent += len(numbers(c))
        assert c.tp.ca_state == TCP_CA_RECOVERY and c.tp.snd_ssthresh == 10
        assert 9 <= sent <= 12  # limited transmit, the retransmission, one for two after that
        c.run(RTT)
        ack(c, 22)
        assert (c.tp.ca_state, c.tp.snd_cwnd) == (TCP_CA_OPEN if sack else c.tp.ca_state, 10)
        c.out.clear()
        c.run(10 * SEC)
        c.out.clear()
