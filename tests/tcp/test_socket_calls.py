"""Options and calls in the states that they are seldom made in (Linux af_inet.c, tcp.c; each as its kernel answers)."""

from __future__ import annotations

import errno
from struct import pack

import pytest

from tests.tcp.peer import PEER, STACK, Peer, established, listening, simultaneous, syn_sent
from ustack.inet.family import SOCK_DGRAM
from ustack.inet.ip_sockglue import IP_MULTICAST_LOOP, IP_MULTICAST_TTL, IP_OPTIONS, IP_PKTINFO
from ustack.inet.options import SO_BROADCAST, SO_LINGER, SO_PEEK_OFF, SO_PRIORITY, SOL_IP, SOL_SOCKET
from ustack.inet.sockaddr import AF_INET, AF_UNSPEC, SockaddrIn
from ustack.sock import MSG_FASTOPEN, MSG_MORE, MSG_OOB, MSG_PEEK, MSG_TRUNC
from ustack.tcp.info import unpack_info
from ustack.tcp.options import (
    IPPROTO_TCP,
    TCP_FASTOPEN_NO_COOKIE,
    TCP_INFO,
    TCP_MAXSEG,
    TCP_QUICKACK,
    TCP_WINDOW_CLAMP,
)

NOWHERE = SockaddrIn(0, 0, AF_UNSPEC)


def info(c: Peer, name: str) -> int:
    value = c.sock.getsockopt(IPPROTO_TCP, TCP_INFO)
    assert isinstance(value, bytes)
    return unpack_info(value)[name]


# -- the local port


def test_a_connection_that_was_reset_has_no_port_but_still_tells_it() -> None:
    """inet_put_port clears inet_num, and inet_sport is what getsockname tells: it may be bound anew."""
    c = established()
    port = c.sock.getsockname().port
    c.inject("R")
    assert c.sock.getsockname().port == port
    c.sock.bind((STACK, 8081))
    assert c.sock.getsockname().pair() == (STACK, 8081)
    c.check()


def test_a_port_that_was_bound_stays_through_a_reset() -> None:
    c = Peer()
    c.sock.bind((STACK, 8081))
    c.app_connect()
    c.expect("S")
    c.inject("RA")
    assert c.app_fails(lambda: c.sock.bind((STACK, 8082))) == errno.EINVAL
    assert c.sock.getsockname().port == 8081


def test_who_is_bound_to_a_group_connects_from_an_address_of_ours() -> None:
    """inet_bhash2_update_saddr: both addresses are the one that the route tells, so that the answer finds us."""
    c = Peer()
    c.sock.bind(("224.0.0.1", 0))
    c.app_connect()
    c.expect("S")
    assert c.sock.getsockname().pair()[0] == STACK
    c.inject("SA", options=c.syn_options())
    c.expect("A", seq=1, ack=1)
    c.check()


# -- what a connection has from its listener


def test_a_connection_has_its_listeners_options_but_for_the_priority() -> None:
    """sk_clone: the whole socket is copied; sk_priority is set to 0, mc_ttl to that of the SYN."""
    c = listening()
    for level, name, value in (
        (SOL_SOCKET, SO_BROADCAST, 1),
        (SOL_SOCKET, SO_PRIORITY, 5),
        (SOL_IP, IP_PKTINFO, 1),
        (SOL_IP, IP_MULTICAST_LOOP, 0),
        (IPPROTO_TCP, TCP_QUICKACK, 0),
    ):
        assert c.server is not None
        c.server.setsockopt(level, name, value)
    c.accepted()
    assert c.sock.getsockopt(SOL_SOCKET, SO_BROADCAST) == 1
    assert c.sock.getsockopt(SOL_SOCKET, SO_PRIORITY) == 0
    assert c.sock.getsockopt(SOL_IP, IP_PKTINFO) == 1
    assert c.sock.getsockopt(SOL_IP, IP_MULTICAST_LOOP) == 0
    assert c.sock.getsockopt(IPPROTO_TCP, TCP_QUICKACK) == 0
    assert c.sock.getsockopt(SOL_IP, IP_MULTICAST_TTL) == 64


def test_a_cookie_that_is_not_wanted_is_inherited() -> None:
    c = Peer()
    c.app_listen()
    assert c.server is not None
    c.server.setsockopt(IPPROTO_TCP, TCP_FASTOPEN_NO_COOKIE, 1)
    c.accepted()
    assert c.sock.getsockopt(IPPROTO_TCP, TCP_FASTOPEN_NO_COOKIE) == 1


# -- sizes


def test_a_socket_that_was_never_connected_has_measured_nothing() -> None:
    with Peer() as c:
        assert (info(c, "advmss"), info(c, "rcv_mss"), info(c, "snd_mss")) == (0, 0, 536)


def test_options_of_the_header_take_room_from_the_segments_at_once() -> None:
    """ip_setsockopt: icsk_ext_hdr_len and icsk_sync_mss."""
    c = established(timestamps=True)
    assert info(c, "snd_mss") == 1448
    c.app_setsockopt(SOL_IP, IP_OPTIONS, b"\1" * 8)
    assert info(c, "snd_mss") == 1440
    c.app_send(bytes(1440))
    c.expect("PA", seq=1, data=bytes(1440))
    c.app_setsockopt(SOL_IP, IP_OPTIONS, b"")
    assert info(c, "snd_mss") == 1448


def test_disconnect_forgets_the_mss_that_was_asked_for() -> None:
    """tcp_disconnect clears all of rx_opt, and user_mss is part of it."""
    c = established()
    c.app_setsockopt(IPPROTO_TCP, TCP_MAXSEG, 1000)
    c.sock.connect(NOWHERE)
    c.poll()
    c.expect("RA", seq=1, ack=1)
    assert c.tp.user_mss == 0


@pytest.mark.parametrize("asked", [1 << 30, 2000])
def test_a_window_clamp_reads_as_it_was_set(asked: int) -> None:
    c = established(wscale=7)
    c.app_setsockopt(IPPROTO_TCP, TCP_WINDOW_CLAMP, asked)
    assert c.sock.getsockopt(IPPROTO_TCP, TCP_WINDOW_CLAMP) == asked


def test_a_crossed_syn_is_measured_too() -> None:
    c = simultaneous()
    assert info(c, "rcv_mss") == 536


# -- sending with MSG_FASTOPEN


def fast_open(c: Peer) -> int:
    return c.app_fails(lambda: c.sock.sendto(b"now", (PEER, 9), MSG_FASTOPEN))


def test_fast_open_of_a_listener_or_a_connection() -> None:
    """__inet_stream_connect: EISCONN for whatever is not in the beginning."""
    c = listening()
    assert c.server is not None
    c.sock, server = c.server, c.sock
    assert fast_open(c) == errno.EISCONN
    c.sock = server
    c.accepted()
    assert fast_open(c) == errno.EISCONN


def test_fast_open_while_another_open_is_under_way_or_has_failed() -> None:
    c = syn_sent()
    assert fast_open(c) == errno.EALREADY
    c.inject("RA", ack=1)
    assert fast_open(c) == errno.ECONNREFUSED, "as connect would say now"


# -- urgent data


def test_nagle_holds_again_once_urgent_data_is_acknowledged() -> None:
    """tcp_urg_mode() is snd_una != snd_up: after the ACK, MSG_MORE keeps what is small."""
    c = established()
    c.app_send(b"!", MSG_OOB)
    c.expect("PAU", seq=1, data=b"!")
    c.inject("A")
    c.app_send(b"later", MSG_MORE)
    c.check()


def test_recvmsg_says_that_a_byte_is_urgent() -> None:
    """tcp_recv_urg: MSG_OOB, and MSG_TRUNC where there was no room for it."""
    c = established()
    c.inject("PAU", b"ab!", urg=3)
    assert c.sock.recvmsg(0, MSG_OOB | 2).flags == MSG_OOB | MSG_TRUNC
    message = c.sock.recvmsg(1, MSG_OOB)
    assert (message.data, message.flags) == (b"!", MSG_OOB)


def test_a_linger_time_of_a_listener_is_its_connections() -> None:
    c = listening()
    assert c.server is not None
    c.server.setsockopt(SOL_SOCKET, SO_LINGER, pack("=ii", 1, 7))
    c.server.setsockopt(SOL_SOCKET, SO_LINGER, pack("=ii", 0, 0))
    c.accepted()
    assert c.sock.getsockopt(SOL_SOCKET, SO_LINGER) == pack("=ii", 0, 7)


# -- SO_PEEK_OFF


def test_a_look_goes_on_where_the_last_one_ended() -> None:
    """sk_peek_offset_fwd and sk_peek_offset_bwd: what is read moves it back, never before the first byte."""
    c = established()
    assert c.sock.getsockopt(SOL_SOCKET, SO_PEEK_OFF) == -1
    c.app_setsockopt(SOL_SOCKET, SO_PEEK_OFF, 1)
    c.inject("PA", b"abcd")
    c.inject("PA", b"efgh")
    assert (c.app_recv(2, MSG_PEEK), c.app_recv(2, MSG_PEEK), c.app_recv(9, MSG_PEEK)) == (b"bc", b"de", b"fgh")
    assert c.sock.getsockopt(SOL_SOCKET, SO_PEEK_OFF) == 8
    assert c.app_fails(lambda: c.sock.recv(9, MSG_PEEK)) == errno.EAGAIN
    assert c.app_recv(3) == b"abc"
    assert c.sock.getsockopt(SOL_SOCKET, SO_PEEK_OFF) == 5
    c.app_setsockopt(SOL_SOCKET, SO_PEEK_OFF, 2)
    assert c.app_recv(4) == b"defg"
    assert c.sock.getsockopt(SOL_SOCKET, SO_PEEK_OFF) == 0
    assert c.app_recv(4, MSG_PEEK) == b"h"


def test_disconnect_forgets_where_to_look() -> None:
    c = established()
    c.app_setsockopt(SOL_SOCKET, SO_PEEK_OFF, 3)
    c.sock.connect(NOWHERE)
    c.poll()
    c.expect("RA", seq=1, ack=1)
    assert c.sock.getsockopt(SOL_SOCKET, SO_PEEK_OFF) == -1


def test_who_begins_to_listen_forgets_how_the_last_peer_was_acknowledged() -> None:
    """inet_csk_listen_start clears icsk_ack, the mode of TCP_QUICKACK with it."""
    c = Peer()
    c.app_setsockopt(IPPROTO_TCP, TCP_QUICKACK, 0)
    assert c.sock.getsockopt(IPPROTO_TCP, TCP_QUICKACK) == 0
    c.sock.bind((STACK, 8081))
    c.sock.listen(1)
    assert c.sock.getsockopt(IPPROTO_TCP, TCP_QUICKACK) == 1


def test_a_look_stops_at_a_mark_and_passes_it_the_next_time() -> None:
    c = established()
    c.app_setsockopt(SOL_SOCKET, SO_PEEK_OFF, 1)
    c.inject("PAU", b"ab!cd", urg=3)
    assert c.app_recv(9, MSG_PEEK) == b"b"
    assert c.app_recv(9, MSG_PEEK) == b"cd"


def test_datagrams_have_no_place_to_look_from() -> None:
    with Peer() as c:
        sock = c.stack.socket(AF_INET, SOCK_DGRAM)
        c.sock, stream = sock, c.sock
        assert c.app_fails(lambda: sock.setsockopt(SOL_SOCKET, SO_PEEK_OFF, 0)) == errno.EOPNOTSUPP
        assert c.app_fails(lambda: sock.getsockopt(SOL_SOCKET, SO_PEEK_OFF)) == errno.EOPNOTSUPP
        c.sock = stream
