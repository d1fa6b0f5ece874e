"""Loss: duplicate ACKs, fast retransmit and recovery, the retransmission timeout (RFC 5681, RFC 6582).

Linux's bookkeeping in packets (tcp_input.c, "alpha" of tcp_fastretrans_alert): packets_out sent, sacked_out known to
have left the network, lost_out given up, retrans_out sent again. Without SACK every duplicate ACK counts as one
segment that has arrived somewhere, so new data flows through recovery at the pace of the duplicate ACKs.
"""

from __future__ import annotations

from mypy_extensions import i64

from ustack.tcp.control import (
    TCP_CA_DISORDER,
    TCP_CA_LOSS,
    TCP_CA_OPEN,
    TCP_CA_RECOVERY,
    TCP_FASTRETRANS_THRESH,
    TcpControl,
)
from ustack.tcp.output import tcp_fragment_rtx
from ustack.tcp.segment import TCPCB_LOST, TCPCB_SACKED_RETRANS
from ustack.tcp.seq import before


def tcp_set_ca_state(tp: TcpControl, ca_state: i64) -> None:
    tp.congestion.set_state(tp, ca_state)
    tp.ca_state = ca_state


def tcp_fastretrans_alert(tp: TcpControl, is_dupack: bool, advanced: bool, acked: i64) -> None:
    """An ACK that is a duplicate, or any ACK outside the open state; ``acked`` packets were newly acknowledged.

    It only marks what is lost; tcp_ack sends it again once it has seen to cwnd.
    """
    if tp.ca_state >= TCP_CA_RECOVERY and not before(tp.snd_una, tp.high_seq):
        tp.sacked_out = 0
        if tp.snd_una == tp.high_seq:
            # RFC 6582 3.2 step 1: duplicate ACKs may now tell of segments sent twice for nothing. Only when "the
            # Cumulative Acknowledgment field covers more than recover" do they tell of a new loss.
            return
        tcp_end_recovery(tp)
    if tp.ca_state == TCP_CA_RECOVERY:
        in_recovery(tp, is_dupack, advanced, acked)
    elif tp.ca_state == TCP_CA_LOSS:
        if advanced:
            tp.sacked_out = 0
    else:
        watch_for_loss(tp, is_dupack, advanced)


def watch_for_loss(tp: TcpControl, is_dupack: bool, advanced: bool) -> None:
    """Open or disordered: count duplicate ACKs, the third one starts recovery."""
    if advanced:
        tp.sacked_out = 0
    if is_dupack:
        add_reno_sack(tp)
    if tp.sacked_out >= TCP_FASTRETRANS_THRESH:
        tcp_enter_recovery(tp)
    else:
        tcp_set_ca_state(tp, TCP_CA_DISORDER if tp.sacked_out else TCP_CA_OPEN)


def in_recovery(tp: TcpControl, is_dupack: bool, advanced: bool, acked: i64) -> None:
    """RFC 6582 section 3.2 step 3: a partial ACK means that the segment after it is lost too: "retransmit the first
    unacknowledged segment"."""
    if not advanced:
        if is_dupack:
            add_reno_sack(tp)
        return
    # one of what was acknowledged filled the hole, the rest had been counted as duplicate ACKs
    tp.sacked_out = max(tp.sacked_out - max(acked - 1, 0), 0)
    tcp_mark_head_lost(tp)


def add_reno_sack(tp: TcpControl) -> None:
    """One more segment has left the network; there can be no more than are out (tcp_add_reno_sack)."""
    tp.sacked_out = min(tp.sacked_out + 1, max(tp.packets_out - tp.lost_out, 0))


def tcp_enter_recovery(tp: TcpControl) -> None:
    """RFC 6582 step 2: remember how far we had sent, halve, retransmit the first segment."""
    tp.net.mib.tcpext.TCPRenoRecovery += 1
    tp.high_seq = tp.snd_nxt
    tp.prior_cwnd = tp.snd_cwnd
    tp.prior_ssthresh = tp.snd_ssthresh
    tp.snd_ssthresh = tp.congestion.ssthresh(tp)
    tp.snd_cwnd = tp.snd_ssthresh
    tp.snd_cwnd_cnt = 0
    tcp_set_ca_state(tp, TCP_CA_RECOVERY)
    tcp_mark_head_lost(tp)


def tcp_mark_head_lost(tp: TcpControl) -> None:
    """Give up the first segment in flight; of a super-segment only its first piece."""
    head = tp.rtx_head()
    if head is None or head.sacked & TCPCB_LOST:
        return
    if head.len > tp.mss_cache:
        tcp_fragment_rtx(tp, head, tp.mss_cache)
    head.sacked |= TCPCB_LOST
    tp.lost_out += head.pcount
    tp.sacked_out = min(tp.sacked_out, tp.packets_out - tp.lost_out)


def tcp_end_recovery(tp: TcpControl) -> None:
    """All that was in flight when the loss was noticed has arrived."""
    if tp.ca_state == TCP_CA_RECOVERY:
        tp.snd_cwnd = max(min(tp.snd_cwnd, tp.snd_ssthresh), 1)
    tp.sacked_out = 0
    tp.retrans_stamp = 0
    tcp_set_ca_state(tp, TCP_CA_OPEN)


def tcp_enter_loss(tp: TcpControl) -> None:
    """The retransmission timer fired (RFC 5681 section 3.1 (4), RFC 6298 (5.4) to (5.6)): everything in flight is lost.

    ssthresh is halved once for one window of data: not again for a segment that has been retransmitted already.
    """
    repaired = not before(tp.snd_una, tp.high_seq) or (tp.ca_state == TCP_CA_LOSS and tp.retransmits == 0)
    if tp.ca_state < TCP_CA_RECOVERY or repaired:
        tp.prior_cwnd = tp.snd_cwnd
        tp.prior_ssthresh = tp.snd_ssthresh
        tp.snd_ssthresh = tp.congestion.ssthresh(tp)
    for skb in tp.in_flight():
        skb.sacked = (skb.sacked & ~TCPCB_SACKED_RETRANS) | TCPCB_LOST
    tp.lost_out = tp.packets_out
    tp.retrans_out = 0
    tp.sacked_out = 0
    tp.snd_cwnd = 1
    tp.snd_cwnd_cnt = 0
    tp.high_seq = tp.snd_nxt
    tcp_set_ca_state(tp, TCP_CA_LOSS)
