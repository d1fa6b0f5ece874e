"""Words, abbreviations and numbers, as iproute2 takes them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ustack.cli.ip.words import (
    Mistake,
    Words,
    choose,
    garbage,
    hexadecimal,
    invalid,
    matches,
    no_device,
    number,
    second_value,
    switch,
    unsigned,
)

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", 0), ("7", 7), ("+7", 7), (" 7", 7), ("-0", 0), ("010", 8), ("0x10", 16), ("0XfF", 255),
        ("4294967295", 0xFFFF_FFFF), ("4294967296", None), ("-1", None), ("", None), ("7 ", None), ("7x", None),
        ("08", None), ("0x", None), ("1e3", None), ("１", None),
    ],
)  # fmt: skip
def test_numbers_are_those_of_strtoul(text: str, value: int | None) -> None:
    assert unsigned(text) == value


def test_numbers_have_a_limit() -> None:
    assert unsigned("255", 255) == 255 and unsigned("256", 255) is None
    assert hexadecimal("10", 255) == 16 and hexadecimal("0x10", 255) == 16 and hexadecimal("300", 255) is None
    assert hexadecimal("g", 255) is None
    assert number("5", "wrong") == 5
    with pytest.raises(Mistake) as caught:
        number("many", '"mtu" value is invalid\n')
    assert caught.value.text == 'Error: argument "many" is wrong: "mtu" value is invalid\n\n'
    assert caught.value.status == 255


@given(st.integers(0, 0xFFFF_FFFF))
@settings(max_examples=50)
def test_numbers_in_three_bases(value: int) -> None:
    assert unsigned(str(value)) == unsigned(hex(value)) == unsigned(f"0{value:o}") == value


@given(st.text(max_size=12))
@settings(max_examples=200)
def test_no_text_raises(text: str) -> None:
    unsigned(text)
    hexadecimal(text, 255)
    matches(text, "route")


def test_abbreviations() -> None:
    assert matches("r", "route") and matches("route", "route") and matches("m", "address", "monitor")
    assert not matches("", "route") and not matches("routes", "route") and not matches("R", "route")
    assert choose("s", ("list", "show", "lst")) == "show"
    assert choose("l", ("list", "show", "lst")) == "list"
    assert choose("ls", ("list", "show", "lst")) == "lst"
    assert choose("x", ("list", "show")) is None


def test_words_are_taken_one_by_one() -> None:
    words = Words(["a", "lock", "5"])
    assert words and len(words) == 3 and words.peek() == "a"
    assert not words.skip("lock") and words.take() == "a" and words.skip("lock")
    assert words.rest() == ["5"] and words.take() == "5"
    assert not words and words.peek() == ""
    with pytest.raises(Mistake, match="Command line is not complete"):
        words.take()
    with pytest.raises(Mistake, match="Command line is not complete"):
        Words(["lock"]).skip("lock")


def test_what_is_said_of_mistakes() -> None:
    calls: list[tuple[Callable[[], object], str, int]] = [
        (lambda: invalid("x", "bad"), 'Error: argument "x" is wrong: bad\n', 255),
        (lambda: second_value("mtu", "5"), 'Error: duplicate "mtu": "5" is the second value.\n', 255),
        (lambda: garbage("to", "x"), 'Error: either "to" is duplicate, or "x" is a garbage.\n', 255),
        (lambda: no_device("x"), 'Cannot find device "x"\n', 1),
        (lambda: switch("arp", "x"), 'Error: argument of "arp" must be "on" or "off", not "x"\n', 1),
    ]
    for call, text, status in calls:
        with pytest.raises(Mistake) as caught:
            call()
        assert (caught.value.text, caught.value.status) == (text, status)
    assert switch("arp", "on") and not switch("arp", "off")
