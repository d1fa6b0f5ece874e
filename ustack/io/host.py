"""The kernel's side: links, addresses, routes and network namespaces, through pyroute2 (rtnetlink).

Everything acts on the namespace that the calling thread is in. Failures are OSErrors with Linux's errno and the name
of the thing that was asked for.
"""

from __future__ import annotations

import ctypes
import errno
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from pyroute2 import IPRoute, NetlinkError, netns

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

CLONE_NEWUSER: Final = 0x1000_0000
CLONE_NEWNET: Final = 0x4000_0000
OWN_NAMESPACE: Final = "/proc/thread-self/ns/net"


class Namespace:
    """A network namespace, held by a descriptor; as a context manager it is where the calling thread is meanwhile.

    One without a name is gone with everything in it once nobody is in it and nobody holds it, however its maker
    ended. Devices, sockets and child processes stay in the namespace that they were made in:

        with Namespace.create() as namespace, namespace:
            tap = Tap("tap0")
            subprocess.run(["ping", ...])
    """

    def __init__(self, fd: int) -> None:
        """``fd``: a descriptor of a namespace file, which ``close`` closes."""
        self.fd = fd
        self._before: list[int] = []

    @classmethod
    def create(cls) -> Namespace:
        """A new one, empty but for its loopback device, which is down. Raises OSError EPERM without the right."""
        before = os.open(OWN_NAMESPACE, os.O_RDONLY | os.O_CLOEXEC)
        try:
            libc_call("unshare", CLONE_NEWNET)
            try:
                return cls(os.open(OWN_NAMESPACE, os.O_RDONLY | os.O_CLOEXEC))
            finally:
                libc_call("setns", before, CLONE_NEWNET)
        finally:
            os.close(before)

    @classmethod
    def named(cls, name: str) -> Namespace:
        """The one that ``ip netns`` lists under ``name``. Raises OSError ENOENT."""
        return cls(os.open(f"{netns.NETNS_RUN_DIR}/{name}", os.O_RDONLY | os.O_CLOEXEC))

    def __enter__(self) -> Namespace:
        before = os.open(OWN_NAMESPACE, os.O_RDONLY | os.O_CLOEXEC)
        libc_call("setns", self.fd, CLONE_NEWNET)
        self._before.append(before)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        before = self._before.pop()
        try:
            libc_call("setns", before, CLONE_NEWNET)
        finally:
            os.close(before)

    def close(self) -> None:
        """Let go of it; closing twice does nothing."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def create_namespace(name: str) -> None:
    """``ip netns add``. Raises OSError EEXIST, EPERM."""
    netns.create(name)


def delete_namespace(name: str) -> None:
    """``ip netns delete``. Raises OSError ENOENT, EPERM."""
    netns.remove(name)


def private_network() -> None:
    """Move this process, which must have one thread only, into a network namespace of its own where it is root.

    An ordinary user gets a user namespace around it, with their own id as root's. Raises OSError EPERM, ENOSPC where
    the system does not allow that.
    """
    uid, gid = os.geteuid(), os.getegid()
    if uid == 0:
        libc_call("unshare", CLONE_NEWNET)
        return
    libc_call("unshare", CLONE_NEWUSER | CLONE_NEWNET)
    write_text("/proc/self/setgroups", "deny")  # or the kernel refuses the next line (user_namespaces(7))
    write_text("/proc/self/gid_map", f"0 {gid} 1")
    write_text("/proc/self/uid_map", f"0 {uid} 1")


def write_sysctl(name: str, value: str) -> None:
    """``sysctl -w`` for net.* of the namespace that this thread is in. Raises OSError ENOENT, EACCES, EINVAL."""
    write_text("/proc/sys/" + name.replace(".", "/"), value)


def write_text(path: str, text: str) -> None:
    with open(path, "w") as file:
        file.write(text)


def libc_call(function: str, *arguments: int) -> None:
    """unshare(2) or setns(2), which the standard library has from 3.12 on only. Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, function)(*arguments) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), function)


class Host:
    """``ip link``, ``ip address`` and ``ip route`` of one namespace: the one the thread is in when this is made."""

    def __init__(self) -> None:
        self._ip: Any = IPRoute()  # pyroute2 has no types

    def __enter__(self) -> Host:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._ip.close()

    # -- ip link

    def has_link(self, name: str) -> bool:
        return bool(self._ip.link_lookup(ifname=name))

    def set_link(
        self,
        name: str,
        *,
        up: bool | None = None,
        mtu: int | None = None,
        mac: str | None = None,
        txqueuelen: int | None = None,
    ) -> None:
        """Change what is given, ``mtu`` in bytes, ``txqueuelen`` in frames. Raises ENODEV, EINVAL, EPERM, …"""
        wanted: dict[str, object] = {"mtu": mtu, "address": mac, "txqlen": txqueuelen}
        if up is not None:
            wanted["state"] = "up" if up else "down"
        with errors_about(name):
            changes = {key: value for key, value in wanted.items() if value is not None}
            self._ip.link("set", index=self._index(name), **changes)

    def move_link(self, name: str, namespace: Namespace) -> None:
        """To another namespace: there it is down and without addresses. Raises ENODEV, EEXIST."""
        with errors_about(name):
            self._ip.link("set", index=self._index(name), net_ns_fd=namespace.fd)

    def delete_link(self, name: str) -> None:
        """Raises ENODEV."""
        with errors_about(name):
            self._ip.link("del", index=self._index(name))

    def link(self, name: str) -> dict[str, Any]:
        """MAC address, MTU, state and counters, under rtnetlink's names in lower case. Raises ENODEV."""
        with errors_about(name):
            reply = self._ip.link("get", index=self._index(name))[0]
        stats: Any = reply.get_attr("IFLA_STATS64")
        return {
            "name": name,
            "index": reply["index"],
            "address": reply.get_attr("IFLA_ADDRESS"),
            "mtu": reply.get_attr("IFLA_MTU"),
            "txqlen": reply.get_attr("IFLA_TXQLEN"),
            "operstate": reply.get_attr("IFLA_OPERSTATE"),
            "stats": {key: stats[key] for key in stats if isinstance(stats[key], int)},
        }

    # -- ip address

    def add_address(self, name: str, cidr: str) -> None:
        """``cidr``: "192.0.2.1/24". Raises ENODEV, EEXIST, EINVAL."""
        self._address("add", name, cidr)

    def delete_address(self, name: str, cidr: str) -> None:
        """Raises ENODEV, EADDRNOTAVAIL."""
        self._address("del", name, cidr)

    def addresses(self, name: str) -> list[str]:
        """The IPv4 addresses of a link, each as "192.0.2.1/24". Raises ENODEV."""
        with errors_about(name):
            replies = self._ip.get_addr(family=2, index=self._index(name))
            return [f"{reply.get_attr('IFA_LOCAL')}/{reply['prefixlen']}" for reply in replies]

    def _address(self, command: str, name: str, cidr: str) -> None:
        address, _, length = cidr.partition("/")
        with errors_about(f"{cidr} on {name}"):
            self._ip.addr(command, index=self._index(name), address=address, prefixlen=int(length or 32))

    # -- ip route

    def add_route(self, network: str, *, gateway: str | None = None, dev: str | None = None) -> None:
        """``network``: "198.51.100.0/24" or "default". Raises ENETUNREACH, EEXIST, ENODEV, EINVAL."""
        self._route("add", network, gateway, dev)

    def delete_route(self, network: str, *, gateway: str | None = None, dev: str | None = None) -> None:
        """Raises ESRCH where there is no such route."""
        self._route("del", network, gateway, dev)

    def add_blackhole(self, network: str) -> None:
        """What comes for ``network`` ends here without a word. Raises EEXIST, EINVAL."""
        with errors_about(network):
            self._ip.route("add", dst=network, type="blackhole")

    def _route(self, command: str, network: str, gateway: str | None, dev: str | None) -> None:
        with errors_about(network):
            wanted: dict[str, object] = {"dst": network}
            if gateway is not None:
                wanted["gateway"] = gateway
            if dev is not None:
                wanted["oif"] = self._index(dev)
            self._ip.route(command, **wanted)

    # -- ip neighbour

    def add_neighbour(self, name: str, address: str, mac: str) -> None:
        """A permanent entry. Raises ENODEV, EEXIST, EINVAL."""
        with errors_about(f"{address} on {name}"):
            self._ip.neigh("add", dst=address, lladdr=mac, ifindex=self._index(name), state="permanent")

    def _index(self, name: str) -> int:
        found: list[int] = self._ip.link_lookup(ifname=name)
        if not found:
            raise NetlinkError(errno.ENODEV)
        return found[0]


@contextmanager
def errors_about(name: str) -> Iterator[None]:
    """Turns pyroute2's exceptions into OSErrors about ``name``."""
    try:
        yield
    except NetlinkError as failure:
        raise OSError(failure.code, os.strerror(failure.code), name) from None
    except (OSError, ValueError) as failure:
        # what pyroute2 cannot put into a message: an address that is none
        code = (isinstance(failure, OSError) and failure.errno) or errno.EINVAL
        raise OSError(code, os.strerror(code), name) from failure
