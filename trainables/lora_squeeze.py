"""LoRA-Squeeze: LoRA at a high rank, cut by SVD in stages during training until it has the parameters of a low one.

Vulić et al. 2026, "LoRA-Squeeze: Simple and Effective Post-Tuning and In-Tuning Compression of LoRA Modules" (arXiv
2602.10993), the form that lowers the rank during training. The paper is known here from its abstract and summaries:
train at a high source rank, factorise ΔW by SVD, keep the largest components, go on training, lower and lower. All
details below are ours.

  1. Every layer starts as LoRA of `source_rank`, and no rank is lowered in the first part of the run (`initial`).
  2. In `stages` cuts at equal intervals the parameters fall to those of LoRA at `mean_rank`, by the same factor at each
     cut. The last one is where the final part of the run (`final`) begins.
  3. At a cut each ΔW = s · B A is factorised into U S Vᵀ (exact, and of rank x rank matrices alone: see
     `autorank.modeling.spectrum`). The components of all layers are pooled and sorted by S² / (in + out), their energy
     per parameter, and the best are kept as long as they fit. (The paper gives all layers one rank.) Or they are sorted
     by another score of slices (`score`, see `autorank.training.component_scores`).
  4. What is kept becomes B' = U √S / √s and A' = √S Vᵀ / √s; the scale s = alpha / source rank never changes.
  5. Adam goes on: its first moments are transformed as gradients are when A' = P A and B' = B Q, to Qᵀ · m of A and
     m · Pᵀ of B; its second moments by the squares of P and Q.
  6. A layer's rank is never above the smaller side of its weight.
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

from autorank.defaults import SliceScore
from autorank.errors import AutorankError
from autorank.method import AllocationMethod, TargetedConfig
from autorank.modeling.adapters import adapted, attach
from autorank.modeling.spectrum import factorised
from autorank.modeling.target_modules import features, shapes
from autorank.run_context import RunContext
from trainables.lora import new_update


class LoRASqueezeConfig(TargetedConfig):
    """LoRA-Squeeze's settings; all defaults are ours."""

    targets: str = Field("all-linear", description="adapted layers: attention-qv, attention, ffn, all-linear or names")
    mean_rank: float = Field(8.0, gt=0, description="the budget: as many parameters as LoRA of this rank has")
    source_rank: int = Field(32, ge=1, description="rank of every layer at the start")
    stages: int = Field(3, ge=1, description="cuts from the source rank to the budget, each by the same factor")
    initial: float = Field(0.1, ge=0, lt=1, description="part of the run before the descent")
    final: float = Field(0.4, gt=0, lt=1, description="part of the run with final ranks")
    score: SliceScore = Field("energy", description="what components are kept by: energy, input or gradient")
    alpha: float = Field(16.0, gt=0, description="the update is scaled by alpha / source rank")
    dropout: float = Field(0.0, ge=0, lt=1, description="dropout of the update's input")

    @model_validator(mode="after")
    def _descends(self) -> LoRASqueezeConfig:
        if self.mean_rank > self.source_rank:
            raise ValueError(f"mean_rank {self.mean_rank:g} is above source_rank {self.source_rank}")
        if self.initial + self.final >= 1:
            raise ValueError(f"initial {self.initial:g} and final {self.final:g} leave nothing of the run between them")
        return self


@dataclass(frozen=True)
class Descent:
    """When parameters are cut, and to how many: known before the first step.

    Attributes:
        steps: after which steps, rising.
        budgets: most parameters after each of these cuts.
    """

    steps: list[int]
    budgets: list[int]

    @classmethod
    def plan(cls, config: LoRASqueezeConfig, sizes: Sequence[int], total_steps: int) -> Descent:
        """Plan the cuts of a run.

        Args:
            config: the method's settings.
            sizes: parameters of one component of each layer: in + out.
            total_steps: optimizer steps of the run.

        Returns:
            The cuts, `stages` of them.
        """
        stages = range(1, config.stages + 1)
        ratio = config.mean_rank / config.source_rank
        budgets = [_budget(config.source_rank * ratio ** (i / config.stages), sizes) for i in stages[:-1]]
        return cls(cut_steps(config, total_steps), [*budgets, final_budget(config, sizes)])


class LoRASqueeze(AllocationMethod[LoRASqueezeConfig]):
    """LoRA whose rank falls during training: the largest components of all layers are kept at each cut."""

    name = "lora-squeeze"
    summary = "Starts as LoRA of a high rank; SVDs during training keep the largest components"
    source = "Vulić et al. 2026, arXiv 2602.10993"
    Config: ClassVar[type[LoRASqueezeConfig]] = LoRASqueezeConfig

    def check_length(self, layers: int, total_steps: int) -> None:
        cut_steps(self.config, total_steps)

    def prepare(self, run: RunContext) -> None:
        for name, layer in run.layers.items():
            shape = features(layer)
            rank = start_rank(self.config, shape)
            update = new_update(shape, rank, self.config.alpha * rank / self.config.source_rank, run)
            attach(run.model, name, update, self.config.dropout)
        self._begin(run)

    def _begin(self, run: RunContext, cuts: int = 0) -> None:
        """Set what the hooks work with, after so many cuts."""
        sizes = [sum(features(layer)) for layer in run.layers.values()]
        self._descent = Descent.plan(self.config, sizes, run.total_steps)
        self._cuts = cuts

    def after_step(self, run: RunContext) -> None:
        due = bisect_right(self._descent.steps, run.step)
        if due > self._cuts:  # fp16 may have skipped the step itself
            self._cut(run, self._descent.budgets[due - 1])
            self._cuts = due

    def _cut(self, run: RunContext, budget: int) -> None:
        """Keep the best components that `budget` parameters allow."""
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
        with factorised(run.model) as parts:
            parts.order_by(run.component_scores(self.config.score, parts))
            parts.cut(parts.keep(bisect_right(parts.params, budget) - 1))
            for name, index in parts.layers.items():
                A, B, _ = parts.updates[index].counting()
                factors |= {f"{name}.A": A.detach() / root, f"{name}.B": B.detach() / root}
        return factors

    def state_dict(self) -> dict[str, Any]:
        return {"cuts": self._cuts}

    def load_state_dict(self, state: dict[str, Any], run: RunContext) -> None:
        self._begin(run, state["cuts"])

    @classmethod
    def adapter_params(cls, config: LoRASqueezeConfig, model: nn.Module) -> tuple[int, int]:
        """Fewest and most parameters of the best components that fit the budget, in whatever order they come.

        Updates are taken to have their full rank, as trained ones do.
        """
        layers = shapes(model, config.targets).values()
        components: Counter[int] = Counter()
        for shape in layers:
            components[sum(shape)] += start_rank(config, shape)
        return prefix_bounds(components, final_budget(config, [sum(shape) for shape in layers]))


def cut_steps(config: LoRASqueezeConfig, total_steps: int) -> list[int]:
    """Return the steps after which parameters are cut.

    Raises:
        AutorankError: the run is too short for so many cuts.
    """
    initial, fixed = int(config.initial * total_steps), total_steps - int(config.final * total_steps)
    if fixed - initial < config.stages or fixed == total_steps:
        raise AutorankError(
            f"lora-squeeze has no room for its {config.stages} stages: in a run of {total_steps} steps the initial "
            f"phase ({config.initial:g}) ends at step {initial} and the final phase ({config.final:g}) begins at step "
            f"{fixed}. Train longer, or lower stages, initial or final."
        )
    return [initial + (fixed - initial) * i // config.stages for i in range(1, config.stages + 1)]


def start_rank(config: LoRASqueezeConfig, shape: tuple[int, int]) -> int:
    """Return the rank that a layer of shape (in, out) starts with."""
    return min(config.source_rank, *shape)


def final_budget(config: LoRASqueezeConfig, sizes: Sequence[int]) -> int:
    """Return the most parameters that a finished run may have.

    Raises:
        AutorankError: they are too few for a component of the largest layer.
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
    """Return the fewest and most parameters if components are taken in some order until one does not fit.

    Args:
        components: parameters of a component -> how many components have as many.
        budget: the parameters that they must fit into.
    """
    unit = math.gcd(*components)
    counts, limit = {size // unit: count for size, count in components.items()}, budget // unit
    total = sum(size * count for size, count in counts.items())
    if total <= limit:
        return total * unit, total * unit
    fewest = []
    for size in counts:  # of the first that does not fit
        above = max(limit - size + 1, 0)
        if beyond := _totals({**counts, size: counts[size] - 1}, limit) >> above:
            fewest.append(above + (beyond & -beyond).bit_length() - 1)
    return min(fewest) * unit, (_totals(counts, limit).bit_length() - 1) * unit


def _totals(counts: Mapping[int, int], limit: int) -> int:
    """Return the sums up to `limit` that are reached with at most `counts` of each size, as bits of an integer."""
    totals, within = 1, (1 << limit + 1) - 1
    for size, count in counts.items():
        batch = 1
        while count:  # 1, 2, 4, ... and the rest: every number up to `count` is a sum of some of them
            batch = min(batch, count)
            totals |= totals << batch * size & within
            count, batch = count - batch, 2 * batch
    return totals
