"""The one exception that users are meant to see."""

from __future__ import annotations

import difflib
import errno
import os
import sys
from collections.abc import Iterable

from autorank.redaction import hide

DISK_FULL = {errno.ENOSPC, errno.EDQUOT}  # no room at all, or none left of one's quota
_FULL = ("No space left", os.strerror(errno.EDQUOT))  # in every message about it, the system's and autorank's own


class AutorankError(Exception):
    """Something the user can put right: the message names the thing, its value and the remedy.

    The command line prints it on stderr without a traceback and exits with 2; anything else that is raised is a
    bug and keeps its traceback. Passwords and tokens are left out of the message.
    """

    def __init__(self, message: str) -> None:
        super().__init__(hide(message))


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, in the plural unless the number is 1: "1 trial", "2,000 parameters"."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def unknown(what: str, name: str, known: Iterable[str]) -> AutorankError:
    """An error for a name that is not among `known`, with the nearest match suggested."""
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"Did you mean {near[0]!r}? " if near else ""
    return AutorankError(f"Unknown {what} {name!r}. {hint}There is: {', '.join(known)}.")


def require_posix() -> None:
    """Raise AutorankError on Windows, which has neither `flock` nor atomic renames of open files."""
    if sys.platform == "win32":
        raise AutorankError("autorank runs on Linux and macOS. On Windows, install it in WSL 2.")


def disk_full(error: BaseException) -> bool:
    """Whether that is what an error says, by its number or, where only those were kept, its words."""
    return getattr(error, "errno", None) in DISK_FULL or any(words in str(error) for words in _FULL)
