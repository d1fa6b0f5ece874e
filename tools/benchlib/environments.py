"""The Pythons that run what is measured: the sources', the compiled wheel's, and pmd-pytcp's own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

from benchlib.lab import Unavailable
from benchlib.targets import TOOLS

#: The release the figures in the documentation are of.
PYTCP: Final = "pmd-pytcp==0.3.8"
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
    home = Path(os.environ.get("VENV", sys.prefix)) / "pytcp"
    python = home / "bin" / "python"
    for command in ([sys.executable, "-m", "venv", str(home)], [str(python), "-m", "pip", "install", "-qq", PYTCP]):
        if has_pytcp(python):
            break
        run = subprocess.run(command, capture_output=True, text=True, check=False)
        if run.returncode != 0:
            raise Unavailable(f"{PYTCP} cannot be installed: {(run.stderr.strip().splitlines() or ['?'])[-1]}")
    return str(python)


def has_pytcp(python: Path) -> bool:
    probe = [str(python), "-P", "-c", "import pmd_pytcp"]
    return python.exists() and subprocess.run(probe, capture_output=True, check=False).returncode == 0
