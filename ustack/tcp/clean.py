"""Taking what is acknowledged off the retransmission queue (Linux tcp_clean_rtx_queue)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mypy_extensions import i64

from ustack.tcp.ack_state import (
    FLAG_ACK_MAYBE_DELAYED,
    FLAG_ACKED,
    FLAG_CA_ALERT,
    FLAG_DATA_ACKED,
    FLAG_ECE,
    FLAG_ORIG_SACK_ACKED,
    FLAG_RETRANS_DATA_ACKED,
    FLAG_SACK_RENEGING,
    FLAG_SET_XMIT_TIMER,
    FLAG_SYN_ACKED,
    AckState,
)
from ustack.tcp.chrono import tcp_chrono_stop
from ustack.tcp.control import TCP_CHRONO_BUSY, TcpControl
from ustack.tcp.fragment import tcp_trim_head, tcp_wmem_free_skb
from ustack.tcp.mtu import tcp_mtup_probe_success
from ustack.tcp.newreno import tcp_remove_reno_sacks
from ustack.tcp.rack import tcp_rack_advance
from ustack.tcp.rate import tcp_rate_skb_delivered
from ustack.tcp.reordering import tcp_check_sack_reordering
from ustack.tcp.rtt import tcp_ack_update_rtt
from ustack.tcp.scoreboard import tcp_count_delivered, tcp_skb_spurious_retrans
from ustack.tcp.segment import TCPCB_LOST, TCPCB_RETRANS, TCPCB_SACKED_ACKED, TCPCB_SACKED_RETRANS, TcpSkb
from ustack.tcp.seq import after, before, distance
from ustack.tcp.tx_watch import tcp_tx_acked
from ustack.wire.tcp import TCPHDR_SYN

if TYPE_CHECKING:
    from ustack.tcp.rtx_queue import RtxQueue


def tcp_clean_rtx_queue(tp: TcpControl, state: AckState, prior_fack: i64, prior_snd_una: i64) -> None:
    """Take off what SND.UNA, which was ``prior_snd_una``, now covers; feed RTT, RACK, rate sample and RTO.

    ``prior_fack``: one past the highest sacked byte before this ACK.
    """
    queue = tp.in_flight()
    prior_sacked = tp.sacked_out
    state.reord = tp.snd_nxt
    state.first_ackt = -1
    pkts_acked: i64 = 0
    fully_acked = True
    skb = queue.first()
    while skb is not None:
        acked = skb.pcount
        start_seq = skb.seq
        if after(skb.end_seq, tp.snd_una):
            if skb.pcount == 1 or not after(tp.snd_una, skb.seq):
                break
            acked = tcp_trim_head(tp, skb)  # of a super-segment the rest stays (tcp_tso_acked)
            if acked == 0:
                break
            fully_acked = False
        count_acked(tp, state, skb, acked, start_seq)
        pkts_acked += acked
        if not fully_acked:
            break
        take_off(tp, queue, skb)
        skb = queue.first()
    if tp.tx_watch is not None:
        tcp_tx_acked(tp, tp.tx_watch)
    if skb is None:
        tcp_chrono_stop(tp, TCP_CHRONO_BUSY)
    elif skb.sacked & TCPCB_SACKED_ACKED:
        state.flag |= FLAG_SACK_RENEGING
    if not before(tp.snd_up, prior_snd_una) and not after(tp.snd_up, tp.snd_una):
        tp.snd_up = tp.snd_una
        tp.urg_mode = False
    alone = pkts_acked == 1 and fully_acked and prior_sacked == 0
    sack_rtt = -1 if state.first_sackt < 0 else tp.net.now - state.first_sackt
    rtt_update = sample_rtt(tp, state, sack_rtt, alone and distance(prior_snd_una, tp.snd_una) < tp.mss_cache)
    if state.flag & FLAG_ACKED:
        progress(tp, state, pkts_acked, prior_fack)
    elif skb is not None and rtt_update and sack_rtt > tp.net.now - skb.sent_at:
        # the RTO is not put off by what was sent after the head was: it might be for ever
        state.flag |= FLAG_SET_XMIT_TIMER
    tp.congestion.pkts_acked(tp, pkts_acked, state.rate.rtt, state.rate.prior_in_flight)


def take_off(tp: TcpControl, queue: RtxQueue, skb: TcpSkb) -> None:
    """``skb``, the first of the queue, is acknowledged as a whole."""
    queue.popleft()
    if skb is tp.retransmit_skb_hint:
        tp.retransmit_skb_hint = None
    if skb is tp.highest_sack:
        tp.highest_sack = queue.first()
    tcp_wmem_free_skb(tp, skb)


def count_acked(tp: TcpControl, state: AckState, skb: TcpSkb, acked: i64, start_seq: i64) -> None:
    """``acked`` packets of ``skb``, from ``start_seq`` on, are no longer in flight."""
    sacked = skb.sacked
    if sacked & TCPCB_RETRANS:
        if sacked & TCPCB_SACKED_RETRANS:
            tp.retrans_out -= acked
        state.flag |= FLAG_RETRANS_DATA_ACKED
    elif not sacked & TCPCB_SACKED_ACKED:
        state.last_ackt = skb.sent_at
        if state.first_ackt < 0:
            state.first_ackt = skb.sent_at
        if before(start_seq, state.reord):
            state.reord = start_seq
        if not after(skb.end_seq, tp.high_seq):
            state.flag |= FLAG_ORIG_SACK_ACKED
    if sacked & TCPCB_SACKED_ACKED:
        tp.sacked_out -= acked
    elif tp.sack_ok:
        tcp_count_delivered(tp, acked, state.flag & FLAG_ECE != 0)
        if not tcp_skb_spurious_retrans(tp, skb):
            tcp_rack_advance(tp, skb)
    if sacked & TCPCB_LOST:
        tp.lost_out -= acked
    tp.packets_out -= acked
    tcp_rate_skb_delivered(tp, skb, state.rate)
    if skb.flags & TCPHDR_SYN:
        state.flag |= FLAG_SYN_ACKED
        tp.retrans_stamp = 0
    else:
        state.flag |= FLAG_DATA_ACKED


def sample_rtt(tp: TcpControl, state: AckState, sack_rtt: i64, alone: bool) -> bool:
    """What was measured; ``alone``: one runt was acknowledged, which the peer may have waited with."""
    now = tp.net.now
    seq_rtt: i64 = -1
    ca_rtt: i64 = -1
    if state.first_ackt >= 0 and not state.flag & FLAG_RETRANS_DATA_ACKED:
        seq_rtt = now - state.first_ackt
        ca_rtt = now - state.last_ackt
        delivered = state.rate.prior_delivered + 1 == tp.delivered
        if alone and delivered and not state.flag & (FLAG_CA_ALERT | FLAG_SYN_ACKED):
            state.flag |= FLAG_ACK_MAYBE_DELAYED
    if sack_rtt >= 0:
        ca_rtt = now - state.last_sackt
    return tcp_ack_update_rtt(tp, state.flag, seq_rtt, sack_rtt, ca_rtt, state.rate)


def progress(tp: TcpControl, state: AckState, pkts_acked: i64, prior_fack: i64) -> None:
    """Something was acknowledged: the timer starts again; what it filled may tell of reordering."""
    state.flag |= FLAG_SET_XMIT_TIMER
    if tp.mtup_probe_size and not after(tp.mtu_probe_seq_end, tp.snd_una):
        tcp_mtup_probe_success(tp)
    if not tp.sack_ok:
        tcp_remove_reno_sacks(tp, pkts_acked, state.flag & FLAG_ECE != 0)
        # without SACK nobody knows whether it was the original of what was sent again
        if state.flag & FLAG_RETRANS_DATA_ACKED:
            state.flag &= ~FLAG_ORIG_SACK_ACKED
    elif before(state.reord, prior_fack):
        tcp_check_sack_reordering(tp, state.reord, False)
