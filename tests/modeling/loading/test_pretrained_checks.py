"""Directories that are not a plain model: adapters, leftovers, quantized weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as t

from autorank.errors import AutorankError
from autorank.export.merge import merge
from autorank.modeling import base_model
from autorank.modeling.loading import pretrained_checks, quantization
from autorank.spec import TaskSpec
from autorank.tasks import tokenization
from tests import families, finished_search, tiny_models

ADAPTER = {"peft_type": "LORA", "base_model_name_or_path": "some/base", "r": 8, "target_modules": ["q_proj"]}


def model_with_settings(folder: Path, **settings: Any) -> str:
    """A tiny BERT with further settings in its config.json."""
    model = tiny_models.model("bert", folder)
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | settings))
    return model


def load_everything(model: str) -> None:
    data = TaskSpec(name="data", data=Path(model) / "pairs.jsonl", text=("left", "right"), label="label")
    tiny_models.pairs_file(Path(model) / "pairs.jsonl", 20)
    tokenization.load(data, model)


def test_an_adapter_is_not_a_model(tmp_path: Path) -> None:
    tiny_models.tokenizer(tmp_path)
    (tmp_path / "adapter_config.json").write_text(json.dumps(ADAPTER))
    for load in (base_model.load, base_model.meta_model):
        with pytest.raises(AutorankError, match=r"is a PEFT adapter of 'some/base'.*--model some/base\), or merge"):
            load(str(tmp_path), 2)
    with pytest.raises(AutorankError, match="is a PEFT adapter"):
        load_everything(str(tmp_path))


def test_an_adapter_next_to_a_model(tmp_path: Path) -> None:
    model = tiny_models.model("bert", tmp_path)
    (tmp_path / "adapter_config.json").write_text(json.dumps(ADAPTER))
    with pytest.raises(AutorankError, match=r"next to its config\.json.*remove adapter_config\.json"):
        base_model.load(model, 2)
    (tmp_path / "adapter_config.json").unlink()
    (tmp_path / "adapter_model.safetensors").write_bytes(b"")  # without a configuration it is not read
    base_model.load(model, 2)


@pytest.mark.parametrize("method", ["gptq", "awq", "aqlm", "compressed-tensors", "quanto"])
def test_quantized_weights_are_refused_before_anything_loads(method: str, tmp_path: Path) -> None:
    model = model_with_settings(tmp_path, quantization_config={"quant_method": method, "bits": 4})
    with pytest.raises(AutorankError, match=rf"quantized \({method}\).*Use the original model, with --quantize 4bit"):
        load_everything(model)
    with pytest.raises(AutorankError, match=method):
        base_model.load(model, 2)


@pytest.mark.parametrize("settings", [{"load_in_4bit": True}, {"quant_method": "bitsandbytes", "load_in_8bit": True}])
def test_weights_of_bitsandbytes_need_it(
    settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = model_with_settings(tmp_path, quantization_config=settings)
    monkeypatch.setattr(quantization, "problem", lambda: "the package x")
    with pytest.raises(AutorankError, match=r"\(bitsandbytes\), which needs the package x. Use the original model"):
        base_model.load(model, 2)
    monkeypatch.setattr(quantization, "problem", lambda: None)
    config = t.AutoConfig.from_pretrained(model)
    assert pretrained_checks.quantized_loading(model, config, "cuda:0") == {"device_map": {"": "cuda:0"}}
    monkeypatch.setattr(quantization, "check", lambda: None)
    with pytest.raises(AutorankError, match=r"already quantized. Omit --quantize"):
        base_model.load(model, 2, quantize="4bit")


def test_fp8_weights_are_converted(tmp_path: Path) -> None:
    """Blocks of 16 x 16 with a scale each, as DeepSeek and Qwen publish them."""
    from safetensors.torch import load_file, save_file

    torch.manual_seed(0)
    config = families.config("llama")
    t.LlamaForCausalLM(config).save_pretrained(tmp_path)
    tiny_models.tokenizer(tmp_path)
    file = tmp_path / "model.safetensors"
    expected, stored = {}, {}
    for name, values in load_file(file).items():
        stored[name] = expected[name] = values
        if "_proj.weight" in name:
            blocks = [-(-size // 16) for size in values.shape]
            stored[f"{name}_scale_inv"] = torch.rand(*blocks) + 0.5
            stored[name] = values.to(torch.float8_e4m3fn)
            scales = stored[f"{name}_scale_inv"].repeat_interleave(16, 0).repeat_interleave(16, 1)
            expected[name] = stored[name].float() * scales[: values.shape[0], : values.shape[1]]
    save_file(stored, file, {"format": "pt"})
    tiny_models.update_config(tmp_path, quantization_config={"quant_method": "fp8", "weight_block_size": [16, 16]})
    loaded = base_model.load(str(tmp_path), 2)
    for name in ("model.layers.0.self_attn.q_proj.weight", "model.layers.1.mlp.down_proj.weight"):
        torch.testing.assert_close(loaded.model.get_parameter(name).float(), expected[name], rtol=1e-2, atol=1e-3)


def test_merging_into_quantized_weights_is_refused(tmp_path: Path) -> None:
    trained = finished_search.adapted_model(tiny_models.model("bert", tmp_path), seed=1)
    layer = trained.model.bert.encoder.layer[0].attention.self.query.base
    layer.weight = torch.nn.Parameter(torch.zeros(4, 1, dtype=torch.uint8), requires_grad=False)
    with pytest.raises(AutorankError, match=r"query is quantized.*Omit --merge"):
        merge(trained.model)
