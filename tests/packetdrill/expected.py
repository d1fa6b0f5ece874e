"""scripts.toml: what is known of each script."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Final

#: What stands in the list for a script that passes; anything else is the reason why it does not.
STANDING: Final = "pass"


def read_expected() -> dict[str, str]:
    """``folder/name`` to ``pass`` or a reason."""
    with (Path(__file__).parent / "scripts.toml").open("rb") as file:
        return {
            f"{folder}/{name}": text for folder, scripts in tomllib.load(file).items() for name, text in scripts.items()
        }
