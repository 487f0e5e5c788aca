"""IncreLoRA: ranks grow during training where the loss depends most on the update.

Zhang et al. 2023, "IncreLoRA: Incremental Parameter Allocation Method for Parameter-Efficient Fine-tuning"
(arXiv 2308.12043), in the order of operations of its published code (FeiyuZhang98/IncreLoRA).

  1. Every layer starts with one triplet (A, e, B), e = 0. After the first step it gets reserve components: e = 1e-5
     fixed, A and B trained ("advance learning"), so that they are in a good state when they are needed. Without advance
     learning a reserve is frozen, e = 0, but takes part in the penalty.
  2. Importance of a layer: I = Σ |ΔW ∘ dL/dΔW| / √(in·out) (the code; the paper's mean is `score_norm: mean`), of the
     task's loss alone, unclipped. Score: S = Ī · U, Ī smooths I (β1), U smooths |I - Ī| (β2).
  3. Every `interval` steps the `top_h` layers of highest S each activate `components` reserves and get new ones, until
     the ranks add up to the budget. What begins to train has a learning-rate curve of its own, which starts at zero in
     the next step; all curves end at zero together ("restart warm-up").
  4. A and B are kept orthogonal by a penalty over all components, ‖AAᵀ - I‖_F not squared (the code).

Differs from the published code, unless `published` is set:

  - DeBERTa passes the embeddings of relative positions through the query and key projections too. Here both have the
    update. The published modeling file applies the base weight alone to position queries.
  - The importance of DeBERTa's key projections is that of both calls in a forward pass. The published hook runs once
    for each call and keeps the value of the call with the tokens.
  - Importance is measured only in the steps before an allocation in which it still weighs (`score_window`): the rest
    moves Ī by about 0.15 % and U by about 1 %. The code measures every step.
  - Reserves are dropped once the budget is spent, which leaves the function as it is. The code keeps them in the
    penalty and in the norm by which gradients are clipped (the loss moves by about 1e-3).
  - The scale is alpha / rank; in the code it is alpha / (rank + 1e-5).
  - AdamW is torch's. The code's adds ε before the second moment's bias is corrected.

Differs from the published code always:

  - The total rank is met exactly. The code counts layers instead of ranks, may exceed the budget by up to top_h ·
    (components - 1), and then keeps the reserves' e at 1e-5 to the end.
  - Of equal scores the earlier layer grows; in the code every layer whose score equals the lowest chosen one grows.
  - Importance is that of the sum of a step's micro-batches, averaged over workers, without fp16's loss scale. The code
    takes the last micro-batch, each worker by itself, scaled.
  - Reserves take no part in evaluations; in the code they do, with e = 1e-5.
  - `schedule: original` is the paper's. Without its option `multi_lr` the code trains all later groups at the peak
    learning rate to the end, which is `constant`.
  - `components` defaults to half the mean rank, which the code has in a table for 2, 4, 6 and 8 alone, and `interval`
    to a part of the run (`growth`); the scripts give it in steps.
  - Weights decay before a step, as in torch; in the code after it.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from autorank.method import AllocationMethod
from autorank.modeling import rank_map
from autorank.modeling.adapters import adapted, attach
from autorank.modeling.layers.batched_factors import Orthogonality
from autorank.modeling.layers.importance import Importance
from autorank.modeling.layers.lora_layer import LowRankUpdate
from autorank.modeling.target_modules import features, shapes
from autorank.run_context import CONSTANT, FROZEN, RunContext
from trainables.growth_schedule import Growth, GrowthConfig
from trainables.svd_updates import PUBLISHED_SCALE, draw, new_triplet

RESERVE = 1e-5  # a reserve's e: too small to matter, large enough for a gradient
NEGLIGIBLE = 0.0015  # the weight below which a score is not worth measuring: 40 steps at β = 0.85 (ours)


class IncreLoRAConfig(GrowthConfig):
    """IncreLoRA's settings."""

    score_norm: Literal["sqrt", "mean", "none"] = Field(
        "sqrt", description="importance is divided by √(in·out) (published code), in·out (paper) or 1"
    )
    score_window: int | Literal["all"] | None = Field(
        None, description="steps scored before an allocation; none: those that still weigh (ours); all: every step"
    )
    scale: Literal["rank", "rank-preserving", "fixed"] = Field(
        "rank",
        description="rank: alpha / rank, so that growing shrinks what is there (published code); rank-preserving: with "
        "e raised to make up for it (ours); fixed: alpha throughout (ours)",
    )
    advance_learning: bool = Field(True, description="table 2: reserves are trained before they are needed")
    schedule: Literal["restart", "original", "constant"] = Field(
        "restart", description="table 2: new components' learning rate: a curve of its own, the run's, or a constant"
    )
    published: bool = Field(
        False, description="follow the published code where autorank deviates: see the list of differences"
    )
    retrain: Path | None = Field(None, description="table 3: a rank map (JSON) to train with from the start")


class IncreLoRA(AllocationMethod[IncreLoRAConfig]):
    """Triplets that start at rank 1 and grow to the budget, the important layers first."""

    name = "increlora"
    summary = "Ranks grow during training where the loss depends most on the update"
    source = "Zhang et al. 2023, arXiv 2308.12043"
    Config: ClassVar[type[IncreLoRAConfig]] = IncreLoRAConfig

    def check_length(self, layers: int, total_steps: int) -> None:
        if not self.config.retrain:
            Growth.plan(self.config, layers, total_steps)

    def prepare(self, run: RunContext) -> None:
        if self.config.retrain:
            for name, rank in rank_map.given(self.config.retrain, run.layers).items():
                self._attach(run, name, rank)
            self._begin(run)
            return
        Growth.plan(self.config, len(run.layers), run.total_steps)  # refuses before anything is done
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
        """What the hooks work with, after so many allocations; the model's updates are there already."""
        if self.config.published:
            run.optimizer.add_epsilon_before_correction()
        self._updates = [layer.update for layer in adapted(run.model).values()]
        self._smoothed = torch.zeros(len(self._updates), device=run.device)
        self._uncertainty = torch.zeros(len(self._updates), device=run.device)
        self._scored = False
        self._allocations = allocations
        self._orthogonality = Orthogonality()
        self._importance: Importance | None = None  # none: nothing is left to give
        if self.config.retrain:
            return
        self._growth = Growth.plan(self.config, len(self._updates), run.total_steps)
        if allocations < self._growth.rounds:
            self._importance = Importance(self._updates, first_call=self.config.published)
            run.undo.append(self._importance.close)
        power = {"sqrt": 0.5, "mean": 1.0, "none": 0.0}[self.config.score_norm]
        sizes = [float(update.A.shape[1] * update.B.shape[0]) for update in self._updates]
        self._norms = torch.tensor(sizes, device=run.device) ** power

    def penalty(self, run: RunContext) -> Tensor | None:
        return self.config.orthogonality * self._orthogonality(self._updates) if self.config.orthogonality else None

    def before_forward(self, run: RunContext) -> None:
        if self._importance is None or run.micro_batch > 0:
            return
        if self._growth.due(self._allocations) - run.step < self._window():
            self._importance.watch(run.micro_batches)

    def _window(self) -> float:
        """Steps before an allocation that are scored."""
        if self.config.published:
            return math.inf
        if self.config.score_window is not None:
            return math.inf if self.config.score_window == "all" else self.config.score_window
        beta = max(self.config.beta1, self.config.beta2)
        return max(1, round(math.log(NEGLIGIBLE) / math.log(beta))) if beta else 1

    def before_step(self, run: RunContext) -> None:
        """Score (eq. 5 to 7), if this step is watched."""
        if self._importance is None or not self._importance.watching:
            return
        importance = run.sum(self._importance.take()) / run.loss_scale() / self._norms
        if not self._scored and run.step > 0:
            self._smoothed.copy_(importance)  # from the middle of a run: the past, as far as it is known (ours)
        self._scored = True
        self._smoothed.lerp_(importance, 1 - self.config.beta1)
        self._uncertainty.lerp_((importance - self._smoothed).abs(), 1 - self.config.beta2)

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
        """Where the learning rate of what begins to train now has its start: the next step (published code)."""
        return {"restart": run.step + 1, "original": 0, "constant": CONSTANT}[self.config.schedule]

    def _reserve(self, run: RunContext, update: LowRankUpdate) -> None:
        """New reserves, behind all other components; without advance learning they are not trained."""
        learning = self.config.advance_learning
        if update.active is None:
            update.active = torch.ones(update.held, dtype=torch.bool, device=run.device)
        A, B = draw((update.A.shape[1], update.B.shape[0]), self._growth.components, run)
        e = torch.full((len(A),), RESERVE if learning else 0.0)
        run.grow(update, A, B, e, self._schedule_start(run) if learning else FROZEN)
        assert update.e is not None
        run.optimizer.set_schedule_start(update.e, torch.arange(update.held - len(A), update.held), FROZEN)

    def _activate(self, run: RunContext, update: LowRankUpdate, gain: int) -> None:
        """Let the oldest reserves count."""
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
        """The budget is spent: drop the reserves, and score no more."""
        for update in self._updates:
            assert update.active is not None and update.e is not None
            if self.config.published:  # the penalty goes on with them
                update.e.data.masked_fill_(~update.active, 0.0)
            else:
                run.keep(update, update.active.nonzero().flatten())
                update.active = None
        assert self._importance is not None
        self._importance.close()
        self._importance = None

    def state_dict(self) -> dict[str, Any]:
        return {
            "smoothed": self._smoothed.clone(),
            "uncertainty": self._uncertainty.clone(),
            "scored": self._scored,
            "allocations": self._allocations,
        }

    def load_state_dict(self, state: dict[str, Any], run: RunContext) -> None:
        self._begin(run, state["allocations"])
        self._smoothed, self._uncertainty = (state[key].to(run.device).clone() for key in ("smoothed", "uncertainty"))
        self._scored = state["scored"]

    @classmethod
    def adapter_params(cls, config: IncreLoRAConfig, model: nn.Module) -> tuple[int, int]:
        """Σ rank (in + out) when the smallest layers always grow, and when the largest do."""
        sizes = {name: sum(shape) for name, shape in shapes(model, config.targets).items()}
        if config.retrain:
            total = sum(rank * sizes[name] for name, rank in rank_map.given(config.retrain, sizes).items())
            return total, total
        growth = Growth.plan(config, len(sizes), total_steps=sys.maxsize)
        least, most = (growth.params(list(sizes.values()), sign) for sign in (-1, 1))
        return least, most
