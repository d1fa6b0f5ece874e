"""How a next-hop object is printed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ustack.routing.flow import RT_SCOPE_UNIVERSE
from ustack.routing.uapi import RTNH_F_DEAD, RTNH_F_LINKDOWN, RTNH_F_ONLINK, RTPROT_UNSPEC
from ustack.wire.ipv4 import addr_to_str

if TYPE_CHECKING:
    from ustack.cli.ip.output import Printer
    from ustack.cli.ip.session import Session
    from ustack.rtnl.messages import Nexthop

FLAGS: Final = {RTNH_F_DEAD: "dead", RTNH_F_ONLINK: "onlink", RTNH_F_LINKDOWN: "linkdown"}


def print_nexthop(session: Session, out: Printer, nexthop: Nexthop) -> None:
    """What stands between the beginning and the end of its line."""
    names, details = session.names, session.options.details > 0
    out.put("id", nexthop.id, f"id {nexthop.id} ")
    if nexthop.group:
        print_group(out, nexthop.group)
    if nexthop.gateway:
        gateway = addr_to_str(nexthop.gateway)
        out.put("gateway", gateway, f"via {gateway} ")
    if nexthop.ifindex:
        name = session.device(nexthop.ifindex)
        out.put("dev", name, f"dev {name} ")
    if nexthop.scope != RT_SCOPE_UNIVERSE or details:
        scope = names.scope(nexthop.scope)
        out.put("scope", scope, f"scope {scope} ")
    if nexthop.blackhole:
        out.put("blackhole", None, "blackhole ")
    if nexthop.protocol != RTPROT_UNSPEC or details:
        protocol = names.protocol(nexthop.protocol)
        out.put("protocol", protocol, f"proto {protocol} ")
    words = [word for flag, word in FLAGS.items() if nexthop.flags & flag]
    out.put("flags", words, "".join(f"{word} " for word in words))


def print_group(out: Printer, group: list[tuple[int, int]]) -> None:
    """``1/2``, ``1,5/2,10``: numbers, and weights where they are not 1."""
    out.open_list("group")
    for number, weight in group:
        out.open()
        out.data("id", number)
        if weight != 1:
            out.data("weight", weight)
        out.close()
    out.close()
    said = "/".join(f"{number},{weight}" if weight != 1 else f"{number}" for number, weight in group)
    out.text(f"group {said} ")
