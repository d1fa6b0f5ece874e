"""Fast Open as a server: cookies, data in SYNs, connections that nobody has acknowledged (RFC 7413; tcp_fastopen.c)."""

from __future__ import annotations

import errno

import pytest

from tests.tcp.peer import SEC, Peer, code_of
from ustack.drop import Reason
from ustack.tcp.control import TCP_CA_LOSS, TCP_CA_OPEN
from ustack.tcp.fastopen import key_from_text, key_to_text, tcp_fastopen_cookie
from ustack.tcp.options import IPPROTO_TCP, TCP_FASTOPEN, TCP_FASTOPEN_KEY
from ustack.tcp.states import State
from ustack.wire import tcp
from ustack.wire.icmp import ICMP_DEST_UNREACH, ICMP_HOST_UNREACH
from ustack.wire.ipv4 import str_to_addr

KEY = "a1a1a1a1-b2b2b2b2-c3c3c3c3-d4d4d4d4"
OTHER_KEY = "00000001-00000002-00000003-00000004"


def server(queue: int = 5, sysctl: int = 2, key: str = KEY) -> Peer:
    c = Peer()
    c.net.sysctl.tcp_fastopen = sysctl
    if key:
        c.stack.sysctl.set("net.ipv4.tcp_fastopen_key", key)
    if queue:
        c.app_setsockopt(IPPROTO_TCP, TCP_FASTOPEN, queue)
    c.app_listen()
    c.mark()
    return c


def cookie(key: str = KEY) -> bytes:
    """The peer's."""
    found = key_from_text(key)
    assert found is not None
    return tcp_fastopen_cookie(found, str_to_addr("192.0.2.1"), str_to_addr("192.0.2.2"))


def call(c: Peer, value: bytes | None, data: bytes = b"", exp: bool = False, port: int = 40_000) -> None:
    """The peer's SYN."""
    c.pport, c.nxt, c.acked = port, 0, 0
    option = b"" if value is None else tcp.fastopen_option(value, exp)
    c.inject("S", data, options=c.syn_options() + option)


# -- cookies


def test_the_cookie_is_siphash_of_both_addresses_as_linux_computes_it() -> None:
    """__tcp_fastopen_cookie_gen_cipher: clients keep their cookies when a host changes from one to the other."""
    for key, client, address, value in (
        (KEY, "192.0.2.1", "192.168.0.1", "3021b9d889017eeb"),
        ("a0bf63f7-ed803d81-cd641d30-cebc4a90", "10.248.0.2", "192.168.0.2", "00abaaabe8e954c2"),
        ("a0bf63f7-ed803d81-cd641d30-cebc4a90", "10.248.0.3", "192.168.0.3", "76d2c1c530f51f79"),
    ):
        secret = key_from_text(key)
        assert secret is not None
        assert tcp_fastopen_cookie(secret, str_to_addr(client), str_to_addr(address)).hex() == value


@pytest.mark.parametrize("text", ["", "1-2-3", "1-2-3-4-5", "1-2-3-g", "123456789-2-3-4", f"{KEY},{KEY},{KEY}", "1,2"])
def test_a_key_is_four_words_or_twice_four(text: str) -> None:
    assert key_from_text(text) is None
    assert key_from_text(KEY) == bytes.fromhex("a1a1a1a1b2b2b2b2c3c3c3c3d4d4d4d4")
    both = key_from_text(f"{KEY},{OTHER_KEY}")
    assert both is not None and len(both) == 32 and key_to_text(both) == f"{KEY},{OTHER_KEY}"
    c = Peer()
    with pytest.raises(OSError, match="Invalid"):
        c.stack.sysctl.set("net.ipv4.tcp_fastopen_key", text)


def test_without_a_key_there_is_a_random_one_that_the_sysctl_tells() -> None:
    with server(key="") as c:
        call(c, b"")
        s = c.expect("SA", ack=1)
        told = c.stack.sysctl.get("net.ipv4.tcp_fastopen_key")
        assert tcp.parse_options(s.raw_options, 0, len(s.raw_options)).cookie == cookie(told)


@pytest.mark.parametrize("exp", [False, True])
def test_who_asks_gets_a_cookie_in_the_option_he_asked_with(exp: bool) -> None:
    with server() as c:
        call(c, b"", exp=exp)
        s = c.expect("SA", seq=0, ack=1)
        assert s.raw_options.endswith(tcp.fastopen_option(cookie(), exp))
        c.counted(TCPFastOpenCookieReqd=1)
        c.expect("SA", seq=0, ack=1, at=SEC)
        assert c.in_state(State.SYN_RECV)


def test_a_sockets_own_key_comes_before_the_sysctls() -> None:
    c = Peer()
    c.net.sysctl.tcp_fastopen = 2
    c.stack.sysctl.set("net.ipv4.tcp_fastopen_key", KEY)
    c.app_setsockopt(IPPROTO_TCP, TCP_FASTOPEN, 5)
    other = key_from_text(OTHER_KEY)
    assert other is not None
    c.app_setsockopt(IPPROTO_TCP, TCP_FASTOPEN_KEY, other)
    c.app_listen()
    call(c, cookie(OTHER_KEY), b"data")
    c.expect("SA", ack=5)
    c.check()


def test_the_second_key_is_still_good_and_the_first_ones_cookie_goes_back() -> None:
    with server(key=f"{OTHER_KEY},{KEY}") as c:
        call(c, cookie(KEY), b"data")
        s = c.expect("SA", ack=5)
        assert s.raw_options.endswith(tcp.fastopen_option(cookie(OTHER_KEY), False))
        moved = c.moved()
        assert moved["TcpExt.TCPFastOpenPassiveAltKey"] == moved["TcpExt.TCPFastOpenPassive"] == 1


# -- data in the SYN


def test_data_with_the_cookie_is_taken_and_answered_before_the_handshake_is_done() -> None:
    """RFC 7413 4.2.2: "the server [...] may send back a response in the SYN-ACK, or after"."""
    with server() as c:
        call(c, cookie(), b"GET /")
        c.expect("SA", seq=0, ack=6)
        assert c.in_state(State.SYN_RECV)
        c.app_accept()
        assert c.app_recv() == b"GET /"
        assert c.app_send(b"200 OK") == 6
        c.expect("PA", seq=1, ack=6, data=b"200 OK")
        c.inject("A", ack=7)
        assert c.in_state(State.ESTABLISHED) and c.tp.fastopen_rsk is None and c.tp.rtx_head() is None
        c.counted(
            TCPFastOpenPassive=1,
            PassiveOpens=1,
            CurrEstab=1,
            TCPOrigDataSent=1,
            TCPPureAcks=1,
            TCPDelivered=c.moved()["TcpExt.TCPDelivered"],
        )
        c.silent(until=300 * SEC)


def test_a_cookie_without_data_makes_a_connection_too() -> None:
    with server() as c:
        call(c, cookie())
        c.expect("SA", seq=0, ack=1)
        c.app_accept()
        assert c.app_fails(lambda: c.sock.recv(10)) == errno.EAGAIN
        c.app_send(b"hello")
        c.expect("PA", seq=1, ack=1, data=b"hello")
        c.inject("A", ack=6)


def test_a_wrong_cookie_gets_the_right_one_and_the_data_must_come_again() -> None:
    with server() as c:
        call(c, b"12345678", b"data")
        s = c.expect("SA", seq=0, ack=1)
        assert s.raw_options.endswith(tcp.fastopen_option(cookie(), False))
        c.counted(TCPFastOpenPassiveFail=1)
        c.inject("PA", b"data", seq=1)
        c.app_accept()
        assert c.app_recv() == b"data"
        c.out.clear()


@pytest.mark.parametrize(("queue", "sysctl"), [(0, 2), (5, 0), (5, 1)])
def test_where_it_is_off_a_cookie_means_nothing(queue: int, sysctl: int) -> None:
    with server(queue, sysctl) as c:
        call(c, cookie(), b"data")
        s = c.expect("SA", seq=0, ack=1)
        assert tcp.parse_options(s.raw_options, 0, len(s.raw_options)).cookie is None
        c.counted()


def test_with_bit_0x400_every_listener_has_it_with_its_backlog() -> None:
    with server(queue=0, sysctl=0x402) as c:
        call(c, cookie(), b"data")
        c.expect("SA", ack=5)
        assert c.tp.fastopen_max_qlen == 8


def test_with_bit_0x200_no_cookie_is_needed() -> None:
    with server(sysctl=0x202) as c:
        call(c, None, b"data")
        c.expect("SA", ack=5)
        c.counted(TCPFastOpenPassive=1, PassiveOpens=1)


# -- the queue


def test_only_so_many_wait_for_their_ack() -> None:
    """RFC 7413 5.1: "the server [...] SHOULD limit the total number of pending Fast Open connection requests"."""
    with server(queue=2) as c:
        for port in (1, 2):
            call(c, cookie(), b"data", port=port)
            c.expect("SA", ack=5)
        c.mark()
        call(c, cookie(), b"data", port=3)
        c.expect("SA", ack=1)
        c.counted(TCPFastOpenListenOverflow=1)
        c.pport = 1
        first = c.stack.tcp.tables.lookup_established(str_to_addr("192.0.2.1"), 1, str_to_addr("192.0.2.2"), 80)
        assert first is not None
        c.irs, c.acked = int(first.iss), 1
        c.inject("A", seq=5)  # one is done: there is room again
        call(c, cookie(), b"data", port=4)
        c.expect("SA", ack=5)


@pytest.mark.parametrize("accepted", [False, True])
def test_a_rst_holds_the_place_of_an_accepted_one_for_a_minute(accepted: bool) -> None:
    """reqsk_fastopen_remove: "a simple defense against TFO spoofing attack"; who is not accepted yet is in the accept
    queue anyway."""
    with server(queue=1) as c:
        call(c, cookie(), b"data")
        c.expect("SA", ack=5)
        if accepted:
            c.app_accept()
        c.inject("R", seq=5)
        if not accepted:
            c.app_accept()
        assert c.app_recv() == b"data"
        assert c.app_fails(lambda: c.sock.recv(1)) == errno.ECONNRESET
        for wait, acked in ((0, 1), (61, 5)) if accepted else ((0, 5),):
            c.run(wait * SEC)
            c.out.clear()
            call(c, cookie(), b"data", port=1000 + wait)
            c.expect("SA", ack=acked)


# -- ends


def test_the_syn_ack_goes_again_and_nothing_else_before_it_is_acknowledged() -> None:
    """tcp_fastopen_synack_timer: "Before we receive ACK to our SYN-ACK don't retransmit anything else"; one more time
    than without Fast Open, then ETIMEDOUT."""
    with server() as c:
        call(c, cookie(), b"data")
        c.expect("SA", ack=5)
        c.app_accept()
        c.app_send(b"answer")
        c.expect("PA", seq=1, data=b"answer")
        c.mark()
        for at in (1, 3, 7, 15, 31, 63):
            assert not c.expect("SA", seq=0, ack=5, at=at * SEC).raw_options.endswith(
                tcp.fastopen_option(cookie(), False)
            )
        c.silent(until=127 * SEC)
        assert c.in_state(State.CLOSE)
        assert c.app_recv() == b"data" and c.app_fails(lambda: c.sock.recv(1)) == errno.ETIMEDOUT
        moved = c.moved()
        assert moved["TcpExt.TCPSynRetrans"] == 6 and moved["TcpExt.TCPTimeouts"] == 7


def test_the_syn_once_more_is_answered_from_the_connection() -> None:
    with server() as c:
        call(c, cookie(), b"data")
        c.expect("SA", ack=5)
        c.mark()
        c.inject("S", b"data", seq=0)
        c.expect("SA", seq=0, ack=5)
        c.counted(Reason.TCP_OLD_DATA, RetransSegs=1, TCPSynRetrans=1)
        c.inject("A", seq=5)
        c.app_accept()
        assert c.app_recv() == b"data"


def test_an_unreachable_ends_it_unless_it_is_accepted_already() -> None:
    """tcp_v4_err: "If a fast open socket is already accepted it is treated as a connected one"."""
    for accepted in (False, True):
        with server() as c:
            call(c, cookie(), b"data")
            c.expect("SA", ack=5)
            if accepted:
                c.app_accept()
            c.icmp(ICMP_DEST_UNREACH, ICMP_HOST_UNREACH, seq=0)
            if accepted:
                assert c.in_state(State.SYN_RECV)
                continue
            c.app_accept()
            assert c.app_recv() == b"data"
            assert code_of(lambda: c.sock.recv(1)) == errno.EHOSTUNREACH


def test_closing_the_listener_resets_what_nobody_has_accepted() -> None:
    with server() as c:
        call(c, cookie(), b"data")
        c.expect("SA", ack=5)
        c.app_close()
        c.expect("RA", seq=1, ack=5)


def test_closing_the_connection_before_the_ack_sends_fin_and_ends_well() -> None:
    with server() as c:
        call(c, cookie(), b"data")
        c.expect("SA", ack=5)
        c.app_accept()
        assert c.app_recv() == b"data"
        c.app_close()
        c.expect("FA", seq=1, ack=5)
        c.inject("A", ack=2)
        assert c.in_state(State.FIN_WAIT2)
        c.inject("FA", ack=2)
        c.expect("A", seq=2, ack=6)
        assert c.in_state(State.TIME_WAIT) and not c.stack.tcp.tables.orphans


@pytest.mark.parametrize("ack", [0, 2, 77])
def test_a_wrong_ack_is_reset_and_the_handshake_goes_on(ack: int) -> None:
    with server() as c:
        call(c, cookie(), b"data")
        c.expect("SA", ack=5)
        c.mark()
        c.inject("A", seq=5, ack=ack)
        c.expect("R", seq=ack)
        c.counted(Reason.TCP_INVALID_ACK_SEQUENCE, OutRsts=1)
        assert c.in_state(State.SYN_RECV)


def test_after_the_syn_acks_timeouts_the_connection_is_open_and_they_are_counted() -> None:
    """tcp_rcv_synrecv_state_fastopen: nothing was in flight whose ACK could end the state of loss."""
    with server() as c:
        c.sack = True
        call(c, cookie(), b"data")
        c.expect("SA", ack=5)
        c.app_accept()
        c.mark()
        for at in (1, 3):
            c.expect("SA", seq=0, ack=5, at=at * SEC)
        assert c.tp.ca_state == TCP_CA_LOSS
        c.inject("A", seq=5, ack=1)
        assert c.in_state(State.ESTABLISHED) and c.tp.ca_state == TCP_CA_OPEN
        assert (c.tp.total_rto, c.tp.total_rto_recoveries, c.tp.retransmits) == (2, 1, 0)
        assert (c.tp.total_rto_time, c.tp.rto_stamp) == (2 * SEC, 0)
        assert (c.tp.segs_in, c.tp.data_segs_in) == (2, 1)
        assert c.tp.mem_charged >= c.tp.rmem_alloc > 0
        assert c.app_recv() == b"data"
