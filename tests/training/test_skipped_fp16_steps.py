"""Steps that the gradient scaler skips, as in fp16: what a method does at certain steps is postponed, never omitted."""

from __future__ import annotations

import math
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from autorank.training.run import TrainingRun
from tests.trainables.cases import METHODS, STEPS
from tests.trainables.conformance_runs import full_state, same, spec, start

# method -> steps (from 0) at which it acts: IncreLoRA and AdaLoRA allocate, ElaLoRA has rounds, PRILoRA prunes,
# LoRA-Squeeze cuts
ACTS = {
    "increlora": (6, 9, 12, 15),
    "adalora": (4, 8, 17),
    "elalora": (4, 6, 8, 10),  # the last round, after step 12, moves none
    "prilora": (4, 9, 14),
    "lora-squeeze": (7, 12, 17),
    "sora": (3,),
}


def with_scaler(run: TrainingRun, skipped: Collection[int]) -> TrainingRun:
    """The run with a gradient scaler; gradients overflow at the steps in `skipped`."""
    opened = run._open

    def open_() -> None:
        opened()
        loop, context = run._loop, run._context
        assert context is not None
        loop.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**20, growth_interval=10**6)
        context.loss_scale = loop.scaler.get_scale
        loss = loop.loss

        def overflowing(batch: dict[str, Tensor]) -> Tensor:
            return loss(batch) * (math.inf if context.step in skipped else 1.0)

        loop.loss = overflowing  # type: ignore[method-assign]
        loop.step = finite_losses(loop.step)  # type: ignore[method-assign]

    run._open = open_  # type: ignore[method-assign]
    return run


def finite_losses(step: Any) -> Any:
    """A step whose infinite loss of a skipped step is replaced, since it would end the run."""
    return lambda *args: step(*args).nan_to_num(0.0, 0.0, 0.0)


@pytest.fixture(autouse=True)
def no_divergence_check(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autorank.training.optimization.loop.CHECK_EVERY", 10**9)


@pytest.mark.parametrize("method", ACTS)
def test_skipped_steps_omit_no_allocation(method: str, workspace: Path) -> None:
    """With every step skipped at which the method acts, its ranks still add up to what they should in the end."""
    total = METHODS[method].total
    run = with_scaler(start(spec(workspace, method, accumulate=2)), ACTS[method])
    evaluations = list(run)
    assert len(evaluations) == STEPS
    if total is not None:
        assert sum(evaluations[-1].ranks.values()) == total(STEPS)
    for step in ACTS[method]:
        late = evaluations[step + 1]
        before, then, after = (sum(evaluation.ranks.values()) for evaluation in evaluations[step - 1 : step + 2])
        if method in ("increlora", "adalora", "lora-squeeze"):
            assert before == then and (after > then if method == "increlora" else after < then or then == 18)
        if method == "elalora":
            assert evaluations[step].ranks == evaluations[step - 1].ranks != late.ranks


@pytest.mark.parametrize("method", ACTS)
def test_a_run_stopped_after_a_skipped_step_resumes_bit_for_bit(method: str, workspace: Path) -> None:
    train_spec = spec(workspace, method)
    uninterrupted, stopped = (with_scaler(start(train_spec), ACTS[method]) for _ in range(2))
    skipped = ACTS[method][-1]
    expected = [next(uninterrupted) for _ in range(STEPS)]
    while stopped.step < skipped + 1:
        next(stopped)
    resumed = with_scaler(start(train_spec), ACTS[method])
    resumed.load_state_dict(stopped.state_dict())
    assert [evaluation.ranks for evaluation in resumed] == [evaluation.ranks for evaluation in expected[skipped + 1 :]]
    assert same(full_state(resumed), full_state(uninterrupted))
