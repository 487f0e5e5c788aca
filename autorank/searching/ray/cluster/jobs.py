"""A command line of autorank as a job of a Ray cluster: what travels with it, and how it is followed."""

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
from autorank.redaction import hide
from autorank.searching.ray.cluster.connection import check_install
from autorank.searching.ray.cluster.runtime_env import own_methods, travelling

if TYPE_CHECKING:
    from ray.dashboard.modules.job.pydantic_models import JobDetails
    from ray.job_submission import JobSubmissionClient

DEFAULT = "http://127.0.0.1:8265"
VARIABLES = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")  # in the order in which Ray looks
ENVIRONMENT = {
    "RAY_JOB_STOP_SIGNAL": "SIGINT",  # a stopped search ends as by Ctrl-C: its journal whole
    "RAY_JOB_STOP_WAIT_TIME_S": "60",
}
TALKERS = (  # loggers of Ray's that say what is uploaded, and how each connection ended
    "ray.dashboard.modules.dashboard_sdk", "ray.dashboard.modules.job.sdk", "ray._private.runtime_env.packaging",
)  # fmt: skip
PAUSE = 2.0  # seconds between two attempts to follow a log
INTERRUPTED = 130


@dataclass(frozen=True)
class Job:
    """A job that was submitted, and the client that asks about it."""

    id: str
    address: str
    client: JobSubmissionClient
    token: bool

    def command(self, verb: str) -> str:
        """What a shell is told to do something with the job: `logs --follow`, `stop`, `status`."""
        return f"{'RAY_AUTH_MODE=token ' if self.token else ''}ray job {verb} --address {hide(self.address)} {self.id}"


def resolve(address: str | None) -> str:
    """The dashboard's address: the one given, RAY_API_SERVER_ADDRESS, RAY_ADDRESS, or this machine's.

    Raises:
        AutorankError: it is no http address.
    """
    found = address or next((os.environ[name] for name in VARIABLES if os.environ.get(name)), DEFAULT)
    if not found.startswith(("http://", "https://")):
        where = "--address" if address else " or ".join(VARIABLES)
        raise AutorankError(
            f"{where} {found!r} is not the address of a dashboard. "
            "Use --address http://HEAD:8265, where HEAD is the cluster's head node."
        )
    return found.rstrip("/")


def submit(address: str, entrypoint: str, working_dir: Path | None = None) -> Job:
    """Run a shell command as a job of a cluster.

    The job uses this process's autorank with its methods, not one installed on the cluster. The token of a cluster with
    authentication is read from where Ray reads it.

    Args:
        address: address of the cluster's dashboard.
        entrypoint: the shell command.
        working_dir: directory that is copied to the cluster, in whose copy the job starts.

    Returns:
        The job.

    Raises:
        AutorankError: there is no Ray dashboard at the address, the token is missing or refused, or the job is refused.
    """
    check_install()
    import requests
    from ray.exceptions import RayError
    from ray.job_submission import JobSubmissionClient

    for name in TALKERS:
        logging.getLogger(name).setLevel(logging.WARNING)
    headers = _identify(address)
    os.environ[VARIABLES[0]] = address  # Ray lets the environment win over the argument
    try:
        client = JobSubmissionClient(address, headers=headers)
        with travelling() as modules:
            runtime_env: dict[str, Any] = {**modules, "env_vars": ENVIRONMENT | own_methods()}
            if working_dir:
                runtime_env["working_dir"] = str(working_dir)
            submitted = client.submit_job(entrypoint=entrypoint, runtime_env=runtime_env)
    except (requests.RequestException, RayError, RuntimeError, ValueError, ConnectionError) as error:
        line = str(error).strip(" .\n").splitlines()[-1:] or [type(error).__name__]
        hint = " Put large data on storage that all nodes share." if "413" in str(error) else ""
        raise AutorankError(f"{address} rejected the job: {line[0]}.{hint}") from error
    return Job(submitted, address, client, token=bool(headers))


def follow(job: Job, write: Callable[[str], object]) -> int:
    """Pass on the job's log as it grows, until the job ends; returns the exit code.

    The driver's own where Ray tells it; 1 if it never started, 130 if the job was stopped. A connection that breaks is
    made again. Ctrl-C raises KeyboardInterrupt, and the job runs on.

    Raises:
        AutorankError: the cluster does not answer any more.
    """
    import aiohttp
    import requests
    from ray.exceptions import RayError

    told = 0  # characters of the log, which is read from its start whenever it is opened

    def tell(upto: int, text: str) -> None:
        nonlocal told
        if upto > told:
            write(text[told - upto :])
            told = upto

    async def tail() -> None:
        read = 0
        async for text in job.client.tail_job_logs(job.id):
            read += len(text)
            tell(read, text)

    while True:
        try:
            try:
                asyncio.run(tail())
            except (RuntimeError, aiohttp.ClientError):  # no websocket, or one that broke
                text = job.client.get_job_logs(job.id)
                tell(len(text), text)
            details = job.client.get_job_info(job.id)
        except (requests.RequestException, RayError, RuntimeError) as error:
            raise AutorankError(
                f"{job.address} no longer answers ({type(error).__name__}). The job may still be running. "
                f"To follow it again: {job.command('logs --follow')}"
            ) from error
        if details.status.is_terminal():
            return _exit_code(details, write)
        time.sleep(PAUSE)


def _identify(address: str) -> dict[str, str]:
    """The header that the cluster wants to see; none if it is open to all."""
    asked = os.environ.get("RAY_AUTH_MODE", "").lower() == "token"
    if not asked and _welcome(address, {}):
        return {}
    token, source = _token()
    if not token:
        raise AutorankError(
            f"{'RAY_AUTH_MODE' if asked else address} requires a token, but none was found. Set RAY_AUTH_MODE=token, "
            "and store the cluster's token in ~/.ray/auth_token, in a file named by RAY_AUTH_TOKEN_PATH, or in the "
            "variable RAY_AUTH_TOKEN."
        )
    headers = {"Authorization": f"Bearer {token}"}
    if not _welcome(address, headers):
        raise AutorankError(
            f"{address} rejects the token from {source}. Replace it by the token in ~/.ray/auth_token on the cluster's "
            "head node, or store that token in RAY_AUTH_TOKEN, and set RAY_AUTH_MODE=token."
        )
    return headers


def _welcome(address: str, headers: dict[str, str]) -> bool:
    """Whether a Ray dashboard with jobs answers; False if it wants another token.

    Raises:
        AutorankError: nothing answers, or something else.
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
    """The cluster's token and where it was found, both empty if nowhere. Looks where Ray does, in its order."""
    if token := os.environ.get("RAY_AUTH_TOKEN", "").strip():
        return token, "RAY_AUTH_TOKEN"
    named = os.environ.get("RAY_AUTH_TOKEN_PATH")
    file = Path(named).expanduser() if named else Path.home() / ".ray" / "auth_token"
    if named and not file.is_file():
        raise AutorankError(f"RAY_AUTH_TOKEN_PATH is {named}, which is not a file. Store the cluster's token there.")
    token = file.read_text().strip() if file.is_file() else ""
    return (token, str(file)) if token else ("", "")


def _exit_code(details: JobDetails, write: Callable[[str], object]) -> int:
    """What a shell would see; says what the log does not."""
    status, code = str(details.status), details.driver_exit_code
    if status == "SUCCEEDED":
        return 0
    if status == "STOPPED":
        write("The job was stopped.\n")
        return INTERRUPTED
    if code is None:
        write(f"{details.message}\n")
        return 1
    return 128 - code if code < 0 else code or 1
