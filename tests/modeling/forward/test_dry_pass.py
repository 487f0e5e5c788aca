"""Forward passes without weights, compared with forward passes of the same models with weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import transformers as t
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from autorank.modeling.forward import dry_pass
from tests import families

TINY_CONFIG = families.TOKENS | families.SIZES
OFFSET = TINY_CONFIG | {"max_position_embeddings": 40, "pad_token_id": 1, "bos_token_id": 0}
BART = families.TOKENS | families.BART | {"max_position_embeddings": 40}
# how each architecture numbers positions: (class, config, tokens that it accepts; None: any number)
RULES: dict[str, tuple[Any, Any, int | None]] = {
    "bert": (t.BertForSequenceClassification, t.BertConfig(**TINY_CONFIG, max_position_embeddings=40), 40),
    "roberta": (t.RobertaForSequenceClassification, t.RobertaConfig(**OFFSET), 38),
    "xlm-roberta-xl": (t.XLMRobertaXLForSequenceClassification, t.XLMRobertaXLConfig(**OFFSET), 38),
    "mpnet": (t.MPNetForSequenceClassification, t.MPNetConfig(**OFFSET), 38),
    "camembert": (t.CamembertForSequenceClassification, t.CamembertConfig(**OFFSET), 38),
    "albert": (t.AlbertForSequenceClassification, t.AlbertConfig(**OFFSET, embedding_size=16), 40),
    "gpt2": (t.GPT2LMHeadModel, t.GPT2Config(**families.TOKENS | families.GPT2 | {"n_positions": 40}), 40),
    "gptj": (
        t.GPTJForCausalLM,
        t.GPTJConfig(**families.TOKENS | {"n_embd": 32, "n_layer": 1, "n_head": 2, "rotary_dim": 8, "n_positions": 40}),
        40,
    ),
    "opt": (
        t.OPTForCausalLM,
        t.OPTConfig(**TINY_CONFIG | {"ffn_dim": 48, "word_embed_proj_dim": 32, "max_position_embeddings": 40}),
        40,
    ),
    "bart": (t.BartForSequenceClassification, t.BartConfig(**BART), 40),
    "bart-text": (t.BartForConditionalGeneration, t.BartConfig(**BART), 40),
    "deberta": (t.DebertaV2ForSequenceClassification, families.config("deberta-v2"), 70),
    "deberta-relative": (
        t.DebertaV2ForSequenceClassification,
        t.DebertaV2Config(
            **TINY_CONFIG, max_position_embeddings=40, position_biased_input=False, relative_attention=True,
            pos_att_type=["p2c", "c2p"],
        ),
        None,
    ),
    "t5": (t.T5ForConditionalGeneration, families.config("t5"), None),
    "llama": (t.LlamaForCausalLM, t.LlamaConfig(**families.DECODER, max_position_embeddings=40), None),
    "bloom": (t.BloomForCausalLM, families.config("bloom"), None),
}  # fmt: skip


def build_model(name: str) -> nn.Module:
    cls, config, _ = RULES[name]
    return dry_pass.build(lambda: cls(config))


@pytest.mark.parametrize("name", RULES)
def test_the_longest_text_is_that_of_the_model_with_weights(name: str) -> None:
    cls, config, longest = RULES[name]
    expected = longest or 90
    assert dry_pass.accepted_length(build_model(name), 90) == expected
    torch.manual_seed(0)
    real = cls(config).eval()
    with torch.no_grad():
        real(**dry_pass._text(real, expected))
        if longest:
            with pytest.raises((RuntimeError, IndexError)):
                real(**dry_pass._text(real, longest + 1))


@pytest.mark.parametrize("name", ["roberta", "bart", "llama"])
def test_a_text_that_fits_is_tried_once(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    lengths: list[int] = []
    accepts: Callable[[nn.Module, int], bool] = dry_pass._accepts
    monkeypatch.setattr(dry_pass, "_accepts", lambda model, length: lengths.append(length) or accepts(model, length))
    assert dry_pass.accepted_length(build_model(name), 30) == 30
    assert lengths == [30]


class LargestTensor(TorchDispatchMode):
    """Records the number of elements of the largest tensor that has values."""

    elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor) and not result.is_meta and not func.is_view:
            self.elements = max(self.elements, result.numel())
        return result


def test_large_model_and_long_text_cost_no_memory() -> None:
    config = t.LlamaConfig(num_hidden_layers=3, hidden_size=16_384, intermediate_size=53_248, num_attention_heads=128)
    with LargestTensor() as largest:
        model = dry_pass.build(lambda: t.LlamaForCausalLM(config))
        assert all(parameter.is_meta for parameter in model.parameters())
        assert dry_pass.accepted_length(model, 100_000) == 100_000
    assert largest.elements == 100_000


@pytest.mark.parametrize(
    "create",
    [
        lambda: torch.ones(5_000, 5_000, dtype=torch.bool),
        lambda: torch.full((5_000, 5_000), 3),
        lambda: torch.arange(5).new_ones((5_000, 5_000)),
        lambda: torch.arange(5_000).repeat(5_000, 1),
        lambda: torch.arange(5_000)[:, None] - torch.arange(5_000),
        lambda: torch.zeros(3),
    ],
)
def test_only_small_integer_tensors_have_values(create: Callable[[], torch.Tensor]) -> None:
    with dry_pass.WithoutWeights():
        assert create().is_meta
        assert not torch.arange(5).repeat(2).is_meta


def test_a_model_that_needs_values_has_no_known_length() -> None:
    class Opaque(t.LlamaForCausalLM):
        def forward(self, input_ids: torch.Tensor, **kwargs: Any) -> Any:
            return self.model.embed_tokens(input_ids).tolist()

    model = dry_pass.build(lambda: Opaque(t.LlamaConfig(**families.DECODER)))
    assert dry_pass.accepted_length(model, 30) is None
    assert dry_pass.modules_on_text_path(model) is None


def test_a_pass_with_too_many_operations_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build_model("bert")
    monkeypatch.setattr(dry_pass, "MAX_OPERATIONS", 1)
    assert dry_pass.accepted_length(model, 90) == 90  # no limit was determined


def test_text_reaches_the_modules_that_run() -> None:
    model = build_model("roberta")
    reached = dry_pass.modules_on_text_path(model)
    assert reached is not None
    assert reached["roberta.encoder.layer.0.attention.self.query"] == (32, 32)
    assert reached["classifier.out_proj"] == (32, 2)
    assert not any(module._forward_hooks for module in model.modules())


def test_every_expert_has_tokens() -> None:
    config = t.Qwen3MoeConfig(
        **families.DECODER, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=16, decoder_sparse_step=1
    )
    for implementation in ("eager", "grouped_mm"):
        config._experts_implementation = implementation
        assert dry_pass.accepted_length(dry_pass.build(lambda: t.Qwen3MoeForCausalLM(config)), 30) == 30
