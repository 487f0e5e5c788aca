"""What one trial gets of the machine or cluster, and how many run at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from autorank.errors import AutorankError

FEW = 4  # without GPUs: so many trials at once before a trial gets a second CPU, and at most so many CPUs a trial


@dataclass(frozen=True)
class Resources:
    """Of each worker, how many workers a trial has, and how many trials run at once."""

    concurrency: int
    cpus: int
    gpus: float
    workers: int = 1

    def __str__(self) -> str:
        trials = "1 trial" if self.concurrency == 1 else f"{self.concurrency} trials"
        workers = "" if self.workers == 1 else f"{self.workers} workers of "
        cpus = "1 CPU" if self.cpus == 1 else f"{self.cpus} CPUs"
        gpus = f", {self.gpus:g} GPU" if self.gpus else ""
        return f"{trials} at once, {workers}{cpus}{gpus} each"


def share(
    available: Mapping[str, float], concurrency: int | None = None, gpus_per_trial: float | None = None,
    workers: int = 1,
) -> Resources:  # fmt: skip
    """Share what there is (`CPU`, `GPU`, as Ray counts them) between trials, and each trial's between its workers.

    Where there are GPUs a worker gets one, or its part of `gpus_per_trial`. Else trials share the CPUs, four at once or
    more: two small runs of one thread are far quicker than one after the other with two threads, while more trials at
    once would leave the sampler less to learn from.

    Raises:
        AutorankError: more is asked for than there is.
    """
    cpus, gpus = int(available.get("CPU", 1)), available.get("GPU", 0.0)
    each = gpus_per_trial / workers if gpus_per_trial is not None else min(1.0, gpus)
    if each * workers > gpus:
        asked = "--gpus-per-trial" if gpus_per_trial is not None else f"--workers-per-trial {workers} with a GPU each,"
        raise AutorankError(f"{asked} {each * workers:g} is more than the {gpus:g} GPUs that there are.")
    if each > 1 and each != int(each):
        raise AutorankError(f"--gpus-per-trial {each:g}: Ray shares out parts of one GPU, or whole GPUs.")
    if each:
        rooms = int(gpus) * int(1 / each + 1e-9) if each < 1 else int(gpus // each)  # none spans two GPUs
        most = min(cpus, rooms) // workers
        default = most
    else:
        most = cpus // workers
        default = min(most, max(FEW, cpus // FEW))
    concurrency = concurrency or max(1, default)
    if concurrency > most:
        what = f"{gpus:g} GPUs at {each * workers:g} a trial" if each and most < cpus // workers else f"{cpus} CPUs"
        each_with = f" of {workers} workers" if workers > 1 else ""
        raise AutorankError(f"--concurrency {concurrency} is too many: {what} have room for {most} trials{each_with}.")
    return Resources(concurrency, max(1, cpus // (concurrency * workers)), each, workers)


def local() -> dict[str, float]:
    """What this machine has, without starting Ray."""
    import os

    import torch

    return {"CPU": len(os.sched_getaffinity(0)), "GPU": torch.cuda.device_count()}
