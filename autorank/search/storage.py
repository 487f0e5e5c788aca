"""Whether all nodes of a cluster see a search's folder or its object storage: checked before a trial writes there."""

from __future__ import annotations

import secrets
import time
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from autorank.errors import AutorankError
from autorank.search.files import remove

TIMEOUT = 120.0  # seconds for all nodes together: a node's first task may have to unpack the job's code
LAG = 10.0  # seconds in which a file has to show up on another node
QUESTION = "question"


def check(folder: Path) -> None:
    """Have each node on which trials can run read a file in `folder` (a `UPath` too), and write one that is read here.

    Leaves nothing behind. Nodes that join later are not asked.

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
            + "\nTrials write their adapters there. Give --runs DIR, a folder on storage that all nodes share, or "
            "--storage s3://..., object storage that they all reach."
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
