"""Bounds of adapter parameters and checks of run lengths, computed before any training."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any, NamedTuple, Protocol

from torch import nn

from autorank import tasks
from autorank.errors import AutorankError
from autorank.method import AllocationMethod, TargetedConfig
from autorank.methods import configure, find
from autorank.modeling import target_modules
from autorank.modeling.base_model import meta_model
from autorank.modeling.loading.remote_code import trusting
from autorank.searching.space import ranges
from autorank.spec import MethodSpec, SearchSpec, TaskSpec
from autorank.tasks.definition import TaskData


class Bounds(Protocol):
    """Fewest and most adapter parameters that a finished run of a method with these settings can have."""

    def __call__(self, method: str, settings: Mapping[str, Any]) -> tuple[int, int]:
        """Return both numbers."""
        ...


class LengthCheck(Protocol):
    """Raises AutorankError if the runs of a search are too short for a method with its settings."""

    def __call__(self, method: AllocationMethod[Any]) -> None:
        """Check the length."""
        ...


def any_length(method: AllocationMethod[Any]) -> None:
    """Accept all settings (`LengthCheck` of runs whose length is not known)."""


class ParamBounds:
    """`Bounds` for a base model, which is loaded without weights on the first call.

    Args:
        task: The task.
        model: The base model; None: that of the task.

    Raises:
        AutorankError: From any call, if the model cannot be loaded or `targets` match none of its layers.
    """

    def __init__(self, task: TaskSpec, model: str | None) -> None:
        self._task, self._name = task, model

    @cached_property
    def _model(self) -> nn.Module:
        task = tasks.resolve(self._task)
        with trusting(self._task.trust_remote_code):
            return meta_model(self._name or task.model, task.outputs, task.kind.head)

    def __call__(self, method: str, settings: Mapping[str, Any]) -> tuple[int, int]:
        """Return the fewest and the most adapter parameters, see `Bounds`."""
        configured = configure(method, settings)
        return configured.adapter_params(configured.config, self._model)

    @property
    def model_params(self) -> int:
        """Number of parameters of the base model."""
        return sum(parameter.numel() for parameter in self._model.parameters())

    def unadapted(self, entry: MethodSpec) -> str | None:
        """A sentence about weights that a method should adapt but cannot; None if it can. See `target_modules`."""
        config = configure(entry.method, largest(entry, self)).config
        return target_modules.unadapted(self._model, config.targets) if isinstance(config, TargetedConfig) else None

    def length_check(self, steps: int) -> LengthCheck:
        """Return the check for runs of `steps` optimizer steps."""

        def check(method: AllocationMethod[Any]) -> None:
            config = method.config
            layers = target_modules.find(self._model, config.targets) if isinstance(config, TargetedConfig) else {}
            method.check_length(len(layers), steps)

        return check


class RunLength(NamedTuple):
    """Number of optimizer steps and of evaluations of a complete run."""

    steps: int
    evaluations: int


def run_length(spec: SearchSpec, data: TaskData) -> RunLength:
    """Return the length of the complete runs of a search."""
    per_epoch = math.ceil(len(data.train) / (spec.training.batch_size or data.task.batch_size))
    steps = spec.training.steps or (spec.training.epochs or data.task.epochs) * per_epoch
    return RunLength(steps, math.ceil(steps / (spec.training.eval_every or per_epoch)))


def parameter_range(spec: SearchSpec, bounds: Bounds) -> tuple[int, int]:
    """Return the fewest and most adapter parameters of trials, without the baseline's and without slices.

    Both are limited to `max_params`.

    Args:
        spec: The search.
        bounds: Bounds of adapter parameters.

    Returns:
        The fewest and the most.

    Raises:
        AutorankError: The smallest adapter is larger than `max_params`, and no method's adapters are sliced.
    """
    smallest_params = min(bounds(entry.method, smallest(entry, bounds))[0] for entry in spec.methods)
    largest_params = max(bounds(entry.method, largest(entry, bounds))[1] for entry in spec.methods)
    limit = spec.objectives.max_params or largest_params
    if smallest_params > limit and not any(sliced(spec, entry.method) for entry in spec.methods):
        raise AutorankError(
            f"--max-params {limit:,} is less than the smallest adapter of the space, {smallest_params:,}."
        )
    return min(smallest_params, limit), min(largest_params, limit)


def sliced(spec: SearchSpec, method: str) -> bool:
    """Return whether smaller adapters are cut from a method's adapters in this search."""
    return spec.training.slices != "off" and find(method).sliceable


def smallest(entry: MethodSpec, bounds: Bounds) -> dict[str, Any]:
    """Return the settings of the method's space, fixed ones included, with the fewest adapter parameters."""
    return _lowest(entry, lambda settings: bounds(entry.method, settings)[0])


def largest(entry: MethodSpec, bounds: Bounds) -> dict[str, Any]:
    """Return the settings of the method's space, fixed ones included, with the most adapter parameters."""
    return _lowest(entry, lambda settings: -bounds(entry.method, settings)[1])


def size_determining_settings(entry: MethodSpec, bounds: Bounds, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the searched settings that change the number of parameters when each alone is moved to another end.

    Args:
        entry: The method and its space.
        bounds: Bounds on the number of adapter parameters.
        settings: All settings, at the corner from which each is moved.

    Returns:
        Setting -> its value in `settings`.
    """
    params = bounds(entry.method, settings)
    return {
        name: settings[name]
        for name, values in entry.space.items()
        if any(bounds(entry.method, {**settings, name: end}) != params for end in ranges.ends(values))
    }


def _lowest(entry: MethodSpec, cost: Callable[[Mapping[str, Any]], int]) -> dict[str, Any]:
    """The corner of a space with the lowest cost, by coordinate descent (ours).

    One setting after another is moved to its best end or choice, until none lowers the cost; from two starts, all first
    ends and all last ones. This is exact if the cost rises or falls with each setting independently of the others. The
    time is linear in the number of settings; the number of corners is exponential.
    """
    corners = []
    for start in (0, -1):
        corner = entry.settings | {name: ranges.ends(values)[start] for name, values in entry.space.items()}
        lowest, previous = cost(corner), None
        while previous != lowest:
            previous = lowest
            for name, values in entry.space.items():
                for end in ranges.ends(values):
                    moved = {**corner, name: end}
                    if end != corner[name] and (value := cost(moved)) < lowest:
                        corner, lowest = moved, value
        corners.append((lowest, corner))
    return min(corners, key=lambda pair: pair[0])[1]
