"""Adapters of language models, loaded by PEFT and transformers, give equal logits and the same texts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from autorank.errors import AutorankError
from autorank.export.cards.model_card import model_card
from autorank.export.merge import write_merged
from autorank.export.peft_export import write_peft
from autorank.modeling import adapter_file, adapters, base_model, heads, target_modules
from autorank.modeling.forward.greedy_decoding import generating, greedy
from autorank.modeling.layers.lora_layer import LowRankUpdate
from autorank.spec import TaskSpec, TrainSpec
from autorank.trials.point import Point
from tests import tiny_language_models

NEW_TOKENS = 6


def write_adapter(family: str, folder: Path) -> tuple[Path, dict[str, torch.Tensor], torch.Tensor, torch.Tensor]:
    """Writes an adapter with mixed ranks; returns the file, inputs, their logits and the generated tokens."""
    model = tiny_language_models.model(family, folder / "model")
    (folder / "model" / "generation_config.json").write_text(json.dumps({"do_sample": False, "temperature": 0.3}))
    loaded = base_model.load(model, outputs=0, head=heads.TEXT)
    generator = torch.Generator().manual_seed(0)
    for i, name in enumerate(target_modules.find(loaded.model, "all-linear")):
        shape = target_modules.features(loaded.model.get_submodule(name))
        update = LowRankUpdate.lora(*shape, rank=1 + i % 3, alpha=8, generator=generator)
        update.e = nn.Parameter(torch.randn(update.rank, generator=generator)) if i % 2 else None
        adapters.attach(loaded.model, name, update)
    for parameter in loaded.model.parameters():
        if parameter.requires_grad:
            parameter.data += 0.2 * torch.randn(parameter.shape, generator=generator)
    file = folder / "adapter.safetensors"
    adapter_file.save(file, loaded, adapter_file.Origin(model, 0, (), 0, heads.TEXT))
    inputs = {"input_ids": torch.randint(5, 30, (3, 9), generator=generator), "attention_mask": torch.ones(3, 9).long()}
    return file, inputs, *logits_and_tokens(loaded.model, family, inputs)


def logits_and_tokens(model: Any, family: str, inputs: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits and generated tokens."""
    model.eval()
    start = model.config.decoder_start_token_id if family in tiny_language_models.ENCODED else None
    decoder_inputs = {} if start is None else {"decoder_input_ids": inputs["input_ids"][:, :4]}
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    with torch.no_grad(), generating(base, greedy([3], 0, start, NEW_TOKENS)):
        return model(**inputs, **decoder_inputs).logits, model.generate(**inputs)


def auto_class(family: str) -> Any:
    import transformers

    return getattr(
        transformers, "AutoModelForSeq2SeqLM" if family in tiny_language_models.ENCODED else "AutoModelForCausalLM"
    )


@pytest.mark.parametrize("family", ["llama", "gpt2", "qwen2", "bart", "t5"])
def test_peft_generates_the_same_tokens(family: str, tmp_path: Path) -> None:
    from peft import PeftModel

    file, inputs, logits, expected_tokens = write_adapter(family, tmp_path)
    write_peft(file, tmp_path / "peft")
    config = json.loads((tmp_path / "peft" / "adapter_config.json").read_text())
    assert config["task_type"] == ("SEQ_2_SEQ_LM" if family in tiny_language_models.ENCODED else "CAUSAL_LM")
    base = auto_class(family).from_pretrained(tmp_path / "model")
    loaded = PeftModel.from_pretrained(base, tmp_path / "peft")
    actual_logits, tokens = logits_and_tokens(loaded, family, inputs)
    torch.testing.assert_close(actual_logits, logits, rtol=1e-5, atol=5e-5)
    assert torch.equal(tokens, expected_tokens) and len({tuple(row) for row in tokens.tolist()}) > 1


@pytest.mark.parametrize("family", ["gpt2", "qwen2", "bart"])
def test_merged_model_generates_the_same_tokens(family: str, tmp_path: Path) -> None:
    """The merged model's generation config is greedy; the base's is invalid and cannot be saved."""
    file, inputs, logits, expected_tokens = write_adapter(family, tmp_path)
    write_merged(file, tmp_path / "merged")
    loaded = auto_class(family).from_pretrained(tmp_path / "merged")
    actual_logits, tokens = logits_and_tokens(loaded, family, inputs)
    torch.testing.assert_close(actual_logits, logits, rtol=1e-5, atol=5e-5)
    assert torch.equal(tokens, expected_tokens)
    default_tokens = loaded.generate(**inputs, max_new_tokens=NEW_TOKENS)
    eos = loaded.generation_config.eos_token_id
    assert loaded.generation_config.temperature is None and (family == "qwen2" or eos == 3)
    if family != "qwen2":  # whose end token is another than the one asked for above
        assert torch.equal(default_tokens, expected_tokens)


@pytest.mark.parametrize("form", ["PEFT adapter", "merged model"])
@pytest.mark.parametrize(("family", "chat"), [("llama", False), ("llama", True), ("t5", False)])
def test_the_cards_code_runs(
    family: str,
    chat: bool,
    form: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file, *_ = write_adapter(family, tmp_path)
    tiny_language_models.tokenizer(tmp_path / "model", tiny_language_models.FAMILIES[family][2], chat)
    origin = adapter_file.origin(file)
    train = TrainSpec(
        task=TaskSpec(name="mine", data=tmp_path / "x", prompt="q", completion="a", chat=chat or None),
        model=origin.model, method="lora",
    )  # fmt: skip
    point = Point(1, 4, 10, 0.5, {"rank": 1}, 10, {"rougeL": 0.5})
    card = model_card(point, train, origin, form)
    assert "--prompt q --completion a" in card and ("--chat" in card) == chat
    assert f"pipeline_tag: {'text2text-generation' if family == 't5' else 'text-generation'}" in card
    assert ("apply_chat_template" in card) == chat == ("trained with the chat template" in card)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "path" / "to").mkdir(parents=True)
    if form == "PEFT adapter":
        write_peft(file, tmp_path / "path" / "to" / "adapter")
    else:
        write_merged(file, tmp_path / "path" / "to" / "model")
    code = card.split("```python\n")[1].split("```")[0].replace("'...'", "'w1 w2 k0'").replace("=256", "=5")
    capsys.readouterr()
    exec(code, {})
    printed = capsys.readouterr().out.strip()
    restored, _ = adapter_file.load(file)
    tokenizer = __import__("transformers").AutoTokenizer.from_pretrained(origin.model)
    text = "[BOS] k0 w1 w2 k0 k1 [NL]" if chat else "w1 w2 k0\n" if family == "llama" else "w1 w2 k0"
    inputs = tokenizer(text, return_tensors="pt", add_special_tokens=not chat, return_token_type_ids=False)
    start = 0 if family == "t5" else None
    with torch.no_grad(), generating(restored.model, greedy([3], 0, start, 5)):
        (tokens,) = restored.model.generate(**inputs)
    begin = 1 if family == "t5" else inputs["input_ids"].shape[1]
    assert printed == tokenizer.decode(tokens[begin:], skip_special_tokens=True).strip() != ""


def test_models_that_cannot_generate_are_refused(tmp_path: Path) -> None:
    from tests import tiny_models

    with pytest.raises(AutorankError, match=r"an encoder \('bert'\)"):
        base_model.load(tiny_models.model("bert", tmp_path / "bert"), outputs=0, head=heads.TEXT)
    with pytest.raises(AutorankError, match="with its output layer"):
        base_model.load(tiny_models.model("llama", tmp_path / "llama"), outputs=0, head=heads.TEXT)
