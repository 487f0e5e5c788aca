"""Files of results with one JSON object per line, appended as runs end: a program that was stopped continues."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def read(file: Path) -> list[dict[str, Any]]:
    """The objects in a file; none if it does not exist."""
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def append(file: Path, line: dict[str, Any]) -> None:
    """Append an object to a file, which is created if necessary."""
    with file.open("a") as out:
        out.write(json.dumps(line) + "\n")
