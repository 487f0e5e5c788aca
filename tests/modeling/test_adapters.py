"""Counting, sharing and layouts."""

from pathlib import Path

import pytest
import torch
from torch import nn

from autorank.modeling import adapter_file, adapters, base, targets
from autorank.modeling.low_rank import LowRankUpdate
from tests import tiny

H = tiny.HIDDEN


@pytest.fixture
def bert(tmp_path: Path) -> base.BaseModel:
    return base.load(tiny.model("bert", tmp_path / "bert"), outputs=2)


def lora(rank: int = 2) -> LowRankUpdate:
    return LowRankUpdate.lora(H, H, rank, 16, torch.Generator())


def queries(model: nn.Module) -> list[str]:
    return list(targets.find(model, "query"))


def test_shared_updates_count_once(bert: base.BaseModel) -> None:
    first, second, third = queries(bert.model)
    shared = lora()
    adapters.attach(bert.model, first, lora())
    adapters.attach(bert.model, second, shared)
    adapters.attach(bert.model, third, shared)
    assert adapters.adapter_params(bert.model, bert.head) == 2 * 2 * (H + H)
    assert adapters.nonzero_params(bert.model, bert.head) == 2 * 2 * H  # B is zero at the start
    assert adapters.ranks(bert.model) == dict.fromkeys([first, second, third], 2)


def test_e_folds_into_an_own_trained_b_but_not_into_a_shared_or_frozen_one(bert: base.BaseModel) -> None:
    first, second, third = queries(bert.model)
    A, B = nn.Parameter(torch.randn(4, H)), nn.Parameter(torch.randn(H, 4))
    own = LowRankUpdate(nn.Parameter(A.data), nn.Parameter(B.data), 1.0, e=nn.Parameter(torch.ones(4)))
    adapters.attach(bert.model, first, own)
    assert adapters.adapter_params(bert.model, bert.head) == 4 * 2 * H
    for name in (second, third):  # Tied-LoRA's structure
        vectors = nn.Parameter(torch.ones(4)), nn.Parameter(torch.ones(H))
        adapters.attach(bert.model, name, LowRankUpdate(A, B, 1.0, *vectors))
    assert adapters.adapter_params(bert.model, bert.head) == 4 * 2 * H + 4 * 2 * H + 2 * (4 + H)
    A.requires_grad_(False), B.requires_grad_(False)  # VeRA's
    assert adapters.adapter_params(bert.model, bert.head) == 4 * 2 * H + 2 * (4 + H)


def test_what_else_trains_counts_too(bert: base.BaseModel) -> None:
    bert.unfreeze(["bert.encoder.layer.0.output.dense.bias"])  # BitFit's kind of method
    assert adapters.adapter_params(bert.model, bert.head) == H


def test_a_layout_rebuilds_structure_and_sharing(bert: base.BaseModel, tmp_path: Path) -> None:
    first, second, third = queries(bert.model)
    shared = lora(3)
    adapters.attach(bert.model, first, lora(), dropout=0.1)
    adapters.attach(bert.model, second, shared)
    adapters.attach(bert.model, third, shared)
    for parameter in adapters.tensors(bert.model).values():
        parameter.data.normal_()
    described, values = adapters.layout(bert.model), adapters.tensors(bert.model)
    other = base.load(str(tmp_path / "bert"), outputs=2)
    adapters.rebuild(other.model, described)
    adapters.load_tensors(other.model, values)
    layers = adapters.adapted(other.model)
    assert layers[second].update is layers[third].update is not layers[first].update
    assert adapters.layout(other.model) == described
    ids = torch.randint(4, 40, (2, 9))
    bert.model.eval(), other.model.eval()
    assert torch.equal(bert.model(input_ids=ids).logits, other.model(input_ids=ids).logits)


def test_counted_parameters_are_the_tensors_on_disk(bert: base.BaseModel, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    shared = lora(3)
    for name in queries(bert.model):
        adapters.attach(bert.model, name, shared)
    for name in targets.find(bert.model, "value"):
        adapters.attach(bert.model, name, lora())
    file = tmp_path / "adapter.safetensors"
    adapter_file.save(file, bert, adapter_file.Origin(str(tmp_path / "bert"), 2, ("no", "yes"), 0))
    stored = {name: values.numel() for name, values in load_file(file).items()}
    assert sum(n for name, n in stored.items() if ".update." in name) == adapters.adapter_params(bert.model, bert.head)
    assert sum(n for name, n in stored.items() if name in bert.head) == bert.head_params
    assert set(stored) == {name for name in stored if ".update." in name} | set(bert.head)


def test_detached_model_is_the_one_loaded(bert: base.BaseModel) -> None:
    before = {name: values.clone() for name, values in bert.model.state_dict().items()}
    for name in targets.find(bert.model, "all-linear"):
        layer = bert.model.get_submodule(name)
        adapters.attach(bert.model, name, LowRankUpdate.lora(*targets.features(layer), 2, 4, torch.Generator()))
    adapters.detach_all(bert.model)
    after = bert.model.state_dict()
    assert list(after) == list(before) and all(torch.equal(after[name], before[name]) for name in before)
