"""Components with schedule starts of their own, against torch's AdamW over one tensor a component."""

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


def optimizer() -> GroupedAdamW:
    made = GroupedAdamW(PEAK, DECAY, TOTAL, WARM)
    made.add_group({"head": nn.Parameter(torch.zeros(1))})
    return made


def update(rank: int, draw: torch.Generator) -> LowRankUpdate:
    A, B, e = (torch.randn(*shape, generator=draw) for shape in ((rank, IN), (OUT, rank), (rank,)))
    return LowRankUpdate(nn.Parameter(A), nn.Parameter(B), 1.0, nn.Parameter(e))


def track(ours: GroupedAdamW, held: LowRankUpdate) -> None:
    for name, dim in (("A", 0), ("B", 1), ("e", 0)):
        ours.add_components(name, getattr(held, name), dim)


def rate(step: int, start: int) -> float:
    """The schedule in plain words: up over WARM steps, down to zero at TOTAL."""
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
        for component, given in zip(self.components, gradients, strict=True):
            component["adam"].param_groups[0]["lr"] = rate(step, component["start"])
            for part, gradient in zip(component["parts"], given, strict=True):
                part.grad = gradient.clone()
            component["adam"].step()

    def check(self, held: LowRankUpdate) -> None:
        assert held.e is not None and held.components == len(self.components)
        for i, component in enumerate(self.components):
            for ours, theirs in zip((held.A[i], held.B[:, i], held.e[i]), component["parts"], strict=True):
                torch.testing.assert_close(ours, theirs, rtol=2e-6, atol=1e-7)


def gradients(held: LowRankUpdate, draw: torch.Generator) -> list[tuple[torch.Tensor, ...]]:
    """Random ones, put on the update and returned component by component."""
    assert held.e is not None
    for parameter in (held.A, held.B, held.e):
        parameter.grad = torch.randn(parameter.shape, generator=draw)
    A, B, e = held.A.grad, held.B.grad, held.e.grad
    assert A is not None and B is not None and e is not None
    return [(A[i], B[:, i], e[i]) for i in range(held.components)]


def test_growing_and_shrinking_leave_every_component_as_if_it_were_alone() -> None:
    draw = torch.Generator().manual_seed(0)
    ours, reference = optimizer(), OneByOne()
    first, second = update(2, draw), update(3, draw)  # of equal width: they are moved together
    track(ours, first)
    for name, dim in (("A", 0), ("B", 1), ("e", 0)):
        ours.add_components(f"second.{name}", getattr(second, name), dim)
    assert first.e is not None
    for i in range(2):
        reference.add(first.A[i], first.B[:, i], first.e[i], start=0)
    for step in range(TOTAL):
        if step in (7, 19):
            A, B, e = (torch.randn(*shape, generator=draw) for shape in ((2, IN), (OUT, 2), (2,)))
            first.grow(A, B, e)
            for parameter in (first.A, first.B, first.e):
                ours.grow(parameter, start=step - 1)
            for i in range(2):
                reference.add(A[i], B[:, i], e[i], start=step - 1)
        if step == 25:
            index = torch.tensor([0, 2, 5])
            first.keep(index)
            for parameter, dim in ((first.A, 0), (first.B, 1), (first.e, 0)):
                ours.keep(parameter, index, dim)
            reference.components = [reference.components[i] for i in index]
        given = gradients(first, draw)
        gradients(second, draw)
        ours.step(step)
        reference.step(step, given)
        reference.check(first)


def test_frozen_component_is_unchanged_and_starts_with_adams_first_step() -> None:
    draw = torch.Generator().manual_seed(1)
    ours, held = optimizer(), update(3, draw)
    track(ours, held)
    assert held.e is not None
    ours.set_schedule_start(held.e, torch.tensor([1, 2]), FROZEN)
    asleep = held.e[1:].detach().clone()
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    for step in range(10):
        gradients(held, draw)
        ours.unscale(scaler)
        assert held.e.grad is not None and not held.e.grad[1:].any() and held.e.grad[0] != 0
        ours.step(step)
    assert torch.equal(held.e[1:], asleep)
    ours.set_schedule_start(held.e, torch.tensor([1]), 9)
    gradients(held, draw)
    ours.unscale(scaler)
    sign = math.copysign(1.0, float(held.e.grad[1]))  # type: ignore[index]
    ours.step(10)
    # Adam's first step is the learning rate itself: here a fifth of the peak
    expected = asleep[0] * (1 - PEAK / WARM * DECAY) - sign * PEAK / WARM
    assert float(held.e[1]) == pytest.approx(float(expected), rel=1e-5)
    assert held.e[2] == asleep[1]


def test_a_constant_clock_has_the_peak_rate() -> None:
    ours = optimizer()
    assert [float(ours.factor(step, torch.tensor(CONSTANT))) for step in (0, 20, TOTAL)] == [1.0, 1.0, 1.0]


def test_state_comes_back() -> None:
    draw = torch.Generator().manual_seed(2)
    ours, held = optimizer(), update(3, draw)
    track(ours, held)
    for step in range(3):
        gradients(held, draw)
        ours.step(step)
    state = ours.state_dict()
    copies = [nn.Parameter(p.detach().clone()) for p in (held.A, held.B, held.e)]  # type: ignore[union-attr]
    again = GroupedAdamW(PEAK, DECAY, TOTAL, WARM)
    again.load_state_dict(state, dict(zip("ABe", copies, strict=True)) | {"head": nn.Parameter(torch.zeros(1))})
    gradients(held, draw)
    for copy, parameter in zip(copies, (held.A, held.B, held.e), strict=True):
        copy.grad = parameter.grad.clone()  # type: ignore[union-attr]
    ours.step(3)
    again.step(3)
    for copy, parameter in zip(copies, (held.A, held.B, held.e), strict=True):
        assert torch.equal(copy, parameter)  # type: ignore[arg-type]
