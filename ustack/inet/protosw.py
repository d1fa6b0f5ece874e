"""Which protocol answers socket(AF_INET, type, protocol) (Linux struct inet_protosw, inetsw in net/ipv4/af_inet.c)."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

from mypy_extensions import i64, mypyc_attr

from ustack.inet.family import SOCK_MAX
from ustack.sock import error

if TYPE_CHECKING:
    from ustack.inet.socket import ProtoOps
    from ustack.sock import Sock

#: Also the wildcard: in an entry it matches every protocol, in a request it takes the type's default.
IPPROTO_IP: Final = 0
IPPROTO_ICMP: Final = 1
IPPROTO_TCP: Final = 6
IPPROTO_UDP: Final = 17
IPPROTO_RAW: Final = 255
#: One past the largest number, which is MPTCP's 262.
IPPROTO_MAX: Final = 263

# flags of an entry (include/net/protocol.h)
INET_PROTOSW_REUSE: Final = 0x1  #: its addresses may be bound again at once, as if SO_REUSEADDR were set
INET_PROTOSW_PERMANENT: Final = 0x2  #: cannot be removed or overridden
INET_PROTOSW_ICSK: Final = 0x4  #: connection oriented


@mypyc_attr(allow_interpreted_subclasses=True)
class Proto:
    """The part of struct proto that makes sockets; everything else is a method of Sock."""

    def new_sock(self, protocol: i64) -> Sock:
        """A fresh socket for ``protocol``. Raises what the protocol's own rules refuse (EACCES)."""
        raise NotImplementedError


class InetProtosw:
    """One entry: which protocol and which operations serve (``sock_type``, ``protocol``)."""

    def __init__(self, sock_type: i64, protocol: i64, prot: Proto, ops: ProtoOps, flags: i64 = 0) -> None:
        self.sock_type: i64 = sock_type
        self.protocol: i64 = protocol
        self.prot: Proto = prot
        self.ops: ProtoOps = ops
        self.flags: i64 = flags


class Inetsw:
    """The table of one stack: a list per socket type, permanent entries first."""

    def __init__(self) -> None:
        self._by_type: list[list[InetProtosw]] = [[] for _ in range(SOCK_MAX)]

    def inet_register_protosw(self, entry: InetProtosw) -> None:
        """Add an entry behind the permanent ones and before the others, so that the newest wins.

        EINVAL for a type that cannot be, EPERM for what would hide a permanent entry (Linux logs both).
        """
        if not 0 <= entry.sock_type < SOCK_MAX:
            raise error(errno.EINVAL)
        entries = self._by_type[entry.sock_type]
        at = 0
        for there in entries:
            if there.flags & INET_PROTOSW_PERMANENT == 0:
                break
            if there.protocol == entry.protocol:
                raise error(errno.EPERM)
            at += 1
        entries.insert(at, entry)

    def inet_unregister_protosw(self, entry: InetProtosw) -> None:
        """Remove an entry; EPERM for a permanent one, ValueError if it is not there."""
        if entry.flags & INET_PROTOSW_PERMANENT:
            raise error(errno.EPERM)
        self._by_type[entry.sock_type].remove(entry)

    def lookup(self, sock_type: i64, protocol: i64) -> InetProtosw:
        """The entry for a request (the search of inet_create).

        Raises ESOCKTNOSUPPORT for a type without entries, EPROTONOSUPPORT for a protocol none of them takes. Wildcard
        against wildcard is no match: socket(AF_INET, SOCK_RAW, 0) is EPROTONOSUPPORT.
        """
        entries = self._by_type[sock_type]
        if not entries:
            raise error(errno.ESOCKTNOSUPPORT)
        for entry in entries:
            if protocol == entry.protocol:
                if protocol != IPPROTO_IP:
                    return entry
            elif protocol == IPPROTO_IP or entry.protocol == IPPROTO_IP:
                return entry
        raise error(errno.EPROTONOSUPPORT)
