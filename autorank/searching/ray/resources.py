"""What one trial gets of the machine or cluster, and how many run at once."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from autorank.errors import AutorankError, counted

FEW = 4  # without GPUs: so many trials at once before a trial gets a second CPU, and at most so many CPUs a trial


@dataclass(frozen=True)
class Resources:
    """Of each worker or pack, how many workers a trial or trials a pack has, and how many trials run at once."""

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
    """Divide resources among trials, and those of a trial among its workers, which may be on different nodes.

    With several lanes, they are divided among packs.

    If there are GPUs, a worker gets one, or its part of `gpus_per_trial`. Otherwise trials share the CPUs, with at
    least four trials at once if there are enough CPUs: two small runs with one thread each are much faster than two
    consecutive runs with two threads. More concurrent trials would leave the sampler with less to learn from.

    Args:
        nodes: resources of each node, `CPU` and `GPU` as Ray counts them.
        concurrency: number of concurrent trials; None: chosen here.
        gpus_per_trial: GPUs per trial, possibly a fraction; None: one per worker.
        workers: workers per trial.
        lanes: trials per pack.

    Returns:
        The resources of each trial, or of each pack.

    Raises:
        AutorankError: there are fewer resources than requested, in total or on every node.
    """
    cpus, gpus = sum(_cpus(node) for node in nodes), sum(node.get("GPU", 0.0) for node in nodes)
    each = gpus_per_trial / workers if gpus_per_trial is not None else min(1.0, gpus)
    if each * workers > gpus:
        asked = "--gpus-per-trial" if gpus_per_trial is not None else f"--workers-per-trial {workers} with a GPU each,"
        raise AutorankError(f"{asked} {each * workers:g} is more than the available GPUs ({gpus:g}).")
    if each > 1 and each != int(each):
        raise AutorankError(f"--gpus-per-trial {each:g}: use a fraction of one GPU, or a whole number of GPUs.")

    workers_in_total = places(nodes, 1, each)
    if not workers_in_total:
        raise AutorankError(_no_room(nodes, each))
    most = lanes * (workers_in_total // workers)
    if not most:
        raise AutorankError(
            f"--workers-per-trial {workers} is too many: the nodes can run at most {workers_in_total} workers."
        )
    at_once = most if each else min(most, max(FEW, cpus // FEW))
    concurrency = concurrency or max(lanes, at_once // lanes * lanes)
    if concurrency > most:
        what = f"{gpus:g} GPUs at {each * workers:g} a trial" if each and most < cpus // workers else f"{cpus} CPUs"
        each_with = f" of {workers} workers" if workers > 1 else ""
        raise AutorankError(f"--concurrency {concurrency} is too many: {what} are enough for {most} trials{each_with}.")
    packs = -(-concurrency // lanes)
    while places(nodes, cpus, each) < packs * workers:
        cpus -= 1
    return Resources(concurrency, cpus, each, workers, lanes)


def places(nodes: Sequence[Mapping[str, float]], cpus: int, gpus: float) -> int:
    """Return how many workers fit on nodes.

    Args:
        nodes: Resources of each node.
        cpus: CPUs of a worker.
        gpus: GPUs of a worker.

    Returns:
        The number of workers.
    """
    return sum(_rooms(node, cpus, gpus) for node in nodes)


def _cpus(node: Mapping[str, float]) -> int:
    return int(node.get("CPU", 0))


def _rooms(node: Mapping[str, float], cpus: int, gpus: float) -> int:
    """How many workers of so many CPUs and GPUs a node holds."""
    there = node.get("GPU", 0.0)
    by_cpus = _cpus(node) // cpus
    if not gpus:
        return by_cpus
    return min(by_cpus, int(there) * int(1 / gpus + 1e-9) if gpus < 1 else int(there // gpus))  # none spans two GPUs


def _no_room(nodes: Sequence[Mapping[str, float]], gpus: float) -> str:
    have = "; ".join(sorted({f"{_cpus(node)} CPUs, {node.get('GPU', 0.0):g} GPUs" for node in nodes}))
    what, remedy = "1 CPU", "Wait until such a node has joined"
    if gpus:
        what, remedy = f"1 CPU and {gpus:g} GPU", "Use a lower --gpus-per-trial; 0 trains on CPUs"
    return f"No node of the cluster has the {what} that a trial needs. Available: {have}. {remedy}."


def keep_within(cpus: float, gpus: float) -> None:
    """Let this process use no more than what was reserved for it: threads, and its part of a shared GPU's memory.

    Args:
        cpus: reserved CPUs.
        gpus: reserved GPUs, possibly a fraction; 0: none, so there is nothing to share.
    """
    import torch

    from autorank.training import gpu

    torch.set_num_threads(max(1, int(cpus)))
    gpu.limit_memory(min(1.0, gpus or 1.0))


def cpu_count() -> int:
    """Return the number of CPUs that this process may use; macOS does not tell, so there it is the machine's."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def local() -> list[dict[str, float]]:
    """What this machine has, as a cluster of one node, without starting Ray."""
    import torch

    return [{"CPU": cpu_count(), "GPU": torch.cuda.device_count()}]


def joined() -> list[dict[str, float]]:
    """What each node of the Ray that this process has joined offers."""
    import ray

    return [node["Resources"] for node in ray.nodes() if node["Alive"]]
