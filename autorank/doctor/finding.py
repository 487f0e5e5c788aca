"""The result of a check, and the phrases that several checks use."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "note", "problem"]
GB = 1e9
REINSTALL = "Reinstall it, preferably in a new environment: pip install --force-reinstall"
REINSTALL_AUTORANK = f"{REINSTALL} -e '.[search]' in autorank's directory"


@dataclass(frozen=True)
class Finding:
    """The result of a check.

    Attributes:
        subject: What was checked.
        state: ok, note (some features do not work), or problem.
        text: The result.
        remedy: How to fix it; empty if nothing is to be done.
    """

    subject: str
    state: State
    text: str
    remedy: str = ""


def size(count: float) -> str:
    """Return a number of bytes as 12.3 GB."""
    return f"{count / GB:,.1f} GB"


def first_line(error: BaseException) -> str:
    """Return the type and the first line of an exception."""
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or ['no message'])[0]}"
