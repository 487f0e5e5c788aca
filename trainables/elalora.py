"""ElaLoRA: ranks move during training from layers with unimportant triplets to layers whose triplets all matter.

Chang et al. 2025, "ElaLoRA: Elastic & Learnable Low-Rank Adaptation for Efficient Model Fine-Tuning" (arXiv
2504.00254). The full text of the paper was not available. The three phases, pruning and growing in the same step, and
the scheduler are known from its abstract and summaries; all details below follow its published code
(HuandongChang/ElaLoRA).

  1. Every layer starts with the same rank of triplets (A, e, B), with e = 0. The total rank never changes.
  2. The score of a triplet is AdaLoRA's, updated after every step until the ranks are final.
  3. The ranks do not change in the warm-up (`initial`) and are final in the stabilization phase (`final`). Between the
     two phases there are `rounds`.
  4. In a round, the `candidates` lowest triplets of every layer, but never its last one, are candidates. The lowest of
     all candidates are pruned. For each of as many highest candidates, the candidate's layer gains a triplet. A layer
     of rank 1 has no candidates and stays at rank 1.
  5. The number of triplets that move falls from `moved` to 0, in the last round, on a cubic curve (`scheduler`).
  6. A new row of A is v - AᵀA v, normalized, of a Gaussian v; a new column of B likewise. Its e is 1e-13.
  7. A penalty keeps A and B orthogonal. The scale stays alpha / start rank.

Differs from the published code:

  - The phases are fractions of the run, and the number of rounds is a setting. The code counts steps; its scripts have
    9 to 22 rounds on GLUE.
  - If fp16 skips the step of a round, the round takes place after the next step.
  - The number of triplets gained equals the number pruned, even if scores are equal or candidates are few.
  - The mean rank may be fractional; the remainder goes to the first layers.
  - Remaining triplets keep their optimizer state, and new ones start without one. The code creates a new optimizer in
    every round, which its schedule does not reach: from the first round on its learning rate is the peak. Here the
    schedule continues.
  - Scores are not computed after the last round.
  - A new e is 1e-13; in the code it is the smallest |e| of the layer if that is less.
  - The scale is alpha / start rank; in the code it is alpha / (start rank + 1e-5).
  - AdamW is torch's. The published trainer's AdamW adds ε before the bias of the second moment is corrected and applies
    weight decay after the step.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from typing_extensions import override

from autorank.errors import AutorankError
from autorank.method import AllocationMethod
from autorank.modeling.adapters import adapted, attach
from autorank.modeling.layers.batched_factors import Orthogonality
from autorank.modeling.layers.lora_layer import LowRankUpdate
from autorank.modeling.target_modules import features, shapes
from autorank.run_context import RunContext
from trainables.configs import PhasedConfig
from trainables.svd_updates import Sensitivity, TripletConfig, new_triplet, total_rank

NEW = 1e-13  # e of a new triplet: the function stays the same


class ElaLoRAConfig(PhasedConfig, TripletConfig):
    """ElaLoRA's settings; the defaults are those of the published script for MRPC, except for the rank."""

    mean_rank: float = Field(8.0, ge=1, description="rank, averaged over layers, from start to end: the budget")
    alpha: float = Field(16.0, gt=0, description="the update is scaled by alpha / mean rank")
    initial: float = Field(
        0.26, ge=0, lt=1, description="fraction of the run before the first round (published: 0.08 to 0.26)"
    )
    final: float = Field(0.34, gt=0, lt=1, description="fraction of the run with fixed ranks (published: 0.16 to 0.47)")
    rounds: int = Field(9, ge=2, description="rounds in which ranks move, at equal intervals (published: 9 to 22)")
    moved: int = Field(4, ge=1, description="b, ranks pruned, and ranks added elsewhere, in the first round")
    candidates: int = Field(2, ge=1, description="k, maximum number of ranks that a layer can lose or gain in a round")
    scheduler: bool = Field(
        True, description="lower the number of moved ranks on a cubic curve; otherwise it is the same in every round"
    )

    def moves(self) -> list[int]:
        """Return the number of ranks that move in each round."""
        if not self.scheduler:
            return [self.moved] * self.rounds
        return [round(self.moved * (1 - (i / self.rounds) ** 3)) for i in range(1, self.rounds + 1)]


def plan_rounds(config: ElaLoRAConfig, total_steps: int) -> dict[int, int]:
    """Plan the rounds of a run.

    Args:
        config: The method's settings.
        total_steps: Optimizer steps of the run.

    Returns:
        Step -> number of ranks that move after it.

    Raises:
        AutorankError: The run is too short.
    """
    initial, fixed = config.phases(total_steps)
    interval = (fixed - 1 - initial) // config.rounds
    if interval < 1:
        raise AutorankError(
            f"elalora has too few steps for {config.rounds} rounds: in a run of {total_steps} steps the initial "
            f"phase ({config.initial:g}) ends at step {initial} and the final phase ({config.final:g}) begins at "
            f"step {fixed}. Train longer, or lower rounds, initial or final."
        )
    return {initial + i * interval: moved for i, moved in enumerate(config.moves(), start=1)}


class ElaLoRA(AllocationMethod[ElaLoRAConfig]):
    """Triplets that are pruned in some layers and added in others; their number is constant."""

    name = "elalora"
    summary = "Moves ranks from layers with unimportant triplets to layers whose triplets all matter"
    source = "Chang et al. 2025, arXiv 2504.00254"
    Config: ClassVar[type[ElaLoRAConfig]] = ElaLoRAConfig
    _sensitivity: Sensitivity | None  # None: the ranks are final

    @override
    def check_length(self, layers: int, total_steps: int) -> None:
        plan_rounds(self.config, total_steps)

    @override
    def prepare(self, run: RunContext) -> None:
        ranks = start_ranks(self.config.mean_rank, len(run.layers))
        for (name, layer), rank in zip(run.layers.items(), ranks, strict=True):
            update = new_triplet(features(layer), rank, self.config.alpha / self.config.mean_rank, run)
            attach(run.model, name, update, self.config.dropout)
            run.train_components(name, update)
        self._begin(run)
        self._sensitivity = self._observer()

    def _begin(self, run: RunContext, rounds: int = 0) -> None:
        """Set up what the hooks need, once the updates are attached and `rounds` rounds have taken place."""
        self._done = rounds
        self._updates = [layer.update for layer in adapted(run.model).values()]
        self._rounds = list(plan_rounds(self.config, run.total_steps).items())
        self._orthogonality = Orthogonality()
        self._sensitivity = None

    def _observer(self) -> Sensitivity:
        return Sensitivity(self._updates, self.config.beta1, self.config.beta2)

    @override
    def penalty(self, run: RunContext) -> Tensor | None:
        return self.config.orthogonality * self._orthogonality(self._updates) if self.config.orthogonality else None

    @override
    def after_step(self, run: RunContext) -> None:
        if self._sensitivity is None:
            return
        self._sensitivity.observe()
        due, moved = self._rounds[self._done]
        if run.step >= due:  # later if fp16 has skipped the step
            self._move(run, self._sensitivity, moved)
            self._done += 1
        if self._done == len(self._rounds):
            self._sensitivity = None

    def _move(self, run: RunContext, sensitivity: Sensitivity, moved: int) -> None:
        """Prune the lowest candidates and add as many triplets to the layers of the highest."""
        # summed, so that workers whose devices round differently move the same triplets
        scores = run.sum(sensitivity.scores()).cpu().split([update.components for update in self._updates])
        pruned, gains = elastic([values.tolist() for values in scores], moved, self.config.candidates)
        kept = []
        for update, lost, gain in zip(self._updates, pruned, gains, strict=True):
            stays = [i for i in range(update.components) if i not in lost]
            kept.append(torch.tensor(stays, dtype=torch.long, device=run.device))
            if lost:
                run.keep(update, kept[-1])
            for _ in range(gain):
                run.grow(update, *new_component(update, run), start=0)
        sensitivity.follow(kept)

    @override
    def state_dict(self) -> dict[str, Any]:
        return {} if self._sensitivity is None else self._sensitivity.state_dict() | {"rounds": self._done}

    @override
    def load_state_dict(self, state: dict[str, Any], run: RunContext) -> None:
        self._begin(run, state.get("rounds", self.config.rounds))
        if state:
            self._sensitivity = self._observer()
            self._sensitivity.load_state_dict(state)

    @classmethod
    @override
    def adapter_params(cls, config: ElaLoRAConfig, model: nn.Module) -> tuple[int, int]:
        """Σ rank (in + out) if all moved ranks go to the smallest layers, and if they go to the largest."""
        sizes = [sum(shape) for shape in shapes(model, config.targets).values()]
        low, high = (_moved(config, sizes, sign) for sign in (1, -1))
        return low, high


def start_ranks(mean_rank: float, layers: int) -> list[int]:
    """Return equal ranks; the remainder goes to the first layers."""
    rank, remainder = divmod(total_rank(mean_rank, layers), layers)
    return [rank + (i < remainder) for i in range(layers)]


def elastic(scores: Sequence[Sequence[float]], moved: int, candidates: int) -> tuple[list[list[int]], list[int]]:
    """Choose the triplets that move in a round.

    If scores are equal, the earlier triplet is pruned first, and the earlier triplet's layer gains first.

    Args:
        scores: Scores of each layer's triplets.
        moved: Number of triplets to move.
        candidates: Maximum number of candidates of a layer.

    Returns:
        Indices of the triplets that each layer loses, and the number of triplets that each layer gains.
    """
    ranked = [
        (score, layer, i)
        for layer, values in enumerate(scores)
        for score, i in sorted(zip(values, range(len(values)), strict=True))[: min(candidates, len(values) - 1)]
    ]
    lost: list[list[int]] = [[] for _ in scores]
    gains = [0 for _ in scores]
    for _, layer, i in sorted(ranked, key=lambda candidate: candidate[0])[:moved]:
        lost[layer].append(i)
    for _, layer, _ in sorted(ranked, key=lambda candidate: -candidate[0])[:moved]:
        gains[layer] += 1
    return lost, gains


@torch.no_grad()
def new_component(update: LowRankUpdate, run: RunContext) -> tuple[Tensor, Tensor, Tensor]:
    """Return a row of A (1 x in), a column of B (out x 1) and an e (1), nearly orthogonal to those of the update."""
    v, w = (torch.randn(n, generator=run.generator).to(run.device) for n in (update.A.shape[1], update.B.shape[0]))
    v = v - update.A.t() @ (update.A @ v)
    w = w - update.B @ (update.B.t() @ w)
    return (v / (v.norm() + 1e-6))[None], (w / (w.norm() + 1e-6))[:, None], v.new_full((1,), NEW)


def _moved(config: ElaLoRAConfig, sizes: Sequence[int], sign: int) -> int:
    """Parameters if ranks always move from the layers of largest `sign` · size to those of smallest.

    In all rounds together, a layer gains at most rounds · candidates ranks and loses at most all but one. The total of
    moved ranks limits the number of moves.
    """
    ranks = start_ranks(config.mean_rank, len(sizes))
    layers = sorted((sign * size, rank) for size, rank in zip(sizes, ranks, strict=True))
    total = sum(size * rank for size, rank in layers)
    moves, max_moves = config.moves(), config.candidates * config.rounds
    takers = [size for size, _ in layers for _ in range(max_moves)]
    givers = [size for size, rank in reversed(layers) for _ in range(min(rank - 1, max_moves))]
    gained = (taker - giver for taker, giver in zip(takers, givers, strict=False))
    return sign * min(accumulate(list(gained)[: sum(moves)], initial=total))
