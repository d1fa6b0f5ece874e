"""Requests in, answers out (Linux net/core/rtnetlink.c: rtnetlink_rcv_msg, rtnl_notify).

    rtnetlink = Rtnetlink(stack)
    rtnetlink.request(Rtm("new", Addr(ifindex=2, local=0xC0000201, prefixlen=24), NLM_F_CREATE | NLM_F_EXCL))

Every request has an answer, and a refusal is one: Nack with the kernel's errno, and its words where it has any.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any

from ustack.rtnl.addr import AddrHandler
from ustack.rtnl.batch import load
from ustack.rtnl.dump import Cursors, whole
from ustack.rtnl.fdb import FdbHandler
from ustack.rtnl.handler import check_range
from ustack.rtnl.link import LinkHandler
from ustack.rtnl.messages import (
    Ack,
    GetProc,
    GetSysctl,
    More,
    Nack,
    Objects,
    RouteBatch,
    Rtm,
    RtnlAnswer,
    RtnlRequest,
    SetSysctl,
)
from ustack.rtnl.monitor import Monitors
from ustack.rtnl.neigh import NeighHandler
from ustack.rtnl.netconf import NetconfHandler
from ustack.rtnl.nexthop import NexthopHandler
from ustack.rtnl.proc import proc
from ustack.rtnl.route import RouteHandler
from ustack.rtnl.rule import RuleHandler
from ustack.rtnl.sysctl import SysctlService
from ustack.sock import error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ustack.rtnl.handler import Handler
    from ustack.rtnl.messages import Object
    from ustack.stack import Stack


class Rtnetlink:
    """What an administrator may ask of ``stack``."""

    def __init__(self, stack: Stack) -> None:
        self.stack: Stack = stack
        self.sysctl = SysctlService(stack)
        self.handlers: dict[str, Handler[Any]] = {  # by the tag of the message
            "link": LinkHandler(stack),
            "addr": AddrHandler(stack),
            "route": RouteHandler(stack),
            "rule": RuleHandler(stack),
            "neigh": NeighHandler(stack),
            "fdb": FdbHandler(stack),
            "nexthop": NexthopHandler(stack),
            "netconf": NetconfHandler(stack),
        }
        self.cursors = Cursors()
        self.monitors = Monitors(stack.net, self.describe)

    def request(self, message: RtnlRequest) -> RtnlAnswer:
        """The whole answer, however long it takes. Monitor is not answered here: see ``monitors``."""
        return self._answer(message, whole)

    def request_piece(self, message: RtnlRequest) -> RtnlAnswer:
        """The same in pieces: Objects with a cursor are to be continued with More (for those who must not stall)."""
        return self._answer(message, self.cursors.begin)

    def _answer(self, message: RtnlRequest, collect: Callable[[Iterator[Object | None]], Objects]) -> RtnlAnswer:
        try:
            if isinstance(message, Rtm):
                return self._rtm(message, collect)
            if isinstance(message, More):
                return self.cursors.more(message)
            if isinstance(message, RouteBatch):
                return load(self.stack, message)
            if isinstance(message, GetSysctl):
                return self.sysctl.get(message)
            if isinstance(message, SetSysctl):
                return self.sysctl.set(message)
            if isinstance(message, GetProc):
                return proc(self.stack, message)
            raise error(errno.EOPNOTSUPP)
        except OSError as reason:
            return nack(reason)

    def _rtm(self, message: Rtm, collect: Callable[[Iterator[Object | None]], Objects]) -> RtnlAnswer:
        what = message.object
        check_range(what, message.flags)
        handler = self.handlers[str(what.__struct_config__.tag)]
        if message.verb == "new":
            handler.new(what, message.flags)
        elif message.verb == "del":
            handler.delete(what)
        elif message.verb == "get":
            return Objects(handler.get(what))
        elif message.verb == "dump":
            return collect(handler.dump(what))
        else:
            return collect(handler.flush(what))
        return Ack()

    def describe(self, kind: str, what: object) -> Object:
        """The message about something of the stack's, by what Net.rtnl_notify is told."""
        return self.handlers[kind].fill(what)


def nack(reason: OSError) -> Nack:
    """The refusal that ``reason`` stands for; the text of its errno alone says nothing."""
    code = reason.errno or errno.EIO
    text = reason.strerror or ""
    return Nack(code, "" if text == error(code).strerror else text)
