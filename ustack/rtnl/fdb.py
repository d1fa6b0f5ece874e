"""Stations that bridges know (Linux net/bridge/br_fdb.c: br_fdb_dump, fdb_fill_info)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ustack.device.bridge import Bridge
from ustack.neighbour.states import NUD_PERMANENT, NUD_REACHABLE, NUD_STALE
from ustack.rtnl.handler import Handler
from ustack.rtnl.messages import Fdb
from ustack.timer import NSEC_PER_SEC

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ustack.device.bridge_fdb import FdbEntry
    from ustack.rtnl.messages import Object
    from ustack.stack import Stack


class FdbHandler(Handler[Fdb]):
    """To be shown; what is in it comes from frames."""

    def __init__(self, stack: Stack) -> None:
        self.stack: Stack = stack

    def dump(self, message: Fdb) -> Iterator[Object | None]:
        for dev in self.stack.devices.all():
            if isinstance(dev, Bridge) and message.master in (0, dev.ifindex):
                for entry in dev.fdb.entries():
                    shown = fill(dev, entry)
                    yield shown if message.ifindex in (0, shown.ifindex) else None


def fill(bridge: Bridge, entry: FdbEntry) -> Fdb:
    now = bridge.net.now
    expired = entry.updated + bridge.fdb.ageing_time <= now
    return Fdb(
        mac=int(entry.mac),
        ifindex=int(bridge.ifindex if entry.port is None else entry.port.dev.ifindex),
        master=int(bridge.ifindex),
        state=NUD_PERMANENT if entry.local else NUD_STALE if expired else NUD_REACHABLE,
        used=int(now - entry.used) // int(NSEC_PER_SEC),
        updated=int(now - entry.updated) // int(NSEC_PER_SEC),
    )
