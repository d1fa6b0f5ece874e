"""The TCP state machine (RFC 9293 section 3.3.2, figure 5) as one table.

Rule 1: every transition stands here. Rule 2: this file sends nothing, knows no clock and no socket; who calls
``after`` acts. An event that a state has no entry for is not a transition: the table answers NO_STATE.

TIME-WAIT and a passive open's SYN-RECEIVED live outside full sockets, as in Linux (timewait.py, request.py); the
table still names them, since the connection is in them all the same.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from mypy_extensions import i64

from ustack import sock


class State(IntEnum):
    """The eleven states with Linux's numbers (include/net/tcp_states.h)."""

    ESTABLISHED = sock.TCP_ESTABLISHED
    SYN_SENT = sock.TCP_SYN_SENT
    SYN_RECV = sock.TCP_SYN_RECV
    FIN_WAIT1 = sock.TCP_FIN_WAIT1
    FIN_WAIT2 = sock.TCP_FIN_WAIT2
    TIME_WAIT = sock.TCP_TIME_WAIT
    CLOSE = sock.TCP_CLOSE
    CLOSE_WAIT = sock.TCP_CLOSE_WAIT
    LAST_ACK = sock.TCP_LAST_ACK
    LISTEN = sock.TCP_LISTEN
    CLOSING = sock.TCP_CLOSING


class Event(IntEnum):
    """What moves a connection; the names of figure 5."""

    PASSIVE_OPEN = 0
    ACTIVE_OPEN = 1
    CLOSE = 2  #: the user has no more to send
    RCV_SYN = 3  #: a SYN without an ACK of ours
    RCV_SYN_ACK = 4
    RCV_ACK_OF_SYN = 5
    RCV_FIN = 6
    RCV_ACK_OF_FIN = 7
    TIMEOUT_2MSL = 8
    ABORT = 9  #: a RST received or sent, a give-up timer, or the user's abort


_S = State
_E = Event

TRANSITIONS: Final[dict[State, dict[Event, State]]] = {
    _S.CLOSE: {_E.PASSIVE_OPEN: _S.LISTEN, _E.ACTIVE_OPEN: _S.SYN_SENT},
    _S.LISTEN: {
        _E.RCV_SYN: _S.SYN_RECV,
        _E.ACTIVE_OPEN: _S.SYN_SENT,
        _E.CLOSE: _S.CLOSE,
        _E.ABORT: _S.CLOSE,
    },
    _S.SYN_SENT: {
        _E.RCV_SYN: _S.SYN_RECV,  # simultaneous open
        _E.RCV_SYN_ACK: _S.ESTABLISHED,
        _E.CLOSE: _S.CLOSE,
        _E.ABORT: _S.CLOSE,
    },
    _S.SYN_RECV: {
        _E.RCV_ACK_OF_SYN: _S.ESTABLISHED,
        _E.CLOSE: _S.FIN_WAIT1,
        _E.RCV_FIN: _S.CLOSE_WAIT,
        _E.ABORT: _S.CLOSE,
    },
    _S.ESTABLISHED: {_E.CLOSE: _S.FIN_WAIT1, _E.RCV_FIN: _S.CLOSE_WAIT, _E.ABORT: _S.CLOSE},
    _S.FIN_WAIT1: {_E.RCV_ACK_OF_FIN: _S.FIN_WAIT2, _E.RCV_FIN: _S.CLOSING, _E.ABORT: _S.CLOSE},
    _S.FIN_WAIT2: {_E.RCV_FIN: _S.TIME_WAIT, _E.ABORT: _S.CLOSE},
    _S.CLOSING: {_E.RCV_ACK_OF_FIN: _S.TIME_WAIT, _E.ABORT: _S.CLOSE},
    _S.CLOSE_WAIT: {_E.CLOSE: _S.LAST_ACK, _E.ABORT: _S.CLOSE},
    _S.LAST_ACK: {_E.RCV_ACK_OF_FIN: _S.CLOSE, _E.ABORT: _S.CLOSE},
    _S.TIME_WAIT: {_E.TIMEOUT_2MSL: _S.CLOSE, _E.ABORT: _S.CLOSE},
}


#: "It does not apply": no state has this number.
NO_STATE: Final = 0
_EVENTS: Final[i64] = len(Event)
#: The table as a square of numbers, ten to a state: quicker to ask than enumerations.
_NEXT: Final = bytes(TRANSITIONS[_S(s)].get(e, NO_STATE) if s else NO_STATE for s in range(len(_S) + 1) for e in _E)


def after(state: i64, event: i64) -> i64:
    """The state that ``event`` leads to from ``state``, NO_STATE if it does not apply there."""
    return _NEXT[state * _EVENTS + event]


def diagram() -> str:
    """The table as a graphviz drawing: figure 5, generated."""
    lines = ["digraph tcp {", "  rankdir=TB;", "  node [shape=box, style=rounded];"]
    for state, row in TRANSITIONS.items():
        lines += [f'  {state.name} -> {target.name} [label="{event.name}"];' for event, target in row.items()]
    return "\n".join([*lines, "}", ""])


#: May still send data (TCPF_ESTABLISHED | TCPF_CLOSE_WAIT).
CAN_SEND: Final[i64] = (1 << sock.TCP_ESTABLISHED) | (1 << sock.TCP_CLOSE_WAIT)
#: May still receive data.
CAN_RECEIVE: Final[i64] = (1 << sock.TCP_ESTABLISHED) | (1 << sock.TCP_FIN_WAIT1) | (1 << sock.TCP_FIN_WAIT2)
#: Synchronized but for TIME-WAIT: there is a peer that would take a RST.
NEEDS_RESET: Final[i64] = (
    (1 << sock.TCP_ESTABLISHED)
    | (1 << sock.TCP_CLOSE_WAIT)
    | (1 << sock.TCP_FIN_WAIT1)
    | (1 << sock.TCP_FIN_WAIT2)
    | (1 << sock.TCP_SYN_RECV)
)


def in_set(state: i64, mask: i64) -> bool:
    """True if ``state`` is one of ``mask``."""
    return mask & (i64(1) << state) != 0
