"""What the steps of a packet's journey tell of neighbours, in the words of ip-neighbour(8)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mypy_extensions import i64

from ustack.neighbour.states import NUD_NAMES, NUD_VALID
from ustack.wire.arp import ARPOP_REPLY, ARPOP_REQUEST
from ustack.wire.ethernet import mac_to_str
from ustack.wire.ipv4 import addr_to_str

if TYPE_CHECKING:
    from ustack.neighbour.table import Neighbour
    from ustack.trace.journey import Facts
    from ustack.wire.arp import ArpHeader


def state_name(state: i64) -> str:
    """``REACHABLE``"""
    return NUD_NAMES.get(int(state), str(state))


def neigh_facts(neighbour: Neighbour) -> Facts:
    """Who it is, in which state, and where if that is known."""
    facts: Facts = {"neighbour": addr_to_str(neighbour.addr), "state": state_name(neighbour.nud_state)}
    if neighbour.nud_state & NUD_VALID != 0:
        facts["lladdr"] = mac_to_str(neighbour.lladdr)
    return facts


def queue_facts(neighbour: Neighbour) -> Facts:
    """The same, with how many packets wait for its address."""
    facts = neigh_facts(neighbour)
    facts["waiting"] = len(neighbour.arp_queue)
    facts["bytes"] = neighbour.arp_queue_len_bytes
    facts["limit"] = neighbour.parms().unres_qlen_bytes
    return facts


def update_facts(neighbour: Neighbour, was: i64, lladdr: i64) -> Facts:
    """A packet has told of it: the state before and after."""
    now = state_name(neighbour.nud_state)
    state = now if was == neighbour.nud_state else f"{state_name(was)} to {now}"
    return {"neighbour": addr_to_str(neighbour.addr), "state": state, "lladdr": mac_to_str(lladdr)}


def arp_facts(op: i64, sha: i64, spa: i64, tha: i64, tpa: i64) -> Facts:
    """An ARP packet."""
    name = "request" if op == ARPOP_REQUEST else "reply" if op == ARPOP_REPLY else str(op)
    facts: Facts = {"op": name, "spa": addr_to_str(spa), "sha": mac_to_str(sha), "tpa": addr_to_str(tpa)}
    if tha != 0:
        facts["tha"] = mac_to_str(tha)
    return facts


def arp_header_facts(arp: ArpHeader) -> Facts:
    """One that has come in."""
    return arp_facts(arp.op, arp.sha, arp.spa, arp.tha, arp.tpa)
