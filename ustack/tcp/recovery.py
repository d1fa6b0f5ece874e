"""What an ACK means for loss recovery (RFC 5681, 6582, 6675, 8985, 5682; Linux tcp_fastretrans_alert).

Open      nothing is amiss
Disorder  something is sacked, or a duplicate ACK came: perhaps only reordered
CWR       the window is being reduced, for ECN or a full queue, without loss
Recovery  something is lost, and is sent again at the pace of PRR
Loss      the timer fired: slow start from one segment, unless it turns out (F-RTO) that nothing was lost
"""

from __future__ import annotations

from mypy_extensions import i64

from ustack.tcp.ack_state import (
    FLAG_DATA_SACKED,
    FLAG_ECE,
    FLAG_LOST_RETRANS,
    FLAG_ORIG_SACK_ACKED,
    FLAG_SACK_RENEGING,
    FLAG_SET_XMIT_TIMER,
    FLAG_SND_UNA_ADVANCED,
    REXMIT_LOST,
    REXMIT_NEW,
    AckState,
)
from ustack.tcp.control import (
    ICSK_TIME_RETRANS,
    TCP_CA_CWR,
    TCP_CA_DISORDER,
    TCP_CA_LOSS,
    TCP_CA_OPEN,
    TCP_CA_RECOVERY,
    TcpControl,
)
from ustack.tcp.cwnd import tcp_current_ssthresh, tcp_in_cwnd_reduction
from ustack.tcp.mtu import tcp_mtup_probe_failed
from ustack.tcp.newreno import (
    tcp_add_reno_sack,
    tcp_newreno_mark_lost,
)
from ustack.tcp.prr import tcp_cwnd_reduction, tcp_end_cwnd_reduction, tcp_init_cwnd_reduction, tcp_set_ca_state
from ustack.tcp.rack import tcp_rack_detect_loss, tcp_rack_mark_lost
from ustack.tcp.retransmit import tcp_simple_retransmit, tcp_xmit_retransmit_queue
from ustack.tcp.rtt import tcp_rearm_rto, tcp_update_rto_time
from ustack.tcp.scoreboard import tcp_retrans_stamp_cleanup
from ustack.tcp.seq import after, before
from ustack.tcp.undo import (
    tcp_init_undo,
    tcp_try_to_open,
    tcp_try_undo_dsack,
    tcp_try_undo_loss,
    tcp_try_undo_partial,
    tcp_try_undo_recovery,
)
from ustack.timer import NSEC_PER_MSEC


def tcp_fastretrans_alert(tp: TcpControl, state: AckState, prior_snd_una: i64, dupacks: i64) -> None:
    """An ACK that tells of trouble, or any ACK outside the open state; ``dupacks``: it is so many duplicate ones.

    It only marks what is lost; tcp_ack sends it again once it has seen to cwnd, as ``state.rexmit`` says.
    """
    if tp.packets_out == 0:
        tp.sacked_out = 0
    if state.flag & FLAG_ECE:
        tp.prior_ssthresh = 0  # congestion is certain: nothing to undo
    if tcp_check_sack_reneging(tp, state):
        return
    if tp.ca_state == TCP_CA_OPEN:
        tp.retrans_stamp = 0
    elif not before(tp.snd_una, tp.high_seq) and leave_state(tp):
        return
    if tp.ca_state == TCP_CA_RECOVERY:
        go_on = in_recovery(tp, state, prior_snd_una, dupacks)
    elif tp.ca_state == TCP_CA_LOSS:
        go_on = in_loss(tp, state, dupacks)
    else:
        go_on = watch_for_loss(tp, state, dupacks)
    if go_on:
        state.rexmit = REXMIT_LOST


def leave_state(tp: TcpControl) -> bool:
    """All that was sent before the trouble is acknowledged. True: that is all this ACK means."""
    if tp.ca_state == TCP_CA_CWR:
        # something above high_seq must be acknowledged, so that the peer has seen CWR
        if tp.snd_una != tp.high_seq:
            tcp_end_cwnd_reduction(tp)
            tcp_set_ca_state(tp, TCP_CA_OPEN)
    elif tp.ca_state == TCP_CA_RECOVERY:
        if not tp.sack_ok:
            tp.sacked_out = 0
        if tcp_try_undo_recovery(tp):
            return True
        tcp_end_cwnd_reduction(tp)
    return False


def in_recovery(tp: TcpControl, state: AckState, prior_snd_una: i64, dupacks: i64) -> bool:
    """True to send again what is lost. Undoing ends recovery; what is still lost begins another one."""
    if not state.flag & FLAG_SND_UNA_ADVANCED:
        if not tp.sack_ok:
            tcp_add_reno_sack(tp, dupacks, state.flag & FLAG_ECE != 0)
    elif tcp_try_undo_partial(tp, prior_snd_una):
        return False
    if tcp_try_undo_dsack(tp):
        tcp_try_to_open(tp, state.flag)
    tcp_identify_packet_loss(tp, state)
    if tp.ca_state != TCP_CA_RECOVERY:
        if tp.lost_out == 0:
            return False
        tcp_enter_recovery(tp, state.flag & FLAG_ECE != 0)
    return True


def in_loss(tp: TcpControl, state: AckState, dupacks: i64) -> bool:
    """After a timeout; on as in any other state once it is undone, or a retransmission was lost too."""
    tcp_process_loss(tp, state, dupacks)
    if tp.ca_state != TCP_CA_LOSS:
        tcp_update_rto_time(tp)
    tcp_identify_packet_loss(tp, state)
    if tp.ca_state != TCP_CA_OPEN and not state.flag & FLAG_LOST_RETRANS:
        return False
    return watch_for_loss(tp, state, dupacks)


def watch_for_loss(tp: TcpControl, state: AckState, dupacks: i64) -> bool:
    """Open, Disorder or CWR: is something lost? True to send it again."""
    if not tp.sack_ok:
        if state.flag & FLAG_SND_UNA_ADVANCED:
            tp.sacked_out = 0
        tcp_add_reno_sack(tp, dupacks, state.flag & FLAG_ECE != 0)
    if tp.ca_state <= TCP_CA_DISORDER:
        tcp_try_undo_dsack(tp)
    tcp_identify_packet_loss(tp, state)
    if tp.lost_out == 0:
        tcp_try_to_open(tp, state.flag)
        return False
    if tp.ca_state < TCP_CA_CWR and tp.mtup_probe_size and tp.snd_una == tp.mtu_probe_seq_start:
        # the probe of the MTU was lost for its size: that is no congestion
        tcp_mtup_probe_failed(tp)
        tp.snd_cwnd += 1
        tcp_simple_retransmit(tp)
        return False
    tcp_enter_recovery(tp, state.flag & FLAG_ECE != 0)
    return True


def tcp_check_sack_reneging(tp: TcpControl, state: AckState) -> bool:
    """The head of the queue was sacked before and is not acknowledged: the peer may have dropped it.

    RFC 2018 section 8: "The data receiver is permitted to discard data in its queue that has not been acknowledged".
    A slow peer is given a moment; then the timer forgets all SACKs.
    """
    if not state.flag & FLAG_SACK_RENEGING or not state.flag & FLAG_SND_UNA_ADVANCED:
        return False
    tp.reset_xmit_timer(ICSK_TIME_RETRANS, max(tp.srtt >> 1, 10 * NSEC_PER_MSEC))
    state.flag &= ~FLAG_SET_XMIT_TIMER
    return True


def tcp_identify_packet_loss(tp: TcpControl, state: AckState) -> None:
    """Mark what is lost: by RACK, without SACK by counting duplicate ACKs."""
    if tp.rtx_head() is None:
        return
    if not tp.sack_ok:
        tcp_newreno_mark_lost(tp, state.flag & FLAG_SND_UNA_ADVANCED != 0)
        return
    prior_retrans = tp.retrans_out
    if tcp_rack_mark_lost(tp):
        state.flag &= ~FLAG_SET_XMIT_TIMER
    if prior_retrans > tp.retrans_out:
        state.flag |= FLAG_LOST_RETRANS


def tcp_enter_recovery(tp: TcpControl, ece_ack: bool) -> None:
    """Something is lost: reduce the window, once for one window of data (RFC 6675 section 5 (4))."""
    tcp_retrans_stamp_cleanup(tp)
    mib = tp.net.mib.tcpext
    if tp.sack_ok:
        mib.TCPSackRecovery += 1
    else:
        mib.TCPRenoRecovery += 1
    tp.prior_ssthresh = 0
    tcp_init_undo(tp)
    if not tcp_in_cwnd_reduction(tp):
        if not ece_ack:
            tp.prior_ssthresh = tcp_current_ssthresh(tp)
        tcp_init_cwnd_reduction(tp)
    tcp_set_ca_state(tp, TCP_CA_RECOVERY)


def tcp_rack_reo_timeout(tp: TcpControl) -> None:
    """What was perhaps only reordered has had its time (RFC 8985 6.2 step 5; the timer)."""
    prior_in_flight = tp.tcp_packets_in_flight()
    prior_lost = tp.lost
    tcp_rack_detect_loss(tp)
    if prior_in_flight != tp.tcp_packets_in_flight():
        if tp.ca_state != TCP_CA_RECOVERY:
            tcp_enter_recovery(tp, False)
            if not tp.congestion.has_cong_control:
                tcp_cwnd_reduction(tp, 1, tp.lost - prior_lost, 0)
        tcp_xmit_retransmit_queue(tp)
    if tp.icsk_pending != ICSK_TIME_RETRANS:
        tcp_rearm_rto(tp)


# -- after a timeout


def tcp_process_loss(tp: TcpControl, state: AckState, dupacks: i64) -> None:
    """One ACK in the loss state; ``state.rexmit`` is what to send for it."""
    flag = state.flag
    recovered = not before(tp.snd_una, tp.high_seq)
    if (flag & FLAG_SND_UNA_ADVANCED or tp.fastopen_rsk is not None) and tcp_try_undo_loss(tp, False):
        return
    if tp.frto and tcp_process_frto(tp, state, dupacks, recovered):
        return
    if recovered:
        tcp_try_undo_recovery(tp)
        return
    if not tp.sack_ok:
        if after(tp.snd_nxt, tp.high_seq) and dupacks:
            tcp_add_reno_sack(tp, dupacks, flag & FLAG_ECE != 0)
        elif flag & FLAG_SND_UNA_ADVANCED:
            tp.sacked_out = 0
    state.rexmit = REXMIT_LOST


def tcp_process_frto(tp: TcpControl, state: AckState, dupacks: i64, recovered: bool) -> bool:
    """F-RTO: was the timeout spurious? True: this ACK asks for no more (RFC 5682 sections 2.1 and 3.1).

    (3b) "If the acknowledgment [...] newly acknowledges segments that were not retransmitted after the timeout": it
    was. (2b) the first ACK that advances: "transmit up to two new (previously unsent) segments", if there are any.
    (3a) a duplicate ACK after that: the loss was real.
    """
    flag = state.flag
    if flag & FLAG_ORIG_SACK_ACKED and tcp_try_undo_loss(tp, True):
        return True
    if after(tp.snd_nxt, tp.high_seq):
        if flag & FLAG_DATA_SACKED or dupacks:
            tp.frto = False
    elif flag & FLAG_SND_UNA_ADVANCED and not recovered:
        tp.high_seq = tp.snd_nxt
        if tp.write_queue and after(tp.tcp_wnd_end(), tp.snd_nxt):
            state.rexmit = REXMIT_NEW
            return True
        tp.frto = False
    return False
