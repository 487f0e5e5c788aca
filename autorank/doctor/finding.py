"""What is found, and how it is put."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "note", "problem"]
GB = 1e9
AGAIN = "Install it again, best into an environment of its own:"
REPAIR = f"{AGAIN} pip install --force-reinstall"
OWN_REPAIR = f"{AGAIN} pip install --force-reinstall -e '.[search]' in autorank's folder"


@dataclass(frozen=True)
class Finding:
    """A line: what was looked at, how it is, and what to do about it."""

    what: str
    state: State
    text: str
    remedy: str = ""


def size(count: float) -> str:
    """Bytes, as 12.3 GB."""
    return f"{count / GB:,.1f} GB"


def said(error: BaseException) -> str:
    """What an exception says, in a line."""
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or ['no message'])[0]}"
