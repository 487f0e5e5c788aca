"""Parameter counts, shared updates and layouts of adapters."""

from pathlib import Path

import pytest
import torch
from torch import nn

from autorank.modeling import adapter_file, adapters, base_model, target_modules
from autorank.modeling.layers.lora_layer import LowRankUpdate
from tests import tiny_models

H = tiny_models.HIDDEN


@pytest.fixture
def bert(tmp_path: Path) -> base_model.BaseModel:
    return base_model.load(tiny_models.model("bert", tmp_path / "bert"), outputs=2)


def lora(rank: int = 2) -> LowRankUpdate:
    return LowRankUpdate.lora(H, H, rank, 16, torch.Generator())


def queries(model: nn.Module) -> list[str]:
    return list(target_modules.find(model, "query"))


def test_shared_updates_count_once(bert: base_model.BaseModel) -> None:
    first, second, third = queries(bert.model)
    shared = lora()
    adapters.attach(bert.model, first, lora())
    adapters.attach(bert.model, second, shared)
    adapters.attach(bert.model, third, shared)
    assert adapters.adapter_params(bert.model, bert.head) == 2 * 2 * (H + H)
    assert adapters.nonzero_params(bert.model, bert.head) == 2 * 2 * H  # B is zero at the start
    assert adapters.ranks(bert.model) == dict.fromkeys([first, second, third], 2)


def test_e_folds_into_a_separate_trained_b_but_not_into_a_shared_or_frozen_one(bert: base_model.BaseModel) -> None:
    first, second, third = queries(bert.model)
    A, B = nn.Parameter(torch.randn(4, H)), nn.Parameter(torch.randn(H, 4))
    update = LowRankUpdate(nn.Parameter(A.data), nn.Parameter(B.data), 1.0, e=nn.Parameter(torch.ones(4)))
    adapters.attach(bert.model, first, update)
    assert adapters.adapter_params(bert.model, bert.head) == 4 * 2 * H
    for name in (second, third):  # Tied-LoRA's structure
        vectors = nn.Parameter(torch.ones(4)), nn.Parameter(torch.ones(H))
        adapters.attach(bert.model, name, LowRankUpdate(A, B, 1.0, *vectors))
    assert adapters.adapter_params(bert.model, bert.head) == 4 * 2 * H + 4 * 2 * H + 2 * (4 + H)
    A.requires_grad_(False), B.requires_grad_(False)  # VeRA's
    assert adapters.adapter_params(bert.model, bert.head) == 4 * 2 * H + 2 * (4 + H)


def test_other_trained_parameters_are_counted(bert: base_model.BaseModel) -> None:
    bert.unfreeze(["bert.encoder.layer.0.output.dense.bias"])  # BitFit's kind of method
    assert adapters.adapter_params(bert.model, bert.head) == H


def test_a_layout_rebuilds_structure_and_sharing(bert: base_model.BaseModel, tmp_path: Path) -> None:
    first, second, third = queries(bert.model)
    shared = lora(3)
    adapters.attach(bert.model, first, lora(), dropout=0.1)
    adapters.attach(bert.model, second, shared)
    adapters.attach(bert.model, third, shared)
    for parameter in adapters.tensors(bert.model).values():
        parameter.data.normal_()
    layout, values = adapters.layout(bert.model), adapters.tensors(bert.model)
    restored = base_model.load(str(tmp_path / "bert"), outputs=2)
    adapters.rebuild(restored.model, layout)
    adapters.load_tensors(restored.model, values)
    layers = adapters.adapted(restored.model)
    assert layers[second].update is layers[third].update is not layers[first].update
    assert adapters.layout(restored.model) == layout
    ids = torch.randint(4, 40, (2, 9))
    bert.model.eval(), restored.model.eval()
    assert torch.equal(bert.model(input_ids=ids).logits, restored.model(input_ids=ids).logits)


def test_a_layout_from_before_a_factor_was_introduced(bert: base_model.BaseModel, tmp_path: Path) -> None:
    name = queries(bert.model)[0]
    adapters.attach(bert.model, name, lora())
    layout = adapters.layout(bert.model)
    old = layout | {
        "updates": [
            {key: value for key, value in update.items() if key not in ("m", "A0", "B0")}
            for update in layout["updates"]
        ]
    }
    restored = base_model.load(str(tmp_path / "bert"), outputs=2)
    adapters.rebuild(restored.model, old)
    assert adapters.layout(restored.model) == layout


def test_norms_and_starts_in_layouts_and_counts(bert: base_model.BaseModel, tmp_path: Path) -> None:
    """The norms are stored; a start is a function of the base, kept in files but not counted."""
    first, second, _ = queries(bert.model)
    normed, factors = lora(), lora()
    normed.m = nn.Parameter(torch.rand(H) + 0.5)
    frozen = [nn.Parameter(torch.randn(*factor.shape), requires_grad=False) for factor in (factors.A, factors.B)]
    adapters.attach(bert.model, first, normed)
    adapters.attach(bert.model, second, LowRankUpdate(factors.A, factors.B, 0.5, start=(frozen[0], frozen[1])))
    assert adapters.adapter_params(bert.model, bert.head) == 2 * 2 * 2 * H + H
    assert adapters.nonzero_params(bert.model, bert.head) == 2 * 2 * H + H  # B is zero at the start
    assert adapters.ranks(bert.model) == {first: 2, second: 2}
    layout, values = adapters.layout(bert.model, active_only=True), adapters.tensors(bert.model, active_only=True)
    restored = base_model.load(str(tmp_path / "bert"), outputs=2)
    adapters.rebuild(restored.model, layout)
    adapters.load_tensors(restored.model, values)
    assert adapters.layout(restored.model) == layout
    trained = [factor["trained"] for factor in layout["factors"]]
    assert trained == [True, True, True, True, True, False, False]
    ids = torch.randint(4, 40, (2, 9))
    bert.model.eval(), restored.model.eval()
    assert torch.equal(bert.model(input_ids=ids).logits, restored.model(input_ids=ids).logits)


def test_counted_parameters_are_the_tensors_on_disk(bert: base_model.BaseModel, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    shared = lora(3)
    for name in queries(bert.model):
        adapters.attach(bert.model, name, shared)
    for name in target_modules.find(bert.model, "value"):
        adapters.attach(bert.model, name, lora())
    file = tmp_path / "adapter.safetensors"
    adapter_file.save(file, bert, adapter_file.Origin(str(tmp_path / "bert"), 2, ("no", "yes"), 0))
    stored = {name: values.numel() for name, values in load_file(file).items()}
    assert sum(n for name, n in stored.items() if ".update." in name) == adapters.adapter_params(bert.model, bert.head)
    assert sum(n for name, n in stored.items() if name in bert.head) == bert.head_params
    assert set(stored) == {name for name in stored if ".update." in name} | set(bert.head)


def test_detached_model_is_the_one_loaded(bert: base_model.BaseModel) -> None:
    before = {name: values.clone() for name, values in bert.model.state_dict().items()}
    for name in target_modules.find(bert.model, "all-linear"):
        layer = bert.model.get_submodule(name)
        adapters.attach(bert.model, name, LowRankUpdate.lora(*target_modules.features(layer), 2, 4, torch.Generator()))
    adapters.detach_all(bert.model)
    after = bert.model.state_dict()
    assert list(after) == list(before) and all(torch.equal(after[name], before[name]) for name in before)


def triplets(components: int, active_count: int) -> LowRankUpdate:
    """Triplets of which the last `active_count` are active."""
    generator = torch.Generator().manual_seed(components)
    A, B, e = (torch.randn(*shape, generator=generator) for shape in ((components, H), (H, components), (components,)))
    active = torch.arange(components) >= components - active_count
    return LowRankUpdate(nn.Parameter(A), nn.Parameter(B), 0.5, nn.Parameter(e), active=active)


def test_inactive_components_are_not_counted(bert: base_model.BaseModel) -> None:
    names = queries(bert.model)
    for name, active_count in zip(names, (2, 1, 0), strict=True):
        adapters.attach(bert.model, name, triplets(4, active_count))
    assert adapters.ranks(bert.model) == dict(zip(names, (2, 1, 0), strict=True))
    assert adapters.adapter_params(bert.model, bert.head) == 3 * 2 * H
    update = adapters.adapted(bert.model)[names[0]].update
    update.A.data[0] = 0  # inactive
    assert adapters.nonzero_params(bert.model, bert.head) == 3 * 2 * H
    update.A.data[3, :5] = 0
    assert adapters.nonzero_params(bert.model, bert.head) == 3 * 2 * H - 5


def test_a_zero_of_e_makes_zeros_of_the_exported_b(bert: base_model.BaseModel) -> None:
    """A gate of zero makes a column of B · diag(e) zero, so its entries do not count as nonzero."""
    update = triplets(3, 3)
    adapters.attach(bert.model, queries(bert.model)[0], update)
    assert update.e is not None
    update.e.data[1] = 0
    stored = sum(int(factor.count_nonzero()) for factor in update.folded())
    assert stored == 3 * H + 2 * H
    assert adapters.nonzero_params(bert.model, bert.head) == stored


def test_only_checkpoint_layouts_contain_inactive_components(bert: base_model.BaseModel, tmp_path: Path) -> None:
    """A checkpoint has all components, an adapter file only the active ones."""
    names = queries(bert.model)
    for name, active_count in zip(names, (2, 4, 0), strict=True):
        adapters.attach(bert.model, name, triplets(4, active_count), dropout=0.1)
    adapters.adapted(bert.model)[names[1]].update.active = None
    checkpoint, exported = adapters.layout(bert.model), adapters.layout(bert.model, active_only=True)
    assert [update["active"] for update in checkpoint["updates"]] == [[False, False, True, True], None, [False] * 4]
    assert [update["active"] for update in exported["updates"]] == [None] * 3
    assert [update["scale"] for update in exported["updates"]] == [0.5] * 3
    shapes = [[[r, H], [H, r], [r]] for r in (2, 4, 0)]
    assert [factor["shape"] for factor in exported["factors"]] == [shape for update in shapes for shape in update]
    bert.model.eval()
    ids = torch.randint(4, 40, (2, 9))
    expected = bert.model(input_ids=ids).logits
    for layout, active_only in ((checkpoint, False), (exported, True)):
        values = adapters.tensors(bert.model, active_only)
        restored = base_model.load(str(tmp_path / "bert"), outputs=2)
        adapters.rebuild(restored.model, layout)
        adapters.load_tensors(restored.model, values)
        assert adapters.layout(restored.model) == layout
        assert adapters.ranks(restored.model) == adapters.ranks(bert.model)
        restored.model.eval()
        torch.testing.assert_close(restored.model(input_ids=ids).logits, expected)
        components = [layer.update.components for layer in adapters.adapted(restored.model).values()]
        assert components == ([2, 4, 0] if active_only else [4, 4, 4])


def test_the_file_contains_active_components_only(bert: base_model.BaseModel, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    name = queries(bert.model)[0]
    update = triplets(4, 1)
    adapters.attach(bert.model, name, update)
    file = tmp_path / "adapter.safetensors"
    adapter_file.save(file, bert, adapter_file.Origin(str(tmp_path / "bert"), 2, ("no", "yes"), 0))
    stored = load_file(file)
    assert update.e is not None
    for factor, values in (("A", update.A[3:]), ("B", update.B[:, 3:]), ("e", update.e[3:])):
        assert torch.equal(stored[f"{name}.update.{factor}"], values.detach())
