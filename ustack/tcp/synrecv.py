"""SYN_RECV: the ACK that ends a handshake (RFC 9293 section 3.10.7.4, fifth step; Linux tcp_rcv_state_process).

Three kinds come here: a socket made of a request by this very ACK, one of a simultaneous open, and one that Fast Open
has made of a SYN.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ustack.sock import SEND_SHUTDOWN
from ustack.tcp.accept import tell_listener
from ustack.tcp.ack import tcp_ack, tcp_syn_acked
from ustack.tcp.close import tcp_shutdown
from ustack.tcp.connect import tcp_init_transfer, tcp_try_undo_spurious_syn
from ustack.tcp.control import ICSK_ACK_SCHED, TCP_MAX_QUICKACKS
from ustack.tcp.fastopen import tcp_rcv_synrecv_state_fastopen
from ustack.tcp.mss import tcp_sync_mss
from ustack.tcp.notify import STATE_CHANGE, WRITE_SPACE, tcp_wake
from ustack.tcp.pacing import tcp_update_pacing_rate
from ustack.tcp.rtt import tcp_synack_rtt_meas
from ustack.tcp.sack_out import tcp_dsack_set
from ustack.tcp.seq import between
from ustack.tcp.states import Event
from ustack.tcp.window import tcp_reserve_timestamps, tcp_settle_window_scale
from ustack.wire.tcp import TCPHDR_FIN, TCPHDR_SYN

if TYPE_CHECKING:
    from ustack.tcp.control import TcpControl
    from ustack.wire.tcp import TcpHeader


def tcp_synrecv_acceptable(tp: TcpControl, th: TcpHeader) -> bool:
    """RFC 9293: "If SND.UNA < SEG.ACK =< SND.NXT". False: a RST is due."""
    return between(th.ack_seq, (tp.iss + 1) & 0xFFFF_FFFF, tp.snd_nxt)


def tcp_synrecv_ack(tp: TcpControl, th: TcpHeader) -> None:
    """ "then enter ESTABLISHED state and continue processing"."""
    if th.end == th.payload and not th.flags & (TCPHDR_SYN | TCPHDR_FIN):
        tp.net.mib.tcpext.TCPPureAcks += 1
    tcp_reserve_timestamps(tp)
    if tp.fastopen_rsk is not None:
        fastopen_acked(tp, th)
    elif tp.rtx_head() is None:  # our SYN was a request's
        passive_acked(tp, th)
        tell_listener(tp)
    else:
        crossed_acked(tp, th)
    if th.flags & TCPHDR_SYN:
        # their SYN has come twice: like anything else that has, it is answered at once
        tp.net.mib.tcpext.DelayedACKLost += 1
        tcp_dsack_set(tp, th.seq, (th.seq + 1) & 0xFFFF_FFFF)
        tp.enter_quickack_mode(TCP_MAX_QUICKACKS)
        tp.ack_pending |= ICSK_ACK_SCHED
    if not tp.congestion.has_cong_control:
        tcp_update_pacing_rate(tp)
    if tp.shutdown & SEND_SHUTDOWN:
        tcp_shutdown(tp, SEND_SHUTDOWN)  # the user has ended it before there was anything to end


def passive_acked(tp: TcpControl, th: TcpHeader) -> None:
    """A request has just become a socket."""
    tp.move(Event.RCV_ACK_OF_SYN)
    tp.snd_una = th.ack_seq
    tp.snd_wl1 = th.seq
    tp.snd_wnd = tp.max_window = th.window << tp.snd_wscale
    tcp_sync_mss(tp, tp.pmtu)
    tp.rcv_tstamp = tp.net.now
    tp.delivered += 1  # the SYN-ACK was in no queue
    tcp_synack_rtt_meas(tp, tp.net.now - tp.lsndtime if tp.lsndtime else -1)
    tcp_try_undo_spurious_syn(tp)
    tcp_init_transfer(tp)


def crossed_acked(tp: TcpControl, th: TcpHeader) -> None:
    """Both have called (RFC 9293 figure 8): our SYN, which is in flight, is acknowledged at last."""
    tp.move(Event.RCV_ACK_OF_SYN)
    tcp_settle_window_scale(tp)
    tp.snd_una = th.ack_seq
    tp.rcv_tstamp = tp.net.now
    tp.delivered += 1  # once more: our SYN, which leaves its queue, is the SYN-ACK too
    tcp_try_undo_spurious_syn(tp)
    tcp_syn_acked(tp)
    tp.snd_wl1 = th.seq
    # RFC 7323 2.2: the window of a segment with SYN is never scaled. Linux knows that for the largest window seen, but
    # takes a SYN-ACK's for a scaled one until the next ACK
    tp.snd_wnd = th.window << tp.snd_wscale
    tp.max_window = max(tp.max_window, th.window if th.flags & TCPHDR_SYN else tp.snd_wnd)
    tcp_sync_mss(tp, tp.pmtu)
    tcp_init_transfer(tp)
    tcp_wake(tp, STATE_CHANGE | WRITE_SPACE)


def fastopen_acked(tp: TcpControl, th: TcpHeader) -> None:
    """Data may have been sent meanwhile: the ACK is for it too."""
    req = tp.fastopen_rsk
    assert req is not None
    tp.delivered += 1
    if tp.srtt == 0 and tp.total_retrans == 0:
        tcp_synack_rtt_meas(tp, tp.net.now - req.sent_at)
    tcp_ack(tp, th, th.end - th.payload)
    tcp_rcv_synrecv_state_fastopen(tp)
    tp.move(Event.RCV_ACK_OF_SYN)
    tp.snd_wl1 = th.seq
    tp.snd_wnd = th.window << tp.snd_wscale
    tp.lsndtime = tp.net.now
    tcp_wake(tp, STATE_CHANGE | WRITE_SPACE)
