"""One segment on its way out: header, options, window, and off to IP (Linux tcp_transmit_skb and its callers)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from librt.strings import BytesWriter
from mypy_extensions import i64

from ustack.device.gso import TCP_CSUM_OFFSET
from ustack.packet import CHECKSUM_PARTIAL, COPYBREAK, SKB_GSO_TCPV4, Buffer, Packet
from ustack.tcp.control import ICSK_ACK_SCHED, ICSK_ACK_TIMER, TCP_ATO_MIN, TcpControl
from ustack.tcp.window import tcp_select_window
from ustack.wire import tcp as wire
from ustack.wire.checksum import fold
from ustack.wire.tcp import TCPHDR_ACK, TCPHDR_RST, TCPHDR_SYN

if TYPE_CHECKING:
    from ustack.tcp.segment import TcpSkb

NO_PIECES: Final[list[Buffer]] = []


def tcp_transmit_skb(tp: TcpControl, skb: TcpSkb) -> i64:
    """Send ``skb`` as it is; 0, or an errno that IP gave. The retransmission queue is the caller's affair."""
    options = syn_options_of(tp, skb.flags) if skb.flags & TCPHDR_SYN else established_options(tp)
    code = tcp_send_segment(tp, skb.seq, skb.flags, options, skb.pieces, skb.len)
    if skb.len:
        tcp_event_data_sent(tp)
    tp.net.mib.tcp.OutSegs += skb.pcount
    skb.sent_at = tp.net.now
    return code


def tcp_send_bare(tp: TcpControl, seq: i64, flags: i64) -> None:
    """Send a segment without data that nobody will retransmit: an ACK, a probe, a RST."""
    tcp_send_segment(tp, seq, flags, established_options(tp), NO_PIECES, 0)
    tp.net.mib.tcp.OutSegs += 1


def tcp_send_segment(tp: TcpControl, seq: i64, flags: i64, options: bytes, pieces: list[Buffer], length: i64) -> i64:
    """Put the header before ``pieces`` (``length`` bytes) and give it to IP; a super-segment is cut by the device.

    The checksum field holds the pseudo-header's sum: the device, or csum_help on its behalf, adds the rest.
    """
    if flags & TCPHDR_SYN:
        # RFC 7323 2.2: "The window field in a segment where the SYN bit is set [...] MUST NOT be scaled."
        window = min(tp.rcv_wnd, 65_535)
    else:
        window = 0 if flags & TCPHDR_RST else tcp_select_window(tp)
    ack_seq: i64 = 0
    if flags & TCPHDR_ACK:
        ack_seq = tp.rcv_nxt
        tcp_event_ack_sent(tp)
    header_len: i64 = 20 + len(options)
    check = fold(tp.pseudo_sum + header_len + length)
    out = BytesWriter()
    wire.emit(out, tp.num, tp.dport, seq, ack_seq, flags, window, check, 0, options)
    packet = segment_packet(out, pieces, length)
    packet.csum_offset = TCP_CSUM_OFFSET
    packet.mark = tp.mark
    packet.priority = tp.priority
    if length > tp.mss_cache:
        packet.gso_size = tp.mss_cache
        packet.gso_type = SKB_GSO_TCPV4
    return tp.tables.ipv4.ip_queue_xmit(tp, packet)


def segment_packet(out: BytesWriter, pieces: list[Buffer], length: i64) -> Packet:
    """A packet of the header in ``out`` and its payload: small ones joined to the header, large ones left alone."""
    if length <= COPYBREAK:
        for piece in pieces:
            out.write(piece if isinstance(piece, bytes) else bytes(piece))
        packet = Packet(out.getvalue())
    else:
        packet = Packet(out.getvalue())
        packet.frags = pieces
        packet.frags_len = length
    packet.ip_summed = CHECKSUM_PARTIAL
    return packet


def established_options(tp: TcpControl) -> bytes:
    """Options of any segment but a SYN (tcp_established_options)."""
    return wire.timestamp_option(tp.mstamp(), tp.ts_recent) if tp.tstamp_ok else b""


def syn_options_of(tp: TcpControl, flags: i64) -> bytes:
    """Options of our SYN, or of the SYN-ACK of a simultaneous open (tcp_syn_options)."""
    offered = tp.net.sysctl
    answering = flags & TCPHDR_ACK != 0
    timestamps = tp.tstamp_ok if answering else offered.tcp_timestamps != 0
    scaling = tp.wscale_ok if answering else offered.tcp_window_scaling != 0
    wscale = tp.rcv_wscale if scaling else -1
    return wire.syn_options(tp.advmss, wscale, False, timestamps, tp.mstamp(), tp.ts_recent)


def tcp_event_ack_sent(tp: TcpControl) -> None:
    """An ACK went out, alone or on data: nothing is owed any more."""
    if tp.ack_quick and tp.ack_pending & ICSK_ACK_SCHED:
        tp.ack_quick -= 1
        if tp.ack_quick == 0:
            tp.ato = TCP_ATO_MIN  # leaving quick ACKs the delay starts small
    if tp.ack_pending & ICSK_ACK_TIMER and tp.delack_timer is not None:
        tp.net.timers.del_timer(tp.delack_timer)
    tp.ack_pending = 0


def tcp_event_data_sent(tp: TcpControl) -> None:
    """Data that answers data within the ATO makes the connection interactive: ACKs wait for the next answer."""
    now = tp.net.now
    tp.lsndtime = now
    if now - tp.lrcvtime < tp.ato:
        tp.ack_pingpong = True


def tcp_send_ack(tp: TcpControl) -> None:
    """Acknowledge everything received, now."""
    tcp_send_bare(tp, tcp_acceptable_seq(tp), TCPHDR_ACK)


def tcp_acceptable_seq(tp: TcpControl) -> i64:
    """A sequence number the peer will take: SND.NXT, unless the window has shrunk below it (tcp_acceptable_seq)."""
    end = tp.tcp_wnd_end()
    beyond: i64 = (tp.snd_nxt - end) & 0xFFFF_FFFF
    return end if 0 < beyond < 0x8000_0000 and beyond >= i64(1) << tp.rcv_wscale else tp.snd_nxt


def tcp_queue_ack(tp: TcpControl) -> None:
    """Acknowledge at the end of the batch of frames being received, or now if there is none.

    RFC 9293 SHLD-19 wants an ACK for at least every second full segment. Like a kernel behind GRO, one ACK answers
    what one batch of frames brought.
    """
    if not tp.tables.batching:
        tcp_send_ack(tp)
    elif not tp.ack_queued:
        tp.ack_queued = True
        tp.tables.acks.append(tp)
