"""The tail loss probe (RFC 8985 section 7): when, what, and what its ACK says."""

from __future__ import annotations

import pytest

from tests.tcp.flight import MSS, RTT, ack, connected, flight, numbers
from tests.tcp.peer import MSEC, SEC, Peer
from ustack.tcp.control import (
    ICSK_TIME_LOSS_PROBE,
    ICSK_TIME_RETRANS,
    TCP_CA_LOSS,
    TCP_CA_OPEN,
    TCP_CA_RECOVERY,
)

#: 2 * SRTT and TCP_TIMEOUT_MIN
PTO = 2 * RTT + 2 * MSEC


def probed(count: int = 4) -> Peer:
    """``count`` segments in flight, and the probe, a retransmission of the last, has just gone."""
    c = flight(count)
    c.run(PTO)
    assert numbers(c) == [count - 1]
    c.mark()
    return c


def test_after_two_round_trips_the_last_segment_goes_again() -> None:
    """7.2: "PTO = 2 * SRTT"; 7.3: "Retransmit the highest-sequence segment sent so far"."""
    with flight(4) as c:
        assert c.tp.icsk_pending == ICSK_TIME_LOSS_PROBE
        c.silent(until=PTO - 1)
        c.run(1)
        assert numbers(c) == [3]
        assert (c.tp.ca_state, c.tp.icsk_pending) == (TCP_CA_OPEN, ICSK_TIME_RETRANS)
        assert (c.tp.tlp_high_seq, c.tp.tlp_retrans) == (c.tp.snd_nxt, True)
        assert (c.tp.retrans_out, c.tp.total_retrans) == (0, 1)
        c.counted(TCPLossProbes=1, RetransSegs=1)


def test_alone_it_waits_for_a_delayed_ack_too() -> None:
    """7.2: "If FlightSize is one segment, [...] TLP SHOULD [...] PTO += [...] max_ack_delay"; no later than the RTO."""
    with flight(1) as c:
        rto = int(c.tp.rto)
        assert rto < 2 * RTT + 200 * MSEC
        c.silent(until=rto - 1)
        c.run(1)
        assert numbers(c) == [0]
        assert c.moved()["TcpExt.TCPLossProbes"] == 1


def test_new_data_is_the_better_probe() -> None:
    """7.3: "If an unsent segment exists [...] Transmit the lowest-sequence unsent segment of up to SMSS"."""
    with flight(4, queued=3) as c:
        c.run(PTO)
        assert numbers(c) == [4]
        assert not c.tp.tlp_retrans and c.tp.packets_out == 5
        assert c.moved()["TcpExt.TCPLossProbes"] == 1 and "Tcp.RetransSegs" not in c.moved()
        ack(c, 5)
        assert c.tp.tlp_high_seq == 0
        assert "TcpExt.TCPLossProbeRecovery" not in c.moved()
        c.out.clear()


def test_one_probe_then_the_timeout() -> None:
    """7.3: "at most one" probe is in flight; the RTO counts from it, and is a real one."""
    with probed() as c:
        rto = int(c.tp.rto)
        c.silent(until=rto - 1)
        c.run(1)
        assert numbers(c) == [0]
        assert (c.tp.ca_state, c.tp.tlp_high_seq) == (TCP_CA_LOSS, 0)
        assert c.moved()["TcpExt.TCPTimeouts"] == 1
        c.out.clear()


def test_the_probe_shows_what_was_lost_before_it() -> None:
    """7: "the feedback [...] triggers RACK-TLP fast recovery": only the tail came, sacked by the probe's ACK."""
    with probed(10) as c:
        c.run(RTT)
        ack(c, 5, (9, 10))
        c.run(RTT // 4 + 2 * MSEC)
        assert c.tp.ca_state == TCP_CA_RECOVERY
        assert numbers(c)[:1] == [5]
        c.run(RTT)
        ack(c, 10)
        c.out.clear()


def test_a_probe_that_repaired_a_loss_reduces_the_window() -> None:
    """7.4.2: the ACK says that one copy came: there was a loss, "invoke a congestion control response"."""
    with probed(4) as c:
        ack(c, 3)
        assert c.tp.tlp_high_seq != 0
        ack(c, 4)
        c.app_send(bytes(MSS))
        assert numbers(c) == [4]
        c.run(RTT)
        ack(c, 5)
        assert (c.tp.tlp_high_seq, c.tp.ca_state) == (0, TCP_CA_OPEN)
        assert c.tp.snd_cwnd == c.tp.snd_ssthresh < 5
        assert c.moved()["TcpExt.TCPLossProbeRecovery"] == 1


@pytest.mark.parametrize("how", ["duplicate ACK", "D-SACK"])
def test_a_probe_that_came_twice_says_that_nothing_was_lost(how: str) -> None:
    """7.4.2: "a DSACK option" of the probe, or a duplicate ACK: both the original and the probe arrived."""
    with probed(4) as c:
        cwnd = int(c.tp.snd_cwnd)
        ack(c, 4)
        c.tp.snd_cwnd = 10
        if how == "D-SACK":
            ack(c, 4, dup=(3, 4))
        else:
            c.app_send(bytes(MSS))
            c.out.clear()
            ack(c, 4)
        assert c.tp.tlp_high_seq == 0
        assert c.tp.snd_ssthresh == 0x7FFF_FFFF and c.tp.snd_cwnd >= cwnd
        assert "TcpExt.TCPLossProbeRecovery" not in c.moved()
        c.run(SEC)
        c.out.clear()


def test_a_super_segments_tail_is_one_segment() -> None:
    """Only the last MSS goes again, whatever the device takes at once."""
    from ustack.device.e1000 import E1000_FEATURES

    with flight(10, features=E1000_FEATURES) as c:
        c.run(PTO)
        assert numbers(c) == [9]


@pytest.mark.parametrize("why", ["switched off", "no SACK", "recovery"])
def test_there_is_no_probe(why: str) -> None:
    """tcp_early_retrans 0; 7.1: "the connection [...] supports SACK", and "is not in loss recovery"."""
    with flight(10, sack=why != "no SACK") as c:
        if why == "switched off":
            c.net.sysctl.tcp_early_retrans = 0
        if why == "recovery":
            ack(c, 0, (5, 9))
            c.out.clear()
            assert c.tp.ca_state == TCP_CA_RECOVERY
        else:
            ack(c, 1)
            c.out.clear()
        assert c.tp.icsk_pending == ICSK_TIME_RETRANS
        c.run(int(c.tp.rto))
        c.out.clear()
        assert "TcpExt.TCPLossProbes" not in c.moved()
        assert c.moved()["TcpExt.TCPTimeouts"] == 1


def test_without_a_sample_it_waits_a_second() -> None:
    """RFC 8985 7.2: "If SRTT is not available, [...] PTO = 1 second"."""
    with connected() as c:
        c.tp.srtt = 0
        c.tp.rto = 3 * SEC
        c.app_send(bytes(MSS))
        c.out.clear()
        c.mark()
        c.silent(until=SEC - 1)
        c.run(1)
        assert numbers(c) == [0]
        c.out.clear()


def test_every_ack_puts_it_off() -> None:
    with flight(10) as c:
        c.run(150 * MSEC)
        ack(c, 2)
        c.mark()
        c.out.clear()
        c.silent(until=2 * int(c.tp.srtt) + 2 * MSEC - 1)
        c.run(1)
        assert len(numbers(c)) == 1
