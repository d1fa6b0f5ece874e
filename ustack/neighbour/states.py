"""Neighbour unreachability states (RFC 4861 section 7.3.2 and appendix C, as Linux keeps them for ARP) as one table.

Every transition that the network or the clock can cause stands here; only an administrator may set a state outright.
This file sends nothing and knows no clock; the caller acts.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from mypy_extensions import i64

# include/uapi/linux/neighbour.h: one bit each, so that a set of states is a mask
NUD_NONE: Final = 0x00  #: just made
NUD_INCOMPLETE: Final = 0x01  #: asked by broadcast, packets wait
NUD_REACHABLE: Final = 0x02  #: confirmed within reachable_time
NUD_STALE: Final = 0x04  #: address known, reachability not
NUD_DELAY: Final = 0x08  #: used while stale: an upper layer has delay_first_probe_time to confirm it
NUD_PROBE: Final = 0x10  #: asked by unicast
NUD_FAILED: Final = 0x20
NUD_NOARP: Final = 0x40  #: needs no resolution
NUD_PERMANENT: Final = 0x80  #: set by hand, never expires

NUD_IN_TIMER: Final = 0x1B  #: INCOMPLETE REACHABLE DELAY PROBE: a timer is running
NUD_VALID: Final = 0xDE  #: PERMANENT NOARP REACHABLE PROBE STALE DELAY: the link-layer address may be used
NUD_CONNECTED: Final = 0xC2  #: PERMANENT NOARP REACHABLE
NUD_ADMIN: Final = 0xC0  #: PERMANENT NOARP: what no packet may change
NUD_ASKING: Final = 0x11  #: INCOMPLETE PROBE: a question of ours is out
NUD_READY: Final = 0xDA  #: VALID without STALE: sending changes nothing, so the cached header goes straight on

NUD_NAMES: Final[dict[int, str]] = {
    NUD_NONE: "NONE",
    NUD_INCOMPLETE: "INCOMPLETE",
    NUD_REACHABLE: "REACHABLE",
    NUD_STALE: "STALE",
    NUD_DELAY: "DELAY",
    NUD_PROBE: "PROBE",
    NUD_FAILED: "FAILED",
    NUD_NOARP: "NOARP",
    NUD_PERMANENT: "PERMANENT",
}


class Event(IntEnum):
    """What can happen to a neighbour; the column of the table."""

    USED = 0  #: a packet wants to go there
    SOLICITED_REPLY = 1  #: the answer to our own question
    OTHER_REPLY = 2  #: an ARP packet that names it unasked, with the address known already or with the first one
    MOVED = 3  #: the same with another address
    CONFIRMED = 4  #: an upper layer made forward progress
    TIMEOUT = 5  #: the state's own timer
    GAVE_UP = 6  #: the last probe went unanswered
    TIMEOUT_IN_USE = 7  #: the state's own timer, and packets have just wanted to go there


_N: Final = NUD_NONE
_I: Final = NUD_INCOMPLETE
_R: Final = NUD_REACHABLE
_S: Final = NUD_STALE
_D: Final = NUD_DELAY
_P: Final = NUD_PROBE
_F: Final = NUD_FAILED
_A: Final = NUD_NOARP
_M: Final = NUD_PERMANENT

#: STATES[state][event]; the same state again means: nothing happens.
#: Unlike Linux, where any unicast reply makes an entry REACHABLE, only the answer to a question of ours does
#: (RFC 4861 7.2.5: an unsolicited advertisement that changes nothing leaves the state alone, another address is STALE).
STATES: Final[dict[int, tuple[int, ...]]] = {
    # USED SOLICITED OTHER MOVED CONFIRMED TIMEOUT GAVE_UP IN_USE
    _N: (_I, _S, _S, _S, _N, _N, _N, _N),
    _I: (_I, _R, _S, _S, _I, _I, _F, _I),
    _R: (_R, _R, _R, _S, _R, _S, _R, _D),
    _S: (_D, _R, _S, _S, _R, _S, _S, _S),
    _D: (_D, _R, _D, _S, _R, _P, _D, _P),
    _P: (_P, _R, _P, _S, _R, _P, _F, _P),
    _F: (_I, _S, _S, _S, _F, _F, _F, _F),  # the next use asks again: a failed neighbour is never failed for good
    _A: (_A, _A, _A, _A, _A, _A, _A, _A),
    _M: (_M, _M, _M, _M, _M, _M, _M, _M),
}


def after(state: i64, event: i64) -> i64:
    """The state that ``event`` leads to from ``state``."""
    return STATES[state][event]
