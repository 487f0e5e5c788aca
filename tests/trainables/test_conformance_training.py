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
from tests.trainables.trained import (
    each_method,
    functional,
    hooked,
    spec,
    start,
    until,
    weights,
)


@pytest.mark.parametrize(
    ("name", "weight"), [(n, w) for n in METHODS for w in ([0.0, 100.0] if n in PENALIZED else [0.0])]
)
def test_the_reported_loss_is_the_tasks_without_penalties(name: str, weight: float, workspace: Path) -> None:
    """At the first step every update is zero still, or what it was drawn as."""
    settings = {PENALIZED[name]: weight} if name in PENALIZED else {}
    wanted = spec(workspace, name, settings, model="plain")
    run = start(wanted)
    (told,) = until(run, 1)
    if METHODS[name].starts_at_zero:
        plain = base_model.load(str(workspace / "plain"), outputs=2)
        plain.reset(seed=0)
    else:
        untrained = start(wanted)
        untrained._open()
        untrained._start()
        plain = untrained._base
        plain.model.eval()
    batch = collate(run._data.train, run._phase.batch(0), run._data.pad_id)
    labels = batch.pop("labels")
    batch = {name: values.to(plain.model.device) for name, values in batch.items()}
    with torch.no_grad():
        expected = F.cross_entropy(plain.model(**batch).logits.cpu(), labels)
    assert told.train_loss == pytest.approx(float(expected), rel=1e-5)


# Micro-batches and precision


@each_method
def test_micro_batches_change_nothing(name: str, workspace: Path) -> None:
    settings = {} if "dropout" not in METHODS[name].settings else {"dropout": 0.0}
    whole, parts = (start(spec(workspace, name, settings, model="plain", accumulate=n)) for n in (1, 2))
    for ours, theirs in zip(parts, whole, strict=True):
        assert ours.ranks == theirs.ranks, f"after step {ours.step}"
        assert ours.adapter_params == theirs.adapter_params and ours.nonzero_params == theirs.nonzero_params
        assert ours.train_loss == pytest.approx(theirs.train_loss, rel=1e-4)
    for key, ours in functional(weights(parts)).items():
        torch.testing.assert_close(ours, weights(whole)[key], rtol=1e-4, atol=1e-4)


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
    fewest, most = methods.find(name).adapter_params(run._method.config, model)
    assert fewest <= evaluation.adapter_params <= most
    assert all(torch.isfinite(value).all() and value.dtype == torch.float32 for value in weights(run).values())


# Refusals


@pytest.mark.parametrize(
    ("name", "setting", "value"), [(name, *wrong) for name, case in METHODS.items() for wrong in case.refusals.items()]
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
    """0.02 for each of 18 layers are none; IncreLoRA's minimum is a rank for each."""
    with pytest.raises(AutorankError, match=r"mean_rank.*0\.02"):
        list(start(spec(workspace, name, {"mean_rank": 0.02})))


@pytest.mark.parametrize("name", [name for name, case in METHODS.items() if case.short is not None])
def test_too_short_a_run_is_refused_before_it_starts(
    name: str, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: Any) -> None:
        raise AssertionError("a step was trained")

    monkeypatch.setattr(OptimizationLoop, "step", never)
    run = start(spec(workspace, name, METHODS[name].short))
    with pytest.raises(AutorankError) as refused:
        next(run)
    message = str(refused.value)
    assert message.startswith(name) and f"{STEPS} steps" in message and "Train longer" in message
    for setting, value in (METHODS[name].short or {}).items():
        assert setting in message and str(value) in message
    modules = list(run._base.model.modules())
    run.release()
    assert not adapters.adapted(run._base.model) and not hooked(modules)
