"""Learning rate schedules, and moments of adapters that change size."""

import pytest
import torch
from torch import nn

from autorank.training.optimization.optimizer import GroupedAdamW, undecayed


def factor(optimizer: GroupedAdamW, step: int, start: int) -> float:
    return float(optimizer.factor(step, torch.tensor(start)))


def test_the_first_group_follows_transformers_linear_schedule() -> None:
    from transformers import get_linear_schedule_with_warmup

    parameter = nn.Parameter(torch.ones(1))
    reference = torch.optim.AdamW([parameter], lr=1.0)
    schedule = get_linear_schedule_with_warmup(reference, num_warmup_steps=6, num_training_steps=40)
    optimizer = GroupedAdamW(1.0, 0.0, total_steps=40, warmup_steps=6)
    for step in range(40):
        assert factor(optimizer, step, start=0) == pytest.approx(schedule.get_last_lr()[0])
        reference.step(), schedule.step()


def test_a_later_group_has_its_own_warmup_and_the_same_end() -> None:
    optimizer = GroupedAdamW(1.0, 0.0, total_steps=40, warmup_steps=5)
    assert [factor(optimizer, step, start=20) for step in (20, 21, 25, 40)] == pytest.approx([0.0, 0.2, 1.0, 0.0])
    assert factor(optimizer, 32, start=20) == pytest.approx((40 - 32) / (40 - 20 - 5))


def test_weight_decay_spares_biases_and_norms() -> None:
    optimizer = GroupedAdamW(1.0, 0.1, 10, 0)
    optimizer.add_group({name: nn.Parameter(torch.ones(1)) for name in ("a.weight", "a.bias", "LayerNorm.weight")})
    assert {tuple(group["names"]): group["weight_decay"] for group in optimizer.groups} == {
        ("a.weight",): 0.1,
        ("a.bias", "LayerNorm.weight"): 0.0,
    }


@pytest.mark.parametrize(
    ("name", "spared"),
    [
        ("roberta_prelayernorm.encoder.layer.0.attention.self.query.update.A", False),
        ("transformer.h.0.ln_1.weight", True),
        ("transformer.layer_norm1.0.weight", True),
        ("model.layers.0.self_attn.q_norm.weight", True),
        ("model.layers.0.mlp.linear.weight", False),
        ("bert.encoder.layer.0.attention.self.query.update.m", True),  # of DoRA
        ("weight", False),
    ],
)
def test_the_innermost_module_decides_about_weight_decay(name: str, spared: bool) -> None:
    assert undecayed(name) == spared


def test_moments_survive_shrinking_exactly() -> None:
    """Two separate tensors against one whose second half is dropped: the first half continues bit for bit."""
    generator = torch.Generator().manual_seed(0)
    values, gradients = torch.randn(4, 3, generator=generator), torch.randn(6, 4, 3, generator=generator)
    shrinking, half = nn.Parameter(values.clone()), nn.Parameter(values[:2].clone())
    optimizers = []
    for parameter in (shrinking, half):
        optimizer = GroupedAdamW(0.01, 0.1, total_steps=10, warmup_steps=0)
        optimizer.add_group({"p": parameter})
        optimizers.append(optimizer)
    for step in range(6):
        if step == 3:
            shrinking.data = shrinking.data[:2].contiguous()
            optimizers[0].keep(shrinking, torch.tensor([0, 1]), 0)
        shrinking.grad, half.grad = gradients[step, : len(shrinking)].clone(), gradients[step, :2].clone()
        for optimizer in optimizers:
            optimizer.step(step)
            optimizer.zero_grad()
    assert torch.equal(shrinking, half)


@pytest.mark.parametrize("dim", [0, 1])
def test_moments_are_combined_as_gradients_are(dim: int) -> None:
    """A rotation after three steps, or before any: first moments are the same, second ones are combined by squares."""
    generator = torch.Generator().manual_seed(0)
    values, gradients = torch.randn(4, 3, generator=generator), torch.randn(3, 4, 3, generator=generator)
    Q = torch.linalg.qr(torch.randn(4, 4, generator=generator)).Q
    original, rotated = ((t if dim == 0 else t.mT).contiguous() for t in (values, Q @ values))
    states = []
    for parameter, turned in ((nn.Parameter(original), False), (nn.Parameter(rotated), True)):
        optimizer = GroupedAdamW(0.01, 0.0, total_steps=10, warmup_steps=0)
        optimizer.add_group({"p": parameter})
        for step in range(3):
            gradient = Q @ gradients[step] if turned else gradients[step]
            parameter.grad = (gradient if dim == 0 else gradient.mT).contiguous()
            optimizer.step(step)
        if not turned:
            second = optimizer.state_dict()["moments"]["p"]["exp_avg_sq"]
            optimizer.combine(parameter, Q[:2], dim)
        states.append(optimizer.state_dict()["moments"]["p"])
    combined, reference = states
    first = reference["exp_avg"][:2] if dim == 0 else reference["exp_avg"][:, :2]
    torch.testing.assert_close(combined["exp_avg"], first)
    expected = Q[:2].square() @ (second if dim == 0 else second.mT)
    torch.testing.assert_close(combined["exp_avg_sq"], expected if dim == 0 else expected.mT)
    assert combined["step"] == 3
