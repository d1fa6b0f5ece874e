"""What scripts set from outside the program: sysctls as files of a private folder, and ip, tc, ethtool, nstat."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tests.packetdrill.machine import TUN_FEATURES
from tests.packetdrill.protocol import Reply
from ustack.device.net_device import NETIF_F_TSO, NETIF_F_TSO_ECN
from ustack.routing.fib_types import FibConfig
from ustack.routing.uapi import (
    NLM_F_REPLACE,
    RT_TABLE_MAIN,
    RTAX_ADVMSS,
    RTAX_INITCWND,
    RTAX_LOCK,
    RTAX_MTU,
    RTPROT_BOOT,
)
from ustack.stack import parse_cidr
from ustack.wire.ipv4 import str_to_addr

if TYPE_CHECKING:
    from pathlib import Path

    from tests.packetdrill.machine import Machine
    from ustack.net import Net

_PREFIX: Final = "net.ipv4."
#: Files that scripts write whatever the stack makes of them.
_ALSO: Final = ("tcp_fack", "tcp_fastopen_cookies", "tcp_ecn_option")
#: Words of `ip route` and the metrics that they set.
_METRICS: Final = {"advmss": RTAX_ADVMSS, "mtu": RTAX_MTU, "initcwnd": RTAX_INITCWND}


class Settings:
    """The folder that lies over /proc/sys/net/ipv4, and the commands; ``complaints`` is what could not be done."""

    def __init__(self, machine: Machine, folder: Path, proc_net: Path | None = None) -> None:
        self.machine = machine
        self.folder = folder
        self.proc_net = proc_net  #: where the files of /proc/net are shown
        self.complaints: list[str] = []
        self._shown: dict[str, str] = {}
        self._counted = counters(machine.stack.net)

    # -- sysctls

    def store(self) -> None:
        """Write every setting whose value is not the one in its file."""
        table = self.machine.stack.sysctl
        values = dict.fromkeys(_ALSO, "")
        for name in table.names():
            plain = name.removeprefix(_PREFIX)
            if name.startswith(_PREFIX) and "." not in plain and table.readable(name):
                values[plain] = table.get(name)
        for name, value in values.items():
            if self._shown.get(name) != value:
                (self.folder / name).write_text(value + "\n")
                self._shown[name] = value
        if self.proc_net is not None:
            (self.proc_net / "tcp").write_text(listening(self.machine))
            (self.proc_net / "tcp6").write_text("")

    def load(self) -> None:
        """Set what has been written."""
        known = set(self.machine.stack.sysctl.names())
        for name, shown in list(self._shown.items()):
            text = (self.folder / name).read_text().strip()
            # until there is a key, zeros are shown: written, they are one
            if text == shown.strip() and name != "tcp_fastopen_key":
                continue
            self._shown[name] = text
            if _PREFIX + name in known:
                self._set(_PREFIX + name, text)
            elif name == "tcp_fastopen_cookies":
                self.machine.stack.tcp.tables.metrics.flush()

    def _set(self, name: str, text: str) -> None:
        try:
            self.machine.stack.sysctl.set(name, text)
        except OSError as failure:
            self.complaints.append(f"sysctl {name}={text}: {failure.strerror}")

    # -- programs

    def command(self, line: bytes) -> Reply:
        """``line``: the program's name and its arguments, each with a zero behind it."""
        program, *words = line.decode().rstrip("\0").split("\0")
        try:
            if program == "nstat":
                return Reply(payload=self._nstat().encode())
            if program == "tc":
                self._tc(words)
            elif program == "ethtool":
                self._ethtool(words)
            elif program == "ip":
                self._ip(words)
        except (OSError, ValueError) as failure:
            self.complaints.append(f"{program} {' '.join(words)}: {failure}")
            return Reply(1)
        return Reply()

    def _nstat(self) -> str:
        """Counters that have moved since the last time, as ``nstat`` shows them."""
        now = counters(self.machine.stack.net)
        moved = {name: value - self._counted.get(name, 0) for name, value in now.items()}
        self._counted = now
        return "#kernel\n" + "".join(f"{name:<32}{delta:<16}0.0\n" for name, delta in moved.items() if delta)

    def _tc(self, words: list[str]) -> None:
        """A queue that holds nothing loses everything, ``fq`` paces; the others are as good as none."""
        if words[:1] == ["qdisc"]:
            self.machine.pipe.paced = "fq" in words
            self.machine.pipe.set_room(words[-2:] != ["limit", "0"])

    def _ethtool(self, words: list[str]) -> None:
        """``-K tun0 tso off``: super-segments are cut before they get out."""
        features = TUN_FEATURES
        if ("tso", "off") in zip(words, words[1:], strict=False):
            features &= ~(NETIF_F_TSO | NETIF_F_TSO_ECN)
        self.machine.pipe.features = features

    def _ip(self, words: list[str]) -> None:
        if words[:2] == ["tcp_metrics", "flush"]:
            self.machine.stack.tcp.tables.metrics.flush()
        elif words[:2] == ["route", "change"]:
            self._route_change(words[2:])

    def _route_change(self, words: list[str]) -> None:
        """``PREFIX via GATEWAY dev tun0 [advmss N] [mtu [lock] N] [initcwnd N]``."""
        network, prefixlen = parse_cidr(words[0])
        cfg = FibConfig(network, prefixlen)
        cfg.table = RT_TABLE_MAIN
        cfg.protocol = RTPROT_BOOT
        cfg.oif = self.machine.pipe.ifindex
        cfg.nlflags = NLM_F_REPLACE
        for at, word in enumerate(words[1:], 1):
            if word == "via":
                cfg.gateway = str_to_addr(words[at + 1])
            elif word in _METRICS:
                which = _METRICS[word]
                locked = words[at + 1] == "lock"
                cfg.metrics[which] = int(words[at + 1 + locked])
                if locked:
                    cfg.metrics[RTAX_LOCK] = cfg.metrics.get(RTAX_LOCK, 0) | 1 << which
        self.machine.stack.routing.fib.rtm_newroute(cfg)


def listening(machine: Machine) -> str:
    """The listening sockets, as /proc/net/tcp has them; the addresses in the machine's order."""
    lines: list[str] = []
    for group in machine.stack.tcp.tables.listeners.values():
        for tp in group:
            addr = int.from_bytes(int(tp.rcv_saddr).to_bytes(4, "big"), "little")
            local = f"{addr:08X}:{tp.num:04X}"
            lines.append(f"{len(lines):4}: {local} 00000000:0000 0A 00000000:00000000\n")
    return "".join(lines)


def counters(net: Net) -> dict[str, int]:
    """Every counter under nstat's name."""
    return {name.replace(".", ""): value for name, value in net.mib.snapshot().items()}
