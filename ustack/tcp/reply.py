"""Segments that belong to no socket: resets, and ACKs for connections that are only remembered.

RFC 9293 section 3.10.7.1 (CLOSED) and 3.5.2; Linux tcp_v4_send_reset, tcp_v4_send_ack.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from librt.strings import BytesWriter
from mypy_extensions import i64

from ustack.device.gso import TCP_CSUM_OFFSET
from ustack.dst import ip4_dst_hoplimit
from ustack.ipv4.options import NO_PROBLEM, ip_options_echo
from ustack.packet import CHECKSUM_PARTIAL, Packet
from ustack.routing.flow import INET_DSCP_MASK, Flow
from ustack.tcp.trace import flags_word
from ustack.trace.points import Point
from ustack.wire import tcp as wire
from ustack.wire.checksum import csum_tcpudp_nofold, fold
from ustack.wire.ipv4 import IPPROTO_TCP
from ustack.wire.tcp import TCPHDR_ACK, TCPHDR_RST, TcpHeader

if TYPE_CHECKING:
    from ustack.drop import Reason
    from ustack.ipv4.options import IpOptions
    from ustack.tcp.tables import TcpTables
    from ustack.trace.journey import Facts


def tcp_v4_send_reset(tables: TcpTables, packet: Packet, th: TcpHeader, reason: Reason, mark: i64 = 0) -> None:
    """Answer a segment that fits no connection; never another RST, or two stacks would talk for ever.

    ``reason``: why, for who traces it (enum sk_rst_reason); ``mark``: of the socket that answers, if there is one.

    RFC 9293 3.10.7.1: "If the ACK bit is off, sequence number zero is used, <SEQ=0><ACK=SEG.SEQ+SEG.LEN>
    <CTL=RST,ACK>. If the ACK bit is on, <SEQ=SEG.ACK><CTL=RST>."
    """
    if th.flags & TCPHDR_RST or packet.iph is None or packet.pkt_type != 0:
        return
    if wire.find_signature(packet.buf, th.options, th.payload) != wire.NO_SIGNATURE:
        return  # who signs takes nothing that is not
    seq: i64 = 0
    ack: i64 = 0
    flags: i64 = TCPHDR_RST
    if th.flags & TCPHDR_ACK:
        seq = th.ack_seq
    else:
        ack = th.end_seq()
        flags |= TCPHDR_ACK
    tables.net.mib.tcp.OutRsts += 1
    if tables.net.tracer is not None:
        facts: Facts = {"flags": flags_word(flags), "seq": int(seq), "ack": int(ack)}
        tables.net.tracer.note(Point.TCP_V4_SEND_RESET, reason.name, facts)
    iph = packet.iph
    opt = None if packet.opt is None else ip_options_echo(packet.opt, tables.routing)
    if opt is None or opt.pp_ptr == NO_PROBLEM:
        tos = iph.tos & INET_DSCP_MASK
        mark = tables.net.ip4_reply_mark(packet.mark) or mark
        send_bare(tables, iph.daddr, iph.saddr, th.dport, th.sport, seq, ack, flags, 0, b"", tos, opt, mark)


def bare_segment(
    saddr: i64, daddr: i64, sport: i64, dport: i64, seq: i64, ack: i64, flags: i64, window: i64, options: bytes
) -> Packet:
    """A header without data, ready for IP; its checksum is left to the device."""
    check = fold(csum_tcpudp_nofold(saddr, daddr, 20 + len(options), IPPROTO_TCP))
    out = BytesWriter()
    wire.emit(out, sport, dport, seq, ack, flags, window, check, 0, options)
    packet = Packet(out.getvalue())
    packet.ip_summed = CHECKSUM_PARTIAL
    packet.csum_offset = TCP_CSUM_OFFSET
    return packet


def send_bare(
    tables: TcpTables,
    saddr: i64,
    daddr: i64,
    sport: i64,
    dport: i64,
    seq: i64,
    ack: i64,
    flags: i64,
    window: i64,
    options: bytes,
    tos: i64 = 0,
    opt: IpOptions | None = None,
    mark: i64 = 0,
    oif: i64 = 0,
) -> None:
    """Send a segment without data or socket, by device ``oif`` if not 0; nothing is sent without a route."""
    try:
        dst = tables.routing.ip_route_output(Flow(daddr, saddr, oif, tos, IPPROTO_TCP, sport, dport, mark))
    except OSError:
        return
    reply = bare_segment(saddr, daddr, sport, dport, seq, ack, flags, window, options)
    reply.mark = mark
    tables.net.mib.tcp.OutSegs += 1
    ttl = ip4_dst_hoplimit(dst, tables.net.sysctl.ip_default_ttl)
    # RFC 6864 section 4.1: with DF set and never fragmented the datagram is atomic, its ID means nothing
    tables.ipv4.ip_build_and_send_pkt(reply, dst, saddr, daddr, IPPROTO_TCP, tos, ttl, True, None, opt)
