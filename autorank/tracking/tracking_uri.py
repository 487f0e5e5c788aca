"""Addresses of MLflow stores."""

from __future__ import annotations

import os
import re
from pathlib import Path

from autorank.errors import AutorankError
from autorank.redaction import hide

_SCHEMES = ("http", "https", "sqlite", "postgresql", "mysql", "mssql", "databricks")

_SPECIAL = re.compile(r"\?|%[0-9A-Fa-f]{2}")  # begins the options of an address; an encoded character (SQLAlchemy 2.1)


def default_uri(runs_dir: Path, last: str | None = None) -> str:
    """Choose the default store.

    Args:
        runs_dir: The directory of all searches.
        last: Where the search was tracked before.

    Returns:
        MLFLOW_TRACKING_URI if it is set, else `last`, else an SQLite file in `runs_dir`.

    Raises:
        AutorankError: The path of `runs_dir` has characters that mean something else in the address of a database.
    """
    uri = os.environ.get("MLFLOW_TRACKING_URI") or last
    if not uri and (special := _SPECIAL.search(str(Path(runs_dir).resolve()))):
        raise AutorankError(
            f"MLflow cannot open a database in {Path(runs_dir).resolve()}, because the path contains {special[0]!r}. "
            "Choose another directory with --runs, or another store with --tracking-uri."
        )
    return uri or _default_sqlite_uri(runs_dir)


def uri_for_journal(uri: str, runs_dir: Path) -> str | None:
    """Return the address to store in a search's journal.

    Args:
        uri: Address of the store.
        runs_dir: The directory of all searches.

    Returns:
        The address without passwords; None if it is the SQLite file in `runs_dir`.

    Raises:
        AutorankError: MLflow does not support the address.
    """
    uri = validated_uri(uri)
    return None if uri == _default_sqlite_uri(runs_dir) else hide(uri)


def _default_sqlite_uri(runs_dir: Path) -> str:
    """The SQLite file in the directory of runs, as an absolute path, since Ray changes the working directory."""
    return f"sqlite:///{Path(runs_dir).resolve() / 'mlflow.db'}"


def validated_uri(uri: str) -> str:
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
