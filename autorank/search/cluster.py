"""Ray, started or joined quietly: what it has to say goes to a file."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from autorank.errors import AutorankError
from autorank.search.travelling import travelling

LOG = "ray.log"
ENVIRONMENT = {
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # relative paths (SQLite!) would mean another file in each trial
    "RAY_USAGE_STATS_ENABLED": "0",  # no calls home, and no banner about them
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",  # a trial without a GPU sees none; unset, Ray warns
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # no CSV, JSON and TensorBoard files: the journal has it all
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C is ours
    "RAY_AIR_NEW_OUTPUT": "0",  # the new output prints tables even with verbose=0
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",  # Tune's own state is not relied on
    "TUNE_WARN_INSUFFICENT_RESOURCE_THRESHOLD_S": "3600",
}
IN_A_JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"  # a job that was submitted has brought its code along already
STORE = 128 * 2**20  # bytes of shared memory for Ray's objects; data travel by files here


@contextlib.contextmanager
def running(address: str | None, log: Path) -> Iterator[None]:
    """Within it Ray is up: this process's own, the cluster at `address` (or RAY_ADDRESS), or a local one.

    A local one, and a connection made here, end with it. Ray's log goes to the file `log`.

    Raises:
        AutorankError: nothing answers at the address, or Ray is not wholly installed.
    """
    check_install()
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    import ray

    ours = not ray.is_initialized()
    with _quiet(log):
        try:
            if ours:
                _connect(address or os.environ.get("RAY_ADDRESS") or "local")
            yield
        finally:
            if ours:
                ray.shutdown()


def _connect(address: str) -> None:
    import ray

    if address.startswith("ray://"):
        head = address.removeprefix("ray://").rpartition(":")[0] or "HEAD"
        raise AutorankError(
            f"A search cannot run over Ray Client ({address}): its journal lies on this machine. "
            f"Send it to the cluster: autorank submit --address http://{head}:8265 -- search ... "
            "Or run it on a node of the cluster, with --address auto."
        )
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.INFO}
    try:
        if address == "local":
            ray.init("local", include_dashboard=False, object_store_memory=STORE, **quiet)
        else:
            code: contextlib.AbstractContextManager[dict[str, Any]]
            code = contextlib.nullcontext({}) if IN_A_JOB in os.environ else travelling()
            with code as modules:
                ray.init(address, runtime_env={**modules, "env_vars": ENVIRONMENT}, **quiet)
    except (ConnectionError, ValueError, RuntimeError) as error:
        if address == "local":
            raise
        text = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise AutorankError(
            f"No Ray cluster answers at {address!r}: {text} Check the address; a cluster with token "
            "authentication also needs RAY_AUTH_MODE=token, and its token in ~/.ray/auth_token."
        ) from error


def check_install() -> None:
    """Refuse a Ray without its `default` extra: no jobs, and no resources freed after an early stop.

    Raises:
        AutorankError: names what is missing.
    """
    missing = [name for name in ("ray", "aiohttp_cors", "opencensus") if importlib.util.find_spec(name) is None]
    if missing:
        raise AutorankError(f"Ray lacks {', '.join(missing)}. Install it whole: pip install 'ray[default,train,tune]'.")


@contextlib.contextmanager
def _quiet(log: Path) -> Iterator[None]:
    """Log records of Ray and of the search go to a file, and what Ray prints too; warnings go nowhere."""
    from ray._private import worker

    loggers = [logging.getLogger(name) for name in ("ray", "autorank.search")]
    before = [(logger, logger.handlers[:], logger.propagate, logger.level) for logger in loggers]
    handler = logging.FileHandler(log, delay=True)
    handler.setFormatter(logging.Formatter("%(asctime)s %(name)s %(levelname)s %(message)s"))
    for logger in loggers:
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(logging.INFO)
    # Ray prints the deaths of processes whatever its options say; without this function it just prints again
    printer: Any = getattr(worker, "print_to_stdstream", None)
    worker.print_to_stdstream = _log_lines
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        worker.print_to_stdstream = printer
        handler.close()
        for logger, handlers, propagate, level in before:
            logger.handlers, logger.propagate = handlers, propagate
            logger.setLevel(level)


def _log_lines(data: dict[str, Any], ignore_prefix: bool = False) -> None:
    """In place of Ray's function that prints lines of its processes."""
    logging.getLogger("ray").warning("%s: %s", data.get("pid"), "\n".join(data["lines"]))
