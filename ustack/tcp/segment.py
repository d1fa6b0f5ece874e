"""TcpSkb: a stretch of the byte stream with its control bits, sent or to be sent (Linux struct tcp_skb_cb)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mypy_extensions import i64

from ustack.wire.tcp import TCPHDR_FIN, TCPHDR_PSH, TCPHDR_SYN

if TYPE_CHECKING:
    from ustack.packet import Buffer

# ``sacked`` bits (include/net/tcp.h)
TCPCB_SACKED_ACKED: Final = 0x01
TCPCB_SACKED_RETRANS: Final = 0x02
TCPCB_LOST: Final = 0x04
TCPCB_TAGBITS: Final = 0x07
TCPCB_EVER_RETRANS: Final = 0x80
TCPCB_RETRANS: Final = TCPCB_SACKED_RETRANS | TCPCB_EVER_RETRANS

#: What an skb costs beside its bytes, in accounting of memory (bytes; Linux: SKB_TRUESIZE(0) is 576 to 768).
SKB_OVERHEAD: Final[i64] = 576


class TcpSkb:
    """Bytes [``seq``, ``end_seq``) of the stream; a SYN or FIN counts as one. ``pieces`` are never changed."""

    def __init__(self, seq: i64, flags: i64) -> None:
        self.seq: i64 = seq
        self.end_seq: i64 = (seq + 1) & 0xFFFF_FFFF if flags & (TCPHDR_SYN | TCPHDR_FIN) else seq
        self.flags: i64 = flags
        self.pieces: list[Buffer] = []
        self.len: i64 = 0
        self.pcount: i64 = 1  #: segments of one MSS on the wire (tcp_skb_pcount)
        self.mss: i64 = 0  #: bytes in each of them but the last (tcp_skb_mss)
        self.sacked: i64 = 0
        self.sent_at: i64 = 0  #: ns, of the last transmission (skb_mstamp); 0: never sent
        self.eor: bool = False  #: MSG_EOR: nothing may be appended
        # delivery rate: the connection as it was when this was sent (struct tcp_skb_cb.tx)
        self.tx_delivered: i64 = 0
        self.tx_delivered_ce: i64 = 0
        self.tx_first_mstamp: i64 = 0
        self.tx_delivered_mstamp: i64 = 0
        self.tx_is_app_limited: bool = False
        # in the order of transmission (tcp_tsorted_anchor; rtx_queue.py)
        self.tsorted: bool = False  #: in that list
        self.tx_order: i64 = 0  #: number of its last transmission; what is cut keeps it
        self.tsorted_prev: TcpSkb | None = None
        self.tsorted_next: TcpSkb | None = None

    @property
    def truesize(self) -> i64:
        """Bytes of memory it is charged as."""
        return self.len + SKB_OVERHEAD

    @property
    def seglen(self) -> i64:
        """Bytes in its first segment (tcp_skb_seglen)."""
        return self.len if self.pcount == 1 else self.mss

    def append(self, piece: Buffer, length: i64) -> None:
        """Add ``length`` bytes at the end; not after a FIN."""
        self.pieces.append(piece)
        self.len += length
        self.end_seq = (self.end_seq + length) & 0xFFFF_FFFF

    def set_pcount(self, mss: i64) -> None:
        """Count the segments it takes at ``mss`` (tcp_set_skb_tso_segs)."""
        self.mss = mss
        self.pcount = 1 if self.len <= mss else (self.len + mss - 1) // mss

    def split(self, length: i64, mss: i64) -> TcpSkb:
        """Keep the first ``length`` bytes, 0 < length <= len; give back the rest (tcp_fragment).

        With all the bytes kept, the rest is the FIN alone.
        """
        rest = TcpSkb((self.seq + length) & 0xFFFF_FFFF, self.flags & ~TCPHDR_SYN)
        rest.flags = self.flags
        rest.eor = self.eor
        self.eor = False
        self.flags &= ~(TCPHDR_FIN | TCPHDR_PSH)
        head, tail = split_pieces(self.pieces, length)
        rest.pieces = tail
        rest.len = self.len - length
        rest.end_seq = self.end_seq
        rest.sacked = self.sacked
        rest.sent_at = self.sent_at
        rest.tx_order = self.tx_order
        rest.tx_delivered = self.tx_delivered
        rest.tx_delivered_ce = self.tx_delivered_ce
        rest.tx_first_mstamp = self.tx_first_mstamp
        rest.tx_delivered_mstamp = self.tx_delivered_mstamp
        rest.tx_is_app_limited = self.tx_is_app_limited
        self.pieces = head
        self.len = length
        self.end_seq = rest.seq
        self.set_pcount(mss)
        rest.set_pcount(mss)
        return rest

    def trim_head(self, length: i64) -> None:
        """Forget the first ``length`` bytes, now acknowledged (tcp_trim_head); ``pcount`` is left to the caller."""
        _, self.pieces = split_pieces(self.pieces, length)
        self.len -= length
        self.seq = (self.seq + length) & 0xFFFF_FFFF


def split_pieces(pieces: list[Buffer], length: i64) -> tuple[list[Buffer], list[Buffer]]:
    """The pieces before and after ``length`` bytes; the one in between becomes two views."""
    head: list[Buffer] = []
    tail: list[Buffer] = []
    left = length
    for piece in pieces:
        size: i64 = len(piece)
        if left >= size:
            head.append(piece)
            left -= size
        elif left == 0:
            tail.append(piece)
        else:
            view = memoryview(piece)
            head.append(view[:left])
            tail.append(view[left:])
            left = 0
    return head, tail
