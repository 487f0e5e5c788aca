"""Directory and token of a local Ray where Ray's usual ones cannot be used."""

from __future__ import annotations

import os
import secrets
import sys
from pathlib import Path

from autorank.errors import AutorankError

# the longest path that Ray adds
LONGEST_SOCKET_SUFFIX = "/session_2026-01-01_00-00-00_000000_1234567/sockets/plasma_store"
MAX_SOCKET_PATH_BYTES = 103 if sys.platform == "darwin" else 107  # bytes of a Unix socket's path
FALLBACK_PARENTS = ("/tmp", "/var/tmp", "/dev/shm")  # parents of a new directory
TOKEN = "RAY_AUTH_TOKEN"


def default_temp_dir() -> Path:
    """The directory in which Ray writes its sessions by default."""
    folder = os.environ.get("RAY_TMPDIR") or (sys.platform == "linux" and os.environ.get("TMPDIR")) or "/tmp"
    return Path(folder).absolute() / "ray"


def problem(folder: Path) -> str | None:
    """Return why Ray cannot write its sessions in a directory, which need not exist; None if it can."""
    length = len(os.fsencode(folder)) + len(LONGEST_SOCKET_SUFFIX)
    if length > MAX_SOCKET_PATH_BYTES:
        return f"paths of sockets in {folder} would be {length} bytes long, {length - MAX_SOCKET_PATH_BYTES} too many"
    return None if _writable(folder) else f"{folder} cannot be written"


def temp_dir() -> Path:
    """The directory in which a local Ray writes its sessions: Ray's default if it can be used, else one of our own.

    Raises:
        AutorankError: No directory can be used.
    """
    default = default_temp_dir()
    candidates = [default, *(Path(parent) / f"autorank-{os.getuid()}" for parent in FALLBACK_PARENTS)]
    for folder in candidates:
        if problem(folder) is None and (folder == default or _is_ours(folder)):
            return folder
    raise AutorankError(
        f"Ray has no directory for its files: {'; '.join(filter(None, map(problem, candidates)))}. Set RAY_TMPDIR to a "
        "directory with a short path."
    )


def token_problem() -> str | None:
    """Why the token of a local Ray, which is kept in the home directory, can be neither read nor created there."""
    if any(name in os.environ for name in ("RAY_AUTH_MODE", TOKEN, "RAY_AUTH_TOKEN_PATH")):
        return None
    try:
        file = Path.home() / ".ray" / "auth_token"
    except RuntimeError:
        return "the home directory is unknown"
    return None if os.access(file, os.R_OK) or _writable(file.parent) else f"{file.parent} cannot be written"


def ensure_token() -> None:
    """Set a token for this process and its children if none can be kept in the home directory."""
    if token_problem() is not None:
        os.environ[TOKEN] = secrets.token_hex(32)


def _writable(folder: Path) -> bool:
    """Whether a directory, or its nearest existing parent, can be written."""
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    return existing.is_dir() and os.access(existing, os.W_OK | os.X_OK)


def _is_ours(folder: Path) -> bool:
    """Whether a directory belongs to this user, or does not exist yet: anyone may create directories in /tmp."""
    return not folder.exists() or (folder.stat().st_uid == os.getuid() and not folder.is_symlink())
