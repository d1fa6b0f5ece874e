"""How a device is printed: its first two lines, and with -s its counters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ustack.device.net_device import (
    IFF_ALLMULTI,
    IFF_BROADCAST,
    IFF_LOOPBACK,
    IFF_LOWER_UP,
    IFF_MULTICAST,
    IFF_NOARP,
    IFF_PROMISC,
    IFF_RUNNING,
    IFF_UP,
)
from ustack.wire.ethernet import mac_to_str

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ustack.cli.ip.output import Printer
    from ustack.cli.ip.session import Session
    from ustack.rtnl.messages import Link

IFF_NOTRAILERS: Final = 0x20
#: IFF_*, in the order in which they are printed.
FLAGS: Final = {
    IFF_LOOPBACK: "LOOPBACK", IFF_BROADCAST: "BROADCAST", 0x10: "POINTOPOINT", IFF_MULTICAST: "MULTICAST",
    IFF_NOARP: "NOARP", IFF_ALLMULTI: "ALLMULTI", IFF_PROMISC: "PROMISC", 0x400: "MASTER", 0x800: "SLAVE", 0x4: "DEBUG",
    0x8000: "DYNAMIC", 0x4000: "AUTOMEDIA", 0x2000: "PORTSEL", IFF_NOTRAILERS: "NOTRAILERS", IFF_UP: "UP",
    IFF_LOWER_UP: "LOWER_UP", 0x2_0000: "DORMANT", 0x4_0000: "ECHO",
}  # fmt: skip

Columns = tuple[tuple[str, str, str], ...]

#: Column titles and widths of -s, the keys of -j, and the counters (rtnl_link_stats64).
RX: Final[Columns] = (
    ("bytes", "bytes", "rx_bytes"), ("packets", "packets", "rx_packets"), ("errors", "errors", "rx_errors"),
    ("dropped", "dropped", "rx_dropped"), ("missed", "over_errors", "rx_missed_errors"),
    ("mcast", "multicast", "multicast"),
)  # fmt: skip
TX: Final[Columns] = (
    ("bytes", "bytes", "tx_bytes"), ("packets", "packets", "tx_packets"), ("errors", "errors", "tx_errors"),
    ("dropped", "dropped", "tx_dropped"), ("carrier", "carrier_errors", "tx_carrier_errors"),
    ("collsns", "collisions", "collisions"),
)  # fmt: skip
RX_ERRORS: Final[Columns] = (
    ("length", "length_errors", "rx_length_errors"), ("crc", "crc_errors", "rx_crc_errors"),
    ("frame", "frame_errors", "rx_frame_errors"), ("fifo", "fifo_errors", "rx_fifo_errors"),
    ("overrun", "missed_errors", "rx_over_errors"),
)  # fmt: skip
TX_ERRORS: Final[Columns] = (
    ("aborted", "aborted_errors", "tx_aborted_errors"), ("fifo", "fifo_errors", "tx_fifo_errors"),
    ("window", "window_errors", "tx_window_errors"), ("heartbt", "heartbeat_errors", "tx_heartbeat_errors"),
    ("transns", "carrier_changes", "carrier_changes"),
)  # fmt: skip
WIDTHS: Final = (10, 7, 6, 7, 7, 7)
#: A last column for what only PPP has.
COMPRESSED: Final = 10


def flag_names(flags: int) -> list[str]:
    names = [name for flag, name in FLAGS.items() if flags & flag]
    return ["NO-CARRIER", *names] if flags & IFF_UP and not flags & IFF_RUNNING else names


def link_group(link: Link) -> str:
    return str(link.group) if link.group else "default"


class LinkPrinter:
    """Prints devices; their addresses, if any, are someone else's."""

    def __init__(self, session: Session, out: Printer) -> None:
        self.session: Session = session
        self.out: Printer = out

    def head(self, link: Link, *, mode: bool = False, queue: bool = True, mac: bool = True) -> None:
        """The two lines, but for the end of the second."""
        out = self.out
        out.put("ifindex", link.ifindex, f"{link.ifindex}: ")
        out.put("ifname", link.name, f"{link.name}: ")
        names = flag_names(link.flags or 0)
        out.put("flags", names, f"<{','.join(names)}> ")
        out.put("mtu", link.mtu, f"mtu {link.mtu} ")
        if link.qdisc:
            out.put("qdisc", link.qdisc, f"qdisc {link.qdisc} ")
        if link.master:
            out.put("master", self.session.device(link.master), f"master {self.session.device(link.master)} ")
        if link.operstate:
            out.put("operstate", link.operstate, f"state {link.operstate} ")
        if mode:
            out.put("linkmode", "DEFAULT", "mode DEFAULT ")
        out.put("group", link_group(link), f"group {link_group(link)} ")
        if queue and link.txqlen:
            length = link.txqlen - (link.txqlen >> 31 << 32)  # %d of an unsigned int
            out.put("txqlen", length, f"qlen {length}")
        if mac:
            self._mac(link)
        if mac and self.session.options.details:
            self._details(link)

    def _mac(self, link: Link) -> None:
        out = self.out
        loopback = (link.flags or 0) & IFF_LOOPBACK
        kind = "loopback" if loopback else "ether"
        broadcast = mac_to_str(0 if loopback else (1 << 48) - 1)
        out.newline()
        out.put("link_type", kind, f"    link/{kind} ")
        out.put("address", mac_to_str(link.mac or 0), mac_to_str(link.mac or 0))
        out.put("broadcast", broadcast, f" brd {broadcast}")

    def _details(self, link: Link) -> None:
        out, flags = self.out, link.flags or 0
        promiscuous, all_multicast = link.promiscuity, int(flags & IFF_ALLMULTI > 0)
        out.put("promiscuity", promiscuous, f" promiscuity {promiscuous} ")
        out.put("allmulti", all_multicast, f" allmulti {all_multicast} ")
        out.put("min_mtu", link.min_mtu, f"minmtu {link.min_mtu} ")
        out.put("max_mtu", link.max_mtu, f"maxmtu {link.max_mtu} ")
        if link.kind:
            out.newline()
            out.open("linkinfo")
            out.put("info_kind", link.kind, f"    {link.kind} ")
            out.close()

    def brief(self, link: Link, *, mac: bool = True) -> None:
        """-br: the name and the state in columns."""
        out = self.out
        out.put("ifname", link.name, f"{link.name:<16} ")
        out.put("operstate", link.operstate, f"{link.operstate:<14} ")
        if mac:
            address = mac_to_str(link.mac or 0)
            out.put("address", address, f"{address} ")
            names = flag_names(link.flags or 0)
            out.put("flags", names, f"<{','.join(names)}> ")

    # -- counters

    def stats(self, link: Link, *, below: bool = True) -> None:
        """-s; with -s -s the kinds of errors, too. ``below``: a line is to be ended before."""
        out, more = self.out, self.session.options.stats > 1
        widths = [
            max(width, *(len(str(link.stats.get(row[column][2], 0))) for row in (RX, TX)))
            for column, width in enumerate(WIDTHS)
        ]
        out.open("stats64")
        for key, columns, errors in (("rx", RX, RX_ERRORS), ("tx", TX, TX_ERRORS)):
            out.open(key)
            if below or key == "tx":
                out.newline()
            self._totals(key, columns, widths, link.stats)
            if more:
                out.newline()
                self._errors(key, errors, widths, link.stats)
            for _, name, counter in (*columns, *(errors if more else ())):
                out.data(name, link.stats.get(counter, 0))
            out.close()
        out.close()

    def _totals(self, key: str, columns: Columns, widths: list[int], stats: dict[str, int]) -> None:
        """The title shares the first column with the first name."""
        title = f"{key.upper()}: "
        names = join([column[0] for column in columns], [widths[0] - len(title), *widths[1:]])
        self.out.text(f"    {title}{names}{' ' * (COMPRESSED + 1)}")
        self.out.newline()
        self.out.text(f"    {join([stats.get(column[2], 0) for column in columns], widths)} ")

    def _errors(self, key: str, columns: Columns, widths: list[int], stats: dict[str, int]) -> None:
        """The title is the first column."""
        names = join([f"{key.upper()} errors:", *(column[0] for column in columns)], widths, left=True)
        self.out.text(f"    {names}")
        self.out.newline()
        self.out.text(f"    {join(['', *(stats.get(column[2], 0) for column in columns)], widths)} ")


def join(cells: Sequence[object], widths: list[int], *, left: bool = False) -> str:
    """Cells in columns, to the right; with ``left`` the first one to the left."""
    first = f"{cells[0]:<{widths[0]}}" if left else f"{cells[0]:>{widths[0]}}"
    return " ".join([first, *(f"{cell:>{width}}" for cell, width in zip(cells[1:], widths[1:], strict=True))])
