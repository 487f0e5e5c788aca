"""The budget of a search: trials, time and resources."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from autorank.defaults import LANES, MAX_RETRIES, WORKERS
from autorank.errors import AutorankError
from autorank.searching.ray import resources
from autorank.searching.ray.cluster import connection
from autorank.spec import ObjectivesSpec

TRIALS = 20  # default number of trials


@dataclass(frozen=True)
class Budget:
    """The budget of a search.

    Attributes:
        trials: Total number of trials, including those of earlier sessions; by default the number of the last session,
            or TRIALS.
        more: Add `trials` to the number of ended trials, unless trials or confirmations of the last session are
            missing.
        seconds: Time limit from `created` on. Then no trial starts, and running trials stop at their next evaluation.
        concurrency: Number of concurrent trials; by default chosen by `resources.share`.
        gpus_per_trial: GPUs per trial, possibly a fraction; by default 1 per worker if there are GPUs.
        workers: Workers per trial; with several, a trial is a Ray Train TorchTrainer.
        lanes: Trials that share a process and the passes of its base model; "auto": chosen by measured throughput.
        retries: How often a trial whose process died is retried.
        confirm: Number of new seeds with which the points of the front are retrained after the last trial; by default
            that of the last session.
        address: Address of a Ray cluster; by default RAY_ADDRESS, or a local Ray.
        storage: Address of object storage for checkpoints and adapters if nodes share no directory; by default that of
            the last session.
        stop_when_flat: Start no trial if more trials are not expected to add to the front.
        created: `time.monotonic()` of the creation of this object.
    """

    trials: int | None = None
    more: bool = False
    seconds: float | None = None
    concurrency: int | None = None
    gpus_per_trial: float | None = None
    workers: int = WORKERS
    lanes: int | Literal["auto"] = LANES
    retries: int = MAX_RETRIES
    confirm: int | None = None
    address: str | None = None
    storage: str | None = None
    stop_when_flat: bool = False
    created: float = field(default_factory=time.monotonic, compare=False)

    @property
    def deadline(self) -> float:
        """When `seconds` are over, as `time.monotonic` counts; infinite without a limit."""
        return math.inf if self.seconds is None else self.created + self.seconds

    @property
    def on_cluster(self) -> bool:
        """Whether trials run on an existing Ray cluster, that of `address` or RAY_ADDRESS."""
        return connection.resolved(self.address) != connection.LOCAL

    def totals(self, before: Mapping[str, Any], ended: int, unconfirmed: bool = False) -> tuple[int, int]:
        """Resolve the numbers of trials and of confirmation seeds.

        Args:
            before: The values of the last session.
            ended: Number of ended trials.
            unconfirmed: Whether confirmations of the last session were not tried yet.

        Returns:
            The total number of trials and the number of seeds.
        """
        trials = before.get("trials", 0)
        if self.trials is None:
            trials = trials or TRIALS
        elif not self.more:
            trials = self.trials
        elif ended >= trials and not unconfirmed:
            trials = ended + self.trials
        return trials, before.get("confirm", 0) if self.confirm is None else self.confirm

    def check(self, objectives: ObjectivesSpec) -> None:
        """Check that the objectives of a search can be measured.

        Raises:
            AutorankError: Memory is an objective, but trials share a process.
        """
        if self.lanes != 1 and (objectives.max_memory is not None or objectives.third_objective == "memory"):
            raise AutorankError(
                f"--lanes {self.lanes} cannot be combined with --objective memory or --max-memory, because the trials "
                "of a pack share their memory. Use --lanes 1."
            )

    def share(self, nodes: Sequence[Mapping[str, float]]) -> resources.Resources:
        """Return the resources of each trial, or pack, on nodes with these resources; `auto` lanes count as one.

        Raises:
            AutorankError: The resources do not suffice.
        """
        lanes = 1 if self.lanes == "auto" else self.lanes
        return resources.share(nodes, self.concurrency, self.gpus_per_trial, self.workers, lanes)
