"""The command line as iproute2 reads it: word by word, abbreviated at will, with its own words for mistakes."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import NoReturn

T = TypeVar("T")

#: Exit status of what the grammar does not allow (exit(-1) in iproute2), and of what cannot be done.
MISTAKE: Final = 255
FAILURE: Final = 1

U8: Final = 0xFF
U32: Final = 0xFFFF_FFFF

#: What strtoul(3) takes with base 0, and with base 16.
C_NUMBER: Final = re.compile(r"\s*([+-]?)(0[xX][0-9a-fA-F]+|0[0-7]*|[1-9][0-9]*)\Z")
C_HEXADECIMAL: Final = re.compile(r"\s*[+-]?(?:0[xX])?([0-9a-fA-F]+)\Z")


class Mistake(Exception):
    """The command ends here: what is said on stderr, and the exit status."""

    def __init__(self, text: str, status: int = MISTAKE) -> None:
        super().__init__(text)
        self.text: str = text
        self.status: int = status


class ShowUsage(Exception):
    """The command ends with its usage on stderr."""


def invalid(arg: str, text: str) -> NoReturn:
    """A value that does not do. ``text`` with the newline that iproute2 has in some of them."""
    raise Mistake(f'Error: argument "{arg}" is wrong: {text}\n')


def second_value(key: str, arg: str) -> NoReturn:
    """Something is said twice, by its name."""
    raise Mistake(f'Error: duplicate "{key}": "{arg}" is the second value.\n')


def garbage(key: str, arg: str) -> NoReturn:
    """A word without a name where its place is taken already."""
    raise Mistake(f'Error: either "{key}" is duplicate, or "{arg}" is a garbage.\n')


def no_device(name: str, status: int = FAILURE) -> NoReturn:
    raise Mistake(f'Cannot find device "{name}"\n', status)


def matches(word: str, *names: str) -> bool:
    """Whether ``word`` is one of ``names``, or the beginning of one."""
    return bool(word) and any(name.startswith(word) for name in names)


def choose(word: str, choices: Sequence[str]) -> str | None:
    """The first of ``choices`` that begins with ``word``."""
    return next((choice for choice in choices if matches(word, choice)), None)


def find_keyword(word: str, keywords: Sequence[tuple[str, bool, T]]) -> T | None:
    """What belongs to the first of ``keywords`` that ``word`` is, or, where that may be shortened, begins."""
    for name, short, what in keywords:
        if matches(word, name) if short else word == name:
            return what
    return None


def read_words(
    words: Words, reader: T, keywords: Sequence[tuple[str, bool, Callable[[T], None]]], other: Callable[[str], None]
) -> None:
    """Hand ``reader`` to what belongs to each of ``words``, which may read on, and to ``other`` those that are none."""
    while words:
        word = words.take()
        read = find_keyword(word, keywords)
        if read is None:
            other(word)
        else:
            read(reader)


def first_verb(program: str, subject: str, argv: Sequence[str], verbs: Sequence[str]) -> tuple[str, Words]:
    """What is to be done with ``subject``, one of ``verbs``, and the words that follow; nothing said is show."""
    if not argv:
        return "show", Words([])
    verb = choose(argv[0], verbs)
    if verb is None:
        raise Mistake(f'Command "{argv[0]}" is unknown, try "{program} {subject} help".\n')
    if verb == "help":
        raise ShowUsage
    return verb, Words(argv[1:])


class Words:
    """The words of a command that are still to be read."""

    def __init__(self, words: Sequence[str]) -> None:
        self._words: list[str] = list(words)
        self._at: int = 0

    def __bool__(self) -> bool:
        return self._at < len(self._words)

    def __len__(self) -> int:
        return len(self._words) - self._at

    def peek(self) -> str:
        """The next word, or "" where there is none."""
        return self._words[self._at] if self else ""

    def take(self) -> str:
        """The next word, which there must be."""
        if not self:
            raise Mistake('Command line is not complete. Try option "help"\n')
        self._at += 1
        return self._words[self._at - 1]

    def skip(self, word: str) -> bool:
        """Whether ``word`` comes next; it is read then, and another must follow."""
        if self.peek() != word or not self:
            return False
        self._at += 1
        if not self:
            self.take()
        return True

    def rest(self) -> list[str]:
        return self._words[self._at :]


# -- numbers


def unsigned(text: str, limit: int = U32) -> int | None:
    """A number as C writes it, from 0 to ``limit``."""
    found = C_NUMBER.match(text)
    if found is None:
        return None
    sign, digits = found.groups()
    value = int(digits, 8 if digits.isdigit() and digits[0] == "0" else 0)
    if sign == "-" and value:
        return None
    return value if value <= limit else None


def hexadecimal(text: str, limit: int) -> int | None:
    """A number in base 16, with or without 0x."""
    found = C_HEXADECIMAL.match(text)
    value = -1 if found is None else int(found.group(1), 16)
    return value if 0 <= value <= limit else None


def number(text: str, complaint: str, limit: int = U32) -> int:
    """The same as unsigned, which it must be."""
    return known(unsigned(text, limit), text, complaint)


def known(value: int | None, text: str, complaint: str) -> int:
    """``value``, which is what ``text`` stands for; None is a mistake."""
    return invalid(text, complaint) if value is None else value


def switch(key: str, text: str) -> bool:
    """on or off."""
    if text not in ("on", "off"):
        raise Mistake(f'Error: argument of "{key}" must be "on" or "off", not "{text}"\n', FAILURE)
    return text == "on"
