"""RFC 9293 section 3.10.7.4 for every synchronized state but TIME-WAIT: sequence number, RST, SYN, ACK, with RFC
5961."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import pytest

from tests.tcp.peer import (
    MSEC,
    SEC,
    Peer,
    close_wait,
    closing,
    established,
    fin_wait1,
    fin_wait2,
    last_ack,
)
from ustack.drop import Reason
from ustack.sock import POLLERR, POLLHUP
from ustack.tcp.states import State

if TYPE_CHECKING:
    from collections.abc import Callable

#: Constructor of each state; the socket is still owned in all of them.
STATES: dict[State, Callable[[], Peer]] = {
    State.ESTABLISHED: established,
    State.FIN_WAIT1: fin_wait1,
    State.FIN_WAIT2: fin_wait2,
    State.CLOSE_WAIT: close_wait,
    State.CLOSING: closing,
    State.LAST_ACK: lambda: last_ack(orphan=False),
}
every_state = pytest.mark.parametrize("state", STATES, ids=lambda state: state.name)
FIN_SEEN = (State.CLOSE_WAIT, State.CLOSING, State.LAST_ACK)
#: What leaving a state by a RST moves.
ENDS = {State.ESTABLISHED: {"EstabResets": 1, "CurrEstab": -1}, State.CLOSE_WAIT: {"EstabResets": 1, "CurrEstab": -1}}


def unchanged(c: Peer, state: State) -> None:
    """Still in ``state``; nothing for the owner."""
    assert c.in_state(state)
    assert not c.sock.poll() & POLLERR


# -- first: the sequence number


@every_state
@pytest.mark.parametrize("offset", [-1, -1000, 65_536, 0x4000_0000])
def test_first_an_unacceptable_segment_is_answered_with_an_ack(state: State, offset: int) -> None:
    """ "<SEQ=SND.NXT><ACK=RCV.NXT><CTL=ACK>. After sending the acknowledgment, drop the unacceptable segment"."""
    with STATES[state]() as c:
        c.inject("A", seq=c.nxt + offset)
        c.expect("A", seq=c.acked, ack=c.nxt)
        unchanged(c, state)
        if offset < 0:
            c.counted(Reason.TCP_OLD_SEQUENCE)
        else:
            c.counted(Reason.TCP_INVALID_SEQUENCE, BeyondWindow=1)


@every_state
def test_first_empty_ones_are_answered_twice_a_second_and_text_always(state: State) -> None:
    """tcp_oow_rate_limited: two hosts that are out of step must not answer each other's ACKs for ever."""
    with STATES[state]() as c:
        for _ in range(4):
            c.inject("A", seq=c.nxt + 100_000)
        c.expect("A", seq=c.acked, ack=c.nxt)
        c.silent()
        c.counted(*[Reason.TCP_INVALID_SEQUENCE] * 4, TCPACKSkippedSeq=3, BeyondWindow=4)
        for _ in range(3):
            c.inject("A", b"text", seq=c.nxt + 100_000)
            c.expect("A", seq=c.acked, ack=c.nxt)
        unchanged(c, state)


@every_state
@pytest.mark.parametrize("offset", [-2, 65_536, 0x4000_0000, -0x4000_0000])
def test_first_a_rst_outside_the_window_is_dropped_in_silence(state: State, offset: int) -> None:
    """ "unless the RST bit is set, if so drop the segment and return"; RFC 5961 3.2 step 1."""
    with STATES[state]() as c:
        c.inject("R", seq=c.nxt + offset)
        c.silent()
        unchanged(c, state)
        c.counted(Reason.TCP_OLD_SEQUENCE if offset < 0 else Reason.TCP_INVALID_SEQUENCE)


@pytest.mark.parametrize(("length", "counts"), [(0, False), (56, False), (57, True), (1000, True)])
def test_what_is_damaged_counts_as_a_segment_of_its_connection_if_it_is_long(length: int, counts: bool) -> None:
    """tcp_v4_rcv: up to CHECKSUM_BREAK bytes are verified at once, what is longer by tcp_v4_do_rcv."""
    with established() as c:
        c.inject("A", bytes(length), corrupt=True)
        c.silent()
        assert (c.tp.segs_in, c.tp.data_segs_in) == ((3, 1) if counts else (2, 0))
        c.counted(Reason.TCP_CSUM, InCsumErrors=1, InErrs=1)
        c.tp.min_ttl = 255
        c.inject("A", bytes(1000), corrupt=True, ttl=254)
        c.silent()
        assert c.moved()["TcpExt.TCPMinTTLDrop"] == 1 and c.moved()["Tcp.InErrs"] == 1


@every_state
def test_first_of_all_what_has_travelled_too_far_is_dropped_with_ip_minttl(state: State) -> None:
    """RFC 5082 (GTSM)."""
    with STATES[state]() as c:
        c.tp.min_ttl = 255
        c.inject("R", seq=c.nxt, ttl=254)
        c.silent()
        unchanged(c, state)
        c.counted(Reason.TCP_MINTTL, TCPMinTTLDrop=1)
        c.inject("R", seq=c.nxt, ttl=255)
        assert c.in_state(State.CLOSE)


# -- second: the RST


@every_state
@pytest.mark.parametrize("flags", ["R", "RA", "RF", "RS", "RPU"])
def test_second_a_rst_exactly_at_rcv_nxt_ends_the_connection(state: State, flags: str) -> None:
    """RFC 5961 3.2 step 2: "If the RST bit is set and the sequence number exactly matches the next expected sequence
    number (RCV.NXT), then TCP endpoints MUST reset the connection"; 3.10.7.4: "all segment queues should be flushed".
    """
    with STATES[state]() as c:
        c.inject(flags, seq=c.nxt)
        c.silent()
        assert c.in_state(State.CLOSE) and c.sock.poll() & (POLLERR | POLLHUP) == POLLERR | POLLHUP
        assert c.app_error() == (errno.EPIPE if state is State.CLOSE_WAIT else errno.ECONNRESET)
        assert c.app_error() == 0
        assert c.events.seen[-2:] == ["error", "state"]
        assert c.app_fails(lambda: c.sock.send(b"x")) == errno.EPIPE
        assert c.app_recv() == b""
        c.silent(until=300 * SEC)
        c.counted(Reason.TCP_RESET, **ENDS.get(state, {}))
        c.app_close()
        c.silent(until=400 * SEC)


def test_second_the_error_is_told_once_and_what_had_arrived_can_still_be_read() -> None:
    with established() as c:
        c.inject("PA", b"last words")
        c.expect("A", ack=11)
        c.inject("R")
        assert c.app_recv() == b"last words"
        assert c.app_fails(lambda: c.sock.recv(1)) == errno.ECONNRESET
        assert c.app_recv() == b""


@every_state
@pytest.mark.parametrize("offset", [1, 2, 30_000])
def test_second_a_rst_elsewhere_in_the_window_is_challenged(state: State, offset: int) -> None:
    """RFC 5961 3.2 step 3: "If the RST bit is set and the sequence number does not exactly match the next expected
    sequence value, yet is within the current receive window, TCP endpoints MUST send an acknowledgment"."""
    with STATES[state]() as c:
        c.inject("R", seq=c.nxt + offset)
        c.expect("A", seq=c.acked, ack=c.nxt)
        unchanged(c, state)
        c.counted(Reason.TCP_RESET, TCPChallengeACK=1)


@every_state
def test_second_a_rst_one_short_of_the_fin_counts_once_the_fin_was_seen(state: State) -> None:
    """tcp_reset_check: a peer that closed and then resets may not have counted its own FIN."""
    with STATES[state]() as c:
        c.inject("R", seq=c.nxt - 1)
        c.silent()
        if state in FIN_SEEN:
            assert c.in_state(State.CLOSE)
            c.counted(Reason.TCP_RESET, **ENDS.get(state, {}))
        else:
            unchanged(c, state)
            c.counted(Reason.TCP_OLD_SEQUENCE)


# -- fourth: the SYN


@every_state
@pytest.mark.parametrize("flags", ["S", "SA", "SF", "SFA"])
@pytest.mark.parametrize("offset", [0, 1, 500])
def test_fourth_a_syn_in_the_window_is_challenged(state: State, flags: str, offset: int) -> None:
    """RFC 5961 4.2: "If the SYN bit is set, irrespective of the sequence number, TCP endpoints MUST send an ACK (also
    referred to as challenge ACK) to the remote peer [...] After sending the acknowledgment, TCP endpoints MUST drop the
    unacceptable segment and stop processing further"."""
    with STATES[state]() as c:
        c.inject(flags, seq=c.nxt + offset)
        c.expect("A", seq=c.acked, ack=c.nxt)
        unchanged(c, state)
        errors = int(state is State.ESTABLISHED)
        c.counted(Reason.TCP_INVALID_SYN, TCPChallengeACK=1, TCPSYNChallenge=1, InErrs=errors)


@every_state
@pytest.mark.parametrize("offset", [-5000, 100_000, 0x7000_0000])
def test_fourth_a_syn_outside_the_window_is_challenged_too(state: State, offset: int) -> None:
    with STATES[state]() as c:
        c.inject("S", seq=c.nxt + offset)
        c.expect("A", seq=c.acked, ack=c.nxt)
        unchanged(c, state)
        errors = int(state is State.ESTABLISHED)
        c.counted(Reason.TCP_INVALID_SYN, TCPChallengeACK=1, TCPSYNChallenge=1, InErrs=errors)


def test_fourth_a_peer_that_crashed_and_calls_again_finds_out() -> None:
    """RFC 9293 3.5.1, figure 9: half-open connection discovery: the challenge ACK is unacceptable to it, its RST is not
    to us."""
    with established() as c:
        c.inject("S", seq=0x1000_0000)
        challenge = c.expect("A", seq=1, ack=1)
        c.inject("R", seq=(challenge.ack - c.iss) & 0xFFFF_FFFF)
        assert c.in_state(State.CLOSE)
        assert c.app_error() == errno.ECONNRESET


def test_fourth_a_repeated_syn_ack_means_that_our_ack_was_lost() -> None:
    with established(active=True) as c:
        c.inject("SA", seq=0, ack=1, options=c.syn_options())
        c.expect("A", seq=1, ack=1)
        c.counted(Reason.TCP_INVALID_SYN, TCPChallengeACK=1, TCPSYNChallenge=1, InErrs=1)


# -- fifth: the ACK


@every_state
@pytest.mark.parametrize("flags", ["", "P", "F", "U"])
def test_fifth_without_ack_the_segment_is_dropped(state: State, flags: str) -> None:
    """ "if the ACK bit is off, drop the segment and return"."""
    with STATES[state]() as c:
        c.inject(flags, b"text", seq=c.nxt)
        c.silent()
        unchanged(c, state)
        c.counted(Reason.TCP_FLAGS)


@every_state
@pytest.mark.parametrize("beyond", [1, 2, 70_000, 0x3000_0000])
def test_fifth_an_ack_of_what_was_never_sent_is_answered_and_the_segment_dropped(state: State, beyond: int) -> None:
    """ "If the ACK acks something not yet sent (SEG.ACK > SND.NXT), then send an ACK, drop the segment, and return"."""
    with STATES[state]() as c:
        c.inject("PA", b"text", seq=c.nxt, ack=c.acked + beyond)
        c.expect("A", seq=c.acked, ack=c.nxt)
        unchanged(c, state)
        assert not c.tp.receive_queue
        c.counted(Reason.TCP_ACK_UNSENT_DATA, TCPChallengeACK=1)


@every_state
def test_fifth_an_ack_older_than_any_window_is_challenged(state: State) -> None:
    """RFC 5961 5.2: acceptable only "in the range of ((SND.UNA - MAX.SND.WND) <= SEG.ACK <= SND.NXT)"; blind data."""
    with STATES[state]() as c:
        una = (c.tp.snd_una - c.irs) & 0xFFFF_FFFF
        c.inject("PA", b"evil", seq=c.nxt, ack=una - 65_536)
        c.expect("A", seq=c.acked, ack=c.nxt)
        unchanged(c, state)
        assert not c.tp.receive_queue
        c.counted(Reason.TCP_TOO_OLD_ACK, TCPChallengeACK=1)


def test_fifth_an_old_ack_within_the_window_is_ignored_and_its_text_taken() -> None:
    """ "If the ACK is a duplicate (SEG.ACK =< SND.UNA), it can be ignored."; of bytes that we have sent, that is."""
    with established() as c:
        c.app_send(b"ours")
        c.expect("PA", seq=1, data=b"ours")
        c.inject("A")
        c.inject("PA", b"fine", ack=1)
        c.expect("A", seq=5, ack=5)
        assert c.app_recv() == b"fine"


def test_fifth_an_ack_from_before_anything_was_acknowledged_is_too_old() -> None:
    """tcp_ack: at most as far back as bytes_acked, which does not count the SYN of one who was called."""
    with established() as c:
        c.inject("PA", b"blind", ack=0)
        c.expect("A", seq=1, ack=1)
        c.counted(Reason.TCP_TOO_OLD_ACK, TCPChallengeACK=1)


# -- challenge ACKs have limits


def test_challenge_acks_of_one_connection_are_half_a_second_apart() -> None:
    """RFC 5961 section 7; tcp_invalid_ratelimit."""
    with established() as c:
        for _ in range(20):
            c.inject("R", seq=c.nxt + 5)
        c.expect("A", seq=1, ack=1)
        c.silent()
        c.counted(*[Reason.TCP_RESET] * 20, TCPChallengeACK=1, TCPACKSkippedChallenge=19)
        c.run(500 * MSEC)
        c.inject("S", seq=c.nxt + 5)
        c.expect("A", seq=1, ack=1)


def challenges(seed: bytes, limit: int) -> int:
    """How many challenge ACKs 40 connections get in one second."""
    with Peer(seed=seed) as c:
        c.net.sysctl.tcp_challenge_ack_limit = limit
        c.app_listen(64)
        ports = range(30_000, 30_040)
        for port in ports:
            c.pport, c.nxt = port, 0
            c.peer_syn()
            c.expect("SA", seq=0)
            c.inject("A", ack=1)
        c.run_to((c.now // SEC + 1) * SEC)
        c.mark()
        for port in ports:
            c.pport = port
            c.inject("R", seq=100)
        answered = len(c.out)
        c.out.clear()
        return answered


def test_challenge_acks_of_all_connections_together_are_limited_by_a_number_nobody_can_count_on() -> None:
    """CVE-2016-5696: a fixed global limit told an attacker whether somebody else's connection had used some of it."""
    allowances = {challenges(bytes([n]) * 16, 10) for n in range(12)}
    assert allowances <= set(range(5, 15)) and len(allowances) > 2


def test_challenge_acks_are_unlimited_below_the_limit() -> None:
    assert challenges(b"0123456789abcdef", 1000) == 40


def test_a_limit_of_none_is_none() -> None:
    """get_random_u32_inclusive(0, -1): as many as fit in 32 bits, not none."""
    assert challenges(b"0123456789abcdef", 0) == 40


def test_a_rst_at_the_end_of_what_was_selectively_acknowledged_resets_too() -> None:
    """tcp_validate_incoming: "RFC 5961 3.2 (extend to match against [...] SACK too if available)": the peer is there
    if what we miss was the last it sent."""
    for seq, resets in ((1, True), (31, True), (21, False), (11, False), (30, False)):
        with established(peer=Peer(sack=True)) as c:
            c.inject("A", bytes(10), seq=11)
            c.inject("A", bytes(5), seq=26)
            c.out.clear()
            c.run(SEC)
            c.out.clear()
            c.inject("R", seq=seq)
            assert c.in_state(State.CLOSE if resets else State.ESTABLISHED), seq
            if not resets:
                c.expect("A", seq=1, ack=1)


def test_without_a_global_limit_every_connections_own_remains() -> None:
    """tcp_challenge_ack_limit INT_MAX, Linux's default: one challenge ACK in tcp_invalid_ratelimit for each."""
    with established() as c:
        c.net.sysctl.tcp_challenge_ack_limit = 0x7FFF_FFFF
        for _ in range(3):
            c.inject("R", seq=100)
        c.expect("A", seq=1, ack=1)
        assert c.moved()["TcpExt.TCPChallengeACK"] == 1 and c.moved()["TcpExt.TCPACKSkippedChallenge"] == 2
