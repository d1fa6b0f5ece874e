"""SYN_RECV: the ACK that ends a handshake (RFC 9293 section 3.10.7.4, fifth step; Linux tcp_rcv_state_process).

Three kinds come here: a socket made of a request by this very ACK, one of a simultaneous open, and one that Fast Open
has made of a SYN.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ustack.sock import SEND_SHUTDOWN
from ustack.tcp.accept import tcp_accept_queue_add
from ustack.tcp.ack import tcp_ack, tcp_syn_acked
from ustack.tcp.close import tcp_shutdown
from ustack.tcp.connect import tcp_init_transfer, tcp_try_undo_spurious_syn
from ustack.tcp.control import ICSK_ACK_NOW, ICSK_ACK_SCHED
from ustack.tcp.fastopen import tcp_rcv_synrecv_state_fastopen
from ustack.tcp.mss import tcp_sync_mss
from ustack.tcp.notify import STATE_CHANGE, WRITE_SPACE, tcp_wake
from ustack.tcp.pacing import tcp_update_pacing_rate
from ustack.tcp.rtt import tcp_synack_rtt_meas
from ustack.tcp.sack_out import tcp_dsack_set
from ustack.tcp.seq import between
from ustack.tcp.states import Event
from ustack.wire.tcp import TCPHDR_SYN

if TYPE_CHECKING:
    from ustack.tcp.control import TcpControl
    from ustack.wire.tcp import TcpHeader


def tcp_synrecv_ack(tp: TcpControl, th: TcpHeader) -> bool:
    """RFC 9293: "If SND.UNA < SEG.ACK =< SND.NXT, then enter ESTABLISHED state". False: a RST is due."""
    if not between(th.ack_seq, (tp.iss + 1) & 0xFFFF_FFFF, tp.snd_nxt):
        return False
    if tp.fastopen_rsk is not None:
        fastopen_acked(tp, th)
    elif tp.parent is not None:
        passive_acked(tp, th)
        tcp_accept_queue_add(tp)
    else:
        crossed_acked(tp, th)
    if not tp.congestion.has_cong_control:
        tcp_update_pacing_rate(tp)
    if tp.shutdown & SEND_SHUTDOWN:
        tcp_shutdown(tp, SEND_SHUTDOWN)  # the user has ended it before there was anything to end
    return True


def passive_acked(tp: TcpControl, th: TcpHeader) -> None:
    """A request has just become a socket."""
    tp.move(Event.RCV_ACK_OF_SYN)
    tp.snd_una = th.ack_seq
    tp.snd_wl1 = th.seq
    tp.snd_wnd = tp.max_window = th.window << tp.snd_wscale
    tcp_sync_mss(tp, tp.pmtu)
    tp.rcv_tstamp = tp.net.now
    tp.delivered += 1  # the SYN-ACK was in no queue
    tp.bytes_acked += 1
    tcp_synack_rtt_meas(tp, tp.net.now - tp.lsndtime if tp.lsndtime else -1)
    tcp_try_undo_spurious_syn(tp)
    tcp_init_transfer(tp)


def crossed_acked(tp: TcpControl, th: TcpHeader) -> None:
    """Both have called (RFC 9293 figure 8): our SYN, which is in flight, is acknowledged at last."""
    tp.move(Event.RCV_ACK_OF_SYN)
    tp.snd_una = th.ack_seq
    tp.rcv_tstamp = tp.net.now
    tcp_try_undo_spurious_syn(tp)
    tcp_syn_acked(tp)
    tp.snd_wl1 = th.seq
    # RFC 7323 2.2: the window of a segment with SYN is never scaled
    tp.snd_wnd = tp.max_window = th.window if th.flags & TCPHDR_SYN else th.window << tp.snd_wscale
    tcp_sync_mss(tp, tp.pmtu)
    tcp_init_transfer(tp)
    tcp_wake(tp, STATE_CHANGE | WRITE_SPACE)
    if th.flags & TCPHDR_SYN:
        # their SYN has come twice: like anything else that has, it is answered at once
        tp.net.mib.tcpext.DelayedACKLost += 1
        tcp_dsack_set(tp, th.seq, (th.seq + 1) & 0xFFFF_FFFF)
        tp.ack_pending |= ICSK_ACK_SCHED | ICSK_ACK_NOW


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
