"""Text that goes out: segments, Nagle, corks, super-segments, and the send buffer (RFC 9293 section 3.10.2, 3.7.4)."""

from __future__ import annotations

import errno

import pytest

from tests.tcp.peer import M32, MSEC, PEER, PEER_PORT, SEC, SERVER_PORT, STACK, Peer, Segment, established
from ustack.device.e1000 import E1000_FEATURES, NO_OFFLOAD
from ustack.entropy import Entropy
from ustack.inet.options import SO_SNDBUF, SOL_SOCKET
from ustack.sock import MSG_MORE, POLLOUT
from ustack.tcp.delack import TICK
from ustack.tcp.options import IPPROTO_TCP, TCP_CORK, TCP_MAXSEG, TCP_NODELAY
from ustack.tcp.segment import SKB_OVERHEAD
from ustack.wire.ipv4 import str_to_addr
from ustack.wire.tcp import TCPHDR_FIN, TCPHDR_PSH

MSS = 1460


def stream(length: int, start: int = 0) -> bytes:
    return bytes((i * 7 + (i >> 8)) & 0xFF for i in range(start, start + length))


def books(c: Peer) -> None:
    """What is charged is what is queued; what is counted as in flight is what was sent."""
    queued = [*c.tp.writes(), *c.tp.in_flight()]
    assert c.tp.wmem_queued == sum(skb.len + SKB_OVERHEAD for skb in queued)
    assert c.tp.packets_out == sum(skb.pcount for skb in c.tp.in_flight())
    assert c.tp.lost_out == sum(skb.pcount for skb in c.tp.in_flight() if skb.sacked & 4)
    assert c.tp.retrans_out == sum(skb.pcount for skb in c.tp.in_flight() if skb.sacked & 2)


def take(c: Peer) -> tuple[bytes, list[Segment]]:
    """Everything sent so far, in order and without a gap."""
    sent, segments = b"", []
    while c.out:
        s = c.out.pop(0)
        segments.append(s)
        sent += s.data
    return sent, segments


# -- segments


def test_a_write_is_sent_at_once_with_psh() -> None:
    """RFC 9293 MUST-61: the sender "MUST set the PSH bit in the last buffered segment"."""
    with established() as c:
        c.app_send(b"muffin")
        c.expect("PA", seq=1, ack=1, data=b"muffin")
        books(c)
        c.inject("A", ack=7)
        books(c)
        assert c.tp.wmem_queued == 0 and c.timers_pending() == 0
        c.silent(until=10 * SEC)
        c.counted(TCPOrigDataSent=1, TCPDelivered=1, TCPHPAcks=1)


def test_a_long_write_is_cut_into_full_segments_and_the_last_carries_psh() -> None:
    with established() as c:
        c.app_send(stream(3 * MSS + 100))
        for number in range(3):
            c.expect("A", seq=1 + number * MSS, data=stream(MSS, number * MSS))
        c.expect("PA", seq=1 + 3 * MSS, data=stream(100, 3 * MSS))
        c.inject("A")


@pytest.mark.parametrize(("offered", "size"), [(None, 536), (536, 536), (1000, 1000), (9000, MSS), (88, 88), (10, 48)])
def test_the_peers_mss_is_obeyed(offered: int | None, size: int) -> None:
    """RFC 9293 MUST-15, MUST-16; CVE-2019-11479: but nothing below tcp_min_snd_mss."""
    with established(mss=offered) as c:
        c.app_send(stream(2 * size))
        c.expect("A", data=stream(size))
        c.expect("PA", data=stream(size, size))
        c.inject("A")


@pytest.mark.parametrize("timestamps", [False, True])
def test_options_are_taken_off_the_segment(timestamps: bool) -> None:
    """RFC 9293 3.7.1: "Eff.snd.MSS = min(SendMSS+20, MMS_S) - TCPhdrsize - IPoptionsize"."""
    with established(timestamps=timestamps) as c:
        c.app_send(stream(2 * MSS))
        s = c.next_segment()
        assert len(s.data) == MSS - 12 * timestamps
        c.out.clear()


def test_the_users_own_mss_bounds_both_directions() -> None:
    c = Peer()
    c.app_setsockopt(IPPROTO_TCP, TCP_MAXSEG, 500)
    c.app_listen()
    c.peer_syn()
    assert c.expect("SA").mss == 500
    c.inject("A")
    c.app_accept()
    c.app_send(stream(1000))
    c.expect("A", data=stream(500))
    c.expect("PA", data=stream(500, 500))
    c.check()


@pytest.mark.parametrize("edge", [0x8000_0000, 0])
def test_our_sequence_numbers_go_round(edge: int) -> None:
    """RFC 9293 3.4: our ISN a few segments before 2**31 and 2**32; sent, acknowledged in parts, retransmitted."""
    c = Peer()
    # the ISN is a hash and a clock that ticks every 64 ns: wait until it is where it is wanted
    ours = c.stack.tcp.tables.secure_tcp_seq(str_to_addr(STACK), str_to_addr(PEER), SERVER_PORT, PEER_PORT)
    c.run(((edge - 3000 - ours) & M32) << 6)
    with established(peer=c):
        assert (edge - c.irs) & M32 <= 3001
        got = b""
        c.app_send(stream(20 * MSS))
        while len(got) < 20 * MSS:
            sent, _ = take(c)
            got += sent
            c.inject("A", ack=1 + len(got) - 100)
            books(c)
            c.inject("A", ack=1 + len(got))
            books(c)
        assert got == stream(20 * MSS)
        c.app_send(b"again")
        c.expect("PA", data=b"again")
        c.expect("PA", data=b"again", at=c.now - c.zero + int(c.tp.rto))
        c.inject("A")
        assert c.tp.packets_out == 0


# -- Nagle and corks


def test_nagle_holds_a_small_segment_while_another_is_in_flight() -> None:
    """RFC 9293 SHLD-7; Minshall: only another *small* one counts."""
    with established() as c:
        c.app_send(b"a")
        c.expect("PA", data=b"a")
        c.app_send(b"b")
        c.app_send(b"c")
        c.silent(until=100 * MSEC)
        c.inject("A", ack=2)
        c.expect("PA", seq=2, data=b"bc")
        c.inject("A")
        c.counted(TCPOrigDataSent=2, TCPDelivered=2, TCPHPAcks=2)


def test_minshall_lets_a_tail_follow_full_segments() -> None:
    with established() as c:
        c.app_send(stream(2 * MSS))
        c.out.clear()
        c.app_send(b"tail")
        c.expect("PA", data=b"tail")
        c.app_send(b"second")
        c.silent()
        c.inject("A", ack=1 + 2 * MSS + 4)
        c.expect("PA", data=b"second")


@pytest.mark.parametrize("timestamps", [False, True])
def test_full_means_full_after_options(timestamps: bool) -> None:
    """A segment that the options fill is not small: Nagle does not hold it, nor what follows it."""
    with established(timestamps=timestamps) as c:
        full = MSS - 12 * timestamps
        c.app_send(b"x")
        c.expect("PA", data=b"x")
        c.app_send(stream(full - 1))
        c.silent()
        c.app_send(b"y")
        c.expect("PA", data=stream(full - 1) + b"y")
        c.inject("A")


def test_nodelay_sends_everything_and_what_has_waited() -> None:
    with established() as c:
        c.app_send(b"a")
        c.expect("PA", data=b"a")
        c.app_send(b"b")
        c.silent()
        c.app_setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)
        c.expect("PA", data=b"b")
        c.app_send(b"c")
        c.expect("PA", data=b"c")


def test_a_cork_holds_everything_but_full_segments_for_at_most_200_ms() -> None:
    """tcp(7): "If this option is set, don't send out partial frames [...] 200 millisecond ceiling"."""
    with established() as c:
        c.app_setsockopt(IPPROTO_TCP, TCP_CORK, 1)
        c.app_send(stream(MSS + 10))
        c.expect("A", data=stream(MSS))
        c.silent()
        c.inject("A", ack=1 + MSS)
        c.mark()
        c.silent(until=200 * MSEC - 1)
        c.expect("PA", seq=1 + MSS, data=stream(10, MSS), at=200 * MSEC)
        c.inject("A")
        c.app_send(b"abc")
        c.silent()
        c.app_setsockopt(IPPROTO_TCP, TCP_CORK, 0)
        c.expect("PA", data=b"abc")


def test_a_cork_is_stronger_than_nodelay() -> None:
    with established() as c:
        c.app_setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)
        c.app_setsockopt(IPPROTO_TCP, TCP_CORK, 1)
        c.app_send(b"abc")
        c.silent(until=100 * MSEC)
        c.app_setsockopt(IPPROTO_TCP, TCP_CORK, 0)
        c.expect("PA", data=b"abc")


def test_more_joins_writes_into_one_segment() -> None:
    """MSG_MORE: not pushed, not marked; the write without it sends all."""
    with established() as c:
        c.app_send(b"head", MSG_MORE)
        c.silent(until=50 * MSEC)
        c.app_send(b"body", MSG_MORE)
        c.silent(until=100 * MSEC)
        c.app_send(b"tail")
        c.expect("PA", seq=1, data=b"headbodytail")
        c.inject("A")
        c.app_send(stream(MSS + 1), MSG_MORE)
        c.expect("A", data=stream(MSS))  # no PSH: more is to come
        c.app_send(b"!")
        c.expect("PA", data=stream(1, MSS) + b"!")


def test_a_fin_is_not_held_by_nagle() -> None:
    with established() as c:
        c.app_send(b"a")
        c.expect("PA", data=b"a")
        c.app_send(b"b")
        c.silent()
        c.app_shutdown()
        c.expect("FPA", seq=2, data=b"b")


# -- super-segments


def test_a_super_segment_is_as_large_as_the_device_takes() -> None:
    """At most 64 KiB with its headers, a multiple of the MSS, half the peer's window; the device cuts it."""
    with established(features=E1000_FEATURES, wscale=7, window=1 << 22) as c:
        c.inject("A", window=1 << 22)
        c.tp.snd_cwnd = 200
        c.app_setsockopt(SOL_SOCKET, SO_SNDBUF, 1 << 20)
        c.app_send(stream(400_000))
        sent, segments = take(c)
        for s in segments[:-1]:
            assert s.gso_size == MSS and len(s.data) % MSS == 0 and len(s.frame) <= 65_536 + 14
        assert len(segments[0].data) == 44 * MSS
        assert sent == stream(400_000)[: len(sent)]
        assert len(sent) == 200 * MSS  # all of cwnd: no ACK is near that would let a larger one go
        books(c)
        assert c.moved()["TcpExt.TCPOrigDataSent"] == 200


def test_a_super_segment_is_bounded_by_cwnd_and_by_half_the_window() -> None:
    with established(features=E1000_FEATURES, window=30_000) as c:
        c.app_send(stream(60_000))
        sent, segments = take(c)
        assert len(sent) == 10 * MSS  # the initial window
        assert all(len(s.data) <= 15_000 for s in segments)


def test_psh_and_fin_of_a_super_segment_come_last() -> None:
    with established(features=E1000_FEATURES) as c:
        c.app_send(stream(5 * MSS))
        s = c.expect("PA", seq=1, data=stream(5 * MSS))
        assert s.gso_size == MSS
        c.inject("A")
        c.app_setsockopt(IPPROTO_TCP, TCP_CORK, 1)
        c.app_send(stream(1000))
        c.app_shutdown()
        s = c.expect("FPA", data=stream(1000))
        assert s.flags & TCPHDR_FIN and s.flags & TCPHDR_PSH and s.gso_size == 0


def test_a_super_segment_ends_with_psh_wherever_it_ends() -> None:
    """So that the receiver's offload hands it up at once (__tcp_transmit_skb); a single segment is left as it is."""
    with established(features=E1000_FEATURES) as c:
        c.tp.snd_cwnd = 4  # half of it in each burst
        c.app_send(stream(6 * MSS))
        for number in (0, 2):
            c.expect("PA", seq=1 + number * MSS, data=stream(2 * MSS, number * MSS))
        c.inject("A", ack=1 + 2 * MSS, window=3 * MSS)
        c.expect("A", seq=1 + 4 * MSS, data=stream(MSS, 4 * MSS))


def test_the_tail_of_a_super_segment_is_nagles() -> None:
    with established(features=E1000_FEATURES) as c:
        c.app_send(b"small")
        c.expect("PA", data=b"small")
        c.app_send(stream(3 * MSS + 10))
        c.expect("PA", seq=6, data=stream(3 * MSS))
        c.silent()
        c.inject("A", ack=6)
        c.expect("PA", seq=6 + 3 * MSS, data=stream(10, 3 * MSS))


@pytest.mark.parametrize("part", [1, 700, MSS, MSS + 1, 2 * MSS + 700, 5 * MSS - 1])
def test_part_of_a_super_segment_may_be_acknowledged(part: int) -> None:
    """tcp_tso_acked: what is acknowledged is let go, the rest is counted anew and can be sent again."""
    with established(features=E1000_FEATURES) as c:
        c.app_send(stream(5 * MSS))
        c.out.clear()
        c.inject("A", ack=1 + part)
        books(c)
        assert c.tp.packets_out == (5 * MSS - part + MSS - 1) // MSS
        c.mark()
        rto = int(c.tp.rto)
        first = min(MSS, 5 * MSS - part)
        s = c.next_segment(at=rto)
        assert s.time == c.zero + rto and s.data == stream(first, part)
        books(c)
        c.inject("A", ack=1 + 5 * MSS)
        assert c.tp.packets_out == 0 and c.tp.wmem_queued == 0


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("features", [E1000_FEATURES, NO_OFFLOAD], ids=["tso", "software-gso"])
def test_whatever_is_written_and_acknowledged_the_stream_is_whole_and_the_books_balance(
    seed: int, features: int
) -> None:
    """Random writes, partial ACKs, windows and silences; the peer reassembles what it sees."""
    random = Entropy(b"random tests %4d" % seed)
    with established(features=features, wscale=4, window=60_000) as c:
        written, got, acked = 0, bytearray(), 0
        total = 120_000
        for _ in range(1000):
            if written < total and random.below(3) == 0:
                size = min(1 + random.below(9000), total - written)
                try:
                    written += c.app_send(stream(size, written), MSG_MORE if random.below(4) == 0 else 0)
                except BlockingIOError:
                    pass
            for s in c.out:
                at = (s.seq - c.irs - 1) & M32
                if at <= len(got) < at + len(s.data) and random.below(10):
                    got += s.data[len(got) - at :]
            c.out.clear()
            acked += random.below(len(got) - acked + 1)
            c.inject("A", ack=1 + acked, window=random.below(60_000))
            books(c)
            if random.below(8) == 0:
                c.run(300 * MSEC)
            if acked == total:
                break
        assert bytes(got) == stream(len(got)) and len(got) > 20_000
        c.out.clear()


# -- the send buffer


def test_the_send_buffer_is_bounded_and_says_when_there_is_room() -> None:
    """EAGAIN when full; write_space once, when a quarter of it is free again (sk_stream_write_space)."""
    c = Peer()
    c.app_setsockopt(SOL_SOCKET, SO_SNDBUF, 20_000)
    with established(peer=c, window=65_535):
        limit = int(c.tp.sndbuf)
        taken = c.app_send(stream(200_000))
        assert limit <= c.tp.wmem_queued <= limit + 65_536
        assert taken < 200_000
        assert c.app_fails(lambda: c.sock.send(b"x")) == errno.EAGAIN
        assert not c.sock.poll() & POLLOUT
        assert "space" not in c.events.seen
        acked = 0
        while "space" not in c.events.seen:
            sent, _ = take(c)
            acked += len(sent)
            assert acked <= taken
            c.inject("A", ack=1 + acked)
        assert c.sock.poll() & POLLOUT
        assert c.tp.wmem_queued < limit - (limit >> 2)
        assert c.events.seen.count("space") == 1
        assert c.app_send(b"x") == 1
        c.out.clear()


def test_the_send_buffer_follows_the_congestion_window_up_to_its_limit() -> None:
    """tcp_sndbuf_expand: two windows of segments, at most tcp_wmem[2], once a writer waits."""
    c = Peer(wscale=7, window=1 << 22)
    c.net.sysctl.tcp_wmem_max = 100_000
    with established(peer=c):
        was = int(c.tp.sndbuf)
        done = 0
        for _ in range(30):
            try:
                c.app_send(stream(150_000))
            except BlockingIOError:
                pass
            sent, _ = take(c)
            done += len(sent)
            c.inject("A", ack=1 + done)
            assert c.tp.sndbuf <= 100_000
        assert was < c.tp.sndbuf == 100_000
        c.out.clear()


def test_half_closed_data_still_flows_the_other_way() -> None:
    """RFC 9293 3.6: "A TCP implementation MAY" half-close: the peer has finished, we have not."""
    with established() as c:
        c.inject("FA")
        c.expect("A", ack=2, at=TICK)
        c.app_send(stream(2000))
        c.expect("A", seq=1, ack=2, data=stream(MSS))
        c.expect("PA", seq=1 + MSS, ack=2, data=stream(2000 - MSS, MSS))
        c.inject("A", ack=2001)
        assert c.tp.wmem_queued == 0
        c.app_shutdown()
        c.expect("FA", seq=2001, ack=2)
        c.inject("A", ack=2002)


def test_after_our_fin_the_peers_data_is_still_read() -> None:
    with established() as c:
        c.app_shutdown()
        c.expect("FA", seq=1)
        assert c.app_fails(lambda: c.sock.send(b"x")) == errno.EPIPE
        c.inject("A", ack=2)
        c.inject("PA", b"late", ack=2)
        c.expect("A", seq=2, ack=5)
        assert c.app_recv() == b"late"


# -- the neighbour


class Asked(Peer):
    """Counts the ARP requests it answers."""

    asked = 0

    def _answer_arp(self, frame: bytes) -> bool:
        answered = super()._answer_arp(frame)
        self.asked += answered
        return answered


def test_forward_progress_confirms_the_neighbour() -> None:
    """RFC 1122 2.3.2.1 (3): "the transport layer" says that the next hop receives: no ARP while ACKs come."""
    c = Asked()
    with established(peer=c):
        c.app_send(b"x")
        c.expect("PA", data=b"x")
        asked = c.asked
        for _ in range(120):
            c.run(SEC)
            c.inject("A")
            c.app_send(b"x")
            c.expect("PA", data=b"x")
        assert c.asked == asked
        c.run(120 * SEC)  # nobody answers: the entry grows old, retransmissions ask
        c.out.clear()
        assert c.asked > asked
