"""Journeys that never were: a table of points of its own, so that what is shown of them is known to the letter."""

from __future__ import annotations

from typing import Final

from ustack.io.trace import JourneyInfo, StepInfo
from ustack.io.trace_source import Place, Sources
from ustack.trace.journey import DELIVERED, DROPPED, SENT

Facts = dict[str, str | int | bool]

#: Point: Linux's function, floor, file, line.
TABLE: Final = {
    "SOCK_SENDMSG": ("sock_sendmsg", "socket", "inet/socket.py", 207),
    "UDP_SENDMSG": ("udp_sendmsg", "udp", "udp/sock.py", 102),
    "FIB_LOOKUP": ("fib_lookup", "routing", "routing/route_output.py", 88),
    "UDP_SEND_SKB": ("udp_send_skb", "udp", "udp/sock.py", 133),
    "IP_LOCAL_OUT": ("ip_local_out", "ipv4", "ipv4/output.py", 288),
    "NF_HOOK_SLOW": ("nf_hook_slow", "netfilter", "netfilter/hooks.py", 130),
    "IP_OUTPUT": ("ip_output", "ipv4", "ipv4/output.py", 301),
    "NEIGH_RESOLVE_OUTPUT": ("neigh_resolve_output", "neighbour", "neighbour/table.py", 333),
    "DEV_QUEUE_XMIT": ("__dev_queue_xmit", "device", "device/core.py", 404),
    "E1000_XMIT_FRAME": ("e1000_xmit_frame", "device", "device/e1000.py", 164),
    "CABLE": ("veth_xmit", "wire", "device/cable.py", 230),
    "E1000_CLEAN_RX_IRQ": ("e1000_clean_rx_irq", "wire", "device/e1000.py", 304),
    "NETIF_RECEIVE_SKB": ("netif_receive_skb", "device", "device/core.py", 348),
    "IP_RCV": ("ip_rcv", "ipv4", "ipv4/input.py", 66),
    "IP_FORWARD": ("ip_forward", "ipv4", "ipv4/forward.py", 56),
    "UDP_RCV": ("udp_rcv", "udp", "udp/udp.py", 56),
    "SOCK_DEF_READABLE": ("sock_def_readable", "socket", "datagram.py", 93),
    "KFREE_SKB": ("kfree_skb_reason", "device", "net.py", 143),
    "TCP_V4_RCV": ("tcp_v4_rcv", "tcp", "tcp/protocol.py", 131),
    "ICMP_RCV": ("icmp_rcv", "icmp", "ipv4/icmp.py", 70),
    "RAW_RCV": ("raw_rcv", "raw", "raw/raw.py", 40),
}
#: 2027-01-15 08:00:00 UTC.
EPOCH: Final = 1_800_000_000 * 10**9
FRAME: Final = bytes.fromhex(
    "020000000002020000000001 0800 4500002200000000 4011 0000 c0000201 c0000202 a1a1128b 000e0000 6d756666696e"
)
PACKET: Final = "IP 192.0.2.1.41377 > 192.0.2.2.4747: UDP, length 6"
ROUTE: Final = "192.0.2.0/24 dev eth0 src 192.0.2.1"


class Known(Sources):
    """Places by the table above."""

    def place(self, name: str) -> Place:
        if name not in TABLE:
            return super().place(name)
        linux, floor, file, line = TABLE[name]
        return Place(linux, floor, f"do_{linux}", file, line, line - 3)


def step(
    point: str, time: int = 0, host: str = "", dev: str = "", decision: str = "", facts: Facts | None = None
) -> StepInfo:
    return StepInfo(point, time, host, dev, decision, facts or {})


def journey(
    steps: list[StepInfo], outcome: str = DELIVERED, reason: str = "", parent: int = 0, cause: int = 0, lost: int = 0
) -> JourneyInfo:
    host = steps[0].host if steps else ""
    ended = steps[-1].time if steps else 0
    began = steps[0].time if steps else 0
    return JourneyInfo(
        7, parent, cause, steps, lost, FRAME, outcome, reason, host, PACKET, len(FRAME), began=began, ended=ended
    )


def way_out(host: str = "", time: int = 0) -> list[StepInfo]:
    """The muffin's, with a wait for its neighbour's address, and a step aside to the routes."""
    hook: Facts = {"hook": "LOCAL_OUT", "function": "count_muffins", "priority": 0}
    return [
        step("SOCK_SENDMSG", time, host, "", "", {"to": "192.0.2.2:4747", "length": 6}),
        step("UDP_SENDMSG", time, host),
        step("FIB_LOOKUP", time, host, "", "unicast", {"rule": 32766, "table": "main", "route": ROUTE}),
        step("UDP_SEND_SKB", time, host, "", "checksum left to the device"),
        step("IP_LOCAL_OUT", time, host),
        step("NF_HOOK_SLOW", time, host, "", "ACCEPT", hook),
        step("IP_OUTPUT", time, host, "eth0"),
        step("NEIGH_RESOLVE_OUTPUT", time, host, "eth0", "queued", {"state": "INCOMPLETE"}),
        step("NEIGH_RESOLVE_OUTPUT", time + 41_200, host, "eth0", "sent", {"state": "REACHABLE"}),
        step("DEV_QUEUE_XMIT", time + 41_200, host, "eth0"),
        step("E1000_XMIT_FRAME", time + 41_200, host, "eth0", "", {"slot": 12, "cmd": "EOP|TXSM"}),
    ]


def way_in(host: str = "", time: int = 0, dev: str = "eth0") -> list[StepInfo]:
    return [
        step("E1000_CLEAN_RX_IRQ", time, host, dev, "", {"slot": 3, "status": "DD|EOP"}),
        step("NETIF_RECEIVE_SKB", time, host, dev, "to ip_rcv"),
        step("IP_RCV", time, host, dev, "accept", {"ttl": 64, "df": True, "options": False, "note": ""}),
        step("UDP_RCV", time, host, dev, "checksum ok"),
        step("SOCK_DEF_READABLE", time, host, dev, "queued", {"rmem": 582}),
    ]


def sent() -> JourneyInfo:
    steps = way_out(time=EPOCH + 123_456_789)
    return journey(steps, SENT, parent=5, cause=6)


def dropped() -> JourneyInfo:
    why: Facts = {"counters": "Udp.NoPorts", "icmp": "3/3 port unreachable"}
    steps = [*way_in(time=EPOCH)[:-1], step("KFREE_SKB", EPOCH, "", "eth0", "NO_SOCKET", why)]
    return journey(steps, DROPPED, "NO_SOCKET")


def across() -> JourneyInfo:
    """From a through a router to b, in a laboratory."""
    out = [*way_out("a", 1_004_211), step("CABLE", 1_045_411, "a", "eth0", "", {"delay": "5 us"})]
    through = [
        *way_in("r", 1_050_411)[:3],
        step("FIB_LOOKUP", 1_050_411, "r", "eth0", "unicast", {"route": "198.51.100.0/24 dev eth1"}),
        step("IP_FORWARD", 1_050_411, "r", "eth0", "forward", {"ttl": 63}),
        *(step(each.point, 1_050_411, "r", "eth1", each.decision, each.facts) for each in out[6:]),
    ]
    return journey([*out, *through, *way_in("b", 2_100_411)])
