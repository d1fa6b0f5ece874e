"""Cutting and joining skbs, with what they count for (Linux tcp_fragment, tcp_trim_head, tcp_collapse_retrans)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mypy_extensions import i64

from ustack.tcp.scoreboard import tcp_adjust_pcount, tcp_highest_sack_replace
from ustack.tcp.segment import SKB_OVERHEAD, TCPCB_EVER_RETRANS, TCPCB_SACKED_ACKED, TcpSkb
from ustack.tcp.seq import after, distance
from ustack.wire.tcp import TCPHDR_SYN

if TYPE_CHECKING:
    from ustack.tcp.control import TcpControl

#: What a send buffer may be overshot by: two super-segments of 64 KiB (bytes).
ALLOWANCE: Final[i64] = 2 * (65_536 + SKB_OVERHEAD)


def tcp_fragment(tp: TcpControl, skb: TcpSkb, length: i64) -> TcpSkb:
    """Cut ``skb``, not sent yet, after ``length`` bytes and charge for the second one, which is given back."""
    tp.wmem_queued += SKB_OVERHEAD
    return skb.split(length, tp.mss_cache)


def tcp_fragment_rtx(tp: TcpControl, skb: TcpSkb, length: i64, mss: i64) -> TcpSkb | None:
    """Cut ``skb`` of the retransmission queue after ``length`` bytes; None if that would cost too much memory.

    CVE-2019-11478: a peer that sacks every other segment makes many small skbs of few large ones. Beyond twice the
    send buffer only the ends of the queue are cut, or nothing would ever be sent again.
    """
    queue = tp.in_flight()
    if tp.wmem_queued >> 1 > tp.sndbuf + ALLOWANCE and skb is not queue.first() and skb is not queue.last():
        tp.net.mib.tcpext.TCPWqueueTooBig += 1
        return None
    had = skb.pcount
    tp.wmem_queued += SKB_OVERHEAD
    rest = skb.split(length, mss)
    if had != skb.pcount + rest.pcount:
        tcp_adjust_pcount(tp, skb, had - skb.pcount - rest.pcount)
    queue.insert_after(skb, rest)
    return rest


def tcp_trim_head(tp: TcpControl, skb: TcpSkb) -> i64:
    """Forget the bytes before SND.UNA, which lies in ``skb``; how many packets fewer it counts for now."""
    had = skb.pcount
    length = distance(skb.seq, tp.snd_una)
    skb.trim_head(length)
    tp.wmem_queued -= length
    if had > 1:
        skb.set_pcount(skb.mss if skb.mss else tp.mss_cache)
        skb.pcount = min(skb.pcount, had)
    return had - skb.pcount


def tcp_wmem_free_skb(tp: TcpControl, skb: TcpSkb) -> None:
    """``skb`` has left the queue: its memory is free (a SYN was never charged)."""
    tp.wmem_queued -= skb.len + (0 if skb.flags & TCPHDR_SYN else SKB_OVERHEAD)


# -- joining


def tcp_skb_join(tp: TcpControl, skb: TcpSkb, following: TcpSkb) -> None:
    """``following`` becomes the end of ``skb``; its place in a queue, and what they count for, is the caller's."""
    skb.pieces = skb.pieces + following.pieces
    skb.len += following.len
    skb.end_seq = following.end_seq
    skb.flags |= following.flags
    skb.sacked |= following.sacked & TCPCB_EVER_RETRANS
    skb.eor = following.eor
    if following is tp.retransmit_skb_hint:
        tp.retransmit_skb_hint = skb
    tp.wmem_queued -= SKB_OVERHEAD


# -- small segments that are sent again


def tcp_retrans_try_collapse(tp: TcpControl, skb: TcpSkb, space: i64) -> None:
    """Join to ``skb`` the segments after it that fit into ``space`` bytes together (RFC 9293 section 3.8.1)."""
    if tp.net.sysctl.tcp_retrans_collapse == 0 or skb.flags & TCPHDR_SYN or not tcp_can_collapse(skb):
        return
    queue = tp.in_flight()
    space -= skb.len
    while True:
        following = queue.next(skb)
        if following is None or skb.eor or not tcp_can_collapse(following):
            return
        space -= following.len
        if space < 0 or after(following.end_seq, tp.tcp_wnd_end()):
            return
        tcp_collapse_retrans(tp, skb, following)


def tcp_can_collapse(skb: TcpSkb) -> bool:
    """One segment, and not known to have arrived."""
    return skb.pcount == 1 and not skb.sacked & TCPCB_SACKED_ACKED


def tcp_collapse_retrans(tp: TcpControl, skb: TcpSkb, following: TcpSkb) -> None:
    """``following`` becomes the end of ``skb``."""
    tcp_highest_sack_replace(tp, following, skb)
    tp.in_flight().remove(following)
    tcp_skb_join(tp, skb, following)
    tcp_adjust_pcount(tp, following, following.pcount)
