"""Segment arrival in SYN-SENT (RFC 9293 section 3.10.7.3; Linux tcp_rcv_synsent_state_process)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ustack.drop import Reason
from ustack.tcp.ack import tcp_syn_acked
from ustack.tcp.connect import tcp_finish_connect, tcp_try_undo_spurious_syn
from ustack.tcp.control import (
    ICSK_ACK_SCHED,
    ICSK_ACK_TIMER,
    ICSK_TIME_RETRANS,
    TCP_MAX_QUICKACKS,
    TCP_PAWS_24DAYS,
    TcpControl,
)
from ustack.tcp.ecn import tcp_ecn_rcv_syn, tcp_ecn_rcv_synack, tcp_ecn_send_synack
from ustack.tcp.fastopen_client import tcp_rcv_fastopen_synack
from ustack.tcp.finish import tcp_reset
from ustack.tcp.mini import tcp_parse_handshake
from ustack.tcp.mss import tcp_mtup_init, tcp_sync_mss
from ustack.tcp.output import tcp_push_pending_frames
from ustack.tcp.reply import tcp_v4_send_reset
from ustack.tcp.rtt import TCP_TIMEOUT_MIN
from ustack.tcp.scoreboard import tcp_skb_timestamp_ts
from ustack.tcp.seq import before, between
from ustack.tcp.states import Event
from ustack.tcp.trace import flags_word
from ustack.tcp.transmit import tcp_send_ack, tcp_transmit_skb
from ustack.tcp.urgent import tcp_urg
from ustack.tcp.window import tcp_initialize_rcv_mss, tcp_reserve_timestamps, tcp_settle_window_scale
from ustack.trace.points import Point
from ustack.wire.tcp import TCPHDR_ACK, TCPHDR_RST, TCPHDR_SYN, TCPHDR_URG, TcpHeader

if TYPE_CHECKING:
    from ustack.packet import Packet
    from ustack.trace.journey import Facts
    from ustack.wire import tcp as wire


def tcp_rcv_synsent(tp: TcpControl, packet: Packet, th: TcpHeader) -> None:
    """RFC 9293 section 3.10.7.3."""
    acked = th.flags & TCPHDR_ACK != 0
    if packet.journey is not None:
        facts: Facts = {"iss": int(tp.iss), "snd_nxt": int(tp.snd_nxt)}
        packet.journey.step(Point.TCP_RCV_SYNSENT_STATE_PROCESS, flags_word(th.flags), facts)
    if tp.defer_connect:
        return tp.net.drop(packet, Reason.TCP_CLOSE)  # no SYN has been sent yet
    if acked and not between(th.ack_seq, (tp.iss + 1) & 0xFFFF_FFFF, tp.snd_nxt):
        # "If SEG.ACK =< ISS or SEG.ACK > SND.NXT, send a reset (unless the RST bit is set [...])". The peer may have
        # had an older connection in mind (figure 9): once that is reset our SYN is welcome, so it goes again soon
        if tp.retransmits == 0:
            tp.reset_xmit_timer(ICSK_TIME_RETRANS, TCP_TIMEOUT_MIN)
        tcp_v4_send_reset(tp.tables, packet, th, Reason.TCP_INVALID_ACK_SEQUENCE, tp.mark)
        return tp.net.drop(packet, Reason.TCP_INVALID_ACK_SEQUENCE)
    options = tcp_parse_handshake(tp.net, packet, th)
    if acked and not echoes_our_syn(tp, options):
        tp.net.mib.tcpext.PAWSActive += 1
        tcp_v4_send_reset(tp.tables, packet, th, Reason.TCP_OLD_SEQUENCE, tp.mark)
        return tp.net.drop(packet, Reason.TCP_OLD_SEQUENCE)
    if th.flags & TCPHDR_RST:
        tp.net.drop(packet, Reason.TCP_RESET)
        if acked:
            synsent_offer(tp, options)
            tcp_reset(tp)  # "error: connection reset"; without an ACK it proves nothing
        return
    if not th.flags & TCPHDR_SYN:
        return tp.net.drop(packet, Reason.TCP_FLAGS)
    if not acked and older_than_last_connection(tp, options):
        return tp.net.drop(packet, Reason.TCP_RFC7323_PAWS)
    tp.net.deliver(packet)
    synsent_options(tp, options, th)
    if acked:
        tcp_ecn_rcv_synack(tp, th)
        synsent_established(tp, packet, th, options)
    else:
        tcp_ecn_rcv_syn(tp, th)
        synsent_simultaneous(tp)


def older_than_last_connection(tp: TcpControl, options: wire.TcpOptions) -> bool:
    """True for a SYN from before the connection whose TIME_WAIT this one has replaced."""
    if tp.ts_recent_stamp == 0 or tp.ts_recent == 0 or not options.saw_tstamp:
        return False
    return before(options.tsval, tp.ts_recent) and tp.net.now - tp.ts_recent_stamp < TCP_PAWS_24DAYS


def echoes_our_syn(tp: TcpControl, options: wire.TcpOptions) -> bool:
    """False if the timestamp echoed is none that a SYN of this attempt can have had: the answer is to an older one."""
    if not options.saw_tstamp or not options.tsecr:
        return True
    return between(options.tsecr, tcp_skb_timestamp_ts(tp, tp.connect_time), tp.mstamp())


def synsent_offer(tp: TcpControl, options: wire.TcpOptions) -> None:
    """What the peer's SYN offers, of what we offered too."""
    sysctl = tp.net.sysctl
    if options.mss:
        tp.mss_clamp = min(options.mss, tp.user_mss or 65_535)
    tp.wscale_ok = options.wscale >= 0 and sysctl.tcp_window_scaling != 0
    tp.snd_wscale = options.wscale if tp.wscale_ok else 0
    tp.sack_ok = options.sack_ok and sysctl.tcp_sack != 0


def synsent_options(tp: TcpControl, options: wire.TcpOptions, th: TcpHeader) -> None:
    """The connection begins, with what both have offered (RFC 7323 section 2.2 and 3.2)."""
    synsent_offer(tp, options)
    tp.tstamp_ok = options.saw_tstamp
    tp.saw_tstamp = tp.tstamp_ok
    tp.rcv_tsval = options.tsval
    tp.rcv_tsecr = options.tsecr
    if tp.tstamp_ok:
        tp.ts_recent = tp.rcv_tsval
        tp.ts_recent_stamp = tp.net.now
    tp.irs = th.seq
    tp.rcv_nxt = tp.rcv_wup = tp.copied_seq = (th.seq + 1) & 0xFFFF_FFFF
    tp.snd_wl1 = th.seq
    tp.snd_wnd = tp.max_window = th.window
    tcp_sync_mss(tp, tp.pmtu)


def synsent_sizes(tp: TcpControl) -> None:
    """Segments have no room for timestamps any more if the peer does not want them."""
    tp.set_header_len(tp.tstamp_ok)
    tcp_sync_mss(tp, tp.pmtu)
    tcp_initialize_rcv_mss(tp)


def synsent_established(tp: TcpControl, packet: Packet, th: TcpHeader, options: wire.TcpOptions) -> None:
    """ "<SEQ=SND.NXT><ACK=RCV.NXT><CTL=ACK>" and the connection is up."""
    tcp_try_undo_spurious_syn(tp)
    tp.snd_una = th.ack_seq
    tp.rcv_tstamp = tp.net.now
    tcp_syn_acked(tp)  # before the sizes: the pacing rate is that of segments as they were offered
    synsent_sizes(tp)
    tp.move(Event.RCV_SYN_ACK)
    tcp_settle_window_scale(tp)
    tcp_reserve_timestamps(tp)
    tcp_finish_connect(tp)
    if (tp.syn_fastopen or tp.syn_data) and tcp_rcv_fastopen_synack(tp, packet, th, options):
        tcp_push_pending_frames(tp)
        return  # what went again carries the ACK
    if tp.write_pending or tp.defer_accept or tp.in_pingpong_mode():
        # the owner is about to send: the ACK may wait for that ("Save one ACK")
        tp.ack_pending |= ICSK_ACK_SCHED
        tp.enter_quickack_mode(TCP_MAX_QUICKACKS)
        tcp_delay_ack(tp)
    else:
        tcp_send_ack(tp)
        if th.flags & TCPHDR_URG:
            tcp_urg(tp, packet, th)  # of its text nothing is taken but this
    tcp_push_pending_frames(tp)


def tcp_delay_ack(tp: TcpControl) -> None:
    """For as long as any ACK may wait."""
    tp.ack_pending |= ICSK_ACK_TIMER
    tp.reset_delack_timer(tp.net.now + tp.delack_max_ns)


def synsent_simultaneous(tp: TcpControl) -> None:
    """Both sides called (RFC 9293 MUST-10): our SYN goes again, with an ACK of theirs."""
    tcp_mtup_init(tp)
    synsent_sizes(tp)
    tp.move(Event.RCV_SYN)
    syn = tp.rtx_head()
    if syn is not None:
        syn.flags |= TCPHDR_ACK
        tcp_ecn_send_synack(tp, syn)
        tcp_transmit_skb(tp, syn)
