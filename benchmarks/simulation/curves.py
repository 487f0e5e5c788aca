"""Recorded learning curves of real trials, replayed as runs: microseconds where a search would train."""

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
    """A recorded trial as a run: the iterator of its evaluations that a `TrainingRun` is.

    Args:
        curve: its evaluations.
        total_steps: of a trial that does not diverge.
        evaluation_cost: what evaluating one adapter costs, in training steps.

    Attributes:
        cost: what training and evaluating have cost so far, slices included, in training steps.

    Raises:
        AutorankError: after the last evaluation, if the trial diverged there.
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
            self.step += self._curve[0].step  # it took until the next evaluation to see
            self.cost += self._curve[0].step
            raise AutorankError("Training diverged.")
        evaluation = self._curve[self._next]
        self._next += 1
        self.cost += evaluation.step - self.step + self._evaluation_cost * (1 + len(evaluation.slices))
        self.step = evaluation.step
        return evaluation


class Curves:
    """A table of recorded trials of one method. Settings replay the trial nearest to them in the space's unit cube.

    Args:
        lines: as benchmarks/record.py writes them.
        entry: the method and its space; by default what was drawn of the space that the method brings.

    Attributes:
        curves: every trial's evaluations, of those that came to one.
        total_steps: of a trial that does not diverge.
        evaluation_cost: what evaluating one adapter costs, in training steps. A forward pass of an example is a third
            of its forward and backward pass.
        reference: the worst corner for hypervolumes: the most parameters that a trial has, and score 0.
    """

    def __init__(self, lines: Iterable[Mapping[str, Any]], entry: MethodSpec | None = None) -> None:
        lines = [line for line in lines if line["curve"]]
        if len({line["method"] for line in lines}) != 1:
            raise AutorankError("A table of curves holds trials of one method, and at least one that was evaluated.")
        if entry is None:
            own = space.load(lines[0]["method"])
            drawn = {name: own.ranges[name] for name in lines[0]["drawn"]}
            entry = MethodSpec(method=lines[0]["method"], settings=own.fixed, space=drawn)
        self.entry = entry
        self.curves = [tuple(_evaluation(*row) for row in line["curve"]) for line in lines]
        self.total_steps = max(curve[-1].step for curve in self.curves)
        self.evaluation_cost = float(lines[0].get("evaluation_cost", 0.0))
        self.reference = float(max(curve[-1].adapter_params for curve in self.curves)), 0.0
        self._places = np.array([self._place(line["drawn"]) for line in lines])  # trials x coordinates
        self._rates = np.quantile([line["drawn"][RATE] for line in lines], np.linspace(0, 1, 16))

    @classmethod
    def read(cls, file: Path, method: str | None = None) -> Curves:
        """Read a table.

        Args:
            file: lines of JSON, compressed if the name ends in .gz.
            method: the method, if the table has several.

        Returns:
            The table of this method.
        """
        return cls(line for line in read_lines(file) if method in (None, line["method"]))

    @cached_property
    def attainable(self) -> float:
        """The hypervolume of the front of all evaluations."""
        trials = [TrialRecord(i, self.entry.method, {}, evaluations=curve) for i, curve in enumerate(self.curves)]
        return hypervolume(front(trials), self.reference)

    def nearest(self, *settings: Mapping[str, Any]) -> list[int]:
        """For each of these settings the index of the recorded trial that is nearest; ties go to the first."""
        asked = np.array([self._place(each) for each in settings])
        found: list[int] = ((asked[:, None] - self._places) ** 2).sum(axis=2).argmin(axis=1).tolist()
        return found

    @property
    def trial_cost(self) -> float:
        """What a whole trial without slices costs, in training steps."""
        return self.total_steps + self.evaluation_cost * max(map(len, self.curves))

    def run(self, settings: Mapping[str, Any], sliced: bool = True) -> Replay:
        """The run that these settings stand for, with or without its slices."""
        curve = self.curves[self.nearest(settings)[0]]
        if not sliced:
            curve = tuple(replace(evaluation, slices=()) for evaluation in curve)
        return Replay(curve, self.total_steps, self.evaluation_cost)

    def bounds(self, method: str, settings: Mapping[str, Any]) -> tuple[int, int]:
        """`sizes.Bounds`: fewest and most parameters of the trials that these settings replay at any learning rate,
        on which no method's parameters depend."""
        replayed = self.nearest(*({**settings, RATE: rate} for rate in self._rates))
        params = [self.curves[i][-1].adapter_params for i in replayed]
        return min(params), max(params)

    def _place(self, settings: Mapping[str, Any]) -> list[float]:
        """Coordinates in the unit cube. A choice has one for each value, so that any two are a distance of 1 apart."""
        place = []
        for name, entry in self.entry.space.items():
            if "choices" in entry:
                place += [0.5**0.5 * (settings[name] == choice) for choice in entry["choices"]]
            else:
                low, high, value = entry["low"], entry["high"], settings[name]
                if entry.get("log"):
                    low, high, value = np.log([low, high, value])
                place.append(float((value - low) / ((high - low) or 1)))
        return place


def read_lines(file: Path) -> list[dict[str, Any]]:
    """The lines of a table as benchmarks/record.py and benchmarks/export_curves.py write it, of all methods."""
    content = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
    return [json.loads(line) for line in content.splitlines()]


def _evaluation(step: int, score: float, params: int, slices: Sequence[tuple[int, float]] = ()) -> Evaluation:
    """A recorded one, with the parameters and scores of its slices; what was not recorded of it is nothing."""
    return Evaluation(
        step=step, epoch=0.0, score=score, metrics={}, train_loss=0.0, adapter_params=params, nonzero_params=params,
        trainable_params=params, head_params=0, ranks={}, seconds=float(step), peak_memory=0,
        slices=tuple(Slice(size, value, {}, {}) for size, value in slices),
    )  # fmt: skip
