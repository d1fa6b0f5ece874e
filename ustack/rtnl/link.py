"""Links (Linux net/core/rtnetlink.c: rtnl_newlink, do_setlink, rtnl_dellink, rtnl_getlink, rtnl_fill_ifinfo)."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

from msgspec import structs

from ustack.device.bridge import Bridge
from ustack.device.net_device import IFF_LOOPBACK, IFF_LOWER_UP, IFF_PROMISC, IFF_UP, dev_valid_name
from ustack.net import RTM_NEWLINK
from ustack.routing.uapi import NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE
from ustack.rtnl.handler import Handler, extack
from ustack.rtnl.messages import Link
from ustack.sock import error
from ustack.wire.ethernet import is_valid_ether_addr

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ustack.device.net_device import DeviceStats, NetDevice
    from ustack.rtnl.messages import Object
    from ustack.stack import Stack

#: struct rtnl_link_stats64, as far as a device here counts.
STATS: Final = (
    "rx_packets", "tx_packets", "rx_bytes", "tx_bytes", "rx_errors", "tx_errors", "rx_dropped", "tx_dropped",
    "multicast", "rx_missed_errors", "rx_length_errors", "tx_fifo_errors",
)  # fmt: skip


class LinkHandler(Handler[Link]):
    """Devices come and go with their drivers, but for bridges; here they are changed and shown."""

    def __init__(self, stack: Stack) -> None:
        self.stack: Stack = stack

    def new(self, message: Link, flags: int) -> None:
        """Change a device (``ip link set``), or make a bridge. ENODEV, EEXIST, EINVAL, EADDRNOTAVAIL, EOPNOTSUPP."""
        dev = self._find(message)
        if dev is None:
            if flags & NLM_F_CREATE == 0:
                raise error(errno.ENODEV)
            self._newlink(message)
            return
        if flags & NLM_F_EXCL:
            raise error(errno.EEXIST)
        if flags & NLM_F_REPLACE:
            raise error(errno.EOPNOTSUPP)
        self._do_setlink(dev, message)

    def _newlink(self, message: Link) -> None:
        """rtnl_newlink_create: all of it, or nothing."""
        if message.kind != "bridge":
            raise extack(errno.EOPNOTSUPP, "Unknown device type")
        if not dev_valid_name(message.name):
            raise error(errno.EINVAL)
        if message.mac is not None and not is_valid_ether_addr(message.mac):
            raise error(errno.EADDRNOTAVAIL)
        bridge = self.stack.bridges.br_add_bridge(message.name, message.mac or 0)
        try:
            self._do_setlink(bridge, structs.replace(message, name="", mac=None))
        except OSError:
            self.stack.devices.unregister_netdevice(bridge)
            raise

    def _do_setlink(self, dev: NetDevice, message: Link) -> None:
        """In the kernel's order; what was changed before an error stays changed."""
        devices = self.stack.devices
        if message.mac is not None:
            devices.dev_set_mac_address(dev, message.mac)
        if message.mtu is not None:
            devices.dev_set_mtu(dev, signed(message.mtu))
        if message.group is not None:
            dev.group = message.group
        if message.ifindex and message.name:
            devices.dev_change_name(dev, message.name)
        if message.master is not None:
            self._do_set_master(dev, message.master)
        if message.flags or message.change:
            devices.dev_change_flags(dev, combine_flags(int(dev.flags), message.flags or 0, message.change))
        if message.carrier is not None:
            self._dev_change_carrier(dev, message.carrier)
        if message.txqlen is not None:
            devices.dev_change_tx_queue_len(dev, message.txqlen)

    def _do_set_master(self, dev: NetDevice, ifindex: int) -> None:
        """EINVAL for a master that is not there; what Bridges.set_master raises."""
        master = self.stack.devices.by_index(ifindex) if ifindex else None
        if ifindex and master is None:
            raise error(errno.EINVAL)
        self.stack.bridges.set_master(dev, master)
        self.stack.net.rtnl_notify(RTM_NEWLINK, dev)

    def _dev_change_carrier(self, dev: NetDevice, carrier: bool) -> None:
        if dev.flags & IFF_LOOPBACK:
            raise error(errno.EOPNOTSUPP)
        if carrier:
            self.stack.devices.netif_carrier_on(dev)
        else:
            self.stack.devices.netif_carrier_off(dev)

    def delete(self, message: Link) -> None:
        """ENODEV; EOPNOTSUPP for a device that is no bridge: its driver alone takes it away."""
        dev = self._find(message)
        if dev is None:
            raise error(errno.ENODEV)
        if not isinstance(dev, Bridge):
            raise error(errno.EOPNOTSUPP)
        self.stack.devices.unregister_netdevice(dev)

    def get(self, message: Link) -> list[Object]:
        dev = self._find(message)
        if dev is None:
            raise error(errno.ENODEV)
        return [self.fill(dev)]

    def dump(self, message: Link) -> Iterator[Object | None]:
        for dev in self.stack.devices.all():
            shown = self.fill(dev)
            if agrees(shown, message):
                yield shown

    def fill(self, dev: NetDevice) -> Link:
        """rtnl_fill_ifinfo, dev_get_flags."""
        up = dev.flags & IFF_UP != 0
        return Link(
            ifindex=int(dev.ifindex),
            name=dev.name,
            kind=dev.kind,
            flags=int(dev.flags) | (IFF_LOWER_UP if up and dev.carrier else 0),
            mtu=int(dev.mtu),
            txqlen=int(dev.tx_queue_len),
            mac=int(dev.mac),
            carrier=dev.carrier,
            group=int(dev.group),
            master=None if dev.master is None else int(dev.master.ifindex),
            promiscuity=int(dev.promiscuity) + (1 if dev.flags & IFF_PROMISC else 0),
            min_mtu=int(dev.min_mtu),
            max_mtu=int(dev.max_mtu),
            operstate=dev.operstate if up else "DOWN",
            qdisc="noqueue" if dev.no_queue else "pfifo",
            stats=stats64(dev.stats),
        )

    def _find(self, message: Link) -> NetDevice | None:
        devices = self.stack.devices
        if message.ifindex:
            return devices.by_index(message.ifindex)
        if not message.name:
            raise error(errno.EINVAL)
        return devices.by_name(message.name)


def stats64(stats: DeviceStats) -> dict[str, int]:
    return {name: int(getattr(stats, name)) for name in STATS}


def signed(value: int) -> int:
    """The 32 bits of an attribute as C's int, which the kernel takes an MTU for."""
    return value - (1 << 32) if value >> 31 else value


def combine_flags(flags: int, wanted: int, change: int) -> int:
    """rtnl_dev_combine_flags: ``change`` 0 means all of them."""
    return wanted & change | flags & ~change if change else wanted


def agrees(link: Link, wanted: Link) -> bool:
    """Whether a dump that asks for ``wanted`` shows ``link``."""
    return (
        wanted.ifindex in (0, link.ifindex)
        and wanted.name in ("", link.name)
        and wanted.kind in ("", link.kind)
        and wanted.group in (None, link.group)
        and wanted.master in (None, link.master or 0)
        and ((link.flags or 0) ^ (wanted.flags or 0)) & wanted.change == 0
    )
