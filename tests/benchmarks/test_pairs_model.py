"""The base model of MRPC and STS-B: MiniLM with the adapter in benchmarks/pairs_adapter merged."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModel, BertConfig, BertForSequenceClassification

from benchmarks.real_tasks import pairs_model
from tests import tiny_models

LAYER = "encoder.layer.3.output.dense"


def test_the_adapter_is_merged_into_a_model_of_its_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = BertConfig(
        vocab_size=100, hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536
    )
    BertForSequenceClassification(config).save_pretrained(tmp_path / "minilm")
    tiny_models.tokenizer(tmp_path / "minilm")
    options = ["--model", str(tmp_path / "minilm"), "--to", str(tmp_path / "base")]
    monkeypatch.setattr(sys, "argv", ["pairs_model", *options])
    pairs_model.main()
    adapter = load_file(pairs_model.ADAPTER / pairs_model.WEIGHTS)
    (A,), (B,) = ([v for name, v in adapter.items() if LAYER in name and f"lora_{factor}" in name] for factor in "AB")
    before, after = (
        AutoModel.from_pretrained(tmp_path / name).get_parameter(f"{LAYER}.weight") for name in ("minilm", "base")
    )
    torch.testing.assert_close(after, before + B.float() @ A.float(), rtol=1e-4, atol=1e-5)  # alpha is the rank
    assert (after - before).abs().max() > 1e-3
