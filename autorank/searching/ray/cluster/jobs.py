"""Submits a command line of autorank as a job to a Ray cluster, and follows its log."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autorank.errors import AutorankError
from autorank.interruption import EXIT_CODE
from autorank.redaction import hide
from autorank.searching.ray.cluster.connection import check_install
from autorank.searching.ray.cluster.runtime_env import code_upload, method_variables

if TYPE_CHECKING:
    from ray.dashboard.modules.job.pydantic_models import JobDetails
    from ray.job_submission import JobSubmissionClient

DEFAULT = "http://127.0.0.1:8265"
VARIABLES = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")  # in the order in which Ray looks
ENVIRONMENT = {
    "RAY_JOB_STOP_SIGNAL": "SIGINT",  # a stopped search ends as after Ctrl-C
    "RAY_JOB_STOP_WAIT_TIME_S": "60",
}
VERBOSE_LOGGERS = (  # Ray's; they report uploads and connections
    "ray.dashboard.modules.dashboard_sdk", "ray.dashboard.modules.job.sdk", "ray._private.runtime_env.packaging",
)  # fmt: skip
RECONNECT_INTERVAL_S = 2.0  # seconds between two attempts to follow a log


@dataclass(frozen=True)
class Job:
    """A submitted job.

    Attributes:
        id: Its id.
        address: Address of the cluster's dashboard.
        client: Ray's client for the dashboard.
        token: Whether the cluster requires a token.
    """

    id: str
    address: str
    client: JobSubmissionClient
    token: bool

    def command(self, verb: str) -> str:
        """Return the shell command for an action on the job: `logs --follow`, `stop`, `status`."""
        return f"{'RAY_AUTH_MODE=token ' if self.token else ''}ray job {verb} --address {hide(self.address)} {self.id}"


def resolve(address: str | None) -> str:
    """Return the address of the dashboard.

    Args:
        address: The user's; None: RAY_API_SERVER_ADDRESS, else RAY_ADDRESS, else this machine's.

    Returns:
        The address.

    Raises:
        AutorankError: It is not an http address.
    """
    url = address or next((os.environ[name] for name in VARIABLES if os.environ.get(name)), DEFAULT)
    if not url.startswith(("http://", "https://")):
        source = "--address" if address else " or ".join(VARIABLES)
        raise AutorankError(
            f"{source} {url!r} is not the address of a dashboard. "
            "Use --address http://HEAD:8265, where HEAD is the cluster's head node."
        )
    return url.rstrip("/")


def submit(address: str, entrypoint: str, working_dir: Path | None = None) -> Job:
    """Run a shell command as a job of a cluster.

    The job uses this process's autorank with its methods, not one installed on the cluster. The token of a cluster with
    authentication is read from where Ray reads it.

    Args:
        address: Address of the cluster's dashboard.
        entrypoint: The shell command.
        working_dir: Directory that is copied to the cluster, in whose copy the job starts.

    Returns:
        The job.

    Raises:
        AutorankError: There is no Ray dashboard at the address, the token is missing or refused, or the job is refused.
    """
    check_install()
    import requests
    from ray.exceptions import RayError
    from ray.job_submission import JobSubmissionClient

    for name in VERBOSE_LOGGERS:
        logging.getLogger(name).setLevel(logging.WARNING)
    headers = _identify(address)
    os.environ[VARIABLES[0]] = address  # in Ray this variable takes precedence over the argument
    try:
        client = JobSubmissionClient(address, headers=headers)
        with code_upload() as modules:
            runtime_env: dict[str, Any] = {**modules, "env_vars": ENVIRONMENT | method_variables()}
            if working_dir:
                runtime_env["working_dir"] = str(working_dir)
            submitted = client.submit_job(entrypoint=entrypoint, runtime_env=runtime_env)
    except (requests.RequestException, RayError, RuntimeError, ValueError, ConnectionError) as error:
        line = str(error).strip(" .\n").splitlines()[-1:] or [type(error).__name__]
        hint = " Put large data on storage that all nodes share." if "413" in str(error) else ""
        raise AutorankError(f"{address} rejected the job: {line[0]}.{hint}") from error
    return Job(submitted, address, client, token=bool(headers))


def follow(job: Job, write: Callable[[str], object]) -> int:
    """Print a job's log until the job ends. A broken connection is made again.

    Ctrl-C raises KeyboardInterrupt; the job continues.

    Args:
        job: The job.
        write: Prints a part of the log.

    Returns:
        The exit code of the job's process; 1 if it never started, 130 if the job was stopped.

    Raises:
        AutorankError: The cluster no longer answers.
    """
    import aiohttp
    import requests
    from ray.exceptions import RayError

    printed_chars = 0  # characters of the log, which is read from its start after each connection

    def write_new(end: int, text: str) -> None:
        """Write the part of a text, which ends at character `end` of the log, that has not been written."""
        nonlocal printed_chars
        if end > printed_chars:
            write(text[printed_chars - end :])
            printed_chars = end

    async def tail() -> None:
        received_chars = 0
        async for text in job.client.tail_job_logs(job.id):
            received_chars += len(text)
            write_new(received_chars, text)

    while True:
        try:
            try:
                asyncio.run(tail())
            except (RuntimeError, aiohttp.ClientError):  # no websocket, or one that broke
                text = job.client.get_job_logs(job.id)
                write_new(len(text), text)
            details = job.client.get_job_info(job.id)
        except (requests.RequestException, RayError, RuntimeError) as error:
            raise AutorankError(
                f"{job.address} no longer answers ({type(error).__name__}). The job may still be running. "
                f"To follow it again: {job.command('logs --follow')}"
            ) from error
        if details.status.is_terminal():
            return _exit_code(details, write)
        time.sleep(RECONNECT_INTERVAL_S)


def _identify(address: str) -> dict[str, str]:
    """The header with the cluster's token; empty if the cluster requires none."""
    token_mode = os.environ.get("RAY_AUTH_MODE", "").lower() == "token"
    if not token_mode and _accepts(address, {}):
        return {}
    token, source = _token()
    if not token:
        raise AutorankError(
            f"{'RAY_AUTH_MODE' if token_mode else address} requires a token, but none was found. Set "
            "RAY_AUTH_MODE=token, and store the cluster's token in ~/.ray/auth_token, in a file named by "
            "RAY_AUTH_TOKEN_PATH, or in the variable RAY_AUTH_TOKEN."
        )
    headers = {"Authorization": f"Bearer {token}"}
    if not _accepts(address, headers):
        raise AutorankError(
            f"{address} rejects the token from {source}. Replace it by the token in ~/.ray/auth_token on the cluster's "
            "head node, or store that token in RAY_AUTH_TOKEN, and set RAY_AUTH_MODE=token."
        )
    return headers


def _accepts(address: str, headers: dict[str, str]) -> bool:
    """Whether a Ray dashboard with jobs accepts these headers; False if it requires another token.

    Raises:
        AutorankError: Nothing answers at the address, or it is not such a dashboard.
    """
    import requests

    try:
        answer = requests.get(f"{address}/api/version", headers=headers, timeout=10)
    except requests.RequestException as error:
        raise AutorankError(
            f"No Ray cluster answers at {address} ({type(error).__name__}). Give --address http://HEAD:8265, the "
            "dashboard of the cluster's head node, or a port forwarded to it."
        ) from error
    if answer.status_code in (401, 403):
        return False
    try:
        answer.raise_for_status()
        answer.json()["ray_version"]
    except (requests.RequestException, KeyError, TypeError) as error:
        raise AutorankError(
            f"{address} answers, but does not accept Ray jobs (status {answer.status_code}). Use the dashboard's "
            "address. The head node needs Ray with the extra `default`: pip install 'ray[default]'."
        ) from error
    return True


def _token() -> tuple[str, str]:
    """The cluster's token and its source, searched for as Ray does; both empty if there is none."""
    if token := os.environ.get("RAY_AUTH_TOKEN", "").strip():
        return token, "RAY_AUTH_TOKEN"
    token_path = os.environ.get("RAY_AUTH_TOKEN_PATH")
    file = Path(token_path).expanduser() if token_path else Path.home() / ".ray" / "auth_token"
    if token_path and not file.is_file():
        raise AutorankError(
            f"RAY_AUTH_TOKEN_PATH is {token_path}, which is not a file. Store the cluster's token there."
        )
    token = file.read_text().strip() if file.is_file() else ""
    return (token, str(file)) if token else ("", "")


def _exit_code(details: JobDetails, write: Callable[[str], object]) -> int:
    """The exit code of a job's process, as in a shell; prints the reason if the log does not contain it."""
    status, code = str(details.status), details.driver_exit_code
    if status == "SUCCEEDED":
        return 0
    if status == "STOPPED":
        write("The job was stopped.\n")
        return EXIT_CODE
    if code is None:
        write(f"{details.message}\n")
        return 1
    return 128 - code if code < 0 else code or 1
