"""Batched factors and the orthogonality penalty, compared with autograd on one matrix at a time."""

import torch
from torch import nn

from autorank.modeling.layers.batched_factors import BatchedFactors, Orthogonality, rows
from autorank.modeling.layers.lora_layer import LowRankUpdate

SHAPES = [(4, 6, 2), (6, 4, 3), (4, 4, 1), (6, 6, 0)]  # in, out, rank


def updates() -> list[LowRankUpdate]:
    generator = torch.Generator().manual_seed(0)
    return [
        LowRankUpdate(
            nn.Parameter(torch.randn(r, i, generator=generator)), nn.Parameter(torch.randn(o, r, generator=generator)),
            1.0, nn.Parameter(torch.randn(r, generator=generator)),
        )
        for i, o, r in SHAPES
    ]  # fmt: skip


def test_splitting_is_the_inverse_of_stacking() -> None:
    matrices = [view for update in updates() for view in rows(update)]
    stacks = BatchedFactors([(m.shape[0], m.shape[1]) for m in matrices])
    stacked = stacks.stack(matrices)
    assert sorted(m.shape[1] for m in stacked) == [1, 4, 6]
    assert all(torch.equal(restored, matrix) for restored, matrix in zip(stacks.split(stacked), matrices, strict=True))


def test_the_penalty_and_its_gradient_equal_autograd() -> None:
    batched, reference = updates(), updates()
    value = Orthogonality()(batched)
    norms = [
        torch.linalg.norm(gram - torch.eye(len(gram)))
        for update in reference
        if update.rank
        for gram in (update.A @ update.A.T, update.B.T @ update.B)
    ]
    expected = torch.stack(norms).mean()
    torch.testing.assert_close(value, expected)
    (3 * value).backward()
    (3 * expected).backward()
    for batched_update, reference_update in zip(batched, reference, strict=True):
        if batched_update.rank:
            torch.testing.assert_close(batched_update.A.grad, reference_update.A.grad)
            torch.testing.assert_close(batched_update.B.grad, reference_update.B.grad)


def test_an_orthogonal_factor_has_no_gradient() -> None:
    update = LowRankUpdate(nn.Parameter(torch.eye(2, 4)), nn.Parameter(torch.eye(6, 2)), 1.0)
    value = Orthogonality()([update])
    value.backward()
    assert value == 0 and not update.A.grad.any() and not update.B.grad.any()  # type: ignore[union-attr]
