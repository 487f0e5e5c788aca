"""Slices of adapters, compared with torch's SVD of ΔW."""

from pathlib import Path

import pytest
import torch
from torch import nn

from autorank.modeling import adapter_file, adapters, base_model, spectrum, target_modules
from autorank.modeling.layers.dora import squared_row_norms
from autorank.modeling.layers.lora_layer import LowRankUpdate
from tests import tiny_models

H = tiny_models.HIDDEN


@pytest.fixture
def bert(tmp_path: Path) -> base_model.BaseModel:
    base = base_model.load(tiny_models.model("bert", tmp_path / "bert"), outputs=2)
    base.model.eval()
    return base


def random_update(rank: int, seed: int = 0, **factors: object) -> LowRankUpdate:
    generator = torch.Generator().manual_seed(seed)
    A, B = torch.randn(rank, H, generator=generator), torch.randn(H, rank, generator=generator)
    return LowRankUpdate(nn.Parameter(A), nn.Parameter(B), 0.5, **factors)  # type: ignore[arg-type]


def queries(model: nn.Module) -> list[str]:
    return list(target_modules.find(model, "query"))


def logits(model: nn.Module) -> torch.Tensor:
    return model(input_ids=torch.arange(1, 13).view(2, 6)).logits.detach()


def test_the_factorised_adapter_is_the_same_function(bert: base_model.BaseModel) -> None:
    gate = nn.Parameter(torch.tensor([1.0, -2.0, 0.5]))
    active = torch.tensor([True, False, True])
    first, second, third = queries(bert.model)
    adapters.attach(bert.model, first, random_update(3, e=gate, u=nn.Parameter(torch.linspace(0.5, 1.5, H))))
    adapters.attach(bert.model, second, random_update(3, 1, active=active))
    start = nn.Parameter(torch.randn(2, H)), nn.Parameter(torch.randn(H, 2))
    adapters.attach(bert.model, third, random_update(2, 2, start=start))
    before = logits(bert.model)
    with spectrum.factorized(bert.model) as factorized:
        assert [len(values) for values in factorized.values] == [3, 2, 4]  # the start doubles the rank
        torch.testing.assert_close(logits(bert.model), before, atol=1e-5, rtol=0)
    torch.testing.assert_close(logits(bert.model), before, atol=0, rtol=0)


def test_a_cut_is_the_best_approximation_of_that_rank(bert: base_model.BaseModel) -> None:
    name = queries(bert.model)[0]
    adapters.attach(bert.model, name, random_update(4))
    layer = adapters.adapted(bert.model)[name]
    U, S, Vt = torch.linalg.svd(layer.delta_weight())
    with spectrum.factorized(bert.model) as factorized:
        torch.testing.assert_close(factorized.values[0].float(), S[:4], atol=1e-4, rtol=1e-4)
        factorized.cut(factorized.keep(2))
        expected = U[:, :2] * S[:2] @ Vt[:2]
        torch.testing.assert_close(layer.delta_weight(), expected, atol=1e-4, rtol=1e-4)
        assert adapters.adapter_params(bert.model, bert.head) == 2 * 2 * H == factorized.params[2]


def test_components_of_all_layers_are_pooled_by_energy(bert: base_model.BaseModel) -> None:
    names = queries(bert.model)
    for seed, name in enumerate(names):
        adapters.attach(bert.model, name, random_update(2 + seed, seed))
    expected = sorted(
        ((float(value), name) for name, layer in adapters.adapted(bert.model).items()
         for value in torch.linalg.svdvals(layer.delta_weight().detach()) if value > 1e-3),
        reverse=True,
    )[:4]  # fmt: skip
    with spectrum.factorized(bert.model) as factorized:
        masks = factorized.keep(4)
    assert {name: mask.bit_count() for name, mask in masks.items()} == {
        name: sum(owner == name for _, owner in expected) for name in names
    }


def test_a_shared_update_is_cut_once_and_counts_for_each_of_its_layers(bert: base_model.BaseModel) -> None:
    first, second, third = queries(bert.model)
    shared, unshared = random_update(1), random_update(1)
    with torch.no_grad():
        unshared.B *= 1.2  # more energy than the shared update has in one layer, less than in two
    adapters.attach(bert.model, first, unshared)
    adapters.attach(bert.model, second, shared)
    adapters.attach(bert.model, third, shared)
    with spectrum.factorized(bert.model) as factorized:
        masks = factorized.keep(1)
        factorized.cut(masks)
        assert masks == {first: 0, second: 1, third: 1}
        assert adapters.adapter_params(bert.model, bert.head) == 2 * H


def test_dora_keeps_its_magnitude_and_one_component_a_layer(bert: base_model.BaseModel) -> None:
    names = queries(bert.model)
    for seed, name in enumerate(names):
        base = bert.model.get_submodule(name)
        m = nn.Parameter(squared_row_norms(base).sqrt() * 1.1)
        adapters.attach(bert.model, name, random_update(2, seed, m=m))
    before = logits(bert.model)
    with spectrum.factorized(bert.model) as factorized:
        torch.testing.assert_close(logits(bert.model), before, atol=1e-5, rtol=0)
        assert set(factorized.keep(len(names)).values()) == {1}


def test_a_slice_on_disk_computes_what_was_scored(bert: base_model.BaseModel, tmp_path: Path) -> None:
    for seed, name in enumerate(target_modules.find(bert.model, "value")):
        adapters.attach(bert.model, name, random_update(3, seed))
    uncut = logits(bert.model)
    with spectrum.factorized(bert.model) as factorized:
        masks = factorized.keep(5)
        factorized.cut(masks)
        assert (logits(bert.model) - uncut).abs().max() > 1e-4
        scored, params = logits(bert.model), adapters.adapter_params(bert.model, bert.head)
    spectrum.cut(bert.model, masks)
    assert adapters.adapter_params(bert.model, bert.head) == params
    assert adapters.ranks(bert.model) == {name: mask.bit_count() for name, mask in masks.items()}
    torch.testing.assert_close(logits(bert.model), scored, atol=1e-5, rtol=0)
    origin = adapter_file.Origin(str(tmp_path / "bert"), 2, (), 0)
    adapter_file.save(tmp_path / "slice.safetensors", bert, origin)
    restored, _ = adapter_file.load(tmp_path / "slice.safetensors")
    torch.testing.assert_close(logits(restored.model), scored, atol=1e-5, rtol=0)


def test_shared_or_frozen_factors_are_not_sliceable(bert: base_model.BaseModel) -> None:
    first, second, _ = queries(bert.model)
    assert not spectrum.sliceable(bert.model)
    A, B = nn.Parameter(torch.randn(2, H)), nn.Parameter(torch.randn(H, 2))
    adapters.attach(bert.model, first, LowRankUpdate(A, B, 1.0))
    assert spectrum.sliceable(bert.model)
    adapters.attach(bert.model, second, LowRankUpdate(A, B, 1.0))  # Tied-LoRA
    assert not spectrum.sliceable(bert.model)


def test_an_untrained_update_has_no_components(bert: base_model.BaseModel) -> None:
    adapters.attach(bert.model, queries(bert.model)[0], LowRankUpdate.lora(H, H, 4, 16, torch.Generator()))
    with spectrum.factorized(bert.model) as factorized:
        assert factorized.params == [0]
        logits(bert.model)
