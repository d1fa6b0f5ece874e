"""Loss without SACK: every duplicate ACK is one segment that has arrived (RFC 6582; Linux tcp_add_reno_sack, ...)."""

from __future__ import annotations

from mypy_extensions import i64

from ustack.tcp.control import TCP_CA_RECOVERY, TcpControl
from ustack.tcp.fragment import tcp_fragment_rtx
from ustack.tcp.scoreboard import tcp_count_delivered, tcp_mark_skb_lost, tcp_retrans_stamp_cleanup
from ustack.tcp.segment import TCPCB_LOST


def tcp_limit_reno_sacked(tp: TcpControl) -> bool:
    """No more can have arrived than are out beside the hole; True if more duplicate ACKs came than that."""
    holes = min(max(tp.lost_out, 1), tp.packets_out)
    if tp.sacked_out + holes > tp.packets_out:
        tp.sacked_out = tp.packets_out - holes
        return True
    return False


def tcp_check_reno_reordering(tp: TcpControl, addend: i64) -> None:
    """More duplicate ACKs than segments could have caused: the network reorders that far."""
    if not tcp_limit_reno_sacked(tp):
        return
    tp.reordering = min(tp.packets_out + addend, tp.net.sysctl.tcp_max_reordering)
    tp.reord_seen += 1
    tp.net.mib.tcpext.TCPRenoReorder += 1


def tcp_add_reno_sack(tp: TcpControl, dupacks: i64, ece_ack: bool) -> None:
    """``dupacks`` more segments have left the network."""
    if dupacks == 0:
        return
    prior = tp.sacked_out
    tp.sacked_out += dupacks
    tcp_check_reno_reordering(tp, 0)
    delivered = tp.sacked_out - prior
    if delivered > 0:
        tcp_count_delivered(tp, delivered, ece_ack)


def tcp_remove_reno_sacks(tp: TcpControl, acked: i64, ece_ack: bool) -> None:
    """``acked`` packets were acknowledged: "one ACK acked hole", the rest had been counted as duplicate ACKs."""
    if acked > 0:
        tcp_count_delivered(tp, max(acked - tp.sacked_out, 1), ece_ack)
        tp.sacked_out = max(tp.sacked_out - (acked - 1), 0)
    tcp_check_reno_reordering(tp, acked)


def tcp_is_non_sack_preventing_reopen(tp: TcpControl) -> bool:
    """RFC 6582 3.2 step 1: the state is held until "the Cumulative Acknowledgment field covers more than recover":
    duplicate ACKs for what was sent twice must not begin another recovery. SACK can tell them apart."""
    if tp.sack_ok or tp.snd_una != tp.high_seq:
        return False
    tcp_retrans_stamp_cleanup(tp)
    return True


def tcp_newreno_mark_lost(tp: TcpControl, snd_una_advanced: bool) -> None:
    """The third duplicate ACK, or a partial ACK in recovery (RFC 6582 3.2 step 3): the first segment is lost.

    Of a super-segment only its first piece.
    """
    if tp.ca_state == TCP_CA_RECOVERY:
        lost = snd_una_advanced
    else:
        lost = tp.ca_state < TCP_CA_RECOVERY and tp.sacked_out >= tp.reordering
    if not lost:
        return
    head = tp.rtx_head()
    if head is None or head.sacked & TCPCB_LOST:
        return
    mss = head.mss if head.mss else tp.mss_cache
    if head.pcount > 1 and head.len > mss:
        tcp_fragment_rtx(tp, head, mss, mss)
    tcp_mark_skb_lost(tp, head)
