"""requirements.toml against RFC 9293's appendix B and against the tests: every row, every name, nothing empty."""

from __future__ import annotations

import ast
import tomllib
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).resolve().parent
ROWS: list[dict[str, Any]] = tomllib.loads((HERE / "requirements.toml").read_text())["requirement"]

#: Appendix B: the table's groups and the requirements of each, in its order; what stands twice there stands twice here.
APPENDIX_B = {
    "PUSH flag": "MAY-16 SHLD-27 MAY-15 MUST-60 MUST-61 MAY-17 SHLD-28",
    "Window": "MUST-1 REC-1 SHLD-14 SHLD-15 SHLD-16 SHLD-17 MUST-34 MAY-8 MUST-35 MUST-36 SHLD-29 SHLD-30 MUST-37"
    " MAY-7 MUST-66",
    "Urgent Data": "MUST-30 MUST-62 MUST-31 MUST-32 MUST-33 SHLD-13",
    "TCP Options": "MUST-4 MUST-5 MUST-6 MUST-68 MUST-7 MUST-64 MUST-14 SHLD-5 SHLD-5 MAY-3 MUST-15 MUST-15 MUST-16"
    " SHLD-6 MUST-65 MUST-67 MUST-69",
    "TCP Checksums": "MUST-2 MUST-3",
    "ISN Selection": "MUST-8 SHLD-1 MUST-9",
    "Opening Connections": "MUST-10 MUST-11 MUST-41 MUST-42 MUST-44 MUST-45 MUST-46 MUST-57",
    "Closing Connections": "SHLD-2 MUST-12 MAY-1 SHLD-3 MUST-13 MAY-2 SHLD-4",
    "Retransmissions": "MUST-19 MAY-4 MUST-18",
    "Generating ACKs": "MUST-58 SHLD-31 MUST-59 MAY-13 SHLD-18 MUST-40 SHLD-19 MUST-39",
    "Sending Data": "MUST-49 MUST-38 SHLD-7 MUST-17",
    "Connection Failures": "MUST-20 MUST-20 MUST-21 SHLD-9 SHLD-10 SHLD-11 MUST-22 MUST-23",
    "Send Keep-alive Packets": "MAY-5 MUST-24 MUST-25 MUST-26 MUST-27 MUST-28 MUST-29 SHLD-12 MAY-6",
    "IP Options": "MUST-50 MAY-10 MAY-11",
    "Source Route": "MUST-51 MUST-52 MUST-53 SHLD-24",
    "Receiving ICMP Messages from IP": "MUST-54 SHLD-25 MUST-56 SHLD-26 MUST-55 MUST-56 MUST-56",
    "Address Validation": "MUST-46 MUST-63",
}
#: What an entry may say, beside its group, id and text; and what keeps a test from showing anything.
ANSWERS = {"tests", "differs", "not_applicable"}
IDLE = {"skip", "skipif", "importorskip", "xfail"}


@cache
def known_tests(name: str) -> dict[str, set[str]]:
    """The tests of a file here, and the words of their marks and bodies; the file is read, not run."""
    tree = ast.parse((HERE / name).read_text())
    aliases = {
        target.id: words(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    found = {}
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            said = words(node) | aliases.get("pytestmark", set())
            found[node.name] = said.union(*(aliases.get(word, set()) for word in said))
    return found


def words(tree: ast.AST) -> set[str]:
    """Every name and attribute in it."""
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    return names | {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}


def name_of(row: dict[str, Any]) -> str:
    return f"{row['group']}: {row['id']}: {row['text']}"


def test_every_row_of_the_appendix_has_its_entry_in_its_order() -> None:
    told: dict[str, list[str]] = {}
    for row in ROWS:
        told.setdefault(row["group"], []).append(row["id"])
    assert told == {group: ids.split() for group, ids in APPENDIX_B.items()}
    assert len(ROWS) == 113


def test_no_two_entries_are_alike() -> None:
    assert [name for name, count in Counter(map(name_of, ROWS)).items() if count > 1] == []


@pytest.mark.parametrize("row", ROWS, ids=name_of)
def test_an_entry_says_what_it_is_about_and_answers(row: dict[str, Any]) -> None:
    """Tests that show it, or a reason why it is not for us; where we differ, why, and tests that show how."""
    answers = set(row) & ANSWERS
    assert answers and set(row) - answers == {"group", "id", "text"}
    assert all(row[answer] for answer in answers) and len(row["text"]) > 10
    assert answers in ({"tests"}, {"not_applicable"}, {"differs"}, {"differs", "tests"})
    for answer in answers - {"tests"}:
        assert isinstance(row[answer], str) and len(row[answer]) > 20


@pytest.mark.parametrize("row", [row for row in ROWS if "tests" in row], ids=name_of)
def test_every_test_that_is_named_exists_and_runs(row: dict[str, Any]) -> None:
    assert len(set(row["tests"])) == len(row["tests"])
    for node in row["tests"]:
        file, _, test = node.partition("::")
        assert (HERE / file).is_file(), node
        found = known_tests(file)
        assert test in found, f"{node} does not exist"
        assert not found[test] & IDLE, f"{node} may not run"


def test_a_must_is_never_left_out_without_a_test() -> None:
    """What RFC 9293 insists on is either shown or shown to be otherwise, but for IPv6."""
    bare = [row for row in ROWS if row["id"].startswith("MUST") and "tests" not in row]
    assert all("IPv6" in row["text"] for row in bare), list(map(name_of, bare))
