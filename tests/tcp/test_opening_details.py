"""Handshakes in the details that only the kernel itself tells of: sizes before there is an answer, ACKs of requests,
options of segments that are refused, errors that end an open."""

from __future__ import annotations

import errno
import struct

import pytest

from tests.tcp.peer import MSEC, PEER, SEC, Peer, code_of, listening, syn_recv, syn_sent
from ustack.drop import Reason
from ustack.error_queue import IP_RECVERR, SO_EE_ORIGIN_ICMP, SOL_IP
from ustack.sock import MSG_ERRQUEUE, MSG_TRUNC, POLLERR, POLLHUP, POLLOUT
from ustack.tcp.control import TCP_CA_LOSS, TCP_CA_OPEN
from ustack.tcp.info import tcp_get_info, unpack_info
from ustack.tcp.options import IPPROTO_TCP, TCP_DEFER_ACCEPT, TCP_FASTOPEN, TCP_MAXSEG
from ustack.tcp.states import State
from ustack.wire import tcp
from ustack.wire.icmp import ICMP_DEST_UNREACH, ICMP_HOST_UNREACH, ICMP_PORT_UNREACH
from ustack.wire.ipv4 import str_to_addr


def info(c: Peer) -> dict[str, int]:
    return unpack_info(tcp_get_info(c.tp))


# -- sizes


def test_before_there_is_an_answer_segments_are_small_and_have_room_for_timestamps() -> None:
    """tcp_connect_init: 536 and what was offered; nothing is known of what the peer sends."""
    with syn_sent() as c:
        assert (info(c)["snd_mss"], info(c)["rcv_mss"], info(c)["advmss"]) == (524, 88, 1460)
        assert c.sock.getsockopt(IPPROTO_TCP, TCP_MAXSEG) == 524
    c = Peer()
    c.net.sysctl.tcp_timestamps = 0
    with syn_sent(c):
        assert info(c)["snd_mss"] == 536


def test_without_timestamps_in_the_answer_there_is_more_room() -> None:
    with syn_sent(Peer(timestamps=False)) as c:
        c.inject("SA", options=c.syn_options())
        c.expect("A")
        assert info(c)["snd_mss"] == 1460


def test_what_the_user_says_bounds_the_mss_option_and_stands_in_for_it() -> None:
    """tcp_connect_init, tcp_parse_options: TCP_MAXSEG clamps when the option is read, not afterwards."""
    for mss, size in ((1460, 1000), (900, 900), (None, 1000)):
        c = Peer(mss=mss)
        c.app_setsockopt(IPPROTO_TCP, TCP_MAXSEG, 1000)
        with syn_sent(c):
            assert info(c)["snd_mss"] == 1000 - 12
            c.inject("SA", options=c.syn_options())
            c.expect("A")
            c.app_setsockopt(IPPROTO_TCP, TCP_MAXSEG, 500)
            assert info(c)["snd_mss"] == size


def test_a_tiny_window_makes_small_skbs() -> None:
    """tcp_xmit_size_goal: what is queued while the largest window is tiny is cut for it, and stays so."""
    with syn_sent() as c:
        c.inject("SA", options=c.syn_options(), window=1)
        c.expect("A")
        c.app_send(bytes(1000))
        c.inject("A", window=60_000)
        assert [len(s.data) for s in c.out] == [288, *[96] * 7]
        c.out.clear()
        c.inject("R")


def test_what_the_listener_says_bounds_the_mss_option_of_a_syn() -> None:
    for mss, size in ((1460, 1000), (None, 536)):
        c = Peer(mss=mss)
        c.app_setsockopt(IPPROTO_TCP, TCP_MAXSEG, 1000)
        with listening(peer=c):
            c.peer_syn()
            assert c.expect("SA").mss == 1000
            c.inject("A")
            c.app_accept()
            assert info(c)["snd_mss"] == size


def test_a_window_shrinks_segments_down_to_what_a_datagram_of_68_bytes_holds() -> None:
    """tcp_bound_to_half_wnd: less, where timestamps take their part of it."""
    for timestamps, size in ((False, 48), (True, 36)):
        with syn_sent(Peer(timestamps=timestamps)) as c:
            c.inject("SA", options=c.syn_options(), window=10)
            c.expect("A")
            assert info(c)["snd_mss"] == size


# -- SYN-SENT


def test_a_syn_lost_without_sack_leaves_the_loss_state_to_the_first_ack_of_data() -> None:
    """tcp_try_undo_recovery: without SACK the state is held until something above high_seq is acknowledged."""
    for sack, state in ((False, TCP_CA_LOSS), (True, TCP_CA_OPEN)):
        with syn_sent(Peer(sack=sack)) as c:
            c.expect("S", seq=0, at=SEC)
            c.inject("SA", options=c.syn_options())
            c.expect("A")
            assert c.tp.ca_state == state and info(c)["ca_state"] == state
            c.app_send(b"x")
            c.expect("PA", data=b"x")
            c.inject("A", ack=2)
            assert c.tp.ca_state == TCP_CA_OPEN


def test_a_reset_leaves_what_it_offered() -> None:
    """tcp_rcv_synsent_state_process reads the options before it knows what the segment is."""
    with syn_sent(Peer(wscale=3, sack=True)) as c:
        c.inject("SRA", ack=1, options=c.syn_options())
        assert c.in_state(State.CLOSE) and c.app_error() == errno.ECONNREFUSED
        assert info(c)["options"] == 2 | 4 and info(c)["wscales"] & 15 == 3


def test_who_uses_no_timestamps_does_not_look_at_them() -> None:
    c = Peer(timestamps=True)
    c.net.sysctl.tcp_timestamps = 0
    with syn_sent(c):
        c.inject("SA", options=c.syn_options() + tcp.timestamp_option(1, 1))
        assert not c.expect("A").saw_tstamp


# -- requests


def test_the_answer_to_what_is_not_acceptable_has_no_timestamp_if_the_syn_said_zero() -> None:
    """tcp_v4_send_ack: a TSecr of 0 is none."""
    for tsval in (0, 77):
        with listening(peer=Peer(timestamps=True)) as c:
            c.inject("S", options=tcp.syn_options(1460, -1, False, True, tsval, 0))
            c.expect("SA")
            c.inject("A", seq=-5, ack=1, options=b"")
            s = c.expect("A", seq=1, ack=1)
            assert (s.saw_tstamp, s.tsecr) == (tsval != 0, tsval)


def test_it_goes_by_the_dscp_of_what_it_answers() -> None:
    with syn_recv() as c:
        c.inject("A", seq=-5, ack=1, tos=0xB9)
        assert c.expect("A", seq=1, ack=1).tos == 0xB8


def test_the_challenge_for_a_reset_has_its_own_limit_whatever_it_carries() -> None:
    with syn_recv() as c:
        c.inject("R", seq=2)
        c.expect("A", seq=1, ack=1)
        c.inject("R", b"text", seq=2)
        c.silent()
        c.counted(Reason.TCP_INVALID_SEQUENCE, Reason.TCP_INVALID_SEQUENCE, TCPChallengeACK=1, TCPACKSkippedChallenge=1)


def test_an_older_syn_is_not_the_same_syn() -> None:
    """PAWS comes first: it is answered with an ACK, not with the SYN-ACK."""
    with syn_recv(Peer(timestamps=True)) as c:
        c.inject("S", seq=0, options=tcp.syn_options(1460, -1, False, True, c.tsval() - 1000, 0))
        c.expect("A", seq=1, ack=1)
        c.counted(Reason.TCP_RFC7323_PAWS, PAWSEstab=1)


def test_a_syn_once_more_with_text_makes_a_socket_that_waits_for_a_better_ack() -> None:
    """tcp_check_req: "Truncate SYN, it is out of window starting at rcv_isn + 1"; the socket then challenges it."""
    for flags, data in (("SA", b"x"), ("SFA", b"")):
        with syn_recv() as c:
            c.inject(flags, data, seq=0, ack=1)
            c.expect("A", seq=1, ack=1)
            c.counted(Reason.TCP_INVALID_SYN, PassiveOpens=1, TCPSYNChallenge=1, TCPChallengeACK=1)
            c.app_accept()
            assert c.in_state(State.SYN_RECV) and c.sock.poll() == 0
            assert code_of(lambda: c.sock.send(b"x")) == errno.EAGAIN
            c.inject("A", seq=1, ack=1)
            assert c.in_state(State.ESTABLISHED) and c.sock.poll() == POLLOUT


def test_an_icmp_error_about_the_syn_ack_does_not_concern_the_socket_made_of_it() -> None:
    """tcp_create_openreq_child: snd_una is behind the SYN-ACK, which is the request's, even before ESTABLISHED."""
    with syn_recv() as c:
        c.inject("SA", b"xx", seq=0, ack=1)
        c.expect("A", seq=1, ack=1)
        c.mark()
        c.icmp(ICMP_DEST_UNREACH, ICMP_HOST_UNREACH, seq=0)
        c.silent()
        c.counted(OutOfWindowIcmps=1, Icmp_InMsgs=1, Icmp_InDestUnreachs=1)
        assert c.in_state(State.SYN_RECV)


def test_a_listener_that_waits_for_data_waits_for_what_is_at_rcv_nxt_only() -> None:
    c = Peer()
    c.app_setsockopt(IPPROTO_TCP, TCP_DEFER_ACCEPT, 5)
    with syn_recv(c):
        c.inject("A", seq=1)
        assert c.in_state(State.SYN_RECV)
        c.inject("A", seq=2)
        assert c.in_state(State.ESTABLISHED)
        c.out.clear()


def test_an_ack_of_nothing_may_be_of_a_cookie() -> None:
    """A request does not know the ACK: the listener looks whether it has sent a cookie of late."""
    with syn_recv() as c:
        listener = c.tp
        listener.synq_overflow = int(c.net.now)
        c.inject("A", ack=500)
        c.expect("R", seq=500)
        c.counted(Reason.TCP_INVALID_ACK_SEQUENCE, OutRsts=1, SyncookiesFailed=1)


def test_a_syn_ack_with_a_cookie_has_no_options_if_we_use_no_timestamps() -> None:
    c = Peer(timestamps=True, sack=True, wscale=7)
    c.net.sysctl.tcp_timestamps = 0
    c.net.sysctl.tcp_syncookies = 2
    with listening(peer=c):
        c.peer_syn()
        s = c.expect("SA")
        assert not s.sack_ok and s.wscale < 0 and not s.saw_tstamp


# -- Fast Open


def test_a_socket_that_fast_open_has_made_says_so() -> None:
    c = Peer()
    c.net.sysctl.tcp_fastopen = 0x203
    c.app_setsockopt(IPPROTO_TCP, TCP_FASTOPEN, 5)
    with listening(peer=c):
        c.inject("S", b"hello", options=c.syn_options())
        c.expect("SA", ack=6)
        c.app_accept()
        assert info(c)["options"] & (32 | 128) == 32 | 128
        assert (info(c)["segs_in"], info(c)["data_segs_in"]) == (1, 1)
        c.inject("R", seq=6)


def test_text_in_a_syn_ack_counts_as_data_of_the_syn() -> None:
    """tcp_fastopen_add_skb: TCPI_OPT_SYN_DATA, and the segment is counted a second time."""
    c = Peer()
    c.net.sysctl.tcp_fastopen = 1
    with c:
        assert code_of(lambda: c.sock.sendto(b"", (PEER, 80), 0x2000_0000)) == errno.EINPROGRESS
        c.pport = 80
        c.poll()
        c.expect("S")
        c.inject("SA", b"text", options=c.syn_options())
        c.expect("A", ack=5)
        assert info(c)["options"] & 32 and info(c)["segs_in"] == 1 and info(c)["data_segs_in"] == 2


# -- errors


@pytest.mark.parametrize(
    ("code", "number"), [(ICMP_PORT_UNREACH, errno.ECONNREFUSED), (ICMP_HOST_UNREACH, errno.EHOSTUNREACH)]
)
def test_the_error_that_ends_an_open_can_be_read_in_full(code: int, number: int) -> None:
    """ip_icmp_error, for who has not set IP_RECVERR too: connect tells the errno, recvmsg the rest."""
    with syn_sent() as c:
        c.icmp(ICMP_DEST_UNREACH, code)
        assert c.sock.poll() & POLLERR
        assert code_of(lambda: c.sock.connect((PEER, 80))) == number
        assert c.sock.poll() == POLLERR | POLLOUT | POLLHUP
        message = c.sock.recvmsg(4, MSG_ERRQUEUE)
        quoted = struct.pack("!HHI", c.sport, 80, c.irs)
        assert (message.data, message.addr, message.port) == (quoted[:4], str_to_addr(PEER), 80)
        assert message.flags == MSG_ERRQUEUE | MSG_TRUNC
        extended = struct.pack("=IBBBxII", number, SO_EE_ORIGIN_ICMP, ICMP_DEST_UNREACH, code, 0, 0)
        offender = struct.pack("=H2x4s8x", 2, str_to_addr(PEER).to_bytes(4, "big"))
        assert message.control == [(SOL_IP, IP_RECVERR, extended + offender)]
        assert c.sock.poll() == POLLOUT | POLLHUP


def test_so_error_is_gone_with_the_message_that_tells_of_it() -> None:
    """sock_dequeue_err_skb."""
    with syn_sent() as c:
        c.icmp(ICMP_DEST_UNREACH, ICMP_PORT_UNREACH)
        c.sock.recvmsg(100, MSG_ERRQUEUE)
        assert c.app_error() == 0
        assert code_of(lambda: c.sock.connect((PEER, 80))) == errno.ECONNABORTED


# -- both call


def test_their_syn_for_the_second_time_makes_acks_quick_for_a_while() -> None:
    """tcp_data_queue: what has come before means that our ACK was lost (tcp_enter_quickack_mode)."""
    with Peer() as c:
        c.app_connect()
        c.expect("S")
        c.peer_syn()
        c.expect("SA")
        c.inject("SA", seq=0, ack=1, options=c.syn_options())
        c.expect("A")
        assert c.tp.ack_quick > 0 and c.tp.ato == 40 * MSEC
