"""The resources of a trial, and the number of concurrent trials."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from autorank.errors import AutorankError, counted

# Without GPUs
MIN_TRIALS = 4  # concurrent trials, before a trial gets a second CPU
MAX_CPUS = 4  # CPUs of a trial, before there are more concurrent trials


@dataclass(frozen=True)
class Resources:
    """Resources of a search.

    Attributes:
        concurrency: Number of concurrent trials.
        cpus: CPUs of each worker, or of each pack.
        gpus: GPUs of each worker, or of each pack.
        workers: Workers of a trial.
        lanes: Trials of a pack.
    """

    concurrency: int
    cpus: int
    gpus: float
    workers: int = 1
    lanes: int = 1

    @property
    def packs(self) -> int:
        """The number of packs, that is, of processes if a trial has one worker."""
        return -(-self.concurrency // self.lanes)

    def __str__(self) -> str:
        trials = "1 trial" if self.concurrency == 1 else f"{self.concurrency} trials"
        packs = "" if self.lanes == 1 else f" in {counted(self.packs, 'pack')}"
        workers = "" if self.workers == 1 else f"{self.workers} workers of "
        cpus = "1 CPU" if self.cpus == 1 else f"{self.cpus} CPUs"
        gpus = f", {self.gpus:g} GPU" if self.gpus else ""
        return f"{trials} at once{packs}, {workers}{cpus}{gpus} each"


def share(
    nodes: Sequence[Mapping[str, float]], concurrency: int | None = None, gpus_per_trial: float | None = None,
    workers: int = 1, lanes: int = 1,
) -> Resources:  # fmt: skip
    """Divide resources among trials or packs, and those of a trial among its workers.

    The workers of a trial may be on different nodes.

    If there are GPUs, a worker gets one, or its part of `gpus_per_trial`. Otherwise trials share the CPUs, with at
    least four trials at once if there are enough CPUs: two small runs with one thread each are much faster than two
    consecutive runs with two threads. More concurrent trials would leave the sampler with less to learn from.

    Args:
        nodes: Resources of each node, `CPU` and `GPU` as Ray counts them.
        concurrency: Number of concurrent trials; None: chosen here.
        gpus_per_trial: GPUs per trial, possibly a fraction; None: one per worker.
        workers: Workers per trial.
        lanes: Trials per pack.

    Returns:
        The resources of each trial, or of each pack.

    Raises:
        AutorankError: There are fewer resources than requested, in total or on every node.
    """
    cpus, gpus = sum(_cpus(node) for node in nodes), sum(node.get("GPU", 0.0) for node in nodes)
    worker_gpus = gpus_per_trial / workers if gpus_per_trial is not None else min(1.0, gpus)
    trial_gpus = worker_gpus * workers
    if trial_gpus > gpus:
        option = f"--workers-per-trial {workers}" if gpus_per_trial is None else f"--gpus-per-trial {gpus_per_trial:g}"
        raise AutorankError(
            f"{option} needs {trial_gpus:g} GPUs, but only {gpus:g} are available. Use a smaller number."
        )
    if worker_gpus > 1 and worker_gpus != int(worker_gpus):
        each = f" gives each of {workers} workers {worker_gpus:g} GPUs" if workers > 1 else ""
        raise AutorankError(
            f"--gpus-per-trial {trial_gpus:g}{each}: use a whole number of GPUs for each worker, or a fraction of one."
        )

    max_workers = worker_capacity(nodes, 1, worker_gpus)
    if not max_workers:
        raise AutorankError(_nodes_too_small(nodes, worker_gpus))
    max_trials = lanes * (max_workers // workers)
    if not max_trials:
        raise AutorankError(
            f"--workers-per-trial {workers} is too many: the nodes can run at most {max_workers} workers."
        )
    if concurrency is None:
        trials = max_trials if worker_gpus else min(max_trials, max(MIN_TRIALS, cpus // MAX_CPUS))
        concurrency = max(lanes, trials // lanes * lanes)
    if concurrency > max_trials:
        by_gpus = worker_gpus and max_trials < cpus // workers
        available = f"{gpus:g} GPUs at {trial_gpus:g} a trial" if by_gpus else f"{cpus} CPUs"
        of_workers = f" of {workers} workers" if workers > 1 else ""
        raise AutorankError(
            f"--concurrency {concurrency} is too many: {available} are enough for {max_trials} trials{of_workers}."
        )
    packs = -(-concurrency // lanes)
    while worker_capacity(nodes, cpus, worker_gpus) < packs * workers:
        cpus -= 1
    return Resources(concurrency, cpus, worker_gpus, workers, lanes)


def worker_capacity(nodes: Sequence[Mapping[str, float]], cpus: int, gpus: float) -> int:
    """Return how many workers fit on nodes.

    Args:
        nodes: Resources of each node.
        cpus: CPUs of a worker.
        gpus: GPUs of a worker.

    Returns:
        The number of workers.
    """
    return sum(_node_capacity(node, cpus, gpus) for node in nodes)


def _cpus(node: Mapping[str, float]) -> int:
    return int(node.get("CPU", 0))


def _node_capacity(node: Mapping[str, float], cpus: int, gpus: float) -> int:
    """The number of workers that fit on one node. A worker with a fraction of a GPU uses a single GPU."""
    by_cpus = _cpus(node) // cpus
    if not gpus:
        return by_cpus
    node_gpus = node.get("GPU", 0.0)
    by_gpus = int(node_gpus) * int(1 / gpus + 1e-9) if gpus < 1 else int(node_gpus // gpus)
    return min(by_cpus, by_gpus)


def _nodes_too_small(nodes: Sequence[Mapping[str, float]], gpus: float) -> str:
    available = "; ".join(sorted({f"{_cpus(node)} CPUs, {node.get('GPU', 0.0):g} GPUs" for node in nodes}))
    required, remedy = "1 CPU", "Wait until such a node has joined"
    if gpus:
        required, remedy = f"1 CPU and {gpus:g} GPU", "Use a lower --gpus-per-trial; 0 trains on CPUs"
    return f"No node of the cluster has the {required} that a trial needs. Available: {available}. {remedy}."


def keep_within(cpus: float, gpus: float) -> None:
    """Limit this process to its resources: the number of threads, and its part of the memory of a shared GPU.

    A lower OMP_NUM_THREADS is kept. If it is not set, Ray sets it to the CPUs of the actor or task.

    Args:
        cpus: Reserved CPUs.
        gpus: Reserved GPUs, possibly a fraction; 0: none, so there is nothing to share.
    """
    import torch

    from autorank.training import gpu

    limit = os.environ.get("OMP_NUM_THREADS", "")
    torch.set_num_threads(max(1, min(int(cpus), int(limit) if limit.isdecimal() else int(cpus))))
    gpu.limit_memory(min(1.0, gpus or 1.0))


def cpu_count() -> int:
    """Return the number of CPUs that this process may use; on macOS, where it is unknown, that of the machine."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def this_machine() -> list[dict[str, float]]:
    """Return the resources of this machine as those of a cluster of one node, without starting Ray."""
    import torch

    return [{"CPU": cpu_count(), "GPU": torch.cuda.device_count()}]


def cluster_nodes() -> list[dict[str, float]]:
    """Return the resources of each node of the Ray cluster that this process has joined."""
    import ray

    return [node["Resources"] for node in ray.nodes() if node["Alive"]]
