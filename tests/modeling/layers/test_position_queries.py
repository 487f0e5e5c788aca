"""DeBERTa's position queries without the update of the query projection."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from autorank.errors import AutorankError
from autorank.export.merge import check_mergeable
from autorank.export.peft_export import check_low_rank
from autorank.modeling import adapter_file, adapters, base_model
from autorank.modeling.layers.lora_layer import LowRankUpdate
from tests.trainables import reference_training

INPUTS = {"input_ids": torch.arange(5, 25).view(2, 10), "attention_mask": torch.ones(2, 10, dtype=torch.long)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return reference_training.write(tmp_path_factory.mktemp("deberta"), "deberta-v2") / "model"


def load_base(folder: Path) -> base_model.BaseModel:
    base = base_model.load(str(folder), outputs=2)
    base.reset(0)
    base.model.eval()
    return base


def adapt(model: nn.Module, child: str, position_queries: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    for name, layer in list(model.named_modules()):
        if name.endswith(child) and isinstance(layer, nn.Linear):
            A, B = (nn.Parameter(torch.randn(*shape, generator=generator)) for shape in ((2, 16), (16, 2)))
            adapters.attach(model, name, LowRankUpdate(A, B, 1.0), position_queries=position_queries)


def logits(model: Any) -> Tensor:
    with torch.no_grad():
        out: Tensor = model(**INPUTS).logits
    return out


def expected_logits(folder: Path, adapted: nn.Module) -> Tensor:
    """Logits with W0 + ΔW applied to content queries only: content has a batch size of two, positions of one."""
    model = load_base(folder).model

    def add(delta: Tensor, layer: nn.Module, inputs: tuple[Tensor], y: Tensor) -> Tensor:
        return y + inputs[0] @ delta.T if len(inputs[0]) == 2 else y

    for name, layer in adapters.adapted(adapted).items():
        model.get_submodule(name).register_forward_hook(partial(add, layer.delta_weight()))
    return logits(model)


def test_only_the_queries_of_the_content_are_adapted(folder: Path) -> None:
    base, full = load_base(folder), load_base(folder)
    base_logits = logits(base.model)
    adapt(base.model, "query_proj", position_queries=False)
    adapt(full.model, "query_proj", position_queries=True)
    torch.testing.assert_close(logits(base.model), expected_logits(folder, base.model))
    assert (logits(base.model) - logits(full.model)).abs().max() > 1e-3
    adapters.detach_all(base.model)
    assert torch.equal(logits(base.model), base_logits)
    adapt(base.model, "query_proj", position_queries=True)
    assert torch.equal(logits(base.model), logits(full.model))


@pytest.mark.parametrize("child", ["key_proj", "value_proj"])
def test_other_projections_are_adapted_completely(child: str, folder: Path) -> None:
    content_only, full = load_base(folder), load_base(folder)
    adapt(content_only.model, child, position_queries=False)
    adapt(full.model, child, position_queries=True)
    assert torch.equal(logits(content_only.model), logits(full.model))


def test_an_adapter_file_keeps_the_setting_but_cannot_be_merged_or_exported_to_peft(
    folder: Path, tmp_path: Path
) -> None:
    base = load_base(folder)
    adapt(base.model, "query_proj", position_queries=False)
    file = tmp_path / "adapter.safetensors"
    adapter_file.save(file, base, adapter_file.Origin(str(folder), 2, ("no", "yes"), 0))
    restored, _ = adapter_file.load(file)
    assert torch.equal(logits(restored.model), logits(base.model))
    assert not adapter_file.low_rank(file)
    with pytest.raises(AutorankError, match="position queries"):
        check_low_rank(file)
    with pytest.raises(AutorankError, match="position queries"):
        check_mergeable(file)
