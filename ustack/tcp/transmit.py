"""One segment on its way out: header, options, window, and off to IP (Linux tcp_transmit_skb and its callers)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from librt.strings import BytesWriter
from mypy_extensions import i64

from ustack.device.gso import TCP_CSUM_OFFSET
from ustack.dst import dst_metric_advmss
from ustack.packet import CHECKSUM_PARTIAL, COPYBREAK, NET_XMIT_DROP, SKB_GSO_TCP_ECN, SKB_GSO_TCPV4, Buffer, Packet
from ustack.tcp.congestion.base import CA_EVENT_TX_START
from ustack.tcp.control import ICSK_ACK_SCHED, ICSK_ACK_TIMER, TCP_ATO_MIN, TCP_ECN_OK, TcpControl
from ustack.tcp.ecn import tcp_ecn_send
from ustack.tcp.pacing import tcp_update_skb_after_send
from ustack.tcp.prr import tcp_enter_cwr
from ustack.tcp.rate import tcp_rate_skb_sent
from ustack.tcp.seq import after
from ustack.tcp.stream import tcp_urg_pointer
from ustack.tcp.trace import TransmitGiven
from ustack.tcp.window import tcp_select_window
from ustack.trace.points import Point
from ustack.wire import tcp as wire
from ustack.wire.checksum import fold
from ustack.wire.tcp import TCPHDR_ACK, TCPHDR_CWR, TCPHDR_PSH, TCPHDR_SYN, TCPHDR_URG

if TYPE_CHECKING:
    from ustack.tcp.segment import TcpSkb

NO_PIECES: Final[list[Buffer]] = []


def tcp_transmit_skb(tp: TcpControl, skb: TcpSkb) -> i64:
    """Send ``skb`` as it is; 0, or what IP gave: an errno or NET_XMIT_DROP. The queues are the caller's affair."""
    options = tcp_syn_options(tp, skb.flags) if skb.flags & TCPHDR_SYN else tcp_established_options(tp)
    prior_wstamp = tp.tcp_wstamp
    # a super-segment ends with PSH on the wire, so that the receiver's offload hands it up at once; not when it is cut
    flags = skb.flags | TCPHDR_PSH if skb.pcount > 1 else skb.flags
    gso_size: i64 = skb.mss if skb.pcount > 1 else 0
    code = tcp_send_segment(tp, skb.seq, flags, options, skb.pieces, skb.len, gso_size)
    if skb.len:
        tcp_event_data_sent(tp)
        tp.data_segs_out += skb.pcount
        tp.bytes_sent += skb.len
    tp.segs_out += skb.pcount
    if after(skb.end_seq, tp.snd_nxt):  # RFC 4022: "excluding those containing only retransmitted octets"
        tp.net.mib.tcp.OutSegs += skb.pcount
    skb.sent_at = tp.net.now
    if code == 0:
        tcp_update_skb_after_send(tp, skb, prior_wstamp)
        tcp_rate_skb_sent(tp, skb)
    return code


def tcp_send_bare(tp: TcpControl, seq: i64, flags: i64) -> i64:
    """Send a segment without data that nobody will retransmit: an ACK, a probe, a RST. As tcp_transmit_skb."""
    code = tcp_send_segment(tp, seq, flags, tcp_established_options(tp), NO_PIECES, 0)
    tp.segs_out += 1
    tp.net.mib.tcp.OutSegs += 1
    return code


def tcp_send_segment(
    tp: TcpControl, seq: i64, flags: i64, options: bytes, pieces: list[Buffer], length: i64, gso_size: i64 = 0
) -> i64:
    """Put the header before ``pieces`` (``length`` bytes) and give it to IP; a super-segment is cut by the device.

    ``gso_size``: into pieces of so many bytes, as many as it counts for; 0: it is none.

    The checksum field holds the pseudo-header's sum: the device, or csum_help on its behalf, adds the rest.
    """
    if flags & TCPHDR_SYN:
        # RFC 7323 2.2: "The window field in a segment where the SYN bit is set [...] MUST NOT be scaled."
        window = min(tp.rcv_wnd, 65_535)
    else:
        window = tcp_select_window(tp)
    ack_seq: i64 = 0
    if flags & TCPHDR_ACK:
        ack_seq = tp.rcv_nxt
        tcp_event_ack_sent(tp)
    if tp.ecn_flags & TCP_ECN_OK and not flags & TCPHDR_SYN:
        flags = tcp_ecn_send(tp, seq, flags, length)
    tp.tcp_wstamp = max(tp.tcp_wstamp, tp.net.now)
    urg_ptr: i64 = 0
    if tp.urg_mode:
        urg_ptr = tcp_urg_pointer(tp, seq)
        if urg_ptr:
            flags |= TCPHDR_URG
    header_len: i64 = 20 + len(options)
    check = fold(tp.pseudo_sum + header_len + length)
    out = BytesWriter()
    wire.emit(out, tp.num, tp.dport, seq, ack_seq, flags, window, check, urg_ptr, options)
    packet = segment_packet(out, pieces, length)
    packet.csum_offset = TCP_CSUM_OFFSET
    packet.mark = tp.mark
    packet.priority = tp.priority
    if gso_size != 0 and length > gso_size:
        packet.gso_size = gso_size
        packet.gso_type = SKB_GSO_TCPV4 | SKB_GSO_TCP_ECN if flags & TCPHDR_CWR else SKB_GSO_TCPV4
    if tp.net.tracer is not None:
        facts = TransmitGiven(tp, packet, seq, ack_seq, flags, window, options, length)
        tp.net.tracer.note(Point.TCP_TRANSMIT_SKB, "", facts)
    code = tp.tables.ipv4.ip_queue_xmit(tp, packet)
    if code == NET_XMIT_DROP:
        # our own device is the bottleneck: as good a sign of congestion as any
        tcp_enter_cwr(tp)
    return code


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


def tcp_established_options(tp: TcpControl) -> bytes:
    """Options of any segment but a SYN: timestamps, and what was received out of order (tcp_established_options)."""
    options = wire.timestamp_option(tp.mstamp(), tp.ts_recent) if tp.tstamp_ok else b""
    if tp.duplicate_sack is None and not tp.selective_acks:
        return options
    return options + wire.sack_option(tcp_sack_blocks(tp))


def tcp_sack_blocks(tp: TcpControl) -> list[tuple[int, int]]:
    """What the next segment reports, as much as its header holds: 4 blocks, or 3 beside timestamps.

    RFC 2883 section 4: "The D-SACK block [...] is reported as the first SACK block", and only once.
    """
    blocks = tp.selective_acks
    if tp.duplicate_sack is not None:
        blocks = [tp.duplicate_sack, *blocks]
        tp.duplicate_sack = None
    return blocks[: 3 if tp.tstamp_ok else 4]


def sack_option_len(tp: TcpControl) -> i64:
    """Bytes that SACK will take of the next segment, 0 most often (what tcp_current_mss subtracts from mss_cache)."""
    count: i64 = len(tp.selective_acks)
    if tp.duplicate_sack is not None:
        count += 1
    return 4 + 8 * min(count, 3 if tp.tstamp_ok else 4) if count else 0


def tcp_syn_options(tp: TcpControl, flags: i64) -> bytes:
    """Options of our SYN, or of the SYN-ACK of a simultaneous open (tcp_syn_options).

    Linux's order: MSS, SACK permitted, timestamps, window scale, Fast Open. What the peer's SYN has left out is offered
    all the same: who has not offered it himself does not take it (RFC 7323 2.2, 3.2).
    """
    offered = tp.net.sysctl
    timestamps = offered.tcp_timestamps != 0
    sack = offered.tcp_sack != 0
    wscale = tp.rcv_wscale if offered.tcp_window_scaling else -1
    options = wire.syn_options(tcp_advertise_mss(tp), wscale, sack, timestamps, tp.mstamp(), tp.ts_recent)
    if tp.fastopen_cookie is None or flags & TCPHDR_ACK:
        return options
    cookie = wire.fastopen_option(tp.fastopen_cookie, tp.fastopen_exp)
    if len(options) + len(cookie) > wire.TCP_MAX_OPTIONS:
        return options
    tp.syn_fastopen = True
    tp.syn_fastopen_exp = tp.fastopen_exp
    return options + cookie


def tcp_advertise_mss(tp: TcpControl) -> i64:
    """The MSS option: what it was, or less where the path has turned out narrower since (tcp_advertise_mss)."""
    dst = tp.dst_cache
    if dst is not None:
        tp.advmss = min(tp.advmss, dst_metric_advmss(dst))
    return tp.advmss


def tcp_event_ack_sent(tp: TcpControl) -> None:
    """An ACK went out, alone or on data: nothing is owed any more."""
    if tp.compressed_ack:
        tp.net.mib.tcpext.TCPAckCompressed += tp.compressed_ack
        tp.clear_compressed_ack()
    if tp.ack_quick and tp.ack_pending & ICSK_ACK_SCHED:
        tp.ack_quick -= 1
        if tp.ack_quick == 0:
            tp.ato = TCP_ATO_MIN  # leaving quick ACKs the delay starts small
    if tp.ack_pending & ICSK_ACK_TIMER and tp.delack_timer is not None:
        tp.net.timers.del_timer(tp.delack_timer)
    tp.ack_pending = 0


def tcp_event_data_sent(tp: TcpControl) -> None:
    """Data that answers data within the ATO makes the connection interactive: ACKs wait for the next answer."""
    if tp.tcp_packets_in_flight() == 0:
        tp.congestion.cwnd_event(tp, CA_EVENT_TX_START)
    now = tp.net.now
    tp.lsndtime = now
    if now - tp.lrcvtime < tp.ato:
        tp.ack_pingpong += 1


def tcp_send_ack(tp: TcpControl) -> None:
    """Acknowledge everything received, now."""
    if tp.net.tracer is not None:
        tp.net.tracer.note(Point.TCP_SEND_ACK)
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
    if tp.net.tracer is not None:
        tp.net.tracer.here(Point.TCP_QUEUE_ACK, "ACK with the batch" if tp.tables.batching else "ACK now")
    if not tp.tables.batching:
        tcp_send_ack(tp)
    elif not tp.ack_queued:
        tp.ack_queued = True
        tp.tables.acks.append(tp)
