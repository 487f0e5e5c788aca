"""Addresses of MLflow stores."""

from __future__ import annotations

import os
from pathlib import Path

from autorank.errors import AutorankError
from autorank.redaction import hide

_SCHEMES = ("http", "https", "sqlite", "postgresql", "mysql", "mssql", "databricks")


def default_uri(runs_dir: Path, last: str | None = None) -> str:
    """Choose the default store.

    Args:
        runs_dir: The directory of all searches.
        last: Where the search was tracked before.

    Returns:
        MLFLOW_TRACKING_URI if it is set, else `last`, else an SQLite file in `runs_dir`.
    """
    return os.environ.get("MLFLOW_TRACKING_URI") or last or _beside(runs_dir)


def remembered(uri: str, runs_dir: Path) -> str | None:
    """Return the address to store in a search's journal.

    Args:
        uri: Address of the store.
        runs_dir: The directory of all searches.

    Returns:
        The address without passwords; None if it is the SQLite file in `runs_dir`.

    Raises:
        AutorankError: MLflow does not support the address.
    """
    uri = checked(uri)
    return None if uri == _beside(runs_dir) else hide(uri)


def _beside(runs_dir: Path) -> str:
    """The SQLite file in the directory of runs, as an absolute path, since Ray changes the working directory."""
    return f"sqlite:///{Path(runs_dir).resolve() / 'mlflow.db'}"


def checked(uri: str) -> str:
    """Check an address and make an SQLite path absolute.

    Args:
        uri: Address of the store.

    Returns:
        The address.

    Raises:
        AutorankError: MLflow 3 does not support the address.
    """
    scheme = uri.partition(":")[0].partition("+")[0]
    if scheme not in _SCHEMES:
        raise AutorankError(
            f"The tracking URI {uri!r} is neither a server nor a database. Use a server (http://HOST:5000) or a "
            "database (sqlite:////absolute/path/mlflow.db)."
        )
    file = sqlite_file(uri)
    return uri if file is None else f"sqlite:///{file.resolve()}"


def sqlite_file(uri: str) -> Path | None:
    """Return the file of an SQLite address; None for servers and other databases."""
    return Path(uri.removeprefix("sqlite:///")) if uri.startswith("sqlite:///") else None
