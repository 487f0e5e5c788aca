"""Bottlenecks against the same function written with hooks, in every architecture that has insertion points."""

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
from tests import tiny

SIZE = 3
SMALL = {"vocab_size": 64, "pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3}


def built(architecture: str) -> nn.Module:
    """A tiny classifier of 2 blocks (encoder-decoders: 2 and 2)."""
    import transformers as t

    usual = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = {
        "bert": lambda: t.BertConfig(**SMALL, **usual),
        "electra": lambda: t.ElectraConfig(**SMALL, **usual, embedding_size=16),
        "deberta-v2": lambda: t.DebertaV2Config(**SMALL, **usual, relative_attention=True, pos_att_type=["p2c", "c2p"]),
        "modernbert": lambda: t.ModernBertConfig(**SMALL, **usual, cls_token_id=2, sep_token_id=3),
        "qwen2": lambda: t.Qwen2Config(**SMALL, **usual, num_key_value_heads=1),
        "gpt2": lambda: t.GPT2Config(**SMALL, n_embd=16, n_layer=2, n_head=2),
        "distilbert": lambda: t.DistilBertConfig(**SMALL, dim=16, hidden_dim=32, n_layers=2, n_heads=2),
        "bart": lambda: t.BartConfig(
            **SMALL, d_model=16, encoder_layers=2, decoder_layers=2, encoder_ffn_dim=32, decoder_ffn_dim=32,
            encoder_attention_heads=2, decoder_attention_heads=2, max_position_embeddings=64,
        ),
        "t5": lambda: t.T5Config(
            **SMALL, d_model=16, d_ff=32, num_layers=2, num_heads=2, d_kv=8, decoder_start_token_id=0
        ),
    }[architecture]()  # fmt: skip
    torch.manual_seed(0)
    model: nn.Module = t.AutoModelForSequenceClassification.from_config(config).eval()
    for parameter in model.parameters():  # LayerNorms too, so that where they stand matters
        parameter.data += 0.1 * torch.randn(parameter.shape)
    return model


ARCHITECTURES = ["bert", "electra", "deberta-v2", "modernbert", "qwen2", "gpt2", "distilbert", "bart", "t5"]
POST_NORM = ARCHITECTURES[:3]
IDS = torch.randint(4, 60, (2, 9), generator=torch.Generator().manual_seed(1))
IDS[:, -1] = 3  # BART and T5 classify at the last end of a text


def logits(model: nn.Module) -> Tensor:
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=model.dtype == torch.bfloat16):
        found: Tensor = model(input_ids=IDS).logits
    return found


def put(model: nn.Module, attention: bool, twice: bool) -> dict[str, Bottleneck]:
    """Bottlenecks that are far from the identity, at all insertion points."""
    made = {}
    for point in insertion_points(model, attention):
        made[point.name] = Bottleneck(point.width, SIZE, "silu" if attention else "relu")
        made[point.name].initialize(0.5, torch.Generator().manual_seed(len(made)))
        adapters.attach_bottleneck(model, point.name, made[point.name], twice and point.post_norm)
    return made


def after(bottleneck: Bottleneck, activation: Callable[[Tensor], Tensor]) -> Callable[..., Tensor]:
    """A hook that adds the bottleneck, in numbers of its own."""

    def hook(module: nn.Module, inputs: Any, y: Tensor) -> Tensor:
        return y + added(y, bottleneck, activation)

    return hook


def added(z: Tensor, bottleneck: Bottleneck, activation: Callable[[Tensor], Tensor]) -> Tensor:
    down, up = bottleneck.down, bottleneck.up
    return activation(z @ down.weight.T + down.bias) @ up.weight.T + up.bias


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_houlsby_is_what_hooks_do(architecture: str) -> None:
    """Behind the dropout of post-norm encoders, which is before their addition and LayerNorm; else the projection."""
    model = built(architecture)
    plain = logits(model)
    made = put(model, attention=True, twice=False)
    ours = logits(model)
    adapters.detach_all(model)
    assert torch.equal(logits(model), plain)
    for name, bottleneck in made.items():
        end = f"{name}.dropout" if architecture in POST_NORM else name
        model.get_submodule(end).register_forward_hook(after(bottleneck, F.silu))
    torch.testing.assert_close(ours, logits(model), rtol=1e-5, atol=1e-5)
    assert (ours - plain).abs().max() > 1e-3
    assert len(made) == (8 if architecture in ("bart", "t5") else 4)
    cross = [name for name in made if "Enc" in name or "encoder_attn" in name]
    assert not cross


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_pfeiffer_normalises_before_in_post_norm_encoders(architecture: str) -> None:
    """h = dense(x), z = LayerNorm(h + residual), LayerNorm(h + bottleneck(z) + residual)."""
    model = built(architecture)
    made = put(model, attention=False, twice=True)
    ours = logits(model)
    adapters.detach_all(model)
    for name, bottleneck in made.items():
        end = model.get_submodule(name)
        if architecture not in POST_NORM:
            end.register_forward_hook(after(bottleneck, F.relu))
            continue

        def forward(x: Tensor, residual: Tensor, end: Any = end, bottleneck: Bottleneck = bottleneck) -> Tensor:
            h = F.linear(x, end.dense.weight, end.dense.bias)
            size, norm = h.shape[-1:], end.LayerNorm
            z = F.layer_norm(h + residual, size, norm.weight, norm.bias, norm.eps)
            h = h + added(z, bottleneck, F.relu)
            return F.layer_norm(h + residual, size, norm.weight, norm.bias, norm.eps)

        end.forward = forward
    torch.testing.assert_close(ours, logits(model), rtol=1e-5, atol=1e-5)
    assert len(made) == (4 if architecture in ("bart", "t5") else 2)
    assert not [name for name in made if "att" in name.lower()]


@pytest.mark.parametrize("architecture", ["bert", "t5", "gpt2"])
def test_all_of_a_bottleneck_trains(architecture: str) -> None:
    model = built(architecture)
    model.requires_grad_(False)
    points = insertion_points(model)
    put(model, attention=True, twice=False)
    new = adapters.added_parameters(model)
    assert sum(p.numel() for p in new.values()) == parameters(points, SIZE) == len(points) * (2 * 16 * SIZE + SIZE + 16)
    model.train()
    model(input_ids=IDS).logits.square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in new.values())


def test_the_start_is_cut_off_at_two_deviations() -> None:
    bottleneck = Bottleneck(400, 50, "relu")
    bottleneck.initialize(0.01, torch.Generator().manual_seed(0))
    for layer in (bottleneck.down, bottleneck.up):
        assert layer.weight.abs().max() <= 0.02
        assert layer.weight.std().item() == pytest.approx(0.01 * 0.8796, rel=0.02)  # of a normal cut off there
        assert not layer.bias.any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_layout_rebuilds_them(dtype: torch.dtype, tmp_path: Path) -> None:
    model = base_model.load(tiny.model("bert", tmp_path / "model"), outputs=2, dtype=dtype)
    put(model.model, attention=False, twice=True)
    model.model.eval()
    ours, values = logits(model.model), {name: p.clone() for name, p in adapters.tensors(model.model).items()}
    layout = adapters.layout(model.model)
    adapters.detach_all(model.model)
    adapters.rebuild(model.model, layout)
    model.check_unfrozen()
    adapters.load_tensors(model.model, values)
    assert torch.equal(logits(model.model), ours)
    assert adapters.ranks(model.model) == {} and not adapters.adapted(model.model)
    model.reset(0)
    assert not adapters.added_parameters(model.model)


def test_a_file_from_before_bottlenecks_loads(tmp_path: Path) -> None:
    import json

    from safetensors.torch import load_file, save_file

    model = base_model.load(tiny.model("bert", tmp_path / "model"), outputs=2)
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
