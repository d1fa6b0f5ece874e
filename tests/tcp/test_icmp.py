"""ICMP errors about our segments: RFC 9293 section 3.9.2.2, RFC 5927, RFC 1191; Linux tcp_v4_err."""

from __future__ import annotations

import errno

import pytest

from tests.tcp.peer import SEC, Peer, close_wait, established, simultaneous, syn_recv, syn_sent, time_wait
from ustack.ipv4.options import ip_options_get
from ustack.routing.flow import Flow
from ustack.tcp.mss import tcp_sync_mss
from ustack.tcp.options import IPPROTO_TCP, TCP_SYNCNT
from ustack.tcp.states import State
from ustack.wire.icmp import (
    ICMP_DEST_UNREACH,
    ICMP_FRAG_NEEDED,
    ICMP_HOST_UNREACH,
    ICMP_NET_UNREACH,
    ICMP_PARAMETERPROB,
    ICMP_PORT_UNREACH,
    ICMP_PROT_UNREACH,
    ICMP_REDIRECT,
    ICMP_SOURCE_QUENCH,
    ICMP_TIME_EXCEEDED,
)
from ustack.wire.ipv4 import IPOPT_LSRR, str_to_addr

#: What each error says to the user (icmp_err_convert).
ERRORS = [
    (ICMP_DEST_UNREACH, ICMP_NET_UNREACH, errno.ENETUNREACH),
    (ICMP_DEST_UNREACH, ICMP_HOST_UNREACH, errno.EHOSTUNREACH),
    (ICMP_DEST_UNREACH, ICMP_PROT_UNREACH, errno.ENOPROTOOPT),
    (ICMP_DEST_UNREACH, ICMP_PORT_UNREACH, errno.ECONNREFUSED),
    (ICMP_TIME_EXCEEDED, 0, errno.EHOSTUNREACH),
    (ICMP_PARAMETERPROB, 0, errno.EPROTO),
]
KIND = {ICMP_DEST_UNREACH: "Icmp_InDestUnreachs", ICMP_TIME_EXCEEDED: "Icmp_InTimeExcds", 12: "Icmp_InParmProbs"}


@pytest.mark.parametrize(("icmp_type", "code", "error"), ERRORS)
def test_while_connecting_every_error_ends_the_attempt(icmp_type: int, code: int, error: int) -> None:
    """Linux, unlike RFC 9293 SHLD-25, does not wait for the SYN's timeout: RFC 5461 tells why."""
    with syn_sent() as c:
        c.icmp(icmp_type, code)
        assert c.in_state(State.CLOSE) and c.events.seen == ["error", "state"]
        assert c.app_error() == error
        c.silent(until=200 * SEC)
        c.counted(AttemptFails=1, Icmp_InMsgs=1, **{KIND[icmp_type]: 1})


def test_while_connecting_simultaneously_too() -> None:
    with simultaneous() as c:
        c.icmp(ICMP_DEST_UNREACH, ICMP_HOST_UNREACH)
        assert c.in_state(State.CLOSE) and c.app_error() == errno.EHOSTUNREACH


@pytest.mark.parametrize(("icmp_type", "code", "error"), ERRORS)
def test_an_established_connection_survives_every_error(icmp_type: int, code: int, error: int) -> None:
    """MUST-56: "Since these Unreachable messages indicate soft error conditions, a TCP implementation MUST NOT abort
    the connection"; RFC 5927 5.2 extends that to the hard ones. SO_ERROR tells once."""
    with established() as c:
        c.app_send(b"data")
        c.expect("PA", data=b"data")
        c.mark()
        c.icmp(icmp_type, code, seq=1)
        assert c.in_state(State.ESTABLISHED) and c.events.seen == []
        c.counted(Icmp_InMsgs=1, **{KIND[icmp_type]: 1})
        assert c.app_error() == error and c.app_error() == 0
        c.inject("A", ack=5)
        c.app_send(b"more")
        c.expect("PA", data=b"more")


def test_the_soft_error_is_what_a_give_up_reports() -> None:
    """RFC 1122 4.2.3.5: ETIMEDOUT only if nobody had said anything better."""
    with established() as c:
        c.app_send(b"data")
        c.expect("PA", data=b"data")
        c.icmp(ICMP_DEST_UNREACH, ICMP_HOST_UNREACH, seq=1)
        c.run(1200 * SEC)
        c.out.clear()
        assert c.in_state(State.CLOSE)
        assert c.app_fails(lambda: c.sock.recv(1)) == errno.EHOSTUNREACH


def test_with_ip_recverr_the_user_is_told_at_once_and_the_connection_lives() -> None:
    with established() as c:
        c.tp.recverr = True
        c.app_send(b"data")
        c.expect("PA", data=b"data")
        c.icmp(ICMP_DEST_UNREACH, ICMP_HOST_UNREACH, seq=1)
        assert c.app_fails(lambda: c.sock.send(b"x")) == errno.EHOSTUNREACH
        assert c.in_state(State.ESTABLISHED)


# -- who is believed


@pytest.mark.parametrize("seq", [0, 6, 100_000, -1, 0x8000_0000])
def test_an_error_about_what_is_not_in_flight_is_not_believed(seq: int) -> None:
    """RFC 5927 4.1: "SND.UNA =< SEG.SEQ < SND.NXT"; Linux counts OutOfWindowIcmps."""
    with established() as c:
        c.app_send(b"data")
        c.expect("PA", data=b"data")
        c.mark()
        c.icmp(ICMP_DEST_UNREACH, ICMP_HOST_UNREACH, seq=seq)
        c.icmp(ICMP_DEST_UNREACH, ICMP_FRAG_NEEDED, 576, seq=seq)
        assert c.app_error() == 0 and c.tp.mss_cache == 1460
        c.counted(Icmp_InMsgs=2, Icmp_InDestUnreachs=2, OutOfWindowIcmps=2)


def test_a_forged_error_about_a_syn_needs_its_sequence_number() -> None:
    with syn_sent() as c:
        for seq in (-1, 2, 70_000):
            c.icmp(ICMP_DEST_UNREACH, ICMP_PORT_UNREACH, seq=seq)
        assert c.in_state(State.SYN_SENT)
        c.counted(Icmp_InMsgs=3, Icmp_InDestUnreachs=3, OutOfWindowIcmps=3)


def test_an_error_about_no_connection_of_ours_is_counted() -> None:
    with established() as c:
        c.icmp(ICMP_DEST_UNREACH, ICMP_HOST_UNREACH, sport=81)
        c.icmp(ICMP_DEST_UNREACH, ICMP_HOST_UNREACH, dport=9)
        c.icmp(ICMP_DEST_UNREACH, ICMP_HOST_UNREACH, quoted_dst="192.0.2.99")
        c.counted(Icmp_InMsgs=3, Icmp_InDestUnreachs=3, Icmp_InErrors=3)


def test_an_error_in_time_wait_changes_nothing() -> None:
    with time_wait() as c:
        c.icmp(ICMP_DEST_UNREACH, ICMP_HOST_UNREACH, seq=1)
        assert c.in_state(State.TIME_WAIT)
        c.counted(Icmp_InMsgs=1, Icmp_InDestUnreachs=1)


@pytest.mark.parametrize("icmp_type", [ICMP_SOURCE_QUENCH, ICMP_REDIRECT])
def test_source_quench_is_ignored(icmp_type: int) -> None:
    """RFC 6633 section 4: "A TCP host MUST silently discard any received ICMP Source Quench messages"."""
    with established() as c:
        c.app_send(bytes(5000))
        c.out.clear()
        window = c.tp.snd_cwnd
        c.icmp(icmp_type, 0, seq=1)
        assert c.tp.snd_cwnd == window and c.app_error() == 0 and c.in_state(State.ESTABLISHED)
        c.out.clear()


@pytest.mark.parametrize("quote", [0, 4, 7])
def test_a_quote_too_short_for_ports_and_sequence_number_is_ignored(quote: int) -> None:
    with syn_sent() as c:
        c.icmp(ICMP_DEST_UNREACH, ICMP_PORT_UNREACH, quote=quote)
        assert c.in_state(State.SYN_SENT)


# -- half-open connections


@pytest.mark.parametrize(
    ("icmp_type", "code", "ends"),
    [
        (ICMP_DEST_UNREACH, ICMP_NET_UNREACH, True),
        (ICMP_DEST_UNREACH, ICMP_HOST_UNREACH, True),
        (ICMP_TIME_EXCEEDED, 0, True),
        (ICMP_PARAMETERPROB, 0, True),
        (ICMP_DEST_UNREACH, ICMP_PORT_UNREACH, False),
        (ICMP_DEST_UNREACH, ICMP_FRAG_NEEDED, False),
    ],
)
def test_a_half_open_connection_ends_silently_by_what_is_hopeless(icmp_type: int, code: int, ends: bool) -> None:
    """tcp_req_err."""
    with syn_recv() as c:
        c.icmp(icmp_type, code, seq=0)
        assert c.in_state(State.LISTEN if ends else State.SYN_RECV) and c.events.seen == []
        c.counted(Icmp_InMsgs=1, ListenDrops=int(ends), **{KIND[icmp_type]: 1})


def test_an_error_about_another_syn_ack_is_not_believed() -> None:
    with syn_recv() as c:
        c.icmp(ICMP_DEST_UNREACH, ICMP_HOST_UNREACH, seq=1)
        assert c.in_state(State.SYN_RECV)
        c.counted(Icmp_InMsgs=1, Icmp_InDestUnreachs=1, OutOfWindowIcmps=1)


# -- path MTU


def frag_needed(c: Peer, mtu: int, seq: int = 1) -> None:
    c.icmp(ICMP_DEST_UNREACH, ICMP_FRAG_NEEDED, mtu, seq=seq)


@pytest.mark.parametrize(("mtu", "believed"), [(1400, 1400), (576, 576), (552, 552), (500, 552), (68, 552), (0, 552)])
def test_fragmentation_needed_makes_segments_smaller_and_sends_again(mtu: int, believed: int) -> None:
    """RFC 1191 section 6.4: "TCP layer should [...] retransmit" at once; not below ip_rt_min_pmtu, whatever is said."""
    with established() as c:
        c.app_send(bytes(1460))
        assert c.expect("PA", data=bytes(1460)).dont_fragment
        c.mark()
        frag_needed(c, mtu)
        assert c.tp.mss_cache == believed - 40
        sent = [c.next_segment() for _ in range(len(c.out))]
        assert sent and all(len(s.data) <= believed - 40 for s in sent)
        assert sent[0].seq == (c.irs + 1) & 0xFFFF_FFFF
        assert c.tp.snd_cwnd >= 2
        for _ in range(10):
            c.inject("A")
            c.run(SEC)
            c.out.clear()
        assert c.tp.snd_una == c.tp.snd_nxt


@pytest.mark.parametrize("mtu", [1500, 1501, 9000, 65_535])
def test_an_mtu_that_is_no_smaller_changes_nothing(mtu: int) -> None:
    """CVE-2004-1060's class: the message must make sense."""
    with established() as c:
        c.app_send(bytes(1460))
        c.expect("PA", data=bytes(1460))
        c.mark()
        frag_needed(c, mtu)
        c.silent()
        assert c.tp.mss_cache == 1460
        c.counted(Icmp_InMsgs=1, Icmp_InDestUnreachs=1)


def test_new_connections_to_the_host_begin_with_what_was_learned_and_forget_it_in_time() -> None:
    """RFC 1191 section 6.3: ten minutes."""
    with established() as c:
        c.app_send(bytes(1460))
        c.expect("PA", data=bytes(1460))
        frag_needed(c, 1000)
        c.out.clear()
        c.inject("R")
        other = established(peer=c)
        other.app_send(bytes(1460))
        assert len(other.next_segment().data) == 960
        other.out.clear()
        other.inject("R")
        other.run(700 * SEC)
        third = established(peer=c)
        third.app_send(bytes(1460))
        assert len(third.next_segment().data) == 1460


def test_with_path_mtu_discovery_off_it_is_not_believed() -> None:
    """IP_PMTUDISC_DONT: DF is not set, so nothing that was sent can have been refused; but the path is narrow
    (tcp_v4_mtu_reduced, tcp_current_mss)."""
    with established() as c:
        c.tp.pmtudisc = 0
        c.tp.dst_cache = None
        c.app_send(bytes(1460))
        assert not c.expect("PA", data=bytes(1460)).dont_fragment
        frag_needed(c, 576)
        c.silent()
        assert c.tp.mss_cache == 1460
        c.app_send(bytes(1460))
        assert [len(c.next_segment().data) for _ in range(len(c.out))] == [536, 536, 388]
        assert c.tp.err_soft == 0


@pytest.mark.parametrize(("pmtudisc", "mss"), [(2, 536), (3, 536), (4, 1460), (5, 1460)])
def test_whose_path_mtu_it_is_says_ip_mtu_discover(pmtudisc: int, mss: int) -> None:
    """ip_sk_accept_pmtu: everybody but IP_PMTUDISC_INTERFACE and IP_PMTUDISC_OMIT sends again at once."""
    with established() as c:
        c.tp.pmtudisc = pmtudisc
        c.app_send(bytes(1460))
        c.out.clear()
        frag_needed(c, 576)
        assert c.tp.mss_cache == mss and bool(c.out) is (mss == 536)
        c.out.clear()


def test_without_a_connection_any_more_rst_has_df_whatever_the_path_takes() -> None:
    """tcp_v4_init: "Please enforce IP_DF and IPID==0 for RST and ACK sent in SYN-RECV and TIME-WAIT state."."""
    with established() as c:
        frag_needed(c, 68)
        c.app_send(b"x")
        assert not c.expect("PA", data=b"x").dont_fragment
        c.inject("R")
        c.inject("A", seq=500, ack=1)
        assert c.expect("R").dont_fragment


def test_by_a_source_route_it_is_the_way_to_its_first_hop_that_is_narrow() -> None:
    """build_sk_flow_key: "if (inet_opt && inet_opt->opt.srr) daddr = inet_opt->opt.faddr"."""
    with established() as c:
        hop = str_to_addr("192.0.2.77")
        c.tp.inet_opt = ip_options_get(bytes((IPOPT_LSRR, 7, 4)) + hop.to_bytes(4, "big"))
        c.tp.dst_cache = None
        tcp_sync_mss(c.tp, 1500)
        c.app_send(bytes(1452))
        c.next_segment()
        frag_needed(c, 1000)
        assert c.tp.mss_cache == 952
        c.out.clear()
        assert c.stack.routing.ip_route_output(Flow(hop)).mtu == 1000
        assert c.stack.routing.ip_route_output(Flow(c.tp.daddr)).mtu == 1500


def test_in_close_wait_it_works_as_well() -> None:
    with close_wait() as c:
        c.app_send(bytes(1460))
        c.expect("PA", data=bytes(1460))
        frag_needed(c, 1000)
        assert c.tp.mss_cache == 960
        assert len(c.next_segment().data) == 960
        c.out.clear()


def test_a_retried_connect_after_an_error_starts_afresh() -> None:
    with Peer() as c:
        c.app_setsockopt(IPPROTO_TCP, TCP_SYNCNT, 1)
        c.app_connect()
        c.expect("S")
        c.icmp(ICMP_DEST_UNREACH, ICMP_HOST_UNREACH)
        assert c.app_error() == errno.EHOSTUNREACH
        assert c.app_fails(lambda: c.sock.connect(("192.0.2.1", 80))) == errno.ECONNABORTED
        c.app_connect()
        c.expect("S")


def test_an_unreachable_takes_one_back_off_back() -> None:
    """RFC 6069 section 3 (tcp_ld_RTO_revert): only for an error about the segment that was sent again."""
    with established() as c:
        c.app_send(b"data")
        c.expect("PA", seq=1, data=b"data")
        rto = int(c.tp.rto)
        c.expect("PA", seq=1, data=b"data", at=rto)
        c.expect("PA", seq=1, data=b"data", at=3 * rto)
        assert c.tp.backoff == 2
        c.icmp(ICMP_DEST_UNREACH, ICMP_PORT_UNREACH, seq=1)
        assert c.tp.backoff == 2, "only network and host unreachable"
        c.icmp(ICMP_DEST_UNREACH, ICMP_HOST_UNREACH, seq=2)
        assert c.tp.backoff == 2
        c.icmp(ICMP_DEST_UNREACH, ICMP_HOST_UNREACH, seq=1)
        assert c.tp.backoff == 1
        c.expect("PA", seq=1, data=b"data", at=5 * rto)


def test_overdue_by_then_it_goes_again_at_once() -> None:
    with established() as c:
        c.app_send(b"data")
        c.expect("PA", seq=1, data=b"data")
        rto = int(c.tp.rto)
        for at in (1, 3, 7):
            c.expect("PA", seq=1, data=b"data", at=at * rto)
        c.silent(until=12 * rto)
        c.icmp(ICMP_DEST_UNREACH, ICMP_HOST_UNREACH, seq=1)
        c.expect("PA", seq=1, data=b"data", at=12 * rto)
        c.inject("A", ack=5)


def test_an_error_whose_quoted_ttl_is_too_small_is_not_believed() -> None:
    """RFC 5082; IP_MINTTL (tcp_v4_err)."""
    with established() as c:
        c.tp.min_ttl = 255
        c.app_send(b"data")
        c.expect("PA", data=b"data")
        c.mark()
        c.icmp(ICMP_DEST_UNREACH, ICMP_HOST_UNREACH, seq=1)
        assert c.app_error() == 0
        c.counted(Icmp_InMsgs=1, Icmp_InDestUnreachs=1, TCPMinTTLDrop=1)
        c.out.clear()
