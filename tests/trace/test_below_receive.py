"""The steps of what comes in from the wire: each way to lose it with its reason, its counters and its ICMP error."""

from __future__ import annotations

import pytest

from tests.harness import udp as bound
from tests.trace.below import (
    BROADCAST_MAC,
    FAR,
    OTHER_MAC,
    OURS,
    PEER,
    PEER_MAC,
    SEC,
    Target,
    arp,
    dropped,
    echo,
    ethernet,
    ip,
    names,
    udp,
)
from tests.trace.watch import Watch, decision, step
from ustack.device.ring import STAT_DD
from ustack.dst import RTN_BLACKHOLE, RTN_PROHIBIT, RTN_UNREACHABLE
from ustack.netfilter.hooks import NF_ACCEPT, NF_INET_PRE_ROUTING, HookState
from ustack.packet import CHECKSUM_UNNECESSARY, Packet
from ustack.trace.journey import DELIVERED, DROPPED, ON_ITS_WAY, SENT, TraceWatcher
from ustack.trace.points import Point
from ustack.wire.ipv4 import str_to_addr

GROUP_MAC = 0x0100_5E00_0001
RECORD_ROUTE = b"\x07\x07\x04\0\0\0\0\0"


def spoilt(frame: bytes, at: int, value: int) -> bytes:
    return frame[:at] + bytes((value,)) + frame[at + 1 :]


# (frame, steps after e1000_clean_rx_irq and before the end, reason, counters, ICMP error)
DROPS = {
    "short": (bytes(10), [], "DEV_MALFORMED", "rx_errors rx_length_errors", ""),
    "long": (ethernet(bytes(1600)), [], "DEV_MALFORMED", "rx_errors rx_length_errors", ""),
    "ethertype": (ethernet(bytes(46), 0x86DD), ["NETIF_RECEIVE_SKB"], "UNHANDLED_PROTO", "rx_dropped", ""),
    "otherhost": (ip(17, udp(), dst=OTHER_MAC), ["NETIF_RECEIVE_SKB", "IP_RCV"], "OTHERHOST", "", ""),
    "version": (
        spoilt(ip(17, udp()), 14, 0x65),
        ["NETIF_RECEIVE_SKB", "IP_RCV"],
        "IP_INHDR",
        "Ip.InHdrErrors",
        "",
    ),
    "checksum": (
        spoilt(ip(17, udp()), 24, 0xEE),
        ["NETIF_RECEIVE_SKB", "IP_RCV"],
        "IP_CSUM",
        "Ip.InHdrErrors Ip.InCsumErrors",
        "",
    ),
    "truncated": (
        ip(17, udp(bytes(100)))[:60],
        ["NETIF_RECEIVE_SKB", "IP_RCV"],
        "PKT_TOO_SMALL",
        "Ip.InTruncatedPkts",
        "",
    ),
    "arp": (arp(sha=BROADCAST_MAC), ["NETIF_RECEIVE_SKB"], "ARP_INVALID", "", ""),
    "arp, other": (
        arp(tpa=PEER, dst=OTHER_MAC),
        ["NETIF_RECEIVE_SKB"],
        "OTHERHOST",
        "",
        "",
    ),
    "rarp": (arp(op=3), ["NETIF_RECEIVE_SKB", "ARP_RCV"], "ARP_IGNORED", "", ""),
    "arp, nobody's": (
        arp(spa="192.0.2.9", tpa="192.0.2.8"),
        ["NETIF_RECEIVE_SKB", "ARP_RCV", "IP_ROUTE*", "ARP_PROCESS"],
        "ARP_IGNORED",
        "",
        "",
    ),
}
CORE = ["NETIF_RECEIVE_SKB", "IP_RCV", "IP_RCV_CORE"]
LOCAL = [
    *CORE,
    "FIB_LOOKUP_IN",
    "FIB_VALIDATE_SOURCE",
    "IP_ROUTE_INPUT",
    "IP_RCV_FINISH",
    "IP_LOCAL_DELIVER",
    "IP_LOCAL_DELIVER_FINISH",
    "IP_PROTOCOL_DELIVER",
]
DROPS |= {
    "from ourselves": (
        ip(17, udp(), saddr=OURS),
        [*CORE, "FIB_LOOKUP_IN", "FIB_VALIDATE_SOURCE"],
        "IP_LOCAL_SOURCE",
        "",
        "",
    ),
    "martian": (ip(17, udp(), saddr="224.0.0.1"), CORE, "IP_INVALID_SOURCE", "", ""),
    "localnet": (ip(17, udp(), daddr="127.0.0.1"), CORE, "IP_LOCALNET", "", ""),
    "no router": (
        ip(17, udp(), daddr=FAR),
        [*CORE, "FIB_LOOKUP_IN"],
        "IP_FORWARDING_OFF",
        "Ip.InAddrErrors RtCache.in_no_route",
        "",
    ),
    "group": (ip(17, udp(), daddr="224.1.2.3", dst=GROUP_MAC), CORE, "IP_INVALID_DEST", "", ""),
    "options": (
        ip(17, udp(), options=b"\x07\x02\x00\x00"),
        [*CORE, "FIB_LOOKUP_IN", "FIB_VALIDATE_SOURCE", "IP_ROUTE_INPUT", "IP_RCV_OPTIONS"],
        "IP_OPTIONS",
        "Ip.InHdrErrors",
        "12/0 parameter problem",
    ),
    "protocol": (ip(132, bytes(8)), LOCAL, "IP_NOPROTO", "Ip.InUnknownProtos", "3/2 protocol unreachable"),
    "icmp checksum": (
        spoilt(ip(1, echo()), 40, 0xEE),
        LOCAL,
        "ICMP_CSUM",
        "Icmp.InCsumErrors Icmp.InErrors",
        "",
    ),
    "icmp type": (ip(1, echo(40)), [*LOCAL, "ICMP_RCV"], "ICMP_UNKNOWN", "Icmp.InErrors", ""),
    "source quench": (ip(1, echo(4)), [*LOCAL, "ICMP_RCV"], "ICMP_IGNORED", "", ""),
    "echo reply": (ip(1, echo(0)), [*LOCAL, "ICMP_RCV", "PING_LOOKUP*", "PING_RCV"], "NO_SOCKET", "", ""),
    "icmp about nothing": (ip(1, echo(3, 3, b"")), [*LOCAL, "ICMP_RCV"], "ICMP_MALFORMED", "Icmp.InErrors", ""),
}


def matches(wanted: list[str], found: list[str]) -> bool:
    """A name with a star stands for any number of steps that begin so, none included."""
    if not wanted:
        return not found
    if wanted[0].endswith("*"):
        starts = bool(found) and (found[0].startswith(wanted[0][:-1]) or found[0].startswith("FIB"))
        return matches(wanted[1:], found) or (starts and matches(wanted, found[1:]))
    return bool(found) and found[0] == wanted[0] and matches(wanted[1:], found[1:])


@pytest.mark.parametrize("name", list(DROPS))
def test_every_way_to_lose_a_received_frame(name: str) -> None:
    frame, steps, reason, counters, icmp = DROPS[name]
    target = Target()
    with Watch(a=target.stack) as watch:
        target.receive(frame)
        journey = dropped(watch, reason, counters, icmp)
        found = names(journey)
        end = ["KFREE_SKB", "ICMP_SEND"] if icmp else ["KFREE_SKB"]
        assert found[0] == "E1000_CLEAN_RX_IRQ" and found[-len(end) :] == end
        assert matches(steps, found[1 : -len(end)]), found
        assert {each.host for each in journey.steps} == {"a"}
    # what the trace says has moved has moved, once each
    moved = target.moved("Ip", "Icmp", "Path", "RtCache", "Udp")
    stats = target.devs[0].stats
    moved |= {"rx_errors": stats.rx_errors, "rx_length_errors": stats.rx_length_errors, "rx_dropped": stats.rx_dropped}
    assert all(moved[counter] == 1 for counter in counters.split())
    assert moved["Path.dropped"] == 1 and moved.get("Path.delivered", 0) == 0
    # the ICMP error that it caused went out, and has a journey of its own with its cause
    errors = [each for each in watch.done if each.cause == journey.ident and "ICMP_PUSH_REPLY" in names(each)]
    assert len(errors) == (1 if icmp else 0)
    for error in errors:
        assert decision(error, Point.ICMP_PUSH_REPLY) == icmp and decision(journey, Point.ICMP_SEND) == "sent"
    assert target.stack.unaccounted() == 0


def test_nobody_listens() -> None:
    """UDP counts and answers itself; the trace says so all the same."""
    target = Target()
    with Watch(a=target.stack) as watch:
        target.receive(ip(17, udp()))
        target.sent()
        journey = dropped(watch, "NO_SOCKET", "Udp.NoPorts")
        assert step(journey, Point.ICMP_SEND).facts == {"icmp": "3/3 port unreachable"}
        assert watch.one("unreachable").cause == journey.ident
    assert target.moved("Udp") == {"Udp.NoPorts": 1}


ROUTER_DROPS = {
    "no route": (
        ip(17, udp(), daddr="100.64.0.1"),
        "IP_INNOROUTES",
        "Ip.InNoRoutes RtCache.in_no_route",
        "3/0 net unreachable",
        "no route",
        "",
    ),
    "unreachable": (
        ip(17, udp(), daddr="198.51.100.1"),
        "IP_HOSTUNREACH",
        "RtCache.in_no_route",
        "3/1 host unreachable",
        "EHOSTUNREACH",
        "unreachable 198.51.100.0/26",
    ),
    "prohibit": (
        ip(17, udp(), daddr="198.51.100.65"),
        "IP_PROHIBITED",
        "RtCache.in_no_route",
        "3/13 admin prohibited",
        "EACCES",
        "prohibit 198.51.100.64/26",
    ),
    "blackhole": (
        ip(17, udp(), daddr="198.51.100.129"),
        "IP_BLACKHOLE",
        "RtCache.in_no_route",
        "",
        "EINVAL",
        "blackhole 198.51.100.128/26",
    ),
}


@pytest.mark.parametrize("name", list(ROUTER_DROPS))
def test_routes_that_lead_nowhere(name: str) -> None:
    frame, reason, counters, icmp, answer, route = ROUTER_DROPS[name]
    target = Target(forward=True)
    for number, rt_type in enumerate((RTN_UNREACHABLE, RTN_PROHIBIT, RTN_BLACKHOLE)):
        target.stack.routing.add_route(str_to_addr("198.51.100.0") + 64 * number, 26, rt_type=rt_type)
    with Watch(a=target.stack) as watch:
        # an answer from before must not be taken for this one's
        target.receive(ip(17, udp(), daddr="203.0.113.2"), ip(17, udp(), daddr="198.51.100.200"))
        watch.forget()
        target.receive(frame)
        journey = dropped(watch, reason, counters, icmp)
        lookup = step(journey, Point.FIB_LOOKUP_IN)
        assert lookup.decision == answer
        assert lookup.facts.get("route", "") == route
        assert lookup.facts.get("table", "") == ("main" if route else "")
        assert "IP_ROUTE_INPUT" not in names(journey)


def test_what_a_router_refuses() -> None:
    target = Target(forward=True)
    with Watch(a=target.stack) as watch:
        target.receive(ip(17, udp(), daddr="203.0.113.2", ttl=1))
        journey = dropped(watch, "TTL_EXPIRED", "Ip.InHdrErrors", "11/0 time exceeded")
        assert step(journey, Point.IP_FORWARD).facts == {"ttl": 1}
        watch.forget()
        target.devs[1].mtu = 1000
        target.stack.routing.flush()
        target.receive(ip(17, udp(bytes(1200)), daddr="203.0.113.2", frag_off=0x4000))
        journey = dropped(watch, "PKT_TOO_BIG", "Ip.FragFails", "3/4 need to frag")
        assert step(journey, Point.KFREE_SKB).facts["info"] == 1000
        watch.forget()
        target.receive(ip(17, udp(), daddr="203.0.113.2", dst=BROADCAST_MAC))
        dropped(watch, "OTHERHOST")


def test_the_reverse_path_is_told() -> None:
    target = Target(forward=True)
    target.devs[0].in_dev.cnf.rp_filter = 1
    with Watch(a=target.stack) as watch:
        target.receive(ip(17, udp(), saddr="203.0.113.9"))
        journey = dropped(watch, "IP_RPFILTER", "TcpExt.IPReversePathFilter")
        check = step(journey, Point.FIB_VALIDATE_SOURCE)
        assert check.decision == "refused: IP_RPFILTER"
        assert check.facts == {"source": "203.0.113.9", "rp_filter": 1}
        watch.forget()
        target.receive(ip(17, udp()))
        assert decision(watch.one("UDP"), Point.FIB_VALIDATE_SOURCE) == "may come in, and is on the link"


def test_an_icmp_error_that_must_not_be_sent() -> None:
    target = Target(forward=True)
    with Watch(a=target.stack) as watch:
        target.receive(ip(17, udp(), daddr="203.0.113.2", ttl=1, saddr="192.0.2.255"))
        journey = dropped(watch, "TTL_EXPIRED", "Ip.InHdrErrors", "11/0 time exceeded")
        assert decision(journey, Point.ICMP_SEND) == "not sent: no way back to its sender"
        watch.forget()
        # a fragment that is not the first
        target.receive(ip(17, bytes(8), daddr="203.0.113.2", ttl=1, frag_off=1))
        journey = dropped(watch, "TTL_EXPIRED", "Ip.InHdrErrors", "11/0 time exceeded")
        assert decision(journey, Point.ICMP_SEND) == "not sent: never about such a packet"
        assert [each.ident for each in watch.done] == [journey.ident]
        watch.forget()
        # the host's own bucket: six at once
        for _ in range(7):
            target.receive(ip(17, udp(), daddr="203.0.113.2", ttl=1))
        said = [decision(each, Point.ICMP_SEND) for each in watch.all() if "ICMP_SEND" in names(each)]
        assert said == ["sent"] * 6 + ["not sent: icmp_ratelimit"]
        watch.forget()
        target.stack.net.sysctl.icmp_msgs_per_sec = 0
        target.stack.icmp.errors.limits.credit = 0
        target.receive(ip(17, udp(), daddr="203.0.113.2", ttl=1))
        assert decision(watch.one(), Point.ICMP_SEND) == "not sent: icmp_msgs_per_sec"


def test_an_echo_and_its_answer() -> None:
    target = Target()
    with Watch(a=target.stack) as watch:
        target.receive(ip(1, echo(), options=RECORD_ROUTE))
        target.sent()
        watch.end()
        request, reply = watch.one("echo request"), watch.one("echo reply")
        assert (request.outcome, reply.outcome) == (DELIVERED, SENT)
        assert reply.cause == request.ident and request.cause == 0
        assert names(request) == [
            "E1000_CLEAN_RX_IRQ",
            *CORE,
            "FIB_LOOKUP_IN",
            "FIB_VALIDATE_SOURCE",
            "IP_ROUTE_INPUT",
            "IP_RCV_OPTIONS",
            *LOCAL[6:],
            "ICMP_RCV",
            "ICMP_REPLY",
        ]
        assert decision(request, Point.ICMP_RCV) == "8/0 echo request"
        assert decision(request, Point.ICMP_REPLY) == "answered"
        assert step(request, Point.IP_RCV_OPTIONS).facts == {"record_route": 20}
        assert step(request, Point.IP_RCV_CORE).facts["options"] == 8
        assert names(reply)[:5] == [
            "FIB_LOOKUP_OUT",
            "IP_ROUTE_OUTPUT",
            "ICMP_PUSH_REPLY",
            "IP_BUILD_AND_SEND_PKT",
            "IP_LOCAL_OUT",
        ]
        assert step(reply, Point.FIB_LOOKUP_OUT).facts == {
            "to": PEER,
            "from": OURS,
            "rule": 32766,
            "table": "main",
            "route": "192.0.2.0/24 dev eth0 src 192.0.2.1",
        }
        # the second time the route is at hand, and nothing is looked up for the reply
        watch.forget()
        target.receive(ip(1, echo()))
        target.sent()
        watch.end()
        assert names(watch.one("echo reply"))[0] == "ICMP_PUSH_REPLY"
        route = step(watch.one("echo request"), Point.IP_ROUTE_INPUT)
        assert (route.decision, route.facts["cached"]) == ("to ip_local_deliver", True)


def quoting(icmp_type: int, code: int, rest: bytes, saddr: str = PEER) -> bytes:
    """An ICMP error about a datagram of ours to FAR, from a neighbour."""
    ours = ip(17, udp(dport=4747), saddr=OURS, daddr=FAR)[14:]
    return ip(1, bytes((icmp_type, code, 0, 0)) + rest + ours, saddr=saddr)


def test_what_an_icmp_error_says_of_the_path() -> None:
    target = Target()
    target.stack.add_gateway(PEER)
    target.stack.neighbours.neigh_add(str_to_addr("192.0.2.3"), target.devs[0], OTHER_MAC)
    server = bound(target.stack, "", 5000)
    server.connect((FAR, 4747))
    with Watch(a=target.stack) as watch:
        target.receive(quoting(3, 4, b"\0\0\x04\xb0"))
        watch.end()
        journey = watch.one("need to frag")
        assert step(journey, Point.ICMP_SOCKET_DELIVER).facts["info"] == 1200
        assert decision(journey, Point.ICMP_SOCKET_DELIVER) == "to UDP's err_handler"
        told = step(journey, Point.IP_RT_UPDATE_PMTU)
        assert (told.decision, told.facts) == ("believed", {"path": FAR, "mtu": 1200, "was": 1500})
        watch.forget()
        target.receive(quoting(3, 4, b"\0\0\x05\x00"))
        watch.end()
        assert decision(watch.one("need to frag"), Point.IP_RT_UPDATE_PMTU) == "no smaller than ours"
        watch.forget()
        target.receive(quoting(5, 1, b"\xc0\0\2\3"), quoting(5, 1, b"\xc0\0\2\3", "192.0.2.9"))
        watch.end()
        said = [decision(each, Point.IP_DO_REDIRECT) for each in watch.all("redirect")]
        assert said == ["believed", "not from the gateway in use"]
        assert step(watch.all("redirect")[0], Point.IP_DO_REDIRECT).facts == {"path": FAR, "gateway": "192.0.2.3"}


def test_a_first_look_into_the_ring() -> None:
    target = Target()
    with Watch(a=target.stack) as watch:
        target.nics[0].receive_frame(ip(17, udp()), CHECKSUM_UNNECESSARY)
        target.nics[0].rx_interrupt()
        target.poll()
        journey = watch.one("UDP")
        first = step(journey, Point.E1000_CLEAN_RX_IRQ)
        assert (first.facts["status"], first.facts["checksum"], first.facts["length"]) == ("DD|EOP", "UNNECESSARY", 48)
        assert first.dev == "eth0" and isinstance(first.facts["slot"], int)
        second = step(journey, Point.NETIF_RECEIVE_SKB)
        assert second.decision == "to ip_rcv" and second.dev == "eth0"
        assert second.facts == {
            "src": "02:00:00:00:00:fe",
            "dst": "02:00:00:00:00:01",
            "pkt_type": "HOST",
        }
        assert journey.frame == ip(17, udp())


def test_a_full_ring_and_one_that_goes_away() -> None:
    """A frame that brings its journey along."""
    target = Target()
    with Watch(a=target.stack) as watch:
        tracer = target.stack.net.tracer
        assert tracer is not None
        nic = target.nics[0]
        packets = []
        for _ in range(nic.rx_room() + 1):
            packet = Packet(ip(17, udp()))
            tracer.received(packet)
            packets.append(packet)
            nic.receive_frame(packet.buf, journey=packet.journey)
        last = packets[-1].journey
        assert last is not None and last.outcome == DROPPED and last.reason == "RX_MISSED"
        assert step(last, Point.E1000_RX_MISSED).facts == {"descriptors": 64, "missed": 1}
        target.stack.set_down(target.devs[0])
        first = packets[0].journey
        assert first is not None and (first.outcome, first.reason) == (DROPPED, "DEV_DOWN")
        assert decision(first, Point.E1000_DOWN) == "received, and nobody looks any more"
        packet = Packet(ip(17, udp()))
        tracer.received(packet)
        nic.receive_frame(packet.buf, journey=packet.journey)
        assert packet.journey is not None and packet.journey.reason == "RX_MISSED"
        assert decision(packet.journey, Point.E1000_RX_MISSED) == "missed: the device is down"
        assert len(watch.done) == 66


def test_a_frame_in_two_descriptors_is_lost() -> None:
    target = Target()
    with Watch(a=target.stack) as watch:
        nic = target.nics[0]
        nic.receive_frame(ip(17, udp()))
        nic.rx.descriptors[(nic.rx.head - 1) & nic.rx.mask].status = STAT_DD
        nic.receive_frame(ip(17, udp()))
        nic.rx_interrupt()
        target.poll()
        assert [journey.reason for journey in watch.done] == ["RX_LENGTH_ERROR"] * 2


def test_a_frame_from_elsewhere_goes_on_only_where_the_same_watch() -> None:
    """Who traces the sender does not trace us: the journey ends at the wire, and nothing of ours is in it."""
    here, there = Target(), Target()
    with Watch(there=there.stack) as watch:
        tracer = there.stack.net.tracer
        assert tracer is not None
        packet = Packet(ip(17, udp()))
        tracer.received(packet)
        here.nics[0].receive_frame(packet.buf, journey=packet.journey)
        here.nics[0].rx_interrupt()
        here.poll()
        assert watch.one("UDP").outcome == SENT and watch.one("UDP").steps == []


class Picky(TraceWatcher):
    def __init__(self, wanted: bytes) -> None:
        super().__init__()
        self.wanted = wanted
        self.over: list[str] = []

    def matches(self, frame: bytes, length: int) -> bool:
        return self.wanted in frame

    def journey(self, journey: object) -> None:
        self.over.append("over")


def test_silence() -> None:
    """No journey for what nobody asked for; none at all while nobody watches; and the same behaviour."""
    target, same = Target(), Target()
    seen: list[bool] = []

    def look(state: HookState) -> int:
        packet = state.packet
        seen.append(packet.journey is None)
        return NF_ACCEPT

    target.stack.hooks.nf_register_hook(NF_INET_PRE_ROUTING, look)
    watch = Watch(a=target.stack)
    target.receive(ip(1, echo()))
    watch.journeys.unwatch(watch)
    assert seen == [False] and target.stack.net.tracer is None
    watch.done.clear()
    frames = [*target.sent()]
    picky = Picky(b"cake")
    for stage in (None, picky):
        if stage is not None:
            watch.journeys.watch(stage)
        seen.clear()
        target.receive(ip(1, echo()), ip(17, udp()), arp(), ip(17, udp(), daddr=FAR))
        assert seen == [True, True, True]
        frames += target.sent()
    watch.journeys.unwatch(picky)
    assert watch.done == [] and picky.over == []
    expected = []
    same.receive(ip(1, echo()))
    expected += same.sent()
    for _ in range(2):
        same.receive(ip(1, echo()), ip(17, udp()), arp(), ip(17, udp(), daddr=FAR))
        expected += same.sent()
    assert frames == expected
    assert same.stack.net.mib.snapshot() == target.stack.net.mib.snapshot()


def test_the_same_answers_with_and_without_a_trace() -> None:
    """Every frame above, watched and not: the same frames leave and the same counters move."""
    frames = [row[0] for row in DROPS.values()] + [ip(1, echo()), ip(17, udp()), arp(), arp(op=2)]
    frames += [ip(17, bytes(16), frag_off=0x2000), ip(17, bytes(16), frag_off=2)]
    plain, watched = Target(forward=True), Target(forward=True)
    with Watch(a=watched.stack) as watch:
        for target in (plain, watched):
            target.receive(*frames)
        assert plain.wait(60 * SEC) == watched.wait(60 * SEC)
    assert plain.stack.net.mib.snapshot() == watched.stack.net.mib.snapshot()
    assert plain.stack.net.drops == watched.stack.net.drops
    assert all(journey.outcome != ON_ITS_WAY for journey in watch.done)
    assert PEER_MAC and watched.stack.unaccounted() == 0
