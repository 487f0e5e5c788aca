"""Access to MLflow: its environment variables, and the cause of its errors."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

from autorank.errors import AutorankError
from autorank.redaction import hide

ENVIRONMENT = {  # defaults: short timeouts, little output, no telemetry
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",  # the default, 7, takes minutes; `BackgroundLogger` has its own pauses
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}


@contextmanager
def quietly(level: int = logging.WARNING) -> Iterator[None]:
    """Set MLflow's timeouts and log level within this context, except for variables that the user has set.

    Args:
        level: Log level of MLflow.
    """
    added = {name: value for name, value in ENVIRONMENT.items() if name not in os.environ}
    logger = logging.getLogger("mlflow")
    before = logger.level
    os.environ.update(added)
    logger.setLevel(level)
    try:
        yield
    finally:
        logger.setLevel(before)
        for name in added:
            os.environ.pop(name, None)


@contextmanager
def store_errors(uri: str, remedy: str) -> Iterator[None]:
    """Report failures of a store within this context as user errors.

    Args:
        uri: Address of the store.
        remedy: What the user can do, a sentence.

    Raises:
        AutorankError: The store cannot be reached or refuses a request.
    """
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (MlflowException, SQLAlchemyError, OSError, ImportError) as error:
        raise AutorankError(
            f"MLflow at {hide(uri)} cannot be reached or rejects the request: {root_cause(error)}. {remedy}"
        ) from error


def root_cause(error: BaseException) -> str:
    """Return the first line of an error's message; of a failed connection, the system's ("Connection refused").

    If the server answers with an error, only the status is returned; urllib3's message names its objects and addresses.

    Args:
        error: An error of MLflow.

    Returns:
        The cause, without a full stop.
    """
    chain = [error]
    while (cause := chain[-1].__cause__ or chain[-1].__context__) is not None:
        chain.append(cause)
    root = next((link for link in reversed(chain) if isinstance(link, OSError)), error)
    text = (str(root).splitlines() or [type(root).__name__])[0].rstrip(".")
    if status := re.search(r"too many (\d+) error responses", text):
        return f"HTTP status {status[1]}"
    return re.sub(r"^\[Errno -?\d+\] ", "", text)
