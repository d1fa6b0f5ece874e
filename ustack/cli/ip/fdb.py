"""bridge fdb: show. A program of its own in iproute2, with the same manners."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ustack.cli.ip.words import FAILURE, Mistake, Words, matches, no_device
from ustack.neighbour.states import NUD_PERMANENT, NUD_STALE
from ustack.rtnl.messages import Fdb
from ustack.wire.ethernet import mac_to_str

if TYPE_CHECKING:
    from ustack.cli.ip.session import Session

STATES = {NUD_PERMANENT: "permanent", NUD_STALE: "stale"}
USAGE = "Usage: {program} fdb [ show [ br BRIDGE ] [ brport DEV ] [ dev DEV ] ]\n"


def do_fdb(session: Session, argv: list[str]) -> int:
    """``bridge fdb ...``"""
    words = Words(argv)
    verb = words.take() if words else "show"
    if matches(verb, "help"):
        raise Mistake(USAGE.format(program=session.program))
    if not matches(verb, "show", "lst", "list"):
        raise Mistake(f'Command "{verb}" is unknown, try "{session.program} fdb help".\n')
    wanted = Fdb()
    while words:
        word = words.take()
        if word == "br":
            wanted.master = need(session, words.take())
        elif word in ("dev", "brport"):
            wanted.ifindex = need(session, words.take())
        else:
            raise Mistake(f'Command "{word}" is unknown, try "{session.program} fdb help".\n')
    show(session, wanted)
    return 0


def need(session: Session, name: str) -> int:
    return session.find_device(name) or no_device(name, FAILURE)


def show(session: Session, wanted: Fdb) -> None:
    """print_fdb: the address, where it is, and with -s since when it has been silent and not asked for."""
    out = session.printer()
    out.begin()
    for entry in session.dump(wanted):
        out.open()
        out.put("mac", mac_to_str(entry.mac), f"{mac_to_str(entry.mac)} ")
        out.put("ifname", session.device(entry.ifindex), f"dev {session.device(entry.ifindex)} ")
        if session.options.stats:
            out.put("used", entry.used, f"used {entry.used}/")
            out.put("updated", entry.updated, f"{entry.updated} ")
        out.data("flags", [])
        out.put("master", session.device(entry.master), f"master {session.device(entry.master)} ")
        state = STATES.get(entry.state, "")
        out.put("state", state, state)
        out.text("\n")
        out.close()
    out.end()
