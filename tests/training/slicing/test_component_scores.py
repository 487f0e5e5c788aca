"""Scores of components, compared with torch's SVD of ΔW and the full matrices of moments and gradients."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from autorank.modeling import adapters, spectrum
from autorank.modeling.layers.adapted_linear import AdaptedLinear
from autorank.spec import TaskSpec, TrainingSpec, TrainSpec
from autorank.tasks.data.batches import collate, token_mask
from autorank.training.run import TrainingRun
from autorank.training.slicing.component_scores import component_scores
from tests import tiny_models

EXAMPLES = 8  # one batch of calibration


@pytest.fixture(scope="module")
def run() -> Iterator[TrainingRun]:
    training = TrainingRun(
        TrainSpec(
            task=TaskSpec(name="demo", max_train_examples=EXAMPLES, max_eval_examples=10),
            method="lora",
            settings={"rank": 3, "learning_rate": 1e-2},
            training=TrainingSpec(steps=12, batch_size=4, eval_every=12, precision="fp32"),
        )
    )
    next(training)
    yield training
    training.release()


def batch(run: TrainingRun) -> dict[str, Tensor]:
    return collate(run._data.train, torch.arange(EXAMPLES).numpy(), run._data.pad_id)


def inputs_and_gradients(run: TrainingRun) -> dict[str, tuple[AdaptedLinear, Tensor, Tensor]]:
    """Layer -> its inputs and the gradients of its outputs over the training examples: tokens x in, tokens x out."""
    activations: dict[str, list[Tensor]] = {}

    def record(name: str) -> Any:
        def hook(module: AdaptedLinear, inputs: tuple[Tensor], output: Tensor) -> None:
            output.retain_grad()
            activations[name] = [inputs[0].detach(), output]

        return hook

    layers = adapters.adapted(run._base.model)
    handles = [layer.register_forward_hook(record(name)) for name, layer in layers.items()]
    run._base.model.eval()
    examples = batch(run)
    run._loop.loss(dict(examples)).backward()
    for handle in handles:
        handle.remove()
    for parameter in run._base.model.parameters():
        parameter.grad = None
    mask = {name: token_mask(examples, x.shape[:-1]).bool() for name, (x, _) in activations.items()}
    return {name: (layers[name], x[mask[name]], y.grad[mask[name]]) for name, (x, y) in activations.items()}  # type: ignore[index]


def scores_by_layer(run: TrainingRun, kind: Any) -> dict[str, Tensor]:
    with spectrum.factorized(run._base.model) as factorized:
        scores = component_scores(kind, factorized, run._loop)
        return {name: scores[index] for name, index in factorized.layers.items()}


def test_input_is_the_energy_of_the_components_outputs(run: TrainingRun) -> None:
    scores = scores_by_layer(run, "input")
    for name, (layer, x, _) in inputs_and_gradients(run).items():
        _, S, Vt = torch.linalg.svd(layer.delta_weight().detach())
        moments = x.T @ x / len(x)
        expected = S[:3].square() * torch.einsum("ri,ij,rj->r", Vt[:3], moments, Vt[:3]) / sum(layer.weight.shape)
        torch.testing.assert_close(scores[name], expected, rtol=1e-3, atol=1e-9)


def test_relative_positions_are_no_tokens(tmp_path: Path) -> None:
    """DeBERTa's query and key projections see them after the tokens, in every forward pass."""
    tiny_models.pairs_folder(tmp_path / "data", EXAMPLES)
    task = TaskSpec(name="own", data=tmp_path / "data", text=("left", "right"), label="label")
    model = tiny_models.model("deberta-v2", tmp_path / "model")
    training = TrainingSpec(steps=2, batch_size=4, eval_every=2, precision="fp32")
    run = TrainingRun(TrainSpec(task=task, model=model, method="lora", settings={"rank": 1}, training=training))
    next(run)
    tokens: dict[str, list[Tensor]] = {}
    layers = adapters.adapted(run._base.model)
    for name, layer in layers.items():
        layer.register_forward_pre_hook(lambda _, inputs, name=name: tokens.setdefault(name, []).append(inputs[0]))
    examples = batch(run)
    examples.pop("labels")
    run._base.model.eval()(**examples)
    assert any(len(inputs) == 2 for inputs in tokens.values())
    scores = scores_by_layer(run, "input")
    for name, inputs in tokens.items():
        x = inputs[0][examples["attention_mask"].bool()]
        delta = layers[name].update.delta_weight()
        expected = (x @ delta.T).square().sum(1).mean() / sum(delta.shape)
        torch.testing.assert_close(scores[name].sum(), expected.detach(), rtol=1e-3, atol=1e-12)
    run.release()


@pytest.mark.parametrize("accumulate", [1, 3])
def test_gradient_is_the_squared_effect_of_a_gate(
    accumulate: int, run: TrainingRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Batches are split like those of a step."""
    monkeypatch.setattr(run._loop, "plan", replace(run._loop.plan, accumulate=accumulate))
    scores = scores_by_layer(run, "gradient")
    assert all(parameter.grad is None for parameter in run._base.model.parameters())
    for name, (layer, x, g) in inputs_and_gradients(run).items():
        U, S, Vt = torch.linalg.svd(layer.delta_weight().detach())
        effect = S[:3] * torch.einsum("or,oi,ri->r", U[:, :3], g.T @ x, Vt[:3])
        expected = effect.square() / sum(layer.weight.shape)
        torch.testing.assert_close(scores[name], expected, rtol=2e-3, atol=1e-12)


def test_energy_reads_no_data(run: TrainingRun) -> None:
    with spectrum.factorized(run._base.model) as factorized:
        expected = factorized.energies()
        run._loop.model, model = None, run._loop.model  # type: ignore[assignment]
        try:
            assert all(map(torch.equal, component_scores("energy", factorized, run._loop), expected))
        finally:
            run._loop.model = model
