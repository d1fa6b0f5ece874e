"""Next-hop objects (Linux net/ipv4/nexthop.c: rtm_new_nexthop, rtm_del_nexthop, rtm_get_nexthop, nh_fill_node)."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from ustack.routing.nexthop import NexthopObjConfig
from ustack.rtnl.handler import Handler, extack
from ustack.rtnl.messages import Nexthop
from ustack.sock import error

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ustack.routing.nexthop import Nexthop as NexthopObj
    from ustack.routing.nexthop import NexthopTable
    from ustack.rtnl.messages import Object
    from ustack.stack import Stack


class NexthopHandler(Handler[Nexthop]):
    def __init__(self, stack: Stack) -> None:
        self.stack: Stack = stack

    def new(self, message: Nexthop, flags: int) -> None:
        """As NexthopTable.rtm_newnexthop."""
        if message.scope:
            raise extack(errno.EINVAL, "Invalid values in ancillary header")
        if message.group and names_a_hop(message):  # what has one has its address family
            raise extack(errno.EINVAL, "Invalid family for group")
        cfg = NexthopObjConfig(message.id, message.gateway, message.ifindex)
        cfg.blackhole = message.blackhole
        cfg.group = message.group or None
        cfg.protocol, cfg.flags, cfg.nlflags = message.protocol, message.flags, flags
        self._table().rtm_newnexthop(cfg)

    def delete(self, message: Nexthop) -> None:
        """EINVAL, ENOENT. Its routes go with it."""
        check_question(message)
        self._table().rtm_delnexthop(message.id)

    def get(self, message: Nexthop) -> list[Object]:
        check_question(message)
        nexthop = self._table().get(message.id)
        if nexthop is None:
            raise error(errno.ENOENT)
        return [self.fill(nexthop)]

    def dump(self, message: Nexthop) -> Iterator[Object | None]:
        for nexthop in self._table().dump():
            shown = self.fill(nexthop)
            yield shown if agrees(shown, message) else None

    def flush(self, message: Nexthop) -> Iterator[Object | None]:
        """One that has gone with another of them is not told of."""
        table = self._table()
        for nexthop in table.dump():
            shown = self.fill(nexthop)
            if agrees(shown, message) and table.get(shown.id) is nexthop:
                table.rtm_delnexthop(shown.id)
                yield shown
            else:
                yield None

    def fill(self, nexthop: NexthopObj) -> Nexthop:
        """nh_fill_node."""
        shown = Nexthop(id=int(nexthop.id), protocol=int(nexthop.protocol), flags=int(nexthop.flags))
        nh = nexthop.nh
        if nh is None:
            shown.group = [(int(entry.nexthop.id), int(entry.weight)) for entry in nexthop.group]
            return shown
        if nexthop.blackhole:
            shown.blackhole = True
        else:
            shown.scope, shown.ifindex, shown.gateway = int(nh.scope), int(nh.oif), int(nh.gateway)
        return shown

    def _table(self) -> NexthopTable:
        return self.stack.routing.fib.semantics.nexthops


def names_a_hop(message: Nexthop) -> bool:
    return bool(message.gateway or message.ifindex or message.blackhole)


def check_question(message: Nexthop) -> None:
    """nh_valid_get_del_req: nothing but a number."""
    if message.group or names_a_hop(message):
        raise extack(errno.EINVAL, "Unknown attribute type")
    if message.protocol or message.scope or message.flags:
        raise extack(errno.EINVAL, "Invalid values in header")
    if message.id == 0:
        raise extack(errno.EINVAL, "Nexthop id is missing")


def agrees(nexthop: Nexthop, wanted: Nexthop) -> bool:
    """Whether a dump that asks for ``wanted`` shows ``nexthop``; the members of a group are no devices of it."""
    return (
        wanted.id in (0, nexthop.id)
        and wanted.ifindex in (0, nexthop.ifindex)
        and wanted.protocol in (0, nexthop.protocol)
        and (not wanted.groups or bool(nexthop.group))
    )
