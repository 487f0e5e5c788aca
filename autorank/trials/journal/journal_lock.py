"""Lock of a journal: one driver writes at a time, identified by its process id."""

from __future__ import annotations

import fcntl
import os
import socket
import time
from pathlib import Path
from typing import IO

from autorank.errors import AutorankError

LOCK = "driver.lock"


class DriverLock:
    """The lock of a journal, which a driver holds while the journal is open.

    Optuna's own locks are files, which remain after a process is killed and delay the next one by 30 s. A `flock` ends
    with its process.
    """

    def __init__(self, journal: Path) -> None:
        self._journal = journal
        self._file: IO[str] | None = None

    def take(self) -> None:
        """Acquire the lock.

        Raises:
            AutorankError: Another driver holds the lock, or the file system does not support locks.
        """
        file = self._journal.with_name(LOCK).open("a+")
        for attempt in range(3):  # `driver` holds the lock for a moment
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                time.sleep(0.05 * attempt)
            except OSError as error:
                file.close()
                raise AutorankError(
                    f"The file system of {self._journal.parent} does not support file locks ({error.strerror}). "
                    "Without locks two processes could damage the journal. Use --runs DIR on another file system, or "
                    "mount this one with locks."
                ) from error
        else:
            pid, host = _holder(file)
            file.close()
            where = f" on {host}" if host and host != socket.gethostname() else ""
            who = f"Process {pid}{where}" if pid else "Another process"
            raise AutorankError(
                f"{who} is already running {self._journal.parent.name!r}. Wait until it ends, or stop it with Ctrl-C "
                "and then continue."
            )
        file.truncate(0)
        file.write(f"{os.getpid()} {socket.gethostname()}\n")
        file.flush()
        self._file = file

    def drop(self) -> None:
        """Release the lock."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def check_held(self) -> None:
        """Raise unless the lock is held: the journal was opened for reading only."""
        if self._file is None:
            raise RuntimeError(f"{self._journal} is open for reading only: it was opened without `write`")

    def remove_incomplete_line(self) -> int:
        """Remove an incomplete last line, left by a killed driver or a full disk, and return its length in bytes.

        Optuna's readers skip such a line, but the next appended line would be joined to it and corrupt the file.
        """
        if not self._journal.exists():
            return 0
        with self._journal.open("r+b") as file:
            end = file.seek(0, os.SEEK_END)
            if end == 0:
                return 0
            file.seek(end - 1)
            if file.read(1) == b"\n":
                return 0
            file.seek(0)
            length = file.read().rfind(b"\n") + 1
            file.truncate(length)
        return end - length


def driver(folder: Path) -> int | None:
    """Process id of the driver of the search in `folder` (0 if unknown); None if no driver is running."""
    try:
        with (folder / LOCK).open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return _holder(file)[0]
    except FileNotFoundError:
        pass
    return None


def _holder(file: IO[str]) -> tuple[int, str]:
    """Process id and host name in a lock file; 0 and an empty name if unknown."""
    file.seek(0)
    pid, _, host = file.read().strip().partition(" ")
    return (int(pid), host) if pid.isdigit() else (0, "")
