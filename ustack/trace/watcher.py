"""Who watches with a filter."""

from __future__ import annotations

from mypy_extensions import mypyc_attr

from ustack.trace.bpf import Filter, Instruction
from ustack.trace.journey import TraceWatcher


@mypyc_attr(allow_interpreted_subclasses=True)
class FilterWatcher(TraceWatcher):
    """Of the packets that a classic BPF program accepts; subclasses say what becomes of their journeys.

    The program sees at most the first FRAME_MAX bytes of a frame, and the length of the whole.
    """

    def __init__(self, program: list[Instruction]) -> None:
        """EINVAL for a program that may not run."""
        checked = Filter(program)
        super().__init__(checked.looks_at_link_layer(), checked)
