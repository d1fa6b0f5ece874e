"""A stack whose wires end in the test, and frames for it: what the tests of the lower floors' steps stand on."""

from __future__ import annotations

from struct import pack

from tests.frames import fixed
from tests.trace.watch import Watch, step
from ustack.device.e1000 import E1000, E1000_FEATURES
from ustack.device.ring import NicRegisters
from ustack.stack import Stack
from ustack.trace.journey import DROPPED, SENT, Journey
from ustack.trace.points import Point
from ustack.wire.ipv4 import str_to_addr

OUR_MAC = 0x0200_0000_0001
PEER_MAC = 0x0200_0000_00FE
OTHER_MAC = 0x0200_0000_00FD
BROADCAST_MAC = 0xFFFF_FFFF_FFFF
OURS = "192.0.2.1"
PEER = "192.0.2.2"
FAR = "198.51.100.9"
SEC = 1_000_000_000
#: The points of a packet of ours on its way down, to the driver.
OUT = [
    "IP_LOCAL_OUT",
    "IP_OUTPUT",
    "IP_FINISH_OUTPUT",
    "IP_FINISH_OUTPUT2",
    "NEIGH_HH_OUTPUT",
    "DEV_QUEUE_XMIT",
    "VALIDATE_XMIT_SKB",
    "DEV_XMIT_SKB",
    "DEV_HARD_START_XMIT",
    "E1000_XMIT_FRAME",
]


class Target:
    """192.0.2.1 on eth0 and 203.0.113.1 on eth1; 192.0.2.2 and 203.0.113.2 are known neighbours there."""

    def __init__(self, forward: bool = False, features: int = E1000_FEATURES, ring: int = 64) -> None:
        self.stack = Stack(bytes(16))
        self.now = 0
        self.nics = [NicRegisters(ring), NicRegisters(ring)]
        self.devs: list[E1000] = []
        for number, address in enumerate((OURS, "203.0.113.1")):
            dev = E1000(self.stack.devices, f"eth{number}", OUR_MAC + number, self.nics[number], 1500, features)
            self.devs.append(dev)
            self.stack.add_device(dev)
            self.stack.add_address(f"{address}/24", dev)
        self.stack.neighbours.neigh_add(str_to_addr(PEER), self.devs[0], PEER_MAC)
        self.stack.neighbours.neigh_add(str_to_addr("203.0.113.2"), self.devs[1], OTHER_MAC)
        if forward:
            self.stack.net.conf.inet_forward_change(1)
        self.wait(5 * SEC)  # announcements
        self.before = self.stack.net.mib.snapshot()

    def poll(self) -> None:
        while self.stack.poll(self.now):
            pass

    def wait(self, duration: int) -> list[bytes]:
        """Let ``duration`` ns pass; what was sent meanwhile."""
        end = self.now + duration
        sent = self.sent()
        while self.stack.next_deadline() <= end:
            self.now = max(self.now, int(self.stack.next_deadline()))
            self.poll()
            sent += self.sent()
        self.now = end
        self.poll()
        return sent

    def receive(self, *frames: bytes, port: int = 0) -> None:
        for frame in frames:
            self.nics[port].receive_frame(frame)
        self.nics[port].rx_interrupt()
        self.poll()

    def sent(self) -> list[bytes]:
        """What the hardware was told to send."""
        frames = []
        for nic in self.nics:
            frame = nic.next_tx()
            while frame is not None:
                frames.append(b"".join(frame.pieces))
                if frame.journey is not None:
                    frame.journey.finish(SENT)
                nic.tx_done()
                frame = nic.next_tx()
        return frames

    def moved(self, *groups: str) -> dict[str, int]:
        """Counters that have moved since it was set up."""
        after = self.stack.net.mib.snapshot()
        return {
            name: after[name] - before
            for name, before in self.before.items()
            if after[name] != before and name.partition(".")[0] in groups
        }


def ethernet(payload: bytes, ethertype: int = 0x0800, dst: int = OUR_MAC, src: int = PEER_MAC) -> bytes:
    return dst.to_bytes(6, "big") + src.to_bytes(6, "big") + ethertype.to_bytes(2, "big") + payload


def ip(
    protocol: int = 17,
    payload: bytes = b"",
    saddr: str = PEER,
    daddr: str = OURS,
    ttl: int = 64,
    frag_off: int = 0,
    ident: int = 1,
    options: bytes = b"",
    dst: int = OUR_MAC,
    tos: int = 0,
) -> bytes:
    """A frame with right checksums."""
    length = 20 + len(options) + len(payload)
    head = pack("!BBHHHBBH", 0x45 + len(options) // 4, tos, length, ident, frag_off, ttl, protocol, 0)
    head += pack("!II", str_to_addr(saddr), str_to_addr(daddr)) + options
    return fixed(ethernet(head + payload, dst=dst))


def udp(data: bytes = b"muffin", dport: int = 7, sport: int = 5000) -> bytes:
    return pack("!HHHH", sport, dport, 8 + len(data), 0) + data


def echo(icmp_type: int = 8, code: int = 0, data: bytes = b"muffin") -> bytes:
    return pack("!BBHHH", icmp_type, code, 0, 1, 1) + data


def arp(op: int = 1, spa: str = PEER, tpa: str = OURS, sha: int = PEER_MAC, dst: int = BROADCAST_MAC) -> bytes:
    body = pack("!HHBBH", 1, 0x0800, 6, 4, op) + sha.to_bytes(6, "big") + pack("!I", str_to_addr(spa))
    return ethernet(body + bytes(6) + pack("!I", str_to_addr(tpa)), 0x0806, dst, sha)


def dropped(watch: Watch, reason: str, counters: str = "", icmp: str = "") -> Journey:
    """The journey that ended so, with what its last step must say; no other was dropped."""
    found = [journey for journey in watch.done if journey.outcome == DROPPED]
    assert [journey.reason for journey in found] == [reason]
    last = step(found[0], Point.KFREE_SKB)
    assert last.decision == reason
    assert last.facts.get("counters", "") == counters
    assert last.facts.get("icmp", "") == icmp
    return found[0]


def names(journey: Journey) -> list[str]:
    """The points it passed."""
    return [each.point.name for each in journey.steps]
