"""What the steps of a packet's journey tell of devices: in the words of ethtool, tc and the e1000's manual."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mypy_extensions import i64

from ustack.device.net_device import NETIF_F_HW_CSUM
from ustack.device.ring import CMD_EOP, CMD_TSE, CMD_TXSM, DTYP_CONTEXT, STAT_DD, STAT_EOP
from ustack.packet import (
    CHECKSUM_NONE,
    CHECKSUM_PARTIAL,
    CHECKSUM_UNNECESSARY,
    PACKET_BROADCAST,
    PACKET_HOST,
    PACKET_MULTICAST,
    PACKET_OTHERHOST,
)
from ustack.wire.ethernet import ETH_P_ARP, ETH_P_IP, mac_to_str
from ustack.wire.octets import u48

if TYPE_CHECKING:
    from ustack.device.net_device import NetDevice
    from ustack.device.ring import NicRegisters
    from ustack.packet import Packet
    from ustack.trace.journey import Facts

_PKT_TYPES: Final[dict[int, str]] = {
    PACKET_HOST: "HOST",
    PACKET_BROADCAST: "BROADCAST",
    PACKET_MULTICAST: "MULTICAST",
    PACKET_OTHERHOST: "OTHERHOST",
}
_SUMMED: Final[dict[int, str]] = {
    CHECKSUM_NONE: "NONE",
    CHECKSUM_UNNECESSARY: "UNNECESSARY",
    CHECKSUM_PARTIAL: "PARTIAL",
}
_STATUS: Final = ((STAT_DD, "DD"), (STAT_EOP, "EOP"))
_COMMANDS: Final = ((CMD_EOP, "EOP"), (CMD_TSE, "TSE"), (CMD_TXSM, "TXSM"))
_HANDLERS: Final[dict[int, str]] = {ETH_P_IP: "to ip_rcv", ETH_P_ARP: "to arp_rcv"}


def named(bits: i64, names: tuple[tuple[int, str], ...]) -> str:
    """``EOP|TXSM``"""
    return "|".join([name for bit, name in names if bits & bit != 0])


def summed(ip_summed: i64) -> str:
    """What is known of a checksum: NONE, UNNECESSARY, PARTIAL."""
    return _SUMMED.get(int(ip_summed), str(ip_summed))


def frame_facts(packet: Packet) -> Facts:
    """A frame that leaves: from whom, to whom, how long."""
    facts = addresses(packet)
    facts["length"] = packet.end - packet.mac_header + packet.frags_len
    return facts


def received_facts(packet: Packet) -> Facts:
    """One that has come in: what kind of address it was sent to, and what it is if that is neither IPv4 nor ARP."""
    facts = addresses(packet)
    facts["pkt_type"] = _PKT_TYPES.get(int(packet.pkt_type), str(packet.pkt_type))
    if packet.protocol not in _HANDLERS:
        facts["ethertype"] = f"0x{packet.protocol:04x}"
    return facts


def addresses(packet: Packet) -> Facts:
    """The two of the link."""
    start = packet.mac_header
    return {"src": mac_to_str(u48(packet.buf, start + 6)), "dst": mac_to_str(u48(packet.buf, start))}


def handler_name(ethertype: i64, handled: bool) -> str:
    """Whom a frame goes to."""
    return _HANDLERS.get(int(ethertype), "to its packet type's handler") if handled else "no packet type for it"


def rx_facts(packet: Packet, slot: i64, status: i64) -> Facts:
    """A receive descriptor: where it lies in the ring, its status, what the hardware says of the checksum."""
    facts: Facts = {
        "slot": slot,
        "status": named(status, _STATUS),
        "length": packet.end - packet.mac_header,
        "checksum": summed(packet.ip_summed),
    }
    if packet.gso_size != 0:
        facts["gso_size"] = packet.gso_size
    return facts


def tx_facts(nic: NicRegisters, first: i64, end: i64) -> Facts:
    """The transmit descriptors of one frame: how many, from which slot on, and what they ask for."""
    ring = nic.tx
    descriptor = ring.descriptors[first & ring.mask]
    facts: Facts = {"slot": first & ring.mask, "descriptors": end - first}
    if descriptor.dtyp == DTYP_CONTEXT:
        facts["type"] = "context, data"
        facts["tucss"] = descriptor.tucss
        facts["tucso"] = descriptor.tucso
        if descriptor.cmd & CMD_TSE != 0:
            facts["mss"] = descriptor.mss
            facts["hdr_len"] = descriptor.hdr_len
    commands: i64 = 0
    for at in range(first, end):
        commands |= ring.descriptors[at & ring.mask].cmd
    facts["cmd"] = named(commands, _COMMANDS)
    return facts


def validated(packet: Packet, dev: NetDevice, cut: bool) -> str:
    """What the device does itself, and what must be done for it."""
    if cut:
        return "to be cut into segments here"
    if packet.gso_size != 0:
        return "segments and checksums left to the device"
    if packet.ip_summed != CHECKSUM_PARTIAL:
        return "nothing left to do"
    return "checksum left to the device" if dev.features & NETIF_F_HW_CSUM != 0 else "checksum to be computed here"


def offload_facts(packet: Packet) -> Facts:
    """What is still to be done to a packet before it is on the wire."""
    facts: Facts = {"checksum": summed(packet.ip_summed)}
    if packet.ip_summed == CHECKSUM_PARTIAL:
        facts["csum_start"] = packet.csum_start
        facts["csum_offset"] = packet.csum_offset
    if packet.gso_size != 0:
        facts["gso_size"] = packet.gso_size
    if packet.frags is not None:
        facts["pieces"] = len(packet.frags)
    return facts


def queue_facts(dev: NetDevice) -> Facts:
    """How the device's queue stands."""
    facts: Facts = {"qlen": dev.queue.qlen, "limit": dev.tx_queue_len}
    if dev.queue_stopped:
        facts["stopped"] = True
    return facts


def enqueued(dev: NetDevice) -> str:
    """What becomes of a packet that must wait for the device."""
    if dev.no_queue:
        return "the device has no queue"
    return "queued" if dev.queue.qlen < dev.tx_queue_len else "full"
