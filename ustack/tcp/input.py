"""Segment arrival for a socket, in the order of RFC 9293 section 3.10.7.4 (Linux tcp_rcv_established, _state_process).

first   sequence number   tcp_validate_incoming, with PAWS (RFC 7323) before it
second  RST               check_rst, after RFC 5961 section 3
third   security          nothing: RFC 9293 lets an implementation without it skip the step
fourth  SYN               check_syn, after RFC 5961 section 4
fifth   ACK               check_ack
sixth   URG               the pointer is not used: urgent data stays in line
seventh text              tcp_data_queue
eighth  FIN               tcp_fin, from tcp_data_queue
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mypy_extensions import i64

from ustack.drop import Reason
from ustack.sock import (
    RCV_SHUTDOWN,
    TCP_CLOSE,
    TCP_CLOSE_WAIT,
    TCP_CLOSING,
    TCP_ESTABLISHED,
    TCP_FIN_WAIT1,
    TCP_FIN_WAIT2,
    TCP_LAST_ACK,
    TCP_SYN_RECV,
    TCP_SYN_SENT,
    TCP_TIME_WAIT,
)
from ustack.tcp.accept import established_by_ack, tcp_accept_queue_add
from ustack.tcp.ack import ACK_NEW, ACK_TOO_OLD, ACK_UNSENT, tcp_ack, tcp_clean_rtx_queue, tcp_may_update_window
from ustack.tcp.challenge import tcp_oow_rate_limited, tcp_send_challenge_ack
from ustack.tcp.connect import tcp_finish_connect
from ustack.tcp.control import (
    TCP_MAX_QUICKACKS,
    TCP_PAWS_24DAYS,
    TCP_PAWS_WINDOW,
    TCP_TIMEWAIT_LEN,
    TIMESTAMP_LEN,
    TcpControl,
)
from ustack.tcp.data import take_text, tcp_ack_snd_check, tcp_data_queue, tcp_event_data_recv, tcp_queue_rcv
from ustack.tcp.finish import tcp_abort, tcp_done, tcp_enter_time_wait, tcp_reset
from ustack.tcp.notify import STATE_CHANGE, WRITE_SPACE, tcp_wake
from ustack.tcp.output import tcp_push_pending_frames, tcp_sync_mss
from ustack.tcp.reply import tcp_v4_send_reset
from ustack.tcp.seq import after, before, between, distance
from ustack.tcp.states import CAN_RECEIVE, Event, in_set
from ustack.tcp.transmit import tcp_send_ack, tcp_transmit_skb
from ustack.timer import NSEC_PER_MSEC
from ustack.wire import tcp as wire
from ustack.wire.octets import u32
from ustack.wire.tcp import TCPHDR_ACK, TCPHDR_FIN, TCPHDR_PSH, TCPHDR_RST, TCPHDR_SYN, TcpHeader

if TYPE_CHECKING:
    from ustack.packet import Packet

#: States in which the peer's FIN has been seen.
FIN_SEEN: Final[i64] = (1 << TCP_CLOSE_WAIT) | (1 << TCP_LAST_ACK) | (1 << TCP_CLOSING)


def tcp_rcv_established(tp: TcpControl, packet: Packet, th: TcpHeader) -> None:
    """Header prediction: the next bytes in order, or an ACK of ours, with nothing else to consider (one page)."""
    length = th.end - th.payload
    if (
        th.flags & ~TCPHDR_PSH != TCPHDR_ACK
        or th.seq != tp.rcv_nxt
        or tp.ofo is not None
        or after(th.ack_seq, tp.snd_nxt)
        or before(th.ack_seq, tp.snd_una)
        or length > tp.tcp_receive_window()
        or not predicted_options(tp, packet, th)
    ):
        tcp_rcv_slow(tp, packet, th)
        return
    if tp.saw_tstamp and th.seq == tp.rcv_wup:
        tcp_store_ts_recent(tp)
    if length == 0:
        tp.net.mib.tcpext.TCPPureAcks += 1
        tcp_ack(tp, th, 0)
        tp.net.deliver(packet)
        tcp_data_snd_check(tp)
        return
    if tp.rmem_alloc > tp.rcvbuf:
        tcp_rcv_slow(tp, packet, th)
        return
    tp.net.mib.tcpext.TCPHPHits += 1
    segment = take_text(packet, th, (th.seq + length) & 0xFFFF_FFFF, False)
    tp.net.deliver(packet)
    tcp_event_data_recv(tp, packet, th)
    tcp_queue_rcv(tp, segment)
    if th.ack_seq != tp.snd_una or tp.packets_out or th.window << tp.snd_wscale != tp.snd_wnd:
        tcp_ack(tp, th, length)
        tcp_data_snd_check(tp)
    else:
        tp.snd_wl1 = th.seq
    tcp_ack_snd_check(tp)


def predicted_options(tp: TcpControl, packet: Packet, th: TcpHeader) -> bool:
    """True if the options are just the agreed ones: none, or a timestamp that is not old."""
    options_len = th.payload - th.options
    if not tp.tstamp_ok:
        tp.saw_tstamp = False
        return options_len == 0
    if options_len != TIMESTAMP_LEN or not wire.aligned_timestamp(packet.buf, th.options):
        return False
    tp.saw_tstamp = True
    tp.rcv_tsval = u32(packet.buf, th.options + 4)
    tp.rcv_tsecr = u32(packet.buf, th.options + 8)
    return not before(tp.rcv_tsval, tp.ts_recent)


def tcp_rcv_slow(tp: TcpControl, packet: Packet, th: TcpHeader) -> None:
    """An established connection's segment, step by step."""
    take_options(tp, packet, th)
    if not tcp_validate_incoming(tp, packet, th):
        return
    if not th.flags & TCPHDR_ACK:
        return tp.net.drop(packet, Reason.TCP_FLAGS)
    if tcp_ack_step(tp, packet, th) < 0:
        return
    tcp_data_queue(tp, packet, th)
    finish_segment(tp)


def finish_segment(tp: TcpControl) -> None:
    """After text and FIN: what the ACK allows is sent, what is owed is acknowledged."""
    if tp.state == TCP_CLOSE:
        return
    if tp.state == TCP_TIME_WAIT:
        # RFC 9293: "FIN-WAIT-2 STATE: Enter the TIME-WAIT state. Start the time-wait timer, turn off the other timers."
        tcp_send_ack(tp)
        tcp_enter_time_wait(tp, TCP_TIME_WAIT, TCP_TIMEWAIT_LEN)
        return
    tcp_data_snd_check(tp)
    tcp_ack_snd_check(tp)
    if tp.state == TCP_FIN_WAIT2 and tp.dead:
        fin_wait2_alone(tp)


def take_options(tp: TcpControl, packet: Packet, th: TcpHeader) -> None:
    """Parse the options of a segment into ``tp`` (tcp_fast_parse_options); malformed ones are just not there."""
    tp.saw_tstamp = False
    if tp.tstamp_ok and th.payload > th.options:
        options = wire.parse_options(packet.buf, th.options, th.payload)
        tp.saw_tstamp = options.saw_tstamp
        tp.rcv_tsval = options.tsval
        tp.rcv_tsecr = options.tsecr


def tcp_store_ts_recent(tp: TcpControl) -> None:
    tp.ts_recent = tp.rcv_tsval
    tp.ts_recent_stamp = tp.net.now


# -- first to fourth


def tcp_validate_incoming(tp: TcpControl, packet: Packet, th: TcpHeader) -> bool:
    """PAWS, sequence number, RST, SYN. False: the segment was refused, and dropped here."""
    if tcp_paws_discard(tp, th) and not th.flags & TCPHDR_RST:
        if send_dupack(tp, th):
            tp.net.mib.tcpext.TCPACKSkippedPAWS += 1
        tp.net.drop(packet, Reason.TCP_RFC7323_PAWS)
        return False
    if not tcp_sequence(tp, th):
        # RFC 9293: "If an incoming segment is not acceptable, an acknowledgment should be sent in reply (unless the
        # RST bit is set [...])". A SYN out of the window gets a challenge ACK instead (RFC 5961 section 4.2).
        if th.flags & TCPHDR_SYN:
            tp.net.mib.tcpext.TCPSYNChallenge += 1
            tcp_send_challenge_ack(tp)
        elif not th.flags & TCPHDR_RST:
            if send_dupack(tp, th):
                tp.net.mib.tcpext.TCPACKSkippedSeq += 1
        elif th.seq == (tp.rcv_nxt - 1) & 0xFFFF_FFFF and in_set(tp.state, FIN_SEEN):
            # the peer counted our view of its FIN differently: its RST is one short (tcp_reset_check)
            return check_rst(tp, packet, th)
        tp.net.drop(packet, Reason.TCP_OLD_SEQUENCE if before(th.seq, tp.rcv_nxt) else Reason.TCP_INVALID_SEQUENCE)
        return False
    if th.flags & TCPHDR_RST:
        return check_rst(tp, packet, th)
    if th.flags & TCPHDR_SYN and not crossing_syn_ack(tp, th):
        return check_syn(tp, packet)
    if tp.saw_tstamp and not after(th.seq, tp.rcv_wup):
        # RFC 7323 4.3: "If SEG.TSval >= TS.Recent and SEG.SEQ <= Last.ACK.sent, then SEG.TSval is copied to TS.Recent"
        if not before(tp.rcv_tsval, tp.ts_recent):
            tcp_store_ts_recent(tp)
    return True


def tcp_paws_discard(tp: TcpControl, th: TcpHeader) -> bool:
    """RFC 7323 section 5.3 R1: an older timestamp means an older segment, unless ours is too old to be believed.

    As in Linux one tick is forgiven, and a TS.Recent of 0: there are hosts whose SYN says 0 and means nothing by it.
    """
    if not tp.saw_tstamp or tp.ts_recent == 0:
        return False
    if not before((tp.rcv_tsval + TCP_PAWS_WINDOW) & 0xFFFF_FFFF, tp.ts_recent):
        return False
    if tp.net.now - tp.ts_recent_stamp >= TCP_PAWS_24DAYS:
        return False
    return not tcp_disordered_ack(tp, th)


def tcp_disordered_ack(tp: TcpControl, th: TcpHeader) -> bool:
    """A pure duplicate ACK that was overtaken on its way, and not by more than an RTO, is harmless."""
    if th.end != th.payload or th.flags & (TCPHDR_SYN | TCPHDR_FIN | TCPHDR_RST) or not th.flags & TCPHDR_ACK:
        return False
    if th.seq != tp.rcv_nxt or th.ack_seq != tp.snd_una or tcp_may_update_window(tp, th, th.window << tp.snd_wscale):
        return False
    return distance(tp.rcv_tsval, tp.ts_recent) * NSEC_PER_MSEC <= tp.rto


def tcp_sequence(tp: TcpControl, th: TcpHeader) -> bool:
    """RFC 9293 table 6: some of the segment lies in the window, or it is empty and at its edge."""
    end_seq = (th.seq + (th.end - th.payload) + (1 if th.flags & (TCPHDR_SYN | TCPHDR_FIN) else 0)) & 0xFFFF_FFFF
    limit = (tp.rcv_nxt + tp.tcp_receive_window()) & 0xFFFF_FFFF
    return not before(end_seq, tp.rcv_wup) and not after(th.seq, limit)


def send_dupack(tp: TcpControl, th: TcpHeader) -> bool:
    """Tell the peer where we are (tcp_send_dupack); for empty segments, which may answer ours, only so often.

    True if this one was left out.
    """
    with_data = th.end != th.payload or th.flags & TCPHDR_FIN != 0
    if (not with_data or th.flags & TCPHDR_SYN) and tcp_oow_rate_limited(tp):
        return True
    if with_data and before(th.seq, tp.rcv_nxt):
        tp.net.mib.tcpext.DelayedACKLost += 1
        tp.enter_quickack_mode(TCP_MAX_QUICKACKS)
    tcp_send_ack(tp)
    return False


def check_rst(tp: TcpControl, packet: Packet, th: TcpHeader) -> bool:
    """RFC 5961 3.2: only a RST at exactly RCV.NXT resets; elsewhere in the window "TCP endpoints MUST send an
    acknowledgment (challenge ACK)". Always False."""
    if th.seq == tp.rcv_nxt or th.seq == (tp.rcv_nxt - 1) & 0xFFFF_FFFF and in_set(tp.state, FIN_SEEN):
        tp.net.drop(packet, Reason.TCP_RESET)
        tcp_reset(tp)
    else:
        tcp_send_challenge_ack(tp)
        tp.net.drop(packet, Reason.TCP_RESET)
    return False


def crossing_syn_ack(tp: TcpControl, th: TcpHeader) -> bool:
    """True for the SYN-ACK that answers ours in a simultaneous open (RFC 9293 figure 8, lines 5 and 6)."""
    return (
        tp.state == TCP_SYN_RECV
        and th.flags & TCPHDR_ACK != 0
        and th.end == th.payload
        and th.seq == tp.irs
        and th.ack_seq == tp.snd_nxt
    )


def check_syn(tp: TcpControl, packet: Packet) -> bool:
    """RFC 5961 4.2: "If the SYN bit is set, irrespective of the sequence number, TCP MUST send an ACK". False."""
    tp.net.mib.tcpext.TCPSYNChallenge += 1
    tcp_send_challenge_ack(tp)
    tp.net.drop(packet, Reason.TCP_INVALID_SYN)
    return False


# -- fifth


def tcp_ack_step(tp: TcpControl, packet: Packet, th: TcpHeader) -> i64:
    """The ACK field of a synchronized connection; negative if it was unacceptable, and the packet dropped."""
    result = tcp_ack(tp, th, th.end - th.payload + (1 if th.flags & TCPHDR_FIN else 0))
    if result == ACK_TOO_OLD:
        tp.net.drop(packet, Reason.TCP_TOO_OLD_ACK)
    elif result == ACK_UNSENT:
        # RFC 9293: "If the ACK acks something not yet sent (SEG.ACK > SND.NXT), then send an ACK, drop the segment"
        tcp_send_challenge_ack(tp)
        tp.net.drop(packet, Reason.TCP_ACK_UNSENT_DATA)
    return result


def tcp_data_snd_check(tp: TcpControl) -> None:
    """An ACK may have opened a window or freed buffer: send, and tell a writer who waits for room."""
    tcp_push_pending_frames(tp)
    if tp.sock_nospace and tp.wmem_queued < tp.sndbuf - (tp.sndbuf >> 2):
        tp.sock_nospace = False
        tcp_wake(tp, WRITE_SPACE)
    if not tp.sndbuf_locked and tp.sndbuf < tp.net.sysctl.tcp_wmem_max:
        tcp_sndbuf_expand(tp)


def tcp_sndbuf_expand(tp: TcpControl) -> None:
    """Let the send buffer hold two congestion windows (tcp_sndbuf_expand)."""
    wanted = 2 * max(tp.snd_cwnd, 10) * (tp.mss_cache + 256)
    if wanted > tp.sndbuf:
        tp.sndbuf = min(wanted, tp.net.sysctl.tcp_wmem_max)


# -- any other state


def tcp_rcv_state_process(tp: TcpControl, packet: Packet, th: TcpHeader) -> None:
    """A segment for a socket that is neither established nor listening (tcp_rcv_state_process)."""
    if tp.state == TCP_CLOSE:
        return tp.net.drop(packet, Reason.TCP_CLOSE)
    take_options(tp, packet, th)
    if tp.state == TCP_SYN_SENT:
        return tcp_rcv_synsent(tp, packet, th)
    if not tcp_validate_incoming(tp, packet, th):
        return
    if not th.flags & TCPHDR_ACK:
        return tp.net.drop(packet, Reason.TCP_FLAGS)
    if not check_ack(tp, packet, th):
        return
    if tp.state == TCP_CLOSE:
        return tp.net.deliver(packet)
    if data_after_close(tp, packet, th):
        return
    end_seq = (th.seq + (th.end - th.payload) + (1 if th.flags & TCPHDR_FIN else 0)) & 0xFFFF_FFFF
    if in_set(tp.state, CAN_RECEIVE) or not after(end_seq, tp.rcv_nxt):
        # what is old deserves an ACK in every state: ours for the peer's FIN may have been lost
        tcp_data_queue(tp, packet, th)
    else:
        # RFC 9293, seventh step: CLOSE-WAIT, CLOSING, LAST-ACK: "This should not occur since a FIN has been received
        # from the remote side. Ignore the segment text."
        tp.net.deliver(packet)
    finish_segment(tp)


def check_ack(tp: TcpControl, packet: Packet, th: TcpHeader) -> bool:
    """Fifth step for every state but ESTABLISHED. False: the segment has been dealt with."""
    if tp.state == TCP_SYN_RECV:
        if not syn_recv_ack(tp, th):
            tcp_v4_send_reset(tp.tables, packet, th, tp.mark)
            tp.net.drop(packet, Reason.TCP_INVALID_ACK_SEQUENCE)
            return False
        return True
    result = tcp_ack_step(tp, packet, th)
    if result < 0:
        return False
    if result == ACK_NEW and tp.fin_queued and tp.snd_una == tp.write_seq:
        our_fin_acked(tp, th)
    return True


def syn_recv_ack(tp: TcpControl, th: TcpHeader) -> bool:
    """The handshake's last ACK, of a passive or a simultaneous open; False if it acknowledges something else."""
    if not established_by_ack(tp, th):
        return False
    if tp.parent is not None:
        tcp_accept_queue_add(tp)
        return True
    tcp_clean_rtx_queue(tp)
    tcp_wake(tp, STATE_CHANGE | WRITE_SPACE)
    return True


def our_fin_acked(tp: TcpControl, th: TcpHeader) -> None:
    """Fifth step: "if the FIN segment is now acknowledged", what then depends on where we are."""
    tp.move(Event.RCV_ACK_OF_FIN)
    if tp.state == TCP_FIN_WAIT2:
        if not tp.dead:
            tcp_wake(tp, STATE_CHANGE)
        elif th.end == th.payload and not th.flags & TCPHDR_FIN:
            fin_wait2_alone(tp)
        # what else is in the segment comes first: the peer's FIN may be
    elif tp.state == TCP_TIME_WAIT:
        tcp_enter_time_wait(tp, TCP_TIME_WAIT, TCP_TIMEWAIT_LEN)
    elif tp.state == TCP_CLOSE:
        tcp_done(tp)


def fin_wait2_alone(tp: TcpControl) -> None:
    """Nobody owns it and only the peer's FIN is awaited: a TimeWait can do that."""
    if tp.linger2 < 0:
        tp.net.mib.tcpext.TCPAbortOnLinger += 1
        tcp_abort(tp, 0)
    else:
        tcp_enter_time_wait(tp, TCP_FIN_WAIT2, tp.fin_timeout())


def data_after_close(tp: TcpControl, packet: Packet, th: TcpHeader) -> bool:
    """RFC 9293 3.6 / RFC 1122 4.2.2.13 (MUST): data for a connection whose reader is gone is answered with a RST."""
    if tp.state != TCP_FIN_WAIT1 and tp.state != TCP_FIN_WAIT2:
        return False
    if not tp.shutdown & RCV_SHUTDOWN or th.end == th.payload:
        return False
    if not after((th.seq + (th.end - th.payload)) & 0xFFFF_FFFF, tp.rcv_nxt):
        return False
    tp.net.mib.tcpext.TCPAbortOnData += 1
    tcp_v4_send_reset(tp.tables, packet, th, tp.mark)
    tp.net.drop(packet, Reason.TCP_ABORT_ON_DATA)
    tcp_done(tp)
    return True


# -- SYN-SENT


def tcp_rcv_synsent(tp: TcpControl, packet: Packet, th: TcpHeader) -> None:
    """RFC 9293 section 3.10.7.3."""
    acked = th.flags & TCPHDR_ACK != 0
    if acked and not between(th.ack_seq, (tp.iss + 1) & 0xFFFF_FFFF, tp.snd_nxt):
        # "If SEG.ACK =< ISS or SEG.ACK > SND.NXT, send a reset (unless the RST bit is set [...])"
        tcp_v4_send_reset(tp.tables, packet, th, tp.mark)
        return tp.net.drop(packet, Reason.TCP_INVALID_ACK_SEQUENCE)
    if th.flags & TCPHDR_RST:
        tp.net.drop(packet, Reason.TCP_RESET)
        if acked:
            tcp_reset(tp)  # "error: connection reset"; without an ACK it proves nothing
        return
    if not th.flags & TCPHDR_SYN:
        return tp.net.drop(packet, Reason.TCP_FLAGS)
    options = wire.parse_options(packet.buf, th.options, th.payload)
    if acked and not echoes_our_syn(tp, options):
        tp.net.mib.tcpext.PAWSActive += 1
        tcp_v4_send_reset(tp.tables, packet, th, tp.mark)
        return tp.net.drop(packet, Reason.TCP_OLD_SEQUENCE)
    tp.net.deliver(packet)
    synsent_options(tp, options, th)
    if acked:
        synsent_established(tp, th)
    else:
        synsent_simultaneous(tp)


def echoes_our_syn(tp: TcpControl, options: wire.TcpOptions) -> bool:
    """False if the timestamp echoed is none that a SYN of this attempt can have had: the answer is to an older one."""
    if not options.saw_tstamp or not options.tsecr:
        return True
    first = (tp.connect_time // NSEC_PER_MSEC + tp.tsoffset) & 0xFFFF_FFFF
    return between(options.tsecr, first, tp.mstamp())


def synsent_options(tp: TcpControl, options: wire.TcpOptions, th: TcpHeader) -> None:
    """What the peer's SYN offers, of what we offered too (RFC 7323 section 2.2 and 3.2)."""
    sysctl = tp.net.sysctl
    if options.mss:
        tp.mss_clamp = options.mss
    tp.wscale_ok = options.wscale >= 0 and sysctl.tcp_window_scaling != 0
    tp.snd_wscale = options.wscale if tp.wscale_ok else 0
    if not tp.wscale_ok:
        tp.rcv_wscale = 0
        tp.window_clamp = min(tp.window_clamp, 65_535)
    tp.tstamp_ok = options.saw_tstamp and sysctl.tcp_timestamps != 0
    tp.saw_tstamp = tp.tstamp_ok
    tp.rcv_tsval = options.tsval
    tp.rcv_tsecr = options.tsecr
    if tp.tstamp_ok:
        tcp_store_ts_recent(tp)
    tp.irs = th.seq
    tp.rcv_nxt = tp.rcv_wup = tp.copied_seq = (th.seq + 1) & 0xFFFF_FFFF
    tp.snd_wl1 = th.seq
    tp.snd_wnd = tp.max_window = th.window
    tcp_sync_mss(tp, tp.pmtu)


def synsent_established(tp: TcpControl, th: TcpHeader) -> None:
    """ "<SEQ=SND.NXT><ACK=RCV.NXT><CTL=ACK>" and the connection is up."""
    tp.snd_una = th.ack_seq
    tp.rcv_tstamp = tp.net.now
    tcp_clean_rtx_queue(tp)
    tp.move(Event.RCV_SYN_ACK)
    tcp_finish_connect(tp)
    tp.enter_quickack_mode(TCP_MAX_QUICKACKS)
    tcp_send_ack(tp)
    tcp_push_pending_frames(tp)


def synsent_simultaneous(tp: TcpControl) -> None:
    """Both sides called (RFC 9293 MUST-10): our SYN goes again, with an ACK of theirs."""
    tp.move(Event.RCV_SYN)
    syn = tp.rtx_head()
    if syn is not None:
        syn.flags |= TCPHDR_ACK
        tcp_transmit_skb(tp, syn)


def tcp_v4_do_rcv(tp: TcpControl, packet: Packet, th: TcpHeader) -> None:
    """A segment whose socket is known (tcp_v4_do_rcv)."""
    if tp.state == TCP_ESTABLISHED:
        tcp_rcv_established(tp, packet, th)
    else:
        tcp_rcv_state_process(tp, packet, th)
