"""IncreLoRA against a plain reference that keeps every ΔW in the graph and scores every step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from autorank.training.run import TrainingRun
from tests.trainables import reference_training
from tests.trainables.conformance_runs import logits
from tests.trainables.reference_increlora import ReferenceIncreLoRA

pytestmark = pytest.mark.usefixtures("own_cache")

STEPS = 36
SETTINGS = {"mean_rank": 3, "top_h": 4, "interval": 3, "score_window": "all"}  # 9 allocations, the last after step 30
VARIANTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "defaults": ({}, {}),
    "published": ({"published": True}, {}),
    "a remainder within a layer": ({"mean_rank": 2.5, "components": 2}, {}),
    "an interval from growth": ({"interval": None, "growth": 0.7, "mean_rank": 4, "first": 1}, {}),
    "constant learning rate": ({"schedule": "constant"}, {}),
    "mean": ({"score_norm": "mean"}, {}),
    "sum": ({"score_norm": "none", "components": 2}, {}),
    "rank-preserving": ({"scale": "rank-preserving", "components": 2}, {}),
    "fixed scale": ({"scale": "fixed", "alpha": 8}, {}),
    "micro-batches": ({}, {"accumulate": 2}),
    "weight decay": ({"orthogonality": 0.3, "published": True}, {"weight_decay": 0.1}),
    # ablations of the paper's table 2
    "nothing": ({"orthogonality": 0.0, "advance_learning": False, "schedule": "original"}, {}),
    "advance learning": ({"orthogonality": 0.0, "schedule": "original"}, {}),
    "orthogonality": ({"advance_learning": False, "schedule": "original", "components": 2, "mean_rank": 2.5}, {}),
    "orthogonality, advance learning": ({"schedule": "original", "published": True}, {}),
    "orthogonality, restart": ({"advance_learning": False, "published": True}, {}),
}


def start(folder: Path, settings: dict[str, Any], **training: Any) -> tuple[TrainingRun, ReferenceIncreLoRA]:
    train_spec = reference_training.spec(folder, "increlora", SETTINGS | settings, **{"steps": STEPS} | training)
    return TrainingRun(train_spec), ReferenceIncreLoRA(train_spec)


def check_scores(run: TrainingRun, reference: ReferenceIncreLoRA) -> None:
    """Importance and its uncertainty, a difference of nearly equal numbers, to 5e-5 of the largest.

    The difference is float32 rounding, which varies between CPUs; a reference in double precision differs as much.
    Without the penalty, A and B of components with e near zero have almost no gradient, and Adam turns its rounding
    errors into steps of full size.
    """
    state = run._method.state_dict()
    slack = 1 if reference.gamma else 10
    for average in ("smoothed", "uncertainty"):
        expected = torch.tensor(list(getattr(reference, average).values()))
        torch.testing.assert_close(
            state[average].float(), expected, rtol=1e-5, atol=slack * 5e-5 * float(expected.max())
        )


def check_weights(run: TrainingRun, reference: ReferenceIncreLoRA) -> None:
    for name, update in reference_training.updates(run).items():
        for factor, expected in reference.values(name).items():
            actual = getattr(update, factor).detach().narrow(int(factor == "B"), 0, reference.ranks[name])
            torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)
    for name, expected in reference.head.items():
        torch.testing.assert_close(run._base.model.get_parameter(name), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_step_equals_the_reference(variant: str, bert: Path) -> None:
    settings, training = VARIANTS[variant]
    run, reference = start(bert, settings, **training)
    for evaluation in reference_training.lockstep(run, reference, rtol=1e-6):
        check_scores(run, reference)
        assert evaluation.ranks == reference.ranks, f"after step {evaluation.step}"
        assert evaluation.adapter_params == sum(
            rank * sum(reference.layers[name].weight.shape) for name, rank in evaluation.ranks.items()
        )
    check_weights(run, reference)
    assert reference.total == reference.target
    assert {name: update.rank for name, update in reference_training.updates(run).items()} == reference.ranks
    assert len(reference.allocations) > 2
    assert len(set(reference.ranks.values())) > 1  # the ranks differ between layers


def test_a_window_before_each_allocation_is_enough(bert: Path) -> None:
    """Scores over only a window before each allocation choose the same layers, and are within 10% of the full ones."""
    sparse = {"score_window": None, "interval": 60, "first": 1, "components": 3, "top_h": 3, "learning_rate": 2e-3}
    run, reference = start(bert, sparse, steps=260)
    for evaluation in reference_training.lockstep(run, reference, rtol=1e-3):
        assert evaluation.ranks == reference.ranks, f"after step {evaluation.step}"
        if reference.allocations and reference.allocations[-1][0] == evaluation.step - 1:
            state = run._method.state_dict()
            for average in ("smoothed", "uncertainty"):
                expected = torch.tensor(list(getattr(reference, average).values()))
                torch.testing.assert_close(state[average], expected, rtol=0.1, atol=0)
    assert [step for step, _ in reference.allocations] == [60, 120, 180, 240]


def test_reserves_take_no_part_in_evaluations(bert: Path) -> None:
    run, reference = start(bert, {"components": 2})
    for evaluation in reference_training.lockstep(run, reference):
        if evaluation.step == 9:  # what was activated after the step numbered 6 has moved from 1e-5
            break
    assert len(reference.allocations) == 1
    for update in reference_training.updates(run).values():  # make the reserves large enough to matter
        update.e.data[update.e.detach() == torch.tensor(1e-5)] = 1.0
    torch.testing.assert_close(
        logits(run), reference.evaluate(reference_training.validation(run)), rtol=1e-4, atol=1e-5
    )


DEBERTA: dict[str, dict[str, Any]] = {
    "defaults": {},
    "published": {"published": True},
    "published, without advance learning": {"published": True, "advance_learning": False, "components": 2},
}


@pytest.mark.parametrize("variant", DEBERTA)
def test_layers_that_are_called_twice(variant: str, deberta: Path) -> None:
    """DeBERTa calls the query and key projections with the relative positions too."""
    run, reference = start(deberta, DEBERTA[variant])
    for evaluation in reference_training.lockstep(run, reference, rtol=1e-6):
        check_scores(run, reference)
        assert evaluation.ranks == reference.ranks, f"after step {evaluation.step}"
    check_weights(run, reference)
    torch.testing.assert_close(
        logits(run), reference.evaluate(reference_training.validation(run)), rtol=1e-5, atol=1e-5
    )
    assert reference.total == reference.target
