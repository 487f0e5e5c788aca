"""Importance, compared with autograd on a materialized ΔW."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from autorank.modeling.layers import importance
from autorank.modeling.layers.adapted_linear import AdaptedLinear
from autorank.modeling.layers.importance import Importance, tiled
from autorank.modeling.layers.lora_layer import LowRankUpdate

SHAPES = {"first": (6, 5, 3), "second": (5, 7, 1), "third": (7, 6, 2)}  # in, out, components


class Net(nn.Module):
    """Three adapted layers; `first` is called twice where there are positions (DeBERTa's query and key)."""

    def __init__(self, dtype: torch.dtype = torch.float64, e: bool = True) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)

        def parameter(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype))

        for scale, (name, (i, o, r)) in enumerate(SHAPES.items(), start=1):
            base = nn.Linear(i, o).requires_grad_(False)
            base.weight.data, base.bias.data = parameter(o, i).data, parameter(o).data
            factors = parameter(r, i), parameter(o, r), scale / 2, parameter(r) if e else None
            setattr(self, name, AdaptedLinear(base, LowRankUpdate(*factors)))

    @property
    def layers(self) -> list[AdaptedLinear]:
        return [getattr(self, name) for name in SHAPES]

    def forward(self, x: Tensor, positions: Tensor | None = None) -> Tensor:
        h = self.first(x)
        if positions is not None:
            h = h * self.first(positions).mean((0, 1))
        return self.third(self.second(h.tanh()).tanh()).square().mean()


def reference(net: Net, batches: list[tuple[Tensor, ...]], loss: Callable[[Tensor], Tensor] = lambda y: y) -> Tensor:
    """Σ |ΔW ∘ G| with every ΔW a leaf of the graph; the micro-batches' gradients are added up first."""
    deltas = [
        (layer.update.scale * layer.update.B * (1 if layer.update.e is None else layer.update.e) @ layer.update.A)
        .detach()
        .requires_grad_()
        for layer in net.layers
    ]
    for batch in batches:
        x, positions = (*batch, None)[:2]

        def call(i: int, x: Tensor) -> Tensor:
            base = net.layers[i].base
            return F.linear(x, base.weight + deltas[i], base.bias)

        h = call(0, x)
        if positions is not None:
            h = h * call(0, positions).mean((0, 1))
        loss(call(2, call(1, h.tanh()).tanh()).square().mean()).backward()
    return torch.stack([(delta * delta.grad).abs().sum() for delta in deltas]).detach()


def measure(net: Net, batches: list[tuple[Tensor, ...]]) -> Tensor:
    watcher = Importance([layer.update for layer in net.layers])
    watcher.watch(len(batches))
    for batch in batches:
        net(*batch).backward()
    result = watcher.take()
    watcher.close()
    return result


def inputs(*shape: int, dtype: torch.dtype = torch.float64, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


@pytest.mark.parametrize("e", [False, True])
def test_importance_equals_autograd(e: bool) -> None:
    net, batches = Net(e=e), [(inputs(4, 3, 6),)]
    torch.testing.assert_close(measure(net, batches).double(), reference(net, batches), rtol=1e-5, atol=0)


def test_outputs_that_the_model_changes_in_place() -> None:
    """The outputs of some layers are views, which Falcon and DeBERTa change in place."""

    class InPlace(Net):
        def forward(self, x: Tensor, positions: Tensor | None = None) -> Tensor:
            h = self.first(x)
            h += 1
            h -= 1
            return self.third(self.second(h.tanh()).tanh()).square().mean()

    batches = [(inputs(4, 3, 6),)]
    torch.testing.assert_close(measure(InPlace(), batches).double(), reference(Net(), batches), rtol=1e-5, atol=0)


def test_a_layer_that_is_called_twice() -> None:
    net, batches = Net(), [(inputs(4, 3, 6), inputs(1, 9, 6, seed=2))]
    together = reference(net, batches)
    torch.testing.assert_close(measure(net, batches).double(), together, rtol=1e-5, atol=0)
    assert not torch.allclose(together[0], reference(net, [(batches[0][0],)])[0], rtol=1e-2)  # the positions matter


@pytest.mark.parametrize("twice", [False, True])
def test_micro_batches_add_up_before_the_absolute_value(twice: bool) -> None:
    positions = (inputs(1, 9, 6, seed=2),) if twice else ()
    net, batches = Net(), [(inputs(2, 3, 6, seed=seed), *positions) for seed in (3, 4, 5)]
    accumulated = reference(net, batches)
    torch.testing.assert_close(measure(net, batches).double(), accumulated, rtol=1e-5, atol=0)
    separate = sum(reference(net, [batch]) for batch in batches)
    assert (accumulated < 0.99 * separate).any()


@pytest.mark.parametrize("tile", [1, 6, 13, 20])
@pytest.mark.parametrize("parts", [1, 2])
def test_tiles_change_nothing(tile: int, parts: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """From one row per tile to a smaller last tile."""
    net, batches = Net(), [(inputs(4, 3, 6, seed=seed), inputs(1, 9, 6)) for seed in range(parts)]
    monkeypatch.setattr(importance, "TILE", tile)
    torch.testing.assert_close(measure(net, batches).double(), reference(net, batches), rtol=1e-5, atol=0)


@pytest.mark.parametrize("parts", [1, 2])
def test_bf16_is_close(parts: int) -> None:
    """Factors in float32 under autocast, as in training; a base in bfloat16."""
    exact, net = Net(), Net(torch.float32)
    for layer in net.layers:
        layer.base.bfloat16()
    batches = [(inputs(8, 3, 6, dtype=torch.float32, seed=seed),) for seed in range(parts)]
    with torch.autocast("cpu", torch.bfloat16):
        actual = measure(net, batches)
    assert actual.dtype == torch.float32
    expected = reference(exact, [(x.double(),) for (x,) in batches])
    torch.testing.assert_close(actual.double(), expected, rtol=0.05, atol=0)


def test_a_scaled_loss_scales_importance() -> None:
    """So that fp16's loss scale can be divided out."""
    net, batches = Net(), [(inputs(4, 3, 6),)]
    scaled = reference(net, batches, lambda loss: 1024 * loss)
    watcher = Importance([layer.update for layer in net.layers])
    watcher.watch(1)
    (1024 * net(*batches[0])).backward()
    torch.testing.assert_close(watcher.take().double(), scaled, rtol=1e-5, atol=0)


def test_inactive_components_contribute() -> None:
    net, batches = Net(), [(inputs(4, 3, 6),)]
    expected = reference(net, batches)
    net.first.update.active = torch.tensor([True, False, False])
    torch.testing.assert_close(measure(net, batches).double(), expected, rtol=1e-5, atol=0)


def test_a_penalty_does_not_contribute() -> None:
    net, batches = Net(), [(inputs(4, 3, 6),)]
    expected = reference(net, batches)
    watcher = Importance([layer.update for layer in net.layers])
    watcher.watch(1)
    net(*batches[0]).backward()
    sum(100 * layer.update.A.square().sum() for layer in net.layers).backward()
    torch.testing.assert_close(watcher.take().double(), expected, rtol=1e-5, atol=0)


def test_steps_are_measured_separately_and_only_when_watched() -> None:
    net, first, second = Net(), (inputs(4, 3, 6),), (inputs(4, 3, 6, seed=7),)
    watcher = Importance([layer.update for layer in net.layers])
    measurements = []
    for watch, batch in ((True, first), (False, second), (True, second), (True, first)):
        if watch:
            watcher.watch(1)
        assert watcher.watching == watch
        net(*batch).backward()
        if watch:
            measurements.append(watcher.take().double())
        assert not watcher.watching
    assert torch.equal(measurements[0], measurements[2])
    torch.testing.assert_close(measurements[1], reference(net, [second]), rtol=1e-5, atol=0)


def test_an_evaluation_in_between_has_no_effect() -> None:
    net, batches = Net(), [(inputs(4, 3, 6),)]
    watcher = Importance([layer.update for layer in net.layers])
    watcher.watch(1)
    with torch.no_grad():
        net(inputs(4, 3, 6, seed=9))
    net(*batches[0]).backward()
    torch.testing.assert_close(watcher.take().double(), reference(net, batches), rtol=1e-5, atol=0)


def test_gradients_are_those_without_importance() -> None:
    def gradients(net: Net) -> list[Tensor]:
        return [p.grad for layer in net.layers for p in layer.update.parameters() if p.grad is not None]

    watched, unwatched, x = Net(), Net(), inputs(4, 3, 6)
    measure(watched, [(x,)])
    unwatched(x).backward()
    actual, expected = gradients(watched), gradients(unwatched)
    assert len(actual) == 9
    for a, b in zip(actual, expected, strict=True):  # unwatched layers compute base and update in one function
        torch.testing.assert_close(a, b, rtol=1e-13, atol=1e-13)


def test_close_removes_all_hooks() -> None:
    net = Net()
    watcher = Importance([layer.update for layer in net.layers])
    assert not any(layer.update._forward_hooks for layer in net.layers)
    watcher.watch(1)
    assert all(layer.update._forward_hooks for layer in net.layers)
    watcher.close()
    assert not any(module._forward_hooks or module._backward_hooks for module in net.modules())
    watcher.close()  # released once more, when the run is over
    net(inputs(4, 3, 6)).backward()


def test_tiled_is_the_plain_sum() -> None:
    net = Net()
    update = net.first.update
    G = inputs(5, 6, seed=3)
    expected = (update.delta_weight() * G).abs().sum()
    torch.testing.assert_close(tiled(update, lambda part: G[part]).double(), expected, rtol=1e-5, atol=0)
