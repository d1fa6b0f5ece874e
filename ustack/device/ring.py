"""The descriptor rings and registers of an e1000: the border between the pure stack and the world.

On the stack's side stands the driver (e1000.py), on the other the hardware: the TAP in io, or a cable in a lab. They
share nothing but what is here, and nobody here knows a file descriptor or a clock. After the Intel 8254x Software
Developer's Manual, sections 3.2 (receive), 3.3 (transmit), 3.4 (ring structure), 3.5 (TCP segmentation) and 13.4.17
(interrupts), with two liberties: a buffer may have any length, so that a 64 KiB super-segment takes one descriptor,
and head and tail run freely and are masked on use, so that a full ring and an empty one differ.

    transmit   driver writes descriptors, moves next_to_use      ─ write_tail: the doorbell ─>   tail
               hardware sends from head up to tail, sets DD, TXDW                              head
               driver reaps up to the first without DD, moves next_to_clean

    receive    driver hands empty descriptors over by moving tail; hardware fills from head, sets DD | EOP, RXT0
               driver takes the frames out, moves next_to_clean, and hands the descriptors back
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mypy_extensions import i64, mypyc_attr

from ustack.packet import CHECKSUM_NONE, SKB_GSO_NONE, Buffer
from ustack.trace.journey import DROPPED
from ustack.trace.points import Point

if TYPE_CHECKING:
    from ustack.timer import Waker
    from ustack.trace.journey import Journey

RING_SIZE: Final = 256  #: descriptors, the default of e1000 (E1000_DEFAULT_TXD)
RING_MIN: Final = 64  #: what one frame with every piece it may have needs, rounded up
RING_MAX: Final = 4096

# Descriptor status (E1000_RXD_STAT_*, E1000_TXD_STAT_*)
STAT_DD: Final = 0x1  #: descriptor done: the hardware has finished with it
STAT_EOP: Final = 0x2  #: end of packet

# Transmit descriptor types (E1000_TXD_DTYP_*)
DTYP_CONTEXT: Final = 0
DTYP_DATA: Final = 1

# Transmit commands (E1000_TXD_CMD_*, E1000_TXD_POPTS_TXSM)
CMD_EOP: Final = 0x01  #: last descriptor of the frame
CMD_TSE: Final = 0x04  #: in a context: cut into segments of ``mss`` bytes of payload
CMD_TXSM: Final = 0x10  #: in the first data descriptor: insert the checksum that the context describes

# Interrupt causes (E1000_ICR_*)
ICR_TXDW: Final = 0x01  #: transmit descriptors written back
ICR_LSC: Final = 0x04  #: link status changed
ICR_RXO: Final = 0x40  #: receive overrun: a frame came and no descriptor was free
ICR_RXT0: Final = 0x80  #: frames received


class RxDescriptor:
    """One frame, or a part of one where EOP is missing; it lies in ``buffer`` from ``start`` on.

    Offsets count from the first byte of the frame.
    """

    def __init__(self) -> None:
        self.status: i64 = 0
        self.buffer: bytes = b""
        self.start: i64 = 0  #: what the hardware put before the frame (a virtio_net_hdr) stays there, uncopied
        self.ip_summed: i64 = CHECKSUM_NONE  #: NONE, UNNECESSARY (DATA_VALID) or PARTIAL (NEEDS_CSUM)
        self.csum_start: i64 = 0
        self.csum_offset: i64 = 0
        self.gso_size: i64 = 0
        self.gso_type: i64 = SKB_GSO_NONE
        self.journey: Journey | None = None  #: of a frame that came over a cable from a stack where it is traced


class TxDescriptor:
    """A context (offloads of the frame that follows) or one piece of data; the fields of the other are stale."""

    def __init__(self) -> None:
        self.dtyp: i64 = DTYP_DATA
        self.cmd: i64 = 0
        self.status: i64 = 0
        self.buffer: Buffer = b""
        # context
        self.tucss: i64 = 0  #: checksum start: offset in the frame
        self.tucso: i64 = 0  #: checksum offset: where it is stored, an offset in the frame
        self.mss: i64 = 0
        self.hdr_len: i64 = 0  #: Ethernet, IPv4 and TCP headers, what each segment repeats
        self.gso_type: i64 = SKB_GSO_NONE
        self.journey: Journey | None = None  #: of the frame, in its last descriptor (e1000_buffer.skb)


class RxRing:
    """``size`` receive descriptors. The hardware owns those from ``head`` to ``tail``."""

    def __init__(self, size: i64) -> None:
        check_size(size)
        self.size: i64 = size
        self.mask: i64 = size - 1
        self._unused = RxDescriptor()
        self.descriptors: list[RxDescriptor] = [self._unused] * int(size)
        self.head: i64 = 0  #: RDH: the next the hardware fills
        self.tail: i64 = 0  #: RDT: one past the last it may fill

    def to_fill(self, at: i64) -> RxDescriptor:
        """The descriptor number ``at``, to be written; it is made when that is first done: many NICs see few frames."""
        descriptor = self.descriptors[at & self.mask]
        if descriptor is self._unused:
            descriptor = self.descriptors[at & self.mask] = RxDescriptor()
        return descriptor


class TxRing:
    """``size`` transmit descriptors. The hardware owns those from ``head`` to ``tail``."""

    def __init__(self, size: i64) -> None:
        check_size(size)
        self.size: i64 = size
        self.mask: i64 = size - 1
        self._unused = TxDescriptor()
        self.descriptors: list[TxDescriptor] = [self._unused] * int(size)
        self.head: i64 = 0  #: TDH: the next the hardware sends
        self.tail: i64 = 0  #: TDT: one past the last it may send

    def to_fill(self, at: i64) -> TxDescriptor:
        """As RxRing.to_fill."""
        descriptor = self.descriptors[at & self.mask]
        if descriptor is self._unused:
            descriptor = self.descriptors[at & self.mask] = TxDescriptor()
        return descriptor


def check_size(size: i64) -> None:
    """ValueError unless ``size`` is a power of two between RING_MIN and RING_MAX."""
    if size < RING_MIN or size > RING_MAX or size & (size - 1) != 0:
        raise ValueError(f"ring of {size} descriptors: a power of two from {RING_MIN} to {RING_MAX} is needed")


class TxFrame:
    """A frame as the hardware reads it from the ring, in the fields of a virtio_net_hdr (VIRTIO 1.2, 5.1.6).

    One object for each ring, filled anew by every ``next_tx``: it and ``pieces`` hold until ``tx_done``.
    """

    def __init__(self) -> None:
        self.pieces: list[Buffer] = []  #: what to send, in order, never joined
        self.needs_csum: bool = False  #: VIRTIO_NET_HDR_F_NEEDS_CSUM
        self.csum_start: i64 = 0
        self.csum_offset: i64 = 0  #: from csum_start
        self.gso_size: i64 = 0
        self.gso_type: i64 = SKB_GSO_NONE
        self.hdr_len: i64 = 0  #: set for super-segments
        self.journey: Journey | None = None


@mypyc_attr(allow_interpreted_subclasses=True)
class InterruptHandler:
    """The driver, as the hardware sees it."""

    def interrupt(self) -> None:
        """A cause that is not masked has come up; ``NicRegisters.read_icr`` tells which."""
        raise NotImplementedError


class NicRegisters:
    """One NIC: two rings, interrupt cause (ICR) and mask (IMS), missed packet count (MPC), link status."""

    def __init__(self, size: i64 = RING_SIZE) -> None:
        """``size``: descriptors in each ring. Raises ValueError, see check_size."""
        self.rx = RxRing(size)
        self.tx = TxRing(size)
        self.icr: i64 = 0
        self.ims: i64 = 0
        self.mpc: i64 = 0
        self.enabled: bool = False  #: RCTL.EN and TCTL.EN: the driver has opened the device
        self.link_up: bool = True
        self.doorbell: bool = False  #: the transmit tail has moved since the hardware last found the ring empty
        self.offloads: i64 = 0  #: NETIF_F_* that the driver has enabled: what it may be handed on receive
        self.handler: InterruptHandler | None = None
        self.waker: Waker | None = None  #: the hardware's, if it waits to be told of the doorbell
        self._frame = TxFrame()
        self._frame_end: i64 = 0

    # -- the driver's side

    def read_icr(self) -> i64:
        """The causes since the last read, which clears them (manual, 13.4.17)."""
        causes = self.icr
        self.icr = 0
        return causes

    def write_ims(self, mask: i64) -> None:
        """Let through the causes in ``mask`` and no other; one that is already up interrupts at once."""
        self.ims = mask
        self.raise_cause(0)

    def read_mpc(self) -> i64:
        """Frames missed for want of a descriptor since the last read, which clears the count."""
        missed = self.mpc
        self.mpc = 0
        return missed

    def write_tx_tail(self, tail: i64) -> None:
        """Ring the doorbell: everything before ``tail`` may be sent."""
        self.tx.tail = tail
        self.doorbell = True
        if self.waker is not None:
            self.waker.wake()

    # -- the hardware's side: interrupts

    def raise_cause(self, cause: i64) -> None:
        """Set ``cause``; interrupt if anything that is up is not masked."""
        self.icr |= cause
        if self.icr & self.ims != 0 and self.handler is not None:
            self.handler.interrupt()

    def set_link(self, up: bool) -> None:
        """The cable was plugged in or pulled out."""
        if up != self.link_up:
            self.link_up = up
            self.raise_cause(ICR_LSC)

    # -- the hardware's side: receive

    def rx_room(self) -> i64:
        """How many frames ``receive_frame`` will take."""
        return self.rx.tail - self.rx.head

    def receive_frame(
        self,
        frame: bytes,
        ip_summed: i64 = CHECKSUM_NONE,
        csum_start: i64 = 0,
        csum_offset: i64 = 0,
        gso_size: i64 = 0,
        gso_type: i64 = SKB_GSO_NONE,
        start: i64 = 0,
        journey: Journey | None = None,
    ) -> bool:
        """Put a frame into the ring, ``frame`` from ``start`` on; the driver hears of it at the next ``rx_interrupt``.

        False if it was lost: the device is not open, or the ring is full, which MPC counts.
        """
        ring = self.rx
        if ring.head == ring.tail:
            self._overrun(journey)
            return False
        descriptor = ring.to_fill(ring.head)
        descriptor.buffer = frame
        descriptor.start = start
        descriptor.ip_summed = ip_summed
        descriptor.csum_start = csum_start
        descriptor.csum_offset = csum_offset
        descriptor.gso_size = gso_size
        descriptor.gso_type = gso_type
        descriptor.journey = journey
        descriptor.status = STAT_DD | STAT_EOP
        ring.head += 1
        return True

    def rx_interrupt(self) -> None:
        """Say that frames have been received: once for a batch (the receive timer, RXT0)."""
        self.raise_cause(ICR_RXT0)

    def _overrun(self, journey: Journey | None) -> None:
        if journey is not None:
            why = "no descriptor is free" if self.enabled else "the device is down"
            journey.step(Point.E1000_RX_MISSED, f"missed: {why}", {"descriptors": self.rx.size, "missed": self.mpc + 1})
            journey.finish(DROPPED, "RX_MISSED")
        if self.enabled:
            self.mpc += 1
            self.raise_cause(ICR_RXO)

    # -- the hardware's side: transmit

    def next_tx(self) -> TxFrame | None:
        """The next frame to send, None if there is none; the same one again until ``tx_done``."""
        ring = self.tx
        at = ring.head
        if at == ring.tail:
            self.doorbell = False
            return None
        frame = self._frame
        frame.pieces.clear()
        descriptor = ring.descriptors[at & ring.mask]
        if descriptor.dtyp == DTYP_CONTEXT:
            read_context(frame, descriptor)
            at += 1
            descriptor = ring.descriptors[at & ring.mask]
        else:
            frame.needs_csum = False
            frame.gso_size = 0
            frame.gso_type = SKB_GSO_NONE
            frame.hdr_len = 0
        frame.pieces.append(descriptor.buffer)
        while descriptor.cmd & CMD_EOP == 0:
            at += 1
            descriptor = ring.descriptors[at & ring.mask]
            frame.pieces.append(descriptor.buffer)
        frame.journey = descriptor.journey
        self._frame_end = at + 1
        return frame

    def tx_done(self) -> None:
        """The frame of the last ``next_tx`` is on the wire: let go of its buffers and write its descriptors back."""
        ring = self.tx
        at = ring.head
        end = self._frame_end
        while at < end:
            descriptor = ring.descriptors[at & ring.mask]
            descriptor.buffer = b""
            descriptor.journey = None
            descriptor.status = STAT_DD
            at += 1
        ring.head = end
        self._frame.pieces.clear()
        self.raise_cause(ICR_TXDW)


def read_context(frame: TxFrame, context: TxDescriptor) -> None:
    """What a context descriptor asks for, in the terms of virtio_net_hdr."""
    frame.needs_csum = True
    frame.csum_start = context.tucss
    frame.csum_offset = context.tucso - context.tucss
    if context.cmd & CMD_TSE != 0:
        frame.gso_size = context.mss
        frame.gso_type = context.gso_type
        frame.hdr_len = context.hdr_len
    else:
        frame.gso_size = 0
        frame.gso_type = SKB_GSO_NONE
        frame.hdr_len = 0
