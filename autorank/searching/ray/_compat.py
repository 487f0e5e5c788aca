"""Everything that autorank uses of Ray's private interface, which is why Ray's version has an upper bound."""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from autorank.errors import AutorankError
from autorank.redaction import hide

PRIVATE = {  # name -> its purpose
    "ray._private.ray_constants:ENABLE_RAY_CLUSTER": "a local Ray listens on the loopback address alone",
    "ray._private.utils:get_entrypoint_name": "passwords stay out of Ray's logs",
    "ray.tune.execution.class_cache:ENV_VARS_TO_PROPAGATE": "keys stay out of Ray's logs",
    "ray.experimental.internal_kv:_internal_kv_put": "the workers of a dead trial are freed",
}
TESTED_VERSION = "2.60.0"  # the version with which all tests are run


def check_private() -> None:
    """Refuse a Ray without the private names that protect this machine and secrets.

    Raises:
        AutorankError: Names what is missing.
    """
    lacking = []
    for path, purpose in PRIVATE.items():
        module, _, name = path.partition(":")
        try:
            exists = hasattr(importlib.import_module(module), name)
        except ImportError:
            exists = False
        if not exists:
            lacking.append(f"{module}.{name}, by which {purpose}")
    if lacking:
        raise AutorankError(
            f"Ray {importlib.metadata.version('ray')} has no {'; no '.join(lacking)}. Install a version that has: "
            f"pip install 'ray[default,train,tune]=={TESTED_VERSION}'."
        )


@contextlib.contextmanager
def loopback_only() -> Iterator[None]:
    """Start Ray's servers on the loopback address within this context, in processes that have imported Ray already."""
    from ray._private import ray_constants

    before = ray_constants.ENABLE_RAY_CLUSTER
    ray_constants.ENABLE_RAY_CLUSTER = False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before


@contextlib.contextmanager
def without_secrets() -> Iterator[None]:
    """Keep secrets out of what Ray logs and shows on its dashboard within this context.

    These are the command line, and AWS keys, which Tune adds to the runtime environment of each trial. Processes of a
    local Ray inherit the keys; nodes of a cluster have their own.
    """
    from ray._private import utils
    from ray.tune.execution import class_cache

    entrypoint, propagated = utils.get_entrypoint_name, class_cache.ENV_VARS_TO_PROPAGATE
    utils.get_entrypoint_name = lambda: hide(entrypoint())
    class_cache.ENV_VARS_TO_PROPAGATE = {name for name in propagated if not name.startswith("AWS_")}
    try:
        yield
    finally:
        utils.get_entrypoint_name, class_cache.ENV_VARS_TO_PROPAGATE = entrypoint, propagated


@contextlib.contextmanager
def printing_with(write: Callable[..., None]) -> Iterator[None]:
    """Pass the lines that Ray prints of its processes to `write` within this context.

    Ray prints the deaths of processes whatever its options are.
    """
    from ray._private import worker

    printer: Any = getattr(worker, "print_to_stdstream", None)  # without it, Ray just prints
    worker.print_to_stdstream = write
    try:
        yield
    finally:
        worker.print_to_stdstream = printer


def dead_processes() -> list[str]:
    """Return the names of dead processes of a Ray that this process has started."""
    from ray._private import worker

    node = worker._global_node
    return [] if node is None or not node.head else [name for name, _ in node.dead_processes()]


@contextlib.contextmanager
def killed_after(seconds: float) -> Iterator[None]:
    """Kill the processes of a local Ray if this context is still open after some seconds: they may not answer."""
    from ray._private import worker

    node = worker._global_node
    if node is None or not node.head:
        yield
        return
    timer = threading.Timer(seconds, lambda: node.kill_all_processes(check_alive=False, allow_graceful=False))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def without_placement_group_cleaner(callbacks: Iterable[Any]) -> list[Any]:
    """Return the callbacks of a Ray Train trainer but the one that releases the placement groups of dead trainers."""
    from ray.train.v2._internal.callbacks.placement_group_callback import PlacementGroupCleanerCallback

    return [callback for callback in callbacks if not isinstance(callback, PlacementGroupCleanerCallback)]


def actor_of(trial: Any) -> Any:
    """Return the actor of one of Tune's trials; None if it has none."""
    return trial.temporary_state.ray_actor


def kv_put(key: str, value: bytes, namespace: str) -> None:
    """Store a value in the cluster.

    Args:
        key: The key.
        value: The value.
        namespace: Namespace of the key.
    """
    from ray.experimental.internal_kv import _internal_kv_put

    _internal_kv_put(key, value, namespace=namespace)


def kv_get(key: str, namespace: str) -> bytes | None:
    """Return a value stored in the cluster, or None."""
    from ray.experimental.internal_kv import _internal_kv_get

    value: bytes | None = _internal_kv_get(key, namespace=namespace)
    return value


def kv_delete(key: str, namespace: str) -> None:
    """Delete a value stored in the cluster."""
    from ray.experimental.internal_kv import _internal_kv_del

    _internal_kv_del(key, namespace=namespace)
