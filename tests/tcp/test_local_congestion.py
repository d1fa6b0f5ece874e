"""A device's queue without room: what is lost there is known at once, and slows the sender down (NET_XMIT_DROP)."""

from __future__ import annotations

import errno

from tests.tcp.host import MSEC, SEC
from tests.tcp.peer import Peer, code_of, established
from ustack.drop import Reason
from ustack.inet.options import SO_KEEPALIVE, SOL_SOCKET
from ustack.tcp.control import TCP_CA_CWR, TCP_CA_OPEN
from ustack.tcp.options import IPPROTO_TCP, TCP_KEEPCNT, TCP_KEEPIDLE, TCP_KEEPINTVL, TCP_USER_TIMEOUT


def stuff(c: Peer) -> None:
    """The device takes nothing any more, and its queue has no room."""
    c.dev.tx_queue_len = 0
    c.dev.queue_stopped = True


def unblock(c: Peer) -> None:
    c.dev.tx_queue_len = 1000
    c.dev.queue_stopped = False


def test_what_cannot_leave_stays_in_the_write_queue_and_reduces_the_window() -> None:
    with established() as c:
        stuff(c)
        c.app_send(b"x" * 100)
        assert c.out == []
        assert c.drops.reasons == [Reason.QDISC_DROP]
        assert c.tp.packets_out == 0 and c.tp.ca_state == TCP_CA_CWR
        assert c.tp.snd_ssthresh == 5  # half of the initial window
        unblock(c)
        c.run(250 * MSEC)
        c.expect("PA", seq=1, data=b"x" * 100)
        c.inject("A")


def test_probes_lost_here_come_every_half_second_without_backing_off() -> None:
    """TCP_RESOURCE_PROBE_INTERVAL: senders fight for local resources conservatively."""
    with established() as c:
        stuff(c)
        sent = c.tp.segs_out
        c.app_send(b"x")
        c.run(2900 * MSEC)
        assert c.tp.backoff == 0
        assert c.tp.probes_out == 6
        assert c.tp.segs_out - sent == 7
        assert "TcpExt.TCPTimeouts" not in c.moved()


def test_the_users_timeout_ends_a_connection_that_cannot_leave() -> None:
    with established() as c:
        c.app_setsockopt(IPPROTO_TCP, TCP_USER_TIMEOUT, 3000)
        stuff(c)
        c.app_send(b"x")
        c.run(3150 * MSEC)
        assert c.sock.send(b"y") == 1
        c.run(500 * MSEC)
        assert code_of(lambda: c.sock.send(b"z")) == errno.ETIMEDOUT


def test_a_keepalive_probe_lost_here_does_not_count_against_the_peer() -> None:
    with established() as c:
        for name, value in ((TCP_KEEPIDLE, 1), (TCP_KEEPINTVL, 1), (TCP_KEEPCNT, 3)):
            c.app_setsockopt(IPPROTO_TCP, name, value)
        c.app_setsockopt(SOL_SOCKET, SO_KEEPALIVE, 1)
        stuff(c)
        c.run(20 * SEC)
        assert c.tp.probes_out == 0 and c.tp.ca_state != TCP_CA_OPEN
        unblock(c)
        c.run(500 * MSEC)
        c.expect("A", seq=0)


def test_a_retransmission_lost_here_is_tried_again_soon() -> None:
    with established() as c:
        c.app_send(b"x")
        c.expect("PA", seq=1, data=b"x")
        c.tp.rto = 4 * SEC
        stuff(c)
        c.run(30 * SEC)
        assert c.tp.backoff < 4
        unblock(c)
        c.run(SEC)
        c.expect("PA", seq=1, data=b"x")


def test_and_not_sooner_than_in_half_a_second_however_short_the_timeout() -> None:
    """TCP_RESOURCE_PROBE_INTERVAL: "conservatively" is no faster than the network would be asked."""
    with established() as c:
        c.app_send(b"x")
        c.expect("PA", seq=1, data=b"x")
        c.tp.rto = 200 * MSEC
        stuff(c)
        before = c.tp.total_rto
        c.run(3100 * MSEC)
        assert c.tp.total_rto - before <= 6
        unblock(c)
        c.run(SEC)
        c.out.clear()
