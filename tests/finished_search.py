"""Writes a finished search whose front has three points with adapters, ready to export."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from autorank.modeling import adapter_file, adapters, base_model, spectrum, target_modules
from autorank.modeling.layers.lora_layer import LowRankUpdate
from autorank.spec import MethodSpec, SearchSpec, TaskSpec
from autorank.training.evaluation import Slice
from autorank.trials.journal.journal import Journal
from autorank.trials.retention import adapter_path
from tests import tiny_models
from tests.trials.trial_factories import evaluation

LABELS = ("no", "maybe", "yes")
SCORES = (0.6, 0.8, 0.82)  # in ascending order of parameters: the smallest, the knee, the best
STEP = 10


def search(
    runs: Path, model: Path, architecture: str = "bert", name: str = "ready", slices: Sequence[int] = ()
) -> Path:
    """Writes a search and its base model to `model`; returns the search's directory. Trial numbers follow the front.

    Args:
        slices: Numbers of components of slices of the last trial; they score less than all trials.
    """
    tiny_models.model(architecture, model)
    space = {"rank": {"type": "int", "low": 1, "high": 8}}
    task = TaskSpec(
        name="pairs", data=runs.parent / "pairs.jsonl", text=("left", "right"), label="label", max_length=32
    )
    spec = SearchSpec(name=name, task=task, model=str(model), methods=(MethodSpec(method="increlora", space=space),))
    with Journal.create(runs / name, spec, (10_000.0, 0.3)) as journal:
        for trial, score in enumerate(SCORES):
            model_with_adapter = adapted_model(str(model), trial + 1)
            origin = adapter_file.Origin(str(model), len(LABELS), LABELS, 0)
            adapter_file.save(adapter_path(runs / name, trial, STEP), model_with_adapter, origin)
            params = adapters.adapter_params(model_with_adapter.model, model_with_adapter.head)
            number = journal.begin("increlora", {"rank": trial + 1, "learning_rate": 1e-3}, {}).number
            evaluated = evaluation(STEP, params, score, ranks=adapters.ranks(model_with_adapter.model))
            if trial + 1 == len(SCORES):
                evaluated = replace(evaluated, slices=tuple(cut(model_with_adapter, count) for count in slices))
            journal.record(number, evaluated, last=True)
            journal.finish(number, "complete")
    return runs / name


def adapted_model(model: str, seed: int) -> base_model.BaseModel:
    """The base model with updates whose ranks differ from layer to layer, one of rank 0."""
    loaded = base_model.load(model, outputs=len(LABELS))
    generator = torch.Generator().manual_seed(seed)
    for i, name in enumerate(target_modules.find(loaded.model, "query,value")):
        update = LowRankUpdate.lora(
            *target_modules.features(loaded.model.get_submodule(name)), rank=seed + i % 3, alpha=8, generator=generator
        )
        if i == 2:
            update.keep(torch.tensor([], dtype=torch.long))
        adapters.attach(loaded.model, name, update)
    for parameter in loaded.model.parameters():
        if parameter.requires_grad:
            parameter.data += 0.2 * torch.randn(parameter.shape, generator=generator)
    return loaded


def cut(loaded: base_model.BaseModel, count: int) -> Slice:
    """The slice of the best `count` components."""
    with spectrum.factorized(loaded.model) as factorization:
        masks = factorization.keep(count)
        factorization.cut(masks)
        params, score = adapters.adapter_params(loaded.model, loaded.head), 0.5 + count / 100
    return Slice(params, score, {"accuracy": score}, masks)


def logits(folder: Path, trial: int, **inputs: torch.Tensor) -> torch.Tensor:
    """The logits of a trial's adapter, batch x classes."""
    restored, _ = adapter_file.load(adapter_path(folder, trial, STEP))
    with torch.no_grad():
        values: torch.Tensor = restored.model(**inputs).logits
    return values
