"""VeRA against PEFT's, and against its formula."""

from __future__ import annotations

import copy
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from autorank.methods import configure
from autorank.modeling import adapters, base_model, target_modules
from trainables.vera import projections

SETTINGS = {"rank": 6, "d_initial": 0.1, "projection_seed": 3}


@pytest.fixture(params=["query,value", "all-linear"])
def models_and_layers(
    base: base_model.BaseModel, request: pytest.FixtureRequest
) -> tuple[nn.Module, nn.Module, list[str]]:
    """The model with our updates, the same model without updates, and the names of the adapted layers."""
    base.reset(seed=0)
    unadapted = copy.deepcopy(base.model)
    layers = target_modules.find(base.model, request.param)
    run: Any = SimpleNamespace(model=base.model, layers=layers, device=torch.device("cpu"))
    configure("vera", SETTINGS | {"targets": request.param}).prepare(run)
    return base.model.eval(), unadapted.eval(), list(layers)


def test_peft_has_the_same_projections_logits_and_gradients(
    models_and_layers: tuple[nn.Module, nn.Module, list[str]],
) -> None:
    from peft import VeraConfig, get_peft_model

    model, unadapted, layers = models_and_layers
    config = VeraConfig(r=6, d_initial=0.1, projection_prng_key=3, target_modules=layers)
    peft_model: Any = get_peft_model(unadapted, config).eval()
    adapted_layers = adapters.adapted(model)
    draw = torch.Generator().manual_seed(1)
    pairs: list[tuple[nn.Parameter, nn.Parameter]] = []
    for name, layer in adapted_layers.items():
        update, peft_layer = layer.update, peft_model.base_model.model.get_submodule(name)
        inner, out = target_modules.features(layer.base)
        assert update.e is not None and update.u is not None
        assert torch.equal(update.A, peft_layer.vera_A["default"][:, :inner])
        assert torch.equal(update.B, peft_layer.vera_B["default"][:out])
        vectors = [(update.e, peft_layer.vera_lambda_d["default"]), (update.u, peft_layer.vera_lambda_b["default"])]
        assert all(torch.equal(parameter, peft_parameter) for parameter, peft_parameter in vectors)  # 0.1 and zero
        pairs += vectors
    for parameter, peft_parameter in pairs:
        values = torch.randn(parameter.shape, generator=draw)
        parameter.data.copy_(values), peft_parameter.data.copy_(values)
    batch = {"input_ids": torch.randint(4, 60, (3, 7), generator=draw)}
    logits = [m(**batch).logits for m in (model, peft_model)]
    torch.testing.assert_close(*logits, rtol=1e-5, atol=1e-5)
    for values in logits:
        values.square().sum().backward()
    for parameter, peft_parameter in pairs:
        assert parameter.grad is not None and parameter.grad.any()
        torch.testing.assert_close(parameter.grad, peft_parameter.grad, rtol=1e-4, atol=1e-5)


def test_only_the_vectors_train_and_count(models_and_layers: tuple[nn.Module, nn.Module, list[str]]) -> None:
    model, _, layers = models_and_layers
    updates = {name: layer.update for name, layer in adapters.adapted(model).items()}
    assert list(updates) == layers
    trained = {name for name, p in model.named_parameters() if p.requires_grad and ".update." in name}
    assert trained == {f"{name}.update.{vector}" for name in layers for vector in ("e", "u")}
    expected = sum(6 + update.B.shape[0] for update in updates.values())
    head = [name for name, _ in model.named_parameters() if name.startswith("classifier")]
    pooler = [name for name, _ in model.named_parameters() if "pooler" in name]
    assert adapters.adapter_params(model, [*head, *pooler]) == expected
    assert len({id(update.A) for update in updates.values()}) == len({u.A.shape for u in updates.values()})
    assert len({id(update.B) for update in updates.values()}) == len({u.B.shape for u in updates.values()})


def test_the_update_is_its_formula(models_and_layers: tuple[nn.Module, nn.Module, list[str]]) -> None:
    model, _, _ = models_and_layers
    for layer in adapters.adapted(model).values():
        update = layer.update
        assert update.e is not None and update.u is not None
        assert not update.delta_weight().any()  # u is zero at the start
        update.u.data.normal_()
        expected = torch.diag(update.u) @ update.B @ torch.diag(update.e) @ update.A
        torch.testing.assert_close(update.delta_weight(), expected)


def test_projections_are_bounded_by_their_fan_in() -> None:
    A, B = projections(768, 3072, 512, seed=0)
    for matrix, fan in ((A, 768), (B, 512)):
        bound = (6 / fan) ** 0.5
        assert 0.99 * bound < matrix.abs().max() <= bound
        assert matrix.std().item() == pytest.approx(bound / 3**0.5, rel=0.01)
    assert A.shape == (512, 768) and B.shape == (3072, 512)
