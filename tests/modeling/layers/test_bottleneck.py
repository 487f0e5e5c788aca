"""Bottlenecks, compared with hooks that compute the same, in every architecture that has insertion points."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from autorank.errors import AutorankError
from autorank.modeling import adapter_file, adapters, base_model
from autorank.modeling.layers.bottleneck import Bottleneck, insertion_points, parameters
from tests import tiny_models

SIZE = 3
VOCAB = {"vocab_size": 64, "pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3}


def build_classifier(architecture: str) -> nn.Module:
    """A tiny classifier of 2 blocks (encoder-decoders: 2 and 2)."""
    import transformers as t

    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = {
        "bert": lambda: t.BertConfig(**VOCAB, **sizes),
        "electra": lambda: t.ElectraConfig(**VOCAB, **sizes, embedding_size=16),
        "deberta-v2": lambda: t.DebertaV2Config(**VOCAB, **sizes, relative_attention=True, pos_att_type=["p2c", "c2p"]),
        "modernbert": lambda: t.ModernBertConfig(**VOCAB, **sizes, cls_token_id=2, sep_token_id=3),
        "qwen2": lambda: t.Qwen2Config(**VOCAB, **sizes, num_key_value_heads=1),
        "gpt2": lambda: t.GPT2Config(**VOCAB, n_embd=16, n_layer=2, n_head=2),
        "distilbert": lambda: t.DistilBertConfig(**VOCAB, dim=16, hidden_dim=32, n_layers=2, n_heads=2),
        "bart": lambda: t.BartConfig(
            **VOCAB, d_model=16, encoder_layers=2, decoder_layers=2, encoder_ffn_dim=32, decoder_ffn_dim=32,
            encoder_attention_heads=2, decoder_attention_heads=2, max_position_embeddings=64,
        ),
        "t5": lambda: t.T5Config(
            **VOCAB, d_model=16, d_ff=32, num_layers=2, num_heads=2, d_kv=8, decoder_start_token_id=0
        ),
    }[architecture]()  # fmt: skip
    torch.manual_seed(0)
    model: nn.Module = t.AutoModelForSequenceClassification.from_config(config).eval()
    for parameter in model.parameters():  # LayerNorms too, so that their position matters
        parameter.data += 0.1 * torch.randn(parameter.shape)
    return model


ARCHITECTURES = ["bert", "electra", "deberta-v2", "modernbert", "qwen2", "gpt2", "distilbert", "bart", "t5"]
POST_NORM = ARCHITECTURES[:3]
IDS = torch.randint(4, 60, (2, 9), generator=torch.Generator().manual_seed(1))
IDS[:, -1] = 3  # BART and T5 classify at the last end of a text


def logits(model: nn.Module) -> Tensor:
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=model.dtype == torch.bfloat16):
        result: Tensor = model(input_ids=IDS).logits
    return result


def attach_bottlenecks(model: nn.Module, attention: bool, twice: bool) -> dict[str, Bottleneck]:
    """Attach bottlenecks that are far from the identity at all insertion points."""
    bottlenecks = {}
    for point in insertion_points(model, attention):
        bottlenecks[point.name] = Bottleneck(point.width, SIZE, "silu" if attention else "relu")
        bottlenecks[point.name].initialize(0.5, torch.Generator().manual_seed(len(bottlenecks)))
        adapters.attach_bottleneck(model, point.name, bottlenecks[point.name], twice and point.post_norm)
    return bottlenecks


def bottleneck_hook(bottleneck: Bottleneck, activation: Callable[[Tensor], Tensor]) -> Callable[..., Tensor]:
    """A forward hook that adds the output of the bottleneck, computed independently."""

    def hook(module: nn.Module, inputs: Any, y: Tensor) -> Tensor:
        return y + bottleneck_output(y, bottleneck, activation)

    return hook


def bottleneck_output(z: Tensor, bottleneck: Bottleneck, activation: Callable[[Tensor], Tensor]) -> Tensor:
    down, up = bottleneck.down, bottleneck.up
    return activation(z @ down.weight.T + down.bias) @ up.weight.T + up.bias


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_houlsby_equals_hooks(architecture: str) -> None:
    """In post-norm encoders after the dropout, before residual and LayerNorm; otherwise after the projection."""
    model = build_classifier(architecture)
    base_logits = logits(model)
    bottlenecks = attach_bottlenecks(model, attention=True, twice=False)
    adapted_logits = logits(model)
    adapters.detach_all(model)
    assert torch.equal(logits(model), base_logits)
    for name, bottleneck in bottlenecks.items():
        end = f"{name}.dropout" if architecture in POST_NORM else name
        model.get_submodule(end).register_forward_hook(bottleneck_hook(bottleneck, F.silu))
    torch.testing.assert_close(adapted_logits, logits(model), rtol=1e-5, atol=1e-5)
    assert (adapted_logits - base_logits).abs().max() > 1e-3
    assert len(bottlenecks) == (8 if architecture in ("bart", "t5") else 4)
    cross = [name for name in bottlenecks if "Enc" in name or "encoder_attn" in name]
    assert not cross


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_pfeiffer_normalises_before_in_post_norm_encoders(architecture: str) -> None:
    """h = dense(x), z = LayerNorm(h + residual), LayerNorm(h + bottleneck(z) + residual)."""
    model = build_classifier(architecture)
    bottlenecks = attach_bottlenecks(model, attention=False, twice=True)
    adapted_logits = logits(model)
    adapters.detach_all(model)
    for name, bottleneck in bottlenecks.items():
        end = model.get_submodule(name)
        if architecture not in POST_NORM:
            end.register_forward_hook(bottleneck_hook(bottleneck, F.relu))
            continue

        def forward(x: Tensor, residual: Tensor, end: Any = end, bottleneck: Bottleneck = bottleneck) -> Tensor:
            h = F.linear(x, end.dense.weight, end.dense.bias)
            size, norm = h.shape[-1:], end.LayerNorm
            z = F.layer_norm(h + residual, size, norm.weight, norm.bias, norm.eps)
            h = h + bottleneck_output(z, bottleneck, F.relu)
            return F.layer_norm(h + residual, size, norm.weight, norm.bias, norm.eps)

        end.forward = forward
    torch.testing.assert_close(adapted_logits, logits(model), rtol=1e-5, atol=1e-5)
    assert len(bottlenecks) == (4 if architecture in ("bart", "t5") else 2)
    assert not [name for name in bottlenecks if "att" in name.lower()]


@pytest.mark.parametrize("architecture", ["bert", "t5", "gpt2"])
def test_all_parameters_of_a_bottleneck_train(architecture: str) -> None:
    model = build_classifier(architecture)
    model.requires_grad_(False)
    points = insertion_points(model)
    attach_bottlenecks(model, attention=True, twice=False)
    new = adapters.added_parameters(model)
    assert sum(p.numel() for p in new.values()) == parameters(points, SIZE) == len(points) * (2 * 16 * SIZE + SIZE + 16)
    model.train()
    model(input_ids=IDS).logits.square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in new.values())


def test_initial_weights_are_truncated_at_two_deviations() -> None:
    bottleneck = Bottleneck(400, 50, "relu")
    bottleneck.initialize(0.01, torch.Generator().manual_seed(0))
    for layer in (bottleneck.down, bottleneck.up):
        assert layer.weight.abs().max() <= 0.02
        assert layer.weight.std().item() == pytest.approx(0.01 * 0.8796, rel=0.02)  # deviation of a truncated normal
        assert not layer.bias.any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_layout_rebuilds_bottlenecks(dtype: torch.dtype, tmp_path: Path) -> None:
    model = base_model.load(tiny_models.model("bert", tmp_path / "model"), outputs=2, dtype=dtype)
    attach_bottlenecks(model.model, attention=False, twice=True)
    model.model.eval()
    expected, values = logits(model.model), {name: p.clone() for name, p in adapters.tensors(model.model).items()}
    layout = adapters.layout(model.model)
    adapters.detach_all(model.model)
    adapters.rebuild(model.model, layout)
    model.check_unfrozen()
    adapters.load_tensors(model.model, values)
    assert torch.equal(logits(model.model), expected)
    assert adapters.ranks(model.model) == {} and not adapters.adapted(model.model)
    model.reset(0)
    assert not adapters.added_parameters(model.model)


def test_a_file_from_before_bottlenecks_loads(tmp_path: Path) -> None:
    import json

    from safetensors.torch import load_file, save_file

    model = base_model.load(tiny_models.model("bert", tmp_path / "model"), outputs=2)
    file = tmp_path / "adapter.safetensors"
    adapter_file.save(file, model, adapter_file.Origin(str(tmp_path / "model"), 2, (), 0))
    metadata = adapter_file._metadata(file)
    del metadata["layout"]["bottlenecks"]
    save_file(load_file(file), file, {"autorank": json.dumps(metadata)})
    model.model.eval()
    assert torch.equal(logits(adapter_file.load(file)[0].model), logits(model.model))


def test_an_unknown_architecture_is_refused() -> None:
    from transformers import AlbertConfig, AlbertForSequenceClassification

    config = AlbertConfig(vocab_size=60, hidden_size=16, embedding_size=8, num_attention_heads=2, intermediate_size=32)
    with pytest.raises(AutorankError, match=r"do not support this architecture.*attention\.dense.*ffn_output"):
        insertion_points(AlbertForSequenceClassification(config))
