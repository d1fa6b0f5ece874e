"""The same script on both sides, and where they first differ."""

from __future__ import annotations

import time
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Final

from tests.oracle.shrink import shrink
from tests.oracle.tcp.kernel import KernelSide
from tests.oracle.tcp.ours import OurSide
from tests.oracle.tcp.script import Pause
from ustack.sock import TCP_SYN_SENT

if TYPE_CHECKING:
    from tests.oracle.tcp.script import Script, Seen, Step

#: What struct tcp_info tells of the time that things took, which is the machine's.
TIMES: Final = frozenset(
    "rto ato last_data_sent last_ack_sent last_data_recv last_ack_recv rtt rttvar rcv_rtt min_rtt pacing_rate "
    "delivery_rate busy_time rwnd_limited sndbuf_limited total_rto_time".split()
)
#: Differences that are meant, by name in differences.md.
MEANT: Final = {
    "accecn": (
        "info received_ce",
        "info received_ce_bytes",
        "info received_e0_bytes",
        "info received_e1_bytes",
    ),
    "coalesce": ("counter TcpExt.TCPRcvCoalesce", "counter TcpExt.TCPOFOMerge"),
    "forward-alloc": ("counter TcpExt.TCPHPHits",),
    "sack-shift": (
        "counter TcpExt.TCPSackShifted",
        "counter TcpExt.TCPSackMerged",
        "counter TcpExt.TCPSackShiftFallback",
    ),
    "txhash": ("info rehash", "counter TcpExt.TcpTimeoutRehash", "counter TcpExt.TcpDuplicateDataRehash"),
    "truesize": ("info rcv_wnd", "info rcv_ssthresh", "info rcv_space"),
}
_MEANT: Final = frozenset(what for names in MEANT.values() for what in names)
#: What a leak of retrans_out begins with (retrans-leak).
UNDONE: Final = frozenset(
    f"TcpExt.{name}" for name in ("TCPFullUndo", "TCPPartialUndo", "TCPDSACKUndo", "TCPLossUndo", "TCPSpuriousRTOs")
)
#: ns. A call of the kernel's that takes longer has waited, as close does with SO_LINGER.
WAITED: Final = 100_000_000
#: A difference that is one shows each time; one of the machine's clock does not.
TRIES: Final = 6


def differences(kernel: Seen, ours: Seen) -> list[str]:
    """In words, none if they agree."""
    found = []
    meant = _MEANT
    if kernel.info.get("state") == TCP_SYN_SENT:
        meant |= {"info notsent_bytes"}  # deferred-notsent
    if kernel.moved.get("TcpExt.TCPHPHits", 0) < ours.moved.get("TcpExt.TCPHPHits", 0):
        meant |= {"counter TcpExt.TCPHPAcks"}  # forward-alloc: text that acknowledges was not predicted either
    if kernel.result != ours.result:
        found.append(f"result: kernel {kernel.result}, ours {ours.result}")
    if kernel.sent != ours.sent:
        found += ["sent:", *(f"  kernel {said}" for said in kernel.sent), *(f"  ours   {said}" for said in ours.sent)]
    for what, theirs, own in (("info", kernel.info, ours.info), ("counter", kernel.moved, ours.moved)):
        for name in sorted(theirs.keys() | own.keys()):
            if name in TIMES or f"{what} {name}" in meant or theirs.get(name, 0) == own.get(name, 0):
                continue
            if what == "info" and told(name, theirs.get(name, 0)) == told(name, own.get(name, 0)):
                continue
            found.append(f"{what} {name}: kernel {theirs.get(name, 0)}, ours {own.get(name, 0)}")
    return found


def told(name: str, value: int) -> int:
    """What is compared of a field: not TCPI_OPT_ECN_SEEN without ECN (accecn), not whether the application limited a
    rate, which depends on times as the rate does."""
    if name == "options" and not value & 8:
        return value & ~16
    return value & ~1 if name == "flags" else value


def run(script: Script) -> list[tuple[Step, Seen, Seen]]:
    """Both sides' accounts, step by step: the kernel first, and then ours at the same times."""
    times, theirs = [], []
    with KernelSide(script.terms) as kernel:
        zero = time.monotonic_ns()
        for step in script.steps:
            start = time.monotonic_ns() - zero
            theirs.append(kernel.run(step))
            end = time.monotonic_ns() - zero
            times.append((end if isinstance(step, Pause) else start, end))
    side = OurSide(script.terms)
    both: list[tuple[Step, Seen, Seen]] = []
    undone = False
    for step, (when, end), seen in zip(script.steps, times, theirs, strict=True):
        side.at(when)
        own = side.run(step)
        if end - when > WAITED:
            side.at(end)
            own = own.then(side.run(Pause(0)))
        undone = undone or not UNDONE.isdisjoint(seen.moved)
        if undone and seen.info.get("retrans", 0) > own.info.get("retrans", 0):
            break  # retrans-leak: its window is smaller from now on
        both.append((step, seen, own))
    return both


def first_difference(script: Script) -> tuple[int, list[str]] | None:
    """(number of the step, what differs there); None if they agree throughout."""
    for number, (_, theirs, own) in enumerate(run(script)):
        if found := differences(theirs, own):
            return number, found
    return None


def differs(script: Script) -> bool:
    """Each time: what is no difference of theirs but of two moments does not."""
    return all(first_difference(script) is not None for _ in range(TRIES))


def reduced(script: Script, seconds: float = 20) -> Script:
    """The fewest of its steps that still differ, each with the pauses behind it: they keep clear of its timers."""

    def of(groups: list[list[Step]]) -> Script:
        return replace(script, steps=tuple(step for group in groups for step in group))

    groups: list[list[Step]] = [[]]
    for step in script.steps:
        if not isinstance(step, Pause):
            groups.append([])
        groups[-1].append(step)
    return of(shrink(groups, lambda some: differs(of(some)), seconds))


def report(script: Script) -> str:
    """Terms, steps, and what the kernel sent, up to the first difference."""
    lines = [f"{script.terms}"]
    for number, (step, theirs, own) in enumerate(run(script)):
        lines.append(f"{number:3} {words(step)}{f' = {theirs.result}' if theirs.result else ''}")
        found = differences(theirs, own)
        lines += [f"      {said}" for said in theirs.sent]
        if found:
            return "\n".join([*lines, *(f"    ! {line}" for line in found)])
    return "\n".join([*lines, "    no difference this time"])


def words(step: Step) -> str:
    """A step, what is as usual left out."""
    values = [f"{each.name}={value!r}" for each in fields(step) if (value := getattr(step, each.name)) != each.default]
    return f"{type(step).__name__}({', '.join(values)})"
