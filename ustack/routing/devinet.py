"""Addresses of devices, and what kind of address a number is (Linux net/ipv4/devinet.c, fib_frontend.c).

An address brings routes: itself in the local table, its subnet in the main one, its broadcast address.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

from mypy_extensions import i64, mypyc_attr

from ustack.device.net_device import IFF_LOOPBACK, IFF_UP, Address
from ustack.dst import RTN_BROADCAST, RTN_LOCAL, RTN_MULTICAST, RTN_UNICAST
from ustack.routing.fib import RTPROT_KERNEL, Fib
from ustack.routing.flow import RT_SCOPE_HOST, RT_SCOPE_LINK, RT_SCOPE_UNIVERSE, Flow
from ustack.sock import error

if TYPE_CHECKING:
    from ustack.device.core import Devices
    from ustack.device.net_device import NetDevice

INADDR_ANY: Final[i64] = 0
INADDR_LOOPBACK: Final[i64] = 0x7F00_0001
INADDR_BROADCAST: Final[i64] = 0xFFFF_FFFF
INADDR_ALLHOSTS_GROUP: Final[i64] = 0xE000_0001

#: A limit where Linux has only memory: what scans a device's addresses stays cheap.
MAX_ADDRESSES: Final = 1024


def ipv4_is_multicast(addr: i64) -> bool:
    """224.0.0.0/4."""
    return addr >> 28 == 0xE


def ipv4_is_local_multicast(addr: i64) -> bool:
    """224.0.0.0/24: never leaves the link."""
    return addr >> 8 == 0xE00000


def ipv4_is_loopback(addr: i64) -> bool:
    """127.0.0.0/8."""
    return addr >> 24 == 127


def ipv4_is_zeronet(addr: i64) -> bool:
    """0.0.0.0/8."""
    return addr >> 24 == 0


def address_scope(addr: i64) -> i64:
    """How far an address of ours is known: 127/8 only to this host (``ip address`` sets it so)."""
    return RT_SCOPE_HOST if ipv4_is_loopback(addr) else RT_SCOPE_UNIVERSE


@mypyc_attr(allow_interpreted_subclasses=True)
class AddressWatcher:
    """Told of addresses that come and go (inetaddr_chain): ARP announces them, sockets lose their route."""

    def address_added(self, dev: NetDevice, addr: i64) -> None:
        """``addr`` is ours from now on."""

    def address_removed(self, dev: NetDevice, addr: i64) -> None:
        """It was, until now."""


class InetDevices:
    """Every device's addresses (struct in_device), kept in step with ``fib``."""

    def __init__(self, devices: Devices, fib: Fib) -> None:
        self.devices: Devices = devices
        self.fib: Fib = fib
        self.watchers: list[AddressWatcher] = []

    def inet_insert_ifa(self, dev: NetDevice, address: Address) -> None:
        """Give ``dev`` an address and the routes it brings.

        Raises EEXIST if it has it, EINVAL for what cannot be a host's, ENOBUFS beyond MAX_ADDRESSES.
        """
        local = address.local
        if ipv4_is_multicast(local) or ipv4_is_zeronet(local) or local == INADDR_BROADCAST:
            raise error(errno.EINVAL)
        if any(other.local == local and other.prefixlen == address.prefixlen for other in dev.addresses):
            raise error(errno.EEXIST)
        if len(dev.addresses) >= MAX_ADDRESSES:
            raise error(errno.ENOBUFS)
        self._add_routes(dev, address)
        dev.addresses.append(address)
        for watcher in self.watchers:
            watcher.address_added(dev, local)

    def inet_del_ifa(self, dev: NetDevice, local: i64, prefixlen: i64) -> None:
        """Take it away again, with its routes; those of the other addresses stay. Raises EADDRNOTAVAIL.

        Without its last address a device has no routes at all (fib_disable_ip). A secondary address of the same subnet
        takes the subnet over (promote_secondaries).
        """
        gone = [a for a in dev.addresses if a.local == local and a.prefixlen == prefixlen]
        if not gone:
            raise error(errno.EADDRNOTAVAIL)
        dev.addresses.remove(gone[0])
        self.fib.flush_dev(dev, RTPROT_KERNEL if dev.addresses else 0)
        kept = dev.addresses[:]
        dev.addresses.clear()
        for address in kept:
            self._add_routes(dev, address)
            dev.addresses.append(address)
        self._flush_prefsrc(local)
        for watcher in self.watchers:
            watcher.address_removed(dev, local)

    def ip_dev_find(self, addr: i64) -> NetDevice | None:
        """The device that has ``addr``; all of 127/8 is the loopback device's (__ip_dev_find)."""
        found = self.fib.local.fib_table_lookup(Flow(addr))
        return found.dev if found is not None and found.rt_type == RTN_LOCAL else None

    def inet_addr_type(self, addr: i64) -> i64:
        """RTN_LOCAL, RTN_BROADCAST, RTN_MULTICAST, or RTN_UNICAST for all that is somebody else's."""
        if ipv4_is_zeronet(addr) or addr == INADDR_BROADCAST:
            return RTN_BROADCAST
        if ipv4_is_multicast(addr):
            return RTN_MULTICAST
        found = self.fib.local.fib_table_lookup(Flow(addr))
        return RTN_UNICAST if found is None else found.rt_type

    def inet_select_addr(self, dev: NetDevice, dst: i64 = 0, scope: i64 = RT_SCOPE_UNIVERSE) -> i64:
        """A source address for ``dst`` out of ``dev``, known at least as far as ``scope``; 0 if we have none.

        The first primary address whose subnet has ``dst``, else the first; else one of any other device.
        """
        first: i64 = 0
        for address in dev.addresses:
            if address_scope(address.local) > scope or is_secondary(dev, address):
                continue
            if dst == 0 or dst & address.mask == address.network:
                return address.local
            if first == 0:
                first = address.local
        return first or self._any_addr(scope)

    def loopback(self) -> NetDevice | None:
        """The device for what we send to ourselves (net->loopback_dev)."""
        for dev in self.devices.all():
            if dev.flags & IFF_LOOPBACK != 0:
                return dev
        return None

    def _any_addr(self, scope: i64) -> i64:
        """inet_select_addr: "Not loopback addresses on loopback should be preferred in this case"."""
        for dev in self.devices.all():
            for address in dev.addresses:
                own = address_scope(address.local)
                if dev.flags & IFF_UP != 0 and own != RT_SCOPE_LINK and own <= scope:
                    return address.local
        return 0

    def _add_routes(self, dev: NetDevice, address: Address) -> None:
        primary = not any(same_subnet(other, address) for other in dev.addresses)
        broadcast = address.broadcast if address.broadcast != INADDR_BROADCAST else 0
        self.fib.add_ifaddr(dev, address.local, address.network, address.prefixlen, broadcast, primary)

    def _flush_prefsrc(self, local: i64) -> None:
        """Routes that prefer an address which is no longer ours are of no use (fib_sync_down_addr)."""
        if self.ip_dev_find(local) is not None:
            return
        for route in self.fib.main.entries():
            if route.prefsrc == local:
                self.fib.main.fib_table_delete(route)


def same_subnet(a: Address, b: Address) -> bool:
    return a.mask == b.mask and a.network == b.network


def is_secondary(dev: NetDevice, address: Address) -> bool:
    """Whether an earlier address of ``dev`` is in the same subnet (IFA_F_SECONDARY)."""
    for other in dev.addresses:
        if other is address:
            return False
        if same_subnet(other, address):
            return True
    return False
