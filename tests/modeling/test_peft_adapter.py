"""Adapters written by plain PEFT are read, cut and written again, and compute the same in plain PEFT."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import transformers as t

from autorank.errors import AutorankError
from autorank.modeling import adapters, base_model, heads, peft_adapter, spectrum
from tests import tiny_models

LORA: dict[str, dict[str, Any]] = {
    "lora": {"r": 4, "lora_alpha": 8},
    "patterns": {"r": 4, "rank_pattern": {"layer.1.attention.self.query": 2}, "alpha_pattern": {"value": 3}},
    "rslora": {"r": 4, "use_rslora": True},
    "dora": {"r": 4, "use_dora": True},
    "bias": {"r": 4, "bias": "lora_only"},
}


def randomize(model: torch.nn.Module) -> None:
    torch.manual_seed(1)
    for name, parameter in model.named_parameters():
        if "lora_B" in name or "lora_E" in name or (".bias" in name and parameter.requires_grad):
            torch.nn.init.normal_(parameter, std=0.2)


def encoder(folder: Path, config: peft.PeftConfig) -> tuple[Any, str]:
    """A PEFT classifier on a tiny BERT, saved to folder/adapter."""
    name = tiny_models.model("bert", folder / "base")
    torch.manual_seed(2)
    model = peft.get_peft_model(t.AutoModelForSequenceClassification.from_pretrained(name, num_labels=3), config)
    randomize(model)
    return model, name


def save_adapter(model: Any, folder: Path) -> str:
    model.eval().save_pretrained(folder / "adapter")
    return str(folder / "adapter")


IDS = torch.arange(4, 28).view(2, 12)


def check(model: Any, folder: Path, base: base_model.BaseModel, load: Any, **inputs: torch.Tensor) -> None:
    """The adapted model equals plain PEFT, before and after it is cut."""
    with torch.no_grad():
        expected = model(**inputs).logits
        adapter = peft_adapter.read(save_adapter(model, folder))
        peft_adapter.attach(adapter, base)
        base.model.eval()
        torch.testing.assert_close(base.model(**inputs).logits, expected, atol=1e-5, rtol=1e-5)
        with spectrum.factorized(base.model) as factorized:
            torch.testing.assert_close(base.model(**inputs).logits, expected, atol=1e-5, rtol=1e-5)
            count = max(len(factorized.updates), (len(factorized.params) - 1) // 2)
            masks = factorized.keep(count)
            factorized.cut(masks)
            scored = base.model(**inputs).logits
            params = adapters.adapter_params(base.model, base.head)
        module = peft_adapter.skeleton(adapter)
        spectrum.cut(module, masks)
        updates = {name: layer.update for name, layer in adapters.adapted(module).items()}
        (folder / "cut").mkdir()
        peft_adapter.write(adapter, updates, adapter.others, folder / "cut")
        loaded = peft.PeftModel.from_pretrained(load(), folder / "cut").eval()
        torch.testing.assert_close(loaded(**inputs).logits, scored, atol=1e-5, rtol=1e-5)
        stored = sum(p.numel() for name, p in loaded.named_parameters() if "lora_" in name)
        assert stored == params < sum(p.numel() for name, p in model.named_parameters() if "lora_" in name)


@pytest.mark.parametrize("kind", LORA)
def test_lora_as_peft_saves_it(kind: str, tmp_path: Path) -> None:
    config = peft.LoraConfig(task_type="SEQ_CLS", target_modules=["query", "value"], **LORA[kind])
    model, name = encoder(tmp_path, config)
    base = base_model.load(name, outputs=3)
    check(
        model, tmp_path, base,
        lambda: t.AutoModelForSequenceClassification.from_pretrained(name, num_labels=3), input_ids=IDS,
    )  # fmt: skip


def test_adalora_as_peft_saves_it_after_it_has_allocated(tmp_path: Path) -> None:
    config = peft.AdaLoraConfig(
        task_type="SEQ_CLS", target_modules=["query", "value"], init_r=4, target_r=2, tinit=1, tfinal=2, deltaT=1,
        total_step=6, lora_alpha=8,
    )  # fmt: skip
    model, name = encoder(tmp_path, config)
    for step in range(1, 7):
        model(input_ids=IDS, labels=torch.tensor([0, 1])).loss.backward()
        model.base_model.update_and_allocate(step)
        model.zero_grad()
    base = base_model.load(name, outputs=3)
    adapter = save_adapter(model, tmp_path)
    reloaded = peft.PeftModel.from_pretrained(
        t.AutoModelForSequenceClassification.from_pretrained(name, num_labels=3), adapter
    ).eval()
    with torch.no_grad():
        expected = reloaded(input_ids=IDS).logits
        peft_adapter.attach(peft_adapter.read(adapter), base)
        torch.testing.assert_close(base.model.eval()(input_ids=IDS).logits, expected, atol=1e-5, rtol=1e-5)
    assert sum(adapters.ranks(base.model).values()) == 2 * 6  # as allocated
    check(
        reloaded, tmp_path, base_model.load(name, outputs=3),
        lambda: t.AutoModelForSequenceClassification.from_pretrained(name, num_labels=3), input_ids=IDS,
    )  # fmt: skip


def test_a_gpt2_language_model_with_its_conv1d_layers(tmp_path: Path) -> None:
    name = tiny_models.model("gpt2", tmp_path / "base")
    config = peft.LoraConfig(task_type="CAUSAL_LM", r=4, target_modules=["c_attn", "c_fc"], fan_in_fan_out=True)
    model = peft.get_peft_model(t.AutoModelForCausalLM.from_pretrained(name), config)
    randomize(model)
    base = base_model.load(name, outputs=0, head=heads.TEXT)
    check(model, tmp_path, base, lambda: t.AutoModelForCausalLM.from_pretrained(name), input_ids=IDS)


def test_an_encoder_decoder(tmp_path: Path) -> None:
    size = tiny_models.tokenizer(tmp_path / "base")
    torch.manual_seed(0)
    t.T5ForConditionalGeneration(
        t.T5Config(vocab_size=size, d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2, decoder_start_token_id=0)
    ).save_pretrained(tmp_path / "base")
    name = str(tmp_path / "base")
    config = peft.LoraConfig(task_type="SEQ_2_SEQ_LM", r=4, target_modules=["q", "v"])
    model = peft.get_peft_model(t.AutoModelForSeq2SeqLM.from_pretrained(name), config)
    randomize(model)
    base = base_model.load(name, outputs=0, head=heads.TEXT)
    load = lambda: t.AutoModelForSeq2SeqLM.from_pretrained(name)  # noqa: E731
    check(model, tmp_path, base, load, input_ids=IDS, decoder_input_ids=IDS)


def bert_lora(folder: Path, **settings: Any) -> tuple[str, str]:
    config = peft.LoraConfig(**{"task_type": "SEQ_CLS", "target_modules": ["query"], "r": 2} | settings)
    model, name = encoder(folder, config)
    return save_adapter(model, folder), name


def test_adapters_that_cannot_be_cut_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(AutorankError, match=r"has no adapter_config\.json, so it is not a PEFT adapter"):
        peft_adapter.read(str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(AutorankError, match=r"my-adaptr.*(not a PEFT adapter|nor a PEFT adapter|Hub)"):
        peft_adapter.read("my-adaptr")
    name = tiny_models.model("bert", tmp_path / "base")
    vera = peft.get_peft_model(
        t.AutoModelForSequenceClassification.from_pretrained(name), peft.VeraConfig(target_modules=["query"], r=2)
    )
    vera.save_pretrained(tmp_path / "vera")
    with pytest.raises(AutorankError, match=r"is a VERA adapter\. Only LoRA and AdaLoRA"):
        peft_adapter.read(str(tmp_path / "vera"))
    adapter, _ = bert_lora(tmp_path / "embedding", target_modules=["word_embeddings"])
    with pytest.raises(AutorankError, match=r"LoRA on bert\.embeddings\.word_embeddings.*linear layers"):
        peft_adapter.read(adapter)
    adapter, _ = bert_lora(tmp_path / "empty")
    (Path(adapter) / "adapter_model.safetensors").unlink()
    with pytest.raises(AutorankError, match=r"adapter_model\.safetensors is missing|Can't find weights"):
        peft_adapter.read(adapter)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"init_lora_weights": "pissa"}, "initialized by 'pissa', which changes the base model's weights"),
        ({"init_lora_weights": "olora"}, "initialized by 'olora'"),
        ({"alora_invocation_tokens": [7, 8]}, "uses alora_invocation_tokens, so it is not plain LoRA"),
        ({"trainable_token_indices": {"word_embeddings": [5, 6]}}, "uses trainable_token_indices"),
    ],
)
def test_lora_that_is_more_than_low_rank_updates(settings: dict[str, Any], message: str, tmp_path: Path) -> None:
    adapter, _ = bert_lora(tmp_path, **settings)
    with pytest.raises(AutorankError, match=message):
        peft_adapter.read(adapter)


def test_a_base_with_a_head_of_its_own_and_dropout_of_the_update(tmp_path: Path) -> None:
    name = tiny_models.model("bert", tmp_path / "base")
    full = t.AutoModelForSequenceClassification.from_pretrained(name, num_labels=3)
    full.save_pretrained(tmp_path / "full")
    model = peft.get_peft_model(full, peft.LoraConfig(target_modules=["query"], r=2, lora_dropout=0.3))
    randomize(model)
    base = base_model.load(str(tmp_path / "full"), outputs=3)
    check(
        model, tmp_path, base,
        lambda: t.AutoModelForSequenceClassification.from_pretrained(tmp_path / "full"), input_ids=IDS,
    )  # fmt: skip
    assert {layer.dropout for layer in adapters.adapted(base.model).values()} == {0.3}


def test_adapters_that_do_not_fit_the_base_or_the_task_are_refused(tmp_path: Path) -> None:
    adapter, name = bert_lora(tmp_path)
    parsed = peft_adapter.read(adapter)
    with pytest.raises(AutorankError, match=r"for this task it is \(2,.*the number of labels differs"):
        peft_adapter.attach(parsed, base_model.load(name, outputs=2))
    roberta = tiny_models.model("roberta", tmp_path / "roberta")
    with pytest.raises(AutorankError, match="The base model has no layer bert"):
        peft_adapter.attach(parsed, base_model.load(roberta, outputs=3))
    headless = peft_adapter.PeftAdapter(adapter, parsed.config, parsed.updates, {})
    with pytest.raises(AutorankError, match=r"has no head for this task \(classifier\.weight is missing\)"):
        peft_adapter.attach(headless, base_model.load(name, outputs=3))
    config = json.loads((Path(adapter) / "adapter_config.json").read_text())
    (Path(adapter) / "adapter_config.json").write_text(json.dumps(config | {"base_model_name_or_path": None}))
    with pytest.raises(AutorankError, match=r"names no base model\. Give one with --model"):
        _ = peft_adapter.read(adapter).base_model
