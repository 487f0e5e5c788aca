"""IncreLoRA's schedule: when ranks are allocated, how many, and to how many layers (Zhang et al. 2023, section 3.4)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from autorank.errors import AutorankError
from trainables.svd_updates import TripletConfig, total_rank


class GrowthConfig(TripletConfig):
    """Settings of the schedule."""

    mean_rank: float = Field(8.0, ge=1, description="final rank, averaged over layers: the budget")
    top_h: int = Field(10, ge=1, description="layers that grow at an allocation; at most all of them")
    components: int | None = Field(
        None, ge=1, description="ranks that each of these layers gains; none: half the mean rank (published code)"
    )
    interval: int | None = Field(None, ge=1, description="steps between allocations; none: computed from `growth`")
    growth: float = Field(0.4, gt=0, lt=1, description="fraction of the run in which the budget is allocated (ours)")
    first: Literal[1, 2] = Field(2, description="intervals before the first allocation (2: published code)")


@dataclass(frozen=True)
class GrowthSchedule:
    """The schedule of the allocations, fixed before the first step.

    Attributes:
        budget: The total rank.
        top_h: Layers that grow at an allocation.
        components: Ranks that each of these layers gains.
        interval: Steps between allocations.
        first: Intervals before the first one.
        rounds: Number of allocations.
    """

    budget: int
    top_h: int
    components: int
    interval: int
    first: int
    rounds: int

    @classmethod
    def plan(cls, config: GrowthConfig, layers: int, total_steps: int) -> GrowthSchedule:
        """Plan the allocations of a run.

        Args:
            config: The settings.
            layers: Number of adapted layers, each of which starts with rank 1.
            total_steps: Optimizer steps of the run.

        Returns:
            The schedule.

        Raises:
            AutorankError: The run is too short to allocate the budget.
        """
        budget, top_h = total_rank(config.mean_rank, layers), min(config.top_h, layers)
        components = config.components or max(1, int(config.mean_rank) // 2)
        rounds = math.ceil((budget - layers) / (top_h * components))
        intervals = config.first + rounds - 1  # before the last allocation
        interval = config.interval or int(config.growth * total_steps / max(1, intervals))
        if rounds and (interval < 1 or interval * intervals + 1 >= total_steps):
            raise AutorankError(
                f"increlora cannot allocate its budget in this run: {budget} ranks for {layers} layers need {rounds} "
                f"allocations, the last one after {intervals} intervals of {max(1, interval)} steps, but the run has "
                f"{total_steps} steps. Train longer, lower mean_rank (now {config.mean_rank:g})"
                + (", lower interval" if config.interval else f", raise growth (now {config.growth:g})")
                + f", or raise top_h (now {config.top_h}) or components (now {components})."
            )
        return cls(budget, top_h, components, interval, config.first, rounds)

    def due(self, allocations: int) -> int:
        """Return the step, counted from 0, after which allocation number `allocations`, from 0, takes place."""
        return (self.first + allocations) * self.interval

    def gains(self, scores: Sequence[float], spent: int) -> dict[int, int]:
        """Return the ranks of an allocation, which go to the highest scores; on a tie, to the earlier layer.

        Args:
            scores: Score of each layer.
            spent: Total rank before the allocation; afterwards the total is at most `budget`.

        Returns:
            Index of a layer -> ranks that it gains.
        """
        gains: dict[int, int] = {}
        for i in sorted(range(len(scores)), key=lambda i: -scores[i])[: self.top_h]:
            gain = min(self.components, self.budget - spent - sum(gains.values()))
            if gain > 0:
                gains[i] = gain
        return gains

    def params(self, sizes: Sequence[int], sign: int) -> int:
        """Count the parameters after the last allocation if the layers of largest `sign` · size always score highest.

        Args:
            sizes: Input plus output features of each layer.
            sign: 1 or -1.

        Returns:
            The number of parameters.
        """
        ranks = [1] * len(sizes)
        for _ in range(self.rounds):
            for i, gain in self.gains([sign * size for size in sizes], sum(ranks)).items():
                ranks[i] += gain
        return sum(rank * size for rank, size in zip(ranks, sizes, strict=True))
