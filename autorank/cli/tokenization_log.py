"""Log lines about tokenization, which takes minutes for large data: on stderr, none with --quiet."""

from __future__ import annotations

import logging
import sys

LOGGER = logging.getLogger("autorank.tasks.tokenization")


def show() -> None:
    """Print the log lines on stderr; a second call changes nothing."""
    if not LOGGER.handlers:
        LOGGER.addHandler(_StderrHandler())
        LOGGER.setLevel(logging.INFO)


def silence() -> None:
    """Print warnings only."""
    LOGGER.setLevel(logging.WARNING)


class _StderrHandler(logging.Handler):
    """Writes to the current `sys.stderr`, which a live table replaces in order to print above itself."""

    def emit(self, record: logging.LogRecord) -> None:
        print(f"autorank: {self.format(record)}", file=sys.stderr)
