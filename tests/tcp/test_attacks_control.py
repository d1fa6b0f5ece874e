"""Attacks on the opening and closing of connections: no exception, bounded memory, the right answer or silence with its
counter, and a bystander's connection that notices nothing.
"""

from __future__ import annotations

import errno

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tcp.peer import (
    MSEC,
    SEC,
    STACK,
    Peer,
    established,
    fin_wait2,
    listening,
    syn_recv,
    syn_sent,
    time_wait,
)
from ustack.drop import Reason
from ustack.tcp.states import State
from ustack.wire.tcp import TCPHDR_RST, TCPHDR_SYN


class Bystander:
    """An established connection from port 39999 that must work before and after."""

    def __init__(self, c: Peer) -> None:
        self.c = c
        c.pport = 39_999
        c.accepted()
        self.sock, self.irs, self.nxt, self.acked = c.sock, c.irs, c.nxt, c.acked
        c.pport = 40_000
        c.mark()

    def check(self) -> None:
        """One word each way."""
        c = self.c
        c.out.clear()
        c.pport, c.irs, c.nxt, c.acked = 39_999, self.irs, self.nxt, self.acked
        c.inject("PA", b"ping")
        assert self.sock.recv(10) == b"ping"
        self.sock.send(b"pong")
        c.poll()
        assert b"".join(s.data for s in c.out) == b"pong"
        c.out.clear()
        self.nxt, self.acked = c.nxt, c.acked


# -- segments nobody should send


@pytest.mark.parametrize("port", [80, 81])
def test_land_a_syn_from_our_own_address_and_port(port: int) -> None:
    """CVE-1999-0016, CVE-2005-0688: dropped on the way in, no answer to ourselves."""
    with listening() as c:
        c.inject("S", src=STACK, sport=port, dport=port, seq=0)
        c.silent(until=100 * SEC)
        assert not c.stack.tcp.tables.requests and not c.stack.tcp.tables.ehash
        assert c.drops.reasons == [Reason.IP_LOCAL_SOURCE]


@pytest.mark.parametrize("src", ["127.0.0.1", "0.0.0.0", "224.0.0.1", "240.0.0.1", "255.255.255.255", "192.0.2.255"])
def test_a_syn_from_an_impossible_source(src: str) -> None:
    with listening() as c:
        c.inject("S", src=src, seq=0)
        c.silent(until=SEC)
        assert not c.stack.tcp.tables.requests and len(c.drops.reasons) == 1


STRANGE = ["", "F", "FPU", "SF", "SFPU", "SFRPAUEC", "SR", "U", "FU", "RF", "PU", "EC", "SUP", "SEC", "FS"]


@pytest.mark.parametrize("flags", STRANGE)
def test_strange_flags_towards_a_listener_make_no_socket_of_anything_but_a_syn(flags: str) -> None:
    """CVE-2012-6638 (SYN+FIN flood), null, xmas, SYN+RST."""
    with listening() as c:
        bystander = Bystander(c)
        c.inject(flags, b"x", seq=0)
        opens = "S" in flags and not set(flags) & set("FRA")
        assert len(c.stack.tcp.tables.requests) == int(opens)
        assert len([s for s in c.out if not s.flags & TCPHDR_SYN]) == 0
        bystander.check()


@pytest.mark.parametrize("flags", STRANGE)
def test_strange_flags_towards_an_established_connection_do_not_end_it(flags: str) -> None:
    """Only a RST that is exactly next may; SYNs are challenged, what has no ACK is dropped."""
    with established() as c:
        c.inject(flags, b"x", seq=2, ack=1)
        c.inject(flags, b"x", seq=1000, ack=1)
        assert c.in_state(State.ESTABLISHED)
        assert all(s.flags == 16 for s in c.out)
        c.out.clear()


@settings(max_examples=150)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 255),
            st.integers(0, 0xFFFF_FFFF),
            st.integers(0, 0xFFFF_FFFF),
            st.binary(max_size=20),
            st.binary(max_size=40),
            st.integers(0, 0xFFFF),
        ),
        max_size=6,
    ),
    st.sampled_from(["listening", "syn_sent", "syn_recv", "established", "fin_wait2", "time_wait"]),
)
def test_blind_segments_of_every_kind_raise_nothing_and_are_accounted_for(
    segments: list[tuple[int, int, int, bytes, bytes, int]], state: str
) -> None:
    constructors = (listening, syn_sent, syn_recv, established, fin_wait2, time_wait)
    c = {f.__name__: f for f in constructors}[state]()
    letters = "FSRPAUEC"
    for bits, seq, ack, data, options, window in segments:
        flags = "".join(letter for n, letter in enumerate(letters) if bits >> n & 1)
        c.inject(flags, data, seq=seq, ack=ack, options=options, window=window, urg=window)
    answers = [s for s in c.out if s.flags & TCPHDR_RST]
    asked = [bits for bits, *_ in segments if not bits & TCPHDR_RST]
    assert len(answers) <= len(asked)  # never a RST for a RST
    c.out.clear()
    c.run(200 * SEC)
    c.out.clear()
    c.check()


# -- blind attacks on a connection


def test_a_blind_reset_must_hit_one_number_in_four_billion() -> None:
    """CVE-2004-0230: sweeping the space in window-sized steps gets challenges, not a reset."""
    with established() as c:
        for step in range(0, 1 << 32, 1 << 26):
            c.inject("R", seq=step + 17)
        assert c.in_state(State.ESTABLISHED)
        assert len(c.out) <= 1
        c.out.clear()


def test_a_blind_syn_sweep_neither() -> None:
    with established() as c:
        for step in range(0, 1 << 32, 1 << 26):
            c.inject("S", seq=step + 17)
        assert c.in_state(State.ESTABLISHED)
        assert len(c.out) == 1  # the limit of challenge ACKs: half a second
        c.out.clear()


def test_a_blind_fin_or_data_needs_a_plausible_ack() -> None:
    """RFC 5961 5.2: half of all blind guesses used to pass; now one in 2**32 / window."""
    with established() as c:
        for ack in range(1 << 20, 1 << 32, 1 << 26):
            c.inject("FPA", b"evil", seq=1, ack=ack)
        assert c.in_state(State.ESTABLISHED) and not c.tp.receive_queue
        c.out.clear()


def test_malformed_options_on_a_live_connection_do_not_end_it() -> None:
    """CVE-2019-12258 (URGENT/11): a segment with a bad option reset the connection."""
    with established(timestamps=True) as c:
        for options in (b"\x08\x00\x00\x00", b"\x08\x0a\x00", b"\x05\x02\x01\x01", b"\xff" * 40, b"\x03\x00\x01\x01"):
            c.inject("A", seq=100, ack=1, options=options)
            c.inject("A", seq=1, ack=1, options=options)
        assert c.in_state(State.ESTABLISHED)
        c.out.clear()
        c.inject("PA", b"still")
        assert c.app_recv() == b"still"
        c.out.clear()


@pytest.mark.parametrize("doff", [0, 1, 4, 6, 15])
def test_a_data_offset_that_lies_is_dropped(doff: int) -> None:
    """CVE-2020-11907, CVE-2020-24341."""
    with established() as c:
        c.inject("A", doff=doff)
        c.silent(until=SEC)
        assert c.in_state(State.ESTABLISHED)
        if doff < 5:
            c.counted(Reason.TCP_MALFORMED, InErrs=1)
        else:
            c.counted(Reason.TCP_TRUNCATED)


# -- exhaustion


def test_a_syn_flood_fills_one_queue_and_leaves_everybody_else_alone() -> None:
    """CVE-1999-0116, RFC 4987: state per listener is bounded, and gone in a minute."""
    with listening(backlog=16) as c:
        bystander = Bystander(c)
        for n in range(500):
            c.inject("S", src=f"192.0.2.{10 + n % 200}", sport=1024 + n, seq=0)
        tables = c.stack.tcp.tables
        assert c.server is not None
        assert len(tables.requests) == 17  # one more than the backlog (inet_csk_reqsk_queue_is_full)
        assert len(c.out) == 500 and c.net.mib.tcpext.SyncookiesSent == 483  # the rest cost nothing but an answer
        bystander.check()
        c.run(64 * SEC)
        c.out.clear()
        assert not tables.requests
        c.pport, c.nxt = 45_000, 0
        c.accepted()


def test_a_forged_syn_costs_its_victim_six_small_segments_at_most() -> None:
    """SYN-ACK reflection: 6 SYN-ACKs of 44 bytes, no data before the handshake is done."""
    with listening() as c:
        c.inject("S", b"x" * 500, src="192.0.2.200", seq=0)
        c.run(300 * SEC)
        assert len(c.out) == 6 and all(len(s.data) == 0 for s in c.out)
        c.out.clear()


def test_a_reset_flood_is_answered_by_nothing() -> None:
    with listening() as c:
        for n in range(100):
            c.inject("R", sport=n + 1, dport=n + 1000)
        c.silent()


def test_connections_opened_and_abandoned_are_bounded_by_the_backlog() -> None:
    """Naptha, CVE-2000-1039: finished handshakes that nobody accepts."""
    with listening(backlog=4) as c:
        for n in range(50):
            c.pport, c.nxt = 1024 + n, 0
            c.peer_syn()
            if c.out:
                c.out.clear()
                c.inject("A", seq=1, ack=1)
            c.out.clear()
        assert len(c.stack.tcp.tables.ehash) == 5 and c.tp.syn_queue_len <= 8


def test_parked_fin_wait2_orphans_end_and_cost_little() -> None:
    """Sockstress, FIN-WAIT parking: an orphan is a TimeWait, bounded by tcp_max_tw_buckets, gone after a minute."""
    with listening() as c:
        c.net.sysctl.tcp_max_tw_buckets = 10
        for n in range(30):
            c.pport, c.nxt = 1024 + n, 0
            c.accepted()
            c.app_close()
            c.expect("FA", seq=1)
            c.inject("A", ack=2)
        tables = c.stack.tcp.tables
        assert len(tables.timewait) == 10 and not tables.ehash and not tables.orphans
        assert c.net.mib.tcpext.TCPTimeWaitOverflow == 20
        c.run(61 * SEC)
        assert len(tables.timewait) == 0 and not tables.timewait


def test_time_wait_assassination() -> None:
    """RFC 1337: old duplicates in TIME_WAIT are answered with an ACK; the RST that provokes from a confused peer ends
    it, as Linux lets it, unless tcp_rfc1337 is set."""
    with time_wait() as c:
        c.net.sysctl.tcp_rfc1337 = 1
        c.inject("PA", b"old duplicate", seq=-500, ack=1)
        c.expect("A", seq=2, ack=2)
        c.inject("R", seq=2)
        assert c.in_state(State.TIME_WAIT)


def test_stale_fins_do_not_loop() -> None:
    """Two stacks that both think the other is out of step: one answer in half a second, then silence."""
    with established() as c:
        answers = 0
        for _ in range(50):
            c.inject("A", seq=200_000, ack=1)
            answers += len(c.out)
            c.out.clear()
            c.run(10 * MSEC)
        assert answers <= 2


def test_a_listener_closed_in_the_middle_of_a_flood() -> None:
    with listening(backlog=16) as c:
        for n in range(16):
            c.inject("S", sport=1024 + n, seq=0)
        c.out.clear()
        c.app_close()
        c.silent(until=200 * SEC)
        assert not c.stack.tcp.tables.requests
        c.inject("A", sport=1024, seq=1, ack=1)
        c.expect("R", dport=1024)


# -- ICMP


def test_forged_unreachables_do_not_end_an_established_connection() -> None:
    """CVE-2004-0790, CVE-2005-0065..0068: even with the right sequence number."""
    with established() as c:
        c.app_send(b"data")
        c.expect("PA", data=b"data")
        for code in range(16):
            c.icmp(3, code, 552, seq=1)
        assert c.in_state(State.ESTABLISHED)
        c.out.clear()


def test_a_connection_error_tells_the_owner_and_nobody_else() -> None:
    with listening() as c:
        bystander = Bystander(c)
        c.pport, c.nxt = 40_000, 0
        c.accepted()
        c.inject("R")
        assert c.app_fails(lambda: c.sock.recv(1)) == errno.ECONNRESET
        bystander.check()
