"""PRILoRA's norms of a layer's inputs, n̄, against hidden states recorded by hooks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from autorank.training.optimization import distributed
from autorank.training.run import TrainingRun
from tests import tiny_models
from tests.trainables.prilora_runs import Inputs, norms, open_run
from trainables.prilora import PRILoRA


def check_norms(run: TrainingRun, ema: float) -> None:
    inputs, expected = Inputs(run), {}
    for evaluation in run:
        for name, current in inputs.norms().items():
            expected[name] = ema * expected[name] + (1 - ema) * current if name in expected else current
        for name, norm in norms(run).items():
            close = torch.allclose(norm.double(), expected[name], rtol=1e-4, atol=1e-6)
            assert close, f"{name}, step {evaluation.step}: {norm} is not {expected[name]}"
    assert evaluation.step == run.total_steps


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("architecture", ["bert", "deberta-v2", "opt", "albert"])
def test_the_inputs_norms(architecture: str, accumulate: int, prilora_workspace: Path) -> None:
    """Norms leave out padding and the dropout of the update's input; the last step of an epoch is smaller."""
    run = open_run(prilora_workspace, {"ema": 0.7, "dropout": 0.5}, architecture, steps=5, accumulate=accumulate)
    check_norms(run, 0.7)


def test_positions_are_no_tokens(prilora_workspace: Path) -> None:
    """One example as long as DeBERTa's table of relative positions: both have the shape 1 x 16 x hidden."""
    from transformers import DebertaV2Config, DebertaV2Model

    folder = prilora_workspace / "buckets"
    tiny_models.model("deberta-v2", folder)
    config = DebertaV2Config.from_pretrained(folder)
    config.position_buckets = 8
    DebertaV2Model(config).save_pretrained(folder)
    (prilora_workspace / "long").mkdir()
    for split in ("train", "validation"):
        rows = [{"left": "w1 w2 w3 w4 w5 w6", "right": "w1 w2 w3 w4 w5 w6 w7", "label": i % 2} for i in range(8)]
        (prilora_workspace / "long" / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    run = open_run(prilora_workspace, {"interval": 1}, "buckets", "long", steps=2, batch_size=2, accumulate=2)
    assert set(run._data.train.lengths) == {16}
    check_norms(run, 0.9)


def test_repeated_example_of_an_idle_worker_is_not_counted(
    prilora_workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three workers on a batch of two: the third repeats the first example, so that the others need not wait."""
    summands: list[Tensor] = []

    def first_step(count: int, rank: int) -> TrainingRun:
        monkeypatch.setattr(distributed, "count", lambda: count)
        monkeypatch.setattr(distributed, "rank", lambda: rank)
        monkeypatch.setattr(distributed, "sum_gradients", lambda parameters: None)
        monkeypatch.setattr(distributed, "sum_", lambda values: values)
        monkeypatch.setattr(distributed, "gather", lambda value: [value])
        monkeypatch.setattr(distributed, "own_share", lambda items: items)  # each evaluates everything
        run = open_run(prilora_workspace, {"interval": 2}, steps=3, batch_size=2)
        assert run._context is not None
        run._context.sum = lambda values: summands.append(values.clone()) or values  # type: ignore[func-returns-value]
        next(run)
        return run

    run = first_step(1, 0)
    summands.clear()
    for rank in range(3):
        first_step(3, rank)
    total = sum(summands)
    assert isinstance(run._method, PRILoRA) and isinstance(total, Tensor)
    actual = run._method._norms_of(total)
    torch.testing.assert_close(actual, run._method.state_dict()["norms"], rtol=1e-4, atol=1e-6)
