"""Logits of predicted tokens only: loss and gradients equal those of transformers, without a tensor of all logits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import transformers
from torch import Tensor

from autorank.modeling.forward.model_call import PREDICTED, call
from autorank.tasks.data.batches import collate
from autorank.tasks.prompts.prompting import Prompting
from autorank.tasks.splits.examples import Examples
from tests import tiny_language_models

FAMILIES = {"llama": None, "gpt2": None, "qwen2": None, "bart": 3, "t5": 0}  # first token of the decoder
ROWS = [("w1 w2", "green"), ("w3", "red fox"), ("w1 w2 w4 w5", "a blue bird sings")]


def build(family: str, folder: Path) -> tuple[Any, dict[str, Tensor]]:
    start = FAMILIES[family]
    auto = transformers.AutoModelForCausalLM if start is None else transformers.AutoModelForSeq2SeqLM
    model = auto.from_pretrained(tiny_language_models.model(family, folder / family)).train()
    prompts, completions = [list(column) for column in zip(*ROWS, strict=True)]
    prompting = Prompting(tiny_language_models.tokenizer(folder / "tokens", "[BOS] $A", False), 64, start)
    split = prompting.split(Examples((prompts, completions), np.arange(3), completions))
    return model, collate(split, np.arange(3), 0)


def gradients(model: Any, loss: Tensor) -> dict[str, Tensor]:
    model.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def loss_of(model: Any, batch: dict[str, Tensor]) -> tuple[Tensor, Any]:
    inputs = {name: values for name, values in batch.items() if name != "labels"}
    outputs = call(model, inputs)
    return F.cross_entropy(outputs.logits[0], batch["labels"]), outputs


@pytest.mark.parametrize("family", FAMILIES)
def test_loss_and_gradients_equal_those_of_transformers(family: str, tmp_path: Path) -> None:
    model, batch = build(family, tmp_path)
    computed: list[tuple[int, ...]] = []
    handle = model.get_output_embeddings().register_forward_hook(lambda *call: computed.append(call[2].shape))
    loss, outputs = loss_of(model, batch)
    actual_gradients = gradients(model, loss)
    handle.remove()
    tokens = len(batch["labels"])
    assert computed == [(1, tokens, model.config.vocab_size)] and outputs.logits.shape == computed[0]
    assert not any("cache" in name or "past" in name for name in outputs)
    expected = model(**tiny_language_models.library_batch(batch)).loss
    torch.testing.assert_close(loss, expected, rtol=1e-6, atol=1e-7)
    expected_gradients = gradients(model, expected)
    assert actual_gradients.keys() == expected_gradients.keys()
    for name, gradient in expected_gradients.items():
        torch.testing.assert_close(actual_gradients[name], gradient, rtol=1e-5, atol=1e-7)
    assert not model.get_output_embeddings()._forward_pre_hooks


def test_models_without_an_output_layer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All logits are computed, and selected afterwards."""
    model, batch = build("llama", tmp_path)
    expected, _ = loss_of(model, batch)
    monkeypatch.setattr(type(model), "get_output_embeddings", lambda _: None)
    loss, outputs = loss_of(model, batch)
    assert outputs.logits.shape[:2] == (1, len(batch[PREDICTED]))
    torch.testing.assert_close(loss, expected, rtol=1e-6, atol=1e-7)
