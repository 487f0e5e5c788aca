"""What is within reach: the Hub and MLflow's store."""

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

PATIENCE = 3.0  # seconds for an answer


def hub() -> Iterator[Finding]:
    """Whether the Hub, or what HF_ENDPOINT names, answers; whether there is a token, which is not shown."""
    from huggingface_hub import constants, get_session, get_token

    token = "a token is set" if get_token() else "no token is set, which only private and gated repositories need"
    place = hide(constants.ENDPOINT)
    if constants.HF_HUB_OFFLINE:
        yield Finding("Hub", "note", f"HF_HUB_OFFLINE is set: only what is cached is used; {token}")
        return
    error = _within(lambda: get_session().head(constants.ENDPOINT, timeout=PATIENCE, follow_redirects=False))
    if error is None:
        yield Finding("Hub", "ok", f"{place} answers; {token}")
        return
    own = os.environ.get("HF_ENDPOINT")
    remedy = "Check HF_ENDPOINT." if own else (
        "Behind a proxy set HTTPS_PROXY. Without a network set HF_HUB_OFFLINE=1 and use --task demo, or --data and "
        "--model with folders of this machine."
    )  # fmt: skip
    text = f"{place} is out of reach ({type(error).__name__}); {token}"
    yield Finding("Hub", "problem" if own else "note", text, remedy)


def models() -> Iterator[Finding]:
    """The folder in which the Hub's models and data are kept."""
    from huggingface_hub import constants

    yield from folder("Hub's cache", Path(constants.HF_HUB_CACHE), "Set HF_HOME to another folder.")


def store(runs: Path, tracking_uri: str | None) -> Iterator[Finding]:
    """Whether MLflow's store takes runs, as far as can be told without writing any."""
    from autorank.tracking.tracking_uri import checked, default_uri, sqlite_file

    try:
        uri = checked(tracking_uri or default_uri(runs))
    except AutorankError as error:
        yield Finding("MLflow", "problem", str(error), "Correct --tracking-uri or MLFLOW_TRACKING_URI.")
        return
    place = hide(uri)
    if (file := sqlite_file(uri)) is not None:
        yield _database(file)
        return
    failure = _within(partial(_served if uri.startswith("http") else _connected, uri))
    if failure is None:
        yield Finding("MLflow", "ok", f"{place} answers")
        return
    remedy = (
        "Start it, or correct the address; with a login set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD. "
        "Searches run without it; `autorank sync` catches up."
    )
    yield Finding("MLflow", "problem", f"{place} cannot be used ({type(failure).__name__})", remedy)


def _database(file: Path) -> Finding:
    """Whether the store in this file can be written to; the attempt is taken back."""
    import sqlite3  # some builds of Python lack it

    if not file.exists():
        return Finding("MLflow", "ok", f"sqlite:///{file}, made by the first search")
    remedy = f"Move it away and give `autorank sync NAME`, or name another: --tracking-uri sqlite:///{file}.new"
    try:
        connection = sqlite3.connect(file, timeout=PATIENCE)
        try:
            connection.execute("BEGIN IMMEDIATE")
            connection.rollback()
        finally:
            connection.close()
    except sqlite3.Error as error:
        busy = "locked" in str(error)
        return Finding("MLflow", "note" if busy else "problem", f"{file}: {error}", "Try again." if busy else remedy)
    return Finding("MLflow", "ok", f"{file} takes runs")


def _served(uri: str) -> None:
    """Ask an MLflow server."""
    from mlflow.tracking import MlflowClient

    from autorank.tracking.mlflow_projection import quietly

    with quietly():
        MlflowClient(uri).search_experiments(max_results=1)


def _connected(uri: str) -> None:
    """Log in to a database."""
    from sqlalchemy import create_engine

    create_engine(uri).connect().close()


def _within(call: Callable[[], object]) -> Exception | None:
    """What a call raises; TimeoutError where it takes too long, as the look-up of a name may."""
    outcome: list[Exception | None] = []

    def attempt() -> None:
        try:
            call()
            outcome.append(None)
        except Exception as error:
            outcome.append(error)

    thread = threading.Thread(target=attempt, daemon=True)
    thread.start()
    thread.join(PATIENCE + 1)
    return outcome[0] if outcome else TimeoutError()
