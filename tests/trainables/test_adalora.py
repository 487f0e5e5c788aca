"""AdaLoRA against a plain reference implementation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from autorank.training.run import TrainingRun
from tests.trainables import reference_training
from tests.trainables.conformance_runs import logits
from tests.trainables.reference_adalora import ReferenceAdaLoRA

pytestmark = pytest.mark.usefixtures("own_cache")

STEPS = 50
SETTINGS = {"mean_rank": 2, "start_ratio": 1.5, "initial": 0.1, "final": 0.3, "interval": 2, "alpha": 16}
VARIANTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "defaults": ({}, {}),
    "a mean that is not an integer": ({"mean_rank": 1.7, "start_ratio": 2}, {}),
    "some layers end with nothing": ({"mean_rank": 0.5, "start_ratio": 4, "learning_rate": 3e-2}, {}),
    "every step, no warm-up": ({"interval": 1, "initial": 0.0}, {}),
    "other averages": ({"beta1": 0.5, "beta2": 0.95, "orthogonality": 0.3}, {}),
    "micro-batches": ({}, {"accumulate": 2}),
    "weight decay": ({"interval": 3}, {"weight_decay": 0.1}),
    "published, on DeBERTa": ({"published": True}, {}),
    "published, the last masking one step later": ({"published": True, "interval": 4}, {}),  # the phase begins at 35
}


def check_averages(run: TrainingRun, reference: ReferenceAdaLoRA) -> None:
    """Compare both moving averages of every entry; a layer's are stored as rank x in, rank x out and rank x 1."""
    method: Any = run._method
    state = method.state_dict()
    for key, averages in (("sensitivity", reference.smoothed), ("uncertainty", reference.uncertainty)):
        parts = iter(method._sensitivity.stacks.split(state[key]))
        for name in reference.layers:
            for factor in (
                averages[reference.A[name]],
                averages[reference.B[name]].T,
                averages[reference.e[name]][:, None],
            ):
                torch.testing.assert_close(next(parts), factor, rtol=1e-3, atol=1e-3 * factor.max().item())


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_step_equals_the_reference(variant: str, bert: Path, deberta: Path) -> None:
    settings, training = VARIANTS[variant]
    folder = deberta if "DeBERTa" in variant else bert
    train_spec = reference_training.spec(folder, "adalora", SETTINGS | settings, steps=STEPS, **training)
    run, reference = TrainingRun(train_spec), ReferenceAdaLoRA(train_spec)
    for evaluation in reference_training.lockstep(run, reference):
        updates = reference_training.updates(run)
        step = evaluation.step - 1  # its number, from 0
        assert evaluation.ranks == {name: len(counted) for name, counted in reference.counted.items()}
        for name, update in updates.items():
            expected = reference.e[name].detach()[reference.remaining[name]]
            assert torch.equal(update.e == 0, expected == 0), f"{name}, step {step}"
            torch.testing.assert_close(update.e.detach(), expected, rtol=1e-4, atol=1e-5)
        if step in reference.budgets:
            nonzero = sum(int(update.e.count_nonzero()) for update in updates.values())
            assert nonzero == reference.budgets[step] == sum(evaluation.ranks.values())
        if step < reference.t_drop:
            check_averages(run, reference)
        if step % 10 == 7:  # a step after a masking: e has moved again
            expected = reference.evaluate(reference_training.validation(run))
            torch.testing.assert_close(logits(run), expected, rtol=1e-4, atol=1e-5)
    for name, update in updates.items():
        A, B = reference.factors(name)
        torch.testing.assert_close(update.A, A, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(update.B, B, rtol=1e-4, atol=1e-5)
    for name, expected in reference.head.items():
        torch.testing.assert_close(run._base.model.get_parameter(name), expected, rtol=1e-4, atol=1e-5)
    assert sum(evaluation.ranks.values()) == reference.target
    assert len(reference.budgets) > 10
    if variant == "some layers end with nothing":
        assert 0 in evaluation.ranks.values()


def test_a_checkpoint_with_final_ranks_has_no_scores(bert: Path) -> None:
    run = TrainingRun(reference_training.spec(bert, "adalora", SETTINGS, steps=STEPS))
    list(run)
    state = run.state_dict()
    assert state["method"] == {}
    resumed = TrainingRun(run.spec)
    resumed.load_state_dict(state)
    assert resumed.step == STEPS
