"""The judge over two routers: frame by frame, what each sends for it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from tests.oracle.judge import Difference, Judge
from tests.oracle.routers import KernelRouter, OurRouter, comparable
from tests.oracle.shrink import shrink
from tests.oracle.world import World

if TYPE_CHECKING:
    from tests.oracle.frames import Frame


def parted(world: World, frames: list[Frame]) -> tuple[int, Difference] | None:
    """The first frame, by its place, that is not answered the same; -1 for a command."""
    kernel, ours = KernelRouter(world), OurRouter(world)
    try:
        difference = Judge(world, kernel.kernel, ours.ours).commands(world.commands)
        if difference is not None:
            return -1, difference
        ours.settle()
        for at, frame in enumerate(frames):
            sent = kernel.send(frame)
            if sent is None:
                continue
            theirs, mine = comparable(sent, frame.sourced), comparable(ours.send(frame), frame.sourced)
            if theirs != mine:
                what = f"frame {at} into {frame.ifindex}: {frame.tag}: {frame.data.hex()}"
                texts = "\n".join(theirs) or "nothing", "\n".join(mine) or "nothing"
                return at, Difference(world, what, *texts, world.commands)
    finally:
        kernel.close()
    return None


def judge_forwarding(world: World, frames: list[Frame]) -> Difference | None:
    """Where the two part first, from the fewest commands and that frame alone if that is enough.

    All hosts stay known, so that nobody is asked for; what is told leaves them out.
    """
    found = parted(world, frames)
    if found is None or found[0] < 0:
        return found and found[1]
    at, difference = found
    best = [difference]
    neighbours = [command for command in world.commands if command.startswith("neigh ")]
    others = [command for command in world.commands if command not in set(neighbours)]

    def differs(commands: list[str]) -> bool:
        again = parted(World(world.seed, world.devices, [*commands, *neighbours]), [frames[at]])
        if again is None or again[0] < 0:
            return False
        best.append(replace(again[1], commands=commands))
        return True

    if differs(others):
        shrink(others, differs)
    return best[-1]
