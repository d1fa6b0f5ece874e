"""Where log messages go. Formatting is left to the logging module, which does it only for what is shown."""

from __future__ import annotations

import logging


def log_to_stderr(level: str) -> None:
    """One line a message: level, logger, text. ``level`` is one of config.LOG_LEVELS."""
    logging.basicConfig(level=level.upper(), format="%(levelname)s %(name)s: %(message)s")
