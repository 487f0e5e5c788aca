"""Steps that the gradient scaler skips, as in fp16: what a method does at certain steps is put off, never left out."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from autorank.training.run import TrainingRun
from tests.trainables.cases import METHODS, STEPS
from tests.trainables.trained import cached_in, full_state, same, spec, start, write_model, write_pairs

# method -> steps (from 0) at which it acts: IncreLoRA and AdaLoRA allocate, ElaLoRA has rounds, PRILoRA prunes,
# LoRA-Squeeze cuts
ACTS = {
    "increlora": (6, 9, 12, 15),
    "adalora": (4, 8, 17),
    "elalora": (4, 6, 8, 10, 12),
    "prilora": (4, 9, 14),
    "lora-squeeze": (7, 12, 17),
    "sora": (3,),
}


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("skipped")
    write_model(folder / "model", dropout=0.1)
    write_pairs(folder / "data", 40)
    with cached_in(folder):
        yield folder


def scaled(run: TrainingRun, skipped: Collection[int]) -> TrainingRun:
    """The run with a gradient scaler, whose gradients overflow at these steps."""
    opened = run._open

    def open_() -> None:
        opened()
        phase, context = run._phase, run._context
        assert context is not None
        phase.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**20, growth_interval=10**6)
        context.loss_scale = phase.scaler.get_scale
        loss = phase.loss

        def overflowing(batch: dict[str, Tensor]) -> Tensor:
            return loss(batch) * (math.inf if context.step in skipped else 1.0)

        phase.loss = overflowing  # type: ignore[method-assign]
        phase.step = finite(phase.step)  # type: ignore[method-assign]

    run._open = open_  # type: ignore[method-assign]
    return run


def finite(step: Any) -> Any:
    """The losses of skipped steps are infinite here, which no run survives."""
    return lambda *args: step(*args).nan_to_num(0.0, 0.0, 0.0)


@pytest.fixture(autouse=True)
def unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autorank.training.optimization.loop.CHECK_EVERY", 10**9)


@pytest.mark.parametrize("method", ACTS)
def test_skipped_steps_leave_no_allocation_out(method: str, workspace: Path) -> None:
    """With every step skipped at which the method acts, its ranks still add up to what they should in the end."""
    total = METHODS[method].total
    run = scaled(start(spec(workspace, method, accumulate=2)), ACTS[method])
    evaluations = list(run)
    assert len(evaluations) == STEPS
    if total is not None:
        assert sum(evaluations[-1].ranks.values()) == total(STEPS)
    for step in ACTS[method]:
        late = evaluations[step + 1]
        before, then, after = (sum(each.ranks.values()) for each in evaluations[step - 1 : step + 2])
        if method in ("increlora", "adalora", "lora-squeeze"):
            assert before == then and (after > then if method == "increlora" else after < then or then == 18)
        if method == "elalora":
            assert evaluations[step].ranks == evaluations[step - 1].ranks != late.ranks


@pytest.mark.parametrize("method", ACTS)
def test_a_run_stopped_after_a_skipped_step_resumes_bit_for_bit(method: str, workspace: Path) -> None:
    wanted = spec(workspace, method)
    whole, first = (scaled(start(wanted), ACTS[method]) for _ in range(2))
    skipped = ACTS[method][-1]
    expected = [next(whole) for _ in range(STEPS)]
    while first.step < skipped + 1:
        next(first)
    again = scaled(start(wanted), ACTS[method])
    again.load_state_dict(first.state_dict())
    assert [each.ranks for each in again] == [each.ranks for each in expected[skipped + 1 :]]
    assert same(full_state(again), full_state(whole))
