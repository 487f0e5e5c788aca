"""Scores smaller adapters cut from the adapter of a run (slices; see `modeling.spectrum`) after its evaluations.

Sizes are chosen as scores come in: first a quarter of the adapter, a sixteenth, and so on; then between neighbors,
where the score differs most over the logarithm of the size. A size that could not add to the front is not scored: one
between two sizes of equal score, or above the limit of the search. The choice depends on counts of tokens and on
scores, never on the clock, so a run that is resumed from a checkpoint scores the same slices.

Where an evaluation generates text, which is expensive, sizes are chosen by the loss on the validation examples first,
for up to a quarter of the budget; text is generated for those that no smaller size beats in loss.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from typing import Literal

from torch import Tensor

from autorank.defaults import SliceScore
from autorank.modeling import adapters
from autorank.modeling.base_model import BaseModel
from autorank.modeling.spectrum import Spectrum, factorized, sliceable
from autorank.tasks.definition import TaskData
from autorank.tasks.metrics.outcomes import Outcomes, Scores, pack
from autorank.training.evaluation import Evaluation, Slice
from autorank.training.objectives.base import Objective
from autorank.training.optimization import distributed
from autorank.training.optimization.loop import OptimizationLoop
from autorank.training.slicing.component_scores import PASSES, component_scores

AUTO_BUDGET_FRACTION = 0.2  # part of the cost of training that `auto` spends on slices (ours)
EARLY_BUDGET_FRACTION = 0.5  # part of it before the last evaluation: the slices of the finished run matter most
MAX_SLICES = 16  # slices that `auto` scores after an evaluation
FIRST_SIZES_RATIO = 4  # factor between the sizes that are scored first
TRAINING_PASSES = 2  # a training step costs at least as much as two forward passes; the base is frozen
LOSS_BUDGET_FRACTION = 0.25  # part of an evaluation's budget for choosing sizes by loss, if it generates text
LOSSES_PER_SLICE = 4  # maximum number of sizes whose loss is computed, for each slice

SliceOption = int | Literal["auto", "off"]


class SliceScorer:
    """Scores slices of a run's adapter.

    Args:
        base: The model with its adapter.
        loop: Evaluates the model.
        objective: Scores it.
        data: The task.
        option: `auto` spends up to a fifth of the cost of training, N scores up to N slices after each evaluation.
        order: The score by which slices keep components.
        max_params: Parameters of the largest slice to score; None: any.
    """

    def __init__(
        self, base: BaseModel, loop: OptimizationLoop, objective: Objective, data: TaskData, option: SliceOption,
        order: SliceScore, max_params: int | None = None,
    ) -> None:  # fmt: skip
        self.spent = 0.0  # tokens of forward passes
        self._base, self._loop, self._objective, self._data = base, loop, objective, data
        self._option, self._order, self._max_params = option, order, math.inf if max_params is None else max_params

    def score(self, step: int, last: bool, params: int, score: float) -> list[tuple[Slice, Scores]]:
        """Score slices after an evaluation.

        Args:
            step: Optimizer steps done.
            last: Whether it is the run's last evaluation.
            params: Parameters of the whole adapter.
            score: Score of the whole adapter.

        Returns:
            The slices and their scores, in ascending order of parameters; none if the adapter has no smaller ones, or
            none can be afforded.
        """
        if self._option == "off" or not math.isfinite(score) or not sliceable(self._base.model):
            return []
        budget, limit = self._budget(step, last)
        cost = self._objective.evaluation_cost(self._data.validation)
        if budget < cost + self._order_cost:
            return []
        slices: dict[int, tuple[Slice, Scores]] = {}
        with self._factorized() as spectrum:
            self.spent += self._order_cost
            budget -= self._order_cost
            fixed = self._fixed(spectrum)
            rising = [size + fixed for size in spectrum.params if size + fixed <= self._max_params]
            sizes = dict(enumerate(rising[spectrum.fewest :], start=spectrum.fewest))
            before = self.spent
            candidates = self._by_loss(
                spectrum, sizes, params, min(LOSS_BUDGET_FRACTION * budget, budget - cost), limit
            )
            affordable = min(limit, (budget - (self.spent - before)) / cost)

            def evaluate(count: int) -> float:
                slices[count] = self._evaluate(spectrum, count)
                return slices[count][0].score

            explore(candidates, (params, score), evaluate, affordable)
            self.spent += cost * len(slices)
        return [slices[count] for count in sorted(slices)]

    def at(self, max_params: int) -> tuple[Slice, Scores]:
        """Score the largest slice with at most `max_params` parameters.

        Args:
            max_params: Adapter parameters.

        Returns:
            The slice and its scores; one without components if all are larger.
        """
        with self._factorized() as spectrum:
            count = bisect_right(spectrum.params, max_params - self._fixed(spectrum)) - 1
            return self._evaluate(spectrum, count if count >= spectrum.fewest else 0)

    @contextmanager
    def _factorized(self) -> Iterator[Spectrum]:
        with factorized(self._base.model) as spectrum:
            spectrum.order_by(self._component_scores(spectrum))
            yield spectrum

    def _component_scores(self, spectrum: Spectrum) -> list[Tensor]:
        """Scores that are equal on all workers, whose devices may round differently."""

        def compute() -> dict[str, Tensor]:
            scores = component_scores(self._order, spectrum, self._loop)
            return {str(index): values for index, values in enumerate(scores)}

        return [values.cpu() for values in distributed.once(compute, self._loop.device).values()]

    def _fixed(self, spectrum: Spectrum) -> int:
        """Parameters of the adapter that no cut removes: the magnitudes of DoRA, biases. Nothing is cut yet."""
        return adapters.adapter_params(self._base.model, self._base.head) - spectrum.params[-1]

    def _evaluate(self, spectrum: Spectrum, count: int) -> tuple[Slice, Scores]:
        component_masks = spectrum.keep(count)
        spectrum.cut(component_masks)
        scores = self._objective.evaluate(self._loop, self._data.validation)
        params = adapters.adapter_params(self._base.model, self._base.head)
        return Slice(params, scores[self._data.task.metrics[0]], dict(scores), component_masks), scores

    def _by_loss(
        self, spectrum: Spectrum, sizes: Mapping[int, int], adapter_params: int, budget: float, limit: int
    ) -> Mapping[int, int]:
        """The sizes that no smaller one beats in loss, of those whose loss the budget allows to compute.

        All sizes where no text is generated: there the score costs no more than the loss.
        """
        validation = self._data.validation
        cost = self._objective.forward_cost(validation)
        passes = min(1 + LOSSES_PER_SLICE * limit, budget / cost)
        if self._objective.evaluation_cost(validation) == cost or passes < 2:
            return sizes

        def score(count: int) -> float:
            spectrum.cut(spectrum.keep(count))
            return -self._loop.mean_loss(validation)

        losses = explore(sizes, (adapter_params, score(len(spectrum.params) - 1)), score, passes - 1)
        self.spent += cost * (1 + len(losses))
        return {
            count: sizes[count]
            for count in sorted(losses)
            if all(losses[other] < losses[count] for other in losses if other < count)
        }

    def _budget(self, step: int, last: bool) -> tuple[float, int]:
        """Tokens of forward passes that slices may cost now, and how many slices there may be.

        Workers share training and evaluations alike.
        """
        if not isinstance(self._option, str):
            return math.inf, self._option
        per_step = float(self._data.train.lengths.mean()) * self._loop.plan.batch_size * TRAINING_PASSES
        accrued = AUTO_BUDGET_FRACTION * per_step * step
        return accrued * (1 if last else EARLY_BUDGET_FRACTION) - self.spent, MAX_SLICES

    @property
    def _order_cost(self) -> float:
        """Tokens that the scores of the components cost."""
        return PASSES[self._order] * float(self._data.train.lengths.mean())


def with_slices(
    evaluation: Evaluation, outcomes: Outcomes | None, scored_slices: Sequence[tuple[Slice, Scores]]
) -> Evaluation:
    """Add slices, and the predictions of the adapter and of the slices.

    Args:
        evaluation: The evaluation of the adapter.
        outcomes: Its outcomes; None if there are none.
        scored_slices: The slices and their scores, in ascending order of parameters.

    Returns:
        The evaluation with these slices; without predictions if some are missing.
    """
    models = [outcomes, *(scores.outcomes for _, scores in scored_slices)]
    scored_models = [model for model in models if model is not None]
    predictions = pack(scored_models) if len(scored_models) == len(models) else b""
    return replace(evaluation, slices=tuple(slice_ for slice_, _ in scored_slices), predictions=predictions)


def explore(
    sizes: Mapping[int, int], whole: tuple[int, float], score: Callable[[int], float], limit: float
) -> dict[int, float]:
    """Score slices, each chosen by `next_count`, until no other can add to the front.

    Args:
        sizes: Number of components -> parameters, of all slices, in ascending order.
        whole: Parameters and score of the whole adapter.
        score: Returns the score of the slice with this number of components.
        limit: Most slices to score; a fraction of one is none.

    Returns:
        Number of components -> score.
    """
    scores: dict[int, float] = {}
    while len(scores) + 1 <= limit and (count := next_count(sizes, whole, scores)) is not None:
        scores[count] = score(count)
    return scores


def next_count(sizes: Mapping[int, int], whole: tuple[int, float], scores: Mapping[int, float]) -> int | None:
    """Choose the next slice to score.

    Args:
        sizes: Number of components -> parameters, of all slices, in ascending order.
        whole: Parameters and score of the whole adapter.
        scores: Number of components -> score, of the slices scored so far.

    Returns:
        A number of components; None if no other size can add to the front.
    """
    counts = [count for count, size in sizes.items() if size < whole[0]]
    for count in _first_counts(counts, sizes, whole[0]):
        if count not in scores:
            return count
    scored = [(count, sizes[count], scores[count]) for count in sorted(scores)]
    scored.append((max(counts, default=0) + 1, *whole))
    best, choice, attained = 0.0, None, -math.inf
    for (low, low_params, low_score), (high, high_params, high_score) in pairwise(scored):
        attained = max(attained, low_score)
        between = [count for count in counts if low < count < high]
        middle = min(
            between, key=lambda count: abs(math.log(sizes[count] ** 2 / (low_params * high_params))), default=None
        )
        value = (high_score - attained) * math.log(high_params / low_params)
        if middle is not None and value > best:
            best, choice = value, middle
    return choice


def _first_counts(counts: Sequence[int], sizes: Mapping[int, int], whole: int) -> list[int]:
    """The largest slices of at most a quarter, a sixteenth, ... of the whole."""
    first: list[int] = []
    limit = whole / FIRST_SIZES_RATIO
    while counts and limit >= sizes[counts[0]]:
        count = max(count for count in counts if sizes[count] <= limit)
        if count not in first:
            first.append(count)
        limit = limit / FIRST_SIZES_RATIO
    return first or list(counts[:1])
