"""IncreLoRA: ranks grow during training in the layers with the most important updates.

Zhang et al. 2023, "IncreLoRA: Incremental Parameter Allocation Method for Parameter-Efficient Fine-tuning"
(arXiv 2308.12043), in the order of operations of its published code (FeiyuZhang98/IncreLoRA).

  1. Every layer starts with one triplet (A, e, B), with e = 0. After the first step it gets reserve components, whose e
     is fixed at 1e-5 and whose A and B are trained ("advance learning"), so that they are useful when they are
     activated. Without advance learning a reserve is frozen with e = 0, but takes part in the penalty.
  2. The importance of a layer is I = Σ |ΔW ∘ dL/dΔW| / √(in·out) (the code; the paper's mean is `score_norm: mean`),
     computed from the unclipped gradient of the task's loss without the penalty. Its score is S = Ī · U: Ī is the
     moving average of I (β1), U that of |I - Ī| (β2).
  3. Every `interval` steps the `top_h` layers with the highest S each activate `components` reserves and get new
     reserves, until the total rank equals the budget. Each new component has its own learning-rate schedule, which
     starts at zero in the next step; all schedules end at zero together ("restart warm-up").
  4. A penalty keeps A and B of all components orthogonal: ‖AAᵀ - I‖_F, not squared (the code).

Differs from the published code, unless `published` is set:

  - DeBERTa also passes the embeddings of relative positions through the query and key projections. Here the updates
    apply to them. In the published modeling file only the base weight applies to position queries.
  - The importance of DeBERTa's key projections includes both calls in a forward pass. The published hook runs once for
    each call and keeps the value of the call with the tokens.
  - Importance is computed only in the steps before an allocation that still influence it (`score_window`). The other
    steps change Ī by about 0.15% and U by about 1%. The code computes it in every step.
  - Reserves are deleted once the budget is allocated, which does not change the function. In the code they stay in the
    penalty and in the norm for gradient clipping (the loss changes by about 1e-3).
  - The scale is alpha / rank; in the code it is alpha / (rank + 1e-5).
  - AdamW is torch's. The code's AdamW adds ε before the bias of the second moment is corrected.

Differs from the published code always:

  - The total rank equals the budget. The code counts layers instead of ranks, can exceed the budget by up to top_h ·
    (components - 1), and in that case keeps the e of reserves at 1e-5 until the end.
  - If scores are equal, the earlier layer grows. In the code all layers whose score equals the lowest selected one
    grow.
  - Importance is computed from the sum over a step's micro-batches, averaged over workers, without the loss scale of
    fp16. The code uses the last micro-batch, on each worker separately, with the loss scale.
  - Reserves take no part in evaluations. In the code they do, with e = 1e-5.
  - `schedule: original` is the paper's. Without the option `multi_lr` the code trains all later groups at the peak
    learning rate until the end, which is `constant`.
  - `components` defaults to half the mean rank (the code has a table for 2, 4, 6 and 8 only), and `interval` to a
    fraction of the run (`growth`). The scripts give it in steps.
  - Weight decay is applied before the step, as in torch; in the code after it.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from typing_extensions import override

from autorank.method import AllocationMethod
from autorank.modeling import rank_map
from autorank.modeling.adapters import adapted, attach
from autorank.modeling.layers.batched_factors import Orthogonality
from autorank.modeling.layers.importance import Importance
from autorank.modeling.layers.lora_layer import LowRankUpdate
from autorank.modeling.target_modules import features, shapes
from autorank.run_context import CONSTANT, FROZEN, RunContext
from trainables.configs import RetrainConfig
from trainables.growth_schedule import GrowthConfig, GrowthSchedule
from trainables.svd_updates import PUBLISHED_SCALE, draw, new_triplet

RESERVE = 1e-5  # e of a reserve: too small to change the output, large enough for a gradient
NEGLIGIBLE = 0.0015  # weight in a moving average below which a step is not scored: 40 steps at β = 0.85 (ours)


class IncreLoRAConfig(RetrainConfig, GrowthConfig):
    """IncreLoRA's settings. With `retrain` ranks do not grow (table 3)."""

    score_norm: Literal["sqrt", "mean", "none"] = Field(
        "sqrt", description="importance is divided by √(in·out) (published code), in·out (paper) or 1"
    )
    score_window: int | Literal["all"] | None = Field(
        None,
        description="scored steps before an allocation; none: those that still influence it (ours); all: every step",
    )
    scale: Literal["rank", "rank-preserving", "fixed"] = Field(
        "rank",
        description="rank: alpha / rank, so growth scales existing components down (published code); rank-preserving: "
        "the same, with e scaled up to compensate (ours); fixed: alpha at any rank (ours)",
    )
    advance_learning: bool = Field(True, description="table 2: train reserves before they are activated")
    schedule: Literal["restart", "original", "constant"] = Field(
        "restart", description="table 2: learning rate of new components: their own schedule, the run's, or constant"
    )
    published: bool = Field(
        False, description="reproduce the published code where autorank differs by default: see the list of differences"
    )


class IncreLoRA(AllocationMethod[IncreLoRAConfig]):
    """Triplets that start at rank 1 and grow to the budget, in the most important layers first."""

    name = "increlora"
    summary = "Ranks grow during training in the layers with the most important updates"
    source = "Zhang et al. 2023, arXiv 2308.12043"
    Config: ClassVar[type[IncreLoRAConfig]] = IncreLoRAConfig

    @override
    def check_length(self, layers: int, total_steps: int) -> None:
        if not self.config.retrain:
            GrowthSchedule.plan(self.config, layers, total_steps)

    @override
    def prepare(self, run: RunContext) -> None:
        if self.config.retrain:
            for name, rank in rank_map.read_for(self.config.retrain, run.layers).items():
                self._attach(run, name, rank)
            self._begin(run)
            return
        for name in run.layers:
            run.train_components(name, self._attach(run, name, 1))
        self._begin(run)

    def _attach(self, run: RunContext, name: str, rank: int) -> LowRankUpdate:
        update = new_triplet(features(run.layers[name]), rank, self._scale(rank), run)
        attach(run.model, name, update, self.config.dropout, position_queries=not self.config.published)
        return update

    def _scale(self, rank: int) -> float:
        return self.config.alpha / (rank + PUBLISHED_SCALE * self.config.published)

    def _begin(self, run: RunContext, allocations: int = 0) -> None:
        """Set up what the hooks need, once the updates are attached and after `allocations` allocations."""
        if self.config.published:
            run.optimizer.add_epsilon_before_correction()
        self._updates = [layer.update for layer in adapted(run.model).values()]
        self._smoothed = torch.zeros(len(self._updates), device=run.device)
        self._uncertainty = torch.zeros(len(self._updates), device=run.device)
        self._scored = False
        self._allocations = allocations
        self._orthogonality = Orthogonality()
        self._importance: Importance | None = None  # None: the budget is allocated
        if self.config.retrain:
            return
        self._growth = GrowthSchedule.plan(self.config, len(self._updates), run.total_steps)
        if allocations < self._growth.rounds:
            self._importance = Importance(self._updates, first_call=self.config.published)
            run.undo.append(self._importance.close)
        power = {"sqrt": 0.5, "mean": 1.0, "none": 0.0}[self.config.score_norm]
        sizes = [float(update.A.shape[1] * update.B.shape[0]) for update in self._updates]
        self._norms = torch.tensor(sizes, device=run.device) ** power

    @override
    def penalty(self, run: RunContext) -> Tensor | None:
        return self.config.orthogonality * self._orthogonality(self._updates) if self.config.orthogonality else None

    @override
    def before_forward(self, run: RunContext) -> None:
        if self._importance is None or run.micro_batch > 0:
            return
        if self._growth.due(self._allocations) - run.step < self._window():
            self._importance.watch(run.micro_batches)

    @contextmanager
    def most_memory(self, run: RunContext) -> Iterator[None]:
        """A scored step."""
        if self._importance is not None:
            self._importance.watch(run.micro_batches)
        yield
        if self._importance is not None:
            self._importance.cancel()

    def _window(self) -> float:
        """Number of scored steps before an allocation."""
        if self.config.published:
            return math.inf
        if self.config.score_window is not None:
            return math.inf if self.config.score_window == "all" else self.config.score_window
        beta = max(self.config.beta1, self.config.beta2)
        return max(1, round(math.log(NEGLIGIBLE) / math.log(beta))) if beta else 1

    @override
    def before_step(self, run: RunContext) -> None:
        """Update the scores (eq. 5 to 7) if this step is scored."""
        if self._importance is None or not self._importance.watching:
            return
        importance = run.sum(self._importance.take()) / run.loss_scale() / self._norms
        if not self._scored and run.step > 0:
            self._smoothed.copy_(importance)  # the first scored step replaces the unknown past (ours)
        self._scored = True
        self._smoothed.lerp_(importance, 1 - self.config.beta1)
        self._uncertainty.lerp_((importance - self._smoothed).abs(), 1 - self.config.beta2)

    @override
    def after_step(self, run: RunContext) -> None:
        if self._importance is None:
            return
        if self._updates[0].active is None:  # the first step is done
            for update in self._updates:
                self._reserve(run, update)
        if run.step < self._growth.due(self._allocations):
            return
        scores = (self._smoothed * self._uncertainty).tolist()  # eq. 8
        gains = self._growth.gains(scores, spent=sum(update.rank for update in self._updates))
        self._allocations += 1
        last = self._allocations == self._growth.rounds
        for i, gain in sorted(gains.items()):
            self._activate(run, self._updates[i], gain)
            if not last or self.config.published:
                self._reserve(run, self._updates[i])
        if last:
            self._finish(run)

    def _schedule_start(self, run: RunContext) -> int:
        """Start of the learning-rate schedule of new components: the next step in the published code."""
        return {"restart": run.step + 1, "original": 0, "constant": CONSTANT}[self.config.schedule]

    def _reserve(self, run: RunContext, update: LowRankUpdate) -> None:
        """Add reserves after all other components; without advance learning they are not trained."""
        learning = self.config.advance_learning
        if update.active is None:
            update.active = torch.ones(update.components, dtype=torch.bool, device=run.device)
        A, B = draw((update.A.shape[1], update.B.shape[0]), self._growth.components, run)
        e = torch.full((len(A),), RESERVE if learning else 0.0)
        run.grow(update, A, B, e, self._schedule_start(run) if learning else FROZEN)
        assert update.e is not None
        run.optimizer.set_schedule_start(update.e, torch.arange(update.components - len(A), update.components), FROZEN)

    def _activate(self, run: RunContext, update: LowRankUpdate, gain: int) -> None:
        """Activate the oldest `gain` reserves."""
        rank = update.rank
        chosen = torch.arange(rank, rank + gain, device=run.device)
        assert update.active is not None and update.e is not None
        update.active = update.active.index_fill(0, chosen, True)
        for factor in (update.e,) if self.config.advance_learning else (update.e, update.A, update.B):
            run.optimizer.set_schedule_start(factor, chosen, self._schedule_start(run))
        if self.config.scale == "fixed":
            return
        update.scale = self._scale(rank + gain)
        if self.config.scale == "rank-preserving":
            update.e.data[:rank] *= (rank + gain) / rank

    def _finish(self, run: RunContext) -> None:
        """Delete the reserves and stop scoring, because the budget is allocated."""
        for update in self._updates:
            assert update.active is not None and update.e is not None
            if self.config.published:  # the penalty still includes them
                update.e.data.masked_fill_(~update.active, 0.0)
            else:
                run.keep(update, update.active.nonzero().flatten())
                update.active = None
        assert self._importance is not None
        self._importance.close()
        self._importance = None

    @override
    def state_dict(self) -> dict[str, Any]:
        return {
            "smoothed": self._smoothed.clone(),
            "uncertainty": self._uncertainty.clone(),
            "scored": self._scored,
            "allocations": self._allocations,
        }

    @override
    def load_state_dict(self, state: dict[str, Any], run: RunContext) -> None:
        self._begin(run, state["allocations"])
        self._smoothed, self._uncertainty = (state[key].to(run.device).clone() for key in ("smoothed", "uncertainty"))
        self._scored = state["scored"]

    @classmethod
    @override
    def adapter_params(cls, config: IncreLoRAConfig, model: nn.Module) -> tuple[int, int]:
        """Σ rank (in + out) if the smallest layers always grow, and if the largest do."""
        sizes = {name: sum(shape) for name, shape in shapes(model, config.targets).items()}
        if config.retrain:
            total = sum(rank * sizes[name] for name, rank in rank_map.read_for(config.retrain, sizes).items())
            return total, total
        growth = GrowthSchedule.plan(config, len(sizes), total_steps=sys.maxsize)
        least, most = (growth.params(list(sizes.values()), sign) for sign in (-1, 1))
        return least, most
