"""ip_rcv, ip_rcv_finish, ip_local_deliver (RFC 1122 section 3.2.1, RFC 1812 section 5.2.2)."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.ipv4.host import Host, datagram
from tests.routing.links import ALL_HOSTS, BROADCAST, FAR, LOCALHOST, OURS, PEER, PEER_1, a
from ustack.drop import Reason
from ustack.dst import RTN_BROADCAST
from ustack.netfilter.hooks import NF_ACCEPT, NF_DROP, NF_INET_LOCAL_IN, NF_INET_PRE_ROUTING, HookState
from ustack.wire.ipv4 import IP_DF, IP_MF, IPPROTO_ICMP, IPPROTO_SCTP, IPPROTO_TCP

GOOD = datagram(PEER, OURS)
BROADCAST_MAC = 0xFFFF_FFFF_FFFF
GROUP_MAC = 0x0100_5E00_0001
OTHER_MAC = 0x02_00_00_00_00_77
RECEIVED = {"Ip.InReceives": 1}
BAD_HEADER = {"Ip.InReceives": 1, "Ip.InHdrErrors": 1}
BAD_CHECKSUM = {"Ip.InReceives": 1, "Ip.InHdrErrors": 1, "Ip.InCsumErrors": 1}
TRUNCATED = {"Ip.InReceives": 1, "Ip.InTruncatedPkts": 1}
UNREACHABLE_PROTOCOL = (3, 2, 0)


def changed(packet: bytes, at: int, value: int) -> bytes:
    """``packet`` with another byte at ``at`` and the header's checksum right again."""
    b = bytearray(packet)
    b[at] = value
    b[10:12] = bytes(2)
    total = sum(int.from_bytes(b[i : i + 2], "big") for i in range(0, 20, 2)) % 0xFFFF
    b[10:12] = (0xFFFF - total).to_bytes(2, "big")
    return bytes(b)


#: what comes in, from whom it is kept, with which counters
REFUSED = [
    ("19 bytes", GOOD[:19], Reason.IP_INHDR, BAD_HEADER),
    ("nothing at all", b"", Reason.IP_INHDR, BAD_HEADER),
    ("version 5", changed(GOOD, 0, 0x55), Reason.IP_INHDR, BAD_HEADER),
    ("version 6", changed(GOOD, 0, 0x65), Reason.IP_INHDR, BAD_HEADER),
    ("header length 4 words", changed(GOOD, 0, 0x44), Reason.IP_INHDR, BAD_HEADER),
    ("header longer than the frame", changed(GOOD, 0, 0x4F), Reason.IP_INHDR, BAD_HEADER),
    ("a flipped bit in the checksum", GOOD[:10] + bytes([GOOD[10] ^ 1]) + GOOD[11:], Reason.IP_CSUM, BAD_CHECKSUM),
    ("a flipped bit in the TTL", GOOD[:8] + bytes([GOOD[8] ^ 1]) + GOOD[9:], Reason.IP_CSUM, BAD_CHECKSUM),
    ("shorter than it says", GOOD[:-1], Reason.PKT_TOO_SMALL, TRUNCATED),
    ("says 65535", datagram(PEER, OURS, total_len=65_535), Reason.PKT_TOO_SMALL, TRUNCATED),
    ("total length below the header's", datagram(PEER, OURS, total_len=19), Reason.IP_INHDR, BAD_HEADER),
    ("total length 0", datagram(PEER, OURS, total_len=0), Reason.IP_INHDR, BAD_HEADER),
]


@pytest.mark.parametrize(("what", "packet", "reason", "counters"), REFUSED, ids=[row[0] for row in REFUSED])
def test_ip_rcv_core_refuses(what: str, packet: bytes, reason: Reason, counters: dict[str, int]) -> None:
    """Silently, each with its own counters: ip_rcv_core's inhdr_error, csum_error and drop."""
    host = Host()
    host.start()
    host.rx(packet)
    assert (host.drops.reasons, host.moved(), host.icmp.sent) == ([reason], counters, [])
    assert host.udp.got == [] and host.balanced()


def test_another_hosts_frame_is_not_even_counted_as_received() -> None:
    """PACKET_OTHERHOST: "do not try to analyse it" (ip_rcv_core)."""
    host = Host()
    host.start()
    host.rx(GOOD, dst_mac=OTHER_MAC)
    assert (host.drops.reasons, host.moved(), host.balanced()) == ([Reason.OTHERHOST], {}, True)


@pytest.mark.parametrize("padding", [0, 1, 20, 400])
def test_padding_is_cut_off(padding: int) -> None:
    """RFC 894: padding "is not part of the IP packet"; Etherleak, CVE-2003-0001."""
    host = Host()
    host.start()
    host.rx(GOOD + b"\xaa" * padding)
    assert host.udp.payloads == [b"muffin"] and host.drops.reasons == []
    assert host.moved() == {"Ip.InReceives": 1, "Ip.InDelivers": 1} and host.balanced()


def test_a_protocol_is_handed_what_net_protocol_promises() -> None:
    host = Host()
    host.rx(datagram(PEER, OURS, tos=0x10, frag_off=IP_DF, options=b"\x01\x01\x01\x00") + b"pad")
    (packet,) = host.udp.got
    iph = packet.iph
    assert iph is not None and packet.dst is not None
    assert (packet.mac_header, packet.network_header, packet.transport_header, packet.data) == (0, 14, 38, 38)
    assert packet.payload() == b"muffin" and packet.end == 38 + 6
    assert (iph.saddr, iph.daddr, iph.tos, iph.ttl, iph.header_len) == (PEER, OURS, 0x10, 64, 24)
    assert packet.in_dev is host.eth0 and packet.dev is host.eth0


# -- who it is for


@pytest.mark.parametrize(
    ("daddr", "mac", "counters"),
    [
        (OURS, None, {}),
        (a("192.0.2.255"), BROADCAST_MAC, {"Ip.InBcastPkts": 1}),
        (BROADCAST, BROADCAST_MAC, {"Ip.InBcastPkts": 1}),
        (BROADCAST, None, {"Ip.InBcastPkts": 1}),
        (ALL_HOSTS, GROUP_MAC, {"Ip.InMcastPkts": 1}),
        (OURS, BROADCAST_MAC, {}),  # Linux takes it unless told otherwise
    ],
)
def test_delivered_and_counted_by_kind(daddr: int, mac: int | None, counters: dict[str, int]) -> None:
    host = Host()
    host.start()
    host.rx(datagram(PEER, daddr), dst_mac=mac)
    assert host.udp.payloads == [b"muffin"] and host.balanced()
    assert host.moved() == {"Ip.InReceives": 1, "Ip.InDelivers": 1} | counters


@pytest.mark.parametrize("mac", [BROADCAST_MAC, GROUP_MAC])
def test_unicast_in_a_broadcast_frame_is_dropped_on_request(mac: int) -> None:
    """RFC 1122 3.3.6, sysctl drop_unicast_in_l2_multicast ("hole-196")."""
    host = Host()
    host.net.conf.all.drop_unicast_in_l2_multicast = 1
    host.start()
    host.rx(GOOD, dst_mac=mac)
    host.rx(datagram(PEER, BROADCAST), dst_mac=mac)
    assert host.drops.reasons == [Reason.UNICAST_IN_L2_MULTICAST]
    assert host.moved() == {"Ip.InReceives": 2, "Ip.InDelivers": 1, "Ip.InBcastPkts": 1} and host.balanced()


@pytest.mark.parametrize(
    ("saddr", "daddr", "reason", "counters"),
    [
        (OURS, OURS, Reason.IP_LOCAL_SOURCE, {}),
        (PEER, LOCALHOST, Reason.IP_LOCALNET, {}),
        (LOCALHOST, OURS, Reason.IP_LOCALNET, {}),
        (BROADCAST, OURS, Reason.IP_INVALID_SOURCE, {}),
        (0, OURS, Reason.IP_INVALID_SOURCE, {}),
        (PEER, a("239.1.2.3"), Reason.IP_INVALID_DEST, {}),
        (PEER, FAR, Reason.IP_FORWARDING_OFF, {"Ip.InAddrErrors": 1}),
    ],
)
def test_martians_and_strangers_are_dropped_in_silence(
    saddr: int, daddr: int, reason: Reason, counters: dict[str, int]
) -> None:
    """RFC 1122 3.2.1.3: "silently discard"; a host that does not forward says nothing either."""
    host = Host()
    host.start()
    host.rx(datagram(saddr, daddr))
    assert (host.drops.reasons, host.icmp.sent, host.udp.got) == ([reason], [], [])
    assert host.moved() == RECEIVED | counters and host.balanced()


def test_rp_filter_has_a_counter() -> None:
    """LINUX_MIB_IPRPFILTER."""
    host = Host()
    host.net.conf.all.rp_filter = 1
    host.start()
    host.rx(datagram(PEER_1, OURS))
    assert host.drops.reasons == [Reason.IP_RPFILTER]
    assert host.moved() == {"Ip.InReceives": 1, "TcpExt.IPReversePathFilter": 1}


# -- protocols


def test_an_unknown_protocol_is_answered() -> None:
    """RFC 1122 3.2.2.1 code 2; ip_protocol_deliver_rcu."""
    host = Host()
    host.start()
    host.rx(datagram(PEER, OURS, protocol=IPPROTO_SCTP))
    assert host.drops.reasons == [Reason.IP_NOPROTO] and host.icmp.sent == [UNREACHABLE_PROTOCOL]
    assert host.moved() == {"Ip.InReceives": 1, "Ip.InUnknownProtos": 1} and host.balanced()


# -- fragments


def test_fragments_are_put_together_before_delivery() -> None:
    """ip_local_deliver calls ip_defrag for everything that ip_is_fragment."""
    host = Host()
    host.start()
    host.rx(datagram(PEER, OURS, b"01234567", frag_off=IP_MF))
    assert host.udp.got == [] and host.balanced(queued=len(host.defrag))
    host.rx(datagram(PEER, OURS, b"89", frag_off=1))
    assert host.udp.payloads == [b"0123456789"] and len(host.defrag) == 0
    moved = host.moved()
    assert (moved["Ip.InReceives"], moved["Ip.InDelivers"], moved["Ip.ReasmOKs"]) == (2, 1, 1)
    path = host.net.mib.path
    assert path.received == path.delivered + path.forwarded + path.dropped


# -- hooks


class Looker:
    """A hook function that notes what it saw."""

    def __init__(self, verdict: int) -> None:
        self.verdict = verdict
        self.seen: list[tuple[int, str, int]] = []

    def __call__(self, state: HookState) -> int:
        assert state.packet.iph is not None and state.in_dev is not None and state.out_dev is None
        self.seen.append((int(state.point), state.in_dev.name, int(state.packet.data)))
        return self.verdict


@pytest.mark.parametrize(
    ("point", "data", "dropped"),
    [
        (NF_INET_PRE_ROUTING, 14, {"Ip.InReceives": 1}),
        (NF_INET_LOCAL_IN, 14, {"Ip.InReceives": 1}),
    ],
)
def test_hooks_on_the_way_in(point: int, data: int, dropped: dict[str, int]) -> None:
    """NF_HOOK in ip_rcv and ip_local_deliver: the packet begins with its IP header, ``in`` is set, ``out`` is not."""
    for verdict in (NF_ACCEPT, NF_DROP):
        host = Host()
        looker = Looker(verdict)
        host.hooks.nf_register_hook(point, looker)
        host.start()
        host.rx(GOOD)
        assert looker.seen == [(point, "eth0", data)] and host.balanced()
        if verdict == NF_ACCEPT:
            assert host.udp.payloads == [b"muffin"] and host.moved() == dropped | {"Ip.InDelivers": 1}
        else:
            assert host.drops.reasons == [Reason.NETFILTER_DROP] and host.moved() == dropped


def test_local_in_sees_whole_datagrams() -> None:
    host = Host()
    looker = Looker(NF_ACCEPT)
    host.hooks.nf_register_hook(NF_INET_LOCAL_IN, looker)
    host.rx(datagram(PEER, OURS, b"89", frag_off=1))
    assert looker.seen == []
    host.rx(datagram(PEER, OURS, b"01234567", frag_off=IP_MF))
    assert len(looker.seen) == 1 and host.udp.payloads == [b"0123456789"]


def test_pre_routing_sees_what_is_not_for_us_too() -> None:
    host = Host()
    looker = Looker(NF_ACCEPT)
    host.hooks.nf_register_hook(NF_INET_PRE_ROUTING, looker)
    host.rx(datagram(OURS, OURS))
    host.rx(datagram(PEER, FAR))
    assert len(looker.seen) == 2 and host.drops.reasons == [Reason.IP_LOCAL_SOURCE, Reason.IP_FORWARDING_OFF]


def test_a_hook_may_send_it_elsewhere() -> None:
    """PRE_ROUTING comes before the route: a changed header (NAT) is routed by what it says then."""
    host = Host()

    def redirect(state: HookState) -> int:
        assert state.packet.iph is not None
        state.packet.iph.daddr = BROADCAST
        return NF_ACCEPT

    host.hooks.nf_register_hook(NF_INET_PRE_ROUTING, redirect)
    host.rx(datagram(PEER, FAR))
    assert host.udp.got[0].dst is not None and host.udp.got[0].dst.rt_type == RTN_BROADCAST


# -- anything


@settings(max_examples=150)
@given(st.binary(max_size=120), st.integers(0, 0xFFFF_FFFF), st.integers(0, 255), st.integers(0, 0xFFFF))
def test_noise_raises_nothing_and_is_accounted_for(noise: bytes, saddr: int, protocol: int, frag_off: int) -> None:
    """Random bytes, and random bytes behind a header that is right."""
    host = Host()
    host.net.conf.inet_forward_change(1)
    host.net.conf.all.accept_source_route = 1
    host.route("0.0.0.0/0", "198.51.100.1")
    host.rx(noise)
    host.rx(GOOD[: len(noise)] + noise)
    for daddr in (OURS, FAR, saddr ^ 1):
        options = noise[: len(noise) // 4 * 4][:40]
        host.rx(datagram(saddr, daddr, noise, protocol=protocol, frag_off=frag_off, options=options))
    assert host.balanced(queued=len(host.defrag))


@settings(max_examples=100)
@given(st.integers(0, len(GOOD) * 8 - 1))
def test_one_flipped_bit_in_the_header_is_noticed(bit: int) -> None:
    """RFC 1071: the checksum finds every single-bit error; in the payload it is the transport's business."""
    host = Host()
    flipped = bytearray(GOOD)
    flipped[bit // 8] ^= 0x80 >> bit % 8
    host.start()
    host.rx(bytes(flipped))
    assert (host.udp.got == []) is (bit < 160) and host.balanced()
    if bit < 160:
        assert host.drops.reasons[0] in (Reason.IP_CSUM, Reason.IP_INHDR)


@pytest.mark.parametrize("protocol", [IPPROTO_ICMP, IPPROTO_TCP])
def test_counters_move_before_the_handler_runs(protocol: int) -> None:
    """So that whoever answers from within a handler leaves consistent counters behind."""
    host = Host()
    host.protocols.inet_add_protocol(protocol, host.udp)
    host.start()
    host.rx(datagram(PEER, OURS, protocol=protocol))
    assert host.moved() == {"Ip.InReceives": 1, "Ip.InDelivers": 1}
