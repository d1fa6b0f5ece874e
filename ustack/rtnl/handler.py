"""What every kind of object has in common: five verbs, and numbers that fit the kernel's fields (struct rtnl_link)."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from ustack.rtnl.messages import Message
from ustack.sock import error

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ustack.device.core import Devices
    from ustack.device.net_device import NetDevice
    from ustack.rtnl.messages import Object

M = TypeVar("M", bound=Message)

U8: Final = 0xFF
U16: Final = 0xFFFF
U32: Final = 0xFFFF_FFFF
#: What the kernel keeps in less than 32 bits, by field; a weight goes as rtnh_hops, one less.
LIMITS: Final = {
    "prefixlen": U8, "dst_len": U8, "src_len": U8, "tos": U8, "dscp": U8, "protocol": U8, "scope": U8, "rtype": U8,
    "action": U8, "ipproto": U8, "state": U16, "sport": U16, "dport": U16, "weight": 256, "mac": (1 << 48) - 1,
    "stats": (1 << 64) - 1,
}  # fmt: skip


class Handler(Generic[M]):
    """One kind of object. What it does not override is not supported."""

    def new(self, message: M, flags: int) -> None:
        """RTM_NEW*: ``flags`` are NLM_F_CREATE, EXCL, REPLACE, APPEND. Raises OSError."""
        raise error(errno.EOPNOTSUPP)

    def delete(self, message: M) -> None:
        """RTM_DEL*. Raises OSError."""
        raise error(errno.EOPNOTSUPP)

    def get(self, message: M) -> list[Object]:
        """RTM_GET* of one. Raises OSError."""
        raise error(errno.EOPNOTSUPP)

    def dump(self, message: M) -> Iterator[Object | None]:
        """RTM_GET* with NLM_F_DUMP: those that agree with ``message``, in the kernel's order.

        None now and then stands for much work without a result. Raises OSError, at the first step or later.
        """
        raise error(errno.EOPNOTSUPP)

    def flush(self, message: M) -> Iterator[Object | None]:
        """Delete what a dump would show, each as it is asked for."""
        raise error(errno.EOPNOTSUPP)

    def fill(self, what: Any) -> Object:
        """The message about something of the stack's."""
        raise NotImplementedError


def extack(code: int, text: str) -> OSError:
    """An error with the kernel's words for it (NL_SET_ERR_MSG)."""
    return OSError(code, text)


def find_device(devices: Devices, ifindex: int) -> NetDevice:
    """The device of that number. ENODEV."""
    dev = devices.by_index(ifindex)
    if dev is None:
        raise error(errno.ENODEV)
    return dev


def in_prefix(addr: int, prefix: tuple[int, int]) -> bool:
    """Whether ``addr`` lies in (address, length); anything lies in no bits."""
    start, length = prefix
    return length <= 32 and (addr ^ start) >> (32 - length) == 0


def check_range(message: Message, flags: int) -> None:
    """ERANGE for what is not ``in_range``, and for more than the 16 bits of ``flags``."""
    if not in_range(message) or not 0 <= flags <= U16:
        raise extack(errno.ERANGE, "integer out of range")


def in_range(message: Message) -> bool:
    """Whether every number fits where the kernel would keep it; what does not cannot be said in netlink at all."""
    return all(_fits(getattr(message, name), LIMITS.get(name, U32)) for name in message.__struct_fields__)


def _fits(value: object, limit: int) -> bool:
    if isinstance(value, int):
        return 0 <= value <= limit
    if isinstance(value, dict):
        return all(_fits(item, limit) for item in value.values()) and all(_fits(key, U32) for key in value)
    if isinstance(value, list | tuple):
        return all(_fits(item, limit) for item in value)
    return in_range(value) if isinstance(value, Message) else True
