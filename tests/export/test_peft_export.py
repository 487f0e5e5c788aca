"""Exported adapters, loaded by PEFT and transformers."""

import json
import warnings
from pathlib import Path

import pytest
import torch
import transformers as t
from torch import nn

from autorank.errors import AutorankError
from autorank.export import peft_export
from autorank.export.export_point import plan_export
from autorank.export.merge import write_merged
from autorank.export.peft_export import write_peft
from autorank.modeling import adapter_file, adapters, base_model, target_modules
from autorank.modeling.layers.lora_layer import LowRankUpdate
from autorank.spec import TaskSpec, TrainSpec
from autorank.trials.point import Point
from tests import families, tiny_models

ORIGIN_LABELS = ("no", "yes")


def write_adapter(architecture: str, folder: Path) -> tuple[Path, torch.Tensor, torch.Tensor]:
    """Writes an adapter with mixed and zero ranks, sharing, e and u; returns the file, inputs and their logits."""
    loaded = base_model.load(tiny_models.model(architecture, folder / "model"), outputs=2)
    loaded.model.config.pad_token_id = 0
    names = list(target_modules.find(loaded.model, "all-linear"))
    shapes = {name: target_modules.features(loaded.model.get_submodule(name)) for name in names}
    generator = torch.Generator().manual_seed(0)
    for i, name in enumerate(names):
        update = LowRankUpdate.lora(*shapes[name], rank=1 + i % 3, alpha=8, generator=generator)
        update.e = nn.Parameter(torch.randn(update.rank)) if i % 2 else None
        update.u = nn.Parameter(torch.randn(shapes[name][1])) if i % 4 == 0 else None
        if i == 2:
            update.keep(torch.tensor([], dtype=torch.long))
        adapters.attach(loaded.model, name, update)
    same_shape = [name for name in names if shapes[name] == shapes[names[0]]]
    loaded.model.get_submodule(same_shape[-1]).update = loaded.model.get_submodule(same_shape[0]).update
    for parameter in loaded.model.parameters():
        if parameter.requires_grad:
            parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
    file = folder / "adapter.safetensors"
    adapter_file.save(file, loaded, adapter_file.Origin(str(folder / "model"), 2, ORIGIN_LABELS, 0))
    ids = torch.randint(4, 40, (3, 11), generator=generator)
    loaded.model.eval()
    with torch.no_grad():
        return file, ids, loaded.model(input_ids=ids).logits


@pytest.mark.parametrize("architecture", ["bert", "roberta", "deberta-v2", "llama", "gpt2"])
def test_peft_gives_the_same_logits(architecture: str, tmp_path: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModelForSequenceClassification

    file, ids, expected = write_adapter(architecture, tmp_path)
    with warnings.catch_warnings(action="error", category=FutureWarning):
        write_peft(file, tmp_path / "peft")
    with pytest.raises(AutorankError, match="contains a PEFT adapter"):
        adapter_file.load(tmp_path / "peft" / adapter_file.FILE)
    base = AutoModelForSequenceClassification.from_pretrained(tmp_path / "model", num_labels=2)
    base.config.pad_token_id = 0
    loaded = PeftModel.from_pretrained(base, tmp_path / "peft").eval()
    with torch.no_grad():
        torch.testing.assert_close(loaded(input_ids=ids).logits, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("architecture", ["bert", "llama", "gpt2"])
def test_padded_has_one_rank_and_the_same_logits(architecture: str, tmp_path: Path) -> None:
    from peft import PeftModel
    from safetensors.torch import load_file
    from transformers import AutoModelForSequenceClassification

    file, ids, expected = write_adapter(architecture, tmp_path)
    write_peft(file, tmp_path / "peft", pad=True)
    config = json.loads((tmp_path / "peft" / "adapter_config.json").read_text())
    assert config["r"] == config["lora_alpha"] == 3 and not config["rank_pattern"] and not config["alpha_pattern"]
    stored = load_file(tmp_path / "peft" / "adapter_model.safetensors")
    layers = target_modules.linear_layers(base_model.load(str(tmp_path / "model"), outputs=2).model)
    adapted_layers = {name.split(".lora_")[0].removeprefix("base_model.model.") for name in stored if ".lora_" in name}
    assert adapted_layers == set(layers)  # that of rank 0 too
    assert {len(values) for name, values in stored.items() if ".lora_A." in name} == {3}
    base = AutoModelForSequenceClassification.from_pretrained(tmp_path / "model", num_labels=2)
    base.config.pad_token_id = 0
    loaded = PeftModel.from_pretrained(base, tmp_path / "peft").eval()
    with torch.no_grad():
        torch.testing.assert_close(loaded(input_ids=ids).logits, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("architecture", ["bert", "gpt2"])
def test_merged_is_a_transformers_model_with_the_same_logits(
    architecture: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    file, ids, expected = write_adapter(architecture, tmp_path)
    capfd.readouterr()
    write_merged(file, tmp_path / "merged")
    assert "".join(capfd.readouterr()) == ""
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path / "merged").eval()
    assert loaded.config.id2label == {0: "no", 1: "yes"}
    with torch.no_grad():
        torch.testing.assert_close(loaded(input_ids=ids).logits, expected, rtol=0, atol=1e-5)
    assert AutoTokenizer.from_pretrained(tmp_path / "merged")("w1 w2")["input_ids"] == [2, 5, 6, 3]


def test_an_adapter_file_gives_the_same_logits(tmp_path: Path) -> None:
    file, ids, expected = write_adapter("bert", tmp_path)
    restored, origin = adapter_file.load(file)
    assert origin.label_names == ORIGIN_LABELS
    assert torch.equal(restored.model(input_ids=ids).logits, expected)


@pytest.mark.parametrize(("alpha", "rank"), [(1.0, 48), (16.0, 3), (1e-6, 1)])
def test_the_alpha_of_a_layer_gives_its_scale(alpha: float, rank: int) -> None:
    update = LowRankUpdate.lora(4, 4, rank=1, alpha=alpha / rank, generator=torch.Generator())
    settings, _ = peft_export._layer_ranks({"layer": update})
    assert settings["lora_alpha"] == pytest.approx(alpha / rank, rel=1e-11)


def test_an_existing_directory_is_not_changed(tmp_path: Path) -> None:
    file, _, _ = write_adapter("bert", tmp_path)
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "mine.txt").write_text("mine")
    point, train = Point(0, 1, 10, 0.5, {}, 10, {}), TrainSpec(task=TaskSpec(name="demo"), method="lora")
    with pytest.raises(AutorankError, match="already exists"):
        plan_export(file, point, train).write(tmp_path / "there")
    assert [f.name for f in (tmp_path / "there").iterdir()] == ["mine.txt"]
    assert not [f for f in tmp_path.iterdir() if f.name.startswith(".")]


def test_unreadable_adapter_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "x.safetensors").write_bytes(b"nonsense")
    with pytest.raises(AutorankError, match="Cannot read an adapter"):
        adapter_file.load(tmp_path / "x.safetensors")
    with pytest.raises(AutorankError, match="Cannot read an adapter"):
        adapter_file.load(tmp_path / "absent.safetensors")


def test_layers_that_peft_converts_to_experts_are_exported_in_our_format(tmp_path: Path) -> None:
    """PEFT converts `gate_proj` of models whose experts had that name in older versions of transformers."""
    latent = {"q_lora_rank": 8, "kv_lora_rank": 8, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "v_head_dim": 16}
    experts = {"n_routed_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16, "first_k_dense_replace": 1}
    config = t.DeepseekV2Config(**families.TOKENS, **families.SIZES, **latent, **experts, num_labels=2)
    torch.manual_seed(0)
    t.DeepseekV2ForSequenceClassification(config).save_pretrained(tmp_path / "model")
    tiny_models.tokenizer(tmp_path / "model")
    train = TrainSpec(task=TaskSpec(name="demo"), method="lora")
    point = Point(0, 1, 10, 0.5, {}, 10, {}, "lora")
    for targets, form in (("all-linear", "autorank adapter"), ("attention", "PEFT adapter")):
        loaded = base_model.load(str(tmp_path / "model"), 2)
        generator = torch.Generator().manual_seed(0)
        for name, layer in target_modules.find(loaded.model, targets).items():
            update = LowRankUpdate.lora(*target_modules.features(layer), rank=1, alpha=1, generator=generator)
            update.B.data += torch.randn(update.B.shape, generator=generator)
            adapters.attach(loaded.model, name, update)
        file = tmp_path / f"{targets}.safetensors"
        adapter_file.save(file, loaded, adapter_file.Origin(str(tmp_path / "model"), 2, ("no", "yes"), 0))
        assert plan_export(file, point, train).form == form
        plan_export(file, point, train).write(tmp_path / targets)
        assert plan_export(file, point, train, merge=True).form == "merged model"
    with pytest.raises(AutorankError, match=r"for the experts of this model.*Omit --pad"):
        plan_export(tmp_path / "all-linear.safetensors", point, train, pad=True)
