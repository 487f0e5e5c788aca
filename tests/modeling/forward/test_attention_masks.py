"""Attention masks prepared for the kernel give bit-identical logits in models that accept them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from autorank.modeling import base_model
from autorank.modeling.forward.attention_masks import MASK, additive, find_form
from tests import families

FORMS = {
    "bert": "keys",
    "roberta": "keys",
    "electra": "keys",
    "deberta-v2": "tokens",
    "llama": "causal",
    "qwen2": "causal",
    "mistral": "tokens",  # layers with windows, which do not show in short texts
    "modernbert": "tokens",
}
TOKENS = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])


@pytest.mark.parametrize("family", FORMS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_models_compute_the_same_with_kernel_masks(family: str, dtype: torch.dtype, tmp_path: Path) -> None:
    model = base_model.load(families.model(family, tmp_path / family), outputs=2, dtype=dtype).model.eval()
    model.config.pad_token_id = 0
    ids = torch.randint(5, 60, TOKENS.shape, generator=torch.Generator().manual_seed(0)) * TOKENS
    batch = {"input_ids": ids, MASK: TOKENS}
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        form = find_form(model, batch, dtype)
        assert form == FORMS[family]
        if form != "tokens":
            with torch.no_grad():
                expected, actual = (
                    model(**batch | {MASK: mask}).logits for mask in (TOKENS, additive(TOKENS, form, dtype))
                )
            assert torch.equal(actual, expected)
            unmasked = model(input_ids=ids).logits  # causal models never attend to padding on the right
            assert torch.equal(actual, unmasked) == (form == "causal")


def test_masks_are_added_to_scores() -> None:
    keys, causal = (additive(TOKENS, form, torch.float32) for form in ("keys", "causal"))
    assert keys.shape == causal.shape == (2, 1, 5, 5)
    for query in range(5):
        for key in range(5):
            assert (keys[1, 0, query, key] == 0) == (key < 3)
            assert (causal[1, 0, query, key] == 0) == (key < 3 and key <= query)
