"""Cutting a datagram that is larger than the path allows (Linux ip_do_fragment; RFC 791 section 3.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from librt.strings import BytesWriter
from mypy_extensions import i64

from ustack.device.gso import csum_help
from ustack.ipv4.facts import header_facts
from ustack.ipv4.options import ip_options_fragment
from ustack.packet import CHECKSUM_PARTIAL, Packet
from ustack.trace.journey import SENT
from ustack.trace.points import Point
from ustack.wire import ipv4
from ustack.wire.ipv4 import IP_HLEN, IP_MF, IP_OFFSET, Ipv4Header

if TYPE_CHECKING:
    from ustack.trace.journey import Facts, Journey

#: The bit that RFC 791 reserves, "must be zero"; a fragment begins anew without it.
_RESERVED: Final[i64] = 0x8000


def ip_do_fragment(packet: Packet, iph: Ipv4Header, mtu: i64) -> list[Packet]:
    """The fragments of ``packet``, in order, none longer than ``mtu``; an empty list if not even eight bytes fit.

    ``packet`` begins with the IP header that ``iph`` is, and may be a fragment itself. Its checksum is completed first:
    no device could do it for a part.
    """
    if packet.ip_summed == CHECKSUM_PARTIAL:
        packet.linearize()
        csum_help(packet)
    packet.linearize()
    hlen = iph.header_len
    # "the number of octets [...] must be a multiple of 8" but for the last fragment
    step = (mtu - hlen) & ~7
    if step <= 0:
        return []
    options = packet.buf[iph.start + IP_HLEN : iph.start + hlen]
    # what is a later fragment itself has only the options that were to be copied
    is_later = iph.frag_off & IP_OFFSET != 0
    later = options if is_later or not options else ip_options_fragment(options)
    payload = iph.start + hlen
    end = packet.end
    fragments: list[Packet] = []
    at = payload
    while at < end:
        length = step if end - at > mtu - hlen else end - at
        frag_off = (iph.frag_off & ~_RESERVED) + ((at - payload) >> 3)
        if at + length < end:
            frag_off |= IP_MF
        out = BytesWriter()
        _header(out, iph, hlen + length, frag_off, options if at == payload else later)
        out.write(packet.buf[at : at + length])
        fragments.append(_like(packet, out.getvalue(), hlen))
        at += length
    if packet.journey is not None:
        _trace_fragments(packet.journey, iph, fragments, mtu)
    return fragments


def _trace_fragments(journey: Journey, iph: Ipv4Header, fragments: list[Packet], mtu: i64) -> None:
    """From here on every fragment goes its own way; that of the whole ends."""
    facts: Facts = {"length": iph.total_len, "mtu": mtu}
    journey.step(Point.IP_FRAGMENT, f"cut into {len(fragments)} fragments", facts)
    number = 0
    for fragment in fragments:
        number += 1
        fragment.journey = journey.fork()
        fragment.journey.step(Point.IP_DO_FRAGMENT, f"fragment {number} of {len(fragments)}", header_facts(fragment))
    journey.finish(SENT)


def _header(out: BytesWriter, iph: Ipv4Header, total_len: i64, frag_off: i64, options: bytes) -> None:
    ipv4.emit(
        out,
        iph.tos,
        total_len,
        iph.ident,
        frag_off,
        iph.ttl,
        iph.protocol,
        iph.saddr,
        iph.daddr,
        options,
    )


def _like(whole: Packet, buf: bytes, hlen: i64) -> Packet:
    """A packet for one fragment that goes where ``whole`` would have gone (ip_copy_metadata)."""
    fragment = Packet(buf, whole.dev)
    fragment.in_dev = whole.in_dev
    fragment.dst = whole.dst
    fragment.sk = whole.sk
    fragment.transport_header = hlen
    fragment.protocol = whole.protocol
    fragment.pkt_type = whole.pkt_type
    fragment.mark = whole.mark
    fragment.priority = whole.priority
    fragment.forwarded = whole.forwarded
    fragment.tstamp = whole.tstamp
    return fragment
