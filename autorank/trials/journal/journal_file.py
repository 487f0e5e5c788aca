"""The file of a journal: one JSON object per line, each with its line number, so that missing lines are noticed."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from optuna.storages.journal import BaseJournalBackend
from optuna.storages.journal._storage import JournalOperation
from typing_extensions import override

from autorank.errors import AutorankError, unknown
from autorank.trials.journal.journal_lock import DriverLock

JOURNAL = "journal.log"
LINE = "line"  # key of the line number; Optuna ignores it, and optuna-dashboard writes lines without it
HEADER = 4  # first lines, with the spec and the reference point, without which a journal cannot be read
OPERATIONS = {int(operation) for operation in JournalOperation}


class JournalFile(BaseJournalBackend):
    """Optuna's journal format with a check of each line.

    Optuna's own backend accepts a file from which lines are missing, and then assigns values to the wrong trials.

    Args:
        path: The file; created by the first write.
        lock: Checked before every write.
    """

    def __init__(self, path: Path, lock: DriverLock) -> None:
        self._path, self._lock = path, lock
        self._offsets = [0]  # byte at which each line starts

    @override
    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        if not self._path.exists():
            return
        with self._path.open("rb") as file:
            file.seek(self._offsets[log_number_from])
            for number, text in enumerate(file, start=log_number_from + 1):
                if not text.endswith(b"\n"):
                    return  # being written, or truncated
                log = self._parse(text, number)
                if number == len(self._offsets):
                    self._offsets.append(self._offsets[-1] + len(text))
                yield log

    @override
    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        self._lock.check_held()
        self._lock.remove_incomplete_line()
        with self._path.open("a+b") as file:
            file.seek(self._offsets[-1])
            number = len(self._offsets) + file.read().count(b"\n")
            lines = [json.dumps({**log, LINE: number + i}, separators=(",", ":")) + "\n" for i, log in enumerate(logs)]
            file.write("".join(lines).encode())
            file.flush()
            os.fsync(file.fileno())

    def _parse(self, text: bytes, number: int) -> dict[str, Any]:
        """The object of a line.

        Args:
            text: The line.
            number: Its number in the file, from 1.

        Raises:
            AutorankError: The line is damaged, or lines before it are missing.
        """
        try:
            log = json.loads(text)
            operation, expected = log["op_code"], log.get(LINE, number)
        except (ValueError, KeyError, TypeError, AttributeError):
            raise self._damaged(number, "the line is not an entry of a journal") from None
        if expected != number:
            raise self._damaged(number, f"the line was written as line {expected}, so lines are missing or moved")
        if operation not in OPERATIONS:
            raise self._damaged(number, f"unknown operation {operation!r}")
        return dict(log)

    def _damaged(self, number: int, reason: str) -> AutorankError:
        path = shlex.quote(str(self._path))
        keep = f"keep what precedes the damage (head -n {number - 1} {path} > part && mv part {path})"
        start = f"remove {self._path.parent} and start the search again"
        return AutorankError(
            f"The journal {self._path} is damaged at line {number}: {reason}. Restore the file from a backup, or "
            f"{keep if number > HEADER else start}."
        )


def runs(folder: Path) -> list[str]:
    """Return the names of the searches in a directory."""
    return sorted(path.parent.name for path in folder.glob(f"*/{JOURNAL}") if path.is_file())


def no_search(folder: Path) -> AutorankError:
    """Return the error for a directory without a journal."""
    if names := runs(folder.parent):
        return unknown("search", folder.name, names)
    return AutorankError(
        f"Search {folder.name!r} does not exist: {folder.parent} contains no searches. Start one with "
        "`autorank search`, or choose another directory with --runs DIR."
    )
