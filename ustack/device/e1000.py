"""The e1000 driver: packets to descriptors and back (Linux drivers/net/ethernet/intel/e1000/e1000_main.c)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mypy_extensions import i64

from ustack.device.core import MAX_SKB_FRAGS
from ustack.device.facts import rx_facts, tx_facts
from ustack.device.gso import partial_fits
from ustack.device.net_device import (
    ETH_DATA_LEN,
    ETH_HLEN,
    IFF_BROADCAST,
    IFF_MULTICAST,
    NETIF_F_HW_CSUM,
    NETIF_F_RXCSUM,
    NETIF_F_SG,
    NETIF_F_TSO,
    NETIF_F_TSO_ECN,
    NetDevice,
)
from ustack.device.ring import (
    CMD_EOP,
    CMD_TSE,
    CMD_TXSM,
    DTYP_CONTEXT,
    DTYP_DATA,
    ICR_LSC,
    ICR_RXO,
    ICR_RXT0,
    ICR_TXDW,
    STAT_DD,
    STAT_EOP,
    InterruptHandler,
    NicRegisters,
    RxDescriptor,
    TxDescriptor,
)
from ustack.packet import CHECKSUM_NONE, CHECKSUM_PARTIAL, Packet
from ustack.trace.journey import DROPPED, PATIENCE
from ustack.trace.points import Point
from ustack.wire.ipv4 import IP_HLEN

if TYPE_CHECKING:
    from ustack.device.core import Devices
    from ustack.trace.journey import Journey

#: Everything the hardware can do; what is taken out of it, the stack does itself (ethtool -K).
E1000_FEATURES: Final = NETIF_F_HW_CSUM | NETIF_F_RXCSUM | NETIF_F_SG | NETIF_F_TSO | NETIF_F_TSO_ECN
#: Features without any offload: pieces need not be joined, that is all.
NO_OFFLOAD: Final = NETIF_F_SG

#: Descriptors that the largest frame needs (context, linear part, pieces): room for it wakes the queue.
TX_WAKE_THRESHOLD: Final = MAX_SKB_FRAGS + 2
#: Causes that always interrupt. TXDW joins them only while the queue is stopped: nobody else waits for a write-back.
_IMS_ENABLE: Final = ICR_RXT0 | ICR_RXO | ICR_LSC


class E1000(NetDevice):
    """An Ethernet device over NicRegisters."""

    def __init__(
        self,
        devices: Devices,
        name: str,
        mac: i64,
        nic: NicRegisters,
        mtu: i64 = ETH_DATA_LEN,
        features: i64 = E1000_FEATURES,
    ) -> None:
        """``mac`` is a 48-bit number, ``mtu`` bytes, ``features`` a subset of E1000_FEATURES."""
        super().__init__(name, mac, mtu)
        self.flags = IFF_BROADCAST | IFF_MULTICAST
        self.features = features
        self.nic: NicRegisters = nic
        self._devices: Devices = devices
        self._discarding: bool = False  # inside a frame that takes several receive descriptors
        self._rx_clean: i64 = 0  # next receive descriptor to look at
        self._tx_clean: i64 = 0  # next transmit descriptor to reap
        self._tx_use: i64 = 0  # next transmit descriptor to fill
        self.carrier = False  # until the hardware has told otherwise (e1000_probe)
        nic.handler = E1000Interrupt(self)

    # -- up and down

    def open(self) -> None:
        """Hand every receive descriptor to the hardware and let interrupts through (e1000_open)."""
        nic = self.nic
        nic.rx.tail = nic.rx.head + nic.rx.size
        nic.offloads = self.features
        nic.enabled = True
        self._watch_link()
        nic.read_icr()
        nic.write_ims(_IMS_ENABLE)

    def stop(self) -> None:
        """Switch the hardware off; frames in the rings are lost and counted (e1000_down)."""
        nic = self.nic
        nic.enabled = False
        nic.write_ims(0)
        while self._rx_clean != nic.rx.head:
            self.stats.rx_dropped += 1
            descriptor = nic.rx.descriptors[self._rx_clean & nic.rx.mask]
            self._lose(descriptor.journey, "received, and nobody looks any more")
            descriptor.journey = None
            descriptor.buffer = b""
            descriptor.status = 0
            self._rx_clean += 1
        nic.rx.tail = nic.rx.head
        self._count_missed()
        nic.tx.tail = self._tx_use
        frame = nic.next_tx()
        while frame is not None:
            self.stats.tx_dropped += 1
            self._lose(frame.journey, "not sent yet")
            nic.tx_done()
            frame = nic.next_tx()
        self._clean_tx()

    def _lose(self, journey: Journey | None, why: str) -> None:
        """What was in a ring is gone."""
        if journey is not None:
            journey.step(Point.E1000_DOWN, why, None, self.name)
            journey.finish(DROPPED, "DEV_DOWN")

    def set_features(self, features: i64) -> None:
        """Switch offloads on and off (ethtool -K); frames already in a ring keep what they were given."""
        self.features = features & E1000_FEATURES
        self.nic.offloads = self.features

    # -- transmit

    def start_xmit(self, packet: Packet) -> bool:
        """Descriptors for one frame: a context if it wants offloads, then one a piece (e1000_xmit_frame)."""
        frags = packet.frags
        cmd: i64 = CMD_TXSM if packet.ip_summed == CHECKSUM_PARTIAL else 0
        need: i64 = 1 if cmd == 0 else 2
        if frags is not None:
            need += len(frags)
        if self._tx_unused() < need and not self._maybe_stop_tx(packet, need):
            return False
        first = self._tx_use
        if cmd != 0:
            self._tx_context(packet)
        buf = packet.buf
        length = packet.end
        if length != len(buf):
            buf = buf[:length]
        descriptor = self._next_tx_descriptor()
        descriptor.buffer = buf
        if frags is None:
            descriptor.cmd = cmd | CMD_EOP
        else:
            descriptor.cmd = cmd
            for piece in frags:
                descriptor = self._next_tx_descriptor()
                descriptor.buffer = piece
                descriptor.cmd = 0
            descriptor.cmd |= CMD_EOP
        descriptor.journey = packet.journey
        if packet.journey is not None:
            packet.journey.step(Point.E1000_XMIT_FRAME, "", tx_facts(self.nic, first, self._tx_use), self.name)
        self.stats.tx_packets += 1
        self.stats.tx_bytes += length + packet.frags_len
        return True

    def xmit_flush(self) -> None:
        """Write the tail register."""
        self.nic.write_tx_tail(self._tx_use)

    def _tx_context(self, packet: Packet) -> None:
        """A context descriptor: checksum insertion, and segmentation for a super-segment (e1000_tso, e1000_tx_csum)."""
        descriptor = self._next_tx_descriptor()
        start = packet.csum_start
        descriptor.dtyp = DTYP_CONTEXT
        descriptor.tucss = start
        descriptor.tucso = start + packet.csum_offset
        if packet.gso_size == 0:
            descriptor.cmd = 0
        else:
            descriptor.cmd = CMD_TSE
            descriptor.mss = packet.gso_size
            descriptor.gso_type = packet.gso_type
            descriptor.hdr_len = start + (i64(packet.buf[start + 12]) >> 4) * 4

    def _next_tx_descriptor(self) -> TxDescriptor:
        """The next free one, as a data descriptor."""
        ring = self.nic.tx
        descriptor = ring.to_fill(self._tx_use)
        descriptor.dtyp = DTYP_DATA
        descriptor.status = 0
        self._tx_use += 1
        return descriptor

    def _tx_unused(self) -> i64:
        """Free descriptors (E1000_DESC_UNUSED)."""
        return self.nic.tx.size - (self._tx_use - self._tx_clean)

    def _maybe_stop_tx(self, packet: Packet, need: i64) -> bool:
        """Reap, and stop the queue if ``need`` descriptors are still not free (e1000_maybe_stop_tx)."""
        self._clean_tx()
        unused = self._tx_unused()
        if unused >= need:
            return True
        if packet.journey is not None:
            packet.journey.step(
                Point.E1000_MAYBE_STOP_TX, "the ring is full", {"needs": need, "free": unused}, self.name
            )
        self._devices.netif_stop_queue(self)
        if not self.napi_scheduled:
            self.nic.write_ims(_IMS_ENABLE | ICR_TXDW)  # while polled, poll re-arms
        return False

    def _clean_tx(self) -> None:
        """Take back what the hardware has sent (e1000_clean_tx_irq); its buffers are gone already."""
        ring = self.nic.tx
        at = self._tx_clean
        while at != self._tx_use:
            descriptor = ring.descriptors[at & ring.mask]
            if descriptor.status & STAT_DD == 0:
                break
            at += 1
        self._tx_clean = at

    # -- interrupts and polling

    def interrupt(self) -> None:
        """Mask everything and have poll do the rest (e1000_intr)."""
        causes = self.nic.read_icr()
        if causes & ICR_LSC != 0:
            self._watch_link()
        if causes & ~ICR_LSC != 0:
            self.nic.write_ims(0)
            self._devices.napi_schedule(self)

    def poll(self, budget: i64) -> i64:
        """Reap, receive up to ``budget`` frames, re-arm when drained (e1000_clean)."""
        self._clean_tx()
        if self.queue_stopped and self._tx_unused() >= TX_WAKE_THRESHOLD:
            self._devices.netif_wake_queue(self)
        work = self._clean_rx(budget)
        if self.nic.mpc != 0:
            self._count_missed()
        if work < budget and self.nic.enabled:
            self._devices.napi_complete(self)
            self.nic.write_ims(_IMS_ENABLE | ICR_TXDW if self.queue_stopped else _IMS_ENABLE)
        return work

    def _watch_link(self) -> None:
        """Follow the link (e1000_watchdog): without one nothing is sent."""
        if self.nic.link_up:
            self._devices.netif_carrier_on(self)
        else:
            self._devices.netif_carrier_off(self)

    def _count_missed(self) -> None:
        self.stats.rx_missed_errors += self.nic.read_mpc()

    # -- receive

    def _clean_rx(self, budget: i64) -> i64:
        """Hand up to ``budget`` frames to the stack (e1000_clean_rx_irq); how many."""
        ring = self.nic.rx
        work: i64 = 0
        while work < budget:
            descriptor = ring.descriptors[self._rx_clean & ring.mask]
            status = descriptor.status
            if status & STAT_DD == 0:
                break
            packet = Packet(descriptor.buffer, self)
            packet.mac_header = descriptor.start
            if descriptor.ip_summed != CHECKSUM_NONE:
                self._rx_checksum(packet, descriptor)
            if descriptor.gso_size != 0:
                packet.gso_size = descriptor.gso_size
                packet.gso_type = descriptor.gso_type
            if descriptor.journey is not None or self._devices.net.tracer is not None:
                self._trace_rx(packet, descriptor)
            descriptor.buffer = b""
            descriptor.status = 0
            self._rx_clean += 1
            ring.tail += 1  # the descriptor is the hardware's again (e1000_alloc_rx_buffers)
            work += 1
            if status & STAT_EOP == 0 or self._discarding:
                self._discard(packet, status)
            else:
                self._receive(packet)
        return work

    def _trace_rx(self, packet: Packet, descriptor: RxDescriptor) -> None:
        """A frame's journey begins here, or goes on if it came over a cable."""
        tracer = self._devices.net.tracer
        journey = descriptor.journey
        descriptor.journey = None
        if journey is not None and journey.enter(tracer):
            journey.patience = PATIENCE
            packet.journey = journey
        if tracer is not None:
            tracer.received(packet)
        if packet.journey is not None:
            slot = self._rx_clean & self.nic.rx.mask
            packet.journey.step(Point.E1000_CLEAN_RX_IRQ, "", rx_facts(packet, slot, descriptor.status), self.name)

    def _receive(self, packet: Packet) -> None:
        self.stats.rx_packets += 1
        self.stats.rx_bytes += packet.end - packet.mac_header
        packet.tstamp = self._devices.net.now
        self._devices.netif_receive_skb(packet)

    def _rx_checksum(self, packet: Packet, descriptor: RxDescriptor) -> None:
        """What the hardware says about the checksum (e1000_rx_checksum, skb_partial_csum_set).

        A partial one whose field lies outside the frame, or whose sum begins before a transport header can
        (virtio_net_hdr_to_skb), is no statement at all: the stack checks for itself, and nothing is written there.
        """
        if descriptor.ip_summed != CHECKSUM_PARTIAL:
            if self.features & NETIF_F_RXCSUM != 0:
                packet.ip_summed = descriptor.ip_summed
            return
        packet.csum_start = descriptor.start + descriptor.csum_start
        packet.csum_offset = descriptor.csum_offset
        if descriptor.csum_start >= ETH_HLEN + IP_HLEN and partial_fits(packet):
            packet.ip_summed = CHECKSUM_PARTIAL

    def _discard(self, packet: Packet, status: i64) -> None:
        """A frame in several descriptors is longer than any buffer: lose it to its end, counted as received."""
        if packet.journey is not None:
            packet.journey.finish(DROPPED, "RX_LENGTH_ERROR")
        self._discarding = status & STAT_EOP == 0
        if not self._discarding:
            self.stats.rx_errors += 1
            self.stats.rx_length_errors += 1


class E1000Interrupt(InterruptHandler):
    """The driver's end of the interrupt line."""

    def __init__(self, dev: E1000) -> None:
        self.dev: E1000 = dev

    def interrupt(self) -> None:
        self.dev.interrupt()
