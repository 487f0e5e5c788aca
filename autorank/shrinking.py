"""Cuts a trained PEFT adapter to smaller sizes, with scores if there are data, and writes one of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from autorank import tasks
from autorank.errors import AutorankError
from autorank.modeling import adapters, peft_adapter, spectrum
from autorank.modeling.base_model import BaseModel
from autorank.modeling.peft_adapter import PeftAdapter
from autorank.modeling.remote_code import trusting
from autorank.spec import TaskSpec, TrainingSpec
from autorank.tasks.definition import TaskData
from autorank.training import objectives
from autorank.training.hooks import Hooks
from autorank.training.model_cache import ModelCache, resolve_precision
from autorank.training.objectives.base import Objective
from autorank.training.optimization_loop import OptimizationLoop, Plan
from autorank.training.rng import stream
from autorank.training.slices import SliceScorer
from autorank.trials.front import Point, mark_knee, non_dominated
from autorank.trials.selection import pick

TASK_TYPES = {"SEQ_CLS": ("classification", "regression"), "CAUSAL_LM": ("generation",),
              "SEQ_2_SEQ_LM": ("generation",), "QUESTION_ANS": ("span",)}  # fmt: skip
HALVINGS = 10  # sizes that are listed without data: the whole, a half, a quarter, ...


@dataclass(frozen=True)
class Size:
    """A size to which an adapter can be cut.

    Attributes:
        adapter_params: parameters of the adapter, its head not counted.
        energy: share of the adapter's energy, the sum of squared singular values, that is kept.
        kept: layer name -> components, as a bit mask; None: the whole adapter.
        score: the task's main metric; None without data.
        metrics: all metrics of the task.
    """

    adapter_params: int
    energy: float
    kept: Mapping[str, int] | None
    score: float | None = None
    metrics: dict[str, float] | None = None


class Shrinking:
    """An adapter that is cut to smaller sizes without data.

    Args:
        folder: a PEFT adapter: its directory, or name on the Hub.

    Raises:
        AutorankError: see `peft_adapter.read`.
    """

    def __init__(self, folder: str) -> None:
        self.adapter: PeftAdapter = peft_adapter.read(folder)
        self._spectrum = spectrum.Spectrum(peft_adapter.skeleton(self.adapter))
        magnitudes = (update.m for update in self.adapter.updates.values() if update.m is not None)
        self._fixed = sum(m.numel() for m in magnitudes)
        self.params = self._fixed + sum(u.A.numel() + u.B.numel() for u in self.adapter.updates.values())
        self._energies = self._spectrum.kept_energy()

    def sizes(self) -> list[Size]:
        """Return the whole adapter and its halves, quarters, ..., by rising parameters."""
        counts = {len(self._energies) - 1}
        for halving in range(1, HALVINGS + 1):
            limit = self.params / 2**halving - self._fixed
            counts.add(max(count for count, size in enumerate(self._spectrum.params) if size <= max(limit, 0)))
        return [self._size(count) for count in sorted(counts) if count >= self._spectrum.fewest]

    def at_energy(self, share: float) -> Size:
        """Return the smallest size that keeps a share of the energy (as PARA's threshold, arXiv 2604.27796).

        Args:
            share: above 0, at most 1.

        Returns:
            The size.
        """
        reached = (count for count, energy in enumerate(self._energies) if energy >= share - 1e-12)
        return self._size(max(self._spectrum.fewest, next(reached)))

    def at_params(self, max_params: int) -> Size:
        """Return the largest size with at most so many parameters.

        Raises:
            AutorankError: All sizes are larger.
        """
        fitting = [count for count, size in enumerate(self._spectrum.params) if size + self._fixed <= max_params]
        if not fitting or fitting[-1] < self._spectrum.fewest:
            smallest = self._spectrum.params[self._spectrum.fewest] + self._fixed
            raise AutorankError(f"No size has at most {max_params:,} parameters; the smallest has {smallest:,}.")
        return self._size(fitting[-1])

    def write(self, size: Size, to: Path, pad: bool = False) -> None:
        """Write the adapter cut to a size as a PEFT adapter.

        Args:
            size: one of this adapter's sizes.
            to: the directory to write to, which exists.
            pad: give all layers one rank, padded with zeros, for servers that require it.
        """
        module = peft_adapter.skeleton(self.adapter)
        if size.kept is not None:
            spectrum.cut(module, size.kept)
        updates = {name: layer.update for name, layer in adapters.adapted(module).items()}
        peft_adapter.write(self.adapter, updates, self.adapter.others, to, pad)

    def energy_of(self, kept: Mapping[str, int]) -> float:
        """Return the share of the energy that components hold."""
        return self._spectrum.energy_of(kept)

    def _size(self, count: int) -> Size:
        return Size(self._spectrum.params[count] + self._fixed, self._energies[count], self._spectrum.keep(count))


class ScoredShrinking(Shrinking):
    """An adapter whose sizes are scored on a task's validation data.

    Args:
        folder: as for `Shrinking`.
        task: the task.
        model: the base model; None: the one that the adapter's configuration names.
        training: batch size, precision and seed.

    Raises:
        AutorankError: The adapter was trained for another kind of task, or does not fit the base model or the task.
    """

    def __init__(self, folder: str, task: TaskSpec, model: str | None, training: TrainingSpec) -> None:
        super().__init__(folder)
        self._name = model or self.adapter.base_model
        self._cache = ModelCache()
        definition = tasks.resolve(task)
        kind = getattr(self.adapter.config.task_type, "value", self.adapter.config.task_type)
        if kind in TASK_TYPES and definition.kind not in TASK_TYPES[kind]:
            raise AutorankError(
                f"{folder} was trained for {kind}, but {definition.name!r} is a task of kind {definition.kind}. Give "
                "data of the adapter's own kind of task."
            )
        self._data: TaskData = self._cache.data(task, self._name)
        precision = resolve_precision(training.precision, self._cache.device)
        dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
        with trusting(task.trust_remote_code):
            self._base: BaseModel = self._cache.base(self._name, definition.kind, definition.outputs, dtype)
        self._base.reset(training.seed)
        self._base.model.config.pad_token_id = self._data.pad_id
        self._objective: Objective = objectives.create(self._data)
        self._objective.check(self._base.model.config)
        peft_adapter.attach(self.adapter, self._base)
        self._training, self._precision = training, precision

    def scored(self, count: int) -> list[Size]:
        """Score the whole adapter and at most `count` smaller ones.

        Args:
            count: number of smaller sizes.

        Returns:
            The sizes, by rising parameters.

        Raises:
            AutorankError: The whole adapter has no finite score.
        """
        loop = self._loop(0.0, 1)
        metrics = self._objective.evaluate(loop, self._data.validation)
        score = metrics[self._data.task.metrics[0]]
        if not math.isfinite(score):
            raise AutorankError(f"The score of {self.adapter.folder} is {score}; it is damaged, or trained in vain.")
        whole = Size(self.params, 1.0, None, score, metrics)
        scorer = SliceScorer(self._base, loop, self._objective, self._data, count, self._training.slice_score)
        pieces = scorer.score(1, True, self.params, score)
        sizes = [
            Size(piece.adapter_params, self.energy_of(piece.kept), piece.kept, piece.score, piece.metrics)
            for piece in pieces
        ]
        return [*sizes, whole]

    def score_size(self, size: Size) -> Size:
        """Score a size.

        Args:
            size: one of this adapter's sizes.

        Returns:
            The size with its score.
        """
        scorer = SliceScorer(self._base, self._loop(0.0, 1), self._objective, self._data, 1, self._training.slice_score)
        piece = scorer.at(size.adapter_params)
        return replace(size, score=piece.score, metrics=piece.metrics)

    def polish(self, size: Size, steps: int, learning_rate: float) -> Size:
        """Cut the adapter to a size for good and train it, with its head, for some more steps.

        Args:
            size: one of the sizes of `scored`.
            steps: optimizer steps.
            learning_rate: peak learning rate.

        Returns:
            The size with its new score; `write` writes the trained adapter from now on if it is not worse.
        """
        if size.kept is not None:
            spectrum.cut(self._base.model, size.kept)
        loop = self._loop(learning_rate, steps)
        loop.train_rest()
        with stream(self._cache.device, self._training.seed, 0, "polish"):
            for step in range(steps):
                loop.step(step, Hooks())
        metrics = self._objective.evaluate(loop, self._data.validation)
        polished = replace(size, score=metrics[self._data.task.metrics[0]], metrics=metrics)
        if size.score is not None and polished.score is not None and polished.score >= size.score:
            self._polished = polished
        return polished

    _polished: Size | None = None

    def write(self, size: Size, to: Path, pad: bool = False) -> None:
        """Write the adapter cut to a size as a PEFT adapter; after `polish` with the trained weights.

        Args:
            size: one of this adapter's sizes.
            to: the directory to write to, which exists.
            pad: give all layers one rank, padded with zeros.
        """
        if self._polished is None or size != self._polished:
            super().write(size, to, pad)
            return
        model = self._base.model
        updates = {name: layer.update for name, layer in adapters.adapted(model).items()}
        values = dict(model.named_parameters())
        peft_adapter.write(self.adapter, updates, {name: values[name] for name in self.adapter.others}, to, pad)

    def _loop(self, learning_rate: float, steps: int) -> OptimizationLoop:
        training = self._training.model_copy(update={"steps": steps})
        plan = Plan.of(training, self._data.task, learning_rate, 1, self._precision)
        return OptimizationLoop(
            self._base.model, self._data.train, np.arange(len(self._data.train)), self._data.pad_id, self._objective,
            plan, self._cache.device, self._cache.eval_batch_size,
        )  # fmt: skip


def choose(
    shrinking: Shrinking, sizes: Sequence[Size], max_params: int | None = None, min_score: float | None = None,
    max_loss: float | None = None, energy: float | None = None,
) -> Size | None:  # fmt: skip
    """Choose a size.

    Args:
        shrinking: the adapter.
        sizes: its sizes, the whole adapter last.
        max_params: the best size with at most so many parameters; without scores the largest.
        min_score: the smallest size with at least this score.
        max_loss: the smallest size that loses at most this much of the whole adapter's score.
        energy: the smallest size with this share of the energy.

    Returns:
        The size; without a condition the knee of the front, or None if nothing is scored.

    Raises:
        AutorankError: No size meets the condition.
    """
    if energy is not None:
        size = shrinking.at_energy(energy)
        return shrinking.score_size(size) if isinstance(shrinking, ScoredShrinking) else size
    whole = sizes[-1]
    if whole.score is None:
        return None if max_params is None else shrinking.at_params(max_params)
    if max_loss is not None:
        min_score = whole.score - max_loss
    point = pick(front_of(sizes), max_params=max_params, min_score=min_score)
    return next(size for size in sizes if size.adapter_params == point.adapter_params)


def front_of(sizes: Sequence[Size]) -> list[Point]:
    """The scored sizes that no other dominates, as points, the knee marked.

    Args:
        sizes: scored sizes of one adapter.

    Returns:
        The points, by rising parameters.
    """
    points = [
        Point(0, 0, size.adapter_params, float(size.score or math.nan), {}, size.adapter_params, size.metrics or {})
        for size in sizes
    ]
    return mark_knee(non_dominated(points))


def as_dict(size: Size) -> dict[str, Any]:
    """A size as plain values, ranks instead of components."""
    values: dict[str, Any] = {"adapter_params": size.adapter_params, "energy": size.energy}
    if size.score is not None:
        values |= {"score": size.score, "metrics": size.metrics}
    if size.kept is not None:
        values["ranks"] = {name: mask.bit_count() for name, mask in size.kept.items()}
    return values
