"""New data has been sent: from the write queue to the retransmission queue (Linux tcp_event_new_data_sent)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mypy_extensions import i64

from ustack.tcp.control import ICSK_TIME_LOSS_PROBE, TcpControl
from ustack.tcp.rtt import tcp_rearm_rto
from ustack.tcp.tx_watch import tcp_tx_left

if TYPE_CHECKING:
    from ustack.tcp.segment import TcpSkb


def tcp_event_new_data_sent(tp: TcpControl, skb: TcpSkb, mss: i64) -> None:
    """``skb``, the first of the write queue, was sent for the first time, in segments of ``mss``."""
    tp.writes().popleft()
    tp.in_flight().append(skb)
    idle = tp.packets_out == 0
    tp.snd_nxt = skb.end_seq
    if tp.highest_sack is None and tp.sack_ok:
        tp.highest_sack = skb
    tp.packets_out += skb.pcount
    tp.net.mib.tcpext.TCPOrigDataSent += skb.pcount
    if skb.len < skb.pcount * mss:
        tp.snd_sml = skb.end_seq  # Minshall's Nagle waits for this one
    if idle or tp.icsk_pending == ICSK_TIME_LOSS_PROBE:
        tcp_rearm_rto(tp)
    if tp.tx_watch is not None:
        tcp_tx_left(tp, tp.tx_watch)
