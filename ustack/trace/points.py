"""The points a packet can pass, by Linux's names: a closed list.

A point is mentioned at exactly one place in the sources, where the step is taken: that is its file and line.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

#: Floors from the wire up; who draws a way stacks them so.
FLOORS: Final = ("wire", "device", "neighbour", "routing", "netfilter", "ipv4", "icmp", "udp", "tcp", "raw", "socket")


class Point(Enum):
    """(Linux's function, floor, file below ustack/, our function)."""

    # wire: rings, cables, TAPs
    # device: net/core/dev.c, drivers, bridges
    NETIF_RECEIVE_SKB = ("netif_receive_skb", "device", "device/core.py", "Devices.netif_receive_skb")
    # neighbour: net/core/neighbour.c, net/ipv4/arp.c
    # routing: net/ipv4/route.c, fib_rules.c, fib_trie.c
    # netfilter
    # icmp
    # udp
    # tcp
    # raw and ping
    # socket: net/socket.c, net/ipv4/af_inet.c
    # ipv4: net/ipv4/ip_*.c
    IP_LOCAL_OUT = ("ip_local_out", "ipv4", "ipv4/output.py", "Ipv4Output.ip_local_out")
    # whatever floor it happens on
    KFREE_SKB = ("kfree_skb_reason", "device", "net.py", "Net.drop")

    @property
    def linux(self) -> str:
        return self.value[0]

    @property
    def floor(self) -> str:
        return self.value[1]

    @property
    def file(self) -> str:
        return self.value[2]

    @property
    def function(self) -> str:
        return self.value[3]
