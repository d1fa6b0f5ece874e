"""ip monitor: what changes, as it changes."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from ustack.cli.ip.address import AddressPrinter
from ustack.cli.ip.link_text import LinkPrinter
from ustack.cli.ip.neigh import NeighPrinter
from ustack.cli.ip.nexthop_text import print_nexthop
from ustack.cli.ip.route_text import RoutePrinter, Unsaid
from ustack.cli.ip.rule_text import RulePrinter
from ustack.cli.ip.words import FAILURE, Mistake, ShowUsage, Words, choose, matches
from ustack.rtnl.messages import Addr, Link, Neigh, Netconf, Nexthop, Route, Rule

if TYPE_CHECKING:
    from ustack.cli.ip.output import Printer
    from ustack.cli.ip.session import Session
    from ustack.rtnl.messages import Event, Object

#: What can be watched, in the order in which abbreviations are tried: the word and the kind of message.
KINDS: Final = {
    "link": "link", "address": "addr", "route": "route", "neigh": "neigh", "netconf": "netconf", "rule": "rule",
    "nexthop": "nexthop",
}  # fmt: skip
LABELS: Final = {Link: "LINK", Addr: "ADDR", Route: "ROUTE", Neigh: "NEIGH", Netconf: "NETCONF", Rule: "RULE",
                 Nexthop: "NEXTHOP"}  # fmt: skip
RP_FILTER: Final = {"0": "off", "1": "strict", "2": "loose"}
CONF: Final = "net.ipv4.conf."


class Monitor:
    """Watches and prints."""

    def __init__(self, session: Session) -> None:
        self.session: Session = session
        self.kinds: list[str] = []
        self.labels: bool = False
        self.device: str = ""
        self.ifindex: int = 0
        self.out: Printer = session.printer()

    def parse(self, words: Words) -> None:
        while words:
            word = words.take()
            kind = choose(word, tuple(KINDS))
            if matches(word, "label"):
                self.labels = True
            elif kind is not None:
                self.kinds.append(KINDS[kind])
            elif word == "all":
                self.labels = True
            elif matches(word, "help"):
                raise ShowUsage
            elif word == "dev":
                self.device = words.take()
            else:
                text = f'Argument "{word}" is unknown, try "{self.session.program} monitor help".\n'
                raise Mistake(text)
        if self.device:
            self.ifindex = self.session.find_device(self.device)
            if not self.ifindex:
                raise Mistake(f'Device "{self.device}" does not exist.\n', FAILURE)

    def run(self) -> None:
        """Until the daemon ends, or someone interrupts."""
        self.session.links()
        for event in self.session.transport.events(self.kinds):
            self.show(event)
            self.session.out.flush()

    def show(self, event: Event) -> None:
        if event.lost:
            self.session.err.write(f"{event.lost} changes were missed\n")
        what = event.object
        if isinstance(what, Link) and not event.deleted:
            self.session.learn(what)
        if self._hidden(what):
            return
        if not self.out.as_json:
            self._prefix(what)
        self._print(what, event.deleted, event.asked)
        if self.out.as_json:
            self.session.out.write("\n")
            self.out = self.session.printer()  # which separates nothing from the next one
        if isinstance(what, Link) and event.deleted:
            self.session.learn(what, gone=True)

    def _hidden(self, what: Object) -> bool:
        if not self.ifindex or isinstance(what, Rule):
            return False
        if isinstance(what, Netconf):
            return device_and_setting(what)[0] != self.device
        return what.ifindex != self.ifindex

    def _prefix(self, what: Object) -> None:
        now = time.time()
        if self.session.options.short_timestamp:
            stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(now))
            self.session.out.write(f"[{stamp}.{int(now % 1 * 1e6):06}] ")
        elif self.session.options.timestamp:
            self.session.out.write(f"Timestamp: {time.ctime(now)} {int(now % 1 * 1e6):06} usec\n")
        if self.labels:
            self.session.out.write(f"[{LABELS[type(what)]}]")

    def _print(self, what: Object, deleted: bool, asked: bool) -> None:
        session, out, hide = self.session, self.out, bool(self.ifindex)
        if isinstance(what, Route):
            RoutePrinter(session, out, Unsaid(device=hide)).print(what, deleted=deleted)
        elif isinstance(what, Rule):
            RulePrinter(session, out).print(what, deleted=deleted)
        elif isinstance(what, Neigh):
            NeighPrinter(session, out, hide_device=hide).print(what, deleted=deleted, asked=asked)
        elif isinstance(what, Addr):
            AddressPrinter(session, out).print(what, named=True, deleted=deleted)
        else:
            out.open()
            if deleted:
                out.put("deleted", True, "Deleted ")
            if isinstance(what, Link):
                LinkPrinter(session, out).head(what, queue=False)
            elif isinstance(what, Nexthop):
                print_nexthop(session, out, what)
            elif isinstance(what, Netconf):
                print_netconf(out, what)
            out.text("\n")
            out.close()


def device_and_setting(netconf: Netconf) -> tuple[str, str]:
    """Both by their names; a dot in a device's is a slash in sysctl's."""
    device, _, setting = netconf.name.removeprefix(CONF).rpartition(".")
    return device.replace("/", "."), setting


def print_netconf(out: Printer, netconf: Netconf) -> None:
    """``inet DEV SETTING on|off``."""
    device, setting = device_and_setting(netconf)
    if setting == "rp_filter":
        said = RP_FILTER.get(netconf.value, netconf.value)
    else:
        said = {"0": "off", "1": "on"}.get(netconf.value, netconf.value)
    setting = {"proxy_arp": "proxy_neigh"}.get(setting, setting)
    out.put("family", "inet", "inet ")
    out.put("interface", device, f"{device} ")
    out.put(setting, said, f"{setting} {said} ")


def do_monitor(session: Session, argv: list[str]) -> int:
    """``ip monitor ...``; with -j each change is an object in a line of its own."""
    monitor = Monitor(session)
    monitor.parse(Words(argv))
    monitor.run()
    return 0
