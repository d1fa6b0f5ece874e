"""The daemon: a stack on one TAP or several, with its services and its control socket, from start to clean end.

What it makes it removes, in the opposite order: control socket, services, capture, device, and whatever it added on
the host's side of a TAP that stays.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import time
from typing import TYPE_CHECKING, BinaryIO, Final

from ustack.device.e1000 import E1000, E1000_FEATURES, NO_OFFLOAD
from ustack.device.net_device import ETH_DATA_LEN, Address
from ustack.device.ring import NicRegisters
from ustack.io.config import Cidr, Config, ConfigError, Device, default_control_path, parse_address, parse_cidr
from ustack.io.loop import Loop
from ustack.io.martians import MartianLog
from ustack.io.memory import keep_heap
from ustack.io.server import ControlServer
from ustack.io.services import Chargen, Discard, Echo, Service, UdpDiscard, UdpEcho
from ustack.io.signals import Signals
from ustack.io.status import Reporter
from ustack.io.tap import Tap, TapNic
from ustack.stack import Stack
from ustack.wire.ethernet import mac_to_str

if TYPE_CHECKING:
    from ustack.io.capture import Capture
    from ustack.io.host_helper import HostHelper

log: Final = logging.getLogger("ustack.daemon")

SEED_LEN: Final = 32
#: Frames in each ring. A TAP queues 1,000 frames itself; the ring only has to hold what one wake-up moves.
RING_SIZE: Final = 1024
#: Polls after everything is closed, for the FINs and RSTs to leave.
LAST_ROUNDS: Final = 4


class Link:
    """The stack's end of a TAP: device, driver and the host's side, up together and down together."""

    def __init__(self, stack: Stack, config: Device) -> None:
        """Raises OSError: EPERM without the right, EBUSY if somebody else has it, EINVAL."""
        self.stack: Stack = stack
        self.config: Device = config
        offload = not config.no_offload
        mtu = ETH_DATA_LEN if config.mtu is None else config.mtu
        self.tap = Tap(config.name, offload, mtu)
        self.name: str = self.tap.name
        self.made: bool = not self.tap.persistent
        self.host_addresses: list[str] = []
        nic = NicRegisters(RING_SIZE)
        features = self.tap.features & E1000_FEATURES if offload else NO_OFFLOAD
        self.dev = E1000(stack.devices, self.name, random_mac(), nic, mtu, features)
        self.dev.kind = "tun"
        self.nic = TapNic(self.tap, nic, self.dev.stats, net=stack.net)
        stack.add_device(self.dev)

    def configure_host(self, cidr: str) -> None:
        """Bring the host's side up with ``cidr`` and our MTU. Raises OSError."""
        from ustack.io.host import Host  # a tenth of a second that only this needs

        with Host() as host:
            host.set_link(self.name, up=True, mtu=int(self.dev.mtu))
            host.add_address(self.name, cidr)
        self.host_addresses.append(cidr)

    def close(self) -> None:
        """Take the device away; of one that stays, what was added."""
        if not self.made and self.host_addresses:
            self.restore_host()
        self.tap.close()

    def restore_host(self) -> None:
        from ustack.io.host import Host

        with contextlib.suppress(OSError), Host() as host:  # somebody may have removed it before us
            for cidr in self.host_addresses:
                host.delete_address(self.name, cidr)


def random_mac() -> int:
    """A unicast address that is locally administered (IEEE 802: second bit of the first byte)."""
    return int.from_bytes(os.urandom(6), "big") & ~(1 << 40) | 1 << 41


class Daemon:
    """One stack on the TAPs of its configuration."""

    def __init__(
        self, config: Config, helper: HostHelper | None = None, loopback: bool = False, signals: bool = True
    ) -> None:
        """Makes everything; what was made is removed again if something fails. Raises OSError, ConfigError.

        ``helper`` configures the host's side, with ``loopback`` also lo; without one it is done here. With ``signals``,
        SIGTERM, SIGINT and SIGHUP end the daemon from here on; that takes the main thread.
        """
        config.check()
        self.config: Config = config
        self.helper: HostHelper | None = helper
        self.undo = contextlib.ExitStack()
        with contextlib.ExitStack() as undo:
            self.stack = Stack(os.urandom(SEED_LEN), time.monotonic_ns())
            self.stack.routing.input_route.martian_watchers.append(MartianLog())
            later = set_sysctls(self.stack, config.sysctl)
            self.loop = Loop(self.stack)
            undo.callback(self.loop.close)
            if signals:
                undo.callback(Signals(self.loop).close)
            self.server: ControlServer | None = None
            undo.callback(self._close_server)  # last but for the loop: who waits for our end waits on it
            self.links: list[Link] = []
            for device in config.devices():
                link = open_link(self.stack, device)
                undo.callback(link.close)
                self.links.append(link)
                self.loop.add_nic(link.nic)
            refuse(set_sysctls(self.stack, later))
            undo.callback(self._host_settled)
            undo.callback(self.stack.close)
            self._configure_host(loopback)
            self.capture = self._start_capture(undo)
            self._configure()
            self.services = start_services(self.loop, config.serve)
            path = config.control or default_control_path()
            self.server = open_control(self.loop, path, Reporter(self.stack))
            self._host_configured()
            self.undo = undo.pop_all()
        devices = ", ".join(f"{link.name} {mac_to_str(int(link.dev.mac))} mtu {link.dev.mtu}" for link in self.links)
        log.info("up: %s, control socket %s", devices, path)

    def _configure(self) -> None:
        for link in self.links:
            for text in link.config.addr:
                add_address(self.stack, link.dev, parse_cidr(text))
        if self.config.gateway is not None:
            add_gateway(self.stack, self.config.gateway)

    def _configure_host(self, loopback: bool) -> None:
        """Begin it; a helper goes on while we do the rest."""
        wanted = [(link, cidr) for link in self.links if (cidr := link.config.host_addr) is not None]
        if self.helper is None:
            for link, cidr in wanted:
                link.configure_host(cidr)
        elif wanted:
            self.helper.begin([(link.name, cidr, int(link.dev.mtu)) for link, cidr in wanted], loopback)

    def _host_configured(self) -> None:
        """Wait for the helper; only what it has added is ours to remove. Raises OSError."""
        if self.helper is None or not self.helper.begun:
            return
        self.helper.finish()
        for link in self.links:
            if link.config.host_addr is not None:
                link.host_addresses.append(link.config.host_addr)

    def _host_settled(self) -> None:
        """The same on the way out, when something else has failed meanwhile."""
        with contextlib.suppress(OSError):
            self._host_configured()

    def _start_capture(self, undo: contextlib.ExitStack) -> Capture | None:
        if self.config.capture is None:
            return None
        from ustack.io.capture import Capture

        file: BinaryIO = undo.enter_context(open(self.config.capture, "wb"))
        epoch = time.time_ns() - time.monotonic_ns()
        capture = Capture(file, self.stack.net, self.stack.devices, epoch)
        undo.callback(capture.close)
        return capture

    def run(self) -> None:
        """Until a signal or Down; then close everything. Raises OSError ENODEV if every TAP was taken away."""
        keep_heap()
        try:
            self.loop.run()
        finally:
            self.close()
        if self.loop.lost:
            names = ", ".join([link.name for link in self.links])
            raise OSError(errno.ENODEV, os.strerror(errno.ENODEV), names)

    def _close_server(self) -> None:
        if self.server is not None:
            self.server.close()

    def close(self) -> None:
        """Close what is open, let the last segments leave, remove what was made."""
        if self.server is not None:
            self.server.close_sockets()
        for service in self.services:
            service.close()
        for _ in range(LAST_ROUNDS):
            self.loop.step(0)
        self.undo.close()
        log.info("down")


def open_link(stack: Stack, config: Device) -> Link:
    """The Link, its failures in words. Raises OSError."""
    try:
        return Link(stack, config)
    except OSError as reason:
        raise OSError(reason.errno, TAP_ERRORS.get(reason.errno or 0, reason.strerror), config.name) from None


#: What opening a TAP fails with, in words that help.
TAP_ERRORS: Final = {
    errno.EPERM: "no permission to open the TAP: root, CAP_NET_ADMIN or 'ustack shell' is needed",
    errno.EACCES: "no permission to open /dev/net/tun",
    errno.EBUSY: "the TAP is busy: another program has it open",
    errno.EINVAL: "there is an interface of that name that is no TAP, or one of another kind",
    errno.ENOENT: "/dev/net/tun is missing: is the tun module loaded?",
}


def open_control(loop: Loop, path: str, reporter: Reporter) -> ControlServer:
    try:
        return ControlServer(loop, path, reporter)
    except OSError as reason:
        busy = reason.errno == errno.EADDRINUSE
        text = "a daemon is listening there already" if busy else reason.strerror
        raise OSError(reason.errno, text, path) from None


def set_sysctls(stack: Stack, settings: dict[str, str | int]) -> dict[str, str | int]:
    """Set those whose name there is; the others, which may be those of devices to come. Raises ConfigError."""
    later: dict[str, str | int] = {}
    for name, value in settings.items():
        try:
            stack.sysctl.set(name, str(value))
        except OSError as reason:
            if reason.errno != errno.ENOENT:
                raise ConfigError(f"sysctl {name} = {value}: {reason.strerror}") from None
            later[name] = value
    return later


def refuse(settings: dict[str, str | int]) -> None:
    """Raises ConfigError if there is one."""
    for name in settings:
        raise ConfigError(f"sysctl {name}: there is no such setting")


def add_address(stack: Stack, dev: E1000, cidr: Cidr) -> None:
    """Raises ConfigError for one that the stack will not have (multicast, twice the same, …)."""
    try:
        stack.routing.add_address(dev, Address(cidr.address, cidr.prefixlen))
    except OSError as reason:
        raise ConfigError(f"address {cidr}: {reason.strerror}") from None


def add_gateway(stack: Stack, gateway: str) -> None:
    """A default route. Raises ConfigError for a gateway that is on no link."""
    try:
        stack.routing.add_route(0, 0, parse_address(gateway))
    except OSError as reason:
        raise ConfigError(f"gateway {gateway}: {reason.strerror}") from None


def start_services(loop: Loop, names: list[str]) -> list[Service]:
    """Those of config.SERVICES that ``names`` lists, once each."""
    services: list[Service] = []
    if "echo" in names:
        services += [Echo(loop), UdpEcho(loop)]
    if "discard" in names:
        services += [Discard(loop), UdpDiscard(loop)]
    if "chargen" in names:
        services.append(Chargen(loop))
    if "http" in names:
        from ustack.io.http import Http

        services.append(Http(loop))
    return services
