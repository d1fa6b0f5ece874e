"""Addresses of devices, and the choice among them as source (Linux net/ipv4/devinet.c).

A device's addresses stand in a list: primary ones first, those known farther behind those known nearer, then the
secondary ones, which share a primary's subnet and go with it.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

from mypy_extensions import i64, mypyc_attr

from ustack.device.core import (
    NETDEV_CHANGENAME,
    NETDEV_DOWN,
    NETDEV_REGISTER,
    NETDEV_UNREGISTER,
    NETDEV_UP,
    NetdevNotifier,
)
from ustack.device.net_device import IFF_LOOPBACK, IFF_UP, IFNAMSIZ, Address
from ustack.net import RTM_DELADDR, RTM_NEWADDR
from ustack.routing.fib_types import FibResult, SourceSelector
from ustack.routing.flow import RT_SCOPE_HOST, RT_SCOPE_LINK, RT_SCOPE_UNIVERSE, Flow
from ustack.routing.uapi import IFA_F_SECONDARY, NLM_F_EXCL, NLM_F_REPLACE
from ustack.sock import error

if TYPE_CHECKING:
    from ustack.device.core import Devices
    from ustack.device.net_device import NetDevice
    from ustack.net import Net
    from ustack.routing.fib_frontend import Fib

INADDR_ANY: Final[i64] = 0
INADDR_LOOPBACK: Final[i64] = 0x7F00_0001
INADDR_BROADCAST: Final[i64] = 0xFFFF_FFFF
INADDR_ALLHOSTS_GROUP: Final[i64] = 0xE000_0001

#: A limit where Linux has only memory: what scans a device's addresses stays cheap.
MAX_ADDRESSES: Final = 1024

#: Flags that mean something for IPv6 alone (IPV6ONLY_FLAGS): NODAD, OPTIMISTIC, DADFAILED and so on.
_IPV6ONLY_FLAGS: Final = 0x95E


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
    """0.0.0.0 alone: the rest of 0/8 is as good as any other since Linux 5.3."""
    return addr == 0


def ip_check_mc(dev: NetDevice, group: i64) -> bool:
    """Whether ``dev`` listens to ``group`` (ip_check_mc_rcu); RFC 1112 section 4: all hosts, while it is up."""
    return group == INADDR_ALLHOSTS_GROUP and dev.flags & IFF_UP != 0


@mypyc_attr(allow_interpreted_subclasses=True)
class AddressWatcher:
    """Told of addresses that come and go (inetaddr_chain), after the routes: ARP announces, sockets lose their way."""

    def address_added(self, dev: NetDevice, addr: i64) -> None:
        """``addr`` is ours from now on, or has become a primary one."""

    def address_removed(self, dev: NetDevice, addr: i64) -> None:
        """It was, until now."""


class InetDevices(NetdevNotifier):
    """Every device's addresses (struct in_device), with ``fib`` kept in step."""

    def __init__(self, net: Net, devices: Devices, fib: Fib) -> None:
        """Registers for what happens to devices, and ``fib`` behind itself."""
        self.net: Net = net
        self.devices: Devices = devices
        self.fib: Fib = fib
        self.watchers: list[AddressWatcher] = []
        self.loopback_dev: NetDevice | None = None  #: net->loopback_dev
        self._inet_addr_lst: dict[int, list[Address]] = {}  # our addresses by their number, the newest first
        self._res = FibResult()
        devices.register_netdevice_notifier(self)
        devices.register_netdevice_notifier(fib.netdev_notifier)
        for dev in devices.all():
            self.netdev_event(NETDEV_REGISTER, dev)
        fib.semantics.source_selector = _SourceSelector(self)

    # -- as asked for by rtnetlink

    def inet_rtm_newaddr(self, dev: NetDevice, ifa: Address, nlflags: i64 = 0) -> None:
        """Give ``dev`` an address, or with NLM_F_REPLACE another metric to the one it has.

        Raises what inet_insert_ifa does, and EEXIST for one that is there without NLM_F_REPLACE. The address 0 is
        taken and forgotten, as the kernel does.
        """
        if not 0 <= ifa.prefixlen <= 32:
            raise OSError(errno.EINVAL, "ipv4: Invalid prefix length")
        if ifa.local == 0:
            return
        for other in dev.addresses:
            if same_subnet(other, ifa) and other.local == ifa.local:
                self._change(other, ifa.priority, nlflags)
                return
        self.inet_insert_ifa(dev, ifa)

    def inet_rtm_deladdr(
        self, dev: NetDevice, local: i64 = -1, address: i64 = -1, prefixlen: i64 = -1, label: str = ""
    ) -> None:
        """Take away the first address that has what is given; ``address`` (in its subnet) and ``prefixlen`` go
        together. EADDRNOTAVAIL if none has."""
        for ifa in dev.addresses:
            if local >= 0 and ifa.local != local:
                continue
            if label and ifa.label != label:
                continue
            if address >= 0 and (prefixlen != ifa.prefixlen or not ifa.matches(address)):
                continue
            self.inet_del_ifa(dev, ifa)
            return
        raise OSError(errno.EADDRNOTAVAIL, "ipv4: Address not found")

    def _change(self, ifa: Address, priority: i64, nlflags: i64) -> None:
        if nlflags & NLM_F_EXCL != 0 or nlflags & NLM_F_REPLACE == 0:
            raise OSError(errno.EEXIST, "ipv4: Address already assigned")
        if ifa.priority != priority:
            self.fib.fib_modify_prefix_metric(ifa, priority)
            ifa.priority = priority
        self.net.rtnl_notify(RTM_NEWADDR, ifa)

    # -- the lists

    def inet_insert_ifa(self, dev: NetDevice, ifa: Address) -> None:
        """Give ``dev`` an address and the routes it brings.

        Raises EEXIST if it has it, EINVAL if its subnet is there with another scope, ENOBUFS beyond MAX_ADDRESSES.
        """
        ifa.flags &= ~(IFA_F_SECONDARY | _IPV6ONLY_FLAGS)
        last_primary = 0
        for at, other in enumerate(dev.addresses):
            if not is_secondary(other) and ifa.scope <= other.scope:
                last_primary = at + 1
            if not same_subnet(other, ifa):
                continue
            if other.local == ifa.local:
                raise error(errno.EEXIST)
            if other.scope != ifa.scope:
                raise OSError(errno.EINVAL, "ipv4: Invalid scope value")
            ifa.flags |= IFA_F_SECONDARY
        if len(dev.addresses) >= MAX_ADDRESSES:
            raise error(errno.ENOBUFS)
        ifa.dev = dev
        ifa.label = ifa.label or dev.name
        dev.addresses.insert(len(dev.addresses) if is_secondary(ifa) else last_primary, ifa)
        self._inet_addr_lst.setdefault(ifa.local, []).insert(0, ifa)
        self._has_come(dev, ifa)

    def inet_del_ifa(self, dev: NetDevice, ifa: Address) -> None:
        """Take ``ifa``, one of ``dev.addresses``, away again with its routes.

        The secondary ones of its subnet go first, unless promote_secondaries says that the first of them takes over.
        """
        at = dev.addresses.index(ifa)
        heirs: list[Address] = []
        if not is_secondary(ifa) and not dev.in_dev.dead:
            heirs = [other for other in dev.addresses[at + 1 :] if is_secondary(other) and same_subnet(other, ifa)]
            if not dev.in_dev.promote_secondaries():
                for other in heirs:
                    self._unlink(dev, other)
                    self._has_gone(dev, other)
                heirs = []
        # what the heirs prefer as source changes: their routes go silently and come again
        for other in heirs:
            self.fib.fib_del_ifaddr(other, ifa)
        self._unlink(dev, ifa)
        self._has_gone(dev, ifa)
        if heirs:
            self._promote(dev, ifa, at, heirs)

    def _promote(self, dev: NetDevice, gone: Address, at: int, heirs: list[Address]) -> None:
        """The first heir becomes primary, in the place a new primary one would get."""
        promote = heirs[0]
        for place in range(at, dev.addresses.index(promote)):
            other = dev.addresses[place]
            if not is_secondary(other) and gone.scope <= other.scope:
                at = place + 1
        dev.addresses.remove(promote)
        dev.addresses.insert(at, promote)
        promote.flags &= ~IFA_F_SECONDARY
        self._has_come(dev, promote)
        for other in heirs[1:]:
            self.fib.fib_add_ifaddr(other)

    def _unlink(self, dev: NetDevice, ifa: Address) -> None:
        dev.addresses.remove(ifa)
        same = self._inet_addr_lst[ifa.local]
        same.remove(ifa)
        if not same:
            del self._inet_addr_lst[ifa.local]

    def _has_come(self, dev: NetDevice, ifa: Address) -> None:
        """The message first, then the routes, then whoever watches (blocking_notifier_call_chain)."""
        self.net.rtnl_notify(RTM_NEWADDR, ifa)
        self.fib.fib_inetaddr_event(NETDEV_UP, ifa)
        for watcher in self.watchers:
            watcher.address_added(dev, ifa.local)

    def _has_gone(self, dev: NetDevice, ifa: Address) -> None:
        self.net.rtnl_notify(RTM_DELADDR, ifa)
        self.fib.fib_inetaddr_event(NETDEV_DOWN, ifa)
        for watcher in self.watchers:
            watcher.address_removed(dev, ifa.local)

    # -- questions

    def inet_lookup_ifaddr(self, addr: i64) -> Address | None:
        """The address of ours that is ``addr``, of several the newest; None if it is nobody's here."""
        same = self._inet_addr_lst.get(addr)
        return None if same is None else same[0]

    def ip_dev_find(self, addr: i64) -> NetDevice | None:
        """The device that has ``addr``; all of 127/8 is the loopback device's (__ip_dev_find)."""
        ifa = self.inet_lookup_ifaddr(addr)
        return ifa.dev if ifa is not None else self.fib.local_dev(addr)

    def inet_addr_type(self, addr: i64) -> i64:
        """RTN_LOCAL, RTN_BROADCAST, RTN_MULTICAST, or RTN_UNICAST for all that is somebody else's."""
        return self.fib.inet_addr_type(addr)

    def inet_addr_onlink(self, dev: NetDevice, a: i64, b: i64 = 0) -> bool:
        """Whether one subnet of ``dev`` has ``a``, and ``b`` too unless it is 0."""
        for ifa in dev.addresses:
            if ifa.matches(a) and (b == 0 or ifa.matches(b)):
                return True
        return False

    def inet_select_addr(self, dev: NetDevice, dst: i64 = 0, scope: i64 = RT_SCOPE_UNIVERSE) -> i64:
        """A source address for ``dst`` out of ``dev``, known at least as far as ``scope``; 0 if we have none.

        The first primary one whose subnet has ``dst``, else the first; else one of any other device, RFC 1122 3.3.4.3.
        """
        # with route_localnet an address of scope host may be seen on the link
        localnet_scope: i64 = RT_SCOPE_LINK if dev.in_dev.route_localnet() else RT_SCOPE_HOST
        first: i64 = 0
        for ifa in dev.addresses:
            if is_secondary(ifa) or min(ifa.scope, localnet_scope) > scope:
                continue
            if dst == 0 or ifa.matches(dst):
                return ifa.local
            if first == 0:
                first = ifa.local
        return first if first != 0 else self._any_addr(scope)

    def _any_addr(self, scope: i64) -> i64:
        """ "Not loopback addresses on loopback should be preferred in this case": lo is the first device."""
        for dev in self.devices.all():
            for ifa in dev.addresses:
                if not is_secondary(ifa) and ifa.scope != RT_SCOPE_LINK and ifa.scope <= scope:
                    return ifa.local
        return 0

    def inet_confirm_addr(self, dev: NetDevice | None, dst: i64, local: i64, scope: i64) -> i64:
        """An address that is ``local`` (0: any), beside ``dst`` in a subnet of ours (0: no matter), known as far as
        ``scope``, on ``dev`` (None: on any). 0 if there is none."""
        for where in self.devices.all() if dev is None else [dev]:
            addr = _confirm_addr_indev(where, dst, local, scope)
            if addr != 0:
                return addr
        return 0

    def fib_compute_spec_dst(self, dev: NetDevice, saddr: i64, tos: i64 = 0, mark: i64 = 0) -> i64:
        """RFC 1122's specific-destination address of a broadcast or group's datagram from ``saddr`` that came in on
        ``dev``: the address we would answer from."""
        scope: i64 = RT_SCOPE_UNIVERSE
        if ipv4_is_zeronet(saddr):
            scope = RT_SCOPE_LINK
        else:
            iif = 0 if self.loopback_dev is None else self.loopback_dev.ifindex
            flow = Flow(saddr, tos=tos, iif=iif, mark=mark if dev.in_dev.src_vmark() else 0)
            if self.fib.fib_lookup(flow, self._res) == 0:
                return self.fib.semantics.fib_result_prefsrc(self._res)
        return self.inet_select_addr(dev, saddr, scope)

    def loopback(self) -> NetDevice | None:
        """The device for what we send to ourselves."""
        return self.loopback_dev

    # -- devices

    def netdev_event(self, event: i64, dev: NetDevice) -> None:
        """inetdev_event. The addresses of a device that is down stay; of one that goes they go with it."""
        if event == NETDEV_REGISTER:
            if self.loopback_dev is None and dev.flags & IFF_LOOPBACK != 0:
                self.loopback_dev = dev
        elif event == NETDEV_UP:
            if dev.flags & IFF_LOOPBACK != 0:
                self._insert_loopback(dev)
        elif event == NETDEV_UNREGISTER:
            dev.in_dev.dead = True
            while dev.addresses:
                self.inet_del_ifa(dev, dev.addresses[0])
            if dev is self.loopback_dev:
                self.loopback_dev = None
        elif event == NETDEV_CHANGENAME:
            self._inetdev_changename(dev)

    def _insert_loopback(self, dev: NetDevice) -> None:
        """A loopback device that comes up gets 127.0.0.1/8, if it has not got it still."""
        try:
            self.inet_insert_ifa(dev, Address(INADDR_LOOPBACK, 8))
        except OSError:
            pass

    def _inetdev_changename(self, dev: NetDevice) -> None:
        """Labels begin with their device's name, and keep what follows the colon."""
        for named, ifa in enumerate(dev.addresses):
            label = dev.name
            if named > 0:
                colon = ifa.label.find(":")
                suffix = ifa.label[colon:] if colon >= 0 else f":{named + 1}"
                label = dev.name[: IFNAMSIZ - 1 - len(suffix)] + suffix
            ifa.label = label
            self.net.rtnl_notify(RTM_NEWADDR, ifa)


class _SourceSelector(SourceSelector):
    """How next hops, which lie below the addresses, choose among them."""

    def __init__(self, inet: InetDevices) -> None:
        self.inet: InetDevices = inet

    def inet_select_addr(self, dev: NetDevice, dst: i64, scope: i64) -> i64:
        return self.inet.inet_select_addr(dev, dst, scope)

    def dev_addr_genid(self) -> i64:
        return self.inet.fib.dev_addr_genid


def is_secondary(ifa: Address) -> bool:
    """Whether an earlier address of its device has the same subnet (IFA_F_SECONDARY)."""
    return ifa.flags & IFA_F_SECONDARY != 0


def same_subnet(a: Address, b: Address) -> bool:
    """Whether theirs is one subnet, of the same length."""
    return a.mask == b.mask and a.matches(b.address)


def _confirm_addr_indev(dev: NetDevice, dst: i64, local: i64, scope: i64) -> i64:
    """confirm_addr_indev: an address that fits ``local`` and ``scope``, and a subnet that has ``local`` and ``dst``."""
    localnet_scope: i64 = RT_SCOPE_LINK if dev.in_dev.route_localnet() else RT_SCOPE_HOST
    addr: i64 = 0
    same = False
    for ifa in dev.addresses:
        usable = min(ifa.scope, localnet_scope) <= scope
        if addr == 0 and usable and local in (0, ifa.local):
            addr = ifa.local
            if same:
                break
        if same:
            continue
        same = (local == 0 or ifa.matches(local)) and (dst == 0 or ifa.matches(dst))
        if not same or addr == 0:
            continue
        if local != 0 or dst == 0 or ifa.matches(addr):
            break
        # the address lies in another subnet than ``dst``: better one of this subnet
        if usable:
            addr = ifa.local
            break
        same = False
    return addr if same else 0
