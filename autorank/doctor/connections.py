"""Checks of the connections to the Hub and to the MLflow store."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from autorank.doctor.finding import Finding
from autorank.doctor.machine import folder
from autorank.errors import AutorankError
from autorank.redaction import hide

TIMEOUT = 3.0  # seconds


def hub() -> Iterator[Finding]:
    """Check that the Hub, or the server in HF_ENDPOINT, answers, and whether a token is set (never printed)."""
    from huggingface_hub import constants, get_session, get_token

    token = "a token is set" if get_token() else "no token is set (only private and gated repositories need one)"
    address = hide(constants.ENDPOINT)
    if constants.HF_HUB_OFFLINE:
        yield Finding("Hub", "note", f"HF_HUB_OFFLINE is set: only cached models and data are used; {token}")
        return
    error = _within(lambda: get_session().head(constants.ENDPOINT, timeout=TIMEOUT, follow_redirects=False))
    if error is None:
        yield Finding("Hub", "ok", f"{address} answers; {token}")
        return
    custom = os.environ.get("HF_ENDPOINT")
    remedy = "Check HF_ENDPOINT." if custom else (
        "Behind a proxy, set HTTPS_PROXY. Without a network, set HF_HUB_OFFLINE=1 and use --task demo, or --data and "
        "--model with local directories."
    )  # fmt: skip
    text = f"{address} cannot be reached ({type(error).__name__}); {token}"
    yield Finding("Hub", "problem" if custom else "note", text, remedy)


def models() -> Iterator[Finding]:
    """Check the directory in which models and data from the Hub are cached."""
    from huggingface_hub import constants

    yield from folder("Hub's cache", Path(constants.HF_HUB_CACHE), "Set HF_HOME to another directory.")


def store(runs: Path, tracking_uri: str | None) -> Iterator[Finding]:
    """Check that the MLflow store accepts runs, as far as this is possible without writing any.

    Args:
        runs: The directory of all searches.
        tracking_uri: Address of the store. None: the default store of `runs`.

    Yields:
        The result of the check.
    """
    from autorank.tracking.tracking_uri import default_uri, sqlite_file, validated_uri

    try:
        uri = validated_uri(tracking_uri or default_uri(runs))
    except AutorankError as error:
        yield Finding("MLflow", "problem", str(error), "Correct --tracking-uri or MLFLOW_TRACKING_URI.")
        return
    address = hide(uri)
    if (file := sqlite_file(uri)) is not None:
        yield _database(file)
        return
    import mlflow.tracking  # noqa: F401  # before the time is limited: the import may take longer

    failure = _within(partial(_served if uri.startswith("http") else _connected, uri))
    if failure is None:
        yield Finding("MLflow", "ok", f"{address} answers")
        return
    remedy = (
        "Start the server, or correct the address; if it needs a login, set MLFLOW_TRACKING_USERNAME and "
        "MLFLOW_TRACKING_PASSWORD. Searches run without it; `autorank sync` adds their runs later."
    )
    yield Finding("MLflow", "problem", f"{address} cannot be used ({type(failure).__name__})", remedy)


def _database(file: Path) -> Finding:
    """Whether a SQLite store can be written: begins a transaction and rolls it back."""
    import sqlite3  # some builds of Python lack it

    if not file.exists():
        return Finding("MLflow", "ok", f"sqlite:///{file} will be created by the first search")
    remedy = f"Move the file away and run `autorank sync NAME`, or use another: --tracking-uri sqlite:///{file}.new"
    try:
        connection = sqlite3.connect(file, timeout=TIMEOUT)
        try:
            connection.execute("BEGIN IMMEDIATE")
            connection.rollback()
        finally:
            connection.close()
    except sqlite3.Error as error:
        busy = "locked" in str(error)
        return Finding("MLflow", "note" if busy else "problem", f"{file}: {error}", "Try again." if busy else remedy)
    return Finding("MLflow", "ok", f"{file} can be written")


def _served(uri: str) -> None:
    """Send a request to an MLflow server."""
    from mlflow.tracking import MlflowClient

    from autorank.tracking.mlflow_client import quietly

    with quietly():
        MlflowClient(uri).search_experiments(max_results=1)


def _connected(uri: str) -> None:
    """Log in to a database."""
    from sqlalchemy import create_engine

    create_engine(uri).connect().close()


def _within(call: Callable[[], object]) -> Exception | None:
    """The exception that a call raises, or None; TimeoutError if it takes too long, as name resolution may."""
    outcome: list[Exception | None] = []

    def attempt() -> None:
        try:
            call()
            outcome.append(None)
        except Exception as error:
            outcome.append(error)

    thread = threading.Thread(target=attempt, daemon=True)
    thread.start()
    thread.join(TIMEOUT + 1)
    return outcome[0] if outcome else TimeoutError()
