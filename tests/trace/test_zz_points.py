"""Every point has its place in the sources, exactly one; and every point is passed by some packet of these tests."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from tests.trace.watch import PASSED
from ustack.trace.points import FLOORS, Point

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE: Final = Path(__file__).resolve().parent
ROOMS: Final = HERE.parent.parent / "ustack"

#: Who shows steps may know some by name.
SHOWN: Final = ("io/trace_", "cli/")
#: What no packet of these tests passes, and why.
NOT_PASSED: Final[dict[Point, str]] = {}


def mentions(node: ast.AST, within: str = "") -> Iterator[tuple[str, str]]:
    """(name of the point, function) of every ``Point.NAME`` below ``node``."""
    for child in ast.iter_child_nodes(node):
        name = within
        if isinstance(child, ast.ClassDef | ast.FunctionDef):
            name = f"{within}.{child.name}" if within else child.name
        if isinstance(child, ast.Attribute) and isinstance(child.value, ast.Name) and child.value.id == "Point":
            yield child.attr, within
        yield from mentions(child, name)


def mentioned() -> dict[str, list[tuple[str, str]]]:
    """Where each point is mentioned by those who take steps: (file, function)."""
    places: dict[str, list[tuple[str, str]]] = {}
    for source in sorted(ROOMS.rglob("*.py")):
        file = source.relative_to(ROOMS).as_posix()
        if not file.startswith(SHOWN):
            for name, function in mentions(ast.parse(source.read_text())):
                places.setdefault(name, []).append((file, function))
    return places


def test_every_point_is_where_its_row_says_and_nowhere_else() -> None:
    if not ROOMS.is_dir():
        pytest.skip("the tests stand alone here, beside no sources")
    places = mentioned()
    rows = {point.name: [(point.file, point.function)] for point in Point}
    wrong = {name: places.get(name, []) for name, row in rows.items() if places.get(name, []) != row}
    assert wrong == {}
    assert set(places) - set(Point.__members__) == set()


def test_rows_are_of_a_known_floor_and_each_its_own() -> None:
    """Equal rows would be one point under two names."""
    assert {point.floor for point in Point} <= set(FLOORS)
    assert list(Point.__members__) == [point.name for point in Point]


def test_every_point_is_passed(request: pytest.FixtureRequest) -> None:
    """By the packets of this folder's tests, which have run before this one; what is not is named with the reason."""
    here = {item.path for item in request.session.items if item.path.parent == HERE}
    if here != set(HERE.glob("test_*.py")):
        pytest.skip("only where all tests of this folder run")
    if "PYTEST_XDIST_WORKER" in os.environ:
        return in_one_process()  # each worker has run a part of them
    missing = {point.name for point in Point} - {point.name for point in PASSED}
    assert sorted(missing) == sorted(point.name for point in NOT_PASSED)


def in_one_process() -> None:
    """This folder's tests once more, without workers that share them: the last of them is the one above."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    command = [sys.executable, "-m", "pytest", "-p", "no:xdist", "-p", "no:cacheprovider", "-q", str(HERE)]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout
