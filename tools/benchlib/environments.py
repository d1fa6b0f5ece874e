"""The Pythons that run what is measured: the sources', the compiled wheel's, and pmd-pytcp's own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

from benchlib.lab import Unavailable, last_line
from benchlib.targets import TOOLS

#: The release the figures in the documentation are of.
PYTCP: Final = "pmd-pytcp==0.3.8"
#: Longest prefix match in C, for Python.
FIB_PEERS: Final = ["pytricia==1.3.0", "py-radix==1.1.0"]
#: tools/setup.sh's steps from nothing to an environment with the compiled wheel; the last line says where.
BUILD: Final = """
set -euo pipefail
source "$1/setup.sh"
python_or_install; c_compiler; choose_venv
USTACK_COMPILE=1 user_environment ''
echo "$VENV/compiled/bin/python"
"""


def compiled_python() -> str:
    """Builds the wheel if the sources are newer than what is installed; minutes, once. Raises Unavailable."""
    command = ["bash", "-c", BUILD, "bench", str(TOOLS)]
    run = subprocess.run(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True, check=False)
    if run.returncode != 0:
        raise Unavailable("the wheel could not be built")
    return run.stdout.strip().splitlines()[-1]


def pytcp_python() -> str:
    """Of an environment with nothing but pmd-pytcp in it, beside ours. Raises Unavailable."""
    return peer_python("pytcp", [PYTCP], ["pmd_pytcp"])


def fib_python() -> str:
    """Of one with the other routing tables. Raises Unavailable."""
    return peer_python("fib", FIB_PEERS, ["pytricia", "radix"])


def peer_python(name: str, packages: list[str], modules: list[str]) -> str:
    home = Path(os.environ.get("VENV", sys.prefix)) / name
    python = home / "bin" / "python"
    install = [str(python), "-m", "pip", "install", "-qq", *packages]
    for command in ([sys.executable, "-m", "venv", str(home)], install):
        if has(python, modules):
            break
        run = subprocess.run(command, capture_output=True, text=True, check=False)
        if run.returncode != 0:
            raise Unavailable(f"{' and '.join(packages)} cannot be installed: {last_line(run.stderr) or '?'}")
    return str(python)


def has(python: Path, modules: list[str]) -> bool:
    probe = [str(python), "-P", "-c", f"import {', '.join(modules)}"]
    return python.exists() and subprocess.run(probe, capture_output=True, check=False).returncode == 0
