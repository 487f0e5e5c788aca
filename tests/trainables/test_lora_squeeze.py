"""LoRA-Squeeze against a plain reference with full SVDs in numpy, and its bounds against enumeration."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from autorank.errors import AutorankError
from autorank.methods import configure, find
from autorank.modeling import adapters
from autorank.modeling.layers.lora_layer import LowRankUpdate
from autorank.modeling.spectrum import Spectrum
from autorank.run_context import RunContext
from autorank.training.run import TrainingRun
from tests.trainables import reference_training
from tests.trainables.reference_lora_squeeze import ReferenceLoRASqueeze
from trainables.lora_squeeze import prefix_bounds

pytestmark = pytest.mark.usefixtures("own_cache")

STEPS = 30
SETTINGS = {"mean_rank": 2, "source_rank": 6}
VARIANTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "defaults": ({}, {}),
    "one cut, a mean that is not an integer": ({"mean_rank": 2.4, "stages": 1}, {}),
    "many cuts, weight decay, micro-batches": ({"stages": 7, "final": 0.2}, {"weight_decay": 0.1, "accumulate": 2}),
}


def check_moments(run: TrainingRun, reference: ReferenceLoRASqueeze) -> None:
    """Compare the moments after a cut, up to the signs of singular vectors."""
    moments = run._loop.optimizer.state_dict()["moments"]
    for name, update in reference_training.updates(run).items():
        signs = (update.A * reference.A[name]).sum(1).sign().detach()
        for factor, parameters, flip in (("A", reference.A, signs[:, None]), ("B", reference.B, signs)):
            expected, actual = reference.optimizer.state[parameters[name]], moments[f"{name}.update.{factor}"]
            for moment, sign in (("exp_avg", flip), ("exp_avg_sq", 1)):
                largest = float(expected[moment].abs().max()) if expected[moment].numel() else 0.0
                torch.testing.assert_close(actual[moment] * sign, expected[moment], rtol=1e-2, atol=1e-3 * largest)


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_step_equals_the_reference(variant: str, bert: Path) -> None:
    settings, training = VARIANTS[variant]
    train_spec = reference_training.spec(bert, "lora-squeeze", SETTINGS | settings, steps=STEPS, **training)
    run, reference = TrainingRun(train_spec), ReferenceLoRASqueeze(train_spec)
    for evaluation in reference_training.lockstep(run, reference):
        assert evaluation.ranks == {name: len(A) for name, A in reference.A.items()}
        if evaluation.step - 1 in reference.cuts:
            budget = reference.cuts[evaluation.step - 1]
            assert budget - max(reference.sizes.values()) < evaluation.adapter_params <= budget
            check_moments(run, reference)
    for name, update in reference_training.updates(run).items():
        torch.testing.assert_close(update.delta_weight(), reference.delta_weight(name), rtol=1e-2, atol=1e-4)
    assert len(reference.cuts) == train_spec.settings.get("stages", 3)
    assert len(set(evaluation.ranks.values())) > 1
    assert reference.smallest_gap > 1e-3  # no ties


def test_moments_are_transformed_like_gradients() -> None:
    """Gradients of the new factors by autograd equal the combinations of the old factors' gradients."""
    draw = torch.Generator().manual_seed(0)
    A, B, G, P, Q = (torch.randn(*n, generator=draw).double() for n in ((4, 7), (5, 4), (5, 7), (2, 4), (4, 2)))

    def gradients(update: LowRankUpdate) -> tuple[torch.Tensor, ...]:
        return torch.autograd.grad((update.delta_weight() * G).sum(), (update.A, update.B))

    update = LowRankUpdate(nn.Parameter(A), nn.Parameter(B), 0.5)
    old = dict(zip((update.A, update.B), gradients(update), strict=True))
    combined = []

    class Recorder:
        def combine(self, parameter: nn.Parameter, coefficients: torch.Tensor, dim: int) -> None:
            combined.append(coefficients @ old[parameter] if dim == 0 else old[parameter] @ coefficients.T)

    RunContext.replace(SimpleNamespace(optimizer=Recorder()), update, P @ A, B @ Q)  # type: ignore[arg-type]
    for actual, expected in zip(combined, gradients(update), strict=True):
        torch.testing.assert_close(actual, expected)


def test_without_cuts_training_equals_lora(bert: Path) -> None:
    """Bit for bit: an update that is not cut is not factorized."""
    runs = [
        TrainingRun(reference_training.spec(bert, method, settings, steps=12))
        for method, settings in (("lora", {"rank": 4}), ("lora-squeeze", {"mean_rank": 4, "source_rank": 4}))
    ]
    losses = [[evaluation.train_loss for evaluation in run] for run in runs]
    assert losses[0] == losses[1]
    expected, actual = (adapters.tensors(run._base.model) for run in runs)
    assert all(torch.equal(values, actual[name]) for name, values in expected.items())


def test_a_cut_is_the_best_approximation_of_what_was_trained(bert: Path) -> None:
    settings = {"mean_rank": 3, "source_rank": 6, "stages": 1, "initial": 0.5, "final": 0.1}
    run = TrainingRun(reference_training.spec(bert, "lora-squeeze", settings, steps=10))
    cut = run._method._cut  # type: ignore[attr-defined]
    before: dict[str, torch.Tensor] = {}

    def checked_cut(*arguments: Any) -> None:
        before.update(
            {name: update.delta_weight().detach() for name, update in reference_training.updates(run).items()}
        )
        cut(*arguments)
        for name, update in reference_training.updates(run).items():
            U, S, Vt = torch.linalg.svd(before[name])
            best = U[:, : update.rank] * S[: update.rank] @ Vt[: update.rank]
            torch.testing.assert_close(update.delta_weight(), best, rtol=0, atol=1e-5 * float(S[0]))
            lengths = update.A.norm(dim=1), update.B.norm(dim=0)
            torch.testing.assert_close(*lengths)  # balanced

    run._method._cut = checked_cut  # type: ignore[attr-defined]
    list(run)
    assert before


@pytest.mark.parametrize("score", ["input", "gradient"])
def test_the_components_kept_are_those_of_the_best_scores(score: str, bert: Path) -> None:
    settings = {"mean_rank": 2, "source_rank": 4, "stages": 1, "score": score}
    run = TrainingRun(reference_training.spec(bert, "lora-squeeze", settings, steps=12))
    run.start()
    context = run._hooks.run
    measured: list[list[torch.Tensor]] = []

    def recorder(kind: str, spectrum: Spectrum, scores: Any = context.component_scores) -> list[torch.Tensor]:
        assert kind == score
        measured.append(scores(kind, spectrum))
        return measured[-1]

    context.component_scores = recorder
    before = next(run).ranks
    last = list(run)[-1]
    sizes = {name: sum(layer.weight.shape) for name, layer in adapters.adapted(run._base.model).items()}
    (scores,) = measured
    pool = [(score, name) for name, row in zip(before, scores, strict=True) for score in row.tolist()]
    expected, params = dict.fromkeys(before, 0), 0
    for _, name in sorted(pool, reverse=True):
        params += sizes[name]
        if params > 2 * sum(sizes.values()):
            break
        expected[name] += 1
    assert last.ranks == expected


def test_a_layers_rank_is_at_most_its_width(bert: Path) -> None:
    settings = {"mean_rank": 6, "source_rank": 100, "stages": 1}
    run = TrainingRun(reference_training.spec(bert, "lora-squeeze", settings, steps=10))
    first = next(run)
    for name, layer in adapters.adapted(run._base.model).items():
        assert first.ranks[name] == min(100, *layer.weight.shape)
        assert layer.update.scale == pytest.approx(16 / 100)
    last = list(run)[-1]
    run.release()
    lower, upper = find("lora-squeeze").adapter_params(configure("lora-squeeze", settings).config, run._base.model)
    assert lower <= last.adapter_params <= upper < first.adapter_params


@pytest.mark.parametrize("components", [{4: 3, 9: 3}, {6: 4, 9: 2}, {2: 1, 3: 2, 8: 3}, {5: 6}])
def test_bounds_are_those_of_all_orders(components: dict[int, int]) -> None:
    orders = set(permutations([size for size, count in components.items() for _ in range(count)]))
    for budget in [*range(9, 60), 1000]:
        totals = {total_of(order, budget) for order in orders}
        assert prefix_bounds(components, budget) == (min(totals), max(totals)), f"budget {budget}"


def total_of(order: tuple[int, ...], budget: int) -> int:
    """Parameters of the first components that fit."""
    total = 0
    for size in order:
        if total + size > budget:
            break
        total += size
    return total


def test_bounds_of_a_large_model_are_quick_to_find() -> None:
    """A model of seven billion parameters: 32 layers with a width of 4,096 and grouped-query attention."""
    components = {8192: 64 * 64, 5120: 64 * 64, 15104: 96 * 64}
    budget = 16 * (64 * 8192 + 64 * 5120 + 96 * 15104)
    lower, upper = prefix_bounds(components, budget)
    assert budget - 15104 < lower <= upper <= budget


def test_a_budget_below_one_rank_is_refused(bert: Path) -> None:
    run = TrainingRun(reference_training.spec(bert, "lora-squeeze", {"mean_rank": 0.01}, steps=20))
    with pytest.raises(AutorankError, match=r"mean_rank 0\.01 is a budget of \d+ parameters.*Raise mean_rank"):
        next(run)
