"""What a running stack looks like from outside: the answer to ``ustack status``."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Final

from ustack.device.e1000 import E1000
from ustack.device.net_device import (
    IFF_BROADCAST,
    IFF_LOOPBACK,
    IFF_MULTICAST,
    IFF_NOARP,
    IFF_PROMISC,
    IFF_RUNNING,
    IFF_UP,
    DeviceStats,
)
from ustack.io.control import DeviceStatus, NeighbourStatus, SocketStatus, Status
from ustack.io.inet_diag import receive_queue, tcp_socks
from ustack.io.version import ustack_version
from ustack.neighbour.states import NUD_NAMES, NUD_VALID
from ustack.sock import STATE_NAMES, TCP_LISTEN, TCP_SYN_RECV, Sock
from ustack.wire.ethernet import mac_to_str
from ustack.wire.ipv4 import addr_to_str

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ustack.device.net_device import NetDevice
    from ustack.neighbour.table import Neighbour
    from ustack.stack import Stack
    from ustack.tcp.mini import MiniSock

#: ``ip link``'s words, in its order.
FLAGS: Final = {
    IFF_LOOPBACK: "LOOPBACK",
    IFF_BROADCAST: "BROADCAST",
    IFF_MULTICAST: "MULTICAST",
    IFF_NOARP: "NOARP",
    IFF_PROMISC: "PROMISC",
    IFF_UP: "UP",
    IFF_RUNNING: "LOWER_UP",
}
STATS: Final = (
    "rx_packets rx_bytes rx_errors rx_dropped rx_missed_errors rx_length_errors multicast "
    "tx_packets tx_bytes tx_errors tx_dropped tx_fifo_errors"
).split()


class Reporter:
    """Describes one stack."""

    def __init__(self, stack: Stack) -> None:
        self.stack: Stack = stack
        self.started: int = time.monotonic_ns()

    def status(self) -> Status:
        stack = self.stack
        return Status(
            version=ustack_version(),
            pid=os.getpid(),
            uptime=(time.monotonic_ns() - self.started) / 1e9,
            devices=[device_status(dev) for dev in stack.devices.all()],
            neighbours=[neighbour_status(entry) for entry in stack.neighbours.entries()],
            sockets=[*tcp_sockets(stack), *udp_sockets(stack)],
            drops={reason.name: count for reason, count in sorted(stack.net.drops.items())},
            counters={name: count for name, count in stack.net.mib.snapshot().items() if count},
        )


def device_status(dev: NetDevice) -> DeviceStatus:
    return DeviceStatus(
        name=dev.name,
        ifindex=int(dev.ifindex),
        mac=mac_to_str(int(dev.mac)),
        mtu=int(dev.mtu),
        flags=[word for bit, word in FLAGS.items() if dev.flags & bit],
        addresses=[f"{addr_to_str(int(address.local))}/{address.prefixlen}" for address in dev.addresses],
        stats=stats_of(dev.stats),
        rings=rings_of(dev),
    )


def stats_of(stats: DeviceStats) -> dict[str, int]:
    return {name: getattr(stats, name) for name in STATS}


def rings_of(dev: NetDevice) -> dict[str, int]:
    """Frames that wait: in the device's queue, and in the descriptor rings where it has any."""
    levels = {"queue": int(dev.queue.qlen)}
    if isinstance(dev, E1000):
        rx, tx = dev.nic.rx, dev.nic.tx
        levels |= {"rx_free": int(rx.tail - rx.head), "tx_used": int(tx.tail - tx.head), "size": int(rx.size)}
    return levels


def neighbour_status(entry: Neighbour) -> NeighbourStatus:
    known = entry.nud_state & NUD_VALID
    return NeighbourStatus(
        address=addr_to_str(int(entry.addr)),
        dev=entry.dev.name,
        mac=mac_to_str(int(entry.lladdr)) if known else "",
        state=NUD_NAMES.get(int(entry.nud_state), "NONE"),
    )


def tcp_sockets(stack: Stack) -> Iterator[SocketStatus]:
    """Listeners, connections, half-open ones, and what is in TIME_WAIT."""
    tables = stack.tcp.tables
    for tp in tcp_socks(tables):
        send_queue = tp.max_ack_backlog if tp.state == TCP_LISTEN else tp.wmem_queued
        yield describe("tcp", tp, receive_queue(tp), int(send_queue))
    for req in tables.requests.all():
        yield mini_socket(TCP_SYN_RECV, req)
    for tw in tables.timewait.all():
        yield mini_socket(int(tw.substate), tw)


def mini_socket(state: int, mini: MiniSock) -> SocketStatus:
    """A connection that is being opened, or only remembered."""
    ends = endpoint(mini.laddr, mini.lport), endpoint(mini.raddr, mini.rport)
    return SocketStatus("tcp", STATE_NAMES[state], *ends, 0, 0)


def udp_sockets(stack: Stack) -> Iterator[SocketStatus]:
    for sockets in stack.udp.table.ports.values():
        for sk in sockets:
            yield describe("udp", sk, int(sk.rmem_alloc), int(sk.wmem_alloc))


def describe(protocol: str, sk: Sock, recv_queue: int, send_queue: int) -> SocketStatus:
    return SocketStatus(
        protocol=protocol,
        state=STATE_NAMES.get(int(sk.state), "?"),
        local=endpoint(sk.rcv_saddr, sk.num),
        peer=endpoint(sk.daddr, sk.dport),
        recv_queue=int(recv_queue),
        send_queue=int(send_queue),
    )


def endpoint(addr: int, port: int) -> str:
    """``192.0.2.1:80``, with a star for what is not set."""
    return f"{addr_to_str(int(addr)) if addr else '*'}:{port or '*'}"
