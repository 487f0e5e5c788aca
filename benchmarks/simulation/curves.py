"""Recorded learning curves of real trials, replayed as runs without training."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from autorank.errors import AutorankError
from autorank.searching.space import space
from autorank.spec import MethodSpec
from autorank.training.evaluation import Evaluation, Slice
from autorank.trials.front import front, hypervolume
from autorank.trials.record import TrialRecord

RATE = "learning_rate"


class Replay:
    """A recorded trial as an iterator over its evaluations, like `TrainingRun`.

    Args:
        curve: The trial's evaluations.
        total_steps: Steps of a complete trial.
        evaluation_cost: Cost of evaluating one adapter, in training steps.

    Attributes:
        step: Step of the last evaluation.
        cost: Cost of training and evaluating so far, slices included, in training steps.

    Raises:
        AutorankError: After the last evaluation, if the trial diverged there.
    """

    def __init__(self, curve: tuple[Evaluation, ...], total_steps: int, evaluation_cost: float = 0.0) -> None:
        self.step, self.total_steps, self.cost = 0, total_steps, 0.0
        self._curve, self._next, self._evaluation_cost = curve, 0, evaluation_cost

    def __iter__(self) -> Replay:
        return self

    def __next__(self) -> Evaluation:
        if self.step >= self.total_steps:
            raise StopIteration
        if self._next == len(self._curve):
            self.step += self._curve[0].step  # divergence is noticed at the next evaluation
            self.cost += self._curve[0].step
            raise AutorankError("Training diverged.")
        evaluation = self._curve[self._next]
        self._next += 1
        self.cost += evaluation.step - self.step + self._evaluation_cost * (1 + len(evaluation.slices))
        self.step = evaluation.step
        return evaluation


class Curves:
    """Recorded trials of one method. Settings replay the recorded trial that is nearest in the space's unit cube.

    Args:
        lines: Lines as `benchmarks.simulation.record` writes them.
        entry: The method and its space. None: the recorded settings of the method's built-in space.

    Attributes:
        entry: The method and its space.
        curves: The evaluations of each trial that was evaluated.
        evaluations: Evaluations of a complete trial.
        total_steps: Steps of a complete trial.
        evaluation_cost: Cost of evaluating one adapter, in training steps. The forward pass of an example costs a third
            of its forward and backward pass.
        reference: The reference point of the hypervolume: the largest recorded number of parameters, and score 0.

    Raises:
        AutorankError: The lines have trials of several methods, or none that was evaluated.
    """

    def __init__(self, lines: Iterable[Mapping[str, Any]], entry: MethodSpec | None = None) -> None:
        lines = [line for line in lines if line["curve"]]
        if len({line["method"] for line in lines}) != 1:
            raise AutorankError("A table of curves holds trials of one method, and at least one that was evaluated.")
        if entry is None:
            builtin = space.load(lines[0]["method"])
            ranges = {name: builtin.ranges.get(name) or _choices(name, lines) for name in lines[0]["drawn"]}
            fixed = {name: value for name, value in builtin.fixed.items() if name not in ranges}
            entry = MethodSpec(method=lines[0]["method"], settings=fixed, space=ranges)
        self.entry = entry
        self.curves = [tuple(recorded_evaluation(*row) for row in line["curve"]) for line in lines]
        self.evaluations = max(map(len, self.curves))
        self.total_steps = max(curve[-1].step for curve in self.curves)
        self.evaluation_cost = float(lines[0].get("evaluation_cost", 0.0))
        self.reference = float(max(curve[-1].adapter_params for curve in self.curves)), 0.0
        self._positions = np.array([self._position(line["drawn"]) for line in lines])  # trials x coordinates
        self._rates = np.quantile([line["drawn"][RATE] for line in lines], np.linspace(0, 1, 16))

    @classmethod
    def read(cls, file: Path, method: str | None = None) -> Curves:
        """Read a table.

        Args:
            file: Lines of JSON, compressed if the name ends in .gz.
            method: The method, if the table has several.

        Returns:
            The table of this method.
        """
        return cls(line for line in read_lines(file) if method in (None, line["method"]))

    @cached_property
    def attainable(self) -> float:
        """The hypervolume of the front of all recorded evaluations and slices."""
        trials = [TrialRecord(i, self.entry.method, {}, evaluations=curve) for i, curve in enumerate(self.curves)]
        return hypervolume(front(trials), self.reference)

    def nearest(self, *settings: Mapping[str, Any]) -> list[int]:
        """Return the index of the nearest recorded trial for each of these settings; ties go to the first."""
        positions = np.array([self._position(values) for values in settings])
        indices: list[int] = ((positions[:, None] - self._positions) ** 2).sum(axis=2).argmin(axis=1).tolist()
        return indices

    @property
    def trial_cost(self) -> float:
        """Cost of a complete trial without slices, in training steps."""
        return self.total_steps + self.evaluation_cost * self.evaluations

    def run(self, settings: Mapping[str, Any], sliced: bool = True) -> Replay:
        """Return the run that is replayed for these settings, with or without slices."""
        curve = self.curves[self.nearest(settings)[0]]
        if not sliced:
            curve = tuple(replace(evaluation, slices=()) for evaluation in curve)
        return Replay(curve, self.total_steps, self.evaluation_cost)

    def bounds(self, method: str, settings: Mapping[str, Any]) -> tuple[int, int]:
        """Return the fewest and the most parameters of the trials replayed for these settings at any learning rate.

        The parameters of a trial do not depend on its learning rate. See `param_bounds.Bounds`.
        """
        indices = self.nearest(*({**settings, RATE: rate} for rate in self._rates))
        params = [self.curves[i][-1].adapter_params for i in indices]
        return min(params), max(params)

    def _position(self, settings: Mapping[str, Any]) -> list[float]:
        """Coordinates in the unit cube. A choice has one coordinate per value; any two values are at distance 1."""
        coordinates: list[float] = []
        for name, entry in self.entry.space.items():
            if "choices" in entry:
                coordinates += [0.5**0.5 * (settings[name] == choice) for choice in entry["choices"]]
            else:
                low, high, value = entry["low"], entry["high"], settings[name]
                if entry.get("log"):
                    low, high, value = np.log([low, high, value])
                coordinates.append(float((value - low) / ((high - low) or 1)))
        return coordinates


def read_lines(file: Path) -> list[dict[str, Any]]:
    """Read the lines of a table, of all methods, as `record` and `export_curves` beside this module write them."""
    content = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
    return [json.loads(line) for line in content.splitlines()]


def recorded_evaluation(step: int, score: float, params: int, slices: Sequence[tuple[int, float]] = ()) -> Evaluation:
    """Return a recorded evaluation with its (parameters, score) of slices; other values are zero or empty."""
    return Evaluation(
        step=step, epoch=0.0, score=score, metrics={}, train_loss=0.0, adapter_params=params, nonzero_params=params,
        trainable_params=params, head_params=0, ranks={}, seconds=float(step), peak_memory=0,
        slices=tuple(Slice(size, value, {}, {}) for size, value in slices),
    )  # fmt: skip


def _choices(name: str, lines: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A choice of the recorded values, for a setting that the built-in space does not search."""
    return {"choices": sorted({line["drawn"][name] for line in lines})}
