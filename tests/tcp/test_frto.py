"""F-RTO: was the timeout spurious (RFC 5682)? With SACK (section 3) and without (section 2)."""

from __future__ import annotations

import pytest

from tests.tcp.flight import ack, connected, numbers
from tests.tcp.peer import SEC, Peer
from ustack.tcp.control import TCP_CA_LOSS, TCP_CA_OPEN


def timed_out(count: int = 10, queued: int = 10, sack: bool = True) -> Peer:
    """``count`` segments in flight, the first has just been sent again by the timer; ``queued`` wait."""
    c = connected(sack=sack)
    c.net.sysctl.tcp_early_retrans = 0
    c.app_send(bytes(count * 1000))
    assert numbers(c) == list(range(count))
    c.app_send(bytes(queued * 1000)) if queued else None
    c.run(int(c.tp.rto))
    assert numbers(c) == [0]
    assert (c.tp.ca_state, c.tp.snd_cwnd, c.tp.frto, c.tp.lost_out) == (TCP_CA_LOSS, 1, True, count)
    c.mark()
    return c


def test_an_ack_of_what_was_sent_once_shows_that_nothing_was_lost() -> None:
    """3.1 step 3b: "If the acknowledgment [...] acknowledges data that was not retransmitted after timeout, declare
    the timeout spurious"; section 4: the window is what it was."""
    with timed_out() as c:
        ack(c, 4)
        assert (c.tp.ca_state, c.tp.lost_out) == (TCP_CA_OPEN, 0)
        assert c.tp.snd_cwnd >= 10
        moved = c.moved()
        assert (moved["TcpExt.TCPSpuriousRTOs"], moved["TcpExt.TCPLossUndo"]) == (1, 1)
        assert "Tcp.RetransSegs" not in moved
        assert min(numbers(c)) == 10  # new data, not what was taken for lost


def test_a_sack_of_what_was_sent_once_shows_it_too() -> None:
    with timed_out() as c:
        ack(c, 0, (3, 6))
        assert c.tp.ca_state != TCP_CA_LOSS
        assert c.moved()["TcpExt.TCPSpuriousRTOs"] == 1
        c.out.clear()
        c.run(10 * SEC)
        c.out.clear()


def test_the_first_ack_that_advances_lets_new_data_go() -> None:
    """2.1 step 2b: "transmit up to two new (previously unsent) segments [...] and enter step 3"."""
    with timed_out() as c:
        ack(c, 1)
        assert numbers(c) == [10, 11]
        assert (c.tp.ca_state, c.tp.frto) == (TCP_CA_LOSS, True)


def test_then_a_sack_of_the_new_data_says_that_the_loss_was_real() -> None:
    """3.1 step 3a: "[...] the retransmission timeout was not spurious": on with slow start."""
    with timed_out() as c:
        ack(c, 1)
        numbers(c)
        ack(c, 1, (10, 11))
        assert not c.tp.frto and c.tp.ca_state == TCP_CA_LOSS
        assert numbers(c)[0] == 1
        assert not any("Undo" in name for name in c.moved())
        ack(c, 12)
        c.run(10 * SEC)
        c.out.clear()


def test_then_an_ack_of_what_was_sent_once_says_that_it_was_not() -> None:
    with timed_out() as c:
        ack(c, 1)
        numbers(c)
        ack(c, 3)
        assert (c.tp.ca_state, c.tp.lost_out) == (TCP_CA_OPEN, 0)
        assert c.moved()["TcpExt.TCPSpuriousRTOs"] == 1
        c.out.clear()
        c.run(10 * SEC)
        c.out.clear()


def test_without_new_data_the_conventional_way_is_taken() -> None:
    """2.1 step 2b: "If [...] no new data to transmit, [...] the TCP sender SHOULD [...] resort to the conventional RTO
    recovery"."""
    with timed_out(queued=0) as c:
        ack(c, 1)
        assert not c.tp.frto and numbers(c) == [1, 2]
        ack(c, 10)


def test_a_second_timeout_of_the_same_segment_is_not_asked_again() -> None:
    """2.1 step 1: "when the retransmission timer expires [again ...] do not" undo what the first one did."""
    with timed_out() as c:
        ssthresh = int(c.tp.snd_ssthresh)
        c.run(2 * int(c.tp.rto))
        assert numbers(c) == [0]
        assert c.tp.snd_ssthresh == ssthresh and c.moved()["TcpExt.TCPTimeouts"] == 1
        ack(c, 10)
        c.out.clear()


def test_it_can_be_switched_off() -> None:
    with connected() as c:
        c.net.sysctl.tcp_frto = 0
        c.net.sysctl.tcp_early_retrans = 0
        c.app_send(bytes(20_000))
        c.out.clear()
        c.run(int(c.tp.rto))
        assert numbers(c) == [0] and not c.tp.frto
        ack(c, 1)
        assert numbers(c)[0] == 1
        c.run(SEC)
        c.out.clear()


# -- without SACK


def test_without_sack_two_acks_that_advance_show_that_nothing_was_lost() -> None:
    """2.1: (2b) new data for the first; (3b) the second acknowledges what "was not retransmitted after timeout"."""
    with timed_out(sack=False) as c:
        ack(c, 1)
        assert numbers(c) == [10, 11]
        ack(c, 2)
        assert c.tp.ca_state == TCP_CA_OPEN and c.tp.lost_out == 0
        assert c.moved()["TcpExt.TCPSpuriousRTOs"] == 1
        c.out.clear()
        c.run(10 * SEC)
        c.out.clear()


@pytest.mark.parametrize("dupacks", [1, 2])
def test_without_sack_a_duplicate_ack_shows_that_the_loss_was_real(dupacks: int) -> None:
    """2.1 step 3a."""
    with timed_out(sack=False) as c:
        ack(c, 1)
        assert numbers(c) == [10, 11]
        for _ in range(dupacks):
            ack(c, 1)
        assert not c.tp.frto and c.tp.ca_state == TCP_CA_LOSS
        assert numbers(c)[0] == 1
        ack(c, 12)
        c.run(10 * SEC)
        c.out.clear()
