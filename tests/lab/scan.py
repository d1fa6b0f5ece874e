"""What Lab must be the same as: a clock that asks, and polls, everybody in every round."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ustack.timer import NEVER

if TYPE_CHECKING:
    from ustack.device.cable import Pollable


class Scan:
    """The members' order is that of their adding, at each instant."""

    def __init__(self, now: int = 0) -> None:
        self.now = now
        self.members: list[Pollable] = []

    def add(self, *members: Pollable) -> None:
        self.members.extend(members)

    def next_deadline(self) -> int:
        return min((int(member.next_deadline()) for member in self.members), default=int(NEVER))

    def step(self) -> bool:
        deadline = self.next_deadline()
        if deadline == NEVER:
            return False
        self.now = max(self.now, deadline)
        for member in self.members:
            member.poll(self.now)
        return True

    def run_until(self, when: int) -> None:
        while self.next_deadline() <= when:
            self.step()
        self.now = max(self.now, when)
        for member in self.members:
            member.poll(self.now)
