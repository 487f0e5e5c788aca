"""Starts a local Ray or connects to a cluster; the output of Ray is written to a file."""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import importlib.util
import logging
import os
import sys
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from autorank.errors import AutorankError
from autorank.redaction import hide
from autorank.searching.ray import _compat
from autorank.searching.ray.cluster import local_paths
from autorank.searching.ray.cluster.runtime_env import code_upload, method_variables

LOG = "ray.log"
LOCAL = "local"
ENVIRONMENT = {
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # otherwise a relative path (SQLite) is another file in each trial
    "RAY_USAGE_STATS_ENABLED": "0",  # no telemetry, and no banner about it
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",  # hides GPUs from trials without one; Ray warns if it is not set
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # no CSV, JSON and TensorBoard files
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # autorank handles Ctrl-C
    "RAY_AIR_NEW_OUTPUT": "0",  # the new output prints tables even with verbose=0
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",  # Tune's own state is not used
    "TUNE_WARN_INSUFFICENT_RESOURCE_THRESHOLD_S": "3600",
}
SINGLE_NODE = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"  # 0: Ray's nodes use the loopback address, on any system
IN_A_JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"  # set in submitted jobs, whose code is uploaded already
SLOW = "timed out during startup"  # in the message of Ray's exception, which has no class of its own
SHUTDOWN_TIMEOUT_S = 15.0  # seconds in which a local Ray must end
OBJECT_STORE_BYTES = 128 * 2**20  # bytes of shared memory for Ray's objects; data is read from files instead


@contextlib.contextmanager
def running(address: str | None, log: Path) -> Iterator[None]:
    """Use Ray within this context: that of this process, the cluster at an address, or a local Ray.

    A Ray that was started, or a connection that was made, by this context ends with it.

    Args:
        address: Address of the cluster; None: RAY_ADDRESS if it is set, else a local Ray.
        log: File to which Ray's output is written.

    Raises:
        AutorankError: No cluster answers at the address, or Ray is installed without its extras.
    """
    check_install()
    with contextlib.ExitStack() as within:
        within.enter_context(_environment(ENVIRONMENT))
        import ray

        _compat.check_private()
        within.enter_context(_quiet(log))
        within.enter_context(_compat.without_secrets())
        starts_ray = not ray.is_initialized()
        try:
            if starts_ray:
                cluster = resolved(address)
                within.enter_context(_loopback() if cluster == LOCAL else contextlib.nullcontext())
                with _native_output_to(log):
                    _connect(cluster)
            yield
        finally:
            if starts_ray:
                with _compat.killed_after(SHUTDOWN_TIMEOUT_S):
                    ray.shutdown()


def is_local(address: str | None) -> bool:
    """Return whether `running` starts a local Ray for this address."""
    import ray

    return not ray.is_initialized() and resolved(address) == LOCAL


def resolved(address: str | None) -> str:
    """Return the address that `running` uses: the given one, else RAY_ADDRESS, else `LOCAL`."""
    return address or os.environ.get("RAY_ADDRESS") or LOCAL


@contextlib.contextmanager
def _environment(variables: Mapping[str, str], override: bool = False) -> Iterator[None]:
    """Set environment variables of this process, and restore them.

    Args:
        variables: Name -> value.
        override: Replace a value that is set already.
    """
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update({name: value for name, value in variables.items() if override or before[name] is None})
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


@contextlib.contextmanager
def _loopback() -> Iterator[None]:
    """Let all servers of a local Ray listen on the loopback address only, within this context."""
    with _compat.loopback_only(), _environment({SINGLE_NODE: "0"}, override=True):
        yield


@contextlib.contextmanager
def _native_output_to(log: Path) -> Iterator[None]:
    """Append what Ray's native code prints on stderr within this context to a file; Python's stderr is not changed."""
    terminal = os.dup(2)
    with contextlib.ExitStack() as within:
        within.callback(os.close, terminal)
        if _is_stderr(sys.stderr):
            stream = within.enter_context(open(terminal, "w", buffering=1, encoding=sys.stderr.encoding, closefd=False))
            within.enter_context(contextlib.redirect_stderr(stream))
        with open(log, "ab") as file:
            os.dup2(file.fileno(), 2)
        within.callback(os.dup2, terminal, 2)
        yield


def _is_stderr(stream: Any) -> bool:
    """Whether a stream writes to the file descriptor 2; notebooks have another."""
    try:
        return bool(stream.fileno() == 2)
    except (AttributeError, OSError, ValueError):
        return False


def _connect(address: str) -> None:
    import ray

    if address.startswith("ray://"):
        head = address.removeprefix("ray://").rpartition(":")[0] or "HEAD"
        raise AutorankError(
            f"A search cannot use Ray Client ({address}), because its journal is on this machine. "
            f"Submit it to the cluster: autorank submit --address http://{head}:8265 -- search ... "
            "Or run it on a node of the cluster with --address auto."
        )
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.INFO}
    try:
        if address == LOCAL:
            local_paths.ensure_token()
            folder = str(local_paths.temp_dir())
            ray.init(LOCAL, include_dashboard=False, object_store_memory=OBJECT_STORE_BYTES, _temp_dir=folder, **quiet)
        else:
            code: contextlib.AbstractContextManager[dict[str, Any]]
            code = contextlib.nullcontext({}) if IN_A_JOB in os.environ else code_upload()
            with code as modules:
                ray.init(address, runtime_env={**modules, "env_vars": ENVIRONMENT | method_variables()}, **quiet)
    except (ConnectionError, ValueError, RuntimeError) as error:
        if address == LOCAL:
            raise
        text = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise AutorankError(
            f"No Ray cluster answers at {address!r}: {text} Check the address; a cluster with token "
            "authentication also needs RAY_AUTH_MODE=token, and its token in ~/.ray/auth_token."
        ) from error
    except Exception as error:
        if SLOW not in str(error):
            raise
        raise AutorankError(
            "Ray did not start on this machine in time. Other processes may be using the CPUs or the memory. No "
            "results are lost: run the same command again. `autorank doctor` shows the free resources."
        ) from error


def check_install() -> None:
    """Refuse a Ray without its extra `default`, which jobs and the release of stopped trials' resources need.

    Raises:
        AutorankError: Lists the missing packages.
    """
    missing = [name for name in ("ray", "aiohttp_cors", "opencensus") if importlib.util.find_spec(name) is None]
    if missing:
        raise AutorankError(
            f"Ray is installed without {', '.join(missing)}. Run `pip install 'ray[default,train,tune]'`."
        )


class _Formatter(logging.Formatter):
    """Removes passwords and tokens from messages and tracebacks."""

    def format(self, record: logging.LogRecord) -> str:
        return hide(super().format(record))


@contextlib.contextmanager
def _quiet(log: Path) -> Iterator[None]:
    """Write log records of Ray and of the search, and what Ray prints, to a file; ignore Python warnings."""
    loggers = [logging.getLogger(name) for name in ("ray", "autorank.searching")]
    before = [(logger, logger.handlers[:], logger.propagate, logger.level) for logger in loggers]
    handler = logging.FileHandler(log, delay=True)
    handler.setFormatter(_Formatter("%(asctime)s %(name)s %(levelname)s %(message)s"))
    for logger in loggers:
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(logging.INFO)
    try:
        with warnings.catch_warnings(), _compat.printing_with(_log_lines):
            warnings.simplefilter("ignore")
            yield
    finally:
        handler.close()
        for logger, handlers, propagate, level in before:
            logger.handlers, logger.propagate = handlers, propagate
            logger.setLevel(level)


def _log_lines(data: dict[str, Any], ignore_prefix: bool = False) -> None:
    """Log lines of Ray's processes instead of printing them."""
    logging.getLogger("ray").warning("%s: %s", data.get("pid"), "\n".join(data["lines"]))
