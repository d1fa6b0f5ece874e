"""The daemon's log of packets with impossible addresses, in the kernel's words (ip_handle_martian_source).

Told of them where log_martians is on, no faster than net_ratelimit lets: RouteInput sees to both.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from ustack.routing.route_input import MartianWatcher
from ustack.wire.ipv4 import addr_to_str

if TYPE_CHECKING:
    from ustack.device.net_device import NetDevice
    from ustack.packet import Packet

log: Final = logging.getLogger("ustack.daemon")


class MartianLog(MartianWatcher):
    """A warning for each, and for how many there were none."""

    def martian(self, packet: Packet, dev: NetDevice, saddr: int, daddr: int, source: bool) -> None:
        """RFC 1812 5.3.8: "the router SHOULD log the (invalid) source and destination"; of a source that lies, the
        frame's header is the only trace."""
        to, whom = addr_to_str(daddr), addr_to_str(saddr)
        if not source:
            log.warning("martian destination %s from %s, dev %s", to, whom, dev.name)
            return
        log.warning("martian source %s from %s, on dev %s", to, whom, dev.name)
        header = packet.buf[packet.mac_header : packet.mac_header + dev.hard_header_len]
        if header:
            log.warning("ll header: 00000000: %s", header.hex(" "))

    def suppressed(self, count: int) -> None:
        log.warning("net_ratelimit: %d callbacks suppressed", count)
