"""The driver's side of a NIC, as little of it as a test of the hardware's side needs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ustack.device.ring import (
    CMD_EOP,
    CMD_TSE,
    CMD_TXSM,
    DTYP_CONTEXT,
    DTYP_DATA,
    ICR_RXT0,
    NicRegisters,
)
from ustack.packet import SKB_GSO_TCPV4

if TYPE_CHECKING:
    from ustack.packet import Buffer


def open_nic(nic: NicRegisters) -> None:
    """Enable it and hand it every receive descriptor."""
    nic.enabled = True
    nic.rx.tail = nic.rx.size


def interrupted(nic: NicRegisters) -> bool:
    """Whether frames have been announced since the last time this was asked."""
    return nic.read_icr() & ICR_RXT0 != 0


def received(nic: NicRegisters) -> list[bytes]:
    """Every frame so far; the ring has not come round yet."""
    filled = [nic.rx.descriptors[at] for at in range(nic.rx.head)]
    return [descriptor.buffer[descriptor.start :] for descriptor in filled]


def queue(
    nic: NicRegisters,
    *pieces: Buffer,
    context: bool = False,
    gso_size: int = 0,
    checksum_at: int = 50,
    hdr_len: int = 66,
) -> None:
    """Put one frame into the transmit ring and ring the doorbell.

    With ``context`` its checksum is asked for, from byte 34 (after Ethernet and IPv4) stored at ``checksum_at``, and
    with ``gso_size`` its segmentation.
    """
    ring = nic.tx
    at = ring.tail
    if context:
        descriptor = ring.to_fill(at)
        descriptor.dtyp, descriptor.cmd = DTYP_CONTEXT, CMD_TSE if gso_size else 0
        descriptor.tucss, descriptor.tucso, descriptor.hdr_len = 34, checksum_at, hdr_len
        descriptor.mss, descriptor.gso_type = gso_size, SKB_GSO_TCPV4
        at += 1
    for piece in pieces:
        descriptor = ring.to_fill(at)
        descriptor.dtyp, descriptor.cmd, descriptor.buffer = DTYP_DATA, CMD_TXSM if context else 0, piece
        at += 1
    descriptor.cmd |= CMD_EOP
    nic.write_tx_tail(at)
