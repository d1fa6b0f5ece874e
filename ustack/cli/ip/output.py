"""What is printed: words, or JSON with iproute2's keys and in its layout."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from typing import TextIO

INDENT: Final = "    "


class Printer:
    """Every thing that is said is said once, both as words and as a key with a value; one of them is printed."""

    def __init__(self, out: TextIO, *, as_json: bool = False, pretty: bool = False, oneline: bool = False) -> None:
        self.out: TextIO = out
        self.as_json: bool = as_json
        self.pretty: bool = pretty
        self.oneline: bool = oneline
        self._open: list[Any] = []
        self._records: int = 0

    # -- the whole

    def begin(self) -> None:
        """A list of records begins."""
        self._records = 0
        if self.as_json:
            self.out.write("[ " if self.pretty else "[")

    def end(self) -> None:
        if self.as_json:
            self.out.write(" ]\n" if self.pretty and self._records else "]\n")

    # -- what a record says

    def put(self, key: str, value: object, text: str) -> None:
        """``key`` with ``value``, or the words."""
        if self.as_json:
            self._open[-1][key] = value
        else:
            self.out.write(text)

    def text(self, text: str) -> None:
        """Words that JSON does not have."""
        if not self.as_json:
            self.out.write(text)

    def data(self, key: str, value: object) -> None:
        """A value that the words do not have."""
        if self.as_json:
            self._open[-1][key] = value

    def newline(self) -> None:
        """A new line inside a record, which -o writes as a backslash."""
        if not self.as_json:
            self.out.write("\\" if self.oneline else "\n")

    # -- nesting

    def open(self, key: str = "") -> None:
        """An object: a record, the value of ``key``, or an item of the list that is open."""
        if self.as_json:
            self._nest(key, {})

    def open_list(self, key: str) -> None:
        if self.as_json:
            self._nest(key, [])

    def close(self) -> None:
        """The end of the object or list that was opened last; a record is printed now."""
        if not self.as_json:
            return
        done = self._open.pop()
        if not self._open:
            self._record(done)

    def _nest(self, key: str, inner: object) -> None:
        if self._open:
            outer = self._open[-1]
            if isinstance(outer, list):
                outer.append(inner)
            else:
                outer[key] = inner
        self._open.append(inner)

    def _record(self, record: object) -> None:
        if self._records:
            self.out.write(",")
        self._records += 1
        self.out.write(pretty_json(record, 1) if self.pretty else compact_json(record))


def compact_json(value: object) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def pretty_json(value: object, depth: int) -> str:
    """Members in lines of their own, lists in one; ``depth`` is how far in the closing brace stands."""
    if isinstance(value, dict):
        inside = ",\n".join(
            f"{INDENT * (depth + 1)}{compact_json(key)}: {pretty_json(member, depth + 1)}"
            for key, member in value.items()
        )
        return f"{{\n{inside}\n{INDENT * depth}}}" if value else "{}"
    if isinstance(value, list):
        return f"[ {','.join(pretty_json(item, depth + 1) for item in value)} ]" if value else "[ ]"
    return compact_json(value)
