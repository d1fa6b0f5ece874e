"""Who may do what with sockets: credentials, and the list of modules that are asked (Linux security/security.c).

Every hook answers an errno, 0 for "go on". The first answer that is not zero is the error (call_int_hook); the
modules after it are not asked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mypy_extensions import i64, mypyc_attr

from ustack.sock import error

if TYPE_CHECKING:
    from collections.abc import Callable

    from ustack.inet.sockaddr import SockaddrIn
    from ustack.inet.socket import Socket
    from ustack.trace.journey import Facts

# include/uapi/linux/capability.h
CAP_NET_BIND_SERVICE: Final = 10
CAP_NET_BROADCAST: Final = 11
CAP_NET_ADMIN: Final = 12
CAP_NET_RAW: Final = 13
CAP_FULL_SET: Final[i64] = (1 << 41) - 1


class Cred:
    """struct cred: who makes a socket. ``capabilities`` is a mask with bit CAP_* set."""

    def __init__(self, uid: i64 = 0, capabilities: i64 = CAP_FULL_SET) -> None:
        self.uid: i64 = uid
        self.capabilities: i64 = capabilities

    def capable(self, capability: i64) -> bool:
        """ns_capable()."""
        return (self.capabilities >> capability) & 1 != 0


#: Root, and a user with no rights at all.
ROOT: Final = Cred()
NOBODY_CRED: Final = Cred(65_534, 0)


@mypyc_attr(allow_interpreted_subclasses=True)
class SecurityModule:
    """What a module may override: the socket hooks of LSM, and the two points where a cgroup program sees a bind."""

    def socket_create(self, family: i64, sock_type: i64, protocol: i64, cred: Cred) -> i64:
        return 0

    def socket_post_create(self, sock: Socket) -> i64:
        return 0

    def socket_bind(self, sock: Socket, address: SockaddrIn) -> i64:
        return 0

    def inet4_bind(self, sock: Socket, address: SockaddrIn) -> i64:
        """Before any check of the address; may rewrite it in place (BPF_CGROUP_RUN_PROG_INET4_BIND)."""
        return 0

    def inet4_post_bind(self, sock: Socket) -> i64:
        """Once address and port are taken; a refusal gives them back (BPF_CGROUP_RUN_PROG_INET4_POST_BIND)."""
        return 0

    def socket_connect(self, sock: Socket, address: SockaddrIn) -> i64:
        return 0

    def socket_listen(self, sock: Socket, backlog: i64) -> i64:
        return 0

    def socket_accept(self, sock: Socket) -> i64:
        return 0

    def socket_sendmsg(self, sock: Socket, size: i64) -> i64:
        return 0

    def socket_recvmsg(self, sock: Socket, size: i64, flags: i64) -> i64:
        return 0

    def socket_shutdown(self, sock: Socket, how: i64) -> i64:
        return 0


class Security:
    """The modules of one stack in the order they are asked. ``active`` is False while there is none."""

    def __init__(self) -> None:
        self.modules: list[SecurityModule] = []
        self.active: bool = False
        self.facts: Facts = {"modules": "none"}  #: who is asked, for a trace; never changed in place

    def security_add_hooks(self, module: SecurityModule) -> None:
        """Ask ``module`` after those that are there."""
        self.modules.append(module)
        self._changed()

    def security_delete_hooks(self, module: SecurityModule) -> None:
        """ValueError if it was never added."""
        self.modules.remove(module)
        self._changed()

    def _changed(self) -> None:
        self.active = bool(self.modules)
        self.facts = {"modules": ", ".join([type(module).__name__ for module in self.modules]) or "none"}

    def call_int_hook(self, ask: Callable[[SecurityModule], i64]) -> None:
        """Ask one hook of every module; the first answer that is not zero is raised as an OSError."""
        for module in self.modules:
            code = ask(module)
            if code != 0:
                raise error(code)
