"""What is known of trials before any training: their length, and adapter parameters from the shapes of the layers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cached_property
from typing import Any, Protocol

from torch import nn

from autorank import tasks
from autorank.errors import AutorankError
from autorank.methods import find
from autorank.modeling.base_model import meta_model
from autorank.modeling.remote_code import trusting
from autorank.searching.space.space import corners
from autorank.spec import MethodSpec, SearchSpec, TaskSpec
from autorank.tasks.definition import TaskData


class Bounds(Protocol):
    """Fewest and most adapter parameters that a finished run of a method with these settings can have."""

    def __call__(self, method: str, settings: Mapping[str, Any]) -> tuple[int, int]: ...


class Sizes:
    """`Bounds` for one base model, which is loaded as a structure without weights when it is first needed.

    Raises:
        AutorankError: from any call, if the model cannot be had, or a target names none of its layers.
    """

    def __init__(self, task: TaskSpec, model: str | None) -> None:
        self._task, self._name = task, model

    @cached_property
    def _model(self) -> nn.Module:
        task = tasks.resolve(self._task)
        with trusting(self._task.trust_remote_code):
            return meta_model(self._name or task.model, task.outputs, task.kind)

    def __call__(self, method: str, settings: Mapping[str, Any]) -> tuple[int, int]:
        found = find(method)
        return found.adapter_params(found.Config(**settings), self._model)


def run_length(spec: SearchSpec, data: TaskData) -> tuple[int, int]:
    """Optimizer steps of a whole run, and its evaluations."""
    per_epoch = math.ceil(len(data.train) / (spec.training.batch_size or data.task.batch_size))
    steps = spec.training.steps or (spec.training.epochs or data.task.epochs) * per_epoch
    return steps, math.ceil(steps / (spec.training.eval_every or per_epoch))


def parameter_range(spec: SearchSpec, bounds: Bounds) -> tuple[int, int]:
    """Fewest and most adapter parameters of any trial but the control's, `max_params` considered.

    Raises:
        AutorankError: all are more than `max_params`.
    """
    found = [at for entry in spec.methods for at in at_corners(entry, bounds)]
    fewest, most = min(low for low, _ in found), max(high for _, high in found)
    limit = spec.objectives.max_params or most
    if fewest > limit:
        raise AutorankError(f"--max-params {limit:,} is less than the smallest adapter of the space, {fewest:,}.")
    return fewest, min(most, limit)


def at_corners(entry: MethodSpec, bounds: Bounds) -> list[tuple[int, int]]:
    """Fewest and most adapter parameters at each corner of a method's space."""
    return [bounds(entry.method, entry.settings | corner) for corner in corners(entry.space)]


def smallest(entry: MethodSpec, bounds: Bounds) -> dict[str, Any]:
    """The settings on which the number of parameters depends, where there are fewest."""
    found, at = at_corners(entry, bounds), corners(entry.space)

    def counts(name: str) -> bool:
        """Whether any two corners that differ in this setting alone differ in parameters."""
        seen: dict[str, tuple[int, int]] = {}
        for corner, bound in zip(at, found, strict=True):
            others = repr({other: value for other, value in corner.items() if other != name})
            if seen.setdefault(others, bound) != bound:
                return True
        return False

    corner = at[min(range(len(at)), key=lambda i: found[i][0])]
    return {name: corner[name] for name in entry.space if counts(name)}
