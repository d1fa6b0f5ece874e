"""Segment arrival for a socket, in the order of RFC 9293 section 3.10.7.4 (Linux tcp_rcv_established, _state_process).

first   sequence number   tcp_validate_incoming, with PAWS (RFC 7323) before it
second  RST               check_rst, after RFC 5961 section 3
third   security          nothing: RFC 9293 lets an implementation without it skip the step
fourth  SYN               check_syn, after RFC 5961 section 4
fifth   ACK               check_ack
sixth   URG               tcp_urg
seventh text              tcp_data_queue
eighth  FIN               tcp_fin, from tcp_data_queue
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mypy_extensions import i64

from ustack.drop import Reason
from ustack.sock import (
    RCV_SHUTDOWN,
    STATE_NAMES,
    TCP_CLOSE,
    TCP_ESTABLISHED,
    TCP_FIN_WAIT2,
    TCP_SYN_RECV,
    TCP_SYN_SENT,
    TCP_TIME_WAIT,
)
from ustack.tcp.ack import ACK_NEW, ACK_TOO_OLD, ACK_UNSENT, tcp_ack
from ustack.tcp.challenge import tcp_oow_rate_limited, tcp_reset_acceptable, tcp_send_challenge_ack
from ustack.tcp.check_req import tcp_check_fastopen_req
from ustack.tcp.chrono import tcp_chrono_stop
from ustack.tcp.control import (
    TCP_CHRONO_SNDBUF_LIMITED,
    TCP_MAX_QUICKACKS,
    TCP_TIMEWAIT_LEN,
    TcpControl,
)
from ustack.tcp.data import (
    segment_count,
    take_text,
    tcp_data_queue,
    tcp_data_ready,
    tcp_event_data_recv,
    tcp_queue_rcv,
)
from ustack.tcp.delack import tcp_ack_snd_check
from ustack.tcp.ecn import tcp_ecn_accept_cwr
from ustack.tcp.fastopen import tcp_rcv_synrecv_state_fastopen
from ustack.tcp.fastopen_syn import tcp_fastopen_active_disable
from ustack.tcp.finish import fin_wait2_alone, tcp_done, tcp_enter_time_wait, tcp_reset
from ustack.tcp.memory import (
    PAGE_SIZE,
    sk_forced_mem_schedule,
    sk_mem_reclaim,
    tcp_should_expand_sndbuf,
    tcp_sndbuf_expand,
)
from ustack.tcp.notify import STATE_CHANGE, WRITE_SPACE, tcp_wake
from ustack.tcp.output import tcp_push_pending_frames
from ustack.tcp.paws import tcp_paws_check, tcp_paws_discard
from ustack.tcp.reply import tcp_v4_send_reset
from ustack.tcp.rightsize import tcp_rcv_rtt_measure_ts
from ustack.tcp.sack_out import tcp_dsack_set
from ustack.tcp.seq import after, before
from ustack.tcp.states import CAN_RECEIVE, Event, in_set
from ustack.tcp.stream import sk_stream_is_writeable
from ustack.tcp.synrecv import tcp_synrecv_acceptable, tcp_synrecv_ack
from ustack.tcp.synsent import tcp_rcv_synsent
from ustack.tcp.trace import verdict, why_slow, window_in
from ustack.tcp.transmit import tcp_send_ack
from ustack.tcp.urgent import tcp_urg
from ustack.trace.points import Point
from ustack.wire import tcp as wire
from ustack.wire.octets import u32
from ustack.wire.tcp import TCPHDR_ACK, TCPHDR_FIN, TCPHDR_PSH, TCPHDR_RST, TCPHDR_SYN, TCPHDR_URG, TcpHeader

if TYPE_CHECKING:
    from ustack.packet import Packet


def tcp_rcv_established(tp: TcpControl, packet: Packet, th: TcpHeader) -> None:
    """Header prediction: the next bytes in order, or an ACK of ours, with nothing else to consider (one page)."""
    length = th.end - th.payload
    window = th.window << tp.snd_wscale
    if (
        th.flags & ~TCPHDR_PSH != TCPHDR_ACK
        or th.seq != tp.rcv_nxt
        or tp.ofo is not None
        or tp.urg_data
        or tp.rcv_wnd == 0
        or after(th.ack_seq, tp.snd_nxt)
        or (window != tp.snd_wnd and (length != 0 or before(th.ack_seq, tp.snd_una)))
        or (length != 0 and before(th.ack_seq, tp.snd_una))
        or length > tp.tcp_receive_window()
        or tp.rmem_alloc + length > tp.rcvbuf
        or tp.tables.memory.pressure
        or not predicted_options(tp, packet, th)
    ):
        tcp_rcv_slow(tp, packet, th)
        return
    if packet.journey is not None:
        packet.journey.step(Point.TCP_RCV_ESTABLISHED, "header prediction holds")
    if tp.saw_tstamp and th.seq == tp.rcv_wup:
        tcp_store_ts_recent(tp)
    if length == 0:
        count_ack(tp, th, window, length)
        tcp_ack(tp, th, 0)
        tp.net.deliver(packet)
        tcp_data_snd_check(tp)
        tp.rcv_rtt_last_tsecr = tp.rcv_tsecr
        return
    if tp.saw_tstamp:
        tcp_rcv_rtt_measure_ts(tp, length)
    tp.net.mib.tcpext.TCPHPHits += 1
    segment = take_text(packet, th, (th.seq + length) & 0xFFFF_FFFF, False)
    truesize = segment.truesize
    tp.net.deliver(packet)
    tcp_queue_rcv(tp, segment)
    if tp.rmem_alloc + tp.wmem_queued > tp.mem_charged:
        sk_forced_mem_schedule(tp)
    tcp_event_data_recv(tp, packet, th, truesize)
    if th.ack_seq != tp.snd_una or window != tp.snd_wnd:
        count_ack(tp, th, window, length)
        tcp_ack(tp, th, length)
        tcp_data_snd_check(tp)
    else:
        tp.snd_wl1 = th.seq
    tcp_ack_snd_check(tp)
    tcp_data_ready(tp)


def count_ack(tp: TcpControl, th: TcpHeader, window: i64, length: i64) -> None:
    """An acceptable ACK: one that only acknowledges was predicted, else it is counted if it carries nothing else."""
    if window == tp.snd_wnd and after(th.ack_seq, tp.snd_una):
        tp.net.mib.tcpext.TCPHPAcks += 1
    elif length == 0 and not before(th.ack_seq, tp.snd_una):
        tp.net.mib.tcpext.TCPPureAcks += 1


def predicted_options(tp: TcpControl, packet: Packet, th: TcpHeader) -> bool:
    """True if the options are just the agreed ones: none, or a timestamp that is not old."""
    tp.rx_sacks = None  # those of a segment that was refused are not this one's
    if not tp.tstamp_ok:
        tp.saw_tstamp = False
        return th.payload == th.options
    if not th.only_timestamps:
        return False
    tp.saw_tstamp = True
    tp.rcv_tsval = u32(packet.buf, th.options + 4)
    tp.rcv_tsecr = u32(packet.buf, th.options + 8)
    return not before(tp.rcv_tsval, tp.ts_recent)


def tcp_rcv_slow(tp: TcpControl, packet: Packet, th: TcpHeader) -> None:
    """An established connection's segment, step by step."""
    if packet.journey is not None:
        packet.journey.step(Point.TCP_RCV_SLOW, f"slow path: {why_slow(tp, th)}")
    take_options(tp, packet, th)
    if not th.flags & (TCPHDR_ACK | TCPHDR_RST | TCPHDR_SYN):
        return tp.net.drop(packet, Reason.TCP_FLAGS)
    if not tcp_validate_incoming(tp, packet, th):
        return
    if tcp_ack_step(tp, packet, th) < 0:
        return
    if tp.saw_tstamp:
        tcp_rcv_rtt_measure_ts(tp, th.end - th.payload)
    if th.flags & TCPHDR_URG or tp.urg_data:
        tcp_urg(tp, packet, th)
    tcp_data_queue(tp, packet, th)
    finish_segment(tp)


def finish_segment(tp: TcpControl) -> None:
    """After text and FIN: what the ACK allows is sent, what is owed is acknowledged."""
    if tp.state == TCP_CLOSE:
        return
    if tp.state == TCP_TIME_WAIT:
        # RFC 9293: "FIN-WAIT-2 STATE: Enter the TIME-WAIT state. Start the time-wait timer, turn off the other timers."
        tcp_enter_time_wait(tp, TCP_TIME_WAIT, TCP_TIMEWAIT_LEN)
        return
    tcp_data_snd_check(tp)
    tcp_ack_snd_check(tp)


def take_options(tp: TcpControl, packet: Packet, th: TcpHeader) -> None:
    """Parse the options of a segment into ``tp`` (tcp_fast_parse_options); malformed ones are just not there."""
    tp.saw_tstamp = False
    tp.rx_sacks = None
    if th.payload > th.options:
        options = wire.parse_options(packet.buf, th.options, th.payload)
        tp.saw_tstamp = options.saw_tstamp and tp.tstamp_ok
        tp.rcv_tsval = options.tsval
        tp.rcv_tsecr = options.tsecr
        tp.rx_sacks = options.sacks if tp.sack_ok else None


def tcp_store_ts_recent(tp: TcpControl) -> None:
    tp.ts_recent = tp.rcv_tsval
    tp.ts_recent_stamp = tp.net.now


# -- first to fourth


def tcp_validate_incoming(tp: TcpControl, packet: Packet, th: TcpHeader) -> bool:
    """PAWS, sequence number, RST, SYN. False: the segment was refused, and dropped here."""
    old = tcp_paws_discard(tp, th)
    if packet.journey is not None:
        decision = verdict(th, old, tcp_sequence(tp, th))
        packet.journey.step(Point.TCP_VALIDATE_INCOMING, decision, window_in(tp))
    if old is not None and not th.flags & TCPHDR_RST:
        if th.flags & TCPHDR_SYN:
            return check_syn(tp, packet)
        if old is Reason.TCP_RFC7323_PAWS and send_dupack(tp, th):
            tp.net.mib.tcpext.TCPACKSkippedPAWS += 1
        tp.net.drop(packet, old)
        return False
    refused = tcp_sequence(tp, th)
    if refused is not None:
        # RFC 9293: "If an incoming segment is not acceptable, an acknowledgment should be sent in reply (unless the
        # RST bit is set [...])". A SYN out of the window gets a challenge ACK instead (RFC 5961 section 4.2).
        if th.flags & TCPHDR_SYN and not th.flags & TCPHDR_RST:
            return check_syn(tp, packet)
        if not th.flags & TCPHDR_RST:
            if refused is not Reason.TCP_OLD_SEQUENCE:
                tp.net.mib.tcpext.BeyondWindow += 1
            if send_dupack(tp, th):
                tp.net.mib.tcpext.TCPACKSkippedSeq += 1
        elif tcp_reset_acceptable(tp, th):
            # the peer counted our view of its FIN differently: its RST is one short (tcp_reset_check)
            return check_rst(tp, packet, th)
        tp.net.drop(packet, refused)
        return False
    if th.flags & TCPHDR_RST:
        return check_rst(tp, packet, th)
    if th.flags & TCPHDR_SYN and not crossing_syn_ack(tp, th):
        return check_syn(tp, packet)
    return True


def tcp_sequence(tp: TcpControl, th: TcpHeader) -> Reason | None:
    """RFC 9293 table 6: some of the segment lies in the window, or it is empty and at its edge; None, or why not.

    What reaches beyond the window is taken only by who has nothing to read: he has room, and one who has not read will
    not get more than he offered. A FIN alone may lie beyond: there are senders that count it so.
    """
    end = (th.seq + (th.end - th.payload)) & 0xFFFF_FFFF
    if before(th.end_seq(), tp.rcv_wup):
        return Reason.TCP_OLD_SEQUENCE
    limit = (tp.rcv_nxt + tp.tcp_receive_window()) & 0xFFFF_FFFF
    if tp.rcv_retracted and after(tp.rcv_mwnd_seq, limit):
        limit = tp.rcv_mwnd_seq  # its ACK counts; what the text costs is judged later
    if not after(end, limit):
        return None
    if after(th.seq, limit):
        return Reason.TCP_INVALID_SEQUENCE
    # the peer's FIN is something to read, too
    return Reason.TCP_INVALID_END_SEQUENCE if tp.receive_queue or tp.fin_unread else None


def send_dupack(tp: TcpControl, th: TcpHeader) -> bool:
    """Tell the peer where we are (tcp_send_dupack); for empty segments, which may answer ours, only so often.

    True if this one was left out.
    """
    length = th.end - th.payload + (1 if th.flags & TCPHDR_FIN else 0)
    if (length == 0 or th.flags & TCPHDR_SYN) and tcp_oow_rate_limited(tp):
        return True
    if tp.net.tracer is not None:
        tp.net.tracer.note(Point.TCP_SEND_DUPACK, "", {"rcv_nxt": int(tp.rcv_nxt)})
    if length and before(th.seq, tp.rcv_nxt):
        tp.net.mib.tcpext.DelayedACKLost += 1
        tp.enter_quickack_mode(TCP_MAX_QUICKACKS)
        end_seq = (th.seq + length) & 0xFFFF_FFFF
        tcp_dsack_set(tp, th.seq, tp.rcv_nxt if after(end_seq, tp.rcv_nxt) else end_seq)
    tcp_send_ack(tp)
    return False


def check_rst(tp: TcpControl, packet: Packet, th: TcpHeader) -> bool:
    """RFC 5961 3.2: only a RST at exactly RCV.NXT resets; elsewhere in the window "TCP endpoints MUST send an
    acknowledgment (challenge ACK)". Always False."""
    acceptable = tcp_reset_acceptable(tp, th)
    tp.net.drop(packet, Reason.TCP_RESET)
    if acceptable:
        tcp_reset(tp)
        return False
    if tp.syn_fastopen and tp.data_segs_in == 0 and tp.state == TCP_ESTABLISHED:
        tcp_fastopen_active_disable(tp)  # a middle box that had lost the SYN's data from sight
    tcp_send_challenge_ack(tp)
    return False


def crossing_syn_ack(tp: TcpControl, th: TcpHeader) -> bool:
    """True for the SYN-ACK that answers ours in a simultaneous open (RFC 9293 figure 8, lines 5 and 6)."""
    return (
        tp.state == TCP_SYN_RECV
        and th.flags & TCPHDR_ACK != 0
        and th.end == th.payload
        and not th.flags & TCPHDR_FIN
        and tp.parent is None
        and th.seq == tp.irs
        and th.ack_seq == tp.snd_nxt
    )


def check_syn(tp: TcpControl, packet: Packet) -> bool:
    """RFC 5961 4.2: "If the SYN bit is set, irrespective of the sequence number, TCP MUST send an ACK". False."""
    if tp.state == TCP_ESTABLISHED:
        tp.net.mib.tcp.InErrs += 1
    tp.net.mib.tcpext.TCPSYNChallenge += 1
    tcp_send_challenge_ack(tp)
    tp.net.drop(packet, Reason.TCP_INVALID_SYN)
    return False


# -- fifth


def tcp_ack_step(tp: TcpControl, packet: Packet, th: TcpHeader) -> i64:
    """The ACK field of a synchronized connection; negative if it was unacceptable, and the packet dropped."""
    length = th.end - th.payload + (1 if th.flags & TCPHDR_FIN else 0)
    if not before(th.ack_seq, tp.snd_una) and not after(th.ack_seq, tp.snd_nxt):
        tcp_replace_ts_recent(tp, th)
        if length == 0:
            tp.net.mib.tcpext.TCPPureAcks += 1
        if tp.ecn_flags:
            tcp_ecn_accept_cwr(tp, th)
    result = tcp_ack(tp, th, length)
    tp.rx_sacks = None
    if result == ACK_TOO_OLD:
        tp.net.drop(packet, Reason.TCP_TOO_OLD_ACK)
    elif result == ACK_UNSENT:
        # RFC 9293: "If the ACK acks something not yet sent (SEG.ACK > SND.NXT), then send an ACK, drop the segment"
        tcp_send_challenge_ack(tp)
        tp.net.drop(packet, Reason.TCP_ACK_UNSENT_DATA)
    return result


def tcp_replace_ts_recent(tp: TcpControl, th: TcpHeader) -> None:
    """RFC 7323 4.3: "If SEG.TSval >= TS.Recent and SEG.SEQ <= Last.ACK.sent, then SEG.TSval is copied to TS.Recent".

    After the ACK was found acceptable: who does not know what we have sent shall not shift the clock either.
    """
    if tp.saw_tstamp and not after(th.seq, tp.rcv_wup) and tcp_paws_check(tp, 0):
        tcp_store_ts_recent(tp)


def tcp_data_snd_check(tp: TcpControl) -> None:
    """An ACK may have opened a window or freed buffer: send, and tell a writer who waits for room."""
    tcp_push_pending_frames(tp)
    if tp.mem_charged - tp.rmem_alloc - tp.wmem_queued >= PAGE_SIZE:
        sk_mem_reclaim(tp)
    if tp.sock_nospace:
        tcp_check_space(tp)


def tcp_check_space(tp: TcpControl) -> None:
    """A writer waits for room: give the buffer more if the network can take it, and wake him if there is enough."""
    if tcp_should_expand_sndbuf(tp):
        tcp_sndbuf_expand(tp)
        tp.snd_cwnd_stamp = tp.net.now
    if sk_stream_is_writeable(tp):
        tp.sock_nospace = False
        tcp_chrono_stop(tp, TCP_CHRONO_SNDBUF_LIMITED)
        tcp_wake(tp, WRITE_SPACE)


# -- any other state


def tcp_rcv_state_process(tp: TcpControl, packet: Packet, th: TcpHeader) -> None:
    """A segment for a socket that is neither established nor listening (tcp_rcv_state_process)."""
    if packet.journey is not None:
        packet.journey.step(Point.TCP_RCV_STATE_PROCESS, STATE_NAMES[int(tp.state)])
    if tp.state == TCP_CLOSE:
        return tp.net.drop(packet, Reason.TCP_CLOSE)
    if tp.state == TCP_SYN_SENT:
        return tcp_rcv_synsent(tp, packet, th)
    take_options(tp, packet, th)
    if tp.fastopen_rsk is not None and not tcp_check_fastopen_req(tp, packet, th):
        return
    if not th.flags & (TCPHDR_ACK | TCPHDR_RST | TCPHDR_SYN):
        return tp.net.drop(packet, Reason.TCP_FLAGS)
    if not tcp_validate_incoming(tp, packet, th):
        return
    if not check_ack(tp, packet, th):
        return
    if tp.state == TCP_CLOSE:
        return tp.net.deliver(packet)
    if th.flags & TCPHDR_URG or tp.urg_data:
        tcp_urg(tp, packet, th)
    if not in_set(tp.state, CAN_RECEIVE) and not before(th.seq, tp.rcv_nxt):
        # RFC 9293, seventh step: CLOSE-WAIT, CLOSING, LAST-ACK: "This should not occur since a FIN has been received
        # from the remote side. Ignore the segment text."
        tp.net.deliver(packet)
    elif data_after_close(tp, packet, th):
        return
    else:
        # what is old deserves an ACK in every state: ours for the peer's FIN may have been lost
        tcp_data_queue(tp, packet, th)
    finish_segment(tp)


def check_ack(tp: TcpControl, packet: Packet, th: TcpHeader) -> bool:
    """Fifth step for every state but ESTABLISHED. False: the segment has been dealt with."""
    if tp.state == TCP_SYN_RECV:
        if not tcp_synrecv_acceptable(tp, th):
            tcp_v4_send_reset(tp.tables, packet, th, Reason.TCP_INVALID_ACK_SEQUENCE, tp.mark)
            tp.net.drop(packet, Reason.TCP_INVALID_ACK_SEQUENCE)
            return False
        tcp_replace_ts_recent(tp, th)
        tcp_synrecv_ack(tp, th)
        return True
    result = tcp_ack_step(tp, packet, th)
    if result < 0:
        return False
    if tp.fastopen_rsk is not None:
        tcp_rcv_synrecv_state_fastopen(tp)  # closed by its owner before the handshake was done
    if result == ACK_NEW and tp.fin_queued and tp.snd_una == tp.write_seq:
        return our_fin_acked(tp, packet, th)
    return True


def our_fin_acked(tp: TcpControl, packet: Packet, th: TcpHeader) -> bool:
    """Fifth step: "if the FIN segment is now acknowledged", what then depends on where we are. False as check_ack."""
    tp.move(Event.RCV_ACK_OF_FIN)
    if tp.state == TCP_FIN_WAIT2:
        if tp.dead:
            return orphan_fin_acked(tp, packet, th)
        tcp_wake(tp, STATE_CHANGE)
    elif tp.state == TCP_TIME_WAIT:
        tcp_enter_time_wait(tp, TCP_TIME_WAIT, TCP_TIMEWAIT_LEN)
    elif tp.state == TCP_CLOSE:
        tcp_done(tp)
    return True


def orphan_fin_acked(tp: TcpControl, packet: Packet, th: TcpHeader) -> bool:
    """FIN_WAIT2 without an owner begins: it ends at once by a RST, or by a TimeWait, unless the peer's FIN is here."""
    fin = th.flags & TCPHDR_FIN != 0
    if tp.linger2 < 0 or text_beyond(tp, th):
        if tp.linger2 >= 0 and tp.syn_fastopen and fin:
            tcp_fastopen_active_disable(tp)
        abort_on_data(tp, packet, th)
        return False
    lasting = tp.fin_timeout()
    if not fin or lasting > TCP_TIMEWAIT_LEN:
        fin_wait2_alone(tp)
    elif th.seq != tp.rcv_nxt:
        tp.reset_keepalive_timer(lasting)  # it may not be the FIN that is next, which is taken whatever else is short
    return True


def data_after_close(tp: TcpControl, packet: Packet, th: TcpHeader) -> bool:
    """RFC 9293 3.6 / RFC 1122 4.2.2.13 (MUST): data for a connection whose reader is gone is answered with a RST.

    So is a FIN beyond a hole: there is data in it. And so is text that reaches across the peer's own FIN.
    """
    if tp.state == TCP_ESTABLISHED or not tp.shutdown & RCV_SHUTDOWN or not text_beyond(tp, th):
        return False
    abort_on_data(tp, packet, th)
    return True


def text_beyond(tp: TcpControl, th: TcpHeader) -> bool:
    """True if the segment has, or its FIN tells of, text that is not here yet."""
    length = th.end - th.payload
    return (length != 0 or th.flags & TCPHDR_FIN != 0) and after((th.seq + length) & 0xFFFF_FFFF, tp.rcv_nxt)


def abort_on_data(tp: TcpControl, packet: Packet, th: TcpHeader) -> None:
    """The segment's text has nobody to go to: the connection ends."""
    tp.net.mib.tcpext.TCPAbortOnData += 1
    tcp_v4_send_reset(tp.tables, packet, th, Reason.TCP_ABORT_ON_DATA, tp.mark)
    tp.net.drop(packet, Reason.TCP_ABORT_ON_DATA)
    tcp_reset(tp)


def tcp_v4_do_rcv(tp: TcpControl, packet: Packet, th: TcpHeader) -> None:
    """A segment whose socket is known (tcp_v4_do_rcv)."""
    tcp_segs_in(tp, packet, th)
    if tp.state == TCP_ESTABLISHED:
        tcp_rcv_established(tp, packet, th)
    else:
        tcp_rcv_state_process(tp, packet, th)


def tcp_segs_in(tp: TcpControl, packet: Packet, th: TcpHeader) -> None:
    """Count the segments of the wire, of a merged one each."""
    length = th.end - th.payload
    count = segment_count(packet, length)
    tp.segs_in += count
    if length:
        tp.data_segs_in += count
