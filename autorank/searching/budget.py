"""What a search may use: trials, time, and what of the machines."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from autorank.defaults import MAX_RETRIES
from autorank.searching.ray import resources

TRIALS = 20  # of a search that was never told how many


@dataclass(frozen=True)
class Budget:
    """What a search may use.

    Attributes:
        trials: how many shall have ended in total, those of earlier sessions included; by default as many as were
            asked for at last, or TRIALS. With `more`, so many more than there are, unless what was asked for at
            last is not done yet.
        seconds: from `created` on; then no trial starts, and those running stop at their next evaluation.
        concurrency: trials at once; by default as `resources.share` does.
        gpus_per_trial: may be a fraction; by default 1 for each worker where there are GPUs.
        workers: of each trial; with several, a trial is a Ray Train TorchTrainer.
        retries: of a trial whose process died.
        confirm: fresh seeds with which the front's points are trained again when the trials have ended; by default
            as asked for at last.
        address: of a Ray cluster; by default RAY_ADDRESS, or a local Ray.
        storage: address of object storage for what trials write, where nodes share no folder; by default as at last.
        created: time of this object's creation, as `time.monotonic` counts.
    """

    trials: int | None = None
    more: bool = False
    seconds: float | None = None
    concurrency: int | None = None
    gpus_per_trial: float | None = None
    workers: int = 1
    retries: int = MAX_RETRIES
    confirm: int | None = None
    address: str | None = None
    storage: str | None = None
    created: float = field(default_factory=time.monotonic, compare=False)

    @property
    def deadline(self) -> float:
        """When `seconds` are over, as `time.monotonic` counts; infinite without a limit."""
        return math.inf if self.seconds is None else self.created + self.seconds

    def wanted(self, before: Mapping[str, Any], ended: int, unconfirmed: bool = False) -> tuple[int, int]:
        """Trials in all, and seeds to confirm with.

        Args:
            before: what was asked for at last.
            ended: trials so far.
            unconfirmed: whether something that was to be confirmed at last was not tried yet.
        """
        trials = before.get("trials", 0)
        if self.trials is None:
            trials = trials or TRIALS
        elif not self.more:
            trials = self.trials
        elif ended >= trials and not unconfirmed:
            trials = ended + self.trials
        return trials, before.get("confirm", 0) if self.confirm is None else self.confirm

    def share(self, nodes: Sequence[Mapping[str, float]]) -> resources.Resources:
        """What each trial gets of what the nodes have. Raises AutorankError if that does not suffice."""
        return resources.share(nodes, self.concurrency, self.gpus_per_trial, self.workers)
