"""Tied-LoRA: which layers share which factors, and how shared parameters are counted."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from autorank.methods import configure, find
from autorank.modeling import adapters, base_model, target_modules
from autorank.modeling.layers.lora_layer import LowRankUpdate
from tests import tiny_models

ATTENTION = "encoder.layer.{}.attention.self.{}"
ONE_QUERY = "layer.1.attention.self.query,value"  # one query layer, all value layers


def prepare(base: base_model.BaseModel, targets: str) -> dict[str, LowRankUpdate]:
    """Layer name -> its new update."""
    base.reset(seed=0)
    run: Any = SimpleNamespace(
        model=base.model, layers=target_modules.find(base.model, targets), device=torch.device("cpu"),
        generator=torch.Generator().manual_seed(0),
    )  # fmt: skip
    configure("tied-lora", {"rank": 3, "alpha": 6, "targets": targets}).prepare(run)
    return {name.removeprefix("bert."): layer.update for name, layer in adapters.adapted(base.model).items()}


def test_query_and_value(base: base_model.BaseModel) -> None:
    updates = prepare(base, "query,value")
    assert len(updates) == 2 * tiny_models.LAYERS
    query, value = (
        [updates[ATTENTION.format(i, kind)] for i in range(tiny_models.LAYERS)] for kind in ("query", "value")
    )
    all_updates = query + value
    assert len({id(update.A) for update in all_updates}) == 1
    assert [len({id(update.B) for update in kind}) for kind in (query, value)] == [1, 1]
    assert query[0].B is not value[0].B
    assert [a.e is b.e for a, b in zip(query, value, strict=True)] == [True] * tiny_models.LAYERS
    assert len({id(update.e) for update in all_updates}) == tiny_models.LAYERS
    assert len({id(update.u) for update in all_updates}) == 2 * tiny_models.LAYERS
    assert all(p.requires_grad for update in all_updates for p in update.parameters())


def test_each_input_width_has_its_own_A(base: base_model.BaseModel) -> None:
    updates = prepare(base, "all-linear")
    shapes = {id(update.A): update.A.shape for update in updates.values()}
    assert sorted(shapes.values()) == [(3, tiny_models.HIDDEN), (3, 2 * tiny_models.HIDDEN)]
    assert len({id(update.B) for update in updates.values()}) == 6  # one for each kind of layer
    assert len({id(update.e) for update in updates.values()}) == 2 * tiny_models.LAYERS
    wide = [update for name, update in updates.items() if name.endswith(".output.dense") and "attention" not in name]
    assert all(update.A.shape[1] == 2 * tiny_models.HIDDEN for update in wide)


def test_the_update_is_its_formula_and_starts_as_loras(base: base_model.BaseModel) -> None:
    updates = prepare(base, "all-linear").values()
    for update in updates:
        assert update.e is not None and update.u is not None and update.scale == 2
        assert (update.e == 1).all() and (update.u == 1).all() and not update.B.any()
        assert update.A.abs().max() <= update.A.shape[1] ** -0.5  # LoRA's Kaiming-uniform, a = √5
    for update in updates:
        assert update.e is not None and update.u is not None
        for factor in (update.B, update.e, update.u):
            factor.data.normal_()
        expected = 2 * torch.diag(update.u) @ update.B @ torch.diag(update.e) @ update.A
        torch.testing.assert_close(update.delta_weight(), expected)


@pytest.mark.parametrize("targets", ["query,value", "all-linear", ONE_QUERY, "layer.1.attention.self.query"])
def test_counted_parameters_equal_the_closed_formula(targets: str, base: base_model.BaseModel) -> None:
    """A B of a single layer absorbs its e and u, unless another layer needs that e."""
    prepare(base, targets)
    config = configure("tied-lora", {"rank": 3, "targets": targets}).config
    with torch.device("meta"):
        meta_model = type(base.model)(base.model.config)
    counted = adapters.adapter_params(base.model, base.head)
    assert find("tied-lora").adapter_params(config, meta_model) == (counted, counted)
    h, layers = tiny_models.HIDDEN, tiny_models.LAYERS
    by_hand = {
        "query,value": 3 * h + 2 * 3 * h + layers * 3 + 2 * layers * h,
        ONE_QUERY: 3 * h + 2 * 3 * h + layers * 3 + layers * h,
        "layer.1.attention.self.query": 3 * h + 3 * h,
    }
    assert counted == by_hand.get(targets, counted)


def test_a_shared_factor_gets_the_gradients_of_all_layers(base: base_model.BaseModel) -> None:
    """The gradient of the shared A is the sum of the gradients of each layer with a separate A."""
    updates = prepare(base, "query,value")
    for update in updates.values():
        update.B.data.normal_()
    model, batch = base.model.eval(), {"input_ids": torch.arange(4, 18).view(2, 7)}
    model(**batch).logits.square().sum().backward()
    shared = next(iter(updates.values())).A.grad
    assert shared is not None
    summed = torch.zeros_like(shared)
    for update in updates.values():
        untied, tied = nn.Parameter(update.A.detach().clone()), update.A
        update.A = untied
        model.zero_grad()
        model(**batch).logits.square().sum().backward()
        assert untied.grad is not None and untied.grad.any()
        summed += untied.grad
        update.A = tied
    torch.testing.assert_close(summed, shared, rtol=1e-4, atol=1e-6)
