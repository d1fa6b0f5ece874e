"""Fast Open as a client: cookies asked for and remembered, data in SYNs (RFC 7413; Linux tcp_fastopen.c)."""

from __future__ import annotations

import errno

import pytest

from tests.tcp.peer import MSEC, PEER, SEC, Peer, code_of, established, syn_sent
from ustack.drop import Reason
from ustack.sock import MSG_FASTOPEN, POLLOUT, TCP_ESTABLISHED
from ustack.tcp.metrics import TCP_METRICS_MAX
from ustack.tcp.options import IPPROTO_TCP, TCP_FASTOPEN_CONNECT, TCP_MAXSEG
from ustack.tcp.states import State
from ustack.wire import tcp
from ustack.wire.icmp import ICMP_DEST_UNREACH, ICMP_FRAG_NEEDED
from ustack.wire.ipv4 import str_to_addr

COOKIE = b"cookies!"


def fresh(c: Peer) -> None:
    """Another socket of the same stack."""
    c.out.clear()
    c.sock = c.stack.socket()
    c.tp = c.sock.sk  # type: ignore[assignment]
    c.nxt = c.acked = 0
    c.sock.observe(c.events)
    c.mark()


def asked(c: Peer) -> None:
    """sendto(MSG_FASTOPEN) of nothing: only a cookie is asked for."""
    assert code_of(lambda: c.sock.sendto(b"", (PEER, 80), MSG_FASTOPEN)) == errno.EINPROGRESS
    c.pport = 80
    c.poll()


def cookie_in(options: bytes) -> bytes | None:
    return tcp.parse_options(options, 0, len(options)).cookie


def knowing(value: bytes = COOKIE, mss: int = 1460, timestamps: bool = False, exp: bool = False) -> Peer:
    """A stack that has a cookie of the peer."""
    c = Peer(mss, timestamps=timestamps)
    asked(c)
    assert cookie_in(c.expect("S").raw_options) == b""
    c.inject("SA", options=c.syn_options() + tcp.fastopen_option(value, exp))
    c.expect("A")
    c.app_close()
    c.expect("FA")
    c.inject("R", seq=1)
    fresh(c)
    return c


def send(c: Peer, data: bytes) -> int:
    c.pport = 80
    taken = c.sock.sendto(data, (PEER, 80), MSG_FASTOPEN)
    c.poll()
    return taken


# -- asking


def test_the_first_connection_asks_for_a_cookie_and_sends_its_data_later() -> None:
    """RFC 7413 4.2.1: "the client sends a SYN packet with a Fast Open option with an empty cookie field"."""
    with Peer() as c:
        assert code_of(lambda: send(c, b"data")) == errno.EINPROGRESS
        c.poll()
        s = c.expect("S", seq=0)
        assert cookie_in(s.raw_options) == b"" and s.raw_options.endswith(b"\x22\x02\x01\x01")
        assert code_of(lambda: send(c, b"data")) == errno.EALREADY
        c.inject("SA", options=c.syn_options() + tcp.fastopen_option(COOKIE, False))
        c.expect("A", seq=1, ack=1)
        assert send(c, b"data") == 4  # MSG_FASTOPEN means nothing any more
        c.expect("PA", seq=1, data=b"data")
        c.inject("A", ack=5)
        assert not c.tp.syn_data_acked and c.tp.syn_fastopen
    known = c.stack.tcp.tables.metrics.lookup(c.tp.saddr, c.tp.daddr)
    assert known is not None and known.cookie == COOKIE and known.mss == 1460


def test_a_retransmitted_syn_asks_no_more_but_a_late_cookie_is_kept() -> None:
    with Peer() as c:
        asked(c)
        c.expect("S")
        assert cookie_in(c.expect("S", at=SEC).raw_options) is None
        c.inject("SA", options=c.syn_options() + tcp.fastopen_option(COOKIE, False))
        c.expect("A")
        known = c.stack.tcp.tables.metrics.lookup(c.tp.saddr, c.tp.daddr)
        assert known is not None and known.cookie == COOKIE


def test_asked_in_vain_it_asks_once_in_the_experimental_option_then_in_the_new_one_for_ever() -> None:
    with Peer() as c:
        for exp in (False, True, False, False):
            asked(c)
            s = c.expect("S")
            assert s.raw_options.endswith(tcp.fastopen_option(b"", exp))
            c.inject("SA", options=c.syn_options())
            c.expect("A")
            fresh(c)


def test_an_unsolicited_cookie_is_not_kept() -> None:
    with Peer() as c:
        c.app_connect()
        c.expect("S")
        c.inject("SA", options=c.syn_options() + tcp.fastopen_option(COOKIE, False))
        c.expect("A")
        known = c.stack.tcp.tables.metrics.lookup(c.tp.saddr, c.tp.daddr)
        assert known is None or known.cookie == b""


def test_with_the_client_bit_off_it_is_not_supported() -> None:
    with Peer() as c:
        c.net.sysctl.tcp_fastopen = 2
        assert code_of(lambda: send(c, b"data")) == errno.EOPNOTSUPP
        c.silent(until=SEC)


# -- data in the SYN


@pytest.mark.parametrize("exp", [False, True])
def test_with_a_cookie_the_data_goes_with_the_syn(exp: bool) -> None:
    with knowing(exp=exp) as c:
        assert send(c, b"data") == 4
        s = c.expect("S", seq=0, data=b"data")
        assert s.raw_options.endswith(tcp.fastopen_option(COOKIE, exp))
        c.inject("SA", ack=5, options=c.syn_options())
        c.expect("A", seq=5, ack=1)
        assert c.in_state(State.ESTABLISHED) and c.tp.syn_data_acked and c.tp.rtx_head() is None
        c.counted(
            ActiveOpens=1,
            CurrEstab=1,
            TCPFastOpenActive=1,
            TCPOrigDataSent=1,
            TCPDelivered=c.moved()["TcpExt.TCPDelivered"],
        )
        assert c.tp.delivered == 1, "SYN and data were one segment"


@pytest.mark.parametrize("mss", [600, 1460, 9000])
def test_as_much_goes_as_fits_beside_all_the_options_there_could_be(mss: int) -> None:
    """tcp_send_syn_data: the MSS that was remembered and the path's, less 40 bytes."""
    with knowing(mss=mss) as c:
        room = min(mss, 1460) - 40
        assert send(c, bytes(3000)) == room
        c.expect("S", seq=0, data=bytes(room))


def test_tcp_maxseg_counts_too() -> None:
    with knowing() as c:
        c.app_setsockopt(IPPROTO_TCP, TCP_MAXSEG, 1000)
        assert send(c, bytes(3000)) == 960
        assert c.expect("S", seq=0, data=bytes(960)).mss == 1000


def test_what_the_syn_ack_does_not_acknowledge_goes_again_at_once() -> None:
    """RFC 7413 4.2.2, 4.1.3: "the client MUST [...] retransmit the data"; it is no sign of congestion."""
    with knowing() as c:
        send(c, b"data")
        c.expect("S", data=b"data")
        c.inject("SA", ack=1, options=c.syn_options())
        c.expect("PA", seq=1, ack=1, data=b"data")
        assert not c.tp.syn_data_acked and c.tp.snd_cwnd == 10
        c.inject("A", ack=5)
        moved = c.moved()
        assert moved["TcpExt.TCPFastOpenActiveFail"] == 1 and "TcpExt.TCPFastOpenActive" not in moved
        c.silent(until=100 * SEC)


def test_what_is_acknowledged_in_part_goes_again_from_there() -> None:
    with knowing() as c:
        send(c, b"0123456789")
        c.expect("S", data=b"0123456789")
        c.inject("SA", ack=5, options=c.syn_options())
        c.expect("PA", seq=5, ack=1, data=b"456789")
        c.inject("A", ack=11)


def test_a_lost_syn_goes_again_bare() -> None:
    """RFC 7413 4.1.3: "the client [...] SHOULD retransmit the SYN without data and the Fast Open option"."""
    with knowing() as c:
        send(c, b"data")
        c.expect("S", data=b"data")
        assert cookie_in(c.expect("S", seq=0, at=SEC).raw_options) is None
        c.inject("SA", ack=1, options=c.syn_options())
        c.expect("PA", seq=1, ack=1, data=b"data")
        c.inject("A", ack=5)


def test_an_icmp_about_its_size_makes_it_go_again_bare_and_advertise_less() -> None:
    with knowing() as c:
        send(c, bytes(1400))
        c.expect("S", data=bytes(1400))
        c.icmp(ICMP_DEST_UNREACH, ICMP_FRAG_NEEDED, 840, seq=0)
        assert c.expect("S", seq=0).mss == 800
        c.inject("SA", options=c.syn_options())
        assert c.next_segment().data == bytes(800)
        c.out.clear()


def test_text_in_the_syn_ack_is_taken() -> None:
    with knowing() as c:
        send(c, b"data")
        c.expect("S", data=b"data")
        c.inject("SA", b"answer", ack=5, options=c.syn_options())
        c.expect("A", seq=5, ack=7)
        assert c.app_recv() == b"answer"


def test_a_fin_in_the_syn_ack_too() -> None:
    with knowing() as c:
        send(c, b"data")
        c.expect("S", data=b"data")
        c.inject("SFA", b"answer", ack=5, options=c.syn_options())
        c.expect("A", seq=5, ack=8, at=200 * MSEC)  # as long as any may wait for the owner's answer
        assert c.in_state(State.CLOSE_WAIT) and c.app_recv() == b"answer" and c.app_recv() == b""


def test_without_fast_open_text_in_a_syn_ack_waits_to_be_sent_again() -> None:
    with Peer() as c:
        c.app_connect()
        c.expect("S")
        c.inject("SA", b"answer", options=c.syn_options())
        c.expect("A", seq=1, ack=1)


def test_a_rst_for_the_syn_is_a_refusal() -> None:
    with knowing() as c:
        send(c, b"data")
        c.expect("S", data=b"data")
        c.inject("RA", seq=0, ack=1)
        assert c.app_error() == errno.ECONNREFUSED
        c.counted(Reason.TCP_RESET, ActiveOpens=1, AttemptFails=1, TCPOrigDataSent=1)


def test_with_bit_4_data_goes_without_any_cookie() -> None:
    with Peer() as c:
        c.net.sysctl.tcp_fastopen = 5
        assert send(c, b"data") == 4
        assert cookie_in(c.expect("S", data=b"data").raw_options) is None
        c.inject("SA", ack=5, options=c.syn_options())
        c.expect("A", seq=5)
        assert c.tp.syn_data_acked


def test_both_sides_at_once() -> None:
    """ "we don't support that": only their SYN is acknowledged, the data of both goes as it would have."""
    with knowing() as c:
        send(c, b"data")
        c.expect("S", data=b"data")
        c.inject("S", b"theirs", seq=0, options=c.syn_options() + tcp.fastopen_option(b"whatever", False))
        c.nxt = 1
        assert cookie_in(c.expect("SA", seq=0, ack=1).raw_options) is None
        c.inject("SA", seq=0, ack=5, options=c.syn_options())
        c.expect("A", seq=5, ack=1)
        c.inject("PA", b"theirs", seq=1)
        c.expect("A", ack=7)
        assert c.in_state(State.ESTABLISHED) and c.app_recv() == b"theirs"


# -- TCP_FASTOPEN_CONNECT


def test_fastopen_connect_waits_for_the_first_data() -> None:
    """inet_stream_connect returns 0 at once; the SYN goes with the first write (tcp_fastopen_defer_connect)."""
    with knowing() as c:
        c.app_setsockopt(IPPROTO_TCP, TCP_FASTOPEN_CONNECT, 1)
        c.sock.connect((PEER, 80))
        c.pport = 80
        c.silent(until=10 * SEC)
        assert c.sock.poll() == POLLOUT and c.tp.state != TCP_ESTABLISHED
        assert code_of(lambda: c.sock.connect((PEER, 80))) == errno.EISCONN
        assert c.app_send(b"data") == 4
        c.expect("S", seq=0, data=b"data")
        c.inject("SA", ack=5, options=c.syn_options())
        c.expect("A", seq=5)


def test_fastopen_connect_without_a_cookie_asks_for_one() -> None:
    with Peer() as c:
        c.app_setsockopt(IPPROTO_TCP, TCP_FASTOPEN_CONNECT, 1)
        c.app_connect()
        assert cookie_in(c.expect("S").raw_options) == b""


def test_fastopen_connect_closed_before_any_data_says_nothing() -> None:
    with knowing() as c:
        c.app_setsockopt(IPPROTO_TCP, TCP_FASTOPEN_CONNECT, 1)
        c.sock.connect((PEER, 80))
        c.app_close()
        c.silent(until=100 * SEC)


# -- black holes


def test_a_black_hole_stops_all_of_it_for_longer_each_time() -> None:
    """tcp_fastopen_active_detect_blackhole: the third timeout in a row; the pause doubles until one gets through."""
    with knowing() as c:
        c.net.sysctl.tcp_fastopen_blackhole_timeout_sec = 100
        for pause in (100, 200):
            send(c, b"data")
            assert c.next_segment().data == b"data"
            c.run(10 * SEC)
            moved = c.moved()
            assert moved["TcpExt.TCPFastOpenBlackhole"] == 1
            c.app_close()
            fresh(c)
            assert code_of(lambda: send(c, b"data")) == errno.EINPROGRESS
            c.poll()
            assert cookie_in(c.expect("S").raw_options) is None
            c.app_close()
            c.run(pause * SEC)
            fresh(c)
        send(c, b"data")
        c.expect("S", data=b"data")
        c.inject("SA", ack=5, options=c.syn_options())
        c.expect("A")
        c.inject("PA", b"x")
        c.run(100 * MSEC)
        c.out.clear()
        c.app_recv()
        c.app_close()
        c.inject("A", ack=6)
        c.inject("FA")
        c.run(SEC)
        c.out.clear()
        assert c.stack.tcp.tables.tfo_active_disable_times == 0


# -- the table


def test_so_many_hosts_are_remembered_and_no_more() -> None:
    """What has not been used for longest goes first, and is counted."""
    c = Peer()
    metrics = c.stack.tcp.tables.metrics
    first = str_to_addr("198.51.0.0")
    for n in range(TCP_METRICS_MAX):
        metrics.get(1, first + n).cookie = COOKIE
    metrics.get(1, first)
    assert len(metrics) == TCP_METRICS_MAX and c.net.mib.tcpext.TCPMetricsEvicted == 0
    metrics.get(1, 5)
    assert len(metrics) == TCP_METRICS_MAX and c.net.mib.tcpext.TCPMetricsEvicted == 1
    assert metrics.lookup(1, first + 1) is None and metrics.lookup(1, first) is not None
    metrics.flush()
    assert len(metrics) == 0


def test_who_is_connected_cannot_connect_by_sending() -> None:
    """__inet_stream_connect: MSG_FASTOPEN is a connect, and the second one is EISCONN."""
    with established(active=True) as c:
        assert c.app_fails(lambda: c.sock.send(b"x", MSG_FASTOPEN)) == errno.EISCONN
        c.silent(until=SEC)
        assert c.app_send(b"x") == 1
        c.expect("PA", seq=1, data=b"x")


def test_the_first_of_them_that_finds_the_connection_up_is_just_a_send() -> None:
    with syn_sent() as c:
        assert c.app_fails(lambda: c.sock.send(b"x", MSG_FASTOPEN)) == errno.EALREADY
        c.inject("SA", options=c.syn_options())
        c.expect("A", seq=1, ack=1)
        assert c.sock.send(b"x", MSG_FASTOPEN) == 1
        c.poll()
        c.expect("PA", seq=1, data=b"x")
        assert c.app_fails(lambda: c.sock.send(b"y", MSG_FASTOPEN)) == errno.EISCONN
