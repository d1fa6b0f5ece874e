"""The wheel's build hook: compiles the core with mypyc (hatch-mypyc), in a copy of the tree, if it can.

USTACK_COMPILE=auto  (default) compile if there is a C compiler with Python's headers, else make an interpreted wheel
USTACK_COMPILE=0     make an interpreted wheel
USTACK_COMPILE=1     compile, and fail where that is impossible
USTACK_OPT_LEVEL=0…3 the C compiler's effort, for a quick build (default: pyproject.toml's)

An editable install is interpreted always. mypyc leaves its modules beside the sources, where Python would import them
instead of the sources; here that happens in a copy that is thrown away.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from contextlib import chdir
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PROBE = "#include <Python.h>\nint main(void) { return 0; }\n"


class CompileHook(BuildHookInterface[Any]):
    """Runs hatch-mypyc with ``root`` in a copy, and puts what it made into the wheel from there."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called before the wheel is packed; raises whatever the compiler says about sources it cannot compile."""
        wanted = os.environ.get("USTACK_COMPILE", "auto")
        if wanted == "0" or version == "editable" or self.target_name != "wheel":
            return
        obstacle = why_not_compiled()
        if obstacle and wanted != "1":
            self.app.display_warning(f"ustack will run interpreted: {obstacle}")
            return
        if obstacle:
            raise RuntimeError(f"USTACK_COMPILE=1, but {obstacle}")
        self.compile(version, build_data)

    def compile(self, version: str, build_data: dict[str, Any]) -> None:
        from hatch_mypyc.plugin import MypycBuildHook

        self.copy = TemporaryDirectory(prefix="ustack-build-")  # until finalize: the wheel is packed out of it
        root = Path(self.copy.name).resolve()
        for name in ("pyproject.toml", "ustack"):
            copy_source(Path(self.root) / name, root / name)
        config = dict(self.config)
        config["options"] = {**config.get("options", {}), **opt_level()}
        hook = MypycBuildHook(
            str(root), config, self.build_config, self.metadata, self.directory, self.target_name, self.app
        )
        # Functions that only this library calls need no symbol, and can be inlined: about 10 % on a packet's path.
        os.environ["CFLAGS"] = f"{os.environ.get('CFLAGS', '')} -fvisibility=hidden".strip()
        with chdir(root):  # hatch-mypyc compiles what it finds relative to the current directory
            hook.initialize(version, build_data)
        build_data["artifacts"].clear()
        for module in sorted(root.rglob("*" + sysconfig.get_config_var("EXT_SUFFIX"))):
            build_data["force_include"][str(module)] = str(module.relative_to(root))

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Called when the wheel is written."""
        if hasattr(self, "copy"):
            self.copy.cleanup()


def why_not_compiled() -> str:
    """What is missing to compile C for this Python, or an empty text."""
    compiler = (os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc").split()
    if not shutil.which(compiler[0]):
        return f"there is no C compiler ({compiler[0]})"
    include = sysconfig.get_path("include")
    run = subprocess.run(
        [*compiler, "-fsyntax-only", "-x", "c", f"-I{include}", "-"],
        input=PROBE, text=True, capture_output=True, check=False,
    )  # fmt: skip
    return "" if run.returncode == 0 else f"{compiler[0]} finds no Python.h in {include}"


def opt_level() -> dict[str, str]:
    level = os.environ.get("USTACK_OPT_LEVEL")
    return {"opt_level": level} if level else {}


def copy_source(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    else:
        shutil.copy(source, target)


if __name__ == "__main__":
    sys.exit(why_not_compiled() or None)
