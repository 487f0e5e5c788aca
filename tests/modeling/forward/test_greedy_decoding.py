"""Completions of a batch whose rows are dropped when they have ended, against each prompt completed alone."""

from __future__ import annotations

from itertools import takewhile
from typing import Any

import pytest
import torch
import transformers

from autorank.modeling.forward.greedy_decoding import complete, generating, greedy
from tests.tiny_language_models import DECODER, FAMILIES, IDS

ENDS, LONGEST, VOCABULARY = (3, *range(5, 20)), 20, 40
MODELS = {
    name: (FAMILIES[name][0].removesuffix("ForCausalLM").removesuffix("LMHeadModel"), FAMILIES[name][1])
    for name in ("llama", "gpt2", "qwen2")
} | {
    "mistral": ("Mistral", DECODER | {"sliding_window": 6}),
    "opt": ("OPT", IDS | {"hidden_size": 32, "ffn_dim": 64, "num_hidden_layers": 2, "num_attention_heads": 2}),
    "bloom": ("Bloom", IDS | {"hidden_size": 32, "n_layer": 2, "n_head": 2}),
}  # fmt: skip
STATE_SPACE = {"mamba": ("Mamba", IDS | {"hidden_size": 32, "num_hidden_layers": 2, "state_size": 4})}


def random_model(name: str, settings: dict[str, Any]) -> Any:
    torch.manual_seed(0)
    config = getattr(transformers, f"{name}Config")(**settings | {"vocab_size": VOCABULARY})
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    for parameter in model.parameters():
        if parameter.ndim == 2:
            parameter.data += 0.3 * torch.randn(parameter.shape)
    return model


def prompts(count: int, seed: int = 0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, 10, (count,), generator=generator).tolist()
    return [torch.randint(20, VOCABULARY, (length,), generator=generator) for length in lengths]


def padded(rows: list[torch.Tensor]) -> dict[str, torch.Tensor]:
    """A batch, padded on the left."""
    width = max(map(len, rows))
    pad = torch.nn.functional.pad
    return {
        "input_ids": torch.stack([pad(row, (width - len(row), 0)) for row in rows]),
        "attention_mask": torch.stack([pad(torch.ones_like(row), (width - len(row), 0)) for row in rows]),
    }


def until_end(tokens: list[int]) -> list[int]:
    return list(takewhile(lambda token: token not in ENDS, tokens))


@pytest.mark.parametrize("name", [*MODELS, *STATE_SPACE])
def test_rows_that_have_ended_are_dropped(name: str) -> None:
    """Models whose state is not a plain cache of keys and values keep all rows."""
    model = random_model(*(MODELS | STATE_SPACE)[name])
    rows, sizes, observed = prompts(24), list[int](), list[int]()
    model.register_forward_pre_hook(lambda _, args, inputs: sizes.append(len(inputs["input_ids"])), with_kwargs=True)

    def observe(tokens: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
        observed.append(len(tokens))
        return logits

    with generating(model, greedy(ENDS, 0, None, LONGEST)), torch.no_grad():
        completions = complete(model, padded(rows), ENDS, LONGEST, observe)
        together, sizes[:] = list(sizes), []
        alone = [complete(model, padded([row]), ENDS, LONGEST, observe)[0] for row in rows]
    assert [until_end(tokens) for tokens in completions] == [until_end(tokens) for tokens in alone]
    lengths = [len(until_end(tokens)) for tokens in alone]
    assert min(lengths) < 3 < max(lengths) and max(map(len, completions)) <= LONGEST
    assert observed[: len(together)] == together == sorted(together, reverse=True)
    assert (together[-1] <= len(rows) / 2) == (name in MODELS)
