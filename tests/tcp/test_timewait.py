"""TIME-WAIT: RFC 9293 sections 3.6.1 and 3.10.7.4, RFC 1337, RFC 6191; Linux tcp_timewait_state_process."""

from __future__ import annotations

import errno

import pytest

from tests.tcp.peer import MSEC, PEER, SEC, STACK, STACK_MAC, Peer, code_of, fin_wait2, listening, time_wait
from ustack.device.e1000 import E1000, NO_OFFLOAD
from ustack.device.ring import NicRegisters
from ustack.drop import Reason
from ustack.inet.options import SO_BINDTODEVICE, SOL_SOCKET
from ustack.tcp.states import State

TWO_MSL = 60 * SEC  #: TCP_TIMEWAIT_LEN


def with_timestamps() -> Peer:
    return time_wait(peer=Peer(timestamps=True))


@pytest.mark.parametrize("orphan", [False, True])
def test_it_lasts_for_2_msl_and_no_longer(orphan: bool) -> None:
    """MUST-13: "it MUST linger in the TIME-WAIT state for a time 2xMSL"; Linux: a minute."""
    with time_wait(orphan) as c:
        c.silent(until=TWO_MSL - MSEC)
        assert c.in_state(State.TIME_WAIT)
        c.silent(until=TWO_MSL)
        assert c.in_state(State.CLOSE) and len(c.stack.tcp.tables.timewait) == 0
        c.inject("A", seq=2, ack=2)
        c.expect("R", seq=2)


def test_a_retransmitted_fin_is_acknowledged_and_the_time_begins_anew() -> None:
    """3.10.7.4: "The only thing that can arrive in this state is a retransmission of the remote FIN. Acknowledge it,
    and restart the 2 MSL timeout."; every one of them, however close they come."""
    with time_wait() as c:
        c.run(50 * SEC)
        for _ in range(4):
            c.run(100 * MSEC)
            c.inject("FA", seq=1, ack=2)
            c.expect("A", seq=2, ack=2)
        c.counted(*[Reason.TCP_TIMEWAIT] * 4)
        c.mark()
        c.silent(until=TWO_MSL - MSEC)
        assert c.in_state(State.TIME_WAIT)
        c.silent(until=TWO_MSL)
        assert c.in_state(State.CLOSE)


def test_a_bare_ack_is_not_answered() -> None:
    with time_wait() as c:
        c.inject("A", seq=2, ack=2)
        c.silent()
        c.counted()


def test_what_is_out_of_the_window_is_answered_twice_a_second() -> None:
    with time_wait() as c:
        for _ in range(3):
            c.inject("A", seq=90_000, ack=2)
        c.expect("A", seq=2, ack=2)
        c.silent()
        c.counted(*[Reason.TCP_TIMEWAIT] * 3, TCPACKSkippedTimeWait=2)


def test_a_rst_ends_it_unless_rfc1337_is_asked_for() -> None:
    """RFC 1337's TIME-WAIT assassination, which Linux permits by default (tcp_rfc1337)."""
    for rfc1337 in (0, 1):
        with time_wait() as c:
            c.net.sysctl.tcp_rfc1337 = rfc1337
            c.run(30 * SEC)
            c.inject("R", seq=2)
            c.silent()
            assert c.in_state(State.TIME_WAIT if rfc1337 else State.CLOSE)
            c.counted(Reason.TCP_RESET)
            c.silent(until=TWO_MSL)  # a RST does not prolong it
            assert c.in_state(State.CLOSE)


@pytest.mark.parametrize("seq", [0, 1, 3, 1000, 80_000])
def test_a_rst_that_is_not_exactly_next_does_nothing(seq: int) -> None:
    with time_wait() as c:
        c.inject("R", seq=seq)
        c.silent()
        assert c.in_state(State.TIME_WAIT)
        c.counted(Reason.TCP_TIMEWAIT)


# -- a new connection


def test_a_syn_with_a_larger_sequence_number_opens_a_new_connection() -> None:
    """MAY-2: "a TCP [...] MAY accept a new SYN from the remote TCP endpoint to reopen the connection directly from
    TIME-WAIT state, if it [...] assigns its initial sequence number for the new connection to be larger than the
    largest sequence number it used on the previous connection incarnation"."""
    with time_wait() as c:
        old_end = (c.irs + 2) & 0xFFFF_FFFF
        c.inject("S", seq=3, options=c.syn_options())
        s = c.next_segment()
        assert s.flags == 0x12 and s.ack == (c.iss + 4) & 0xFFFF_FFFF
        assert (s.seq - old_end) & 0xFFFF_FFFF == 65_537
        assert c.in_state(State.SYN_RECV)
        c.inject("A", seq=4, ack=1)
        assert c.in_state(State.ESTABLISHED) and len(c.stack.tcp.tables.timewait) == 0
        c.counted(PassiveOpens=1, CurrEstab=1, TCPPureAcks=1)  # TWRecycled tells of connects only


@pytest.mark.parametrize("seq", [2, 1, 0, -70_000])
def test_a_syn_with_an_older_sequence_number_is_answered_with_an_ack(seq: int) -> None:
    with time_wait() as c:
        c.inject("S", seq=seq)
        c.expect("A", seq=2, ack=2)
        assert c.in_state(State.TIME_WAIT)
        c.counted(Reason.TCP_TIMEWAIT)
        c.silent(until=TWO_MSL)  # it may be an old duplicate: no new time
        assert c.in_state(State.CLOSE)


def test_a_syn_with_a_newer_timestamp_will_do_whatever_its_sequence_number() -> None:
    """RFC 6191 section 2."""
    with with_timestamps() as c:
        c.run(SEC)
        c.ts_ok = False
        c.inject("S", seq=-5000, options=c.syn_options())
        assert c.next_segment().flags == 0x12
        c.counted()


def test_a_syn_with_an_older_timestamp_will_not() -> None:
    with with_timestamps() as c:
        c.tsval_offset -= 50
        c.inject("S", seq=1000)
        c.expect("A", seq=2, ack=2)
        assert c.in_state(State.TIME_WAIT)
        c.counted(Reason.TCP_RFC7323_TW_PAWS, PAWSTimewait=1)


def test_a_good_syn_that_nobody_listens_for_is_answered_each_time() -> None:
    """tcp_v4_rcv: TCP_TW_SYN without a listener falls through to the ACK, which no limit applies to."""
    with time_wait() as c:
        assert c.server is not None
        c.server.close()
        for _ in range(3):
            c.inject("S", seq=1000)
            c.expect("A", seq=2, ack=2)
        assert c.in_state(State.TIME_WAIT)
        c.counted(*[Reason.TCP_TIMEWAIT] * 3)


@pytest.mark.parametrize("flags", ["SA", "SR", "SF", "SFRA"])
def test_a_syn_with_other_flags_opens_nothing(flags: str) -> None:
    with time_wait() as c:
        c.inject(flags, seq=500, ack=2)
        c.out.clear()
        assert c.in_state(State.TIME_WAIT)


def test_where_nobody_listens_any_more_a_new_syn_is_only_acknowledged() -> None:
    """tcp_v4_rcv, TCP_TW_SYN: without a listener it falls through to TCP_TW_ACK; no stranger ends a TIME_WAIT."""
    with time_wait() as c:
        assert c.server is not None
        c.server.close()
        c.inject("S", seq=5000)
        c.expect("A", seq=2, ack=2)
        assert c.in_state(State.TIME_WAIT)
        c.counted(Reason.TCP_TIMEWAIT)


def test_a_refused_reopening_leaves_its_sequence_number_to_nobody_else() -> None:
    """The ISN of a reopened connection is predictable to its own peer: it must never go to another's."""
    with time_wait() as c:
        predictable = (c.irs + 2 + 65_537) & 0xFFFF_FFFF
        c.tp = c.server.sk if c.server is not None else c.tp  # type: ignore[assignment]
        c.tp.min_ttl = 100
        c.inject("S", seq=5000)
        c.silent()
        c.tp.min_ttl = 0
        c.inject("S", sport=41_111, seq=77)
        s = c.expect("SA", dport=41_111)
        assert s.seq != predictable


# -- timestamps


def test_its_acks_carry_the_last_timestamp_seen() -> None:
    with with_timestamps() as c:
        c.run(SEC)
        c.inject("FA", seq=1, ack=2)
        s = c.expect("A", seq=2, ack=2)
        assert s.saw_tstamp


def test_the_fin_that_begins_it_from_an_orphans_fin_wait2_updates_the_timestamp() -> None:
    with fin_wait2(orphan=True, peer=Peer(timestamps=True)) as c:
        c.run(2 * SEC)
        c.inject("FA", ack=2)
        s = c.expect("A", seq=2, ack=2)
        assert s.tsecr == c.tsval()
        assert c.in_state(State.TIME_WAIT)


# -- bounds and ports


def test_over_tcp_max_tw_buckets_the_connection_is_just_gone() -> None:
    with listening() as c:
        c.net.sysctl.tcp_max_tw_buckets = 2
        for n in range(3):
            c.pport, c.nxt = 50_000 + n, 0
            c.accepted()
            c.app_shutdown()
            c.expect("FA", seq=1)
            c.inject("FA", ack=2)
            c.mark()
            c.expect("A", seq=2, ack=2)
        assert len(c.stack.tcp.tables.timewait) == 2 and c.net.mib.tcpext.TCPTimeWaitOverflow == 1
        assert c.in_state(State.CLOSE)


def test_the_port_stays_taken_until_the_end_unless_both_agreed_to_share() -> None:
    """inet_csk_bind_conflict with a TIME_WAIT: SO_REUSEADDR must have been set on both sockets."""
    for first in (False, True):
        with Peer() as c:
            c.tp.reuseaddr = first
            c.app_listen()
            time_wait(peer=c)
            assert c.server is not None
            c.server.close()
            c.sock.close()
            again = c.stack.socket()
            assert code_of(lambda: again.bind((STACK, 80))) == errno.EADDRINUSE  # noqa: B023
            again.sk.reuseaddr = True
            if first:
                again.bind((STACK, 80))
                again.listen(1)
            else:
                assert code_of(lambda: again.bind((STACK, 80))) == errno.EADDRINUSE  # noqa: B023
                c.run(TWO_MSL)
                again.bind((STACK, 80))


def test_another_address_of_ours_is_not_taken_by_it() -> None:
    with time_wait() as c:
        assert c.server is not None
        c.server.close()
        other = c.stack.socket()
        other.bind(("127.0.0.1", 80))


def test_our_own_connect_does_not_reuse_it() -> None:
    """A four-tuple in TIME_WAIT is not free: EADDRNOTAVAIL from that port, another port otherwise."""
    with left_behind(timestamps=False) as c:
        again = c.stack.socket()
        again.sk.reuseaddr = True
        c.stack.tcp.tables.ports.hold(again.sk, 5555, False)  # type: ignore[arg-type]
        assert code_of(lambda: again.connect((PEER, 80))) == errno.EADDRNOTAVAIL
        assert again.sk.dport == 0


# -- reuse by connect (RFC 6191; tcp_twsk_unique)


def left_behind(timestamps: bool = True) -> Peer:
    """A connect from port 5555 whose TIME_WAIT is there."""
    c = Peer(timestamps=timestamps)
    c.sock.bind((STACK, 5555))
    c.connected()
    c.app_shutdown()
    c.expect("FA", seq=1)
    c.inject("FA", ack=2)
    c.expect("A", seq=2)
    c.app_close()
    c.mark()
    return c


def again(c: Peer) -> int:
    """Another socket calls the same peer from the same port; the errno."""
    c.sock = c.stack.socket()
    c.tp = c.sock.sk  # type: ignore[assignment]
    c.tp.reuseaddr = True
    c.stack.tcp.tables.ports.hold(c.tp, 5555, False)
    code = code_of(lambda: c.sock.connect((PEER, 80)))
    c.poll()
    return code


def test_with_timestamps_our_own_connect_takes_its_place_from_the_port_it_was_told() -> None:
    """RFC 6191 section 2: the new connection's timestamps show its segments to be new; its ISN lies beyond all that
    the old one sent. A port that the user chose has no alternative: tcp_tw_reuse is not asked."""
    with left_behind() as c:
        old = c.irs
        c.run(2 * SEC)
        assert again(c) == errno.EINPROGRESS
        s = c.expect("S", seq=0)
        assert (s.seq - (old + 2)) & 0xFFFF_FFFF == 65_535 + 2
        assert not c.stack.tcp.tables.timewait and c.tp.ts_recent != 0
        c.counted(ActiveOpens=1, TWRecycled=1)
        c.nxt = 0
        c.inject("SA", options=c.syn_options())
        c.expect("A", seq=1, ack=1)


@pytest.mark.parametrize(
    ("reuse", "wait", "free"), [(0, 2000, False), (1, 2000, True), (1, 999, False), (2, 2000, False)]
)
def test_for_a_port_that_we_choose_tcp_tw_reuse_decides(reuse: int, wait: int, free: bool) -> None:
    """After tcp_tw_reuse_delay; 2, the default, on this host only."""
    with left_behind() as c:
        c.net.sysctl.tcp_tw_reuse = reuse
        c.run(wait * MSEC)
        again_sk = c.stack.tcp.new_sock()
        again_sk.saddr, again_sk.daddr, again_sk.dport = 0xC000_0202, 0xC000_0201, 80
        assert c.stack.tcp.tables.tuple_is_free(again_sk, 5555) is free


def test_without_timestamps_it_never_does() -> None:
    with left_behind(timestamps=False) as c:
        c.net.sysctl.tcp_tw_reuse = 1
        c.run(30 * SEC)
        assert again(c) == errno.EADDRNOTAVAIL
        c.counted()


def test_a_syn_from_before_the_connection_that_was_replaced_is_dropped() -> None:
    """tcp_rcv_synsent_state_process: PAWS with the timestamp that the TIME_WAIT has left."""
    with left_behind() as c:
        c.run(2 * SEC)
        again(c)
        c.expect("S", seq=0)
        c.mark()
        c.inject("S", seq=0, options=c.syn_options()[:4] + c.ts_option(50, 0))
        c.silent()
        assert c.in_state(State.SYN_SENT)
        c.counted(Reason.TCP_RFC7323_PAWS, PAWSEstab=1)


def test_a_rst_with_an_old_timestamp_does_not_assassinate_it() -> None:
    """tcp_paws_reject: within TCP_PAWS_MSL, a minute, PAWS holds for a RST too (RFC 1337)."""
    with with_timestamps() as c:
        c.inject("R", seq=2, options=c.ts_option(1))
        assert c.in_state(State.TIME_WAIT)
        c.counted(Reason.TCP_RFC7323_TW_PAWS, PAWSTimewait=1)
        c.inject("R", seq=2)
        assert c.in_state(State.CLOSE)


def test_it_answers_by_the_device_that_its_socket_was_bound_to() -> None:
    """tw_bound_dev_if: SO_BINDTODEVICE outlives the socket, whatever the routes have become."""
    c = Peer()
    c.app_setsockopt(SOL_SOCKET, SO_BINDTODEVICE, b"eth0")
    with time_wait(peer=c):
        other = E1000(c.stack.devices, "eth1", STACK_MAC + 1, NicRegisters(), 1500, NO_OFFLOAD)
        c.stack.add_device(other)
        c.stack.add_route(f"{PEER}/32", dev=other)
        c.inject("FA", seq=1, ack=2)
        c.expect("A", seq=2, ack=2)
