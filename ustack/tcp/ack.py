"""What an acceptable acknowledgement does (RFC 9293 section 3.10.7.4, fifth step; Linux tcp_ack)."""

from __future__ import annotations

from typing import Final

from mypy_extensions import i64

from ustack.dst import rt_nexthop
from ustack.sock import TCP_SYN_SENT
from ustack.tcp.ack_state import (
    FLAG_ACK_MAYBE_DELAYED,
    FLAG_DATA,
    FLAG_DATA_ACKED,
    FLAG_DSACKING_ACK,
    FLAG_ECE,
    FLAG_FORWARD_PROGRESS,
    FLAG_NOT_DUP,
    FLAG_SET_XMIT_TIMER,
    FLAG_SLOWPATH,
    FLAG_SND_UNA_ADVANCED,
    FLAG_WIN_UPDATE,
    REXMIT_NEW,
    REXMIT_NONE,
    AckState,
    tcp_ack_is_dubious,
)
from ustack.tcp.challenge import tcp_send_challenge_ack
from ustack.tcp.clean import tcp_clean_rtx_queue
from ustack.tcp.congestion.base import CA_ACK_ECE, CA_ACK_SLOWPATH, CA_ACK_WIN_UPDATE
from ustack.tcp.control import (
    ICSK_TIME_PROBE0,
    TCP_CA_OPEN,
    TCP_NAGLE_OFF,
    TcpControl,
)
from ustack.tcp.cwnd import tcp_in_cwnd_reduction, tcp_slow_start_after_idle_check
from ustack.tcp.ecn import tcp_ecn_rcv_ecn_echo
from ustack.tcp.mss import tcp_sync_mss
from ustack.tcp.output import tcp_push
from ustack.tcp.pacing import tcp_update_pacing_rate
from ustack.tcp.prr import tcp_cwnd_reduction
from ustack.tcp.rack import tcp_rack_update_reo_wnd
from ustack.tcp.rate import tcp_rate_gen
from ustack.tcp.recovery import tcp_fastretrans_alert
from ustack.tcp.retransmit import tcp_xmit_retransmit_queue
from ustack.tcp.rtt import tcp_probe0_when
from ustack.tcp.sack import tcp_sacktag_write_queue
from ustack.tcp.scoreboard import tcp_count_delivered, tcp_highest_sack_seq
from ustack.tcp.seq import after, before, distance
from ustack.tcp.timeout import tcp_clamp_to_user_timeout
from ustack.tcp.tlp import tcp_process_tlp_ack, tcp_set_xmit_timer
from ustack.tcp.trace import WindowGiven, ack_facts
from ustack.trace.given import Numbers
from ustack.trace.points import Point
from ustack.wire.tcp import TCPHDR_SYN, TcpHeader

#: What tcp_ack found.
ACK_OLD: Final = 0  #: acceptable, but acknowledges nothing new
ACK_NEW: Final = 1
ACK_TOO_OLD: Final = -1  #: RFC 5961 section 5.2: a challenge ACK was sent
ACK_UNSENT: Final = -2  #: acknowledges what we never sent


def tcp_ack(tp: TcpControl, th: TcpHeader, length: i64) -> i64:
    """Process th.ack_seq of a segment that takes ``length`` sequence numbers; the caller has checked where it lies.

    The segment's SACK blocks are in ``tp.rx_sacks``.
    """
    ack = th.ack_seq
    prior_una = tp.snd_una
    state = tp.tables.ack_state
    state.reset()
    if before(ack, prior_una):
        return tcp_old_ack(tp, th, state)
    if after(ack, tp.snd_nxt):
        return ACK_UNSENT
    advanced = ack != prior_una
    if advanced:
        state.flag = FLAG_SND_UNA_ADVANCED
        tp.retransmits = 0
    prior_packets = tp.packets_out
    prior_fack = tcp_highest_sack_seq(tp) if tp.sack_ok else prior_una
    prior_lost = tp.lost
    prior_delivered = tp.delivered
    was_reneging = tp.is_sack_reneg
    state.rate.prior_in_flight = tp.tcp_packets_in_flight()
    take_ack(tp, th, state, length, prior_una)
    tp.err_soft = 0
    tp.probes_out = 0
    tp.rcv_tstamp = tp.net.now
    if prior_packets == 0:
        tcp_ack_no_queue(tp, ack, state, prior_una, prior_delivered)
        return ACK_NEW if advanced else ACK_OLD
    tcp_clean_rtx_queue(tp, state, prior_fack, prior_una)
    tcp_rack_update_reo_wnd(tp, state.rate)
    tcp_in_ack_event(tp, state.flag)
    if tp.tlp_high_seq:
        tcp_process_tlp_ack(tp, ack, state.flag)
    if tcp_ack_is_dubious(state.flag, tp.ca_state == TCP_CA_OPEN):
        dupacks = 1 if not state.flag & (FLAG_SND_UNA_ADVANCED | FLAG_NOT_DUP | FLAG_DSACKING_ACK) else 0
        tcp_fastretrans_alert(tp, state, prior_una, dupacks)
    if state.flag & FLAG_SET_XMIT_TIMER:
        tcp_set_xmit_timer(tp)
    if state.flag & FLAG_FORWARD_PROGRESS or not state.flag & FLAG_NOT_DUP:
        confirm_neighbour(tp)
    delivered = tcp_newly_delivered(tp, prior_delivered, state.flag)
    state.rate.is_ack_delayed = state.flag & FLAG_ACK_MAYBE_DELAYED != 0
    tcp_rate_gen(tp, delivered, tp.lost - prior_lost, was_reneging, state.rate)
    tcp_cong_control(tp, ack, delivered, state)
    if tp.net.tracer is not None and tp.net.tracer.current is not None:
        decision = "acknowledges new data" if advanced else "nothing new"
        tp.net.tracer.here(Point.TCP_ACK, decision, ack_facts(tp, state, prior_una, prior_lost))
    tcp_xmit_recovery(tp, state.rexmit)
    return ACK_NEW if advanced else ACK_OLD


def take_ack(tp: TcpControl, th: TcpHeader, state: AckState, length: i64, prior_una: i64) -> None:
    """What the header says beside the number: window, SACK, ECN; then SND.UNA moves."""
    if length:
        state.flag |= FLAG_DATA
    tcp_ack_update_window(tp, th, state)
    if th.ack_seq != prior_una:
        tp.bytes_acked += distance(prior_una, th.ack_seq)
        tp.snd_una = th.ack_seq
    sacks = tp.rx_sacks
    if sacks and tp.sack_ok:
        state.flag |= FLAG_SLOWPATH
        tcp_sacktag_write_queue(tp, sacks, th.ack_seq, prior_una, state)
    if tcp_ecn_rcv_ecn_echo(tp, th):
        state.flag |= FLAG_ECE
    if state.sack_delivered:
        tcp_count_delivered(tp, state.sack_delivered, state.flag & FLAG_ECE != 0)


def tcp_old_ack(tp: TcpControl, th: TcpHeader, state: AckState) -> i64:
    """An ACK below SND.UNA was overtaken: its SACK blocks may still be news.

    RFC 5961 5.2: "The ACK value is considered acceptable only if it is in the range of
    ((SND.UNA - MAX.SND.WND) <= SEG.ACK <= SND.NXT)"; nor for bytes that were never sent.
    """
    una = tp.snd_una
    if tp.net.tracer is not None:
        tp.net.tracer.here(Point.TCP_OLD_ACK, "older than the last", Numbers("ack", th.ack_seq, "snd_una", una))
    if distance(th.ack_seq, una) > min(tp.max_window, tp.bytes_acked):
        tcp_send_challenge_ack(tp)
        return ACK_TOO_OLD
    sacks = tp.rx_sacks
    if sacks and tp.sack_ok:
        prior_delivered = tp.delivered
        tcp_sacktag_write_queue(tp, sacks, th.ack_seq, una, state)  # as Linux, tp.delivered does not hear of it
        tcp_fastretrans_alert(tp, state, una, 0)
        tcp_newly_delivered(tp, prior_delivered, state.flag)
        tcp_xmit_recovery(tp, state.rexmit)
    return ACK_OLD


def tcp_ack_no_queue(tp: TcpControl, ack: i64, state: AckState, prior_una: i64, prior_delivered: i64) -> None:
    """Nothing was in flight: a D-SACK may still undo a reduction, and the window may have opened."""
    if tp.net.tracer is not None:
        tp.net.tracer.here(Point.TCP_ACK_NO_QUEUE, "nothing was in flight", WindowGiven(tp))
    tcp_in_ack_event(tp, state.flag)
    if state.flag & FLAG_DSACKING_ACK:
        tcp_fastretrans_alert(tp, state, prior_una, 0)
        tcp_newly_delivered(tp, prior_delivered, state.flag)
    tcp_ack_probe(tp)
    if tp.tlp_high_seq:
        tcp_process_tlp_ack(tp, ack, state.flag)


def tcp_syn_acked(tp: TcpControl) -> None:
    """The handshake has moved SND.UNA by itself: take what it covers off the queue, the SYN first of all."""
    head = tp.rtx_head()
    if head is None:
        return
    prior_una = head.seq
    state = tp.tables.ack_state
    state.reset()
    state.flag = FLAG_SND_UNA_ADVANCED
    prior_delivered = tp.delivered
    tp.bytes_acked += distance(prior_una, tp.snd_una)
    tcp_clean_rtx_queue(tp, state, prior_una, prior_una)
    if tp.ca_state != TCP_CA_OPEN:
        tcp_fastretrans_alert(tp, state, prior_una, 0)
    tcp_newly_delivered(tp, prior_delivered, state.flag)
    tcp_rate_gen(tp, tp.delivered - prior_delivered, 0, False, state.rate)
    if state.flag & FLAG_SET_XMIT_TIMER:
        tcp_set_xmit_timer(tp)
    if not tp.congestion.has_cong_control:
        tcp_update_pacing_rate(tp)


# -- the window


def tcp_ack_update_window(tp: TcpControl, th: TcpHeader, state: AckState) -> None:
    """Take the peer's window from a segment not older than the last that gave one.

    RFC 9293 3.10.7.4: "If SND.UNA =< SEG.ACK =< SND.NXT, the send window should be updated" when SEG.SEQ and SEG.ACK
    are newer than SND.WL1 and SND.WL2; as in Linux an ACK that advances, or opens the window, counts as newer.
    """
    window = th.window if th.flags & TCPHDR_SYN else th.window << tp.snd_wscale
    if not tcp_may_update_window(tp, th, window):
        return
    state.flag |= FLAG_WIN_UPDATE
    tp.snd_wl1 = th.seq
    if window == tp.snd_wnd:
        return
    tp.snd_wnd = window
    if tp.write_queue:
        tcp_slow_start_after_idle_check(tp)  # what waited for the window is as old as an idle one's
    if window > tp.max_window:
        tp.max_window = window
        tcp_sync_mss(tp, tp.pmtu)


def tcp_may_update_window(tp: TcpControl, th: TcpHeader, window: i64) -> bool:
    """True if the segment is not older than the last that gave a window, and says something new."""
    return (
        after(th.ack_seq, tp.snd_una)
        or after(th.seq, tp.snd_wl1)
        or (th.seq == tp.snd_wl1 and (window > tp.snd_wnd or window == 0))
    )


def tcp_ack_probe(tp: TcpControl) -> None:
    """Nothing in flight and data waits: stop probing if the window has opened, else go on (tcp_ack_probe)."""
    head = tp.send_head()
    if head is None:
        return
    if not after(head.end_seq, tp.tcp_wnd_end()):
        tp.backoff = 0
        tp.probes_tstamp = 0
        if tp.icsk_pending == ICSK_TIME_PROBE0:
            tp.clear_xmit_timer()
    else:
        when = tcp_clamp_to_user_timeout(tp, tcp_probe0_when(tp), tp.probes_tstamp)
        tp.reset_xmit_timer(ICSK_TIME_PROBE0, when)


# -- the congestion window


def tcp_in_ack_event(tp: TcpControl, flag: i64) -> None:
    """Tell the algorithm that an ACK is being processed."""
    ack_flags: i64 = 0
    if flag & FLAG_SLOWPATH:
        ack_flags |= CA_ACK_SLOWPATH
    if flag & FLAG_WIN_UPDATE:
        ack_flags |= CA_ACK_WIN_UPDATE
    if flag & FLAG_ECE:
        ack_flags |= CA_ACK_ECE
    tp.congestion.in_ack_event(tp, ack_flags)


def tcp_newly_delivered(tp: TcpControl, prior_delivered: i64, flag: i64) -> i64:
    """How many packets this ACK told the arrival of."""
    delivered = tp.delivered - prior_delivered
    mib = tp.net.mib.tcpext
    mib.TCPDelivered += delivered
    if flag & FLAG_ECE:
        mib.TCPDeliveredCE += delivered
    return delivered


def tcp_cong_control(tp: TcpControl, ack: i64, acked_sacked: i64, state: AckState) -> None:
    """The window after this ACK: the algorithm's own way, PRR while it is being reduced, else it may grow."""
    if tp.congestion.has_cong_control:
        tp.congestion.cong_control(tp, ack, state.flag, state.rate)
        return
    if tcp_in_cwnd_reduction(tp):
        tcp_cwnd_reduction(tp, acked_sacked, state.rate.losses, state.flag)
    elif tcp_may_raise_cwnd(tp, state.flag):
        tp.congestion.cong_avoid(tp, ack, acked_sacked)
        tp.snd_cwnd_stamp = tp.net.now
    tcp_update_pacing_rate(tp)


def tcp_may_raise_cwnd(tp: TcpControl, flag: i64) -> bool:
    """Any progress, if the network is known to reorder; else only what is acknowledged."""
    if tp.reordering > tp.net.sysctl.tcp_reordering:
        return flag & FLAG_FORWARD_PROGRESS != 0
    return flag & FLAG_DATA_ACKED != 0


def tcp_xmit_recovery(tp: TcpControl, rexmit: i64) -> None:
    """Send what recovery asks for, now that cwnd is known."""
    if rexmit == REXMIT_NONE or tp.state == TCP_SYN_SENT:
        return
    if rexmit == REXMIT_NEW:
        tcp_push(tp, TCP_NAGLE_OFF)
        if after(tp.snd_nxt, tp.high_seq):
            return
        tp.frto = False
    tcp_xmit_retransmit_queue(tp)


def confirm_neighbour(tp: TcpControl) -> None:
    """Forward progress proves that the next hop receives (RFC 1122 section 2.3.2.1 (3); sk_dst_confirm)."""
    dst = tp.dst_cache
    if dst is not None:
        tp.tables.neighbours.confirm(rt_nexthop(dst, tp.daddr), dst.dev)
