"""The scoreboard: what the peer says it has beyond the cumulative ACK (RFC 2018, RFC 6675; tcp_sacktag_write_queue).

Each ACK repeats blocks of earlier ones. What the last ACK reported is skipped, the rest is found by bisection, and
neighbours that are sacked become one skb: an ACK costs what it tells of new, however long the queue is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mypy_extensions import i64

from ustack.tcp.ack_state import FLAG_DATA_SACKED, FLAG_ORIG_SACK_ACKED, AckState
from ustack.tcp.control import TCP_CA_LOSS, TcpControl
from ustack.tcp.dsack import tcp_check_dsack, tcp_is_sackblock_valid
from ustack.tcp.fragment import tcp_fragment_rtx, tcp_skb_join
from ustack.tcp.rack import tcp_rack_advance
from ustack.tcp.rate import tcp_rate_skb_delivered
from ustack.tcp.reordering import tcp_check_sack_reordering
from ustack.tcp.scoreboard import tcp_advance_highest_sack, tcp_highest_sack_seq
from ustack.tcp.segment import (
    TCPCB_LOST,
    TCPCB_RETRANS,
    TCPCB_SACKED_ACKED,
    TCPCB_SACKED_RETRANS,
    TCPCB_TAGBITS,
    TcpSkb,
)
from ustack.tcp.seq import after, before, distance
from ustack.wire.tcp import TCPHDR_SYN

if TYPE_CHECKING:
    from ustack.tcp.rtx_queue import RtxQueue

#: Sacked neighbours are joined up to so many bytes, and pieces: each join copies the list of them.
MERGE_BYTES: Final[i64] = 65_535 * 8
MERGE_PIECES: Final = 512

Block = tuple[int, int]


def tcp_sacktag_write_queue(tp: TcpControl, blocks: list[Block], ack_seq: i64, una: i64, state: AckState) -> None:
    """Mark what ``blocks``, of an ACK for ``ack_seq``, report; ``una`` is SND.UNA before it. Fills ``state``."""
    state.reord = tp.snd_nxt
    if tp.sacked_out == 0:
        tp.highest_sack = tp.rtx_head()
    found_dup = tcp_check_dsack(tp, blocks, ack_seq, una, state)
    if before(ack_seq, (una - tp.max_window) & 0xFFFF_FFFF) or tp.packets_out == 0:
        return
    used: list[Block] = []
    dup_at: i64 = -1  # the place of the duplicate block
    for index, block in enumerate(blocks):
        if usable(tp, block, found_dup and index == 0, ack_seq, una):
            if found_dup and index == 0:
                dup_at = 0
            elif dup_at >= 0 and before(block[0], blocks[0][0]):
                dup_at += 1
            used.append(block)
    in_order(used)
    state.position = tp.in_flight()[0].seq
    cache = tp.recv_sack_cache if tp.sacked_out else []
    for index, block in enumerate(used):
        next_dup = used[index + 1] if index + 1 == dup_at else None
        tag_block(tp, state, block, index == dup_at, next_dup, cache)
    tp.recv_sack_cache = used
    if tp.ca_state != TCP_CA_LOSS or tp.undo_marker:
        tcp_check_sack_reordering(tp, state.reord, False)


def usable(tp: TcpControl, block: Block, is_dup: bool, ack_seq: i64, una: i64) -> bool:
    """True if ``block`` can be of something in flight; what is refused is counted."""
    start, end = block
    if tcp_is_sackblock_valid(tp, is_dup, start, end):
        return after(end, una)
    mib = tp.net.mib.tcpext
    if is_dup:
        if tp.undo_marker:
            mib.TCPDSACKIgnoredOld += 1
        else:
            mib.TCPDSACKIgnoredNoUndo += 1
    elif ack_seq == tp.snd_una or after(end, tp.snd_una):
        mib.TCPSACKDiscard += 1  # others are old: ACKs were reordered
    return False


def in_order(blocks: list[Block]) -> None:
    """Sort the few blocks by where they begin; equal ones stay as they are."""
    for last in range(len(blocks) - 1, 0, -1):
        for index in range(last):
            if after(blocks[index][0], blocks[index + 1][0]):
                blocks[index], blocks[index + 1] = blocks[index + 1], blocks[index]


def tag_block(
    tp: TcpControl, state: AckState, block: Block, is_dup: bool, next_dup: Block | None, cache: list[Block]
) -> None:
    """Walk what of ``block`` the last ACK did not report; of a duplicate one all."""
    start: i64 = block[0]
    end: i64 = block[1]
    done = start
    if not is_dup:
        for cached_start, cached_end in cache:
            if not before(done, cached_end):
                continue
            if not after(end, cached_start):
                break
            if before(done, cached_start):
                tcp_sacktag_walk(tp, state, start, cached_start, False, next_dup)
            if not after(end, cached_end):
                return
            if next_dup is not None and before(next_dup[0], cached_end):
                tcp_sacktag_walk(tp, state, next_dup[0], next_dup[1], True, None)
            done = cached_end
            if after(done, state.position):
                state.position = done
    highest = tcp_highest_sack_seq(tp)
    if not before(start, highest):
        state.position = highest  # the block before this one may overlap it, and have been walked further
    tcp_sacktag_walk(tp, state, start, end, is_dup, next_dup)


def tcp_sacktag_walk(
    tp: TcpControl, state: AckState, start: i64, end: i64, is_dup: bool, next_dup: Block | None
) -> None:
    """Mark the skbs in [start, end); never those before ``state.position`` again. ``next_dup``: a duplicate inside."""
    queue = tp.in_flight()
    index = queue.search(state.position if after(state.position, start) else start)
    first = index
    tagged = False
    while index < len(queue):
        skb = queue.at(index)
        if not before(skb.seq, end):
            break
        in_sack: i64 = 0
        dup = is_dup
        if next_dup is not None and before(skb.seq, next_dup[1]):
            in_sack = tcp_match_skb_to_sack(tp, skb, next_dup[0], next_dup[1])
            dup = dup or in_sack > 0
        if in_sack <= 0:
            in_sack = tcp_match_skb_to_sack(tp, skb, start, end)
        if in_sack < 0:
            break
        if in_sack:
            tcp_sacktag_skb(tp, state, queue, skb, dup)
            tagged = True
        index += 1
    state.position = queue.at(index).seq if index < len(queue) else tp.snd_nxt
    if tagged:
        merge_sacked(tp, queue, first, index)


def tcp_match_skb_to_sack(tp: TcpControl, skb: TcpSkb, start: i64, end: i64) -> i64:
    """1 if all of ``skb`` is in the block, 0 if not, -1 to go no further. A super-segment is cut where the block ends.

    Only at multiples of its MSS: "SACKs cover only full MSSes and/or the remaining small portion", or counting in
    packets would drift (CVE-2019-11477).
    """
    from_start = not after(start, skb.seq)
    if from_start and not before(end, skb.end_seq):
        return 1
    if skb.pcount <= 1 or not after(skb.end_seq, start):
        return 0
    mss = skb.mss
    if not from_start:
        length = max(distance(skb.seq, start), mss)
    else:
        length = distance(skb.seq, end)
        if length < mss:
            return -1
    if length > mss:
        whole = length // mss * mss
        length = whole + mss if not from_start and whole < length else whole
    if length >= skb.len and not from_start:
        return 0
    if tcp_fragment_rtx(tp, skb, min(length, skb.len), mss) is None:
        return -1
    return 1 if from_start else 0


def tcp_sacktag_skb(tp: TcpControl, state: AckState, queue: RtxQueue, skb: TcpSkb, dup_sack: bool) -> None:
    """All of ``skb`` is in a block."""
    skb.sacked = tcp_sacktag_one(tp, state, skb, dup_sack)
    tcp_rate_skb_delivered(tp, skb, state.rate)
    if skb.sacked & TCPCB_SACKED_ACKED:
        queue.tsorted_unlink(skb)
    if not before(skb.seq, tcp_highest_sack_seq(tp)):
        tcp_advance_highest_sack(tp, skb)


def tcp_sacktag_one(tp: TcpControl, state: AckState, skb: TcpSkb, dup_sack: bool) -> i64:
    """What the marks of ``skb`` become; the counts follow."""
    sacked = skb.sacked
    pcount = skb.pcount
    if dup_sack and sacked & TCPCB_RETRANS:
        if tp.undo_marker and tp.undo_retrans > 0 and after(skb.end_seq, tp.undo_marker):
            tp.undo_retrans = max(tp.undo_retrans - pcount, 0)
        if sacked & TCPCB_SACKED_ACKED and before(skb.seq, state.reord):
            state.reord = skb.seq
    if not after(skb.end_seq, tp.snd_una):
        return sacked  # about to leave the queue
    if not sacked & TCPCB_SACKED_ACKED:
        tcp_rack_advance(tp, skb)
        sacked = newly_sacked(tp, state, skb)
    if dup_sack and sacked & TCPCB_SACKED_RETRANS:
        sacked &= ~TCPCB_SACKED_RETRANS
        tp.retrans_out -= pcount
    return sacked


def newly_sacked(tp: TcpControl, state: AckState, skb: TcpSkb) -> i64:
    """``skb`` was not sacked before: its new marks. One sent once below the highest sacked tells of reordering."""
    sacked = skb.sacked
    pcount = skb.pcount
    if sacked & TCPCB_SACKED_RETRANS:
        # one not taken for lost keeps its mark: its retransmission is still under way
        if sacked & TCPCB_LOST:
            sacked &= ~(TCPCB_LOST | TCPCB_SACKED_RETRANS)
            tp.lost_out -= pcount
            tp.retrans_out -= pcount
    else:
        if not sacked & TCPCB_RETRANS:
            if before(skb.seq, tcp_highest_sack_seq(tp)) and before(skb.seq, state.reord):
                state.reord = skb.seq
            if not after(skb.end_seq, tp.high_seq):
                state.flag |= FLAG_ORIG_SACK_ACKED
            if state.first_sackt < 0:
                state.first_sackt = skb.sent_at
            state.last_sackt = skb.sent_at
        if sacked & TCPCB_LOST:
            sacked &= ~TCPCB_LOST
            tp.lost_out -= pcount
    state.flag |= FLAG_DATA_SACKED
    tp.sacked_out += pcount
    state.sack_delivered += pcount
    return sacked | TCPCB_SACKED_ACKED


# -- sacked neighbours become one (tcp_shift_skb_data)


def merge_sacked(tp: TcpControl, queue: RtxQueue, first: i64, end: i64) -> None:
    """Join the sacked skbs at places ``first`` to before ``end`` with each other and with the ones beside them."""
    if first > 0:
        first -= 1
    end = min(end + 1, len(queue))
    kept: list[TcpSkb] = []
    previous: TcpSkb | None = None
    for index in range(first, end):
        skb = queue.at(index)
        if previous is not None and tcp_skb_can_merge(previous, skb):
            queue.tsorted_unlink(skb)  # a loss probe may have sent it again, sacked as it is
            merge(tp, previous, skb)
        else:
            kept.append(skb)
            previous = skb
    if len(kept) < end - first:
        queue.replace(first, end, kept)


def tcp_skb_can_merge(skb: TcpSkb, following: TcpSkb) -> bool:
    """Both are plainly sacked, and one can hold them. Of segments of two sizes nobody could count those of a part."""
    return (
        skb.sacked & TCPCB_TAGBITS == TCPCB_SACKED_ACKED
        and following.sacked & TCPCB_TAGBITS == TCPCB_SACKED_ACKED
        and not skb.eor
        and not skb.flags & TCPHDR_SYN
        and skb.seglen == following.seglen
        and skb.len + following.len <= MERGE_BYTES
        and len(skb.pieces) + len(following.pieces) <= MERGE_PIECES
    )


def merge(tp: TcpControl, skb: TcpSkb, following: TcpSkb) -> None:
    """``following`` becomes the end of ``skb``; they count for as many packets as before."""
    seglen = skb.seglen
    tcp_skb_join(tp, skb, following)
    skb.pcount += following.pcount
    skb.mss = seglen
    tp.net.mib.tcpext.TCPSackMerged += 1
