"""The LoRA layer, compared with autograd on the materialized matrix."""

import pytest
import torch
from torch import nn

from autorank.modeling.layers.adapted_linear import AdaptedLinear
from autorank.modeling.layers.lora_layer import LowRankUpdate

IN, OUT, RANK = 7, 5, 3


def make(e: bool = False, u: bool = False, seed: int = 0) -> LowRankUpdate:
    generator = torch.Generator().manual_seed(seed)

    def parameter(*shape: int) -> nn.Parameter:
        return nn.Parameter(torch.randn(*shape, generator=generator, dtype=torch.float64))

    return LowRankUpdate(
        parameter(RANK, IN), parameter(OUT, RANK), 0.7, parameter(RANK) if e else None, parameter(OUT) if u else None
    )


@pytest.mark.parametrize("e", [False, True])
@pytest.mark.parametrize("u", [False, True])
def test_output_and_gradients_equal_the_materialised_matrix(e: bool, u: bool) -> None:
    base, update = nn.Linear(IN, OUT).double().requires_grad_(False), make(e, u)
    layer = AdaptedLinear(base, update)
    x = torch.randn(2, 4, IN, dtype=torch.float64, requires_grad=True)
    leaves = [x, *update.parameters()]
    plain_e = update.e if e else torch.ones(RANK, dtype=torch.float64)
    plain_u = update.u if u else torch.ones(OUT, dtype=torch.float64)
    delta = 0.7 * torch.diag(plain_u) @ update.B @ torch.diag(plain_e) @ update.A
    expected = x @ (base.weight + delta).T + base.bias
    actual = layer(x)
    torch.testing.assert_close(actual, expected)
    torch.testing.assert_close(update.delta_weight(), delta)
    torch.testing.assert_close(update.output(x), x @ delta.T)
    weights = torch.randn_like(actual)
    for gradient, expected_gradient in zip(
        torch.autograd.grad((actual * weights).sum(), leaves),
        torch.autograd.grad((expected * weights).sum(), leaves),
        strict=True,
    ):
        torch.testing.assert_close(gradient, expected_gradient)


def test_gradcheck() -> None:
    update = make(e=True, u=True)
    x, y = torch.randn(3, IN, dtype=torch.float64), torch.randn(3, OUT, dtype=torch.float64)

    def function(A, B, e, u, x, y):  # type: ignore[no-untyped-def]
        return torch.func.functional_call(update, {"A": A, "B": B, "e": e, "u": u}, (x, y))

    inputs = [t.detach().clone().requires_grad_() for t in (update.A, update.B, update.e, update.u, x, y)]
    assert torch.autograd.gradcheck(function, inputs)


def test_dropout_acts_in_training_only() -> None:
    layer = AdaptedLinear(nn.Linear(IN, OUT).double(), make(), dropout=0.5)
    x = torch.randn(64, IN, dtype=torch.float64)
    layer.eval()
    torch.testing.assert_close(layer(x), layer.update(x, layer.base(x)))
    layer.train()
    assert not torch.equal(layer(x), layer.update(x, layer.base(x)))


def test_lora_starts_as_the_base_and_is_initialized_by_seed() -> None:
    updates = [LowRankUpdate.lora(IN, OUT, RANK, 16, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)]
    assert torch.equal(updates[0].A, updates[1].A) and not torch.equal(updates[0].A, updates[2].A)
    assert updates[0].scale == 16 / RANK and not updates[0].delta_weight().any()
    assert updates[0].A.abs().max() <= 1 / IN**0.5  # Kaiming-uniform with a = sqrt(5)


def test_half_precision_base_with_float32_factors() -> None:
    layer = AdaptedLinear(nn.Linear(IN, OUT).bfloat16(), LowRankUpdate.lora(IN, OUT, RANK, 16, torch.Generator()))
    assert layer(torch.randn(2, IN).bfloat16()).dtype == torch.bfloat16
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(torch.randn(2, IN)).dtype == torch.bfloat16


def test_grow_then_keep_is_the_update_as_before() -> None:
    update = make(e=True)
    before, parameters = update.delta_weight().clone(), list(update.parameters())
    update.grow(torch.randn(2, IN), torch.randn(OUT, 2), torch.zeros(2))
    assert update.rank == RANK + 2
    torch.testing.assert_close(update.delta_weight(), before)  # new components with e = 0 change nothing
    update.keep(torch.arange(RANK))
    torch.testing.assert_close(update.delta_weight(), before)
    assert [id(p) for p in update.parameters()] == [id(p) for p in parameters]


def test_after_growing_it_still_trains() -> None:
    update = make()
    x = torch.randn(4, IN, dtype=torch.float64)
    update(x, torch.zeros(4, OUT, dtype=torch.float64)).sum().backward()
    update.grow(torch.randn(1, IN), torch.randn(OUT, 1))
    update(x, torch.zeros(4, OUT, dtype=torch.float64)).sum().backward()
    assert update.A.grad is not None and update.A.grad.shape == (RANK + 1, IN)


def test_rank_zero_is_the_base() -> None:
    update = make()
    update.keep(torch.tensor([], dtype=torch.long))
    y = torch.randn(2, OUT, dtype=torch.float64)
    assert torch.equal(update(torch.randn(2, IN, dtype=torch.float64), y), y)


def with_inactive_component(e: bool = True) -> LowRankUpdate:
    """An update of three components, of which the second is inactive: used in training only."""
    update = make(e)
    update.active = torch.tensor([True, False, True])
    return update


@pytest.mark.parametrize("e", [False, True])
def test_inactive_components_exist_only_in_training(e: bool) -> None:
    update, all_active, pruned = with_inactive_component(e), make(e), make(e)
    pruned.keep(torch.tensor([0, 2]))
    x, y = torch.randn(2, 4, IN, dtype=torch.float64), torch.randn(2, 4, OUT, dtype=torch.float64)
    torch.testing.assert_close(update.train()(x, y), all_active(x, y))
    torch.testing.assert_close(update.eval()(x, y), pruned(x, y))
    assert not torch.allclose(all_active(x, y), pruned(x, y))
    assert update.rank == 2 and update.components == 3
    for factor, expected_factor in zip(update.folded(), pruned.folded(), strict=True):
        assert torch.equal(factor, expected_factor)
    torch.testing.assert_close(update.delta_weight(), pruned.delta_weight())
    torch.testing.assert_close(update.output(x), pruned.output(x))


def test_an_adapted_layer_sets_the_mode_of_its_update() -> None:
    layer = AdaptedLinear(nn.Linear(IN, OUT).double(), with_inactive_component())
    x = torch.randn(2, IN, dtype=torch.float64)
    trained = layer.train()(x)
    evaluated = layer.eval()(x)
    torch.testing.assert_close(evaluated, layer.base(x) + layer.update.output(x))
    assert not torch.allclose(trained, evaluated)


def test_inactive_components_are_trained() -> None:
    update, reference = with_inactive_component().train(), make(e=True)
    x, y = torch.randn(4, IN, dtype=torch.float64), torch.zeros(4, OUT, dtype=torch.float64)
    update(x, y).square().sum().backward()
    reference(x, y).square().sum().backward()
    for actual, expected in zip(update.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(actual.grad, expected.grad)


def test_without_active_components_evaluation_is_that_of_the_base() -> None:
    update = make(e=True)
    update.active = torch.zeros(RANK, dtype=torch.bool)
    x, y = torch.randn(2, IN, dtype=torch.float64), torch.randn(2, OUT, dtype=torch.float64)
    torch.testing.assert_close(update.eval()(x, y), y)
    assert update.rank == 0 and not update.delta_weight().any()
    assert not torch.allclose(update.train()(x, y), y)


def test_keep_and_grow_preserve_the_active_mask() -> None:
    update = with_inactive_component()
    before = update.delta_weight()
    update.grow(torch.randn(2, IN), torch.randn(OUT, 2), torch.randn(2))
    assert update.active is not None and update.active.tolist() == [True, False, True, False, False]
    torch.testing.assert_close(update.delta_weight(), before)  # new components are inactive too
    update.keep(torch.tensor([4, 2, 0]))
    assert update.active.tolist() == [False, True, True]
    torch.testing.assert_close(update.delta_weight(), before)
    update.active = None
    update.grow(torch.randn(1, IN), torch.randn(OUT, 1), torch.ones(1))
    assert update.active is None and update.rank == 4  # new components are active at once


def test_new_components_need_a_factor_e_where_there_is_one() -> None:
    with pytest.raises(ValueError, match="factor e"):
        make(e=True).grow(torch.randn(1, IN), torch.randn(OUT, 1))


def test_replaced_components_use_the_same_parameters() -> None:
    update = make()
    A, B = update.A, update.B
    update.output(torch.ones(1, IN, dtype=torch.float64)).sum().backward()
    update.replace(torch.ones(2, IN), torch.ones(OUT, 2))
    assert update.A is A and update.B is B and A.grad is None and B.grad is None
    assert update.rank == 2 and A.dtype == torch.float64
    torch.testing.assert_close(update.delta_weight(), torch.full((OUT, IN), 1.4, dtype=torch.float64))
    with pytest.raises(ValueError, match="cannot replace the components"):
        make(e=True).replace(A, B)
