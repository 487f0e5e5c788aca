"""AdaLoRA: triplets with the lowest sensitivity of the loss are masked under a falling budget, then deleted.

Zhang et al. 2023, "Adaptive Budget Allocation for Parameter-Efficient Fine-Tuning" (arXiv 2303.10512, ICLR 2023),
implemented as in its published code (QingruZhang/AdaLoRA).

  1. Every layer starts with `start_ratio` times the mean rank of triplets (row of A, e, column of B), with e = 0.
  2. The sensitivity of an entry w of A, e or B is I = |w · dL/dw|, computed after the optimizer step from the clipped
     gradient, which includes the penalty. Its score is Ī · U, where Ī is the moving average of I (β1) and U that of
     |I - Ī| (β2). The score of a triplet is that of its e plus the mean scores of its row of A and its column of B.
  3. After the warm-up the budget falls from the initial total to the target on a cubic curve. Every `interval` steps
     e is set to 0 for all triplets except the best ones within the budget. Masked triplets are still trained and can
     return.
  4. In the final phase the set of triplets is fixed.
  5. A penalty keeps A and B orthogonal. The scale stays alpha / start rank (according to the author, a scale that
     follows the rank hurts).

Differs from the published code, unless `published` is set:

  - DeBERTa also passes the embeddings of relative positions through the query projection. Here the update applies to
    them. The published modeling file applies only the base weight to them.
  - The last masking is at the start of the final phase, as in PEFT. The code masks there only if `interval` divides the
    step, and otherwise one step later.
  - Triplets that are masked when the final phase begins are deleted with their optimizer state, all triplets of a layer
    if necessary. The code masks them after every step. The function is the same, but in the code their A and B stay in
    the penalty and in the norm for gradient clipping.
  - The scale is alpha / start rank; in the code it is alpha / (start rank + 1e-5).
  - AdamW is torch's. The code's AdamW adds ε before the bias of the second moment is corrected.

Differs from the published code always:

  - The number of remaining triplets is exact; if scores are equal, the earlier triplet stays. The code masks all
    triplets whose score equals the threshold.
  - Masked triplets take no part in evaluations. In the code those whose e has changed since the masking do.
  - The phases are fractions of the run. The scripts give them in steps.
  - Weight decay is applied before the step, as in torch; in the code after it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from typing_extensions import override

from autorank.errors import AutorankError
from autorank.method import AllocationMethod
from autorank.modeling.adapters import adapted, attach
from autorank.modeling.layers.batched_factors import Orthogonality
from autorank.modeling.target_modules import features, shapes
from autorank.run_context import RunContext
from trainables.configs import PhasedConfig
from trainables.svd_updates import PUBLISHED_SCALE, Sensitivity, TripletConfig, new_triplet, total_rank


class AdaLoRAConfig(PhasedConfig, TripletConfig):
    """AdaLoRA's settings."""

    start_ratio: float = Field(
        1.5, ge=1, description="start rank of every layer as a multiple of mean_rank; rounded up"
    )
    initial: float = Field(
        0.15, ge=0, lt=1, description="fraction of the run before the budget falls (published: 0.09 to 0.17)"
    )
    final: float = Field(0.5, gt=0, lt=1, description="fraction of the run with fixed ranks (published: 0.52 to 0.58)")
    interval: int = Field(10, ge=1, description="steps between maskings (published: 1 to 100)")

    published: bool = Field(
        False, description="reproduce the published code where autorank differs by default: see the list of differences"
    )

    @property
    def start_rank(self) -> int:
        """Rank of every layer at the start."""
        return math.ceil(self.start_ratio * self.mean_rank - 1e-9)


@dataclass(frozen=True)
class BudgetSchedule:
    """The schedule of the budget, fixed before the first step.

    Attributes:
        start: Total rank at the start.
        target: Total rank at the end.
        initial: The last step before the budget falls.
        fixed: The step after which the ranks are final.
    """

    start: int
    target: int
    initial: int
    fixed: int

    @classmethod
    def plan(cls, config: AdaLoRAConfig, layers: int, total_steps: int) -> BudgetSchedule:
        """Plan the schedule of a run.

        Args:
            config: The method's settings.
            layers: Number of adapted layers.
            total_steps: Optimizer steps of the run.

        Returns:
            The schedule.

        Raises:
            AutorankError: The run is too short.
        """
        initial, fixed = config.phases(total_steps)
        if not initial < fixed < total_steps:
            raise AutorankError(
                f"adalora has no steps for lowering its budget: in a run of {total_steps} steps the initial phase "
                f"({config.initial:g}) ends at step {initial} and the final phase ({config.final:g}) begins at step "
                f"{fixed}. Train longer, or lower initial or final."
            )
        if config.interval >= total_steps:
            raise AutorankError(
                f"adalora's interval {config.interval} is longer than the run of {total_steps} steps. Train longer, or "
                "lower interval."
            )
        return cls(config.start_rank * layers, total_rank(config.mean_rank, layers), initial, fixed)

    def budget(self, step: int) -> int:
        """Return the number of triplets that remain after a step (eq. 12)."""
        if step <= self.initial:
            return self.start
        falling = max(0.0, 1 - (step - self.initial) / (self.fixed - self.initial))
        return int(self.target + (self.start - self.target) * falling**3)


class AdaLoRA(AllocationMethod[AdaLoRAConfig]):
    """Triplets whose number falls from a uniform start to the budget."""

    name = "adalora"
    summary = "Masks the triplets with the lowest sensitivity of the loss, then deletes them"
    source = "Zhang et al. 2023, arXiv 2303.10512"
    Config: ClassVar[type[AdaLoRAConfig]] = AdaLoRAConfig
    _sensitivity: Sensitivity | None  # None: the ranks are final

    @override
    def check_length(self, layers: int, total_steps: int) -> None:
        BudgetSchedule.plan(self.config, layers, total_steps)

    @override
    def prepare(self, run: RunContext) -> None:
        rank = self.config.start_rank
        for name, layer in run.layers.items():
            scale = self.config.alpha / (rank + PUBLISHED_SCALE * self.config.published)
            update = new_triplet(features(layer), rank, scale, run)
            attach(run.model, name, update, self.config.dropout, position_queries=not self.config.published)
        self._begin(run)
        self._sensitivity = Sensitivity(self._updates, self.config.beta1, self.config.beta2)

    def _begin(self, run: RunContext) -> None:
        """Set up what the hooks need, once the updates are attached."""
        if self.config.published:
            run.optimizer.add_epsilon_before_correction()
        self._updates = [layer.update for layer in adapted(run.model).values()]
        self._schedule = BudgetSchedule.plan(self.config, len(self._updates), run.total_steps)
        self._due = 0  # number of the interval in which ranks were last reduced
        self._orthogonality = Orthogonality()
        self._sensitivity = None

    @override
    def penalty(self, run: RunContext) -> Tensor | None:
        return self.config.orthogonality * self._orthogonality(self._updates) if self.config.orthogonality else None

    @override
    def after_step(self, run: RunContext) -> None:
        if self._sensitivity is None:
            return
        plan = self._schedule
        if run.step < plan.fixed:
            self._sensitivity.observe()
        due = run.step // self.config.interval
        final = run.step > plan.fixed if self.config.published else run.step >= plan.fixed
        if final or (run.step > plan.initial and due > self._due):  # fp16 may have skipped the step
            # summed, so that workers whose devices round differently mask the same triplets
            self._mask(run.sum(self._sensitivity.scores()), plan.budget(run.step))
        self._due = due
        if final and not self.config.published:
            self._drop(run)

    @torch.no_grad()
    def _mask(self, scores: Tensor, budget: int) -> None:
        """Set e of all triplets except the best to zero."""
        best = scores.sort(descending=True, stable=True).indices[:budget]
        kept = torch.zeros_like(scores, dtype=torch.bool).index_fill_(0, best, True)
        components = [update.components for update in self._updates]
        for update, active in zip(self._updates, kept.split(components), strict=True):
            assert update.e is not None
            update.active = active
            update.e.mul_(active)

    def _drop(self, run: RunContext) -> None:
        """Delete the masked triplets, because the ranks are final."""
        for update in self._updates:
            assert update.active is not None
            run.keep(update, update.active.nonzero().flatten())
            update.active = None
        self._sensitivity = None

    @override
    def state_dict(self) -> dict[str, Any]:
        return {} if self._sensitivity is None else self._sensitivity.state_dict() | {"due": self._due}

    @override
    def load_state_dict(self, state: dict[str, Any], run: RunContext) -> None:
        self._begin(run)
        if state:
            self._sensitivity = Sensitivity(self._updates, self.config.beta1, self.config.beta2)
            self._sensitivity.load_state_dict(state)
            self._due = state["due"]

    @classmethod
    @override
    def adapter_params(cls, config: AdaLoRAConfig, model: nn.Module) -> tuple[int, int]:
        """Σ rank (in + out) if only triplets of the smallest layers remain, and if only those of the largest remain."""
        sizes = sorted(sum(shape) for shape in shapes(model, config.targets).values())
        budget = total_rank(config.mean_rank, len(sizes))
        return _fill(sizes, config.start_rank, budget), _fill(sizes[::-1], config.start_rank, budget)


def _fill(sizes: Sequence[int], rank: int, budget: int) -> int:
    """Parameters if the first layers keep all their triplets until the budget is used up."""
    total = 0
    for size in sizes:
        amount = min(rank, budget)
        total, budget = total + amount * size, budget - amount
    return total
