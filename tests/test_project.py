"""The project's own shape: which form of ustack is tested, what may lie in the tree, how long things may get."""

from __future__ import annotations

import ast
import os
import statistics
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import pytest

import ustack.packet

TREE = Path(__file__).resolve().parent.parent
ROOMS = TREE / "ustack"

MEDIAN_LINES = 10
USUAL_LINES = 35  # nine functions of ten
MOST_LINES = 80
FILE_LINES = 650


@pytest.fixture(scope="module")
def sources() -> list[Path]:
    if not ROOMS.is_dir():
        pytest.skip("the tests stand alone here, beside no sources")
    return sorted(ROOMS.rglob("*.py"))


def function_lengths(source: Path) -> list[tuple[int, str]]:
    return [
        ((node.end_lineno or node.lineno) - node.lineno + 1, f"{source.relative_to(TREE)}:{node.lineno} {node.name}")
        for node in ast.walk(ast.parse(source.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]


def test_the_form_that_was_asked_for_is_the_one_under_test() -> None:
    """tools/test says which; compiled modules must be the installed ones, never some that lie beside the sources."""
    expected = os.environ.get("USTACK_EXPECT")
    if expected is None:
        pytest.skip("USTACK_EXPECT is not set: any form will do")
    file = ustack.packet.__file__
    assert ("compiled" if file.endswith(tuple(EXTENSION_SUFFIXES)) else "interpreted") == expected, file
    assert file.startswith(str(TREE)) == (expected == "interpreted"), file


def test_no_compiled_module_lies_in_the_tree() -> None:
    """Python would import it instead of the source beside it. .venv is not of the tree."""
    folders = [folder for folder in TREE.iterdir() if folder.is_dir() and not folder.name.startswith(".")]
    stray = [found for folder in folders for suffix in ("so", "pyd", "c.o") for found in folder.rglob(f"*.{suffix}")]
    assert stray + list(TREE.glob("*.so")) == []
    assert not (TREE / "build").exists()


def test_functions_are_short(sources: list[Path]) -> None:
    lengths = sorted(row for source in sources for row in function_lengths(source))
    assert [row for row in lengths if row[0] > MOST_LINES] == []
    assert statistics.median(length for length, _ in lengths) <= MEDIAN_LINES
    assert lengths[len(lengths) * 9 // 10][0] <= USUAL_LINES


def test_files_have_one_job(sources: list[Path]) -> None:
    assert [
        (source.name, lines) for source in sources if (lines := len(source.read_text().splitlines())) > FILE_LINES
    ] == []


def test_every_room_has_its_tests(sources: list[Path]) -> None:
    """tests/ mirrors ustack/."""
    parts = [source.relative_to(ROOMS).parts for source in sources if source.name != "__init__.py"]
    rooms = {path[0] for path in parts if len(path) > 1}
    assert rooms <= {folder.name for folder in (TREE / "tests").iterdir()}
