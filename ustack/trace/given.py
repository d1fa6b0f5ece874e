"""What a step is told before anybody has asked for its packet: values, put into words only if a journey takes them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mypy_extensions import i64

if TYPE_CHECKING:
    from ustack.trace.journey import Facts


class Given:
    """Values as they were when the step was taken; they must not change afterwards."""

    def facts(self) -> Facts:
        raise NotImplementedError


class Numbers(Given):
    """One number with its name, or two."""

    def __init__(self, name: str, value: i64, other_name: str = "", other: i64 = 0) -> None:
        self.name: str = name
        self.value: i64 = value
        self.other_name: str = other_name
        self.other: i64 = other

    def facts(self) -> Facts:
        facts: Facts = {self.name: self.value}
        if self.other_name:
            facts[self.other_name] = self.other
        return facts
