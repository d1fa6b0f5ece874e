"""What the steps of a packet's journey tell of IPv4, in the words of tcpdump."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mypy_extensions import i64

from ustack.ipv4.options import NO_PROBLEM, IpOptions
from ustack.trace.given import Given
from ustack.wire import ipv4
from ustack.wire.ipv4 import addr_to_str, protocol_name

if TYPE_CHECKING:
    from ustack.dst import Dst
    from ustack.ipv4.defrag import FragQueue
    from ustack.packet import Packet
    from ustack.trace.journey import Facts
    from ustack.wire.ipv4 import Ipv4Header


class IdentGiven(Given):
    """Which identification a packet got, and whether it may be cut."""

    def __init__(self, ident: i64, df: bool) -> None:
        self.ident: i64 = ident
        self.df: bool = df

    def facts(self) -> Facts:
        return {"id": self.ident, "DF": self.df}


def ip_facts(iph: Ipv4Header) -> Facts:
    """A header: from whom, to whom, how many hops it may live, what it carries."""
    facts: Facts = {
        "from": addr_to_str(iph.saddr),
        "to": addr_to_str(iph.daddr),
        "protocol": protocol_name(iph.protocol),
        "length": iph.total_len,
        "ttl": iph.ttl,
        "id": iph.ident,
    }
    if iph.tos != 0:
        facts["tos"] = f"0x{iph.tos:02x}"
    if iph.dont_fragment:
        facts["DF"] = True
    if iph.is_fragment:
        facts["offset"] = iph.fragment_offset
        facts["MF"] = iph.more_fragments
    if iph.header_len > ipv4.IP_HLEN:
        facts["options"] = iph.header_len - ipv4.IP_HLEN
    return facts


def header_facts(packet: Packet) -> Facts:
    """The same of a packet that goes out, whose header may never have been parsed."""
    iph = ipv4.parse(packet.buf, packet.network_header, packet.end)
    return {} if iph is None else ip_facts(iph)


class WayGiven(Given):
    """Where a route leads that is kept or was chosen for a socket, and the source address (0: nothing new)."""

    def __init__(self, dst: Dst, source: i64 = 0) -> None:
        self.source: i64 = source
        self.dev: str = dst.dev.name
        self.via: i64 = dst.gateway if dst.uses_gateway else 0

    def facts(self) -> Facts:
        facts: Facts = {}
        if self.source != 0:
            facts["src"] = addr_to_str(self.source)
        facts["dev"] = self.dev
        if self.via != 0:
            facts["via"] = addr_to_str(self.via)
        return facts


def options_facts(opt: IpOptions) -> Facts:
    """Which options were understood, and where each begins in the header."""
    facts: Facts = {}
    for name, at in (("record_route", opt.rr), ("timestamp", opt.ts), ("router_alert", opt.router_alert)):
        if at != 0:
            facts[name] = at
    if opt.srr != 0:
        facts["strict_route" if opt.is_strictroute else "loose_route"] = opt.srr
    if opt.pp_ptr != NO_PROBLEM:
        facts["fault_at"] = opt.pp_ptr
    return facts


def fit_facts(packet: Packet, mtu: i64) -> Facts:
    """A packet against what its path takes."""
    facts: Facts = {"length": packet.end - packet.network_header + packet.frags_len, "mtu": mtu}
    if packet.gso_size != 0:
        facts["gso_size"] = packet.gso_size
    return facts


def quoted_facts(quoted: Ipv4Header, info: i64) -> Facts:
    """Whose packet an ICMP error is about, and what its second word says."""
    facts: Facts = {"about": f"{addr_to_str(quoted.saddr)} > {addr_to_str(quoted.daddr)}", "id": quoted.ident}
    if info != 0:
        facts["info"] = info
    return facts


def datagram_facts(queue: FragQueue) -> Facts:
    """How much of a datagram is there."""
    facts: Facts = {"here": queue.meat, "fragments": len(queue.fragments)}
    if queue.last_in:
        facts["of"] = queue.length
    return facts
