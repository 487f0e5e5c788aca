"""BitFit: which parameters are trained, and how many. test_full.py tests the training itself."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from autorank.errors import AutorankError
from autorank.methods import configure, find
from autorank.modeling import base_model
from tests import tiny_models
from tests.trainables.base_models import deberta, roberta
from trainables.bitfit import biases


def params(model: torch.nn.Module) -> tuple[int, int]:
    return find("bitfit").adapter_params(configure("bitfit", {}).config, model)


def test_sizes_of_the_papers_models() -> None:
    """A block has 7 biases of 768 and one of 3072; DeBERTaV3 has two LayerNorms besides, RoBERTa one.

    A pooler has 768, which DeBERTaV3's checkpoint lacks.
    """
    from transformers import BertConfig, BertForSequenceClassification

    with torch.device("meta"):
        bert = BertForSequenceClassification(BertConfig())
        large = BertForSequenceClassification(
            BertConfig(hidden_size=1024, num_hidden_layers=24, num_attention_heads=16, intermediate_size=4096)
        )
        blocks = 12 * (7 * 768 + 3072)
        assert params(deberta()) == (blocks + 2 * 768, blocks + 3 * 768) == (102_912, 103_680)
        assert params(roberta()) == (blocks + 768, blocks + 768) == (102_144, 102_144)
    for model, share in ((bert, 0.09), (large, 0.08)):  # in percent, from the paper
        total = sum(p.numel() for p in model.parameters())
        assert round(100 * params(model)[1] / total, 2) == share


def test_biases_of_layer_norms_are_included_and_buffers_are_not(tmp_path: Path) -> None:
    model = base_model.load(tiny_models.model("gpt2", tmp_path / "model"), outputs=2).model
    trained = biases(dict(model.named_parameters()))
    assert "transformer.ln_f.bias" in trained and "transformer.h.0.attn.c_attn.bias" in trained
    assert all(p.ndim == 1 for p in trained.values())


def test_a_model_without_biases_is_refused(tmp_path: Path) -> None:
    model = base_model.load(tiny_models.model("llama", tmp_path / "model"), outputs=2).model
    with pytest.raises(AutorankError, match="no biases"):
        params(model)
