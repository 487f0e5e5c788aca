"""DoRA against PEFT's, on the same values, seeds and examples."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from autorank.errors import AutorankError
from autorank.export.merge import write_merged
from autorank.export.peft_export import write_peft
from autorank.methods import configure, find
from autorank.modeling import adapter_file, adapters, base_model, target_modules
from autorank.modeling.layers import dora
from autorank.modeling.layers.dora import DoraLinear
from autorank.modeling.layers.lora_layer import LowRankUpdate
from tests import tiny_models
from tests.trainables import peft_comparison, reference_training

RANK, ALPHA = 2, 8.0


@pytest.fixture(params=["bert", "llama", "gpt2"])
def architecture(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


def pair(folder: Path, architecture: str, dropout: float = 0.0) -> tuple[nn.Module, Any]:
    """A model with our DoRA and one with PEFT's, with the same A, B and m, which differ from the initial ones."""
    from peft import LoraConfig

    model, names = peft_comparison.tiny_model(folder, architecture)
    peft_base, _ = peft_comparison.tiny_model(folder, architecture)
    config = LoraConfig(r=RANK, lora_alpha=ALPHA, lora_dropout=dropout, use_dora=True, target_modules=names)
    peft_model = peft_comparison.wrap(peft_base, config)
    draw = torch.Generator().manual_seed(0)
    for name in names:
        layer = peft_model.base_model.model.get_submodule(name)
        A, B = layer.lora_A["default"].weight, layer.lora_B["default"].weight
        m = layer.lora_magnitude_vector["default"].weight
        A.data.normal_(0, 0.3, generator=draw), B.data.normal_(0, 0.3, generator=draw)
        update = LowRankUpdate(peft_comparison.copy(A), peft_comparison.copy(B), ALPHA / RANK)
        m.data *= torch.empty_like(m).uniform_(0.5, 1.5, generator=draw)
        update.m = peft_comparison.copy(m)
        adapters.attach(model, name, update, dropout)
    return model, peft_model


def test_m_starts_as_the_norms_of_w0(architecture: str, tmp_path: Path) -> None:
    """Our norms of W0 equal PEFT's initial m."""
    from peft import LoraConfig

    model, names = peft_comparison.tiny_model(tmp_path, architecture)
    peft_base, _ = peft_comparison.tiny_model(tmp_path, architecture)
    peft_model = peft_comparison.wrap(peft_base, LoraConfig(r=RANK, use_dora=True, target_modules=names))
    for name in names:
        magnitude = peft_model.base_model.model.get_submodule(name).lora_magnitude_vector["default"].weight
        torch.testing.assert_close(dora.squared_row_norms(model.get_submodule(name)).sqrt(), magnitude.data)


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_logits_and_gradients_equal_pefts(architecture: str, dropout: float, tmp_path: Path) -> None:
    our_model, peft_model = pair(tmp_path, architecture, dropout)
    ids = torch.randint(4, 40, (3, 11), generator=torch.Generator().manual_seed(1))
    for model in (our_model, peft_model):
        model.train()
        torch.manual_seed(7)
        model.logits = model(input_ids=ids).logits
        model.logits.square().sum().backward()
    torch.testing.assert_close(our_model.logits, peft_model.logits, rtol=1e-4, atol=1e-5)
    for name, layer in adapters.adapted(our_model).items():
        peft_layer = peft_model.base_model.model.get_submodule(name)
        for parameter, peft_parameter in (
            (layer.update.A, peft_layer.lora_A["default"].weight),
            (layer.update.B, peft_layer.lora_B["default"].weight),
            (layer.update.m, peft_layer.lora_magnitude_vector["default"].weight),
        ):
            assert parameter is not None and parameter.grad is not None
            torch.testing.assert_close(
                parameter.grad, peft_parameter.grad, rtol=1e-3, atol=1e-4 * peft_parameter.grad.abs().max().item()
            )
    our_model.eval(), peft_model.eval()
    with torch.no_grad():
        torch.testing.assert_close(
            our_model(input_ids=ids).logits, peft_model(input_ids=ids).logits, rtol=1e-4, atol=1e-5
        )


@pytest.mark.usefixtures("own_cache")
def test_training_equals_pefts(tmp_path: Path) -> None:
    """With weight decay and dropout, from our initial values."""
    from peft import LoraConfig

    settings = {"rank": 2, "alpha": 8, "dropout": 0.2}
    config = {"r": 2, "lora_alpha": 8, "lora_dropout": 0.2, "use_dora": True}
    run, peft_training = peft_comparison.train(
        reference_training.write(tmp_path), "dora", settings, lambda names: LoraConfig(**config, target_modules=names),
        undecayed=("lora_magnitude_vector",),
    )  # fmt: skip
    for name, update in reference_training.updates(run).items():
        peft_layer = peft_training.layers[name]
        torch.testing.assert_close(update.A, peft_layer.lora_A["default"].weight, rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(update.B, peft_layer.lora_B["default"].weight, rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(update.m, peft_layer.lora_magnitude_vector["default"].weight, rtol=1e-3, atol=1e-4)
        assert update.B.abs().max() > 1e-3


class Int8Linear(nn.Module):
    """A layer that can only be called: its weight is stored as int8."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features, self.bias = layer.in_features, layer.out_features, layer.bias
        self.step = layer.weight.abs().max() / 127
        self.weight = nn.Parameter((layer.weight / self.step).round().to(torch.int8), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x, self.weight.to(x.dtype) * self.step.to(x.dtype), self.bias.to(x.dtype))


def dequantized(quantized: Int8Linear) -> nn.Linear:
    layer = nn.Linear(quantized.in_features, quantized.out_features)
    layer.weight.data, layer.bias.data = quantized.weight.float() * quantized.step, quantized.bias.data
    return layer.requires_grad_(False)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_layer_whose_weight_cannot_be_read(dtype: torch.dtype) -> None:
    """W0 is read by calling the layer; in 16 bits a large bias must not round it away."""
    torch.manual_seed(0)
    linear = nn.Linear(24, 10).requires_grad_(False)
    linear.bias.data *= 20
    quantized = Int8Linear(linear)
    from_calls, from_weights = (DoraLinear(layer, dora_update(layer)) for layer in (quantized, dequantized(quantized)))
    torch.testing.assert_close(from_calls.squares, from_weights.squares)
    x = torch.randn(4, 24)
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        tolerance = {"rtol": 2e-2, "atol": 2e-1} if dtype == torch.bfloat16 else {}
        torch.testing.assert_close(from_calls(x).float(), from_weights(x).float(), **tolerance)
    torch.testing.assert_close(from_calls.delta_weight(), from_weights.delta_weight(), rtol=1e-4, atol=1e-5)
    merged = from_weights.base.weight + from_weights.delta_weight()  # type: ignore[operator]
    torch.testing.assert_close(merged.norm(dim=1), from_weights.update.m)


def dora_update(layer: nn.Module) -> LowRankUpdate:
    draw = torch.Generator().manual_seed(3)
    A, B = torch.randn(3, 24, generator=draw), torch.randn(10, 3, generator=draw)
    m = torch.rand(10, generator=draw) + 1
    return LowRankUpdate(nn.Parameter(A), nn.Parameter(B), 0.1, m=nn.Parameter(m))


def test_the_update_alone_has_no_delta_weight() -> None:
    update = dora_update(nn.Identity())
    with pytest.raises(ValueError, match="factor m"):
        update.delta_weight()
    with pytest.raises(ValueError, match="factor m"):
        update.output(torch.randn(2, 24))


@pytest.mark.parametrize("architecture", ["bert", "gpt2"])
def test_merged_and_exported(architecture: str, tmp_path: Path) -> None:
    """The merged model and PEFT give our logits; PEFT cannot express DoRA on only some of the layers."""
    from peft import PeftModel
    from transformers import AutoModelForSequenceClassification

    trained, names = peft_comparison.tiny_base(tmp_path, architecture)
    draw = torch.Generator().manual_seed(0)
    for name in names:
        sizes = target_modules.features(trained.model.get_submodule(name))
        update = LowRankUpdate.lora(*sizes, RANK, ALPHA, draw)
        update.B.data.normal_(0, 0.3, generator=draw)
        update.m = nn.Parameter(torch.rand(sizes[1], generator=draw) + 0.5)
        adapters.attach(trained.model, name, update)
    ids = torch.randint(4, 40, (3, 11), generator=draw)
    trained.model.eval()
    expected = trained.model(input_ids=ids).logits
    file = tmp_path / "adapter.safetensors"
    adapter_file.save(file, trained, adapter_file.Origin(str(tmp_path / "model"), 2, ("no", "yes"), 0))
    restored, _ = adapter_file.load(file)
    assert torch.equal(restored.model(input_ids=ids).logits, expected)
    write_merged(file, tmp_path / "merged")
    merged = AutoModelForSequenceClassification.from_pretrained(tmp_path / "merged").eval()
    torch.testing.assert_close(merged(input_ids=ids).logits, expected, rtol=1e-4, atol=1e-5)
    write_peft(file, tmp_path / "peft")
    base = AutoModelForSequenceClassification.from_pretrained(tmp_path / "model", num_labels=2)
    base.config.pad_token_id = 0
    peft_model = PeftModel.from_pretrained(base, tmp_path / "peft").eval()
    torch.testing.assert_close(peft_model(input_ids=ids).logits, expected, rtol=1e-4, atol=1e-5)
    adapters.adapted(restored.model)[names[0]].update.m = None
    adapters.adapted(restored.model)[names[0]].squares = None
    adapter_file.save(file, restored, adapter_file.Origin(str(tmp_path / "model"), 2, ("no", "yes"), 0))
    with pytest.raises(AutorankError, match=r"uses DoRA, and .*--merge"):
        write_peft(file, tmp_path / "mixed")


def test_parameters_in_closed_form(tmp_path: Path) -> None:
    model = base_model.meta_model(tiny_models.model("bert", tmp_path / "model"))
    config = configure("dora", {"rank": 3, "targets": "all-linear"}).config
    hidden, inner = tiny_models.HIDDEN, 32
    layer = 4 * (3 * 2 * hidden + hidden) + (3 * (hidden + inner) + inner) + (3 * (inner + hidden) + hidden)
    assert find("dora").adapter_params(config, model) == (tiny_models.LAYERS * layer,) * 2


def test_an_update_without_components_leaves_the_rows() -> None:
    base = nn.Linear(5, 3)
    squares = dora.squared_row_norms(base)
    norms = dora.row_norms(base, squares, torch.empty(0, 5), torch.empty(3, 0), 1.0, torch.float32)
    torch.testing.assert_close(norms, base.weight.norm(dim=1).detach())
