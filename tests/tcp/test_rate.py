"""Delivery rate samples, to the nanosecond (draft-cheng-iccrg-delivery-rate-estimation; Linux tcp_rate.c)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.tcp.block import control_block
from tests.tcp.peer import established
from ustack.tcp.rate import (
    RateSample,
    tcp_rate_check_app_limited,
    tcp_rate_gen,
    tcp_rate_skb_delivered,
    tcp_rate_skb_sent,
)
from ustack.tcp.segment import TCPCB_EVER_RETRANS, TCPCB_SACKED_ACKED, TcpSkb
from ustack.wire.tcp import TCPHDR_ACK

if TYPE_CHECKING:
    from ustack.tcp.sock import TcpSock

MSEC = 1_000_000
MSS = 1000


class Sender:
    """A control block that sends and is acknowledged by hand, a packet an skb."""

    def __init__(self) -> None:
        self.tp: TcpSock = control_block()
        self.tp.mss_cache = MSS
        self.tp.delivered = 1  # the SYN
        self.tp.app_limited = 0
        self.tp.min_rtt = 10 * MSEC
        self.now = 1000 * MSEC

    def at(self, ms: float) -> None:
        self.now = 1000 * MSEC + round(ms * MSEC)
        self.tp.net.now = self.now

    def send(self) -> TcpSkb:
        tp = self.tp
        skb = TcpSkb(tp.snd_nxt, TCPHDR_ACK)
        skb.append(bytes(MSS), MSS)
        skb.sent_at = self.now
        tcp_rate_skb_sent(tp, skb)
        tp.snd_nxt = tp.write_seq = skb.end_seq
        tp.packets_out += 1
        return skb

    def ack(self, *skbs: TcpSkb, lost: int = 0, reneg: bool = False) -> RateSample:
        rs = RateSample()
        for skb in skbs:
            self.tp.delivered += 1
            tcp_rate_skb_delivered(self.tp, skb, rs)
            self.tp.packets_out -= 1
        tcp_rate_gen(self.tp, len(skbs), lost, reneg, rs)
        return rs


def test_a_flight_of_one_round_trip() -> None:
    """Four packets sent at once, acknowledged after 10 ms: four in 10 ms, nothing having been in flight before."""
    s = Sender()
    s.at(0)
    skbs = [s.send() for _ in range(4)]
    s.at(10)
    rs = s.ack(*skbs)
    assert (rs.delivered, rs.interval, rs.snd_interval, rs.rcv_interval) == (4, 10 * MSEC, 0, 10 * MSEC)
    assert (rs.acked_sacked, rs.losses, rs.is_app_limited, rs.is_retrans) == (4, 0, False, False)
    assert (s.tp.rate_delivered, s.tp.rate_interval, s.tp.rate_app_limited) == (4, 10 * MSEC, False)


def test_the_ack_phase_begins_where_the_last_delivery_was() -> None:
    """A packet a millisecond, each acknowledged 10 ms later: in the steady state ten in 10 ms."""
    s = Sender()
    sent: list[TcpSkb] = []
    sample = RateSample()
    for ms in range(40):
        s.at(ms)
        if ms >= 10:
            sample = s.ack(sent[ms - 10])
        sent.append(s.send())
    # what was delivered when the packet was sent was one a round trip ago
    assert (sample.delivered, sample.interval) == (10, 10 * MSEC)
    assert (sample.snd_interval, sample.rcv_interval) == (10 * MSEC, 10 * MSEC)


def test_acks_that_were_held_back_and_come_at_once_do_not_raise_the_rate() -> None:
    """The draft, 3.3: the send phase bounds it."""
    s = Sender()
    sent: list[TcpSkb] = []
    for ms in range(20):
        s.at(ms)
        if 10 <= ms < 15:
            s.ack(sent[ms - 10])
        sent.append(s.send())
    s.at(25)
    rs = s.ack(*sent[5:16])
    # sent[15] left at 15 ms, when 6 had been delivered (the SYN and five), the last of them at 14 ms
    assert (rs.delivered, rs.rcv_interval) == (11, 11 * MSEC)
    assert rs.snd_interval == 11 * MSEC
    assert rs.interval == 11 * MSEC


def test_the_send_phase_counts_when_it_was_longer() -> None:
    """Packets sent slowly, whose ACKs come all together: delivered as slowly as sent."""
    s = Sender()
    s.at(0)
    sent = [s.send()]
    for ms in (30, 60):
        s.at(ms)
        sent.append(s.send())
    s.at(70)
    rs = s.ack(*sent)
    assert (rs.delivered, rs.snd_interval, rs.rcv_interval, rs.interval) == (3, 60 * MSEC, 70 * MSEC, 70 * MSEC)


def test_a_pause_restarts_the_clock() -> None:
    """With nothing in flight the interval begins with the next packet: the pause is not the network's."""
    s = Sender()
    s.at(0)
    first = s.send()
    s.at(10)
    s.ack(first)
    s.at(5000)
    second = s.send()
    s.at(5012)
    rs = s.ack(second)
    assert (rs.delivered, rs.interval) == (1, 12 * MSEC)


def test_the_sample_is_of_the_packet_sent_last() -> None:
    """Of several acknowledged at once, whatever their order; of those sent together the one that ends last."""
    s = Sender()
    s.at(0)
    a, b = s.send(), s.send()
    s.at(5)
    c = s.send()
    s.at(12)
    rs = s.ack(a)
    assert rs.last_end_seq == a.end_seq
    s.at(15)
    rs = s.ack(c, b)
    assert rs.last_end_seq == c.end_seq
    assert rs.prior_delivered == 1


def test_what_was_sacked_counts_once() -> None:
    s = Sender()
    s.at(0)
    _a, b = s.send(), s.send()
    s.at(10)
    b.sacked |= TCPCB_SACKED_ACKED
    s.ack(b)
    assert b.tx_delivered_mstamp == 0
    s.at(11)
    s.tp.packets_out += 1
    rs = RateSample()
    tcp_rate_skb_delivered(s.tp, b, rs)  # acknowledged cumulatively with the hole before it
    assert rs.prior_mstamp == 0
    tcp_rate_gen(s.tp, 0, 0, False, rs)
    assert (rs.delivered, rs.interval) == (-1, -1)


def test_a_retransmission_says_so_and_what_took_less_than_a_round_trip_is_no_sample() -> None:
    """After a spurious retransmission the ACK is the original's: the interval would be too short."""
    s = Sender()
    s.at(0)
    a = s.send()
    s.at(9)
    a.sent_at = s.now
    a.sacked |= TCPCB_EVER_RETRANS
    s.tp.first_tx_mstamp = s.tp.delivered_mstamp = s.now
    tcp_rate_skb_sent(s.tp, a)
    s.at(10)
    rs = s.ack(a, lost=1)
    assert (rs.is_retrans, rs.delivered, rs.interval, rs.losses) == (True, 1, -1, 1)
    assert s.tp.rate_interval == 0


def test_reneging_makes_no_sample() -> None:
    s = Sender()
    s.at(0)
    a = s.send()
    s.at(10)
    rs = s.ack(a, reneg=True)
    assert (rs.delivered, rs.interval) == (-1, -1)


def test_marked_packets_of_the_interval() -> None:
    s = Sender()
    s.at(0)
    skbs = [s.send(), s.send()]
    s.at(10)
    s.tp.delivered_ce += 1
    assert s.ack(*skbs).delivered_ce == 1


# -- app-limited


def test_the_application_has_no_more_to_send() -> None:
    """The flight that leaves now, and all that is in flight, is a bubble: until it is through samples are limited."""
    s = Sender()
    s.at(0)
    first = s.send()
    tcp_rate_check_app_limited(s.tp)
    assert s.tp.app_limited == 1 + 1
    second = s.send()
    s.at(10)
    assert not s.ack(first).is_app_limited
    assert s.tp.app_limited == 2
    s.at(11)
    rs = s.ack(second)
    assert rs.is_app_limited and s.tp.app_limited == 0
    s.at(12)
    third = s.send()
    s.at(30)
    assert not s.ack(third).is_app_limited


def test_no_bubble_while_something_else_holds_the_sender_back() -> None:
    def limited(change: str, value: int) -> bool:
        s = Sender()
        s.send()
        setattr(s.tp, change, value)
        tcp_rate_check_app_limited(s.tp)
        return s.tp.app_limited != 0

    assert limited("mss_cache", MSS)
    assert not limited("write_seq", 2 * MSS)  # a whole segment waits
    assert not limited("snd_cwnd", 1)  # cwnd is full
    assert not limited("lost_out", 1)  # something is to be sent again
    assert not limited("tsq_throttled", True)  # the device is


def test_a_limited_sample_is_kept_for_the_user_only_if_it_is_higher() -> None:
    s = Sender()
    s.at(0)
    skbs = [s.send() for _ in range(4)]
    s.at(10)
    s.ack(*skbs)
    s.at(20)
    slow = s.send()
    slow.tx_is_app_limited = True
    s.at(40)
    s.ack(slow)
    assert (s.tp.rate_delivered, s.tp.rate_interval, s.tp.rate_app_limited) == (4, 10 * MSEC, False)
    fast = [s.send() for _ in range(10)]
    for skb in fast:
        skb.tx_is_app_limited = True
    s.at(50)
    s.ack(*fast)
    assert (s.tp.rate_delivered, s.tp.rate_interval, s.tp.rate_app_limited) == (10, 10 * MSEC, True)


def test_before_anything_was_delivered_the_connection_counts_as_limited() -> None:
    tp = control_block()
    assert tp.app_limited != 0 and tp.rate_app_limited
    tp.delivered = 1
    tcp_rate_gen(tp, 1, 0, False, RateSample())
    assert tp.app_limited == 0


# -- on the wire


def test_the_answer_to_our_syn_ends_the_first_bubble() -> None:
    """tcp_rate_gen runs for the SYN-ACK too; the ACK of a SYN-ACK acknowledges nothing in a queue."""
    with established(active=True) as c:
        assert c.tp.app_limited == 0
    with established() as c:
        assert c.tp.app_limited != 0


def test_a_whole_connection_measures_its_path() -> None:
    """Ten segments in 100 ms. They left after a pause, with less than a segment waiting: a lower bound."""
    with established() as c:
        c.app_send(bytes(10 * 1460))
        c.out.clear()
        c.run(100 * MSEC)
        c.inject("A")
        assert (c.tp.delivered, c.tp.rate_delivered, c.tp.rate_interval) == (11, 10, 100 * MSEC)
        assert c.tp.rate_app_limited and c.tp.app_limited == 0  # which it is through with


def test_a_sender_that_always_has_more_is_not_limited() -> None:
    with established(wscale=8, window=1 << 22) as c:
        c.inject("A", window=1 << 22)
        c.tp.sndbuf = 1 << 22
        c.app_send(bytes(100 * 1460))
        for _ in range(3):
            c.out.clear()
            c.run(50 * MSEC)
            c.inject("A", window=1 << 22)
        assert c.tp.app_limited == 0 and not c.tp.rate_app_limited
        assert (c.tp.rate_delivered, c.tp.rate_interval) == (40, 50 * MSEC)
        c.out.clear()


def test_a_retransmission_is_a_sample_of_its_own() -> None:
    """What is acknowledged was sent twice, the second time after 200 ms: its interval is from before the first."""
    with established() as c:
        c.app_send(b"abc")
        c.out.clear()
        c.run(210 * MSEC)
        c.out.clear()
        c.run(30 * MSEC)
        c.inject("A")
        assert c.tp.delivered == 2 and c.tp.rate_interval == 240 * MSEC
