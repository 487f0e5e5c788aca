"""Adapters in autorank's own format, on models that a user has loaded."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from transformers import AutoModelForSequenceClassification, PreTrainedModel

import autorank
from autorank.errors import AutorankError
from autorank.export.merge import check_mergeable, write_merged
from autorank.export.peft_export import check_low_rank
from autorank.modeling import adapter_file, adapters, base_model, rank_map
from autorank.modeling.layers.bottleneck import Bottleneck, insertion_points
from autorank.modeling.layers.lora_layer import LowRankUpdate
from autorank.modeling.target_modules import features, find
from tests import tiny_models

FORMS = ["low-rank", "bottlenecks", "biases", "everything"]
IDS = torch.randint(4, 40, (3, 11), generator=torch.Generator().manual_seed(5))


def logits(model: nn.Module) -> Tensor:
    with torch.no_grad():
        result: Tensor = model(input_ids=IDS).logits
    return result


def export_adapter(form: str, folder: Path, architecture: str = "bert") -> tuple[Path, Tensor]:
    """A directory as `autorank export` writes it, and the logits of the exported model."""
    base = base_model.load(tiny_models.model(architecture, folder / "model"), outputs=2)
    base.model.config.pad_token_id = 0
    generator = torch.Generator().manual_seed(0)
    if form == "low-rank":
        for name, layer in find(base.model, "query,value").items():
            adapters.attach(
                base.model, name, LowRankUpdate.lora(*features(layer), rank=2, alpha=8, generator=generator)
            )
    elif form == "bottlenecks":
        for point in insertion_points(base.model):
            bottleneck = Bottleneck(point.width, 3, "relu")
            bottleneck.initialize(0.2, generator)
            adapters.attach_bottleneck(base.model, point.name, bottleneck, twice=point.post_norm)
    else:
        names = [name for name, _ in base.model.named_parameters()]
        base.unfreeze(name for name in names if form == "everything" or name.endswith("bias"))
    for parameter in base.model.parameters():
        if parameter.requires_grad:
            parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
    file = folder / "file.safetensors"
    adapter_file.save(file, base, adapter_file.Origin(str(folder / "model"), 2, (), 0))
    (folder / "adapter").mkdir()
    shutil.copyfile(file, folder / "adapter" / adapter_file.FILE)
    base.model.eval()
    return folder / "adapter", logits(base.model)


def load_fresh(folder: Path, outputs: int = 2) -> PreTrainedModel:
    model: PreTrainedModel = AutoModelForSequenceClassification.from_pretrained(folder / "model", num_labels=outputs)
    return model.train()


@pytest.mark.parametrize("form", FORMS)
def test_a_model_loaded_by_the_user_gives_the_same_logits(form: str, tmp_path: Path) -> None:
    folder, expected = export_adapter(form, tmp_path)
    model = load_fresh(tmp_path)
    loaded = autorank.load_adapter(model, folder)
    assert loaded is model and not model.training
    assert torch.equal(logits(model), expected)
    assert torch.equal(
        logits(autorank.load_adapter(load_fresh(tmp_path), str(folder / "adapter.safetensors"))), expected
    )


def test_a_decoder_learns_its_padding_token(tmp_path: Path) -> None:
    folder, expected = export_adapter("bottlenecks", tmp_path, "llama")
    model = load_fresh(tmp_path)
    model.config.pad_token_id = None
    assert torch.equal(logits(autorank.load_adapter(model, folder)), expected)


def test_another_base_model_is_refused_and_not_changed(tmp_path: Path) -> None:
    folder, _ = export_adapter("low-rank", tmp_path)
    (tmp_path / "other").mkdir()
    tiny_models.model("gpt2", tmp_path / "other" / "model")
    model = load_fresh(tmp_path / "other")
    with pytest.raises(
        AutorankError, match=r"does not fit.*layer bert\.encoder\.layer\.0.*missing.*and 3 more.*num_labels=2"
    ):
        autorank.load_adapter(model, folder)
    assert not adapters.added_parameters(model)


@pytest.mark.parametrize("form", FORMS)
def test_a_head_of_another_width_is_refused(form: str, tmp_path: Path) -> None:
    folder, _ = export_adapter(form, tmp_path)
    model = load_fresh(tmp_path, outputs=3)
    with pytest.raises(AutorankError, match=r"classifier\.\w+ is \(3,.*expected \(2,.*num_labels=2"):
        autorank.load_adapter(model, folder)
    assert not adapters.added_parameters(model)


@pytest.mark.parametrize(
    ("form", "message"),
    [("low-rank", r"is \(24, 24\).*expected \(16, 16\)"), ("bottlenecks", "24 output features, expected 16")],
)
def test_layers_of_other_widths_are_refused(form: str, message: str, tmp_path: Path) -> None:
    from transformers import BertConfig, BertForSequenceClassification

    folder, _ = export_adapter(form, tmp_path)
    wide = BertForSequenceClassification(
        BertConfig(vocab_size=64, hidden_size=24, num_hidden_layers=3, num_attention_heads=2, intermediate_size=32)
    )
    with pytest.raises(AutorankError, match=message):
        autorank.load_adapter(wide, folder)


def test_a_second_adapter_is_refused(tmp_path: Path) -> None:
    folder, _ = export_adapter("bottlenecks", tmp_path)
    model = autorank.load_adapter(load_fresh(tmp_path), folder)
    with pytest.raises(AutorankError, match="already has an adapter"):
        autorank.load_adapter(model, folder)


def test_files_that_are_not_adapters_are_refused(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    tiny_models.model("bert", tmp_path / "model")
    model = load_fresh(tmp_path)
    with pytest.raises(AutorankError, match=r"Cannot read an adapter from .*model/adapter\.safetensors"):
        autorank.load_adapter(model, tmp_path / "model")
    save_file({"A": torch.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(AutorankError, match="not an adapter written by autorank"):
        autorank.load_adapter(model, tmp_path / "other.safetensors")


@pytest.mark.parametrize("form", FORMS)
def test_adapters_that_peft_and_merging_support(form: str, tmp_path: Path) -> None:
    folder, expected = export_adapter(form, tmp_path)
    file = folder / "adapter.safetensors"
    assert adapter_file.low_rank(file) == (form == "low-rank")
    if form != "low-rank":
        with pytest.raises(AutorankError, match=r"cannot be exported as a PEFT LoRA adapter.*--merge"):
            check_low_rank(file)
    if form == "bottlenecks":
        with pytest.raises(AutorankError, match=r"cannot be merged.*Omit --merge"):
            check_mergeable(file)
    else:
        check_mergeable(file)
        write_merged(file, tmp_path / "merged")
        merged = AutoModelForSequenceClassification.from_pretrained(tmp_path / "merged")
        torch.testing.assert_close(logits(merged.eval()), expected, rtol=0, atol=1e-5)


def test_layers_that_share_an_update_are_listed(tmp_path: Path) -> None:
    base = base_model.load(tiny_models.model("bert", tmp_path / "model"), outputs=2)
    layers = find(base.model, "query,value")
    generator = torch.Generator().manual_seed(0)
    updates: dict[str, LowRankUpdate] = {}  # queries after layer 0 share one update; other layers have separate ones
    for name, layer in layers.items():
        key = "query" if name.endswith("query") and ".0." not in name else name
        updates.setdefault(key, LowRankUpdate.lora(*features(layer), rank=2, alpha=8, generator=generator))
        adapters.attach(base.model, name, updates[key])
    file = tmp_path / "file.safetensors"
    adapter_file.save(file, base, adapter_file.Origin(str(tmp_path / "model"), 2, (), 0))
    blocks = ", ".join(str(i) for i in range(1, tiny_models.LAYERS))
    assert rank_map.shared(file, dict.fromkeys(layers, 2)) == [f"query of {blocks}"]
    assert rank_map.shared(tmp_path / "absent", dict.fromkeys(layers, 2)) == []
    (tmp_path / "other").write_bytes(b"no adapter")
    with pytest.raises(AutorankError, match="Cannot read an adapter from"):
        rank_map.shared(tmp_path / "other", dict.fromkeys(layers, 2))


def test_written_files_follow_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        export_adapter("biases", tmp_path)
    finally:
        os.umask(before)
    assert (tmp_path / "file.safetensors").stat().st_mode & 0o777 == 0o640
