"""Checks whether the nodes of a cluster can access a search's directory or its object storage.

All nodes are checked at the start. Each trial also checks its own node before it writes, because nodes may join later.
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

ALL_NODES_TIMEOUT_S = 120.0  # seconds for all nodes together: a node's first task may have to unpack the job's code
FILE_VISIBILITY_TIMEOUT_S = 10.0  # seconds in which a file has to show up on another node
PROBE = "probe"
MOUNT_TOKEN = ".shared"  # file in the directory while a search writes there
REMEDY = (
    "Trials write their adapters there. Use --runs DIR with a directory on storage that all nodes share, or "
    "--storage s3://... with object storage that all nodes can access."
)

MountToken = tuple[Path, str]  # a file, and its content if this is the search's own directory


class Unreachable(Exception):
    """A trial's node cannot read the search's directory at the moment, perhaps because of a temporary fault."""


class NotShared(Unreachable):
    """A trial's node cannot access the search's directory; other nodes may."""


@contextlib.contextmanager
def keep_mount_token(folder: Path) -> Iterator[MountToken]:
    """Check a directory, and keep a mount token in it within this context, with which trials check it."""
    check(folder)
    file, token = folder.absolute() / MOUNT_TOKEN, secrets.token_hex(16)
    file.write_text(token)
    try:
        yield file, token
    finally:
        with contextlib.suppress(Exception):  # clients of object storage raise others than OSError
            file.unlink()


def check_from_node(mount_token: MountToken) -> None:
    """Check that this node can read the directory with this mount token.

    Args:
        mount_token: The file and its content.

    Raises:
        NotShared: The node does not have the directory, or may not read it; the message names the node.
        Unreachable: The file could not be read for another reason, such as a network fault.
    """
    file, token = mount_token
    try:
        content = read(file)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        content = ""
    except Exception as error:
        message = " ".join(str(error).split())
        raise Unreachable(f"{file.parent} could not be read: {type(error).__name__}: {message}") from error
    if content != token:
        node_id = ray.get_runtime_context().get_node_id()
        node = _name({"NodeManagerAddress": ray.util.get_node_ip_address(), "NodeID": node_id})
        raise NotShared(f"Not all nodes of the cluster share {file.parent}: {node} does not see it. {REMEDY}")


def check(folder: Path) -> None:
    """Let each node on which trials can run read a file in a directory and write one, which is read here.

    All files are deleted afterwards.

    Args:
        folder: The directory, possibly a `UPath`.

    Raises:
        AutorankError: Nothing can be written to the directory, or lists the nodes that cannot access it, cannot write
            there, or do not answer.
    """
    token = secrets.token_hex(16)
    directory = folder.absolute() / f".storage-{token[:8]}"
    try:
        directory.mkdir(parents=True)
        (directory / PROBE).write_text(token)
    except Exception as error:  # each file system raises its own
        reason = "this kind of storage is read-only" if isinstance(error, NotImplementedError) else error
        raise AutorankError(
            f"Cannot write to {folder.absolute()}: {reason}. Check its address, free space, the network and the "
            "credentials."
        ) from error
    try:
        nodes = [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU")]
        tasks = {_start(node["NodeID"], directory): node for node in nodes}
        done, late = ray.wait(list(tasks), num_returns=len(tasks), timeout=ALL_NODES_TIMEOUT_S) if tasks else ([], [])
        problems = [f"{_name(tasks[task])} did not answer within {ALL_NODES_TIMEOUT_S:g} seconds" for task in late]
        for task in late:
            ray.cancel(task, force=True)
        for task in done:
            if problem := _problem(task, tasks[task], directory, token):
                problems.append(f"{_name(tasks[task])} {problem}")
    finally:
        remove(directory)
    if problems:
        raise AutorankError(
            f"Not all nodes of the cluster share {folder.absolute()}:\n"
            + "\n".join(f"  {line}" for line in sorted(problems))
            + f"\n{REMEDY}"
        )


def answer(directory: Path, node: str) -> None:
    """Copy the probe file to a file named after the node; runs on each node."""
    (directory / node).write_text(read(directory / PROBE))


def read(file: Path) -> str:
    """Read a file that another node may have written.

    On network storage it may appear up to `FILE_VISIBILITY_TIMEOUT_S` seconds later.

    Args:
        file: The file.

    Returns:
        Its text.

    Raises:
        FileNotFoundError: The file does not appear.
    """
    deadline = time.monotonic() + FILE_VISIBILITY_TIMEOUT_S
    while not file.exists() and time.monotonic() < deadline and file.parent.parent.exists():
        time.sleep(0.2)
    return file.read_text()


def _start(node: str, directory: Path) -> Any:
    """Start `answer` on a node."""
    strategy = NodeAffinitySchedulingStrategy(node_id=node, soft=False)
    task = ray.remote(answer).options(num_cpus=0, max_retries=0, scheduling_strategy=strategy)
    return task.remote(directory, node)


def _problem(task: Any, node: dict[str, Any], directory: Path, token: str) -> str | None:
    """Why a node that has answered cannot be used; None if it can."""
    try:
        ray.get(task)
    except FileNotFoundError:
        return "does not see the directory"
    except OSError as error:
        cause = getattr(error, "cause", error)  # Ray wraps what a task raised
        return f"cannot read and write there ({getattr(cause, 'strerror', None) or cause})"
    except RayError as error:
        return f"failed: {str(error).strip().splitlines()[-1]}"
    try:
        return None if read(directory / node["NodeID"]) == token else "wrote unexpected content"
    except FileNotFoundError:
        return "wrote a file that does not show up here"


def _name(node: dict[str, Any]) -> str:
    return f"{node['NodeManagerAddress']} (node {node['NodeID'][:8]})"
