"""Where in our own sources a point is: the line that takes the step, found in the file that lies beside the module.

The sources are installed beside the compiled modules too. Where they are not, there are no lines to tell.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final, NamedTuple

import ustack
from ustack.trace.points import Point

_MENTION: Final = re.compile(r"\bPoint\.([A-Z0-9_]+)\b")
_DEFINITION: Final = re.compile(r"( *)(?:class|def) (\w+)")


class Place(NamedTuple):
    """A point, with everything there is to say of it."""

    linux: str  #: Linux's function
    floor: str  #: "" for a point that is unknown here: the daemon may be of another version
    function: str  #: ours
    file: str  #: of it, below ustack/
    line: int  #: where the step is taken; 0 if that cannot be told
    defined: int  #: where the function begins; the same

    def where(self) -> str:
        """``ipv4/output.py:123``; "" without a line."""
        return f"{self.file}:{self.line}" if self.line else ""


class Sources:
    """Reads every file once, and only those it is asked about."""

    def __init__(self, rooms: Path | None = None) -> None:
        """``rooms``: the folder ustack/, if not that of this very package."""
        self._rooms: Path = Path(ustack.__file__).parent if rooms is None else rooms
        self._places: dict[str, Place] = {}
        self._lines: dict[str, tuple[dict[str, int], dict[str, int]]] = {}

    def place(self, name: str) -> Place:
        """Of the point called ``name``."""
        if name not in self._places:
            self._places[name] = self._find(name)
        return self._places[name]

    def _find(self, name: str) -> Place:
        if name not in Point.__members__:
            return Place(name.lower(), "", "", "", 0, 0)
        point = Point[name]
        if point.file not in self._lines:
            self._lines[point.file] = self._read(point.file)
        mentions, definitions = self._lines[point.file]
        defined = definitions.get(point.function, 0)
        return Place(point.linux, point.floor, point.function, point.file, mentions.get(name, defined), defined)

    def _read(self, file: str) -> tuple[dict[str, int], dict[str, int]]:
        try:
            return numbered((self._rooms / file).read_text(encoding="utf-8"))
        except (OSError, UnicodeError):
            return {}, {}


def numbered(text: str) -> tuple[dict[str, int], dict[str, int]]:
    """The lines, from 1, on which points are mentioned first, and those on which functions begin (Class.method)."""
    mentions: dict[str, int] = {}
    definitions: dict[str, int] = {}
    outer: list[tuple[int, str]] = []  # what the line is in, with its indentation
    for number, line in enumerate(text.splitlines(), 1):
        for name in _MENTION.findall(line):
            mentions.setdefault(name, number)
        found = _DEFINITION.match(line)
        if found is not None:
            depth = len(found[1])
            outer = [(at, name) for at, name in outer if at < depth]
            outer.append((depth, found[2]))
            definitions.setdefault(".".join(name for _, name in outer), number)
    return mentions, definitions
