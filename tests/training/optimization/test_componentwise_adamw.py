"""Components with separate schedule starts, compared with torch's AdamW over one tensor per component."""

import math
from typing import Any

import pytest
import torch
from torch import nn

from autorank.modeling.layers.lora_layer import LowRankUpdate
from autorank.run_context import CONSTANT, FROZEN
from autorank.training.optimization.optimizer import GroupedAdamW

TOTAL, WARM, PEAK, DECAY = 40, 5, 0.02, 0.1
IN, OUT = 4, 6


def build_optimizer() -> GroupedAdamW:
    optimizer = GroupedAdamW(PEAK, DECAY, TOTAL, WARM)
    optimizer.add_group({"head": nn.Parameter(torch.zeros(1))})
    return optimizer


def random_update(rank: int, generator: torch.Generator) -> LowRankUpdate:
    A, B, e = (torch.randn(*shape, generator=generator) for shape in ((rank, IN), (OUT, rank), (rank,)))
    return LowRankUpdate(nn.Parameter(A), nn.Parameter(B), 1.0, nn.Parameter(e))


def track(optimizer: GroupedAdamW, update: LowRankUpdate) -> None:
    for name, dim in (("A", 0), ("B", 1), ("e", 0)):
        optimizer.add_components(name, getattr(update, name), dim)


def rate(step: int, start: int) -> float:
    """The learning rate: linear warmup over WARM steps, then linear decay to zero at TOTAL."""
    local, length = step - start, TOTAL - start
    return PEAK * (local / WARM if local < WARM else (length - local) / (length - WARM))


class OneByOne:
    """torch's AdamW with a tensor and a group for every row of A, column of B and entry of e."""

    def __init__(self) -> None:
        self.components: list[dict[str, Any]] = []

    def add(self, a: torch.Tensor, b: torch.Tensor, e: torch.Tensor, start: int) -> None:
        parts = [nn.Parameter(part.clone()) for part in (a, b, e)]
        adam = torch.optim.AdamW(parts, lr=PEAK, weight_decay=DECAY, fused=False)
        self.components.append({"parts": parts, "adam": adam, "start": start})

    def step(self, step: int, gradients: list[tuple[torch.Tensor, ...]]) -> None:
        for component, component_gradients in zip(self.components, gradients, strict=True):
            component["adam"].param_groups[0]["lr"] = rate(step, component["start"])
            for part, gradient in zip(component["parts"], component_gradients, strict=True):
                part.grad = gradient.clone()
            component["adam"].step()

    def check(self, update: LowRankUpdate) -> None:
        assert update.e is not None and update.components == len(self.components)
        for i, component in enumerate(self.components):
            for actual, expected in zip((update.A[i], update.B[:, i], update.e[i]), component["parts"], strict=True):
                torch.testing.assert_close(actual, expected, rtol=2e-6, atol=1e-7)


def gradients(update: LowRankUpdate, generator: torch.Generator) -> list[tuple[torch.Tensor, ...]]:
    """Set random gradients on the update, and return them component by component."""
    assert update.e is not None
    for parameter in (update.A, update.B, update.e):
        parameter.grad = torch.randn(parameter.shape, generator=generator)
    A, B, e = update.A.grad, update.B.grad, update.e.grad
    assert A is not None and B is not None and e is not None
    return [(A[i], B[:, i], e[i]) for i in range(update.components)]


def test_growing_and_shrinking_leave_every_component_as_if_it_were_alone() -> None:
    generator = torch.Generator().manual_seed(0)
    optimizer, reference = build_optimizer(), OneByOne()
    # their widths are equal, so they are updated together
    first, second = random_update(2, generator), random_update(3, generator)
    track(optimizer, first)
    for name, dim in (("A", 0), ("B", 1), ("e", 0)):
        optimizer.add_components(f"second.{name}", getattr(second, name), dim)
    assert first.e is not None
    for i in range(2):
        reference.add(first.A[i], first.B[:, i], first.e[i], start=0)
    for step in range(TOTAL):
        if step in (7, 19):
            A, B, e = (torch.randn(*shape, generator=generator) for shape in ((2, IN), (OUT, 2), (2,)))
            first.grow(A, B, e)
            for parameter in (first.A, first.B, first.e):
                optimizer.grow(parameter, start=step - 1)
            for i in range(2):
                reference.add(A[i], B[:, i], e[i], start=step - 1)
        if step == 25:
            index = torch.tensor([0, 2, 5])
            first.keep(index)
            for parameter, dim in ((first.A, 0), (first.B, 1), (first.e, 0)):
                optimizer.keep(parameter, index, dim)
            reference.components = [reference.components[i] for i in index]
        first_gradients = gradients(first, generator)
        gradients(second, generator)
        optimizer.step(step)
        reference.step(step, first_gradients)
        reference.check(first)


def test_frozen_component_is_unchanged_and_starts_with_adams_first_step() -> None:
    generator = torch.Generator().manual_seed(1)
    optimizer, update = build_optimizer(), random_update(3, generator)
    track(optimizer, update)
    assert update.e is not None
    optimizer.set_schedule_start(update.e, torch.tensor([1, 2]), FROZEN)
    frozen = update.e[1:].detach().clone()
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    for step in range(10):
        gradients(update, generator)
        optimizer.unscale(scaler)
        assert update.e.grad is not None and not update.e.grad[1:].any() and update.e.grad[0] != 0
        optimizer.step(step)
    assert torch.equal(update.e[1:], frozen)
    optimizer.set_schedule_start(update.e, torch.tensor([1]), 9)
    gradients(update, generator)
    optimizer.unscale(scaler)
    sign = math.copysign(1.0, float(update.e.grad[1]))  # type: ignore[index]
    optimizer.step(10)
    # Adam's first step is the learning rate itself: here a fifth of the peak
    expected = frozen[0] * (1 - PEAK / WARM * DECAY) - sign * PEAK / WARM
    assert float(update.e[1]) == pytest.approx(float(expected), rel=1e-5)
    assert update.e[2] == frozen[1]


def test_a_constant_schedule_has_the_peak_rate() -> None:
    optimizer = build_optimizer()
    assert [float(optimizer.factor(step, torch.tensor(CONSTANT))) for step in (0, 20, TOTAL)] == [1.0, 1.0, 1.0]


def test_state_is_restored() -> None:
    generator = torch.Generator().manual_seed(2)
    optimizer, update = build_optimizer(), random_update(3, generator)
    track(optimizer, update)
    for step in range(3):
        gradients(update, generator)
        optimizer.step(step)
    state = optimizer.state_dict()
    copies = [nn.Parameter(p.detach().clone()) for p in (update.A, update.B, update.e)]  # type: ignore[union-attr]
    restored = GroupedAdamW(PEAK, DECAY, TOTAL, WARM)
    restored.load_state_dict(state, dict(zip("ABe", copies, strict=True)) | {"head": nn.Parameter(torch.zeros(1))})
    gradients(update, generator)
    for copy, parameter in zip(copies, (update.A, update.B, update.e), strict=True):
        copy.grad = parameter.grad.clone()  # type: ignore[union-attr]
    optimizer.step(3)
    restored.step(3)
    for copy, parameter in zip(copies, (update.A, update.B, update.e), strict=True):
        assert torch.equal(copy, parameter)  # type: ignore[arg-type]
