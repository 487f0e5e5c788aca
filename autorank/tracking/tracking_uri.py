"""Where MLflow keeps runs."""

from __future__ import annotations

import os
from pathlib import Path

from autorank.errors import AutorankError
from autorank.redaction import hide

_SCHEMES = ("http", "https", "sqlite", "postgresql", "mysql", "mssql", "databricks")


def default_uri(runs_dir: Path, last: str | None = None) -> str:
    """MLFLOW_TRACKING_URI, where the search was tracked at `last`, or an SQLite file in the folder of runs."""
    return os.environ.get("MLFLOW_TRACKING_URI") or last or _beside(runs_dir)


def remembered(uri: str, runs_dir: Path) -> str | None:
    """What a search's journal keeps of where it is tracked: no password, and nothing where that is beside it."""
    uri = checked(uri)
    return None if uri == _beside(runs_dir) else hide(uri)


def _beside(runs_dir: Path) -> str:
    """An SQLite file in the folder of runs (absolute: Ray changes directories)."""
    return f"sqlite:///{Path(runs_dir).resolve() / 'mlflow.db'}"


def checked(uri: str) -> str:
    """The URI, an SQLite path made absolute; AutorankError for what MLflow 3 does not take."""
    scheme = uri.partition(":")[0].partition("+")[0]
    if scheme not in _SCHEMES:
        raise AutorankError(
            f"The tracking URI {uri!r} is no place where MLflow keeps runs. "
            "Give a server (http://HOST:5000) or a database (sqlite:////absolute/path/mlflow.db)."
        )
    file = sqlite_file(uri)
    return uri if file is None else f"sqlite:///{file.resolve()}"


def sqlite_file(uri: str) -> Path | None:
    """The file that an SQLite URI names; None for a server or another database."""
    return Path(uri.removeprefix("sqlite:///")) if uri.startswith("sqlite:///") else None
