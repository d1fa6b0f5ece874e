"""Both routers: frames in at one device, frames out at any; and what of them is compared."""

from __future__ import annotations

import errno
import select
import socket
from typing import TYPE_CHECKING, Final

from tests.oracle.frames import LINKS, Frame
from tests.oracle.getroute import one_processor
from tests.oracle.kernel import Kernel
from tests.oracle.ours import Ours
from ustack.packet import Packet
from ustack.wire import ethernet, icmp, ipv4
from ustack.wire.checksum import csum_fold, csum_partial
from ustack.wire.ethernet import ETH_P_ARP, ETH_P_IP

if TYPE_CHECKING:
    from tests.oracle.world import World

ETH_P_ALL: Final = 3
SOL_PACKET: Final = 263
PACKET_IGNORE_OUTGOING: Final = 23
VLAN_HLEN: Final = 4
MSEC: Final = 1_000_000
PATIENCE: Final = 2.0
CLASS_E: Final = 0xF000_0000
TIMESTAMP_REPLY: Final = 14
TIMESTAMP_OPTION: Final = 68
#: Who asks; no host has that MAC address.
PROBER: Final = bytes.fromhex("0200000000ff")

#: (ifindex, frame)
Sent = tuple[int, bytes]


class KernelRouter:
    """Writes to and reads from the other ends of the links, by packet sockets."""

    def __init__(self, world: World) -> None:
        self.kernel = Kernel(world)
        self.devices = {dev.ifindex: dev for dev in world.devices}
        self.sockets: dict[int, socket.socket] = {}
        with self.kernel.outside:
            for dev in world.devices:
                sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
                sock.bind((dev.peer, ETH_P_ALL))
                sock.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
                sock.setblocking(False)
                self.sockets[dev.ifindex] = sock

    def send(self, frame: Frame) -> list[Sent] | None:
        """What comes out for it; None if the link does not take it, being too long. An ARP probe behind it tells when
        that is all."""
        sock = self.sockets[frame.ifindex]
        with one_processor():
            try:
                sock.send(frame.data)
            except OSError as error:
                if error.errno != errno.ENOBUFS or not self.too_long(frame):
                    raise
                return None
            sock.send(self.probe(frame.ifindex))
        sent: list[Sent] = []
        answered = False
        while not answered:
            select.select(list(self.sockets.values()), [], [], PATIENCE)
            found = self.drain()
            answered = not found or any(is_probe_answer(data) for _, data in found)
            sent += [one for one in found if not is_probe_answer(one[1])]
        return sent + self.drain()  # what came to one socket while those behind it were read

    def too_long(self, frame: Frame) -> bool:
        """is_skb_forwardable: "we should not forward packets whose length is larger than the MTU"."""
        (link,) = self.kernel.route.get_links(frame.ifindex)
        return len(frame.data) > ethernet.ETH_HLEN + VLAN_HLEN + int(link.get("mtu"))

    def drain(self) -> list[Sent]:
        """What waits in the sockets, one after the other."""
        frames = []
        for ifindex, sock in self.sockets.items():
            try:
                while True:
                    frames.append((ifindex, sock.recv(65_536)))
            except BlockingIOError:
                continue
        return frames

    def probe(self, ifindex: int) -> bytes:
        """RFC 5227 2.1.1: asks who has the router's address, and leaves no trace (its sender's address is 0)."""
        dev = self.devices[ifindex]
        link = LINKS[ifindex - 2]
        head = dev.mac.to_bytes(6, "big") + PROBER + b"\x08\x06" + b"\0\1\x08\0\6\4\0\1"
        return head + PROBER + bytes(4) + bytes(6) + (link + 1).to_bytes(4, "big")

    def close(self) -> None:
        for sock in self.sockets.values():
            sock.close()
        self.kernel.close()


def is_probe_answer(frame: bytes) -> bool:
    return frame[:6] == PROBER


class OurRouter:
    """The same without time between: a millisecond passes from frame to frame."""

    def __init__(self, world: World) -> None:
        self.ours = Ours(world)
        self.now = 0

    def settle(self) -> None:
        """announce: what was sent while it was being built goes by, with the second announcement of each address."""
        self.now += 10_000 * MSEC
        self._take()

    def send(self, frame: Frame) -> list[Sent]:
        stack = self.ours.stack
        wire = next(wire for wire in self.ours.wires if wire.ifindex == frame.ifindex)
        self.now += MSEC
        stack.net.now = self.now
        stack.devices.netif_receive_skb(Packet(frame.data, wire))
        return self._take()

    def _take(self) -> list[Sent]:
        while self.ours.stack.poll(self.now):
            pass
        sent: list[Sent] = []
        for wire in self.ours.wires:
            sent += [(wire.ifindex, data) for data in wire.frames]
            wire.frames = []
        return sent


# -- what is compared


def is_ours(addr: int) -> bool:
    """The router's own addresses."""
    return addr & 0xFF == 1 and addr & ~0xFF in LINKS


def comparable(sent: list[Sent], sourced: bool = False) -> list[str]:
    """One line a frame, in the order of devices: what a router must get right, and nothing it is free to choose.

    source-route-echo: with ``sourced``, for a packet with a source route, only what is sent on, no answer.
    ident: the identification of a datagram that the router itself made up is its own affair (RFC 6864).
    """
    told = [one for one in sorted(sent, key=lambda one: one[0]) if not is_to_nobody(one[1])]
    if sourced:
        told = [one for one in told if not is_ours(int.from_bytes(one[1][26:30], "big"))]
    return [f"out at {ifindex}: {line(frame)}" for ifindex, frame in told]


def is_to_nobody(frame: bytes) -> bool:
    """single-host: an ICMP message of the router to a broadcast address or to one of class E."""
    header = ipv4.parse(frame, 14, len(frame)) if frame[12:14] == b"\x08\0" else None
    if header is None or header.protocol != ipv4.IPPROTO_ICMP or not is_ours(header.saddr):
        return False
    return header.daddr >= CLASS_E or (header.daddr & 0xFF == 0xFF and header.daddr & ~0xFF in LINKS)


def line(frame: bytes) -> str:
    head = ethernet.parse(frame)
    assert head is not None
    text = f"{ethernet.describe(head)} "
    if head.ethertype == ETH_P_ARP:
        return text + frame[14:42].hex()
    header = ipv4.parse(frame, 14, len(frame))
    if head.ethertype != ETH_P_IP or header is None:
        return text + frame[14:].hex()
    data = frame[14 : 14 + header.total_len]
    options = without_times(data[: header.header_len])[20:].hex()
    ident = "own" if is_ours(header.saddr) else f"{header.ident:#x}"
    good = "good" if ipv4.checksum_ok(frame, header) else "BAD"
    text += (
        f"{ipv4.addr_to_str(header.saddr)} > {ipv4.addr_to_str(header.daddr)} tos {header.tos:#x} ttl {header.ttl}"
        f" id {ident} frag {header.frag_off:#x} length {header.total_len} sum {good} options [{options}]"
    )
    payload = data[header.header_len :]
    if header.protocol == ipv4.IPPROTO_ICMP and header.fragment_offset == 0:
        return text + icmp_line(payload, is_ours(header.saddr), header.more_fragments)
    return f"{text} protocol {header.protocol} {payload.hex()}"


def icmp_line(payload: bytes, made_here: bool, part: bool) -> str:
    """Field by field; time-of-day: an answer that tells it shows its length alone."""
    header = icmp.parse(payload, 0, len(payload))
    if header is None:
        return f" icmp {payload.hex()}"
    good = "part" if part else "good" if csum_fold(csum_partial(payload, 0, len(payload))) == 0 else "BAD"
    quoted = without_times(payload[8:]).hex() if icmp.is_error(header.icmp_type) else payload[8:].hex()
    if made_here and header.icmp_type == TIMESTAMP_REPLY:
        quoted = f"{len(quoted)}"
    return f" icmp type {header.icmp_type} code {header.code} rest {header.rest:#x} sum {good} data {quoted}"


def without_times(packet: bytes) -> bytes:
    """time-of-day: with zeros for what a timestamp option (RFC 791, type 68) has collected; nothing else is changed."""
    at, end = 20, min((packet[0] & 15) * 4, len(packet)) if packet else 0
    changed = bytearray(packet)
    while at + 1 < end and packet[at] != 0:
        if packet[at] == 1:
            at += 1
            continue
        length = packet[at + 1]
        if length < 2 or at + length > end:
            break
        if packet[at] == TIMESTAMP_OPTION and length >= 4:
            alone = packet[at + 3] & 15 == 0
            for slot in range(at + 4 if alone else at + 8, at + min(packet[at + 2] - 1, length) - 3, 4 if alone else 8):
                changed[slot : slot + 4] = bytes(4)
        at += length
    return bytes(changed)
