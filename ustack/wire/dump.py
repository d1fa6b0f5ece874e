"""A whole frame in one line, the way tcpdump tells it: for traces, captures and people."""

from __future__ import annotations

from mypy_extensions import i64

from ustack.wire import arp, ethernet, icmp, ipv4, tcp, udp


def describe(frame: bytes) -> str:
    """``IP 192.0.2.1.33000 > 192.0.2.2.80: Flags [S], seq 1, win 64240, length 0``; never fails."""
    header = ethernet.parse(frame)
    if header is None:
        return f"[|ether] {len(frame)} bytes"
    end: i64 = len(frame)
    if header.ethertype == ethernet.ETH_P_IP:
        return describe_ip(frame, ethernet.ETH_HLEN, end)
    if header.ethertype == ethernet.ETH_P_ARP:
        packet = arp.parse(frame, ethernet.ETH_HLEN, end)
        return "ARP, [|arp]" if packet is None else f"ARP, {arp.describe(packet)}"
    return f"{ethernet.describe(header)}, length {len(frame)}"


def describe_ip(b: bytes, start: i64, end: i64) -> str:
    """The same for the IPv4 packet in ``b[start:end]``; what its total length does not cover is padding."""
    ip = ipv4.parse(b, start, end)
    if ip is None:
        return "IP [|ip]"
    if ip.total_len >= ip.header_len and start + ip.total_len < end:
        end = start + ip.total_len
    at = start + ip.header_len
    shown = _transport(b, ip, at, end) if ip.fragment_offset == 0 else ""
    if shown:
        return shown
    return f"IP {_addresses(ip)}: {_rest(ip)}, length {end - at}"


def _transport(b: bytes, ip: ipv4.Ipv4Header, at: i64, end: i64) -> str:
    """The payload's own line, "" if it is of no protocol known here or too short for its header."""
    if ip.protocol == ipv4.IPPROTO_TCP:
        segment = tcp.parse(b, at, end)
        return "" if segment is None else _with_ports(ip, tcp.describe(segment, b))
    if ip.protocol == ipv4.IPPROTO_UDP:
        datagram = udp.parse(b, at, end)
        return "" if datagram is None else _with_ports(ip, udp.describe(datagram))
    if ip.protocol == ipv4.IPPROTO_ICMP:
        message = icmp.parse(b, at, end)
        return "" if message is None else f"IP {_addresses(ip)}: {icmp.describe(message)}, length {end - at}"
    return ""


def _rest(ip: ipv4.Ipv4Header) -> str:
    """What is not shown further: a fragment, a truncated header or a protocol unknown here."""
    name = ipv4.protocol_name(ip.protocol)
    if ip.is_fragment:
        more = "+" if ip.more_fragments else ""
        return f"{name} (frag {ip.ident}:{ip.fragment_offset}{more})"
    if ip.protocol in (ipv4.IPPROTO_TCP, ipv4.IPPROTO_UDP, ipv4.IPPROTO_ICMP):
        return f"[|{name.lower()}]"
    return name if not name.isdigit() else f"ip-proto-{name}"


def _addresses(ip: ipv4.Ipv4Header) -> str:
    return f"{ipv4.addr_to_str(ip.saddr)} > {ipv4.addr_to_str(ip.daddr)}"


def _with_ports(ip: ipv4.Ipv4Header, text: str) -> str:
    """``text`` begins ``sport > dport: ``; tcpdump writes the ports behind the addresses."""
    ports, rest = text.split(": ", 1)
    sport, dport = ports.split(" > ")
    return f"IP {ipv4.addr_to_str(ip.saddr)}.{sport} > {ipv4.addr_to_str(ip.daddr)}.{dport}: {rest}"
