"""vagrant/: the scripts as far as they go without a machine; vagrant/run-offline goes all the way."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Final

import pytest

TREE: Final = Path(__file__).resolve().parents[2]
FOLDER: Final = TREE / "vagrant"
SCRIPTS: Final = ("make-box", "provision.sh", "run-offline", "test-guest")

if not FOLDER.is_dir():
    pytest.skip("the tests stand alone here, beside no vagrant/", allow_module_level=True)


def pretend(folder: Path, name: str, script: str) -> None:
    """A program that comes first in PATH and does this instead."""
    program = folder / name
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)


def run(name: str, *arguments: str, path: Path | None = None, **variables: str) -> tuple[int, str]:
    """(status, all that it says) of a script, which finds the programs in ``path`` first."""
    environment = os.environ | variables
    if path is not None:
        environment["PATH"] = f"{path}:{environment['PATH']}"
    done = subprocess.run(
        [str(FOLDER / name), *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=50,
        check=False,
        env=environment,
    )
    return done.returncode, done.stdout


# -- what they say


@pytest.mark.parametrize("name", SCRIPTS)
def test_bash_can_read_it(name: str) -> None:
    assert os.access(FOLDER / name, os.X_OK)
    subprocess.run(["bash", "-n", str(FOLDER / name)], check=True)


def test_shellcheck_has_no_warning() -> None:
    if shutil.which("shellcheck") is None:
        pytest.skip("shellcheck is not installed")
    scripts = [str(FOLDER / name) for name in SCRIPTS]
    done = subprocess.run(["shellcheck", "-S", "warning", *scripts], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("name", "arguments"),
    [("make-box", []), ("make-box", ["--what"]), ("provision.sh", ["what"]), ("run-offline", ["--what"])],
)
def test_who_calls_it_wrong_is_told_how(name: str, arguments: list[str]) -> None:
    status, said = run(name, *arguments)
    assert status == 2 and said.count("\n") > 3, said


@pytest.mark.parametrize("name", ["run-offline", "test-guest"])
def test_help(name: str) -> None:
    status, said = run(name, "--help")
    assert status == 0 and "tests" in said


@pytest.mark.parametrize(
    ("name", "arguments"), [("make-box", ["box"]), ("provision.sh", []), ("run-offline", []), ("test-guest", [])]
)
def test_only_root_can_run_it(name: str, arguments: list[str], tmp_path: Path) -> None:
    pretend(tmp_path, "id", "echo 1000")
    status, said = run(name, *arguments, path=tmp_path)
    assert (status, said.strip().endswith("must be run as root")) == (1, True), said


def test_what_python_needs_there() -> None:
    project = tomllib.loads((TREE / "pyproject.toml").read_text())["project"]
    wanted = project["dependencies"] + project["optional-dependencies"]["test"]
    assert run("provision.sh", "--requirements", USTACK_SOURCE=str(TREE), USTACK_PYTHON=sys.executable) == (
        0,
        "\n".join(wanted) + "\n",
    )


def test_packages_that_are_not_to_be_had_are_an_error(tmp_path: Path) -> None:
    """Said at once; nothing was run, and that is no success."""
    pretend(tmp_path, "id", "echo 0")
    pretend(tmp_path, "dpkg-query", "exit 1")
    pretend(tmp_path, "apt-get", "echo E: Unable to locate package >&2; exit 100")
    status, said = run("run-offline", path=tmp_path)
    assert status == 1 and "Unable to locate package" in said, said
    assert re.search(r"needs .*qemu-system-x86.*: not all of them are to be had here", said), said


def test_vagrant_that_is_not_to_be_had_is_done_without_unless_asked_for(tmp_path: Path) -> None:
    pretend(tmp_path, "id", "echo 0")
    pretend(tmp_path, "dpkg-query", 'case "$4" in vagrant*|libvirt*) exit 1;; esac; echo install ok installed')
    pretend(tmp_path, "apt-get", "exit 100")
    pretend(tmp_path, "timeout", 'echo "$@" >&2; exit 9')  # neither downloads nor builds
    status, said = run("run-offline", "--vagrant", path=tmp_path, USTACK_BOXES=str(tmp_path / "boxes"))
    assert status == 1 and "needs vagrant" in said and "make-box" not in said, said
    status, said = run("run-offline", path=tmp_path, USTACK_BOXES=str(tmp_path / "boxes"))
    assert status == 1 and "so without Vagrant" in said and "there is no box" in said, said


@pytest.mark.parametrize("status", [0, 1, 7])
def test_its_status_is_the_tests_and_nothing_is_left_behind(status: int, tmp_path: Path) -> None:
    for name in ("programs", "scratch", "boxes"):
        (tmp_path / name).mkdir()
    pretend(tmp_path / "programs", "id", "echo 0")
    pretend(tmp_path / "programs", "dpkg-query", "echo install ok installed")
    pretend(tmp_path / "programs", "sha256sum", "cat >/dev/null; echo 0123456789abcdef")
    pretend(tmp_path / "programs", "unshare", f"echo the tests; exit {status}")
    (tmp_path / "boxes" / "0123456789abcdef").mkdir()
    (tmp_path / "boxes" / "0123456789abcdef" / "ustack.box").touch()
    folders = {"TMPDIR": str(tmp_path / "scratch"), "USTACK_BOXES": str(tmp_path / "boxes")}
    found, said = run("run-offline", "--qemu", path=tmp_path / "programs", **folders)
    assert found == status and f"--- plain QEMU, status {status}, " in said, said
    assert list((tmp_path / "scratch").iterdir()) == []


# -- what they hold


def test_vagrant_takes_the_vagrantfile(tmp_path: Path) -> None:
    if shutil.which("vagrant") is None:
        pytest.skip("vagrant is not installed")
    home = {"VAGRANT_HOME": str(tmp_path / "home"), "VAGRANT_DOTFILE_PATH": str(tmp_path / "machine")}
    done = subprocess.run(
        ["vagrant", "validate", "--ignore-provider"],
        cwd=FOLDER,
        env=os.environ | home | {"VAGRANT_CHECKPOINT_DISABLE": "1"},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0 and "validated successfully" in done.stdout, done.stdout + done.stderr


def test_where_things_come_from_is_the_machine_s_to_say() -> None:
    """No mirror, no index and no folder of somebody's machine is named."""
    for file in FOLDER.iterdir():
        if file.is_file():
            assert (
                re.findall(r"https?://\S+|[\w.]+\.debian\.org|pypi\.\w+|/home/(?!vagrant)\S+", file.read_text()) == []
            )


def test_a_skip_is_no_pass_where_everything_is_there(tmp_path: Path) -> None:
    """What vagrant/test-guest sets."""
    (tmp_path / "test_it.py").write_text("import pytest\n\ndef test_it():\n    pytest.skip('no reason')\n")
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "tests.conftest", "-c", "/dev/null"]
    for variables, status, end in (({}, 0, "1 skipped"), ({"USTACK_NO_SKIPS": "1"}, 1, "1 failed")):
        environment = {key: value for key, value in os.environ.items() if key != "USTACK_NO_SKIPS"} | variables
        done = subprocess.run(
            [*command, str(tmp_path)],
            cwd=TREE,
            env=environment,
            capture_output=True,
            text=True,
            timeout=50,
            check=False,
        )
        assert done.returncode == status and end in done.stdout, done.stdout
        assert "no reason" in done.stdout or status == 0
