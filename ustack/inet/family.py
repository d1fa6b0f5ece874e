"""Protocol families: who makes sockets of a family (Linux net/socket.c, net_families)."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

from mypy_extensions import i64, mypyc_attr

from ustack.sock import error

if TYPE_CHECKING:
    from ustack.inet.security import Cred, Security
    from ustack.inet.socket import Socket

# include/linux/net.h, include/linux/socket.h
SOCK_STREAM: Final = 1
SOCK_DGRAM: Final = 2
SOCK_RAW: Final = 3
SOCK_RDM: Final = 4
SOCK_SEQPACKET: Final = 5
SOCK_DCCP: Final = 6
SOCK_PACKET: Final = 10
SOCK_MAX: Final = 11
SOCK_TYPE_MASK: Final = 0xF
SOCK_NONBLOCK: Final = 0o4000
SOCK_CLOEXEC: Final = 0o2000000
NPROTO: Final = 46


@mypyc_attr(allow_interpreted_subclasses=True)
class NetProtoFamily:
    """struct net_proto_family: subclass it and register an instance."""

    def __init__(self, family: i64) -> None:
        self.family: i64 = family

    def create(self, sock_type: i64, protocol: i64, cred: Cred) -> Socket:
        """A new socket. Raises ESOCKTNOSUPPORT, EPROTONOSUPPORT, EPERM, EINVAL."""
        raise error(errno.ESOCKTNOSUPPORT)


class Families:
    """The families of one stack, at most NPROTO."""

    def __init__(self, security: Security) -> None:
        self.security: Security = security
        self.net_families: dict[i64, NetProtoFamily] = {}

    def sock_register(self, ops: NetProtoFamily) -> None:
        """ENOBUFS for a number that cannot be, EEXIST for one that is taken."""
        if not 0 <= ops.family < NPROTO:
            raise error(errno.ENOBUFS)
        if ops.family in self.net_families:
            raise error(errno.EEXIST)
        self.net_families[ops.family] = ops

    def sock_unregister(self, family: i64) -> None:
        """No new sockets of ``family``; those that are there stay. Not an error if it was not registered."""
        self.net_families.pop(family, None)

    def sock_create(self, family: i64, sock_type: i64, protocol: i64, cred: Cred) -> Socket:
        """socket(2) with SOCK_NONBLOCK and SOCK_CLOEXEC in ``sock_type`` (__sys_socket and __sock_create).

        Raises EINVAL for unknown flags, EAFNOSUPPORT, a security module's errno, and what the family raises.
        """
        flags = sock_type & ~SOCK_TYPE_MASK
        if flags & ~(SOCK_CLOEXEC | SOCK_NONBLOCK):
            raise error(errno.EINVAL)
        sock = self._create(family, sock_type & SOCK_TYPE_MASK, protocol, cred)
        sock.flags = flags
        return sock

    def _create(self, family: i64, sock_type: i64, protocol: i64, cred: Cred) -> Socket:
        if not 0 <= family < NPROTO:
            raise error(errno.EAFNOSUPPORT)
        if sock_type >= SOCK_MAX:
            raise error(errno.EINVAL)
        # a module is asked before anybody looks whether the family exists, as in __sock_create
        self.security.call_int_hook(lambda module: module.socket_create(family, sock_type, protocol, cred))
        ops = self.net_families.get(family)
        if ops is None:
            raise error(errno.EAFNOSUPPORT)
        sock = ops.create(sock_type, protocol, cred)
        try:
            self.security.call_int_hook(lambda module: module.socket_post_create(sock))
        except OSError:
            sock.close()
            raise
        return sock
