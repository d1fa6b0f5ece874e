"""Frames for a router: what hosts on its links, and liars among them, may send; all from a seed."""

from __future__ import annotations

import random
import struct
from dataclasses import dataclass
from typing import Final

from tests.oracle.world import Device, World, addr_number, addr_text
from ustack.wire.checksum import csum_fold, csum_partial, csum_tcpudp_magic

#: A link each: the router is .1, its hosts .2 to .250; behind the host .2 lies more.
LINKS: Final = [addr_number(text) for text in ("192.0.2.0", "198.51.100.0", "203.0.113.0")]
HOSTS: Final = range(2, 251)
#: Prefixes without a link, by what becomes of them there.
BEYOND: Final = addr_number("10.0.0.0")
#: Who is asked for in each of them.
FAR_HOSTS: Final = (1, 0x0705)
ETH_P_IP: Final = 0x0800
ICMP, TCP, UDP, GRE = 1, 6, 17, 47
BROADCAST_MAC: Final = 0xFFFF_FFFF_FFFF


def host_mac(addr: int) -> int:
    """The host that has ``addr``."""
    return 0x0200_0000_0000 | (addr >> 8 & 0xFF) << 16 | 0x8000 | addr & 0xFF


@dataclass
class Frame:
    """``data`` arrives at the device ``ifindex``; ``tag`` says what it is, ``sourced`` that it has a source route."""

    ifindex: int
    data: bytes
    tag: str
    sourced: bool = False


def router(seed: int) -> World:
    """Two or three links, their hosts known, and routes to every fate beyond."""
    dice = random.Random(f"router {seed}")
    count = dice.choice([2, 3, 3])
    devices = [Device(f"v{at}", at + 2, 0x0200_0000_0000 | at + 2) for at in range(count)]
    commands = ["sysctl net.ipv4.icmp_ratelimit=0", "sysctl net.ipv4.icmp_msgs_per_sec=1000000"]
    commands += ["sysctl net.ipv4.icmp_msgs_burst=1000000", "sysctl net.ipv4.ip_forward=1"]
    for dev, link in zip(devices, LINKS, strict=False):
        commands.append(f"addr add {addr_text(link + 1)}/24 brd + dev {dev.name}")
        commands += [
            f"neigh add {addr_text(link + host)} lladdr {mac_text(host_mac(link + host))} dev {dev.name} nud permanent"
            for host in HOSTS
        ]
    commands += router_routes(dice, devices) + router_settings(dice, devices)
    return World(seed, devices, commands)


def mac_text(mac: int) -> str:
    return ":".join(f"{octet:02x}" for octet in mac.to_bytes(6, "big"))


def router_routes(dice: random.Random, devices: list[Device]) -> list[str]:
    """10.N.0.0/16: N 1 to 4 through gateways, some with metrics, others have no way through."""
    links = LINKS[: len(devices)]
    ways = [f"via {addr_text(dice.choice(links) + dice.choice([2, 3]))}" for _ in range(4)]
    ways[1] += f" mtu {dice.choice([576, 1000, 1400])}"
    ways[2] += f" mtu lock {dice.choice([576, 1000])}"
    commands = [f"route add 10.{at + 1}.0.0/16 {way}" for at, way in enumerate(ways)]
    for at, kind in enumerate(("unreachable", "prohibit", "blackhole", "throw"), 5):
        commands.append(f"route add {kind} 10.{at}.0.0/16")
    if dice.random() < 0.5:
        name = devices[-1].name
        commands.append(f"route add 10.9.0.0/16 dev {name} mtu 700")
        for host in FAR_HOSTS:
            addr = BEYOND + (9 << 16) + host
            commands.append(f"neigh add {addr_text(addr)} lladdr {mac_text(host_mac(addr))} dev {name} nud permanent")
    if dice.random() < 0.3:
        commands += ["route add prohibit 10.1.7.0/24 table 100", "rule add pref 100 from 192.0.2.0/25 lookup 100"]
    if dice.random() < 0.3:
        commands.append("rule add pref 200 tos 0x10 unreachable")
    if dice.random() < 0.5:
        commands.append(f"route add default via {addr_text(dice.choice(links) + 4)}")
    return commands


def router_settings(dice: random.Random, devices: list[Device]) -> list[str]:
    commands = []
    for name in ("all", *(dev.name for dev in devices)):
        for setting in ("accept_source_route", "send_redirects", "shared_media", "bc_forwarding", "accept_local"):
            commands += [f"sysctl net.ipv4.conf.{name}.{setting}={dice.choice([0, 1])}"] if dice.random() < 0.3 else []
        if dice.random() < 0.3:
            commands.append(f"sysctl net.ipv4.conf.{name}.rp_filter={dice.choice([0, 1, 2])}")
    for dev in devices:
        if dice.random() < 0.15:
            commands.append(f"sysctl net.ipv4.conf.{dev.name}.forwarding=0")
        if dice.random() < 0.3:
            commands.append(f"link set dev {dev.name} mtu {dice.choice([1280, 900, 576])}")
    if dice.random() < 0.4:
        # both have to say no; and with rp_filter a source is looked up all the same
        name = dice.choice(devices).name
        commands += [f"sysctl net.ipv4.conf.{where}.send_redirects=0" for where in ("all", name)]
        commands.append(f"sysctl net.ipv4.conf.{name}.rp_filter={dice.choice([0, 2])}")
    return commands


class Frames:
    """``frame()`` is the next one. No host sends twice, so that nothing is held back for having been said before."""

    def __init__(self, world: World) -> None:
        self.random = random.Random(f"frames {world.seed}")
        self.world = world
        self.links = {dev.ifindex: link for dev, link in zip(world.devices, LINKS, strict=False)}
        self.unused = {ifindex: self.random.sample(range(10, 251), 241) for ifindex in self.links}

    def frame(self) -> Frame:
        ifindex = self.random.choice(list(self.links))
        saddr, daddr = self.source(ifindex), self.destination()
        options = self.options(daddr) if self.random.random() < 0.2 else b""
        protocol, payload = self.payload(saddr, daddr)
        header, tag = self.header(saddr, daddr, protocol, len(payload), options)
        whole = header + payload
        if self.random.random() < 0.05:
            whole, tag = self.spoilt(whole), tag + " spoilt"
        dev = next(dev for dev in self.world.devices if dev.ifindex == ifindex)
        target = dev.mac
        if self.random.random() < 0.08:
            target = self.random.choice([BROADCAST_MAC, 0x0100_5E00_0001, 0x0200_0000_9999])
            tag += f" to {mac_text(target)}"
        ethernet = target.to_bytes(6, "big") + host_mac(saddr).to_bytes(6, "big") + ETH_P_IP.to_bytes(2, "big")
        sourced = any(bytes([kind, length]) in options for kind in (131, 137) for length in (7, 11))
        tag += f" protocol {protocol} {options.hex()}"
        return Frame(ifindex, (ethernet + whole).ljust(60, b"\0"), tag, sourced)

    def source(self, ifindex: int) -> int:
        if self.random.random() < 0.9 and self.unused[ifindex]:
            return self.links[ifindex] + self.unused[ifindex].pop()
        index, other = self.random.choice(list(self.links.items()))
        stranger = BEYOND + (1 << 16) + self.random.randrange(1 << 16)
        elsewhere = other + self.unused[index].pop() if self.unused[index] else stranger
        return self.random.choice([
            other + 1, elsewhere, other + 255, 0, 0xFFFF_FFFF, 0x7F00_0001, 0xE000_0001, 0xF000_0001, stranger,
        ])  # fmt: skip

    def destination(self) -> int:
        dice = self.random.random()
        link = self.random.choice(list(self.links.values()))
        if dice < 0.3:
            return link + self.random.choice(HOSTS)
        if dice < 0.45:
            return link + 1
        if dice < 0.9:
            return BEYOND + (self.random.randint(1, 10) << 16) + self.random.choice(FAR_HOSTS)
        return self.random.choice([
            link + 255, link, 0xFFFF_FFFF, 0, 0x7F00_0001, 0xE000_0001, 0xE000_0116, 0xEF01_0101, 0xF000_0001,
        ])  # fmt: skip

    def payload(self, saddr: int, daddr: int) -> tuple[int, bytes]:
        size = self.random.choice([0, 8, 18, 100, 520, 560, 680, 900, 1200, 1400, 1420])
        body = bytes(at & 0xFF for at in range(size))
        kind = self.random.choice([ICMP, ICMP, TCP, UDP, UDP, UDP, GRE])
        if kind == ICMP:
            return ICMP, self.icmp(body)
        if kind == TCP:
            flags = self.random.choice([0x02, 0x10, 0x04, 0x12, 0x01])
            segment = struct.pack("!HHIIBBHHH", 5000, 81, 7, 9, 0x50, flags, 1000, 0, 0) + body
            return TCP, summed(segment, saddr, daddr, TCP)
        if kind == UDP:
            datagram = struct.pack("!HHHH", 5000, self.random.choice([9, 33434]), 8 + size, 0) + body
            return UDP, summed(datagram, saddr, daddr, UDP)
        return GRE, b"\0\0\x08\0" + body

    def icmp(self, body: bytes) -> bytes:
        """Requests, answers and errors; type 13 asks for the time of day, which nobody compares."""
        kind, code = self.random.choice([(8, 0), (8, 0), (8, 0), (0, 0), (3, 1), (11, 0), (15, 0), (17, 0), (42, 0)])
        message = struct.pack("!BBHHH", kind, code, 0, 77, 1) + body
        return message[:2] + folded(csum_partial(message, 0, len(message))) + message[4:]

    def header(self, saddr: int, daddr: int, protocol: int, size: int, options: bytes) -> tuple[bytes, str]:
        ttl = self.random.choice([64, 64, 64, 64, 255, 2, 1, 0])
        tos = self.random.choice([0, 0, 0, 0x10, 0xB8, 0x03])
        frag = self.random.choice([0, 0, 0, 0, 0x4000, 0x4000, 0x4000, 0x2000, 0x00B9, 0x8000])
        start = 0x40 | (20 + len(options)) // 4
        fields = (start, tos, 20 + len(options) + size, self.random.randrange(1, 65_536), frag, ttl, protocol, 0)
        header = struct.pack("!BBHHHBBHII", *fields, saddr, daddr) + options
        check = folded(csum_partial(header, 0, len(header)))
        tag = f"{addr_text(saddr)} > {addr_text(daddr)} ttl {ttl} tos {tos:#x} frag {frag:#x} size {size}"
        return header[:10] + check + header[12:], tag

    def options(self, daddr: int) -> bytes:
        """Padded to whole words; some are malformed."""
        router = self.random.choice(list(self.links.values())) + 1
        hop = self.random.choice([daddr, router, self.random.choice(list(self.links.values())) + 9]).to_bytes(4, "big")
        choices = [
            b"\x01\x01\x01\x00",
            bytes([7, 11, self.random.choice([4, 8, 12, 5, 3])]) + bytes(8),
            bytes([68, 12, self.random.choice([5, 9, 13]), self.random.choice([0, 0xF0])]) + bytes(8),
            bytes([68, 12, self.random.choice([5, 13, 4]), 1]) + bytes(8),
            bytes([68, 12, 5, 3]) + router.to_bytes(4, "big") + bytes(4),
            bytes([131, 7, self.random.choice([4, 8])]) + hop,
            bytes([137, 7, self.random.choice([4, 8])]) + hop,
            bytes([self.random.choice([131, 137]), 11, self.random.choice([4, 8])]) + router.to_bytes(4, "big") + hop,
            bytes([148, 4, 0, 0]),
            bytes([148, 4, 1, 0]),
            bytes([130, 11, 1, 2, 3, 4, 5, 6, 7, 8, 9]),
            bytes([7, 2]),
            bytes([200, 6, 1, 2, 3, 4]),
            bytes([200, 60]),
        ]
        chosen = b"".join(self.random.sample(choices, self.random.choice([1, 1, 1, 2])))
        return chosen + bytes(-len(chosen) % 4)

    def spoilt(self, packet: bytes) -> bytes:
        """One octet of the header is another; its checksum is mostly made good again."""
        at = self.random.choice([0, 0, 2, 3, 8, 10, 16])
        packet = packet[:at] + bytes([self.random.randrange(256)]) + packet[at + 1 :]
        length = min((packet[0] & 15) * 4, len(packet))
        if length < 20 or self.random.random() < 0.3:
            return packet
        header = packet[:10] + b"\0\0" + packet[12:length]
        return header[:10] + folded(csum_partial(header, 0, length)) + packet[12:]


def summed(segment: bytes, saddr: int, daddr: int, protocol: int) -> bytes:
    """With the checksum of TCP or UDP."""
    at = 16 if protocol == TCP else 6
    check = int(csum_tcpudp_magic(saddr, daddr, len(segment), protocol, csum_partial(segment, 0, len(segment))))
    return segment[:at] + check.to_bytes(2, "big") + segment[at + 2 :]


def folded(total: int) -> bytes:
    """The checksum's two octets."""
    return int(csum_fold(total)).to_bytes(2, "big")
