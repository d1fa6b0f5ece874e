"""What the READMEs and the drawings say, against the code: names, files, options, examples."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from xml.etree import ElementTree

import click
import pytest

from ustack.cli.main import COMMANDS
from ustack.cli.up import up
from ustack.io.config import Config, parse
from ustack.tcp.states import TRANSITIONS

TREE = Path(__file__).resolve().parent.parent
ROOMS = TREE / "ustack"
README = (TREE / "README.md").read_text()
SVG = "{http://www.w3.org/2000/svg}"
#: Boxes of the drawing that are no function of the kernel's.
NOT_LINUX = {"os.read", "os.writev", "or a cable"}
#: The kernel's sources, and what a command makes.
ELSEWHERE = {"net/ipv4/", ".venv/"}
HOOKS = {"PRE_ROUTING", "LOCAL_IN", "FORWARD", "LOCAL_OUT", "POST_ROUTING"}


@pytest.fixture(scope="module")
def floors() -> str:
    """ustack/README.md."""
    if not ROOMS.is_dir():
        pytest.skip("the tests stand alone here, beside no sources")
    return (ROOMS / "README.md").read_text()


@pytest.fixture(scope="module")
def drawing(floors: str) -> ElementTree.Element:
    return ElementTree.parse(ROOMS / "path.svg").getroot()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def quoted(text: str) -> list[str]:
    return re.findall(r"`([^`]+)`", text)


def section(text: str, title: str) -> str:
    """What stands under ``## title``."""
    return text.split(f"\n## {title}\n")[1].split("\n## ")[0]


def rows(text: str) -> list[list[str]]:
    """The cells of every row of every table, without heads."""
    lines = [line for line in text.splitlines() if line.startswith("| ") and not line.startswith("| Linux |")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def definitions(file: Path) -> set[str]:
    """Functions as they are, methods as Class.method."""
    names = set()
    for node in ast.parse(file.read_text()).body:
        if isinstance(node, ast.FunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.ClassDef):
            names |= {f"{node.name}.{inner.name}" for inner in node.body if isinstance(inner, ast.FunctionDef)}
    return names


# -- ustack/README.md


def test_every_function_of_the_path_is_where_the_tables_say(floors: str) -> None:
    table = rows(section(floors, "The path"))
    assert len(table) > 70
    wrong = []
    for linux, here, file in table:
        found = set().union(*(definitions(ROOMS / name) for name in quoted(file)))
        wrong += [f"{linux}: {name} is not in {file}" for name in quoted(here) if name not in found]
    assert wrong == []


def test_the_path_names_no_file_for_nothing(floors: str) -> None:
    for linux, here, file in rows(section(floors, "The path")):
        names = set(quoted(here))
        assert names, linux
        assert [name for name in quoted(file) if not names & definitions(ROOMS / name)] == [], linux


def test_every_file_has_its_line(floors: str) -> None:
    listed = [quoted(row[0])[0] for row in rows(section(floors, "Rooms and files")) if ".py" in row[0]]
    files = {
        str(file.relative_to(ROOMS))
        for file in ROOMS.rglob("*.py")
        if file.name not in ("__init__.py", "__main__.py") and file.parent != ROOMS / "cli"
    }
    assert set(listed) == files
    assert len(listed) == len(files)


def test_the_arrows_are_those_that_the_linter_checks(floors: str) -> None:
    told = [
        set(line.split())
        for line in section(floors, "The arrows").splitlines()
        if line.startswith("    ") and line.strip()
    ]
    contracts = tomllib.loads((TREE / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    checked = [set(re.findall(r"\w+", layer)) for layer in contracts[0]["layers"]]
    assert told == [layer for layer in checked if layer != {"__main__"}]


def test_every_path_that_is_named_exists(floors: str) -> None:
    for text in (floors, README):
        named = re.findall(r"`((?:[\w.]+/)+[\w.-]*)`", text) + re.findall(r"\]\(([\w./]+)\)", text)
        assert named
        missing = [name for name in named if not ((TREE / name).exists() or (ROOMS / name).exists())]
        assert [name for name in missing if name not in ELSEWHERE] == []


# -- the drawings


def test_the_drawing_of_the_path_names_files_that_exist(drawing: ElementTree.Element) -> None:
    text = " ".join(drawing.itertext())
    files = set(re.findall(r"\b((?:\w+/)?\w+\.py)\b", text))
    assert len(files) > 25
    assert [name for name in files if not (ROOMS / name).is_file()] == []


def test_the_drawing_of_the_path_has_the_tables_names(drawing: ElementTree.Element, floors: str) -> None:
    boxes = {text.text or "" for text in drawing.iter(f"{SVG}text") if text.get("class") == "fn"}
    assert boxes >= HOOKS
    linux = {name for row in rows(section(floors, "The path")) for name in quoted(row[0])}
    assert boxes - HOOKS - NOT_LINUX <= linux


def test_no_box_of_the_drawing_lies_on_another(drawing: ElementTree.Element) -> None:
    boxes = [
        tuple(float(rect.get(name, "0")) for name in ("x", "y", "width", "height"))
        for group in drawing.iter(f"{SVG}g")
        if group.get("class")
        for rect in group.findall(f"{SVG}rect")
    ]
    assert len(boxes) > 35
    for at, (x, y, width, height) in enumerate(boxes):
        for x2, y2, width2, height2 in boxes[at + 1 :]:
            assert x + width <= x2 or x2 + width2 <= x or y + height <= y2 or y2 + height2 <= y


def test_the_drawing_of_the_states_has_the_tables_arrows(floors: str) -> None:
    """RFC 9293 figure 5; tools/draw-states makes it anew."""
    drawn = []
    for group in ElementTree.parse(ROOMS / "tcp" / "states.svg").iter(f"{SVG}g"):
        if group.get("class") == "edge":
            source, target = group.findtext(f"{SVG}title", "").split("->")
            drawn.append((source, group.findtext(f"{SVG}text", "").strip(), target))
    table = {(s.name, event.name, t.name) for s, row in TRANSITIONS.items() for event, t in row.items()}
    assert set(drawn) == table
    assert len(drawn) == len(table)


def stations(file: Path) -> list[str]:
    """What a packet's way leads past: hosts, and functions in order."""
    if not file.is_file():
        pytest.skip("the tests stand alone here, beside no drawings")
    return [
        text.text or "" for text in ElementTree.parse(file).iter(f"{SVG}text") if text.get("class") in ("host", "fn")
    ]


def test_the_drawing_of_the_muffins_way_is_what_its_command_draws(tmp_path: Path) -> None:
    """ustack lab labs/muffin.toml --trace udp --svg labs/muffin.svg makes it anew."""
    there = stations(TREE / "labs" / "muffin.svg")
    new = tmp_path / "new.svg"
    command = [sys.executable, "-m", "ustack", "lab", "-q", str(TREE / "labs" / "muffin.toml"), "--trace", "udp"]
    subprocess.run([*command, "--svg", str(new)], check=True, capture_output=True, timeout=50)
    assert stations(new) == there


# -- README.md


def test_every_python_example_compiles() -> None:
    examples = blocks("python")
    assert len(examples) == 4
    for example in examples:
        compile(example, "README.md", "exec")


def test_the_simulation_runs_as_it_stands(capsys: pytest.CaptureFixture[str]) -> None:
    """And says the same thing twice: virtual time, seeded cables."""
    (example,) = [text for text in blocks("python") if "Lab()" in text]
    for _ in range(2):
        exec(compile(example, "README.md", "exec"), {})
    first, second = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"\d\.\d{3} s of virtual time, \d+ frames lost", first)
    assert first == second


def test_the_laboratory_built_by_a_program_runs_as_it_stands(capsys: pytest.CaptureFixture[str]) -> None:
    (example,) = [text for text in blocks("python") if "Network(" in text]
    exec(compile(example, "README.md", "exec"), {})
    assert re.fullmatch(r" +0\.\d{6}  a: answered: b'muffin'\n", capsys.readouterr().out)


def test_the_configurations_are_ones() -> None:
    examples = blocks("toml")
    assert len(examples) == 2
    for example in examples:
        assert parse(example.encode(), "README.md") != Config()


def test_the_table_of_options_is_complete() -> None:
    told = re.findall(r"^\| `(--[a-z-]+)", README, re.MULTILINE)
    assert told == [option.opts[0] for option in up.params if isinstance(option, click.Option)]


def test_every_command_is_one() -> None:
    named = set(re.findall(r"^    ustack (\w+)", README, re.MULTILINE)) | set(re.findall(r"`ustack (\w+)", README))
    assert named - {"COMMAND"} <= set(COMMANDS)
    assert named >= {"up", "down", "status", "shell", "ping", "nc"}
