"""Scores the sizes to which an adapter can be cut on a task's data, and trains at one of them."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

from autorank import tasks
from autorank.errors import AutorankError
from autorank.modeling import adapters, heads, peft_adapter, spectrum
from autorank.modeling.base_model import BaseModel
from autorank.modeling.loading.auto_model import set_pad_token
from autorank.modeling.loading.remote_code import trusting
from autorank.shrinking.cutting import ShrinkableAdapter, Size
from autorank.spec import TaskSpec, TrainingSpec
from autorank.tasks.definition import TaskData
from autorank.training import objectives
from autorank.training.evaluation import Slice
from autorank.training.model_cache import DTYPES, ModelCache, resolve_precision
from autorank.training.objectives.base import Objective
from autorank.training.optimization.loop import OptimizationLoop
from autorank.training.optimization.plan import Plan
from autorank.training.run_loops import RunLoops
from autorank.training.slicing.slice_scorer import SliceScorer

SCORED_TASK_TYPES = {form.task_type for form in (heads.SEQUENCE, heads.SPAN, heads.TEXT, heads.TEXT_TO_TEXT)}


class ScoredAdapter(ShrinkableAdapter):
    """An adapter whose sizes are scored on a task's validation data.

    Args:
        folder: As for `ShrinkableAdapter`.
        task: The task.
        model: The base model; None: the one that the adapter's configuration names.
        training: Batch size, precision and seed.

    Raises:
        AutorankError: The adapter was trained for another kind of task, or does not fit the base model or the task.
    """

    def __init__(self, folder: str, task: TaskSpec, model: str | None, training: TrainingSpec) -> None:
        super().__init__(folder)
        self._name = model or self.adapter.base_model
        self._cache = ModelCache()
        definition = tasks.resolve(task)
        trained = getattr(self.adapter.config.task_type, "value", self.adapter.config.task_type)
        needed = definition.kind.head
        fitting = {needed.task_type} | ({heads.TEXT_TO_TEXT.task_type} if needed.generates else set())
        if trained in SCORED_TASK_TYPES - fitting:
            raise AutorankError(
                f"{folder} was trained for {trained}, but {definition.name!r} is a task of kind {definition.kind}. "
                "Give data of the adapter's own kind of task."
            )
        self._data: TaskData = self._cache.data(task, self._name)
        precision = resolve_precision(training.precision, self._cache.device)
        with trusting(task.trust_remote_code):
            self._base: BaseModel = self._cache.base(self._name, needed, definition.outputs, DTYPES[precision])
        self._base.reset(training.seed)
        set_pad_token(self._base.model.config, self._data.pad_id)
        self._objective: Objective = objectives.create(self._data)
        self._objective.check(self._base.model.config)
        peft_adapter.attach(self.adapter, self._base)
        self._training, self._precision = training, precision
        self._trained: Size | None = None

    @property
    def data_notes(self) -> list[str]:
        """How the labels were interpreted, and warnings about the data, as `autorank train` prints them."""
        return [note for note in (self._data.labels, *self._data.warnings) if note]

    def scored(self, count: int) -> list[Size]:
        """Score the whole adapter and at most `count` smaller ones.

        Args:
            count: Number of smaller sizes.

        Returns:
            The sizes in ascending order of parameters.

        Raises:
            AutorankError: The whole adapter has no finite score.
        """
        loop = self._loop(0.0, 1)
        metrics = self._objective.evaluate(loop, self._data.validation)
        score = metrics[self._data.task.metrics[0]]
        if not math.isfinite(score):
            raise AutorankError(
                f"The score of {self.adapter.folder} is {score}: the adapter is damaged, or its training diverged. "
                "Use another adapter."
            )
        full_size = Size(self.params, 1.0, None, score, metrics)
        scorer = SliceScorer(self._base, loop, self._objective, self._data, count, self._training.slice_score)
        scored_slices = scorer.score(1, True, self.params, score)
        return [*(self._scored_size(slice_) for slice_, _ in scored_slices), full_size]

    def score_size(self, size: Size) -> Size:
        """Score a size.

        Args:
            size: One of this adapter's sizes.

        Returns:
            The size with its score.
        """
        scorer = SliceScorer(self._base, self._loop(0.0, 1), self._objective, self._data, 1, self._training.slice_score)
        return self._scored_size(scorer.at(size.adapter_params)[0])

    def train(self, size: Size, steps: int, learning_rate: float) -> Size:
        """Cut the adapter permanently to a size and train it, with its head, for some more steps.

        Args:
            size: One of the sizes of `scored`.
            steps: Optimizer steps.
            learning_rate: Peak learning rate.

        Returns:
            The size with its new score; `write` writes the trained adapter from now on if it is not worse.
        """
        if size.component_masks is not None:
            spectrum.cut(self._base.model, size.component_masks)
        loop = self._loop(learning_rate, steps)
        loop.train("shrink")
        metrics = self._objective.evaluate(loop, self._data.validation)
        trained = replace(size, score=metrics[self._data.task.metrics[0]], metrics=metrics)
        if size.score is not None and trained.score is not None and trained.score >= size.score:
            self._trained = trained
        return trained

    def write(self, size: Size, to: Path, pad: bool = False) -> None:
        """Write the adapter cut to a size as a PEFT adapter; after `train` with the trained weights.

        Args:
            size: One of this adapter's sizes.
            to: The directory to write to, which exists.
            pad: Give all layers one rank, padded with zeros.
        """
        if self._trained is None or size != self._trained:
            super().write(size, to, pad)
            return
        model = self._base.model
        updates = {name: layer.update for name, layer in adapters.adapted(model).items()}
        values = dict(model.named_parameters())
        peft_adapter.write(self.adapter, updates, {name: values[name] for name in self.adapter.others}, to, pad)

    def _loop(self, learning_rate: float, steps: int) -> OptimizationLoop:
        training = self._training.model_copy(update={"steps": steps})
        plan = Plan.of(training, self._data.task, learning_rate, 1, self._precision)
        return RunLoops(self._base, self._data, self._objective, self._cache, plan).main

    def _scored_size(self, scored: Slice) -> Size:
        masks = scored.component_masks
        return Size(scored.adapter_params, self.energy_of(masks), masks, scored.score, scored.metrics)
