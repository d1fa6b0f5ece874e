"""SYN cookies: when they are sent, what they carry, what becomes of the ACK (RFC 4987 3.6; Linux syncookies.c)."""

from __future__ import annotations

import pytest

from tests.tcp.peer import MSEC, SEC, Peer, listening
from ustack.drop import Reason
from ustack.tcp.states import State
from ustack.tcp.syncookies import MSSTAB


def always(mss: int | None = 1460, wscale: int | None = None, timestamps: bool = False, sack: bool = False) -> Peer:
    """A listener that sends nothing but cookies."""
    c = listening(peer=Peer(mss, wscale, timestamps, sack=sack))
    c.net.sysctl.tcp_syncookies = 2
    c.mark()
    return c


def test_with_tcp_syncookies_2_every_syn_gets_one() -> None:
    with always() as c:
        c.peer_syn()
        s = c.expect("SA", seq=0, ack=1)
        assert s.raw_options == b"\x02\x04\x05\xb4" and not c.stack.tcp.tables.requests and c.tp.syn_queue_len == 0
        c.counted(SyncookiesSent=1, TCPReqQFullDoCookies=1)
        c.silent(until=200 * SEC)  # nothing is remembered: nothing goes again
        assert c.in_state(State.LISTEN)


def test_the_ack_makes_the_connection() -> None:
    with always() as c:
        c.peer_syn()
        c.expect("SA", seq=0, ack=1)
        c.mark()
        c.inject("PA", b"hello")
        c.expect("A", seq=1, ack=6)
        c.app_accept()
        assert c.app_recv() == b"hello"
        c.counted(SyncookiesRecv=1, PassiveOpens=1, CurrEstab=1, TCPHPHits=c.moved().get("TcpExt.TCPHPHits", 0))


def test_under_overflow_only() -> None:
    """tcp_syncookies 1: "only under overflow"; the cookies' own connections need no place in the queue."""
    with listening(backlog=1) as c:
        for port in (1000, 1001):
            c.pport, c.nxt = port, 0
            c.peer_syn()
            c.expect("SA", seq=0, ack=1)
        c.mark()
        c.pport, c.nxt = 2000, 0
        c.peer_syn()
        c.expect("SA", seq=0, ack=1)
        assert len(c.stack.tcp.tables.requests) == 2
        c.counted(SyncookiesSent=1, TCPReqQFullDoCookies=1)
        c.inject("A")
        c.app_accept()


@pytest.mark.parametrize(
    ("mss", "carried"), [(None, 536), (100, 536), (536, 536), (1299, 536), (1300, 1300), (1459, 1440), (9000, 1460)]
)
def test_the_mss_is_rounded_down_to_one_of_four(mss: int | None, carried: int) -> None:
    with always(mss=mss) as c:
        c.peer_syn()
        c.expect("SA", seq=0)
        c.inject("A")
        c.app_accept()
        assert c.tp.mss_clamp == carried and carried in MSSTAB


@pytest.mark.parametrize("wscale", [None, 0, 7, 14])
@pytest.mark.parametrize("sack", [False, True])
def test_the_options_come_back_in_the_timestamp(wscale: int | None, sack: bool) -> None:
    """cookie_init_timestamp, cookie_timestamp_decode: window scale, SACK in the low six bits of what is echoed."""
    with always(wscale=wscale, timestamps=True, sack=sack) as c:
        c.peer_syn()
        s = c.expect("SA", seq=0)
        assert s.saw_tstamp and s.sack_ok is sack and (s.wscale >= 0) is (wscale is not None)
        late = (
            c.stack.tcp.tables.secure_tcp_ts_off(c.tp.saddr or 0xC000_0202, 0xC000_0201) + c.now // MSEC - s.tsval
        ) & 0xFFFF_FFFF
        assert late < 64, "more than its low bits differ from the time"
        c.run(30 * MSEC)
        c.inject("A")
        c.app_accept()
        assert c.tp.tstamp_ok and c.tp.sack_ok is sack and c.tp.wscale_ok is (wscale is not None)
        assert c.tp.snd_wscale == (wscale or 0) and c.tp.rcv_wscale == max(s.wscale, 0)
        assert c.tp.ts_recent == c.tsval()
        c.app_send(b"x")
        assert c.next_segment().tsval == c.tp.mstamp()
        c.out.clear()


def test_without_timestamps_there_is_neither_scaling_nor_sack() -> None:
    """tcp_conn_request: "if (want_cookie && !tmp_opt.saw_tstamp) tcp_clear_options()"."""
    with always(wscale=7, sack=True) as c:
        c.peer_syn()
        s = c.expect("SA", seq=0)
        assert s.wscale == -1 and not s.sack_ok
        c.inject("A", window=1000)
        c.app_accept()
        assert c.tp.snd_wnd == 1000 and not c.tp.sack_ok


def test_what_the_timestamp_says_and_we_do_not_have_is_no_cookie() -> None:
    with always(timestamps=True, sack=True) as c:
        c.peer_syn()
        c.expect("SA", seq=0)
        c.net.sysctl.tcp_sack = 0
        c.mark()
        c.inject("A")
        c.expect("R", seq=1)
        c.counted(Reason.TCP_FLAGS, SyncookiesRecv=1, OutRsts=1)


@pytest.mark.parametrize(("after", "good"), [(59, True), (100, None), (121, False)])
def test_a_cookie_is_good_for_this_minute_and_the_next(after: int, good: bool | None) -> None:
    with always() as c:
        c.run_to(c.now // (60 * SEC) * 60 * SEC + 61 * SEC)  # early in a minute
        c.peer_syn()
        c.expect("SA", seq=0)
        c.run(after * SEC)
        c.mark()
        c.inject("A")
        if good is not False:
            c.app_accept()
        else:
            c.expect("R", seq=1)
            c.counted(Reason.TCP_FLAGS, OutRsts=1)  # TCP_SYNCOOKIE_VALID: no recent overflow either


def test_a_wrong_one_is_counted_and_reset() -> None:
    with always() as c:
        c.peer_syn()
        c.expect("SA", seq=0)
        c.mark()
        c.inject("A", ack=2)
        c.expect("R", seq=2)
        c.counted(Reason.TCP_FLAGS, SyncookiesFailed=1, OutRsts=1)


def test_with_a_full_accept_queue_there_is_no_cookie_and_the_ack_waits() -> None:
    with listening(backlog=0) as c:
        c.net.sysctl.tcp_syncookies = 2
        isns = []
        for port in (1000, 1001):
            c.pport, c.nxt = port, 0
            c.peer_syn()
            c.expect("SA", seq=0)
            isns.append(c.irs)
        c.inject("A")
        c.mark()
        c.pport, c.irs = 1000, isns[0]
        c.inject("A", seq=1, ack=1)
        c.silent()
        c.counted(Reason.TCP_LISTEN_OVERFLOW, SyncookiesRecv=1, ListenOverflows=1, ListenDrops=1)
        c.mark()
        c.inject("S", seq=0, sport=1002)
        c.silent()
        c.counted(Reason.TCP_LISTEN_OVERFLOW, TCPReqQFullDoCookies=1, ListenOverflows=1, ListenDrops=1)
        c.app_accept()
        c.pport = 1000
        c.inject("A", seq=1, ack=1)  # sent again: now there is room
        assert c.server is not None
        assert c.server.accept().getpeername().port == 1000
