"""Netfilter's hooks (net/netfilter/core.c): points on a packet's way where others may look, change, hold or lose it.

Functions at a point run in ascending priority, and in the order of registration where that is equal. Each answers
with a verdict; when all have accepted, the packet goes on to the point's okfn. A caller tests ``active`` first, so that
a point where nobody is registered costs that one test.

A function that takes a packet (STOLEN) must end it itself: Net.deliver, forward or drop.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

from mypy_extensions import i64, mypyc_attr

from ustack.drop import Reason
from ustack.sock import error
from ustack.timer import NSEC_PER_SEC
from ustack.trace.journey import PATIENCE, STOLEN
from ustack.trace.points import Point

if TYPE_CHECKING:
    from collections.abc import Callable

    from ustack.device.net_device import NetDevice
    from ustack.net import Net
    from ustack.packet import Packet, PacketHandler
    from ustack.trace.journey import Facts

NF_INET_PRE_ROUTING: Final = 0
NF_INET_LOCAL_IN: Final = 1
NF_INET_FORWARD: Final = 2
NF_INET_LOCAL_OUT: Final = 3
NF_INET_POST_ROUTING: Final = 4
NF_INET_NUMHOOKS: Final = 5

# Verdicts: the low byte. With DROP the upper 16 bits are the sender's errno, with QUEUE the queue's number.
NF_DROP: Final = 0
NF_ACCEPT: Final = 1
NF_STOLEN: Final = 2
NF_QUEUE: Final = 3
NF_REPEAT: Final = 4  #: call this function again
NF_STOP: Final = 5  #: accept, and ask nobody after me
NF_VERDICT_MASK: Final = 0xFF
NF_VERDICT_FLAG_QUEUE_BYPASS: Final = 0x8000  #: with QUEUE: accept if nobody listens
NF_VERDICT_QBITS: Final = 16

NFPROTO_IPV4: Final = 2
NFPROTO_ARP: Final = 3
NFPROTO_BRIDGE: Final = 7
NFPROTO_IPV6: Final = 10

# include/uapi/linux/netfilter_ipv4.h
NF_IP_PRI_FIRST: Final = -0x8000_0000
NF_IP_PRI_RAW_BEFORE_DEFRAG: Final = -450
NF_IP_PRI_CONNTRACK_DEFRAG: Final = -400
NF_IP_PRI_RAW: Final = -300
NF_IP_PRI_CONNTRACK: Final = -200
NF_IP_PRI_MANGLE: Final = -150
NF_IP_PRI_NAT_DST: Final = -100
NF_IP_PRI_FILTER: Final = 0
NF_IP_PRI_SECURITY: Final = 50
NF_IP_PRI_NAT_SRC: Final = 100
NF_IP_PRI_LAST: Final = 0x7FFF_FFFF

MAX_HOOK_COUNT: Final = 1024  #: functions at one point
NF_MAX_REPEAT: Final = 16  #: times that one function may answer REPEAT for one packet; Linux trusts it to stop
NFQNL_QMAX_DEFAULT: Final = 1024  #: packets that wait for a listener's verdict
#: How long a journey may stand still while the packet waits for one.
QUEUE_PATIENCE: Final[i64] = 3600 * NSEC_PER_SEC

_VERDICTS: Final = ("DROP", "ACCEPT", "STOLEN", "QUEUE", "REPEAT", "STOP")
_HOOKS: Final = ("PRE_ROUTING", "LOCAL_IN", "FORWARD", "LOCAL_OUT", "POST_ROUTING")
_FAMILIES: Final = (NFPROTO_IPV4, NFPROTO_ARP, NFPROTO_BRIDGE, NFPROTO_IPV6)
_PRIORITY_LIMIT: Final = 0x8000_0000
_VERDICT_MAX: Final = 0xFFFF_FFFF


def nf_queue_nr(number: i64) -> i64:
    """The verdict that sends a packet to queue ``number`` (NF_QUEUE_NR)."""
    return (number << NF_VERDICT_QBITS) | NF_QUEUE


def nf_drop_err(code: i64) -> i64:
    """The verdict that drops a packet and tells its local sender ``code``, a positive errno (NF_DROP_ERR)."""
    return (code << NF_VERDICT_QBITS) | NF_DROP


class HookState:
    """One packet at one point (struct nf_hook_state); what a hook function is called with."""

    def __init__(
        self,
        point: i64,
        packet: Packet,
        in_dev: NetDevice | None,
        out_dev: NetDevice | None,
        okfn: PacketHandler,
        family: i64 = NFPROTO_IPV4,
    ) -> None:
        self.point: i64 = point
        self.packet: Packet = packet
        self.in_dev: NetDevice | None = in_dev
        self.out_dev: NetDevice | None = out_dev
        self.okfn: PacketHandler = okfn
        self.family: i64 = family


class HookEntry:
    """One registered function (struct nf_hook_ops); the handle to unregister it with."""

    def __init__(
        self, function: Callable[[HookState], int], family: i64, point: i64, priority: i64, sequence: i64
    ) -> None:
        self.function: Callable[[HookState], int] = function
        self.family: i64 = family
        self.point: i64 = point
        self.priority: i64 = priority
        self.sequence: i64 = sequence
        self.registered: bool = True
        self.errors: i64 = 0  #: times it raised, or answered with no verdict


class QueueEntry:
    """A packet that waits for a verdict from outside (struct nf_queue_entry). ``state.packet`` may be changed."""

    def __init__(self, ident: int, state: HookState, hook: HookEntry, queue: i64) -> None:
        self.ident: int = ident
        self.state: HookState = state
        self.hook: HookEntry = hook  #: who queued it
        self.queue: i64 = queue  #: queue number


@mypyc_attr(allow_interpreted_subclasses=True)
class QueueHandler:
    """Who listens to queued packets (struct nf_queue_handler)."""

    def enqueue(self, packet: Packet, entry: QueueEntry) -> bool:
        """Take the packet; every entry taken ends in Hooks.nf_reinject. False: no room, or no such queue."""
        raise NotImplementedError


class Hooks:
    """The hooks of one stack."""

    def __init__(self, net: Net) -> None:
        self.net: Net = net
        self.queue_maxlen: i64 = NFQNL_QMAX_DEFAULT
        self.last_error: str = ""  #: what the last function that raised has said
        self._armed: i64 = 0  # a bit for each IPv4 point with a function
        self._points: dict[int, tuple[HookEntry, ...]] = {}  # replaced, never changed: who iterates keeps the old one
        self._sequence: i64 = 0
        self._queue_handler: QueueHandler | None = None
        self._queue: dict[int, QueueEntry] = {}
        self._next_ident: int = 1

    @property
    def queued(self) -> int:
        """Packets that wait for a verdict from outside."""
        return len(self._queue)

    def waiting(self) -> list[Packet]:
        """Those packets."""
        return [entry.state.packet for entry in self._queue.values()]

    def active(self, point: i64) -> bool:
        """Whether anybody is registered at this IPv4 point; if not, the caller goes on by itself."""
        return (self._armed >> point) & 1 != 0

    # -- registration

    def nf_register_hook(
        self, point: i64, function: Callable[[HookState], int], priority: i64 = 0, family: i64 = NFPROTO_IPV4
    ) -> HookEntry:
        """Have ``function`` asked from the next packet on. Raises EINVAL (no such point or family), E2BIG."""
        if family not in _FAMILIES or not 0 <= point < NF_INET_NUMHOOKS:
            raise error(errno.EINVAL)
        if not -_PRIORITY_LIMIT <= priority < _PRIORITY_LIMIT:
            raise error(errno.EINVAL)
        entries = self._entries(family, point)
        if len(entries) >= MAX_HOOK_COUNT:
            raise error(errno.E2BIG)
        self._sequence += 1
        entry = HookEntry(function, family, point, priority, self._sequence)
        at = following(entries, entry)
        self._replace(family, point, (*entries[:at], entry, *entries[at:]))
        return entry

    def nf_unregister_hook(self, handle: HookEntry) -> None:
        """Never call it again, not even for a packet on its way. ENOENT if it is not registered.

        What it has queued stays with the listener and goes on after the place where it was.
        """
        if not handle.registered:
            raise error(errno.ENOENT)
        handle.registered = False
        entries = self._entries(handle.family, handle.point)
        self._replace(handle.family, handle.point, tuple([entry for entry in entries if entry is not handle]))

    def nf_register_queue_handler(self, handler: QueueHandler) -> None:
        """``handler`` listens from now on. Raises EBUSY if somebody does."""
        if self._queue_handler is not None:
            raise error(errno.EBUSY)
        self._queue_handler = handler

    def nf_unregister_queue_handler(self) -> None:
        """Nobody listens any more: what waits for a verdict is dropped (nf_queue_nf_hook_drop)."""
        self._queue_handler = None
        waiting = list(self._queue.values())
        self._queue.clear()
        for entry in waiting:
            self.net.drop(entry.state.packet, Reason.NF_QUEUE_UNBOUND)

    # -- the way of a packet

    def nf_hook(
        self,
        point: i64,
        packet: Packet,
        in_dev: NetDevice | None,
        out_dev: NetDevice | None,
        okfn: PacketHandler,
        family: i64 = NFPROTO_IPV4,
    ) -> i64:
        """Ask the functions at ``point``; if all accept, ``okfn`` goes on with ``packet`` (NF_HOOK, nf_hook_slow).

        0, or the errno for a local sender whose packet was dropped here: EPERM unless the function named another.
        """
        state = HookState(point, packet, in_dev, out_dev, okfn, family)
        return self._iterate(state, self._entries(family, point), 0)

    def nf_reinject(self, entry: QueueEntry, verdict: i64) -> bool:
        """The listener's ``verdict`` on a queued packet: ACCEPT goes on after the function that queued it.

        False if that packet has had its verdict. REPEAT asks the function again, if it is still there.
        """
        if self._queue.pop(entry.ident, None) is not entry:
            return False
        state = entry.state
        tracer = self.net.tracer
        if tracer is not None:
            tracer.forget()
            journey = state.packet.journey
            if journey is not None:
                journey.step(Point.NF_REINJECT, verdict_name(verdict), {"queue": entry.queue})
                journey.patience = PATIENCE
                tracer.resume(journey)
        entries = self._entries(state.family, state.point)
        start = following(entries, entry.hook)
        verb = verdict & NF_VERDICT_MASK
        if verb == NF_ACCEPT:
            self._iterate(state, entries, start)
        elif verb == NF_REPEAT:
            self._iterate(state, entries, start - 1 if entry.hook.registered else start)
        else:
            self._settle(state, entry.hook, verdict)
        return True

    # -- inside

    def _entries(self, family: i64, point: i64) -> tuple[HookEntry, ...]:
        return self._points.get((family << 3) | point, ())

    def _replace(self, family: i64, point: i64, entries: tuple[HookEntry, ...]) -> None:
        self._points[(family << 3) | point] = entries
        if family == NFPROTO_IPV4:
            bit: i64 = 1 << point
            self._armed = self._armed | bit if len(entries) != 0 else self._armed & ~bit

    def _iterate(self, state: HookState, entries: tuple[HookEntry, ...], start: int) -> i64:
        """nf_iterate: from ``start`` on until somebody does not simply accept."""
        for at in range(start, len(entries)):
            entry = entries[at]
            if not entry.registered:
                continue
            verdict = self._ask(state, entry)
            verb = verdict & NF_VERDICT_MASK
            if verb == NF_ACCEPT:
                continue
            if verb == NF_QUEUE and self._bypasses(verdict):
                continue
            return self._settle(state, entry, verdict)
        state.okfn.handle(state.packet)
        return 0

    def _ask(self, state: HookState, entry: HookEntry) -> i64:
        """One function's verdict, REPEAT done with; more of it than NF_MAX_REPEAT is returned."""
        verdict = self._call(state, entry)
        repeats = 0
        while verdict & NF_VERDICT_MASK == NF_REPEAT and repeats < NF_MAX_REPEAT:
            repeats += 1
            verdict = self._call(state, entry)
        return verdict

    def _call(self, state: HookState, entry: HookEntry) -> i64:
        """One question to one function."""
        verdict = self._answer(state, entry)
        if self.net.tracer is not None:
            self.net.tracer.changed(state.packet)
        journey = state.packet.journey
        if journey is not None:
            journey.step(Point.NF_HOOK_SLOW, verdict_name(verdict), hook_facts(entry))
        return verdict

    def _answer(self, state: HookState, entry: HookEntry) -> i64:
        """A function that raises must not stop the stack; what it would have let through is not known, so DROP."""
        try:
            verdict = entry.function(state)
            if 0 <= verdict <= _VERDICT_MAX and verdict & NF_VERDICT_MASK <= NF_STOP:
                return verdict
            self._blame(entry, f"no verdict: {verdict}")
        except Exception as problem:
            self._blame(entry, f"{type(problem).__name__}: {problem}")
        return NF_DROP

    def _blame(self, entry: HookEntry, text: str) -> None:
        entry.errors += 1
        self.net.mib.netfilter.hook_errors += 1
        self.last_error = text

    def _bypasses(self, verdict: i64) -> bool:
        """Nobody listens, and the function does not mind (nf_queue, -ESRCH)."""
        return self._queue_handler is None and verdict & NF_VERDICT_FLAG_QUEUE_BYPASS != 0

    def _settle(self, state: HookState, entry: HookEntry, verdict: i64) -> i64:
        """Any verdict but ACCEPT ends the iteration."""
        verb = verdict & NF_VERDICT_MASK
        if verb == NF_STOP:
            state.okfn.handle(state.packet)
        elif verb == NF_QUEUE:
            self._enqueue(state, entry, verdict >> NF_VERDICT_QBITS)
        elif verb == NF_REPEAT:
            self.net.drop(state.packet, Reason.NF_REPEAT_LIMIT)
            return errno.EPERM
        elif verb == NF_STOLEN:
            if state.packet.journey is not None:
                state.packet.journey.finish(STOLEN)
        else:
            self.net.drop(state.packet, Reason.NETFILTER_DROP)
            code = verdict >> NF_VERDICT_QBITS
            return code if code != 0 else errno.EPERM
        return 0

    def _enqueue(self, state: HookState, hook: HookEntry, queue: i64) -> None:
        """nf_queue: to the listener, or lost if there is none, if it has no room or if too many wait."""
        handler = self._queue_handler
        if handler is None:
            return self.net.drop(state.packet, Reason.NF_QUEUE_UNBOUND)
        if len(self._queue) >= self.queue_maxlen:
            return self.net.drop(state.packet, Reason.NF_QUEUE_FULL)
        entry = QueueEntry(self._next_ident, state, hook, queue)
        self._next_ident += 1
        self._queue[entry.ident] = entry
        if state.packet.journey is not None:
            facts: Facts = {"queue": queue, "waiting": len(self._queue), "limit": self.queue_maxlen}
            state.packet.journey.step(Point.NF_QUEUE, "waits for a verdict from outside", facts)
            state.packet.journey.patience = QUEUE_PATIENCE
        if not self._offer(handler, entry) and self._queue.pop(entry.ident, None) is entry:
            self.net.drop(state.packet, Reason.NF_QUEUE_FULL)

    def _offer(self, handler: QueueHandler, entry: QueueEntry) -> bool:
        try:
            return handler.enqueue(entry.state.packet, entry)
        except Exception as problem:
            self._blame(entry.hook, f"{type(problem).__name__}: {problem}")
            return False


def following(entries: tuple[HookEntry, ...], entry: HookEntry) -> int:
    """Where in ``entries`` comes what is asked after ``entry``, whether ``entry`` itself is still there or not."""
    at = 0
    for other in entries:
        if other.priority > entry.priority or (other.priority == entry.priority and other.sequence > entry.sequence):
            break
        at += 1
    return at


def verdict_name(verdict: i64) -> str:
    """``DROP``, with the sender's errno if it names one; ``QUEUE``."""
    verb = verdict & NF_VERDICT_MASK
    if verb > NF_STOP:
        return f"DROP: {verdict} is no verdict"
    code = verdict >> NF_VERDICT_QBITS
    return f"DROP, errno {code}" if verb == NF_DROP and code != 0 else _VERDICTS[verb]


def hook_facts(entry: HookEntry) -> Facts:
    """Who was asked, and where."""
    function = entry.function
    name: str = getattr(function, "__qualname__", type(function).__name__)
    return {"hook": _HOOKS[entry.point], "function": name, "priority": entry.priority}
