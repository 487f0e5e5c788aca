"""PiSSA against PEFT's, which writes the residual into the base, and against the decomposition itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from autorank.errors import AutorankError
from autorank.export.merge import merge
from autorank.methods import configure, find
from autorank.modeling import adapters, base_model, target_modules
from autorank.modeling.layers.adapted_linear import AdaptedLinear
from autorank.modeling.layers.lora_layer import LowRankUpdate
from autorank.training.run import TrainingRun
from tests import tiny_models
from tests.trainables import peft_comparison, reference_training
from tests.trainables.conformance_runs import logits
from tests.trainables.test_dora import Int8Linear, dequantized
from trainables import pissa

pytestmark = pytest.mark.usefixtures("own_cache")

RANK = 3


def pair(folder: Path, architecture: str) -> tuple[nn.Module, Any]:
    """A model with our PiSSA and one with PEFT's."""
    from peft import LoraConfig

    model, names = peft_comparison.tiny_model(folder, architecture)
    peft_base, _ = peft_comparison.tiny_model(folder, architecture)
    starts = pissa.principal({name: model.get_submodule(name) for name in names}, RANK)
    for name in names:
        adapters.attach(model, name, pissa_update(starts[f"{name}.A"], starts[f"{name}.B"]))
    config = LoraConfig(r=RANK, lora_alpha=RANK, init_lora_weights="pissa", target_modules=names)
    return model, peft_comparison.wrap(peft_base, config)


def pissa_update(A: Tensor, B: Tensor) -> LowRankUpdate:
    frozen = nn.Parameter(A.clone(), requires_grad=False), nn.Parameter(B.clone(), requires_grad=False)
    return LowRankUpdate(nn.Parameter(A.clone()), nn.Parameter(B.clone()), 1.0, start=frozen)


@pytest.mark.parametrize("architecture", ["bert", "llama", "gpt2"])
def test_initial_weights_equal_pefts(architecture: str, tmp_path: Path) -> None:
    our_model, peft_model = pair(tmp_path, architecture)
    base, _ = peft_comparison.tiny_model(tmp_path, architecture)
    ids = torch.randint(4, 40, (3, 11), generator=torch.Generator().manual_seed(1))
    logits = []
    for model in (our_model, peft_model):
        logits.append(model(input_ids=ids).logits)
        logits[-1].square().sum().backward()
    assert torch.equal(logits[0], base(input_ids=ids).logits)
    torch.testing.assert_close(logits[0], logits[1], rtol=1e-4, atol=1e-5)
    for name, layer in adapters.adapted(our_model).items():
        peft_layer = peft_model.base_model.model.get_submodule(name)
        A, B = peft_layer.lora_A["default"].weight, peft_layer.lora_B["default"].weight
        signs = (A * layer.update.A).sum(dim=1).sign().detach()  # signs of singular vectors are arbitrary
        torch.testing.assert_close(layer.update.A, signs[:, None] * A, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(layer.update.B, signs * B, rtol=1e-4, atol=1e-5)
        for parameter, gradient in ((layer.update.A, signs[:, None] * A.grad), (layer.update.B, signs * B.grad)):
            assert parameter.grad is not None
            torch.testing.assert_close(parameter.grad, gradient, rtol=1e-3, atol=1e-4 * gradient.abs().max().item())


def test_training_equals_pefts(tmp_path: Path) -> None:
    from peft import LoraConfig

    config = {"r": 2, "lora_alpha": 2, "init_lora_weights": "pissa"}
    run, peft_training = peft_comparison.train(
        reference_training.write(tmp_path),
        "pissa",
        {"rank": 2},
        lambda names: LoraConfig(**config, target_modules=names),
        copy_start=False,
        undecayed=("lora_A", "lora_B"),
    )
    for name, update in reference_training.updates(run).items():
        peft_layer = peft_training.layers[name]
        product = peft_layer.lora_B["default"].weight @ peft_layer.lora_A["default"].weight
        torch.testing.assert_close(update.B @ update.A, product, rtol=1e-3, atol=1e-4)
        assert (update.A - update.A0).abs().max() > 1e-3
        assert update.A0 is not None and update.A0.grad is None and not update.A0.requires_grad


def test_directions_are_the_principal_ones() -> None:
    """The best approximation of a rank (Eckart and Young): the remainder has the other singular values."""
    torch.manual_seed(0)
    layers: dict[str, nn.Module] = {"wide": nn.Linear(20, 9), "tall": nn.Linear(9, 20)}
    factors = pissa.principal(layers, 4)
    for name, layer in layers.items():
        A, B, weight = factors[f"{name}.A"], factors[f"{name}.B"], layer.weight.detach()  # type: ignore[operator]
        values = torch.linalg.svdvals(weight)
        torch.testing.assert_close(torch.linalg.svdvals(weight - B @ A)[:5], values[4:9])
        torch.testing.assert_close(A @ A.T, values[:4].diag(), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(B.T @ B, values[:4].diag(), rtol=1e-4, atol=1e-5)
        assert (A.gather(1, A.abs().argmax(1, keepdim=True)) > 0).all()


def test_a_layer_whose_weight_cannot_be_read() -> None:
    torch.manual_seed(0)
    quantized = Int8Linear(nn.Linear(24, 10).requires_grad_(False))
    from_calls, from_weights = (pissa.principal({"x": layer}, 4) for layer in (quantized, dequantized(quantized)))
    for key in from_calls:
        torch.testing.assert_close(from_calls[key], from_weights[key], rtol=1e-4, atol=1e-4)


def test_small_updates_survive_16_bits() -> None:
    """A small change of a large start: the difference of two products in 16 bits would be lost in rounding."""
    torch.manual_seed(0)
    layer = nn.Linear(64, 32).requires_grad_(False)
    layer.weight.data *= 30
    factors = pissa.principal({"x": layer}, RANK)
    adapted = AdaptedLinear(layer, pissa_update(factors["x.A"], factors["x.B"]))
    x = torch.randn(16, 64)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(adapted(x), layer(x))
        zero = torch.zeros(16, 32)
        adapted.update.B.data += 1e-3
        moved = adapted.update(x, zero).float()
    torch.testing.assert_close(moved, x @ adapted.delta_weight().T, rtol=2e-2, atol=1e-4)


def test_the_rank_of_an_update_with_a_start_is_fixed() -> None:
    draw = torch.Generator().manual_seed(0)
    update = pissa_update(torch.randn(2, 5, generator=draw), torch.randn(4, 2, generator=draw))
    with pytest.raises(ValueError, match="start"):
        update.keep(torch.tensor([0]))
    with pytest.raises(ValueError, match="start"):
        update.grow(torch.randn(1, 5), torch.randn(4, 1))
    with pytest.raises(ValueError, match="start"):
        LowRankUpdate(update.A, update.B, 1.0, nn.Parameter(torch.ones(2)), start=(update.A, update.B))
    update.B.data += torch.randn(4, 2, generator=draw)
    assert update.A0 is not None and update.B0 is not None
    delta = update.B @ update.A - update.B0 @ update.A0
    torch.testing.assert_close(update.delta_weight(), delta)
    x = torch.randn(3, 5, generator=draw)
    torch.testing.assert_close(update(x, torch.zeros(3, 4)), x @ delta.T)
    torch.testing.assert_close(update.output(x), x @ delta.T)
    assert update.rank == 2 and [len(part) for part in (update.folded()[0], update.folded()[1].T)] == [4, 4]


def test_merged(tmp_path: Path) -> None:
    run = TrainingRun(reference_training.spec(reference_training.write(tmp_path), "pissa", {"rank": 2}, steps=4))
    list(run)
    expected = logits(run)
    batch = reference_training.validation(run)
    batch.pop("labels")
    merge(run._base.model)
    assert not adapters.adapted(run._base.model)
    torch.testing.assert_close(run._base.model(**batch).logits, expected, rtol=1e-4, atol=1e-5)


def test_other_runs_reuse_the_decomposition(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs of any rank up to the number of cached directions."""
    reference_training.write(tmp_path)
    first = list(TrainingRun(reference_training.spec(tmp_path, "pissa", {"rank": 2}, steps=3)))

    def fail(*_: Any) -> None:
        raise AssertionError("decomposed again")

    monkeypatch.setattr(pissa, "principal", fail)
    rerun = list(TrainingRun(reference_training.spec(tmp_path, "pissa", {"rank": 2}, steps=3)))
    assert [e.train_loss for e in rerun] == [e.train_loss for e in first]
    higher_rank = next(
        TrainingRun(reference_training.spec(tmp_path, "pissa", {"rank": 5, "learning_rate": 1e-3}, steps=3))
    )
    assert set(higher_rank.ranks.values()) == {5}


def test_rank_above_the_matrix_rank_is_refused(tmp_path: Path) -> None:
    run = TrainingRun(
        reference_training.spec(reference_training.write(tmp_path), "pissa", {"rank": tiny_models.HIDDEN + 1}, steps=3)
    )
    with pytest.raises(AutorankError, match=r"rank 17 .* 16\. Lower rank"):
        next(run)


def test_parameters_in_closed_form(tmp_path: Path) -> None:
    model = base_model.meta_model(tiny_models.model("bert", tmp_path / "model"))
    config = configure("pissa", {"rank": 3, "targets": "all-linear"}).config
    total = 3 * sum(map(sum, target_modules.shapes(model, "all-linear").values()))
    assert find("pissa").adapter_params(config, model) == (total, total)


def test_large_layers_have_a_randomised_svd_that_is_as_good() -> None:
    """On a weight with a decaying spectrum; the seed is fixed, and the process's random state does not change."""
    draw = torch.Generator().manual_seed(3)
    left_vectors, right_vectors = (torch.linalg.qr(torch.randn(size, 1100, generator=draw))[0] for size in (1300, 1100))
    values = 1 / torch.arange(1, 1101) ** 0.5
    layer = nn.Linear(1100, 1300)
    layer.weight.data = left_vectors @ (values[:, None] * right_vectors.T)
    state = torch.get_rng_state()
    starts, repeated = (pissa.principal({"layer": layer}, 8) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), state) and torch.equal(starts["layer.A"], repeated["layer.A"])
    assert starts["layer.A"].shape == (8, 1100)
    exact = left_vectors[:, :8] @ (values[:8, None] * right_vectors.T[:8])
    torch.testing.assert_close(starts["layer.B"] @ starts["layer.A"], exact, rtol=0, atol=2e-4)
    torch.testing.assert_close(starts["layer.A"].norm(dim=1).square(), values[:8], rtol=1e-3, atol=0)
