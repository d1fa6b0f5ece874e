"""Facts in the words of ss, ip and tcpdump."""

from __future__ import annotations

import pytest

from tests.tcp.block import control_block
from ustack.sock import MSG_DONTWAIT, MSG_MORE, TCP_ESTABLISHED, TCP_LISTEN
from ustack.tcp.control import TCP_CA_LOSS, TCP_CA_OPEN, TCP_CA_RECOVERY, TCP_NAGLE_CORK
from ustack.tcp.segment import TcpSkb
from ustack.tcp.trace import flags_word, retransmit_cause, where_text_lies
from ustack.tcp.tso import HELD, HELD_BY_CWND, HELD_BY_RWND, held_by
from ustack.trace.words import SendGiven, endpoint, socket_name, usec
from ustack.wire.tcp import TCPHDR_ACK, TCPHDR_FIN, TCPHDR_PSH, TCPHDR_SYN, TcpHeader


def test_endpoints() -> None:
    assert endpoint(0xC000_0202, 4747) == "192.0.2.2:4747"
    assert endpoint(0, 80) == "*:80"


@pytest.mark.parametrize(
    ("ns", "text"),
    [(-1, "unknown"), (0, "0 us"), (1500, "1.5 us"), (40_000_000, "40 ms"), (60_000_000_000, "60 s")],
)
def test_times(ns: int, text: str) -> None:
    assert usec(ns) == text


def test_sockets() -> None:
    tp = control_block()
    assert socket_name(tp) == "tcp *:0"
    tp.rcv_saddr, tp.num, tp.daddr, tp.dport = 0xC000_0201, 5000, 0xC000_0202, 80
    tp.state = TCP_ESTABLISHED
    assert socket_name(tp) == "tcp 192.0.2.1:5000 > 192.0.2.2:80"
    tp.state = TCP_LISTEN
    assert socket_name(tp) == "tcp 192.0.2.1:5000"


def test_what_a_call_was_given() -> None:
    """MSG_DONTWAIT is always there and says nothing; MSG_MORE was asked for."""
    tp = control_block()
    assert SendGiven(tp, 6, MSG_DONTWAIT, 0xC000_0202, 7).facts() == {
        "socket": "tcp *:0",
        "length": 6,
        "to": "192.0.2.2:7",
    }
    assert SendGiven(tp, 6, MSG_MORE, 0, -1).facts() == {"socket": "tcp *:0", "length": 6, "flags": "0x8000"}


def test_flags() -> None:
    assert flags_word(TCPHDR_PSH | TCPHDR_ACK) == "PSH,ACK"
    assert flags_word(TCPHDR_FIN | TCPHDR_ACK) == "FIN,ACK"
    assert flags_word(0) == ""
    assert flags_word(0xFF) == "FIN,SYN,RST,PSH,ACK,URG,ECE,CWR"


def test_what_holds() -> None:
    tp = control_block()
    tp.snd_cwnd = 10
    assert held_by(tp, HELD_BY_RWND) == "held by the receive window"
    assert held_by(tp, HELD_BY_CWND) == "held by cwnd"
    assert held_by(tp, 0) == "not sent"
    assert held_by(tp, HELD) == "held by Nagle"
    tp.nonagle = TCP_NAGLE_CORK
    assert held_by(tp, HELD) == "held by TCP_CORK"
    skb = TcpSkb(1, 0)
    skb.pcount = 2
    tp.writes().append(skb)
    assert held_by(tp, HELD).startswith("held: a larger burst")
    tp.tcp_wstamp = tp.net.now + 1
    assert held_by(tp, 0) == "held by pacing"
    tp.tsq_throttled = True
    assert held_by(tp, 0).startswith("held: the device's queue")
    tp.packets_out = 10
    assert held_by(tp, 0) == "held by cwnd"


def test_why_it_goes_again() -> None:
    tp = control_block()
    data = TcpSkb(1, TCPHDR_ACK)
    assert retransmit_cause(tp, TcpSkb(1, TCPHDR_SYN)) == "SYN not answered"
    tp.ca_state = TCP_CA_OPEN
    assert retransmit_cause(tp, data) == "TLP"
    tp.ca_state = TCP_CA_RECOVERY
    assert retransmit_cause(tp, data) == "fast retransmit"
    tp.sack_ok = True
    assert retransmit_cause(tp, data) == "RACK"
    tp.ca_state = TCP_CA_LOSS
    tp.undo_marker = 1
    assert retransmit_cause(tp, data) == "RTO"
    tp.undo_marker = 0
    assert retransmit_cause(tp, data) == "lost for its size"


@pytest.mark.parametrize(
    ("seq", "length", "window", "words"),
    [
        (1000, 10, 100, "in order"),
        (995, 10, 100, "partly received before"),
        (990, 10, 100, "duplicate"),
        (1001, 10, 100, "out of order"),
        (1100, 10, 100, "beyond the window"),
        (1000, 10, 0, "the window is zero"),
    ],
)
def test_where_text_lies(seq: int, length: int, window: int, words: str) -> None:
    tp = control_block()
    tp.rcv_nxt = tp.rcv_wup = 1000
    tp.rcv_wnd = window
    header = TcpHeader(1, 2, seq, 0, TCPHDR_ACK, 0, 0, 0, 20, 20, 20 + length, False)
    assert where_text_lies(tp, header, seq + length) == words
