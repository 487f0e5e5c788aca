"""Scores smaller adapters cut from the adapter of a run (slices; see `modeling.spectrum`) after its evaluations.

Sizes are chosen as scores come in: first a quarter of the adapter, a sixteenth, and so on; then between neighbours,
where the score differs most over the logarithm of the size. A size that could not add to the run's own front is not
scored: one between two sizes of equal score. The choice depends on counts of tokens and on scores, never on the clock,
so that a run that goes on from a checkpoint scores the same slices.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Literal

from autorank.modeling import adapters, spectrum
from autorank.modeling.base_model import BaseModel
from autorank.modeling.spectrum import Spectrum
from autorank.tasks.definition import Split, TaskData
from autorank.training.evaluation import Slice
from autorank.training.objectives.base import Objective
from autorank.training.optimization_loop import OptimizationLoop

SHARE = 0.2  # of the cost of training that `auto` spends on slices (ours)
EARLY = 0.5  # of what has accrued, that evaluations before the last may spend: the finished run's slices matter most
LADDER = 4  # factor between the sizes that are scored first
TRAINING_PASSES = 2  # a training step costs at least as much as two forward passes; the base is frozen
DECODING = 8  # a generated token costs as much as 8 tokens of a prompt, which pass through the model together

SliceOption = int | Literal["auto", "off"]


class SliceScorer:
    """Scores slices of a run's adapter.

    Args:
        base: the model with its adapter.
        loop: evaluates the model.
        objective: scores it.
        data: the task.
        option: `auto` spends up to a fifth of the cost of training, N scores up to N slices after each evaluation.
    """

    def __init__(
        self, base: BaseModel, loop: OptimizationLoop, objective: Objective, data: TaskData, option: SliceOption
    ) -> None:
        self.spent = 0.0  # tokens of forward passes
        self._base, self._loop, self._objective, self._data, self._option = base, loop, objective, data, option

    def score(self, step: int, last: bool, params: int, score: float) -> tuple[Slice, ...]:
        """Score slices after an evaluation.

        Args:
            step: optimizer steps done.
            last: whether it is the run's last evaluation.
            params: parameters of the whole adapter.
            score: score of the whole adapter.

        Returns:
            The slices, by rising parameters; none if the adapter has no smaller ones, or none can be afforded.
        """
        if self._option == "off" or not math.isfinite(score) or not spectrum.sliceable(self._base.model):
            return ()
        affordable = self._affordable(step, last)
        if affordable < 1:
            return ()
        slices: dict[int, Slice] = {}
        with spectrum.factorised(self._base.model) as parts:
            sizes = [size + self._fixed(parts) for size in parts.params]
            while len(slices) < affordable:
                scores = {count: piece.score for count, piece in slices.items()}
                if (count := next_count(sizes, (params, score), scores)) is None:
                    break
                slices[count] = self._evaluate(parts, count)
                self.spent += self._cost
        return tuple(slices[count] for count in sorted(slices))

    def at(self, max_params: int) -> Slice:
        """Score the largest slice with at most so many parameters.

        Args:
            max_params: adapter parameters.

        Returns:
            The slice; one without components if all are larger.
        """
        with spectrum.factorised(self._base.model) as parts:
            count = bisect_right(parts.params, max_params - self._fixed(parts)) - 1
            return self._evaluate(parts, max(0, count))

    def _fixed(self, parts: Spectrum) -> int:
        """Parameters of the adapter that no cut removes: the magnitudes of DoRA, biases."""
        parts.cut(parts.keep(0))
        return adapters.adapter_params(self._base.model, self._base.head)

    def _evaluate(self, parts: Spectrum, count: int) -> Slice:
        kept = parts.keep(count)
        parts.cut(kept)
        metrics = self._objective.evaluate(self._loop, self._data.validation)
        params = adapters.adapter_params(self._base.model, self._base.head)
        return Slice(params, metrics[self._data.task.metrics[0]], metrics, kept)

    def _affordable(self, step: int, last: bool) -> int:
        """Slices that may be scored now."""
        if not isinstance(self._option, str):
            return self._option
        per_step = float(self._data.train.lengths.mean()) * self._loop.plan.batch_size * TRAINING_PASSES
        accrued = SHARE * per_step * step * (1 if last else EARLY)
        return int((accrued - self.spent) / self._cost)

    @property
    def _cost(self) -> float:
        """Tokens of forward passes of an evaluation."""
        return sum(map(self._split_cost, self._data.validation.values()))

    def _split_cost(self, split: Split) -> float:
        tokens = float(split.lengths.sum())
        if self._data.task.kind == "generation":
            tokens += DECODING * len(split) * float(split.weights.max())
        return tokens


def next_count(sizes: Sequence[int], whole: tuple[int, float], scores: Mapping[int, float]) -> int | None:
    """Choose the next slice to score.

    Args:
        sizes: parameters of the slices with 0, 1, 2, ... components.
        whole: parameters and score of the whole adapter.
        scores: number of components -> score, of the slices scored so far.

    Returns:
        A number of components; None if no other size can add to the front.
    """
    counts = [count for count in range(1, len(sizes)) if sizes[count] < whole[0]]
    for count in _ladder(counts, sizes, whole[0]):
        if count not in scores:
            return count
    known = [(count, sizes[count], scores[count]) for count in sorted(scores)]
    known.append((len(counts) + 1, *whole))
    best, choice, attained = 0.0, None, -math.inf
    for (low, small, low_score), (high, large, high_score) in pairwise(known):
        attained = max(attained, low_score)
        middle = _nearest(range(low + 1, high), sizes, math.sqrt(small * large))
        value = (high_score - attained) * math.log(large / small)
        if middle is not None and value > best:
            best, choice = value, middle
    return choice


def _ladder(counts: Sequence[int], sizes: Sequence[int], whole: int) -> list[int]:
    """The largest slices of at most a quarter, a sixteenth, ... of the whole."""
    rungs: list[int] = []
    limit = whole / LADDER
    while counts and limit >= sizes[counts[0]]:
        count = max(count for count in counts if sizes[count] <= limit)
        if count not in rungs:
            rungs.append(count)
        limit = limit / LADDER
    return rungs or list(counts[:1])


def _nearest(counts: range, sizes: Sequence[int], size: float) -> int | None:
    """The count whose size is nearest to `size` by its logarithm; None if there are no counts."""
    return min(counts, key=lambda count: abs(math.log(sizes[count] / size)), default=None)
