"""LoRA-Squeeze: starts as LoRA of a high rank, and SVDs during training cut it in stages to the size of a low rank.

Vulić et al. 2026, "LoRA-Squeeze: Simple and Effective Post-Tuning and In-Tuning Compression of LoRA Modules" (arXiv
2602.10993), in the form that lowers the rank during training. The full text of the paper was not available. Its
abstract and summaries say: train at a high source rank, factorize ΔW by SVD, keep the largest components, continue
training, and repeat. All details below are ours.

  1. Every layer starts as LoRA of rank `source_rank`. No rank is lowered in the first part of the run (`initial`).
  2. In `stages` cuts at equal intervals the number of parameters falls to that of LoRA with rank `mean_rank`, by the
     same factor at each cut. The last cut is at the beginning of the final part of the run (`final`).
  3. At a cut each ΔW = s · B A is factorized into U S Vᵀ (exactly, and from rank x rank matrices only: see
     `autorank.modeling.spectrum`). The components of all layers are sorted together by S² / (in + out), their energy
     per parameter, and the best ones that fit are kept. (In the paper all layers have the same rank.) With `score` they
     are sorted by another score of slices (see `autorank.training.slicing.component_scores`).
  4. The kept components become B' = U √S / √s and A' = √S Vᵀ / √s. The scale s = alpha / source rank never changes.
  5. Adam continues. With A' = P A and B' = B Q its first moments are transformed like gradients, to Qᵀ · m for A and
     m · Pᵀ for B, and its second moments by the squares of the entries of P and Q.
  6. The rank of a layer is at most the smaller side of its weight.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

from pydantic import Field, model_validator
from torch import Tensor, nn
from typing_extensions import override

from autorank.defaults import SliceScore
from autorank.errors import AutorankError
from autorank.method import AllocationMethod
from autorank.modeling.adapters import adapted, attach
from autorank.modeling.spectrum import factorized
from autorank.modeling.target_modules import features, shapes
from autorank.run_context import RunContext
from trainables.configs import AllLinearConfig, PhasedConfig
from trainables.lora import new_update


class LoRASqueezeConfig(PhasedConfig, AllLinearConfig):
    """LoRA-Squeeze's settings; all defaults are ours."""

    mean_rank: float = Field(8.0, gt=0, description="the budget: the number of parameters of LoRA with this rank")
    source_rank: int = Field(32, ge=1, description="rank of every layer at the start")
    stages: int = Field(
        3, ge=1, description="number of cuts from the source rank to the budget, each by the same factor"
    )
    initial: float = Field(0.1, ge=0, lt=1, description="fraction of the run before the ranks fall")
    final: float = Field(0.4, gt=0, lt=1, description="fraction of the run with final ranks")
    score: SliceScore = Field("energy", description="score by which components are kept: energy, input or gradient")
    alpha: float = Field(16.0, gt=0, description="the update is scaled by alpha / source rank")

    @model_validator(mode="after")
    def _descends(self) -> LoRASqueezeConfig:
        if self.mean_rank > self.source_rank:
            raise ValueError(f"mean_rank {self.mean_rank:g} is greater than source_rank {self.source_rank}")
        return self


@dataclass(frozen=True)
class CutSchedule:
    """The schedule of the cuts, fixed before the first step.

    Attributes:
        steps: Steps after which parameters are cut, in ascending order.
        budgets: Maximum number of parameters after each cut.
    """

    steps: list[int]
    budgets: list[int]

    @classmethod
    def plan(cls, config: LoRASqueezeConfig, sizes: Sequence[int], total_steps: int) -> CutSchedule:
        """Plan the cuts of a run.

        Args:
            config: The method's settings.
            sizes: Parameters of one component of each layer: in + out.
            total_steps: Optimizer steps of the run.

        Returns:
            The schedule, with `stages` cuts.
        """
        stages = range(1, config.stages + 1)
        ratio = config.mean_rank / config.source_rank
        budgets = [_budget(config.source_rank * ratio ** (i / config.stages), sizes) for i in stages[:-1]]
        return cls(cut_steps(config, total_steps), [*budgets, final_budget(config, sizes)])


class LoRASqueeze(AllocationMethod[LoRASqueezeConfig]):
    """LoRA whose rank falls during training: the largest components of all layers are kept at each cut."""

    name = "lora-squeeze"
    summary = "Starts as LoRA of a high rank; SVDs during training keep only the largest components"
    source = "Vulić et al. 2026, arXiv 2602.10993"
    Config: ClassVar[type[LoRASqueezeConfig]] = LoRASqueezeConfig

    @override
    def check_length(self, layers: int, total_steps: int) -> None:
        cut_steps(self.config, total_steps)

    @override
    def prepare(self, run: RunContext) -> None:
        for name, layer in run.layers.items():
            shape = features(layer)
            rank = start_rank(self.config, shape)
            update = new_update(shape, rank, self.config.alpha * rank / self.config.source_rank, run)
            attach(run.model, name, update, self.config.dropout)
        self._begin(run)

    def _begin(self, run: RunContext, cuts: int = 0) -> None:
        """Set up what the hooks need, after `cuts` cuts."""
        sizes = [sum(features(layer)) for layer in run.layers.values()]
        self._schedule = CutSchedule.plan(self.config, sizes, run.total_steps)
        self._cuts = cuts

    @override
    def after_step(self, run: RunContext) -> None:
        due = bisect_right(self._schedule.steps, run.step)
        if due > self._cuts:  # fp16 may have skipped the step itself
            self._cut(run, self._schedule.budgets[due - 1])
            self._cuts = due

    def _cut(self, run: RunContext, budget: int) -> None:
        """Keep the best components that fit in `budget` parameters."""
        updates = {name: layer.update for name, layer in adapted(run.model).items()}
        if sum(update.A.numel() + update.B.numel() for update in updates.values()) <= budget:
            return
        factors = run.once(partial(self._best, run, budget))
        for name, update in updates.items():
            run.replace(update, factors[f"{name}.A"], factors[f"{name}.B"])

    def _best(self, run: RunContext, budget: int) -> dict[str, Tensor]:
        """Return A' and B' of every layer, by name."""
        root = math.sqrt(self.config.alpha / self.config.source_rank)
        factors: dict[str, Tensor] = {}
        with factorized(run.model) as spectrum:
            spectrum.order_by(run.component_scores(self.config.score, spectrum))
            spectrum.cut(spectrum.keep(bisect_right(spectrum.params, budget) - 1))
            for name, index in spectrum.layers.items():
                A, B, _ = spectrum.updates[index].active_parts()
                factors |= {f"{name}.A": A.detach() / root, f"{name}.B": B.detach() / root}
        return factors

    @override
    def state_dict(self) -> dict[str, Any]:
        return {"cuts": self._cuts}

    @override
    def load_state_dict(self, state: dict[str, Any], run: RunContext) -> None:
        self._begin(run, state["cuts"])

    @classmethod
    @override
    def adapter_params(cls, config: LoRASqueezeConfig, model: nn.Module) -> tuple[int, int]:
        """Fewest and most parameters of the best components that fit in the budget, whatever their order.

        Updates are assumed to have full rank, as trained ones do.
        """
        layers = shapes(model, config.targets).values()
        components: Counter[int] = Counter()
        for shape in layers:
            components[sum(shape)] += start_rank(config, shape)
        return prefix_bounds(components, final_budget(config, [sum(shape) for shape in layers]))


def cut_steps(config: LoRASqueezeConfig, total_steps: int) -> list[int]:
    """Return the steps after which parameters are cut.

    Raises:
        AutorankError: The run is too short for the number of cuts.
    """
    initial, fixed = config.phases(total_steps)
    if fixed - initial < config.stages or fixed == total_steps:
        raise AutorankError(
            f"lora-squeeze has too few steps for {config.stages} stages: in a run of {total_steps} steps the initial "
            f"phase ({config.initial:g}) ends at step {initial} and the final phase ({config.final:g}) begins at step "
            f"{fixed}. Train longer, or lower stages, initial or final."
        )
    return [initial + (fixed - initial) * i // config.stages for i in range(1, config.stages + 1)]


def start_rank(config: LoRASqueezeConfig, shape: tuple[int, int]) -> int:
    """Return the initial rank of a layer of shape (in, out)."""
    return min(config.source_rank, *shape)


def final_budget(config: LoRASqueezeConfig, sizes: Sequence[int]) -> int:
    """Return the maximum number of parameters of a finished run.

    Raises:
        AutorankError: The budget is smaller than a component of the largest layer.
    """
    budget = _budget(config.mean_rank, sizes)
    if budget < max(sizes, default=0):
        raise AutorankError(
            f"mean_rank {config.mean_rank:g} is a budget of {budget} parameters, but one rank of the largest layer has "
            f"{max(sizes)}. Raise mean_rank."
        )
    return budget


def _budget(rank: float, sizes: Sequence[int]) -> int:
    return int(rank * sum(sizes) + 1e-6)


def prefix_bounds(components: Mapping[int, int], budget: int) -> tuple[int, int]:
    """Return the bounds of the total size if components are taken in some order until one does not fit.

    Args:
        components: Number of parameters -> number of components of this size.
        budget: Maximum number of parameters.

    Returns:
        The fewest and the most parameters.
    """
    unit = math.gcd(*components)
    counts, limit = {size // unit: count for size, count in components.items()}, budget // unit
    total = sum(size * count for size, count in counts.items())
    if total <= limit:
        return total * unit, total * unit
    fewest = []
    for size in counts:  # size of the first component that does not fit
        lowest = max(limit - size + 1, 0)
        if reachable := _totals({**counts, size: counts[size] - 1}, limit) >> lowest:
            fewest.append(lowest + (reachable & -reachable).bit_length() - 1)
    return min(fewest) * unit, (_totals(counts, limit).bit_length() - 1) * unit


def _totals(counts: Mapping[int, int], limit: int) -> int:
    """Return the sums up to `limit` that are reached with at most `counts` of each size, as bits of an integer."""
    totals, mask = 1, (1 << limit + 1) - 1
    for size, count in counts.items():
        batch = 1
        while count:  # 1, 2, 4, ... and the rest: sums of these are all numbers up to `count`
            batch = min(batch, count)
            totals |= totals << batch * size & mask
            count, batch = count - batch, 2 * batch
    return totals
