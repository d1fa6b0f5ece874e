"""What we tell the peer of text beyond a hole, and of text that came twice (RFC 2018 section 4, RFC 2883).

Linux tcp_sack_new_ofo_skb, tcp_sack_remove, tcp_dsack_set; the option itself is written by transmit.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mypy_extensions import i64

from ustack.tcp.compress import tcp_sack_compress_send_ack
from ustack.tcp.seq import after, before

if TYPE_CHECKING:
    from ustack.tcp.control import TcpControl

#: Blocks that are remembered; RFC 2018 section 3: "a SACK option that specifies n blocks [...] maximum of 4 blocks".
TCP_NUM_SACKS: Final[i64] = 4
#: Blocks further back than this in the list may get lost when ACKs do: what changes them ends ACK compression.
TCP_SACK_BLOCKS_EXPECTED: Final[i64] = 2


def joined(block: tuple[int, int], seq: i64, end_seq: i64) -> tuple[int, int] | None:
    """``block`` and [seq, end_seq) as one where they touch or overlap, else None (tcp_sack_extend)."""
    start, end = i64(block[0]), i64(block[1])
    if after(seq, end) or after(start, end_seq):
        return None
    return (int(seq if before(seq, start) else start), int(end_seq if after(end_seq, end) else end))


def tcp_sack_new_ofo_skb(tp: TcpControl, seq: i64, end_seq: i64) -> None:
    """[seq, end_seq) came out of order: its block goes to the front.

    RFC 2018 section 4: "The first SACK block [...] MUST specify the contiguous block of data containing the segment
    which triggered this ACK"; the others repeat "the most recently reported SACK blocks".
    """
    blocks = tp.selective_acks
    for at, block in enumerate(blocks):
        grown = joined(block, seq, end_seq)
        if grown is not None:
            if at >= TCP_SACK_BLOCKS_EXPECTED:
                tcp_sack_compress_send_ack(tp)
            del blocks[at]
            blocks.insert(0, grown)
            tcp_sack_maybe_coalesce(blocks)
            return
    if len(blocks) >= TCP_SACK_BLOCKS_EXPECTED:
        tcp_sack_compress_send_ack(tp)
    if len(blocks) >= TCP_NUM_SACKS:
        del blocks[TCP_NUM_SACKS - 1 :]
    blocks.insert(0, (int(seq), int(end_seq)))


def tcp_sack_maybe_coalesce(blocks: list[tuple[int, int]]) -> None:
    """The first block has grown: those it has reached become part of it."""
    at = 1
    while at < len(blocks):
        grown = joined(blocks[0], blocks[at][0], blocks[at][1])
        if grown is None:
            at += 1
        else:
            blocks[0] = grown
            del blocks[at]


def tcp_sack_remove(tp: TcpControl) -> None:
    """RCV.NXT has advanced: what it has passed is no longer selective."""
    if tp.ofo is None:
        tp.selective_acks = []
        return
    rcv_nxt = tp.rcv_nxt
    tp.selective_acks = [block for block in tp.selective_acks if before(rcv_nxt, block[0])]


def tcp_sack_reset(tp: TcpControl) -> None:
    """What was reported is no longer held, or no longer matters.

    RFC 2018 section 8: "the data receiver is permitted to discard data in its queue that has not been acknowledged to
    the data sender, even if the data has already been reported in a SACK option."
    """
    tp.selective_acks = []
    tp.duplicate_sack = None


def tcp_dsack_set(tp: TcpControl, seq: i64, end_seq: i64) -> None:
    """[seq, end_seq) had been received before: the next ACK says so first (RFC 2883 section 4)."""
    if not tp.sack_ok or tp.net.sysctl.tcp_dsack == 0:
        return
    if before(seq, tp.rcv_nxt):
        tp.net.mib.tcpext.TCPDSACKOldSent += 1
    else:
        tp.net.mib.tcpext.TCPDSACKOfoSent += 1
    tp.duplicate_sack = (int(seq), int(end_seq))


def tcp_dsack_extend(tp: TcpControl, seq: i64, end_seq: i64) -> None:
    """The same segment repeats [seq, end_seq) as well: one D-SACK block for both, where they touch."""
    known = tp.duplicate_sack
    if known is None:
        return tcp_dsack_set(tp, seq, end_seq)
    grown = joined(known, seq, end_seq)
    if grown is not None:
        tp.duplicate_sack = grown
    return None
