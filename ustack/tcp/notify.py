"""Telling a socket's owner: wake-ups are collected while frames are received and given when the batch is done.

An owner may send, read or close from inside its observer; run in the middle of a segment's processing that would pull
the connection away from under it. Linux has the socket lock and a process to wake; one thread has the end of the
batch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mypy_extensions import i64

from ustack.trace.points import Point
from ustack.trace.words import SocketGiven

if TYPE_CHECKING:
    from ustack.tcp.control import TcpControl

DATA_READY: Final = 1
WRITE_SPACE: Final = 2
STATE_CHANGE: Final = 4
ERROR_REPORT: Final = 8
_EVENT_NAMES: Final = {
    ERROR_REPORT: "an error",
    STATE_CHANGE: "another state",
    DATA_READY: "something to read",
    WRITE_SPACE: "room to write",
}


def tcp_wake(tp: TcpControl, events: i64) -> None:
    """Remember that ``events`` happened to ``tp``."""
    if tp.wake_events == 0:
        tp.tables.wakeups.append(tp)
        tp.tables.net.wake()
    tp.wake_events |= events


def tell(tp: TcpControl) -> None:
    """Tell the observer what was collected: errors first, then state, data, room."""
    events = tp.wake_events
    tp.wake_events = 0
    tracer = tp.tables.net.tracer
    if tracer is not None:
        # what its owner sends now was caused by the last segment it got
        tracer.call(Point.TCP_DEF_READABLE, event_words(events), SocketGiven(tp))
        tracer.resume(tp.journey)
    if events & ERROR_REPORT:
        tp.observer.error_report(tp)
    if events & STATE_CHANGE:
        tp.observer.state_change(tp)
    if events & DATA_READY:
        tp.observer.data_ready(tp)
    if events & WRITE_SPACE:
        tp.observer.write_space(tp)


def event_words(events: i64) -> str:
    """What an owner is told of, for a trace."""
    told = [name for bit, name in _EVENT_NAMES.items() if bit & int(events)]
    return ", ".join(told)
