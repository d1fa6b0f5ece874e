"""Addresses (Linux net/ipv4/devinet.c: rtm_to_ifaddr, inet_rtm_newaddr, inet_rtm_deladdr, inet_dump_ifaddr)."""

from __future__ import annotations

import errno
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Final

from ustack.device.net_device import Address
from ustack.routing.uapi import IFA_F_PERMANENT
from ustack.rtnl.handler import Handler, extack, find_device, in_prefix
from ustack.rtnl.messages import Addr
from ustack.sock import error

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ustack.device.net_device import NetDevice
    from ustack.rtnl.messages import Object
    from ustack.stack import Stack

#: Rounds of a flush: a primary that goes may make another address primary (iproute2 gives up after ten as well).
FLUSH_ROUNDS: Final = 10


class AddrHandler(Handler[Addr]):
    def __init__(self, stack: Stack) -> None:
        self.stack: Stack = stack

    def new(self, message: Addr, flags: int) -> None:
        if message.prefixlen > 32:
            raise extack(errno.EINVAL, "ipv4: Invalid prefix length")
        self.stack.routing.inet.inet_rtm_newaddr(self._device(message), to_ifaddr(message), flags)

    def delete(self, message: Addr) -> None:
        dev = self._device(message)
        peer, prefixlen = message.local if message.peer is None else message.peer, message.prefixlen
        if message.wildcard:
            peer = prefixlen = -1
        local = message.local or -1
        self.stack.routing.inet.inet_rtm_deladdr(dev, local, peer, prefixlen, message.label)

    def dump(self, message: Addr) -> Iterator[Object | None]:
        for address in self._selected(message):
            yield self.fill(address)

    def flush(self, message: Addr) -> Iterator[Object | None]:
        """A primary takes its secondaries along, unless one of them follows it (promote_secondaries)."""
        inet = self.stack.routing.inet
        for _ in range(FLUSH_ROUNDS):
            selected = self._selected(message)
            for address in selected:
                dev = device_of(address)
                if address in dev.addresses:
                    gone = self.fill(address)
                    inet.inet_del_ifa(dev, address)
                    yield gone
            if not selected:
                return

    def fill(self, address: Address) -> Addr:
        """inet_fill_ifaddr."""
        return Addr(
            ifindex=int(device_of(address).ifindex),
            local=int(address.local),
            peer=None if address.address == address.local else int(address.address),
            prefixlen=int(address.prefixlen),
            broadcast=int(address.broadcast) or None,
            label=address.label,
            scope=int(address.scope),
            flags=int(address.flags),
            metric=int(address.priority),
        )

    def _device(self, message: Addr) -> NetDevice:
        dev = self.stack.devices.by_index(message.ifindex)
        if dev is None:
            raise extack(errno.ENODEV, "ipv4: Device not found")
        return dev

    def _selected(self, message: Addr) -> list[Address]:
        devices = self.stack.devices
        wanted = [find_device(devices, message.ifindex)] if message.ifindex else devices.all()
        return [address for dev in wanted for address in dev.addresses if agrees(address, message)]


def to_ifaddr(message: Addr) -> Address:
    """rtm_to_ifaddr: every address is permanent here, lifetimes are not kept."""
    return Address(
        message.local,
        message.prefixlen,
        -1 if message.peer is None else message.peer,
        message.broadcast or 0,
        -1 if message.scope is None else message.scope,
        message.flags | IFA_F_PERMANENT,
        message.metric,
        message.label,
    )


def device_of(address: Address) -> NetDevice:
    dev = address.dev
    if dev is None:
        raise error(errno.ENODEV)
    return dev


def agrees(address: Address, message: Addr) -> bool:
    """Whether a dump that asks for ``message`` shows ``address`` (iproute2 filters so)."""
    if message.scope is not None and address.scope != message.scope:
        return False
    if (int(address.flags) ^ message.flags) & message.flags_mask:
        return False
    if message.label and not fnmatchcase(address.label, message.label):
        return False
    return message.to is None or in_prefix(int(address.local), message.to)
