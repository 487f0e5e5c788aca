"""Whether all nodes of a cluster see a search's folder or its object storage: checked before a trial writes there.

Of all nodes at the start, and by each trial on its own node: others may have joined since.
"""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from autorank.errors import AutorankError
from autorank.trials.retention import remove

TIMEOUT = 120.0  # seconds for all nodes together: a node's first task may have to unpack the job's code
LAG = 10.0  # seconds in which a file has to show up on another node
QUESTION = "question"
MOUNT_TOKEN = ".shared"  # file in the folder while a search writes there
REMEDY = (
    "Trials write their adapters there. Use --runs DIR with a directory on storage that all nodes share, or "
    "--storage s3://... with object storage that all nodes can access."
)

MountToken = tuple[Path, str]  # a file, and what is in it if it is the search's own


class Unreachable(Exception):
    """A trial's node cannot look into the search's folder now: a fault of storage, which may pass."""


class NotShared(Unreachable):
    """A trial's node does not see the search's folder; another may."""


@contextlib.contextmanager
def shared(folder: Path) -> Iterator[MountToken]:
    """`check`; within it the folder has a mount token by which trials know it (`see`)."""
    check(folder)
    file, token = folder.absolute() / MOUNT_TOKEN, secrets.token_hex(16)
    file.write_text(token)
    try:
        yield file, token
    finally:
        with contextlib.suppress(Exception):  # clients of object storage raise others than OSError
            file.unlink()


def see(mount_token: MountToken) -> None:
    """That this node sees the folder with this mount token.

    Raises:
        NotShared: it does not, or may not read there; names the node.
        Unreachable: it could not be read, which says nothing about the node.
    """
    file, token = mount_token
    try:
        found = read(file)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        found = ""
    except Exception as error:
        said = " ".join(str(error).split())
        raise Unreachable(f"{file.parent} could not be read: {type(error).__name__}: {said}") from error
    if found != token:
        here = ray.get_runtime_context().get_node_id()
        node = _name({"NodeManagerAddress": ray.util.get_node_ip_address(), "NodeID": here})
        raise NotShared(f"Not all nodes of the cluster share {file.parent}: {node} does not see it. {REMEDY}")


def check(folder: Path) -> None:
    """Have each node on which trials can run read a file in `folder` (a `UPath` too), and write one that is read here.

    Leaves nothing behind.

    Raises:
        AutorankError: names each node that does not see the folder, cannot write there, or does not answer.
    """
    token = secrets.token_hex(16)
    place = folder.absolute() / f".storage-{token[:8]}"
    place.mkdir(parents=True)
    try:
        (place / QUESTION).write_text(token)
        nodes = [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU")]
        asked = {_ask(node["NodeID"], place): node for node in nodes}
        done, late = ray.wait(list(asked), num_returns=len(asked), timeout=TIMEOUT) if asked else ([], [])
        problems = [f"{_name(asked[ref])} did not answer within {TIMEOUT:g} seconds" for ref in late]
        for ref in late:
            ray.cancel(ref, force=True)
        problems += [f"{_name(asked[ref])} {why}" for ref in done if (why := _problem(ref, asked[ref], place, token))]
    finally:
        remove(place)
    if problems:
        raise AutorankError(
            f"Not all nodes of the cluster share {folder.absolute()}:\n"
            + "\n".join(f"  {line}" for line in sorted(problems))
            + f"\n{REMEDY}"
        )


def answer(place: Path, node: str) -> None:
    """What a node does: it copies the question to a file of its own."""
    (place / node).write_text(read(place / QUESTION))


def read(file: Path) -> str:
    """A file's text; one that another node wrote may take `LAG` to show up on network storage.

    Raises:
        FileNotFoundError: it does not.
    """
    deadline = time.monotonic() + LAG
    while not file.exists() and time.monotonic() < deadline and file.parent.parent.exists():
        time.sleep(0.2)
    return file.read_text()


def _ask(node: str, place: Path) -> Any:
    there = NodeAffinitySchedulingStrategy(node_id=node, soft=False)
    task = ray.remote(answer).options(num_cpus=0, max_retries=0, scheduling_strategy=there)
    return task.remote(place, node)


def _problem(ref: Any, node: dict[str, Any], place: Path, token: str) -> str | None:
    """Why a node that has answered is of no use; None if all is well."""
    try:
        ray.get(ref)
    except FileNotFoundError:
        return "does not see the folder"
    except OSError as error:
        cause = getattr(error, "cause", error)  # Ray wraps what a task raised
        return f"cannot read and write there ({getattr(cause, 'strerror', None) or cause})"
    except RayError as error:
        return f"failed: {str(error).strip().splitlines()[-1]}"
    try:
        return None if read(place / node["NodeID"]) == token else "wrote something else"
    except FileNotFoundError:
        return "wrote a file that does not show up here"


def _name(node: dict[str, Any]) -> str:
    return f"{node['NodeManagerAddress']} (node {node['NodeID'][:8]})"
