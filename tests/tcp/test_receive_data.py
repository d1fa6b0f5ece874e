"""Text that comes in: order, overlap, the window, the buffer, and how the user gets it (RFC 9293 section 3.10.7.4)."""

from __future__ import annotations

import errno

import pytest

from tests.tcp.peer import M32, MSEC, PEER_ISS, SEC, Peer, established
from ustack.device.e1000 import E1000_FEATURES
from ustack.drop import Reason
from ustack.inet.options import SO_RCVBUF, SOL_SOCKET
from ustack.packet import CHECKSUM_UNNECESSARY, SKB_GSO_TCPV4
from ustack.sock import MSG_PEEK, MSG_TRUNC, TCP_CLOSE_WAIT
from ustack.tcp.delack import TICK
from ustack.tcp.receive import tcp_read_sock
from ustack.tcp.states import State

MSS = 1460
#: What the stack first advertises: as much of 64 KiB as is whole segments.
WINDOW = 64_240


def stream(length: int, start: int = 0) -> bytes:
    """Bytes [start, start + length) of a file whose every byte tells its place."""
    return bytes((i * 7 + (i >> 8)) & 0xFF for i in range(start, start + length))


def locked(size: int, peer: Peer | None = None) -> Peer:
    """Established with a receive buffer of ``size`` bytes (before Linux's doubling) that does not grow."""
    c = peer or Peer()
    c.app_setsockopt(SOL_SOCKET, SO_RCVBUF, size)
    return established(peer=c)


# -- in order


def test_text_in_order_is_delivered_and_acknowledged() -> None:
    """RFC 9293, seventh step: "it is possible to deliver segment data to user RECEIVE buffers"."""
    with established() as c:
        c.inject("PA", b"muffin")
        c.expect("A", seq=1, ack=7)
        assert c.events.seen == ["data"]
        assert c.app_recv() == b"muffin"
        c.silent(until=SEC)
        c.counted(TCPHPHits=1)


def test_a_segment_with_more_than_the_prediction_covers_takes_the_slow_path() -> None:
    """An urgent pointer or an unknown option: the same result, step by step."""
    with established() as c:
        c.tp.oobinline = True
        c.inject("PA", b"abc", options=b"\x1e\x04\0\0")
        c.expect("A", seq=1, ack=4)
        c.inject("PAU", b"def", urg=3)
        c.expect("A", seq=1, ack=7)
        assert c.app_recv() == b"abcde"  # up to the mark, and no further at once
        assert c.app_recv() == b"f"
        c.counted(TCPRcvCoalesce=1)


def test_what_has_been_received_is_acknowledged_at_once_and_dropped() -> None:
    """RFC 9293, first step: an unacceptable segment is answered with an ACK; Linux: DelayedACKLost, quick ACKs."""
    with established() as c:
        c.inject("A", b"abc")
        c.expect("A", ack=4)
        c.mark()
        for _ in range(3):
            c.inject("A", b"abc", seq=1)
            c.expect("A", seq=1, ack=4)
        c.counted(*[Reason.TCP_OLD_DATA] * 3, DelayedACKLost=3)
        assert c.app_recv() == b"abc"


def test_old_text_below_the_window_is_answered_every_time_but_an_empty_segment_is_not() -> None:
    """tcp_oow_rate_limited: only what cannot be part of an ACK loop is answered without limit."""
    with established() as c:
        c.inject("A", stream(100))
        c.expect("A", ack=101)
        c.run(SEC)
        c.mark()
        for _ in range(3):
            c.inject("A", b"x", seq=1)
            c.expect("A", seq=1, ack=101)
        c.inject("A", seq=50)
        c.expect("A", seq=1, ack=101)
        for _ in range(3):
            c.inject("A", seq=50)
            c.silent()
        c.counted(*[Reason.TCP_OLD_SEQUENCE] * 7, DelayedACKLost=3, TCPACKSkippedSeq=3)


def test_a_segment_that_begins_with_known_bytes_adds_the_rest() -> None:
    with established() as c:
        c.inject("A", b"abcd")
        c.expect("A", ack=5)
        c.inject("A", b"bcdefg", seq=2)
        c.expect("A", ack=8)
        assert c.app_recv() == b"abcdefg"
        c.counted(TCPHPHits=1, TCPRcvCoalesce=1)


# -- out of order


def test_text_beyond_a_hole_is_kept_and_each_piece_answered_with_a_duplicate_ack() -> None:
    """RFC 5681 4.2: "A TCP receiver SHOULD send an immediate duplicate ACK when an out-of-order segment arrives"."""
    with established() as c:
        for number in (1, 2, 3):
            c.inject("A", stream(10, number * 10), seq=1 + number * 10)
            c.expect("A", seq=1, ack=1)
        assert c.events.seen == []
        assert c.app_fails(lambda: c.sock.recv(1)) == errno.EAGAIN
        c.counted(TCPOFOQueue=3, TCPRcvCoalesce=2)
        c.mark()
        c.inject("A", stream(10), seq=1)
        # RFC 5681 4.2: an immediate ACK for a segment that "fills in all or part of a gap in the sequence space"
        c.expect("A", seq=1, ack=41)
        assert c.app_recv() == stream(40)
        assert c.tp.ofo is None and c.tp.rmem_alloc == 0
        c.counted(TCPRcvCoalesce=1)


def test_the_hole_may_be_filled_piece_by_piece() -> None:
    with established() as c:
        c.inject("A", stream(10, 10), seq=11)
        c.inject("A", stream(10, 30), seq=31)
        c.expect("A", ack=1)
        c.expect("A", ack=1)
        c.inject("A", stream(10), seq=1)
        c.expect("A", ack=21)
        c.inject("A", stream(10, 20), seq=21)
        c.expect("A", ack=41)
        assert c.app_recv() == stream(40)


def test_overlapping_pieces_never_deliver_a_byte_twice() -> None:
    """Ptacek and Newsham: of two that overlap the one that begins first stands, as in Linux, whichever came first."""
    with established() as c:
        c.inject("A", b"BBBB", seq=5)
        c.inject("A", b"xxCCxx", seq=7)
        c.inject("A", b"AAxx", seq=3)
        for _ in range(3):
            c.expect("A", ack=1)
        c.inject("A", b"..", seq=1)
        c.expect("A", ack=13)
        assert c.app_recv() == b"..AAxxBBCCxx"
        c.counted(TCPOFOQueue=3, TCPRcvCoalesce=3)


def test_a_piece_known_already_and_one_that_covers_others_are_counted_as_merged() -> None:
    with established() as c:
        c.inject("A", stream(10, 20), seq=21)
        c.inject("A", stream(10, 40), seq=41)
        c.expect("A", ack=1)
        c.expect("A", ack=1)
        c.mark()
        c.inject("A", stream(5, 22), seq=23)
        c.expect("A", ack=1)
        c.counted(Reason.TCP_OFOMERGE, TCPOFOQueue=1, TCPOFOMerge=1)
        c.mark()
        c.inject("A", stream(50, 10), seq=11)
        c.expect("A", ack=1)
        c.counted(TCPOFOQueue=1, TCPOFOMerge=2)
        c.inject("A", stream(10), seq=1)
        c.expect("A", ack=61)
        assert c.app_recv() == stream(60)


def test_a_fin_out_of_order_waits_for_its_turn() -> None:
    """RFC 9293, eighth step, only when "all text up to the FIN" is there."""
    with established() as c:
        c.inject("FA", b"def", seq=4)
        c.expect("A", ack=1)
        assert c.state is State.ESTABLISHED and c.events.seen == []
        c.inject("A", b"abc", seq=1)
        c.expect("A", ack=8)
        assert c.tp.state == TCP_CLOSE_WAIT
        assert c.app_recv() == b"abcdef"
        assert c.app_recv() == b""
        assert c.tp.rmem_alloc == 0 and c.tp.ofo is None


def test_text_beyond_the_peers_own_fin_is_nobodys() -> None:
    with established() as c:
        c.inject("FA", b"b", seq=2)
        c.inject("A", b"beyond", seq=4)
        c.expect("A", ack=1)
        c.expect("A", ack=1)
        c.inject("A", b"a", seq=1)
        c.expect("A", ack=4)
        assert c.app_recv() == b"ab" and c.app_recv() == b""
        assert c.tp.rmem_alloc == 0 and c.tp.ofo is None


def test_a_retransmitted_fin_is_acknowledged_again() -> None:
    """RFC 9293, eighth step, CLOSE-WAIT: "Remain in the CLOSE-WAIT state"; but our ACK may have been lost."""
    with established() as c:
        c.inject("FA")
        c.expect("A", seq=1, ack=2, at=TICK)
        c.mark()
        c.inject("FA", seq=1)
        c.expect("A", seq=1, ack=2)
        assert c.tp.state == TCP_CLOSE_WAIT
        c.counted(Reason.TCP_OLD_DATA, DelayedACKLost=1)


@pytest.mark.parametrize("iss", [0x7FFF_FFFF - 2000, M32 - 2000, 0xFFFF_FFFE, 0x7FFF_FFFE])
def test_sequence_numbers_go_round(iss: int) -> None:
    """RFC 9293 3.4: arithmetic modulo 2**32; in order, out of order and duplicates across the edge."""
    with established(iss=iss) as c:
        read = b""
        for at in range(0, 4000, 400):
            c.inject("A", stream(200, at + 200), seq=1 + at + 200)
            c.expect("A", ack=1 + at)
            c.inject("A", stream(200, at), seq=1 + at)
            c.expect("A", ack=1 + at + 400)
            c.inject("A", stream(100, at + 50), seq=1 + at + 50)
            c.expect("A", ack=1 + at + 400)
            read += c.app_recv()
        assert read == stream(4000)


# -- merged segments (GRO)


class Merging(Peer):
    """A peer behind a device that merges segments: ``merge`` is the size they had on the wire, 0 for one by one."""

    merge = 0

    def _frame(self, frame: bytes) -> None:
        if not self.merge:
            super()._frame(frame)
            return
        assert self.nic.receive_frame(frame, CHECKSUM_UNNECESSARY, 0, 0, self.merge, SKB_GSO_TCPV4)
        self.nic.rx_interrupt()


def test_a_merged_segment_is_taken_whole_and_answered_once() -> None:
    c = Merging(features=E1000_FEATURES)
    with established(peer=c):
        c.merge = MSS
        c.inject("PA", stream(40 * MSS))
        c.expect("A", seq=1, ack=1 + 40 * MSS)
        assert c.app_recv() == stream(40 * MSS)
        c.counted(TCPHPHits=1)
        assert c.tp.rcv_mss == MSS


def test_the_peers_segment_size_is_that_of_what_was_merged() -> None:
    """tcp_measure_rcv_mss takes gso_size: every second full segment is acknowledged, however small a full one is."""
    c = Merging(features=E1000_FEATURES, mss=600)
    with established(peer=c):
        c.merge = 600
        c.inject("A", stream(6000))
        c.expect("A", ack=6001)
        assert c.tp.rcv_mss == 600


# -- to the user


def test_peek_leaves_the_bytes_where_they_are() -> None:
    with established() as c:
        c.inject("A", b"abc")
        c.inject("A", b"def")
        c.expect("A", ack=4)
        c.expect("A", ack=7)
        assert c.app_recv(4, MSG_PEEK) == b"abcd"
        assert c.app_recv(100, MSG_PEEK) == b"abcdef"
        assert c.app_recv(2) == b"ab"
        assert c.app_recv(3, MSG_PEEK) == b"cde"
        assert c.app_recv() == b"cdef"
        assert c.app_fails(lambda: c.sock.recv(1, MSG_PEEK)) == errno.EAGAIN


def test_trunc_throws_the_bytes_away_and_says_how_many() -> None:
    with established() as c:
        c.inject("A", stream(100))
        c.expect("A", ack=101)
        assert len(c.app_recv(60, MSG_TRUNC)) == 60
        assert c.app_recv() == stream(40, 60)


def test_tcp_read_sock_gives_the_pieces_as_they_came_without_copying() -> None:
    with established() as c:
        c.inject("A", stream(1000))
        c.inject("A", stream(1000, 1000))
        c.expect("A", ack=1001)
        c.expect("A", ack=2001)
        pieces = tcp_read_sock(c.tp, 1500)
        assert [len(piece) for piece in pieces] == [1000, 500]
        assert b"".join(pieces) == stream(1500)
        # a segment was cut out of its frame when it came; what a read leaves of it is a view of the same bytes
        (rest,) = tcp_read_sock(c.tp, 1500)
        assert isinstance(pieces[1], memoryview) and isinstance(rest, memoryview) and rest.obj is pieces[1].obj
        assert bytes(rest) == stream(500, 1500)
        assert tcp_read_sock(c.tp, 1500) == []
        assert c.tp.rmem_alloc == 0


def test_a_read_of_nothing_takes_nothing() -> None:
    with established() as c:
        c.inject("A", b"abc")
        c.expect("A", ack=4)
        assert tcp_read_sock(c.tp, 0) == []
        assert c.app_recv() == b"abc"


# -- memory


def test_a_flood_of_single_bytes_is_bounded_by_what_they_cost() -> None:
    """CVE class 81: a byte costs its segment too, so small ones are joined (tcp_try_coalesce). The window closes before
    the buffer is full, and opens when the user has read."""
    with locked(2048) as c:
        sent = 0
        for at in range(10_000):
            c.inject("A", stream(1, at), seq=1 + at)
            sent = at + 1
            if c.drops.reasons:
                break
        c.out.clear()
        assert sent < 5000
        assert c.tp.rmem_alloc <= c.tp.rcvbuf + 512
        kept = int(c.tp.rcv_nxt - PEER_ISS - 1) & M32
        assert c.moved()["TcpExt.TCPRcvCoalesce"] == kept - 1
        assert c.app_recv() == stream(kept)
        assert c.tp.rmem_alloc == 0
        c.out.clear()
        c.inject("A", stream(1, kept), seq=1 + kept)
        assert c.app_recv() == stream(1, kept)
        c.out.clear()


def test_segments_too_large_to_be_joined_at_once_are_joined_when_the_buffer_is_full() -> None:
    """tcp_collapse: nothing is dropped for what segments cost beside their bytes while joining them helps."""
    with locked(20_000) as c:
        c.inject("A", stream(MSS), seq=1)  # a large one: the window is then sized for such
        at = MSS
        while "TcpExt.PruneCalled" not in c.moved():
            c.inject("A", stream(600, at), seq=1 + at)
            at += 600
            assert c.drops.reasons == []
        moved = c.moved()
        assert moved["TcpExt.TCPRcvCollapsed"] > 20 and "TcpExt.RcvPruned" not in moved
        queue = c.tp.receive_queue
        assert queue is not None and c.tp.rmem_alloc == sum(segment.truesize for segment in queue)
        assert c.tp.rmem_alloc <= c.tp.rcvbuf + 1000
        c.out.clear()
        assert c.app_recv() == stream(at)
        c.out.clear()


def test_text_beyond_the_window_is_refused_while_something_is_to_be_read() -> None:
    """tcp_sequence of Linux 6.17: only who has nothing to read takes more than was offered. BeyondWindow."""
    with locked(4096) as c:
        c.inject("A", stream(1000), seq=1)
        c.out.clear()
        c.mark()
        room = int(c.tp.tcp_receive_window())
        c.inject("A", stream(1400, 1000 + room - 1000), seq=1 + room)
        s = c.next_segment()
        assert (s.ack - c.iss) & M32 == 1001
        assert c.drops.reasons == [Reason.TCP_INVALID_END_SEQUENCE]
        assert c.moved()["TcpExt.BeyondWindow"] == 1
        c.out.clear()
        assert c.app_recv() == stream(1000)
        c.out.clear()


def wanted_zero(c: Peer) -> dict[str, int]:
    """Whether this ACK would have liked to close the window; when it does is the window tests' affair."""
    return {"TCPWantZeroWindowAdv": c.moved().get("TcpExt.TCPWantZeroWindowAdv", 0)}


def test_segment_smack_is_bounded_in_memory_and_keeps_what_is_nearest() -> None:
    """CVE-2018-5390: tiny segments in hostile order. What lies furthest ahead goes first, nothing else is lost."""
    with locked(32_768) as c:
        for at in range(8000, 0, -4):
            c.inject("A", stream(2, at), seq=1 + at)
        c.out.clear()
        queue = c.tp.ofo
        assert queue is not None
        assert c.tp.rmem_alloc == queue.memory <= c.tp.rcvbuf + 512
        moved = c.moved()
        assert moved["TcpExt.OfoPruned"] > 0
        # nearest the hole, without a gap: the furthest were given up
        starts = [(int(s.seq) - c.iss - 1) & M32 for s in queue.segments]
        assert starts == list(range(4, 4 + 4 * len(starts), 4))
        # an eighth of the buffer goes at a time: what comes next has room, and does not cost another pruning
        c.mark()
        c.inject("A", stream(2, 9000), seq=9001)
        c.expect("A", ack=1)
        c.counted(TCPOFOQueue=1, **wanted_zero(c))


def test_what_comes_further_ahead_than_all_that_is_kept_is_not_kept() -> None:
    with locked(8192) as c:
        at = 10
        while c.tp.rmem_alloc <= c.tp.rcvbuf:
            c.inject("A", stream(2, at), seq=1 + at)
            at += 4
        c.out.clear()
        c.mark()
        c.inject("A", stream(2, at), seq=1 + at)
        c.silent()
        c.counted(Reason.TCP_OFO_DROP, PruneCalled=1, RcvPruned=1, TCPOFODrop=1)


def test_filling_the_hole_costs_one_pass_over_what_waited() -> None:
    with established() as c:
        for at in range(2, 402, 2):
            c.inject("A", stream(1, at), seq=1 + at)
        c.out.clear()
        c.mark()
        c.inject("A", stream(402), seq=1)
        c.expect("A", ack=403)
        assert c.app_recv() == stream(402)
        assert c.tp.ofo is None and c.tp.rmem_alloc == 0
        c.counted()


def test_in_order_text_makes_room_by_giving_up_what_came_early() -> None:
    """tcp_prune_ofo_queue: what is in order is worth more."""
    with locked(8192) as c:
        c.inject("A", stream(1), seq=1)
        while c.tp.rmem_alloc <= c.tp.rcvbuf:
            at = 10 + 2 * len(c.out)
            c.inject("A", stream(1, at), seq=1 + at)
        c.out.clear()
        c.mark()
        c.inject("A", stream(1, 1), seq=2)
        c.out.clear()
        assert c.app_recv() == stream(2)
        moved = c.moved()
        assert (moved["TcpExt.PruneCalled"], moved["TcpExt.OfoPruned"]) == (1, 1)
        assert c.drops.reasons == []
        c.out.clear()


def test_the_receive_buffer_grows_with_the_reader_up_to_its_limit() -> None:
    """tcp_rcv_space_adjust: twice what one round trip brings, at most tcp_rmem[2]."""
    c = Peer(wscale=7)
    c.net.sysctl.tcp_rmem_max = 400_000
    with established(peer=c):
        assert c.tp.rcvbuf == 131_072
        sizes = []
        for burst in range(12):
            c.run(MSEC)
            for _ in range(min(10 << burst, int(c.tp.tcp_receive_window()) // MSS)):
                c.inject("A", stream(MSS))
            c.app_recv()
            sizes.append(int(c.tp.rcvbuf))
        c.out.clear()
        assert sizes == sorted(sizes) and sizes[-1] == 400_000


def test_a_receive_buffer_that_the_user_has_set_stays() -> None:
    with locked(50_000) as c:
        size = c.tp.rcvbuf
        for _ in range(12):
            c.run(10 * MSEC)
            for _ in range(10):
                c.inject("A", stream(MSS))
            c.app_recv()
        c.out.clear()
        assert c.tp.rcvbuf == size


def test_a_segment_that_would_end_beyond_the_buffer_is_not_kept() -> None:
    """tcp_can_ingest: its text has to fit, if there is anything else to read."""
    with established() as c:
        c.app_setsockopt(SOL_SOCKET, SO_RCVBUF, 3000)
        for at in range(3):
            c.inject("A", bytes(1460), seq=1 + at * 1460)
        c.out.clear()
        assert c.tp.rmem_alloc <= c.tp.rcvbuf == 6000
        c.mark()
        c.inject("A", bytes(1460), seq=1 + 3 * 1460)
        c.out.clear()
        assert c.drops.reasons == [Reason.PROTO_MEM] and c.tp.rcvbuf == 6000
        assert c.moved()["TcpExt.RcvPruned"] == 1
        assert len(c.app_recv()) == 3 * 1460
        c.out.clear()


def test_text_with_another_window_is_not_predicted_its_ack_comes_first() -> None:
    """tcp_rcv_established: pred_flags holds the window; on the slow path tcp_ack sends again what it finds lost before
    the text is looked at."""
    with established(mss=1000) as c:
        c.app_send(bytes(5000))
        c.out.clear()
        c.expect("A", seq=1, data=bytes(1000), at=200 * MSEC)  # the timer: all is lost
        c.inject("PA", b"text", ack=1001, window=60_000)
        c.expect("A", seq=1001, ack=1, data=bytes(1000))
        c.expect("PA", seq=2001, ack=1, data=bytes(1000))
        c.expect("A", seq=5001, ack=5)
        c.inject("A")


def test_an_old_ack_is_predicted_and_its_timestamp_taken() -> None:
    """tcp_rcv_established looks for ACKs of what was never sent, not for old ones; with another window it is slow."""
    for window, taken in ((65_535, True), (60_000, False)):
        with established(timestamps=True) as c:
            c.app_send(b"data")
            c.expect("PA", seq=1, data=b"data")
            c.inject("A")
            c.run(50 * MSEC)
            before, newest = int(c.tp.ts_recent), c.tsval()
            c.inject("A", ack=1, window=window)
            assert c.tp.ts_recent == (newest if taken else before)
            assert "TcpExt.TCPPureAcks" not in c.moved()
