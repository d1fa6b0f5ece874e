"""The retransmission timer fired: what is lost now (RFC 5681 section 3.1, RFC 6298 (5.4) to (5.6); tcp_enter_loss)."""

from __future__ import annotations

from ustack.tcp.congestion.base import CA_EVENT_LOSS
from ustack.tcp.control import TCP_CA_DISORDER, TCP_CA_LOSS, TCP_CA_RECOVERY, TcpControl
from ustack.tcp.cwnd import tcp_current_ssthresh
from ustack.tcp.ecn import tcp_ecn_queue_cwr
from ustack.tcp.prr import tcp_set_ca_state
from ustack.tcp.rack import tcp_rack_skb_timeout
from ustack.tcp.scoreboard import tcp_mark_skb_lost
from ustack.tcp.segment import TCPCB_SACKED_ACKED
from ustack.tcp.seq import after
from ustack.tcp.undo import tcp_init_undo


def tcp_enter_loss(tp: TcpControl) -> None:
    """Everything in flight that has had its time is lost, and one segment may go.

    RFC 5681: ssthresh is set "once per loss window": not again for a segment that has been retransmitted already.
    """
    new_recovery = tp.ca_state < TCP_CA_RECOVERY
    tcp_timeout_mark_lost(tp)
    repaired = not after(tp.high_seq, tp.snd_una) or (tp.ca_state == TCP_CA_LOSS and tp.retransmits == 0)
    if tp.ca_state <= TCP_CA_DISORDER or repaired:
        tp.prior_ssthresh = tcp_current_ssthresh(tp)
        tp.prior_cwnd = tp.snd_cwnd
        tp.snd_ssthresh = tp.congestion.ssthresh(tp)
        tp.congestion.cwnd_event(tp, CA_EVENT_LOSS)
        tcp_init_undo(tp)
    tp.snd_cwnd = tp.tcp_packets_in_flight() + 1
    tp.snd_cwnd_cnt = 0
    tp.snd_cwnd_stamp = tp.net.now
    reordering = tp.net.sysctl.tcp_reordering
    if tp.ca_state <= TCP_CA_DISORDER and tp.sacked_out >= reordering:
        # we waited for reordering that was none
        tp.reordering = min(tp.reordering, reordering)
    tcp_set_ca_state(tp, TCP_CA_LOSS)
    tp.high_seq = tp.snd_nxt
    tp.tlp_high_seq = 0
    tcp_ecn_queue_cwr(tp)
    # RFC 5682 2.1 step 1, and not for a further timeout of the same segment (section 3.2); a probe of the MTU that is
    # lost is no spurious timeout
    frto = tp.net.sysctl.tcp_frto != 0
    tp.frto = frto and (new_recovery or tp.retransmits != 0) and tp.mtup_probe_size == 0


def tcp_timeout_mark_lost(tp: TcpControl) -> None:
    """Mark what is in flight, but what was sent less than a round trip ago; forget SACKs the peer has taken back."""
    head = tp.rtx_head()
    reneging = head is not None and head.sacked & TCPCB_SACKED_ACKED != 0
    if reneging:
        # RFC 2018 section 5.1: "After a retransmit timeout the data sender SHOULD turn off all of the SACKed bits,
        # since the timeout might indicate that the data receiver has reneged"
        tp.net.mib.tcpext.TCPSACKReneging += 1
        tp.sacked_out = 0
        tp.is_sack_reneg = True
    elif not tp.sack_ok:
        tp.sacked_out = 0
    queue = tp.in_flight()
    for skb in queue:
        if reneging:
            skb.sacked &= ~TCPCB_SACKED_ACKED
        elif skb is not head and tcp_rack_skb_timeout(tp, skb, 0) > 0:
            continue
        tcp_mark_skb_lost(tp, skb)
    tp.retransmit_skb_hint = None
