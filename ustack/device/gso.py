"""What a device cannot do, done in software: segmentation and checksums (Linux net/ipv4/tcp_offload.c, net/core/gso.c).

A super-segment is one TCP segment larger than the path allows, with ``gso_size`` bytes of payload for each of the
segments it stands for. A NIC with TSO cuts it; where there is none, skb_gso_segment does, at the last moment.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from librt.strings import BytesWriter
from mypy_extensions import i64

from ustack.packet import CHECKSUM_NONE, CHECKSUM_PARTIAL, SKB_GSO_NONE, SKB_GSO_TCPV4, Buffer, Packet
from ustack.trace.journey import SENT
from ustack.trace.points import Point
from ustack.wire.checksum import csum_fold, csum_partial, csum_pieces, csum_tcpudp_nofold, fold
from ustack.wire.ipv4 import IP_HLEN, IP_MF, IP_OFFSET, IPPROTO_TCP
from ustack.wire.octets import put_u16, put_u32, u16, u32
from ustack.wire.tcp import TCP_HLEN, TCPHDR_CWR, TCPHDR_FIN, TCPHDR_PSH

if TYPE_CHECKING:
    from ustack.trace.journey import Journey
    from ustack.wire.ipv4 import Ipv4Header

#: Linux CSUM_MANGLED_0. RFC 768: "If the computed checksum is zero, it is transmitted as all ones". For every other
#: protocol both zeros of ones complement mean the same.
CSUM_MANGLED_0: Final = 0xFFFF
TCP_CSUM_OFFSET: Final[i64] = 16  #: where a TCP header has its checksum


def partial_fits(packet: Packet) -> bool:
    """Whether the checksum that ``packet`` still wants lies inside its linear part."""
    start = packet.csum_start
    offset = packet.csum_offset
    return start >= 0 and offset >= 0 and start + offset + 2 <= packet.end


def csum_help(packet: Packet) -> None:
    """Complete a CHECKSUM_PARTIAL packet, one for which partial_fits holds (skb_checksum_help)."""
    if packet.journey is not None:
        packet.journey.step(
            Point.SKB_CHECKSUM_HELP,
            "computed",
            {"csum_start": packet.csum_start, "csum_offset": packet.csum_offset},
        )
    packet.buf = completed(packet.buf, packet.end, packet.frags, packet.csum_start, packet.csum_offset)
    packet.end = len(packet.buf)
    packet.ip_summed = CHECKSUM_NONE


def completed(buf: bytes, end: i64, frags: list[Buffer] | None, csum_start: i64, csum_offset: i64) -> bytes:
    """``buf[:end]`` with the sum from ``csum_start`` on, over ``frags`` too, stored where it belongs.

    The field already holds the sum of the pseudo-header; both offsets must lie in ``buf``.
    """
    if frags is None:
        total = csum_partial(buf, csum_start, end)
    else:
        total = csum_pieces([buf[csum_start:end], *frags])
    check = csum_fold(total)
    if check == 0:
        check = CSUM_MANGLED_0
    return _with_check(buf, end, csum_start + csum_offset, check)


def _with_check(buf: bytes, end: i64, at: i64, check: i64) -> bytes:
    return buf[:at] + bytes((check >> 8, check & 0xFF)) + buf[at + 2 : end]


def tcp4_gro_complete(packet: Packet, iph: Ipv4Header) -> None:
    """Make a received super-segment, whose checksums the device has verified, one to send: another device is to cut it,
    and needs the pseudo-header's sum in the checksum's place."""
    at = packet.transport_header
    if packet.gso_type & SKB_GSO_TCPV4 == 0 or iph.protocol != IPPROTO_TCP or at + TCP_HLEN > packet.end:
        return
    check = fold(csum_tcpudp_nofold(iph.saddr, iph.daddr, iph.total_len - iph.header_len, IPPROTO_TCP))
    packet.buf = _with_check(packet.buf, len(packet.buf), at + TCP_CSUM_OFFSET, check)
    packet.ip_summed = CHECKSUM_PARTIAL
    packet.csum_start = at
    packet.csum_offset = TCP_CSUM_OFFSET


class _Template:
    """The headers of a super-segment, with the sums of everything that its segments have in common."""

    def __init__(self, packet: Packet, network: i64, transport: i64, header_len: i64) -> None:
        buf = packet.buf
        self.network: i64 = network
        self.transport: i64 = transport
        self.header_len: i64 = header_len
        self.ident: i64 = u16(buf, network + 4)
        self.seq: i64 = u32(buf, transport + 4)
        self.offset_flags: i64 = u16(buf, transport + 12)
        self.upto_len: bytes = buf[: network + 2]  # Ethernet, version, IHL, TOS
        self.frag_ttl: bytes = buf[network + 6 : network + 10]  # fragment word, TTL, protocol
        self.addrs_ports: bytes = buf[network + 12 : transport + 4]  # addresses, IP options, ports
        self.ack: bytes = buf[transport + 8 : transport + 12]
        self.window: bytes = buf[transport + 14 : transport + 16]
        self.urg_options: bytes = buf[transport + 18 : header_len]
        ip = csum_partial(buf, network, network + 2) + csum_partial(buf, network + 6, network + 10)
        self.ip_sum: i64 = ip + csum_partial(buf, network + 12, transport)
        self.pseudo_sum: i64 = csum_tcpudp_nofold(u32(buf, network + 12), u32(buf, network + 16), 0, IPPROTO_TCP)
        if transport - network > IP_HLEN:
            # by a source route the header's destination is not the one that the sum is about; the field holds the right
            # one, with the whole length
            whole = packet.end - transport + packet.frags_len
            self.pseudo_sum = u16(buf, transport + TCP_CSUM_OFFSET) + 0xFFFF - fold(whole)
        tcp = csum_partial(buf, transport, transport + 4) + csum_partial(buf, transport + 8, transport + 12)
        tcp += csum_partial(buf, transport + 14, transport + 16)
        self.tcp_sum: i64 = tcp + csum_partial(buf, transport + 18, header_len)

    def segment(self, data: bytes, start: i64, end: i64, index: i64, offset_flags: i64, partial: bool) -> bytes:
        """The frame of segment ``index`` with the payload ``data[start:end]``; ``partial``: a NIC does the sum."""
        length = self.header_len - self.transport + end - start
        total_len = self.transport - self.network + length
        ident = (self.ident + index) & 0xFFFF
        seq = (self.seq + start) & 0xFFFF_FFFF
        check = fold(self.pseudo_sum + length)
        if not partial:
            check += self.tcp_sum + (seq >> 16) + (seq & 0xFFFF) + offset_flags
            check = csum_fold(csum_partial(data, start, end, check))
        out = BytesWriter()
        out.write(self.upto_len)
        put_u16(out, total_len)
        put_u16(out, ident)
        out.write(self.frag_ttl)
        put_u16(out, csum_fold(self.ip_sum + total_len + ident))
        out.write(self.addrs_ports)
        put_u32(out, seq)
        out.write(self.ack)
        put_u16(out, offset_flags)
        out.write(self.window)
        put_u16(out, check)
        out.write(self.urg_options)
        out.write(data[start:end])
        return out.getvalue()


def skb_gso_segment(packet: Packet, hw_csum: bool = False) -> list[Packet]:
    """The segments that ``packet`` stands for, in order (tcp_gso_segment, inet_gso_segment).

    ``packet.buf`` begins with its Ethernet header. With ``hw_csum`` the segments are CHECKSUM_PARTIAL, else their
    checksums are complete. An empty list for what cannot be cut: not TCP over IPv4, a fragment, headers that lie.
    """
    template = _template(packet)
    if template is None:
        return []
    header_len = template.header_len
    data = packet.buf[header_len : packet.end]
    if packet.frags is not None:
        data = b"".join([data, *packet.frags])
    total: i64 = len(data)
    mss = packet.gso_size
    segments: list[Packet] = []
    start: i64 = 0
    while start < total or len(segments) == 0:
        end = start + mss if start + mss < total else total
        flags = _segment_flags(template.offset_flags, start == 0, end == total)
        frame = template.segment(data, start, end, len(segments), flags, hw_csum)
        segments.append(_segment_packet(packet, frame, template, hw_csum))
        start = end
    if packet.journey is not None:
        _trace_segments(packet, packet.journey, segments, template)
    return segments


def _trace_segments(packet: Packet, journey: Journey, segments: list[Packet], template: _Template) -> None:
    """From here on every segment goes its own way; that of the whole ends."""
    journey.step(Point.SKB_GSO_SEGMENT, f"cut into {len(segments)} segments", {"gso_size": packet.gso_size})
    number = 0
    for segment in segments:
        number += 1
        segment.journey = journey.fork()
        segment.journey.step(
            Point.TCP_GSO_SEGMENT,
            f"segment {number} of {len(segments)}",
            {"seq": u32(segment.buf, template.transport + 4), "length": segment.end - template.network},
        )
    journey.finish(SENT)


def _segment_flags(offset_flags: i64, first: bool, last: bool) -> i64:
    """The word with the TCP flags as one segment has it."""
    if not first:
        # RFC 3168 6.1.2: CWR is set "on the first new data packet sent after the window reduction"
        offset_flags &= ~TCPHDR_CWR
    if not last:
        offset_flags &= ~(TCPHDR_FIN | TCPHDR_PSH)
    return offset_flags


def _template(packet: Packet) -> _Template | None:
    """None unless the headers are those of a whole TCP segment over IPv4, all in the linear part."""
    buf = packet.buf
    network = packet.network_header
    if packet.gso_size <= 0 or packet.gso_type & SKB_GSO_TCPV4 == 0 or network + IP_HLEN > packet.end:
        return None
    transport = network + (i64(buf[network]) & 0xF) * 4
    if buf[network] >> 4 != 4 or transport < network + IP_HLEN or transport + TCP_HLEN > packet.end:
        return None
    if buf[network + 9] != IPPROTO_TCP or u16(buf, network + 6) & (IP_MF | IP_OFFSET) != 0:
        return None
    header_len = transport + (i64(buf[transport + 12]) >> 4) * 4
    if header_len < transport + TCP_HLEN or header_len > packet.end:
        return None
    return _Template(packet, network, transport, header_len)


def _segment_packet(whole: Packet, frame: bytes, template: _Template, hw_csum: bool) -> Packet:
    """A packet for ``frame`` that goes where ``whole`` would have gone."""
    segment = Packet(frame, whole.dev)
    segment.in_dev = whole.in_dev
    segment.sk = whole.sk
    segment.network_header = template.network
    segment.transport_header = template.transport
    segment.protocol = whole.protocol
    segment.pkt_type = whole.pkt_type
    segment.mark = whole.mark
    segment.priority = whole.priority
    segment.tstamp = whole.tstamp
    segment.gso_type = SKB_GSO_NONE
    if hw_csum:
        segment.ip_summed = CHECKSUM_PARTIAL
        segment.csum_start = template.transport
        segment.csum_offset = TCP_CSUM_OFFSET
    return segment
