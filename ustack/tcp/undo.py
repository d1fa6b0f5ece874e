"""Taking a reduction of the window back when the loss was none (Linux tcp_try_undo_*).

Two witnesses: the timestamp option, which says that what arrived was sent before the first retransmission (Eifel, RFC
3522 and RFC 4015), and D-SACK for every retransmission (RFC 3708). F-RTO is a third one, in recovery.py.
"""

from __future__ import annotations

from typing import Final

from mypy_extensions import i64

from ustack.sock import TCP_SYN_SENT
from ustack.tcp.ack_state import FLAG_ECE
from ustack.tcp.control import TCP_CA_CWR, TCP_CA_DISORDER, TCP_CA_LOSS, TCP_CA_OPEN, TcpControl
from ustack.tcp.ecn import tcp_ecn_withdraw_cwr
from ustack.tcp.newreno import tcp_is_non_sack_preventing_reopen
from ustack.tcp.prr import tcp_enter_cwr, tcp_set_ca_state
from ustack.tcp.rack import TCP_RACK_RECOVERY_THRESH
from ustack.tcp.reordering import tcp_check_sack_reordering
from ustack.tcp.scoreboard import tcp_any_retrans_done, tcp_left_out, tcp_retrans_stamp_cleanup, tcp_tsopt_ecr_before
from ustack.tcp.segment import TCPCB_LOST
from ustack.tcp.seq import before

#: undo_retrans: nothing was retransmitted yet, which is not "all that was has been shown to be needless".
NOTHING_YET: Final[i64] = -1


def tcp_init_undo(tp: TcpControl) -> None:
    """Remember what a later undo needs: the retransmissions in flight, the loss probe among them."""
    tp.undo_marker = tp.snd_una
    tp.undo_retrans = tp.retrans_out
    if tp.tlp_high_seq and tp.tlp_retrans:
        tp.undo_retrans += 1
    if tp.undo_retrans == 0:
        tp.undo_retrans = NOTHING_YET


def tcp_packet_delayed(tp: TcpControl) -> bool:
    """True if what was just acknowledged had been sent before the first retransmission: delayed, not lost."""
    if tp.retrans_stamp:
        return tcp_tsopt_ecr_before(tp, tp.retrans_stamp)
    # nothing was retransmitted yet, or the stamp was cleared where that says nothing
    if not tp.sack_ok and not before(tp.snd_una, tp.high_seq):
        return False
    return tp.state != TCP_SYN_SENT


def tcp_may_undo(tp: TcpControl) -> bool:
    return tp.undo_marker != 0 and (tp.undo_retrans == 0 or tcp_packet_delayed(tp))


def tcp_undo_cwnd_reduction(tp: TcpControl, unmark_loss: bool) -> None:
    """The window as it was before; with ``unmark_loss`` nothing is taken for lost any more."""
    if unmark_loss:
        for skb in tp.in_flight():
            skb.sacked &= ~TCPCB_LOST
        tp.lost_out = 0
        tp.retransmit_skb_hint = None
    if tp.prior_ssthresh:
        tp.snd_cwnd = tp.congestion.undo_cwnd(tp)
        if tp.prior_ssthresh > tp.snd_ssthresh:
            tp.snd_ssthresh = tp.prior_ssthresh
            tcp_ecn_withdraw_cwr(tp)
    tp.snd_cwnd_stamp = tp.net.now
    tp.undo_marker = 0
    tp.rack_advanced = True  # what is lost is judged anew


def tcp_try_undo_recovery(tp: TcpControl) -> bool:
    """All of the window is acknowledged: undo if it all was needless. True: the state is held nevertheless."""
    if tcp_may_undo(tp):
        was_loss = tp.ca_state == TCP_CA_LOSS
        tcp_undo_cwnd_reduction(tp, False)
        if was_loss:
            tp.net.mib.tcpext.TCPLossUndo += 1
        else:
            tp.net.mib.tcpext.TCPFullUndo += 1
    elif tp.rack_reo_wnd_persist:
        tp.rack_reo_wnd_persist -= 1
    if tcp_is_non_sack_preventing_reopen(tp):
        return True
    tcp_set_ca_state(tp, TCP_CA_OPEN)
    tp.is_sack_reneg = False
    return False


def tcp_try_undo_dsack(tp: TcpControl) -> bool:
    """D-SACK came for every retransmission."""
    if tp.undo_marker == 0 or tp.undo_retrans != 0:
        return False
    tp.rack_reo_wnd_persist = min(TCP_RACK_RECOVERY_THRESH, tp.rack_reo_wnd_persist + 1)
    tcp_undo_cwnd_reduction(tp, False)
    tp.net.mib.tcpext.TCPDSACKUndo += 1
    return True


def tcp_try_undo_loss(tp: TcpControl, frto_undo: bool) -> bool:
    """The timeout was spurious: ``frto_undo`` if F-RTO says so. True: the window is what it was."""
    if not frto_undo and not tcp_may_undo(tp):
        return False
    tcp_undo_cwnd_reduction(tp, True)
    tp.net.mib.tcpext.TCPLossUndo += 1
    if frto_undo:
        tp.net.mib.tcpext.TCPSpuriousRTOs += 1
    tp.retransmits = 0
    if tcp_is_non_sack_preventing_reopen(tp):
        return True
    if frto_undo or tp.sack_ok:
        tcp_set_ca_state(tp, TCP_CA_OPEN)
        tp.is_sack_reneg = False
    return True


def tcp_try_undo_partial(tp: TcpControl, prior_snd_una: i64) -> bool:
    """A partial ACK in recovery of what was only delayed: undo. True: retransmissions are out, wait for them."""
    if tp.undo_marker == 0 or not tcp_packet_delayed(tp):
        return False
    # the hole was filled by the original: it was overtaken, that far
    tcp_check_sack_reordering(tp, prior_snd_una, True)
    if tp.retrans_out:
        return True
    tcp_retrans_stamp_cleanup(tp)
    tcp_undo_cwnd_reduction(tp, True)
    tp.net.mib.tcpext.TCPPartialUndo += 1
    tcp_try_keep_open(tp)
    return False


def tcp_try_keep_open(tp: TcpControl) -> None:
    """Open if nothing is amiss, disordered if something is sacked, lost or sent again."""
    state: i64 = TCP_CA_OPEN
    if tcp_left_out(tp) or tcp_any_retrans_done(tp):
        state = TCP_CA_DISORDER
    if tp.ca_state != state:
        tcp_set_ca_state(tp, state)
        tp.high_seq = tp.snd_nxt


def tcp_try_to_open(tp: TcpControl, flag: i64) -> None:
    """No reason to recover: what the ACK says beside that."""
    tcp_retrans_stamp_cleanup(tp)
    if flag & FLAG_ECE:
        tcp_enter_cwr(tp)
    if tp.ca_state != TCP_CA_CWR:
        tcp_try_keep_open(tp)
