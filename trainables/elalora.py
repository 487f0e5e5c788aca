"""ElaLoRA: ranks move during training, from layers whose triplets matter least to those where even the worst matter.

Chang et al. 2025, "ElaLoRA: Elastic & Learnable Low-Rank Adaptation for Efficient Model Fine-Tuning" (arXiv
2504.00254). The paper is known here from its abstract and summaries: its three phases, pruning and expansion at once,
and the scheduler. All details below are those of its published code (HuandongChang/ElaLoRA).

  1. Every layer starts with the same rank of triplets (A, e, B), e = 0; the total never changes.
  2. A triplet's score is AdaLoRA's, observed after every step until the ranks are final.
  3. Warm-up (`initial`): the ranks stay. Stabilisation (`final`): they are final. Between the two are `rounds`.
  4. In a round every layer's `candidates` lowest triplets, never its last one, are candidates. Of all candidates the
     lowest are pruned, and the layers of as many highest gain a triplet for each. A layer that is down to rank 1 has
     no candidates: it stays there.
  5. How many move falls from `moved` to 0 on a cubic curve (`scheduler`).
  6. A new row of A is v - AᵀA v of a Gaussian v, at length 1, a new column of B likewise, and its e is 1e-13.
  7. A and B are kept orthogonal by a penalty; the scale stays alpha / start rank.

Differs from the published code:

  - The phases are parts of the run and rounds are counted. The code counts steps; its scripts have 9 to 22 rounds on
    GLUE.
  - A round that falls on a step that fp16 skips follows the next one.
  - As many triplets are gained as are pruned where scores tie or candidates are few.
  - A mean rank may be no integer; what is left over goes to the first layers.
  - What stays keeps its optimizer state, and what is new starts without one, at the run's learning rate. The code makes
    a new optimizer in every round.
  - Nothing is scored after the last round.
  - The scale is alpha / start rank; in the code it is alpha / (start rank + 1e-5).
  - The published trainer's AdamW adds ε before the second moment's bias is corrected and decays the weights after the
    step; here both are as in torch's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, ClassVar

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from autorank.errors import AutorankError
from autorank.method import AllocationMethod
from autorank.modeling.adapters import adapted, attach
from autorank.modeling.layers.batched_factors import Orthogonality
from autorank.modeling.layers.lora_layer import LowRankUpdate
from autorank.modeling.target_modules import features, shapes
from autorank.run_context import RunContext
from trainables.svd_updates import Sensitivity, TripletConfig, new_triplet, whole

NEW = 1e-13  # e of a new triplet: the function stays the same


class ElaLoRAConfig(TripletConfig):
    """ElaLoRA's settings; defaults as in the published script for MRPC, the rank apart."""

    mean_rank: float = Field(8.0, ge=1, description="rank, averaged over layers, from start to end: the budget")
    alpha: float = Field(16.0, gt=0, description="the update is scaled by alpha / mean rank")
    initial: float = Field(0.26, ge=0, lt=1, description="part of the run before the first round (0.08 to 0.26)")
    final: float = Field(0.34, gt=0, lt=1, description="part of the run with fixed ranks (published: 0.16 to 0.47)")
    rounds: int = Field(9, ge=1, description="rounds in which ranks move, at equal intervals (published: 9 to 22)")
    moved: int = Field(4, ge=1, description="b, ranks pruned and ranks gained in the first round")
    candidates: int = Field(2, ge=1, description="k, most ranks that a layer can lose, or gain, in a round")
    scheduler: bool = Field(True, description="fewer and fewer ranks move; else as many in every round")

    @model_validator(mode="after")
    def _between(self) -> ElaLoRAConfig:
        if self.initial + self.final >= 1:
            raise ValueError(f"initial {self.initial:g} and final {self.final:g} leave nothing of the run between them")
        return self

    def moves(self) -> list[int]:
        """Ranks that move in each round."""
        if not self.scheduler:
            return [self.moved] * self.rounds
        return [round(self.moved * (1 - (i / (self.rounds + 1)) ** 3)) for i in range(1, self.rounds + 1)]


@dataclass(frozen=True)
class Rounds:
    """When ranks move, and how many: known before the first step.

    Attributes:
        moves: step -> ranks that move after it.
    """

    moves: dict[int, int]

    @classmethod
    def plan(cls, config: ElaLoRAConfig, total_steps: int) -> Rounds:
        """Raises AutorankError if the run is too short."""
        initial, fixed = int(config.initial * total_steps), total_steps - int(config.final * total_steps)
        interval = (fixed - initial) // (config.rounds + 1)
        if interval < 1:
            raise AutorankError(
                f"elalora has no room for its {config.rounds} rounds: in a run of {total_steps} steps the initial "
                f"phase ({config.initial:g}) ends at step {initial} and the final phase ({config.final:g}) begins at "
                f"step {fixed}. Train longer, or lower rounds, initial or final."
            )
        return cls({initial + i * interval: moved for i, moved in enumerate(config.moves(), start=1)})


class ElaLoRA(AllocationMethod[ElaLoRAConfig]):
    """Triplets that are pruned in some layers and grown in others, their number constant."""

    name = "elalora"
    summary = "Ranks move from layers whose triplets matter least to those where they matter most"
    source = "Chang et al. 2025, arXiv 2504.00254"
    Config: ClassVar[type[ElaLoRAConfig]] = ElaLoRAConfig
    _sensitivity: Sensitivity | None  # none: the ranks are final

    def check_length(self, layers: int, total_steps: int) -> None:
        Rounds.plan(self.config, total_steps)

    def prepare(self, run: RunContext) -> None:
        given = start_ranks(self.config.mean_rank, len(run.layers))
        for (name, layer), rank in zip(run.layers.items(), given, strict=True):
            update = new_triplet(features(layer), rank, self.config.alpha / self.config.mean_rank, run)
            attach(run.model, name, update, self.config.dropout)
            run.train_components(name, update)
        self._begin(run)
        self._sensitivity = self._observer()

    def _begin(self, run: RunContext, done: int = 0) -> None:
        """What the hooks work with, after so many rounds; the model's updates are there already."""
        self._done = done
        self._updates = [layer.update for layer in adapted(run.model).values()]
        self._rounds = Rounds.plan(self.config, run.total_steps)
        self._orthogonality = Orthogonality()
        self._sensitivity = None

    def _observer(self) -> Sensitivity:
        return Sensitivity(self._updates, self.config.beta1, self.config.beta2)

    def penalty(self, run: RunContext) -> Tensor | None:
        return self.config.orthogonality * self._orthogonality(self._updates) if self.config.orthogonality else None

    def after_step(self, run: RunContext) -> None:
        if self._sensitivity is None:
            return
        self._sensitivity.observe()
        due, moved = list(self._rounds.moves.items())[self._done]
        if run.step >= due:  # later than that, where fp16 has skipped the step
            self._move(run, self._sensitivity, moved)
            self._done += 1
        if self._done == len(self._rounds.moves):
            self._sensitivity = None

    def _move(self, run: RunContext, sensitivity: Sensitivity, moved: int) -> None:
        """Prune the lowest candidates, and give the layers of the highest as many."""
        # added up, so that workers whose devices round otherwise move the same
        scores = run.sum(sensitivity.scores()).split([update.held for update in self._updates])
        lost, gains = elastic([own.tolist() for own in scores], moved, self.config.candidates)
        kept = []
        for update, own, gain in zip(self._updates, lost, gains, strict=True):
            stays = [i for i in range(update.held) if i not in own]
            kept.append(torch.tensor(stays, dtype=torch.long, device=run.device))
            if own:
                run.keep(update, kept[-1])
            for _ in range(gain):
                run.grow(update, *new_component(update, run), start=0)
        sensitivity.follow(kept)

    def state_dict(self) -> dict[str, Any]:
        return {} if self._sensitivity is None else self._sensitivity.state_dict() | {"rounds": self._done}

    def load_state_dict(self, state: dict[str, Any], run: RunContext) -> None:
        before = sum(step < run.step for step in Rounds.plan(self.config, run.total_steps).moves)
        self._begin(run, state.get("rounds", before))  # older checkpoints have no number
        if state:
            self._sensitivity = self._observer()
            self._sensitivity.load_state_dict(state)

    @classmethod
    def adapter_params(cls, config: ElaLoRAConfig, model: nn.Module) -> tuple[int, int]:
        """Σ rank (in + out) if all that can move goes to the smallest layers, and if it goes to the largest."""
        sizes = [sum(shape) for shape in shapes(model, config.targets).values()]
        least, most = (_moved(config, sizes, sign) for sign in (1, -1))
        return least, most


def start_ranks(mean_rank: float, layers: int) -> list[int]:
    """Equal ranks; what is left over goes to the first layers."""
    each, over = divmod(whole(mean_rank, layers), layers)
    return [each + (i < over) for i in range(layers)]


def elastic(scores: Sequence[Sequence[float]], moved: int, candidates: int) -> tuple[list[list[int]], list[int]]:
    """One round. scores: of each layer's triplets -> the triplets that each layer loses, and how many it gains.

    Of equal scores the earlier triplet counts as the lower one to lose and as the higher one to gain for.
    """
    found = [
        (score, layer, i)
        for layer, own in enumerate(scores)
        for score, i in sorted(zip(own, range(len(own)), strict=True))[: min(candidates, len(own) - 1)]
    ]
    lost: list[list[int]] = [[] for _ in scores]
    gains = [0 for _ in scores]
    for _, layer, i in sorted(found, key=lambda candidate: candidate[0])[:moved]:
        lost[layer].append(i)
    for _, layer, _ in sorted(found, key=lambda candidate: -candidate[0])[:moved]:
        gains[layer] += 1
    return lost, gains


@torch.no_grad()
def new_component(update: LowRankUpdate, run: RunContext) -> tuple[Tensor, Tensor, Tensor]:
    """A row of A (1 x in), a column of B (out x 1) and an e (1): nearly orthogonal to those that the update has."""
    v, w = (torch.randn(n, generator=run.generator).to(run.device) for n in (update.A.shape[1], update.B.shape[0]))
    v = v - update.A.t() @ (update.A @ v)
    w = w - update.B @ (update.B.t() @ w)
    return (v / (v.norm() + 1e-6))[None], (w / (w.norm() + 1e-6))[:, None], v.new_full((1,), NEW)


def _moved(config: ElaLoRAConfig, sizes: Sequence[int], sign: int) -> int:
    """Parameters if ranks always move to the layers of smallest `sign` · size, from those of the largest.

    A layer gains no more than it can in all rounds, and loses all but one; what moves in all rounds bounds the rest.
    """
    ranks = start_ranks(config.mean_rank, len(sizes))
    held = sorted((sign * size, rank) for size, rank in zip(sizes, ranks, strict=True))
    total = sum(size * rank for size, rank in held)
    moves, most = config.moves(), config.candidates * config.rounds
    takers = [size for size, _ in held for _ in range(most)]
    givers = [size for size, rank in reversed(held) for _ in range(min(rank - 1, most))]
    gained = (taker - giver for taker, giver in zip(takers, givers, strict=False))
    return sign * min(accumulate(list(gained)[: sum(moves)], initial=total))
