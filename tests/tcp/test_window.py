"""The windows in both directions: promises kept, silly ones avoided, closed ones probed (RFC 9293 section 3.8.6)."""

from __future__ import annotations

import errno

import pytest

from tests.tcp.peer import MSEC, SEC, Peer, established
from ustack.drop import Reason
from ustack.inet.options import SO_RCVBUF, SOL_SOCKET
from ustack.sock import MSG_PEEK
from ustack.tcp.options import IPPROTO_TCP, TCP_NODELAY, TCP_USER_TIMEOUT, TCP_WINDOW_CLAMP
from ustack.tcp.states import State

MSS = 1460
WINDOW = 64_240


def data(length: int) -> bytes:
    return bytes(length)


def fill(c: Peer, size: int = MSS) -> int:
    """Send full segments until the stack's window has no room for one; the last right edge it promised (relative)."""
    edge = 1 + int(c.tp.tcp_receive_window())
    at = 1
    while at + size <= edge:
        c.inject("A", data(size), seq=at)
        at += size
        edge = max([edge, *(edge_of(c, s.ack, s.window) for s in c.out)])
        c.out.clear()
    return edge


def taken(c: Peer) -> int:
    """What the stack expects next (relative)."""
    return (int(c.tp.rcv_nxt) - c.iss) & 0xFFFF_FFFF


def edge_of(c: Peer, ack: int, window: int) -> int:
    return (ack - c.iss & 0xFFFF_FFFF) + (window << c.tp.rcv_wscale)


# -- receiving


@pytest.mark.parametrize("wscale", [None, 7])
@pytest.mark.parametrize("size", [1, 37, 536, MSS])
def test_the_right_edge_never_moves_left(wscale: int | None, size: int) -> None:
    """RFC 9293 3.8.6 (SHLD-14): "A TCP receiver SHOULD NOT shrink the window": nobody reads, the buffer fills."""
    c = Peer(wscale=wscale)
    c.app_setsockopt(SOL_SOCKET, SO_RCVBUF, 20_000)
    with established(peer=c):
        edge = 0
        at = 1
        for _ in range(200):
            c.inject("A", data(size), seq=at)
            at += size
            for s in c.out:
                assert edge_of(c, s.ack, s.window) >= edge
                edge = edge_of(c, s.ack, s.window)
            c.out.clear()
            if c.drops.reasons:
                break
        c.run(SEC)
        c.out.clear()


def test_the_window_closes_and_opens_by_no_less_than_a_segment() -> None:
    """RFC 9293 MUST-39, 3.8.6.2.2: advance by min(half the buffer, a segment) or not at all."""
    c = Peer()
    c.app_setsockopt(SOL_SOCKET, SO_RCVBUF, 10_000)  # doubled, and half of that is window
    with established(peer=c):
        assert c.tp.tcp_full_space() == 10_000
        windows = []
        at = 1
        for _ in range(40):
            c.inject("A", data(MSS), seq=at)
            at += MSS
            c.run(SEC)
            windows += [s.window for s in c.out]
            c.out.clear()
            if windows[-1] == 0:
                break
        assert windows[-1] == 0
        c.mark()
        assert len(c.app_recv(100)) == 100  # room for a few bytes more is nothing to speak of
        c.silent(until=SEC)
        assert len(c.app_recv()) > 0
        update = c.expect("A", seq=1)
        assert update.window >= MSS
        c.silent(until=2 * SEC)
        c.counted(TCPFromZeroWindowAdv=1)


def test_text_for_a_closed_window_is_refused_with_an_ack_and_a_bare_fin_is_not() -> None:
    """RFC 9293 3.10.7.4: with a zero window only empty segments are acceptable; a FIN needs no buffer (Linux 6.7)."""
    c = Peer()
    c.app_setsockopt(SOL_SOCKET, SO_RCVBUF, 6000)
    with established(peer=c):
        edge = fill(c)
        if c.tp.tcp_receive_window():
            c.inject("A", data(edge - taken(c)), seq=taken(c))
        c.out.clear()
        assert c.tp.tcp_receive_window() == 0
        at = taken(c)
        c.mark()
        c.inject("A", b"x", seq=at)
        c.expect("A", seq=1, ack=at, window=0)
        c.counted(Reason.TCP_INVALID_END_SEQUENCE, BeyondWindow=1, TCPToZeroWindowAdv=1)
        c.mark()
        c.inject("A", b"x", seq=at + 1)
        c.expect("A", seq=1, ack=at, window=0)
        c.counted(Reason.TCP_INVALID_SEQUENCE, BeyondWindow=1)
        c.inject("FA", seq=at)
        c.run(100 * MSEC)
        c.expect("A", seq=1, ack=at + 1)
        assert c.state is State.CLOSE_WAIT
        assert len(c.app_recv()) == at - 1
        assert c.app_recv() == b""
        c.out.clear()


def test_nothing_is_predicted_while_the_window_is_shut() -> None:
    """tcp_select_window ends header prediction with the last window: what is acknowledged then is a pure ACK."""
    c = Peer()
    c.app_setsockopt(SOL_SOCKET, SO_RCVBUF, 1500)
    with established(peer=c):
        c.inject("A", data(1460))
        c.expect("A", window=0)
        c.app_send(b"x")
        c.out.clear()
        c.mark()
        c.inject("A")
        c.counted(TCPPureAcks=1, TCPDelivered=1)


def test_a_fin_nobody_has_read_is_something_to_read() -> None:
    """What reaches beyond the window is taken only if nothing waits to be read, and a FIN alone does too."""
    with established() as c:
        c.inject("FA")
        c.run(100 * MSEC)
        c.out.clear()
        c.mark()
        huge = (c.tp.tcp_receive_window() // 1000 + 1) * 1000
        assert c.app_recv(1, MSG_PEEK) == b""
        c.inject("A", data(1000), seq=2 + huge - 1000)
        c.expect("A", ack=2)
        c.counted(Reason.TCP_INVALID_END_SEQUENCE, BeyondWindow=1)
        assert c.app_recv() == b""
        c.mark()
        c.inject("A", data(1000), seq=2 + huge - 1000)
        c.silent()
        c.counted()


def test_a_peers_window_probe_is_answered() -> None:
    """RFC 9293 3.8.6.1: an ACK "showing its next expected sequence number and current window" answers it."""
    with established() as c:
        c.inject("A", b"abc")
        c.expect("A", ack=4)
        c.run(SEC)
        c.mark()
        c.inject("A", seq=3)
        c.expect("A", seq=1, ack=4)
        c.silent(until=10 * SEC)
        c.counted(Reason.TCP_OLD_SEQUENCE)


@pytest.mark.parametrize(("clamp", "wanted"), [(3000, 3000), (100, 1152)])
def test_window_clamp_bounds_what_is_advertised(clamp: int, wanted: int) -> None:
    c = Peer()
    c.app_setsockopt(IPPROTO_TCP, TCP_WINDOW_CLAMP, clamp)
    with established(peer=c):
        c.inject("A", data(1000))
        s = c.expect("A", ack=1001)
        assert s.window <= wanted
        assert len(c.app_recv()) == 1000
        c.out.clear()


@pytest.mark.parametrize("wscale", [0, 3, 14])
def test_windows_are_scaled_both_ways(wscale: int) -> None:
    """RFC 7323 2.3: the field is shifted by what its sender's SYN said, in every segment but a SYN."""
    with established(wscale=wscale, window=40_000) as c:
        assert c.tp.snd_wscale == wscale
        assert c.tp.snd_wnd == (40_000 >> wscale) << wscale
        ours = int(c.tp.rcv_wscale)
        assert ours == 7  # the smallest that can say 6 MiB, tcp_rmem[2]
        c.inject("A", data(100), window=1 << 20)
        assert c.tp.snd_wnd == min((1 << 20) >> wscale, 65_535) << wscale
        s = c.expect("A", ack=101)
        assert s.window << ours >= WINDOW - 100
        assert s.window << ours == c.tp.rcv_wnd


def test_without_the_option_nothing_is_scaled() -> None:
    with established(window=40_000) as c:
        assert (c.tp.snd_wscale, c.tp.rcv_wscale, c.tp.snd_wnd) == (0, 0, 40_000)
        assert c.tp.window_clamp <= 65_535


# -- sending


def test_the_peers_window_is_never_overrun() -> None:
    with established(window=4000) as c:
        c.app_send(data(20_000))
        sent = 0
        while c.out:
            # half the largest window since the last PSH: it is time for another one (forced_push)
            s = c.expect("PA" if sent == MSS else "A", seq=1 + sent, data=data(min(MSS, 4000 - sent)))
            sent += len(s.data)
        assert sent <= 4000
        c.inject("A", ack=1 + sent, window=1500)
        # the end of a burst of several segments may be small where Nagle lets it (tcp_mss_split_point)
        c.expect("A", seq=1 + sent, data=data(MSS))
        c.expect("PA", seq=1 + sent + MSS, data=data(1500 - MSS))
        c.silent()
        c.tp.sock_nospace = False
        c.out.clear()


def test_small_openings_of_the_window_are_not_used() -> None:
    """RFC 9293 MUST-38, 3.8.6.2.1: send a full segment, or half the largest window ever seen, or wait."""
    with established(window=20_000) as c:
        c.app_send(data(14 * MSS))
        for _ in range(10):
            assert c.next_segment().data == data(MSS)
        c.inject("A", ack=1 + 10 * MSS, window=400)
        c.silent(until=100 * MSEC)
        c.inject("A", ack=1 + 10 * MSS, window=MSS - 1)
        c.silent(until=150 * MSEC)
        c.inject("A", ack=1 + 10 * MSS, window=MSS)
        assert c.next_segment().data == data(MSS)
        c.silent()


@pytest.mark.parametrize("window", [100, 536, 700, 1000])
def test_a_peer_whose_window_is_always_small_is_served_at_once(window: int) -> None:
    """RFC 9293 3.8.6.2.1 (2): "at least some fraction Fs of the maximum window size can be sent", Fs = 1/2."""
    with established(window=window) as c:
        sent = 0
        c.app_setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)
        c.app_send(data(3000))
        while sent < 3000:
            assert c.out, f"stuck at {sent}"
            while c.out:
                s = c.out.pop(0)
                assert len(s.data) <= window
                sent += len(s.data)
            c.inject("A", ack=1 + sent)
        assert c.now == c.zero


# -- the persist timer


def test_a_closed_window_is_probed_with_backoff_for_ever() -> None:
    """RFC 9293 MUST-36, SHLD-29, SHLD-30, MUST-37: first after an RTO, then at growing intervals, while it is ACKed."""
    with established(window=MSS) as c:
        c.app_send(data(3 * MSS))
        c.expect("A", seq=1, data=data(730))
        c.expect("PA", seq=731, data=data(730))
        c.inject("A", ack=1 + MSS, window=0)
        rto = int(c.tp.rto)
        assert rto == 200 * MSEC
        c.mark()
        at, delay = 0, rto
        for _ in range(20):
            at += delay
            c.expect("A", seq=MSS, ack=1, at=at)  # one before what was acknowledged: a byte the peer has
            c.inject("A", ack=1 + MSS, window=0)
            delay = min(2 * delay, 120 * SEC)
        assert c.state is State.ESTABLISHED
        c.counted(TCPWinProbe=20, TCPPureAcks=20)
        c.inject("A", ack=1 + MSS, window=10 * MSS)
        c.expect("A", seq=1 + MSS, data=data(MSS))  # the window is no longer one that halves the segments
        c.out.clear()


def test_nothing_is_left_of_the_probes_backoff_once_the_window_opens() -> None:
    """The RTO of what is sent then is the path's, not the long interval of the probes."""
    with established(window=MSS) as c:
        c.app_send(data(3 * MSS))
        c.out.clear()
        c.inject("A", ack=1 + MSS, window=0)
        for _ in range(6):
            c.next_segment(at=60 * SEC)
            c.inject("A", ack=1 + MSS, window=0)
        c.inject("A", ack=1 + MSS, window=730)
        c.expect("A", seq=1 + MSS, data=data(730))
        c.mark()
        c.expect("A", seq=1 + MSS, data=data(730), at=200 * MSEC)


def test_probes_that_nobody_answers_end_the_connection() -> None:
    """tcp_retries2: fifteen probes, ETIMEDOUT at the sixteenth."""
    with established(window=MSS) as c:
        c.app_send(data(3 * MSS))
        c.out.clear()
        c.inject("A", ack=1 + MSS, window=0)
        c.mark()
        at, delay = 0, 200 * MSEC
        for _ in range(15):
            at += delay
            c.expect("A", seq=MSS, at=at)
            delay = min(2 * delay, 120 * SEC)
        at += delay
        c.silent(until=at - 1)
        c.silent(until=at)
        assert c.app_error() == errno.ETIMEDOUT
        assert c.state is State.CLOSE
        c.counted(TCPWinProbe=15, TCPAbortOnTimeout=1, CurrEstab=-1, EstabResets=1)


def test_user_timeout_ends_probing_also_of_a_peer_that_answers() -> None:
    """RFC 5482, TCP_USER_TIMEOUT: the user's patience counts from the first probe."""
    with established(window=MSS) as c:
        c.app_setsockopt(IPPROTO_TCP, TCP_USER_TIMEOUT, 3000)
        c.app_send(data(3 * MSS))
        c.out.clear()
        c.inject("A", ack=1 + MSS, window=0)
        c.mark()
        for at in (200, 600, 1400, 3000):
            c.expect("A", seq=MSS, at=at * MSEC)
            c.inject("A", ack=1 + MSS, window=0)
        c.silent(until=10 * SEC)
        assert c.app_error() == errno.ETIMEDOUT


def test_an_orphan_is_not_parked_behind_a_closed_window() -> None:
    """Sockstress (CVE-2008-4609), Naptha: a peer that answers every probe cannot keep a connection nobody owns."""
    with established(window=MSS) as c:
        c.app_send(data(3 * MSS))
        c.out.clear()
        c.inject("A", ack=1 + MSS, window=0)
        c.app_close()
        for _ in range(200):
            c.run(10 * SEC)
            if c.state is State.CLOSE:
                break
            if c.out:
                c.out.clear()
                c.inject("A", ack=1 + MSS, window=0)
        assert c.state is State.CLOSE
        assert c.stack.tcp.tables.orphans == set()
        assert c.now - c.zero < 600 * SEC
        c.out.clear()


def test_a_small_opening_is_used_by_the_probe() -> None:
    """RFC 9293 3.8.6.2.1 (4): the override timeout: some of the data goes after all, with PSH."""
    with established(window=20_000) as c:
        c.app_send(data(14 * MSS))
        c.out.clear()
        c.inject("A", ack=1 + 10 * MSS, window=400)
        c.mark()
        c.silent(until=200 * MSEC - 1)
        c.expect("PA", seq=1 + 10 * MSS, data=data(400), at=200 * MSEC)
        c.inject("A", ack=401 + 10 * MSS, window=20_000)
        c.expect("A", seq=401 + 10 * MSS, data=data(MSS))
        c.out.clear()


def test_a_fin_takes_a_byte_of_the_window() -> None:
    with established(window=MSS) as c:
        c.app_send(data(MSS))
        c.out.clear()
        c.inject("A", ack=1 + MSS, window=0)
        c.mark()
        c.app_shutdown()
        c.silent(until=199 * MSEC)
        c.expect("A", seq=MSS, at=200 * MSEC)
        c.inject("A", ack=1 + MSS, window=100)
        c.expect("FA", seq=1 + MSS)


def test_an_old_segment_does_not_change_the_window() -> None:
    """RFC 9293 3.10.7.4: "SND.WL1 < SEG.SEQ or (SND.WL1 = SEG.SEQ and SND.WL2 =< SEG.ACK)"."""
    with established(window=20_000) as c:
        c.inject("A", b"abc")
        c.expect("A", ack=4)
        c.inject("A", seq=4, window=20_000)
        c.inject("A", seq=4, window=9000)
        assert c.tp.snd_wnd == 20_000  # smaller, and nothing new: as in Linux not believed until something is
        c.inject("A", seq=4, window=30_000)
        assert c.tp.snd_wnd == 30_000
        c.inject("A", b"d", window=30_000)
        c.expect("A", ack=5)
        c.inject("A", b"e", window=9000)
        c.expect("A", ack=6)
        assert c.tp.snd_wnd == 9000
        c.inject("A", b"d", seq=4, window=60_000)
        c.expect("A", ack=6)
        assert c.tp.snd_wnd == 9000
