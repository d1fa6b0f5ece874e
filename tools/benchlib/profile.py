"""Where the time of the stack's process goes while one load runs: perf for the compiled form, cProfile for the other.

perf counts what the processor does, kernel included, by sampling. cProfile counts calls and slows them all down: its
shares tell where to look, its times do not.
"""

from __future__ import annotations

import io
import pstats
import re
import shutil
import signal
import sys
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from benchlib.lab import Lab, Process, Unavailable
from benchlib.measure import ADDRESS, GRACE, Effort, LinkWatch, Sample, await_stack, run_load
from benchlib.targets import IDLE, UDP, Running, Ustack

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Lines of each list.
FUNCTIONS: Final = 32
SYMBOLS: Final = 45
CALLEES: Final = 4
#: Samples a second: no multiple of a timer's rate.
FREQUENCY: Final = 1999
#: How much of the stack perf keeps to unwind later: frames of Python's own are large.
STACK_BYTES: Final = 8192
#: Seconds for perf to read and unwind what it has recorded.
READING: Final = 120

FRAME: Final = re.compile(r"^\s+[0-9a-f]+ (.+) \((.*)\)$", re.MULTILINE)
#: mypyc's names: CPyDef_ and the module's last parts before the function's.
COMPILED: Final = re.compile(r"CPyDef_(.+)")
#: Ways to call something; what was called is the frame inside of them.
TRAMPOLINES: Final = (
    "PyObject_Vectorcall", "PyObject_VectorcallMethod", "cfunction_vectorcall_FASTCALL", "cfunction_vectorcall_NOARGS",
    "cfunction_vectorcall_O", "cfunction_vectorcall_FASTCALL_KEYWORDS", "method_vectorcall_FASTCALL",
    "_PyObject_MakeTpCall", "method_vectorcall_NOARGS", "method_vectorcall_FASTCALL_KEYWORDS",
)  # fmt: skip


def arguments_of(mode: str, effort: Effort) -> tuple[str, list[str]]:
    """A mode of the load, or one with its number of datagrams (udp-echo-32), to its arguments."""
    mode, _, outstanding = mode.partition("-echo-") if "-echo-" in mode else (mode, "", "")
    if outstanding:
        return UDP, ["--secs", str(effort.secs), "--outstanding", outstanding]
    runs = list(effort.arguments(mode))
    if not runs:
        raise Unavailable(f"there is no mode {mode!r}")
    _, arguments = runs[0]
    # counted modes would be over before anything is seen of them
    more = {"ping": ["--n", "800"], "connrate": ["--n", str(int(effort.secs * 4000))]}
    return mode, more.get(mode, arguments)


def profile(mode: str, python: str, form: str, offload: bool, cpus: set[int] | None, effort: Effort) -> str:
    """The report. Raises Unavailable."""
    load, arguments = arguments_of(mode, effort)
    if load == IDLE:
        raise Unavailable("an idle connection takes no time")
    if form == "interpreted":
        return with_cprofile(load, arguments, python, offload, cpus, effort)
    return with_perf(load, arguments, python, offload, cpus, effort)


def start_load(lab: Lab, running: Running, effort: Effort, mode: str, arguments: list[str]) -> Sample:
    pids = ",".join(map(str, running.pids))
    command = [sys.executable, effort.load, mode, ADDRESS, *arguments, "--pid", pids]
    watch = LinkWatch(running.namespace)
    return run_load(lab, running, command, effort.secs + GRACE) | watch.report()


def heading(form: str, offload: bool, mode: str, sample: Sample) -> str:
    kept = {key: value for key, value in sample.items() if key != "test"}
    title = f"ustack {form}{'' if offload else ', no offload'}: {mode}"
    return f"{title}\n{', '.join(f'{key} {value}' for key, value in kept.items())}\n"


# -- perf


def with_perf(
    mode: str, arguments: list[str], python: str, offload: bool, cpus: set[int] | None, effort: Effort
) -> str:
    perf = shutil.which("perf")
    if perf is None:
        raise Unavailable("perf is missing (Debian: linux-perf)")
    with Lab(cpus) as lab:
        running = Ustack("compiled", python, offload).start(lab)
        await_stack(lab, running)
        data = str(lab.directory / "perf.data")
        options = ["-q", "-F", str(FREQUENCY), "--call-graph", f"dwarf,{STACK_BYTES}", "-o", data]
        record = lab.start(running.namespace, [perf, "record", *options, "-p", str(running.pids[0])])
        sample = start_load(lab, running, effort, mode, arguments)
        stop_recording(record)
        script = [perf, "script", "-i", data, "--no-inline", "-F", "ip,sym,dso"]
        text = lab.run(running.namespace, script, READING)
    return heading("compiled", offload, mode, sample) + perf_report(list(stacks(text)))


def stop_recording(record: Process) -> None:
    """SIGINT is how perf is told to write what it has."""
    if record.alive():
        record.child.send_signal(signal.SIGINT)
        record.child.wait(READING)
    if "rror" in record.output():
        raise Unavailable(f"perf: {record.last_words()}")


def stacks(text: str) -> Iterator[list[Frame]]:
    """The samples of perf script, each from the innermost frame outwards."""
    for block in text.split("\n\n"):
        frames = [Frame(found[1], found[2]) for found in FRAME.finditer(block)]
        if frames:
            yield frames


@dataclass(frozen=True)
class Frame:
    symbol: str
    dso: str

    @property
    def function(self) -> str:
        """What mypyc has compiled, under its name in the sources; nothing for all else."""
        found = COMPILED.match(self.symbol)
        return found[1].replace("___", ".").strip("_") if found else ""


def perf_report(samples: list[list[Frame]]) -> str:
    """Three views: by kind of code, by the function that ran or called something foreign, and with all it calls."""
    if not samples:
        raise Unavailable("perf has seen nothing: does it have the right to (kernel.perf_event_paranoid)?")
    kinds: Counter[str] = Counter(kind(frames[0]) for frames in samples)
    own: Counter[str] = Counter()
    callees: dict[str, Counter[str]] = {}
    total: Counter[str] = Counter()
    for frames in samples:
        function, callee = innermost(frames)
        own[function] += 1
        callees.setdefault(function, Counter())[callee] += 1
        total.update({frame.function for frame in frames if frame.function})
    count = len(samples)
    return "\n".join(
        [
            f"\n{count} samples; the innermost code was",
            *(f"{share(n, count)}  {name}" for name, n in kinds.most_common()),
            "\nby function, with what it calls outside of ustack (itself: -)",
            *(f"{share(n, count)}  {name:52}  {what(callees[name], count)}" for name, n in own.most_common(FUNCTIONS)),
            "\nby function, with everything it calls",
            *(f"{share(n, count)}  {name}" for name, n in total.most_common(FUNCTIONS)),
        ]
    )


def share(part: int, whole: int) -> str:
    return f"{100 * part / whole:6.1f} %"


def what(callees: Counter[str], count: int) -> str:
    return ", ".join(f"{name} {100 * n / count:.1f}" for name, n in callees.most_common(CALLEES))


def innermost(frames: list[Frame]) -> tuple[str, str]:
    """The innermost function of ustack in a stack, and what it has called directly."""
    callee = "-"
    for frame in frames:
        if frame.function:
            return frame.function, callee
        if frame.symbol not in TRAMPOLINES:
            callee = frame.symbol
    return "(outside)", callee


def kind(frame: Frame) -> str:
    if "kernel" in frame.dso:
        return "kernel (system calls, copies, the TAP, and the host's own stack as far as it runs in ours)"
    if frame.function:
        return "ustack, compiled"
    if "mypyc" in frame.dso:
        return "mypyc's run-time support"
    if "python" in frame.dso or "/lib-dynload/" in frame.dso:
        return "the interpreter and its objects (allocation, dictionaries, calls, exceptions)"
    return "C library and others"


# -- cProfile


def with_cprofile(
    mode: str, arguments: list[str], python: str, offload: bool, cpus: set[int] | None, effort: Effort
) -> str:
    with Lab(cpus) as lab:
        data = str(lab.directory / "cprofile.data")
        running = Ustack("interpreted", python, offload, ["-m", "cProfile", "-o", data]).start(lab)
        await_stack(lab, running)
        sample = start_load(lab, running, effort, mode, arguments)
        running.processes[0].end()
        out = io.StringIO()
        try:
            pstats.Stats(data, stream=out).strip_dirs().sort_stats("tottime").print_stats(SYMBOLS)
        except (OSError, TypeError, EOFError) as reason:
            raise Unavailable(f"no profile: {running.processes[0].last_words()}") from reason
    return heading("interpreted", offload, mode, sample) + out.getvalue()
