"""The one exception that users are meant to see."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class AutorankError(Exception):
    """Something the user can put right: the message names the thing, its value and the remedy.

    The command line prints it on stderr without a traceback and exits with 2; anything else that is raised is a
    bug and keeps its traceback.
    """


def unknown(what: str, name: str, known: Iterable[str]) -> AutorankError:
    """An error for a name that is not among `known`, with the nearest match suggested."""
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"Did you mean {near[0]!r}? " if near else ""
    return AutorankError(f"Unknown {what} {name!r}. {hint}There is: {', '.join(known)}.")
