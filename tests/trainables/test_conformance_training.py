"""Losses, micro-batches, precision and refusals of every method; see test_conformance.py."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from autorank import methods
from autorank.errors import AutorankError
from autorank.modeling import adapters, base_model, target_modules
from autorank.tasks.data.batches import collate
from autorank.training.optimization.loop import OptimizationLoop
from tests.trainables.cases import METHODS, PENALIZED, STEPS
from tests.trainables.conformance_runs import (
    each_method,
    functional,
    open_run,
    spec,
    start,
    until,
    weights,
    with_hooks,
)


@pytest.mark.parametrize(
    ("name", "weight"), [(n, w) for n in METHODS for w in ([0.0, 100.0] if n in PENALIZED else [0.0])]
)
def test_the_reported_loss_is_the_tasks_without_penalties(name: str, weight: float, workspace: Path) -> None:
    """The first step's loss is that of the base model, or of the model with its initial updates."""
    settings = {PENALIZED[name]: weight} if name in PENALIZED else {}
    train_spec = spec(workspace, name, settings, model="plain")
    run = start(train_spec)
    (evaluation,) = until(run, 1)
    if METHODS[name].starts_at_zero:
        base = base_model.load(str(workspace / "plain"), outputs=2)
        base.reset(seed=0)
    else:
        base = open_run(train_spec)._base
        base.model.eval()
    batch = collate(run._data.train, run._loop.batch(0), run._data.pad_id)
    labels = batch.pop("labels")
    batch = {name: values.to(base.model.device) for name, values in batch.items()}
    with torch.no_grad():
        expected = F.cross_entropy(base.model(**batch).logits.cpu(), labels)
    assert evaluation.train_loss == pytest.approx(float(expected), rel=1e-5)


# Micro-batches and precision


@each_method
def test_micro_batches_change_nothing(name: str, workspace: Path) -> None:
    settings = {} if "dropout" not in METHODS[name].settings else {"dropout": 0.0}
    full_batches, micro_batches = (start(spec(workspace, name, settings, model="plain", accumulate=n)) for n in (1, 2))
    for actual, expected in zip(micro_batches, full_batches, strict=True):
        assert actual.ranks == expected.ranks, f"after step {actual.step}"
        assert actual.adapter_params == expected.adapter_params and actual.nonzero_params == expected.nonzero_params
        assert actual.train_loss == pytest.approx(expected.train_loss, rel=1e-4)
    for key, actual in functional(weights(micro_batches)).items():
        torch.testing.assert_close(actual, weights(full_batches)[key], rtol=1e-4, atol=1e-4)


@each_method
def test_bf16_on_a_cpu(name: str, workspace: Path) -> None:
    run = start(spec(workspace, name, precision="bf16", eval_every=8))
    model = base_model.meta_model(str(workspace / "model"))
    layers = target_modules.shapes(model, "all-linear")
    for evaluation in run:
        assert all(math.isfinite(value) for value in evaluation.metrics.values())
        total = METHODS[name].total
        assert total is None or sum(evaluation.ranks.values()) == total(evaluation.step)
        assert all(0 <= rank <= min(layers[layer]) for layer, rank in evaluation.ranks.items())
    lower, upper = methods.find(name).adapter_params(run._method.config, model)
    assert lower <= evaluation.adapter_params <= upper
    assert all(torch.isfinite(value).all() and value.dtype == torch.float32 for value in weights(run).values())


# Refusals


@pytest.mark.parametrize(
    ("name", "setting", "value"),
    [(name, *refusal) for name, case in METHODS.items() for refusal in case.refusals.items()],
)
def test_a_wrong_value_is_named(name: str, setting: str, value: Any) -> None:
    with pytest.raises(AutorankError) as refused:
        methods.configure(name, METHODS[name].settings | {setting: value})
    assert f"settings of {name}" in str(refused.value)
    assert setting in str(refused.value) and repr(value) in str(refused.value)


@each_method
def test_an_unknown_setting_is_named(name: str) -> None:
    with pytest.raises(AutorankError, match=rf"setting of {name} 'learning_rat'.* Did you mean 'learning_rate'"):
        methods.configure(name, {"learning_rat": 1e-3})


@pytest.mark.parametrize("name", [name for name in METHODS if "mean_rank" in METHODS[name].settings])
def test_a_budget_without_a_single_rank_is_refused(name: str, workspace: Path) -> None:
    """A mean rank of 0.02 on 18 layers rounds to no rank; IncreLoRA needs at least one rank per layer."""
    with pytest.raises(AutorankError, match=r"mean_rank.*0\.02"):
        list(start(spec(workspace, name, {"mean_rank": 0.02})))


@pytest.mark.parametrize("name", [name for name, case in METHODS.items() if case.short is not None])
def test_too_short_a_run_is_refused_before_it_starts(
    name: str, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise AssertionError("a step was trained")

    monkeypatch.setattr(OptimizationLoop, "step", fail)
    run = start(spec(workspace, name, METHODS[name].short))
    with pytest.raises(AutorankError) as refused:
        next(run)
    message = str(refused.value)
    assert message.startswith(name) and f"{STEPS} steps" in message and "Train longer" in message
    for setting, value in (METHODS[name].short or {}).items():
        assert setting in message and str(value) in message
    modules = list(run._base.model.modules())
    run.release()
    assert not adapters.adapted(run._base.model) and not with_hooks(modules)
