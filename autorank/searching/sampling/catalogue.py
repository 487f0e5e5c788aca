"""First settings from the catalogue: what was best in recorded searches on similar tasks with a similar base model.

`search_spaces/catalogue.yaml` is written by `benchmarks/study`. Its settings are tried before a method's defaults; the
sampler learns from them only when they have been trained. They are used only if the sizes of the models and the lengths
of the runs are similar, because a learning rate that is best for 150 steps is too high for 10,000.
"""

from __future__ import annotations

import importlib.resources
import math
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from autorank.methods import find
from autorank.searching.sampling.warm_start import default_settings, searched_settings
from autorank.searching.space import ranges
from autorank.searching.space.param_bounds import ParamBounds, run_length
from autorank.searching.space.space import load
from autorank.spec import EarlierTrial, MethodSpec, SearchSpec, Spec
from autorank.tasks import base_model
from autorank.tasks.definition import TaskData

FILE = "catalogue.yaml"
MAX_SIZE_RATIO = 10.0  # largest ratio of numbers of model parameters, and of training examples that a run uses (ours)


class CatalogueEntry(Spec):
    """Searches of one task with one base model."""

    task: str
    model: str
    model_params: int
    kind: str  # name of the task's kind
    seen: int  # training examples that a run uses: steps times batch size
    best: dict[str, tuple[dict[str, Any], ...]]  # method -> its best settings, one for each choice of adapted layers


@cache
def catalogue_entries() -> tuple[CatalogueEntry, ...]:
    """Return the catalogue."""
    text = (importlib.resources.files("search_spaces") / FILE).read_text(encoding="utf-8")
    return tuple(CatalogueEntry.model_validate(values) for values in yaml.safe_load(text))


def first_trials(
    spec: SearchSpec, data: TaskData, bounds: ParamBounds, searches: Sequence[CatalogueEntry] | None = None
) -> tuple[EarlierTrial, ...]:
    """Choose the settings with which the methods of a search begin: of each method the best on the nearest task.

    Args:
        spec: The search.
        data: Its data.
        bounds: The bounds of its base model.
        searches: The catalogue; None: the one that is shipped.

    Returns:
        At most one trial for each method; none if no recorded search is near enough and fits the method's space, or if
        the defaults were best, with which searches begin anyway.
    """
    examples_seen = run_length(spec, data).steps * (spec.training.batch_size or data.task.batch_size)
    model = Path(base_model(spec.task, spec.model)).name
    distances = [
        (_distance(search, model, data.task.kind.name, examples_seen, bounds.model_params), search)
        for search in (catalogue_entries() if searches is None else searches)
    ]
    near = [search for distance, search in sorted(distances, key=lambda item: item[0]) if distance < math.inf]
    trials = []
    for method in spec.entries:
        for search in near:
            fitting = [settings for best in search.best.get(method.method, ()) if (settings := _fitting(best, method))]
            if fitting:
                if fitting[0] != default_settings(method):
                    source = f"{search.task} with {search.model}"
                    trials.append(EarlierTrial(search=source, method=method.method, settings=fitting[0], first=True))
                break
    return tuple(trials)


def sources(trials: Sequence[EarlierTrial]) -> str:
    """Return the methods whose first settings are known, and where they were best."""
    names = dict.fromkeys(trial.search for trial in trials)
    return "; ".join(f"{', '.join(t.method for t in trials if t.search == name)} (best on {name})" for name in names)


def _distance(search: CatalogueEntry, model: str, kind: str, examples_seen: int, model_params: int) -> float:
    """How far a recorded search is from a new one, in factors of ten; infinite if it is too far.

    Another kind of task, and another base model of a similar size, count as one factor each.
    """
    ratios = [abs(math.log10(search.seen / examples_seen)), abs(math.log10(search.model_params / model_params))]
    if max(ratios) > math.log10(MAX_SIZE_RATIO):
        return math.inf
    return sum(ratios) + (search.kind != kind) + (search.model != model)


def _fitting(settings: Mapping[str, Any], method: MethodSpec) -> dict[str, Any]:
    """The settings that this search searches too; none if another one has a different value here.

    The catalogue has only settings that were searched; all others had the values of the built-in search space.
    """
    defaults = {name: field.default for name, field in find(method.method).Config.model_fields.items()}
    if not settings.keys() <= defaults.keys():
        return {}
    recorded = {**defaults, **load(method.method).fixed, **settings}
    for name, value in recorded.items():
        if name not in method.space and method.settings.get(name, defaults[name]) != value:
            return {}
    searched = searched_settings(settings, method)
    others = {
        name: recorded[name]
        for name, values in method.space.items()
        if name not in settings and name in recorded and ranges.contains(values, recorded[name])
    }
    return others | searched if searched else {}
