"""A network in real time, its taps open: what stands at their other ends joins it."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from ustack.device.e1000 import E1000_FEATURES, NO_OFFLOAD
from ustack.io.daemon import TAP_ERRORS
from ustack.io.realtime import RealTime
from ustack.io.tap import Tap, TapNic
from ustack.lab.network import LINGER
from ustack.timer import NEVER

if TYPE_CHECKING:
    from typing import Self

    from ustack.lab.network import Network, TapPort


class OpenTap:
    """The TAP at a port; gone when closed, unless it was there before."""

    def __init__(self, port: TapPort) -> None:
        """Makes it or attaches to it, and gives the host's side its address. Raises OSError."""
        self.port: TapPort = port
        try:
            self.tap = Tap(port.name, port.offload, port.dev.mtu)
        except OSError as reason:
            raise OSError(reason.errno, TAP_ERRORS.get(reason.errno or 0, reason.strerror), port.name) from None
        self.made: bool = not self.tap.persistent
        port.dev.set_features(self.tap.features & E1000_FEATURES if port.offload else NO_OFFLOAD)
        self.nic = TapNic(self.tap, port.dev.nic, port.dev.stats, net=port.node.stack.net)
        try:
            if port.host_addr is not None:
                self._configure_host(port.host_addr)
        except BaseException:
            self.tap.close()
            raise

    def _configure_host(self, cidr: str) -> None:
        from ustack.io.host import Host  # a tenth of a second that only this needs

        with Host() as host:
            host.set_link(self.tap.name, up=True, mtu=int(self.port.dev.mtu))
            host.add_address(self.tap.name, cidr)

    def close(self) -> None:
        """Of one that stays, what was added is taken away."""
        if not self.made and self.port.host_addr is not None:
            from ustack.io.host import Host

            with contextlib.suppress(OSError), Host() as host:  # somebody may have removed it before us
                host.delete_address(self.tap.name, self.port.host_addr)
        self.tap.close()


class RealNetwork:
    """``network`` on the wall clock."""

    def __init__(self, network: Network) -> None:
        """Opens the taps. Raises OSError: EPERM without the right, EBUSY if somebody else has one, EINVAL."""
        self.network: Network = network
        self._undo = contextlib.ExitStack()
        with contextlib.ExitStack() as undo:
            self.real: RealTime = undo.enter_context(RealTime(network.lab))
            for port in network.taps:
                tap = OpenTap(port)
                undo.callback(tap.close)
                self.real.add(tap.nic, port.dev.nic)
            self.real.catch()
            self._undo = undo.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        self._undo.close()

    def run(self, until: int | None = None) -> bool:
        """Until every program has ended; without one until a signal, which is a good end. ``until``: at the latest, ns.

        True if no program has failed. Raises OSError ENODEV if every TAP was taken away.
        """
        limit = int(NEVER) if until is None else until
        if not self.network.done:
            self.real.run(limit)
        if self.network.done and not self.real.stopped:
            self.real.run(min(limit, int(self.network.lab.now) + LINGER))
        return not self.network.failures if self.real.stopped else self.network.judge(limit)
