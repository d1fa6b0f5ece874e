"""Which SACK blocks are believed, and what a duplicate one says (RFC 2018, RFC 2883; Linux tcp_is_sackblock_valid)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mypy_extensions import i64

from ustack.tcp.ack_state import FLAG_DSACK_TLP, FLAG_DSACKING_ACK, AckState
from ustack.tcp.seq import after, before, distance

if TYPE_CHECKING:
    from ustack.tcp.control import TcpControl


def tcp_is_sackblock_valid(tp: TcpControl, is_dsack: bool, start: i64, end: i64) -> bool:
    """True if a block can tell of what is in flight, or as D-SACK of what undoing may still ask for.

    RFC 2018 section 4 knows no block that begins at SND.UNA: it would have been acknowledged.
    """
    if after(end, tp.snd_nxt) or not before(start, end) or not before(start, tp.snd_nxt):
        return False
    if after(start, tp.snd_una):
        return True
    if not is_dsack or tp.undo_marker == 0 or after(end, tp.snd_una):
        return False
    if not before(start, tp.undo_marker):
        return True
    if not after(end, tp.undo_marker):
        return False
    # across the marker: part of it is of this episode, if it is no longer than a window
    return not before(start, (end - tp.max_window) & 0xFFFF_FFFF)


def tcp_check_dsack(tp: TcpControl, blocks: list[tuple[int, int]], ack_seq: i64, una: i64, state: AckState) -> bool:
    """True if the first block is a duplicate one, and believed.

    RFC 2883 section 4: it is one that the cumulative acknowledgement covers, or that lies within the second block.
    ``una`` is SND.UNA before this ACK.
    """
    start, end = blocks[0]
    mib = tp.net.mib.tcpext
    if before(start, ack_seq):
        mib.TCPDSACKRecv += 1
    elif len(blocks) > 1 and not after(end, blocks[1][1]) and not before(start, blocks[1][0]):
        mib.TCPDSACKOfoRecv += 1
    else:
        return False
    dup_segs = tcp_dsack_seen(tp, start, end, state)
    if dup_segs == 0:
        mib.TCPDSACKIgnoredDubious += 1
        return False
    mib.TCPDSACKRecvSegs += dup_segs
    if tp.undo_marker and tp.undo_retrans > 0 and not after(end, una) and after(end, tp.undo_marker):
        # of data already forgotten, where no skb remembers whether it was retransmitted
        tp.undo_retrans = max(tp.undo_retrans - dup_segs, 0)
    return True


def tcp_dsack_seen(tp: TcpControl, start: i64, end: i64, state: AckState) -> i64:
    """How many segments came twice; 0 if that cannot be: longer than any window, or more than we sent twice."""
    if not before(start, end):
        return 0
    length = distance(start, end)
    if length > tp.max_window:
        return 0
    dup_segs: i64 = 1
    if length > tp.mss_cache:
        dup_segs = (length + tp.mss_cache - 1) // tp.mss_cache
    elif tp.tlp_high_seq and tp.tlp_high_seq == end:
        state.flag |= FLAG_DSACK_TLP
    tp.dsack_dups += dup_segs
    if tp.dsack_dups > tp.total_retrans:
        return 0
    # RFC 8985 6.2 step 4 widens its window for what reordering made us retransmit, not for loss probes
    if tp.reord_seen and not state.flag & FLAG_DSACK_TLP:
        tp.rack_dsack_seen = True
    state.flag |= FLAG_DSACKING_ACK
    state.sack_delivered += dup_segs
    return dup_segs
