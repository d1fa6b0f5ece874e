"""SYN-RECEIVED: half-open connections (tcp_check_req), and the simultaneous open (RFC 9293 section 3.10.7.4, figure
8)."""

from __future__ import annotations

import errno

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tcp.peer import MSEC, PEER, SEC, Peer, code_of, established, simultaneous, syn_recv
from ustack.drop import Reason
from ustack.sock import POLLIN, POLLOUT
from ustack.tcp.options import IPPROTO_TCP, TCP_SYNCNT
from ustack.tcp.states import State

ACK_RATE = 500 * MSEC  #: tcp_invalid_ratelimit


# -- the handshake's end


def test_the_ack_of_our_syn_establishes_and_the_owner_of_the_listener_is_told() -> None:
    """3.10.7.4, fifth: "If SND.UNA < SEG.ACK =< SND.NXT, then enter ESTABLISHED state"."""
    with syn_recv() as c:
        c.inject("A")
        c.silent()
        assert c.in_state(State.ESTABLISHED) and c.sock.poll() == POLLIN and c.events.seen == ["data"]
        c.app_accept()
        assert c.sock.getpeername().pair() == (PEER, c.pport) and c.sock.poll() == POLLOUT
        c.counted(PassiveOpens=1, CurrEstab=1, TCPPureAcks=1)
        c.silent(until=300 * SEC)


def test_text_on_the_handshakes_ack_is_delivered() -> None:
    with syn_recv() as c:
        c.inject("PA", b"GET /")
        c.expect("A", seq=1, ack=6)
        c.app_accept()
        assert c.app_recv() == b"GET /"


def test_a_fin_on_the_handshakes_ack_leads_to_close_wait() -> None:
    """3.10.7.4, eighth: "SYN-RECEIVED STATE, ESTABLISHED STATE: Enter the CLOSE-WAIT state"."""
    with syn_recv() as c:
        c.inject("FPA", b"bye")
        c.expect("A", seq=1, ack=5, at=40 * MSEC)
        assert c.in_state(State.CLOSE_WAIT)
        c.app_accept()
        assert c.app_recv() == b"bye" and c.app_recv() == b""


def test_when_the_last_ack_is_lost_data_does_its_work() -> None:
    with syn_recv() as c:
        c.expect("SA", seq=0, ack=1, at=SEC)
        c.inject("PA", b"x")
        c.expect("A", seq=1, ack=2)
        assert c.in_state(State.ESTABLISHED)
        c.silent(until=100 * SEC)


# -- first: the sequence number


@pytest.mark.parametrize("seq", [0, -1, -1000, 0x7000_0000, 66_000])
def test_first_outside_the_window_an_ack_says_where_we_are(seq: int) -> None:
    """3.10.7.4, first: "an acknowledgment should be sent in reply [...] <SEQ=SND.NXT><ACK=RCV.NXT><CTL=ACK>"."""
    with syn_recv() as c:
        c.inject("A", seq=seq, ack=1)
        c.expect("A", seq=1, ack=1)
        assert c.in_state(State.SYN_RECV)
        c.counted(Reason.TCP_INVALID_SEQUENCE)


def test_first_but_not_more_often_than_every_half_second() -> None:
    with syn_recv() as c:
        for _ in range(5):
            c.inject("A", seq=70_000, ack=1)
        c.expect("A", seq=1, ack=1)
        c.silent()
        c.counted(*[Reason.TCP_INVALID_SEQUENCE] * 5, TCPACKSkippedSynRecv=4)
        c.run(ACK_RATE)
        c.inject("A", seq=70_000, ack=1)
        c.expect("A", seq=1, ack=1)


def test_first_a_rst_outside_the_window_is_dropped_in_silence() -> None:
    with syn_recv() as c:
        for seq in (0, -5, 70_000):
            c.inject("R", seq=seq)
        c.silent()
        assert c.in_state(State.SYN_RECV)
        c.counted(*[Reason.TCP_INVALID_SEQUENCE] * 3)


def test_first_an_old_timestamp_is_refused() -> None:
    """RFC 7323 section 5.3 R1 holds for the handshake's ACK too."""
    with syn_recv(Peer(timestamps=True)) as c:
        c.inject("A", options=c.ts_option(tsval=c.tsval() - 50))
        s = c.expect("A", seq=1, ack=1)
        assert s.saw_tstamp and s.tsecr == c.tsval()
        assert c.in_state(State.SYN_RECV)
        c.counted(Reason.TCP_RFC7323_PAWS, PAWSEstab=1)


# -- second: the RST


def test_second_a_rst_returns_the_connection_to_listen() -> None:
    """3.10.7.4, second: "If this connection was initiated with a passive OPEN [...] return this connection to the
    LISTEN state and return. The user need not be informed."."""
    for flags in ("R", "RA"):
        with syn_recv() as c:
            c.inject(flags, seq=1, ack=1)
            assert c.in_state(State.LISTEN) and c.tp.syn_queue_len == 0 and c.events.seen == []
            c.silent(until=200 * SEC)
            c.counted(Reason.TCP_RESET, AttemptFails=1, EmbryonicRsts=1)


@pytest.mark.parametrize("seq", [2, 1000, 60_000])
def test_second_a_rst_in_the_window_but_not_next_is_challenged(seq: int) -> None:
    """RFC 5961 3.2, in RFC 9293's second step for SYN-RECEIVED as for every synchronized state."""
    with syn_recv() as c:
        c.inject("R", seq=seq)
        c.expect("A", seq=1, ack=1)
        assert c.in_state(State.SYN_RECV)
        c.counted(Reason.TCP_INVALID_SEQUENCE, TCPChallengeACK=1)


@pytest.mark.parametrize("ack", [0, 1, 2, 5000])
def test_second_what_a_rst_acknowledges_does_not_matter(ack: int) -> None:
    """tcp_check_req: its sequence number decides (RFC 5961 3.2), a bad ACK is only looked for in what is no RST."""
    with syn_recv() as c:
        c.inject("RA", seq=1, ack=ack)
        c.silent()
        assert c.in_state(State.LISTEN)
        c.counted(Reason.TCP_RESET, AttemptFails=1, EmbryonicRsts=1)


# -- fourth: the SYN


def test_fourth_the_same_syn_again_is_answered_with_the_same_syn_ack() -> None:
    """Our SYN-ACK was lost (tcp_check_req: "pure retransmitted SYN")."""
    with syn_recv() as c:
        first = c.irs
        c.run(100 * MSEC)
        c.inject("S", seq=0, options=c.syn_options())
        s = c.expect("SA", seq=0, ack=1)
        assert s.seq == first
        assert c.tp.syn_queue_len == 1
        c.counted(Reason.TCP_OLD_DATA, RetransSegs=1, TCPSynRetrans=1)
        # no round-trip time may be taken from an ambiguous exchange (RFC 6298 section 3)
        c.run(100 * MSEC)
        c.inject("A")
        c.app_accept()
        assert c.tp.srtt == 0


def test_fourth_a_flood_of_the_same_syn_is_answered_twice_a_second() -> None:
    with syn_recv() as c:
        for _ in range(10):
            c.inject("S", seq=0, options=c.syn_options())
        c.expect("SA", seq=0)
        c.silent()
        c.counted(*[Reason.TCP_OLD_DATA] * 10, RetransSegs=1, TCPSynRetrans=1, TCPACKSkippedSynRecv=9)


def test_fourth_another_syn_in_the_window_ends_the_half_open_connection_with_a_rst() -> None:
    """3.10.7.4, fourth: a SYN in the window of a passive open returns it to LISTEN; Linux answers with a RST."""
    with syn_recv() as c:
        c.inject("S", seq=10)
        assert c.expect("RA", ack=11).seq == 0
        assert c.in_state(State.LISTEN)
        c.counted(Reason.TCP_RESET, OutRsts=1, AttemptFails=1, EmbryonicRsts=1)


# -- fifth: the ACK


@pytest.mark.parametrize("ack", [0, 2, 5000, 0x8000_0001, -1 & 0xFFFF_FFFF])
@pytest.mark.parametrize("seq", [1, 99_999])
def test_fifth_an_unacceptable_ack_gets_a_rst_wherever_it_is(ack: int, seq: int) -> None:
    """3.10.7.4: "form a reset segment <SEQ=SEG.ACK><CTL=RST>"; 3.5.2 rule 2 asks it of every non-synchronized state."""
    with syn_recv() as c:
        c.inject("A", seq=seq, ack=ack)
        c.expect("R", seq=ack)
        assert c.in_state(State.SYN_RECV)
        c.counted(Reason.TCP_INVALID_ACK_SEQUENCE, OutRsts=1)


@pytest.mark.parametrize("flags", ["", "F", "P", "U"])
def test_fifth_without_ack_the_segment_is_dropped(flags: str) -> None:
    with syn_recv() as c:
        c.inject(flags, b"x", seq=1)
        c.silent()
        assert c.in_state(State.SYN_RECV)
        c.counted(Reason.TCP_FLAGS)


segments = st.tuples(
    st.text("FSRPAU", max_size=4), st.sampled_from([0, 1, 2, 500, 65_000, 65_536, 70_000]), st.sampled_from([0, 1, 2])
)


@settings(max_examples=60)
@given(st.lists(segments, max_size=8), st.integers(0, 3))
def test_whatever_comes_a_half_open_connection_is_there_or_established_or_gone(
    arrivals: list[tuple[str, int, int]], length: int
) -> None:
    """No socket is left between the queues: it can be accepted, or it does not exist."""
    c = syn_recv()
    for flags, seq, ack in arrivals:
        c.inject("".join(sorted(set(flags))), b"x" * length, seq=seq, ack=ack)
    tables = c.stack.tcp.tables
    waiting = c.tp.accept_queue
    assert waiting is not None
    living = [tp for tp in tables.ehash.values() if tp.state == State.SYN_RECV]
    assert living == [] and c.tp.syn_queue_len == len(tables.requests) <= 1
    assert all(tp in waiting for tp in tables.ehash.values())
    c.out.clear()
    c.check()


# -- time


def test_the_syn_ack_is_sent_again_five_times_and_given_up_after_63_seconds() -> None:
    """tcp_synack_retries 5: bounded, since a forged source pays for it (RFC 4987)."""
    with syn_recv() as c:
        for at in (1, 3, 7, 15, 31):
            c.expect("SA", seq=0, ack=1, at=at * SEC)
        c.silent(until=63 * SEC - 1)
        assert c.in_state(State.SYN_RECV)
        c.silent(until=500 * SEC)
        assert c.in_state(State.LISTEN) and c.tp.syn_queue_len == 0
        c.counted(RetransSegs=5, TCPSynRetrans=5, TCPTimeouts=6)  # no AttemptFails: reqsk_timer_handler only drops it


def test_tcp_syncnt_on_the_listener_limits_its_syn_acks() -> None:
    with Peer() as c:
        c.app_listen()
        c.app_setsockopt(IPPROTO_TCP, TCP_SYNCNT, 1)
        c.peer_syn()
        c.expect("SA", seq=0)
        c.mark()
        c.expect("SA", seq=0, at=SEC)
        c.silent(until=100 * SEC)
        assert c.in_state(State.LISTEN)


# -- the listener goes


def test_closing_the_listener_forgets_what_is_half_open() -> None:
    with syn_recv() as c:
        c.app_close()
        c.silent(until=100 * SEC)
        c.inject("A", seq=1, ack=1)
        c.expect("R", seq=1)
        assert not c.stack.tcp.tables.requests


# -- simultaneous open


def test_simultaneous_open_after_figure_8() -> None:
    """MUST-10: "A TCP implementation MUST support simultaneous open attempts". 3.10.7.3: SYN without ACK: "form a
    SYN,ACK segment <SEQ=ISS><ACK=RCV.NXT><CTL=SYN,ACK>"; figure 8: the other's SYN-ACK is the ACK that is waited
    for."""
    with Peer(wscale=4, window=60_000) as c:
        c.app_connect()
        c.expect("S", seq=0)
        c.mark()
        c.peer_syn()
        s = c.expect("SA", seq=0, ack=1)
        assert s.wscale >= 0 and s.mss == 1460
        assert c.in_state(State.SYN_RECV) and c.events.seen == []
        c.inject("SA", seq=0, ack=1, options=c.syn_options())
        c.expect("A", seq=1, ack=1)  # their SYN for the second time
        assert c.in_state(State.ESTABLISHED) and c.events.seen == ["state", "space"]
        # RFC 7323 2.2 says that it is not scaled; Linux scales it until the next ACK, but not the largest window seen
        assert c.tp.snd_wnd == 60_000 << 4 and c.tp.max_window == 60_000
        c.counted(CurrEstab=1, TCPDelivered=1, DelayedACKLost=1)
        c.sock.connect((PEER, 80))
        c.silent(until=200 * SEC)


def test_simultaneous_open_our_syn_ack_offers_what_our_syn_did() -> None:
    """tcp_send_synack sends the SYN again, whose options tcp_syn_options writes: what the peer's has left out is there,
    and not agreed. Their ACK counts for the SYN-ACK, and for the SYN that leaves its queue."""
    with Peer(mss=None, wscale=None, timestamps=False, sack=False) as c:
        c.app_connect()
        c.expect("S", seq=0)
        c.inject("S", seq=0, options=b"")
        c.nxt = 1
        s = c.expect("SA", seq=0, ack=1)
        assert s.wscale >= 0 and s.sack_ok and s.saw_tstamp and s.tsecr == 0
        c.inject("A", ack=1)
        assert c.in_state(State.ESTABLISHED) and c.tp.delivered == 2
        assert (c.tp.rcv_wscale, c.tp.snd_wscale, c.tp.tstamp_ok, c.tp.sack_ok) == (0, 0, False, False)
        c.app_send(b"x")
        assert c.expect("PA", data=b"x").raw_options == b""
        c.inject("A", ack=2)


def test_simultaneous_open_ended_by_a_plain_ack() -> None:
    with simultaneous() as c:
        c.inject("A", seq=1, ack=1)
        assert c.in_state(State.ESTABLISHED)
        c.counted(CurrEstab=1, TCPDelivered=1, TCPPureAcks=1)


def test_simultaneous_open_the_syn_ack_is_retransmitted_and_given_up() -> None:
    with simultaneous() as c:
        for at in (1, 3, 7, 15, 31, 63):
            c.expect("SA", seq=0, ack=1, at=at * SEC)
        c.silent(until=127 * SEC)
        assert c.app_fails(lambda: c.sock.connect((PEER, 80))) == errno.ETIMEDOUT


def test_simultaneous_open_a_rst_ends_it() -> None:
    """3.10.7.4, second: an active open's SYN-RECEIVED: "the connection was refused; signal the user"."""
    with simultaneous() as c:
        c.inject("R", seq=1)
        assert code_of(lambda: c.sock.connect((PEER, 80))) in (errno.ECONNREFUSED, errno.ECONNRESET)
        c.counted(Reason.TCP_RESET, AttemptFails=1)


def test_simultaneous_open_an_unacceptable_ack_gets_a_rst() -> None:
    with simultaneous() as c:
        c.inject("A", seq=1, ack=7)
        c.expect("R", seq=7)
        assert c.in_state(State.SYN_RECV)
        c.counted(Reason.TCP_INVALID_ACK_SEQUENCE, OutRsts=1)


def test_simultaneous_open_closed_before_it_is_done_sends_fin() -> None:
    """3.10.4 CLOSE in SYN-RECEIVED: "form a FIN segment and send it, and enter FIN-WAIT-1"."""
    with simultaneous() as c:
        c.app_close()
        c.expect("FA", seq=1, ack=1)
        assert c.in_state(State.FIN_WAIT1)
        c.inject("A", seq=1, ack=2)
        assert c.in_state(State.FIN_WAIT2)


def test_both_sides_of_an_established_connection_can_talk_after_any_open() -> None:
    for active in (False, True):
        with established(active=active) as c:
            c.app_send(b"ping")
            c.expect("PA", seq=1, ack=1, data=b"ping")
            c.inject("PA", b"pong")
            assert c.app_recv() == b"pong"
            c.next_segment(at=SEC)


def test_first_text_outside_the_window_is_always_answered() -> None:
    """tcp_oow_rate_limited: it cannot be an answer of ours that comes back."""
    with syn_recv() as c:
        for _ in range(3):
            c.inject("A", b"x", seq=100_000, ack=1)
            c.expect("A", seq=1, ack=1)
        c.counted(*[Reason.TCP_INVALID_SEQUENCE] * 3)
