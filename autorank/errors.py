"""The exception for user errors."""

from __future__ import annotations

import difflib
import errno
import os
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from autorank.redaction import hide

if TYPE_CHECKING:
    from pydantic import ValidationError

DISK_FULL = {errno.ENOSPC, errno.EDQUOT}  # disk full, quota exceeded
_FULL = (  # part of every message about it: of the system, of autorank, of torch.save, which says nothing else
    "No space left", os.strerror(errno.EDQUOT), "unexpected pos",
)  # fmt: skip


class AutorankError(Exception):
    """An error that the user can fix. The message names the thing, its value and the remedy.

    The command line prints it on stderr without a traceback and exits with code 2; any other exception is a bug and
    keeps its traceback. Passwords and tokens are removed from the message.

    Args:
        message: The message.

    Attributes:
        skip_exit_handlers: Whether the command exits without the exit handlers of libraries, which could wait forever.
    """

    skip_exit_handlers = False

    def __init__(self, message: str) -> None:
        super().__init__(hide(message))


DIVERGED = "Training diverged: "  # how the message of a run begins whose loss is not finite


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, in the plural unless the number is 1: "1 trial", "2,000 parameters"."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def listed(items: Sequence[str], limit: int, separator: str = ", ") -> str:
    """Join items for a message, and count those beyond a limit: `a, b and 3 more`.

    Args:
        items: The items.
        limit: Maximum number of items to name.
        separator: Text between items.

    Returns:
        The text.
    """
    more = f" and {len(items) - limit} more" if len(items) > limit else ""
    return separator.join(items[:limit]) + more


def similar(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that is most similar to a mistyped one; None if no name is similar."""
    return next(iter(difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.5)), None)


def unknown(noun: str, name: str, known: Iterable[str]) -> AutorankError:
    """Return an error for an unknown name, which suggests the most similar known name.

    Args:
        noun: What the name is of: `method`, `task`.
        name: The unknown name.
        known: All known names.

    Returns:
        The error.
    """
    known = sorted(known)
    suggestion = similar(name, known)
    hint = f"Did you mean {suggestion!r}? " if suggestion else ""
    return AutorankError(f"Unknown {noun} {name!r}. {hint}Available: {', '.join(known)}.")


def explain(error: ValidationError, subject: str, keys: Iterable[str] = ()) -> AutorankError:
    """Return an error with all of pydantic's messages, one per line.

    Args:
        error: pydantic's error.
        subject: What is not valid.
        keys: All valid keys, to suggest the most similar one.

    Returns:
        The error.
    """
    lines = []
    for detail in error.errors():
        text = detail["msg"].removeprefix("Value error, ")
        if detail["type"] == "extra_forbidden" and keys:
            suggestion = similar(str(detail["loc"][-1]), keys)
            text = "unknown key" + (f"; did you mean {suggestion!r}?" if suggestion else "")
        elif detail["type"] not in ("missing", "value_error"):
            text += f" (got {detail['input']!r})"
        lines.append(f"  {'.'.join(map(str, detail['loc'])) or subject}: {text}")
    return AutorankError(f"{subject} is not valid:\n" + "\n".join(lines))


def require_posix() -> None:
    """Refuse Windows, which has neither `flock` nor atomic renames of open files.

    Raises:
        AutorankError: autorank runs on Windows.
    """
    if sys.platform == "win32":
        raise AutorankError("autorank runs on Linux and macOS. On Windows, install it in WSL 2.")


def disk_full(error: BaseException) -> bool:
    """Whether an error is about a full disk, by its number or, if that was lost, by its message."""
    return getattr(error, "errno", None) in DISK_FULL or any(words in str(error) for words in _FULL)


def raise_if_disk_full(reason: str) -> None:
    """Raise OSError if the reason of a failure is a full disk, because everything else would fail too."""
    if disk_full(Exception(reason)):
        raise OSError(errno.ENOSPC, reason)
